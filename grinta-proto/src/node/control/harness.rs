//! A world of control tiers for tests: virtual time, typed messages, latency, seeded loss, cuts.
//!
//! Connections are made when somebody sends or asks for one, take a round trip, and keep streams
//! in order. A cut link loses datagrams in silence and breaks the connection.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::config::Neighbour;
use crate::node::event::MemberEvent;
use crate::wire::control::{DATAGRAM_LEN_MAX, SwimKind, SwimPacket};

/// Nodes, and what is under way between them.
pub(super) struct World {
    pub(super) start: Instant,
    pub(super) now: Instant,
    nodes: BTreeMap<NodeName, Node>,
    queue: BTreeMap<(Instant, u64), Incident>,
    links: BTreeSet<(NodeName, NodeName)>,
    arrivals: BTreeMap<(NodeName, NodeName), Instant>,
    waiting: BTreeMap<(NodeName, NodeName), Vec<ControlMessage>>,
    sides: BTreeMap<NodeName, u8>,
    frozen: BTreeMap<NodeName, Vec<Incident>>,
    incidents: u64,
    rng: StdRng,
    /// Of a thousand datagrams, so many are lost.
    pub(super) loss: u32,
    /// How long nodes that boot from now on remember the dead.
    pub(super) retention: Duration,
    /// What was delivered and told while `is_traced`.
    pub(super) trace: Vec<String>,
    pub(super) is_traced: bool,
    /// When each node asked for a connection, and where to.
    pub(super) connects: Vec<(Instant, NodeName, SocketAddr)>,
    /// Packets by what they were for.
    pub(super) sent: BTreeMap<&'static str, u64>,
    pub(super) bytes: u64,
}

/// One node and what it told its program.
pub(super) struct Node {
    pub(super) control: Control,
    pub(super) events: Vec<(Instant, ControlEvent)>,
}

#[derive(Debug)]
enum Incident {
    Deliver {
        to: NodeName,
        from: NodeName,
        session: Session,
        message: Box<ControlMessage>,
    },
    Up {
        a: NodeName,
        b: NodeName,
    },
    Broken {
        at: NodeName,
        peer: NodeName,
    },
    Unreachable {
        at: NodeName,
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
            queue: BTreeMap::new(),
            links: BTreeSet::new(),
            arrivals: BTreeMap::new(),
            waiting: BTreeMap::new(),
            sides: BTreeMap::new(),
            frozen: BTreeMap::new(),
            incidents: 0,
            rng: StdRng::seed_from_u64(seed),
            loss: 0,
            retention: Duration::from_secs(48 * 3600),
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
        for index in 0..count {
            world.boot(index, Session(1), &[0]);
        }
        world
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
        config.membership.down_retention = self.retention;
        let identity = Identity {
            name: name(index),
            address: address_,
            session,
        };
        let seed = self.rng.random();
        let mut control = Control::new(&config, identity, seed, self.now, self.unix());
        control.join(self.now, &seeds);
        self.nodes.insert(
            name(index),
            Node {
                control,
                events: Vec::new(),
            },
        );
        self.drain(&name(index));
    }

    /// The process ends without a word.
    pub(super) fn crash(&mut self, index: usize) {
        let name = name(index);
        self.nodes.remove(&name);
        self.waiting.retain(|(a, b), _| *a != name && *b != name);
        let links: Vec<_> = self
            .links
            .iter()
            .filter(|(a, b)| *a == name || *b == name)
            .cloned()
            .collect();
        for (a, b) in links {
            self.links.remove(&(a.clone(), b.clone()));
            let peer = if a == name { b } else { a };
            self.schedule(
                Duration::from_secs(15),
                Incident::Broken {
                    at: peer,
                    peer: name.clone(),
                },
            );
        }
    }

    /// Only nodes of one side reach each other.
    pub(super) fn cut(&mut self, side_of: impl Fn(usize) -> u8, count: usize) {
        self.sides = (0..count)
            .map(|index| (name(index), side_of(index)))
            .collect();
    }

    pub(super) fn heal(&mut self) {
        self.sides.clear();
    }

    /// Stops a process; what comes for it waits in its socket.
    pub(super) fn freeze(&mut self, index: usize) {
        self.frozen.insert(name(index), Vec::new());
    }

