//! A world of whole nodes for tests: virtual time, datagrams in memory, honest nodes and strangers.
//!
//! Hosts have names; their addresses follow from the order in which they are first mentioned.
//! Whatever happens, happens in the order of (time, sequence), so that a seed and a script repeat.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test looks for what it is about"
)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::codec::CodecId;
use crate::config::Neighbour;
use crate::tls::testing::{Leaf, NOW, TestCa};
use crate::wire::stream::{Direction, Encoding, OpenFlow};

pub(super) use self::stranger::{Guise, Stranger};

mod program;
mod stranger;

/// Hosts, and the datagrams under way between them.
pub(super) struct World {
    pub(super) now: Instant,
    /// How long a datagram travels.
    pub(super) latency: Duration,
    /// Of a hundred datagrams, so many are lost.
    pub(super) loss: u32,
    /// Who sent how much to whom, and when; and what the nodes told.
    pub(super) trace: Vec<String>,
    pub(super) ca: TestCa,
    /// How often hosts had their turn.
    pub(super) turns: usize,
    seed: u64,
    origin: Instant,
    addresses: Vec<&'static str>,
    advertised: BTreeMap<&'static str, SocketAddr>,
    hosts: BTreeMap<&'static str, Host>,
    flying: BTreeMap<(Instant, u64), Parcel>,
    cuts: BTreeSet<(&'static str, &'static str)>,
    rng: StdRng,
    sent: u64,
}

/// A node, and what it told that nobody has asked for yet.
struct Station {
    node: Node,
    inbox: VecDeque<Event>,
}

enum Host {
    Node(Box<Station>),
    Stranger(Box<Stranger>),
}

/// Datagrams of one length under way.
struct Parcel {
    from: SocketAddr,
    to: SocketAddr,
    stride: usize,
    contents: BytesMut,
}

/// An open flow, seen from both its ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    pub(super) dialler: (&'static str, FlowId),
    pub(super) acceptor: (&'static str, FlowId),
}

