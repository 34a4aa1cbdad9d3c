//! Subscribers that come and go beside the load, one after the other on one thread.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::connection;
use super::frame::{self, Frame};
use super::progress::Progress;
use super::subscribers::BUFFER;
use super::tally::{note, times};

/// How long each step of a cycle may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What became of those who came and went.
pub(super) struct Churned {
    /// From dialling to the pong after the subscription.
    pub(super) times: Histogram<u64>,
    pub(super) failed: u64,
    pub(super) first_failure: Option<String>,
    pub(super) seconds: f64,
}

/// Comes and goes so many times a second until told to stop.
pub(super) fn churn(progress: &Progress, stop: &AtomicBool) -> Churned {
    let mut churned = Churned { times: times(), failed: 0, first_failure: None, seconds: 0.0 };
    let start = Instant::now();
    let mut buffer = vec![0; BUFFER];
    let mut count = 0_u32;
    while !stop.load(Ordering::Acquire) {
        let due = start + Duration::from_secs(1) * count / progress.settings.churn;
        if let Some(early) = due.checked_duration_since(Instant::now()) {
            thread::park_timeout(early.min(Duration::from_millis(20)));
            continue;
        }
        let began = Instant::now();
        // Behind the subscribers, so that each one is another browser and has a free port.
        let number = progress.settings.subscribers + count as usize;
        count += 1;
        match cycle(progress, number, &mut buffer) {
            Ok(()) => note(&mut churned.times, began.elapsed().as_nanos() as u64),
            Err(reason) => {
                churned.failed += 1;
                churned.first_failure.get_or_insert(reason);
            }
        }
    }
    churned.seconds = start.elapsed().as_secs_f64();
    churned
}

/// Connects, subscribes, waits until that is in force, goes.
fn cycle(progress: &Progress, number: usize, buffer: &mut [u8]) -> Result<(), String> {
    let (settings, text) = (&progress.settings, |error: io::Error| error.to_string());
    let mut stream = connection::connect(settings.subscribe_to, number, PATIENCE).map_err(text)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(text)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(text)?;
    stream.write_all(&settings.dialect.handshake(number)).map_err(text)?;
    let mut filled = 0;
    let used = loop {
        filled += read(&mut stream, &mut buffer[filled..])?;
        if let Some(used) = connection::opened(&buffer[..filled])? {
            break used;
        }
    };
    buffer.copy_within(used..filled, 0);
    filled -= used;
    let mut bytes = Vec::new();
    if let Some(text) = settings.dialect.subscribe(number) {
        bytes = frame::client(frame::TEXT, text.as_bytes());
    }
    bytes.extend(frame::client(frame::PING, b"ready"));
    stream.write_all(&bytes).map_err(text)?;
    loop {
        let mut used = 0;
        loop {
            match frame::first(&buffer[used..filled], BUFFER / 2) {
                Ok(Some((Frame::Pong, _))) => return Ok(()),
                Ok(Some((_, length))) => used += length,
                Ok(None) => break,
                Err(fault) => return Err(format!("the server sent {fault}")),
            }
        }
        buffer.copy_within(used..filled, 0);
        filled -= used;
        filled += read(&mut stream, &mut buffer[filled..])?;
    }
}

fn read(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<usize, String> {
    match stream.read(buffer) {
        Ok(0) => Err("the server ended the connection".into()),
        Ok(read) => Ok(read),
        Err(error) => Err(error.to_string()),
    }
}
