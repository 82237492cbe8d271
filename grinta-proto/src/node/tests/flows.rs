//! Names, dials and flows between honest nodes.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::node::control::{ClaimError, NameLimit};
use crate::node::testing::{Guise, World, accepted, endpoint_name, node_name, open, request};
use crate::node::{
    Choice, DialCause, DialError, DialRequest, DialStage, Dialled, EndpointRefusal, Event,
    FlowReadError, FlowWriteError, Origin, Payload, UnknownName, refusal,
};
use crate::wire::code::Code;
use crate::wire::stream::{Direction, RefusalReason};

#[test]
fn a_flow_carries_data_both_ways_and_ends_when_all_is_acknowledged() {
    let (mut world, ends) = World::with_flow(1);
    world.write(ends.dialler, b"question").unwrap();
    assert_eq!(world.read(ends.acceptor, 8), b"question");
    world.write(ends.acceptor, b"answer").unwrap();
    assert_eq!(world.read(ends.dialler, 6), b"answer");

    for (one, other) in [(ends.dialler, ends.acceptor), (ends.acceptor, ends.dialler)] {
        world.node(one.0).finish(one.1);
        assert_eq!(world.write(one, b"late"), Err(FlowWriteError::Finished));
        assert_eq!(world.sent(one), Ok(()));
        assert_eq!(world.end(other), Ok(()));
    }
    world.release(ends.dialler);
    world.release(ends.acceptor);
    world.run_for(Duration::from_millis(100));
    for (name, flow) in [ends.dialler, ends.acceptor] {
        let node = world.node(name);
        assert_eq!(node.connections.open_flows(), 0, "at {name}");
        assert_eq!(node.read(flow), Err(FlowReadError::Stopped));
    }
}

#[test]
fn bytes_arrive_whole_and_in_order_over_a_lossy_network() {
    for seed in 0..4 {
        let (mut world, ends) = World::with_flow(seed);
        world.loss = 5;
        let sent: Vec<_> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
        let mut unsent = &sent[..];
        let mut read = Vec::new();
        while read.len() < sent.len() {
            let (piece, rest) = unsent.split_at(unsent.len().min(10_000));
            if !piece.is_empty() && world.write(ends.dialler, piece).is_ok() {
                unsent = rest;
            }
            read.extend(world.read(ends.acceptor, 1));
        }
        assert!(read == sent, "seed {seed}");
    }
}

#[test]
fn one_way_flows_end_their_other_direction_by_themselves() {
    for direction in [Direction::Send, Direction::Receive] {
        let mut world = World::of(1, &["a", "b"]);
        let endpoint = world.serve("b", "service", "a");
        let dial = world.node("a").dial(DialRequest {
            open: open("service", direction),
            ..request("service")
        });
        let acceptor = ("b", world.accept("b", endpoint));
        let Dialled::Remote { flow, .. } = world.dialled("a", dial).unwrap() else {
            panic!("not remote");
        };
        let dialler = ("a", flow);
        let (sender, receiver) = match direction {
            Direction::Send => (dialler, acceptor),
            Direction::Receive | Direction::Both => (acceptor, dialler),
        };
        assert!(world.write(receiver, b"wrong way").is_err());
        world.write(sender, b"message").unwrap();
        assert_eq!(world.read(receiver, 7), b"message");
        world.node(sender.0).release_sender(sender.1);
        assert_eq!(world.end(receiver), Ok(()));
        world
            .node(receiver.0)
            .release_receiver(receiver.1, Code::NoReader);
        world.run_for(Duration::from_millis(100));
        for name in ["a", "b"] {
            let open = world.node(name).connections.open_flows();
            assert_eq!(open, 0, "{direction} at {name}");
        }
    }
}

#[test]
fn a_dial_whose_first_frame_comes_in_pieces_is_one_dial() {
    for direction in [Direction::Both, Direction::Send, Direction::Receive] {
        let mut world = World::of(1, &["a"]);
        let stranger = world.credentials(&["s"]);
        world.start_stranger("s", &Guise::of(&stranger));
        world.greet("s", "a");
        let endpoint = world.claim("a", "service", 4).unwrap();
        let mut frame = BytesMut::new();
        open("service", direction).encode(&mut frame);
        let stream = world.stranger("s").open().unwrap();
        // Each piece in a packet of its own, all of them in one turn of the node.
        for piece in frame.chunks(frame.len() / 3) {
            world.stranger("s").write(stream, piece);
            world.flush_stranger("s");
        }
        world.stranger("s").write(stream, b"early data");
        world.flush_stranger("s");
        world.stranger("s").finish(stream);
        let incoming = world.incoming("a", endpoint);
        let Origin::Remote { flow, .. } = incoming.origin else {
            panic!("not remote");
        };
        assert!(world.node("a").answer(incoming.id, accepted()));
        if direction.sends() {
            assert_eq!(world.read(("a", flow), 10), b"early data");
            assert_eq!(world.end(("a", flow)), Ok(()));
        }
        assert_eq!(world.node("a").take_incoming(endpoint), None, "one flow");
    }
}

