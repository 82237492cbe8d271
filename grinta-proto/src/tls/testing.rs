//! What the tests of this module share: CAs that issue any certificate, and a QUIC handshake
//! between two ends in memory.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use quinn_proto::crypto::rustls::{HandshakeData, QuicClientConfig};
use quinn_proto::{
    ClientConfig, Connection, ConnectionError, ConnectionHandle, DatagramEvent, Endpoint,
    EndpointConfig, Event, ServerConfig,
};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    PKCS_ED25519, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use ring::{digest, hmac};
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs8KeyDer,
};
use rustls::version::TLS13;

use super::{Credentials, Der, SharedClock, TlsConfigs};

/// When the tests happen: on 2023-11-14.
pub(crate) const NOW: Duration = Duration::from_secs(1_700_000_000);

pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// A CA with an Ed25519 key made from a phrase, so that each run sees the same bytes.
pub(crate) struct TestCa {
    params: CertificateParams,
    key: KeyPair,
    certificate: CertificateDer<'static>,
}

/// What a certificate shall say. Valid from a day before [`NOW`] to a year after, for both roles.
#[derive(Clone)]
pub(crate) struct Leaf {
    names: Vec<SanType>,
    not_before: Duration,
    not_after: Duration,
    usages: Vec<ExtendedKeyUsagePurpose>,
}

impl Default for Leaf {
    fn default() -> Self {
        Self {
            names: vec![],
            not_before: NOW - DAY,
            not_after: NOW + 365 * DAY,
            usages: vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
        }
    }
}

impl Leaf {
    pub(crate) fn dns(mut self, name: &str) -> Self {
        self.names
            .push(SanType::DnsName(Ia5String::try_from(name).unwrap()));
        self
    }

    pub(crate) fn uri(mut self, uri: &str) -> Self {
        self.names
            .push(SanType::URI(Ia5String::try_from(uri).unwrap()));
        self
    }

    pub(crate) fn valid(mut self, not_before: Duration, not_after: Duration) -> Self {
        (self.not_before, self.not_after) = (not_before, not_after);
        self
    }

    pub(crate) fn usages(mut self, usages: &[ExtendedKeyUsagePurpose]) -> Self {
        self.usages = usages.to_vec();
        self
    }

    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.subject_alt_names.clone_from(&self.names);
        params.extended_key_usages.clone_from(&self.usages);
        params.not_before = date_time_ymd(1970, 1, 1) + self.not_before;
        params.not_after = date_time_ymd(1970, 1, 1) + self.not_after;
        params.serial_number = Some(self.serial());
        params
    }

    fn serial(&self) -> SerialNumber {
        serial_of(&format!("{:?}", self.names))
    }
}

impl TestCa {
    pub(crate) fn new(name: &str) -> Self {
        Self::with_key_of(name, name)
    }

    pub(crate) fn with_key_of(name: &str, phrase: &str) -> Self {
        let (params, key) = (Self::params(name), key_of(phrase));
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self {
            params,
            key,
            certificate,
        }
    }

    /// A CA below this one.
    pub(crate) fn intermediate(&self, name: &str) -> Self {
        let (params, key) = (Self::params(name), key_of(name));
        let certificate = params
            .signed_by(&key, &self.issuer())
            .unwrap()
            .der()
            .clone();
        Self {
            params,
            key,
            certificate,
        }
    }

    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.certificate.clone()
    }

    pub(crate) fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }

    pub(crate) fn issue(&self, leaf: &Leaf) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = key_of(&format!("{:?}", leaf.names));
        let certificate = leaf.params().signed_by(&key, &self.issuer()).unwrap();
        (
            certificate.der().clone(),
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
    }

    pub(crate) fn credentials(&self, leaf: &Leaf) -> Credentials {
        self.credentials_trusting(leaf, self)
    }

    /// Credentials issued by this CA that trust the nodes of another.
    pub(crate) fn credentials_trusting(&self, leaf: &Leaf, trusted: &Self) -> Credentials {
        let (certificate, key) = self.issue(leaf);
        let ca = vec![trusted.certificate()];
        Credentials::from_der(Der {
            ca,
            certificate: vec![certificate],
            key,
        })
        .unwrap()
    }

    pub(crate) fn node(&self, name: &str) -> Credentials {
        self.credentials(&Leaf::default().dns(name))
    }

    /// A revocation list with the certificate of one node.
    pub(crate) fn revoking(&self, name: &str) -> CertificateRevocationListDer<'static> {
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2023, 1, 1),
            next_update: date_time_ymd(2030, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: Leaf::default().dns(name).serial(),
                revocation_time: date_time_ymd(2023, 1, 1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer()).unwrap().into()
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }
}

