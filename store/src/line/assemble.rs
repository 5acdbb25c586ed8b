//! From the responses of a watch to whole revisions. Pure.
//!
//! A response may be a fragment, and a fragment may end inside a revision: a lease can take a
//! thousand keys in one. The last revision of a fragment is therefore held back until more comes.
//! The revision in the header of a response with events is the store's, not how far the watch has
//! got; it is never used. That of an event-less answer to a progress request is, where etcd tells
//! the truth (see [`Version::progress_is_true`](crate::etcd::Version::progress_is_true)).

use crate::etcd::pb;

/// Puts responses together.
pub(crate) struct Assembler {
    /// The last revision handed out.
    applied: i64,
    /// Events of the one revision that may be incomplete.
    held: Vec<pb::Event>,
    believe_progress: bool,
}

/// Whole revisions, up to and with `applied`.
#[derive(Debug, PartialEq)]
pub(crate) struct Whole {
    pub(crate) events: Vec<pb::Event>,
    pub(crate) applied: i64,
}

/// The responses contradict etcd's promise of order.
#[derive(thiserror::Error, Debug, PartialEq, Eq)]
#[error("an event of revision {revision} came after revision {after}")]
pub(crate) struct OutOfOrder {
    revision: i64,
    after: i64,
}

impl Assembler {
    /// For a watch whose first event comes after `applied`.
    pub(crate) fn new(applied: i64, believe_progress: bool) -> Self {
        Self {
            applied,
            held: Vec::new(),
            believe_progress,
        }
    }

    /// Takes a response that neither creates nor cancels the watch.
    pub(crate) fn push(
        &mut self,
        response: pb::WatchResponse,
    ) -> Result<Option<Whole>, OutOfOrder> {
        if response.events.is_empty() && !response.fragment && self.held.is_empty() {
            return Ok(self.progress(response.header));
        }
        self.held.reserve(response.events.len());
        for event in response.events {
            let last = self
                .held
                .last()
                .map_or(self.applied.saturating_add(1), revision_of);
            if revision_of(&event) < last {
                return Err(OutOfOrder {
                    revision: revision_of(&event),
                    after: last,
                });
            }
            self.held.push(event);
        }
        let newest = self.held.last().map_or(0, revision_of);
        let whole = if response.fragment {
            self.held
                .iter()
                .rposition(|e| revision_of(e) < newest)
                .map_or(0, |last| last + 1)
        } else {
            self.held.len()
        };
        let rest = self.held.split_off(whole);
        let events = std::mem::replace(&mut self.held, rest);
        let Some(last) = events.last() else {
            return Ok(None);
        };
        self.applied = revision_of(last);
        Ok(Some(Whole {
            events,
            applied: self.applied,
        }))
    }

    fn progress(&mut self, header: Option<pb::ResponseHeader>) -> Option<Whole> {
        let revision = header?.revision;
        if !self.believe_progress || revision <= self.applied {
            return None;
        }
        self.applied = revision;
        Some(Whole {
            events: Vec::new(),
            applied: revision,
        })
    }
}

fn revision_of(event: &pb::Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(revisions: &[i64], header: i64, fragment: bool) -> pb::WatchResponse {
        let event = |r: &i64| pb::Event {
            r#type: 0,
            kv: Some(pb::KeyValue {
                mod_revision: *r,
                ..Default::default()
            }),
        };
        pb::WatchResponse {
            header: Some(pb::ResponseHeader {
                revision: header,
                ..Default::default()
            }),
            fragment,
            events: revisions.iter().map(event).collect(),
            ..Default::default()
        }
    }

    fn shape(whole: Option<Whole>) -> Option<(Vec<i64>, i64)> {
        whole.map(|w| (w.events.iter().map(revision_of).collect(), w.applied))
    }

    #[test]
    fn a_header_beside_events_claims_nothing() {
        let mut a = Assembler::new(4, true);
        assert_eq!(
            shape(a.push(response(&[5, 6], 900, false)).unwrap()),
            Some((vec![5, 6], 6))
        );
    }

    #[test]
    fn a_revision_cut_by_a_fragment_is_held_until_it_is_whole() {
        let mut a = Assembler::new(4, true);
        assert_eq!(
            shape(a.push(response(&[5, 6, 6], 9, true)).unwrap()),
            Some((vec![5], 5))
        );
        assert_eq!(shape(a.push(response(&[6, 6], 9, true)).unwrap()), None);
        assert_eq!(
            shape(a.push(response(&[6, 7], 9, false)).unwrap()),
            Some((vec![6, 6, 6, 6, 6, 7], 7))
        );
    }

    #[test]
    fn a_fragment_that_ends_with_a_revision_is_closed_by_the_next() {
        let mut a = Assembler::new(4, true);
        assert_eq!(shape(a.push(response(&[5], 9, true)).unwrap()), None);
        assert_eq!(
            shape(a.push(response(&[6], 9, true)).unwrap()),
            Some((vec![5], 5))
        );
        assert_eq!(
            shape(a.push(response(&[], 9, false)).unwrap()),
            Some((vec![6], 6))
        );
    }

    #[test]
    fn progress_counts_only_where_etcd_tells_the_truth() {
        let mut old = Assembler::new(4, false);
        assert_eq!(old.push(response(&[], 900, false)).unwrap(), None);
        let mut new = Assembler::new(4, true);
        assert_eq!(
            shape(new.push(response(&[], 8, false)).unwrap()),
            Some((vec![], 8))
        );
        assert_eq!(new.push(response(&[], 8, false)).unwrap(), None);
    }

    #[test]
    fn events_that_go_back_are_refused() {
        let mut a = Assembler::new(4, true);
        assert!(a.push(response(&[4], 9, false)).is_err());
        let mut a = Assembler::new(4, true);
        assert!(a.push(response(&[6, 5], 9, false)).is_err());
    }
}
