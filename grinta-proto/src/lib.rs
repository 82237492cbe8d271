//! The sans-IO core of Grinta, a network fabric for async tasks, and the handles that sit on it.
//!
//! A task holds a named **endpoint**; any task of any process in the **fabric** opens a **flow** to
//! that name and gets a typed channel. The code is the same whether the two share a process (a
//! queue) or sit on two machines (a QUIC stream). There is no server and no central authority: the
//! nodes find each other by gossip, agree by gossip on who owns which name, and trust each other by
//! mutual TLS.
//!
//! Programs take a driver crate, `grinta-tokio` or `grinta-smol`, which re-exports all of this and
//! starts a fabric. A library that is written against [`Fabric`], [`Endpoint`], [`Sender`] and
//! [`Receiver`] needs this crate alone, and runs under either.
//!
//! [The book](guide) has a chapter on each part, and on operations, simulation, drivers of one's own
//! and the Go original; this page has the tour, the table of how flows end, and the run loop.
//!
//! # A tour
//!
//! ```
//! use grinta_proto::{Fabric, Raw};
//!
//! # type Failure = Box<dyn std::error::Error>;
//! async fn serve(fabric: &Fabric) -> Result<(), Failure> {
//!     let endpoint = fabric.endpoint("greeter").await?;
//!     let mut flow = endpoint.accept().await?.bidi::<String, String, _>(Raw)?;
//!     while let Some(name) = flow.recv().await? {
//!         flow.send(format!("hello, {name}!")).await?;
//!     }
//!     Ok(())
//! }
//!
//! async fn greet(fabric: &Fabric) -> Result<(), Failure> {
//!     let mut flow = fabric.dial("greeter").bidi::<String, String, _>(Raw).await?;
//!     flow.send("world".to_owned()).await?;
//!     assert_eq!(flow.recv().await?.as_deref(), Some("hello, world!"));
//!     Ok(())
//! }
//! ```
//!
//! - [`Fabric::builder`] says what a node is to be, [`Fabric::join`] takes it to its neighbours.
//! - [`Fabric::endpoint`] claims a name, [`Endpoint::accept`] takes the flows that are dialled to it.
//! - [`Fabric::dial`] finds the name's owner and opens a flow; [`DialError`] says how far it came.
//! - [`Sender`] and [`Receiver`] carry messages of any type that a [`Codec`] encodes: [`Raw`],
//!   [`Protobuf`], `Json` (feature `json`), `Postcard` (feature `postcard`), or one of your own.
//! - [`Caller`] and [`Calls`] make of a flow requests that are answered, many at a time and in any
//!   order.
//! - [`Fabric::fan_out`] calls all nodes that serve a name, or sends to them.
//! - [`Credentials`] hold the certificate that proves a node's name; `DevelopmentCa` (feature
//!   `development`) makes some on the spot.
//!
//! # How flows end
//!
//! Each direction of a flow ends by itself, and each kind of end has an error of its own. A receiver
//! sees a clean end, `Ok(None)`, after everything that was sent and in no other case; an error comes
//! behind all that had arrived, but for a reset, which takes what was not read with it. Of the two
//! ends of a direction, one that has ended it itself has nothing to be told.
//!
//! | what happens | at the [`Sender`]: [`SendCause`] | at the [`Receiver`]: [`ReceiveError`] |
//! |---|---|---|
//! | [`Sender::finish`] | `Ok` once the receiving node has it all | none: `Ok(None)` |
//! | the sender is dropped | | none: `Ok(None)` |
//! | [`Sender::reset`] | | `Reset { code: User(code) }` |
//! | [`Receiver::stop`] | `Stopped { code: User(code) }` | |
//! | the receiver is dropped | `Stopped { code: NoReader }` | |
//! | a message does not decode | `Stopped { code: MessageMalformed }` | `Decode`, then `Stopped` |
//! | a message over the limit arrives all the same | `Stopped { code: MessageTooLong }` | `Frame`, then `Stopped` |
//! | the other node crashes or is cut off, and is not missed before the connection's idle time-out | `Lost(TimedOut)` | `Lost(TimedOut)` |
//! | the fabric holds the other node down | `Lost(Down)` | `Lost(Down)` |
//! | the other node holds this one down | `Lost(Closed { code: Down, .. })` | `Lost(Closed { code: Down, .. })` |
//! | the other node has restarted | `Lost(Restarted)` | `Lost(Restarted)` |
//! | the other node shuts down and the grace period ends | `Lost(Closed { code: Left, .. })` | `Lost(Closed { code: Left, .. })` |
//! | this node's fabric is closed, by a shutdown or because its driver was dropped | `Lost(ShuttingDown)` | `Lost(ShuttingDown)` |
//! | the endpoint is released, or its name lost to another node | nothing: the flow goes on | nothing |
//! | either node leaves with [`Fabric::leave`] | nothing: the flow goes on | nothing |
//!
//! Within a process no node can be lost, and both ends are of one fabric; the rest is the same. A
//! crash and a cut look alike from afar: which of `TimedOut` and `Down` it is depends on what comes
//! first. A message that a sender had taken before a loss may have arrived or not;
//! [`Sender::finish`] and [`Call`] tell when it has.
//!
//! # The core and its run loop
//!
//! [`node::Node`] is a state machine without effects: no socket, clock, thread, lock or randomness
//! of its own. Time, wall clock and seed come in as arguments; the same inputs give the same
//! outputs. Whoever drives one repeats these steps, in this order:
//!
//! ```text
//! ┌─► 1. handle_datagrams   everything that has arrived, before any timer is looked at
//! │   2. handle_timeout     once: acts on what came, on what the user wants, on what is due
//! │   3. poll_event         until None: tell the program
//! │   4. poll_transmit      until None, or until the socket takes no more: send
//! └── 5. poll_timeout       sleep until then, until a datagram comes, or until the user wants
//!                           something; then again from 1
//! ```
//!
//! The first two are in this order for a reason. A process that was frozen wakes with the answers
//! to its probes in its socket; if it looked at its timers first it would declare healthy members
//! down. As code, over a blocking socket:
//!
//! ```no_run
//! use std::net::UdpSocket;
//! use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
//!
//! use grinta_proto::node::{DatagramMeta, Event, Node};
//!
//! fn drive(node: &mut Node, socket: &UdpSocket) -> std::io::Result<()> {
//!     let mut incoming = [0; 2048];
//!     let mut outgoing = Vec::new();
//!     loop {
//!         socket.set_nonblocking(true)?;
//!         while let Ok((length, remote)) = socket.recv_from(&mut incoming) {
//!             let meta = DatagramMeta { remote, local_ip: None, ecn: None, stride: length };
//!             node.handle_datagrams(Instant::now(), meta, incoming[..length].into());
//!         }
//!         let unix_time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
//!         node.handle_timeout(Instant::now(), unix_time);
//!         while let Some(event) = node.poll_event() {
//!             if event == Event::Closed {
//!                 return Ok(());
//!             }
//!             println!("{event:?}");
//!         }
//!         while let Some(transmit) = node.poll_transmit(Instant::now(), 1, &mut outgoing) {
//!             socket.send_to(&outgoing[..transmit.length], transmit.remote)?;
//!         }
//!         let wait = node.poll_timeout().map_or(Duration::MAX, |deadline| {
//!             deadline.saturating_duration_since(Instant::now())
//!         });
//!         if !wait.is_zero() {
//!             socket.set_nonblocking(false)?;
//!             socket.set_read_timeout(Some(wait.min(Duration::from_secs(3600))))?;
//!             socket.peek_from(&mut incoming).ok();
//!         }
//!     }
//! }
//! ```
//!
//! [`Driver`] is this loop as a future over an [`Io`], with the handles on top; a driver crate
//! brings the `Io` and spawns the future once.

