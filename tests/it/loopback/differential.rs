//! The same script over a flow within a node and over one between two gives the same history.
//!
//! A script says for each direction what its two programs do: send or try to send, in which sizes
//! and with which pauses; take so many messages; and how each of them ends. A program sees results,
//! and what it sees is its history: which messages in which order, which errors, which end. How far
//! one side is ahead of the other is no promise, so where an end would overtake messages, its
//! program waits for the other side to have taken them.

use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use futures_lite::future::{yield_now, zip};
use grinta_proto::{Codec, Fabric, Raw, ReceiveError, Receiver, SendCause, Sender};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{Sides, World};

node_stories! {
    the_same_script_gives_the_same_history_here_and_there,
    the_same_script_gives_the_same_history_between_different_types,
}

async fn the_same_script_gives_the_same_history_here_and_there(world: &World) {
    compare::<Bytes>(world).await;
}

async fn the_same_script_gives_the_same_history_between_different_types(world: &World) {
    compare::<Vec<u8>>(world).await;
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

/// What the programs of a direction saw.
#[derive(Debug, Default, PartialEq, Eq)]
struct History {
    sender: Vec<String>,
    receiver: Vec<String>,
}

/// Runs scripts at both places, with messages that are sent as `Bytes` and received as `T`.
async fn compare<T>(world: &World)
where
    T: AsRef<[u8]> + Send + 'static,
    Raw: Codec<T>,
{
    let remote = world.sides_with(|builder| {
        builder.configure(|config| config.limits.message_len_max = LENGTH_MAX)
    });
    let remote = remote.await;
    for seed in 0..SEEDS {
        // Shown only if the story fails.
        eprintln!("seed {seed}");
        let mut rng = StdRng::seed_from_u64(seed);
        let scripts = [Script::new(&mut rng), Script::new(&mut rng)];
        let here = run::<T>(&remote, &remote.server, &scripts).await;
        let there = run::<T>(&remote, &remote.client, &scripts).await;
        assert_eq!(here, there, "seed {seed}: {scripts:#?}");
    }
}

/// Runs a script each way, over two flows at once.
async fn run<T>(sides: &Sides, dialler: &Fabric, scripts: &[Script; 2]) -> [History; 2]
where
    T: AsRef<[u8]> + Send + 'static,
    Raw: Codec<T>,
{
    let dial = async {
        let dial = dialler.dial("service").wait_for_name();
        dial.sender::<Bytes, _>(Raw).await.unwrap()
    };
    let accept = async {
        let incoming = sides.endpoint.accept().await.unwrap();
        incoming.receiver::<T, _>(Raw).unwrap()
    };
    let (sender, receiver) = zip(dial, accept).await;
    let dial = async {
        let dial = dialler.dial("service").wait_for_name();
        dial.receiver::<T, _>(Raw).await.unwrap()
    };
    let accept = async {
        let incoming = sides.endpoint.accept().await.unwrap();
        incoming.sender::<Bytes, _>(Raw).unwrap()
    };
    let (back_receiver, back_sender) = zip(dial, accept).await;
    let (first, second) = zip(
        scripts[0].play(sender, receiver),
        scripts[1].play(back_sender, back_receiver),
    )
    .await;
    [first, second]
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

    async fn play<T: AsRef<[u8]> + Send + 'static>(
        &self,
        sender: Sender<Bytes>,
        receiver: Receiver<T>,
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
    async fn send(
        &self,
        mut sender: Sender<Bytes>,
        told: smol::channel::Receiver<()>,
        history: &mut Vec<String>,
    ) {
        let reads_on = matches!(self.receiver_end, ReceiverEnd::ReadOn);
        for outgoing in self.expected() {
            for _ in 0..outgoing.pause {
                yield_now().await;
            }
            let message = outgoing.message();
            let sent = match outgoing.call {
                Call::Send => sender.send(message).await,
                Call::TrySend => match sender.try_send(message) {
                    Err(error) if error.cause == SendCause::Full => {
                        sender.send(error.into_message()).await
                    }
                    tried => tried,
                },
            };
            let sent = sent.map_err(|error| (error.cause.clone(), digest(&error.into_message())));
            history.push(format!("{sent:?}"));
        }
        if !reads_on {
            // The receiver has ended: that is learnt sooner or later, and from then on for ever.
            told.recv().await.unwrap();
            let refused = loop {
                if let Err(error) = sender.send(Bytes::from_static(b"in vain")).await {
                    break error.cause;
                }
                yield_now().await;
            };
            history.push(format!("{refused:?}"));
            let again = sender.try_send(Bytes::from_static(b"in vain"));
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

    async fn receive<T: AsRef<[u8]> + Send + 'static>(
        &self,
        mut receiver: Receiver<T>,
        taken: smol::channel::Sender<()>,
        history: &mut Vec<String>,
    ) {
        let (every, times) = self.rests;
        let fitting = self.expected().iter();
        let fitting = fitting.filter(|outgoing| outgoing.length <= LENGTH_MAX);
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
            8 => rng.random_range(5000..=LENGTH_MAX),
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

    fn message(&self) -> Bytes {
        Bytes::from(vec![self.fill; self.length])
    }
}

fn told_of<T: AsRef<[u8]>>(received: Result<Option<T>, ReceiveError>) -> String {
    let received = received.map(|message| message.map(|message| digest(message.as_ref())));
    format!("{received:?}")
}

/// A message in few words.
fn digest(message: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    message.hash(&mut hasher);
    format!("{} bytes, {:x}", message.len(), hasher.finish())
}

const SEEDS: u64 = 40;
const LENGTH_MAX: usize = 50_000;
