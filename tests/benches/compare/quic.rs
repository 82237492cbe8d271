//! The same work over raw QUIC streams, as a user of quinn writes it: each message behind its length.

use std::error::Error;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use grinta_proto::{Der, Limits};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, RecvStream, SendStream, ServerConfig,
    TransportConfig, VarInt,
};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PKCS_ED25519,
};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter};

use crate::flavour::Flavour;
use crate::transport::{Client, Load, Work};

/// What one process proves itself with, to Grinta and to quinn.
#[derive(Debug)]
pub(crate) struct Identity {
    ca: CertificateDer<'static>,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

/// How a message is written to a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writing {
    /// With a `write_all` of its own.
    EachAlone,
    /// Through a `BufWriter`, which is flushed at the end.
    Buffered,
}

/// A connection to the serving process.
pub(crate) struct QuinnClient {
    flavour: Flavour,
    connection: Connection,
    writing: Writing,
}

type Failure = Box<dyn Error + Send + Sync>;

impl Identity {
    /// Makes a CA, and identities for the two processes, in a directory.
    pub(crate) fn issue(directory: &Path) -> Result<(), Box<dyn Error>> {
        let key = KeyPair::generate_for(&PKCS_ED25519)?;
        let mut params = CertificateParams::new([])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key)?;
        fs::write(directory.join("ca"), ca.der())?;
        let issuer = Issuer::new(params, key);
        for name in ["server", "client"] {
            let key = KeyPair::generate_for(&PKCS_ED25519)?;
            let mut params = CertificateParams::new([name.to_owned()])?;
            params.extended_key_usages = vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ];
            let certificate = params.signed_by(&key, &issuer)?;
            fs::write(directory.join(name), certificate.der())?;
            fs::write(
                directory.join(name).with_extension("key"),
                key.serialize_der(),
            )?;
        }
        Ok(())
    }

    /// Reads the identity of one of the two.
    pub(crate) fn load(directory: &Path, name: &str) -> Result<Self, Box<dyn Error>> {
        let key = fs::read(directory.join(name).with_extension("key"))?;
        Ok(Self {
            ca: fs::read(directory.join("ca"))?.into(),
            certificate: fs::read(directory.join(name))?.into(),
            key: PrivateKeyDer::try_from(key)?,
        })
    }

    pub(crate) fn der(&self) -> Der {
        Der {
            ca: vec![self.ca.clone()],
            certificate: vec![self.certificate.clone()],
            key: self.key.clone_key(),
        }
    }

    fn roots(&self) -> Result<Arc<RootCertStore>, Failure> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.clone())?;
        Ok(Arc::new(roots))
    }
}

impl QuinnClient {
    pub(crate) async fn connect(
        flavour: Flavour,
        identity: &Identity,
        server: SocketAddr,
    ) -> Result<Self, Failure> {
        let mut tls =
            rustls::ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
                .with_root_certificates(identity.roots()?)
                .with_client_auth_cert(
                    vec![identity.certificate.clone()],
                    identity.key.clone_key(),
                )?;
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
        config.transport_config(transport());
        let endpoint = endpoint(flavour, None)?;
        let connection = endpoint.connect_with(config, server, "server")?.await?;
        Ok(Self {
            flavour,
            connection,
            writing: Writing::EachAlone,
        })
    }

    /// The same connection, written to in another way.
    pub(crate) fn writing(&self, writing: Writing) -> Self {
        Self {
            flavour: self.flavour,
            connection: self.connection.clone(),
            writing,
        }
    }

    async fn open(&self, kind: u8) -> (SendStream, RecvStream) {
        let (mut send, receive) = self.connection.open_bi().await.expect("the server serves");
        send.write_all(&[kind]).await.expect("the server reads");
        (send, receive)
    }
}

impl Client for QuinnClient {
    fn stream(self: Arc<Self>, load: Load) -> Work<Duration> {
        Box::pin(async move {
            let message: Arc<[u8]> = vec![7; load.length].into();
            let mut streams = Vec::new();
            for _ in 0..load.flows {
                streams.push(self.open(SINK).await);
            }
            let (done, all_done) = async_channel::unbounded();
            let begin = Instant::now();
            for (send, mut receive) in streams {
                let (done, message) = (done.clone(), Arc::clone(&message));
                let (writing, messages) = (self.writing, load.messages / load.flows);
                self.flavour.spawn(async move {
                    match writing {
                        Writing::EachAlone => {
                            let mut send = send;
                            send_all(&mut send, &message, messages).await;
                            send.finish().expect("it is open");
                        }
                        Writing::Buffered => {
                            let mut send = BufWriter::new(send);
                            send_all(&mut send, &message, messages).await;
                            send.shutdown().await.expect("the server reads");
                        }
                    }
                    let told = receive.read_u64().await.expect("the server answers");
                    assert_eq!(told, messages);
                    done.send(()).await.expect("somebody waits");
                });
            }
            for _ in 0..load.flows {
                all_done.recv().await.expect("every stream ends");
            }
            begin.elapsed()
        })
    }

