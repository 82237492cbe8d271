//! Clients that break every rule they can, written straight on quinn. After each the node serves its
//! honest peers as before, and holds no more than it did.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_lite::future::{poll_once, zip};
use grinta_proto::wire::frame::encode_length;
use grinta_proto::wire::stream::{Encoding, Hello, OpenFlow};
use grinta_proto::{
    Code, CodecId, Direction, Endpoint, Fabric, FabricName, Flow, Incoming, Raw, Session,
};
use grinta_tests::pki::{Ca, Gullible, Leaf, Validity};
use quinn::{
    ClientConfig, Connection, ConnectionError, EndpointConfig, ReadError, RecvStream, SendStream,
    SmolRuntime, VarInt,
};
use rustls::time_provider::DefaultTimeProvider;

use super::World;

system_stories! {
    first_frames_that_are_none,
    first_frames_that_never_end,
    streams_that_are_given_up_at_once,
    readers_that_never_read,
    messages_of_eight_gibibytes,
    words_that_no_node_says,
    handshakes_that_nobody_goes_on_with,
    datagrams_of_anything,
}

/// Two honest nodes with a flow between them, and an attacker.
struct Siege {
    ca: Ca,
    server: Fabric,
    endpoint: Endpoint,
    /// The client's end, and the server's.
    honest: (Flow<String, String>, Flow<String, String>),
    _client: Fabric,
    before: Holdings,
}

/// What a node holds for others.
#[derive(Debug, PartialEq, Eq)]
struct Holdings {
    connections: usize,
    handshakes: usize,
    flows: usize,
    waiting: usize,
    to_be_sent: usize,
    held: usize,
    names: usize,
}

/// An attacker's connection that has greeted as a node does.
struct Peer {
    connection: Connection,
    _endpoint: quinn::Endpoint,
    control: SendStream,
    _answers: RecvStream,
}

impl Siege {
    async fn begin(world: &World) -> Self {
        let ca = Ca::new(1);
        let builder = |name: &str| {
            let credentials = ca.credentials(&ca.issue(name, Validity::Good), &[]);
            world
                .hasty_builder(name)
                .credentials(credentials)
                .configure(|config| {
                    // The machine may be busy; that is no failure of an honest node.
                    config.connection.idle_timeout = Duration::from_secs(30);
                    config.membership.suspicion_multiplier = 1000;
                    config.limits.handshakes_max = HANDSHAKES_MAX;
                })
        };
        let server = world.start(builder("server")).await.unwrap();
        server.join().await.unwrap();
        let client = builder("client").neighbour(server.address().to_string());
        let client = world.start(client).await.unwrap();
        client.join().await.unwrap();
        let endpoint = server.endpoint("service").await.unwrap();
        let dial = async {
            let dial = client.dial("service").wait_for_name();
            dial.bidi::<String, String, _>(Raw).await.unwrap()
        };
        let accept = async {
            let incoming = endpoint.accept().await.unwrap();
            incoming.bidi::<String, String, _>(Raw).unwrap()
        };
        let honest = zip(dial, accept).await;
        let before = Holdings::of(&server);
        let mut siege = Self {
            ca,
            server,
            endpoint,
            honest,
            _client: client,
            before,
        };
        siege.exchange().await;
        siege
    }

    /// A client that shows a certificate, if any.
    fn attacker(&self, leaf: Option<&Leaf>) -> quinn::Endpoint {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let runtime = Arc::new(SmolRuntime);
        let config = EndpointConfig::default();
        let mut endpoint = quinn::Endpoint::new(config, None, socket, runtime).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let gullible = Arc::new(Gullible::new(provider));
        let tls = gullible.client(leaf, Arc::new(DefaultTimeProvider));
        endpoint.set_default_client_config(ClientConfig::new(tls));
        endpoint
    }

