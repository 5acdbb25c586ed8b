//! What the types of objects say about the expressions of admission policies
//! (`validatingadmissionpolicy-status-controller`).
//!
//! A policy is checked against each built-in kind that its rules name without wildcards; what is found is told in its status,
//! and has no other consequence. Source: `pkg/controller/validatingadmissionpolicystatus`,
//! `apiserver/pkg/admission/plugin/policy/validating/typechecking.go`.

use std::collections::BTreeMap;

use cel::Schema;
use cel::admission::Compiler;
use component::client::Patch;
use component::controller::Next;
use component::informer::{Event, Key, Lister};
use k8s_openapi::api::admissionregistration::v1::{
    NamedRuleWithOperations, ValidatingAdmissionPolicy, ValidatingAdmissionPolicySpec,
};
use proto::catalogue::{self, Resource};
use serde_json::json;

use crate::context::Context;
use crate::error::Error;

/// A policy that names more kinds is checked against the first ones.
const MOST_KINDS: usize = 10;

/// Starts the controller.
///
/// # Errors
/// None.
pub fn start(cx: &Context) -> anyhow::Result<()> {
    let queue = cx.queue::<Key>(cx.name());
    let policies = cx.informer::<ValidatingAdmissionPolicy>();
    let (wake, lister) = (queue.clone(), policies.lister());
    policies.subscribe(move |_, event| {
        if let Event::Added(policy) | Event::Updated { new: policy, .. } = event {
            wake.add(Key::of(&policy.metadata));
        }
    });
    let workers = cx.config().admission_policy_status.concurrent_policy_syncs;
    let context = cx.clone();
    cx.run(workers, &queue, move |key| {
        let (cx, lister) = (context.clone(), lister.clone());
        async move { reconcile(&cx, &lister, &key).await }
    });
    Ok(())
}

async fn reconcile(
    cx: &Context,
    policies: &Lister<ValidatingAdmissionPolicy>,
    key: &Key,
) -> Result<Next, Error> {
    let Some(policy) = policies.by_key(key) else {
        return Ok(Next::Done);
    };
    let generation = policy.metadata.generation.unwrap_or_default();
    let observed = policy.status.as_ref().and_then(|s| s.observed_generation);
    if generation <= observed.unwrap_or_default() {
        return Ok(Next::Done);
    }
    let found = policy.spec.as_ref().map(warnings).unwrap_or_default();
    let found = { found.into_iter() }
        .map(|Warning { field, text }| json!({"fieldRef": field, "warning": text}));
    let mut checked = json!({});
    let found: Vec<_> = found.collect();
    if !found.is_empty() {
        checked["expressionWarnings"] = found.into();
    }
    let wanted = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": key.name()},
        "status": {"observedGeneration": generation, "typeChecking": checked},
    });
    let api = cx.client().await?.all::<ValidatingAdmissionPolicy>();
    api.patch_status(key.name(), &Patch::apply(cx.name(), true, &wanted)?)
        .await?;
    Ok(Next::Done)
}

/// What is wrong with an expression.
#[derive(PartialEq, Debug)]
struct Warning {
    field: String,
    text: String,
}

fn warnings(spec: &ValidatingAdmissionPolicySpec) -> Vec<Warning> {
    let mut checker = Checker::new(spec);
    let mut warnings = Vec::new();
    for (i, validation) in spec.validations.iter().flatten().enumerate() {
        let message = validation.message_expression.as_deref().unwrap_or_default();
        for (name, expression) in [
            ("expression", validation.expression.as_str()),
            ("messageExpression", message),
        ] {
            if expression.is_empty() && name == "messageExpression" {
                continue;
            }
            let text = checker.check(expression);
            if !text.is_empty() {
                let field = format!("spec.validations[{i}].{name}");
                warnings.push(Warning { field, text });
            }
        }
    }
    warnings
}

/// The kinds that a policy is checked against, each with what compiles its expressions.
struct Checker(Vec<(String, Compiler)>);

impl Checker {
    fn new(spec: &ValidatingAdmissionPolicySpec) -> Self {
        let schema = |r: &Resource| {
            let kind = r.kind;
            Schema::from_message(r.message).named(kind)
        };
        let params = spec.param_kind.as_ref().map(|kind| {
            let api_version = kind.api_version.as_deref().unwrap_or_default();
            let named = kind.kind.as_deref().unwrap_or_default();
            let parsed = proto::meta::parse_api_version(api_version);
            let mut all = catalogue::resources().iter();
            let found = all.find(|r| parsed == Some((r.group, r.version)) && r.kind == named);
            found.map(schema)
        });
        let kinds = kinds(spec).into_values().map(|resource| {
            let object = schema(resource);
            let params = params.as_ref().map(Option::as_ref);
            let mut compiler = Compiler::for_types(Some(&object), params);
            for variable in spec.variables.iter().flatten() {
                // What is wrong with variables is not told.
                let (name, text) = (&variable.name, &variable.expression);
                let _ = compiler.declare(name, text, cel::Version::STORED);
            }
            let (group, version) = (resource.group, resource.version);
            let name = format!("{group}/{version}, Kind={}", resource.kind);
            (name, compiler)
        });
        Self(kinds.collect())
    }

