//! Verdicts about owners of many names: they count at once and are told bit by bit.

use super::*;

#[test]
fn a_verdict_counts_at_once_and_is_told_in_slices() {
    let [mut ada, mut bob] = directories(["ada", "bob"]);
    for number in 0..100 {
        let name = endpoint(&format!("svc-{number}"));
        ada.claim(name, ClaimMode::Exclusive, at(0)).unwrap();
    }
    bob.apply(&whole(&ada, "ada"));
    changes(&mut bob);
    bob.set_unreachable(&node("ada"));
    assert_eq!(bob.owner_of(&endpoint("svc-99")), None);
    assert_eq!(bob.changes_pending(), 0, "nothing was walked");
    assert!(bob.has_changes());
    bob.tell_verdicts(30);
    bob.check_invariants();
    assert_eq!(bob.changes_pending(), 30);
    assert_eq!(changes(&mut bob).len(), 100);
    assert!(!bob.has_changes());
}

#[test]
fn a_verdict_that_turns_while_it_is_told_costs_what_was_told_of_it() {
    let [mut ada, mut bob] = directories(["ada", "bob"]);
    for number in 0..100 {
        let name = endpoint(&format!("svc-{number}"));
        ada.claim(name, ClaimMode::Exclusive, at(0)).unwrap();
    }
    bob.apply(&whole(&ada, "ada"));
    changes(&mut bob);
    bob.set_unreachable(&node("ada"));
    bob.tell_verdicts(10);
    let gone: Vec<_> = std::iter::from_fn(|| bob.poll_change()).collect();
    assert_eq!(gone.len(), 10);
    bob.set_reachable(&node("ada"), Session(1));
    bob.check_invariants();
    let back = changes(&mut bob);
    assert_eq!(
        back.len(),
        10,
        "only those come back that were told to be gone"
    );
    assert!(
        back.iter()
            .all(|change| matches!(change, Change::Appeared { .. }))
    );
}

#[test]
fn a_name_that_is_taken_over_before_the_verdict_is_told_is_told_in_order() {
    let [mut ada, mut bob, mut cal] = directories(["ada", "bob", "cal"]);
    ada.claim(endpoint("svc"), ClaimMode::Exclusive, at(0))
        .unwrap();
    tell(&ada, &mut cal, usize::MAX);
    changes(&mut cal);
    bob.claim(endpoint("svc"), ClaimMode::Exclusive, at(1))
        .unwrap();
    cal.set_unreachable(&node("ada"));
    tell(&bob, &mut cal, usize::MAX);
    cal.check_invariants();
    let (name, previous, owner) = (endpoint("svc"), node("ada"), node("bob"));
    let moved = Change::Moved {
        name,
        previous,
        owner,
    };
    assert_eq!(changes(&mut cal), [moved]);
}

#[test]
fn a_claim_won_before_the_verdict_is_told_and_lost_after_is_told_as_lost() {
    let [mut ada, mut bob, mut cal] = directories(["ada", "bob", "cal"]);
    ada.claim(endpoint("svc"), ClaimMode::Exclusive, at(0))
        .unwrap();
    tell(&ada, &mut cal, usize::MAX);
    bob.claim(endpoint("svc"), ClaimMode::Exclusive, at(1))
        .unwrap();
    changes(&mut cal);
    cal.set_unreachable(&node("ada"));
    let standing = cal.claim(endpoint("svc"), ClaimMode::Exclusive, at(2));
    assert_eq!(standing, Ok(Standing::Owner));
    tell(&bob, &mut cal, usize::MAX);
    let (name, winner) = (endpoint("svc"), node("bob"));
    assert_eq!(changes(&mut cal)[0], Change::Lost { name, winner });
}

#[test]
fn a_claim_on_the_ground_of_a_verdict_that_is_taken_back_learns_that_it_lost() {
    let [mut ada, mut bob] = directories(["ada", "bob"]);
    ada.claim(endpoint("svc"), ClaimMode::Exclusive, at(0))
        .unwrap();
    bob.apply(&whole(&ada, "ada"));
    changes(&mut bob);
    bob.set_unreachable(&node("ada"));
    let claimed = bob.claim(endpoint("svc"), ClaimMode::Exclusive, at(1));
    assert_eq!(claimed, Ok(Standing::Owner));
    bob.set_reachable(&node("ada"), Session(1));
    let lost = Change::Lost {
        name: endpoint("svc"),
        winner: node("ada"),
    };
    assert_eq!(changes(&mut bob), [lost]);
}

#[test]
fn a_standby_learns_of_a_release_though_the_verdict_before_it_was_not_told() {
    let [mut ada, mut bob] = directories(["ada", "bob"]);
    ada.claim(endpoint("svc"), ClaimMode::Exclusive, at(0))
        .unwrap();
    bob.apply(&whole(&ada, "ada"));
    bob.set_unreachable(&node("ada"));
    changes(&mut bob);
    bob.set_reachable(&node("ada"), Session(1));
    let claimed = bob.claim(endpoint("svc"), ClaimMode::Standby, at(1));
    assert_eq!(claimed, Ok(Standing::Standby));
    ada.release(&endpoint("svc"));
    tell(&ada, &mut bob, usize::MAX);
    let promoted = Change::Promoted {
        name: endpoint("svc"),
    };
    assert!(changes(&mut bob).contains(&promoted));
    assert_eq!(bob.standing(&endpoint("svc")), Some(Standing::Owner));
}
