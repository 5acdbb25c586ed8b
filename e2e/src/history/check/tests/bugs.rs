//! Bugs that servers were seen to have, put into histories of a correct one.

use super::super::super::random::Random;
use super::super::super::record::*;
use super::super::Rule;

pub(super) struct Bug {
    pub(super) name: &'static str,
    pub(super) rule: Rule,
    /// Nothing if the history has no place for it.
    pub(super) put: fn(&mut History, &mut Random) -> Option<()>,
}

pub(super) const BUGS: &[Bug] = &[
    Bug {
        name: "answer that cannot be read",
        rule: Rule::Nonsense,
        put: |history, _| {
            history.nonsense.push("{}".to_owned());
            Some(())
        },
    },
    Bug {
        name: "stale get",
        rule: Rule::StaleRead,
        put: stale_get,
    },
    Bug {
        name: "stale list",
        rule: Rule::StaleRead,
        put: stale_list,
    },
    Bug {
        name: "acknowledged write that is not in etcd",
        rule: Rule::LostWrite,
        put: lost_write,
    },
    Bug {
        name: "lost in the end",
        rule: Rule::LostWrite,
        put: lost_in_the_end,
    },
    Bug {
        name: "lost update",
        rule: Rule::Precondition,
        put: lost_update,
    },
    Bug {
        name: "refused and done",
        rule: Rule::NobodyWrote,
        put: refused_and_done,
    },
    Bug {
        name: "gone by nobody's will",
        rule: Rule::NobodyWrote,
        put: nobody_deleted,
    },
    Bug {
        name: "done twice",
        rule: Rule::WrittenTwice,
        put: done_twice,
    },
    Bug {
        name: "write before what was told",
        rule: Rule::WriteOrder,
        put: early_write,
    },
    Bug {
        name: "read of a write that never was",
        rule: Rule::NeverWas,
        put: phantom_read,
    },
    Bug {
        name: "list of two revisions",
        rule: Rule::WrongList,
        put: mixed_list,
    },
    Bug {
        name: "list without an object",
        rule: Rule::WrongList,
        put: short_list,
    },
    Bug {
        name: "pages of two revisions",
        rule: Rule::MixedPages,
        put: mixed_pages,
    },
    Bug {
        name: "object left out between pages",
        rule: Rule::WrongList,
        put: lost_between_pages,
    },
    Bug {
        name: "lost event",
        rule: Rule::LostEvent,
        put: |h, r| lost_event(h, r, |_, _| true),
    },
    Bug {
        name: "no DELETED for what left the selector",
        rule: Rule::LostEvent,
        put: |h, r| lost_event(h, r, left_selector),
    },
    Bug {
        name: "event twice",
        rule: Rule::DuplicateEvent,
        put: duplicate_event,
    },
    Bug {
        name: "events in the wrong order",
        rule: Rule::ReorderedEvent,
        put: swapped_events,
    },
    Bug {
        name: "event of a write that never was",
        rule: Rule::WrongEvent,
        put: phantom_event,
    },
    Bug {
        name: "event of the wrong kind",
        rule: Rule::WrongEvent,
        put: wrong_kind,
    },
    Bug {
        name: "bookmark that claims too much",
        rule: Rule::BookmarkAhead,
        put: early_bookmark,
    },
    Bug {
        name: "back in time after a reconnect",
        rule: Rule::BackInTime,
        put: back_in_time,
    },
    Bug {
        name: "initial events without an object",
        rule: Rule::WrongInitialEvents,
        put: short_initial,
    },
];

/// The operations that `is` takes, in an order that chance makes.
fn places(history: &History, random: &mut Random, is: impl Fn(&Operation) -> bool) -> Vec<usize> {
    let mut places: Vec<usize> = (0..history.operations.len())
        .filter(|place| is(&history.operations[*place]))
        .collect();
    if !places.is_empty() {
        let turn = random.below(places.len());
        places.rotate_left(turn);
    }
    places
}

/// The newest revision that a write had been acknowledged with before `call`.
fn acknowledged(history: &History, call: At) -> Revision {
    let before = history
        .operations
        .iter()
        .filter(|operation| operation.done < call);
    before
        .filter_map(stored)
        .map(|object| object.revision)
        .max()
        .unwrap_or(0)
}

