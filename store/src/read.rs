//! Reading one object or a list, as fresh as the caller asks for.
//!
//! Owns: what `resourceVersion`, `resourceVersionMatch`, `limit` and `continue` mean (upstream's
//! `storage/cacher` and `storage/etcd3`), and where an answer comes from: the cache where it can be
//! exact, etcd itself where it cannot.

mod get;
pub(crate) mod list;
mod page;
pub(crate) mod pages;

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use crate::collection::NotReady;
use crate::entry::{Entry, Undecodable};
use crate::etcd;
use crate::token;

pub(crate) use page::Snapshot;
pub use page::{Entries, Page};

/// How long a read waits for the cache to reach a revision before it fails with
/// [`ReadError::TooNew`]; upstream's.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// How fresh an answer must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum At {
    /// As fresh as etcd: no write that finished before the call is missing. The API's default
    /// (no `resourceVersion`).
    Latest,
    /// Whatever the cache holds (`resourceVersion=0`).
    Any,
    /// This revision or a later one.
    NotOlder(i64),
    /// This very revision. Lists only.
    Exact(i64),
}

/// `resourceVersionMatch` of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Match {
    NotOlderThan,
    Exact,
}

impl At {
    /// What the options of a list mean, after the API's own validation. `revision` is the
    /// `resourceVersion`, `None` when it is not given.
    #[must_use]
    pub fn of_list(
        revision: Option<i64>,
        matching: Option<Match>,
        limit: usize,
        continues: bool,
    ) -> Self {
        match (revision, matching) {
            (None, _) => Self::Latest,
            (Some(revision), Some(Match::Exact)) => Self::Exact(revision),
            (Some(0), _) => Self::Any,
            (Some(revision), Some(Match::NotOlderThan)) => Self::NotOlder(revision),
            // Older clients: a limit asks for an exact list, so that its pages fit together.
            (Some(revision), None) if limit > 0 && !continues => Self::Exact(revision),
            (Some(revision), None) => Self::NotOlder(revision),
        }
    }

    /// What the `resourceVersion` of a GET means.
    #[must_use]
    pub fn of_get(revision: Option<i64>) -> Self {
        match revision {
            None => Self::Latest,
            Some(0) => Self::Any,
            Some(revision) => Self::NotOlder(revision),
        }
    }
}

/// Which objects of a collection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Scope {
    All,
    Namespace(Box<str>),
    /// One object, by its key: `namespace/name`, or `name`.
    One(Box<str>),
}

impl Scope {
    /// What keys in this scope begin with.
    pub(crate) fn prefix(&self) -> String {
        match self {
            Self::All => String::new(),
            Self::Namespace(namespace) => format!("{namespace}/"),
            Self::One(key) => key.to_string(),
        }
    }

    /// Behind the last key in this scope.
    pub(crate) fn end(&self) -> Bound<Box<str>> {
        match self {
            Self::All => Bound::Unbounded,
            // `0` comes right after `/`.
            Self::Namespace(namespace) => Bound::Excluded(format!("{namespace}0").into()),
            Self::One(key) => Bound::Included(key.clone()),
        }
    }

    pub(crate) fn holds(&self, key: &str) -> bool {
        match self {
            Self::All => true,
            Self::Namespace(namespace) => key
                .strip_prefix(&**namespace)
                .is_some_and(|rest| rest.starts_with('/')),
            Self::One(one) => *key == **one,
        }
    }
}

/// Selects objects: label and field selectors, shards.
pub trait Filter: Send + Sync {
    fn matches(&self, entry: &Entry) -> bool;

    /// The one value that the field must have to match, if the filter demands one. It lets lists use
    /// an index, and watches be woken by that value only.
    fn requires(&self, field: &str) -> Option<&str> {
        let _ = field;
        None
    }
}

/// A list.
#[derive(Clone)]
pub struct Query {
    pub scope: Scope,
    /// `None` selects everything.
    pub filter: Option<Arc<dyn Filter>>,
    pub at: At,
    /// 0: no limit.
    pub limit: usize,
    /// The token of the page before.
    pub continue_token: Option<String>,
}

