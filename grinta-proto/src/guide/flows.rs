//! Flows: messages, codecs, back-pressure, calls.
//!
//! A flow is an ordered, reliable channel of messages to an endpoint: one way or both ways, within
//! the process or over a QUIC stream of its own. What a program can see of it is the same either way.
//!
//! # Its two ends
//!
//! The dialling side says what it wants, [`sender`](crate::Dial::sender),
//! [`receiver`](crate::Dial::receiver), [`bidi`](crate::Dial::bidi) or [`caller`](crate::Dial::caller),
//! the accepting side the opposite. Each end has the interface of tokio's `mpsc`:
//! [`send`](crate::Sender::send), [`try_send`](crate::Sender::try_send),
//! [`reserve`](crate::Sender::reserve), [`recv`](crate::Receiver::recv),
//! [`recv_many`](crate::Receiver::recv_many) and so on. A message that cannot be sent comes back with
//! the error.
//!
//! # Codecs
//!
//! Both sides name a codec for each direction, and with it what is encoded. If they differ, the dial
//! is refused before a message is sent. [`Raw`](crate::Raw) is for bytes and text,
//! [`Protobuf`](crate::Protobuf), `Json` and `Postcard` for types, and
//! [`Codec`](crate::Codec) is a trait of three methods. Within a process, values of one type move as
//! they are.
//!
//! # Back-pressure
//!
//! Nothing is dropped, and nothing grows without a bound. A sender whose reader does not read waits,
//! after 64 KiB here and what the other node's window holds; other flows of the connection do not
//! notice. A reader that does not read for five seconds while its sender waits is told of once, in
//! the log and in the [counters](crate::Counters::slow_consumers). A message longer than the
//! receiver takes is refused at the sender, and costs nothing at the receiver.
//!
//! # Ends
//!
//! [`Sender::finish`](crate::Sender::finish) ends a direction and waits until the other node has all
//! of it; dropping a sender ends it, too. Dropping a receiver stops the sender. A flow never ends
//! cleanly before everything was read: `Ok(None)` means all, an error says what happened. The
//! [crate's documentation](crate#how-flows-end) has the table.
//!
//! # Calls
//!
//! [`Dial::request`](crate::Dial::request) carries one message with the dial, for an exchange in one
//! round trip. For more, a flow of calls carries requests that are answered, many at a time and in
//! any order:
//!
//! ```
//! use std::time::Duration;
//!
//! use grinta_proto::{CallError, Caller, Fabric, Json, Request};
//!
//! # type Failure = Box<dyn std::error::Error>;
//! async fn serve(fabric: &Fabric) -> Result<(), Failure> {
//!     let endpoint = fabric.endpoint("squares").await?;
//!     let mut calls = endpoint.accept().await?.calls::<u32, u32, _>(Json)?;
//!     while let Some(Request { message, responder }) = calls.next().await? {
//!         match message.checked_mul(message) {
//!             Some(square) => responder.respond(square).await?,
//!             None => responder.refuse(1, "too large"),
//!         }
//!     }
//!     Ok(())
//! }
//!
//! async fn ask(fabric: &Fabric) -> Result<(), Failure> {
//!     let caller: Caller<u32, u32> = fabric.dial("squares").caller(Json).await?;
//!     match caller.call(12).deadline(Duration::from_secs(1)).await {
//!         Ok(square) => println!("{square}"),
//!         Err(CallError::Refused { detail, .. }) => println!("refused: {detail}"),
//!         // It can be asked again without a thought only if nobody can have acted on it.
//!         Err(error) if !error.may_have_run() => println!("again: {error}"),
//!         Err(error) => return Err(error.into()),
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # Bytes
//!
//! A flow of [`Bytes`](bytes::Bytes) is a byte stream as well: [`ByteStream`](crate::ByteStream)
//! implements the traits of `futures-io`, and `grinta_tokio::Compat` those of tokio.
//!
//! # Dropped futures
//!
//! Every `async fn` says in its documentation what happens when its future is dropped. Dropping
//! [`recv`](crate::Receiver::recv) never loses a message.
//!
//! Next: [trust](super::trust).
