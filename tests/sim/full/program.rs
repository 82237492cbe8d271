//! The program of a node: it joins, watches the members, serves names and does what the plan says.

use std::collections::btree_map::Entry;
use std::net::SocketAddr;
use std::rc::Rc;

use grinta_proto::node::control::ControlEvent;
use grinta_proto::{
    AcceptError, Builder, Endpoint, EndpointName, Fabric, JoinError, MemberEvent, NameUpdate,
    Standing, WatchError,
};

use super::flows::{Demand, Program};
use super::futures::{AtMost, Either, either};
use super::ledger::Run;
use super::{Service, Stage, first_place};
use crate::draw::Purpose;
use crate::marks::sometimes;
use crate::oracle::{name_of, parts, summary};
use crate::plan::{NodeId, Operation, Room};
use crate::scene::Claimed;
use crate::verdict::Invariant;

impl Stage {
    /// Starts a node, for the first time or again.
    pub(super) fn start(self: &Rc<Self>, id: NodeId) {
        let run = self.with_node(id, |node| {
            if std::mem::replace(&mut node.is_running, true) {
                return None;
            }
            node.runs += 1;
            node.has_left = false;
            node.awake_since = self.now();
            Some((id, node.runs))
        });
        let Some(run) = run else {
            return;
        };
        let stage = Rc::clone(self);
        let program = async move {
            let builder = stage.builder(id);
            match stage.host(id).start(builder).await {
                Ok(fabric) => stage.run_program(run, fabric).await,
                Err(error) => stage.fail(Invariant::P3, format!("{id} does not start: {error}")),
            }
        };
        self.note(id, || "starts".to_owned());
        self.host(id).spawn("program", program);
    }

    fn builder(&self, id: NodeId) -> Builder {
        let address = self.with_node(id, |node| node.address);
        let mut builder = self.host(id).builder().listen(address);
        builder = builder.credentials(self.trust.credentials(&id.to_string()));
        for neighbour in self.neighbours_of(id) {
            builder = builder.neighbour(neighbour.to_string());
        }
        match self.plan.room {
            Room::Default => builder,
            Room::Tight => builder.configure(|config| {
                config.limits.flow_send_buffer = 2048;
                config.limits.flow_receive_window = 4096;
                config.limits.connection_receive_window = 32 * 1024;
                config.limits.accept_queue_max = 2;
                config.limits.flows_per_peer_max = 8;
                config.limits.local_queue_max = 2;
                config.limits.local_queue_bytes_max = 2048;
                config.limits.dials_max = 16;
                config.limits.calls_in_flight_max = 1;
            }),
        }
    }

    /// Where a node looks for others: where the first three were at first. The very first looks
    /// nowhere, the first time.
    fn neighbours_of(&self, id: NodeId) -> Vec<SocketAddr> {
        let runs = self.with_node(id, |node| node.runs);
        if id == NodeId(0) && runs <= 1 && self.now().is_zero() {
            return Vec::new();
        }
        let others = self.plan.node_ids().filter(|&other| other != id);
        others.take(NEIGHBOURS).map(first_place).collect()
    }

    async fn run_program(self: &Rc<Self>, run: Run, fabric: Fabric) {
        let (id, _) = run;
        let session = fabric.snapshot().session;
        self.with_node(id, |node| {
            node.fabric = Some(fabric.clone());
            node.session = session;
        });
        self.oracle.borrow_mut().started(self.now(), id);
        let watch = Rc::clone(self).watch_members(id, fabric.clone());
        self.host(id).spawn("watch of members", watch);
        let watch = Rc::clone(self).watch_names(id, fabric.clone());
        self.host(id).spawn("watch of names", watch);
        self.join(&fabric).await;
        self.note(id, || "has joined".to_owned());
    }

    /// Joins until it has.
    async fn join(&self, fabric: &Fabric) {
        while let Err(JoinError::NoneReachable { .. }) = fabric.join().await {}
    }

    async fn watch_members(self: Rc<Self>, id: NodeId, fabric: Fabric) {
        let mut watch = fabric.watch_members();
        loop {
            match watch.next().await {
                Ok(event) => self.hear(id, event),
                Err(WatchError::Lagged) => {
                    self.fail(Invariant::M5, format!("the watch of {id} fell behind"));
                }
                Err(_) => return,
            }
        }
    }

