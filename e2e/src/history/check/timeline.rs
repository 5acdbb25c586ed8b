//! The state at every revision, by key.

use std::collections::{BTreeMap, HashMap};

use super::super::record::{Change, Gap, Object, Revision, Truth};
use super::Point;

/// What a key held from some revision on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held<'a> {
    Object(&'a Object),
    Nothing,
    /// It was compacted away before it was seen.
    Unobserved,
}

impl<'a> Held<'a> {
    pub(super) fn object(self) -> Option<&'a Object> {
        match self {
            Self::Object(object) => Some(object),
            Self::Nothing | Self::Unobserved => None,
        }
    }
}

pub(super) struct Timeline<'a> {
    pub(super) truth: &'a Truth,
    /// What each key held from each revision on, ascending; before the first, nothing.
    keys: BTreeMap<&'a str, Vec<(Revision, Held<'a>)>>,
    /// The same for keys that neither a change nor a gap's end names.
    elsewhere: Vec<(Revision, Held<'a>)>,
    /// Places in the truth's changes.
    by_value: HashMap<&'a str, Vec<usize>>,
    deletions: HashMap<&'a str, usize>,
}

impl<'a> Timeline<'a> {
    pub(super) fn new(truth: &'a Truth) -> Self {
        let mut keys: BTreeMap<&str, Vec<(Revision, Held<'_>)>> = BTreeMap::new();
        let mut by_value: HashMap<&str, Vec<usize>> = HashMap::new();
        let mut deletions = HashMap::new();
        let all = truth.changes.iter().map(|change| change.key.as_str());
        let gaps = truth.gaps.iter().flat_map(|gap| &gap.objects);
        for key in all.chain(gaps.map(|object| object.key.as_str())) {
            keys.entry(key).or_default();
        }
        let mut gaps = truth.gaps.iter().peekable();
        for (place, change) in truth.changes.iter().enumerate() {
            while let Some(gap) = gaps.next_if(|gap| gap.until <= change.revision) {
                bridge(&mut keys, gap);
            }
            let held = keys.entry(&change.key).or_default();
            if let Some(object) = &change.object {
                by_value.entry(&object.value).or_default().push(place);
                held.push((change.revision, Held::Object(object)));
            } else {
                if let Some((_, Held::Object(gone))) = held.last() {
                    deletions.insert(gone.uid.as_str(), place);
                }
                held.push((change.revision, Held::Nothing));
            }
        }
        for gap in gaps {
            bridge(&mut keys, gap);
        }
        let unnamed = |gap: &Gap| {
            [
                (gap.after + 1, Held::Unobserved),
                (gap.until, Held::Nothing),
            ]
        };
        Self {
            truth,
            keys,
            elsewhere: truth.gaps.iter().flat_map(unnamed).collect(),
            by_value,
            deletions,
        }
    }

    /// The changes that left this value in etcd.
    pub(super) fn by_value(&self, value: &str) -> impl Iterator<Item = &'a Change> {
        let places = self.by_value.get(value).map_or(&[][..], Vec::as_slice);
        places.iter().map(|place| &self.truth.changes[*place])
    }

    /// The change that ended the object of this uid.
    pub(super) fn deletion(&self, uid: &str) -> Option<&'a Change> {
        let place = self.deletions.get(uid)?;
        Some(&self.truth.changes[*place])
    }

    /// Whether what happened at a revision is known.
    pub(super) fn observed(&self, revision: Revision) -> bool {
        let in_gap = |gap: &Gap| (gap.after + 1..gap.until).contains(&revision);
        revision <= self.truth.until && !self.truth.gaps.iter().any(in_gap)
    }

    /// Whether a change at a revision would have been seen; where a gap ends, only what it led to is known.
    pub(super) fn saw(&self, revision: Revision) -> bool {
        let gaps = &self.truth.gaps;
        self.observed(revision) && gaps.iter().all(|gap| gap.until != revision)
    }

    /// Whether everything after `from` up to `to` is known.
    pub(super) fn observed_between(&self, from: Revision, to: Revision) -> bool {
        to <= self.truth.until
            && self
                .truth
                .gaps
                .iter()
                .all(|gap| gap.until <= from || gap.after >= to)
    }

    fn held(&self, key: &str) -> &[(Revision, Held<'a>)] {
        self.keys.get(key).unwrap_or(&self.elsewhere)
    }

    /// What a key held at a revision.
    pub(super) fn at(&self, key: &str, revision: Revision) -> Held<'a> {
        if !self.observed(revision) {
            return Held::Unobserved;
        }
        let held = self.held(key);
        let after = held.partition_point(|(since, _)| *since <= revision);
        match after.checked_sub(1) {
            Some(place) => held[place].1,
            None => Held::Nothing,
        }
    }

    /// What a key held before a revision.
    pub(super) fn before(&self, key: &str, revision: Revision) -> Held<'a> {
        let held = self.held(key);
        let from = held.partition_point(|(since, _)| *since < revision);
        match from.checked_sub(1) {
            Some(place) => held[place].1,
            None => Held::Nothing,
        }
    }

    /// All objects at a revision that have the label, by key; nothing if that is not known.
    pub(super) fn list(&self, revision: Revision, color: Option<&str>) -> Option<Vec<&'a Object>> {
        if !self.observed(revision) {
            return None;
        }
        let objects = self.keys.keys().map(|key| self.at(key, revision));
        let selected = |object: &&Object| color.is_none_or(|color| color == object.color);
        Some(objects.filter_map(Held::object).filter(selected).collect())
    }

    /// The first revision not before `from` at which what a key held is as wished.
    pub(super) fn first(
        &self,
        key: &str,
        from: Revision,
        wished: impl Fn(Option<&Object>) -> bool,
    ) -> Point {
        if from > self.truth.until {
            return Point::Unobserved;
        }
        let mut held = self.at(key, from);
        let mut since = from;
        let later = self
            .held(key)
            .iter()
            .filter(|(revision, _)| *revision > from);
        for (revision, next) in later {
            match held {
                Held::Unobserved => return Point::Unobserved,
                Held::Object(object) if wished(Some(object)) => return Point::At(since),
                Held::Nothing if wished(None) => return Point::At(since),
                Held::Object(_) | Held::Nothing => {}
            }
            (since, held) = (*revision, *next);
        }
        match held {
            Held::Unobserved => Point::Unobserved,
            held if wished(held.object()) => Point::At(since),
            Held::Object(_) | Held::Nothing => Point::Never,
        }
    }
}

fn bridge<'a>(keys: &mut BTreeMap<&'a str, Vec<(Revision, Held<'a>)>>, gap: &'a Gap) {
    for (key, held) in keys {
        held.push((gap.after + 1, Held::Unobserved));
        let found = gap.objects.iter().find(|object| object.key == **key);
        held.push((gap.until, found.map_or(Held::Nothing, Held::Object)));
    }
}
