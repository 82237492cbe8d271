//! How a node brings a dial to its end: resolve, connect, open, ask; and again with what was
//! learnt, within the same deadline.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use crate::name::{EndpointName, NodeName};
use crate::node::control::{Holder, Resolution};
use crate::node::dial::{Dial, DialCause, DialId, DialRequest, DialState, UnknownName};
use crate::node::endpoint::Origin;
use crate::node::event::{ConnectError, Dialled, Event, FlowLoss};
use crate::node::flow::FlowId;
use crate::node::peer::PeerKey;
use crate::node::{Node, Phase, Timer};
use crate::wire::code::Code;
use crate::wire::stream::{FlowAnswer, Refusal, RefusalReason};

impl Node {
    pub(super) fn begin_dial(&mut self, now: Instant, id: DialId, request: DialRequest) {
        let limit = self.config.limits.dials_max;
        let refused = if self.phase.is_open() {
            (self.dials.len() >= limit).then_some(DialCause::TooMany { limit })
        } else {
            Some(DialCause::ShuttingDown)
        };
        let timer = self.timers.arm(now, request.timeout, Timer::Dial(id));
        let state = DialState::Resolving;
        let dial = Dial {
            request,
            started: now,
            timer,
            state,
            attempts: Vec::new(),
        };
        self.dials.insert(id, Box::new(dial));
        match refused {
            Some(cause) => self.fail_dial(now, id, cause),
            None => self.drive_dial(now, id),
        }
    }

    /// Takes a dial as far as it goes with what is known.
    pub(super) fn drive_dial(&mut self, now: Instant, id: DialId) {
        let Some(dial) = self.dials.get_mut(&id) else {
            return;
        };
        dial.state = DialState::Resolving;
        let name = dial.request.open.endpoint.clone();
        let unknown_name = dial.request.unknown_name;
        if let Some(node) = dial.request.at.clone() {
            return self.drive_dial_at(now, id, &name, node);
        }
        match self.choose(id) {
            Some(Holder::Local) => return self.ask_here(now, id),
            Some(Holder::Remote { node, address, .. }) => return self.ask(now, id, &node, address),
            None => {}
        }
        match self.control.resolve(&name) {
            Resolution::Local => self.ask_here(now, id),
            Resolution::Remote { .. } if self.phase != Phase::Running => {
                self.fail_dial(now, id, DialCause::Left);
            }
            Resolution::Remote { owner, address, .. } => self.ask(now, id, &owner, address),
            Resolution::NotSynced => self.wait_for_name(id, name),
            Resolution::NotFound => self.handle_unheld(now, id, name),
            Resolution::Unreachable { .. } if unknown_name == UnknownName::Wait => {
                self.wait_for_name(id, name);
            }
            Resolution::Unreachable { owner, since } => {
                self.fail_dial(now, id, unreachable(now, owner, since));
            }
        }
    }

    /// As [`drive_dial`](Self::drive_dial), to one node.
    fn drive_dial_at(&mut self, now: Instant, id: DialId, name: &EndpointName, node: NodeName) {
        let mut holders = self.control.holders(name).into_iter();
        match holders.find(|holder| *self.holder_name(holder) == node) {
            Some(Holder::Local) => self.ask_here(now, id),
            Some(Holder::Remote { .. }) if self.phase != Phase::Running => {
                self.fail_dial(now, id, DialCause::Left);
            }
            Some(Holder::Remote { address, .. }) => self.ask(now, id, &node, address),
            None if self.control.resolve(name) == Resolution::NotSynced => {
                self.fail_dial(now, id, DialCause::NotSynced);
            }
            None => self.fail_dial(now, id, DialCause::NotAt { node }),
        }
    }

    /// A name has come to have an owner: dials that wait for it try again.
    pub(super) fn handle_name(&mut self, now: Instant, name: &EndpointName) {
        for id in self.resolving.remove(name).unwrap_or_default() {
            self.drive_dial(now, id);
        }
    }

    /// The names are known: every dial that waits for one tries again.
    pub(super) fn handle_synced(&mut self, now: Instant) {
        for id in std::mem::take(&mut self.resolving).into_values().flatten() {
            self.drive_dial(now, id);
        }
    }

    fn stop_waiting(&mut self, id: DialId, name: &EndpointName) {
        if let Some(waiting) = self.resolving.get_mut(name) {
            waiting.remove(&id);
            if waiting.is_empty() {
                self.resolving.remove(name);
            }
        }
    }

