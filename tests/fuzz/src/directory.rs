//! The directory as a data structure: three nodes change their names and tell each other, in any
//! order, with any cuts, losses and repetitions.

use std::collections::BTreeSet;
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use grinta_proto::node::control::directory::{
    Applied, ClaimMode, Directory, DirectoryLimits, Standing,
};
use grinta_proto::wire::claims::{Claim, ClaimState, OwnerDelta, OwnerHead, Stamp, Version};
use grinta_proto::{EndpointName, NodeName, Session};

/// Any changes, deliveries and lies. Without lies all replicas end equal and each name has one
/// owner; with them every replica stays valid and bounded.
///
/// # Panics
/// If a law is broken.
pub fn directory_ops(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    let mut nodes = Nodes::new();
    for _ in 0..STEPS_MAX {
        let Ok(step) = Step::arbitrary(&mut bytes) else {
            break;
        };
        nodes.take(step);
        if bytes.is_empty() {
            break;
        }
    }
    nodes.settle();
}

struct Nodes {
    directories: [Directory; 3],
    deltas: Vec<OwnerDelta>,
    unix_time: Duration,
    has_lies: bool,
    /// Where some claim of a name was marked stale, and may still be.
    denied: BTreeSet<(NodeName, EndpointName)>,
}

#[derive(Debug, Arbitrary)]
enum Step {
    Claim {
        at: u8,
        name: u8,
    },
    StandBy {
        at: u8,
        name: u8,
    },
    Release {
        at: u8,
        name: u8,
    },
    Collect {
        at: u8,
        keep: u8,
    },
    Restart {
        at: u8,
    },
    /// Tells of one owner all that the other lacks, as far as the budget goes.
    Tell {
        from: u8,
        to: u8,
        owner: u8,
        budget: u8,
    },
    /// Delivers again, or elsewhere, what was told before.
    Repeat {
        which: u8,
        to: u8,
    },
    Down {
        at: u8,
        who: u8,
    },
    Up {
        at: u8,
        who: u8,
    },
    Drop {
        at: u8,
        who: u8,
    },
    Forget {
        at: u8,
        who: u8,
    },
    Deny {
        at: u8,
        name: u8,
    },
    Pass {
        milliseconds: u16,
    },
    Lie {
        at: u8,
        delta: Lie,
    },
}

#[derive(Debug, Arbitrary)]
struct Lie {
    owner: u8,
    session: u64,
    after: u8,
    upto: u64,
    floor: u8,
    claims: Vec<(u8, u8, u64, u32, u8)>,
}

impl Nodes {
    fn new() -> Self {
        let limits = DirectoryLimits::default();
        let directories =
            [0, 1, 2].map(|index| Directory::new(node(index), Session(SESSION), limits.clone()));
        let mut nodes = Self {
            directories,
            deltas: Vec::new(),
            unix_time: Duration::from_secs(1_800_000_000),
            has_lies: false,
            denied: BTreeSet::new(),
        };
        nodes.meet();
        nodes
    }

    fn take(&mut self, step: Step) {
        let unix_time = self.unix_time;
        match step {
            Step::Claim { at, name } => {
                let mode = mode_of(name);
                drop(self.at(at).claim(endpoint(name), mode, unix_time));
            }
            Step::StandBy { at, name } => {
                let standby = ClaimMode::Standby;
                drop(self.at(at).claim(endpoint(name), standby, unix_time));
            }
            Step::Release { at, name } => drop(self.at(at).release(&endpoint(name))),
            Step::Collect { at, keep } => drop(self.at(at).collect(keep.into())),
            Step::Restart { at } => {
                let directory = self.at(at);
                let before = directory.head(&node(at)).session;
                assert!(directory.restart(before) > before);
                assert_eq!(directory.held().count(), 0);
            }
            Step::Tell {
                from,
                to,
                owner,
                budget,
            } => {
                let head = self.at(to).head(&node(owner));
                if let Some(delta) = self.at(from).delta_for(&head, budget.into()) {
                    self.deliver(to, &delta);
                    self.deltas.push(delta);
                }
            }
            Step::Repeat { which, to } => {
                if let Some(delta) = self.deltas.get(usize::from(which)).cloned() {
                    self.deliver(to, &delta);
                }
            }
            Step::Down { at, who } => self.at(at).set_unreachable(&node(who)),
            Step::Up { at, who } => {
                let session = self.at(who).head(&node(who)).session;
                self.at(at).set_reachable(&node(who), session);
            }
            Step::Drop { at, who } => self.at(at).drop_contents(&node(who)),
            Step::Forget { at, who } => self.at(at).forget(&node(who)),
            Step::Deny { at, name } => self.deny(at, name),
            Step::Pass { milliseconds } => {
                self.unix_time += Duration::from_millis(milliseconds.into());
            }
            Step::Lie { at, delta } => {
                self.has_lies = true;
                let delta = delta.into_delta();
                let before = self.at(at).head(&delta.owner);
                let applied = self.deliver(at, &delta);
                if matches!(applied, Applied::Refused(_)) {
                    assert_eq!(self.at(at).head(&delta.owner), before);
                }
                let again = self.deliver(at, &delta);
                assert_ne!(again, Applied::Advanced, "{delta:?} advances twice");
            }
        }
        for directory in &mut self.directories {
            directory.check_invariants();
            while directory.poll_change().is_some() {}
            assert_eq!(directory.changes_pending(), 0);
        }
    }

