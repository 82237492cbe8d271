//! How fast the simulator is.

use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use grinta_tests::{Lines, Plan, Tier};
use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};

#[derive(Debug, Args)]
pub(crate) struct BenchArguments {
    /// What is simulated: control or full; both unless said.
    #[arg(long)]
    tier: Option<Tier>,
    /// Of how many nodes, instead of all sizes.
    #[arg(long)]
    nodes: Option<u32>,
}

/// Runs fabrics in which nothing goes wrong, each node of which claims a name and, in the full tier,
/// opens a flow each second. One run at a time, on one core.
pub(crate) fn bench(arguments: &BenchArguments) -> Result<ExitCode, String> {
    let tiers = [
        (Tier::Full, &[3, 5, 10, 20, 50][..]),
        (Tier::Control, &[5, 50, 200, 1000]),
    ];
    let tiers = tiers
        .into_iter()
        .filter(|(tier, _)| arguments.tier.is_none_or(|wanted| wanted == *tier));
    for (tier, sizes) in tiers {
        let sizes = match &arguments.nodes {
            Some(nodes) => std::slice::from_ref(nodes),
            None => sizes,
        };
        for &nodes in sizes {
            let plan = Plan::parse(&quiet(tier, nodes)).map_err(|error| error.to_string())?;
            let before = time_of_process()?;
            let outcome = plan.run(Lines::Dropped);
            let spent = time_of_process()? - before;
            if let Some(violation) = outcome.violation {
                return Err(format!("{tier} tier of {nodes} nodes: {violation}"));
            }
            let simulated = outcome.simulated.as_secs_f64();
            println!(
                "{tier} nodes {nodes} simulated_s {simulated:.0} cpu_s {:.2} simulated_s_per_cpu_s {:.1}",
                spent.as_secs_f64(),
                simulated / spent.as_secs_f64()
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A plan in which nothing goes wrong.
fn quiet(tier: Tier, nodes: u32) -> String {
    let mut plan = format!("tier {tier}\nseed 1\nnodes {nodes}\nlink latency 1ms\nchaos 80s\n");
    for node in 0..nodes {
        writeln!(plan, "at {CLAIMS_AT}s claim n{node} service-{node}").expect("a string takes it");
    }
    let seconds = if tier == Tier::Full { FLOWS } else { 0..0 };
    for second in seconds {
        for node in 0..nodes {
            let to = (node + 1) % nodes;
            writeln!(
                plan,
                "at {second}s open n{node} service-{to} messages 10 bytes 100 every 0s then finish"
            )
            .expect("a string takes it");
        }
    }
    plan
}

fn time_of_process() -> Result<Duration, String> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).map_err(|error| error.to_string())?;
    let micros = |part: fn(&Usage) -> TimeVal| {
        Duration::from_micros(part(&usage).num_microseconds().unsigned_abs())
    };
    Ok(micros(Usage::user_time) + micros(Usage::system_time))
}

const CLAIMS_AT: u32 = 10;

/// In which seconds flows are opened: until all is to be quiet.
const FLOWS: std::ops::Range<u32> = 15..80;
