//! The quinn-proto endpoint, with every source of time and randomness replaced by the node's own.
//!
//! quinn-proto draws on the operating system in five places unless told otherwise: the endpoint's
//! generator, connection ids, the client's first destination id, the stateless-reset key and the
//! retry-token key. All five come from the seed here, but two: the reset key and the key that
//! marks connection ids as ours come from the node's private key, so that after a restart a peer
//! learns within a packet that its connection is gone.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::BytesMut;
use quinn_proto::{
    ClientConfig, Connection, ConnectionError, ConnectionHandle, ConnectionId,
    ConnectionIdGenerator, DatagramEvent, EcnCodepoint, Endpoint, EndpointConfig, IdleTimeout,
    Incoming, InvalidCid, NoneTokenStore, ServerConfig, TimeSource, TransportConfig, VarInt,
    crypto,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use ring::{hkdf, hmac};
use rustls::time_provider::TimeProvider;

use crate::config::Config;
use crate::node::congestion::{CappedCubic, WindowRelease};
use crate::tls::{Credentials, CredentialsError, SharedClock, TlsConfigs};

/// The quinn-proto endpoint and what is needed to make connections with it.
pub(crate) struct Quic {
    endpoint: Endpoint,
    client_crypto: Arc<dyn crypto::ClientConfig>,
    server: Arc<ServerConfig>,
    is_accepting: bool,
    clock: Arc<SharedClock>,
    rng: StdRng,
    config: Config,
    handshakes: usize,
}

/// A connection just begun, with the key to its congestion window.
pub(crate) struct NewConnection {
    pub(crate) handle: ConnectionHandle,
    pub(crate) connection: Connection,
    pub(crate) release: WindowRelease,
}

/// What one datagram amounted to.
pub(crate) enum Arrival {
    /// It belongs to this connection, which has work to do.
    Event(ConnectionHandle, quinn_proto::ConnectionEvent),
    /// A peer opened a connection.
    Accepted(Box<NewConnection>),
    /// This has to be sent back.
    Reply(quinn_proto::Transmit, Vec<u8>),
    /// A peer was to open a connection, and its first packet is refused; it may be told why.
    Refused(ConnectionError, Option<(quinn_proto::Transmit, Vec<u8>)>),
    /// It was dropped: not QUIC, not for us, or over a limit.
    Dropped,
}

impl Quic {
    pub(crate) fn new(
        config: &Config,
        credentials: &Credentials,
        clock: &Arc<SharedClock>,
        may_fragment: bool,
        mut rng: StdRng,
    ) -> Result<Self, CredentialsError> {
        let alpn = alpn(config);
        let tls = TlsConfigs::new(credentials, &alpn, Arc::clone(clock) as _)?;

        let cid_key = hmac::Key::new(hmac::HMAC_SHA256, &credentials.derive("connection-id"));
        let cid_seed = draw(&mut rng);
        let reset_key = hmac::Key::new(hmac::HMAC_SHA256, &credentials.derive("stateless-reset"));
        let mut endpoint = EndpointConfig::new(Arc::new(reset_key));
        endpoint
            .rng_seed(Some(draw(&mut rng)))
            .cid_generator(move || {
                Box::new(SignedIds {
                    key: cid_key.clone(),
                    rng: StdRng::from_seed(cid_seed),
                })
            });

        let token_key = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&draw(&mut rng));
        let mut server = ServerConfig::new(tls.server, Arc::new(token_key));
        server
            .time_source(Arc::new(WallClock(Arc::clone(clock))))
            .migration(true)
            .max_incoming(2 * config.limits.handshakes_max)
            .incoming_buffer_size(64 * 1024)
            .incoming_buffer_size_total(4 * 1024 * 1024);
        server.validation_token.sent(0);
        let server = Arc::new(server);

        let accepting = Some(Arc::clone(&server));
        Ok(Self {
            endpoint: Endpoint::new(Arc::new(endpoint), accepting, !may_fragment, None),
            client_crypto: tls.client,
            server,
            is_accepting: true,
            clock: Arc::clone(clock),
            rng,
            config: config.clone(),
            handshakes: 0,
        })
    }

    /// Shakes hands with other credentials from now on. What was derived from the first ones, to
    /// tell our connection ids and resets after a restart, stays as it is until then.
    pub(crate) fn replace_credentials(
        &mut self,
        credentials: &Credentials,
    ) -> Result<(), CredentialsError> {
        let clock = Arc::clone(&self.clock);
        let tls = TlsConfigs::new(credentials, &alpn(&self.config), clock as _)?;
        let mut server = ServerConfig::clone(&self.server);
        server.crypto = tls.server;
        self.server = Arc::new(server);
        self.client_crypto = tls.client;
        if self.is_accepting {
            let server = Arc::clone(&self.server);
            self.endpoint.set_server_config(Some(server));
        }
        Ok(())
    }

    /// Begins a connection to `remote`. The certificate's name is checked by the peer's own life,
    /// not by TLS, hence the constant server name.
    pub(crate) fn connect(
        &mut self,
        now: Instant,
        remote: SocketAddr,
    ) -> Result<NewConnection, quinn_proto::ConnectError> {
        let release = WindowRelease::default();
        let mut id = [0; INITIAL_CID_LEN];
        self.rng.fill_bytes(&mut id);
        let mut client = ClientConfig::new(Arc::clone(&self.client_crypto));
        client
            .initial_dst_cid_provider(Arc::new(move || ConnectionId::new(&id)))
            .token_store(Arc::new(NoneTokenStore))
            .transport_config(transport(&self.config, &release));
        let (handle, connection) = self.endpoint.connect(now, client, remote, SERVER_NAME)?;
        Ok(NewConnection {
            handle,
            connection,
            release,
        })
    }

    /// Takes one datagram.
    pub(crate) fn handle(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        local_ip: Option<IpAddr>,
        ecn: Option<EcnCodepoint>,
        data: BytesMut,
    ) -> Arrival {
        let mut reply = Vec::new();
        match self
            .endpoint
            .handle(now, remote, local_ip, ecn, data, &mut reply)
        {
            None => Arrival::Dropped,
            Some(DatagramEvent::ConnectionEvent(handle, event)) => Arrival::Event(handle, event),
            Some(DatagramEvent::Response(transmit)) => Arrival::Reply(transmit, reply),
            Some(DatagramEvent::NewConnection(incoming)) => self.consider(now, incoming),
        }
    }

    /// Tells the endpoint what a connection said of itself; the answer goes back to it.
    pub(crate) fn handle_event(
        &mut self,
        handle: ConnectionHandle,
        event: quinn_proto::EndpointEvent,
    ) -> Option<quinn_proto::ConnectionEvent> {
        self.endpoint.handle_event(handle, event)
    }

    /// An accepted connection got through its handshake, or failed to.
    pub(crate) fn handshake_ended(&mut self) {
        self.handshakes = self.handshakes.saturating_sub(1);
    }

    /// Handshakes under way that others began.
    pub(crate) const fn handshakes(&self) -> usize {
        self.handshakes
    }

    /// How many connections the endpoint knows, drained ones excluded.
    pub(crate) fn open_connections(&self) -> usize {
        self.endpoint.open_connections()
    }

    /// Stops answering newcomers.
    pub(crate) fn stop_accepting(&mut self) {
        self.is_accepting = false;
        self.endpoint.set_server_config(None);
    }

    /// Accepts a newcomer within the limits; beyond the first it must prove its address, beyond
    /// twice that it is not answered.
    fn consider(&mut self, now: Instant, incoming: Incoming) -> Arrival {
        let handshakes_max = self.config.limits.handshakes_max;
        let full = self.endpoint.open_connections() >= self.config.limits.connections_max;
        if full || self.handshakes >= 2 * handshakes_max {
            self.endpoint.ignore(incoming);
            return Arrival::Dropped;
        }
        let mut reply = Vec::new();
        if self.handshakes >= handshakes_max && !incoming.remote_address_validated() {
            return match self.endpoint.retry(incoming, &mut reply) {
                Ok(transmit) => Arrival::Reply(transmit, reply),
                Err(refused) => {
                    self.endpoint.ignore(refused.into_incoming());
                    Arrival::Dropped
                }
            };
        }

        let release = WindowRelease::default();
        let mut server = ServerConfig::clone(&self.server);
        server.transport_config(transport(&self.config, &release));
        match self
            .endpoint
            .accept(incoming, now, &mut reply, Some(Arc::new(server)))
        {
            Ok((handle, connection)) => {
                self.handshakes += 1;
                Arrival::Accepted(Box::new(NewConnection {
                    handle,
                    connection,
                    release,
                }))
            }
            Err(refused) => {
                let reply = refused.response.map(|transmit| (transmit, reply));
                Arrival::Refused(refused.cause, reply)
            }
        }
    }
}

