//! One thread's worth of tasks on std wakers: who is ready, who goes next, whose host is paused.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use crate::draw::{Draws, Purpose};
use crate::network::HostId;

/// In which order ready tasks are polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// Who was woken first goes first, as in most runtimes.
    #[default]
    Fifo,
    /// Who was woken last goes first.
    Lifo,
    /// Any.
    Random,
    /// One task at a time, drawn anew every 64 polls, goes only when no other is ready.
    Starve,
}

/// Names a task; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TaskId(u64);

/// Tasks, and who of them is ready.
pub(crate) struct Executor {
    draws: Draws,
    policy: Policy,
    /// How many of a million polls are followed by a wake for nothing.
    spurious_wakes: u32,
    tasks: RefCell<BTreeMap<TaskId, Task>>,
    ready: Arc<Ready>,
    /// Hosts whose tasks are not polled.
    paused: RefCell<BTreeMap<HostId, Paused>>,
    /// How long each turn takes on hosts that are slow.
    slow: RefCell<BTreeMap<HostId, Duration>>,
    spawned: Cell<u64>,
    polls: Cell<u64>,
}

/// A host whose tasks are not polled.
#[derive(Debug, Default)]
struct Paused {
    /// For how many reasons.
    reasons: u32,
    /// Its tasks that are ready.
    ready: BTreeSet<TaskId>,
}

struct Task {
    name: String,
    host: Option<HostId>,
    waker: Waker,
    /// Absent while it is polled.
    future: Option<LocalFuture>,
}

type LocalFuture = Pin<Box<dyn Future<Output = ()>>>;

/// Tasks that were woken and not polled since, in the order of their wakes.
#[derive(Debug, Default)]
struct Ready(Mutex<VecDeque<TaskId>>);

/// Wakes one task.
struct TaskWaker {
    task: TaskId,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.ready.push(self.task);
    }
}

