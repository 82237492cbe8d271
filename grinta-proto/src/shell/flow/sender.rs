//! The sending end of a flow.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};

use crate::codec::Codec;
use crate::node::{FlowWriteError, Payload, SHARED_LEN_MIN};
use crate::shell::flow::{Path, Remote, SendCause, SendError, Terms};
use crate::shell::local::{Encoded, Queue, Room};
use crate::wire::code::Code;
use crate::wire::frame::{decode_varint, encode_length};

/// The sending end of a flow of messages of type `T`.
///
/// Messages arrive in order, each exactly once, or both ends learn that the flow broke. Dropping
/// the sender finishes the flow: the receiver gets what was sent, then the end.
///
/// It is a [`Sink`](futures_sink::Sink), too, whose errors do not give the message back.
pub struct Sender<T> {
    lane: Lane<T>,
    codec: Arc<dyn Codec<T>>,
    message_len_max: usize,
    path: Path,
}

/// Room for one message, from [`Sender::reserve`]. Dropping it gives the room back.
#[must_use = "room that is not used is given back"]
pub struct Permit<'a, T> {
    sender: &'a mut Sender<T>,
}

enum Lane<T> {
    Remote(Remote),
    Values(Arc<Queue<T>>),
    Encoded(Arc<Queue<Encoded>>),
}

/// One message on its way.
struct Prepared {
    /// Of its encoding, in bytes.
    length: usize,
    /// The beginning of its frame, for a lane that takes frames.
    framed: Scratch,
    /// The encoding, or its part that is not in `framed`. Empty for a value that moves.
    body: Bytes,
}

/// Messages on their way together.
enum Burst {
    /// So many frames, and behind them the body of the last.
    Frames {
        count: usize,
        framed: Scratch,
        body: Bytes,
    },
    /// The encodings' lengths of values that move.
    Values { lengths: VecDeque<usize> },
    /// Encodings that move, and their lengths.
    Encoded {
        lengths: VecDeque<usize>,
        bodies: VecDeque<Encoded>,
    },
}

