//! Credentials that are replaced while nodes run: flows go on, who connects later sees the new
//! ones, and only who is revoked is cut off.

use std::time::Duration;

use crate::node::testing::{Ends, World};
use crate::node::{ConnectError, Event, FlowLoss, FlowReadError, JoinError, MemberEvent};
use crate::tls::testing::{DAY, Leaf, NOW, TestCa};
use crate::tls::{Credentials, CredentialsError, Der, TlsFailure};
use crate::wire::code::Code;

#[test]
fn a_renewed_certificate_ends_no_flow_and_is_what_others_see() {
    let mut world = World::new(1);
    let first = Duration::from_secs(20);
    for (name, neighbours) in [("a", &[][..]), ("b", &["a"][..])] {
        let credentials = world.ca.credentials(&lasting(name, first));
        world.start_as(name, &credentials, neighbours, |_| {});
        world.join(name).unwrap();
    }
    let ends = flow(&mut world);
    let before = world.node("a").counters();
    for name in ["a", "b"] {
        let renewed = world.ca.credentials(&lasting(name, DAY));
        world.node(name).replace_credentials(renewed).unwrap();
        world.exchange(ends);
    }
    world.run_for(first + Duration::from_secs(10));
    world.exchange(ends);
    let after = world.node("a").counters();
    assert_eq!(
        after.connections_established,
        before.connections_established
    );

    // The first certificates would be refused by now.
    world.start("c", &["b"]);
    world.join("c").unwrap();
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.connections("c"), 2);
}

#[test]
fn a_certificate_shows_how_long_it_lasts() {
    let mut world = World::new(1);
    let leaf = Leaf::default().dns("a").dns("alias");
    let leaf = leaf.valid(
        NOW - Duration::from_secs(100),
        NOW + Duration::from_secs(100),
    );
    let credentials = world.ca.credentials(&leaf);
    world.start_as("a", &credentials, &[], |_| {});
    let shown = |world: &mut World| {
        let certificate = world.node("a").snapshot().certificate;
        assert_eq!(certificate.cas, 1);
        let left = certificate.expires_in.unwrap();
        (left.as_secs(), certificate.is_overdue)
    };
    assert_eq!(shown(&mut world), (100, false));
    // The wall clock is what the last turn was told: there is one every few seconds.
    for (passed, least, is_overdue) in [(55, 45, false), (10, 35, true), (60, 0, true)] {
        world.run_for(Duration::from_secs(passed));
        let (left, overdue) = shown(&mut world);
        assert!((least..least + 5).contains(&left), "{left} s left");
        assert_eq!(overdue, is_overdue, "{left} s left");
    }
    let renewed = world.ca.credentials(&lasting("a", DAY));
    world.node("a").replace_credentials(renewed).unwrap();
    assert!(!shown(&mut world).1);
}

#[test]
fn a_change_of_ca_in_three_steps_ends_no_flow() {
    let mut world = World::of(1, &["a", "b", "c"]);
    let ends = flow(&mut world);
    let (old, new) = (TestCa::new("fabric"), TestCa::new("successor"));
    let steps: [(&TestCa, &[&TestCa]); 3] = [
        (&old, &[&old, &new]),
        (&new, &[&old, &new]),
        (&new, &[&new]),
    ];
    for (issuer, trusted) in steps {
        for name in ["a", "b", "c"] {
            let credentials = issued(issuer, trusted, name);
            world.node(name).replace_credentials(credentials).unwrap();
            // Who connects between two of them does.
            for peer in ["a", "b"] {
                world.lose("c", peer);
            }
            world.run_for(Duration::from_secs(1));
            assert_eq!(world.connections("c"), 2, "after {name}");
            world.exchange(ends);
        }
    }
    world.start("d", &["a"]);
    let error = why_not(&mut world, "d");
    assert_eq!(error, ConnectError::Tls(TlsFailure::PeerUntrusted));
}

