//! Peers that break every rule they can: the guilty stream or connection ends with a code that
//! names the fault, the flow of an honest peer goes on, and nothing panics.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use quinn_proto::StreamId;

use crate::name::Session;
use crate::node::control::harness::Signer;
use crate::node::testing::{
    Ends, Guise, Stranger, World, endpoint_name, node_name, open, signatory,
};
use crate::node::{ConnectError, DialCause, EndpointId, Event, JoinError, control};
use crate::wire::claims::{Claim, ClaimState, OwnerDelta, OwnerHead, Stamp, Version};
use crate::wire::code::Code;
use crate::wire::control::{ControlMessage, MemberAnswer, Names, Rumour};
use crate::wire::frame::encode_length;
use crate::wire::stream::Direction;

/// An honest flow from `b` to `a`, and a stranger beside it with a certificate of the fabric.
struct Siege {
    world: World,
    honest: Ends,
    endpoint: EndpointId,
}

impl Siege {
    fn begin() -> Self {
        Self::around(World::of(1, &["a", "b"]))
    }

    /// Around two nodes that allow each node a few names.
    fn of_few_names() -> Self {
        let mut world = World::new(1);
        for (name, neighbours) in [("a", &[][..]), ("b", &["a"])] {
            world.start_with(name, neighbours, |config| {
                config.limits.names_per_node_max = NAMES_MAX;
            });
            world.join(name).unwrap();
        }
        let mut siege = Self::around(world);
        siege.world.greet("mallory", "a");
        siege
    }

    fn around(mut world: World) -> Self {
        let endpoint = world.serve("a", "service", "b");
        let honest = world.flow("b", "a", (endpoint, "service"));
        let credentials = world.credentials(&["mallory"]);
        world.start_stranger("mallory", &Guise::of(&credentials));
        Self {
            world,
            honest,
            endpoint,
        }
    }

    /// The stranger is a peer of `a`.
    fn greeted() -> Self {
        let mut siege = Self::begin();
        siege.world.greet("mallory", "a");
        siege
    }

    /// The stranger is connected to `a` and has not said `Hello`.
    fn connected() -> Self {
        let mut siege = Self::begin();
        siege.world.call("mallory", "a");
        siege
    }

    /// The stranger says something on its control stream.
    fn tell(&mut self, message: &ControlMessage) {
        let mut bytes = BytesMut::new();
        message.encode(&mut bytes);
        let control = StreamId::new(quinn_proto::Side::Client, quinn_proto::Dir::Bi, 0);
        self.world
            .stranger("mallory")
            .write(control, &frame(&bytes));
        self.world.run_for(Duration::from_millis(10));
    }

    fn say(&mut self, bytes: &[u8]) -> StreamId {
        self.world.stranger("mallory").say(bytes)
    }

    /// The node stops a stream of the stranger's with `code`, and nothing else happens.
    #[track_caller]
    fn assert_stopped(mut self, stream: StreamId, code: Code) {
        let stopped = self.world.until("the stream is stopped", |world| {
            world.stranger("mallory").stopped(stream)
        });
        assert_eq!(stopped, code);
        let reset = self.world.until("the stream is reset", |world| {
            world.stranger("mallory").reset_by_peer(stream)
        });
        assert_eq!(reset, code);
        assert_eq!(self.world.stranger("mallory").closed(), None);
        self.assert_peace();
    }

    /// The node closes the stranger's connection with `code`, and no other.
    #[track_caller]
    fn assert_closed(mut self, code: Code) {
        let closed = self.world.until("the connection is closed", |world| {
            world.stranger("mallory").closed()
        });
        assert_eq!(closed, code);
        self.assert_peace();
    }

    /// The honest do not notice, and nothing of the stranger waits anywhere.
    fn assert_peace(mut self) {
        self.world.exchange(self.honest);
        let node = self.world.node("a");
        assert_eq!(node.take_incoming(self.endpoint), None);
        self.world.run_for(Duration::from_secs(4));
        self.world.exchange(self.honest);
        assert_eq!(self.world.node("b").counters().connections_lost, 0);
    }
}

fn frame(bytes: &[u8]) -> BytesMut {
    let mut frame = BytesMut::new();
    encode_length(bytes.len(), &mut frame);
    frame.extend_from_slice(bytes);
    frame
}

