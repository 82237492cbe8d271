//! One flow: a bidirectional QUIC stream, from its first frame to its last acknowledgement.
//!
//! A flow carries bytes. Cutting them into messages is the business of the handles, which read
//! and write whole chunks; the core itself reads only the frame that opens or answers the flow.
//!
//! Small writes are gathered and enter the stream once per turn: quinn-proto keeps a segment per
//! write until it is acknowledged and searches them one by one, so a segment per message costs
//! ten times and more.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use quinn_proto::{Connection, ReadError, StreamId, VarInt, WriteError};

use crate::name::EndpointName;
use crate::node::dial::DialId;
use crate::node::endpoint::IncomingId;
use crate::node::event::{FlowLoss, FlowReadError, FlowWriteError};
use crate::node::peer::PeerKey;
use crate::node::timers::TimerKey;
use crate::whim::whim;
use crate::wire::code::Code;
use crate::wire::frame::{FrameDecoder, FrameError};

/// Names a flow over a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId {
    pub(crate) peer: PeerKey,
    pub(crate) stream: StreamId,
}

/// What a handle writes: bytes to copy, and after them a body to share.
#[derive(Debug, Clone)]
pub struct Payload<'a> {
    /// Copied, and gathered with what is written before and after.
    pub copied: &'a [u8],
    /// Goes out without a copy if it is long, else is copied too.
    pub body: Bytes,
}

/// Where a flow stands in its opening. What is of use until the flow is open is boxed: there may be
/// very many flows, most of them open.
#[derive(Debug)]
pub(crate) enum Stage {
    /// We dialled; the answer has not come.
    Dialled {
        dial: DialId,
        decoder: Box<FrameDecoder>,
    },
    /// They dialled; the first frame is not complete.
    Arriving(Box<Arrival>),
    /// They dialled; the node has the first frame and is about to offer or refuse the flow.
    Presented,
    /// They dialled; it waits for an endpoint's task to take and answer it.
    Offered { incoming: IncomingId },
    /// Both agreed.
    Open,
}

/// A first frame on its way to us.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) decoder: FrameDecoder,
    /// When it has to be complete.
    pub(crate) timer: Option<TimerKey>,
}

/// What the first frame of a stream turned out to be.
#[derive(Debug)]
pub(crate) enum FirstFrame {
    /// It is not complete yet.
    Pending,
    /// It is here.
    Complete(Bytes),
    /// It is longer than allowed, or its length is no number.
    Unacceptable(FrameError),
    /// The stream ended within it.
    Truncated,
    /// The peer gave the stream up.
    Reset(Code),
}

/// One flow of a peer.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) stage: Stage,
    /// The endpoint that was dialled, once that is known.
    pub(crate) endpoint: Option<EndpointName>,
    stream: StreamId,
    send: SendHalf,
    receive: ReceiveHalf,
    sender_held: bool,
    receiver_held: bool,
    /// Whether it waits in its peer's queue to be flushed.
    is_unflushed: bool,
}

#[derive(Debug)]
enum SendHalf {
    /// Takes data; `finishing` once the handle has finished it. There is a buffer while there is
    /// something in it.
    Open {
        buffer: Option<Box<SendBuffer>>,
        finishing: bool,
    },
    /// All data and its end are with quinn-proto.
    Sent,
    /// The peer has it all.
    Acknowledged,
    /// We gave it up.
    Reset,
    /// The peer does not want more.
    Stopped(Code),
}

#[derive(Debug)]
enum ReceiveHalf {
    /// `rest` came with the frame that opened the flow and is read first.
    Open { rest: Option<Box<Bytes>> },
    /// Nobody will read; the peer is expected to end it.
    Draining,
    /// Read to its end.
    Ended,
    /// The peer gave it up.
    Reset(Code),
    /// We do not want more.
    Stopped,
}

impl Flow {
    pub(crate) fn dialled(stream: StreamId, dial: DialId, frame_len_max: usize) -> Self {
        Self::new(
            stream,
            Stage::Dialled {
                dial,
                decoder: Box::new(FrameDecoder::new(frame_len_max)),
            },
        )
    }

