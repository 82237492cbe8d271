//! Random scripts: whatever programs and the network do, every dial ends once, and when all is
//! over nothing is left.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::node::testing::{World, accepted, endpoint_name, open};
use crate::node::{
    Choice, Claiming, DialId, DialRequest, Dialled, EndpointId, Event, FlowId, Incoming, Origin,
    UnknownName, refusal,
};
use crate::wire::code::Code;
use crate::wire::stream::{Direction, RefusalReason};

#[test]
fn whatever_happens_nothing_is_left() {
    for seed in 0..SEEDS {
        // Shown by the test only if it fails.
        println!("seed {seed}");
        let mut script = Script::begin(seed);
        for _ in 0..STEPS {
            script.step();
        }
        script.end();
    }
}

struct Script {
    world: World,
    rng: StdRng,
    programs: Vec<Program>,
}

/// What the program on one node holds.
struct Program {
    name: &'static str,
    endpoints: Vec<EndpointId>,
    dials: BTreeSet<DialId>,
    given_up: BTreeSet<DialId>,
    taken: Vec<Incoming>,
    flows: Vec<FlowId>,
}

impl Program {
    const fn new(name: &'static str) -> Self {
        Self {
            name,
            endpoints: Vec::new(),
            dials: BTreeSet::new(),
            given_up: BTreeSet::new(),
            taken: Vec::new(),
            flows: Vec::new(),
        }
    }
}

impl Script {
    fn begin(seed: u64) -> Self {
        let mut world = World::new(seed);
        for name in NAMES {
            start(&mut world, name);
        }
        Self {
            world,
            rng: StdRng::seed_from_u64(seed),
            programs: NAMES.map(Program::new).into(),
        }
    }

    fn step(&mut self) {
        let index = self.rng.random_range(0..self.programs.len());
        match self.rng.random_range(0..100) {
            0..20 => self.dial(index),
            20..28 => self.claim(index),
            28..32 => self.close_endpoint(index),
            32..36 => self.cancel(index),
            36..60 => self.answer(index),
            60..80 => self.use_flow(index),
            80..82 => self.disturb(),
            82 => self.crash(index),
            _ => {
                let pause = Duration::from_millis(self.rng.random_range(0..40));
                self.world.run_for(pause);
            }
        }
        self.follow();
    }

    /// Takes note of what the nodes told.
    fn follow(&mut self) {
        for program in &mut self.programs {
            for event in self.world.take_events(program.name) {
                match event {
                    Event::Dialled { dial, result } => {
                        // One that was given up may have ended just before.
                        let is_known =
                            program.dials.remove(&dial) || program.given_up.remove(&dial);
                        assert!(is_known, "{dial:?} ended twice");
                        if let Ok(Dialled::Remote { flow, .. }) = result {
                            program.flows.push(flow);
                        }
                    }
                    Event::EndpointOpened {
                        endpoint,
                        result: Err(_),
                    } => program.endpoints.retain(|&other| other != endpoint),
                    Event::Incoming { endpoint } => {
                        let node = self.world.node(program.name);
                        program.taken.extend(node.take_incoming(endpoint));
                    }
                    _ => {}
                }
            }
        }
    }

    fn dial(&mut self, index: usize) {
        let name = ENDPOINTS[self.rng.random_range(0..ENDPOINTS.len())];
        let directions = [Direction::Send, Direction::Receive, Direction::Both];
        let direction = directions[self.rng.random_range(0..3)];
        let is_early = direction.sends() && self.rng.random_bool(0.3);
        let request = DialRequest {
            open: open(name, direction),
            early: is_early.then(|| Bytes::from_static(b"early")),
            timeout: Duration::from_millis(self.rng.random_range(0..1500)),
            unknown_name: match self.rng.random_bool(0.5) {
                true => UnknownName::Wait,
                false => UnknownName::Fail,
            },
            choice: Choice::Owner,
            at: None,
        };
        let program = &mut self.programs[index];
        let dial = self.world.node(program.name).dial(request);
        program.dials.insert(dial);
    }

    fn claim(&mut self, index: usize) {
        let name = endpoint_name(ENDPOINTS[self.rng.random_range(0..ENDPOINTS.len())]);
        let queue_max = self.rng.random_range(0..3);
        let program = &mut self.programs[index];
        let opened =
            self.world
                .node(program.name)
                .open_endpoint(&name, queue_max, Claiming::Exclusive);
        program.endpoints.extend(opened);
    }

