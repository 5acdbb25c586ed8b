//! Order in real time: walks through everything that anybody was told, in the order in which it was told.

use super::super::record::{
    At, Event, History, Object, Outcome, Page, Revision, Start, Want, What, Write, Written,
};
use super::timeline::{Held, Timeline};
use super::writes::Happened;
use super::{Judged, Point, Rule, Verdict};

/// What had been told by when.
#[derive(Default)]
struct Floors(Vec<Floor>);

#[derive(Clone, Copy, Default)]
struct Floor {
    at: At,
    revision: Revision,
    /// Who was told.
    by: Option<usize>,
}

impl Floors {
    /// The newest revision that anybody had been told of before `call`.
    fn before(&self, call: At) -> Floor {
        let told = self.0.partition_point(|floor| floor.at < call);
        told.checked_sub(1)
            .map_or_else(Floor::default, |place| self.0[place])
    }

    /// Times come in order.
    fn raise(&mut self, at: At, revision: Revision, by: usize) {
        if self.0.last().is_none_or(|last| last.revision < revision) {
            self.0.push(Floor {
                at,
                revision,
                by: Some(by),
            });
        }
    }
}

/// Something that was told at one moment.
#[derive(Clone, Copy)]
struct Told {
    at: At,
    operation: usize,
    /// The page of a list, the event of a watch.
    part: usize,
}

pub(super) fn check(
    history: &History,
    timeline: &Timeline<'_>,
    happened: &Happened,
    verdict: &mut Verdict,
) {
    let mut told = Vec::new();
    for (operation, recorded) in history.operations.iter().enumerate() {
        let mut tell = |at, part| {
            told.push(Told {
                at,
                operation,
                part,
            });
        };
        match &recorded.what {
            What::Write { .. } | What::Get { .. } => tell(recorded.done, 0),
            What::List { pages, .. } => {
                (0..pages.len()).for_each(|part| tell(pages[part].done, part));
            }
            What::Watch { seen, .. } => {
                (0..seen.len()).for_each(|part| tell(seen[part].at, part));
            }
        }
    }
    told.sort_by_key(|told| told.at);
    let mut floors = Floors::default();
    let mut judged = Judged {
        operations: &history.operations,
        timeline,
        verdict,
    };
    for told in told {
        let floor = floors.before(judged.operations[told.operation].call);
        match judged.point(told, floor, happened) {
            Some(revision) if revision <= timeline.truth.until => {
                floors.raise(told.at, revision, told.operation);
            }
            Some(revision) => {
                let why = format!(
                    "revision {revision} was told, etcd stood at {} in the end",
                    timeline.truth.until
                );
                judged.add(Rule::NeverWas, told.operation, Floor::default(), why);
            }
            None => {}
        }
    }
    // What was never acknowledged has no end, but a beginning.
    for (index, revision) in happened {
        let operation = &history.operations[*index];
        let What::Write { outcome, .. } = &operation.what else {
            continue;
        };
        if !matches!(outcome, Outcome::Done(_)) {
            judged.is_later(*index, *revision, floors.before(operation.call));
        }
    }
}

