//! What follows from the claims that a replica of the directory holds, worked out from the claims
//! alone: who owns which name, and whether the claims are their owner's.

use std::collections::BTreeMap;

use grinta_proto::node::control::directory::Directory;
use grinta_proto::wire::claims::{Claim, OwnerDelta, OwnerHead, Stamp};
use grinta_proto::{EndpointName, NodeName};

use crate::oracle::Finding;
use crate::verdict::Invariant;

/// All that a replica holds, by owners. A set that is being refilled is left out.
pub(crate) fn sets(directory: &Directory) -> BTreeMap<NodeName, OwnerDelta> {
    let heads = directory.heads().filter(|head| !is_refilling(head));
    let sets = heads.filter_map(|head| Some((head.owner.clone(), set_of(directory, head.owner)?)));
    sets.collect()
}

/// What a directory's own node has said of its names, if anything.
pub(crate) fn own_set(directory: &Directory) -> Option<OwnerDelta> {
    set_of(directory, directory.local().clone())
}

fn set_of(directory: &Directory, owner: NodeName) -> Option<OwnerDelta> {
    directory.delta_for(&OwnerHead::unknown(owner), usize::MAX)
}

fn is_refilling(head: &OwnerHead) -> bool {
    head.version < head.floor
}

/// Each name is owned by the oldest claim of those who are reachable, and of claims of one age by
/// the lowest node name: by nothing else.
pub(crate) fn check_owners(
    directory: &Directory,
    sets: &BTreeMap<NodeName, OwnerDelta>,
    is_reachable: impl Fn(&NodeName) -> bool,
) -> Result<(), Finding> {
    if directory.heads().any(|head| is_refilling(&head)) {
        return Ok(());
    }
    let mut owners: BTreeMap<&EndpointName, Option<(Stamp, &NodeName)>> = BTreeMap::new();
    for (node, set) in sets {
        for claim in &set.claims {
            let owner = owners.entry(&claim.name).or_default();
            if claim.state.is_held() && is_reachable(node) {
                let theirs = (claim.stamp, node);
                *owner = Some(owner.map_or(theirs, |best| best.min(theirs)));
            }
        }
    }
    for (name, owner) in owners {
        let expected = owner.map(|(_, node)| node);
        let found = directory.owner_of(name);
        if found != expected {
            let what = format!("{name} is {found:?}'s, and by the claims {expected:?}'s");
            return Err((Invariant::D5, what));
        }
    }
    Ok(())
}

