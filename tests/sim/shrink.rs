//! From a plan that breaks something to the least plan that breaks the same.
//!
//! Delta debugging (Zeller and Hildebrandt, 2002) over the steps: ever smaller pieces are left out for
//! as long as the same invariant breaks. Then fewer nodes, calm links, tasks in the order in which
//! they are ready, shorter faults and round times. As every decision has randomness of its own, what
//! is left out changes little of what is left.

use std::time::{Duration, Instant};

use crate::executor::Policy;
use crate::network::Link;
use crate::plan::{Action, Plan, Room, Step};
use crate::run::Lines;
use crate::verdict::{Invariant, Violation};

/// The least plan found that breaks what another one broke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shrunk {
    /// The plan.
    pub plan: Plan,
    /// How it breaks.
    pub violation: Violation,
    /// How many plans were run to find it.
    pub runs: u64,
}

impl Plan {
    /// Looks for the least plan that breaks the same invariant, for `time` at the most. `None` if
    /// this one breaks nothing.
    #[must_use]
    pub fn shrink(&self, time: Duration) -> Option<Shrunk> {
        let violation = self.run(Lines::Dropped).violation?;
        let mut search = Search {
            invariant: violation.invariant,
            best: Shrunk {
                plan: self.clone(),
                violation,
                runs: 1,
            },
            begun: Instant::now(),
            time,
        };
        let mut size = usize::MAX;
        while search.size() < size && !search.is_late() {
            size = search.size();
            search.leave_out_steps();
            search.leave_out_nodes();
            search.simplify();
            search.shorten_faults();
            search.round_times();
        }
        Some(search.best)
    }
}

struct Search {
    invariant: Invariant,
    best: Shrunk,
    begun: Instant,
    time: Duration,
}

impl Search {
    fn is_late(&self) -> bool {
        self.begun.elapsed() >= self.time
    }

    fn size(&self) -> usize {
        let plan = &self.best.plan;
        plan.steps.len() + plan.nodes as usize
    }

    /// Keeps a plan if it breaks the same.
    fn try_plan(&mut self, plan: Plan) -> bool {
        if self.is_late() || plan == self.best.plan {
            return false;
        }
        self.best.runs += 1;
        match plan.run(Lines::Dropped).violation {
            Some(violation) if violation.invariant == self.invariant => {
                self.best.plan = plan;
                self.best.violation = violation;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Leaves out pieces of the steps: halves, then quarters, down to single ones.
    fn leave_out_steps(&mut self) {
        let mut length = self.best.plan.steps.len();
        while length > 0 {
            let mut at = 0;
            while at < self.best.plan.steps.len() {
                let mut plan = self.best.plan.clone();
                let end = (at + length).min(plan.steps.len());
                plan.steps.drain(at..end);
                if !self.try_plan(plan) {
                    at += length;
                }
            }
            length /= 2;
        }
    }

    /// Leaves out the last nodes, as long as no step names them.
    fn leave_out_nodes(&mut self) {
        while self.best.plan.nodes > 1 {
            let mut plan = self.best.plan.clone();
            plan.nodes -= 1;
            plan.steps.retain(|step| step.is_within(plan.nodes));
            plan.core.retain(|node| node.0 < plan.nodes);
            if plan.core.len() < 2 {
                plan.core.clear();
            }
            if !self.try_plan(plan) {
                return;
            }
        }
    }

    /// Makes all simple that need not be what it is: calm links, tasks in their order, and so on.
    fn simplify(&mut self) {
        let simplifications: [fn(&mut Plan); 5] = [
            |plan| plan.link = Link::default(),
            |plan| plan.policy = Policy::Fifo,
            |plan| plan.spurious_wakes = 0,
            |plan| plan.room = Room::Default,
            |plan| plan.core.clear(),
        ];
        for simplify in simplifications {
            let mut plan = self.best.plan.clone();
            simplify(&mut plan);
            self.try_plan(plan);
        }
    }

    /// Lets steps happen at whole seconds, or else at whole milliseconds.
    fn round_times(&mut self) {
        for index in 0..self.best.plan.steps.len() {
            for unit in [Duration::from_secs(1), Duration::from_millis(1)] {
                let mut plan = self.best.plan.clone();
                let step = &mut plan.steps[index];
                let excess = step.at.as_nanos() % unit.as_nanos();
                step.at -= Duration::from_nanos(u64::try_from(excess).unwrap_or(0));
                plan.steps.sort_by_key(|step| step.at);
                if self.try_plan(plan) {
                    break;
                }
            }
        }
    }

    /// Makes each fault as short as it can be, in halves.
    fn shorten_faults(&mut self) {
        for index in 0..self.best.plan.steps.len() {
            loop {
                let mut plan = self.best.plan.clone();
                let Some(Step {
                    action:
                        Action::Disturb {
                            lasts: Some(lasts), ..
                        },
                    ..
                }) = plan.steps.get_mut(index)
                else {
                    break;
                };
                *lasts = Duration::from_millis(u64::try_from(lasts.as_millis() / 2).unwrap_or(0));
                if lasts.is_zero() || !self.try_plan(plan) {
                    break;
                }
            }
        }
    }
}
