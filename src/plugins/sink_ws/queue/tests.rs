//! Every way in which a socket takes bytes, against what a client must then see.

use std::cell::RefCell;

use proptest::prelude::*;

use super::*;

/// Takes as many bytes as the test says, one number per call; then nothing.
#[derive(Default)]
pub(super) struct Script {
    pub(super) takes: RefCell<VecDeque<Take>>,
    pub(super) wire: RefCell<Vec<u8>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Take {
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
    /// Length of a frame that is no message.
    Aside(usize),
    Flush,
    End,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => proptest::collection::vec(1_usize..6, 1..5).prop_map(Step::Offer),
        2 => (1_usize..4).prop_map(Step::Aside),
        4 => Just(Step::Flush),
        1 => Just(Step::End),
    ];
    proptest::collection::vec(step, 1..30)
}

pub(super) fn takes() -> impl Strategy<Value = Vec<Take>> {
    let take = prop_oneof![
        12 => (0_usize..12).prop_map(Take::Bytes),
        4 => Just(Take::Bytes(1000)),
        1 => Just(Take::Failure),
    ];
    proptest::collection::vec(take, 0..40)
}

/// The n-th message, which no other one looks like.
pub(super) fn message(n: u8, length: usize) -> Bytes {
    vec![n; length].into()
}

/// There are fewer frames than that.
fn short(number: usize) -> u8 {
    number.try_into().unwrap()
}

/// The frames on the wire, each of which must be whole but for the last.
fn numbers(wire: &[u8], offered: &[(usize, bool)]) -> Vec<u8> {
    let mut numbers = Vec::new();
    let mut rest = wire;
    while let Some(number) = rest.first() {
        let length = offered[usize::from(*number)].0.min(rest.len());
        assert!(rest[..length].iter().all(|byte| byte == number), "cut: {wire:?}");
        numbers.push(*number);
        rest = &rest[length..];
    }
    numbers
}

fn waiting(frame: &'static [u8]) -> Waiting {
    let (bytes, since) = (Bytes::from_static(frame), Instant::now());
    Waiting { bytes, counts: true, is_begun: false, since }
}

