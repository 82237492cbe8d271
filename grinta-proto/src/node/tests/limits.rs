//! Limits that a node's own program, or too many others at once, come up against: whoever is one too
//! many is told, or waits, and those who were there before do not notice.

use std::time::Duration;

use crate::node::control::Resolution;
use crate::node::testing::{Guise, World, endpoint_name, node_name};
use crate::node::{ConnectError, DialCause, EndpointRefusal, JoinError};

#[test]
fn one_endpoint_too_many_is_refused_and_the_others_serve() {
    let mut world = World::new(1);
    world.start_with("a", &[], |config| config.limits.endpoints_max = 2);
    world.join("a").unwrap();
    let first = world.claim("a", "first", 4).unwrap();
    world.claim("a", "second", 4).unwrap();
    let refused = world
        .node("a")
        .open_endpoint(&endpoint_name("third"), 4, Default::default());
    assert_eq!(refused, Err(EndpointRefusal::TooMany { limit: 2 }));
    world.node("a").close_endpoint(first);
    world.claim("a", "third", 4).unwrap();
    assert_eq!(
        world.node("a").resolve(&endpoint_name("second")),
        Resolution::Local
    );
}

#[test]
fn one_dial_too_many_fails_and_those_under_way_go_on() {
    let mut world = World::new(1);
    world.start_with("a", &[], |config| config.limits.dials_max = 2);
    world.join("a").unwrap();
    let endpoint = world.claim("a", "service", 4).unwrap();
    let waiting = [world.dial("a", "service"), world.dial("a", "service")];
    let refused = world.dial("a", "service");
    let error = world.dialled("a", refused).unwrap_err();
    assert_eq!(error.cause, DialCause::TooMany { limit: 2 });
    for dial in waiting {
        let incoming = world.incoming("a", endpoint);
        world
            .node("a")
            .answer(incoming.id, crate::node::testing::accepted());
        world.dialled("a", dial).unwrap();
    }
}

#[test]
fn a_node_with_all_the_connections_that_it_may_have_answers_no_newcomer_and_dials_nobody() {
    let mut world = World::new(1);
    world.start_with("a", &[], |config| config.limits.connections_max = 2);
    world.join("a").unwrap();
    for name in ["b", "c"] {
        world.start(name, &["a"]);
        world.join(name).unwrap();
    }
    let endpoint = world.serve("a", "service", "b");
    let honest = world.flow("b", "a", (endpoint, "service"));
    world.start("d", &["a"]);
    let Err(JoinError::NoneReachable { unreachable }) = world.join("d") else {
        panic!("there is no room for it");
    };
    assert_eq!(unreachable[0].1, ConnectError::NoAnswer);
    world.exchange(honest);
    assert_eq!(world.node("a").snapshot().usage.connections.used, 2);
    // With the first that goes there is room again.
    world.node("c").shutdown(Duration::ZERO);
    world.run_for(Duration::from_secs(5));
    world.join("d").unwrap();
    world.exchange(honest);
}

/// Beyond a number of handshakes newcomers have to show that they are where they say, beyond twice as
/// many they are not answered. Neither keeps a node out that can wait.
#[test]
fn handshakes_that_hang_keep_out_nobody_for_long() {
    let mut world = World::new(1);
    world.start_with("a", &[], |config| config.limits.handshakes_max = 2);
    world.join("a").unwrap();
    world.start("b", &["a"]);
    world.join("b").unwrap();
    let endpoint = world.serve("a", "service", "b");
    let honest = world.flow("b", "a", (endpoint, "service"));
    let credentials = world.credentials(&["x"]);
    // They get through TLS and say nothing.
    for name in ["x1", "x2", "x3", "x4"] {
        world.start_stranger(name, &Guise::of(&credentials));
        world.call(name, "a");
        assert!(world.stranger(name).is_connected);
    }
    assert_eq!(world.node("a").snapshot().usage.handshakes.used, 4);
    let (now, to) = (world.now, world.address("a"));
    world.start_stranger("x5", &Guise::of(&credentials));
    world.stranger("x5").call(now, to);
    world.run_for(Duration::from_millis(500));
    assert!(!world.stranger("x5").is_connected, "it is not answered");
    world.exchange(honest);
    world.start("c", &["a"]);
    while world.join("c").is_err() {}
    world.exchange(honest);
}

#[test]
fn flows_that_nobody_reads_hold_no_more_than_their_connection_may() {
    let window = 100_000;
    let mut world = World::new(1);
    world.start_with("a", &[], |config| {
        config.limits.flow_receive_window = window;
        config.limits.connection_receive_window = window;
    });
    world.join("a").unwrap();
    for name in ["b", "c"] {
        world.start(name, &["a"]);
        world.join(name).unwrap();
    }
    let endpoint = world.serve("a", "service", "b");
    let flows = [(); 3].map(|()| world.flow("b", "a", (endpoint, "service")));
    let honest = world.flow("c", "a", (endpoint, "service"));
    let written = flows.map(|flow| world.fill(flow.dialler, PIECE));
    let held = window as usize + 3 * (world.node("b").limits().flow_send_buffer + PIECE);
    let all: usize = written.iter().sum();
    assert!(all <= held, "{all} > {held}");
    world.exchange(honest);
    for (flow, written) in flows.iter().zip(written) {
        assert_eq!(world.read(flow.acceptor, written).len(), written);
        world.exchange(*flow);
    }
}

#[test]
fn what_a_peer_does_not_acknowledge_is_no_more_than_a_connection_may_send() {
    let window = 100_000;
    let mut world = World::new(1);
    world.start("a", &[]);
    world.join("a").unwrap();
    world.start_with("b", &["a"], |config| {
        config.limits.connection_send_window = window;
    });
    world.join("b").unwrap();
    let endpoint = world.serve("a", "service", "b");
    let flows = [(); 3].map(|()| world.flow("b", "a", (endpoint, "service")));
    world.cut("a", "b");
    let written = flows.map(|flow| world.fill(flow.dialler, PIECE));
    let held = window as usize + 3 * (world.node("b").limits().flow_send_buffer + PIECE);
    let all: usize = written.iter().sum();
    assert!(all <= held, "{all} > {held}");
    world.heal();
    for (flow, written) in flows.iter().zip(written) {
        assert_eq!(world.read(flow.acceptor, written).len(), written);
        world.exchange(*flow);
    }
}

#[test]
fn a_congestion_window_grows_as_far_as_it_may_and_no_further() {
    let window_of = |window_max: Option<u64>| {
        let mut world = World::new(1);
        world.start("a", &[]);
        world.join("a").unwrap();
        world.start_with("b", &["a"], |config| {
            if let Some(window_max) = window_max {
                config.limits.congestion_window_max = window_max;
            }
        });
        world.join("b").unwrap();
        let endpoint = world.serve("a", "service", "b");
        let flow = world.flow("b", "a", (endpoint, "service"));
        for _ in 0..20 {
            let written = world.fill(flow.dialler, PIECE);
            assert_eq!(world.read(flow.acceptor, written).len(), written);
        }
        let connections = world.node("b").snapshot().connections;
        let mut to_a = connections.iter();
        let to_a = to_a.find(|connection| connection.peer == Some(node_name("a")));
        to_a.unwrap().congestion_window
    };
    let window_max = 50_000;
    assert!(window_of(None) > 2 * window_max);
    assert_eq!(window_of(Some(window_max)), window_max);
}

/// Bytes that are written at once.
const PIECE: usize = 10_000;
