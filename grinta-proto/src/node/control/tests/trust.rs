//! A member may be broken into, and tell of the names of others whatever it likes.

use std::collections::BTreeSet;

use super::super::harness::{Seal, Signer, World, address, name};
use super::super::*;
use super::{claim, endpoint, seconds};
use crate::wire::claims::{Claim, ClaimState, OwnerDelta, OwnerHead, Stamp, Version};
use crate::wire::control::{Health, MemberUpdate, Names, Rumour, SwimHeader, SwimKind, SwimPacket};

/// Node 2 owns `svc`, and its key and its set are known to the test; node 1 lies to node 0.
struct Siege {
    world: World,
    owner: Signer,
}

impl Siege {
    fn begin(seed: u64) -> Self {
        let mut world = World::of(seed, 3);
        world.violations = Some(Vec::new());
        world.run(seconds(10));
        world.act(2, |control, now, _| {
            control
                .claim(now, UNIX_TIME, endpoint("svc"), ClaimMode::Exclusive)
                .unwrap();
        });
        world.run(seconds(3));
        let mut owner = Signer::new(name(2), Session(1));
        let claimed = owner
            .directory
            .claim(endpoint("svc"), ClaimMode::Exclusive, UNIX_TIME);
        claimed.unwrap();
        let siege = Self { world, owner };
        assert_eq!(siege.held(), siege.owner.head());
        siege
    }

    /// What node 0 holds of node 2.
    fn held(&self) -> OwnerHead {
        self.world.node(0).control.directory().head(&name(2))
    }

    /// Node 1 tells node 0 something; what is wrong with it.
    fn tell(&mut self, message: ControlMessage) -> Option<Violation> {
        let told = self.world.act(0, |control, now, _| {
            control.handle_message(now, &name(1), message)
        });
        told.err()
    }

    /// Tells it in a rumour, and then in an answer with the certificate. Nothing comes of it.
    #[track_caller]
    fn tell_in_vain(&mut self, delta: &OwnerDelta, wrong: impl Fn(Option<Violation>) -> bool) {
        let before = self.world.node(0).events.len();
        let (held, hash) = (self.held(), self.world.node(0).control.directory().hash());
        let rumour = Rumour {
            deltas: vec![delta.clone()],
            ..Rumour::default()
        };
        let names = self.owner.names(delta.clone());
        for message in [ControlMessage::Rumour(rumour), ControlMessage::Names(names)] {
            let violation = self.tell(message);
            assert!(wrong(violation.clone()), "{violation:?}");
            let node = self.world.node(0);
            assert_eq!(self.held(), held);
            assert_eq!(node.control.directory().hash(), hash);
            assert_eq!(owner_of(&self.world, 0, "svc"), Some(name(2)));
            assert_eq!(node.events.len(), before, "nobody hears of it");
        }
    }
}

/// The take-over of a name: its owner releases it, or so they say, and the liar claims it.
#[test]
fn a_release_in_anothers_name_is_void_however_it_is_dressed_up() {
    let mut siege = Siege::begin(101);
    let release = Claim {
        name: endpoint("svc"),
        version: Version(2),
        stamp: Stamp::default(),
        state: ClaimState::Released,
    };
    let bare = OwnerDelta {
        owner: name(2),
        session: Session(1),
        after: Version(1),
        upto: Version(2),
        floor: Version(0),
        claims: vec![release.clone()],
        proof: None,
    };
    siege.tell_in_vain(&bare, is_unsigned);

    let with_proof = |siege: &mut Siege, delta: &OwnerDelta| OwnerDelta {
        proof: Some(Box::new(siege.owner.proof())),
        ..delta.clone()
    };
    // With the signature of what it said before.
    let worn = with_proof(&mut siege, &bare);
    siege.tell_in_vain(&worn, is_forged);
    // As all there is, of the same run and of a later one.
    let whole = OwnerDelta {
        after: Version(0),
        ..worn.clone()
    };
    siege.tell_in_vain(&whole, is_forged);
    let later = OwnerDelta {
        session: Session(2),
        ..whole
    };
    siege.tell_in_vain(&later, is_forged);
    // With a floor that nobody signed, above all there is.
    let raised = OwnerDelta {
        after: Version(0),
        floor: Version(9),
        claims: Vec::new(),
        ..worn
    };
    siege.tell_in_vain(&raised, is_forged);

    // The liar has a certificate, and signs by it.
    let mut liar = Signer::new(name(2), Session(1));
    liar.seal = Box::new(Seal::new(name(1), 1));
    liar.claim(endpoint("svc"));
    liar.directory.release(&endpoint("svc"));
    let mut theirs = liar.all();
    siege.tell_in_vain(&theirs, |violation| violation.is_none());
    // It even says that it is the owner's.
    if let Some(proof) = &mut theirs.proof {
        proof.certificate = siege.owner.proof().certificate;
    }
    siege.tell_in_vain(&theirs, is_forged);

    // The liar's own claim is as good as any: younger.
    claim(&mut siege.world, 1, "other");
    siege.world.run(seconds(2));
    assert_eq!(owner_of(&siege.world, 0, "svc"), Some(name(2)));
    siege.world.check();
}

