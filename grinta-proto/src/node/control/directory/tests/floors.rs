//! Releases that their owners forget, and replicas that are behind the floor.

use super::*;

#[test]
fn releases_are_forgotten_seldom_and_never_pile_up() {
    let mut ada = directory("ada");
    for number in 0..100 {
        ada.claim(
            endpoint(&format!("held-{number}")),
            ClaimMode::Exclusive,
            at(0),
        )
        .unwrap();
    }
    for number in 0..100 {
        let name = endpoint(&format!("brief-{number}"));
        ada.claim(name.clone(), ClaimMode::Exclusive, at(0))
            .unwrap();
        ada.release(&name);
        assert_eq!(ada.collect(10), 0, "as long as the names held are more");
    }
    ada.release(&endpoint("held-0"));
    assert_eq!(ada.collect(10), 91);
    assert_eq!(ada.releases_kept(), 10);
    assert_eq!(ada.names_held(), 99);
    ada.check_invariants();

    let limits = DirectoryLimits {
        names_per_owner_max: 8,
        ..DirectoryLimits::default()
    };
    let mut bob = Directory::new(node("bob"), Session(1), limits);
    for number in 0..100 {
        let name = endpoint(&format!("brief-{number}"));
        bob.claim(name.clone(), ClaimMode::Exclusive, at(0))
            .unwrap();
        bob.release(&name);
        assert!(bob.releases_kept() <= 8, "also when nobody collects");
        bob.check_invariants();
    }
}

#[test]
fn a_replica_behind_the_floor_is_refilled_piece_by_piece_and_no_name_blinks() {
    let [mut ada, mut bob] = directories(["ada", "bob"]);
    for number in 0..20 {
        ada.claim(
            endpoint(&format!("svc-{number:02}")),
            ClaimMode::Exclusive,
            at(0),
        )
        .unwrap();
    }
    tell(&ada, &mut bob, usize::MAX);
    for number in 0..10 {
        ada.release(&endpoint(&format!("svc-{number:02}")));
    }
    force_collect(&mut ada);
    ada.claim(endpoint("new"), ClaimMode::Exclusive, at(1))
        .unwrap();
    changes(&mut bob);

    let mut pieces = 0;
    while let Some(delta) = ada.delta_for(&bob.head(&node("ada")), 100) {
        assert!(delta.claims.len() <= 2, "a piece keeps to its budget");
        assert_eq!(bob.apply(&delta), Applied::Advanced);
        bob.check_invariants();
        for number in 10..20 {
            assert!(bob.owner_of(&endpoint(&format!("svc-{number}"))).is_some());
        }
        pieces += 1;
    }
    assert!(pieces > 5);
    assert_eq!(contents(&bob)[0], contents(&ada)[0]);
    let gone = changes(&mut bob)
        .into_iter()
        .filter(|change| matches!(change, Change::Gone { .. }));
    assert_eq!(gone.count(), 10);
}

#[test]
fn a_refill_waits_for_those_who_know_the_floor() {
    let [mut ada, mut bob, mut cal] = directories(["ada", "bob", "cal"]);
    for number in 0..4 {
        ada.claim(
            endpoint(&format!("svc-{number}")),
            ClaimMode::Exclusive,
            at(0),
        )
        .unwrap();
    }
    ada.release(&endpoint("svc-0"));
    tell(&ada, &mut cal, usize::MAX);
    ada.release(&endpoint("svc-1"));
    force_collect(&mut ada);
    let unknown = OwnerHead::unknown(node("ada"));
    bob.apply(&ada.delta_for(&unknown, 0).unwrap());
    assert_eq!(bob.head(&node("ada")), head("ada", 1, 3, 6));

    assert_eq!(
        cal.delta_for(&bob.head(&node("ada")), usize::MAX),
        None,
        "cal is behind the floor"
    );
    assert_eq!(
        bob.delta_for(&cal.head(&node("ada")), usize::MAX),
        None,
        "bob is not whole itself"
    );
    assert_eq!(bob.delta_for(&unknown, usize::MAX), None);
    assert_eq!(
        bob.apply(&past(whole(&cal, "ada"), Version(3))),
        Applied::Nothing
    );

    tell(&ada, &mut bob, usize::MAX);
    tell(&bob, &mut cal, usize::MAX);
    for replica in [bob, cal] {
        assert_eq!(contents(&replica)[0], contents(&ada)[0]);
    }
}

#[test]
fn a_later_claim_outlives_an_earlier_one_told_in_a_refill() {
    let [mut ada, mut bob] = directories(["ada", "bob"]);
    ada.claim(endpoint("svc"), ClaimMode::Exclusive, at(0))
        .unwrap();
    let early = whole(&ada, "ada");
    ada.release(&endpoint("svc"));
    ada.claim(endpoint("svc"), ClaimMode::Exclusive, at(9))
        .unwrap();
    tell(&ada, &mut bob, usize::MAX);
    let held = claims_of(&bob, "ada");

    bob.apply(&OwnerDelta {
        floor: Version(8),
        ..early
    });
    assert_eq!(claims_of(&bob, "ada"), held);
    bob.check_invariants();
}

/// The part of a delta past a version.
fn past(mut delta: OwnerDelta, after: Version) -> OwnerDelta {
    delta.claims.retain(|claim| claim.version > after);
    OwnerDelta { after, ..delta }
}
