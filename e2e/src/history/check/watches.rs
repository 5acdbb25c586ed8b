//! Watches: what each must tell follows from where it starts and what it selects.

use super::super::record::{
    Change, End, Event, Kind, Object, Operation, Revision, Seen, Start, What,
};
use super::timeline::{Held, Timeline};
use super::{Rule, Verdict};

/// Further violations of one watch follow from its first ones.
const MOST: usize = 4;

pub(super) fn check(
    index: usize,
    operation: &Operation,
    timeline: &Timeline<'_>,
    verdict: &mut Verdict,
) {
    let What::Watch {
        color,
        start,
        seen,
        end,
    } = &operation.what
    else {
        return;
    };
    let color = color.as_deref();
    let mut found = Verdict::default();
    let (start, seen) = match start {
        Start::After(revision) => (*revision, &seen[..]),
        Start::Initial => match initial(index, color, seen, timeline, &mut found) {
            Some(rest) => rest,
            None => {
                if let End::Owes(_) = end {
                    let why = "the initial events never ended".to_owned();
                    found.add(Rule::LostEvent, &[index], why);
                }
                verdict.violations.append(&mut found.violations);
                return;
            }
        },
    };
    let told = seen.iter().map(|seen| seen.event.revision()).max();
    let owed = match end {
        End::Owes(revision) => *revision,
        End::Ended(_) => 0,
    };
    let until = told.unwrap_or(0).max(owed);
    let mut watch = Watch {
        index,
        start,
        expected: expected(start, until, color, timeline, &mut found),
        told: Vec::new(),
        next: 0,
        last: start,
    };
    for seen in seen {
        if timeline.observed_between(start, seen.event.revision()) {
            watch.see(&seen.event, &mut found);
        } else {
            found.unobserved += 1;
        }
    }
    if let End::Owes(revision) = end {
        watch.owes(*revision, &mut found);
    }
    found.violations.truncate(MOST);
    verdict.violations.append(&mut found.violations);
    verdict.unobserved += found.unobserved;
}

/// Judges the initial events; where the rest begins and what it is, if they came to an end.
fn initial<'a>(
    index: usize,
    color: Option<&str>,
    seen: &'a [Seen],
    timeline: &Timeline<'_>,
    found: &mut Verdict,
) -> Option<(Revision, &'a [Seen])> {
    let is_end = |seen: &Seen| {
        matches!(
            seen.event,
            Event::Bookmark {
                initial_end: true,
                ..
            }
        )
    };
    let end = seen.iter().position(is_end);
    let block = &seen[..end.unwrap_or(seen.len())];
    let mut told: Vec<&Object> = Vec::new();
    for seen in block {
        match &seen.event {
            Event::Object(Kind::Added, object) => told.push(object),
            other => {
                let why = format!("{other:?} came before the initial events ended");
                found.add(Rule::WrongInitialEvents, &[index], why);
            }
        }
    }
    let end = end?;
    let revision = seen[end].event.revision();
    told.sort_by(|a, b| a.key.cmp(&b.key));
    match timeline.list(revision, color) {
        Some(state) if state != told => {
            let why =
                format!("the initial events are {told:?}, the state at {revision} was {state:?}");
            found.add(Rule::WrongInitialEvents, &[index], why);
        }
        Some(_) => {}
        None => found.unobserved += 1,
    }
    Some((revision, &seen[end + 1..]))
}

/// What a watch from `start` tells up to `until`, or up to where nobody knows.
fn expected(
    start: Revision,
    until: Revision,
    color: Option<&str>,
    timeline: &Timeline<'_>,
    found: &mut Verdict,
) -> Vec<(Kind, Object)> {
    let truth = timeline.truth;
    let after = truth
        .changes
        .partition_point(|change| change.revision <= start);
    let mut events = Vec::new();
    for change in &truth.changes[after..] {
        if change.revision > until {
            break;
        }
        if !timeline.observed_between(start, change.revision) {
            found.unobserved += 1;
            break;
        }
        events.extend(event(change, color, timeline));
    }
    events
}

