//! One connection with another node: its greeting, its control stream and its flows.
//!
//! A peer owns its `quinn_proto::Connection` and its flows and nothing else; it talks to the node
//! by [`PeerEvent`] values. That is what would let peers live under locks of their own.
//!
//! A peer is up once both sides have said `Hello` on the control stream. A client hears that it
//! is connected before the server has looked at its certificate, so nothing less will do.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn_proto::{
    Connection, ConnectionError, ConnectionEvent, ConnectionHandle, ConnectionStats, EndpointEvent,
    Event, StreamId,
};

use crate::config::Limits;
use crate::name::NodeName;
use crate::node::congestion::WindowRelease;
use crate::node::dial::DialId;
use crate::node::endpoint::IncomingId;
use crate::node::event::{ConnectError, FlowLoss};
use crate::node::flow::{Flow, varint};
use crate::node::quic::NewConnection;
use crate::node::snapshot::ConnectionStage;
use crate::node::timers::TimerKey;
use crate::wire::code::Code;
use crate::wire::stream::{FlowAnswer, Hello, OpenFlow};

use self::allowance::{Allowance, Leave};
use self::control_stream::ControlStream;

mod allowance;
mod control_stream;
mod greeting;
mod streams;

/// Names a connection; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PeerKey(pub(crate) u64);

/// Whom a connection was made to reach.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    /// Whoever answers at the address.
    Address(SocketAddr),
    /// This node, believed to be at the address.
    Node(NodeName, SocketAddr),
}

impl Target {
    pub(crate) const fn address(&self) -> SocketAddr {
        match self {
            Self::Address(address) | Self::Node(_, address) => *address,
        }
    }

    pub(crate) const fn node(&self) -> Option<&NodeName> {
        match self {
            Self::Address(_) => None,
            Self::Node(node, _) => Some(node),
        }
    }
}

/// What a peer tells the node.
#[derive(Debug)]
pub(crate) enum PeerEvent {
    /// The peer said `Hello`: the node answers with [`Peer::welcome`] or [`Peer::close`].
    Greeted(Hello),
    /// A control message came from the node of this name, which may be lost since.
    Control { name: NodeName, message: Bytes },
    /// A stream was opened and its first frame is not complete.
    Arriving(StreamId),
    /// The peer dials one of our endpoints.
    Offered {
        stream: StreamId,
        timer: Option<TimerKey>,
        open: OpenFlow,
    },
    /// A stream that the peer opened ended before its first frame was there, or well.
    Discarded,
    /// A flow that waited for its endpoint was given up by its dialler.
    Withdrawn(IncomingId),
    /// A flow that we dialled was answered.
    Answered { dial: DialId, answer: FlowAnswer },
    /// A flow that we dialled ended without an answer.
    Unanswered { dial: DialId, code: Code },
    /// A handle that waits to read a flow should try again.
    Readable(StreamId),
    /// A handle that waits to write a flow, or for its end, should try again.
    Writable(StreamId),
    /// More flows may be opened.
    StreamsAvailable,
    /// The last open flow ended.
    Unused,
    /// The peer says too much: its control stream is read on at this time.
    Throttled(Instant),
    /// The timer of the handshake or of a stream's arrival has nothing to wait for any more.
    Settled(TimerKey),
    /// The peer broke the rules of the control stream; its connection is being closed.
    Violated { name: NodeName, reason: String },
    /// The connection could not be brought up.
    Failed(ConnectError),
    /// The connection to this node was up and is lost.
    Lost { name: NodeName, loss: FlowLoss },
}

/// What a peer needs to know of the node it belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    pub(crate) hello: &'a Hello,
    pub(crate) limits: &'a Limits,
}

/// One connection with another node.
pub(crate) struct Peer {
    key: PeerKey,
    handle: ConnectionHandle,
    connection: Connection,
    release: WindowRelease,
    target: Option<Target>,
    stage: Stage,
    /// When a flow or a control message last used it.
    used_at: Instant,
    /// For its control stream.
    allowance: Allowance,
    /// For its datagrams.
    datagrams: Allowance,
    /// The control stream is not read before.
    throttled_until: Option<Instant>,
    /// Armed until the connection is up or over.
    handshake_timer: Option<TimerKey>,
    /// Boxed, as the nodes of a map that grows at its end are little more than half full.
    flows: BTreeMap<StreamId, Box<Flow>>,
    /// Flows were open when the peer was last advanced.
    had_flows: bool,
    unflushed: Vec<StreamId>,
    events: VecDeque<PeerEvent>,
    drained: bool,
    /// Whether it waits in the queue of peers that something happened to.
    pub(crate) is_touched: bool,
    /// Whether it waits in the queue of peers with packets to send.
    pub(crate) is_queued: bool,
    /// Its place in the order of deadlines.
    pub(crate) noted_deadline: Option<Instant>,
}

