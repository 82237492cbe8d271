//! The application: endpoints, and talkers that write letters to any of them at random.
//!
//! Nothing here knows which runtime drives it, or which endpoints share the process. A
//! conversation is a flow: some letters there, a receipt back for each, and the end. The receipts
//! tell the sender how much was heard, so that what was sent can be accounted for at both ends.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use async_executor::LocalExecutor;
use clap::Parser;
use futures_lite::future::{or, pending, zip};
use grinta_proto::{
    AcceptError, Builder, Credentials, DevelopmentCa, DialError, DialStage, Endpoint, Fabric, Flow,
    Incoming, Json, PemFiles, Resolution,
};
use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

/// Endpoints, and as many talkers that write to them at random: in one process, or spread over
/// several, each of which takes a range of the `--endpoints` and names another as its `--neighbour`.
#[derive(Debug, Clone, Parser)]
pub(crate) struct Arguments {
    /// This node's name.
    #[arg(long, default_value = "node")]
    pub(crate) node: String,
    /// The endpoints that live here, each with its talker, as first..end; all of them unless said.
    #[arg(long, value_parser = range)]
    pub(crate) endpoints: Option<Range<u32>>,
    /// How many endpoints there are in all.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(2..=10_000))]
    pub(crate) of: u32,
    /// How long to talk, as 500ms, 10s or 2m; 10s unless `--messages` is said.
    #[arg(long = "for", value_parser = duration)]
    pub(crate) duration: Option<Duration>,
    /// How many letters each talker writes at the most.
    #[arg(long)]
    pub(crate) messages: Option<u64>,
    /// What the choice of partners follows from.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// The address to listen on.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,
    /// Where another node can be found, as host:port. May be given more than once.
    #[arg(long)]
    pub(crate) neighbour: Vec<String>,
    /// The CA's certificate, a PEM file. Without it, development credentials are made on the spot.
    #[arg(long, requires_all = ["certificate", "key"])]
    pub(crate) ca: Option<PathBuf>,
    /// This node's certificate chain, a PEM file.
    #[arg(long, requires = "ca")]
    pub(crate) certificate: Option<PathBuf>,
    /// This node's private key, a PEM file.
    #[arg(long, requires = "ca")]
    pub(crate) key: Option<PathBuf>,
}

/// Whatever goes wrong, told to a person.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What the arguments ask for, ready to be started on a runtime.
pub(crate) fn builder(arguments: &Arguments) -> Result<Builder, Failure> {
    let mut builder = Fabric::builder(&arguments.node)
        .listen(arguments.listen)
        .credentials(arguments.credentials()?);
    for neighbour in &arguments.neighbour {
        builder = builder.neighbour(neighbour);
    }
    Ok(builder)
}

/// Joins the fabric, talks for as long as the arguments say or until `interrupted`, and sums up.
/// `now` is the runtime's clock.
pub(crate) async fn run(
    fabric: &Fabric,
    arguments: &Arguments,
    now: impl Fn() -> Instant + 'static,
    interrupted: impl Future<Output = ()>,
) -> Result<(), Failure> {
    say(&format!("listening on {}", fabric.local_address()));
    let joined = fabric.join().await?;
    for (host, node) in &joined.reached {
        say(&format!("joined the fabric through {node} at {host}"));
    }
    let mut endpoints = Vec::new();
    for id in arguments.own_endpoints() {
        endpoints.push(fabric.endpoint(endpoint_name(id)).await?);
    }
    say(&format!("{} endpoints are open", endpoints.len()));
    let executor = Rc::new(LocalExecutor::new());
    let party = Party {
        fabric: fabric.clone(),
        arguments: arguments.clone(),
        now: Rc::new(now),
        executor: Rc::clone(&executor),
    };
    executor.run(party.go_on(endpoints, interrupted)).await
}

