//! Trust: files that do not do, and certificates that the other side does not take.

use std::fs;
use std::future::IntoFuture;
use std::path::Path;
use std::time::Duration;

use futures_lite::future::zip;
use grinta_proto::{
    ConnectError, Credentials, CredentialsError, DevelopmentCa, Fabric, JoinError, Json, NodeError,
    Part, PemFiles, StartError, TlsFailure,
};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use tempfile::TempDir;

use super::World;
use super::test_io::TestIo;

node_stories! {
    credentials_from_files_work,
    a_node_refuses_one_of_another_ca,
    a_node_is_refused_by_one_that_does_not_trust_its_ca,
    a_certificate_of_another_node_is_an_error_at_the_start,
    credentials_are_replaced_under_load,
    files_are_followed,
}

system_stories! {
    an_expired_certificate_is_refused,
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let files = Files::of(&Ca::new(), &Leaf::named("node"));
    for part in [Part::Ca, Part::Certificate, Part::Key] {
        let path = files.path_of(part);
        let aside = path.with_extension("aside");
        fs::rename(path, &aside).unwrap();
        let error = Credentials::from_pem_files(&files.paths).unwrap_err();
        let CredentialsError::Unreadable { origin, .. } = &error else {
            panic!("{error:?}");
        };
        assert_eq!((origin.part(), origin.path()), (part, Some(path)));
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
        fs::rename(&aside, path).unwrap();
    }
    Credentials::from_pem_files(&files.paths).unwrap();
}

#[test]
fn a_key_of_another_certificate_is_named() {
    let ca = Ca::new();
    let mut files = Files::of(&ca, &Leaf::named("node"));
    let others = Files::of(&ca, &Leaf::named("node"));
    files.paths.key.clone_from(&others.paths.key);
    let error = Credentials::from_pem_files(&files.paths).unwrap_err();
    let CredentialsError::KeyMismatch { key, certificate } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(key.path(), Some(&*files.paths.key));
    assert_eq!(certificate.path(), Some(&*files.paths.certificate));
}

async fn credentials_from_files_work(world: &World) {
    let ca = Ca::new();
    let first = ca.start(world, "first", None).await;
    let second = ca.start(world, "second", Some(&first)).await;
    assert_eq!(second.members().len(), 2);
}

async fn a_node_refuses_one_of_another_ca(world: &World) {
    let server = world.node("server").await;
    let stranger = DevelopmentCa::in_memory().unwrap();
    let stranger = stranger.issue(&"client".parse().unwrap()).unwrap();
    let client = world.builder("client").credentials(stranger);
    let client = client.neighbour(server.address().to_string());
    let client = world.start(client).await.unwrap();
    assert_eq!(why_not(client.join().await), TlsFailure::PeerUntrusted);
    assert_eq!(server.members().len(), 1);
}

async fn a_node_is_refused_by_one_that_does_not_trust_its_ca(world: &World) {
    let (ca, other) = (Ca::new(), Ca::new());
    let server = Files::of(&ca, &Leaf::named("server")).credentials();
    let server = world.builder("server").credentials(server);
    let server = world.start(server).await.unwrap();
    server.join().await.unwrap();

    // The client trusts both CAs, the server only one.
    let files = Files::of(&other, &Leaf::named("client"));
    let both = fs::read_to_string(&files.paths.ca).unwrap() + &ca.pem();
    fs::write(&files.paths.ca, both).unwrap();
    let client = world.builder("client").credentials(files.credentials());
    let client = client.neighbour(server.address().to_string());
    let client = world.start(client).await.unwrap();
    assert_eq!(why_not(client.join().await), TlsFailure::OursUntrusted);
    assert_eq!(server.counters().connections_refused, 1);
    assert_eq!(server.members().len(), 1);
}