impl Ready {
    fn with<T>(&self, work: impl FnOnce(&mut VecDeque<TaskId>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn push(&self, task: TaskId) {
        self.with(|queue| {
            if !queue.contains(&task) {
                queue.push_back(task);
            }
        });
    }
}

impl Executor {
    /// The task that a simulation runs for its caller.
    pub(crate) const MAIN: TaskId = TaskId(0);

    pub(crate) fn new(draws: Draws, policy: Policy, spurious_wakes: u32) -> Self {
        Self {
            draws,
            policy,
            spurious_wakes,
            tasks: RefCell::default(),
            ready: Arc::default(),
            paused: RefCell::default(),
            slow: RefCell::default(),
            spawned: Cell::new(0),
            polls: Cell::new(0),
        }
    }

    /// A waker of the caller's own task, which is ready at first.
    pub(crate) fn main_waker(&self) -> Waker {
        self.ready.push(Self::MAIN);
        self.waker(Self::MAIN)
    }

    fn waker(&self, task: TaskId) -> Waker {
        Waker::from(Arc::new(TaskWaker {
            task,
            ready: Arc::clone(&self.ready),
        }))
    }

    pub(crate) fn spawn(
        &self,
        name: String,
        host: Option<HostId>,
        future: impl Future<Output = ()> + 'static,
    ) -> TaskId {
        self.spawned.set(self.spawned.get() + 1);
        let id = TaskId(self.spawned.get());
        let task = Task {
            name,
            host,
            waker: self.waker(id),
            future: Some(Box::pin(future)),
        };
        self.tasks.borrow_mut().insert(id, task);
        self.ready.push(id);
        id
    }

    /// The task to be polled next, which is no longer ready. Those of paused hosts are put aside.
    pub(crate) fn next(&self) -> Option<TaskId> {
        loop {
            let task = self.ready.with(|queue| self.choose(queue))?;
            if task == Self::MAIN {
                return Some(task);
            }
            let tasks = self.tasks.borrow();
            let Some(found) = tasks.get(&task) else {
                continue;
            };
            if let Some(host) = found.host
                && let Some(held) = self.paused.borrow_mut().get_mut(&host)
            {
                held.ready.insert(task);
                continue;
            }
            return Some(task);
        }
    }

    fn choose(&self, queue: &mut VecDeque<TaskId>) -> Option<TaskId> {
        let polls = self.polls.get();
        match self.policy {
            Policy::Fifo => queue.pop_front(),
            Policy::Lifo => queue.pop_back(),
            Policy::Random => {
                let draw = self.draws.draw(Purpose::Scheduling, 0, 0, polls);
                let index = usize::try_from(draw.below(queue.len() as u64)).ok()?;
                queue.remove(index)
            }
            Policy::Starve => {
                let draw = self
                    .draws
                    .draw(Purpose::Scheduling, 1, 0, polls / STARVE_POLLS);
                let starved = TaskId(draw.below(self.spawned.get() + 1));
                let fed = queue.iter().position(|&task| task != starved);
                queue.remove(fed.unwrap_or(0))
            }
        }
    }

    /// Polls a task once; forgets it when it has ended. Returns its host.
    pub(crate) fn poll(&self, id: TaskId) -> Option<HostId> {
        self.count_poll();
        let (mut future, waker, host) = self.tasks.borrow_mut().get_mut(&id).and_then(|task| {
            let future = task.future.take()?;
            Some((future, task.waker.clone(), task.host))
        })?;
        let has_ended = future
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_ready();
        // It may have been crashed by itself meanwhile.
        let mut tasks = self.tasks.borrow_mut();
        if has_ended {
            tasks.remove(&id);
        } else if let Some(task) = tasks.get_mut(&id) {
            task.future = Some(future);
            return host;
        }
        drop(tasks);
        drop(future);
        host
    }

    /// How long a host is busy after a turn: `None` if it is not slow.
    pub(crate) fn busy_after_turn(&self, host: HostId) -> Option<Duration> {
        self.slow.borrow().get(&host).copied()
    }

    /// Makes each turn of a host's tasks take so long; `None` for no time.
    pub(crate) fn slow_down(&self, host: HostId, turn: Option<Duration>) {
        let mut slow = self.slow.borrow_mut();
        match turn {
            Some(turn) => slow.insert(host, turn),
            None => slow.remove(&host),
        };
    }

    /// Another poll, and perhaps a wake for nothing, as any future must bear.
    pub(crate) fn count_poll(&self) {
        let polls = self.polls.get() + 1;
        self.polls.set(polls);
        let draw = |subject| self.draws.draw(Purpose::SpuriousWake, subject, 0, polls);
        if draw(0).chance(self.spurious_wakes) {
            let tasks: Vec<_> = self.tasks.borrow().keys().copied().collect();
            if let Some(&task) = draw(1).pick(&tasks) {
                self.ready.push(task);
            }
        }
    }

    /// How many polls there were.
    pub(crate) fn polls(&self) -> u64 {
        self.polls.get()
    }

    /// Polls no task of the host until it is resumed as often as it was paused.
    pub(crate) fn pause(&self, host: HostId) {
        self.paused.borrow_mut().entry(host).or_default().reasons += 1;
    }

    pub(crate) fn resume(&self, host: HostId) {
        let mut paused = self.paused.borrow_mut();
        let Some(held) = paused.get_mut(&host) else {
            return;
        };
        held.reasons = held.reasons.saturating_sub(1);
        if held.reasons > 0 {
            return;
        }
        let held = paused.remove(&host);
        for task in held.unwrap_or_default().ready {
            self.ready.push(task);
        }
    }

    /// Drops all tasks of a host.
    pub(crate) fn crash(&self, host: HostId) {
        let (crashed, left) = std::mem::take(&mut *self.tasks.borrow_mut())
            .into_iter()
            .partition(|(_, task)| task.host == Some(host));
        *self.tasks.borrow_mut() = left;
        // What they drop may wake others.
        let crashed: BTreeMap<_, Task> = crashed;
        drop(crashed);
    }

    /// Drops all tasks.
    pub(crate) fn crash_all(&self) {
        let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        drop(tasks);
    }

    /// How many tasks there are.
    pub(crate) fn len(&self) -> usize {
        self.tasks.borrow().len()
    }

    /// The name of a task, for people.
    pub(crate) fn name(&self, id: TaskId) -> String {
        match self.tasks.borrow().get(&id) {
            Some(task) => task.name.clone(),
            None => "the caller's own".to_owned(),
        }
    }

    /// The names of all tasks, for people.
    pub(crate) fn names(&self) -> Vec<String> {
        let tasks = self.tasks.borrow();
        tasks.values().map(|task| task.name.clone()).collect()
    }
}

/// Polls for which one task is starved.
const STARVE_POLLS: u64 = 64;

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    /// The order in which three tasks that are ready at once are polled.
    fn order(policy: Policy, seed: u64) -> Vec<u32> {
        let executor = Executor::new(Draws::new(seed), policy, 0);
        let seen = Rc::new(RefCell::new(Vec::new()));
        for number in 0..3 {
            let seen = Rc::clone(&seen);
            executor.spawn(number.to_string(), None, async move {
                seen.borrow_mut().push(number);
            });
        }
        while let Some(task) = executor.next() {
            executor.poll(task);
        }
        assert_eq!(executor.len(), 0);
        seen.take()
    }

    #[test]
    fn policies_order_the_ready() {
        assert_eq!(order(Policy::Fifo, 1), [0, 1, 2]);
        assert_eq!(order(Policy::Lifo, 1), [2, 1, 0]);
        let orders: BTreeSet<_> = (0..100).map(|seed| order(Policy::Random, seed)).collect();
        assert_eq!(orders.len(), 6, "all orders of three: {orders:?}");
        let last: BTreeSet<_> = (0..100)
            .map(|seed| order(Policy::Starve, seed)[2])
            .collect();
        assert_eq!(last.len(), 3, "each is starved at some seed: {last:?}");
    }

    #[test]
    fn a_paused_hosts_tasks_wait_and_a_crashed_ones_are_dropped() {
        let executor = Executor::new(Draws::new(1), Policy::Fifo, 0);
        let done = Rc::new(Cell::new(false));
        let finish = Rc::clone(&done);
        let host = HostId(1);
        executor.spawn(
            "task".to_owned(),
            Some(host),
            async move { finish.set(true) },
        );
        executor.pause(host);
        assert_eq!(executor.next(), None);
        executor.resume(host);
        let task = executor.next().unwrap();
        executor.crash(host);
        executor.poll(task);
        assert!(!done.get());
        assert_eq!((executor.next(), Rc::strong_count(&done)), (None, 1));
    }
}
