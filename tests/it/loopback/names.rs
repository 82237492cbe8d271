//! Names and endpoints: found, waited for, taken, refused, given back.

use std::future::IntoFuture;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_lite::future::{or, poll_once, zip};
use grinta_proto::{
    AcceptError, ClaimError, DialCause, DialError, DialStage, EndpointError, EndpointRefusal,
    Fabric, InvalidName, Member, Raw, Refusal, RefusalReason, Resolution, rules,
};

use super::{Place, World};

flow_stories! {
    a_name_that_nobody_holds_is_an_error_at_once,
    what_is_no_name_is_an_error_at_once,
    a_dial_waits_for_its_name,
    a_dial_has_a_deadline,
    a_deadline_while_the_name_is_awaited,
    a_full_accept_queue_refuses_as_busy,
    a_refusal_tells_its_reason,
    an_endpoint_admits_whom_it_wants,
    ready_made_rules_go_by_names_and_by_labels,
    a_dropped_incoming_flow_is_declined,
    an_incoming_flow_whose_dialler_has_gone,
    a_taken_name_tells_its_owner,
    a_dropped_endpoint_takes_no_flows_and_opens_again,
    flows_outlive_their_endpoint,
    flows_that_wait_at_a_dropped_endpoint_are_refused,
    a_dial_that_waits_for_a_name_outlives_its_endpoint,
    three_hundred_flows_at_once,
    an_endpoint_that_never_accepts_holds_up_no_other,
    two_tasks_accept_at_one_endpoint,
}

async fn a_name_that_nobody_holds_is_an_error_at_once(world: &World) {
    let sides = world.sides().await;
    // Once a flow stood, the client knows the names.
    sides.uni::<String, _>(Raw).await;
    let dial = sides.client.dial("servise").sender::<String, _>(Raw);
    let error = dial.await.unwrap_err();
    assert_eq!(error.endpoint, "servise");
    assert_eq!(error.stage, DialStage::Resolve);
    assert!(error.is_retryable());
    let near = vec!["service".parse().unwrap()];
    assert_eq!(error.cause, DialCause::NotFound { near });
    assert!(
        error.to_string().contains("did you mean service?"),
        "{error}"
    );
    assert_eq!(sides.client.resolve("servise"), Ok(Resolution::NotFound));
}

async fn what_is_no_name_is_an_error_at_once(world: &World) {
    let sides = world.sides().await;
    let dial = sides.client.dial("two words").sender::<String, _>(Raw);
    let error = dial.await.unwrap_err();
    let invalid = InvalidName::Character {
        name: "two words".to_owned(),
        character: ' ',
    };
    assert_eq!(error.cause, DialCause::InvalidName(invalid));
    assert!(!error.is_retryable());
    let error = sides.server.endpoint("").await.unwrap_err();
    assert_eq!(error, EndpointError::InvalidName(InvalidName::Empty));
}

async fn a_dial_waits_for_its_name(world: &World) {
    let sides = world.sides().await;
    let dial = sides.client.dial("later").wait_for_name();
    let mut dial = dial.sender::<String, _>(Raw).into_future();
    assert!(poll_once(&mut dial).await.is_none());
    let endpoint = sides.server.endpoint("later").await.unwrap();
    let accept = async {
        let incoming = endpoint.accept().await.unwrap();
        incoming.receiver::<String, _>(Raw).unwrap()
    };
    let (dialled, _receiver) = zip(dial, accept).await;
    assert_eq!(*dialled.unwrap().path(), world.path_to("server"));
}

async fn a_dial_has_a_deadline(world: &World) {
    let sides = world.sides().await;
    // On a busy machine a short deadline may pass before the endpoint is asked.
    for millis in [50, 400, 3200, 25_600] {
        let limit = Duration::from_millis(millis);
        let dial = sides.dial().deadline(limit).sender::<String, _>(Raw);
        let error = dial.await.unwrap_err();
        assert!(error.is_retryable());
        assert!(error.elapsed >= limit, "too early: {error:?}");
        if error.stage == DialStage::Accept {
            assert_eq!(error.cause, DialCause::TimedOut { limit });
            return;
        }
    }
    panic!("no dial came as far as the endpoint");
}

async fn a_deadline_while_the_name_is_awaited(world: &World) {
    let sides = world.sides().await;
    sides.uni::<String, _>(Raw).await;
    let limit = Duration::from_millis(50);
    let dial = sides.client.dial("never").wait_for_name().deadline(limit);
    let error = dial.sender::<String, _>(Raw).await.unwrap_err();
    assert_eq!(error.stage, DialStage::Resolve);
    assert_eq!(error.cause, DialCause::NotFound { near: vec![] });
    assert!(error.elapsed >= limit, "{:?}", error.elapsed);
}

