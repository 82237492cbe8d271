//! Sleeps: a task's timers are timers of the node, and so of whatever drives it.

/// Names a sleep; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SleepId(pub(crate) u64);