    pub(crate) fn arriving(stream: StreamId, frame_len_max: usize) -> Self {
        let arrival = Arrival {
            decoder: FrameDecoder::new(frame_len_max),
            timer: None,
        };
        Self::new(stream, Stage::Arriving(Box::new(arrival)))
    }

    fn new(stream: StreamId, stage: Stage) -> Self {
        Self {
            stage,
            endpoint: None,
            stream,
            send: SendHalf::Open {
                buffer: None,
                finishing: false,
            },
            receive: ReceiveHalf::Open { rest: None },
            sender_held: true,
            receiver_held: true,
            is_unflushed: false,
        }
    }

    /// Queues the flow to be flushed, or to be forgotten if it is done.
    pub(crate) fn queue_flush(&mut self, unflushed: &mut Vec<StreamId>) {
        if !std::mem::replace(&mut self.is_unflushed, true) {
            unflushed.push(self.stream);
        }
    }

    /// The flow was taken from the queue.
    pub(crate) const fn leave_queue(&mut self) {
        self.is_unflushed = false;
    }

    /// Reads on towards the frame that opens or answers the flow. What follows it in the same
    /// chunk is kept for the first reader.
    pub(crate) fn poll_first_frame(&mut self, connection: &mut Connection) -> FirstFrame {
        let decoder = match &mut self.stage {
            Stage::Dialled { decoder, .. } => &mut **decoder,
            Stage::Arriving(arrival) => &mut arrival.decoder,
            Stage::Presented | Stage::Offered { .. } | Stage::Open => return FirstFrame::Pending,
        };
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => {
                    let rest = Some(decoder.take_rest()).filter(|rest| !rest.is_empty());
                    self.receive = ReceiveHalf::Open {
                        rest: rest.map(Box::new),
                    };
                    return FirstFrame::Complete(frame);
                }
                Ok(None) => {}
                Err(error) => return FirstFrame::Unacceptable(error),
            }
            match read_chunk(connection, self.stream, FIRST_READ_MAX) {
                Chunk::Data(bytes) => decoder.push(bytes),
                Chunk::Blocked => return FirstFrame::Pending,
                Chunk::End => {
                    self.receive = ReceiveHalf::Ended;
                    return FirstFrame::Truncated;
                }
                Chunk::Reset(code) => {
                    self.receive = ReceiveHalf::Reset(code);
                    return FirstFrame::Reset(code);
                }
            }
        }
    }

    /// Takes the bytes of messages, unless `limit` bytes or more wait already.
    pub(crate) fn write(
        &mut self,
        payload: Payload<'_>,
        limit: usize,
    ) -> Result<(), FlowWriteError> {
        let buffer = self.open_buffer(limit)?;
        buffer.get_or_insert_default().push(payload);
        Ok(())
    }

    /// How many bytes fit before `limit` is reached; a writer that finds none is told to wait.
    pub(crate) fn room(&mut self, limit: usize) -> Result<usize, FlowWriteError> {
        let buffer = self.open_buffer(limit)?.as_ref();
        Ok(limit - buffer.map_or(0, |buffer| buffer.len))
    }

    /// The place of the buffer, if the flow still takes anything and holds less than `limit`.
    fn open_buffer(
        &mut self,
        limit: usize,
    ) -> Result<&mut Option<Box<SendBuffer>>, FlowWriteError> {
        match &mut self.send {
            SendHalf::Open {
                finishing: true, ..
            }
            | SendHalf::Sent
            | SendHalf::Acknowledged
            | SendHalf::Reset => Err(FlowWriteError::Finished),
            SendHalf::Stopped(code) => Err(FlowWriteError::Stopped(*code)),
            SendHalf::Open {
                buffer,
                finishing: false,
            } => {
                if let Some(full) = buffer.as_mut().filter(|buffer| buffer.len >= limit) {
                    full.starved = true;
                    return Err(FlowWriteError::Blocked);
                }
                Ok(buffer)
            }
        }
    }

    /// Moves what was gathered into the stream, as far as flow control lets it. Returns whether a
    /// writer that was told to wait may go on.
    pub(crate) fn flush(&mut self, connection: &mut Connection, limit: usize) -> bool {
        let SendHalf::Open { buffer, finishing } = &mut self.send else {
            return false;
        };
        let mut has_room = false;
        if let Some(full) = buffer {
            let before = full.len;
            if let Err(code) = full.flush(connection, self.stream) {
                self.handle_stopped(connection, code);
                return true;
            }
            has_room = full.starved && full.len < limit;
            full.starved &= !has_room;
            if full.len == 0 && before < SHARED_LEN_MIN {
                // There may be very many flows, most of them idle most of the time: those keep
                // nothing. A busy one keeps its buffer for the next turn.
                *buffer = None;
            }
        }
        if *finishing && buffer.as_ref().is_none_or(|buffer| buffer.len == 0) {
            // A refusal means that the peer stopped the stream, which comes as an event.
            if connection.send_stream(self.stream).finish().is_ok() {
                self.send = SendHalf::Sent;
            }
            return false;
        }
        has_room
    }

    /// No more will be written; the end follows what is buffered.
    pub(crate) fn finish(&mut self) {
        if let SendHalf::Open { finishing, .. } = &mut self.send {
            *finishing = true;
        }
    }

    /// Gives the sending direction up: what the peer has not got, it will not get.
    pub(crate) fn reset(&mut self, connection: &mut Connection, code: Code) {
        match self.send {
            SendHalf::Open { .. } | SendHalf::Sent => {
                // The stream may be gone on the other side already; then there is none to tell.
                let _ = connection.send_stream(self.stream).reset(varint(code));
                self.send = SendHalf::Reset;
            }
            SendHalf::Acknowledged | SendHalf::Reset | SendHalf::Stopped(_) => {}
        }
    }

    /// The next chunk of received bytes; `None` at the end.
    pub(crate) fn read(
        &mut self,
        connection: &mut Connection,
    ) -> Result<Option<Bytes>, FlowReadError> {
        match &mut self.receive {
            ReceiveHalf::Open {
                rest: rest @ Some(_),
            } => Ok(rest.take().map(|rest| *rest)),
            ReceiveHalf::Open { rest: None } => match read_chunk(connection, self.stream, READ_MAX)
            {
                Chunk::Data(bytes) => Ok(Some(bytes)),
                Chunk::Blocked => Err(FlowReadError::Blocked),
                Chunk::End => {
                    self.receive = ReceiveHalf::Ended;
                    Ok(None)
                }
                Chunk::Reset(code) => {
                    self.receive = ReceiveHalf::Reset(code);
                    Err(FlowReadError::Reset(code))
                }
            },
            ReceiveHalf::Ended => Ok(None),
            ReceiveHalf::Reset(code) => Err(FlowReadError::Reset(*code)),
            ReceiveHalf::Draining | ReceiveHalf::Stopped => Err(FlowReadError::Stopped),
        }
    }

    /// Tells the peer to send no more; what it sent and nobody read is dropped.
    pub(crate) fn stop(&mut self, connection: &mut Connection, code: Code) {
        match self.receive {
            ReceiveHalf::Open { .. } | ReceiveHalf::Draining => {
                let _ = connection.recv_stream(self.stream).stop(varint(code));
                self.receive = ReceiveHalf::Stopped;
            }
            ReceiveHalf::Ended | ReceiveHalf::Reset(_) | ReceiveHalf::Stopped => {}
        }
    }

    /// Both directions end here and now.
    pub(crate) fn abort(&mut self, connection: &mut Connection, code: Code) {
        self.reset(connection, code);
        self.stop(connection, code);
    }

    /// The direction towards us carries no messages: it is read to its end and nothing may come.
    pub(crate) fn expect_no_messages(&mut self, connection: &mut Connection) {
        self.receiver_held = false;
        if let ReceiveHalf::Open { rest } = &self.receive {
            if rest.is_none() {
                self.receive = ReceiveHalf::Draining;
                self.drain(connection);
            } else {
                self.stop(connection, Code::MessageMalformed);
            }
        }
    }

    /// No handle sends: the end of the direction follows what was written with the opening frame.
    pub(crate) fn send_no_more(&mut self) {
        self.sender_held = false;
        self.finish();
    }

    /// Data or an end arrived on the stream.
    pub(crate) fn handle_readable(&mut self, connection: &mut Connection) {
        if matches!(self.receive, ReceiveHalf::Draining) {
            self.drain(connection);
        }
    }

    /// The peer has all data and the end.
    pub(crate) fn handle_finished(&mut self) {
        if matches!(self.send, SendHalf::Sent) {
            self.send = SendHalf::Acknowledged;
        }
    }

    /// The peer does not want more.
    pub(crate) fn handle_stopped(&mut self, connection: &mut Connection, code: Code) {
        match self.send {
            SendHalf::Open { .. } | SendHalf::Sent => {
                // The peer's half is freed by our reset, as RFC 9000 section 3.5 asks.
                let _ = connection.send_stream(self.stream).reset(varint(code));
                self.send = SendHalf::Stopped(code);
            }
            SendHalf::Acknowledged | SendHalf::Reset | SendHalf::Stopped(_) => {}
        }
    }

    /// Whether a reset by the peer has arrived, without reading what came before it.
    pub(crate) fn peek_reset(&mut self, connection: &mut Connection) -> Option<Code> {
        let code = connection
            .recv_stream(self.stream)
            .received_reset()
            .ok()
            .flatten()?;
        let code = Code::from_wire(code.into_inner());
        self.receive = ReceiveHalf::Reset(code);
        Some(code)
    }

    /// How the sending direction ended, if it has: `Ok` when the peer has it all.
    pub(crate) fn sent(&self) -> Option<Result<(), FlowWriteError>> {
        match &self.send {
            SendHalf::Open { .. } | SendHalf::Sent => None,
            SendHalf::Acknowledged => Some(Ok(())),
            SendHalf::Reset => Some(Err(FlowWriteError::Finished)),
            SendHalf::Stopped(code) => Some(Err(FlowWriteError::Stopped(*code))),
        }
    }

    /// Whether the peer said that it wants no more.
    pub(crate) const fn is_stopped(&self) -> bool {
        matches!(self.send, SendHalf::Stopped(_))
    }

    /// The sending handle is gone: an unfinished direction finishes.
    pub(crate) fn release_sender(&mut self) {
        self.sender_held = false;
        self.finish();
    }

    /// The receiving handle is gone: an unfinished direction is stopped.
    pub(crate) fn release_receiver(&mut self, connection: &mut Connection, code: Code) {
        self.receiver_held = false;
        self.stop(connection, code);
    }

    /// Whether nothing is left to do: no handle, nothing to write, nothing to read.
    pub(crate) const fn is_done(&self) -> bool {
        let sent = matches!(
            self.send,
            SendHalf::Acknowledged | SendHalf::Reset | SendHalf::Stopped(_)
        );
        let received = matches!(
            self.receive,
            ReceiveHalf::Ended | ReceiveHalf::Reset(_) | ReceiveHalf::Stopped
        );
        sent && received && !self.sender_held && !self.receiver_held
    }

    /// Bytes that wait for the stream to take them; `None` once nothing more is sent.
    pub(crate) const fn unsent(&self) -> Option<usize> {
        match &self.send {
            SendHalf::Open {
                buffer: Some(buffer),
                ..
            } => Some(buffer.len),
            SendHalf::Open { buffer: None, .. } => Some(0),
            SendHalf::Sent | SendHalf::Acknowledged | SendHalf::Reset | SendHalf::Stopped(_) => {
                None
            }
        }
    }

    /// As [`unsent`](Self::unsent), if a writer was told to wait and cannot go on yet.
    pub(crate) fn held_back(&self) -> Option<usize> {
        match &self.send {
            SendHalf::Open { buffer, .. } => {
                let starved = buffer.as_ref().filter(|buffer| buffer.starved)?;
                Some(starved.len)
            }
            SendHalf::Sent | SendHalf::Acknowledged | SendHalf::Reset | SendHalf::Stopped(_) => {
                None
            }
        }
    }

    /// Bytes that never left this node, unless the peer is known to have it all or the direction
    /// was given up.
    pub(crate) const fn undelivered(&self) -> Option<usize> {
        match &self.send {
            SendHalf::Open { .. } => self.unsent(),
            SendHalf::Sent => Some(0),
            SendHalf::Acknowledged | SendHalf::Reset | SendHalf::Stopped(_) => None,
        }
    }

    /// Whether the peer may still send.
    pub(crate) const fn receives(&self) -> bool {
        matches!(self.receive, ReceiveHalf::Open { .. })
    }

    /// Whether handles still refer to the flow.
    pub(crate) const fn is_held(&self) -> bool {
        self.sender_held || self.receiver_held
    }

    /// What a handle is told about a direction whose connection is lost.
    pub(crate) fn sent_after_loss(&self, loss: &FlowLoss) -> Result<(), FlowWriteError> {
        match self.sent() {
            Some(ended) => ended,
            None => Err(FlowWriteError::Lost(loss.clone())),
        }
    }

    fn drain(&mut self, connection: &mut Connection) {
        match read_chunk(connection, self.stream, FIRST_READ_MAX) {
            Chunk::Data(_) => self.stop(connection, Code::MessageMalformed),
            Chunk::Blocked => {}
            Chunk::End => self.receive = ReceiveHalf::Ended,
            Chunk::Reset(code) => self.receive = ReceiveHalf::Reset(code),
        }
    }
}

