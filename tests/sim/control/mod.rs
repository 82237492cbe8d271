//! The control tier: membership and names alone, over messages, for many nodes and many seeds.
//!
//! Each node is a [`Control`], the very state machine that a whole node has inside. [`links`] stands
//! for QUIC: connections that take a round trip to make, streams that stall and datagrams that
//! vanish. The [`oracle`] hears every event, and [`checks`] compare what nodes hold with what is
//! the case.

mod checks;
mod faults;
mod links;
mod notary;
mod phases;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use grinta_proto::node::control::directory::DirectoryLimits;
use grinta_proto::node::control::{Control, ControlEvent, ControlOutput, Identity};
use grinta_proto::wire::control::{ControlMessage, SwimKind};
use grinta_proto::{Config, EndpointName, Neighbour, NodeName, Session};

use self::faults::{Active, Undo};
use self::links::Links;
use self::notary::Seal;
use crate::draw::{Draws, Purpose};
use crate::history::History;
use crate::marks::sometimes;
use crate::network::{HostId, Network};
use crate::oracle::{self, Oracle};
use crate::plan::{NodeId, Plan};
use crate::queue::Queue;
use crate::run::Lines;
use crate::scene::Scenes;
use crate::verdict::{Invariant, Outcome, Violation};
use crate::world::UNIX_EPOCH;

/// A fabric of control tiers under a plan.
pub(crate) struct World<'a> {
    plan: &'a Plan,
    draws: Draws,
    /// What the clock shows at the start; only differences to it matter.
    epoch: Instant,
    now: Duration,
    queue: Queue<Event>,
    network: Network,
    links: Links,
    limits: DirectoryLimits,
    nodes: Vec<Node>,
    places: BTreeMap<SocketAddr, NodeId>,
    history: History,
    oracle: Oracle,
    /// The faults under way, by the steps that began them.
    active: BTreeMap<usize, Active>,
    /// How often a node came back at another address.
    moves: u16,
    /// Which second it is, and how many messages arrived in it.
    rush: (u64, u32),
    /// Since when the core is healed, and the others not yet.
    core_healed_at: Option<Duration>,
    scratch: BytesMut,
    is_shutting_down: bool,
    is_over: bool,
    violation: Option<Violation>,
}

/// A machine and what runs on it.
struct Node {
    name: NodeName,
    address: SocketAddr,
    /// What its wall clock would have shown at the start.
    unix_epoch: Duration,
    /// How often it was started.
    runs: u64,
    /// What it was started as.
    session: Session,
    control: Option<Control>,
    /// The timer that is in the queue.
    armed: Option<Duration>,
    /// Since when it is frozen, and what waits for it.
    frozen: Option<(Duration, Vec<Event>)>,
    has_left: bool,
    /// When its process ended, while none runs.
    ended_at: Option<Duration>,
    /// The names that its program claimed and knows to be another's.
    knows_better: BTreeSet<EndpointName>,
    bytes_sent: u64,
    /// What it had sent when the calm began.
    sent_before_calm: u64,
}

#[derive(Debug)]
enum Event {
    Start(NodeId),
    Step(usize),
    Undo(Undo),
    Timer {
        node: NodeId,
        run: u64,
    },
    Deliver {
        link: links::Carried,
        message: Box<ControlMessage>,
    },
    Link(links::Event),
    /// A connection is up or gone, or was never made.
    Tell {
        node: NodeId,
        run: u64,
        news: News,
    },
    Check,
    Phase(phases::Phase),
}

#[derive(Debug)]
enum News {
    Up(Identity),
    Lost(NodeName),
    Unreachable(SocketAddr),
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up(peer) => write!(f, "is connected with {}", peer.name),
            Self::Lost(peer) => write!(f, "has lost {peer}"),
            Self::Unreachable(address) => write!(f, "does not reach {address}"),
        }
    }
}

/// Runs a plan to its end, or to the first invariant that breaks.
pub(crate) fn run(plan: &Plan, lines: Lines) -> Outcome {
    let mut world = World::new(plan);
    if lines == Lines::Kept {
        world.history.keep_lines();
        world.oracle.scenes.keep();
    }
    world.plan_phases();
    let _tripwire = grinta_tripwire::arm();
    while world.violation.is_none() && !world.is_over && world.step() {}
    if let Some(mut violation) = world.violation.take() {
        violation.nodes = world.nodes.iter().map(Node::describe).collect();
        world.violation = Some(violation);
    }
    Outcome {
        hash: world.history.hash(),
        events: world.history.events(),
        simulated: world.now,
        violation: world.violation,
        marks: BTreeSet::new(),
        lines: world.history.lines().to_vec(),
        scenes: Scenes::merged([world.oracle.scenes, world.history.scenes]),
    }
}

