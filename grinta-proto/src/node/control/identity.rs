//! What this node makes of what others say about it.
//!
//! Most of it is news: a suspicion to refute, a death to renew from. But two nodes with one name
//! would hear of each other in the same words and renew against each other for ever. So renewals
//! are counted, and what this node never said of itself is a conflict, with one exception: a
//! session later than ours may be an earlier run of ours, before the clock went back.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::name::Session;
use crate::wire::control::{Health, MemberIdentity};

/// Judges what others say about this node.
#[derive(Debug, Default)]
pub(super) struct Guard {
    renewals: VecDeque<Instant>,
    adopted: bool,
    conflict: bool,
    told_storm: bool,
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
            return self.report();
        }
        match health {
            Health::Alive => Verdict::Ignore,
            Health::Suspect => Verdict::Pass,
            Health::Down | Health::Left => self.judge_death(now),
        }
    }

    /// Judges a session of ours that is later than ours.
    pub(super) fn judge_session(&mut self, session: Session) -> Verdict {
        if self.adopted || session.0 == u64::MAX {
            return self.report();
        }
        self.adopted = true;
        Verdict::Outlive(session)
    }

    /// Another node showed itself under our name.
    pub(super) fn report(&mut self) -> Verdict {
        match std::mem::replace(&mut self.conflict, true) {
            true => Verdict::Ignore,
            false => Verdict::Conflict,
        }
    }

    /// We are held down: renew, unless that happened too often of late.
    fn judge_death(&mut self, now: Instant) -> Verdict {
        if self.conflict {
            return Verdict::Ignore;
        }
        while let Some(first) = self.renewals.front()
            && now.saturating_duration_since(*first) > RENEWAL_WINDOW
        {
            self.renewals.pop_front();
        }
        if self.renewals.len() < RENEWALS_MAX {
            self.renewals.push_back(now);
            self.told_storm = false;
            return Verdict::Pass;
        }
        match std::mem::replace(&mut self.told_storm, true) {
            true => Verdict::Ignore,
            false => Verdict::Conflict,
        }
    }
}

/// Renewals within the window. A partition that comes and goes costs one each time; two nodes
/// with one name spend these within seconds. They come back with time, so that a node in a bad
/// network is not exiled.
const RENEWALS_MAX: usize = 4;

/// How far back renewals count.
const RENEWAL_WINDOW: Duration = Duration::from_secs(60);
