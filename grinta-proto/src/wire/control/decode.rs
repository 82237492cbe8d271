//! Control messages from their bytes.
//!
//! A message is taken apart field by field, and each entry of its lists is decoded and validated
//! before the next, into room for as many as there are. prost alone would first hold all entries
//! as they came, in vectors that double, and only then have them looked at: with entries of a few
//! bytes a peer would buy fifty times the memory that it pays for.

use std::ops::RangeInclusive;

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost::{DecodeError, Message};

use super::protobuf::{bounded, check_count, name, required, too_large};
use super::{
    BUCKETS_MAX, CLAIMS_MAX, ControlMessage, DATAGRAM_LEN_MAX, ENTRIES_MAX, LABELS_MAX,
    MemberIdentity, NameHeads, NamePull, Names, Rumour, SwimPacket, UPDATES_MAX,
};
use crate::name::Session;
use crate::wire::claims::{OwnerDelta, OwnerHead, Version};
use crate::wire::generated;
use crate::wire::malformed::{FieldFault, MalformedMessage, decode_protobuf, undecodable};

pub(super) fn control_message(bytes: &[u8]) -> Result<ControlMessage, MalformedMessage> {
    const MESSAGE: &str = "ControlMessage";
    let mut kind = None;
    for field in Fields(bytes) {
        let field = field.map_err(|error| undecodable(MESSAGE, &error))?;
        if KINDS.contains(&field.tag) && kind.replace(field).is_some() {
            return Err(FieldFault::TooMany { count: 2, limit: 1 }.at(MESSAGE, "kind"));
        }
    }
    let kind = kind.and_then(|field| Some((field.tag, field.body?)));
    let (tag, body) = kind.ok_or_else(|| FieldFault::Missing.at(MESSAGE, "kind"))?;
    Ok(match tag {
        1 => ControlMessage::Swim(swim_packet(body)?),
        2 => ControlMessage::Rumour(rumour(body)?),
        3 => ControlMessage::SyncRequest(labelled::<generated::SyncRequest, _>(
            "SyncRequest",
            body,
            &[1, 4, 3],
        )?),
        4 => ControlMessage::SyncReply(labelled::<generated::SyncReply, _>(
            "SyncReply",
            body,
            &[1, 4, 3],
        )?),
        5 => {
            rest::<generated::MemberList>("MemberList", body, &[&MEMBERS])?;
            ControlMessage::Members(MEMBERS.decode(body, |entry| {
                labelled::<generated::MemberRecord, _>("MemberRecord", entry, &[4, 3])
            })?)
        }
        6 => ControlMessage::NameHeads(name_heads(body)?),
        7 => {
            let pull: generated::NamePull = rest("NamePull", body, &[&PULL_HEADS])?;
            ControlMessage::NamePull(NamePull {
                heads: PULL_HEADS.decode(body, head)?,
                token: pull.token,
                certificates: pull.certificates,
            })
        }
        8 => ControlMessage::Names(names(body)?),
        9 => ControlMessage::Leave(identity(body)?),
        10 => ControlMessage::LeaveAcknowledged(identity(body)?),
        11 => ControlMessage::NameQuery(whole::<generated::NameQuery, _>("NameQuery", body)?),
        12 => ControlMessage::NameAnswer(whole::<generated::NameAnswer, _>("NameAnswer", body)?),
        13 => {
            ControlMessage::MemberDigest(whole::<generated::MemberDigest, _>("MemberDigest", body)?)
        }
        _ => {
            ControlMessage::MemberAnswer(whole::<generated::MemberAnswer, _>("MemberAnswer", body)?)
        }
    })
}

fn swim_packet(bytes: &[u8]) -> Result<SwimPacket, MalformedMessage> {
    const MESSAGE: &str = "SwimPacket";
    let length = bytes.len();
    if length > DATAGRAM_LEN_MAX {
        let limit = DATAGRAM_LEN_MAX;
        return Err(FieldFault::TooLong { length, limit }.at("ControlMessage", "swim"));
    }
    let packet: generated::SwimPacket = rest(MESSAGE, bytes, &[&UPDATES])?;
    Ok(SwimPacket {
        header: required(packet.header, MESSAGE, "header")?,
        updates: UPDATES.decode(bytes, |entry| {
            whole::<generated::MemberUpdate, _>("MemberUpdate", entry)
        })?,
    })
}

