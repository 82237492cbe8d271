//! What happened, in a form of which pictures are made.

use std::time::Duration;

use grinta_proto::{EndpointName, MemberState};
use serde::{Serialize, Serializer};

use crate::plan::NodeId;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Scene {
    /// When, since the start; in JSON in nanoseconds.
    #[serde(rename = "at_ns", serialize_with = "nanoseconds")]
    pub at: Duration,
    /// What.
    #[serde(flatten)]
    pub happening: Happening,
}

/// What can happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Happening {
    /// A fault of the plan begins.
    FaultBegins {
        /// The fault, as plans have it.
        fault: String,
        /// The nodes that it names.
        nodes: Vec<NodeId>,
    },
    /// A fault of the plan ends.
    FaultEnds {
        /// The fault, as plans have it.
        fault: String,
    },
    /// What becomes of a node's process.
    Life {
        /// The node.
        node: NodeId,
        /// What it is from here on.
        life: Life,
    },
    /// A node is told of a member.
    View {
        /// The node.
        node: NodeId,
        /// The member.
        about: NodeId,
        /// The event: `up`, `suspected`, `refuted`, `updated`, `down` or `left`.
        kind: &'static str,
        /// What the member is to the node from here on.
        seen: Seen,
    },
    /// What becomes of a node's claim.
    Claim {
        /// The node.
        node: NodeId,
        /// The name.
        #[serde(serialize_with = "words")]
        name: EndpointName,
        /// What it is from here on.
        standing: Claimed,
    },
    /// What becomes of a flow.
    Flow {
        /// Its number.
        flow: u32,
        /// The node at this end.
        node: NodeId,
        /// The name that was dialled.
        #[serde(serialize_with = "words")]
        name: EndpointName,
        /// What it is from here on.
        stage: FlowStage,
        /// How it got there.
        how: String,
    },
    /// A datagram, or in the control tier a message.
    Packet {
        /// The host that it is from.
        from: NodeId,
        /// The host that it is for.
        to: NodeId,
        /// Its length.
        bytes: usize,
        /// When it arrives, in nanoseconds; `None` if it is lost.
        arrives_ns: Option<u64>,
    },
}

/// What a node's process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Life {
    /// It runs.
    Runs,
    /// It has ended.
    Ended,
    /// It is frozen.
    Frozen,
    /// It has left the fabric, and runs.
    Left,
}

/// What a member is to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Seen {
    /// It is alive.
    Alive,
    /// It is suspect.
    Suspect,
    /// It is down.
    Down,
    /// It has left.
    Left,
}

/// What a claim is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Claimed {
    /// The node owns the name, as far as it knows.
    Owner,
    /// The node knows that another owns the name.
    Waits,
    /// There is no claim any more.
    Released,
}

/// How far a flow is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FlowStage {
    /// It is dialled.
    Dialled,
    /// It is there.
    Open,
    /// This end is over, in good order.
    Ended,
    /// This end is over: it was given up, or never was.
    GivenUp,
    /// This end is over: it broke.
    Broken,
}

/// Keeps scenes, if somebody asks for them.
#[derive(Debug, Default)]
pub(crate) struct Scenes(Option<Vec<Scene>>);

impl Scenes {
    pub(crate) const fn new() -> Self {
        Self(None)
    }

    /// From here on scenes are kept.
    pub(crate) fn keep(&mut self) {
        self.0.get_or_insert_with(Vec::new);
    }

    pub(crate) fn tell(&mut self, at: Duration, happening: impl FnOnce() -> Happening) {
        if let Some(scenes) = &mut self.0 {
            let happening = happening();
            scenes.push(Scene { at, happening });
        }
    }

    /// All scenes of some sources, in the order of their times.
    pub(crate) fn merged<const N: usize>(sources: [Self; N]) -> Vec<Scene> {
        let mut all: Vec<_> = sources.into_iter().flat_map(|it| it.0).flatten().collect();
        all.sort_by_key(|scene| scene.at);
        all
    }
}

impl From<MemberState> for Seen {
    fn from(state: MemberState) -> Self {
        match state {
            MemberState::Alive => Self::Alive,
            MemberState::Suspect => Self::Suspect,
            MemberState::Down { .. } => Self::Down,
            MemberState::Left { .. } => Self::Left,
        }
    }
}

impl Seen {
    /// A word for it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Down => "down",
            Self::Left => "left",
        }
    }
}

pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn nanoseconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(nanos(*time))
}

fn words<S: Serializer>(name: &EndpointName, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(name)
}
