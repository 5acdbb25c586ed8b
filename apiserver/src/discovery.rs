//! Discovery: which groups, versions and resources there are.
//!
//! The plain documents (`/api`, `/apis`, `/apis/<group>[/<version>]`) and the aggregated ones are made
//! once at start, from the registry and the reviews. Clients cache the aggregated ones by their ETag.

use std::collections::HashMap;

use base64::Engine;
use component::features::Features;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, VARY};
use http::{Method, Response, StatusCode};
use proto::catalogue::{self, Resource, Subresource, group_version, messages, names as n};
use proto::{MsgId, Value};
use resources::negotiate::{self, Encoding, Media, Offers};
use resources::status::Failure;
use sha2::{Digest, Sha256};

use crate::body::{self, Body};
use crate::chain::Exchange;
use crate::dispatch::router;
use crate::registry::served::rank;
use crate::render;

/// Groups in the order in which upstream lists them: by the priorities of its API services.
const ORDER: &[&str] = &[
    "",
    "apiregistration.k8s.io",
    "apps",
    "events.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "networking.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "storage.k8s.io",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "scheduling.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "discovery.k8s.io",
    "resource.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    "storagemigration.k8s.io",
    "lifecycle.k8s.io",
];

/// A document of one path.
struct Document {
    kind: &'static str,
    message: MsgId,
    value: Value,
}

/// What `/api` or `/apis` says to who takes all in one, and its ETag.
pub struct Aggregated {
    document: Document,
    etag: HeaderValue,
}

/// All documents of a server.
pub struct Documents {
    plain: HashMap<String, Document>,
    /// `/api` and `/apis`.
    aggregated: HashMap<&'static str, Aggregated>,
}

/// A group with its versions, best first, and their resources.
struct Group {
    name: &'static str,
    versions: Vec<(&'static str, Vec<&'static Resource>)>,
}

impl Documents {
    /// Of everything that `served` lets through, with the subresources that `parts` does.
    pub fn new(
        served: impl Fn(&Resource) -> bool,
        parts: impl Fn(&Resource, &str) -> bool,
        features: &Features,
    ) -> Self {
        let groups = groups(served);
        let mut plain = HashMap::new();
        for group in &groups {
            for (version, resources) in &group.versions {
                let at = group_version(group.name, version);
                let path = if group.name.is_empty() {
                    format!("/api/{at}")
                } else {
                    format!("/apis/{at}")
                };
                plain.insert(path, resource_list(&at, resources, &parts, features));
            }
            if !group.name.is_empty() {
                let document = Document {
                    kind: "APIGroup",
                    message: messages::meta_v1::API_GROUP,
                    value: group_entry(group),
                };
                plain.insert(format!("/apis/{}", group.name), document);
            }
        }
        let mut list = Value::object();
        let named: Vec<Value> = groups
            .iter()
            .filter(|g| !g.name.is_empty())
            .map(group_entry)
            .collect();
        list.set(&[n::GROUPS], named);
        plain.insert(
            "/apis".into(),
            Document {
                kind: "APIGroupList",
                message: messages::meta_v1::API_GROUP_LIST,
                value: list,
            },
        );
        let (core, others): (Vec<&Group>, Vec<&Group>) =
            groups.iter().partition(|g| g.name.is_empty());
        let aggregated =
            [("/api", core), ("/apis", others)].map(|(path, of)| (path, aggregate(&of, &parts)));
        Self {
            plain,
            aggregated: aggregated.into(),
        }
    }
}

impl Documents {
    /// The paths of all documents.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        let own = self.plain.keys().map(String::as_str);
        own.chain(self.aggregated.keys().copied())
    }

    /// What `/apis` says of this server and others, who make their list of this one's.
    pub fn merged(&self, with: impl FnOnce(&[Value]) -> Vec<Value>) -> Aggregated {
        let own = self.aggregated.get("/apis");
        let own = own.and_then(|own| own.document.value.get(n::ITEMS));
        sealed(with(own.and_then(Value::as_list).unwrap_or_default()))
    }

    /// Whether anything of a group is served.
    #[must_use]
    pub fn has_group(&self, group: &str) -> bool {
        group.is_empty() || self.plain.contains_key(&format!("/apis/{group}"))
    }
}

