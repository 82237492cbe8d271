//! What a program is told of names while nodes are cut off, freeze and die, and which of several nodes
//! its dials come to: what takes a simulated network to see.

use std::time::Duration;

use futures_lite::future::{poll_once, zip};
use grinta_proto::{
    AcceptError, Choice, Endpoint, EndpointError, EndpointRefusal, Fabric, NodeName, Path, Raw,
    Resolution, Standing,
};
use grinta_tests::Simulation;

use crate::join;

#[test]
fn what_resolve_tells_of_a_name_from_its_first_moment_to_its_last() {
    let world = Simulation::new(11);
    let [one, two] = ["one", "two"].map(|name| world.host(name));
    world.block_on(async {
        let server = one.start(one.builder().test()).await.unwrap();
        server.join().await.unwrap();
        let endpoint = server.endpoint("service").await.unwrap();
        let cut = world.network().cut(&[one.id()], &[two.id()]);
        let builder = two.builder().test().neighbour("one:7400");
        let client = two.start(builder).await.unwrap();
        client.join().await.unwrap_err();
        let resolved = || client.resolve("service").unwrap();
        let is_remote = |expected: bool| matches!(resolved(), Resolution::Remote { suspect, .. } if suspect == expected);

        assert_eq!(resolved(), Resolution::NotSynced);
        world.network().mend(cut);
        until(&world, "the name is found", || is_remote(false)).await;
        assert_eq!(server.resolve("service").unwrap(), Resolution::Local);
        assert_eq!(client.resolve("another").unwrap(), Resolution::NotFound);

        let frozen = world.instant();
        one.pause();
        until(&world, "its owner is suspect", || is_remote(true)).await;
        let is_unreachable = || matches!(resolved(), Resolution::Unreachable { .. });
        until(&world, "its owner is down", is_unreachable).await;
        let Resolution::Unreachable { owner, since } = resolved() else {
            panic!("{:?}", resolved());
        };
        assert_eq!(owner, *server.node());
        assert!(frozen < since && since <= world.instant());

        one.resume();
        until(&world, "the name is back", || is_remote(false)).await;
        drop(endpoint);
        let is_nowhere = || resolved() == Resolution::NotFound;
        until(&world, "the name is given up", is_nowhere).await;
    });
}

#[test]
fn a_name_claimed_on_both_sides_of_a_cut_is_lost_once_and_won_back() {
    let world = Simulation::new(12);
    let hosts = ["one", "two"].map(|name| world.host(name));
    world.block_on(async {
        let cut = world.network().cut(&[hosts[0].id()], &[hosts[1].id()]);
        let older = hosts[0].start(hosts[0].builder().test()).await.unwrap();
        older.join().await.unwrap();
        let winner = older.endpoint("service").await.unwrap();
        world.sleep(Duration::from_secs(1)).await;
        let builder = hosts[1].builder().test().neighbour("one:7400");
        let younger = hosts[1].start(builder).await.unwrap();
        younger.join().await.unwrap_err();
        let loser = younger.endpoint("service").await.unwrap();
        let (path, incoming) = zip(dialled(&younger, Choice::Owner), taken(&loser)).await;
        assert_eq!((path, incoming), (Path::Local, Path::Local));

        world.network().mend(cut);
        let lost = AcceptError::NameLost {
            name: loser.name().clone(),
            winner: older.node().clone(),
        };
        assert_eq!(loser.accept().await.unwrap_err(), lost);
        let owner = older.node().clone();
        assert_eq!(loser.standing(), Standing::Standby { owner });
        let mut accept = Box::pin(taken(&loser));
        for _ in 0..60 {
            assert!(poll_once(&mut accept).await.is_none(), "it stands by");
            world.sleep(Duration::from_secs(1)).await;
        }
        let node = older.node().clone();
        let (path, _) = zip(dialled(&younger, Choice::Owner), taken(&winner)).await;
        assert_eq!(path, Path::Remote { node });

        drop(winner);
        let known = loser.standing();
        assert_eq!(loser.standing_changed(&known).await, Some(Standing::Owner));
        let (path, incoming) = zip(dialled(&younger, Choice::Owner), accept).await;
        assert_eq!((path, incoming), (Path::Local, Path::Local));
    });
}