impl<'a> World<'a> {
    fn new(plan: &'a Plan) -> Self {
        let draws = Draws::new(plan.seed);
        let mut network = Network::new(draws);
        network.change_all(|link| *link = plan.link.clone());
        let nodes: Vec<_> = plan.node_ids().map(Node::new).collect();
        let places = plan
            .node_ids()
            .map(|id| (nodes[index(id)].address, id))
            .collect();
        Self {
            plan,
            draws,
            epoch: Instant::now(),
            now: Duration::ZERO,
            queue: Queue::new(),
            network,
            links: Links::default(),
            limits: DirectoryLimits::default(),
            oracle: Oracle::new(plan),
            nodes,
            places,
            history: History::new(),
            active: BTreeMap::new(),
            moves: 0,
            rush: (0, 0),
            core_healed_at: None,
            scratch: BytesMut::new(),
            is_shutting_down: false,
            is_over: false,
            violation: None,
        }
    }

    /// Lets the next event happen. False if there is none.
    fn step(&mut self) -> bool {
        let Some(at) = self.queue.next_at() else {
            return false;
        };
        self.now = at;
        let event = self.queue.pop_due(at).expect("the next one is due");
        self.handle(event);
        true
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Start(id) => self.start(id),
            Event::Step(index) => self.take_step(index),
            Event::Undo(undo) => self.undo(undo),
            Event::Link(event) => self.handle_link(event),
            Event::Check => self.check(),
            Event::Phase(phase) => self.begin_phase(phase),
            Event::Timer { node, run } => {
                let found = &mut self.nodes[index(node)];
                if found.runs != run || found.armed != Some(self.now) {
                    return;
                }
                found.armed = None;
                if !self.hold_back(node, || Event::Timer { node, run }) {
                    self.note(node, "timer");
                    self.act(node, |control, now, unix_time| {
                        control.handle_timeout(now, unix_time);
                    });
                }
            }
            Event::Deliver { link, message } => self.deliver(link, message),
            Event::Tell { node, run, news } => {
                if self.nodes[index(node)].runs == run {
                    self.bring(node, run, news);
                }
            }
        }
    }

    fn deliver(&mut self, link: links::Carried, message: Box<ControlMessage>) {
        if !self.links.carries(&link) || self.nodes[index(link.to)].runs != link.run_of_receiver {
            return;
        }
        let to = link.to;
        if self.nodes[index(to)].frozen.is_some() {
            let held = Event::Deliver { link, message };
            self.hold_back(to, || held);
            return;
        }
        self.count_message();
        let from = self.nodes[index(link.from)].name.clone();
        self.history.record(
            self.now,
            RECEIVED,
            [u64::from(to.0), u64::from(link.from.0)],
            &[],
            || format!("{to} receives from {}", link.from),
        );
        note_kind(&message);
        let handled = self.act(to, |control, now, _| {
            let hash = control.directory().hash();
            let violation = control.handle_message(now, &from, *message).err();
            (violation, control.directory().hash() != hash)
        });
        let (violation, is_replica_changed) = handled.unwrap_or_default();
        if is_replica_changed {
            self.look_at_replica(to);
        }
        if let Some(violation) = violation {
            self.fail(
                Invariant::S6,
                format!("{} refuses: {violation}", self.nodes[index(to)].name),
            );
        }
    }

    /// Messages that beget messages without an end break the bound on the work of a moment.
    fn count_message(&mut self) {
        let (second, count) = &mut self.rush;
        if *second != self.now.as_secs() {
            (*second, *count) = (self.now.as_secs(), 0);
        }
        *count += 1;
        let (count, bound) = (*count, MESSAGES_PER_NODE_MAX * self.plan.nodes);
        if count > bound {
            self.fail(
                Invariant::R2,
                format!("{count} messages arrive in a second"),
            );
        }
    }

    fn bring(&mut self, node: NodeId, run: u64, news: News) {
        if self.nodes[index(node)].frozen.is_some() {
            self.hold_back(node, || Event::Tell { node, run, news });
            return;
        }
        self.note(node, &news.to_string());
        self.act(node, |control, now, _| match news {
            News::Up(peer) => control.handle_up(now, peer),
            News::Lost(peer) => control.handle_lost(now, &peer),
            News::Unreachable(address) => control.handle_unreachable(now, address),
        });
    }

    /// Keeps an event for later if the node is frozen.
    fn hold_back(&mut self, node: NodeId, event: impl FnOnce() -> Event) -> bool {
        let held = self.nodes[index(node)].frozen.as_mut();
        held.map(|(_, held)| held.push(event())).is_some()
    }

    /// Starts a node, for the first time or again.
    fn start(&mut self, id: NodeId) {
        let (now, unix_time) = (self.instant(), self.unix_time(id));
        let node = &mut self.nodes[index(id)];
        if node.control.is_some() {
            return;
        }
        node.runs += 1;
        node.has_left = false;
        node.ended_at = None;
        node.knows_better.clear();
        let run = node.runs;
        let identity = Identity {
            name: node.name.clone(),
            address: node.address,
            session: Session(u64::try_from(unix_time.as_millis()).unwrap_or(u64::MAX)),
        };
        let mut config = Config::new(node.name.clone());
        let seeds = self.seeds_of(id);
        let neighbour = |&seed: &SocketAddr| Neighbour {
            host: seed.to_string(),
            addresses: Ok(vec![seed]),
        };
        config.neighbours = seeds.iter().map(neighbour).collect();
        let seed = self.draws.bytes(Purpose::NodeSeed, u64::from(id.0), run);
        self.nodes[index(id)].session = identity.session;
        let notary = Box::new(Seal(config.node.clone()));
        let control = Control::new(&config, identity, seed, now, unix_time).with_notary(notary);
        self.nodes[index(id)].control = Some(control);
        self.oracle.started(self.now, id);
        self.note(id, "starts");
        self.act(id, |control, now, _| control.join(now, &seeds));
    }

    /// Where a node looks for others: where the first three were at first. The very first looks
    /// nowhere, the first time.
    fn seeds_of(&self, id: NodeId) -> Vec<SocketAddr> {
        if id == NodeId(0) && self.nodes[index(id)].runs <= 1 && self.now.is_zero() {
            return Vec::new();
        }
        let others = self.plan.node_ids().filter(|&other| other != id);
        others.take(SEEDS).map(|other| place(other, 0)).collect()
    }

    /// Acts on a node, and does what it wants. `None` if it does not run.
    fn act<T>(
        &mut self,
        id: NodeId,
        act: impl FnOnce(&mut Control, Instant, Duration) -> T,
    ) -> Option<T> {
        let (now, unix_time) = (self.instant(), self.unix_time(id));
        let control = self.nodes[index(id)].control.as_mut()?;
        let done = act(control, now, unix_time);
        self.drain(id);
        self.arm(id);
        self.check_bounds(id);
        Some(done)
    }

    fn drain(&mut self, id: NodeId) {
        while let Some(output) = self.nodes[index(id)]
            .control
            .as_mut()
            .and_then(Control::poll_output)
        {
            match output {
                ControlOutput::Event(event) => self.hear(id, event),
                ControlOutput::Connect { address } => self.connect(id, address),
                ControlOutput::Send {
                    to,
                    address,
                    message,
                    channel,
                } => {
                    let mut contents = std::mem::take(&mut self.scratch);
                    contents.clear();
                    message.encode(&mut contents);
                    self.nodes[index(id)].bytes_sent += contents.len() as u64;
                    let subjects = [u64::from(id.0), channel as u64];
                    self.history
                        .record(self.now, SENT, subjects, &contents, || {
                            format!("{id} sends {} bytes to {to}", contents.len())
                        });
                    let sent = links::Sent {
                        from: id,
                        to,
                        address,
                        channel,
                        length: contents.len(),
                    };
                    self.scratch = contents;
                    self.send(sent, message);
                }
                other => unreachable!("the simulator does not know {other:?}"),
            }
        }
    }

    fn hear(&mut self, id: NodeId, event: ControlEvent) {
        self.note(id, &format!("tells {}", oracle::summary(&event)));
        if let Err((invariant, what)) = self.oracle.hear(self.now, id, &event) {
            self.fail(invariant, format!("at {id}: {what}"));
        }
        let knows_better = &mut self.nodes[index(id)].knows_better;
        if let ControlEvent::NameLost { name, .. } = &event {
            knows_better.insert(name.clone());
        } else if let ControlEvent::NamePromoted { name } = &event {
            knows_better.remove(name);
        }
        // One that joins while it leaves has left first.
        if event == ControlEvent::Left && self.oracle.has_left(id) {
            self.nodes[index(id)].has_left = true;
            self.close_links(id);
        }
    }

    /// Puts a node's next deadline into the queue, unless it is there.
    fn arm(&mut self, id: NodeId) {
        let epoch = self.epoch;
        let node = &mut self.nodes[index(id)];
        let Some(deadline) = node.control.as_ref().and_then(Control::poll_timeout) else {
            node.armed = None;
            return;
        };
        let at = deadline.saturating_duration_since(epoch);
        if node.armed == Some(at) {
            return;
        }
        node.armed = Some(at.max(self.now));
        let run = node.runs;
        if let Err(what) = self.oracle.armed(self.now, id, at) {
            self.fail(Invariant::R2, what);
        }
        self.queue
            .plan(at.max(self.now), Event::Timer { node: id, run });
    }

    fn fail(&mut self, invariant: Invariant, what: String) {
        self.violation
            .get_or_insert_with(|| Violation::new(invariant, self.now, what));
    }

    /// Puts into the history what happens at a node.
    fn note(&mut self, node: NodeId, what: &str) {
        let subjects = [u64::from(node.0), 0];
        self.history
            .record(self.now, NOTED, subjects, what.as_bytes(), || {
                format!("{node} {what}")
            });
    }

    fn instant(&self) -> Instant {
        self.epoch + self.now
    }

    fn unix_time(&self, id: NodeId) -> Duration {
        self.nodes[index(id)].unix_epoch + self.now
    }
}