mod codec;
pub mod config;
pub mod guide;
mod mutant;
mod name;
pub mod node;
pub mod rules;
mod share;
mod shell;
mod tls;
mod whim;
pub mod wire;

#[cfg(feature = "json")]
pub use codec::Json;
#[cfg(feature = "postcard")]
pub use codec::Postcard;
pub use codec::{
    Codec, CodecError, CodecId, CodecOperation, InvalidCodecId, MESSAGE_TYPE_LEN_MAX, Protobuf, Raw,
};
pub use config::{Config, ConfigError, Labels, Limits, Neighbour};
#[cfg(grinta_mutants)]
pub use mutant::{Mutant, set_mutant};
pub use name::{EndpointName, FabricName, InvalidName, NAME_LEN_MAX, NodeName, Session};
pub use node::control::{
    ClaimError, ClaimMode, Confirmation, ForgetError, Holder, ListedName, NameLimit, NamePage,
    QueryError, QueryReport, Resolution,
};
pub use node::{
    Applicant, Attempt, CertificateSnapshot, Choice, Claimant, ConflictSnapshot, ConnectError,
    ConnectionSnapshot, ConnectionStage, Counters, DialCause, DialError, DialSnapshot, DialStage,
    EndpointRefusal, EndpointSnapshot, EndpointStanding, FlowLoss, FlowSnapshot, FlowStage,
    HealthSnapshot, IdentityConflict, JoinError, JoinReport, Level, LocalFlowSnapshot, LocalSide,
    Member, MemberEvent, MemberSnapshot, MemberState, NameEvent, NamesSnapshot, NodeError,
    OpenedBy, Presence, ShutdownReport, Snapshot, Standing, Transmit, UsageSnapshot,
};
pub use share::{InvalidShare, Share};
pub use shell::builder::{Builder, StartError};
pub use shell::call::{Call, CallError, Caller, Calls, Request, Responder};
pub use shell::dial::{Asking, BothWays, Dial, ReceiveOnly, Requesting, SendOnly, Untyped};
pub use shell::driver::Driver;
pub use shell::endpoint::{AcceptError, Endpoint, EndpointError, Incoming, OpenEndpoint};
pub use shell::fabric::{Elapsed, Fabric};
pub use shell::fan_out::{FanOut, FanOutError, Outcome, Outcomes};
pub use shell::flow::{
    ByteReader, ByteStream, ByteWriter, Flow, Path, Permit, ReceiveError, Receiver, SendCause,
    SendError, Sender,
};
pub use shell::io::{Capabilities, Io, RecvMeta};
pub use shell::members::{MemberWatch, WatchError};
#[cfg(feature = "metrics")]
pub use shell::metrics::Metrics;
pub use shell::names::{NameScan, NameUpdate, NameWatch};
pub use shell::query::Query;
pub use shell::request::{RequestCause, RequestError};
pub use shell::sleep::Interval;
#[cfg(feature = "status")]
pub use shell::status::{STATUS_ENDPOINT, Status};
pub use tls::{
    Credentials, CredentialsError, Der, MalformedCertificate, Origin, Part, Pem, PemFiles,
    TlsAlert, TlsFailure, certified_names,
};
#[cfg(feature = "development")]
pub use tls::{DevelopmentCa, DevelopmentError};
#[cfg(grinta_mutants)]
pub use whim::set_whims;
pub use wire::code::{Code, UnknownCode};
pub use wire::control::{LabelsError, NameView};
pub use wire::frame::FrameError;
pub use wire::stream::{Direction, Refusal, RefusalReason};
