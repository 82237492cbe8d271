//! Names among honest nodes: standing by, confirmation, queries, and dials that set out for the
//! wrong node.

use std::time::Duration;

use crate::node::control::{ClaimError, Confirmation, QueryMode, QueryRequest, Resolution};
use crate::node::testing::{World, accepted, endpoint_name, node_name, request};
use crate::node::{
    Claiming, DialCause, DialRequest, DialStage, Dialled, EndpointId, EndpointRefusal, Event,
    NameEvent, Standing,
};
use crate::share::Share;

#[test]
fn a_standby_takes_no_flows_until_the_owner_crashes() {
    let mut world = World::of(1, &["a", "b", "c"]);
    world.serve("a", "service", "c");
    let standby = stand_by(&mut world, "b");
    assert_eq!(standing(&mut world, "b", standby), standby_for("a"));
    world.crash("a");
    let dial = world.node("c").dial(DialRequest {
        timeout: Duration::from_secs(15),
        ..request("service")
    });
    world.wait("b", "it takes over", |event| {
        (*event == Event::NameRegained { endpoint: standby }).then_some(())
    });
    assert_eq!(standing(&mut world, "b", standby), Standing::Owner);
    world.accept("b", standby);
    let node = node_name("b");
    let dialled = world.dialled("c", dial);
    assert!(matches!(dialled, Ok(Dialled::Remote { node: to, .. }) if to == node));
    let lost = |event: &Event| matches!(event, Event::NameLost { .. });
    assert!(!world.has_told("b", lost), "it had nothing to lose");
}

#[test]
fn no_dial_fails_while_a_standby_takes_over_from_a_node_that_leaves() {
    for seed in 1..6 {
        take_over_under_dials(seed, |world, _| {
            world.node("a").shutdown(Duration::from_secs(5));
        });
    }
}

#[test]
fn no_dial_fails_while_a_standby_takes_over_a_name_that_is_given_up() {
    for seed in 1..6 {
        take_over_under_dials(seed, |world, owner| world.node("a").close_endpoint(owner));
    }
}

#[test]
fn a_standby_follows_who_owns_the_name() {
    let mut world = World::of(1, &["a", "b", "c"]);
    let owner = world.serve("a", "service", "c");
    let second = stand_by(&mut world, "b");
    world.run_for(Duration::from_millis(500));
    let third = stand_by(&mut world, "c");
    world.run_for(Duration::from_millis(500));
    world.node("a").close_endpoint(owner);
    world.wait("c", "another owner", |event| {
        (*event == Event::OwnerChanged { endpoint: third }).then_some(())
    });
    assert_eq!(standing(&mut world, "c", third), standby_for("b"));
    assert_eq!(standing(&mut world, "b", second), Standing::Owner);
    let service = endpoint_name("service");
    let listed = world.node("c").names("", None, 10).names.remove(0);
    assert_eq!((listed.name, listed.owner), (service, node_name("b")));
    assert!(listed.standing.is_some());
}

#[test]
fn who_loses_a_name_is_told_once_and_its_flows_live_on() {
    let mut world = World::new(1);
    world.start("a", &[]);
    world.join("a").unwrap();
    let older = world.serve("a", "service", "a");
    world.run_for(Duration::from_millis(50));
    world.start("b", &[]);
    world.join("b").unwrap();
    let younger = world.serve("b", "service", "b");
    world.start("c", &["b"]);
    world.join("c").unwrap();
    let ends = world.flow("c", "b", (younger, "service"));
    // Two fabrics meet.
    let (now, address) = (world.now, world.address("a"));
    world.node("b").control.join(now, &[address]);
    let lost = Event::NameLost {
        endpoint: younger,
        winner: node_name("a"),
    };
    world.wait("b", "the name is lost", |event| {
        (*event == lost).then_some(())
    });
    world.run_for(Duration::from_secs(3));
    assert!(
        !world.has_told("b", |event| *event == lost),
        "it is told once"
    );
    assert_eq!(standing(&mut world, "b", younger), standby_for("a"));
    world.exchange(ends);
    world.flow("c", "a", (older, "service"));
}

