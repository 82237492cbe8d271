//! One suite for all drivers: stories told through the public handles, over real sockets of the
//! loopback interface, and in the simulator.
//!
//! A story is an ordinary `async fn` on a [`World`]. It runs on every [`Runtime`] and, where flows
//! are its subject, at every [`Place`]: what a program sees of a flow depends on neither. A story
//! waits for what happens, never for time to pass; only a watchdog looks at the clock. The few that
//! bring sockets of their own stay out of the simulator.

use std::future::Future;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use futures_lite::future::{or, zip};
use grinta_proto::{
    Builder, Caller, Calls, Codec, Credentials, DevelopmentCa, Dial, Endpoint, Fabric, Flow, Path,
    Raw, Receiver, Sender, StartError,
};
use grinta_tests::{Options, Simulation, System};
use smol::LocalExecutor;

/// Makes a test of each story for every runtime and for both places of the endpoint.
macro_rules! flow_stories {
    ($($story:ident,)+) => {$(
        mod $story {
            use crate::loopback::Place;

            on_every_runtime! { super::$story, Place::SameNode,
                same_node_on_tokio_multi_thread same_node_on_tokio_current_thread
                same_node_on_smol_global same_node_on_smol_local }
            in_the_simulator! { super::$story, Place::SameNode, same_node_simulated }
            on_every_runtime! { super::$story, Place::OtherNode,
                other_node_on_tokio_multi_thread other_node_on_tokio_current_thread
                other_node_on_smol_global other_node_on_smol_local }
            in_the_simulator! { super::$story, Place::OtherNode, other_node_simulated }
        }
    )+};
}

/// Makes a test of each story for every runtime. The endpoints are at another node.
macro_rules! node_stories {
    ($($story:ident,)+) => {$(
        mod $story {
            use crate::loopback::Place;

            on_every_runtime! { super::$story, Place::OtherNode,
                on_tokio_multi_thread on_tokio_current_thread on_smol_global on_smol_local }
            in_the_simulator! { super::$story, Place::OtherNode, simulated }
        }
    )+};
}

/// As `node_stories`, for stories that need more of the system than a node does.
macro_rules! system_stories {
    ($($story:ident,)+) => {$(
        mod $story {
            use crate::loopback::Place;

            on_every_runtime! { super::$story, Place::OtherNode,
                on_tokio_multi_thread on_tokio_current_thread on_smol_global on_smol_local }
        }
    )+};
}

/// As `node_stories`, for stories about what happens first, which only virtual time can tell.
macro_rules! timed_stories {
    ($($story:ident,)+) => {$(
        mod $story {
            use crate::loopback::Place;

            in_the_simulator! { super::$story, Place::OtherNode, simulated }
        }
    )+};
}

macro_rules! on_every_runtime {
    ($story:path, $place:expr, $tokio:ident $tokio_current:ident $smol:ident $smol_local:ident) => {
        #[test]
        fn $tokio() {
            crate::loopback::Runtime::TokioMultiThread.run($place, |world| Box::pin($story(world)));
        }

        #[test]
        fn $tokio_current() {
            crate::loopback::Runtime::TokioCurrentThread
                .run($place, |world| Box::pin($story(world)));
        }

        #[test]
        fn $smol() {
            crate::loopback::Runtime::SmolGlobal.run($place, |world| Box::pin($story(world)));
        }

        #[test]
        fn $smol_local() {
            crate::loopback::Runtime::SmolLocal.run($place, |world| Box::pin($story(world)));
        }
    };
}

macro_rules! in_the_simulator {
    ($story:path, $place:expr, $test:ident) => {
        #[test]
        fn $test() {
            crate::loopback::Runtime::Simulator.run($place, |world| Box::pin($story(world)));
        }
    };
}

mod byte_streams;
mod calls;
mod cancellation;
mod credentials;
mod differential;
mod ending;
mod ends;
mod fan_out;
mod faults;
mod flows;
mod guards;
mod handles;
mod hostile;
mod joining;
mod lifecycle;
mod listing;
mod membership;
mod messages;
mod metrics;
mod names;
mod requests;
mod restarts;
mod scale;
mod standing;
mod status;
mod test_io;

