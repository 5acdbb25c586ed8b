//! Whole documents: paths in one of the two dialects, with the definitions that they refer to.

use std::collections::BTreeMap;

use proto::catalogue::Resource;
use serde_json::{Map, Value, json};

use super::paths::{self, Operation, PATH_IN_PATH, Path, Produces};
use super::schema::{self, Dialect, PATCH};

const OBJECT: &[&str] = &[
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
];
const STREAM: &[&str] = &[
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
];
const PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

/// The documents of v3 by their path below `/openapi/v3/`, and the one of v2.
pub(super) struct Set {
    pub v3: BTreeMap<String, Value>,
    pub v2: Value,
}

/// All documents about the resources.
pub(super) fn all(resources: &[&'static Resource]) -> Set {
    let mut versions: Vec<(&str, &str)> = resources.iter().map(|r| (r.group, r.version)).collect();
    versions.sort_unstable();
    versions.dedup();
    let mut parts: BTreeMap<String, Vec<Path>> = BTreeMap::new();
    for (name, path) in discovery(&versions) {
        parts.entry(name).or_default().push(path);
    }
    for r in resources {
        let name = paths::root(r.group, r.version);
        parts
            .entry(name[1..].to_owned())
            .or_default()
            .extend(paths::of_resource(r));
    }
    let v2 = v2(parts.values().flatten(), &every_version());
    let v3 = parts
        .into_iter()
        .map(|(name, of)| {
            let own = own_versions(&name);
            let document = v3(&of, &own);
            (name, document)
        })
        .collect();
    Set { v3, v2 }
}

/// The versions that the v2 document shows for kinds of every group version: all whose kinds a client can send.
fn every_version() -> Vec<(&'static str, &'static str)> {
    const OTHERS: &[&str] = &["apidiscovery.k8s.io", "audit.k8s.io", "meta.k8s.io"];
    let mut all = proto::catalogue::versions_of_kinds();
    all.retain(|(group, _)| !OTHERS.contains(group));
    all
}

/// Kinds of every group version are shown in a document as those of the core group and of its own.
fn own_versions(name: &str) -> Vec<(&str, &str)> {
    let mut own = vec![("", "v1")];
    if let Some((group, version)) = name.strip_prefix("apis/").and_then(|n| n.split_once('/')) {
        own.push((group, version));
    }
    own
}

/// Paths that are about the server: the name, a tag, the operation, what it answers with.
type OfServer = (
    &'static str,
    &'static str,
    &'static str,
    Option<&'static str>,
    Produces,
);

const OF_SERVER: &[OfServer] = &[
    (
        ".well-known/openid-configuration",
        "WellKnown",
        "getServiceAccountIssuerOpenIDConfiguration",
        None,
        Produces::Json,
    ),
    (
        "openid/v1/jwks",
        "openid",
        "getServiceAccountIssuerOpenIDKeyset",
        None,
        Produces::Keys,
    ),
    (
        "version",
        "version",
        "getCodeVersion",
        Some(schema::VERSION_INFO),
        Produces::Json,
    ),
];

/// The paths of discovery, each with the document that it belongs to.
fn discovery(versions: &[(&'static str, &'static str)]) -> Vec<(String, Path)> {
    const LIST: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.APIResourceList";
    const GROUP: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.APIGroup";
    const GROUPS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.APIGroupList";
    const VERSIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.APIVersions";
    let core = paths::discovery(
        "/api/".into(),
        "core".into(),
        "getCoreAPIVersions".into(),
        VERSIONS,
    );
    let groups = paths::discovery(
        "/apis/".into(),
        "apis".into(),
        "getAPIVersions".into(),
        GROUPS,
    );
    let mut all = vec![("api".to_owned(), core), ("apis".to_owned(), groups)];
    for (name, tag, id, answer, produces) in OF_SERVER {
        let path = paths::of_server(name, tag, id, *answer, *produces);
        all.push(((*name).to_owned(), path));
    }
    for (i, (group, version)) in versions.iter().enumerate() {
        let root = paths::root(group, version);
        let id = format!("get{}APIResources", paths::id_of(group, version));
        let tag = paths::tag(group, Some(version));
        all.push((
            root[1..].to_owned(),
            paths::discovery(format!("{root}/"), tag, id, LIST),
        ));
        let first = i == 0 || versions[i - 1].0 != *group;
        if first && !group.is_empty() {
            let id = format!("get{}APIGroup", paths::camel(group));
            let path = format!("/apis/{group}/");
            let tag = paths::tag(group, None);
            all.push((
                format!("apis/{group}"),
                paths::discovery(path, tag, id, GROUP),
            ));
        }
    }
    all
}

/// The release without its patches, `1.37`, as upstream shows the version that it emulates.
fn version() -> &'static str {
    let version = component::version::KUBERNETES.trim_start_matches('v');
    version.rsplit_once('.').map_or(version, |(minor, _)| minor)
}

