//! One simulation: a seed, a virtual clock, and the loop that runs it.

use std::cell::RefMut;
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use grinta_proto::DevelopmentCa;

use crate::draw::Draws;
use crate::executor::{Executor, Policy};
use crate::history::Hash;
use crate::host::Host;
use crate::network::Network;
use crate::scene::Scenes;
use crate::world::{Event, Kind, World};

/// A world of hosts in virtual time, in which ordinary async code runs on real nodes.
///
/// The same seed and the same code give the same history, packet by packet and poll by poll. Dropping
/// it drops all that runs in it.
pub struct Simulation {
    world: Rc<World>,
    options: Options,
}

/// What a simulation is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// All its randomness.
    pub seed: u64,
    /// In which order ready tasks are polled.
    pub policy: Policy,
    /// How many of a million polls are followed by a wake for nothing. Default none.
    pub spurious_wakes: u32,
    /// What becomes of a step that asks the system for time or randomness. Default forbidden.
    pub system: System,
    /// Virtual time after which it is stuck. Default an hour: longer than any story takes.
    pub time_limit: Duration,
}

/// What becomes of a step that asks the system for time or randomness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum System {
    /// It aborts the process with a backtrace, as it would not repeat. Linux only.
    #[default]
    Forbidden,
    /// It is answered.
    Allowed,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 0,
            policy: Policy::default(),
            spurious_wakes: 0,
            system: System::default(),
            time_limit: Duration::from_secs(3600),
        }
    }
}