    fn stop_opening(&mut self, id: DialId, node: &NodeName) {
        if let Some(waiting) = self.opening.get_mut(node) {
            waiting.retain(|&other| other != id);
            if waiting.is_empty() {
                self.opening.remove(node);
            }
        }
    }

    fn wait_for_name(&mut self, id: DialId, name: EndpointName) {
        self.resolving.entry(name).or_default().insert(id);
    }

    /// The endpoint is ours: the flow waits in its queue like any other.
    fn ask_here(&mut self, now: Instant, id: DialId) {
        let Some(dial) = self.dials.get_mut(&id) else {
            return;
        };
        let open = dial.request.open.clone();
        match self.endpoints.offer(Origin::Local { dial: id }, open) {
            Ok((endpoint, incoming)) => {
                dial.state = DialState::AskingHere { incoming };
                self.events.push_back(Event::Incoming { endpoint });
            }
            Err(FlowAnswer::Refused(refusal)) => {
                let node = self.config.node.clone();
                self.handle_refused(now, id, node, refusal);
            }
            Err(FlowAnswer::Accepted { .. }) => {}
        }
    }

    fn ask(&mut self, now: Instant, id: DialId, owner: &NodeName, address: SocketAddr) {
        if let Some(key) = self.connections.up(owner)
            && !self.is_outdated(owner, key)
        {
            return self.ask_over(id, owner, key);
        }
        if let Some(dial) = self.dials.get_mut(&id) {
            dial.state = DialState::Connecting {
                node: owner.clone(),
            };
        }
        if let Err(error) = self.connect_node(now, owner, address) {
            self.fail_dial(
                now,
                id,
                DialCause::Connect {
                    node: owner.clone(),
                    error,
                },
            );
        }
    }

    /// Opens a stream for the dial, or queues it until the peer allows one more.
    fn ask_over(&mut self, id: DialId, owner: &NodeName, key: PeerKey) {
        let Some(dial) = self.dials.get_mut(&id) else {
            return;
        };
        let Some(peer) = self.connections.touch(key) else {
            return;
        };
        if let Some(known) = self.whereabouts.known(&dial.request.open.endpoint) {
            // One copy of a name is enough for all flows to it.
            dial.request.open.endpoint = known.clone();
        }
        match peer.open(id, &dial.request, &self.config.limits) {
            Some(stream) => {
                self.counters.streams_established += 1;
                let flow = FlowId { peer: key, stream };
                dial.state = DialState::Asking {
                    node: owner.clone(),
                    flow,
                };
                if let Some(session) = self.connections.session(owner, key) {
                    let name = &dial.request.open.endpoint;
                    self.whereabouts.note(name, owner, session);
                }
            }
            None => {
                dial.state = DialState::Opening {
                    node: owner.clone(),
                };
                self.opening.entry(owner.clone()).or_default().push_back(id);
            }
        }
    }

    /// A connection to the node came up, or its peer allows more streams.
    pub(super) fn resume_dials(&mut self, now: Instant, node: &NodeName) {
        let waits = DialState::Opening { node: node.clone() };
        let mut queue = self.opening.remove(node).unwrap_or_default();
        while let Some(id) = queue.pop_front() {
            let still_waits = |dials: &BTreeMap<DialId, Box<Dial>>| {
                dials.get(&id).is_some_and(|dial| dial.state == waits)
            };
            if !still_waits(&self.dials) {
                continue;
            }
            self.drive_dial(now, id);
            if still_waits(&self.dials) {
                // No stream was left for it: it and those behind it keep their places.
                queue.push_front(id);
                self.opening.insert(node.clone(), queue);
                return;
            }
        }
    }

    pub(super) fn dials_connecting_to(&self, node: &NodeName) -> Vec<DialId> {
        let waits = DialState::Connecting { node: node.clone() };
        let waiting = self.dials.iter().filter(|(_, dial)| dial.state == waits);
        waiting.map(|(&id, _)| id).collect()
    }

