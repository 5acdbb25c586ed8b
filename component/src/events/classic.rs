//! core/v1 Events: repetitions are counted, floods of similar ones joined, spam left out.
//!
//! The three steps of `k8s.io/client-go/tools/record/events_cache.go`, with its numbers. Pure: the
//! time comes from outside.

use std::collections::HashSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event as CoreEvent, EventSource};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use super::{Event, Source, event_name, event_namespace};
use crate::bucket::{Bucket, Rate};
use crate::recent::{ENTRIES, Recent};

/// Events that differ only in their message, so many of them within that time, become one.
const SIMILAR: (usize, Duration) = (10, Duration::from_secs(600));
/// Events about one object: so many at once, and one more each so often.
const SPAM: (u32, Duration) = (25, Duration::from_secs(300));

/// What is known of the events of a component.
pub(super) struct Correlator {
    similar: Recent<String, Similar>,
    counted: Recent<String, Counted>,
    spam: Recent<String, Bucket>,
}

struct Similar {
    messages: HashSet<String>,
    last: Timestamp,
}

#[derive(Clone)]
struct Counted {
    count: i32,
    first: Timestamp,
    name: String,
}

/// What to write.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) event: CoreEvent,
    /// The change to the event that is there already.
    pub(super) patch: Option<serde_json::Value>,
}

impl Correlator {
    pub(super) fn new() -> Self {
        Self {
            similar: Recent::new(ENTRIES),
            counted: Recent::new(ENTRIES),
            spam: Recent::new(ENTRIES),
        }
    }

    /// What to write for an event; nothing if its object has had too many.
    pub(super) fn observe(
        &mut self,
        event: &Event,
        source: &Source,
        now: Timestamp,
    ) -> Option<Write> {
        let (message, key) = self.join(event, source, now);
        let name = event.regarding.name.as_deref().unwrap_or_default();
        let fresh = || Counted {
            count: 0,
            first: now,
            name: event_name(name, now.as_nanosecond()),
        };
        let counted = self.counted.entry(&key, fresh);
        counted.count = counted.count.saturating_add(1);
        let counted = counted.clone();
        let (rate, at) = (spam_rate(), since(Timestamp::UNIX_EPOCH, now));
        let full = || Bucket::full(rate, at);
        let spam = self.spam.entry(&spam_key(event, source), full);
        if !spam.try_take(rate, at) {
            return None;
        }
        let patch = (counted.count > 1).then(
            || json!({ "count": counted.count, "lastTimestamp": Time(now), "message": message }),
        );
        Some(Write {
            event: core_event(event, source, &counted, message, now),
            patch,
        })
    }

    /// Its message, and the key under which it is counted. Similar events beyond the limit share both.
    fn join(&mut self, event: &Event, source: &Source, now: Timestamp) -> (String, String) {
        let group = similar_key(event, source);
        let similar = self.similar.entry(&group, || Similar {
            messages: HashSet::new(),
            last: now,
        });
        if since(similar.last, now) > SIMILAR.1 {
            similar.messages.clear();
        }
        similar.messages.insert(event.message.clone());
        similar.last = now;
        if similar.messages.len() < SIMILAR.0 {
            let field = event.regarding.field_path.as_deref().unwrap_or_default();
            return (
                event.message.clone(),
                format!("{group}\0{field}\0{}", event.message),
            );
        }
        // The set must not grow further; which of the messages goes does not matter.
        if let Some(any) = similar.messages.iter().next().cloned() {
            similar.messages.remove(&any);
        }
        (
            format!("(combined from similar events): {}", event.message),
            group,
        )
    }
}

/// At which rate events about one object are written.
fn spam_rate() -> Rate {
    Rate::new(1.0 / SPAM.1.as_secs_f64(), SPAM.0)
}

fn since(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or_default()
}

/// What spam is counted by: who, about what, of which type.
fn spam_key(event: &Event, source: &Source) -> String {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let r = &event.regarding;
    [
        source.component.clone(),
        source.host.clone(),
        text(&r.kind),
        text(&r.namespace),
        text(&r.name),
        text(&r.uid),
        text(&r.api_version),
        event.kind.name().to_owned(),
    ]
    .join("\0")
}

/// What makes events similar: all of that, and the reason.
fn similar_key(event: &Event, source: &Source) -> String {
    format!("{}\0{}", spam_key(event, source), event.reason)
}

fn core_event(
    event: &Event,
    source: &Source,
    counted: &Counted,
    message: String,
    now: Timestamp,
) -> CoreEvent {
    CoreEvent {
        metadata: ObjectMeta {
            name: Some(counted.name.clone()),
            namespace: Some(event_namespace(&event.regarding)),
            ..ObjectMeta::default()
        },
        involved_object: event.regarding.clone(),
        reason: Some(event.reason.clone()),
        message: Some(message),
        first_timestamp: Some(Time(counted.first)),
        last_timestamp: Some(Time(now)),
        count: Some(counted.count),
        type_: Some(event.kind.name().to_owned()),
        source: Some(EventSource {
            component: Some(source.component.clone()),
            host: Some(source.host.clone()).filter(|h| !h.is_empty()),
        }),
        reporting_component: Some(source.component.clone()),
        reporting_instance: Some(source.host.clone()),
        ..CoreEvent::default()
    }
}
