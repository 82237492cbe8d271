//! The ends of flows that programs hold: [`Sender`], [`Receiver`], and both as a [`Flow`].

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};

use crate::codec::{Codec, CodecError};
use crate::name::NodeName;
use crate::node::{FlowId, FlowLoss, FlowReadError, FlowWriteError, Payload, SHARED_LEN_MIN};
use crate::shell::local::{Encoded, Queue};
use crate::shell::shared::{Shared, State};
use crate::wire::code::Code;
use crate::wire::frame::{FrameDecoder, FrameError, encode_length};

/// The sending end of a flow of messages of type `T`.
///
/// Messages arrive in order, each exactly once, or both ends learn that the flow broke. Dropping
/// the sender finishes the flow: the receiver gets what was sent, then the end.
pub struct Sender<T> {
    lane: SendLane<T>,
    codec: Arc<dyn Codec<T>>,
    message_len_max: usize,
    path: Path,
    scratch: BytesMut,
}

/// The receiving end of a flow of messages of type `T`.
///
/// Dropping the receiver stops the flow: the sender learns that nobody reads.
pub struct Receiver<T> {
    lane: ReceiveLane<T>,
    codec: Arc<dyn Codec<T>>,
    path: Path,
}

/// Both ends of a flow that goes both ways: sends `S`, receives `R`.
#[derive(Debug)]
pub struct Flow<S, R> {
    /// The sending end.
    pub sender: Sender<S>,
    /// The receiving end.
    pub receiver: Receiver<R>,
}

/// Which way a flow goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Path {
    /// Through a queue of this process.
    Local,
    /// Over a QUIC stream to another node.
    Remote {
        /// The node, as its certificate names it.
        node: NodeName,
    },
}

/// A message that could not be sent, and why. The message is given back.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SendError<T> {
    /// The message.
    pub message: T,
    /// Why it was not sent.
    pub cause: SendCause,
}

/// Why a flow takes no message, or why its end did not arrive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendCause {
    /// The receiver wants no more.
    #[error("the receiver stopped the flow: {code}")]
    Stopped {
        /// Why, as the receiver says.
        code: Code,
    },
    /// The flow was reset on this side.
    #[error("the flow was given up on this side")]
    Finished,
    /// The flow broke. The receiver learns of it too.
    #[error("the flow broke: {0}")]
    Lost(FlowLoss),
    /// The message is longer than the receiver takes. The flow goes on.
    #[error(
        "the message is {length} bytes long, the receiver takes {limit}; raise `message_len_max` there or send less"
    )]
    TooLong {
        /// The length of the encoded message, in bytes.
        length: usize,
        /// What the receiver takes, in bytes.
        limit: usize,
    },
    /// The message has no encoding. The flow goes on.
    #[error(transparent)]
    Encode(#[from] CodecError),
    /// The flow has no room now. Only [`Sender::try_send`] says so.
    #[error("the flow is full; wait with `send`")]
    Full,
}

/// Why a flow has no next message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The sender gave the flow up.
    #[error("the sender gave the flow up: {code}")]
    Reset {
        /// Why, as the sender says.
        code: Code,
    },
    /// The flow broke. All that had arrived was received before. The sender learns of it too.
    #[error("the flow broke: {0}")]
    Lost(FlowLoss),
    /// A message could not be decoded. The flow is stopped.
    #[error(transparent)]
    Decode(#[from] CodecError),
    /// What arrived is not cut into messages as it should be, or a message is too long. The flow
    /// is stopped.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The flow was stopped on this side, after an error.
    #[error("the flow was stopped on this side")]
    Stopped,
    /// There is no message now. Only [`Receiver::try_recv`] says so.
    #[error("no message has arrived; wait with `recv`")]
    Empty,
}

enum SendLane<T> {
    Remote(Remote),
    Values(Arc<Queue<T>>),
    Encoded(Arc<Queue<Encoded>>),
}

enum ReceiveLane<T> {
    Remote {
        remote: Remote,
        decoder: FrameDecoder,
    },
    Values(Arc<Queue<T>>),
    Encoded(Arc<Queue<Encoded>>),
}

/// A flow over a connection, as one of its handles holds it.
pub(crate) struct Remote {
    pub(crate) shared: Arc<Shared>,
    pub(crate) flow: FlowId,
}

