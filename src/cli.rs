//! The arguments of the command line, and the values that they are parsed into.

pub(crate) mod environment;
pub(crate) mod pages;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use hit7::mesh::ListCap;
use hit7::proto::{Name, Room, Text};
use hit7::status::HostName;
use hit7::udp::all_addresses;
use hit7::window::{Length, Window};
use ipnet::IpNet;

/// hit7 introduces peers one minute at a time
///
/// A registry listens on UDP. Whoever registers during 11:28 is introduced to the others at 11:29:00,
/// all at the same moment, and they greet each other directly.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, propagate_version = true)]
#[command(
    after_help = "Times are UTC. Exit codes: 0 done, 1 failed or not finished at a stop, 2 bad \
                        arguments."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) logs: Logs,
}

/// The flags for what is logged on stderr, and how.
#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// How much is logged on stderr
    #[arg(
        long,
        env = "HIT7_LOG_LEVEL",
        value_name = "LEVEL",
        default_value = "warn",
        global = true,
        help_heading = "Logs"
    )]
    pub(crate) log_level: Level,
    /// Format of the log
    #[arg(
        long,
        env = "HIT7_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text",
        global = true,
        help_heading = "Logs"
    )]
    pub(crate) log_format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Serve(Serve),
    Join(Join),
    Peers(Peers),
    Watch(Watch),
    History(History),
    Completions(Completions),
    Man(Man),
}

impl Command {
    /// Returns whether the command draws a live view if stdout is a terminal.
    pub(crate) fn wants_live(&self) -> bool {
        match self {
            Command::Serve(serve) => !serve.plain,
            Command::Join(join) => !join.plain && !join.json,
            Command::Watch(watch) => !watch.plain && !watch.json,
            _ => false,
        }
    }
}

/// Run a registry
///
/// Who registers during 11:28 is introduced to the others at 11:29:00.
/// SIGINT, SIGTERM or SIGQUIT stops it, within a second; a second one ends it at once.
/// SIGHUP rereads the key file, or stops it if the terminal that it was started in is gone.
#[derive(Debug, Args)]
#[command(allow_missing_positional = true)]
pub(crate) struct Serve {
    /// Address or host name to listen on, every address it resolves to [default: all]
    pub(crate) host: Option<String>,
    /// UDP port; 0 picks a free one
    #[arg(value_parser = |text: &str| parse_port(text, 0))]
    pub(crate) port: u16,
    /// Length of a window: whole seconds, from 1s to 1day
    #[arg(long, env = "HIT7_WINDOW", default_value = "1m", value_parser = parse_window_length)]
    pub(crate) window: Length,
    /// Folder of the journal and the documents
    #[arg(long, env = "HIT7_DATA", value_name = "DIR", default_value = "hit7-data")]
    pub(crate) data: PathBuf,
    /// Most peers that one member is told; in larger rooms each gets a share
    #[arg(long, env = "HIT7_PEERS", value_name = "N", default_value = "200", value_parser = parse_list_cap)]
    pub(crate) peers: ListCap,
    #[command(flatten)]
    pub(crate) access: Access,
    #[command(flatten)]
    pub(crate) limits: Limits,
    /// Threads that receive and send; on Linux each has sockets of its own [default: one a core]
    #[arg(long, env = "HIT7_WORKERS", value_name = "N", value_parser = parse_worker_count)]
    pub(crate) workers: Option<usize>,
    /// Address and port, or a port of 127.0.0.1, for a page, JSON and metrics over HTTP [default: off]
    #[arg(long, env = "HIT7_HTTP", value_name = "ADDR", value_parser = parse_http_addr)]
    pub(crate) http: Option<SocketAddr>,
    /// Host name under which the page is reached, as through a proxy; repeatable, or separated by
    /// commas [default: localhost and addresses; any, if others can reach the page]
    #[arg(long, env = "HIT7_HTTP_HOST", value_name = "NAME", value_delimiter = ',')]
    pub(crate) http_host: Vec<HostName>,
    /// How long documents are kept, or 'forever'
    #[arg(long, env = "HIT7_KEEP", value_name = "AGE", default_value = "30d", value_parser = parse_keep)]
    pub(crate) keep: Keep,
    /// Start although lines of the journal are damaged, without them; the damaged file is copied aside
    #[arg(long, env = "HIT7_ACCEPT_DAMAGE", value_parser = FalseyValueParser::new())]
    pub(crate) accept_damage: bool,
    /// Start although the file system of --data cannot lock files or sync folders: what was acked may be lost
    #[arg(long, env = "HIT7_ACCEPT_WEAK_DISK", value_parser = FalseyValueParser::new())]
    pub(crate) accept_weak_disk: bool,
    /// Print lines, also in a terminal
    #[arg(long, env = "HIT7_PLAIN", value_parser = FalseyValueParser::new())]
    pub(crate) plain: bool,
}