#[derive(Debug)]
enum Stage {
    /// TLS is under way.
    Handshaking,
    /// The peer's certificate is good for these names; `Hello` is under way.
    Greeting {
        certified: Vec<NodeName>,
        control: Option<ControlStream>,
    },
    /// The peer said a good `Hello`; the node is about to welcome it.
    Greeted { control: ControlStream },
    /// Both said `Hello`.
    Up {
        name: NodeName,
        control: ControlStream,
    },
    /// Over. What had arrived can still be read.
    Lost { loss: FlowLoss },
}

impl Peer {
    pub(crate) fn new(
        now: Instant,
        key: PeerKey,
        new: NewConnection,
        target: Option<Target>,
    ) -> Self {
        Self {
            key,
            handle: new.handle,
            connection: new.connection,
            release: new.release,
            target,
            stage: Stage::Handshaking,
            used_at: now,
            allowance: Allowance::new(now),
            datagrams: Allowance::new(now),
            throttled_until: None,
            handshake_timer: None,
            flows: BTreeMap::new(),
            had_flows: false,
            unflushed: Vec::new(),
            events: VecDeque::new(),
            drained: false,
            is_touched: false,
            is_queued: false,
            noted_deadline: None,
        }
    }

    pub(crate) const fn key(&self) -> PeerKey {
        self.key
    }

    pub(crate) const fn handle(&self) -> ConnectionHandle {
        self.handle
    }

    /// Whom we dialled; `None` if the peer did.
    pub(crate) const fn target(&self) -> Option<&Target> {
        self.target.as_ref()
    }

    pub(crate) fn remote(&self) -> SocketAddr {
        self.connection.remote_address()
    }

    /// The peer's name, once it is up.
    pub(crate) const fn name(&self) -> Option<&NodeName> {
        match &self.stage {
            Stage::Up { name, .. } => Some(name),
            Stage::Handshaking
            | Stage::Greeting { .. }
            | Stage::Greeted { .. }
            | Stage::Lost { .. } => None,
        }
    }

    /// Whether we dialled it, its certificate is good for `name`, and it has not said `Hello`.
    pub(crate) fn is_greeting(&self, name: &NodeName) -> bool {
        let certified = match &self.stage {
            Stage::Greeting { certified, .. } => certified.contains(name),
            Stage::Handshaking | Stage::Greeted { .. } | Stage::Up { .. } | Stage::Lost { .. } => {
                false
            }
        };
        certified && self.target.is_some()
    }

    pub(crate) const fn is_lost(&self) -> bool {
        matches!(self.stage, Stage::Lost { .. })
    }

    /// Neither up nor lost.
    pub(crate) const fn is_coming_up(&self) -> bool {
        matches!(
            self.stage,
            Stage::Handshaking | Stage::Greeting { .. } | Stage::Greeted { .. }
        )
    }

    /// Whether nothing refers to the connection any more, on either side of it.
    pub(crate) fn is_over(&self) -> bool {
        self.drained && self.is_lost() && !self.flows.values().any(|flow| flow.is_held())
    }

    /// Flows whose handles live or whose data is not all delivered.
    pub(crate) fn open_flows(&self) -> usize {
        self.flows.len()
    }

    pub(crate) fn round_trip_time(&self) -> Duration {
        self.connection.rtt()
    }

    /// When a flow ended on it, or a control message came or went, most recently.
    pub(crate) const fn used_at(&self) -> Instant {
        self.used_at
    }

    pub(crate) const fn note_used(&mut self, now: Instant) {
        self.used_at = now;
    }

    /// Whether it is up, no flow is on it and nothing waits to be sent.
    pub(crate) fn is_unused(&self) -> bool {
        matches!(self.stage, Stage::Up { .. })
            && self.flows.is_empty()
            && self.control_queued() == 0
    }

    pub(crate) fn stats(&self) -> ConnectionStats {
        self.connection.stats()
    }

    pub(crate) const fn stage(&self) -> ConnectionStage {
        match &self.stage {
            Stage::Handshaking => ConnectionStage::Handshaking,
            Stage::Greeting { .. } | Stage::Greeted { .. } => ConnectionStage::Greeting,
            Stage::Up { .. } => ConnectionStage::Up,
            Stage::Lost { .. } => ConnectionStage::Closing,
        }
    }

