//! The simulator's command line.

#![expect(
    clippy::print_stdout,
    reason = "a program whose output people and scripts read"
)]

mod bench;
#[cfg(grinta_mutants)]
mod mutants;

use std::fs;
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use grinta_tests::{Fault, Invariant, Lines, Mark, Plan, Swarm, Tier};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

/// Runs fabrics in virtual time: many seeds, or one again.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    call: Call,
    /// The mistake that the core is to make.
    #[cfg(grinta_mutants)]
    #[arg(long, global = true, value_parser = mutants::become_mutant)]
    mutant: Option<grinta_proto::Mutant>,
    /// Nodes do often what they may do and seldom have cause to, as each seed has it.
    #[cfg(grinta_mutants)]
    #[arg(long, global = true)]
    whims: bool,
}

#[derive(Debug, Subcommand)]
enum Call {
    /// Runs many seeds. The last line is `seeds N passed N failed N simulated_s S wall_s W`.
    Swarm(SwarmArguments),
    /// Runs one seed or plan. The last line is `hash H`.
    Replay(Box<ReplayArguments>),
    /// Looks for the least plan that breaks the same invariant, prints it, and saves it with a test.
    Shrink(ShrinkArguments),
    /// Prints the plan of a seed, or what happens under it, as text or as a picture.
    Show(ShowArguments),
    /// Prints what can go wrong in a plan, what must hold, and what long swarms have to come to.
    List,
    /// Prints how many simulated seconds pass in a second of one core's time.
    Bench(bench::BenchArguments),
    /// Looks for each mistake that the core can be made to make, and prints how it is found.
    #[cfg(grinta_mutants)]
    Mutants(mutants::MutantsArguments),
}

#[derive(Debug, Args)]
struct SwarmArguments {
    /// What is simulated: control or full.
    #[arg(long)]
    tier: Tier,
    /// Which seeds, as `0..1000`.
    #[arg(long, value_parser = seeds, required_unless_present = "minutes")]
    seeds: Option<Range<u64>>,
    /// For how long, instead of which seeds, or at the most.
    #[arg(long)]
    minutes: Option<f64>,
    /// How many run at once.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// A mark that no seed reaches is a failure, too. Those are told in any case.
    #[arg(long)]
    all_marks: bool,
}

#[derive(Debug, Args)]
struct ReplayArguments {
    #[command(flatten)]
    source: Source,
    /// Runs it twice; two histories that differ are a failure, and their first difference is told.
    #[arg(long)]
    twice: bool,
    /// What the nodes log goes to stderr, as in `debug` or `grinta::member=debug`.
    #[arg(long, value_name = "SPEC")]
    log: Option<Targets>,
}

#[derive(Debug, Args)]
struct ShrinkArguments {
    #[command(flatten)]
    source: Source,
    /// For how many seconds to look.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Where the plan is saved; among the regressions of `tests/scenarios/` unless said.
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct ShowArguments {
    #[command(flatten)]
    source: Source,
    /// What to show.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Where to; to stdout unless said.
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    /// The plan.
    Plan,
    /// A line for each transition, a column for each node.
    Text,
    /// A line for each event, packets and timers too.
    Log,
    /// A line of JSON for each transition and packet.
    Jsonl,
    /// A drawing.
    Svg,
    /// The drawing in a page that zooms and filters.
    Html,
}

/// Which plan.
#[derive(Debug, Args)]
struct Source {
    /// A file with a plan.
    #[arg(conflicts_with = "seed", required_unless_present = "seed")]
    plan: Option<PathBuf>,
    /// The plan of a seed.
    #[arg(long, requires = "tier")]
    seed: Option<u64>,
    /// What is simulated: control or full.
    #[arg(long)]
    tier: Option<Tier>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    #[cfg(grinta_mutants)]
    if arguments.whims {
        grinta_tests::have_whims();
    }
    let done = match arguments.call {
        Call::Swarm(arguments) => Ok(swarm(&arguments)),
        Call::Replay(arguments) => replay(*arguments),
        Call::Shrink(arguments) => shrink(&arguments),
        Call::Show(arguments) => show(&arguments),
        Call::List => Ok(list()),
        Call::Bench(arguments) => bench::bench(&arguments),
        #[cfg(grinta_mutants)]
        Call::Mutants(call) => Ok(mutants::mutants(arguments.mutant, &call)),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::from(2)
    })
}

fn swarm(arguments: &SwarmArguments) -> ExitCode {
    let swarm = Swarm {
        tier: arguments.tier,
        seeds: arguments.seeds.clone().unwrap_or(0..u64::MAX),
        time: arguments
            .minutes
            .map(|minutes| Duration::from_secs_f64(60.0 * minutes)),
        jobs: arguments.jobs,
    };
    let tier = swarm.tier;
    let tally = swarm.run(|seed, violation| {
        println!(
            "seed {seed}: {}\n  replay it with: {REPLAY} --seed {seed} --tier {tier}",
            violation.report()
        );
    });
    let unreached: Vec<_> = Mark::of(tier)
        .filter(|mark| !tally.marks.contains(mark))
        .collect();
    for mark in &unreached {
        println!("never reached: {mark}: {}", mark.words());
    }
    let failed = tally.failed.len();
    println!(
        "seeds {} passed {} failed {failed} simulated_s {} wall_s {:.1}",
        tally.passed + failed as u64,
        tally.passed,
        tally.simulated.as_secs(),
        tally.wall.as_secs_f64(),
    );
    let is_whole = unreached.is_empty() || !arguments.all_marks;
    exit_code(failed == 0 && is_whole)
}

