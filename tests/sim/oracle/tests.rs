//! Each invariant about members and names is broken once, and found to be.

use std::time::Instant;

use grinta_proto::Config;
use grinta_proto::node::control::{Control, Identity, Resolution as Found};
use grinta_proto::wire::control::{ControlMessage, Health, MemberIdentity, MemberRecord};

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const ONE: NodeId = NodeId(1);

/// An oracle of three nodes that run since the start, and know each other.
fn oracle() -> Oracle {
    let plan = Plan::parse("nodes 3").expect("it is a plan");
    let mut oracle = Oracle::new(&plan);
    for id in plan.node_ids() {
        oracle.started(Duration::ZERO, id);
    }
    for id in plan.node_ids() {
        for about in plan.node_ids().filter(|&about| about != id) {
            let up = MemberEvent::Up(member(about, 1, MemberState::Alive));
            assert_eq!(oracle.hear(SECOND, id, &ControlEvent::Member(up)), Ok(()));
        }
    }
    oracle
}

fn member(id: NodeId, session: u64, state: MemberState) -> Member {
    let address = ([10, 0, 0, 1], 7400).into();
    let identity = |id| Identity {
        name: name_of(id),
        address,
        session: Session(1),
    };
    let now = Instant::now();
    let told = MemberRecord {
        identity: MemberIdentity {
            name: name_of(id),
            address,
            session: Session(1),
            bump: 0,
        },
        incarnation: 0,
        health: Health::Alive,
        labels: None,
        gone_for: Duration::ZERO,
    };
    let config = Config::new(name_of(NodeId(9)));
    let mut node = Control::new(&config, identity(NodeId(9)), [0; 32], now, SECOND);
    let told = node.handle_message(now, &name_of(id), ControlMessage::Members(vec![told]));
    told.expect("it is well-formed");
    let mut member = node.member(&name_of(id)).expect("it was told");
    (member.session, member.state) = (Session(session), state);
    member
}

fn name() -> EndpointName {
    "x".parse().expect("a letter")
}

/// What node 0 is told of node 1, half a minute after the start.
fn hear(oracle: &mut Oracle, event: MemberEvent) -> Result<(), Invariant> {
    let event = ControlEvent::Member(event);
    let heard = oracle.hear(30 * SECOND, NodeId(0), &event);
    heard.map_err(|(invariant, _)| invariant)
}

fn down() -> MemberEvent {
    let since = Instant::now();
    MemberEvent::Down(member(ONE, 1, MemberState::Down { since }))
}

#[test]
fn m1_who_runs_is_held_down() {
    assert_eq!(hear(&mut oracle(), down()), Err(Invariant::M1));
    let mut oracle = oracle();
    oracle.stopped(29 * SECOND, ONE, Session(1));
    assert_eq!(hear(&mut oracle, down()), Ok(()));
}

#[test]
fn m2_and_m4_the_core_is_not_whole() {
    let core = [NodeId(0), ONE];
    let seen = |state| BTreeMap::from([(ONE, state)]);
    assert_eq!(
        check_core(&core, NodeId(0), &seen(MemberState::Alive)),
        Ok(())
    );
    let since = Instant::now();
    let exiled = check_core(&core, NodeId(0), &seen(MemberState::Down { since }));
    assert_eq!(
        exiled.map_err(|(invariant, _)| invariant),
        Err(Invariant::M2)
    );
    let unknown = check_core(&core, NodeId(0), &BTreeMap::new());
    assert_eq!(
        unknown.map_err(|(invariant, _)| invariant),
        Err(Invariant::M4)
    );
}

#[test]
fn m4_members_of_one_side_lose_each_other() {
    let mut oracle = oracle();
    let cut = Fault::Cut(vec![NodeId(0), ONE], vec![NodeId(2)]);
    oracle.fault_begins(20 * SECOND, &cut, None);
    assert_eq!(hear(&mut oracle, down()), Err(Invariant::M4));
}

