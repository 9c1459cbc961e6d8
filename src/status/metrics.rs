//! Answers `/metrics`: the registry's metrics for Prometheus, in the text format that it accepts.

use std::fmt::{self, Write};
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::snapshot::{Snapshot, Trouble};
use crate::tally::RejectReason;
use crate::window::Wall;

use super::Site;
use super::feed::Feed;
use super::lateness::lateness;
use super::places::Places;
use super::refusals::Refusals;
use super::reply::Problem;

const OPENMETRICS: &str = "application/openmetrics-text";
const OPENMETRICS_FULL: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const CLASSIC_FULL: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The metrics of the registry and of the program.
pub(super) struct Metrics(Registry);

impl Metrics {
    /// Registers the metrics of the registry, and of the HTTP server itself.
    pub(super) fn new(feed: &Feed, refusals: &Refusals, places: Places) -> Metrics {
        let mut registry = Registry::default();
        registry.register(
            "hit7_window_open_lateness_seconds",
            "How late windows opened",
            feed.lateness().clone(),
        );
        registry.register(
            "hit7_http_turned_away",
            "Connections and requests over HTTP that were refused, or cut, by reason",
            refusals.metric(),
        );
        let (snapshots, started) = (feed.snapshots(), feed.started());
        registry.register_collector(Box::new(SnapshotCollector { snapshots, started, places }));
        Metrics(registry)
    }
}

/// Answers `/metrics` with all metrics as text, in the format of OpenMetrics or of Prometheus.
pub(super) async fn show(State(site): State<Arc<Site>>, headers: HeaderMap) -> Response {
    let mut text = String::new();
    if text::encode(&mut text, &site.metrics.0).is_err() {
        return Problem::failed("the metrics cannot be written").into_response();
    }
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    if accepted.into_iter().any(|accepted| accepted.contains(OPENMETRICS)) {
        return ([(header::CONTENT_TYPE, OPENMETRICS_FULL)], text).into_response();
    }
    ([(header::CONTENT_TYPE, CLASSIC_FULL)], classic(&text)).into_response()
}

/// Converts OpenMetrics text to the older text format of Prometheus, where a counter's HELP and
/// TYPE lines name it with the suffix `_total`.
fn classic(openmetrics: &str) -> String {
    let counters: Vec<&str> = openmetrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut text = String::with_capacity(openmetrics.len() + 512);
    for line in openmetrics.lines().filter(|line| *line != "# EOF") {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(kind), Some(name), Some(rest)) if counters.contains(&name) => {
                let _ = writeln!(text, "# {kind} {name}_total {rest}");
            }
            _ => {
                let _ = writeln!(text, "{line}");
            }
        }
    }
    text
}

/// Collects the metrics from the last snapshot at each scrape.
#[derive(Debug)]
struct SnapshotCollector {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    started: Wall,
    places: Places,
}

impl Collector for SnapshotCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let snapshot = self.snapshots.borrow().clone();
        let mut writer = Writer(encoder);
        writer.datagrams(&snapshot)?;
        writer.windows(&snapshot, self.started)?;
        let open = "Connections over HTTP that are open";
        writer.gauge("hit7_http_connections", open, self.places.count())?;
        writer.program(&snapshot, self.started)
    }
}

