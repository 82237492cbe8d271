//! What a plan's steps do to the world, and how each is undone.

use std::rc::Rc;
use std::time::Duration;

use super::futures::Signal;
use super::phases::Phase;
use super::{Item, Stage};
use crate::network::{CutId, Network};
use crate::oracle;
use crate::plan::{Action, Fault, HostFault, NodeId, Turn};
use crate::scene::Life;

/// What ends, or goes on in another way.
#[derive(Debug)]
pub(super) enum Undo {
    /// The fault of this step ends.
    End(usize),
    /// It comes and goes: the next turn of the fault of this step.
    Turn(usize),
}

/// A fault that is under way.
#[derive(Debug)]
pub(super) struct Active {
    fault: Fault,
    /// What it cuts or jams at present.
    cuts: Vec<CutId>,
    /// How often it has come and gone.
    turns: u32,
    /// Ends an attack.
    stop: Option<Rc<Signal>>,
}

impl Stage {
    pub(super) fn take_step(self: &Rc<Self>, number: usize) {
        let step = &self.plan.steps[number];
        self.tell(&step.action);
        match &step.action {
            Action::Operate(operation) => self.operate(operation),
            Action::Disturb { fault, lasts } => {
                self.disturb(number, fault, *lasts);
                if let Some(lasts) = lasts {
                    self.plan_item(self.now() + *lasts, Item::Undo(Undo::End(number)));
                }
            }
        }
    }

    fn disturb(self: &Rc<Self>, number: usize, fault: &Fault, lasts: Option<Duration>) {
        self.oracle
            .borrow_mut()
            .fault_begins(self.now(), fault, lasts);
        let active = Active {
            fault: fault.clone(),
            cuts: Vec::new(),
            turns: 0,
            stop: None,
        };
        self.active.borrow_mut().insert(number, active);
        match fault {
            Fault::Crash(id) | Fault::Move(id) | Fault::SetBack(id) => self.crash(*id),
            Fault::Swap(one, other) => {
                self.crash(*one);
                self.crash(*other);
            }
            Fault::Pause(id) => self.freeze(*id),
            Fault::ClockAhead(id, by) => self.set_clock(*id, |time| time + *by),
            Fault::ClockBehind(id, by) => self.set_clock(*id, |time| time.saturating_sub(*by)),
            Fault::Host(id, HostFault::Slow(times)) => self.host(*id).slow_down(*times),
            Fault::Host(id, HostFault::RefuseSends(share)) => self.host(*id).refuse_sends(*share),
            Fault::Host(id, HostFault::Rebind) => self.rebind(*id, true),
            Fault::Host(id, HostFault::Drift(ppm)) => self.host(*id).drift(*ppm),
            Fault::Cut(..) | Fault::CutOneWay(..) | Fault::Jam(..) | Fault::Ring => {
                self.cut(number);
            }
            Fault::Flap(..)
            | Fault::Swizzle(_)
            | Fault::RollingRestart(_)
            | Fault::Host(_, HostFault::Cycles { .. }) => self.turn(number),
            Fault::LosePacket(from, to, count) => {
                let (from, to) = (self.host(*from).id(), self.host(*to).id());
                self.with_network(|network| network.doom(from, to, *count));
            }
            Fault::SlowLinks(..)
            | Fault::Latency(_)
            | Fault::Jitter(_)
            | Fault::Loss(_)
            | Fault::Duplicate(_)
            | Fault::Reorder(_)
            | Fault::Weather(_) => self.weather(),
            Fault::Attack(id, attack) => {
                let stop = self.attack(number, *id, *attack);
                if let Some(active) = self.active.borrow_mut().get_mut(&number) {
                    active.stop = Some(stop);
                }
            }
        }
    }

    pub(super) fn undo(self: &Rc<Self>, undo: Undo) {
        match undo {
            // What is wrong when the core is healed stays so until all is.
            Undo::End(_) if self.core_healed_at.get().is_some() => {}
            Undo::End(number) => self.end_fault(number),
            Undo::Turn(number) => self.turn(number),
        }
    }

    /// Ends all faults of which that is asked.
    pub(super) fn end_faults(self: &Rc<Self>, ends: impl Fn(&Fault) -> bool) {
        let ending: Vec<_> = {
            let active = self.active.borrow();
            let ending = active.iter().filter(|(_, active)| ends(&active.fault));
            ending.map(|(&number, _)| number).collect()
        };
        for number in ending {
            self.end_fault(number);
        }
    }

    /// From here on nothing is wrong between these nodes.
    pub(super) fn spare(&self, nodes: &[NodeId]) {
        let hosts = nodes.iter().map(|&id| self.host(id).id()).collect();
        self.with_network(|network| network.spare(hosts, self.plan.link.clone()));
        self.hosts[0].world.release_jammed();
    }

