//! This node's own claims: made, given up, and made anew in a later run.

use std::time::Duration;

use super::clock::HybridClock;
use super::index::{Filed, Holder, Place};
use super::owners::{LOCAL, Owners, Tally};
use super::{Directory, NameLimit, Standing};
use crate::name::{EndpointName, NodeName, Session};
use crate::wire::claims::{ClaimState, Version};

/// What a claim is for, and what becomes of it if another serves the name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ClaimMode {
    /// To serve the name alone; refused while another serves it.
    #[default]
    Exclusive,
    /// To serve the name alone; while another serves it the claim stands by, and takes over
    /// ([`Change::Promoted`](super::Change::Promoted)) when all older ones are released or go down.
    Standby,
    /// To serve the name beside all others that share it; refused while another serves it alone.
    Shared,
}

/// Why a name was not claimed. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// Another node serves the name alone.
    #[error("the name {name} is served by {owner}; release it there, or choose another name")]
    Taken {
        /// The name.
        name: EndpointName,
        /// Who serves it.
        owner: NodeName,
    },
    /// Other nodes share the name, and the claim would not.
    #[error("the name {name} is shared by {owner} and maybe others; share it, or choose another")]
    Shared {
        /// The name.
        name: EndpointName,
        /// Who owns it, of those who share it.
        owner: NodeName,
    },
    /// This node holds the name already.
    #[error("the name {name} is already held by this node; release it first")]
    AlreadyHeld {
        /// The name.
        name: EndpointName,
    },
    /// A rule of the fabric forbids the name to this node's certificate.
    #[error(
        "the certificate of {node} may not hold the name {name}: {reason}; choose another name, or change the rule at all nodes"
    )]
    Forbidden {
        /// The name.
        name: EndpointName,
        /// This node.
        node: NodeName,
        /// What the rule says, and of which certificate.
        reason: String,
    },
    /// A limit on names is reached.
    #[error("`{limit}` is reached ({most}); release some names, or raise it at all nodes")]
    TooMany {
        /// Which limit.
        limit: NameLimit,
        /// Its value.
        most: usize,
    },
}

impl Directory {
    /// Begins a later run of the local node: voids all its claims, here at once and elsewhere as
    /// soon as it is told. A `session` that is not later is replaced by the successor of the
    /// present one. Returns the session that began.
    pub fn restart(&mut self, session: Session) -> Session {
        let present = self.owners[LOCAL].session;
        let session = session.max(Session(present.0.saturating_add(1)));
        self.standbys.clear();
        self.begin_session(LOCAL, session);
        self.changes.forget_all_ours();
        session
    }

    /// Begins a later run of the local node as [`Directory::restart`] does, and claims anew what it
    /// held. A name that somebody else serves by now is told as lost.
    pub fn renew(&mut self, session: Session, unix_time: Duration) -> Session {
        let standbys = std::mem::take(&mut self.standbys);
        let held = self.owners[LOCAL].held();
        let held: Vec<_> = held.map(|it| (it.name.clone(), it.state)).collect();
        let session = self.restart(session);
        for (name, state) in held {
            self.changes.note_ours(&name);
            let place = self.index.place(name);
            let filed = make(place, &mut self.owners, &mut self.clock, state, unix_time);
            self.enter(filed);
        }
        self.owners.rehash(LOCAL);
        self.standbys = standbys;
        session
    }

    /// Claims a name as `mode` says, and returns what the claim has come to. `unix_time` is the
    /// wall clock, as the time since the Unix epoch.
    ///
    /// # Errors
    /// [`ClaimError`]; nothing changed.
    pub fn claim(
        &mut self,
        name: EndpointName,
        mode: ClaimMode,
        unix_time: Duration,
    ) -> Result<Standing, ClaimError> {
        let place = self.index.place(name);
        let standing = judge(&place, &self.owners, mode)?;
        let ours = self.owners[LOCAL].tally.held;
        let limit = self
            .limits
            .exceeded_by_claim(place.name(), ours, self.totals.held);
        if let Some(limit) = limit {
            let most = self.limits.most(limit);
            return Err(ClaimError::TooMany { limit, most });
        }
        let state = match mode {
            ClaimMode::Exclusive | ClaimMode::Standby => ClaimState::Exclusive,
            ClaimMode::Shared => ClaimState::Shared,
        };
        let filed = make(place, &mut self.owners, &mut self.clock, state, unix_time);
        if standing == Standing::Standby {
            self.standbys.insert(filed.name.clone());
        }
        self.enter(filed);
        self.owners.rehash(LOCAL);
        Ok(standing)
    }

