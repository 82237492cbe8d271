//! A host that speaks QUIC and TLS as it should, and on top of them whatever a test wants.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use quinn_proto::crypto;
use quinn_proto::{
    ClientConfig, Connection, ConnectionError, ConnectionHandle, DatagramEvent, Dir, Endpoint,
    EndpointConfig, Event, ServerConfig, StreamEvent, StreamId, TransportConfig, VarInt,
};
use ring::hmac;

use crate::name::{FabricName, Session};
use crate::node::testing::node_name;
use crate::tls::testing::{NOW, anonymous};
use crate::tls::{Credentials, SharedClock, TlsConfigs};
use crate::wire::code::Code;
use crate::wire::stream::Hello;

/// As what a stranger appears.
pub(in crate::node) struct Guise {
    pub(in crate::node) client: Arc<dyn crypto::ClientConfig>,
    pub(in crate::node) server: Arc<dyn crypto::ServerConfig>,
    /// Streams that a peer may open towards it.
    pub(in crate::node) streams: u32,
    /// Whether it closes a connection as soon as somebody opened it.
    pub(in crate::node) closes_at_once: bool,
}

impl Guise {
    pub(in crate::node) fn of(credentials: &Credentials) -> Self {
        let clock = Arc::new(SharedClock::new(NOW));
        let tls = TlsConfigs::new(credentials, PROTOCOL, clock).unwrap();
        Self {
            client: tls.client,
            server: tls.server,
            streams: 100,
            closes_at_once: false,
        }
    }

    /// Trusts whom `credentials` trust, and shows no certificate to those it calls.
    pub(in crate::node) fn without_certificate(credentials: &Credentials) -> Self {
        let client = anonymous(credentials, PROTOCOL);
        Self {
            client,
            ..Self::of(credentials)
        }
    }
}

/// The host. What it does concerns its latest connection.
pub(in crate::node) struct Stranger {
    endpoint: Endpoint,
    client: Arc<dyn crypto::ClientConfig>,
    transport: Arc<TransportConfig>,
    address: SocketAddr,
    closes_at_once: bool,
    connections: BTreeMap<usize, Connection>,
    latest: Option<ConnectionHandle>,
    replies: Vec<(SocketAddr, usize, BytesMut)>,
    is_touched: bool,
    /// The latest connection got through TLS.
    pub(in crate::node) is_connected: bool,
    /// Why connections ended that the other side, or nobody, ended.
    pub(in crate::node) lost: Vec<ConnectionError>,
    stopped: BTreeMap<StreamId, Code>,
}

