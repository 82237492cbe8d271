//! The flows of a peer: which stream event goes to which flow, and what the node hears of it.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use quinn_proto::{Dir, StreamEvent, StreamId};

use crate::config::Limits;
use crate::mutant::mutant;
use crate::name::EndpointName;
use crate::node::dial::{DialId, DialRequest};
use crate::node::endpoint::IncomingId;
use crate::node::event::{FlowReadError, FlowWriteError};
use crate::node::flow::{FirstFrame, Flow, Payload, Stage as FlowStage};
use crate::node::peer::{Peer, PeerEvent, Stage, Surroundings, violation};
use crate::node::snapshot::{FlowSnapshot, FlowStage as Opening, Level, OpenedBy};
use crate::node::timers::TimerKey;
use crate::wire::code::Code;
use crate::wire::frame::FrameError;
use crate::wire::stream::{Direction, FlowAnswer, OpenFlow};

/// A flow whose sender is held back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeldBack<'a> {
    /// The endpoint that was dialled.
    pub(crate) endpoint: Option<&'a EndpointName>,
    /// Bytes that the sender wrote and the stream has not taken.
    pub(crate) bytes: usize,
}

impl Peer {
    /// Opens a flow; `None` while the peer's limit is reached or the peer is not up.
    pub(crate) fn open(
        &mut self,
        dial: DialId,
        request: &DialRequest,
        limits: &Limits,
    ) -> Option<StreamId> {
        if !matches!(self.stage, Stage::Up { .. }) {
            return None;
        }
        let stream = self.connection.streams().open(Dir::Bi)?;
        let mut flow = Flow::dialled(stream, dial, limits.control_frame_len_max);
        let DialRequest { open, early, .. } = request;
        let mut frame = BytesMut::new();
        open.encode(&mut frame);
        let first = flow.write(
            Payload {
                copied: &frame,
                body: early.clone().unwrap_or_default(),
            },
            usize::MAX,
        );
        debug_assert_eq!(first, Ok(()), "a new flow takes its first frame");
        if early.is_some() || !open.direction.sends() {
            flow.send_no_more();
        }
        flow.endpoint = Some(open.endpoint.clone());
        flow.queue_flush(&mut self.unflushed);
        self.flows.insert(stream, Box::new(flow));
        Some(stream)
    }

    /// Notes when an arriving flow's time is up. Returns whether its first frame is still to come.
    pub(crate) fn set_arrival_timer(&mut self, stream: StreamId, key: TimerKey) -> bool {
        if let Some(Flow {
            stage: FlowStage::Arriving(arrival),
            ..
        }) = self.flows.get_mut(&stream).map(Box::as_mut)
        {
            arrival.timer = Some(key);
            return true;
        }
        false
    }

    /// An arriving flow's time is up: its first frame never came.
    pub(crate) fn expire_arrival(&mut self, stream: StreamId) {
        if let Some(Flow {
            stage: FlowStage::Arriving(_),
            ..
        }) = self.flows.get(&stream).map(Box::as_ref)
        {
            self.abort(stream, Code::FirstFrameTimeout);
            self.events.push_back(PeerEvent::Discarded);
        }
    }

    /// A flow that was offered waits for its endpoint.
    pub(crate) fn queue(
        &mut self,
        stream: StreamId,
        incoming: IncomingId,
        endpoint: &EndpointName,
    ) {
        if let Some(flow) = self.flows.get_mut(&stream) {
            flow.stage = FlowStage::Offered { incoming };
            flow.endpoint = Some(endpoint.clone());
            self.withdraw_given_up(stream);
        }
    }

