//! `hit7 serve`: runs a registry and its status page.

use std::io;
use std::net::{SocketAddr, TcpListener};

use hit7::clock::Clock;
use hit7::limit::Rate;
use hit7::registry::Caps;
use hit7::server::{self, Server};
use hit7::status::{self, Status};
use hit7::udp::{Sockets, check_own};
use hit7::view::{self, Logs};
use ipnet::IpNet;
use socket2::{Domain, Socket, Type};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::hosts::{bind, cannot_listen};
use super::open_files::Shares;
use super::show::{View, print, print_lines, spawn_printer};
use super::stop::{Hangup, Stop};
use super::{Failure, MAX_QUEUED_EVENTS, keys, open_files};
use crate::cli;

/// The most HTTP connections that wait to be accepted; the system may allow fewer.
const HTTP_BACKLOG: i32 = 1024;

/// The addresses and the data folder of a registry, printed when the registry starts.
struct Place {
    listening: Vec<SocketAddr>,
    data: String,
    page: Option<SocketAddr>,
}

pub(crate) fn serve(
    runtime: &Runtime,
    args: cli::Serve,
    logs: Option<Logs>,
) -> Result<(), Failure> {
    let (events, shown) = mpsc::channel(MAX_QUEUED_EVENTS);
    runtime.block_on(async {
        let mut sockets = bind(args.host.as_deref(), args.port)?;
        let (reread, rekeyed) = keys::reread(args.access.key_file.clone())?;
        let stop = Stop::on_signals(Hangup::Rereads(reread))?;
        let listener = args.http.map(listen_http).transpose()?;
        let (data, clock) = (args.data.clone(), Clock::start());
        let (hosts, trust) = (args.http_host.clone(), trusted(&args.access));
        let server = start(args, clock)?;
        let addresses = sockets.local_addrs().len();
        let Shares { send_only, connections } =
            open_files::shares(server.workers(), addresses, listener.is_some())?;
        sockets.limit_send_only(send_only);
        if listener.is_some() && connections < status::MAX_CONNECTIONS {
            tracing::warn!(connections, "few open files (ulimit -n): fewer HTTP connections");
        }
        let windows = data.join("windows");
        let config = status::Config { windows, hosts, connections, trust };
        let page =
            listener.map(|page| Status::start(page, server.watch(), config, clock)).transpose()?;
        let page_addr = page.as_ref().map(Status::addr);
        let data = data.display().to_string();
        let place = Place { listening: sockets.local_addrs(), data, page: page_addr };
        log_start(&sockets, &place);
        let live = view::Serve::new(place.listening.clone(), place.data.clone(), server.watch());
        let view = logs.map(|logs| View { logs, live, clock, is_optional: true });
        let begin = move || print_place(&place);
        let printer = spawn_printer(shown, view, stop.clone(), begin, print_event)?;
        let served = server.run(sockets, stop.requested(), rekeyed, events).await;
        drop(page);
        let printed = printer.wait_until_shown(&stop).await;
        served?;
        tracing::info!("stopped");
        printed
    })
}

fn start(args: cli::Serve, clock: Clock) -> Result<Server, Failure> {
    let config = server_config(args)?;
    let window_s = config.length.seconds();
    let (version, private) = (env!("CARGO_PKG_VERSION"), !config.keys.is_empty());
    tracing::info!(version, window_s, data = %config.data.display(), private, "starting");
    let server = Server::start(config, clock)?;
    server.notes().iter().for_each(|line| tracing::warn!("{line}"));
    Ok(server)
}

fn server_config(args: cli::Serve) -> Result<server::Config, Failure> {
    let trust = trusted(&args.access);
    let keys = args.access.key_file.as_deref().map(keys::read).transpose()?;
    let cli::Limits { max_per_ip, max_room, max_window, max_rooms, rate, burst } = args.limits;
    Ok(server::Config {
        length: args.window,
        data: args.data,
        cap: args.peers,
        caps: Caps { per_ip: max_per_ip, room: max_room, window: max_window, rooms: max_rooms },
        rate: Rate { per_second: rate, burst },
        keys: keys.unwrap_or_default(),
        trust,
        keep: args.keep.0,
        accept_damage: args.accept_damage,
        accept_weak_disk: args.accept_weak_disk,
        workers: args.workers.unwrap_or_else(default_workers),
    })
}

/// Returns the sources that are trusted: those of `--trust`, or loopback.
fn trusted(access: &cli::Access) -> Vec<IpNet> {
    match &access.trust[..] {
        [] => ["127.0.0.0/8", "::1/128"].map(|net| net.parse().expect("these are nets")).to_vec(),
        trust => trust.to_vec(),
    }
}

