//! Aborts the process, with a backtrace, when a simulated step asks the system for the time or for
//! randomness: such a step would not repeat.
//!
//! The standard library and nearly every crate get both through libc's `clock_gettime` and
//! `getrandom`. A program that links this crate has them replaced: the linker prefers the
//! program's own. They pass every call on to the kernel, unless the calling thread is
//! [`Armed`]. Linux only; elsewhere nothing is watched.
//!
//! What makes its system calls by itself is not caught, nor is what asks once and remembers: the
//! standard library's hash maps draw their keys once per thread, hence [`seed_hash_maps`].

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

/// While this lives, its thread must ask for neither time nor randomness.
#[must_use = "the tripwire is taken down when this is dropped"]
pub struct Armed {
    before: Watch,
    /// It belongs to its thread.
    _thread: PhantomData<*const ()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Watch {
    Off,
    On,
    /// Randomness is handed out: these words over and over.
    Seeding([u64; 2]),
}

thread_local! {
    static WATCH: Cell<Watch> = const { Cell::new(Watch::Off) };
}

/// Forbids this thread to ask the system for time and randomness.
pub fn arm() -> Armed {
    // Drawn now if they never were.
    std::hint::black_box(std::hash::RandomState::new());
    Armed {
        before: WATCH.replace(Watch::On),
        _thread: PhantomData,
    }
}

/// Gives this thread's hash maps keys that follow from `words`, so that even the order of their
/// entries repeats. Returns whether it came in time: before the thread made its first.
pub fn seed_hash_maps(words: [u64; 2]) -> bool {
    let before = WATCH.replace(Watch::Seeding(words));
    std::hint::black_box(std::hash::RandomState::new());
    WATCH.replace(before) != Watch::Seeding(words)
}

impl Drop for Armed {
    fn drop(&mut self) {
        WATCH.set(self.before);
    }
}

impl fmt::Debug for Armed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Armed").finish_non_exhaustive()
    }
}

/// Says who asked, and ends the process: an answer would spoil the run, and an error would be
/// handled by somebody.
#[cfg(target_os = "linux")]
fn trip(what: &str) -> ! {
    WATCH.set(Watch::Off);
    let backtrace = std::backtrace::Backtrace::force_capture();
    eprintln!("tripwire: a simulated step asks the system for {what}\n{backtrace}");
    std::process::abort()
}

#[cfg(target_os = "linux")]
#[expect(
    unsafe_code,
    reason = "libc's functions are replaced by name, and have C's signatures"
)]
mod replaced {
    use std::ffi::{c_int, c_long, c_uint, c_void};

    use libc::{clockid_t, size_t, ssize_t, timespec};

    use super::{WATCH, Watch, trip};

    /// # Safety
    /// As libc's: `time` points to room for a `timespec`.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
        if WATCH.get() == Watch::On {
            trip("the time");
        }
        // SAFETY: the kernel's contract is libc's, which our caller keeps.
        let result = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
        c_int::try_from(result).unwrap_or(-1)
    }

    /// # Safety
    /// As libc's: `buffer` points to `length` bytes of room.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn getrandom(buffer: *mut c_void, length: size_t, flags: c_uint) -> ssize_t {
        match WATCH.get() {
            Watch::On => trip("randomness"),
            Watch::Off => {
                // SAFETY: the kernel's contract is libc's, which our caller keeps.
                let result: c_long =
                    unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) };
                ssize_t::try_from(result).unwrap_or(-1)
            }
            Watch::Seeding([first, second]) => {
                WATCH.set(Watch::Seeding([second, !first]));
                let words = [first.to_ne_bytes(), second.to_ne_bytes()].concat();
                let filled = length.min(words.len());
                // SAFETY: `filled` is within what our caller made room for, and within the words.
                unsafe { buffer.cast::<u8>().copy_from(words.as_ptr(), filled) };
                ssize_t::try_from(filled).unwrap_or(-1)
            }
        }
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::collections::HashSet;
    use std::thread;
    use std::time::Instant;

    use super::*;

    fn order(words: [u64; 2]) -> Vec<u32> {
        let on_fresh_thread = move || {
            assert!(seed_hash_maps(words));
            (0..100).collect::<HashSet<_>>().into_iter().collect()
        };
        thread::scope(|scope| scope.spawn(on_fresh_thread).join()).unwrap()
    }

    #[test]
    fn hash_maps_of_one_seed_have_one_order() {
        assert_eq!(order([1, 2]), order([1, 2]));
        assert_ne!(order([1, 2]), order([1, 3]));
    }

    #[test]
    fn keys_that_were_drawn_are_too_late_to_seed() {
        drop(HashSet::<u32>::from([1]));
        assert!(!seed_hash_maps([1, 2]));
    }

    #[test]
    fn another_thread_may_ask_and_so_may_this_one_afterwards() {
        let armed = arm();
        thread::scope(|scope| scope.spawn(Instant::now).join()).unwrap();
        drop(armed);
        assert!(Instant::now().elapsed().as_secs() < 1000);
    }
}
