//! The effects that the core asks for, on tokio: one UDP socket, one timer, two clocks.
//!
//! Nothing here decides anything. What the socket reports goes up as it is; quinn-udp alone retries
//! calls that a signal interrupted. Addresses are canonical above this module: an IPv4 peer of a
//! dual-stack socket has an IPv4 address there, and takes its IPv6-mapped form only in here.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use quinn_udp::{BATCH_SIZE, EcnCodepoint, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::Sleep;

use grinta_proto::{Capabilities, Io, RecvMeta, Transmit};

/// Asked of the system for each direction, in bytes. The usual 208 KiB hold fewer than a hundred
/// full datagrams, and a burst from several peers loses the rest.
const SOCKET_BUFFER_LEN: usize = 4 << 20;

/// A UDP socket, a timer and the clocks of a tokio runtime.
pub struct TokioIo {
    socket: UdpSocket,
    state: UdpSocketState,
    local_address: SocketAddr,
    received: Box<[quinn_udp::RecvMeta]>,
    deadline: Option<Instant>,
    /// Fires at the deadline or before: a deadline that moves away is followed when it has fired.
    timer: Option<Pin<Box<Sleep>>>,
}

impl TokioIo {
    /// Binds a socket to `address`; the IPv6 wildcard serves IPv4 as well.
    ///
    /// # Errors
    /// Whatever the system reports.
    ///
    /// # Panics
    /// Outside a tokio runtime, and on one that was built without its IO driver.
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = open(address)?;
        let state = UdpSocketState::new((&socket).into())?;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        disable_timestamps(&socket);
        Ok(Self {
            local_address: socket.local_addr()?,
            socket: UdpSocket::from_std(socket)?,
            state,
            received: vec![quinn_udp::RecvMeta::default(); BATCH_SIZE].into(),
            deadline: None,
            timer: None,
        })
    }
}

impl Io for TokioIo {
    /// The clock that the runtime's timers follow, a paused one too.
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn unix_time(&self) -> Duration {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
    }

    fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_gso_segments: self.state.max_gso_segments(),
            gro_segments: self.state.gro_segments(),
            may_fragment: self.state.may_fragment(),
        }
    }

    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let Self {
            socket,
            state,
            received,
            deadline,
            ..
        } = self;
        let slots = buffers.len().min(meta.len()).min(received.len());
        if slots == 0 {
            return Poll::Ready(Ok(0));
        }
        // A process that was stopped wakes with datagrams in its socket, and its timers can fire
        // before the reactor has looked. So the socket itself has the last word before they do.
        let mut is_doubted = true;
        let mut recv = || state.recv((&*socket).into(), &mut buffers[..slots], received);
        let filled = loop {
            let result = if socket.poll_recv_ready(cx)?.is_ready() {
                let mut filled = 0;
                let emptied = socket.try_io(Interest::READABLE, || {
                    filled = recv()?;
                    // A batch that is not full was all there is: no second call has to find out.
                    match filled {
                        full if full == slots => Ok(()),
                        _ => Err(io::ErrorKind::WouldBlock.into()),
                    }
                });
                match emptied {
                    Err(_) if filled > 0 => Ok(filled),
                    result => result.map(|()| filled),
                }
            } else if std::mem::take(&mut is_doubted)
                && deadline.is_some_and(|it| it <= tokio::time::Instant::now().into_std())
            {
                recv()
            } else {
                return Poll::Pending;
            };
            match result {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => break result?,
            }
        };
        for (meta, received) in meta.iter_mut().zip(&received[..filled]) {
            *meta = recv_meta(received);
        }
        Poll::Ready(Ok(filled))
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        transmit: &Transmit,
        contents: &[u8],
    ) -> Poll<io::Result<()>> {
        let transmit = socket_transmit(self.local_address, transmit, contents)?;
        loop {
            ready!(self.socket.poll_send_ready(cx))?;
            let send = || self.state.try_send((&self.socket).into(), &transmit);
            match self.socket.try_io(Interest::WRITABLE, send) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> Poll<()> {
        self.deadline = deadline;
        let Some(deadline) = deadline.map(tokio::time::Instant::from_std) else {
            self.timer = None;
            return Poll::Pending;
        };
        // The runtime's timers may lag behind its clock.
        if deadline <= tokio::time::Instant::now() {
            return Poll::Ready(());
        }
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        while timer.as_mut().poll(cx).is_ready() {
            if deadline <= tokio::time::Instant::now() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

impl fmt::Debug for TokioIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokioIo")
            .field("local_address", &self.local_address)
            .field("capabilities", &self.capabilities())
            .finish_non_exhaustive()
    }
}

fn open(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        socket.set_only_v6(false)?;
    }
    for result in [
        socket.set_recv_buffer_size(SOCKET_BUFFER_LEN),
        socket.set_send_buffer_size(SOCKET_BUFFER_LEN),
    ] {
        if let Err(error) = result {
            tracing::debug!(target: "grinta::quic", %error, "the system refused a socket buffer");
        }
    }
    socket.bind(&address.into())?;
    tracing::debug!(
        target: "grinta::quic",
        %address,
        asked = SOCKET_BUFFER_LEN,
        receive_buffer = socket.recv_buffer_size().ok(),
        send_buffer = socket.send_buffer_size().ok(),
        "bound the socket",
    );
    Ok(socket.into())
}

/// Takes back what quinn-udp 0.6.3 asks for and has no room for: with a timestamp beside it, the ECN
/// mark of a coalesced batch does not fit the control messages and is lost.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn disable_timestamps(socket: &std::net::UdpSocket) {
    use nix::sys::socket::{setsockopt, sockopt::ReceiveTimestampns};

    if let Err(error) = setsockopt(socket, ReceiveTimestampns, &false) {
        tracing::debug!(target: "grinta::quic", %error, "the system keeps timestamps enabled");
    }
}

