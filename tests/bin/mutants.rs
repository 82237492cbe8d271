//! Looks for all mutants, each in a process of its own: some of them end it.

use std::env;
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use clap::Args;
use grinta_proto::Mutant;
use grinta_tests::hunt;

#[derive(Debug, Args)]
pub(crate) struct MutantsArguments {
    /// How many seeds each has at the most.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// How many are looked for at once.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Look for this one alone, in this process, and say on stderr which seed runs.
    #[arg(long, value_name = "MUTANT")]
    only: Option<String>,
}

pub(crate) fn mutants(arguments: &MutantsArguments) -> Result<ExitCode, String> {
    if let Some(only) = &arguments.only {
        let mutant = Mutant::ALL
            .into_iter()
            .find(|mutant| format!("{mutant:?}") == *only)
            .ok_or_else(|| format!("there is no mutant {only}"))?;
        let find = hunt(mutant, arguments.seeds, |seed| eprintln!("{RUNS}{seed}"));
        return Ok(match find {
            Some(find) => {
                println!("found at seed {} by {}", find.seed, find.violation);
                ExitCode::SUCCESS
            }
            None => ExitCode::FAILURE,
        });
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
    Ok(super::exit_code(all_found.into_inner()))
}

/// Looks for a mutant in another process, and returns how it was found.
fn look_for(mutant: Mutant, seeds: u64) -> Option<String> {
    let program = env::current_exe().expect("this program is somewhere");
    let mut child = Command::new(program)
        .args(["mutants", "--only", &format!("{mutant:?}")])
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
            tripped = Some(format!("found at seed {seed} by the {line}"));
        }
    }
    let output = child.wait_with_output().expect("it is our child");
    let found = String::from_utf8_lossy(&output.stdout);
    let found = output.status.success().then(|| found.trim_end().to_owned());
    found.or(tripped)
}

/// How a process that looks for one says which seed runs.
const RUNS: &str = "seed ";

/// How the tripwire begins to say what it was touched by.
const TRIPWIRE: &str = "tripwire: ";
