//! The receiving end of a flow.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::codec::{Codec, CodecError};
use crate::node::FlowReadError;
use crate::shell::flow::{Path, ReceiveError, Remote, Terms};
use crate::shell::local::{Encoded, Queue};
use crate::shell::shared::State;
use crate::wire::code::Code;
use crate::wire::frame::{FrameDecoder, FrameError};

/// The receiving end of a flow of messages of type `T`.
///
/// Dropping the receiver stops the flow: the sender learns that nobody reads.
///
/// It is a [`Stream`](futures_core::Stream), too: of messages, and of at most one error, which is
/// the last.
pub struct Receiver<T> {
    lane: Lane<T>,
    codec: Arc<dyn Codec<T>>,
    path: Path,
    /// A message of a burst that could not be decoded, until that is said.
    malformed: Option<Box<CodecError>>,
    /// The stream has given out its error.
    pub(super) is_stream_over: bool,
}

enum Lane<T> {
    Remote {
        remote: Remote,
        message_len_max: usize,
        /// There is one from the first bytes of a message on until nothing is left in it.
        decoder: Option<Box<FrameDecoder>>,
        /// Messages given out and not told to the fabric, which is told as it is asked for more.
        uncounted: u64,
    },
    Values(Arc<Queue<T>>),
    Encoded(Arc<Queue<Encoded>>),
}

impl<T: Send + 'static> Receiver<T> {
    pub(crate) fn remote(remote: Remote, terms: Terms<T>) -> Self {
        let lane = Lane::Remote {
            remote,
            message_len_max: terms.message_len_max,
            decoder: None,
            uncounted: 0,
        };
        Self::new(lane, terms)
    }

    pub(crate) fn values(queue: Arc<Queue<T>>, terms: Terms<T>) -> Self {
        Self::new(Lane::Values(queue), terms)
    }

    pub(crate) fn encoded(queue: Arc<Queue<Encoded>>, terms: Terms<T>) -> Self {
        Self::new(Lane::Encoded(queue), terms)
    }

    fn new(lane: Lane<T>, terms: Terms<T>) -> Self {
        Self {
            lane,
            codec: terms.codec,
            path: terms.path,
            malformed: None,
            is_stream_over: false,
        }
    }

    /// Receives the next message; `None` once the sender has finished and all was received.
    ///
    /// # Errors
    /// [`ReceiveError`] says how the flow broke. Never before everything that had arrived by then
    /// was received.
    ///
    /// # Cancel safety
    /// When the future is dropped before it is ready, no message is lost.
    pub async fn recv(&mut self) -> Result<Option<T>, ReceiveError> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Receives the messages that are here, at most `limit`, behind those in `messages`; waits if
    /// there is none. Returns how many; 0 once the sender has finished and all was received, or if
    /// `limit` is 0. Cheaper than as many [`recv`](Self::recv)s.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), after the messages that came before the error were received.
    ///
    /// # Cancel safety
    /// When the future is dropped before it is ready, no message is lost.
    pub async fn recv_many(
        &mut self,
        messages: &mut Vec<T>,
        limit: usize,
    ) -> Result<usize, ReceiveError> {
        poll_fn(|cx| match self.next_many(cx, messages, limit) {
            Err(ReceiveError::Empty) => Poll::Pending,
            received => Poll::Ready(received),
        })
        .await
    }

    /// Receives the next message if it is here; `None` once the sender has finished and all was
    /// received.
    ///
    /// # Errors
    /// [`ReceiveError::Empty`] if there is none now; the others as [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Result<Option<T>, ReceiveError> {
        self.next(None)
    }

    /// As [`recv`](Self::recv), for those who write their own futures.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<T>, ReceiveError>> {
        match self.next(Some(cx)) {
            Err(ReceiveError::Empty) => Poll::Pending,
            received => Poll::Ready(received),
        }
    }

    /// Tells the sender to send no more, and why. What has arrived is dropped.
    pub fn stop(self, code: u32) {
        self.stop_with(Code::User(code));
    }

    /// Which way the flow goes.
    #[must_use]
    pub const fn path(&self) -> &Path {
        &self.path
    }

    fn next_many(
        &mut self,
        cx: &Context<'_>,
        messages: &mut Vec<T>,
        limit: usize,
    ) -> Result<usize, ReceiveError> {
        if limit == 0 {
            return Ok(0);
        }
        let before = messages.len();
        if let Lane::Values(queue) = &self.lane {
            queue.pop_many(Some(cx), messages, limit)?;
            return Ok(messages.len() - before);
        }
        let Some(first) = self.next(Some(cx))? else {
            return Ok(0);
        };
        messages.push(first);
        while messages.len() - before < limit {
            match self.next(None) {
                Ok(Some(message)) => messages.push(message),
                Err(ReceiveError::Decode(error)) => {
                    self.malformed = Some(Box::new(error));
                    break;
                }
                // An end says the same when it is asked again.
                Ok(None) | Err(_) => break,
            }
        }
        Ok(messages.len() - before)
    }

    fn next(&mut self, cx: Option<&Context<'_>>) -> Result<Option<T>, ReceiveError> {
        if let Some(error) = self.malformed.take() {
            return Err((*error).into());
        }
        let frame = match &mut self.lane {
            Lane::Values(queue) => return Ok(queue.pop(cx)?),
            Lane::Encoded(queue) => queue.pop(cx)?.map(|Encoded(body)| body),
            Lane::Remote {
                remote,
                message_len_max,
                decoder,
                uncounted,
            } => {
                let framed = remote.next_frame(*message_len_max, decoder, uncounted, cx);
                *uncounted += u64::from(matches!(framed, Ok(Some(_))));
                if let Err(ReceiveError::Frame(error)) = &framed {
                    self.stop_with(code_of(error));
                }
                framed?
            }
        };
        let Some(frame) = frame else {
            return Ok(None);
        };
        match self.codec.decode(frame) {
            Ok(message) => Ok(Some(message)),
            Err(error) => {
                self.stop_with(Code::MessageMalformed);
                Err(error.into())
            }
        }
    }
}