/// A QUIC handshake carried to its end between two endpoints in memory, without loss or delay.
pub(crate) struct Handshake {
    client: End,
    server: End,
}

struct End {
    endpoint: Endpoint,
    address: SocketAddr,
    connections: BTreeMap<ConnectionHandle, Connection>,
    inbox: VecDeque<BytesMut>,
    error: Option<ConnectionError>,
}

impl Handshake {
    pub(crate) fn between(client: &Credentials, server: &Credentials) -> Self {
        Self::speaking(b"test", b"test", client, server)
    }

    pub(crate) fn speaking(
        client_protocol: &[u8],
        server_protocol: &[u8],
        client: &Credentials,
        server: &Credentials,
    ) -> Self {
        Self::with(
            &configs(client, client_protocol),
            &configs(server, server_protocol),
        )
    }

    pub(crate) fn with(client: &TlsConfigs, server: &TlsConfigs) -> Self {
        Self::run(ClientConfig::new(Arc::clone(&client.client)), server)
    }

    /// A client that trusts the server but presents nothing itself.
    pub(crate) fn without_client_certificate(client: &Credentials, server: &Credentials) -> Self {
        let anonymous = ClientConfig::new(anonymous(client, b"test"));
        Self::run(anonymous, &configs(server, b"test"))
    }

    pub(crate) fn client_error(&self) -> Option<ConnectionError> {
        self.client.error.clone()
    }

    pub(crate) fn server_error(&self) -> Option<ConnectionError> {
        self.server.error.clone()
    }

    pub(crate) fn peer_of_client(&self) -> Option<Vec<CertificateDer<'static>>> {
        self.client.peer()
    }

    pub(crate) fn peer_of_server(&self) -> Option<Vec<CertificateDer<'static>>> {
        self.server.peer()
    }

    /// The server name that the client sent in the clear.
    pub(crate) fn server_name_seen(&self) -> Option<String> {
        let connection = self.server.connections.values().next()?;
        let data = connection.crypto_session().handshake_data()?;
        data.downcast::<HandshakeData>().ok()?.server_name
    }

    fn run(client: ClientConfig, server: &TlsConfigs) -> Self {
        let token_key = ring::hkdf::Salt::new(ring::hkdf::HKDF_SHA256, &[]).extract(&[1; 32]);
        let server = ServerConfig::new(Arc::clone(&server.server), Arc::new(token_key));
        let mut handshake = Self {
            client: End::new("192.0.2.1:1", None),
            server: End::new("192.0.2.2:2", Some(Arc::new(server))),
        };
        let now = any_instant();
        handshake
            .client
            .connect(now, client, handshake.server.address);
        loop {
            let sent = handshake.client.turn(now, &mut handshake.server);
            let answered = handshake.server.turn(now, &mut handshake.client);
            if !sent && !answered {
                return handshake;
            }
        }
    }
}

impl End {
    fn new(address: &str, server: Option<Arc<ServerConfig>>) -> Self {
        let reset_key = Arc::new(hmac::Key::new(hmac::HMAC_SHA256, address.as_bytes()));
        let config = Arc::new(EndpointConfig::new(reset_key));
        Self {
            endpoint: Endpoint::new(config, server, false, Some([1; 32])),
            address: address.parse().unwrap(),
            connections: BTreeMap::new(),
            inbox: VecDeque::new(),
            error: None,
        }
    }

