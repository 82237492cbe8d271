//! The application: three workers behind one name, and a boss who does not know how many they are.
//!
//! Nothing here knows which runtime drives it.

use std::cell::Cell;

use futures_lite::future::{or, try_zip};
use grinta_proto::{AcceptError, Builder, Choice, Endpoint, Fabric, Json, Request, StartError};
use serde::{Deserialize, Serialize};

use super::common::{Failure, Nodes};

/// What a worker is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Order {
    /// To square a number.
    Square(u64),
    /// How many numbers it has squared.
    Report,
}

/// The name that the workers share.
const WORKERS: &str = "workers";

/// Starts the workers and the boss, and ends them when the work is done.
pub(crate) async fn run(
    start: impl AsyncFn(Builder) -> Result<Fabric, StartError>,
) -> Result<(), Failure> {
    let nodes = Nodes::new()?;
    let boss = start(nodes.first("boss")?).await?;
    let mut workers = Vec::new();
    for name in ["ann", "bob", "cid"] {
        let worker = start(nodes.beside(&boss, name)?).await?;
        worker.join().await?;
        workers.push(worker);
    }
    let [ann, bob, cid] = &workers[..] else {
        return Err("not three workers".into());
    };
    let work = try_zip(try_zip(work(ann), work(bob)), work(cid));
    let work = async { work.await.map(|_| ()) };
    or(manage(&boss, cid), work).await?;
    for node in workers.iter().chain([&boss]) {
        node.shutdown().await;
    }
    Ok(())
}

/// Works until its node leaves, or the boss has no more to do.
async fn work(node: &Fabric) -> Result<(), Failure> {
    let endpoint = node.endpoint(WORKERS).shared().await?;
    let done = Cell::new(0);
    loop {
        match serve(node, &endpoint, &done).await {
            Ok(()) => {}
            Err(error) if error.is::<AcceptError>() => return std::future::pending().await,
            Err(error) => println!("{} goes on: {error}", node.node()),
        }
    }
}

/// Takes one flow of orders.
async fn serve(node: &Fabric, endpoint: &Endpoint, done: &Cell<u64>) -> Result<(), Failure> {
    let incoming = endpoint.accept().await?;
    let mut orders = incoming.calls::<Order, u64, _>(Json)?;
    while let Some(Request { message, responder }) = orders.next().await? {
        let answer = match message {
            Order::Square(number) => {
                done.set(done.get() + 1);
                println!("{} squares {number}", node.node());
                number * number
            }
            Order::Report => done.get(),
        };
        responder.respond(answer).await?;
    }
    Ok(())
}

async fn manage(boss: &Fabric, leaver: &Fabric) -> Result<(), Failure> {
    wait_for_workers(boss, 3).await?;
    for number in 1..=6 {
        order(boss, number).await?;
    }
    // One goes home; the others do not notice, and nor do those who dial.
    leaver.leave().await;
    wait_for_workers(boss, 2).await?;
    for number in 7..=10 {
        order(boss, number).await?;
    }

    let mut reports = boss.fan_out(WORKERS).call(Json, Order::Report)?;
    let mut total = 0;
    while let Some(outcome) = reports.next().await {
        let squared: u64 = outcome.result?;
        println!("{} has squared {squared} numbers", outcome.node);
        total += squared;
    }
    println!(
        "the boss heard of {total} in all; two went home with {leaver}",
        leaver = leaver.node()
    );
    match total {
        8 => Ok(()),
        _ => Err(format!("{total} instead of 8").into()),
    }
}

/// Asks whichever worker's turn it is.
async fn order(boss: &Fabric, number: u64) -> Result<(), Failure> {
    let dial = boss.dial(WORKERS).choose(Choice::RoundRobin);
    let worker = dial.caller::<Order, u64, _>(Json).await?;
    let square: u64 = worker.call(Order::Square(number)).await?;
    match square == number * number {
        true => Ok(()),
        false => Err(format!("{square} is not the square of {number}").into()),
    }
}

/// Waits until so many nodes are known to serve the name.
async fn wait_for_workers(boss: &Fabric, count: usize) -> Result<(), Failure> {
    let mut watch = boss.watch_names(WORKERS);
    while boss.resolve_all(WORKERS)?.len() != count {
        watch.next().await?;
    }
    println!("the boss has {count} workers");
    Ok(())
}