/// What a story runs on.
#[derive(Debug, Clone, Copy)]
enum Runtime {
    TokioMultiThread,
    TokioCurrentThread,
    /// Drivers and tasks on smol's global executor, the story on a thread of its own.
    SmolGlobal,
    /// Everything on one thread.
    SmolLocal,
    /// Everything on one thread, in virtual time.
    Simulator,
}

/// Where a story's endpoint is, as its diallers see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    SameNode,
    OtherNode,
}

/// What a story is told in: a runtime, and one CA for all its nodes.
struct World {
    executor: Executor,
    place: Place,
    ca: DevelopmentCa,
}

/// Where a world's tasks go.
enum Executor {
    Tokio,
    SmolGlobal,
    SmolLocal(Rc<LocalExecutor<'static>>),
    Simulator(Rc<Simulation>),
}

/// Two sides, the client's and the server's: of one node or of two that know each other. The
/// server holds the endpoint `service`.
struct Sides {
    server: Fabric,
    client: Fabric,
    endpoint: Endpoint,
}

/// Keeps a node running; dropping it drops the node's driver.
struct Lifeline {
    _sender: smol::channel::Sender<()>,
}

/// A runtime that may be dropped inside of a story.
struct OwnTokio(Option<tokio::runtime::Runtime>);

impl Drop for OwnTokio {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Lifeline {
    /// A lifeline, and the driver's future that hangs on it.
    fn of<D: Future<Output = ()>>(driver: D) -> (Self, impl Future<Output = ()> + use<D>) {
        let (_sender, receiver) = smol::channel::bounded::<()>(1);
        let cut = async move {
            receiver.recv().await.expect_err("nothing is ever sent");
        };
        (Self { _sender }, or(driver, cut))
    }
}

type Story = for<'a> fn(&'a World) -> Pin<Box<dyn Future<Output = ()> + 'a>>;

impl Runtime {
    /// Tells a story to its end, or fails when it got stuck.
    fn run(self, place: Place, story: Story) {
        self.run_within(WATCHDOG, place, story);
    }

    fn run_within(self, limit: Duration, place: Place, story: Story) {
        let (done, told) = channel();
        let teller = thread::spawn(move || {
            self.tell(place, story);
            // The watchdog is gone if it has bitten.
            let _ = done.send(());
        });
        match told.recv_timeout(limit) {
            Ok(()) => {}
            Err(RecvTimeoutError::Disconnected) => {
                resume_unwind(teller.join().expect_err("it ended without a word"));
            }
            Err(RecvTimeoutError::Timeout) => panic!("stuck: not told within {limit:?}"),
        }
    }

    fn tell(self, place: Place, story: Story) {
        let world = |executor| World {
            executor,
            place,
            ca: DevelopmentCa::in_memory().unwrap(),
        };
        match self {
            Self::TokioMultiThread => {
                let mut runtime = tokio::runtime::Builder::new_multi_thread();
                let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
                runtime.block_on(story(&world(Executor::Tokio)));
            }
            Self::TokioCurrentThread => {
                let mut runtime = tokio::runtime::Builder::new_current_thread();
                let runtime = runtime.enable_all().build().unwrap();
                runtime.block_on(story(&world(Executor::Tokio)));
            }
            Self::SmolGlobal => smol::block_on(story(&world(Executor::SmolGlobal))),
            Self::SmolLocal => {
                let executor = Rc::new(LocalExecutor::new());
                let world = world(Executor::SmolLocal(Rc::clone(&executor)));
                smol::block_on(executor.run(story(&world)));
            }
            Self::Simulator => {
                let simulation = Rc::new(Simulation::with(Options {
                    // Some make certificates as they go.
                    system: System::Allowed,
                    ..Options::default()
                }));
                let world = World {
                    ca: simulation.ca().clone(),
                    ..world(Executor::Simulator(Rc::clone(&simulation)))
                };
                simulation.block_on(story(&world));
            }
        }
    }
}

impl World {
    /// A node to be started: the preset for tests, but patient, so that a busy machine is not
    /// taken for a dead node.
    fn builder(&self, node: &str) -> Builder {
        self.hasty_builder(node)
            .dial_timeout(PATIENCE)
            .grace_period(PATIENCE)
            .configure(|config| {
                config.connection.idle_timeout = PATIENCE;
                config.connection.handshake_timeout = PATIENCE;
                config.connection.first_frame_timeout = PATIENCE;
                config.membership.suspicion_multiplier = 1000;
            })
    }

