//! The one loop: moves datagrams between a socket and the node, and tells the node the time.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::BytesMut;

use crate::mutant::mutant;
use crate::node::{DatagramMeta, Transmit, UsageSnapshot};
use crate::shell::io::{Io, RecvMeta};
use crate::shell::shared::Shared;

/// Runs a fabric: a future that ends when the fabric is closed.
///
/// A driver crate spawns it once. It makes no protocol decision; its work per poll is bounded, so
/// that other tasks of the same thread get their turns. Dropping it closes the fabric without a
/// goodbye: handles report that it is closed, peers find out by themselves.
#[must_use = "a fabric without its driver does nothing"]
pub struct Driver<I: Io> {
    shared: Arc<Shared>,
    io: I,
    buffers: [Vec<u8>; BUFFERS],
    outgoing: Outgoing,
    receive_errors: u32,
}

/// The batch that is being sent.
#[derive(Debug)]
struct Outgoing {
    contents: Vec<u8>,
    /// What the socket has not taken yet.
    pending: Option<Transmit>,
    segments_max: usize,
    /// The socket is refusing; said once until it takes something again.
    is_refused: bool,
}

impl<I: Io> Driver<I> {
    pub(crate) fn new(shared: Arc<Shared>, io: I) -> Self {
        let capabilities = io.capabilities();
        let length = if capabilities.gro_segments > 1 {
            BUFFER_LEN
        } else {
            DATAGRAM_LEN_MAX
        };
        Self {
            shared,
            io,
            buffers: std::array::from_fn(|_| vec![0; length]),
            outgoing: Outgoing {
                contents: Vec::new(),
                pending: None,
                segments_max: capabilities.max_gso_segments.max(1),
                is_refused: false,
            },
            receive_errors: 0,
        }
    }

    /// How much of what is bounded the node has in use, for whoever looks after each turn.
    #[must_use]
    pub fn usage(&self) -> UsageSnapshot {
        self.shared.with(|state| state.node.usage())
    }

    /// Takes what has arrived, up to a bound. Returns whether there may be more.
    fn receive(&mut self, cx: &mut Context<'_>) -> Result<bool, io::Error> {
        for _ in 0..BATCHES_PER_TURN {
            let mut meta = [RecvMeta::empty(); BUFFERS];
            let mut slices = self.buffers.each_mut().map(|it| IoSliceMut::new(it));
            let filled = match self.io.poll_recv(cx, &mut slices, &mut meta) {
                Poll::Pending => return Ok(false),
                Poll::Ready(Ok(filled)) => filled,
                Poll::Ready(Err(error)) => {
                    // An unreachable peer is reported here on some systems; it is no fault of
                    // the socket's. A socket that only fails is given up.
                    self.receive_errors += 1;
                    tracing::debug!(target: "grinta::quic", %error, "receiving failed");
                    if self.receive_errors > RECEIVE_ERRORS_MAX {
                        return Err(error);
                    }
                    continue;
                }
            };
            self.receive_errors = 0;
            let now = self.io.now();
            for (meta, buffer) in meta.iter().zip(&self.buffers).take(filled) {
                let data = BytesMut::from(&buffer[..meta.length.min(buffer.len())]);
                let from = DatagramMeta {
                    remote: meta.remote,
                    local_ip: meta.local_ip,
                    ecn: meta.ecn,
                    stride: meta.stride,
                };
                self.shared
                    .with(|state| state.node.handle_datagrams(now, from, data));
            }
        }
        Ok(true)
    }

    /// Sends what there is in the turn of `now`, up to a bound. Returns whether there may be more that
    /// can go.
    fn transmit(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        for _ in 0..TRANSMITS_PER_TURN {
            if self.outgoing.pending.is_none() {
                let Outgoing {
                    contents,
                    segments_max,
                    ..
                } = &mut self.outgoing;
                self.outgoing.pending = self
                    .shared
                    .with(|state| state.node.poll_transmit(now, *segments_max, contents));
            }
            let Some(transmit) = self.outgoing.pending else {
                return false;
            };
            let contents = &self.outgoing.contents[..transmit.length];
            match self.io.poll_send(cx, &transmit, contents) {
                Poll::Pending => return false,
                Poll::Ready(Ok(())) => {
                    self.outgoing.pending = None;
                    self.outgoing.is_refused = false;
                }
                Poll::Ready(Err(error)) => {
                    self.outgoing.pending = None;
                    self.handle_refusal(cx, transmit, &error);
                }
            }
        }
        true
    }

