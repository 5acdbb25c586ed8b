//! What servers and controllers keep for each other: versions of storage, their migrations, evictions.
//!
//! Upstream: `pkg/registry/{apiserverinternal,storagemigration,lifecycle}`, `pkg/printers/internalversion`.

use proto::catalogue::names as n;
use proto::meta::names;
use proto::view::apiserverinternal_v1alpha1::StorageVersion;
use proto::view::lifecycle_v1alpha1::{Eviction, EvictionRequest};
use proto::view::meta_v1::Condition;
use proto::view::storagemigration_v1beta1::StorageVersionMigration;
use proto::view::{List, Node, View};
use proto::{Value, meta};

use crate::declarative::NO_OPTIONS;
use crate::strategy::{Generation, Part, Strategy};
use crate::table::{age, human_duration, row};

mod eviction;
mod migration;
mod storage_version;

pub static STORAGE_VERSION: Strategy = Strategy {
    name: |name, _| storage_version::name_problems(name),
    validate: |_, object, e| storage_version::status(object, e),
    declarative: Some(NO_OPTIONS),
    status: Some(Part {
        validate_update: |_, new, _, e| storage_version::status(new, e),
        ..Part::STATUS_ALONE
    }),
    generation: Generation::Ignored,
    cells: Some(|object, now| {
        let status = StorageVersion::of(Node::new(object)).status();
        let versions = status.storage_versions().into_iter();
        let servers = versions.map(|v| format!("{}={}", v.api_server_id(), v.encoding_version()));
        let common = status.common_encoding_version().unwrap_or("<unset>");
        let servers = with_more(&servers.collect::<Vec<_>>(), 3);
        row(object, now, [common.into(), servers.into()])
    }),
    ..Strategy::WITH_STATUS
};

