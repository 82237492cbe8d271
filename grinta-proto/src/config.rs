//! What a node is told at its start, and every limit that keeps it bounded.
//!
//! Each field says its unit, its default and the reason for the default. [`Config::new`] is the
//! local-network preset; [`Config::wan`], [`Config::fast`] and [`Config::test`] change the timings
//! only.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::name::{FabricName, NAME_LEN_MAX, NodeName};

/// Labels of a member: short strings by which programs choose among nodes.
pub type Labels = BTreeMap<String, String>;

/// Everything a node is told at its start but its credentials.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// The node's name. It must be in the node's certificate.
    pub node: NodeName,
    /// The fabric to belong to; nodes of another one are refused.
    pub fabric: FabricName,
    /// The node's labels.
    pub labels: Labels,
    /// Where members of the fabric may be found at the start, and again after a loss of all.
    pub neighbours: Vec<Neighbour>,
    /// Connections.
    pub connection: ConnectionConfig,
    /// Failure detection and gossip.
    pub membership: MembershipConfig,
    /// Bounds on what a node holds and takes.
    pub limits: Limits,
}

/// A place where a member of the fabric may be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// As the user wrote it: `host:port`.
    pub host: String,
    /// Its addresses, or why it has none. It is reached when one of them answers.
    pub addresses: Result<Vec<SocketAddr>, String>,
}

/// Timings of connections.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionConfig {
    /// How long a connection may take from its first packet until both have said `Hello`.
    /// Default 5 s: a round trip is milliseconds, a lost first packet costs one retry of a second.
    pub handshake_timeout: Duration,
    /// Without a packet for this long a connection is lost. Default 15 s: longer than any
    /// suspicion in a small fabric, so that membership and not the transport decides.
    pub idle_timeout: Duration,
    /// A quiet connection sends a packet this often. Default 4 s: three may be lost in a row.
    pub keep_alive_interval: Duration,
    /// Round-trip time assumed before the first is measured. Default 100 ms: QUIC's own third of
    /// a second makes a lost first packet cost a second.
    pub initial_rtt: Duration,
    /// How long an accepted stream may take to bring its whole first frame. Default 5 s.
    pub first_frame_timeout: Duration,
    /// How long `join` waits for the slower neighbours once one has answered. Default 500 ms.
    pub join_settle: Duration,
    /// Connections that are kept though nothing uses them, half of `connections_max` at the most.
    /// Default 1,000: within it every probe finds a connection, beyond it memory counts, some
    /// 30 kB for each.
    pub full_mesh_max: usize,
    /// Beyond `full_mesh_max`, connections that nothing has used for this long are closed, the
    /// longest unused first. Default 60 s: a fabric of 5,000 then makes two or three handshakes
    /// per second and node, for its probes.
    pub unused_timeout: Duration,
    /// A reader that does not read while its sender waits this long is reported as a slow
    /// consumer, once until it has caught up. Default 5 s: longer than a pause for garbage or a
    /// slow disk, and short enough to be told of while the cause can still be seen.
    pub slow_consumer_after: Duration,
}

/// Timings of failure detection and gossip.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MembershipConfig {
    /// One random member is probed this often. Default 1 s, as memberlist's LAN profile.
    pub probe_interval: Duration,
    /// How long a probe waits for a direct answer before it asks others to try. Default 500 ms.
    pub probe_timeout: Duration,
    /// How many members are asked to probe in our place. Default 3.
    pub indirect_probes: usize,
    /// A suspect has `suspicion_multiplier * log10(members) * probe_interval` (at least
    /// `suspicion_multiplier * probe_interval`) to refute. Default 4.
    pub suspicion_multiplier: u32,
    /// Changes are told to a few members at most this often; the first after a silence at once.
    /// Default 200 ms.
    pub gossip_interval: Duration,
    /// To how many members. Default 3.
    pub gossip_fanout: usize,
    /// The whole of the members and names is compared with one random member this often.
    /// Default 5 s: it bounds how long a heal can take to complete.
    pub push_pull_interval: Duration,
    /// How long a member that is down is remembered. Default 48 h: within it, no late message
    /// brings back what it had claimed.
    pub down_retention: Duration,
    /// How long the names of a member that is down are kept, so that they need not be told again
    /// when it comes back. Default 1 h: a cut cable moves no names when it is mended, and what is
    /// gone for longer takes no memory.
    pub names_retention: Duration,
    /// Whether a node's names count elsewhere only as that node signed them. Default true: a member
    /// that is broken into can withhold the names of others, and neither take them over nor make any
    /// up. False is for those who trust all members, and spares a signature for each change and its
    /// verification at each node, 0.1 ms. The same at all nodes of a fabric.
    pub verify_claims: bool,
}

