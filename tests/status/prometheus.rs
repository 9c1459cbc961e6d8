//! What Prometheus' own tool says of the metrics (Debian: `prometheus`).

use std::io::Write;
use std::process::{Command, Stdio};

use crate::http::get;
use crate::registry::{Client, Registry};

#[test]
fn promtool_accepts_the_metrics() {
    let data = tempfile::tempdir().unwrap();
    let registry = Registry::start("1h", data.path());
    Client::new(&registry).register("main", "ana");
    let metrics = get(registry.http, "/metrics");
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    let mut check = Command::new("promtool");
    let check = check.args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = check.stdout(Stdio::piped()).spawn() else {
        eprintln!("SKIPPED: no promtool here; apt-get install prometheus");
        return;
    };
    child.stdin.take().unwrap().write_all(metrics.body.as_bytes()).unwrap();
    let said = child.wait_with_output().unwrap();
    assert!(said.status.success() && said.stderr.is_empty() && said.stdout.is_empty(), "{said:?}");
}
