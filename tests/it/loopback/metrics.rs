//! What the recorder of the `metrics` facade gets to know of a fabric.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_lite::future::zip;
use grinta_proto::{Metrics, Raw};
use metrics::with_local_recorder;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

use super::{Sides, World};

node_stories! {
    counters_and_gauges_tell_what_happened,
    counters_are_handed_on_as_what_was_added,
    publishing_goes_on_until_the_fabric_is_closed,
}

async fn counters_and_gauges_tell_what_happened(world: &World) {
    let sides = world.sides().await;
    talk(&sides).await;

    let mut seen = Seen::of(&mut sides.client.metrics().label("zone", "b"));
    let all_have_the_label = seen.0.keys().all(|key| key.contains("zone=b"));
    assert!(all_have_the_label, "{seen:?}");
    let client = "perspective=client,zone=b";
    let server = "perspective=server,zone=b";
    seen.assert([
        ("grinta.stream.established.count", client, 2.0),
        ("grinta.stream.established.count", server, 0.0),
        ("grinta.stream.errors", client, 0.0),
        ("grinta.flow.established.count", client, 2.0),
        ("grinta.flow.errors", client, 1.0),
        ("grinta.connection.established.count", client, 1.0),
        ("grinta.connection.established.count", server, 0.0),
        ("grinta.connection.errors", client, 0.0),
        ("grinta.message.count", client, 4.0),
        ("grinta.message.count", server, 2.0),
        ("grinta.members", "state=alive,zone=b", 2.0),
        ("grinta.members", "state=down,zone=b", 0.0),
        ("grinta.names", "holder=self,zone=b", 0.0),
        ("grinta.names", "holder=any,zone=b", 1.0),
        ("grinta.connections", "stage=up,zone=b", 1.0),
        ("grinta.in_use.limit", "what=dials,zone=b", 4096.0),
        ("grinta.synced", "zone=b", 1.0),
        ("grinta.identity_conflict", "zone=b", 0.0),
    ]);
    for (name, labels) in [
        ("grinta.datagram.bytes", client),
        ("grinta.datagram.bytes", server),
        ("grinta.control.bytes", client),
        ("grinta.push_pull.bytes", server),
        ("grinta.certificate.expires_in.seconds", "zone=b"),
        ("grinta.connection.round_trip_time.seconds", "zone=b"),
    ] {
        assert!(seen.take(name, labels) > 0.0, "{name}");
    }

    let mut seen = Seen::of(&mut sides.server.metrics());
    let server = "perspective=server";
    seen.assert([
        ("grinta.stream.established.count", server, 2.0),
        ("grinta.flow.established.count", server, 2.0),
        ("grinta.connection.established.count", server, 1.0),
        ("grinta.message.count", server, 4.0),
        ("grinta.message.count", "perspective=client", 2.0),
        ("grinta.names", "holder=self", 1.0),
    ]);
}

/// Three messages and one back, a request and its answer, and a dial to nobody.
async fn talk(sides: &Sides) {
    let (mut client, mut server) = sides.bidi::<String, String, _>(Raw).await;
    for _ in 0..3 {
        client.send("message".to_owned()).await.unwrap();
        server.recv().await.unwrap().unwrap();
    }
    server.send("answer".to_owned()).await.unwrap();
    client.recv().await.unwrap().unwrap();
    let unknown = sides.client.dial("nobody").sender::<String, _>(Raw);
    unknown.await.unwrap_err();
    // A reader tells of what it took when it looks for more, or is dropped.
    drop((client, server));
    let ask = async {
        let asked = sides
            .dial()
            .request::<_, String, _>(Raw, "question".to_owned());
        asked.await.unwrap().recv().await.unwrap().unwrap();
    };
    let answer = async {
        let incoming = sides.endpoint.accept().await.unwrap();
        let mut flow = incoming.bidi::<String, String, _>(Raw).unwrap();
        let question = flow.recv().await.unwrap().unwrap();
        flow.send(question).await.unwrap();
    };
    zip(ask, answer).await;
}

async fn counters_are_handed_on_as_what_was_added(world: &World) {
    let sides = world.sides().await;
    let (recorder, snapshotter) = recorder();
    let mut metrics = sides.client.metrics();
    let flows = "grinta.flow.established.count";
    for _ in 0..2 {
        sides.uni::<String, _>(Raw).await;
        with_local_recorder(&recorder, || metrics.publish());
        let mut seen = Seen::at(&snapshotter);
        // What the recorder has is what came since it was last asked.
        assert_eq!(seen.take(flows, "perspective=client"), 1.0);
    }
    with_local_recorder(&recorder, || metrics.publish());
    assert_eq!(
        Seen::at(&snapshotter).take(flows, "perspective=client"),
        0.0
    );
}

async fn publishing_goes_on_until_the_fabric_is_closed(world: &World) {
    let sides = world.sides().await;
    let publishing = world.spawn(sides.client.metrics().run(Duration::from_millis(1)));
    // The metrics do not keep the fabric: its last handle closes it.
    drop(sides.client);
    publishing.await;
}

/// What a recorder has seen, by name and labels; of a histogram the largest value.
#[derive(Debug)]
struct Seen(BTreeMap<String, f64>);

impl Seen {
    fn of(metrics: &mut Metrics) -> Self {
        let (recorder, snapshotter) = recorder();
        with_local_recorder(&recorder, || metrics.publish());
        Self::at(&snapshotter)
    }

    fn at(snapshotter: &Snapshotter) -> Self {
        let entries = snapshotter.snapshot().into_vec().into_iter();
        let entries = entries.map(|(key, unit, description, value)| {
            let (_, key) = key.into_parts();
            assert!(
                unit.is_some() && description.is_some(),
                "{key} is not described"
            );
            let labels = key.labels();
            let labels: Vec<_> = labels
                .map(|label| format!("{}={}", label.key(), label.value()))
                .collect();
            let value = match value {
                DebugValue::Counter(count) => count as f64,
                DebugValue::Gauge(value) => value.0,
                DebugValue::Histogram(values) => {
                    values.iter().map(|value| value.0).fold(0.0, f64::max)
                }
            };
            (format!("{} {}", key.name(), labels.join(",")), value)
        });
        Self(entries.collect())
    }

    #[track_caller]
    fn assert<const N: usize>(&mut self, expected: [(&str, &str, f64); N]) {
        for (name, labels, value) in expected {
            assert_eq!(self.take(name, labels), value, "{name} {labels}");
        }
    }

    #[track_caller]
    fn take(&mut self, name: &str, labels: &str) -> f64 {
        let found = self.0.remove(&format!("{name} {labels}"));
        found.unwrap_or_else(|| panic!("no {name} {labels} in {self:?}"))
    }
}

fn recorder() -> (DebuggingRecorder, Snapshotter) {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    (recorder, snapshotter)
}
