//! `hit7 join`, `watch` and `peers`: the commands of a client.

use std::time::Duration;

use hit7::client::{self, ClientError, Lookup, Target, Watched};
use hit7::clock::Clock;
use hit7::proto::{Code, Name};
use hit7::view::{self, Logs};
use hit7::window::Window;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::hosts::{is_address, require_scope, resolve};
use super::show::{View, print, print_lines, spawn_printer};
use super::stop::{self, Hangup, Stop};
use super::{Failure, MAX_QUEUED_EVENTS, keys};
use crate::cli;

/// The capacity of the queue of a watched room's rosters to show: small, as each may be large.
const MAX_QUEUED_ROSTERS: usize = 16;

pub(crate) fn join(runtime: &Runtime, args: cli::Join, logs: Option<Logs>) -> Result<(), Failure> {
    let (events, shown) = mpsc::channel(MAX_QUEUED_EVENTS);
    let line = if args.json { view::client_json } else { view::client_line };
    let clock = Clock::start();
    let registry = args.registry.to_string();
    let config = client_config(args)?;
    let stop = Stop::on_signals(Hangup::Stops)?;
    let live = view::Join::new(view::Participant::new(&config, registry));
    let view = logs.map(|logs| View { logs, live, clock, is_optional: false });
    let print = move |event| print(line(&event));
    let printer = spawn_printer(shown, view, stop.clone(), || Ok(()), print)?;
    runtime.block_on(async {
        let done = client::join(config, clock, stop.requested(), events).await;
        let printed = printer.wait_until_shown(&stop).await;
        done.map_err(failed)?;
        printed
    })
}

fn client_config(args: cli::Join) -> Result<client::Config, Failure> {
    let host_name = || Name::nearest(&gethostname::gethostname().to_string_lossy());
    Ok(client::Config {
        target: target(&args.registry, args.timeout)?,
        room: args.room,
        name: args.name.or_else(host_name),
        text: args.say,
        once: args.once,
    })
}

pub(crate) fn watch(
    runtime: &Runtime,
    args: cli::Watch,
    logs: Option<Logs>,
) -> Result<(), Failure> {
    let (events, shown) = mpsc::channel(MAX_QUEUED_ROSTERS);
    let clock = Clock::start();
    let target = target(&args.registry, args.timeout)?;
    let stop = Stop::on_signals(Hangup::Stops)?;
    let live = view::Watch::new(args.room.clone(), args.registry.to_string());
    let view = logs.map(|logs| View { logs, live, clock, is_optional: false });
    let lines = if args.json { view::watched_json } else { view::watched_lines };
    let mut last = None;
    let print = move |watched| match is_new(&mut last, &watched) {
        true => lines(&watched).into_iter().try_for_each(print),
        false => Ok(()),
    };
    let printer = spawn_printer(shown, view, stop.clone(), || Ok(()), print)?;
    runtime.block_on(async {
        let done = client::watch(target, args.room, clock, stop.requested(), events).await;
        let printed = printer.wait_until_shown(&stop).await;
        done.map_err(failed)?;
        printed
    })
}

/// Returns whether to print `watched`: a message always, a roster only if its window is not `last`,
/// which is then set to it. After a silence a window is printed again: the registry answers.
fn is_new(last: &mut Option<Window>, watched: &Watched) -> bool {
    match watched {
        Watched::Window(roster) => last.replace(roster.window) != Some(roster.window),
        Watched::Silent(..) => {
            *last = None;
            true
        }
        Watched::NotShown(_) => true,
    }
}

pub(crate) fn peers(runtime: &Runtime, args: &cli::Peers) -> Result<(), Failure> {
    let target = target(&args.registry, args.timeout)?;
    let roster = runtime.block_on(client::peers(target, args.room.clone(), Clock::start()));
    let roster = roster.map_err(failed)?;
    match args.json {
        true => print_lines([view::roster_json(&roster)]),
        false => print_lines(view::roster_lines(&roster)),
    }
}