impl Judged<'_> {
    fn add(&mut self, rule: Rule, operation: usize, floor: Floor, why: String) {
        let mut operations = vec![operation];
        operations.extend(floor.by);
        self.verdict.add(rule, &operations, why);
    }

    /// Judges what was told, and says the earliest revision at which it was true.
    fn point(&mut self, told: Told, floor: Floor, happened: &Happened) -> Option<Revision> {
        let index = told.operation;
        match &self.operations[index].what {
            What::Write { write, outcome } => match outcome {
                Outcome::Done(written) => {
                    let revision = match written {
                        Written::Stored(object) => object.revision,
                        Written::Deleted(_) => *happened.get(&index)?,
                    };
                    self.is_later(index, revision, floor);
                    Some(revision)
                }
                Outcome::Refused(status, reason) => {
                    self.refusal(index, write, *status, reason, floor)
                }
                Outcome::Unknown(_) => None,
            },
            What::Get {
                key,
                want,
                outcome: Outcome::Done(found),
            } => self.get(index, key, *want, found.as_ref(), floor),
            What::Get { .. } => None,
            What::List {
                color,
                want,
                limit,
                pages,
                broken,
            } => {
                let page = &pages[told.part];
                if told.part == 0 {
                    self.revision_of(index, *want, page.revision, floor);
                    self.pages(index, color.as_deref(), *limit, pages, broken.is_none());
                }
                Some(page.revision)
            }
            What::Watch { start, seen, .. } => {
                let event = &seen[told.part].event;
                let initial = matches!(
                    event,
                    Event::Bookmark {
                        initial_end: true,
                        ..
                    }
                );
                if *start == Start::Initial && initial {
                    self.revision_of(index, Want::Fresh, event.revision(), floor);
                }
                Some(event.revision())
            }
        }
    }

    fn is_later(&mut self, index: usize, revision: Revision, floor: Floor) {
        if revision <= floor.revision {
            let why = format!(
                "it was called after {} had been told and happened at {revision}",
                floor.revision
            );
            self.add(Rule::WriteOrder, index, floor, why);
        }
    }

    /// A refusal that says something about the object was right at some revision.
    fn refusal(
        &mut self,
        index: usize,
        write: &Write,
        status: u16,
        reason: &str,
        floor: Floor,
    ) -> Option<Revision> {
        let expect = match write {
            Write::Update { expect, .. } | Write::Delete { expect, .. } => *expect,
            Write::Create { .. } | Write::Patch { .. } => None,
        };
        let from = floor.revision;
        let first = match (status, reason, write) {
            (404, ..) => self
                .timeline
                .first(write.key(), from, |held| held.is_none()),
            (409, "AlreadyExists", Write::Create { .. }) => {
                self.timeline
                    .first(write.key(), from, |held| held.is_some())
            }
            (409, "Conflict", _) => {
                let expect = expect?;
                self.timeline.first(write.key(), from, |held| {
                    held.is_none_or(|held| held.revision != expect)
                })
            }
            _ => return None,
        };
        let why = || {
            format!(
                "{write:?} was refused with {status} {reason}; since {from}, which had been told, that was never true"
            )
        };
        self.reached(first, Rule::UnfoundedRefusal, index, floor, why)
    }

    fn reached(
        &mut self,
        point: Point,
        rule: Rule,
        index: usize,
        floor: Floor,
        why: impl FnOnce() -> String,
    ) -> Option<Revision> {
        match point {
            Point::At(revision) => Some(revision),
            Point::Never => {
                self.add(rule, index, floor, why());
                None
            }
            Point::Unobserved => {
                self.verdict.unobserved += 1;
                None
            }
        }
    }

    fn get(
        &mut self,
        index: usize,
        key: &str,
        want: Want,
        found: Option<&Object>,
        floor: Floor,
    ) -> Option<Revision> {
        if let Some(found) = found
            && !self.was(index, key, found)
        {
            return None;
        }
        let (least, floor) = match want {
            Want::Fresh => (floor.revision, floor),
            Want::Any => (0, Floor::default()),
            Want::NotOlderThan(revision) | Want::Exact(revision) => (revision, Floor::default()),
        };
        let from = least.max(found.map_or(0, |found| found.revision));
        let first = self.timeline.first(key, from, |held| held == found);
        let why = || {
            format!("{want:?} read of {key} was told {found:?}; {least} had been told or asked for")
        };
        self.reached(first, Rule::StaleRead, index, floor, why)
    }

    /// Whether a key ever held this.
    fn was(&mut self, index: usize, key: &str, found: &Object) -> bool {
        match self.timeline.at(key, found.revision) {
            Held::Object(object) if object == found => true,
            Held::Unobserved if found.revision <= self.timeline.truth.until => {
                self.verdict.unobserved += 1;
                false
            }
            held => {
                let why = format!("{key} was told to hold {found:?}; etcd had {held:?}");
                self.add(Rule::NeverWas, index, Floor::default(), why);
                false
            }
        }
    }

    /// The state that a list or the initial events of a watch show is as new as it has to be.
    fn revision_of(&mut self, index: usize, want: Want, revision: Revision, floor: Floor) {
        let (right, least, floor) = match want {
            Want::Fresh => (revision >= floor.revision, floor.revision, floor),
            Want::Any => return,
            Want::NotOlderThan(least) => (revision >= least, least, Floor::default()),
            Want::Exact(wanted) => (revision == wanted, wanted, Floor::default()),
        };
        if !right {
            let why = format!("{want:?} read is of {revision}; {least} had been told or asked for");
            self.add(Rule::StaleRead, index, floor, why);
        }
    }

    fn pages(
        &mut self,
        index: usize,
        color: Option<&str>,
        limit: Option<usize>,
        pages: &[Page],
        complete: bool,
    ) {
        let revision = pages[0].revision;
        if let Some(other) = pages.iter().find(|page| page.revision != revision) {
            let why = format!("pages are of {revision} and {}", other.revision);
            self.add(Rule::MixedPages, index, Floor::default(), why);
        }
        let Some(state) = self.timeline.list(revision, color) else {
            // Later than the end is told of elsewhere.
            self.verdict.unobserved += 1;
            return;
        };
        let told: Vec<&Object> = pages.iter().flat_map(|page| &page.objects).collect();
        let wanted = if complete {
            &state[..]
        } else {
            &state[..told.len().min(state.len())]
        };
        let too_long = limit.and_then(|limit| pages.iter().find(|page| page.objects.len() > limit));
        if told != wanted || too_long.is_some() {
            let different = told
                .iter()
                .zip(wanted)
                .find(|(told, wanted)| told != wanted);
            let why = format!(
                "the list at {revision} has {} objects, the state then {}; the first that differ: {different:?}",
                told.len(),
                wanted.len()
            );
            self.add(Rule::WrongList, index, Floor::default(), why);
        }
    }
}
