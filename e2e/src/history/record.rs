//! What is recorded of a run: what clients asked and were told, and what etcd says really happened.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// etcd's revision, which is what a resourceVersion is.
pub type Revision = u64;
/// Microseconds since the run began, by one monotonic clock for all clients.
pub type At = u64;

/// What counts of an object: a ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Its name.
    pub key: String,
    pub revision: Revision,
    pub uid: String,
    /// No two writes of a run have the same, so that a write is known wherever it shows up.
    pub value: String,
    /// The label that selectors ask for.
    pub color: String,
}

/// One write as etcd has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub revision: Revision,
    pub key: String,
    /// Nothing for a deletion.
    pub object: Option<Object>,
}

/// Revisions of which nobody can say any more what they held, because they were compacted away before they were seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The last revision before it that was seen.
    pub after: Revision,
    /// The first one that is known again, with all objects that there were.
    pub until: Revision,
    pub objects: Vec<Object>,
}

/// What etcd went through. Nothing existed before the first change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truth {
    /// By ascending revision.
    pub changes: Vec<Change>,
    pub gaps: Vec<Gap>,
    /// Nothing is known of later revisions; etcd stood here when it was asked last.
    pub until: Revision,
    /// What etcd answered then.
    pub end: Vec<Object>,
}

impl Truth {
    /// What was seen up to a revision, when nobody can say what there is besides: a gap without an end follows.
    pub(super) fn open_ended(mut self, seen: Revision) -> Self {
        self.end = self.replay();
        self.until = Revision::MAX;
        self.gaps.push(Gap {
            after: seen,
            until: self.until,
            objects: self.end.clone(),
        });
        self
    }

    /// The revision up to which there are no gaps any more, if nobody saw the end.
    pub(super) fn lost_at(&self) -> Option<Revision> {
        let last = self.gaps.last()?;
        (last.until == Revision::MAX).then_some(last.after)
    }

    /// The state that the changes after the last gap lead to.
    fn replay(&self) -> Vec<Object> {
        let mut state = BTreeMap::new();
        let mut since = 0;
        if let Some(gap) = self.gaps.last() {
            since = gap.until;
            let objects = gap.objects.iter();
            state.extend(objects.map(|object| (&object.key, object)));
        }
        for change in self.changes.iter().filter(|change| change.revision > since) {
            match &change.object {
                Some(object) => state.insert(&change.key, object),
                None => state.remove(&change.key),
            };
        }
        state.into_values().cloned().collect()
    }
}

/// What a write asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Write {
    Create {
        key: String,
        value: String,
        color: String,
    },
    /// A PUT; with `expect`, only on that revision.
    Update {
        key: String,
        value: String,
        color: String,
        expect: Option<Revision>,
    },
    /// A merge patch of the value alone.
    Patch { key: String, value: String },
    /// With `expect`, only that revision.
    Delete {
        key: String,
        expect: Option<Revision>,
    },
}

impl Write {
    pub fn key(&self) -> &str {
        match self {
            Self::Create { key, .. }
            | Self::Update { key, .. }
            | Self::Patch { key, .. }
            | Self::Delete { key, .. } => key,
        }
    }

    /// What it would leave in etcd; a deletion leaves nothing.
    pub fn value(&self) -> Option<&str> {
        match self {
            Self::Create { value, .. } | Self::Update { value, .. } | Self::Patch { value, .. } => {
                Some(value)
            }
            Self::Delete { .. } => None,
        }
    }
}

/// What a write was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Written {
    Stored(Object),
    /// The uid of the object that is gone.
    Deleted(String),
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome<T> {
    Done(T),
    /// Nothing happened: the server said so (status and reason), or no request left (status 0).
    Refused(u16, String),
    /// Nobody can say: no answer, or one that leaves it open.
    Unknown(String),
}

/// Which state a read asks for (`resourceVersion`, `resourceVersionMatch`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Want {
    /// No resourceVersion: linearizable.
    Fresh,
    /// resourceVersion=0.
    Any,
    NotOlderThan(Revision),
    Exact(Revision),
}

/// One answer to a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    pub done: At,
    pub revision: Revision,
    pub objects: Vec<Object>,
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Start {
    After(Revision),
    /// `sendInitialEvents`: all there is, a bookmark that says so, then what changes.
    Initial,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    Added,
    Modified,
    Deleted,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    Object(Kind, Object),
    Bookmark {
        revision: Revision,
        /// `k8s.io/initial-events-end`
        initial_end: bool,
    },
}

impl Event {
    pub fn revision(&self) -> Revision {
        match self {
            Self::Object(_, object) => object.revision,
            Self::Bookmark { revision, .. } => *revision,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub at: At,
    pub event: Event,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// The server, the client or the way between them ended it: it owes nothing that it had not sent.
    Ended(String),
    /// It stood to the end of the run, had time, and owes all that happened up to this revision.
    Owes(Revision),
}

/// What a client did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    Write {
        write: Write,
        outcome: Outcome<Written>,
    },
    Get {
        key: String,
        want: Want,
        /// Nothing: 404.
        outcome: Outcome<Option<Object>>,
    },
    List {
        color: Option<String>,
        want: Want,
        limit: Option<usize>,
        pages: Vec<Page>,
        /// Why there are no further pages; nothing if these are all.
        broken: Option<String>,
    },
    Watch {
        color: Option<String>,
        start: Start,
        seen: Vec<Seen>,
        end: End,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    pub client: u32,
    /// The API server that was asked.
    pub server: String,
    pub call: At,
    pub done: At,
    pub what: What,
}

/// A whole run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    pub operations: Vec<Operation>,
    /// What came with a good status and cannot be read.
    #[serde(default)]
    pub nonsense: Vec<String>,
    pub truth: Truth,
}

impl History {
    /// How many operations there were of each kind and outcome, for people.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for operation in &self.operations {
            let name = match &operation.what {
                What::Write { outcome, .. } => format!("write {}", told(outcome)),
                What::Get { outcome, .. } => format!("get {}", told(outcome)),
                What::List { broken: None, .. } => "list done".to_owned(),
                What::List { pages, .. } if pages.is_empty() => "list unknown".to_owned(),
                What::List { .. } => "list broken off".to_owned(),
                What::Watch { seen, .. } => {
                    *counts.entry("event".to_owned()).or_default() += seen.len();
                    "watch".to_owned()
                }
            };
            *counts.entry(name).or_default() += 1;
        }
        counts
    }
}

fn told<T>(outcome: &Outcome<T>) -> &'static str {
    match outcome {
        Outcome::Done(_) => "done",
        Outcome::Refused(..) => "refused",
        Outcome::Unknown(_) => "unknown",
    }
}
