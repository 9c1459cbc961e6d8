//! Systems that refuse some options and calls of UDP sockets, as old kernels, sandboxes and WSL do:
//! the program is slower there, and does all the same. And file systems that cannot lock, sync or
//! keep modes.

use std::thread;

use hit7_support::{Home, Program, Registry, has_ipv6, skip};
use libc::{
    EHOSTUNREACH, EINVAL, ENETUNREACH, ENOLCK, ENOPROTOOPT, ENOSYS, EOPNOTSUPP, EPERM,
    IP_MTU_DISCOVER, IP_PKTINFO, IP_RECVTOS, IPPROTO_IP, IPPROTO_IPV6, IPV6_MTU_DISCOVER,
    IPV6_RECVPKTINFO, IPV6_V6ONLY, SO_RCVBUF, SO_RCVBUFFORCE, SO_REUSEPORT, SO_SNDBUF,
    SO_SNDBUFFORCE, SO_TIMESTAMPNS, SOL_SOCKET, SOL_UDP, SYS_connect, SYS_fdatasync, SYS_flock,
    SYS_fsync, SYS_getsockopt, SYS_recvmmsg, SYS_sendmmsg, SYS_sendmsg, SYS_sendto, SYS_setsockopt,
    UDP_GRO, UDP_SEGMENT,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, SeccompCondition,
    SeccompFilter, SeccompRule,
};

use crate::HIT7;

/// What a system refuses: a call, and of setsockopt one option only, given as its level and name.
pub(crate) type Refused = (i64, Option<(i32, i32)>);

const fn option(level: i32, name: i32) -> Refused {
    (SYS_setsockopt, Some((level, name)))
}

const fn call(number: i64) -> Refused {
    (number, None)
}

/// What one system refuses, with which error, and a piece of what the registry logs of that, once.
pub(crate) const SYSTEMS: [(&[Refused], i32, &str); 14] = [
    (&[option(SOL_SOCKET, SO_REUSEPORT)], EPERM, "no more workers can be started"),
    (&[option(IPPROTO_IP, IP_PKTINFO)], EPERM, "answers may leave from another"),
    (&[option(IPPROTO_IP, IP_PKTINFO)], EINVAL, "sent and received one by one"),
    (&[option(IPPROTO_IP, IP_MTU_DISCOVER)], EPERM, "sent and received one by one"),
    (&[option(IPPROTO_IP, IP_MTU_DISCOVER)], ENOPROTOOPT, "long datagrams may get lost"),
    (&[option(IPPROTO_IPV6, IPV6_MTU_DISCOVER)], EOPNOTSUPP, ""),
    (&[option(IPPROTO_IPV6, IPV6_V6ONLY)], EPERM, ""),
    (&[option(IPPROTO_IPV6, IPV6_RECVPKTINFO), option(IPPROTO_IP, IP_RECVTOS)], EPERM, ""),
    (&[option(SOL_UDP, UDP_GRO), option(SOL_UDP, UDP_SEGMENT)], ENOPROTOOPT, ""),
    (
        &[
            option(SOL_SOCKET, SO_RCVBUF),
            option(SOL_SOCKET, SO_RCVBUFFORCE),
            option(SOL_SOCKET, SO_SNDBUF),
            option(SOL_SOCKET, SO_SNDBUFFORCE),
            option(SOL_SOCKET, SO_TIMESTAMPNS),
        ],
        EPERM,
        "",
    ),
    (&[call(SYS_recvmmsg)], ENOSYS, "received one by one"),
    (&[call(SYS_recvmmsg), call(SYS_sendmmsg)], EPERM, "received one by one"),
    (&[call(SYS_connect), call(SYS_getsockopt)], EPERM, "no socket of its own"),
    // All options at once.
    (
        &[call(SYS_setsockopt), call(SYS_recvmmsg), call(SYS_sendmmsg)],
        EPERM,
        "sent and received one by one",
    ),
];

/// Makes a filter of system calls, if there are such for this processor.
pub(crate) fn filter(refused: &[Refused], error: i32) -> Option<BpfProgram> {
    let is = |index, value: i32| SeccompCondition::new(index, Dword, Eq, value as u64).unwrap();
    let rule = |(level, name)| SeccompRule::new(vec![is(1, level), is(2, name)]).unwrap();
    let mut rules = std::collections::BTreeMap::<i64, Vec<SeccompRule>>::new();
    for &(number, option) in refused {
        rules.entry(number).or_default().extend(option.map(rule));
    }
    let refuse = SeccompAction::Errno(error as u32);
    let processor = std::env::consts::ARCH.try_into().ok()?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, processor);
    Some(filter.unwrap().try_into().unwrap())
}

/// Runs `start` on a thread where the system refuses some calls, also to the programs started there.
pub(crate) fn refusing<T: Send>(filter: &BpfProgram, start: impl FnOnce() -> T + Send) -> T {
    let refused = || {
        seccompiler::apply_filter(filter).unwrap();
        start()
    };
    thread::scope(|scope| scope.spawn(refused).join().unwrap())
}

fn serve(home: &Home) -> Registry {
    // At all addresses, where the address that was asked must be found out.
    let flags = ["serve", "0", "--workers", "2", "--window", "2s", "--log-level", "info"];
    home.start(home.with_data(&[&flags[..], &["--http", "127.0.0.1:0"]].concat()))
}