/// Returns the failure for an error of a client, with the flag that helps.
fn failed(error: ClientError) -> Failure {
    let error = match error {
        ClientError::Refused { code, reason } => {
            ClientError::Refused { code, reason: view::quoted(&reason) }
        }
        error => error,
    };
    let remedy = match &error {
        ClientError::Bind(_) => "; another own address or port can be given with --bind",
        ClientError::OtherFamily { .. } => {
            "; give an address of the registry of that kind, or another --bind"
        }
        ClientError::Refused { code: Code::Forbidden, .. } => "; give a key of it with --key-file",
        _ => "",
    };
    Failure::Message(format!("{error}{remedy}"))
}

fn target(registry: &cli::Registry, timeout: Duration) -> Result<Target, Failure> {
    let registries = stop::suspendable(|| resolve(&registry.host, registry.port))?;
    require_scope(&registries)?;
    let lookup = lookup(registry)?;
    let keys = registry.key_file.as_deref().map(keys::read).transpose()?;
    let key = keys.and_then(|keys| keys.into_iter().next());
    Ok(Target { registries, lookup, bind: registry.bind.0.clone(), key, timeout })
}

/// Starts the thread that resolves the registry's name again; `None` if it is given by its address.
fn lookup(registry: &cli::Registry) -> Result<Option<Lookup>, Failure> {
    let (host, port) = (registry.host.clone(), registry.port);
    if is_address(&host) {
        return Ok(None);
    }
    Ok(Some(Lookup::start(move || resolve(&host, port).unwrap_or_default())?))
}

#[cfg(test)]
mod tests {
    use std::io;

    use hit7::udp::BindError;

    use super::*;

    fn roster(window: &str) -> Watched {
        let (window, room) = (window.parse().unwrap(), Default::default());
        let (closes_in, peers) = (Duration::ZERO, Vec::new());
        Watched::Window(client::Roster { room, window, count: 0, peers, closes_in })
    }

    #[test]
    fn a_watched_window_is_printed_once_and_messages_always() {
        let (mut last, one, two) = (None, "2026-11-23T11:29:00Z", "2026-11-23T11:30:00Z");
        let printed = [
            roster(one),
            roster(one),
            Watched::NotShown(1),
            Watched::NotShown(1),
            roster(one),
            roster(two),
            roster(two),
            roster(one),
            Watched::Silent(Duration::ZERO, client::Cause::Unknown),
            roster(one),
        ]
        .map(|watched| is_new(&mut last, &watched));
        assert_eq!(printed, [true, false, true, true, false, true, false, true, true, true]);
    }

    #[test]
    fn a_reason_that_must_be_escaped_fills_no_screen() {
        let reason = "\u{202e}".repeat(400);
        let error = ClientError::Refused { code: Code::BadField, reason };
        let Failure::Message(said) = failed(error) else { panic!("it is no closed pipe") };
        assert!(said.len() < 500 && said.ends_with("\\u{202e}…"), "{said}");
    }

    #[test]
    fn what_a_flag_can_help_is_told_with_the_flag() {
        let addr = "192.0.2.1:9".parse().unwrap();
        let refused = |code| ClientError::Refused { code, reason: "no".to_owned() };
        let source = io::ErrorKind::AddrInUse.into();
        for (error, flag) in [
            (ClientError::Bind(BindError { addr, source }), "given with --bind"),
            (
                ClientError::OtherFamily { registries: vec![addr], own: vec![addr] },
                "another --bind",
            ),
            (refused(Code::Forbidden), "with --key-file"),
            (refused(Code::BadField), "): no"),
        ] {
            let told = error.to_string();
            let Failure::Message(said) = failed(error) else { panic!("it is no closed pipe") };
            assert!(said.starts_with(&told) && said.contains(flag), "{said}");
            assert_eq!(said == told, !flag.contains("--"), "{said}");
        }
    }
}