    /// What is wrong with an expression, by kind; nothing if it is right.
    fn check(&mut self, expression: &str) -> String {
        let found = self.0.iter_mut().filter_map(|(name, compiler)| {
            let issues = compiler.check(expression)?;
            Some(format!("{name}: {issues}\n"))
        });
        found.collect::<Vec<_>>().join("\n")
    }
}

/// The kinds that rules name, by group, version and kind.
fn kinds(
    spec: &ValidatingAdmissionPolicySpec,
) -> BTreeMap<(&'static str, &'static str, &'static str), &'static Resource> {
    let mut kinds = BTreeMap::new();
    let constraints = spec.match_constraints.as_ref();
    let rules = constraints.and_then(|c| c.resource_rules.as_deref());
    for rule in rules.unwrap_or_default() {
        let mut count = 0;
        for resource in of_rule(rule) {
            kinds.insert((resource.group, resource.version, resource.kind), resource);
            count += 1;
            if count == MOST_KINDS {
                return kinds;
            }
        }
    }
    kinds
}

/// What a rule names, in the order of groups, versions and resources; nothing if it has wildcards.
fn of_rule(rule: &NamedRuleWithOperations) -> Vec<&'static Resource> {
    let sorted = |texts: &Option<Vec<String>>| {
        let mut texts = texts.clone().unwrap_or_default();
        texts.sort();
        texts
    };
    let (groups, versions) = (sorted(&rule.api_groups), sorted(&rule.api_versions));
    let mut resources = sorted(&rule.resources);
    resources.retain(|name| !name.contains(['*', '/']));
    if groups
        .iter()
        .chain(&versions)
        .any(|text| text.contains('*'))
    {
        return Vec::new();
    }
    let mut found = Vec::new();
    for group in &groups {
        for version in &versions {
            for name in &resources {
                found.extend(catalogue::resource(group, version, name));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(value: serde_json::Value) -> ValidatingAdmissionPolicySpec {
        let policy: ValidatingAdmissionPolicy =
            proto::typed::from_json_value(json!({"spec": value})).unwrap();
        policy.spec.unwrap()
    }

    fn rule(group: &str, version: &str, resources: &[&str]) -> serde_json::Value {
        json!({"operations": ["*"], "apiGroups": [group], "apiVersions": [version], "resources": resources})
    }

    #[test]
    fn expressions_are_checked_against_all_kinds_that_rules_name() {
        let found = warnings(&spec(json!({
            "matchConstraints": {"resourceRules": [rule("apps", "v1", &["statefulsets", "deployments", "deployments/status"]), rule("", "v1", &["*"])]},
            "variables": [{"name": "replicas", "expression": "object.spec.replicas"}],
            "validations": [
                {"expression": "variables.replicas > 1 && oldObject == null"},
                {"expression": "object.spec.replicas > '1'", "messageExpression": "object.nothing"},
                {"expression": "object.spec.serviceName == ''"},
            ],
        })));
        let shown: Vec<(&str, Vec<&str>)> = { found.iter() }
            .map(|w| {
                let kinds = w.text.lines().filter(|l| l.contains("Kind="));
                let kinds = kinds.filter_map(|l| l.split(": ").next());
                (w.field.as_str(), kinds.collect())
            })
            .collect();
        let (deployment, set) = ("apps/v1, Kind=Deployment", "apps/v1, Kind=StatefulSet");
        assert_eq!(
            shown,
            [
                ("spec.validations[1].expression", vec![deployment, set]),
                (
                    "spec.validations[1].messageExpression",
                    vec![deployment, set]
                ),
                ("spec.validations[2].expression", vec![deployment]),
            ]
        );
        assert!(
            found[1].text.contains("undefined field 'nothing'"),
            "{}",
            found[1].text
        );
        assert!(
            found[0]
                .text
                .contains("found no matching overload for '_>_' applied to '(int, string)'"),
            "{}",
            found[0].text
        );
    }

    #[test]
    fn parameters_are_checked_if_their_kind_is_known() {
        let of = |kind: &str| {
            let found = warnings(&spec(json!({
                "matchConstraints": {"resourceRules": [rule("", "v1", &["pods"])]},
                "paramKind": {"apiVersion": "v1", "kind": kind},
                "validations": [{"expression": "params.data.nothing == 1"}],
            })));
            found.len()
        };
        assert_eq!((of("ConfigMap"), of("Unknown")), (1, 0));
    }

    #[test]
    fn rules_with_wildcards_name_nothing() {
        for rule in [
            rule("*", "v1", &["pods"]),
            rule("", "*", &["pods"]),
            rule("", "v1", &["*", "pods/*"]),
            rule("", "v1", &["unknown"]),
        ] {
            let of = spec(json!({"matchConstraints": {"resourceRules": [rule]}}));
            assert!(kinds(&of).is_empty(), "{rule}");
        }
    }
}
