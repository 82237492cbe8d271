//! What the directory costs as it grows: claims, look-ups, scans, digests and deltas at a thousand,
//! a hundred thousand and a million names, a thousand for each owner.
//!
//! Every figure is the time of the processor for one operation, the mean of a batch; where nothing
//! changes, of the best of several batches. `tests/benches/README.md` tells how to read the table.

#![expect(clippy::print_stdout, reason = "a program whose output people read")]

use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

use clap::Parser;
use grinta_proto::node::control::directory::{Applied, ClaimMode, Directory, DirectoryLimits};
use grinta_proto::node::control::{Control, Identity};
use grinta_proto::wire::claims::{OwnerDelta, OwnerHead, Version};
use grinta_proto::{Config, EndpointName, NodeName, Session};
use nix::time::{ClockId, clock_gettime};

/// Measures the directory at several sizes.
#[derive(Debug, Parser)]
struct Options {
    /// How many names; once for each size.
    #[arg(long, value_name = "N", default_values_t = [1_000, 100_000, 1_000_000])]
    names: Vec<usize>,
    /// What cargo adds.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What an operation costs at one size, in nanoseconds.
struct Row {
    what: &'static str,
    cost: f64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let mut columns = Vec::new();
    for &names in &options.names {
        columns.push(measure(names)?);
    }
    print!("{:<44}", "names");
    for names in &options.names {
        print!("{names:>14}");
    }
    println!();
    let rows = columns.first().map_or(0, Vec::len);
    for row in 0..rows {
        print!("{:<44}", columns[0][row].what);
        for column in &columns {
            print!("{:>14.0}", column[row].cost);
        }
        println!();
    }
    Ok(())
}

fn measure(names: usize) -> Result<Vec<Row>, Box<dyn Error>> {
    let mut rows = vec![
        Row {
            what: "claim by the program, ns",
            cost: claim_by_program(names)?,
        },
        Row {
            what: "claim, ns",
            cost: claim(names)?,
        },
    ];
    let deltas = deltas(names)?;
    let (mut replica, filled) = fill(&deltas)?;
    rows.push(filled);
    rows.extend(ask(&replica, names)?);
    rows.extend(tell(&replica, names)?);
    rows.extend(judge(&mut replica, names)?);
    Ok(rows)
}

/// All of `names` claimed at once, as a program does: the call with all that it tells.
fn claim_by_program(names: usize) -> Result<f64, Box<dyn Error>> {
    let mut config = Config::new(node("claimant")?);
    config.limits.names_per_node_max = names;
    config.limits.name_bytes_per_node_max = usize::MAX;
    let identity = Identity {
        name: config.node.clone(),
        address: ([127, 0, 0, 1], 1).into(),
        session: Session(1),
    };
    let now = Instant::now();
    let mut control = Control::new(&config, identity, [0; 32], now, UNIX);
    let mut spent = Duration::ZERO;
    for batch in batches(names) {
        let claimed = endpoints("claimant", batch)?;
        let begun = processor_time();
        for name in claimed {
            control.claim(now, UNIX, name, ClaimMode::Exclusive)?;
        }
        spent += processor_time() - begun;
        while control.poll_output().is_some() {}
    }
    Ok(nanoseconds(spent, names))
}

/// All of `names` claimed by one owner in the data structure alone.
fn claim(names: usize) -> Result<f64, Box<dyn Error>> {
    let mut directory = Directory::new(node("claimant")?, Session(1), unlimited());
    let mut spent = Duration::ZERO;
    for batch in batches(names) {
        let claimed = endpoints("claimant", batch)?;
        let begun = processor_time();
        for name in claimed {
            directory.claim(name, ClaimMode::Exclusive, UNIX)?;
        }
        spent += processor_time() - begun;
        while directory.poll_change().is_some() {}
    }
    Ok(nanoseconds(spent, names))
}

/// What the owners of `names` tell, in pieces as they travel. The pieces own their names, as those
/// that were decoded do.
fn deltas(names: usize) -> Result<Vec<OwnerDelta>, Box<dyn Error>> {
    let mut deltas = Vec::new();
    for owner in 0..names / PER_OWNER {
        let owner = owner_name(owner);
        let mut directory = Directory::new(node(&owner)?, Session(1), unlimited());
        for name in endpoints(&owner, 0..PER_OWNER)? {
            directory.claim(name, ClaimMode::Exclusive, UNIX)?;
        }
        let mut known = OwnerHead::unknown(node(&owner)?);
        while let Some(delta) = directory.delta_for(&known, PIECE) {
            (known.session, known.version) = (delta.session, delta.upto);
            deltas.push(delta);
        }
    }
    Ok(deltas)
}

/// A replica that is told all, and what that cost.
fn fill(deltas: &[OwnerDelta]) -> Result<(Directory, Row), Box<dyn Error>> {
    let mut replica = Directory::new(node("replica")?, Session(1), unlimited());
    for delta in deltas {
        replica.set_reachable(&delta.owner, Session(1));
    }
    let claims: usize = deltas.iter().map(|delta| delta.claims.len()).sum();
    let mut spent = Duration::ZERO;
    for delta in deltas {
        let copy = copied(delta)?;
        let begun = processor_time();
        let applied = replica.apply(&copy);
        spent += processor_time() - begun;
        assert_eq!(applied, Applied::Advanced, "the pieces join");
        while replica.poll_change().is_some() {}
    }
    let row = Row {
        what: "claim told by another, ns",
        cost: nanoseconds(spent, claims),
    };
    Ok((replica, row))
}

fn ask(replica: &Directory, names: usize) -> Result<Vec<Row>, Box<dyn Error>> {
    let asked = scattered(names)?;
    let found = best(|| {
        for name in &asked {
            assert!(black_box(replica.owner_of(name)).is_some());
        }
        asked.len()
    });
    let absent: EndpointName = "absent".parse()?;
    let missed = best(|| {
        for _ in 0..ASKED {
            assert!(black_box(replica.owner_of(black_box(&absent))).is_none());
        }
        ASKED
    });
    let scanned = best(|| {
        for name in &asked[..PAGES] {
            black_box(replica.scan("", Some(name), 256));
        }
        PAGES
    });
    Ok(vec![
        Row {
            what: "look-up of a name, ns",
            cost: found,
        },
        Row {
            what: "look-up of a name that is not there, ns",
            cost: missed,
        },
        Row {
            what: "page of 256 names, ns",
            cost: scanned,
        },
    ])
}

fn tell(replica: &Directory, names: usize) -> Result<Vec<Row>, Box<dyn Error>> {
    let hashed = best(|| {
        for _ in 0..ASKED {
            black_box(black_box(replica).hash());
        }
        ASKED
    });
    let headed = best(|| {
        for bucket in 0..PAGES {
            black_box(replica.heads_in(bucket % 64).count());
        }
        PAGES
    });
    let owners = names / PER_OWNER;
    let mut known = Vec::new();
    for index in 0..PAGES {
        let owner = node(&owner_name(index * STRIDE % owners))?;
        let mut head = replica.head(&owner);
        head.version = Version((index * STRIDE % (PER_OWNER / 2)) as u64);
        known.push(head);
    }
    let told = best(|| {
        for head in &known {
            black_box(replica.delta_for(head, PIECE));
        }
        known.len()
    });
    Ok(vec![
        Row {
            what: "digest of all, ns",
            cost: hashed,
        },
        Row {
            what: "heads of one bucket of 64, ns",
            cost: headed,
        },
        Row {
            what: "delta of 24 KiB, ns",
            cost: told,
        },
    ])
}

fn judge(replica: &mut Directory, names: usize) -> Result<Vec<Row>, Box<dyn Error>> {
    let judged = owner_name(0);
    let judged = node(&judged)?;
    let turned = best(|| {
        for _ in 0..PAGES {
            replica.set_unreachable(&judged);
            replica.set_reachable(&judged, Session(1));
        }
        2 * PAGES
    });
    replica.tell_verdicts(2 * PER_OWNER);
    // Names of others on the left and right, and in the middle of the index.
    let own = endpoints(
        &owner_name(names / PER_OWNER / 2),
        PER_OWNER..PER_OWNER + PAGES,
    )?;
    let changed = best(|| {
        for name in &own {
            let claimed = replica.claim(name.clone(), ClaimMode::Exclusive, UNIX);
            assert!(claimed.is_ok(), "{claimed:?}");
        }
        for name in &own {
            replica.release(name);
        }
        while replica.poll_change().is_some() {}
        own.len()
    });
    Ok(vec![
        Row {
            what: "verdict about an owner of 1,000 names, ns",
            cost: turned,
        },
        Row {
            what: "claim and release among all of these, ns",
            cost: changed,
        },
    ])
}

/// The mean of one of the operations that `batch` does, in nanoseconds; the best of some batches.
fn best(mut batch: impl FnMut() -> usize) -> f64 {
    let timed = (0..BATCHES).map(|_| {
        let begun = processor_time();
        let operations = batch();
        nanoseconds(processor_time() - begun, operations)
    });
    timed.fold(f64::INFINITY, f64::min)
}

/// Time of the processor that this thread has had: what else the machine does is not in it.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
    time.expect("a thread has a clock of its own").into()
}

