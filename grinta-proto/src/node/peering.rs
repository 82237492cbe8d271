//! How a node deals with its peers: who is dialled and when again, who is welcome, what is done
//! about a loss, and how control messages find their way.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use rand::RngExt;

use crate::name::NodeName;
use crate::node::control::{Channel, ControlEvent, ControlOutput, Identity};
use crate::node::endpoint::Origin;
use crate::node::event::{ConnectError, Event, FlowLoss, MemberState, NameEvent};
use crate::node::flow::FlowId;
use crate::node::peer::{PeerEvent, PeerKey, Target};
use crate::node::{Node, Phase, Timer, refusal, surroundings};
use crate::wire::code::Code;
use crate::wire::control::ControlMessage;
use crate::wire::frame::encode_length;
use crate::wire::stream::{Hello, OpenFlow, RefusalReason};

/// When gossip may dial a node again that could not be reached.
#[derive(Debug, Clone, Copy)]
pub(super) struct Redial {
    failures: u32,
    pub(super) not_before: Instant,
}

/// How a control message goes to a node.
#[derive(Debug, Clone, Copy)]
struct Way {
    /// Where to dial it, if it has to be.
    address: SocketAddr,
    channel: Channel,
    heard_by: Option<PeerKey>,
}

impl Node {
    pub(super) fn handle_peer(&mut self, now: Instant, key: PeerKey, event: PeerEvent) {
        match event {
            PeerEvent::Greeted(hello) => self.handle_greeted(now, key, hello),
            PeerEvent::Control { name, message } => {
                self.handle_control_message(now, key, &name, &message);
            }
            PeerEvent::Arriving(stream) => {
                let flow = FlowId { peer: key, stream };
                let timeout = self.config.connection.first_frame_timeout;
                let timer = self.timers.arm(now, timeout, Timer::FirstFrame(flow));
                let is_due = self
                    .connections
                    .touch(key)
                    .is_some_and(|peer| peer.set_arrival_timer(stream, timer));
                if !is_due {
                    self.timers.disarm(timer);
                }
            }
            PeerEvent::Offered {
                stream,
                timer,
                open,
            } => {
                if let Some(timer) = timer {
                    self.timers.disarm(timer);
                }
                self.handle_offered(key, FlowId { peer: key, stream }, open);
            }
            PeerEvent::Discarded => self.counters.streams_refused += 1,
            PeerEvent::Withdrawn(incoming) => {
                self.endpoints.settle(incoming);
            }
            PeerEvent::Answered { dial, answer } => self.handle_answer(now, dial, answer),
            PeerEvent::Unanswered { dial, code } => self.handle_unanswered(now, dial, code),
            PeerEvent::Readable(stream) => {
                self.events
                    .push_back(Event::FlowReadable(FlowId { peer: key, stream }));
            }
            PeerEvent::Writable(stream) => {
                let flow = FlowId { peer: key, stream };
                self.slow.note_relief(flow);
                self.events.push_back(Event::FlowWritable(flow));
            }
            PeerEvent::StreamsAvailable => {
                if let Some(name) = self.name_of(key) {
                    self.resume_dials(now, &name);
                }
            }
            PeerEvent::Unused => {
                self.connections.note_used(now, key);
                if matches!(self.phase, Phase::Left { .. }) {
                    self.close_unused(now, key);
                } else if let Some(name) = self.name_of(key) {
                    self.close_surplus(now, &name);
                }
            }
            PeerEvent::Throttled(until) => {
                let pause = until.saturating_duration_since(now);
                self.timers.arm(now, pause, Timer::Throttled(key));
            }
            PeerEvent::Settled(timer) => {
                self.timers.disarm(timer);
            }
            PeerEvent::Violated { name, reason } => {
                self.note_violation(&name, Code::ControlViolation, &reason);
            }
            PeerEvent::Failed(error) => self.handle_failed(now, key, &error),
            PeerEvent::Lost { name, loss } => self.handle_lost(now, key, &name, &loss),
        }
    }

    /// Does what the control tier wants done. What it has to say to a peer whose earlier run it just
    /// heard by `heard_by` goes back there: two processes may go by one name, and both must hear it.
    pub(super) fn handle_control(
        &mut self,
        now: Instant,
        output: ControlOutput,
        heard_by: Option<PeerKey>,
    ) {
        match output {
            ControlOutput::Send {
                to,
                address,
                message,
                channel,
            } => {
                let way = Way {
                    address,
                    channel,
                    heard_by,
                };
                self.send_control(now, &to, way, &message);
            }
            ControlOutput::Connect { address } => self.connect_address(now, address),
            ControlOutput::Event(event) => self.handle_control_event(now, event),
        }
    }

