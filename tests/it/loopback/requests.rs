//! Requests: flows whose dial carries the one message of its side.

use bytes::Bytes;
use futures_lite::future::zip;
use grinta_proto::{DialCause, Raw, ReceiveError, Refusal, RefusalReason, RequestCause, SendCause};

use super::{Sides, World};

flow_stories! {
    a_request_is_answered_as_often_as_the_endpoint_likes,
    a_request_may_be_long,
    a_request_may_be_empty,
    a_request_that_is_refused_is_given_back,
    a_request_to_nobody_is_given_back,
    a_request_over_the_limit_is_given_back_and_the_endpoint_sees_it_break,
    an_endpoint_may_answer_without_reading,
    a_request_is_accepted_only_as_a_flow_both_ways,
}

async fn a_request_is_answered_as_often_as_the_endpoint_likes(world: &World) {
    let sides = world.sides().await;
    let ask = async {
        let asked = sides
            .dial()
            .request::<_, String, _>(Raw, "count to three".to_owned());
        let mut answers = asked.await.unwrap();
        assert_eq!(*answers.path(), world.path_to("server"));
        for number in ["one", "two", "three"] {
            assert_eq!(answers.recv().await.unwrap().unwrap(), number);
        }
        assert_eq!(answers.recv().await, Ok(None));
    };
    let answer = async {
        let incoming = sides.endpoint.accept().await.unwrap();
        let mut flow = incoming.bidi::<String, String, _>(Raw).unwrap();
        assert_eq!(flow.recv().await.unwrap().unwrap(), "count to three");
        assert_eq!(flow.recv().await, Ok(None));
        for number in ["one", "two", "three"] {
            flow.send(number.to_owned()).await.unwrap();
        }
    };
    zip(ask, answer).await;
}

async fn a_request_may_be_long(world: &World) {
    is_echoed(&world.sides().await, Bytes::from(vec![7; 1_000_000])).await;
}

async fn a_request_may_be_empty(world: &World) {
    is_echoed(&world.sides().await, Bytes::new()).await;
}

async fn a_request_that_is_refused_is_given_back(world: &World) {
    let sides = world.sides().await;
    let ask = async {
        let asked = sides
            .dial()
            .request::<_, Bytes, _>(Raw, "please".to_owned());
        asked.await.unwrap_err()
    };
    let refuse = async {
        let incoming = sides.endpoint.accept().await.unwrap();
        incoming.refuse(Refusal::new(RefusalReason::NotAllowed, "never"));
    };
    let (error, ()) = zip(ask, refuse).await;
    assert_eq!(error.message, "please");
    let RequestCause::Dial(error) = error.cause else {
        panic!("not a dial's: {error:?}");
    };
    assert!(
        matches!(
            error.cause,
            DialCause::Refused {
                reason: RefusalReason::NotAllowed,
                ..
            }
        ),
        "{error}"
    );
}

async fn a_request_to_nobody_is_given_back(world: &World) {
    let sides = world.sides().await;
    let asked = sides
        .client
        .dial("nobody")
        .request::<_, Bytes, _>(Raw, "hello?".to_owned());
    let error = asked.await.unwrap_err();
    assert_eq!(error.message, "hello?");
    let RequestCause::Dial(error) = error.cause else {
        panic!("not a dial's: {error:?}");
    };
    assert!(matches!(error.cause, DialCause::NotFound { .. }), "{error}");
}

async fn a_request_over_the_limit_is_given_back_and_the_endpoint_sees_it_break(world: &World) {
    let limit = 1000;
    let sides = world
        .sides_with(|builder| builder.configure(|config| config.limits.message_len_max = limit))
        .await;
    for length in [limit + 1, 100_000] {
        let ask = async {
            let message = Bytes::from(vec![1; length]);
            let asked = sides.dial().request::<_, Bytes, _>(Raw, message);
            asked.await.unwrap_err()
        };
        let answer = async {
            let incoming = sides.endpoint.accept().await.unwrap();
            let mut flow = incoming.bidi::<Bytes, Bytes, _>(Raw).unwrap();
            flow.recv().await.unwrap_err()
        };
        let (error, broken) = zip(ask, answer).await;
        assert_eq!(error.message.len(), length);
        let too_long = SendCause::TooLong { length, limit };
        assert_eq!(error.cause, RequestCause::Send(too_long));
        assert!(
            matches!(broken, ReceiveError::Reset { .. } | ReceiveError::Frame(_)),
            "{broken}"
        );
    }
}

async fn an_endpoint_may_answer_without_reading(world: &World) {
    let sides = world.sides().await;
    for length in [10, 100_000] {
        let ask = async {
            let message = Bytes::from(vec![1; length]);
            let mut answers = sides
                .dial()
                .request::<_, String, _>(Raw, message)
                .await
                .unwrap();
            assert_eq!(answers.recv().await.unwrap().unwrap(), "busy");
            assert_eq!(answers.recv().await, Ok(None));
        };
        let answer = async {
            let incoming = sides.endpoint.accept().await.unwrap();
            let flow = incoming.bidi::<String, Bytes, _>(Raw).unwrap();
            let (mut sender, receiver) = flow.split();
            drop(receiver);
            sender.send("busy".to_owned()).await.unwrap();
        };
        zip(ask, answer).await;
    }
}

async fn a_request_is_accepted_only_as_a_flow_both_ways(world: &World) {
    let sides = world.sides().await;
    let ask = async {
        let asked = sides.dial().request::<_, Bytes, _>(Raw, "hello".to_owned());
        asked.await.unwrap_err()
    };
    let accept = async {
        let incoming = sides.endpoint.accept().await.unwrap();
        drop(incoming.receiver::<String, _>(Raw).unwrap_err());
    };
    let (error, ()) = zip(ask, accept).await;
    assert!(
        matches!(
            &error.cause,
            RequestCause::Dial(error) if matches!(
                error.cause,
                DialCause::Refused { reason: RefusalReason::Mismatch, .. }
            )
        ),
        "{error}"
    );
}

/// Sends a request to an endpoint that returns what it gets.
async fn is_echoed(sides: &Sides, message: Bytes) {
    let ask = async {
        let asked = sides.dial().request::<_, Bytes, _>(Raw, message.clone());
        let mut answers = asked.await.unwrap();
        assert_eq!(answers.recv().await.unwrap(), Some(message.clone()));
        assert_eq!(answers.recv().await, Ok(None));
    };
    let answer = async {
        let incoming = sides.endpoint.accept().await.unwrap();
        let mut flow = incoming.bidi::<Bytes, Bytes, _>(Raw).unwrap();
        while let Some(message) = flow.recv().await.unwrap() {
            flow.send(message).await.unwrap();
        }
    };
    zip(ask, answer).await;
}
