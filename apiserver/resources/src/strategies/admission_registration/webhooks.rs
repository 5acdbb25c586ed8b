//! What webhooks of admission must be: `Validate{Mutating,Validating}WebhookConfiguration*` in
//! `pkg/apis/admissionregistration/validation`.

use std::collections::HashSet;

use cel::admission::{Compiler, Use};
use proto::Value;
use proto::catalogue::names as n;
use proto::meta::names;
use proto::path::{Errors, Spot};
use proto::selector::{SelectorRules, validate_label_selector};
use proto::view::admissionregistration_v1::{
    MutatingWebhook, MutatingWebhookConfiguration, WebhookClientConfig,
};
use proto::view::{List, Node, View};

use super::expressions::Expressions;
use super::rules::{self as shared, FAILURE_POLICIES, MATCH_POLICIES, REINVOCATION_POLICIES};
use crate::{rules, webhook};

const SIDE_EFFECTS: [&str; 4] = ["None", "NoneOnDryRun", "Some", "Unknown"];
/// Those that new webhooks may have.
const NO_SIDE_EFFECTS: &[&str] = SIDE_EFFECTS.split_at(2).0;

/// What is asked of webhooks; of those that a stored configuration has, less, if it does not keep it.
struct Asked<'a> {
    /// None: they stay as they were. Else the expressions that they had.
    conditions: Option<Vec<(Use, &'a str)>>,
    no_side_effects: bool,
    known_reviews: bool,
    unique_names: bool,
    selectors: SelectorRules,
}

/// Both kinds have one shape, but for what only mutating ones have.
fn hooks(object: &Value) -> List<'_, MutatingWebhook<'_>> {
    MutatingWebhookConfiguration::of(Node::new(object)).webhooks()
}

pub(super) fn create(object: &Value, e: &mut Errors<'_>) {
    let asked = Asked {
        conditions: Some(Vec::new()),
        no_side_effects: true,
        known_reviews: true,
        unique_names: true,
        selectors: SelectorRules::default(),
    };
    configuration(object, &asked, e);
}

pub(super) fn update(new: &Value, old: &Value, e: &mut Errors<'_>) {
    let (now, was) = (hooks(new), hooks(old));
    let conditions = |hook: MutatingWebhook<'_>| hook.node().items(n::MATCH_CONDITIONS).to_vec();
    let same_conditions = now.len() == was.len()
        && now
            .iter()
            .zip(was)
            .all(|(now, was)| conditions(now) == conditions(was));
    let mut names = HashSet::new();
    let selectors = |hook: MutatingWebhook<'_>| {
        let selectors = [n::NAMESPACE_SELECTOR, n::OBJECT_SELECTOR];
        let mut selectors = selectors.iter().filter_map(|field| hook.node().get(*field));
        selectors.any(|selector| {
            rules::breaks(|e| validate_label_selector(selector, SelectorRules::default(), e))
        })
    };
    let asked = Asked {
        conditions: (!same_conditions).then(|| {
            let all = was.iter().map(|hook| hook.match_conditions());
            all.flat_map(shared::of_conditions).collect()
        }),
        no_side_effects: was.iter().all(|hook| {
            let effects = hook.side_effects().unwrap_or_default();
            NO_SIDE_EFFECTS.contains(&effects)
        }),
        known_reviews: was
            .iter()
            .all(|hook| webhook::may_be_asked(hook.admission_review_versions())),
        unique_names: was.iter().all(|hook| names.insert(hook.name())),
        selectors: SelectorRules {
            allow_invalid_values: was.iter().any(selectors),
            ..SelectorRules::default()
        },
    };
    configuration(new, &asked, e);
}

fn configuration(object: &Value, asked: &Asked<'_>, e: &mut Errors<'_>) {
    let mut names = HashSet::new();
    for of in hooks(object) {
        hook(e, of, asked);
        let none = format!("must specify one of {}", webhook::REVIEWS.join(", "));
        let versions = n::ADMISSION_REVIEW_VERSIONS;
        webhook::reviews(e, of, versions, &none, asked.known_reviews);
        let name = of.name();
        if asked.unique_names && !name.is_empty() && !names.insert(name) {
            e.duplicate(Spot::of(of).field(n::NAME), name);
        }
    }
}

fn hook(e: &mut Errors<'_>, hook: MutatingWebhook<'_>, asked: &Asked<'_>) {
    let (at, node) = (Spot::of(hook), hook.node());
    full_name(e, hook);
    for rule in node.items(n::RULES) {
        shared::rule(e, Node::new(rule));
    }
    for (field, known) in [
        (n::FAILURE_POLICY, FAILURE_POLICIES),
        (n::MATCH_POLICY, MATCH_POLICIES),
    ] {
        if let Some(policy) = node.opt_str(field) {
            rules::known(e, at.field(field), policy, &known);
        }
    }
    let effects: &[&str] = if asked.no_side_effects {
        NO_SIDE_EFFECTS
    } else {
        &SIDE_EFFECTS
    };
    match hook.side_effects() {
        None => {
            let detail = format!("must specify one of {}", effects.join(", "));
            e.required(at.field(n::SIDE_EFFECTS), detail);
        }
        Some(given) => rules::known(e, at.field(n::SIDE_EFFECTS), given, effects),
    }
    if let Some(seconds) = hook.timeout_seconds()
        && !(1..=30).contains(&seconds)
    {
        let detail = "the timeout value must be between 1 and 30 seconds";
        e.invalid(at.field(n::TIMEOUT_SECONDS), seconds, detail);
    }
    for field in [n::NAMESPACE_SELECTOR, n::OBJECT_SELECTOR] {
        if let Some(selector) = node.get(field) {
            validate_label_selector(selector, asked.selectors, e);
        }
    }
    if let Some(policy) = hook.reinvocation_policy() {
        let at = at.field(n::REINVOCATION_POLICY);
        rules::known(e, at, policy, &REINVOCATION_POLICIES);
    }
    client(e, hook.client_config());
    let conditions = hook.match_conditions();
    if let Some(kept) = &asked.conditions
        && !conditions.is_empty()
    {
        let kept = kept.iter().copied();
        let mut expressions = Expressions::new(Compiler::plain(false), kept);
        shared::conditions(e, Spot::of(hook), conditions, &mut expressions);
    }
}

/// `IsFullyQualifiedName`.
fn full_name(e: &mut Errors<'_>, hook: MutatingWebhook<'_>) {
    if !rules::required(e, hook, n::NAME) {
        return;
    }
    let (name, at) = (hook.name(), Spot::of(hook).field(n::NAME));
    let problems = names::dns_subdomain_problems(name);
    if !problems.is_empty() {
        e.invalid(at, name, problems.join(","));
    } else if name.split('.').count() < 3 {
        let detail = "should be a domain with at least three segments separated by dots";
        e.invalid(at, name, detail);
    }
}

fn client(e: &mut Errors<'_>, client: WebhookClientConfig<'_>) {
    match (client.url(), client.service()) {
        (Some(url), None) => webhook::url(e, Spot::of(client).field(n::URL), url),
        (None, Some(service)) => webhook::service(e, service.node()),
        _ => e.required(
            Spot::of(client),
            "exactly one of url or service is required",
        ),
    }
}