impl Simulation {
    /// A world without hosts, with the defaults of [`Options`].
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with(Options {
            seed,
            ..Options::default()
        })
    }

    /// A world without hosts.
    ///
    /// # Panics
    /// If the simulation's CA cannot be made.
    #[must_use]
    pub fn with(options: Options) -> Self {
        let draws = Draws::new(options.seed);
        let executor = Executor::new(draws, options.policy, options.spurious_wakes);
        let ca = DevelopmentCa::from_seed(CA_SEED).expect("a CA is made of any seed");
        Self {
            world: World::new(draws, Instant::now(), executor, ca),
            options,
        }
    }

    /// The host of this name; a new one if there is none.
    #[must_use]
    pub fn host(&self, name: &str) -> Host {
        self.world.host(name)
    }

    /// A new host, named by its number.
    #[must_use]
    pub fn new_host(&self) -> Host {
        let number = self.world.hosts.borrow().len() + 1;
        self.host(&format!("host-{number}"))
    }

    /// The CA that issues the hosts' credentials: the same for each seed.
    #[must_use]
    pub fn ca(&self) -> &DevelopmentCa {
        &self.world.ca
    }

    /// The links between the hosts.
    ///
    /// # Panics
    /// While it is borrowed already: let go of it before anything runs.
    pub fn network(&self) -> RefMut<'_, Network> {
        self.world.network.borrow_mut()
    }

    /// The time since the start.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.world.now.get()
    }

    /// What the monotonic clock shows.
    #[must_use]
    pub fn instant(&self) -> Instant {
        self.world.epoch + self.now()
    }

    /// Sleeps in virtual time, beside all hosts.
    pub fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + use<> {
        Sleep::new(&self.world, self.now() + duration)
    }

    /// Runs a task that belongs to no host.
    pub fn spawn(&self, name: &str, task: impl Future<Output = ()> + 'static) {
        self.world.executor.spawn(name.to_owned(), None, task);
    }

    /// Lets the world go on for some time.
    pub fn run(&self, duration: Duration) {
        self.block_on(self.sleep(duration));
    }

    /// Lets the world go on until a future is ready.
    ///
    /// # Panics
    /// If a task panics; if nothing can happen any more, tasks only poll, or the time limit is
    /// reached. The message names who is at fault.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        let world = &self.world;
        let _tripwire = match self.options.system {
            System::Forbidden => Some(grinta_tripwire::arm()),
            System::Allowed => None,
        };
        let waker = world.executor.main_waker();
        let mut polls = 0;
        loop {
            if let Some(event) = self.next_event() {
                polls = 0;
                world.handle(event);
                continue;
            }
            let Some(task) = world.executor.next() else {
                self.wait_for_event();
                continue;
            };
            polls += 1;
            assert!(
                polls <= POLLS_WITHOUT_EVENT_MAX,
                "nothing moves at {:?}: {} is polled again and again",
                self.now(),
                world.executor.name(task),
            );
            if polls > POLLS_FOR_FREE {
                world.now.set(self.now() + POLL_DURATION);
            }
            if task != Executor::MAIN {
                world.poll(task);
                continue;
            }
            world.executor.count_poll();
            let poll = future.as_mut().poll(&mut Context::from_waker(&waker));
            if let Poll::Ready(output) = poll {
                return output;
            }
        }
    }

    /// The next event, if it is due.
    fn next_event(&self) -> Option<Event> {
        self.world.queue.borrow_mut().pop_due(self.now())
    }

    /// Moves the clock to the next event.
    fn wait_for_event(&self) {
        let Some(at) = self.world.queue.borrow().next_at() else {
            let waiting = self.world.executor.names().join(", ");
            panic!(
                "stalled at {:?}: nothing is due, and these wait: {waiting}",
                self.now()
            );
        };
        assert!(
            at <= self.options.time_limit,
            "not done within {:?} of virtual time",
            self.options.time_limit
        );
        self.world.now.set(at);
    }

    /// Puts something that the caller saw into the history.
    pub fn note(&self, what: &str) {
        self.world
            .record(Kind::Note, [0, 0], what.as_bytes(), || what.to_owned());
    }

    /// The hash of everything that happened so far: packets, timers, faults, polls and notes.
    #[must_use]
    pub fn hash(&self) -> Hash {
        self.world.history.borrow().hash()
    }

    /// How many events there were.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.world.history.borrow().events()
    }

    /// From here on keeps the history as text, too.
    pub fn keep_lines(&self) {
        self.world.history.borrow_mut().keep_lines();
    }

    /// The history since [`keep_lines`](Self::keep_lines), a line for each event.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.world.history.borrow().lines().to_vec()
    }

    pub(crate) fn take_scenes(&self) -> Scenes {
        std::mem::take(&mut self.world.history.borrow_mut().scenes)
    }

    /// How many sockets are bound.
    #[must_use]
    pub fn sockets(&self) -> usize {
        self.world.sockets()
    }

    /// The names of the tasks that have not ended.
    pub(crate) fn task_names(&self) -> Vec<String> {
        self.world.executor.names()
    }

    /// How many tasks there are that have not ended.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.world.executor.len()
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!(
                "the simulation failed at {:?} with {:?}, hash {}",
                self.now(),
                self.options,
                self.hash()
            );
        }
        // Tasks and applications own the world that owns them.
        self.world.executor.crash_all();
        let hosts = std::mem::take(&mut *self.world.hosts.borrow_mut());
        drop(hosts);
    }
}

impl fmt::Debug for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulation")
            .field("options", &self.options)
            .field("now", &self.now())
            .finish_non_exhaustive()
    }
}

/// Ready once it is time.
pub(crate) struct Sleep {
    world: Rc<World>,
    until: Duration,
    waker: Option<Waker>,
}

impl Sleep {
    pub(crate) fn new(world: &Rc<World>, until: Duration) -> Self {
        Self {
            until,
            world: Rc::clone(world),
            waker: None,
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.world.now.get() >= self.until {
            return Poll::Ready(());
        }
        if !matches!(&self.waker, Some(waker) if waker.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
            self.world.plan(self.until, Event::Wake(cx.waker().clone()));
        }
        Poll::Pending
    }
}

/// The key of every simulation's CA. Certificates are no part of what a seed decides.
const CA_SEED: [u8; 32] = *b"the CA of all simulated fabrics.";

/// Polls without any event that take no time. So what one task does is no matter of time to others.
const POLLS_FOR_FREE: u64 = 1000;

/// What a further poll takes. So whoever waits by polling again and again sees time pass.
const POLL_DURATION: Duration = Duration::from_micros(1);

/// Polls without any event after which nothing is held to happen any more.
const POLLS_WITHOUT_EVENT_MAX: u64 = 10_000_000;
