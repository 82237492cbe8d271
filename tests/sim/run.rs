//! Running plans: one on a thread of its own, or many on several.

use std::collections::BTreeSet;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::draw::{Draws, Purpose};
use crate::history::Hash;
use crate::marks::{self, Mark};
use crate::plan::{Plan, Tier};
use crate::verdict::{Invariant, Outcome, Violation};
use crate::{control, full};

/// Whether a run keeps its history as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lines {
    /// A line for each event, and the scenes of which pictures are made.
    Kept,
    /// The hash alone.
    Dropped,
}

/// Which run of a plan it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Take {
    First,
    Second,
}

/// Whether the nodes of this process have whims.
#[cfg(grinta_mutants)]
static HAVE_WHIMS: std::sync::OnceLock<()> = std::sync::OnceLock::new();

/// From here on nodes do often what they may do and seldom have cause to, as each plan's seed has it.
#[cfg(grinta_mutants)]
pub fn have_whims() {
    HAVE_WHIMS.get_or_init(|| ());
}

/// Many seeds to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swarm {
    /// What is simulated.
    pub tier: Tier,
    /// Which seeds.
    pub seeds: Range<u64>,
    /// Begin no seed after so much real time; `None` for all of them.
    pub time: Option<Duration>,
    /// How many run at once.
    pub jobs: usize,
}

/// What became of many seeds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many seeds held.
    pub passed: u64,
    /// The seeds that broke something, in their order, and what.
    pub failed: Vec<(u64, Violation)>,
    /// What any of them came to of what some have to come to.
    pub marks: BTreeSet<Mark>,
    /// How much time passed in all simulations together.
    pub simulated: Duration,
    /// How much real time passed.
    pub wall: Duration,
}

impl Plan {
    /// Runs the plan on a fresh thread, on which nothing may ask the system for time or randomness,
    /// to its end or to the first invariant that breaks.
    ///
    /// # Panics
    /// If the system has no thread to give.
    #[must_use]
    pub fn run(&self, lines: Lines) -> Outcome {
        on_fresh_thread(|| self.run_here(lines, Take::First))
    }

    /// Runs the plan once more. The outcome is the same, though the hash maps keep their entries
    /// in another order: nothing may depend on it.
    ///
    /// # Panics
    /// If the system has no thread to give.
    #[must_use]
    pub fn run_again(&self, lines: Lines) -> Outcome {
        on_fresh_thread(|| self.run_here(lines, Take::Second))
    }

    fn run_here(&self, lines: Lines, take: Take) -> Outcome {
        let keys = |n| {
            Draws::new(self.seed)
                .draw(Purpose::HashKeys, take as u64, 0, n)
                .word()
        };
        grinta_tripwire::seed_hash_maps([keys(0), keys(1)]);
        let run = match self.tier {
            Tier::Control => control::run,
            Tier::Full => full::run,
        };
        marks::take_reached();
        #[cfg(grinta_mutants)]
        grinta_proto::set_whims(HAVE_WHIMS.get().map(|()| self.seed));
        let mut outcome = None;
        // A run that panics leaves nothing behind that anybody looks at.
        let held = allocation_counter::measure(|| {
            outcome = Some(catch_unwind(AssertUnwindSafe(|| run(self, lines))));
        });
        let outcome = outcome.expect("it ran");
        let mut outcome = outcome.unwrap_or_else(|panic| {
            let words = panic.downcast_ref::<String>().map(String::as_str);
            let words = words.or_else(|| panic.downcast_ref::<&str>().copied());
            Outcome {
                hash: Hash::new(),
                events: 0,
                simulated: Duration::ZERO,
                violation: Some(Violation::new(
                    Invariant::P1,
                    Duration::ZERO,
                    words.unwrap_or("a panic without words").to_owned(),
                )),
                marks: BTreeSet::new(),
                lines: Vec::new(),
                scenes: Vec::new(),
            }
        });
        outcome.marks = marks::take_reached();
        if lines == Lines::Dropped && outcome.violation.is_none() && held.bytes_current > LEFT_MAX {
            let what = format!(
                "{} bytes in {} pieces are left of a run that is over",
                held.bytes_current, held.count_current
            );
            outcome.violation = Some(Violation::new(Invariant::R4, outcome.simulated, what));
        }
        outcome
    }
}

impl Swarm {
    /// Runs all seeds; `report` hears of each that fails as it does. A failure is run once more
    /// before it is believed.
    pub fn run(&self, report: impl Fn(u64, &Violation) + Sync) -> Tally {
        let begun = Instant::now();
        let next = AtomicU64::new(self.seeds.start);
        let tally = Mutex::new(Tally::default());
        let work = || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                let is_late = self.time.is_some_and(|time| begun.elapsed() >= time);
                if seed >= self.seeds.end || is_late {
                    break;
                }
                let plan = Plan::of_seed(self.tier, seed);
                let outcome = judge(seed, &plan);
                let mut tally = tally.lock().expect("no holder panics");
                tally.simulated += outcome.simulated;
                tally.marks.extend(&outcome.marks);
                match outcome.violation {
                    None => tally.passed += 1,
                    Some(violation) => {
                        report(seed, &violation);
                        tally.failed.push((seed, violation));
                    }
                }
            }
        };
        thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                scope.spawn(work);
            }
        });
        let mut tally = tally.into_inner().expect("no holder panics");
        tally.failed.sort_by_key(|(seed, _)| *seed);
        tally.wall = begun.elapsed();
        tally
    }
}

/// Runs a seed's plan. A tenth of them runs twice, and every failure does: the two must not differ.
/// If they do, two further runs tell by what event first.
pub(crate) fn judge(seed: u64, plan: &Plan) -> Outcome {
    let mut outcome = plan.run(Lines::Dropped);
    if outcome.violation.is_none() && !seed.is_multiple_of(10) {
        return outcome;
    }
    let again = plan.run_again(Lines::Dropped);
    if again != outcome {
        let (one, other) = (plan.run(Lines::Kept), plan.run_again(Lines::Kept));
        let first = one.first_difference(&other);
        let first = first.unwrap_or_else(|| "though two more runs are the same".to_owned());
        let what = format!(
            "two runs differ, {} and {}: {first}",
            outcome.hash, again.hash
        );
        outcome.violation = Some(Violation::new(Invariant::P2, outcome.simulated, what));
    }
    outcome
}

fn on_fresh_thread(run: impl FnOnce() -> Outcome + Send) -> Outcome {
    thread::scope(|scope| {
        let run = thread::Builder::new().spawn_scoped(scope, run);
        let joined = run.expect("the system has a thread").join();
        joined.expect("panics of the run are caught")
    })
}

/// What a run may leave behind, in bytes: what the process makes once, as tables of the TLS library
/// and places that log. A connection that is left weighs more.
const LEFT_MAX: i64 = 16 * 1024;
