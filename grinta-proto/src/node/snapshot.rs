//! What a node is and holds at one moment, for tools and people.
//!
//! A [`Snapshot`] is taken whole, between two turns, so its parts agree with each other. It owns
//! all it holds, and costs as much: it is for tools that ask every few seconds, not for a program
//! that asks about one member. Whatever is bounded shows next to its limit.

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::{Labels, Limits};
use crate::name::{EndpointName, FabricName, NodeName, Session};
use crate::node::counters::Counters;
use crate::node::dial::DialStage;
use crate::node::endpoint::{Hold, Standing};
use crate::node::event::{Member, MemberState};
use crate::node::leaving::Phase;
use crate::node::peer::{Peer, Target};
use crate::node::{Command, Node};

/// What a node is and holds at one moment.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Snapshot {
    /// The node.
    pub node: NodeName,
    /// The fabric that it belongs to.
    pub fabric: FabricName,
    /// The run of its process.
    pub session: Session,
    /// Where others dial it.
    pub address: SocketAddr,
    /// Whether it takes part.
    pub presence: Presence,
    /// What it proves its name with.
    pub certificate: CertificateSnapshot,
    /// Another process that goes by this node's name, if one showed itself.
    pub identity_conflict: Option<ConflictSnapshot>,
    /// Whether it knows the fabric's names: if not, a name that it does not find may exist.
    pub synced: bool,
    /// The members, this node among them, in the order of their names.
    pub members: Vec<MemberSnapshot>,
    /// The connections, in the order in which they began.
    pub connections: Vec<ConnectionSnapshot>,
    /// The names that this node knows.
    pub names: NamesSnapshot,
    /// The endpoints of this node, in the order of their names.
    pub endpoints: Vec<EndpointSnapshot>,
    /// The flows with other nodes, by connection.
    pub flows: Vec<FlowSnapshot>,
    /// The directions of in-process flows, in the order in which they began. Those are not the
    /// node's: `Fabric::snapshot` fills them in.
    pub local_flows: Vec<LocalFlowSnapshot>,
    /// The dials under way, in the order in which they began.
    pub dials: Vec<DialSnapshot>,
    /// How much of what is bounded is in use.
    pub usage: UsageSnapshot,
    /// The node's limits.
    pub limits: Limits,
    /// What the node has counted since its start.
    pub counters: Counters,
}

/// Whether a node takes part in its fabric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Presence {
    /// It does.
    Present,
    /// It tells the others that it leaves.
    Leaving,
    /// It left and may join again.
    Left,
    /// It closes.
    ShuttingDown,
    /// It is closed.
    Closed,
}

/// What a node proves its name with.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CertificateSnapshot {
    /// The names of nodes that it is good for.
    pub names: Vec<NodeName>,
    /// The last second at which it is valid, since the Unix epoch.
    pub expires_at: Option<Duration>,
    /// How long that is from now; zero once it has expired.
    pub expires_in: Option<Duration>,
    /// Whether the last fifth of its life has begun: whoever renews it should have done so.
    pub is_overdue: bool,
    /// How many CAs are trusted.
    pub cas: usize,
}

/// Another process that goes by the node's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ConflictSnapshot {
    /// Where it was seen, as far as it showed itself.
    pub address: Option<SocketAddr>,
    /// How long this node has known.
    pub duration: Duration,
}

/// How much is in use of something that is bounded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Level {
    /// In use.
    pub used: usize,
    /// The most that may be.
    pub limit: usize,
}

impl Level {
    /// What is in use, as a share of the limit.
    #[must_use]
    pub fn share(&self) -> f64 {
        self.used as f64 / self.limit.max(1) as f64
    }
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct MemberSnapshot {
    /// Its name.
    pub name: NodeName,
    /// Where it wants to be dialled.
    pub address: SocketAddr,
    /// Which run of its process this is.
    pub session: Session,
    /// What is known of its health.
    pub health: HealthSnapshot,
    /// Its labels, once they are known.
    pub labels: Labels,
    /// The round-trip time to it; `None` without a connection that is up.
    pub round_trip_time: Option<Duration>,
}

/// What is known of a member's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum HealthSnapshot {
    /// It answers.
    Alive,
    /// It does not answer; it may still refute.
    Suspect,
    /// It failed.
    Down {
        /// How long this node has known.
        duration: Duration,
    },
    /// It left on purpose.
    Left {
        /// How long this node has known.
        duration: Duration,
    },
}

