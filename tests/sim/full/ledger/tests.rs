//! Each invariant about flows is broken once, and found to be.

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const FROM: Run = (NodeId(0), 1);
const TO: Run = (NodeId(1), 1);

fn name() -> EndpointName {
    "x".parse().expect("a letter")
}

/// A flow of two messages that is open at both ends, and of which the first is sent and read.
fn ledger(change: impl FnOnce(&mut FlowPlan)) -> Ledger {
    let mut plan = FlowPlan {
        from: FROM.0,
        to: name(),
        messages: 2,
        length: 16,
        every: Duration::ZERO,
        end: FlowEnd::Finish,
        reading: Reading::AtOnce,
        is_fickle: false,
    };
    change(&mut plan);
    let mut ledger = Ledger::default();
    let flow = ledger.begin_flow(SECOND, FROM, &plan);
    ledger.opened(SECOND, flow, TO.0);
    ledger.offer(flow);
    ledger.accepted(SECOND, flow);
    let claimed = ledger.claimed(TO, FROM.0, &name(), &content(flow, 0, 16));
    assert_eq!(claimed.expect("it is this flow's").0, flow);
    assert_eq!(ledger.read(SECOND, flow, &content(flow, 0, 16)), Ok(()));
    ledger
}

/// All is well, and was for a minute.
fn situation<'a>(ended_at: &'a dyn Fn(Run) -> Option<Duration>) -> Situation<'a> {
    Situation {
        now: 60 * SECOND,
        awake_since: &|_| Some(Duration::ZERO),
        ended_at,
        latency: Duration::ZERO,
        turns: Duration::ZERO,
        is_calm: true,
        judged: Judged::All,
    }
}

fn all_live(_: Run) -> Option<Duration> {
    None
}

fn broken<T>(found: Result<T, Finding>) -> Option<Invariant> {
    found.err().map(|(invariant, _)| invariant)
}

#[test]
fn f1_what_is_read_was_not_sent() {
    let mut it = ledger(|_| {});
    assert_eq!(
        broken(it.read(SECOND, 0, &content(0, 1, 16))),
        Some(Invariant::F1)
    );
    it.offer(0);
    assert_eq!(
        broken(it.read(SECOND, 0, &content(0, 2, 16))),
        Some(Invariant::F1)
    );
    assert_eq!(it.read(SECOND, 0, &content(0, 1, 16)), Ok(()));
    assert_eq!(it.serve(0, 0), Ok(()));
    assert_eq!(broken(it.serve(0, 0)), Some(Invariant::F1));
}

/// Of dropped futures it is F8, within a process F9.
#[test]
fn f2_a_flow_ends_cleanly_that_is_not_whole() {
    let mut it = ledger(|_| {});
    assert_eq!(
        broken(it.receiving_ended(SECOND, 0, Ending::Clean)),
        Some(Invariant::F2)
    );
    let mut it = ledger(|_| {});
    it.offer(0);
    it.accepted(SECOND, 0);
    it.complete(0);
    assert_eq!(
        broken(it.receiving_ended(SECOND, 0, Ending::Clean)),
        Some(Invariant::F2)
    );
    let mut it = ledger(|plan| plan.is_fickle = true);
    assert_eq!(
        broken(it.receiving_ended(SECOND, 0, Ending::Clean)),
        Some(Invariant::F8)
    );
    let mut it = ledger(|_| {});
    it.flows[0].reader = Some(FROM);
    assert_eq!(
        broken(it.receiving_ended(SECOND, 0, Ending::Clean)),
        Some(Invariant::F9)
    );
}

#[test]
fn f3_an_end_is_not_told_that_a_flow_is_over() {
    let mut it = ledger(|_| {});
    it.sending_ended(SECOND, 0, Ending::GivenUp);
    assert_eq!(
        broken(it.check_settled(&situation(&all_live))),
        Some(Invariant::F3)
    );
    assert_eq!(it.receiving_ended(SECOND, 0, Ending::GivenUp), Ok(()));
    assert_eq!(it.check_settled(&situation(&all_live)), Ok(()));
    it.serve(0, 7).expect("the first time");
    assert_eq!(broken(it.not_served(0, 7)), Some(Invariant::F3));
}

#[test]
fn f4_a_crash_is_not_known_at_the_other_end() {
    let mut it = ledger(|_| {});
    it.died(SECOND, FROM);
    let ended = |run: Run| (run == FROM).then_some(SECOND);
    assert_eq!(broken(it.check(&situation(&ended))), Some(Invariant::F4));
    let mut soon = situation(&ended);
    soon.now = SECOND + CRASH_BOUND;
    assert_eq!(it.check(&soon), Ok(()));
    soon.now = 60 * SECOND;
    soon.judged = Judged::Core(&[NodeId(1)]);
    assert_eq!(it.check(&soon), Ok(()), "its other end is unwell");
}

#[test]
fn f5_and_d7_a_flow_is_elsewhere() {
    let mut it = ledger(|_| {});
    let first = content(0, 0, 16);
    let again = it.claimed(TO, FROM.0, &name(), &first);
    assert_eq!(broken(again), Some(Invariant::F5));
    it.flows[0].reader = None;
    let of_another = it.claimed(TO, NodeId(2), &name(), &first);
    assert_eq!(broken(of_another), Some(Invariant::F5));
    it.flows[0].reader = None;
    let other = "y".parse().expect("a letter");
    assert_eq!(
        broken(it.claimed(TO, FROM.0, &other, &first)),
        Some(Invariant::D7)
    );
}

#[test]
fn f6_a_flow_does_not_go_on() {
    let mut it = ledger(|_| {});
    it.offer(0);
    it.accepted(SECOND, 0);
    assert_eq!(broken(it.check(&situation(&all_live))), Some(Invariant::F6));
}

#[test]
fn f7_a_dial_or_a_call_is_not_over_in_time() {
    let mut it = Ledger::default();
    let dial = it.begin_dial(SECOND, FROM, &name(), 5 * SECOND);
    assert_eq!(broken(it.check(&situation(&all_live))), Some(Invariant::F7));
    it.end_dial(dial);
    let call = it.begin_call(SECOND, FROM, Some(5 * SECOND), false);
    assert_eq!(broken(it.check(&situation(&all_live))), Some(Invariant::F7));
    it.end_call(call);
    assert_eq!(it.check(&situation(&all_live)), Ok(()));
}
