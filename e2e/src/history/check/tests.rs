//! The checker itself: what a correct server does passes, and each kind of bug is found wherever it is put.

use proptest::prelude::*;

use super::super::random::Random;
use super::super::record::*;
use super::{Rule, check};

mod bugs;
mod model;

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_a_correct_server_does_passes(seed: u64, steps in 10_usize..900) {
        let verdict = check(&model::history(seed, steps));
        prop_assert!(verdict.violations.is_empty(), "{:#?}", verdict.violations);
        prop_assert_eq!(verdict.unobserved, 0);
    }

    /// Whatever was compacted away before it was seen is not guessed.
    #[test]
    fn a_gap_hides_and_never_accuses(seed: u64, steps in 200_usize..900, at in 0_usize..100, long in 1_usize..20) {
        let mut history = model::history(seed, steps);
        hide(&mut history.truth, at, long);
        let verdict = check(&history);
        prop_assert!(verdict.violations.is_empty(), "{:#?}", verdict.violations);
    }

    /// What came after etcd was seen for the last time is not guessed, either.
    #[test]
    fn an_end_that_nobody_saw_accuses_nobody(seed: u64, steps in 200_usize..900, at in 0_usize..100) {
        let mut history = model::history(seed, steps);
        let truth = &mut history.truth;
        truth.changes.truncate(truth.changes.len() * at / 100);
        let seen = truth.changes.last().map_or(0, |change| change.revision);
        history.truth = std::mem::take(truth).open_ended(seen);
        let verdict = check(&history);
        prop_assert!(verdict.violations.is_empty(), "{:#?}", verdict.violations);
        prop_assert!(verdict.unobserved > 0);
    }
}

/// Forgets some changes of the truth, as if the observer had been away while etcd compacted.
fn hide(truth: &mut Truth, at: usize, long: usize) {
    let first = truth.changes.len() * at / 100;
    let last = (first + long).min(truth.changes.len());
    if first == last {
        return;
    }
    let mut state = std::collections::BTreeMap::new();
    for change in &truth.changes[..last] {
        match &change.object {
            Some(object) => state.insert(change.key.clone(), object.clone()),
            None => state.remove(&change.key),
        };
    }
    truth.gaps.push(Gap {
        after: truth.changes[first].revision - 1,
        until: truth.changes[last - 1].revision,
        objects: state.into_values().collect(),
    });
    truth.changes.drain(first..last);
}

#[test]
fn each_kind_of_bug_is_found_wherever_it_is_put() {
    for bug in bugs::BUGS {
        let mut places = 0;
        for seed in 0..120 {
            let mut history = model::history(seed, 700);
            let mut random = Random::new(seed);
            if (bug.put)(&mut history, &mut random).is_none() {
                continue;
            }
            places += 1;
            let found = check(&history).by_rule();
            assert!(
                found.contains_key(&bug.rule),
                "{} with seed {seed} is not found as {}, but as {found:?}",
                bug.name,
                bug.rule
            );
        }
        assert!(places >= 20, "{} found only {places} places", bug.name);
        println!("{}: {} in each of {places} histories", bug.name, bug.rule);
    }
}

fn object(key: &str, revision: Revision, value: &str) -> Object {
    Object {
        key: key.to_owned(),
        revision,
        uid: format!("uid-{key}"),
        value: value.to_owned(),
        color: "red".to_owned(),
    }
}

fn operation(call: At, done: At, what: What) -> Operation {
    Operation {
        client: 0,
        server: "one".to_owned(),
        call,
        done,
        what,
    }
}

/// `a` was created at 5 and is still there.
fn created() -> History {
    let made = object("a", 5, "v1");
    History {
        operations: vec![operation(
            1,
            2,
            What::Write {
                write: Write::Create {
                    key: "a".to_owned(),
                    value: "v1".to_owned(),
                    color: "red".to_owned(),
                },
                outcome: Outcome::Done(Written::Stored(made.clone())),
            },
        )],
        nonsense: Vec::new(),
        truth: Truth {
            changes: vec![Change {
                revision: 5,
                key: "a".to_owned(),
                object: Some(made.clone()),
            }],
            gaps: Vec::new(),
            until: 9,
            end: vec![made],
        },
    }
}

