//! A few whole nodes in virtual time, and the datagrams between them.
//!
//! This is no simulator: it has no faults, no programs and no randomness of its own. A target
//! decides what becomes of each datagram, and calls the nodes itself.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a program looks for the events that it is about"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use grinta_proto::node::{
    Choice, Claiming, DatagramMeta, DialRequest, Dialled, EndpointId, Event, FlowId, FlowReadError,
    Node, Origin, Payload, Presence, SocketInfo, UnknownName,
};
use grinta_proto::wire::stream::{Encoding, FlowAnswer, OpenFlow};
use grinta_proto::{CodecId, Config, Credentials, Direction, EndpointName, Neighbour, NodeName};

use crate::peer::Peer;
use crate::toy;

/// Hosts by their index, and what is under way between them.
pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) hosts: Vec<Host>,
    /// What becomes of datagrams that are sent.
    pub(crate) network: Network,
    flying: BTreeMap<(Instant, u64), Datagram>,
    sent: u64,
    turns: usize,
}

pub(crate) enum Host {
    Node(Box<Station>),
    Peer(Box<Peer>),
    /// Its process ended.
    Gone,
}

/// A node, and what it told that nobody has asked for yet.
pub(crate) struct Station {
    node: Node,
    told: Vec<Event>,
    /// Something happened to it since its last turn.
    is_touched: bool,
}

/// One datagram.
#[derive(Debug, Clone)]
pub(crate) struct Datagram {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) contents: BytesMut,
}

/// Turns one datagram that is sent into those that arrive, each after a delay.
pub(crate) type Network = Box<dyn FnMut(Datagram) -> Vec<(Duration, Datagram)>>;

impl World {
    pub(crate) fn new() -> Self {
        toy::restart();
        Self {
            now: *ORIGIN,
            hosts: Vec::new(),
            network: Box::new(perfect),
            flying: BTreeMap::new(),
            sent: 0,
            turns: 0,
        }
    }

    /// Starts a node that joins through the first host, unless it is the first itself.
    pub(crate) fn start(&mut self, name: &str, credentials: &Credentials) -> usize {
        let index = self.hosts.len();
        let mut config = Config::new(NodeName::new(name).expect("it is a name")).test();
        config.membership.push_pull_interval = Duration::from_secs(2);
        if index > 0 {
            config.neighbours.push(Neighbour {
                host: "first".to_owned(),
                addresses: Ok(vec![address(0)]),
            });
        }
        let socket = SocketInfo {
            advertised_address: address(index),
            may_fragment: false,
        };
        let seed = [index as u8; 32];
        let mut node = Node::new(
            config,
            credentials,
            socket,
            seed,
            self.now,
            self.unix_time(),
        )
        .expect("the configuration and the credentials are good");
        node.join();
        self.hosts.push(Host::Node(Box::new(Station {
            node,
            told: Vec::new(),
            is_touched: true,
        })));
        index
    }

    pub(crate) fn node(&mut self, index: usize) -> &mut Node {
        let station = self.station(index);
        station.is_touched = true;
        &mut station.node
    }

    fn station(&mut self, index: usize) -> &mut Station {
        match &mut self.hosts[index] {
            Host::Node(station) => station,
            Host::Peer(_) | Host::Gone => panic!("host {index} is no node"),
        }
    }

    pub(crate) fn peer(&mut self, index: usize) -> &mut Peer {
        match &mut self.hosts[index] {
            Host::Peer(peer) => peer,
            Host::Node(_) | Host::Gone => panic!("host {index} is no peer"),
        }
    }

    /// Puts a datagram under way as if its sender had sent it.
    pub(crate) fn throw(&mut self, datagram: Datagram, delay: Duration) {
        self.sent += 1;
        self.flying.insert((self.now + delay, self.sent), datagram);
    }

    pub(crate) fn unix_time(&self) -> Duration {
        UNIX_TIME + (self.now - *ORIGIN)
    }

    // Time.