fn announced(length: usize) -> BytesMut {
    let mut frame = BytesMut::new();
    encode_length(length, &mut frame);
    frame
}

fn opening() -> BytesMut {
    let mut frame = BytesMut::new();
    open("service", Direction::Both).encode(&mut frame);
    frame
}

const GARBAGE: [u8; 64] = [0xa5; 64];
const EIGHT_GIB: usize = 8 << 30;
const NAMES_MAX: usize = 4;

#[test]
fn datagrams_of_anything_from_anywhere_are_dropped() {
    let mut siege = Siege::begin();
    let stranger = SocketAddr::from(([10, 0, 0, 77], 7000));
    let portless = SocketAddr::from(([10, 0, 0, 77], 0));
    let six = "[2001:db8::1]:1".parse().unwrap();
    for from in [stranger, portless, six, SocketAddr::from(([0, 0, 0, 0], 0))] {
        for first in [0, 0x40, 0x80, 0xc0, 0xcf, 0xff] {
            let mut garbage = GARBAGE.repeat(20);
            garbage[0] = first;
            for length in [1, 5, 21, 64, 1200, 1280] {
                for stride in [0, 1, 7, 64, 1200, usize::MAX] {
                    siege.world.throw(from, "a", stride, &garbage[..length]);
                }
            }
            // A packet of a version that does not exist, with ids of the longest lengths.
            let mut foreign = vec![0xc0 | first, 0xba, 0xba, 0xba, 0xba, 20];
            foreign.extend([1; 20]);
            foreign.push(20);
            foreign.extend([2; 20]);
            foreign.resize(1200, 0);
            siege.world.throw(from, "a", 1200, &foreign);
        }
        siege.world.throw(from, "a", 0, &[]);
        siege.world.throw(from, "a", 10, &[]);
    }
    siege.world.run_for(Duration::from_millis(100));
    assert!(siege.world.node("a").counters().datagrams_dropped > 0);
    assert_eq!(siege.world.connections("a"), 1);
    siege.assert_peace();
}

#[test]
fn a_stride_of_zero_stands_for_one_datagram() {
    let mut siege = Siege::begin();
    let before = siege.world.node("a").counters().datagrams_dropped;
    let stranger = SocketAddr::from(([10, 0, 0, 77], 7000));
    siege.world.throw(stranger, "a", 0, &GARBAGE);
    siege.world.run_for(Duration::from_millis(10));
    let dropped = siege.world.node("a").counters().datagrams_dropped - before;
    assert_eq!(dropped, 1);
}

#[test]
fn copies_and_ruins_of_honest_packets_do_no_harm() {
    let mut siege = Siege::begin();
    let honest = siege.world.address("b");
    for flipped in 0..200 {
        siege
            .world
            .write(siege.honest.dialler, b"still here")
            .unwrap();
        siege.world.ruin(honest, flipped);
        assert_eq!(siege.world.read(siege.honest.acceptor, 10), b"still here");
    }
    siege.assert_peace();
}

#[test]
fn a_first_frame_that_is_too_long_is_refused_before_it_comes() {
    for length in [64 * 1024 + 1, 1 << 20, EIGHT_GIB] {
        let mut siege = Siege::greeted();
        let stream = siege.say(&announced(length));
        siege.assert_stopped(stream, Code::FirstFrameTooLong);
    }
}

#[test]
fn a_first_frame_whose_length_is_no_number_is_malformed() {
    let mut siege = Siege::greeted();
    let stream = siege.say(&[0xff; 11]);
    siege.assert_stopped(stream, Code::FirstFrameMalformed);
}

#[test]
fn a_first_frame_that_ends_early_is_truncated() {
    let mut siege = Siege::greeted();
    let whole = opening();
    let stream = siege.say(&whole[..whole.len() - 1]);
    siege.world.stranger("mallory").finish(stream);
    let reset = siege.world.until("the stream is reset", |world| {
        world.stranger("mallory").reset_by_peer(stream)
    });
    assert_eq!(reset, Code::FirstFrameTruncated);
    siege.assert_peace();
}

