//! What a path about a resource is routed for: its methods, the bodies they take and the types they answer in.
//!
//! The rules are those by which upstream's installer registers handlers (`apiserver/pkg/endpoints/installer.go`) and by which
//! its router finds one (`emicklei/go-restful`, `jsr311.go` and `route.go`): nothing else has looked at the request before.

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, Method};
use proto::catalogue::{Resource, Subresource};
use resources::request::RequestInfo;
use resources::status::Failure;

/// Each verb of a collection, an object or a subresource with its method.
const OF_COLLECTIONS: &[(&str, &str)] = &[
    ("list", "GET"),
    ("create", "POST"),
    ("deletecollection", "DELETE"),
];
const OF_OBJECTS: &[(&str, &str)] = &[
    ("get", "GET"),
    ("update", "PUT"),
    ("patch", "PATCH"),
    ("delete", "DELETE"),
];
const OF_SUBRESOURCES: &[(&str, &str)] = &[
    ("get", "GET"),
    ("create", "POST"),
    ("update", "PUT"),
    ("patch", "PATCH"),
    ("delete", "DELETE"),
];
/// Of what is passed on to somebody else.
const PASSED_ON: &[&str] = &["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];

pub const OBJECT: &[&str] = &[
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
];
const LIST: &[&str] = &[
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
];
const LOG: &[&str] = &[
    "text/plain",
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
];
const ANYTHING: &[&str] = &["*/*"];
const PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

/// The handlers of one path.
struct Handlers {
    methods: Vec<&'static str>,
    /// What a GET of it answers with.
    produces: &'static [&'static str],
}

/// Refuses what no handler of the path is there for.
///
/// # Errors
/// 404, 405, 415 and 406 in the words of upstream's router.
pub fn check(
    resource: &Resource,
    info: &RequestInfo,
    method: &Method,
    headers: &HeaderMap,
) -> Result<(), Failure> {
    let handlers = handlers(resource, info);
    if handlers.methods.is_empty() {
        return Err(Failure::no_such_resource());
    }
    if !handlers.methods.contains(&method.as_str()) {
        return Err(Failure::no_such_method());
    }
    let passed_on = handlers.produces == ANYTHING;
    if method == Method::PATCH && !passed_on && !says(headers, &CONTENT_TYPE, PATCHES, "") {
        return Err(Failure::routed(415, "415: Unsupported Media Type"));
    }
    let produces = match *method {
        Method::GET => handlers.produces,
        _ if passed_on => ANYTHING,
        _ => OBJECT,
    };
    accept(headers, produces)
}

/// Refuses an answer that the client does not take.
///
/// # Errors
/// 406
pub fn accept(headers: &HeaderMap, produces: &[&str]) -> Result<(), Failure> {
    if says(headers, &ACCEPT, produces, "*/*") {
        return Ok(());
    }
    let produces = produces.join(", ");
    let why = format!("406: Not Acceptable\n\nAvailable representations: {produces}");
    Err(Failure::routed(406, why))
}

/// Whether a header names one of these types, without a look at parameters.
fn says(headers: &HeaderMap, name: &HeaderName, types: &[&str], absent: &str) -> bool {
    let said = headers.get(name).and_then(|value| value.to_str().ok());
    let said = said.filter(|said| !said.is_empty()).unwrap_or(absent);
    said.split(',').any(|clause| {
        let media = clause.split(';').next().unwrap_or_default();
        let media = media.trim_matches(' ');
        let fits = |one: &&str| **one == *media || **one == *"*/*";
        media == "*/*" && name == ACCEPT || types.iter().any(fits)
    })
}

fn handlers(resource: &Resource, info: &RequestInfo) -> Handlers {
    let none = Handlers {
        methods: Vec::new(),
        produces: OBJECT,
    };
    let Some(place) = Place::of(resource, info) else {
        return none;
    };
    let own = |verbs: &[(&str, &'static str)]| {
        let own = verbs.iter().filter(|(verb, _)| resource.can(verb));
        own.map(|(_, method)| *method).collect()
    };
    let is_lister = resource.can("list");
    let is_watched = resource.can("watch");
    let everywhere = place.namespaces == Namespaces::All;
    let (methods, produces) = match (place.watched, info.parts.as_slice()) {
        (true, [_]) if is_watched => (vec!["GET"], LIST),
        (true, [_, _]) if is_watched && !everywhere && resource.can("get") => (vec!["GET"], LIST),
        (true, _) => return none,
        (false, [_]) if everywhere && is_lister => (vec!["GET"], LIST),
        (false, _) if everywhere => return none,
        (false, [_]) => (own(OF_COLLECTIONS), LIST),
        (false, [_, _]) => (own(OF_OBJECTS), OBJECT),
        (false, [_, _, name, rest @ ..]) => match resource.subresource(name) {
            Some(sub) if rest.is_empty() || sub.name == "proxy" => of_subresource(sub),
            _ => return none,
        },
        _ => return none,
    };
    Handlers { methods, produces }
}

fn of_subresource(sub: &Subresource) -> (Vec<&'static str>, &'static [&'static str]) {
    let has = |(verb, _): &&(&str, &str)| sub.verbs.contains(verb);
    let methods = OF_SUBRESOURCES.iter().filter(has);
    let methods = methods.map(|(_, method)| *method).collect();
    match sub.name {
        "proxy" => (PASSED_ON.to_vec(), ANYTHING),
        "exec" | "attach" | "portforward" => (methods, ANYTHING),
        "log" => (methods, LOG),
        _ => (methods, OBJECT),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Namespaces {
    /// One that the path names, or none because the resource has none.
    Own,
    All,
}

/// Where in the API a path is.
struct Place {
    namespaces: Namespaces,
    /// Below `/watch/`, as it was before watches were lists.
    watched: bool,
}

impl Place {
    /// None for paths that are longer than a resource's, or have an empty part.
    fn of(resource: &Resource, info: &RequestInfo) -> Option<Self> {
        let path = info.path.trim_start_matches('/').trim_end_matches('/');
        let root = if resource.group.is_empty() { 2 } else { 3 };
        let parts: Vec<&str> = path.split('/').collect();
        let watched = parts.get(root) == Some(&"watch");
        let within = parts.len().checked_sub(root + usize::from(watched))?;
        let namespaces = match within.checked_sub(info.parts.len())? {
            0 if resource.namespaced => Namespaces::All,
            0 => Namespaces::Own,
            2 if resource.namespaced => Namespaces::Own,
            _ => return None,
        };
        // A namespace without a name is all of them.
        let namespace = root + usize::from(watched) + 1;
        let may_be_empty =
            |at| namespaces == Namespaces::Own && resource.namespaced && at == namespace;
        // What is behind a subresource is passed on as it is.
        let last = parts.len() - info.parts.len() + 2;
        let mut named = parts.iter().enumerate().take(last + 1);
        let whole = named.all(|(at, part)| !part.is_empty() || may_be_empty(at));
        let place = Self {
            namespaces,
            watched,
        };
        (whole && info.verb != "proxy").then_some(place)
    }
}

#[cfg(test)]
mod tests;
