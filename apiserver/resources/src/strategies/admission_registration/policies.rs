//! What policies of admission and their bindings must be: `Validate*AdmissionPolic*` in
//! `pkg/apis/admissionregistration/validation`.

use std::collections::HashSet;

use cel::admission::{Compiler, Use};
use proto::catalogue::names as n;
use proto::meta::names;
use proto::path::{Errors, FieldError, Named, Spot};
use proto::selector::{SelectorRules, validate_label_selector};
use proto::view::admissionregistration_v1::{
    AuditAnnotation, MatchCondition, MatchResources, MutatingAdmissionPolicy,
    MutatingAdmissionPolicyBinding, Mutation, ParamKind, ParamRef, ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicySpec, Validation, Variable,
};
use proto::view::{List, Node, View};
use proto::{Value, meta};

use super::expressions::Expressions;
use super::rules::{self as shared, FAILURE_POLICIES, MATCH_POLICIES, REINVOCATION_POLICIES};
use crate::equal::same_at;
use crate::rules;
use crate::shown::Internal;

/// A policy that mutates is not asked about deletions.
const MUTATING_OPERATIONS: [&str; 4] = ["*", "CONNECT", "CREATE", "UPDATE"];

/// Conditions that an update leaves as they are, and what they speak of, are not looked at again.
fn new_conditions(new: &Value, old: Option<&Value>) -> bool {
    let kept = |field| old.is_some_and(|old| same_at(new, old, &[n::SPEC, field]));
    !(kept(n::PARAM_KIND) && kept(n::MATCH_CONDITIONS))
}

pub(super) fn validating(object: &Value, old: Option<&Value>, e: &mut Errors<'_>) {
    let spec = ValidatingAdmissionPolicy::of(Node::new(object)).spec();
    let at = Spot::of(spec);
    failure_policy(e, spec.node());
    if let Some(kind) = spec.param_kind() {
        param_kind(e, kind);
    }
    constraints(e, spec.node(), spec.match_constraints());
    let was = old.map(|old| ValidatingAdmissionPolicy::of(Node::new(old)).spec());
    let params = spec.param_kind().is_some();
    if new_conditions(object, old) {
        let kept = was.map(|was| was.match_conditions());
        conditions(e, at, spec.match_conditions(), kept, params);
    }
    let compiler = if spec.variables().is_empty() {
        Compiler::plain(params)
    } else {
        Compiler::composing(params)
    };
    let mut expressions = Expressions::new(compiler, was.into_iter().flat_map(of_validations));
    for of in spec.variables() {
        variable(e, of, &mut expressions);
    }
    if spec.validations().is_empty() && spec.audit_annotations().is_empty() {
        for field in [n::VALIDATIONS, n::AUDIT_ANNOTATIONS] {
            let detail = "validations or auditAnnotations must contain at least one item";
            e.required(at.field(field), detail);
        }
    } else {
        for of in spec.validations() {
            validation(e, of, &mut expressions);
        }
        annotations(e, object, spec, &mut expressions);
    }
}

/// The expressions that a policy has besides its conditions and variables.
fn of_validations<'a>(
    spec: ValidatingAdmissionPolicySpec<'a>,
) -> impl Iterator<Item = (Use, &'a str)> {
    let validations = spec.validations().into_iter().flat_map(|of| {
        let message = (Use::Message, of.message_expression());
        [(Use::Condition, of.expression()), message]
    });
    let annotations = spec.audit_annotations().into_iter();
    validations.chain(annotations.map(|of| (Use::AuditAnnotation, of.value_expression())))
}

/// Conditions see no variables.
fn conditions(
    e: &mut Errors<'_>,
    at: Spot<'_>,
    conditions: List<'_, MatchCondition<'_>>,
    kept: Option<List<'_, MatchCondition<'_>>>,
    params: bool,
) {
    if !conditions.is_empty() {
        let kept = kept.into_iter().flat_map(shared::of_conditions);
        let mut expressions = Expressions::new(Compiler::plain(params), kept);
        shared::conditions(e, at, conditions, &mut expressions);
    }
}

fn failure_policy(e: &mut Errors<'_>, spec: Node<'_>) {
    let at = Spot::node(spec.value()).field(n::FAILURE_POLICY);
    match spec.opt_str(n::FAILURE_POLICY) {
        None => e.required(at, ""),
        Some(policy) => rules::known(e, at, policy, &FAILURE_POLICIES),
    }
}

fn param_kind(e: &mut Errors<'_>, kind: ParamKind<'_>) {
    let at = Spot::of(kind).field(n::API_VERSION);
    if rules::required(e, kind, n::API_VERSION) {
        api_version(e, at, kind.api_version());
    }
    if rules::required(e, kind, n::KIND) {
        let problems = names::dns_1035_label_problems(&kind.kind().to_lowercase());
        if !problems.is_empty() {
            let rule = problems.join(",");
            let detail = format!("may have mixed case, but should otherwise match: {rule}");
            e.invalid(Spot::of(kind).field(n::KIND), kind.kind(), detail);
        }
    }
}