fn stored(operation: &Operation) -> Option<&Object> {
    match &operation.what {
        What::Write {
            outcome: Outcome::Done(Written::Stored(object)),
            ..
        } => Some(object),
        _ => None,
    }
}

fn state(history: &History, revision: Revision) -> Vec<Object> {
    let mut state = std::collections::BTreeMap::new();
    for change in history
        .truth
        .changes
        .iter()
        .filter(|change| change.revision <= revision)
    {
        match &change.object {
            Some(object) => state.insert(&change.key, object.clone()),
            None => state.remove(&change.key),
        };
    }
    state.into_values().collect()
}

fn fresh_get(operation: &Operation) -> bool {
    matches!(
        &operation.what,
        What::Get {
            want: Want::Fresh,
            outcome: Outcome::Done(_),
            ..
        }
    )
}

fn stale_get(history: &mut History, random: &mut Random) -> Option<()> {
    for place in places(history, random, fresh_get) {
        let floor = acknowledged(history, history.operations[place].call);
        let What::Get { key, .. } = &history.operations[place].what else {
            continue;
        };
        let mut of_key = history
            .truth
            .changes
            .iter()
            .filter(|change| change.key == *key);
        let old = of_key.next()?.object.clone();
        if of_key.next().is_some_and(|next| next.revision <= floor) {
            let What::Get { outcome, .. } = &mut history.operations[place].what else {
                continue;
            };
            *outcome = Outcome::Done(old);
            return Some(());
        }
    }
    None
}

fn whole_list(operation: &Operation) -> bool {
    matches!(
        &operation.what,
        What::List {
            want: Want::Fresh,
            color: None,
            limit: None,
            broken: None,
            ..
        }
    )
}

fn stale_list(history: &mut History, random: &mut Random) -> Option<()> {
    for place in places(history, random, whole_list) {
        let floor = acknowledged(history, history.operations[place].call);
        if floor == 0 {
            continue;
        }
        let old = floor - 1;
        let objects = state(history, old);
        if let What::List { pages, .. } = &mut history.operations[place].what {
            pages[0].revision = old;
            pages[0].objects = objects;
            return Some(());
        }
    }
    None
}

fn lost_write(history: &mut History, random: &mut Random) -> Option<()> {
    let place = *places(history, random, |operation| stored(operation).is_some()).first()?;
    let revision = stored(&history.operations[place])?.revision;
    history
        .truth
        .changes
        .retain(|change| change.revision != revision);
    Some(())
}

fn lost_in_the_end(history: &mut History, _: &mut Random) -> Option<()> {
    history.truth.end.pop().map(drop)
}

fn lost_update(history: &mut History, random: &mut Random) -> Option<()> {
    let conditional = |operation: &Operation| {
        let expects = matches!(
            &operation.what,
            What::Write {
                write: Write::Update {
                    expect: Some(_),
                    ..
                },
                ..
            }
        );
        expects && stored(operation).is_some()
    };
    let place = *places(history, random, conditional).first()?;
    if let What::Write {
        write: Write::Update {
            expect: Some(expect),
            ..
        },
        ..
    } = &mut history.operations[place].what
    {
        *expect -= 1;
    }
    Some(())
}

fn refused_and_done(history: &mut History, random: &mut Random) -> Option<()> {
    let place = *places(history, random, |operation| stored(operation).is_some()).first()?;
    if let What::Write { outcome, .. } = &mut history.operations[place].what {
        *outcome = Outcome::Refused(409, "Conflict".to_owned());
    }
    Some(())
}

fn nobody_deleted(history: &mut History, random: &mut Random) -> Option<()> {
    // Another uid, so that nobody's request is for it.
    let deletes = |operation: &Operation| {
        matches!(
            &operation.what,
            What::Write {
                outcome: Outcome::Done(Written::Deleted(_)),
                ..
            }
        )
    };
    let place = *places(history, random, deletes).first()?;
    let gone = history.operations.remove(place);
    let What::Write { write, .. } = gone.what else {
        return None;
    };
    let unknown = |operation: &Operation| {
        let What::Write {
            write: other,
            outcome: Outcome::Unknown(_),
        } = &operation.what
        else {
            return false;
        };
        matches!(other, Write::Delete { .. }) && other.key() == write.key()
    };
    (!history.operations.iter().any(unknown)).then_some(())
}

