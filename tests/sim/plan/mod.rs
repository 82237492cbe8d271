//! Plans: what is going to happen to a fabric, as data.
//!
//! A [`Plan`] has nodes, links, timed operations and timed faults. A seed expands to one through
//! [`Plan::of_seed`]; people write others by hand. Both have the same text form ([`Plan::parse`] and
//! `Display`), so that what a seed found can be kept, cut down and read.
//!
//! # The text form
//!
//! ```text
//! # Two halves claim the same name.
//! tier control
//! seed 1
//! nodes 4
//! link latency 1ms
//! link loss 0.5%
//! chaos 60s
//! at 10s cut n0,n1 from n2,n3 for 20s
//! at 15s claim n1 printer
//! at 15s claim n3 printer
//! ```
//!
//! The tier, the seed and what the links are like may be left out. A fault without `for` lasts until
//! the chaos is over. Then all faults end: links are as they were at first, crashed nodes are back.
//!
//! With `core n0,n2` that comes in two steps. First these nodes alone are back, and well, as are the
//! links among them; all that is wrong elsewhere at that moment stays so. The core has to live all
//! the same: its nodes agree on each other and on their names, and reach each other. Then the rest
//! follows.
//!
//! Both tiers take every plan. What has no meaning over messages, as a flow or a flipped bit, does
//! nothing in the control tier.

mod fault;
mod operation;
mod profile;
mod text;
mod words;
mod workload;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};

pub(crate) use self::fault::Turn;
pub use self::fault::{Attack, Fault, HostFault, Weather};
pub use self::operation::{CallPlan, FlowEnd, FlowPlan, Operation, Reading};
pub use self::text::PlanError;
use crate::executor::Policy;
use crate::network::Link;

/// What is going to happen to a fabric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What is simulated.
    pub tier: Tier,
    /// All randomness that is left: of nodes, tasks and datagrams.
    pub seed: u64,
    /// How many nodes there are. They start one after the other and join through the first.
    pub nodes: u32,
    /// What every link is like when nothing is wrong.
    pub link: Link,
    /// In which order tasks that are ready at once get their turns.
    pub policy: Policy,
    /// How many of a million polls are followed by a wake for nothing.
    pub spurious_wakes: u32,
    /// How large windows and queues are.
    pub room: Room,
    /// When all faults end.
    pub chaos: Duration,
    /// Who is healed first, while all that is wrong with others stays so; nobody if all faults end
    /// at once. The first node, through which they find each other, is always among
    /// them, and another.
    pub core: Vec<NodeId>,
    /// What happens until then.
    pub steps: Vec<Step>,
}

/// How much of a node is simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// Membership and names alone, over messages.
    Control,
    /// Whole nodes: datagrams, QUIC, TLS, flows, and programs that use them.
    Full,
}

/// How large the windows and queues of the nodes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Room {
    /// As the product has them.
    #[default]
    Default,
    /// So small that programs have to wait, and full queues refuse.
    Tight,
}

/// A node of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

/// Something that happens at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// When, since the start.
    pub at: Duration,
    /// What.
    pub action: Action,
}

/// Something that happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A program does something.
    Operate(Operation),
    /// Something goes wrong.
    Disturb {
        /// What.
        fault: Fault,
        /// For how long; `None` until the chaos is over.
        lasts: Option<Duration>,
    },
}

impl Plan {
    /// When the last step takes place, or the chaos is over.
    #[must_use]
    pub fn chaos_end(&self) -> Duration {
        let last = self.steps.iter().map(|step| step.at).max();
        self.chaos.max(last.unwrap_or_default())
    }

    /// Whether a fault is about the nodes of the core, and so ends with their healing. What is wrong
    /// with links ends between them alone, and goes on elsewhere.
    pub(crate) fn ends_with_core(&self, fault: &Fault) -> bool {
        match fault {
            Fault::RollingRestart(_) => true,
            Fault::Crash(_)
            | Fault::Move(_)
            | Fault::SetBack(_)
            | Fault::Swap(..)
            | Fault::Pause(_)
            | Fault::ClockAhead(..)
            | Fault::ClockBehind(..)
            | Fault::Host(..)
            | Fault::Attack(..) => fault.nodes().iter().any(|node| self.core.contains(node)),
            Fault::Cut(..)
            | Fault::CutOneWay(..)
            | Fault::Flap(..)
            | Fault::Jam(..)
            | Fault::Ring
            | Fault::Swizzle(_)
            | Fault::SlowLinks(..)
            | Fault::LosePacket(..)
            | Fault::Latency(_)
            | Fault::Jitter(_)
            | Fault::Loss(_)
            | Fault::Duplicate(_)
            | Fault::Reorder(_)
            | Fault::Weather(_) => false,
        }
    }

    /// The same without its attackers, if it has some and nothing else goes wrong: nothing that a
    /// draw decides may depend on them.
    pub(crate) fn without_attacks(&self) -> Option<Self> {
        let is_attack = |step: &Step| {
            let attack = matches!(
                &step.action,
                Action::Disturb {
                    fault: Fault::Attack(..),
                    ..
                }
            );
            attack || matches!(&step.action, Action::Operate(_))
        };
        let mut calm = self.clone();
        calm.steps
            .retain(|step| matches!(&step.action, Action::Operate(_)));
        let are_all = self.steps.iter().all(is_attack);
        let is_orderly = self.policy == Policy::Fifo && self.spurious_wakes == 0;
        (is_orderly && are_all && calm.steps.len() < self.steps.len()).then_some(calm)
    }

    /// What attackers do.
    pub(crate) fn attacks(&self) -> impl Iterator<Item = Attack> {
        self.steps.iter().filter_map(|step| {
            let Action::Disturb { fault, .. } = &step.action else {
                return None;
            };
            let Fault::Attack(_, attack) = fault else {
                return None;
            };
            Some(*attack)
        })
    }

    /// Those that a node of a ring does not reach.
    pub(crate) fn beyond_neighbours(&self, id: NodeId) -> Vec<NodeId> {
        let is_beyond = |other: &NodeId| {
            let distance = other.0.abs_diff(id.0);
            distance.min(self.nodes - distance) > 1
        };
        self.node_ids().filter(is_beyond).collect()
    }

    /// All nodes.
    pub fn node_ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.nodes).map(NodeId)
    }
}

impl NodeId {
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

impl Serialize for NodeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Control => "control",
            Self::Full => "full",
        })
    }
}

impl FromStr for Tier {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "control" => Ok(Self::Control),
            "full" => Ok(Self::Full),
            _ => Err(format!("{text} is no tier: say control or full")),
        }
    }
}
