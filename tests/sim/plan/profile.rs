//! From a seed to a plan: which faults there are at all, how often each comes, how bad it is.

use std::time::Duration;

use grinta_proto::EndpointName;

use super::{Action, Fault, NodeId, Operation, Plan, Step, Tier};
use crate::draw::{Draw, Draws, Purpose};
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
            ..Link::default()
        };
        let mut steps = profile.operations(nodes);
        steps.extend(profile.faults(nodes));
        steps.sort_by_key(|step| step.at);
        Self {
            tier,
            seed,
            nodes,
            link,
            chaos: BOOT + CHAOS,
            steps,
        }
    }
}

/// Draws what a plan is made of.
struct Profile {
    draws: Draws,
}

/// What is drawn.
#[derive(Clone, Copy)]
enum Aspect {
    Nodes,
    Link,
    Operations,
    Faults,
    Weights,
}

impl Profile {
    fn draw(&self, aspect: Aspect, n: u64) -> Draw {
        self.draws.draw(Purpose::Profile, aspect as u64, 0, n)
    }

    /// The `part`th draw about the `index`th step of an aspect.
    fn part(&self, aspect: Aspect, index: u64, part: u64) -> Draw {
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

    fn operations(&self, nodes: u32) -> Vec<Step> {
        let count = self.draw(Aspect::Operations, 0).below(30);
        let names = self.draw(Aspect::Operations, 1).between(1, 8);
        let operation = |index| {
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
            Step {
                at: BOOT / 2 + part(3).duration_below(BOOT / 2 + CHAOS),
                action: Action::Operate(operation),
            }
        };
        (0..count).map(operation).collect()
    }

    fn faults(&self, nodes: u32) -> Vec<Step> {
        let count = match self.draw(Aspect::Faults, 0).below(10) {
            0 => 0,
            1 => 1,
            _ => self.draw(Aspect::Faults, 1).between(2, 12),
        };
        let weights: Vec<_> = (0..KINDS)
            .map(|kind| {
                let is_on = self.draw(Aspect::Weights, kind).chance(500_000);
                let weight = self.part(Aspect::Weights, kind, 0).between(1, 8);
                if is_on { weight } else { 0 }
            })
            .collect();
        let fault = |index| {
            let part = |part| self.part(Aspect::Faults, index, part);
            let kind = weighted(part(0), &weights);
            let lasts = match part(1).below(10) {
                0 => None,
                1..4 => Some(Duration::from_millis(part(2).between(50, 2_000))),
                _ => Some(Duration::from_millis(part(2).between(2_000, 30_000))),
            };
            Step {
                at: BOOT + part(3).duration_below(CHAOS),
                action: Action::Disturb {
                    fault: fault_of(kind, nodes, part),
                    lasts,
                },
            }
        };
        (0..count).map(fault).collect()
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
        _ => Fault::Reorder(share(300_000)),
    }
}

fn node_of(draw: Draw, nodes: u32) -> NodeId {
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
fn weighted(draw: Draw, weights: &[u64]) -> u64 {
    let mut left = draw.below(weights.iter().sum());
    for (index, &weight) in (0..).zip(weights) {
        if left < weight {
            return index;
        }
        left -= weight;
    }
    0
}

/// How many kinds of fault there are to draw from.
const KINDS: u64 = 22;

/// Before it is over nothing goes wrong: the nodes start and meet.
const BOOT: Duration = Duration::from_secs(20);

/// For how long things go wrong.
const CHAOS: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seeds_plan_survives_its_text_form() {
        for seed in 0..200 {
            let plan = Plan::of_seed(Tier::Control, seed);
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
