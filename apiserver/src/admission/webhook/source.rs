//! The webhooks that there are: live from the cache, compiled once per change of their object.
//!
//! Who may be asked about a write is looked up by resource, subresource and operation; what was looked up once is kept until
//! a configuration changes, or what is served. A write that nobody is asked about costs one look.

use std::sync::Arc;

use component::{Supervisor, Task};
use proto::Value;
use proto::catalogue::Resource;
use resources::object::{self, Type};

use super::super::live::{All, ByWrite, Change, Live};
use super::Operation;
use super::hook::{Hook, of_configuration};
use super::rule::version;
use crate::registry::Registry;
use crate::registry::follow::follow;

pub(in super::super) const GROUP: &str = "admissionregistration.k8s.io";

/// All webhooks as they are at one time, in the order in which they are asked.
#[derive(Default)]
pub(super) struct Hooks {
    pub(super) all: Vec<Arc<Hook>>,
    concerned: ByWrite<Concerned>,
}

/// Those that may be asked about a kind of write.
pub(super) type Concerned = Arc<[Candidate]>;

/// A webhook whose rules match.
pub(in super::super) struct Candidate {
    /// Its place among all.
    pub(super) index: usize,
    pub(super) hook: Arc<Hook>,
    /// The resource in the version of the rule.
    pub(super) resource: &'static Resource,
    /// What it sees objects as.
    pub(super) kind: Type,
}

/// What a write is about as a rule has it.
#[derive(Clone, Copy)]
pub(in super::super) struct Matched<'a> {
    /// The resource in the version of the rule.
    pub(in super::super) resource: &'static Resource,
    /// What objects are seen as.
    pub(in super::super) kind: &'a Type,
}

impl Candidate {
    pub(super) fn matched(&self) -> Matched<'_> {
        Matched {
            resource: self.resource,
            kind: &self.kind,
        }
    }
}

/// Follows a kind of configurations from now on. If the server does not have them, there is none.
pub(super) fn follow_configurations(
    registry: &Registry,
    tasks: &Supervisor,
    resource: &'static str,
) -> Arc<Live<Hooks>> {
    let Some(endpoint) = registry.any_version(GROUP, resource) else {
        return Live::nothing();
    };
    let (collection, hub) = (endpoint.collection.clone(), endpoint.hub);
    let live = Live::new();
    let told = Arc::clone(&live);
    tasks.spawn(Task::Worker, format!("admission-{resource}"), async move {
        let mut known = All::default();
        let read = |entry: &store::Entry| match object::from_body(&entry.body, &hub) {
            Ok(object) => Some(hooks_of(&object)),
            Err(error) => {
                tracing::error!(%error, name = entry.name(), "A webhook configuration cannot be read");
                None
            }
        };
        follow(collection, |event| {
            known.take(Change::read(event, read));
            if known.complete {
                told.set(Hooks::new(&known));
            }
        })
        .await;
    });
    live
}

type Configuration = Vec<Arc<Hook>>;

fn hooks_of(configuration: &Value) -> Configuration {
    let hooks = of_configuration(configuration);
    hooks.into_iter().map(Arc::new).collect()
}

impl Hooks {
    /// By name of their configurations, and in the order of those.
    fn new(configurations: &All<Configuration>) -> Self {
        let all = configurations.all.values();
        Self {
            all: all.flat_map(|hooks| hooks.iter().cloned()).collect(),
            concerned: ByWrite::default(),
        }
    }

    /// Those that may be asked about such writes.
    pub(super) fn concerned(
        &self,
        registry: &Registry,
        operation: Operation,
        resource: &'static Resource,
        subresource: &str,
    ) -> Concerned {
        let generation = registry.generation();
        let write = (operation, resource, subresource);
        self.concerned.get(generation, write, || {
            let equivalent = equivalent(registry, resource, subresource);
            let candidates = self.all.iter().enumerate().filter_map(|(index, hook)| {
                let matched = matched(hook, operation, resource, subresource, &equivalent)?;
                Some(Candidate {
                    index,
                    hook: Arc::clone(hook),
                    resource: matched,
                    kind: kind(matched, subresource),
                })
            });
            candidates.collect()
        })
    }
}

/// The resource in the version in which a webhook wants to be asked about it, if it wants to.
fn matched(
    hook: &Hook,
    operation: Operation,
    resource: &'static Resource,
    subresource: &str,
    equivalent: &[&'static Resource],
) -> Option<&'static Resource> {
    let others = if hook.equivalent { equivalent } else { &[] };
    version(&hook.rules, resource, others, |rule, resource| {
        rule.matches(operation, resource, subresource)
    })
}