/// The server lives twenty years ahead, when only its own certificate is still valid.
async fn an_expired_certificate_is_refused(world: &World) {
    let ca = Ca::new();
    let server = Files::of(&ca, &Leaf::named("server")).credentials();
    let short = Leaf {
        expires_in: 2040,
        ..Leaf::named("client")
    };
    let client = Files::of(&ca, &short).credentials();
    let io = TestIo::bind().unwrap().ahead(20 * 366 * DAY);
    let assembled = world
        .builder("server")
        .credentials(server)
        .assemble(io, [1; 32], vec![]);
    let (server, driver) = assembled.unwrap();
    let _lifeline = world.drive(driver);
    server.join().await.unwrap();
    let client = world.builder("client").credentials(client);
    let client = client.neighbour(server.address().to_string());
    let client = world.start(client).await.unwrap();
    assert_eq!(why_not(client.join().await), TlsFailure::OursExpired);
    assert_eq!(server.counters().connections_refused, 1);
}

async fn a_certificate_of_another_node_is_an_error_at_the_start(world: &World) {
    let files = Files::of(&Ca::new(), &Leaf::named("somebody"));
    let builder = world.builder("node").credentials(files.credentials());
    let error = world.start(builder).await.unwrap_err();
    let StartError::Node(NodeError::Credentials(CredentialsError::NameMissing {
        certificate,
        node,
        names,
    })) = &error
    else {
        panic!("{error:?}");
    };
    assert_eq!(certificate.path(), Some(&*files.paths.certificate));
    assert_eq!(node.as_str(), "node");
    assert_eq!(names, &["somebody".parse().unwrap()]);
}

/// Each side shows a new certificate every few messages, while both CAs are trusted; in the end
/// only the second is.
async fn credentials_are_replaced_under_load(world: &World) {
    let (first, second) = (Ca::new(), Ca::new());
    let both = first.pem() + &second.pem();
    let renewed = |fabric: &Fabric, issuer: &Ca, trusted: &str| {
        let files = Files::of(issuer, &Leaf::named(fabric.node().as_str()));
        fs::write(&files.paths.ca, trusted).unwrap();
        fabric.replace_credentials(files.credentials()).unwrap();
    };
    let server = first.start(world, "server", None).await;
    let client = first.start(world, "client", Some(&server)).await;
    let endpoint = server.endpoint("service").await.unwrap();
    let dial = client.dial("service").wait_for_name();
    let dial = dial.sender::<u32, _>(Json).into_future();
    let accept = async {
        let incoming = endpoint.accept().await.unwrap();
        incoming.receiver::<u32, _>(Json).unwrap()
    };
    let (sender, mut receiver) = zip(dial, accept).await;
    let mut sender = sender.unwrap();
    let sent = async {
        for number in 0..1_000 {
            sender.send(number).await.unwrap();
            if number % 50 == 0 {
                let issuer = if number < 500 { &first } else { &second };
                renewed(&client, issuer, &both);
                renewed(&server, issuer, &both);
            }
        }
        sender.finish().await.unwrap();
    };
    let received = async {
        let mut expected = 0;
        while let Some(number) = receiver.recv().await.unwrap() {
            assert_eq!(number, expected);
            expected += 1;
        }
        assert_eq!(expected, 1_000);
    };
    zip(sent, received).await;
    for fabric in [&client, &server] {
        renewed(fabric, &second, &second.pem());
    }
    second.start(world, "newcomer", Some(&server)).await;
    let outdated = Files::of(&first, &Leaf::named("outdated"));
    fs::write(&outdated.paths.ca, &both).unwrap();
    let outdated = world
        .builder("outdated")
        .credentials(outdated.credentials());
    let outdated = outdated.neighbour(server.address().to_string());
    let outdated = world.start(outdated).await.unwrap();
    assert_eq!(why_not(outdated.join().await), TlsFailure::OursUntrusted);
}