fn groups(served: impl Fn(&Resource) -> bool) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for resource in catalogue::resources().iter().filter(|r| served(r)) {
        let at = groups
            .iter()
            .position(|g| g.name == resource.group)
            .unwrap_or_else(|| {
                groups.push(Group {
                    name: resource.group,
                    versions: Vec::new(),
                });
                groups.len() - 1
            });
        let versions = &mut groups[at].versions;
        match versions.iter_mut().find(|(v, _)| *v == resource.version) {
            Some((_, resources)) => resources.push(resource),
            None => versions.push((resource.version, vec![resource])),
        }
    }
    for group in &mut groups {
        group.versions.sort_by_key(|v| std::cmp::Reverse(rank(v.0)));
    }
    groups.sort_by_key(|g| {
        ORDER
            .iter()
            .position(|o| *o == g.name)
            .unwrap_or(ORDER.len())
    });
    groups
}

fn group_entry(group: &Group) -> Value {
    let version = |v: &str| {
        let mut entry = Value::object();
        entry.set(&[n::GROUP_VERSION], group_version(group.name, v));
        entry.set(&[n::VERSION], v);
        entry
    };
    let mut entry = Value::object();
    entry.set(&[n::NAME], group.name);
    entry.set(
        &[n::VERSIONS],
        group
            .versions
            .iter()
            .map(|(v, _)| version(v))
            .collect::<Vec<_>>(),
    );
    if let Some((best, _)) = group.versions.first() {
        entry.set(&[n::PREFERRED_VERSION], version(best));
    }
    entry
}

/// Which subresources there are.
type Parts<'a> = &'a dyn Fn(&Resource, &str) -> bool;