async fn a_full_accept_queue_refuses_as_busy(world: &World) {
    let sides = world.sides().await;
    let opening = sides.server.endpoint("narrow").accept_queue(1);
    let endpoint = opening.await.unwrap();
    let (results, ended) = smol::channel::bounded(2);
    for _ in 0..2 {
        let (client, results) = (sides.client.clone(), results.clone());
        drop(world.spawn(async move {
            let dial = client.dial("narrow").wait_for_name();
            let dialled = dial.sender::<String, _>(Raw).await;
            results.send(dialled).await.unwrap();
        }));
    }
    // Nobody accepts, so the first to end is the one without a place in the queue.
    let error = ended.recv().await.unwrap().unwrap_err();
    assert_eq!(
        refusal(&error),
        (RefusalReason::Busy, "1 flows wait there already")
    );
    assert!(error.is_retryable());
    let incoming = endpoint.accept().await.unwrap();
    let _receiver = incoming.receiver::<String, _>(Raw).unwrap();
    ended.recv().await.unwrap().unwrap();
}

async fn a_refusal_tells_its_reason(world: &World) {
    let sides = world.sides().await;
    let dial = async { sides.dial().sender::<String, _>(Raw).await.unwrap_err() };
    let refuse = async {
        let incoming = sides.endpoint.accept().await.unwrap();
        incoming.refuse(Refusal::new(RefusalReason::NotAllowed, "members only").code(402));
    };
    let (error, ()) = zip(dial, refuse).await;
    assert_eq!(error.stage, DialStage::Accept);
    assert_eq!(refusal(&error), (RefusalReason::NotAllowed, "members only"));
    assert!(!error.is_retryable());
    let DialCause::Refused { code, .. } = error.cause else {
        panic!("not refused: {error:?}");
    };
    assert_eq!(code, Some(402));
    let told = error.to_string();
    assert!(told.contains("code 402: members only"), "{told}");
}

async fn an_endpoint_admits_whom_it_wants(world: &World) {
    let sides = world
        .sides_with(|builder| builder.label("team", "red"))
        .await;
    let client = sides.client.node().clone();
    labels_are_known(&sides.server, "team").await;
    let open = AtomicBool::new(false);
    let opening = sides.server.endpoint("club").admit(move |incoming| {
        assert_eq!(incoming.node(), client);
        assert_eq!(incoming.labels().get("team").unwrap(), "red");
        assert_eq!(incoming.endpoint().as_str(), "club");
        if open.swap(true, Ordering::Relaxed) {
            Ok(())
        } else {
            Err("it opens at nine".to_owned())
        }
    });
    let endpoint = opening.await.unwrap();
    let dial = || sides.client.dial("club").wait_for_name();
    let come = async {
        let error = dial().sender::<String, _>(Raw).await.unwrap_err();
        assert_eq!(
            refusal(&error),
            (RefusalReason::NotAllowed, "it opens at nine")
        );
        assert!(!error.is_retryable());
        dial().sender::<String, _>(Raw).await.unwrap()
    };
    // The one that is refused is not seen here.
    let accept = async {
        let incoming = endpoint.accept().await.unwrap();
        incoming.receiver::<String, _>(Raw).unwrap()
    };
    let (mut sender, mut receiver) = zip(come, accept).await;
    sender.send("evening".to_owned()).await.unwrap();
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "evening");
}

async fn ready_made_rules_go_by_names_and_by_labels(world: &World) {
    let sides = world
        .sides_with(|builder| builder.label("team", "red"))
        .await;
    labels_are_known(&sides.server, "team").await;
    let client = sides.client.node().as_str();
    let open = |name| sides.server.endpoint(name);
    let listed = open("listed").admit(rules::only_from([client]));
    let unlisted = open("unlisted").admit(rules::only_from(["somebody"]));
    let red = open("red").admit(rules::only_labelled("team", "red"));
    let blue = open("blue").admit(rules::only_labelled("team", "blue"));
    let ranked = open("ranked").admit(rules::only_labelled("rank", "1"));
    for opening in [listed, red] {
        let endpoint = opening.await.unwrap();
        let dial = sides.client.dial(endpoint.name()).wait_for_name();
        let dial = dial.sender::<String, _>(Raw).into_future();
        let accept = async {
            let incoming = endpoint.accept().await.unwrap();
            incoming.receiver::<String, _>(Raw).unwrap()
        };
        let (dialled, _receiver) = zip(dial, accept).await;
        dialled.unwrap();
    }
    let words = [
        format!("{client} is not on the list"),
        "the label team is red, not blue".to_owned(),
        "there is no label rank; it has to be 1".to_owned(),
    ];
    for (opening, words) in [unlisted, blue, ranked].into_iter().zip(words) {
        let endpoint = opening.await.unwrap();
        let dial = sides.client.dial(endpoint.name()).wait_for_name();
        let accept = async {
            endpoint.accept().await.unwrap();
            panic!("whoever is refused is not seen here");
        };
        let error = or(
            async { dial.sender::<String, _>(Raw).await.unwrap_err() },
            accept,
        )
        .await;
        assert_eq!(refusal(&error), (RefusalReason::NotAllowed, &*words));
    }
}

