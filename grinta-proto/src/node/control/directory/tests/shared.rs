//! Names that several nodes serve.

use super::algebra::permutations;
use super::*;

#[test]
fn all_who_share_a_name_serve_it_and_the_oldest_owns_it() {
    let [mut ada, mut bob, mut cal] = directories(["ada", "bob", "cal"]);
    for (directory, second) in [(&mut bob, 0), (&mut ada, 1)] {
        let standing = directory.claim(endpoint("svc"), ClaimMode::Shared, at(second));
        assert_eq!(standing, Ok(Standing::Owner));
    }
    tell(&ada, &mut cal, usize::MAX);
    tell(&bob, &mut cal, usize::MAX);
    assert_eq!(cal.owner_of(&endpoint("svc")), Some(&node("bob")));
    let servers = cal.servers(&endpoint("svc"));
    let servers: Vec<_> = servers.into_iter().map(|located| located.owner).collect();
    assert_eq!(servers, [node("bob"), node("ada")]);

    cal.mark_stale(&endpoint("svc"), &remote(&cal, "svc"));
    assert_eq!(
        remote(&cal, "svc").owner,
        node("ada"),
        "one who denies is passed over"
    );
    cal.set_unreachable(&node("ada"));
    assert_eq!(serving(&cal, "svc"), ["bob"]);
}

#[test]
fn a_claim_that_would_not_share_is_refused_where_others_do_and_the_other_way_round() {
    let [mut ada, mut bob] = directories(["ada", "bob"]);
    ada.claim(endpoint("pool"), ClaimMode::Shared, at(0))
        .unwrap();
    ada.claim(endpoint("one"), ClaimMode::Exclusive, at(0))
        .unwrap();
    tell(&ada, &mut bob, usize::MAX);
    let (name, owner) = (endpoint("pool"), node("ada"));
    let refused = bob
        .claim(name.clone(), ClaimMode::Exclusive, at(1))
        .unwrap_err();
    assert_eq!(refused, ClaimError::Shared { name, owner });
    assert_eq!(
        refused.to_string(),
        "the name pool is shared by ada and maybe others; share it, or choose another"
    );
    let (name, owner) = (endpoint("one"), node("ada"));
    let refused = bob.claim(name.clone(), ClaimMode::Shared, at(1));
    assert_eq!(refused, Err(ClaimError::Taken { name, owner }));

    let standby = bob.claim(endpoint("pool"), ClaimMode::Standby, at(1));
    assert_eq!(standby, Ok(Standing::Standby));
    bob.set_unreachable(&node("ada"));
    assert_eq!(
        changes(&mut bob).first(),
        Some(&Change::Promoted {
            name: endpoint("pool")
        })
    );
}

#[test]
fn claims_that_meet_late_share_or_yield_as_the_oldest_says() {
    for (oldest, serve) in [
        (ClaimMode::Shared, vec!["ada", "cal"]),
        (ClaimMode::Exclusive, vec!["ada"]),
    ] {
        let mut all = directories(["ada", "bob", "cal"]);
        let modes = [oldest, ClaimMode::Exclusive, ClaimMode::Shared];
        for (directory, (second, mode)) in all.iter_mut().zip((0..).zip(modes)) {
            directory.claim(endpoint("svc"), mode, at(second)).unwrap();
        }
        settle(&mut all, usize::MAX);
        for directory in &all {
            assert_eq!(serving(directory, "svc"), serve);
        }
    }
    let [mut ada, mut bob] = directories(["ada", "bob"]);
    ada.claim(endpoint("svc"), ClaimMode::Shared, at(0))
        .unwrap();
    bob.claim(endpoint("svc"), ClaimMode::Exclusive, at(1))
        .unwrap();
    changes(&mut bob);
    tell(&ada, &mut bob, usize::MAX);
    let (name, winner) = (endpoint("svc"), node("ada"));
    assert_eq!(changes(&mut bob)[0], Change::Lost { name, winner });
    assert_eq!(changes(&mut bob), [], "once");
    ada.release(&endpoint("svc"));
    tell(&ada, &mut bob, usize::MAX);
    let name = endpoint("svc");
    assert_eq!(changes(&mut bob)[0], Change::Promoted { name });
}

#[test]
fn a_change_of_those_who_share_is_told() {
    let [mut ada, mut bob, mut cal] = directories(["ada", "bob", "cal"]);
    ada.claim(endpoint("svc"), ClaimMode::Shared, at(0))
        .unwrap();
    bob.claim(endpoint("svc"), ClaimMode::Shared, at(1))
        .unwrap();
    tell(&ada, &mut cal, usize::MAX);
    changes(&mut cal);
    let (name, owner) = (endpoint("svc"), node("ada"));
    let reshared = Change::Reshared { name, owner };
    tell(&bob, &mut cal, usize::MAX);
    assert_eq!(changes(&mut cal), std::slice::from_ref(&reshared));
    cal.set_unreachable(&node("bob"));
    assert_eq!(changes(&mut cal), [reshared]);
    assert_eq!(serving(&cal, "svc"), ["ada"]);
}

#[test]
fn a_later_run_claims_anew_what_it_shared() {
    let mut ada = directory("ada");
    ada.claim(endpoint("pool"), ClaimMode::Shared, at(0))
        .unwrap();
    ada.claim(endpoint("one"), ClaimMode::Exclusive, at(0))
        .unwrap();
    let before = claims_of(&ada, "ada");
    changes(&mut ada);
    assert_eq!(ada.renew(Session(5), at(1)), Session(5));
    ada.check_invariants();
    let states = |claims: &[Told]| -> Vec<_> {
        let mut states: Vec<_> = claims.iter().map(|it| (it.1.clone(), it.3)).collect();
        states.sort();
        states
    };
    assert_eq!(states(&claims_of(&ada, "ada")), states(&before));
    assert_eq!(changes(&mut ada), [], "nothing is lost to nobody");
}

/// All orders in which up to five claims can arrive, of either kind, are served alike.
#[test]
fn who_serves_a_name_is_a_function_of_the_set_of_claims() {
    let names = ["ada", "bob", "cal", "dan", "eve"];
    for count in 1..=names.len() {
        for kinds in 0..1_u32 << count {
            let shared = |owner: usize| kinds & (1 << owner) != 0;
            // The later in the alphabet the older, but for two that are of an age.
            let stamp = |owner: usize| 10 - owner.max(1) as u64;
            let mut ranked: Vec<_> = (0..count).collect();
            ranked.sort_by_key(|&owner| (stamp(owner), names[owner]));
            let expected: Vec<_> = match shared(ranked[0]) {
                true => ranked.iter().filter(|&&owner| shared(owner)).collect(),
                false => vec![&ranked[0]],
            };
            let expected: Vec<_> = expected.into_iter().map(|&owner| names[owner]).collect();
            for order in permutations((0..count).collect()) {
                let mut observer = directory("zoe");
                for owner in order {
                    observer.set_reachable(&node(names[owner]), Session(1));
                    let state = match shared(owner) {
                        true => ClaimState::Shared,
                        false => ClaimState::Exclusive,
                    };
                    observer.apply(&algebra::single_claim(names[owner], stamp(owner), state));
                }
                observer.check_invariants();
                assert_eq!(serving(&observer, "svc"), expected, "{kinds:b}");
            }
        }
    }
}
