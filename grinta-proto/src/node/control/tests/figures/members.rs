//! How soon members know of each other, and what it costs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;

use super::super::super::harness::{World, address, name};
use super::super::seconds;
use super::is_full;
use crate::config::Config;
use crate::name::{NodeName, Session};
use crate::node::event::MemberState;
use crate::wire::control::{ControlMessage, Health, Labelling, MemberIdentity, MemberRecord};

#[test]
fn a_cold_start_through_one_seed_is_whole_within_seconds() {
    let cases = [(100, seconds(3), 3, 20), (1000, seconds(15), 0, 3)];
    for (count, bound, short, full) in cases {
        for (seed, loss) in cases_of(short, full) {
            let mut world = World::new(seed);
            world.loss = loss;
            // Nobody starts a thousand processes in the same instant.
            for index in 0..count {
                world.boot(index, Session(1), &[0]);
                world.run(seconds(1) / count as u32);
            }
            world.run_until(bound - seconds(1), "a whole fabric", World::is_whole);
            let bytes = world.bytes / count as u64;
            let took = world.now - world.start;
            eprintln!("cold start: {count} nodes, {loss} ‰ lost: {took:?}, {bytes} B for each");
            assert!(bytes <= 250_000, "{bytes} B");
        }
    }
}

#[test]
fn a_crash_is_known_everywhere_within_the_suspicion_and_a_few_rounds() {
    let took = time_deaths(&Config::new(name(0)));
    assert!(median(&took) <= seconds(11), "{took:?}");
    // But not before it has had its time to refute, which is eight seconds among a hundred.
    let range = seconds(8)..=seconds(20);
    assert!(took.iter().all(|took| range.contains(took)), "{took:?}");
}

#[test]
fn the_fast_profile_knows_a_crash_within_seconds() {
    let took = time_deaths(&Config::new(name(0)).fast());
    assert!(median(&took) <= seconds(3), "{took:?}");
    assert!(took.iter().all(|&took| took <= seconds(5)), "{took:?}");
}

#[test]
fn a_leave_is_known_everywhere_within_a_second() {
    for (seed, loss) in cases_of(10, 50) {
        let mut world = settled(seed, 100, loss);
        let leaver = leaver_of(seed);
        world.act(leaver, |control, now, _| control.leave(now));
        let is_known = |world: &World| {
            let others = world.indices().into_iter().filter(|&index| index != leaver);
            all_hold(world, others, leaver, |state| {
                matches!(state, MemberState::Left { .. })
            })
        };
        let took = world.run_until(seconds(1), "a leave", is_known);
        eprintln!("leave: {loss} ‰ lost: {took:?}");
    }
}

#[test]
fn halves_of_a_hundred_are_whole_soon_after_a_cut_of_a_minute() {
    for (seed, loss) in cases_of(2, 20) {
        heal(seed, 100, loss, seconds(6));
    }
}

#[test]
fn halves_of_three_hundred_are_whole_soon_after_a_cut_of_a_minute() {
    for (seed, loss) in cases_of(0, 5) {
        heal(seed, 300, loss, seconds(10));
    }
}

#[test]
fn what_a_quiet_fabric_says_does_not_grow_with_it() {
    let sizes: &[usize] = if is_full() {
        &[100, 300, 1000]
    } else {
        &[100, 300]
    };
    for loss in LOSSES {
        let mut rates = Vec::new();
        for &count in sizes {
            let mut world = World::new(70);
            world.loss = loss;
            world.boot_all(count);
            world.run(seconds(40));
            world.bytes = 0;
            world.run(seconds(60));
            let rate = world.bytes / 60 / count as u64;
            eprintln!("steady: {count} nodes, {loss} ‰ lost: {rate} B/s for each");
            assert!(rate <= 400, "{count} nodes, {loss} ‰ lost: {rate} B/s");
            rates.push(rate);
        }
        let (least, most) = (rates.iter().min(), rates.iter().max());
        let (least, most) = (least.unwrap(), most.unwrap());
        assert!(most - least <= least / 5, "{rates:?}");
    }
}

#[test]
fn members_that_freeze_and_wake_accuse_nobody_who_is_well() {
    let (cycles, sick_ones): (&[u64], &[usize]) = if is_full() {
        let cycles = &[100, 250, 500, 1000, 2000, 3500, 5000, 7000, 8500];
        (cycles, &[1, 4, 16])
    } else {
        (&[100, 1000, 8500], &[16])
    };
    for &cycle in cycles {
        for (seed, loss) in cases_of(1, 3) {
            for &sick in sick_ones {
                let (world, sick) = freeze_in_cycles(seed + cycle, loss, sick, cycle);
                let mut accused = 0;
                for index in world.indices() {
                    for (_, word, member) in world.member_events(index) {
                        let is_well = !sick.contains(&member.name);
                        assert!(
                            word != "down" || !is_well,
                            "{cycle} ms, {loss} ‰ lost: n{index} about {}",
                            member.name
                        );
                        accused += u32::from(word == "suspected" && is_well);
                    }
                }
                // A suspicion is seen by a hundred. Starved members voice a few; before a probe had
                // its second stage in any case, it was ten times as many.
                assert!(
                    accused <= 1500,
                    "{cycle} ms, {loss} ‰ lost: {accused} suspicions"
                );
                let sick = sick.len();
                eprintln!("frozen: {sick} for {cycle} ms, {loss} ‰ lost: {accused} suspicions");
            }
        }
    }
}