impl<T: Send + 'static> Sender<T> {
    pub(crate) fn remote(remote: Remote, terms: Terms<T>) -> Self {
        Self::new(Lane::Remote(remote), terms)
    }

    pub(crate) fn values(queue: Arc<Queue<T>>, terms: Terms<T>) -> Self {
        Self::new(Lane::Values(queue), terms)
    }

    pub(crate) fn encoded(queue: Arc<Queue<Encoded>>, terms: Terms<T>) -> Self {
        Self::new(Lane::Encoded(queue), terms)
    }

    fn new(lane: Lane<T>, terms: Terms<T>) -> Self {
        let Terms {
            codec,
            path,
            message_len_max,
        } = terms;
        Self {
            lane,
            codec,
            message_len_max,
            path,
        }
    }

    /// Sends a message, waiting for room in the flow.
    ///
    /// # Errors
    /// [`SendError`] gives the message back and says why.
    ///
    /// # Cancel safety
    /// When the future is dropped before it is ready, the message was not sent; it is dropped with
    /// the future. [`reserve`](Self::reserve) waits without holding it.
    pub async fn send(&mut self, message: T) -> Result<(), SendError<T>> {
        let prepared = match self.prepare(&message) {
            Ok(prepared) => prepared,
            Err(cause) => return Err(SendError { message, cause }),
        };
        let mut message = Some(message);
        let offered = poll_fn(
            |cx| match self.offer(Room::Awaited(cx), &prepared, &mut message) {
                Err(FlowWriteError::Blocked) => Poll::Pending,
                offered => Poll::Ready(offered),
            },
        )
        .await;
        give_back(offered, message)
    }

    /// Sends a message if the flow has room now.
    ///
    /// # Errors
    /// [`SendError`] gives the message back and says why: [`SendCause::Full`] without room.
    pub fn try_send(&mut self, message: T) -> Result<(), SendError<T>> {
        self.send_into(Room::Now, message)
    }

    /// Sends a message though the flow may be full. Whoever calls this bounds how often.
    pub(crate) fn send_regardless(&mut self, message: T) -> Result<(), SendError<T>> {
        self.send_into(Room::Waived, message)
    }

    fn send_into(&mut self, room: Room<'_, '_>, message: T) -> Result<(), SendError<T>> {
        let prepared = match self.prepare(&message) {
            Ok(prepared) => prepared,
            Err(cause) => return Err(SendError { message, cause }),
        };
        let mut message = Some(message);
        let offered = self.offer(room, &prepared, &mut message);
        give_back(offered, message)
    }

    /// Sends all of `messages`, from front to back, waiting for room as often as needed. What was
    /// sent is taken out. Cheaper than as many [`send`](Self::send)s: many small messages go in at
    /// once.
    ///
    /// # Errors
    /// [`SendCause`] says why the message that is then at the front was not sent. It and those
    /// behind it are left.
    ///
    /// # Cancel safety
    /// When the future is dropped, those messages are left that were not sent.
    pub async fn send_many(&mut self, messages: &mut VecDeque<T>) -> Result<(), SendCause> {
        while !messages.is_empty() {
            let mut burst = self.gather(messages)?;
            poll_fn(
                |cx| match self.offer_burst(Room::Awaited(cx), &mut burst, messages) {
                    Err(FlowWriteError::Blocked) => Poll::Pending,
                    offered => Poll::Ready(offered),
                },
            )
            .await?;
        }
        Ok(())
    }

    /// Waits for room for a message, to be sent with [`Permit::send`].
    ///
    /// # Errors
    /// [`SendCause`] if the flow takes no more messages.
    ///
    /// # Cancel safety
    /// Safe: nothing is lost.
    pub async fn reserve(&mut self) -> Result<Permit<'_, T>, SendCause> {
        poll_fn(|cx| self.poll_room(cx)).await?;
        Ok(Permit { sender: self })
    }

    /// Room for a message, if there is some now.
    ///
    /// # Errors
    /// [`SendCause::Full`] without room; the others if the flow takes no more messages.
    pub fn try_reserve(&mut self) -> Result<Permit<'_, T>, SendCause> {
        self.room(Room::Now)?;
        Ok(Permit { sender: self })
    }

    /// How many bytes can be sent before a send has to wait: of encoded messages, each with its
    /// length before it, also where values move within the process. While it is not 0 a message of
    /// any length is taken. 0 when the flow takes no more messages.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.room(Room::Now).unwrap_or(0)
    }

    /// Waits until nothing more can be sent, and says why: the receiver was dropped or stopped the
    /// flow, or the flow broke.
    ///
    /// # Cancel safety
    /// Safe: nothing is lost.
    pub async fn closed(&mut self) -> SendCause {
        match poll_fn(|cx| self.poll_sent(cx)).await {
            Ok(()) => SendCause::Finished,
            Err(cause) => cause,
        }
    }

    /// Whether nothing more can be sent: see [`closed`](Self::closed).
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match self.room(Room::Now) {
            Ok(_) | Err(FlowWriteError::Blocked) => false,
            Err(
                FlowWriteError::Finished | FlowWriteError::Stopped(_) | FlowWriteError::Lost(_),
            ) => true,
        }
    }

    /// Ends the flow and waits until the receiving node has all of it: until the program there can
    /// receive it all whatever becomes of this node. Whether it did, only an answer of its own
    /// tells.
    ///
    /// # Errors
    /// [`SendCause`] if it is not known to have it all.
    ///
    /// # Cancel safety
    /// When the future is dropped the flow is finished all the same, without waiting.
    pub async fn finish(mut self) -> Result<(), SendCause> {
        poll_fn(|cx| self.poll_finish(cx)).await
    }

    /// Gives the flow up: the receiver gets an error with `code` instead of what it has not read.
    pub fn reset(self, code: u32) {
        self.reset_with(Code::User(code));
    }

    pub(crate) fn reset_with(self, code: Code) {
        match &self.lane {
            Lane::Remote(Remote { shared, flow }) => {
                shared.with(|state| state.node.reset(*flow, code));
            }
            Lane::Values(queue) => queue.reset(code),
            Lane::Encoded(queue) => queue.reset(code),
        }
    }

    /// Which way the flow goes.
    #[must_use]
    pub const fn path(&self) -> &Path {
        &self.path
    }

    /// The longest message that the receiver takes, in bytes.
    pub(crate) const fn message_len_max(&self) -> usize {
        self.message_len_max
    }

    /// Ready when there is room for a message.
    pub(crate) fn poll_room(&self, cx: &Context<'_>) -> Poll<Result<(), SendCause>> {
        match self.room(Room::Awaited(cx)) {
            Ok(_) => Poll::Ready(Ok(())),
            Err(FlowWriteError::Blocked) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }

    /// Ends the flow; ready when the receiving node has all of it.
    pub(crate) fn poll_finish(&mut self, cx: &Context<'_>) -> Poll<Result<(), SendCause>> {
        match &self.lane {
            Lane::Remote(Remote { shared, flow }) => {
                shared.with(|state| state.node.finish(*flow));
            }
            Lane::Values(queue) => queue.finish(),
            Lane::Encoded(queue) => queue.finish(),
        }
        self.poll_sent(cx)
    }

    /// How the flow ended, once it has.
    fn poll_sent(&self, cx: &Context<'_>) -> Poll<Result<(), SendCause>> {
        let sent = match &self.lane {
            Lane::Remote(Remote { shared, flow }) => shared.with(|state| state.sent(*flow, cx)),
            Lane::Values(queue) => queue.sent(Some(cx)),
            Lane::Encoded(queue) => queue.sent(Some(cx)),
        };
        match sent {
            Some(sent) => Poll::Ready(sent.map_err(SendCause::from)),
            None => Poll::Pending,
        }
    }

    fn room(&self, room: Room<'_, '_>) -> Result<usize, FlowWriteError> {
        match &self.lane {
            Lane::Remote(Remote { shared, flow }) => shared.with(|state| state.room(*flow, room)),
            Lane::Values(queue) => queue.room(room),
            Lane::Encoded(queue) => queue.room(room),
        }
    }

    /// Encodes a message where it has to be, and holds it against the receiver's limit.
    fn prepare(&self, message: &T) -> Result<Prepared, SendCause> {
        match self.lane {
            Lane::Remote(_) => {
                let mut framed = Scratch::of_thread();
                let body = self.frame(message, &mut framed.0)?;
                Ok(Prepared {
                    length: framed.0.len() + body.len(),
                    framed,
                    body,
                })
            }
            Lane::Values(_) => Ok(Prepared {
                length: self.measure(message)?,
                framed: Scratch::default(),
                body: Bytes::new(),
            }),
            Lane::Encoded(_) => {
                let body = self.encode(message)?;
                Ok(Prepared {
                    length: body.len(),
                    framed: Scratch::default(),
                    body,
                })
            }
        }
    }

    /// Encodes messages from the front on, as many as go in together.
    fn gather(&self, messages: &VecDeque<T>) -> Result<Burst, SendCause> {
        let mut framed = Scratch::of_thread();
        let mut lengths = VecDeque::new();
        let mut bodies = VecDeque::new();
        let mut tail = Bytes::new();
        let (mut count, mut bytes) = (0, 0);
        for message in messages.iter().take(BURST_COUNT_MAX) {
            let gathered = match self.lane {
                Lane::Remote(_) => self.frame(message, &mut framed.0).map(|body| {
                    tail = body;
                    bytes = framed.0.len() + tail.len();
                }),
                Lane::Values(_) => self.measure(message).map(|length| {
                    lengths.push_back(length);
                    bytes += length;
                }),
                Lane::Encoded(_) => self.encode(message).map(|body| {
                    lengths.push_back(body.len());
                    bytes += body.len();
                    bodies.push_back(Encoded(body));
                }),
            };
            match gathered {
                Ok(()) => count += 1,
                // It is first in the next burst, and said then.
                Err(_) if count > 0 => break,
                Err(cause) => return Err(cause),
            }
            if bytes >= BURST_BYTES || !tail.is_empty() {
                break;
            }
        }
        Ok(match self.lane {
            Lane::Remote(_) => Burst::Frames {
                count,
                framed,
                body: tail,
            },
            Lane::Values(_) => Burst::Values { lengths },
            Lane::Encoded(_) => Burst::Encoded { lengths, bodies },
        })
    }

    /// Offers a message to the flow; `Blocked` without room.
    fn offer(
        &self,
        room: Room<'_, '_>,
        prepared: &Prepared,
        message: &mut Option<T>,
    ) -> Result<(), FlowWriteError> {
        let Prepared {
            length,
            framed,
            body,
        } = prepared;
        match &self.lane {
            Lane::Values(queue) => queue.push(room, *length, message),
            Lane::Encoded(queue) => queue.push(room, *length, &mut Some(Encoded(body.clone()))),
            Lane::Remote(remote) => remote.write(1, &framed.0, body, room),
        }
    }

    /// Offers a burst to the flow, and takes out of `messages` what went in; `Blocked` if some are
    /// left.
    fn offer_burst(
        &self,
        room: Room<'_, '_>,
        burst: &mut Burst,
        messages: &mut VecDeque<T>,
    ) -> Result<(), FlowWriteError> {
        match (&self.lane, burst) {
            (
                Lane::Remote(remote),
                Burst::Frames {
                    count,
                    framed,
                    body,
                },
            ) => {
                remote.write(*count, &framed.0, body, room)?;
                messages.drain(..*count);
                Ok(())
            }
            (Lane::Values(queue), Burst::Values { lengths }) => {
                queue.push_many(room, lengths, messages)
            }
            (Lane::Encoded(queue), Burst::Encoded { lengths, bodies }) => {
                let before = bodies.len();
                let pushed = queue.push_many(room, lengths, bodies);
                messages.drain(..before - bodies.len());
                pushed
            }
            _ => unreachable!("a burst is gathered for its lane"),
        }
    }

    /// Appends a message as a [`frame`].
    fn frame(&self, message: &T, framed: &mut BytesMut) -> Result<Bytes, SendCause> {
        frame(&*self.codec, self.message_len_max, message, framed)
    }

    /// Holds what went with the opening of the flow against the receiver's limit, and counts it.
    pub(crate) fn check_sent(&self, frame: &Bytes) -> Result<(), SendCause> {
        let length = decode_varint(frame.iter().copied()).ok().flatten();
        let (length, _) = length.expect("a frame begins with its length");
        self.check_length(usize::try_from(length).unwrap_or(usize::MAX))?;
        if let Lane::Remote(Remote { shared, .. }) = &self.lane {
            shared.with(|state| state.messages.sent += 1);
        }
        Ok(())
    }

    /// Encodes a message by itself.
    fn encode(&self, message: &T) -> Result<Bytes, SendCause> {
        let body = match self.codec.encoded(message) {
            Some(body) => body,
            None => {
                let mut buffer = BytesMut::new();
                self.codec.encode(message, &mut buffer)?;
                buffer.freeze()
            }
        };
        self.check_length(body.len())?;
        Ok(body)
    }

    /// How long a message's encoding is, without encoding it.
    fn measure(&self, message: &T) -> Result<usize, SendCause> {
        let length = self.codec.encoded_len(message)?;
        self.check_length(length)?;
        Ok(length)
    }

    const fn check_length(&self, length: usize) -> Result<(), SendCause> {
        check_length(length, self.message_len_max)
    }
}

