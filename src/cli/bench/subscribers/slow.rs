//! What lies before those that have stopped reading.

use super::super::frame::{self, Frame};
use super::{BUFFER, Subscribers};

impl Subscribers {
    /// Looks once at what those have that stopped reading.
    pub(super) fn drain_slow(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        for index in 0..self.connections.len() {
            if self.is_slow(index) {
                self.drain(index, &mut buffer);
            }
        }
    }

    fn drain(&mut self, index: usize, buffer: &mut [u8]) {
        loop {
            let connection = &mut self.connections[index];
            let filled = match connection.read(buffer) {
                Ok(None) => return,
                Ok(Some((filled, _))) if filled > 0 => filled,
                _ => break,
            };
            let mut used = 0;
            while let Ok(Some((frame, length))) = frame::first(&buffer[used..filled], BUFFER / 2) {
                used += length;
                match frame {
                    Frame::Message(_) => self.inbox.tally.slow_frames += 1,
                    Frame::Close(_) => break,
                    Frame::Ping(_) | Frame::Pong => {}
                }
            }
            self.connections[index].rest = buffer[used..filled].to_vec();
        }
        self.inbox.tally.slow_ended += 1;
    }
}
