//! The endpoints of this node, as a program uses them; and how one comes to its name, loses it and
//! gets it back.

use std::time::{Duration, Instant};

use crate::name::{EndpointName, NodeName};
use crate::node::control::{self, ClaimError, ClaimMode, ConfirmError};
use crate::node::endpoint::{
    Claiming, EndpointId, EndpointRefusal, Hold, Incoming, IncomingId, Origin, Standing,
};
use crate::node::event::Event;
use crate::node::{Command, Node, refusal};
use crate::wire::stream::{FlowAnswer, RefusalReason};

impl Node {
    /// Claims a name for an endpoint of this node. Ends with [`Event::EndpointOpened`].
    ///
    /// # Errors
    /// [`EndpointRefusal`] if this node holds the name, or too many.
    pub fn open_endpoint(
        &mut self,
        name: &EndpointName,
        queue_max: usize,
        claiming: Claiming,
    ) -> Result<EndpointId, EndpointRefusal> {
        let limit = self.config.limits.endpoints_max;
        if self.endpoints.len() >= limit {
            return Err(EndpointRefusal::TooMany { limit });
        }
        let id = self
            .endpoints
            .insert(name, queue_max, claiming)
            .ok_or_else(|| ClaimError::AlreadyHeld { name: name.clone() })?;
        self.commands.push_back(Command::Claim(id));
        Ok(id)
    }

    /// Releases the endpoint's name and refuses the flows that wait at it. Open flows live on.
    pub fn close_endpoint(&mut self, endpoint: EndpointId) {
        let Some((name, waiting)) = self.endpoints.remove(endpoint) else {
            return;
        };
        for incoming in waiting {
            self.deliver(
                incoming,
                refusal(RefusalReason::NotFound, "the endpoint was closed"),
            );
        }
        self.commands.push_back(Command::Release(name));
    }

    /// The flow that has waited longest at an endpoint. It must be answered.
    pub fn take_incoming(&mut self, endpoint: EndpointId) -> Option<Incoming> {
        self.endpoints.take(endpoint)
    }

    /// Answers a flow. Returns whether its dialler was still there.
    pub fn answer(&mut self, incoming: IncomingId, answer: FlowAnswer) -> bool {
        match self.endpoints.settle(incoming) {
            Some(incoming) => self.deliver(incoming, answer),
            None => false,
        }
    }

    /// What an endpoint has to do with its name; `None` until it is open.
    #[must_use]
    pub fn standing(&self, endpoint: EndpointId) -> Option<&Standing> {
        self.endpoints.standing(endpoint)
    }

    /// Brings an answer to whoever dialled.
    pub(super) fn deliver(&mut self, incoming: Incoming, answer: FlowAnswer) -> bool {
        let flow = match incoming.origin {
            Origin::Local { dial } => return self.answer_here(dial, answer),
            Origin::Remote { flow, .. } => flow,
        };
        let peer = self.connections.touch(flow.peer);
        let direction = incoming.open.direction;
        let is_there = peer.is_some_and(|peer| peer.answer(flow.stream, direction, &answer));
        match answer {
            FlowAnswer::Accepted { .. } if is_there => self.counters.flows_accepted += 1,
            FlowAnswer::Refused { .. } if is_there => self.counters.flows_refused += 1,
            FlowAnswer::Accepted { .. } | FlowAnswer::Refused { .. } => {}
        }
        is_there
    }

    pub(super) fn claim(&mut self, now: Instant, unix_time: Duration, endpoint: EndpointId) {
        let Some((name, claiming)) = self.endpoints.claiming(endpoint) else {
            return;
        };
        match self.try_claim(now, unix_time, &name, claiming) {
            Ok(hold) => {
                let is_decided = hold != Hold::Confirming;
                self.endpoints.set_hold(endpoint, hold);
                if is_decided {
                    self.tell_opened(endpoint, Ok(()));
                }
                self.handle_name(now, &name);
            }
            Err(refusal) => {
                self.endpoints.remove(endpoint);
                self.tell_opened(endpoint, Err(refusal));
            }
        }
    }

