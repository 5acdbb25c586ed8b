//! Paths and their operations, as upstream's installer makes them of a resource and its subresources
//! (`apiserver/pkg/endpoints/installer.go`).

use proto::catalogue::{Resource, ResourceFlags, Subresource};

use super::schema::PATCH;

/// What a request carries or an answer holds: the name of a definition.
pub(super) type Definition = &'static str;

const DELETE_OPTIONS: Definition = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
const STATUS: Definition = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
const WATCH_EVENT: Definition = "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent";

/// Types that answers can have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Produces {
    Object,
    /// An object, or a stream of its changes.
    List,
    /// Text, or what upstream would make of it.
    Log,
    /// Whatever the other end sends.
    Anything,
    /// JSON alone, or the keys of tokens in it.
    Json,
    Keys,
}

pub(super) struct Operation {
    pub method: &'static str,
    pub id: String,
    /// `x-kubernetes-action`, empty for discovery.
    pub action: &'static str,
    /// Group, version, kind; none for discovery.
    pub kind: Option<(&'static str, &'static str, &'static str)>,
    pub parameters: Vec<&'static str>,
    pub body: Option<Definition>,
    pub codes: &'static [u16],
    /// None is a string.
    pub answer: Option<Definition>,
    pub produces: Produces,
}

pub(super) struct Path {
    pub path: String,
    pub tag: String,
    pub operations: Vec<Operation>,
}

/// How a path parameter `path` is told from the query's.
pub(super) const PATH_IN_PATH: &str = "{path}";

const LIST: &[&str] = &[
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "shardSelector",
    "timeoutSeconds",
    "watch",
];
const WRITE: &[&str] = &["dryRun", "fieldManager", "fieldValidation"];
const DELETE: &[&str] = &[
    "dryRun",
    "gracePeriodSeconds",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "orphanDependents",
    "propagationPolicy",
];
/// HTTP methods that are proxied.
const METHODS: [&str; 7] = ["delete", "get", "head", "options", "patch", "post", "put"];

/// `CoreV1`, `RbacAuthorizationV1`: the part of operation ids that tells group versions apart.
pub(super) fn id_of(group: &str, version: &str) -> String {
    format!("{}{}", camel(group), capital(version))
}

/// `rbac.authorization.k8s.io` is `RbacAuthorization`, the core group `Core`.
pub(super) fn camel(group: &str) -> String {
    if group.is_empty() {
        return "Core".into();
    }
    group
        .trim_end_matches(".k8s.io")
        .split('.')
        .map(capital)
        .collect()
}

pub(super) fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters
        .next()
        .map(|first| first.to_ascii_uppercase().to_string() + letters.as_str())
        .unwrap_or_default()
}

/// The tag of a group, and of a version of it.
pub(super) fn tag(group: &str, version: Option<&str>) -> String {
    let mut name = camel(group);
    name[..1].make_ascii_lowercase();
    match version {
        Some(version) => format!("{name}_{version}"),
        None => name,
    }
}

/// `/api/v1` or `/apis/<group>/<version>`.
pub(super) fn root(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("/api/{version}")
    } else {
        format!("/apis/{group}/{version}")
    }
}

/// The path of a discovery document.
pub(super) fn discovery(path: String, tag: String, id: String, answer: Definition) -> Path {
    let operation = Operation {
        method: "get",
        id,
        action: "",
        kind: None,
        parameters: vec![],
        body: None,
        codes: &[200],
        answer: Some(answer),
        produces: Produces::Object,
    };
    Path {
        path,
        tag,
        operations: vec![operation],
    }
}

/// A path that is about the server, with the document that it belongs to.
pub(super) fn of_server(
    name: &str,
    tag: &str,
    id: &str,
    answer: Option<Definition>,
    produces: Produces,
) -> Path {
    let path = discovery(format!("/{name}/"), tag.to_owned(), id.to_owned(), "");
    let change = |operation| Operation {
        answer,
        produces,
        ..operation
    };
    Path {
        operations: path.operations.into_iter().map(change).collect(),
        ..path
    }
}

