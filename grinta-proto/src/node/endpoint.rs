//! The endpoints of this node and the flows that wait at them.
//!
//! A flow from this process and one from another node wait in the same queue, under the same
//! limit, and are refused for the same reasons: what a dialler can observe does not depend on
//! where it runs.

use std::collections::{BTreeMap, VecDeque};

use crate::name::{EndpointName, NodeName};
use crate::node::control::{ClaimError, ConfirmError, Confirmation};
use crate::node::dial::DialId;
use crate::node::flow::FlowId;
use crate::node::snapshot::{EndpointSnapshot, EndpointStanding, Level};
use crate::wire::stream::{FlowAnswer, OpenFlow, Refusal, RefusalReason};

/// Names an endpoint of this node; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(u64);

/// Names a flow that waits to be answered; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IncomingId(u64);

/// A flow that was dialled and waits for an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Incoming {
    /// To answer it with.
    pub id: IncomingId,
    /// Who dialled it.
    pub origin: Origin,
    /// What the dialler asks for.
    pub open: OpenFlow,
}

/// Where a flow was dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// In this process.
    Local {
        /// The dial.
        dial: DialId,
    },
    /// At another node.
    Remote {
        /// The flow.
        flow: FlowId,
        /// The node, as its certificate names it.
        node: NodeName,
    },
}

/// Why an endpoint was not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointRefusal {
    /// The directory refused the claim of its name.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// This node has as many endpoints as it may have.
    #[error("this node has {limit} endpoints; close some, or raise `endpoints_max`")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// Too few members said in time that they see this node as the owner. The name is given up.
    #[error("{agreed} of {members} members confirmed the name in time; it takes {needed}")]
    Unconfirmed {
        /// How many members confirmed it.
        agreed: usize,
        /// How many there are.
        members: usize,
        /// How many it takes.
        needed: usize,
    },
    /// Too many queries and confirmations are under way.
    #[error(
        "{limit} queries and confirmations are under way; wait for some, or raise `queries_max`"
    )]
    TooManyQueries {
        /// The limit.
        limit: usize,
    },
    /// This node is shutting down.
    #[error("this node is shutting down")]
    ShuttingDown,
}

impl From<ConfirmError> for EndpointRefusal {
    fn from(error: ConfirmError) -> Self {
        match error {
            ConfirmError::Claim(error) => Self::Claim(error),
            ConfirmError::TimedOut {
                agreed,
                members,
                needed,
                name: _,
            } => Self::Unconfirmed {
                agreed,
                members,
                needed,
            },
            ConfirmError::TooMany { limit } => Self::TooManyQueries { limit },
            ConfirmError::ShuttingDown => Self::ShuttingDown,
        }
    }
}

/// How an endpoint claims its name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Claiming {
    /// Alone; refused while another node serves the name.
    #[default]
    Exclusive,
    /// Alone; while another node serves the name the endpoint stands by, and takes over by itself.
    Standby,
    /// Beside all other nodes that share the name; refused while a node serves it alone.
    Shared,
    /// Alone, and open once members have confirmed that they see it. Flows wait until then.
    Confirmed(Confirmation),
}

/// What an open endpoint has to do with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It owns the name and takes flows.
    Owner,
    /// Another node owns the name. The endpoint takes over when that gives the name up or is down.
    Standby {
        /// Which.
        owner: NodeName,
    },
}

/// The endpoints of this node.
#[derive(Debug, Default)]
pub(crate) struct Endpoints {
    names: BTreeMap<EndpointName, EndpointId>,
    endpoints: BTreeMap<EndpointId, EndpointState>,
    incoming: BTreeMap<IncomingId, Box<Incoming>>,
    issued: u64,
}

#[derive(Debug)]
struct EndpointState {
    name: EndpointName,
    claiming: Claiming,
    hold: Hold,
    queue: VecDeque<IncomingId>,
    queue_max: usize,
}

/// How far an endpoint is with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hold {
    /// The name is yet to be claimed.
    Unclaimed,
    /// The claim is yet to be confirmed.
    Confirming,
    /// The endpoint is open.
    Claimed(Standing),
}

impl Endpoints {
    /// A new endpoint whose name is still to be claimed. `None` if this node has one by the name.
    pub(crate) fn insert(
        &mut self,
        name: &EndpointName,
        queue_max: usize,
        claiming: Claiming,
    ) -> Option<EndpointId> {
        if self.names.contains_key(name) {
            return None;
        }
        let id = EndpointId(self.issue());
        self.names.insert(name.clone(), id);
        let state = EndpointState {
            name: name.clone(),
            claiming,
            hold: Hold::Unclaimed,
            queue: VecDeque::new(),
            queue_max,
        };
        self.endpoints.insert(id, state);
        Some(id)
    }

    /// Forgets an endpoint. Returns its name, and the flows that waited at it.
    pub(crate) fn remove(&mut self, id: EndpointId) -> Option<(EndpointName, Vec<Incoming>)> {
        let state = self.endpoints.remove(&id)?;
        self.names.remove(&state.name);
        let waiting = state
            .queue
            .iter()
            .filter_map(|incoming| Some(*self.incoming.remove(incoming)?))
            .collect();
        Some((state.name, waiting))
    }