#[test]
fn a_dial_that_comes_to_a_standby_goes_on_to_the_owner_in_one_round_trip() {
    let mut world = World::of(1, &["a", "b", "c"]);
    let owner = world.serve("a", "service", "c");
    stand_by(&mut world, "b");
    world.run_for(Duration::from_millis(500));
    // What this node knows of the name leads to the standby.
    let service = endpoint_name("service");
    world
        .node("c")
        .control
        .mark_stale(&node_name("a"), &service);
    let begun = world.now;
    let dial = world.dial("c", "service");
    world.accept("a", owner);
    assert!(world.dialled("c", dial).is_ok());
    let round_trip = 2 * world.latency;
    assert_eq!(world.now - begun, 2 * round_trip, "one to each node");
}

#[test]
fn flows_wait_at_an_endpoint_until_its_claim_is_confirmed() {
    let mut world = World::of(1, &["a", "b", "c"]);
    world.cut("a", "c");
    let confirmed = confirmed(1.0, Duration::from_secs(15));
    let endpoint = world.begin_claim("a", "service", 4, confirmed).unwrap();
    known(&mut world, "b", "a");
    let dial = world.dial("b", "service");
    world.run_for(Duration::from_millis(300));
    let is_open = |event: &Event| matches!(event, Event::EndpointOpened { .. });
    assert!(!world.has_told("a", is_open), "one has not confirmed it");
    world.heal();
    assert_eq!(world.claimed("a", endpoint), Ok(endpoint));
    world.accept("a", endpoint);
    assert!(world.dialled("b", dial).is_ok());
    assert_eq!(standing(&mut world, "a", endpoint), Standing::Owner);
}

#[test]
fn an_endpoint_that_is_not_confirmed_gives_its_name_up() {
    let mut world = World::of(1, &["a", "b", "c"]);
    world.cut("a", "c");
    let confirmed = confirmed(1.0, Duration::from_millis(400));
    let endpoint = world.begin_claim("a", "service", 4, confirmed).unwrap();
    known(&mut world, "b", "a");
    let dial = world.dial("b", "service");
    let unconfirmed = EndpointRefusal::Unconfirmed {
        agreed: 1,
        members: 2,
        needed: 2,
    };
    assert_eq!(world.claimed("a", endpoint), Err(unconfirmed));
    let error = world.dialled("b", dial).unwrap_err();
    assert!(
        error.to_string().contains("nobody holds the name"),
        "{error}"
    );
    let refused = &error.attempts[0].cause;
    let not_confirmed = matches!(refused, DialCause::Refused { detail, .. }
        if detail.contains("not confirmed"));
    assert!(not_confirmed, "{error:?}");
    world.heal();
    world.run_for(Duration::from_secs(1));
    world.serve("b", "service", "c");
}

#[test]
fn an_endpoint_closed_while_it_waits_for_confirmation_leaves_nothing() {
    let mut world = World::of(1, &["a", "b"]);
    world.cut("a", "b");
    let waiting = confirmed(1.0, Duration::from_secs(15));
    let first = world.begin_claim("a", "service", 4, waiting).unwrap();
    world.run_for(Duration::from_millis(100));
    world.node("a").close_endpoint(first);
    let second = world.begin_claim("a", "service", 4, waiting).unwrap();
    world.heal();
    assert_eq!(world.claimed("a", second), Ok(second));
    known(&mut world, "b", "a");
    let taken = EndpointRefusal::Claim(ClaimError::Taken {
        name: endpoint_name("service"),
        owner: node_name("a"),
    });
    assert_eq!(world.claim("b", "service", 4), Err(taken));
}

#[test]
fn a_query_asks_over_connections() {
    let mut world = World::of(1, &["a", "b", "c"]);
    world.serve("b", "service", "a");
    let request = QueryRequest {
        name: endpoint_name("service"),
        mode: QueryMode::Vote {
            participation: Share::TWO_THIRDS,
        },
        nodes: None,
        timeout: Duration::from_secs(1),
    };
    let given_up = world.node("a").query(request.clone());
    world.node("a").cancel_query(given_up);
    let query = world.node("a").query(request.clone());
    let given_up_later = world.node("a").query(request);
    world.run_for(Duration::ZERO);
    world.node("a").cancel_query(given_up_later);
    let report = world.wait("a", "an answer", |event| match event {
        Event::Queried { query: id, result } if *id == query => Some(result.clone()),
        _ => None,
    });
    assert_eq!(report.unwrap().owner, Some(node_name("b")));
    world.run_for(Duration::from_secs(2));
    assert!(!world.has_told("a", |event| matches!(event, Event::Queried { .. })));
}

