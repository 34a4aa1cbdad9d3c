//! Every way in which a socket takes bytes, against what a client must then see.

use std::cell::RefCell;

use proptest::prelude::*;

use super::*;

/// Takes as many bytes as the test says, one number per call; then nothing.
#[derive(Default)]
struct Script {
    takes: RefCell<VecDeque<Take>>,
    wire: RefCell<Vec<u8>>,
}

#[derive(Clone, Copy, Debug)]
enum Take {
    Bytes(usize),
    Failure,
}

impl Socket for Script {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.takes.borrow_mut().pop_front() {
            None | Some(Take::Bytes(0)) => Err(io::ErrorKind::WouldBlock.into()),
            Some(Take::Failure) => Err(io::ErrorKind::BrokenPipe.into()),
            Some(Take::Bytes(most)) => {
                let taken = most.min(bytes.len());
                self.wire.borrow_mut().extend_from_slice(&bytes[..taken]);
                Ok(taken)
            }
        }
    }

    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        self.try_write(&bytes)
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Lengths of the messages that leave together.
    Offer(Vec<usize>),
    Flush,
    End,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => proptest::collection::vec(1_usize..6, 1..5).prop_map(Step::Offer),
        4 => Just(Step::Flush),
        1 => Just(Step::End),
    ];
    proptest::collection::vec(step, 1..30)
}

fn takes() -> impl Strategy<Value = Vec<Take>> {
    let take = prop_oneof![
        12 => (0_usize..12).prop_map(Take::Bytes),
        4 => Just(Take::Bytes(1000)),
        1 => Just(Take::Failure),
    ];
    proptest::collection::vec(take, 0..40)
}

/// The n-th message, which no other one looks like.
fn message(n: u8, length: usize) -> Bytes {
    vec![n; length].into()
}

proptest! {
    /// What a client sees is a beginning of what was accepted, each message whole and in
    /// order; nothing that was accepted is missing but what waits or broke with the socket;
    /// the bounds hold; and somebody is told whenever something waits.
    #[test]
    fn the_wire_shows_what_was_accepted(
        steps in steps(),
        takes in takes(),
        messages in 1_usize..4,
        bytes in 1_usize..12,
    ) {
        let socket = Script::default();
        socket.takes.borrow_mut().extend(takes);
        let bounds = Bounds { messages, bytes };
        let mut queue = Queue::default();
        let mut accepted: Vec<u8> = Vec::new();
        let mut told = false;
        let mut next = 0_u8;
        for step in steps {
            let (broken, closing) = (queue.state == State::Broken, queue.state != State::Open);
            let before = socket.wire.borrow().len();
            match step {
                Step::Offer(lengths) => {
                    let frames: Vec<_> = lengths
                        .into_iter()
                        .map(|length| {
                            next = next.wrapping_add(1);
                            message(next, length)
                        })
                        .collect();
                    let batch = Batch::join(&frames.iter().collect::<Vec<_>>());
                    let offer = queue.offer(&batch, &socket, bounds);
                    prop_assert_eq!(offer.accepted < frames.len(), offer.refused.is_some());
                    prop_assert!(!closing || offer.refused == Some(Refused::Closed));
                    prop_assert!(!closing || socket.wire.borrow().len() == before);
                    frames[..offer.accepted].iter().for_each(|frame| accepted.extend(frame));
                    told |= offer.wake;
                }
                Step::Flush => {
                    let flushed = queue.flush(&socket);
                    prop_assert!(!broken || socket.wire.borrow().len() == before);
                    if matches!(flushed, Ok(Flush::All)) && queue.state == State::Open {
                        told = false;
                    }
                }
                Step::End => queue.end(None),
            }
            let wire = socket.wire.borrow();
            prop_assert!(accepted.starts_with(&wire));
            if queue.state == State::Broken {
                prop_assert_eq!(queue.bytes, 0);
                continue;
            }
            prop_assert_eq!(queue.bytes, accepted.len() - wire.len());
            prop_assert!(queue.frames.len() <= messages.max(1));
            prop_assert!(queue.bytes <= bytes || queue.frames.len() == 1);
            prop_assert!(told || queue.frames.is_empty());
        }
    }

    #[test]
    fn advancing_by_any_number_of_bytes_keeps_the_rest_in_order(step in 1_usize..10) {
        let mut queue = Queue::default();
        for frame in ["abc", "d", "efghi"] {
            queue.push(Bytes::from_static(frame.as_bytes()));
        }
        let mut seen = 0;
        while !queue.frames.is_empty() {
            let n = step.min(queue.bytes);
            queue.advance(n);
            seen += n;
            let mut rest: Vec<u8> = queue.frames.iter().flatten().copied().collect();
            rest.drain(..queue.written);
            prop_assert_eq!(&rest, &b"abcdefghi"[seen..]);
            prop_assert_eq!(queue.bytes, rest.len());
        }
    }
}

#[test]
fn after_the_end_nothing_is_queued() {
    let mut queue = Queue::default();
    queue.end(Some(Bytes::from_static(b"first")));
    queue.end(Some(Bytes::from_static(b"again")));
    assert_eq!((queue.frames.len(), queue.state), (1, State::Closing));
}

#[test]
fn a_batch_that_does_not_fit_wholly_is_taken_as_far_as_it_does() {
    let socket = Script::default();
    socket.takes.borrow_mut().push_back(Take::Bytes(4));
    let frames: Vec<_> = (0..5).map(|n| message(n, 3)).collect();
    let batch = Batch::join(&frames.iter().collect::<Vec<_>>());
    let mut queue = Queue::default();
    let offer = queue.offer(&batch, &socket, Bounds { messages: 2, bytes: 100 });
    // One is written, two wait (the first of them cut), two are one too many.
    assert_eq!(offer, Offer { accepted: 3, refused: Some(Refused::Full), wake: true });
    assert_eq!(queue.bytes, 5);
}
