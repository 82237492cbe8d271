//! Tests of the simulator, and of what only it can show.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected fails")]

mod applications;
mod attacks;
mod command_line;
mod determinism;
mod ends;
mod names;
mod pictures;
mod scenarios;
mod single_losses;
mod tripwire;
