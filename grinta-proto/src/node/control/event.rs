//! The border of the control tier: what it wants done, what it tells the program, what it answers.

use std::net::SocketAddr;
use std::time::Instant;

use super::confirm::ConfirmError;
use super::directory::{NameLimit, Standing};
use super::resolve::{QueryError, QueryId, QueryReport};
use crate::name::{EndpointName, NodeName, Session};
use crate::node::event::{MemberEvent, NameEvent};
use crate::wire::code::Code;
use crate::wire::control::ControlMessage;

/// Who a node is: its name, where to dial it, and which run of its process it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// Its name, proved by its certificate.
    pub name: NodeName,
    /// Where it wants to be dialled.
    pub address: SocketAddr,
    /// The run of its process.
    pub session: Session,
}

/// What the control tier wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ControlOutput {
    /// Send a message. Without a connection to the member, dial it.
    Send {
        /// To whom.
        to: NodeName,
        /// Where to dial it.
        address: SocketAddr,
        /// What.
        message: ControlMessage,
        /// How.
        channel: Channel,
    },
    /// Make a connection to whoever is there, unless there is one, or one is being made.
    Connect {
        /// Where.
        address: SocketAddr,
    },
    /// Tell the program.
    Event(ControlEvent),
}

/// How a message travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// In a datagram: it is small, and may be lost or overtaken.
    Datagram,
    /// On the control stream: whole and in order, as long as the connection lasts.
    Stream,
}

/// What the control tier tells the program.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ControlEvent {
    /// A change among the members.
    Member(MemberEvent),
    /// The first complete exchange: from now on a name that is not found is nowhere.
    Synced,
    /// This node left, and some members know it or took too long to say so.
    Left,
    /// A claim of this node gave way to an older one and stands by. Told once per loss.
    NameLost {
        /// The name.
        name: EndpointName,
        /// Who owns it.
        winner: NodeName,
    },
    /// A claim of this node, which stood by, owns its name now.
    NamePromoted {
        /// The name.
        name: EndpointName,
    },
    /// A name changed hands.
    Name(NameEvent),
    /// A name whose owner denied it when it was dialled may be dialled again: the owner's claims
    /// have changed since.
    NameRenewed {
        /// The name.
        name: EndpointName,
    },
    /// A query has come to its end.
    Queried {
        /// The query.
        query: QueryId,
        /// What it found.
        result: Result<QueryReport, QueryError>,
    },
    /// A claim with confirmation has come to its end.
    Confirmed {
        /// The name.
        name: EndpointName,
        /// Whether it is confirmed. Else it is withdrawn.
        result: Result<(), ConfirmError>,
    },
    /// Another live node has this node's name; one of the two must go.
    IdentityConflict {
        /// The other, as far as it showed itself.
        other: Option<Identity>,
    },
    /// The others take that node for the later run of this one, which takes part no more.
    Displaced,
}

/// A node that serves a name, as [`Control::holders`](super::Control::holders) tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// This node.
    Local,
    /// Another node.
    Remote {
        /// Which.
        node: NodeName,
        /// Where to dial it.
        address: SocketAddr,
        /// It does not answer at present, and may still.
        suspect: bool,
    },
}

/// Where a name is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// By this node.
    Local,
    /// By another node.
    Remote {
        /// Which.
        owner: NodeName,
        /// Where to dial it.
        address: SocketAddr,
        /// It does not answer at present, and may still.
        suspect: bool,
    },
    /// By a node that is down.
    Unreachable {
        /// Which.
        owner: NodeName,
        /// When this node learnt that it is down.
        since: Instant,
    },
    /// By nobody.
    NotFound,
    /// Unknown: this node has not heard all names yet.
    NotSynced,
}

/// A part of a scan of the names: one moment of what this node knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NamePage {
    /// The names, in order.
    pub names: Vec<ListedName>,
    /// The next page begins behind this name; `None` if there is none.
    pub next: Option<EndpointName>,
}

/// A name that is served.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedName {
    /// The name.
    pub name: EndpointName,
    /// Who owns it.
    pub owner: NodeName,
    /// Whether the owner does not answer at present, and may still.
    pub is_suspect: bool,
    /// What this node's own claim of the name has come to, if it has one.
    pub standing: Option<Standing>,
}

/// What a peer may not say. Close the connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// It speaks for another node.
    #[error("{from} speaks for {claimed}; a node speaks for itself alone")]
    ForeignSource {
        /// The name in the peer's certificate.
        from: NodeName,
        /// The name it used.
        claimed: NodeName,
    },
    /// It tells names of another node without that one's signature.
    #[error(
        "{from} tells names of {owner} that are not signed; is `verify_claims` the same there?"
    )]
    UnsignedNames {
        /// The peer.
        from: NodeName,
        /// Whose names.
        owner: NodeName,
    },
    /// It tells names of another node that are not what that one signed.
    #[error("{from} tells names of {owner} that {owner} did not sign; cut it off, or its CA")]
    ForgedNames {
        /// The peer.
        from: NodeName,
        /// Whose names.
        owner: NodeName,
    },
    /// It holds more names than a node may. What it told is kept as far as its bound reaches.
    #[error("{from} holds more names than `{limit}` allows ({most}); is it the same there?")]
    TooManyNames {
        /// The peer.
        from: NodeName,
        /// The limit.
        limit: NameLimit,
        /// Its value.
        most: usize,
    },
}

impl Violation {
    /// What the connection is closed with.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::TooManyNames { .. } => Code::TooManyNames,
            Self::ForgedNames { .. } => Code::ForgedNames,
            Self::ForeignSource { .. } | Self::UnsignedNames { .. } => Code::ControlViolation,
        }
    }
}