    /// The name of an endpoint, and how it is to be claimed.
    pub(crate) fn claiming(&self, id: EndpointId) -> Option<(EndpointName, Claiming)> {
        let state = self.endpoints.get(&id)?;
        Some((state.name.clone(), state.claiming))
    }

    /// The endpoint whose claim of this name is yet to be confirmed.
    pub(crate) fn confirming(&self, name: &EndpointName) -> Option<EndpointId> {
        let id = self.names.get(name)?;
        (self.endpoints.get(id)?.hold == Hold::Confirming).then_some(*id)
    }

    /// The open endpoint by this name, and its standing.
    pub(crate) fn standing_of(&self, name: &EndpointName) -> Option<(EndpointId, &Standing)> {
        let id = *self.names.get(name)?;
        Some((id, self.standing(id)?))
    }

    /// The standing of an open endpoint.
    pub(crate) fn standing(&self, id: EndpointId) -> Option<&Standing> {
        match &self.endpoints.get(&id)?.hold {
            Hold::Claimed(standing) => Some(standing),
            Hold::Unclaimed | Hold::Confirming => None,
        }
    }

    pub(crate) fn name(&self, id: EndpointId) -> Option<&EndpointName> {
        Some(&self.endpoints.get(&id)?.name)
    }

    pub(crate) fn len(&self) -> usize {
        self.endpoints.len()
    }

    pub(crate) fn set_hold(&mut self, id: EndpointId, hold: Hold) {
        if let Some(state) = self.endpoints.get_mut(&id) {
            state.hold = hold;
        }
    }

    /// Queues a flow at the endpoint that it names, or says why not.
    pub(crate) fn offer(
        &mut self,
        origin: Origin,
        mut open: OpenFlow,
    ) -> Result<(EndpointId, IncomingId), FlowAnswer> {
        let refuse =
            |reason, detail: String| Err(FlowAnswer::Refused(Refusal::new(reason, detail)));
        let Some(&endpoint) = self.names.get(&open.endpoint) else {
            return refuse(RefusalReason::NotFound, String::new());
        };
        let id = IncomingId(self.issue());
        let Some(state) = self.endpoints.get_mut(&endpoint) else {
            return refuse(RefusalReason::NotFound, String::new());
        };
        match &state.hold {
            Hold::Unclaimed => return refuse(RefusalReason::NotFound, String::new()),
            Hold::Claimed(Standing::Standby { owner }) => {
                return refuse(RefusalReason::Moved, owner.to_string());
            }
            Hold::Confirming | Hold::Claimed(Standing::Owner) => {}
        }
        if state.queue.len() >= state.queue_max {
            let waiting = format!("{} flows wait there already", state.queue.len());
            return refuse(RefusalReason::Busy, waiting);
        }
        state.queue.push_back(id);
        // One copy of a name is enough for all flows to it.
        open.endpoint = state.name.clone();
        let incoming = Incoming { id, origin, open };
        self.incoming.insert(id, Box::new(incoming));
        Ok((endpoint, id))
    }

    /// Hands the flow that has waited longest to the endpoint's task, which has to answer it.
    pub(crate) fn take(&mut self, endpoint: EndpointId) -> Option<Incoming> {
        let id = self.endpoints.get_mut(&endpoint)?.queue.pop_front()?;
        self.incoming.get(&id).map(|incoming| (**incoming).clone())
    }

    /// Forgets a flow that is answered or withdrawn, wherever it stands.
    pub(crate) fn settle(&mut self, id: IncomingId) -> Option<Incoming> {
        let incoming = *self.incoming.remove(&id)?;
        let endpoint = self.names.get(&incoming.open.endpoint);
        if let Some(state) = endpoint.and_then(|endpoint| self.endpoints.get_mut(endpoint)) {
            state.queue.retain(|&waiting| waiting != id);
        }
        Some(incoming)
    }

    /// Takes every flow that waits, at all endpoints.
    pub(crate) fn take_all(&mut self) -> Vec<Incoming> {
        for state in self.endpoints.values_mut() {
            state.queue.clear();
        }
        let incoming = std::mem::take(&mut self.incoming).into_values();
        incoming.map(|incoming| *incoming).collect()
    }

    /// All endpoints, in the order of their names.
    pub(crate) fn snapshots(&self) -> Vec<EndpointSnapshot> {
        let states = self.names.values().filter_map(|id| self.endpoints.get(id));
        states
            .map(|state| EndpointSnapshot {
                name: state.name.clone(),
                standing: EndpointStanding::from(&state.hold),
                accept_queue: Level {
                    used: state.queue.len(),
                    limit: state.queue_max,
                },
            })
            .collect()
    }

    /// Flows that were offered and are not answered.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.incoming.len()
    }

    fn issue(&mut self) -> u64 {
        self.issued += 1;
        self.issued
    }
}
