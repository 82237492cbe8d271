//! A watch of the members.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::node::MemberEvent;
use crate::shell::shared::{Shared, State, WatchSlot};

/// Watches the members of a fabric: first those that are known, then every change.
pub struct MemberWatch {
    shared: Arc<Shared>,
    id: u64,
}

/// Why a watch has no next event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// The watching task was too slow and events were dropped. The members that are known now
    /// follow as if they came up.
    #[error("the watch fell behind and begins anew")]
    Lagged,
    /// The fabric is closed.
    #[error("the fabric is closed")]
    Closed,
}

impl MemberWatch {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let id = shared.with(|state| {
            state.watches_issued += 1;
            let id = state.watches_issued;
            let events = state.members().into_iter().map(MemberEvent::Up).collect();
            state.watches.insert(
                id,
                WatchSlot {
                    events,
                    ..WatchSlot::default()
                },
            );
            id
        });
        Self { shared, id }
    }

    /// The next event.
    ///
    /// # Errors
    /// [`WatchError::Lagged`] when events were dropped, [`WatchError::Closed`] at the end.
    ///
    /// # Cancel safety
    /// When the future is dropped before it is ready, no event is lost.
    pub async fn next(&mut self) -> Result<MemberEvent, WatchError> {
        poll_fn(|cx| self.shared.with(|state| self.poll_next(state, cx))).await
    }

    fn poll_next(
        &self,
        state: &mut State,
        cx: &Context<'_>,
    ) -> Poll<Result<MemberEvent, WatchError>> {
        let Some(slot) = state.watches.get_mut(&self.id) else {
            return Poll::Ready(Err(WatchError::Closed));
        };
        if std::mem::take(&mut slot.has_lagged) {
            let known = state.members().into_iter().map(MemberEvent::Up).collect();
            if let Some(slot) = state.watches.get_mut(&self.id) {
                slot.events = known;
            }
            return Poll::Ready(Err(WatchError::Lagged));
        }
        if let Some(event) = slot.events.pop_front() {
            return Poll::Ready(Ok(event));
        }
        if state.is_closed {
            return Poll::Ready(Err(WatchError::Closed));
        }
        slot.waker.register(cx);
        Poll::Pending
    }
}

impl Drop for MemberWatch {
    fn drop(&mut self) {
        self.shared.with(|state| state.watches.remove(&self.id));
    }
}

impl fmt::Debug for MemberWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemberWatch").finish_non_exhaustive()
    }
}