#[test]
fn a_thousand_members_take_less_than_a_megabyte() {
    let mut world = World::of(71, 2);
    let record = |index| MemberRecord {
        identity: MemberIdentity {
            name: name(index),
            address: address(index),
            session: Session(1),
            bump: 0,
        },
        incarnation: 0,
        health: Health::Alive,
        labels: Some(Labelling {
            session: Session(1),
            version: 1,
            entries: Arc::default(),
        }),
        gone_for: Duration::ZERO,
    };
    let records: Vec<_> = (2..1001).map(record).collect();
    let held = allocation_counter::measure(|| {
        // Decoded, so that nothing is shared with the test's own copy.
        let mut bytes = BytesMut::new();
        ControlMessage::Members(records).encode(&mut bytes);
        let message = ControlMessage::decode(&bytes).unwrap();
        world
            .act(0, |control, now, _| {
                control.handle_message(now, &name(1), message)
            })
            .unwrap();
        world.forget_events();
    });
    // With what is yet to be told of each.
    eprintln!("memory: {} B for 1000 members", held.bytes_current);
    assert!(held.bytes_current <= 1_000_000, "{held:?}");
}

/// How long it takes until a crash among a hundred is known everywhere.
fn time_deaths(config: &Config) -> Vec<Duration> {
    let mut times = Vec::new();
    for (seed, loss) in cases_of(5, 50) {
        let mut world = World::new(seed);
        world.loss = loss;
        world.membership = config.membership.clone();
        world.boot_all(100);
        world.run(seconds(20) + Duration::from_millis(77 * seed));
        let victim = leaver_of(seed);
        world.crash(victim);
        let is_known = |world: &World| {
            all_hold(world, world.indices(), victim, |state| {
                matches!(state, MemberState::Down { .. })
            })
        };
        times.push(world.run_until(seconds(60), "a death", is_known));
    }
    times.sort();
    let (most, median) = (times[times.len() - 1], median(&times));
    eprintln!(
        "crash: {} runs, median {median:?}, most {most:?}",
        times.len()
    );
    times
}

/// Cuts a fabric into halves for a minute and asserts that it is whole within `bound` of the end,
/// that nobody was held down on its own side, and that each renewed once, for it was held down.
fn heal(seed: u64, count: usize, loss: u32, bound: Duration) {
    let mut world = settled(seed, count, loss);
    world.cut(|index| (index % 2) as u8, count);
    world.run(seconds(60));
    world.heal();
    world.bytes = 0;
    let took = world.run_until(bound, "a heal", World::is_whole);
    let bytes = world.bytes / count as u64;
    eprintln!("heal: {count} nodes, {loss} ‰ lost: {took:?}, {bytes} B for each");
    world.run(seconds(20));
    assert!(world.is_whole());
    for index in 0..count {
        assert_eq!(world.node(index).control.swim.identity().bump, 1, "{index}");
        let mut down = BTreeSet::new();
        for (_, word, member) in world.member_events(index) {
            if word == "down" {
                let is_beyond =
                    |other: &usize| other % 2 != index % 2 && name(*other) == member.name;
                assert!(
                    (0..count).any(|other| is_beyond(&other)),
                    "{index}: {member:?}"
                );
                assert!(down.insert(&member.name), "{index}: {member:?} twice");
            }
        }
    }
}

/// Two minutes in which some members freeze again and again, each at its own time, and are awake
/// for a millisecond in between. Returns their names.
fn freeze_in_cycles(seed: u64, loss: u32, sick: usize, cycle: u64) -> (World, BTreeSet<NodeName>) {
    let mut world = settled(seed, 100, loss);
    let sick: Vec<_> = (0..sick).map(|nth| 3 + 6 * nth).collect();
    let cycle = Duration::from_millis(cycle);
    let (begun, awake) = (world.now, Duration::from_millis(1));
    let phases = sick
        .iter()
        .zip(0..)
        .map(|(&index, nth)| (begun + cycle * nth / 16, index));
    let mut due: BTreeSet<_> = phases.collect();
    let mut frozen = BTreeSet::new();
    while let Some((time, index)) = due.pop_first()
        && time < begun + seconds(120)
    {
        world.run(time - world.now);
        if frozen.remove(&index) {
            world.thaw(index);
            due.insert((time + awake, index));
        } else {
            frozen.insert(index);
            world.freeze(index);
            due.insert((time + cycle, index));
        }
    }
    for index in frozen {
        world.thaw(index);
    }
    world.run_until(seconds(30), "all well", World::is_whole);
    (world, sick.into_iter().map(name).collect())
}

/// A fabric that has been whole for a while, at a moment that differs from seed to seed.
fn settled(seed: u64, count: usize, loss: u32) -> World {
    let mut world = World::new(seed);
    world.loss = loss;
    world.boot_all(count);
    world.run(seconds(20) + Duration::from_millis(77 * seed));
    assert!(world.is_whole());
    world
}

/// Whether all these nodes hold one member in such a state.
fn all_hold(
    world: &World,
    nodes: impl IntoIterator<Item = usize>,
    about: usize,
    is_such: impl Fn(MemberState) -> bool,
) -> bool {
    nodes.into_iter().all(|index| {
        let member = world.node(index).control.member(&name(about));
        member.is_some_and(|member| is_such(member.state))
    })
}

fn leaver_of(seed: u64) -> usize {
    1 + (seed as usize * 7) % 99
}

fn median(sorted: &[Duration]) -> Duration {
    sorted[sorted.len() / 2]
}

/// Pairs of a seed and a loss: of each seed one without and one with; for none, one with.
fn cases_of(short: u64, full: u64) -> Vec<(u64, u32)> {
    let seeds = if is_full() { full } else { short };
    if seeds == 0 {
        return vec![(0, LOSSES[1])];
    }
    (0..seeds)
        .flat_map(|seed| LOSSES.map(|loss| (seed, loss)))
        .collect()
}

/// Of a thousand datagrams, so many are lost.
const LOSSES: [u32; 2] = [0, 50];
