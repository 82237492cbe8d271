//! The limits: at the owner's claims, at the replicas of honest owners, and at those of others.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn limited(name: &str, limits: DirectoryLimits) -> Directory {
    Directory::new(node(name), Session(1), limits)
}

/// Two names for each owner, five for all.
fn few() -> DirectoryLimits {
    DirectoryLimits {
        names_per_owner_max: 2,
        names_max: 5,
        ..DirectoryLimits::default()
    }
}

fn claim(directory: &mut Directory, name: &str) -> Result<Standing, ClaimError> {
    directory.claim(endpoint(name), ClaimMode::Exclusive, at(0))
}

fn holding<const N: usize>(name: &str, names: [&str; N]) -> Directory {
    let mut directory = directory(name);
    for name in names {
        claim(&mut directory, name).unwrap();
    }
    directory
}

fn too_many(limit: NameLimit, most: usize) -> Result<Standing, ClaimError> {
    Err(ClaimError::TooMany { limit, most })
}

#[test]
fn a_claim_past_the_names_of_a_node_is_refused_until_one_is_released() {
    let mut ada = limited("ada", few());
    claim(&mut ada, "a").unwrap();
    claim(&mut ada, "b").unwrap();
    let refused = claim(&mut ada, "c");
    assert_eq!(refused, too_many(NameLimit::NamesPerNode, 2));
    assert_eq!(
        refused.unwrap_err().to_string(),
        "`names_per_node_max` is reached (2); release some names, or raise it at all nodes"
    );
    assert!(ada.release(&endpoint("a")));
    assert_eq!(claim(&mut ada, "c"), Ok(Standing::Owner));
    assert_eq!(ada.breach(&node("ada")), None);
    ada.check_invariants();
}

#[test]
fn a_claim_past_the_bytes_of_a_node_is_refused_and_a_shorter_one_is_not() {
    let limits = DirectoryLimits {
        name_bytes_per_owner_max: 10,
        ..DirectoryLimits::default()
    };
    let mut ada = limited("ada", limits);
    claim(&mut ada, "sixsix").unwrap();
    let refused = claim(&mut ada, "fives");
    assert_eq!(refused, too_many(NameLimit::NameBytesPerNode, 10));
    assert_eq!(claim(&mut ada, "four"), Ok(Standing::Owner));
}

#[test]
fn a_claim_past_the_names_or_the_bytes_of_all_is_refused_whoever_holds_them() {
    let limits = DirectoryLimits {
        names_max: 2,
        ..DirectoryLimits::default()
    };
    let bytes = DirectoryLimits {
        name_bytes_max: 3,
        ..DirectoryLimits::default()
    };
    for (limits, refused) in [
        (limits, too_many(NameLimit::Names, 2)),
        (bytes, too_many(NameLimit::NameBytes, 3)),
    ] {
        let mut ada = limited("ada", limits);
        claim(&mut ada, "a").unwrap();
        ada.apply(&whole(&holding("bob", ["bb"]), "bob"));
        assert_eq!(claim(&mut ada, "c"), refused);
    }
}

#[test]
fn a_replica_takes_twice_the_limit_and_stops_with_a_valid_prefix() {
    let mut ada = holding("ada", ["a", "b", "c", "d", "e", "f"]);
    let mut bob = limited("bob", few());
    let full = Applied::Full {
        limit: NameLimit::NamesPerNode,
    };
    assert_eq!(bob.apply(&whole(&ada, "ada")), full);
    assert_eq!(bob.head(&node("ada")), head("ada", 1, 4, 0));
    assert_eq!(bob.breach(&node("ada")), Some(NameLimit::NamesPerNode));
    bob.check_invariants();

    for name in ["a", "b", "c", "d"] {
        ada.release(&endpoint(name));
    }
    assert_eq!(bob.apply(&whole(&ada, "ada")), full, "versions go in order");
    ada.forget_releases(0);
    ada.owners.rehash(LOCAL);
    assert_eq!(bob.apply(&whole(&ada, "ada")), Applied::Advanced);
    assert_eq!(
        bob.names_held(),
        2,
        "an owner that is back within its limit"
    );
    assert_eq!(bob.breach(&node("ada")), None);

    let mut ada = holding("ada", ["a", "b", "c", "d", "e", "f"]);
    assert_eq!(bob.apply(&whole(&ada, "ada")), Applied::Nothing);
    ada.renew(Session(2), at(0));
    assert_eq!(bob.apply(&whole(&ada, "ada")), full);
    ada.restart(Session(3));
    claim(&mut ada, "g").unwrap();
    assert_eq!(bob.apply(&whole(&ada, "ada")), Applied::Advanced);
    assert_eq!(contents(&bob)[0], contents(&ada)[0], "or that restarted");
}

#[test]
fn one_owner_past_the_limit_takes_nothing_from_the_others() {
    let mut bob = limited("bob", few());
    bob.apply(&whole(
        &holding("ada", ["a", "b", "c", "d", "e", "f"]),
        "ada",
    ));
    for owner in ["cal", "dan"] {
        let theirs = holding(owner, ["x", "y"]);
        assert_eq!(bob.apply(&whole(&theirs, owner)), Applied::Advanced);
        assert_eq!(bob.breach(&node(owner)), None);
    }
    assert_eq!(bob.names_held(), 8);
    let more = holding("eve", ["p", "q", "r"]);
    let full = Applied::Full {
        limit: NameLimit::Names,
    };
    assert_eq!(bob.apply(&whole(&more, "eve")), full, "twice five are ten");
    assert_eq!(bob.names_held(), 10);
    bob.check_invariants();
}

proptest! {
    /// However a history is cut into deltas: a replica may lack the releases of names that gave
    /// way to others, and holds more than its owner ever did.
    #[test]
    fn who_keeps_the_limit_is_never_cut_short(
        steps in vec((0..12_usize, 0..3_usize, 0..300_usize), 1..200),
    ) {
        let limits = DirectoryLimits {
            names_per_owner_max: 4,
            name_bytes_per_owner_max: 18,
            ..DirectoryLimits::default()
        };
        let mut ada = limited("ada", limits.clone());
        let mut bob = limited("bob", limits);
        for (name, deed, budget) in steps {
            let name = "x".repeat(name + 1);
            match deed {
                0 => drop(claim(&mut ada, &name)),
                1 => drop(ada.release(&endpoint(&name))),
                _ => {
                    let theirs = bob.head(&node("ada"));
                    let Some(delta) = ada.delta_for(&theirs, budget) else { continue };
                    let applied = bob.apply(&delta);
                    let is_taken = matches!(applied, Applied::Advanced | Applied::Nothing);
                    prop_assert!(is_taken, "{applied:?}");
                    if delta.upto == ada.head(&node("ada")).version {
                        prop_assert_eq!(bob.breach(&node("ada")), None);
                    }
                    bob.check_invariants();
                }
            }
            prop_assert_eq!(ada.breach(&node("ada")), None);
            ada.check_invariants();
        }
        for _ in 0..100 {
            tell(&ada, &mut bob, 60);
        }
        prop_assert_eq!(claims_of(&bob, "ada"), claims_of(&ada, "ada"));
    }
}
