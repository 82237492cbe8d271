//! The application: one node watches the names of a prefix while others come, go and take over.
//!
//! Nothing here knows which runtime drives it.

use grinta_proto::{Builder, Fabric, NameEvent, NameUpdate, NameWatch, StartError};

use super::common::{Failure, Nodes};

/// Starts three nodes, and tells what the first sees of the names of the others.
pub(crate) async fn run(
    start: impl AsyncFn(Builder) -> Result<Fabric, StartError>,
) -> Result<(), Failure> {
    let nodes = Nodes::new()?;
    let watcher = start(nodes.first("watcher")?).await?;
    let one = start(nodes.beside(&watcher, "one")?).await?;
    let two = start(nodes.beside(&watcher, "two")?).await?;
    for node in [&one, &two] {
        node.join().await?;
    }

    let database = one.endpoint("svc.database").await?;
    let mut watch = watcher.watch_names("svc.");
    next(&mut watch, "svc.database is served by one").await?;

    // Opens at once and serves nothing; its name goes on being the other's.
    let standby = two.endpoint("svc.database").standby().await?;
    let cache = two.endpoint("svc.cache").await?;
    // Not of the prefix: nobody hears of it.
    let other = one.endpoint("other").await?;
    next(&mut watch, "svc.cache is served by two").await?;

    // Whoever stands by takes over: the watch sees a name that moves, and no gap.
    drop(database);
    next(&mut watch, "svc.database went from one to two").await?;
    drop(cache);
    next(&mut watch, "svc.cache is gone; two served it").await?;

    // A node that ends takes its names along.
    two.shutdown().await;
    next(&mut watch, "svc.database is gone; two served it").await?;
    drop((standby, other));
    one.shutdown().await;
    watcher.shutdown().await;
    Ok(())
}

/// Waits for the next change, says it, and holds it against what it is to be.
async fn next(watch: &mut NameWatch, expected: &str) -> Result<(), Failure> {
    loop {
        // Else it tells that what was there from the beginning is complete.
        let NameUpdate::Changed(event) = watch.next().await? else {
            continue;
        };
        let change = match &event {
            NameEvent::Appeared { name, owner } => format!("{name} is served by {owner}"),
            NameEvent::Moved {
                name,
                previous,
                owner,
            } => format!("{name} went from {previous} to {owner}"),
            NameEvent::Gone { name, previous } => format!("{name} is gone; {previous} served it"),
            NameEvent::Reshared { .. } | _ => return Err(format!("unexpected: {event:?}").into()),
        };
        println!("{change}");
        return match change == expected {
            true => Ok(()),
            false => Err(format!("expected: {expected}").into()),
        };
    }
}
