//! events.k8s.io/v1 Events: repetitions form a series.
//!
//! As `k8s.io/client-go/tools/events/event_broadcaster.go`: the first repetition starts a series at the
//! server, further ones are counted here and told every half hour, and when the series ends.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event as SeriesEvent, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;

use super::{Event, Source, Type, event_name, event_namespace, instance};
use crate::recent::{ENTRIES, Recent};

/// A series without a repetition for so long has ended.
pub(super) const FINISH: Duration = Duration::from_secs(6 * 60);
/// How often series that go on are told.
pub(super) const REFRESH: Duration = Duration::from_secs(30 * 60);
/// The longest note that the server takes.
const LONGEST_NOTE: usize = 1024;

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct SeriesKey {
    kind: Type,
    action: String,
    reason: String,
    regarding: [String; 7],
    related: Option<[String; 7]>,
}

/// The series of a component.
pub(super) struct AllSeries {
    known: Recent<SeriesKey, SeriesEvent>,
}

impl AllSeries {
    pub(super) fn new() -> Self {
        Self {
            known: Recent::new(ENTRIES),
        }
    }

    /// What to write for an event: a new one, the start of a series, or nothing.
    pub(super) fn observe(
        &mut self,
        event: &Event,
        source: &Source,
        now: Timestamp,
    ) -> Option<SeriesEvent> {
        let key = SeriesKey::of(event);
        let mut new = false;
        let known = self.known.entry(&key, || {
            new = true;
            series_event(event, source, now)
        });
        if new {
            return Some(known.clone());
        }
        match &mut known.series {
            Some(series) => {
                series.count = series.count.saturating_add(1);
                series.last_observed_time = MicroTime(now);
                None
            }
            none => {
                *none = Some(EventSeries {
                    count: 2,
                    last_observed_time: MicroTime(now),
                });
                Some(known.clone())
            }
        }
    }

    /// Series that go on, to be told.
    pub(super) fn refresh(&mut self) -> Vec<SeriesEvent> {
        self.known
            .iter_mut()
            .filter(|(_, e)| e.series.is_some())
            .map(|(_, e)| e.clone())
            .collect()
    }

    /// Forgets events without repetition for a while; returns the series among them, to be told.
    pub(super) fn finish(&mut self, now: Timestamp) -> Vec<SeriesEvent> {
        let last = |event: &SeriesEvent| match &event.series {
            Some(series) => Some(series.last_observed_time.0),
            None => event.event_time.as_ref().map(|t| t.0),
        };
        let is_over = |then: Timestamp| {
            Duration::try_from(now.duration_since(then)).is_ok_and(|quiet| quiet > FINISH)
        };
        let over: Vec<_> = self
            .known
            .iter_mut()
            .filter(|(_, e)| last(e).is_none_or(is_over))
            .map(|(key, _)| key.clone())
            .collect();
        let events = over.iter().filter_map(|key| self.known.remove(key));
        events.filter(|event| event.series.is_some()).collect()
    }
}

impl SeriesKey {
    fn of(event: &Event) -> Self {
        Self {
            kind: event.kind,
            action: event.action.clone(),
            reason: event.reason.clone(),
            regarding: facts(&event.regarding),
            related: event.related.as_ref().map(facts),
        }
    }
}

fn facts(object: &ObjectReference) -> [String; 7] {
    [
        &object.api_version,
        &object.kind,
        &object.namespace,
        &object.name,
        &object.uid,
        &object.resource_version,
        &object.field_path,
    ]
    .map(|field| field.clone().unwrap_or_default())
}

fn series_event(event: &Event, source: &Source, now: Timestamp) -> SeriesEvent {
    let mut note = event.message.clone();
    if note.len() > LONGEST_NOTE {
        let cut = (0..=LONGEST_NOTE)
            .rev()
            .find(|i| note.is_char_boundary(*i))
            .unwrap_or(0);
        note.truncate(cut);
    }
    SeriesEvent {
        metadata: ObjectMeta {
            name: Some(event_name(
                event.regarding.name.as_deref().unwrap_or_default(),
                now.as_nanosecond(),
            )),
            namespace: Some(event_namespace(&event.regarding)),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        reporting_controller: Some(source.component.clone()),
        reporting_instance: Some(instance(source)),
        action: Some(event.action.clone()),
        reason: Some(event.reason.clone()),
        regarding: Some(event.regarding.clone()),
        related: event.related.clone(),
        note: Some(note),
        type_: Some(event.kind.name().to_owned()),
        ..SeriesEvent::default()
    }
}
