//! Requests and their answers.

use std::future::{IntoFuture, poll_fn};
use std::pin::pin;
use std::time::Duration;

use futures_lite::future::{or, poll_once, yield_now, zip};
use grinta_proto::{
    CallError, Calls, Code, DialCause, Json, Raw, ReceiveError, RefusalReason, Request, SendCause,
};

use super::World;

flow_stories! {
    answers_come_in_any_order,
    many_tasks_call_over_one_flow,
    a_refused_and_a_dropped_request_are_told_apart,
    calls_wait_while_as_many_are_under_way_as_may_be,
    a_call_out_of_time_is_given_up_on_both_sides,
    that_time_is_up_is_the_callers_to_say,
    a_call_that_never_had_its_turn_has_not_run,
    a_dropped_call_is_told_to_who_answers_it,
    calls_dropped_at_every_poll_disturb_no_other,
    a_call_that_nobody_polls_holds_no_other_up,
    calls_that_nobody_took_have_no_answer,
    answers_are_given_after_the_requests_have_ended,
    callers_that_are_gone_end_the_flow,
    a_request_that_is_too_long_is_not_sent,
    an_answer_that_is_too_long_is_told,
    the_types_of_the_two_sides_may_differ,
    a_flow_of_calls_is_no_flow_of_messages,
}

node_stories! {
    calls_break_with_their_node,
}

async fn answers_come_in_any_order(world: &World) {
    let sides = world.sides().await;
    let (caller, mut calls) = sides.calls::<u32, String, _>(Json).await;
    assert_eq!(caller.path(), &world.path_to("server"));
    assert_eq!(calls.path(), &world.path_to("client"));
    let call = async {
        let first = async { caller.call(1).await.unwrap() };
        let second = async { caller.clone().call(2).await.unwrap() };
        let answers = zip(first, second).await;
        assert_eq!(answers, ("first".to_owned(), "second".to_owned()));
    };
    let serve = async {
        let first = next(&mut calls).await;
        let second = next(&mut calls).await;
        assert_eq!((first.message, second.message), (1, 2));
        assert_eq!(first.responder.time_left(), None);
        second.responder.respond("second".to_owned()).await.unwrap();
        first.responder.respond("first".to_owned()).await.unwrap();
    };
    zip(call, serve).await;
}

