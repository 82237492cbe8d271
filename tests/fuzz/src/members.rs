//! Failure detection: any packet, and one node's control tier under any packets.

use std::collections::BTreeMap;
use std::mem::discriminant;
use std::time::{Duration, Instant};

use arbitrary::{Result, Unstructured};
use bytes::{BufMut, BytesMut};
use grinta_proto::node::control::{
    Channel, Control, ControlEvent, ControlOutput, Identity, Violation,
};
use grinta_proto::wire::control::{ControlMessage, DATAGRAM_LEN_MAX};
use grinta_proto::wire::frame::encode_length;
use grinta_proto::{Config, Member, MemberEvent, MemberState, NodeName, Session};

use crate::messages::assert_encodes_to_itself;
use crate::speech::{self, NODES, SESSION};
use crate::world::{ORIGIN, UNIX_TIME, address};

/// Any bytes, after one that says what of: a packet's, which decode to a packet that encodes to
/// itself or are refused; or a script, in which members send a node any packets and come and go.
/// The node refuses what its sender may not say without a trace, tells of its members in an order
/// that folds to their list, takes none of them back to an earlier run, and answers with little.
///
/// # Panics
/// If a law is broken.
pub fn swim_packet(data: &[u8]) {
    let Some((&what, bytes)) = data.split_first() else {
        return;
    };
    if what % 2 == 0 {
        let mut message = BytesMut::with_capacity(bytes.len() + 6);
        message.put_u8(SWIM_KEY);
        encode_length(bytes.len(), &mut message);
        message.extend_from_slice(bytes);
        assert_encodes_to_itself(&message);
        return;
    }
    let mut listener = Listener::new();
    let mut script = Unstructured::new(bytes);
    for _ in 0..STEPS_MAX {
        if script.is_empty() || listener.take(&mut script).is_err() {
            break;
        }
    }
    listener.run_for(REST);
}

/// The node that the packets are for, and what follows from what it told.
struct Listener {
    control: Control,
    now: Instant,
    turns: u32,
    told: BTreeMap<NodeName, Member>,
    /// Those of whom a later run was told, and not yet what it is.
    renewed: Vec<NodeName>,
}

impl Listener {
    fn new() -> Self {
        let name = name_of(0);
        let identity = Identity {
            name: name.clone(),
            address: address(0),
            session: Session(SESSION),
        };
        let config = Config::new(name).test();
        let now = *ORIGIN;
        let control = Control::new(&config, identity, [1; 32], now, UNIX_TIME);
        let mut listener = Self {
            control,
            now,
            turns: 0,
            told: BTreeMap::new(),
            renewed: Vec::new(),
        };
        for peer in [1, 2] {
            listener.control.handle_up(now, listener.peer(peer));
        }
        listener.drain();
        listener
    }

    /// Lets one thing happen.
    fn take(&mut self, script: &mut Unstructured<'_>) -> Result<()> {
        let peer = script.int_in_range(1..=3)?;
        match script.int_in_range(0..=9)? {
            0 => self.run_for(Duration::from_millis(script.arbitrary::<u8>()?.into())),
            1 => self.run_for(Duration::from_millis(script.arbitrary::<u16>()?.into())),
            2 => self.control.handle_up(self.now, self.peer(peer)),
            3 => self.control.handle_lost(self.now, &name_of(peer)),
            4 => self.hear(&name_of(peer), speech::message(script)?),
            _ => {
                let mut packet = speech::swim_packet(script)?;
                if script.ratio(7_u8, 8_u8)? {
                    packet.header.source.name = name_of(peer);
                }
                if script.ratio(3_u8, 4_u8)? {
                    let own = self.control.identity();
                    packet.header.destination.name = own.name;
                    packet.header.destination.address = own.address;
                    packet.header.destination.session = own.session;
                }
                self.hear(&name_of(peer), ControlMessage::Swim(packet));
            }
        }
        self.drain();
        Ok(())
    }

    fn hear(&mut self, from: &NodeName, message: ControlMessage) {
        let is_foreign =
            matches!(&message, ControlMessage::Swim(packet) if packet.header.source.name != *from);
        let before = self.state();
        let result = self.control.handle_message(self.now, from, message);
        assert!(!is_foreign || result.is_err(), "a foreign source passes");
        // Of names beyond a limit, those within it are kept.
        if result.is_err_and(|violation| !matches!(violation, Violation::TooManyNames { .. })) {
            assert!(!self.control.has_outputs(), "a refusal has consequences");
            assert_eq!(self.state(), before, "a refused message changes something");
        }
    }

