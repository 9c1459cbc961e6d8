//! A start: the journal is read, line by line, and folded into a registry.

use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hit7::clock::Now;
use hit7::cookie::Secret;
use hit7::journal::{FileJournal, FileOptions, Journal, Replayed};
use hit7::mesh::ListCap;
use hit7::path::Path;
use hit7::proto::Profile;
use hit7::record::{Entry, Header, Record, Registration};
use hit7::registry::{Caps, Config, Registry};
use hit7::store::Disk;
use hit7::window::{Length, Wall};

const MEMBERS: u32 = 20_000;

fn header() -> Header {
    let window = "2026-11-23T11:29:00Z".parse().expect("a window");
    Header { window, length: Length::MINUTE, cap: Some(ListCap::default()) }
}

fn registration(member: u32) -> Record {
    let peer = ([203, 0, (member >> 8) as u8, member as u8], 40_000).into();
    Record::Register(Registration {
        window: header().window,
        at: "2026-11-23T11:28:34.120Z".parse().expect("a time"),
        path: Path::new(peer, [198, 51, 100, 10].into()),
        id: format!("member-{member}").parse().ok(),
        seq: Some(1),
        profile: Profile { name: "ana".parse().ok(), ..Profile::default() },
    })
}

fn file() -> Vec<u8> {
    let mut file = Vec::new();
    header().write_line(&mut file);
    (0..MEMBERS).for_each(|member| registration(member).write_line(&mut file, 0));
    file
}

fn replay(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a folder");
    let day = dir.path().join("2026-11-23");
    std::fs::create_dir(&day).expect("a folder");
    std::fs::write(day.join("11-29.jsonl"), file()).expect("a file");
    let wall: Wall = "2026-11-23T11:28:40Z".parse().expect("a time");
    let now = Now { wall, mono: Duration::ZERO };
    let config = Config { length: Length::MINUTE, cap: ListCap::new(200), caps: Caps::default() };

    let mut group = criterion.benchmark_group("replay");
    group.sample_size(20);
    group.throughput(Throughput::Elements(MEMBERS.into()));
    group.bench_function("every line", |bench| {
        bench.iter(|| {
            let mut registry = Registry::new(config, Arc::new(Secret::from_bytes([7; 32])), now);
            let mut fold = |replayed| match replayed {
                Replayed::Begin(header) => registry.begin(header),
                Replayed::Record(record) => {
                    drop(registry.commit(now, Entry { ticket: None, record }));
                }
            };
            let (dir, Config { length, cap, .. }) = (dir.path().to_owned(), config);
            let options = FileOptions { store: Disk, dir, length, cap, accept_damage: false };
            FileJournal::open(options, &mut fold).expect("it is whole");
            assert_eq!(registry.next().1, MEMBERS as usize);
        });
    });
    group.finish();
}

criterion_group!(start, replay);
criterion_main!(start);
