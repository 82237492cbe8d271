//! Looks for all mutants, each in a process of its own: some of them end it.

use std::env;
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use clap::Args;
use grinta_proto::{Mutant, set_mutant};
use grinta_tests::{hunt, tier_of};

#[derive(Debug, Args)]
pub(crate) struct MutantsArguments {
    /// How many seeds each has at the most.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// How many are looked for at once.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
}

/// Looks for the mutant that this process is to be, and says on stderr which seed runs; or for all.
pub(crate) fn mutants(mutant: Option<Mutant>, arguments: &MutantsArguments) -> ExitCode {
    if let Some(mutant) = mutant {
        let find = hunt(mutant, arguments.seeds, |seed| eprintln!("{RUNS}{seed}"));
        return match find {
            Some(find) => {
                let (seed, tier) = (find.seed, tier_of(mutant));
                println!("found at {tier} seed {seed} by {}", find.violation);
                ExitCode::SUCCESS
            }
            None => ExitCode::FAILURE,
        };
    }
    let (next, all_found) = (AtomicUsize::new(0), AtomicBool::new(true));
    let work = || {
        while let Some(mutant) = Mutant::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
            let found = look_for(*mutant, arguments.seeds);
            all_found.fetch_and(found.is_some(), Ordering::Relaxed);
            println!("{mutant:?} {}", found.as_deref().unwrap_or("NOT FOUND"));
        }
    };
    thread::scope(|scope| {
        for _ in 0..arguments.jobs.max(1) {
            scope.spawn(work);
        }
    });
    super::exit_code(all_found.into_inner())
}

/// Looks for a mutant in another process, and returns how it was found.
fn look_for(mutant: Mutant, seeds: u64) -> Option<String> {
    let program = env::current_exe().expect("this program is somewhere");
    let mut child = Command::new(program)
        .args(["--mutant", &format!("{mutant:?}"), "mutants"])
        .args(["--seeds", &seeds.to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the system has a process");
    let (mut seed, mut tripped) = (String::new(), None);
    let stderr = child.stderr.take().expect("it is piped");
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        if let Some(number) = line.strip_prefix(RUNS) {
            number.clone_into(&mut seed);
        } else if line.starts_with(TRIPWIRE) {
            let tier = tier_of(mutant);
            tripped = Some(format!("found at {tier} seed {seed} by the {line}"));
        }
    }
    let output = child.wait_with_output().expect("it is our child");
    let found = String::from_utf8_lossy(&output.stdout);
    let found = output.status.success().then(|| found.trim_end().to_owned());
    found.or(tripped)
}

/// Reads which mutant this process is to be, and makes it that.
pub(crate) fn become_mutant(name: &str) -> Result<Mutant, String> {
    let mutant = Mutant::ALL
        .into_iter()
        .find(|mutant| format!("{mutant:?}") == name)
        .ok_or_else(|| format!("there is no mutant {name}"))?;
    set_mutant(mutant);
    Ok(mutant)
}

/// How a process that looks for one says which seed runs.
const RUNS: &str = "seed ";

/// How the tripwire begins to say what it was touched by.
const TRIPWIRE: &str = "tripwire: ";
