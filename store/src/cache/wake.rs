//! Who is woken by an event: watchers are found by what they watch, so that an event wakes those it
//! concerns and nobody else.
//!
//! A bucket stands for one watched value: an object, a namespace, or a value of an indexed field such
//! as `spec.nodeName`. It exists while somebody watches it. An event touches the bucket of its old
//! and of its new value; a watcher is in exactly one bucket, so it sees an event once.
//!
//! Invariant: buckets are made under the collection's read lock and events pushed under its write
//! lock, so a bucket's links are complete from the moment it exists.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::ring::Link;
use crate::entry::Entry;

/// The value that a watcher is woken by.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Term {
    /// Everything.
    All,
    /// One object, by its key.
    Object(Box<str>),
    Namespace(Box<str>),
    /// A value of an indexed field, by the field's place among the collection's indexes.
    Field(usize, Box<str>),
}

/// One watched value.
pub(crate) struct Bucket {
    pub(crate) id: u64,
    term: Term,
    /// Sequence number of the newest event with this value; 0 before one.
    head: AtomicU64,
    pub(crate) wake: Notify,
}

impl Bucket {
    pub(crate) fn head(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    /// Everything, for which events are not linked.
    pub(crate) fn is_all(&self) -> bool {
        self.term == Term::All
    }
}

/// The buckets of one collection.
pub(crate) struct Wakes {
    /// Watchers of everything.
    all: Arc<Bucket>,
    inner: Mutex<Inner>,
}

struct Inner {
    next: u64,
    objects: Seats,
    namespaces: Seats,
    /// As the collection's indexes.
    fields: Box<[Seats]>,
}

type Seats = HashMap<Box<str>, Seated>;

struct Seated {
    bucket: Arc<Bucket>,
    seats: usize,
}

/// A place in a bucket; given back when dropped.
pub(crate) struct Seat {
    wakes: Arc<Wakes>,
    bucket: Arc<Bucket>,
}

impl Seat {
    /// The bucket, to wait on while the seat's owner is busy.
    pub(crate) fn bucket(&self) -> Arc<Bucket> {
        Arc::clone(&self.bucket)
    }
}

impl std::ops::Deref for Seat {
    type Target = Bucket;
    fn deref(&self) -> &Bucket {
        &self.bucket
    }
}

/// The buckets that a batch of events touched.
pub(crate) type Touched = HashMap<u64, Arc<Bucket>>;

impl Wakes {
    pub(crate) fn new(fields: usize) -> Arc<Self> {
        Arc::new(Self {
            all: Arc::new(Bucket {
                id: 0,
                term: Term::All,
                head: AtomicU64::new(0),
                wake: Notify::new(),
            }),
            inner: Mutex::new(Inner {
                next: 1,
                objects: HashMap::new(),
                namespaces: HashMap::new(),
                fields: (0..fields).map(|_| HashMap::new()).collect(),
            }),
        })
    }

    /// A place among those who watch `term`.
    pub(crate) fn seat(self: &Arc<Self>, term: Term) -> Seat {
        let mut inner = self.inner.lock();
        let id = inner.next;
        let bucket = match inner.bucket(&term) {
            None => Arc::clone(&self.all),
            Some((seats, value)) => {
                let seated = seats.entry(value.into()).or_insert_with(|| {
                    let bucket = Bucket {
                        id,
                        term: term.clone(),
                        head: AtomicU64::new(0),
                        wake: Notify::new(),
                    };
                    Seated {
                        bucket: Arc::new(bucket),
                        seats: 0,
                    }
                });
                seated.seats += 1;
                Arc::clone(&seated.bucket)
            }
        };
        if bucket.id == id {
            inner.next += 1;
        }
        Seat {
            wakes: Arc::clone(self),
            bucket,
        }
    }

