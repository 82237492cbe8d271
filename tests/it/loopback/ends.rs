//! The table of ends, as the crate's documentation has it: what both ends of a flow see, for
//! everything that ends one without its program's doing. What programs do to end a flow is in
//! `ending`, and what takes a network that can be cut among the simulator's tests.

use std::future::IntoFuture;
use std::pin::pin;
use std::time::Duration;

use futures_lite::future::{poll_once, yield_now, zip};
use grinta_proto::{
    Builder, Code, DialCause, Fabric, Flow, FlowLoss, Raw, ReceiveError, RefusalReason, SendCause,
};

use super::{Lifeline, PATIENCE, Place, World};

flow_stories! {
    a_released_endpoint_ends_no_flow,
    a_closed_fabric_ends_flows_after_what_had_arrived,
}

node_stories! {
    a_node_that_is_silent_for_longer_than_the_idle_time_out,
    a_node_that_is_held_down_before_its_connection_idles_out,
    a_node_that_restarts_before_it_is_missed,
    a_node_that_leaves_ends_no_flow,
}

type Talk = Flow<Vec<u8>, Vec<u8>>;

async fn a_released_endpoint_ends_no_flow(world: &World) {
    let sides = world.sides().await;
    let (mut ours, mut theirs): (Talk, Talk) = sides.bidi(Raw).await;
    let waiting = sides.client.dial("service").sender::<String, _>(Raw);
    let mut waiting = pin!(waiting.into_future());
    assert!(poll_once(&mut waiting).await.is_none());
    let release = async {
        // The flow that waits is there.
        let server = &sides.server;
        while server.snapshot().endpoints[0].accept_queue.used == 0 {
            yield_now().await;
        }
        drop(sides.endpoint);
    };
    let (refused, ()) = zip(waiting, release).await;
    let error = refused.unwrap_err();
    let is_gone = |cause: &DialCause| {
        matches!(
            cause,
            DialCause::NotFound { .. }
                | DialCause::Refused {
                    reason: RefusalReason::NotFound,
                    ..
                }
        )
    };
    let causes = error.attempts.iter().map(|attempt| &attempt.cause);
    assert!(causes.chain([&error.cause]).all(is_gone), "{error:?}");
    talk(&mut ours, &mut theirs).await;
    ends_cleanly(ours, theirs).await;
}

async fn a_closed_fabric_ends_flows_after_what_had_arrived(world: &World) {
    let grace = |builder: Builder| builder.grace_period(Duration::from_millis(50));
    let sides = world.sides_with(grace).await;
    let (mut ours, mut theirs): (Talk, Talk) = sides.bidi(Raw).await;
    talk(&mut ours, &mut theirs).await;
    theirs.send(b"last words".to_vec()).await.unwrap();
    theirs.send(b"the very last".to_vec()).await.unwrap();
    assert_eq!(ours.recv().await, Ok(Some(b"last words".to_vec())));
    sides.client.shutdown().await;
    // It had arrived, or is lost with the flow.
    let last = ours.try_recv();
    if world.place == Place::SameNode || last.is_ok() {
        assert_eq!(last, Ok(Some(b"the very last".to_vec())));
    }
    is_lost(ours, &FlowLoss::ShuttingDown).await;
    let seen = match world.place {
        Place::SameNode => FlowLoss::ShuttingDown,
        Place::OtherNode => FlowLoss::Closed {
            code: Code::Left,
            reason: String::new(),
        },
    };
    is_lost(theirs, &seen).await;
}

async fn a_node_that_is_silent_for_longer_than_the_idle_time_out(world: &World) {
    let pair = Pair::start(world, |builder| {
        builder.configure(|config| config.membership.suspicion_multiplier = 1000)
    });
    let pair = pair.await;
    drop(pair.lifeline);
    is_lost(pair.ours, &FlowLoss::TimedOut).await;
}

