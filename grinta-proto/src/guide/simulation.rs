//! Simulation: your own application in virtual time.
//!
//! The core reads no clock and draws on no system, so whole fabrics run on one thread in a world that
//! exists in memory: real nodes with real QUIC and TLS, and on top of them the very source of your
//! application. Its network, its clocks and its randomness follow from one seed. Minutes pass in
//! moments, and what went wrong once goes wrong again each time.
//!
//! The simulator is the package `grinta-tests` of the repository, which is not published: depend on it
//! by `git` or `path`, as a `dev-dependency`. Its documentation has a chapter, with code that compiles,
//! on how an application is put through crashes, freezes, partitions and loss:
//!
//! ```text
//! cargo doc -p grinta-tests --open
//! ```
//!
//! # What an application has to do for it
//!
//! It takes its [`Fabric`](crate::Fabric) as an argument, and does not reach around it:
//!
//! - Time passes by [`Fabric::sleep`](crate::Fabric::sleep),
//!   [`Fabric::interval`](crate::Fabric::interval) and [`Fabric::timeout`](crate::Fabric::timeout):
//!   the runtime's clock, or the simulator's.
//! - Tasks are spawned through what the caller hands in, or joined as futures.
//! - Randomness and the date come from the caller.
//! - It uses no sockets, files or threads of its own in the part that is to repeat.
//!
//! ```
//! use std::time::Duration;
//!
//! use grinta_proto::{DialError, Fabric, Raw};
//!
//! /// Runs under tokio, smol and the simulator, as it is.
//! async fn announce(fabric: &Fabric, news: &str) -> Result<(), DialError> {
//!     let dial = || fabric.dial("board").deadline(Duration::from_secs(3));
//!     loop {
//!         match dial().sender::<String, _>(Raw).await {
//!             Ok(mut sender) => {
//!                 let is_sent = sender.send(news.to_owned()).await.is_ok();
//!                 if is_sent && sender.finish().await.is_ok() {
//!                     return Ok(());
//!                 }
//!                 // Broken on the way: whether the board has it is not known.
//!             }
//!             Err(error) if !error.is_retryable() => return Err(error),
//!             Err(_) => {}
//!         }
//!         fabric.sleep(Duration::from_millis(200)).await;
//!     }
//! }
//! ```
//!
//! The examples of the repository are written so: their `app.rs` is what tokio, smol and the
//! simulator run.
//!
//! Next: [a driver](super::driver).
