//! Starting nodes and joining them, with what can go wrong.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use futures_lite::future::{poll_once, zip};
use grinta_proto::{
    Config, ConnectError, Fabric, Io, JoinError, Neighbour, Raw, StartError, TlsFailure,
};

use super::test_io::TestIo;
use super::{Sides, World};

node_stories! {
    a_node_without_neighbours_is_the_first_of_its_fabric,
    a_join_reports_whom_it_reached,
    a_join_can_be_repeated,
    a_neighbour_that_does_not_resolve_is_an_error,
    a_node_of_another_fabric_is_refused,
    an_address_that_nobody_can_dial_is_an_error,
    names_that_are_none_are_errors_at_the_start,
    what_no_node_can_work_with_is_an_error_at_the_start,
}

system_stories! {
    a_dead_neighbour_of_two_is_in_the_report,
    a_join_without_an_answer_is_an_error,
    a_neighbour_that_is_the_node_itself_does_not_count,
    a_second_join_while_one_is_under_way,
    a_used_port_is_an_error,
    nodes_meet_over_ipv6,
    a_node_on_tokio_talks_with_one_on_smol,
    a_node_runs_on_a_socket_of_ones_own,
}

async fn a_node_without_neighbours_is_the_first_of_its_fabric(world: &World) {
    let node = world.start(world.builder("node")).await.unwrap();
    let report = node.join().await.unwrap();
    assert_eq!((report.reached, report.unreachable), (vec![], vec![]));
    assert_eq!(node.node().as_str(), "node");
    assert_eq!(node.address(), node.local_address());
    assert_ne!(node.address().port(), 0);
}

async fn a_join_reports_whom_it_reached(world: &World) {
    let first = world.node("first").await;
    let second = world.node_beside("second", &first).await;
    let hosts = [first.address().to_string(), second.address().to_string()];
    let [one, two] = hosts.clone();
    let builder = world.builder("third").neighbour(one).neighbour(two);
    let third = world.start(builder).await.unwrap();
    let mut reached = third.join().await.unwrap().reached;
    reached.sort_by(|a, b| a.1.cmp(&b.1));
    let names = ["first", "second"].map(|name| name.parse().unwrap());
    assert_eq!(reached, hosts.into_iter().zip(names).collect::<Vec<_>>());
}

async fn a_join_can_be_repeated(world: &World) {
    let first = world.node("first").await;
    let second = world.node_beside("second", &first).await;
    let reached = vec![(first.address().to_string(), "first".parse().unwrap())];
    assert_eq!(second.join().await.unwrap().reached, reached);
    assert_eq!(second.join().await.unwrap().reached, reached);
}

async fn a_dead_neighbour_of_two_is_in_the_report(world: &World) {
    let (_hole, dead) = black_hole();
    let alive = world.node("alive").await;
    let builder = world.hasty_builder("node");
    let builder = builder.neighbour(dead.to_string());
    let builder = builder.neighbour(alive.address().to_string());
    let node = world.start(builder).await.unwrap();
    let report = node.join().await.unwrap();
    let reached = (alive.address().to_string(), "alive".parse().unwrap());
    assert_eq!(report.reached, [reached]);
    assert_eq!(
        report.unreachable,
        [(dead.to_string(), ConnectError::NoAnswer)]
    );
}

async fn a_join_without_an_answer_is_an_error(world: &World) {
    let (_hole, dead) = black_hole();
    let builder = world.hasty_builder("node").neighbour(dead.to_string());
    let node = world.start(builder).await.unwrap();
    let unreachable = vec![(dead.to_string(), ConnectError::NoAnswer)];
    let error = node.join().await.unwrap_err();
    assert!(error.to_string().contains(&dead.to_string()), "{error}");
    assert_eq!(error, JoinError::NoneReachable { unreachable });
}

async fn a_neighbour_that_does_not_resolve_is_an_error(world: &World) {
    let builder = world.builder("node").neighbour("a host without a port");
    let node = world.start(builder).await.unwrap();
    let JoinError::NoneReachable { unreachable } = node.join().await.unwrap_err() else {
        panic!("not for that reason");
    };
    let [(host, ConnectError::Unresolved { .. })] = &unreachable[..] else {
        panic!("resolved: {unreachable:?}");
    };
    assert_eq!(host, "a host without a port");
}

async fn a_neighbour_that_is_the_node_itself_does_not_count(world: &World) {
    let io = TestIo::bind().unwrap();
    let host = "myself:1".to_owned();
    let addresses = Ok(vec![io.local_address()]);
    let neighbours = vec![Neighbour { host, addresses }];
    let assembled = world.builder("node").assemble(io, [1; 32], neighbours);
    let (node, driver) = assembled.unwrap();
    let _lifeline = world.drive(driver);
    let report = node.join().await.unwrap();
    assert_eq!((report.reached, report.unreachable), (vec![], vec![]));
}

async fn a_second_join_while_one_is_under_way(world: &World) {
    let (_hole, dead) = black_hole();
    let builder = world.hasty_builder("node").neighbour(dead.to_string());
    let node = world.start(builder).await.unwrap();
    assert!(poll_once(node.join()).await.is_none());
    assert_eq!(node.join().await, Err(JoinError::UnderWay));
}