fn rumour(bytes: &[u8]) -> Result<Rumour, MalformedMessage> {
    let lists = &[&RUMOUR_DELTAS, &RUMOUR_HEADS, &RUMOUR_LABELS];
    rest::<generated::Rumour>("Rumour", bytes, lists)?;
    Ok(Rumour {
        deltas: RUMOUR_DELTAS.decode(bytes, delta)?,
        heads: RUMOUR_HEADS.decode(bytes, head)?,
        labels: RUMOUR_LABELS.decode(bytes, |entry| {
            labelled::<generated::LabelChange, _>("LabelChange", entry, &[2, 3])
        })?,
    })
}

fn name_heads(bytes: &[u8]) -> Result<NameHeads, MalformedMessage> {
    const MESSAGE: &str = "NameHeads";
    let heads: generated::NameHeads = rest(MESSAGE, bytes, &[&BUCKET_HEADS])?;
    let buckets = bounded(heads.buckets, BUCKETS_MAX, MESSAGE, "buckets")?;
    let limit = BUCKETS_MAX - 1;
    let bucket = |number: u32| match u16::try_from(number) {
        Ok(bucket) if usize::from(bucket) <= limit => Ok(bucket),
        Ok(_) | Err(_) => Err(too_large(number, limit as u64).at(MESSAGE, "buckets")),
    };
    Ok(NameHeads {
        buckets: buckets.into_iter().map(bucket).collect::<Result<_, _>>()?,
        heads: BUCKET_HEADS.decode(bytes, head)?,
        token: heads.token,
    })
}

fn names(bytes: &[u8]) -> Result<Names, MalformedMessage> {
    let names: generated::Names = rest("Names", bytes, &[&DELTAS, &HEADS, &CERTIFICATES])?;
    Ok(Names {
        deltas: DELTAS.decode(bytes, delta)?,
        heads: HEADS.decode(bytes, head)?,
        token: names.token,
        truncated: names.truncated,
        certificates: CERTIFICATES.decode(bytes, |entry| {
            whole::<generated::OwnerCertificate, _>("OwnerCertificate", entry)
        })?,
    })
}

fn delta(bytes: &[u8]) -> Result<OwnerDelta, MalformedMessage> {
    const MESSAGE: &str = "OwnerDelta";
    let delta: generated::OwnerDelta = rest(MESSAGE, bytes, &[&CLAIMS])?;
    if delta.session == 0 {
        return Err(FieldFault::Missing.at(MESSAGE, "session"));
    }
    Ok(OwnerDelta {
        owner: name(&delta.owner).map_err(|fault| fault.at(MESSAGE, "owner"))?,
        session: Session(delta.session),
        after: Version(delta.after),
        upto: Version(delta.upto),
        floor: Version(delta.floor),
        claims: CLAIMS.decode(bytes, |entry| whole::<generated::Claim, _>("Claim", entry))?,
        proof: delta
            .proof
            .map(|proof| proof.try_into().map(Box::new))
            .transpose()?,
    })
}

fn head(bytes: &[u8]) -> Result<OwnerHead, MalformedMessage> {
    whole::<generated::OwnerHead, _>("OwnerHead", bytes)
}

fn identity(bytes: &[u8]) -> Result<MemberIdentity, MalformedMessage> {
    whole::<generated::MemberIdentity, _>("MemberIdentity", bytes)
}