    pub(super) fn arm_handshake(&mut self, key: PeerKey) {
        let timeout = self.config.connection.handshake_timeout;
        if let Some(peer) = self.connections.get_mut(key) {
            let timer = self.timers.arm(self.now, timeout, Timer::Handshake(key));
            peer.set_handshake_timer(timer);
        }
    }

    pub(super) fn expire_handshake(&mut self, now: Instant, key: PeerKey) {
        if self
            .connections
            .get(key)
            .is_some_and(|peer| peer.is_coming_up())
        {
            self.close(now, key, Code::HandshakeTimeout, "");
            self.handle_failed(now, key, &ConnectError::NoAnswer);
        }
    }

    /// Begins a connection to a node for a dial, unless one is coming up.
    pub(super) fn connect_node(
        &mut self,
        now: Instant,
        node: &NodeName,
        address: SocketAddr,
    ) -> Result<(), ConnectError> {
        let target = Target::Node(node.clone(), address);
        if self.connections.coming_up(&target).is_some() {
            return Ok(());
        }
        let key = self.connections.connect(now, target, &self.config.limits)?;
        self.arm_handshake(key);
        Ok(())
    }

    /// The fabric holds a node down: its connections end, and the flows on them.
    pub(super) fn close_down(&mut self, now: Instant, node: &NodeName) {
        for key in self.connections.all_to(node) {
            if let Some(peer) = self.connections.touch(key) {
                peer.close_as(now, Code::Down, "the fabric holds you down", FlowLoss::Down);
            }
        }
    }

    /// Closes every connection for good.
    pub(super) fn close_connections(&mut self, now: Instant) {
        self.connections.stop_accepting();
        for key in self.connections.keys() {
            if let Some(peer) = self.connections.touch(key)
                && !peer.is_lost()
            {
                peer.close_as(now, Code::Left, "", FlowLoss::ShuttingDown);
            }
        }
        self.follow(now);
    }

    pub(super) fn close(&mut self, now: Instant, key: PeerKey, code: Code, reason: &str) {
        if let Some(peer) = self.connections.touch(key) {
            peer.close(now, code, reason);
        }
    }

    /// Finds out who is at a neighbour's address, unless that is known.
    pub(super) fn contact(&mut self, now: Instant, address: SocketAddr) {
        if address == self.hello.address {
            return self.note_unreachable(now, address, &ConnectError::Itself);
        }
        let connected = self.control.members().find(|member| {
            member.address == address && self.connections.up(&member.name).is_some()
        });
        match connected {
            Some(member) => self.note_reached(now, address, &member.name),
            None => self.connect_address(now, address),
        }
    }

    fn connect_address(&mut self, now: Instant, address: SocketAddr) {
        let target = Target::Address(address);
        if self.connections.coming_up(&target).is_some() {
            return;
        }
        match self.connections.connect(now, target, &self.config.limits) {
            Ok(key) => self.arm_handshake(key),
            Err(error) => self.note_unreachable(now, address, &error),
        }
    }

    fn note_unreachable(&mut self, now: Instant, address: SocketAddr, error: &ConnectError) {
        if let Some(join) = &mut self.join {
            join.handle_failed(address, error);
        }
        self.control.handle_unreachable(now, address);
    }

    /// A peer said who it is; its certificate bears it out.
    fn handle_greeted(&mut self, now: Instant, key: PeerKey, hello: Hello) {
        let target = match self.connections.get(key) {
            Some(peer) if peer.is_coming_up() => peer.target().cloned(),
            // It was lost in the same turn.
            Some(_) | None => return,
        };
        if hello.node == self.config.node {
            return self.handle_greeted_by_namesake(now, key, &hello);
        }
        if !self.judge_greeted(now, key) || !self.admit(now, key, &hello) {
            return;
        }
        if let Some(code) = self.phase.unwelcome() {
            self.connections.note_failed(key);
            return self.close(now, key, code, "");
        }
        let name = hello.node.clone();
        let ours = &self.config.node;
        let standing = self.connections.note_up(key, ours, &hello);
        if let Some(peer) = self.connections.touch(key) {
            peer.welcome(now, name.clone(), surroundings(&self.hello, &self.config));
        }
        self.counters.connections_established += 1;
        self.counters.connections_accepted += u64::from(target.is_none());
        self.connections.note_used(now, key);
        self.watch_unused(now);
        self.redials.remove(&name);
        tracing::debug!(target: "grinta::quic", peer = %name, session = %hello.session, "connected");

        for outdated in standing.outdated {
            if let Some(peer) = self.connections.touch(outdated) {
                peer.close_as(now, Code::Duplicate, "", FlowLoss::Restarted);
            }
        }
        if standing.is_first {
            self.control.handle_up(now, identity(&hello));
        }
        if let Some(Target::Address(address)) = target {
            self.control.handle_reached(address, &name);
            self.note_reached(now, address, &name);
        }
        self.send_held(&name);
        for dial in self.dials_connecting_to(&name) {
            self.drive_dial(now, dial);
        }
        self.resume_dials(now, &name);
        self.close_surplus(now, &name);
    }

