//! What etcd holds against what clients asked for: nothing from nowhere, nothing twice, nothing lost.

use std::collections::HashMap;

use super::super::record::{Change, History, Outcome, Revision, What, Write, Written};
use super::timeline::{Held, Timeline};
use super::{Rule, Verdict};

/// The revision at which each write happened, by its place in the history.
pub(super) type Happened = HashMap<usize, Revision>;

/// Judges all writes apart from their order in time, and says which happened when.
pub(super) fn check(history: &History, timeline: &Timeline<'_>, verdict: &mut Verdict) -> Happened {
    let mut happened = Happened::new();
    let mut by_value = HashMap::new();
    for (index, operation) in history.operations.iter().enumerate() {
        let What::Write { write, outcome } = &operation.what else {
            continue;
        };
        if let Some(value) = write.value() {
            by_value.insert(value, index);
        }
        if let Outcome::Done(written) = outcome {
            acknowledged(index, write, written, timeline, &mut happened, verdict);
        }
    }
    let mut last = 0;
    for change in &history.truth.changes {
        if change.revision <= last {
            let why = format!("two changes have revision {}", change.revision);
            verdict.add(Rule::OneRevisionEach, &[], why);
        }
        last = change.revision;
        let Some(object) = &change.object else {
            deletion(history, change, timeline, &happened, verdict);
            continue;
        };
        let Some(index) = by_value.get(object.value.as_str()).copied() else {
            let why = format!("{object:?} is in etcd");
            verdict.add(Rule::NobodyWrote, &[], why);
            continue;
        };
        let What::Write { write, outcome } = &history.operations[index].what else {
            unreachable!("only writes were noted");
        };
        if let Outcome::Refused(status, reason) = outcome {
            let why = format!("{object:?} is in etcd, its write was answered {status} {reason}");
            verdict.add(Rule::NobodyWrote, &[index], why);
        }
        happened.entry(index).or_insert(change.revision);
        expected(index, write, change, timeline, verdict);
    }
    for (value, index) in &by_value {
        let times: Vec<Revision> = timeline
            .by_value(value)
            .map(|change| change.revision)
            .collect();
        if times.len() > 1 {
            let why = format!("{value} was written at {times:?}");
            verdict.add(Rule::WrittenTwice, &[*index], why);
        }
    }
    end(history, timeline, verdict);
    happened
}

/// What a client was told is what etcd has.
fn acknowledged(
    index: usize,
    write: &Write,
    written: &Written,
    timeline: &Timeline<'_>,
    happened: &mut Happened,
    verdict: &mut Verdict,
) {
    match written {
        Written::Stored(object) => {
            if !timeline.saw(object.revision) && object.revision <= timeline.truth.until {
                verdict.unobserved += 1;
                return;
            }
            let found = timeline
                .by_value(&object.value)
                .find(|change| change.revision == object.revision);
            if found.and_then(|change| change.object.as_ref()) != Some(object)
                || write.value() != Some(&object.value)
            {
                let why = format!("{object:?} was acknowledged, etcd has {found:?}");
                verdict.add(Rule::LostWrite, &[index], why);
            }
        }
        Written::Deleted(uid) => match timeline.deletion(uid) {
            Some(change) => {
                if happened
                    .values()
                    .any(|revision| *revision == change.revision)
                {
                    let why = format!("the end of {uid} was acknowledged twice");
                    verdict.add(Rule::WrittenTwice, &[index], why);
                }
                happened.insert(index, change.revision);
                expected(index, write, change, timeline, verdict);
            }
            None if timeline.truth.gaps.is_empty() => {
                let why = format!("the end of {uid} was acknowledged, etcd never ended it");
                verdict.add(Rule::LostWrite, &[index], why);
            }
            None => verdict.unobserved += 1,
        },
    }
}

/// What is gone was ended by somebody who was told so, or by somebody who does not know.
fn deletion(
    history: &History,
    change: &Change,
    timeline: &Timeline<'_>,
    happened: &Happened,
    verdict: &mut Verdict,
) {
    let Held::Object(before) = timeline.before(&change.key, change.revision) else {
        return;
    };
    let may_have = |what: &What| match what {
        What::Write {
            write: Write::Delete { key, expect },
            outcome: Outcome::Unknown(_),
        } => *key == change.key && expect.is_none_or(|expect| expect == before.revision),
        _ => false,
    };
    let told = happened
        .values()
        .any(|revision| *revision == change.revision);
    if !told
        && !history
            .operations
            .iter()
            .any(|operation| may_have(&operation.what))
    {
        let why = format!("nobody ended {before:?}, it is gone at {}", change.revision);
        verdict.add(Rule::NobodyWrote, &[], why);
    }
}

/// A write found what it needs, and left the rest as it was.
fn expected(
    index: usize,
    write: &Write,
    change: &Change,
    timeline: &Timeline<'_>,
    verdict: &mut Verdict,
) {
    let before = match timeline.before(&change.key, change.revision) {
        Held::Unobserved => {
            verdict.unobserved += 1;
            return;
        }
        held => held.object(),
    };
    let after = change.object.as_ref();
    let color = after.map(|object| object.color.as_str());
    let same_uid = match (before, after) {
        (Some(before), Some(after)) => before.uid == after.uid,
        _ => true,
    };
    let right = change.key == write.key()
        && match write {
            Write::Create { color: wanted, .. } => before.is_none() && color == Some(wanted),
            Write::Update {
                color: wanted,
                expect,
                ..
            } => {
                before.is_some_and(|before| expect.is_none_or(|expect| before.revision == expect))
                    && color == Some(wanted)
                    && same_uid
            }
            Write::Patch { .. } => {
                before.is_some_and(|before| color == Some(&before.color)) && same_uid
            }
            Write::Delete { expect, .. } => {
                before.is_some_and(|before| expect.is_none_or(|expect| before.revision == expect))
            }
        };
    if !right {
        let why = format!("{write:?} made {before:?} into {change:?}");
        verdict.add(Rule::Precondition, &[index], why);
    }
}

/// What etcd has in the end is what its history leads to.
fn end(history: &History, timeline: &Timeline<'_>, verdict: &mut Verdict) {
    let truth = &history.truth;
    if let Some(replayed) = timeline.list(truth.until, None)
        && !replayed.iter().copied().eq(&truth.end)
    {
        let why = format!("in the end etcd has {:?}, not {replayed:?}", truth.end);
        verdict.add(Rule::LostWrite, &[], why);
    }
}