/// Bounds on what a node holds and takes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Limits {
    /// Connections, and handshakes with peers we dial. Default 2,048: a full mesh of a thousand,
    /// twice over while both sides dial.
    pub connections_max: usize,
    /// Handshakes under way that others began. Beyond it newcomers must prove their address first;
    /// beyond twice it they are not answered. Default 64.
    pub handshakes_max: usize,
    /// Flows that one peer may have open towards this node. Default 256: a slot costs about 80
    /// bytes a side whether or not it is used.
    pub flows_per_peer_max: u32,
    /// Flows that wait at one endpoint to be accepted. Default 64.
    pub accept_queue_max: usize,
    /// Endpoints of this node. Default 100,000.
    pub endpoints_max: usize,
    /// Dials under way. Default 4,096.
    pub dials_max: usize,
    /// Longest control frame and first frame, in bytes. Default 64 KiB.
    pub control_frame_len_max: usize,
    /// Longest message of a flow, in bytes. Default 16 MiB.
    pub message_len_max: usize,
    /// Bytes that a flow holds for its peer before its sender waits. Default 64 KiB; a longer
    /// message is taken alone.
    pub flow_send_buffer: usize,
    /// Bytes a peer may send on one flow before they are read. Default 1 MiB.
    pub flow_receive_window: u32,
    /// Bytes a peer may send on all its flows before they are read. Default 16 MiB.
    pub connection_receive_window: u32,
    /// Bytes sent on one connection and not yet acknowledged. Default 16 MiB.
    pub connection_send_window: u64,
    /// Congestion window, in bytes. Default 2 MiB: more than that on a local path only fills
    /// queues until they drop.
    pub congestion_window_max: u64,
    /// Control messages that wait for a connection to come up or to take them, in bytes. The
    /// oldest are dropped. Default 1 MiB.
    pub control_queue_max: usize,
    /// Bytes of one peer's control stream that are taken within a second, claims among them, and as
    /// many of its datagrams. Beyond it the stream is read no further until the next second, datagrams
    /// are dropped, and after a minute without a pause the peer is cut off. Default 8 MiB: a node tells
    /// another all of a million names within ten seconds, and has nothing more to say then.
    pub control_bytes_per_second_max: usize,
    /// Calls of one flow that wait for their answers; further ones wait to be sent. Default 1,024.
    pub calls_in_flight_max: usize,
    /// Messages that an in-process flow holds before its sender waits. Default 1,024.
    pub local_queue_max: usize,
    /// Bytes that an in-process flow holds before its sender waits, counted as its messages would
    /// travel; a longer message is taken alone. Default 1 MiB, as `flow_receive_window`: values
    /// that nobody reads take no more than bytes that nobody reads.
    pub local_queue_bytes_max: usize,
    /// Cluster queries and claims that wait to be confirmed, together. Default 256: each keeps an
    /// answer of every member.
    pub queries_max: usize,
    /// Queries of one peer that are looked up within a second; it is told that it asked more.
    /// Default 1,000: a few microseconds each.
    pub answers_per_peer_max: u32,
    /// Names that one node may hold. Default 100,000, as `endpoints_max`: a tenth of what a fabric
    /// holds. An endpoint beyond it is refused at its node. The same at all nodes of a fabric: a
    /// peer that tells of itself more is cut off.
    pub names_per_node_max: usize,
    /// Bytes of all names that one node may hold. Default 4 MiB, 40 bytes for each name. The same
    /// at all nodes of a fabric: a peer that tells of itself more is cut off.
    pub name_bytes_per_node_max: usize,
    /// Names that all nodes of the fabric may hold together, a name counted once for each. Default
    /// 1,000,000: a replica of a quarter of a gigabyte. Beyond it claims are refused at every
    /// node. A replica remembers as many released names.
    pub names_max: usize,
    /// Bytes of all names that all nodes of the fabric may hold together. Default 40 MiB, 40 bytes
    /// for each name.
    pub name_bytes_max: usize,
    /// Changes that a watch of names holds for its task before it has to begin anew. Default 4,096.
    pub watch_queue_max: usize,
}

