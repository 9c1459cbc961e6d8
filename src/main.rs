//! The program: wires the rooms together, and says how it ended.

mod cli;
#[path = "main/hosts.rs"]
mod hosts;
#[path = "main/show.rs"]
mod show;

use std::cell::Cell;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use hit7::archive::{Archive, Document, ReadError};
use hit7::client::{self, Target, Watched};
use hit7::clock::Clock;
use hit7::cookie::Key;
use hit7::keyfile;
use hit7::limit::Rate;
use hit7::proto::Name;
use hit7::registry::Caps;
use hit7::server::{self, Server};
use hit7::status::Status;
use hit7::store::Disk;
use hit7::udp::Sockets;
use hit7::view::{self, Logs, Screen};
use hit7::window::Window;
use ipnet::IpNet;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::sync::mpsc::{self, UnboundedSender};

use cli::{Cli, Command, pages};
use hosts::{bind, resolve};
use show::{View, print, print_bytes, print_line, print_lines, print_message};

/// How long a stop waits for work in the background.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(200);

/// RejectReason the program ends early.
enum Failure {
    /// It failed, and says so.
    Told(String),
    /// Whoever read the output has what they wanted: that is success.
    ClosedPipe,
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::Told(error.to_string())
    }
}

fn main() -> ExitCode {
    let Cli { command, logs } = Cli::parse();
    let live = command.wants_live() && show::can_draw();
    let logs = show::log(&logs, live);
    match run(command, live.then_some(logs)) {
        Ok(()) | Err(Failure::ClosedPipe) => ExitCode::SUCCESS,
        Err(Failure::Told(why)) => {
            print_message(&why);
            ExitCode::FAILURE
        }
    }
}

/// With `logs` it runs in a live view, which shows them.
fn run(command: Command, logs: Option<Logs>) -> Result<(), Failure> {
    match command {
        Command::Serve(args) => in_runtime(|runtime| serve(runtime, args, logs)),
        Command::Join(args) => in_runtime(|runtime| join(runtime, args, logs)),
        Command::Peers(args) => in_runtime(|runtime| show_peers(runtime, &args)),
        Command::Watch(args) => in_runtime(|runtime| watch(runtime, args, logs)),
        Command::History(args) => show_history(&args),
        Command::Completions(args) => print_bytes(&pages::completions(args.shell)),
        Command::Man(args) => manuals(args.dir.as_deref()),
    }
}

fn in_runtime(work: impl FnOnce(&Runtime) -> Result<(), Failure>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = work(&runtime);
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    done
}

fn serve(runtime: &Runtime, args: cli::Serve, logs: Option<Logs>) -> Result<(), Failure> {
    let (events, happened) = mpsc::unbounded_channel();
    let stop = Stop::default();
    let printer = runtime.block_on(async {
        let stopped = stop.signal()?;
        let sockets = bind(args.host.as_deref(), args.port).await?;
        let listening = sockets.local_addrs();
        let data = args.data.display().to_string();
        let documents = args.data.join("windows");
        let page = args.http.map(listen_http).transpose()?;
        let (rekey, rekeyed) = mpsc::unbounded_channel();
        if let Some(path) = args.key_file.clone() {
            reread_keys(path, rekey)?;
        }
        let clock = Clock::start();
        let server = start(args, clock)?;
        let page = match page {
            Some(page) => Some(Status::start(page, server.watch(), documents, clock)?),
            None => None,
        };
        let on = page.as_ref().map(Status::addr);
        log_small_buffer(&sockets);
        log_listening(&listening, on);
        let screen = logs.and_then(enter);
        if screen.is_none() {
            print_listening(&listening, &data, on)?;
        }
        let live = view::Serve::new(listening, data, server.watch());
        let view = screen.map(|screen| View { screen, live, clock, leave: stop.left.clone() });
        let printer = show::show(happened, view, |event| {
            view::log(&event);
            // It goes on telling what is wrong, though nobody reads what is right.
            let _ = view::server_line(&event).map_or(Ok(()), print);
            Ok(())
        });
        let served = server.run(sockets, stopped, rekeyed, events).await;
        drop(page);
        Ok::<_, Failure>((printer, served))
    })?;
    let (printer, served) = printer;
    let printed = printer.finish(stop.stopped.get());
    tracing::info!("stopped");
    served?;
    printed
}

fn start(args: cli::Serve, clock: Clock) -> Result<Server, Failure> {
    let config = server_config(args)?;
    let window_s = config.length.seconds();
    let (version, private) = (env!("CARGO_PKG_VERSION"), !config.keys.is_empty());
    tracing::info!(version, window_s, data = %config.data.display(), private, "starting");
    let server = Server::start(config, clock)?;
    server.mended().iter().for_each(|line| tracing::warn!("{line}"));
    Ok(server)
}