    pub(crate) fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.step(end) {}
    }

    /// Runs until there is what `check` looks for.
    pub(crate) fn until<T>(
        &mut self,
        what: &str,
        bound: Duration,
        mut check: impl FnMut(&mut Self) -> Option<T>,
    ) -> T {
        let end = self.now + bound;
        loop {
            if let Some(found) = check(self) {
                return found;
            }
            assert!(
                self.step(end),
                "within {bound:?} it never came to be that {what}"
            );
        }
    }

    /// Lets happen what is next, but not after `end`. False if nothing was.
    fn step(&mut self, end: Instant) -> bool {
        let flying = self.flying.keys().next().map(|(at, _)| *at);
        let due = self.hosts.iter_mut().filter_map(|host| host.deadline());
        let Some(next) = due.chain(flying).min().filter(|next| *next <= end) else {
            self.now = end;
            return false;
        };
        self.now = self.now.max(next);
        self.turns += 1;
        assert!(self.turns < TURNS_MAX, "the hosts never come to rest");
        while let Some(entry) = self.flying.first_entry()
            && entry.key().0 <= self.now
        {
            let datagram = entry.remove();
            if let Some(index) = index_of(datagram.to)
                && let Some(host) = self.hosts.get_mut(index)
            {
                host.handle(self.now, datagram);
            }
        }
        let (now, unix_time) = (self.now, self.unix_time());
        for index in 0..self.hosts.len() {
            let outgoing = self.hosts[index].turn(now, unix_time, address(index));
            for datagram in outgoing {
                for (delay, datagram) in (self.network)(datagram) {
                    self.throw(datagram, delay);
                }
            }
        }
        true
    }

    // What programs do.

    /// Whether a node holds another for a member that takes part.
    pub(crate) fn sees(&mut self, index: usize, member: &str) -> bool {
        let mut members = self.station(index).node.members();
        members.any(|known| known.name.as_str() == member && known.state.is_active())
    }

    /// Whether a node left because another is taken for it, and said so.
    pub(crate) fn has_stepped_aside(&mut self, index: usize) -> bool {
        let node = &self.station(index).node;
        node.identity_conflict().is_some() && node.snapshot().presence == Presence::Left
    }

    /// What a node told since it was last asked.
    pub(crate) fn take_told(&mut self, index: usize) -> Vec<Event> {
        std::mem::take(&mut self.station(index).told)
    }

    /// Opens an endpoint at `to`, which is free, has `from` dial it, and has a message go each
    /// way.
    pub(crate) fn prove_service(&mut self, from: usize, to: usize, name: &str) -> (FlowId, FlowId) {
        let name = EndpointName::new(name).expect("it is a name");
        let endpoint = self
            .node(to)
            .open_endpoint(&name, 4, Claiming::Exclusive)
            .expect("the name is free");
        self.take_told(from);
        let mut dial = self.node(from).dial(request(&name));
        let mut accepted = None;
        let dialled = self.until("a flow is open", PATIENCE, |world| {
            accepted = accepted.or_else(|| world.accept(to, endpoint));
            for event in world.take_told(from) {
                match event {
                    Event::Dialled { dial: id, result } if id == dial => match result {
                        Ok(Dialled::Remote { flow, .. }) => return Some(flow),
                        // The name may not be known yet.
                        Ok(_) | Err(_) => dial = world.node(from).dial(request(&name)),
                    },
                    _ => {}
                }
            }
            None
        });
        let ends = (dialled, accepted.expect("a flow that is open was accepted"));
        self.prove_flow((from, ends.0), (to, ends.1));
        ends
    }

    fn accept(&mut self, index: usize, endpoint: EndpointId) -> Option<FlowId> {
        let incoming = self.node(index).take_incoming(endpoint)?;
        let was_there = self.node(index).answer(incoming.id, ACCEPTED);
        match incoming.origin {
            Origin::Remote { flow, .. } => was_there.then_some(flow),
            Origin::Local { .. } => None,
        }
    }

    /// A message each way.
    pub(crate) fn prove_flow(&mut self, one: (usize, FlowId), other: (usize, FlowId)) {
        for (from, to) in [(one, other), (other, one)] {
            let payload = Payload {
                copied: MESSAGE,
                body: Bytes::new(),
            };
            assert_eq!(self.node(from.0).write(from.1, payload), Ok(()));
            let mut read = Vec::new();
            self.until("a message arrives", PATIENCE, |world| {
                while read.len() < MESSAGE.len() {
                    match world.node(to.0).read(to.1) {
                        Ok(Some(bytes)) => read.extend_from_slice(&bytes),
                        Err(FlowReadError::Blocked) => return None,
                        other => panic!("the flow broke: {other:?}"),
                    }
                }
                Some(())
            });
            assert_eq!(read, MESSAGE);
        }
    }

    /// Nodes that stop leave nothing: no timer, no packet.
    pub(crate) fn prove_end(&mut self, nodes: &[usize]) {
        for &index in nodes {
            self.take_told(index);
            self.node(index).shutdown(Duration::from_millis(100));
        }
        for &index in nodes {
            self.until("the node is closed", PATIENCE, |world| {
                world
                    .station(index)
                    .told
                    .contains(&Event::Closed)
                    .then_some(())
            });
        }
        self.run_for(PATIENCE);
        for &index in nodes {
            assert_eq!(self.node(index).poll_timeout(), None, "a timer is left");
        }
        assert!(self.flying.is_empty(), "a closed node sends");
    }
}

