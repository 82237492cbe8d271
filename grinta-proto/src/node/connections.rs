//! All connections of a node: which datagram goes to which peer, and which peer is due.
//!
//! A peer that something happened to is *touched*; touched peers are advanced, their events
//! handed out and their packets queued. Nothing here ever looks at a peer that is not due.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use bytes::BytesMut;
use quinn_proto::{ConnectionHandle, EcnCodepoint};

use crate::config::Limits;
use crate::name::{NodeName, Session};
use crate::node::event::{ConnectError, Transmit};
use crate::node::peer::{Peer, PeerEvent, PeerKey, Surroundings, Target};
use crate::node::quic::{Arrival, NewConnection, Quic};
use crate::tls::{Credentials, CredentialsError};
use crate::wire::stream::Hello;

/// All connections of a node.
#[derive(Debug)]
pub(crate) struct Connections {
    quic: Quic,
    peers: BTreeMap<PeerKey, Peer>,
    by_handle: BTreeMap<usize, PeerKey>,
    up: BTreeMap<NodeName, Vec<Link>>,
    /// The connection that we began last to reach each target; it may be up or over by now.
    begun: BTreeMap<Target, PeerKey>,
    due: BTreeSet<(Instant, PeerKey)>,
    touched: VecDeque<PeerKey>,
    advancing: Option<PeerKey>,
    sending: VecDeque<PeerKey>,
    replies: VecDeque<(quinn_proto::Transmit, Vec<u8>)>,
    issued: u64,
}

/// One of the connections that are up to one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Link {
    key: PeerKey,
    session: Session,
    /// Where the node says that it is to be dialled.
    address: SocketAddr,
    /// Whether the node with the lower name opened it.
    by_lower: bool,
}

/// Which connections to a node are to be used, after one more came up.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// It is the first of this session.
    pub(crate) is_first: bool,
    /// These belong to an earlier run of the node.
    pub(crate) outdated: Vec<PeerKey>,
}

impl Connections {
    pub(crate) const fn new(quic: Quic) -> Self {
        Self {
            quic,
            peers: BTreeMap::new(),
            by_handle: BTreeMap::new(),
            up: BTreeMap::new(),
            begun: BTreeMap::new(),
            due: BTreeSet::new(),
            touched: VecDeque::new(),
            advancing: None,
            sending: VecDeque::new(),
            replies: VecDeque::new(),
            issued: 0,
        }
    }

    pub(crate) fn get(&self, key: PeerKey) -> Option<&Peer> {
        self.peers.get(&key)
    }

    /// The peer, for what leaves nothing to follow up.
    pub(crate) fn get_mut(&mut self, key: PeerKey) -> Option<&mut Peer> {
        self.peers.get_mut(&key)
    }

    /// The peer, which is touched: whatever is done to it will be followed up.
    pub(crate) fn touch(&mut self, key: PeerKey) -> Option<&mut Peer> {
        let peer = self.peers.get_mut(&key)?;
        if !std::mem::replace(&mut peer.is_touched, true) {
            self.touched.push_back(key);
        }
        Some(peer)
    }

    /// Whether something waits for the next turn.
    pub(crate) fn has_touched(&self) -> bool {
        !self.touched.is_empty() || self.advancing.is_some()
    }

    /// Flows on connections that are not lost.
    pub(crate) fn open_flows(&self) -> usize {
        self.peers
            .values()
            .filter(|peer| !peer.is_lost())
            .map(Peer::open_flows)
            .sum()
    }

