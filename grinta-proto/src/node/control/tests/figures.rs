//! The figures that membership and names promise, on a local network in virtual time.
//!
//! A normal run takes a few seeds and the smaller sizes. With `GRINTA_FIGURES=full` in the
//! environment there are more seeds, and all the sizes that are promised: minutes. With `--nocapture`
//! each test says what it measured.

mod members;
mod names;

fn is_full() -> bool {
    std::env::var("GRINTA_FIGURES").is_ok_and(|value| value == "full")
}