#[test]
fn of_those_who_share_a_name_a_dial_comes_to_the_one_it_chooses() {
    let world = Simulation::new(13);
    let hosts = ["client", "far", "near"].map(|name| world.host(name));
    let [client, far, near] = &hosts;
    for (from, to) in [(client, far), (far, client)] {
        let mut network = world.network();
        network.change(from.id(), to.id(), |link| {
            link.latency = Duration::from_millis(20);
        });
    }
    world.block_on(async {
        let fabrics = join(&hosts, |_| {}).await;
        for (host, fabric) in hosts.iter().zip(&fabrics).skip(1) {
            let endpoint = fabric.endpoint("service").shared().await.unwrap();
            host.spawn("serve", serve(endpoint));
        }
        let fabric = &fabrics[0];
        let count = || fabric.resolve_all("service").unwrap().len();
        until(&world, "both serve", || count() == 2).await;

        let mut turns = Vec::new();
        for _ in 0..4 {
            turns.push(node_of(dialled(fabric, Choice::RoundRobin).await));
        }
        let turns: Vec<_> = turns.iter().map(NodeName::as_str).collect();
        assert_eq!(turns, ["far", "near", "far", "near"]);
        let mut drawn = [0, 0];
        for _ in 0..40 {
            let node = node_of(dialled(fabric, Choice::Random).await);
            drawn[usize::from(node.as_str() == "near")] += 1;
        }
        assert!(drawn.iter().all(|&dials| dials >= 10), "{drawn:?}");
        for _ in 0..5 {
            assert_eq!(
                node_of(dialled(fabric, Choice::Nearest).await).as_str(),
                "near"
            );
            assert_eq!(
                node_of(dialled(fabric, Choice::Owner).await).as_str(),
                "far"
            );
        }
        near.crash();
        until(&world, "one serves", || count() == 1).await;
        assert_eq!(
            node_of(dialled(fabric, Choice::Nearest).await).as_str(),
            "far"
        );
    });
}

#[test]
fn a_node_at_its_limit_of_names_is_told_at_the_claim_and_until_it_gives_one_up() {
    let world = Simulation::new(14);
    let hosts = ["one", "two"].map(|name| world.host(name));
    world.block_on(async {
        let [one, two] = join(&hosts, |config| config.limits.names_per_node_max = 2).await;
        let first = one.endpoint("first").await.unwrap();
        let _second = one.endpoint("second").await.unwrap();
        let refused = one.endpoint("third").await.unwrap_err();
        let EndpointError::Refused { name, refusal } = &refused else {
            panic!("{refused}");
        };
        assert_eq!(name.as_str(), "third");
        assert!(matches!(refusal, EndpointRefusal::Claim(_)), "{refusal:?}");
        let told = "`names_per_node_max` is reached (2); release some names";
        assert!(refused.to_string().contains(told), "{refused}");
        // Each node has its own.
        two.endpoint("third").await.unwrap();
        drop(first);
        until(&world, "the name is free", || {
            two.resolve("third").unwrap() == Resolution::NotFound
        })
        .await;
        one.endpoint("fourth").await.unwrap();
    });
}

/// Dials the service, and tells where that led.
async fn dialled(fabric: &Fabric, choice: Choice) -> Path {
    let dial = fabric.dial("service").choose(choice);
    let sender = dial.sender::<Vec<u8>, _>(Raw).await.unwrap();
    sender.path().clone()
}

/// Takes one flow, and tells where it came from.
async fn taken(endpoint: &Endpoint) -> Path {
    let incoming = endpoint.accept().await.unwrap();
    let receiver = incoming.receiver::<Vec<u8>, _>(Raw).unwrap();
    receiver.path().clone()
}

async fn serve(endpoint: Endpoint) {
    loop {
        taken(&endpoint).await;
    }
}

fn node_of(path: Path) -> NodeName {
    match path {
        Path::Remote { node } => node,
        Path::Local => panic!("it was dialled here"),
    }
}

/// Looks ten times a second.
async fn until(world: &Simulation, what: &str, reached: impl Fn() -> bool) {
    for _ in 0..600 {
        if reached() {
            return;
        }
        world.sleep(Duration::from_millis(100)).await;
    }
    panic!("{what}: not within a minute");
}
