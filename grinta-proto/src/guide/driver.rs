//! A driver: the core on a runtime of your own.
//!
//! There are two borders to choose from.
//!
//! - [`node::Node`](crate::node::Node) is the state machine alone, without handles: datagrams and time
//!   in, datagrams and events out. The [crate's documentation](crate#the-core-and-its-run-loop) has its
//!   run loop, as a list and as code.
//! - [`Driver`](crate::Driver) is that loop as a future, with the handles on top. It wants an
//!   [`Io`](crate::Io), five small methods over a socket and a timer, and makes all decisions itself.
//!   `grinta-tokio` and `grinta-smol` are such an `Io` and a `spawn`, with batches of datagrams for
//!   speed.
//!
//! Here is one without any runtime: a blocking socket, and a thread that polls. It lacks what makes
//! the others fast, and nothing else:
//!
//! ```no_run
//! use std::future::Future;
//! use std::io::{self, ErrorKind, IoSliceMut};
//! use std::net::{SocketAddr, UdpSocket};
//! use std::pin::pin;
//! use std::task::{Context, Poll, Waker};
//! use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
//!
//! use grinta_proto::{Builder, Capabilities, Credentials, Fabric, Io, RecvMeta, Transmit};
//!
//! struct Plain {
//!     socket: UdpSocket,
//!     address: SocketAddr,
//! }
//!
//! impl Plain {
//!     fn bind(address: SocketAddr) -> io::Result<Self> {
//!         let socket = UdpSocket::bind(address)?;
//!         socket.set_nonblocking(true)?;
//!         let address = socket.local_addr()?;
//!         Ok(Self { socket, address })
//!     }
//! }
//!
//! // Whoever polls this does so every millisecond, so no waker has to be kept.
//! impl Io for Plain {
//!     fn now(&self) -> Instant {
//!         Instant::now()
//!     }
//!
//!     fn unix_time(&self) -> Duration {
//!         SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
//!     }
//!
//!     fn local_address(&self) -> SocketAddr {
//!         self.address
//!     }
//!
//!     fn capabilities(&self) -> Capabilities {
//!         Capabilities { max_gso_segments: 1, gro_segments: 1, may_fragment: true }
//!     }
//!
//!     fn poll_recv(
//!         &mut self,
//!         _: &mut Context<'_>,
//!         buffers: &mut [IoSliceMut<'_>],
//!         meta: &mut [RecvMeta],
//!     ) -> Poll<io::Result<usize>> {
//!         match self.socket.recv_from(&mut buffers[0]) {
//!             Ok((length, remote)) => {
//!                 meta[0] = RecvMeta { remote, local_ip: None, ecn: None, length, stride: length };
//!                 Poll::Ready(Ok(1))
//!             }
//!             Err(error) if error.kind() == ErrorKind::WouldBlock => Poll::Pending,
//!             Err(error) => Poll::Ready(Err(error)),
//!         }
//!     }
//!
//!     fn poll_send(
//!         &mut self,
//!         _: &mut Context<'_>,
//!         transmit: &Transmit,
//!         contents: &[u8],
//!     ) -> Poll<io::Result<()>> {
//!         match self.socket.send_to(contents, transmit.remote) {
//!             Ok(_) => Poll::Ready(Ok(())),
//!             Err(error) if error.kind() == ErrorKind::WouldBlock => Poll::Pending,
//!             Err(error) => Poll::Ready(Err(error)),
//!         }
//!     }
//!
//!     fn poll_timer(&mut self, _: &mut Context<'_>, deadline: Option<Instant>) -> Poll<()> {
//!         match deadline.is_some_and(|deadline| Instant::now() >= deadline) {
//!             true => Poll::Ready(()),
//!             false => Poll::Pending,
//!         }
//!     }
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     # let seed = [0; 32];
//!     let credentials = Credentials::development(&"solo".parse()?)?;
//!     let builder: Builder = Fabric::builder("solo").credentials(credentials);
//!     let io = Plain::bind(builder.listen_address())?;
//!     // `seed` comes from the system's randomness, neighbours from `Builder::look_up`.
//!     let (fabric, driver) = builder.assemble(io, seed, vec![])?;
//!     let (mut driver, mut program) = (pin!(driver), pin!(fabric.shutdown()));
//!     let mut cx = Context::from_waker(Waker::noop());
//!     loop {
//!         let has_ended = program.as_mut().poll(&mut cx).is_ready();
//!         if driver.as_mut().poll(&mut cx).is_ready() && has_ended {
//!             return Ok(());
//!         }
//!         std::thread::sleep(Duration::from_millis(1));
//!     }
//! }
//! ```
//!
//! # The rules
//!
//! - An `Io` does not retry, drop, reorder or log; a `poll_` method keeps the waker of the latest call.
//! - Datagrams come before timers: a process that was frozen finds the answers to its probes in its
//!   socket. [`Driver`](crate::Driver) does that by itself; who drives a bare `Node` has to.
//! - The driver is spawned once, and is all that runs. Dropping it closes the fabric without a goodbye.
//! - The suite in `tests/it/loopback` of the repository runs over every driver: add yours.
//!
//! Next: [coming from Go](super::from_go).
