//! The vocabulary of the core's border: what a node tells its embedder.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn_proto::ConnectionError;

use crate::config::Labels;
use crate::name::{EndpointName, FabricName, NodeName, Session};
use crate::node::control::{QueryError, QueryId, QueryReport};
use crate::node::dial::{DialError, DialId};
use crate::node::endpoint::{EndpointId, EndpointRefusal};
use crate::node::flow::FlowId;
use crate::node::membership::IdentityConflict;
use crate::node::sleep::SleepId;
use crate::tls::TlsFailure;
use crate::wire::code::Code;

/// A node of the fabric, as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// Its name.
    pub name: NodeName,
    /// Where it wants to be dialled.
    pub address: SocketAddr,
    /// Which run of its process this is.
    pub session: Session,
    /// What is known of its health.
    pub state: MemberState,
    /// Its labels, once they are known.
    pub labels: Arc<Labels>,
    /// The round-trip time to it, smoothed, when this was asked for. `None` without a connection
    /// that is up: for this node itself, for a member that is gone, and for one that no flow and
    /// no gossip has led to yet. A change of it alone is no event.
    pub round_trip_time: Option<Duration>,
}

/// What is known of a member's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberState {
    /// It answers.
    Alive,
    /// It does not answer; it may still refute.
    Suspect,
    /// It failed.
    Down {
        /// When this node learnt of it.
        since: Instant,
    },
    /// It left on purpose.
    Left {
        /// When this node learnt of it.
        since: Instant,
    },
}

impl MemberState {
    /// Whether the member takes part: alive or suspect.
    #[must_use]
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Alive | Self::Suspect)
    }
}

/// A change among the members. The events since the start fold to the list of members.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemberEvent {
    /// A member appeared, or came back.
    Up(Member),
    /// A member does not answer.
    Suspected(Member),
    /// A suspect answered.
    Refuted(Member),
    /// A member's address, session or labels changed.
    Updated(Member),
    /// A member failed.
    Down(Member),
    /// A member left on purpose.
    Left(Member),
}

impl MemberEvent {
    /// Whom it is about, as the node sees that member from now on.
    #[must_use]
    pub const fn member(&self) -> &Member {
        match self {
            Self::Up(member)
            | Self::Suspected(member)
            | Self::Refuted(member)
            | Self::Updated(member)
            | Self::Down(member)
            | Self::Left(member) => member,
        }
    }

    pub(crate) const fn member_mut(&mut self) -> &mut Member {
        match self {
            Self::Up(member)
            | Self::Suspected(member)
            | Self::Refuted(member)
            | Self::Updated(member)
            | Self::Down(member)
            | Self::Left(member) => member,
        }
    }
}

/// A change of who owns a name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameEvent {
    /// A name that nobody reachable owned has an owner.
    Appeared {
        /// The name.
        name: EndpointName,
        /// Who owns it.
        owner: NodeName,
    },
    /// A name went to another owner.
    Moved {
        /// The name.
        name: EndpointName,
        /// Who owned it.
        previous: NodeName,
        /// Who owns it.
        owner: NodeName,
    },
    /// Of those who share a name, some began or ceased to serve it; its owner stayed.
    Reshared {
        /// The name.
        name: EndpointName,
        /// Who owns it.
        owner: NodeName,
    },
    /// Nobody reachable owns a name any more.
    Gone {
        /// The name.
        name: EndpointName,
        /// Who owned it.
        previous: NodeName,
    },
}

impl NameEvent {
    /// The name.
    #[must_use]
    pub const fn name(&self) -> &EndpointName {
        match self {
            Self::Appeared { name, .. }
            | Self::Moved { name, .. }
            | Self::Reshared { name, .. }
            | Self::Gone { name, .. } => name,
        }
    }
}

