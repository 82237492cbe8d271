//! Fan-out: calls and messages to all nodes that share a name.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use futures_lite::future::{poll_once, yield_now, zip};
use grinta_proto::{
    CallError, DialCause, DialStage, Endpoint, Fabric, FanOutError, Json, Outcome, Outcomes, Raw,
    RefusalReason, SendCause,
};

use super::{PATIENCE, World};

flow_stories! {
    a_name_that_is_not_shared_is_a_fan_out_to_one,
    a_fan_out_to_nobody_is_an_error,
    what_cannot_be_sent_is_not_sent,
}

node_stories! {
    a_call_goes_to_all_that_share_a_name_this_node_among_them,
    a_message_goes_to_all_that_share_a_name_this_node_among_them,
    what_fails_at_one_node_is_told_of_that_one,
    outcomes_come_as_they_are_and_the_rest_can_be_given_up,
    a_fan_out_goes_to_as_many_as_it_may_and_to_so_many_at_once,
    time_that_runs_out_is_told_of_each_node,
    outcomes_dropped_at_every_poll_are_not_lost,
}

timed_stories! {
    a_message_that_nobody_reads_is_not_known_to_have_arrived,
}

async fn a_name_that_is_not_shared_is_a_fan_out_to_one(world: &World) {
    let sides = world.sides().await;
    zip(sides.say("known"), sides.hear("known")).await;
    let call = async {
        let fan_out = sides.client.fan_out("service");
        let mut outcomes = fan_out.call::<u8, u8, _>(Json, 1).unwrap();
        assert_eq!(outcomes.left(), 1);
        let outcome = outcomes.next().await.unwrap();
        assert_eq!((outcome.node.as_str(), outcome.result), ("server", Ok(2)));
        assert_eq!(outcomes.left(), 0);
        assert_eq!(outcomes.next().await, None);
    };
    zip(call, answer(&sides.endpoint, |number| number + 1)).await;
}

async fn a_fan_out_to_nobody_is_an_error(world: &World) {
    let sides = world.sides().await;
    zip(sides.say("known"), sides.hear("known")).await;
    let fan_out = sides.client.fan_out("servce");
    let error = fan_out.send::<u8, _>(Json, 1).unwrap_err();
    assert_eq!(error.stage, DialStage::Resolve);
    assert!(
        error.to_string().contains("did you mean service?"),
        "{error}"
    );
    let error = sides.client.fan_out("").send::<u8, _>(Json, 1).unwrap_err();
    assert!(matches!(error.cause, DialCause::InvalidName(_)), "{error}");
    sides.client.shutdown().await;
    let fan_out = sides.client.fan_out("service");
    let error = fan_out.send::<u8, _>(Json, 1).unwrap_err();
    assert_eq!(error.cause, DialCause::ShuttingDown);
}

async fn what_cannot_be_sent_is_not_sent(world: &World) {
    let limit = |config: &mut grinta_proto::Config| config.limits.message_len_max = 100;
    let sides = world.sides_with(|builder| builder.configure(limit)).await;
    zip(sides.say("known"), sides.hear("known")).await;
    let send = async {
        let fan_out = sides.client.fan_out("service");
        let mut outcomes = fan_out.send::<Vec<u8>, _>(Raw, vec![0; 101]).unwrap();
        let error = outcomes.next().await.unwrap().result.unwrap_err();
        let (length, limit) = (101, 100);
        assert_eq!(
            error,
            FanOutError::Send(SendCause::TooLong { length, limit })
        );
        assert!(!error.may_have_run());
    };
    let accept = async {
        let incoming = sides.endpoint.accept().await.unwrap();
        let mut receiver = incoming.receiver::<Vec<u8>, _>(Raw).unwrap();
        assert_eq!(receiver.recv().await, Ok(None));
    };
    zip(send, accept).await;
}

async fn a_call_goes_to_all_that_share_a_name_this_node_among_them(world: &World) {
    let fabrics = three(world).await;
    let endpoints = share(&fabrics).await;
    let [first, second, third] = &endpoints;
    let servers = zip(
        answer(first, |number| number + 1),
        zip(
            answer(second, |number| number + 2),
            answer(third, |number| number + 3),
        ),
    );
    let call = async {
        let outcomes = fabrics[0].fan_out("shared").call::<u8, u8, _>(Json, 10);
        by_node(outcomes.unwrap()).await
    };
    let (answers, _) = zip(call, servers).await;
    let expected = [("one", Ok(11)), ("three", Ok(13)), ("two", Ok(12))];
    assert_eq!(
        answers,
        expected
            .map(|(node, answer)| (node.to_owned(), answer))
            .into()
    );
}

