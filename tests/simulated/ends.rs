//! How flows end when the network is cut, a machine freezes, or a name goes to another node: the rows
//! of the crate's table of ends that take a simulated network.

use std::time::Duration;

use futures_lite::future::zip;
use grinta_proto::{
    AcceptError, Code, Config, Endpoint, Fabric, Flow, FlowLoss, Raw, ReceiveError, Receiver,
    SendCause,
};
use grinta_tests::Simulation;

use crate::join;

type Talk = Flow<Vec<u8>, Vec<u8>>;

#[test]
fn a_cut_longer_than_the_idle_time_out_is_the_same_at_all_ends() {
    let world = Simulation::new(1);
    let hosts = ["one", "two"].map(|name| world.host(name));
    world.block_on(async {
        let [one, two] = join(&hosts, |config| {
            config.membership.suspicion_multiplier = 1000
        })
        .await;
        let endpoint = one.endpoint("service").await.unwrap();
        let (mut ours, mut theirs) = open(&two, &endpoint).await;
        talk(&mut ours, &mut theirs).await;
        world.network().cut(&[hosts[0].id()], &[hosts[1].id()]);
        // Taken on, and never to arrive: no end is a clean one.
        ours.send(b"lost".to_vec()).await.unwrap();
        let (mut sender, receiver) = theirs.split();
        sender.send(b"lost".to_vec()).await.unwrap();
        let unfinished = sender.finish();
        let lost = FlowLoss::TimedOut;
        assert_eq!(unfinished.await, Err(SendCause::Lost(lost.clone())));
        receives_no_more(receiver, &lost).await;
        is_lost(ours, &lost).await;
    });
}

#[test]
fn a_frozen_machine_is_told_that_it_was_held_down() {
    let world = Simulation::new(2);
    let hosts = ["one", "two", "three"].map(|name| world.host(name));
    world.block_on(async {
        let patient = |config: &mut Config| {
            config.connection.idle_timeout = Duration::from_secs(600);
        };
        let [one, two, _three] = join(&hosts, patient).await;
        let endpoint = one.endpoint("service").await.unwrap();
        let (mut ours, mut theirs) = open(&two, &endpoint).await;
        talk(&mut ours, &mut theirs).await;
        hosts[0].pause();
        is_lost(ours, &FlowLoss::Down).await;
        hosts[0].resume();
        let held_down = FlowLoss::Closed {
            code: Code::Down,
            reason: "the fabric holds you down".to_owned(),
        };
        is_lost(theirs, &held_down).await;
    });
}

#[test]
fn a_name_that_is_lost_ends_no_flow() {
    let world = Simulation::new(3);
    let hosts = ["one", "two"].map(|name| world.host(name));
    world.block_on(async {
        let cut = world.network().cut(&[hosts[0].id()], &[hosts[1].id()]);
        let older = hosts[0].start(hosts[0].builder()).await.unwrap();
        older.join().await.unwrap();
        let _owner = older.endpoint("service").await.unwrap();
        world.sleep(Duration::from_secs(1)).await;
        let builder = hosts[1].builder().neighbour("one:7400");
        let younger = hosts[1].start(builder).await.unwrap();
        younger.join().await.unwrap_err();
        let endpoint = younger.endpoint("service").await.unwrap();
        let (mut ours, mut theirs) = open(&younger, &endpoint).await;
        talk(&mut ours, &mut theirs).await;
        world.network().mend(cut);
        let lost = endpoint.accept().await.unwrap_err();
        let AcceptError::NameLost { winner, .. } = lost else {
            panic!("not lost: {lost}");
        };
        assert_eq!(winner.as_str(), "one");
        talk(&mut ours, &mut theirs).await;
        let (sender, _receiver) = ours.split();
        sender.finish().await.unwrap();
        assert_eq!(theirs.recv().await, Ok(None));
    });
}

async fn open(client: &Fabric, endpoint: &Endpoint) -> (Talk, Talk) {
    let dial = async {
        let dial = client.dial("service").wait_for_name();
        dial.bidi::<Vec<u8>, Vec<u8>, _>(Raw).await.unwrap()
    };
    let accept = async {
        let incoming = endpoint.accept().await.unwrap();
        incoming.bidi::<Vec<u8>, Vec<u8>, _>(Raw).unwrap()
    };
    zip(dial, accept).await
}

/// One message each way.
async fn talk(ours: &mut Talk, theirs: &mut Talk) {
    ours.send(b"word".to_vec()).await.unwrap();
    assert_eq!(theirs.recv().await, Ok(Some(b"word".to_vec())));
    theirs.send(b"word".to_vec()).await.unwrap();
    assert_eq!(ours.recv().await, Ok(Some(b"word".to_vec())));
}

/// Both directions ended for this reason, as far as this end can see.
async fn is_lost(flow: Talk, loss: &FlowLoss) {
    let (mut sender, receiver) = flow.split();
    receives_no_more(receiver, loss).await;
    assert_eq!(sender.closed().await, SendCause::Lost(loss.clone()));
    let error = sender.send(b"in vain".to_vec()).await.unwrap_err();
    assert_eq!(error.cause, SendCause::Lost(loss.clone()));
    let unfinished = sender.finish().await;
    assert_eq!(unfinished, Err(SendCause::Lost(loss.clone())));
}

async fn receives_no_more(mut receiver: Receiver<Vec<u8>>, loss: &FlowLoss) {
    for _ in 0..2 {
        let received = receiver.recv().await;
        assert_eq!(received, Err(ReceiveError::Lost(loss.clone())));
    }
}
