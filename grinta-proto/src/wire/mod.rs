//! The wire contract: what travels between nodes, as `proto/grinta/v1` specifies it.
//!
//! Frames are cut from streams, messages are validated once, here, and trusted inside.

pub(crate) mod call;
pub mod claims;
pub mod code;
pub mod control;
pub mod frame;
#[expect(
    unnameable_types,
    unreachable_pub,
    reason = "generated from the contract, for any use"
)]
#[rustfmt::skip]
pub(crate) mod generated;
pub mod malformed;
pub mod stream;
