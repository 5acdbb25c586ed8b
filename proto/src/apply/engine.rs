//! Server-side apply.

use std::collections::BTreeMap;

use super::check::check;
use super::last_applied;
use super::managed::{Conflicts, Entry, Malformed, Managed, Operation, Who};
use super::merge::merge;
use super::remove::remove;
use super::schema::equal;
use super::set::Set;
use super::track::{
    Force, Release, Subject, Version, explicit, in_version, record, release, settle_all, strip,
};
use crate::catalogue::names as n;
use crate::codec::json;
use crate::meta;
use crate::value::Value;

/// What is applied, by whom.
pub struct Configuration<'a> {
    /// JSON as the client sent it.
    pub object: &'a Value,
    pub manager: &'a str,
    /// Takes fields from other managers.
    pub force: bool,
    /// A canonical time.
    pub now: &'a str,
}

/// An object with a configuration applied to it.
pub struct Applied {
    /// The object as JSON in the version of the request; none if nothing changed.
    pub object: Option<Value>,
    pub managed: Managed,
    /// What the annotation of client-side apply should say now, if the object has it.
    pub last_applied: Option<String>,
}

/// Why a configuration cannot be applied. The texts are upstream's.
#[derive(thiserror::Error, Debug, Clone, PartialEq)]
pub enum Error {
    #[error("{}", .0.message())]
    Conflicts(Conflicts),
    /// The request is wrong.
    #[error("{0}")]
    Request(String),
    /// The configuration does not fit its schema, or the object cannot be worked on.
    #[error("{0}")]
    Object(String),
}

impl From<Malformed> for Error {
    fn from(error: Malformed) -> Self {
        Self::Object(error.to_string())
    }
}

/// Who existed before the first apply to an object that was not tracked.
const BEFORE_FIRST: &str = "before-first-apply";

/// Applies a configuration to `live`, a conformed tree in the version of the subject; an empty map
/// creates.
///
/// # Errors
/// The configuration conflicts with other managers, or does not fit.
pub fn apply(
    subject: &Subject<'_>,
    live: &Value,
    mut managed: Managed,
    configuration: &Configuration<'_>,
) -> Result<Applied, Error> {
    let config = configuration.object;
    check_type(subject, config)?;
    if managed.is_empty() {
        let now = configuration.now;
        let first = (&Value::object(), live);
        managed = record(subject, first, managed, BEFORE_FIRST, now)?;
    }
    if config
        .at(&["metadata", "managedFields"])
        .and_then(Value::as_list)
        .is_some()
    {
        return Err(Error::Request(
            "metadata.managedFields must be nil".to_owned(),
        ));
    }
    if let Some(problem) = check(config, subject.message) {
        let name = title(subject, config);
        return Err(Error::Object(format!(
            "failed to create typed patch object ({name}): {problem}"
        )));
    }
    settle_all(subject, &mut managed);
    let live = explicit(subject.kind, live, subject.message, subject.api_version);
    let kubectl = configuration.manager == last_applied::MANAGER;
    let force = if configuration.force {
        Force::Yes
    } else {
        Force::No
    };
    let mut applied = match run(subject, &live, managed.clone(), configuration, force) {
        Err(Error::Conflicts(conflicts)) if kubectl => {
            if let Some(left) = last_applied::unexcused(subject, &live, conflicts) {
                return Err(Error::Conflicts(left));
            }
            run(subject, &live, managed, configuration, Force::Yes)?
        }
        other => other?,
    };
    let result = applied.object.as_ref().unwrap_or(&live);
    if kubectl && last_applied::of(result).is_some() {
        applied.last_applied = Some(last_applied::text(config));
    }
    Ok(applied)
}

/// The configuration must be of the kind and version of the request.
fn check_type(subject: &Subject<'_>, config: &Value) -> Result<(), Error> {
    let text = |name| config.get(name).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text(n::API_VERSION), text(n::KIND));
    if api_version == subject.api_version && kind == subject.kind {
        return Ok(());
    }
    let (group, version) = meta::parse_api_version(api_version).unwrap_or_default();
    Err(Error::Request(format!(
        "invalid object type: {group}/{version}, Kind={kind}"
    )))
}

/// How errors name an object.
fn title(subject: &Subject<'_>, object: &Value) -> String {
    let (namespace, name) = (meta::namespace(object), meta::name(object));
    let (group, version) = meta::parse_api_version(subject.api_version).unwrap_or_default();
    format!(
        "{namespace}/{name}; {group}/{version}, Kind={}",
        subject.kind
    )
}

fn run(
    subject: &Subject<'_>,
    live: &Value,
    mut managed: Managed,
    configuration: &Configuration<'_>,
    force: Force,
) -> Result<Applied, Error> {
    let config = configuration.object;
    let merged = merge(live, config, subject.message)
        .map_err(|e| Error::Object(format!("failed to merge config: {e}")))?;
    let who = Who::new(
        configuration.manager,
        Operation::Apply,
        subject.api_version,
        subject.subresource,
    );
    let last = managed.take(&who);
    let mut set = Set::of(config, subject.message)
        .map_err(|e| Error::Object(format!("failed to get field set: {e}")))?;
    if let Some(version) = (subject.version)(subject.api_version) {
        version.filter.apply(&mut set);
    }
    managed.entries.push(Entry {
        manager: who.manager.clone(),
        operation: Operation::Apply,
        api_version: subject.api_version.to_owned(),
        subresource: subject.subresource.to_owned(),
        time: last.as_ref().and_then(|e| e.time.clone()),
        set,
    });
    let merged = match &last {
        Some(last) if !last.set.is_empty() => prune(subject, merged, &managed, last)?,
        _ => merged,
    };
    let trees = (live, &merged, super::Trees::Explicit);
    if let Release::Conflicts(conflicts) = release(subject, trees, &mut managed, Some(&who), force)?
    {
        return Err(Error::Conflicts(conflicts));
    }
    let changed = !equal(live, &merged);
    if let Some(i) = managed.position(&who) {
        let entry = &mut managed.entries[i];
        strip(&mut entry.set);
        if changed {
            entry.time = Some(configuration.now.to_owned());
        }
        if entry.set.is_empty() {
            managed.entries.remove(i);
        }
    }
    Ok(Applied {
        object: changed.then_some(merged),
        managed,
        last_applied: None,
    })
}

