//! The floor: the cheapest process that still gets a frame to every subscriber.
//!
//! It is this very binary, started again with a hidden argument, so that its CPU time can be
//! read like the server's. One thread, blocking reads on one control connection: each byte
//! publishes one message, that is one `write()` of the same frame per subscriber. No HTTP, no
//! tokens, no topics, no queues, no joining.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use super::frames;

const ARGUMENT: &str = "--be-the-floor-for";

/// What a connection is, as its first byte says.
pub(crate) const SUBSCRIBER: u8 = b's';
pub(crate) const CONTROL: u8 = b'c';

/// On the control connection: publish, or send every subscriber a pong.
pub(crate) const PUBLISH: u8 = b'm';
pub(crate) const SETTLE: u8 = b'p';

/// The command that starts a floor for so many subscribers.
pub(crate) fn command(subscribers: usize) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(ARGUMENT).arg(subscribers.to_string());
    command
}

/// How many subscribers this process shall be the floor for, if it is a floor.
pub(crate) fn requested() -> Option<usize> {
    let mut args = std::env::args().skip(1);
    (args.next()? == ARGUMENT).then(|| args.next().unwrap().parse().unwrap())
}

/// The life of the floor. It ends with the control connection.
pub(crate) fn serve(subscribers: usize) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    eprintln!("Listening address={}", listener.local_addr().unwrap());
    let (mut control, mut streams) = accept(&listener, subscribers);
    let (mut frame, start) = frames::text_frame();
    let mut sequence = 0;
    let mut orders = [0; 64];
    loop {
        let read = control.read(&mut orders).unwrap_or(0);
        if read == 0 {
            return;
        }
        for order in &orders[..read] {
            if *order == SETTLE {
                write_to_all(&mut streams, &[0x8A, 0]);
                continue;
            }
            frames::stamp(&mut frame[start..], 0, sequence);
            sequence += 1;
            write_to_all(&mut streams, &frame);
        }
    }
}

fn accept(listener: &TcpListener, subscribers: usize) -> (TcpStream, Vec<TcpStream>) {
    let mut control = None;
    let mut streams = Vec::with_capacity(subscribers);
    while control.is_none() || streams.len() < subscribers {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        let mut role = [0];
        stream.read_exact(&mut role).unwrap();
        if role[0] == CONTROL {
            control = Some(stream);
            continue;
        }
        stream.set_nonblocking(true).unwrap();
        streams.push(stream);
    }
    (control.unwrap(), streams)
}

/// At most 16 messages are under way, far less than a socket buffer: a write never waits.
fn write_to_all(streams: &mut [TcpStream], bytes: &[u8]) {
    for stream in streams {
        let written = stream.write(bytes).expect("the floor writes");
        assert_eq!(written, bytes.len(), "the floor's write was cut short");
    }
}
