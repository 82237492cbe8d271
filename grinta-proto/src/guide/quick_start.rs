//! Quick start: a node, an endpoint, a flow.
//!
//! A program depends on one driver crate, `grinta-tokio` or `grinta-smol`, which re-exports all that
//! is here and adds the trait `Start`:
//!
//! ```toml
//! [dependencies]
//! grinta-tokio = { version = "0.1", features = ["development"] }
//! ```
//!
//! # A node
//!
//! A node has a name, credentials that prove it, and neighbours by which it finds the others. The
//! first node of a fabric has none. `start` is the driver's and the only line that knows a runtime:
//!
//! ```
//! use grinta_proto::{Builder, DevelopmentCa, Fabric};
//!
//! fn node(name: &str, neighbour: Option<&str>) -> Result<Builder, Box<dyn std::error::Error>> {
//!     // A CA in a directory that only this user can read: its nodes trust each other.
//!     let ca = DevelopmentCa::open(&DevelopmentCa::default_directory()?)?;
//!     let builder = Fabric::builder(name).credentials(ca.issue(&name.parse()?)?);
//!     Ok(match neighbour {
//!         Some(host) => builder.neighbour(host),
//!         None => builder,
//!     })
//! }
//!
//! // let fabric = node("node-1", None)?.start().await?;
//! # node("node-1", None).ok();
//! ```
//!
//! Then it joins: [`Fabric::join`](crate::Fabric::join) returns once neighbours have answered, and
//! fails if none does.
//!
//! # An endpoint and a flow
//!
//! Any task of any node opens an endpoint under a name, and any other task dials that name. Neither
//! knows whether the other is in its own process:
//!
//! ```
//! use grinta_proto::{Fabric, Raw};
//!
//! # type Failure = Box<dyn std::error::Error>;
//! async fn serve(fabric: &Fabric) -> Result<(), Failure> {
//!     let endpoint = fabric.endpoint("greeter").await?;
//!     loop {
//!         let mut flow = endpoint.accept().await?.bidi::<String, String, _>(Raw)?;
//!         while let Some(name) = flow.recv().await? {
//!             flow.send(format!("hello, {name}!")).await?;
//!         }
//!     }
//! }
//!
//! async fn greet(fabric: &Fabric) -> Result<(), Failure> {
//!     // The name may not have reached this node yet: wait for it, within the dial's deadline.
//!     let dial = fabric.dial("greeter").wait_for_name();
//!     let mut flow = dial.bidi::<String, String, _>(Raw).await?;
//!     flow.send("world".to_owned()).await?;
//!     assert_eq!(flow.recv().await?.as_deref(), Some("hello, world!"));
//!     Ok(())
//! }
//! ```
//!
//! # The end
//!
//! [`Fabric::shutdown`](crate::Fabric::shutdown) tells the others, lets flows drain, and says what
//! could not be delivered. Dropping the last [`Fabric`](crate::Fabric) does the same without waiting.
//!
//! Libraries take a `&Fabric` and depend on `grinta-proto` alone: they run under every driver, and in
//! the [simulator](super::simulation).
//!
//! Next: [names](super::names).