#[test]
fn who_met_a_later_run_takes_nothing_of_the_earlier_one() {
    let mut siege = Siege::begin(115);
    let all = siege.owner.all();
    let earlier = siege.owner.names(all);
    // It begins after the owner's restart, and meets the owner before anybody else.
    siege.world.boot(3, Session(1), &[]);
    let later = Identity {
        name: name(2),
        address: address(2),
        session: Session(2),
    };
    siege.world.act(3, |control, now, _| {
        control.handle_up(now, later);
        let told = control.handle_message(now, &name(1), ControlMessage::Names(earlier));
        assert_eq!(told, Ok(()), "node 1 has not met it yet");
    });
    let held = siege.world.node(3).control.directory().head(&name(2));
    assert_eq!((held.session, held.version), (Session(2), Version(0)));
}

#[test]
fn what_an_owner_signed_is_told_whole_and_as_it_is_or_not_at_all() {
    let mut siege = Siege::begin(102);
    for number in 0..5 {
        siege.owner.claim(endpoint(&format!("svc-{number}")));
    }
    siege.owner.directory.release(&endpoint("svc-3"));
    let known = siege.held();
    let honest = siege.owner.delta(&known);
    type Alter = fn(&mut OwnerDelta);
    let alterations: [Alter; 6] = [
        |delta| drop(delta.claims.remove(0)),
        |delta| drop(delta.claims.pop()),
        |delta| delta.claims[0].stamp.unix_ms -= 1,
        |delta| delta.claims[1].name = endpoint("svc-9"),
        |delta| delta.claims[0].state = ClaimState::Shared,
        |delta| delta.claims.last_mut().unwrap().state = ClaimState::Exclusive,
    ];
    for alter in alterations {
        // On top of what is held it may be the owner's fault: the whole is asked for.
        let mut altered = honest.clone();
        alter(&mut altered);
        siege.tell_in_vain(&altered, |violation| violation.is_none());
        // The whole is the teller's.
        let mut altered = siege.owner.all();
        alter(&mut altered);
        siege.tell_in_vain(&altered, is_forged);
    }
    let rumour = Rumour {
        deltas: vec![honest],
        ..Rumour::default()
    };
    assert_eq!(siege.tell(ControlMessage::Rumour(rumour)), None);
    assert_eq!(siege.held(), siege.owner.head());
    assert_eq!(owner_of(&siege.world, 0, "svc-1"), Some(name(2)));
    assert_eq!(owner_of(&siege.world, 0, "svc-3"), None);
}

#[test]
fn owners_that_are_made_up_take_no_room() {
    let mut siege = Siege::begin(103);
    let before = siege.world.node(0).control.directory().heads().count();
    for number in 0..100 {
        let mut nobody = Signer::new(name(1000 + number), Session(1));
        nobody.claim(endpoint("svc"));
        let delta = nobody.all();
        let mut names = nobody.names(delta);
        // Nobody certified it.
        nobody.seal = Box::new(Seal::new(name(1), 1));
        names.certificates = vec![nobody.certificate()];
        names.certificates[0].owner = name(1000 + number);
        let told = siege.tell(ControlMessage::Names(names));
        assert_eq!(told, None, "it may be certified elsewhere");
    }
    let directory = siege.world.node(0).control.directory();
    assert_eq!(directory.heads().count(), before);
    assert_eq!(owner_of(&siege.world, 0, "svc"), Some(name(2)));
}

