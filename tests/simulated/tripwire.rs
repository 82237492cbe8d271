//! A step that asks the system for time or randomness ends the process and says who did it.

use std::collections::HashMap;
use std::env;
use std::process::Command;
use std::time::Instant;

use grinta_tests::Simulation;

#[test]
fn a_step_that_reads_the_clock_is_caught() {
    let told = told_by_a_culprit("clock");
    assert!(
        told.contains("tripwire: a simulated step asks the system for the time"),
        "{told}"
    );
    assert!(told.contains("tripwire::culprit"), "no backtrace: {told}");
}

#[test]
fn a_step_that_draws_on_the_system_is_caught() {
    let told = told_by_a_culprit("entropy");
    assert!(
        told.contains("tripwire: a simulated step asks the system for randomness"),
        "{told}"
    );
    assert!(told.contains("tripwire::culprit"), "no backtrace: {told}");
}

/// Run by itself, and told so, this does what no step may.
#[test]
fn culprit() {
    let crime = env::var(CRIME).ok();
    Simulation::new(1).block_on(async {
        match crime.as_deref() {
            Some("clock") => assert!(Instant::now().elapsed().is_zero()),
            Some("entropy") => getrandom::fill(&mut [0; 8]).unwrap(),
            Some(_) | None => assert_eq!(HashMap::from([(1, 2)]).len(), 1),
        }
    });
}

/// What a process says that commits a crime, and dies of it.
fn told_by_a_culprit(crime: &str) -> String {
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "tripwire::culprit", "--nocapture"])
        .env(CRIME, crime)
        .output()
        .unwrap();
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const CRIME: &str = "GRINTA_CRIME";