/// Tells a person what went wrong, and the shell that something did.
pub(crate) fn exit_code(outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One message of a conversation.
#[derive(Debug, Serialize, Deserialize)]
struct Letter {
    /// Its place in the conversation, from 0.
    number: u64,
    content: String,
}

/// The answer to a letter.
#[derive(Debug, Serialize, Deserialize)]
struct Receipt {
    /// How many letters of the conversation were heard by now.
    heard: u64,
}

/// The endpoints and talkers of this process.
struct Party {
    fabric: Fabric,
    arguments: Arguments,
    now: Rc<dyn Fn() -> Instant>,
    executor: Rc<LocalExecutor<'static>>,
}

impl Party {
    /// First the talkers end, which leaves nothing open that began here, and then the endpoints,
    /// once the conversations that others began with them have ended.
    async fn go_on(
        self,
        endpoints: Vec<Endpoint>,
        interrupted: impl Future<Output = ()>,
    ) -> Result<(), Failure> {
        let (hush, hushed) = signal();
        let (close, closed) = signal();
        let (talking, silence) = signal();
        let listeners: Vec<_> = endpoints
            .into_iter()
            .map(|endpoint| self.spawn(self.listener(endpoint).listen(closed.clone())))
            .collect();
        let ids = self.arguments.own_endpoints();
        let talkers: Vec<_> = ids
            .map(|id| self.spawn(self.talker(id, hushed.clone()).talk()))
            .collect();

        let mut sent = Sent::default();
        let gather = async {
            for talker in talkers {
                sent.add(talker.await);
            }
            drop(talking);
        };
        let watch = async {
            or(or(self.time_is_up(), interrupted), silence.heard()).await;
            drop(hush);
        };
        zip(gather, watch).await;
        drop(close);
        let mut heard = Heard::default();
        for listener in listeners {
            heard.add(&listener.await);
        }
        self.sum_up(&mut sent, &heard)
    }

    fn spawn<T: 'static>(
        &self,
        future: impl Future<Output = T> + 'static,
    ) -> async_executor::Task<T> {
        self.executor.spawn(future)
    }

    fn listener(&self, endpoint: Endpoint) -> Listener {
        Listener {
            endpoint,
            executor: Rc::clone(&self.executor),
            tally: Rc::default(),
        }
    }

    fn talker(&self, id: u32, hushed: Signal) -> Talker {
        Talker {
            fabric: self.fabric.clone(),
            id,
            of: self.arguments.of,
            unwritten: self.arguments.messages.unwrap_or(u64::MAX),
            rng: StdRng::seed_from_u64(self.arguments.seed ^ (u64::from(id) << 32)),
            now: Rc::clone(&self.now),
            hushed,
            tally: Sent::default(),
        }
    }

    async fn time_is_up(&self) {
        let limited = self.arguments.messages.is_some();
        match self.arguments.duration {
            Some(duration) => self.fabric.sleep(duration).await,
            None if limited => pending().await,
            None => self.fabric.sleep(TALK_TIME).await,
        }
    }

    /// Says what became of every letter. That one is missing is an error.
    fn sum_up(&self, sent: &mut Sent, heard: &Heard) -> Result<(), Failure> {
        sent.tell();
        heard.tell();
        let mut missing = sent.unaccounted + heard.disordered;
        if self.arguments.is_alone() {
            // Each letter that was sent was heard here, but for those that were told as lost.
            let expected = sent.confirmed..=sent.letters;
            missing += u64::from(!expected.contains(&heard.letters));
        }
        if missing > 0 {
            return Err("some letters are not accounted for".into());
        }
        say("every letter is accounted for");
        Ok(())
    }
}

/// Writes to one endpoint after the other.
struct Talker {
    fabric: Fabric,
    id: u32,
    of: u32,
    unwritten: u64,
    rng: StdRng,
    now: Rc<dyn Fn() -> Instant>,
    hushed: Signal,
    tally: Sent,
}

impl Talker {
    async fn talk(mut self) -> Sent {
        while self.unwritten > 0 {
            let pause = Duration::from_millis(self.rng.random_range(0..=PAUSE_MS_MAX));
            if !self.wait(pause).await {
                break;
            }
            // Whoever is not there now is not missed; whoever goes meanwhile is.
            let Some(partner) = self.partner() else {
                continue;
            };
            if let Some(flow) = self.reach(partner).await {
                self.converse(flow).await;
            }
        }
        self.tally
    }