    /// Answers a flow that was offered: opens it, or ends it with the reason. Returns whether the
    /// flow was still there to be answered.
    pub(crate) fn answer(
        &mut self,
        stream: StreamId,
        direction: Direction,
        answer: &FlowAnswer,
    ) -> bool {
        let Some(flow) = self.flows.get_mut(&stream) else {
            return false;
        };
        let mut frame = BytesMut::new();
        answer.encode(&mut frame);
        let first = flow.write(
            Payload {
                copied: &frame,
                body: Bytes::new(),
            },
            usize::MAX,
        );
        flow.stage = FlowStage::Open;
        flow.queue_flush(&mut self.unflushed);
        match answer {
            FlowAnswer::Accepted { .. } => {
                if !direction.receives() {
                    flow.send_no_more();
                }
                if !direction.sends() {
                    flow.expect_no_messages(&mut self.connection);
                }
            }
            FlowAnswer::Refused { .. } => {
                flow.send_no_more();
                flow.release_receiver(&mut self.connection, Code::Declined);
            }
        }
        first.is_ok()
    }

    /// A flow that we dialled was accepted: the direction that it does not use ends.
    pub(crate) fn settle_direction(&mut self, stream: StreamId, direction: Direction) {
        if let Some(flow) = self.flows.get_mut(&stream)
            && !direction.receives()
        {
            flow.expect_no_messages(&mut self.connection);
        }
    }

    /// Takes a message's bytes for a flow.
    pub(crate) fn write(
        &mut self,
        stream: StreamId,
        payload: Payload<'_>,
        limit: usize,
    ) -> Result<(), FlowWriteError> {
        let flow = self
            .flows
            .get_mut(&stream)
            .ok_or(FlowWriteError::Finished)?;
        if let Stage::Lost { loss } = &self.stage {
            flow.sent_after_loss(loss)?;
        }
        flow.write(payload, limit)?;
        flow.queue_flush(&mut self.unflushed);
        Ok(())
    }

    /// How many bytes a flow takes before a writer has to wait.
    pub(crate) fn room(&mut self, stream: StreamId, limit: usize) -> Result<usize, FlowWriteError> {
        let flow = self
            .flows
            .get_mut(&stream)
            .ok_or(FlowWriteError::Finished)?;
        if let Stage::Lost { loss } = &self.stage {
            flow.sent_after_loss(loss)?;
        }
        flow.room(limit)
    }

    /// The next chunk of a flow's bytes; `None` at its end. What had arrived before the connection
    /// was lost is still given out.
    pub(crate) fn read(&mut self, stream: StreamId) -> Result<Option<Bytes>, FlowReadError> {
        let flow = self.flows.get_mut(&stream).ok_or(FlowReadError::Stopped)?;
        match (flow.read(&mut self.connection), &self.stage) {
            (Err(FlowReadError::Blocked), Stage::Lost { .. }) if mutant!(LossReadAsEnd) => Ok(None),
            (Err(FlowReadError::Blocked), Stage::Lost { loss }) => {
                Err(FlowReadError::Lost(loss.clone()))
            }
            (read, _) => read,
        }
    }

    /// How a flow's sending direction ended, if it has.
    pub(crate) fn sent(&self, stream: StreamId) -> Option<Result<(), FlowWriteError>> {
        let Some(flow) = self.flows.get(&stream) else {
            return Some(Err(FlowWriteError::Finished));
        };
        match &self.stage {
            Stage::Lost { loss } => Some(flow.sent_after_loss(loss)),
            Stage::Handshaking
            | Stage::Greeting { .. }
            | Stage::Greeted { .. }
            | Stage::Up { .. } => flow.sent(),
        }
    }

    /// No more will be written on a flow.
    pub(crate) fn finish(&mut self, stream: StreamId) {
        if let Some(flow) = self.flows.get_mut(&stream) {
            flow.finish();
            flow.queue_flush(&mut self.unflushed);
        }
    }

    /// Gives up a flow's sending direction.
    pub(crate) fn reset(&mut self, stream: StreamId, code: Code) {
        if let Some(flow) = self.flows.get_mut(&stream) {
            flow.reset(&mut self.connection, code);
        }
    }