fn recv_meta(received: &quinn_udp::RecvMeta) -> RecvMeta {
    RecvMeta {
        remote: canonical(received.addr),
        local_ip: received.dst_ip.map(|ip| ip.to_canonical()),
        ecn: received.ecn.map(|codepoint| codepoint as u8),
        length: received.len,
        stride: received.stride,
    }
}

fn socket_transmit<'a>(
    local_address: SocketAddr,
    transmit: &Transmit,
    contents: &'a [u8],
) -> io::Result<quinn_udp::Transmit<'a>> {
    if transmit.remote.port() == 0 {
        // The system's refusal would make quinn-udp give up GSO and ECN for every other peer.
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("cannot send to {}: it has no port", transmit.remote),
        ));
    }
    let over_ipv6 = local_address.is_ipv6();
    let destination = if over_ipv6 && transmit.remote.is_ipv4() {
        SocketAddr::new(mapped(transmit.remote.ip()), transmit.remote.port())
    } else {
        transmit.remote
    };
    Ok(quinn_udp::Transmit {
        destination,
        ecn: transmit.ecn.and_then(EcnCodepoint::from_bits),
        contents: &contents[..transmit.length],
        segment_size: transmit.segment_size,
        src_ip: transmit
            .local_ip
            .map(|ip| if over_ipv6 { mapped(ip) } else { ip }),
    })
}

/// The address in the form that an IPv6 socket takes.
fn mapped(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().into(),
        IpAddr::V6(_) => ip,
    }
}

