//! Roles and bindings. Upstream: `pkg/apis/rbac/{v1/defaults.go,validation}`,
//! `pkg/registry/rbac`.

use proto::catalogue::{Gates, names as n};
use proto::path::{Errors, Spot};
use proto::selector::{LabelSelector, SelectorRules, validate_label_selector};
use proto::view::View;
use proto::view::rbac_v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, RoleBinding, RoleRef, Subject,
};
use proto::view::{List, Node};
use proto::{Value, meta};

use crate::declarative::NO_OPTIONS;
use crate::rules;
use crate::shown::Internal;
use crate::strategy::Strategy;
use crate::table::age;

#[cfg(test)]
mod tests;

const GROUP: &str = "rbac.authorization.k8s.io";

pub static ROLE: Strategy = Strategy {
    name: role_name,
    validate: |_, object, e| role(object, true, e),
    validate_update: |_, new, _, e| role(new, true, e),
    declarative: Some(NO_OPTIONS),
    ..Strategy::DEFAULT
};

pub static CLUSTER_ROLE: Strategy = Strategy {
    name: role_name,
    validate: |_, object, e| cluster_role(object, None, e),
    validate_update: |_, new, old, e| cluster_role(new, Some(old), e),
    declarative: Some(NO_OPTIONS),
    ..Strategy::DEFAULT
};

/// `ValidateRBACName`: a prefix is checked as the whole name that it is not.
fn role_name(name: &str, _: bool) -> Vec<String> {
    meta::names::path_segment_problems(name)
}

fn cluster_role(object: &Value, old: Option<&Value>, e: &mut Errors<'_>) {
    role(object, false, e);
    let Some(aggregation) = ClusterRole::of(Node::new(object)).aggregation_rule() else {
        return;
    };
    let selectors = aggregation.node().items(n::CLUSTER_ROLE_SELECTORS);
    if selectors.is_empty() {
        let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        e.required(
            Spot::of(aggregation).field(n::CLUSTER_ROLE_SELECTORS),
            detail,
        );
    }
    let rules = SelectorRules {
        allow_invalid_values: old.is_some_and(has_invalid_selectors),
        ..SelectorRules::default()
    };
    for selector in selectors {
        validate_label_selector(selector, rules, e);
        if LabelSelector::from_object(selector).is_err() {
            e.invalid(
                Spot::node(selector),
                &Value::Null,
                "invalid label selector.",
            );
        }
    }
}

fn has_invalid_selectors(old: &Value) -> bool {
    let selectors = old.at(&[n::AGGREGATION_RULE, n::CLUSTER_ROLE_SELECTORS]);
    let mut selectors = selectors.and_then(Value::as_list).into_iter().flatten();
    selectors.any(|selector| {
        rules::breaks(|e| validate_label_selector(selector, SelectorRules::default(), e))
    })
}

fn role(object: &Value, namespaced: bool, e: &mut Errors<'_>) {
    // The rules of both kinds have one shape.
    for rule in ClusterRole::of(Node::new(object)).rules() {
        policy_rule(e, rule, namespaced);
    }
}

/// `ValidatePolicyRule`.
fn policy_rule(e: &mut Errors<'_>, rule: PolicyRule<'_>, namespaced: bool) {
    let at = Spot::of(rule);
    if rule.verbs().is_empty() {
        let detail = "verbs must contain at least one value";
        e.covered(|e| e.required(at.field(n::VERBS), detail));
    }
    let urls = rule.node().get(n::NON_RESOURCE_URLS);
    if !rule.non_resource_urls().is_empty() {
        if namespaced {
            e.invalid(
                at.field(n::NON_RESOURCE_URLS),
                rules::json(urls),
                "namespaced rules cannot apply to non-resource URLs",
            );
        }
        if !rule.api_groups().is_empty()
            || !rule.resources().is_empty()
            || !rule.resource_names().is_empty()
        {
            e.invalid(
                at.field(n::NON_RESOURCE_URLS),
                rules::json(urls),
                "rules cannot apply to both regular resources and non-resource URLs",
            );
        }
        return;
    }
    if rule.api_groups().is_empty() {
        e.required(
            at.field(n::API_GROUPS),
            "resource rules must supply at least one api group",
        );
    }
    if rule.resources().is_empty() {
        e.required(
            at.field(n::RESOURCES),
            "resource rules must supply at least one resource",
        );
    }
}

pub static ROLE_BINDING: Strategy = Strategy {
    name: role_name,
    default: default_binding,
    validate: |_, object, e| {
        let view = RoleBinding::of(Node::new(object));
        binding(e, view.role_ref(), view.subjects(), true);
    },
    declarative: Some(NO_OPTIONS),
    validate_update: |_, new, old, e| {
        let (now, was) = (
            RoleBinding::of(Node::new(new)),
            RoleBinding::of(Node::new(old)),
        );
        binding(e, now.role_ref(), now.subjects(), true);
        same_role(e, Spot::of(now), now.role_ref(), was.role_ref());
    },
    cells: Some(cells),
    ..Strategy::DEFAULT
};

