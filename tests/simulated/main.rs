//! Tests of the simulator, and of what only it can show.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected fails")]

mod applications;
mod attacks;
mod command_line;
mod determinism;
mod ends;
mod names;
mod pictures;
mod scenarios;
mod single_losses;
mod timers;
mod tripwire;

use grinta_proto::{Config, Fabric};
use grinta_tests::Host;

/// Starts a node on each host; they join through the first.
async fn join<const N: usize>(
    hosts: &[Host; N],
    configure: impl Fn(&mut Config) + Copy,
) -> [Fabric; N] {
    let mut fabrics = Vec::new();
    for host in hosts {
        let builder = host.builder().test().configure(configure);
        let builder = match fabrics.is_empty() {
            true => builder,
            false => builder.neighbour(format!("{}:7400", hosts[0].name())),
        };
        let fabric = host.start(builder).await.unwrap();
        fabric.join().await.unwrap();
        fabrics.push(fabric);
    }
    fabrics.try_into().unwrap()
}
