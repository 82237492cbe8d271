//! What becomes of flows and dials when the network, a node or a program goes away under them.

use std::time::Duration;

use bytes::Bytes;

use crate::name::Session;
use crate::node::control::Resolution;
use crate::node::control::harness::Signer;
use crate::node::testing::{World, accepted, endpoint_name, node_name, request, signatory};
use crate::node::{
    DialCause, DialError, DialId, DialRequest, Dialled, EndpointId, Event, FlowLoss, FlowReadError,
    FlowWriteError, UnknownName,
};
use crate::wire::code::Code;
use crate::wire::control::ControlMessage;
use crate::wire::stream::RefusalReason;

#[test]
fn a_cut_shorter_than_the_idle_time_out_loses_nothing() {
    let (mut world, ends) = World::with_flow(1);
    world.write(ends.dialler, b"before").unwrap();
    assert_eq!(world.read(ends.acceptor, 6), b"before");
    world.cut("a", "b");
    world.write(ends.dialler, b"during").unwrap();
    world.write(ends.acceptor, b"during").unwrap();
    world.run_for(Duration::from_millis(500));
    world.heal();
    assert_eq!(world.read(ends.acceptor, 6), b"during");
    assert_eq!(world.read(ends.dialler, 6), b"during");
    world.exchange(ends);
}

#[test]
fn a_cut_longer_than_the_idle_time_out_breaks_flows_at_both_ends() {
    let (mut world, ends) = World::with_flow(1);
    world.write(ends.dialler, b"read before").unwrap();
    assert_eq!(world.read(ends.acceptor, 11), b"read before");
    let begun = world.now;
    world.cut("a", "b");
    // Both nodes accept it, and neither can know yet that it will not arrive.
    for (name, flow) in [ends.dialler, ends.acceptor] {
        world.write((name, flow), b"lost").unwrap();
        world.node(name).finish(flow);
    }
    for end in [ends.dialler, ends.acceptor] {
        let loss = world.end(end).unwrap_err();
        assert!(
            matches!(
                loss,
                FlowReadError::Lost(FlowLoss::TimedOut | FlowLoss::Down)
            ),
            "{loss}"
        );
        let loss = world.sent(end).unwrap_err();
        assert!(matches!(loss, FlowWriteError::Lost(_)), "{loss}");
    }
    assert!(world.now <= begun + DETECTION_MAX);

    let dial = world.dial("a", "service");
    let error = world.dialled("a", dial).unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert!(
        matches!(
            error.cause,
            DialCause::Unreachable { .. } | DialCause::Connect { .. } | DialCause::TimedOut { .. }
        ),
        "{error}"
    );
}

#[test]
fn after_a_long_cut_the_name_is_dialled_anew() {
    let mut world = World::of(1, &["a", "b"]);
    let endpoint = world.serve("b", "service", "a");
    let ends = world.flow("a", "b", (endpoint, "service"));
    world.cut("a", "b");
    world.run_for(Duration::from_secs(10));
    world.heal();
    world.release(ends.dialler);
    world.release(ends.acceptor);
    let dial = patient_dial(&mut world, "a");
    world.accept("b", endpoint);
    assert!(world.dialled("a", dial).is_ok());
    for name in ["a", "b"] {
        let open = world.node(name).connections.open_flows();
        assert_eq!(open, 1, "at {name}");
    }
}

#[test]
fn a_member_that_is_held_down_breaks_its_flows_before_its_connection_idles_out() {
    let mut world = World::new(1);
    for (name, neighbours) in [("b", &[][..]), ("a", &["b"]), ("c", &["b"])] {
        world.start_with(name, neighbours, |config| {
            config.connection.idle_timeout = Duration::from_secs(600);
        });
        world.join(name).unwrap();
    }
    let endpoint = world.serve("b", "service", "a");
    let ends = world.flow("a", "b", (endpoint, "service"));
    world.write(ends.acceptor, b"last words").unwrap();
    assert_eq!(world.read(ends.dialler, 10), b"last words");
    let begun = world.now;
    world.crash("b");
    assert_eq!(
        world.end(ends.dialler),
        Err(FlowReadError::Lost(FlowLoss::Down))
    );
    assert_eq!(
        world.write(ends.dialler, b"more"),
        Err(FlowWriteError::Lost(FlowLoss::Down))
    );
    assert!(world.now <= begun + DETECTION_MAX);
    let dial = world.dial("a", "service");
    let error = world.dialled("a", dial).unwrap_err();
    let DialCause::Unreachable { node, .. } = &error.cause else {
        panic!("reached: {error}");
    };
    assert_eq!(*node, node_name("b"));
}