/// Serves two members on a system that refuses something, one of which is refused it too.
fn introduces_two(filter: &BpfProgram, knows_local: bool, logged: &str) {
    // At the second address only an answer counts that leaves from there.
    let host = if knows_local { "127.0.0.2" } else { "127.0.0.1" };
    let home = HIT7.home();
    let mut registry = refusing(filter, || serve(&home));
    let port = registry.addr.port().to_string();
    let join = || HIT7.start(&["join", host, &port, "--name", "eva"]);
    let mut members: [Program; 2] = [refusing(filter, join), join()];
    for member in &mut members {
        member.line_with("registered for");
        member.line_with("met eva");
    }
    registry.program.line_with("2 members");
    let exit = registry.stop("TERM");
    assert_eq!(exit.code, Some(0), "{exit:?}");
    let told = exit.err.iter().filter(|line| line.contains(logged)).count();
    assert!(logged.is_empty() || told == 1, "'{logged}' is told {told} times: {exit:?}");
}

#[test]
fn what_a_system_refuses_makes_the_program_slower_and_no_more() {
    thread::scope(|scope| {
        for (refused, error, logged) in SYSTEMS {
            let Some(filter) = filter(refused, error) else {
                return skip("no filter of system calls for this processor");
            };
            let unknown = [option(IPPROTO_IP, IP_PKTINFO), call(SYS_setsockopt)];
            let knows_local = !unknown.iter().any(|it| refused.contains(it));
            scope.spawn(move || introduces_two(&filter, knows_local, logged));
        }
    });
}

/// Where no socket can be of IPv6 alone, all of IPv6 cannot be had beside all of IPv4; one address can.
#[test]
fn one_address_of_ipv6_is_served_where_no_socket_is_of_ipv6_alone() {
    if !has_ipv6() {
        return;
    }
    let Some(filter) = filter(&[option(IPPROTO_IPV6, IPV6_V6ONLY)], EPERM) else {
        return skip("no filter of system calls for this processor");
    };
    let home = HIT7.home();
    let serve = || home.start(home.with_data(&["serve", "::1", "0", "--window", "2s"]));
    let registry = refusing(&filter, serve);
    let port = registry.port();
    let join = ["join", "::1", &port, "--name", "eva"];
    let mut near = refusing(&filter, || HIT7.start(&[&join[..], &["--bind", "::1"]].concat()));
    let mut far = HIT7.start(&join);
    for member in [&mut near, &mut far] {
        member.line_with("met eva");
    }
    let unreached = refusing(&filter, || HIT7.run(&join));
    unreached.failed(1, &["cannot reach", "--bind"]);
    let all = refusing(&filter, || Program::start(home.with_data(&["serve", "::", "0"])).end());
    all.failed(1, &["the system refuses sockets of IPv6 alone"]);
}

/// An own firewall, and a network without a route, refuse to send.
#[test]
fn why_the_system_does_not_send_is_told() {
    for (error, told, remedy) in [
        (EPERM, "Operation not permitted", "a firewall on this machine forbids it"),
        (ENETUNREACH, "Network is unreachable", "this machine's network"),
        (EHOSTUNREACH, "No route to host", "this machine's network"),
    ] {
        let sends = [call(SYS_sendto), call(SYS_sendmsg), call(SYS_sendmmsg)];
        let Some(filter) = filter(&sends, error) else {
            return skip("no filter of system calls for this processor");
        };
        let registry = HIT7.serve(&[]);
        let port = registry.port();
        for command in [&["join", "--once"][..], &["peers"]] {
            let args = [command, &["127.0.0.1", &port, "--timeout", "500ms"]].concat();
            let exit = refusing(&filter, || HIT7.run(&args));
            exit.failed(1, &["no registry answered", told, remedy]);
        }
    }
}

#[test]
fn a_file_system_that_cannot_keep_a_promise_is_refused_unless_that_is_accepted() {
    for (number, error, lacks) in [
        (SYS_flock, ENOLCK, "lock a file: nothing keeps a second registry"),
        (SYS_fsync, EINVAL, "sync a folder: what was acked may be gone"),
        (SYS_fdatasync, ENOSYS, "sync a folder: what was acked may be gone"),
    ] {
        let Some(filter) = filter(&[call(number)], error) else {
            return skip("no filter of system calls for this processor");
        };
        let home = HIT7.home();
        let refused = refusing(&filter, || home.refused(&[]));
        refused.failed(1, &[lacks, "--data", "--accept-weak-disk"]);
        let mut registry = refusing(&filter, || home.serve(&["--accept-weak-disk"]));
        let said = registry.program.error_line();
        assert!(said.contains(lacks), "{said}");
        registry.serves();
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_file_system_that_keeps_no_modes_is_warned_of_at_every_start() {
    use std::os::unix::fs::PermissionsExt;
    let Some(filter) = filter(&[call(libc::SYS_chmod), call(libc::SYS_fchmod)], EPERM) else {
        return skip("no filter of system calls for this processor");
    };
    let home = HIT7.home();
    home.serve(&[]).stop("TERM").succeeded();
    let secret = home.data().join("secret");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut registry = refusing(&filter, || home.serve(&[]));
    let said = registry.program.error_line();
    assert!(said.contains("keeps no modes") && said.contains("umask=077"), "{said}");
    registry.serves();
}