/// A large set is told by a liar and by an honest node at once: each is judged by its own pieces.
#[test]
fn pieces_of_a_set_count_once_they_are_whole_and_liars_spoil_nobodys() {
    let mut siege = Siege::begin(104);
    siege.world.boot(3, Session(1), &[0]);
    siege.world.run(seconds(5));
    for number in 0..20 {
        siege.owner.claim(endpoint(&format!("svc-{number}")));
    }
    let whole = siege.owner.all();
    let piece = |from: usize, upto: usize, is_altered: bool| {
        let mut claims = whole.claims[from..upto].to_vec();
        claims[1].stamp.unix_ms -= u64::from(is_altered);
        let is_last = upto == whole.claims.len();
        let first = claims[0].version.0 - 1;
        OwnerDelta {
            after: Version(first),
            upto: claims.last().unwrap().version,
            claims,
            proof: whole.proof.clone().filter(|_| is_last),
            ..whole.clone()
        }
    };
    let tell = |siege: &mut Siege, from: usize, delta| {
        let mut names = siege.owner.names(delta);
        names.heads.push(siege.owner.head());
        siege.world.act(0, |control, now, _| {
            control.handle_message(now, &name(from), ControlMessage::Names(names))
        })
    };
    let known = siege.held();
    for (from, upto) in [(0, 7), (7, 14)] {
        assert_eq!(tell(&mut siege, 1, piece(from, upto, from == 7)), Ok(()));
        assert_eq!(tell(&mut siege, 3, piece(from, upto, false)), Ok(()));
        assert_eq!(siege.held(), known, "it is not whole");
        assert_eq!(owner_of(&siege.world, 0, "svc-1"), None);
    }
    let forged = tell(&mut siege, 1, piece(14, 21, false));
    assert!(is_forged(forged.err()));
    assert_eq!(siege.held(), known);
    assert_eq!(tell(&mut siege, 3, piece(14, 21, false)), Ok(()));
    assert_eq!(siege.held(), siege.owner.head());
    assert_eq!(owner_of(&siege.world, 0, "svc-19"), Some(name(2)));
}

#[test]
fn an_owner_of_two_histories_sets_nobody_against_another() {
    let mut siege = Siege::begin(105);
    // Node 0 hears one history, the others another.
    let mut other = Signer::new(name(2), Session(1));
    other
        .directory
        .claim(endpoint("svc"), ClaimMode::Exclusive, UNIX_TIME)
        .unwrap();
    siege.owner.claim(endpoint("mine"));
    other.claim(endpoint("yours"));
    let known = siege.held();
    for (told, message) in [(0, siege.owner.delta(&known)), (1, other.delta(&known))] {
        let rumour = Rumour {
            deltas: vec![message],
            ..Rumour::default()
        };
        let heard = siege.world.act(told, |control, now, _| {
            control.handle_message(now, &name(2), ControlMessage::Rumour(rumour))
        });
        assert_eq!(heard, Ok(()));
    }
    assert_eq!(owner_of(&siege.world, 0, "mine"), Some(name(2)));
    assert_eq!(owner_of(&siege.world, 1, "yours"), Some(name(2)));
    let known = other.head();
    other.claim(endpoint("next"));
    siege.world.crash(2);
    let rumour = Rumour {
        deltas: vec![other.delta(&known)],
        ..Rumour::default()
    };
    let heard = siege.world.act(1, |control, now, _| {
        control.handle_message(now, &name(2), ControlMessage::Rumour(rumour))
    });
    assert_eq!(heard, Ok(()));
    siege.world.run(seconds(2));
    for at in [0, 1] {
        assert_eq!(owner_of(&siege.world, at, "mine"), None, "{at}");
        assert_eq!(owner_of(&siege.world, at, "yours"), Some(name(2)), "{at}");
        assert_eq!(owner_of(&siege.world, at, "next"), Some(name(2)), "{at}");
    }
    assert_eq!(siege.world.violations, Some(Vec::new()));
}

