//! What the programs of whole nodes do under a seed's plan.

use std::time::Duration;

use grinta_proto::EndpointName;

use super::profile::{Aspect, BOOT, CHAOS, Profile, node_of};
use super::{Action, CallPlan, FlowEnd, FlowPlan, NodeId, Operation, Reading, Step};
use crate::draw::Draw;

impl Profile {
    /// Claims at first, then flows and calls beside further claims, releases and departures.
    pub(super) fn workload(&self, nodes: u32) -> Vec<Step> {
        let draw = |n| self.draw(Aspect::Workload, n);
        let names = draw(0).between(1, 6);
        let claims = draw(1).between(1, 8);
        let rest = match draw(2).below(10) {
            0 => draw(3).between(200, 400),
            _ => draw(3).between(10, 100),
        };
        (0..claims + rest)
            .map(|index| {
                let part = |part| self.part(Aspect::Workload, index, part);
                let node = node_of(part(0), nodes);
                let operation = if index < claims {
                    claim(node, names, part)
                } else {
                    operation(node, names, part)
                };
                let at = if index < claims {
                    BOOT / 4 + part(3).duration_below(BOOT / 4)
                } else {
                    BOOT / 2 + part(3).duration_below(BOOT / 2 + CHAOS)
                };
                Step {
                    at,
                    action: Action::Operate(operation),
                }
            })
            .collect()
    }
}

fn claim(node: NodeId, names: u64, part: impl Fn(u64) -> Draw) -> Operation {
    let name = if part(5).chance(250_000) {
        called_name(names, &part)
    } else {
        name(names, &part)
    };
    if part(6).chance(300_000) {
        Operation::StandBy(node, name)
    } else {
        Operation::Claim(node, name)
    }
}

fn operation(node: NodeId, names: u64, part: impl Fn(u64) -> Draw) -> Operation {
    match part(2).below(100) {
        0..12 => claim(node, names, part),
        12..18 => Operation::Release(node, name(names, &part)),
        // The first is where all others join.
        18..20 if node.0 > 0 => Operation::Leave(node),
        20..21 if node.0 > 0 => Operation::ShutDown(node),
        21..24 => Operation::Join(node),
        24..39 => Operation::Call(call(node, names, part)),
        _ => Operation::Open(flow(node, names, part)),
    }
}

fn flow(node: NodeId, names: u64, part: impl Fn(u64) -> Draw) -> FlowPlan {
    let number = |n, least, most| u32::try_from(part(n).between(least, most)).unwrap_or(1);
    let (messages, length) = match part(20).below(100) {
        0..70 => (number(21, 1, 30), number(22, 8, 2_000)),
        70..95 => (number(21, 1, 200), number(22, 8, 200)),
        _ => (number(21, 1, 10), number(22, 10_000, 200_000)),
    };
    let every = match part(23).below(3) {
        0 => Duration::ZERO,
        1 => Duration::from_millis(part(24).between(1, 50)),
        _ => Duration::from_millis(part(24).between(50, 2_000)),
    };
    FlowPlan {
        from: node,
        to: name(names, &part),
        messages,
        length,
        every,
        end: match part(25).below(10) {
            0..6 => FlowEnd::Finish,
            6..8 => FlowEnd::Drop,
            8 => FlowEnd::Reset,
            _ => FlowEnd::Keep,
        },
        reading: match part(26).below(20) {
            0..14 => Reading::AtOnce,
            14..18 => Reading::Every(Duration::from_millis(part(27).between(1, 500))),
            18 => Reading::StopAfter(number(27, 1, 20)),
            _ => Reading::DropAfter(number(27, 1, 20)),
        },
        is_fickle: part(28).chance(200_000),
    }
}

fn call(node: NodeId, names: u64, part: impl Fn(u64) -> Draw) -> CallPlan {
    let number = |n, least, most| u32::try_from(part(n).between(least, most)).unwrap_or(1);
    CallPlan {
        from: node,
        to: called_name(names, &part),
        calls: number(21, 1, 10),
        tasks: if part(29).chance(500_000) {
            1
        } else {
            number(30, 2, 4)
        },
        length: number(22, 8, 2_000),
        every: Duration::from_millis(part(24).between(0, 500)),
        is_fickle: part(28).chance(200_000),
    }
}

fn name(names: u64, part: &impl Fn(u64) -> Draw) -> EndpointName {
    let name = EndpointName::new(format!("service-{}", part(1).below(names)));
    name.expect("letters, a dash and digits")
}

fn called_name(names: u64, part: &impl Fn(u64) -> Draw) -> EndpointName {
    let name = EndpointName::new(format!("calls-{}", part(1).below(names.min(2))));
    name.expect("letters, a dash and digits")
}
