//! Owners that come and go: their sessions, their deaths, and what is left of them.

use super::*;

#[test]
fn names_come_back_after_a_false_death_and_nothing_is_told_again() {
    let [mut ada, mut bob] = directories(["ada", "bob"]);
    ada.claim(endpoint("svc"), ClaimMode::Exclusive, at(0))
        .unwrap();
    tell(&ada, &mut bob, usize::MAX);
    changes(&mut bob);
    let before = (contents(&bob), bob.hash());

    bob.set_unreachable(&node("ada"));
    assert_eq!(
        bob.resolve(&endpoint("svc")),
        Resolution::Unreachable { owner: node("ada") }
    );
    assert_eq!(bob.owner_of(&endpoint("svc")), None);
    assert_eq!(bob.scan("", None, 9).listings, []);
    assert_eq!(
        changes(&mut bob),
        [Change::Gone {
            name: endpoint("svc"),
            previous: node("ada")
        }]
    );

    bob.set_reachable(&node("ada"), Session(1));
    assert_eq!(remote(&bob, "svc").owner, node("ada"));
    assert_eq!(
        changes(&mut bob),
        [Change::Appeared {
            name: endpoint("svc"),
            owner: node("ada")
        }],
    );
    assert_eq!((contents(&bob), bob.hash()), before);
    assert_eq!(ada.delta_for(&bob.head(&node("ada")), usize::MAX), None);
}

#[test]
fn versions_that_restart_with_the_process_count_as_later() {
    let [mut ada, mut bob] = directories(["ada", "bob"]);
    for name in ["a", "b", "c"] {
        ada.claim(endpoint(name), ClaimMode::Exclusive, at(0))
            .unwrap();
    }
    tell(&ada, &mut bob, usize::MAX);
    let old_run = whole(&ada, "ada");

    assert_eq!(ada.restart(Session(7)), Session(7));
    assert_eq!(ada.held().count(), 0);
    ada.claim(endpoint("d"), ClaimMode::Exclusive, at(1))
        .unwrap();
    tell(&ada, &mut bob, usize::MAX);

    assert_eq!(bob.head(&node("ada")), head("ada", 7, 1, 0));
    assert_eq!(
        bob.resolve(&endpoint("a")),
        Resolution::NotFound,
        "the first run's names are void"
    );
    let stale = Applied::Refused(Refusal::StaleSession { known: Session(7) });
    assert_eq!(bob.apply(&old_run), stale);
    assert_eq!(remote(&bob, "d").session, Session(7));
    assert_eq!(
        ada.restart(Session(7)),
        Session(8),
        "a session is never used twice"
    );
}

#[test]
fn a_later_session_voids_the_earlier_one_before_it_claims_anything() {
    let [mut ada, mut bob] = directories(["ada", "bob"]);
    ada.claim(endpoint("svc"), ClaimMode::Exclusive, at(0))
        .unwrap();
    tell(&ada, &mut bob, usize::MAX);
    changes(&mut bob);

    bob.set_reachable(&node("ada"), Session(2));
    assert_eq!(bob.resolve(&endpoint("svc")), Resolution::NotFound);
    assert_eq!(changes(&mut bob).len(), 1);

    ada.restart(Session(3));
    assert_eq!(
        bob.apply(&whole(&ada, "ada")),
        Applied::Advanced,
        "an empty set is news too"
    );
    assert_eq!(bob.hash(), ada_and_bob(&mut ada, &bob));
}

#[test]
fn a_late_replica_resurrects_nothing() {
    let [mut ada, mut bob, mut late] = directories(["ada", "bob", "late"]);
    ada.claim(endpoint("svc"), ClaimMode::Exclusive, at(0))
        .unwrap();
    let replica = whole(&ada, "ada");
    tell(&ada, &mut late, usize::MAX);
    tell(&ada, &mut bob, usize::MAX);

    bob.set_unreachable(&node("ada"));
    bob.drop_contents(&node("ada"));
    assert_eq!(bob.names_held(), 0);
    assert_eq!(
        bob.apply(&replica),
        Applied::Nothing,
        "the marker remembers how far it went"
    );
    assert_eq!(late.delta_for(&bob.head(&node("ada")), usize::MAX), None);
    assert_eq!(
        bob.delta_for(&OwnerHead::unknown(node("ada")), usize::MAX),
        None
    );

    bob.forget(&node("ada"));
    assert_eq!(bob.apply(&replica), Applied::Advanced);
    assert_eq!(
        bob.owner_of(&endpoint("svc")),
        None,
        "a node nobody knows to be up owns nothing"
    );
    bob.set_reachable(&node("ada"), Session(2));
    assert_eq!(
        bob.apply(&replica),
        Applied::Refused(Refusal::StaleSession { known: Session(2) })
    );
    assert_eq!(bob.resolve(&endpoint("svc")), Resolution::NotFound);
    bob.check_invariants();
}

