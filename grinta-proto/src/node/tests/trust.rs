//! Who is let in: the one who can mend it gets the typed error, the other counts a refusal.

use std::time::Duration;

use bytes::BytesMut;

use crate::name::FabricName;
use crate::node::control::{ClaimError, Resolution};
use crate::node::testing::{Guise, World, endpoint_name, node_name, request};
use crate::node::{
    Admission, Claimable, Claimant, ConnectError, Counters, DialCause, DialRequest, DialStage,
    EndpointRefusal, JoinError,
};
use crate::rules;
use crate::tls::testing::{DAY, Leaf, Log, NOW, TestCa};
use crate::tls::{Credentials, Der, TlsFailure};
use crate::wire::code::Code;

/// What a newcomer is told that joins through a node, and what that node counts.
fn refused(credentials: &Credentials, name: &'static str) -> (ConnectError, Counters) {
    let mut world = World::of(1, &["a"]);
    world.start_as(name, credentials, &["a"], |_| {});
    let error = why(world.join(name));
    world.run_for(Duration::from_millis(100));
    (error, world.node("a").counters())
}

fn why(joined: Result<crate::node::JoinReport, JoinError>) -> ConnectError {
    match joined {
        Err(JoinError::NoneReachable { mut unreachable }) => unreachable.remove(0).1,
        other => panic!("joined: {other:?}"),
    }
}

#[test]
fn a_node_of_another_ca_is_refused() {
    let fabric = World::new(1).ca;
    let other = TestCa::new("other");
    let untrusting = other.node("b");
    let (error, counters) = refused(&untrusting, "b");
    assert_eq!(error, ConnectError::Tls(TlsFailure::PeerUntrusted));
    assert_eq!(counters.connections_refused, 1);

    let (certificate, key) = other.issue(&Leaf::default().dns("b"));
    let trusting = Credentials::from_der(Der {
        ca: vec![fabric.certificate(), other.certificate()],
        certificate: vec![certificate],
        key,
    });
    let trusting = trusting.unwrap();
    let (error, counters) = refused(&trusting, "b");
    assert_eq!(error, ConnectError::Tls(TlsFailure::OursUntrusted));
    assert_eq!(counters.connections_refused, 1);
    assert_eq!(counters.connections_established, 0);
}

#[test]
fn an_expired_certificate_is_refused_by_both_ends() {
    let world = World::of(1, &["a"]);
    let lapsing = Leaf::default()
        .dns("b")
        .valid(NOW - DAY, NOW + Duration::from_secs(5));
    let lapsing = world.ca.credentials(&lapsing);
    let mut world = world;
    world.start_as("b", &lapsing, &["a"], |_| {});
    world.run_for(Duration::from_secs(10));
    let error = why(world.join("b"));
    assert_eq!(error, ConnectError::Tls(TlsFailure::OursExpired));
    world.run_for(Duration::from_millis(100));
    assert_eq!(world.node("a").counters().connections_refused, 1);

    world.start("c", &["b"]);
    let error = why(world.join("c"));
    assert!(
        matches!(error, ConnectError::Tls(TlsFailure::PeerExpired { .. })),
        "{error}"
    );
}

#[test]
fn whoever_shows_no_certificate_is_refused() {
    let mut world = World::of(1, &["a"]);
    let trusting = world.credentials(&["s"]);
    world.start_stranger("s", &Guise::without_certificate(&trusting));
    world.call("s", "a");
    world.until("the stranger is refused", |world| {
        (!world.stranger("s").lost.is_empty()).then_some(())
    });
    world.run_for(Duration::from_millis(100));
    assert_eq!(world.node("a").counters().connections_refused, 1);
    assert_eq!(world.node("a").counters().connections_established, 0);
}

#[test]
fn a_hello_under_a_name_that_is_not_in_the_certificate_is_refused() {
    let mut world = World::of(1, &["a"]);
    let credentials = world.credentials(&["mallory"]);
    world.start_stranger("mallory", &Guise::of(&credentials));
    world.call("mallory", "a");
    let mut hello = BytesMut::new();
    world.stranger("mallory").hello("alice").encode(&mut hello);
    world.stranger("mallory").say(&hello);
    world.until("the stranger is refused", |world| {
        world.stranger("mallory").closed()
    });
    assert_eq!(
        world.stranger("mallory").closed(),
        Some(Code::NameNotCertified)
    );
    assert_eq!(world.node("a").counters().connections_refused, 1);
}

