//! `metadata.managedFields`, decoded: who manages which fields, since when, by what kind of write.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::collections::hash_map::Entry::{Occupied, Vacant};

use super::set::Set;
use crate::catalogue::names as n;
use crate::path::quote;
use crate::time;
use crate::value::{Map, Value};

/// Why entries of managed fields, or the lists of an object, cannot be read.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum Malformed {
    #[error("operation must be `Apply` or `Update`")]
    Operation,
    #[error("apiVersion must not be empty")]
    ApiVersion,
    #[error("missing fieldsType in managed fields entry {0}")]
    NoFieldsType(usize),
    #[error("invalid fieldsType {0} in managed fields entry {1}")]
    FieldsType(String, usize),
    #[error("error decoding set")]
    Fields,
    #[error("{0}")]
    List(String),
    #[error("an object cannot be converted to {0}")]
    Conversion(String),
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Operation {
    Apply,
    Update,
}

impl Operation {
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// What one manager owns.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub manager: String,
    pub operation: Operation,
    /// The version of the object in which the fields are named.
    pub api_version: String,
    /// Empty for the object itself.
    pub subresource: String,
    /// A canonical time.
    pub time: Option<String>,
    pub set: Set,
}

/// What tells entries apart. A manager that applies has one entry, whatever versions it applies.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Who {
    pub(super) manager: String,
    pub(super) operation: Operation,
    pub(super) api_version: String,
    pub(super) subresource: String,
}

impl Who {
    pub(super) fn new(
        manager: &str,
        operation: Operation,
        api_version: &str,
        subresource: &str,
    ) -> Self {
        let api_version = match operation {
            Operation::Apply => "",
            Operation::Update => api_version,
        };
        Self {
            manager: if manager.is_empty() {
                "unknown"
            } else {
                manager
            }
            .to_owned(),
            operation,
            api_version: api_version.to_owned(),
            subresource: subresource.to_owned(),
        }
    }

    /// The text by which upstream sorts entries where it keeps them by identity.
    fn key(&self) -> String {
        let mut key = String::from("{");
        for (name, value) in [
            ("manager", self.manager.as_str()),
            ("operation", self.operation.text()),
            ("apiVersion", &self.api_version),
            ("subresource", &self.subresource),
        ] {
            if !value.is_empty() {
                let comma = if key.len() > 1 { "," } else { "" };
                key.push_str(&format!("{comma}\"{name}\":\"{value}\""));
            }
        }
        key + "}"
    }

    /// As conflicts name it.
    fn shown(&self) -> String {
        let mut text = quote(&self.manager);
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {}", quote(&self.subresource)));
        }
        if self.operation == Operation::Update {
            text.push_str(&format!(" using {}", self.api_version));
        }
        text
    }
}

impl Entry {
    pub(super) fn is(&self, who: &Who) -> bool {
        self.operation == who.operation
            && self.manager == who.manager
            && self.subresource == who.subresource
            && (self.operation == Operation::Apply || self.api_version == who.api_version)
    }

    pub(super) fn who(&self) -> Who {
        let mut who = Who::new(
            &self.manager,
            self.operation,
            &self.api_version,
            &self.subresource,
        );
        who.manager.clone_from(&self.manager);
        who
    }

    fn seconds(&self) -> i64 {
        let time = self.time.as_deref().and_then(time::unix_of);
        time.map_or(0, |(seconds, _)| seconds)
    }

    fn read(value: &Value, place: usize) -> Result<Self, Malformed> {
        let text = |name| value.get(name).and_then(Value::as_str).unwrap_or_default();
        let operation = match text(n::OPERATION) {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return Err(Malformed::Operation),
        };
        if text(n::API_VERSION).is_empty() {
            return Err(Malformed::ApiVersion);
        }
        match text(n::FIELDS_TYPE) {
            "FieldsV1" => {}
            "" => return Err(Malformed::NoFieldsType(place)),
            other => return Err(Malformed::FieldsType(quote(other), place)),
        }
        let set = match value.get(n::FIELDS_V1) {
            Some(Value::Raw(raw)) => Set::parse(raw)?,
            Some(Value::Null) | None => Set::new(),
            Some(other) => {
                let mut json = Vec::new();
                crate::codec::json::write(other, &mut json);
                Set::parse(&json)?
            }
        };
        Ok(Self {
            manager: text(n::MANAGER).to_owned(),
            operation,
            api_version: text(n::API_VERSION).to_owned(),
            subresource: text(n::SUBRESOURCE).to_owned(),
            time: value
                .get(n::TIME)
                .and_then(Value::as_str)
                .map(str::to_owned),
            set,
        })
    }

    fn write(self) -> Value {
        let mut map = Map::new();
        let mut add = |name, text: String| {
            if !text.is_empty() {
                map.insert(name, text);
            }
        };
        add(n::MANAGER, self.manager);
        add(n::OPERATION, self.operation.text().to_owned());
        add(n::API_VERSION, self.api_version);
        add(n::FIELDS_TYPE, "FieldsV1".to_owned());
        add(n::SUBRESOURCE, self.subresource);
        add(n::TIME, self.time.unwrap_or_default());
        map.insert(n::FIELDS_V1, Value::Raw(self.set.print().into()));
        Value::Map(map)
    }
}

/// All managers of an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Managed {
    /// Invariant: no two are of the same manager, operation, version and subresource.
    pub(super) entries: Vec<Entry>,
}

