//! A timer of the fabric's own clock, for what the handles wait for.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::node::SleepId;
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
        let id = shared.with(|state| {
            let id = state.node.sleep(duration);
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
