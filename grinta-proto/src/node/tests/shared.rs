//! Stories of dials of names that several nodes share.

use std::time::Duration;

use crate::node::control::Holder;
use crate::node::testing::{World, accepted, endpoint_name, node_name, request};
use crate::node::{Choice, Claiming, DialCause, DialId, DialRequest, Dialled, EndpointId, Event};
use crate::wire::stream::RefusalReason;

#[test]
fn dials_take_turns_among_those_who_share_a_name() {
    let (mut world, [b, c]) = pool(4);
    for (name, endpoint) in [("b", b), ("c", c), ("b", b), ("c", c)] {
        let dial = dial(&mut world, Choice::RoundRobin);
        world.accept(name, endpoint);
        assert_eq!(answered_by(&mut world, dial), name);
    }
}

#[test]
fn dials_at_random_come_to_all_and_those_without_a_choice_to_the_owner() {
    let (mut world, [b, c]) = pool(4);
    let mut taken = [0, 0];
    for (choice, dials) in [(Choice::Random, 20), (Choice::Owner, 5)] {
        for _ in 0..dials {
            let dial = dial(&mut world, choice);
            world.run_for(Duration::from_millis(20));
            for (index, (name, endpoint)) in [("b", b), ("c", c)].into_iter().enumerate() {
                if let Some(incoming) = world.node(name).take_incoming(endpoint) {
                    taken[index] += 1;
                    assert!(world.node(name).answer(incoming.id, accepted()));
                }
            }
            answered_by(&mut world, dial);
        }
        assert!(taken[0] >= 3, "{taken:?}");
        assert_eq!(taken[1] >= 3, choice == Choice::Random, "{taken:?}");
        taken = [0, 0];
    }
}

#[test]
fn the_nearest_is_this_node_itself() {
    let (mut world, [_, c]) = pool(4);
    let dial = world.node("c").dial(DialRequest {
        choice: Choice::Nearest,
        ..request("pool")
    });
    let incoming = world.incoming("c", c);
    assert!(world.node("c").answer(incoming.id, accepted()));
    let dialled = world.dialled("c", dial).unwrap();
    assert!(matches!(dialled, Dialled::Local { .. }), "{dialled:?}");
}

#[test]
fn a_dial_of_one_node_goes_there_and_nowhere_else() {
    let (mut world, [_, c]) = pool(1);
    let at = |node: &str| DialRequest {
        at: Some(node_name(node)),
        ..request("pool")
    };
    let dial = world.node("a").dial(at("c"));
    world.accept("c", c);
    assert_eq!(answered_by(&mut world, dial), "c");

    let dials = [0, 1].map(|_| world.node("a").dial(at("c")));
    let error = world.dialled("a", dials[1]).unwrap_err();
    let busy = RefusalReason::Busy;
    assert!(
        matches!(error.cause, DialCause::Refused { reason, .. } if reason == busy),
        "{error}"
    );
    assert_eq!(error.attempts, []);

    let dial = world.node("c").dial(at("a"));
    let node = node_name("a");
    let error = world.dialled("c", dial).unwrap_err();
    assert_eq!(error.cause, DialCause::NotAt { node });
}

#[test]
fn a_dial_goes_on_when_one_of_those_who_share_is_busy_until_all_are() {
    let (mut world, [b, c]) = pool(1);
    let dials = [0, 1, 2].map(|_| dial(&mut world, Choice::Owner));
    let error = world.dialled("a", dials[2]).unwrap_err();
    let is_busy = |cause: &DialCause| {
        let busy = RefusalReason::Busy;
        matches!(cause, DialCause::Refused { reason, .. } if *reason == busy)
    };
    assert!(is_busy(&error.cause), "{error}");
    assert!(is_busy(&error.attempts[0].cause), "{error:?}");
    world.accept("b", b);
    world.accept("c", c);
    assert_eq!(answered_by(&mut world, dials[0]), "b");
    assert_eq!(answered_by(&mut world, dials[1]), "c");
}

#[test]
fn a_dial_goes_on_when_one_of_those_who_share_dies() {
    let (mut world, [_, c]) = pool(4);
    world.crash("b");
    let dial = world.node("a").dial(DialRequest {
        timeout: Duration::from_secs(10),
        ..request("pool")
    });
    world.accept("c", c);
    assert_eq!(answered_by(&mut world, dial), "c");
}

/// Nodes `a`, `b` and `c`, of which the latter two share a name that `b` owns, and all know it.
fn pool(queue_max: usize) -> (World, [EndpointId; 2]) {
    let mut world = World::of(1, &["a", "b", "c"]);
    let endpoints = ["b", "c"].map(|name| {
        let endpoint = world
            .node(name)
            .open_endpoint(&endpoint_name("pool"), queue_max, Claiming::Shared)
            .unwrap();
        let opened = Event::EndpointOpened {
            endpoint,
            result: Ok(()),
        };
        world.wait(name, "the endpoint opens", |event| {
            (*event == opened).then_some(())
        });
        world.run_for(Duration::from_millis(200));
        endpoint
    });
    world.until("both are known", |world| {
        let holders = world.node("a").holders(&endpoint_name("pool"));
        matches!(&holders[..], [Holder::Remote { node, .. }, _] if node.as_str() == "b")
            .then_some(())
    });
    (world, endpoints)
}

fn dial(world: &mut World, choice: Choice) -> DialId {
    let request = DialRequest {
        choice,
        ..request("pool")
    };
    world.node("a").dial(request)
}

fn answered_by(world: &mut World, dial: DialId) -> String {
    match world.dialled("a", dial) {
        Ok(Dialled::Remote { node, .. }) => node.to_string(),
        other => panic!("no other node answered: {other:?}"),
    }
}
