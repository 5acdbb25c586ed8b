//! One webhook, compiled from its configuration.

use std::time::Duration;

use proto::catalogue::names as n;
use proto::selector::LabelSelector;
use proto::view::admissionregistration_v1::{MutatingWebhook, MutatingWebhookConfiguration};
use proto::view::{Node, View};
use proto::{Value, meta};

use super::conditions::Conditions;
use super::review::Version;
use super::rule::Rule;
use crate::webhook::reach::Way;

/// A webhook.
pub(super) struct Hook {
    pub(super) name: String,
    /// The object that it stands in.
    pub(super) configuration: String,
    /// Names need not be unique in old objects: configuration, name, and which of that name.
    pub(super) uid: String,
    pub(super) way: Way,
    pub(super) rules: Vec<Rule>,
    /// Whether it is asked about resources that are the same in another version.
    pub(super) equivalent: bool,
    pub(super) namespaces: Result<LabelSelector, String>,
    pub(super) objects: Result<LabelSelector, String>,
    pub(super) conditions: Conditions,
    pub(super) side_effects: SideEffects,
    /// What is done without an answer: nothing, or the write is refused.
    pub(super) ignores_failures: bool,
    pub(super) reinvoked: bool,
    pub(super) timeout: Option<Duration>,
    /// The first of its versions that this server speaks.
    pub(super) review: Option<Version>,
}

/// Whether a webhook may be asked about a dry run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SideEffects {
    Unsaid,
    /// None, or none on dry runs.
    Harmless,
    Harmful,
}

/// The webhooks of a configuration, in their order. Both kinds have one shape, but for what only mutating ones have.
pub(super) fn of_configuration(object: &Value) -> Vec<Hook> {
    let configuration = MutatingWebhookConfiguration::of(Node::new(object));
    let mut hooks: Vec<Hook> = Vec::new();
    for webhook in configuration.webhooks() {
        let name = webhook.name();
        let same = hooks.iter().filter(|hook| hook.name == name).count();
        let uid = format!("{}/{name}/{same}", meta::name(object));
        hooks.push(hook(webhook, meta::name(object), uid));
    }
    hooks
}

fn hook(webhook: MutatingWebhook<'_>, configuration: &str, uid: String) -> Hook {
    let selector = |field| {
        let given = webhook.node().get(field).unwrap_or(&Value::Null);
        LabelSelector::from_object(given).map_err(|e| e.to_string())
    };
    let mut versions = webhook
        .admission_review_versions()
        .iter()
        .filter_map(Value::as_str);
    let ignores_failures = webhook.failure_policy() == Some("Ignore");
    let timeout = webhook
        .timeout_seconds()
        .and_then(|s| u64::try_from(s).ok());
    Hook {
        name: webhook.name().to_owned(),
        configuration: configuration.to_owned(),
        uid,
        way: Way::new(webhook.client_config().node()),
        rules: webhook.rules().into_iter().map(Rule::read).collect(),
        equivalent: webhook.match_policy() == Some("Equivalent"),
        namespaces: selector(n::NAMESPACE_SELECTOR),
        objects: selector(n::OBJECT_SELECTOR),
        conditions: Conditions::read(webhook.match_conditions(), ignores_failures),
        side_effects: match webhook.side_effects() {
            None => SideEffects::Unsaid,
            Some("None" | "NoneOnDryRun") => SideEffects::Harmless,
            Some(_) => SideEffects::Harmful,
        },
        ignores_failures,
        reinvoked: webhook.reinvocation_policy() == Some("IfNeeded"),
        timeout: timeout.map(Duration::from_secs),
        review: versions.find_map(Version::parse),
    }
}
