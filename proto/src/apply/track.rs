//! What a write takes from other managers and gives to its own.

use super::compare::{Comparison, Trees, compare};
use super::element::Element;
use super::filter::Filter;
use super::managed::{Conflict, Conflicts, Entry, Malformed, Managed, Operation, Who};
use super::schema::{Merge, Treat, Type};
use super::set::Set;
use crate::catalogue::MsgId;
use crate::codec::json::{self, Strictness};
use crate::convert;
use crate::value::Value;

/// A version of the written kind.
#[derive(Clone)]
pub struct Version {
    pub message: MsgId,
    /// What a write to the subject can own in this version.
    pub filter: Filter,
}

/// What is written: a resource in one of its versions, or a subresource of it.
pub struct Subject<'a> {
    pub kind: &'a str,
    /// The version of the request; all trees of the write are in it.
    pub api_version: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    pub message: MsgId,
    /// The versions that are served. Entries of others are dropped.
    pub version: &'a dyn Fn(&str) -> Option<Version>,
}

/// Fields of metadata and type that nobody owns.
const STRIPPED: [&str; 12] = [
    "apiVersion",
    "kind",
    "metadata",
    "metadata.name",
    "metadata.namespace",
    "metadata.creationTimestamp",
    "metadata.selfLink",
    "metadata.uid",
    "metadata.clusterName",
    "metadata.generation",
    "metadata.managedFields",
    "metadata.resourceVersion",
];

/// Takes from a set what nobody owns.
pub(super) fn strip(set: &mut Set) {
    static STRIP: std::sync::LazyLock<Set> = std::sync::LazyLock::new(|| Set::of_dotted(STRIPPED));
    set.difference(&STRIP);
}

/// Whether a client asks to forget all managers: an empty list, or one with one empty entry.
#[must_use]
pub fn is_reset(list: Option<&Value>) -> bool {
    match list.and_then(Value::as_list) {
        Some([]) => true,
        Some([one]) => one.as_map().is_some_and(crate::Map::is_empty),
        _ => false,
    }
}

/// Records a create (with an empty `old`), an update or a patch: what differs between the two trees,
/// both conformed, becomes the manager's. An object that is not tracked yet stays so unless this
/// creates it.
///
/// # Errors
/// The objects cannot be compared; managers should stay as they are.
pub fn update(
    subject: &Subject<'_>,
    old: &Value,
    new: &Value,
    managed: Managed,
    manager: &str,
    now: &str,
) -> Result<Managed, Malformed> {
    if managed.is_empty() && !crate::meta::uid(old).is_empty() {
        return Ok(managed);
    }
    record(subject, (old, new), managed, manager, now)
}

pub(super) fn record(
    subject: &Subject<'_>,
    (old, new): (&Value, &Value),
    mut managed: Managed,
    manager: &str,
    now: &str,
) -> Result<Managed, Malformed> {
    settle_all(subject, &mut managed);
    let trees = Trees::Conformed;
    let change = release(subject, (old, new, trees), &mut managed, None, Force::Yes)?;
    let mut set = match change {
        Release::Done(comparison) => comparison.into_changed(),
        Release::Conflicts(_) => return Ok(managed),
    };
    strip(&mut set);
    if !set.is_empty() {
        let who = Who::new(
            manager,
            Operation::Update,
            subject.api_version,
            subject.subresource,
        );
        grant(&mut managed, &who, set, subject.api_version, now);
    }
    managed.cap();
    Ok(managed)
}

