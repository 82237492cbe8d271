//! The full tier: whole nodes with QUIC and TLS on a network of datagrams, and programs on them that
//! open flows, claim names, and hold what they get against what they know was sent.
//!
//! The programs are ordinary async code over the product's own handles, in [`flows`] and
//! [`program`]. The [`ledger`] knows both ends of everything, the [`oracle`](crate::oracle) what is
//! the case with members and names; [`checks`] hold the nodes against them.

mod attack;
mod checks;
mod content;
mod errors;
mod faults;
mod flows;
mod futures;
mod ledger;
mod phases;
mod program;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use grinta_proto::{EndpointName, Fabric, Session};

use self::attack::Trust;
use self::errors::ErrorWatch;
use self::faults::{Active, Undo};
use self::futures::Signal;
use self::ledger::{Ledger, Run};
use crate::draw::Draws;
use crate::host::Host;
use crate::oracle::{Finding, Oracle};
use crate::plan::{Attack, NodeId, Plan};
use crate::queue::Queue;
use crate::run::Lines;
use crate::scene::Scenes;
use crate::simulation::{Options, Simulation};
use crate::verdict::{Invariant, Outcome, Violation};

/// A fabric of whole nodes under a plan.
struct Stage {
    plan: Plan,
    draws: Draws,
    hosts: Vec<Host>,
    trust: Trust,
    nodes: RefCell<Vec<Node>>,
    agenda: RefCell<Queue<Item>>,
    /// The faults under way, by the steps that began them.
    active: RefCell<BTreeMap<usize, Active>>,
    oracle: RefCell<Oracle>,
    told: RefCell<Histories>,
    ledger: RefCell<Ledger>,
    /// Runs that have ended, and when.
    ended: RefCell<BTreeMap<Run, Duration>>,
    call_flows: Cell<u32>,
    /// How often a node came back at another address.
    moves: Cell<u16>,
    /// What hosts had sent when the calm began.
    sent_before_calm: RefCell<Vec<u64>>,
    is_healed: Cell<bool>,
    /// Since when the core is healed, and the others not yet.
    core_healed_at: Cell<Option<Duration>>,
    is_shutting_down: Cell<bool>,
    is_over: Cell<bool>,
    violation: RefCell<Option<Violation>>,
}

/// A machine and what runs on it.
struct Node {
    address: SocketAddr,
    /// How often it was started.
    runs: u64,
    /// Whether its process runs.
    is_running: bool,
    /// Its fabric, once that is there, while its process runs.
    fabric: Option<Fabric>,
    session: Session,
    /// The names that its program serves.
    serves: BTreeMap<EndpointName, Rc<Service>>,
    has_left: bool,
    is_frozen: bool,
    /// Since when it runs and is not frozen.
    awake_since: Duration,
}

/// A program's service of a name.
#[derive(Debug, Default)]
struct Service {
    /// Makes it stop.
    stop: Signal,
    /// Whether it was told that another node owns the name: at first, or since.
    knows_better: Cell<bool>,
}

/// What is planned.
#[derive(Debug)]
enum Item {
    Start(NodeId),
    Step(usize),
    Undo(Undo),
    Check,
    Phase(phases::Phase),
}

/// What each node was told of each member and name, in its order.
type Histories = BTreeMap<(NodeId, String), Vec<String>>;

/// Runs a plan to its end, or to the first invariant that breaks. One in which nothing goes wrong
/// but that somebody attacks is run without the attackers, too: the honest must be told the same.
pub(crate) fn run(plan: &Plan, lines: Lines) -> Outcome {
    let (mut outcome, told) = run_once(plan, lines);
    if outcome.violation.is_none()
        && let Some(calm) = plan.without_attacks()
    {
        let (_, told_without) = run_once(&calm, Lines::Dropped);
        if let Some(what) = difference(&told, &told_without) {
            let is_replay = plan.attacks().all(|attack| attack == Attack::Replay);
            let invariant = if is_replay {
                Invariant::S4
            } else {
                Invariant::S2
            };
            outcome.violation = Some(Violation::new(invariant, outcome.simulated, what));
        }
    }
    outcome
}

/// The first that a node was told with attackers and not without, or the other way round.
fn difference(with: &Histories, without: &Histories) -> Option<String> {
    let mut subjects = with.keys().chain(without.keys());
    subjects.find_map(|key| {
        let (with, without) = (with.get(key), without.get(key));
        let (id, about) = key;
        (with != without)
            .then(|| format!("{id} is told {with:?} of {about}, and without attackers {without:?}"))
    })
}

fn run_once(plan: &Plan, lines: Lines) -> (Outcome, Histories) {
    let simulation = Simulation::with(Options {
        seed: plan.seed,
        policy: plan.policy,
        spurious_wakes: plan.spurious_wakes,
        ..Options::default()
    });
    if lines == Lines::Kept {
        simulation.keep_lines();
    }
    simulation
        .network()
        .change_all(|link| *link = plan.link.clone());
    let stage = Rc::new(Stage::new(plan, &simulation));
    if lines == Lines::Kept {
        stage.oracle.borrow_mut().scenes.keep();
        stage.ledger.borrow_mut().scenes.keep();
    }
    stage.plan_phases();
    let errors = ErrorWatch::default();
    let watched = errors.begin();
    simulation.block_on(stage.conduct(&simulation));
    drop(watched);
    stage.check_log(&errors);
    if let Some(violation) = &mut *stage.violation.borrow_mut() {
        violation.nodes = stage.describe_nodes();
    }
    let outcome = Outcome {
        hash: simulation.hash(),
        events: simulation.events(),
        simulated: simulation.now(),
        violation: stage.violation.take(),
        marks: BTreeSet::new(),
        lines: simulation.lines(),
        scenes: Scenes::merged([
            std::mem::take(&mut stage.oracle.borrow_mut().scenes),
            std::mem::take(&mut stage.ledger.borrow_mut().scenes),
            simulation.take_scenes(),
        ]),
    };
    (outcome, stage.told.take())
}