#[test]
fn a_stream_that_ends_before_it_begins_is_truncated() {
    let mut siege = Siege::greeted();
    let stream = siege.world.stranger("mallory").open().unwrap();
    siege.world.stranger("mallory").finish(stream);
    let reset = siege.world.until("the stream is reset", |world| {
        world.stranger("mallory").reset_by_peer(stream)
    });
    assert_eq!(reset, Code::FirstFrameTruncated);
    siege.assert_peace();
}

#[test]
fn a_first_frame_of_garbage_or_of_another_kind_is_malformed() {
    let mut hello = BytesMut::new();
    let mut siege = Siege::greeted();
    siege
        .world
        .stranger("mallory")
        .hello("mallory")
        .encode(&mut hello);
    drop(siege);
    for bytes in [frame(&GARBAGE), frame(&[]), hello] {
        let mut siege = Siege::greeted();
        let stream = siege.say(&bytes);
        siege.assert_stopped(stream, Code::FirstFrameMalformed);
    }
}

#[test]
fn a_first_frame_that_never_comes_times_out() {
    for beginning in [&opening()[..0], &opening()[..1], &opening()[..9]] {
        let mut siege = Siege::greeted();
        let stream = match beginning {
            // A stream shows only with its first byte, and with it those before it.
            [] => {
                let silent = siege.world.stranger("mallory").open().unwrap();
                siege.say(&opening()[..1]);
                silent
            }
            some => siege.say(some),
        };
        siege.assert_stopped(stream, Code::FirstFrameTimeout);
    }
}

#[test]
fn a_stream_that_is_reset_before_its_first_frame_is_forgotten() {
    for spoken in [0, 1, 9] {
        let mut siege = Siege::greeted();
        let stream = siege.say(&opening()[..spoken.max(1)]);
        if spoken > 0 {
            siege.world.run_for(Duration::from_millis(10));
        }
        siege.world.stranger("mallory").reset(stream, Code::User(1));
        siege.world.run_for(Duration::from_millis(10));
        let node = siege.world.node("a");
        let peer = node.connections.up(&node_name("mallory")).unwrap();
        assert_eq!(node.connections.get(peer).unwrap().open_flows(), 0);
        siege.assert_peace();
    }
}

#[test]
fn a_dialler_that_stops_the_answer_gives_the_dial_up() {
    for waits in [false, true] {
        let mut siege = Siege::greeted();
        let stream = siege.say(&opening());
        if waits {
            siege.world.run_for(Duration::from_millis(10));
        }
        siege.world.stranger("mallory").stop(stream, Code::User(1));
        siege.world.run_for(Duration::from_millis(10));
        siege.assert_peace();
    }
}

#[test]
fn a_control_stream_with_garbage_costs_its_connection() {
    for bytes in [
        frame(&GARBAGE),
        frame(&[]),
        announced(64 * 1024 + 1),
        announced(EIGHT_GIB),
        BytesMut::from(&[0xff; 11][..]),
    ] {
        let mut siege = Siege::greeted();
        let violations = siege.world.node("a").counters().violations;
        let control = StreamId::new(quinn_proto::Side::Client, quinn_proto::Dir::Bi, 0);
        siege.world.stranger("mallory").write(control, &bytes);
        siege.world.run_for(Duration::from_millis(10));
        assert_eq!(siege.world.node("a").counters().violations, violations + 1);
        siege.assert_closed(Code::ControlViolation);
    }
}

#[test]
fn a_control_stream_that_ends_costs_its_connection() {
    let control = StreamId::new(quinn_proto::Side::Client, quinn_proto::Dir::Bi, 0);
    let attacks: [fn(&mut Stranger, StreamId); 3] = [
        |stranger, control| stranger.finish(control),
        |stranger, control| stranger.reset(control, Code::User(1)),
        |stranger, control| stranger.stop(control, Code::User(1)),
    ];
    for attack in attacks {
        let mut siege = Siege::greeted();
        attack(siege.world.stranger("mallory"), control);
        siege.assert_closed(Code::ControlViolation);
    }
}

#[test]
fn a_datagram_of_garbage_costs_its_connection() {
    let mut siege = Siege::greeted();
    siege.world.stranger("mallory").send_datagram(&GARBAGE);
    siege.assert_closed(Code::ControlViolation);
}