fn grant(managed: &mut Managed, who: &Who, set: Set, api_version: &str, now: &str) {
    match managed.position(who) {
        Some(i) => {
            let entry = &mut managed.entries[i];
            entry.set.union(set);
            entry.time = Some(now.to_owned());
        }
        None => managed.entries.push(Entry {
            manager: who.manager.clone(),
            operation: who.operation,
            api_version: api_version.to_owned(),
            subresource: who.subresource.clone(),
            time: Some(now.to_owned()),
            set,
        }),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Force {
    Yes,
    No,
}

pub(super) enum Release {
    Done(Comparison),
    Conflicts(Conflicts),
}

/// Takes what changed from every manager but one. Without force nothing happens if somebody would lose
/// a field that was changed or added.
pub(super) fn release(
    subject: &Subject<'_>,
    trees: (&Value, &Value, Trees),
    managed: &mut Managed,
    but: Option<&Who>,
    force: Force,
) -> Result<Release, Malformed> {
    let mut changes = Changes::new(subject, trees)?;
    let mut conflicts = Conflicts::default();
    let mut kept = Vec::with_capacity(managed.entries.len());
    for mut entry in std::mem::take(&mut managed.entries) {
        if but.is_some_and(|who| entry.is(who)) {
            kept.push(entry);
            continue;
        }
        let Some(change) = changes.in_version(subject, &entry.api_version)? else {
            continue;
        };
        if force == Force::No {
            let mut fields = entry.set.intersection(&change.added);
            fields.union(entry.set.intersection(&change.modified));
            if !fields.is_empty() {
                let who = entry.who();
                conflicts.0.push(Conflict { who, fields });
            }
        }
        for lost in [&change.added, &change.modified, &change.removed] {
            entry.set.difference(lost);
        }
        kept.push(entry);
    }
    kept.retain(|e| !e.set.is_empty());
    managed.entries = kept;
    if conflicts.0.is_empty() {
        Ok(Release::Done(changes.into_first()))
    } else {
        conflicts.sort();
        Ok(Release::Conflicts(conflicts))
    }
}

/// What changed, in each version that somebody manages fields in.
struct Changes<'a> {
    trees: (&'a Value, &'a Value, Trees),
    known: Vec<(String, Comparison)>,
}

impl<'a> Changes<'a> {
    fn new(subject: &Subject<'_>, trees: (&'a Value, &'a Value, Trees)) -> Result<Self, Malformed> {
        let (old, new, form) = trees;
        let mut first = compare(old, new, subject.message, form)?;
        if let Some(version) = (subject.version)(subject.api_version) {
            first.filter(&version.filter);
        }
        let known = vec![(subject.api_version.to_owned(), first)];
        Ok(Self { trees, known })
    }

    /// None if the version is not served.
    fn in_version(
        &mut self,
        subject: &Subject<'_>,
        api_version: &str,
    ) -> Result<Option<&Comparison>, Malformed> {
        let at = match self.known.iter().position(|(v, _)| v == api_version) {
            Some(at) => at,
            // What is not served is asked for again: there may be any number of such versions.
            None => match self.compare(subject, api_version)? {
                None => return Ok(None),
                Some(comparison) => {
                    self.known.push((api_version.to_owned(), comparison));
                    self.known.len() - 1
                }
            },
        };
        Ok(Some(&self.known[at].1))
    }

    fn compare(
        &self,
        subject: &Subject<'_>,
        api_version: &str,
    ) -> Result<Option<Comparison>, Malformed> {
        let Some(version) = (subject.version)(api_version) else {
            return Ok(None);
        };
        let (old, new, form) = self.trees;
        let to = |value| in_version(subject, value, subject.message, api_version, &version, form);
        let mut comparison = compare(&to(old)?, &to(new)?, version.message, form)?;
        comparison.filter(&version.filter);
        Ok(Some(comparison))
    }

    fn into_first(self) -> Comparison {
        let first = self.known.into_iter().next();
        first.map(|(_, comparison)| comparison).unwrap_or_default()
    }
}

/// A tree in another version of its kind.
pub(super) fn in_version(
    subject: &Subject<'_>,
    value: &Value,
    from: MsgId,
    api_version: &str,
    to: &Version,
    form: Trees,
) -> Result<Value, Malformed> {
    let failed = || Malformed::Conversion(api_version.to_owned());
    if form == Trees::Conformed {
        return convert::convert(value.clone(), from, to.message).map_err(|_| failed());
    }
    if from == to.message {
        let mut value = value.clone();
        value.set(&["apiVersion"], api_version);
        return Ok(value);
    }
    let mut text = Vec::new();
    json::write(value, &mut text);
    let conformed = json::decode(&text, from, Strictness::Lenient).map_err(|_| failed())?;
    let conformed = convert::convert(conformed.value, from, to.message).map_err(|_| failed())?;
    Ok(explicit(subject.kind, &conformed, to.message, api_version))
}

/// A conformed tree as the JSON that upstream shows of it.
pub(super) fn explicit(kind: &str, object: &Value, message: MsgId, api_version: &str) -> Value {
    let mut text = Vec::with_capacity(1024);
    json::encode(object, message, &mut text);
    let mut explicit = json::parse(&text).unwrap_or_else(|_| Value::object());
    explicit.set(&["apiVersion"], api_version);
    explicit.set(&["kind"], kind);
    explicit
}

/// Follows changes of the schema: where merged lists or maps have become one value, who owned a part
/// of them owns the whole. Entries of versions that are not served any more are dropped.
pub(super) fn settle_all(subject: &Subject<'_>, managed: &mut Managed) {
    managed.entries.retain_mut(|entry| {
        let message = if entry.api_version == subject.api_version {
            subject.message
        } else {
            match (subject.version)(&entry.api_version) {
                Some(version) => version.message,
                None => return false,
            }
        };
        settle(&mut entry.set, Type::Message(message));
        true
    });
}

fn settle(set: &mut Set, of: Type) {
    for node in &mut set.nodes {
        if node.below.is_empty() {
            continue;
        }
        let below = match &node.element {
            Element::Field(name) => of.entry(name),
            _ => Some(of.element()),
        };
        match below {
            None | Some(Type::Deduced) => {}
            Some(below) => match below.treat([None, None]) {
                Treat::Map { atomic: true } | Treat::List(Merge::Atomic) => {
                    node.member = true;
                    node.below = Set::new();
                }
                _ => settle(&mut node.below, below),
            },
        }
    }
}