    /// All whom a node would dial for a name say that they do not serve it.
    fn deny(&mut self, at: u8, name: u8) {
        let directory = self.at(at);
        let mut is_denied = false;
        for located in directory.candidates(&endpoint(name)) {
            is_denied |= directory.mark_stale(&endpoint(name), &located);
        }
        if is_denied {
            self.denied.insert((node(at), endpoint(name)));
        }
    }

    /// The replica's history goes forward only, whatever it is told.
    fn deliver(&mut self, to: u8, delta: &OwnerDelta) -> Applied {
        let directory = self.at(to);
        let before = reach(&directory.head(&delta.owner));
        let own_before = directory.head(directory.local());
        let applied = directory.apply(delta);
        assert!(
            reach(&directory.head(&delta.owner)) >= before,
            "a replica went back"
        );
        assert_eq!(
            directory.head(directory.local()),
            own_before,
            "somebody spoke for us"
        );
        applied
    }

    /// All see each other and tell each other all, until nobody learns anything.
    fn settle(mut self) {
        self.meet();
        let mut rounds = 0;
        while self.exchange() {
            rounds += 1;
            assert!(rounds < ROUNDS_MAX, "the directories never come to rest");
        }
        if self.has_lies {
            return;
        }
        let [ada, bob, cal] = &self.directories;
        assert_eq!(ada.hash(), bob.hash());
        assert_eq!(bob.hash(), cal.hash());
        assert_eq!(ada.bucket_hashes(), cal.bucket_hashes());
        for name in (0..NAMES).map(endpoint) {
            let owner = ada.owner_of(&name);
            assert_eq!(owner, bob.owner_of(&name));
            assert_eq!(owner, cal.owner_of(&name));
            for directory in &self.directories {
                let serves = directory.standing(&name) == Some(Standing::Owner);
                let servers = directory.servers(&name);
                let local = directory.local();
                let should = servers.iter().any(|it| it.owner == *local);
                // A denied owner still owns the name, and others are dialled in its place.
                let is_denied = self.denied.contains(&(local.clone(), name.clone()));
                assert!(serves == should || is_denied, "{name} at {local}");
            }
        }
    }

    fn meet(&mut self) {
        for who in 0..3 {
            let session = self.at(who).head(&node(who)).session;
            for at in 0..3 {
                self.at(at).set_reachable(&node(who), session);
            }
        }
    }

    fn exchange(&mut self) -> bool {
        let mut has_advanced = false;
        for (from, to, owner) in (0..27).map(|n| (n / 9, n / 3 % 3, n % 3)) {
            let head = self.at(to).head(&node(owner));
            if from != to
                && let Some(delta) = self.at(from).delta_for(&head, 300)
            {
                has_advanced |= self.deliver(to, &delta) == Applied::Advanced;
            }
        }
        has_advanced
    }

    fn at(&mut self, index: u8) -> &mut Directory {
        &mut self.directories[usize::from(index % 3)]
    }
}

impl Lie {
    fn into_delta(self) -> OwnerDelta {
        let claims = self.claims.into_iter();
        OwnerDelta {
            // Also owners that are no node of ours.
            owner: NodeName::new(format!("node-{}", self.owner % 5)).expect("it is a name"),
            session: Session(self.session),
            after: Version(self.after.into()),
            upto: Version(self.upto),
            floor: Version(self.floor.into()),
            proof: None,
            claims: claims
                .map(|(name, version, unix_ms, counter, state)| Claim {
                    name: endpoint(name),
                    version: Version(version.into()),
                    stamp: Stamp { unix_ms, counter },
                    state: STATES[usize::from(state) % STATES.len()],
                })
                .collect(),
        }
    }
}

/// How far a replica reaches: what never goes down.
fn reach(head: &OwnerHead) -> (Session, Version) {
    (head.session, head.version.max(head.floor))
}

fn node(index: u8) -> NodeName {
    NodeName::new(format!("node-{}", index % 3)).expect("it is a name")
}

/// Upper numbers name the same names, to be shared.
const fn mode_of(index: u8) -> ClaimMode {
    match index {
        0..128 => ClaimMode::Exclusive,
        128.. => ClaimMode::Shared,
    }
}

fn endpoint(index: u8) -> EndpointName {
    EndpointName::new(format!("name-{}", index % NAMES)).expect("it is a name")
}

const NAMES: u8 = 6;
const SESSION: u64 = 10;
const STEPS_MAX: usize = 200;
const ROUNDS_MAX: usize = 1000;

/// What a claim may say of its name.
const STATES: [ClaimState; 3] = [
    ClaimState::Released,
    ClaimState::Exclusive,
    ClaimState::Shared,
];