#[test]
fn what_goes_with_a_dial_is_answered_within_one_round_trip() {
    let mut world = World::of(1, &["a", "b"]);
    let endpoint = world.serve("b", "service", "a");
    let begun = world.now;
    let dial = world.node("a").dial(DialRequest {
        early: Some(Bytes::from_static(b"question")),
        ..request("service")
    });
    let acceptor = ("b", world.accept("b", endpoint));
    assert_eq!(world.read(acceptor, 8), b"question");
    assert_eq!(world.end(acceptor), Ok(()));
    world.write(acceptor, b"answer").unwrap();
    world.node("b").finish(acceptor.1);
    let Dialled::Remote { flow, .. } = world.dialled("a", dial).unwrap() else {
        panic!("not remote");
    };
    let dialler = ("a", flow);
    assert_eq!(world.read(dialler, 6), b"answer");
    assert_eq!(world.end(dialler), Ok(()));
    assert_eq!(world.now - begun, 2 * world.latency);

    assert_eq!(world.write(dialler, b"late"), Err(FlowWriteError::Finished));
    world.release(dialler);
    world.release(acceptor);
    world.run_for(Duration::from_millis(100));
    for name in ["a", "b"] {
        assert_eq!(world.node(name).connections.open_flows(), 0, "at {name}");
    }
}

#[test]
fn a_dial_of_an_unknown_name_fails_at_once() {
    let mut world = World::of(1, &["a", "b"]);
    world.serve("b", "service", "a");
    let begun = world.now;
    let dial = world.dial("a", "servise");
    let error = world.dialled("a", dial).unwrap_err();
    assert_eq!(error.stage, DialStage::Resolve);
    let near = vec![endpoint_name("service")];
    assert_eq!(error.cause, DialCause::NotFound { near });
    assert_eq!(world.now, begun);
}

#[test]
fn a_dial_may_wait_for_its_name() {
    let mut world = World::of(1, &["a", "b"]);
    let dial = world.node("a").dial(DialRequest {
        unknown_name: UnknownName::Wait,
        choice: Choice::Owner,
        ..request("service")
    });
    world.run_for(Duration::from_secs(1));
    let endpoint = world.claim("b", "service", 4).unwrap();
    world.accept("b", endpoint);
    assert!(world.dialled("a", dial).is_ok());

    let dial = world.node("a").dial(DialRequest {
        unknown_name: UnknownName::Wait,
        choice: Choice::Owner,
        ..request("never")
    });
    let error = world.dialled("a", dial).unwrap_err();
    let limit = Duration::from_secs(2);
    assert_eq!(error.cause, DialCause::NotFound { near: vec![] });
    assert_eq!(error.elapsed, limit);
    assert!(world.node("a").resolving.is_empty());
}

#[test]
fn an_endpoint_that_never_accepts_times_its_diallers_out_and_nobody_else() {
    let (mut world, ends) = World::with_flow(1);
    let endpoint = world.serve("b", "deaf", "a");
    let dial = world.dial("a", "deaf");
    world.run_for(Duration::from_secs(1));
    world.exchange(ends);
    let error = world.dialled("a", dial).unwrap_err();
    assert_eq!(error.stage, DialStage::Accept);
    let limit = Duration::from_secs(2);
    assert_eq!(error.cause, DialCause::TimedOut { limit });
    world.run_for(Duration::from_millis(10));
    assert_eq!(world.node("b").take_incoming(endpoint), None, "withdrawn");
    world.exchange(ends);
}

#[test]
fn whoever_gives_a_dial_up_is_taken_from_the_queue() {
    for direction in [Direction::Both, Direction::Send, Direction::Receive] {
        let mut world = World::of(1, &["a", "b"]);
        let endpoint = world.serve("b", "service", "a");
        let dialled = |world: &mut World| {
            world.node("a").dial(DialRequest {
                open: open("service", direction),
                ..request("service")
            })
        };
        let dial = dialled(&mut world);
        world.wait("b", "a flow waits", |event| {
            (*event == Event::Incoming { endpoint }).then_some(())
        });
        world.node("a").cancel_dial(dial);
        world.run_for(Duration::from_millis(10));
        assert_eq!(world.node("b").take_incoming(endpoint), None, "{direction}");

        // One that was taken already is answered in vain.
        let dial = dialled(&mut world);
        let incoming = world.incoming("b", endpoint);
        world.node("a").cancel_dial(dial);
        world.run_for(Duration::from_millis(10));
        assert!(!world.node("b").answer(incoming.id, accepted()));
        world.run_for(Duration::from_millis(10));
        assert_eq!(world.node("b").connections.open_flows(), 0, "{direction}");
    }
}

