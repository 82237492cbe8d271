//! Machines, and the programs that run on them.

use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use grinta_proto::{Builder, Credentials, Fabric, StartError};

use crate::crypto::{self, Entropy};
use crate::draw::Purpose;
use crate::io::{Port, SimDriver, SimIo};
use crate::network::HostId;
use crate::simulation::Sleep;
use crate::world::{Kind, World};

/// A simulated machine: starts nodes and runs application code, crashes, pauses, comes back.
///
/// Cheap to clone; all clones are the same machine.
#[derive(Clone)]
pub struct Host {
    pub(crate) world: Rc<World>,
    id: HostId,
}

/// Makes the future of a host's application, anew at each start.
pub(crate) type Factory = Rc<dyn Fn(Host) -> Pin<Box<dyn Future<Output = ()>>>>;

impl Host {
    pub(crate) const fn new(world: Rc<World>, id: HostId) -> Self {
        Self { world, id }
    }

    /// Its id, for the network.
    #[must_use]
    pub const fn id(&self) -> HostId {
        self.id
    }

    /// Its name, by which others find its address.
    #[must_use]
    pub fn name(&self) -> String {
        self.world.with_host(self.id, |host| host.name.clone())
    }

    /// Its address.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        self.world.with_host(self.id, |host| host.ip)
    }

    /// Begins to say what a node of this host is to be: it has the host's name, and credentials of
    /// the simulation's CA.
    ///
    /// # Panics
    /// If the host's name is no name for a node.
    pub fn builder(&self) -> Builder {
        let name = self.name();
        let credentials = self.credentials(&name);
        Fabric::builder(name).credentials(credentials)
    }

    /// Credentials that the simulation's CA issues to any node: the same for each seed.
    ///
    /// # Panics
    /// If the name is no name for a node.
    #[must_use]
    pub fn credentials(&self, node: &str) -> Credentials {
        let node = node.parse().expect("a host is named as its node");
        let issued = self.world.ca.issue(&node);
        issued.expect("the CA issues to any node name")
    }

    /// Starts a node on this host and a task that drives it, as the driver crates do.
    ///
    /// A host has one address: loopback addresses stand for it. Neighbours are found by the names
    /// of their hosts.
    ///
    /// # Errors
    /// [`StartError`], as the driver crates' `start`.
    pub async fn start(&self, builder: Builder) -> Result<Fabric, StartError> {
        let (fabric, driver) = self.start_with_driver(builder).await?;
        self.spawn("driver", driver);
        Ok(fabric)
    }

    /// Starts a node and leaves its driver to the caller, who polls or spawns it. Dropping it kills
    /// the node.
    ///
    /// # Errors
    /// [`StartError`], as the driver crates' `start_with_driver`.
    pub async fn start_with_driver(
        &self,
        builder: Builder,
    ) -> Result<(Fabric, SimDriver), StartError> {
        let world = &self.world;
        let neighbours = builder
            .look_up(|place| std::future::ready(world.resolve(&place)))
            .await;
        let builder = builder.change_credentials(|credentials| {
            credentials.with_crypto_provider(crypto::provider())
        })?;
        let listen = builder.listen_address();
        let address = if listen.ip().is_loopback() {
            SocketAddr::new(self.ip(), listen.port())
        } else {
            listen
        };
        let io = SimIo::bind(world, self.id, address)
            .map_err(|error| StartError::bind(address, &error))?;

        let run = world.with_host(self.id, |host| {
            host.nodes_started += 1;
            host.nodes_started
        });
        let subject = u64::from(self.id.0);
        let seed = world.draws.bytes(Purpose::NodeSeed, subject, run);
        let mut entropy = Entropy::new(world.draws, subject, run);
        let (fabric, driver) = entropy.lend(|| builder.assemble(io, seed, neighbours))?;
        let driver = SimDriver::new(Rc::clone(world), driver, entropy);
        Ok((fabric, driver))
    }

    /// Runs a task on this host. A crash drops it.
    pub fn spawn(&self, name: &str, task: impl Future<Output = ()> + 'static) {
        let name = format!("{} of {}", name, self.name());
        self.world.executor.spawn(name, Some(self.id), task);
    }

    /// Installs an application on this host and starts it: `application` is called now and at each
    /// [`restart`](Self::restart).
    pub fn run<F>(&self, application: impl Fn(Self) -> F + 'static)
    where
        F: Future<Output = ()> + 'static,
    {
        let factory: Factory = Rc::new(move |host| Box::pin(application(host)));
        self.world
            .with_host(self.id, |host| host.application = Some(factory));
        self.restart();
    }

    /// Starts the host's application anew, after a crash if it was not stopped by one.
    pub fn restart(&self) {
        self.crash();
        let application = self.world.with_host(self.id, |host| {
            host.runs += 1;
            host.application.clone()
        });
        self.note(Kind::Start, "starts");
        if let Some(application) = application {
            self.spawn("application", application(self.clone()));
        }
    }

    /// Ends all that runs on this host, without a goodbye to anybody.
    pub fn crash(&self) {
        self.resume();
        self.note(Kind::Crash, "stops");
        self.world.executor.crash(self.id);
    }

    /// Freezes all that runs on this host. What arrives waits in its sockets.
    pub fn pause(&self) {
        let was_paused = self.set_paused(true);
        if !was_paused {
            self.note(Kind::Pause, "pauses");
            self.world.executor.pause(self.id);
        }
    }

    /// Lets a paused host go on.
    pub fn resume(&self) {
        let was_paused = self.set_paused(false);
        if was_paused {
            self.note(Kind::Resume, "resumes");
            self.world.executor.resume(self.id);
        }
    }

    fn set_paused(&self, is_paused: bool) -> bool {
        self.world.with_host(self.id, |host| {
            std::mem::replace(&mut host.is_paused, is_paused)
        })
    }

    /// Makes everything that this host does take so many times as long; 1 for as long as at first.
    pub(crate) fn slow_down(&self, times: u32) {
        let turn = (times > 1).then(|| TURN_DURATION * times);
        self.world.executor.slow_down(self.id, turn);
    }

    /// Makes this host's clocks gain so many parts of a million, or lose them.
    pub(crate) fn drift(&self, ppm: i32) {
        self.world.drift(self.id, ppm);
    }

    /// Makes this host's sockets refuse so many of a million sends.
    pub(crate) fn refuse_sends(&self, share: u32) {
        self.world.with_host(self.id, |host| host.refusals = share);
    }

    /// Gives this host another address. Sockets that are bound keep theirs.
    pub(crate) fn set_ip(&self, ip: IpAddr) {
        self.world.with_host(self.id, |host| host.ip = ip);
    }

    /// How much this host has sent, in bytes of datagrams.
    pub(crate) fn bytes_sent(&self) -> u64 {
        self.world.with_host(self.id, |host| host.bytes_sent)
    }

    /// What this host's wall clock shows, since the Unix epoch.
    #[must_use]
    pub fn unix_time(&self) -> Duration {
        let now = self.now();
        self.world
            .with_host(self.id, |host| host.unix_epoch + host.clock.shows(now))
    }

    /// Sets this host's wall clock, forwards or back.
    pub fn set_unix_time(&self, unix_time: Duration) {
        let now = self.now();
        self.world.with_host(self.id, |host| {
            host.unix_epoch = unix_time.saturating_sub(host.clock.shows(now));
        });
    }

    /// The host of this name in the same world; a new one if there is none.
    pub(crate) fn another(&self, name: &str) -> Self {
        self.world.host(name)
    }

    /// A socket of this host for whoever is no node, at any port that is free.
    pub(crate) fn open_port(&self) -> Port {
        let address = SocketAddr::new(self.ip(), 0);
        Port::bind(&self.world, self.id, address).expect("a host has free ports")
    }

    /// What the monotonic clock shows.
    pub(crate) fn instant(&self) -> Instant {
        self.world.epoch + self.now()
    }

    /// Sleeps in virtual time.
    pub(crate) fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + use<> {
        Sleep::new(&self.world, self.now() + duration)
    }

    /// The time since the start of the simulation.
    pub(crate) fn now(&self) -> Duration {
        self.world.now.get()
    }

    /// Puts into the history what happens on this host.
    pub(crate) fn tell(&self, what: &str) {
        let subject = u64::from(self.id.0) + 1;
        self.world
            .record(Kind::Note, [subject, 0], what.as_bytes(), || {
                format!("{} {what}", self.name())
            });
    }

    /// Puts into the history what happens to the whole world.
    pub(crate) fn tell_world(&self, what: &str) {
        self.world
            .record(Kind::Note, [0, 0], what.as_bytes(), || what.to_owned());
    }

    fn note(&self, kind: Kind, what: &str) {
        let subject = u64::from(self.id.0);
        self.world.record(kind, [subject, 0], &[], || {
            format!("{} {what}", self.name())
        });
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Host").field(&self.name()).finish()
    }
}

/// What a turn of a task takes at a host that is slow, divided by how slow it is.
pub(crate) const TURN_DURATION: Duration = Duration::from_micros(20);