/// A message without lists of messages.
fn whole<P, T>(message: &'static str, bytes: &[u8]) -> Result<T, MalformedMessage>
where
    P: Message + Default,
    T: TryFrom<P, Error = MalformedMessage>,
{
    decode_protobuf::<P>(message, bytes)?.try_into()
}

/// A message with a map of labels at the end of a path of fields. They are counted first, for a
/// map takes far more room than what it is decoded from.
fn labelled<P, T>(message: &'static str, bytes: &[u8], path: &[u32]) -> Result<T, MalformedMessage>
where
    P: Message + Default,
    T: TryFrom<P, Error = MalformedMessage>,
{
    check_count(count(bytes, path), LABELS_MAX, "Labels", "entries")?;
    whole(message, bytes)
}

/// A message without its lists.
fn rest<P: Message + Default>(
    message: &'static str,
    bytes: &[u8],
    lists: &[&List],
) -> Result<P, MalformedMessage> {
    let undecodable = |error| undecodable(message, &error);
    let mut rest = P::default();
    for field in Fields(bytes) {
        let field = field.map_err(undecodable)?;
        let is_entry = field.body.is_some() && lists.iter().any(|list| list.tag == field.tag);
        if !is_entry {
            rest.merge(field.whole).map_err(undecodable)?;
        }
    }
    Ok(rest)
}

/// A repeated field of a message that holds messages itself.
struct List {
    message: &'static str,
    field: &'static str,
    tag: u32,
    limit: usize,
}

impl List {
    /// The entries that a message has of this list. Whether the message is one says [`rest`].
    fn decode<T>(
        &self,
        message: &[u8],
        decode: impl Fn(&[u8]) -> Result<T, MalformedMessage>,
    ) -> Result<Vec<T>, MalformedMessage> {
        let count = count(message, &[self.tag]);
        check_count(count, self.limit, self.message, self.field)?;
        let room = message.len() * ROOM_PER_BYTE / size_of::<T>();
        let mut entries = Vec::with_capacity(count.min(room));
        for entry in bodies(message, self.tag) {
            entries.push(decode(entry)?);
        }
        Ok(entries)
    }
}

/// The fields of a message, up to the first that is malformed.
struct Fields<'a>(&'a [u8]);

struct Field<'a> {
    tag: u32,
    /// What it holds, if that has a length.
    body: Option<&'a [u8]>,
    /// All of it, with its key.
    whole: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = split_field(&mut self.0);
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

fn split_field<'a>(bytes: &mut &'a [u8]) -> Result<Field<'a>, DecodeError> {
    let mut after = *bytes;
    let (tag, wire_type) = decode_key(&mut after)?;
    let mut value = after;
    skip_field(wire_type, tag, &mut after, DecodeContext::default())?;
    let (whole, _) = bytes.split_at(bytes.len() - after.len());
    let body = if wire_type == WireType::LengthDelimited {
        decode_varint(&mut value)?;
        Some(&value[..value.len() - after.len()])
    } else {
        None
    };
    *bytes = after;
    Ok(Field { tag, body, whole })
}

/// What the fields of one number hold.
fn bodies(message: &[u8], tag: u32) -> impl Iterator<Item = &[u8]> {
    let fields = Fields(message).filter_map(Result::ok);
    fields.filter_map(move |field| field.body.filter(|_| field.tag == tag))
}

/// How many fields there are at the end of a path of fields.
fn count(message: &[u8], path: &[u32]) -> usize {
    match path {
        [] => 1,
        [tag, path @ ..] => bodies(message, *tag).map(|body| count(body, path)).sum(),
    }
}

const fn list(message: &'static str, field: &'static str, tag: u32, limit: usize) -> List {
    List {
        message,
        field,
        tag,
        limit,
    }
}

/// How much room a list is given for each byte that arrived. The smallest entry that is valid for
/// its size, a head, takes 40 bytes and arrives in 5.
const ROOM_PER_BYTE: usize = 8;

/// The numbers of the fields of which a control message has one.
const KINDS: RangeInclusive<u32> = 1..=14;

const UPDATES: List = list("SwimPacket", "updates", 2, UPDATES_MAX);
const RUMOUR_DELTAS: List = list("Rumour", "deltas", 1, ENTRIES_MAX);
const RUMOUR_HEADS: List = list("Rumour", "heads", 2, ENTRIES_MAX);
const RUMOUR_LABELS: List = list("Rumour", "labels", 3, ENTRIES_MAX);
const MEMBERS: List = list("MemberList", "members", 1, ENTRIES_MAX);
const BUCKET_HEADS: List = list("NameHeads", "heads", 2, ENTRIES_MAX);
const PULL_HEADS: List = list("NamePull", "heads", 1, ENTRIES_MAX);
const DELTAS: List = list("Names", "deltas", 1, ENTRIES_MAX);
const HEADS: List = list("Names", "heads", 2, ENTRIES_MAX);
const CERTIFICATES: List = list("Names", "certificates", 5, ENTRIES_MAX);
const CLAIMS: List = list("OwnerDelta", "claims", 6, CLAIMS_MAX);
