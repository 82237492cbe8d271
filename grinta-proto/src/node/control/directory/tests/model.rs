//! A naive model judges random histories: several owners that claim, release, restart and forget,
//! and replicas that hear of it late, twice, in pieces, or from the dead.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index as Pick;

use super::*;

const NODES: [&str; 4] = ["ada", "bob", "cal", "dan"];
const MODES: [ClaimMode; 3] = [ClaimMode::Exclusive, ClaimMode::Standby, ClaimMode::Shared];
const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// One step of a history. Numbers pick a node, a name or a delta.
#[derive(Debug, Clone)]
enum Step {
    Claim {
        by: usize,
        name: usize,
        mode: ClaimMode,
    },
    Release {
        by: usize,
        name: usize,
    },
    Restart {
        node: usize,
    },
    Collect {
        node: usize,
        keep: usize,
    },
    Tell {
        from: usize,
        to: usize,
        owner: usize,
        budget: usize,
    },
    Replay {
        to: usize,
        delta: Pick,
    },
    Down {
        at: usize,
        node: usize,
    },
    Up {
        at: usize,
        node: usize,
    },
    Drop {
        at: usize,
        node: usize,
    },
    Forget {
        at: usize,
        node: usize,
    },
    Deny {
        at: usize,
        name: usize,
    },
    Poll {
        at: usize,
    },
    TellVerdicts {
        at: usize,
        claims: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let node = 0..NODES.len();
    let pair = (node.clone(), node.clone());
    let named = (node.clone(), 0..NAMES.len());
    prop_oneof![
        8 => (named.clone(), prop::sample::select(MODES.to_vec()))
            .prop_map(|((by, name), mode)| Step::Claim { by, name, mode }),
        5 => named.clone().prop_map(|(by, name)| Step::Release { by, name }),
        1 => node.clone().prop_map(|node| Step::Restart { node }),
        3 => (node.clone(), 0..2_usize).prop_map(|(node, keep)| Step::Collect { node, keep }),
        16 => (pair.clone(), node.clone(), 0..200_usize)
            .prop_map(|((from, to), owner, budget)| Step::Tell { from, to, owner, budget }),
        4 => (node.clone(), any::<Pick>()).prop_map(|(to, delta)| Step::Replay { to, delta }),
        3 => pair.clone().prop_map(|(at, node)| Step::Down { at, node }),
        3 => pair.clone().prop_map(|(at, node)| Step::Up { at, node }),
        1 => pair.clone().prop_map(|(at, node)| Step::Drop { at, node }),
        1 => pair.prop_map(|(at, node)| Step::Forget { at, node }),
        2 => named.prop_map(|(at, name)| Step::Deny { at, name }),
        4 => node.clone().prop_map(|at| Step::Poll { at }),
        4 => (node, 0..4_usize).prop_map(|(at, claims)| Step::TellVerdicts { at, claims }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_history_is_what_the_model_says_and_ends_in_agreement(steps in vec(step(), 0..120)) {
        let mut world = World::new();
        for step in &steps {
            let touched = world.perform(step);
            world.judge(touched);
        }
        world.agree();
    }
}

/// The directories under test, and what is true.
struct World {
    directories: Vec<Directory>,
    /// Every statement each node made: by node and session, the first at version one.
    said: BTreeMap<(usize, Session), Vec<Statement>>,
    sessions: Vec<Session>,
    /// Whom each node takes to be up.
    up: Vec<[bool; NODES.len()]>,
    told: Vec<Told>,
    deltas: Vec<OwnerDelta>,
    /// The greatest session and horizon that each node ever had of each other.
    reached: BTreeMap<(usize, usize), (Session, Version)>,
    seconds: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Statement {
    name: String,
    stamp: Stamp,
    state: ClaimState,
}

/// What one node's changes add up to.
#[derive(Default)]
struct Told {
    owners: BTreeMap<String, String>,
    standings: BTreeMap<String, Standing>,
    servers: BTreeMap<&'static str, Vec<&'static str>>,
}

impl World {
    fn new() -> Self {
        Self {
            directories: directories(NODES).into(),
            said: BTreeMap::new(),
            sessions: vec![Session(1); NODES.len()],
            up: vec![[true; NODES.len()]; NODES.len()],
            told: NODES.iter().map(|_| Told::default()).collect(),
            deltas: Vec::new(),
            reached: BTreeMap::new(),
            seconds: 0,
        }
    }

    /// Performs a step and returns the node whose directory it touched.
    fn perform(&mut self, step: &Step) -> usize {
        match *step {
            Step::Claim { by, name, mode } => self.claim(by, NAMES[name], mode),
            Step::Release { by, name } => self.release(by, NAMES[name]),
            Step::Restart { node } => {
                self.sessions[node].0 += 1;
                self.directories[node].restart(self.sessions[node]);
                self.told[node].standings.clear();
                node
            }
            Step::Collect { node, keep } => {
                self.directories[node].collect(keep);
                node
            }
            Step::Tell {
                from,
                to,
                owner,
                budget,
            } => {
                let known = self.directories[to].head(&node(NODES[owner]));
                if let Some(delta) = self.directories[from].delta_for(&known, budget) {
                    self.directories[to].apply(&delta);
                    self.deltas.push(delta);
                }
                to
            }
            Step::Replay { to, ref delta } => {
                if !self.deltas.is_empty() {
                    self.directories[to].apply(delta.get(&self.deltas));
                }
                to
            }
            Step::Down { at, node: member } => {
                self.directories[at].set_unreachable(&node(NODES[member]));
                self.up[at][member] = at == member;
                at
            }
            Step::Up { at, node: member } => {
                self.bring_up(at, member);
                at
            }
            Step::Drop { at, node: member } => {
                self.directories[at].drop_contents(&node(NODES[member]));
                self.reached.remove(&(at, member));
                at
            }
            Step::Forget { at, node: member } => {
                self.directories[at].forget(&node(NODES[member]));
                self.reached.remove(&(at, member));
                self.up[at][member] = at == member;
                at
            }
            Step::Deny { at, name } => self.deny(at, NAMES[name]),
            Step::Poll { at } => {
                self.poll(at);
                at
            }
            Step::TellVerdicts { at, claims } => {
                self.directories[at].tell_verdicts(claims);
                at
            }
        }
    }

    /// Whom the name resolves to says that it holds no such endpoint.
    fn deny(&mut self, at: usize, name: &str) -> usize {
        let directory = &mut self.directories[at];
        if let Resolution::Remote(located) = directory.resolve(&endpoint(name)) {
            assert!(directory.mark_stale(&endpoint(name), &located));
            let resolution = directory.resolve(&endpoint(name));
            assert_ne!(resolution, Resolution::Remote(located));
        }
        at
    }

    fn claim(&mut self, by: usize, name: &str, mode: ClaimMode) -> usize {
        self.seconds += 1;
        // Clocks differ by up to three minutes.
        let now = at(1_000 + self.seconds - 60 * by as u64);
        let serving = self.naive_servers(by, name);
        let is_shared = serving
            .first()
            .is_some_and(|&(_, state)| state == ClaimState::Shared);
        let directory = &mut self.directories[by];
        let held = directory.standing(&endpoint(name)).is_some();
        let claimed = directory.claim(endpoint(name), mode, now);
        match claimed {
            Ok(standing) => {
                assert!(!held);
                let serves = serving.is_empty() || is_shared && mode == ClaimMode::Shared;
                assert_eq!(standing == Standing::Owner, serves);
                assert!(serves || mode == ClaimMode::Standby);
                let stamp = claims_of(directory, NODES[by]).last().unwrap().2;
                self.told[by].standings.insert(name.to_owned(), standing);
                let state = match mode {
                    ClaimMode::Exclusive | ClaimMode::Standby => ClaimState::Exclusive,
                    ClaimMode::Shared => ClaimState::Shared,
                };
                self.say(by, name, stamp, state);
            }
            Err(ClaimError::AlreadyHeld { .. }) => assert!(held),
            Err(ClaimError::Taken { owner, .. }) => {
                assert!(!held && mode != ClaimMode::Standby);
                assert_eq!(serving[0], (owner.as_str(), ClaimState::Exclusive));
            }
            Err(ClaimError::Shared { owner, .. }) => {
                assert!(!held && mode == ClaimMode::Exclusive);
                assert_eq!(serving[0], (owner.as_str(), ClaimState::Shared));
            }
            Err(error @ (ClaimError::TooMany { .. } | ClaimError::Forbidden { .. })) => {
                panic!("{error}")
            }
        }
        by
    }

    fn release(&mut self, by: usize, name: &str) -> usize {
        let directory = &mut self.directories[by];
        let earlier = claims_of(directory, NODES[by])
            .into_iter()
            .find(|claim| claim.1 == name);
        let held = earlier.filter(|claim| claim.3.is_held());
        assert_eq!(directory.release(&endpoint(name)), held.is_some());
        if let Some((_, _, stamp, _)) = held {
            self.told[by].standings.remove(name);
            self.say(by, name, stamp, ClaimState::Released);
        }
        by
    }

    fn say(&mut self, by: usize, name: &str, stamp: Stamp, state: ClaimState) {
        let said = self.said.entry((by, self.sessions[by])).or_default();
        said.push(Statement {
            name: name.to_owned(),
            stamp,
            state,
        });
    }

    fn bring_up(&mut self, at: usize, member: usize) {
        let known = self.directories[at].head(&node(NODES[member]));
        self.directories[at].set_reachable(&node(NODES[member]), self.sessions[member]);
        self.up[at][member] = true;
        let head = self.directories[at].head(&node(NODES[member]));
        if head.session == known.session && head.version < known.version {
            self.reached.remove(&(at, member));
        }
    }

    /// Adds up what a node's changes say.
    fn poll(&mut self, at: usize) {
        let told = &mut self.told[at];
        let mut named = BTreeSet::new();
        for change in changes(&mut self.directories[at]) {
            let (Change::Appeared { name, .. }
            | Change::Moved { name, .. }
            | Change::Reshared { name, .. }
            | Change::Gone { name, .. }
            | Change::Lost { name, .. }
            | Change::Promoted { name }) = &change;
            named.insert(name.to_string());
            match change {
                Change::Reshared { name, owner } => {
                    assert_eq!(told.owners.get(name.as_str()), Some(&owner.to_string()));
                }
                Change::Appeared { name, owner } => {
                    let before = told.owners.insert(name.to_string(), owner.to_string());
                    assert_eq!(before, None);
                }
                Change::Moved {
                    name,
                    previous,
                    owner,
                } => {
                    assert_ne!(previous, owner);
                    let before = told.owners.insert(name.to_string(), owner.to_string());
                    assert_eq!(before, Some(previous.to_string()));
                }
                Change::Gone { name, previous } => {
                    assert_eq!(
                        told.owners.remove(name.as_str()),
                        Some(previous.to_string())
                    );
                }
                Change::Lost { name, winner } => {
                    assert_ne!(winner, node(NODES[at]));
                    let before = told.standings.insert(name.to_string(), Standing::Standby);
                    assert_eq!(before, Some(Standing::Owner), "{name} is lost twice");
                }
                Change::Promoted { name } => {
                    let before = told.standings.insert(name.to_string(), Standing::Owner);
                    assert_eq!(before, Some(Standing::Standby), "{name} is promoted twice");
                }
            }
        }
        for name in NAMES {
            let servers = self.naive_servers(at, name);
            let servers: Vec<_> = servers.into_iter().map(|(owner, _)| owner).collect();
            let before = self.told[at].servers.insert(name, servers.clone());
            let is_told = before.unwrap_or_default() == servers || named.contains(name);
            assert!(is_told, "nobody was told that {servers:?} serve {name}");
        }
        let told = &self.told[at];
        let listings = self.directories[at].scan("", None, usize::MAX).listings;
        let listed: BTreeMap<_, _> = listings
            .into_iter()
            .map(|listing| (listing.name.to_string(), listing.owner.to_string()))
            .collect();
        assert_eq!(
            told.owners, listed,
            "the changes do not add up at {}",
            NODES[at]
        );
        let standing = |name: &String| self.directories[at].standing(&endpoint(name));
        for (name, told) in &told.standings {
            assert_eq!(standing(name), Some(*told), "{name} at {}", NODES[at]);
        }
    }

    /// Holds one directory against the truth.
    fn judge(&mut self, at: usize) {
        let directory = &self.directories[at];
        directory.check_invariants();
        for (member, owner) in NODES.into_iter().enumerate() {
            let head = directory.head(&node(owner));
            let claims = claims_of(directory, owner);
            let horizon = (head.session, head.version.max(head.floor));
            let reached = self.reached.entry((at, member)).or_insert(horizon);
            assert!(
                horizon >= *reached,
                "{}'s replica of {owner} went back",
                NODES[at]
            );
            *reached = horizon;

            let nothing = Vec::new();
            let said = self.said.get(&(member, head.session)).unwrap_or(&nothing);
            for (version, name, stamp, state) in &claims {
                let statement = said.get(version.0 as usize - 1);
                let (name, stamp, state) = (name.clone(), *stamp, *state);
                let held = Statement { name, stamp, state };
                assert_eq!(statement, Some(&held), "{owner} never said this");
            }
            let emptied = directory
                .owners
                .find(&node(owner))
                .is_none_or(|id| directory.owners[id].dropped);
            if emptied {
                assert!(claims.is_empty());
                continue;
            }
            for name in NAMES {
                let last = said.iter().rposition(|statement| statement.name == name);
                let Some(last) = last.filter(|&last| last < head.version.0 as usize) else {
                    continue;
                };
                let claim = claims.iter().find(|claim| claim.1 == name);
                let held = claim.is_some_and(|claim| claim.3.is_held());
                let should = said[last].state.is_held();
                assert_eq!(held, should, "{name} of {owner} at {}: {head:?}", NODES[at]);
            }
        }
        for name in NAMES {
            let naive: Vec<_> = self.naive_servers(at, name);
            let naive: Vec<_> = naive.into_iter().map(|(owner, _)| owner).collect();
            let owner = directory.owner_of(&endpoint(name)).map(NodeName::as_str);
            assert_eq!(owner, naive.first().copied(), "{name} at {}", NODES[at]);
            assert_eq!(serving(directory, name), naive, "{name} at {}", NODES[at]);
        }
    }

    /// Of those up that hold a name the one with the oldest stamp, then the lowest name; and if it
    /// shares the name, all others that do.
    fn naive_servers(&self, at: usize, name: &str) -> Vec<(&'static str, ClaimState)> {
        let up = NODES
            .into_iter()
            .enumerate()
            .filter(|&(member, _)| self.up[at][member]);
        let claims = up.flat_map(|(_, owner)| {
            let claims = claims_of(&self.directories[at], owner).into_iter();
            claims.map(move |claim| (claim.2, owner, claim.1, claim.3))
        });
        let mut held: Vec<_> = claims
            .filter(|claim| claim.2 == name && claim.3.is_held())
            .collect();
        held.sort_unstable();
        match held.first().map(|claim| claim.3) {
            Some(ClaimState::Shared) => held.retain(|claim| claim.3 == ClaimState::Shared),
            Some(ClaimState::Exclusive | ClaimState::Released) | None => held.truncate(1),
        }
        held.into_iter().map(|claim| (claim.1, claim.3)).collect()
    }

    /// Everyone is up and tells everyone: all end with the same, and it is the truth.
    fn agree(&mut self) {
        for at in 0..NODES.len() {
            for member in 0..NODES.len() {
                self.bring_up(at, member);
            }
        }
        settle(&mut self.directories, 120);
        for at in 0..NODES.len() {
            self.poll(at);
            self.judge(at);
            assert_eq!(self.directories[at].hash(), self.directories[0].hash());
            assert_eq!(
                contents(&self.directories[at]),
                contents(&self.directories[0])
            );
        }
    }
}
