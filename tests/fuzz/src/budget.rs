//! How much memory a decoder may take for an input.

/// Runs a decoder of an input of `len` bytes, and asserts that the heap it held at any time was
/// within bounds: a fixed part for what every call has, and a multiple of the input. Without the
/// multiple's being small, a peer would buy our memory cheaply.
pub(crate) fn within_budget<T>(len: usize, decode: impl FnOnce() -> T) -> T {
    let mut decoded = None;
    let spent = allocation_counter::measure(|| decoded = Some(decode())).bytes_max;
    let budget = FIXED + len as u64 * PER_BYTE;
    assert!(
        spent <= budget,
        "an input of {len} bytes took {spent} bytes of memory; the budget is {budget}"
    );
    decoded.expect("measuring runs the decoder")
}

const FIXED: u64 = 64 * 1024;
const PER_BYTE: u64 = 16;
