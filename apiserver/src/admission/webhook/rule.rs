//! What a webhook is asked about, as its rules say it.
//!
//! Upstream: `apiserver/pkg/admission/plugin/webhook/predicates/rules`.

use proto::Value;
use proto::catalogue::Resource;
use proto::view::admissionregistration_v1::RuleWithOperations;

use super::super::Operation;

/// What stands for all.
const ANY: &str = "*";

#[derive(Clone, PartialEq, Debug)]
pub(in super::super) struct Rule {
    /// By [`Operation`].
    operations: [bool; Operation::ALL.len()],
    groups: Vec<Text>,
    versions: Vec<Text>,
    /// Resource and subresource.
    resources: Vec<(Text, Text)>,
    scope: Scope,
}

/// The resource as it is asked for, or in the version of the first rule that names one that is the same.
pub(in super::super) fn version<R>(
    rules: &[R],
    resource: &'static Resource,
    others: &[&'static Resource],
    matches: impl Fn(&R, &Resource) -> bool,
) -> Option<&'static Resource> {
    if rules.iter().any(|rule| matches(rule, resource)) {
        return Some(resource);
    }
    rules.iter().find_map(|rule| {
        let mut others = others.iter().copied();
        others.find(|other| matches(rule, other))
    })
}

/// All, or this one.
#[derive(Clone, PartialEq, Debug)]
enum Text {
    Any,
    Exactly(Box<str>),
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Scope {
    Any,
    Cluster,
    Namespaced,
    /// One that nobody knows matches nothing.
    None,
}

impl Text {
    fn of(text: &str) -> Self {
        match text {
            ANY => Self::Any,
            text => Self::Exactly(text.into()),
        }
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(own) => **own == *text,
        }
    }
}

fn texts(items: &[Value]) -> impl Iterator<Item = &str> {
    items.iter().filter_map(Value::as_str)
}

impl Rule {
    pub(in super::super) fn read(rule: RuleWithOperations<'_>) -> Self {
        let operations: Vec<&str> = texts(rule.operations()).collect();
        let split = |text: &str| {
            let (resource, below) = text.split_once('/').unwrap_or((text, ""));
            (Text::of(resource), Text::of(below))
        };
        Self {
            operations: Operation::ALL
                .map(|op| operations.contains(&ANY) || operations.contains(&op.text())),
            groups: texts(rule.api_groups()).map(Text::of).collect(),
            versions: texts(rule.api_versions()).map(Text::of).collect(),
            resources: texts(rule.resources()).map(split).collect(),
            scope: match rule.scope() {
                None | Some(ANY) => Scope::Any,
                Some("Cluster") => Scope::Cluster,
                Some("Namespaced") => Scope::Namespaced,
                Some(_) => Scope::None,
            },
        }
    }

    pub(in super::super) fn matches(
        &self,
        operation: Operation,
        resource: &Resource,
        subresource: &str,
    ) -> bool {
        let any = |of: &[Text], text| of.iter().any(|t| t.matches(text));
        let scope = match self.scope {
            Scope::Any => true,
            Scope::Cluster => !resource.namespaced,
            Scope::Namespaced => resource.namespaced,
            Scope::None => false,
        };
        let named =
            |(own, below): &(Text, Text)| own.matches(resource.name) && below.matches(subresource);
        scope
            && self.operations[operation as usize]
            && any(&self.groups, resource.group)
            && any(&self.versions, resource.version)
            && self.resources.iter().any(named)
    }
}

#[cfg(test)]
mod tests {
    use proto::catalogue::messages::admissionregistration_v1::RULE_WITH_OPERATIONS;
    use proto::view::{Node, View};

    use super::super::super::testing::{decode, resource};
    use super::*;

    fn rule(json: &str) -> Rule {
        let object = decode(json, RULE_WITH_OPERATIONS);
        Rule::read(RuleWithOperations::of(Node::new(&object)))
    }

    fn with(resources: &str, more: &str) -> Rule {
        rule(&format!(
            r#"{{"operations":["*"],"apiGroups":["*"],"apiVersions":["*"],"resources":{resources}{more}}}"#
        ))
    }

    #[test]
    fn resources_and_subresources_have_stars_of_their_own() {
        let matches =
            |rule: &Rule, name, below| rule.matches(Operation::Create, resource(name), below);
        let all = with(r#"["*"]"#, "");
        assert!(matches(&all, "pods", "") && !matches(&all, "pods", "exec"));
        let below = with(r#"["pods/*"]"#, "");
        assert!(matches(&below, "pods", "") && matches(&below, "pods", "exec"));
        assert!(!matches(&below, "services", ""));
        let two = with(r#"["pods/*","services"]"#, "");
        assert!(matches(&two, "services", "") && !matches(&two, "services", "proxy"));
        let proxies = with(r#"["*/proxy","*/exec"]"#, "");
        assert!(matches(&proxies, "pods", "exec") && matches(&proxies, "nodes", "proxy"));
        assert!(!matches(&proxies, "pods", "") && !matches(&proxies, "pods", "log"));
    }

    #[test]
    fn operations_groups_and_versions_must_all_match() {
        let rule = rule(
            r#"{"operations":["CREATE","DELETE"],"apiGroups":["apps"],"apiVersions":["v1"],"resources":["*"]}"#,
        );
        let of = |operation, name| rule.matches(operation, resource(name), "");
        assert!(of(Operation::Create, "deployments") && of(Operation::Delete, "deployments"));
        assert!(!of(Operation::Update, "deployments") && !of(Operation::Connect, "deployments"));
        assert!(!of(Operation::Create, "pods"), "another group");
        let beta = Rule {
            versions: vec![Text::of("v1beta1")],
            ..rule.clone()
        };
        assert!(!beta.matches(Operation::Create, resource("deployments"), ""));
    }

    #[test]
    fn a_scope_is_that_of_the_resource() {
        let matches = |scope: &str, name| {
            let rule = with(r#"["*"]"#, &format!(r#","scope":"{scope}""#));
            rule.matches(Operation::Create, resource(name), "")
        };
        for (scope, pods, nodes, namespaces) in [
            ("*", true, true, true),
            ("Cluster", false, true, true),
            ("Namespaced", true, false, false),
            ("Other", false, false, false),
        ] {
            assert_eq!(matches(scope, "pods"), pods, "{scope}");
            assert_eq!(matches(scope, "nodes"), nodes, "{scope}");
            assert_eq!(matches(scope, "namespaces"), namespaces, "{scope}");
        }
    }
}
