//! Many messages, many bytes, many flows.
//!
//! The sizes of a normal run are small. The full ones, with their figures, one story at a time:
//!
//! ```sh
//! GRINTA_SCALE=full cargo test --release -p grinta-tests --test it scale:: -- --test-threads=1 --nocapture
//! ```

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_lite::future::zip;
use grinta_proto::{Endpoint, Fabric, Flow, Raw};

use super::{Place, Runtime, Sides, World};

macro_rules! scale_stories {
    ($($story:ident,)+) => {$(
        mod $story {
            use super::{LIMIT, Place, Runtime};

            #[test]
            fn same_node() {
                Runtime::TokioMultiThread
                    .run_within(LIMIT, Place::SameNode, |world| Box::pin(super::$story(world)));
            }

            #[test]
            fn other_node_on_tokio() {
                Runtime::TokioMultiThread
                    .run_within(LIMIT, Place::OtherNode, |world| Box::pin(super::$story(world)));
            }

            #[test]
            fn other_node_on_smol() {
                Runtime::SmolGlobal
                    .run_within(LIMIT, Place::OtherNode, |world| Box::pin(super::$story(world)));
            }
        }
    )+};
}

scale_stories! {
    a_million_messages,
    a_gigabyte,
    ten_thousand_flows_at_once,
    a_million_flows_one_after_another,
}

async fn a_million_messages(world: &World) {
    let count = size(20_000, 1_000_000);
    let sides = world.sides().await;
    let (mut sender, mut receiver) = sides.uni::<Vec<u8>, _>(Raw).await;
    let begun = Instant::now();
    let send = world.spawn(async move {
        for number in 0..count {
            sender.send(number.to_be_bytes().to_vec()).await.unwrap();
        }
        sender.finish().await.unwrap();
    });
    let mut expected = 0_u64;
    while let Some(message) = receiver.recv().await.unwrap() {
        assert_eq!(message, expected.to_be_bytes());
        expected += 1;
    }
    assert_eq!(expected, count);
    send.await;
    report(world, &format!("{count} messages of 8 bytes"), begun, None);
}

async fn a_gigabyte(world: &World) {
    let count = size(512, 16 * 1024);
    let sides = world.sides().await;
    let (mut sender, mut receiver) = sides.uni::<Bytes, _>(Raw).await;
    let begun = Instant::now();
    let send = world.spawn(async move {
        for number in 0..count {
            let message = vec![number as u8; CHUNK];
            sender.send(Bytes::from(message)).await.unwrap();
        }
        sender.finish().await.unwrap();
    });
    let mut expected = 0;
    while let Some(message) = receiver.recv().await.unwrap() {
        assert_eq!(message.len(), CHUNK);
        assert!(message.iter().all(|byte| *byte == expected as u8));
        expected += 1;
    }
    assert_eq!(expected, count);
    send.await;
    let what = format!("{} MiB", count as usize * CHUNK / (1024 * 1024));
    report(world, &what, begun, None);
}

async fn ten_thousand_flows_at_once(world: &World) {
    let count = size(500, 10_000);
    let sides = wide_sides(world, count).await;
    // What opening a flow costs once is paid before.
    drop(open(&sides.client, &sides.endpoint).await);
    let (before, begun) = (resident(), Instant::now());
    let mut flows = Vec::with_capacity(count as usize);
    for _ in 0..count {
        flows.push(open(&sides.client, &sides.endpoint).await);
    }
    let grown = resident()
        .zip(before)
        .map(|(now, before)| now.saturating_sub(before));
    let each = grown.map(|grown| format!("{} bytes a flow, both sides", grown / count));
    report(world, &format!("{count} flows open at once"), begun, each);
    let begun = Instant::now();
    for (client, server) in &mut flows {
        client.send(Bytes::from_static(b"alive?")).await.unwrap();
        assert_eq!(server.recv().await.unwrap().unwrap(), "alive?");
        server.send(Bytes::from_static(b"alive")).await.unwrap();
        assert_eq!(client.recv().await.unwrap().unwrap(), "alive");
    }
    let grown = resident()
        .zip(before)
        .map(|(now, before)| now.saturating_sub(before));
    let each = grown.map(|grown| format!("{} bytes a flow, both sides", grown / count));
    report(world, "one message each way on all of them", begun, each);
}

async fn a_million_flows_one_after_another(world: &World) {
    let count = size(2_000, 1_000_000);
    let sides = wide_sides(world, 256).await;
    let mut begun = Instant::now();
    let mut settled = None;
    for number in 0..count {
        let (client, mut server) = open(&sides.client, &sides.endpoint).await;
        let (mut sender, _receiver) = client.split();
        sender.send(Bytes::from_static(b"once")).await.unwrap();
        drop(sender);
        assert_eq!(server.recv().await.unwrap().unwrap(), "once");
        assert_eq!(server.recv().await, Ok(None));
        // Caches, queues and the allocator have their size by then.
        if number == count / 10 {
            (settled, begun) = (resident(), Instant::now());
        }
    }
    let grown = settled
        .zip(resident())
        .map(|(before, now)| now.saturating_sub(before));
    let told = grown.map(|grown| format!("{} KiB more than after a tenth of them", grown / 1024));
    let what = format!("{} flows one after another", count - count / 10);
    report(world, &what, begun, told);
    if let Some(grown) = grown.filter(|_| is_full()) {
        assert!(grown < LEFT_BEHIND_MAX, "{grown} bytes are left behind");
    }
}

/// Sides that allow as many flows, and take no fright at a busy machine.
async fn wide_sides(world: &World, flows: u64) -> Sides {
    let flows = u32::try_from(flows).unwrap() + 16;
    let sides = world
        .sides_with(|builder| builder.configure(|config| config.limits.flows_per_peer_max = flows));
    sides.await
}

async fn open(client: &Fabric, endpoint: &Endpoint) -> (Flow<Bytes, Bytes>, Flow<Bytes, Bytes>) {
    let dial = async {
        let dial = client.dial("service").wait_for_name();
        dial.bidi::<Bytes, Bytes, _>(Raw).await.unwrap()
    };
    let accept = async {
        let incoming = endpoint.accept().await.unwrap();
        incoming.bidi::<Bytes, Bytes, _>(Raw).unwrap()
    };
    zip(dial, accept).await
}

/// How much of something there is in a normal run, or in a full one.
fn size(normal: u64, full: u64) -> u64 {
    if is_full() { full } else { normal }
}

fn is_full() -> bool {
    std::env::var_os("GRINTA_SCALE").is_some_and(|scale| scale == "full")
}

fn report(world: &World, what: &str, begun: Instant, more: Option<String>) {
    let place = match world.place {
        Place::SameNode => "on one node",
        Place::OtherNode => "between two nodes",
    };
    let (elapsed, more) = (begun.elapsed(), more.unwrap_or_default());
    eprintln!("{what} {place}: {elapsed:.2?} {more}");
}

/// The memory of this process that is in use, in bytes, where the system tells.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

const CHUNK: usize = 64 * 1024;
/// What a full run may take on a busy machine. A normal one takes seconds.
const LIMIT: Duration = Duration::from_secs(1800);
/// What the allocator may keep of what was freed.
const LEFT_BEHIND_MAX: u64 = 4 * 1024 * 1024;