impl Ends {
    pub(super) const fn reversed(self) -> Self {
        Self {
            dialler: self.acceptor,
            acceptor: self.dialler,
        }
    }
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self::beginning(seed, any_instant())
    }

    pub(super) fn beginning(seed: u64, origin: Instant) -> Self {
        Self {
            now: origin,
            latency: Duration::from_millis(1),
            loss: 0,
            trace: Vec::new(),
            ca: TestCa::new("fabric"),
            turns: 0,
            seed,
            origin,
            addresses: Vec::new(),
            advertised: BTreeMap::new(),
            hosts: BTreeMap::new(),
            flying: BTreeMap::new(),
            cuts: BTreeSet::new(),
            rng: StdRng::seed_from_u64(seed),
            sent: 0,
        }
    }

    /// A world of nodes that have joined through the first of them.
    pub(super) fn of(seed: u64, names: &[&'static str]) -> Self {
        let mut world = Self::new(seed);
        for (index, name) in names.iter().enumerate() {
            world.start(name, if index == 0 { &[] } else { &names[..1] });
            world.join(name).unwrap();
        }
        world.until("all know each other", |world| {
            let all_known = names.iter().all(|name| {
                let members = world.node(name).members();
                members.filter(|member| member.state.is_active()).count() == names.len() - 1
            });
            all_known.then_some(())
        });
        world
    }

    // The hosts.

    pub(super) fn start(&mut self, name: &'static str, neighbours: &[&'static str]) {
        self.start_with(name, neighbours, |_| {});
    }

    pub(super) fn start_with(
        &mut self,
        name: &'static str,
        neighbours: &[&'static str],
        configure: impl FnOnce(&mut Config),
    ) {
        let credentials = self.ca.node(name);
        self.start_as(name, &credentials, neighbours, configure);
    }

    pub(super) fn start_as(
        &mut self,
        name: &'static str,
        credentials: &Credentials,
        neighbours: &[&'static str],
        configure: impl FnOnce(&mut Config),
    ) {
        let mut config = Config::new(node_name(name)).test();
        config.neighbours = neighbours
            .iter()
            .map(|neighbour| Neighbour {
                host: (*neighbour).to_owned(),
                addresses: Ok(vec![self.address(neighbour)]),
            })
            .collect();
        configure(&mut config);
        let own = self.address(name);
        let socket = SocketInfo {
            advertised_address: self.advertised.get(name).copied().unwrap_or(own),
            may_fragment: false,
        };
        let seed = self.rng.random();
        let node = Node::new(
            config,
            credentials,
            socket,
            seed,
            self.now,
            self.unix_time(),
        );
        let station = Station {
            node: node.unwrap(),
            inbox: VecDeque::new(),
        };
        self.hosts.insert(name, Host::Node(Box::new(station)));
    }

    /// A host that speaks QUIC and is no node.
    pub(super) fn start_stranger(&mut self, name: &'static str, guise: &Guise) {
        let stranger = Stranger::new(self.address(name), guise);
        self.hosts.insert(name, Host::Stranger(Box::new(stranger)));
    }

    /// The process ends without a word.
    pub(super) fn crash(&mut self, name: &'static str) {
        self.hosts.remove(name);
    }

    pub(super) fn node(&mut self, name: &str) -> &mut Node {
        &mut self.station(name).node
    }

    pub(super) fn stranger(&mut self, name: &str) -> &mut Stranger {
        match self.hosts.get_mut(name) {
            Some(Host::Stranger(stranger)) => stranger,
            Some(Host::Node(_)) | None => panic!("{name} is no stranger"),
        }
    }

    pub(super) fn address(&mut self, name: &'static str) -> SocketAddr {
        let known = self.addresses.iter().position(|known| *known == name);
        let index = known.unwrap_or_else(|| {
            self.addresses.push(name);
            self.addresses.len() - 1
        });
        SocketAddr::from(([10, 0, 0, u8::try_from(index + 1).unwrap()], 7000))
    }

    /// Gives a host that is yet to start again an address that it never had.
    pub(super) fn relocate(&mut self, name: &'static str) {
        for known in self.addresses.iter_mut().filter(|known| **known == name) {
            *known = "nobody";
        }
    }

    pub(super) fn credentials(&self, names: &[&str]) -> Credentials {
        let leaf = names
            .iter()
            .fold(Leaf::default(), |leaf, name| leaf.dns(name));
        self.ca.credentials(&leaf)
    }

    /// A node closes its connections to another.
    pub(super) fn lose(&mut self, name: &'static str, peer: &str) {
        let now = self.now;
        let node = self.node(name);
        for key in node.connections.all_to(&node_name(peer)) {
            node.connections
                .touch(key)
                .unwrap()
                .close(now, Code::Closed, "");
        }
    }

    // Strangers.

    /// Makes a stranger a peer of a node, under its own name and with a certificate that is good.
    pub(super) fn greet(&mut self, name: &'static str, node: &'static str) {
        self.call(name, node);
        let stranger = self.stranger(name);
        let mut hello = BytesMut::new();
        stranger.hello(name).encode(&mut hello);
        stranger.say(&hello);
        let name = node_name(name);
        self.until("the stranger is a peer", |world| {
            world.node(node).connections.up(&name).map(drop)
        });
    }

    /// Connects a stranger to a node, as far as TLS goes.
    pub(super) fn call(&mut self, name: &'static str, node: &'static str) {
        let (now, to) = (self.now, self.address(node));
        self.stranger(name).call(now, to);
        self.until("the stranger is connected or refused", |world| {
            let stranger = world.stranger(name);
            (stranger.is_connected || !stranger.lost.is_empty()).then_some(())
        });
    }

    /// Sends what a stranger has to send in packets of its own.
    pub(super) fn flush_stranger(&mut self, name: &'static str) {
        let now = self.now;
        let mut outgoing = Vec::new();
        self.stranger(name).transmit(now, &mut outgoing);
        let from = self.address(name);
        for (to, stride, contents) in outgoing {
            self.post(Parcel {
                from,
                to,
                stride,
                contents,
            });
        }
    }

    // The network.

    /// Whatever one sends to the other is lost.
    pub(super) fn cut(&mut self, a: &'static str, b: &'static str) {
        self.cuts.extend([(a, b), (b, a)]);
    }

    pub(super) fn heal(&mut self) {
        self.cuts.clear();
    }

    /// Has a node that is yet to start tell others this address, as behind a translation.
    pub(super) fn advertise(&mut self, name: &'static str, address: SocketAddr) {
        self.advertised.insert(name, address);
    }

    /// Sends a buffer from any address, as if it had been received in one go.
    pub(super) fn throw(
        &mut self,
        from: SocketAddr,
        to: &'static str,
        stride: usize,
        contents: &[u8],
    ) {
        let to = self.address(to);
        let parcel = Parcel {
            from,
            to,
            stride,
            contents: BytesMut::from(contents),
        };
        self.post(parcel);
    }

    /// Delivers ruined copies of what is under way from an address, ahead of it.
    pub(super) fn ruin(&mut self, from: SocketAddr, flipped: usize) {
        self.run_for(Duration::ZERO);
        let copies: Vec<_> = self
            .flying
            .values()
            .filter(|parcel| parcel.from == from)
            .map(|parcel| {
                let mut contents = parcel.contents.clone();
                let index = flipped % contents.len();
                contents[index] ^= 1 << (flipped % 8);
                (parcel.to, parcel.stride, contents)
            })
            .collect();
        let latency = std::mem::replace(&mut self.latency, Duration::ZERO);
        for (to, stride, contents) in copies {
            self.post(Parcel {
                from,
                to,
                stride,
                contents,
            });
        }
        self.latency = latency;
    }

    // Time.

    pub(super) fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.step(end) {}
    }

    /// Runs until there is what `check` looks for.
    pub(super) fn until<T>(
        &mut self,
        what: &str,
        mut check: impl FnMut(&mut Self) -> Option<T>,
    ) -> T {
        let end = self.now + PATIENCE;
        loop {
            if let Some(found) = check(self) {
                return found;
            }
            self.settle();
            if let Some(found) = check(self) {
                return found;
            }
            if self.now >= end {
                self.give_up(what);
            }
            self.step(end);
        }
    }

    /// Runs until a node tells what `pick` looks for.
    pub(super) fn wait<T>(
        &mut self,
        name: &'static str,
        what: &str,
        mut pick: impl FnMut(&Event) -> Option<T>,
    ) -> T {
        self.until(&format!("{name}: {what}"), |world| {
            let inbox = &mut world.station(name).inbox;
            let (index, found) = inbox
                .iter()
                .enumerate()
                .find_map(|(index, event)| Some((index, pick(event)?)))?;
            inbox.remove(index);
            Some(found)
        })
    }

    /// What a node told since it was last asked.
    pub(super) fn take_events(&mut self, name: &str) -> Vec<Event> {
        self.station(name).inbox.drain(..).collect()
    }

    /// Whether a node told something, up to now.
    pub(super) fn has_told(&mut self, name: &str, pick: impl Fn(&Event) -> bool) -> bool {
        self.station(name).inbox.iter().any(pick)
    }

    // The machinery.

    fn station(&mut self, name: &str) -> &mut Station {
        match self.hosts.get_mut(name) {
            Some(Host::Node(station)) => station,
            Some(Host::Stranger(_)) | None => panic!("{name} is no node"),
        }
    }

    pub(super) fn unix_time(&self) -> Duration {
        NOW + (self.now - self.origin)
    }

    /// Lets happen what is due, and what is next, but not after `end`. Returns whether there was
    /// a next.
    fn step(&mut self, end: Instant) -> bool {
        self.settle();
        let flying = self.flying.keys().next().map(|(at, _)| *at);
        let now = self.now;
        let due = self
            .hosts
            .values_mut()
            .filter_map(|host| host.deadline(now));
        let Some(next) = due.chain(flying).min().filter(|next| *next <= end) else {
            self.now = end;
            return false;
        };
        self.now = next;
        self.settle();
        true
    }

    /// Lets happen what is due.
    fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            if !self.turn() {
                return;
            }
        }
        panic!("seed {}: a host spins without time passing", self.seed);
    }

    /// Delivers what has arrived, then gives their turn to those it is. Whether it was anybody's.
    fn turn(&mut self) -> bool {
        let (now, unix_time) = (self.now, self.unix_time());
        let mut awake = BTreeSet::new();
        while let Some(entry) = self.flying.first_entry()
            && entry.key().0 <= now
        {
            let parcel = entry.remove();
            if let Some(to) = self.name_at(parcel.to)
                && let Some(host) = self.hosts.get_mut(to)
            {
                host.handle(now, parcel);
                awake.insert(to);
            }
        }
        for (name, host) in &mut self.hosts {
            if host.deadline(now).is_some_and(|deadline| deadline <= now) {
                awake.insert(name);
            }
        }
        self.turns += awake.len();
        for name in &awake {
            let Some(host) = self.hosts.get_mut(name) else {
                continue;
            };
            let told = match host {
                Host::Node(station) => station.turn(now, unix_time),
                Host::Stranger(stranger) => {
                    stranger.turn(now);
                    Vec::new()
                }
            };
            let at = now - self.origin;
            self.trace
                .extend(told.iter().map(|event| format!("{at:?} {name}: {event:?}")));
            let mut outgoing = Vec::new();
            host.transmit(now, &mut outgoing);
            for (to, stride, contents) in outgoing {
                let from = self.address(name);
                let length = contents.len();
                self.trace
                    .push(format!("{at:?} {name} -> {to}: {length} by {stride}"));
                self.post(Parcel {
                    from,
                    to,
                    stride,
                    contents,
                });
            }
        }
        !awake.is_empty()
    }

    fn post(&mut self, mut parcel: Parcel) {
        if let (Some(from), Some(to)) = (self.name_at(parcel.from), self.name_at(parcel.to))
            && self.cuts.contains(&(from, to))
        {
            return;
        }
        if self.loss > 0 {
            let mut arriving = BytesMut::new();
            for datagram in parcel.contents.chunks(parcel.stride.max(1)) {
                if self.rng.random_range(0..100) >= self.loss {
                    arriving.extend_from_slice(datagram);
                }
            }
            parcel.contents = arriving;
        }
        self.sent += 1;
        self.flying
            .insert((self.now + self.latency, self.sent), parcel);
    }

    fn name_at(&self, address: SocketAddr) -> Option<&'static str> {
        let std::net::IpAddr::V4(ip) = address.ip() else {
            return None;
        };
        let index = usize::from(ip.octets()[3]).checked_sub(1)?;
        self.addresses.get(index).copied()
    }

    fn give_up(&self, what: &str) -> ! {
        let waiting: Vec<_> = self
            .hosts
            .iter()
            .filter_map(|(name, host)| match host {
                Host::Node(station) => Some(format!("{name}: {:?}", station.inbox)),
                Host::Stranger(_) => None,
            })
            .collect();
        panic!(
            "seed {}: never came to be: {what}; what was told and not asked for: {waiting:#?}",
            self.seed
        );
    }
}