fn nanoseconds(spent: Duration, operations: usize) -> f64 {
    spent.as_secs_f64() * 1e9 / operations as f64
}

/// So many names, all over the index.
fn scattered(names: usize) -> Result<Vec<EndpointName>, Box<dyn Error>> {
    (0..ASKED)
        .map(|index| {
            let name = index * STRIDE % names;
            let owner = owner_name(name / PER_OWNER);
            Ok(endpoints(&owner, name % PER_OWNER..name % PER_OWNER + 1)?.remove(0))
        })
        .collect()
}

fn endpoints(
    owner: &str,
    numbers: std::ops::Range<usize>,
) -> Result<Vec<EndpointName>, Box<dyn Error>> {
    numbers
        .map(|number| Ok(format!("{owner}.service-{number:06}").parse()?))
        .collect()
}

fn copied(delta: &OwnerDelta) -> Result<OwnerDelta, Box<dyn Error>> {
    let mut copy = delta.clone();
    for claim in &mut copy.claims {
        claim.name = claim.name.as_str().parse()?;
    }
    Ok(copy)
}

fn batches(names: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    (0..names)
        .step_by(PER_OWNER)
        .map(move |first| first..names.min(first + PER_OWNER))
}

fn unlimited() -> DirectoryLimits {
    DirectoryLimits {
        names_max: usize::MAX,
        name_bytes_max: usize::MAX,
        names_per_owner_max: usize::MAX,
        name_bytes_per_owner_max: usize::MAX,
        ..DirectoryLimits::default()
    }
}

fn owner_name(number: usize) -> String {
    format!("node-{number:04}")
}

fn node(name: &str) -> Result<NodeName, Box<dyn Error>> {
    Ok(name.parse()?)
}

const UNIX: Duration = Duration::from_secs(1_800_000_000);
const PER_OWNER: usize = 1_000;
/// Bytes of a delta, as an exchange has it.
const PIECE: usize = 24 * 1024;
const ASKED: usize = 20_000;
const PAGES: usize = 500;
const BATCHES: usize = 5;
/// A prime, and so one that comes to all places.
const STRIDE: usize = 7_919;
