//! What this node can prove: the owners' certificates, and their signatures of what is held of them.
//!
//! Besides, what was told of an owner and does not yet reach a version that the owner signed. It is
//! kept for each teller by itself, so that whoever lies is known and spoils nobody's truth.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ring::digest;

use super::directory::{Basis, CLAIM_OVERHEAD, DirectoryLimits, Update};
use super::notary::{Notary, Signature, statement};
use crate::name::{EndpointName, FabricName, NodeName};
use crate::whim::whim;
use crate::wire::claims::{
    CertificateId, HeadProof, OwnerCertificate, OwnerDelta, OwnerHead, Root, Version,
};

/// Certificates, signatures, and what waits for one.
#[derive(Debug)]
pub(super) struct Proofs {
    notary: Box<dyn Notary>,
    fabric: FabricName,
    local: NodeName,
    /// Our own certificate.
    own: Certificate,
    /// The certificates of others, the latest of each last.
    certificates: BTreeMap<NodeName, Vec<Certificate>>,
    heads: BTreeMap<NodeName, Proven>,
    /// Who was asked for whose certificate.
    asked: BTreeSet<(NodeName, NodeName)>,
    pieces: Pieces,
    reserve: Reserve,
    mistrust: Mistrust,
}

#[derive(Debug)]
struct Certificate {
    id: CertificateId,
    chain: Bytes,
    /// The wall clock when it was last found good.
    judged: Duration,
}

/// A head, and the owner's signature of it.
#[derive(Debug)]
struct Proven {
    head: OwnerHead,
    proof: Box<HeadProof>,
}

/// What becomes of a certificate that was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lookup {
    /// It is good.
    Good,
    /// It is not known.
    Unknown,
    /// It is known and no good now.
    Bad,
}

impl Proofs {
    pub(super) fn new(
        notary: Box<dyn Notary>,
        fabric: FabricName,
        local: NodeName,
        limits: &DirectoryLimits,
        now: Instant,
    ) -> Self {
        Self {
            own: Certificate::new(notary.chain(), Duration::ZERO),
            notary,
            fabric,
            local,
            certificates: BTreeMap::new(),
            heads: BTreeMap::new(),
            asked: BTreeSet::new(),
            pieces: Pieces::new(limits),
            reserve: Reserve {
                left: RESERVE_MAX,
                since: now,
            },
            mistrust: Mistrust {
                left: MISTRUST_MAX,
                since: now,
            },
        }
    }

    /// Signs and verifies by another notary from now on.
    pub(super) fn replace_notary(&mut self, notary: Box<dyn Notary>, unix_time: Duration) {
        self.own = Certificate::new(notary.chain(), unix_time);
        self.notary = notary;
        let notary = &self.notary;
        self.certificates.retain(|owner, certificates| {
            certificates.retain(|it| notary.is_certified(owner, &it.chain, unix_time));
            !certificates.is_empty()
        });
    }

    // Our own head.

    /// Whether our own head may be signed for the sake of a rumour: about once a second.
    pub(super) fn may_sign(&mut self, now: Instant) -> bool {
        !whim!(SignatureWaits) && self.reserve.take(now)
    }

    pub(super) fn sign(&mut self, head: OwnerHead, root: Root) {
        let statement = statement(&self.fabric, &head, root);
        if let Some(signature) = self.notary.sign(&statement) {
            let proof = HeadProof {
                root,
                certificate: self.own.id,
                scheme: signature.scheme,
                signature: signature.bytes,
            };
            self.note(head, Box::new(proof));
        }
    }

    // The heads of all.

    /// An owner's signature of exactly this head.
    pub(super) fn of(&self, head: &OwnerHead) -> Option<&HeadProof> {
        let proven = self.heads.get(&head.owner)?;
        (proven.head == *head).then_some(&*proven.proof)
    }