    fn close_endpoint(&mut self, index: usize) {
        let program = &mut self.programs[index];
        if let Some(endpoint) = program.endpoints.pop() {
            self.world.node(program.name).close_endpoint(endpoint);
        }
    }

    fn cancel(&mut self, index: usize) {
        let program = &mut self.programs[index];
        if let Some(dial) = program.dials.pop_first() {
            self.world.node(program.name).cancel_dial(dial);
            program.given_up.insert(dial);
        }
    }

    fn answer(&mut self, index: usize) {
        let program = &mut self.programs[index];
        let Some(incoming) = program.taken.pop() else {
            return;
        };
        let node = self.world.node(program.name);
        if self.rng.random_bool(0.2) {
            node.answer(incoming.id, refusal(RefusalReason::Declined, ""));
        } else if node.answer(incoming.id, accepted())
            && let Origin::Remote { flow, .. } = incoming.origin
        {
            program.flows.push(flow);
        }
    }

    fn use_flow(&mut self, index: usize) {
        let program = &mut self.programs[index];
        if program.flows.is_empty() {
            return;
        }
        let which = self.rng.random_range(0..program.flows.len());
        let flow = program.flows[which];
        let at = (program.name, flow);
        match self.rng.random_range(0..10) {
            0..4 => {
                let data = vec![1; self.rng.random_range(0..100_000)];
                let _ = self.world.write(at, &data);
            }
            4..7 => while let Ok(Some(_)) = self.world.node(at.0).read(flow) {},
            7 => self.world.node(at.0).finish(flow),
            8 => {
                self.world.node(at.0).reset(flow, Code::User(1));
                self.world.node(at.0).stop(flow, Code::User(2));
            }
            _ => {
                self.world.release(at);
                program.flows.swap_remove(which);
            }
        }
    }

    fn disturb(&mut self) {
        match self.rng.random_range(0..4) {
            0 => self.world.loss = self.rng.random_range(0..30),
            1 => self.world.cut("a", "b"),
            _ => {
                self.world.loss = 0;
                self.world.heal();
            }
        }
    }

    fn crash(&mut self, index: usize) {
        let name = self.programs[index].name;
        self.programs[index] = Program::new(name);
        self.world.crash(name);
        self.world.run_for(Duration::from_millis(5));
        start(&mut self.world, name);
    }

    /// The network heals and the programs let go of all they hold; then the nodes leave.
    fn end(mut self) {
        self.world.loss = 0;
        self.world.heal();
        for _ in 0..3 {
            self.world.run_for(Duration::from_secs(2));
            self.follow();
            for program in &mut self.programs {
                for incoming in program.taken.drain(..) {
                    let node = self.world.node(program.name);
                    node.answer(incoming.id, refusal(RefusalReason::Declined, ""));
                }
                for flow in std::mem::take(&mut program.flows) {
                    self.world.release((program.name, flow));
                }
                for endpoint in program.endpoints.drain(..) {
                    self.world.node(program.name).close_endpoint(endpoint);
                }
            }
        }
        for program in &self.programs {
            let name = program.name;
            assert!(program.dials.is_empty(), "{name}: {:?}", program.dials);
            let node = self.world.node(name);
            assert_eq!(node.connections.open_flows(), 0, "at {name}");
            assert_eq!(node.dials.len(), 0, "at {name}");
            assert_eq!(node.resolving.len() + node.opening.len(), 0, "at {name}");
            assert_eq!(node.endpoints.waiting(), 0, "at {name}");
            let keys = node.connections.keys().into_iter();
            let peers = keys.filter_map(|key| node.connections.get(key));
            let live: Vec<_> = peers.filter(|peer| !peer.is_lost()).collect();
            assert!(live.len() <= 2, "{name}: {live:?}");
        }
        for name in NAMES {
            self.world.node(name).shutdown(Duration::from_secs(1));
            self.world.wait(name, "closed", |event| {
                (*event == Event::Closed).then_some(())
            });
        }
        self.world.run_for(Duration::from_secs(10));
        for name in NAMES {
            assert_eq!(self.world.connections(name), 0, "at {name}");
            assert_eq!(self.world.node(name).poll_timeout(), None, "at {name}");
        }
    }
}

fn start(world: &mut World, name: &'static str) {
    world.start_with(name, &NAMES, |config| config.limits.flows_per_peer_max = 3);
    world.node(name).join();
}

const NAMES: [&str; 3] = ["a", "b", "c"];
const ENDPOINTS: [&str; 4] = ["one", "two", "three", "four"];
const SEEDS: u64 = 30;
const STEPS: usize = 400;
