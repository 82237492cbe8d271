//! What a node counts.

use std::time::Duration;

use crate::node::event::MemberEvent;
use crate::node::testing::{World, accepted, node_name};
use crate::node::{Counters, Event, Origin};
use crate::wire::code::Code;
use crate::wire::stream::{FlowAnswer, Refusal, RefusalReason};

#[test]
fn flows_and_their_streams_are_counted_at_both_ends() {
    let mut world = World::of(1, &["a", "b"]);
    let endpoint = world.serve("b", "service", "a");
    let before = (world.counters("a"), world.counters("b"));
    world.flow("a", "b", (endpoint, "service"));

    let refused = world.dial("a", "service");
    let incoming = world.incoming("b", endpoint);
    let refusal = Refusal::new(RefusalReason::NotAllowed, "");
    world
        .node("b")
        .answer(incoming.id, FlowAnswer::Refused(refusal));
    world.dialled("a", refused).unwrap_err();

    let broken = world.dial("a", "service");
    let incoming = world.incoming("b", endpoint);
    world.lose("b", "a");
    world.run_for(Duration::from_millis(10));
    assert!(!world.node("b").answer(incoming.id, accepted()));
    let incoming = world.incoming("b", endpoint);
    world.node("b").answer(incoming.id, accepted());
    world.dialled("a", broken).unwrap();

    let nobody = world.dial("a", "nobody");
    world.dialled("a", nobody).unwrap_err();

    let (a, b) = (world.counters("a"), world.counters("b"));
    assert_eq!(a.streams_established - before.0.streams_established, 4);
    assert_eq!(b.streams_accepted - before.1.streams_accepted, 4);
    assert_eq!((a.flows_established, a.flows_failed), (2, 2));
    assert_eq!((b.flows_accepted, b.flows_refused), (2, 1));
    assert_eq!((b.streams_established, a.streams_accepted), (0, 0));
    for counters in [a, b] {
        assert_eq!((counters.streams_failed, counters.streams_refused), (0, 0));
        assert_eq!((counters.messages_sent, counters.messages_received), (0, 0));
    }
}

#[test]
fn a_connection_counts_as_accepted_where_it_was_not_dialled() {
    let mut world = World::of(1, &["a", "b"]);
    let (a, b) = (world.counters("a"), world.counters("b"));
    assert_eq!((a.connections_established, a.connections_accepted), (1, 1));
    assert_eq!((b.connections_established, b.connections_accepted), (1, 0));
}

#[test]
fn a_member_that_comes_back_in_the_same_run_was_not_down() {
    let mut world = World::of(1, &["a", "b", "c"]);
    world.run_for(Duration::from_secs(5));
    world.cut("a", "b");
    world.cut("c", "b");
    world.wait("a", "b is down", down);
    world.take_events("a");
    world.heal();
    world.wait("a", "b is back", up);
    let counters = world.counters("a");
    assert_eq!(counters.members_failed, 1);
    assert_eq!(counters.members_failed_falsely, 1);
    assert!(counters.members_suspected >= 1);
    assert_eq!(counters.members_left, 0);

    // One that starts anew was down, and one that leaves does not fail.
    world.crash("b");
    world.wait("a", "b is down", down);
    world.start("b", &["a"]);
    world.join("b").unwrap();
    world.wait("a", "b is back", up);
    world.node("b").leave();
    world.wait("a", "b left", |event| match event {
        Event::Member(MemberEvent::Left(_)) => Some(()),
        _ => None,
    });
    let counters = world.counters("a");
    assert_eq!(counters.members_failed, 2);
    assert_eq!(counters.members_failed_falsely, 1);
    assert_eq!(counters.members_left, 1);
}

#[test]
fn a_suspect_that_answers_is_counted() {
    let mut world = World::of(1, &["a", "b", "c"]);
    world.run_for(Duration::from_secs(5));
    world.cut("a", "b");
    world.cut("c", "b");
    world.wait("a", "b is suspected", |event| match event {
        Event::Member(MemberEvent::Suspected(member)) => {
            (member.name == node_name("b")).then_some(())
        }
        _ => None,
    });
    world.heal();
    world.wait("a", "b answers", |event| match event {
        Event::Member(MemberEvent::Refuted(_)) => Some(()),
        _ => None,
    });
    let counters = world.counters("a");
    assert!(counters.members_suspected >= 1 && counters.members_refuted >= 1);
    assert_eq!(counters.members_failed, 0);
}

#[test]
fn what_one_node_says_another_hears_to_the_byte() {
    let mut world = World::of(1, &["a", "b"]);
    world.serve("b", "service", "a");
    world.run_for(Duration::from_secs(30));
    let told = |counters: Counters| (counters.control_bytes_sent, counters.push_pull_bytes_sent);
    let heard = |counters: Counters| {
        (
            counters.control_bytes_received,
            counters.push_pull_bytes_received,
        )
    };
    world.until("all has arrived", |world| {
        let (a, b) = (world.counters("a"), world.counters("b"));
        (told(a) == heard(b) && told(b) == heard(a)).then_some(())
    });
    let (all, push_pull) = told(world.counters("a"));
    assert!(0 < push_pull && push_pull < all, "{push_pull} of {all}");
}

#[test]
fn a_stream_whose_answer_never_comes_has_failed() {
    let mut world = World::of(1, &["a", "b"]);
    let endpoint = world.serve("b", "service", "a");
    let dial = world.dial("a", "service");
    let incoming = world.incoming("b", endpoint);
    let Origin::Remote { flow, .. } = incoming.origin else {
        panic!("{incoming:?}");
    };
    world.node("b").reset(flow, Code::User(1));
    world.node("b").stop(flow, Code::User(1));
    world.dialled("a", dial).unwrap_err();
    assert_eq!(world.counters("a").streams_failed, 1);
}

impl World {
    fn counters(&mut self, name: &str) -> Counters {
        self.node(name).counters()
    }
}

fn down(event: &Event) -> Option<()> {
    matches!(event, Event::Member(MemberEvent::Down(_))).then_some(())
}

fn up(event: &Event) -> Option<()> {
    matches!(event, Event::Member(MemberEvent::Up(_))).then_some(())
}
