//! What a node counts, from its start on.

use crate::node::event::MemberEvent;
use crate::wire::control::ControlMessage;

/// Plain counts of what a node did and what was done to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default)
)]
#[non_exhaustive]
pub struct Counters {
    /// Bytes of datagrams received.
    pub bytes_received: u64,
    /// Bytes of datagrams sent.
    pub bytes_sent: u64,
    /// Datagrams that were no QUIC, not for this node, or over a limit.
    pub datagrams_dropped: u64,
    /// Connections that came up.
    pub connections_established: u64,
    /// Of those, the ones that others dialled.
    pub connections_accepted: u64,
    /// Connections that this node dialled and that did not come up.
    pub connections_failed: u64,
    /// Connections by others that did not come up: no trusted certificate, a name that is not in
    /// it, another fabric.
    pub connections_refused: u64,
    /// Connections that were up and that either side closed: in good order, as one of two, or with
    /// a code that says why not.
    pub connections_closed: u64,
    /// Connections that were up and broke: nothing came any more, or the peer had restarted.
    pub connections_lost: u64,
    /// Connections closed because the peer broke the control protocol.
    pub violations: u64,
    /// Connections closed because the peer told of itself that it holds more names than
    /// `names_per_node_max` and `name_bytes_per_node_max` allow.
    pub names_exceeded: u64,
    /// Streams that this node opened for flows.
    pub streams_established: u64,
    /// Streams that this node opened for flows and that ended before they were answered.
    pub streams_failed: u64,
    /// Streams by others whose first frame was well.
    pub streams_accepted: u64,
    /// Streams by others that ended before that, or whose first frame was malformed, too long or
    /// too late.
    pub streams_refused: u64,
    /// Flows that this node dialled and that were accepted.
    pub flows_established: u64,
    /// Dials that ended without a flow.
    pub flows_failed: u64,
    /// Flows by others that this node's endpoints accepted.
    pub flows_accepted: u64,
    /// Flows by others that this node refused.
    pub flows_refused: u64,
    /// Messages of flows that were handed over to go to other nodes. Messages are the handles'
    /// business: a [`Node`](super::Node) by itself counts none.
    pub messages_sent: u64,
    /// Messages of flows that came from other nodes and were taken by their readers.
    pub messages_received: u64,
    /// Readers at other nodes that did not read for `slow_consumer_after` while their sender here
    /// waited: once for each episode.
    pub slow_consumers: u64,
    /// Members that this node began to suspect, or heard to be suspected.
    pub members_suspected: u64,
    /// Suspicions that the member refuted.
    pub members_refuted: u64,
    /// Members that went down.
    pub members_failed: u64,
    /// Members that came back in the run in which this node held them down: they had been well, or
    /// cut off, all the time.
    pub members_failed_falsely: u64,
    /// Members that left on purpose.
    pub members_left: u64,
    /// Bytes of control messages sent, on any connection and in any way.
    pub control_bytes_sent: u64,
    /// Bytes of control messages received.
    pub control_bytes_received: u64,
    /// Of the bytes of control messages sent, those with which members and names were compared with
    /// other nodes, and what was missing told.
    pub push_pull_bytes_sent: u64,
    /// Of the bytes of control messages received, those of comparisons.
    pub push_pull_bytes_received: u64,
    /// Control messages dropped because their connection took too long to come up.
    pub control_messages_dropped: u64,
}

impl Counters {
    pub(super) const fn note_member(&mut self, event: &MemberEvent) {
        match event {
            MemberEvent::Suspected(_) => self.members_suspected += 1,
            MemberEvent::Refuted(_) => self.members_refuted += 1,
            MemberEvent::Down(_) => self.members_failed += 1,
            MemberEvent::Left(_) => self.members_left += 1,
            MemberEvent::Up(_) | MemberEvent::Updated(_) => {}
        }
    }

    pub(super) const fn note_control_sent(&mut self, message: &ControlMessage, bytes: u64) {
        self.control_bytes_sent += bytes;
        if is_push_pull(message) {
            self.push_pull_bytes_sent += bytes;
        }
    }

    pub(super) const fn note_control_received(&mut self, message: &ControlMessage, bytes: u64) {
        self.control_bytes_received += bytes;
        if is_push_pull(message) {
            self.push_pull_bytes_received += bytes;
        }
    }
}

/// Whether a message compares what two nodes know, or tells what the comparison found missing.
const fn is_push_pull(message: &ControlMessage) -> bool {
    match message {
        ControlMessage::SyncRequest(_)
        | ControlMessage::SyncReply(_)
        | ControlMessage::Members(_)
        | ControlMessage::MemberDigest(_)
        | ControlMessage::MemberAnswer(_)
        | ControlMessage::NameHeads(_)
        | ControlMessage::NamePull(_)
        | ControlMessage::Names(_) => true,
        ControlMessage::Swim(_)
        | ControlMessage::Rumour(_)
        | ControlMessage::Leave(_)
        | ControlMessage::LeaveAcknowledged(_)
        | ControlMessage::NameQuery(_)
        | ControlMessage::NameAnswer(_) => false,
    }
}
