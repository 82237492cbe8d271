//! The questions: where a name is, which names there are, which one was meant.

use std::ops::Bound;

use super::Directory;
use super::index::{Candidates, Holder};
use super::owners::LOCAL;
use crate::name::{EndpointName, NodeName, Session};
use crate::wire::claims::{Stamp, Version};

/// How many names one page of a scan walks past, hidden ones included, before it stops and says
/// where to go on: about a millisecond's work.
pub const SCAN_WALK_MAX: usize = 8_192;

/// How many names on each side [`Directory::near`] compares: about a millisecond's work.
pub const NEAR_WALK_MAX: usize = 2_048;

/// Where a name is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// By this node.
    Local,
    /// By another node.
    Remote(Located),
    /// By a node that is down.
    Unreachable {
        /// That node; the one that would own the name if all were back.
        owner: NodeName,
    },
    /// By nobody.
    NotFound,
}

/// The claim by which a name was located.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// Who made it.
    pub owner: NodeName,
    /// In which run.
    pub session: Session,
    /// At which version.
    pub version: Version,
}

/// A name and who owns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The name.
    pub name: EndpointName,
    /// Its owner.
    pub owner: NodeName,
}

/// A part of a scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The names, in order.
    pub listings: Vec<Listing>,
    /// Scan on after this name; `None` if there is no more. A page may be empty and not the last.
    pub next: Option<EndpointName>,
}

impl Directory {
    /// Who owns a name, by the claims and by who is reachable, and by nothing else: all nodes that
    /// know the same answer the same.
    #[must_use]
    pub fn owner_of(&self, name: &EndpointName) -> Option<&NodeName> {
        let winner = self.index.get(name)?.winner(&self.owners)?;
        Some(&self.owners[winner].name)
    }

    /// The claim by which [`Directory::owner_of`] a name owns it: whose, and when it was made.
    #[must_use]
    pub fn owning_claim(&self, name: &EndpointName) -> Option<(&NodeName, Stamp)> {
        let candidates = self.index.get(name)?;
        let winner = candidates.winner(&self.owners)?;
        let holder = candidates.of(winner)?;
        Some((&self.owners[winner].name, holder.stamp(&self.owners)))
    }

    /// Whether an owner is known to have given up the claim that it made at `stamp`.
    #[must_use]
    pub fn is_released(&self, name: &EndpointName, owner: &NodeName, stamp: Stamp) -> bool {
        let id = self.owners.find(owner);
        let candidates = self.index.get(name);
        let holder = id.and_then(|id| candidates?.of(id));
        holder.is_some_and(|it| !it.is_held() && it.stamp(&self.owners) >= stamp)
    }

    /// Where to dial a name. Skips claims that were marked stale.
    #[must_use]
    pub fn resolve(&self, name: &EndpointName) -> Resolution {
        let Some(candidates) = self.index.get(name) else {
            return Resolution::NotFound;
        };
        if let Some(holder) = candidates.iter().find(|holder| self.is_served(holder)) {
            return if holder.owner == LOCAL {
                Resolution::Local
            } else {
                Resolution::Remote(self.locate(holder))
            };
        }
        let dormant = |holder: &&Holder| holder.is_held() && !self.owners[holder.owner].reachable;
        match candidates.iter().find(dormant) {
            Some(holder) => Resolution::Unreachable {
                owner: self.owners[holder.owner].name.clone(),
            },
            None => Resolution::NotFound,
        }
    }

    /// All that serve a name or stand by for it and can be dialled, this node among them, in the
    /// order in which they own it.
    #[must_use]
    pub fn candidates(&self, name: &EndpointName) -> Vec<Located> {
        let candidates = self.index.get(name).into_iter().flat_map(Candidates::iter);
        let served = candidates.filter(|holder| self.is_served(holder));
        served.map(|holder| self.locate(holder)).collect()
    }

    /// The owner was dialled and says that it has no such endpoint: hides the claim that led there,
    /// until its set advances or its session changes. False if that claim is no longer the
    /// owner's word, or is our own.
    pub fn mark_stale(&mut self, name: &EndpointName, located: &Located) -> bool {
        let Some(id) = self.owners.find(&located.owner).filter(|&id| id != LOCAL) else {
            return false;
        };
        let holder = self
            .index
            .get(name)
            .and_then(|candidates| candidates.of(id));
        let stands = self.owners[id].session == located.session
            && holder.is_some_and(|holder| holder.version == located.version && holder.is_held());
        if stands {
            self.owners[id].stale.insert(located.version);
        }
        stands
    }

    /// The names that begin with `prefix` and come after `after`, in order, with their owners: at
    /// most `limit`, fewer if [`SCAN_WALK_MAX`] names were passed.
    #[must_use]
    pub fn scan(&self, prefix: &str, after: Option<&EndpointName>, limit: usize) -> Page {
        let start = match after {
            Some(after) if after.as_str() >= prefix => Bound::Excluded(after.as_str()),
            Some(_) | None => Bound::Included(prefix),
        };
        let mut page = Page {
            listings: Vec::new(),
            next: None,
        };
        let mut last = None;
        let names = self
            .index
            .from(start)
            .take_while(|(name, _)| name.as_str().starts_with(prefix));
        for (walked, (name, candidates)) in names.enumerate() {
            if page.listings.len() >= limit || walked >= SCAN_WALK_MAX {
                page.next = last.or(after).cloned();
                break;
            }
            if let Some(winner) = candidates.winner(&self.owners) {
                let owner = self.owners[winner].name.clone();
                page.listings.push(Listing {
                    name: name.clone(),
                    owner,
                });
            }
            last = Some(name);
        }
        page
    }