/// The frame of a message that is short enough to go with the opening of its flow, to an endpoint
/// that may refuse it and whose limit is not known.
pub(crate) fn short_frame<T: 'static>(
    codec: &dyn Codec<T>,
    message: &T,
) -> Result<Option<Bytes>, SendCause> {
    let mut framed = Scratch::of_thread();
    match frame(codec, SHARED_LEN_MIN - 1, message, &mut framed.0) {
        Ok(_) => Ok(Some(Bytes::copy_from_slice(&framed.0))),
        Err(SendCause::TooLong { .. }) => Ok(None),
        Err(cause) => Err(cause),
    }
}

/// Appends a message to `framed` as a frame. A long body is not in it but returned, and follows it.
fn frame<T: 'static>(
    codec: &dyn Codec<T>,
    limit: usize,
    message: &T,
    framed: &mut BytesMut,
) -> Result<Bytes, SendCause> {
    if let Some(body) = codec.encoded(message) {
        check_length(body.len(), limit)?;
        encode_length(body.len(), framed);
        if body.len() >= SHARED_LEN_MIN {
            return Ok(body);
        }
        framed.extend_from_slice(&body);
        return Ok(Bytes::new());
    }
    let start = framed.len();
    // Most messages are short, and so is their length: it has its place before they are encoded.
    framed.put_u8(0);
    let encoded = codec.encode(message, framed);
    let length = framed.len() - start - 1;
    if let Err(cause) = encoded
        .map_err(SendCause::from)
        .and_then(|()| check_length(length, limit))
    {
        framed.truncate(start);
        return Err(cause);
    }
    if length >= SHARED_LEN_MIN {
        let body = framed.split_off(start + 1).freeze();
        // What stays has a buffer of its own, so that the body's goes with the body.
        *framed = BytesMut::from(&framed[..start]);
        encode_length(length, framed);
        return Ok(body);
    }
    let mut prefix = [0; LENGTH_LEN_MAX];
    let mut unfilled = &mut prefix[..];
    encode_length(length, &mut unfilled);
    let filled = LENGTH_LEN_MAX - unfilled.len();
    framed.extend_from_slice(&prefix[1..filled]);
    framed[start + 1..].rotate_right(filled - 1);
    framed[start..start + filled].copy_from_slice(&prefix[..filled]);
    Ok(Bytes::new())
}

