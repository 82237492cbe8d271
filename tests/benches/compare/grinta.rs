//! The work over Grinta's flows.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use grinta_proto::{Credentials, Fabric, Flow, Incoming, Raw};

use crate::flavour::Flavour;
use crate::quic::Identity;
use crate::transport::{Client, Load, Work};

/// A node that dials the serving one.
pub(crate) struct GrintaClient {
    flavour: Flavour,
    fabric: Fabric,
}

/// A flow of bytes both ways.
type Both = Flow<Bytes, Bytes>;

impl GrintaClient {
    pub(crate) async fn connect(
        flavour: Flavour,
        identity: &Identity,
        server: SocketAddr,
    ) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let builder = Fabric::builder("client")
            .credentials(Credentials::from_der(identity.der())?)
            .neighbour(server.to_string());
        let fabric = flavour.start(builder).await?;
        fabric.join().await?;
        Ok(Self { flavour, fabric })
    }

    async fn dial(&self, endpoint: &str) -> Both {
        let dial = self.fabric.dial(endpoint).bidi(Raw);
        dial.await.expect("the server serves")
    }
}

impl Client for GrintaClient {
    fn stream(self: Arc<Self>, load: Load) -> Work<Duration> {
        Box::pin(async move {
            let message = Bytes::from(vec![7; load.length]);
            let mut flows = Vec::new();
            for _ in 0..load.flows {
                flows.push(self.dial("sink").await);
            }
            let (done, all_done) = async_channel::unbounded();
            let begin = Instant::now();
            for flow in flows {
                let (done, message) = (done.clone(), message.clone());
                self.flavour.spawn(async move {
                    let (mut sender, mut receiver) = flow.split();
                    for _ in 0..load.messages / load.flows {
                        let sent = sender.send(message.clone()).await;
                        sent.expect("the server reads on");
                    }
                    drop(sender);
                    let told = receiver.recv().await.expect("the server answers");
                    assert_eq!(told, Some(count(load.messages / load.flows)));
                    done.send(()).await.expect("somebody waits");
                });
            }
            for _ in 0..load.flows {
                all_done.recv().await.expect("every flow ends");
            }
            begin.elapsed()
        })
    }

    fn ping_pong(self: Arc<Self>, rounds: u64) -> Work<Vec<Duration>> {
        Box::pin(async move {
            let message = Bytes::from_static(&[7; 64]);
            let mut flow = self.dial("echo").await;
            let mut times = Vec::new();
            for _ in 0..rounds {
                let begin = Instant::now();
                flow.send(message.clone()).await.expect("the server reads");
                let echo = flow.recv().await.expect("the server answers");
                times.push(begin.elapsed());
                assert_eq!(echo.as_ref(), Some(&message));
            }
            times
        })
    }

    fn exchange(self: Arc<Self>, rounds: u64, at_a_time: u64) -> Work<Duration> {
        Box::pin(async move {
            let (done, all_done) = async_channel::unbounded();
            let begin = Instant::now();
            for _ in 0..at_a_time {
                let (done, client) = (done.clone(), Arc::clone(&self));
                self.flavour.spawn(async move {
                    for _ in 0..rounds / at_a_time {
                        client.exchange_once().await;
                    }
                    done.send(()).await.expect("somebody waits");
                });
            }
            for _ in 0..at_a_time {
                all_done.recv().await.expect("every task ends");
            }
            begin.elapsed()
        })
    }
}

impl GrintaClient {
    async fn exchange_once(&self) {
        let message = Bytes::from_static(&[7; 64]);
        let dial = self
            .fabric
            .dial("echo")
            .request::<_, Bytes, _>(Raw, message);
        let mut answers = dial.await.expect("the server serves");
        let response = answers.recv().await.expect("the server answers");
        assert_eq!(response.map(|response| response.len()), Some(64));
        assert_eq!(answers.recv().await, Ok(None));
    }
}

/// Starts the node that serves: `sink` answers with the number of messages, `echo` with each.
pub(crate) async fn serve(
    flavour: Flavour,
    identity: &Identity,
) -> Result<Fabric, Box<dyn Error + Send + Sync>> {
    let builder = Fabric::builder("server").credentials(Credentials::from_der(identity.der())?);
    let fabric = flavour.start(builder).await?;
    fabric.join().await?;
    let sink = fabric.endpoint("sink").accept_queue(1024).await?;
    let echo = fabric.endpoint("echo").accept_queue(1024).await?;
    flavour.spawn(async move {
        while let Ok(incoming) = sink.accept().await {
            flavour.spawn(async move {
                swallow(incoming).await.expect("the client asks well");
            });
        }
    });
    flavour.spawn(async move {
        while let Ok(incoming) = echo.accept().await {
            flavour.spawn(async move {
                echo_all(incoming).await.expect("the client asks well");
            });
        }
    });
    Ok(fabric)
}

async fn swallow(incoming: Incoming) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut flow: Both = incoming.bidi(Raw)?;
    let mut received = 0;
    while flow.recv().await?.is_some() {
        received += 1;
    }
    flow.send(count(received)).await?;
    Ok(())
}

async fn echo_all(incoming: Incoming) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut flow: Both = incoming.bidi(Raw)?;
    while let Some(message) = flow.recv().await? {
        flow.send(message).await?;
    }
    Ok(())
}

/// A number as the answer of a sink.
fn count(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}
