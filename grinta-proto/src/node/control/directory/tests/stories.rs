//! What a directory promises, told one by one. Several of these went wrong in other fabrics.

use super::*;

#[test]
fn a_name_that_is_claimed_resolves_wherever_it_was_told() {
    let [mut ada, mut bob] = directories(["ada", "bob"]);
    ada.claim(endpoint("svc"), ClaimMode::Exclusive, at(0))
        .unwrap();
    assert_eq!(ada.resolve(&endpoint("svc")), Resolution::Local);
    assert_eq!(bob.resolve(&endpoint("svc")), Resolution::NotFound);

    tell(&ada, &mut bob, usize::MAX);

    let located = Located {
        owner: node("ada"),
        session: Session(1),
        version: Version(1),
    };
    assert_eq!(bob.resolve(&endpoint("svc")), Resolution::Remote(located));
    assert_eq!(
        changes(&mut bob),
        [Change::Appeared {
            name: endpoint("svc"),
            owner: node("ada")
        }],
    );
    assert_eq!(ada.head(&node("ada")), bob.head(&node("ada")));
    assert_eq!(ada.hash(), bob.hash());
}

#[test]
fn a_claim_says_at_once_why_it_is_refused() {
    let limits = DirectoryLimits {
        names_per_owner_max: 2,
        ..DirectoryLimits::default()
    };
    let mut ada = Directory::new(node("ada"), Session(1), limits);
    let mut bob = directory("bob");
    bob.claim(endpoint("taken"), ClaimMode::Exclusive, at(0))
        .unwrap();
    ada.set_reachable(&node("bob"), Session(1));
    tell(&bob, &mut ada, usize::MAX);

    let taken = ada.claim(endpoint("taken"), ClaimMode::Exclusive, at(1));
    assert_eq!(
        taken,
        Err(ClaimError::Taken {
            name: endpoint("taken"),
            owner: node("bob")
        })
    );
    ada.claim(endpoint("one"), ClaimMode::Exclusive, at(1))
        .unwrap();
    let twice = ada.claim(endpoint("one"), ClaimMode::Exclusive, at(1));
    assert_eq!(
        twice,
        Err(ClaimError::AlreadyHeld {
            name: endpoint("one")
        })
    );
    assert_eq!(
        ada.claim(endpoint("taken"), ClaimMode::Standby, at(1)),
        Ok(Standing::Standby)
    );
    assert_eq!(
        ada.claim(endpoint("three"), ClaimMode::Exclusive, at(1)),
        Err(ClaimError::TooMany {
            limit: NameLimit::NamesPerNode,
            most: 2
        })
    );
    assert_eq!(
        ada.head(&node("ada")),
        head("ada", 1, 2, 0),
        "a refused claim takes no version"
    );

    assert!(ada.release(&endpoint("one")));
    assert!(!ada.release(&endpoint("one")));
    assert_eq!(
        ada.claim(endpoint("three"), ClaimMode::Exclusive, at(1)),
        Ok(Standing::Owner)
    );
    ada.check_invariants();
}

#[test]
fn a_stale_claim_after_the_release_changes_nothing() {
    let [mut ada, mut bob] = directories(["ada", "bob"]);
    ada.claim(endpoint("svc"), ClaimMode::Exclusive, at(0))
        .unwrap();
    let claim = whole(&ada, "ada");
    ada.release(&endpoint("svc"));
    tell(&ada, &mut bob, usize::MAX);

    assert_eq!(bob.apply(&claim), Applied::Nothing);
    assert_eq!(bob.resolve(&endpoint("svc")), Resolution::NotFound);

    assert_eq!(force_collect(&mut ada), 1);
    tell(&ada, &mut bob, usize::MAX);
    assert_eq!(bob.releases_kept(), 0);
    assert_eq!(
        bob.apply(&claim),
        Applied::Nothing,
        "not even when the release is forgotten"
    );
    assert_eq!(bob.resolve(&endpoint("svc")), Resolution::NotFound);
}

