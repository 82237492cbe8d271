//! Sleeps: a task's timers are timers of the node, and so of whatever drives it.

use std::time::{Duration, Instant};

use crate::node::timers::TimerKey;
use crate::node::{Command, Event, Node, Timer};

/// Names a sleep; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SleepId(pub(crate) u64);

/// A sleep under way.
#[derive(Debug)]
pub(super) struct Sleeping {
    timer: TimerKey,
    period: Option<Duration>,
}

impl Node {
    /// Ends with [`Event::Woken`] when `duration` has passed.
    pub fn sleep(&mut self, duration: Duration) -> SleepId {
        self.command_sleep(duration, None)
    }

    /// Tells [`Event::Woken`] after each `period`, until it is given up.
    /// Of moments that have passed by the same turn one is told: those that follow stay where they
    /// are. A period below 1 ms is taken for 1 ms.
    pub fn repeat(&mut self, period: Duration) -> SleepId {
        let period = period.max(PERIOD_MIN);
        self.command_sleep(period, Some(period))
    }

    fn command_sleep(&mut self, delay: Duration, period: Option<Duration>) -> SleepId {
        self.issued += 1;
        let id = SleepId(self.issued);
        self.commands
            .push_back(Command::Sleep { id, delay, period });
        id
    }

    /// How long a sleep still takes, as of the last turn; `None` if it has ended, or begins with
    /// the next turn.
    #[must_use]
    pub fn sleep_left(&self, sleep: SleepId) -> Option<Duration> {
        let deadline = self.sleeps.get(&sleep)?.timer.deadline();
        Some(deadline.saturating_duration_since(self.now))
    }

    /// Gives up a sleep that has not ended.
    pub fn cancel_sleep(&mut self, sleep: SleepId) {
        self.commands
            .retain(|command| !matches!(command, Command::Sleep { id, .. } if *id == sleep));
        if let Some(sleeping) = self.sleeps.remove(&sleep) {
            self.timers.disarm(sleeping.timer);
        }
    }

    pub(super) fn begin_sleep(
        &mut self,
        now: Instant,
        id: SleepId,
        delay: Duration,
        period: Option<Duration>,
    ) {
        let timer = self.timers.arm(now, delay, Timer::Sleep(id));
        self.sleeps.insert(id, Sleeping { timer, period });
    }

    pub(super) fn wake(&mut self, now: Instant, id: SleepId) {
        self.events.push_back(Event::Woken(id));
        let Some(Sleeping { timer, period }) = self.sleeps.remove(&id) else {
            return;
        };
        if let Some(period) = period {
            let late =
                now.saturating_duration_since(timer.deadline()).as_nanos() % period.as_nanos();
            let late = Duration::from_nanos_u128(late);
            self.begin_sleep(now, id, period.saturating_sub(late), Some(period));
        }
    }
}

/// The shortest period of what repeats.
const PERIOD_MIN: Duration = Duration::from_millis(1);
