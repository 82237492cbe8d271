//! The ends of flows that programs hold: [`Sender`], [`Receiver`], and both as a [`Flow`].
//!
//! An end knows three lanes: a QUIC stream, a queue of values within the process, and a queue of
//! encoded messages where the two ends there have different types. What a program sees of a flow
//! does not depend on the lane.

mod byte_stream;
mod error;
mod futures;
mod receiver;
mod sender;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use crate::codec::Codec;
use crate::name::NodeName;
use crate::node::FlowId;
use crate::shell::shared::Shared;

pub use self::byte_stream::{ByteReader, ByteStream, ByteWriter};
pub use self::error::{ReceiveError, SendCause, SendError};
pub use self::receiver::Receiver;
pub(crate) use self::sender::short_frame;
pub use self::sender::{Permit, Sender};

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

    /// Sends all of `messages`: see [`Sender::send_many`].
    ///
    /// # Errors
    /// As [`Sender::send_many`].
    ///
    /// # Cancel safety
    /// As [`Sender::send_many`].
    pub async fn send_many(&mut self, messages: &mut VecDeque<S>) -> Result<(), SendCause> {
        self.sender.send_many(messages).await
    }

    /// Sends a message if there is room: see [`Sender::try_send`].
    ///
    /// # Errors
    /// As [`Sender::try_send`].
    pub fn try_send(&mut self, message: S) -> Result<(), SendError<S>> {
        self.sender.try_send(message)
    }

    /// Waits for room for a message: see [`Sender::reserve`].
    ///
    /// # Errors
    /// As [`Sender::reserve`].
    ///
    /// # Cancel safety
    /// As [`Sender::reserve`].
    pub async fn reserve(&mut self) -> Result<Permit<'_, S>, SendCause> {
        self.sender.reserve().await
    }

    /// Waits until nothing more can be sent: see [`Sender::closed`].
    ///
    /// # Cancel safety
    /// As [`Sender::closed`].
    pub async fn closed(&mut self) -> SendCause {
        self.sender.closed().await
    }

    /// Whether nothing more can be sent: see [`Sender::is_closed`].
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// How many bytes can be sent without waiting: see [`Sender::capacity`].
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.sender.capacity()
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

    /// Receives a burst of messages: see [`Receiver::recv_many`].
    ///
    /// # Errors
    /// As [`Receiver::recv_many`].
    ///
    /// # Cancel safety
    /// As [`Receiver::recv_many`].
    pub async fn recv_many(
        &mut self,
        messages: &mut Vec<R>,
        limit: usize,
    ) -> Result<usize, ReceiveError> {
        self.receiver.recv_many(messages, limit).await
    }

    /// Receives a message if one is here: see [`Receiver::try_recv`].
    ///
    /// # Errors
    /// As [`Receiver::try_recv`].
    pub fn try_recv(&mut self) -> Result<Option<R>, ReceiveError> {
        self.receiver.try_recv()
    }

    /// The two ends, for two tasks. [`join`](Self::join) puts them together again.
    #[must_use]
    pub fn split(self) -> (Sender<S>, Receiver<R>) {
        (self.sender, self.receiver)
    }

    /// A sender and a receiver as one, from one flow or from two.
    #[must_use]
    pub const fn join(sender: Sender<S>, receiver: Receiver<R>) -> Self {
        Self { sender, receiver }
    }

    /// Which way the flow goes.
    #[must_use]
    pub const fn path(&self) -> &Path {
        self.sender.path()
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