    /// A head is what is held now.
    pub(super) fn note(&mut self, head: OwnerHead, proof: Box<HeadProof>) {
        self.heads
            .insert(head.owner.clone(), Proven { head, proof });
    }

    pub(super) fn forget(&mut self, owner: &NodeName) {
        self.heads.remove(owner);
        self.certificates.remove(owner);
    }

    /// The connection to a peer ended.
    pub(super) fn forget_teller(&mut self, peer: &NodeName) {
        self.asked.retain(|(asked, _)| asked != peer);
        self.pieces.forget(peer);
    }

    /// Whether the owner of the certificate signed the head.
    pub(super) fn is_signed(&self, head: &OwnerHead, proof: &HeadProof) -> bool {
        let Some(certificate) = self.certificate(&head.owner, proof.certificate) else {
            return false;
        };
        let signature = Signature {
            scheme: proof.scheme,
            bytes: proof.signature.clone(),
        };
        let statement = statement(&self.fabric, head, proof.root);
        self.notary
            .is_signed(&certificate.chain, &statement, &signature)
    }

    // Certificates.

    /// The certificate by which an owner's signature is verified, to be told.
    pub(super) fn chain(&self, owner: &NodeName, id: CertificateId) -> Option<&Bytes> {
        self.certificate(owner, id).map(|it| &it.chain)
    }

    /// Whether a certificate is known, and good at `unix_time`.
    pub(super) fn look_up(
        &mut self,
        owner: &NodeName,
        id: CertificateId,
        unix_time: Duration,
    ) -> Lookup {
        if self.is_own(owner, id) {
            return Lookup::Good;
        }
        let known = self.certificates.get_mut(owner);
        let Some(known) = known.and_then(|known| known.iter_mut().find(|it| it.id == id)) else {
            return Lookup::Unknown;
        };
        let age = unix_time.saturating_sub(known.judged);
        if age > JUDGED_FOR {
            if !self.notary.is_certified(owner, &known.chain, unix_time) {
                return Lookup::Bad;
            }
            known.judged = unix_time;
        }
        Lookup::Good
    }

    /// Takes a certificate that was told, if it is good and not known yet. Returns whether it is good.
    pub(super) fn learn(
        &mut self,
        now: Instant,
        told: &OwnerCertificate,
        unix_time: Duration,
    ) -> bool {
        let certificate = Certificate::new(told.chain.clone(), unix_time);
        match self.look_up(&told.owner, certificate.id, unix_time) {
            Lookup::Good => return true,
            Lookup::Bad => return false,
            Lookup::Unknown => {}
        }
        if !self.mistrust.may_look(now) {
            return false;
        }
        if !self
            .notary
            .is_certified(&told.owner, &told.chain, unix_time)
        {
            tracing::debug!(target: "grinta::name", owner = %told.owner, "the certificate that was told of is no good here");
            self.mistrust.note();
            return false;
        }
        let known = self.certificates.entry(told.owner.clone()).or_default();
        if known.len() == CERTIFICATES_MAX {
            known.remove(0);
        }
        known.push(certificate);
        true
    }

    /// Notes that a peer is asked for an owner's certificate. False if it was before, in vain.
    pub(super) fn ask(&mut self, peer: &NodeName, owner: &NodeName) -> bool {
        let key = (peer.clone(), owner.clone());
        if self.asked.remove(&key) || self.asked.len() >= ASKED_MAX {
            return false;
        }
        self.asked.insert(key)
    }

    /// Whether a peer is being asked for an owner's certificate.
    pub(super) fn is_asked(&self, peer: &NodeName, owner: &NodeName) -> bool {
        self.asked.contains(&(peer.clone(), owner.clone()))
    }

    /// The certificate has come.
    pub(super) fn answered(&mut self, peer: &NodeName, owner: &NodeName) {
        self.asked.remove(&(peer.clone(), owner.clone()));
    }

