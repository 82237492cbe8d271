//! What a plan's steps do to the world, and how each is undone.

use std::time::Duration;

use grinta_proto::node::control::directory::Standing;
use grinta_proto::{ClaimMode, EndpointName};

use super::phases::Phase;
use super::{Event, Node, TOLD, World, host, index, links, place};
use crate::network::CutId;
use crate::oracle;
use crate::plan::{Action, Fault, HostFault, NodeId, Operation, Step, Turn};
use crate::scene::{Claimed, Life};

/// What ends, and when.
#[derive(Debug)]
pub(super) enum Undo {
    /// The fault of this step.
    Fault(usize),
    /// It comes and goes: the next turn of the fault of this step.
    Turn(usize),
}

/// A fault that is under way.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) fault: Fault,
    /// What it cuts at present.
    cuts: Vec<CutId>,
    /// How often it has come and gone.
    turns: u32,
}

impl World<'_> {
    pub(super) fn take_step(&mut self, number: usize) {
        let plan = self.plan;
        let Step { at: _, action } = &plan.steps[number];
        self.tell(&action.to_string());
        match action {
            Action::Operate(operation) => self.operate(operation),
            Action::Disturb { fault, lasts } => {
                self.disturb(number, fault, *lasts);
                if let Some(lasts) = lasts {
                    let undo = Event::Undo(Undo::Fault(number));
                    self.queue.plan(self.now + *lasts, undo);
                }
            }
        }
    }

    fn operate(&mut self, operation: &Operation) {
        match operation {
            Operation::Claim(id, name) => self.claim(*id, name, ClaimMode::Exclusive),
            Operation::StandBy(id, name) => self.claim(*id, name, ClaimMode::Standby),
            Operation::Release(id, name) => {
                if self.is_at_work(*id) {
                    self.oracle.released(self.now, *id, name);
                    self.act(*id, |control, now, _| control.release(now, name));
                }
            }
            Operation::Leave(id) | Operation::ShutDown(id) => {
                if self.is_at_work(*id) {
                    self.leave(*id);
                }
            }
            Operation::Join(id) => self.join_again(*id),
            Operation::Open(_) | Operation::Call(_) => {}
        }
    }

    pub(super) fn claim(&mut self, id: NodeId, name: &EndpointName, mode: ClaimMode) {
        if !self.is_at_work(id) {
            return;
        }
        self.oracle.claims(id, name);
        let claimed = self.act(id, |control, now, unix_time| {
            control.claim(now, unix_time, name.clone(), mode)
        });
        let knows_better = &mut self.nodes[index(id)].knows_better;
        let verb = match claimed {
            Some(Ok(Standing::Owner)) => {
                knows_better.remove(name);
                self.oracle.stands(self.now, id, name, Claimed::Owner);
                "claims"
            }
            Some(Ok(Standing::Standby)) => {
                knows_better.insert(name.clone());
                self.oracle.stands(self.now, id, name, Claimed::Waits);
                "stands by for"
            }
            Some(Err(_)) | None => "may not claim",
        };
        self.note(id, &format!("{verb} {name}"));
    }

    pub(super) fn leave(&mut self, id: NodeId) {
        self.oracle.leaves(self.now, id);
        self.act(id, |control, now, _| control.leave(now));
    }

    /// Whether a program on this node can do anything.
    fn is_at_work(&self, id: NodeId) -> bool {
        let node = &self.nodes[index(id)];
        node.takes_part() && node.frozen.is_none()
    }

    /// Puts into the history what happens to the whole world.
    pub(super) fn tell(&mut self, what: &str) {
        self.history
            .record(self.now, TOLD, [0, 0], what.as_bytes(), || what.to_owned());
    }

    fn disturb(&mut self, number: usize, fault: &Fault, lasts: Option<Duration>) {
        self.oracle.fault_begins(self.now, fault, lasts);
        let active = Active {
            fault: fault.clone(),
            cuts: Vec::new(),
            turns: 0,
        };
        self.active.insert(number, active);
        match fault {
            Fault::Crash(id) | Fault::Move(id) | Fault::SetBack(id) => self.crash(*id),
            Fault::Pause(id) => self.freeze(*id),
            Fault::ClockAhead(id, by) => self.nodes[index(*id)].unix_epoch += *by,
            Fault::ClockBehind(id, by) => {
                let epoch = &mut self.nodes[index(*id)].unix_epoch;
                *epoch = epoch.saturating_sub(*by);
            }
            Fault::Swap(one, other) => {
                self.crash(*one);
                self.crash(*other);
            }
            Fault::Cut(..) | Fault::CutOneWay(..) | Fault::Jam(..) | Fault::Ring => {
                self.cut(number);
            }
            Fault::Flap(..)
            | Fault::Swizzle(_)
            | Fault::RollingRestart(_)
            | Fault::Host(_, HostFault::Cycles { .. }) => self.turn(number),
            Fault::SlowLinks(..)
            | Fault::Latency(_)
            | Fault::Jitter(_)
            | Fault::Loss(_)
            | Fault::Duplicate(_)
            | Fault::Reorder(_)
            | Fault::Weather(_) => self.weather(),
            Fault::Host(..) | Fault::LosePacket(..) | Fault::Attack(..) => {}
        }
    }

    pub(super) fn undo(&mut self, undo: Undo) {
        match undo {
            // What is wrong when the core is healed stays so until all is.
            Undo::Fault(_) if self.core_healed_at.is_some() => {}
            Undo::Fault(number) => self.end_fault(number),
            Undo::Turn(number) => self.turn(number),
        }
    }

    /// Ends a fault, unless it has ended.
    pub(super) fn end_fault(&mut self, number: usize) {
        let Some(active) = self.active.remove(&number) else {
            return;
        };
        self.tell(&format!("no more {}", active.fault));
        for cut in active.cuts {
            self.network.mend(cut);
        }
        match &active.fault {
            Fault::Crash(id) => self.start(*id),
            Fault::Move(id) => {
                self.relocate(*id);
                self.start(*id);
            }
            Fault::SetBack(id) => {
                let node = &mut self.nodes[index(*id)];
                node.unix_epoch = node.unix_epoch.saturating_sub(SET_BACK);
                self.start(*id);
            }
            Fault::RollingRestart(_) => {
                for id in self.plan.node_ids() {
                    self.start_unless_held(id);
                }
            }
            Fault::Pause(id) | Fault::Host(id, HostFault::Cycles { .. }) => self.thaw(*id),
            Fault::ClockAhead(id, by) => {
                let epoch = &mut self.nodes[index(*id)].unix_epoch;
                *epoch = epoch.saturating_sub(*by);
            }
            Fault::ClockBehind(id, by) => self.nodes[index(*id)].unix_epoch += *by,
            Fault::Swap(one, other) => {
                self.swap(*one, *other);
                self.start(*one);
                self.start(*other);
            }
            Fault::Cut(..)
            | Fault::CutOneWay(..)
            | Fault::Jam(..)
            | Fault::Ring
            | Fault::Flap(..)
            | Fault::Host(..)
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
        self.oracle.fault_ends(self.now, &active.fault);
    }

    fn crash(&mut self, id: NodeId) {
        let node = &mut self.nodes[index(id)];
        let Some(control) = node.control.take() else {
            return;
        };
        node.armed = None;
        node.frozen = None;
        node.ended_at = Some(self.now);
        let run = node.runs;
        self.oracle.stopped(self.now, id, control.session());
        self.note(id, "crashes");
        self.watch_links(links::Cause::Stopped(id), |end| end == id);
        let bound = oracle::crash_bound(self.plan.nodes);
        let since = self.now;
        let phase = Phase::CrashKnown { id, run, since };
        self.queue.plan(since + bound, Event::Phase(phase));
    }

    /// Gives a node that does not run another address.
    fn relocate(&mut self, id: NodeId) {
        if self.nodes[index(id)].control.is_some() {
            return;
        }
        self.moves += 1;
        let address = place(id, self.moves);
        let before = std::mem::replace(&mut self.nodes[index(id)].address, address);
        self.places.remove(&before);
        self.places.insert(address, id);
    }

    /// Gives two nodes that do not run each other's address.
    fn swap(&mut self, one: NodeId, other: NodeId) {
        let runs = |id: NodeId| self.nodes[index(id)].control.is_some();
        if one == other || runs(one) || runs(other) {
            return;
        }
        let (first, second) = (
            self.nodes[index(one)].address,
            self.nodes[index(other)].address,
        );
        for (id, address) in [(one, second), (other, first)] {
            self.nodes[index(id)].address = address;
            self.places.insert(address, id);
        }
    }

    /// Lets a node take part again that had left.
    pub(super) fn join_again(&mut self, id: NodeId) {
        if self.oracle.has_left(id) && self.nodes[index(id)].control.is_some() {
            self.nodes[index(id)].has_left = false;
            self.oracle.started_again(self.now, id);
            let seeds = self.seeds_of(id);
            self.act(id, |control, now, _| control.join(now, &seeds));
        }
    }

    fn freeze(&mut self, id: NodeId) {
        let now = self.now;
        let Node {
            control, frozen, ..
        } = &mut self.nodes[index(id)];
        if control.is_some() && frozen.is_none() {
            *frozen = Some((now, Vec::new()));
            self.note(id, "freezes");
            self.oracle.lives(now, id, Life::Frozen);
            self.watch_links(links::Cause::Stopped(id), |end| end == id);
        }
    }

    /// Lets a process go on: first what waits in its socket, then its timers.
    fn thaw(&mut self, id: NodeId) {
        let Some((_, held)) = self.nodes[index(id)].frozen.take() else {
            return;
        };
        self.note(id, "goes on");
        let life = if self.nodes[index(id)].has_left {
            Life::Left
        } else {
            Life::Runs
        };
        self.oracle.lives(self.now, id, life);
        let (timers, arrived): (Vec<_>, Vec<_>) = held
            .into_iter()
            .partition(|event| matches!(event, Event::Timer { .. }));
        for event in arrived {
            self.handle(event);
        }
        if !timers.is_empty() {
            self.act(id, |control, now, unix_time| {
                control.handle_timeout(now, unix_time)
            });
        }
    }

    /// Makes the cuts of an active fault.
    fn cut(&mut self, number: usize) {
        let Some(active) = self.active.get_mut(&number) else {
            return;
        };
        let hosts = |ids: &[NodeId]| ids.iter().map(|&id| host(id)).collect::<Vec<_>>();
        let network = &mut self.network;
        let cuts = match &active.fault {
            Fault::Cut(one, other) | Fault::Flap(one, other, _) => {
                vec![network.cut(&hosts(one), &hosts(other))]
            }
            Fault::CutOneWay(from, to) | Fault::Jam(from, to) => {
                vec![network.cut_one_way(&hosts(from), &hosts(to))]
            }
            Fault::Ring => {
                let ids = self.plan.node_ids();
                ids.map(|id| network.cut(&hosts(&[id]), &hosts(&self.plan.beyond_neighbours(id))))
                    .collect()
            }
            Fault::Crash(_)
            | Fault::Move(_)
            | Fault::SetBack(_)
            | Fault::Pause(_)
            | Fault::ClockAhead(..)
            | Fault::ClockBehind(..)
            | Fault::SlowLinks(..)
            | Fault::Latency(_)
            | Fault::Jitter(_)
            | Fault::Loss(_)
            | Fault::Duplicate(_)
            | Fault::Reorder(_)
            | Fault::Swap(..)
            | Fault::RollingRestart(_)
            | Fault::Host(..)
            | Fault::Swizzle(_)
            | Fault::LosePacket(..)
            | Fault::Weather(_)
            | Fault::Attack(..) => Vec::new(),
        };
        active.cuts.clone_from(&cuts);
        for cut in cuts {
            self.watch_links(links::Cause::Cut(cut), |_| true);
        }
    }

    /// The next turn of a fault that comes and goes.
    fn turn(&mut self, number: usize) {
        let Some(active) = self.active.get_mut(&number) else {
            return;
        };
        let Some((turn, lasts)) = active.fault.turn(active.turns, self.plan.nodes) else {
            return;
        };
        active.turns += 1;
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
        let undo = Event::Undo(Undo::Turn(number));
        self.queue.plan(self.now + lasts, undo);
    }

    /// Turns a flapping cut over.
    fn flap(&mut self, number: usize) {
        let active = self.active.get_mut(&number);
        let cuts = active.map(|active| std::mem::take(&mut active.cuts));
        let cuts = cuts.unwrap_or_default();
        if cuts.is_empty() {
            self.cut(number);
        }
        for cut in cuts {
            self.network.mend(cut);
        }
    }

    fn cut_off(&mut self, number: usize, id: NodeId) {
        let Some(active) = self.active.get_mut(&number) else {
            return;
        };
        let all: Vec<_> = self.plan.node_ids().map(host).collect();
        let cut = self.network.cut(&[host(id)], &all);
        active.cuts.push(cut);
        self.watch_links(links::Cause::Cut(cut), |_| true);
    }

    fn reconnect(&mut self, number: usize) {
        if let Some(active) = self.active.get_mut(&number)
            && !active.cuts.is_empty()
        {
            let middle = active.cuts.len() / 2;
            self.network.mend(active.cuts.remove(middle));
        }
    }

    /// Starts a node unless another fault is to start it.
    fn start_unless_held(&mut self, id: NodeId) {
        let is_held = self.active.values().any(|active| active.fault.stops(id));
        if !is_held {
            self.start(id);
        }
    }

    /// Makes all links as the active faults have them.
    fn weather(&mut self) {
        self.network.restore(self.plan.link.clone());
        for active in self.active.values() {
            self.network.worsen(&active.fault, host);
        }
    }
}

/// How far back the wall clock of a node is set that restarts so.
const SET_BACK: Duration = Duration::from_secs(3600);