#[test]
fn a_full_accept_queue_refuses_as_busy() {
    let mut world = World::of(1, &["a", "b"]);
    let endpoint = world.claim("b", "service", 2).unwrap();
    world.run_for(Duration::from_millis(200));
    let waiting = [world.dial("a", "service"), world.dial("a", "service")];
    let third = world.dial("a", "service");
    let error = world.dialled("a", third).unwrap_err();
    assert_refused(&error, RefusalReason::Busy, "2 flows wait there already");
    for dial in waiting {
        world.accept("b", endpoint);
        assert!(world.dialled("a", dial).is_ok());
    }
}

#[test]
fn a_refusal_comes_with_its_detail() {
    let mut world = World::of(1, &["a", "b"]);
    let endpoint = world.serve("b", "service", "a");
    let dial = world.dial("a", "service");
    let incoming = world.incoming("b", endpoint);
    let answer = refusal(RefusalReason::NotAllowed, "members only");
    assert!(world.node("b").answer(incoming.id, answer));
    let error = world.dialled("a", dial).unwrap_err();
    assert_refused(&error, RefusalReason::NotAllowed, "members only");
    world.run_for(Duration::from_millis(10));
    for name in ["a", "b"] {
        assert_eq!(world.node(name).connections.open_flows(), 0, "at {name}");
    }
}

#[test]
fn flows_that_wait_at_an_endpoint_are_refused_when_it_closes() {
    let mut world = World::of(1, &["a", "b"]);
    let endpoint = world.serve("b", "service", "a");
    let dial = world.dial("a", "service");
    world.wait("b", "a flow waits", |event| {
        (*event == Event::Incoming { endpoint }).then_some(())
    });
    world.node("b").close_endpoint(endpoint);
    let error = world.dialled("a", dial).unwrap_err();
    assert!(matches!(error.cause, DialCause::NotFound { .. }));
    assert!(matches!(
        &error.attempts[..],
        [attempt] if matches!(
            attempt.cause,
            DialCause::Refused { reason: RefusalReason::NotFound, .. }
        )
    ));
    world.claim("b", "service", 1).unwrap();
}

#[test]
fn a_name_that_another_holds_is_refused_with_its_owner() {
    let mut world = World::of(1, &["a", "b"]);
    world.serve("b", "service", "a");
    let taken = EndpointRefusal::Claim(ClaimError::Taken {
        name: endpoint_name("service"),
        owner: node_name("b"),
    });
    assert_eq!(world.claim("a", "service", 1), Err(taken));
    let held = EndpointRefusal::Claim(ClaimError::AlreadyHeld {
        name: endpoint_name("service"),
    });
    assert_eq!(world.claim("b", "service", 1), Err(held));
}

#[test]
fn a_name_past_the_limit_of_a_node_is_refused_until_another_is_released() {
    let mut world = World::new(1);
    world.start_with("a", &[], |config| config.limits.names_per_node_max = 1);
    world.join("a").unwrap();
    let held = world.claim("a", "service", 1).unwrap();
    let refused = EndpointRefusal::Claim(ClaimError::TooMany {
        limit: NameLimit::NamesPerNode,
        most: 1,
    });
    assert_eq!(world.claim("a", "another", 1), Err(refused));
    world.node("a").close_endpoint(held);
    world.claim("a", "another", 1).unwrap();
}

#[test]
fn a_name_is_free_for_others_when_it_is_released() {
    let mut world = World::of(1, &["a", "b"]);
    let endpoint = world.serve("b", "service", "a");
    world.node("b").close_endpoint(endpoint);
    world.run_for(Duration::from_millis(500));
    world.serve("a", "service", "b");
}

#[test]
fn a_local_endpoint_keeps_the_same_rules() {
    let mut world = World::of(1, &["a"]);
    let endpoint = world.claim("a", "service", 1).unwrap();
    let first = world.dial("a", "service");
    let second = world.dial("a", "service");
    let error = world.dialled("a", second).unwrap_err();
    assert_refused(&error, RefusalReason::Busy, "1 flows wait there already");
    let incoming = world.incoming("a", endpoint);
    assert!(world.node("a").answer(incoming.id, accepted()));
    let local = Dialled::Local {
        message_len_max: 1 << 20,
    };
    assert_eq!(world.dialled("a", first), Ok(local));

    let given_up = world.dial("a", "service");
    let incoming = world.incoming("a", endpoint);
    world.node("a").cancel_dial(given_up);
    assert!(!world.node("a").answer(incoming.id, accepted()));
}

