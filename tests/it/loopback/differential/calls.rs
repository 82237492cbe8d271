//! Scripts of calls: so many at a time, what each one asks, what becomes of it at the other side, and
//! how either side ends the flow.

use std::collections::VecDeque;
use std::future::IntoFuture;
use std::pin::Pin;

use futures_lite::future::{poll_once, yield_now, zip};
use grinta_proto::{CallError, Caller, Calls, Codec, Fabric, Json, Postcard, Request};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{FITTING_MAX, LENGTH_MAX, Memo, Message, Note, SEEDS, Sides, World, digest};

node_stories! {
    the_same_calls_have_the_same_answers_here_and_there,
    the_same_calls_have_the_same_answers_between_different_types,
}

async fn the_same_calls_have_the_same_answers_here_and_there(world: &World) {
    compare::<Note, Note, Note, Note, _>(world, Json).await;
}

async fn the_same_calls_have_the_same_answers_between_different_types(world: &World) {
    compare::<Note, Memo, Memo, Note, _>(world, Postcard).await;
}

#[derive(Debug)]
struct Script {
    /// How many calls are under way at once. They are begun in order.
    at_once: usize,
    exchanges: Vec<Exchange>,
    /// The server takes no more than so many requests, and then drops the flow's requests.
    takes: usize,
}

/// A request, and what becomes of it.
#[derive(Debug)]
struct Exchange {
    request: usize,
    fate: Fate,
    /// How often the server yields before it.
    pause: usize,
}

#[derive(Debug)]
enum Fate {
    /// It is answered, at this length.
    Answered(usize),
    Refused(u32),
    Dropped,
}

/// What the two sides saw, each for every request in order.
#[derive(Debug, Default, PartialEq, Eq)]
struct History {
    caller: Vec<String>,
    server: Vec<String>,
}

/// Runs scripts at both places. The caller asks with `Q` and hears `A`; the server hears `R` and
/// answers with `S`.
async fn compare<Q, A, R, S, C>(world: &World, codec: C)
where
    Q: Message,
    A: Message,
    R: Message,
    S: Message,
    C: Codec<Q> + Codec<A> + Codec<R> + Codec<S> + Clone,
{
    let remote = world.sides_with(|builder| {
        builder.configure(|config| config.limits.message_len_max = LENGTH_MAX)
    });
    let remote = remote.await;
    for seed in 0..SEEDS {
        // Shown only if the story fails.
        eprintln!("seed {seed}");
        let script = Script::new(&mut StdRng::seed_from_u64(seed));
        let here = script.run::<Q, A, R, S, C>(&remote, &remote.server, &codec);
        let here = here.await;
        let there = script.run::<Q, A, R, S, C>(&remote, &remote.client, &codec);
        let there = there.await;
        assert_eq!(here, there, "seed {seed}: {script:#?}");
    }
}

impl Script {
    fn new(rng: &mut StdRng) -> Self {
        let count = rng.random_range(0..20);
        let exchanges: Vec<_> = (0..count).map(|_| Exchange::new(rng)).collect();
        let takes = match rng.random_range(0..3) {
            0 => rng.random_range(0..=count),
            _ => count,
        };
        Self {
            at_once: rng.random_range(1..6),
            exchanges,
            takes,
        }
    }

    async fn run<Q, A, R, S, C>(&self, sides: &Sides, dialler: &Fabric, codec: &C) -> History
    where
        Q: Message,
        A: Message,
        R: Message,
        S: Message,
        C: Codec<Q> + Codec<A> + Codec<R> + Codec<S> + Clone,
    {
        let dial = async {
            let dial = dialler.dial("service").wait_for_name();
            dial.caller::<Q, A, C>(codec.clone()).await.unwrap()
        };
        let accept = async {
            let incoming = sides.endpoint.accept().await.unwrap();
            incoming.calls::<R, S, C>(codec.clone()).unwrap()
        };
        let (caller, calls) = zip(dial, accept).await;
        let (caller, server) = zip(self.call(caller), self.serve(calls)).await;
        History { caller, server }
    }

    /// The caller's history. Of calls that the server does not come to, only that they fail: how far
    /// they came is a matter of time.
    async fn call<Q: Message, A: Message>(&self, caller: Caller<Q, A>) -> Vec<String> {
        let mut history = Vec::new();
        let mut under_way = VecDeque::new();
        for exchange in &self.exchanges {
            if under_way.len() >= self.at_once {
                history.extend(next_outcome(&mut under_way).await);
            }
            let request = Q::new("q".repeat(exchange.request));
            let mut call = caller.call(request).into_future();
            // From here on its place is behind those before it.
            let outcome = poll_once(&mut call).await;
            under_way.push_back(UnderWay { call, outcome });
        }
        while let Some(outcome) = next_outcome(&mut under_way).await {
            history.push(outcome);
        }
        let fitting = self.exchanges.iter().enumerate();
        let mut fitting = fitting.filter(|(_, exchange)| exchange.request <= FITTING_MAX);
        if let Some((first_in_vain, _)) = fitting.nth(self.takes) {
            for outcome in &mut history[first_in_vain..] {
                assert!(outcome.starts_with("Err"), "nobody has answered: {outcome}");
                "in vain".clone_into(outcome);
            }
        }
        history
    }

    /// The server's history. What was not sent never comes.
    async fn serve<R: Message, S: Message>(&self, mut calls: Calls<R, S>) -> Vec<String> {
        let mut history = Vec::new();
        let fitting = self.exchanges.iter();
        let fitting = fitting.filter(|exchange| exchange.request <= FITTING_MAX);
        for exchange in fitting.take(self.takes) {
            for _ in 0..exchange.pause {
                yield_now().await;
            }
            let Request { message, responder } = calls.next().await.unwrap().unwrap();
            history.push(digest(&message));
            match exchange.fate {
                Fate::Answered(length) => {
                    let sent = responder.respond(S::new("a".repeat(length))).await;
                    let sent = sent.map_err(|error| (error.cause.clone(), digest(&error.message)));
                    history.push(format!("{sent:?}"));
                }
                Fate::Refused(code) => responder.refuse(code, "no"),
                Fate::Dropped => drop(responder),
            }
        }
        if self.takes == self.exchanges.len() {
            history.push(format!(
                "{:?}",
                calls.next().await.map(|more| more.is_some())
            ));
        }
        history
    }
}

impl Exchange {
    fn new(rng: &mut StdRng) -> Self {
        let fate = match rng.random_range(0..10) {
            0..7 => Fate::Answered(length(rng)),
            7..9 => Fate::Refused(rng.random()),
            _ => Fate::Dropped,
        };
        Self {
            request: length(rng),
            fate,
            pause: rng.random_range(0..3) * rng.random_range(0..10),
        }
    }
}

fn length(rng: &mut StdRng) -> usize {
    match rng.random_range(0..10) {
        0 => 0,
        1..7 => rng.random_range(1..500),
        7..9 => rng.random_range(500..=FITTING_MAX),
        _ => rng.random_range(LENGTH_MAX + 1..LENGTH_MAX * 2),
    }
}

/// A call that was polled once, and what came of that.
struct UnderWay<A> {
    call: Pin<Box<dyn Future<Output = Result<A, CallError>> + Send>>,
    outcome: Option<Result<A, CallError>>,
}

async fn next_outcome<A: Message>(under_way: &mut VecDeque<UnderWay<A>>) -> Option<String> {
    let UnderWay { call, outcome } = under_way.pop_front()?;
    let outcome = match outcome {
        Some(outcome) => outcome,
        None => call.await,
    };
    Some(format!("{:?}", outcome.map(|answer| digest(&answer))))
}
