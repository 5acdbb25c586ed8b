//! What flow schemas must be: `ValidateFlowSchema*` in `pkg/apis/flowcontrol/validation`.

use proto::catalogue::names as n;
use proto::meta::names;
use proto::path::{Errors, Spot};
use proto::view::flowcontrol_v1::{FlowSchema, PolicyRulesWithSubjects, Subject};
use proto::view::{Node, View};
use proto::{NameId, Value, meta};

use super::bootstrap::mandatory_schema;
use crate::equal::same_at;
use crate::rules;
use crate::shown::Internal;

const LAST_PRECEDENCE: i64 = 10_000;
const ANY: &str = "*";
const VERBS: [&str; 9] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "proxy",
    "update",
    "watch",
];

pub(super) fn schema(object: &Value, e: &mut Errors<'_>) {
    let spec = FlowSchema::of(Node::new(object)).spec();
    let (name, at) = (meta::name(object), Spot::of(spec));
    precedence(
        e,
        at.field(n::MATCHING_PRECEDENCE),
        name,
        spec.matching_precedence(),
    );
    if let Some(method) = spec.distinguisher_method()
        && !["ByNamespace", "ByUser"].contains(&method.r#type())
    {
        let at = Spot::of(method).field(n::TYPE);
        e.not_supported(at, Internal::of(method), &["ByNamespace", "ByUser"]);
    }
    let level = spec.priority_level_configuration();
    if level.name().is_empty() {
        e.required(
            Spot::of(level).field(n::NAME),
            "must reference a priority level",
        );
    } else {
        let problems = names::subdomain_name(level.name(), false);
        rules::each(e, level, n::NAME, problems);
    }
    spec.rules().iter().for_each(|of| rule(e, of));
    let way = [n::SPEC];
    if mandatory_schema(name).is_some_and(|wanted| !same_at(object, &wanted, &way)) {
        let detail = format!("spec of '{name}' must equal the fixed value");
        e.invalid(at, Internal::of(spec), detail);
    }
    super::conditions(object, e);
}

fn precedence(e: &mut Errors<'_>, at: Spot<'_>, name: &str, precedence: i64) {
    if precedence <= 0 {
        e.invalid(at, precedence, "must be a positive value");
    }
    if precedence > LAST_PRECEDENCE {
        let detail = format!("must not be greater than {LAST_PRECEDENCE}");
        e.invalid(at, precedence, detail);
    }
    if precedence == 1 && name != "exempt" {
        let detail = "only the schema named 'exempt' may have matchingPrecedence 1";
        e.invalid(at, precedence, detail);
    }
}

fn rule(e: &mut Errors<'_>, rule: PolicyRulesWithSubjects<'_>) {
    let at = Spot::of(rule);
    if rule.subjects().is_empty() {
        let detail = "subjects must contain at least one value";
        e.required(at.field(n::SUBJECTS), detail);
    }
    rule.subjects().iter().for_each(|of| subject(e, of));
    if rule.resource_rules().is_empty() && rule.non_resource_rules().is_empty() {
        let detail = "at least one of resourceRules and nonResourceRules has to be non-empty";
        e.required(at, detail);
    }
    for of in rule.resource_rules() {
        resources(e, of.node(), of.cluster_scope());
    }
    for of in rule.non_resource_rules() {
        urls(e, of.node());
    }
}

/// `ValidateFlowSchemaSubject`: the part that its kind asks for, and no other.
fn subject(e: &mut Errors<'_>, subject: Subject<'_>) {
    const PARTS: [(&str, NameId); 3] = [
        ("ServiceAccount", n::SERVICE_ACCOUNT),
        ("User", n::USER),
        ("Group", n::GROUP),
    ];
    let (at, kind) = (Spot::of(subject), subject.kind());
    let Some((_, part)) = PARTS.iter().find(|(known, _)| *known == kind) else {
        let known = ["Group", "ServiceAccount", "User"];
        return rules::known(e, at.field(n::KIND), kind, &known);
    };
    match subject.node().get(*part).map(Node::new) {
        None => {
            let detail = format!("{} is required when subject kind is '{kind}'", part.text());
            e.required(at.field(*part), detail);
        }
        Some(of) if of.str(n::NAME).is_empty() => {
            e.required(Spot::node(of.value()).field(n::NAME), "");
        }
        Some(_) => {}
    }
    if let Some(account) = subject.service_account()
        && kind == "ServiceAccount"
    {
        let (name, namespace) = (account.name(), account.namespace());
        if !matches!(name, "" | ANY) {
            rules::each(e, account, n::NAME, names::subdomain_name(name, false));
        }
        if namespace.is_empty() {
            let detail = "must specify namespace for service account";
            e.required(Spot::of(account).field(n::NAMESPACE), detail);
        } else {
            rules::each(
                e,
                account,
                n::NAMESPACE,
                names::label_name(namespace, false),
            );
        }
    }
    for (other, part) in PARTS.iter().filter(|(other, _)| *other != kind) {
        if subject.node().get(*part).is_some() {
            let part_name = part.text();
            let detail = format!("{part_name} is forbidden when subject kind is not '{other}'");
            e.forbidden(at.field(*part), detail);
        }
    }
}

/// Whether a list is there, and is more than one that stands for all. If it is not, it says so.
fn listed(e: &mut Errors<'_>, rule: Node<'_>, field: NameId, none: &str, others: &str) -> bool {
    let (at, items) = (Spot::node(rule.value()).field(field), rule.items(field));
    if items.is_empty() {
        e.required(at, none);
        return false;
    }
    let any = rules::texts(items).any(|text| text == ANY);
    if any && items.len() > 1 {
        let detail = format!("if '*' is present, must not specify other {others}");
        e.invalid(at, rules::json(rule.get(field)), detail);
    }
    !any
}

fn verbs(e: &mut Errors<'_>, rule: Node<'_>) {
    let none = "verbs must contain at least one value";
    if listed(e, rule, n::VERBS, none, "verbs")
        && !rules::texts(rule.items(n::VERBS)).all(|verb| VERBS.contains(&verb))
    {
        let at = Spot::node(rule.value()).field(n::VERBS);
        e.not_supported(at, rules::json(rule.get(n::VERBS)), &VERBS);
    }
}

fn resources(e: &mut Errors<'_>, rule: Node<'_>, cluster: bool) {
    verbs(e, rule);
    let none = "resource rules must supply at least one api group";
    listed(e, rule, n::API_GROUPS, none, "api groups");
    let none = "resource rules must supply at least one resource";
    listed(e, rule, n::RESOURCES, none, "resources");
    let none = "resource rules that are not cluster scoped must supply at least one namespace";
    let items = rule.items(n::NAMESPACES);
    if items.is_empty() && cluster || !listed(e, rule, n::NAMESPACES, none, "namespaces") {
        return;
    }
    for item in items {
        let namespace = item.as_str().unwrap_or_default();
        for problem in names::label_name(namespace, false) {
            let detail =
                format!("each member of this list must be '*' or a DNS-1123 label; {problem}");
            e.invalid(Spot::node(item), namespace, detail);
        }
    }
}

fn urls(e: &mut Errors<'_>, rule: Node<'_>) {
    verbs(e, rule);
    let none = "nonResourceURLs must contain at least one value";
    if !listed(e, rule, n::NON_RESOURCE_URLS, none, "non-resource URLs") {
        return;
    }
    for item in rule.items(n::NON_RESOURCE_URLS) {
        let url = item.as_str().unwrap_or_default();
        if let Some(problem) = url_problem(url) {
            e.invalid(Spot::node(item), url, problem);
        }
    }
}

/// `ValidateNonResourceURLPath`. A star at the end matches slashes, too.
fn url_problem(url: &str) -> Option<&'static str> {
    let stars = url.matches('*').count();
    match url {
        "" => Some("must not be empty"),
        "/" => None,
        _ if !url.starts_with('/') => Some("must start with slash"),
        _ if url.contains(' ') => Some("must not contain white-space"),
        _ if url.contains("//") => Some("must not contain double slash"),
        _ if stars > 1 || stars == 1 && !url.ends_with("/*") => {
            Some("wildcard can only do suffix matching")
        }
        _ => None,
    }
}
