//! The tasks that wait at one flow, and the one waker by which the flow knows them all.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};

/// Tasks that wait at a flow that they share, each under a number of its own.
///
/// The flow has one place for a task that waits for room and one for a task that waits for a
/// message; the lobby takes both. There may be room: the first of those who want to send is woken.
/// There may be messages: all who wait for one are woken, and the first to come reads for all. One
/// would be enough if every task polled what it was woken for; a set of futures that its task
/// looks at later does not.
///
/// Its lock is held for a moment only, and nothing is called under it.
#[derive(Debug)]
pub(super) struct Lobby {
    queues: Mutex<Queues>,
    /// Something may have arrived since somebody looked.
    has_news: AtomicBool,
}

#[derive(Debug, Default)]
struct Queues {
    /// They want to send, in this order.
    senders: BTreeMap<u64, Waker>,
    /// They wait for an answer.
    readers: BTreeMap<u64, Waker>,
}

impl Lobby {
    /// Queues a task that wants to send. Returns whether it is its turn.
    pub(super) fn queue_sender(&self, number: u64, cx: &Context<'_>) -> bool {
        let mut queues = self.lock();
        register(&mut queues.senders, number, cx);
        queues
            .senders
            .first_key_value()
            .is_some_and(|(first, _)| *first == number)
    }

    /// A task wants to send no more, or has sent: the next may.
    pub(super) fn leave_sender(&self, number: u64) {
        let mut queues = self.lock();
        queues.senders.remove(&number);
        let next = first(&queues.senders);
        drop(queues);
        wake(next);
    }

    /// The first of those who want to send may try again.
    pub(super) fn wake_sender(&self) {
        let next = first(&self.lock().senders);
        wake(next);
    }

    pub(super) fn queue_reader(&self, number: u64, cx: &Context<'_>) {
        register(&mut self.lock().readers, number, cx);
    }

    /// A task waits for no answer any more.
    pub(super) fn leave_reader(&self, number: u64) {
        self.lock().readers.remove(&number);
    }

    /// Whether something may have arrived since this was asked.
    pub(super) fn take_news(&self) -> bool {
        self.has_news.swap(false, Ordering::AcqRel)
    }

    /// A task's answer is there.
    pub(super) fn wake_reader(&self, number: u64) {
        let reader = self.lock().readers.remove(&number);
        wake(reader);
    }

    /// Nothing more comes: all are to learn of it.
    pub(super) fn wake_all(&self) {
        let queues = std::mem::take(&mut *self.lock());
        queues.senders.into_values().for_each(Waker::wake);
        queues.readers.into_values().for_each(Waker::wake);
    }

    /// The waker that stands for all.
    pub(super) fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(self))
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Lobby {
    fn wake(self: Arc<Self>) {
        self.has_news.store(true, Ordering::Release);
        let mut queues = self.lock();
        let sender = first(&queues.senders);
        let readers = std::mem::take(&mut queues.readers);
        drop(queues);
        wake(sender);
        readers.into_values().for_each(Waker::wake);
    }
}

impl Default for Lobby {
    fn default() -> Self {
        Self {
            queues: Mutex::default(),
            has_news: AtomicBool::new(true),
        }
    }
}

fn register(queue: &mut BTreeMap<u64, Waker>, number: u64, cx: &Context<'_>) {
    match queue.get_mut(&number) {
        Some(waker) => waker.clone_from(cx.waker()),
        None => {
            queue.insert(number, cx.waker().clone());
        }
    }
}

fn first(queue: &BTreeMap<u64, Waker>) -> Option<Waker> {
    queue.first_key_value().map(|(_, waker)| waker.clone())
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