/// The flags for who may use a registry: trusted sources and keys.
#[derive(Debug, Args)]
pub(crate) struct Access {
    /// Sources exempt from the rate and the cap per address, and without a key also from the cookie;
    /// repeatable, or separated by commas [default: loopback]
    #[arg(long, env = "HIT7_TRUST", value_name = "CIDR", value_parser = parse_cidr, value_delimiter = ',')]
    pub(crate) trust: Vec<IpNet>,
    /// Keys of a private registry, one a line: only who has one is let in; read again on SIGHUP
    #[arg(long, env = "HIT7_KEY_FILE", value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
}

/// The flags for how much of a registry one window, room or address may use.
#[derive(Debug, Args)]
pub(crate) struct Limits {
    /// Most members of a window from one address, or one /64 of IPv6; 0: no limit
    #[arg(long, env = "HIT7_MAX_PER_IP", value_name = "N", default_value = "256", value_parser = parse_number::<usize>)]
    pub(crate) max_per_ip: usize,
    /// Most members of a room; 0: no limit
    #[arg(long, env = "HIT7_MAX_ROOM", value_name = "N", default_value = "100000", value_parser = parse_number::<usize>)]
    pub(crate) max_room: usize,
    /// Most members of a window; 0: no limit
    #[arg(long, env = "HIT7_MAX_WINDOW", value_name = "N", default_value = "1000000", value_parser = parse_number::<usize>)]
    pub(crate) max_window: usize,
    /// Most rooms of a window; 0: no limit
    #[arg(long, env = "HIT7_MAX_ROOMS", value_name = "N", default_value = "10000", value_parser = parse_number::<usize>)]
    pub(crate) max_rooms: usize,
    /// Requests a second that one address may send; 0: no limit
    #[arg(long, env = "HIT7_RATE", value_name = "N", default_value = "50", value_parser = parse_number::<u32>)]
    pub(crate) rate: u32,
    /// Requests that one address may send at once; 0 counts as 1
    #[arg(long, env = "HIT7_BURST", value_name = "N", default_value = "500", value_parser = parse_number::<u32>)]
    pub(crate) burst: u32,
}

/// Register, wait for the window, greet its members, renew
///
/// Takes part in one window after the other, until Ctrl-C, or until its terminal closes.
#[derive(Debug, Args)]
pub(crate) struct Join {
    #[command(flatten)]
    pub(crate) registry: Registry,
    /// What others call you: words of any script, at most 64 bytes [default: this host's name]
    #[arg(long, env = "HIT7_NAME")]
    pub(crate) name: Option<Name>,
    /// The group to be in: one word of any script, at most 32 bytes
    #[arg(long, env = "HIT7_ROOM", default_value_t)]
    pub(crate) room: Room,
    /// What to say when greeting: at most 200 characters
    #[arg(long, env = "HIT7_SAY", value_name = "TEXT")]
    pub(crate) say: Option<Text>,
    /// Take part in one window and exit when it closes
    #[arg(long, env = "HIT7_ONCE", value_parser = FalseyValueParser::new())]
    pub(crate) once: bool,
    /// Print lines, also in a terminal
    #[arg(long, env = "HIT7_PLAIN", value_parser = FalseyValueParser::new())]
    pub(crate) plain: bool,
    /// Print one JSON object a line
    #[arg(long, env = "HIT7_JSON", value_parser = FalseyValueParser::new())]
    pub(crate) json: bool,
    /// How long the registry may be silent before that is reported; with --once, join then fails unless a
    /// window is promised
    #[arg(long, env = "HIT7_TIMEOUT", default_value = "30s", value_parser = parse_timeout)]
    pub(crate) timeout: Duration,
}

/// Show who is in the current window
///
/// All its members, however many pages that takes.
#[derive(Debug, Args)]
pub(crate) struct Peers {
    #[command(flatten)]
    pub(crate) registry: Registry,
    /// The room whose members are shown
    #[arg(long, env = "HIT7_ROOM", default_value_t)]
    pub(crate) room: Room,
    /// Print a JSON object
    #[arg(long, env = "HIT7_JSON", value_parser = FalseyValueParser::new())]
    pub(crate) json: bool,
    /// How long to wait for the registry
    #[arg(long, env = "HIT7_TIMEOUT", default_value = "5s", value_parser = parse_timeout)]
    pub(crate) timeout: Duration,
}

