//! The node: one pure state machine that owns all protocol decisions.
//!
//! [`Node`] composes the connections, the control tier (members and names), the endpoints and the
//! dials. It has no socket, clock, thread, lock or randomness of its own. Method names say what
//! they are: `handle_x` tells it what the world did, a verb what the user wants, `poll_x` asks it
//! what to do, a noun reads. Verbs take no clock: what needs one waits for the next turn.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use quinn_proto::EcnCodepoint;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::config::{Config, ConfigError, Labels, Limits};
use crate::name::{EndpointName, NodeName, Session};
use crate::tls::{Credentials, CredentialsError, SharedClock};
use crate::whim::whim;
use crate::wire::code::Code;
use crate::wire::control::{LabelsError, check_labels};
use crate::wire::stream::{FlowAnswer, Hello, Refusal, RefusalReason};

use self::choosing::Turns;
use self::connections::{Arrived, Connections};
use self::control::{Control, Identity, NamePage, QueryId, QueryRequest};
use self::dial::Dial;
use self::endpoint::Endpoints;
use self::joining::Join;
use self::leaving::Phase;
use self::peer::{PeerKey, Surroundings};
use self::peering::Redial;
use self::quic::Quic;
use self::signing::Signatory;
use self::slow::SlowConsumers;
use self::timers::Timers;
use self::trust::Expiry;
use self::whereabouts::Whereabouts;

mod admission;
mod choosing;
mod claiming;
mod congestion;
mod connections;
pub mod control;
mod counters;
mod dial;
mod dialling;
mod endpoint;
mod event;
mod flow;
mod flowing;
mod joining;
mod leaving;
mod membership;
mod mesh;
mod peer;
mod peering;
mod quic;
mod signing;
mod sleep;
mod slow;
mod snapshot;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod timers;
mod trust;
mod whereabouts;

pub use self::admission::{Admission, Applicant};
pub use self::counters::Counters;
pub use self::dial::{
    Attempt, Choice, DialCause, DialError, DialId, DialRequest, DialStage, UnknownName,
};
pub use self::endpoint::{
    Claiming, EndpointId, EndpointRefusal, Incoming, IncomingId, Origin, Standing,
};
pub(crate) use self::event::list;
pub use self::event::{
    ConnectError, Dialled, Event, FlowLoss, FlowReadError, FlowWriteError, JoinError, JoinReport,
    Member, MemberEvent, MemberState, NameEvent, Transmit,
};
pub(crate) use self::flow::SHARED_LEN_MIN;
pub use self::flow::{FlowId, Payload};
pub use self::leaving::ShutdownReport;
pub use self::membership::IdentityConflict;
pub use self::signing::{Claimable, Claimant};
pub use self::sleep::SleepId;
use self::sleep::Sleeping;
pub use self::snapshot::{
    CertificateSnapshot, ConflictSnapshot, ConnectionSnapshot, ConnectionStage, DialSnapshot,
    EndpointSnapshot, EndpointStanding, FlowSnapshot, FlowStage, HealthSnapshot, Level,
    LocalFlowSnapshot, LocalSide, MemberSnapshot, NamesSnapshot, OpenedBy, Presence, Snapshot,
    UsageSnapshot,
};

/// Version of the wire contract.
const PROTOCOL: u32 = 1;

/// One process's member of the fabric, as a pure state machine.
///
/// The crate's documentation has the order in which a run loop calls it.
#[derive(Debug)]
pub struct Node {
    config: Config,
    hello: Hello,
    /// The session that the node began with; it says a later one if an earlier run had that.
    began_as: Session,
    credentials: Credentials,
    /// The newest connection that began before the credentials were replaced.
    to_judge: Option<PeerKey>,
    expiry: Expiry,
    admission: Admission,
    claimable: Claimable,
    clock: Arc<SharedClock>,
    now: Instant,
    rng: StdRng,
    turns: Turns,
    whereabouts: Whereabouts,
    connections: Connections,
    control: Control,
    endpoints: Endpoints,
    dials: BTreeMap<DialId, Box<Dial>>,
    /// Dials that wait for a name to be known.
    resolving: BTreeMap<EndpointName, BTreeSet<DialId>>,
    /// Dials that wait for their holder to allow one more stream.
    opening: BTreeMap<NodeName, VecDeque<DialId>>,
    redials: BTreeMap<NodeName, Redial>,
    /// Control messages for nodes whose connection is coming up.
    held: BTreeMap<NodeName, VecDeque<Bytes>>,
    slow: SlowConsumers,
    timers: Timers<Timer>,
    sleeps: BTreeMap<SleepId, Sleeping>,
    join: Option<Join>,
    /// Whether [`Timer::Unused`] is armed.
    watches_unused: bool,
    phase: Phase,
    shutdown_report: ShutdownReport,
    conflict: Option<IdentityConflict>,
    commands: VecDeque<Command>,
    events: VecDeque<Event>,
    counters: Counters,
    refusal_logged: Option<Instant>,
    issued: u64,
}

