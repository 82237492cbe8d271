//! From a seed to a plan: which faults there are at all, how often each comes, how bad it is.

use std::collections::BTreeMap;
use std::time::Duration;

use grinta_proto::EndpointName;

use super::fault::DRIFT_MAX;
use super::{Action, Attack, Fault, HostFault, NodeId, Operation, Plan, Room, Step, Tier, Weather};
use crate::draw::{Draw, Draws, Purpose};
use crate::executor::Policy;
use crate::network::Link;

impl Plan {
    /// The plan of a seed. A tenth of the seeds have no fault, a tenth exactly one; of the others
    /// each has its own kinds of fault, with its own weights.
    #[must_use]
    pub fn of_seed(tier: Tier, seed: u64) -> Self {
        let profile = Profile {
            draws: Draws::new(seed),
        };
        let nodes = profile.nodes();
        let link = Link {
            latency: Duration::from_micros(profile.draw(Aspect::Link, 0).between(50, 5_000)),
            jitter: Duration::from_micros(profile.draw(Aspect::Link, 1).below(2_000)),
            spread: match profile.draw(Aspect::Link, 2).below(4) {
                0 => Duration::from_millis(profile.draw(Aspect::Link, 3).between(1, 20)),
                _ => Duration::ZERO,
            },
            ..Link::default()
        };
        let mut steps = match tier {
            Tier::Control => profile.operations(nodes),
            Tier::Full => profile.workload(nodes),
        };
        steps.extend(profile.faults(tier, nodes, &link));
        steps.sort_by_key(|step| step.at);
        let mut plan = Self {
            tier,
            seed,
            nodes,
            link,
            policy: Policy::default(),
            spurious_wakes: 0,
            room: Room::default(),
            chaos: BOOT + CHAOS,
            core: profile.core(nodes),
            steps,
        };
        if tier == Tier::Full {
            profile.arrange(&mut plan);
        }
        plan
    }
}

/// Draws what a plan is made of.
pub(super) struct Profile {
    draws: Draws,
}

/// What is drawn.
#[derive(Clone, Copy)]
pub(super) enum Aspect {
    Nodes,
    Link,
    Operations,
    Faults,
    Weights,
    Arrangement,
    Workload,
    Core,
}

impl Profile {
    pub(super) fn draw(&self, aspect: Aspect, n: u64) -> Draw {
        self.draws.draw(Purpose::Profile, aspect as u64, 0, n)
    }

    /// The `part`th draw about the `index`th step of an aspect.
    pub(super) fn part(&self, aspect: Aspect, index: u64, part: u64) -> Draw {
        self.draws
            .draw(Purpose::Profile, aspect as u64, 1 + part, index)
    }

    fn nodes(&self) -> u32 {
        let size = match self.draw(Aspect::Nodes, 0).below(100) {
            0 => self.draw(Aspect::Nodes, 1).between(20, 40),
            1..10 => self.draw(Aspect::Nodes, 1).between(8, 16),
            _ => self.draw(Aspect::Nodes, 1).between(2, 7),
        };
        u32::try_from(size).expect("a small number")
    }

    /// Who is healed before the others, in three of ten seeds: the first, another, and a half of the
    /// rest.
    fn core(&self, nodes: u32) -> Vec<NodeId> {
        let draw = |n: u64| self.draw(Aspect::Core, n);
        if !draw(0).chance(300_000) {
            return Vec::new();
        }
        let other = 1 + draw(1).below(u64::from(nodes) - 1);
        let is_of_core = |node: &NodeId| {
            let number = u64::from(node.0);
            number == 0 || number == other || draw(1 + number).chance(500_000)
        };
        (0..nodes).map(NodeId).filter(is_of_core).collect()
    }

    fn operations(&self, nodes: u32) -> Vec<Step> {
        let count = self.draw(Aspect::Operations, 0).below(30);
        let names = self.draw(Aspect::Operations, 1).between(1, 8);
        let operations = |index| {
            let part = |part| self.part(Aspect::Operations, index, part);
            let node = node_of(part(0), nodes);
            let name = EndpointName::new(format!("service-{}", part(1).below(names)));
            let name = name.expect("letters, a dash and digits");
            let operation = match part(2).below(100) {
                0..40 => Operation::Claim(node, name),
                40..65 => Operation::StandBy(node, name),
                65..95 => Operation::Release(node, name),
                // The first is where all others join.
                _ if node.0 > 0 => Operation::Leave(node),
                _ => Operation::Claim(node, name),
            };
            let at = BOOT / 2 + part(3).duration_below(BOOT / 2 + CHAOS);
            // What is said of the name soon after may overtake what was said before.
            let again = if let Operation::Release(node, name) = &operation
                && part(4).chance(500_000)
            {
                Some(Step {
                    at: at + part(5).duration_below(AGAIN_WITHIN),
                    action: Action::Operate(Operation::Claim(*node, name.clone())),
                })
            } else {
                None
            };
            let step = Step {
                at,
                action: Action::Operate(operation),
            };
            std::iter::once(step).chain(again)
        };
        (0..count).flat_map(operations).collect()
    }