impl Managed {
    /// Reads the list. Of two entries of one identity the later counts.
    ///
    /// # Errors
    /// An entry cannot be read.
    pub fn read(list: &[Value]) -> Result<Self, Malformed> {
        let mut managed = Self::default();
        let mut known: HashMap<Who, usize> = HashMap::new();
        for (place, value) in list.iter().enumerate() {
            let entry = Entry::read(value, place)?;
            match known.entry(entry.who()) {
                Occupied(at) => managed.entries[*at.get()] = entry,
                Vacant(free) => {
                    free.insert(managed.entries.len());
                    managed.entries.push(entry);
                }
            }
        }
        Ok(managed)
    }

    /// The list as upstream orders it. None where nothing is managed.
    #[must_use]
    pub fn write(self) -> Option<Value> {
        if self.entries.is_empty() {
            return None;
        }
        let mut entries = self.entries;
        entries.sort_by(|a, b| {
            a.operation
                .cmp(&b.operation)
                .then_with(|| a.seconds().cmp(&b.seconds()))
                .then_with(|| a.manager.cmp(&b.manager))
                .then_with(|| a.api_version.cmp(&b.api_version))
                .then_with(|| a.subresource.cmp(&b.subresource))
        });
        let list = entries.into_iter().map(Entry::write).collect();
        Some(Value::List(list))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn position(&self, who: &Who) -> Option<usize> {
        self.entries.iter().position(|e| e.is(who))
    }

    pub(super) fn take(&mut self, who: &Who) -> Option<Entry> {
        self.position(who).map(|i| self.entries.remove(i))
    }

    /// Merges the oldest of more than [`MAX_UPDATERS`] entries of updates, version by version, into
    /// `ancient-changes`.
    pub(super) fn cap(&mut self) {
        let is_update = |e: &&Entry| e.operation == Operation::Update;
        let count = self.entries.iter().filter(is_update).count();
        if count <= MAX_UPDATERS {
            return;
        }
        let (updates, kept): (Vec<Entry>, Vec<Entry>) = std::mem::take(&mut self.entries)
            .into_iter()
            .partition(|e| is_update(&e));
        self.entries = kept;
        let mut oldest: Vec<(i64, String, Entry)> = updates
            .into_iter()
            .map(|e| (e.seconds(), e.who().key(), e))
            .collect();
        oldest.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        // All but the newest of each version that are too many; the last one tells the time.
        let mut buckets: HashMap<String, Vec<Entry>> = HashMap::new();
        let mut left = count;
        for (_, _, entry) in oldest {
            // An older bucket is never beside a new one.
            let is_bucket = entry.manager == ANCIENT && entry.subresource.is_empty();
            if left <= MAX_UPDATERS && !is_bucket {
                self.entries.push(entry);
                continue;
            }
            let bucket = buckets.entry(entry.api_version.clone()).or_default();
            if !bucket.is_empty() {
                left -= 1;
            }
            bucket.push(entry);
        }
        self.entries
            .extend(buckets.into_values().filter_map(bucket));
    }
}

/// Several entries as one; a single one stays as it is.
fn bucket(mut entries: Vec<Entry>) -> Option<Entry> {
    let last = entries.pop()?;
    if entries.is_empty() {
        return Some(last);
    }
    let mut sets: Vec<Set> = entries.into_iter().map(|e| e.set).collect();
    sets.push(last.set);
    Some(Entry {
        manager: ANCIENT.to_owned(),
        subresource: String::new(),
        set: Set::union_all(sets),
        ..last
    })
}

/// How many entries of updates an object keeps.
const MAX_UPDATERS: usize = 10;
const ANCIENT: &str = "ancient-changes";

/// Fields that an applied configuration would take from another manager.
#[derive(Clone, Debug, PartialEq)]
pub struct Conflict {
    pub(super) who: Who,
    pub(super) fields: Set,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conflicts(pub(super) Vec<Conflict>);

impl Conflicts {
    /// In the order in which the message names managers.
    pub(super) fn sort(&mut self) {
        self.0.sort_by(|a, b| compare(&a.who, &b.who));
    }

    /// What each conflict is with, and the path of its field.
    #[must_use]
    pub fn causes(&self) -> Vec<(String, String)> {
        let of = |c: &Conflict| {
            let message = format!("conflict with {}", c.who.shown());
            let causes = c.fields.paths().into_iter();
            causes
                .map(|path| (message.clone(), path))
                .collect::<Vec<_>>()
        };
        self.0.iter().flat_map(of).collect()
    }

    /// The text that clients print.
    #[must_use]
    pub fn message(&self) -> String {
        let causes = self.causes();
        if let [(message, path)] = causes.as_slice() {
            return format!("Apply failed with 1 conflict: {message}: {path}");
        }
        let mut lines = Vec::with_capacity(causes.len() + self.0.len());
        for conflict in &self.0 {
            lines.push(format!("conflicts with {}:", conflict.who.shown()));
            lines.extend(
                conflict
                    .fields
                    .paths()
                    .iter()
                    .map(|path| format!("- {path}")),
            );
        }
        format!(
            "Apply failed with {} conflicts: {}",
            causes.len(),
            lines.join("\n")
        )
    }
}

fn compare(a: &Who, b: &Who) -> Ordering {
    a.key().cmp(&b.key())
}
