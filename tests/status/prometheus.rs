//! Tests that Prometheus and its own checker read the metrics (Debian: `prometheus`).

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use hit7_support::http::get;
use hit7_support::{Program, free_port, skip, until};

use crate::serve;

#[test]
fn promtool_accepts_the_metrics() {
    let registry = serve("1day");
    registry.client().register_as("main", "ana");
    let metrics = get(registry.http(), "/metrics");
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    let mut check = Command::new("promtool");
    let check = check.args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = check.stdout(Stdio::piped()).spawn() else {
        return skip("no promtool here; apt-get install prometheus");
    };
    child.stdin.take().unwrap().write_all(metrics.body.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty() && output.stdout.is_empty(),
        "{output:?}"
    );
}

#[test]
fn prometheus_scrapes_the_metrics() {
    let data = tempfile::tempdir().unwrap();
    let registry = serve("1day");
    registry.client().register_as("main", "ana");
    let config = data.path().join("prometheus.yml");
    let job = format!("{{job_name: hit7, static_configs: [{{targets: ['{}']}}]}}", registry.http());
    fs::write(&config, format!("global: {{scrape_interval: 1s}}\nscrape_configs: [{job}]\n"))
        .unwrap();
    // Prometheus does not print which port it got.
    let addr = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut command = Command::new("prometheus");
    command.arg(format!("--config.file={}", config.display()));
    command.arg(format!("--storage.tsdb.path={}", data.path().join("series").display()));
    command.arg(format!("--web.listen-address={addr}"));
    let Ok(_prometheus) = Program::spawn(command) else {
        return skip("no prometheus here; apt-get install prometheus");
    };
    until("as many reasons as there are", || {
        let text = get(registry.http(), "/metrics").body;
        let reasons = text.matches("\nhit7_turned_away_total{").count();
        (reasons > 10 && answer(addr, "count(hit7_turned_away_total)")? == reasons.to_string())
            .then_some(())
    });
    for name in ["hit7_next_window_members", "hit7_log_writable", "hit7_registrations_total"] {
        until(name, || {
            let text = get(registry.http(), "/metrics").body;
            let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
            let value = line.unwrap().split_once(' ').unwrap().1;
            (answer(addr, name)? == value && value != "0").then_some(())
        });
    }
}

/// Returns the answer of Prometheus to `query`, once it has one.
fn answer(prometheus: SocketAddr, query: &str) -> Option<String> {
    TcpStream::connect(prometheus).ok()?;
    let answer = get(prometheus, &format!("/api/v1/query?query={query}"));
    let value = (answer.status == 200).then(|| answer.json())?;
    Some(value["data"]["result"][0]["value"][1].as_str()?.to_owned())
}