impl Config {
    /// A node named `node` with the defaults for a local network.
    #[must_use]
    pub fn new(node: NodeName) -> Self {
        Self {
            node,
            fabric: FabricName::default(),
            labels: Labels::new(),
            neighbours: Vec::new(),
            connection: ConnectionConfig::default(),
            membership: MembershipConfig::default(),
            limits: Limits::default(),
        }
    }

    /// The same node with timings for wide-area networks: slower probes, longer patience.
    #[must_use]
    pub fn wan(mut self) -> Self {
        self.membership.probe_interval = Duration::from_secs(5);
        self.membership.probe_timeout = Duration::from_secs(3);
        self.membership.suspicion_multiplier = 6;
        self.membership.gossip_interval = Duration::from_millis(500);
        self.membership.gossip_fanout = 4;
        self.membership.push_pull_interval = Duration::from_secs(15);
        self.connection.handshake_timeout = Duration::from_secs(10);
        self.connection.idle_timeout = Duration::from_secs(45);
        self.connection.keep_alive_interval = Duration::from_secs(12);
        self.connection.initial_rtt = Duration::from_millis(333);
        self
    }

    /// The same node with timings for local networks in which a failure must be known within
    /// seconds: among 100 nodes a crash is known everywhere in two to three, for five times the
    /// traffic of failure detection (about a kilobyte each second for each node).
    #[must_use]
    pub fn fast(mut self) -> Self {
        self.membership.probe_interval = Duration::from_millis(200);
        self.membership.probe_timeout = Duration::from_millis(100);
        self.membership.gossip_interval = Duration::from_millis(50);
        self.membership.push_pull_interval = Duration::from_secs(2);
        self.connection.idle_timeout = Duration::from_secs(5);
        self.connection.keep_alive_interval = Duration::from_millis(1200);
        self
    }

    /// The same node with timings for tests on one machine: a failure is seen within seconds.
    #[must_use]
    pub fn test(mut self) -> Self {
        self.membership.probe_interval = Duration::from_millis(200);
        self.membership.probe_timeout = Duration::from_millis(100);
        self.membership.gossip_interval = Duration::from_millis(20);
        self.membership.push_pull_interval = Duration::from_millis(500);
        self.connection.handshake_timeout = Duration::from_secs(2);
        self.connection.idle_timeout = Duration::from_secs(3);
        self.connection.keep_alive_interval = Duration::from_millis(800);
        self.connection.first_frame_timeout = Duration::from_millis(500);
        self.connection.unused_timeout = Duration::from_secs(2);
        self
    }
}

/// A timing or limit that no node can work with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` is {value}; it must be {least} to {most}")]
#[non_exhaustive]
pub struct ConfigError {
    /// The field.
    pub field: &'static str,
    /// Its value.
    pub value: String,
    /// The least allowed.
    pub least: String,
    /// The most allowed.
    pub most: String,
}

impl Config {
    /// Holds every timing and limit against the range in which a node works.
    ///
    /// # Errors
    /// [`ConfigError`] names the first that is out of its range.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.connection.check()?;
        self.membership.check()?;
        self.limits.check()
    }
}

