//! Sleeps: a task's timers are timers of the node, and so of whatever drives it.

use std::time::Duration;

use crate::node::{Command, Node};

/// Names a sleep; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SleepId(pub(crate) u64);

impl Node {
    /// Ends with [`Event::Woken`](crate::node::Event::Woken) when `duration` has passed.
    pub fn sleep(&mut self, duration: Duration) -> SleepId {
        self.issued += 1;
        let id = SleepId(self.issued);
        self.commands.push_back(Command::Sleep(id, duration));
        id
    }

    /// How long a sleep still takes, as of the last turn; `None` if it has ended, or begins with
    /// the next turn.
    #[must_use]
    pub fn sleep_left(&self, sleep: SleepId) -> Option<Duration> {
        let timer = self.sleeps.get(&sleep)?;
        Some(timer.deadline().saturating_duration_since(self.now))
    }

    /// Gives up a sleep that has not ended.
    pub fn cancel_sleep(&mut self, sleep: SleepId) {
        self.commands
            .retain(|command| !matches!(command, Command::Sleep(id, _) if *id == sleep));
        if let Some(timer) = self.sleeps.remove(&sleep) {
            self.timers.disarm(timer);
        }
    }
}