impl<T> Receiver<T> {
    pub(crate) fn stop_with(&self, code: Code) {
        match &self.lane {
            Lane::Remote {
                remote: Remote { shared, flow },
                ..
            } => {
                shared.with(|state| state.node.stop(*flow, code));
            }
            Lane::Values(queue) => queue.stop(code),
            Lane::Encoded(queue) => queue.stop(code),
        }
    }
}

impl Remote {
    /// Takes the next frame, reading on while the one at hand is not complete.
    fn next_frame(
        &self,
        message_len_max: usize,
        decoder: &mut Option<Box<FrameDecoder>>,
        uncounted: &mut u64,
        cx: Option<&Context<'_>>,
    ) -> Result<Option<Bytes>, ReceiveError> {
        loop {
            if let Some(held) = decoder
                && let Some(frame) = held.next_frame()?
            {
                if held.is_empty() {
                    *decoder = None;
                }
                return Ok(Some(frame));
            }
            let filled = self.shared.with(|state| {
                state.messages.received += std::mem::take(uncounted);
                self.fill(state, message_len_max, decoder, cx)
            })?;
            if !filled {
                let is_whole = decoder.as_ref().map_or(Ok(()), |held| held.finish());
                return is_whole.map(|()| None).map_err(ReceiveError::from);
            }
        }
    }

    /// Moves what has arrived into the decoder, a burst at the most. Returns false at the end.
    fn fill(
        &self,
        state: &mut State,
        message_len_max: usize,
        decoder: &mut Option<Box<FrameDecoder>>,
        cx: Option<&Context<'_>>,
    ) -> Result<bool, FlowReadError> {
        let mut filled = 0;
        while filled < FILL_BYTES {
            // Who has something to look at comes back before it waits.
            match state.read(self.flow, cx.filter(|_| filled == 0)) {
                Ok(Some(chunk)) => {
                    filled += chunk.len();
                    decoder
                        .get_or_insert_with(|| Box::new(FrameDecoder::new(message_len_max)))
                        .push(chunk);
                }
                // An end says the same when it is asked again.
                Ok(None) | Err(_) if filled > 0 => break,
                Ok(None) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        match &self.lane {
            Lane::Remote {
                remote: Remote { shared, flow },
                uncounted,
                ..
            } => {
                shared.with(|state| {
                    state.messages.received += uncounted;
                    state.node.release_receiver(*flow, Code::NoReader);
                    state.forget_reader(*flow);
                });
            }
            Lane::Values(queue) => queue.stop(Code::NoReader),
            Lane::Encoded(queue) => queue.stop(Code::NoReader),
        }
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

const fn code_of(error: &FrameError) -> Code {
    match error {
        FrameError::TooLong { .. } => Code::MessageTooLong,
        FrameError::BadLength | FrameError::Truncated { .. } => Code::MessageMalformed,
    }
}

/// Bytes taken from a flow at once: many packets for one lock, and few beside its window.
const FILL_BYTES: usize = 64 * 1024;
