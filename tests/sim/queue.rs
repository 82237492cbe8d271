//! What is going to happen, by the time at which it does.

use std::collections::BTreeMap;
use std::time::Duration;

/// Events in the order of their times, those of one time in the order in which they were planned.
///
/// Times are since the start of the simulation, in whole nanoseconds.
#[derive(Debug)]
pub(crate) struct Queue<E> {
    events: BTreeMap<(Duration, u64), E>,
    planned: u64,
}

impl<E> Queue<E> {
    pub(crate) const fn new() -> Self {
        Self {
            events: BTreeMap::new(),
            planned: 0,
        }
    }

    pub(crate) fn plan(&mut self, at: Duration, event: E) {
        self.planned += 1;
        self.events.insert((at, self.planned), event);
    }

    /// When the next event is due.
    pub(crate) fn next_at(&self) -> Option<Duration> {
        self.events.first_key_value().map(|(&(at, _), _)| at)
    }

    /// The next event, if it is due.
    pub(crate) fn pop_due(&mut self, now: Duration) -> Option<E> {
        let next = self.events.first_entry()?;
        (next.key().0 <= now).then(|| next.remove())
    }
}
