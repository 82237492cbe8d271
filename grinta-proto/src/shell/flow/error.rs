//! Why messages do not pass.

use std::fmt;

use crate::codec::CodecError;
use crate::node::{FlowLoss, FlowReadError, FlowWriteError};
use crate::wire::code::Code;
use crate::wire::frame::FrameError;

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
    /// The flow was finished on this side.
    #[error("the flow was finished on this side")]
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
    /// The flow has no room now. Only [`Sender::try_send`](crate::Sender::try_send) and
    /// [`Sender::try_reserve`](crate::Sender::try_reserve) say so.
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
    /// There is no message now. Only [`Receiver::try_recv`](crate::Receiver::try_recv) says so.
    #[error("no message has arrived; wait with `recv`")]
    Empty,
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
