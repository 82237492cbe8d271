//! Grinta on tokio: a network fabric for async tasks.
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
//! use grinta_tokio::{Credentials, Fabric, PemFiles, Start};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let files = PemFiles {
//!         ca: "ca.pem".into(),
//!         certificate: "node-2.pem".into(),
//!         key: "node-2.key".into(),
//!         revocation_lists: vec![],
//!     };
//!     let fabric = Fabric::builder("node-2")
//!         .credentials(Credentials::from_pem_files(&files)?)
//!         .listen("10.0.0.2:7400".parse()?)
//!         .neighbour("node-1.example.org:7400")
//!         .start()
//!         .await?;
//!     fabric.join().await?;
//!     Ok(())
//! }
//! ```
//!
//! A fabric runs on the runtime that started it and ends with it. For the highest throughput, give
//! it and the services that talk most a current-thread runtime of their own.

mod compat;
mod io;

use std::future::Future;

use tokio::runtime::Handle;

#[doc(inline)]
pub use grinta_proto::*;

pub use crate::compat::Compat;
pub use crate::io::TokioIo;

/// Starts a fabric on the tokio runtime of the calling task.
///
/// Implemented for [`Builder`] alone.
pub trait Start: Sized {
    /// Starts the fabric and spawns the task that drives it.
    ///
    /// Looks the neighbours' names up, all at once and for as long as the system's resolver takes.
    /// One that does not resolve is no error: the fabric knows it as unresolved, with the reason.
    ///
    /// # Errors
    /// [`StartError`] if there is no tokio runtime, the address cannot be bound, the system has no
    /// randomness to give, or the builder holds something that cannot work.
    ///
    /// # Panics
    /// On a runtime that was built without `enable_io` or without `enable_time`.
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
    /// # Panics
    /// As [`start`](Self::start).
    ///
    /// # Cancel safety
    /// As [`start`](Self::start).
    fn start_with_driver(
        self,
    ) -> impl Future<Output = Result<(Fabric, Driver<TokioIo>), StartError>> + Send;
}

impl Start for Builder {
    async fn start(self) -> Result<Fabric, StartError> {
        let runtime = runtime()?;
        let (fabric, driver) = self.start_with_driver().await?;
        runtime.spawn(driver);
        Ok(fabric)
    }

    async fn start_with_driver(self) -> Result<(Fabric, Driver<TokioIo>), StartError> {
        runtime()?;
        let neighbours = self
            .look_up(|host| async move { Ok(tokio::net::lookup_host(host).await?.collect()) })
            .await;
        let address = self.listen_address();
        let io = TokioIo::bind(address).map_err(|error| StartError::bind(address, &error))?;
        self.assemble(io, seed()?, neighbours)
    }
}

fn runtime() -> Result<Handle, StartError> {
    Handle::try_current().map_err(|_| StartError::no_runtime("tokio"))
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
    fn without_a_runtime_the_start_fails_and_says_so() {
        assert_eq!(runtime().unwrap_err(), StartError::no_runtime("tokio"));
    }

    #[test]
    fn two_seeds_differ() {
        assert_ne!(seed().unwrap(), seed().unwrap());
    }
}