    /// A node with the preset for tests as it is, for stories about time-outs and failures.
    fn hasty_builder(&self, node: &str) -> Builder {
        Fabric::builder(node)
            .test()
            .credentials(self.credentials(node))
    }

    fn credentials(&self, node: &str) -> Credentials {
        self.ca.issue(&node.parse().unwrap()).unwrap()
    }

    async fn start(&self, builder: Builder) -> Result<Fabric, StartError> {
        match &self.executor {
            Executor::Tokio => grinta_tokio::Start::start(builder).await,
            Executor::SmolGlobal => grinta_smol::Start::start(builder).await,
            Executor::SmolLocal(executor) => {
                let (fabric, driver) = grinta_smol::Start::start_with_driver(builder).await?;
                executor.spawn(driver).detach();
                Ok(fabric)
            }
            Executor::Simulator(simulation) => simulation.new_host().start(builder).await,
        }
    }

    /// Starts a node that can be killed.
    async fn start_mortal(&self, builder: Builder) -> (Fabric, Lifeline) {
        match &self.executor {
            Executor::Tokio => {
                let started = grinta_tokio::Start::start_with_driver(builder).await;
                let (fabric, driver) = started.unwrap();
                (fabric, self.drive(driver))
            }
            Executor::SmolGlobal | Executor::SmolLocal(_) => {
                let started = grinta_smol::Start::start_with_driver(builder).await;
                let (fabric, driver) = started.unwrap();
                (fabric, self.drive(driver))
            }
            Executor::Simulator(simulation) => {
                let host = simulation.new_host();
                let (fabric, driver) = host.start_with_driver(builder).await.unwrap();
                let (lifeline, driving) = Lifeline::of(driver);
                host.spawn("driver", driving);
                (fabric, lifeline)
            }
        }
    }

    /// Starts a node on tokio, on a runtime of its own if the world has another.
    async fn start_on_tokio(&self, builder: Builder) -> (Fabric, Option<OwnTokio>) {
        match &self.executor {
            Executor::Tokio => (self.start(builder).await.unwrap(), None),
            Executor::SmolGlobal | Executor::SmolLocal(_) | Executor::Simulator(_) => {
                let mut runtime = tokio::runtime::Builder::new_multi_thread();
                let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
                let starting = runtime.spawn(grinta_tokio::Start::start(builder));
                (
                    starting.await.unwrap().unwrap(),
                    Some(OwnTokio(Some(runtime))),
                )
            }
        }
    }

    fn drive(&self, driver: impl Future<Output = ()> + Send + 'static) -> Lifeline {
        let (lifeline, driving) = Lifeline::of(driver);
        drop(self.spawn(driving));
        lifeline
    }

    /// What the clock shows by which the world's nodes live.
    fn now(&self) -> Instant {
        match &self.executor {
            Executor::Tokio | Executor::SmolGlobal | Executor::SmolLocal(_) => Instant::now(),
            Executor::Simulator(simulation) => simulation.instant(),
        }
    }

    /// Starts a node that knows of nobody.
    async fn node(&self, name: &str) -> Fabric {
        let node = self.start(self.builder(name)).await.unwrap();
        node.join().await.unwrap();
        node
    }

    /// Starts a node and joins it to another one's fabric.
    async fn node_beside(&self, name: &str, other: &Fabric) -> Fabric {
        let builder = self.builder(name).neighbour(other.address().to_string());
        let node = self.start(builder).await.unwrap();
        node.join().await.unwrap();
        node
    }

    async fn sides(&self) -> Sides {
        self.sides_with(|builder| builder).await
    }

    /// Both sides, their nodes configured alike.
    async fn sides_with(&self, configure: impl Fn(Builder) -> Builder) -> Sides {
        let server = configure(self.builder("server"));
        let server = self.start(server).await.unwrap();
        server.join().await.unwrap();
        let client = match self.place {
            Place::SameNode => server.clone(),
            Place::OtherNode => {
                let client = configure(self.builder("client"));
                let client = client.neighbour(server.address().to_string());
                let client = self.start(client).await.unwrap();
                client.join().await.unwrap();
                client
            }
        };
        let endpoint = server.endpoint("service").await.unwrap();
        Sides {
            server,
            client,
            endpoint,
        }
    }