    fn connect(&mut self, now: Instant, config: ClientConfig, to: SocketAddr) {
        let connected = self.endpoint.connect(now, config, to, "any.name");
        let (handle, connection) = connected.unwrap();
        self.connections.insert(handle, connection);
    }

    /// Takes in what has arrived and sends what there is to send. Tells whether it sent any.
    fn turn(&mut self, now: Instant, peer: &mut Self) -> bool {
        let queued = peer.inbox.len();
        while let Some(datagram) = self.inbox.pop_front() {
            self.receive(now, peer, datagram);
        }
        for (handle, connection) in &mut self.connections {
            let mut buffer = Vec::new();
            while connection.poll_transmit(now, 1, &mut buffer).is_some() {
                peer.inbox.push_back(BytesMut::from(buffer.as_slice()));
                buffer.clear();
            }
            while let Some(event) = connection.poll_endpoint_events() {
                if let Some(event) = self.endpoint.handle_event(*handle, event) {
                    connection.handle_event(event);
                }
            }
            while let Some(event) = connection.poll() {
                if let Event::ConnectionLost { reason } = event {
                    self.error = Some(reason);
                }
            }
        }
        peer.inbox.len() > queued
    }

    fn receive(&mut self, now: Instant, peer: &mut Self, datagram: BytesMut) {
        let mut answer = Vec::new();
        match self
            .endpoint
            .handle(now, peer.address, None, None, datagram, &mut answer)
        {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                self.connections
                    .get_mut(&handle)
                    .unwrap()
                    .handle_event(event);
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                match self.endpoint.accept(incoming, now, &mut answer, None) {
                    Ok((handle, connection)) => drop(self.connections.insert(handle, connection)),
                    Err(error) => {
                        self.error = Some(error.cause);
                        assert!(error.response.is_some());
                        peer.inbox.push_back(BytesMut::from(answer.as_slice()));
                    }
                }
            }
            Some(DatagramEvent::Response(_)) | None => {}
        }
    }

    fn peer(&self) -> Option<Vec<CertificateDer<'static>>> {
        let identity = self
            .connections
            .values()
            .next()?
            .crypto_session()
            .peer_identity()?;
        identity.downcast().ok().map(|chain| *chain)
    }
}

/// What a client uses that trusts whom `credentials` trust, but presents nothing itself.
pub(crate) fn anonymous(credentials: &Credentials, protocol: &[u8]) -> Arc<QuicClientConfig> {
    let builder = rustls::ClientConfig::builder_with_details(
        Arc::clone(credentials.provider()),
        Arc::new(SharedClock::new(NOW)),
    );
    let mut anonymous = builder
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(credentials.verifier()) as _)
        .with_no_client_auth();
    anonymous.alpn_protocols = vec![protocol.to_vec()];
    Arc::new(QuicClientConfig::try_from(anonymous).unwrap())
}

fn configs(credentials: &Credentials, protocol: &[u8]) -> TlsConfigs {
    TlsConfigs::new(credentials, protocol, Arc::new(SharedClock::new(NOW))).unwrap()
}

fn key_of(phrase: &str) -> KeyPair {
    let seed = digest::digest(&digest::SHA256, phrase.as_bytes());
    let der = [&PKCS8_ED25519_PREFIX, seed.as_ref()].concat();
    let der = PrivatePkcs8KeyDer::from(der);
    KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ED25519).unwrap()
}

fn serial_of(phrase: &str) -> SerialNumber {
    let hash = digest::digest(&digest::SHA256, phrase.as_bytes());
    let mut serial = hash.as_ref()[..8].to_vec();
    serial[0] = 1;
    serial.into()
}

#[expect(
    clippy::disallowed_methods,
    reason = "std makes an `Instant` in no other way"
)]
fn any_instant() -> Instant {
    Instant::now()
}

/// What precedes the 32 bytes of an Ed25519 key in PKCS #8.
const PKCS8_ED25519_PREFIX: [u8; 16] = [
    0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20,
];

/// What was logged, in one place however many write it.
#[derive(Debug, Default, Clone)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