impl Stranger {
    pub(super) fn new(address: SocketAddr, guise: &Guise) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"stranger");
        let mut config = EndpointConfig::new(Arc::new(key));
        config.rng_seed(Some([3; 32]));
        let token_key = ring::hkdf::Salt::new(ring::hkdf::HKDF_SHA256, &[]).extract(&[1; 32]);
        let mut transport = TransportConfig::default();
        transport.max_concurrent_bidi_streams(VarInt::from_u32(guise.streams));
        let transport = Arc::new(transport);
        let mut server = ServerConfig::new(Arc::clone(&guise.server), Arc::new(token_key));
        server.transport_config(Arc::clone(&transport));
        Self {
            endpoint: Endpoint::new(Arc::new(config), Some(Arc::new(server)), true, None),
            client: Arc::clone(&guise.client),
            transport,
            address,
            closes_at_once: guise.closes_at_once,
            connections: BTreeMap::new(),
            latest: None,
            replies: Vec::new(),
            is_touched: false,
            is_connected: false,
            lost: Vec::new(),
            stopped: BTreeMap::new(),
        }
    }

    // What it does.

    pub(in crate::node) fn call(&mut self, now: Instant, to: SocketAddr) {
        let mut config = ClientConfig::new(Arc::clone(&self.client));
        config.transport_config(Arc::clone(&self.transport));
        let (handle, connection) = self.endpoint.connect(now, config, to, "any.name").unwrap();
        self.adopt(handle, connection);
    }

    pub(in crate::node) fn open(&mut self) -> Option<StreamId> {
        self.connection().streams().open(Dir::Bi)
    }

    pub(in crate::node) fn accept(&mut self) -> Option<StreamId> {
        self.connection().streams().accept(Dir::Bi)
    }

    pub(in crate::node) fn write(&mut self, stream: StreamId, data: &[u8]) {
        let written = self.connection().send_stream(stream).write(data);
        assert_eq!(written, Ok(data.len()));
    }

    /// Writes as much as goes in. Returns how much that is.
    pub(in crate::node) fn push(&mut self, stream: StreamId, data: &[u8]) -> usize {
        self.connection()
            .send_stream(stream)
            .write(data)
            .unwrap_or(0)
    }

    /// Opens a stream with these bytes on it.
    pub(in crate::node) fn say(&mut self, data: &[u8]) -> StreamId {
        let stream = self.open().expect("one more stream is allowed");
        self.write(stream, data);
        stream
    }

    pub(in crate::node) fn finish(&mut self, stream: StreamId) {
        self.connection().send_stream(stream).finish().unwrap();
    }

    pub(in crate::node) fn reset(&mut self, stream: StreamId, code: Code) {
        let code = VarInt::from_u64(code.to_wire()).unwrap();
        self.connection().send_stream(stream).reset(code).unwrap();
    }

    pub(in crate::node) fn stop(&mut self, stream: StreamId, code: Code) {
        let code = VarInt::from_u64(code.to_wire()).unwrap();
        self.connection().recv_stream(stream).stop(code).unwrap();
    }

    pub(in crate::node) fn close(&mut self, now: Instant, code: Code) {
        let code = VarInt::from_u64(code.to_wire()).unwrap();
        self.connection().close(now, code, Bytes::new());
    }

    pub(in crate::node) fn send_datagram(&mut self, data: &[u8]) {
        let data = Bytes::copy_from_slice(data);
        self.connection().datagrams().send(data, true).unwrap();
    }

    // What it learns.

    /// With which code the other side said that it wants no more of a stream.
    pub(in crate::node) fn stopped(&self, stream: StreamId) -> Option<Code> {
        self.stopped.get(&stream).copied()
    }

    /// With which code the other side gave a stream up.
    pub(in crate::node) fn reset_by_peer(&mut self, stream: StreamId) -> Option<Code> {
        let mut receive = self.connection().recv_stream(stream);
        let code = receive.received_reset().ok().flatten()?;
        Some(Code::from_wire(code.into_inner()))
    }

    /// With which code the other side closed a connection.
    pub(in crate::node) fn closed(&self) -> Option<Code> {
        self.lost.iter().find_map(|error| match error {
            ConnectionError::ApplicationClosed(close) => {
                Some(Code::from_wire(close.error_code.into_inner()))
            }
            _ => None,
        })
    }

    /// A `Hello` of the world's fabric, as this host would say it.
    pub(in crate::node) fn hello(&self, name: &str) -> Hello {
        Hello {
            protocol: 1,
            fabric: FabricName::default(),
            node: node_name(name),
            session: Session(1),
            address: self.address,
        }
    }

    fn connection(&mut self) -> &mut Connection {
        self.is_touched = true;
        let latest = self.latest.expect("there is a connection");
        self.connections.get_mut(&latest.0).expect("it is not over")
    }

    fn adopt(&mut self, handle: ConnectionHandle, connection: Connection) {
        self.connections.insert(handle.0, connection);
        self.latest = Some(handle);
        self.is_connected = false;
        self.is_touched = true;
    }

    // The machinery.

    pub(super) fn deadline(&mut self, now: Instant) -> Option<Instant> {
        if self.is_touched {
            return Some(now);
        }
        self.connections
            .values_mut()
            .filter_map(Connection::poll_timeout)
            .min()
    }

    pub(super) fn handle(&mut self, now: Instant, from: SocketAddr, datagram: BytesMut) {
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
                    self.adopt(handle, connection);
                }
            }
            Some(DatagramEvent::Response(transmit)) => {
                let contents = BytesMut::from(&reply[..transmit.size]);
                self.replies
                    .push((transmit.destination, transmit.size, contents));
            }
            None => {}
        }
    }

    pub(super) fn turn(&mut self, now: Instant) {
        self.is_touched = false;
        let mut over = Vec::new();
        for (&handle, connection) in &mut self.connections {
            connection.handle_timeout(now);
            while let Some(event) = connection.poll_endpoint_events() {
                if event.is_drained() {
                    over.push(handle);
                }
                let answer = self.endpoint.handle_event(ConnectionHandle(handle), event);
                answer
                    .into_iter()
                    .for_each(|answer| connection.handle_event(answer));
            }
            while let Some(event) = connection.poll() {
                match event {
                    Event::Connected if self.closes_at_once => {
                        connection.close(now, VarInt::from_u32(0), Bytes::new());
                    }
                    Event::Connected => self.is_connected = true,
                    Event::ConnectionLost { reason } => self.lost.push(reason),
                    Event::Stream(StreamEvent::Stopped { id, error_code }) => {
                        let code = Code::from_wire(error_code.into_inner());
                        self.stopped.insert(id, code);
                    }
                    Event::HandshakeDataReady
                    | Event::DatagramReceived
                    | Event::DatagramsUnblocked
                    | Event::Stream(_) => {}
                }
            }
        }
        for handle in over {
            self.connections.remove(&handle);
        }
    }

    pub(super) fn transmit(
        &mut self,
        now: Instant,
        outgoing: &mut Vec<(SocketAddr, usize, BytesMut)>,
    ) {
        outgoing.append(&mut self.replies);
        for connection in self.connections.values_mut() {
            let mut buffer = Vec::new();
            while let Some(transmit) = connection.poll_transmit(now, 1, &mut buffer) {
                let contents = BytesMut::from(&buffer[..transmit.size]);
                outgoing.push((transmit.destination, transmit.size, contents));
                buffer.clear();
            }
        }
    }
}

const PROTOCOL: &[u8] = b"grinta/1/default";
