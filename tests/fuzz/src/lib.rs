//! What the fuzzers run, and the oracles that judge it.
//!
//! Each target is a function of arbitrary bytes that panics if a law is broken. `fuzz/` has one
//! line per target that hands it libFuzzer's bytes; the tests of this package hand it the corpora
//! of `fuzz/corpus/` and bytes drawn from seeds, on a stable compiler. The package is one of its
//! own, and not a part of the simulator, because it replaces the allocator by one that counts.
//!
//! - [`frames`]: streams are cut into the same frames wherever they are cut into chunks.
//! - [`messages`]: what decodes is valid, costs little, and encodes to itself.
//! - [`names`]: exactly the documented strings are names.
//! - [`certificates`]: any bytes are credentials, or are refused.
//! - [`directory`]: replicas converge, whatever the order, the cuts and the lies.
//! - [`members`]: a node hears any packet of failure detection, and believes what it may.
//! - [`plans`]: no plan breaks an invariant of the simulator's control tier.
//! - [`nodes`]: whole nodes take anything from anyone, and serve the honest afterwards.
//!
//! Nothing here reads a clock, draws randomness or keeps state between two inputs: an input means
//! the same in the fuzzer, in a test and in a debugger.

mod budget;
pub mod certificates;
pub mod directory;
pub mod frames;
pub mod members;
pub mod messages;
pub mod names;
pub mod nodes;
mod peer;
pub mod plans;
pub mod seeds;
mod speech;
mod toy;
mod world;

/// A function that is fuzzed.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name: of the binary, and of the directory of its corpus.
    pub name: &'static str,
    /// Judges one input.
    ///
    /// # Panics
    /// If a law is broken.
    pub run: fn(&[u8]),
    /// What it costs, which says how many inputs a test can afford.
    pub tier: Tier,
}

/// What an input of a target costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// Microseconds: pure functions of the bytes.
    Codec,
    /// Some tens of microseconds: a data structure with all its invariants checked.
    Structure,
    /// Milliseconds: whole nodes in virtual time.
    Node,
    /// Tens of milliseconds: a fabric in the simulator, with minutes of virtual time.
    Simulation,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target {
        name: "frame_bytes",
        run: frames::frame_bytes,
        tier: Tier::Codec,
    },
    Target {
        name: "frame_structured",
        run: frames::frame_structured,
        tier: Tier::Codec,
    },
    Target {
        name: "framing_chunks",
        run: frames::framing_chunks,
        tier: Tier::Codec,
    },
    Target {
        name: "control_messages",
        run: messages::control_messages,
        tier: Tier::Codec,
    },
    Target {
        name: "name_rules",
        run: names::name_rules,
        tier: Tier::Codec,
    },
    Target {
        name: "certificate",
        run: certificates::certificate,
        tier: Tier::Codec,
    },
    Target {
        name: "directory_ops",
        run: directory::directory_ops,
        tier: Tier::Structure,
    },
    Target {
        name: "swim_packet",
        run: members::swim_packet,
        tier: Tier::Structure,
    },
    Target {
        name: "sim_control",
        run: plans::sim_control,
        tier: Tier::Simulation,
    },
    Target {
        name: "node_pair",
        run: nodes::node_pair,
        tier: Tier::Node,
    },
    Target {
        name: "node_certified_peer",
        run: nodes::node_certified_peer,
        tier: Tier::Node,
    },
    Target {
        name: "node_unauthenticated",
        run: nodes::node_unauthenticated,
        tier: Tier::Node,
    },
];