    /// Lets a process go on: first what waits in its socket, then its timers.
    pub(super) fn thaw(&mut self, index: usize) {
        for incident in self.frozen.remove(&name(index)).unwrap_or_default() {
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
        &self.nodes[&name(index)]
    }

    pub(super) fn indices(&self) -> Vec<usize> {
        self.nodes
            .keys()
            .map(|name| name.as_str()[1..].parse().unwrap())
            .collect()
    }

    /// Acts on a node as its program does.
    pub(super) fn act<T>(
        &mut self,
        index: usize,
        act: impl FnOnce(&mut Control, Instant, Duration) -> T,
    ) -> T {
        let (now, unix) = (self.now, self.unix());
        let node = self.nodes.get_mut(&name(index)).unwrap();
        let result = act(&mut node.control, now, unix);
        self.drain(&name(index));
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
        let awake = self
            .nodes
            .iter()
            .filter(|(name, _)| !self.frozen.contains_key(*name));
        let timers = awake
            .filter_map(|(_, node)| node.control.poll_timeout())
            .min();
        let message = self.queue.keys().next().map(|(time, _)| *time);
        let Some(next) = [timers, message].into_iter().flatten().min() else {
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
        let due = |node: &Node| node.control.poll_timeout().is_some_and(|time| time <= now);
        let due: Vec<_> = self
            .nodes
            .iter()
            .filter(|(name, node)| due(node) && !self.frozen.contains_key(*name))
            .map(|(name, _)| name.clone())
            .collect();
        for name in due {
            self.nodes
                .get_mut(&name)
                .unwrap()
                .control
                .handle_timeout(now, unix);
            self.drain(&name);
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
                let runs = self
                    .nodes
                    .get(&from)
                    .is_some_and(|node| node.control.identity().session == session);
                if !self.reaches(&from, &to) || (!runs && self.nodes.contains_key(&from)) {
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
                if self.is_traced {
                    let line = format!("{:?} {from}>{to} {message:?}", now - self.start);
                    self.trace.push(line);
                }
                node.control.handle_message(now, &from, *message).unwrap();
                self.drain(&to);
            }
            Incident::Up { a, b } => self.connect(&a, &b),
            Incident::Broken { at, peer } => {
                if self.links.contains(&link(&at, &peer)) {
                    return;
                }
                if let Some(node) = self.nodes.get_mut(&at) {
                    node.control.handle_lost(now, &peer);
                    self.drain(&at);
                }
            }
            Incident::Unreachable { at, address } => {
                if let Some(node) = self.nodes.get_mut(&at) {
                    node.control.handle_unreachable(now, address);
                    self.drain(&at);
                }
            }
        }
    }

    fn connect(&mut self, a: &NodeName, b: &NodeName) {
        if !self.reaches(a, b) || !self.nodes.contains_key(a) || !self.nodes.contains_key(b) {
            self.waiting.remove(&(a.clone(), b.clone()));
            return;
        }
        if self.links.insert(link(a, b)) {
            for (at, peer) in [(a, b), (b, a)] {
                let peer = self.nodes[peer].control.identity();
                let now = self.now;
                self.nodes.get_mut(at).unwrap().control.handle_up(now, peer);
                self.drain(at);
            }
        }
        for message in self
            .waiting
            .remove(&(a.clone(), b.clone()))
            .unwrap_or_default()
        {
            self.transmit(a, b, message, Channel::Stream);
        }
    }

    fn drain(&mut self, at: &NodeName) {
        while let Some(output) = self.nodes.get_mut(at).unwrap().control.poll_output() {
            match output {
                ControlOutput::Event(event) => {
                    if self.is_traced {
                        let line = format!("{:?} {at}! {event:?}", self.now - self.start);
                        self.trace.push(line);
                    }
                    self.nodes
                        .get_mut(at)
                        .unwrap()
                        .events
                        .push((self.now, event));
                }
                ControlOutput::Connect { address } => {
                    self.connects.push((self.now, at.clone(), address));
                    match self.at(address) {
                        Some(peer) if peer != *at && self.reaches(at, &peer) => {
                            let up = Incident::Up {
                                a: at.clone(),
                                b: peer,
                            };
                            self.schedule(2 * LATENCY, up);
                        }
                        Some(_) | None => {
                            let incident = Incident::Unreachable {
                                at: at.clone(),
                                address,
                            };
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
                    if self.links.contains(&link(at, &to)) {
                        self.transmit(at, &to, message, channel);
                    } else if self.at(address).as_ref() == Some(&to) && self.reaches(at, &to) {
                        let key = (at.clone(), to.clone());
                        let is_dialled = self.waiting.contains_key(&key);
                        self.waiting.entry(key).or_default().push(message);
                        if !is_dialled {
                            self.schedule(
                                2 * LATENCY,
                                Incident::Up {
                                    a: at.clone(),
                                    b: to,
                                },
                            );
                        }
                    }
                }
            }
        }
    }

    fn transmit(
        &mut self,
        from: &NodeName,
        to: &NodeName,
        message: ControlMessage,
        channel: Channel,
    ) {
        if !self.reaches(from, to) {
            if channel == Channel::Stream && self.links.remove(&link(from, to)) {
                for (at, peer) in [(from, to), (to, from)] {
                    let broken = Incident::Broken {
                        at: at.clone(),
                        peer: peer.clone(),
                    };
                    self.schedule(Duration::from_secs(15), broken);
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
                let last = self
                    .arrivals
                    .entry((from.clone(), to.clone()))
                    .or_insert(arrival);
                arrival = arrival.max(*last);
                *last = arrival;
            }
        }
        let session = self.nodes[from].control.identity().session;
        let deliver = Incident::Deliver {
            to: to.clone(),
            from: from.clone(),
            session,
            message: Box::new(message),
        };
        self.schedule(arrival - self.now, deliver);
    }

    fn account(&mut self, message: &ControlMessage, channel: Channel) {
        let mut bytes = bytes::BytesMut::new();
        message.encode(&mut bytes);
        assert_eq!(ControlMessage::decode(&bytes).as_ref(), Ok(message));
        self.bytes += bytes.len() as u64;
        let limit = match channel {
            Channel::Datagram => DATAGRAM_LEN_MAX,
            Channel::Stream => 64 * 1024,
        };
        assert!(
            bytes.len() <= limit,
            "{} bytes on {channel:?}: {message:?}",
            bytes.len()
        );
        let kind = match message {
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
            ControlMessage::NameHeads(_) => "heads",
            ControlMessage::NamePull(_) => "pull",
            ControlMessage::Names(_) => "names",
            ControlMessage::NameQuery(_) => "query",
            ControlMessage::NameAnswer(_) => "answer",
            ControlMessage::Leave(_) | ControlMessage::LeaveAcknowledged(_) => "leave",
        };
        *self.sent.entry(kind).or_default() += 1;
    }

    fn schedule(&mut self, delay: Duration, incident: Incident) {
        self.incidents += 1;
        self.queue
            .insert((self.now + delay, self.incidents), incident);
    }

    fn at(&self, address: SocketAddr) -> Option<NodeName> {
        let mut nodes = self.nodes.values().map(|node| node.control.identity());
        nodes
            .find(|identity| identity.address == address)
            .map(|identity| identity.name)
    }

    fn reaches(&self, a: &NodeName, b: &NodeName) -> bool {
        self.sides.get(a) == self.sides.get(b)
    }

    /// Every node sees every other one as `Alive`, and nobody else.
    pub(super) fn is_whole(&self) -> bool {
        self.indices().into_iter().all(|index| self.sees_all(index))
    }

    fn sees_all(&self, index: usize) -> bool {
        let seen: BTreeSet<_> = self
            .node(index)
            .control
            .members()
            .filter(|member| member.state == crate::node::event::MemberState::Alive)
            .map(|member| (member.name, member.session))
            .collect();
        let there = self.nodes.values().map(|node| node.control.identity());
        let there = there.filter(|identity| identity.name != name(index));
        seen == there
            .map(|identity| (identity.name, identity.session))
            .collect()
    }

    /// The events of a node about members, as short words.
    pub(super) fn story(&self, index: usize, about: usize) -> Vec<&'static str> {
        let events = self.node(index).events.iter();
        let about = name(about);
        let of = |event: &ControlEvent| {
            let ControlEvent::Member(event) = event else {
                return None;
            };
            let (word, member) = match event {
                MemberEvent::Up(member) => ("up", member),
                MemberEvent::Suspected(member) => ("suspected", member),
                MemberEvent::Refuted(member) => ("refuted", member),
                MemberEvent::Updated(member) => ("updated", member),
                MemberEvent::Down(member) => ("down", member),
                MemberEvent::Left(member) => ("left", member),
            };
            (member.name == about).then_some(word)
        };
        events.filter_map(|(_, event)| of(event)).collect()
    }

    /// Asserts what holds at any moment: the events of each node fold to its members.
    pub(super) fn check(&self) {
        for node in self.nodes.values() {
            let mut folded = BTreeMap::new();
            for (_, event) in &node.events {
                if let ControlEvent::Member(event) = event {
                    let (MemberEvent::Up(member)
                    | MemberEvent::Suspected(member)
                    | MemberEvent::Refuted(member)
                    | MemberEvent::Updated(member)
                    | MemberEvent::Down(member)
                    | MemberEvent::Left(member)) = event;
                    folded.insert(member.name.clone(), member.clone());
                }
            }
            let listed: Vec<_> = node.control.members().collect();
            assert_eq!(folded.into_values().collect::<Vec<_>>(), listed);
            node.control.directory().check_invariants();
        }
    }
}

impl Node {
    pub(super) fn lost(&self) -> Vec<&ControlEvent> {
        let events = self.events.iter().map(|(_, event)| event);
        events
            .filter(|event| matches!(event, ControlEvent::NameLost { .. }))
            .collect()
    }

    pub(super) fn has(&self, wanted: &ControlEvent) -> bool {
        self.events.iter().any(|(_, event)| event == wanted)
    }
}

pub(super) fn name(index: usize) -> NodeName {
    NodeName::new(format!("n{index}")).unwrap()
}

pub(super) fn address(index: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, (index / 250) as u8, (index % 250) as u8 + 1], 4600))
}

fn link(a: &NodeName, b: &NodeName) -> (NodeName, NodeName) {
    if a < b {
        (a.clone(), b.clone())
    } else {
        (b.clone(), a.clone())
    }
}

const GLANCE: Duration = Duration::from_millis(5);

const LATENCY: Duration = Duration::from_micros(500);

#[expect(
    clippy::disallowed_methods,
    reason = "any instant serves as the origin of a test"
)]
pub(super) fn epoch() -> Instant {
    Instant::now()
}
