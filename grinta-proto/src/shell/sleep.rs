//! Timers of the fabric's own clock.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::node::{Node, SleepId};
use crate::shell::shared::{Shared, SleepSlot};

/// A sleep under way; dropping it ends it.
pub(crate) struct Sleep {
    shared: Arc<Shared>,
    id: SleepId,
    duration: Duration,
}

impl Sleep {
    /// Begins a sleep.
    pub(crate) fn new(shared: &Arc<Shared>, duration: Duration) -> Self {
        Self::begin(shared, duration, Node::sleep)
    }

    fn begin(
        shared: &Arc<Shared>,
        duration: Duration,
        begin: fn(&mut Node, Duration) -> SleepId,
    ) -> Self {
        let id = shared.with(|state| {
            let id = begin(&mut state.node, duration);
            state.sleeps.insert(id, SleepSlot::default());
            id
        });
        Self {
            shared: Arc::clone(shared),
            id,
            duration,
        }
    }

    /// Ready when it is over, or the fabric is closed.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        self.shared.with(|state| {
            let is_closed = state.is_closed;
            match state.sleeps.get_mut(&self.id) {
                Some(slot) if !slot.is_over && !is_closed => {
                    slot.waker.register(cx);
                    Poll::Pending
                }
                Some(_) | None => Poll::Ready(()),
            }
        })
    }

    /// How long it still takes.
    pub(crate) fn left(&self) -> Duration {
        self.shared.with(|state| {
            let slot = state.sleeps.get(&self.id);
            if slot.is_none_or(|slot| slot.is_over) {
                return Duration::ZERO;
            }
            // One that begins with the next turn has all of its time.
            state.node.sleep_left(self.id).unwrap_or(self.duration)
        })
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.shared.with(|state| {
            state.sleeps.remove(&self.id);
            state.node.cancel_sleep(self.id);
        });
    }
}

/// Ticks at regular times of the fabric's own clock; see [`Fabric::interval`](crate::Fabric::interval).
/// Dropping it ends it.
pub struct Interval {
    sleep: Sleep,
}

impl Interval {
    pub(crate) fn new(shared: &Arc<Shared>, period: Duration) -> Self {
        Self {
            sleep: Sleep::begin(shared, period, Node::repeat),
        }
    }

    /// Waits for the next tick. Ticks that passed since the last call are one, and it is ready at
    /// once. False as soon as the fabric is closed, so that a task may
    /// `while interval.tick().await { … }`.
    ///
    /// # Cancel safety
    /// Safe: a tick that nobody was given is the next one's.
    pub async fn tick(&mut self) -> bool {
        let sleep = &self.sleep;
        poll_fn(|cx| {
            sleep.shared.with(|state| {
                let is_closed = state.is_closed;
                let slot = state.sleeps.get_mut(&sleep.id).filter(|_| !is_closed);
                let Some(slot) = slot else {
                    return Poll::Ready(false);
                };
                if std::mem::take(&mut slot.is_over) {
                    return Poll::Ready(true);
                }
                slot.waker.register(cx);
                Poll::Pending
            })
        })
        .await
    }
}

impl fmt::Debug for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interval")
            .field("period", &self.sleep.duration)
            .finish_non_exhaustive()
    }
}
