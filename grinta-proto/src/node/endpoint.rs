//! The endpoints of this node and the flows that wait at them.
//!
//! A flow from this process and one from another node wait in the same queue, under the same
//! limit, and are refused for the same reasons: what a dialler can observe does not depend on
//! where it runs.

use std::collections::{BTreeMap, VecDeque};

use crate::name::{EndpointName, NodeName};
use crate::node::control::ClaimError;
use crate::node::dial::DialId;
use crate::node::flow::FlowId;
use crate::node::snapshot::{EndpointSnapshot, EndpointStanding, Level};
use crate::wire::stream::{FlowAnswer, OpenFlow, RefusalReason};

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
    /// This node is shutting down.
    #[error("this node is shutting down")]
    ShuttingDown,
}

/// The endpoints of this node.
#[derive(Debug, Default)]
pub(crate) struct Endpoints {
    names: BTreeMap<EndpointName, EndpointId>,
    endpoints: BTreeMap<EndpointId, EndpointState>,
    incoming: BTreeMap<IncomingId, Incoming>,
    issued: u64,
}

#[derive(Debug)]
struct EndpointState {
    name: EndpointName,
    standing: Standing,
    queue: VecDeque<IncomingId>,
    queue_max: usize,
}

/// Whether an endpoint takes flows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The claim of its name is not decided.
    Claiming,
    /// It takes flows.
    Open,
    /// Another node owns its name.
    Lost { winner: NodeName },
}

impl Endpoints {
    /// A new endpoint whose name is still to be claimed. `None` if this node has one by the name.
    pub(crate) fn insert(&mut self, name: &EndpointName, queue_max: usize) -> Option<EndpointId> {
        if self.names.contains_key(name) {
            return None;
        }
        let id = EndpointId(self.issue());
        self.names.insert(name.clone(), id);
        let state = EndpointState {
            name: name.clone(),
            standing: Standing::Claiming,
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
            .filter_map(|incoming| self.incoming.remove(incoming))
            .collect();
        Some((state.name, waiting))
    }

    pub(crate) fn id_of(&self, name: &EndpointName) -> Option<EndpointId> {
        self.names.get(name).copied()
    }

    pub(crate) fn name_of(&self, id: EndpointId) -> Option<&EndpointName> {
        self.endpoints.get(&id).map(|state| &state.name)
    }

    pub(crate) fn len(&self) -> usize {
        self.endpoints.len()
    }

    pub(crate) fn set_standing(&mut self, id: EndpointId, standing: Standing) {
        if let Some(state) = self.endpoints.get_mut(&id) {
            state.standing = standing;
        }
    }

    /// Queues a flow at the endpoint that it names, or says why not.
    pub(crate) fn offer(
        &mut self,
        origin: Origin,
        open: OpenFlow,
    ) -> Result<(EndpointId, IncomingId), FlowAnswer> {
        let refuse = |reason, detail: String| Err(FlowAnswer::Refused { reason, detail });
        let Some(&endpoint) = self.names.get(&open.endpoint) else {
            return refuse(RefusalReason::NotFound, String::new());
        };
        let id = IncomingId(self.issue());
        let Some(state) = self.endpoints.get_mut(&endpoint) else {
            return refuse(RefusalReason::NotFound, String::new());
        };
        match &state.standing {
            Standing::Claiming => return refuse(RefusalReason::NotFound, String::new()),
            Standing::Lost { winner } => {
                return refuse(RefusalReason::Moved, winner.to_string());
            }
            Standing::Open if state.queue.len() >= state.queue_max => {
                let waiting = format!("{} flows wait there already", state.queue.len());
                return refuse(RefusalReason::Busy, waiting);
            }
            Standing::Open => {}
        }
        state.queue.push_back(id);
        self.incoming.insert(id, Incoming { id, origin, open });
        Ok((endpoint, id))
    }

    /// Hands the flow that has waited longest to the endpoint's task, which has to answer it.
    pub(crate) fn take(&mut self, endpoint: EndpointId) -> Option<Incoming> {
        let id = self.endpoints.get_mut(&endpoint)?.queue.pop_front()?;
        self.incoming.get(&id).cloned()
    }

    /// Forgets a flow that is answered or withdrawn, wherever it stands.
    pub(crate) fn settle(&mut self, id: IncomingId) -> Option<Incoming> {
        let incoming = self.incoming.remove(&id)?;
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
        std::mem::take(&mut self.incoming).into_values().collect()
    }

    /// All endpoints, in the order of their names.
    pub(crate) fn snapshots(&self) -> Vec<EndpointSnapshot> {
        let states = self.names.values().filter_map(|id| self.endpoints.get(id));
        states
            .map(|state| EndpointSnapshot {
                name: state.name.clone(),
                standing: EndpointStanding::from(&state.standing),
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