/// Follow the current window of a room without taking part
///
/// Live in a terminal, else a line for each window and each of its members. Ctrl-C ends it.
#[derive(Debug, Args)]
pub(crate) struct Watch {
    #[command(flatten)]
    pub(crate) registry: Registry,
    /// The room whose members are shown
    #[arg(long, env = "HIT7_ROOM", default_value_t)]
    pub(crate) room: Room,
    /// Print lines, also in a terminal
    #[arg(long, env = "HIT7_PLAIN", value_parser = FalseyValueParser::new())]
    pub(crate) plain: bool,
    /// Print one JSON object a window
    #[arg(long, env = "HIT7_JSON", value_parser = FalseyValueParser::new())]
    pub(crate) json: bool,
    /// How long to wait for the registry before saying that it is silent
    #[arg(long, env = "HIT7_TIMEOUT", default_value = "5s", value_parser = parse_timeout)]
    pub(crate) timeout: Duration,
}

/// Show the windows on disk
///
/// Oldest first, with their members per room; or one window's document. Works while a registry runs
/// and without one.
#[derive(Debug, Args)]
pub(crate) struct History {
    /// Print the document of this window (2026-11-23T11:29:00Z), not the list
    pub(crate) window: Option<Window>,
    /// Data folder of the registry
    #[arg(long, env = "HIT7_DATA", value_name = "DIR", default_value = "hit7-data")]
    pub(crate) data: PathBuf,
    /// Print one JSON object a line
    #[arg(long, env = "HIT7_JSON", value_parser = FalseyValueParser::new())]
    pub(crate) json: bool,
}

/// Print a script by which a shell completes the commands and flags of hit7
///
/// Put it into your shell's folder of completions.
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell that the script is for
    pub(crate) shell: Shell,
}

/// Print the manual page, or write all of them into a folder
///
/// With a folder, the pages of hit7 and of each of its commands are written there.
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Folder for the manual pages, which is created if it does not exist
    pub(crate) dir: Option<PathBuf>,
}

/// The arguments for the address of a registry, and how to reach it.
#[derive(Debug, Args)]
pub(crate) struct Registry {
    /// The registry's address or host name
    pub(crate) host: String,
    /// The registry's UDP port
    #[arg(value_parser = |text: &str| parse_port(text, 1))]
    pub(crate) port: u16,
    /// Keys of a private registry, one a line, of which the first is used
    #[arg(long, env = "HIT7_KEY_FILE", value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Own address, port, or both, to send from [default: any]
    ///
    /// An address reaches others of its kind alone, IPv4 or IPv6; a port alone reaches both.
    #[arg(
        long, env = "HIT7_BIND", value_name = "ADDR", value_parser = parse_own_addresses,
        default_value = "0", hide_default_value = true
    )]
    pub(crate) bind: OwnAddresses,
}

/// The addresses that a client sends from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnAddresses(pub(crate) Vec<SocketAddr>);

impl fmt::Display for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} port {}", self.host, self.port)
    }
}

/// The age at which documents are removed; `None` keeps them forever.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keep(pub(crate) Option<Duration>);

fn parse_port(text: &str, least: u16) -> Result<u16, String> {
    let port = text.parse().ok().filter(|port| *port >= least);
    port.ok_or_else(|| format!("give a port from {least} to 65535"))
}

fn parse_number<N: FromStr>(text: &str) -> Result<N, String> {
    text.parse().map_err(|_| "give a whole number, 0 or more".to_owned())
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "give a span like 30s, 5m or 2h".to_owned())
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("give a span above 0, like 5s".to_owned()),
        span => Ok(span),
    }
}

fn parse_window_length(text: &str) -> Result<Length, String> {
    let span = parse_duration(text).map_err(|_| "give a length like 2s, 1m or 1h".to_owned())?;
    Length::new(span).map_err(|error| error.to_string())
}

fn parse_keep(text: &str) -> Result<Keep, String> {
    match text {
        "forever" => Ok(Keep(None)),
        text => match humantime::parse_duration(text) {
            Ok(age) if age >= Duration::from_secs(86_400) => Ok(Keep(Some(age))),
            _ => Err("give an age like 30d, at least 1d, or 'forever'".to_owned()),
        },
    }
}

