//! What a certified attacker tells: frames that are none, and what a node says of nobody but itself.

use bytes::BytesMut;
use grinta_proto::wire::claims::{Claim, ClaimState, OwnerDelta, Stamp, Version};
use grinta_proto::wire::control::{
    ControlMessage, MemberIdentity, Names, Rumour, SwimHeader, SwimKind, SwimPacket,
};
use grinta_proto::wire::frame::encode_length;
use grinta_proto::{EndpointName, NodeName, Session};

use super::Attacker;
use crate::oracle::name_of;
use crate::plan::NodeId;

impl Attacker {
    /// A frame for which its sender is cut off.
    pub(super) fn nonsense(&self, turn: u64) -> Vec<u8> {
        let other = name_of(NodeId((self.target.0 + 1) % self.stage.plan.nodes));
        let message = match self.draw(turn, 1).below(5) {
            0 => {
                let length = self.draw(turn, 2).between(1, 200);
                let mut body = self.bytes(turn, length);
                // No message begins with this tag.
                body[0] = 0xff;
                return framed(&body);
            }
            // Longer than any frame may be.
            1 => {
                let mut frame = BytesMut::new();
                encode_length(1 << 30, &mut frame);
                return frame.to_vec();
            }
            2 => ControlMessage::Swim(self.packet_from(other)),
            3 => ControlMessage::Rumour(Rumour {
                deltas: vec![self.claims_of(turn, other)],
                ..Rumour::default()
            }),
            _ => ControlMessage::Names(Names {
                deltas: vec![self.claims_of(turn, other)],
                heads: Vec::new(),
                token: 0,
                truncated: false,
                certificates: Vec::new(),
            }),
        };
        let mut body = BytesMut::new();
        message.encode(&mut body);
        framed(&body)
    }

    fn packet_from(&self, source: NodeName) -> SwimPacket {
        let identity = |name: NodeName| MemberIdentity {
            name,
            address: self.address_of_target(),
            session: Session(1),
            bump: 0,
        };
        SwimPacket {
            header: SwimHeader {
                source: identity(source),
                incarnation: 1,
                destination: identity(name_of(self.target)),
                kind: SwimKind::Gossip,
            },
            updates: Vec::new(),
        }
    }

    /// Another node gives up one of its names, or holds one, as nobody but the attacker says.
    fn claims_of(&self, turn: u64, owner: NodeName) -> OwnerDelta {
        let version = Version(1 << 40);
        let name = format!("service-{}", self.draw(turn, 2).below(4));
        let is_released = self.draw(turn, 3).chance(500_000);
        let state = match is_released {
            true => ClaimState::Released,
            false => ClaimState::Exclusive,
        };
        let claim = Claim {
            name: EndpointName::new(name).expect("letters, a dash and a digit"),
            version,
            stamp: Stamp::default(),
            state,
        };
        OwnerDelta {
            owner,
            session: Session(u64::MAX),
            after: Version(0),
            upto: version,
            floor: Version(0),
            claims: vec![claim],
            proof: None,
        }
    }
}

fn framed(body: &[u8]) -> Vec<u8> {
    let mut frame = BytesMut::new();
    encode_length(body.len(), &mut frame);
    frame.extend_from_slice(body);
    frame.to_vec()
}
