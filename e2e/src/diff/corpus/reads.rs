//! What every client finds in a new cluster: discovery, schemas, versions, health, and the objects that servers make themselves.

use super::super::case::{Body, Case, JSON, PROTOBUF, Phase, Step, YAML};
use super::super::resource::Resource;
use super::source::Source;
use super::target::area;

pub(super) const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const AGGREGATED_OLD: &str =
    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
const AGGREGATED_PROTOBUF: &str =
    "application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const PARTIAL_LIST_PROTOBUF: &str =
    "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
const OPENAPI_V2: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
const OPENAPI_V3: &str = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf";

/// Paths of which one answer says all.
const PLAIN: &[&str] = &[
    "/",
    "/version",
    "/healthz",
    "/livez",
    "/readyz",
    "/healthz?verbose",
    "/livez?verbose",
    "/readyz?verbose",
    "/healthz/etcd",
    "/healthz/ping",
    "/readyz/ping",
    "/readyz/informer-sync",
    "/readyz?exclude=etcd&verbose",
    "/livez/no-such-check",
    "/configz",
    "/logs",
    "/logs/",
    "/debug/pprof",
    "/debug/pprof/cmdline",
    "/debug/pprof/no-such-profile",
    "/debug/flags/v",
    "/debug/no-such-page",
    "/debug/api_priority_and_fairness/dump_priority_levels",
    "/.well-known/openid-configuration",
    "/openid/v1/jwks",
    "/index.html",
    "/swagger.json",
    "/swaggerapi",
    "/openapi",
    "/no-such-path",
    "/api/v2",
    "/apis/no.such.group",
    "/apis/apps/v2",
    "/apis/apps/v1beta1",
];

pub(super) fn cases(source: &Source) -> Vec<Case> {
    let mut all = vec![
        case(
            "plain paths",
            "paths",
            PLAIN.iter().map(|path| Step::get(*path, *path)).collect(),
        ),
        case("pages of the process", "pages", pages()),
        case("components", "v1 ComponentStatus", components()),
        case("discovery", "discovery", discovery(source)),
        case("OpenAPI", "openapi", openapi()),
        case("ETags", "etags", etags()),
    ];
    for version in source.schemas.keys() {
        let path = format!("/openapi/v3{}", Resource::root(version));
        let steps = vec![Step::get(path, version.clone()).accept(JSON)];
        all.push(case(&format!("schemas of {version}"), "openapi", steps));
    }
    for resource in source.whole().filter(|of| of.can("list")) {
        let path = resource.path(None);
        let forms = [JSON, TABLE, PROTOBUF];
        let list = |accept: &str| Step::get(&path, format!("list {accept}")).accept(accept);
        let name = format!(
            "{} {}: what a new cluster has",
            resource.version, resource.name
        );
        all.push(case(&name, &area(resource), forms.map(list).to_vec()));
    }
    all
}

/// What a process says of itself is its own; which forms of it there are, and what a refusal looks like, is not.
fn pages() -> Vec<Step> {
    let mut all = Vec::new();
    for (path, kind) in [("/statusz", "Statusz"), ("/flagz", "Flagz")] {
        let whole = |media: &str, version: &str| {
            format!("application/{media};v={version};g=config.k8s.io;as={kind}")
        };
        let get = |form: &str| Step::get(path, format!("{path} {form}")).accept(form);
        all.push(Step::get(path, path).bodiless());
        for form in [
            whole("json", "v1beta1"),
            whole("yaml", "v1beta1"),
            whole("json", "v1alpha1"),
        ] {
            all.push(get(&form).bodiless());
        }
        all.push(get(&whole("json", "v1")));
        all.push(get(JSON));
        all.push(get("text/html"));
        all.push(Step::new("POST", path, format!("POST {path}")).bodiless());
    }
    let scores = "/metrics/slis";
    all.push(Step::get(scores, scores).bodiless());
    for method in ["POST", "HEAD", "DELETE"] {
        all.push(Step::new(method, scores, format!("{method} {scores}")).bodiless());
    }
    let verbosity = "/debug/flags/v";
    for said in ["2", "two", ""] {
        let step = Step::new("PUT", verbosity, format!("PUT {said:?} {verbosity}"));
        all.push(step.with("text/plain", Body::Text(said.to_owned())));
    }
    all.push(Step::get("/debug/pprof/", "/debug/pprof/").bodiless());
    all.into_iter().map(Step::cleanup).collect()
}