/// A connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ConnectionSnapshot {
    /// The node at the other end: proved if the connection is up, else the one that was dialled.
    pub peer: Option<NodeName>,
    /// Where its packets go.
    pub remote: SocketAddr,
    /// Who opened it.
    pub opened_by: OpenedBy,
    /// How far it is.
    pub stage: ConnectionStage,
    /// Its round-trip time, smoothed; the assumed one before the first is measured.
    pub round_trip_time: Duration,
    /// Flows on it that are not over.
    pub flows: usize,
    /// Control messages that wait to be sent, in bytes.
    pub control_queue: Level,
    /// Bytes of datagrams sent.
    pub bytes_sent: u64,
    /// Bytes of datagrams received.
    pub bytes_received: u64,
    /// Packets held for lost.
    pub packets_lost: u64,
    /// The congestion window, in bytes.
    pub congestion_window: u64,
    /// Longest datagram that the path is known to take, in bytes.
    pub mtu: u16,
}

/// Who opened a connection or a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum OpenedBy {
    /// This node.
    Us,
    /// The node at the other end.
    Peer,
}

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum ConnectionStage {
    /// TLS is under way.
    Handshaking,
    /// The certificates are checked; the two say `Hello`.
    Greeting,
    /// It carries flows.
    Up,
    /// It is over; flows that had arrived are still read, or its last packets are on their way.
    Closing,
}

/// The names that a node knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default)
)]
#[non_exhaustive]
pub struct NamesSnapshot {
    /// Names held by this node.
    pub own: usize,
    /// Names held by anybody, this node included; one that is shared counts for each that holds it.
    pub known: usize,
}

/// An endpoint of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct EndpointSnapshot {
    /// Its name.
    pub name: EndpointName,
    /// Whether it takes flows.
    pub standing: EndpointStanding,
    /// Flows that wait to be accepted.
    pub accept_queue: Level,
}

/// Whether an endpoint takes flows.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum EndpointStanding {
    /// Its claim of the name is not decided, or not yet confirmed.
    Claiming,
    /// It owns the name and takes flows.
    Owner,
    /// Another node owns the name; it takes over when that is gone.
    Standby {
        /// Which.
        owner: NodeName,
    },
}

/// A flow with another node.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct FlowSnapshot {
    /// The node at the other end, while its connection is up.
    pub peer: Option<NodeName>,
    /// The endpoint that was dialled, once that is known.
    pub endpoint: Option<EndpointName>,
    /// Who dialled it.
    pub opened_by: OpenedBy,
    /// How far it is.
    pub stage: FlowStage,
    /// What was written and waits for the peer to take it, in bytes; `None` once nothing more is
    /// sent. A message longer than the limit is taken alone.
    pub send_buffer: Option<Level>,
    /// Whether the peer may still send.
    pub receives: bool,
}

/// One direction of a flow within the process.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LocalFlowSnapshot {
    /// The endpoint that was dialled.
    pub endpoint: EndpointName,
    /// Who sends.
    pub sender: LocalSide,
    /// Messages that were sent and not read.
    pub messages: Level,
    /// Their bytes, counted as the messages would travel. A message longer than the limit is taken
    /// alone.
    pub bytes: Level,
}

/// A side of an in-process flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum LocalSide {
    /// The side that dialled.
    Dialler,
    /// The side that accepted.
    Acceptor,
}

/// How far a flow is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum FlowStage {
    /// Its first frame is under way.
    Opening,
    /// It waits for the endpoint's task.
    Offered,
    /// Both ends agreed to it.
    Open,
}

/// A dial under way.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct DialSnapshot {
    /// The name that is dialled.
    pub endpoint: EndpointName,
    /// How far it is.
    pub stage: DialStage,
    /// How long it has taken.
    pub elapsed: Duration,
    /// How long it may take in all.
    pub timeout: Duration,
    /// How many nodes it tried before.
    pub attempts: usize,
}

/// How much of what is bounded is in use, for the node as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct UsageSnapshot {
    /// Connections, those that are coming up or closing included.
    pub connections: Level,
    /// Handshakes under way that others began.
    pub handshakes: Level,
    /// Endpoints of this node.
    pub endpoints: Level,
    /// Dials under way.
    pub dials: Level,
    /// Nodes for which messages wait until their connection is up.
    pub held: Level,
    /// Nodes that could not be reached and are not dialled again at once.
    pub redials: Level,
}