/// Every path of a resource.
pub(super) fn of_resource(r: &'static Resource) -> Vec<Path> {
    let at = root(r.group, r.version);
    let scope = if r.namespaced {
        "/namespaces/{namespace}"
    } else {
        ""
    };
    let make = Make {
        r,
        namespaced: r.namespaced,
    };
    let all = Make {
        r,
        namespaced: false,
    };
    let collection = format!("{at}{scope}/{}", r.name);
    let item = format!("{collection}/{{name}}");
    let mut paths = vec![(collection, make.collection()), (item.clone(), make.item())];
    if r.namespaced {
        let operations = all.list("ForAllNamespaces");
        paths.push((format!("{at}/{}", r.name), operations));
    }
    if r.can("watch") {
        let below = format!("{at}/watch{scope}/{}", r.name);
        paths.push((below.clone(), vec![make.watch("watchlist", "List", &[])]));
        if r.can("get") {
            paths.push((
                format!("{below}/{{name}}"),
                vec![make.watch("watch", "", &["name"])],
            ));
        }
        if r.namespaced {
            let operation = all.watch("watchlist", "ListForAllNamespaces", &[]);
            paths.push((format!("{at}/watch/{}", r.name), vec![operation]));
        }
    }
    for s in r.subresources {
        let path = format!("{item}/{}", s.name);
        if s.name == "proxy" {
            let below = make.connect(s, &METHODS, true);
            paths.push((format!("{path}/{{path}}"), below));
        }
        paths.push((path, make.subresource(s)));
    }
    paths
        .into_iter()
        .filter(|(_, operations)| !operations.is_empty())
        .map(|(path, operations)| Path {
            path,
            tag: tag(r.group, Some(r.version)),
            operations,
        })
        .collect()
}

/// Makes the operations of a resource, in a namespace or not.
#[derive(Clone, Copy)]
struct Make {
    r: &'static Resource,
    namespaced: bool,
}

impl Make {
    fn id(self, verb: &str, behind: &str) -> String {
        let namespaced = if self.namespaced { "Namespaced" } else { "" };
        let version = id_of(self.r.group, self.r.version);
        format!("{verb}{version}{namespaced}{}{behind}", self.r.kind)
    }

