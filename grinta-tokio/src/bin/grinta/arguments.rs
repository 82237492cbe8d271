//! What can be asked for.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use grinta_tokio::{EndpointName, NodeName};

/// Nodes, names and flows of a Grinta fabric.
#[derive(Debug, Parser)]
#[command(name = "grinta", version, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    /// What to log to standard error, as tracing's filters say it: `info`, `grinta::member=debug`, …
    #[arg(long, global = true, env = "GRINTA_LOG", default_value = "warn")]
    pub(crate) log: String,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs a node until it is interrupted, and says how others join it.
    Up(Up),
    /// Lists the members.
    Members(Members),
    /// Lists the names and who owns them.
    Names(Names),
    /// Says who owns a name and why, and dials it.
    Explain(Explain),
    /// Holds an endpoint; what comes on its flows goes to standard output, standard input into them.
    Listen(Listen),
    /// Opens a flow; standard input goes into it, what comes back to standard output.
    Dial(Dial),
    /// Sends requests and prints the answers.
    Call(Call),
    /// Listens on a TCP port of this machine; each connection becomes a flow to an endpoint.
    Forward(Forward),
    /// Holds an endpoint; each flow becomes a TCP connection to a port that this machine reaches.
    Expose(Expose),
    /// Measures flows to an endpoint that `grinta listen --keep --echo` holds.
    Bench(Bench),
    /// Checks certificate, network, clocks and names, and says what is in the way.
    Doctor(Doctor),
    /// Shows who is there and what goes on, again and again.
    Top(Top),
    /// Asks a node that `grinta up` runs to leave in order.
    Leave(Leave),
    /// Makes and reads certificates.
    Cert(Cert),
    /// Prints completions for a shell.
    Completions {
        /// For which shell.
        shell: Shell,
    },
}

/// How to be a node of the fabric.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Node")]
pub(crate) struct Attachment {
    /// Where a node of the fabric listens, as host:port. May be given more than once.
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "GRINTA_JOIN",
        value_delimiter = ','
    )]
    pub(crate) join: Vec<String>,
    /// This node's name. Unless given, the one in the certificate; with --dev, a name made up.
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<NodeName>,
    /// The fabric's name.
    #[arg(long, env = "GRINTA_FABRIC", default_value = "default")]
    pub(crate) fabric: String,
    /// The UDP address to use. Unless given, any port of the address that leads to --join.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) bind: Option<SocketAddr>,
    /// Where others reach this node, if that is not where it listens.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) advertise: Option<SocketAddr>,
    /// Uses development credentials, which all processes of this user share. Never for production.
    #[arg(long, conflicts_with_all = ["ca", "certificate", "key"])]
    pub(crate) dev: bool,
    /// The CA's certificate, a PEM file.
    #[arg(long, value_name = "FILE", env = "GRINTA_CA", requires_all = ["certificate", "key"])]
    pub(crate) ca: Option<PathBuf>,
    /// This node's certificate and its chain, a PEM file.
    #[arg(long, value_name = "FILE", env = "GRINTA_CERTIFICATE", requires = "ca")]
    pub(crate) certificate: Option<PathBuf>,
    /// This node's private key, a PEM file.
    #[arg(long, value_name = "FILE", env = "GRINTA_KEY", requires = "ca")]
    pub(crate) key: Option<PathBuf>,
    /// A certificate revocation list, a PEM file. May be given more than once.
    #[arg(long, value_name = "FILE", requires = "ca")]
    pub(crate) crl: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Holds this endpoint beside, as `grinta listen --keep` does.
    #[arg(long, value_name = "NAME")]
    pub(crate) listen: Option<EndpointName>,
    /// Says something of this node to the others, as key=value. May be given more than once.
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) label: Vec<(String, String)>,
    /// Detects failures within three seconds, at twice the traffic.
    #[arg(long)]
    pub(crate) fast: bool,
    /// Leaves when this node says `grinta leave`. May be given more than once; with --dev all may.
    #[arg(long, value_name = "NODE", conflicts_with = "dev")]
    pub(crate) operator: Vec<NodeName>,
    /// Prints what happens as JSON, one object a line.
    #[arg(long, conflicts_with = "listen")]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) attachment: Attachment,
}