    /// All connections, in the order in which they began.
    pub(crate) fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values()
    }

    /// How many there are, those that are coming up or closing included.
    pub(crate) fn len(&self) -> usize {
        self.quic.open_connections()
    }

    /// Handshakes under way that others began.
    pub(crate) const fn handshakes(&self) -> usize {
        self.quic.handshakes()
    }

    /// The one that began last.
    pub(crate) fn newest(&self) -> Option<PeerKey> {
        self.peers.keys().next_back().copied()
    }

    pub(crate) fn keys(&self) -> Vec<PeerKey> {
        self.peers.keys().copied().collect()
    }

    /// The connection to use to a node.
    pub(crate) fn up(&self, name: &NodeName) -> Option<PeerKey> {
        self.up.get(name)?.last().map(|link| link.key)
    }

    /// Nodes with a connection that is up, and that connection.
    pub(crate) fn all_up(&self) -> impl Iterator<Item = (&NodeName, &Peer)> {
        self.up.iter().filter_map(|(name, links)| {
            links
                .last()
                .and_then(|link| self.peers.get(&link.key))
                .map(|peer| (name, peer))
        })
    }

    /// How many nodes there are with a connection that is up.
    pub(crate) fn up_count(&self) -> usize {
        self.up.len()
    }

    /// Something used a connection.
    pub(crate) fn note_used(&mut self, now: Instant, key: PeerKey) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.note_used(now);
        }
    }

    /// A connection to `name`, or to whoever is at `address`, that is coming up.
    pub(crate) fn coming_up(&self, target: &Target) -> Option<PeerKey> {
        let key = *self.begun.get(target)?;
        self.get(key)?.is_coming_up().then_some(key)
    }

    /// Connections that we opened to somebody certified for `name` who has not said `Hello`.
    pub(crate) fn greeting(&self, name: &NodeName) -> Vec<PeerKey> {
        let peers = self.peers.iter();
        let greeting = peers.filter(|(_, peer)| peer.is_greeting(name));
        greeting.map(|(&key, _)| key).collect()
    }

    /// Begins a connection.
    pub(crate) fn connect(
        &mut self,
        now: Instant,
        target: Target,
        limits: &Limits,
    ) -> Result<PeerKey, ConnectError> {
        let limit = limits.connections_max;
        if self.quic.open_connections() >= limit {
            return Err(ConnectError::TooManyConnections { limit });
        }
        let address = target.address();
        let new =
            self.quic
                .connect(now, address)
                .map_err(|error| ConnectError::InvalidAddress {
                    address,
                    reason: error.to_string(),
                })?;
        let key = self.insert(now, new, Some(target.clone()));
        self.begun.insert(target, key);
        Ok(key)
    }

    /// Takes one datagram. Returns the peer if it opened a connection.
    pub(crate) fn handle_datagram(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        local_ip: Option<IpAddr>,
        ecn: Option<EcnCodepoint>,
        data: BytesMut,
    ) -> Arrived {
        match self.quic.handle(now, remote, local_ip, ecn, data) {
            Arrival::Dropped => Arrived::Dropped,
            Arrival::Reply(transmit, contents) => {
                self.reply(transmit, contents);
                Arrived::Taken
            }
            Arrival::Refused(error, reply) => {
                if let Some((transmit, contents)) = reply {
                    self.reply(transmit, contents);
                }
                Arrived::Refused(ConnectError::from_connection(&error))
            }
            Arrival::Event(handle, event) => {
                if let Some(&key) = self.by_handle.get(&handle.0)
                    && let Some(peer) = self.touch(key)
                {
                    peer.handle_event(event);
                }
                Arrived::Taken
            }
            Arrival::Accepted(new) => Arrived::Accepted(self.insert(now, *new, None)),
        }
    }

    /// Fires the timers of the connections that are due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(deadline, key)) = self.due.first() {
            if deadline > now {
                break;
            }
            self.due.pop_first();
            if let Some(peer) = self.touch(key) {
                peer.noted_deadline = None;
                peer.handle_timeout(now);
            }
        }
    }

    /// Advances touched peers and hands out what they tell, until all are quiet.
    pub(crate) fn poll_event(
        &mut self,
        now: Instant,
        surroundings: Surroundings<'_>,
    ) -> Option<(PeerKey, PeerEvent)> {
        loop {
            let key = match self.advancing {
                Some(key) => key,
                None => {
                    let key = self.touched.pop_front()?;
                    if let Some(peer) = self.peers.get_mut(&key) {
                        peer.is_touched = false;
                        peer.advance(now, surroundings);
                    }
                    self.advancing = Some(key);
                    key
                }
            };
            if let Some(event) = self.peers.get_mut(&key).and_then(Peer::poll_event) {
                return Some((key, event));
            }
            self.advancing = None;
            self.settle(key);
        }
    }

    /// Notes that a peer is up, and says what that makes of the node's other connections.
    pub(crate) fn note_up(&mut self, key: PeerKey, ours: &NodeName, hello: &Hello) -> Standing {
        let (name, session) = (&hello.node, hello.session);
        let Some(peer) = self.peers.get(&key) else {
            return Standing::default();
        };
        let by_us = peer.target().is_some();
        let link = Link {
            key,
            session,
            address: hello.address,
            by_lower: by_us == (ours < name),
        };
        let links = self.up.entry(name.clone()).or_default();
        let outdated: Vec<_> = links
            .iter()
            .filter(|link| link.session < session)
            .map(|link| link.key)
            .collect();
        links.retain(|link| link.session >= session);
        let is_first = links.is_empty();
        links.push(link);
        // The last is used: the latest session; of one session what the lower name opened; of
        // those the newest. Both sides come to the same order.
        links.sort_by_key(|link| (link.session, link.by_lower, link.key));
        if !by_us {
            self.quic.handshake_ended();
        }
        Standing { is_first, outdated }
    }

    /// Connections to a node beside the one in use that we opened ourselves and nothing uses.
    pub(crate) fn surplus(&self, name: &NodeName) -> Vec<PeerKey> {
        let links = self.up.get(name).map_or(&[][..], Vec::as_slice);
        let spare = links.split_last().map_or(&[][..], |(_, spare)| spare);
        let unused = |key: &PeerKey| {
            self.peers
                .get(key)
                .is_some_and(|peer| peer.target().is_some() && peer.open_flows() == 0)
        };
        spare.iter().map(|link| link.key).filter(unused).collect()
    }

    /// Every connection to a node, in use or not.
    pub(crate) fn all_to(&self, name: &NodeName) -> Vec<PeerKey> {
        self.up.get(name).map_or_else(Vec::new, |links| {
            links.iter().map(|link| link.key).collect()
        })
    }

    /// The run of a node that a connection which is up leads to.
    pub(crate) fn session(&self, name: &NodeName, key: PeerKey) -> Option<Session> {
        self.link(name, key).map(|link| link.session)
    }

    /// Whether a connection that is up leads to an earlier run of a node than this one, elsewhere. A
    /// run that took a later session where it was is the same process still.
    pub(crate) fn is_outdated(
        &self,
        name: &NodeName,
        key: PeerKey,
        session: Session,
        address: SocketAddr,
    ) -> bool {
        let link = self.link(name, key);
        link.is_some_and(|link| link.session < session && link.address != address)
    }

    fn link(&self, name: &NodeName, key: PeerKey) -> Option<&Link> {
        self.up.get(name)?.iter().find(|link| link.key == key)
    }

    /// A connection to a node is lost. Returns whether it counted as up until now.
    pub(crate) fn note_lost(&mut self, key: PeerKey, name: &NodeName) -> bool {
        let Some(links) = self.up.get_mut(name) else {
            return false;
        };
        let before = links.len();
        links.retain(|link| link.key != key);
        let was_up = links.len() < before;
        if links.is_empty() {
            self.up.remove(name);
        }
        was_up
    }

    /// A connection that a peer opened failed before it was up.
    pub(crate) fn note_failed(&mut self, key: PeerKey) {
        if self
            .peers
            .get(&key)
            .is_some_and(|peer| peer.target().is_none())
        {
            self.quic.handshake_ended();
        }
    }

    /// Shakes hands with other credentials from now on.
    pub(crate) fn replace_credentials(
        &mut self,
        credentials: &Credentials,
    ) -> Result<(), CredentialsError> {
        self.quic.replace_credentials(credentials)
    }

    pub(crate) fn stop_accepting(&mut self) {
        self.quic.stop_accepting();
    }

    /// The next batch of datagrams to send, written into `buffer`.
    pub(crate) fn poll_transmit(
        &mut self,
        now: Instant,
        segments_max: usize,
        buffer: &mut Vec<u8>,
    ) -> Option<Transmit> {
        buffer.clear();
        if let Some((transmit, contents)) = self.replies.pop_front() {
            buffer.extend_from_slice(&contents);
            return Some(to_transmit(&transmit));
        }
        while let Some(&key) = self.sending.front() {
            let Some(peer) = self.peers.get_mut(&key) else {
                self.sending.pop_front();
                continue;
            };
            if let Some(transmit) = peer.poll_transmit(now, segments_max, buffer) {
                // One batch each in turn, so that no connection starves the others.
                self.sending.rotate_left(1);
                return Some(to_transmit(&transmit));
            }
            peer.is_queued = false;
            self.sending.pop_front();
            self.follow_endpoint_events(key);
            self.note_deadline(key);
        }
        None
    }

    /// Whether packets wait to be sent.
    pub(crate) fn is_sending(&self) -> bool {
        !self.replies.is_empty() || !self.sending.is_empty()
    }

    /// When the first connection is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.due.first().map(|&(deadline, _)| deadline)
    }

    fn reply(&mut self, transmit: quinn_proto::Transmit, contents: Vec<u8>) {
        if self.replies.len() < REPLIES_MAX {
            self.replies.push_back((transmit, contents));
        }
    }

    fn insert(&mut self, now: Instant, new: NewConnection, target: Option<Target>) -> PeerKey {
        self.issued += 1;
        let key = PeerKey(self.issued);
        self.by_handle.insert(new.handle.0, key);
        self.peers.insert(key, Peer::new(now, key, new, target));
        self.touch(key);
        key
    }

    /// After a peer has been heard out: its endpoint events, its deadline, its packets, its end.
    fn settle(&mut self, key: PeerKey) {
        self.follow_endpoint_events(key);
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if peer.is_over() {
            let over = self.peers.remove(&key);
            if let Some(target) = over.as_ref().and_then(Peer::target)
                && self.begun.get(target) == Some(&key)
            {
                self.begun.remove(target);
            }
            if let Some(deadline) = over.and_then(|peer| peer.noted_deadline) {
                self.due.remove(&(deadline, key));
            }
            return;
        }
        // Its deadline is noted once it has nothing left to send.
        if !std::mem::replace(&mut peer.is_queued, true) {
            self.sending.push_back(key);
        }
    }

    fn follow_endpoint_events(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let handle: ConnectionHandle = peer.handle();
        let mut is_answered = false;
        while let Some(event) = peer.poll_endpoint_event() {
            if event.is_drained() {
                self.by_handle.remove(&handle.0);
            }
            if let Some(answer) = self.quic.handle_event(handle, event) {
                peer.handle_event(answer);
                is_answered = true;
            }
        }
        if is_answered {
            self.touch(key);
        }
    }

    fn note_deadline(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let deadline = peer.poll_timeout();
        let noted = std::mem::replace(&mut peer.noted_deadline, deadline);
        if noted == deadline {
            return;
        }
        if let Some(noted) = noted {
            self.due.remove(&(noted, key));
        }
        if let Some(deadline) = deadline {
            self.due.insert((deadline, key));
        }
    }
}

/// What a datagram amounted to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Arrived {
    /// It opened a connection.
    Accepted(PeerKey),
    /// It belonged to a connection, or was answered.
    Taken,
    /// It was to open a connection that cannot be.
    Refused(ConnectError),
    /// It was dropped.
    Dropped,
}

fn to_transmit(transmit: &quinn_proto::Transmit) -> Transmit {
    Transmit {
        remote: transmit.destination,
        local_ip: transmit.src_ip,
        ecn: transmit.ecn.map(|ecn| ecn as u8),
        length: transmit.size,
        segment_size: transmit.segment_size,
    }
}

/// Replies to strangers that wait to be sent; beyond, the strangers have to ask again.
const REPLIES_MAX: usize = 256;