fn resource_list(
    at: &str,
    resources: &[&'static Resource],
    parts: Parts<'_>,
    features: &Features,
) -> Document {
    let least = features.version().min_compatibility;
    let hashes = features.enabled("StorageVersionHash");
    let mut entries: Vec<(String, Value)> = Vec::new();
    for r in resources {
        let mut entry = Value::object();
        entry.set(&[n::NAME], r.name);
        entry.set(&[n::SINGULAR_NAME], r.singular);
        entry.set(&[n::NAMESPACED], r.namespaced);
        entry.set(&[n::KIND], r.kind);
        entry.set(&[n::VERBS], strings(r.verbs));
        set_list(&mut entry, n::SHORT_NAMES, r.short_names);
        set_list(&mut entry, n::CATEGORIES, r.categories);
        if let Some(storage) = r.storage.as_ref().filter(|_| hashes) {
            entry.set(
                &[n::STORAGE_VERSION_HASH],
                storage_version_hash(storage.group, storage.beside(least).0, r.kind),
            );
        }
        entries.push((r.name.to_owned(), entry));
        for s in r.subresources.iter().filter(|s| parts(r, s.name)) {
            let name = format!("{}/{}", r.name, s.name);
            entries.push((name.clone(), subresource(r, s, &name)));
        }
    }
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    let mut value = Value::object();
    value.set(&[n::GROUP_VERSION], at);
    value.set(
        &[n::RESOURCES],
        entries.into_iter().map(|(_, v)| v).collect::<Vec<_>>(),
    );
    Document {
        kind: "APIResourceList",
        message: messages::meta_v1::API_RESOURCE_LIST,
        value,
    }
}

fn subresource(r: &Resource, s: &Subresource, name: &str) -> Value {
    let mut entry = Value::object();
    entry.set(&[n::NAME], name);
    entry.set(&[n::SINGULAR_NAME], "");
    entry.set(&[n::NAMESPACED], r.namespaced);
    entry.set(&[n::KIND], s.kind);
    entry.set(&[n::VERBS], strings(s.verbs));
    // Only a body of another group version is named.
    if (s.group, s.version) != (r.group, r.version) {
        entry.set(&[n::GROUP], s.group);
        entry.set(&[n::VERSION], s.version);
    }
    entry
}

/// Upstream's `StorageVersionHash`: the first eight bytes of a digest.
fn storage_version_hash(group: &str, version: &str, kind: &str) -> String {
    let digest = Sha256::digest(format!("{group}/{version}/{kind}").as_bytes());
    base64::engine::general_purpose::STANDARD.encode(&digest[..8])
}

fn strings(list: &[&str]) -> Vec<Value> {
    list.iter().map(|s| Value::from(*s)).collect()
}

fn set_list(entry: &mut Value, name: proto::NameId, list: &[&str]) {
    if !list.is_empty() {
        entry.set(&[name], strings(list));
    }
}

fn aggregate(groups: &[&Group], parts: Parts<'_>) -> Aggregated {
    sealed(groups.iter().map(|g| aggregated_group(g, parts)).collect())
}

fn sealed(items: Vec<Value>) -> Aggregated {
    let mut value = Value::object();
    value.set(&[n::METADATA], Value::object());
    value.set(&[n::ITEMS], items);
    let message = messages::apidiscovery_v2::API_GROUP_DISCOVERY_LIST;
    let mut json = Vec::new();
    proto::codec::json::encode(&value, message, &mut json);
    let hash: String = Sha256::digest(&json)
        .iter()
        .map(|b| format!("{b:02X}"))
        .collect();
    let etag =
        HeaderValue::from_str(&format!("\"{hash}\"")).expect("hexadecimal digits are header text");
    Aggregated {
        document: Document {
            kind: "APIGroupDiscoveryList",
            message,
            value,
        },
        etag,
    }
}

fn aggregated_group(group: &Group, parts: Parts<'_>) -> Value {
    let mut entry = Value::object();
    entry.set(&[n::METADATA], Value::object());
    if !group.name.is_empty() {
        entry.set(&[n::METADATA, n::NAME], group.name);
    }
    let versions: Vec<Value> = group
        .versions
        .iter()
        .map(|(version, resources)| {
            let mut v = Value::object();
            v.set(&[n::VERSION], *version);
            v.set(
                &[n::RESOURCES],
                resources
                    .iter()
                    .map(|r| aggregated_resource(r, parts))
                    .collect::<Vec<_>>(),
            );
            v.set(&[n::FRESHNESS], "Current");
            v
        })
        .collect();
    entry.set(&[n::VERSIONS], versions);
    entry
}

/// An empty group and version stand for those of the resource.
fn response_kind(group: &str, version: &str, kind: &str) -> Value {
    let mut v = Value::object();
    v.set(&[n::GROUP], group);
    v.set(&[n::VERSION], version);
    v.set(&[n::KIND], kind);
    v
}

fn aggregated_resource(r: &Resource, parts: Parts<'_>) -> Value {
    let mut entry = Value::object();
    entry.set(&[n::RESOURCE], r.name);
    entry.set(&[n::RESPONSE_KIND], response_kind("", "", r.kind));
    entry.set(
        &[n::SCOPE],
        if r.namespaced {
            "Namespaced"
        } else {
            "Cluster"
        },
    );
    entry.set(&[n::SINGULAR_RESOURCE], r.singular);
    entry.set(&[n::VERBS], strings(r.verbs));
    set_list(&mut entry, n::SHORT_NAMES, r.short_names);
    set_list(&mut entry, n::CATEGORIES, r.categories);
    let below: Vec<Value> = r
        .subresources
        .iter()
        .filter(|s| parts(r, s.name))
        .map(|s| {
            let own = (s.group, s.version) == (r.group, r.version);
            let mut v = Value::object();
            v.set(&[n::SUBRESOURCE], s.name);
            let kind = if own {
                response_kind("", "", s.kind)
            } else {
                response_kind(s.group, s.version, s.kind)
            };
            v.set(&[n::RESPONSE_KIND], kind);
            v.set(&[n::VERBS], strings(s.verbs));
            v
        })
        .collect();
    if !below.is_empty() {
        entry.set(&[n::SUBRESOURCES], below);
    }
    entry
}

/// The answer, if the path is one of discovery.
pub fn serve(x: &Exchange, path: &str) -> Option<Response<Body>> {
    let documents = &x.server.discovery;
    if let Some(own) = documents.aggregated.get(path)
        && let Some(wanted) = wants_aggregated(x)
    {
        // There is one core group, which is not told of peers.
        let all = match &x.server.peers {
            Some(peers) if path == "/apis" && !wanted.alone => peers.discovery(),
            _ => None,
        };
        let told = all.as_deref().unwrap_or(own);
        return Some(aggregated(x, &told.document, &told.etag, wanted.encoding));
    }
    let versions;
    let document = match path {
        "/api" => {
            versions = api_versions(x);
            &versions
        }
        _ => documents.plain.get(path)?,
    };
    // The list of groups alone has a handler that nothing leads to but its path.
    if path != "/apis" {
        if x.method != Method::GET {
            return Some(x.failed(&Failure::no_such_method()));
        }
        if let Err(failure) = router::accept(&x.headers, router::OBJECT) {
            return Some(x.failed(&failure));
        }
    }
    let media = match negotiate::output(&x.headers, &x.query, Offers::Plain) {
        Ok(media) => media,
        Err(failure) => return Some(body::failure(&failure, Media::JSON)),
    };
    // What is said of the core group is older than versions of it, and says none.
    let version = if path.starts_with("/apis") { "v1" } else { "" };
    let bytes = render::encode(
        &document.value,
        document.message,
        document.kind,
        version,
        media,
    );
    Some(body::answer(200, media.content_type(), body::full(bytes)))
}

/// `/api` names the address that the client should use: the one it used.
fn api_versions(x: &Exchange) -> Document {
    let mut value = Value::object();
    value.set(&[n::VERSIONS], strings(&["v1"]));
    let mut address = Value::object();
    address.set(&[n::CLIENT_CIDR], "0.0.0.0/0");
    let own = std::net::SocketAddr::new(x.server.config.advertise, x.server.config.listen.port());
    address.set(&[n::SERVER_ADDRESS], own.to_string());
    value.set(&[n::SERVER_ADDRESS_BY_CLIENT_CIDRS], vec![address]);
    Document {
        kind: "APIVersions",
        message: messages::meta_v1::API_VERSIONS,
        value,
    }
}

/// How a client takes the aggregated form.
struct Wanted {
    encoding: Encoding,
    /// Without what peers serve: `profile=nopeer`.
    alone: bool,
}

/// Whether the client takes the aggregated form, and how.
fn wants_aggregated(x: &Exchange) -> Option<Wanted> {
    let accept = x.headers.get(http::header::ACCEPT)?.to_str().ok()?;
    // The first alternative that is served decides; clients put the aggregated ones first.
    accept.split(',').map(str::trim).find_map(|clause| {
        let has = |param: &str| clause.split(';').skip(1).any(|p| p.trim() == param);
        let mime = clause.split(';').next().unwrap_or_default().trim();
        let asks = has("g=apidiscovery.k8s.io") && has("as=APIGroupDiscoveryList");
        let alone = has("profile=nopeer");
        let wanted = |encoding| Some(Some(Wanted { encoding, alone }));
        match mime {
            "application/json" if asks && has("v=v2") => wanted(Encoding::Json),
            "application/vnd.kubernetes.protobuf" if asks && has("v=v2") => {
                wanted(Encoding::Protobuf)
            }
            "application/json"
            | "application/yaml"
            | "application/vnd.kubernetes.protobuf"
            | "*/*"
                if !asks =>
            {
                Some(None)
            }
            _ => None,
        }
    })?
}

fn aggregated(
    x: &Exchange,
    document: &Document,
    etag: &HeaderValue,
    encoding: Encoding,
) -> Response<Body> {
    let known = x.headers.get(IF_NONE_MATCH).is_some_and(|v| v == etag);
    let mut response = if known {
        let mut response = Response::new(body::full(bytes::Bytes::new()));
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        let media = Media {
            encoding,
            ..Media::JSON
        };
        let bytes = render::encode(
            &document.value,
            document.message,
            document.kind,
            "apidiscovery.k8s.io/v2",
            media,
        );
        body::answer(200, media.content_type(), body::full(bytes))
    };
    let content_type = match encoding {
        Encoding::Protobuf => {
            "application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        }
        _ => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
    };
    let headers = response.headers_mut();
    if !known {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public"));
    headers.insert(ETAG, etag.clone());
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    response
}

#[cfg(test)]
mod tests;
