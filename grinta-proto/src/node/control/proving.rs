//! What is told of an owner moves this node's replica only as the owner signed it; and what this node
//! tells, it tells with the owner's signature.
//!
//! A replica is always at a version that its owner signed. What leads to a later one is put together
//! aside, looked at as a whole, and taken as a whole or not at all. So whoever tells on can withhold,
//! but neither alter nor add nor leave out; and what is no part of a signed set yet is nowhere.
//!
//! Where something does not add up, two may be guilty. Whoever tells a whole set that is not the one
//! that the owner signed, or a signature that is none, has lied: a node tells on what it verified
//! itself. But a change that does not fit what is held may come of an owner that signed two
//! histories: the whole set is asked for. And a certificate that is no good here may be good there,
//! while CAs change: nobody's fault.

use std::time::{Duration, Instant};

use super::directory::{Applied, Basis, NameLimit, Refusal, Update, is_well_formed};
use super::notary::Notary;
use super::proofs::{Lookup, Proofs, begun, extend, reach, settle};
use super::{ClaimError, Control, Violation};
use crate::name::{EndpointName, NodeName};
use crate::node::Identity;
use crate::wire::claims::{HeadProof, OwnerCertificate, OwnerDelta, OwnerHead, Version};

/// Who tells of owners, and what besides deltas.
#[derive(Debug, Clone, Copy)]
pub(super) struct Teller<'a> {
    pub(super) from: &'a NodeName,
    /// Heads in the same message.
    pub(super) heads: &'a [OwnerHead],
    pub(super) certificates: &'a [OwnerCertificate],
}

/// What came of a delta.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Taken {
    /// It told nothing new.
    Nothing,
    /// The replica reaches further. Worth telling others.
    Advanced,
    /// It leads further, to where nothing is signed: it is kept, and what follows is to be asked for.
    Kept {
        /// How far it leads.
        known: OwnerHead,
    },
    /// It cannot be used. What follows this is to be asked for.
    Gap {
        /// How far there is something to go on from.
        known: OwnerHead,
    },
    /// A limit would be exceeded.
    Full {
        /// The limit.
        limit: NameLimit,
    },
    /// It is not to be asked for again now.
    Refused,
    /// The teller may not say so.
    Unsaid(Unsaid),
}

/// What nobody may tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsaid {
    /// The owner's signature is missing.
    Unsigned,
    /// It is not what the owner signed.
    Forged,
}

impl Control {
    /// Has names be signed by their owners from now on, unless the configuration has it otherwise.
    /// Without a notary whatever members tell of names is believed.
    #[must_use]
    pub fn with_notary(mut self, notary: Box<dyn Notary>) -> Self {
        if self.config.verify_claims {
            let (now, _) = self.wall;
            let local = self.directory.local().clone();
            let limits = self.directory.limits();
            let proofs = Proofs::new(notary, self.fabric.clone(), local, limits, now);
            self.proofs = Some(proofs);
            self.directory.require_proofs();
        }
        self
    }

    /// Signs by other credentials, and judges others by them. What is signed is signed anew.
    pub fn replace_notary(&mut self, now: Instant, notary: Box<dyn Notary>) {
        let unix_time = self.unix_time(now);
        let Some(proofs) = &mut self.proofs else {
            return;
        };
        proofs.replace_notary(notary, unix_time);
        let owners: Vec<_> = proofs.owners().cloned().collect();
        for owner in owners {
            self.judge_names(&owner);
        }
        self.warn_of_forbidden();
        let since = self.directory.version();
        if since > Version(0) {
            self.directory.advance();
            self.tell_own_claims(now, since);
        }
    }
}

impl Control {
    /// Merges a delta.
    pub(super) fn take(&mut self, now: Instant, teller: Teller<'_>, delta: &OwnerDelta) -> Taken {
        if self.proofs.is_none() {
            let applied = self.directory.apply(delta);
            if let Applied::Refused(Refusal::Disowned { session }) = applied {
                self.hear_disowned(now, session);
            }
            return applied.into();
        }
        let head = told(delta);
        if delta.owner == *self.directory.local() {
            return self.take_of_ourselves(now, teller, delta, &head);
        }
        if !self.directory.lacks(&head) {
            if let Some(proofs) = &mut self.proofs {
                proofs.take_pieces(teller.from, &delta.owner);
            }
            return self.directory.apply(delta).into();
        }
        if !is_well_formed(delta) {
            return Taken::Refused;
        }
        self.take_news(now, teller, delta, &head)
    }

