//! The handles that programs hold and the loop that drives the node.
//!
//! Nothing here depends on a runtime: there are wakers and one mutex per fabric, but no socket,
//! clock, timer or spawn. Those come through [`Io`](io::Io).

pub(crate) mod builder;
pub(crate) mod call;
pub(crate) mod dial;
pub(crate) mod driver;
pub(crate) mod endpoint;
mod ends;
pub(crate) mod fabric;
pub(crate) mod fan_out;
pub(crate) mod flow;
pub(crate) mod io;
mod local;
pub(crate) mod members;
#[cfg(feature = "metrics")]
pub(crate) mod metrics;
pub(crate) mod names;
pub(crate) mod query;
pub(crate) mod request;
mod shared;
pub(crate) mod sleep;
#[cfg(feature = "status")]
pub(crate) mod status;
mod trust;
mod waiters;
#[cfg(test)]
mod weight;
