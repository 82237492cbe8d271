//! Small futures that the programs of a plan are made of.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

/// Which of two futures was ready.
pub(super) enum Either<A, B> {
    First(A),
    Second(B),
}

/// The first of two futures to be ready; the other one is dropped.
pub(super) async fn either<A: Future, B: Future>(a: A, b: B) -> Either<A::Output, B::Output> {
    let (mut a, mut b) = (pin!(a), pin!(b));
    poll_fn(|cx| {
        if let Poll::Ready(output) = a.as_mut().poll(cx) {
            return Poll::Ready(Either::First(output));
        }
        b.as_mut().poll(cx).map(Either::Second)
    })
    .await
}

/// A future that is dropped, `None`, when it is still not ready after so many polls.
pub(super) struct AtMost<F> {
    future: Pin<Box<F>>,
    polls: u64,
}

impl<F: Future> AtMost<F> {
    pub(super) fn new(polls: u64, future: F) -> Self {
        Self {
            future: Box::pin(future),
            polls,
        }
    }
}

impl<F: Future> Future for AtMost<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls == 0 {
            return Poll::Ready(None);
        }
        self.polls -= 1;
        match self.future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if self.polls == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Tells a task to stop, whether it waits for that already or not.
#[derive(Debug, Default)]
pub(super) struct Signal {
    is_given: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Signal {
    pub(super) fn give(&self) {
        self.is_given.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    pub(super) async fn given(&self) {
        poll_fn(|cx| {
            if self.is_given.get() {
                return Poll::Ready(());
            }
            self.waker.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}