    /// Whether to ask for what a head tells, by itself.
    pub(super) fn lacks(&mut self, now: Instant, head: &OwnerHead) -> bool {
        if !self.directory.disowns(head) {
            return self.directory.lacks(head);
        }
        if self.proofs.is_none() {
            self.hear_disowned(now, head.session);
        }
        self.proofs.is_some()
    }

    /// From where on a peer is to be asked for what a head tells.
    pub(super) fn reached(&self, from: &NodeName, head: &OwnerHead) -> OwnerHead {
        if self.proofs.is_some() && head.owner == *self.directory.local() {
            // What we shall have said last is enough to see whether we did.
            return OwnerHead {
                version: Version(head.version.0.saturating_sub(1)),
                ..head.clone()
            };
        }
        let proofs = self.proofs.as_ref();
        let pieces = proofs.and_then(|proofs| proofs.pieces(from, &head.owner));
        pieces.unwrap_or_else(|| self.directory.head(&head.owner))
    }

    /// Whether a peer that is asked for what these heads lack is asked for certificates, too.
    pub(super) fn lacks_certificates(&self, from: &NodeName, heads: &[OwnerHead]) -> bool {
        self.proofs.as_ref().is_some_and(|proofs| {
            let mut owners = heads.iter().map(|head| &head.owner);
            owners.any(|owner| proofs.is_asked(from, owner))
        })
    }

    /// Puts the owner's signature to a delta that reaches to where the replica is. `None` if there is
    /// none, and the delta is not to be told.
    pub(super) fn proven(&self, mut delta: OwnerDelta) -> Option<OwnerDelta> {
        let Some(proofs) = &self.proofs else {
            return Some(delta);
        };
        let head = self.directory.head(&delta.owner);
        if delta.upto == head.version {
            delta.proof = Some(Box::new(proofs.of(&head)?.clone()));
        }
        Some(delta)
    }

    /// The certificate that verifies the signature of a replica's head.
    pub(in crate::node) fn certificate(&self, owner: &NodeName) -> Option<OwnerCertificate> {
        let proofs = self.proofs.as_ref()?;
        let proof = proofs.of(&self.directory.head(owner))?;
        Some(OwnerCertificate {
            owner: owner.clone(),
            chain: proofs.chain(owner, proof.certificate)?.clone(),
        })
    }

    /// Signs our own head, unless it is as it was signed.
    pub(super) fn sign(&mut self) {
        let Some(proofs) = &mut self.proofs else {
            return;
        };
        let head = self.directory.head(self.directory.local());
        if head.version > Version(0) && proofs.of(&head).is_none() {
            proofs.sign(head, self.directory.local_root());
        }
    }

    /// As `sign`, for a rumour.
    pub(super) fn sign_rumour(&mut self, now: Instant) {
        let local = self.directory.local();
        let head = self.directory.head(local);
        let is_told = self.rumours.since(local).is_some();
        let proofs = self.proofs.as_mut();
        if proofs.is_some_and(|it| is_told && it.of(&head).is_none() && it.may_sign(now)) {
            self.sign();
        }
    }

    /// A peer itself shows in which run it is. What is held of an earlier one is void, and others who
    /// hold it may not meet the peer for long: it is asked to say so to all.
    pub(super) fn begin_run(&mut self, peer: &Identity) {
        if self.proofs.is_none() {
            return;
        }
        let held = self.directory.head(&peer.name);
        self.directory.begin(&peer.name, peer.session);
        if held.session < peer.session && held.version.max(held.floor) > Version(0) {
            self.pull(&peer.name, vec![held], 0);
        }
    }