impl Host {
    fn deadline(&mut self, now: Instant) -> Option<Instant> {
        match self {
            Self::Node(station) => station.node.poll_timeout(),
            Self::Stranger(stranger) => stranger.deadline(now),
        }
    }

    fn handle(&mut self, now: Instant, parcel: Parcel) {
        let Parcel {
            from,
            stride,
            mut contents,
            ..
        } = parcel;
        match self {
            Self::Node(station) => {
                let meta = DatagramMeta {
                    remote: from,
                    local_ip: None,
                    ecn: None,
                    stride,
                };
                station.node.handle_datagrams(now, meta, contents);
            }
            Self::Stranger(stranger) => {
                while !contents.is_empty() {
                    let datagram = contents.split_to(stride.clamp(1, contents.len()));
                    stranger.handle(now, from, datagram);
                }
            }
        }
    }

    fn transmit(&mut self, now: Instant, outgoing: &mut Vec<(SocketAddr, usize, BytesMut)>) {
        match self {
            Self::Node(station) => {
                let mut buffer = Vec::new();
                while let Some(transmit) = station.node.poll_transmit(now, SEGMENTS, &mut buffer) {
                    let contents = BytesMut::from(&buffer[..transmit.length]);
                    let stride = transmit.segment_size.unwrap_or(transmit.length);
                    outgoing.push((transmit.remote, stride, contents));
                }
            }
            Self::Stranger(stranger) => stranger.transmit(now, outgoing),
        }
    }
}