/// An object in one of its versions.
#[derive(Clone)]
struct Versioned {
    value: Value,
    api_version: String,
    version: Version,
}

impl Versioned {
    /// None if the version is not served.
    fn to(&self, subject: &Subject<'_>, api_version: &str) -> Result<Option<Self>, Error> {
        if self.api_version == api_version {
            return Ok(Some(self.clone()));
        }
        let Some(version) = known(subject, api_version) else {
            return Ok(None);
        };
        let value = in_version(
            subject,
            &self.value,
            self.version.message,
            api_version,
            &version,
            super::Trees::Explicit,
        )?;
        Ok(Some(Self {
            value,
            api_version: api_version.to_owned(),
            version,
        }))
    }

    /// All fields, the declared ones that lead to others included.
    fn fields(&self) -> Result<Set, Error> {
        let set =
            Set::of(&self.value, self.version.message).map_err(|e: super::schema::Nameless| {
                Error::Object(format!("failed to create field set: {e}"))
            })?;
        Ok(self.named(&set))
    }

    fn named(&self, set: &Set) -> Set {
        set.with_named_fields(self.version.message)
    }

    fn without(&self, fields: &Set) -> Self {
        Self {
            value: remove(&self.value, fields, self.version.message),
            ..self.clone()
        }
    }
}

fn known(subject: &Subject<'_>, api_version: &str) -> Option<Version> {
    (subject.version)(api_version).or_else(|| {
        (api_version == subject.api_version).then(|| Version {
            message: subject.message,
            filter: super::Filter::default(),
        })
    })
}

/// Removes what the manager applied last time and does not apply any more, unless somebody else owns
/// it.
fn prune(
    subject: &Subject<'_>,
    merged: Value,
    managed: &Managed,
    last: &Entry,
) -> Result<Value, Error> {
    let Some(version) = known(subject, subject.api_version) else {
        return Ok(merged);
    };
    let merged = Versioned {
        value: merged,
        api_version: subject.api_version.to_owned(),
        version,
    };
    let Some(whole) = merged.to(subject, &last.api_version)? else {
        return Ok(merged.value);
    };
    let last_set = whole.named(&last.set);
    let mut pruned = whole.without(&last_set);
    let mut all = whole.clone();
    for (api_version, owned) in by_version(managed, &last.api_version) {
        (all, pruned) = add_back(subject, all, pruned, api_version, &owned)?;
    }
    let Some(pruned) = pruned.to(subject, &last.api_version)? else {
        return Ok(merged.value);
    };
    // What the manager never owned stays, whoever put it there.
    let mut gone = whole.fields()?;
    gone.difference(&pruned.fields()?);
    let pruned = whole.without(&gone.intersection(&last_set));
    let back = pruned.to(subject, subject.api_version)?;
    Ok(back.map_or(merged.value, |b| b.value))
}

/// What is managed in each version, the given one first: the fields pruned there may be needed for
/// conversions.
fn by_version<'a>(managed: &'a Managed, first: &'a str) -> Vec<(&'a str, Set)> {
    let mut sets: BTreeMap<&str, Vec<Set>> = BTreeMap::new();
    for entry in &managed.entries {
        let of_version = sets.entry(&entry.api_version).or_default();
        of_version.push(entry.set.clone());
    }
    let first_sets = sets.remove(first).unwrap_or_default();
    std::iter::once((first, first_sets))
        .chain(sets)
        .map(|(version, sets)| (version, Set::union_all(sets)))
        .collect()
}

/// Adds back what was pruned but is owned.
fn add_back(
    subject: &Subject<'_>,
    all: Versioned,
    pruned: Versioned,
    api_version: &str,
    owned: &Set,
) -> Result<(Versioned, Versioned), Error> {
    let Some(all) = all.to(subject, api_version)? else {
        return Ok((all, pruned));
    };
    let Some(kept) = pruned.to(subject, api_version)? else {
        return Ok((all, pruned));
    };
    let mut wanted = kept.fields()?;
    wanted.union(all.named(owned));
    let mut gone = all.fields()?;
    gone.difference(&wanted);
    let pruned = all.without(&gone);
    Ok((all, pruned))
}

/// The conformed tree of an applied object.
///
/// # Errors
/// A value does not fit its field, with the text of Go's decoder.
pub fn conformed(object: &Value, message: crate::MsgId) -> Result<Value, Error> {
    let mut text = Vec::with_capacity(1024);
    json::write(object, &mut text);
    json::decode(&text, message, json::Strictness::Lenient)
        .map(|d| d.value)
        .map_err(|e| Error::Object(e.to_string()))
}
