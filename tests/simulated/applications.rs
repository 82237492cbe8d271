//! The examples' own application code, from the very files that the examples are built of.

use std::future::pending;
use std::rc::Rc;
use std::time::Duration;

use clap::Parser;
use futures_lite::future::zip;
use grinta_proto::Builder;
use grinta_tests::{Options, Policy, Simulation, System};

#[path = "../../grinta-tokio/examples/hello-world/app.rs"]
#[expect(clippy::print_stdout, reason = "a program for people to watch")]
#[expect(
    dead_code,
    reason = "a simulation needs no credentials from files and no exit code"
)]
mod hello_world;

#[path = "../../grinta-tokio/examples/flexible-topology/app.rs"]
#[expect(clippy::print_stdout, reason = "a program for people to watch")]
#[expect(
    dead_code,
    reason = "a simulation needs no credentials from files and no exit code"
)]
mod flexible_topology;

#[path = "../../grinta-tokio/examples/common/mod.rs"]
#[expect(dead_code, reason = "a simulation needs no exit code")]
mod common;

#[path = "../../grinta-tokio/examples/requests/app.rs"]
#[expect(clippy::print_stdout, reason = "a program for people to watch")]
mod requests;

#[path = "../../grinta-tokio/examples/workers/app.rs"]
#[expect(clippy::print_stdout, reason = "a program for people to watch")]
mod workers;

#[path = "../../grinta-tokio/examples/watch-names/app.rs"]
#[expect(clippy::print_stdout, reason = "a program for people to watch")]
mod watch_names;

#[path = "../../grinta-tokio/examples/custom-codec/app.rs"]
#[expect(clippy::print_stdout, reason = "a program for people to watch")]
mod custom_codec;

use hello_world::{Arguments, run};

#[test]
fn hello_world_on_two_hosts() {
    for (seed, policy) in [Policy::Fifo, Policy::Random, Policy::Starve]
        .into_iter()
        .enumerate()
    {
        let world = Simulation::with(Options {
            seed: seed as u64,
            policy,
            ..Options::default()
        });
        let (server, client) = (world.host("server"), world.host("client"));
        server.spawn("application", {
            let server = server.clone();
            async move {
                let fabric = server.start(server.builder()).await.unwrap();
                run(&fabric, &arguments(&["--server"])).await.unwrap();
                fabric.shutdown().await;
            }
        });
        world.block_on(async {
            let builder = client.builder().neighbour("server:7400");
            let fabric = client.start(builder).await.unwrap();
            run(&fabric, &arguments(&["--client"])).await.unwrap();
            fabric.shutdown().await;
        });
    }
}

#[test]
fn hello_world_on_one_host() {
    let world = Simulation::new(0);
    let node = world.host("node");
    world.block_on(async {
        let fabric = node.start(node.builder()).await.unwrap();
        run(&fabric, &arguments(&["--server", "--client"]))
            .await
            .unwrap();
        fabric.shutdown().await;
        assert_eq!(world.sockets(), 0);
    });
}

#[test]
fn flexible_topology_on_three_hosts() {
    let world = Simulation::with(Options {
        seed: 5,
        // Its executor draws on the system where to look for work first, and has one place only.
        system: System::Allowed,
        ..Options::default()
    });
    let world = Rc::new(world);
    let talk = async |name: &str, endpoints: &str| {
        let host = world.host(name);
        let builder = match name {
            "one" => host.builder(),
            _ => host.builder().neighbour("one:7400"),
        };
        let fabric = host.start(builder).await.unwrap();
        let words = ["flexible-topology", "--endpoints", endpoints, "--of", "9"];
        let arguments = [&words[..], &["--for", "20s"]].concat();
        let arguments = flexible_topology::Arguments::parse_from(arguments);
        let clock = Rc::clone(&world);
        let now = move || clock.instant();
        flexible_topology::run(&fabric, &arguments, now, pending())
            .await
            .unwrap();
        fabric.shutdown().await;
    };
    world.block_on(async {
        let others = zip(talk("two", "3..6"), talk("three", "6..9"));
        zip(talk("one", "0..3"), others).await;
    });
    assert!(world.now() >= Duration::from_secs(20));
    assert_eq!(world.sockets(), 0);
}

/// Makes a test of an example that starts its own nodes: it goes well whatever the seed, the order
/// of its tasks, and a network that loses one datagram in fifty.
macro_rules! goes_well {
    ($($application:ident,)+) => {$(
        #[test]
        fn $application() {
            for (seed, policy) in [Policy::Fifo, Policy::Random, Policy::Starve]
                .into_iter()
                .enumerate()
            {
                let world = Simulation::with(Options {
                    seed: seed as u64,
                    policy,
                    // Makes the certificates of its nodes as it goes.
                    system: System::Allowed,
                    ..Options::default()
                });
                world.network().change_all(|link| {
                    link.latency = Duration::from_millis(5);
                    link.loss = 20_000;
                });
                world.block_on(async {
                    let start = async |builder: Builder| world.new_host().start(builder).await;
                    $application::run(start).await.unwrap();
                });
                assert_eq!(world.sockets(), 0);
            }
        }
    )+};
}

goes_well! {
    requests,
    workers,
    watch_names,
    custom_codec,
}

fn arguments(roles: &[&str]) -> Arguments {
    Arguments::parse_from([&["hello-world"], roles].concat())
}