    /// An attacker that is a member, as far as anybody can see.
    async fn peer(&self) -> Peer {
        let leaf = self.ca.issue("mallory", Validity::Good);
        let endpoint = self.attacker(Some(&leaf));
        let address = endpoint.local_addr().unwrap();
        let connecting = endpoint.connect(self.server.address(), "any.name");
        let connection = connecting.unwrap().await.unwrap();
        let (mut control, mut answers) = connection.open_bi().await.unwrap();
        let hello = Hello {
            protocol: 1,
            fabric: FabricName::default(),
            node: "mallory".parse().unwrap(),
            session: Session(1),
            address,
        };
        let mut frame = BytesMut::new();
        hello.encode(&mut frame);
        control.write_all(&frame).await.unwrap();
        answers
            .read_chunk(1, true)
            .await
            .unwrap()
            .expect("it is greeted back");
        Peer {
            connection,
            _endpoint: endpoint,
            control,
            _answers: answers,
        }
    }

    /// The honest go on as before.
    async fn exchange(&mut self) {
        let (client, server) = &mut self.honest;
        for _ in 0..10 {
            client.send("ping".to_owned()).await.unwrap();
            assert_eq!(server.recv().await.unwrap().as_deref(), Some("ping"));
            server.send("pong".to_owned()).await.unwrap();
            assert_eq!(client.recv().await.unwrap().as_deref(), Some("pong"));
        }
    }

    /// The flow from an attacker that waits at the endpoint.
    async fn accept(&self) -> Incoming {
        let incoming = self.endpoint.accept().await.unwrap();
        assert_eq!(incoming.node().as_str(), "mallory");
        incoming
    }

    /// The attack is over: the honest did not notice, and the node holds what it held.
    async fn end(mut self) {
        self.exchange().await;
        while Holdings::of(&self.server) != self.before {
            self.server.sleep(Duration::from_millis(20)).await;
        }
        self.exchange().await;
        assert_eq!(self.server.counters().connections_lost, 0);
    }
}

impl Holdings {
    fn of(fabric: &Fabric) -> Self {
        let snapshot = fabric.snapshot();
        let connections = snapshot.connections;
        Self {
            connections: connections.len(),
            handshakes: snapshot.usage.handshakes.used,
            flows: snapshot.flows.len(),
            waiting: snapshot
                .endpoints
                .iter()
                .map(|it| it.accept_queue.used)
                .sum(),
            to_be_sent: connections.iter().map(|it| it.control_queue.used).sum(),
            held: snapshot.usage.held.used,
            names: snapshot.names.known,
        }
    }
}

impl Peer {
    /// Opens a stream with these bytes on it.
    async fn say(&self, bytes: &[u8]) -> (SendStream, RecvStream) {
        let (mut send, receive) = self.connection.open_bi().await.unwrap();
        send.write_all(bytes).await.unwrap();
        (send, receive)
    }

    /// A flow to the endpoint.
    async fn dial(&self) -> (SendStream, RecvStream) {
        let encoding = || Some(Encoding::new(CodecId::new("bytes").unwrap(), "").unwrap());
        let open = OpenFlow {
            endpoint: "service".parse().unwrap(),
            direction: Direction::Both,
            sends: encoding(),
            receives: encoding(),
            message_len_max: 1 << 20,
            timeout: None,
            traceparent: String::new(),
        };
        let mut frame = BytesMut::new();
        open.encode(&mut frame);
        self.say(&frame).await
    }

    /// With which code the node closes the connection.
    async fn closed(&self) -> Code {
        let error = self.connection.closed().await;
        let ConnectionError::ApplicationClosed(close) = error else {
            panic!("{error}");
        };
        code(close.error_code)
    }
}

