//! The third driver: a socket, a timer and two clocks that exist in the simulation only.

use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use grinta_proto::{Capabilities, Driver, Io, Level, RecvMeta, Transmit, UsageSnapshot};

use crate::crypto::Entropy;
use crate::draw::Purpose;
use crate::marks::sometimes;
use crate::network::HostId;
use crate::world::{Datagram, Event, World};

/// A UDP socket of a simulated host.
pub struct SimIo {
    world: Rc<World>,
    host: HostId,
    address: SocketAddr,
    /// How often it was asked to send.
    sends: u64,
}

/// Drives a fabric in the simulation. It ends with the fabric; dropped, it kills the node.
#[must_use = "a fabric without its driver does nothing"]
pub struct SimDriver {
    driver: Driver<SimIo>,
    entropy: Entropy,
    world: Rc<World>,
}

impl SimIo {
    pub(crate) fn bind(world: &Rc<World>, host: HostId, address: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            address: world.bind(host, address)?,
            host,
            world: Rc::clone(world),
            sends: 0,
        })
    }

    /// Whether the socket does not take what is sent: it is full, or fails.
    fn refuse(&mut self, cx: &Context<'_>) -> Option<Poll<io::Result<()>>> {
        let share = self.world.with_host(self.host, |host| host.refusals);
        self.sends += 1;
        let draw = |part| {
            let host = u64::from(self.host.0);
            self.world
                .draws
                .draw(Purpose::Refusal, host, part, self.sends)
        };
        if !draw(0).chance(share) {
            return None;
        }
        sometimes!(true, SendRefused);
        if draw(1).chance(500_000) {
            return Some(Poll::Ready(Err(io::ErrorKind::PermissionDenied.into())));
        }
        let at = self.world.now.get() + SOCKET_FULL;
        self.world.plan(at, Event::Wake(cx.waker().clone()));
        Some(Poll::Pending)
    }
}

/// A UDP socket for whoever is no node.
pub(crate) struct Port {
    world: Rc<World>,
    host: HostId,
    address: SocketAddr,
}

impl Port {
    pub(crate) fn bind(world: &Rc<World>, host: HostId, address: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            address: world.bind(host, address)?,
            host,
            world: Rc::clone(world),
        })
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next datagram that has arrived, and where it says that it comes from.
    pub(crate) fn receive(&self) -> Option<(SocketAddr, Rc<[u8]>)> {
        let datagram = self.world.receive(self.address, std::task::Waker::noop())?;
        Some((datagram.from, datagram.payload))
    }

    /// Sends a datagram from here, or one that says that it comes from elsewhere.
    pub(crate) fn send(&self, spoofed: Option<SocketAddr>, to: SocketAddr, payload: &[u8]) {
        let datagram = Datagram {
            from: spoofed.unwrap_or(self.address),
            to,
            ecn: None,
            payload: Rc::from(payload),
        };
        self.world.send_from(Some(self.host), datagram);
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.world.unbind(self.address);
    }
}

impl SimDriver {
    pub(crate) const fn new(world: Rc<World>, driver: Driver<SimIo>, entropy: Entropy) -> Self {
        Self {
            driver,
            entropy,
            world,
        }
    }
}

impl Io for SimIo {
    fn now(&self) -> Instant {
        let now = self.world.now.get();
        let shown = self
            .world
            .with_host(self.host, |host| host.clock.shows(now));
        self.world.epoch + shown
    }

    fn unix_time(&self) -> Duration {
        let now = self.world.now.get();
        self.world
            .with_host(self.host, |host| host.unix_epoch + host.clock.shows(now))
    }

    fn local_address(&self) -> SocketAddr {
        self.address
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_gso_segments: GSO_SEGMENTS_MAX,
            gro_segments: 1,
            may_fragment: false,
        }
    }

    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut filled = 0;
        for (buffer, meta) in buffers.iter_mut().zip(meta) {
            let Some(datagram) = self.world.receive(self.address, cx.waker()) else {
                break;
            };
            // As a socket does: what the buffer does not take is gone.
            let length = datagram.payload.len().min(buffer.len());
            buffer[..length].copy_from_slice(&datagram.payload[..length]);
            *meta = RecvMeta {
                remote: datagram.from,
                local_ip: Some(datagram.to.ip()),
                ecn: datagram.ecn,
                length,
                stride: length,
            };
            filled += 1;
        }
        if filled == 0 {
            return Poll::Pending;
        }
        Poll::Ready(Ok(filled))
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        transmit: &Transmit,
        contents: &[u8],
    ) -> Poll<io::Result<()>> {
        if let Some(refusal) = self.refuse(cx) {
            return refusal;
        }
        let segment = transmit.segment_size.unwrap_or(contents.len()).max(1);
        for payload in contents.chunks(segment) {
            self.world.send(Datagram {
                from: self.address,
                to: transmit.remote,
                ecn: transmit.ecn,
                payload: Rc::from(payload),
            });
        }
        Poll::Ready(Ok(()))
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> Poll<()> {
        let deadline =
            deadline.map(|deadline| deadline.saturating_duration_since(self.world.epoch));
        if self.world.is_due(self.address, deadline, cx.waker()) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl Drop for SimIo {
    fn drop(&mut self) {
        self.world.unbind(self.address);
    }
}

impl std::fmt::Debug for SimIo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimIo")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Future for SimDriver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self {
            driver,
            entropy,
            world,
        } = self.get_mut();
        let polled = entropy.lend(|| Pin::new(&mut *driver).poll(cx));
        if let Some(what) = over_limit(levels(&driver.usage())) {
            world.tell_over_limit(what);
        }
        polled
    }
}

impl std::fmt::Debug for SimDriver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimDriver")
            .field("driver", &self.driver)
            .finish_non_exhaustive()
    }
}

/// What is bounded of a node as a whole.
pub(crate) const fn levels(usage: &UsageSnapshot) -> [(&'static str, Level); 6] {
    let handshakes = Level {
        used: usage.handshakes.used,
        // Beyond the limit newcomers prove their address first.
        limit: 2 * usage.handshakes.limit,
    };
    [
        ("connections", usage.connections),
        ("handshakes", handshakes),
        ("endpoints", usage.endpoints),
        ("dials", usage.dials),
        ("held", usage.held),
        ("redials", usage.redials),
    ]
}

/// The first that is beyond its limit, in words.
pub(crate) fn over_limit(
    levels: impl IntoIterator<Item = (&'static str, Level)>,
) -> Option<String> {
    let mut levels = levels.into_iter();
    let (what, Level { used, limit }) = levels.find(|(_, level)| level.used > level.limit)?;
    Some(format!("{what}: {used} of {limit}"))
}

/// As many datagrams as one send takes, as kernels do.
const GSO_SEGMENTS_MAX: usize = 64;

/// How long a socket is full that refuses to send.
const SOCKET_FULL: Duration = Duration::from_millis(1);
