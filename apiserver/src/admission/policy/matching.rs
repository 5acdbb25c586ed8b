//! What a policy, or a binding of one, is about.
//!
//! Upstream: `apiserver/pkg/admission/plugin/policy/matching`.

use proto::Value;
use proto::catalogue::{Resource, names as n};
use proto::selector::LabelSelector;
use proto::view::admissionregistration_v1::{MatchResources, RuleWithOperations};
use proto::view::{Node, View};

use super::super::webhook::rule::{Rule, version};
use super::super::webhook::selected::{by_namespace, by_object};
use super::super::{Attributes, Operation};
use crate::server::Server;

pub(super) struct Matching {
    namespaces: Result<LabelSelector, String>,
    objects: Result<LabelSelector, String>,
    /// A selector that is not there at all.
    missing: Option<&'static str>,
    /// None: everything.
    rules: Vec<Named>,
    excluded: Vec<Named>,
    equivalent: bool,
}

/// A rule, for some objects or for all.
struct Named {
    rule: Rule,
    names: Vec<Box<str>>,
}

impl Named {
    fn read(rule: &Value) -> Self {
        let node = Node::new(rule);
        let names = node
            .items(n::RESOURCE_NAMES)
            .iter()
            .filter_map(Value::as_str);
        Self {
            names: names.map(Into::into).collect(),
            rule: Rule::read(RuleWithOperations::of(node)),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|own| **own == *name)
    }
}

/// A kind of write, and what it could as well be about.
#[derive(Clone, Copy)]
pub(super) struct About<'a> {
    pub(super) operation: Operation,
    pub(super) resource: &'static Resource,
    pub(super) subresource: &'a str,
    /// The other served versions of the resource.
    pub(super) equivalent: &'a [&'static Resource],
}

impl Matching {
    pub(super) fn read(of: MatchResources<'_>) -> Self {
        let node = of.node();
        let selector = |field| {
            let given = node.get(field).unwrap_or(&Value::Null);
            LabelSelector::from_object(given).map_err(|e| e.to_string())
        };
        let missing = [
            (n::NAMESPACE_SELECTOR, "namespace"),
            (n::OBJECT_SELECTOR, "object"),
        ];
        let absent = |(field, _): &&(_, _)| node.get(*field).is_none_or(Value::is_null);
        let rules = |field| node.items(field).iter().map(Named::read).collect();
        Self {
            namespaces: selector(n::NAMESPACE_SELECTOR),
            objects: selector(n::OBJECT_SELECTOR),
            missing: missing.iter().find(absent).map(|(_, what)| *what),
            rules: rules(n::RESOURCE_RULES),
            excluded: rules(n::EXCLUDE_RESOURCE_RULES),
            equivalent: of.match_policy() == Some("Equivalent"),
        }
    }

    /// Whether some write of a kind can match.
    pub(super) fn may_match(&self, about: About<'_>) -> bool {
        self.rules.is_empty() || self.found(&self.rules, about, None).is_some()
    }

    /// The resource in the version in which the write matches, if it does.
    ///
    /// # Errors
    /// That cannot be said: a text.
    pub(super) async fn matches(
        &self,
        server: &Server,
        write: &Attributes<'_>,
        about: About<'_>,
    ) -> Result<Option<&'static Resource>, String> {
        if let Some(what) = self.missing {
            return Err(format!(
                "a nil {what} selector was passed, please ensure selectors are initialized properly"
            ));
        }
        // An error counts only for what would match otherwise.
        let namespace = by_namespace(server, &self.namespaces, write).await;
        if matches!(namespace, Ok(false)) {
            return Ok(None);
        }
        let object = by_object(&self.objects, write);
        if matches!(object, Ok(false)) {
            return Ok(None);
        }
        let name = Some(write.name);
        if self.found(&self.excluded, about, name).is_some() {
            return Ok(None);
        }
        let found = if self.rules.is_empty() {
            Some(write.resource)
        } else {
            self.found(&self.rules, about, name)
        };
        if found.is_some() {
            namespace.and(object).map_err(|e| e.message().to_owned())?;
        }
        Ok(found)
    }

    /// The resource in the version that the rules are about, if they are.
    fn found(
        &self,
        rules: &[Named],
        about: About<'_>,
        name: Option<&str>,
    ) -> Option<&'static Resource> {
        let matches = |named: &Named, resource: &Resource| {
            named
                .rule
                .matches(about.operation, resource, about.subresource)
                && name.is_none_or(|name| named.has(name))
        };
        let others = if self.equivalent {
            about.equivalent
        } else {
            &[]
        };
        version(rules, about.resource, others, matches)
    }
}

#[cfg(test)]
mod tests {
    use proto::catalogue::messages::admissionregistration_v1::MATCH_RESOURCES;

    use super::super::super::testing::{decode, resource};
    use super::*;

    fn matching(fields: &str) -> Matching {
        let object = decode(
            &format!(r#"{{"namespaceSelector":{{}},"objectSelector":{{}},{fields}}}"#),
            MATCH_RESOURCES,
        );
        Matching::read(MatchResources::of(Node::new(&object)))
    }

    fn about<'a>(name: &str, equivalent: &'a [&'static Resource]) -> About<'a> {
        About {
            operation: Operation::Create,
            resource: resource(name),
            subresource: "",
            equivalent,
        }
    }

    const DEPLOYMENTS: &str = r#"{"operations":["CREATE"],"apiGroups":["apps"],"apiVersions":["v1"],"resources":["deployments"]"#;

    #[test]
    fn names_narrow_a_rule() {
        let of = matching(&format!(
            r#""resourceRules":[{DEPLOYMENTS},"resourceNames":["a"]}}]"#
        ));
        let found = |name| {
            of.found(&of.rules, about("deployments", &[]), name)
                .is_some()
        };
        assert!(found(Some("a")) && !found(Some("b")));
        assert!(
            of.may_match(about("deployments", &[])),
            "some deployment may be called so"
        );
        assert!(!of.may_match(about("pods", &[])));
    }

    #[test]
    fn without_rules_everything_matches() {
        assert!(matching(r#""matchPolicy":"Exact""#).may_match(about("pods", &[])));
    }

    #[test]
    fn another_version_of_the_same_matches_if_the_policy_says_so() {
        let of = |policy: &str| {
            let rule = r#"{"operations":["*"],"apiGroups":["autoscaling"],"apiVersions":["v1"],"resources":["horizontalpodautoscalers"]}"#;
            matching(&format!(
                r#""matchPolicy":"{policy}","resourceRules":[{rule}]"#
            ))
        };
        let scaler = |version| {
            proto::catalogue::resource("autoscaling", version, "horizontalpodautoscalers").unwrap()
        };
        let (v1, v2) = (scaler("v1"), scaler("v2"));
        let about = About {
            resource: v2,
            ..about("pods", &[])
        };
        let found = |policy| {
            let of = of(policy);
            of.found(
                &of.rules,
                About {
                    equivalent: &[v1],
                    ..about
                },
                None,
            )
            .map(|r| r.version)
        };
        assert_eq!(found("Equivalent"), Some("v1"));
        assert_eq!(found("Exact"), None);
    }
}