#[test]
fn an_endpoint_released_under_load_keeps_what_it_accepted_and_refuses_the_rest() {
    let mut world = World::of(1, &["a", "b"]);
    let endpoint = world.serve("b", "service", "a");
    let open: Vec<_> = (0..3)
        .map(|_| world.flow("a", "b", (endpoint, "service")))
        .collect();
    for ends in &open {
        world.write(ends.dialler, &[7; 50_000]).unwrap();
    }
    let waiting: Vec<_> = (0..3).map(|_| world.dial("a", "service")).collect();
    for _ in &waiting {
        world.wait("b", "a flow waits", |event| {
            (*event == Event::Incoming { endpoint }).then_some(())
        });
    }
    // One more is on its way when the endpoint goes.
    let under_way = world.dial("a", "service");
    world.node("b").close_endpoint(endpoint);
    for dial in waiting.into_iter().chain([under_way]) {
        let error = world.dialled("a", dial).unwrap_err();
        assert!(error.is_retryable());
        assert!(is_not_found(&error), "{error:?}");
    }
    for ends in open {
        assert_eq!(world.read(ends.acceptor, 50_000), [7; 50_000]);
        world.exchange(ends);
        world.node("a").finish(ends.dialler.1);
        assert_eq!(world.sent(ends.dialler), Ok(()));
        assert_eq!(world.end(ends.acceptor), Ok(()));
    }
}

#[test]
fn a_reader_that_goes_under_load_tells_its_writer_and_no_other_flow() {
    let (mut world, ends) = World::with_flow(1);
    let endpoint = world.serve("b", "other", "a");
    let other = world.flow("a", "b", (endpoint, "other"));
    while world.write(ends.dialler, &[7; 10_000]).is_ok() {}
    world.run_for(Duration::from_millis(1));
    let (name, flow) = ends.acceptor;
    world.node(name).release_receiver(flow, Code::NoReader);
    let stopped = FlowWriteError::Stopped(Code::NoReader);
    assert_eq!(world.sent(ends.dialler), Err(stopped.clone()));
    assert_eq!(world.write(ends.dialler, b"more"), Err(stopped));
    world.exchange(other);
    // The other direction of the flow is nobody's fault.
    world.write(ends.acceptor, b"still here").unwrap();
    assert_eq!(world.read(ends.dialler, 10), b"still here");
}

#[test]
fn twenty_first_uses_from_both_sides_make_one_connection() {
    let mut world = World::of(1, &["a", "b"]);
    let sides = [("a", "at-a"), ("b", "at-b")];
    let endpoints = sides.map(|(name, endpoint)| world.claim(name, endpoint, 10).unwrap());
    world.run_for(Duration::from_secs(1));
    world.lose("a", "b");
    for _ in 0..10 {
        world.dial("a", "at-b");
        world.dial("b", "at-a");
    }
    let mut accepted_dials = 0;
    world.until("all have a flow", |world| {
        for ((name, _), endpoint) in sides.into_iter().zip(endpoints) {
            while let Some(incoming) = world.node(name).take_incoming(endpoint) {
                assert!(world.node(name).answer(incoming.id, accepted()));
            }
            let events = world.take_events(name).into_iter();
            accepted_dials += events
                .filter_map(|event| match event {
                    Event::Dialled { result, .. } => Some(result.unwrap()),
                    _ => None,
                })
                .count();
        }
        (accepted_dials == 20).then_some(())
    });
    // The one that was lost, and one that both sides may have opened at once, have drained by then.
    world.run_for(Duration::from_secs(4));
    for name in ["a", "b"] {
        assert_eq!(world.connections(name), 1, "at {name}");
        assert_eq!(world.node(name).connections.open_flows(), 20, "at {name}");
    }
}