    /// Any endpoint but one's own that somebody holds.
    fn partner(&mut self) -> Option<u32> {
        let others = (1..self.of).map(|step| (self.id + step) % self.of);
        let there = others.filter(|other| {
            let holder = self.fabric.resolve(endpoint_name(*other));
            matches!(holder, Ok(Resolution::Local | Resolution::Remote { .. }))
        });
        there.choose(&mut self.rng)
    }

    /// Waits, unless it is time to end.
    async fn wait(&self, pause: Duration) -> bool {
        let wait = async {
            self.fabric.sleep(pause).await;
            true
        };
        let hushed = async {
            self.hushed.heard().await;
            false
        };
        or(hushed, wait).await
    }

    /// Dials a partner. What may succeed a little later is tried again.
    async fn reach(&mut self, partner: u32) -> Option<Flow<Letter, Receipt>> {
        for attempt in 1..=DIALS_MAX {
            let dial = self.fabric.dial(endpoint_name(partner));
            let dial = dial.wait_for_name().deadline(DIAL_TIMEOUT);
            let dial = async { Some(dial.bidi(Json).await) };
            let hushed = async {
                self.hushed.heard().await;
                None
            };
            match or(hushed, dial).await? {
                Ok(flow) => return Some(flow),
                Err(error) => {
                    let again = error.is_retryable() && attempt < DIALS_MAX;
                    self.tally.note_failure(error);
                    if !again || !self.wait(RETRY_PAUSE).await {
                        return None;
                    }
                }
            }
        }
        None
    }

    /// Writes some letters, reads what became of them, and draws the balance.
    async fn converse(&mut self, flow: Flow<Letter, Receipt>) {
        let letters = self.rng.random_range(1..=LETTERS_MAX).min(self.unwritten);
        self.unwritten -= letters;
        let (mut sender, mut receiver) = flow.split();
        let written = RefCell::new(Vec::new());
        let write = async {
            for number in 0..letters {
                let content = format!("letter {number} from {}", self.id);
                let at = (self.now)();
                written.borrow_mut().push(at);
                if let Err(error) = sender.send(Letter { number, content }).await {
                    written.borrow_mut().pop();
                    return Some(error.to_string());
                }
            }
            sender.finish().await.err().map(|error| error.to_string())
        };
        let read = async {
            let mut confirmed = 0;
            let mut latencies = Vec::new();
            loop {
                match receiver.recv().await {
                    Ok(Some(receipt)) => {
                        let Some(at) = written.borrow().get(confirmed).copied() else {
                            return (confirmed, latencies, Some("a receipt too many".to_owned()));
                        };
                        latencies.push((self.now)().saturating_duration_since(at));
                        confirmed += 1;
                        if receipt.heard != confirmed as u64 {
                            return (confirmed, latencies, Some("a wrong receipt".to_owned()));
                        }
                    }
                    Ok(None) => return (confirmed, latencies, None),
                    Err(error) => return (confirmed, latencies, Some(error.to_string())),
                }
            }
        };
        let (not_written, (confirmed, latencies, not_read)) = zip(write, read).await;
        let (sent, confirmed) = (written.borrow().len() as u64, confirmed as u64);
        let balance = &mut self.tally;
        balance.conversations += 1;
        balance.letters += sent;
        balance.confirmed += confirmed;
        balance.latencies.extend(latencies);
        match not_read.or(not_written) {
            Some(cause) => {
                *balance.broken.entry(cause).or_default() += 1;
                balance.lost += sent - confirmed;
            }
            None => balance.unaccounted += sent - confirmed,
        }
    }
}

/// Takes the conversations of one endpoint.
struct Listener {
    endpoint: Endpoint,
    executor: Rc<LocalExecutor<'static>>,
    tally: Rc<RefCell<Heard>>,
}

