//! Readers that hold their senders back are reported, once for each episode.

use std::time::Duration;

use crate::node::FlowWriteError;
use crate::node::testing::{Ends, World};

#[test]
fn a_reader_that_stalls_is_reported_once_and_again_when_it_stalls_again() {
    let (mut world, ends) = World::with_flow(1);
    fill(&mut world, ends);
    world.run_for(PATIENCE - Duration::from_millis(100));
    assert_eq!(reports(&mut world), 0, "it has its time");
    world.run_for(PATIENCE);
    assert_eq!(reports(&mut world), 1);
    world.run_for(PATIENCE * 12);
    assert_eq!(reports(&mut world), 1, "however long it lasts");

    drain(&mut world, ends);
    world.run_for(PATIENCE * 3);
    fill(&mut world, ends);
    world.run_for(PATIENCE * 2);
    assert_eq!(reports(&mut world), 2, "it had caught up");
    assert_eq!(world.node("b").counters().slow_consumers, 0);
}

#[test]
fn a_reader_that_takes_a_little_now_and_then_is_one_episode() {
    let (mut world, ends) = World::with_flow(1);
    for _ in 0..12 {
        fill(&mut world, ends);
        world.run_for(PATIENCE * 5 / 4);
        // Enough for the sender to go on a little.
        world.read(ends.acceptor, 300_000);
        world.run_for(Duration::from_millis(20));
    }
    assert_eq!(reports(&mut world), 1);
}

#[test]
fn a_sender_that_waits_often_but_never_long_is_no_news() {
    let (mut world, ends) = World::with_flow(1);
    for _ in 0..60 {
        fill(&mut world, ends);
        world.run_for(PATIENCE / 4);
        drain(&mut world, ends);
    }
    assert_eq!(reports(&mut world), 0);
}

#[test]
fn a_cut_cable_is_no_slow_consumer() {
    let (mut world, ends) = World::with_flow(1);
    world.cut("a", "b");
    fill(&mut world, ends);
    world.run_for(PATIENCE * 4);
    assert_eq!(reports(&mut world), 0);
}

/// Writes until the flow takes no more, though the network has had time to carry it.
fn fill(world: &mut World, ends: Ends) {
    while takes(world, ends) || {
        world.run_for(Duration::from_millis(50));
        takes(world, ends)
    } {}
}

fn takes(world: &mut World, ends: Ends) -> bool {
    match world.write(ends.dialler, &[1; 16 * 1024]) {
        Ok(()) => true,
        Err(FlowWriteError::Blocked) => false,
        Err(error) => panic!("the flow ended: {error}"),
    }
}

/// Reads all that was written.
fn drain(world: &mut World, ends: Ends) {
    let mut quiet = 0;
    while quiet < 3 {
        match world.node(ends.acceptor.0).read(ends.acceptor.1) {
            Ok(Some(_)) => quiet = 0,
            _ => {
                quiet += 1;
                world.run_for(Duration::from_millis(20));
            }
        }
    }
}

fn reports(world: &mut World) -> u64 {
    world.node("a").counters().slow_consumers
}

const PATIENCE: Duration = Duration::from_secs(5);
