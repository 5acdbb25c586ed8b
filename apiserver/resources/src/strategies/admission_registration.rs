//! Webhooks and policies of admission.
//!
//! Whoever makes a policy or a binding must be allowed to read its parameters; that is asked for where writes are authorized.
//!
//! Upstream: `pkg/registry/admissionregistration`, `pkg/printers/internalversion`.

use proto::catalogue::{Gates, gate, names as n};
use proto::path::Spot;
use proto::view::Node;
use proto::{Map, NameId, Value, meta};

use crate::declarative::NO_OPTIONS;
use crate::strategy::{Generation, Part, Strategy};
use crate::table::{Cells, row};
use crate::warnings::Warnings;

mod expressions;
mod policies;
mod rules;
mod webhooks;

#[cfg(test)]
mod tests;

/// Names of what the server reads from its own manifests.
const RESERVED_SUFFIX: &str = ".static.k8s.io";

pub static MUTATING_WEBHOOKS: Strategy = WEBHOOKS;
pub static VALIDATING_WEBHOOKS: Strategy = WEBHOOKS;
const WEBHOOKS: Strategy = Strategy {
    validate: |cx, object, e| {
        webhooks::create(object, e);
        rules::reserved_name(cx.gates, object, e);
    },
    validate_update: |_, new, old, e| webhooks::update(new, old, e),
    warnings: |gates, object, old| {
        let mut w = reserved_name(gates, object, old);
        if gates.has(gate::EXCLUDE_ADMISSION_WEBHOOK_VIRTUAL_RESOURCES) {
            excluded_rules(&mut w, object);
        }
        w.into_vec()
    },
    generation: Generation::CountedExactly,
    ..counted(|object, now| row(object, now, [length(object, &[n::WEBHOOKS])]))
};
pub static MUTATING_POLICY: Strategy = Strategy {
    validate: |cx, object, e| {
        policies::mutating(object, None, e);
        rules::reserved_name(cx.gates, object, e);
    },
    validate_update: |_, new, old, e| policies::mutating(new, Some(old), e),
    ..counted(|object, now| {
        let mutations = length(object, &[n::SPEC, n::MUTATIONS]);
        row(object, now, [mutations, param_kind(object)])
    })
};
pub static MUTATING_BINDING: Strategy = Strategy {
    validate: |cx, object, e| {
        policies::mutating_binding(object, e);
        rules::reserved_name(cx.gates, object, e);
    },
    validate_update: |_, new, _, e| policies::mutating_binding(new, e),
    ..counted(binding)
};
pub static VALIDATING_POLICY: Strategy = Strategy {
    validate: |cx, object, e| {
        policies::validating(object, None, e);
        rules::reserved_name(cx.gates, object, e);
    },
    validate_update: |_, new, old, e| policies::validating(new, Some(old), e),
    status: Some(Part {
        validate_update: |_, new, _, e| policies::status(new, e),
        ..Part::STATUS_ALONE
    }),
    declarative: Some(NO_OPTIONS),
    warnings: |gates, object, old| reserved_name(gates, object, old).into_vec(),
    cells: Some(|object, now| {
        let validations = length(object, &[n::SPEC, n::VALIDATIONS]);
        row(object, now, [validations, param_kind(object)])
    }),
    ..Strategy::WITH_STATUS
};
pub static VALIDATING_BINDING: Strategy = Strategy {
    validate: |cx, object, e| {
        policies::validating_binding(object, e);
        rules::reserved_name(cx.gates, object, e);
    },
    validate_update: |_, new, _, e| policies::validating_binding(new, e),
    ..counted(binding)
};

/// Without a status; changes are counted all the same.
const fn counted(cells: Cells) -> Strategy {
    Strategy {
        generation: Generation::Counted,
        cells: Some(cells),
        declarative: Some(NO_OPTIONS),
        warnings: |gates, object, old| reserved_name(gates, object, old).into_vec(),
        ..Strategy::DEFAULT
    }
}

/// A name that only the server's own manifests may have: of an old object, or of a new one while nothing refuses that.
fn reserved_name<'a>(gates: Gates, object: &'a Value, old: Option<&Value>) -> Warnings<'a> {
    let mut w = Warnings::new(object);
    let refused = old.is_none() && gates.has(gate::MANIFEST_BASED_ADMISSION_CONTROL_CONFIG);
    if !refused && meta::name(object).ends_with(RESERVED_SUFFIX) {
        w.push(format!(
            "metadata.name: names ending with \"{RESERVED_SUFFIX}\" are reserved for static manifest-based configurations and cannot be managed via the API"
        ));
    }
    w
}

