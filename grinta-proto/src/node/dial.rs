//! Dials: from a name to a flow, or to an error that says how far it came.

use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::name::{EndpointName, InvalidName, NodeName};
use crate::node::endpoint::IncomingId;
use crate::node::event::{ConnectError, FlowLoss};
use crate::node::flow::FlowId;
use crate::node::timers::TimerKey;
use crate::wire::code::Code;
use crate::wire::stream::{OpenFlow, RefusalReason};

/// Names a dial; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DialId(pub(crate) u64);

/// What to dial and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialRequest {
    /// The first frame: endpoint, direction, encodings and limits.
    pub open: OpenFlow,
    /// All that the dialler is to send, framed, if it goes to another node together with the first
    /// frame; the end of the dialler's direction follows it. Such a dial asks no other node once its
    /// connection is lost, for the endpoint's task may have it.
    pub early: Option<Bytes>,
    /// How long the dial may take in all.
    pub timeout: Duration,
    /// What to do about a name that nobody holds.
    pub unknown_name: UnknownName,
    /// Whom to dial of several that share the name.
    pub choice: Choice,
    /// The one node to dial, whoever else serves the name.
    pub at: Option<NodeName>,
}

/// Whom a dial takes of several nodes that share a name. One that does not answer at present is
/// taken only if all are so. If the one taken refuses because it is busy or leaves, or cannot be
/// reached, the dial goes on to the next, within its deadline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Choice {
    /// The owner of the name: who has served it longest.
    #[default]
    Owner,
    /// Each in turn, in the order of their names; this node keeps the turn for each name.
    RoundRobin,
    /// Any, all alike.
    Random,
    /// This node itself, else the one with the shortest round-trip time; those to which there is
    /// no connection yet come last.
    Nearest,
}

/// What a dial does about a name that nobody holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UnknownName {
    /// Fail at once.
    #[default]
    Fail,
    /// Wait for somebody to claim it, as long as the dial may take.
    Wait,
}

/// Why a dial has no flow.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DialError {
    /// The name that was dialled.
    pub endpoint: String,
    /// How far the dial came.
    pub stage: DialStage,
    /// What ended it.
    pub cause: DialCause,
    /// The nodes that were tried before, and what became of it.
    pub attempts: Vec<Attempt>,
    /// How long it took.
    pub elapsed: Duration,
}

/// One node that a dial tried.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// The node.
    pub node: NodeName,
    /// What became of it.
    pub cause: DialCause,
    /// How long after the dial's start it was given up.
    pub after: Duration,
}

/// The steps of a dial, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum DialStage {
    /// Finding out who holds the name.
    Resolve,
    /// Getting a connection to the holder.
    Connect,
    /// Proving to each other who we are.
    Authenticate,
    /// Opening a stream.
    Open,
    /// Waiting for the endpoint's task to take the flow.
    Accept,
}

/// What ended a dial or an attempt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DialCause {
    /// What was dialled is no name.
    #[error(transparent)]
    InvalidName(InvalidName),
    /// The codec's description breaks a rule.
    #[error("the codec's message type {reason}")]
    InvalidCodec {
        /// Which.
        reason: String,
    },
    /// Nobody holds the name.
    #[error("nobody holds the name{}", similar(near))]
    NotFound {
        /// Names that look alike.
        near: Vec<EndpointName>,
    },
    /// The one node that was to be dialled does not serve the name, or is down.
    #[error("{node} does not serve the name")]
    NotAt {
        /// The node.
        node: NodeName,
    },
    /// The holder is down.
    #[error("its holder {node} has been down for {:.1} s", down_for.as_secs_f32())]
    Unreachable {
        /// The holder.
        node: NodeName,
        /// For how long.
        down_for: Duration,
    },
    /// This node has not yet learnt the names.
    #[error("this node has not yet learnt the fabric's names; wait for `join`")]
    NotSynced,
    /// The holder could not be reached.
    #[error("{node} could not be reached: {error}")]
    Connect {
        /// The holder.
        node: NodeName,
        /// Why.
        error: ConnectError,
    },
    /// The holder refused.
    #[error(
        "{node} refused: {}{}{}{detail}",
        explain(*reason),
        code.map(|code| format!(", code {code}")).unwrap_or_default(),
        if detail.is_empty() { "" } else { ": " },
    )]
    Refused {
        /// The holder.
        node: NodeName,
        /// Why.
        reason: RefusalReason,
        /// The code that its program gave, if it gave one.
        code: Option<u32>,
        /// In its words.
        detail: String,
    },
    /// The holder ended the stream without an answer.
    #[error("{node} ended the flow without an answer: {code}")]
    Ended {
        /// The holder.
        node: NodeName,
        /// The code that it gave.
        code: Code,
    },
    /// The connection broke before the answer.
    #[error("the connection to {node} broke: {loss}")]
    Broken {
        /// The holder.
        node: NodeName,
        /// Why.
        loss: FlowLoss,
    },
    /// Time ran out.
    #[error("no success within {:.1} s", limit.as_secs_f32())]
    TimedOut {
        /// The time that the dial was given.
        limit: Duration,
    },
    /// Too many dials are under way.
    #[error("{limit} dials are under way; wait for some, or raise `dials_max`")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// This node has left the fabric, and another one holds the name.
    #[error("this node has left the fabric; join it again to dial other nodes")]
    Left,
    /// This node is shutting down.
    #[error("this node is shutting down")]
    ShuttingDown,
}