fn done_twice(history: &mut History, random: &mut Random) -> Option<()> {
    let unknown = |operation: &Operation| {
        matches!(
            &operation.what,
            What::Write {
                outcome: Outcome::Unknown(_),
                ..
            }
        )
    };
    for place in places(history, random, unknown) {
        let What::Write { write, .. } = &history.operations[place].what else {
            continue;
        };
        let did = history.truth.changes.iter().find(|change| {
            change.object.as_ref().map(|object| object.value.as_str()) == write.value()
                && change.object.is_some()
        });
        if let Some(mut again) = did.cloned() {
            history.truth.until += 1;
            again.revision = history.truth.until;
            history.truth.changes.push(again);
            return Some(());
        }
    }
    None
}

fn early_write(history: &mut History, random: &mut Random) -> Option<()> {
    for place in places(history, random, |operation| stored(operation).is_some()) {
        let revision = stored(&history.operations[place])?.revision;
        let later = history
            .operations
            .iter()
            .filter(|other| stored(other).is_some_and(|object| object.revision > revision));
        if let Some(told) = later.map(|other| other.done).next() {
            history.operations[place].call = told + 1;
            history.operations[place].done = history.operations[place].done.max(told + 1);
            return Some(());
        }
    }
    None
}

fn phantom_read(history: &mut History, random: &mut Random) -> Option<()> {
    for place in places(history, random, fresh_get) {
        if let What::Get {
            outcome: Outcome::Done(Some(object)),
            ..
        } = &mut history.operations[place].what
        {
            object.value = "nobody's".to_owned();
            return Some(());
        }
    }
    None
}

fn mixed_list(history: &mut History, random: &mut Random) -> Option<()> {
    let changes = history.truth.changes.clone();
    for place in places(history, random, whole_list) {
        let What::List { pages, .. } = &mut history.operations[place].what else {
            continue;
        };
        for object in &mut pages[0].objects {
            let of_key = changes.iter().filter(|change| change.key == object.key);
            let older = of_key
                .filter_map(|change| change.object.clone())
                .find(|old| old.revision < object.revision);
            if let Some(older) = older {
                *object = older;
                return Some(());
            }
        }
    }
    None
}

fn short_list(history: &mut History, random: &mut Random) -> Option<()> {
    for place in places(history, random, whole_list) {
        let What::List { pages, .. } = &mut history.operations[place].what else {
            continue;
        };
        if pages[0].objects.pop().is_some() {
            return Some(());
        }
    }
    None
}

fn paged(operation: &Operation) -> bool {
    matches!(&operation.what, What::List { pages, .. } if pages.len() > 1)
}

fn mixed_pages(history: &mut History, random: &mut Random) -> Option<()> {
    let place = *places(history, random, paged).first()?;
    if let What::List { pages, .. } = &mut history.operations[place].what {
        pages[1].revision += 1;
    }
    Some(())
}

fn lost_between_pages(history: &mut History, random: &mut Random) -> Option<()> {
    let place = *places(history, random, paged).first()?;
    if let What::List { pages, .. } = &mut history.operations[place].what {
        pages[1].objects.remove(0);
    }
    Some(())
}

/// A watch with its start, its events and whether it owes what comes after them.
fn watch(operation: &mut Operation) -> Option<(Start, &mut Vec<Seen>, bool)> {
    match &mut operation.what {
        What::Watch {
            start, seen, end, ..
        } => Some((*start, seen, matches!(end, End::Owes(_)))),
        _ => None,
    }
}

fn watches(history: &History, random: &mut Random) -> Vec<usize> {
    places(history, random, |operation| {
        matches!(operation.what, What::Watch { .. })
    })
}

/// Where the events after the initial ones begin.
fn live(start: Start, seen: &[Seen]) -> usize {
    let is_end = |seen: &Seen| {
        matches!(
            seen.event,
            Event::Bookmark {
                initial_end: true,
                ..
            }
        )
    };
    match start {
        Start::After(_) => 0,
        Start::Initial => seen
            .iter()
            .position(is_end)
            .map_or(seen.len(), |end| end + 1),
    }
}

