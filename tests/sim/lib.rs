//! The simulator: whole fabrics in virtual time, repeatable to the byte.
//!
//! Real nodes with real QUIC and TLS, and ordinary async application code on top of them, run on one
//! thread in a world that exists in memory: its clock, its network and its randomness follow from
//! one seed. What took a minute of protocol takes milliseconds, and what went wrong once goes wrong
//! again each time.
//!
//! # A first simulation
//!
//! ```
//! use std::time::Duration;
//!
//! use grinta_proto::Raw;
//! use grinta_tests::Simulation;
//!
//! let world = Simulation::new(7);
//! let (one, two) = (world.host("one"), world.host("two"));
//!
//! world.block_on(async {
//!     let server = one.start(one.builder()).await.unwrap();
//!     server.join().await.unwrap();
//!     let client = two.start(two.builder().neighbour("one:7400")).await.unwrap();
//!     client.join().await.unwrap();
//!
//!     let endpoint = server.endpoint("service").await.unwrap();
//!     one.spawn("service", async move {
//!         let incoming = endpoint.accept().await.unwrap();
//!         let mut receiver = incoming.receiver::<String, _>(Raw).unwrap();
//!         assert_eq!(receiver.recv().await.unwrap().unwrap(), "hello");
//!     });
//!     let dial = client.dial("service").wait_for_name();
//!     let mut sender = dial.sender::<String, _>(Raw).await.unwrap();
//!     sender.send("hello".to_owned()).await.unwrap();
//!     sender.finish().await.unwrap();
//! });
//!
//! // Minutes pass in a moment, some of them without a network.
//! let cut = world.network().cut(&[one.id()], &[two.id()]);
//! world.run(Duration::from_secs(120));
//! world.network().mend(cut);
//! world.run(Duration::from_secs(60));
//! ```
//!
//! # One's own application
//!
//! An application that takes its [`Fabric`](grinta_proto::Fabric) as an argument runs here as it is:
//! the same source, no feature, no trait of the simulator's. What it must not do is to reach around
//! the fabric. It keeps time by `Fabric::sleep` and `Fabric::timeout`, spawns through what
//! it is given, and takes randomness and the date from its caller.
//!
//! [`Host::run`] installs a *factory*: it is called at the start, and anew at each
//! [`Host::restart`], as a service manager does with a program. [`Host::spawn`] runs a task once.
//! [`Host::crash`] drops all tasks of a host in the middle of whatever they do, without a goodbye;
//! [`Host::pause`] freezes them while datagrams wait in their sockets. [`Network`] cuts and mends,
//! and makes links slow or lossy.
//!
//! Here a counter is served by whichever of two nodes is alive, and a client asks it through a
//! crash, a freeze and a partition, on a network that loses datagrams:
//!
//! ```
//! use std::time::Duration;
//!
//! use grinta_proto::{AcceptError, Fabric, Raw};
//! use grinta_tests::{Hash, Host, Options, Policy, Simulation};
//!
//! /// The application, as it also runs on tokio and smol: it answers how often it was asked.
//! async fn serve(fabric: &Fabric) -> Result<(), Box<dyn std::error::Error>> {
//!     let endpoint = fabric.endpoint("counter").standby().await?;
//!     let mut count = 0;
//!     loop {
//!         let incoming = match endpoint.accept().await {
//!             Ok(incoming) => incoming,
//!             // The other claimed it first: this one stands by.
//!             Err(AcceptError::NameLost { .. }) => continue,
//!             Err(error) => return Err(error.into()),
//!         };
//!         let mut flow = incoming.bidi::<String, String, _>(Raw)?;
//!         while let Ok(Some(_)) = flow.recv().await {
//!             count += 1;
//!             if flow.send(count.to_string()).await.is_err() {
//!                 break;
//!             }
//!         }
//!     }
//! }
//!
//! /// A client of it, which asks until it is answered.
//! async fn ask(fabric: &Fabric) -> u32 {
//!     loop {
//!         let dial = fabric.dial("counter").wait_for_name();
//!         let dial = dial.deadline(Duration::from_secs(3));
//!         let answer = async {
//!             let mut flow = dial.bidi::<String, String, _>(Raw).await.ok()?;
//!             flow.send("next".to_owned()).await.ok()?;
//!             flow.recv().await.ok()??.parse().ok()
//!         };
//!         match fabric.timeout(Duration::from_secs(5), answer).await {
//!             Ok(Some(count)) => return count,
//!             Ok(None) | Err(_) => fabric.sleep(Duration::from_millis(200)).await,
//!         }
//!     }
//! }
//!
//! /// What a host's service manager starts, and starts again after each crash.
//! async fn program(host: Host) {
//!     let builder = host.builder().neighbour("first:7400").neighbour("second:7400");
//!     let fabric = host.start(builder).await.unwrap();
//!     while fabric.join().await.is_err() {}
//!     serve(&fabric).await.unwrap();
//! }
//!
//! fn story(seed: u64) -> Hash {
//!     // Tasks that are ready at once take their turns in any order, and are woken for nothing.
//!     let policy = Policy::Random;
//!     let options = Options { seed, policy, spurious_wakes: 10_000, ..Options::default() };
//!     let world = Simulation::with(options);
//!     let [first, second, client] = ["first", "second", "client"].map(|name| world.host(name));
//!     world.network().change_all(|link| {
//!         link.latency = Duration::from_millis(5);
//!         link.loss = 20_000; // of a million
//!     });
//!     first.run(program);
//!     second.run(program);
//!     world.block_on(async {
//!         let builder = client.builder().neighbour("first:7400").neighbour("second:7400");
//!         let fabric = client.start(builder).await.unwrap();
//!         while fabric.join().await.is_err() {}
//!         assert_eq!(ask(&fabric).await, 1);
//!
//!         // The one that serves dies: the other stands by, and begins to count.
//!         first.crash();
//!         let before = world.now();
//!         assert!(ask(&fabric).await >= 1);
//!         assert!(world.now() - before < Duration::from_secs(20));
//!         first.restart();
//!
//!         // A frozen process goes on where it was.
//!         second.pause();
//!         world.sleep(Duration::from_secs(2)).await;
//!         second.resume();
//!         ask(&fabric).await;
//!
//!         // A partition, and a minute without a network.
//!         let others = [first.id(), second.id()];
//!         let cut = world.network().cut(&[client.id()], &others);
//!         world.sleep(Duration::from_secs(60)).await;
//!         world.network().mend(cut);
//!         ask(&fabric).await;
//!     });
//!     world.hash()
//! }
//!
//! // Many seeds are many stories; the same seed is the same story.
//! for seed in 0..3 {
//!     story(seed);
//! }
//! assert_eq!(story(7), story(7));
//! ```
//!
//! **Seeds.** A test runs a story for some seeds in each build, and for many by night. All that a run
//! draws follows from its seed: delays, losses, the order of tasks, the nodes' own randomness.
//!
//! **A failure.** A panic in a task or in the story ends the run, and the simulation says on stderr
//! at which virtual time, with which [`Options`] and with which hash of the history it was. The same
//! options fail in the same way, so a failure of the night is `story(4711)` under a debugger in the
//! morning. [`Simulation::keep_lines`] and [`Simulation::lines`] give the history as text, a line for
//! each packet, timer and fault, and [`Simulation::note`] adds lines of one's own; the nodes' log goes
//! wherever `tracing` is told to. If a seed does not repeat, something is drawn from elsewhere: two
//! lists of lines show the first event that differs.
//!
//! **What is watched.** While a step runs, a *tripwire* lies over `clock_gettime` and `getrandom`
//! (Linux). `Instant::now`, `SystemTime::now`, a random number from the system, an executor or a timer
//! of another runtime: whoever asks ends the process, with a backtrace that names the culprit.
//! Hash maps are allowed, though the order of their entries differs from thread to thread: what
//! reaches the network must not depend on it. Threads, files and sockets of the system are not watched, and
//! do not repeat. [`System::Allowed`] lifts the ban for an application that cannot do without.
//!
//! **When nothing happens.** A run in which nothing is due any more, in which tasks only poll, or which
//! is longer than [`Options::time_limit`], panics and names the tasks that wait.
//!
//! # Map
//!
//! [`Simulation`] is the world and its loop, [`Host`] a machine in it, [`Network`] the links between
//! them. A [`Plan`] is what may happen to a whole fabric, as a text: [`Fault`] has what can go wrong,
//! [`Invariant`] what must hold all the same, [`Mark`] what many runs together have to come to.
//! A [`Swarm`] runs many of them. `sim list` prints all three.
//!
//! # What makes it repeatable
//!
//! - Events happen in the order of (integer nanoseconds, sequence), on one thread.
//! - Every decision has randomness of its own, [`Draws`].
//! - TLS runs on a provider whose randomness is drawn; certificates are Ed25519, from one fixed CA.
//! - The core reads no clock and draws on no system, by construction. That application code does
//!   neither is watched: a step that asks the system for time or randomness aborts with a backtrace.
//!
//! # Whether it is any good
//!
//! The core can be made to make mistakes, one at a time: `mutant!(Name)` in its code, which is
//! nothing in an ordinary build. `sim mutants` says by which seed and invariant each is found:
//!
//! ```text
//! RUSTC_WORKSPACE_WRAPPER=$PWD/.ci/mutants cargo run -p grinta-tests --bin sim -- mutants
//! ```
//!
//! In such a build every call takes `--mutant`, so that what is found can be replayed, shrunk and
//! looked at. And each takes `--whims`: nodes then do often what they may do at any time and seldom
//! have cause to (`whim!(Name)`), and nothing may break.