/// Encodes the metrics of a snapshot.
struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn datagrams(&mut self, snapshot: &Snapshot) -> fmt::Result {
        let totals = &snapshot.totals;
        self.counter("hit7_datagrams_received", "Datagrams that came", totals.received)?;
        self.counter(
            "hit7_requests_answered",
            "Requests that were answered with what they asked for",
            totals.answered,
        )?;
        self.counter("hit7_challenges", "Cookies sent to strangers", totals.challenged)?;
        self.counter(
            "hit7_registrations",
            "Registrations and withdrawals made durable",
            totals.registrations(),
        )?;
        self.counter("hit7_records", "Records made durable in the journal", totals.recorded)?;
        let help = "Datagrams that were dropped or refused, by reason.";
        let mut family =
            self.0.encode_descriptor("hit7_turned_away", help, None, MetricType::Counter)?;
        for why in RejectReason::all() {
            let labels = [("reason", why.name())];
            ConstCounter::new(snapshot.rejected.of(why)).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn windows(&mut self, snapshot: &Snapshot, started: Wall) -> fmt::Result {
        let (current, totals) = (&snapshot.current, &snapshot.totals);
        self.counter("hit7_windows_opened", "Windows that opened", totals.opened)?;
        self.counter(
            "hit7_windows_missed",
            "Windows with members that never opened",
            totals.missed,
        )?;
        self.gauge("hit7_window_members", "Members of the current window", current.len())?;
        let rooms = current.rosters().len();
        self.gauge("hit7_window_rooms", "Rooms of the current window", rooms)?;
        self.gauge(
            "hit7_window_start_timestamp_seconds",
            "When the current window began, since the Unix epoch",
            seconds(current.window().opens()),
        )?;
        self.gauge(
            "hit7_window_length_seconds",
            "How long the current window is",
            u64::from(snapshot.length.seconds()),
        )?;
        self.gauge("hit7_next_window_members", "Members of the next window", snapshot.waiting)?;
        let mut late = snapshot.past.iter().rev().map(|past| lateness(past, started));
        let last = late.find_map(|late| late).unwrap_or_default();
        self.gauge(
            "hit7_window_last_open_lateness_seconds",
            "How late the last window opened",
            last.as_secs_f64(),
        )
    }

    fn program(&mut self, snapshot: &Snapshot, started: Wall) -> fmt::Result {
        let works = usize::from(snapshot.journal_works);
        self.gauge("hit7_log_writable", "Whether the journal takes records: 1 or 0", works)?;
        self.gauge(
            "process_start_time_seconds",
            "When the program was started, since the Unix epoch",
            seconds(started),
        )?;
        self.troubles(snapshot)?;
        let help = "The program's version, in a label.";
        let mut family =
            self.0.encode_descriptor("hit7_build_info", help, None, MetricType::Gauge)?;
        let labels = [("version", env!("CARGO_PKG_VERSION"))];
        ConstGauge::new(1u64).encode(family.encode_family(&labels)?)
    }

    fn troubles(&mut self, snapshot: &Snapshot) -> fmt::Result {
        let help = "Whether this is wrong with the registry, as /readyz says: 1 or 0.";
        let mut family = self.0.encode_descriptor("hit7_trouble", help, None, MetricType::Gauge)?;
        for code in Trouble::CODES {
            let count = snapshot.troubles.iter().filter(|trouble| trouble.code() == *code).count();
            ConstGauge::new(count as u64).encode(family.encode_family(&[("code", *code)])?)?;
        }
        Ok(())
    }

    fn counter(&mut self, name: &str, help: &str, count: u64) -> fmt::Result {
        let help = format!("{help}.");
        let metric = self.0.encode_descriptor(name, &help, None, MetricType::Counter)?;
        ConstCounter::new(count).encode(metric)
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> fmt::Result {
        let help = format!("{help}.");
        let metric = self.0.encode_descriptor(name, &help, None, MetricType::Gauge)?;
        ConstGauge::new(value).encode(metric)
    }
}

fn seconds(moment: Wall) -> f64 {
    moment.millis() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_the_classic_format_a_counter_is_described_by_its_whole_name() {
        let openmetrics = "# HELP a Counts.\n# TYPE a counter\na_total 1\n# HELP b Is.\n# TYPE b gauge\n\
                    b 2\n# EOF\n";
        assert_eq!(
            classic(openmetrics),
            "# HELP a_total Counts.\n# TYPE a_total counter\na_total 1\n# HELP b Is.\n\
             # TYPE b gauge\nb 2\n"
        );
    }
}
