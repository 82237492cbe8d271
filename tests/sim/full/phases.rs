//! The phases of a run: boot, chaos, heal (of the core first, in some), liveness, calm, shutdown.

use std::rc::Rc;
use std::time::Duration;

use grinta_proto::EndpointName;

use super::flows::{Demand, Program};
use super::ledger::Run;
use super::{Item, Stage};
use crate::marks::sometimes;
use crate::oracle;
use crate::plan::{FlowEnd, FlowPlan, NodeId, Operation, Reading};
use crate::simulation::Simulation;

#[derive(Debug)]
pub(super) enum Phase {
    /// The bound has passed within which a crash is known everywhere.
    CrashKnown {
        run: Run,
        since: Duration,
    },
    /// The core is healed, and what else is wrong stays so.
    HealCore,
    /// The bound has passed within which the views of the core are whole. It claims names.
    CoreWhole,
    /// All of the core dial the new names.
    CoreDials,
    /// The core has lived for a while with what is wrong elsewhere.
    CoreLives,
    /// All faults end.
    Heal,
    /// The bound has passed within which all views are whole. Everybody then dials every name.
    Whole,
    /// Nothing is asked of the nodes any more.
    Calm,
    /// Nothing happened for a while, and all still holds.
    ShutDown,
    Over,
}

impl Stage {
    /// Plans all that the plan says, and the phases after it.
    pub(super) fn plan_phases(&self) {
        for id in self.plan.node_ids() {
            self.plan_item(BOOT_INTERVAL * id.0, Item::Start(id));
        }
        for (number, step) in self.plan.steps.iter().enumerate() {
            self.plan_item(step.at, Item::Step(number));
        }
        let mut heal = self.plan.chaos_end();
        if !self.plan.core.is_empty() {
            self.plan_item(heal, Item::Phase(Phase::HealCore));
            heal += oracle::HEAL_BOUND;
            self.plan_item(heal, Item::Phase(Phase::CoreWhole));
            self.plan_item(heal + NAMES_SPREAD, Item::Phase(Phase::CoreDials));
            heal += oracle::CORE_LIVES;
            self.plan_item(heal, Item::Phase(Phase::CoreLives));
        }
        let whole = heal + oracle::HEAL_BOUND;
        let calm = whole + LIVENESS;
        let shutdown = calm + CALM;
        self.plan_item(CHECK_INTERVAL, Item::Check);
        self.plan_item(heal, Item::Phase(Phase::Heal));
        self.plan_item(whole, Item::Phase(Phase::Whole));
        self.plan_item(calm, Item::Phase(Phase::Calm));
        self.plan_item(shutdown, Item::Phase(Phase::ShutDown));
        self.plan_item(shutdown + SHUTDOWN_BOUND, Item::Phase(Phase::Over));
    }

    pub(super) fn begin_phase(self: &Rc<Self>, phase: Phase, simulation: &Simulation) {
        match phase {
            Phase::CrashKnown { run, since } => self.check_crash(run, since),
            Phase::HealCore => self.heal_core(),
            Phase::CoreWhole => {
                self.check_core();
                self.claim_in_core();
            }
            Phase::CoreDials => {
                let core = &self.plan.core;
                let names = core.iter().map(|&id| oracle::name_in_core(id));
                self.dial_all(core, &names.collect::<Vec<_>>());
            }
            Phase::CoreLives => {
                sometimes!(!self.active.borrow().is_empty(), CoreLived);
                self.check_core();
                self.check_settled();
            }
            Phase::Heal => self.heal(),
            Phase::Whole => {
                self.check_whole();
                let all: Vec<_> = self.plan.node_ids().collect();
                self.dial_all(&all, &self.names_read());
            }
            Phase::Calm => {
                let sent = self.hosts.iter().map(|host| host.bytes_sent());
                self.sent_before_calm.replace(sent.collect());
            }
            Phase::ShutDown => {
                self.check_whole();
                self.check_settled();
                self.check_idle(CALM);
                self.shut_all_down();
            }
            Phase::Over => {
                self.check_over(simulation);
                self.is_over.set(true);
            }
        }
    }

    /// Ends what is wrong with the core. All else goes on until the heal.
    fn heal_core(self: &Rc<Self>) {
        self.tell("heals the core");
        self.is_healed.set(true);
        self.core_healed_at.set(Some(self.now()));
        self.oracle.borrow_mut().faults_stay();
        self.spare(&self.plan.core);
        self.end_faults(|fault| self.plan.ends_with_core(fault));
        for &id in &self.plan.core {
            self.join_again(id);
            self.start(id);
        }
    }

    /// Each node of the core claims a name of its own.
    fn claim_in_core(self: &Rc<Self>) {
        for &id in &self.plan.core {
            self.operate(&Operation::Claim(id, oracle::name_in_core(id)));
        }
    }

    /// Ends all faults: the network is as it was at first, and everybody runs.
    fn heal(self: &Rc<Self>) {
        self.tell("heal");
        self.is_healed.set(true);
        self.core_healed_at.set(None);
        self.spare(&[]);
        self.end_faults(|_| true);
        for id in self.plan.node_ids() {
            self.join_again(id);
            self.start(id);
        }
    }

    pub(super) fn check(&self) {
        if self.is_shutting_down.get() {
            return;
        }
        self.check_now();
        self.plan_item(self.now() + CHECK_INTERVAL, Item::Check);
    }

    /// The names that are served by reading messages.
    fn names_read(&self) -> Vec<EndpointName> {
        let nodes = self.nodes.borrow();
        let served = nodes.iter().flat_map(|node| node.serves.keys());
        let read = served.filter(|name| !name.as_str().starts_with(super::program::CALLED));
        read.cloned().collect()
    }

    /// All of these nodes send something to all of these names, and have to get through.
    fn dial_all(self: &Rc<Self>, nodes: &[NodeId], names: &[EndpointName]) {
        for &id in nodes {
            for to in names {
                let Some((run, fabric)) = self.at_work(id) else {
                    continue;
                };
                let program = Program {
                    stage: Rc::clone(self),
                    run,
                    fabric,
                };
                let plan = FlowPlan {
                    from: id,
                    to: to.clone(),
                    messages: 1,
                    length: 100,
                    every: Duration::ZERO,
                    end: FlowEnd::Finish,
                    reading: Reading::AtOnce,
                    is_fickle: false,
                };
                self.host(id)
                    .spawn("sender", program.open(plan, Demand::Through));
            }
        }
    }

    fn shut_all_down(self: &Rc<Self>) {
        self.tell("shutdown");
        self.is_shutting_down.set(true);
        for id in self.plan.node_ids() {
            if let Some((run, fabric)) = self.at_work(id) {
                self.shut_down(Program {
                    stage: Rc::clone(self),
                    run,
                    fabric,
                });
            }
        }
    }
}

/// Between the starts of two nodes.
const BOOT_INTERVAL: Duration = Duration::from_millis(100);

/// How often everything is looked at.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Within what a new name is known everywhere.
const NAMES_SPREAD: Duration = Duration::from_secs(3);

/// How long flows have to end once all is whole: longer than the idle time-out.
const LIVENESS: Duration = Duration::from_secs(5);

/// How long nothing happens before the shutdown.
const CALM: Duration = Duration::from_secs(12);

/// Within what everybody is gone: the grace period, and some.
const SHUTDOWN_BOUND: Duration = Duration::from_secs(8);
