//! Lists: rendering and paging a roster, drawing a mesh, gathering what each member is told.

use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use hit7::clock::Now;
use hit7::cookie::Secret;
use hit7::fanout::Fanout;
use hit7::mesh::{ListCap, Mesh};
use hit7::path::Path;
use hit7::proto::{Candidate, Listing, Profile};
use hit7::roster::{FinalizedWindow, Member, NextWindow};
use hit7::window::{Length, Window};

const MEMBERS: usize = 10_000;

fn addr(member: usize) -> SocketAddr {
    let [_, a, b, c] = (member as u32 * 257).to_be_bytes();
    SocketAddr::new(IpAddr::from([203, a, b, c]), 40_000 + (member % 1000) as u16)
}

fn window() -> Window {
    "2026-11-23T11:29:00Z".parse().expect("a window")
}

fn filling() -> NextWindow {
    let mut filling = NextWindow::new(window(), Length::MINUTE, ListCap::new(200));
    for member in 0..MEMBERS {
        let member = Member {
            path: Path::new(addr(member), IpAddr::from([198, 51, 100, 10])),
            id: format!("member-{member}").parse().ok(),
            profile: Profile { name: "ana".parse().ok(), ..Profile::default() },
            registered: window().opens(),
            heard: 0,
        };
        filling.register(member, Some(1));
    }
    filling
}

fn frozen(filling: NextWindow) -> FinalizedWindow {
    filling.finalize(Some(window().opens()), &Secret::from_bytes([7; 32]))
}

fn paging(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("paging");
    group.throughput(Throughput::Elements(MEMBERS as u64));
    let peers = || (0..MEMBERS).map(|member| Candidate { addr: addr(member), lan: None });
    group.bench_function("render", |bench| bench.iter(|| Listing::render(peers())));
    let listing = Listing::render(peers());
    group.throughput(Throughput::Elements(listing.parts().into()));
    group.bench_function("every page", |bench| {
        bench.iter(|| (0..listing.parts()).filter_map(|part| listing.page(part, MEMBERS)).count())
    });
    group.finish();
}

fn mesh(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mesh");
    group.throughput(Throughput::Elements(MEMBERS as u64));
    let new = || Mesh::new(MEMBERS, ListCap::new(200), [7; 32]);
    group.bench_function("draw", |bench| bench.iter(new));
    let mesh = new();
    group.bench_function("every member's peers", |bench| {
        bench.iter(|| (0..MEMBERS).map(|member| mesh.peers_of(member).len()).sum::<usize>())
    });
    group.finish();
}

fn opening(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("opening");
    group.sample_size(20);
    group.throughput(Throughput::Elements(MEMBERS as u64));
    group.bench_function("freeze", |bench| {
        bench.iter_batched(filling, frozen, BatchSize::LargeInput);
    });
    let window = Arc::new(frozen(filling()));
    let later = |mono: Duration| Now { wall: window.opened().expect("it is open"), mono };
    let datagrams = |fanout: &mut Fanout| {
        let now = later(Duration::from_secs(1));
        let trains = std::iter::from_fn(|| fanout.poll_transmit(now)).map(black_box);
        trains.map(|train| train.train.datagrams().len()).sum::<usize>()
    };
    let all = datagrams(&mut Fanout::new(window.clone(), later(Duration::ZERO)));
    group.throughput(Throughput::Elements(all as u64));
    group.bench_function("every member's WINDOW", |bench| {
        bench.iter(|| datagrams(&mut Fanout::new(window.clone(), later(Duration::ZERO))));
    });
    group.finish();
}

criterion_group!(lists, paging, mesh, opening);
criterion_main!(lists);
