//! Flow schemas: which requests belong together, and to which level they go.
//!
//! Read once when an object changes; matching compares strings and allocates nothing. Upstream:
//! `util/flowcontrol/rule.go`, `util/apihelpers`.

use proto::catalogue::names as n;
use proto::view::flowcontrol_v1 as v;
use proto::view::{Node, View};
use proto::{Value, meta};
use resources::request::RequestInfo;

use crate::auth::User;
use crate::auth::service_account;

/// What makes a flow of the requests of a schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Distinguisher {
    User,
    Namespace,
}

impl Distinguisher {
    #[must_use]
    pub(super) fn of<'a>(self, user: &'a User, info: &'a RequestInfo) -> &'a str {
        match self {
            Self::User => &user.name,
            Self::Namespace => &info.namespace,
        }
    }
}

/// A schema as its object has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Schema {
    pub(super) name: Box<str>,
    pub(super) uid: Box<str>,
    /// The name of its priority level.
    pub(super) level: Box<str>,
    pub(super) precedence: i64,
    pub(super) distinguisher: Option<Distinguisher>,
    rules: Vec<Rule>,
    /// Status, reason and message of its `Dangling` condition.
    pub(super) dangling: Option<[Box<str>; 3]>,
}

/// Subjects with what they ask for.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Rule {
    subjects: Vec<Subject>,
    resources: Vec<ResourceRule>,
    paths: Vec<PathRule>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Subject {
    AnyUser,
    User(Box<str>),
    AnyGroup,
    Group(Box<str>),
    /// Of one namespace; none means all of it.
    ServiceAccount(Box<str>, Option<Box<str>>),
}

/// Strings to be matched; a list of `*` alone is everything.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Names {
    All,
    Some(Vec<Box<str>>),
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct ResourceRule {
    verbs: Names,
    groups: Names,
    resources: Names,
    namespaces: Names,
    cluster_scope: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct PathRule {
    verbs: Names,
    paths: Vec<Box<str>>,
}

impl Schema {
    #[must_use]
    pub(super) fn of(object: &Value) -> Self {
        let view = v::FlowSchema::of(Node::new(object));
        let spec = view.spec();
        let distinguisher = spec.distinguisher_method().map(|m| m.r#type());
        let conditions = view.status().conditions();
        let dangling = conditions.iter().find(|c| c.r#type() == "Dangling");
        Self {
            name: meta::name(object).into(),
            uid: meta::uid(object).into(),
            level: spec.priority_level_configuration().name().into(),
            precedence: spec.matching_precedence(),
            distinguisher: match distinguisher {
                Some("ByUser") => Some(Distinguisher::User),
                Some("ByNamespace") => Some(Distinguisher::Namespace),
                _ => None,
            },
            rules: spec.rules().iter().map(Rule::of).collect(),
            dangling: dangling.map(|c| [c.status(), c.reason(), c.message()].map(Into::into)),
        }
    }

    /// Where it stands among others; the lowest comes first.
    #[must_use]
    pub(super) fn order(&self) -> (i64, &str) {
        (self.precedence, &self.name)
    }

    #[must_use]
    pub(super) fn matches(&self, user: &User, info: &RequestInfo) -> bool {
        self.rules.iter().any(|rule| rule.matches(user, info))
    }
}

impl Rule {
    fn of(rule: v::PolicyRulesWithSubjects<'_>) -> Self {
        Self {
            subjects: rule.subjects().iter().filter_map(Subject::of).collect(),
            resources: rule
                .resource_rules()
                .iter()
                .map(|r| ResourceRule {
                    verbs: Names::of(r.node(), n::VERBS),
                    groups: Names::of(r.node(), n::API_GROUPS),
                    resources: Names::of(r.node(), n::RESOURCES),
                    namespaces: Names::of(r.node(), n::NAMESPACES),
                    cluster_scope: r.cluster_scope(),
                })
                .collect(),
            paths: rule
                .non_resource_rules()
                .iter()
                .map(|r| PathRule {
                    verbs: Names::of(r.node(), n::VERBS),
                    paths: texts(r.node(), n::NON_RESOURCE_URLS),
                })
                .collect(),
        }
    }

    fn matches(&self, user: &User, info: &RequestInfo) -> bool {
        if !self.subjects.iter().any(|s| s.matches(user)) {
            return false;
        }
        if info.is_resource {
            self.resources.iter().any(|r| r.matches(info))
        } else {
            self.paths.iter().any(|r| r.matches(info))
        }
    }
}

impl Subject {
    fn of(subject: v::Subject<'_>) -> Option<Self> {
        match subject.kind() {
            "User" => Some(match subject.user()?.name() {
                "*" => Self::AnyUser,
                name => Self::User(name.into()),
            }),
            "Group" => Some(match subject.group()?.name() {
                "*" => Self::AnyGroup,
                name => Self::Group(name.into()),
            }),
            "ServiceAccount" => {
                let account = subject.service_account()?;
                let name = (account.name() != "*").then(|| account.name().into());
                Some(Self::ServiceAccount(account.namespace().into(), name))
            }
            _ => None,
        }
    }

    fn matches(&self, user: &User) -> bool {
        match self {
            Self::AnyUser | Self::AnyGroup => true,
            Self::User(name) => **name == *user.name,
            Self::Group(name) => user.groups.iter().any(|g| **g == **name),
            Self::ServiceAccount(namespace, name) => service_account::named(&user.name)
                .is_some_and(|(its, own)| {
                    *its == **namespace && name.as_deref().is_none_or(|name| name == own)
                }),
        }
    }
}

impl Names {
    fn of(node: Node<'_>, field: proto::NameId) -> Self {
        let names = texts(node, field);
        match names.as_slice() {
            [one] if **one == *"*" => Self::All,
            _ => Self::Some(names),
        }
    }

    fn any(&self, wanted: impl Fn(&str) -> bool) -> bool {
        match self {
            Self::All => true,
            Self::Some(names) => names.iter().any(|name| wanted(name)),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.any(|n| n == name)
    }
}

fn texts(node: Node<'_>, field: proto::NameId) -> Vec<Box<str>> {
    let items = node.items(field).iter();
    items.filter_map(|v| v.as_str().map(Into::into)).collect()
}

impl ResourceRule {
    fn matches(&self, info: &RequestInfo) -> bool {
        self.verbs.has(&info.verb)
            && self.resources.any(|r| is_resource(r, info))
            && self.groups.has(&info.group)
            && if info.namespace.is_empty() {
                self.cluster_scope
            } else {
                self.namespaces.has(&info.namespace)
            }
    }
}

/// `pods`, `pods/log`: exactly what is asked for.
fn is_resource(name: &str, info: &RequestInfo) -> bool {
    if info.subresource.is_empty() {
        return name == info.resource;
    }
    let below = name.strip_prefix(info.resource.as_str());
    below.and_then(|rest| rest.strip_prefix('/')) == Some(info.subresource.as_str())
}

impl PathRule {
    /// A path stands for all that is below it as well, with or without `/*` at its end.
    fn matches(&self, info: &RequestInfo) -> bool {
        self.verbs.has(&info.verb)
            && self.paths.iter().any(|path| {
                if **path == *"*" || **path == *info.path {
                    return true;
                }
                let prefix = path.strip_suffix('*').unwrap_or(path);
                let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
                let below = info.path.strip_prefix(prefix);
                below.is_some_and(|rest| rest.starts_with('/'))
            })
    }
}

#[cfg(test)]
mod tests;