    /// Things that only whole nodes know.
    fn arrange(&self, plan: &mut Plan) {
        let draw = |n| self.draw(Aspect::Arrangement, n);
        if draw(3).chance(300_000) {
            plan.room = Room::Tight;
        }
        if plan.without_attacks().is_some() {
            return;
        }
        plan.policy = match draw(0).below(10) {
            0..4 => Policy::Fifo,
            4..6 => Policy::Lifo,
            6..8 => Policy::Random,
            _ => Policy::Starve,
        };
        if draw(1).chance(300_000) {
            plan.spurious_wakes = draw(2).between(1_000, 50_000).try_into().unwrap_or(0);
        }
    }

    fn faults(&self, tier: Tier, nodes: u32, link: &Link) -> Vec<Step> {
        let count = match self.draw(Aspect::Faults, 0).below(10) {
            0 => 0,
            1 => 1,
            _ => self.draw(Aspect::Faults, 1).between(2, 12),
        };
        // Some seeds have attackers and no other fault, or one node that is starved: there nothing
        // excuses what they bring about.
        let is_attacked = match self.draw(Aspect::Faults, 2).below(20) {
            0 => tier == Tier::Full,
            1 if tier == Tier::Full => return vec![self.starvation(nodes, link)],
            _ => false,
        };
        let kinds: Vec<_> = match tier {
            Tier::Control => (0..KINDS_OF_CONTROL).chain(MORE_OF_CONTROL).collect(),
            Tier::Full => (0..KINDS).collect(),
        };
        let weights: Vec<_> = (0..)
            .zip(&kinds)
            .map(|(place, _)| {
                let is_on = self.draw(Aspect::Weights, place).chance(500_000);
                let weight = self.part(Aspect::Weights, place, 0).between(1, 8);
                if is_on { weight } else { 0 }
            })
            .collect();
        let steps = |index| {
            let place = weighted(self.part(Aspect::Faults, index, 0), &weights);
            let kind = match is_attacked {
                true => KIND_OF_ATTACKS,
                false => kinds[place],
            };
            self.fault(index, kind, nodes)
        };
        (0..count).flat_map(steps).collect()
    }

    /// A node that gets less time than an answer takes, after each freeze of a suspicion's time.
    fn starvation(&self, nodes: u32, link: &Link) -> Step {
        let draw = |n: u64| self.draw(Aspect::Faults, 10 + n);
        let cycles = HostFault::Cycles {
            frozen: Duration::from_millis(draw(0).between(4_000, 5_000)),
            awake: link.latency / 2 + draw(1).duration_below(link.latency),
        };
        Step {
            at: BOOT + draw(2).duration_below(CHAOS / 2),
            action: Action::Disturb {
                fault: Fault::Host(node_of(draw(3), nodes), cycles),
                lasts: Some(CHAOS / 2),
            },
        }
    }

    /// A fault of a kind. Among late replays a process restarts, so that they tell of an earlier run.
    fn fault(&self, index: u64, kind: u64, nodes: u32) -> Vec<Step> {
        let part = |part| self.part(Aspect::Faults, index, part);
        let lasts = match part(1).below(10) {
            0 => None,
            1..4 => Some(Duration::from_millis(part(2).between(50, 2_000))),
            _ => Some(Duration::from_millis(part(2).between(2_000, 30_000))),
        };
        let at = BOOT + part(3).duration_below(CHAOS);
        let fault = fault_of(kind, nodes, part);
        let mut steps = Vec::new();
        if let Fault::Crash(node) | Fault::Move(node) | Fault::SetBack(node) = fault
            && part(5).chance(700_000)
        {
            steps.push(last_word(node, at, part(6)));
        }
        if let Fault::Weather(Weather::Replay(..)) = fault {
            let node = node_of(part(7), nodes);
            let at = at + part(8).duration_below(RESTART_WITHIN);
            let restart = Action::Disturb {
                fault: Fault::Crash(node),
                lasts: Some(Duration::from_millis(part(9).between(50, 2_000))),
            };
            steps.push(last_word(node, at, part(6)));
            steps.push(Step {
                at,
                action: restart,
            });
        }
        let action = Action::Disturb { fault, lasts };
        steps.push(Step { at, action });
        steps
    }
}