    /// All of it that can be seen.
    fn state(&self) -> (Identity, Vec<Member>, Option<Instant>) {
        let members = self.control.members().collect();
        (
            self.control.identity(),
            members,
            self.control.poll_timeout(),
        )
    }

    fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(deadline) = self.control.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(deadline);
            self.turns += 1;
            assert!(self.turns < TURNS_MAX, "it never comes to rest");
            let unix_time = UNIX_TIME + (self.now - *ORIGIN);
            self.control.handle_timeout(self.now, unix_time);
            let next = self.control.poll_timeout();
            assert!(
                next.is_none_or(|next| next > self.now),
                "a timer is not taken down"
            );
            self.drain();
        }
        self.now = end;
    }

    /// Takes note of what it told, and looks at what it wants sent.
    fn drain(&mut self) {
        let mut outputs = 0;
        while let Some(output) = self.control.poll_output() {
            outputs += 1;
            match output {
                ControlOutput::Send {
                    to,
                    message,
                    channel,
                    ..
                } => {
                    assert_ne!(to, name_of(0), "it writes to itself: {message:?}");
                    let mut encoded = BytesMut::new();
                    message.encode(&mut encoded);
                    assert_eq!(ControlMessage::decode(&encoded), Ok(message));
                    if channel == Channel::Datagram {
                        assert!(encoded.len() <= DATAGRAM_LEN_MAX, "it fits no datagram");
                    }
                }
                ControlOutput::Event(ControlEvent::Member(event)) => self.follow(&event),
                ControlOutput::Event(_) | ControlOutput::Connect { .. } => {}
                other => unreachable!("nothing is known of {other:?}"),
            }
        }
        assert!(outputs <= OUTPUTS_MAX, "{outputs} things follow from one");
        let listed: Vec<_> = self.control.members().map(|member| gist(&member)).collect();
        let folded: Vec<_> = self.told.values().map(gist).collect();
        assert_eq!(folded, listed, "the events do not fold to the members");
    }

    fn follow(&mut self, event: &MemberEvent) {
        use MemberEvent as E;
        let (E::Up(member)
        | E::Suspected(member)
        | E::Refuted(member)
        | E::Updated(member)
        | E::Down(member)
        | E::Left(member)) = event
        else {
            unreachable!("nothing is known of {event:?}");
        };
        assert_ne!(member.name, name_of(0), "a node is no member of its own");
        let before = self.told.get(&member.name);
        let was = before.map(|before| before.state);
        let is_active = was.is_some_and(MemberState::is_active);
        let session = before.map(|before| before.session);
        assert!(session <= Some(member.session), "{event:?} goes back");
        let is_newer = session < Some(member.session);
        let is_renewed = is_newer || self.renewed.contains(&member.name);
        let is_in_order = match event {
            E::Up(_) => !is_active,
            E::Suspected(_) => was == Some(MemberState::Alive),
            E::Refuted(_) => was == Some(MemberState::Suspect),
            // One that left may have come back in the same run, unheard, and failed.
            E::Down(_) => is_active || is_renewed || matches!(was, Some(MemberState::Left { .. })),
            // One that was held down may turn out to have left on purpose.
            E::Left(_) => is_active || is_renewed || matches!(was, Some(MemberState::Down { .. })),
            E::Updated(_) => was.is_some(),
            other => unreachable!("nothing is known of {other:?}"),
        };
        assert!(is_in_order, "{event:?} after {was:?}");
        let mut member = member.clone();
        self.renewed.retain(|name| *name != member.name);
        if let (E::Updated(_), Some(was)) = (event, was) {
            if is_renewed {
                self.renewed.push(member.name.clone());
            }
            // What becomes of its state is told next, unless it came and went unheard.
            if discriminant(&was) != discriminant(&member.state) {
                member.state = was;
            }
        }
        self.told.insert(member.name.clone(), member);
    }

    fn peer(&self, index: usize) -> Identity {
        Identity {
            name: name_of(index),
            address: address(index),
            session: Session(SESSION),
        }
    }
}

/// What events have to agree with the list about.
fn gist(member: &Member) -> (NodeName, Session, MemberState) {
    (member.name.clone(), member.session, member.state)
}

fn name_of(index: usize) -> NodeName {
    NodeName::new(NODES[index]).expect("it is a name")
}

/// The key of a packet in a control message: field 1, a message.
const SWIM_KEY: u8 = 1 << 3 | 2;
const STEPS_MAX: usize = 64;
/// The cap on the timers of one input: its longest script takes 70 minutes.
const TURNS_MAX: u32 = 200_000;
/// What may follow from one message or one turn.
const OUTPUTS_MAX: usize = 200;
/// Longer than a suspicion of the test preset.
const REST: Duration = Duration::from_secs(30);