    /// Bytes of control messages that wait to be sent.
    pub(crate) const fn control_queued(&self) -> usize {
        match &self.stage {
            Stage::Greeting {
                control: Some(control),
                ..
            }
            | Stage::Greeted { control }
            | Stage::Up { control, .. } => control.queued(),
            Stage::Greeting { control: None, .. } | Stage::Handshaking | Stage::Lost { .. } => 0,
        }
    }

    // What the world did.

    pub(crate) fn handle_event(&mut self, event: ConnectionEvent) {
        self.connection.handle_event(event);
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.connection.handle_timeout(now);
    }

    /// Takes in what the connection has to tell, and moves what waits into its streams.
    pub(crate) fn advance(&mut self, now: Instant, surroundings: Surroundings<'_>) {
        while let Some(event) = self.connection.poll() {
            match event {
                Event::HandshakeDataReady | Event::DatagramsUnblocked => {}
                Event::Connected => self.begin_greeting(now, surroundings),
                Event::ConnectionLost { reason } => self.handle_loss(&reason),
                Event::DatagramReceived => self.receive_datagrams(now, surroundings.limits),
                Event::Stream(event) => self.handle_stream(now, event, surroundings),
            }
        }
        if self.throttled_until.is_some_and(|until| now >= until) {
            self.throttled_until = None;
            self.read_control(now, surroundings);
        }
        self.flush(surroundings.limits);
        let has_flows = !self.flows.is_empty();
        if std::mem::replace(&mut self.had_flows, has_flows) && !has_flows {
            self.events.push_back(PeerEvent::Unused);
        }
    }

    pub(crate) fn poll_event(&mut self) -> Option<PeerEvent> {
        self.events.pop_front()
    }

    pub(crate) fn poll_endpoint_event(&mut self) -> Option<EndpointEvent> {
        let event = self.connection.poll_endpoint_events()?;
        self.drained |= event.is_drained();
        Some(event)
    }

    pub(crate) fn poll_timeout(&mut self) -> Option<Instant> {
        if self.drained {
            None
        } else {
            self.connection.poll_timeout()
        }
    }

    /// Writes one batch of at most `segments_max` datagrams into `buffer`.
    pub(crate) fn poll_transmit(
        &mut self,
        now: Instant,
        segments_max: usize,
        buffer: &mut Vec<u8>,
    ) -> Option<quinn_proto::Transmit> {
        let mtu = usize::from(self.connection.current_mtu()).max(1);
        let segments = segments_max.min(UDP_PAYLOAD_MAX / mtu).max(1);
        self.connection.poll_transmit(now, segments, buffer)
    }

    // What the node wants.

    /// Notes when a connection that is coming up has had its time.
    pub(crate) const fn set_handshake_timer(&mut self, timer: TimerKey) {
        self.handshake_timer = Some(timer);
    }

    /// Ends the connection; the peer is told `code` and `reason`.
    pub(crate) fn close(&mut self, now: Instant, code: Code, reason: &str) {
        self.close_as(
            now,
            code,
            reason,
            FlowLoss::Closed {
                code,
                reason: reason.to_owned(),
            },
        );
    }

    /// Ends the connection; our own flows are told `loss`.
    pub(crate) fn close_as(&mut self, now: Instant, code: Code, reason: &str, loss: FlowLoss) {
        self.release.release();
        let reason = Bytes::copy_from_slice(reason.as_bytes());
        self.connection.close(now, varint(code), reason);
        self.end(loss);
    }

    /// Queues a frame on the control stream. The oldest that wait give way to it.
    pub(crate) fn send_control(&mut self, frame: Bytes, limits: &Limits) {
        if let Stage::Up { control, .. } = &mut self.stage {
            control.send(frame, limits.control_queue_max);
        }
    }

    /// Sends a datagram; gives it back when it does not fit.
    pub(crate) fn send_datagram(&mut self, data: Bytes) -> Result<(), Bytes> {
        let fits = self
            .connection
            .datagrams()
            .max_size()
            .is_some_and(|max| data.len() <= max);
        if !fits {
            return Err(data);
        }
        // Within the size, a refusal means that the connection is closing: the datagram is lost
        // as any datagram may be.
        let _ = self.connection.datagrams().send(data, true);
        Ok(())
    }