/// A process claims a name just before it crashes: that is still told when it is no more, and when
/// it is back.
fn last_word(node: NodeId, crash: Duration, before: Draw) -> Step {
    let name = EndpointName::new("service-0").expect("letters, a dash and a digit");
    Step {
        at: crash - before.duration_below(LAST_WORDS_WITHIN),
        action: Action::Operate(Operation::Claim(node, name)),
    }
}

/// A fault of a kind, its details drawn by `part` from 10 on.
fn fault_of(kind: u64, nodes: u32, part: impl Fn(u64) -> Draw) -> Fault {
    let node = node_of(part(10), nodes);
    let millis = |least, most| Duration::from_millis(part(11).between(least, most));
    let share = |most| u32::try_from(part(11).between(1, most)).expect("less than a million");
    let (some, rest) = split(nodes, |other| {
        part(100 + u64::from(other.0)).chance(500_000)
    });
    let (one, others) = split(nodes, |other| other == node);
    match kind {
        0 => Fault::Crash(node),
        // The first stays where all others look for it.
        1 if node.0 > 0 => Fault::Move(node),
        1 => Fault::Crash(node),
        2 => Fault::SetBack(node),
        3 => Fault::Pause(node),
        4 => Fault::ClockAhead(node, millis(1, 7_200_000)),
        5 => Fault::ClockBehind(node, millis(1, 7_200_000)),
        6 => Fault::Cut(some, rest),
        7 => Fault::Cut(one, others),
        // Not transitive: both still reach all others.
        8 => Fault::Cut(one, vec![neighbour(node, nodes)]),
        9 => Fault::CutOneWay(some, rest),
        10 => Fault::CutOneWay(one, others),
        11 => Fault::CutOneWay(others, one),
        12 => Fault::Flap(some, rest, millis(100, 6_000)),
        13 => Fault::Flap(one, others, millis(100, 6_000)),
        14 => Fault::Ring,
        15 => Fault::SlowLinks(one, others, millis(10, 2_000)),
        16 => Fault::Latency(millis(10, 1_000)),
        17 => Fault::Jitter(millis(10, 1_000)),
        18 => Fault::Loss(share(50_000)),
        19 => Fault::Loss(share(700_000)),
        20 => Fault::Duplicate(share(300_000)),
        21 => Fault::Reorder(share(300_000)),
        22.. => fault_of_datagrams(kind, nodes, part),
    }
}

/// A fault of a kind that has a meaning for whole nodes only.
fn fault_of_datagrams(kind: u64, nodes: u32, part: impl Fn(u64) -> Draw) -> Fault {
    let node = node_of(part(10), nodes);
    let other = neighbour(node, nodes);
    let millis = |least, most| Duration::from_millis(part(11).between(least, most));
    let share = |most| u32::try_from(part(11).between(1, most)).expect("less than a million");
    let (some, rest) = split(nodes, |other| {
        part(100 + u64::from(other.0)).chance(500_000)
    });
    match kind {
        22 if node.0 > 0 && other.0 > 0 => Fault::Swap(node, other),
        22 => Fault::Crash(node),
        23 => Fault::RollingRestart(millis(500, 8_000)),
        24 => {
            // Awake for less than a round trip, or for long.
            let awake = if part(12).chance(500_000) { 5 } else { 3_000 };
            let frozen = match part(13).below(3) {
                0 => millis(100, 2_000),
                1 => millis(2_000, 8_000),
                _ => millis(8_000, 20_000),
            };
            let cycles = HostFault::Cycles {
                frozen,
                awake: Duration::from_millis(part(14).between(1, awake)),
            };
            Fault::Host(node, cycles)
        }
        25 => Fault::Host(node, HostFault::Slow(share(1_000))),
        26 => Fault::Host(node, HostFault::Rebind),
        27 => Fault::Host(node, HostFault::RefuseSends(share(500_000))),
        28 => Fault::Jam(some, rest),
        29 => Fault::Swizzle(millis(50, 3_000)),
        30 => Fault::LosePacket(node, other, part(11).between(1, 30)),
        31 => Fault::Weather(Weather::Exponential(millis(1, 100))),
        32 => Fault::Weather(Weather::LongTail(millis(1, 50))),
        33 => Fault::Weather(Weather::Bursts(share(100_000))),
        34 => Fault::Weather(Weather::Replay(share(300_000), millis(100, 20_000))),
        35 => Fault::Weather(Weather::Flip(share(100_000))),
        36 => Fault::Weather(Weather::Truncate(share(100_000))),
        37 => Fault::Weather(Weather::Splice(share(100_000))),
        38 => Fault::Weather(Weather::Garbage(share(100_000))),
        39 => Fault::Weather(Weather::Rate(
            part(11).between(20_000, 1_000_000),
            part(12).between(3_000, 100_000),
        )),
        40 => Fault::Weather(Weather::Mtu(part(11).between(1_200, 1_471) as usize)),
        41 => Fault::Weather(Weather::MarkEcn(share(1_000_000))),
        42 => Fault::Weather(Weather::Swap(share(100_000))),
        43 => Fault::Weather(Weather::Evict(part(11).between(3_000, 100_000))),
        44 => {
            let most = u64::from(DRIFT_MAX.unsigned_abs());
            let ppm = i32::try_from(part(11).between(1, most)).expect("it is small");
            let drift = if part(12).chance(500_000) { ppm } else { -ppm };
            Fault::Host(node, HostFault::Drift(drift))
        }
        _ => {
            let attack = part(12).pick(&Attack::ALL);
            Fault::Attack(node, *attack.expect("there are some"))
        }
    }
}

