//! A socket that the tests bring along: its address is known before its node, and its wall clock
//! can be wrong. Under any runtime, as async-io has a thread of its own.

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use grinta_proto::{Capabilities, Io, RecvMeta, Transmit};
use smol::{Async, Timer};

/// A plain UDP socket, one datagram at a time.
pub(super) struct TestIo {
    socket: Async<UdpSocket>,
    timer: Timer,
    ahead: Duration,
}

impl TestIo {
    pub(super) fn bind() -> io::Result<Self> {
        Ok(Self {
            socket: Async::<UdpSocket>::bind((Ipv4Addr::LOCALHOST, 0))?,
            timer: Timer::never(),
            ahead: Duration::ZERO,
        })
    }

    /// The same with a wall clock that is ahead of time.
    pub(super) fn ahead(mut self, ahead: Duration) -> Self {
        self.ahead = ahead;
        self
    }
}

impl Io for TestIo {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn unix_time(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + self.ahead
    }

    fn local_address(&self) -> SocketAddr {
        self.socket.get_ref().local_addr().unwrap()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_gso_segments: 1,
            gro_segments: 1,
            may_fragment: true,
        }
    }

    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.socket.get_ref().recv_from(&mut buffers[0]) {
                Ok((length, remote)) => {
                    meta[0] = RecvMeta {
                        remote,
                        length,
                        stride: length,
                        ..RecvMeta::empty()
                    };
                    return Poll::Ready(Ok(1));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            match self.socket.poll_readable(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        transmit: &Transmit,
        contents: &[u8],
    ) -> Poll<io::Result<()>> {
        loop {
            match self.socket.get_ref().send_to(contents, transmit.remote) {
                Ok(_) => return Poll::Ready(Ok(())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            match self.socket.poll_writable(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> Poll<()> {
        let Some(deadline) = deadline else {
            return Poll::Pending;
        };
        self.timer.set_at(deadline);
        Pin::new(&mut self.timer).poll(cx).map(|_| ())
    }
}
