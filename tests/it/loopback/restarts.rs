//! Nodes that die in the middle of something, and come back elsewhere.

use bytes::Bytes;
use futures_lite::future::zip;
use grinta_proto::{Dial, Endpoint, Fabric, Raw, ReceiveError, Receiver, Sender};

use super::{Lifeline, World};

node_stories! {
    a_node_killed_in_mid_message_delivers_no_part_of_it,
    a_server_killed_and_restarted_on_another_port_is_reached_by_the_next_dial,
    a_server_that_left_and_restarted_on_another_port_is_reached_by_the_next_dial,
    a_server_restarted_beside_a_third_node_is_reached_by_the_next_dial,
}

async fn a_node_killed_in_mid_message_delivers_no_part_of_it(world: &World) {
    let (server, lifeline) = world.start_mortal(world.hasty_builder("server")).await;
    server.join().await.unwrap();
    let client = world.hasty_builder("client");
    let client = client.neighbour(server.address().to_string());
    let client = world.start(client).await.unwrap();
    client.join().await.unwrap();
    let endpoint = server.endpoint("service").await.unwrap();
    let dial = async {
        let dial = client.dial("service").wait_for_name();
        dial.receiver::<Bytes, _>(Raw).await.unwrap()
    };
    let accept = async {
        let incoming = endpoint.accept().await.unwrap();
        incoming.sender::<Bytes, _>(Raw).unwrap()
    };
    let (mut receiver, mut sender): (Receiver<Bytes>, Sender<Bytes>) = zip(dial, accept).await;
    let whole = Bytes::from_static(b"whole");
    sender.send(whole.clone()).await.unwrap();
    // More than the window of a flow that is not read: it is accepted, and cannot all arrive.
    sender.send(Bytes::from(vec![7; 8 << 20])).await.unwrap();
    assert_eq!(receiver.recv().await, Ok(Some(whole)));
    drop(lifeline);
    let lost = receiver.recv().await.unwrap_err();
    assert!(matches!(lost, ReceiveError::Lost(_)), "{lost:?}");
    let finished = sender.finish().await;
    assert!(finished.is_err(), "its sender is told, too");
}

async fn a_server_killed_and_restarted_on_another_port_is_reached_by_the_next_dial(world: &World) {
    let client = world.node("client").await;
    let (first, first_endpoint, lifeline) = serve(world, &client).await;
    is_reached(client.dial("service").wait_for_name(), &first_endpoint).await;
    drop(lifeline);
    let (second, endpoint, _lifeline) = serve(world, &client).await;
    assert_ne!(first.address(), second.address());
    is_reached(client.dial("service"), &endpoint).await;
}

async fn a_server_that_left_and_restarted_on_another_port_is_reached_by_the_next_dial(
    world: &World,
) {
    let client = world.node("client").await;
    let (first, first_endpoint, _lifeline) = serve(world, &client).await;
    is_reached(client.dial("service").wait_for_name(), &first_endpoint).await;
    first.shutdown().await;
    let (_second, endpoint, _lifeline) = serve(world, &client).await;
    is_reached(client.dial("service"), &endpoint).await;
}

/// All that the client has is a connection at whose other end nobody is, until gossip tells it.
async fn a_server_restarted_beside_a_third_node_is_reached_by_the_next_dial(world: &World) {
    let client = world.node("client").await;
    let third = world.node_beside("third", &client).await;
    let (_first, first_endpoint, lifeline) = serve(world, &third).await;
    is_reached(client.dial("service").wait_for_name(), &first_endpoint).await;
    drop(lifeline);
    let (_second, endpoint, _lifeline) = serve(world, &third).await;
    is_reached(client.dial("service"), &endpoint).await;
}

/// Starts a server on a port of the system's choice.
async fn serve(world: &World, neighbour: &Fabric) -> (Fabric, Endpoint, Lifeline) {
    let builder = world.builder("server");
    let builder = builder.neighbour(neighbour.address().to_string());
    let (server, lifeline) = world.start_mortal(builder).await;
    server.join().await.unwrap();
    let endpoint = server.endpoint("service").await.unwrap();
    (server, endpoint, lifeline)
}

/// One dial, and it has to do.
async fn is_reached(dial: Dial, endpoint: &Endpoint) {
    let dial = async {
        let mut sender = dial.sender::<String, _>(Raw).await.unwrap();
        sender.send("first try".to_owned()).await.unwrap();
        sender.finish().await.unwrap();
    };
    let accept = async {
        let incoming = endpoint.accept().await.unwrap();
        let mut receiver = incoming.receiver::<String, _>(Raw).unwrap();
        assert_eq!(receiver.recv().await.unwrap().unwrap(), "first try");
        assert_eq!(receiver.recv().await, Ok(None));
    };
    zip(dial, accept).await;
}