/// Group and resource of what no webhook is asked about: to ask would be to need the answer first.
const EXCLUDED: [(&str, &str); 6] = [
    ("authentication.k8s.io", "selfsubjectreviews"),
    ("authentication.k8s.io", "tokenreviews"),
    ("authorization.k8s.io", "localsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
    ("authorization.k8s.io", "subjectaccessreviews"),
];

/// Whether no webhook is asked about a resource, whatever its rules say.
#[must_use]
pub fn is_excluded(group: &str, resource: &str) -> bool {
    EXCLUDED.contains(&(group, resource))
}

/// Rules that name what is excluded; those with wildcards may mean everything else.
fn excluded_rules(w: &mut Warnings<'_>, object: &Value) {
    for webhook in Node::new(object).items(n::WEBHOOKS) {
        for rule in Node::new(webhook).items(n::RULES) {
            let texts = |field| {
                let items = Node::new(rule).items(field).iter();
                items.filter_map(Value::as_str).collect::<Vec<_>>()
            };
            let (groups, resources) = (texts(n::API_GROUPS), texts(n::RESOURCES));
            if groups.contains(&"*") || resources.contains(&"*") {
                continue;
            }
            let mut named = Vec::new();
            for pair in groups
                .iter()
                .flat_map(|group| resources.iter().map(move |resource| (*group, *resource)))
            {
                if EXCLUDED.contains(&pair) && !named.contains(&pair) {
                    named.push(pair);
                    let (group, resource) = pair;
                    w.at(
                        Spot::node(rule),
                        format_args!("{resource}.{group} is excluded from admission webhooks; this rule will have no effect"),
                    );
                }
            }
        }
    }
}

fn length(object: &Value, way: &[NameId]) -> Value {
    let list = object.at(way).and_then(Value::as_list);
    super::count(list.map_or(0, <[Value]>::len))
}

fn text<'v>(object: &'v Value, way: &[NameId]) -> &'v str {
    object.at(way).and_then(Value::as_str).unwrap_or_default()
}

fn param_kind(object: &Value) -> Value {
    let way = [n::SPEC, n::PARAM_KIND];
    if object.at(&way).is_none_or(Value::is_null) {
        return "<unset>".into();
    }
    let part = |field| text(object, &[n::SPEC, n::PARAM_KIND, field]);
    format!("{}/{}", part(n::API_VERSION), part(n::KIND)).into()
}

fn binding(object: &Value, now: i64) -> Vec<Value> {
    let policy = text(object, &[n::SPEC, n::POLICY_NAME]);
    row(object, now, [policy.into(), param(object).into()])
}

/// The name of the parameters, in any namespace if none is said; else what selects them.
fn param(binding: &Value) -> String {
    let part = |field| text(binding, &[n::SPEC, n::PARAM_REF, field]);
    let name = part(n::NAME);
    if !name.is_empty() {
        let namespace = Some(part(n::NAMESPACE)).filter(|space| !space.is_empty());
        return format!("{}/{name}", namespace.unwrap_or("*"));
    }
    let selector = binding.at(&[n::SPEC, n::PARAM_REF, n::SELECTOR]);
    let selector = selector.filter(|s| !s.is_null());
    selector.map_or_else(|| "<unset>".into(), as_go_prints)
}

/// A selector as Go's code for protobuf prints it, which upstream shows here.
fn as_go_prints(selector: &Value) -> String {
    let list = |of: &Value, field| {
        let list = of.get(field).and_then(Value::as_list);
        list.unwrap_or_default().to_vec()
    };
    let mut out = "&LabelSelector{MatchLabels:map[string]string{".to_owned();
    let labels = selector.get(n::MATCH_LABELS).and_then(Value::as_map);
    for (key, value) in labels.into_iter().flat_map(Map::iter) {
        let value = value.as_str().unwrap_or_default();
        out.push_str(&format!("{}: {value},", key.as_str()));
    }
    out.push_str("},MatchExpressions:[]LabelSelectorRequirement{");
    for of in list(selector, n::MATCH_EXPRESSIONS) {
        let values = list(&of, n::VALUES);
        let values: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
        out.push_str(&format!(
            "LabelSelectorRequirement{{Key:{},Operator:{},Values:[{}],}},",
            text(&of, &[n::KEY]),
            text(&of, &[n::OPERATOR]),
            values.join(" ")
        ));
    }
    out.push_str("},}");
    out
}