pub static MIGRATION: Strategy = Strategy {
    validate: |_, object, e| migration::migration(object, e),
    validate_update: |_, new, old, e| migration::update(new, old, e),
    declarative: Some(NO_OPTIONS),
    status: Some(Part {
        validate_update: |_, new, old, e| migration::status(new, old, e),
        ..Part::STATUS_ALONE
    }),
    generation: Generation::Ignored,
    cells: Some(|object, _| {
        let view = StorageVersionMigration::of(Node::new(object));
        let resource = view.spec().resource();
        let name = match resource.group() {
            "" => resource.resource().to_owned(),
            group => format!("{}.{group}", resource.resource()),
        };
        let states = view.status().conditions();
        let state = states
            .iter()
            .filter(|c| c.status() == "True")
            .rfind(|c| matches!(c.r#type(), "Running" | "Failed" | "Succeeded"));
        vec![
            meta::name(object).into(),
            name.into(),
            state.map_or("Unknown", |c| c.r#type()).into(),
        ]
    }),
    ..Strategy::WITH_STATUS
};

/// The first few of a list, and how many there are beyond.
fn with_more(all: &[String], most: usize) -> String {
    let shown = all[..all.len().min(most)].join(",");
    match all.len().saturating_sub(most) {
        0 if shown.is_empty() => "<unset>".into(),
        0 => shown,
        more => format!("{shown} + {more} more..."),
    }
}

/// Nothing is asked of what a drawn name begins with: the name is looked at once it is drawn.
fn long_name(name: &str, prefix: bool) -> Vec<String> {
    match prefix {
        true => Vec::new(),
        false => names::long_name_problems(name),
    }
}

pub static EVICTION_REQUEST: Strategy = Strategy {
    name: long_name,
    declarative: Some(NO_OPTIONS),
    status: Some(Part {
        validate_update: |_, new, _, e| {
            if let Some(conditions) = new.at(&[n::STATUS, n::CONDITIONS]) {
                meta::validate_conditions(conditions, e);
            }
        },
        ..Part::STATUS_ALONE
    }),
    cells: Some(|object, now| {
        let view = EvictionRequest::of(Node::new(object));
        let [target, kind] = target(object);
        row(
            object,
            now,
            [
                target,
                kind,
                progress(object, view.status().conditions()).into(),
                view.spec().requester().into(),
                view.spec().intent().into(),
            ],
        )
    }),
    ..Strategy::WITH_STATUS
};

pub static EVICTION: Strategy = Strategy {
    name: long_name,
    declarative: Some(NO_OPTIONS),
    status: Some(Part {
        validate_update: |cx, new, old, e| eviction::status(cx.now_seconds, new, old, e),
        ..Part::STATUS_ALONE
    }),
    cells: Some(eviction_cells),
    ..Strategy::WITH_STATUS
};

/// Name and kind of what is to go.
fn target(object: &Value) -> [Value; 2] {
    let pod = object.at(&[n::SPEC, n::TARGET, n::POD, n::NAME]);
    match pod.and_then(Value::as_str) {
        Some(name) => [name.into(), "Pod".into()],
        None => ["<unset>".into(), "<unset>".into()],
    }
}

/// How far an eviction is: what ended it, or whether anybody has begun.
fn progress<'v>(object: &Value, conditions: List<'v, Condition<'v>>) -> String {
    let holds = |kind: &str| {
        conditions
            .iter()
            .find(|c| c.r#type() == kind && c.status() == "True")
    };
    if let Some(ended) = holds("TargetEvicted").or_else(|| holds("Failed")) {
        return format!("{} ({})", ended.r#type(), ended.reason());
    }
    let seen = object.at(&[n::STATUS, n::OBSERVED_GENERATION]);
    if seen.and_then(Value::as_int).unwrap_or(0) > 0 {
        "Progressing".into()
    } else {
        "Pending".into()
    }
}

fn eviction_cells(object: &Value, now: i64) -> Vec<Value> {
    let status = Eviction::of(Node::new(object)).status();
    let all = status.target_responders();
    let is_past = |state: &str| matches!(state, "Canceled" | "Interrupted" | "Completed");
    let begun = all
        .iter()
        .filter(|r| is_past(r.state()) || r.state() == "Active");
    let begun = begun.count();
    // Who acts now; of several or none, the one who did last.
    let acting = all.iter().rfind(|r| r.state() == "Active");
    let acting = acting.or_else(|| all.iter().rfind(|r| is_past(r.state())));
    let mut told = ["<unset>", "<unknown>", "<unset>", "<unset>"].map(str::to_owned);
    let responder = acting.and_then(|acting| {
        let found = status.responders().into_iter();
        let mut found = found.filter(|r| r.name() == acting.name());
        found.next()
    });
    if let (Some(acting), Some(responder)) = (acting, responder) {
        let since = |at: Option<&str>| at.map(|at| age(at, now));
        let (mut state, mut finish) = (acting.state().to_owned(), "<unknown>".to_owned());
        match acting.state() {
            "Active" => {
                if let Some(since) = since(responder.start_time()) {
                    state = format!("Started ({since} ago)");
                    finish = responder
                        .expected_completion_time()
                        .map_or(finish, |at| until(at, now));
                }
            }
            "Canceled" | "Interrupted" => finish = "-".into(),
            "Completed" => {
                if let Some(since) = since(responder.completion_time()) {
                    state = format!("Completed ({since} ago)");
                }
                finish = "-".into();
            }
            _ => {}
        }
        let unset = || "<unset>".to_owned();
        let heartbeat = since(responder.heartbeat_time());
        let message = responder.message().unwrap_or_default().trim();
        let message = Some(message).filter(|m| !m.is_empty());
        told = [
            state,
            finish,
            heartbeat.map_or_else(unset, |since| format!("{since} ago")),
            message.map_or_else(unset, str::to_owned),
        ];
    }
    let [state, finish, heartbeat, message] = told;
    let name = acting.map_or("<unset>", |r| r.name());
    let [target, kind] = target(object);
    vec![
        meta::name(object).into(),
        target,
        kind,
        progress(object, status.conditions()).into(),
        format!("{name} ({begun}/{})", all.len()).into(),
        state.into(),
        finish.into(),
        requesters(object).into(),
        age(meta::creation_timestamp(object), now).into(),
        heartbeat.into(),
        message.into(),
    ]
}

fn until(at: &str, now: i64) -> String {
    match proto::time::unix_of(at) {
        Some((seconds, _)) if seconds > now => format!("in {}", human_duration(seconds - now)),
        _ => format!("{} ago", age(at, now)),
    }
}

/// Who still wants the eviction.
fn requesters(object: &Value) -> String {
    let all = Eviction::of(Node::new(object)).status().requesters();
    let wanting = all.iter().filter(|r| r.intent() != "Withdrawn");
    let mut names: Vec<String> = wanting.map(|r| r.name().to_owned()).collect();
    names.sort_unstable();
    match (all.is_empty(), names.is_empty()) {
        (true, _) => "<none>".into(),
        (false, true) => "<withdrawn>".into(),
        (false, false) => with_more(&names, 1),
    }
}
