//! What the hot paths cost in instructions, which repeat on a machine, however busy it is.
//!
//! Two nodes in one process, in the simulator: real QUIC and TLS, virtual time, one seed. Callgrind
//! counts a run and one of three times as many rounds; the difference is what the rounds cost, on
//! both nodes together and without what it takes to start them.

#![expect(clippy::print_stdout, reason = "a program whose output people read")]

use std::error::Error;
use std::process::Command;

use bytes::Bytes;
use clap::{Parser, ValueEnum};
use futures_lite::future::zip;
use grinta_proto::{Fabric, Flow, Raw};
use grinta_tests::{Host, Simulation};

/// Counts the instructions of the hot paths, by valgrind.
#[derive(Debug, Parser)]
struct Options {
    /// Counts this path alone.
    #[arg(long, value_enum)]
    only: Option<HotPath>,
    /// Goes along the path so many times, to be counted.
    #[arg(long, hide = true, requires = "only")]
    rounds: Option<u64>,
    /// What cargo adds.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is done in each round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum HotPath {
    /// A message of 64 bytes to another node and back, on a flow full of them.
    Message,
    /// A message of 64 KiB to another node and back, on a flow full of them.
    Bulk,
    /// A message of 64 bytes to another node and back, one after another.
    PingPong,
    /// A flow to another node with a request of 64 bytes, its response and its end.
    Request,
    /// A message of 64 bytes to a task of the same node and back, on a flow full of them.
    LocalMessage,
    /// A flow within the node with a request of 64 bytes, its response and its end.
    LocalRequest,
}

type Both = Flow<Bytes, Bytes>;

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    if let (Some(path), Some(rounds)) = (options.only, options.rounds) {
        path.walk(rounds);
        return Ok(());
    }
    let paths = match options.only {
        Some(path) => vec![path],
        None => HotPath::value_variants().to_vec(),
    };
    println!("{:<16}{:>16}", "path", "instructions");
    for path in paths {
        let rounds = path.rounds();
        let more = count(path, 3 * rounds)? - count(path, rounds)?;
        println!("{:<16}{:>16}", name(path), more / (2 * rounds));
    }
    Ok(())
}

impl HotPath {
    /// Enough for what happens once in a while to be in it.
    const fn rounds(self) -> u64 {
        match self {
            Self::Message | Self::LocalMessage => 20_000,
            Self::Bulk => 100,
            Self::PingPong | Self::Request | Self::LocalRequest => 500,
        }
    }

    const fn is_local(self) -> bool {
        match self {
            Self::Message | Self::Bulk | Self::PingPong | Self::Request => false,
            Self::LocalMessage | Self::LocalRequest => true,
        }
    }

    fn walk(self, rounds: u64) {
        let world = Simulation::new(1);
        let hosts = [world.host("server"), world.host("client")];
        world.block_on(async {
            let [server, client] = join(&hosts).await;
            let client = if self.is_local() { &server } else { &client };
            serve(&hosts[0], &server).await;
            match self {
                Self::Message | Self::LocalMessage => stream(client, 64, rounds).await,
                Self::Bulk => stream(client, 64 * 1024, rounds).await,
                Self::PingPong => ping_pong(client, rounds).await,
                Self::Request | Self::LocalRequest => request(client, rounds).await,
            }
        });
    }
}

/// Two nodes that know each other.
async fn join([one, two]: &[Host; 2]) -> [Fabric; 2] {
    let server = one.start(one.builder()).await.expect("it can start");
    server.join().await.expect("it is the first");
    let client = two.builder().neighbour("server:7400");
    let client = two.start(client).await.expect("it can start");
    client.join().await.expect("the server is there");
    [server, client]
}

/// Returns each message that comes, on any flow, and the end after the last.
async fn serve(host: &Host, fabric: &Fabric) {
    let endpoint = fabric.endpoint("echo").await.expect("nobody has it");
    let served = host.clone();
    host.spawn("echo", async move {
        while let Ok(incoming) = endpoint.accept().await {
            served.spawn("flow", async move {
                let mut flow: Both = incoming.bidi(Raw).expect("all speak bytes");
                while let Ok(Some(message)) = flow.recv().await {
                    flow.send(message).await.expect("the client reads");
                }
            });
        }
    });
}

async fn stream(client: &Fabric, length: usize, rounds: u64) {
    let message = Bytes::from(vec![7; length]);
    let (mut sender, mut receiver) = open(client).await.split();
    let send = async {
        for _ in 0..rounds {
            sender.send(message.clone()).await.expect("it is read");
        }
        drop(sender);
    };
    let receive = async { while receiver.recv().await.expect("it is served").is_some() {} };
    zip(send, receive).await;
}

async fn ping_pong(client: &Fabric, rounds: u64) {
    let message = Bytes::from_static(&[7; 64]);
    let mut flow = open(client).await;
    for _ in 0..rounds {
        flow.send(message.clone()).await.expect("it is read");
        flow.recv().await.expect("it is served");
    }
}

async fn request(client: &Fabric, rounds: u64) {
    let message = Bytes::from_static(&[7; 64]);
    for _ in 0..rounds {
        let dial = client.dial("echo").wait_for_name();
        let request = dial.request::<_, Bytes, _>(Raw, message.clone());
        let mut answers = request.await.expect("it is served");
        while answers.recv().await.expect("it is served").is_some() {}
    }
}

async fn open(client: &Fabric) -> Both {
    let dial = client.dial("echo").wait_for_name();
    dial.bidi(Raw).await.expect("it is served")
}

/// Instructions of a process that goes along a path so many times.
fn count(path: HotPath, rounds: u64) -> Result<u64, Box<dyn Error>> {
    let counted = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["--only", &name(path), "--rounds", &rounds.to_string()])
        .output()
        .map_err(|error| format!("cannot run valgrind, which counts: {error}"))?;
    let told = String::from_utf8_lossy(&counted.stderr);
    if !counted.status.success() {
        return Err(format!("{} failed: {told}", name(path)).into());
    }
    let collected = told
        .lines()
        .find_map(|line| line.split_once("Collected : "));
    let (_, instructions) = collected.ok_or("callgrind did not tell what it counted")?;
    Ok(instructions.trim().parse()?)
}

/// As the command line has it.
fn name(path: HotPath) -> String {
    let value = path.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}