async fn a_message_goes_to_all_that_share_a_name_this_node_among_them(world: &World) {
    let fabrics = three(world).await;
    let endpoints = share(&fabrics).await;
    let hear = |endpoint: Endpoint| {
        world.spawn(async move {
            let incoming = endpoint.accept().await.unwrap();
            let mut receiver = incoming.receiver::<String, _>(Raw).unwrap();
            let message = receiver.recv().await.unwrap().unwrap();
            assert_eq!(receiver.recv().await, Ok(None));
            message
        })
    };
    let [first, second, third] = endpoints.map(hear);
    let fan_out = fabrics[0].fan_out("shared");
    let outcomes = fan_out.send::<String, _>(Raw, "to all".to_owned()).unwrap();
    let outcomes = by_node(outcomes).await;
    assert_eq!(outcomes.len(), 3);
    assert!(outcomes.values().all(Result::is_ok), "{outcomes:?}");
    for heard in [first.await, second.await, third.await] {
        assert_eq!(heard, "to all");
    }
}

async fn what_fails_at_one_node_is_told_of_that_one(world: &World) {
    let fabrics = three(world).await;
    let [first, second, third] = share(&fabrics).await;
    let answers = async {
        let incoming = first.accept().await.unwrap();
        let mut calls = incoming.calls::<u8, u8, _>(Json).unwrap();
        let request = calls.next().await.unwrap().unwrap();
        request.responder.refuse(7, "not today");
    };
    let declines = async {
        let incoming = second.accept().await.unwrap();
        incoming.refuse("not from you".to_owned());
    };
    let call = async {
        let outcomes = fabrics[0].fan_out("shared").call::<u8, u8, _>(Json, 10);
        by_node(outcomes.unwrap()).await
    };
    let servers = zip(answers, zip(declines, answer(&third, |number| number)));
    let (mut outcomes, _) = zip(call, servers).await;

    assert_eq!(outcomes.remove("three"), Some(Ok(10)));
    let refused = CallError::Refused {
        code: 7,
        detail: "not today".to_owned(),
    };
    let error = outcomes.remove("one").unwrap().unwrap_err();
    assert_eq!(error, FanOutError::Call(refused));
    assert!(error.may_have_run());
    let error = outcomes.remove("two").unwrap().unwrap_err();
    assert!(!error.may_have_run());
    let FanOutError::Dial(error) = error else {
        panic!("dialled: {error}");
    };
    assert!(
        matches!(
            &error.cause,
            DialCause::Refused { node, reason: RefusalReason::NotAllowed, detail, .. }
                if node.as_str() == "two" && detail == "not from you"
        ),
        "{error}"
    );
}

async fn outcomes_come_as_they_are_and_the_rest_can_be_given_up(world: &World) {
    let fabrics = three(world).await;
    let [deaf, second, third] = share(&fabrics).await;
    let fan_out = fabrics[1].fan_out("shared").deadline(PATIENCE);
    let mut outcomes = fan_out.call::<u8, u8, _>(Json, 10).unwrap();
    let heard = async {
        let outcomes = [outcomes.next().await, outcomes.next().await];
        let mut nodes = outcomes.map(|outcome| outcome.unwrap().node.to_string());
        nodes.sort();
        assert_eq!(nodes, ["three", "two"]);
    };
    let servers = zip(
        answer(&second, |number| number),
        answer(&third, |number| number),
    );
    zip(heard, servers).await;
    assert_eq!(outcomes.left(), 1);
    drop(outcomes);
    // The one that took its time finds that nobody waits.
    let mut call = pin!(answer(&deaf, |number| number));
    while fabrics[0].snapshot().endpoints[0].accept_queue.used > 0 {
        yield_now().await;
    }
    assert!(poll_once(&mut call).await.is_none());
}

async fn a_fan_out_goes_to_as_many_as_it_may_and_to_so_many_at_once(world: &World) {
    let fabrics = three(world).await;
    let [first, second, third] = share(&fabrics).await;
    let fan_out = fabrics[2].fan_out("shared").nodes(2).at_once(1);
    let mut outcomes = fan_out.call::<u8, u8, _>(Json, 10).unwrap();
    assert_eq!(outcomes.left(), 2);
    let (outcome, ()) = zip(outcomes.next(), answer(&first, |number| number)).await;
    assert_eq!(outcome.unwrap().node.as_str(), "one");
    assert!(poll_once(second.accept()).await.is_none());
    let (outcome, ()) = zip(outcomes.next(), answer(&second, |number| number)).await;
    assert_eq!(outcome.unwrap().node.as_str(), "two");
    assert_eq!(outcomes.next().await, None);
    assert!(poll_once(third.accept()).await.is_none());
}