    /// A connection that dials wait for did not come up: those whose name has another holder by
    /// now, or the same one at another address, try again.
    pub(super) fn handle_connect_failed(
        &mut self,
        now: Instant,
        node: &NodeName,
        address: SocketAddr,
        error: &ConnectError,
    ) {
        for id in self.dials_connecting_to(node) {
            let Some(dial) = self.dials.get(&id) else {
                continue;
            };
            let cause = DialCause::Connect {
                node: node.clone(),
                error: error.clone(),
            };
            let moved = match self.control.resolve(&dial.request.open.endpoint) {
                Resolution::Local => true,
                Resolution::Remote {
                    owner, address: at, ..
                } => owner != *node || at != address,
                Resolution::NotFound => self
                    .restarted_holder(id)
                    .is_some_and(|(owner, at)| owner != *node || at != address),
                Resolution::Unreachable { .. } | Resolution::NotSynced => false,
            };
            let goes_on = moved || self.has_another(id, node);
            let Some(dial) = self.dials.get_mut(&id) else {
                continue;
            };
            let may_go_on = goes_on && dial.request.at.is_none();
            if may_go_on && dial.attempts.len() < ATTEMPTS_MAX {
                dial.note(now, node.clone(), cause);
                self.drive_dial(now, id);
            } else {
                self.fail_dial(now, id, cause);
            }
        }
    }

    /// Dials that wait for an answer over a connection.
    pub(super) fn dials_asking_over(&self, key: PeerKey) -> Vec<(DialId, FlowId)> {
        let asking = self
            .dials
            .iter()
            .filter_map(|(&id, dial)| match dial.state {
                DialState::Asking { flow, .. } if flow.peer == key => Some((id, flow)),
                DialState::Asking { .. }
                | DialState::AskingHere { .. }
                | DialState::Connecting { .. }
                | DialState::Opening { .. }
                | DialState::Resolving
                | DialState::Settling { .. } => None,
            });
        asking.collect()
    }

    /// A connection is gone under dials that had asked over it: they ask again.
    pub(super) fn handle_asked_lost(&mut self, now: Instant, key: PeerKey, loss: &FlowLoss) {
        for (id, _) in self.dials_asking_over(key) {
            let Some(dial) = self.dials.get(&id) else {
                continue;
            };
            let DialState::Asking { node, .. } = &dial.state else {
                continue;
            };
            let cause = DialCause::Broken {
                node: node.clone(),
                loss: loss.clone(),
            };
            self.retry_dial(now, id, cause);
        }
    }

    /// The holder answered.
    pub(super) fn handle_answer(&mut self, now: Instant, id: DialId, answer: FlowAnswer) {
        let Some(dial) = self.dials.get(&id) else {
            return;
        };
        let DialState::Asking { node, flow } = &dial.state else {
            return;
        };
        let (node, flow) = (node.clone(), *flow);
        match answer {
            FlowAnswer::Accepted { message_len_max } => {
                let direction = dial.request.open.direction;
                if let Some(peer) = self.connections.touch(flow.peer) {
                    peer.settle_direction(flow.stream, direction);
                }
                let dialled = Dialled::Remote {
                    flow,
                    node,
                    message_len_max,
                };
                self.end_dial(id, dialled);
            }
            FlowAnswer::Refused(refusal) => self.handle_refused(now, id, node, refusal),
        }
    }

    /// A holder refused, this node or another. If it does not hold the name any more, what is known
    /// of the name is out of date and the dial goes on with what is known now.
    fn handle_refused(&mut self, now: Instant, id: DialId, node: NodeName, refusal: Refusal) {
        let Refusal {
            reason,
            code,
            detail,
        } = refusal;
        let Some(dial) = self.dials.get_mut(&id) else {
            return;
        };
        let name = dial.request.open.endpoint.clone();
        let winner = NodeName::new(&detail).ok();
        let attempts = dial.attempts.len();
        let cause = DialCause::Refused {
            node: node.clone(),
            reason,
            code,
            detail,
        };
        if dial.request.at.is_some() {
            return self.fail_dial(now, id, cause);
        }
        let is_passing = matches!(reason, RefusalReason::Busy | RefusalReason::ShuttingDown);
        if is_passing && attempts < ATTEMPTS_MAX && self.has_another(id, &node) {
            if let Some(dial) = self.dials.get_mut(&id) {
                dial.note(now, node, cause);
            }
            return self.drive_dial(now, id);
        }
        // Who stands by for a node that leaves takes over.
        let successor = self.successor(id, &name, &node);
        let is_out_of_date = match reason {
            RefusalReason::NotFound | RefusalReason::Moved => true,
            RefusalReason::ShuttingDown => successor.is_some(),
            RefusalReason::Busy
            | RefusalReason::NotAllowed
            | RefusalReason::Mismatch
            | RefusalReason::Declined => false,
        };
        let Some(dial) = self.dials.get_mut(&id) else {
            return;
        };
        if !is_out_of_date || attempts >= ATTEMPTS_MAX {
            return self.fail_dial(now, id, cause);
        }
        dial.note(now, node.clone(), cause);
        dial.state = DialState::Resolving;
        match reason {
            RefusalReason::Moved => return self.follow_winner(now, id, winner),
            // It may come back, with this very claim: nothing is noted that outlives the dial.
            RefusalReason::ShuttingDown => return self.follow_winner(now, id, successor),
            RefusalReason::NotFound
            | RefusalReason::Busy
            | RefusalReason::NotAllowed
            | RefusalReason::Mismatch
            | RefusalReason::Declined => {}
        }
        if node != self.config.node {
            self.control.mark_stale(&node, &name);
        } else if reason == RefusalReason::NotFound {
            // Our own claim is about to be released: nobody holds the name.
            return self.handle_unheld(now, id, name);
        }
        self.drive_dial(now, id);
    }