impl Query {
    /// Everything in a scope, without a filter or a limit.
    #[must_use]
    pub fn new(scope: Scope, at: At) -> Self {
        Self {
            scope,
            filter: None,
            at,
            limit: 0,
            continue_token: None,
        }
    }
}

/// A read that gives no answer.
#[derive(thiserror::Error, Debug)]
pub enum ReadError {
    /// The collection is being listed from etcd: 429.
    #[error(transparent)]
    NotReady(#[from] NotReady),
    /// The revision has not been reached: 504 with cause `ResourceVersionTooLarge`.
    #[error("Too large resource version: {wanted}, current: {current}")]
    TooNew { wanted: i64, current: i64 },
    /// The revision is compacted: 410.
    #[error("The resourceVersion for the provided list is too old.")]
    Expired,
    /// The list that the token continues is compacted: 410. The rest can still be had with this
    /// token, at a later revision.
    #[error(
        "The provided continue parameter is too old to display a consistent list result. You can \
         start a new list without the continue parameter, or use the continue token in this response \
         to retrieve the remainder of the results. Continuing with the provided token results in an \
         inconsistent list - objects that were created, modified, or deleted between the time the \
         first chunk was returned and now may show up in the list."
    )]
    ContinueExpired { resume: String },
    /// 400.
    #[error("invalid continue token: {0}")]
    InvalidContinue(#[from] token::Invalid),
    /// 400.
    #[error("specifying resource version is not allowed when using continue")]
    RevisionWithContinue,
    /// A stored object cannot be read: 500.
    #[error(transparent)]
    Undecodable(#[from] Undecodable),
    /// Objects of a list cannot be read: 500. Whoever runs the cluster has to know which.
    #[error("{} objects cannot be read{}", objects.len(), if *more { " at least" } else { "" })]
    Unreadable {
        objects: Vec<Undecodable>,
        /// There may be others.
        more: bool,
    },
    #[error(transparent)]
    Etcd(#[from] etcd::Error),
    /// The same failure answered several readers.
    #[error(transparent)]
    Shared(#[from] Arc<etcd::Error>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_options_mean_what_they_mean_upstream() {
        use Match::{Exact, NotOlderThan};
        for (revision, matching, limit, continues, expected) in [
            (None, None, 0, false, At::Latest),
            (None, None, 500, true, At::Latest),
            (Some(0), None, 500, false, At::Any),
            (Some(0), Some(NotOlderThan), 0, false, At::Any),
            (Some(7), None, 0, false, At::NotOlder(7)),
            (Some(7), None, 500, false, At::Exact(7)),
            (Some(7), Some(NotOlderThan), 500, false, At::NotOlder(7)),
            (Some(7), Some(Exact), 0, false, At::Exact(7)),
        ] {
            assert_eq!(
                At::of_list(revision, matching, limit, continues),
                expected,
                "{revision:?} {matching:?}"
            );
        }
    }

    #[test]
    fn a_namespace_holds_its_own_keys_only() {
        let team = Scope::Namespace("team".into());
        assert!(team.holds("team/web"));
        assert!(!team.holds("team-a/web") && !team.holds("team"));
    }

    #[test]
    fn between_its_prefix_and_its_end_are_the_keys_of_a_scope() {
        let keys = " te team team!/a team-a/web team.x/a team/ team/a team/web team/web-0 team/~ team0 team0/a teams/a z/z";
        for scope in [
            Scope::All,
            Scope::Namespace("team".into()),
            Scope::One("team/web".into()),
        ] {
            let range = (Bound::Included(scope.prefix().into()), scope.end());
            for key in keys.split(' ') {
                let within = std::ops::RangeBounds::<Box<str>>::contains(&range, &Box::from(key));
                assert_eq!(within, scope.holds(key), "{key} in {scope:?}");
            }
        }
    }
}