    /// Ends a fault, unless it has ended.
    fn end_fault(self: &Rc<Self>, number: usize) {
        let Some(active) = self.active.borrow_mut().remove(&number) else {
            return;
        };
        self.tell(format_args!("no more {}", active.fault));
        self.with_network(|network| {
            for cut in active.cuts {
                network.mend(cut);
            }
        });
        if let Some(stop) = active.stop {
            stop.give();
        }
        match &active.fault {
            Fault::Crash(id) => self.start(*id),
            Fault::Move(id) => {
                self.relocate(*id);
                self.start(*id);
            }
            Fault::SetBack(id) => {
                self.set_clock(*id, |time| time.saturating_sub(SET_BACK));
                self.start(*id);
            }
            Fault::Swap(one, other) => {
                self.swap(*one, *other);
                self.start(*one);
                self.start(*other);
            }
            Fault::RollingRestart(_) => {
                for id in self.plan.node_ids() {
                    self.start_unless_held(id);
                }
            }
            Fault::Pause(id) | Fault::Host(id, HostFault::Cycles { .. }) => self.thaw(*id),
            Fault::ClockAhead(id, by) => self.set_clock(*id, |time| time.saturating_sub(*by)),
            Fault::ClockBehind(id, by) => self.set_clock(*id, |time| time + *by),
            Fault::Host(id, HostFault::Slow(_)) => self.host(*id).slow_down(1),
            Fault::Host(id, HostFault::RefuseSends(_)) => self.host(*id).refuse_sends(0),
            Fault::Host(id, HostFault::Rebind) => self.rebind(*id, false),
            Fault::Host(id, HostFault::Drift(_)) => self.host(*id).drift(0),
            Fault::Jam(..) => self.hosts[0].world.release_jammed(),
            Fault::Cut(..)
            | Fault::CutOneWay(..)
            | Fault::Ring
            | Fault::Flap(..)
            | Fault::Swizzle(_)
            | Fault::LosePacket(..)
            | Fault::Attack(..) => {}
            Fault::SlowLinks(..)
            | Fault::Latency(_)
            | Fault::Jitter(_)
            | Fault::Loss(_)
            | Fault::Duplicate(_)
            | Fault::Reorder(_)
            | Fault::Weather(_) => self.weather(),
        }
        self.oracle
            .borrow_mut()
            .fault_ends(self.now(), &active.fault);
    }

    fn with_network<T>(&self, work: impl FnOnce(&mut Network) -> T) -> T {
        work(&mut self.hosts[0].world.network.borrow_mut())
    }

    // Nodes.

    pub(super) fn crash(&self, id: NodeId) {
        let run = self.with_node(id, |node| node.is_running.then_some((id, node.runs)));
        let Some(run) = run else {
            return;
        };
        // Nothing that its tasks do as they are dropped counts.
        self.with_ledger(|ledger, now| ledger.died(now, run));
        self.host(id).crash();
        self.ended(run);
        let bound = oracle::crash_bound(self.plan.nodes);
        let since = self.now();
        let phase = Phase::CrashKnown { run, since };
        self.plan_item(since + bound, Item::Phase(phase));
    }

    /// Starts a node unless another fault is to start it.
    fn start_unless_held(self: &Rc<Self>, id: NodeId) {
        let active = self.active.borrow();
        let is_held = active.values().any(|active| active.fault.stops(id));
        drop(active);
        if !is_held {
            self.start(id);
        }
    }

    /// Gives a node that does not run another address.
    fn relocate(&self, id: NodeId) {
        let moves = self.moves.get() + 1;
        self.with_node(id, |node| {
            if !node.is_running {
                node.address.set_port(super::PORT + moves);
                self.moves.set(moves);
            }
        });
    }

    /// Gives two nodes that do not run each other's address.
    fn swap(&self, one: NodeId, other: NodeId) {
        let mut nodes = self.nodes.borrow_mut();
        let addresses = [one, other].map(|id| {
            let node = &nodes[id.index()];
            (!node.is_running).then_some(node.address)
        });
        let [Some(first), Some(second)] = addresses else {
            return;
        };
        for (id, address) in [(one, second), (other, first)] {
            nodes[id.index()].address = address;
            self.host(id).set_ip(address.ip());
        }
    }

    fn freeze(&self, id: NodeId) {
        let may_freeze = self.with_node(id, |node| {
            let may_freeze = node.is_running && !node.is_frozen;
            node.is_frozen |= may_freeze;
            may_freeze
        });
        if may_freeze {
            let now = self.now();
            self.oracle.borrow_mut().lives(now, id, Life::Frozen);
            self.host(id).pause();
        }
    }

