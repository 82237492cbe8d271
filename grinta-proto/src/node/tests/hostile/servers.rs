//! A peer that breaks the rules when it is dialled.

use std::time::Duration;

use bytes::BytesMut;
use quinn_proto::StreamId;

use super::{EIGHT_GIB, GARBAGE, announced, frame};
use crate::node::testing::{Guise, Stranger, World, node_name};
use crate::node::{ConnectError, DialCause, JoinError};
use crate::wire::code::Code;
use crate::wire::control::ControlMessage;

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