/// Why there can be no such node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// A timing or limit is out of its range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The labels break a bound.
    #[error(transparent)]
    Labels(#[from] LabelsError),
    /// The credentials do not do.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
}

/// What the socket is, as far as the core cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketInfo {
    /// Where others can dial it.
    pub advertised_address: SocketAddr,
    /// Whether datagrams may be fragmented on the way.
    pub may_fragment: bool,
}

/// Where datagrams came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatagramMeta {
    /// The sender.
    pub remote: SocketAddr,
    /// The local address that they were sent to, if known.
    pub local_ip: Option<std::net::IpAddr>,
    /// The two ECN bits; `None` if not ECN-capable.
    pub ecn: Option<u8>,
    /// Length of each datagram; only the last may be shorter. Zero stands for the whole buffer.
    pub stride: usize,
}

/// What the node waits for by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Timer {
    /// There are more connections than are kept unused.
    Unused,
    /// A peer that said too much is heard again.
    Throttled(PeerKey),
    /// A connection has had its time to come up.
    Handshake(PeerKey),
    /// A stream has had its time to bring its first frame.
    FirstFrame(FlowId),
    /// A dial has had its time.
    Dial(DialId),
    /// A dial has waited for nodes to agree.
    Redial(DialId),
    /// The slower neighbours have had their time.
    JoinSettled,
    /// A task has slept enough.
    Sleep(SleepId),
    /// Flows have had their time to drain.
    Grace,
    /// It is time to look at the flows whose senders wait.
    SlowConsumers,
}

/// What the user wants and needs a clock for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Command {
    Join,
    Claim(EndpointId),
    Release(EndpointName),
    Dial(DialId, DialRequest),
    Query(QueryId, QueryRequest),
    Sleep {
        id: SleepId,
        delay: Duration,
        /// After which it ends again, each time.
        period: Option<Duration>,
    },
    SetLabels(Labels),
    /// The credentials were replaced.
    JudgePeers,
    Leave,
    Shutdown(Duration),
}

impl Node {
    /// A node that takes part from now on. `seed` is all its randomness; `unix_time` is the wall
    /// clock since the epoch.
    ///
    /// # Errors
    /// [`NodeError`] if the configuration cannot work, or the credentials cannot prove the node's
    /// name, now.
    pub fn new(
        config: Config,
        credentials: &Credentials,
        socket: SocketInfo,
        seed: [u8; 32],
        now: Instant,
        unix_time: Duration,
    ) -> Result<Self, NodeError> {
        config.check()?;
        check_labels(&config.labels)?;
        credentials.check(&config.node, unix_time)?;
        let mut rng = StdRng::from_seed(seed);
        let clock = Arc::new(SharedClock::new(unix_time));
        let quic_rng = StdRng::from_rng(&mut rng);
        let quic = Quic::new(&config, credentials, &clock, socket.may_fragment, quic_rng)?;
        let identity = Identity {
            name: config.node.clone(),
            address: socket.advertised_address,
            session: Session(u64::try_from(unix_time.as_millis()).unwrap_or(u64::MAX)),
        };
        let hello = Hello {
            protocol: PROTOCOL,
            fabric: config.fabric.clone(),
            node: identity.name.clone(),
            session: identity.session,
            address: identity.address,
        };
        let mut control_seed = [0; 32];
        rng.fill_bytes(&mut control_seed);
        let control = Control::new(&config, identity, control_seed, now, unix_time).with_notary(
            Box::new(Signatory {
                credentials: credentials.clone(),
                claimable: Claimable::default(),
            }),
        );
        Ok(Self {
            began_as: hello.session,
            hello,
            credentials: credentials.clone(),
            to_judge: None,
            expiry: Expiry::new(now),
            admission: Admission::default(),
            claimable: Claimable::default(),
            clock,
            now,
            rng,
            connections: Connections::new(quic),
            control,
            endpoints: Endpoints::default(),
            turns: Turns::default(),
            whereabouts: Whereabouts::default(),
            dials: BTreeMap::new(),
            resolving: BTreeMap::new(),
            opening: BTreeMap::new(),
            redials: BTreeMap::new(),
            held: BTreeMap::new(),
            slow: SlowConsumers::default(),
            timers: Timers::new(),
            sleeps: BTreeMap::new(),
            join: None,
            watches_unused: false,
            phase: Phase::Running,
            shutdown_report: ShutdownReport::default(),
            conflict: None,
            commands: VecDeque::new(),
            events: VecDeque::new(),
            counters: Counters::default(),
            refusal_logged: None,
            issued: 0,
            config,
        })
    }

