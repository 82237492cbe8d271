//! `grinta listen`, `grinta dial` and `grinta call`: flows as a shell knows them.

use std::io::IsTerminal;
use std::pin::pin;
use std::process::Stdio;

use bytes::Bytes;
use grinta_tokio::{
    AcceptError, ByteReader, ByteStream, ByteWriter, Compat, Dial, Direction, Endpoint, Fabric,
    Flow, Incoming, Path, Raw, Receiver, Sender, Untyped,
};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines, Stdin, copy, stdin, stdout};
use tokio::process::Command;
use tokio::select;
use tokio::task::JoinSet;

use crate::arguments::{self, Call, Contents, Dialling, Listen};
use crate::failure::{Failure, Kind};
use crate::operating;
use crate::output::{print, print_json, say};

/// How many flows an endpoint takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flows {
    /// One, into which standard input goes.
    One,
    /// One after the other, into which nothing goes.
    All,
}

pub(crate) async fn listen(listen: &Listen) -> Result<(), Failure> {
    listen
        .attachment
        .run(async |fabric| {
            let open = fabric.endpoint(&listen.name);
            let endpoint = match listen.standby {
                true => open.standby().await?,
                false => open.await?,
            };
            operating::tell_status(fabric).await;
            say(format_args!("{} is held by {}", listen.name, fabric.node()));
            let flows = if listen.keep { Flows::All } else { Flows::One };
            match &listen.exec {
                Some(command) => {
                    let command = command.clone();
                    attend(&endpoint, flows, |flow| run_command(flow, command.clone())).await
                }
                None if listen.echo => attend(&endpoint, flows, echo).await,
                None => serve(&endpoint, flows, listen.contents).await,
            }
        })
        .await
}

/// Takes flows and prints what comes on them.
pub(crate) async fn serve(
    endpoint: &Endpoint,
    flows: Flows,
    contents: Contents,
) -> Result<(), Failure> {
    while let Some(incoming) = accept(endpoint).await {
        let from = incoming.node();
        say(format_args!("a flow from {from}"));
        let outcome = take(incoming, flows, contents).await;
        if flows == Flows::One {
            return outcome;
        }
        match outcome {
            Ok(()) => say(format_args!("the flow from {from} is over")),
            Err(failure) => say(format_args!("the flow from {from}: {failure}")),
        }
    }
    Ok(())
}

/// The next flow; `None` once the endpoint is closed.
pub(crate) async fn accept(endpoint: &Endpoint) -> Option<Incoming> {
    loop {
        match endpoint.accept().await {
            Ok(incoming) => return Some(incoming),
            Err(AcceptError::Closed) => return None,
            Err(error) => say(error),
        }
    }
}

async fn take(incoming: Incoming, flows: Flows, contents: Contents) -> Result<(), Failure> {
    let refused = |error: AcceptError| Failure::new(Kind::Refused, error);
    match (contents.is_text(), incoming.direction()) {
        (true, Direction::Both) => {
            let (sender, receiver) = incoming.bidi(Raw).map_err(refused)?.split();
            match flows {
                Flows::One => both(write_lines(sender), print_lines(receiver, contents)).await,
                Flows::All => {
                    print_lines(receiver, contents).await?;
                    Ok(sender.finish().await?)
                }
            }
        }
        (true, Direction::Send) => {
            let receiver = incoming.receiver(Raw).map_err(refused)?;
            print_lines(receiver, contents).await
        }
        (true, Direction::Receive) => write_lines(incoming.sender(Raw).map_err(refused)?).await,
        (false, Direction::Both) => {
            let flow: Flow<Bytes, Bytes> = incoming.bidi(Raw).map_err(refused)?;
            let (reader, writer) = ByteStream::from(flow).split();
            match flows {
                Flows::One => both(write_bytes(writer), print_bytes(reader)).await,
                Flows::All => {
                    print_bytes(reader).await?;
                    Ok(Compat::new(writer).shutdown().await?)
                }
            }
        }
        (false, Direction::Send) => {
            let receiver: Receiver<Bytes> = incoming.receiver(Raw).map_err(refused)?;
            print_bytes(receiver.into()).await
        }
        (false, Direction::Receive) => {
            let sender: Sender<Bytes> = incoming.sender(Raw).map_err(refused)?;
            write_bytes(sender.into()).await
        }
    }
}

/// Attends to each flow, all at the same time.
async fn attend<F>(
    endpoint: &Endpoint,
    flows: Flows,
    attend_to: impl Fn(Incoming) -> F,
) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let mut running = JoinSet::new();
    loop {
        select! {
            incoming = accept(endpoint) => {
                let Some(incoming) = incoming else {
                    return Ok(());
                };
                let outcome = attend_to(incoming);
                if flows == Flows::One {
                    return outcome.await;
                }
                running.spawn(outcome);
            }
            Some(Ok(Err(failure))) = running.join_next() => say(failure),
        }
    }
}

/// Sends back what comes, or drops it where nothing is to be sent.
async fn echo(incoming: Incoming) -> Result<(), Failure> {
    let refused = |error: AcceptError| Failure::new(Kind::Refused, error);
    if incoming.direction() == Direction::Send {
        let mut receiver: Receiver<Bytes> = incoming.receiver(Raw).map_err(refused)?;
        while receiver.recv().await?.is_some() {}
        return Ok(());
    }
    let flow: Flow<Bytes, Bytes> = incoming.bidi(Raw).map_err(refused)?;
    let (mut sender, mut receiver) = flow.split();
    while let Some(message) = receiver.recv().await? {
        sender.send(message).await.map_err(|error| error.cause)?;
    }
    Ok(sender.finish().await?)
}

