//! Operations: profiles, limits, logs, metrics, the command line, shutdown.
//!
//! # Profiles
//!
//! The default suits one data centre. [`Builder::wan`](crate::Builder::wan) is for long distances,
//! [`Builder::fast`](crate::Builder::fast) finds a crash within three seconds at twice the traffic,
//! [`Builder::test`](crate::Builder::test) is for tests.
//! [`Builder::configure`](crate::Builder::configure) changes whatever [`config`](crate::config) has,
//! where each field says its unit, its default and the reason for it:
//!
//! ```
//! use grinta_proto::Fabric;
//!
//! let builder = Fabric::builder("node-1")
//!     .fast()
//!     .label("zone", "b")
//!     .configure(|config| {
//!         config.limits.accept_queue_max = 256;
//!         config.limits.message_len_max = 64 << 20;
//!     });
//! # drop(builder);
//! ```
//!
//! # Limits
//!
//! Every queue, table and wait has one. At a limit the caller waits or gets a typed error that names
//! the limit; nothing is dropped in silence. [`Snapshot`](crate::Snapshot) shows what is in use next
//! to each.
//!
//! # What to look at
//!
//! [`Fabric::snapshot`](crate::Fabric::snapshot) is the one source: members with round-trip times,
//! connections, names, endpoints, flows, dials, queues, the certificate, and counters. It can be
//! written out with the feature `serde`. On top of it:
//!
//! - `Fabric::metrics` (feature `metrics`) hands it to the recorder of the `metrics` facade.
//! - `Endpoint::serve_status` (feature `status`) tells it to whoever asks over a flow; `grinta top`
//!   does.
//!
//! | watch | because |
//! |---|---|
//! | `grinta.certificate.expires_in.seconds` | a node whose certificate expires is not let in again |
//! | `grinta.member.false_down.count` | members that were held down and had not been: the network, or a host without time, is at fault |
//! | `grinta.flow.slow_consumers` | somewhere a program does not read |
//! | `grinta.queue.fullest` near 1 | a sender waits, or soon will |
//! | `grinta.connection.errors` with `perspective="server"` | somebody without a good certificate knocks |
//! | `grinta.identity_conflict` | two processes were started with one certificate |
//!
//! # Logs
//!
//! Through `tracing`. The targets are an interface: `grinta::member`, `grinta::name`, `grinta::flow`,
//! `grinta::quic`. INFO tells of lifecycles, a member that comes or goes; WARN wants a look, once for
//! each episode; state changes are DEBUG, packets TRACE.
//!
//! A flow carries the trace that it belongs to in its first frame, as a W3C `traceparent`:
//! [`Dial::traceparent`](crate::Dial::traceparent) at one end,
//! [`Incoming::traceparent`](crate::Incoming::traceparent) at the other.
//!
//! # The command line
//!
//! `grinta` (package `grinta-tokio`, feature `cli`) is a node for as long as one call takes: `members`,
//! `names`, `explain NAME` for who owns it and why it cannot be dialled, `doctor` for what is in the way
//! of a node, `top` for what goes on, `bench` for what the network gives.
//!
//! # What happens when
//!
//! - **A process ends in order**, by [`Fabric::shutdown`](crate::Fabric::shutdown): the others know
//!   within a second, its names are free, flows drain first.
//! - **A process crashes**: known within about eleven seconds among a hundred nodes, two to three with
//!   `fast`. Standbys take over then. Flows break with [`FlowLoss`](crate::FlowLoss).
//! - **It will not come back**: [`Fabric::forget`](crate::Fabric::forget) frees its names.
//! - **The network is cut**: each side holds the other down and goes on. Once it is mended, both know
//!   each other again within seconds, and each name has one owner.
//! - **A node is to be taken out for a while** but not ended: [`Fabric::leave`](crate::Fabric::leave),
//!   and [`join`](crate::Fabric::join) to bring it back.
//! - **Two processes go by one name**: both are told, by
//!   [`Fabric::identity_conflict`](crate::Fabric::identity_conflict); the later one goes on.
//!
//! Next: [simulation](super::simulation).