async fn first_frames_that_are_none(world: &World) {
    let siege = Siege::begin(world).await;
    let peer = siege.peer().await;
    let garbage = [announced(64).as_ref(), &[0xa5; 64]].concat();
    for (bytes, expected) in [
        (garbage, Code::FirstFrameMalformed),
        (vec![0xff; 64], Code::FirstFrameMalformed),
        (announced(EIGHT_GIB).to_vec(), Code::FirstFrameTooLong),
        (announced(64 * 1024 + 1).to_vec(), Code::FirstFrameTooLong),
    ] {
        let (mut send, mut receive) = peer.say(&bytes).await;
        assert_eq!(stopped(&mut send).await, expected);
        assert_eq!(reset(&mut receive).await, expected);
    }
    let (mut send, mut receive) = peer.say(&announced(64)).await;
    send.finish().unwrap();
    assert_eq!(reset(&mut receive).await, Code::FirstFrameTruncated);
    peer.connection.close(VarInt::from_u32(0), b"");
    siege.end().await;
}

/// As many as there may be at a time, each with as much of a frame as it may have but for a byte.
async fn first_frames_that_never_end(world: &World) {
    let siege = Siege::begin(world).await;
    let peer = siege.peer().await;
    let longest = 64 * 1024;
    let mut begun = announced(longest);
    begun.resize(begun.len() + 1000, 0);
    let mut streams = Vec::new();
    while let Some(opened) = poll_once(peer.connection.open_bi()).await {
        let (mut send, receive) = opened.unwrap();
        send.write_all(&begun).await.unwrap();
        streams.push((send, receive));
    }
    let most = usize::try_from(siege.server.snapshot().limits.flows_per_peer_max).unwrap();
    assert_eq!(streams.len(), most);
    for (mut send, mut receive) in streams {
        assert_eq!(stopped(&mut send).await, Code::FirstFrameTimeout);
        assert_eq!(reset(&mut receive).await, Code::FirstFrameTimeout);
    }
    peer.connection.close(VarInt::from_u32(0), b"");
    siege.end().await;
}

async fn streams_that_are_given_up_at_once(world: &World) {
    let mut siege = Siege::begin(world).await;
    let peer = siege.peer().await;
    for round in 0..3_000_usize {
        let (mut send, mut receive) = peer.connection.open_bi().await.unwrap();
        let begun = &announced(1000)[..round % 3];
        send.write_all(begun).await.unwrap();
        send.reset(VarInt::from_u32(7)).unwrap();
        receive.stop(VarInt::from_u32(7)).unwrap();
        if round % 1_000 == 0 {
            siege.exchange().await;
        }
    }
    assert_eq!(peer.connection.close_reason(), None);
    peer.connection.close(VarInt::from_u32(0), b"");
    siege.end().await;
}

async fn readers_that_never_read(world: &World) {
    let mut siege = Siege::begin(world).await;
    let peer = siege.peer().await;
    let mut flows = Vec::new();
    for _ in 0..8 {
        let (_silent, _deaf) = peer.dial().await;
        let mut flow = siege.accept().await.bidi::<String, String, _>(Raw).unwrap();
        let mut taken = 0;
        // It is taken until all there is room for is full, and it is not much.
        while poll_once(flow.send("x".repeat(10_000))).await.is_some() {
            taken += 10_000;
            assert!(taken < 64 << 20, "{taken}");
            siege.exchange().await;
        }
        flows.push((flow, _silent, _deaf));
    }
    siege.exchange().await;
    peer.connection.close(VarInt::from_u32(0), b"");
    for (mut flow, ..) in flows {
        assert!(flow.recv().await.is_err(), "it broke");
    }
    siege.end().await;
}

async fn messages_of_eight_gibibytes(world: &World) {
    let siege = Siege::begin(world).await;
    let peer = siege.peer().await;
    let (mut send, _receive) = peer.dial().await;
    let mut flow = siege.accept().await.bidi::<String, String, _>(Raw).unwrap();
    send.write_all(&announced(EIGHT_GIB)).await.unwrap();
    let error = flow.recv().await.unwrap_err();
    assert!(error.to_string().contains("8589934592"), "{error}");
    assert_eq!(stopped(&mut send).await, Code::MessageTooLong);
    drop(flow);
    peer.connection.close(VarInt::from_u32(0), b"");
    siege.end().await;
}