/// Waits until a node knows all members to have a label.
async fn labels_are_known(fabric: &Fabric, key: &str) {
    let mut watch = fabric.watch_members();
    let is_labelled = |member: &Member| member.labels.contains_key(key);
    while !fabric.members().iter().all(is_labelled) {
        watch.next().await.unwrap();
    }
}

async fn a_dropped_incoming_flow_is_declined(world: &World) {
    let sides = world.sides().await;
    let dial = async {
        sides
            .dial()
            .bidi::<String, String, _>(Raw)
            .await
            .unwrap_err()
    };
    let ignore = async { drop(sides.endpoint.accept().await.unwrap()) };
    let (error, ()) = zip(dial, ignore).await;
    assert_eq!(refusal(&error), (RefusalReason::Declined, ""));
    assert!(error.is_retryable());
}

async fn an_incoming_flow_whose_dialler_has_gone(world: &World) {
    let sides = world.sides().await;
    let mut dial = sides.dial().sender::<String, _>(Raw).into_future();
    let incoming = {
        let mut accept = std::pin::pin!(sides.endpoint.accept());
        or(async { Some(accept.as_mut().await.unwrap()) }, async {
            let _ = (&mut dial).await;
            None
        })
        .await
    };
    drop(dial);
    let incoming = incoming.expect("the dial waits for an answer");
    // Another node may not have heard of it yet; then the flow ends as it is read.
    match incoming.receiver::<String, _>(Raw) {
        Ok(mut receiver) => {
            assert_eq!(world.place, Place::OtherNode);
            receiver.recv().await.unwrap_err();
        }
        Err(error) => assert_eq!(error, AcceptError::Withdrawn),
    }
}

async fn a_taken_name_tells_its_owner(world: &World) {
    let sides = world.sides().await;
    // Once a flow stood, the client knows the name's owner.
    sides.uni::<String, _>(Raw).await;
    let error = sides.client.endpoint("service").await.unwrap_err();
    let name: grinta_proto::EndpointName = "service".parse().unwrap();
    let claim = match world.place {
        Place::SameNode => ClaimError::AlreadyHeld { name: name.clone() },
        Place::OtherNode => ClaimError::Taken {
            name: name.clone(),
            owner: "server".parse().unwrap(),
        },
    };
    let refusal = EndpointRefusal::Claim(claim);
    assert_eq!(error, EndpointError::Refused { name, refusal });
    zip(sides.say("still there"), sides.hear("still there")).await;
}

async fn a_dropped_endpoint_takes_no_flows_and_opens_again(world: &World) {
    let mut sides = world.sides().await;
    sides.uni::<String, _>(Raw).await;
    drop(sides.endpoint);
    let dial = sides.client.dial("service").sender::<String, _>(Raw);
    let error = dial.await.unwrap_err();
    let near = vec![];
    let refused = || refusal(&error).0 == RefusalReason::NotFound;
    assert!(
        error.cause == DialCause::NotFound { near } || refused(),
        "{error}"
    );

    sides.endpoint = sides.server.endpoint("service").await.unwrap();
    zip(sides.say("back again"), sides.hear("back again")).await;
}

async fn flows_outlive_their_endpoint(world: &World) {
    let sides = world.sides().await;
    let (mut client, mut server) = sides.bidi::<String, String, _>(Raw).await;
    drop(sides.endpoint);
    client.send("alive?".to_owned()).await.unwrap();
    assert_eq!(server.recv().await.unwrap().unwrap(), "alive?");
    server.send("alive".to_owned()).await.unwrap();
    assert_eq!(client.recv().await.unwrap().unwrap(), "alive");
}

async fn a_dial_that_waits_for_a_name_outlives_its_endpoint(world: &World) {
    let sides = world.sides().await;
    sides.uni::<String, _>(Raw).await;
    let dial = sides.client.dial("service").wait_for_name();
    let mut dial = dial.sender::<String, _>(Raw).into_future();
    assert!(poll_once(&mut dial).await.is_none());
    drop(sides.endpoint);
    let endpoint = sides.server.endpoint("service").await.unwrap();
    let accept = async {
        let incoming = endpoint.accept().await.unwrap();
        incoming.receiver::<String, _>(Raw).unwrap()
    };
    let (sender, mut receiver) = zip(dial, accept).await;
    sender.unwrap().send("patience".to_owned()).await.unwrap();
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "patience");
}

