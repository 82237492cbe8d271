//! Stories that people wrote, one plan each in `tests/scenarios/`, what seeds once broke, and the
//! first of all seeds.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use grinta_tests::{Invariant, Lines, NodeId, Plan, Swarm, Tier};

/// A test for each plan of a directory.
macro_rules! plans {
    ($module:ident in $directory:literal: $($scenario:ident,)+) => {
        mod $module {
            $(
                #[test]
                fn $scenario() {
                    super::tell(concat!($directory, stringify!($scenario), ".plan"));
                }
            )+

            /// Each file has its test.
            #[test]
            fn every_plan_is_told() {
                let told = [$(concat!(stringify!($scenario), ".plan")),+];
                assert_eq!(super::plans_in($directory), told.map(str::to_owned).into());
            }
        }
    };
}

plans! { regressions in "scenarios/regressions/":
    m2_control_9848,
    r2_control_6583,
}

plans! { stories in "scenarios/":
    a_core_lives_on,
    after_a_long_one_way_cut,
    a_dial_while_its_holder_is_away,
    clock_gone_back,
    crash_during_a_partition,
    duplicates_and_latecomers,
    five_percent_loss,
    flapping,
    frozen_nodes,
    half_partition,
    isolated_node,
    join_storm,
    leave_and_return,
    moved_nodes,
    name_conflict_across_a_cut,
    not_transitive,
    one_way_cut,
    power_cut,
    release_behind_a_cut,
    ring,
    rolling_restart,
    slow_links,
    standby_takes_over,
}

#[test]
fn the_first_seeds_hold() {
    for (tier, seeds) in [(Tier::Control, 60), (Tier::Full, 20)] {
        let swarm = Swarm {
            tier,
            seeds: 0..seeds,
            time: None,
            jobs: 2,
        };
        let tally = swarm.run(|seed, violation| println!("{tier} seed {seed}: {violation}"));
        assert_eq!(tally.failed, []);
        assert_eq!(tally.passed, seeds);
    }
}

#[test]
fn two_runs_of_a_plan_are_the_same_line_by_line() {
    for tier in [Tier::Control, Tier::Full] {
        let plan = Plan::of_seed(tier, 7);
        let outcome = plan.run(Lines::Kept);
        assert_eq!(outcome, plan.run(Lines::Kept));
        assert_eq!(outcome.lines.len() as u64, outcome.events);
        let other = Plan::of_seed(tier, 8).run(Lines::Dropped);
        assert_ne!(outcome.hash, other.hash);
    }
}

/// A node that is cut off for good breaks what must hold after a heal: the oracle sees it.
#[test]
fn what_does_not_hold_is_found() {
    let mut plan = Plan::parse("nodes 3\nchaos 30s\nat 10s cut n0 from n1,n2").unwrap();
    let healed = plan.run(Lines::Dropped);
    assert_eq!(healed.violation, None);
    plan.link.loss = 1_000_000;
    let violation = plan.run(Lines::Dropped).violation.unwrap();
    assert_eq!(violation.invariant, Invariant::M4, "{violation}");
    for tier in [Tier::Control, Tier::Full] {
        plan.tier = tier;
        plan.core = vec![NodeId(0), NodeId(1)];
        let violation = plan.run(Lines::Dropped).violation.unwrap();
        assert!(violation.what.ends_with("both of the core"), "{violation}");
        assert_eq!(violation.at, Duration::from_secs(45), "{violation}");
    }
}

/// Of many faults the one is found that matters, with as few nodes as it takes.
#[test]
fn a_plan_is_shrunk_to_what_matters() {
    let mut plan = Plan::of_seed(Tier::Control, 3);
    plan.link.loss = 1_000_000;
    let broken = plan.run(Lines::Dropped).violation.unwrap();
    let shrunk = plan.shrink(Duration::from_secs(60)).unwrap();
    assert_eq!(shrunk.violation.invariant, broken.invariant);
    let text = shrunk.plan.to_string();
    assert!(shrunk.plan.steps.len() < plan.steps.len(), "{text}");
    assert!(shrunk.plan.nodes < plan.nodes, "{text}");
    let again = Plan::parse(&text).unwrap().run(Lines::Dropped);
    assert_eq!(again.violation, Some(shrunk.violation));
    assert_eq!(Plan::of_seed(Tier::Control, 0).shrink(Duration::ZERO), None);
}

fn tell(path: &str) {
    let text = fs::read_to_string(package().join(path)).unwrap();
    let plan = Plan::parse(&text).unwrap();
    if let Some(violation) = plan.run(Lines::Dropped).violation {
        panic!("{violation}\nreplay it with: sim replay tests/{path}");
    }
}

fn plans_in(directory: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(package().join(directory)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".plan")).collect()
}

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