impl DialError {
    /// Whether the same dial may succeed later without anybody changing anything about it.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match &self.cause {
            DialCause::NotFound { .. }
            | DialCause::NotAt { .. }
            | DialCause::Unreachable { .. }
            | DialCause::NotSynced
            | DialCause::Ended { .. }
            | DialCause::Broken { .. }
            | DialCause::TimedOut { .. }
            | DialCause::TooMany { .. } => true,
            DialCause::Connect { error, .. } => {
                matches!(
                    error,
                    ConnectError::NoAnswer | ConnectError::Transport { .. }
                )
            }
            DialCause::Refused { reason, .. } => match reason {
                RefusalReason::NotFound
                | RefusalReason::Busy
                | RefusalReason::ShuttingDown
                | RefusalReason::Moved
                | RefusalReason::Declined => true,
                RefusalReason::NotAllowed | RefusalReason::Mismatch => false,
            },
            DialCause::InvalidName(_)
            | DialCause::InvalidCodec { .. }
            | DialCause::Left
            | DialCause::ShuttingDown => false,
        }
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            endpoint,
            stage,
            cause,
            attempts,
            elapsed,
        } = self;
        let elapsed = elapsed.as_secs_f32();
        write!(
            f,
            "cannot dial {endpoint}: {cause} (while {stage}, after {elapsed:.1} s"
        )?;
        if !attempts.is_empty() {
            write!(f, " and {} other attempts", attempts.len())?;
        }
        write!(f, ")")
    }
}

impl std::error::Error for DialError {}

impl fmt::Display for DialStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "resolving the name",
            Self::Connect => "connecting",
            Self::Authenticate => "authenticating",
            Self::Open => "opening a stream",
            Self::Accept => "waiting for the endpoint to accept",
        })
    }
}

/// A dial under way.
#[derive(Debug)]
pub(crate) struct Dial {
    pub(crate) request: DialRequest,
    pub(crate) started: Instant,
    pub(crate) timer: TimerKey,
    pub(crate) state: DialState,
    pub(crate) attempts: Vec<Attempt>,
}

/// What a dial waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DialState {
    /// For the name to be known.
    Resolving,
    /// For the nodes to agree who holds the name.
    Settling { timer: TimerKey },
    /// For a connection to the holder.
    Connecting { node: NodeName },
    /// For the holder to allow one more stream.
    Opening { node: NodeName },
    /// For the holder's answer.
    Asking { node: NodeName, flow: FlowId },
    /// For the answer of a task of this process.
    AskingHere { incoming: IncomingId },
}

impl Dial {
    pub(crate) const fn stage(&self) -> DialStage {
        match &self.state {
            DialState::Resolving | DialState::Settling { .. } => DialStage::Resolve,
            DialState::Connecting { .. } => DialStage::Connect,
            DialState::Opening { .. } => DialStage::Open,
            DialState::Asking { .. } | DialState::AskingHere { .. } => DialStage::Accept,
        }
    }

    /// The error that ends this dial.
    pub(crate) fn fail(self, now: Instant, cause: DialCause) -> DialError {
        let authenticating = matches!(
            &cause,
            DialCause::Connect {
                error: ConnectError::Tls(_)
                    | ConnectError::Certificate { .. }
                    | ConnectError::NameMismatch { .. }
                    | ConnectError::NameNotCertified { .. },
                ..
            }
        );
        let stage = if authenticating {
            DialStage::Authenticate
        } else if matches!(&cause, DialCause::Refused { .. }) {
            // An endpoint of this process refuses before the dial has anything to wait for.
            DialStage::Accept
        } else {
            self.stage()
        };
        DialError {
            endpoint: self.request.open.endpoint.to_string(),
            stage,
            cause,
            attempts: self.attempts,
            elapsed: now.saturating_duration_since(self.started),
        }
    }

    /// Whether the dial has tried a node in vain.
    pub(crate) fn has_tried(&self, node: &NodeName) -> bool {
        self.attempts.iter().any(|attempt| attempt.node == *node)
    }

    /// Notes an attempt that failed, before the next one.
    pub(crate) fn note(&mut self, now: Instant, node: NodeName, cause: DialCause) {
        let after = now.saturating_duration_since(self.started);
        self.attempts.push(Attempt { node, cause, after });
    }
}

fn explain(reason: RefusalReason) -> &'static str {
    match reason {
        RefusalReason::NotFound => "it holds no such endpoint",
        RefusalReason::Busy => "the endpoint's accept queue is full",
        RefusalReason::ShuttingDown => "it is shutting down",
        RefusalReason::NotAllowed => "the endpoint does not take flows from this node",
        RefusalReason::Mismatch => "the endpoint expects something else",
        RefusalReason::Moved => "another node holds the name now",
        RefusalReason::Declined => "the endpoint's task dropped the flow",
    }
}

fn similar(near: &[EndpointName]) -> String {
    let names: Vec<_> = near.iter().map(EndpointName::as_str).collect();
    if names.is_empty() {
        String::new()
    } else {
        format!("; did you mean {}?", names.join(", "))
    }
}