impl Node {
    /// What the node is and holds now: at the end of its last turn.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let own = self.own_member();
        let mut members: Vec<_> = self
            .members()
            .chain([own])
            .map(|member| self.member_snapshot(member))
            .collect();
        members.sort_by(|one, other| one.name.cmp(&other.name));
        Snapshot {
            node: self.name().clone(),
            fabric: self.config.fabric.clone(),
            session: self.control.session(),
            address: self.address(),
            presence: self.phase.into(),
            certificate: self.certificate_snapshot(),
            identity_conflict: self.conflict.map(|conflict| ConflictSnapshot {
                address: conflict.address,
                duration: self.now.saturating_duration_since(conflict.since),
            }),
            synced: self.control.is_synced(),
            members,
            connections: self
                .connections
                .peers()
                .map(|peer| self.connection_snapshot(peer))
                .collect(),
            names: NamesSnapshot {
                own: self.control.directory().held().count(),
                known: self.control.directory().names_held(),
            },
            endpoints: self.endpoints.snapshots(),
            flows: self
                .connections
                .peers()
                .flat_map(|peer| peer.flow_snapshots(self.config.limits.flow_send_buffer))
                .collect(),
            local_flows: Vec::new(),
            dials: self.dial_snapshots(),
            usage: self.usage(),
            limits: self.config.limits.clone(),
            counters: self.counters(),
        }
    }

    fn certificate_snapshot(&self) -> CertificateSnapshot {
        let expires_at = self.credentials.expires_at();
        let unix_time = self.clock.unix_time();
        CertificateSnapshot {
            names: self.credentials.names(),
            expires_at,
            expires_in: expires_at.map(|at| at.saturating_sub(unix_time)),
            is_overdue: self
                .credentials
                .overdue_from()
                .is_some_and(|from| unix_time >= from),
            cas: self.credentials.ca_count(),
        }
    }

    fn member_snapshot(&self, member: Member) -> MemberSnapshot {
        let for_how_long = |since| self.now.saturating_duration_since(since);
        MemberSnapshot {
            health: match member.state {
                MemberState::Alive => HealthSnapshot::Alive,
                MemberState::Suspect => HealthSnapshot::Suspect,
                MemberState::Down { since } => HealthSnapshot::Down {
                    duration: for_how_long(since),
                },
                MemberState::Left { since } => HealthSnapshot::Left {
                    duration: for_how_long(since),
                },
            },
            name: member.name,
            address: member.address,
            session: member.session,
            labels: (*member.labels).clone(),
            round_trip_time: member.round_trip_time,
        }
    }

    fn connection_snapshot(&self, peer: &Peer) -> ConnectionSnapshot {
        let stats = peer.stats();
        ConnectionSnapshot {
            peer: peer
                .name()
                .or_else(|| peer.target().and_then(Target::node))
                .cloned(),
            remote: peer.remote(),
            opened_by: match peer.target() {
                Some(_) => OpenedBy::Us,
                None => OpenedBy::Peer,
            },
            stage: peer.stage(),
            round_trip_time: peer.round_trip_time(),
            flows: peer.open_flows(),
            control_queue: Level {
                used: peer.control_queued(),
                limit: self.config.limits.control_queue_max,
            },
            bytes_sent: stats.udp_tx.bytes,
            bytes_received: stats.udp_rx.bytes,
            packets_lost: stats.path.lost_packets,
            congestion_window: stats.path.cwnd,
            mtu: stats.path.current_mtu,
        }
    }

    fn dial_snapshots(&self) -> Vec<DialSnapshot> {
        let begun = self.dials.values().map(|dial| DialSnapshot {
            endpoint: dial.request.open.endpoint.clone(),
            stage: dial.stage(),
            elapsed: self.now.saturating_duration_since(dial.started),
            timeout: dial.request.timeout,
            attempts: dial.attempts.len(),
        });
        let wanted = self.commands.iter().filter_map(|command| match command {
            Command::Dial(_, request) => Some(DialSnapshot {
                endpoint: request.open.endpoint.clone(),
                stage: DialStage::Resolve,
                elapsed: Duration::ZERO,
                timeout: request.timeout,
                attempts: 0,
            }),
            Command::Join
            | Command::Claim(_)
            | Command::Release(_)
            | Command::Sleep { .. }
            | Command::SetLabels(_)
            | Command::JudgePeers
            | Command::Query(..)
            | Command::Leave
            | Command::Shutdown(_) => None,
        });
        begun.chain(wanted).collect()
    }

    /// How much of what is bounded is in use: of a [`snapshot`](Self::snapshot) the part that costs
    /// nothing.
    #[must_use]
    pub fn usage(&self) -> UsageSnapshot {
        let limits = &self.config.limits;
        let level = |used, limit| Level { used, limit };
        UsageSnapshot {
            connections: level(self.connections.len(), limits.connections_max),
            handshakes: level(self.connections.handshakes(), limits.handshakes_max),
            endpoints: level(self.endpoints.len(), limits.endpoints_max),
            dials: level(self.dials.len(), limits.dials_max),
            held: level(self.held.len(), limits.connections_max),
            redials: level(self.redials.len(), limits.connections_max),
        }
    }
}

impl From<Phase> for Presence {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Running => Self::Present,
            Phase::Leaving => Self::Leaving,
            Phase::Left { .. } => Self::Left,
            Phase::ShuttingDown { .. } | Phase::Closing => Self::ShuttingDown,
            Phase::Closed => Self::Closed,
        }
    }
}

impl From<&Hold> for EndpointStanding {
    fn from(hold: &Hold) -> Self {
        match hold {
            Hold::Unclaimed | Hold::Confirming => Self::Claiming,
            Hold::Claimed(Standing::Owner) => Self::Owner,
            Hold::Claimed(Standing::Standby { owner }) => Self::Standby {
                owner: owner.clone(),
            },
        }
    }
}