    /// Gives a name up. False if this node does not hold it.
    pub fn release(&mut self, name: &EndpointName) -> bool {
        let place = self.index.place(name.clone());
        let Some(ours) = place.held_by(LOCAL) else {
            return false;
        };
        let stamp = ours.stamp(&self.owners);
        let released = Holder {
            version: self.owners[LOCAL].next_version(),
            owner: LOCAL,
            state: ClaimState::Released,
        };
        let filed = place.file(&self.owners, stamp, released);
        self.enter(filed.expect("what we say next is the latest"));
        self.standbys.remove(name);
        self.changes.forget_ours(name);
        // Half is kept, so that the floor moves once in many releases.
        while self
            .limits
            .exceeded_by_releases(self.owners[LOCAL].tally.released)
        {
            self.forget_releases(self.owners[LOCAL].tally.released.names / 2);
        }
        self.owners.rehash(LOCAL);
        true
    }

    /// What our claim of a name has come to; `None` if we hold none.
    #[must_use]
    pub fn standing(&self, name: &EndpointName) -> Option<Standing> {
        let candidates = self.index.get(name)?;
        candidates.of(LOCAL).filter(|ours| ours.is_held())?;
        let mut servers = candidates.servers(|holder| self.is_reachable(holder));
        Some(if servers.any(|holder| holder.owner == LOCAL) {
            Standing::Owner
        } else {
            Standing::Standby
        })
    }

    /// The names that this node holds or stands by for, those claimed first to begin with.
    pub fn held(&self) -> impl Iterator<Item = &EndpointName> {
        self.owners[LOCAL].held().map(|entry| &entry.name)
    }

    /// How far our own set reaches.
    #[must_use]
    pub fn version(&self) -> Version {
        self.owners[LOCAL].version
    }

    /// Forgets our own oldest releases but `keep`, by raising our floor, and returns how many.
    ///
    /// A replica that is behind the floor has to be refilled. So the floor waits until the
    /// releases outnumber both the names we hold and twice `keep`: the next time it moves, as many
    /// changes have been made as a refill has to carry.
    pub fn collect(&mut self, keep: usize) -> usize {
        let Tally { held, released } = self.owners[LOCAL].tally;
        if released.names <= held.names.max(keep.saturating_mul(2)) {
            return 0;
        }
        self.forget_releases(keep);
        self.owners.rehash(LOCAL);
        released.names - self.owners[LOCAL].tally.released.names
    }

    pub(super) fn forget_releases(&mut self, keep: usize) {
        let owner = &self.owners[LOCAL];
        let Some(last) = owner
            .tally
            .released
            .names
            .saturating_sub(keep)
            .checked_sub(1)
        else {
            return;
        };
        let (floor, _) = owner
            .claims_in(owner.floor, owner.version)
            .filter(|(_, entry)| entry.state == ClaimState::Released)
            .nth(last)
            .expect("all releases counted lie above the floor");
        self.raise_floor(LOCAL, floor);
    }
}

/// What a claim of ours would come to.
fn judge(place: &Place<'_>, owners: &Owners, mode: ClaimMode) -> Result<Standing, ClaimError> {
    if place.held_by(LOCAL).is_some() {
        let name = place.name().clone();
        return Err(ClaimError::AlreadyHeld { name });
    }
    let rivals = place.candidates();
    let mut servers = rivals
        .into_iter()
        .flat_map(|rivals| rivals.servers(|it| owners[it.owner].reachable));
    match servers.next() {
        None => Ok(Standing::Owner),
        Some(first) if first.is_shared() && mode == ClaimMode::Shared => Ok(Standing::Owner),
        Some(_) if mode == ClaimMode::Standby => Ok(Standing::Standby),
        Some(first) => {
            let (name, owner) = (place.name().clone(), owners[first.owner].name.clone());
            Err(match first.state {
                ClaimState::Shared => ClaimError::Shared { name, owner },
                ClaimState::Exclusive | ClaimState::Released => ClaimError::Taken { name, owner },
            })
        }
    }
}

/// Makes a claim of ours in its place, younger than all claims of the name that are known.
fn make(
    place: Place<'_>,
    owners: &mut Owners,
    clock: &mut HybridClock,
    state: ClaimState,
    unix_time: Duration,
) -> Filed {
    let rivals = place.candidates();
    let rival = rivals.and_then(|rivals| rivals.latest_stamp(owners));
    let stamp = clock.stamp(unix_time, rival);
    let claim = Holder {
        version: owners[LOCAL].next_version(),
        owner: LOCAL,
        state,
    };
    let filed = place.file(owners, stamp, claim);
    filed.expect("what we say next is the latest")
}
