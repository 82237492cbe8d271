//! How fast names travel.

use bytes::BytesMut;

use super::super::super::directory::{Directory, DirectoryLimits};
use super::super::super::harness::{Signer, UNIX, World, name};
use super::super::*;
use super::is_full;
use crate::wire::claims::OwnerDelta;
use crate::wire::control::Names;

#[test]
fn a_new_claim_resolves_everywhere_within_a_second_or_two() {
    let count = 100;
    let mut world = World::of(41, count);
    world.run(seconds(15));
    world.loss = 50;
    let mut delays = Vec::new();
    for round in 0..sized(4, 20) {
        let (owner, claimed) = (round * 7 % count, endpoint(&format!("svc-{round}")));
        claim(&mut world, owner, claimed.clone());
        let begun = world.now;
        let mut waiting: Vec<_> = (0..count).filter(|&index| index != owner).collect();
        while !waiting.is_empty() {
            world.run(Duration::from_millis(10));
            assert!(world.now - begun <= seconds(2), "{waiting:?} still wait");
            waiting.retain(|&index| {
                let waits = world.node(index).control.holders(&claimed).is_empty();
                delays.extend((!waits).then(|| world.now - begun));
                waits
            });
        }
    }
    delays.sort_unstable();
    let median = delays[delays.len() / 2];
    eprintln!("p50 {median:?}, max {:?}", delays.last().unwrap());
    assert!(median <= Duration::from_millis(500), "{median:?}");
}

#[test]
fn after_a_heal_all_replicas_are_equal_within_two_periods_and_five_seconds() {
    let count = sized(20, 60);
    let mut world = World::of(42, count);
    world.run(seconds(15));
    world.cut(|index| (index % 2) as u8, count);
    for index in 0..count {
        (0..20).for_each(|n| claim(&mut world, index, endpoint(&format!("n{index}.{n}"))));
    }
    world.run(seconds(40));
    for index in 0..count {
        let gone = endpoint(&format!("n{index}.3"));
        world.act(index, |control, now, _| control.release(now, &gone));
    }
    assert!(!are_equal(&world));
    world.heal();
    let took = world.run_until(2 * seconds(5) + seconds(5), "a heal", are_equal);
    eprintln!("equal {took:?} after the heal");
    world.check();
}

#[test]
fn very_many_names_that_are_claimed_at_once_are_everywhere_within_ten_seconds() {
    let (count, names) = (20, sized(5_000, 100_000));
    let mut world = World::of(43, count);
    world.run(seconds(10));
    for n in 0..names {
        claim(&mut world, 3, endpoint(&format!("bulk.service-{n:06}")));
    }
    let have_all = |world: &World| {
        let held = |index| world.node(index).control.directory().names_held();
        (0..count).all(|index| held(index) == names)
    };
    let took = world.run_until(seconds(10), "names everywhere", have_all);
    eprintln!("{names} names are everywhere after {took:?}");
}

#[test]
fn a_newcomer_to_very_many_names_of_many_owners_is_synced() {
    let (count, names) = (sized(20, 100), sized(50, 1_000));
    let mut world = World::of(44, count);
    world.run(seconds(10));
    for index in 0..count {
        for n in 0..names {
            claim(
                &mut world,
                index,
                endpoint(&format!("n{index}.service-{n}")),
            );
        }
    }
    world.run_until(seconds(30), "names everywhere", are_equal);
    world.boot(count, Session(1), &[0]);
    let is_synced = |world: &World| world.node(count).control.is_synced();
    let took = world.run_until(seconds(30), "a newcomer", is_synced);
    eprintln!("synced after {took:?}");
    let held = world.node(count).control.directory().names_held();
    assert_eq!(held, count * names, "it has all before it answers");
}

/// One node has the names of very many others, as those told them; no others run.
#[test]
fn a_newcomer_is_synced_with_the_names_of_a_thousand_nodes() {
    let (owners, names) = (sized(500, 1_000), sized(10, 1_000));
    let mut world = World::of(46, 2);
    world.run(seconds(10));
    for owner in 100..100 + owners {
        tell_claims_of(&mut world, owner, names);
    }
    let held = |world: &World, at: usize| world.node(at).control.directory().names_held();
    assert_eq!(held(&world, 0), owners * names);
    world.run_until(seconds(30), "names at both", are_equal);
    world.boot(2, Session(1), &[0]);
    let is_synced = |world: &World| world.node(2).control.is_synced();
    let took = world.run_until(seconds(30), "a newcomer", is_synced);
    eprintln!("synced with {} names after {took:?}", owners * names);
    assert_eq!(held(&world, 2), owners * names);
}

