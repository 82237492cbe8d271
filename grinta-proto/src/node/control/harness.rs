//! A world of control tiers for tests: virtual time, typed messages, latency, seeded loss, cuts.
//!
//! Connections are made when somebody sends or asks for one, take a round trip, and keep streams
//! in order. A cut link loses datagrams in silence and breaks the connection. A step costs the
//! logarithm of the world, so that a thousand nodes are within a test's reach.

mod notary;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

pub(super) use self::notary::Seal;
pub(in crate::node) use self::notary::{Signer, certificate_id};
use super::*;
use crate::config::{Limits, Neighbour};
use crate::wire::control::{DATAGRAM_LEN_MAX, SwimKind, SwimPacket};

/// Nodes, and what is under way between them.
pub(super) struct World {
    pub(super) start: Instant,
    pub(super) now: Instant,
    nodes: BTreeMap<usize, Node>,
    addresses: BTreeMap<SocketAddr, usize>,
    deadlines: BTreeSet<(Instant, usize)>,
    queue: BTreeMap<(Instant, u64), Incident>,
    links: BTreeSet<(usize, usize)>,
    arrivals: BTreeMap<(usize, usize), Instant>,
    waiting: BTreeMap<(usize, usize), Vec<ControlMessage>>,
    sides: BTreeMap<usize, u8>,
    frozen: BTreeMap<usize, Vec<Incident>>,
    incidents: u64,
    rng: StdRng,
    /// Of a thousand datagrams, so many are lost.
    pub(super) loss: u32,
    /// The timings of nodes that boot from now on.
    pub(super) membership: MembershipConfig,
    /// The limits of nodes that boot from now on.
    pub(super) limits: Limits,
    /// Who said to whom what it may not, if that is expected. The connection is closed.
    pub(super) violations: Option<Vec<(usize, usize, Violation)>>,
    /// What was delivered and told while `is_traced`.
    pub(super) trace: Vec<String>,
    pub(super) is_traced: bool,
    /// When each node asked for a connection, and where to.
    pub(super) connects: Vec<(Instant, NodeName, SocketAddr)>,
    /// Packets by what they were for.
    pub(super) sent: BTreeMap<&'static str, u64>,
    /// Bytes of all messages.
    pub(super) bytes: u64,
}

/// One node and what it told its program.
pub(super) struct Node {
    pub(super) control: Control,
    pub(super) events: Vec<(Instant, ControlEvent)>,
    deadline: Option<Instant>,
}

#[derive(Debug)]
enum Incident {
    Deliver {
        to: usize,
        from: usize,
        session: Session,
        message: Box<ControlMessage>,
    },
    Up {
        a: usize,
        b: usize,
    },
    Reached {
        at: usize,
        address: SocketAddr,
        peer: usize,
    },
    Broken {
        at: usize,
        peer: usize,
    },
    Unreachable {
        at: usize,
        address: SocketAddr,
    },
}