    /// Who takes a name over from a node, of those that a dial has not tried.
    fn successor(&self, id: DialId, name: &EndpointName, from: &NodeName) -> Option<NodeName> {
        let dial = self.dials.get(&id)?;
        let candidates = self.control.directory().candidates(name).into_iter();
        let mut others = candidates.map(|located| located.owner);
        others.find(|other| other != from && !dial.has_tried(other))
    }

    /// A node that stands by for the name told who owns it: the dial goes there, whatever this node
    /// knows. If that one is gone, or was asked before, the nodes do not agree yet.
    fn follow_winner(&mut self, now: Instant, id: DialId, winner: Option<NodeName>) {
        let Some(dial) = self.dials.get(&id) else {
            return;
        };
        let is_new = |winner: &NodeName| dial.attempts.iter().all(|it| it.node != *winner);
        let Some(winner) = winner.filter(is_new) else {
            return self.let_settle(now, id);
        };
        if winner == self.config.node {
            return self.ask_here(now, id);
        }
        match self.control.member(&winner) {
            Some(member) if member.state.is_active() => {
                self.ask(now, id, &winner, member.address);
            }
            Some(_) | None => self.let_settle(now, id),
        }
    }

    /// Has a dial try again when gossip has had some time, more each time.
    fn let_settle(&mut self, now: Instant, id: DialId) {
        if let Some(dial) = self.dials.get_mut(&id) {
            let attempts = u32::try_from(dial.attempts.len()).unwrap_or(u32::MAX);
            let pause = attempts * self.config.membership.gossip_interval;
            let timer = self.timers.arm(now, pause, Timer::Redial(id));
            dial.state = DialState::Settling { timer };
        }
    }

    /// Nobody is known to hold the name: the dial asks who may hold it again, waits for it or fails.
    fn handle_unheld(&mut self, now: Instant, id: DialId, name: EndpointName) {
        if let Some((node, address)) = self.restarted_holder(id) {
            return self.ask(now, id, &node, address);
        }
        let Some(dial) = self.dials.get(&id) else {
            return;
        };
        match dial.request.unknown_name {
            UnknownName::Wait => self.wait_for_name(id, name),
            UnknownName::Fail => {
                let near = self.control.near(&name, NEAR_MAX);
                self.fail_dial(now, id, DialCause::NotFound { near });
            }
        }
    }

    /// The holder ended the stream without an answer.
    pub(super) fn handle_unanswered(&mut self, now: Instant, id: DialId, code: Code) {
        self.counters.streams_failed += 1;
        if let Some(dial) = self.dials.get(&id)
            && let DialState::Asking { node, .. } = &dial.state
        {
            let node = node.clone();
            self.fail_dial(now, id, DialCause::Ended { node, code });
        }
    }

    /// A task of this process answered. Returns whether the dial still waited.
    pub(super) fn answer_here(&mut self, id: DialId, answer: FlowAnswer) -> bool {
        if !self.dials.contains_key(&id) {
            return false;
        }
        match answer {
            FlowAnswer::Accepted { message_len_max } => {
                self.end_dial(id, Dialled::Local { message_len_max });
            }
            FlowAnswer::Refused(refusal) => {
                let node = self.config.node.clone();
                self.handle_refused(self.now, id, node, refusal);
            }
        }
        true
    }