#[test]
fn a_stale_release_after_the_next_claim_changes_nothing() {
    let [mut ada, mut bob] = directories(["ada", "bob"]);
    ada.claim(endpoint("svc"), ClaimMode::Exclusive, at(0))
        .unwrap();
    ada.release(&endpoint("svc"));
    let release = whole(&ada, "ada");
    ada.claim(endpoint("svc"), ClaimMode::Exclusive, at(1))
        .unwrap();
    tell(&ada, &mut bob, usize::MAX);

    assert_eq!(bob.apply(&release), Applied::Nothing);
    assert_eq!(bob.owner_of(&endpoint("svc")), Some(&node("ada")));
    assert_eq!(
        claims_of(&bob, "ada").len(),
        1,
        "a name has one claim, the latest"
    );
}

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
fn the_loser_is_told_once_and_promoted_when_the_winner_goes() {
    let [mut ada, mut bob] = directories(["ada", "bob"]);
    ada.claim(endpoint("svc"), ClaimMode::Exclusive, at(0))
        .unwrap();
    bob.claim(endpoint("svc"), ClaimMode::Exclusive, at(5))
        .unwrap();
    assert_eq!(
        changes(&mut bob),
        [Change::Appeared {
            name: endpoint("svc"),
            owner: node("bob")
        }],
    );

    tell(&ada, &mut bob, usize::MAX);
    tell(&bob, &mut ada, usize::MAX);
    bob.apply(&whole(&ada, "ada"));

    let (name, winner) = (endpoint("svc"), node("ada"));
    let moved = Change::Moved {
        name: name.clone(),
        previous: node("bob"),
        owner: node("ada"),
    };
    assert_eq!(
        changes(&mut bob),
        [
            Change::Lost {
                name: name.clone(),
                winner
            },
            moved
        ]
    );
    assert_eq!(changes(&mut bob), []);
    assert_eq!(bob.standing(&name), Some(Standing::Standby));
    assert_eq!(
        ada.standing(&name),
        Some(Standing::Owner),
        "the older claim never noticed"
    );
    assert_eq!(bob.candidates(&name), ada.candidates(&name));
    assert_eq!(bob.candidates(&name).len(), 2);

    bob.set_unreachable(&node("ada"));
    assert_eq!(
        changes(&mut bob)[0],
        Change::Promoted { name: name.clone() }
    );
    bob.set_reachable(&node("ada"), Session(1));
    assert!(
        matches!(changes(&mut bob)[0], Change::Lost { .. }),
        "a second loss is told again"
    );
    ada.release(&name);
    tell(&ada, &mut bob, usize::MAX);
    assert_eq!(changes(&mut bob)[0], Change::Promoted { name });
}

#[test]
fn a_claim_lost_before_anyone_looked_is_told_all_the_same() {
    let [mut ada, mut bob] = directories(["ada", "bob"]);
    ada.claim(endpoint("svc"), ClaimMode::Exclusive, at(0))
        .unwrap();
    bob.claim(endpoint("svc"), ClaimMode::Exclusive, at(5))
        .unwrap();
    tell(&ada, &mut bob, usize::MAX);

    let (name, owner) = (endpoint("svc"), node("ada"));
    let lost = Change::Lost {
        name: name.clone(),
        winner: owner.clone(),
    };
    assert_eq!(changes(&mut bob), [lost, Change::Appeared { name, owner }]);
}

#[test]
fn a_standby_waits_and_takes_over_by_itself() {
    let [mut ada, mut bob] = directories(["ada", "bob"]);
    ada.claim(endpoint("svc"), ClaimMode::Exclusive, at(0))
        .unwrap();
    tell(&ada, &mut bob, usize::MAX);
    assert_eq!(
        bob.claim(endpoint("svc"), ClaimMode::Standby, at(1)),
        Ok(Standing::Standby)
    );
    changes(&mut bob);
    assert!(
        bob.claim(endpoint("svc"), ClaimMode::Exclusive, at(2))
            .is_err()
    );

    ada.release(&endpoint("svc"));
    tell(&ada, &mut bob, usize::MAX);

    assert_eq!(
        changes(&mut bob)[0],
        Change::Promoted {
            name: endpoint("svc")
        }
    );
    assert_eq!(bob.resolve(&endpoint("svc")), Resolution::Local);
    ada.set_reachable(&node("bob"), Session(1));
    tell(&bob, &mut ada, usize::MAX);
    assert_eq!(remote(&ada, "svc").owner, node("bob"));
}