#[test]
fn datagrams_before_hello_do_not_count() {
    let mut siege = Siege::connected();
    siege.world.stranger("mallory").send_datagram(&GARBAGE);
    siege.world.run_for(Duration::from_millis(10));
    assert_eq!(siege.world.stranger("mallory").closed(), None);
    siege.assert_peace();
}

#[test]
fn a_flow_before_hello_costs_the_connection() {
    let mut siege = Siege::connected();
    siege.say(&opening());
    siege.assert_closed(Code::ControlViolation);
}

#[test]
fn flows_behind_a_silent_control_stream_wait_and_fail_with_it() {
    let mut siege = Siege::connected();
    siege.world.stranger("mallory").open().unwrap();
    for _ in 0..10 {
        siege.say(&opening());
    }
    siege.world.run_for(Duration::from_millis(100));
    let refused = siege.world.node("a").counters().connections_refused;
    assert_eq!(siege.world.node("a").take_incoming(siege.endpoint), None);
    let closed = siege.world.until("the connection is closed", |world| {
        world.stranger("mallory").closed()
    });
    assert_eq!(closed, Code::HandshakeTimeout);
    assert_eq!(
        siege.world.node("a").counters().connections_refused,
        refused + 1
    );
    siege.assert_peace();
}

#[test]
fn a_hello_that_never_comes_times_out() {
    Siege::connected().assert_closed(Code::HandshakeTimeout);
}

#[test]
fn a_peer_that_closes_behind_its_hello_was_never_up() {
    let mut siege = Siege::connected();
    let mut hello = BytesMut::new();
    let stranger = siege.world.stranger("mallory");
    stranger.hello("mallory").encode(&mut hello);
    stranger.say(&hello);
    siege.world.flush_stranger("mallory");
    let now = siege.world.now;
    siege.world.stranger("mallory").close(now, Code::Closed);
    siege.world.run_for(Duration::from_millis(100));
    let node = siege.world.node("a");
    assert_eq!(node.connections.up(&node_name("mallory")), None);
    assert_eq!(node.counters().connections_refused, 1);
    siege.assert_peace();
}

#[test]
fn a_hello_of_garbage_costs_the_connection() {
    for bytes in [frame(&GARBAGE), frame(&[]), announced(EIGHT_GIB)] {
        let mut siege = Siege::connected();
        siege.say(&bytes);
        siege.assert_closed(Code::ControlViolation);
    }
}

#[test]
fn a_peer_opens_as_many_streams_as_it_may_and_no_more() {
    let mut siege = Siege::greeted();
    let allowed = siege.world.node("a").limits().flows_per_peer_max;
    let mut streams = Vec::new();
    while let Some(stream) = siege.world.stranger("mallory").open() {
        siege
            .world
            .stranger("mallory")
            .write(stream, &opening()[..3]);
        streams.push(stream);
    }
    assert_eq!(streams.len(), allowed as usize);
    siege.world.exchange(siege.honest);
    siege.world.until("all are stopped", |world| {
        let stopped = streams
            .iter()
            .filter_map(|&id| world.stranger("mallory").stopped(id));
        (stopped.count() == streams.len()).then_some(())
    });
    siege.assert_peace();
}

#[test]
fn a_flood_of_streams_that_are_given_up_leaves_no_timers() {
    let mut siege = Siege::greeted();
    let before = siege.world.node("a").timers.len();
    for _ in 0..20 {
        for _ in 0..50 {
            let stream = siege.say(&opening()[..3]);
            siege.world.flush_stranger("mallory");
            siege.world.stranger("mallory").reset(stream, Code::User(1));
        }
        siege.world.run_for(Duration::from_millis(5));
    }
    assert!(siege.world.node("a").timers.len() <= before);
    siege.assert_peace();
}

#[test]
fn data_without_end_behind_an_opening_stops_at_the_window() {
    let mut siege = Siege::greeted();
    let stream = siege.say(&opening());
    let mut sent = 0;
    loop {
        let taken = siege.world.stranger("mallory").push(stream, &[0; 100_000]);
        siege.world.run_for(Duration::from_millis(20));
        if taken == 0 {
            break;
        }
        sent += taken;
    }
    let window = siege.world.node("a").limits().flow_receive_window as usize;
    assert!(sent <= window + 64 * 1024, "{sent}");
    siege.world.exchange(siege.honest);
    siege.world.stranger("mallory").reset(stream, Code::User(1));
    siege.world.run_for(Duration::from_millis(10));
    siege.assert_peace();
}