fn parse_list_cap(text: &str) -> Result<ListCap, String> {
    match text.parse::<usize>() {
        Ok(peers @ 2..=100_000) => Ok(ListCap::new(peers)),
        _ => Err("give a number from 2 to 100000".to_owned()),
    }
}

fn parse_worker_count(text: &str) -> Result<usize, String> {
    let workers = text.parse().ok().filter(|workers| (1..=64).contains(workers));
    workers.ok_or_else(|| "give a number from 1 to 64".to_owned())
}

fn parse_cidr(text: &str) -> Result<IpNet, String> {
    let net = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    net.map_err(|_| "give a network like 10.0.0.0/8, or an address".to_owned())
}

fn parse_http_addr(text: &str) -> Result<SocketAddr, String> {
    let text = text.strip_prefix("localhost:").unwrap_or(text);
    let port = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let addr = text.parse().or_else(|_| text.parse().map(port));
    addr.map_err(|_| "give an address and port like 127.0.0.1:8081, or a port".to_owned())
}

fn parse_own_addresses(text: &str) -> Result<OwnAddresses, String> {
    if let Ok(port) = text.parse() {
        return Ok(OwnAddresses(all_addresses(port).to_vec()));
    }
    let forms = [text.to_owned(), format!("{text}:0"), format!("[{text}]:0")];
    let addr = forms.iter().find_map(|form| form.parse().ok());
    let addr = addr.ok_or("give an address, a port, or both: 192.168.1.7, 5000, [::]:5000")?;
    Ok(OwnAddresses(vec![addr]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_port_without_a_host_listens_on_all_addresses() {
        let serve = |args: &[&str]| match Cli::parse_from(args).command {
            Command::Serve(serve) => (serve.host, serve.port),
            other => panic!("{other:?}"),
        };
        assert_eq!(serve(&["hit7", "serve", "8080"]), (None, 8080));
        let (host, port) = serve(&["hit7", "serve", "localhost", "8080"]);
        assert_eq!((host.as_deref(), port), (Some("localhost"), 8080));
    }

    #[test]
    fn every_flag_has_its_environment_variable() {
        for command in Cli::command().get_subcommands() {
            for arg in command.get_arguments().filter(|arg| !arg.is_positional()) {
                let env = arg.get_env().unwrap_or_else(|| panic!("{} has none", arg.get_id()));
                assert!(env.to_str().unwrap().starts_with("HIT7_"));
            }
        }
    }

    #[test]
    fn every_flag_is_in_the_readme() {
        let readme = include_str!("../README.md");
        for command in Cli::command().get_subcommands() {
            for flag in command.get_arguments().filter_map(|arg| arg.get_long()) {
                assert!(readme.contains(&format!("`--{flag}")), "--{flag} is not in README.md");
            }
        }
    }

    #[test]
    fn values_out_of_range_are_errors() {
        assert!(
            parse_window_length("1500ms").is_err()
                && parse_window_length("0s").is_err()
                && parse_window_length("2d").is_err()
        );
        assert_eq!(parse_window_length("90s").unwrap().seconds(), 90);
        assert!(parse_keep("1h").is_err() && parse_keep("forever").unwrap().0.is_none());
        assert!(parse_cidr("10.0.0.0/33").is_err() && parse_cidr("::1").is_ok());
        assert!(parse_list_cap("1").is_err() && parse_list_cap("2").is_ok());
        assert!(
            parse_port("0", 0).is_ok()
                && parse_port("0", 1).is_err()
                && parse_port("65536", 0).is_err()
        );
        assert_eq!(parse_http_addr("8081"), parse_http_addr("localhost:8081"));
        assert_eq!(parse_http_addr("[::1]:0").unwrap().port(), 0);
        assert!(parse_http_addr("host:8081").is_err() && parse_http_addr("127.0.0.1").is_err());
        let own = |text| parse_own_addresses(text).map(|own| own.0);
        for (text, whole) in
            [("::1", "[::1]:0"), ("fe80::1%2", "[fe80::1%2]:0"), ("1.2.3.4", "1.2.3.4:0")]
        {
            assert_eq!(own(text).unwrap(), [whole.parse().unwrap()]);
        }
        assert_eq!(own("[::1]:5").unwrap(), ["[::1]:5".parse().unwrap()]);
        assert_eq!(own("5000").unwrap(), all_addresses(5000));
        assert!(own("localhost").is_err() && own("65536").is_err());
    }
}