fn api_version(e: &mut Errors<'_>, at: Spot<'_>, text: &str) {
    let (group, version) = match text.split_once('/') {
        _ if text == "/" => ("", ""),
        None => ("", text),
        Some((_, version)) if version.contains('/') => {
            let detail = format!("unexpected GroupVersion string: {text}");
            return e.invalid(at, text, detail);
        }
        Some(parts) => parts,
    };
    if !group.is_empty() {
        let problems = names::dns_subdomain_problems(group);
        if !problems.is_empty() {
            e.invalid(at, group, problems.join(","));
        }
    }
    if version.is_empty() {
        return e.invalid(at, text, "version must be specified");
    }
    let problems = names::dns_1035_label_problems(version);
    if !problems.is_empty() {
        e.invalid(at, version, problems.join(","));
    }
}

/// At least one rule must say what a policy is about, for the types of its expressions.
fn constraints(e: &mut Errors<'_>, spec: Node<'_>, constraints: Option<MatchResources<'_>>) {
    let Some(constraints) = constraints else {
        return e.required(Spot::node(spec.value()).field(n::MATCH_CONSTRAINTS), "");
    };
    matches(e, constraints);
    if constraints.resource_rules().is_empty() {
        e.required(Spot::of(constraints).field(n::RESOURCE_RULES), "");
    }
}

/// `validateMatchResources`.
fn matches(e: &mut Errors<'_>, of: MatchResources<'_>) {
    let (at, node) = (Spot::of(of), of.node());
    match of.match_policy() {
        None => e.required(at.field(n::MATCH_POLICY), ""),
        Some(policy) => rules::known(e, at.field(n::MATCH_POLICY), policy, &MATCH_POLICIES),
    }
    for field in [n::NAMESPACE_SELECTOR, n::OBJECT_SELECTOR] {
        match node.get(field) {
            None => e.required(at.field(field), ""),
            Some(selector) => validate_label_selector(selector, SelectorRules::default(), e),
        }
    }
    for field in [n::RESOURCE_RULES, n::EXCLUDE_RESOURCE_RULES] {
        for rule in node.items(field) {
            named_rule(e, Node::new(rule));
        }
    }
}

/// `validateNamedRuleWithOperations`.
fn named_rule(e: &mut Errors<'_>, rule: Node<'_>) {
    let mut seen = HashSet::new();
    for item in rule.items(n::RESOURCE_NAMES) {
        let (at, name) = (Spot::node(item), item.as_str().unwrap_or_default());
        e.invalid_each(at, name, names::path_segment_problems(name));
        if !seen.insert(name) {
            e.duplicate(at, name);
        }
    }
    shared::rule(e, rule);
}

fn variable(e: &mut Errors<'_>, variable: Variable<'_>, expressions: &mut Expressions<'_>) {
    let (at, name) = (Spot::of(variable), variable.name());
    if name.trim().is_empty() {
        e.required(at.field(n::NAME), "name is not specified");
    } else if !is_identifier(name) {
        e.invalid(at.field(n::NAME), name, "must be a valid CEL identifier");
    }
    match (at.field(n::EXPRESSION), variable.expression()) {
        (at, text) if text.trim().is_empty() => e.required(at, "expression is not specified"),
        (at, text) => expressions.declare(e, at, name, text),
    }
}

/// Names that an expression can use.
fn is_identifier(name: &str) -> bool {
    names::c_identifier_problems(name).is_empty() && !cel::is_reserved(name)
}

fn validation(e: &mut Errors<'_>, validation: Validation<'_>, expressions: &mut Expressions<'_>) {
    const REASONS: [&str; 3] = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
    const EMPTY: &str = "must be non-empty if specified";
    let at = Spot::of(validation);
    match (at.field(n::EXPRESSION), validation.expression()) {
        (at, text) if text.trim().is_empty() => e.required(at, "expression is not specified"),
        (at, text) => {
            let of = (Use::Condition, text);
            expressions.check(e, at, of, of);
        }
    }
    match (
        at.field(n::MESSAGE_EXPRESSION),
        validation.message_expression(),
    ) {
        (_, "") => {}
        (at, text) if text.trim().is_empty() => e.invalid(at, text, EMPTY),
        (at, text) => {
            let of = (Use::Message, text);
            expressions.check(e, at, of, of);
        }
    }
    let message = validation.message();
    if !message.is_empty() && message.trim().is_empty() {
        e.invalid(at.field(n::MESSAGE), message, EMPTY);
    } else if message.trim().contains(['\n', '\r']) {
        e.invalid(
            at.field(n::MESSAGE),
            message,
            "must not contain line breaks",
        );
    }
    if let Some(reason) = validation.reason() {
        rules::known(e, at.field(n::REASON), reason, &REASONS);
    }
}