/// What an end is made of beside its lane.
pub(crate) struct Terms<T> {
    pub(crate) codec: Arc<dyn Codec<T>>,
    pub(crate) path: Path,
    /// The longest message that the receiving side takes, in bytes.
    pub(crate) message_len_max: usize,
}

impl<T: Send + 'static> Sender<T> {
    pub(crate) fn remote(remote: Remote, terms: Terms<T>) -> Self {
        Self::new(SendLane::Remote(remote), terms)
    }

    pub(crate) fn values(queue: Arc<Queue<T>>, terms: Terms<T>) -> Self {
        Self::new(SendLane::Values(queue), terms)
    }

    pub(crate) fn encoded(queue: Arc<Queue<Encoded>>, terms: Terms<T>) -> Self {
        Self::new(SendLane::Encoded(queue), terms)
    }

    fn new(lane: SendLane<T>, terms: Terms<T>) -> Self {
        let Terms {
            codec,
            path,
            message_len_max,
        } = terms;
        Self {
            lane,
            codec,
            message_len_max,
            path,
            scratch: BytesMut::new(),
        }
    }

    /// Sends a message, waiting for room in the flow.
    ///
    /// # Errors
    /// [`SendError`] gives the message back and says why.
    ///
    /// # Cancel safety
    /// When the future is dropped before it is ready, the message was not sent; it is dropped with
    /// the future.
    pub async fn send(&mut self, message: T) -> Result<(), SendError<T>> {
        let mut outgoing = self.prepare(message)?;
        let sent = poll_fn(|cx| match self.poll_offer(Some(cx), &mut outgoing) {
            Err(FlowWriteError::Blocked) => Poll::Pending,
            offered => Poll::Ready(offered),
        })
        .await;
        sent.map_err(|error| outgoing.give_back(error.into()))
    }

    /// Sends a message if the flow has room now.
    ///
    /// # Errors
    /// [`SendError`] gives the message back and says why: [`SendCause::Full`] without room.
    pub fn try_send(&mut self, message: T) -> Result<(), SendError<T>> {
        let mut outgoing = self.prepare(message)?;
        self.poll_offer(None, &mut outgoing)
            .map_err(|error| outgoing.give_back(error.into()))
    }

    /// Ends the flow and waits until the receiving node has all of it.
    ///
    /// # Errors
    /// [`SendCause`] if it is not known to have it all.
    ///
    /// # Cancel safety
    /// When the future is dropped the flow is finished all the same, without waiting.
    pub async fn finish(self) -> Result<(), SendCause> {
        match &self.lane {
            SendLane::Remote(Remote { shared, flow }) => {
                shared.with(|state| state.node.finish(*flow));
                poll_fn(|cx| shared.with(|state| poll_sent(state, *flow, cx))).await
            }
            SendLane::Values(queue) => {
                queue.finish();
                queue.sent().unwrap_or(Ok(())).map_err(SendCause::from)
            }
            SendLane::Encoded(queue) => {
                queue.finish();
                queue.sent().unwrap_or(Ok(())).map_err(SendCause::from)
            }
        }
    }

    /// Gives the flow up: the receiver gets an error with `code` instead of what it has not read.
    pub fn reset(self, code: u32) {
        let code = Code::User(code);
        match &self.lane {
            SendLane::Remote(Remote { shared, flow }) => {
                shared.with(|state| state.node.reset(*flow, code));
            }
            SendLane::Values(queue) => queue.reset(code),
            SendLane::Encoded(queue) => queue.reset(code),
        }
    }

    /// Which way the flow goes.
    #[must_use]
    pub const fn path(&self) -> &Path {
        &self.path
    }

    /// Encodes a message where it has to be, and holds it against the receiver's limit.
    fn prepare(&mut self, message: T) -> Result<Outgoing<T>, SendError<T>> {
        let limit = self.message_len_max;
        if let SendLane::Values(_) = self.lane {
            return match self.codec.encoded_len(&message) {
                Some(length) if length > limit => Err(too_long(message, length, limit)),
                Some(_) | None => Ok(Outgoing {
                    message: Some(message),
                    body: None,
                }),
            };
        }
        let mut body = self.codec.encoded(&message);
        self.scratch.clear();
        if body.is_none()
            && let Err(error) = self.codec.encode(&message, &mut self.scratch)
        {
            let cause = error.into();
            return Err(SendError { message, cause });
        }
        let length = body.as_ref().map_or(self.scratch.len(), Bytes::len);
        if length > limit {
            self.scratch = BytesMut::new();
            return Err(too_long(message, length, limit));
        }
        if self.scratch.len() >= SHARED_LEN_MIN {
            body = Some(self.scratch.split().freeze());
        }
        let message = Some(message);
        Ok(Outgoing { message, body })
    }

    /// Offers a message to the flow; `Blocked` without room, and with a context its task is woken
    /// when there is.
    fn poll_offer(
        &mut self,
        cx: Option<&Context<'_>>,
        outgoing: &mut Outgoing<T>,
    ) -> Result<(), FlowWriteError> {
        match &self.lane {
            SendLane::Values(queue) => queue.push(cx, &mut outgoing.message),
            SendLane::Encoded(queue) => {
                let body = outgoing
                    .body
                    .get_or_insert_with(|| self.scratch.split().freeze());
                queue.push(cx, &mut Some(Encoded(body.clone())))
            }
            SendLane::Remote(Remote { shared, flow }) => {
                let (copied, body) = match &outgoing.body {
                    Some(body) => (&[][..], body.clone()),
                    None => (&self.scratch[..], Bytes::new()),
                };
                let mut length = [0; LENGTH_LEN_MAX];
                let mut unfilled = &mut length[..];
                encode_length(copied.len() + body.len(), &mut unfilled);
                let filled = LENGTH_LEN_MAX - unfilled.len();
                let copied = [&length[..filled], copied];
                shared.with(|state| state.write(*flow, Payload { copied, body }, cx))
            }
        }
    }
}

