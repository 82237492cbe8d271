//! The book: how to use a fabric, from the first endpoint to the night on which something is wrong.
//!
//! It is the same under every runtime; only [how a fabric starts](quick_start) is the driver
//! crate's. All examples compile.
//!
//! 1. [Quick start](quick_start): a node, an endpoint, a flow.
//! 2. [Names](names): who owns one, who waits for one, who shares one; lists, watches, questions.
//! 3. [Flows](flows): messages, codecs, back-pressure, calls, and how each of them ends.
//! 4. [Trust](trust): certificates, rules, and what changes while a fabric runs.
//! 5. [Operations](operations): profiles, limits, logs, metrics, the command line, shutdown.
//! 6. [Simulation](simulation): your own application in virtual time.
//! 7. [A driver](driver): the core on a runtime of your own.
//! 8. [Coming from Go](from_go): what became of what.

pub mod driver;
pub mod flows;
pub mod from_go;
pub mod names;
pub mod operations;
pub mod quick_start;
pub mod simulation;
pub mod trust;