#[test]
fn hearsay_of_a_later_run_voids_nothing_and_its_own_word_does() {
    let mut siege = Siege::begin(106);
    let of = |world: &World, index: usize| world.node(index).control.swim.identity().clone();
    let later = MemberIdentity {
        session: Session(2),
        ..of(&siege.world, 2)
    };
    let packet = SwimPacket {
        header: SwimHeader {
            source: of(&siege.world, 1),
            incarnation: 0,
            destination: of(&siege.world, 0),
            kind: SwimKind::Gossip,
        },
        updates: vec![MemberUpdate {
            identity: later,
            incarnation: 0,
            health: Health::Alive,
        }],
    };
    assert_eq!(siege.tell(ControlMessage::Swim(packet)), None);
    assert_eq!(owner_of(&siege.world, 0, "svc"), Some(name(2)));

    let later = Identity {
        session: Session(3),
        ..siege.world.node(2).control.identity()
    };
    siege
        .world
        .act(0, |control, now, _| control.handle_up(now, later));
    assert_eq!(owner_of(&siege.world, 0, "svc"), None);
}

/// Nobody believes that a node has begun anew until it says so itself; so it does, where it hears
/// of what it claimed before.
#[test]
fn a_node_that_comes_back_without_its_names_voids_them_everywhere() {
    let mut siege = Siege::begin(107);
    siege.world.boot(3, Session(1), &[0]);
    siege.world.run(seconds(5));
    siege.world.crash(2);
    // It comes back before anybody misses it, and meets one node alone.
    siege.world.boot(2, Session(2), &[0]);
    let is_void = |world: &World| {
        let others = [0, 1, 3];
        let hash = world.node(0).control.directory().hash();
        let mut at = others.iter();
        at.all(|&at| {
            owner_of(world, at, "svc").is_none()
                && world.node(at).control.directory().hash() == hash
        })
    };
    siege
        .world
        .run_until(seconds(10), "its names are void", is_void);
    siege.world.run(seconds(15));
    assert!(is_void(&siege.world));
    siege.world.check();
}

/// Who has not met the later run can be told of it by nobody else, as long as that signed nothing.
#[test]
fn a_node_that_comes_back_among_many_without_its_names_says_so_to_all() {
    let mut world = World::of(116, 60);
    world.violations = Some(Vec::new());
    world.run(seconds(10));
    world.act(2, |control, now, _| {
        let claimed = control.claim(now, UNIX_TIME, endpoint("svc"), ClaimMode::Exclusive);
        claimed.unwrap();
    });
    world.run(seconds(10));
    world.crash(2);
    world.boot(2, Session(2), &[0]);
    world.run(seconds(15));
    let indices = world.indices();
    let deceived = indices.into_iter();
    let deceived = deceived.filter(|&at| owner_of(&world, at, "svc").is_some());
    assert_eq!(deceived.collect::<Vec<_>>(), Vec::<usize>::new());
    world.check();
}

#[test]
fn news_of_ourselves_that_we_did_not_sign_is_none() {
    let mut siege = Siege::begin(108);
    let before = siege.world.node(2).control.identity();
    let head = OwnerHead {
        version: Version(7),
        ..siege.owner.head()
    };
    let mut forged = siege.owner.all();
    forged.upto = Version(7);
    let rumour = Rumour {
        deltas: vec![forged],
        heads: vec![head],
        ..Rumour::default()
    };
    let told = siege.world.act(2, |control, now, _| {
        control.handle_message(now, &name(1), ControlMessage::Rumour(rumour))
    });
    assert!(is_forged(told.err()));
    siege.world.run(seconds(5));
    assert_eq!(siege.world.node(2).control.identity(), before);
    assert_eq!(
        siege
            .world
            .node(2)
            .events
            .iter()
            .filter(is_conflict)
            .count(),
        0
    );
    assert_eq!(owner_of(&siege.world, 0, "svc"), Some(name(2)));
}