mod claims;
mod clock;
mod control;
mod crypto;
mod draw;
mod executor;
mod full;
mod history;
mod host;
mod io;
mod marks;
#[cfg(grinta_mutants)]
mod mutants;
mod network;
mod oracle;
mod picture;
pub mod pki;
mod plan;
mod queue;
mod run;
mod scene;
mod shrink;
mod simulation;
mod table;
mod verdict;
mod weather;
mod world;

pub use crate::draw::{Draw, Draws, Purpose};
pub use crate::executor::Policy;
pub use crate::history::Hash;
pub use crate::host::Host;
pub use crate::io::{SimDriver, SimIo};
pub use crate::marks::Mark;
#[cfg(grinta_mutants)]
pub use crate::mutants::{Find, hunt, tier_of};
pub use crate::network::{CutId, HostId, Link, Network};
pub use crate::plan::{
    Action, Attack, CallPlan, Fault, FlowEnd, FlowPlan, HostFault, NodeId, Operation, Plan,
    PlanError, Reading, Room, Step, Tier, Weather,
};
#[cfg(grinta_mutants)]
pub use crate::run::have_whims;
pub use crate::run::{Lines, Swarm, Tally};
pub use crate::scene::{Claimed, FlowStage, Happening, Life, Scene, Seen};
pub use crate::shrink::Shrunk;
pub use crate::simulation::{Options, Simulation, System};

pub use crate::verdict::{Invariant, Outcome, Violation};

/// The README's examples compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
