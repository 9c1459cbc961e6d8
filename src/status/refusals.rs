//! Counts what the HTTP server turns away or cuts, by reason, for the metrics.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use strum::{IntoStaticStr, VariantArray};

/// Why a connection or a request was turned away, or a connection cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub(super) enum Refusal {
    /// All connections are taken.
    TooManyConnections,
    /// The client's address has as many connections as one address may have.
    TooManyFromAddress,
    /// As many event streams are open as there may be.
    TooManyStreams,
    /// As many large answers are being read as there may be.
    TooManyLargeAnswers,
    /// The request names a host that is not this server's.
    WrongHost,
    /// The head of a request did not come whole in time.
    SlowRequest,
    /// The client took its answer more slowly than it may.
    SlowReader,
}

impl Refusal {
    /// Returns the reason's name in metrics and error responses.
    pub(super) fn name(self) -> &'static str {
        self.into()
    }
}

/// A counter for each reason, the only label.
pub(super) type CountersByReason = Family<[(&'static str, &'static str); 1], Counter>;

/// Counters of what was turned away since the start, shared by all clones.
#[derive(Clone, Debug)]
pub(super) struct Refusals(CountersByReason);

impl Refusals {
    /// Creates a counter for every reason, at 0.
    pub(super) fn new() -> Refusals {
        let refusals = Refusals(CountersByReason::default());
        Refusal::VARIANTS.iter().for_each(|why| drop(refusals.counter(*why)));
        refusals
    }

    /// Returns the counters as one metric, which shares their counts.
    pub(super) fn metric(&self) -> CountersByReason {
        self.0.clone()
    }

    /// Counts what was turned away for this reason.
    pub(super) fn count(&self, why: Refusal) {
        self.counter(why).inc();
    }

    fn counter(&self, why: Refusal) -> Counter {
        self.0.get_or_create_owned(&[("reason", why.name())])
    }
}