/// The other served versions of a resource: what is stored in the same place, whatever its group, and has such a subresource.
pub(in super::super) fn equivalent(
    registry: &Registry,
    resource: &'static Resource,
    subresource: &str,
) -> Vec<&'static Resource> {
    let Some(storage) = &resource.storage else {
        return Vec::new();
    };
    let all = registry.iter().map(|endpoint| endpoint.resource);
    all.filter(|other| !std::ptr::eq(*other, resource))
        .filter(|other| {
            other
                .storage
                .as_ref()
                .is_some_and(|s| s.prefix == storage.prefix)
        })
        .filter(|other| subresource.is_empty() || other.subresource(subresource).is_some())
        .collect()
}

/// What the body of a resource, or of a subresource, is.
pub(in super::super) fn kind(resource: &'static Resource, subresource: &str) -> Type {
    let own = Type {
        group: resource.group,
        version: resource.version,
        kind: resource.kind,
        message: resource.message,
    };
    let below = resource.subresource(subresource);
    let of_below = below.and_then(|below| {
        let message = below.message.filter(|m| *m != resource.message)?;
        Some(Type {
            group: below.group,
            version: below.version,
            kind: below.kind,
            message,
        })
    });
    of_below.unwrap_or(own)
}

#[cfg(test)]
mod tests {
    use proto::catalogue::messages::admissionregistration_v1::MUTATING_WEBHOOK_CONFIGURATION;

    use super::super::super::testing::{decode, resource};
    use super::*;

    fn hook(rules: &str, policy: &str) -> Hook {
        let text = format!(
            r#"{{"metadata":{{"name":"c"}},"webhooks":[{{"name":"a.b.c","rules":{rules},"matchPolicy":"{policy}"}}]}}"#
        );
        let object = decode(&text, MUTATING_WEBHOOK_CONFIGURATION);
        of_configuration(&object).remove(0)
    }

    fn in_version(group: &str, version: &str, name: &str) -> &'static Resource {
        let mut all = proto::catalogue::resources().iter();
        all.find(|r| (r.group, r.version, r.name) == (group, version, name))
            .unwrap()
    }

    #[test]
    fn a_rule_of_another_version_matches_what_is_the_same() {
        let rule = r#"[{"operations":["*"],"apiGroups":["autoscaling"],"apiVersions":["v1"],"resources":["*/*"]}]"#;
        let asked = in_version("autoscaling", "v2", "horizontalpodautoscalers");
        let other = in_version("autoscaling", "v1", "horizontalpodautoscalers");
        let found = |policy| {
            let found = matched(
                &hook(rule, policy),
                Operation::Update,
                asked,
                "status",
                &[other],
            );
            found.map(|r| r.version)
        };
        assert_eq!(found("Equivalent"), Some("v1"));
        assert_eq!(found("Exact"), None);
        let both = r#"[{"operations":["*"],"apiGroups":["*"],"apiVersions":["v1"],"resources":["*"]},{"operations":["*"],"apiGroups":["*"],"apiVersions":["v2"],"resources":["*"]}]"#;
        let hook = hook(both, "Equivalent");
        let found = matched(&hook, Operation::Update, asked, "", &[other]);
        assert_eq!(
            found.map(|r| r.version),
            Some("v2"),
            "what is asked for comes first"
        );
    }

    #[test]
    fn a_webhook_sees_what_the_request_is_about() {
        let named = |name, below| {
            let kind = kind(resource(name), below);
            format!("{} {}", kind.api_version(), kind.kind)
        };
        assert_eq!(named("pods", ""), "v1 Pod");
        assert_eq!(named("pods", "status"), "v1 Pod");
        assert_eq!(named("pods", "eviction"), "policy/v1 Eviction");
        assert_eq!(named("pods", "exec"), "v1 PodExecOptions");
        assert_eq!(named("deployments", "scale"), "autoscaling/v1 Scale");
        assert_eq!(
            named("serviceaccounts", "token"),
            "authentication.k8s.io/v1 TokenRequest"
        );
    }

    #[test]
    fn webhooks_of_one_name_are_told_apart() {
        let text =
            r#"{"metadata":{"name":"c"},"webhooks":[{"name":"a"},{"name":"b"},{"name":"a"}]}"#;
        let object = decode(text, MUTATING_WEBHOOK_CONFIGURATION);
        let hooks = of_configuration(&object);
        let uids: Vec<&str> = hooks.iter().map(|hook| hook.uid.as_str()).collect();
        assert_eq!(uids, ["c/a/0", "c/b/0", "c/a/1"]);
    }
}
