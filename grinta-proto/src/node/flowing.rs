//! What the user does with open flows: writes, reads and ends them.

use bytes::Bytes;

use crate::node::Node;
use crate::node::event::{FlowReadError, FlowWriteError};
use crate::node::flow::{FlowId, Payload};
use crate::wire::code::Code;

impl Node {
    /// Takes bytes to send on a flow.
    ///
    /// # Errors
    /// [`FlowWriteError::Blocked`] while the flow holds more than its limit; the others are final.
    pub fn write(&mut self, flow: FlowId, payload: Payload<'_>) -> Result<(), FlowWriteError> {
        let limit = self.config.limits.flow_send_buffer;
        self.write_up_to(flow, payload, limit)
    }

    /// Takes bytes to send on a flow, however much it holds: for a few bytes that cannot wait, and
    /// whose number something else bounds.
    ///
    /// # Errors
    /// [`FlowWriteError`], never `Blocked`: all are final.
    pub fn write_regardless(
        &mut self,
        flow: FlowId,
        payload: Payload<'_>,
    ) -> Result<(), FlowWriteError> {
        self.write_up_to(flow, payload, usize::MAX)
    }

    /// How many bytes a flow takes before a writer has to wait.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn room(&mut self, flow: FlowId) -> Result<usize, FlowWriteError> {
        let limit = self.config.limits.flow_send_buffer;
        let peer = self.connections.get_mut(flow.peer);
        let room = peer
            .ok_or(FlowWriteError::Finished)?
            .room(flow.stream, limit);
        if room == Err(FlowWriteError::Blocked) {
            self.slow.note_wait(flow);
        }
        room
    }

    /// The next bytes that arrived on a flow; `None` at its end.
    ///
    /// # Errors
    /// [`FlowReadError::Blocked`] while nothing is there; the others are final.
    pub fn read(&mut self, flow: FlowId) -> Result<Option<Bytes>, FlowReadError> {
        let peer = self.connections.get_mut(flow.peer);
        let read = peer.ok_or(FlowReadError::Stopped)?.read(flow.stream);
        if read != Err(FlowReadError::Blocked) {
            // The peer may send more for what was taken.
            self.connections.touch(flow.peer);
        }
        read
    }

    /// Ends a flow's sending direction behind what was written.
    pub fn finish(&mut self, flow: FlowId) {
        if let Some(peer) = self.connections.touch(flow.peer) {
            peer.finish(flow.stream);
        }
    }

    /// How a flow's sending direction ended, if it has: `Ok` once the peer has it all.
    #[must_use]
    pub fn sent(&self, flow: FlowId) -> Option<Result<(), FlowWriteError>> {
        match self.connections.get(flow.peer) {
            Some(peer) => peer.sent(flow.stream),
            None => Some(Err(FlowWriteError::Finished)),
        }
    }

    /// Gives up a flow's sending direction.
    pub fn reset(&mut self, flow: FlowId, code: Code) {
        if let Some(peer) = self.connections.touch(flow.peer) {
            peer.reset(flow.stream, code);
        }
    }

    /// Tells the sender of a flow to send no more; what has arrived is dropped.
    pub fn stop(&mut self, flow: FlowId, code: Code) {
        if let Some(peer) = self.connections.touch(flow.peer) {
            peer.stop(flow.stream, code);
        }
    }

    /// The sending handle of a flow is gone: an unfinished direction finishes.
    pub fn release_sender(&mut self, flow: FlowId) {
        if let Some(peer) = self.connections.touch(flow.peer) {
            peer.release_sender(flow.stream);
        }
    }

    /// The receiving handle of a flow is gone: the peer is told to stop, for the reason `code`.
    pub fn release_receiver(&mut self, flow: FlowId, code: Code) {
        if let Some(peer) = self.connections.touch(flow.peer) {
            peer.release_receiver(flow.stream, code);
        }
    }

    fn write_up_to(
        &mut self,
        flow: FlowId,
        payload: Payload<'_>,
        limit: usize,
    ) -> Result<(), FlowWriteError> {
        let peer = self
            .connections
            .touch(flow.peer)
            .ok_or(FlowWriteError::Finished)?;
        let written = peer.write(flow.stream, payload, limit);
        if written == Err(FlowWriteError::Blocked) {
            self.slow.note_wait(flow);
        }
        written
    }
}