fn replay(arguments: ReplayArguments) -> Result<ExitCode, String> {
    let plan = arguments.source.plan()?;
    if let Some(targets) = arguments.log {
        let lines = tracing_subscriber::fmt::layer()
            .without_time()
            .with_writer(io::stderr);
        tracing_subscriber::registry()
            .with(lines.with_filter(targets))
            .init();
    }
    let lines = if arguments.twice {
        Lines::Kept
    } else {
        Lines::Dropped
    };
    let outcome = plan.run(lines);
    let mut holds = outcome.violation.is_none();
    if let Some(violation) = &outcome.violation {
        println!("{}", violation.report());
    }
    if arguments.twice {
        let again = plan.run_again(lines);
        holds &= again == outcome;
        if let Some(first) = outcome.first_difference(&again) {
            println!("two runs differ: {first}");
        }
    }
    println!("hash {}", outcome.hash);
    Ok(exit_code(holds))
}

fn shrink(arguments: &ShrinkArguments) -> Result<ExitCode, String> {
    let plan = arguments.source.plan()?;
    let time = Duration::from_secs(arguments.seconds);
    let Some(shrunk) = plan.shrink(time) else {
        return Err("this plan breaks nothing".to_owned());
    };
    let violation = &shrunk.violation;
    let text = format!("# {violation}\n{}", shrunk.plan);
    print!("{text}");
    println!("after {} runs: {violation}", shrunk.runs);
    let name = format!("{}_{}_{}", violation.invariant, plan.tier, plan.seed).to_lowercase();
    let place = match &arguments.out {
        Some(place) => place.clone(),
        None => Path::new(REGRESSIONS).join(format!("{name}.plan")),
    };
    write(Some(&place), &text)?;
    println!("saved as {}", place.display());
    if arguments.out.is_none() {
        println!("its test, among the regressions of tests/simulated/scenarios.rs:\n    {name},");
    }
    Ok(ExitCode::SUCCESS)
}

fn show(arguments: &ShowArguments) -> Result<ExitCode, String> {
    let plan = arguments.source.plan()?;
    let run = || plan.run(Lines::Kept);
    let text = match arguments.format {
        Format::Plan => plan.to_string(),
        Format::Text => run().table(&plan),
        Format::Jsonl => run().json_lines(),
        Format::Svg => run().svg(&plan),
        Format::Html => run().html(&plan),
        Format::Log => {
            let outcome = run();
            let violation = outcome.violation.map(|violation| violation.to_string());
            outcome
                .lines
                .into_iter()
                .chain(violation)
                .map(|line| line + "\n")
                .collect()
        }
    };
    write(arguments.out.as_deref(), &text)?;
    Ok(ExitCode::SUCCESS)
}

fn list() -> ExitCode {
    let faults = Fault::examples();
    println!("{} kinds of fault, each with an example:", faults.len());
    for (verb, fault) in &faults {
        println!("  {verb:<28} {fault}");
    }
    println!("{} invariants:", Invariant::ALL.len());
    for invariant in Invariant::ALL {
        println!("  {:<4} {}", invariant.to_string(), invariant.words());
    }
    for tier in [Tier::Control, Tier::Full] {
        println!("{} marks of the {tier} tier:", Mark::of(tier).count());
        for mark in Mark::of(tier) {
            println!("  {:<20} {}", mark.to_string(), mark.words());
        }
    }
    ExitCode::SUCCESS
}

/// Writes to a file, or to stdout if none is named.
fn write(path: Option<&Path>, text: &str) -> Result<(), String> {
    let Some(path) = path else {
        return match io::stdout().write_all(text.as_bytes()) {
            // Whoever reads has seen enough.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.to_string()),
            Ok(()) | Err(_) => Ok(()),
        };
    };
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

impl Source {
    fn plan(&self) -> Result<Plan, String> {
        if let Some(seed) = self.seed {
            let tier = self.tier.unwrap_or(Tier::Control);
            return Ok(Plan::of_seed(tier, seed));
        }
        let path = self
            .plan
            .as_deref()
            .ok_or("say which plan, or which seed")?;
        let place = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = fs::read_to_string(path).map_err(|error| place(&error))?;
        Plan::parse(&text).map_err(|error| place(&error))
    }
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let (start, end) = text.split_once("..").ok_or("say which seeds as 0..1000")?;
    let parse = |number: &str| {
        number
            .parse()
            .map_err(|_| format!("`{number}` is no number"))
    };
    Ok(parse(start)?..parse(end)?)
}

fn exit_code(holds: bool) -> ExitCode {
    if holds {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Where plans are kept that once broke something.
const REGRESSIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/regressions");

const REPLAY: &str = "cargo run -p grinta-tests --bin sim -- replay";
