//! Checks the Host of each request: a web page elsewhere that rebinds its own name to the address of
//! this server (DNS rebinding) would otherwise read what only this machine should.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Site;
use super::refusals::Refusal;
use super::reply::Problem;

/// A host name or address in lower case, without port, brackets or final dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName(String);

impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<HostName, String> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(HostName(ip.to_canonical().to_string()));
        }
        let authority: Option<Authority> = text.parse().ok();
        let alone = authority.filter(|found| found.host() == text && !text.is_empty());
        alone.map(|found| host_of(&found)).ok_or_else(|| {
            "give a name like hit7.example.org, or an address, without port".to_owned()
        })
    }
}

/// Returns the host of `name`, `name:port`, `127.0.0.1:port` or `[::1]:port`.
fn host_of(authority: &Authority) -> HostName {
    let host = authority.host();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match host.parse::<IpAddr>() {
        Ok(ip) => HostName(ip.to_canonical().to_string()),
        Err(_) => HostName(host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()),
    }
}

/// The hosts that requests may name.
#[derive(Debug)]
pub(super) struct Hosts {
    names: Vec<HostName>,
    loopback: bool,
}

impl Hosts {
    /// Creates the rule of a server on `addr` that also has these `names`.
    pub(super) fn new(addr: SocketAddr, names: Vec<HostName>) -> Hosts {
        Hosts { names, loopback: addr.ip().to_canonical().is_loopback() }
    }

    /// Returns whether a request may name this host. An address is no name that can be rebound, and
    /// browsers resolve `localhost` themselves.
    fn allows(&self, host: &HostName) -> bool {
        let anything = !self.loopback && self.names.is_empty();
        let by_itself = match host.0.parse::<IpAddr>() {
            Ok(ip) => !self.loopback || ip.is_loopback(),
            Err(_) => host.0 == "localhost",
        };
        anything || by_itself || self.names.contains(host)
    }

    /// Returns whether a request may be answered. One that names no host is from no browser.
    fn admits(&self, request: &Request) -> bool {
        let mut named = request.headers().get_all(header::HOST).iter();
        let in_header = match (named.next(), named.next()) {
            (None, _) => true,
            (Some(host), None) => {
                let host = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
                host.is_some_and(|host| self.allows(&host_of(&host)))
            }
            (Some(_), Some(_)) => false,
        };
        let in_target = request.uri().authority();
        in_header && in_target.is_none_or(|host| self.allows(&host_of(host)))
    }
}

/// Answers a request with 421 unless its host is one of this server's.
pub(super) async fn check(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    if site.hosts.admits(&request) {
        return next.run(request).await;
    }
    site.refusals.count(Refusal::WrongHost);
    let reason = "this server does not answer to that Host: use localhost or an address, or start \
                  hit7 with --http-host NAME";
    Problem::new(StatusCode::MISDIRECTED_REQUEST, Refusal::WrongHost.name(), reason).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    fn hosts(addr: &str, names: &[&str]) -> Hosts {
        Hosts::new(addr.parse().unwrap(), names.iter().map(|name| name.parse().unwrap()).collect())
    }

    fn admits(hosts: &Hosts, named: &[&str]) -> bool {
        let request = named
            .iter()
            .fold(Request::get("/"), |request, host| request.header(header::HOST, *host));
        hosts.admits(&request.body(Body::empty()).unwrap())
    }

    #[test]
    fn on_loopback_only_names_of_this_machine_are_answered() {
        for addr in ["127.0.0.1:8081", "[::1]:8081", "[::ffff:127.0.0.1]:8081"] {
            let hosts = hosts(addr, &["Page.Example.org"]);
            for host in [
                "localhost",
                "LOCALHOST.:8081",
                "127.0.0.1",
                "127.3.2.1:80",
                "[::1]:8081",
                "[::1]",
                "[::ffff:127.0.0.1]:1",
                "page.example.org",
                "page.example.ORG.:8081",
            ] {
                assert!(admits(&hosts, &[host]), "{addr}: {host}");
            }
            for host in [
                "evil.example",
                "localhost.evil.example",
                "127.0.0.1.evil.example",
                "10.0.0.1",
                "0.0.0.0:8081",
                "[::]",
                "",
                "a b",
                "localhost@evil.example",
                "2130706433",
            ] {
                assert!(!admits(&hosts, &[host]), "{addr}: {host}");
            }
            assert!(admits(&hosts, &[]), "a request without Host is from no browser");
            assert!(!admits(&hosts, &["localhost", "localhost"]), "two are ambiguous");
        }
    }

    #[test]
    fn elsewhere_any_host_is_answered_unless_names_are_given() {
        assert!(admits(&hosts("0.0.0.0:8081", &[]), &["page.example.org"]));
        let named = hosts("0.0.0.0:8081", &["page.example.org"]);
        for (host, admitted) in [
            ("page.example.org", true),
            ("10.0.0.1:8081", true),
            ("[2001:db8::1]", true),
            ("localhost", true),
            ("evil.example", false),
        ] {
            assert_eq!(admits(&named, &[host]), admitted, "{host}");
        }
    }

    #[test]
    fn a_target_in_absolute_form_is_checked_like_the_header() {
        let hosts = hosts("127.0.0.1:8081", &[]);
        for (target, admitted) in
            [("http://localhost:8081/", true), ("http://evil.example/", false)]
        {
            let request = Request::get(target).header(header::HOST, "localhost");
            assert_eq!(hosts.admits(&request.body(Body::empty()).unwrap()), admitted, "{target}");
        }
    }

    #[test]
    fn a_name_is_given_without_port() {
        for (text, name) in
            [("Page.example.org.", "page.example.org"), ("::1", "::1"), ("[::1]", "::1")]
        {
            assert_eq!(text.parse(), Ok(HostName(name.to_owned())), "{text}");
        }
        for text in ["", "a:80", "http://a", "a/b", "a b", "user@a"] {
            assert!(text.parse::<HostName>().is_err(), "{text}");
        }
    }
}