/// A claim of names from `after` on, signed.
fn claims(owner: &mut Signer, after: u64, count: u64) -> OwnerDelta {
    let known = owner.head();
    assert_eq!(known.version, Version(after));
    for number in after + 1..=after + count {
        owner.claim(endpoint_name(&format!("mallory.{number}")));
    }
    owner.delta(&known)
}

/// A claim by `owner` of its names from `after` on, which nobody signed.
fn unsigned(owner: &str, after: u64, count: u64) -> OwnerDelta {
    let claim = |version| Claim {
        name: endpoint_name(&format!("{owner}.{version}")),
        version: Version(version),
        stamp: Stamp::default(),
        state: ClaimState::Exclusive,
    };
    OwnerDelta {
        owner: node_name(owner),
        session: Session(1),
        after: Version(after),
        upto: Version(after + count),
        floor: Version(0),
        claims: (after + 1..=after + count).map(claim).collect(),
        proof: None,
    }
}

fn names(delta: OwnerDelta, told_of: u64) -> ControlMessage {
    let head = OwnerHead {
        owner: delta.owner.clone(),
        session: delta.session,
        version: Version(told_of),
        floor: delta.floor,
    };
    ControlMessage::Names(Names {
        heads: vec![head],
        deltas: vec![delta],
        token: 0,
        truncated: false,
        certificates: Vec::new(),
    })
}

#[test]
fn a_peer_that_holds_more_names_than_it_may_is_cut_off() {
    let most = NAMES_MAX as u64;
    let rumour = |delta| {
        ControlMessage::Rumour(Rumour {
            deltas: vec![delta],
            ..Rumour::default()
        })
    };
    for is_answer in [false, true] {
        let mut siege = Siege::of_few_names();
        let credentials = siege.world.credentials(&["mallory"]);
        let mut mallory = Signer::by(signatory(credentials), node_name("mallory"), Session(1));
        let within = claims(&mut mallory, 0, most);
        siege.tell(&ControlMessage::Names(mallory.names(within)));
        assert_eq!(siege.world.stranger("mallory").closed(), None);
        let known = siege.world.node("a").control.directory().names_held();
        assert_eq!(known, NAMES_MAX + 1);
        let excess = claims(&mut mallory, most, 1);
        siege.tell(&match is_answer {
            true => names(excess, most + 1),
            false => rumour(excess),
        });
        let counters = siege.world.node("a").counters();
        assert_eq!((counters.names_exceeded, counters.violations), (1, 0));
        siege.assert_closed(Code::TooManyNames);
    }
}

/// The stranger has a good certificate and would have the name of another: that one gives it up, it
/// says, by whatever signature it can come by.
#[test]
fn a_release_in_anothers_name_costs_the_connection_and_nobody_notices() {
    let release = |upto: Version, proof| {
        let claim = Claim {
            name: endpoint_name("service"),
            version: upto,
            stamp: Stamp::default(),
            state: ClaimState::Released,
        };
        OwnerDelta {
            after: Version(0),
            upto,
            claims: vec![claim],
            proof,
            ..unsigned("a", 0, 0)
        }
    };
    for (is_signed, code) in [(false, Code::ControlViolation), (true, Code::ForgedNames)] {
        let mut siege = Siege::greeted();
        siege.world.start("c", &["b"]);
        siege.world.join("c").unwrap();
        let service = endpoint_name("service");
        let held = siege
            .world
            .node("b")
            .control
            .directory()
            .head(&node_name("a"));
        // `a` serves the name; `b` is told.
        siege.world.greet("mallory", "b");
        siege.world.take_events("b");
        let proof = is_signed.then(|| {
            let credentials = siege.world.credentials(&["mallory"]);
            let mut mallory = Signer::by(signatory(credentials), node_name("a"), held.session);
            mallory.claim(service.clone());
            mallory.directory.release(&service);
            let certificate = {
                let known = siege.world.node("b").control.certificate(&node_name("a"));
                control::harness::certificate_id(&known.unwrap().chain)
            };
            let mut proof = mallory.proof();
            proof.certificate = certificate;
            Box::new(proof)
        });
        let delta = OwnerDelta {
            session: held.session,
            ..release(Version(held.version.0 + 1), proof)
        };
        siege.tell(&ControlMessage::Rumour(Rumour {
            deltas: vec![delta],
            ..Rumour::default()
        }));
        let node = siege.world.node("b");
        assert_eq!(node.counters().violations, 1);
        assert_eq!(node.control.directory().head(&node_name("a")), held);
        assert_eq!(
            node.control.directory().owner_of(&service),
            Some(&node_name("a"))
        );
        let named = |event: &Event| matches!(event, Event::Name(_));
        assert!(!siege.world.has_told("b", named), "not even for a moment");
        siege.assert_closed(code);
    }
}

