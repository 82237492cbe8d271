//! Claims as they travel: what one node says of the names it holds.
//!
//! Every node keeps, for every owner, that owner's own versioned set of names. These are the
//! pieces in which such sets are told from node to node; `node::control::directory` merges them.

use bytes::Bytes;

use crate::name::{EndpointName, NodeName, Session};

/// A point in an owner's history. Each change of the owner's set takes the next one, from 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

/// When a name was claimed: a hybrid logical clock. The oldest stamp owns the name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// Milliseconds since the Unix epoch, never behind a stamp seen before.
    pub unix_ms: u64,
    /// Orders stamps of one millisecond.
    pub counter: u32,
}

/// Whether a claim says that its owner holds the name, alone or with others, or that it released
/// it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClaimState {
    /// The owner serves the name alone, or stands by for it.
    Exclusive,
    /// The owner serves the name beside all others that share it.
    Shared,
    /// The owner gave the name up.
    Released,
}

impl ClaimState {
    /// Whether the owner holds the name, alone or with others.
    #[must_use]
    pub const fn is_held(self) -> bool {
        match self {
            Self::Exclusive | Self::Shared => true,
            Self::Released => false,
        }
    }
}

/// One node's versioned statement that it holds, or released, a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claim {
    /// The name.
    pub name: EndpointName,
    /// The owner's version that this statement made.
    pub version: Version,
    /// When the owner claimed the name.
    pub stamp: Stamp,
    /// Held, alone or with others, or released.
    pub state: ClaimState,
}

/// How far a replica of one owner's set reaches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerHead {
    /// Whose set.
    pub owner: NodeName,
    /// Which run of the owner; a later one voids the earlier ones.
    pub session: Session,
    /// Every claim up to this version is held. It is less than the floor while the replica is
    /// being refilled.
    pub version: Version,
    /// Releases up to this version have been forgotten.
    pub floor: Version,
}

impl OwnerHead {
    /// The head of a replica that knows nothing of `owner`: asks for everything. No run of a node
    /// is session zero.
    #[must_use]
    pub fn unknown(owner: NodeName) -> Self {
        Self {
            owner,
            session: Session(0),
            version: Version(0),
            floor: Version(0),
        }
    }
}

/// A piece of one owner's history: its claims with versions in `(after, upto]`, in the order of
/// their versions, one per name (the latest).
///
/// Any prefix is a valid delta: cut behind a claim and set `upto` to that claim's version. It may
/// then end below the floor.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerDelta {
    /// Whose set.
    pub owner: NodeName,
    /// Which run of the owner.
    pub session: Session,
    /// The delta continues a replica that reaches to this version; zero starts from nothing.
    pub after: Version,
    /// A replica that applied the delta reaches to this version.
    pub upto: Version,
    /// The owner's floor, as far as the sender knows.
    pub floor: Version,
    /// The claims.
    pub claims: Vec<Claim>,
    /// The owner's signature, if it signed what a replica holds that applied the delta.
    pub proof: Option<Box<HeadProof>>,
}

/// The owner's signature of its head, and so of all that its set holds at that version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeadProof {
    /// A digest of the claims that the set holds.
    pub root: Root,
    /// Whose key signed.
    pub certificate: CertificateId,
    /// How, as TLS 1.3 numbers it.
    pub scheme: u16,
    /// The signature.
    pub signature: Bytes,
}

/// A digest of all claims of a set: SHA-256, as the contract has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Root(pub [u8; ROOT_LEN]);

/// Tells the certificates of one owner apart: the beginning of the SHA-256 of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CertificateId(pub u64);

/// The certificate by which an owner signs its set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerCertificate {
    /// Whose.
    pub owner: NodeName,
    /// In DER, one behind the other: the owner's own, then the intermediates.
    pub chain: Bytes,
}

/// Length of a [`Root`], in bytes.
pub const ROOT_LEN: usize = 32;

/// Longest chain, in bytes: one of RSA certificates takes 4 KiB.
pub const CHAIN_LEN_MAX: usize = 16 * 1024;

/// Longest signature, in bytes: one of RSA with 4,096 bits takes half of it.
pub const SIGNATURE_LEN_MAX: usize = 1024;