impl Stage {
    fn new(plan: &Plan, simulation: &Simulation) -> Self {
        let hosts: Vec<_> = plan
            .node_ids()
            .map(|id| simulation.host(&id.to_string()))
            .collect();
        let nodes = hosts.iter().map(Node::new).collect();
        Self {
            plan: plan.clone(),
            draws: Draws::new(plan.seed),
            hosts,
            trust: Trust::new(),
            nodes: RefCell::new(nodes),
            agenda: RefCell::new(Queue::new()),
            active: RefCell::default(),
            oracle: RefCell::new(Oracle::new(plan)),
            told: RefCell::default(),
            ledger: RefCell::default(),
            ended: RefCell::default(),
            call_flows: Cell::new(0),
            moves: Cell::new(0),
            sent_before_calm: RefCell::default(),
            is_healed: Cell::new(false),
            core_healed_at: Cell::new(None),
            is_shutting_down: Cell::new(false),
            is_over: Cell::new(false),
            violation: RefCell::default(),
        }
    }

    /// Lets everything happen that is planned, until it is over or something breaks.
    async fn conduct(self: &Rc<Self>, simulation: &Simulation) {
        loop {
            let next = self.agenda.borrow().next_at();
            let Some(at) = next.filter(|_| !self.is_over.get() && !self.is_broken()) else {
                return;
            };
            simulation.sleep(at.saturating_sub(simulation.now())).await;
            let item = self.agenda.borrow_mut().pop_due(simulation.now());
            if let Some(item) = item {
                self.take(item, simulation);
            }
        }
    }

    fn take(self: &Rc<Self>, item: Item, simulation: &Simulation) {
        match item {
            Item::Start(id) => self.start(id),
            Item::Step(number) => self.take_step(number),
            Item::Undo(undo) => self.undo(undo),
            Item::Check => self.check(),
            Item::Phase(phase) => self.begin_phase(phase, simulation),
        }
    }

    fn plan_item(&self, at: Duration, item: Item) {
        self.agenda.borrow_mut().plan(at, item);
    }

    fn now(&self) -> Duration {
        self.hosts[0].now()
    }

    fn host(&self, id: NodeId) -> &Host {
        &self.hosts[id.index()]
    }

    fn with_node<T>(&self, id: NodeId, work: impl FnOnce(&mut Node) -> T) -> T {
        work(&mut self.nodes.borrow_mut()[id.index()])
    }

    fn with_ledger<T>(&self, work: impl FnOnce(&mut Ledger, Duration) -> T) -> T {
        work(&mut self.ledger.borrow_mut(), self.now())
    }

    /// Does something with the ledger that may find that an invariant is broken.
    fn try_ledger<T>(
        &self,
        work: impl FnOnce(&mut Ledger, Duration) -> Result<T, Finding>,
    ) -> Option<T> {
        self.found(self.with_ledger(work))
    }

    fn found<T>(&self, found: Result<T, Finding>) -> Option<T> {
        found
            .map_err(|(invariant, what)| self.fail(invariant, what))
            .ok()
    }

    fn next_call_flow(&self) -> u32 {
        self.call_flows.set(self.call_flows.get() + 1);
        self.call_flows.get()
    }

    /// The fabric of a node that runs.
    fn fabric(&self, id: NodeId) -> Option<Fabric> {
        self.with_node(id, |node| node.fabric.clone())
    }

    /// The fabric of a node on which a program can do anything.
    fn at_work(&self, id: NodeId) -> Option<(Run, Fabric)> {
        self.with_node(id, |node| {
            let can_work = !node.has_left && !node.is_frozen;
            let fabric = node.fabric.clone().filter(|_| can_work)?;
            Some(((id, node.runs), fabric))
        })
    }

    fn is_broken(&self) -> bool {
        self.violation.borrow().is_some()
    }

    fn fail(&self, invariant: Invariant, what: String) {
        let violation = Violation::new(invariant, self.now(), what);
        self.violation.borrow_mut().get_or_insert(violation);
    }

    /// Puts into the history what happens at a node.
    fn note(&self, id: NodeId, what: impl FnOnce() -> String) {
        self.host(id).tell(&what());
    }

    /// Puts into the history what happens to the whole world.
    fn tell(&self, what: impl fmt::Display) {
        self.hosts[0].tell_world(&what.to_string());
    }
}

impl Node {
    fn new(host: &Host) -> Self {
        Self {
            address: SocketAddr::new(host.ip(), PORT),
            runs: 0,
            is_running: false,
            fabric: None,
            session: Session(0),
            serves: BTreeMap::new(),
            has_left: false,
            is_frozen: false,
            awake_since: Duration::ZERO,
        }
    }
}

/// Where a node is at first: hosts get the addresses after 10.0.0.0, in the order of their ids.
fn first_place(id: NodeId) -> SocketAddr {
    let ip = IpAddr::from(Ipv4Addr::from_bits(0x0a00_0001 + id.0));
    SocketAddr::new(ip, PORT)
}

/// Where nodes listen that have not moved.
const PORT: u16 = 7400;
