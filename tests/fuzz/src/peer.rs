//! A host that speaks QUIC and TLS as it should, and on top of them whatever an input wants.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use grinta_tests::pki::{Gullible, Leaf, PROTOCOL};
use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, Dir, Endpoint, EndpointConfig,
    Event, ServerConfig, StreamId, TransportConfig, VarInt,
};
use ring::{hkdf, hmac};
use rustls::crypto::CryptoProvider;
use rustls::time_provider::DefaultTimeProvider;
use rustls::version::TLS13;

use crate::world::Datagram;

/// The host. What it does concerns its latest connection, if that is not over.
pub(crate) struct Peer {
    endpoint: Endpoint,
    client: Arc<QuicClientConfig>,
    connections: BTreeMap<usize, Connection>,
    latest: Option<ConnectionHandle>,
    /// The streams of the latest connection.
    streams: Vec<StreamId>,
    replies: Vec<(SocketAddr, Bytes)>,
    /// Set while it has something to say.
    touched: Option<Instant>,
    /// The latest connection got through TLS.
    pub(crate) is_connected: bool,
}

impl Peer {
    /// A host that shows this certificate, if any, and believes everybody.
    pub(crate) fn new(leaf: Option<&Leaf>, provider: &Arc<CryptoProvider>) -> Self {
        let tls = Tls::new(leaf, provider);
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"peer");
        let mut config = EndpointConfig::new(Arc::new(key));
        config.rng_seed(Some([3; 32]));
        let token_key = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&[1; 32]);
        let server = tls.server.map(|server| {
            let mut config = ServerConfig::new(server, Arc::new(token_key));
            config.transport_config(transport());
            Arc::new(config)
        });
        Self {
            endpoint: Endpoint::new(Arc::new(config), server, true, None),
            client: tls.client,
            connections: BTreeMap::new(),
            latest: None,
            streams: Vec::new(),
            replies: Vec::new(),
            touched: None,
            is_connected: false,
        }
    }

    // What it does.

    pub(crate) fn call(&mut self, now: Instant, to: SocketAddr) {
        let mut config = ClientConfig::new(Arc::clone(&self.client) as _);
        config
            .transport_config(transport())
            .initial_dst_cid_provider(Arc::new(|| quinn_proto::ConnectionId::new(&[7; 20])));
        if let Ok((handle, connection)) = self.endpoint.connect(now, config, to, "any.name") {
            self.adopt(now, handle, connection);
        }
    }

    /// Opens a stream, if the other side allows one more.
    pub(crate) fn open(&mut self, now: Instant) {
        if let Some(connection) = self.connection(now)
            && let Some(stream) = connection.streams().open(Dir::Bi)
        {
            self.streams.push(stream);
        }
    }

    /// Accepts a stream, if the other side opened one.
    pub(crate) fn accept(&mut self, now: Instant) {
        if let Some(connection) = self.connection(now)
            && let Some(stream) = connection.streams().accept(Dir::Bi)
        {
            self.streams.push(stream);
        }
    }

    /// Writes to one of its streams as much as goes in. The first is the control stream of a
    /// connection that it opened.
    pub(crate) fn write(&mut self, now: Instant, which: usize, data: &[u8]) {
        self.with_stream(now, which, |connection, stream| {
            let _ = connection.send_stream(stream).write(data);
        });
    }

    pub(crate) fn finish(&mut self, now: Instant, which: usize) {
        self.with_stream(now, which, |connection, stream| {
            let _ = connection.send_stream(stream).finish();
        });
    }

    pub(crate) fn reset(&mut self, now: Instant, which: usize, code: u32) {
        self.with_stream(now, which, |connection, stream| {
            let _ = connection.send_stream(stream).reset(VarInt::from_u32(code));
        });
    }

    pub(crate) fn stop(&mut self, now: Instant, which: usize, code: u32) {
        self.with_stream(now, which, |connection, stream| {
            let _ = connection.recv_stream(stream).stop(VarInt::from_u32(code));
        });
    }

    pub(crate) fn read(&mut self, now: Instant, which: usize) {
        self.with_stream(now, which, |connection, stream| {
            if let Ok(mut chunks) = connection.recv_stream(stream).read(true) {
                while let Ok(Some(_)) = chunks.next(usize::MAX) {}
                let _ = chunks.finalize();
            }
        });
    }

    pub(crate) fn send_datagram(&mut self, now: Instant, data: &[u8]) {
        if let Some(connection) = self.connection(now) {
            let data = Bytes::copy_from_slice(data);
            let _ = connection.datagrams().send(data, true);
        }
    }

    pub(crate) fn close(&mut self, now: Instant, code: u32) {
        if let Some(connection) = self.connection(now) {
            connection.close(now, VarInt::from_u32(code), Bytes::new());
        }
    }

    fn with_stream(
        &mut self,
        now: Instant,
        which: usize,
        work: impl FnOnce(&mut Connection, StreamId),
    ) {
        if !self.streams.is_empty() {
            let stream = self.streams[which % self.streams.len()];
            if let Some(connection) = self.connection(now) {
                work(connection, stream);
            }
        }
    }

    fn connection(&mut self, now: Instant) -> Option<&mut Connection> {
        self.touched = Some(now);
        self.connections.get_mut(&self.latest?.0)
    }

    fn adopt(&mut self, now: Instant, handle: ConnectionHandle, connection: Connection) {
        self.connections.insert(handle.0, connection);
        self.latest = Some(handle);
        self.streams.clear();
        self.is_connected = false;
        self.touched = Some(now);
    }

    // The machinery.

    pub(crate) fn deadline(&mut self) -> Option<Instant> {
        let timers = self.connections.values_mut();
        timers
            .filter_map(Connection::poll_timeout)
            .chain(self.touched)
            .min()
    }

    pub(crate) fn handle(&mut self, now: Instant, from: SocketAddr, datagram: BytesMut) {
        self.touched = Some(now);
        let mut reply = Vec::new();
        let event = self
            .endpoint
            .handle(now, from, None, None, datagram, &mut reply);
        match event {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                if let Some(connection) = self.connections.get_mut(&handle.0) {
                    connection.handle_event(event);
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                if let Ok((handle, connection)) =
                    self.endpoint.accept(incoming, now, &mut reply, None)
                {
                    self.adopt(now, handle, connection);
                }
            }
            Some(DatagramEvent::Response(transmit)) => {
                reply.truncate(transmit.size);
                self.replies.push((transmit.destination, reply.into()));
            }
            None => {}
        }
    }

    pub(crate) fn turn(&mut self, now: Instant, from: SocketAddr, outgoing: &mut Vec<Datagram>) {
        self.touched = None;
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
                if matches!(event, Event::Connected) {
                    self.is_connected = true;
                }
            }
            let mut buffer = Vec::new();
            while let Some(transmit) = connection.poll_transmit(now, 1, &mut buffer) {
                self.replies.push((
                    transmit.destination,
                    Bytes::copy_from_slice(&buffer[..transmit.size]),
                ));
                buffer.clear();
            }
        }
        for handle in over {
            self.connections.remove(&handle);
        }
        outgoing.extend(self.replies.drain(..).map(|(to, contents)| Datagram {
            from,
            to,
            contents: contents.into(),
        }));
    }
}

fn transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport.max_concurrent_uni_streams(VarInt::from_u32(0));
    Arc::new(transport)
}

/// Its TLS in both roles. It can serve only with a certificate.
struct Tls {
    client: Arc<QuicClientConfig>,
    server: Option<Arc<QuicServerConfig>>,
}

impl Tls {
    fn new(leaf: Option<&Leaf>, provider: &Arc<CryptoProvider>) -> Self {
        let gullible = Arc::new(Gullible::new(Arc::clone(provider)));
        let client = gullible.client(leaf, Arc::new(DefaultTimeProvider));
        let server = leaf.map(|leaf| {
            let mut server = rustls::ServerConfig::builder_with_provider(Arc::clone(provider))
                .with_protocol_versions(&[&TLS13])
                .expect("the provider has TLS 1.3")
                .with_client_cert_verifier(gullible)
                .with_single_cert(vec![leaf.certificate().clone()], leaf.key())
                .expect("the key is the certificate's");
            server.alpn_protocols = vec![PROTOCOL.to_vec()];
            Arc::new(QuicServerConfig::try_from(server).expect("the provider does QUIC"))
        });
        Self { client, server }
    }
}