    /// Of these names, those that an owner may not hold by a certificate, and why.
    pub(super) fn forbidden<'a>(
        &self,
        owner: &NodeName,
        id: CertificateId,
        mut names: impl Iterator<Item = &'a EndpointName>,
    ) -> BTreeMap<EndpointName, String> {
        let chain = self.chain(owner, id).map_or(&[][..], |chain| chain);
        self.notary.forbidden(owner, chain, &mut names)
    }

    /// Our own certificate.
    pub(super) const fn own(&self) -> CertificateId {
        self.own.id
    }

    /// By which certificate what is held of an owner is signed.
    pub(super) fn signer(&self, owner: &NodeName) -> Option<CertificateId> {
        self.heads.get(owner).map(|proven| proven.proof.certificate)
    }

    /// The owners of whom something is held.
    pub(super) fn owners(&self) -> impl Iterator<Item = &NodeName> {
        self.heads.keys()
    }

    // What does not reach a signed version yet.

    /// How far a peer has told an owner's set beyond what is held.
    pub(super) fn pieces(&self, peer: &NodeName, owner: &NodeName) -> Option<OwnerHead> {
        self.pieces.get(peer, owner).map(reach)
    }

    pub(super) fn take_pieces(&mut self, peer: &NodeName, owner: &NodeName) -> Option<Update> {
        self.pieces.take(peer, owner)
    }

    pub(super) fn keep_pieces(&mut self, peer: &NodeName, update: Update) {
        self.pieces.keep(peer, update);
    }

    fn certificate(&self, owner: &NodeName, id: CertificateId) -> Option<&Certificate> {
        if self.is_own(owner, id) {
            return Some(&self.own);
        }
        let known = self.certificates.get(owner)?;
        known.iter().find(|certificate| certificate.id == id)
    }

    fn is_own(&self, owner: &NodeName, id: CertificateId) -> bool {
        *owner == self.local && id == self.own.id
    }
}

impl Certificate {
    fn new(chain: Bytes, judged: Duration) -> Self {
        Self {
            id: id_of(&chain),
            chain,
            judged,
        }
    }
}

/// Tells a chain from others.
pub(super) fn id_of(chain: &[u8]) -> CertificateId {
    let digest = digest::digest(&digest::SHA256, chain);
    let mut id = [0; 8];
    id.copy_from_slice(&digest.as_ref()[..8]);
    CertificateId(u64::from_be_bytes(id))
}

/// How far an update leads.
pub(super) fn reach(update: &Update) -> OwnerHead {
    OwnerHead {
        owner: update.owner.clone(),
        session: update.session,
        version: update.version,
        floor: update.floor,
    }
}

/// Begins an update with a delta.
pub(super) fn begun(basis: Basis, delta: &OwnerDelta) -> Update {
    Update {
        owner: delta.owner.clone(),
        session: delta.session,
        basis,
        version: delta.upto,
        floor: delta.floor,
        claims: delta.claims.clone(),
    }
}

/// Goes on with an update. False if the delta does not join.
pub(super) fn extend(update: &mut Update, delta: &OwnerDelta) -> bool {
    let joins = update.session == delta.session
        && delta.after > Version(0)
        && delta.after <= update.version
        && delta.floor <= update.version.max(update.floor);
    if joins {
        let reached = update.version;
        let news = delta.claims.iter().filter(|claim| claim.version > reached);
        update.claims.extend(news.cloned());
        update.version = update.version.max(delta.upto);
        update.floor = update.floor.max(delta.floor);
    }
    joins
}

/// Leaves the latest claim of each name.
pub(super) fn settle(update: &mut Update) {
    let claims = update.claims.iter().rev();
    let mut latest = BTreeMap::new();
    for claim in claims {
        latest.entry(claim.name.clone()).or_insert(claim.version);
    }
    if latest.len() < update.claims.len() {
        update
            .claims
            .retain(|claim| latest.get(&claim.name) == Some(&claim.version));
    }
}

