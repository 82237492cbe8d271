//! The application: a server that divides, and a client that asks it, many questions at a time.
//!
//! Nothing here knows which runtime drives it.

use std::time::Duration;

use async_executor::LocalExecutor;
use futures_lite::future::{or, try_zip};
use grinta_proto::{
    Builder, CallError, Caller, Endpoint, Fabric, Json, Request, Responder, StartError,
};
use serde::{Deserialize, Serialize};

use super::common::{Failure, Nodes};

/// What the server is asked.
#[derive(Debug, Serialize, Deserialize)]
enum Question {
    Divide {
        dividend: u64,
        divisor: u64,
    },
    /// What nobody can answer.
    Ponder,
}

/// The server's own code for a question that has no answer.
const NO_ANSWER: u32 = 1;

/// Starts a server and a client, lets the one ask the other, and ends both.
pub(crate) async fn run(
    start: impl AsyncFn(Builder) -> Result<Fabric, StartError>,
) -> Result<(), Failure> {
    let nodes = Nodes::new()?;
    let server = start(nodes.first("server")?).await?;
    let client = start(nodes.beside(&server, "client")?).await?;
    client.join().await?;
    let endpoint = server.endpoint("calculator").await?;
    or(ask(&client), serve(&endpoint)).await?;
    client.shutdown().await;
    server.shutdown().await;
    Ok(())
}

/// Answers the questions of one client. Each has a task of its own, so that none waits for another.
async fn serve(endpoint: &Endpoint) -> Result<(), Failure> {
    let tasks = LocalExecutor::new();
    tasks
        .run(async {
            let incoming = endpoint.accept().await?;
            let mut calls = incoming.calls::<Question, u64, _>(Json)?;
            while let Some(Request { message, responder }) = calls.next().await? {
                tasks.spawn(answer(message, responder)).detach();
            }
            // The client decides when all is over.
            std::future::pending().await
        })
        .await
}

async fn answer(question: Question, mut responder: Responder<u64>) {
    match question {
        Question::Divide { divisor: 0, .. } => {
            responder.refuse(NO_ANSWER, "nothing can be divided by 0");
        }
        Question::Divide { dividend, divisor } => {
            if responder.respond(dividend / divisor).await.is_err() {
                println!("the server had an answer, and nobody to give it to");
            }
        }
        Question::Ponder => {
            responder.abandoned().await;
            println!("the server ponders no more: nobody waits for the answer");
        }
    }
}

/// Asks over one flow, whatever becomes of each question.
async fn ask(client: &Fabric) -> Result<(), Failure> {
    let dial = client.dial("calculator").wait_for_name();
    let caller: Caller<Question, u64> = dial.caller(Json).await?;

    // The second does not wait for the first, nor its answer for the first one's.
    let limit = Duration::from_millis(200);
    let ponder = async {
        match caller.call(Question::Ponder).deadline(limit).await {
            Err(error @ CallError::TimedOut { .. }) => {
                println!("the client gave up pondering: {error}");
                Ok(())
            }
            other => Err(Failure::from(format!("not a time-out: {other:?}"))),
        }
    };
    let divide = async {
        for dividend in [84, 96] {
            let divisor = 2;
            let quotient = caller.call(Question::Divide { dividend, divisor }).await?;
            println!("the client knows that {dividend} / {divisor} = {quotient}");
        }
        Ok(())
    };
    try_zip(ponder, divide).await?;

    // A refusal is an answer like any other: the flow goes on.
    let (dividend, divisor) = (1, 0);
    match caller.call(Question::Divide { dividend, divisor }).await {
        Err(CallError::Refused {
            code: NO_ANSWER,
            detail,
        }) => println!("the client was refused: {detail}"),
        other => return Err(format!("not refused: {other:?}").into()),
    }
    let (dividend, divisor) = (81, 9);
    let quotient = caller.call(Question::Divide { dividend, divisor }).await?;
    println!("the client knows that {dividend} / {divisor} = {quotient}");
    Ok(())
}
