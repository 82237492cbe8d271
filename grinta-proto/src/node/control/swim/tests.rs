//! foca behind typed packets, alone.

use std::net::SocketAddr;

use rand::SeedableRng;

use super::*;
use crate::name::{NAME_LEN_MAX, NodeName, Session};
use crate::wire::control::{ControlMessage, Health, SwimHeader, UPDATES_MAX};

#[test]
fn timers_rank_as_foca_orders_them() {
    let one = SwimIdentity::new(identity("a", 1, 0));
    let timers = [
        Timer::SendIndirectProbe {
            probed_id: one.clone(),
            token: 0,
        },
        Timer::ProbeRandomMember(0),
        Timer::ChangeSuspectToDown {
            member_id: one.clone(),
            incarnation: 0,
            token: 0,
        },
        Timer::PeriodicAnnounce(0),
        Timer::PeriodicGossip(0),
        Timer::RemoveDown(one),
        Timer::PeriodicAnnounceDown(0),
    ];
    for a in &timers {
        for b in &timers {
            assert_eq!(rank(a).cmp(&rank(b)), a.cmp(b), "{a:?} {b:?}");
        }
    }
}

#[test]
fn of_two_identities_the_later_wins() {
    let later = [
        identity("a", 1, 0),
        identity("a", 1, 1),
        identity("a", 2, 0),
    ];
    for pair in later.windows(2) {
        let [earlier, later] = pair else {
            unreachable!()
        };
        let (earlier, later) = (
            SwimIdentity::new(earlier.clone()),
            SwimIdentity::new(later.clone()),
        );
        assert!(later.win_addr_conflict(&earlier) && !earlier.win_addr_conflict(&later));
    }
    let first = SwimIdentity::new(later[0].clone());
    assert_eq!(first.renew().unwrap().0, later[1]);
    let last = SwimIdentity::new(MemberIdentity {
        bump: u32::MAX,
        ..later[0].clone()
    });
    assert_eq!(last.renew(), None);
}

#[test]
fn the_fullest_packet_of_the_longest_names_fits_a_datagram() {
    let long = |n: usize| identity(&format!("{n:0NAME_LEN_MAX$}"), u64::MAX, u32::MAX);
    let mut swim = Swim::new(
        long(0),
        &MembershipConfig::default(),
        StdRng::seed_from_u64(1),
    );
    let updates: Vec<_> = (1..40)
        .map(|n| MemberUpdate {
            identity: long(n),
            incarnation: u16::MAX,
            health: Health::Suspect,
        })
        .collect();
    let outcome = swim.apply(&updates);
    assert_eq!(outcome.changes, updates);
    let gossip = outcome.timers.into_iter().map(|(_, timer)| timer);
    let gossip = gossip.filter(|timer| matches!(timer, Timer::PeriodicGossip(_)));
    let packets: Vec<_> = gossip
        .flat_map(|timer| swim.handle_timer(timer).packets)
        .collect();
    assert_eq!(packets.len(), MembershipConfig::default().gossip_fanout);
    for packet in packets {
        assert!(packet.updates.len() >= 3, "{}", packet.updates.len());
        let length = ControlMessage::Swim(packet).encoded_len();
        assert!((900..=DATAGRAM_LEN_MAX).contains(&length), "{length}");
    }
}

#[test]
fn a_packet_to_an_earlier_identity_is_answered_by_the_present_one() {
    let mut swim = Swim::new(
        identity("b", 1, 4),
        &MembershipConfig::default(),
        StdRng::seed_from_u64(1),
    );
    let header = |kind| SwimHeader {
        source: identity("a", 1, 0),
        incarnation: 0,
        destination: identity("b", 1, 2),
        kind,
    };
    let ping = SwimPacket {
        header: header(SwimKind::Ping(7)),
        updates: Vec::new(),
    };
    let outcome = swim.handle_packet(&ping);
    assert_eq!(outcome.packets.len(), 1);
    assert_eq!(outcome.packets[0].header.source, identity("b", 1, 4));
    assert_eq!(outcome.packets[0].header.kind, SwimKind::Ack(7));
    // So is a full one, though the present identity takes more bytes.
    let update = |n| MemberUpdate {
        identity: identity(&format!("m{n:02}"), 1, 0),
        incarnation: 0,
        health: Health::Alive,
    };
    let mut full = ping.clone();
    full.header.destination.bump = 0;
    let length = |packet: &SwimPacket| ControlMessage::Swim(packet.clone()).encoded_len();
    full.updates = (0..UPDATES_MAX).map(update).collect();
    while length(&full) > DATAGRAM_LEN_MAX - 2 {
        full.updates.pop();
    }
    full.header.source.name =
        NodeName::new("a".repeat(DATAGRAM_LEN_MAX - 1 - length(&full))).unwrap();
    assert_eq!(swim.handle_packet(&full).packets.len(), 1);
    // That the earlier one is held down is no news.
    let undead = SwimPacket {
        header: header(SwimKind::TurnUndead),
        updates: Vec::new(),
    };
    swim.handle_packet(&undead);
    assert_eq!(swim.identity().bump, 4);
}

#[test]
fn patience_and_repetition_follow_the_size() {
    let config = MembershipConfig::default();
    assert_eq!(suspicion(&config, 1), Duration::from_secs(4));
    assert_eq!(suspicion(&config, 10), Duration::from_secs(4));
    assert_eq!(suspicion(&config, 100), Duration::from_secs(8));
    assert_eq!(suspicion(&config, 1000), Duration::from_secs(12));
    let digits = [1, 9, 10, 99, 100, 999, 1000].map(magnitude);
    assert_eq!(digits, [1, 1, 2, 2, 3, 3, 4]);
}

fn identity(name: &str, session: u64, bump: u32) -> MemberIdentity {
    MemberIdentity {
        name: NodeName::new(name).unwrap(),
        address: SocketAddr::from(([127, 0, 0, 1], 4600)),
        session: Session(session),
        bump,
    }
}