/// What cannot be used is passed over, and what can be is used, whenever it is there.
async fn files_are_followed(world: &World) {
    let (first, second) = (Ca::new(), Ca::new());
    let files = Files::of(&first, &Leaf::named("server"));
    let server = world.builder("server").credentials(files.credentials());
    let server = world.start(server).await.unwrap();
    server.join().await.unwrap();
    let following = server.follow_credentials(files.paths.clone(), Duration::from_millis(10));
    let following = world.spawn(following);
    fs::write(&files.paths.certificate, "half a certif").unwrap();
    server.sleep(Duration::from_millis(50)).await;
    first.start(world, "early", Some(&server)).await;

    let renewed = Files::of(&second, &Leaf::named("server"));
    for part in [Part::Ca, Part::Key, Part::Certificate] {
        fs::copy(renewed.path_of(part), files.path_of(part)).unwrap();
    }
    let newcomer = Files::of(&second, &Leaf::named("newcomer"));
    let newcomer = world
        .builder("newcomer")
        .credentials(newcomer.credentials());
    let newcomer = newcomer.neighbour(server.address().to_string());
    let newcomer = world.start(newcomer).await.unwrap();
    while let Err(error) = newcomer.join().await {
        assert!(matches!(error, JoinError::NoneReachable { .. }), "{error}");
        server.sleep(Duration::from_millis(10)).await;
    }
    // The task ends with the fabric, which it does not keep open.
    server.shutdown().await;
    following.await;
}

/// Why the only neighbour could not be reached.
fn why_not<T: std::fmt::Debug>(joined: Result<T, JoinError>) -> TlsFailure {
    let Err(JoinError::NoneReachable { unreachable }) = joined else {
        panic!("joined: {joined:?}");
    };
    let [(_, ConnectError::Tls(failure))] = &unreachable[..] else {
        panic!("not for its certificate: {unreachable:?}");
    };
    failure.clone()
}

/// A CA that issues any certificate.
struct Ca {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

/// What a certificate says.
struct Leaf {
    name: String,
    expires_in: i32,
}

/// Credentials in files.
struct Files {
    _directory: TempDir,
    paths: PemFiles,
}

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = date_time_ymd(2100, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        Self {
            issuer,
            certificate,
        }
    }

    fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// A node with a certificate of this CA, which has joined.
    async fn start(&self, world: &World, name: &str, neighbour: Option<&Fabric>) -> Fabric {
        let files = Files::of(self, &Leaf::named(name));
        let mut builder = world.builder(name).credentials(files.credentials());
        if let Some(neighbour) = neighbour {
            builder = builder.neighbour(neighbour.address().to_string());
        }
        let node = world.start(builder).await.unwrap();
        node.join().await.unwrap();
        node
    }
}

impl Leaf {
    fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            expires_in: 2100,
        }
    }
}

impl Files {
    fn of(ca: &Ca, leaf: &Leaf) -> Self {
        let mut params = CertificateParams::new([leaf.name.clone()]).unwrap();
        params.not_after = date_time_ymd(leaf.expires_in, 1, 1);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &ca.issuer).unwrap();
        let directory = TempDir::new().unwrap();
        let paths = PemFiles {
            ca: directory.path().join("ca.pem"),
            certificate: directory.path().join("node.pem"),
            key: directory.path().join("node.key"),
            revocation_lists: vec![],
        };
        fs::write(&paths.ca, ca.pem()).unwrap();
        fs::write(&paths.certificate, certificate.pem()).unwrap();
        fs::write(&paths.key, key.serialize_pem()).unwrap();
        Self {
            _directory: directory,
            paths,
        }
    }

    fn credentials(&self) -> Credentials {
        Credentials::from_pem_files(&self.paths).unwrap()
    }

    fn path_of(&self, part: Part) -> &Path {
        match part {
            Part::Ca => &self.paths.ca,
            Part::Certificate => &self.paths.certificate,
            Part::Key => &self.paths.key,
            Part::RevocationList => panic!("there are none"),
        }
    }
}

const DAY: Duration = Duration::from_secs(86_400);
