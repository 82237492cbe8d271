//! What a fabric counts and holds, through the `metrics` facade.
//!
//! Nothing is measured here: a [`Snapshot`] is taken and handed on, as often as somebody wants it.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use metrics::{Key, Label, Level as Importance, Metadata, Recorder, SharedString, Unit};

use crate::node::{ConnectionStage, Counters, HealthSnapshot, Level, Snapshot, UsageSnapshot};
use crate::shell::fabric::Fabric;
use crate::shell::shared::Shared;
use crate::shell::sleep::Sleep;

/// Hands what a fabric counts and holds to the recorder of the [`metrics`] facade, whichever the
/// program has installed: [`Fabric::metrics`] makes one.
///
/// Counters are handed on as what was added since the last time, so that several fabrics of one
/// process, and one after the other, add up. Gauges are as they are: fabrics that are to be told
/// apart need a label each.
///
/// All but the labels that the program gives are bounded: none is a name or an address. Who that is
/// about [`Fabric::snapshot`] tells.
///
/// The label `perspective` is `client` for what this node began and sent, and `server` for what
/// others began and what came.
///
/// | counter | labels | what |
/// |---|---|---|
/// | `grinta.datagram.bytes` | `perspective` | bytes of UDP datagrams |
/// | `grinta.datagram.errors` | `perspective`: `server` | datagrams that were no QUIC, not for this node, or over a limit |
/// | `grinta.stream.established.count` | `perspective` | QUIC streams for flows |
/// | `grinta.stream.errors` | `perspective` | streams that ended before their first frame was answered, or there and well |
/// | `grinta.flow.established.count` | `perspective` | flows that were accepted |
/// | `grinta.flow.errors` | `perspective` | dials that ended without a flow, flows of others that were refused |
/// | `grinta.connection.established.count` | `perspective` | connections that came up |
/// | `grinta.connection.errors` | `perspective` | connections that did not come up |
/// | `grinta.connection.closed.count` | | connections that were up and that either side closed |
/// | `grinta.connection.lost.count` | | connections that were up and broke |
/// | `grinta.connection.violations` | | connections closed because the peer broke the control protocol, or holds too many names |
/// | `grinta.message.count` | `perspective` | messages of flows with other nodes |
/// | `grinta.flow.slow_consumers` | | readers elsewhere that did not read while their sender here waited |
/// | `grinta.member.suspected.count`, `.refuted.count` | | suspicions, and those that the member refuted |
/// | `grinta.member.down.count`, `.false_down.count` | | members that failed, and those that came back in the same run |
/// | `grinta.member.left.count` | | members that left |
/// | `grinta.control.bytes` | `perspective` | bytes of all control messages |
/// | `grinta.control.dropped.count` | | control messages whose connection took too long to come up |
/// | `grinta.push_pull.bytes` | `perspective` | of those bytes, comparisons of members and names |
///
/// | gauge | labels | what |
/// |---|---|---|
/// | `grinta.members` | `state`: `alive`, `suspect`, `down`, `left` | members, this node among them |
/// | `grinta.names` | `holder`: `self`, `any` | names held; one that is shared counts for each that holds it |
/// | `grinta.connections` | `stage`: `handshaking`, `greeting`, `up`, `closing` | connections |
/// | `grinta.flows` | | flows with other nodes |
/// | `grinta.queue.bytes` | `queue`: `control`, `flow`, `local_flow` | bytes that wait: control messages to be sent, what flows wrote, what was not read within the process |
/// | `grinta.queue.flows` | `queue`: `accept` | flows that wait to be accepted |
/// | `grinta.queue.fullest` | `queue` | the fullest queue of a kind, as a share of its limit; over 1 for a message that is longer than the limit |
/// | `grinta.in_use`, `grinta.in_use.limit` | `what`: `connections`, `handshakes`, `endpoints`, `dials`, `held`, `redials` | what is bounded for the node as a whole ([`UsageSnapshot`](crate::UsageSnapshot)) |
/// | `grinta.certificate.expires_in.seconds` | | what is left of this node's certificate |
/// | `grinta.synced` | | 1 once the node knows the fabric's names |
/// | `grinta.identity_conflict` | | 1 if another process goes by this node's name |
///
/// The histogram `grinta.connection.round_trip_time.seconds` gets the round-trip time of each
/// connection that is up, each time.
#[derive(Debug)]
pub struct Metrics {
    shared: Arc<Shared>,
    labels: Vec<Label>,
    /// What was handed on.
    published: Counters,
    is_described: bool,
}

impl Fabric {
    /// What this fabric counts and holds, for the recorder of the `metrics` facade. Does not keep
    /// the fabric open.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        Metrics {
            shared: Arc::clone(self.shared()),
            labels: Vec::new(),
            published: Counters::default(),
            is_described: false,
        }
    }
}