    /// Tells the sender of a flow to send no more.
    pub(crate) fn stop(&mut self, stream: StreamId, code: Code) {
        if let Some(flow) = self.flows.get_mut(&stream) {
            flow.stop(&mut self.connection, code);
        }
    }

    /// Gives up both directions of a flow and lets go of it.
    pub(crate) fn abort(&mut self, stream: StreamId, code: Code) {
        if let Some(mut flow) = self.flows.remove(&stream) {
            flow.abort(&mut self.connection, code);
        }
    }

    /// The sending handle of a flow is gone.
    pub(crate) fn release_sender(&mut self, stream: StreamId) {
        if let Some(flow) = self.flows.get_mut(&stream) {
            flow.release_sender();
            flow.queue_flush(&mut self.unflushed);
        }
    }

    /// The receiving handle of a flow is gone.
    pub(crate) fn release_receiver(&mut self, stream: StreamId, code: Code) {
        if let Some(flow) = self.flows.get_mut(&stream) {
            flow.release_receiver(&mut self.connection, code);
            flow.queue_flush(&mut self.unflushed);
        }
    }

    /// For each open flow that the peer is not known to have all of: bytes that never left.
    pub(crate) fn undelivered(&self) -> impl Iterator<Item = usize> + '_ {
        let flows = self.flows.values().map(Box::as_ref);
        let open = flows.filter(|flow| matches!(flow.stage, FlowStage::Open));
        open.filter_map(Flow::undelivered)
    }

    /// What waits in a flow whose sender is held back; `None` for any other.
    pub(crate) fn held_back(&self, stream: StreamId) -> Option<HeldBack<'_>> {
        let flow = self.flows.get(&stream)?;
        Some(HeldBack {
            endpoint: flow.endpoint.as_ref(),
            bytes: flow.held_back()?,
        })
    }

    /// The flows as tools see them; `send_limit` bounds what waits in each.
    pub(crate) fn flow_snapshots(
        &self,
        send_limit: usize,
    ) -> impl Iterator<Item = FlowSnapshot> + '_ {
        self.flows.iter().map(move |(stream, flow)| FlowSnapshot {
            peer: self.name().cloned(),
            endpoint: flow.endpoint.clone(),
            opened_by: if stream.initiator() == self.connection.side() {
                OpenedBy::Us
            } else {
                OpenedBy::Peer
            },
            stage: match &flow.stage {
                FlowStage::Dialled { .. } | FlowStage::Arriving(_) => Opening::Opening,
                FlowStage::Presented | FlowStage::Offered { .. } => Opening::Offered,
                FlowStage::Open => Opening::Open,
            },
            send_buffer: flow.unsent().map(|used| Level {
                used,
                limit: send_limit,
            }),
            receives: flow.receives(),
        })
    }

    pub(super) fn handle_stream(
        &mut self,
        now: Instant,
        event: StreamEvent,
        surroundings: Surroundings<'_>,
    ) {
        match event {
            StreamEvent::Opened { dir: Dir::Uni } | StreamEvent::Available { dir: Dir::Uni } => {}
            StreamEvent::Opened { dir: Dir::Bi } => {
                self.accept_control(surroundings);
                self.read_control(now, surroundings);
                self.accept_streams(surroundings);
            }
            StreamEvent::Available { dir: Dir::Bi } => {
                self.events.push_back(PeerEvent::StreamsAvailable);
            }
            StreamEvent::Readable { id } if self.is_control(id) => {
                self.read_control(now, surroundings);
            }
            StreamEvent::Readable { id } => self.handle_readable(id),
            StreamEvent::Writable { id } => {
                // The control stream is flushed at the end of every turn anyway.
                if let Some(flow) = self.flows.get_mut(&id) {
                    flow.queue_flush(&mut self.unflushed);
                }
            }
            StreamEvent::Finished { id } => {
                if let Some(flow) = self.flows.get_mut(&id) {
                    flow.handle_finished();
                    self.events.push_back(PeerEvent::Writable(id));
                    flow.queue_flush(&mut self.unflushed);
                }
            }
            StreamEvent::Stopped { id, .. } if self.is_control(id) => {
                let error = violation("it reads the control stream no more");
                self.fail(now, Code::ControlViolation, error);
            }
            StreamEvent::Stopped { id, error_code } => {
                if let Some(flow) = self.flows.get_mut(&id) {
                    flow.handle_stopped(&mut self.connection, Code::from_wire(error_code.into()));
                    self.events.push_back(PeerEvent::Writable(id));
                    flow.queue_flush(&mut self.unflushed);
                    self.withdraw_given_up(id);
                }
            }
        }
    }

    /// Takes the streams that the peer opened; before it is up they wait.
    pub(super) fn accept_streams(&mut self, surroundings: Surroundings<'_>) {
        if !matches!(self.stage, Stage::Up { .. }) {
            return;
        }
        while let Some(stream) = self.connection.streams().accept(Dir::Bi) {
            let flow = Flow::arriving(stream, surroundings.limits.control_frame_len_max);
            self.flows.insert(stream, Box::new(flow));
            self.handle_readable(stream);
            if let Some(Flow {
                stage: FlowStage::Arriving(_),
                ..
            }) = self.flows.get(&stream).map(Box::as_ref)
            {
                self.events.push_back(PeerEvent::Arriving(stream));
            }
        }
    }

    /// Moves what was gathered into the streams and forgets the flows that are done.
    pub(super) fn flush_flows(&mut self, limits: &Limits) {
        // What the connection may still send goes to the oldest first.
        self.unflushed.sort_unstable();
        for stream in self.unflushed.drain(..) {
            let Some(flow) = self.flows.get_mut(&stream) else {
                continue;
            };
            flow.leave_queue();
            if flow.flush(&mut self.connection, limits.flow_send_buffer) {
                self.events.push_back(PeerEvent::Writable(stream));
            }
            if flow.is_done() {
                self.flows.remove(&stream);
            }
        }
    }

    /// The connection is lost: openings fail, handles are woken to learn of it.
    pub(super) fn end_flows(&mut self) {
        self.unflushed.clear();
        for (&stream, flow) in &mut self.flows {
            flow.leave_queue();
            match &flow.stage {
                // The node re-resolves or fails the dials of a lost peer by itself.
                FlowStage::Dialled { .. } | FlowStage::Presented => {}
                FlowStage::Arriving(arrival) => {
                    self.events.extend(arrival.timer.map(PeerEvent::Settled));
                    self.events.push_back(PeerEvent::Discarded);
                }
                FlowStage::Offered { incoming } => {
                    self.events.push_back(PeerEvent::Withdrawn(*incoming));
                }
                FlowStage::Open => {
                    self.events.push_back(PeerEvent::Readable(stream));
                    self.events.push_back(PeerEvent::Writable(stream));
                }
            }
        }
        self.flows
            .retain(|_, flow| matches!(flow.stage, FlowStage::Open) && flow.is_held());
    }

    fn is_control(&self, id: StreamId) -> bool {
        match &self.stage {
            Stage::Greeting {
                control: Some(control),
                ..
            }
            | Stage::Greeted { control }
            | Stage::Up { control, .. } => control.stream() == id,
            Stage::Greeting { control: None, .. } | Stage::Handshaking | Stage::Lost { .. } => {
                false
            }
        }
    }

    fn handle_readable(&mut self, stream: StreamId) {
        let Some(flow) = self.flows.get_mut(&stream) else {
            return;
        };
        match &flow.stage {
            FlowStage::Dialled { .. } | FlowStage::Arriving(_) => self.read_first(stream),
            FlowStage::Presented => {}
            FlowStage::Offered { .. } => self.withdraw_given_up(stream),
            FlowStage::Open => {
                flow.handle_readable(&mut self.connection);
                // quinn-proto tells of each frame; one word to the reader is enough.
                let is_told = matches!(self.events.back(), Some(PeerEvent::Readable(told)) if *told == stream);
                if !is_told {
                    self.events.push_back(PeerEvent::Readable(stream));
                }
                flow.queue_flush(&mut self.unflushed);
            }
        }
    }

    /// Takes a flow that waits for its endpoint back, if its dialler gave up either direction.
    fn withdraw_given_up(&mut self, stream: StreamId) {
        if let Some(flow) = self.flows.get_mut(&stream)
            && let FlowStage::Offered { incoming } = flow.stage
            && (flow.is_stopped() || flow.peek_reset(&mut self.connection).is_some())
        {
            self.abort(stream, Code::Cancelled);
            self.events.push_back(PeerEvent::Withdrawn(incoming));
        }
    }

    fn read_first(&mut self, stream: StreamId) {
        let Some(flow) = self.flows.get_mut(&stream) else {
            return;
        };
        match flow.poll_first_frame(&mut self.connection) {
            FirstFrame::Pending => {}
            FirstFrame::Complete(frame) => match &flow.stage {
                &FlowStage::Dialled { dial, .. } => self.handle_answer(stream, dial, &frame),
                FlowStage::Arriving(arrival) => {
                    let timer = arrival.timer;
                    self.handle_opening(stream, timer, &frame);
                }
                FlowStage::Presented | FlowStage::Offered { .. } | FlowStage::Open => {}
            },
            FirstFrame::Unacceptable(FrameError::TooLong { .. }) => {
                self.give_up(stream, Code::FirstFrameTooLong);
            }
            FirstFrame::Unacceptable(_) => self.give_up(stream, Code::FirstFrameMalformed),
            FirstFrame::Truncated => self.give_up(stream, Code::FirstFrameTruncated),
            FirstFrame::Reset(code) => self.give_up(stream, code),
        }
    }

    fn handle_answer(&mut self, stream: StreamId, dial: DialId, frame: &[u8]) {
        let Ok(answer) = FlowAnswer::decode(frame) else {
            return self.give_up(stream, Code::FirstFrameMalformed);
        };
        if let Some(flow) = self.flows.get_mut(&stream) {
            flow.stage = FlowStage::Open;
        }
        if let FlowAnswer::Refused { .. } = answer {
            self.abort(stream, Code::Cancelled);
        }
        self.events.push_back(PeerEvent::Answered { dial, answer });
    }

    fn handle_opening(&mut self, stream: StreamId, timer: Option<TimerKey>, frame: &[u8]) {
        match OpenFlow::decode(frame) {
            Ok(open) => {
                if let Some(flow) = self.flows.get_mut(&stream) {
                    flow.stage = FlowStage::Presented;
                }
                self.events.push_back(PeerEvent::Offered {
                    stream,
                    timer,
                    open,
                });
            }
            Err(error) => {
                tracing::debug!(target: "grinta::flow", remote = %self.remote(), %error, "a flow's first frame is malformed");
                self.give_up(stream, Code::FirstFrameMalformed);
            }
        }
    }

    /// Ends a flow whose opening failed; the other streams do not notice.
    fn give_up(&mut self, stream: StreamId, code: Code) {
        match self.flows.get(&stream).map(|flow| &flow.stage) {
            Some(&FlowStage::Dialled { dial, .. }) => {
                self.events.push_back(PeerEvent::Unanswered { dial, code });
            }
            Some(FlowStage::Arriving(arrival)) => {
                self.events.extend(arrival.timer.map(PeerEvent::Settled));
                self.events.push_back(PeerEvent::Discarded);
            }
            Some(FlowStage::Presented | FlowStage::Offered { .. } | FlowStage::Open) | None => {}
        }
        self.abort(stream, code);
    }
}