fn rules(history: &History) -> Vec<Rule> {
    check(history).by_rule().into_keys().collect()
}

#[test]
fn a_refusal_says_what_was_true_during_the_call() {
    let refused = |call, write: Write, status, reason: &str| {
        let mut history = created();
        let outcome = Outcome::Refused(status, reason.to_owned());
        history
            .operations
            .push(operation(call, 100, What::Write { write, outcome }));
        rules(&history)
    };
    let update = |expect| Write::Update {
        key: "a".to_owned(),
        value: "v2".to_owned(),
        color: "red".to_owned(),
        expect,
    };
    assert_eq!(rules(&created()), []);
    // Called before the creation was answered, it may have come first.
    assert_eq!(refused(0, update(None), 404, "NotFound"), []);
    assert_eq!(
        refused(3, update(None), 404, "NotFound"),
        [Rule::UnfoundedRefusal]
    );
    assert_eq!(
        refused(3, update(Some(5)), 409, "Conflict"),
        [Rule::UnfoundedRefusal]
    );
    assert_eq!(refused(3, update(Some(4)), 409, "Conflict"), []);
    let create = Write::Create {
        key: "b".to_owned(),
        value: "v2".to_owned(),
        color: "red".to_owned(),
    };
    assert_eq!(
        refused(3, create, 409, "AlreadyExists"),
        [Rule::UnfoundedRefusal]
    );
}

#[test]
fn an_absent_object_is_stale_once_its_creation_was_told() {
    let read = |call| {
        let mut history = created();
        let what = What::Get {
            key: "a".to_owned(),
            want: Want::Fresh,
            outcome: Outcome::Done(None),
        };
        history.operations.push(operation(call, 50, what));
        rules(&history)
    };
    assert_eq!(read(2), []);
    assert_eq!(read(3), [Rule::StaleRead]);
}

#[test]
fn what_one_client_was_told_binds_what_another_is_told_later() {
    let mut history = created();
    history.truth.changes.push(Change {
        revision: 7,
        key: "a".to_owned(),
        object: Some(object("a", 7, "v2")),
    });
    history.truth.end = vec![object("a", 7, "v2")];
    let update = Write::Update {
        key: "a".to_owned(),
        value: "v2".to_owned(),
        color: "red".to_owned(),
        expect: None,
    };
    let unknown = Outcome::Unknown("timeout".to_owned());
    history.operations.push(operation(
        3,
        4,
        What::Write {
            write: update,
            outcome: unknown,
        },
    ));
    let get = |revision, value| What::Get {
        key: "a".to_owned(),
        want: Want::Fresh,
        outcome: Outcome::Done(Some(object("a", revision, value))),
    };
    history.operations.push(operation(10, 11, get(7, "v2")));
    assert_eq!(rules(&history), []);
    history.operations.push(operation(12, 13, get(5, "v1")));
    assert_eq!(rules(&history), [Rule::StaleRead]);
}

#[test]
fn a_write_that_nobody_knows_of_does_not_happen_before_its_call() {
    let mut history = created();
    let get = What::Get {
        key: "a".to_owned(),
        want: Want::Fresh,
        outcome: Outcome::Done(Some(object("a", 5, "v1"))),
    };
    history.operations.push(operation(3, 4, get));
    let What::Write { outcome, .. } = &mut history.operations[0].what else {
        panic!("it is a write");
    };
    *outcome = Outcome::Unknown("timeout".to_owned());
    assert_eq!(rules(&history), []);
    history.operations[0].call = 5;
    assert_eq!(rules(&history), [Rule::WriteOrder]);
}

#[test]
fn a_revision_that_etcd_never_had_is_told_as_such() {
    let mut history = created();
    let page = Page {
        done: 4,
        revision: 1000,
        objects: Vec::new(),
    };
    let list = What::List {
        color: None,
        want: Want::Fresh,
        limit: None,
        pages: vec![page],
        broken: None,
    };
    history.operations.push(operation(3, 4, list));
    assert_eq!(rules(&history), [Rule::NeverWas]);
}
