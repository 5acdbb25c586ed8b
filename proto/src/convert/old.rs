//! Small differences of versions that are stored and no longer served.
//!
//! Upstream's `conversion.go` and `defaults.go` of `kubernetes/pkg/apis/{node/v1alpha1,policy/v1beta1,rbac/v1alpha1,
//! flowcontrol/v1beta*}`.

use super::{each, rename};
use crate::catalogue::names as n;
use crate::value::{Map, Value};

/// `node.k8s.io/v1alpha1` has all of a RuntimeClass in a spec.
pub(super) fn runtime_class(class: &mut Map) {
    let Some(Value::Map(mut spec)) = class.remove(n::SPEC) else {
        return;
    };
    for (old, new) in [
        (n::RUNTIME_HANDLER, n::HANDLER),
        (n::OVERHEAD, n::OVERHEAD),
        (n::SCHEDULING, n::SCHEDULING),
    ] {
        if let Some(value) = spec.remove(old).filter(|value| !value.is_null()) {
            class.insert(new, value);
        }
    }
}

/// The label by which `policy/v1beta1` says in a selector that it means all pods, and v1 that it means none.
const ALL_OR_NONE: &str = "pdb.kubernetes.io/deprecated-v1beta1-empty-selector-match";

/// An empty selector is of no pod in `policy/v1beta1`, and of all pods in v1.
pub(super) fn disruption_budget(budget: &mut Map) {
    let selector = budget
        .get_mut(n::SPEC)
        .and_then(|spec| spec.get_mut(n::SELECTOR));
    let Some(selector) = selector.filter(|selector| !selector.is_null()) else {
        return;
    };
    let labels = selector.get(n::MATCH_LABELS).and_then(Value::as_map);
    let alone = labels.is_none_or(Map::is_empty);
    let expressions = selector.get(n::MATCH_EXPRESSIONS).and_then(Value::as_list);
    let expressions = expressions.unwrap_or_default();
    let marks = |expression: &Value| text(expression.get(n::KEY)) == ALL_OR_NONE;
    let all = |expression: &Value| {
        let values = expression.get(n::VALUES).and_then(Value::as_list);
        marks(expression)
            && text(expression.get(n::OPERATOR)) == "DoesNotExist"
            && values.is_none_or(<[Value]>::is_empty)
    };
    match expressions {
        [] if alone => {
            let mut none = Value::object();
            none.set(&[n::KEY], ALL_OR_NONE);
            none.set(&[n::OPERATOR], "Exists");
            selector.set(&[n::MATCH_EXPRESSIONS], vec![none]);
        }
        [only] if alone && all(only) => *selector = Value::object(),
        all if all.iter().any(marks) => {
            let kept: Vec<Value> = all.iter().filter(|e| !marks(e)).cloned().collect();
            selector.set(&[n::MATCH_EXPRESSIONS], kept);
        }
        _ => {}
    }
}

const RBAC: &str = "rbac.authorization.k8s.io";

/// `rbac.authorization.k8s.io/v1alpha1` names the group of a subject by a version, and takes the user `*` for everybody who
/// is authenticated.
pub(super) fn binding(binding: &mut Map) {
    each(binding.get_mut(n::SUBJECTS), |subject| {
        let version = subject.remove(n::API_VERSION);
        let kind = text(subject.get(n::KIND)).to_owned();
        let group = match &*kind {
            "ServiceAccount" => "",
            "User" | "Group" => RBAC,
            _ => match text(version.as_ref()).split('/').collect::<Vec<_>>()[..] {
                [group, _] => group,
                _ => "",
            },
        };
        if !group.is_empty() {
            subject.insert(n::API_GROUP, group);
        }
        if kind == "User" && text(subject.get(n::NAME)) == "*" {
            subject.insert(n::KIND, "Group");
            subject.insert(n::NAME, "system:authenticated");
        }
    });
}

/// Shares of a priority level that says nothing of them (`PriorityLevelConfigurationDefaultAssuredConcurrencyShares`).
const SHARES: i64 = 30;
/// By which `flowcontrol.apiserver.k8s.io/v1beta3` tells that no shares are meant to be none.
const NO_SHARES: &str = "flowcontrol.k8s.io/v1beta3-preserve-zero-concurrency-shares";

/// `flowcontrol.apiserver.k8s.io/v1beta1` and v1beta2 have another name for the shares of a level.
pub(super) fn assured_shares(level: &mut Map) {
    let spec = level.get_mut(n::SPEC);
    if let Some(limited) = spec
        .and_then(|spec| spec.get_mut(n::LIMITED))
        .and_then(Value::as_map_mut)
    {
        rename(
            limited,
            n::ASSURED_CONCURRENCY_SHARES,
            n::NOMINAL_CONCURRENCY_SHARES,
        );
        default_shares(limited, SHARES);
    }
}

/// `flowcontrol.apiserver.k8s.io/v1beta3` has a number where v1 has a pointer.
pub(super) fn nominal_shares(level: &mut Map) {
    let metadata = level.get_mut(n::METADATA).and_then(Value::as_map_mut);
    let mut meant = false;
    if let Some(metadata) = metadata
        && let Some(annotations) = metadata.get_mut(n::ANNOTATIONS).and_then(Value::as_map_mut)
    {
        meant = annotations.remove(NO_SHARES).is_some();
        if annotations.is_empty() {
            metadata.remove(n::ANNOTATIONS);
        }
    }
    let spec = level.get_mut(n::SPEC);
    if let Some(limited) = spec
        .and_then(|spec| spec.get_mut(n::LIMITED))
        .and_then(Value::as_map_mut)
    {
        default_shares(limited, if meant { 0 } else { SHARES });
    }
}

fn default_shares(limited: &mut Map, shares: i64) {
    let there = limited.entry(n::NOMINAL_CONCURRENCY_SHARES);
    if matches!(there, Value::Null | Value::Int(0)) {
        *there = shares.into();
    }
}

/// `certificates.k8s.io/v1beta1` has defaults of its own (`SetDefaults_CertificateSigningRequestSpec`).
pub(super) fn signing_request(request: &mut Map) {
    if let Some(spec) = request.get_mut(n::SPEC).and_then(Value::as_map_mut) {
        let usages = spec.entry(n::USAGES);
        if usages.is_null() {
            *usages = vec!["digital signature", "key encipherment"].into();
        }
    }
    let conditions = request
        .get_mut(n::STATUS)
        .and_then(|status| status.get_mut(n::CONDITIONS));
    each(conditions, |condition| {
        if text(condition.get(n::STATUS)).is_empty() {
            condition.insert(n::STATUS, "True");
        }
    });
}

fn text(value: Option<&Value>) -> &str {
    value.and_then(Value::as_str).unwrap_or_default()
}