/// What a handle wrote and the stream has not taken.
#[derive(Debug, Default)]
struct SendBuffer {
    chunks: VecDeque<Bytes>,
    gathered: BytesMut,
    len: usize,
    /// A writer was told to wait.
    starved: bool,
}

impl SendBuffer {
    fn push(&mut self, payload: Payload<'_>) {
        let Payload { copied, body } = payload;
        self.len += copied.len() + body.len();
        if body.len() < SHARED_LEN_MIN {
            self.gathered.reserve(copied.len() + body.len());
            self.gathered.extend_from_slice(copied);
            self.gathered.extend_from_slice(&body);
        } else {
            self.gathered.extend_from_slice(copied);
            self.seal();
            self.chunks.push_back(body);
        }
    }

    fn seal(&mut self) {
        if !self.gathered.is_empty() {
            self.chunks.push_back(self.gathered.split().freeze());
        }
    }

    fn flush(&mut self, connection: &mut Connection, stream: StreamId) -> Result<(), Code> {
        self.seal();
        while !self.chunks.is_empty() {
            match connection
                .send_stream(stream)
                .write_chunks(self.chunks.make_contiguous())
            {
                Ok(written) => {
                    self.chunks.drain(..written.chunks);
                    self.len -= written.bytes;
                }
                Err(WriteError::Blocked) => break,
                Err(WriteError::Stopped(code)) => return Err(Code::from_wire(code.into_inner())),
                Err(WriteError::ClosedStream) => return Err(Code::Cancelled),
            }
        }
        Ok(())
    }
}