#[test]
fn a_slow_clock_does_not_win_what_it_knew_to_be_taken() {
    let [mut ada, mut bob] = directories(["ada", "bob"]);
    bob.claim(endpoint("svc"), ClaimMode::Exclusive, at(30))
        .unwrap();
    bob.claim(endpoint("last"), ClaimMode::Exclusive, at(40))
        .unwrap();
    tell(&bob, &mut ada, usize::MAX);
    assert_eq!(
        ada.claim(endpoint("svc"), ClaimMode::Standby, at(0)),
        Ok(Standing::Standby)
    );
    tell(&ada, &mut bob, usize::MAX);
    assert_eq!(bob.owner_of(&endpoint("svc")), Some(&node("bob")));
    assert_eq!(ada.owner_of(&endpoint("svc")), Some(&node("bob")));

    ada.claim(endpoint("next"), ClaimMode::Exclusive, at(0))
        .unwrap();
    let stamps = |name| claims_of(&ada, name).last().unwrap().2;
    assert!(stamps("ada") > stamps("bob"), "whatever it claims after");
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
fn no_question_erases_anything() {
    let [mut ada, mut bob] = directories(["ada", "bob"]);
    ada.claim(endpoint("svc"), ClaimMode::Exclusive, at(0))
        .unwrap();
    ada.claim(endpoint("gone"), ClaimMode::Exclusive, at(0))
        .unwrap();
    ada.release(&endpoint("gone"));
    tell(&ada, &mut bob, usize::MAX);
    for reachable in [true, false] {
        if !reachable {
            bob.set_unreachable(&node("ada"));
        }
        let before = (contents(&bob), bob.hash(), bob.changes_pending());
        for name in ["svc", "gone", "never", "sv"] {
            let name = endpoint(name);
            let _ = (
                bob.resolve(&name),
                bob.owner_of(&name),
                bob.candidates(&name),
            );
            let _ = (
                bob.near(&name, 9),
                bob.scan(name.as_str(), None, 9),
                bob.standing(&name),
            );
        }
        assert_eq!((contents(&bob), bob.hash(), bob.changes_pending()), before);
    }
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
    assert_eq!(bob.apply(&whole(&ada, "ada")), Applied::Nothing);
    assert_eq!(
        bob.head(&node("ada")),
        head("ada", 1, 2, 0),
        "the marker moves on"
    );

    bob.set_reachable(&node("ada"), Session(1));
    assert_eq!(bob.head(&node("ada")), head("ada", 1, 0, 0));
    tell(&ada, &mut bob, usize::MAX);
    assert_eq!(contents(&bob)[0], contents(&ada)[0]);
    assert_eq!(bob.scan("", None, 9).listings.len(), 2);
}

#[test]
fn a_claim_that_its_owner_denied_is_skipped_until_the_owner_says_more() {
    let [mut ada, mut bob, mut cal] = directories(["ada", "bob", "cal"]);
    ada.claim(endpoint("svc"), ClaimMode::Exclusive, at(0))
        .unwrap();
    tell(&ada, &mut cal, usize::MAX);
    tell(&ada, &mut bob, usize::MAX);
    bob.claim(endpoint("svc"), ClaimMode::Standby, at(1))
        .unwrap();
    tell(&bob, &mut cal, usize::MAX);

    let dialled = remote(&cal, "svc");
    assert!(cal.mark_stale(&endpoint("svc"), &dialled));
    assert_eq!(
        remote(&cal, "svc").owner,
        node("bob"),
        "the standby may know more"
    );
    assert_eq!(
        cal.owner_of(&endpoint("svc")),
        Some(&node("ada")),
        "ownership is not ours to judge"
    );
    let standby = remote(&cal, "svc");
    assert!(cal.mark_stale(&endpoint("svc"), &standby));
    assert_eq!(cal.resolve(&endpoint("svc")), Resolution::NotFound);
    cal.check_invariants();

    ada.claim(endpoint("other"), ClaimMode::Exclusive, at(2))
        .unwrap();
    tell(&ada, &mut cal, usize::MAX);
    assert_eq!(
        remote(&cal, "svc").owner,
        node("ada"),
        "it spoke and did not release the name"
    );

    ada.release(&endpoint("svc"));
    ada.claim(endpoint("svc"), ClaimMode::Exclusive, at(3))
        .unwrap();
    tell(&ada, &mut cal, usize::MAX);
    assert!(
        !cal.mark_stale(&endpoint("svc"), &dialled),
        "an old refusal says nothing of a new claim"
    );
    assert!(
        !ada.mark_stale(&endpoint("svc"), &dialled),
        "we know what we serve"
    );
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

#[test]
fn a_scan_pages_through_a_prefix_in_order() {
    let [mut ada, mut bob] = directories(["ada", "bob"]);
    for name in ["app.1", "app.2", "app.3", "app", "apq", "zoo"] {
        ada.claim(endpoint(name), ClaimMode::Exclusive, at(0))
            .unwrap();
    }
    ada.release(&endpoint("app.2"));
    tell(&ada, &mut bob, usize::MAX);
    bob.claim(endpoint("app.0"), ClaimMode::Exclusive, at(1))
        .unwrap();

    let names = |page: &Page| -> Vec<String> {
        page.listings
            .iter()
            .map(|listing| listing.name.to_string())
            .collect()
    };
    let first = bob.scan("app", None, 2);
    assert_eq!(names(&first), ["app", "app.0"]);
    let second = bob.scan("app", first.next.as_ref(), 2);
    assert_eq!(names(&second), ["app.1", "app.3"]);
    assert_eq!(second.next, None);
    assert_eq!(names(&bob.scan("", None, 99)).len(), 6);
    assert_eq!(names(&bob.scan("zz", None, 99)).len(), 0);
    assert_eq!(names(&bob.scan("zoo", Some(&endpoint("a")), 9)), ["zoo"]);
}

#[test]
fn a_scan_of_hidden_names_stops_for_breath_and_goes_on() {
    let [mut ada, mut bob] = directories(["ada", "bob"]);
    for number in 0..SCAN_WALK_MAX + 5 {
        ada.claim(
            endpoint(&format!("svc-{number:06}")),
            ClaimMode::Exclusive,
            at(0),
        )
        .unwrap();
    }
    bob.apply(&whole(&ada, "ada"));
    bob.set_unreachable(&node("ada"));
    bob.claim(endpoint("svc-z"), ClaimMode::Exclusive, at(1))
        .unwrap();
    let page = bob.scan("svc", None, 10);
    assert!(page.listings.is_empty());
    let page = bob.scan("svc", page.next.as_ref(), 10);
    assert_eq!((page.listings.len(), page.next), (1, None));
}

#[test]
fn a_mistyped_name_finds_its_neighbours() {
    let [mut ada, mut bob] = directories(["ada", "bob"]);
    for name in ["billing", "billings", "building", "shipping", "bill"] {
        ada.claim(endpoint(name), ClaimMode::Exclusive, at(0))
            .unwrap();
    }
    tell(&ada, &mut bob, usize::MAX);
    let near = |directory: &Directory, name: &str| -> Vec<String> {
        let names = directory.near(&endpoint(name), 3);
        names.iter().map(EndpointName::to_string).collect()
    };
    assert_eq!(near(&bob, "biling"), ["billing", "billings", "building"]);
    assert_eq!(near(&bob, "billing"), ["billings", "building"]);
    assert_eq!(near(&bob, "elsewhere"), [""; 0]);
    bob.set_unreachable(&node("ada"));
    assert_eq!(near(&bob, "biling"), [""; 0], "a hidden name is no help");
}

#[test]
fn changes_fold_and_do_not_grow_without_a_reader() {
    let mut ada = directory("ada");
    for number in 0..1_000 {
        let name = endpoint(&format!("brief-{number}"));
        ada.claim(name.clone(), ClaimMode::Exclusive, at(0))
            .unwrap();
        ada.release(&name);
    }
    assert_eq!(ada.changes_pending(), 0);
    assert_eq!(ada.poll_change(), None);

    let [mut bob, mut cal] = directories(["bob", "cal"]);
    bob.claim(endpoint("svc"), ClaimMode::Exclusive, at(0))
        .unwrap();
    tell(&bob, &mut cal, usize::MAX);
    changes(&mut cal);
    for _flap in 0..100 {
        cal.set_unreachable(&node("bob"));
        cal.set_reachable(&node("bob"), Session(1));
    }
    assert_eq!(changes(&mut cal), []);
}

#[test]
fn buckets_partition_the_heads_and_tell_where_two_replicas_differ() {
    let mut ada = directory("ada");
    let mut bob = directory("bob");
    for number in 0..200 {
        let name = format!("node-{number}");
        for directory in [&mut ada, &mut bob] {
            directory.set_reachable(&node(&name), Session(1));
        }
    }
    ada.set_reachable(&node("bob"), Session(1));
    bob.set_reachable(&node("ada"), Session(1));
    assert_eq!(ada.hash(), bob.hash());
    let mut other = directory("node-7");
    other
        .claim(endpoint("svc"), ClaimMode::Exclusive, at(0))
        .unwrap();
    ada.apply(&whole(&other, "node-7"));

    let pairs = ada
        .bucket_hashes()
        .iter()
        .zip(bob.bucket_hashes())
        .enumerate();
    let differing: Vec<_> = pairs
        .filter(|(_, (a, b))| a != b)
        .map(|(bucket, _)| bucket)
        .collect();
    assert_eq!(differing.len(), 1);
    assert!(
        ada.heads_in(differing[0])
            .any(|head| head.owner == node("node-7"))
    );
    let mut all: Vec<_> = (0..BUCKETS)
        .flat_map(|bucket| ada.heads_in(bucket))
        .collect();
    all.sort();
    assert_eq!(all, ada.heads().collect::<Vec<_>>());
}

/// Forgets all releases of a directory, however few they are.
fn force_collect(directory: &mut Directory) -> usize {
    let before = directory.releases_kept();
    directory.forget_releases(0);
    directory.owners.rehash(LOCAL);
    before - directory.releases_kept()
}

/// The part of a delta past a version.
fn past(mut delta: OwnerDelta, after: Version) -> OwnerDelta {
    delta.claims.retain(|claim| claim.version > after);
    OwnerDelta { after, ..delta }
}

/// The hash of `ada` once it knows all that `bob` knows.
fn ada_and_bob(ada: &mut Directory, bob: &Directory) -> u64 {
    tell(bob, ada, usize::MAX);
    ada.hash()
}
