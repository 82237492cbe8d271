//! Timers of the fabric's own clock, for programs that are to run in virtual time as they are.

use std::time::Duration;

use grinta_tests::Simulation;

use crate::join;

#[test]
fn an_interval_keeps_its_times_whoever_is_late_and_ends_with_the_fabric() {
    let world = Simulation::new(31);
    let hosts = ["one"].map(|name| world.host(name));
    world.block_on(async {
        let [fabric] = join(&hosts, |_| ()).await;
        let begun = world.now();
        let elapsed = || (world.now() - begun).as_secs();
        let mut interval = fabric.interval(Duration::from_secs(10));
        assert!(interval.tick().await);
        assert_eq!(elapsed(), 10);
        fabric.sleep(Duration::from_secs(25)).await;
        assert!(interval.tick().await, "what was missed is one tick");
        assert_eq!(elapsed(), 35);
        assert!(interval.tick().await);
        assert_eq!(elapsed(), 40);
        // A tick that nobody was given is the next one's.
        let given_up = fabric
            .timeout(Duration::from_secs(5), interval.tick())
            .await;
        assert!(given_up.is_err());
        assert!(interval.tick().await);
        assert_eq!(elapsed(), 50);
        fabric.shutdown().await;
        assert!(!interval.tick().await);
    });
}