pub(super) const UNIX: Duration = Duration::from_secs(1_800_000_000);

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let start = epoch();
        Self {
            start,
            now: start,
            nodes: BTreeMap::new(),
            addresses: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            queue: BTreeMap::new(),
            links: BTreeSet::new(),
            arrivals: BTreeMap::new(),
            waiting: BTreeMap::new(),
            sides: BTreeMap::new(),
            frozen: BTreeMap::new(),
            incidents: 0,
            rng: StdRng::seed_from_u64(seed),
            loss: 0,
            membership: MembershipConfig::default(),
            limits: Limits::default(),
            violations: None,
            trace: Vec::new(),
            is_traced: false,
            connects: Vec::new(),
            sent: BTreeMap::new(),
            bytes: 0,
        }
    }

    /// `count` nodes that all know the first one as their seed, and have begun to join.
    pub(super) fn of(seed: u64, count: usize) -> Self {
        let mut world = Self::new(seed);
        world.boot_all(count);
        world
    }

    /// Boots nodes that all know the first one as their seed.
    pub(super) fn boot_all(&mut self, count: usize) {
        for index in 0..count {
            self.boot(index, Session(1), &[0]);
        }
    }

    pub(super) fn boot(&mut self, index: usize, session: Session, seeds: &[usize]) {
        self.boot_at(index, address(index), session, seeds);
    }

    pub(super) fn boot_at(
        &mut self,
        index: usize,
        address_: SocketAddr,
        session: Session,
        seeds: &[usize],
    ) {
        let seeds: Vec<_> = seeds.iter().map(|&seed| address(seed)).collect();
        let mut config = Config::new(name(index));
        config.neighbours = seeds
            .iter()
            .map(|seed| Neighbour {
                host: seed.to_string(),
                addresses: Ok(vec![*seed]),
            })
            .collect();
        config.membership = self.membership.clone();
        config.limits = self.limits.clone();
        let identity = Identity {
            name: name(index),
            address: address_,
            session,
        };
        let seed = self.rng.random();
        let control = Control::new(&config, identity, seed, self.now, self.unix());
        let mut control = control.with_notary(Box::new(Seal::new(name(index), 1)));
        control.join(self.now, &seeds);
        self.addresses.insert(address_, index);
        let node = Node {
            control,
            events: Vec::new(),
            deadline: None,
        };
        self.nodes.insert(index, node);
        self.drain(index);
    }

    /// An address besides the one that a node wants to be dialled at leads to it.
    pub(super) fn lead(&mut self, address: SocketAddr, index: usize) {
        self.addresses.insert(address, index);
    }

    /// The process ends without a word.
    pub(super) fn crash(&mut self, index: usize) {
        if let Some(node) = self.nodes.remove(&index) {
            self.addresses.retain(|_, there| *there != index);
            let deadline = node.deadline.map(|deadline| (deadline, index));
            deadline.map(|deadline| self.deadlines.remove(&deadline));
        }
        self.waiting.retain(|&(a, b), _| a != index && b != index);
        let links = self
            .links
            .iter()
            .filter(|&&(a, b)| a == index || b == index);
        for (a, b) in links.copied().collect::<Vec<_>>() {
            self.links.remove(&(a, b));
            let at = if a == index { b } else { a };
            self.schedule(IDLE, Incident::Broken { at, peer: index });
        }
    }

    /// Only nodes of one side reach each other.
    pub(super) fn cut(&mut self, side_of: impl Fn(usize) -> u8, count: usize) {
        self.sides = (0..count).map(|index| (index, side_of(index))).collect();
    }

    pub(super) fn heal(&mut self) {
        self.sides.clear();
    }

    /// Stops a process; what comes for it waits in its socket.
    pub(super) fn freeze(&mut self, index: usize) {
        self.frozen.insert(index, Vec::new());
        self.note_deadline(index);
    }

    /// Lets a process go on: first what waits in its socket, then its timers.
    pub(super) fn thaw(&mut self, index: usize) {
        for incident in self.frozen.remove(&index).unwrap_or_default() {
            self.handle(incident);
        }
        self.act(index, |control, now, unix| {
            control.handle_timeout(now, unix)
        });
    }

    pub(super) fn unix(&self) -> Duration {
        UNIX + (self.now - self.start)
    }

    pub(super) fn node(&self, index: usize) -> &Node {
        &self.nodes[&index]
    }

    pub(super) fn indices(&self) -> Vec<usize> {
        self.nodes.keys().copied().collect()
    }

    /// Acts on a node as its program does.
    pub(super) fn act<T>(
        &mut self,
        index: usize,
        act: impl FnOnce(&mut Control, Instant, Duration) -> T,
    ) -> T {
        let (now, unix) = (self.now, self.unix());
        let node = self.nodes.get_mut(&index).unwrap();
        let result = act(&mut node.control, now, unix);
        self.drain(index);
        result
    }

    /// Runs until nothing is due before `duration` from now.
    pub(super) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.step(end) {}
        self.now = end;
    }

    /// Runs until `reached`, and returns how long it took.
    ///
    /// # Panics
    /// If that takes longer than `bound`.
    pub(super) fn run_until(
        &mut self,
        bound: Duration,
        what: &str,
        reached: impl Fn(&Self) -> bool,
    ) -> Duration {
        let begun = self.now;
        while !reached(self) {
            assert!(self.now < begun + bound, "{what}: not within {bound:?}");
            // Looking is dear in a large world.
            self.run(GLANCE);
        }
        self.now - begun
    }

    /// Handles all that is due next, messages before timers. False if that is after `end`.
    fn step(&mut self, end: Instant) -> bool {
        let timer = self.deadlines.first().map(|(time, _)| *time);
        let message = self.queue.keys().next().map(|(time, _)| *time);
        let Some(next) = [timer, message].into_iter().flatten().min() else {
            return false;
        };
        if next > end {
            return false;
        }
        self.now = self.now.max(next);
        while let Some(entry) = self.queue.first_entry()
            && entry.key().0 <= self.now
        {
            let incident = entry.remove();
            self.handle(incident);
        }
        let (now, unix) = (self.now, self.unix());
        let due = self.deadlines.iter().take_while(|(time, _)| *time <= now);
        let mut due: Vec<_> = due.map(|(_, index)| *index).collect();
        due.sort_unstable();
        for index in due {
            let node = self.nodes.get_mut(&index).unwrap();
            node.control.handle_timeout(now, unix);
            self.drain(index);
        }
        true
    }

    fn handle(&mut self, incident: Incident) {
        let now = self.now;
        match incident {
            Incident::Deliver {
                to,
                from,
                session,
                message,
            } => {
                let sender = self.nodes.get(&from);
                let is_stale = sender.is_some_and(|node| node.control.session() != session);
                if !self.reaches(from, to) || is_stale {
                    return;
                }
                if let Some(held) = self.frozen.get_mut(&to) {
                    held.push(Incident::Deliver {
                        to,
                        from,
                        session,
                        message,
                    });
                    return;
                }
                let Some(node) = self.nodes.get_mut(&to) else {
                    return;
                };
                let sender = name(from);
                if self.is_traced {
                    let to = name(to);
                    let line = format!("{:?} {sender}>{to} {message:?}", now - self.start);
                    self.trace.push(line);
                }
                let handled = node.control.handle_message(now, &sender, *message);
                self.drain(to);
                if let Err(violation) = handled {
                    self.close(from, to, violation);
                }
            }
            Incident::Up { a, b } => self.connect(a, b),
            Incident::Reached { at, address, peer } => {
                if let Some(node) = self.nodes.get_mut(&at) {
                    node.control.handle_reached(address, &name(peer));
                    self.connect(at, peer);
                }
            }
            Incident::Broken { at, peer } => {
                if self.links.contains(&link(at, peer)) {
                    return;
                }
                if let Some(node) = self.nodes.get_mut(&at) {
                    node.control.handle_lost(now, &name(peer));
                    self.drain(at);
                }
            }
            Incident::Unreachable { at, address } => {
                if let Some(node) = self.nodes.get_mut(&at) {
                    node.control.handle_unreachable(now, address);
                    self.drain(at);
                }
            }
        }
    }

    /// A node closes the connection to one that broke the protocol.
    fn close(&mut self, guilty: usize, at: usize, violation: Violation) {
        let violations = self.violations.as_mut();
        let violations = violations.unwrap_or_else(|| panic!("{guilty} to {at}: {violation}"));
        violations.push((guilty, at, violation));
        self.links.remove(&link(at, guilty));
        for (at, peer) in [(at, guilty), (guilty, at)] {
            self.schedule(LATENCY, Incident::Broken { at, peer });
        }
    }

    fn connect(&mut self, a: usize, b: usize) {
        let both = self.nodes.contains_key(&a) && self.nodes.contains_key(&b);
        if !both || !self.reaches(a, b) {
            self.waiting.remove(&(a, b));
            return;
        }
        if self.links.insert(link(a, b)) {
            for (at, peer) in [(a, b), (b, a)] {
                let peer = self.nodes[&peer].control.identity();
                let now = self.now;
                let node = self.nodes.get_mut(&at).unwrap();
                node.control.handle_up(now, peer);
                self.drain(at);
            }
        }
        for message in self.waiting.remove(&(a, b)).unwrap_or_default() {
            self.transmit(a, b, message, Channel::Stream);
        }
    }

    /// Does what a node wants done.
    fn drain(&mut self, at: usize) {
        while let Some(output) = self.nodes.get_mut(&at).unwrap().control.poll_output() {
            match output {
                ControlOutput::Event(event) => {
                    if self.is_traced {
                        let line = format!("{:?} {}! {event:?}", self.now - self.start, name(at));
                        self.trace.push(line);
                    }
                    let node = self.nodes.get_mut(&at).unwrap();
                    node.events.push((self.now, event));
                }
                ControlOutput::Connect { address } => {
                    self.connects.push((self.now, name(at), address));
                    match self.addresses.get(&address) {
                        Some(&peer) if peer != at && self.reaches(at, peer) => {
                            let incident = Incident::Reached { at, address, peer };
                            self.schedule(2 * LATENCY, incident);
                        }
                        Some(_) | None => {
                            let incident = Incident::Unreachable { at, address };
                            self.schedule(Duration::from_secs(2), incident);
                        }
                    }
                }
                ControlOutput::Send {
                    to,
                    address,
                    message,
                    channel,
                } => {
                    self.account(&message, channel);
                    let to = index_of(&to);
                    if self.links.contains(&link(at, to)) {
                        self.transmit(at, to, message, channel);
                    } else if self.addresses.get(&address) == Some(&to) && self.reaches(at, to) {
                        let is_dialled = self.waiting.contains_key(&(at, to));
                        self.waiting.entry((at, to)).or_default().push(message);
                        if !is_dialled {
                            self.schedule(2 * LATENCY, Incident::Up { a: at, b: to });
                        }
                    }
                }
            }
        }
        self.note_deadline(at);
    }

    fn note_deadline(&mut self, at: usize) {
        let node = self.nodes.get_mut(&at).unwrap();
        let is_awake = !self.frozen.contains_key(&at);
        let next = node.control.poll_timeout().filter(|_| is_awake);
        if node.deadline != next {
            if let Some(before) = std::mem::replace(&mut node.deadline, next) {
                self.deadlines.remove(&(before, at));
            }
            self.deadlines.extend(next.map(|next| (next, at)));
        }
    }

    fn transmit(&mut self, from: usize, to: usize, message: ControlMessage, channel: Channel) {
        if !self.reaches(from, to) {
            if channel == Channel::Stream && self.links.remove(&link(from, to)) {
                for (at, peer) in [(from, to), (to, from)] {
                    self.schedule(IDLE, Incident::Broken { at, peer });
                }
            }
            return;
        }
        let jitter = Duration::from_micros(self.rng.random_range(0..500));
        let mut arrival = self.now + LATENCY + jitter;
        match channel {
            Channel::Datagram if self.rng.random_range(0..1000) < self.loss => return,
            Channel::Datagram => {}
            Channel::Stream => {
                let last = self.arrivals.entry((from, to)).or_insert(arrival);
                arrival = arrival.max(*last);
                *last = arrival;
            }
        }
        let deliver = Incident::Deliver {
            to,
            from,
            session: self.nodes[&from].control.session(),
            message: Box::new(message),
        };
        self.schedule(arrival - self.now, deliver);
    }

    fn account(&mut self, message: &ControlMessage, channel: Channel) {
        let length = if self.nodes.len() <= CHECKED {
            let mut bytes = bytes::BytesMut::new();
            message.encode(&mut bytes);
            assert_eq!(ControlMessage::decode(&bytes).as_ref(), Ok(message));
            bytes.len()
        } else {
            message.encoded_len()
        };
        self.bytes += length as u64;
        let limit = match channel {
            Channel::Datagram => DATAGRAM_LEN_MAX,
            Channel::Stream => 64 * 1024,
        };
        assert!(
            length <= limit,
            "{length} bytes on {channel:?}: {message:?}"
        );
        *self.sent.entry(kind(message)).or_default() += 1;
    }

    fn schedule(&mut self, delay: Duration, incident: Incident) {
        self.incidents += 1;
        let key = (self.now + delay, self.incidents);
        self.queue.insert(key, incident);
    }

    fn reaches(&self, a: usize, b: usize) -> bool {
        self.sides.is_empty() || self.sides.get(&a) == self.sides.get(&b)
    }
}