#[derive(Debug, Args)]
pub(crate) struct Members {
    /// Goes on with the changes.
    #[arg(long)]
    pub(crate) watch: bool,
    /// Prints JSON: an array, or one object a line with --watch.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) attachment: Attachment,
}

#[derive(Debug, Args)]
pub(crate) struct Names {
    /// Only names that begin so. Those that begin with `grinta.`, which are the command's own, are
    /// told only of a prefix that does.
    #[arg(default_value = "")]
    pub(crate) prefix: String,
    /// Goes on with the changes.
    #[arg(long)]
    pub(crate) watch: bool,
    /// Prints JSON: an array, or one object a line with --watch.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) attachment: Attachment,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The name.
    pub(crate) name: EndpointName,
    /// Does not dial: the endpoint's program notices nothing.
    #[arg(long)]
    pub(crate) no_dial: bool,
    /// Prints one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) attachment: Attachment,
}

/// What flows carry.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Contents {
    /// Each line is a message of text, as of a program that sends `String` with the codec `Raw`.
    /// Else messages are bytes, cut anywhere.
    #[arg(long)]
    pub(crate) lines: bool,
    /// As --lines; what comes is printed as JSON, one object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Listen {
    /// The endpoint's name.
    pub(crate) name: EndpointName,
    /// Takes one flow after the other, instead of one.
    #[arg(long, short)]
    pub(crate) keep: bool,
    /// Takes over when whoever owns the name gives it up.
    #[arg(long)]
    pub(crate) standby: bool,
    /// Sends back what comes, for `grinta bench`; nothing is printed.
    #[arg(long, conflicts_with_all = ["exec", "lines", "json"])]
    pub(crate) echo: bool,
    /// Runs a command for each flow, at the same time, with the flow as its input and output.
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["lines", "json"])]
    pub(crate) exec: Option<String>,
    #[command(flatten)]
    pub(crate) contents: Contents,
    #[command(flatten)]
    pub(crate) attachment: Attachment,
}

/// How to dial.
#[derive(Debug, Clone, Args)]
pub(crate) struct Dialling {
    /// The endpoint's name.
    pub(crate) name: EndpointName,
    /// Waits for a name that nobody holds.
    #[arg(long)]
    pub(crate) wait: bool,
    /// Dials this node alone, of those that share the name.
    #[arg(long, value_name = "NODE")]
    pub(crate) at: Option<NodeName>,
    /// How long to try, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct Dial {
    #[command(flatten)]
    pub(crate) dialling: Dialling,
    /// For endpoints that send nothing.
    #[arg(long, conflicts_with = "receive_only")]
    pub(crate) send_only: bool,
    /// For endpoints that take nothing.
    #[arg(long)]
    pub(crate) receive_only: bool,
    #[command(flatten)]
    pub(crate) contents: Contents,
    #[command(flatten)]
    pub(crate) attachment: Attachment,
}

#[derive(Debug, Args)]
pub(crate) struct Call {
    #[command(flatten)]
    pub(crate) dialling: Dialling,
    /// The request. Without one, each line of standard input is a request.
    pub(crate) request: Option<String>,
    #[command(flatten)]
    pub(crate) attachment: Attachment,
}

#[derive(Debug, Args)]
pub(crate) struct Forward {
    #[command(flatten)]
    pub(crate) dialling: Dialling,
    /// Where to listen: `tcp:PORT`, on the loopback address, or `tcp:ADDRESS:PORT`.
    #[arg(value_parser = tcp)]
    pub(crate) tcp: SocketAddr,
    #[command(flatten)]
    pub(crate) attachment: Attachment,
}

#[derive(Debug, Args)]
pub(crate) struct Expose {
    /// Where to connect to: `tcp:PORT`, on the loopback address, or `tcp:ADDRESS:PORT`.
    #[arg(value_parser = tcp)]
    pub(crate) tcp: SocketAddr,
    /// The endpoint's name.
    pub(crate) name: EndpointName,
    #[command(flatten)]
    pub(crate) attachment: Attachment,
}

