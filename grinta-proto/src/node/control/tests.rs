//! Stories of whole fabrics of control tiers: here those of names, members in `members`, who a node
//! is in `identity`, who holds too many names in `limits`, what the wrapper of foca remedies in
//! `remedies`, and what is promised in `figures`.

mod figures;
mod identity;
mod limits;
mod members;
mod remedies;
mod trust;

use super::harness::{World, address, name};
use super::*;

#[test]
fn claims_resolve_everywhere_soon() {
    let mut world = World::of(11, 20);
    world.run(seconds(10));
    for index in 0..20 {
        for n in 0..10 {
            let name = endpoint(&format!("svc-{index}-{n}"));
            world
                .act(index, |control, now, unix| {
                    control.claim(now, unix, name, ClaimMode::Exclusive)
                })
                .unwrap();
        }
    }
    let all = |world: &World| {
        (0..20).all(|asker| {
            (0..20).all(|owner| {
                let name_ = endpoint(&format!("svc-{owner}-7"));
                match world.node(asker).control.resolve(&name_) {
                    Resolution::Remote {
                        owner: found,
                        address: at,
                        ..
                    } => found == name(owner) && at == address(owner),
                    Resolution::Local => asker == owner,
                    Resolution::Unreachable { .. }
                    | Resolution::NotFound
                    | Resolution::NotSynced => false,
                }
            })
        })
    };
    world.run_until(seconds(30), "names everywhere", all);
    let found = world.node(4).control.names("svc-3-", None, 100);
    assert_eq!((found.names.len(), found.next), (10, None));
    // One who comes later learns them all before it says that it is synced.
    world.boot(20, Session(1), &[0]);
    world.run_until(seconds(5), "a newcomer", |world| {
        world.node(20).control.is_synced()
    });
    assert_eq!(
        world.node(20).control.names("", None, 1000).names.len(),
        200
    );
    world.act(7, |control, now, _| {
        control.release(now, &endpoint("svc-7-7"))
    });
    world.run(seconds(3));
    for index in 0..21 {
        let resolution = world.node(index).control.resolve(&endpoint("svc-7-7"));
        assert_eq!(resolution, Resolution::NotFound);
    }
    world.check();
}

#[test]
fn a_newcomer_has_every_name_before_it_is_synced() {
    let mut world = World::of(26, 3);
    world.run(seconds(10));
    for n in 0..6000 {
        claim(&mut world, 0, &format!("service-{n:05}"));
    }
    let has_all =
        |world: &World, index: usize| world.node(index).control.directory().names_held() == 6000;
    world.run_until(seconds(10), "bulk", |world| {
        (0..3).all(|index| has_all(world, index))
    });
    // It asks all three at once, and is told by one what it heard of another a moment ago.
    world.boot(3, Session(1), &[0, 1, 2]);
    await_synced(&mut world, 3);
    assert!(has_all(&world, 3));
    world.check();
}

#[test]
fn newcomers_that_meet_each_other_first_wait_for_one_who_knows() {
    let mut world = World::of(28, 2);
    world.run(seconds(10));
    for n in 0..2000 {
        claim(&mut world, 0, &format!("service-{n:05}"));
    }
    world.run(seconds(5));
    for newcomer in 2..6 {
        world.boot(newcomer, Session(1), &[2, 3, 4, 5, 0]);
    }
    for newcomer in 2..6 {
        await_synced(&mut world, newcomer);
        let held = world.node(newcomer).control.directory().names_held();
        assert_eq!(held, 2000, "{newcomer} answers before it knows");
    }
    world.check();
}

#[test]
fn nodes_that_begin_a_fabric_together_wait_for_nobody_who_knows() {
    let mut world = World::new(29);
    for index in 0..3 {
        world.boot(index, Session(1), &[0, 1, 2, 9]);
    }
    for index in 0..3 {
        await_synced(&mut world, index);
    }
    assert!(world.now - world.start <= seconds(3));
}

#[test]
fn a_tier_can_be_moved_to_another_thread() {
    const fn is_send<T: Send>() {}
    is_send::<Control>();
    is_send::<ControlOutput>();
}