    pub(super) fn expire_dial(&mut self, now: Instant, id: DialId) {
        let Some(dial) = self.dials.get(&id) else {
            return;
        };
        let name = &dial.request.open.endpoint;
        let cause = match &dial.state {
            DialState::Resolving => self.explain_unheld(name),
            DialState::Settling { .. }
            | DialState::Connecting { .. }
            | DialState::Opening { .. }
            | DialState::Asking { .. }
            | DialState::AskingHere { .. } => DialCause::TimedOut {
                limit: dial.request.timeout,
            },
        };
        self.fail_dial(now, id, cause);
    }

    /// Why there is nobody to dial by this name, as far as this node knows.
    #[must_use]
    pub fn explain_unheld(&self, name: &EndpointName) -> DialCause {
        match self.control.resolve(name) {
            Resolution::NotSynced => DialCause::NotSynced,
            Resolution::Unreachable { owner, since } => unreachable(self.now, owner, since),
            Resolution::Local | Resolution::Remote { .. } | Resolution::NotFound => {
                let near = self.control.near(name, NEAR_MAX);
                DialCause::NotFound { near }
            }
        }
    }

    /// Forgets a dial and whatever it had begun.
    pub(super) fn abandon_dial(&mut self, id: DialId, code: Code) -> Option<Dial> {
        let dial = *self.dials.remove(&id)?;
        self.timers.disarm(dial.timer);
        match &dial.state {
            DialState::Resolving => self.stop_waiting(id, &dial.request.open.endpoint),
            DialState::Settling { timer } => {
                self.timers.disarm(*timer);
            }
            DialState::Connecting { .. } => {}
            DialState::Opening { node } => self.stop_opening(id, node),
            DialState::Asking { flow, .. } => {
                if let Some(peer) = self.connections.touch(flow.peer) {
                    peer.abort(flow.stream, code);
                }
            }
            DialState::AskingHere { incoming } => {
                self.endpoints.settle(*incoming);
            }
        }
        Some(dial)
    }

    /// Asks again with what was learnt, unless it was tried too often, or a task there may have what
    /// went with the dial.
    pub(super) fn retry_dial(&mut self, now: Instant, id: DialId, cause: DialCause) {
        let Some(dial) = self.dials.get_mut(&id) else {
            return;
        };
        if dial.attempts.len() >= ATTEMPTS_MAX || dial.request.early.is_some() {
            return self.fail_dial(now, id, cause);
        }
        if let DialState::Asking { node, .. } = &dial.state {
            let node = node.clone();
            dial.note(now, node, cause);
        }
        self.drive_dial(now, id);
    }

    fn end_dial(&mut self, id: DialId, dialled: Dialled) {
        if let Some(dial) = self.dials.remove(&id) {
            self.timers.disarm(dial.timer);
            self.counters.flows_established += 1;
            self.events.push_back(Event::Dialled {
                dial: id,
                result: Ok(dialled),
            });
        }
    }

    pub(super) fn fail_dial(&mut self, now: Instant, id: DialId, cause: DialCause) {
        let code = match &cause {
            DialCause::TimedOut { .. } => Code::TimedOut,
            DialCause::Left | DialCause::ShuttingDown => Code::ShuttingDown,
            DialCause::InvalidName(_)
            | DialCause::InvalidCodec { .. }
            | DialCause::NotFound { .. }
            | DialCause::NotAt { .. }
            | DialCause::Unreachable { .. }
            | DialCause::NotSynced
            | DialCause::Connect { .. }
            | DialCause::Refused { .. }
            | DialCause::Ended { .. }
            | DialCause::Broken { .. }
            | DialCause::TooMany { .. } => Code::Cancelled,
        };
        if let Some(dial) = self.abandon_dial(id, code) {
            self.counters.flows_failed += 1;
            let result = Err(dial.fail(now, cause));
            self.events.push_back(Event::Dialled { dial: id, result });
        }
    }
}

fn unreachable(now: Instant, node: NodeName, since: Instant) -> DialCause {
    let down_for = now.saturating_duration_since(since);
    DialCause::Unreachable { node, down_for }
}

/// Nodes that one dial tries before it gives up.
const ATTEMPTS_MAX: usize = 8;
/// Look-alikes in an error about an unknown name.
const NEAR_MAX: usize = 3;
