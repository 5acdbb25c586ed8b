//! Decides whether a history is one that an API server may have.
//!
//! A resourceVersion is etcd's revision, so the order of writes is known and nothing is searched: every operation that
//! completed gets the earliest revision at which what it was told was true, and that must not lie before anything which
//! had been told to anybody when the operation was called (its *floor*). With a known order of writes that greedy choice
//! is complete: if it fails, no other choice helps.
//!
//! What an unknown outcome did is decided by what etcd has; it may have happened once, at any time after its call.
//! Of revisions that nobody saw ([`super::record::Gap`]) nothing is claimed; what touches them is counted as unobserved.

use std::collections::BTreeMap;
use std::fmt;

use super::record::{History, Operation, Revision};

mod sweep;
#[cfg(test)]
mod tests;
mod timeline;
mod watches;
mod writes;

use timeline::Timeline;

/// What must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Every write has a revision of its own.
    OneRevisionEach,
    /// What etcd holds was written by a client, and by one that was not told that nothing happened.
    NobodyWrote,
    /// A write happens at most once.
    WrittenTwice,
    /// What was acknowledged is in etcd as it was acknowledged.
    LostWrite,
    /// A write that was called after something had been told comes after it.
    WriteOrder,
    /// A write happens only on what it expects to be there.
    Precondition,
    /// A refusal says what was true at some time during the call.
    UnfoundedRefusal,
    /// Nobody is told what never was.
    NeverWas,
    /// A fresh read is at least as new as everything that had been told before; others as new as they ask for.
    StaleRead,
    /// A list is the state at its revision, no more and no less, in order.
    WrongList,
    /// All pages of a list are of one revision.
    MixedPages,
    /// A watch leaves nothing out.
    LostEvent,
    /// A watch tells nothing twice.
    DuplicateEvent,
    /// A watch tells in the order of revisions.
    ReorderedEvent,
    /// A watch tells nothing that lies before its start.
    BackInTime,
    /// An event says what happened, as seen through the selector.
    WrongEvent,
    /// Everything up to a bookmark's revision was told before it.
    BookmarkAhead,
    /// The initial events are the state at the revision of the bookmark that ends them.
    WrongInitialEvents,
    /// An answer or an event with a good status can be read.
    Nonsense,
}

impl fmt::Display for Rule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, out)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub rule: Rule,
    /// The operations that show it, by their place in the history; none if etcd alone does.
    pub operations: Vec<usize>,
    pub why: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub violations: Vec<Violation>,
    /// Claims that nobody can judge, because their revisions were not seen.
    pub unobserved: usize,
}

impl Verdict {
    /// How often each rule was broken.
    pub fn by_rule(&self) -> BTreeMap<Rule, usize> {
        let mut rules = BTreeMap::new();
        for violation in &self.violations {
            *rules.entry(violation.rule).or_default() += 1;
        }
        rules
    }

    fn add(&mut self, rule: Rule, operations: &[usize], why: String) {
        self.violations.push(Violation {
            rule,
            operations: operations.to_vec(),
            why,
        });
    }
}

/// Judges a history.
pub fn check(history: &History) -> Verdict {
    let mut verdict = Verdict::default();
    for what in &history.nonsense {
        verdict.add(Rule::Nonsense, &[], what.clone());
    }
    let timeline = Timeline::new(&history.truth);
    let happened = writes::check(history, &timeline, &mut verdict);
    sweep::check(history, &timeline, &happened, &mut verdict);
    for (index, operation) in history.operations.iter().enumerate() {
        watches::check(index, operation, &timeline, &mut verdict);
    }
    verdict
}

/// What the checks of one history share.
struct Judged<'a> {
    operations: &'a [Operation],
    timeline: &'a Timeline<'a>,
    verdict: &'a mut Verdict,
}

/// A revision at which something was true, if anybody can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Point {
    At(Revision),
    Never,
    Unobserved,
}