#[test]
fn a_name_claimed_on_both_sides_of_a_cut_settles_and_the_loser_hears_it_once() {
    let count = 10;
    let mut world = World::of(12, count);
    world.run(seconds(10));
    world.cut(|index| (index % 2) as u8, count);
    world
        .act(2, |control, now, unix| {
            control.claim(now, unix, endpoint("svc"), ClaimMode::Exclusive)
        })
        .unwrap();
    world.run(seconds(40));
    world
        .act(3, |control, now, unix| {
            control.claim(now, unix, endpoint("svc"), ClaimMode::Exclusive)
        })
        .unwrap();
    world.run(seconds(5));
    assert_eq!(
        world.node(3).control.resolve(&endpoint("svc")),
        Resolution::Local
    );
    world.heal();
    world.run(seconds(20));
    assert!(world.is_whole());
    for index in (0..count).filter(|&index| index != 2) {
        let resolution = world.node(index).control.resolve(&endpoint("svc"));
        assert!(
            matches!(&resolution, Resolution::Remote { owner, .. } if *owner == name(2)),
            "{index}: {resolution:?}",
        );
    }
    let lost = ControlEvent::NameLost {
        name: endpoint("svc"),
        winner: name(2),
    };
    assert_eq!(world.node(3).lost(), [&lost]);
    assert!(world.node(2).lost().is_empty());
    // The loser stands by, and takes over.
    world.act(2, |control, now, _| control.release(now, &endpoint("svc")));
    world.run(seconds(3));
    assert!(world.node(3).has(&ControlEvent::NamePromoted {
        name: endpoint("svc")
    }));
    world.check();
}

#[test]
fn a_shared_name_is_served_by_all_who_share_it_and_are_there() {
    let mut world = World::of(27, 6);
    world.run(seconds(10));
    for index in [1, 3] {
        let standing = world.act(index, |control, now, unix| {
            control.claim(now, unix, endpoint("pool"), ClaimMode::Shared)
        });
        assert_eq!(standing, Ok(directory::Standing::Owner));
        world.run(seconds(2));
    }
    let holder = |index| Holder::Remote {
        node: name(index),
        address: address(index),
        suspect: false,
    };
    let holders =
        |world: &World, index: usize| world.node(index).control.holders(&endpoint("pool"));
    assert_eq!(holders(&world, 0), [holder(1), holder(3)]);
    assert_eq!(holders(&world, 3), [holder(1), Holder::Local]);
    let owner = name(1);
    let reshared = ControlEvent::Name(NameEvent::Reshared {
        name: endpoint("pool"),
        owner,
    });
    assert!(world.node(5).has(&reshared));
    let refused = world.act(4, |control, now, unix| {
        control.claim(now, unix, endpoint("pool"), ClaimMode::Exclusive)
    });
    assert!(matches!(refused, Err(ClaimError::Shared { .. })));
    world.crash(1);
    world.run(seconds(40));
    assert_eq!(holders(&world, 0), [holder(3)]);
    world.check();
}

#[test]
fn the_names_of_the_down_are_unreachable_and_come_back_without_being_told() {
    let mut world = World::of(13, 8);
    world.run(seconds(10));
    world
        .act(5, |control, now, unix| {
            control.claim(now, unix, endpoint("svc"), ClaimMode::Exclusive)
        })
        .unwrap();
    world.run(seconds(3));
    world.cut(|index| u8::from(index == 5), 8);
    world.run(seconds(40));
    for index in (0..8).filter(|&index| index != 5) {
        let resolution = world.node(index).control.resolve(&endpoint("svc"));
        assert!(
            matches!(resolution, Resolution::Unreachable { .. }),
            "{resolution:?}"
        );
    }
    world.sent.clear();
    world.heal();
    world.run_until(seconds(15), "a heal", World::is_whole);
    for index in (0..8).filter(|&index| index != 5) {
        let resolution = world.node(index).control.resolve(&endpoint("svc"));
        assert!(
            matches!(resolution, Resolution::Remote { .. }),
            "{resolution:?}"
        );
    }
    assert!(!world.sent.contains_key("names"), "{:?}", world.sent);
    world.check();
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let trace = |seed| {
        let mut world = World::of(seed, 8);
        world.is_traced = true;
        world.loss = 30;
        world.run(seconds(5));
        world
            .act(1, |control, now, unix| {
                control.claim(now, unix, endpoint("svc"), ClaimMode::Exclusive)
            })
            .unwrap();
        world.cut(|index| u8::from(index < 3), 8);
        world.run(seconds(20));
        world.heal();
        world.run(seconds(10));
        world
            .trace
            .into_iter()
            .map(|line| strip_instants(&line))
            .collect::<Vec<_>>()
    };
    assert_eq!(trace(16), trace(16));
    assert_ne!(trace(16), trace(17));
}

fn await_synced(world: &mut World, index: usize) {
    let is_synced = |world: &World| world.node(index).control.is_synced();
    world.run_until(seconds(5), "a newcomer", is_synced);
}

fn claim(world: &mut World, index: usize, name: &str) {
    let claimed = world.act(index, |control, now, unix| {
        control.claim(now, unix, endpoint(name), ClaimMode::Exclusive)
    });
    claimed.unwrap();
}

/// Instants print the machine's clock; all else of an event is the same in each run.
fn strip_instants(line: &str) -> String {
    let mut parts = line.split("Instant {");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |line, part| {
        line + part.split_once('}').map_or("", |(_, rest)| rest)
    })
}

fn endpoint(name: &str) -> EndpointName {
    EndpointName::new(name).unwrap()
}

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}