proptest! {
    /// What a client sees are frames that were accepted, each whole, once and in order.
    /// Nothing that was accepted is missing but what waits, broke with the socket or was
    /// counted as taken out again, which happens to whole messages alone and only where it may;
    /// the bounds hold; and somebody is told whenever something waits.
    #[test]
    fn the_wire_shows_what_was_accepted(
        steps in steps(),
        takes in takes(),
        messages in 1_usize..4,
        bytes in 1_usize..12,
        oldest_goes: bool,
    ) {
        let socket = Script::default();
        socket.takes.borrow_mut().extend(takes);
        let bounds = Bounds { messages, bytes, oldest_goes };
        let mut queue = Queue::default();
        // By number: length, and whether it is no message.
        let mut offered: Vec<(usize, bool)> = Vec::new();
        let mut accepted: Vec<u8> = Vec::new();
        let mut evicted = 0;
        let mut told = false;
        for step in steps {
            let (broken, closing) = (queue.state == State::Broken, queue.state != State::Open);
            let before = socket.wire.borrow().len();
            match step {
                Step::Offer(_) | Step::Aside(_) => {
                    let (lengths, is_aside) = match step {
                        Step::Aside(length) => (vec![length], true),
                        Step::Offer(lengths) => (lengths, false),
                        _ => unreachable!(),
                    };
                    let first = offered.len();
                    let frames: Vec<_> = (first..)
                        .zip(&lengths)
                        .map(|(number, length)| message(short(number), *length))
                        .collect();
                    offered.extend(lengths.into_iter().map(|length| (length, is_aside)));
                    let batch = match &frames[..] {
                        [frame] if is_aside => Batch::aside(frame.clone()),
                        _ => Batch::join(&frames.iter().collect::<Vec<_>>()),
                    };
                    let offer = queue.offer(&batch, &socket, bounds);
                    prop_assert_eq!(offer.accepted < frames.len(), offer.refused.is_some());
                    prop_assert!(!closing || offer.refused == Some(Refused::Closed));
                    prop_assert!(!closing || socket.wire.borrow().len() == before);
                    prop_assert!(offer.evicted == 0 || oldest_goes && !is_aside);
                    accepted.extend((first..first + offer.accepted).map(short));
                    evicted += offer.evicted;
                    told |= offer.wake;
                }
                Step::Flush => {
                    let flushed = queue.flush(&socket, &mut Left::default());
                    prop_assert!(!broken || socket.wire.borrow().len() == before);
                    if matches!(flushed, Ok(Flush::All)) && queue.state == State::Open {
                        told = false;
                    }
                }
                Step::End => queue.end(None),
            }
            let wire = socket.wire.borrow();
            let seen = numbers(&wire, &offered);
            if queue.state == State::Broken {
                prop_assert!(seen.iter().all(|number| accepted.contains(number)));
                prop_assert_eq!(queue.bytes, 0);
                continue;
            }
            // What is seen and what waits, the frame that is cut once: all of it accepted, in
            // that order, and what is missing was counted.
            let mut all = seen;
            all.extend(queue.frames.iter().map(|waiting| waiting.bytes[0]));
            all.dedup();
            let missing: Vec<_> = accepted.iter().filter(|number| !all.contains(number)).collect();
            prop_assert_eq!(missing.len(), evicted);
            prop_assert!(missing.iter().all(|number| !offered[usize::from(**number)].1));
            let left: Vec<_> = accepted.iter().filter(|number| all.contains(number)).collect();
            prop_assert!(left.into_iter().eq(&all), "{:?} of {:?}", all, accepted);
            let waiting: usize = queue.frames.iter().map(|waiting| waiting.bytes.len()).sum();
            prop_assert_eq!(queue.bytes, waiting - queue.written);
            prop_assert!(queue.frames.len() <= messages.max(1));
            prop_assert!(queue.bytes <= bytes || queue.frames.len() == 1);
            prop_assert!(told || queue.frames.is_empty());
            prop_assert_eq!(queue.since.is_some(), !queue.frames.is_empty());
        }
    }

    #[test]
    fn advancing_by_any_number_of_bytes_keeps_the_rest_in_order(step in 1_usize..10) {
        let mut queue = Queue::default();
        for frame in ["abc", "d", "efghi"] {
            queue.push(waiting(frame.as_bytes()));
        }
        let mut seen = 0;
        while !queue.frames.is_empty() {
            let n = step.min(queue.bytes);
            queue.advance(n, &mut Left::default());
            seen += n;
            let mut rest: Vec<u8> =
                queue.frames.iter().flat_map(|waiting| waiting.bytes.to_vec()).collect();
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
    let bounds = Bounds { messages: 2, bytes: 100, oldest_goes: false };
    let offer = queue.offer(&batch, &socket, bounds);
    // One is written, two wait (the first of them cut), two are one too many.
    let refused = Some(Refused::Full);
    assert_eq!((offer.accepted, offer.queued, offer.queued_bytes), (3, 2, 5));
    assert_eq!((offer.evicted, offer.refused, offer.wake), (0, refused, true));
    assert_eq!(queue.bytes, 5);
}

/// What waits, by its first byte.
fn firsts(queue: &Queue) -> Vec<u8> {
    queue.frames.iter().map(|waiting| waiting.bytes[0]).collect()
}

#[test]
fn the_oldest_messages_go_and_neither_what_is_begun_nor_other_frames() {
    let socket = Script::default();
    socket.takes.borrow_mut().push_back(Take::Bytes(1));
    let bounds = Bounds { messages: 4, bytes: 100, oldest_goes: true };
    let mut queue = Queue::default();
    let one = |number| Batch::one(message(number, 3));
    let mut offer = |batch: Batch| {
        let offer = queue.offer(&batch, &socket, bounds);
        (firsts(&queue), offer.evicted, offer.refused)
    };
    offer(one(1));
    offer(Batch::aside(message(2, 3)));
    offer(one(3));
    assert_eq!(offer(one(4)), (vec![1, 2, 3, 4], 0, None));
    assert_eq!(offer(one(5)), (vec![1, 2, 4, 5], 1, None));
    // For what is no message nobody goes.
    assert_eq!(offer(Batch::aside(message(6, 1))), (vec![1, 2, 4, 5], 0, Some(Refused::Full)));
    let three: Vec<_> = (7..10).map(|number| message(number, 3)).collect();
    let batch = Batch::join(&three.iter().collect::<Vec<_>>());
    assert_eq!(offer(batch), (vec![1, 2, 8, 9], 3, None));
    // What cannot have room even so is refused, and then nobody goes.
    assert_eq!(offer(Batch::one(message(10, 99))), (vec![1, 2, 8, 9], 0, Some(Refused::Full)));
}

#[test]
fn the_clock_runs_until_the_first_in_line_is_written_whoever_that_is() {
    let socket = Script::default();
    let bounds = Bounds { messages: 1, bytes: 100, oldest_goes: true };
    let mut queue = Queue::default();
    queue.offer(&Batch::one(message(1, 3)), &socket, bounds);
    let since = queue.since.unwrap();
    queue.offer(&Batch::one(message(2, 3)), &socket, bounds);
    assert_eq!(firsts(&queue), [2]);
    assert_eq!(
        queue.flush(&socket, &mut Left::default()).unwrap(),
        Flush::Waits(since),
        "the place was handed on"
    );
    // A part of it is no reason to wait longer.
    socket.takes.borrow_mut().push_back(Take::Bytes(2));
    assert_eq!(queue.flush(&socket, &mut Left::default()).unwrap(), Flush::Waits(since));
    let now = Instant::now();
    queue.restart_clock(now);
    assert_eq!(queue.flush(&socket, &mut Left::default()).unwrap(), Flush::Waits(now));
    socket.takes.borrow_mut().push_back(Take::Bytes(1));
    assert_eq!(queue.flush(&socket, &mut Left::default()).unwrap(), Flush::All);
}