#[test]
fn a_dialled_node_that_says_another_name_is_given_up() {
    let mut world = World::new(1);
    let credentials = world.credentials(&["mallory"]);
    world.start_stranger("mallory", &Guise::of(&credentials));
    world.start("b", &["mallory"]);
    world.node("b").join();
    let stream = world.until("it is dialled", |world| {
        let stranger = world.stranger("mallory");
        stranger.is_connected.then(|| stranger.accept()).flatten()
    });
    let mut hello = BytesMut::new();
    world.stranger("mallory").hello("alice").encode(&mut hello);
    world.stranger("mallory").write(stream, &hello);
    let error = why(world.joined("b"));
    let expected = ConnectError::NameNotCertified {
        claimed: node_name("alice"),
        certified: vec![node_name("mallory")],
    };
    assert_eq!(error, expected);
    world.run_for(Duration::from_millis(10));
    assert_eq!(
        world.stranger("mallory").closed(),
        Some(Code::NameNotCertified)
    );
}

#[test]
fn a_node_of_another_fabric_is_refused() {
    let mut world = World::of(1, &["a"]);
    world.start_with("b", &["a"], |config| {
        config.fabric = FabricName::new("elsewhere").unwrap();
    });
    let error = why(world.join("b"));
    assert_eq!(error, ConnectError::Tls(TlsFailure::NoCommonProtocol));
    world.run_for(Duration::from_millis(100));
    assert_eq!(world.node("a").counters().connections_refused, 1);

    // One that speaks our protocol in TLS and then says another fabric.
    let credentials = world.credentials(&["s"]);
    world.start_stranger("s", &Guise::of(&credentials));
    world.call("s", "a");
    let mut hello = world.stranger("s").hello("s");
    hello.fabric = FabricName::new("elsewhere").unwrap();
    let mut frame = BytesMut::new();
    hello.encode(&mut frame);
    world.stranger("s").say(&frame);
    world.until("the stranger is refused", |world| {
        world.stranger("s").closed()
    });
    assert_eq!(world.stranger("s").closed(), Some(Code::WrongFabric));
    assert_eq!(world.node("a").counters().connections_refused, 2);
}

#[test]
fn another_version_of_the_protocol_is_refused() {
    let mut world = World::of(1, &["a"]);
    let credentials = world.credentials(&["s"]);
    world.start_stranger("s", &Guise::of(&credentials));
    world.call("s", "a");
    let mut hello = world.stranger("s").hello("s");
    hello.protocol = 2;
    let mut frame = BytesMut::new();
    hello.encode(&mut frame);
    world.stranger("s").say(&frame);
    world.until("the stranger is refused", |world| {
        world.stranger("s").closed()
    });
    assert_eq!(world.stranger("s").closed(), Some(Code::WrongProtocol));
}

#[test]
fn a_dial_that_meets_another_node_at_the_address_fails_in_authentication() {
    let mut world = World::of(1, &["a", "b"]);
    world.serve("b", "service", "a");
    // Somebody else, certified under another name, answers at b's address from now on.
    let other = world.credentials(&["c"]);
    world.crash("b");
    world.lose("a", "b");
    world.start_stranger("b", &Guise::of(&other));
    let dial = world.node("a").dial(DialRequest {
        timeout: Duration::from_secs(5),
        ..request("service")
    });
    let error = world.dialled("a", dial).unwrap_err();
    let expected = DialCause::Connect {
        node: node_name("b"),
        error: ConnectError::NameMismatch {
            dialled: node_name("b"),
            certified: vec![node_name("c")],
        },
    };
    assert_eq!(error.cause, expected);
    assert_eq!(error.stage, DialStage::Authenticate);
}

