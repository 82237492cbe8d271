//! What a node counts, from its start on.

/// Plain counts of what a node did and what was done to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
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
    /// Flows that this node dialled and that were accepted.
    pub flows_established: u64,
    /// Dials that ended without a flow.
    pub flows_failed: u64,
    /// Flows by others that this node refused.
    pub flows_refused: u64,
    /// Readers at other nodes that did not read for `slow_consumer_after` while their sender here
    /// waited: once for each episode.
    pub slow_consumers: u64,
    /// Control messages dropped because their connection took too long to come up.
    pub control_messages_dropped: u64,
}