    /// Somebody holds what an earlier run of ours claimed. Unless this one has said something, it
    /// does now, for what an owner signs voids what it said in earlier runs.
    pub(super) fn answer_earlier_run(&mut self, theirs: &OwnerHead) {
        let is_earlier = theirs.session < self.swim.identity().session;
        let is_something = theirs.version.max(theirs.floor) > Version(0);
        let is_silent = self.directory.version() == Version(0);
        if self.proofs.is_some() && is_earlier && is_something && is_silent {
            self.directory.advance();
            let local = self.directory.local().clone();
            self.rumours
                .tell_owner(local, Version(0), self.swim.tellings());
        }
    }

    /// The wall clock.
    pub(super) fn unix_time(&self, now: Instant) -> Duration {
        let (last, unix_time) = self.wall;
        unix_time + now.saturating_duration_since(last)
    }

    fn take_news(
        &mut self,
        now: Instant,
        teller: Teller<'_>,
        delta: &OwnerDelta,
        head: &OwnerHead,
    ) -> Taken {
        let unix_time = self.unix_time(now);
        let Some(proofs) = &mut self.proofs else {
            return Taken::Refused;
        };
        for told in teller.certificates {
            if told.owner == delta.owner && !proofs.learn(now, told, unix_time) {
                proofs.answered(teller.from, &delta.owner);
                return Taken::Refused;
            }
        }
        let held = self.directory.head(&delta.owner);
        let pieces = proofs.take_pieces(teller.from, &delta.owner);
        let pieces = pieces.and_then(|mut it| extend(&mut it, delta).then_some(it));
        let joins = held.session == delta.session
            && delta.after <= held.version
            && delta.floor <= held.version.max(held.floor);
        let mut update = match pieces {
            Some(update) => update,
            None if delta.after == Version(0) => begun(Basis::Nothing, delta),
            None if joins => begun(Basis::Held, delta),
            None => return Taken::Gap { known: held },
        };
        let Some(proof) = &delta.proof else {
            let is_more = |it: &OwnerHead| {
                it.owner == head.owner && it.session == head.session && it.version > head.version
            };
            if !teller.heads.iter().any(is_more) {
                return Taken::Unsaid(Unsaid::Unsigned);
            }
            let known = reach(&update);
            proofs.keep_pieces(teller.from, update);
            return Taken::Kept { known };
        };
        match proofs.look_up(&delta.owner, proof.certificate, unix_time) {
            Lookup::Good => proofs.answered(teller.from, &delta.owner),
            Lookup::Bad => return Taken::Refused,
            Lookup::Unknown if proofs.ask(teller.from, &delta.owner) => {
                return Taken::Gap { known: held };
            }
            Lookup::Unknown => return Taken::Refused,
        }
        if reach(&update) != *head {
            return Taken::Gap { known: held };
        }
        if !proofs.is_signed(head, proof) {
            return Taken::Unsaid(Unsaid::Forged);
        }
        settle(&mut update);
        self.go(&update, proof)
    }

    /// Goes where an update leads, if that is what its owner signed.
    fn go(&mut self, update: &Update, proof: &HeadProof) -> Taken {
        let Ok(preview) = self.directory.preview(update) else {
            return Taken::Refused;
        };
        if preview.root != proof.root {
            return match update.basis {
                Basis::Nothing => Taken::Unsaid(Unsaid::Forged),
                Basis::Held => Taken::Gap {
                    known: OwnerHead {
                        version: Version(0),
                        floor: Version(0),
                        ..self.directory.head(&update.owner)
                    },
                },
            };
        }
        if let Some(limit) = preview.excess {
            return Taken::Full { limit };
        }
        let Some(proofs) = &mut self.proofs else {
            return Taken::Refused;
        };
        let (owner, certificate) = (&update.owner, proof.certificate);
        let names = update.claims.iter().map(|claim| &claim.name);
        let forbidden = proofs.forbidden(owner, certificate, names);
        if !forbidden.is_empty() {
            tracing::warn!(target: "grinta::name", %owner, ?forbidden, "claims that its certificate may not make count for nothing");
        }
        let before = proofs.signer(owner);
        proofs.note(reach(update), Box::new(proof.clone()));
        self.directory
            .commit(update, &forbidden.into_keys().collect());
        if before.is_some_and(|before| before != certificate) {
            self.judge_names(owner);
        }
        Taken::Advanced
    }

