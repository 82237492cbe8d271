//! One node that holds more names than the others allow.

use super::super::directory::Directory;
use super::super::harness::{Signer, World, name};
use super::super::*;
use super::{endpoint, seconds};
use crate::wire::claims::{OwnerDelta, OwnerHead, Version};
use crate::wire::control::Names;

/// Names of one node that the honest allow.
const MOST: usize = 10;

#[test]
fn who_is_past_the_limit_is_cut_off_and_all_others_agree() {
    let mut world = World::new(91);
    world.limits.names_per_node_max = MOST;
    (0..3).for_each(|index| world.boot(index, Session(1), &[0]));
    world.limits.names_per_node_max = 1000;
    world.boot(3, Session(1), &[0]);
    world.run(seconds(10));
    (0..4).for_each(|index| claim_many(&mut world, index, MOST));
    world.run_until(seconds(10), "names within the limit", agree_on_all);

    world.violations = Some(Vec::new());
    world.act(3, |control, now, unix| {
        for number in MOST..5 * MOST {
            let name = endpoint(&format!("n3.{number}"));
            let claimed = control.claim(now, unix, name, ClaimMode::Exclusive);
            claimed.unwrap();
        }
    });
    world.run(seconds(20));
    for index in 0..3 {
        let told = |(guilty, at, violation): &(usize, usize, Violation)| {
            let most = MOST;
            let limit = NameLimit::NamesPerNode;
            let from = name(3);
            (*guilty, *at) == (3, index)
                && *violation == (Violation::TooManyNames { from, limit, most })
        };
        assert!(world.violations.iter().flatten().any(told), "{index}");
        assert!(held(directory(&world, index)) <= 3 * MOST + 2 * MOST);
    }
    let blamed = world.violations.iter().flatten();
    assert!(
        blamed.clone().all(|&(guilty, _, _)| guilty == 3),
        "hearsay is no fault"
    );

    // Names of the others travel as ever, to newcomers too, and through the one that is cut off.
    let news = endpoint("news");
    world.act(1, |control, now, _| control.release(now, &endpoint("n1.0")));
    world.act(1, |control, now, unix| {
        let claimed = control.claim(now, unix, news.clone(), ClaimMode::Exclusive);
        claimed.unwrap();
    });
    world.limits.names_per_node_max = MOST;
    world.boot(4, Session(1), &[0]);
    let is_known = |world: &World| {
        let indices = world.indices();
        indices.iter().all(|&at| world.node(at).control.is_synced()) && agree_on_others(world)
    };
    world.run_until(seconds(15), "news everywhere", is_known);
    world.check();

    // A later run that keeps the limit is as good as any.
    world.crash(3);
    world.boot(3, Session(2), &[0]);
    world.run(seconds(5));
    claim_many(&mut world, 3, MOST);
    world.run_until(seconds(15), "all equal", agree_on_all);
    world.check();
}

#[test]
fn what_is_told_of_one_past_the_limit_takes_no_more_room_however_often() {
    let mut greedy = Signer::new(name(3), Session(1));
    (0..MOST).for_each(|number| greedy.claim(endpoint(&format!("n3.{number}"))));
    let within = greedy.all();
    let mut world = World::new(92);
    world.limits.names_per_node_max = MOST;
    (0..3).for_each(|index| world.boot(index, Session(1), &[0]));
    world.run(seconds(10));
    let tell = |world: &mut World, names: Names| {
        let told = world.act(0, |control, now, _| {
            control.handle_message(now, &name(1), ControlMessage::Names(names))
        });
        assert_eq!(told, Ok(()), "hearsay is no fault");
        assert_eq!(held(directory(world, 0)), MOST);
    };
    tell(&mut world, greedy.names(within));
    for number in MOST..100 * MOST {
        let known = directory(&world, 0).head(&name(3));
        greedy.claim(endpoint(&format!("n3.{number}")));
        let delta = greedy.delta(&known);
        let whole = greedy.names(delta);
        let piece = Names {
            heads: vec![OwnerHead {
                version: Version(1_000_000),
                ..greedy.head()
            }],
            deltas: vec![OwnerDelta {
                proof: None,
                ..whole.deltas[0].clone()
            }],
            ..whole.clone()
        };
        tell(&mut world, piece);
        tell(&mut world, whole);
    }
    claim_many(&mut world, 1, MOST);
    let is_known = |world: &World| (0..3).all(|at| head(world, at, 1) == head(world, 1, 1));
    world.run_until(seconds(5), "the others' names", is_known);
    world.check();
}

fn claim_many(world: &mut World, index: usize, count: usize) {
    world.act(index, |control, now, unix| {
        for number in 0..count {
            let name = endpoint(&format!("n{index}.{number}"));
            let claimed = control.claim(now, unix, name, ClaimMode::Exclusive);
            claimed.unwrap();
        }
    });
}

fn directory(world: &World, index: usize) -> &Directory {
    world.node(index).control.directory()
}

fn held(directory: &Directory) -> usize {
    directory.names_held() + directory.releases_kept()
}

fn head(world: &World, at: usize, owner: usize) -> OwnerHead {
    directory(world, at).head(&name(owner))
}

fn agree_on_others(world: &World) -> bool {
    let owners = [0, 1, 2];
    let all = world.indices();
    all.iter().all(|&at| {
        owners
            .iter()
            .all(|&of| head(world, at, of) == head(world, of, of))
    })
}

fn agree_on_all(world: &World) -> bool {
    agree_on_others(world)
        && (world.indices().iter()).all(|&at| head(world, at, 3) == head(world, 3, 3))
}
