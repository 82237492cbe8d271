//! Marks: what some run has to come to, or it is no proof that all held.
//!
//! `sometimes!(condition, Mark)` stands where something rare may happen. A run notes which marks it
//! reached; a swarm tells of those that none of its runs did.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;

use crate::plan::Tier;

/// Notes that a mark is reached, if the condition holds.
macro_rules! sometimes {
    ($condition:expr, $mark:ident) => {
        if $condition {
            $crate::marks::reach($crate::marks::Mark::$mark);
        }
    };
}

pub(crate) use sometimes;

macro_rules! marks {
    ($($(#[doc = $doc:literal])+ $mark:ident in $tiers:ident,)+) => {
        /// What some run of a long swarm has to come to.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Mark {
            $($(#[doc = $doc])+ $mark,)+
        }

        impl Mark {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$mark),+];

            /// What it says, in words.
            #[must_use]
            pub fn words(self) -> &'static str {
                let words = match self {
                    $(Self::$mark => concat!($($doc),+),)+
                };
                words.trim().trim_end_matches('.')
            }

            const fn tiers(self) -> &'static [Tier] {
                match self {
                    $(Self::$mark => $tiers,)+
                }
            }
        }
    };
}

const CONTROL: &[Tier] = &[Tier::Control];
const FULL: &[Tier] = &[Tier::Full];
const BOTH: &[Tier] = &[Tier::Control, Tier::Full];

marks! {
    /// Somebody is suspected.
    Suspected in BOTH,
    /// A suspect refutes.
    Refuted in BOTH,
    /// Somebody who runs is held down.
    FalseDown in BOTH,
    /// Somebody who does not run is held down.
    TrueDown in BOTH,
    /// Somebody who was held down is up again.
    UpAfterDown in BOTH,
    /// Somebody left, and comes back.
    UpAfterLeft in BOTH,
    /// Somebody was held down who turns out to have left.
    LeftAfterDown in BOTH,
    /// A later run of a member is told before anybody missed the earlier.
    LaterRun in BOTH,
    /// A name is lost to an older claim.
    NameLost in BOTH,
    /// A standby takes over.
    NamePromoted in CONTROL,
    /// A name moves from one owner to another at once.
    NameMoved in BOTH,
    /// Somebody learns of a name that is gone.
    NameGone in BOTH,
    /// A core has lived with what was wrong elsewhere.
    CoreLived in BOTH,
    /// A probe is tried through others.
    PingRequest in CONTROL,
    /// A probe through others is answered.
    ForwardedAck in CONTROL,
    /// Somebody is told that it is held down.
    TurnUndead in CONTROL,
    /// A leave is acknowledged.
    LeaveAcknowledged in CONTROL,
    /// Members are compared by digests.
    MemberDigest in CONTROL,
    /// What a digest showed is asked for.
    MemberAnswer in CONTROL,
    /// Names that a head told of are pulled.
    NamePull in CONTROL,
    /// A whole set is told to somebody who lacks it.
    WholeSet in CONTROL,
    /// A run whose clock went back takes a later session than its clock shows.
    SessionRaised in CONTROL,
    /// A connection is given up that nobody answers.
    DialGivenUp in CONTROL,
    /// A connection ends as its other end restarted.
    ConnectionReset in CONTROL,
    /// A connection ends as nothing came for too long.
    ConnectionIdle in CONTROL,
    /// A dial finds nobody who holds the name.
    DialNotFound in FULL,
    /// A dial's holder is down.
    DialUnreachable in FULL,
    /// A dial is made before the names are known.
    DialNotSynced in FULL,
    /// A dial's holder cannot be reached.
    DialConnect in FULL,
    /// A dial is refused as the queue is full.
    DialBusy in FULL,
    /// A dial runs out of time.
    DialTimedOut in FULL,
    /// A dial is made by one who left.
    DialLeft in FULL,
    /// A dial is dropped.
    DialDropped in FULL,
    /// A flow within a process is read to its end.
    LocalFlowEnded in FULL,
    /// A flow between two is read to its end.
    RemoteFlowEnded in FULL,
    /// A flow is lost as nothing came for too long.
    LostToSilence in FULL,
    /// A flow is lost as its other end restarted.
    LostToRestart in FULL,
    /// A flow is lost as the fabric holds its other end down.
    LostToDown in FULL,
    /// A flow is lost as its connection was closed.
    LostToClose in FULL,
    /// A sender is told that its reader stopped.
    SenderStopped in FULL,
    /// A send is dropped before it is taken, and tried again.
    SendDropped in FULL,
    /// A call fails of which its caller knows that nobody acted on it.
    CallNotRun in FULL,
    /// A call fails that may have been acted on.
    CallMayHaveRun in FULL,
    /// A call is dropped.
    CallDropped in FULL,
    /// A reader is reported that does not read.
    SlowConsumer in FULL,
    /// A connection that was up is lost.
    ConnectionLost in FULL,
    /// Somebody is refused who comes without a good certificate.
    ConnectionRefused in FULL,
    /// A peer is cut off that breaks the protocol.
    PeerCutOff in FULL,
    /// A flow is refused.
    FlowRefused in FULL,
    /// Control messages are dropped as their connection takes too long.
    ControlDropped in FULL,
    /// A socket refuses a send.
    SendRefused in FULL,
    /// Datagrams arrive that waited on a jammed link.
    Unjammed in FULL,
}

impl Mark {
    /// Those that a long swarm of a tier has to reach.
    pub fn of(tier: Tier) -> impl Iterator<Item = Self> {
        let marks = Self::ALL.iter().copied();
        marks.filter(move |mark| mark.tiers().contains(&tier))
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

thread_local! {
    /// What the run of this thread has reached, a bit for each mark.
    static REACHED: Cell<u64> = const { Cell::new(0) };
}

pub(crate) fn reach(mark: Mark) {
    REACHED.set(REACHED.get() | 1 << mark as u64);
}

/// What was reached since this was asked last.
pub(crate) fn take_reached() -> BTreeSet<Mark> {
    let reached = REACHED.take();
    let marks = Mark::ALL.iter().copied();
    marks
        .filter(|&mark| reached & 1 << mark as u64 != 0)
        .collect()
}

const _: () = assert!(Mark::ALL.len() <= 64, "a bit for each mark");