impl Node {
    fn new(id: NodeId) -> Self {
        Self {
            name: NodeName::new(id.to_string()).expect("a letter and digits"),
            address: place(id, 0),
            unix_epoch: UNIX_EPOCH,
            runs: 0,
            session: Session(0),
            control: None,
            armed: None,
            frozen: None,
            has_left: false,
            ended_at: None,
            knows_better: BTreeSet::new(),
            bytes_sent: 0,
            sent_before_calm: 0,
        }
    }

    /// What it is and holds, in a line.
    fn describe(&self) -> String {
        let state = match (&self.control, &self.frozen, self.has_left) {
            (None, _, _) => "does not run",
            (Some(_), Some(_), _) => "is frozen",
            (Some(_), None, true) => "has left",
            (Some(_), None, false) => "runs",
        };
        let held = self.control.as_ref().map(|control| {
            let page = control.directory().scan("", None, usize::MAX);
            let names = page.listings.into_iter();
            oracle::Held {
                members: control.members().collect(),
                names: names.map(|listing| (listing.name, listing.owner)).collect(),
            }
        });
        oracle::account(&self.name, self.runs, state, held)
    }

    /// Whether its process runs and takes part.
    fn takes_part(&self) -> bool {
        self.control.is_some() && !self.has_left
    }
}