    /// Reads the control stream on: `Hello` first, then frames for the node.
    fn read_control(&mut self, now: Instant, surroundings: Surroundings<'_>) {
        while !self.is_lost() {
            match self
                .allowance
                .leave(now, surroundings.limits.control_bytes_per_second_max)
            {
                Leave::Granted => {}
                Leave::At(until) => return self.throttle(until),
                Leave::Forfeited => return self.forfeit(now),
            }
            let (control, greeting) = match &mut self.stage {
                Stage::Greeting {
                    control: Some(control),
                    certified,
                } => (control, Ok(certified)),
                Stage::Up { control, name } => (control, Err(name)),
                // What follows a `Hello` waits until the node has welcomed the peer.
                Stage::Greeting { control: None, .. }
                | Stage::Greeted { .. }
                | Stage::Handshaking
                | Stage::Lost { .. } => return,
            };
            let frame = match control.receive(&mut self.connection) {
                Ok(Some(frame)) => frame,
                Ok(None) => return,
                Err(error) => {
                    return self.fail(now, Code::ControlViolation, violation(&error.to_string()));
                }
            };
            self.allowance.spend(frame.len());
            let certified = match greeting {
                Ok(certified) => certified,
                Err(name) => {
                    let (name, message) = (name.clone(), frame);
                    self.events.push_back(PeerEvent::Control { name, message });
                    continue;
                }
            };
            let dialled = self.target.as_ref().and_then(Target::node);
            match greeting::check_hello(&frame, certified, dialled, surroundings.hello) {
                Ok(hello) => self.note_greeted(hello),
                Err((code, error)) => return self.fail(now, code, error),
            }
        }
    }

    fn throttle(&mut self, until: Instant) {
        if self.throttled_until.replace(until).is_none() {
            self.events.push_back(PeerEvent::Throttled(until));
        }
    }

    fn receive_datagrams(&mut self, now: Instant, limits: &Limits) {
        while let Some(message) = self.connection.datagrams().recv() {
            // They have an allowance of their own: a peer that has much to tell is not taken for dead.
            match self
                .datagrams
                .leave(now, limits.control_bytes_per_second_max)
            {
                Leave::Granted => self.datagrams.spend(message.len()),
                // It is lost, as any datagram may be.
                Leave::At(_) => continue,
                Leave::Forfeited => return self.forfeit(now),
            }
            // Before the peer is up nothing that it says counts.
            if let Some(name) = self.name().cloned() {
                self.events.push_back(PeerEvent::Control { name, message });
            }
        }
    }

    /// The peer has said too much for too long.
    fn forfeit(&mut self, now: Instant) {
        let error = violation("it says more than a node has to say");
        self.fail(now, Code::TooMuchControl, error);
    }

    /// Moves control frames and gathered writes into their streams.
    fn flush(&mut self, limits: &Limits) {
        if let Stage::Greeting {
            control: Some(control),
            ..
        }
        | Stage::Greeted { control }
        | Stage::Up { control, .. } = &mut self.stage
        {
            control.flush(&mut self.connection);
        }
        self.flush_flows(limits);
    }

    /// Ends a connection that cannot be, and says so on both sides.
    fn fail(&mut self, now: Instant, code: Code, error: ConnectError) {
        let reason = error.to_string();
        if let Some(name) = self.name().cloned() {
            let violated = PeerEvent::Violated {
                name,
                reason: reason.clone(),
            };
            self.events.push_back(violated);
        } else {
            self.events.push_back(PeerEvent::Failed(error));
        }
        self.close(now, code, &reason);
    }

    fn handle_loss(&mut self, reason: &ConnectionError) {
        if self.is_coming_up() {
            let error = ConnectError::from_connection(reason);
            self.events.push_back(PeerEvent::Failed(error));
        }
        self.end(FlowLoss::from_connection(reason));
    }

    /// The connection is over: whoever waits on it is told.
    fn end(&mut self, loss: FlowLoss) {
        match std::mem::replace(&mut self.stage, Stage::Lost { loss: loss.clone() }) {
            Stage::Up { name, .. } => self.events.push_back(PeerEvent::Lost { name, loss }),
            Stage::Handshaking | Stage::Greeting { .. } | Stage::Greeted { .. } => {}
            Stage::Lost { loss } => self.stage = Stage::Lost { loss },
        }
        self.settle_handshake();
        self.end_flows();
    }

    fn settle_handshake(&mut self) {
        let timer = self.handshake_timer.take();
        self.events.extend(timer.map(PeerEvent::Settled));
    }
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer")
            .field("key", &self.key)
            .field("remote", &self.remote())
            .field("stage", &self.stage)
            .field("flows", &self.flows.len())
            .finish_non_exhaustive()
    }
}

fn violation(reason: &str) -> ConnectError {
    ConnectError::Violation {
        reason: reason.to_owned(),
    }
}

/// The most that one UDP send takes, whatever its segments.
const UDP_PAYLOAD_MAX: usize = 65_507;