impl Fault {
    /// One fault of each kind that seeds draw, by its verb; of attacks, all.
    #[must_use]
    pub fn examples() -> BTreeMap<String, Self> {
        let attacks = Attack::ALL.map(|attack| Self::Attack(NodeId(1), attack));
        // What a kind comes to may depend on the node that it is about.
        let draws = (0..16).map(Draws::new);
        let drawn = draws.flat_map(|draws| {
            (0..KIND_OF_ATTACKS).map(move |kind| {
                fault_of(kind, 4, |part| draws.draw(Purpose::Profile, kind, 0, part))
            })
        });
        let named = drawn.chain(attacks).map(|fault| {
            let text = fault.to_string();
            let words = if let Self::Attack(..) = fault { 3 } else { 1 };
            let verb: Vec<_> = text.split(' ').take(words).collect();
            (verb.join(" "), fault)
        });
        named.collect()
    }
}

pub(super) fn node_of(draw: Draw, nodes: u32) -> NodeId {
    NodeId(u32::try_from(draw.below(u64::from(nodes))).expect("less than the nodes"))
}

fn neighbour(node: NodeId, nodes: u32) -> NodeId {
    NodeId((node.0 + 1) % nodes)
}

/// The nodes that a condition holds for, and the others. Neither is empty if there are two nodes.
fn split(nodes: u32, holds: impl Fn(NodeId) -> bool) -> (Vec<NodeId>, Vec<NodeId>) {
    let (mut some, mut rest): (Vec<_>, Vec<_>) = (0..nodes).map(NodeId).partition(|&n| holds(n));
    if some.is_empty() {
        some.extend(rest.pop());
    }
    if rest.is_empty() {
        rest.extend(some.pop());
    }
    (some, rest)
}

/// An index, drawn by the weights; the first if all are zero.
fn weighted(draw: Draw, weights: &[u64]) -> usize {
    let mut left = draw.below(weights.iter().sum());
    for (index, &weight) in weights.iter().enumerate() {
        if left < weight {
            return index;
        }
        left -= weight;
    }
    0
}

/// How many kinds of fault there are to draw from, and how many of them have a meaning over
/// messages, as have some of the others: late replays, which count twice, rolling restarts, pauses
/// in cycles, and swizzles.
const KINDS: u64 = 46;
const KINDS_OF_CONTROL: u64 = 22;
const MORE_OF_CONTROL: [u64; 5] = [34, 34, 23, 24, 29];
const KIND_OF_ATTACKS: u64 = 45;

/// How long after the replays have begun a process restarts, at the most.
const RESTART_WITHIN: Duration = Duration::from_secs(10);

/// How long before its crash a process claims a name, at the most.
const LAST_WORDS_WITHIN: Duration = Duration::from_millis(500);

/// Within what a name is claimed again that was released by mistake.
const AGAIN_WITHIN: Duration = Duration::from_secs(2);

/// Before it is over nothing goes wrong: the nodes start and meet.
pub(super) const BOOT: Duration = Duration::from_secs(20);

/// For how long things go wrong.
pub(super) const CHAOS: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seeds_plan_survives_its_text_form() {
        for (tier, seed) in (0..400).map(|n| ([Tier::Control, Tier::Full][n % 2], n as u64 / 2)) {
            let plan = Plan::of_seed(tier, seed);
            assert_eq!(Plan::parse(&plan.to_string()), Ok(plan));
        }
    }

    #[test]
    fn a_tenth_is_calm_and_a_tenth_has_one_fault() {
        let mut counts = [0; 3];
        for seed in 0..1000 {
            let plan = Plan::of_seed(Tier::Control, seed);
            let is_fault = |step: &&Step| matches!(step.action, Action::Disturb { .. });
            counts[plan.steps.iter().filter(is_fault).count().min(2)] += 1;
        }
        assert!((70..130).contains(&counts[0]), "{counts:?}");
        assert!((70..130).contains(&counts[1]), "{counts:?}");
    }
}