    /// Closes what we opened to a node beside the connection in use, once no flow is on it.
    fn close_surplus(&mut self, now: Instant, name: &NodeName) {
        let surplus = self.connections.surplus(name);
        let is_any = !surplus.is_empty();
        for surplus in surplus {
            self.close(now, surplus, Code::Duplicate, "");
        }
        if is_any {
            self.control.handle_rerouted(now, name);
        }
    }

    /// The node at the other end of a connection that is up.
    fn name_of(&self, key: PeerKey) -> Option<NodeName> {
        self.connections.get(key)?.name().cloned()
    }

    /// The peer bears our own name: it is ourselves, or somebody has our certificate.
    fn handle_greeted_by_namesake(&mut self, now: Instant, key: PeerKey, hello: &Hello) {
        let sessions = [self.began_as, self.hello.session];
        let is_ours = hello.address == self.hello.address && sessions.contains(&hello.session);
        let error = if is_ours {
            // The other end of the connection is ours too, and knows only who it is not.
            for dialled in self.connections.greeting(&self.config.node) {
                self.close(now, dialled, Code::Closed, "");
                self.handle_failed(now, dialled, &ConnectError::Itself);
            }
            ConnectError::Itself
        } else {
            let node = &hello.node;
            self.control.handle_up(now, identity(hello));
            ConnectError::Violation {
                reason: format!("{node} is this node's own name"),
            }
        };
        self.close(now, key, Code::IdentityConflict, &error.to_string());
        self.handle_failed(now, key, &error);
    }

    fn note_reached(&mut self, now: Instant, address: SocketAddr, node: &NodeName) {
        let Some(join) = &mut self.join else {
            return;
        };
        let was_first = !join.has_reached();
        join.handle_reached(address, node);
        if was_first && join.has_reached() {
            self.timers
                .arm(now, self.config.connection.join_settle, Timer::JoinSettled);
        }
    }

    /// A connection did not come up.
    pub(super) fn handle_failed(&mut self, now: Instant, key: PeerKey, error: &ConnectError) {
        let Some(peer) = self.connections.get(key) else {
            return;
        };
        let remote = peer.remote();
        let target = peer.target().cloned();
        if let ConnectError::Refused {
            code: Code::IdentityConflict,
            ..
        } = error
            && self.conflict.is_none()
        {
            self.note_conflict(now, Some(remote));
        }
        self.connections.note_failed(key);
        match target {
            None if *error == ConnectError::Itself => {}
            None => {
                self.counters.connections_refused += 1;
                self.log_refusal(now, remote, error);
            }
            Some(Target::Address(address)) => {
                self.counters.connections_failed += 1;
                tracing::debug!(target: "grinta::quic", %address, %error, "not connected");
                if *error == ConnectError::Itself {
                    self.control.handle_own_address(address);
                }
                self.note_unreachable(now, address, error);
            }
            Some(Target::Node(node, address)) => {
                self.counters.connections_failed += 1;
                tracing::debug!(target: "grinta::quic", peer = %node, %address, %error, "not connected");
                self.note_failure(now, &node);
                self.handle_connect_failed(now, &node, address, error);
            }
        }
    }

    /// One line per second at the most: whoever is refused may come back at once, for ever.
    pub(super) fn log_refusal(&mut self, now: Instant, remote: SocketAddr, error: &ConnectError) {
        if self
            .refusal_logged
            .is_some_and(|last| now < last + REFUSAL_LOG_INTERVAL)
        {
            return;
        }
        self.refusal_logged = Some(now);
        let refused = self.counters.connections_refused;
        tracing::warn!(target: "grinta::quic", %remote, %error, refused, "refused a connection");
    }