fn v3(of: &[Path], versions: &[(&str, &str)]) -> Value {
    let dialect = Dialect::V3;
    let paths = items(of.iter(), dialect);
    let mut components = Map::new();
    let schemas = schema::reachable(&paths, dialect, versions);
    if !schemas.is_empty() {
        components.insert("schemas".into(), Value::Object(schemas));
    }
    let token = json!({"type": "apiKey", "name": "authorization", "in": "header"});
    components.insert("securitySchemes".into(), json!({"BearerToken": token}));
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": version()},
        "paths": paths,
        "components": components,
    })
}

fn v2<'a>(of: impl Iterator<Item = &'a Path>, versions: &[(&str, &str)]) -> Value {
    let dialect = Dialect::V2;
    let paths = items(of, dialect);
    let definitions = schema::reachable(&paths, dialect, versions);
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": version()},
        "paths": paths,
        "definitions": definitions,
        "securityDefinitions": {
            "BearerToken": {"type": "apiKey", "name": "authorization", "in": "header"},
        },
        "security": [{"BearerToken": []}],
    })
}

fn items<'a>(of: impl Iterator<Item = &'a Path>, dialect: Dialect) -> Value {
    let map: Map<String, Value> = of.map(|p| (p.path.clone(), item(p, dialect))).collect();
    Value::Object(map)
}

/// A path: what all operations have in common stands once beside them.
fn item(path: &Path, dialect: Dialect) -> Value {
    let every: Vec<Vec<Value>> = path
        .operations
        .iter()
        .map(|o| parameters(o, dialect))
        .collect();
    let common: Vec<Value> = every
        .first()
        .into_iter()
        .flatten()
        .filter(|p| p["in"] != "body" && every.iter().all(|other| other.contains(p)))
        .cloned()
        .collect();
    let mut item = Map::new();
    for (operation, mut own) in path.operations.iter().zip(every) {
        own.retain(|p| !common.contains(p));
        let shown = self::operation(operation, &path.tag, own, dialect);
        item.insert(operation.method.to_owned(), Value::Object(shown));
    }
    if !common.is_empty() {
        item.insert("parameters".into(), json!(common));
    }
    Value::Object(item)
}

fn operation(o: &Operation, tag: &str, own: Vec<Value>, dialect: Dialect) -> Map<String, Value> {
    let mut shown = Map::new();
    shown.insert("operationId".into(), json!(o.id));
    shown.insert("tags".into(), json!([tag]));
    if !own.is_empty() {
        shown.insert("parameters".into(), json!(own));
    }
    if !o.action.is_empty() {
        shown.insert("x-kubernetes-action".into(), json!(o.action));
    }
    if let Some((group, version, kind)) = o.kind {
        let kind = json!({"group": group, "version": version, "kind": kind});
        shown.insert("x-kubernetes-group-version-kind".into(), kind);
    }
    let answer = match o.answer {
        Some(definition) => dialect.reference(definition),
        None => json!({"type": "string"}),
    };
    let mut responses = Map::new();
    let types = produces(o.produces);
    for code in o.codes {
        let response = match dialect {
            Dialect::V3 => json!({"description": "OK", "content": content(&types, &answer)}),
            Dialect::V2 => json!({"description": "OK", "schema": answer}),
        };
        responses.insert(code.to_string(), response);
    }
    responses.insert("401".into(), json!({"description": "Unauthorized"}));
    shown.insert("responses".into(), Value::Object(responses));
    match dialect {
        Dialect::V3 => {
            if let Some(body) = request_body(o) {
                shown.insert("requestBody".into(), body);
            }
        }
        Dialect::V2 => {
            shown.insert("schemes".into(), json!(["https"]));
            let consumes = consumes(o);
            if !consumes.is_empty() {
                shown.insert("consumes".into(), json!(consumes));
            }
            shown.insert("produces".into(), json!(types));
        }
    }
    shown
}

