//! One seed, one history: within a process, in another one, whatever the order of tasks.

use std::env;
use std::process::Command;
use std::time::Duration;

use grinta_proto::{AcceptError, Endpoint, Fabric, Raw};
use grinta_tests::{Hash, Host, Options, Policy, Simulation};

const POLICIES: [Policy; 4] = [Policy::Fifo, Policy::Lifo, Policy::Random, Policy::Starve];

#[test]
fn a_seed_gives_one_history() {
    for (seed, policy) in (1..).zip(POLICIES) {
        assert_eq!(busy_minute(seed, policy), busy_minute(seed, policy));
    }
}

#[test]
fn two_seeds_or_policies_give_two_histories() {
    let history = busy_minute(1, Policy::Fifo);
    assert_ne!(history, busy_minute(2, Policy::Fifo));
    assert_ne!(history, busy_minute(1, Policy::Lifo));
}

#[test]
fn another_process_sees_the_same_history() {
    let ours = busy_minute(SEED, Policy::Random).to_string();
    let name = "determinism::tells_its_history";
    let other = Command::new(env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&other.stdout);
    let theirs = told.lines().find_map(|line| line.strip_prefix(TOLD));
    assert_eq!(theirs, Some(&*ours), "{told}");
}

/// Run by itself this tells another process what it saw.
#[test]
fn tells_its_history() {
    println!("\n{TOLD}{}", busy_minute(SEED, Policy::Random));
}

#[test]
fn a_crash_says_no_goodbye_and_a_restart_comes_back() {
    let world = Simulation::new(3);
    let (one, two) = (world.host("one"), world.host("two"));
    one.run(keep_echoing);
    world.block_on(async {
        let client = beside(&two, "one").await;
        assert_eq!(ask(&client, "before").await, "before");
        one.crash();
        let mut flow = client.dial("echo").sender::<String, _>(Raw);
        flow = flow.deadline(Duration::from_secs(60));
        assert!(flow.await.is_err(), "nobody is there");
        one.restart();
        assert_eq!(ask(&client, "after").await, "after");
    });
}

#[test]
fn a_paused_host_finds_in_its_socket_what_came() {
    let world = Simulation::new(4);
    let (one, two) = (world.host("one"), world.host("two"));
    one.run(keep_echoing);
    world.block_on(async {
        let client = beside(&two, "one").await;
        assert_eq!(ask(&client, "before").await, "before");
        one.pause();
        let asked = world.now();
        let answer = async {
            world.sleep(Duration::from_secs(2)).await;
            one.resume();
        };
        let ask = ask(&client, "meanwhile");
        let (answer, ()) = futures_lite::future::zip(ask, answer).await;
        assert_eq!(answer, "meanwhile");
        assert!(world.now() - asked >= Duration::from_secs(2));
    });
}

/// A minute of three nodes that talk over a bad network, while one of them crashes and comes back.
fn busy_minute(seed: u64, policy: Policy) -> Hash {
    let world = Simulation::with(Options {
        seed,
        policy,
        spurious_wakes: 10_000,
        ..Options::default()
    });
    world.network().change_all(|link| {
        link.jitter = Duration::from_millis(5);
        link.loss = 20_000;
        link.duplication = 10_000;
        link.reordering = 10_000;
    });
    let hosts = ["one", "two", "three"].map(|name| world.host(name));
    hosts[0].run(keep_echoing);
    hosts[2].run(|host| async move {
        let client = beside(&host, "one").await;
        loop {
            let words = format!("at {:?}", host.unix_time());
            client
                .timeout(Duration::from_secs(5), ask(&client, &words))
                .await
                .ok();
            client.sleep(Duration::from_millis(300)).await;
        }
    });
    world.block_on(async {
        let client = beside(&hosts[1], "one").await;
        for round in 0..10 {
            let words = "x".repeat(round * 10_000);
            assert_eq!(ask(&client, &words).await, words);
            world.note(&format!(
                "round {round} has {} members",
                client.members().len()
            ));
            match round {
                3 => hosts[2].crash(),
                6 => hosts[2].restart(),
                _ => world.sleep(Duration::from_secs(4)).await,
            }
        }
    });
    world.hash()
}

/// Echoes whatever flows bring, for ever.
async fn keep_echoing(host: Host) {
    let fabric = host.start(host.builder()).await.unwrap();
    fabric.join().await.unwrap();
    let endpoint = fabric.endpoint("echo").await.unwrap();
    while echo(&endpoint).await != Err(AcceptError::Closed) {}
}

async fn echo(endpoint: &Endpoint) -> Result<(), AcceptError> {
    let mut flow = endpoint.accept().await?.bidi::<String, String, _>(Raw)?;
    while let Ok(Some(words)) = flow.recv().await {
        if flow.send(words).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// A node of this host that has joined that of another.
async fn beside(host: &Host, other: &str) -> Fabric {
    let builder = host.builder().neighbour(format!("{other}:7400"));
    let fabric = host.start(builder).await.unwrap();
    while fabric.join().await.is_err() {}
    fabric
}

/// Asks for an echo until there is one.
async fn ask(fabric: &Fabric, words: &str) -> String {
    loop {
        let dial = fabric.dial("echo").wait_for_name();
        let Ok(mut flow) = dial.bidi::<String, String, _>(Raw).await else {
            continue;
        };
        if flow.send(words.to_owned()).await.is_ok()
            && let Ok(Some(answer)) = flow.recv().await
        {
            return answer;
        }
    }
}

const SEED: u64 = 11;

/// What precedes the hash that a process tells another.
const TOLD: &str = "history ";