/// Why a connection could not be brought up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nothing answered in time.
    #[error("no answer; is a node listening there, and does UDP pass in both directions?")]
    NoAnswer,
    /// The host's name has no address.
    #[error("the name does not resolve: {reason}")]
    Unresolved {
        /// What the resolver said.
        reason: String,
    },
    /// The address cannot be dialled.
    #[error("the address {address} cannot be dialled: {reason}")]
    InvalidAddress {
        /// The address.
        address: SocketAddr,
        /// What is wrong with it.
        reason: String,
    },
    /// TLS failed: the error says whose certificate is at fault.
    #[error(transparent)]
    Tls(#[from] TlsFailure),
    /// The peer's certificate cannot be read for names.
    #[error("the peer's certificate is unusable: {reason}")]
    Certificate {
        /// What is wrong with it.
        reason: String,
    },
    /// Another node than the dialled one answered.
    #[error(
        "dialled {dialled} but the certificate there is for {certified:?}; \
         another node has taken over the address"
    )]
    NameMismatch {
        /// The node that was dialled.
        dialled: NodeName,
        /// The names in the certificate that was presented.
        certified: Vec<NodeName>,
    },
    /// The peer calls itself what its certificate does not.
    #[error(
        "the peer calls itself {claimed} but its certificate is for {certified:?}; \
         issue it a certificate with that name, or start it under a certified one"
    )]
    NameNotCertified {
        /// What it calls itself.
        claimed: NodeName,
        /// The names in its certificate.
        certified: Vec<NodeName>,
    },
    /// Our own rule keeps the peer out.
    #[error(
        "{node} is not admitted: {reason}; give it a certificate that the rule lets in, or change the rule on all nodes"
    )]
    NotAdmitted {
        /// The peer.
        node: NodeName,
        /// What the rule said.
        reason: String,
    },
    /// The peer belongs to another fabric.
    #[error("the peer belongs to the fabric {theirs}, this node to {ours}")]
    WrongFabric {
        /// Our fabric.
        ours: FabricName,
        /// The peer's fabric.
        theirs: FabricName,
    },
    /// The peer speaks another version of the protocol.
    #[error("the peer speaks protocol version {theirs}, this node {ours}; upgrade the older one")]
    WrongProtocol {
        /// Our version.
        ours: u32,
        /// The peer's version.
        theirs: u32,
    },
    /// The peer broke the protocol.
    #[error("the peer broke the protocol: {reason}")]
    Violation {
        /// How.
        reason: String,
    },
    /// The peer closed the connection and said why.
    #[error("refused by the peer: {code}{}{reason}", if reason.is_empty() { "" } else { ": " })]
    Refused {
        /// The code it gave.
        code: Code,
        /// Its words.
        reason: String,
    },
    /// The dialled address is this node's own.
    #[error("the address is this node's own")]
    Itself,
    /// This node is at its limit of connections.
    #[error("this node is at its limit of {limit} connections; raise `connections_max`")]
    TooManyConnections {
        /// The limit.
        limit: usize,
    },
    /// This node is shutting down.
    #[error("this node is shutting down")]
    ShuttingDown,
    /// The transport failed.
    #[error("the transport failed: {reason}")]
    Transport {
        /// How.
        reason: String,
    },
}

impl ConnectError {
    pub(crate) fn from_connection(error: &ConnectionError) -> Self {
        if let Some(failure) = TlsFailure::explain(error) {
            return Self::Tls(failure);
        }
        match FlowLoss::from_connection(error) {
            FlowLoss::Closed { code, reason } => Self::Refused { code, reason },
            FlowLoss::TimedOut => Self::NoAnswer,
            FlowLoss::Restarted => Self::Transport {
                reason: "reset by the peer".to_owned(),
            },
            FlowLoss::Transport { reason } => Self::Transport { reason },
            FlowLoss::Down | FlowLoss::ShuttingDown => Self::ShuttingDown,
        }
    }
}

/// Why the connection under a flow is gone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FlowLoss {
    /// One side closed the connection.
    #[error("the connection was closed: {code}{}{reason}", if reason.is_empty() { "" } else { ": " })]
    Closed {
        /// The code that was given.
        code: Code,
        /// The words that were given.
        reason: String,
    },
    /// Nothing came from the peer for longer than the idle time-out.
    #[error("nothing came from the peer for longer than the idle time-out")]
    TimedOut,
    /// The peer has restarted and knows nothing of the connection.
    #[error("the peer has restarted")]
    Restarted,
    /// The fabric holds the peer down.
    #[error("the peer is down")]
    Down,
    /// This node is shutting down.
    #[error("this node has shut down")]
    ShuttingDown,
    /// The transport failed.
    #[error("the transport failed: {reason}")]
    Transport {
        /// How.
        reason: String,
    },
}

impl FlowLoss {
    pub(crate) fn from_connection(error: &ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(close) => Self::Closed {
                code: Code::from_wire(close.error_code.into_inner()),
                reason: String::from_utf8_lossy(&close.reason).into_owned(),
            },
            ConnectionError::TimedOut => Self::TimedOut,
            ConnectionError::Reset => Self::Restarted,
            ConnectionError::LocallyClosed => Self::ShuttingDown,
            ConnectionError::VersionMismatch
            | ConnectionError::TransportError(_)
            | ConnectionError::ConnectionClosed(_)
            | ConnectionError::CidsExhausted => Self::Transport {
                reason: error.to_string(),
            },
        }
    }
}

/// Why a flow did not take what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FlowWriteError {
    /// Its buffer is full: wait for [`Event::FlowWritable`].
    #[error("the flow's buffer is full")]
    Blocked,
    /// It was finished or reset on this side.
    #[error("the flow was finished")]
    Finished,
    /// The peer wants no more.
    #[error("the receiver stopped the flow: {0}")]
    Stopped(Code),
    /// Its connection is gone.
    #[error("the flow broke: {0}")]
    Lost(FlowLoss),
}