fn log_listening(listening: &[SocketAddr], page: Option<SocketAddr>) {
    listening.iter().for_each(|addr| tracing::info!(%addr, "listening"));
    page.iter().for_each(|addr| tracing::info!(%addr, "page over HTTP"));
}

fn print_listening(
    listening: &[SocketAddr],
    data: &str,
    page: Option<SocketAddr>,
) -> Result<(), Failure> {
    let listening = listening.iter().map(|addr| format!("listening on {addr}"));
    let page = page.map(|addr| format!("page on http://{addr}"));
    match print_lines(listening.chain([format!("data in {}", view::plain(data))]).chain(page)) {
        // It goes on serving, whoever watches.
        Ok(()) | Err(Failure::ClosedPipe) => Ok(()),
        Err(failure) => Err(failure),
    }
}

/// What the system did not allow is said once: in a burst it drops what is beyond.
fn log_small_buffer(sockets: &Sockets) {
    if let Some((has, asked)) = sockets.small_recv_buffer() {
        tracing::warn!(
            has_kib = has >> 10,
            asked_kib = asked >> 10,
            "the system gives a smaller receive buffer than was asked for: in a burst, datagrams \
             are dropped; to allow it: sysctl -w net.core.rmem_max={asked}"
        );
    }
}

/// Takes the terminal; if it cannot be taken, lines are printed.
fn enter(logs: Logs) -> Option<Screen<io::Stdout>> {
    Screen::enter(io::stdout, logs).ok()
}

/// Listens for the page; who can reach it can read it, and is told so.
fn listen_http(addr: SocketAddr) -> Result<TcpListener, Failure> {
    let failed =
        |error| hosts::cannot_listen(&format!("--http {}", addr.ip()), addr.port(), &error);
    let listener = TcpListener::bind(addr).map_err(failed)?;
    if !addr.ip().to_canonical().is_loopback() {
        tracing::warn!(
            "--http {addr}: whoever reaches that address sees the page, with no password and no \
             encryption; to keep it to this machine, use --http 127.0.0.1:{}",
            addr.port()
        );
    }
    Ok(listener)
}

fn server_config(args: cli::Serve) -> Result<server::Config, Failure> {
    let loopback = || ["127.0.0.0/8", "::1/128"].map(|net| net.parse().expect("these are nets"));
    let trust: Vec<IpNet> = if args.trust.is_empty() { loopback().to_vec() } else { args.trust };
    let keys = args.key_file.as_deref().map(keyfile::read).transpose()?;
    Ok(server::Config {
        length: args.window,
        data: args.data,
        cap: args.peers,
        caps: Caps {
            per_ip: args.max_per_ip,
            room: args.max_room,
            window: args.max_window,
            rooms: args.max_rooms,
        },
        rate: Rate { per_second: args.rate, burst: args.burst },
        keys: keys.unwrap_or_default(),
        trust,
        keep: args.keep.0,
        accept_damage: args.accept_damage,
        workers: args.workers.unwrap_or_else(cores),
    })
}

/// Where a port can be shared, one worker for each core.
fn cores() -> usize {
    match cfg!(target_os = "linux") {
        true => std::thread::available_parallelism().map_or(1, usize::from),
        false => 1,
    }
}

/// Reads the keys again on SIGHUP; if that fails, the old ones stay.
fn reread_keys(path: PathBuf, rekey: UnboundedSender<Vec<Key>>) -> Result<(), Failure> {
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            // Beside: a pipe may keep its reader waiting.
            let path = path.clone();
            let read = tokio::task::spawn_blocking(move || keyfile::read(&path)).await;
            let Ok(read) = read else { continue };
            match read {
                Ok(keys) => {
                    tracing::info!(keys = keys.len(), "keys read again");
                    let _ = rekey.send(keys);
                }
                Err(error) => tracing::error!("{error}; the keys stay as they were"),
            }
        }
    });
    Ok(())
}

fn join(runtime: &Runtime, args: cli::Join, logs: Option<Logs>) -> Result<(), Failure> {
    let (events, happened) = mpsc::unbounded_channel();
    let lines = if args.json { view::client_json } else { view::client_line };
    let (stop, clock) = (Stop::default(), Clock::start());
    let registry = args.registry.to_string();
    let (stopped, config) = runtime.block_on(async {
        let stopped = stop.signal()?;
        Ok::<_, Failure>((stopped, client_config(args).await?))
    })?;
    let view = logs.and_then(enter).map(|screen| {
        let live = view::Join::new(view::Participant::new(&config, registry));
        View { screen, live, clock, leave: stop.left.clone() }
    });
    let printer = show::show(happened, view, move |event| print(lines(&event)));
    let done = runtime.block_on(client::join(config, clock, stopped, events));
    let printed = printer.finish(stop.stopped.get());
    done?;
    printed
}

