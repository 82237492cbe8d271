//! The application: two nodes that talk, and a page on which Prometheus finds what they count.
//!
//! Nothing here knows which runtime drives it. The page is served by a thread of its own: it is
//! asked for every few seconds, by one or two clients.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use clap::Parser;
use futures_lite::future::or;
use grinta_proto::{Builder, Endpoint, Fabric, Metrics, Raw, StartError};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use super::common::{Failure, Nodes};

/// Two nodes that talk, and their metrics for Prometheus.
#[derive(Debug, Clone, Parser)]
pub(crate) struct Arguments {
    /// Where to serve the metrics, under any path.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,
    /// Fetches the page once, as Prometheus would, prints it, and ends.
    #[arg(long)]
    pub(crate) once: bool,
}

/// Lets two nodes talk, until the process is ended or the page was fetched once.
pub(crate) async fn run(
    arguments: &Arguments,
    start: impl AsyncFn(Builder) -> Result<Fabric, StartError>,
) -> Result<(), Failure> {
    // Whoever wants metrics of the whole program installs a recorder, once.
    let recorder = PrometheusBuilder::new().install_recorder()?;

    let nodes = Nodes::new()?;
    let server = start(nodes.first("server")?).await?;
    let client = start(nodes.beside(&server, "client")?).await?;
    client.join().await?;

    let metrics = [&server, &client].map(|node| node.metrics().label("node", node.node().as_str()));
    let listener = TcpListener::bind(arguments.listen)?;
    let address = listener.local_addr()?;
    println!("metrics at http://{address}/metrics");
    thread::spawn(move || serve_metrics(&listener, metrics, &recorder));

    let endpoint = server.endpoint("echo").await?;
    let talking = or(talk(&client, arguments.once), echo(&endpoint));
    talking.await?;
    if arguments.once {
        println!("{}", fetch(address)?);
    }
    client.shutdown().await;
    server.shutdown().await;
    Ok(())
}

/// Answers whatever is asked with all metrics, as they are at that moment.
fn serve_metrics(listener: &TcpListener, mut metrics: [Metrics; 2], recorder: &PrometheusHandle) {
    for connection in listener.incoming() {
        metrics.iter_mut().for_each(Metrics::publish);
        recorder.run_upkeep();
        // Who goes away before the end wants no page.
        let _ = connection.and_then(|connection| respond(&connection, &recorder.render()));
    }
}

fn respond(mut connection: &TcpStream, page: &str) -> io::Result<()> {
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    connection.set_write_timeout(Some(Duration::from_secs(5)))?;
    let request = BufReader::new(connection.take(REQUEST_LEN_MAX));
    for line in request.lines() {
        if line?.is_empty() {
            break;
        }
    }
    write!(
        connection,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{page}",
        page.len(),
    )
}

fn fetch(address: SocketAddr) -> io::Result<String> {
    let mut connection = TcpStream::connect(address)?;
    write!(
        connection,
        "GET /metrics HTTP/1.1\r\nHost: {address}\r\n\r\n"
    )?;
    let mut response = String::new();
    connection.read_to_string(&mut response)?;
    let page = response
        .split_once("\r\n\r\n")
        .map(|(_, page)| page.to_owned());
    page.ok_or_else(|| io::Error::other("no page in the response"))
}

async fn echo(endpoint: &Endpoint) -> Result<(), Failure> {
    loop {
        let mut flow = endpoint.accept().await?.bidi::<String, String, _>(Raw)?;
        while let Some(message) = flow.recv().await? {
            flow.send(message).await?;
        }
    }
}

/// Says something ten times, or every second for ever.
async fn talk(client: &Fabric, is_brief: bool) -> Result<(), Failure> {
    let dial = client.dial("echo").wait_for_name();
    let mut flow = dial.bidi::<String, String, _>(Raw).await?;
    for number in 1.. {
        flow.send(format!("message {number}")).await?;
        flow.recv().await?.ok_or("the echo fell silent")?;
        match is_brief {
            true if number == 10 => break,
            true => {}
            false => client.sleep(Duration::from_secs(1)).await,
        }
    }
    Ok(())
}

/// Enough for any request that a client of this page makes, in bytes.
const REQUEST_LEN_MAX: u64 = 16 * 1024;
