//! The application: a server that waits for "hello, world!", and a client that says it.
//!
//! Nothing here knows which runtime drives it, or whether the two share a process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use grinta_proto::{
    AcceptError, Builder, Credentials, DevelopmentCa, Endpoint, Fabric, MemberEvent, PemFiles, Raw,
};

/// Says "hello, world!" over a fabric: in one process with both `--server` and `--client`, or in
/// two, where the second names the first as its `--neighbour`.
#[derive(Debug, Clone, Parser)]
pub(crate) struct Arguments {
    /// Holds the endpoint and waits for the words.
    #[arg(long, required_unless_present = "client")]
    pub(crate) server: bool,
    /// Dials the endpoint and says the words.
    #[arg(long)]
    pub(crate) client: bool,
    /// This node's name; made of the roles unless said.
    #[arg(long)]
    pub(crate) name: Option<String>,
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
    let name = arguments.node_name();
    let mut builder = Fabric::builder(&name)
        .listen(arguments.listen)
        .credentials(arguments.credentials(&name)?);
    for neighbour in &arguments.neighbour {
        builder = builder.neighbour(neighbour);
    }
    Ok(builder)
}

/// Runs the roles that the arguments ask for, until the words were said and heard.
pub(crate) async fn run(fabric: &Fabric, arguments: &Arguments) -> Result<(), Failure> {
    say(&format!("listening on {}", fabric.local_address()));
    let joined = fabric.join().await?;
    for (host, node) in &joined.reached {
        say(&format!("joined the fabric through {node} at {host}"));
    }
    let roles = async {
        match (arguments.server, arguments.client) {
            (true, true) => {
                let endpoint = open(fabric).await?;
                both(serve(endpoint), greet(fabric)).await
            }
            (true, false) => serve(open(fabric).await?).await,
            (false, _) => greet(fabric).await,
        }
    };
    alongside(roles, announce_members(fabric)).await
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

/// Opens the endpoint. The name is ours from here on, wherever the dialler is.
async fn open(fabric: &Fabric) -> Result<Endpoint, Failure> {
    let endpoint = fabric.endpoint("server").await?;
    say(&format!(
        "the endpoint `server` lives on {}; waiting for my hello world",
        fabric.node()
    ));
    Ok(endpoint)
}

/// Takes flows until one of them has brought the words.
async fn serve(endpoint: Endpoint) -> Result<(), Failure> {
    loop {
        let incoming = match endpoint.accept().await {
            Ok(incoming) => incoming,
            Err(error @ AcceptError::Closed) => return Err(error.into()),
            Err(error) => {
                say(&format!("the server goes on: {error}"));
                continue;
            }
        };
        say(&format!(
            "the server accepts a flow through {}",
            incoming.path()
        ));
        let mut receiver = incoming.receiver::<String, _>(Raw)?;
        let mut heard = String::new();
        while let Some(message) = receiver.recv().await? {
            say(&format!("the server received {message:?}"));
            heard.push_str(&message);
        }
        if heard == "hello, world!" {
            say("the server received a cute \"hello, world!\" and can leave now");
            return Ok(());
        }
    }
}

/// Says the words in two messages, a moment apart.
async fn greet(fabric: &Fabric) -> Result<(), Failure> {
    let dial = fabric.dial("server").sender::<String, _>(Raw);
    let mut sender = dial.wait_for_name().await?;
    say(&format!(
        "the client dialled `server` through {}",
        sender.path()
    ));
    sender.send("hello".to_owned()).await?;
    say("the client sent \"hello\"");
    fabric.sleep(Duration::from_secs(1)).await;
    sender.send(", world!".to_owned()).await?;
    say("the client sent \", world!\"");
    sender.finish().await?;
    say("the client knows that all of it arrived");
    Ok(())
}

/// Says who comes and goes, for ever.
async fn announce_members(fabric: &Fabric) {
    let mut watch = fabric.watch_members();
    loop {
        match watch.next().await {
            Ok(MemberEvent::Up(member)) if member.name != *fabric.node() => {
                say(&format!("{} at {} is up", member.name, member.address));
            }
            Ok(MemberEvent::Left(member)) => say(&format!("{} left", member.name)),
            Ok(MemberEvent::Down(member)) => say(&format!("{} is down", member.name)),
            Ok(_) => {}
            Err(_) => return std::future::pending().await,
        }
    }
}

impl Arguments {
    fn node_name(&self) -> String {
        let role = match (self.server, self.client) {
            (true, true) => "node",
            (true, false) => "server",
            (false, _) => "client",
        };
        self.name.clone().unwrap_or_else(|| role.to_owned())
    }

    /// From the files that were named. Else made on the spot: for this process alone, or, when it
    /// is one of several, from the development CA that this user's processes share.
    fn credentials(&self, name: &str) -> Result<Credentials, Failure> {
        if let (Some(ca), Some(certificate), Some(key)) = (&self.ca, &self.certificate, &self.key) {
            let files = PemFiles {
                ca: ca.clone(),
                certificate: certificate.clone(),
                key: key.clone(),
                revocation_lists: vec![],
            };
            return Ok(Credentials::from_pem_files(&files)?);
        }
        let name = name.parse()?;
        if self.server && self.client {
            return Ok(Credentials::development(&name)?);
        }
        let ca = DevelopmentCa::open(&DevelopmentCa::default_directory()?)?;
        Ok(ca.issue(&name)?)
    }
}

/// Runs both to their ends, the first error ending the other.
async fn both(
    first: impl Future<Output = Result<(), Failure>>,
    second: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    futures_lite::future::try_zip(first, second).await?;
    Ok(())
}

/// Runs `main` to its end, with `beside` beside it.
async fn alongside<T>(main: impl Future<Output = T>, beside: impl Future<Output = ()>) -> T {
    futures_lite::future::or(main, async {
        beside.await;
        std::future::pending().await
    })
    .await
}

fn say(what: &str) {
    println!("{what}");
}