#[test]
fn a_server_that_restarts_at_another_address_is_reached_by_the_next_dial() {
    for seed in 0..10 {
        let mut world = World::of(seed, &["c", "a", "b"]);
        let endpoint = world.serve("b", "service", "a");
        let ends = world.flow("a", "b", (endpoint, "service"));
        world.exchange(ends);
        let endpoint = restart_elsewhere(&mut world);
        // What the dialler knows is the old address, or already the new one, but no new claim.
        let dial = world.node("a").dial(DialRequest {
            timeout: Duration::from_secs(10),
            ..request("service")
        });
        world.accept("b", endpoint);
        let dialled = world.dialled("a", dial);
        let Ok(Dialled::Remote { node, .. }) = dialled else {
            panic!("seed {seed}: {dialled:?}");
        };
        assert_eq!(node, node_name("b"));
        let loss = world.end(ends.dialler).unwrap_err();
        assert!(
            matches!(
                loss,
                FlowReadError::Lost(FlowLoss::Restarted | FlowLoss::Down | FlowLoss::TimedOut)
            ),
            "seed {seed}: {loss}"
        );
    }
}

/// The server crashes, and its next run begins at another address, beside a third node.
fn restart_elsewhere(world: &mut World) -> EndpointId {
    world.crash("b");
    world.relocate("b");
    world.start("b", &["c"]);
    world.join("b").unwrap();
    world.claim("b", "service", 4).unwrap()
}

/// Among many it may be long until the server itself gets in touch with a node that has a connection
/// to its earlier run: it is gossip that tells of it.
#[test]
fn a_server_that_restarts_among_many_is_reached_over_no_connection_to_its_earlier_run() {
    for seed in 0..5 {
        let names = [
            "c", "a", "b", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p",
        ];
        let mut world = World::of(seed, &names);
        let endpoint = world.serve("b", "service", "a");
        let ends = world.flow("a", "b", (endpoint, "service"));
        world.exchange(ends);
        let endpoint = restart_elsewhere(&mut world);
        let begun = world.now;
        let dial = world.dial("a", "service");
        world.accept("b", endpoint);
        let dialled = world.dialled("a", dial);
        assert!(dialled.is_ok(), "seed {seed}: {dialled:?}");
        let took = world.now - begun;
        assert!(took < PROBE_INTERVAL, "seed {seed}: {took:?}");
    }
}

/// The answer may be all that was lost: a task may have what went with the dial, and a second one must
/// not get it too.
#[test]
fn a_dial_is_asked_again_over_the_next_connection_unless_it_carried_a_message() {
    for early in [None, Some(Bytes::from_static(b"pay"))] {
        let mut world = World::of(1, &["a", "b"]);
        let endpoint = world.serve("b", "service", "a");
        let dial = world.node("a").dial(DialRequest {
            early: early.clone(),
            ..request("service")
        });
        world.incoming("b", endpoint);
        world.lose("a", "b");
        if early.is_some() {
            let error = world.dialled("a", dial).unwrap_err();
            assert!(matches!(error.cause, DialCause::Broken { .. }), "{error}");
            assert!(error.is_retryable());
        } else {
            world.accept("b", endpoint);
            assert!(world.dialled("a", dial).is_ok());
        }
    }
}

fn patient_dial(world: &mut World, name: &'static str) -> DialId {
    world.node(name).dial(DialRequest {
        timeout: Duration::from_secs(10),
        unknown_name: UnknownName::Wait,
        ..request("service")
    })
}

fn is_not_found(error: &DialError) -> bool {
    matches!(
        error.cause,
        DialCause::NotFound { .. }
            | DialCause::Refused {
                reason: RefusalReason::NotFound,
                ..
            }
    )
}

/// By the preset for tests.
const PROBE_INTERVAL: Duration = Duration::from_millis(200);
/// A probe round, its suspicion, and the idle time-out, by the preset for tests.
const DETECTION_MAX: Duration = Duration::from_secs(4);

/// What a node says of its names, and that it is up again, are two messages: either may come first.
#[test]
fn a_holder_whose_names_are_void_is_asked_before_it_is_heard_to_be_up_again() {
    let mut world = World::of(1, &["a", "b", "c"]);
    let endpoint = world.serve("b", "service", "a");
    let ends = world.flow("a", "b", (endpoint, "service"));
    world.exchange(ends);
    let session = Session(world.session_of("a", "b").0 + 1);
    let credentials = world.credentials(&["b"]);
    let mut later = Signer::by(signatory(credentials), node_name("b"), session);
    later.directory.advance();
    let nothing = later.all();
    let names = ControlMessage::Names(later.names(nothing));
    let now = world.now;
    let control = &mut world.node("a").control;
    control.handle_message(now, &node_name("c"), names).unwrap();
    let known = world.node("a").resolve(&endpoint_name("service"));
    assert_eq!(known, Resolution::NotFound);
    assert!(world.session_of("a", "b") < session);
    world.flow("a", "b", (endpoint, "service"));
}
