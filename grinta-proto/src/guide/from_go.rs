//! Coming from Go: what became of what.
//!
//! The words are the same, fabric, endpoint and flow, and so is the idea. The wire contract is not: a
//! fabric is of one kind or the other.
//!
//! | in Go | here |
//! |---|---|
//! | `Create(opts...)` | [`Fabric::builder`](crate::Fabric::builder), and `start` of the driver crate |
//! | `WithListenOn`, `WithAdvertise` | [`listen`](crate::Builder::listen), [`advertise`](crate::Builder::advertise) |
//! | `WithNodeName` | the argument of `builder`; it must be in the certificate |
//! | `WithNodeLabels` | [`label`](crate::Builder::label), [`Fabric::set_labels`](crate::Fabric::set_labels) |
//! | `WithTlsConfig` | [`credentials`](crate::Builder::credentials): mutual TLS, always |
//! | `WithNeighbours` | [`neighbour`](crate::Builder::neighbour) |
//! | `WithDialTimeout`, `WithGracePeriod` | [`dial_timeout`](crate::Builder::dial_timeout), [`grace_period`](crate::Builder::grace_period) |
//! | `WithHintMaxFlows` | [`Limits::flows_per_peer_max`](crate::Limits::flows_per_peer_max) |
//! | `WithMetricSink`, `WithMetricLabels` | `Fabric::metrics` and `Metrics::label` (feature `metrics`) |
//! | `WithLog` | a `tracing` subscriber |
//! | `JoinCluster` | [`Fabric::join`](crate::Fabric::join) |
//! | `Topology` | [`Fabric::members`](crate::Fabric::members), [`Fabric::watch_members`](crate::Fabric::watch_members) |
//! | `Shutdown` | [`Fabric::shutdown`](crate::Fabric::shutdown) |
//! | `CreateEndpoint(name)` | [`Fabric::endpoint`](crate::Fabric::endpoint) |
//! | `Accept` | [`Endpoint::accept`](crate::Endpoint::accept) |
//! | `ScanEndpoint(prefix)` | [`Fabric::names`](crate::Fabric::names), [`Fabric::watch_names`](crate::Fabric::watch_names) |
//! | `ResolveEndpoint(query)` | [`Fabric::resolve`](crate::Fabric::resolve) from the replica, [`Fabric::query`](crate::Fabric::query) from the others |
//! | `DialEndpoint`, `DialEndpointBidi` | [`Fabric::dial`](crate::Fabric::dial), then [`sender`](crate::Dial::sender) or [`bidi`](crate::Dial::bidi) |
//! | `Send(encoder, msg)`, `Recv(decoder)` | the codec is said once, when the flow opens; messages are typed |
//! | `BytesCodec`, `JsonEncoder`, the protobuf codec | [`Raw`](crate::Raw), `Json`, [`Protobuf`](crate::Protobuf), and `Postcard` |
//! | `localCopy` | none: within the process values move |
//! | a `context.Context` with a deadline | [`Dial::deadline`](crate::Dial::deadline), [`Fabric::timeout`](crate::Fabric::timeout); dropping the future cancels |
//!
//! # What behaves otherwise
//!
//! - A name has one owner, by a rule that all nodes compute alike; there is no conflict for a program
//!   to resolve. Who loses a name [is told](crate::AcceptError::NameLost).
//! - An error says at which stage a dial failed, and which nodes it tried.
//! - A message that was accepted arrives, or both ends learn that the flow broke. A clean end means
//!   that everything was read.
//! - In-process flows have the limits, the order and the errors of the others.
//! - A connection that is lost declares nobody dead.
//! - The metrics keep their names where there were some, in the facade's form:
//!   `grinta.datagram.bytes`, `grinta.datagram.errors`, `grinta.stream.established.count`,
//!   `grinta.stream.errors`, `grinta.flow.established.count`, `grinta.flow.errors`,
//!   `grinta.connection.established.count`, `grinta.connection.errors`, with the label `perspective`.
//!   Labels with addresses or names are gone: they had no bound.