    // What the world did.

    /// Takes one received buffer: one datagram, or several of one length from one sender.
    ///
    /// Take in all that has arrived before [`handle_timeout`](Self::handle_timeout): a process
    /// that was frozen finds the answers to its probes in the socket, and must see them before it
    /// concludes that they never came.
    pub fn handle_datagrams(&mut self, now: Instant, meta: DatagramMeta, mut data: BytesMut) {
        self.now = now;
        if meta.remote.port() == 0 {
            // It is forged, and nothing could be sent back.
            self.counters.datagrams_dropped += 1;
            return;
        }
        let ecn = meta.ecn.and_then(EcnCodepoint::from_bits);
        let stride = match meta.stride {
            0 => data.len(),
            stride => stride,
        };
        while !data.is_empty() {
            let datagram = data.split_to(stride.min(data.len()));
            self.counters.bytes_received += datagram.len() as u64;
            let arrived =
                self.connections
                    .handle_datagram(now, meta.remote, meta.local_ip, ecn, datagram);
            match arrived {
                Arrived::Taken => {}
                Arrived::Dropped => self.counters.datagrams_dropped += 1,
                Arrived::Accepted(key) => self.arm_handshake(key),
                Arrived::Refused(error) => {
                    self.counters.connections_refused += 1;
                    self.log_refusal(now, meta.remote, &error);
                }
            }
        }
    }

    /// Ends a turn: acts on what arrived and on what the user wanted, then on what is due.
    /// `unix_time` is the wall clock since the epoch.
    pub fn handle_timeout(&mut self, now: Instant, unix_time: Duration) {
        self.now = now;
        self.clock.set(unix_time);
        if now >= self.expiry.look_at {
            self.watch_expiry(now);
        }
        self.follow(now);
        self.connections.handle_timeout(now);
        while let Some(timer) = self.timers.pop_expired(now) {
            self.fire(now, timer);
        }
        self.control.handle_timeout(now, unix_time);
        // What became of an endpoint must not be taken for the fate of the next of its name.
        self.follow(now);
        while let Some(command) = self.commands.pop_front() {
            self.execute(now, unix_time, command);
        }
        self.follow(now);
        self.watch_held_back(now);
        self.progress_join();
        self.progress_shutdown(now);
    }

    // What to do.

