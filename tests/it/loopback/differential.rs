//! The same script over a flow within a node and over one between two gives the same history.
//!
//! A script says for each direction what its two programs do: send or try to send, in which sizes
//! and with which pauses; take so many messages; and how each of them ends: all while the other
//! direction goes its own way. A program sees results, and what it sees is its history: which
//! messages in which order, which errors, which end. How far one side is ahead of the other is no
//! promise, so where an end would overtake messages, its program waits for the other side to have
//! taken them.
//!
//! The scripts of calls are in [`calls`].

use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use futures_lite::future::{yield_now, zip};
use grinta_proto::{Codec, Fabric, Json, Postcard, Raw, ReceiveError, Receiver, SendCause, Sender};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

use super::{Sides, World};

mod calls;

node_stories! {
    the_same_script_gives_the_same_history_here_and_there,
    the_same_script_gives_the_same_history_between_different_types,
    the_same_script_gives_the_same_history_in_json,
    the_same_script_gives_the_same_history_in_postcard_between_different_types,
}

async fn the_same_script_gives_the_same_history_here_and_there(world: &World) {
    compare::<Bytes, Bytes, _>(world, Raw).await;
}

async fn the_same_script_gives_the_same_history_between_different_types(world: &World) {
    compare::<Bytes, String, _>(world, Raw).await;
}

async fn the_same_script_gives_the_same_history_in_json(world: &World) {
    compare::<Note, Note, _>(world, Json).await;
}

async fn the_same_script_gives_the_same_history_in_postcard_between_different_types(world: &World) {
    compare::<Note, Memo, _>(world, Postcard).await;
}

/// A type of messages that a script can be about.
trait Message: Debug + Send + 'static {
    fn new(text: String) -> Self;
    fn text(&self) -> &[u8];
}

impl Message for Bytes {
    fn new(text: String) -> Self {
        text.into()
    }

    fn text(&self) -> &[u8] {
        self
    }
}

impl Message for String {
    fn new(text: String) -> Self {
        text
    }