async fn words_that_no_node_says(world: &World) {
    let siege = Siege::begin(world).await;
    let garbage = [announced(64).as_ref(), &[0xa5; 64]].concat();
    for bytes in [&garbage[..], &announced(EIGHT_GIB), &[0xff; 64]] {
        let mut peer = siege.peer().await;
        peer.control.write_all(bytes).await.unwrap();
        assert_eq!(peer.closed().await, Code::ControlViolation);
    }
    let peer = siege.peer().await;
    peer.connection
        .send_datagram(vec![0xa5; 64].into())
        .unwrap();
    assert_eq!(peer.closed().await, Code::ControlViolation);
    assert_eq!(siege.server.counters().violations, 4);
    siege.end().await;
}

/// Thousands of first packets, of connections that nobody goes on with: beyond a few, newcomers have
/// to show that they are where they say, and those who are come in.
async fn handshakes_that_nobody_goes_on_with(world: &World) {
    let siege = Siege::begin(world).await;
    let sink = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    sink.set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let attacker = siege.attacker(None);
    let mut buffer = vec![0; 2048];
    let (mut most, mut begun) = (0, Vec::new());
    for round in 0..2_000 {
        begun.push(attacker.connect(sink.local_addr().unwrap(), "any.name"));
        let length = sink.recv(&mut buffer).unwrap();
        sink.send_to(&buffer[..length], siege.server.address())
            .unwrap();
        if round % 100 == 99 {
            siege.server.sleep(Duration::from_millis(5)).await;
            most = most.max(siege.server.snapshot().usage.handshakes.used);
        }
    }
    assert_eq!(most, HANDSHAKES_MAX);
    let credentials = siege.ca.issue("newcomer", Validity::Good);
    let credentials = siege.ca.credentials(&credentials, &[]);
    let newcomer = world.hasty_builder("newcomer").credentials(credentials);
    let newcomer = newcomer.neighbour(siege.server.address().to_string());
    let newcomer = world.start(newcomer).await.unwrap();
    newcomer.join().await.unwrap();
    newcomer.shutdown().await;
    siege.end().await;
}

async fn datagrams_of_anything(world: &World) {
    let siege = Siege::begin(world).await;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut bytes = [0; 1400];
    for round in 0..5_000_usize {
        getrandom::fill(&mut bytes).unwrap();
        // Of any length, one in two with the form of a first packet.
        if round % 2 == 0 {
            bytes[..5].copy_from_slice(&[0xc0, 0, 0, 0, 1]);
        }
        socket
            .send_to(&bytes[..round % 1400], siege.server.address())
            .unwrap();
        if round % 500 == 0 {
            siege.server.sleep(Duration::from_millis(1)).await;
        }
    }
    assert!(siege.server.counters().datagrams_dropped > 0);
    siege.end().await;
}

/// With which code the node wants no more of a stream.
async fn stopped(send: &mut SendStream) -> Code {
    code(send.stopped().await.unwrap().expect("it is stopped"))
}

/// With which code the node gave a stream up.
async fn reset(receive: &mut RecvStream) -> Code {
    match receive.read_chunk(1, true).await {
        Err(ReadError::Reset(error)) => code(error),
        other => panic!("{other:?}"),
    }
}

fn code(code: VarInt) -> Code {
    Code::from_wire(code.into_inner())
}

/// The length of a frame that is to come.
fn announced(length: usize) -> BytesMut {
    let mut frame = BytesMut::new();
    encode_length(length, &mut frame);
    frame
}

const EIGHT_GIB: usize = 8 << 30;

/// Handshakes under way until newcomers have to show where they are.
const HANDSHAKES_MAX: usize = 16;
