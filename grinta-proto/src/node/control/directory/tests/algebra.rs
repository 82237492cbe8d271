//! The laws of the merge: order, duplication, cuts and lies.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A change that an owner makes to one of its names.
#[derive(Debug, Clone, Copy)]
enum Edit {
    Claim(u8),
    Release(u8),
    Collect(usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        5 => (0..8_u8).prop_map(Edit::Claim),
        4 => (0..8_u8).prop_map(Edit::Release),
        1 => (0..3_usize).prop_map(Edit::Collect),
    ]
}

fn perform(directory: &mut Directory, edit: Edit) {
    let name = |number| endpoint(&format!("name-{number}"));
    match edit {
        Edit::Claim(number) => drop(directory.claim(name(number), ClaimMode::Standby, at(0))),
        Edit::Release(number) => drop(directory.release(&name(number))),
        Edit::Collect(keep) => drop(directory.collect(keep)),
    }
    directory.check_invariants();
}

/// A delta and its beginning up to `claims` claims.
fn cut(delta: &OwnerDelta, claims: usize) -> OwnerDelta {
    let mut cut = delta.clone();
    if claims < delta.claims.len() {
        cut.claims.truncate(claims);
        cut.upto = cut.claims.last().map_or(cut.after, |claim| claim.version);
    }
    cut
}

proptest! {
    #[test]
    fn deliveries_in_any_order_with_any_duplicates_and_cuts_end_in_one_state(
        edits in vec(edit(), 1..60),
        deliveries in vec((any::<prop::sample::Index>(), 0..6_usize), 0..60),
    ) {
        let mut ada = directory("ada");
        let mut deltas = vec![whole(&ada, "ada")];
        let mut last = ada.head(&node("ada"));
        for edit in edits {
            perform(&mut ada, edit);
            deltas.extend(ada.delta_for(&last, usize::MAX));
            deltas.push(whole(&ada, "ada"));
            last = ada.head(&node("ada"));
        }

        let mut bob = directory("bob");
        let mut horizon = Version(0);
        for (which, claims) in deliveries {
            bob.apply(&cut(which.get(&deltas), claims));
            bob.check_invariants();
            let head = bob.head(&node("ada"));
            prop_assert!(head.version.max(head.floor) >= horizon, "a replica went back");
            horizon = head.version.max(head.floor);
        }
        while let Some(delta) = ada.delta_for(&bob.head(&node("ada")), 150) {
            prop_assert_eq!(bob.apply(&delta), Applied::Advanced);
            bob.check_invariants();
        }
        prop_assert_eq!(&contents(&bob)[0], &contents(&ada)[0]);
    }

    #[test]
    fn every_prefix_of_a_delta_is_a_state_to_go_on_from(
        before in vec(edit(), 0..30),
        after in vec(edit(), 0..30),
    ) {
        let mut ada = directory("ada");
        before.iter().for_each(|&edit| perform(&mut ada, edit));
        let early = whole(&ada, "ada");
        after.iter().for_each(|&edit| perform(&mut ada, edit));

        let replica = || {
            let mut bob = directory("bob");
            bob.apply(&early);
            bob
        };
        let Some(delta) = ada.delta_for(&replica().head(&node("ada")), usize::MAX) else {
            return Ok(());
        };
        for claims in 0..=delta.claims.len() {
            let mut bob = replica();
            bob.apply(&cut(&delta, claims));
            bob.check_invariants();
            while let Some(rest) = ada.delta_for(&bob.head(&node("ada")), 0) {
                prop_assert_eq!(bob.apply(&rest), Applied::Advanced);
                bob.check_invariants();
            }
            prop_assert_eq!(&contents(&bob)[0], &contents(&ada)[0]);
        }
    }

    #[test]
    fn two_replicas_that_tell_each_other_become_one_whoever_begins(
        edits in vec(edit(), 0..60),
        told in (0..60_usize, 0..60_usize),
        budget in 0..400_usize,
    ) {
        let ends = [false, true].map(|reversed| {
            let mut ada = directory("ada");
            let (mut bob, mut cal) = (directory("bob"), directory("cal"));
            for (done, &edit) in edits.iter().enumerate() {
                perform(&mut ada, edit);
                for (replica, told) in [(&mut bob, told.0), (&mut cal, told.1)] {
                    if done <= told {
                        tell(&ada, replica, budget);
                    }
                }
            }
            let mut replicas = if reversed { [cal, bob] } else { [bob, cal] };
            settle(&mut replicas, budget);
            replicas.map(|replica| replica.head(&node("ada")))
        });
        // Where both were left in the middle of a refill, neither can finish the other's.
        for [one, other] in &ends {
            if one.version >= one.floor && other.version >= other.floor {
                prop_assert_eq!(one, other);
            }
        }
        prop_assert_eq!(ends[0].iter().max(), ends[1].iter().max());
    }

    #[test]
    fn no_lie_breaks_a_directory(deltas in vec(lie(), 1..40)) {
        let limits = DirectoryLimits {
            names_max: 8,
            names_per_owner_max: 5,
            owners_max: 4,
            ..DirectoryLimits::default()
        };
        let mut ada = Directory::new(node("ada"), Session(3), limits);
        ada.claim(endpoint("name-0"), ClaimMode::Exclusive, at(0)).unwrap();
        for other in ["bob", "cal", "dan"] {
            ada.set_reachable(&node(other), Session(2));
        }
        for delta in &deltas {
            ada.apply(delta);
            ada.check_invariants();
            let again = ada.apply(delta);
            prop_assert_ne!(again, Applied::Advanced, "{:?} advances twice", delta);
            ada.check_invariants();
            prop_assert!(ada.names_held() + ada.releases_kept() <= 16);
            prop_assert!(ada.heads().count() <= 4);
            prop_assert_eq!(claims_of(&ada, "ada").len(), 1);
            for head in ada.heads().collect::<Vec<_>>() {
                drop(ada.delta_for(&OwnerHead::unknown(head.owner.clone()), 100));
                drop(ada.delta_for(&OwnerHead { version: delta.upto, ..head }, 100));
            }
        }
        ada.release(&endpoint("name-0"));
        if ada.claim(endpoint("fresh"), ClaimMode::Exclusive, at(1)).is_ok() {
            let stamp = claims_of(&ada, "ada").last().unwrap().2;
            let latest = at(1) + STAMP_LEAD_MAX;
            prop_assert!(Duration::from_millis(stamp.unix_ms) <= latest, "{stamp:?} was pulled");
        }
    }
}