/// They are made for each answer, so that there is none to begin with.
fn components() -> Vec<Step> {
    const ALL: &str = "/api/v1/componentstatuses";
    let get = |path: &str, form: &str| Step::get(path, format!("{path} {form}")).accept(form);
    let mut all = Vec::new();
    let partial =
        |kind: &str, version: &str| format!("application/json;as={kind};v={version};g=meta.k8s.io");
    for name in ["etcd-0", "scheduler", "no-such-component"] {
        let one = format!("{ALL}/{name}");
        let metadata = partial("PartialObjectMetadata", "v1");
        for form in [JSON, YAML, PROTOBUF, TABLE, &metadata] {
            all.push(get(&one, form));
        }
    }
    let metadata = [
        partial("PartialObjectMetadataList", "v1"),
        partial("PartialObjectMetadataList", "v1beta1"),
        partial("PartialObjectMetadata", "v1"),
        PARTIAL_LIST_PROTOBUF.to_owned(),
        "application/yaml".to_owned(),
    ];
    all.extend(metadata.iter().map(|form| get(ALL, form)));
    for query in [
        "fieldSelector=metadata.name%3Detcd-0",
        "fieldSelector=metadata.namespace%3Da",
        "fieldSelector=spec.a%3Db",
        "labelSelector=a",
        "labelSelector=!a",
        "labelSelector=(",
        "watch=true",
        "limit=1",
        "limit=x",
        "resourceVersion=1",
        "includeObject=Object",
    ] {
        let path = format!("{ALL}?{query}");
        all.push(get(&path, JSON));
        all.push(get(&path, TABLE));
    }
    let none = format!("{ALL}?fieldSelector=metadata.name%3Dnone");
    all.extend([JSON, TABLE, PROTOBUF].map(|form| get(&none, form)));
    all.push(get(&none, &partial("PartialObjectMetadataList", "v1")));
    all
}

fn case(name: &str, area: &str, steps: Vec<Step>) -> Case {
    Case {
        name: name.to_owned(),
        area: area.to_owned(),
        phase: Phase::First,
        steps,
        ..Case::default()
    }
}

fn discovery(source: &Source) -> Vec<Step> {
    let forms = [JSON, YAML, PROTOBUF, "*/*"];
    let mut paths = vec!["/api".to_owned(), "/apis".to_owned()];
    for version in source.schemas.keys() {
        paths.push(Resource::root(version));
        paths.extend(
            version
                .split_once('/')
                .map(|(group, _)| format!("/apis/{group}")),
        );
    }
    let get = |path: &String, form: &str| Step::get(path, format!("{path} {form}")).accept(form);
    let mut all: Vec<Step> = paths
        .iter()
        .flat_map(|path| forms.map(|form| get(path, form)))
        .collect();
    for path in &paths[..2] {
        let aggregated = [AGGREGATED, AGGREGATED_OLD, AGGREGATED_PROTOBUF];
        all.extend(aggregated.map(|form| get(path, form)));
        let either = format!("{AGGREGATED},{JSON}");
        all.push(get(path, &either));
        all.push(get(path, "text/html"));
    }
    all
}

fn openapi() -> Vec<Step> {
    let get = |path: &str, form: &str| Step::get(path, format!("{path} {form}")).accept(form);
    let zipped = get("/openapi/v2", JSON).header("accept-encoding", "gzip");
    vec![
        get("/openapi/v2", JSON),
        get("/openapi/v2", "*/*"),
        // Texts for people cannot be told from others there; `apiserver/src/openapi` tests that it says what the JSON says.
        get("/openapi/v2", OPENAPI_V2).bodiless(),
        get("/openapi/v2", "text/html"),
        zipped,
        get("/openapi/v3", JSON),
        get("/openapi/v3", "*/*"),
        get("/openapi/v3/", JSON),
        get("/openapi/v3/apis/no.such.group/v1", JSON),
        get("/openapi/v3/version", JSON),
        get("/openapi/v3/api", JSON),
        get("/openapi/v3/apis", JSON),
        get("/openapi/v3/apis/apps", JSON),
        get("/openapi/v3/apis/apps/v1", OPENAPI_V3).bodiless(),
        get("/openapi/v3/apis/apps/v1?hash=no-such-hash", JSON),
    ]
}

/// A document is not sent again to who has it; one under the address of its hash may be kept for ever.
fn etags() -> Vec<Step> {
    let mut all = Vec::new();
    let documents = [
        ("/apis", AGGREGATED),
        ("/api", AGGREGATED),
        ("/openapi/v2", JSON),
        ("/openapi/v3", JSON),
        ("/openapi/v3/apis/apps/v1", JSON),
    ];
    for (index, (path, form)) in documents.into_iter().enumerate() {
        let label = format!("document{index}");
        let tag = format!("${{{label}#etag}}");
        all.push(Step::get(path, path).accept(form).label(&label).bodiless());
        let again = |tag: String, about: &str| {
            Step::get(path, format!("{path}: {about}"))
                .accept(form)
                .header("if-none-match", tag)
                .bodiless()
        };
        all.push(again(tag, "If-None-Match with its ETag"));
        all.push(again("\"other\"".to_owned(), "If-None-Match with another"));
        all.push(again("*".to_owned(), "If-None-Match: *"));
    }
    let hashed = "${document3.paths.apis/apps/v1.serverRelativeURL}";
    all.push(Step::get(hashed, "by its hash").accept(JSON).bodiless());
    all
}