    fn text(&self) -> &[u8] {
        self.as_bytes()
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Note {
    text: String,
    length: usize,
}

impl Message for Note {
    fn new(text: String) -> Self {
        let length = text.len();
        Self { text, length }
    }

    fn text(&self) -> &[u8] {
        assert_eq!(self.text.len(), self.length);
        self.text.as_bytes()
    }
}

/// Looks like a note where it is encoded.
#[derive(Debug, Serialize, Deserialize)]
struct Memo {
    body: Box<str>,
    length: u64,
}

impl Message for Memo {
    fn new(text: String) -> Self {
        let length = text.len() as u64;
        let body = text.into();
        Self { body, length }
    }

    fn text(&self) -> &[u8] {
        assert_eq!(self.body.len() as u64, self.length);
        self.body.as_bytes()
    }
}

/// What the two programs of a direction do.
#[derive(Debug)]
struct Script {
    messages: Vec<Outgoing>,
    sender_end: SenderEnd,
    /// Unless the receiver reads on, it ends after so many of the messages.
    takes: usize,
    receiver_end: ReceiverEnd,
    /// After every so many messages the receiver yields so often.
    rests: (usize, usize),
}

#[derive(Debug)]
struct Outgoing {
    length: usize,
    fill: u8,
    call: Call,
    /// How often the sender yields before it.
    pause: usize,
}

#[derive(Debug)]
enum Call {
    Send,
    /// Tried first, and then waited for if there is no room.
    TrySend,
}

#[derive(Debug)]
enum SenderEnd {
    Finish,
    Drop,
    Reset(u32),
}

#[derive(Debug)]
enum ReceiverEnd {
    ReadOn,
    Stop(u32),
    Drop,
}

/// How the two directions are opened.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// As one flow.
    Bidi,
    /// As two, which both are dialled from one side.
    TwoFlows,
}

/// What the programs of a direction saw.
#[derive(Debug, Default, PartialEq, Eq)]
struct History {
    sender: Vec<String>,
    receiver: Vec<String>,
}

/// Runs scripts at both places. The dialler's messages are of type `D`, the acceptor's of type `A`.
async fn compare<D, A, C>(world: &World, codec: C)
where
    D: Message,
    A: Message,
    C: Codec<D> + Codec<A> + Clone,
{
    let remote = world.sides_with(|builder| {
        builder.configure(|config| config.limits.message_len_max = LENGTH_MAX)
    });
    let remote = remote.await;
    for seed in 0..SEEDS {
        // Shown only if the story fails.
        eprintln!("seed {seed}");
        let mut rng = StdRng::seed_from_u64(seed);
        let shape = match rng.random_range(0..3) {
            0 => Shape::TwoFlows,
            _ => Shape::Bidi,
        };
        let scripts = [Script::new(&mut rng), Script::new(&mut rng)];
        let here = run::<D, A, C>(&remote, &remote.server, &codec, shape, &scripts).await;
        let there = run::<D, A, C>(&remote, &remote.client, &codec, shape, &scripts).await;
        assert_eq!(here, there, "seed {seed}, {shape:?}: {scripts:#?}");
    }
}

/// Runs a script each way at once.
async fn run<D, A, C>(
    sides: &Sides,
    dialler: &Fabric,
    codec: &C,
    shape: Shape,
    scripts: &[Script; 2],
) -> [History; 2]
where
    D: Message,
    A: Message,
    C: Codec<D> + Codec<A> + Clone,
{
    let dial = || dialler.dial("service").wait_for_name();
    let accept = async || sides.endpoint.accept().await.unwrap();
    let codec = || codec.clone();
    let (there, back) = match shape {
        Shape::Bidi => {
            let dial = async { dial().bidi::<D, D, C>(codec()).await.unwrap() };
            let accept = async { accept().await.bidi::<A, A, C>(codec()).unwrap() };
            let (ours, theirs) = zip(dial, accept).await;
            (
                (ours.sender, theirs.receiver),
                (theirs.sender, ours.receiver),
            )
        }
        Shape::TwoFlows => {
            let sends = async { dial().sender::<D, C>(codec()).await.unwrap() };
            let receives = async { accept().await.receiver::<A, C>(codec()).unwrap() };
            let there = zip(sends, receives).await;
            let receives = async { dial().receiver::<D, C>(codec()).await.unwrap() };
            let sends = async { accept().await.sender::<A, C>(codec()).unwrap() };
            (there, zip(sends, receives).await)
        }
    };
    let (there, back) = zip(
        scripts[0].play(there.0, there.1),
        scripts[1].play(back.0, back.1),
    )
    .await;
    [there, back]
}

impl Script {
    fn new(rng: &mut StdRng) -> Self {
        let count = rng.random_range(0..40);
        let messages = (0..count).map(|_| Outgoing::new(rng)).collect();
        let receiver_end = match rng.random_range(0..10) {
            0..6 => ReceiverEnd::ReadOn,
            6..8 => ReceiverEnd::Stop(rng.random()),
            _ => ReceiverEnd::Drop,
        };
        let sender_end = match rng.random_range(0..10) {
            0..4 => SenderEnd::Finish,
            4..7 => SenderEnd::Drop,
            _ => SenderEnd::Reset(rng.random()),
        };
        Self {
            messages,
            sender_end,
            takes: rng.random_range(0..=count),
            receiver_end,
            rests: (rng.random_range(1..10), rng.random_range(0..20)),
        }
    }

    async fn play<S: Message, R: Message>(
        &self,
        sender: Sender<S>,
        receiver: Receiver<R>,
    ) -> History {
        let (taken, told) = smol::channel::bounded(1);
        let mut history = History::default();
        zip(
            self.send(sender, told, &mut history.sender),
            self.receive(receiver, taken, &mut history.receiver),
        )
        .await;
        history
    }