#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    pub(crate) command: BenchCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// How long a message takes there and back.
    Rtt {
        /// How many.
        #[arg(long, default_value = "1000", value_parser = count())]
        count: u32,
        /// Bytes in a message.
        #[arg(long, default_value = "64", value_parser = size)]
        size: usize,
        #[command(flatten)]
        measured: Measured,
    },
    /// How long it takes to open a flow.
    Dial {
        /// How many.
        #[arg(long, default_value = "1000", value_parser = count())]
        count: u32,
        #[command(flatten)]
        measured: Measured,
    },
    /// How much goes through one flow, one way.
    Bulk {
        /// For how long, in seconds.
        #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
        duration: Duration,
        /// Bytes in a message.
        #[arg(long, default_value = "65536", value_parser = size)]
        size: usize,
        #[command(flatten)]
        measured: Measured,
    },
}

/// What is measured, and how it is told.
#[derive(Debug, Args)]
pub(crate) struct Measured {
    #[command(flatten)]
    pub(crate) dialling: Dialling,
    /// Prints JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) attachment: Attachment,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) attachment: Attachment,
}

#[derive(Debug, Args)]
pub(crate) struct Top {
    /// How long to wait between two looks, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    pub(crate) interval: Duration,
    /// Looks for one interval, prints what it saw, and ends.
    #[arg(long)]
    pub(crate) once: bool,
    /// Prints JSON, one object a line.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) attachment: Attachment,
}

#[derive(Debug, Args)]
pub(crate) struct Leave {
    /// The node that is to leave.
    #[arg(value_name = "NODE")]
    pub(crate) whom: NodeName,
    #[command(flatten)]
    pub(crate) attachment: Attachment,
}

#[derive(Debug, Args)]
pub(crate) struct Cert {
    #[command(subcommand)]
    pub(crate) command: CertCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CertCommand {
    /// Makes a CA: `ca.pem`, for all nodes, and `ca.key`, which stays where certificates are issued.
    Ca {
        /// Where to put the two files.
        #[arg(long, value_name = "DIRECTORY", default_value = ".")]
        out: PathBuf,
        /// Until when it is good, in days from now.
        #[arg(long, default_value = "3650", value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
    },
    /// Issues a certificate to a node: `NAME.pem` and `NAME.key`.
    Issue(Issue),
    /// As `issue`, for a node that has a key already, which it keeps.
    Renew(Issue),
    /// Says which nodes a certificate is good for, who issued it, and until when it is valid.
    Inspect {
        /// A PEM file.
        file: PathBuf,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Issue {
    /// The node's name.
    pub(crate) name: NodeName,
    /// Where the CA's files are.
    #[arg(long, value_name = "DIRECTORY", default_value = ".")]
    pub(crate) ca: PathBuf,
    /// Where to put the node's files.
    #[arg(long, value_name = "DIRECTORY", default_value = ".")]
    pub(crate) out: PathBuf,
    /// Until when it is good, in days from now.
    #[arg(long, default_value = "90", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub(crate) days: u32,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| "it has to be key=value".to_owned())?;
    Ok((key.to_owned(), value.to_owned()))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "it has to be a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn count() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=1_000_000)
}

fn size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(size @ 1..=1_048_576) => Ok(size),
        _ => Err("it has to be between 1 and 1048576 bytes".to_owned()),
    }
}

fn tcp(text: &str) -> Result<SocketAddr, String> {
    let place = text.strip_prefix("tcp:").unwrap_or(text);
    if let Ok(port) = place.parse::<u16>() {
        return Ok(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    place
        .parse()
        .map_err(|_| "it has to be tcp:PORT or tcp:ADDRESS:PORT".to_owned())
}

const EXIT_CODES: &str = "\
Exit codes: 0 it worked; 1 something else failed; 2 the call is wrong; 3 the node could not start;
4 the fabric could not be joined; 5 the name is held by nobody who can be reached; 6 the endpoint
refused; 7 a flow broke; 130 interrupted.";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_go_together() {
        Arguments::command().debug_assert();
    }
}
