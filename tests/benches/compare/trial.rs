//! One measurement: both sides in turn, until the time is used.

use std::time::{Duration, Instant};

/// What a row measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// More is better.
    PerSecond(&'static str),
    /// Less is better.
    Nanoseconds,
}

/// The values of one side, one for each turn.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(Vec<f64>);

/// Grinta and its rival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Grinta,
    Rival,
}

impl Samples {
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() % 2 {
            0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
            _ => sorted[middle],
        }
    }

    pub(crate) fn least(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub(crate) fn most(&self) -> f64 {
        self.0.iter().copied().fold(0.0, f64::max)
    }
}

/// Runs both sides in turn. `run` does so many rounds of the work and tells how long they took; each
/// side gets as many rounds as fill a turn, found by doubling, which warms it up as well.
///
/// Returns for each turn what `run` returned and its number of rounds.
pub(crate) fn alternate<T>(
    budget: Duration,
    mut run: impl FnMut(Side, u64) -> (Duration, T),
) -> Vec<(Side, u64, T)> {
    let begin = Instant::now();
    let turn = budget / (2 * TURNS + 4);
    let sides = [Side::Grinta, Side::Rival];
    let rounds = sides.map(|side| {
        let mut rounds = 1;
        loop {
            let (elapsed, _) = run(side, rounds);
            if elapsed >= turn / 2 {
                break rounds;
            }
            let missing = turn.as_secs_f64() / elapsed.as_secs_f64().max(1e-9);
            rounds = (rounds as f64 * missing.clamp(1.5, 16.0)) as u64 + 1;
        }
    });
    let mut turns = Vec::new();
    while turns.len() < 2 * TURNS_MIN || begin.elapsed() < budget {
        for (side, rounds) in sides.into_iter().zip(rounds) {
            let (_, told) = run(side, rounds);
            turns.push((side, rounds, told));
        }
    }
    turns
}

/// Nanoseconds that so many percent of the times do not exceed.
pub(crate) fn percentile(times: &mut [Duration], percent: usize) -> f64 {
    times.sort_unstable();
    let index = (times.len() * percent / 100).min(times.len() - 1);
    times[index].as_nanos() as f64
}

/// How many turns each side should get within the budget.
const TURNS: u32 = 7;
/// How many it gets at the least.
const TURNS_MIN: usize = 3;