pub(super) fn name(index: usize) -> NodeName {
    NodeName::new(format!("n{index}")).unwrap()
}

pub(super) fn address(index: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, (index / 250) as u8, (index % 250) as u8 + 1], 4600))
}

fn index_of(name: &NodeName) -> usize {
    name.as_str()[1..].parse().unwrap()
}

fn link(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

/// What a message is for, in a word.
const fn kind(message: &ControlMessage) -> &'static str {
    match message {
        ControlMessage::Swim(SwimPacket { header, .. }) => match header.kind {
            SwimKind::TurnUndead => "turn undead",
            SwimKind::Gossip => "swim gossip",
            SwimKind::Ping(_)
            | SwimKind::Ack(_)
            | SwimKind::PingRequest { .. }
            | SwimKind::IndirectPing { .. }
            | SwimKind::IndirectAck { .. }
            | SwimKind::ForwardedAck { .. } => "probe",
        },
        ControlMessage::Rumour(_) => "rumour",
        ControlMessage::SyncRequest(_) => "request",
        ControlMessage::SyncReply(_) => "reply",
        ControlMessage::Members(_) => "members",
        ControlMessage::MemberDigest(_) | ControlMessage::MemberAnswer(_) => "digests",
        ControlMessage::NameHeads(_) => "heads",
        ControlMessage::NamePull(_) => "pull",
        ControlMessage::Names(_) => "names",
        ControlMessage::NameQuery(_) => "query",
        ControlMessage::NameAnswer(_) => "answer",
        ControlMessage::Leave(_) | ControlMessage::LeaveAcknowledged(_) => "leave",
    }
}

const GLANCE: Duration = Duration::from_millis(5);

const LATENCY: Duration = Duration::from_micros(500);

/// After this long without an answer a connection is lost.
const IDLE: Duration = Duration::from_secs(15);

/// Worlds up to this size encode and decode every message; larger ones only measure them.
const CHECKED: usize = 64;

#[expect(
    clippy::disallowed_methods,
    reason = "any instant serves as the origin of a test"
)]
pub(super) fn epoch() -> Instant {
    Instant::now()
}