    /// The path of a flow, as the end that talks with `other` sees it.
    fn path_to(&self, other: &str) -> Path {
        match self.place {
            Place::SameNode => Path::Local,
            Place::OtherNode => Path::Remote {
                node: other.parse().unwrap(),
            },
        }
    }

    /// Runs a task beside the story. The task goes on when the returned future is dropped.
    fn spawn<T, F>(&self, future: F) -> impl Future<Output = T> + use<T, F>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let (sender, receiver) = smol::channel::bounded(1);
        let task = async move {
            // Nobody may be waiting.
            let _ = sender.send(future.await).await;
        };
        match &self.executor {
            Executor::Tokio => drop(tokio::spawn(task)),
            Executor::SmolGlobal => smol::spawn(task).detach(),
            Executor::SmolLocal(executor) => executor.spawn(task).detach(),
            Executor::Simulator(simulation) => simulation.spawn("a task of the story", task),
        }
        async move { receiver.recv().await.expect("the task did not panic") }
    }
}

impl Sides {
    /// Dials the endpoint, also if its name is still on its way.
    fn dial(&self) -> Dial {
        self.client.dial("service").wait_for_name()
    }

    /// A flow from the client to the server.
    async fn uni<T, C>(&self, codec: C) -> (Sender<T>, Receiver<T>)
    where
        T: Send + 'static,
        C: Codec<T> + Clone,
    {
        let dial = async { self.dial().sender(codec.clone()).await.unwrap() };
        let accept = async {
            let incoming = self.endpoint.accept().await.unwrap();
            incoming.receiver(codec.clone()).unwrap()
        };
        zip(dial, accept).await
    }

    /// A flow from the server to the client.
    async fn uni_back<T, C>(&self, codec: C) -> (Sender<T>, Receiver<T>)
    where
        T: Send + 'static,
        C: Codec<T> + Clone,
    {
        let dial = async { self.dial().receiver(codec.clone()).await.unwrap() };
        let accept = async {
            let incoming = self.endpoint.accept().await.unwrap();
            incoming.sender(codec.clone()).unwrap()
        };
        zip(accept, dial).await
    }

    /// A flow both ways: the client's end, and the server's.
    async fn bidi<S, R, C>(&self, codec: C) -> (Flow<S, R>, Flow<R, S>)
    where
        S: Send + 'static,
        R: Send + 'static,
        C: Codec<S> + Codec<R> + Clone,
    {
        let dial = async { self.dial().bidi::<S, R, C>(codec.clone()).await.unwrap() };
        let accept = async {
            let incoming = self.endpoint.accept().await.unwrap();
            incoming.bidi::<R, S, C>(codec.clone()).unwrap()
        };
        zip(dial, accept).await
    }

    /// A flow of calls from the client to the server.
    async fn calls<Q, A, C>(&self, codec: C) -> (Caller<Q, A>, Calls<Q, A>)
    where
        Q: Send + 'static,
        A: Send + 'static,
        C: Codec<Q> + Codec<A> + Clone,
    {
        let dial = async { self.dial().caller::<Q, A, C>(codec.clone()).await.unwrap() };
        let accept = async {
            let incoming = self.endpoint.accept().await.unwrap();
            incoming.calls::<Q, A, C>(codec.clone()).unwrap()
        };
        zip(dial, accept).await
    }

    /// Takes flows of text at the endpoint until one brings `message`.
    async fn hear(&self, message: &str) {
        loop {
            let incoming = self.endpoint.accept().await.unwrap();
            // A dialler that has given up is no surprise to those who wait here.
            let Ok(mut receiver) = incoming.receiver::<String, _>(Raw) else {
                continue;
            };
            if receiver.recv().await.ok().flatten().as_deref() == Some(message) {
                return;
            }
        }
    }

    /// Dials the endpoint and sends `message`.
    async fn say(&self, message: &str) {
        let mut sender = self.dial().sender::<String, _>(Raw).await.unwrap();
        sender.send(message.to_owned()).await.unwrap();
    }
}

/// How long a story may take. It bites only those that are stuck.
const WATCHDOG: Duration = Duration::from_secs(60);

/// Longer than any story takes.
const PATIENCE: Duration = Duration::from_secs(100);