fn request_body(o: &Operation) -> Option<Value> {
    let body = o.body?;
    let content = content(consumes(o), &Dialect::V3.reference(body));
    Some(if o.method == "delete" {
        json!({"content": content})
    } else {
        json!({"content": content, "required": true})
    })
}

fn consumes(o: &Operation) -> &'static [&'static str] {
    match o.body {
        Some(PATCH) => PATCHES,
        None if o.produces == Produces::Json && o.answer.is_some() => &OBJECT[..1],
        None if matches!(o.produces, Produces::Json | Produces::Keys) => &[],
        None if o.action.is_empty() => OBJECT,
        _ => &["*/*"],
    }
}

fn produces(of: Produces) -> Vec<&'static str> {
    match of {
        Produces::Object => OBJECT.to_vec(),
        Produces::List => [OBJECT, STREAM].concat(),
        Produces::Log => [&["text/plain"], OBJECT].concat(),
        Produces::Anything => vec!["*/*"],
        Produces::Json => vec!["application/json"],
        Produces::Keys => vec!["application/jwk-set+json"],
    }
}

fn content(types: &[&str], schema: &Value) -> Value {
    let map: Map<String, Value> = types
        .iter()
        .map(|t| ((*t).to_owned(), json!({"schema": schema})))
        .collect();
    Value::Object(map)
}

/// All parameters of an operation; in v2 the body is one of them.
fn parameters(o: &Operation, dialect: Dialect) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    if dialect == Dialect::V2
        && let Some(body) = o.body
    {
        let schema = dialect.reference(body);
        all.push(if o.method == "delete" {
            json!({"in": "body", "name": "body", "schema": schema})
        } else {
            json!({"in": "body", "name": "body", "required": true, "schema": schema})
        });
    }
    all.extend(o.parameters.iter().map(|name| parameter(name, dialect)));
    all
}

fn parameter(name: &str, dialect: Dialect) -> Value {
    let in_path = matches!(name, "name" | "namespace" | PATH_IN_PATH);
    let shown = if name == PATH_IN_PATH { "path" } else { name };
    let kind = match name {
        "allowWatchBookmarks"
        | "follow"
        | "force"
        | "insecureSkipTLSVerifyBackend"
        | "ignoreStoreReadErrorWithClusterBreakingPotential"
        | "orphanDependents"
        | "previous"
        | "sendInitialEvents"
        | "stderr"
        | "stdin"
        | "stdout"
        | "timestamps"
        | "tty"
        | "watch" => "boolean",
        "gracePeriodSeconds" | "limit" | "limitBytes" | "ports" | "sinceSeconds" | "tailLines"
        | "timeoutSeconds" => "integer",
        _ => "string",
    };
    let mut parameter = Map::new();
    parameter.insert("in".into(), json!(if in_path { "path" } else { "query" }));
    parameter.insert("name".into(), json!(shown));
    if in_path {
        parameter.insert("required".into(), json!(true));
    }
    match dialect {
        Dialect::V3 => {
            parameter.insert("schema".into(), json!({"type": kind, "uniqueItems": true}));
        }
        Dialect::V2 => {
            parameter.insert("type".into(), json!(kind));
            parameter.insert("uniqueItems".into(), json!(true));
        }
    }
    Value::Object(parameter)
}