async fn a_node_of_another_fabric_is_refused(world: &World) {
    let first = world.node("first").await;
    let builder = world.builder("second").fabric("elsewhere");
    let builder = builder.neighbour(first.address().to_string());
    let second = world.start(builder).await.unwrap();
    let JoinError::NoneReachable { unreachable } = second.join().await.unwrap_err() else {
        panic!("not for that reason");
    };
    let [(_, error)] = &unreachable[..] else {
        panic!("one neighbour: {unreachable:?}");
    };
    assert_eq!(*error, ConnectError::Tls(TlsFailure::NoCommonProtocol));
    assert!(error.to_string().contains("one fabric"), "{error}");
    assert_eq!(first.members().len(), 1);
}

async fn a_used_port_is_an_error(world: &World) {
    let (_hole, used) = black_hole();
    let error = world.start(world.builder("node").listen(used)).await;
    let Err(StartError::Bind { address, reason }) = error else {
        panic!("bound twice: {error:?}");
    };
    assert_eq!(address, used);
    assert!(reason.contains("port 0"), "{reason}");
}

async fn an_address_that_nobody_can_dial_is_an_error(world: &World) {
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let error = world.start(world.builder("node").listen(any)).await;
    let Err(StartError::NotDialable { address }) = error else {
        panic!("started: {error:?}");
    };
    assert_eq!(address.ip(), any.ip());
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let error = world.start(world.builder("node").advertise(address)).await;
    assert_eq!(error.unwrap_err(), StartError::NotDialable { address });

    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 7));
    let builder = world.builder("node").listen(any).advertise(address);
    let node = world.start(builder).await.unwrap();
    assert_eq!(node.address(), address);
    assert_ne!(node.local_address().port(), 0);
}

async fn what_no_node_can_work_with_is_an_error_at_the_start(world: &World) {
    let never = |config: &mut Config| config.membership.gossip_interval = Duration::ZERO;
    let error = world.start(world.builder("node").configure(never)).await;
    assert_eq!(
        error.unwrap_err().to_string(),
        "`gossip_interval` is 0ns; it must be 1ms to 86400s",
    );
    let wordy = world.builder("node").label("motto", "x".repeat(1000));
    assert_eq!(
        world.start(wordy).await.unwrap_err().to_string(),
        "the label \"motto\" has a value of 1000 bytes; the longest allowed is 512",
    );
}

async fn names_that_are_none_are_errors_at_the_start(world: &World) {
    let error = world.start(Fabric::builder("two words")).await;
    assert!(
        matches!(error, Err(StartError::InvalidName(_))),
        "{error:?}"
    );
    let error = world.start(world.builder("node").fabric("")).await;
    assert!(
        matches!(error, Err(StartError::InvalidName(_))),
        "{error:?}"
    );
    let error = world.start(Fabric::builder("node")).await;
    assert_eq!(error.unwrap_err(), StartError::NoCredentials);
}

async fn nodes_meet_over_ipv6(world: &World) {
    let any = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    let server = world
        .start(world.builder("server").listen(any))
        .await
        .unwrap();
    server.join().await.unwrap();
    assert_eq!(server.address().ip(), IpAddr::from(Ipv6Addr::LOCALHOST));
    let builder = world.builder("client").listen(any);
    let builder = builder.neighbour(server.address().to_string());
    let client = world.start(builder).await.unwrap();
    client.join().await.unwrap();
    let endpoint = server.endpoint("service").await.unwrap();
    talk(Sides {
        server,
        client,
        endpoint,
    })
    .await;
}

async fn a_node_on_tokio_talks_with_one_on_smol(world: &World) {
    let (server, _runtime) = world.start_on_tokio(world.builder("server")).await;
    server.join().await.unwrap();
    let builder = world
        .builder("client")
        .neighbour(server.address().to_string());
    let client = grinta_smol::Start::start(builder).await.unwrap();
    client.join().await.unwrap();
    let endpoint = server.endpoint("service").await.unwrap();
    talk(Sides {
        server,
        client,
        endpoint,
    })
    .await;
}

async fn a_node_runs_on_a_socket_of_ones_own(world: &World) {
    let io = TestIo::bind().unwrap();
    let assembled = world.builder("server").assemble(io, [1; 32], vec![]);
    let (server, driver) = assembled.unwrap();
    let _lifeline = world.drive(driver);
    server.join().await.unwrap();
    let client = world.node_beside("client", &server).await;
    let endpoint = server.endpoint("service").await.unwrap();
    talk(Sides {
        server,
        client,
        endpoint,
    })
    .await;
}

/// More than a flow holds, there and back.
async fn talk(sides: Sides) {
    let (client, server) = sides.bidi::<Vec<u8>, Vec<u8>, _>(Raw).await;
    let (mut client_sender, mut client_receiver) = client.split();
    let (mut server_sender, mut server_receiver) = server.split();
    let ask = async {
        for number in 0..100 {
            client_sender.send(vec![number; 50_000]).await.unwrap();
        }
        client_sender.finish().await.unwrap();
    };
    let echo = async {
        while let Some(message) = server_receiver.recv().await.unwrap() {
            server_sender.send(message).await.unwrap();
        }
        server_sender.finish().await.unwrap();
    };
    let check = async {
        for number in 0..100 {
            let message = client_receiver.recv().await.unwrap().unwrap();
            assert!(message == [number; 50_000], "not the same");
        }
        assert_eq!(client_receiver.recv().await, Ok(None));
    };
    zip(zip(ask, echo), check).await;
}

/// A socket that takes whatever comes and never answers, and its address.
fn black_hole() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}
