//! How nodes leave, and how others notice when they do not say so.

use std::time::Duration;

use crate::node::testing::{World, node_name, request};
use crate::node::{
    DialCause, Event, FlowLoss, FlowReadError, FlowWriteError, JoinError, MemberEvent,
};
use crate::wire::code::Code;
use crate::wire::stream::RefusalReason;

const GRACE: Duration = Duration::from_secs(5);

#[test]
fn flows_drain_before_a_node_closes_and_its_peers_learn_that_it_left() {
    let (mut world, ends) = World::with_flow(1);
    world.write(ends.dialler, &[1; 30_000]).unwrap();
    let begun = world.now;
    world.node("a").shutdown(GRACE);
    told(&mut world, "a", &Event::Left);
    learns_that_it_left(&mut world, "b");
    assert!(!world.has_told("a", |event| *event == Event::Closed));

    assert_eq!(world.read(ends.acceptor, 30_000).len(), 30_000);
    for end in [ends.dialler, ends.acceptor] {
        world.node(end.0).finish(end.1);
    }
    assert_eq!(world.end(ends.acceptor), Ok(()));
    assert_eq!(world.end(ends.dialler), Ok(()));
    world.release(ends.dialler);
    world.release(ends.acceptor);
    told(&mut world, "a", &Event::Closed);
    assert!(world.now < begun + GRACE);
    world.until("the peer has nothing left of it", |world| {
        (world.connections("b") == 0).then_some(())
    });
    let report = *world.node("a").shutdown_report();
    assert!(report.is_empty(), "{report:?}");
}

#[test]
fn the_grace_period_cuts_flows_that_do_not_drain() {
    let (mut world, ends) = World::with_flow(1);
    let begun = world.now;
    world.node("a").shutdown(GRACE);
    told(&mut world, "a", &Event::Closed);
    assert!(world.now >= begun + GRACE);
    assert!(world.now < begun + GRACE + Duration::from_millis(10));
    assert_eq!(
        world.end(ends.dialler),
        Err(FlowReadError::Lost(FlowLoss::ShuttingDown))
    );
    let left = FlowLoss::Closed {
        code: Code::Left,
        reason: String::new(),
    };
    assert_eq!(
        world.end(ends.acceptor),
        Err(FlowReadError::Lost(left.clone()))
    );
    assert_eq!(world.sent(ends.acceptor), Err(FlowWriteError::Lost(left)));
}

#[test]
fn what_a_stalled_reader_left_undelivered_is_told_by_count() {
    let (mut world, ends) = World::with_flow(1);
    let service = world.serve("b", "idle", "a");
    let idle = world.flow("a", "b", (service, "idle"));
    let mut written = 0;
    while world.write(ends.dialler, &[1; 1000]) == Ok(()) || {
        world.run_for(Duration::from_millis(50));
        world.write(ends.dialler, &[1; 1000]) == Ok(())
    } {
        written += 1000;
    }
    world.release(ends.dialler);
    world.node("a").shutdown(GRACE);
    told(&mut world, "a", &Event::Closed);
    let report = *world.node("a").shutdown_report();
    assert_eq!((report.flows_lost, report.flows_unconfirmed), (1, 1));
    assert!(report.bytes_lost >= 64 * 1024, "{report:?}");

    let mut arrived = 0;
    while let Ok(Some(chunk)) = world.node("b").read(ends.acceptor.1) {
        arrived += chunk.len() as u64;
    }
    assert_eq!(arrived + report.bytes_lost, written, "to the byte");
    assert!(matches!(
        world.end(idle.acceptor),
        Err(FlowReadError::Lost(_))
    ));
}

#[test]
fn what_arrived_before_a_loss_is_still_read() {
    let (mut world, ends) = World::with_flow(1);
    world.write(ends.dialler, &[1; 5000]).unwrap();
    world.run_for(Duration::from_millis(20));
    world.node("a").shutdown(Duration::ZERO);
    world.run_for(Duration::from_millis(20));
    assert_eq!(world.read(ends.acceptor, 5000).len(), 5000);
    assert!(matches!(
        world.end(ends.acceptor),
        Err(FlowReadError::Lost(_))
    ));
}

