//! `grinta forward` and `grinta expose`: TCP connections through flows.

use bytes::Bytes;
use grinta_tokio::{ByteStream, Compat, Flow, Raw};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::select;
use tokio::task::JoinSet;

use crate::arguments::{Expose, Forward};
use crate::failure::{Failure, Kind};
use crate::operating;
use crate::output::say;
use crate::pipe::accept;

pub(crate) async fn forward(forward: &Forward) -> Result<(), Failure> {
    let name = &forward.dialling.name;
    forward
        .attachment
        .run(async |fabric| {
            let listener = TcpListener::bind(forward.tcp).await.map_err(|error| {
                Failure::new(
                    Kind::Start,
                    format!("cannot listen on {}: {error}", forward.tcp),
                )
            })?;
            operating::tell_status(fabric).await;
            say(format_args!("{} leads to {name}", listener.local_addr()?));
            let mut running = JoinSet::new();
            loop {
                select! {
                    accepted = listener.accept() => {
                        let (connection, from) = accepted?;
                        let dial = forward.dialling.begin(fabric).bidi(Raw);
                        running.spawn(async move {
                            let flow = dial.await?;
                            say(format_args!("{from} is connected through {}", flow.path()));
                            join(flow, connection).await
                        });
                    }
                    Some(Ok(Err(failure))) = running.join_next() => say(failure),
                }
            }
        })
        .await
}

pub(crate) async fn expose(expose: &Expose) -> Result<(), Failure> {
    expose
        .attachment
        .run(async |fabric| {
            let endpoint = fabric.endpoint(&expose.name).await?;
            operating::tell_status(fabric).await;
            say(format_args!("{} leads to {}", expose.name, expose.tcp));
            let mut running = JoinSet::new();
            loop {
                select! {
                    incoming = accept(&endpoint) => {
                        let Some(incoming) = incoming else {
                            return Ok(());
                        };
                        // Who cannot be served is told so by the flow's end.
                        let tcp = expose.tcp;
                        running.spawn(async move {
                            let connection = TcpStream::connect(tcp).await?;
                            let flow = incoming
                                .bidi(Raw)
                                .map_err(|error| Failure::new(Kind::Refused, error))?;
                            join(flow, connection).await
                        });
                    }
                    Some(Ok(Err(failure))) = running.join_next() => say(failure),
                }
            }
        })
        .await
}

/// Carries bytes both ways until both ends have said that they are done.
async fn join(flow: Flow<Bytes, Bytes>, mut connection: TcpStream) -> Result<(), Failure> {
    let mut flow = Compat::new(ByteStream::from(flow));
    copy_bidirectional(&mut flow, &mut connection).await?;
    Ok(())
}