impl Listener {
    /// Takes what comes until `closed`, gives the name up, and ends with the last conversation.
    async fn listen(self, closed: Signal) -> Heard {
        let (hearing, all_heard) = signal();
        loop {
            let accept = async { Some(self.endpoint.accept().await) };
            let end = async {
                closed.heard().await;
                None
            };
            match or(end, accept).await {
                Some(Ok(incoming)) => {
                    let hear = hear(incoming, Rc::clone(&self.tally), hearing.clone());
                    self.executor.spawn(hear).detach();
                }
                None | Some(Err(AcceptError::Closed)) => break,
                Some(Err(error)) => say(&format!("an endpoint goes on: {error}")),
            }
        }
        drop((self.endpoint, hearing));
        all_heard.heard().await;
        self.tally.take()
    }
}

/// Hears one conversation to its end, and gives a receipt for each letter.
async fn hear(incoming: Incoming, tally: Rc<RefCell<Heard>>, _hearing: Token) {
    // A dialler may give up before it is heard.
    let Ok(mut flow) = incoming.bidi::<Receipt, Letter, _>(Json) else {
        return;
    };
    tally.borrow_mut().conversations += 1;
    let mut heard = 0;
    let end = loop {
        match flow.recv().await {
            Ok(Some(letter)) => {
                tally.borrow_mut().note(&letter, heard);
                heard += 1;
                // Whoever takes no receipt any more has been told why; its letters are heard still.
                let _ = flow.send(Receipt { heard }).await;
            }
            Ok(None) => break flow.sender.finish().await.is_ok(),
            Err(_) => break false,
        }
    };
    tally.borrow_mut().broken += u64::from(!end);
}

/// What the talkers know.
#[derive(Default)]
struct Sent {
    conversations: u64,
    /// Letters that a flow accepted. They are `confirmed`, `lost` or `unaccounted` at the end.
    letters: u64,
    /// Letters for which there is a receipt.
    confirmed: u64,
    /// Letters without a receipt on flows that told that they broke.
    lost: u64,
    /// Letters without a receipt on flows that ended well.
    unaccounted: u64,
    latencies: Vec<Duration>,
    /// Why flows broke.
    broken: BTreeMap<String, u64>,
    /// Dials that failed, by how far they came, and why the last one did.
    failures: BTreeMap<DialStage, (u64, String)>,
}

impl Sent {
    fn note_failure(&mut self, error: DialError) {
        let (count, cause) = self.failures.entry(error.stage).or_default();
        *count += 1;
        *cause = error.to_string();
    }

    fn add(&mut self, other: Self) {
        self.conversations += other.conversations;
        self.letters += other.letters;
        self.confirmed += other.confirmed;
        self.lost += other.lost;
        self.unaccounted += other.unaccounted;
        self.latencies.extend(other.latencies);
        for (cause, times) in other.broken {
            *self.broken.entry(cause).or_default() += times;
        }
        for (stage, (times, cause)) in other.failures {
            let (count, last) = self.failures.entry(stage).or_default();
            *count += times;
            *last = cause;
        }
    }

    fn tell(&mut self) {
        let Self {
            conversations,
            letters,
            confirmed,
            lost,
            unaccounted,
            latencies,
            broken,
            failures,
        } = self;
        say(&format!(
            "sent {letters} letters in {conversations} conversations: {confirmed} confirmed, \
             {lost} told as lost, {unaccounted} unaccounted for"
        ));
        for (cause, times) in broken {
            say(&format!("{times} conversations broke: {cause}"));
        }
        for (stage, (times, cause)) in failures {
            say(&format!(
                "{times} dials failed while {stage}; the last: {cause}"
            ));
        }
        latencies.sort_unstable();
        if let Some(most) = latencies.last() {
            let at = |percent: usize| latencies[(latencies.len() - 1) * percent / 100];
            say(&format!(
                "from letter to receipt: half within {:.1?}, 90 % within {:.1?}, 99 % within {:.1?}, \
                 all within {most:.1?}",
                at(50),
                at(90),
                at(99),
            ));
        }
    }
}

