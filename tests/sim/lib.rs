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
//! # Map
//!
//! [`Simulation`] is the world and its loop, [`Host`] a machine in it, [`Network`] the links between
//! them. Application code takes what it always takes, a [`Fabric`](grinta_proto::Fabric), and keeps
//! time by it: `Fabric::sleep` and `Fabric::timeout` run on the world's clock.
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
//! looked at.

mod control;
mod crypto;
mod draw;
mod executor;
mod full;
mod history;
mod host;
mod io;
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
#[cfg(grinta_mutants)]
pub use crate::mutants::{Find, hunt, tier_of};
pub use crate::network::{CutId, HostId, Link, Network};
pub use crate::plan::{
    Action, Attack, CallPlan, Fault, FlowEnd, FlowPlan, HostFault, NodeId, Operation, Plan,
    PlanError, Reading, Room, Step, Tier, Weather,
};
pub use crate::run::{Lines, Swarm, Tally};
pub use crate::scene::{Claimed, FlowStage, Happening, Life, Scene, Seen};
pub use crate::shrink::Shrunk;
pub use crate::simulation::{Options, Simulation, System};

pub use crate::verdict::{Invariant, Outcome, Violation};

/// The README's examples compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
