//! Cubic with two amendments: the window is capped, and it opens when the connection closes.
//!
//! The cap keeps a fast local path from growing queues until they drop. The opening lets the
//! closing packet out: quinn-proto withholds it while the window is full (quinn issue 2785).

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use quinn_proto::RttEstimator;
use quinn_proto::congestion::{Controller, ControllerFactory, Cubic, CubicConfig};

/// Opens the window of the connection that it was made for.
#[derive(Debug, Clone, Default)]
pub(crate) struct WindowRelease(Arc<AtomicBool>);

impl WindowRelease {
    /// Lets everything out from now on; for a connection that is about to close.
    pub(crate) fn release(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_released(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Makes the controllers of one connection.
#[derive(Debug)]
pub(crate) struct CappedCubic {
    pub(crate) window_max: u64,
    pub(crate) release: WindowRelease,
}

impl ControllerFactory for CappedCubic {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let mut config = CubicConfig::default();
        config.initial_window(INITIAL_WINDOW.min(self.window_max));
        Box::new(Capped {
            inner: Cubic::new(Arc::new(config), now, current_mtu),
            window_max: self.window_max,
            release: self.release.clone(),
        })
    }
}

#[derive(Clone)]
struct Capped {
    inner: Cubic,
    window_max: u64,
    release: WindowRelease,
}

impl Controller for Capped {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.inner.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        let at_the_cap = self.inner.window() >= self.window_max;
        self.inner
            .on_ack(now, sent, bytes, app_limited || at_the_cap, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.inner
            .on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.inner
            .on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.inner.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        if self.release.is_released() {
            return u64::MAX;
        }
        self.inner.window().min(self.window_max)
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// About eighty full packets: a mesh's paths are short and known to be good for that much.
const INITIAL_WINDOW: u64 = 120_000;