    /// A connection that was up is gone. That marks nobody down: membership decides.
    fn handle_lost(&mut self, now: Instant, key: PeerKey, name: &NodeName, loss: &FlowLoss) {
        match loss {
            FlowLoss::Closed { .. } | FlowLoss::Down | FlowLoss::ShuttingDown => {
                self.counters.connections_closed += 1;
            }
            FlowLoss::TimedOut | FlowLoss::Restarted | FlowLoss::Transport { .. } => {
                self.counters.connections_lost += 1;
            }
        }
        let was_up = self.connections.note_lost(key, name);
        self.handle_asked_lost(now, key, loss);
        if !was_up {
            return;
        }
        if self.connections.up(name).is_some() {
            self.control.handle_rerouted(now, name);
            return self.resume_dials(now, name);
        }
        tracing::debug!(target: "grinta::quic", peer = %name, %loss, "disconnected");
        self.control.handle_lost(now, name);
        for id in self.opening.remove(name).unwrap_or_default() {
            self.drive_dial(now, id);
        }
    }

    fn handle_offered(&mut self, key: PeerKey, flow: FlowId, open: OpenFlow) {
        self.counters.streams_accepted += 1;
        let Some(node) = self.name_of(key) else {
            return;
        };
        let direction = open.direction;
        let offered = if self.phase == Phase::Running {
            self.endpoints.offer(Origin::Remote { flow, node }, open)
        } else {
            Err(refusal(RefusalReason::ShuttingDown, ""))
        };
        let Some(peer) = self.connections.touch(key) else {
            return;
        };
        match offered {
            Ok((endpoint, incoming)) => {
                if let Some(name) = self.endpoints.name(endpoint) {
                    peer.queue(flow.stream, incoming, name);
                }
                self.events.push_back(Event::Incoming { endpoint });
            }
            Err(refused) => {
                self.counters.flows_refused += 1;
                peer.answer(flow.stream, direction, &refused);
            }
        }
    }

    /// A frame or a datagram for the control tier.
    fn handle_control_message(
        &mut self,
        now: Instant,
        key: PeerKey,
        name: &NodeName,
        message: &[u8],
    ) {
        self.connections.note_used(now, key);
        let handled = match ControlMessage::decode(message) {
            Ok(decoded) => {
                self.counters
                    .note_control_received(&decoded, message.len() as u64);
                self.control
                    .handle_message(now, name, decoded)
                    .map_err(|violation| (violation.code(), violation.to_string()))
            }
            Err(malformed) => Err((Code::ControlViolation, malformed.to_string())),
        };
        if let Err((code, reason)) = handled {
            self.note_violation(name, code, &reason);
            self.close(now, key, code, &reason);
        }
        while let Some(output) = self.control.poll_output() {
            self.handle_control(now, output, Some(key));
        }
    }

    fn note_violation(&mut self, peer: &NodeName, code: Code, reason: &str) {
        if code == Code::TooManyNames {
            self.counters.names_exceeded += 1;
            tracing::warn!(target: "grinta::name", %peer, reason, "the peer is cut off");
            return;
        }
        self.counters.violations += 1;
        tracing::warn!(target: "grinta::quic", %peer, reason, "the peer broke the control protocol");
    }

    fn handle_control_event(&mut self, now: Instant, event: ControlEvent) {
        match event {
            ControlEvent::Member(event) => self.handle_member(now, event),
            ControlEvent::Synced => self.handle_synced(now),
            ControlEvent::Left => self.note_left(now),
            ControlEvent::NameLost { name, winner } => self.handle_name_lost(&name, winner),
            ControlEvent::NamePromoted { name } => self.handle_name_promoted(&name),
            ControlEvent::NameRenewed { name } => self.handle_name(now, &name),
            ControlEvent::Name(event) => {
                match &event {
                    NameEvent::Appeared { name, .. } | NameEvent::Reshared { name, .. } => {
                        self.handle_name(now, name);
                    }
                    NameEvent::Moved { name, owner, .. } => {
                        self.handle_name_moved(name, owner);
                        self.handle_name(now, name);
                    }
                    NameEvent::Gone { .. } => {}
                }
                self.events.push_back(Event::Name(event));
            }
            ControlEvent::Queried { query, result } => {
                self.events.push_back(Event::Queried { query, result });
            }
            ControlEvent::Confirmed { name, result } => self.handle_confirmed(&name, result),
            ControlEvent::IdentityConflict { other } => {
                self.note_conflict(now, other.map(|other| other.address));
            }
            ControlEvent::Displaced => self.step_aside(now),
        }
    }

