//! Every method on every path of a resource, and every form in which it is read.

use serde_json::json;

use super::super::case::{Case, JSON, MERGE, PROTOBUF, Step, YAML};
use super::super::resource::Resource;
use super::reads::TABLE;
use super::source::{Seed, Source};
use super::target::{Target, case};

const TABLE_OLD: &str = "application/json;as=Table;v=v1beta1;g=meta.k8s.io";
const TABLE_YAML: &str = "application/yaml;as=Table;v=v1;g=meta.k8s.io";
const TABLE_PROTOBUF: &str = "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io";
const PARTIAL: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
const PARTIAL_PROTOBUF: &str =
    "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
const PARTIAL_LIST: &str = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
const PARTIAL_LIST_PROTOBUF: &str =
    "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";

/// What clients say they take.
const ACCEPTS: &[&str] = &[
    JSON,
    YAML,
    PROTOBUF,
    "*/*",
    "application/*",
    "text/html",
    "text/html, */*;q=0.1",
    "application/json;q=0.5, application/yaml;q=0.9",
    "application/cbor",
    "application/json;stream=watch",
    "application/json;as=Nothing;v=v1;g=meta.k8s.io",
    "application/json;charset=utf-8",
    TABLE,
    TABLE_OLD,
    TABLE_YAML,
    TABLE_PROTOBUF,
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
    PARTIAL,
    PARTIAL_PROTOBUF,
    PARTIAL_LIST,
    PARTIAL_LIST_PROTOBUF,
];
/// Of watches: each takes a second.
const STREAMS: &[&str] = &[
    JSON,
    YAML,
    PROTOBUF,
    TABLE,
    PARTIAL,
    PARTIAL_PROTOBUF,
    "text/html",
];
const METHODS: &[&str] = &["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];

pub(super) fn cases(source: &Source) -> Vec<Case> {
    let mut all = Vec::new();
    for resource in source.whole() {
        all.push(methods(source, resource));
        all.extend(source.seed(resource).map(reads));
    }
    all
}

/// Every method on every path of a resource, where there is nothing.
fn methods(source: &Source, resource: &Resource) -> Case {
    let collection = resource.path(Some("${ns}"));
    let item = format!("{collection}/no-such-object");
    let subs = source.subresources(resource).map(|(sub, _)| sub);
    // These answer by opening a stream, or by passing on.
    let quiet = |sub: &&str| !matches!(*sub, "attach" | "exec" | "log" | "portforward" | "proxy");
    let mut paths: Vec<String> = subs
        .filter(quiet)
        .map(|sub| format!("{item}/{sub}"))
        .collect();
    paths.push(format!("{item}/no-such-subresource"));
    paths.push(item);
    // Without a body, a POST to a collection of reviews is a request like any other, and so are these.
    let steps = paths
        .iter()
        .flat_map(|path| METHODS.iter().map(move |method| (*method, path)));
    let steps = steps.map(|(method, path)| {
        let about = format!(
            "{method} {}",
            path.strip_prefix(&collection).unwrap_or(path)
        );
        let step = Step::new(method, path, about);
        match method {
            "PATCH" => step.body(MERGE, &json!({})).cleanup(),
            "POST" | "PUT" => step.body(JSON, &json!({})).cleanup(),
            _ => step.cleanup(),
        }
    });
    let mut steps: Vec<Step> = steps.collect();
    for method in ["PUT", "PATCH", "HEAD", "OPTIONS"] {
        steps.push(Step::new(method, &collection, format!("{method} on the collection")).cleanup());
    }
    if resource.namespaced {
        for method in ["POST", "DELETE", "PUT"] {
            let about = format!("{method} without a namespace");
            let step = Step::new(method, resource.path(None), about);
            steps.push(
                step.body(JSON, &json!({"metadata": {"name": "a"}}))
                    .cleanup(),
            );
        }
    }
    case(resource, "methods", steps)
}

/// The object and lists that have it alone, in all forms.
fn reads(seed: &Seed) -> Case {
    let target = Target::new(seed);
    let mut steps = vec![target.create()];
    let Target {
        collection,
        item,
        only,
        ..
    } = &target;
    for accept in ACCEPTS {
        steps.push(Step::get(item, format!("get {accept}")).accept(accept));
    }
    if seed.resource.can("list") {
        let list = format!("{collection}?{only}");
        for accept in ACCEPTS {
            steps.push(Step::get(&list, format!("list {accept}")).accept(accept));
        }
        for include in ["None", "Metadata", "Object", "Other"] {
            let path = format!("{list}&includeObject={include}");
            steps.push(Step::get(path, format!("table includeObject={include}")).accept(TABLE));
        }
        for pretty in ["true", "false", "1", "other"] {
            steps.push(Step::get(
                format!("{item}?pretty={pretty}"),
                format!("pretty={pretty}"),
            ));
        }
    }
    if seed.resource.can("watch") {
        for accept in STREAMS {
            let path = format!("{collection}?{only}&watch=true&timeoutSeconds=1");
            steps.push(Step::get(path, format!("watch {accept}")).accept(accept));
        }
    }
    steps.extend(target.remove());
    target.case("reads", steps)
}
