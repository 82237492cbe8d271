//! The control stream: frames both ways, bounded, the oldest waiting ones giving way.

use std::collections::VecDeque;

use bytes::Bytes;
use quinn_proto::{Connection, StreamId};

use crate::node::flow::{Chunk, READ_MAX, read_chunk};
use crate::wire::frame::{FrameDecoder, FrameError};

/// Both directions of a connection's control stream.
#[derive(Debug)]
pub(super) struct ControlStream {
    stream: StreamId,
    decoder: FrameDecoder,
    queue: VecDeque<Bytes>,
    queued: usize,
    /// Bytes of the front frame are in the stream already: it must not be dropped.
    front_begun: bool,
}

/// Why the control stream is of no more use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ControlStreamError {
    #[error("a control frame is unacceptable: {0}")]
    Frame(#[from] FrameError),
    #[error("the control stream ended")]
    Ended,
}

impl ControlStream {
    pub(super) fn new(stream: StreamId, frame_len_max: usize) -> Self {
        Self {
            stream,
            decoder: FrameDecoder::new(frame_len_max),
            queue: VecDeque::new(),
            queued: 0,
            front_begun: false,
        }
    }

    pub(super) const fn stream(&self) -> StreamId {
        self.stream
    }

    /// Bytes that wait for the stream to take them.
    pub(super) const fn queued(&self) -> usize {
        self.queued
    }

    /// Queues a whole frame. Beyond `queued_max` bytes the oldest frames that have not begun to
    /// go out are dropped: what they said is repeated by later ones.
    pub(super) fn send(&mut self, frame: Bytes, queued_max: usize) {
        self.queued += frame.len();
        self.queue.push_back(frame);
        let oldest = usize::from(self.front_begun);
        while self.queued > queued_max && self.queue.len() > oldest + 1 {
            if let Some(dropped) = self.queue.remove(oldest) {
                self.queued -= dropped.len();
            }
        }
    }

    /// Moves frames into the stream as far as flow control lets them.
    pub(super) fn flush(&mut self, connection: &mut Connection) {
        while let Some(front) = self.queue.front_mut() {
            // A stop by the peer ends the direction; the peer's own end follows and is noticed.
            let front = std::slice::from_mut(front);
            let Ok(written) = connection.send_stream(self.stream).write_chunks(front) else {
                return;
            };
            self.queued -= written.bytes;
            self.front_begun = written.chunks == 0;
            if written.chunks == 1 {
                self.queue.pop_front();
            }
        }
    }

    /// The next frame, if it is here whole.
    pub(super) fn receive(
        &mut self,
        connection: &mut Connection,
    ) -> Result<Option<Bytes>, ControlStreamError> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(Some(frame));
            }
            match read_chunk(connection, self.stream, READ_MAX) {
                Chunk::Data(bytes) => self.decoder.push(bytes),
                Chunk::End | Chunk::Reset(_) => return Err(ControlStreamError::Ended),
                Chunk::Blocked => return Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use quinn_proto::{Dir, Side};

    use super::*;

    #[test]
    fn the_oldest_that_have_not_begun_give_way_and_the_newest_is_always_kept() {
        let mut control = ControlStream::new(StreamId::new(Side::Client, Dir::Bi, 0), 100);
        let frame = |of: u8| Bytes::from(vec![of; 40]);
        let waiting = |control: &ControlStream| -> Vec<u8> {
            control.queue.iter().map(|frame| frame[0]).collect()
        };
        (0..3).for_each(|of| control.send(frame(of), 100));
        assert_eq!((waiting(&control), control.queued()), (vec![1, 2], 80));
        control.front_begun = true;
        control.send(frame(3), 100);
        assert_eq!((waiting(&control), control.queued()), (vec![1, 3], 80));
        control.send(Bytes::from(vec![4; 1000]), 100);
        assert_eq!((waiting(&control), control.queued()), (vec![1, 4], 1040));
        control.send(frame(5), 100);
        assert_eq!((waiting(&control), control.queued()), (vec![1, 5], 80));
    }
}