/// A change as seen through a selector.
fn event(change: &Change, color: Option<&str>, timeline: &Timeline<'_>) -> Option<(Kind, Object)> {
    let selected = |object: &&Object| color.is_none_or(|color| color == object.color);
    let before = match timeline.before(&change.key, change.revision) {
        Held::Object(object) => Some(object).filter(selected),
        Held::Nothing | Held::Unobserved => None,
    };
    let after = change.object.as_ref().filter(selected);
    match (before, after) {
        (None, None) => None,
        (None, Some(after)) => Some((Kind::Added, after.clone())),
        (Some(_), Some(after)) => Some((Kind::Modified, after.clone())),
        // The object as it was last selected, with the revision of what took it away.
        (Some(before), None) => {
            let mut gone = before.clone();
            gone.revision = change.revision;
            Some((Kind::Deleted, gone))
        }
    }
}

struct Watch {
    index: usize,
    start: Revision,
    expected: Vec<(Kind, Object)>,
    /// Places in `expected` that were told.
    told: Vec<usize>,
    /// The place in `expected` that is due.
    next: usize,
    /// The newest revision that was told or promised.
    last: Revision,
}

impl Watch {
    fn see(&mut self, event: &Event, found: &mut Verdict) {
        match event {
            Event::Bookmark { revision, .. } => self.bookmark(*revision, found),
            Event::Object(kind, object) => self.object(*kind, object, found),
        }
    }

    fn bookmark(&mut self, revision: Revision, found: &mut Verdict) {
        let index = &[self.index];
        if revision < self.last {
            let why = format!("a bookmark at {revision} came after {}", self.last);
            found.add(Rule::BackInTime, index, why);
            // Once is told once.
            self.last = revision;
            return;
        }
        if let Some((kind, object)) = self.expected.get(self.next)
            && object.revision <= revision
        {
            let why = format!("a bookmark at {revision} came before {kind:?} {object:?}");
            found.add(Rule::BookmarkAhead, index, why);
        }
        self.last = revision;
    }

    fn object(&mut self, kind: Kind, object: &Object, found: &mut Verdict) {
        let index = &[self.index];
        let is_it = |due: &(Kind, Object)| due.0 == kind && due.1 == *object;
        let due = self.expected.get(self.next).is_some_and(is_it);
        let place = if due {
            Some(self.next)
        } else {
            self.expected.iter().position(is_it)
        };
        let Some(place) = place else {
            let same = |due: &&(Kind, Object)| due.1.revision == object.revision;
            let (rule, why) = match self.expected.iter().find(same) {
                Some(due) => {
                    self.next += usize::from(self.expected.get(self.next) == Some(due));
                    (Rule::WrongEvent, format!("it should be {due:?}"))
                }
                None if object.revision <= self.start => (
                    Rule::BackInTime,
                    format!("the watch starts after {}", self.start),
                ),
                None => (
                    Rule::WrongEvent,
                    "nothing that it selects happened then".to_owned(),
                ),
            };
            found.add(rule, index, format!("{kind:?} {object:?} was told; {why}"));
            return;
        };
        if place > self.next {
            let why = format!(
                "{:?} is missing before {kind:?} {object:?}",
                self.expected[self.next]
            );
            found.add(Rule::LostEvent, index, why);
        } else if place < self.next {
            let (rule, how) = if self.told.contains(&place) {
                (Rule::DuplicateEvent, "twice")
            } else {
                (Rule::ReorderedEvent, "after a later one")
            };
            let why = format!("{kind:?} {object:?} was told {how}");
            found.add(rule, index, why);
        }
        self.told.push(place);
        self.next = self.next.max(place + 1);
        self.last = self.last.max(object.revision);
    }

    fn owes(&self, revision: Revision, found: &mut Verdict) {
        if let Some((kind, object)) = self.expected.get(self.next)
            && object.revision <= revision
        {
            let why = format!("{kind:?} {object:?} was never told, though there was time");
            found.add(Rule::LostEvent, &[self.index], why);
        }
    }
}