/// All orders in which up to five claims can arrive give the name to the same owner.
#[test]
fn the_owner_is_a_function_of_the_set_of_claims() {
    let stamps = [
        [1, 2, 3, 4, 5],
        [5, 4, 3, 2, 1],
        [7, 7, 7, 7, 7],
        [2, 1, 2, 1, 9],
    ];
    let names = ["ada", "bob", "cal", "dan", "eve"];
    for (stamps, count) in stamps
        .into_iter()
        .flat_map(|stamps| (1..=5).map(move |n| (stamps, n)))
    {
        let claims: Vec<_> = names.into_iter().zip(stamps).take(count).collect();
        let ranked: Vec<_> = {
            let mut ranked: Vec<_> = claims
                .iter()
                .map(|&(owner, stamp)| (stamp, owner))
                .collect();
            ranked.sort_unstable();
            ranked.into_iter().map(|(_, owner)| node(owner)).collect()
        };
        for order in permutations((0..count).collect()) {
            let mut observer = directory("zoe");
            for owner in names {
                observer.set_reachable(&node(owner), Session(1));
            }
            for claim in order {
                observer.apply(&single_claim(
                    claims[claim].0,
                    claims[claim].1,
                    ClaimState::Exclusive,
                ));
                observer.check_invariants();
            }
            let candidates = observer.candidates(&endpoint("svc"));
            let owners: Vec<_> = candidates
                .into_iter()
                .map(|located| located.owner)
                .collect();
            assert_eq!(owners, ranked);
            for down in &ranked {
                assert_eq!(observer.owner_of(&endpoint("svc")), Some(down));
                observer.set_unreachable(down);
                observer.check_invariants();
            }
            let owner = ranked[0].clone();
            assert_eq!(
                observer.resolve(&endpoint("svc")),
                Resolution::Unreachable { owner }
            );
        }
    }
}

pub(super) fn single_claim(owner: &str, unix_ms: u64, state: ClaimState) -> OwnerDelta {
    let claim = Claim {
        name: endpoint("svc"),
        version: Version(1),
        stamp: Stamp {
            unix_ms,
            counter: 0,
        },
        state,
    };
    OwnerDelta {
        owner: node(owner),
        session: Session(1),
        after: Version(0),
        upto: Version(1),
        floor: Version(0),
        claims: vec![claim],
        proof: None,
    }
}

pub(super) fn permutations(items: Vec<usize>) -> Vec<Vec<usize>> {
    if items.len() <= 1 {
        return vec![items];
    }
    let mut all = Vec::new();
    for first in 0..items.len() {
        let mut rest = items.clone();
        let first = rest.remove(first);
        all.extend(
            permutations(rest)
                .into_iter()
                .map(|order| [vec![first], order].concat()),
        );
    }
    all
}

/// Versions from nothing to everything.
fn version() -> impl Strategy<Value = Version> {
    prop_oneof![9 => 0..12_u64, 1 => (u64::MAX - 2)..=u64::MAX].prop_map(Version)
}

/// A delta such as no honest node would send, or just might.
fn lie() -> impl Strategy<Value = OwnerDelta> {
    let stamp = (any::<u64>(), any::<u32>());
    let stamp = stamp.prop_map(|(unix_ms, counter)| Stamp { unix_ms, counter });
    let state = prop_oneof![
        Just(ClaimState::Exclusive),
        Just(ClaimState::Shared),
        Just(ClaimState::Released)
    ];
    let claim =
        (0..9_u8, version(), stamp, state).prop_map(|(name, version, stamp, state)| Claim {
            name: endpoint(&format!("name-{name}")),
            version,
            stamp,
            state,
        });
    let owner = prop::sample::select(vec!["ada", "bob", "cal", "dan", "eve"]);
    let session = prop_oneof![Just(Session(2)), Just(Session(3)), Just(Session(u64::MAX))];
    let bounds = [version(), version(), version()];
    (owner, session, bounds, vec(claim, 0..6), any::<bool>()).prop_map(
        |(owner, session, [after, upto, floor], mut claims, sorted)| {
            if sorted {
                claims.sort_by_key(|claim| claim.version);
                claims.dedup_by_key(|claim| claim.version);
                claims.retain(|claim| claim.version > after && claim.version <= upto);
            }
            OwnerDelta {
                owner: node(owner),
                session,
                after,
                upto,
                floor,
                claims,
                proof: None,
            }
        },
    )
}
