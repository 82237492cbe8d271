//! Who waits for what, as plain wakers.
//!
//! Wakers are collected under the lock and woken after it is released, so that no foreign code
//! runs while the fabric's state is borrowed.

use std::any::Any;
use std::sync::Arc;
use std::task::{Context, Waker};

/// The one task that waits for something: the latest to ask.
#[derive(Debug, Default)]
pub(crate) struct WakerSlot(Option<Waker>);

impl WakerSlot {
    pub(crate) fn register(&mut self, cx: &Context<'_>) {
        match &mut self.0 {
            Some(waker) => waker.clone_from(cx.waker()),
            None => self.0 = Some(cx.waker().clone()),
        }
    }

    pub(crate) fn wake_into(&mut self, wakes: &mut Wakes) {
        wakes.wakers.extend(self.0.take());
    }

    pub(crate) fn take(&mut self) -> Option<Waker> {
        self.0.take()
    }

    /// Whether nobody waits.
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

/// All tasks that wait for something.
#[derive(Debug, Default)]
pub(crate) struct WakerList(Vec<Waker>);

impl WakerList {
    pub(crate) fn register(&mut self, cx: &Context<'_>) {
        if !self.0.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.0.push(cx.waker().clone());
        }
    }

    pub(crate) fn wake_into(&mut self, wakes: &mut Wakes) {
        wakes.wakers.append(&mut self.0);
    }
}

/// What is to be done once the lock is released.
#[derive(Debug, Default)]
#[must_use = "a task that is not woken waits for ever"]
pub(crate) struct Wakes {
    wakers: Vec<Waker>,
    /// Dropped only then: what it owns may run a program's code as it drops.
    dropped: Vec<Arc<dyn Any + Send + Sync>>,
}

impl Wakes {
    /// Drops `owner` once the lock is released.
    pub(crate) fn drop_later(&mut self, owner: Arc<dyn Any + Send + Sync>) {
        self.dropped.push(owner);
    }

    pub(crate) fn wake(self) {
        for waker in self.wakers {
            waker.wake();
        }
    }
}