/// Why a flow has nothing to read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FlowReadError {
    /// Nothing has arrived: wait for [`Event::FlowReadable`].
    #[error("nothing has arrived")]
    Blocked,
    /// It was stopped on this side.
    #[error("the flow was stopped")]
    Stopped,
    /// The peer gave it up.
    #[error("the sender gave the flow up: {0}")]
    Reset(Code),
    /// Its connection is gone, and all that had arrived is read.
    #[error("the flow broke: {0}")]
    Lost(FlowLoss),
}

/// What a node tells its embedder.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The members changed.
    Member(MemberEvent),
    /// A name changed hands. The events since the start fold to the names.
    Name(NameEvent),
    /// A call of [`Node::join`](super::Node::join) has come to its end.
    Joined(Result<JoinReport, JoinError>),
    /// The claim of an endpoint's name was decided.
    EndpointOpened {
        /// The endpoint.
        endpoint: EndpointId,
        /// Whether it now takes flows.
        result: Result<(), EndpointRefusal>,
    },
    /// A flow waits to be taken with [`Node::take_incoming`](super::Node::take_incoming).
    Incoming {
        /// The endpoint that was dialled.
        endpoint: EndpointId,
    },
    /// Another node owns the endpoint's name; new flows go there. Flows that are open live on.
    NameLost {
        /// The endpoint.
        endpoint: EndpointId,
        /// Who owns the name.
        winner: NodeName,
    },
    /// The endpoint, which stood by, owns its name.
    NameRegained {
        /// The endpoint.
        endpoint: EndpointId,
    },
    /// The endpoint stands by for another owner than before.
    OwnerChanged {
        /// The endpoint.
        endpoint: EndpointId,
    },
    /// A query has come to its end.
    Queried {
        /// The query.
        query: QueryId,
        /// What it found, or why it found nothing.
        result: Result<QueryReport, QueryError>,
    },
    /// A dial has come to its end.
    Dialled {
        /// The dial.
        dial: DialId,
        /// The flow, or why there is none.
        result: Result<Dialled, DialError>,
    },
    /// A flow may have bytes to read, or its end.
    FlowReadable(FlowId),
    /// A flow may take bytes again, or its sending direction has ended.
    FlowWritable(FlowId),
    /// A sleep is over.
    Woken(SleepId),
    /// Another process goes by this node's name.
    IdentityConflict(IdentityConflict),
    /// The fabric knows that we left; flows drain.
    Left,
    /// Every connection is closed. Once the last packets are out, the node has nothing more to do.
    Closed,
}

/// Where a dial ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dialled {
    /// In this process: the endpoint's task answered.
    Local {
        /// The longest message that the endpoint's task takes, in bytes.
        message_len_max: u64,
    },
    /// At another node.
    Remote {
        /// The flow.
        flow: FlowId,
        /// The node.
        node: NodeName,
        /// The longest message that the endpoint's task takes, in bytes.
        message_len_max: u64,
    },
}

/// Which neighbours answered a join.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JoinReport {
    /// Those that answered.
    pub reached: Vec<(String, NodeName)>,
    /// Those that did not, and why.
    pub unreachable: Vec<(String, ConnectError)>,
}

/// Why a join failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// No neighbour answered.
    #[error("no neighbour could be reached: {}", list(unreachable))]
    NoneReachable {
        /// All of them, and why.
        unreachable: Vec<(String, ConnectError)>,
    },
    /// A join is under way already.
    #[error("a join is under way already; wait for it")]
    UnderWay,
    /// The node left the fabric meanwhile.
    #[error("the node left the fabric before it had joined")]
    Left,
    /// Another process goes by this node's name, and the fabric takes that one for the node.
    #[error("another process goes by this node's name; start this one under a name of its own")]
    Displaced,
    /// The node is shutting down.
    #[error("the node is shutting down")]
    ShuttingDown,
}

/// Lists unreachable neighbours for people.
pub(crate) fn list(unreachable: &[(String, ConnectError)]) -> String {
    let lines: Vec<_> = unreachable
        .iter()
        .map(|(name, error)| format!("{name} ({error})"))
        .collect();
    lines.join(", ")
}

/// One batch of datagrams to one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transmit {
    /// The receiver.
    pub remote: SocketAddr,
    /// The local address to send from; `None` lets the system choose.
    pub local_ip: Option<IpAddr>,
    /// The two ECN bits to mark the datagrams with.
    pub ecn: Option<u8>,
    /// Bytes in the batch.
    pub length: usize,
    /// Length of each datagram if the batch holds more than one; only the last may be shorter.
    pub segment_size: Option<usize>,
}