#[test]
fn a_reader_that_stops_blocks_its_writer_and_no_other_flow() {
    let (mut world, ends) = World::with_flow(1);
    let endpoint = world.serve("b", "busy", "a");
    let other = world.flow("a", "b", (endpoint, "busy"));
    let written = world.fill(ends.dialler, 10_000);
    let limits = world.node("a").limits().clone();
    let bound = limits.flow_receive_window as usize + limits.flow_send_buffer + 10_000;
    assert!(written <= bound, "{written} > {bound}");
    world.exchange(other);

    assert_eq!(world.read(ends.acceptor, written).len(), written);
    world.wait(ends.dialler.0, "the writer goes on", |event| {
        (*event == Event::FlowWritable(ends.dialler.1)).then_some(())
    });
    world.write(ends.dialler, b"more").unwrap();
    assert_eq!(world.read(ends.acceptor, 4), b"more");
}

#[test]
fn a_full_flow_has_no_room_and_still_takes_what_cannot_wait() {
    let (mut world, ends) = World::with_flow(1);
    let (name, flow) = ends.dialler;
    let limit = world.node(name).limits().flow_send_buffer;
    assert_eq!(world.node(name).room(flow), Ok(limit));
    world.write(ends.dialler, &[7; 100]).unwrap();
    assert_eq!(world.node(name).room(flow), Ok(limit - 100));
    // The last may be longer than what was left.
    world.write(ends.dialler, &vec![7; limit]).unwrap();
    let blocked = FlowWriteError::Blocked;
    assert_eq!(world.node(name).room(flow), Err(blocked.clone()));
    assert_eq!(world.write(ends.dialler, b"short"), Err(blocked));
    let payload = Payload {
        copied: b"short",
        body: Bytes::new(),
    };
    let taken = world.node(name).write_regardless(flow, payload.clone());
    assert_eq!(taken, Ok(()));

    let length = 100 + limit + 5;
    assert!(world.read(ends.acceptor, length).ends_with(b"short"));
    assert_eq!(world.node(name).room(flow), Ok(limit));
    world.node(name).finish(flow);
    let finished = FlowWriteError::Finished;
    assert_eq!(world.node(name).room(flow), Err(finished.clone()));
    let refused = world.node(name).write_regardless(flow, payload);
    assert_eq!(refused, Err(finished));
}

#[test]
fn dials_beyond_the_stream_limit_wait_for_a_stream_or_for_their_time() {
    let mut world = World::new(1);
    world.start_with("b", &[], |config| config.limits.flows_per_peer_max = 2);
    world.start("a", &["b"]);
    world.join("b").unwrap();
    world.join("a").unwrap();
    let endpoint = world.serve("b", "service", "a");
    let first = world.flow("a", "b", (endpoint, "service"));
    let second = world.flow("a", "b", (endpoint, "service"));

    let late = world.dial("a", "service");
    let error = world.dialled("a", late).unwrap_err();
    assert_eq!(error.stage, DialStage::Open);
    assert!(world.node("a").opening.is_empty(), "nobody waits any more");

    let patient = world.dial("a", "service");
    world.run_for(Duration::from_millis(100));
    world.release(first.dialler);
    world.release(first.acceptor);
    world.accept("b", endpoint);
    assert!(world.dialled("a", patient).is_ok());
    world.exchange(second);
}

#[test]
fn a_reset_and_a_stop_reach_the_other_end_with_their_codes() {
    let (mut world, ends) = World::with_flow(1);
    let (name, flow) = ends.dialler;
    world.node(name).stop(flow, Code::User(7));
    world.node(name).reset(flow, Code::User(8));
    assert_eq!(
        world.sent(ends.acceptor),
        Err(FlowWriteError::Stopped(Code::User(7)))
    );
    assert_eq!(
        world.end(ends.acceptor),
        Err(FlowReadError::Reset(Code::User(8)))
    );
    world.release(ends.dialler);
    world.release(ends.acceptor);
    world.run_for(Duration::from_millis(100));
    for name in ["a", "b"] {
        assert_eq!(world.node(name).connections.open_flows(), 0, "at {name}");
    }
}

fn assert_refused(error: &DialError, expected: RefusalReason, words: &str) {
    match &error.cause {
        DialCause::Refused { reason, detail, .. } => {
            assert_eq!((*reason, detail.as_str()), (expected, words));
        }
        other => panic!("{other}"),
    }
    assert_eq!(error.stage, DialStage::Accept);
}
