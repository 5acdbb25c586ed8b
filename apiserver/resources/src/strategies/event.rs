//! Events: written often, read seldom, gone after an hour.
//!
//! Events of both groups are stored as those of the core group. Those that have an `eventTime` must be
//! complete; those that are written through `events.k8s.io` must have one and nothing of the old way.
//!
//! Upstream: `pkg/registry/core/event`, `pkg/apis/core/validation/events.go`.

use proto::catalogue::messages::core_v1::{EVENT_SOURCE, OBJECT_REFERENCE};
use proto::catalogue::names as n;
use proto::meta::names;
use proto::path::{Errors, Reason, Show, Spot};
use proto::view::core_v1::Event;
use proto::view::{Node, View};
use proto::{NameId, Value, meta};

use crate::declarative::NO_OPTIONS;
use crate::equal::same_at;
use crate::metadata;
use crate::rules;
use crate::shown::Internal;
use crate::strategy::Strategy;
use crate::table::age;

/// `events` of the core group.
pub static EVENT: Strategy = Strategy {
    declarative: Some(NO_OPTIONS),
    name: names::path_segment_name,
    validate: |_, object, e| event(object, e, n::REPORTING_COMPONENT),
    validate_update: |_, new, _, e| event(new, e, n::REPORTING_COMPONENT),
    fields: &[("source", &["source.component", "reportingComponent"])],
    cells: Some(cells),
    ..Strategy::DEFAULT
};

/// `events` of `events.k8s.io`.
pub static EVENT_V1: Strategy = Strategy {
    name: names::subdomain_name,
    validate: |_, object, e| {
        event(object, e, n::REPORTING_CONTROLLER);
        strict(object, e);
    },
    validate_update: |_, new, old, e| {
        event(new, e, n::REPORTING_CONTROLLER);
        unchanged(new, old, e);
    },
    ..EVENT
};

const MAX_MESSAGE: usize = 1024;
/// Of the reason, the action and the reporting instance.
const MAX_TEXT: usize = 128;

/// `legacyValidateEvent`: an event lies in the namespace of its object, or in `default` if that has
/// none; what the new way has, it has wholly.
fn event(object: &Value, e: &mut Errors<'_>, controller: NameId) {
    let view = Event::of(Node::new(object));
    let involved = view.involved_object();
    let namespace = meta::namespace(object);
    let is_new = view.event_time().is_some_and(|t| !t.is_empty());
    let fits = match involved.namespace() {
        "" if is_new => matches!(namespace, "default" | "kube-system"),
        "" => matches!(namespace, "default" | ""),
        own => is_new || own == namespace,
    };
    if !fits {
        let at = Spot::of(involved).field(n::NAMESPACE);
        e.invalid(at, involved.namespace(), "does not match event.namespace");
    }
    if !is_new {
        return;
    }
    let at = |field| Spot::of(view).field(field);
    let reporter = view.reporting_component();
    if reporter.is_empty() {
        e.required(at(controller), "");
    }
    let problems = names::label_key_problems(reporter);
    e.invalid_each(at(controller), reporter, problems);
    for (field, text, must, most) in [
        (
            n::REPORTING_INSTANCE,
            view.reporting_instance(),
            true,
            MAX_TEXT,
        ),
        (n::ACTION, view.action(), true, MAX_TEXT),
        (n::REASON, view.reason(), true, MAX_TEXT),
        (n::MESSAGE, view.message(), false, MAX_MESSAGE),
    ] {
        if must && text.is_empty() {
            e.required(at(field), "");
        }
        if text.len() > most {
            e.invalid(at(field), "", format!("can have at most {most} characters"));
        }
    }
}