    /// Names that somebody serves and that differ from `name` by at most two insertions, deletions
    /// or substitutions: the nearest first, at most `limit`.
    ///
    /// Looks at [`NEAR_WALK_MAX`] names before and after the place where `name` would stand, so in
    /// a large directory it may miss one that differs in its first characters.
    #[must_use]
    pub fn near(&self, name: &EndpointName, limit: usize) -> Vec<EndpointName> {
        let after = self
            .index
            .from(Bound::Excluded(name.as_str()))
            .take(NEAR_WALK_MAX);
        let before = self.index.before(name.as_str()).take(NEAR_WALK_MAX);
        let mut near: Vec<_> = after
            .chain(before)
            .filter(|(_, candidates)| candidates.iter().any(|holder| self.is_served(holder)))
            .filter_map(|(other, _)| {
                let distance = edit_distance(name.as_str(), other.as_str())?;
                Some((distance, other))
            })
            .collect();
        near.sort_unstable();
        near.into_iter()
            .take(limit)
            .map(|(_, other)| other.clone())
            .collect()
    }

    fn is_served(&self, holder: &Holder) -> bool {
        let owner = &self.owners[holder.owner];
        holder.is_held() && owner.reachable && !owner.stale.contains(&holder.version)
    }

    fn locate(&self, holder: &Holder) -> Located {
        let owner = &self.owners[holder.owner];
        Located {
            owner: owner.name.clone(),
            session: owner.session,
            version: holder.version,
        }
    }
}

/// Levenshtein's distance of two names if it is at most [`DISTANCE_MAX`]: the diagonals further
/// than that from the main one are never entered.
fn edit_distance(left: &str, right: &str) -> Option<usize> {
    let (left, right) = without_common_ends(left.as_bytes(), right.as_bytes());
    if left.len().abs_diff(right.len()) > DISTANCE_MAX {
        return None;
    }
    // Cell `d` is the column `row + d - DISTANCE_MAX`; beyond the edges everything is too far.
    let mut cells = [TOO_FAR; 2 * DISTANCE_MAX + 1];
    for (d, cell) in cells.iter_mut().enumerate().skip(DISTANCE_MAX) {
        *cell = d - DISTANCE_MAX;
    }
    for row in 1..=left.len() {
        let previous = cells;
        for d in 0..cells.len() {
            let Some(column) = (row + d)
                .checked_sub(DISTANCE_MAX)
                .filter(|&c| c <= right.len())
            else {
                cells[d] = TOO_FAR;
                continue;
            };
            let deleted = previous.get(d + 1).map_or(TOO_FAR, |cell| cell + 1);
            let inserted = d.checked_sub(1).map_or(TOO_FAR, |left| cells[left] + 1);
            let kept = match column.checked_sub(1) {
                Some(index) => previous[d] + usize::from(left[row - 1] != right[index]),
                None => TOO_FAR,
            };
            cells[d] = deleted.min(inserted).min(kept).min(TOO_FAR);
        }
        if cells.iter().all(|&cell| cell == TOO_FAR) {
            return None;
        }
    }
    let distance = cells[right.len() + DISTANCE_MAX - left.len()];
    (distance <= DISTANCE_MAX).then_some(distance)
}

const DISTANCE_MAX: usize = 2;
const TOO_FAR: usize = DISTANCE_MAX + 1;

fn without_common_ends<'a>(left: &'a [u8], right: &'a [u8]) -> (&'a [u8], &'a [u8]) {
    let head = left.iter().zip(right).take_while(|(l, r)| l == r).count();
    let (left, right) = (&left[head..], &right[head..]);
    let tail = left
        .iter()
        .rev()
        .zip(right.iter().rev())
        .take_while(|(l, r)| l == r)
        .count();
    (&left[..left.len() - tail], &right[..right.len() - tail])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_banded_distance_is_the_textbook_one(left in "[ab.]{0,9}", right in "[ab.]{0,9}") {
            let distance = textbook_distance(left.as_bytes(), right.as_bytes());
            prop_assert_eq!(edit_distance(&left, &right), (distance <= 2).then_some(distance));
        }
    }

    fn textbook_distance(left: &[u8], right: &[u8]) -> usize {
        let ([l, lefts @ ..], [r, rights @ ..]) = (left, right) else {
            return left.len().max(right.len());
        };
        if l == r {
            return textbook_distance(lefts, rights);
        }
        let substituted = textbook_distance(lefts, rights);
        let deleted = textbook_distance(lefts, right);
        let inserted = textbook_distance(left, rights);
        1 + substituted.min(deleted).min(inserted)
    }
}