    /// The sender's program. Whether the receiver has taken what it wanted is `told`.
    async fn send<S: Message>(
        &self,
        mut sender: Sender<S>,
        told: smol::channel::Receiver<()>,
        history: &mut Vec<String>,
    ) {
        let reads_on = matches!(self.receiver_end, ReceiverEnd::ReadOn);
        for outgoing in self.expected() {
            for _ in 0..outgoing.pause {
                yield_now().await;
            }
            let message: S = outgoing.message();
            let sent = match outgoing.call {
                Call::Send => sender.send(message).await,
                Call::TrySend => match sender.try_send(message) {
                    Err(error) if error.cause == SendCause::Full => {
                        sender.send(error.into_message()).await
                    }
                    tried => tried,
                },
            };
            let sent = sent.map_err(|error| (error.cause.clone(), digest(&error.message)));
            history.push(format!("{sent:?}"));
        }
        if !reads_on {
            // The receiver has ended: that is learnt sooner or later, and from then on for ever.
            told.recv().await.unwrap();
            let refused = loop {
                if let Err(error) = sender.send(S::new("in vain".to_owned())).await {
                    break error.cause;
                }
                yield_now().await;
            };
            history.push(format!("{refused:?}"));
            let again = sender.try_send(S::new("in vain".to_owned()));
            history.push(format!("{:?}", again.map_err(|error| error.cause)));
        }
        match self.sender_end {
            SenderEnd::Finish => history.push(format!("{:?}", sender.finish().await)),
            SenderEnd::Drop => drop(sender),
            SenderEnd::Reset(code) => {
                if reads_on {
                    told.recv().await.unwrap();
                }
                sender.reset(code);
            }
        }
    }

    async fn receive<R: Message>(
        &self,
        mut receiver: Receiver<R>,
        taken: smol::channel::Sender<()>,
        history: &mut Vec<String>,
    ) {
        let (every, times) = self.rests;
        let fitting = self.expected().iter();
        let fitting = fitting.filter(|outgoing| outgoing.length <= FITTING_MAX);
        for number in 1..=fitting.count() {
            let received = match receiver.try_recv() {
                Err(ReceiveError::Empty) => receiver.recv().await,
                received => received,
            };
            history.push(told_of(received));
            if number % every == 0 {
                for _ in 0..times {
                    yield_now().await;
                }
            }
        }
        match self.receiver_end {
            ReceiverEnd::ReadOn => {
                // A sender that has finished does not wait for it.
                let _ = taken.send(()).await;
                for _ in 0..2 {
                    history.push(told_of(receiver.recv().await));
                }
            }
            ReceiverEnd::Stop(code) => {
                receiver.stop(code);
                taken.send(()).await.unwrap();
            }
            ReceiverEnd::Drop => {
                drop(receiver);
                taken.send(()).await.unwrap();
            }
        }
    }

    /// The messages that both programs come to.
    fn expected(&self) -> &[Outgoing] {
        match self.receiver_end {
            ReceiverEnd::ReadOn => &self.messages,
            ReceiverEnd::Stop(_) | ReceiverEnd::Drop => &self.messages[..self.takes],
        }
    }
}

impl Outgoing {
    fn new(rng: &mut StdRng) -> Self {
        let length = match rng.random_range(0..10) {
            0 => 0,
            1..6 => rng.random_range(1..200),
            6..8 => rng.random_range(200..5000),
            8 => rng.random_range(5000..=FITTING_MAX),
            _ => rng.random_range(LENGTH_MAX + 1..LENGTH_MAX * 2),
        };
        let call = if rng.random_range(0..3) == 0 {
            Call::TrySend
        } else {
            Call::Send
        };
        let pause = rng.random_range(0..4) * rng.random_range(0..10);
        Self {
            length,
            fill: rng.random(),
            call,
            pause,
        }
    }

    fn message<S: Message>(&self) -> S {
        let letter = char::from(b'a' + self.fill % 26);
        S::new(letter.to_string().repeat(self.length))
    }
}

fn told_of<R: Message>(received: Result<Option<R>, ReceiveError>) -> String {
    let received = received.map(|message| message.map(|message| digest(&message)));
    format!("{received:?}")
}

/// A message in few words.
fn digest<M: Message>(message: &M) -> String {
    let text = message.text();
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    format!("{} bytes, {:x}", text.len(), hasher.finish())
}

const SEEDS: u64 = 40;
const LENGTH_MAX: usize = 50_000;
/// What fits the limit in every encoding.
const FITTING_MAX: usize = LENGTH_MAX - 100;