impl Metrics {
    /// Gives all metrics one more label.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.push(Label::new(key.into(), value.into()));
        self
    }

    /// Hands on what the fabric counts and holds now, to the recorder of this thread or, without
    /// one, of the process; the first time also what each metric is. Costs a [`Fabric::snapshot`],
    /// and is fresh when whoever collects the metrics calls it just before.
    pub fn publish(&mut self) {
        let snapshot = self.shared.snapshot();
        let labels = &self.labels;
        let was_described = std::mem::replace(&mut self.is_described, true);
        metrics::with_recorder(|recorder| {
            if !was_described {
                describe(recorder);
            }
            for counter in COUNTERS {
                let added = (counter.read)(&snapshot.counters)
                    .saturating_sub((counter.read)(&self.published));
                let key = key(counter.name, counter.label, labels);
                recorder.register_counter(&key, &METADATA).increment(added);
            }
            for gauge in gauges(&snapshot) {
                let key = key(gauge.name, gauge.label, labels);
                recorder.register_gauge(&key, &METADATA).set(gauge.value);
            }
            let key = key(ROUND_TRIP_TIME, None, labels);
            let histogram = recorder.register_histogram(&key, &METADATA);
            for connection in &snapshot.connections {
                if connection.stage == ConnectionStage::Up {
                    histogram.record(connection.round_trip_time);
                }
            }
        });
        self.published = snapshot.counters;
    }

    /// [Publishes](Self::publish) at once, then every `interval`, and a last time when the fabric is
    /// closed, with which this ends. Spawn it once the recorder is installed.
    ///
    /// # Cancel safety
    /// When the future is dropped, what was counted since the last time is not handed on.
    pub async fn run(mut self, interval: Duration) {
        loop {
            self.publish();
            if self.shared.with(|state| state.is_closed) {
                return;
            }
            let sleep = Sleep::new(&self.shared, interval);
            poll_fn(|cx| sleep.poll(cx)).await;
        }
    }
}

/// A counter of the facade, and where it is read.
struct CounterMetric {
    name: &'static str,
    label: Option<OwnLabel>,
    read: fn(&Counters) -> u64,
}

/// A gauge of the facade, and what it shows.
struct GaugeMetric {
    name: &'static str,
    label: Option<OwnLabel>,
    value: f64,
}

/// The label that a metric has of its own.
#[derive(Clone, Copy)]
struct OwnLabel {
    key: &'static str,
    value: &'static str,
}

fn key(name: &'static str, own: Option<OwnLabel>, labels: &[Label]) -> Key {
    let own = own.map(|own| Label::from_static_parts(own.key, own.value));
    let labels: Vec<_> = own.into_iter().chain(labels.iter().cloned()).collect();
    Key::from_parts(name, labels)
}

fn gauges(snapshot: &Snapshot) -> Vec<GaugeMetric> {
    let names = &snapshot.names;
    let has_conflict = snapshot.identity_conflict.is_some();
    let mut gauges = vec![
        labelled("grinta.names", "holder", "self", count(names.own)),
        labelled("grinta.names", "holder", "any", count(names.known)),
        plain("grinta.flows", count(snapshot.flows.len())),
        plain("grinta.synced", truth(snapshot.synced)),
        plain("grinta.identity_conflict", truth(has_conflict)),
    ];
    if let Some(left) = snapshot.certificate.expires_in {
        let left = left.as_secs_f64();
        gauges.push(plain("grinta.certificate.expires_in.seconds", left));
    }
    for state in ["alive", "suspect", "down", "left"] {
        let members = snapshot.members.iter();
        let members = members.filter(|member| health(member.health) == state);
        let members = count(members.count());
        gauges.push(labelled("grinta.members", "state", state, members));
    }
    for stage in ["handshaking", "greeting", "up", "closing"] {
        let connections = snapshot.connections.iter();
        let connections = connections.filter(|connection| name_of(connection.stage) == stage);
        let connections = count(connections.count());
        gauges.push(labelled("grinta.connections", "stage", stage, connections));
    }
    gauges.extend(queues(snapshot));
    gauges.extend(in_use(&snapshot.usage));
    gauges
}

fn queues(snapshot: &Snapshot) -> Vec<GaugeMetric> {
    let control = snapshot.connections.iter().map(|it| it.control_queue);
    let flow = snapshot.flows.iter().filter_map(|it| it.send_buffer);
    let local = snapshot.local_flows.iter().map(|it| it.bytes);
    let accept = snapshot.endpoints.iter().map(|it| it.accept_queue);
    let mut gauges = Vec::new();
    let mut show = |name, queue, levels: Vec<Level>| {
        let used = levels.iter().map(|level| level.used).sum();
        gauges.push(labelled(name, "queue", queue, count(used)));
        let fullest = levels.iter().map(Level::share).fold(0.0, f64::max);
        gauges.push(labelled("grinta.queue.fullest", "queue", queue, fullest));
    };
    show("grinta.queue.bytes", "control", control.collect());
    show("grinta.queue.bytes", "flow", flow.collect());
    show("grinta.queue.bytes", "local_flow", local.collect());
    show("grinta.queue.flows", "accept", accept.collect());
    gauges
}