    fn hear(&self, id: NodeId, event: MemberEvent) {
        let (member, kind) = parts(&event);
        let name = member.name.clone();
        // A suspicion that is refuted changes nothing, and a probe may be late by chance.
        let is_settled = !matches!(kind, "suspected" | "refuted");
        if name == name_of(id) {
            return;
        }
        if !self.plan.node_ids().any(|other| name_of(other) == name) {
            self.fail(
                Invariant::S1,
                format!("{id} lists {name}, which nobody certified"),
            );
            return;
        }
        let event = ControlEvent::Member(event);
        self.is_told(id, name.to_string(), summary(&event), is_settled);
        let heard = self.oracle.borrow_mut().hear(self.now(), id, &event);
        self.found(heard.map_err(|(invariant, what)| (invariant, format!("at {id}: {what}"))));
    }

    /// A node is told of a member or name. What settled is held against a run without attackers.
    fn is_told(&self, id: NodeId, about: String, what: String, is_settled: bool) {
        self.note(id, || format!("hears {what}"));
        // By the heal the attackers are gone; who goes first of those that then all come back at
        // once is nobody's doing.
        if is_settled && !self.is_healed.get() {
            let mut told = self.told.borrow_mut();
            told.entry((id, about)).or_default().push(what);
        }
    }

    async fn watch_names(self: Rc<Self>, id: NodeId, fabric: Fabric) {
        let mut watch = fabric.watch_names("");
        loop {
            match watch.next().await {
                Ok(NameUpdate::Changed(event)) => {
                    self.is_told(id, event.name().to_string(), format!("{event:?}"), true);
                    let event = ControlEvent::Name(event);
                    let heard = self.oracle.borrow_mut().hear(self.now(), id, &event);
                    self.found(heard);
                }
                Ok(_) | Err(WatchError::Lagged) => {}
                Err(_) => return,
            }
        }
    }

    // Operations.

    pub(super) fn operate(self: &Rc<Self>, operation: &Operation) {
        let id = operation.node();
        if let Operation::Join(_) = operation {
            self.join_again(id);
            return;
        }
        let Some((run, fabric)) = self.at_work(id) else {
            return;
        };
        let program = Program {
            stage: Rc::clone(self),
            run,
            fabric,
        };
        let host = self.host(id);
        match operation {
            Operation::Claim(_, name) => self.serve(program, name, false),
            Operation::StandBy(_, name) => self.serve(program, name, true),
            Operation::Release(_, name) => self.release(id, name),
            Operation::Leave(_) => self.leave(program),
            Operation::ShutDown(_) => self.shut_down(program),
            Operation::Open(plan) => {
                host.spawn("sender", program.open(plan.clone(), Demand::AsItMay))
            }
            Operation::Call(plan) => host.spawn("caller", program.call(plan.clone())),
            Operation::Join(_) => {}
        }
    }

    /// Lets a node take part again that had left.
    pub(super) fn join_again(self: &Rc<Self>, id: NodeId) {
        let fabric = self.with_node(id, |node| {
            let has_left = std::mem::take(&mut node.has_left);
            node.fabric.clone().filter(|_| has_left)
        });
        let Some(fabric) = fabric else {
            return;
        };
        self.oracle.borrow_mut().started_again(self.now(), id);
        let stage = Rc::clone(self);
        let joins = async move { stage.join(&fabric).await };
        self.host(id).spawn("joins again", joins);
    }

    fn leave(&self, program: Program) {
        let (id, _) = program.run;
        self.oracle.borrow_mut().leaves(self.now(), id);
        self.with_node(id, |node| node.has_left = true);
        let leaves = async move { program.fabric.leave().await };
        self.host(id).spawn("leaves", leaves);
    }

    pub(super) fn shut_down(&self, program: Program) {
        let (id, _) = program.run;
        self.oracle.borrow_mut().leaves(self.now(), id);
        self.with_node(id, |node| {
            node.has_left = true;
            for service in node.serves.values() {
                service.stop.give();
            }
        });
        let host = self.host(id);
        let shuts_down = async move {
            let Program { stage, run, fabric } = program;
            let report = fabric.shutdown().await;
            stage.note(run.0, || format!("has shut down: {report:?}"));
            stage.ended(run);
            if stage.is_healed.get() && !stage.is_shutting_down.get() {
                stage.start(run.0);
            }
        };
        host.spawn("shuts down", shuts_down);
    }

