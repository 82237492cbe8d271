//! The simulator's control tier, under plans that bytes make.

use std::time::Duration;

use arbitrary::{Result, Unstructured};
use grinta_proto::EndpointName;
use grinta_tests::{Action, Fault, Lines, Link, NodeId, Operation, Plan, Policy, Room, Step, Tier};

/// Any bytes are a plan: a few nodes, and what they do and suffer. No invariant of the simulator
/// breaks, and the plan survives its text form, in which a failure prints it.
///
/// # Panics
/// If a law is broken.
pub fn sim_control(data: &[u8]) {
    let Ok(plan) = plan(&mut Unstructured::new(data)) else {
        return;
    };
    assert_eq!(Plan::parse(&plan.to_string()).as_ref(), Ok(&plan));
    if let Some(violation) = plan.run(Lines::Dropped).violation {
        panic!("{violation:?}; `sim replay` takes the plan:\n{plan}");
    }
}

/// As the simulator's own profile has them: nodes meet undisturbed, and the first stays where the
/// others look for it.
fn plan(u: &mut Unstructured<'_>) -> Result<Plan> {
    let nodes = u.int_in_range(2..=5)?;
    let link = Link {
        latency: Duration::from_micros(u.int_in_range(50..=5_000)?),
        jitter: Duration::from_micros(u.int_in_range(0..=2_000)?),
        ..Link::default()
    };
    let seed = u.arbitrary::<u16>()?.into();
    let mut steps = Vec::new();
    while !u.is_empty() && steps.len() < STEPS_MAX {
        steps.push(step(u, nodes)?);
    }
    steps.sort_by_key(|step| step.at);
    Ok(Plan {
        tier: Tier::Control,
        seed,
        nodes,
        link,
        policy: Policy::default(),
        spurious_wakes: 0,
        room: Room::default(),
        chaos: BOOT + CHAOS,
        core: Vec::new(),
        steps,
    })
}

fn step(u: &mut Unstructured<'_>, nodes: u32) -> Result<Step> {
    let at = BOOT + millis(u, 0, CHAOS.as_millis() as u64)?;
    let action = if u.arbitrary()? {
        Action::Operate(operation(u, nodes)?)
    } else {
        Action::Disturb {
            fault: fault(u, nodes)?,
            lasts: match u.int_in_range(0..=9)? {
                0 => None,
                1..4 => Some(millis(u, 50, 2_000)?),
                _ => Some(millis(u, 2_000, 30_000)?),
            },
        }
    };
    Ok(Step { at, action })
}

fn operation(u: &mut Unstructured<'_>, nodes: u32) -> Result<Operation> {
    let node = node(u, nodes)?;
    let name = EndpointName::new(format!("service-{}", u.int_in_range(0..=3)?));
    let name = name.expect("letters, a dash and a digit");
    Ok(match u.int_in_range(0..=6)? {
        0 | 1 => Operation::Claim(node, name),
        2 | 3 => Operation::StandBy(node, name),
        4 | 5 => Operation::Release(node, name),
        _ if node.0 > 0 => Operation::Leave(node),
        _ => Operation::Claim(node, name),
    })
}

fn fault(u: &mut Unstructured<'_>, nodes: u32) -> Result<Fault> {
    let node = node(u, nodes)?;
    Ok(match u.int_in_range(0..=17)? {
        0 => Fault::Crash(node),
        1 if node.0 > 0 => Fault::Move(node),
        1 | 2 => Fault::SetBack(node),
        3 => Fault::Pause(node),
        4 => Fault::ClockAhead(node, millis(u, 1, 7_200_000)?),
        5 => Fault::ClockBehind(node, millis(u, 1, 7_200_000)?),
        6 => {
            let (some, rest) = split(u, nodes)?;
            Fault::Cut(some, rest)
        }
        // Not transitive: both still reach all others.
        7 => Fault::Cut(vec![node], vec![NodeId((node.0 + 1) % nodes)]),
        8 | 9 => {
            let (some, rest) = split(u, nodes)?;
            Fault::CutOneWay(some, rest)
        }
        10 => {
            let (some, rest) = split(u, nodes)?;
            Fault::Flap(some, rest, millis(u, 100, 6_000)?)
        }
        11 => Fault::Ring,
        12 => {
            let (some, rest) = split(u, nodes)?;
            Fault::SlowLinks(some, rest, millis(u, 10, 2_000)?)
        }
        13 => Fault::Latency(millis(u, 10, 1_000)?),
        14 => Fault::Jitter(millis(u, 10, 1_000)?),
        15 => Fault::Loss(u.int_in_range(1..=700_000)?),
        16 => Fault::Duplicate(u.int_in_range(1..=300_000)?),
        _ => Fault::Reorder(u.int_in_range(1..=300_000)?),
    })
}

fn node(u: &mut Unstructured<'_>, nodes: u32) -> Result<NodeId> {
    Ok(NodeId(u.int_in_range(0..=nodes - 1)?))
}

/// Two groups of all nodes, neither of them empty.
fn split(u: &mut Unstructured<'_>, nodes: u32) -> Result<(Vec<NodeId>, Vec<NodeId>)> {
    let mask = u.int_in_range(1..=(1_u32 << nodes) - 2)?;
    Ok((0..nodes)
        .map(NodeId)
        .partition(|node| mask >> node.0 & 1 == 1))
}

fn millis(u: &mut Unstructured<'_>, least: u64, most: u64) -> Result<Duration> {
    Ok(Duration::from_millis(u.int_in_range(least..=most)?))
}

const STEPS_MAX: usize = 16;
/// Before it is over nothing goes wrong: the nodes start and meet.
const BOOT: Duration = Duration::from_secs(20);
/// For how long things go wrong.
const CHAOS: Duration = Duration::from_secs(40);
