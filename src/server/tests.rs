//! Tests of a server's threads and task on real files, without clients.

use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::*;
use crate::clock::Now;
use crate::journal::Outcome;
use crate::node::DocumentSource;
use crate::path::Path;
use crate::record::{Opening, Record, Registration};
use crate::window::Wall;

/// How many windows have ended in the journal that a test begins with.
const ENDED: i64 = 3;

fn config(home: &tempfile::TempDir) -> Config {
    Config {
        length: Length::MINUTE,
        data: home.path().to_owned(),
        cap: ListCap::default(),
        caps: Caps::default(),
        rate: Rate { per_second: 0, burst: 0 },
        keys: Vec::new(),
        trust: Vec::new(),
        keep: None,
        accept_damage: false,
        accept_weak_disk: true,
        workers: 1,
    }
}

/// Returns the records of a window that opened with one member.
fn window_with_a_member(window: Window) -> Vec<Record> {
    let (opens, path) = (window.opens(), Path::new(([192, 0, 2, 1], 9).into(), [0; 4].into()));
    let at = Wall::from_millis(opens.millis() - 1000);
    let (id, seq, profile) = (None, None, Default::default());
    let opening = Opening { window, length: Length::MINUTE, cap: None, at: opens };
    let member = Registration { window, at, path, id, seq, profile };
    vec![Record::Register(member), Record::Open(opening)]
}

/// Writes a journal of windows that have ended, each with one member and no document yet; returns
/// the windows, oldest first.
async fn write_journal(config: &Config, now: Now) -> Vec<Window> {
    let Config { length, cap, accept_damage, .. } = *config;
    let dir = config.data.join("journal");
    let options = FileOptions { store: Disk, dir, length, cap, accept_damage };
    let (mut journal, _) = FileJournal::open(options, &mut |_| {}).unwrap();
    let ago = |minutes: i64| Wall::from_millis(now.wall.millis() - 60_000 * minutes);
    let windows = (2..2 + ENDED).rev().map(|minutes| length.window_at(ago(minutes)));
    let windows: Vec<Window> = windows.collect();
    for window in &windows {
        let entry = |record| Entry { ticket: None, record };
        journal.submit(
            Default::default(),
            window_with_a_member(*window).into_iter().map(entry).collect(),
        );
        assert!(matches!(journal.next().await, Outcome::Durable(_)));
    }
    windows
}

/// Starts a server without running it, and makes its task; returns both parts of the data folder.
async fn task(home: &tempfile::TempDir) -> (RegistryTask, Archive, Vec<Window>) {
    let (config, clock) = (config(home), Clock::start());
    let windows = write_journal(&config, clock.now()).await;
    let Server { gate, node, journal, shown, data, .. } = Server::start(config, clock).unwrap();
    let documents = Archive::new(Disk, data.windows());
    let archive = ArchiveThread::start(documents.clone(), journal.reader(), None, || None).unwrap();
    let sockets = Arc::new(Sockets::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap());
    let workers = Workers::start(0, &sockets, &gate, &watch::channel(Vec::new()).1, clock);
    let reporter = Reporter::new(shown, mpsc::channel(64).0);
    let stores = (journal, archive);
    let task = RegistryTask::new(clock, node, gate, sockets, stores, workers, reporter);
    (task, documents, windows)
}

fn written(archive: &Archive) -> Vec<Window> {
    archive.windows().unwrap().into_iter().map(|listed| listed.window).collect()
}

#[tokio::test]
async fn what_is_due_at_a_stop_is_written() {
    let home = tempfile::tempdir().unwrap();
    let (mut task, archive, windows) = task(&home).await;
    task.write_pending().await;
    assert_eq!(written(&archive), windows);
    for window in windows {
        let document = archive.read(window).unwrap();
        assert_eq!(document.rooms.values().map(Vec::len).sum::<usize>(), 1);
        assert_eq!(
            (document.opened, document.closes),
            (Some(window.opens()), Length::MINUTE.closes(window))
        );
    }
}

/// The time for it is limited: on a machine that is too slow, the stop says so.
#[tokio::test]
async fn a_stop_writes_what_is_due_or_fails() {
    let home = tempfile::tempdir().unwrap();
    let (task, archive, windows) = task(&home).await;
    let stopped = task.run(watch::channel(Vec::new()).1, std::future::ready(())).await;
    assert!(stopped.is_err() || written(&archive) == windows, "{stopped:?}");
}

