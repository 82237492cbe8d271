//! What a driver crate provides: a socket, a timer and two clocks.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::node::Transmit;

/// The effects that the core asks for, over one UDP socket of one runtime.
///
/// An implementation makes no decision: it does not retry, drop, reorder or log what it carries.
/// Each `poll_` method keeps the waker of the latest call only; one task polls them all.
pub trait Io {
    /// The monotonic clock.
    fn now(&self) -> Instant;

    /// The wall clock, since the Unix epoch.
    fn unix_time(&self) -> Duration;

    /// The address that the socket is bound to.
    fn local_address(&self) -> SocketAddr;

    /// What the socket can do.
    fn capabilities(&self) -> Capabilities;

    /// Receives up to one batch: fills `buffers` and `meta` from the front and returns how many.
    ///
    /// # Errors
    /// Whatever the socket reports; the caller decides whether it is fatal.
    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>>;

    /// Sends one transmit, whole or not at all.
    ///
    /// # Errors
    /// Whatever the socket reports, not filtered: a refused batch or an oversized datagram is the
    /// caller's to handle.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        transmit: &Transmit,
        contents: &[u8],
    ) -> Poll<io::Result<()>>;

    /// Is ready once `deadline` has passed; never without one. A later call replaces the deadline.
    fn poll_timer(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> Poll<()>;
}

/// What a socket can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Most datagrams of one size that one send takes (GSO); 1 without the offload.
    pub max_gso_segments: usize,
    /// Most datagrams that one receive buffer may be filled with (GRO); 1 without the offload.
    pub gro_segments: usize,
    /// Whether datagrams may be fragmented on the way, so that a path's MTU cannot be probed.
    pub may_fragment: bool,
}

/// Where one filled receive buffer came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecvMeta {
    /// The sender.
    pub remote: SocketAddr,
    /// The local address that it was sent to, if known.
    pub local_ip: Option<IpAddr>,
    /// The two ECN bits; `None` if not ECN-capable.
    pub ecn: Option<u8>,
    /// Bytes filled.
    pub length: usize,
    /// Length of each datagram in the buffer; only the last may be shorter.
    pub stride: usize,
}

impl RecvMeta {
    /// A place to receive into.
    #[must_use]
    pub const fn empty() -> Self {
        Self {
            remote: SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0),
            local_ip: None,
            ecn: None,
            length: 0,
            stride: 0,
        }
    }
}
