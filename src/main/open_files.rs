//! Raises the limit of open files, and divides what it allows between a registry, its
//! sockets and its page.

use std::fs;

use hit7::udp::MAX_SEND_ONLY;

use super::Failure;

/// How many files any command needs: its own, and those of the runtime and the signals.
const LEAST: u64 = 16;

/// How many files a registry opens while it runs, at most: two of its journal, a document, folders
/// that are synced or listed, the key file; and some to spare.
const RESERVE: u64 = 16;

/// How many files a runtime of a worker or the page has.
const RUNTIME: u64 = 4;

/// How many files a worker has for each address: tokio's socket and a copy of it.
const FILES_PER_SOCKET: u64 = 2;

/// How many HTTP connections there must be room for, if there is a page.
const LEAST_CONNECTIONS: u64 = 8;

/// How many files the page has open besides its connections: of two documents and their folders.
const DOCUMENTS: u64 = 4;

/// Raises the soft limit of open files to the hard one; fails if that is too low for any command.
pub(crate) fn raise_limit() -> Result<(), Failure> {
    match limit() {
        limit if limit < LEAST => Err(too_few(limit, LEAST)),
        _ => Ok(()),
    }
}

fn limit() -> u64 {
    // A limit that cannot be read or raised stays what it is, and is then not checked.
    rlimit::increase_nofile_limit(u64::MAX).unwrap_or(u64::MAX)
}

/// What a registry's sockets and its page may open of the files that are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shares {
    /// The most send-only sockets of each worker.
    pub(crate) send_only: usize,
    /// The most HTTP connections.
    pub(crate) connections: usize,
}

/// Divides the files that are left beside a registry with `workers` on `sockets` addresses, which are
/// open already; fails if the limit is too low for the registry.
pub(crate) fn shares(workers: usize, sockets: usize, page: bool) -> Result<Shares, Failure> {
    // Where the folder cannot be listed, nothing more can be opened either.
    let open = fs::read_dir("/dev/fd").map_or(LEAST, |files| files.count() as u64);
    share(limit(), open, workers as u64, sockets as u64, page)
}

fn share(limit: u64, open: u64, workers: u64, sockets: u64, page: bool) -> Result<Shares, Failure> {
    let workers = workers.max(1);
    let more_workers = (workers - 1) * (RUNTIME + FILES_PER_SOCKET * sockets);
    let (of_page, least) = if page { (RUNTIME + DOCUMENTS, LEAST_CONNECTIONS) } else { (0, 0) };
    let needed = open + RESERVE + more_workers + of_page + least;
    let Some(left) = limit.checked_sub(needed) else { return Err(too_few(limit, needed)) };
    // Half of them for the page: without send-only sockets, the receiving ones send.
    let of_sockets = if page { left / 2 } else { left };
    let send_only = (of_sockets / workers).min(MAX_SEND_ONLY as u64);
    let connections = usize::try_from(left + least - send_only * workers).unwrap_or(usize::MAX);
    Ok(Shares { send_only: send_only as usize, connections })
}

fn too_few(limit: u64, needed: u64) -> Failure {
    Failure::Message(format!(
        "the system allows hit7 {limit} open files, and it needs {needed}: raise the limit \
         (ulimit -n {needed}; in a container, --ulimit nofile={needed})"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_comes_first_and_the_page_gets_what_is_left() {
        let share = |limit, page| {
            share(limit, 14, 2, 1, page).ok().map(|it| (it.send_only, it.connections))
        };
        assert_eq!((share(35, false), share(36, false).is_some()), (None, true));
        assert_eq!((share(51, true), share(52, true)), (None, Some((0, 8))));
        assert_eq!((share(56, true), share(40, false)), (Some((1, 10)), Some((2, 0))));
        assert_eq!(share(1024, true), Some((64, 852)));
        let most = share(u64::MAX, true).unwrap();
        assert_eq!((most.0, most.1 > 1 << 20), (64, true));
    }

    #[test]
    fn all_that_may_be_opened_is_within_the_limit() {
        for (limit, workers, page) in
            (36..2000).flat_map(|limit| [1, 2, 8].map(|workers| (limit, workers, limit % 2 == 0)))
        {
            let Ok(it) = share(limit, 14, workers, 2, page) else { continue };
            let connections = if page { it.connections + 8 } else { 0 };
            let more = (workers as usize - 1) * 8;
            let all = 14 + 16 + more + it.send_only * workers as usize + connections;
            assert!(all <= limit as usize, "{limit}, {workers}: {it:?}");
        }
    }

    #[test]
    fn a_limit_that_is_too_low_is_named_with_what_is_needed() {
        let Err(Failure::Message(said)) = share(20, 14, 1, 1, false) else { panic!("it is taken") };
        assert!(said.contains("20 open files") && said.contains("ulimit -n 30"), "{said}");
    }
}