impl Station {
    fn turn(&mut self, now: Instant, unix_time: Duration) -> Vec<Event> {
        self.node.handle_timeout(now, unix_time);
        let told: Vec<_> = std::iter::from_fn(|| self.node.poll_event()).collect();
        self.inbox.extend(told.iter().cloned());
        told
    }
}

pub(super) fn node_name(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

pub(super) fn endpoint_name(name: &str) -> EndpointName {
    EndpointName::new(name).unwrap()
}

/// Messages both ways, within two seconds, to a name that is there.
pub(super) fn request(endpoint: &str) -> DialRequest {
    DialRequest {
        open: open(endpoint, Direction::Both),
        early: None,
        timeout: Duration::from_secs(2),
        unknown_name: UnknownName::Fail,
        choice: Choice::Owner,
        at: None,
    }
}

pub(super) fn open(endpoint: &str, direction: Direction) -> OpenFlow {
    let encoding = || Encoding::new(CodecId::new("bytes").unwrap(), "").unwrap();
    OpenFlow {
        endpoint: endpoint_name(endpoint),
        direction,
        sends: direction.sends().then(encoding),
        receives: direction.receives().then(encoding),
        message_len_max: 1 << 20,
        timeout: Some(Duration::from_secs(2)),
        traceparent: String::new(),
    }
}

/// Signs by credentials, for a host that is no node.
pub(super) fn signatory(credentials: Credentials) -> Box<Signatory> {
    Box::new(Signatory {
        credentials,
        claimable: Claimable::default(),
    })
}

pub(super) const fn accepted() -> FlowAnswer {
    FlowAnswer::Accepted {
        message_len_max: 1 << 20,
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "any instant serves as the origin of a world"
)]
pub(super) fn any_instant() -> Instant {
    Instant::now()
}

/// Longer than any time-out of the test preset, and than a suspicion.
const PATIENCE: Duration = Duration::from_secs(20);

/// Turns of one instant: a node that wants more wants them for ever.
const TURNS_MAX: usize = 1000;

/// Datagrams to a batch.
const SEGMENTS: usize = 10;
