//! What this node makes of what others say about it.
//!
//! Most of it is news: a suspicion to refute, a death to renew from. But two nodes with one name
//! would hear of each other in the same words and outdo each other for ever. So what this node
//! never said of itself is a conflict, with one exception: a session later than ours may be an
//! earlier run of ours, before the clock went back, and there may have been a few of those. That
//! our very identity is held down is no conflict, for a namesake has another session or address:
//! renewals are rationed, and no more.
//!
//! A conflict has two sides. Whom the fabric takes for the later run goes on as before. The other
//! is *displaced*: no word of it counts any more, so it steps aside, and seeks the first once to
//! show itself, for that one would never hear of it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::name::Session;
use crate::wire::control::{Health, MemberIdentity};

/// Judges what others say about this node.
#[derive(Debug, Default)]
pub(super) struct Guard {
    renewals: VecDeque<Instant>,
    /// How many sessions of earlier runs this one went beyond.
    outlived: usize,
    conflict: bool,
    displaced: bool,
}

/// What to do with what others say about this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Let failure detection answer it.
    Pass,
    /// It is old or of no consequence.
    Ignore,
    /// Begin a session after this one, which an earlier run had.
    Outlive(Session),
    /// Tell the program that another node has our name. Said once.
    Conflict,
    /// Others take another node for the later run of ours. Said once.
    Displaced {
        /// Whether the program has been told of it before.
        known: bool,
    },
}

impl Guard {
    /// Judges an update about `ours`' name.
    pub(super) fn judge(
        &mut self,
        now: Instant,
        ours: &MemberIdentity,
        theirs: &MemberIdentity,
        health: Health,
    ) -> Verdict {
        if theirs.session > ours.session {
            return self.judge_session(theirs.session);
        }
        if theirs.generation() < ours.generation() {
            return Verdict::Ignore;
        }
        if theirs != ours {
            return self.displace();
        }
        match health {
            Health::Alive => Verdict::Ignore,
            Health::Suspect => Verdict::Pass,
            Health::Down | Health::Left => self.judge_death(now),
        }
    }

    /// Judges a session of ours that is later than ours.
    fn judge_session(&mut self, session: Session) -> Verdict {
        match self.outlive(session) {
            Some(verdict) => verdict,
            None => self.displace(),
        }
    }

    /// Judges claims of `session` under our name that we never made. They do not show who made
    /// them: whether we are displaced is for news of the members to tell.
    pub(super) fn judge_claims(&mut self, ours: Session, session: Session) -> Verdict {
        let outlived = (session >= ours).then(|| self.outlive(session)).flatten();
        match outlived {
            Some(verdict) => verdict,
            None => self.report(),
        }
    }

    /// Goes beyond a session that may be an earlier run of ours.
    fn outlive(&mut self, session: Session) -> Option<Verdict> {
        if self.outlived == OUTLIVED_MAX || self.conflict || session.0 == u64::MAX {
            return None;
        }
        self.outlived += 1;
        Some(Verdict::Outlive(session))
    }

    /// Whether others take another node for the later run of ours.
    pub(super) const fn is_displaced(&self) -> bool {
        self.displaced
    }

    /// Another node showed itself under our name.
    pub(super) fn report(&mut self) -> Verdict {
        match std::mem::replace(&mut self.conflict, true) {
            true => Verdict::Ignore,
            false => Verdict::Conflict,
        }
    }

    fn displace(&mut self) -> Verdict {
        let known = std::mem::replace(&mut self.conflict, true);
        match std::mem::replace(&mut self.displaced, true) {
            true => Verdict::Ignore,
            false => Verdict::Displaced { known },
        }
    }

    /// We are held down: renew, unless that happened too often of late.
    fn judge_death(&mut self, now: Instant) -> Verdict {
        if self.displaced {
            return Verdict::Ignore;
        }
        while let Some(first) = self.renewals.front()
            && now.saturating_duration_since(*first) > RENEWAL_WINDOW
        {
            self.renewals.pop_front();
        }
        if self.renewals.len() == RENEWALS_MAX {
            return Verdict::Ignore;
        }
        self.renewals.push_back(now);
        Verdict::Pass
    }
}

/// Sessions of earlier runs that one run goes beyond: the clock went back below as many runs that
/// others remember. Two nodes with one name spend theirs within a few round trips.
const OUTLIVED_MAX: usize = 4;

/// Renewals within the window. A partition that comes and goes costs one each time, and the window
/// is shorter than any suspicion: nobody is exiled by a bad network, and nobody renews in a storm.
const RENEWALS_MAX: usize = 4;

/// How far back renewals count.
const RENEWAL_WINDOW: Duration = Duration::from_secs(6);