    fn parameters(self, lists: &[&[&'static str]]) -> Vec<&'static str> {
        let mut all = vec!["pretty"];
        if self.namespaced {
            all.push("namespace");
        }
        all.extend(lists.iter().flat_map(|l| l.iter()));
        all.sort_unstable();
        all.dedup();
        all
    }

    fn plain(self, method: &'static str, verb: &str, action: &'static str) -> Operation {
        Operation {
            method,
            id: self.id(verb, ""),
            action,
            kind: Some((self.r.group, self.r.version, self.r.kind)),
            parameters: self.parameters(&[]),
            body: None,
            codes: &[200],
            answer: Some(self.r.message.openapi()),
            produces: Produces::Object,
        }
    }

    fn list(self, behind: &str) -> Vec<Operation> {
        let Some(list) = self.r.list.filter(|_| self.r.can("list")) else {
            return vec![];
        };
        vec![Operation {
            id: self.id("list", behind),
            parameters: self.parameters(&[LIST]),
            answer: Some(list.openapi()),
            produces: Produces::List,
            ..self.plain("get", "list", "list")
        }]
    }

    fn watch(self, action: &'static str, behind: &str, name: &[&'static str]) -> Operation {
        Operation {
            id: self.id("watch", behind),
            parameters: self.parameters(&[LIST, name]),
            answer: Some(WATCH_EVENT),
            produces: Produces::List,
            ..self.plain("get", "watch", action)
        }
    }

    fn collection(self) -> Vec<Operation> {
        let mut operations = self.list("");
        if self.r.can("create") {
            operations.push(self.create(self.plain("post", "create", "post"), &[]));
        }
        if self.r.can("deletecollection") {
            let selecting: Vec<&'static str> = LIST
                .iter()
                .copied()
                .filter(|p| !matches!(*p, "allowWatchBookmarks" | "watch"))
                .collect();
            let version = id_of(self.r.group, self.r.version);
            let namespaced = if self.namespaced { "Namespaced" } else { "" };
            operations.push(Operation {
                id: format!("delete{version}Collection{namespaced}{}", self.r.kind),
                parameters: self.parameters(&[&selecting, DELETE]),
                body: Some(DELETE_OPTIONS),
                answer: Some(STATUS),
                ..self.plain("delete", "delete", "deletecollection")
            });
        }
        operations
    }

    fn create(self, plain: Operation, name: &[&'static str]) -> Operation {
        Operation {
            parameters: self.parameters(&[WRITE, name]),
            body: plain.answer,
            codes: &[200, 201, 202],
            ..plain
        }
    }

    fn item(self) -> Vec<Operation> {
        let mut operations =
            self.reads_and_writes(self.r.verbs, "", |make, method, verb, action| {
                make.plain(method, verb, action)
            });
        if self.r.can("delete") {
            // A namespace is returned, but by code of its own, of which upstream's installer knows nothing.
            let returned = self.r.has(ResourceFlags::RETURN_DELETED) && self.r.name != "namespaces";
            let plain = self.plain("delete", "delete", "delete");
            operations.push(Operation {
                parameters: self.parameters(&[DELETE, &["name"]]),
                body: Some(DELETE_OPTIONS),
                codes: &[200, 202],
                answer: if returned { plain.answer } else { Some(STATUS) },
                ..plain
            });
        }
        operations
    }

    /// get, put and patch of one object or a part of it.
    fn reads_and_writes(
        self,
        verbs: &[&str],
        behind: &str,
        plain: impl Fn(Self, &'static str, &str, &'static str) -> Operation,
    ) -> Vec<Operation> {
        let mut operations = Vec::new();
        if verbs.contains(&"get") {
            operations.push(Operation {
                id: self.id("read", behind),
                parameters: self.parameters(&[&["name"]]),
                ..plain(self, "get", "read", "get")
            });
        }
        if verbs.contains(&"update") {
            let made = plain(self, "put", "replace", "put");
            operations.push(Operation {
                id: self.id("replace", behind),
                parameters: self.parameters(&[WRITE, &["name"]]),
                body: made.answer,
                codes: &[200, 201],
                ..made
            });
        }
        if verbs.contains(&"patch") {
            operations.push(Operation {
                id: self.id("patch", behind),
                parameters: self.parameters(&[WRITE, &["force", "name"]]),
                body: Some(PATCH),
                codes: &[200, 201],
                ..plain(self, "patch", "patch", "patch")
            });
        }
        operations
    }

    fn subresource(self, s: &'static Subresource) -> Vec<Operation> {
        match s.name {
            "proxy" => return self.connect(s, &METHODS, false),
            "exec" | "attach" | "portforward" => return self.connect(s, &["get", "post"], false),
            _ => {}
        }
        let behind = capital(s.name);
        let plain = |make: Self, method, verb: &str, action| Operation {
            kind: Some((s.group, s.version, s.kind)),
            answer: s.message.map(proto::MsgId::openapi),
            ..make.plain(method, verb, action)
        };
        if s.name == "log" {
            let options = connect_parameters(s.name);
            return vec![Operation {
                id: self.id("read", &behind),
                parameters: self.parameters(&[options, &["name"]]),
                answer: None,
                produces: Produces::Log,
                ..plain(self, "get", "read", "get")
            }];
        }
        let mut operations = self.reads_and_writes(s.verbs, &behind, plain);
        if s.verbs.contains(&"create") {
            let made = Operation {
                id: self.id("create", &behind),
                ..plain(self, "post", "create", "post")
            };
            operations.push(self.create(made, &["name"]));
        }
        operations
    }

    /// Operations that hand a connection over.
    fn connect(
        self,
        s: &'static Subresource,
        methods: &[&'static str],
        with_path: bool,
    ) -> Vec<Operation> {
        let behind = capital(s.name) + if with_path { "WithPath" } else { "" };
        let mut parameters = self.parameters(&[connect_parameters(s.name), &["name"]]);
        parameters.retain(|p| *p != "pretty");
        if with_path {
            // By name and where they are.
            let at = parameters.iter().position(|p| *p == "path");
            parameters.insert(at.unwrap_or(parameters.len()), PATH_IN_PATH);
        }
        let version = id_of(self.r.group, self.r.version);
        let namespaced = if self.namespaced { "Namespaced" } else { "" };
        let operation = |method: &'static str| Operation {
            method,
            id: format!(
                "connect{version}{}{namespaced}{}{behind}",
                capital(method),
                self.r.kind
            ),
            action: "connect",
            kind: Some((s.group, s.version, s.kind)),
            parameters: parameters.clone(),
            body: None,
            codes: &[200],
            answer: None,
            produces: Produces::Anything,
        };
        methods.iter().copied().map(operation).collect()
    }
}

/// The options of a subresource that is reached through the query.
fn connect_parameters(subresource: &str) -> &'static [&'static str] {
    match subresource {
        "exec" => &["command", "container", "stderr", "stdin", "stdout", "tty"],
        "attach" => &["container", "stderr", "stdin", "stdout", "tty"],
        "portforward" => &["ports"],
        "proxy" => &["path"],
        "log" => &[
            "container",
            "follow",
            "insecureSkipTLSVerifyBackend",
            "limitBytes",
            "previous",
            "sinceSeconds",
            "stream",
            "tailLines",
            "timestamps",
        ],
        _ => &[],
    }
}