#[tokio::test]
async fn a_document_that_cannot_be_made_is_told_with_the_reason() {
    let home = tempfile::tempdir().unwrap();
    let (config, clock) = (config(&home), Clock::start());
    let windows = write_journal(&config, clock.now()).await;
    let Server { journal, data, .. } = Server::start(config, clock).unwrap();
    let archive = Archive::new(Disk, data.windows());
    let mut thread =
        ArchiveThread::start(archive.clone(), journal.reader(), None, || None).unwrap();
    let next = Length::MINUTE.window_at(clock.now().wall.plus(Duration::from_secs(3600)));
    for (window, said) in [(next, Some("no journal of")), (windows[0], None)] {
        thread.write(DocumentSource::Journal(window));
        let archive_thread::Outcome::Written(of, result) = thread.next().await else {
            panic!("nothing is removed")
        };
        assert_eq!(of, window);
        let why = result.err();
        assert_eq!(why.is_some(), said.is_some(), "{why:?}");
        assert!(why.unwrap_or_default().contains(said.unwrap_or_default()));
    }
    assert_eq!(written(&archive), windows[..1]);
}

#[tokio::test]
async fn documents_are_removed_by_their_distance_from_the_newest_that_was_written() {
    let home = tempfile::tempdir().unwrap();
    let (config, clock) = (config(&home), Clock::start());
    let windows = write_journal(&config, clock.now()).await;
    let Server { journal, data, .. } = Server::start(config, clock).unwrap();
    let archive = Archive::new(Disk, data.windows());
    let day = Duration::from_secs(86_400);
    let ago = |days: u64| {
        let opens = Wall::from_millis(windows[0].opens().millis() - 86_400_000 * days as i64);
        Length::MINUTE.window_at(opens)
    };
    for window in [ago(9), ago(2)] {
        let (closes, nobody) = (Length::MINUTE.closes(window), std::iter::empty());
        let document = crate::archive::Document::new(window, closes, None, nobody);
        archive.write(&document, Length::MINUTE).unwrap();
    }
    let (keep, now) = (Some(5 * day), move || Some(clock.now().wall));
    let mut thread = ArchiveThread::start(archive.clone(), journal.reader(), keep, now).unwrap();
    for window in &windows[..2] {
        // Once the second is written, the removal after the first is done.
        thread.write(DocumentSource::Journal(*window));
        assert!(matches!(thread.next().await, archive_thread::Outcome::Written(_, Ok(()))));
    }
    assert_eq!(written(&archive), [&[ago(2)], &windows[..2]].concat());
}

/// Sends a request from each client, again until the answer to it is an `expected`.
async fn ask_until(clients: &[UdpSocket], request: &str, expected: &str) {
    let (mut buffer, patience) = ([0; 2048], Duration::from_millis(500));
    for client in clients {
        loop {
            client.send(request.as_bytes()).await.unwrap();
            let received = timeout(patience, client.recv(&mut buffer)).await;
            let Ok(Ok(len)) = received else { continue };
            if String::from_utf8_lossy(&buffer[..len]).contains(expected) {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_registry_answers_shows_what_it_does_and_takes_new_keys_until_it_is_stopped() {
    let home = tempfile::tempdir().unwrap();
    let trust = vec!["127.0.0.0/8".parse().unwrap()];
    let day = Length::new(Duration::from_secs(86_400)).unwrap();
    let config = Config { workers: 2, trust, length: day, ..config(&home) };
    let server = Server::start(config, Clock::start()).unwrap();
    assert_eq!(server.workers(), 2);
    let sockets = Sockets::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
    // So many that the system gives some to the main thread, and some to the worker.
    let mut clients = Vec::new();
    for _ in 0..16 {
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.connect(sockets.local_addrs()[0]).await.unwrap();
        clients.push(client);
    }
    let (mut shown, (new_keys, keys)) = (server.watch(), watch::channel(Vec::new()));
    let (stop, stopped) = oneshot::channel();
    let shutdown = async move { stopped.await.unwrap() };
    let run = server.run(sockets, shutdown, keys, mpsc::channel(64).0);
    let asking = async {
        ask_until(&clients, r#"{"type":"REGISTER"}"#, "REGISTERED").await;
        let all = |shown: &Arc<Snapshot>| shown.waiting == 16 && shown.totals.received >= 16;
        assert!(shown.wait_for(all).await.unwrap().totals.recorded >= 16);
        new_keys.send_replace(vec![Key::from_text("a key of the registry").unwrap()]);
        ask_until(&clients, r#"{"type":"QUERY"}"#, "CHALLENGE").await;
        let all = |shown: &Arc<Snapshot>| shown.totals.challenged >= 16;
        shown.wait_for(all).await.unwrap();
        stop.send(()).unwrap();
    };
    let all = async { tokio::join!(run, asking) };
    let (run, ()) = timeout(Duration::from_secs(60), all).await.expect("it answers and stops");
    // The stop has a time limit, which a machine may be too slow for.
    assert!(!matches!(run, Err(RunError::Socket(_))), "{run:?}");
}
