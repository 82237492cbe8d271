//! Names: who owns one, who waits for one, who shares one.
//!
//! A name is one to 128 characters of `[A-Za-z0-9.-]`. Every node has a replica of all names, so a
//! look-up asks nobody. A change is known everywhere within a second or two.
//!
//! # One owner
//!
//! [`Fabric::endpoint`](crate::Fabric::endpoint) claims a name. Who claimed it first owns it; whoever
//! comes later is refused, with the owner. Two nodes that claim one name before they hear of each
//! other cannot both be right: the older claim stays, and the other endpoint is told, once, by
//! [`AcceptError::NameLost`](crate::AcceptError::NameLost). Its flows live on; new ones go to the
//! owner. Two sides of a partition may each have an owner until they meet.
//!
//! ```
//! use grinta_proto::{AcceptError, Fabric, Raw};
//!
//! # type Failure = Box<dyn std::error::Error>;
//! async fn lead(fabric: &Fabric) -> Result<(), Failure> {
//!     // Opens at once, and takes over when whoever owns the name gives it up or dies.
//!     let endpoint = fabric.endpoint("leader").standby().await?;
//!     loop {
//!         match endpoint.accept().await {
//!             Ok(incoming) => {
//!                 let mut orders = incoming.receiver::<String, _>(Raw)?;
//!                 while let Some(order) = orders.recv().await? {
//!                     println!("{order}");
//!                 }
//!             }
//!             // Another node was first; this one stands by.
//!             Err(AcceptError::NameLost { winner, .. }) => println!("{winner} leads"),
//!             Err(error) => return Err(error.into()),
//!         }
//!     }
//! }
//! ```
//!
//! Where two owners for a moment would do harm, [`confirmed`](crate::OpenEndpoint::confirmed) opens
//! only once a share of the other members sees this node as the owner. That is no consensus: it makes
//! the moment unlikely, not impossible.
//!
//! # Many owners
//!
//! With [`shared`](crate::OpenEndpoint::shared), all nodes that open a name serve it.
//! [`Dial::choose`](crate::Dial::choose) says which of them a dial goes to, and goes on to the next if
//! that one cannot be reached; [`Dial::at`](crate::Dial::at) dials one of them;
//! [`Fabric::fan_out`](crate::Fabric::fan_out) asks all:
//!
//! ```
//! use grinta_proto::{Choice, Fabric, Json};
//!
//! # type Failure = Box<dyn std::error::Error>;
//! async fn work(fabric: &Fabric) -> Result<(), Failure> {
//!     let dial = fabric.dial("workers").choose(Choice::RoundRobin);
//!     let worker = dial.caller::<u64, u64, _>(Json).await?;
//!     println!("{}", worker.call(7).await?);
//!
//!     let mut answers = fabric.fan_out("workers").call::<u64, u64, _>(Json, 7)?;
//!     while let Some(outcome) = answers.next().await {
//!         println!("{}: {:?}", outcome.node, outcome.result);
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # What a dial finds
//!
//! - The name is owned by a member that is up, or suspected: the dial goes there.
//! - Its owner is down: [`DialCause::Unreachable`](crate::DialCause::Unreachable), at once, with how
//!   long ago. Whoever stands by for the name, or claims it now, owns it from then on; an owner that
//!   had only been cut off has the older claim, and with it the name once it is back.
//! - Nobody holds it: [`DialCause::NotFound`](crate::DialCause::NotFound), at once, with names that
//!   look alike; or with [`wait_for_name`](crate::Dial::wait_for_name), the dial waits.
//! - This node has not learnt all names yet: the dial waits until it has.
//! - The replica was behind, and the node that is dialled no longer serves the name: the dial looks
//!   again, within the same deadline.
//!
//! # Lists, watches, questions
//!
//! [`Fabric::names`](crate::Fabric::names) lists names by prefix, in pages.
//! [`Fabric::watch_names`](crate::Fabric::watch_names) tells what is there, then every change; a
//! watcher that falls behind is told so and begins anew, so that what it holds is right again.
//! [`Fabric::query`](crate::Fabric::query) asks other members instead of the own replica, by the first
//! answer or by a vote with a required participation.
//!
//! Next: [flows](super::flows).