/// A message on its way: as it is, and its encoding, if that is not in the scratch buffer.
struct Outgoing<T> {
    message: Option<T>,
    body: Option<Bytes>,
}

impl<T> Outgoing<T> {
    fn give_back(self, cause: SendCause) -> SendError<T> {
        let message = self
            .message
            .expect("a message that was refused was not taken");
        SendError { message, cause }
    }
}

impl<T: Send + 'static> Receiver<T> {
    pub(crate) fn remote(remote: Remote, terms: Terms<T>) -> Self {
        let decoder = FrameDecoder::new(terms.message_len_max);
        Self::new(ReceiveLane::Remote { remote, decoder }, terms)
    }

    pub(crate) fn values(queue: Arc<Queue<T>>, terms: Terms<T>) -> Self {
        Self::new(ReceiveLane::Values(queue), terms)
    }

    pub(crate) fn encoded(queue: Arc<Queue<Encoded>>, terms: Terms<T>) -> Self {
        Self::new(ReceiveLane::Encoded(queue), terms)
    }

    fn new(lane: ReceiveLane<T>, terms: Terms<T>) -> Self {
        Self {
            lane,
            codec: terms.codec,
            path: terms.path,
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

    fn next(&mut self, cx: Option<&Context<'_>>) -> Result<Option<T>, ReceiveError> {
        let frame = match &mut self.lane {
            ReceiveLane::Values(queue) => return Ok(queue.pop(cx)?),
            ReceiveLane::Encoded(queue) => queue.pop(cx)?.map(|Encoded(body)| body),
            ReceiveLane::Remote { remote, decoder } => {
                let framed = remote.next_frame(decoder, cx);
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
    fn stop_with(&self, code: Code) {
        match &self.lane {
            ReceiveLane::Remote {
                remote: Remote { shared, flow },
                ..
            } => {
                shared.with(|state| state.node.stop(*flow, code));
            }
            ReceiveLane::Values(queue) => queue.stop(code),
            ReceiveLane::Encoded(queue) => queue.stop(code),
        }
    }
}

impl Remote {
    /// Takes the next frame, reading on while the one at hand is not complete.
    fn next_frame(
        &self,
        decoder: &mut FrameDecoder,
        cx: Option<&Context<'_>>,
    ) -> Result<Option<Bytes>, ReceiveError> {
        loop {
            if let Some(frame) = decoder.next_frame()? {
                return Ok(Some(frame));
            }
            match self.shared.with(|state| state.read(self.flow, cx)) {
                Ok(Some(chunk)) => decoder.push(chunk),
                Ok(None) => return decoder.finish().map(|()| None).map_err(ReceiveError::from),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl<S: Send + 'static, R: Send + 'static> Flow<S, R> {
    /// Sends a message: see [`Sender::send`].
    ///
    /// # Errors
    /// As [`Sender::send`].
    ///
    /// # Cancel safety
    /// As [`Sender::send`].
    pub async fn send(&mut self, message: S) -> Result<(), SendError<S>> {
        self.sender.send(message).await
    }

    /// Receives a message: see [`Receiver::recv`].
    ///
    /// # Errors
    /// As [`Receiver::recv`].
    ///
    /// # Cancel safety
    /// As [`Receiver::recv`].
    pub async fn recv(&mut self) -> Result<Option<R>, ReceiveError> {
        self.receiver.recv().await
    }

    /// The two ends, for two tasks.
    #[must_use]
    pub fn split(self) -> (Sender<S>, Receiver<R>) {
        (self.sender, self.receiver)
    }

    /// Which way the flow goes.
    #[must_use]
    pub const fn path(&self) -> &Path {
        &self.sender.path
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        match &self.lane {
            SendLane::Remote(Remote { shared, flow }) => {
                shared.with(|state| {
                    state.node.release_sender(*flow);
                    state.release_flow(*flow);
                });
            }
            SendLane::Values(queue) => queue.finish(),
            SendLane::Encoded(queue) => queue.finish(),
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        match &self.lane {
            ReceiveLane::Remote {
                remote: Remote { shared, flow },
                ..
            } => {
                shared.with(|state| {
                    state.node.release_receiver(*flow, Code::NoReader);
                    state.release_flow(*flow);
                });
            }
            ReceiveLane::Values(queue) => queue.stop(Code::NoReader),
            ReceiveLane::Encoded(queue) => queue.stop(Code::NoReader),
        }
    }
}

impl From<FlowWriteError> for SendCause {
    fn from(error: FlowWriteError) -> Self {
        match error {
            FlowWriteError::Blocked => Self::Full,
            FlowWriteError::Finished => Self::Finished,
            FlowWriteError::Stopped(code) => Self::Stopped { code },
            FlowWriteError::Lost(loss) => Self::Lost(loss),
        }
    }
}

impl From<FlowReadError> for ReceiveError {
    fn from(error: FlowReadError) -> Self {
        match error {
            FlowReadError::Blocked => Self::Empty,
            FlowReadError::Stopped => Self::Stopped,
            FlowReadError::Reset(code) => Self::Reset { code },
            FlowReadError::Lost(loss) => Self::Lost(loss),
        }
    }
}

impl<T> SendError<T> {
    /// The message that was not sent.
    #[must_use]
    pub fn into_message(self) -> T {
        self.message
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a message was not sent: {}", self.cause)
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendError")
            .field("cause", &self.cause)
            .finish_non_exhaustive()
    }
}

impl<T> std::error::Error for SendError<T> {}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("a queue of this process"),
            Self::Remote { node } => write!(f, "QUIC to {node}"),
        }
    }
}

fn poll_sent(state: &mut State, flow: FlowId, cx: &Context<'_>) -> Poll<Result<(), SendCause>> {
    if let Some(sent) = state.node.sent(flow) {
        return Poll::Ready(sent.map_err(SendCause::from));
    }
    if state.is_closed {
        return Poll::Ready(Err(SendCause::Lost(FlowLoss::ShuttingDown)));
    }
    if let Some(slot) = state.flows.get_mut(&flow) {
        slot.writer.register(cx);
    }
    Poll::Pending
}

const fn too_long<T>(message: T, length: usize, limit: usize) -> SendError<T> {
    let cause = SendCause::TooLong { length, limit };
    SendError { message, cause }
}

const fn code_of(error: &FrameError) -> Code {
    match error {
        FrameError::TooLong { .. } => Code::MessageTooLong,
        FrameError::BadLength | FrameError::Truncated { .. } => Code::MessageMalformed,
    }
}

/// The longest varint.
const LENGTH_LEN_MAX: usize = 10;
