//! The program `sim`, as people and scripts call it.

use std::fs;
use std::process::{Command, Output};

const PLAN: &str = "nodes 3\nchaos 30s\nat 10s cut n0 from n1,n2 for 10s\n";

/// No packet ever arrives, and none may be missed for long.
const BROKEN: &str = "nodes 2\nchaos 30s\nlink loss 100%\n";

#[test]
fn a_swarm_counts_its_seeds_on_the_last_line() {
    let output = sim(&[
        "swarm", "--tier", "control", "--seeds", "0..3", "--jobs", "1",
    ]);
    let last = last_line(&output);
    let words: Vec<_> = last.split(' ').collect();
    assert_eq!(
        words[..6],
        ["seeds", "3", "passed", "3", "failed", "0"],
        "{last}"
    );
    assert_eq!((words[6], words[8]), ("simulated_s", "wall_s"), "{last}");
    assert!(words[7].parse::<u64>().unwrap() > 200, "{last}");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_replay_ends_with_its_hash() {
    let place = file("a_replay", PLAN);
    let once = sim(&["replay", &place]);
    let twice = sim(&["replay", &place, "--twice"]);
    let hash = last_line(&once);
    assert_eq!(hash.strip_prefix("hash ").map(str::len), Some(16), "{hash}");
    assert_eq!(last_line(&twice), hash);
    assert_eq!(
        (once.status.code(), twice.status.code()),
        (Some(0), Some(0))
    );
}

#[test]
fn what_breaks_is_told_and_exits_with_one() {
    let output = sim(&["replay", &file("what_breaks", BROKEN)]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains(" broken at "), "{text}");
    for node in ["\n    n0 (run 1) runs; ", "\n    n1 (run 1) runs; "] {
        assert!(text.contains(node), "{text}");
    }
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_broken_plan_is_shrunk_to_a_plan_that_breaks_the_same() {
    let (broken, plan) = (file("a_broken_plan", BROKEN), file("a_shrunk_plan", ""));
    let output = sim(&["shrink", &broken, "--seconds", "5", "--out", &plan]);
    assert_eq!(last_line(&output), format!("saved as {plan}"));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.starts_with(&fs::read_to_string(&plan).unwrap()),
        "{text}"
    );
    let invariant = text.strip_prefix("# ").unwrap().split(' ').next().unwrap();
    let again = sim(&["replay", &plan]);
    let told = String::from_utf8_lossy(&again.stdout);
    assert!(told.starts_with(invariant), "{text}{told}");
    let whole = sim(&["shrink", &file("a_whole_plan", PLAN)]);
    assert_eq!(whole.status.code(), Some(2));
}

#[test]
fn a_list_tells_what_can_go_wrong_and_what_must_hold() {
    let output = sim(&["list"]);
    let text = String::from_utf8_lossy(&output.stdout);
    let number = |of: &str| {
        let line = text.lines().find(|line| line.contains(of)).unwrap();
        line.split(' ').next().unwrap().parse::<u32>().unwrap()
    };
    assert!(number(" kinds of fault") >= 28 + 8, "{text}");
    assert!(number(" invariants") >= 35, "{text}");
    assert!(number(" marks of the full tier") >= 30, "{text}");
    // What is listed as an example is what a plan may say.
    let examples = text
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with(' '));
    let steps = examples.map(|line| format!("at 1s {}\n", line.split_at(31).1));
    let plan = format!(
        "tier full\nnodes 4\nchaos 2s\n{}",
        steps.collect::<String>()
    );
    let shown = sim(&["show", &file("a_list", &plan), "--format", "plan"]);
    assert_eq!(shown.status.code(), Some(0), "{plan}");
}

#[test]
fn a_call_that_makes_no_sense_exits_with_two() {
    for call in [
        &["swarm", "--tier", "control", "--seeds", "3"][..],
        &["replay", "--seed", "1"],
        &["replay", "/nowhere/a.plan"],
        &["show", "--seed", "1", "--tier", "medium"],
    ] {
        let output = sim(call);
        assert_eq!(output.status.code(), Some(2), "{call:?}");
        assert!(!output.stderr.is_empty(), "{call:?}");
    }
}

#[test]
fn a_failure_of_a_script_leaves_its_picture_in_a_file() {
    let (plan, out) = (file("a_picture", PLAN), file("a_picture_out", ""));
    let output = sim(&["show", &plan, "--format", "html", "--out", &out]);
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout.is_empty());
    let page = fs::read_to_string(out).unwrap();
    assert!(page.starts_with("<!doctype html>"), "{}", &page[..100]);
}

fn sim(arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_sim");
    Command::new(program).args(arguments).output().unwrap()
}

fn last_line(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().last().unwrap_or_default().to_owned()
}

/// A file of these contents, of this test alone.
fn file(name: &str, contents: &str) -> String {
    let place = format!("{}/{name}", env!("CARGO_TARGET_TMPDIR"));
    fs::write(&place, contents).unwrap();
    place
}