impl Host {
    fn deadline(&mut self) -> Option<Instant> {
        match self {
            Self::Node(station) => station.node.poll_timeout(),
            Self::Peer(peer) => peer.deadline(),
            Self::Gone => None,
        }
    }

    fn handle(&mut self, now: Instant, datagram: Datagram) {
        match self {
            Self::Node(station) => {
                let meta = DatagramMeta {
                    remote: datagram.from,
                    local_ip: None,
                    ecn: None,
                    stride: 0,
                };
                station.node.handle_datagrams(now, meta, datagram.contents);
                station.is_touched = true;
            }
            Self::Peer(peer) => peer.handle(now, datagram.from, datagram.contents),
            Self::Gone => {}
        }
    }

    /// Gives a host its turn, if it wants one or has to, and collects what it sends.
    fn turn(&mut self, now: Instant, unix_time: Duration, from: SocketAddr) -> Vec<Datagram> {
        let mut outgoing = Vec::new();
        match self {
            Self::Node(station) => {
                let node = &mut station.node;
                let is_due = node.poll_timeout().is_some_and(|deadline| deadline <= now);
                if !std::mem::take(&mut station.is_touched) && !is_due {
                    return outgoing;
                }
                node.handle_timeout(now, unix_time);
                station
                    .told
                    .extend(std::iter::from_fn(|| node.poll_event()));
                let mut buffer = Vec::new();
                while let Some(transmit) = node.poll_transmit(now, 1, &mut buffer) {
                    outgoing.push(Datagram {
                        from,
                        to: transmit.remote,
                        contents: BytesMut::from(&buffer[..transmit.length]),
                    });
                }
            }
            Self::Peer(peer) => peer.turn(now, from, &mut outgoing),
            Self::Gone => {}
        }
        outgoing
    }
}

/// Where a host is, of 255.
pub(crate) fn address(index: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, (index % 255) as u8 + 1], 7000))
}

fn index_of(address: SocketAddr) -> Option<usize> {
    match address {
        SocketAddr::V4(address) => usize::from(address.ip().octets()[3]).checked_sub(1),
        SocketAddr::V6(_) => None,
    }
}

/// Messages both ways, to a name that may have to be waited for.
pub(crate) fn request(endpoint: &EndpointName) -> DialRequest {
    let encoding = Encoding::new(CodecId::from_static("bytes"), "").expect("it is short");
    DialRequest {
        open: OpenFlow {
            endpoint: endpoint.clone(),
            direction: Direction::Both,
            sends: Some(encoding.clone()),
            receives: Some(encoding),
            message_len_max: 1 << 20,
            timeout: Some(Duration::from_secs(2)),
            traceparent: String::new(),
        },
        early: None,
        timeout: Duration::from_secs(2),
        choice: Choice::default(),
        at: None,
        unknown_name: UnknownName::Wait,
    }
}

/// Every datagram arrives a millisecond later.
pub(crate) fn perfect(datagram: Datagram) -> Vec<(Duration, Datagram)> {
    vec![(LATENCY, datagram)]
}

pub(crate) const ACCEPTED: FlowAnswer = FlowAnswer::Accepted {
    message_len_max: 1 << 20,
};
pub(crate) const LATENCY: Duration = Duration::from_millis(1);
/// Longer than any time-out of the test preset, and than a suspicion.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// The cap on the steps of one input.
const TURNS_MAX: usize = 100_000;
const MESSAGE: &[u8] = b"still here";
pub(crate) const UNIX_TIME: Duration = Duration::from_millis(crate::speech::SESSION);

/// Only differences from it matter.
pub(crate) static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