pub static CLUSTER_ROLE_BINDING: Strategy = Strategy {
    name: role_name,
    default: default_binding,
    validate: |_, object, e| {
        let view = ClusterRoleBinding::of(Node::new(object));
        binding(e, view.role_ref(), view.subjects(), false);
    },
    declarative: Some(NO_OPTIONS),
    validate_update: |_, new, old, e| {
        let (now, was) = (
            ClusterRoleBinding::of(Node::new(new)),
            ClusterRoleBinding::of(Node::new(old)),
        );
        binding(e, now.role_ref(), now.subjects(), false);
        same_role(e, Spot::of(now), now.role_ref(), was.role_ref());
    },
    cells: Some(cells),
    ..Strategy::DEFAULT
};

/// Groups follow from kinds.
fn default_binding(_: Gates, object: &mut Value) {
    let text = |v: &Value, name| {
        v.get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    if let Some(role) = object.get_mut(n::ROLE_REF)
        && text(role, n::API_GROUP).is_empty()
    {
        role.set(&[n::API_GROUP], GROUP);
    }
    for subject in object
        .get_mut(n::SUBJECTS)
        .and_then(Value::as_list_mut)
        .into_iter()
        .flatten()
    {
        if text(subject, n::API_GROUP).is_empty()
            && matches!(text(subject, n::KIND).as_str(), "User" | "Group")
        {
            subject.set(&[n::API_GROUP], GROUP);
        }
    }
}

fn binding(
    e: &mut Errors<'_>,
    role: RoleRef<'_>,
    subjects: List<'_, Subject<'_>>,
    namespaced: bool,
) {
    if role.api_group() != GROUP {
        e.not_supported(
            Spot::of(role).field(n::API_GROUP),
            role.api_group(),
            &[GROUP],
        );
    }
    let kinds: &[&str] = if namespaced {
        &["Role", "ClusterRole"]
    } else {
        &["ClusterRole"]
    };
    if !kinds.contains(&role.kind()) {
        e.not_supported(Spot::of(role).field(n::KIND), role.kind(), kinds);
    }
    // Of a role that changed, declarative validation says no more than that.
    e.covered(|e| {
        rules::required(e, role, n::NAME);
    });
    let problems = meta::names::path_segment_problems(role.name());
    rules::each(e, role, n::NAME, problems);
    for subject in subjects {
        self::subject(e, subject, namespaced);
    }
}

/// `ValidateRoleBindingSubject`.
fn subject(e: &mut Errors<'_>, subject: Subject<'_>, namespaced: bool) {
    let at = Spot::of(subject);
    e.covered(|e| {
        rules::required(e, subject, n::NAME);
    });
    match subject.kind() {
        "ServiceAccount" => {
            if !subject.name().is_empty() {
                rules::each(
                    e,
                    subject,
                    n::NAME,
                    meta::names::subdomain_name(subject.name(), false),
                );
            }
            if !subject.api_group().is_empty() {
                e.not_supported(at.field(n::API_GROUP), subject.api_group(), &[""]);
            }
            if !namespaced && subject.namespace().is_empty() {
                e.required(at.field(n::NAMESPACE), "");
            }
        }
        "User" | "Group" => {
            if subject.api_group() != GROUP {
                e.not_supported(at.field(n::API_GROUP), subject.api_group(), &[GROUP]);
            }
        }
        kind => e.not_supported(
            at.field(n::KIND),
            kind,
            &["ServiceAccount", "User", "Group"],
        ),
    }
}

fn same_role(e: &mut Errors<'_>, at: Spot<'_>, new: RoleRef<'_>, old: RoleRef<'_>) {
    if new.node().value() != old.node().value() {
        e.invalid(at.field(n::ROLE_REF), Internal::of(new), rules::IMMUTABLE);
    }
}

fn cells(object: &Value, now: i64) -> Vec<Value> {
    let view = RoleBinding::of(Node::new(object));
    let of = |kind: &str| -> String {
        let names = view
            .subjects()
            .iter()
            .filter(|s| s.kind() == kind)
            .map(|s| match s.namespace() {
                "" => s.name().to_owned(),
                namespace => format!("{namespace}/{}", s.name()),
            });
        names.collect::<Vec<_>>().join(", ")
    };
    vec![
        meta::name(object).into(),
        format!("{}/{}", view.role_ref().kind(), view.role_ref().name()).into(),
        age(meta::creation_timestamp(object), now).into(),
        of("User").into(),
        of("Group").into(),
        of("ServiceAccount").into(),
    ]
}