/// The place of some live event, and of the next one if there is one.
fn pair(start: Start, seen: &[Seen], random: &mut Random) -> Option<(usize, Option<usize>)> {
    let objects: Vec<usize> = (live(start, seen)..seen.len())
        .filter(|place| matches!(seen[*place].event, Event::Object(..)))
        .collect();
    let which = (!objects.is_empty()).then(|| random.below(objects.len()))?;
    Some((objects[which], objects.get(which + 1).copied()))
}

fn left_selector(event: &Event, changes: &[Change]) -> bool {
    let Event::Object(Kind::Deleted, gone) = event else {
        return false;
    };
    changes
        .iter()
        .any(|change| change.revision == gone.revision && change.object.is_some())
}

fn lost_event(
    history: &mut History,
    random: &mut Random,
    is: fn(&Event, &[Change]) -> bool,
) -> Option<()> {
    let changes = history.truth.changes.clone();
    for place in watches(history, random) {
        let (start, seen, owes) = watch(&mut history.operations[place])?;
        for event in live(start, seen)..seen.len() {
            let later = seen[event + 1..]
                .iter()
                .any(|seen| matches!(seen.event, Event::Object(..)));
            let whole = matches!(seen[event].event, Event::Object(..));
            if whole && (owes || later) && is(&seen[event].event, &changes) {
                seen.remove(event);
                return Some(());
            }
        }
    }
    None
}

fn duplicate_event(history: &mut History, random: &mut Random) -> Option<()> {
    for place in watches(history, random) {
        let (start, seen, _) = watch(&mut history.operations[place])?;
        if let Some((event, _)) = pair(start, seen, random) {
            let again = seen[event].clone();
            seen.push(again);
            return Some(());
        }
    }
    None
}

fn swapped_events(history: &mut History, random: &mut Random) -> Option<()> {
    for place in watches(history, random) {
        let (start, seen, _) = watch(&mut history.operations[place])?;
        if let Some((event, Some(next))) = pair(start, seen, random) {
            let [first, second] = [event, next].map(|place| seen[place].event.clone());
            (seen[event].event, seen[next].event) = (second, first);
            return Some(());
        }
    }
    None
}

fn phantom_event(history: &mut History, random: &mut Random) -> Option<()> {
    for place in watches(history, random) {
        let (start, seen, _) = watch(&mut history.operations[place])?;
        if let Some((event, _)) = pair(start, seen, random) {
            let mut lost = seen[event].clone();
            if let Event::Object(_, object) = &mut lost.event {
                object.value = "lost".to_owned();
            }
            seen.insert(event, lost);
            return Some(());
        }
    }
    None
}

fn wrong_kind(history: &mut History, random: &mut Random) -> Option<()> {
    for place in watches(history, random) {
        let (start, seen, _) = watch(&mut history.operations[place])?;
        if let Some((event, _)) = pair(start, seen, random)
            && let Event::Object(kind, _) = &mut seen[event].event
        {
            *kind = if *kind == Kind::Added {
                Kind::Modified
            } else {
                Kind::Added
            };
            return Some(());
        }
    }
    None
}

fn early_bookmark(history: &mut History, random: &mut Random) -> Option<()> {
    for place in watches(history, random) {
        let (start, seen, _) = watch(&mut history.operations[place])?;
        if let Some((event, _)) = pair(start, seen, random) {
            let claim = Event::Bookmark {
                revision: seen[event].event.revision(),
                initial_end: false,
            };
            let at = seen[event].at;
            seen.insert(event, Seen { at, event: claim });
            return Some(());
        }
    }
    None
}

fn back_in_time(history: &mut History, random: &mut Random) -> Option<()> {
    let changes = history.truth.changes.clone();
    for place in watches(history, random) {
        let call = history.operations[place].call;
        let (Start::After(start), seen, _) = watch(&mut history.operations[place])? else {
            continue;
        };
        let mut old = changes.iter().filter(|change| change.revision <= start);
        if let Some(object) = old.find_map(|change| change.object.clone()) {
            let event = Event::Object(Kind::Modified, object);
            seen.insert(0, Seen { at: call, event });
            return Some(());
        }
    }
    None
}

fn short_initial(history: &mut History, random: &mut Random) -> Option<()> {
    for place in watches(history, random) {
        let (Start::Initial, seen, _) = watch(&mut history.operations[place])? else {
            continue;
        };
        if live(Start::Initial, seen) > 1 {
            seen.remove(0);
            return Some(());
        }
    }
    None
}