fn in_use(usage: &UsageSnapshot) -> impl Iterator<Item = GaugeMetric> {
    let levels = [
        ("connections", usage.connections),
        ("handshakes", usage.handshakes),
        ("endpoints", usage.endpoints),
        ("dials", usage.dials),
        ("held", usage.held),
        ("redials", usage.redials),
    ];
    levels.into_iter().flat_map(|(what, level)| {
        [
            labelled("grinta.in_use", "what", what, count(level.used)),
            labelled("grinta.in_use.limit", "what", what, count(level.limit)),
        ]
    })
}

const fn plain(name: &'static str, value: f64) -> GaugeMetric {
    GaugeMetric {
        name,
        label: None,
        value,
    }
}

const fn labelled(
    name: &'static str,
    key: &'static str,
    value: &'static str,
    shown: f64,
) -> GaugeMetric {
    GaugeMetric {
        name,
        label: Some(OwnLabel { key, value }),
        value: shown,
    }
}

fn describe(recorder: &dyn Recorder) {
    let text = |what: &'static str| SharedString::const_str(what);
    for (name, unit, what) in DESCRIPTIONS {
        recorder.describe_counter((*name).into(), Some(*unit), text(what));
    }
    for (name, unit, what) in GAUGE_DESCRIPTIONS {
        recorder.describe_gauge((*name).into(), Some(*unit), text(what));
    }
    let what = text("round-trip times of the connections that are up");
    recorder.describe_histogram(ROUND_TRIP_TIME.into(), Some(Unit::Seconds), what);
}

const fn health(health: HealthSnapshot) -> &'static str {
    match health {
        HealthSnapshot::Alive => "alive",
        HealthSnapshot::Suspect => "suspect",
        HealthSnapshot::Down { .. } => "down",
        HealthSnapshot::Left { .. } => "left",
    }
}

const fn name_of(stage: ConnectionStage) -> &'static str {
    match stage {
        ConnectionStage::Handshaking => "handshaking",
        ConnectionStage::Greeting => "greeting",
        ConnectionStage::Up => "up",
        ConnectionStage::Closing => "closing",
    }
}

/// As gauges have it; exact below 2⁵³.
const fn count(count: usize) -> f64 {
    count as f64
}