/// Notes what is told that is told seldom.
fn note_kind(message: &ControlMessage) {
    match message {
        ControlMessage::Swim(packet) => {
            let kind = &packet.header.kind;
            sometimes!(matches!(kind, SwimKind::PingRequest { .. }), PingRequest);
            sometimes!(matches!(kind, SwimKind::ForwardedAck { .. }), ForwardedAck);
            sometimes!(matches!(kind, SwimKind::TurnUndead), TurnUndead);
        }
        ControlMessage::LeaveAcknowledged(_) => sometimes!(true, LeaveAcknowledged),
        ControlMessage::MemberDigest(_) => sometimes!(true, MemberDigest),
        ControlMessage::MemberAnswer(_) => sometimes!(true, MemberAnswer),
        ControlMessage::NamePull(_) => sometimes!(true, NamePull),
        ControlMessage::Names(names) => {
            sometimes!(names.deltas.iter().any(|set| set.after.0 == 0), WholeSet);
        }
        ControlMessage::Leave(_)
        | ControlMessage::Members(_)
        | ControlMessage::Rumour(_)
        | ControlMessage::SyncRequest(_)
        | ControlMessage::SyncReply(_)
        | ControlMessage::NameHeads(_)
        | ControlMessage::NameQuery(_)
        | ControlMessage::NameAnswer(_) => {}
    }
}

/// The address of a node that has moved so many times.
fn place(id: NodeId, moves: u16) -> SocketAddr {
    let ip = Ipv4Addr::from_bits(0x0a00_0001 + id.0);
    SocketAddr::from((ip, 7400 + moves))
}

/// How many places a node looks for others at.
const SEEDS: usize = 3;

/// How many messages may arrive in a second, for each node: many times what a storm of joins takes.
const MESSAGES_PER_NODE_MAX: u32 = 2000;

const fn index(id: NodeId) -> usize {
    id.index()
}

const fn host(id: NodeId) -> HostId {
    HostId(id.0)
}

/// What the history tells apart.
const TOLD: u64 = 0;
const NOTED: u64 = 1;
const RECEIVED: u64 = 2;
const SENT: u64 = 3;
