//! Every message is delivered, dropped or waiting, whatever the socket does: what the queue
//! says of them against what a client sees on the wire.

use proptest::prelude::*;

use super::tests::{Script, Take, message, takes};
use super::*;

#[derive(Clone, Debug)]
enum Step {
    /// Lengths of the messages that leave together.
    Offer(Vec<usize>),
    /// A frame that is no message, of this length.
    Aside(usize),
    Flush,
    End,
    GiveUp,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => proptest::collection::vec(1_usize..6, 1..5).prop_map(Step::Offer),
        3 => (1_usize..6).prop_map(Step::Aside),
        6 => Just(Step::Flush),
        1 => Just(Step::End),
        1 => Just(Step::GiveUp),
    ];
    proptest::collection::vec(step, 1..40)
}

/// What the queue says, added up as the sink does it.
#[derive(Debug, Default)]
struct Books {
    matched: usize,
    delivered: usize,
    dropped: usize,
    waiting: usize,
    waiting_bytes: usize,
}

impl Books {
    fn offered(&mut self, messages: usize, offer: Offer) {
        self.matched += messages;
        self.delivered += offer.accepted - offer.queued;
        self.dropped += messages - offer.accepted + offer.evicted;
        self.waiting += offer.queued;
        self.waiting -= offer.evicted;
        self.waiting_bytes += offer.queued_bytes;
        self.waiting_bytes -= offer.evicted_bytes;
    }

    fn left(&mut self, left: Left) {
        self.delivered += left.written;
        self.dropped += left.lost;
        self.waiting -= left.written + left.lost;
        self.waiting_bytes -= left.bytes;
    }
}

/// A frame that was offered; its number is its place in the list, and each of its bytes.
struct Frame {
    length: usize,
    counts: bool,
}

/// The next frame.
fn make(offered: &mut Vec<Frame>, length: usize, counts: bool) -> Bytes {
    let number = u8::try_from(offered.len()).unwrap();
    offered.push(Frame { length, counts });
    message(number, length)
}

/// Messages that are on the wire whole.
fn whole(wire: &[u8], offered: &[Frame]) -> usize {
    let (mut rest, mut whole) = (wire, 0);
    while let Some(number) = rest.first() {
        let Frame { length, counts } = offered[usize::from(*number)];
        whole += usize::from(counts && length <= rest.len());
        rest = &rest[length.min(rest.len())..];
    }
    whole
}

/// Messages that wait, and the bytes they still lack.
fn waiting(queue: &Queue) -> (usize, usize) {
    let (mut messages, mut bytes) = (0, 0);
    for (index, frame) in queue.frames.iter().enumerate().filter(|(_, frame)| frame.counts) {
        messages += 1;
        bytes += frame.bytes.len() - if index == 0 { queue.written } else { 0 };
    }
    (messages, bytes)
}

proptest! {
    #[test]
    fn the_books_say_what_the_wire_shows(
        steps in steps(),
        takes in takes(),
        messages in 1_usize..4,
        bytes in 1_usize..12,
        oldest_goes: bool,
    ) {
        let socket = Script::default();
        socket.takes.borrow_mut().extend(takes);
        let bounds = Bounds { messages, bytes, oldest_goes };
        let (mut queue, mut books) = (Queue::default(), Books::default());
        let mut offered = Vec::new();
        let mut matched = 0;
        for step in steps.into_iter().chain([Step::GiveUp]) {
            let mut left = Left::default();
            match step {
                Step::Offer(lengths) => {
                    let texts: Vec<_> = lengths.iter().map(|length| make(&mut offered, *length, true)).collect();
                    let batch = Batch::join(&texts.iter().collect::<Vec<_>>());
                    matched += texts.len();
                    books.offered(texts.len(), queue.offer(&batch, &socket, bounds));
                }
                Step::Aside(length) => {
                    let batch = Batch::aside(make(&mut offered, length, false));
                    let offer = queue.offer(&batch, &socket, bounds);
                    prop_assert_eq!((offer.evicted, offer.evicted_bytes), (0, 0));
                }
                Step::Flush => _ = queue.flush(&socket, &mut left),
                Step::End => queue.end(Some(make(&mut offered, 2, false))),
                Step::GiveUp => queue.break_off(&mut left),
            }
            books.left(left);
            let delivered = whole(&socket.wire.borrow(), &offered);
            let (waits, waiting_bytes) = waiting(&queue);
            prop_assert_eq!(books.matched, matched);
            prop_assert_eq!(books.delivered, delivered);
            prop_assert_eq!((books.waiting, books.waiting_bytes), (waits, waiting_bytes));
            prop_assert_eq!(books.dropped, matched - delivered - waits);
        }
        prop_assert_eq!(books.waiting, 0);
    }
}

#[test]
fn a_message_that_was_written_in_part_is_lost_with_its_connection() {
    let socket = Script::default();
    let bounds = Bounds { messages: 9, bytes: 99, oldest_goes: false };
    let mut queue = Queue::default();
    let frames = [message(1, 4), message(2, 4), message(3, 4)];
    socket.takes.borrow_mut().push_back(Take::Bytes(5));
    let offer = queue.offer(&Batch::join(&frames.iter().collect::<Vec<_>>()), &socket, bounds);
    assert_eq!((offer.accepted, offer.queued, offer.queued_bytes), (3, 2, 7));
    socket.takes.borrow_mut().push_back(Take::Bytes(1));
    let mut left = Left::default();
    assert!(matches!(queue.flush(&socket, &mut left), Ok(Flush::Waits(_))));
    assert_eq!(left, Left { written: 0, lost: 0, bytes: 1 });
    queue.break_off(&mut left);
    assert_eq!(left, Left { written: 0, lost: 2, bytes: 7 });
}