async fn many_tasks_call_over_one_flow(world: &World) {
    let limit = |config: &mut grinta_proto::Config| config.limits.calls_in_flight_max = 20;
    let sides = world.sides_with(|builder| builder.configure(limit)).await;
    let (caller, mut calls) = sides.calls::<Vec<u32>, Vec<u32>, _>(Json).await;
    let serve = world.spawn(async move {
        while let Some(request) = calls.next().await.unwrap() {
            let answer = request.message.into_iter().rev().collect();
            request.responder.respond(answer).await.unwrap();
        }
    });
    let tasks: Vec<_> = (0..50)
        .map(|task| {
            let caller = caller.clone();
            world.spawn(async move {
                for number in 0..40 {
                    // Some are as long as the flow's buffer.
                    let length = if number % 10 == 0 { 5000 } else { 2 };
                    let mut request = vec![0; length];
                    (request[0], request[1]) = (task, number);
                    let answer = caller.call(request).await.unwrap();
                    assert_eq!(answer.len(), length);
                    assert_eq!(answer[length - 2..], [number, task]);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await;
    }
    drop(caller);
    serve.await;
}

async fn a_refused_and_a_dropped_request_are_told_apart(world: &World) {
    let sides = world.sides().await;
    let (caller, mut calls) = sides.calls::<u8, u8, _>(Json).await;
    let call = async {
        let code = 4;
        let detail = "é".repeat(256);
        let refused = CallError::Refused { code, detail };
        assert_eq!(caller.call(1).await, Err(refused.clone()));
        assert!(refused.may_have_run());
        assert_eq!(caller.call(2).await, Err(CallError::Dropped));
        assert_eq!(caller.call(3).await, Ok(33));
    };
    let serve = async {
        next(&mut calls).await.responder.refuse(4, &"é".repeat(300));
        drop(next(&mut calls).await);
        next(&mut calls).await.responder.respond(33).await.unwrap();
    };
    zip(call, serve).await;
}

async fn calls_wait_while_as_many_are_under_way_as_may_be(world: &World) {
    let limit = |config: &mut grinta_proto::Config| config.limits.calls_in_flight_max = 2;
    let sides = world.sides_with(|builder| builder.configure(limit)).await;
    let (caller, mut calls) = sides.calls::<u8, u8, _>(Json).await;
    let call = |number| {
        let caller = caller.clone();
        async move { caller.call(number).await.unwrap() }
    };
    let serve = async {
        let first = next(&mut calls).await;
        let second = next(&mut calls).await;
        assert!(poll_once(calls.next()).await.is_none());
        yield_now().await;
        assert!(poll_once(calls.next()).await.is_none());
        second.responder.respond(second.message).await.unwrap();
        let third = next(&mut calls).await;
        assert_eq!(third.message, 3);
        third.responder.respond(3).await.unwrap();
        first.responder.respond(first.message).await.unwrap();
    };
    let answers = zip(zip(zip(call(1), call(2)), call(3)), serve).await.0;
    assert_eq!(answers, ((1, 2), 3));
}

async fn a_call_out_of_time_is_given_up_on_both_sides(world: &World) {
    let sides = world.sides().await;
    let (caller, mut calls) = sides.calls::<u8, u8, _>(Json).await;
    let limit = Duration::from_millis(50);
    let call = async {
        let was_sent = true;
        let late = CallError::TimedOut { limit, was_sent };
        assert_eq!(caller.call(1).deadline(limit).await, Err(late.clone()));
        assert!(late.may_have_run());
        let long = Duration::from_secs(1000);
        assert_eq!(caller.call(2).deadline(long).await, Ok(2));
    };
    let serve = async {
        let mut late = next(&mut calls).await.responder;
        assert!(late.time_left().unwrap() <= limit);
        late.abandoned().await;
        assert!(late.is_abandoned());
        let error = late.respond(7).await.unwrap_err();
        let code = Code::Cancelled;
        assert_eq!(error.cause, SendCause::Stopped { code });
        assert_eq!(error.into_message(), 7);

        let request = next(&mut calls).await;
        let left = request.responder.time_left().unwrap();
        assert!(left > Duration::from_secs(900), "{left:?}");
        assert!(!request.responder.is_abandoned());
        request.responder.respond(2).await.unwrap();
    };
    zip(call, serve).await;
}

async fn that_time_is_up_is_the_callers_to_say(world: &World) {
    let sides = world.sides().await;
    let (caller, mut calls) = sides.calls::<u8, u8, _>(Json).await;
    let limit = Duration::from_millis(50);
    let mut call = pin!(caller.call(1).deadline(limit).into_future());
    assert!(poll_once(&mut call).await.is_none());
    let mut late = next(&mut calls).await.responder;
    late.abandoned().await;
    drop(late);
    // Whatever the dropped responder had to say is there by then.
    sides.client.sleep(limit).await;
    let was_sent = true;
    assert_eq!(call.await, Err(CallError::TimedOut { limit, was_sent }));
}

async fn a_call_that_never_had_its_turn_has_not_run(world: &World) {
    let limit = |config: &mut grinta_proto::Config| config.limits.calls_in_flight_max = 1;
    let sides = world.sides_with(|builder| builder.configure(limit)).await;
    let (caller, mut calls) = sides.calls::<u8, u8, _>(Json).await;
    let mut first = pin!(caller.call(1).into_future());
    assert!(poll_once(&mut first).await.is_none());
    let limit = Duration::from_millis(10);
    let error = caller.call(2).deadline(limit).await.unwrap_err();
    let was_sent = false;
    assert_eq!(error, CallError::TimedOut { limit, was_sent });
    assert!(!error.may_have_run());
    let serve = async {
        next(&mut calls).await.responder.respond(11).await.unwrap();
    };
    assert_eq!(zip(first, serve).await.0, Ok(11));
    assert!(poll_once(calls.next()).await.is_none());
}

async fn a_dropped_call_is_told_to_who_answers_it(world: &World) {
    let sides = world.sides().await;
    let (caller, mut calls) = sides.calls::<u8, u8, _>(Json).await;
    let mut request = {
        let mut call = pin!(caller.call(1).into_future());
        let request = poll_fn(|cx| {
            assert!(call.as_mut().poll(cx).is_pending());
            pin!(calls.next()).poll(cx)
        });
        request.await.unwrap().unwrap()
    };
    let serve = async {
        request.responder.abandoned().await;
        assert!(request.responder.is_abandoned());
    };
    // The word comes with the requests.
    or(serve, async {
        let more = calls.next().await;
        panic!("nobody has called again: {more:?}");
    })
    .await;
}

async fn calls_dropped_at_every_poll_disturb_no_other(world: &World) {
    let limit = |config: &mut grinta_proto::Config| {
        config.limits.calls_in_flight_max = 5;
        config.limits.local_queue_max = 4;
        config.limits.flow_send_buffer = 100;
    };
    let sides = world.sides_with(|builder| builder.configure(limit)).await;
    let (caller, mut calls) = sides.calls::<u32, u32, _>(Json).await;
    let serve = world.spawn(async move {
        while let Some(request) = calls.next().await.unwrap() {
            // Polled once and dropped, every seventh.
            if request.message % 7 == 0 {
                let _ = poll_once(request.responder.respond(0)).await;
            } else {
                // The caller may have given up meanwhile.
                let _ = request.responder.respond(request.message).await;
            }
        }
    });
    for number in 0..500 {
        for polls in 0..4 {
            let mut call = pin!(caller.call(7 * number).into_future());
            for _ in 0..polls {
                if poll_once(&mut call).await.is_some() {
                    break;
                }
                yield_now().await;
            }
        }
        let number = 7 * number + 1;
        assert_eq!(caller.call(number).await, Ok(number));
    }
    drop(caller);
    serve.await;
}

async fn a_call_that_nobody_polls_holds_no_other_up(world: &World) {
    let sides = world.sides().await;
    let (caller, mut calls) = sides.calls::<u8, u8, _>(Json).await;
    let mut idle = pin!(caller.call(1).into_future());
    // Its waker wakes nobody.
    let mut nobody = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(idle.as_mut().poll(&mut nobody).is_pending());
    let serve = async {
        let first = next(&mut calls).await;
        next(&mut calls).await.responder.respond(2).await.unwrap();
        first.responder.respond(1).await.unwrap();
    };
    assert_eq!(zip(caller.call(2).into_future(), serve).await.0, Ok(2));
    assert_eq!(idle.await, Ok(1));
}

async fn calls_that_nobody_took_have_no_answer(world: &World) {
    let sides = world.sides().await;
    let (caller, calls) = sides.calls::<u8, u8, _>(Json).await;
    let mut taken_by_nobody = pin!(caller.call(1).into_future());
    assert!(poll_once(&mut taken_by_nobody).await.is_none());
    drop(calls);
    let was_sent = true;
    assert_eq!(taken_by_nobody.await, Err(CallError::Ended { was_sent }));
    let error = caller.call(2).await.unwrap_err();
    assert!(!error.may_have_run(), "{error}");
}

async fn answers_are_given_after_the_requests_have_ended(world: &World) {
    let sides = world.sides().await;
    let (caller, mut calls) = sides.calls::<u8, u8, _>(Json).await;
    let call = async {
        assert_eq!(caller.call(1).await, Ok(2));
    };
    let serve = async {
        let Request { message, responder } = next(&mut calls).await;
        drop(calls);
        responder.respond(message + 1).await.unwrap();
    };
    zip(call, serve).await;
}

async fn callers_that_are_gone_end_the_flow(world: &World) {
    let sides = world.sides().await;
    let (caller, mut calls) = sides.calls::<u8, u8, _>(Json).await;
    let other = caller.clone();
    drop(caller);
    let call = async move {
        assert_eq!(other.call(1).await, Ok(1));
    };
    let serve = async {
        let request = next(&mut calls).await;
        request.responder.respond(1).await.unwrap();
        assert!(calls.next().await.unwrap().is_none());
    };
    zip(call, serve).await;
}

async fn a_request_that_is_too_long_is_not_sent(world: &World) {
    let limit = |config: &mut grinta_proto::Config| config.limits.message_len_max = 100;
    let sides = world.sides_with(|builder| builder.configure(limit)).await;
    let (caller, mut calls) = sides.calls::<String, String, _>(Raw).await;
    let call = async {
        let error = caller.call("x".repeat(98)).await.unwrap_err();
        let (length, limit) = (101, 100);
        let cause = SendCause::TooLong { length, limit };
        assert_eq!(error, CallError::NotSent(cause));
        assert!(!error.may_have_run());
        assert_eq!(caller.call("x".repeat(97)).await.unwrap(), "ok");
    };
    let serve = async {
        let request = next(&mut calls).await;
        request.responder.respond("ok".to_owned()).await.unwrap();
    };
    zip(call, serve).await;
}

async fn an_answer_that_is_too_long_is_told(world: &World) {
    let limit = |config: &mut grinta_proto::Config| config.limits.message_len_max = 100;
    let sides = world.sides_with(|builder| builder.configure(limit)).await;
    let (caller, mut calls) = sides.calls::<String, String, _>(Raw).await;
    let call = async {
        let answered = caller.call(String::new()).await;
        assert_eq!(answered, Err(CallError::Dropped));
    };
    let serve = async {
        let request = next(&mut calls).await;
        let error = request.responder.respond("x".repeat(99)).await.unwrap_err();
        let (length, limit) = (101, 100);
        assert_eq!(error.cause, SendCause::TooLong { length, limit });
        assert_eq!(error.into_message(), "x".repeat(99));
    };
    zip(call, serve).await;
}

async fn the_types_of_the_two_sides_may_differ(world: &World) {
    let sides = world.sides().await;
    let dial = async { sides.dial().caller::<u8, u8, _>(Json).await.unwrap() };
    let accept = async {
        let incoming = sides.endpoint.accept().await.unwrap();
        incoming.calls::<u32, u32, _>(Json).unwrap()
    };
    let (caller, mut calls) = zip(dial, accept).await;
    let serve = async {
        let request = next(&mut calls).await;
        request
            .responder
            .respond(request.message + 1)
            .await
            .unwrap();
        // Too great for the caller's type: its side of the flow ends.
        next(&mut calls).await.responder.respond(256).await.unwrap();
    };
    let call = async {
        assert_eq!(caller.call(7).await, Ok(8));
        let error = caller.call(8).await.unwrap_err();
        assert!(
            matches!(error, CallError::Broken(ReceiveError::Decode(_))),
            "{error}"
        );
    };
    zip(call, serve).await;
}

async fn a_flow_of_calls_is_no_flow_of_messages(world: &World) {
    let sides = world.sides().await;
    let dial = async { sides.dial().caller::<u8, u8, _>(Json).await };
    let accept = async {
        let incoming = sides.endpoint.accept().await.unwrap();
        incoming.bidi::<u8, u8, _>(Json).unwrap_err().to_string()
    };
    let (dialled, mismatch) = zip(dial, accept).await;
    assert!(mismatch.contains("call-json"), "{mismatch}");
    let reason = RefusalReason::Mismatch;
    let cause = dialled.unwrap_err().cause;
    assert!(
        matches!(&cause, DialCause::Refused { reason: told, .. } if *told == reason),
        "{cause}"
    );
}

async fn calls_break_with_their_node(world: &World) {
    let server = world.hasty_builder("server");
    let (server, lifeline) = world.start_mortal(server).await;
    server.join().await.unwrap();
    let endpoint = server.endpoint("service").await.unwrap();
    let client = world.hasty_builder("client");
    let client = client.neighbour(server.address().to_string());
    let client = world.start(client).await.unwrap();
    client.join().await.unwrap();
    let dial = async {
        let dial = client.dial("service").wait_for_name();
        dial.caller::<u8, u8, _>(Json).await.unwrap()
    };
    let accept = async {
        let incoming = endpoint.accept().await.unwrap();
        incoming.calls::<u8, u8, _>(Json).unwrap()
    };
    let (caller, mut calls) = zip(dial, accept).await;
    let die = async {
        let mut request = next(&mut calls).await;
        drop(lifeline);
        assert!(calls.next().await.is_err());
        request.responder.abandoned().await;
    };
    let (error, ()) = zip(caller.call(1).into_future(), die).await;
    let error = error.unwrap_err();
    assert!(matches!(error, CallError::Broken(ReceiveError::Lost(_))));
    assert!(error.may_have_run());
    let error = caller.call(2).await.unwrap_err();
    assert!(matches!(error, CallError::NotSent(SendCause::Lost(_))));
    assert!(!error.may_have_run());
}

async fn next<Q, A>(calls: &mut Calls<Q, A>) -> Request<Q, A>
where
    Q: Send + 'static,
    A: Send + 'static,
{
    calls.next().await.unwrap().expect("somebody calls")
}