    fn try_claim(
        &mut self,
        now: Instant,
        unix_time: Duration,
        name: &EndpointName,
        claiming: Claiming,
    ) -> Result<Hold, EndpointRefusal> {
        if !self.phase.is_open() {
            return Err(EndpointRefusal::ShuttingDown);
        }
        let mode = match claiming {
            Claiming::Exclusive => ClaimMode::Exclusive,
            Claiming::Standby => ClaimMode::Standby,
            Claiming::Shared => ClaimMode::Shared,
            Claiming::Confirmed(confirmation) => {
                self.control
                    .claim_confirmed(now, unix_time, name.clone(), confirmation)?;
                return Ok(Hold::Confirming);
            }
        };
        let standing = self.control.claim(now, unix_time, name.clone(), mode)?;
        let owner = self.control.directory().owner_of(name);
        Ok(Hold::Claimed(match (standing, owner) {
            (control::directory::Standing::Standby, Some(owner)) => Standing::Standby {
                owner: owner.clone(),
            },
            (control::directory::Standing::Standby | control::directory::Standing::Owner, _) => {
                Standing::Owner
            }
        }))
    }

    /// A claim that was to be confirmed has come to its end.
    pub(super) fn handle_confirmed(
        &mut self,
        name: &EndpointName,
        result: Result<(), ConfirmError>,
    ) {
        let Some(endpoint) = self.endpoints.confirming(name) else {
            return;
        };
        let Err(error) = result else {
            let owner = Hold::Claimed(Standing::Owner);
            self.endpoints.set_hold(endpoint, owner);
            return self.tell_opened(endpoint, Ok(()));
        };
        let waiting = self.endpoints.remove(endpoint);
        let answer = match &error {
            ConfirmError::Claim(ClaimError::Taken { owner, .. }) => {
                refusal(RefusalReason::Moved, owner.as_str())
            }
            ConfirmError::Claim(_)
            | ConfirmError::TimedOut { .. }
            | ConfirmError::TooMany { .. }
            | ConfirmError::ShuttingDown => {
                refusal(RefusalReason::NotFound, "the claim was not confirmed")
            }
        };
        for incoming in waiting.into_iter().flat_map(|(_, waiting)| waiting) {
            self.deliver(incoming, answer.clone());
        }
        self.tell_opened(endpoint, Err(error.into()));
    }

    pub(super) fn handle_name_lost(&mut self, name: &EndpointName, winner: NodeName) {
        if let Some((endpoint, _)) = self.endpoints.standing_of(name) {
            let owner = winner.clone();
            let standby = Hold::Claimed(Standing::Standby { owner });
            self.endpoints.set_hold(endpoint, standby);
            self.events.push_back(Event::NameLost { endpoint, winner });
        }
    }

    pub(super) fn handle_name_promoted(&mut self, name: &EndpointName) {
        if let Some((endpoint, _)) = self.endpoints.standing_of(name) {
            let owner = Hold::Claimed(Standing::Owner);
            self.endpoints.set_hold(endpoint, owner);
            self.events.push_back(Event::NameRegained { endpoint });
        }
    }

    /// Another node has come to own a name for which an endpoint of ours may stand by.
    pub(super) fn handle_name_moved(&mut self, name: &EndpointName, owner: &NodeName) {
        let Some((endpoint, Standing::Standby { owner: known })) = self.endpoints.standing_of(name)
        else {
            return;
        };
        if known != owner && *owner != self.config.node {
            let owner = owner.clone();
            let standby = Hold::Claimed(Standing::Standby { owner });
            self.endpoints.set_hold(endpoint, standby);
            self.events.push_back(Event::OwnerChanged { endpoint });
        }
    }

    fn tell_opened(&mut self, endpoint: EndpointId, result: Result<(), EndpointRefusal>) {
        self.events
            .push_back(Event::EndpointOpened { endpoint, result });
    }
}
