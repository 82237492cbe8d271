//! Peers that break every rule they can: the guilty stream or connection ends with a code that
//! names the fault, the flow of an honest peer goes on, and nothing panics. Here those that dial: what
//! they tell is in `names`, and those that are dialled in `servers`.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use quinn_proto::StreamId;

use crate::node::EndpointId;
use crate::node::testing::{Ends, Guise, Stranger, World, node_name, open};
use crate::wire::code::Code;
use crate::wire::control::ControlMessage;
use crate::wire::frame::encode_length;
use crate::wire::stream::Direction;

mod names;
mod servers;

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
        assert!(self.world.node("a").counters().streams_refused > 0);
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