async fn time_that_runs_out_is_told_of_each_node(world: &World) {
    let fabrics = three(world).await;
    let _endpoints = share(&fabrics).await;
    let limit = Duration::from_millis(100);
    let fan_out = fabrics[0].fan_out("shared").deadline(limit).at_once(1);
    let outcomes = fan_out.send::<u8, _>(Json, 1).unwrap();
    let mut outcomes = by_node(outcomes).await;
    let error = outcomes.remove("one").unwrap().unwrap_err();
    let FanOutError::Dial(error) = error else {
        panic!("dialled: {error}");
    };
    assert_eq!(error.stage, DialStage::Accept);
    assert!(matches!(error.cause, DialCause::TimedOut { .. }), "{error}");
    for error in outcomes.into_values().map(Result::unwrap_err) {
        assert_eq!(error, FanOutError::NoTurn { limit });
        assert!(!error.may_have_run());
    }
}

async fn a_message_that_nobody_reads_is_not_known_to_have_arrived(world: &World) {
    let server = world.node("server").await;
    let client = world.node_beside("client", &server).await;
    let endpoint = server.endpoint("service").await.unwrap();
    while client.resolve_all("service").unwrap().is_empty() {
        yield_now().await;
    }
    let limit = Duration::from_secs(1);
    let fan_out = client.fan_out("service").deadline(limit);
    // More than the window of a flow that is not read.
    let outcomes = fan_out.send::<Vec<u8>, _>(Raw, vec![7; 8 << 20]).unwrap();
    let take = async {
        let incoming = endpoint.accept().await.unwrap();
        incoming.receiver::<Vec<u8>, _>(Raw).unwrap()
    };
    let (mut outcomes, mut receiver) = zip(by_node(outcomes), take).await;
    let error = outcomes.remove("server").unwrap().unwrap_err();
    assert_eq!(error, FanOutError::Unconfirmed { limit });
    assert!(error.may_have_run());
    // It arrives all the same, in the end.
    assert_eq!(receiver.recv().await.unwrap().unwrap().len(), 8 << 20);
    assert_eq!(receiver.recv().await, Ok(None));
}

async fn outcomes_dropped_at_every_poll_are_not_lost(world: &World) {
    let fabrics = three(world).await;
    let servers = share(&fabrics).await.map(|endpoint| {
        world.spawn(async move {
            for _ in 0..10 {
                answer(&endpoint, |number| number).await;
            }
        })
    });
    for _ in 0..10 {
        let outcomes = fabrics[1].fan_out("shared").call::<u8, u8, _>(Json, 10);
        let mut outcomes = outcomes.unwrap();
        let mut answered = 0;
        while outcomes.left() > 0 {
            match poll_once(outcomes.next()).await {
                Some(outcome) => {
                    assert_eq!(outcome.unwrap().result, Ok(10));
                    answered += 1;
                }
                None => yield_now().await,
            }
        }
        assert_eq!(answered, 3);
    }
    for server in servers {
        server.await;
    }
}

/// Three nodes that know each other.
async fn three(world: &World) -> [Fabric; 3] {
    let one = world.node("one").await;
    let two = world.node_beside("two", &one).await;
    let three = world.node_beside("three", &one).await;
    [one, two, three]
}

/// An endpoint on each, by one name, which all of them know to be everywhere; the first has served it
/// longest.
async fn share(fabrics: &[Fabric; 3]) -> [Endpoint; 3] {
    let mut endpoints = Vec::new();
    for fabric in fabrics {
        endpoints.push(fabric.endpoint("shared").shared().await.unwrap());
        // The next is younger, whatever their clocks say.
        for fabric in fabrics {
            while fabric.resolve_all("shared").unwrap().len() < endpoints.len() {
                yield_now().await;
            }
        }
    }
    endpoints.try_into().unwrap()
}

/// Answers one call.
async fn answer(endpoint: &Endpoint, by: impl Fn(u8) -> u8) {
    let incoming = endpoint.accept().await.unwrap();
    let mut calls = incoming.calls::<u8, u8, _>(Json).unwrap();
    let request = calls.next().await.unwrap().unwrap();
    let answer = by(request.message);
    request.responder.respond(answer).await.unwrap();
    assert!(calls.next().await.unwrap().is_none());
}

async fn by_node<T>(mut outcomes: Outcomes<T>) -> BTreeMap<String, Result<T, FanOutError>> {
    let mut results = BTreeMap::new();
    while let Some(Outcome { node, result, .. }) = outcomes.next().await {
        results.insert(node.to_string(), result);
    }
    results
}