/// What `events.k8s.io` asks for beyond.
fn strict(object: &Value, e: &mut Errors<'_>) {
    let view = Event::of(Node::new(object));
    let at = |field| Spot::of(view).field(field);
    meta::validate_object_meta(object, true, names::subdomain_name, e);
    metadata::finalizers(object, e);
    series(view, e);
    if view.event_time().is_none_or(str::is_empty) {
        e.required(at(n::EVENT_TIME), "");
    }
    if !matches!(view.r#type(), "Normal" | "Warning") {
        let detail = format!("has invalid value: {}", view.r#type());
        e.invalid(at(n::TYPE), "", detail);
    }
    let source = view.source();
    for (field, given) in [
        (n::FIRST_TIMESTAMP, view.first_timestamp().is_some()),
        (n::LAST_TIMESTAMP, view.last_timestamp().is_some()),
        (n::COUNT, view.count() != 0),
        (
            n::SOURCE,
            !source.component().is_empty() || !source.host().is_empty(),
        ),
    ] {
        if given {
            e.invalid(at(field), "", "needs to be unset");
        }
    }
}

fn series(event: Event<'_>, e: &mut Errors<'_>) {
    let Some(series) = event.series() else { return };
    if series.count() < 2 {
        let at = Spot::of(series).field(n::COUNT);
        e.invalid(at, "", "should be at least 2");
    }
    if series.last_observed_time().is_none_or(str::is_empty) {
        e.required(Spot::of(series).field(n::LAST_OBSERVED_TIME), "");
    }
}

/// `ValidateEventUpdate`: nothing but the series of an event changes.
fn unchanged(new: &Value, old: &Value, e: &mut Errors<'_>) {
    let now = Event::of(Node::new(new));
    metadata::finalizers(new, e);
    if !rules::same(new.get(n::SERIES), old.get(n::SERIES)) {
        series(now, e);
    }
    for field in [
        n::INVOLVED_OBJECT,
        n::REASON,
        n::MESSAGE,
        n::SOURCE,
        n::FIRST_TIMESTAMP,
        n::LAST_TIMESTAMP,
        n::COUNT,
        // Twice, as upstream.
        n::REASON,
        n::TYPE,
        n::EVENT_TIME,
        n::ACTION,
        n::RELATED,
        n::REPORTING_COMPONENT,
        n::REPORTING_INSTANCE,
    ] {
        if same_at(new, old, &[field]) {
            continue;
        }
        let value = now.node().get(field);
        let shown = match field {
            n::INVOLVED_OBJECT | n::RELATED => Internal(value, OBJECT_REFERENCE).show(),
            n::SOURCE => Internal(value, EVENT_SOURCE).show(),
            n::COUNT => now.count().show(),
            n::FIRST_TIMESTAMP | n::LAST_TIMESTAMP | n::EVENT_TIME => {
                value.map_or_else(|| "null".into(), |time| time.show())
            }
            _ => now.node().str(field).show(),
        };
        let at = match field {
            n::REPORTING_COMPONENT => n::REPORTING_CONTROLLER,
            other => other,
        };
        e.add(Reason::Invalid, (now, at), shown, rules::IMMUTABLE);
    }
}

fn cells(object: &Value, now: i64) -> Vec<Value> {
    let view = Event::of(Node::new(object));
    let involved = view.involved_object();
    let given = |t: Option<&str>| t.filter(|t| !t.is_empty()).map(|t| age(t, now));
    let first = given(view.first_timestamp())
        .or_else(|| given(view.event_time()))
        .unwrap_or_else(|| age("", now));
    let last = match view.series() {
        Some(series) => age(series.last_observed_time().unwrap_or_default(), now),
        None => given(view.last_timestamp()).unwrap_or_else(|| first.clone()),
    };
    let count = match view.series() {
        Some(series) => series.count(),
        None => view.count().max(1),
    };
    let either = |old: &str, new: &str| if old.is_empty() { new } else { old }.to_owned();
    let source = view.source();
    let mut reporter = either(source.component(), view.reporting_component());
    let instance = either(source.host(), view.reporting_instance());
    if !instance.is_empty() {
        reporter = format!("{reporter}, {instance}");
    }
    let kind = involved.kind().to_lowercase();
    let target = match involved.name() {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    vec![
        last.into(),
        view.r#type().into(),
        view.reason().into(),
        target.into(),
        involved.field_path().into(),
        reporter.into(),
        view.message().trim().into(),
        first.into(),
        count.into(),
        meta::name(object).into(),
    ]
}

#[cfg(test)]
mod tests {
    use proto::catalogue::messages::core_v1;
    use proto::codec::json::{self, Strictness};

    use super::*;

    fn decode(text: &str) -> Value {
        json::decode(text.as_bytes(), core_v1::EVENT, Strictness::Strict)
            .expect("the test's JSON is valid")
            .value
    }

    fn problems(text: &str, check: impl FnOnce(&Value, &mut Errors<'_>)) -> Vec<String> {
        let object = decode(text);
        let mut errors = Errors::new(&object);
        check(&object, &mut errors);
        let all = errors.into_vec();
        all.iter().map(|e| e.field.clone()).collect()
    }

    const OLD: &str = r#"{"metadata":{"name":"e","namespace":"n"},"involvedObject":{"kind":"Pod","name":"p","namespace":"n"},
        "source":{"component":"kubelet","host":"h"},"firstTimestamp":"2026-01-02T03:04:05Z","count":3,"message":" m "}"#;
    const NEW: &str = r#"{"metadata":{"name":"e","namespace":"n"},"involvedObject":{"kind":"Pod","name":"p","namespace":"n"},
        "eventTime":"2026-01-02T03:04:05.000000Z","reportingComponent":"x.io/c","reportingInstance":"i","action":"A","reason":"R","type":"Normal"}"#;

    #[test]
    fn events_of_both_groups_are_complete_in_their_way() {
        assert!(problems(OLD, |o, e| event(o, e, n::REPORTING_COMPONENT)).is_empty());
        assert!(problems(NEW, |o, e| event(o, e, n::REPORTING_COMPONENT)).is_empty());
        assert!(problems(NEW, strict).is_empty());
        let fields = problems(OLD, strict);
        assert_eq!(
            fields,
            ["eventTime", "type", "firstTimestamp", "count", "source"]
        );
        let torn = NEW.replace(r#""action":"A","#, "").replace("x.io/c", "");
        let fields = problems(&torn, |o, e| event(o, e, n::REPORTING_COMPONENT));
        assert!(
            fields.contains(&"action".to_owned())
                && fields.contains(&"reportingComponent".to_owned()),
            "{fields:?}"
        );
    }

    #[test]
    fn an_event_of_the_new_group_stays_as_it_is() {
        let (old, new) = (decode(NEW), decode(&NEW.replace("\"R\"", "\"S\"")));
        let mut errors = Errors::new(&new);
        unchanged(&new, &old, &mut errors);
        let all = errors.into_vec();
        assert_eq!(
            all.iter().map(|e| e.field.as_str()).collect::<Vec<_>>(),
            ["reason", "reason"]
        );
    }

    #[test]
    fn events_are_shown_with_who_told_of_them() {
        let now = 1_767_323_045 + 60;
        let shown = |text: &str| -> Vec<String> {
            let cells = cells(&decode(text), now);
            cells
                .iter()
                .map(|c| {
                    c.as_str().map_or_else(
                        || c.as_int().map_or_else(String::new, |i| i.to_string()),
                        str::to_owned,
                    )
                })
                .collect()
        };
        assert_eq!(
            shown(OLD),
            [
                "60s",
                "",
                "",
                "pod/p",
                "",
                "kubelet, h",
                "m",
                "60s",
                "3",
                "e"
            ]
        );
        assert_eq!(
            shown(NEW),
            [
                "60s",
                "Normal",
                "R",
                "pod/p",
                "",
                "x.io/c, i",
                "",
                "60s",
                "1",
                "e"
            ]
        );
    }
}