    /// What happened. Poll until `None`.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next batch of at most `segments_max` datagrams of one length, written into `buffer`.
    /// Poll until `None`, or until the socket takes no more.
    #[must_use]
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        segments_max: usize,
        buffer: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let segments_max = if whim!(OneSegment) { 1 } else { segments_max };
        let transmit = self.connections.poll_transmit(now, segments_max, buffer)?;
        self.counters.bytes_sent += transmit.length as u64;
        Some(transmit)
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) at the latest. Not after the present
    /// while the user's wants are not acted on.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.wants_turn() {
            return Some(self.now);
        }
        let deadlines = [
            self.connections.deadline(),
            self.timers.deadline(),
            self.control.poll_timeout(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Whether a turn is wanted before any deadline.
    #[must_use]
    pub fn wants_turn(&self) -> bool {
        !self.commands.is_empty()
            || self.control.has_outputs()
            || self.connections.has_touched()
            || (self.phase == Phase::Closing && !self.connections.is_sending())
    }

    // What the user wants: the fabric.

    /// Contacts the configured neighbours; after a leave and without neighbours, members that the
    /// node knew. Ends with [`Event::Joined`].
    pub fn join(&mut self) {
        self.commands.push_back(Command::Join);
    }

    /// Leaves the fabric and stays: new flows with other nodes are refused, open ones live on until
    /// they end. [`Event::Left`] follows once some members know, or had their time to answer. A
    /// [`join`](Self::join) brings the node and its names back.
    pub fn leave(&mut self) {
        self.commands.push_back(Command::Leave);
    }

    /// Leaves the fabric, lets flows drain for at most `grace`, closes all connections.
    /// [`Event::Left`] and [`Event::Closed`] tell how far it is.
    pub fn shutdown(&mut self, grace: Duration) {
        self.commands.push_back(Command::Shutdown(grace));
    }

    // What the user wants: names.

    /// Asks members who owns a name. Ends with [`Event::Queried`].
    pub fn query(&mut self, request: QueryRequest) -> QueryId {
        self.issued += 1;
        let id = QueryId(self.issued);
        self.commands.push_back(Command::Query(id, request));
        id
    }

    /// Gives up a query that has not ended.
    pub fn cancel_query(&mut self, query: QueryId) {
        self.commands
            .retain(|command| !matches!(command, Command::Query(id, _) if *id == query));
        self.control.cancel_query(query);
    }

    // What the user wants: flows.

    /// Dials an endpoint by its name. Ends with [`Event::Dialled`].
    pub fn dial(&mut self, request: DialRequest) -> DialId {
        self.issued += 1;
        let id = DialId(self.issued);
        self.commands.push_back(Command::Dial(id, request));
        id
    }

    /// Gives up a dial that has not ended.
    pub fn cancel_dial(&mut self, dial: DialId) {
        self.commands
            .retain(|command| !matches!(command, Command::Dial(id, _) if *id == dial));
        self.abandon_dial(dial, Code::Cancelled);
    }

    // What there is to read.

    /// The node's name.
    #[must_use]
    pub const fn name(&self) -> &NodeName {
        &self.config.node
    }

    /// Where the node wants to be dialled.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.hello.address
    }

    /// The node's limits.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.config.limits
    }

    /// Round-trip times of the connections that are up.
    pub fn round_trip_times(&self) -> impl Iterator<Item = (&NodeName, Duration)> {
        self.connections
            .all_up()
            .map(|(name, peer)| (name, peer.round_trip_time()))
    }

    /// Who holds a name, as far as this node knows.
    #[must_use]
    pub fn resolve(&self, name: &EndpointName) -> control::Resolution {
        self.control.resolve(name)
    }

    /// All who serve a name now, as far as this node knows: the owner first, then the others if it
    /// is shared.
    #[must_use]
    pub fn holders(&self, name: &EndpointName) -> Vec<control::Holder> {
        self.control.holders(name)
    }

    /// The names that begin with `prefix` and come behind `after`, in order: at most `limit`.
    #[must_use]
    pub fn names(&self, prefix: &str, after: Option<&EndpointName>, limit: usize) -> NamePage {
        self.control.names(prefix, after, limit)
    }

    /// What was counted since the start.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        Counters {
            members_failed_falsely: self.control.failed_falsely(),
            ..self.counters
        }
    }

    /// What was not delivered, once the node has told [`Event::Closed`]. In-process flows are not
    /// the node's, and not in it.
    #[must_use]
    pub const fn shutdown_report(&self) -> &ShutdownReport {
        &self.shutdown_report
    }

    // The turn.

    /// Lets peers and the control tier talk to each other until both are quiet.
    fn follow(&mut self, now: Instant) {
        loop {
            let surroundings = surroundings(&self.hello, &self.config);
            if let Some((key, event)) = self.connections.poll_event(now, surroundings) {
                self.handle_peer(now, key, event);
            } else if let Some(output) = self.control.poll_output() {
                self.handle_control(now, output, None);
            } else {
                // An earlier run of this node may turn out to have had a later session.
                self.hello.session = self.control.session();
                return;
            }
        }
    }

    fn fire(&mut self, now: Instant, timer: Timer) {
        match timer {
            Timer::Unused => self.close_long_unused(now),
            Timer::Handshake(key) => self.expire_handshake(now, key),
            Timer::Throttled(key) => {
                // It is followed up.
                self.connections.touch(key);
            }
            Timer::FirstFrame(flow) => {
                if let Some(peer) = self.connections.touch(flow.peer) {
                    peer.expire_arrival(flow.stream);
                }
            }
            Timer::Dial(dial) => self.expire_dial(now, dial),
            Timer::Redial(dial) => self.drive_dial(now, dial),
            Timer::JoinSettled => {
                if let Some(join) = &mut self.join {
                    join.is_settled = true;
                }
            }
            Timer::Sleep(id) => self.wake(now, id),
            Timer::Grace => {
                if let Phase::ShuttingDown { is_overdue, .. } = &mut self.phase {
                    *is_overdue = true;
                }
            }
            Timer::SlowConsumers => self.report_slow_consumers(now),
        }
    }

    fn execute(&mut self, now: Instant, unix_time: Duration, command: Command) {
        match command {
            Command::Join => self.begin_join(now),
            Command::Claim(endpoint) => self.claim(now, unix_time, endpoint),
            Command::Release(name) => self.control.release(now, &name),
            Command::Dial(id, request) => self.begin_dial(now, id, request),
            Command::Query(id, request) => self.control.query(now, id, request),
            Command::Sleep { id, delay, period } => self.begin_sleep(now, id, delay, period),
            Command::SetLabels(labels) => self.change_labels(now, labels),
            Command::JudgePeers => self.judge_peers(now),
            Command::Leave => self.begin_leave(now),
            Command::Shutdown(grace) => self.begin_shutdown(now, grace),
        }
    }
}

const fn surroundings<'a>(hello: &'a Hello, config: &'a Config) -> Surroundings<'a> {
    Surroundings {
        hello,
        limits: &config.limits,
    }
}

fn refusal(reason: RefusalReason, detail: &str) -> FlowAnswer {
    FlowAnswer::Refused(Refusal::new(reason, detail))
}