/// Updates by who told them.
#[derive(Debug)]
struct Pieces {
    /// With the number of the one that began it.
    updates: BTreeMap<(NodeName, NodeName), (u64, Update)>,
    begun: u64,
    bytes: usize,
    bytes_max: usize,
}

impl Pieces {
    fn new(limits: &DirectoryLimits) -> Self {
        let names = limits.names_per_owner_max.saturating_mul(CLAIM_OVERHEAD);
        let one = names.saturating_add(limits.name_bytes_per_owner_max);
        Self {
            updates: BTreeMap::new(),
            begun: 0,
            bytes: 0,
            bytes_max: one.saturating_mul(SETS_KEPT),
        }
    }

    fn get(&self, peer: &NodeName, owner: &NodeName) -> Option<&Update> {
        let (_, update) = self.updates.get(&(peer.clone(), owner.clone()))?;
        Some(update)
    }

    fn take(&mut self, peer: &NodeName, owner: &NodeName) -> Option<Update> {
        let (_, update) = self.updates.remove(&(peer.clone(), owner.clone()))?;
        self.bytes -= weight(&update);
        Some(update)
    }

    /// Keeps an update; those that began first give way.
    fn keep(&mut self, peer: &NodeName, update: Update) {
        self.begun += 1;
        self.bytes += weight(&update);
        let key = (peer.clone(), update.owner.clone());
        self.updates.insert(key, (self.begun, update));
        while self.bytes > self.bytes_max {
            let oldest = self.updates.iter().min_by_key(|(_, (begun, _))| *begun);
            let Some((peer, owner)) = oldest.map(|(key, _)| key.clone()) else {
                return;
            };
            self.take(&peer, &owner);
        }
    }

    fn forget(&mut self, peer: &NodeName) {
        let theirs = self.updates.keys().filter(|(teller, _)| teller == peer);
        for (teller, owner) in theirs.cloned().collect::<Vec<_>>() {
            self.take(&teller, &owner);
        }
    }
}

/// About what an update takes, in bytes.
fn weight(update: &Update) -> usize {
    let claims = update.claims.iter();
    let claims = claims.map(|claim| claim.name.as_str().len() + CLAIM_OVERHEAD);
    update.owner.as_str().len() + CLAIM_OVERHEAD + claims.sum::<usize>()
}

/// How many signatures may be made at once.
#[derive(Debug)]
struct Reserve {
    left: u32,
    since: Instant,
}

impl Reserve {
    fn take(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.since).as_secs();
        self.left = RESERVE_MAX.min(
            self.left
                .saturating_add(elapsed.try_into().unwrap_or(RESERVE_MAX)),
        );
        self.since += Duration::from_secs(elapsed);
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

/// How many more certificates may turn out to be no good within a second.
#[derive(Debug)]
struct Mistrust {
    left: u32,
    since: Instant,
}

impl Mistrust {
    fn may_look(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.since) >= Duration::from_secs(1) {
            (self.left, self.since) = (MISTRUST_MAX, now);
        }
        self.left > 0
    }

    fn note(&mut self) {
        self.left -= 1;
    }
}

/// Signatures for the sake of rumours that are saved up while nothing changes. They are used one a
/// second then, so that what others have to verify is bounded; what is pulled is signed as it is.
const RESERVE_MAX: u32 = 10;

/// Certificates of others that are looked at in vain within a second: a fifth of a second's work
/// costs whoever sends them a connection with as many others.
const MISTRUST_MAX: u32 = 500;

/// Certificates of one owner: the one that it has and the one before.
const CERTIFICATES_MAX: usize = 2;

/// How long a certificate that was good is taken to be. It may expire meanwhile.
const JUDGED_FOR: Duration = Duration::from_secs(3600);

/// Certificates asked for at a time.
const ASKED_MAX: usize = 4096;

/// Sets of the largest size that wait to be whole.
const SETS_KEPT: usize = 4;