#[test]
fn a_certificate_with_two_names_proves_the_dialled_one_only_if_the_peer_goes_by_it() {
    let mut world = World::of(1, &["a", "b"]);
    world.serve("b", "service", "a");
    world.crash("b");
    world.lose("a", "b");
    let both = world.credentials(&["b", "c"]);
    world.start_stranger("b", &Guise::of(&both));
    let dial = world.dial("a", "service");
    let stream = world.until("it is dialled", |world| {
        let stranger = world.stranger("b");
        stranger.is_connected.then(|| stranger.accept()).flatten()
    });
    let mut hello = BytesMut::new();
    world.stranger("b").hello("c").encode(&mut hello);
    world.stranger("b").write(stream, &hello);
    let error = world.dialled("a", dial).unwrap_err();
    assert!(
        matches!(
            error.cause,
            DialCause::Connect {
                error: ConnectError::NameMismatch { .. },
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_second_node_of_our_name_is_refused() {
    let mut world = World::of(1, &["a"]);
    let twin = world.credentials(&["a"]);
    world.start_stranger("twin", &Guise::of(&twin));
    world.call("twin", "a");
    let mut hello = BytesMut::new();
    world.stranger("twin").hello("a").encode(&mut hello);
    world.stranger("twin").say(&hello);
    world.until("the twin is refused", |world| {
        world.stranger("twin").closed()
    });
    assert_eq!(
        world.stranger("twin").closed(),
        Some(Code::IdentityConflict)
    );
}

#[test]
fn who_is_not_admitted_is_told_the_rule_and_takes_no_part() {
    let mut world = World::of(1, &["a", "b"]);
    for name in ["a", "b"] {
        let rule = rules::only_nodes(["a", "b", "c"]);
        world.node(name).set_admission(Admission::by(rule));
    }
    world.start("c", &["a"]);
    world.join("c").unwrap();
    world.start("d", &["a"]);
    let ConnectError::Refused { code, reason } = why(world.join("d")) else {
        panic!("it is refused");
    };
    assert_eq!(code, Code::NotAdmitted);
    assert!(reason.contains("d is not on the list"), "{reason}");
    world.run_for(Duration::from_secs(2));
    assert!(world.node("a").counters().connections_refused > 0);
    assert_eq!(world.node("a").members().count(), 2);
}

#[test]
fn nobody_joins_through_those_whom_it_would_not_admit() {
    let mut world = World::of(1, &["a"]);
    world.start("b", &["a"]);
    let rule = rules::only_certified_under(["spiffe://prod/"]);
    world.node("b").set_admission(Admission::by(rule));
    let error = why(world.join("b"));
    assert!(matches!(error, ConnectError::NotAdmitted { .. }), "{error}");
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.node("a").members().count(), 0);
}

#[test]
fn a_rule_sees_every_alternative_name_of_the_certificate() {
    let mut world = World::of(1, &["a"]);
    let rule = rules::only_certified_under(["web.", "spiffe://prod/web/"]);
    world.node("a").set_admission(Admission::by(rule));
    for (name, uri, is_admitted) in [
        ("b", "spiffe://prod/web/b", true),
        ("c", "spiffe://prod/db/c", false),
        ("d", "https://spiffe://prod/web/", false),
    ] {
        let leaf = Leaf::default().dns(name).uri(uri);
        let credentials = world.ca.credentials(&leaf);
        world.start_as(name, &credentials, &["a"], |_| {});
        assert_eq!(world.join(name).is_ok(), is_admitted, "{uri}");
    }
}

/// Nodes whose certificates say what they are for, and a rule that says which names that makes.
fn world_of_roles(names: [(&'static str, &str); 4]) -> World {
    let mut world = World::new(1);
    for (index, (name, role)) in names.into_iter().enumerate() {
        let leaf = Leaf::default()
            .dns(name)
            .uri(&format!("spiffe://prod/{role}/{name}"));
        let credentials = world.ca.credentials(&leaf);
        let neighbours = if index == 0 { &[][..] } else { &["a"] };
        world.start_as(name, &credentials, neighbours, |_| {});
        // One of them does not keep the rule.
        if name != "mallory" {
            world.node(name).set_claimable(Claimable::by(rule()));
        }
        world.join(name).unwrap();
    }
    world
}

fn rule() -> impl Fn(&Claimant<'_>) -> Result<(), String> + Send + Sync + 'static {
    rules::only_names_under([("spiffe://prod/web/", "web."), ("spiffe://prod/db/", "db.")])
}

const ROLES: [(&str, &str); 4] = [("a", "web"), ("b", "web"), ("mallory", "web"), ("d", "db")];

#[test]
fn a_claim_that_the_rule_forbids_is_refused_with_the_certificate_the_name_and_the_rule() {
    let mut world = world_of_roles(ROLES);
    world.claim("b", "web.front", 4).unwrap();
    let refused = world.claim("b", "db.main", 4).unwrap_err();
    let EndpointRefusal::Claim(ClaimError::Forbidden { name, node, .. }) = &refused else {
        panic!("{refused:?}");
    };
    assert_eq!((name.as_str(), node.as_str()), ("db.main", "b"));
    assert_eq!(
        refused.to_string(),
        "the certificate of b may not hold the name db.main: a certificate for [\"b\", \
        \"spiffe://prod/web/b\"] holds names that begin with one of {\"web.\"}, and db.main does \
        not; choose another name, or change the rule at all nodes",
    );
    let list = rules::only_names_of([("b", "db.main")]);
    world.node("b").set_claimable(Claimable::by(list));
    world.claim("b", "db.main", 4).unwrap();
    assert!(world.claim("b", "db.other", 4).is_err());
}

#[test]
fn a_claim_that_the_rule_forbids_counts_for_nothing_at_all_who_keep_it() {
    let mut world = world_of_roles(ROLES);
    let honest = ["a", "b", "d"];
    let main = endpoint_name("db.main");
    let owner = |world: &mut World, at: &str| {
        let directory = world.node(at).control.directory();
        directory.check_invariants();
        directory.owner_of(&endpoint_name("db.main")).cloned()
    };
    world.claim("mallory", "db.main", 4).unwrap();
    world.serve("mallory", "web.mine", "b");
    world.run_for(Duration::from_secs(3));
    for at in honest {
        assert_eq!(owner(&mut world, at), None, "{at}");
        assert_eq!(world.node(at).resolve(&main), Resolution::NotFound, "{at}");
    }
    // Whose certificate is for it takes the name, though it claims it later.
    world.serve("d", "db.main", "b");
    world.run_for(Duration::from_secs(3));
    for at in honest {
        assert_eq!(owner(&mut world, at), Some(node_name("d")), "{at}");
    }
    let hashes = ["a", "b", "d", "mallory"].map(|at| world.node(at).control.directory().hash());
    assert!(
        hashes.iter().all(|hash| *hash == hashes[0]),
        "it is told on as any"
    );

    let certify = |world: &mut World, uris: &[&str]| {
        let leaf = Leaf::default().dns("mallory");
        let leaf = uris.iter().fold(leaf, |leaf, uri| leaf.uri(uri));
        let credentials = world.ca.credentials(&leaf);
        let mallory = world.node("mallory");
        mallory.replace_credentials(credentials).unwrap();
        world.run_for(Duration::from_secs(3));
    };
    // With a certificate for both, its claim is the older one.
    let (web, db) = ("spiffe://prod/web/mallory", "spiffe://prod/db/mallory");
    certify(&mut world, &[db, web]);
    for at in honest {
        assert_eq!(owner(&mut world, at), Some(node_name("mallory")), "{at}");
    }
    // And back.
    certify(&mut world, &[web]);
    for at in honest {
        assert_eq!(owner(&mut world, at), Some(node_name("d")), "{at}");
    }
}

/// All that a program can print of a node that is in the middle of things, and all that it logs.
#[test]
fn no_secret_is_in_anything_that_is_printed() {
    let log = Log::default();
    let writer = log.clone();
    let lines = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone());
    let _guard = tracing::subscriber::set_default(lines.finish());
    let (mut world, ends) = World::with_flow(1);
    world.exchange(ends);
    let (_, key) = world.ca.issue(&Leaf::default().dns("a"));
    let rule = rules::only_names_under([("a", "")]);
    world.node("a").set_claimable(Claimable::by(rule));
    let credentials = world.ca.node("a");
    world
        .node("a")
        .replace_credentials(credentials.clone())
        .unwrap();
    world.run_for(Duration::from_secs(1));
    let guise = world.credentials(&["mallory"]);
    world.start_stranger("mallory", &Guise::of(&guise));
    world.greet("mallory", "a");
    let node = world.node("a");
    let mut printed = format!(
        "{node:?} {credentials:?} {:?} {:?}",
        node.snapshot(),
        node.control
    );
    for peer in node.connections.peers() {
        printed += &format!("{peer:?}");
    }
    for told in &world.trace {
        printed += told;
    }
    let logged = log.text();
    assert!(logged.contains("quinn_proto") && logged.contains("grinta::"));
    printed += &logged;
    let derived = ["connection-id", "stateless-reset"].map(|label| credentials.derive(label));
    let secrets = derived.iter().map(|it| &it[..]);
    // The first bytes of a key say of what kind it is.
    for secret in secrets.chain([&key.secret_der()[16..]]) {
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let decimal = format!("{:?}", &secret[..4]);
        let decimal = decimal.trim_matches(['[', ']']);
        let lower = printed.to_lowercase();
        assert!(!lower.contains(&hex[..16]), "in hexadecimal");
        assert!(!printed.contains(decimal), "in decimal");
        let raw = secret[..8].escape_ascii().to_string();
        assert!(!printed.contains(&raw), "as bytes");
    }
}