    fn thaw(&self, id: NodeId) {
        let now = self.now();
        let was_frozen = self.with_node(id, |node| {
            if node.is_frozen {
                node.awake_since = now;
            }
            std::mem::take(&mut node.is_frozen)
        });
        if was_frozen {
            let has_left = self.with_node(id, |node| node.has_left);
            let life = if has_left { Life::Left } else { Life::Runs };
            self.oracle.borrow_mut().lives(now, id, life);
            self.host(id).resume();
        }
    }

    fn set_clock(&self, id: NodeId, change: impl FnOnce(Duration) -> Duration) {
        let host = self.host(id);
        host.set_unix_time(change(host.unix_time()));
    }

    /// Lets others see a node at another address, or at its own again.
    fn rebind(&self, id: NodeId, is_translated: bool) {
        let address = self.with_node(id, |node| node.address);
        let mut outer = address;
        outer.set_port(address.port() + REBOUND);
        let outer = is_translated.then_some(outer);
        self.hosts[0].world.translate(address, outer);
    }

    // Links.

    /// Makes the cuts of an active fault.
    fn cut(&self, number: usize) {
        let mut active = self.active.borrow_mut();
        let Some(active) = active.get_mut(&number) else {
            return;
        };
        let hosts = |ids: &[NodeId]| ids.iter().map(|&id| self.host(id).id()).collect::<Vec<_>>();
        let all: Vec<_> = self.plan.node_ids().collect();
        active.cuts = self.with_network(|network| {
            if let Fault::Cut(one, other) | Fault::Flap(one, other, _) = &active.fault {
                return vec![network.cut(&hosts(one), &hosts(other))];
            }
            if let Fault::CutOneWay(from, to) = &active.fault {
                return vec![network.cut_one_way(&hosts(from), &hosts(to))];
            }
            if let Fault::Jam(from, to) = &active.fault {
                return vec![network.jam(&hosts(from), &hosts(to))];
            }
            // A ring.
            let beyond = |id| hosts(&self.plan.beyond_neighbours(id));
            all.iter()
                .map(|&id| network.cut(&hosts(&[id]), &beyond(id)))
                .collect()
        });
    }

    /// The next turn of a fault that comes and goes.
    fn turn(self: &Rc<Self>, number: usize) {
        let next = {
            let mut active = self.active.borrow_mut();
            active.get_mut(&number).and_then(|active| {
                active.turns += 1;
                active.fault.turn(active.turns - 1, self.plan.nodes)
            })
        };
        let Some((turn, lasts)) = next else {
            return;
        };
        match turn {
            Turn::Flap => self.flap(number),
            Turn::CutOff(id) => self.cut_off(number, id),
            Turn::Reconnect => self.reconnect(number),
            Turn::Freeze(id) => self.freeze(id),
            Turn::Thaw(id) => self.thaw(id),
            Turn::Roll { started, ended } => {
                if let Some(id) = started {
                    self.start_unless_held(id);
                }
                if let Some(id) = ended {
                    self.crash(id);
                }
            }
        }
        self.plan_item(self.now() + lasts, Item::Undo(Undo::Turn(number)));
    }

    /// Turns a flapping cut over.
    fn flap(&self, number: usize) {
        let cuts = {
            let mut active = self.active.borrow_mut();
            active
                .get_mut(&number)
                .map(|active| std::mem::take(&mut active.cuts))
        };
        let cuts = cuts.unwrap_or_default();
        if cuts.is_empty() {
            self.cut(number);
        }
        self.with_network(|network| {
            for cut in cuts {
                network.mend(cut);
            }
        });
    }

    fn cut_off(&self, number: usize, id: NodeId) {
        let all: Vec<_> = self.hosts.iter().map(|host| host.id()).collect();
        let cut = self.with_network(|network| network.cut(&[self.host(id).id()], &all));
        if let Some(active) = self.active.borrow_mut().get_mut(&number) {
            active.cuts.push(cut);
        }
    }

    fn reconnect(&self, number: usize) {
        if let Some(active) = self.active.borrow_mut().get_mut(&number)
            && !active.cuts.is_empty()
        {
            let middle = active.cuts.len() / 2;
            let cut = active.cuts.remove(middle);
            self.with_network(|network| network.mend(cut));
        }
    }

    /// Makes all links as the active faults have them.
    fn weather(&self) {
        let active = self.active.borrow();
        self.with_network(|network| {
            network.restore(self.plan.link.clone());
            for active in active.values() {
                network.worsen(&active.fault, |id| self.host(id).id());
            }
        });
    }
}

/// How far back the wall clock of a node is set that restarts so.
const SET_BACK: Duration = Duration::from_secs(3600);

/// Between a node's port and the one that it is translated to.
const REBOUND: u16 = 10_000;
