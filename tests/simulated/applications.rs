//! The examples' own application code, from the very files that the examples are built of.

use clap::Parser;
use grinta_tests::{Options, Policy, Simulation};

#[path = "../../grinta-tokio/examples/hello-world/app.rs"]
#[expect(clippy::print_stdout, reason = "a program for people to watch")]
#[expect(
    dead_code,
    reason = "a simulation needs no credentials from files and no exit code"
)]
mod hello_world;

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

fn arguments(roles: &[&str]) -> Arguments {
    Arguments::parse_from([&["hello-world"], roles].concat())
}
