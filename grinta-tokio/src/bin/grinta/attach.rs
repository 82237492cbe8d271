//! Being a node of the fabric for as long as something takes.

use std::future::pending;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs, UdpSocket};

use grinta_tokio::{
    Builder, Credentials, CredentialsError, DevelopmentCa, Fabric, NodeName, PemFiles, Start,
};
use tokio::select;

use crate::arguments::Attachment;
use crate::failure::{Failure, Kind};
use crate::output::say;

impl Attachment {
    /// Joins, does the work, and leaves: in order also when it is interrupted.
    pub(crate) async fn run<T>(
        &self,
        work: impl AsyncFnOnce(&Fabric) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        if self.join.is_empty() {
            let what = "nobody to join: say with --join where a node of the fabric listens";
            return Err(Failure::new(Kind::Join, what));
        }
        run(self.builder()?, async |fabric| {
            fabric.join().await?;
            work(fabric).await
        })
        .await
    }

    /// A node as it was asked for.
    pub(crate) fn builder(&self) -> Result<Builder, Failure> {
        let (name, credentials) = self.identity()?;
        let mut builder = Fabric::builder(&name)
            .fabric(&self.fabric)
            .credentials(credentials)
            .listen(self.bind.unwrap_or_else(|| self.way_out()));
        if let Some(address) = self.advertise {
            builder = builder.advertise(address);
        }
        for host in &self.join {
            builder = builder.neighbour(host);
        }
        Ok(builder)
    }

    /// The files that the credentials come from, if they come from files.
    pub(crate) fn files(&self) -> Option<PemFiles> {
        Some(PemFiles {
            ca: self.ca.clone()?,
            certificate: self.certificate.clone()?,
            key: self.key.clone()?,
            revocation_lists: self.crl.clone(),
        })
    }

    /// The flags by which another call gets credentials of the same kind.
    pub(crate) const fn credentials_hint(&self) -> &'static str {
        match self.dev {
            true => "--dev",
            false => "--ca FILE --certificate FILE --key FILE",
        }
    }

    fn identity(&self) -> Result<(NodeName, Credentials), Failure> {
        let start = |error: &dyn std::error::Error| Failure::new(Kind::Start, error);
        if self.dev {
            let name = match &self.node {
                Some(name) => name.clone(),
                None => made_up()?,
            };
            let directory = DevelopmentCa::default_directory().map_err(|error| start(&error))?;
            let ca = DevelopmentCa::open(&directory).map_err(|error| start(&error))?;
            let credentials = ca.issue(&name).map_err(|error| start(&error))?;
            return Ok((name, credentials));
        }
        let Some(files) = self.files() else {
            let what = "no credentials: give --ca, --certificate and --key (`grinta cert` makes \
                        them), or --dev to try things out on this machine";
            return Err(Failure::new(Kind::Start, what));
        };
        let credentials =
            Credentials::from_pem_files(&files).map_err(|error: CredentialsError| start(&error))?;
        let name = match &self.node {
            Some(name) => name.clone(),
            None => match credentials.names().as_slice() {
                [name] => name.clone(),
                names => {
                    let names: Vec<_> = names.iter().map(NodeName::as_str).collect();
                    let what = format!(
                        "{} is good for {}: say with --node which of them this one is",
                        files.certificate.display(),
                        names.join(", "),
                    );
                    return Err(Failure::new(Kind::Start, what));
                }
            },
        };
        Ok((name, credentials))
    }

    /// The address of this machine that leads to whom it joins; the loopback address if nothing
    /// does.
    fn way_out(&self) -> SocketAddr {
        let targets = self.join.iter();
        let mut targets = targets.filter_map(|host| host.to_socket_addrs().ok()?.next());
        let local = targets.next().and_then(|target| {
            let any: SocketAddr = match target {
                SocketAddr::V4(_) => ([0; 4], 0).into(),
                SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
            };
            // Connecting sends nothing: the system picks the address that it would send from.
            let socket = UdpSocket::bind(any).ok()?;
            socket.connect(target).ok()?;
            socket.local_addr().ok()
        });
        let ip = local.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |local| local.ip());
        SocketAddr::new(ip, 0)
    }
}

/// Starts a node, does the work, and shuts the node down, also when it is interrupted.
pub(crate) async fn run<T>(
    builder: Builder,
    work: impl AsyncFnOnce(&Fabric) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let fabric = builder.start().await?;
    let outcome = select! {
        outcome = work(&fabric) => outcome,
        () = interruption() => Err(Failure::new(Kind::Interrupted, "")),
    };
    select! {
        _ = fabric.shutdown() => {}
        () = interruption() => say("interrupted again: the others will have to find out"),
    }
    outcome
}

/// Completes when the process is asked to end.
async fn interruption() {
    let by_user = async {
        if tokio::signal::ctrl_c().await.is_err() {
            pending::<()>().await;
        }
    };
    select! {
        () = by_user => {}
        () = termination() => {}
    }
}

#[cfg(unix)]
async fn termination() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        Err(_) => pending().await,
    }
}

#[cfg(not(unix))]
async fn termination() {
    pending().await
}

/// A name that nobody else has, for practical purposes.
fn made_up() -> Result<NodeName, Failure> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).map_err(|error| Failure::new(Kind::Start, error))?;
    let name = format!("dev-{:08x}", u32::from_be_bytes(bytes));
    NodeName::new(name).map_err(|error| Failure::new(Kind::Start, error))
}
