//! What a node counts and holds, told to those who ask over a flow: in short, where a snapshot is
//! in full.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::codec::Json;
use crate::node::{HealthSnapshot, Level, Snapshot};
use crate::shell::call::Request;
use crate::shell::endpoint::{AcceptError, Endpoint, Incoming};
use crate::shell::shared::Shared;
use crate::shell::sleep::Sleep;
use crate::{Counters, NamesSnapshot};

/// The name under which all nodes that tell their status do so. The command `grinta top` asks there.
pub const STATUS_ENDPOINT: &str = "grinta.status";

/// What a node counts and holds, in short: of the same size however large the fabric is. What an
/// older or a newer node does not tell is zero.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Status {
    /// The run of its process.
    pub session: u64,
    /// How many members it holds for alive, itself included.
    pub members_alive: usize,
    /// For suspect.
    pub members_suspect: usize,
    /// For down.
    pub members_down: usize,
    /// The names that it knows.
    pub names: NamesSnapshot,
    /// Its connections.
    pub connections: usize,
    /// Its flows with other nodes.
    pub flows: usize,
    /// The directions of its in-process flows.
    pub local_flows: usize,
    /// What waits in its queues, in bytes: control messages to be sent, what flows wrote, what was
    /// not read within the process.
    pub queued_bytes: usize,
    /// Flows that wait to be accepted at its endpoints.
    pub waiting_flows: usize,
    /// How full its fullest queue is, as a share of the limit.
    pub fullest_queue: f64,
    /// What is left of its certificate.
    pub certificate_expires_in: Option<Duration>,
    /// What it has counted since its start.
    pub counters: Counters,
}

impl From<&Snapshot> for Status {
    fn from(snapshot: &Snapshot) -> Self {
        let members = snapshot.members.iter();
        let (mut members_alive, mut members_suspect, mut members_down) = (0, 0, 0);
        for member in members {
            match member.health {
                HealthSnapshot::Alive => members_alive += 1,
                HealthSnapshot::Suspect => members_suspect += 1,
                HealthSnapshot::Down { .. } => members_down += 1,
                HealthSnapshot::Left { .. } => {}
            }
        }
        let control = snapshot.connections.iter().map(|it| it.control_queue);
        let flows = snapshot.flows.iter().filter_map(|it| it.send_buffer);
        let local = snapshot.local_flows.iter().map(|it| it.bytes);
        let bytes: Vec<_> = control.chain(flows).chain(local).collect();
        let accept = snapshot.endpoints.iter().map(|it| it.accept_queue);
        let accept: Vec<_> = accept.collect();
        let fullest = bytes
            .iter()
            .chain(&accept)
            .map(Level::share)
            .fold(0.0, f64::max);
        Self {
            session: snapshot.session.0,
            members_alive,
            members_suspect,
            members_down,
            names: snapshot.names,
            connections: snapshot.connections.len(),
            flows: snapshot.flows.len(),
            local_flows: snapshot.local_flows.len(),
            queued_bytes: bytes.iter().map(|level| level.used).sum(),
            waiting_flows: accept.iter().map(|level| level.used).sum(),
            fullest_queue: fullest,
            certificate_expires_in: snapshot.certificate.expires_in,
            counters: snapshot.counters,
        }
    }
}

impl Endpoint {
    /// Tells whoever calls this endpoint the [`Status`] of its node, until the fabric is closed: a
    /// call of `()` over [`Json`](crate::Json) is answered with it. Spawn it once, at
    /// [`STATUS_ENDPOINT`], which all nodes share; with [`admit`](crate::OpenEndpoint::admit) for
    /// some only.
    ///
    /// So many are served at once, and each for so long, that none keeps the others out.
    ///
    /// ```
    /// use grinta_proto::{Fabric, Json, STATUS_ENDPOINT, Status};
    ///
    /// # type Failure = Box<dyn std::error::Error>;
    /// async fn tell(fabric: &Fabric) -> Result<(), Failure> {
    ///     let endpoint = fabric.endpoint(STATUS_ENDPOINT).shared().await?;
    ///     endpoint.serve_status().await;
    ///     Ok(())
    /// }
    ///
    /// async fn ask_all(fabric: &Fabric) -> Result<(), Failure> {
    ///     let mut statuses = fabric.fan_out(STATUS_ENDPOINT).call::<(), Status, _>(Json, ())?;
    ///     while let Some(outcome) = statuses.next().await {
    ///         println!("{}: {} flows", outcome.node, outcome.result?.flows);
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Cancel safety
    /// When the future is dropped, the endpoint is, and who waits for an answer has none.
    pub async fn serve_status(self) {
        let mut guests: Vec<Pin<Box<dyn Future<Output = ()> + Send>>> = Vec::new();
        let mut accepting = pin!(self.accept());
        poll_fn(|cx| {
            loop {
                guests.retain_mut(|guest| guest.as_mut().poll(cx).is_pending());
                if guests.len() >= GUESTS_MAX {
                    return Poll::Pending;
                }
                match accepting.as_mut().poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(AcceptError::Closed)) => return Poll::Ready(()),
                    Poll::Ready(Ok(incoming)) => {
                        guests.push(Box::pin(entertain(Arc::clone(&self.shared), incoming)));
                    }
                    // The next may be of another kind.
                    Poll::Ready(Err(_)) => {}
                }
                accepting.set(self.accept());
            }
        })
        .await;
    }
}

/// Answers one caller, for as long as one may stay.
async fn entertain(shared: Arc<Shared>, incoming: Incoming) {
    let sleep = Sleep::new(&shared, GUEST_STAY_MAX);
    let mut answering = pin!(answer(&shared, incoming));
    poll_fn(|cx| match sleep.poll(cx) {
        Poll::Ready(()) => Poll::Ready(()),
        Poll::Pending => answering.as_mut().poll(cx),
    })
    .await;
}

async fn answer(shared: &Shared, incoming: Incoming) {
    // Who asks for something else was told so.
    let Ok(mut calls) = incoming.calls::<(), Status, _>(Json) else {
        return;
    };
    while let Ok(Some(Request { responder, .. })) = calls.next().await {
        let status = Status::from(&shared.snapshot());
        if responder.respond(status).await.is_err() {
            return;
        }
    }
}

/// Those who are served at once: each may cost a snapshot, and there are few who look.
const GUESTS_MAX: usize = 16;

/// How long one may stay: a question and its answer over the slowest of links.
const GUEST_STAY_MAX: Duration = Duration::from_secs(10);