fn truth(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

const METADATA: Metadata<'_> = Metadata::new("grinta", Importance::INFO, None);

const ROUND_TRIP_TIME: &str = "grinta.connection.round_trip_time.seconds";

const CLIENT: Option<OwnLabel> = perspective("client");
const SERVER: Option<OwnLabel> = perspective("server");

const fn perspective(value: &'static str) -> Option<OwnLabel> {
    let key = "perspective";
    Some(OwnLabel { key, value })
}

const fn counter(
    name: &'static str,
    label: Option<OwnLabel>,
    read: fn(&Counters) -> u64,
) -> CounterMetric {
    CounterMetric { name, label, read }
}

const COUNTERS: &[CounterMetric] = &[
    counter("grinta.datagram.bytes", CLIENT, |it| it.bytes_sent),
    counter("grinta.datagram.bytes", SERVER, |it| it.bytes_received),
    counter("grinta.datagram.errors", SERVER, |it| it.datagrams_dropped),
    counter("grinta.stream.established.count", CLIENT, |it| {
        it.streams_established
    }),
    counter("grinta.stream.established.count", SERVER, |it| {
        it.streams_accepted
    }),
    counter("grinta.stream.errors", CLIENT, |it| it.streams_failed),
    counter("grinta.stream.errors", SERVER, |it| it.streams_refused),
    counter("grinta.flow.established.count", CLIENT, |it| {
        it.flows_established
    }),
    counter("grinta.flow.established.count", SERVER, |it| {
        it.flows_accepted
    }),
    counter("grinta.flow.errors", CLIENT, |it| it.flows_failed),
    counter("grinta.flow.errors", SERVER, |it| it.flows_refused),
    counter("grinta.connection.established.count", CLIENT, |it| {
        it.connections_established - it.connections_accepted
    }),
    counter("grinta.connection.established.count", SERVER, |it| {
        it.connections_accepted
    }),
    counter("grinta.connection.errors", CLIENT, |it| {
        it.connections_failed
    }),
    counter("grinta.connection.errors", SERVER, |it| {
        it.connections_refused
    }),
    counter("grinta.connection.closed.count", None, |it| {
        it.connections_closed
    }),
    counter("grinta.connection.lost.count", None, |it| {
        it.connections_lost
    }),
    counter("grinta.connection.violations", None, |it| {
        it.violations + it.names_exceeded
    }),
    counter("grinta.message.count", CLIENT, |it| it.messages_sent),
    counter("grinta.message.count", SERVER, |it| it.messages_received),
    counter("grinta.flow.slow_consumers", None, |it| it.slow_consumers),
    counter("grinta.member.suspected.count", None, |it| {
        it.members_suspected
    }),
    counter("grinta.member.refuted.count", None, |it| it.members_refuted),
    counter("grinta.member.down.count", None, |it| it.members_failed),
    counter("grinta.member.false_down.count", None, |it| {
        it.members_failed_falsely
    }),
    counter("grinta.member.left.count", None, |it| it.members_left),
    counter("grinta.control.bytes", CLIENT, |it| it.control_bytes_sent),
    counter("grinta.control.bytes", SERVER, |it| {
        it.control_bytes_received
    }),
    counter("grinta.control.dropped.count", None, |it| {
        it.control_messages_dropped
    }),
    counter("grinta.push_pull.bytes", CLIENT, |it| {
        it.push_pull_bytes_sent
    }),
    counter("grinta.push_pull.bytes", SERVER, |it| {
        it.push_pull_bytes_received
    }),
];

const DESCRIPTIONS: &[(&str, Unit, &str)] = &[
    (
        "grinta.datagram.bytes",
        Unit::Bytes,
        "bytes of UDP datagrams",
    ),
    (
        "grinta.datagram.errors",
        Unit::Count,
        "datagrams that were dropped",
    ),
    (
        "grinta.stream.established.count",
        Unit::Count,
        "streams for flows",
    ),
    (
        "grinta.stream.errors",
        Unit::Count,
        "streams that ended before they began",
    ),
    (
        "grinta.flow.established.count",
        Unit::Count,
        "flows that were accepted",
    ),
    (
        "grinta.flow.errors",
        Unit::Count,
        "dials that failed and flows that were refused",
    ),
    (
        "grinta.connection.established.count",
        Unit::Count,
        "connections that came up",
    ),
    (
        "grinta.connection.errors",
        Unit::Count,
        "connections that did not come up",
    ),
    (
        "grinta.connection.closed.count",
        Unit::Count,
        "connections that were closed",
    ),
    (
        "grinta.connection.lost.count",
        Unit::Count,
        "connections that broke",
    ),
    (
        "grinta.connection.violations",
        Unit::Count,
        "peers cut off for what they said",
    ),
    (
        "grinta.message.count",
        Unit::Count,
        "messages of flows with other nodes",
    ),
    (
        "grinta.flow.slow_consumers",
        Unit::Count,
        "readers that did not read for long",
    ),
    (
        "grinta.member.suspected.count",
        Unit::Count,
        "members that were suspected",
    ),
    (
        "grinta.member.refuted.count",
        Unit::Count,
        "suspicions that were refuted",
    ),
    (
        "grinta.member.down.count",
        Unit::Count,
        "members that failed",
    ),
    (
        "grinta.member.false_down.count",
        Unit::Count,
        "members that had not failed after all",
    ),
    ("grinta.member.left.count", Unit::Count, "members that left"),
    (
        "grinta.control.bytes",
        Unit::Bytes,
        "bytes of control messages",
    ),
    (
        "grinta.control.dropped.count",
        Unit::Count,
        "control messages without a connection",
    ),
    (
        "grinta.push_pull.bytes",
        Unit::Bytes,
        "bytes of comparisons of members and names",
    ),
];

const GAUGE_DESCRIPTIONS: &[(&str, Unit, &str)] = &[
    ("grinta.members", Unit::Count, "members by state"),
    ("grinta.connections", Unit::Count, "connections by stage"),
    ("grinta.names", Unit::Count, "names that are held"),
    ("grinta.flows", Unit::Count, "flows with other nodes"),
    ("grinta.queue.bytes", Unit::Bytes, "bytes that wait"),
    (
        "grinta.queue.flows",
        Unit::Count,
        "flows that wait to be accepted",
    ),
    (
        "grinta.queue.fullest",
        Unit::Count,
        "the fullest queue, as a share of its limit",
    ),
    ("grinta.in_use", Unit::Count, "what is bounded and in use"),
    (
        "grinta.in_use.limit",
        Unit::Count,
        "the most that may be in use",
    ),
    (
        "grinta.certificate.expires_in.seconds",
        Unit::Seconds,
        "what is left of the certificate",
    ),
    (
        "grinta.synced",
        Unit::Count,
        "whether the fabric's names are known",
    ),
    (
        "grinta.identity_conflict",
        Unit::Count,
        "whether another goes by this node's name",
    ),
];
