//! A mark in the history, to recognise it by when a lost watch is resumed.
//!
//! A cluster restored from a backup has the same id and writes the same revisions again, with other
//! contents. When it has come further than the watch had, revisions alone do not tell. The last event
//! that was received does: at its revision, its key holds what the event said.

use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;

use crate::etcd::pb;

/// The last event of a history as far as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    key: Bytes,
    revision: i64,
    /// The hash of what was put; `None` for a deletion.
    value: Option<u64>,
}

impl Mark {
    pub(super) fn of(event: &pb::Event) -> Option<Self> {
        let kv = event.kv.as_ref()?;
        let deleted = event.r#type() == pb::event::EventType::Delete;
        Some(Self {
            key: Bytes::copy_from_slice(&kv.key),
            revision: kv.mod_revision,
            value: (!deleted).then(|| hash(&kv.value)),
        })
    }

    /// Reads what tells whether a history has the mark.
    pub(super) fn request(&self) -> pb::RangeRequest {
        pb::RangeRequest {
            key: self.key.clone(),
            revision: self.revision,
            ..Default::default()
        }
    }

    /// Whether the history that answered so has the mark.
    pub(super) fn is_in(&self, response: &pb::RangeResponse) -> bool {
        match (self.value, response.kvs.first()) {
            (None, None) => true,
            (Some(value), Some(kv)) => kv.mod_revision == self.revision && hash(&kv.value) == value,
            _ => false,
        }
    }
}

fn hash(value: &Bytes) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_is_recognised_by_what_it_says_of_one_revision() {
        let kv = |revision, value: &'static str| pb::KeyValue {
            key: Bytes::from_static(b"k"),
            mod_revision: revision,
            value: Bytes::from_static(value.as_bytes()),
            ..Default::default()
        };
        let answer = |kvs: Vec<pb::KeyValue>| pb::RangeResponse {
            kvs,
            ..Default::default()
        };
        let put = Mark::of(&pb::Event {
            r#type: 0,
            kv: Some(kv(7, "a")),
        })
        .unwrap();
        assert!(put.is_in(&answer(vec![kv(7, "a")])));
        assert!(
            !put.is_in(&answer(vec![kv(7, "b")])),
            "the same key at the same revision"
        );
        assert!(!put.is_in(&answer(vec![kv(5, "a")])));
        assert!(!put.is_in(&answer(vec![])));
        let deleted = Mark::of(&pb::Event {
            r#type: 1,
            kv: Some(kv(8, "")),
        })
        .unwrap();
        assert!(deleted.is_in(&answer(vec![])));
        assert!(!deleted.is_in(&answer(vec![kv(5, "a")])));
    }
}