fn annotations(
    e: &mut Errors<'_>,
    object: &Value,
    spec: ValidatingAdmissionPolicySpec<'_>,
    expressions: &mut Expressions<'_>,
) {
    const MOST: usize = 20;
    const LONGEST: usize = 5 << 10;
    let annotations = spec.audit_annotations();
    if annotations.len() > MOST {
        let list = object.at(&[n::SPEC, n::AUDIT_ANNOTATIONS]);
        let shown = Internal(list, AuditAnnotation::MESSAGE);
        let detail = format!("must not have more than {MOST} auditAnnotations");
        e.invalid(Spot::of(spec).field(n::AUDIT_ANNOTATIONS), shown, detail);
    }
    let mut seen = HashSet::new();
    for annotation in annotations {
        let (at, key) = (Spot::of(annotation), annotation.key());
        match meta::name(object) {
            "" => {
                let detail = "requires metadata.name be non-empty";
                e.invalid(at.field(n::KEY), key, detail);
            }
            name => {
                let whole = format!("{name}/{key}");
                let problems = names::label_key_problems(&whole);
                e.invalid_each(at.field(n::KEY), whole.as_str(), problems);
            }
        }
        let given = annotation.value_expression();
        let expression = given.trim();
        let at_value = at.field(n::VALUE_EXPRESSION);
        if expression.is_empty() {
            e.required(at_value, "valueExpression is not specified");
        } else if expression.len() > LONGEST {
            e.required(
                at_value,
                format!("must not exceed {LONGEST} bytes in length"),
            );
        } else {
            let kept = (Use::AuditAnnotation, given);
            let of = (Use::AuditAnnotation, expression);
            expressions.check_shown(e, at_value, of, kept, given);
        }
        if !seen.insert(key) {
            e.duplicate(at.field(n::KEY), key);
        }
    }
}

/// `ValidateValidatingAdmissionPolicyStatusUpdate`, but for the syntax of paths.
pub(super) fn status(object: &Value, e: &mut Errors<'_>) {
    let status = ValidatingAdmissionPolicy::of(Node::new(object)).status();
    let warnings = status.type_checking().into_iter();
    for warning in warnings.flat_map(|of| of.expression_warnings()) {
        let at = Spot::of(warning);
        rules::required(e, warning, n::WARNING);
        if warning.field_ref().trim().is_empty() {
            e.required(at.field(n::FIELD_REF), "");
        }
    }
    if let Some(conditions) = status.node().get(n::CONDITIONS) {
        meta::validate_conditions(conditions, e);
    }
}

pub(super) fn mutating(object: &Value, old: Option<&Value>, e: &mut Errors<'_>) {
    let spec = MutatingAdmissionPolicy::of(Node::new(object)).spec();
    let at = Spot::of(spec);
    failure_policy(e, spec.node());
    if let Some(kind) = spec.param_kind() {
        param_kind(e, kind);
    }
    constraints(e, spec.node(), spec.match_constraints());
    if let Some(constraints) = spec.match_constraints() {
        mutates(e, constraints);
    }
    let was = old.map(|old| MutatingAdmissionPolicy::of(Node::new(old)).spec());
    let params = spec.param_kind().is_some();
    if new_conditions(object, old) {
        let kept = was.map(|was| was.match_conditions());
        conditions(e, at, spec.match_conditions(), kept, params);
    }
    let kept = was
        .into_iter()
        .flat_map(|was| was.mutations())
        .filter_map(|of| {
            let applied = of.apply_configuration()?;
            Some((Use::ApplyConfiguration, applied.expression()))
        });
    let mut expressions = Expressions::new(Compiler::composing(params), kept);
    for of in spec.variables() {
        variable(e, of, &mut expressions);
    }
    if spec.mutations().is_empty() {
        e.required(
            at.field(n::MUTATIONS),
            "mutations must contain at least one item",
        );
    }
    for of in spec.mutations() {
        mutation(e, of, &mut expressions);
    }
    let reinvocation = at.field(n::REINVOCATION_POLICY);
    rules::choice(
        e,
        reinvocation,
        spec.reinvocation_policy(),
        &REINVOCATION_POLICIES,
    );
}

/// Upstream's path names no rule.
fn mutates(e: &mut Errors<'_>, of: MatchResources<'_>) {
    let field = rules::beside(e, Spot::of(of), ".resourceRules.operations");
    for rule in of.node().items(n::RESOURCE_RULES) {
        for operation in rules::texts(Node::new(rule).items(n::OPERATIONS)) {
            if !MUTATING_OPERATIONS.contains(&operation) {
                let shown = Named(operation);
                let error = FieldError::not_supported(&*field, shown, &MUTATING_OPERATIONS);
                e.push(error);
            }
        }
    }
}