/// What the listeners know.
#[derive(Default)]
struct Heard {
    conversations: u64,
    letters: u64,
    /// Letters that were not the next of their conversation.
    disordered: u64,
    /// Conversations that ended otherwise than well.
    broken: u64,
}

impl Heard {
    fn note(&mut self, letter: &Letter, expected: u64) {
        self.letters += 1;
        self.disordered += u64::from(letter.number != expected);
    }

    const fn add(&mut self, other: &Self) {
        self.conversations += other.conversations;
        self.letters += other.letters;
        self.disordered += other.disordered;
        self.broken += other.broken;
    }

    fn tell(&self) {
        let Self {
            conversations,
            letters,
            disordered,
            broken,
        } = self;
        say(&format!(
            "heard {letters} letters in {conversations} conversations: {disordered} out of order, \
             {broken} conversations broken off"
        ));
    }
}

impl Arguments {
    fn own_endpoints(&self) -> Range<u32> {
        let own = self.endpoints.clone().unwrap_or(0..self.of);
        own.start..own.end.min(self.of)
    }

    fn is_alone(&self) -> bool {
        self.own_endpoints() == (0..self.of)
    }

    /// From the files that were named. Else made on the spot: for this process alone, or, when it
    /// is one of several, from the development CA that this user's processes share.
    fn credentials(&self) -> Result<Credentials, Failure> {
        if let (Some(ca), Some(certificate), Some(key)) = (&self.ca, &self.certificate, &self.key) {
            let files = PemFiles {
                ca: ca.clone(),
                certificate: certificate.clone(),
                key: key.clone(),
                revocation_lists: vec![],
            };
            return Ok(Credentials::from_pem_files(&files)?);
        }
        let name = self.node.parse()?;
        if self.is_alone() {
            return Ok(Credentials::development(&name)?);
        }
        let ca = DevelopmentCa::open(&DevelopmentCa::default_directory()?)?;
        Ok(ca.issue(&name)?)
    }
}

/// Keeps a signal silent; given when the last of its copies is dropped.
#[derive(Clone)]
struct Token {
    _sender: async_channel::Sender<Infallible>,
}

/// Something that tasks wait for.
#[derive(Clone)]
struct Signal {
    receiver: async_channel::Receiver<Infallible>,
}

impl Signal {
    async fn heard(&self) {
        let Err(async_channel::RecvError) = self.receiver.recv().await;
    }
}

fn signal() -> (Token, Signal) {
    let (_sender, receiver) = async_channel::bounded(1);
    (Token { _sender }, Signal { receiver })
}

fn endpoint_name(id: u32) -> String {
    format!("endpoint-{id}")
}

fn range(text: &str) -> Result<Range<u32>, String> {
    let range = text.split_once("..").and_then(|(first, end)| {
        let (first, end) = (first.parse().ok()?, end.parse().ok()?);
        (first < end).then_some(first..end)
    });
    range.ok_or_else(|| "say first..end, as 0..5".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    let (digits, unit) = text.split_at(text.find(char::is_alphabetic).unwrap_or(text.len()));
    let unit = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        _ => return Err("say how many of what: 500ms, 10s or 2m".to_owned()),
    };
    let count: u64 = digits.parse().map_err(|error| format!("{error}"))?;
    let millis = count.checked_mul(unit).ok_or("that is too long")?;
    Ok(Duration::from_millis(millis))
}

fn say(what: &str) {
    println!("{what}");
}

/// How long to talk unless the arguments say.
const TALK_TIME: Duration = Duration::from_secs(10);
/// A talker rests up to so long between conversations.
const PAUSE_MS_MAX: u64 = 100;
/// The most letters of a conversation.
const LETTERS_MAX: u64 = 20;
/// How long a dial waits for its name, too: about as long as a restart takes.
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a partner is dialled before another is chosen.
const DIALS_MAX: u32 = 3;
const RETRY_PAUSE: Duration = Duration::from_millis(100);