    /// Judges anew which names an owner may hold.
    fn judge_names(&mut self, owner: &NodeName) {
        let Some(proofs) = &self.proofs else {
            return;
        };
        if let Some(certificate) = proofs.signer(owner) {
            let held = self.directory.held_by(owner);
            let forbidden = proofs.forbidden(owner, certificate, held);
            self.directory
                .forbid(owner, &forbidden.into_keys().collect());
        }
    }

    /// Says which of our own names our certificate may not hold: others take us for their owner no
    /// more.
    fn warn_of_forbidden(&self) {
        for error in self.forbidden_to_us(self.directory.held()) {
            tracing::warn!(target: "grinta::name", %error, "the name counts at this node alone");
        }
    }

    /// Whether our own certificate may hold a name.
    pub(super) fn may_hold(&self, name: &EndpointName) -> Result<(), ClaimError> {
        let mut errors = self.forbidden_to_us(std::iter::once(name));
        errors.next().map_or(Ok(()), Err)
    }

    /// Of these names, those that our own certificate may not hold.
    fn forbidden_to_us<'a>(
        &self,
        names: impl Iterator<Item = &'a EndpointName>,
    ) -> impl Iterator<Item = ClaimError> {
        let node = self.directory.local();
        let proofs = self.proofs.as_ref();
        let forbidden = proofs.map(|proofs| proofs.forbidden(node, proofs.own(), names));
        let forbidden = forbidden.unwrap_or_default().into_iter();
        forbidden.map(|(name, reason)| ClaimError::Forbidden {
            name,
            node: node.clone(),
            reason,
        })
    }

    /// Takes news of ourselves: an earlier run of ours said more than this one, or another node has
    /// our certificate; or somebody lies.
    fn take_of_ourselves(
        &mut self,
        now: Instant,
        teller: Teller<'_>,
        delta: &OwnerDelta,
        head: &OwnerHead,
    ) -> Taken {
        if !self.directory.disowns(head) {
            return Taken::Refused;
        }
        let unix_time = self.unix_time(now);
        let known = self.reached(teller.from, head);
        let (Some(proofs), Some(proof)) = (&mut self.proofs, &delta.proof) else {
            return Taken::Refused;
        };
        for told in teller.certificates {
            if told.owner == delta.owner {
                proofs.learn(now, told, unix_time);
            }
        }
        match proofs.look_up(&delta.owner, proof.certificate, unix_time) {
            Lookup::Good => proofs.answered(teller.from, &delta.owner),
            Lookup::Unknown if proofs.ask(teller.from, &delta.owner) => {
                return Taken::Gap { known };
            }
            Lookup::Unknown | Lookup::Bad => return Taken::Refused,
        }
        if !proofs.is_signed(head, proof) {
            return Taken::Unsaid(Unsaid::Forged);
        }
        self.hear_disowned(now, delta.session);
        Taken::Refused
    }
}

impl Unsaid {
    /// What the teller did, in words.
    pub(super) fn violation(self, from: &NodeName, owner: &NodeName) -> Violation {
        let (from, owner) = (from.clone(), owner.clone());
        match self {
            Self::Unsigned => Violation::UnsignedNames { from, owner },
            Self::Forged => Violation::ForgedNames { from, owner },
        }
    }
}

impl From<Applied> for Taken {
    fn from(applied: Applied) -> Self {
        match applied {
            Applied::Nothing => Self::Nothing,
            Applied::Advanced => Self::Advanced,
            Applied::Gap { known } => Self::Gap { known },
            Applied::Full { limit } => Self::Full { limit },
            Applied::Refused(_) => Self::Refused,
        }
    }
}

/// How far a replica reaches that took a delta.
fn told(delta: &OwnerDelta) -> OwnerHead {
    OwnerHead {
        owner: delta.owner.clone(),
        session: delta.session,
        version: delta.upto,
        floor: delta.floor,
    }
}