async fn a_node_that_is_held_down_before_its_connection_idles_out(world: &World) {
    let pair = Pair::start(world, |builder| {
        builder.configure(|config| config.connection.idle_timeout = PATIENCE)
    });
    let pair = pair.await;
    drop(pair.lifeline);
    is_lost(pair.ours, &FlowLoss::Down).await;
}

async fn a_node_that_restarts_before_it_is_missed(world: &World) {
    let pair = Pair::start(world, |builder| {
        builder.configure(|config| {
            config.connection.idle_timeout = PATIENCE;
            config.membership.suspicion_multiplier = 1000;
        })
    });
    let pair = pair.await;
    drop(pair.lifeline);
    let _restarted = world.node_beside("server", &pair.client).await;
    is_lost(pair.ours, &FlowLoss::Restarted).await;
}

async fn a_node_that_leaves_ends_no_flow(world: &World) {
    let pair = Pair::start(world, |builder| builder.grace_period(PATIENCE));
    let mut pair = pair.await;
    pair.server.leave().await;
    talk(&mut pair.ours, &mut pair.theirs).await;
    ends_cleanly(pair.ours, pair.theirs).await;
}

/// Two nodes and a flow between them; the server can be killed.
struct Pair {
    client: Fabric,
    server: Fabric,
    lifeline: Lifeline,
    ours: Talk,
    theirs: Talk,
}

impl Pair {
    async fn start(world: &World, configure: impl Fn(Builder) -> Builder) -> Self {
        let server = configure(world.hasty_builder("server"));
        let (server, lifeline) = world.start_mortal(server).await;
        server.join().await.unwrap();
        let client = configure(world.hasty_builder("client"));
        let client = client.neighbour(server.address().to_string());
        let client = world.start(client).await.unwrap();
        client.join().await.unwrap();
        let endpoint = server.endpoint("service").await.unwrap();
        let dial = async {
            let dial = client.dial("service").wait_for_name();
            dial.bidi::<Vec<u8>, Vec<u8>, _>(Raw).await.unwrap()
        };
        let accept = async {
            let incoming = endpoint.accept().await.unwrap();
            incoming.bidi::<Vec<u8>, Vec<u8>, _>(Raw).unwrap()
        };
        let (mut ours, mut theirs) = zip(dial, accept).await;
        talk(&mut ours, &mut theirs).await;
        Self {
            client,
            server,
            lifeline,
            ours,
            theirs,
        }
    }
}

/// One message each way.
async fn talk(ours: &mut Talk, theirs: &mut Talk) {
    ours.send(b"word".to_vec()).await.unwrap();
    assert_eq!(theirs.recv().await, Ok(Some(b"word".to_vec())));
    theirs.send(b"word".to_vec()).await.unwrap();
    assert_eq!(ours.recv().await, Ok(Some(b"word".to_vec())));
}

/// Both directions finish, and both ends know it.
async fn ends_cleanly(ours: Talk, theirs: Talk) {
    for (from, to) in [
        (ours.sender, theirs.receiver),
        (theirs.sender, ours.receiver),
    ] {
        let (mut from, mut to) = (from, to);
        from.send(b"last word".to_vec()).await.unwrap();
        from.finish().await.unwrap();
        assert_eq!(to.recv().await, Ok(Some(b"last word".to_vec())));
        assert_eq!(to.recv().await, Ok(None));
    }
}

/// Both directions of a flow ended for this reason, as far as this end can see, and say so for ever.
async fn is_lost(mut flow: Talk, loss: &FlowLoss) {
    let (received, sent) = (
        Err(ReceiveError::Lost(loss.clone())),
        SendCause::Lost(loss.clone()),
    );
    assert_eq!(flow.recv().await, received);
    assert_eq!(flow.recv().await, received);
    assert_eq!(flow.try_recv(), received);
    assert_eq!(flow.closed().await, sent);
    assert!(flow.is_closed());
    let error = flow.send(b"in vain".to_vec()).await.unwrap_err();
    assert_eq!(error.cause, sent);
    assert_eq!(error.into_message(), b"in vain");
    assert_eq!(flow.sender.finish().await, Err(sent));
}