#[test]
fn who_is_revoked_is_cut_off_and_stays_out() {
    let mut world = World::of(1, &["a", "b", "c"]);
    let ends = flow(&mut world);
    for name in ["a", "c"] {
        revoke_b(&mut world, name);
    }
    let lost = |code| FlowLoss::Closed {
        code,
        reason: String::new(),
    };
    for end in [ends.dialler, ends.acceptor] {
        let loss = lost(Code::Revoked);
        assert_eq!(world.end(end), Err(FlowReadError::Lost(loss)));
    }
    for name in ["a", "c"] {
        world.wait(name, "b is down", |event| match event {
            Event::Member(MemberEvent::Down(member)) => (member.name.as_str() == "b").then_some(()),
            _ => None,
        });
    }
    let error = why_not(&mut world, "b");
    assert_eq!(error, ConnectError::Tls(TlsFailure::OursRevoked));
    assert_eq!(world.node("a").connections.up_count(), 1);
}

#[test]
fn a_handshake_that_began_before_the_revocation_does_not_slip_through() {
    let mut world = World::of(1, &["a"]);
    world.latency = Duration::from_millis(100);
    world.start("b", &["a"]);
    world.node("b").join();
    world.until("b has been heard of", |world| {
        (world.node("a").connections.len() > 0).then_some(())
    });
    revoke_b(&mut world, "a");
    let error = match world.joined("b") {
        Err(JoinError::NoneReachable { mut unreachable }) => unreachable.remove(0).1,
        other => panic!("joined: {other:?}"),
    };
    assert!(
        matches!(
            error,
            ConnectError::Refused {
                code: Code::Revoked,
                ..
            }
        ),
        "{error}"
    );
    let counters = world.node("a").counters();
    assert_eq!(counters.connections_refused, 1);
    assert_eq!(counters.connections_established, 0);
}

#[test]
fn credentials_that_do_not_do_are_refused_and_the_old_ones_stay() {
    let (mut world, ends) = World::with_flow(1);
    let fabric = TestCa::new("fabric");
    let expired = fabric.credentials(&Leaf::default().dns("a").valid(NOW - 2 * DAY, NOW - DAY));
    let others = fabric.node("z");
    let untrusted = fabric.credentials_trusting(&Leaf::default().dns("a"), &TestCa::new("other"));
    let node = world.node("a");
    let error = node.replace_credentials(expired).unwrap_err();
    assert!(matches!(error, CredentialsError::Expired { .. }), "{error}");
    let error = node.replace_credentials(others).unwrap_err();
    assert!(
        matches!(error, CredentialsError::NameMissing { .. }),
        "{error}"
    );
    let error = node.replace_credentials(untrusted).unwrap_err();
    assert!(
        matches!(error, CredentialsError::Untrusted { .. }),
        "{error}"
    );
    world.exchange(ends);
    world.start("c", &["a"]);
    world.join("c").unwrap();
}

#[test]
fn a_node_that_shuts_down_takes_nobody_in_for_new_credentials() {
    let mut world = World::of(1, &["a"]);
    world.node("a").shutdown(Duration::from_secs(1));
    world.wait("a", "it is closed", |event| {
        (*event == Event::Closed).then_some(())
    });
    let renewed = world.ca.node("a");
    world.node("a").replace_credentials(renewed).unwrap();
    world.start("b", &["a"]);
    assert_eq!(why_not(&mut world, "b"), ConnectError::NoAnswer);
}

fn flow(world: &mut World) -> Ends {
    let endpoint = world.serve("b", "service", "a");
    world.flow("a", "b", (endpoint, "service"))
}

fn revoke_b(world: &mut World, name: &str) {
    let list = world.ca.revoking("b");
    let revoking = world.ca.node(name).with_revocation_lists(&[list]).unwrap();
    world.node(name).replace_credentials(revoking).unwrap();
}

fn lasting(name: &str, time: Duration) -> Leaf {
    Leaf::default().dns(name).valid(NOW - DAY, NOW + time)
}

/// Credentials of one CA that trust several.
fn issued(issuer: &TestCa, trusted: &[&TestCa], name: &str) -> Credentials {
    let (certificate, key) = issuer.issue(&Leaf::default().dns(name));
    let der = Der {
        ca: trusted.iter().map(|ca| ca.certificate()).collect(),
        certificate: vec![certificate],
        key,
    };
    Credentials::from_der(der).unwrap()
}

/// Why a node cannot join through its only neighbour.
fn why_not(world: &mut World, name: &'static str) -> ConnectError {
    match world.join(name) {
        Err(JoinError::NoneReachable { mut unreachable }) => unreachable.remove(0).1,
        other => panic!("joined: {other:?}"),
    }
}