/// Returns the default for `--workers`: one a core on Linux, where they can share a port, else 1.
fn default_workers() -> usize {
    match cfg!(target_os = "linux") {
        true => std::thread::available_parallelism().map_or(1, usize::from),
        false => 1,
    }
}

/// Binds the TCP port of the status page; warns if other machines can reach the address, as the
/// page has no password.
fn listen_http(addr: SocketAddr) -> Result<TcpListener, Failure> {
    let failed = |error| cannot_listen("--http", addr, &error);
    let listener = check_own(addr.ip()).and_then(|()| bind_http(addr)).map_err(failed)?;
    if !addr.ip().to_canonical().is_loopback() {
        tracing::warn!(
            "--http {addr}: whoever reaches that address sees the page, with no password and no \
             encryption; to keep it to this machine, use --http 127.0.0.1:{}",
            addr.port()
        );
    }
    Ok(listener)
}

/// Binds as `TcpListener::bind` does, also where the system refuses the option.
fn bind_http(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
    if cfg!(unix) {
        // Without it, connections that a former process closed keep the port for a minute.
        let _ = socket.set_reuse_address(true);
    }
    socket.bind(&addr.into())?;
    socket.listen(HTTP_BACKLOG)?;
    Ok(socket.into())
}

fn log_start(sockets: &Sockets, place: &Place) {
    // Warns once, at the start: in a burst, the kernel drops what does not fit into the buffer.
    if let Some((has, asked)) = sockets.small_recv_buffer() {
        tracing::warn!(
            has_kib = has >> 10,
            asked_kib = asked >> 10,
            "the system gives a smaller receive buffer than was asked for: in a burst, datagrams \
             are dropped; to allow it: sysctl -w net.core.rmem_max={asked}"
        );
    }
    if !sockets.know_local_addresses() {
        tracing::warn!(
            "the system does not say at which of its addresses a datagram came: on a machine with \
             several, answers may leave from another; to listen on one, give it as HOST"
        );
    }
    place.listening.iter().for_each(|addr| tracing::info!(%addr, "listening"));
    place.page.iter().for_each(|addr| tracing::info!(%addr, "page over HTTP"));
}

fn print_place(place: &Place) -> Result<(), Failure> {
    let listening = place.listening.iter().map(|addr| format!("listening on {addr}"));
    let data = format!("data in {}", view::escape_controls(&place.data));
    let page = place.page.map(|addr| format!("page on http://{addr}"));
    match print_lines(listening.chain([data]).chain(page)) {
        // A stdout that is closed, or on a full disk, does not stop the registry.
        Ok(()) | Err(Failure::ClosedPipe) => {}
        Err(Failure::Message(why)) => tracing::warn!("{why}; the registry goes on"),
    }
    Ok(())
}

fn print_event(event: server::Event) -> Result<(), Failure> {
    view::log(&event);
    // A closed stdout is ignored: the event is already logged.
    let _ = view::server_line(&event).map_or(Ok(()), print);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;

    use super::*;

    fn config(flags: &[&str]) -> server::Config {
        let args = cli::Cli::parse_from([&["hit7", "serve", "8080"], flags].concat());
        let cli::Command::Serve(args) = args.command else { panic!("it is serve") };
        server_config(args).ok().expect("it is valid")
    }

    #[test]
    fn each_flag_goes_to_its_place() {
        let limits = [
            "--max-per-ip",
            "1",
            "--max-room",
            "2",
            "--max-window",
            "3",
            "--max-rooms",
            "4",
            "--rate",
            "5",
            "--burst",
            "6",
            "--workers",
            "7",
            "--peers",
            "8",
        ];
        let it = config(&limits);
        assert_eq!(it.caps, Caps { per_ip: 1, room: 2, window: 3, rooms: 4 });
        assert_eq!(it.rate, Rate { per_second: 5, burst: 6 });
        assert_eq!((it.workers, it.cap.peers()), (7, 8));
        let it = config(&["--window", "2s", "--keep", "3d", "--data", "here", "--accept-damage"]);
        assert_eq!((it.length.seconds(), it.keep), (2, Some(Duration::from_secs(3 * 86_400))));
        assert_eq!((it.data.to_str(), it.accept_damage), (Some("here"), true));
        assert!(!it.accept_weak_disk && config(&["--accept-weak-disk"]).accept_weak_disk);
    }

    #[test]
    fn loopback_is_trusted_unless_others_are_named() {
        let nets = |it: server::Config| it.trust.iter().map(IpNet::to_string).collect::<Vec<_>>();
        assert_eq!(nets(config(&[])), ["127.0.0.0/8", "::1/128"]);
        assert_eq!(nets(config(&["--trust", "192.0.2.0/24"])), ["192.0.2.0/24"]);
    }
}