/// It says nothing that is wrong, and never stops.
#[test]
fn a_peer_that_never_stops_talking_is_slowed_and_then_cut_off() {
    let mut world = World::new(1);
    for (name, neighbours) in [("a", &[][..]), ("b", &["a"])] {
        world.start_with(name, neighbours, |config| {
            config.limits.control_bytes_per_second_max = 64 * 1024;
        });
        world.join(name).unwrap();
    }
    let mut siege = Siege::around(world);
    siege.world.greet("mallory", "a");
    let mut message = BytesMut::new();
    ControlMessage::MemberAnswer(MemberAnswer {
        token: 1,
        unknown: vec![7; 1500],
    })
    .encode(&mut message);
    let message = frame(&message);
    let control = StreamId::new(quinn_proto::Side::Client, quinn_proto::Dir::Bi, 0);
    let (mut said, mut begun) = (0, 0);
    let mut after = Vec::new();
    for second in 0..90 {
        for _ in 0..100 {
            let stranger = siege.world.stranger("mallory");
            if stranger.closed().is_some() {
                break;
            }
            // What does not go in now goes in later.
            let pushed = stranger.push(control, &message[begun..]);
            begun = (begun + pushed) % message.len();
            said += pushed;
            siege.world.run_for(Duration::from_millis(10));
        }
        siege.world.exchange(siege.honest);
        after.push(said);
        if siege.world.stranger("mallory").closed().is_some() {
            assert!(second >= 59, "not before it had its minute: {second}");
            break;
        }
    }
    // After the first seconds, in which its window fills, it is as slow as it may be.
    let late = (after[50] - after[30]) / 20;
    assert!(late <= 2 * 64 * 1024, "{late} B/s");
    assert_eq!(siege.world.node("a").counters().violations, 1);
    siege.assert_closed(Code::TooMuchControl);
}

#[test]
fn hearsay_of_too_many_names_costs_nothing_and_nobody() {
    let mut siege = Siege::of_few_names();
    let most = NAMES_MAX as u64;
    let before = siege.world.node("a").control.directory().names_held();
    for round in 0..50 {
        let all = names(unsigned("carol", round * most, most), 1_000_000);
        siege.tell(&all);
        let held = siege.world.node("a").control.directory().names_held();
        assert!(held - before <= 2 * NAMES_MAX, "{held}");
    }
    assert_eq!(siege.world.stranger("mallory").closed(), None);
    assert_eq!(siege.world.node("a").counters().names_exceeded, 0);
    siege.world.serve("b", "another", "a");
    siege.assert_peace();
}

// A stranger that is dialled.

/// `b` joins through a stranger.
fn joining(guise: impl FnOnce(Guise) -> Guise) -> World {
    let mut world = World::new(1);
    let credentials = world.credentials(&["mallory"]);
    world.start_stranger("mallory", &guise(Guise::of(&credentials)));
    world.start("b", &["mallory"]);
    world.node("b").join();
    world
}

/// `b` joins through a stranger, and has opened the control stream.
fn dialled() -> (World, StreamId) {
    let mut world = joining(|guise| guise);
    let control = world.until("the control stream is open", |world| {
        let stranger = world.stranger("mallory");
        stranger.is_connected.then(|| stranger.accept()).flatten()
    });
    (world, control)
}

fn error_of_join(world: &mut World) -> ConnectError {
    match world.joined("b") {
        Err(JoinError::NoneReachable { mut unreachable }) => unreachable.remove(0).1,
        other => panic!("joined: {other:?}"),
    }
}

