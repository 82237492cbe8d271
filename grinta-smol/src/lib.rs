//! Grinta on smol: a network fabric for async tasks.
//!
//! A task holds a named endpoint; any task of any process in the fabric opens a flow to that name
//! and gets a typed channel, whether the two share a process or sit on two machines.
//!
//! This crate adds to [`grinta_proto`] what it leaves out: a socket, a timer, the clocks, and the
//! one task that drives a fabric. [`Start::start`] is all there is to it. The handles are those of
//! [`grinta_proto`], re-exported here, and the same under every runtime: a library that takes a
//! [`Fabric`] does not depend on this crate. [The book](guide) begins with a [quick
//! start](guide::quick_start) and goes on to names, flows, trust and operations.
//!
//! ```no_run
//! use grinta_smol::{Credentials, Fabric, PemFiles, Start};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     smol::block_on(async {
//!         let files = PemFiles {
//!             ca: "ca.pem".into(),
//!             certificate: "node-2.pem".into(),
//!             key: "node-2.key".into(),
//!             revocation_lists: vec![],
//!         };
//!         let fabric = Fabric::builder("node-2")
//!             .credentials(Credentials::from_pem_files(&files)?)
//!             .listen("10.0.0.2:7400".parse()?)
//!             .neighbour("node-1.example.org:7400")
//!             .start()
//!             .await?;
//!         fabric.join().await?;
//!         Ok(())
//!     })
//! }
//! ```
//!
//! [`Start::start`] puts the driver on smol's global executor, [`Start::start_with_driver`] hands it
//! to you for an executor of your own:
//!
//! ```no_run
//! # use grinta_smol::{Builder, Start, StartError};
//! # async fn example(
//! #     builder: Builder,
//! #     executor: &smol::LocalExecutor<'_>,
//! # ) -> Result<(), StartError> {
//! let (fabric, driver) = builder.start_with_driver().await?;
//! executor.spawn(driver).detach();
//! # drop(fabric);
//! # Ok(())
//! # }
//! ```
//!
//! For the highest throughput, run the driver and the services that talk most on one executor that
//! one thread polls.

mod io;

use std::future::Future;

#[doc(inline)]
pub use grinta_proto::*;

pub use crate::io::SmolIo;

/// Starts a fabric on smol.
///
/// Implemented for [`Builder`] alone.
pub trait Start: Sized {
    /// Starts the fabric and spawns the task that drives it on smol's global executor.
    ///
    /// Looks the neighbours' names up, all at once and for as long as the system's resolver takes.
    /// One that does not resolve is no error: the fabric knows it as unresolved, with the reason.
    ///
    /// # Errors
    /// [`StartError`] if the address cannot be bound, the system has no randomness to give, or the
    /// builder holds something that cannot work.
    ///
    /// # Cancel safety
    /// Dropped before it completes, it leaves nothing behind: no socket, no task.
    fn start(self) -> impl Future<Output = Result<Fabric, StartError>> + Send;

    /// Starts the fabric and leaves its driver to the caller, who polls or spawns it.
    ///
    /// Nothing moves while the driver is not polled. It completes when the fabric has ended, and
    /// dropping it ends the fabric at once.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    ///
    /// # Cancel safety
    /// As [`start`](Self::start).
    fn start_with_driver(
        self,
    ) -> impl Future<Output = Result<(Fabric, Driver<SmolIo>), StartError>> + Send;
}

impl Start for Builder {
    async fn start(self) -> Result<Fabric, StartError> {
        let (fabric, driver) = self.start_with_driver().await?;
        smol::spawn(driver).detach();
        Ok(fabric)
    }

    async fn start_with_driver(self) -> Result<(Fabric, Driver<SmolIo>), StartError> {
        let neighbours = self.look_up(smol::net::resolve).await;
        let address = self.listen_address();
        let io = SmolIo::bind(address).map_err(|error| StartError::bind(address, &error))?;
        self.assemble(io, seed()?, neighbours)
    }
}

fn seed() -> Result<[u8; 32], StartError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| StartError::no_entropy(&error.into()))?;
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_seeds_differ() {
        assert_ne!(seed().unwrap(), seed().unwrap());
    }
}