    /// The socket refused a batch. Some paths advertise segmentation offload and refuse it: then
    /// the datagrams go one by one, now and for good. What is refused one by one is lost, as
    /// datagrams may be; a probe for a larger MTU is meant to end here.
    fn handle_refusal(&mut self, cx: &mut Context<'_>, batch: Transmit, error: &io::Error) {
        let segment_size = batch.segment_size.unwrap_or(batch.length).max(1);
        let mut sent = 0;
        if batch.length > segment_size {
            for segment in self.outgoing.contents[..batch.length].chunks(segment_size) {
                let single = Transmit {
                    length: segment.len(),
                    segment_size: None,
                    ..batch
                };
                if let Poll::Ready(Ok(())) = self.io.poll_send(cx, &single, segment) {
                    sent += 1;
                }
            }
        }
        if sent > 0 {
            self.outgoing.segments_max = 1;
            tracing::debug!(target: "grinta::quic", %error, "segmentation offload is refused; going on without");
        } else if !std::mem::replace(&mut self.outgoing.is_refused, true) {
            tracing::debug!(target: "grinta::quic", %error, remote = %batch.remote, "sending failed");
        }
    }

    /// Has the node act on what it knows. Returns the time of that turn.
    fn turn(&self) -> Instant {
        let now = self.io.now();
        let unix_time = self.io.unix_time();
        self.shared
            .with(|state| state.node.handle_timeout(now, unix_time));
        now
    }

    fn close(&self) {
        self.shared.with_wakes(|state, wakes| state.close(wakes));
    }
}

impl<I: Io + Unpin> Future for Driver<I> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        // Awake: nobody needs to wake us.
        drop(this.shared.with(|state| state.driver.take()));
        for _ in 0..TURNS_PER_POLL {
            if mutant!(TimersFirst) {
                this.turn();
            }
            let more_to_receive = match this.receive(cx) {
                Ok(more) => more,
                Err(error) => {
                    tracing::error!(target: "grinta::quic", %error, "the socket failed; the fabric is closed");
                    this.close();
                    return Poll::Ready(());
                }
            };
            let now = this.turn();
            let more_to_send = this.transmit(cx, now);

            let (deadline, is_closed) = this.shared.with(|state| {
                // Parked from here on: whoever wants a turn after this wakes us.
                state.driver.register(cx);
                (state.node.poll_timeout(), state.is_closed)
            });
            if is_closed && !more_to_send {
                return Poll::Ready(());
            }
            let is_due = this.io.poll_timer(cx, deadline).is_ready();
            if !(more_to_receive || more_to_send || is_due) {
                return Poll::Pending;
            }
        }
        // Others get their turn; ours comes again.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<I: Io> Drop for Driver<I> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<I: Io> fmt::Debug for Driver<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("outgoing", &self.outgoing.pending)
            .finish_non_exhaustive()
    }
}

/// Receive buffers: as many batches as one system call fills. More than eight gained nothing.
const BUFFERS: usize = 8;
/// The longest that coalesced datagrams get.
const BUFFER_LEN: usize = 64 * 1024;
/// Longest datagram that is expected without coalescing: the largest MTU that is probed for.
const DATAGRAM_LEN_MAX: usize = 2048;
/// Receive calls before the node gets its turn.
const BATCHES_PER_TURN: usize = 4;
/// Batches sent before the socket is read again.
const TRANSMITS_PER_TURN: usize = 32;
/// Turns before other tasks of the thread get theirs.
const TURNS_PER_POLL: usize = 8;
/// Receive errors in a row after which a socket is given up.
const RECEIVE_ERRORS_MAX: u32 = 100;