async fn run_command(incoming: Incoming, command: String) -> Result<(), Failure> {
    let flow: Flow<Bytes, Bytes> = incoming
        .bidi(Raw)
        .map_err(|error| Failure::new(Kind::Refused, error))?;
    let (reader, writer) = ByteStream::from(flow).split();
    let mut child = Command::new("sh")
        .args(["-c", &command])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let (input, output) = (child.stdin.take(), child.stdout.take());
    let feed = async {
        if let Some(mut input) = input {
            // A command may end without having read all.
            copy(&mut Compat::new(reader), &mut input).await.ok();
        }
    };
    let answer = async {
        let mut writer = Compat::new(writer);
        if let Some(mut output) = output {
            copy(&mut output, &mut writer).await?;
        }
        writer.shutdown().await
    };
    // Once the command has said all, nobody reads what else comes.
    let mut feed = pin!(feed);
    let mut answer = pin!(answer);
    select! {
        answered = &mut answer => answered?,
        () = &mut feed => answer.await?,
    }
    child.wait().await?;
    Ok(())
}

pub(crate) async fn dial(dial: &arguments::Dial) -> Result<(), Failure> {
    let contents = dial.contents;
    dial.attachment
        .run(async |fabric| {
            let untyped = dial.dialling.begin(fabric);
            match (contents.is_text(), dial.send_only, dial.receive_only) {
                (true, true, _) => write_lines(untyped.sender(Raw).await?).await,
                (true, _, true) => {
                    let receiver = untyped.receiver(Raw).await?;
                    print_lines(receiver, contents).await
                }
                (true, false, false) => {
                    let (sender, receiver) = untyped.bidi(Raw).await?.split();
                    both(write_lines(sender), print_lines(receiver, contents)).await
                }
                (false, true, _) => {
                    let sender: Sender<Bytes> = untyped.sender(Raw).await?;
                    write_bytes(sender.into()).await
                }
                (false, _, true) => {
                    let receiver: Receiver<Bytes> = untyped.receiver(Raw).await?;
                    print_bytes(receiver.into()).await
                }
                (false, false, false) => {
                    let flow: Flow<Bytes, Bytes> = untyped.bidi(Raw).await?;
                    let (reader, writer) = ByteStream::from(flow).split();
                    both(write_bytes(writer), print_bytes(reader)).await
                }
            }
        })
        .await
}

pub(crate) async fn call(call: &Call) -> Result<(), Failure> {
    call.attachment
        .run(async |fabric| {
            let caller = call.dialling.begin(fabric);
            let caller = caller.caller::<String, String, _>(Raw).await?;
            if let Some(request) = &call.request {
                return print(caller.call(request.clone()).await?);
            }
            let mut lines = input_lines();
            while let Some(request) = lines.next_line().await? {
                print(caller.call(request).await?)?;
            }
            Ok(())
        })
        .await
}

impl Dialling {
    pub(crate) fn begin(&self, fabric: &Fabric) -> Dial<Untyped> {
        let mut dial = fabric.dial(&self.name).deadline(self.timeout);
        if self.wait {
            dial = dial.wait_for_name();
        }
        if let Some(node) = &self.at {
            dial = dial.at(node.clone());
        }
        dial
    }
}

impl Contents {
    const fn is_text(self) -> bool {
        self.lines || self.json
    }
}

/// Both directions to their ends. Whoever sits at a terminal is done when the other is.
async fn both(
    upward: impl Future<Output = Result<(), Failure>>,
    downward: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let mut upward = pin!(upward);
    let mut downward = pin!(downward);
    select! {
        done = &mut upward => {
            done?;
            downward.await
        }
        done = &mut downward => {
            done?;
            match std::io::stdin().is_terminal() {
                true => Ok(()),
                false => upward.await,
            }
        }
    }
}

async fn write_bytes(writer: ByteWriter) -> Result<(), Failure> {
    let mut writer = Compat::new(writer);
    copy(&mut stdin(), &mut writer).await?;
    Ok(writer.shutdown().await?)
}

async fn print_bytes(reader: ByteReader) -> Result<(), Failure> {
    let mut stdout = stdout();
    let mut reader = Compat::new(reader);
    loop {
        let chunk = reader.fill_buf().await?;
        if chunk.is_empty() {
            return Ok(());
        }
        let length = chunk.len();
        stdout.write_all(chunk).await?;
        stdout.flush().await?;
        reader.consume(length);
    }
}

async fn write_lines(mut sender: Sender<String>) -> Result<(), Failure> {
    let mut lines = input_lines();
    while let Some(line) = lines.next_line().await? {
        sender.send(line).await.map_err(|error| error.cause)?;
    }
    Ok(sender.finish().await?)
}

async fn print_lines(mut receiver: Receiver<String>, contents: Contents) -> Result<(), Failure> {
    let path = receiver.path().clone();
    let from = match &path {
        Path::Remote { node } => Some(node.as_str()),
        _ => None,
    };
    while let Some(message) = receiver.recv().await? {
        match contents.json {
            true => print_json(&json!({ "from": from, "message": message }))?,
            false => print(message)?,
        }
    }
    Ok(())
}

fn input_lines() -> Lines<BufReader<Stdin>> {
    BufReader::new(stdin()).lines()
}
