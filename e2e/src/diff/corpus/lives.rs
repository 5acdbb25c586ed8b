//! Objects that are created, read back, changed in all ways, listed and deleted.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::case::{
    APPLY, Body, Case, JSON, JSON_PATCH, MERGE, PROTOBUF, STRATEGIC, Step, YAML,
};
use super::reads::TABLE;
use super::source::{Seed, Source};
use super::target::Target;

pub(super) fn cases(source: &Source) -> Vec<Case> {
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    let mut all = Vec::new();
    for seed in source.seeds.iter().chain(&source.golden) {
        let mut case = life(seed);
        // Upstream's list has several objects of some kinds.
        let count = count.entry(case.name.clone()).or_default();
        *count += 1;
        if *count > 1 {
            case.name = format!("{} ({count})", case.name);
        }
        all.push(case);
    }
    all
}

fn life(seed: &Seed) -> Case {
    let target = Target::new(seed);
    let Target {
        collection,
        item,
        object,
        only,
        ..
    } = &target;
    let can = |verb: &str| seed.resource.can(verb);
    let mut steps = vec![target.create()];
    if can("get") {
        let read = |form: &str| Step::get(item, format!("read {form}")).accept(form);
        steps.extend([JSON, YAML, PROTOBUF, TABLE].map(read));
    }
    if can("list") {
        let list = |form: &str| {
            Step::get(format!("{collection}?{only}"), format!("list {form}")).accept(form)
        };
        steps.extend([JSON, TABLE].map(list));
    }
    if can("update") {
        let change =
            json!({"metadata": {"resourceVersion": null, "annotations": {"updated": "yes"}}});
        let body = Body::Answer("made".to_owned(), Some(change));
        steps.push(Step::new("PUT", item, "update").with(JSON, body));
    }
    if can("patch") {
        let label = |value: &str| json!({"metadata": {"labels": {"patched": value}}});
        let patch = |content: &str, about: &str| {
            Step::new("PATCH", item, about).header("content-type", content)
        };
        let with = |step: Step, body: Value| Step {
            body: Body::Text(body.to_string()),
            ..step
        };
        steps.push(with(patch(MERGE, "merge"), label("merge")));
        steps.push(with(patch(STRATEGIC, "strategic"), label("strategic")));
        // The whole object as a strategic patch: every list is merged with itself.
        steps.push(with(
            patch(STRATEGIC, "strategic with itself"),
            (*object).clone(),
        ));
        let replace =
            json!([{"op": "replace", "path": "/metadata/labels/patched", "value": "json"}]);
        steps.push(with(patch(JSON_PATCH, "json"), replace));
        let apply = Step::new(
            "PATCH",
            format!("{item}?fieldManager=life&force=true"),
            "apply",
        );
        steps.push(with(apply.header("content-type", APPLY), (*object).clone()));
        let less = json!({"apiVersion": object["apiVersion"], "kind": object["kind"], "metadata": {"name": object["metadata"]["name"]}});
        let apply = Step::new(
            "PATCH",
            format!("{item}?fieldManager=life&force=true"),
            "apply nothing",
        );
        steps.push(with(apply.header("content-type", APPLY), less).cleanup());
        if let Some(status) = &seed.status {
            let path = format!("{item}/status");
            steps.push(
                Step::new("PATCH", path, "merge a status")
                    .body(MERGE, status)
                    .cleanup(),
            );
        }
    }
    steps.extend(target.remove());
    if can("get") {
        steps.push(Step::get(item, "read what is gone"));
    }
    target.case(format!("life of {}", seed.origin), steps)
}