#[test]
fn the_events_of_names_fold_to_the_names() {
    let mut world = World::of(1, &["a", "b"]);
    world.take_events("a");
    let endpoint = world.serve("b", "service", "a");
    let name = || endpoint_name("service");
    let b = || node_name("b");
    world.node("b").close_endpoint(endpoint);
    let told = |world: &mut World, event: NameEvent| {
        world.wait("a", "a name changes", |told| {
            (*told == Event::Name(event.clone())).then_some(())
        });
    };
    let (owner, previous) = (b(), b());
    told(
        &mut world,
        NameEvent::Appeared {
            name: name(),
            owner,
        },
    );
    told(
        &mut world,
        NameEvent::Gone {
            name: name(),
            previous,
        },
    );
    let page = world.node("a").names("", None, 10);
    assert_eq!((page.names.len(), page.next), (0, None));
}

#[test]
fn what_a_dial_says_of_a_name_is_what_resolving_it_says() {
    let mut world = World::of(1, &["a", "b"]);
    world.serve("b", "service", "a");
    let service = endpoint_name("service");
    let resolved = world.node("a").resolve(&endpoint_name("servise"));
    assert_eq!(resolved, Resolution::NotFound);
    world.crash("b");
    let since = world.until("the owner is down", |world| {
        match world.node("a").resolve(&service) {
            Resolution::Unreachable { owner, since } if owner == node_name("b") => Some(since),
            _ => None,
        }
    });
    world.run_for(Duration::from_secs(1));
    let dial = world.dial("a", "service");
    let error = world.dialled("a", dial).unwrap_err();
    let node = node_name("b");
    let down_for = world.now - since;
    assert_eq!(error.cause, DialCause::Unreachable { node, down_for });
    assert_eq!(error.stage, DialStage::Resolve);

    // One that has heard from nobody yet does not say that the name is nowhere.
    world.start("c", &["b"]);
    world.node("c").join();
    let dial = world.dial("c", "service");
    assert_eq!(world.node("c").resolve(&service), Resolution::NotSynced);
    let error = world.dialled("c", dial).unwrap_err();
    assert_eq!(error.cause, DialCause::NotSynced);
}

/// The owner goes as `go` has it, while a third node dials the name all the time.
fn take_over_under_dials(seed: u64, go: impl FnOnce(&mut World, EndpointId)) {
    let mut world = World::of(seed, &["a", "b", "c", "d"]);
    let owner = world.serve("a", "service", "c");
    let standby = stand_by(&mut world, "b");
    world.run_for(Duration::from_millis(500));
    let mut go = Some(go);
    let mut dials = Vec::new();
    for round in 0..200 {
        if round == 20
            && let Some(go) = go.take()
        {
            go(&mut world, owner);
        }
        dials.push(world.dial("c", "service"));
        world.run_for(Duration::from_millis(5));
        for (name, endpoint) in [("a", owner), ("b", standby)] {
            while let Some(incoming) = world.node(name).take_incoming(endpoint) {
                world.node(name).answer(incoming.id, accepted());
            }
        }
    }
    world.run_for(Duration::from_millis(5));
    let mut ends = std::collections::BTreeMap::new();
    for dial in dials {
        match world.dialled("c", dial) {
            Ok(Dialled::Remote { node, .. }) => *ends.entry(node).or_insert(0) += 1,
            other => panic!("seed {seed}: {other:?}"),
        }
    }
    assert!(
        ends[&node_name("a")] >= 20 && ends[&node_name("b")] >= 100,
        "{ends:?}"
    );
}

fn stand_by(world: &mut World, name: &'static str) -> EndpointId {
    let id = world.begin_claim(name, "service", 16, Claiming::Standby);
    let id = id.unwrap();
    world.claimed(name, id).unwrap()
}

fn standing(world: &mut World, name: &str, endpoint: EndpointId) -> Standing {
    world.node(name).standing(endpoint).unwrap().clone()
}

fn standby_for(owner: &str) -> Standing {
    Standing::Standby {
        owner: node_name(owner),
    }
}

fn confirmed(share: f64, timeout: Duration) -> Claiming {
    let share = Share::new(share).unwrap();
    Claiming::Confirmed(Confirmation { share, timeout })
}

/// Waits until a node has learnt who owns the service.
fn known(world: &mut World, at: &str, owner: &str) {
    let owner = node_name(owner);
    world.until("the name is known", |world| {
        let directory = world.node(at).control.directory();
        (directory.owner_of(&endpoint_name("service")) == Some(&owner)).then_some(())
    });
}