/// What a stream has to read.
pub(crate) enum Chunk {
    /// The next bytes.
    Data(Bytes),
    /// Nothing yet.
    Blocked,
    /// Its end.
    End,
    /// The peer gave it up.
    Reset(Code),
}

/// Reads at most `max` bytes of a stream.
pub(crate) fn read_chunk(connection: &mut Connection, stream: StreamId, max: usize) -> Chunk {
    let mut receive = connection.recv_stream(stream);
    let Ok(mut chunks) = receive.read(true) else {
        // Ended, reset or stopped before, all of which the reader has noted; nothing will come.
        return Chunk::End;
    };
    let max = if whim!(ShortReads) { 1 } else { max };
    let read = chunks.next(max);
    // Credit that is due goes out with the connection's next packets: whoever reads marks it.
    let _ = chunks.finalize();
    match read {
        Ok(Some(chunk)) => Chunk::Data(chunk.bytes),
        Ok(None) => Chunk::End,
        Err(ReadError::Blocked) => Chunk::Blocked,
        Err(ReadError::Reset(code)) => Chunk::Reset(Code::from_wire(code.into_inner())),
    }
}

/// A code as quinn-proto takes it.
pub(crate) fn varint(code: Code) -> VarInt {
    VarInt::from_u64(code.to_wire()).expect("every code fits a QUIC integer")
}

/// Below this a copy is cheaper than a segment of its own.
pub(crate) const SHARED_LEN_MIN: usize = 4096;
/// A first frame is rarely longer than a packet; what is read beyond it is kept in memory.
const FIRST_READ_MAX: usize = 4096;
/// quinn-proto hands out received packets one by one, so a chunk is at most a packet; the bound
/// matters only after it has merged many.
pub(crate) const READ_MAX: usize = 64 * 1024;