#[test]
fn names_outlive_the_key_that_they_were_signed_by() {
    let mut siege = Siege::begin(109);
    let renewed = Seal::new(name(2), 2);
    siege.world.act(2, |control, now, _| {
        control.replace_notary(now, Box::new(renewed));
    });
    siege.world.run(seconds(3));
    // Nobody trusts the first key any more.
    for at in [0, 1] {
        let mut seal = Seal::new(name(at), 2);
        seal.distrusted = Some(1);
        siege.world.act(at, |control, now, _| {
            control.replace_notary(now, Box::new(seal));
        });
    }
    claim(&mut siege.world, 2, "more");
    siege.world.run(seconds(3));
    for at in [0, 1] {
        assert_eq!(owner_of(&siege.world, at, "svc"), Some(name(2)));
        assert_eq!(owner_of(&siege.world, at, "more"), Some(name(2)));
    }
    // By the first key, nothing more is believed.
    siege.owner.directory.advance();
    siege.owner.directory.advance();
    siege.owner.directory.advance();
    siege.owner.directory.advance();
    siege.owner.directory.release(&endpoint("svc"));
    let stolen = siege.owner.all();
    siege.tell_in_vain(&stolen, |violation| violation.is_none());
    assert_eq!(siege.world.violations, Some(Vec::new()));
    siege.world.check();
}

#[test]
fn an_owner_that_changes_all_the_time_signs_about_once_a_second() {
    let mut world = World::of(110, 20);
    world.run(seconds(10));
    world.is_traced = true;
    let mut delays = Vec::new();
    for number in 0..200 {
        claim(&mut world, 2, &format!("svc-{number}"));
        let begun = world.now;
        world.run(Duration::from_millis(100));
        if number % 20 == 0 {
            let name = format!("svc-{number}");
            let is_known = |world: &World| owner_of(world, 7, &name).is_some();
            world.run_until(seconds(3), "one of many", is_known);
            delays.push(world.now - begun);
        }
    }
    let signatures = world.trace.iter().flat_map(|line| {
        let told = line.split("signature: ").skip(1);
        told.filter_map(|rest| rest.split(" }").next())
    });
    let signed = signatures.collect::<BTreeSet<_>>().len();
    // What is too large for a rumour is pulled, and signed for whoever pulls.
    eprintln!("signed {signed} times, known after {delays:?}");
    assert!(signed <= 60, "{signed}");
    world.check();
}

#[test]
fn who_does_not_sign_is_not_listened_to_by_those_who_verify() {
    let mut world = World::new(111);
    world.violations = Some(Vec::new());
    world.boot_all(2);
    world.membership.verify_claims = false;
    world.boot(2, Session(1), &[0]);
    world.run(seconds(5));
    claim(&mut world, 2, "svc");
    world.run(seconds(5));
    assert_eq!(owner_of(&world, 0, "svc"), None);
    let told = |(guilty, _, violation): &(usize, usize, Violation)| {
        *guilty == 2 && matches!(violation, Violation::UnsignedNames { .. })
    };
    assert!(world.violations.iter().flatten().any(told));
}

#[test]
fn those_who_trust_all_members_need_no_signatures() {
    let mut world = World::new(112);
    world.membership.verify_claims = false;
    world.boot_all(5);
    world.run(seconds(10));
    claim(&mut world, 2, "svc");
    world.run(seconds(2));
    for at in 0..5 {
        assert_eq!(owner_of(&world, at, "svc"), Some(name(2)));
    }
    world.check();
}

/// A message without a word of what is asked for goes back and forth no more than once.
#[test]
fn who_tells_without_ever_showing_the_certificate_is_asked_once() {
    let mut siege = Siege::begin(113);
    let mut stranger = Signer::new(name(7), Session(1));
    stranger.claim(endpoint("strange"));
    siege.world.sent.clear();
    for _ in 0..2 {
        let delta = stranger.all();
        let names = Names {
            certificates: Vec::new(),
            ..stranger.names(delta)
        };
        assert_eq!(siege.tell(ControlMessage::Names(names)), None);
    }
    assert_eq!(siege.world.sent.get("pull"), Some(&1));
    assert_eq!(owner_of(&siege.world, 0, "strange"), None);
}

fn owner_of(world: &World, at: usize, name: &str) -> Option<NodeName> {
    let directory = world.node(at).control.directory();
    directory.owner_of(&endpoint(name)).cloned()
}

fn is_forged(violation: Option<Violation>) -> bool {
    violation.is_some_and(|it| it.code() == crate::wire::code::Code::ForgedNames)
}

fn is_unsigned(violation: Option<Violation>) -> bool {
    matches!(violation, Some(Violation::UnsignedNames { .. }))
}

fn is_conflict((_, event): &&(Instant, ControlEvent)) -> bool {
    matches!(event, ControlEvent::IdentityConflict { .. })
}

const UNIX_TIME: Duration = Duration::from_secs(1_800_000_000);