    /// Links the event `seq` into the buckets of its object, before and after.
    pub(crate) fn link(
        &self,
        seq: u64,
        old: Option<&Entry>,
        new: Option<&Entry>,
        indexes: &[Box<str>],
        touched: &mut Touched,
    ) -> Box<[Link]> {
        let Some(entry) = new.or(old) else {
            return Box::default();
        };
        let inner = self.inner.lock();
        let mut links = Vec::new();
        let mut touch = |seated: Option<&Seated>| {
            let Some(Seated { bucket, .. }) = seated else {
                return;
            };
            links.push(Link {
                bucket: bucket.id,
                previous: bucket.head.swap(seq, Ordering::AcqRel),
            });
            touched
                .entry(bucket.id)
                .or_insert_with(|| Arc::clone(bucket));
        };
        touch(inner.objects.get(&entry.key));
        if !inner.namespaces.is_empty() {
            touch(inner.namespaces.get(entry.namespace()));
        }
        for (buckets, field) in inner.fields.iter().zip(indexes) {
            if buckets.is_empty() {
                continue;
            }
            let before = old.map(|e| e.field(field).unwrap_or_default());
            let after = new.map(|e| e.field(field).unwrap_or_default());
            if before != after {
                touch(before.and_then(|value| buckets.get(value)));
            }
            touch(after.and_then(|value| buckets.get(value)));
        }
        links.into_boxed_slice()
    }

    /// Wakes the watchers of these buckets and those of everything.
    pub(crate) fn wake(&self, touched: Touched) {
        for bucket in touched.into_values() {
            bucket.wake.notify_waiters();
        }
        self.all.wake.notify_waiters();
    }

    /// Wakes everybody: the history ends, or it jumped.
    pub(crate) fn wake_all(&self) {
        let inner = self.inner.lock();
        let fields = inner.fields.iter().flat_map(HashMap::values);
        for seated in inner
            .objects
            .values()
            .chain(inner.namespaces.values())
            .chain(fields)
        {
            seated.bucket.wake.notify_waiters();
        }
        self.all.wake.notify_waiters();
    }
}

impl Inner {
    fn bucket<'t>(&mut self, term: &'t Term) -> Option<(&mut Seats, &'t str)> {
        match term {
            Term::All => None,
            Term::Object(key) => Some((&mut self.objects, key)),
            Term::Namespace(namespace) => Some((&mut self.namespaces, namespace)),
            Term::Field(index, value) => Some((&mut self.fields[*index], value)),
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut inner = self.wakes.inner.lock();
        let Some((seats, value)) = inner.bucket(&self.bucket.term) else {
            return;
        };
        if let Some(seated) = seats.get_mut(value) {
            seated.seats -= 1;
            if seated.seats == 0 {
                seats.remove(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Fields, Labels};
    use bytes::Bytes;

    fn pod(key: &str, node: &str) -> Entry {
        let names: Arc<[Box<str>]> = ["spec.nodeName".into()].into();
        Entry::new(
            key,
            1,
            Bytes::new(),
            Labels::default(),
            Fields::new(&names, [node]),
        )
    }

    fn buckets(links: &[Link]) -> Vec<u64> {
        links.iter().map(|l| l.bucket).collect()
    }

    #[test]
    fn an_event_touches_the_old_and_the_new_value_and_each_once() {
        let wakes = Wakes::new(1);
        let indexes = [Box::from("spec.nodeName")];
        let (n1, n2) = (
            wakes.seat(Term::Field(0, "n1".into())),
            wakes.seat(Term::Field(0, "n2".into())),
        );
        let link = |seq, old: Option<&Entry>, new: Option<&Entry>| {
            let mut touched = Touched::new();
            let links = wakes.link(seq, old, new, &indexes, &mut touched);
            assert_eq!(links.len(), touched.len());
            links
        };
        let (on1, on2) = (pod("a/p", "n1"), pod("a/p", "n2"));
        assert_eq!(buckets(&link(1, None, Some(&on1))), [n1.id]);
        let moved = link(2, Some(&on1), Some(&on2));
        assert_eq!(
            moved[..],
            [
                Link {
                    bucket: n1.id,
                    previous: 1
                },
                Link {
                    bucket: n2.id,
                    previous: 0
                }
            ]
        );
        assert_eq!(
            link(3, Some(&on2), Some(&on2))[..],
            [Link {
                bucket: n2.id,
                previous: 2
            }]
        );
        assert_eq!(buckets(&link(4, Some(&on2), None)), [n2.id]);
    }

    #[test]
    fn a_bucket_lives_as_long_as_somebody_watches_it() {
        let wakes = Wakes::new(0);
        let seat = || wakes.seat(Term::Namespace("a".into()));
        let (one, two) = (seat(), seat());
        assert_eq!(one.id, two.id);
        drop(one);
        assert_eq!(wakes.inner.lock().namespaces.len(), 1);
        drop(two);
        assert!(wakes.inner.lock().namespaces.is_empty());
        assert_ne!(seat().id, 1, "a number is never used again");
    }
}