const fn check_length(length: usize, limit: usize) -> Result<(), SendCause> {
    if length > limit {
        return Err(SendCause::TooLong { length, limit });
    }
    Ok(())
}

/// Room to encode in. It goes back to its thread, so that none of very many flows keeps some.
#[derive(Default)]
struct Scratch(BytesMut);

thread_local! {
    static SCRATCH: Cell<Option<BytesMut>> = const { Cell::new(None) };
}

impl Scratch {
    /// What the thread has, empty.
    fn of_thread() -> Self {
        Self(SCRATCH.take().unwrap_or_default())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if (1..=SCRATCH_KEPT_MAX).contains(&self.0.capacity()) {
            let mut buffer = std::mem::take(&mut self.0);
            buffer.clear();
            // A thread that ends has no use for it.
            let _ = SCRATCH.try_with(|scratch| scratch.set(Some(buffer)));
        }
    }
}

impl Remote {
    /// Writes so many messages, which are `copied` and, behind it, `body`.
    fn write(
        &self,
        count: usize,
        copied: &[u8],
        body: &Bytes,
        room: Room<'_, '_>,
    ) -> Result<(), FlowWriteError> {
        let body = body.clone();
        self.shared.with(|state| {
            state.write(self.flow, Payload { copied, body }, room)?;
            state.messages.sent += count as u64;
            Ok(())
        })
    }
}