/// A replica of an owner's set is what the owner said up to a version: nothing else, nothing less.
pub(crate) fn check_prefix(replica: &OwnerDelta, own: &OwnerDelta) -> Result<(), Finding> {
    if replica.session != own.session {
        return Ok(());
    }
    let of = |set: &OwnerDelta| {
        let claims = set.claims.iter();
        claims
            .map(|claim| (claim.name.clone(), claim.clone()))
            .collect::<BTreeMap<_, _>>()
    };
    let (theirs, ours) = (of(replica), of(own));
    let lacks = ours
        .values()
        .find(|claim| claim.version <= replica.upto && theirs.get(&claim.name) != Some(claim));
    if let Some(claim) = lacks {
        let what = format!("a replica up to {:?} lacks {claim:?}", replica.upto);
        return Err((Invariant::D9, what));
    }
    let is_invented = |claim: &&Claim| match ours.get(&claim.name) {
        Some(latest) => latest.version < claim.version,
        // Its owner has released it, and forgotten that it did.
        None => claim.version > own.floor,
    };
    match theirs.values().find(is_invented) {
        Some(claim) => {
            let what = format!("{} never said {claim:?}", own.owner);
            Err((Invariant::D9, what))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use grinta_proto::Session;
    use grinta_proto::node::control::directory::{ClaimMode, DirectoryLimits};

    use super::*;

    fn directory(node: &str) -> Directory {
        let node = node.parse().expect("letters");
        Directory::new(node, Session(1), DirectoryLimits::default())
    }

    fn claim(directory: &mut Directory, name: &str, second: u64) {
        let name = name.parse().expect("a letter");
        let claimed = directory.claim(name, ClaimMode::Standby, Duration::from_secs(second));
        claimed.expect("there is room");
    }

    fn release(directory: &mut Directory, name: &str) {
        assert!(directory.release(&name.parse().expect("a letter")));
    }

    /// What a directory has of its own node.
    fn told_by(directory: &Directory) -> OwnerDelta {
        own_set(directory).expect("it has claimed something")
    }

    /// Something that a replica learns.
    enum News {
        Told(OwnerDelta),
        Down(NodeName),
    }

    /// Two words of each of three nodes, of which the later contradicts the earlier, and a crash.
    fn news() -> Vec<News> {
        let [mut ada, mut bob, mut cal] = ["ada", "bob", "cal"].map(directory);
        let mut news = vec![News::Down(bob.local().clone())];
        claim(&mut ada, "x", 30);
        claim(&mut bob, "x", 10);
        claim(&mut bob, "y", 10);
        claim(&mut cal, "x", 20);
        news.extend([&ada, &bob, &cal].map(|directory| News::Told(told_by(directory))));
        release(&mut cal, "x");
        claim(&mut cal, "x", 40);
        claim(&mut ada, "y", 50);
        release(&mut bob, "y");
        news.extend([&ada, &bob, &cal].map(|directory| News::Told(told_by(directory))));
        news
    }

    /// Calls `visit` with all orders of the numbers less than `count`.
    fn in_all_orders(count: usize, visit: &mut impl FnMut(&[usize])) {
        fn extend(order: &mut Vec<usize>, count: usize, visit: &mut impl FnMut(&[usize])) {
            if order.len() == count {
                visit(order);
            }
            for next in 0..count {
                if !order.contains(&next) {
                    order.push(next);
                    extend(order, count, visit);
                    order.pop();
                }
            }
        }
        extend(&mut Vec::new(), count, visit);
    }

    #[test]
    fn the_owner_follows_from_the_claims_in_whatever_order_they_are_told() {
        let news = news();
        let (mut orders, mut ends) = (0, BTreeMap::new());
        in_all_orders(news.len(), &mut |order| {
            let mut replica = directory("dan");
            claim(&mut replica, "x", 60);
            let nodes = ["ada", "bob", "cal"].map(|node| node.parse::<NodeName>().unwrap());
            for node in &nodes {
                replica.set_reachable(node, Session(1));
            }
            let mut down = None;
            for &which in order {
                match &news[which] {
                    News::Told(set) => drop(replica.apply(set)),
                    News::Down(node) => {
                        replica.set_unreachable(node);
                        down = Some(node);
                    }
                }
                let found = check_owners(&replica, &sets(&replica), |node| Some(node) != down);
                assert_eq!(found, Ok(()), "D5 after {order:?}");
            }
            let owner = |name: &str| replica.owner_of(&name.parse().unwrap()).cloned();
            *ends.entry([owner("x"), owner("y")]).or_insert(0) += 1;
            orders += 1;
        });
        let expected = ["ada", "ada"].map(|node| Some(node.parse().unwrap()));
        assert_eq!(ends, BTreeMap::from([(expected, orders)]));
        assert_eq!(orders, 5040);
    }

    #[test]
    fn another_owner_than_the_claims_have_is_found() {
        let mut ada = directory("ada");
        claim(&mut ada, "x", 1);
        assert_eq!(check_owners(&ada, &sets(&ada), |_| true), Ok(()));
        let (invariant, _) = check_owners(&ada, &sets(&ada), |_| false).unwrap_err();
        assert_eq!(invariant, Invariant::D5);
    }

    #[test]
    fn what_an_owner_never_said_or_what_is_missing_of_it_is_found() {
        let mut ada = directory("ada");
        claim(&mut ada, "x", 1);
        let early = told_by(&ada);
        claim(&mut ada, "y", 2);
        release(&mut ada, "x");
        let own = told_by(&ada);
        assert_eq!(check_prefix(&early, &own), Ok(()));
        assert_eq!(check_prefix(&own, &own), Ok(()));
        let broken = |spoil: fn(&mut OwnerDelta)| {
            let mut replica = own.clone();
            spoil(&mut replica);
            check_prefix(&replica, &own).map_err(|(invariant, _)| invariant)
        };
        assert_eq!(broken(|set| drop(set.claims.pop())), Err(Invariant::D9));
        assert_eq!(
            broken(|set| set.claims[0].stamp.unix_ms += 1),
            Err(Invariant::D9)
        );
        assert_eq!(
            broken(|set| {
                let mut more = set.claims[0].clone();
                more.name = "z".parse().unwrap();
                more.version.0 += 9;
                set.claims.push(more);
            }),
            Err(Invariant::D9)
        );
    }
}