    /// Brings a control message on its way: now, or when the node's connection is up.
    fn send_control(&mut self, now: Instant, to: &NodeName, way: Way, message: &ControlMessage) {
        let Way {
            address,
            channel,
            heard_by,
        } = way;
        let mut body = BytesMut::new();
        message.encode(&mut body);
        let body = body.freeze();
        self.counters.note_control_sent(message, body.len() as u64);
        let up = self.connections.up(to);
        let session = |key| self.connections.session(to, key);
        let heard_by = heard_by.filter(|&key| session(key) < up.and_then(session));
        let heard_by = heard_by.filter(|&key| session(key).is_some());
        if let Some(key) = heard_by.or(up)
            && let Some(peer) = self.connections.touch(key)
        {
            peer.note_used(now);
            let unsent = match channel {
                Channel::Datagram => peer.send_datagram(body).err(),
                Channel::Stream => Some(body),
            };
            if let Some(body) = unsent {
                peer.send_control(framed(&body), &self.config.limits);
            }
            return;
        }
        let target = Target::Node(to.clone(), address);
        if self.connections.coming_up(&target).is_none() {
            if !self.may_redial(now, to) {
                self.counters.control_messages_dropped += 1;
                return;
            }
            if let Err(error) = self.connect_node(now, to, address) {
                tracing::debug!(target: "grinta::quic", peer = %to, %error, "not connected");
                self.counters.control_messages_dropped += 1;
                return self.note_failure(now, to);
            }
        }
        self.hold(to, body);
    }

    /// Keeps a message until the connection is up; the queue is short, the oldest give way.
    fn hold(&mut self, to: &NodeName, body: Bytes) {
        if self.held.len() >= self.config.limits.connections_max && !self.held.contains_key(to) {
            self.counters.control_messages_dropped += 1;
            return;
        }
        let held = self.held.entry(to.clone()).or_default();
        if held.len() >= HELD_MAX {
            held.pop_front();
            self.counters.control_messages_dropped += 1;
        }
        held.push_back(body);
    }

    fn send_held(&mut self, to: &NodeName) {
        let held = self.held.remove(to).unwrap_or_default();
        if let Some(peer) = self
            .connections
            .up(to)
            .and_then(|key| self.connections.touch(key))
        {
            for body in held {
                peer.send_control(framed(&body), &self.config.limits);
            }
        }
    }

    fn may_redial(&self, now: Instant, node: &NodeName) -> bool {
        self.redials
            .get(node)
            .is_none_or(|redial| now >= redial.not_before)
    }

    /// Doubles the time until gossip dials a node again, with jitter.
    pub(super) fn note_failure(&mut self, now: Instant, node: &NodeName) {
        let held = self.held.remove(node).unwrap_or_default();
        self.counters.control_messages_dropped += held.len() as u64;
        let member = self.control.member(node);
        if member.is_some_and(|member| matches!(member.state, MemberState::Left { .. })) {
            self.redials.remove(node);
            return;
        }
        if self.redials.len() >= self.config.limits.connections_max {
            self.redials.retain(|_, redial| redial.not_before > now);
        }
        let failures = self.redials.get(node).map_or(0, |redial| redial.failures);
        let delay = (REDIAL_MIN * 2u32.pow(failures.min(16))).min(REDIAL_MAX);
        let jitter = self.rng.random_range(0..=delay.as_millis() as u64 / 2);
        let not_before = now + delay + Duration::from_millis(jitter);
        self.redials.insert(
            node.clone(),
            Redial {
                failures: failures + 1,
                not_before,
            },
        );
    }
}

fn identity(hello: &Hello) -> Identity {
    Identity {
        name: hello.node.clone(),
        address: hello.address,
        session: hello.session,
    }
}

fn framed(body: &Bytes) -> Bytes {
    let mut frame = BytesMut::with_capacity(body.len() + 4);
    encode_length(body.len(), &mut frame);
    frame.put_slice(body);
    frame.freeze()
}

/// Messages held for a node whose connection is coming up: a probe, its repetition, an exchange.
const HELD_MAX: usize = 8;
const REDIAL_MIN: Duration = Duration::from_millis(250);
const REDIAL_MAX: Duration = Duration::from_secs(30);
const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(1);