impl ConnectionConfig {
    fn check(&self) -> Result<(), ConfigError> {
        check_durations([
            ("handshake_timeout", self.handshake_timeout, DAY),
            ("idle_timeout", self.idle_timeout, DAY),
            ("keep_alive_interval", self.keep_alive_interval, DAY),
            ("initial_rtt", self.initial_rtt, Duration::from_secs(10)),
            ("first_frame_timeout", self.first_frame_timeout, DAY),
            ("join_settle", self.join_settle, DAY),
            ("unused_timeout", self.unused_timeout, DAY),
            ("slow_consumer_after", self.slow_consumer_after, DAY),
        ])?;
        check_counts([("full_mesh_max", self.full_mesh_max, COUNT_MAX)])
    }
}

impl MembershipConfig {
    fn check(&self) -> Result<(), ConfigError> {
        check_durations([
            ("probe_interval", self.probe_interval, DAY),
            ("probe_timeout", self.probe_timeout, self.probe_interval),
            ("gossip_interval", self.gossip_interval, DAY),
            ("push_pull_interval", self.push_pull_interval, DAY),
            ("down_retention", self.down_retention, DAY * 3660),
            ("names_retention", self.names_retention, DAY * 3660),
        ])?;
        let multiplier = self.suspicion_multiplier as usize;
        check_counts([
            ("indirect_probes", self.indirect_probes, 100),
            ("suspicion_multiplier", multiplier, 10_000),
            ("gossip_fanout", self.gossip_fanout, 100),
        ])
    }
}

impl Limits {
    fn check(&self) -> Result<(), ConfigError> {
        check_counts([
            ("connections_max", self.connections_max, COUNT_MAX),
            ("handshakes_max", self.handshakes_max, COUNT_MAX),
            (
                "flows_per_peer_max",
                self.flows_per_peer_max as usize,
                1 << 20,
            ),
            ("accept_queue_max", self.accept_queue_max, COUNT_MAX),
            ("endpoints_max", self.endpoints_max, COUNT_MAX),
            ("dials_max", self.dials_max, COUNT_MAX),
            ("message_len_max", self.message_len_max, BYTES_MAX),
            ("flow_send_buffer", self.flow_send_buffer, BYTES_MAX),
            ("calls_in_flight_max", self.calls_in_flight_max, COUNT_MAX),
            ("local_queue_max", self.local_queue_max, COUNT_MAX),
            (
                "local_queue_bytes_max",
                self.local_queue_bytes_max,
                BYTES_MAX,
            ),
            ("queries_max", self.queries_max, COUNT_MAX),
            (
                "answers_per_peer_max",
                self.answers_per_peer_max as usize,
                COUNT_MAX,
            ),
            ("names_per_node_max", self.names_per_node_max, COUNT_MAX),
            ("names_max", self.names_max, COUNT_MAX),
            ("watch_queue_max", self.watch_queue_max, COUNT_MAX),
        ])?;
        let longest = NAME_LEN_MAX;
        let bytes = self.name_bytes_per_node_max;
        check_range("name_bytes_per_node_max", bytes, longest, BYTES_MAX)?;
        check_range("name_bytes_max", self.name_bytes_max, longest, BYTES_MAX)?;
        let window = self.flow_receive_window;
        let frame = self.control_frame_len_max;
        check_range("control_frame_len_max", frame, 8 * 1024, 16 << 20)?;
        let rate = self.control_bytes_per_second_max;
        check_range("control_bytes_per_second_max", rate, frame, BYTES_MAX)?;
        check_range("flow_receive_window", window, 2048, 4 << 20)?;
        let whole = self.connection_receive_window;
        check_range("connection_receive_window", whole, window, 1 << 30)?;
        let sent = self.connection_send_window;
        check_range("connection_send_window", sent, 2048, 1 << 40)?;
        let congestion = self.congestion_window_max;
        check_range("congestion_window_max", congestion, 16 * 1024, 1 << 40)?;
        check_range(
            "control_queue_max",
            self.control_queue_max,
            64 * 1024,
            1 << 30,
        )
    }
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(15),
            keep_alive_interval: Duration::from_secs(4),
            initial_rtt: Duration::from_millis(100),
            first_frame_timeout: Duration::from_secs(5),
            join_settle: Duration::from_millis(500),
            full_mesh_max: 1000,
            unused_timeout: Duration::from_secs(60),
            slow_consumer_after: Duration::from_secs(5),
        }
    }
}

