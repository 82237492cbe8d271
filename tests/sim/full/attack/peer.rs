//! A client that speaks QUIC and TLS as it should, believes everybody, and says on top of them
//! whatever it is told to.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use quinn_proto::crypto::rustls::QuicClientConfig;
use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, ConnectionId, ConnectionIdGenerator, DatagramEvent,
    Dir, Endpoint, EndpointConfig, Event, StreamId,
};
use ring::hmac;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

use crate::draw::mix;
use crate::pki::{Gullible, Leaf};
use crate::world::UNIX_EPOCH;

/// The client, and all that it has connected.
pub(super) struct Peer {
    endpoint: Endpoint,
    client: Arc<QuicClientConfig>,
    connections: BTreeMap<usize, Connection>,
    /// The streams of the latest connection, and what waits to be written to them.
    streams: Vec<StreamId>,
    latest: Option<ConnectionHandle>,
    calls: u64,
    /// The latest connection got through TLS, on this side.
    pub(super) is_connected: bool,
    /// How many connections were up on this side, and are over.
    pub(super) lost: u64,
}

impl Peer {
    /// A client that shows this certificate, if any.
    pub(super) fn new(leaf: Option<&Leaf>, provider: &Arc<CryptoProvider>, seed: u64) -> Self {
        let gullible = Arc::new(Gullible::new(Arc::clone(provider)));
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"peer");
        let mut config = EndpointConfig::new(Arc::new(key));
        config.rng_seed(Some([3; 32]));
        config.cid_generator(move || Box::new(Counted(mix(seed))));
        Self {
            endpoint: Endpoint::new(Arc::new(config), None, true, None),
            client: gullible.client(leaf, Arc::new(Stopped)),
            connections: BTreeMap::new(),
            streams: Vec::new(),
            latest: None,
            calls: seed << 32,
            is_connected: false,
            lost: 0,
        }
    }

    pub(super) fn call(&mut self, now: Instant, to: SocketAddr) {
        self.calls += 1;
        let calls = self.calls;
        let mut config = ClientConfig::new(Arc::clone(&self.client) as _);
        config.initial_dst_cid_provider(Arc::new(move || {
            let half = calls.to_be_bytes();
            ConnectionId::new(&[half, half.map(|byte| !byte)].concat())
        }));
        if let Ok((handle, connection)) = self.endpoint.connect(now, config, to, "any.name") {
            self.connections.insert(handle.0, connection);
            self.latest = Some(handle);
            self.streams.clear();
            self.is_connected = false;
        }
    }

    /// Writes to the control stream of the latest connection, which it opens first.
    pub(super) fn say(&mut self, data: &[u8]) {
        let Some(connection) = self
            .latest
            .and_then(|handle| self.connections.get_mut(&handle.0))
        else {
            return;
        };
        if self.streams.is_empty() {
            self.streams.extend(connection.streams().open(Dir::Bi));
        }
        if let Some(&stream) = self.streams.first() {
            // What the other side does not take is left unsaid.
            connection.send_stream(stream).write(data).ok();
        }
    }

    pub(super) fn send_datagram(&mut self, data: &[u8]) {
        if let Some(handle) = self.latest
            && let Some(connection) = self.connections.get_mut(&handle.0)
        {
            let data = Bytes::copy_from_slice(data);
            connection.datagrams().send(data, true).ok();
        }
    }

    pub(super) fn handle(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let mut reply = Vec::new();
        let data = BytesMut::from(datagram);
        let event = self
            .endpoint
            .handle(now, from, None, None, data, &mut reply);
        if let Some(DatagramEvent::ConnectionEvent(handle, event)) = event
            && let Some(connection) = self.connections.get_mut(&handle.0)
        {
            connection.handle_event(event);
        }
    }

    /// Does what is due, and returns what is to be sent.
    pub(super) fn turn(&mut self, now: Instant) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut outgoing = Vec::new();
        let mut over = Vec::new();
        for (&handle, connection) in &mut self.connections {
            connection.handle_timeout(now);
            while let Some(event) = connection.poll_endpoint_events() {
                if event.is_drained() {
                    over.push(handle);
                }
                if let Some(answer) = self.endpoint.handle_event(ConnectionHandle(handle), event) {
                    connection.handle_event(answer);
                }
            }
            while let Some(event) = connection.poll() {
                let is_latest = self.latest == Some(ConnectionHandle(handle));
                self.is_connected |= is_latest && matches!(event, Event::Connected);
                if is_latest && matches!(event, Event::ConnectionLost { .. }) {
                    self.lost += u64::from(self.is_connected);
                    self.is_connected = false;
                }
            }
            let mut buffer = Vec::new();
            while let Some(transmit) = connection.poll_transmit(now, 1, &mut buffer) {
                outgoing.push((transmit.destination, buffer[..transmit.size].to_vec()));
                buffer.clear();
            }
        }
        for handle in over {
            self.connections.remove(&handle);
        }
        outgoing
    }
}

/// Connection ids without randomness.
struct Counted(u64);

impl ConnectionIdGenerator for Counted {
    fn generate_cid(&mut self) -> ConnectionId {
        self.0 = mix(self.0.wrapping_add(1));
        ConnectionId::new(&self.0.to_be_bytes())
    }

    fn cid_len(&self) -> usize {
        size_of::<u64>()
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// A wall clock that stands still: who believes everybody needs none.
#[derive(Debug)]
struct Stopped;

impl TimeProvider for Stopped {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(UNIX_EPOCH))
    }
}
