//! Endpoints that stand by, claims that are confirmed, and what the members say of a name.

use std::future::IntoFuture;
use std::time::Duration;

use futures_lite::future::{poll_once, zip};
use grinta_proto::{
    AcceptError, ClaimError, EndpointError, EndpointRefusal, Fabric, NodeName, QueryError, Raw,
    Standing,
};

use super::{PATIENCE, World};

node_stories! {
    a_standby_takes_over_from_an_endpoint_that_closes,
    a_standby_takes_over_from_a_node_that_dies,
    a_claim_that_members_confirm,
    a_claim_that_no_member_confirms_in_time,
    what_is_no_share_is_an_error_at_once,
    members_vote_on_a_name,
    a_query_that_nobody_answers,
}

async fn a_standby_takes_over_from_an_endpoint_that_closes(world: &World) {
    let sides = world.sides().await;
    sides.uni::<String, _>(Raw).await;
    let standby = sides.client.endpoint("service").standby().await.unwrap();
    let standing = standby.standing();
    let owner: NodeName = "server".parse().unwrap();
    assert_eq!(standing, Standing::Standby { owner });
    let mut accept = Box::pin(standby.accept());
    assert!(poll_once(&mut accept).await.is_none(), "it simply waits");
    assert!(
        poll_once(standby.standing_changed(&standing))
            .await
            .is_none()
    );
    drop(sides.endpoint);
    let changed = standby.standing_changed(&standing).await;
    assert_eq!(changed, Some(Standing::Owner));
    let dial = sides.server.dial("service").wait_for_name();
    let dial = async { dial.sender::<String, _>(Raw).await.unwrap() };
    let take = async { accept.await.unwrap().receiver::<String, _>(Raw).unwrap() };
    let (mut sender, mut receiver) = zip(dial, take).await;
    sender.send("taken over".to_owned()).await.unwrap();
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "taken over");
    drop((sender, receiver));
    sides.client.shutdown().await;
    assert_eq!(standby.standing_changed(&Standing::Owner).await, None);
    assert_eq!(standby.accept().await.unwrap_err(), AcceptError::Closed);
}

async fn a_standby_takes_over_from_a_node_that_dies(world: &World) {
    let (server, lifeline) = world.start_mortal(world.hasty_builder("server")).await;
    server.join().await.unwrap();
    let _endpoint = server.endpoint("service").await.unwrap();
    let client = world.hasty_builder("client");
    let client = client.neighbour(server.address().to_string());
    let client = world.start(client).await.unwrap();
    client.join().await.unwrap();
    let standby = client.endpoint("service").standby().await.unwrap();
    let standing = standby.standing();
    assert_ne!(standing, Standing::Owner);
    drop(lifeline);
    let changed = standby.standing_changed(&standing).await;
    assert_eq!(changed, Some(Standing::Owner));
}

async fn a_claim_that_members_confirm(world: &World) {
    let [a, b, c] = three(world).await;
    let opening = a.endpoint("service").confirmed(1.0);
    let endpoint = opening.confirm_timeout(PATIENCE).await.unwrap();
    assert_eq!(endpoint.standing(), Standing::Owner);
    for other in [&b, &c] {
        // Each has said so: no need to wait for the news.
        let error = other.endpoint("service").await.unwrap_err();
        let name = endpoint.name().clone();
        let owner = "a".parse().unwrap();
        let taken = ClaimError::Taken {
            name: name.clone(),
            owner,
        };
        let refusal = EndpointRefusal::Claim(taken);
        assert_eq!(error, EndpointError::Refused { name, refusal });
    }
}

async fn a_claim_that_no_member_confirms_in_time(world: &World) {
    let server = world.node("server").await;
    let deaf = world
        .builder("deaf")
        .neighbour(server.address().to_string());
    let (deaf, lifeline) = world.start_mortal(deaf).await;
    deaf.join().await.unwrap();
    drop(lifeline);
    deaf.closed().await;
    let opening = server.endpoint("service").confirmed(0.5);
    let error = opening.confirm_timeout(Duration::from_millis(50)).await;
    let refusal = EndpointRefusal::Unconfirmed {
        agreed: 0,
        members: 1,
        needed: 1,
    };
    let name: grinta_proto::EndpointName = "service".parse().unwrap();
    let refused = EndpointError::Refused { name, refusal };
    assert_eq!(error.unwrap_err(), refused);
    server.endpoint("service").await.unwrap();
}

async fn what_is_no_share_is_an_error_at_once(world: &World) {
    let server = world.node("server").await;
    let error = server.endpoint("service").confirmed(1.5).await.unwrap_err();
    assert!(matches!(error, EndpointError::InvalidShare(_)), "{error}");
    let error = server.query("service").vote(f64::NAN).await.unwrap_err();
    assert!(matches!(error, QueryError::InvalidShare(_)), "{error}");
    let error = server.query("two words").await.unwrap_err();
    assert!(matches!(error, QueryError::InvalidName(_)), "{error}");
}

async fn members_vote_on_a_name(world: &World) {
    let [a, b, c] = three(world).await;
    let _endpoint = a
        .endpoint("service")
        .confirmed(1.0)
        .confirm_timeout(PATIENCE)
        .await
        .unwrap();
    let report = b
        .query("service")
        .vote(1.0)
        .deadline(PATIENCE)
        .await
        .unwrap();
    let owner: NodeName = "a".parse().unwrap();
    assert_eq!(report.owner, Some(owner.clone()));
    assert_eq!(report.votes()[&owner], 2);
    assert!(report.silent.is_empty());
    let itself = c.query("service").nodes([c.node().clone()]);
    assert_eq!(itself.await.unwrap().owner, Some(owner));
    let nobody = c.query("none").first().deadline(PATIENCE).await.unwrap();
    assert_eq!((nobody.owner, nobody.answers.len()), (None, 2));
}

async fn a_query_that_nobody_answers(world: &World) {
    let server = world.node("server").await;
    let alone = server.query("service").await;
    assert_eq!(alone, Err(QueryError::NobodyAsked));
    let deaf = world
        .builder("deaf")
        .neighbour(server.address().to_string());
    let (deaf, lifeline) = world.start_mortal(deaf).await;
    deaf.join().await.unwrap();
    drop(lifeline);
    deaf.closed().await;
    let unanswered = server
        .query("service")
        .deadline(Duration::from_millis(50))
        .await;
    let too_few = QueryError::TooFew {
        asked: 1,
        answered: 0,
        needed: 1,
    };
    assert_eq!(unanswered, Err(too_few));
    // One that is given up leaves nothing behind.
    let asked = server.query("service").deadline(PATIENCE);
    let mut asked = asked.into_future();
    assert!(poll_once(&mut asked).await.is_none());
    drop(asked);
    let waits = server.query("service").deadline(PATIENCE);
    let (ended, _) = zip(waits.into_future(), server.shutdown()).await;
    assert_eq!(ended, Err(QueryError::ShuttingDown));
}

/// Three nodes that all know each other.
async fn three(world: &World) -> [Fabric; 3] {
    let a = world.node("a").await;
    let b = world.node_beside("b", &a).await;
    let c = world.node_beside("c", &a).await;
    for node in [&a, &b, &c] {
        let mut members = node.watch_members();
        while node.members().len() < 3 {
            members.next().await.unwrap();
        }
    }
    [a, b, c]
}
