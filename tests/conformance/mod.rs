//! Conformance tests of the trait `hit7::journal::Journal`, for each engine and for the simulated
//! journal of a test.

pub(crate) mod account;
pub(crate) mod records;

use hit7::journal::{Epoch, Outcome, Replayed};
use hit7::record::{Entry, Record};
use hit7::window::Window;

use account::Account;
use records::{leave, open, register};

/// A journal under test that can be made to fail.
///
/// A journal works on its disk, or other storage, in steps: a write, a sync, a removal. A step
/// that fails may be done in part.
pub(crate) trait Subject {
    fn submit(&mut self, epoch: Epoch, batch: Vec<Entry>);
    /// Waits for the outcomes of all submitted entries; while the journal is down, for those that
    /// can be reported.
    fn settle(&mut self) -> Vec<Outcome>;
    fn discard(&mut self, window: Window);
    /// Crashes the journal at once and opens what is left, on a disk that fails no more. Returns
    /// the windows found and what was read back.
    fn crash_and_reopen(&mut self) -> (Vec<Window>, Vec<Replayed>);
    /// Makes `times` steps in a row fail, after `after` more steps have succeeded.
    fn fail(&mut self, after: usize, times: usize);
    /// Returns whether any step has failed since the last call of [`Subject::fail`].
    fn has_failed(&self) -> bool;
    /// Makes all further steps succeed.
    fn heal(&mut self);
}

/// One step of the script that a journal is tested with.
pub(crate) enum Step {
    /// Submit these batches one after the other, without waiting for outcomes in between.
    Submit(Vec<Vec<Record>>),
    /// Discard the journal of the window with this index.
    Discard(u64),
}

/// Returns a script of three windows, the last on another day, each filled while the one before
/// opens.
pub(crate) fn script() -> Vec<Step> {
    use Step::*;
    vec![
        Submit(vec![vec![register(0, 1)]]),
        Submit(vec![vec![register(0, 2), leave(0, 3)]]),
        Submit(vec![vec![register(0, 4)], vec![open(0), register(1, 5), register(1, 6)]]),
        Discard(0),
        Submit(vec![vec![register(1, 7)], vec![leave(1, 8), open(1), register(2, 9)]]),
        Submit(vec![vec![register(2, 10)]]),
        Discard(1),
        Submit(vec![vec![leave(2, 11)]]),
    ]
}

/// Checks all promises on empty journals, which `new` makes.
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

/// Checks that batches submitted in the epoch of a refusal are refused, and those of the next are
/// not.
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

/// Checks that batches waiting behind a refused one are refused too: they were put together as if
/// that one were in the journal.
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

/// When a test crashes a journal in which a step has failed.
#[derive(Clone, Copy, PartialEq)]
enum Crash {
    /// As soon as an entry was refused, or has no known outcome.
    AtOnce,
    /// At the end of the script, with steps still failing.
    InTheEnd,
    /// At the end of the script, after the disk was healed and more was submitted.
    WhenHealed,
}

/// Runs the script with every step failing in turn, alone and with the steps after it, which hit
/// the repair of the first. Then the journal crashes and is used again.
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

/// Runs the script with failing steps and a crash; returns whether any step has failed.
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