async fn client_config(args: cli::Join) -> Result<client::Config, Failure> {
    let host_name = || Name::nearest(&gethostname::gethostname().to_string_lossy());
    Ok(client::Config {
        target: target(&args.registry, args.timeout).await?,
        room: args.room,
        name: args.name.or_else(host_name),
        text: args.say,
        once: args.once,
    })
}

fn watch(runtime: &Runtime, args: cli::Watch, logs: Option<Logs>) -> Result<(), Failure> {
    let (seen, happened) = mpsc::unbounded_channel();
    let (stop, clock) = (Stop::default(), Clock::start());
    let (stopped, target) = runtime.block_on(async {
        let stopped = stop.signal()?;
        Ok::<_, Failure>((stopped, target(&args.registry, args.timeout).await?))
    })?;
    let view = logs.and_then(enter).map(|screen| {
        let live = view::Watch::new(args.room.clone(), args.registry.to_string());
        View { screen, live, clock, leave: stop.left.clone() }
    });
    let lines = if args.json { view::watched_json } else { view::watched_lines };
    let mut last = None;
    let printer = show::show(happened, view, move |watched| match is_news(&mut last, &watched) {
        true => lines(&watched).into_iter().try_for_each(print),
        false => Ok(()),
    });
    let done = runtime.block_on(client::watch(target, args.room, clock, stopped, seen));
    let printed = printer.finish(stop.stopped.get());
    done?;
    printed
}

/// Whether it is not the window that was seen last.
fn is_news(last: &mut Option<Window>, watched: &Watched) -> bool {
    match watched {
        Watched::Window(roster) => last.replace(roster.window) != Some(roster.window),
        Watched::Silent(_) => true,
    }
}

fn manuals(dir: Option<&Path>) -> Result<(), Failure> {
    let Some(dir) = dir else { return print_bytes(&pages::manual()?) };
    let shown = || view::plain(&dir.display().to_string());
    pages::write_manuals(dir).map_err(|error| {
        Failure::Told(format!("cannot write manual pages to {}: {error}", shown()))
    })
}

async fn target(registry: &cli::Registry, patience: Duration) -> Result<Target, Failure> {
    let registries = resolve(&registry.host, registry.port).await?;
    let keys = registry.key_file.as_deref().map(keyfile::read).transpose()?;
    let key = keys.and_then(|keys| keys.into_iter().next());
    Ok(Target { registries, bind: registry.bind, key, patience })
}

fn show_peers(runtime: &Runtime, args: &cli::Peers) -> Result<(), Failure> {
    let roster = runtime.block_on(async {
        let target = target(&args.registry, args.timeout).await?;
        Ok::<_, Failure>(client::peers(target, args.room.clone(), Clock::start()).await?)
    })?;
    match args.json {
        true => print_lines([view::roster_json(&roster)]),
        false => print_lines(view::roster_lines(&roster)),
    }
}

fn show_history(args: &cli::History) -> Result<(), Failure> {
    if !args.data.is_dir() {
        let data = view::plain(&args.data.display().to_string());
        return Err(Failure::Told(format!("no folder {data}; name the registry's with --data")));
    }
    let archive = Archive::new(Disk, args.data.join("windows"));
    if let Some(window) = args.window {
        let document = archive.read(window)?;
        return match args.json {
            true => print_lines([view::document_json(&document)]),
            false => print_lines(view::document_lines(&document)),
        };
    }
    show_windows(&archive, if args.json { view::history_json } else { view::history_line })
}

/// A document that cannot be read is told of, and does not hide the others.
fn show_windows(archive: &Archive, show: fn(&Document) -> String) -> Result<(), Failure> {
    let mut wrong: Option<ReadError> = None;
    for listed in archive.windows()? {
        match archive.read(listed.window) {
            Ok(document) => print_line(&show(&document))?,
            // A registry that runs has just pruned it.
            Err(ReadError::Missing { .. }) => {}
            Err(error) => {
                let earlier = wrong.replace(error);
                earlier.iter().for_each(|error| print_message(&error.to_string()));
            }
        }
    }
    wrong.map_or(Ok(()), |error| Err(error.into()))
}

/// RejectReason it stops.
#[derive(Default)]
struct Stop {
    /// Told by a live view, where Ctrl-C is a key.
    left: Arc<Notify>,
    /// Whether it was asked to stop.
    stopped: Cell<bool>,
}

impl Stop {
    /// Resolves at SIGINT or SIGTERM, or when a live view is left, and notes that.
    fn signal(&self) -> Result<impl Future<Output = ()>, Failure> {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(async move {
            let why = tokio::select! {
                _ = interrupt.recv() => "SIGINT",
                _ = terminate.recv() => "SIGTERM",
                () = self.left.notified() => "q or Ctrl-C",
            };
            tracing::info!(why, "stopping");
            self.stopped.set(true);
        })
    }
}