    fn ping_pong(self: Arc<Self>, rounds: u64) -> Work<Vec<Duration>> {
        Box::pin(async move {
            let (mut send, mut receive) = self.open(ECHO).await;
            let mut times = Vec::new();
            let mut echo = Vec::new();
            for _ in 0..rounds {
                let begin = Instant::now();
                write_message(&mut send, &SMALL)
                    .await
                    .expect("the server reads");
                let read = read_message(&mut receive, &mut echo).await;
                times.push(begin.elapsed());
                assert!(read.expect("the server answers"));
                assert_eq!(echo, SMALL);
            }
            times
        })
    }

    fn exchange(self: Arc<Self>, rounds: u64, at_a_time: u64) -> Work<Duration> {
        Box::pin(async move {
            let (done, all_done) = async_channel::unbounded();
            let begin = Instant::now();
            for _ in 0..at_a_time {
                let (done, client) = (done.clone(), Arc::clone(&self));
                self.flavour.spawn(async move {
                    for _ in 0..rounds / at_a_time {
                        client.exchange_once().await;
                    }
                    done.send(()).await.expect("somebody waits");
                });
            }
            for _ in 0..at_a_time {
                all_done.recv().await.expect("every task ends");
            }
            begin.elapsed()
        })
    }
}

impl QuinnClient {
    /// One write for the kind and the request together, as whoever counts packets does it.
    async fn exchange_once(&self) {
        let (mut send, mut receive) = self.connection.open_bi().await.expect("the server serves");
        let mut request = vec![ECHO];
        request.extend_from_slice(&(SMALL.len() as u32).to_be_bytes());
        request.extend_from_slice(&SMALL);
        send.write_all(&request).await.expect("the server reads");
        send.finish().expect("it is open");
        let response = receive.read_to_end(1024).await;
        assert_eq!(response.expect("the server answers").len(), SMALL.len() + 4);
    }
}

/// Serves any number of connections. Returns where.
pub(crate) fn serve(flavour: Flavour, identity: &Identity) -> Result<SocketAddr, Failure> {
    let verifier = WebPkiClientVerifier::builder(identity.roots()?).build()?;
    let mut tls = rustls::ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![identity.certificate.clone()], identity.key.clone_key())?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    config.transport_config(transport());
    let endpoint = endpoint(flavour, Some(config))?;
    let address = endpoint.local_addr()?;
    flavour.spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            flavour.spawn(async move {
                let connection = incoming.await.expect("the client is trusted");
                while let Ok((send, receive)) = connection.accept_bi().await {
                    flavour.spawn(async move {
                        answer(send, receive).await.expect("the client asks well");
                    });
                }
            });
        }
    });
    Ok(address)
}

async fn answer(mut send: SendStream, receive: RecvStream) -> Result<(), Failure> {
    let mut receive = BufReader::with_capacity(64 * 1024, receive);
    let mut message = Vec::new();
    match receive.read_u8().await? {
        SINK => {
            let mut received = 0;
            while read_message(&mut receive, &mut message).await? {
                received += 1;
            }
            send.write_u64(received).await?;
        }
        _ => {
            while read_message(&mut receive, &mut message).await? {
                write_message(&mut send, &message).await?;
            }
        }
    }
    send.finish()?;
    Ok(())
}

async fn send_all(send: &mut (impl AsyncWrite + Unpin), message: &[u8], messages: u64) {
    for _ in 0..messages {
        let sent = write_message(send, message).await;
        sent.expect("the server reads on");
    }
}

/// Writes a message and its length at once.
async fn write_message(
    send: &mut (impl AsyncWrite + Unpin),
    message: &[u8],
) -> Result<(), Failure> {
    let length = u32::try_from(message.len())?.to_be_bytes();
    if message.len() <= SMALL.len() {
        let mut framed = [0; 4 + SMALL.len()];
        framed[..4].copy_from_slice(&length);
        framed[4..][..message.len()].copy_from_slice(message);
        send.write_all(&framed[..4 + message.len()]).await?;
    } else {
        send.write_all(&length).await?;
        send.write_all(message).await?;
    }
    Ok(())
}

/// Reads a message; false at the end.
async fn read_message(
    receive: &mut (impl AsyncRead + Unpin),
    message: &mut Vec<u8>,
) -> Result<bool, Failure> {
    let mut length = [0; 4];
    if receive.read(&mut length[..1]).await? == 0 {
        return Ok(false);
    }
    receive.read_exact(&mut length[1..]).await?;
    message.resize(u32::from_be_bytes(length) as usize, 0);
    receive.read_exact(message).await?;
    Ok(true)
}

fn endpoint(flavour: Flavour, server: Option<ServerConfig>) -> Result<Endpoint, Failure> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let endpoint = Endpoint::new(EndpointConfig::default(), server, socket, flavour.quinn())?;
    Ok(endpoint)
}

/// Grinta's windows.
fn transport() -> Arc<TransportConfig> {
    let limits = Limits::default();
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(limits.flows_per_peer_max))
        .stream_receive_window(VarInt::from_u32(limits.flow_receive_window))
        .receive_window(VarInt::from_u32(limits.connection_receive_window))
        .send_window(limits.connection_send_window)
        .keep_alive_interval(Some(Duration::from_secs(4)));
    Arc::new(transport)
}

const ALPN: &[u8] = b"compare";
const SINK: u8 = 0;
const ECHO: u8 = 1;
const SMALL: [u8; 64] = [7; 64];
