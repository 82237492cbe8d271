//! What is asked of a directory, and that asking changes nothing.

use super::*;

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