/// The address without its IPv6-mapped form; the scope of a true IPv6 address stays.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::mem::MaybeUninit;
    use std::net::Ipv4Addr;

    use socket2::SockRef;

    use super::*;

    const LOOPBACK_V4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    const LOOPBACK_V6: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 0);
    const WILDCARD_V6: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);
    const ECT_0: u8 = 0b10;
    /// tokio rounds a deadline up to the next millisecond.
    const TIMER_GRANULARITY: Duration = Duration::from_millis(2);

    #[tokio::test]
    async fn a_batch_arrives_as_the_datagrams_it_was_made_of() {
        for (from, to) in [
            (LOOPBACK_V4, LOOPBACK_V4),
            (LOOPBACK_V6, LOOPBACK_V6),
            (LOOPBACK_V4, WILDCARD_V6),
        ] {
            let mut sender = TokioIo::bind(from).unwrap();
            let mut receiver = TokioIo::bind(to).unwrap();
            let remote = SocketAddr::new(from.ip(), receiver.local_address().port());

            let segments = sender.capabilities().max_gso_segments.min(5);
            let contents: Vec<u8> = (0..segments * 1_000 - 300)
                .map(|i| (i / 1_000) as u8)
                .collect();
            let transmit = Transmit {
                ecn: Some(ECT_0),
                segment_size: (segments > 1).then_some(1_000),
                ..transmit_to(remote, contents.len())
            };
            send(&mut sender, &transmit, &contents).await.unwrap();

            let mut datagrams = Vec::new();
            while datagrams.len() < segments {
                for (meta, datagram) in recv(&mut receiver).await {
                    assert_eq!(meta.remote, sender.local_address());
                    assert_eq!(meta.local_ip, Some(from.ip()));
                    assert_eq!(meta.ecn, Some(ECT_0));
                    datagrams.push(datagram);
                }
            }
            let expected: Vec<Vec<u8>> = contents.chunks(1_000).map(<[u8]>::to_vec).collect();
            assert_eq!(datagrams, expected);
        }
    }

    #[tokio::test]
    async fn a_datagram_without_ecn_arrives_without() {
        let mut sender = TokioIo::bind(LOOPBACK_V4).unwrap();
        let mut receiver = TokioIo::bind(LOOPBACK_V4).unwrap();

        let transmit = transmit_to(receiver.local_address(), 5);
        send(&mut sender, &transmit, b"hello").await.unwrap();

        assert_eq!(recv(&mut receiver).await[0].0.ecn, None);
    }

    #[tokio::test]
    async fn the_ipv6_wildcard_answers_an_ipv4_peer() {
        let mut wildcard = TokioIo::bind(WILDCARD_V6).unwrap();
        let mut peer = TokioIo::bind(LOOPBACK_V4).unwrap();
        let port = wildcard.local_address().port();

        let question = transmit_to(SocketAddr::new(LOOPBACK_V4.ip(), port), 8);
        send(&mut peer, &question, b"question").await.unwrap();
        let (meta, datagram) = recv(&mut wildcard).await.remove(0);
        assert_eq!(datagram, b"question");
        assert_eq!(meta.remote, peer.local_address());
        assert_eq!(meta.local_ip, Some(LOOPBACK_V4.ip()));

        let answer = Transmit {
            local_ip: meta.local_ip,
            ecn: Some(ECT_0),
            ..transmit_to(meta.remote, 6)
        };
        send(&mut wildcard, &answer, b"answer").await.unwrap();
        let (meta, datagram) = recv(&mut peer).await.remove(0);
        assert_eq!(datagram, b"answer");
        assert_eq!(meta.remote, question.remote);
        assert_eq!(meta.ecn, Some(ECT_0));
    }

    #[tokio::test]
    async fn an_answer_leaves_from_the_address_that_was_asked() {
        let mut wildcard = TokioIo::bind("0.0.0.0:0".parse().unwrap()).unwrap();
        let mut peer = TokioIo::bind(LOOPBACK_V4).unwrap();
        let asked: IpAddr = Ipv4Addr::new(127, 0, 0, 2).into();

        let answer = Transmit {
            local_ip: Some(asked),
            ..transmit_to(peer.local_address(), 6)
        };
        send(&mut wildcard, &answer, b"answer").await.unwrap();

        assert_eq!(recv(&mut peer).await[0].0.remote.ip(), asked);
    }

    #[tokio::test]
    async fn a_datagram_that_arrives_later_wakes_the_task() {
        let peer = std::net::UdpSocket::bind(LOOPBACK_V4).unwrap();
        let mut io = TokioIo::bind(LOOPBACK_V4).unwrap();
        let address = io.local_address();

        for text in [b"first!", b"second"] {
            let mut sent = false;
            let received = within_10_s(poll_fn(|cx| {
                let received = poll_recv(&mut io, cx);
                if !sent {
                    assert!(received.is_pending());
                    peer.send_to(text, address).unwrap();
                    sent = true;
                }
                received
            }));
            assert_eq!(received.await[0].1, text);
        }
    }

    #[tokio::test]
    async fn a_false_report_of_readiness_does_not_lose_the_next_wake() {
        let peer = std::net::UdpSocket::bind(LOOPBACK_V4).unwrap();
        let mut io = TokioIo::bind(LOOPBACK_V4).unwrap();
        let thief = SockRef::from(&io.socket).try_clone().unwrap();

        peer.send_to(b"stolen", io.local_address()).unwrap();
        within_10_s(io.socket.readable()).await.unwrap();
        thief.recv(&mut [MaybeUninit::uninit(); 16]).unwrap();
        assert!(
            poll_fn(|cx| Poll::Ready(poll_recv(&mut io, cx)))
                .await
                .is_pending()
        );

        let address = io.local_address();
        let ((), received) = tokio::join!(
            async {
                tokio::task::yield_now().await;
                peer.send_to(b"kept", address).unwrap();
            },
            recv(&mut io),
        );
        assert_eq!(received[0].1, b"kept");
    }

    #[tokio::test]
    async fn datagrams_are_found_before_the_reactor_reports_them_once_a_timer_is_due() {
        let peer = std::net::UdpSocket::bind(LOOPBACK_V4).unwrap();
        let mut io = TokioIo::bind(LOOPBACK_V4).unwrap();
        let due = io.now();

        let received = poll_fn(|cx| {
            assert!(io.poll_timer(cx, Some(due)).is_ready());
            assert!(poll_recv(&mut io, cx).is_pending());
            peer.send_to(b"waiting", io.local_address()).unwrap();
            Poll::Ready(poll_recv(&mut io, cx))
        });

        assert!(received.await.is_ready());
    }

    #[tokio::test]
    async fn an_address_without_a_port_is_refused_and_costs_nobody_else() {
        let mut io = TokioIo::bind(LOOPBACK_V4).unwrap();
        let before = io.capabilities();

        let error = send(&mut io, &transmit_to(LOOPBACK_V4, 5), b"hello")
            .await
            .unwrap_err();

        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(io.capabilities(), before);
    }

    #[tokio::test]
    async fn an_oversized_datagram_is_reported() {
        let mut io = TokioIo::bind(LOOPBACK_V4).unwrap();
        let contents = vec![0; 65_508];

        let transmit = transmit_to(io.local_address(), contents.len());
        let error = send(&mut io, &transmit, &contents).await.unwrap_err();

        assert!(quinn_udp::is_msg_size_err(&error), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_fires_at_its_deadline_and_stays_ready() {
        let mut io = TokioIo::bind(LOOPBACK_V4).unwrap();
        let deadline = io.now() + Duration::from_secs(1);

        timer(&mut io, deadline).await;

        let late = io.now() - deadline;
        assert!(late <= TIMER_GRANULARITY, "{late:?}");
        assert!(poll_timer_once(&mut io, Some(deadline)).await.is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_can_be_moved_both_ways() {
        let mut io = TokioIo::bind(LOOPBACK_V4).unwrap();
        let start = io.now();
        let [sooner, later] = [1, 3_600].map(|seconds| start + Duration::from_secs(seconds));

        assert!(poll_timer_once(&mut io, Some(later)).await.is_pending());
        timer(&mut io, sooner).await;
        assert!(io.now() - sooner <= TIMER_GRANULARITY);

        let soon = io.now() + Duration::from_secs(1);
        assert!(poll_timer_once(&mut io, Some(soon)).await.is_pending());
        timer(&mut io, later).await;
        assert!(io.now() - later <= TIMER_GRANULARITY);
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_without_a_deadline_never_fires_nor_wakes() {
        let mut io = TokioIo::bind(LOOPBACK_V4).unwrap();
        let deadline = io.now() + Duration::from_secs(1);
        assert!(poll_timer_once(&mut io, Some(deadline)).await.is_pending());

        let mut polls = 0;
        let never = poll_fn(|cx| {
            polls += 1;
            io.poll_timer(cx, None)
        });
        assert!(
            tokio::time::timeout(Duration::from_secs(2), never)
                .await
                .is_err()
        );
        assert_eq!(polls, 2, "once when it began, once when the timeout fired");

        assert!(poll_timer_once(&mut io, Some(deadline)).await.is_ready());
    }

    #[test]
    fn it_may_move_between_threads() {
        fn check<T: Send + Unpin + 'static>() {}
        check::<TokioIo>();
    }

    fn transmit_to(remote: SocketAddr, length: usize) -> Transmit {
        Transmit {
            remote,
            local_ip: None,
            ecn: None,
            length,
            segment_size: None,
        }
    }

    async fn send(io: &mut TokioIo, transmit: &Transmit, contents: &[u8]) -> io::Result<()> {
        within_10_s(poll_fn(|cx| io.poll_send(cx, transmit, contents))).await
    }

    async fn recv(io: &mut TokioIo) -> Vec<(RecvMeta, Vec<u8>)> {
        within_10_s(poll_fn(|cx| poll_recv(io, cx))).await
    }

    /// Receives one batch, taken apart into datagrams.
    fn poll_recv(io: &mut TokioIo, cx: &mut Context<'_>) -> Poll<Vec<(RecvMeta, Vec<u8>)>> {
        let mut buffers = vec![vec![0; 65_536]; 4];
        let mut slices: Vec<_> = buffers
            .iter_mut()
            .map(|buffer| IoSliceMut::new(buffer))
            .collect();
        let mut meta = [RecvMeta::empty(); 4];
        let filled = ready!(io.poll_recv(cx, &mut slices, &mut meta)).unwrap();
        let batches = meta.iter().zip(&buffers).take(filled);
        Poll::Ready(
            batches
                .flat_map(|(meta, buffer)| {
                    let datagrams = buffer[..meta.length].chunks(meta.stride);
                    datagrams.map(|datagram| (*meta, datagram.to_vec()))
                })
                .collect(),
        )
    }

    async fn timer(io: &mut TokioIo, deadline: Instant) {
        poll_fn(|cx| io.poll_timer(cx, Some(deadline))).await;
        assert!(io.now() >= deadline);
    }

    async fn poll_timer_once(io: &mut TokioIo, deadline: Option<Instant>) -> Poll<()> {
        poll_fn(|cx| Poll::Ready(io.poll_timer(cx, deadline))).await
    }

    async fn within_10_s<F: Future>(future: F) -> F::Output {
        let limit = Duration::from_secs(10);
        tokio::time::timeout(limit, future)
            .await
            .expect("the task was not woken in time")
    }
}