#[test]
fn a_server_that_allows_no_stream_is_given_up() {
    let mut world = joining(|guise| Guise {
        streams: 0,
        ..guise
    });
    let error = error_of_join(&mut world);
    assert!(matches!(error, ConnectError::Violation { .. }), "{error}");
}

#[test]
fn a_server_that_closes_at_once_is_given_up() {
    let mut world = joining(|guise| Guise {
        closes_at_once: true,
        ..guise
    });
    let error = error_of_join(&mut world);
    assert!(matches!(error, ConnectError::Refused { .. }), "{error}");
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    let (mut world, _) = dialled();
    assert_eq!(error_of_join(&mut world), ConnectError::NoAnswer);
}

#[test]
fn a_server_that_says_garbage_is_given_up() {
    let (mut world, control) = dialled();
    world.stranger("mallory").write(control, &frame(&GARBAGE));
    let error = error_of_join(&mut world);
    assert!(matches!(error, ConnectError::Violation { .. }), "{error}");
    world.run_for(Duration::from_millis(10));
    assert_eq!(
        world.stranger("mallory").closed(),
        Some(Code::ControlViolation)
    );
}

#[test]
fn what_a_server_says_behind_its_hello_waits_until_it_is_welcome() {
    let (mut world, control) = dialled();
    let mut hello = BytesMut::new();
    world
        .stranger("mallory")
        .hello("mallory")
        .encode(&mut hello);
    let members = ControlMessage::Members(Vec::new());
    let mut message = BytesMut::new();
    members.encode(&mut message);
    // In packets of their own, which arrive in one turn.
    for bytes in [hello, frame(&message), frame(&message)] {
        world.stranger("mallory").write(control, &bytes);
        world.flush_stranger("mallory");
    }
    world.until("it is up", |world| {
        world.node("b").connections.up(&node_name("mallory"))
    });
    world.run_for(Duration::from_millis(100));
    assert_eq!(world.stranger("mallory").closed(), None);
}

/// What a stranger does instead of answering a dial.
struct Answer {
    attack: fn(&mut Stranger, StreamId),
    /// What the dial ends with; `None` where the stranger might still answer, and never does.
    code: Option<Code>,
}

#[test]
fn an_answer_that_breaks_the_protocol_fails_the_dial_alone() {
    let fails = |attack, code| Answer {
        attack,
        code: Some(code),
    };
    let answers = [
        fails(
            |b, stream| b.write(stream, &frame(&GARBAGE)),
            Code::FirstFrameMalformed,
        ),
        fails(
            |b, stream| b.write(stream, &announced(EIGHT_GIB)),
            Code::FirstFrameTooLong,
        ),
        fails(|b, stream| b.finish(stream), Code::FirstFrameTruncated),
        fails(|b, stream| b.reset(stream, Code::User(9)), Code::User(9)),
        fails(
            |b, stream| {
                b.stop(stream, Code::User(8));
                b.reset(stream, Code::User(7));
            },
            Code::User(7),
        ),
        Answer {
            attack: |b, stream| b.stop(stream, Code::User(8)),
            code: None,
        },
    ];
    for Answer { attack, code } in answers {
        let mut world = World::of(1, &["a", "c"]);
        let endpoint = world.serve("c", "honest", "a");
        let honest = world.flow("a", "c", (endpoint, "honest"));
        world.start("b", &["a"]);
        world.join("b").unwrap();
        world.serve("b", "service", "a");
        world.crash("b");
        world.lose("a", "b");
        let credentials = world.credentials(&["b"]);
        world.start_stranger("b", &Guise::of(&credentials));

        let dial = world.dial("a", "service");
        let control = world.until("it is dialled", |world| {
            let stranger = world.stranger("b");
            stranger.is_connected.then(|| stranger.accept()).flatten()
        });
        let session = world.session_of("a", "b");
        let mut hello = world.stranger("b").hello("b");
        hello.session = session;
        let mut greeting = BytesMut::new();
        hello.encode(&mut greeting);
        world.stranger("b").write(control, &greeting);
        let stream = world.until("the dial comes", |world| world.stranger("b").accept());
        attack(world.stranger("b"), stream);
        let error = world.dialled("a", dial).unwrap_err();
        if let Some(code) = code {
            let node = node_name("b");
            assert_eq!(error.cause, DialCause::Ended { node, code });
        }
        world.exchange(honest);
    }
}