impl Default for MembershipConfig {
    fn default() -> Self {
        Self {
            probe_interval: Duration::from_secs(1),
            probe_timeout: Duration::from_millis(500),
            indirect_probes: 3,
            suspicion_multiplier: 4,
            gossip_interval: Duration::from_millis(200),
            gossip_fanout: 3,
            push_pull_interval: Duration::from_secs(5),
            down_retention: Duration::from_secs(48 * 3600),
            names_retention: Duration::from_secs(3600),
            verify_claims: true,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 2048,
            handshakes_max: 64,
            flows_per_peer_max: 256,
            accept_queue_max: 64,
            endpoints_max: 100_000,
            dials_max: 4096,
            control_frame_len_max: 64 * 1024,
            message_len_max: 16 * 1024 * 1024,
            flow_send_buffer: 64 * 1024,
            flow_receive_window: 1024 * 1024,
            connection_receive_window: 16 * 1024 * 1024,
            connection_send_window: 16 * 1024 * 1024,
            congestion_window_max: 2 * 1024 * 1024,
            control_queue_max: 1024 * 1024,
            control_bytes_per_second_max: 8 << 20,
            calls_in_flight_max: 1024,
            local_queue_max: 1024,
            local_queue_bytes_max: 1024 * 1024,
            queries_max: 256,
            answers_per_peer_max: 1000,
            names_per_node_max: 100_000,
            name_bytes_per_node_max: 4 << 20,
            names_max: 1_000_000,
            name_bytes_max: 40 << 20,
            watch_queue_max: 4096,
        }
    }
}

fn check_durations<const N: usize>(
    fields: [(&'static str, Duration, Duration); N],
) -> Result<(), ConfigError> {
    for (field, value, most) in fields {
        check_range(field, value, Duration::from_millis(1), most)?;
    }
    Ok(())
}

fn check_counts<const N: usize>(
    fields: [(&'static str, usize, usize); N],
) -> Result<(), ConfigError> {
    for (field, value, most) in fields {
        check_range(field, value, 1, most)?;
    }
    Ok(())
}

fn check_range<T: PartialOrd + fmt::Debug>(
    field: &'static str,
    value: T,
    least: T,
    most: T,
) -> Result<(), ConfigError> {
    if least <= value && value <= most {
        return Ok(());
    }
    Err(ConfigError {
        field,
        value: format!("{value:?}"),
        least: format!("{least:?}"),
        most: format!("{most:?}"),
    })
}

const DAY: Duration = Duration::from_secs(24 * 3600);
/// As long as a piece of memory can be.
const BYTES_MAX: usize = isize::MAX as usize;
/// More of anything than a node can hold.
const COUNT_MAX: usize = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::new(NodeName::new("a").unwrap())
    }

    #[test]
    fn every_preset_works() {
        assert_eq!(config().check(), Ok(()));
        assert_eq!(config().wan().check(), Ok(()));
        assert_eq!(config().fast().check(), Ok(()));
        assert_eq!(config().test().check(), Ok(()));
    }

    #[test]
    fn what_no_node_can_work_with_is_named_with_its_range() {
        let mut config = config();
        config.membership.probe_timeout = Duration::from_secs(2);
        assert_eq!(
            config.check().unwrap_err().to_string(),
            "`probe_timeout` is 2s; it must be 1ms to 1s",
        );
        config.membership.probe_interval = Duration::MAX;
        assert_eq!(config.check().unwrap_err().field, "probe_interval");
    }

    #[test]
    fn a_limit_of_nothing_is_refused() {
        let mut config = config();
        config.limits.accept_queue_max = 0;
        assert_eq!(config.check().unwrap_err().field, "accept_queue_max");
        config.connection.full_mesh_max = 0;
        assert_eq!(config.check().unwrap_err().field, "full_mesh_max");
    }
}