impl<T: Send + 'static> Permit<'_, T> {
    /// Sends a message into the room, without waiting.
    ///
    /// # Errors
    /// [`SendError`] gives the message back and says why. Never [`SendCause::Full`]: either the
    /// message itself cannot be sent, or the flow has ended since.
    pub fn send(self, message: T) -> Result<(), SendError<T>> {
        // The room cannot be gone: there is no other sender, and this borrows it.
        self.sender.try_send(message)
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        match &self.lane {
            Lane::Remote(Remote { shared, flow }) => {
                shared.with(|state| {
                    state.node.release_sender(*flow);
                    state.forget_writer(*flow);
                });
            }
            Lane::Values(queue) => queue.finish(),
            Lane::Encoded(queue) => queue.finish(),
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Permit<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("sender", &self.sender)
            .finish()
    }
}

fn give_back<T>(
    offered: Result<(), FlowWriteError>,
    message: Option<T>,
) -> Result<(), SendError<T>> {
    offered.map_err(|error| SendError {
        message: message.expect("a message that was refused was not taken"),
        cause: error.into(),
    })
}

/// The longest varint.
const LENGTH_LEN_MAX: usize = 10;
/// Bytes after which a burst is long enough: beyond, the lock is no longer what it costs.
const BURST_BYTES: usize = 64 * 1024;
/// Messages of a burst, which are encoded again should it be dropped as it waits.
const BURST_COUNT_MAX: usize = 1024;
/// A longer buffer is not kept: a burst and its last message, if that is short, fit.
const SCRATCH_KEPT_MAX: usize = 2 * BURST_BYTES;
