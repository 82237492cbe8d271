//! Inputs to begin with: what honest nodes say, which bytes at random seldom are.

use arbitrary::Unstructured;
use bytes::BytesMut;
use grinta_proto::wire::control::ControlMessage;
use grinta_proto::wire::frame::{FrameDecoder, encode_length};
use grinta_proto::wire::stream::{Encoding, FlowAnswer, Hello, OpenFlow, Refusal, RefusalReason};
use grinta_proto::{CodecId, Direction, EndpointName, FabricName, NodeName, Session};
use grinta_tests::pki::{Ca, Validity};

use crate::{Target, speech};

/// The seeds of a target. They are the same in every run.
#[must_use]
pub fn seeds(target: &Target) -> Vec<Vec<u8>> {
    match target.name {
        "frame_bytes" => prefixed(3, &[stream()]),
        "framing_chunks" => vec![[&stream()[..], &[3, 1, 2, 0, 1]].concat()],
        "control_messages" => messages(),
        "name_rules" => [
            &b"svc.example-1"[..],
            &[b'a'; 128],
            &[b'a'; 129],
            b"a/b",
            "é".as_bytes(),
        ]
        .map(<[u8]>::to_vec)
        .into(),
        "certificate" => certificates(),
        "swim_packet" => packets(),
        _ => (1..=4).map(|seed| scramble(seed, 160)).collect(),
    }
}

fn messages() -> Vec<Vec<u8>> {
    let mut encoded = Vec::new();
    for seed in 0..40 {
        let bytes = scramble(seed, 300);
        let mut bytes = Unstructured::new(&bytes);
        if let Ok(message) = speech::message(&mut bytes) {
            let mut buffer = BytesMut::new();
            message.encode(&mut buffer);
            encoded.extend(prefixed(0, &[buffer.to_vec()]));
        }
    }
    let [hello, open, accepted, refused] = first_frames();
    encoded.extend(prefixed(1, &[hello]));
    encoded.extend(prefixed(2, &[open]));
    encoded.extend(prefixed(3, &[accepted, refused]));
    encoded.push(prefixed(4, &[scramble(1, 200)]).remove(0));
    encoded
}

/// Packets, and scripts of them.
fn packets() -> Vec<Vec<u8>> {
    let scripts: Vec<_> = (0..12).map(|seed| scramble(seed, 400)).collect();
    let packet = |script: &Vec<u8>| {
        let packet = speech::swim_packet(&mut Unstructured::new(script)).ok()?;
        let mut encoded = BytesMut::new();
        ControlMessage::Swim(packet).encode(&mut encoded);
        let mut decoder = FrameDecoder::new(usize::MAX);
        // Behind the key stand a length and the packet, as in a frame.
        decoder.push(encoded.freeze().slice(1..));
        Some(decoder.next_frame().ok()??.to_vec())
    };
    let mut packets = prefixed(0, &scripts.iter().filter_map(packet).collect::<Vec<_>>());
    packets.extend(prefixed(1, &scripts));
    packets
}

/// The messages that open streams, without their lengths.
fn first_frames() -> [Vec<u8>; 4] {
    let mut frames = [(); 4].map(|()| BytesMut::new());
    Hello {
        protocol: 1,
        fabric: FabricName::default(),
        node: NodeName::new("alice").expect("it is a name"),
        session: Session(speech::SESSION),
        address: "[2001:db8::1]:7000".parse().expect("it is an address"),
    }
    .encode(&mut frames[0]);
    OpenFlow {
        endpoint: EndpointName::new("service").expect("it is a name"),
        direction: Direction::Send,
        sends: Encoding::new(CodecId::from_static("json"), "type").ok(),
        receives: None,
        message_len_max: 1 << 20,
        timeout: Some(std::time::Duration::from_secs(2)),
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
    }
    .encode(&mut frames[1]);
    FlowAnswer::Accepted {
        message_len_max: 1 << 20,
    }
    .encode(&mut frames[2]);
    FlowAnswer::Refused(Refusal {
        reason: RefusalReason::Moved,
        code: Some(7),
        detail: "bob holds the name".to_owned(),
    })
    .encode(&mut frames[3]);
    // All are shorter than 128 bytes, so their lengths take one.
    frames.map(|frame| frame[1..].to_vec())
}

fn certificates() -> Vec<Vec<u8>> {
    let ca = Ca::new(1);
    let leaf = ca.issue("node", Validity::Good);
    let mut seeds: Vec<_> = [0, 3, 4]
        .into_iter()
        .flat_map(|place| prefixed(place, &[leaf.certificate().to_vec()]))
        .collect();
    seeds.extend(prefixed(2, &[ca.certificate().to_vec()]));
    seeds.extend(prefixed(1, &[leaf.pem().into_bytes()]));
    seeds.extend(prefixed(5, &[ca.revocation_list()]));
    seeds
}

/// Frames of some lengths.
fn stream() -> Vec<u8> {
    let mut stream = BytesMut::new();
    for len in [0, 1, 5, 130] {
        encode_length(len, &mut stream);
        stream.extend_from_slice(&scramble(len as u8, len));
    }
    stream.to_vec()
}

fn prefixed(first: u8, seeds: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let prefix = |seed: &Vec<u8>| [&[first], &seed[..]].concat();
    seeds.iter().map(prefix).collect()
}

/// Bytes that look like nothing in particular.
fn scramble(seed: u8, len: usize) -> Vec<u8> {
    let mut state = u32::from(seed) + 1;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}