    /// A process has ended, in order or not.
    pub(super) fn ended(&self, run: Run) {
        let (id, number) = run;
        let has_ended = self.with_node(id, |node| {
            let is_this = node.runs == number && node.is_running;
            if is_this {
                node.is_running = false;
                node.fabric = None;
                node.serves.clear();
                node.is_frozen = false;
            }
            is_this
        });
        if has_ended {
            let session = self.with_node(id, |node| node.session);
            self.ended.borrow_mut().insert(run, self.now());
            let now = self.now();
            self.oracle.borrow_mut().stopped(now, id, session);
        }
    }

    fn release(&self, id: NodeId, name: &EndpointName) {
        self.oracle.borrow_mut().released(self.now(), id, name);
        if let Some(service) = self.with_node(id, |node| node.serves.remove(name)) {
            service.stop.give();
        }
    }

    /// Serves a name, unless this program does already.
    fn serve(self: &Rc<Self>, program: Program, name: &EndpointName, stands_by: bool) {
        let (id, _) = program.run;
        let service = self.with_node(id, |node| match node.serves.entry(name.clone()) {
            Entry::Vacant(entry) => Some(Rc::clone(entry.insert(Rc::default()))),
            Entry::Occupied(_) => None,
        });
        let Some(service) = service else {
            return;
        };
        self.oracle.borrow_mut().claims(id, name);
        let name = name.clone();
        let serves = async move {
            let opened = program.open_endpoint(&name, stands_by, &service).await;
            if let Some(endpoint) = opened {
                program.accept_all(&endpoint, &service).await;
            }
            program.stage.with_node(id, |node| {
                let is_ours = node
                    .serves
                    .get(&name)
                    .is_some_and(|other| Rc::ptr_eq(other, &service));
                if is_ours {
                    node.serves.remove(&name);
                }
            });
        };
        self.host(id).spawn("server", serves);
    }
}

impl Program {
    async fn open_endpoint(
        &self,
        name: &EndpointName,
        stands_by: bool,
        service: &Service,
    ) -> Option<Endpoint> {
        let mut open = self.fabric.endpoint(name.as_str());
        if stands_by {
            open = open.standby();
        }
        let opened = match either(open.into_future(), service.stop.given()).await {
            Either::First(opened) => opened,
            Either::Second(()) => return None,
        };
        let (id, stage) = (self.run.0, &self.stage);
        match opened {
            Ok(endpoint) => {
                let standing = endpoint.standing();
                service.knows_better.set(standing != Standing::Owner);
                stage.note(id, || format!("serves {name}: {standing:?}"));
                let claimed = match standing {
                    Standing::Owner => Claimed::Owner,
                    Standing::Standby { .. } => Claimed::Waits,
                };
                let now = stage.now();
                stage.oracle.borrow_mut().stands(now, id, name, claimed);
                Some(endpoint)
            }
            Err(error) => {
                stage.note(id, || format!("may not serve {name}: {error}"));
                None
            }
        }
    }

    /// Takes flows, and has a task read each, until it is told to stop or the fabric is closed.
    async fn accept_all(&self, endpoint: &Endpoint, service: &Service) {
        let (id, name) = (self.run.0, endpoint.name());
        let draw = |n| {
            let subject = 3 << 40 | u64::from(id.0);
            self.stage
                .draws
                .draw(Purpose::Program, subject, self.run.1, n)
        };
        for turn in 0.. {
            // Now and then a program stops waiting and begins anew: no flow may be lost by that.
            let polls = if draw(turn).chance(50_000) {
                2
            } else {
                u64::MAX
            };
            let accepted = AtMost::new(polls, endpoint.accept());
            let incoming = match either(accepted, service.stop.given()).await {
                Either::First(Some(Ok(incoming))) => incoming,
                Either::First(Some(Err(AcceptError::NameLost { winner, .. }))) => {
                    sometimes!(true, NameLost);
                    self.stage.note(id, || format!("loses {name} to {winner}"));
                    service.knows_better.set(true);
                    let mut oracle = self.stage.oracle.borrow_mut();
                    oracle.stands(self.stage.now(), id, name, Claimed::Waits);
                    continue;
                }
                Either::First(Some(Err(_))) | Either::Second(()) => return,
                Either::First(None) => continue,
            };
            let host = self.stage.host(id);
            if name.as_str().starts_with(CALLED) {
                host.spawn("answerer", self.clone().answer(incoming));
            } else {
                host.spawn("reader", self.clone().read(incoming, name.clone()));
            }
        }
    }
}

/// How many places a node looks for others at.
const NEIGHBOURS: usize = 3;

/// Names that begin so are served by answering calls, all others by reading messages.
pub(super) const CALLED: &str = "calls-";