#[test]
fn m5_events_do_not_alternate() {
    let up = MemberEvent::Up(member(ONE, 1, MemberState::Alive));
    assert_eq!(hear(&mut oracle(), up), Err(Invariant::M5));
    let refuted = MemberEvent::Refuted(member(ONE, 1, MemberState::Alive));
    assert_eq!(hear(&mut oracle(), refuted), Err(Invariant::M5));
}

#[test]
fn m6_who_left_is_held_to_have_failed() {
    let mut oracle = oracle();
    oracle.leaves(29 * SECOND, ONE);
    assert_eq!(hear(&mut oracle, down()), Err(Invariant::M6));
}

#[test]
fn m7_a_session_goes_back() {
    let suspected = MemberEvent::Suspected(member(ONE, 0, MemberState::Suspect));
    assert_eq!(hear(&mut oracle(), suspected), Err(Invariant::M7));
}

#[test]
fn d1_d2_and_d3_what_a_name_resolves_to() {
    let nobody = None;
    let holders = BTreeSet::from([NodeId(0), ONE]);
    let held = Some(&holders);
    let at = |id: NodeId| Found::Remote {
        owner: name_of(id),
        address: ([10, 0, 0, 1], 7400).into(),
        suspect: false,
    };
    let check = |holders, found: [Found; 2]| {
        let found = [NodeId(0), ONE].into_iter().zip(found);
        check_owner(&name(), holders, found).map_err(|(invariant, _)| invariant)
    };
    assert_eq!(check(held, [Found::Local, at(NodeId(0))]), Ok(()));
    assert_eq!(check(nobody, [Found::NotFound, Found::NotFound]), Ok(()));
    assert_eq!(
        check(held, [Found::Local, Found::Local]),
        Err(Invariant::D1)
    );
    assert_eq!(
        check(held, [Found::Local, Found::NotFound]),
        Err(Invariant::D2)
    );
    assert_eq!(
        check(held, [Found::Local, Found::NotSynced]),
        Err(Invariant::D2)
    );
    assert_eq!(
        check(held, [Found::Local, at(NodeId(2))]),
        Err(Invariant::D3)
    );
    assert_eq!(
        check(nobody, [Found::NotFound, at(ONE)]),
        Err(Invariant::D3)
    );
}

#[test]
fn d4_a_loss_is_told_twice() {
    let mut oracle = oracle();
    let winner = name_of(ONE);
    let lost = ControlEvent::NameLost {
        name: name(),
        winner,
    };
    assert_eq!(oracle.hear(SECOND, NodeId(0), &lost), Ok(()));
    let (invariant, _) = oracle.hear(SECOND, NodeId(0), &lost).expect_err("twice");
    assert_eq!(invariant, Invariant::D4);
}

#[test]
fn d6_somebody_owns_what_it_never_claimed() {
    let mut oracle = oracle();
    let appeared = ControlEvent::Name(NameEvent::Appeared {
        name: name(),
        owner: name_of(ONE),
    });
    let (invariant, _) = oracle
        .hear(SECOND, NodeId(0), &appeared)
        .expect_err("never");
    assert_eq!(invariant, Invariant::D6);
    oracle.claims(ONE, &name());
    assert_eq!(oracle.hear(SECOND, NodeId(0), &appeared), Ok(()));
}

#[test]
fn p3_a_conflict_without_a_cause() {
    let told = oracle().hear(SECOND, NodeId(0), &ControlEvent::Displaced);
    assert_eq!(told.map_err(|(invariant, _)| invariant), Err(Invariant::P3));
}

/// R2.
#[test]
fn a_timer_that_is_set_to_the_present_for_ever() {
    let mut oracle = oracle();
    let mut armed = || oracle.armed(SECOND, NodeId(0), SECOND);
    let times = std::iter::repeat_with(&mut armed).take_while(Result::is_ok);
    assert_eq!(times.take(2000).count(), TURNS_PER_INSTANT_MAX as usize + 1);
}
