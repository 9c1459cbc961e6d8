//! hit7 introduces peers one minute at a time: a registry on UDP puts each client in the next
//! one-minute window, and when that opens sends all its members the addresses of their peers.
//!
//! The modules by layer; a file imports only from lower layers (`tests/house.rs`):
//!
//! | layer | modules |
//! | --- | --- |
//! | 7, 8 | `cli`, then `main`: arguments, wiring, exit codes (the program, not this library) |
//! | 6 | [`view`]: what a person reads in a terminal |
//! | 5 | [`server`] runs a registry, [`client`] a peer or one request, [`status`] shows a registry over HTTP |
//! | 4 | `node`: one registry whole, as a pure state machine |
//! | 3 | [`snapshot`], [`registry`], [`fanout`], [`peer`]: pure state machines; [`journal`], [`archive`], [`datadir`], [`keyfile`]: the disk |
//! | 2 | [`roster`], [`record`], [`gate`], [`ask`], [`store`] |
//! | 1 | [`proto`]: the datagrams; [`clock`]: the only reader of time; [`events`]: a bounded queue; [`thread`]: threads and their runtimes; [`udp`]: batches of datagrams |
//! | 0 | [`window`], [`mesh`], [`limit`], [`cookie`], [`tally`], [`path`] |
//!
//! To take part from another program: [`client::join`], or [`peer::Peer`] on sockets of its own.

pub mod archive;
pub mod ask;
pub mod client;
pub mod clock;
pub mod cookie;
pub mod datadir;
pub mod events;
pub mod fanout;
pub mod gate;
pub mod journal;
pub mod keyfile;
pub mod limit;
pub mod mesh;
pub mod node;
pub mod path;
pub mod peer;
pub mod proto;
pub mod record;
pub mod registry;
pub mod roster;
pub mod server;
pub mod snapshot;
pub mod status;
pub mod store;
pub mod tally;
pub mod thread;
pub mod udp;
pub mod view;
pub mod window;
