//! `grinta up`: a node that stays.

use std::env;
use std::time::Duration;

use grinta_tokio::{Fabric, MemberEvent, WatchError};
use serde_json::json;

use crate::arguments::{Contents, Up};
use crate::attach;
use crate::failure::Failure;
use crate::listing::{event_json, event_line};
use crate::operating;
use crate::output::{print_json, say};
use crate::pipe::{self, Flows};

pub(crate) async fn run(up: &Up) -> Result<(), Failure> {
    let mut builder = up.attachment.builder()?;
    for (key, value) in &up.label {
        builder = builder.label(key, value);
    }
    if up.fast {
        builder = builder.fast();
    }
    let outcome = attach::run(builder, async |fabric| {
        if let Some(files) = up.attachment.files() {
            tokio::spawn(fabric.follow_credentials(files, CREDENTIALS_INTERVAL));
        }
        let joined = fabric.join().await?;
        for (host, error) in &joined.unreachable {
            say(format_args!("{host} was not reached: {error}"));
        }
        let endpoint = match &up.listen {
            Some(name) => Some(fabric.endpoint(name).await?),
            None => None,
        };
        operating::tell_status(fabric).await;
        let orders = operating::orders(up, fabric).await?;
        announce(up, fabric)?;
        let flows = async {
            match &endpoint {
                Some(endpoint) => pipe::serve(endpoint, Flows::All, LISTENING).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            outcome = flows => outcome,
            outcome = follow(up, fabric) => outcome,
            operator = operating::await_order(fabric, orders.as_ref()) => {
                say(format_args!("{operator} asks this node to leave"));
                Ok(())
            }
        }
    })
    .await;
    match outcome {
        // It has no other end.
        Err(failure) if failure.is_interruption() => Ok(()),
        outcome => outcome,
    }
}

/// Says where the node is and how others join it.
fn announce(up: &Up, fabric: &Fabric) -> Result<(), Failure> {
    let join = join_line(up, fabric);
    let (node, address) = (fabric.node(), fabric.address());
    if up.json {
        let started = json!({
            "event": "started",
            "node": node.as_str(),
            "address": address,
            "fabric": up.attachment.fabric,
            "join": join,
        });
        return print_json(&started);
    }
    say(format_args!(
        "{node} is up at {address} in the fabric `{}`",
        up.attachment.fabric
    ));
    say(format_args!("in another terminal:\n  {join}"));
    Ok(())
}

fn join_line(up: &Up, fabric: &Fabric) -> String {
    let program = env::args().next();
    let what = match &up.listen {
        Some(name) => format!("dial {name}"),
        None => "members".to_owned(),
    };
    let fabric_flag = match up.attachment.fabric.as_str() {
        "default" => String::new(),
        name => format!(" --fabric {name}"),
    };
    format!(
        "{} {what} {}{fabric_flag} --join {}",
        program.as_deref().unwrap_or("grinta"),
        up.attachment.credentials_hint(),
        fabric.address(),
    )
}

/// Tells who comes and goes, until the fabric is closed.
async fn follow(up: &Up, fabric: &Fabric) -> Result<(), Failure> {
    let mut watch = fabric.watch_members();
    loop {
        let event = match watch.next().await {
            Ok(event) => event,
            Err(WatchError::Lagged) => continue,
            Err(_) => return Ok(()),
        };
        let is_own = matches!(&event, MemberEvent::Up(member) if member.name == *fabric.node());
        if is_own {
            continue;
        }
        match up.json {
            true => print_json(&event_json(&event))?,
            false => say(event_line(&event)),
        }
    }
}

/// What comes is printed as it comes.
const LISTENING: Contents = Contents {
    lines: false,
    json: false,
};

/// How often the files of certificates are looked at.
const CREDENTIALS_INTERVAL: Duration = Duration::from_secs(60);