/// What a replica takes in memory for each name, if nothing is shared with who told it.
#[test]
fn a_million_names_take_less_than_a_quarter_of_a_gigabyte() {
    let (owners, names) = (sized(20, 1_000), 1_000);
    let mut replica = Directory::new(name(0), Session(1), DirectoryLimits::default());
    let held = allocation_counter::measure(|| {
        for owner in 1..=owners {
            replica.set_reachable(&name(owner), Session(1));
            let theirs = claims_of(owner, names, UNIX);
            while let Some(delta) = theirs.delta_for(&replica.head(&name(owner)), DELTA_LEN) {
                replica.apply(&decoded(delta));
                while replica.poll_change().is_some() {}
            }
        }
    });
    assert_eq!(replica.names_held(), owners * names);
    let all = i64::try_from(owners * names).unwrap();
    let each = held.bytes_current / all;
    eprintln!("memory: {each} B for each of {all} names");
    assert!(each <= 250, "{held:?}");
}

#[test]
fn the_names_of_one_that_is_cut_off_vanish_and_return_in_short_turns() {
    let (count, names) = (4, 5_000);
    let mut world = World::of(45, count);
    world.run(seconds(10));
    for n in 0..names {
        claim(&mut world, 3, endpoint(&format!("service-{n:05}")));
    }
    world.run_until(seconds(10), "names everywhere", are_equal);
    world.cut(|index| u8::from(index == 3), count);
    world.run(seconds(40));
    let told = |world: &World, wanted: fn(&ControlEvent) -> bool| {
        let events = world.node(0).events.iter();
        events.filter(|(_, event)| wanted(event)).count()
    };
    let gone = |event: &ControlEvent| matches!(event, ControlEvent::Name(NameEvent::Gone { .. }));
    let appeared =
        |event: &ControlEvent| matches!(event, ControlEvent::Name(NameEvent::Appeared { .. }));
    assert_eq!(told(&world, gone), names);
    world.heal();
    world.run_until(seconds(15), "a heal", World::is_whole);
    world.run(seconds(1));
    assert_eq!(told(&world, appeared), 2 * names);
    world.check();
}

fn claim(world: &mut World, index: usize, name: EndpointName) {
    let claimed = world.act(index, |control, now, unix| {
        control.claim(now, unix, name, ClaimMode::Exclusive)
    });
    claimed.unwrap();
}

/// The first node is told the claims of a node that does not run.
fn tell_claims_of(world: &mut World, owner: usize, count: usize) {
    let mut theirs = Signer::new(name(owner), Session(1));
    theirs.directory = claims_of(owner, count, world.unix());
    let all = theirs.all();
    let names = ControlMessage::Names(theirs.names(all));
    let told = world.act(0, |control, now, _| {
        control.handle_message(now, &name(1), names)
    });
    told.unwrap();
}

/// A node with so many names that it claimed.
fn claims_of(owner: usize, count: usize, unix_time: Duration) -> Directory {
    let mut directory = Directory::new(name(owner), Session(1), DirectoryLimits::default());
    for n in 0..count {
        let claimed = endpoint(&format!("node-{owner:04}.service-{n:06}"));
        let claimed = directory.claim(claimed, ClaimMode::Exclusive, unix_time);
        claimed.unwrap();
    }
    directory
}

/// What comes of a delta on the way.
fn decoded(delta: OwnerDelta) -> OwnerDelta {
    let mut bytes = BytesMut::new();
    ControlMessage::Names(alone(delta)).encode(&mut bytes);
    let ControlMessage::Names(names) = ControlMessage::decode(&bytes).unwrap() else {
        panic!("another message");
    };
    let [delta] = <[_; 1]>::try_from(names.deltas).unwrap();
    delta
}

fn alone(delta: OwnerDelta) -> Names {
    Names {
        deltas: vec![delta],
        heads: Vec::new(),
        token: 0,
        truncated: false,
        certificates: Vec::new(),
    }
}

fn are_equal(world: &World) -> bool {
    let hash = |index: usize| world.node(index).control.directory().hash();
    let indices = world.indices();
    indices.iter().all(|&index| hash(index) == hash(indices[0]))
}

/// The size for every day, or the full one.
fn sized(daily: usize, full: usize) -> usize {
    if is_full() { full } else { daily }
}

/// Bytes of a piece of a set, as it travels.
const DELTA_LEN: usize = 24 * 1024;