impl std::fmt::Debug for Quic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Quic")
            .field("connections", &self.open_connections())
            .finish_non_exhaustive()
    }
}

/// Connection ids of eight bytes: three drawn, five that prove the id ours.
struct SignedIds {
    key: hmac::Key,
    rng: StdRng,
}

impl SignedIds {
    fn sign(&self, nonce: &[u8]) -> [u8; CID_LEN - NONCE_LEN] {
        let tag = hmac::sign(&self.key, nonce);
        let mut signature = [0; CID_LEN - NONCE_LEN];
        signature.copy_from_slice(&tag.as_ref()[..CID_LEN - NONCE_LEN]);
        signature
    }
}

impl ConnectionIdGenerator for SignedIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; CID_LEN];
        self.rng.fill_bytes(&mut id[..NONCE_LEN]);
        let signature = self.sign(&id[..NONCE_LEN]);
        id[NONCE_LEN..].copy_from_slice(&signature);
        ConnectionId::new(&id)
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        let ours = id.len() == CID_LEN && id[NONCE_LEN..] == self.sign(&id[..NONCE_LEN]);
        if ours { Ok(()) } else { Err(InvalidCid) }
    }

    fn cid_len(&self) -> usize {
        CID_LEN
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// The node's wall clock, for the age of retry tokens.
struct WallClock(Arc<SharedClock>);

impl TimeSource for WallClock {
    fn now(&self) -> SystemTime {
        let unix_time = self.0.current_time().map_or(0, |time| time.as_secs());
        UNIX_EPOCH + Duration::from_secs(unix_time)
    }
}

/// The protocol's name in TLS: nodes of another version or fabric fail the handshake.
fn alpn(config: &Config) -> Vec<u8> {
    format!("grinta/1/{}", config.fabric).into_bytes()
}

fn transport(config: &Config, release: &WindowRelease) -> Arc<TransportConfig> {
    let limits = &config.limits;
    let timings = &config.connection;
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(
            limits.flows_per_peer_max.saturating_add(1),
        ))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(limits.flow_receive_window.min(WINDOW_MAX)))
        .receive_window(VarInt::from_u32(limits.connection_receive_window))
        .send_window(limits.connection_send_window)
        .max_idle_timeout(IdleTimeout::try_from(timings.idle_timeout).ok())
        .keep_alive_interval(Some(timings.keep_alive_interval))
        .initial_rtt(timings.initial_rtt)
        .datagram_receive_buffer_size(Some(256 * 1024))
        .datagram_send_buffer_size(64 * 1024)
        .allow_spin(false)
        .congestion_controller_factory(Arc::new(CappedCubic {
            window_max: limits.congestion_window_max,
            release: release.clone(),
        }));
    Arc::new(transport)
}

fn draw(rng: &mut StdRng) -> [u8; 32] {
    let mut seed = [0; 32];
    rng.fill_bytes(&mut seed);
    seed
}

const SERVER_NAME: &str = "node.grinta.invalid";
const CID_LEN: usize = 8;
const NONCE_LEN: usize = 3;
/// RFC 9000 asks for at least 8 unpredictable bytes.
const INITIAL_CID_LEN: usize = 20;
/// Above this a burst of losses can leave more gaps than quinn-proto tolerates, and it would end
/// the connection.
const WINDOW_MAX: u32 = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_ids_are_told_from_foreign_ones_after_a_restart_too() {
        let ids = |key: &[u8], seed| SignedIds {
            key: hmac::Key::new(hmac::HMAC_SHA256, key),
            rng: StdRng::from_seed([seed; 32]),
        };
        let before = ids(b"node key", 1).generate_cid();
        assert!(ids(b"node key", 2).validate(&before).is_ok());
        assert!(ids(b"another key", 1).validate(&before).is_err());
        assert_ne!(ids(b"node key", 2).generate_cid(), before);
    }
}
