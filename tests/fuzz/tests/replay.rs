//! Every target, on a stable compiler: its corpus, what once broke it, and inputs drawn from seeds.
//!
//! `FUZZ_N` sets how many inputs are drawn for each target; without it there are as many as a
//! second or two allows. A failure names the input and leaves it in a file.

#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::{env, fs};

use grinta_fuzz::seeds::seeds;
use grinta_fuzz::{TARGETS, Target, Tier};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt, SeedableRng};

macro_rules! targets {
    ($($name:ident)+) => {
        $(
            #[test]
            fn $name() {
                replay(stringify!($name));
            }
        )+

        const TESTED: &[&str] = &[$(stringify!($name)),+];
    };
}

targets! {
    certificate
    control_messages
    directory_ops
    frame_bytes
    frame_structured
    framing_chunks
    name_rules
    node_certified_peer
    node_pair
    node_unauthenticated
    sim_control
    swim_packet
}

#[test]
fn every_target_has_a_binary_a_corpus_and_a_test() {
    let names: BTreeSet<_> = TARGETS
        .iter()
        .map(|target| target.name.to_owned())
        .collect();
    let tested: BTreeSet<_> = TESTED.iter().map(|&name| name.to_owned()).collect();
    assert_eq!(tested, names);
    let listed = |directory: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(fuzz().join(directory)).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(listed("fuzz_targets"), names);
    assert_eq!(listed("corpus"), names);
    assert!(listed("regressions").is_subset(&names));
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for name in names {
        assert!(
            manifest.contains(&format!("name = \"{name}\"")),
            "{name} has no binary"
        );
    }
}

#[test]
fn no_corpus_outgrows_the_repository() {
    for target in TARGETS {
        let size: usize = corpus(target).iter().map(|(_, input)| input.len()).sum();
        assert!(
            size <= CORPUS_LEN_MAX,
            "{}: {size} bytes; run cargo fuzz cmin",
            target.name
        );
    }
}

fn replay(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let corpus = corpus(target);
    for (path, input) in &corpus {
        judge(target, input, &format!("the input {}", path.display()));
    }
    let mut stock: Vec<Vec<u8>> = corpus.into_iter().map(|(_, input)| input).collect();
    stock.extend(seeds(target));
    for seed in 0..inputs(target.tier) {
        let input = draw(seed, &stock);
        judge(target, &input, &format!("the input of seed {seed}"));
    }
}

/// An input near one that is known, or far from any.
fn draw(seed: u64, stock: &[Vec<u8>]) -> Vec<u8> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut input = if rng.random_ratio(1, 4) {
        let mut input = vec![0; rng.random_range(0..512)];
        rng.fill_bytes(&mut input);
        input
    } else {
        stock.choose(&mut rng).unwrap().clone()
    };
    for _ in 0..rng.random_range(0..6) {
        let at = rng.random_range(0..=input.len());
        match rng.random_range(0..4) {
            0 => input.truncate(at),
            1 => input.insert(at, rng.random()),
            2 => {
                let other = stock.choose(&mut rng).unwrap();
                let from = rng.random_range(0..=other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            _ => {
                if let Some(byte) = input.get_mut(at) {
                    *byte = rng.random();
                }
            }
        }
    }
    input
}

fn judge(target: &Target, input: &[u8], what: &str) {
    let run = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    if let Err(panic) = run {
        let path = env::temp_dir().join(format!("grinta-fuzz-{}", target.name));
        fs::write(&path, input).unwrap();
        eprintln!(
            "{what} breaks a law; it is in {path}; to look closer:\n\
             cargo +nightly fuzz run {name} {path}",
            path = path.display(),
            name = target.name,
        );
        resume_unwind(panic);
    }
}

/// What is kept of a target's inputs: those that reach all that is known to be reached, which the
/// fuzzer renames as it likes, and those with a name of their own, which once broke a law.
fn corpus(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let directories = ["corpus", "regressions"].map(|kind| fuzz().join(kind).join(target.name));
    let directories = directories.iter().filter(|directory| directory.exists());
    let entries = directories.flat_map(|directory| fs::read_dir(directory).unwrap());
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let input = fs::read(&path).unwrap();
        (path, input)
    };
    paths.into_iter().map(read).collect()
}

fn inputs(tier: Tier) -> u64 {
    let given = env::var("FUZZ_N").ok();
    let given = given.map(|number| number.parse().expect("FUZZ_N is a number"));
    given.unwrap_or(match tier {
        Tier::Codec => 5_000,
        Tier::Structure => 500,
        Tier::Node => 100,
        Tier::Simulation => 20,
    })
}

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

const CORPUS_LEN_MAX: usize = 2 << 20;