fn mutation(e: &mut Errors<'_>, mutation: Mutation<'_>, expressions: &mut Expressions<'_>) {
    const PATCHES: [&str; 2] = ["ApplyConfiguration", "JSONPatch"];
    let (at, kind) = (Spot::of(mutation), mutation.patch_type());
    let (field, other, of) = match kind {
        "JSONPatch" => (n::JSON_PATCH, n::APPLY_CONFIGURATION, Use::JsonPatch),
        "ApplyConfiguration" => {
            let of = Use::ApplyConfiguration;
            (n::APPLY_CONFIGURATION, n::JSON_PATCH, of)
        }
        _ => return rules::choice(e, at.field(n::PATCH_TYPE), kind, &PATCHES),
    };
    match mutation.node().get(field).map(Node::new) {
        None => {
            let detail = format!("must be specified when patchType is {kind}");
            e.required(at.field(field), detail);
        }
        Some(patch) => match (Spot::node(patch.value()), patch.str(n::EXPRESSION)) {
            (at, text) if text.trim().is_empty() => e.required(at.field(n::EXPRESSION), ""),
            (at, text) => {
                // Upstream looks for old patches among what was applied, too.
                let kept = (Use::ApplyConfiguration, text);
                expressions.check(e, at.field(n::EXPRESSION), (of, text.trim()), kept);
            }
        },
    }
    if mutation.node().get(other).is_some() {
        let detail = format!("must not be specified when patchType is {kind}");
        e.invalid(at.field(other), format!("{{{}}}", other.text()), detail);
    }
}

pub(super) fn mutating_binding(object: &Value, e: &mut Errors<'_>) {
    let spec = MutatingAdmissionPolicyBinding::of(Node::new(object)).spec();
    if rules::required(e, spec, n::POLICY_NAME) {
        let problems = names::subdomain_name(spec.policy_name(), false);
        rules::each(e, spec, n::POLICY_NAME, problems);
    }
    bound(e, spec.param_ref(), spec.match_resources());
    if let Some(resources) = spec.match_resources() {
        mutates(e, resources);
    }
}

/// `validateValidatingAdmissionPolicyBindingSpec`.
pub(super) fn validating_binding(object: &Value, e: &mut Errors<'_>) {
    const ACTIONS: [&str; 3] = ["Audit", "Deny", "Warn"];
    let spec = ValidatingAdmissionPolicyBinding::of(Node::new(object)).spec();
    if spec.policy_name().is_empty() {
        e.covered(|e| e.required(Spot::of(spec).field(n::POLICY_NAME), ""));
    } else {
        let problems = names::subdomain_name(spec.policy_name(), false);
        rules::each(e, spec, n::POLICY_NAME, problems);
    }
    bound(e, spec.param_ref(), spec.match_resources());
    let mut seen = HashSet::new();
    let at = Spot::of(spec).field(n::VALIDATION_ACTIONS);
    if spec.validation_actions().is_empty() {
        e.covered(|e| e.required(at, "at least one validation action is required"));
    }
    for item in spec.validation_actions() {
        let (at, action) = (Spot::node(item), item.as_str().unwrap_or_default());
        rules::known(e, at, action, &ACTIONS);
        if !seen.insert(action) {
            e.duplicate(at, Named(action));
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        let shown = rules::json(spec.node().get(n::VALIDATION_ACTIONS));
        let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        e.invalid(at, shown, detail);
    }
}

fn bound(e: &mut Errors<'_>, param: Option<ParamRef<'_>>, resources: Option<MatchResources<'_>>) {
    if let Some(param) = param {
        param_ref(e, param);
    }
    if let Some(resources) = resources {
        matches(e, resources);
    }
}

/// `validateParamRef`.
fn param_ref(e: &mut Errors<'_>, param: ParamRef<'_>) {
    const ONE: &str = "name and selector are mutually exclusive";
    let (at, name) = (Spot::of(param), param.name());
    let selector = param.node().get(n::SELECTOR);
    if !name.is_empty() {
        rules::each(e, param, n::NAME, names::path_segment_problems(name));
        if selector.is_some() {
            e.forbidden(at.field(n::NAME), ONE);
        }
    }
    if let Some(selector) = selector {
        validate_label_selector(selector, SelectorRules::default(), e);
        if !name.is_empty() {
            e.forbidden(at.field(n::SELECTOR), ONE);
        }
    }
    if name.is_empty() && selector.is_none() {
        e.required(at, "one of name or selector must be specified");
    }
    let missing = param.parameter_not_found_action().unwrap_or_default();
    rules::choice(
        e,
        at.field(n::PARAMETER_NOT_FOUND_ACTION),
        missing,
        &["Deny", "Allow"],
    );
}