#[test]
fn contents_that_were_dropped_are_fetched_again_on_return() {
    let [mut ada, mut bob] = directories(["ada", "bob"]);
    ada.claim(endpoint("svc"), ClaimMode::Exclusive, at(0))
        .unwrap();
    tell(&ada, &mut bob, usize::MAX);
    bob.drop_contents(&node("ada"));
    assert_eq!(
        bob.names_held(),
        1,
        "nothing is dropped of a reachable owner"
    );
    bob.set_unreachable(&node("ada"));
    bob.drop_contents(&node("ada"));
    assert_eq!(
        bob.hash(),
        directory("bob").hash(),
        "as if it never had known ada"
    );
    ada.claim(endpoint("more"), ClaimMode::Exclusive, at(1))
        .unwrap();
    assert!(!bob.lacks(&ada.head(&node("ada"))), "it would take nothing");
    assert!(bob.lacks(&head("ada", 2, 0, 0)), "but of a later run");
    assert_eq!(bob.apply(&whole(&ada, "ada")), Applied::Nothing);
    assert_eq!(
        bob.head(&node("ada")),
        head("ada", 1, 2, 0),
        "the marker moves on"
    );

    bob.set_reachable(&node("ada"), Session(1));
    assert_eq!(bob.head(&node("ada")), head("ada", 1, 0, 0));
    assert!(bob.lacks(&ada.head(&node("ada"))));
    tell(&ada, &mut bob, usize::MAX);
    assert_eq!(contents(&bob)[0], contents(&ada)[0]);
    assert_eq!(bob.scan("", None, 9).listings.len(), 2);
}

#[test]
fn owners_known_by_hearsay_alone_are_bounded_and_members_are_not() {
    let limits = DirectoryLimits {
        owners_max: 2,
        ..DirectoryLimits::default()
    };
    let mut ada = Directory::new(node("ada"), Session(1), limits);
    assert_eq!(
        ada.apply(&whole(&directory("bob"), "bob")),
        Applied::Advanced
    );
    let refused = Applied::Refused(Refusal::TooManyOwners { limit: 2 });
    assert_eq!(ada.apply(&whole(&directory("cal"), "cal")), refused);
    ada.set_reachable(&node("cal"), Session(1));
    assert_eq!(
        ada.apply(&whole(&directory("cal"), "cal")),
        Applied::Nothing
    );
    ada.check_invariants();
}

#[test]
fn what_others_tell_of_us_is_refused_and_a_lie_is_told_apart() {
    let [mut ada, mut bob] = directories(["ada", "bob"]);
    ada.claim(endpoint("svc"), ClaimMode::Exclusive, at(0))
        .unwrap();
    tell(&ada, &mut bob, usize::MAX);
    assert_eq!(
        ada.apply(&whole(&bob, "ada")),
        Applied::Refused(Refusal::Ourselves)
    );
    assert!(!ada.disowns(&bob.head(&node("ada"))));

    let mut second = directory("ada");
    for number in 0..3 {
        second
            .claim(
                endpoint(&format!("x-{number}")),
                ClaimMode::Exclusive,
                at(0),
            )
            .unwrap();
    }
    let disowned = Applied::Refused(Refusal::Disowned {
        session: Session(1),
    });
    assert_eq!(ada.apply(&whole(&second, "ada")), disowned);
    bob.apply(&whole(&second, "ada"));
    assert!(ada.disowns(&bob.head(&node("ada"))));

    ada.restart(Session(2));
    ada.claim(endpoint("svc"), ClaimMode::Exclusive, at(1))
        .unwrap();
    tell(&ada, &mut bob, usize::MAX);
    assert_eq!(
        contents(&bob)[0],
        contents(&ada)[0],
        "a later session clears it all"
    );
}

/// The hash of `ada` once it knows all that `bob` knows.
fn ada_and_bob(ada: &mut Directory, bob: &Directory) -> u64 {
    tell(bob, ada, usize::MAX);
    ada.hash()
}