#[test]
fn peers_learn_that_a_node_left_even_without_grace() {
    let mut world = World::of(1, &["a", "b"]);
    world.node("a").shutdown(Duration::ZERO);
    told(&mut world, "a", &Event::Closed);
    learns_that_it_left(&mut world, "b");
}

#[test]
fn a_node_alone_closes_at_once() {
    let mut world = World::of(1, &["a"]);
    let begun = world.now;
    world.node("a").shutdown(GRACE);
    told(&mut world, "a", &Event::Left);
    told(&mut world, "a", &Event::Closed);
    assert_eq!(world.now, begun);
}

#[test]
fn a_node_that_leaves_ends_what_is_under_way_and_begins_nothing() {
    let mut world = World::of(1, &["a", "b", "c"]);
    let endpoint = world.serve("b", "service", "a");
    let waiting = world.dial("a", "service");
    world.wait("b", "a flow waits", |event| {
        (*event == Event::Incoming { endpoint }).then_some(())
    });
    world.node("b").shutdown(GRACE);
    let error = world.dialled("a", waiting).unwrap_err();
    assert!(
        matches!(
            error.cause,
            DialCause::Refused {
                reason: RefusalReason::ShuttingDown,
                ..
            }
        ),
        "{error}"
    );

    let own = world.dial("b", "other");
    let error = world.dialled("b", own).unwrap_err();
    assert_eq!(error.cause, DialCause::ShuttingDown);
    assert!(world.claim("b", "late", 1).is_err());
    assert_eq!(world.join("b"), Err(JoinError::ShuttingDown));
    told(&mut world, "b", &Event::Closed);
    assert!(world.node("a").connections.up(&node_name("c")).is_some());
}

#[test]
fn a_node_that_vanishes_breaks_its_flows_within_the_detection_bound() {
    let (mut world, ends) = World::with_flow(1);
    let begun = world.now;
    world.crash("b");
    let error = world.end(ends.dialler).unwrap_err();
    assert!(
        matches!(
            error,
            FlowReadError::Lost(FlowLoss::TimedOut | FlowLoss::Down)
        ),
        "{error}"
    );
    assert!(world.now <= begun + Duration::from_secs(4));
    world.wait("a", "the other is down", |event| {
        matches!(event, Event::Member(MemberEvent::Down(_))).then_some(())
    });
    let dial = world.dial("a", "service");
    let error = world.dialled("a", dial).unwrap_err();
    assert!(
        matches!(error.cause, DialCause::Unreachable { .. }),
        "{error}"
    );
}

#[test]
fn a_node_that_restarts_breaks_its_flows_and_is_dialled_anew() {
    let (mut world, ends) = World::with_flow(1);
    world.crash("b");
    world.run_for(Duration::from_millis(100));
    world.start("b", &["a"]);
    world.join("b").unwrap();
    let endpoint = world.serve("b", "service", "a");
    let error = world.end(ends.dialler).unwrap_err();
    assert_eq!(error, FlowReadError::Lost(FlowLoss::Restarted));
    let anew = world.flow("a", "b", (endpoint, "service"));
    world.exchange(anew);
    world.release(ends.dialler);
    world.run_for(Duration::from_secs(4));
    assert_eq!(world.connections("a"), 1);
}

#[test]
fn a_dial_that_waits_for_a_restarted_node_finds_the_new_one() {
    let mut world = World::of(1, &["a", "b"]);
    world.serve("b", "service", "a");
    let dial = world.node("a").dial(crate::node::DialRequest {
        timeout: Duration::from_secs(10),
        unknown_name: crate::node::UnknownName::Wait,
        choice: crate::node::Choice::Owner,
        ..request("service")
    });
    world.run_for(Duration::from_millis(50));
    world.crash("b");
    world.run_for(Duration::from_millis(100));
    world.start("b", &["a"]);
    world.join("b").unwrap();
    let endpoint = world.claim("b", "service", 4).unwrap();
    world.accept("b", endpoint);
    assert!(world.dialled("a", dial).is_ok());
}

fn told(world: &mut World, name: &'static str, expected: &Event) {
    world.wait(name, &format!("{expected:?}"), |event| {
        (event == expected).then_some(())
    });
}

fn learns_that_it_left(world: &mut World, name: &'static str) {
    world.wait(name, "a member left", |event| {
        matches!(event, Event::Member(MemberEvent::Left(_))).then_some(())
    });
}
