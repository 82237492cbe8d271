//! The phases of a run: boot, chaos, heal (of the core first, in some), liveness, calm, shutdown.

use std::collections::BTreeSet;
use std::time::Duration;

use grinta_proto::ClaimMode;

use super::faults::Active;
use super::{Event, Node, World, host, index};
use crate::marks::sometimes;
use crate::oracle;
use crate::plan::NodeId;
use crate::verdict::Invariant;

#[derive(Debug)]
pub(super) enum Phase {
    /// The bound has passed within which a crash is known everywhere.
    CrashKnown {
        id: NodeId,
        run: u64,
        since: Duration,
    },
    /// The core is healed, and what else is wrong stays so.
    HealCore,
    /// The bound has passed within which the views of the core are whole. It claims names.
    CoreWhole,
    /// The core has lived for a while with what is wrong elsewhere.
    CoreLives,
    /// All faults end.
    Heal,
    /// The bound has passed within which all views are whole.
    Whole,
    /// Nothing happened for a while, and still holds.
    Shutdown,
    Over,
}

impl World<'_> {
    /// Plans all that the plan says, and the phases after it.
    pub(super) fn plan_phases(&mut self) {
        let spread = BOOT_SPREAD / self.plan.nodes;
        for id in self.plan.node_ids() {
            let at = spread.min(BOOT_INTERVAL) * id.0;
            self.queue.plan(at, Event::Start(id));
        }
        for (number, step) in self.plan.steps.iter().enumerate() {
            self.queue.plan(step.at, Event::Step(number));
        }
        let mut heal = self.plan.chaos_end();
        if !self.plan.core.is_empty() {
            self.queue.plan(heal, Event::Phase(Phase::HealCore));
            heal += oracle::HEAL_BOUND;
            self.queue.plan(heal, Event::Phase(Phase::CoreWhole));
            heal += oracle::CORE_LIVES;
            self.queue.plan(heal, Event::Phase(Phase::CoreLives));
        }
        let whole = heal + oracle::HEAL_BOUND;
        let shutdown = whole + CALM;
        self.queue
            .plan(check_interval(self.plan.nodes), Event::Check);
        self.queue.plan(heal, Event::Phase(Phase::Heal));
        self.queue.plan(whole, Event::Phase(Phase::Whole));
        self.queue.plan(shutdown, Event::Phase(Phase::Shutdown));
        self.queue
            .plan(shutdown + SHUTDOWN_BOUND, Event::Phase(Phase::Over));
    }

    pub(super) fn begin_phase(&mut self, phase: Phase) {
        match phase {
            Phase::CrashKnown { id, run, since } => self.check_crash(id, run, since),
            Phase::HealCore => self.heal_core(),
            Phase::CoreWhole => {
                self.check_core();
                for &id in &self.plan.core {
                    self.claim(id, &oracle::name_in_core(id), ClaimMode::Exclusive);
                }
            }
            Phase::CoreLives => {
                self.check_core();
                sometimes!(!self.active.is_empty(), CoreLived);
            }
            Phase::Heal => self.heal(),
            Phase::Whole => {
                self.check_whole();
                for node in &mut self.nodes {
                    node.sent_before_calm = node.bytes_sent;
                }
            }
            Phase::Shutdown => {
                self.check_whole();
                self.check_idle();
                self.is_shutting_down = true;
                for id in self.plan.node_ids() {
                    self.leave(id);
                }
            }
            Phase::Over => self.check_over(),
        }
    }

    /// Ends what is wrong with the core. All else goes on until the heal.
    fn heal_core(&mut self) {
        self.tell("heals the core");
        let plan = self.plan;
        let of_core = |active: &Active| plan.ends_with_core(&active.fault);
        let active = self.active.iter().filter(|(_, active)| of_core(active));
        let active: Vec<_> = active.map(|(&number, _)| number).collect();
        for number in active {
            self.end_fault(number);
        }
        self.core_healed_at = Some(self.now);
        self.oracle.faults_stay();
        let hosts = plan.core.iter().map(|&id| host(id)).collect();
        self.network.spare(hosts, plan.link.clone());
        for &id in &plan.core {
            self.join_or_start(id);
        }
    }

    /// Ends all faults: the network is as it was at first, and everybody runs.
    fn heal(&mut self) {
        self.tell("heal");
        self.core_healed_at = None;
        self.network.spare(BTreeSet::new(), self.plan.link.clone());
        let active: Vec<_> = self.active.keys().copied().collect();
        for number in active {
            self.end_fault(number);
        }
        for id in self.plan.node_ids() {
            self.join_or_start(id);
        }
    }

    fn join_or_start(&mut self, id: NodeId) {
        if self.nodes[index(id)].control.is_none() {
            self.start(id);
        } else {
            self.join_again(id);
        }
    }

    pub(super) fn check(&mut self) {
        if self.is_shutting_down {
            return;
        }
        self.check_now();
        let again = self.now + check_interval(self.plan.nodes);
        self.queue.plan(again, Event::Check);
    }

    /// Nothing happened, so little was sent.
    fn check_idle(&mut self) {
        let sent = |node: &Node| (node.bytes_sent - node.sent_before_calm) / CALM.as_secs();
        let talker = self.nodes.iter().find(|node| sent(node) > IDLE_BYTES);
        if let Some(talker) = talker {
            let what = format!(
                "{} sends {} B/s, and nothing happens; {IDLE_BYTES} are expected",
                talker.name,
                sent(talker),
            );
            self.fail(Invariant::R6, what);
        }
    }

    fn check_over(&mut self) {
        for node in &self.nodes {
            let control = node.control.as_ref();
            if let Some(deadline) = control.and_then(|control| control.poll_timeout()) {
                let after = deadline.saturating_duration_since(self.instant());
                let what = format!("{} has left and has a timer in {after:?}", node.name);
                self.fail(Invariant::R3, what);
                break;
            }
        }
        self.is_over = true;
    }
}

/// How often the oracle looks at everything. Looking is dear in a large fabric.
const fn check_interval(nodes: u32) -> Duration {
    if nodes <= 50 {
        Duration::from_secs(1)
    } else {
        Duration::from_secs(10)
    }
}

/// Between the starts of two nodes.
const BOOT_INTERVAL: Duration = Duration::from_millis(100);

/// Within what all have started, however many.
const BOOT_SPREAD: Duration = Duration::from_secs(5);

/// How long nothing happens before the shutdown.
const CALM: Duration = Duration::from_secs(15);

/// What an idle node sends, in bytes each second: probes and push and pull.
const IDLE_BYTES: u64 = 600;

/// Within what everybody is gone: two probe intervals, and some.
const SHUTDOWN_BOUND: Duration = Duration::from_secs(5);
