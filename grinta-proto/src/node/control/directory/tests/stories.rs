//! Claims told from node to node: made, refused, lost, won back and given up.

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
fn the_loser_is_told_once_and_promoted_when_the_winner_goes() {
    let [mut ada, mut bob, mut cal] = directories(["ada", "bob", "cal"]);
    for (claimant, time) in [(&mut ada, 0), (&mut bob, 5), (&mut cal, 9)] {
        let claimed = claimant.claim(endpoint("svc"), ClaimMode::Exclusive, at(time));
        claimed.unwrap();
    }
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
    bob.apply(&whole(&cal, "cal"));
    assert_eq!(changes(&mut bob), [], "another loser is no news");
    assert_eq!(bob.standing(&name), Some(Standing::Standby));
    assert_eq!(
        ada.standing(&name),
        Some(Standing::Owner),
        "the older claim never noticed"
    );
    ada.apply(&whole(&cal, "cal"));
    assert_eq!(bob.candidates(&name), ada.candidates(&name));
    assert_eq!(bob.candidates(&name).len(), 3);

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
