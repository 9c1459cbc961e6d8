//! What every journal promises (`hit7::journal::Journal`), checked on whatever is one: an engine, or
//! what stands in for one in a test.

pub(crate) mod account;
pub(crate) mod records;

use hit7::journal::{Epoch, Outcome, Replayed};
use hit7::record::{Entry, Record};
use hit7::window::Window;

use account::Account;
use records::{leave, open, register};

/// A journal that can be made to fail.
///
/// What it does to its disk, or to whatever keeps its records, it does in steps: a write, a sync, a
/// removal. A step that fails may be done in part.
pub(crate) trait Subject {
    fn submit(&mut self, epoch: Epoch, batch: Vec<Entry>);
    /// Waits for what becomes of all that was submitted. While the journal is down, that is what it
    /// can say of the rest.
    fn settle(&mut self) -> Vec<Outcome>;
    fn discard(&mut self, window: Window);
    /// Ends it at once, whatever it is doing, and opens what is left: the windows that it finds, and
    /// what it reads back. Nothing fails any more.
    fn crash_and_reopen(&mut self) -> (Vec<Window>, Vec<Replayed>);
    /// Lets `times` steps in a row fail, once `after` have been done.
    fn fail(&mut self, after: usize, times: usize);
    /// Whether any step has failed since then.
    fn has_failed(&self) -> bool;
    /// Lets nothing fail any more.
    fn heal(&mut self);
}

/// One step of a script.
pub(crate) enum Step {
    /// These batches are submitted one after the other, before any is waited for.
    Submit(Vec<Vec<Record>>),
    /// The window with this index is discarded.
    Discard(u64),
}

/// Three windows, the last of them on another day, each filled while the one before opens.
pub(crate) fn script() -> Vec<Step> {
    use Step::*;
    vec![
        Submit(vec![vec![register(0, 1)]]),
        Submit(vec![vec![register(0, 2), leave(0, 3)]]),
        Submit(vec![vec![register(0, 4)], vec![register(1, 5), open(0), register(1, 6)]]),
        Discard(0),
        Submit(vec![vec![register(1, 7)], vec![leave(1, 8), open(1), register(2, 9)]]),
        Submit(vec![vec![register(2, 10)]]),
        Discard(1),
        Submit(vec![vec![leave(2, 11)]]),
    ]
}

/// Checks all promises on journals that `new` makes, which are empty.
pub(crate) fn check<S: Subject>(new: impl Fn() -> S) {
    batches_become_durable_in_order(Account::new(new()));
    a_refusal_bars_its_epoch(Account::new(new()));
    a_refusal_bars_what_waits(Account::new(new()));
    a_discard_removes_nothing_else(Account::new(new()));
    no_failure_breaks_a_promise(new);
}

fn batches_become_durable_in_order<S: Subject>(mut account: Account<S>) {
    for seq in 0..20 {
        account.submit(&[register(0, 2 * seq), leave(0, 2 * seq + 1)]);
    }
    account.settle();
    account.submit(&[open(0), register(1, 40)]);
    account.submit(&[register(1, 41)]);
    account.settle();
    assert_eq!((account.durable.len(), account.refused.len()), (43, 0));
    account.crash();
    account.submit(&[register(1, 42)]);
    account.settle();
    account.crash();
    assert_eq!((account.durable.len(), account.refused.len()), (44, 0));
}

/// What one caller of `submit` may do that has not heard of a refusal, and what others may do then.
fn a_refusal_bars_its_epoch<S: Subject>(mut account: Account<S>) {
    let mut seq = 0;
    let mut register = || {
        seq += 1;
        [register(0, seq)]
    };
    let mut over = Vec::new();
    for round in 1..=3 {
        account.subject.fail(0, 1);
        let epoch = account.epoch;
        account.submit(&register());
        account.settle();
        account.subject.heal();
        account.settle();
        assert_eq!(account.epoch, epoch.next(), "the refusal is of the epoch of the batch");
        over.push(epoch);
        for epoch in &over {
            let refused = account.refused.len();
            account.submit_in(*epoch, &register());
            account.settle();
            assert_eq!(account.refused.len(), refused + 1, "{epoch:?} is over");
        }
        account.submit(&register());
        account.settle();
        assert_eq!(account.durable.len(), round, "the next epoch has begun");
    }
    account.crash();
    assert_eq!(account.durable.len(), 3);
}

/// Whatever waits behind a batch that is refused was submitted as if that were in the journal.
fn a_refusal_bars_what_waits<S: Subject>(mut account: Account<S>) {
    account.subject.fail(0, 1);
    for seq in 0..5 {
        account.submit(&[register(0, seq)]);
    }
    account.settle();
    account.subject.heal();
    account.settle();
    assert_eq!((account.durable.len(), account.refused.len()), (0, 5));
    account.submit(&[register(0, 5)]);
    account.settle();
    account.crash();
    assert_eq!(account.durable, [register(0, 5)]);
}

fn a_discard_removes_nothing_else<S: Subject>(mut account: Account<S>) {
    for index in 0..4 {
        account.step(&Step::Submit(vec![vec![register(index, index), open(index)]]));
    }
    account.step(&Step::Submit(vec![vec![register(4, 4)]]));
    for index in [1, 0] {
        account.step(&Step::Discard(index));
        account.step(&Step::Submit(vec![vec![register(4, 5 + index)]]));
    }
    account.crash();
    account.step(&Step::Discard(2));
    account.crash();
    assert_eq!(account.durable.len(), 11);
}

/// When a journal crashes that has failed before.
#[derive(Clone, Copy, PartialEq)]
enum Crash {
    /// As soon as something was refused, or is in doubt.
    AtOnce,
    /// When the script is done, whatever has failed.
    InTheEnd,
    /// When nothing fails any more, and it has gone on.
    WhenHealed,
}

/// The script, with every step failing in turn, and with those that follow it: the second hits the
/// repair of the first. The journal crashes, and goes on.
fn no_failure_breaks_a_promise<S: Subject>(new: impl Fn() -> S) {
    for times in [1, 2, 3, 9, usize::MAX] {
        let mut after = 0;
        while fails(new(), after, times, Crash::AtOnce) {
            fails(new(), after, times, Crash::InTheEnd);
            fails(new(), after, times, Crash::WhenHealed);
            after += 1;
        }
        assert!(after > 5, "the script takes more than {after} steps");
    }
}

/// Whether anything has failed.
fn fails<S: Subject>(subject: S, after: usize, times: usize, crash: Crash) -> bool {
    let mut account = Account::new(subject);
    account.subject.fail(after, times);
    for step in script() {
        account.step(&step);
        if crash == Crash::AtOnce && !(account.refused.is_empty() && account.under_way.is_empty()) {
            break;
        }
    }
    if crash == Crash::WhenHealed {
        account.subject.heal();
        account.settle();
        assert!(account.under_way.is_empty(), "all is told of in the end");
        goes_on(&mut account, 12);
    }
    let has_failed = account.subject.has_failed();
    account.crash();
    goes_on(&mut account, 13);
    account.crash();
    has_failed
}

fn goes_on<S: Subject>(account: &mut Account<S>, seq: u64) {
    account.submit(&[register(2, seq)]);
    account.settle();
    assert_eq!(account.durable.last(), Some(&register(2, seq)));
}
