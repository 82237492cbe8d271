//! Watches the log for errors: an ERROR says that something is broken.

use std::sync::{Arc, Mutex, PoisonError};

use tracing::dispatcher::{self, DefaultGuard, Dispatch};
use tracing::field::{Field, Visit};
use tracing::metadata::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber, span};

/// The first error that was logged, if there was one.
#[derive(Debug, Clone, Default)]
pub(super) struct ErrorWatch {
    first: Arc<Mutex<Option<String>>>,
}

impl ErrorWatch {
    /// Watches what this thread logs, until the guard is dropped. It goes where it went before, too.
    pub(super) fn begin(&self) -> DefaultGuard {
        let before = dispatcher::get_default(Dispatch::clone);
        let watch = Watch {
            before,
            level: LevelFilter::current().max(LevelFilter::ERROR),
            errors: self.clone(),
        };
        dispatcher::set_default(&Dispatch::new(watch))
    }

    pub(super) fn first(&self) -> Option<String> {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        first.clone()
    }
}

struct Watch {
    before: Dispatch,
    level: LevelFilter,
    errors: ErrorWatch,
}

impl Subscriber for Watch {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if *metadata.level() == Level::ERROR {
            return Interest::always();
        }
        self.before.register_callsite(metadata)
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR || self.before.enabled(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        self.before.new_span(span)
    }

    fn record(&self, span: &span::Id, values: &span::Record<'_>) {
        self.before.record(span, values);
    }

    fn record_follows_from(&self, span: &span::Id, follows: &span::Id) {
        self.before.record_follows_from(span, follows);
    }

    fn event(&self, event: &Event<'_>) {
        if *event.metadata().level() == Level::ERROR {
            let mut words = Words(event.metadata().target().to_owned());
            event.record(&mut words);
            let first = &self.errors.first;
            let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert(words.0);
        }
        if self.before.enabled(event.metadata()) {
            self.before.event(event);
        }
    }

    fn enter(&self, span: &span::Id) {
        self.before.enter(span);
    }

    fn exit(&self, span: &span::Id) {
        self.before.exit(span);
    }

    fn clone_span(&self, span: &span::Id) -> span::Id {
        self.before.clone_span(span)
    }

    fn try_close(&self, span: span::Id) -> bool {
        self.before.try_close(span)
    }
}

/// An event in words.
struct Words(String);

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0 += &format!(" {field}={value:?}");
    }
}