async fn flows_that_wait_at_a_dropped_endpoint_are_refused(world: &World) {
    let sides = world.sides().await;
    // Once a flow stood, the client knows the name, and need not wait for it.
    sides.uni::<String, _>(Raw).await;
    let dial = || sides.client.dial("service").sender::<String, _>(Raw);
    let dial = || dial().into_future();
    let drop_it = async {
        let incoming = sides.endpoint.accept().await.unwrap();
        drop(sides.endpoint);
        drop(incoming);
    };
    let (dialled, ()) = zip(zip(dial(), dial()), drop_it).await;
    for error in [dialled.0.unwrap_err(), dialled.1.unwrap_err()] {
        let is_expected = matches!(
            &error.cause,
            DialCause::NotFound { .. }
                | DialCause::Refused {
                    reason: RefusalReason::NotFound | RefusalReason::Declined,
                    ..
                }
        );
        assert!(is_expected, "{error:?}");
    }
}

async fn three_hundred_flows_at_once(world: &World) {
    let sides = world.sides().await;
    let opening = sides.server.endpoint("echo").accept_queue(FLOWS);
    let endpoint = opening.await.unwrap();
    drop(world.spawn(async move {
        while let Ok(incoming) = endpoint.accept().await {
            let mut flow = incoming.bidi::<String, String, _>(Raw).unwrap();
            let request = flow.recv().await.unwrap().unwrap();
            flow.send(format!("{request}!")).await.unwrap();
        }
    }));
    let asking: Vec<_> = (0..FLOWS)
        .map(|number| {
            let client = sides.client.clone();
            world.spawn(async move {
                let dial = client.dial("echo").wait_for_name();
                let mut flow = dial.bidi::<String, String, _>(Raw).await.unwrap();
                flow.send(number.to_string()).await.unwrap();
                let answer = flow.recv().await.unwrap().unwrap();
                assert_eq!(answer, format!("{number}!"));
                assert_eq!(flow.recv().await, Ok(None));
            })
        })
        .collect();
    for asked in asking {
        asked.await;
    }
    assert_eq!(sides.client.counters().flows_failed, 0);
}

async fn an_endpoint_that_never_accepts_holds_up_no_other(world: &World) {
    let sides = world.sides().await;
    let deaf = sides.server.endpoint("deaf").await.unwrap();
    let waiting: Vec<_> = (0..10)
        .map(|_| {
            let client = sides.client.clone();
            world.spawn(async move {
                let dial = client.dial("deaf").wait_for_name();
                dial.sender::<String, _>(Raw).await
            })
        })
        .collect();
    for number in 0..9 {
        let name = format!("keen-{number}");
        // Room for one, however many wait elsewhere.
        let opening = sides.server.endpoint(&name).accept_queue(1);
        let endpoint = opening.await.unwrap();
        let dial = sides.client.dial(&name).wait_for_name();
        let dial = dial.sender::<String, _>(Raw).into_future();
        let accept = async {
            let incoming = endpoint.accept().await.unwrap();
            incoming.receiver::<String, _>(Raw).unwrap()
        };
        let (sender, mut receiver) = zip(dial, accept).await;
        let (mut sender, message) = (sender.unwrap(), "x".repeat(100_000));
        let sent = async {
            for _ in 0..10 {
                sender.send(message.clone()).await.unwrap();
            }
            sender.finish().await.unwrap();
        };
        let received = async {
            let mut count = 0;
            while let Some(received) = receiver.recv().await.unwrap() {
                assert_eq!(received.len(), message.len());
                count += 1;
            }
            assert_eq!(count, 10);
        };
        zip(sent, received).await;
    }
    for _ in 0..10 {
        let incoming = deaf.accept().await.unwrap();
        incoming.refuse("at last".to_owned());
    }
    for dial in waiting {
        let error = dial.await.unwrap_err();
        assert_eq!(refusal(&error), (RefusalReason::NotAllowed, "at last"));
    }
}

async fn two_tasks_accept_at_one_endpoint(world: &World) {
    let sides = world.sides().await;
    let take = async || {
        let incoming = sides.endpoint.accept().await.unwrap();
        let mut receiver = incoming.receiver::<String, _>(Raw).unwrap();
        receiver.recv().await.unwrap().unwrap()
    };
    let says = zip(sides.say("one"), sides.say("two"));
    let ((first, second), _) = zip(zip(take(), take()), says).await;
    let mut heard = [first, second];
    heard.sort();
    assert_eq!(heard, ["one", "two"]);
}

/// The reason and the words with which the server refused.
fn refusal(error: &DialError) -> (RefusalReason, &str) {
    let DialCause::Refused {
        node,
        reason,
        detail,
        ..
    } = &error.cause
    else {
        panic!("not refused: {error:?}");
    };
    assert_eq!(node.as_str(), "server");
    (*reason, detail)
}

/// More than one peer may have open at once.
const FLOWS: usize = 300;
