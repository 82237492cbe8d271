//! Flows of [`Bytes`] as streams of bytes, for code that reads and writes.
//!
//! How the bytes are cut into messages means nothing. A write is one message, or several if it is
//! long, and is on its way at once, as with a TCP stream: nothing is held back for a flush, and
//! small writes that follow each other go into one packet. Who writes byte by byte wants a
//! buffered writer around it, as everywhere.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_io::{AsyncBufRead, AsyncRead, AsyncWrite};

use crate::node::FlowLoss;
use crate::shell::flow::{Flow, ReceiveError, Receiver, SendCause, Sender};

/// The sending end of a flow as something to write to: made [from](From) a [`Sender`].
///
/// Flushing is at once. Closing ends the flow and is done when the receiving node has it all;
/// dropping ends it without waiting. Errors carry the [`SendCause`].
#[derive(Debug)]
pub struct ByteWriter {
    sender: Sender<Bytes>,
}

/// The receiving end of a flow as something to read from: made [from](From) a [`Receiver`].
///
/// Errors carry the [`ReceiveError`]. The end is clean only if the sender finished the flow.
#[derive(Debug)]
pub struct ByteReader {
    receiver: Receiver<Bytes>,
    /// What is left of the last message.
    rest: Bytes,
}

/// A flow that goes both ways as something to read from and to write to: made [from](From) a
/// [`Flow`].
#[derive(Debug)]
pub struct ByteStream {
    /// What to read from.
    pub reader: ByteReader,
    /// What to write to.
    pub writer: ByteWriter,
}

impl ByteStream {
    /// The two ends, for two tasks.
    #[must_use]
    pub fn split(self) -> (ByteReader, ByteWriter) {
        (self.reader, self.writer)
    }
}

impl From<Sender<Bytes>> for ByteWriter {
    fn from(sender: Sender<Bytes>) -> Self {
        Self { sender }
    }
}

impl From<Receiver<Bytes>> for ByteReader {
    fn from(receiver: Receiver<Bytes>) -> Self {
        Self {
            receiver,
            rest: Bytes::new(),
        }
    }
}

impl From<Flow<Bytes, Bytes>> for ByteStream {
    fn from(flow: Flow<Bytes, Bytes>) -> Self {
        let (sender, receiver) = flow.split();
        Self {
            reader: receiver.into(),
            writer: sender.into(),
        }
    }
}

impl AsyncWrite for ByteWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.sender.poll_room(cx))?;
        let length = bytes
            .len()
            .min(WRITE_MAX)
            .min(self.sender.message_len_max());
        if length > 0 {
            let message = Bytes::copy_from_slice(&bytes[..length]);
            self.sender.try_send(message).map_err(|error| error.cause)?;
        }
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.sender.poll_finish(cx).map_err(io::Error::from)
    }
}

impl AsyncBufRead for ByteReader {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let reader = self.get_mut();
        // A message may be empty, which is not the end.
        while reader.rest.is_empty() {
            match ready!(reader.receiver.poll_recv(cx))? {
                Some(message) => reader.rest = message,
                None => break,
            }
        }
        Poll::Ready(Ok(&reader.rest))
    }

    fn consume(mut self: Pin<&mut Self>, length: usize) {
        // No more than there is: a wrong length is no reason to panic.
        let length = length.min(self.rest.len());
        self.rest.advance(length);
    }
}

impl AsyncRead for ByteReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let here = ready!(self.as_mut().poll_fill_buf(cx))?;
        let length = here.len().min(buffer.len());
        buffer[..length].copy_from_slice(&here[..length]);
        self.consume(length);
        Poll::Ready(Ok(length))
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_close(cx)
    }
}

impl AsyncBufRead for ByteStream {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        Pin::new(&mut self.get_mut().reader).poll_fill_buf(cx)
    }

    fn consume(mut self: Pin<&mut Self>, length: usize) {
        Pin::new(&mut self.reader).consume(length);
    }
}

impl AsyncRead for ByteStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.reader).poll_read(cx, buffer)
    }
}

impl From<SendCause> for io::Error {
    fn from(cause: SendCause) -> Self {
        let kind = match &cause {
            SendCause::Stopped { .. } | SendCause::Finished => io::ErrorKind::BrokenPipe,
            SendCause::Lost(loss) => kind_of(loss),
            SendCause::TooLong { .. } | SendCause::Encode(_) => io::ErrorKind::InvalidInput,
            SendCause::Full => io::ErrorKind::WouldBlock,
        };
        Self::new(kind, cause)
    }
}

impl From<ReceiveError> for io::Error {
    fn from(error: ReceiveError) -> Self {
        let kind = match &error {
            ReceiveError::Reset { .. } => io::ErrorKind::ConnectionReset,
            ReceiveError::Lost(loss) => kind_of(loss),
            ReceiveError::Decode(_) | ReceiveError::Frame(_) => io::ErrorKind::InvalidData,
            ReceiveError::Stopped => io::ErrorKind::NotConnected,
            ReceiveError::Empty => io::ErrorKind::WouldBlock,
        };
        Self::new(kind, error)
    }
}

const fn kind_of(loss: &FlowLoss) -> io::ErrorKind {
    match loss {
        FlowLoss::TimedOut => io::ErrorKind::TimedOut,
        FlowLoss::Restarted => io::ErrorKind::ConnectionReset,
        FlowLoss::Closed { .. }
        | FlowLoss::Down
        | FlowLoss::ShuttingDown
        | FlowLoss::Transport { .. } => io::ErrorKind::ConnectionAborted,
    }
}

/// The longest message of a write: with more, the flow would hold one message and wait.
const WRITE_MAX: usize = 64 * 1024;
