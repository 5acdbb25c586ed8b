//! Webhooks of admission: servers that are asked about writes, and may change or refuse them.
//!
//! Configurations are read from the cache, compiled once per change, and asked in upstream's order: mutating ones one after
//! the other by the name of their configuration, validating ones all at once. A write that no webhook is asked about costs
//! one look-up. Configurations of webhooks and policies are never subject to webhooks, so that a wrong one can be mended; nor
//! are reviews, so that nobody is locked out by a webhook that has to ask who he is.
//!
//! ```text
//! source    what there is, and who is concerned by rule      hook, rule   compiled
//! selected  whether he is, by selectors and conditions       forms        objects in the version that he sees
//! review    what is sent and read                            call         one call and what follows from it
//! mutate, reinvocation                                       validate
//! ```
//!
//! Upstream: `apiserver/pkg/admission/plugin/webhook`.

use std::sync::Arc;
use std::time::Instant;

use resources::status::Failure;
use resources::strategies::admission_registration::is_excluded;

use super::config::Refused;
use super::live::Live;
use super::state::Around;
use super::{Attributes, Operation, Plugin};
use crate::server::Server;
use crate::webhook::reach::{Credentials, Reach};

mod call;
pub(super) mod conditions;
mod config;
pub(super) mod forms;
mod hook;
mod metrics;
mod mutate;
mod reinvocation;
pub(super) mod review;
pub(super) mod rule;
pub(super) mod selected;
pub(super) mod source;
mod validate;

pub(super) use metrics::{Families, Metrics};
pub(super) use mutate::keep_managers;
pub use reinvocation::Reinvocation;

pub(super) use review::{Objects, request};
pub(super) use source::Matched;

use source::{Concerned, Hooks};

pub(super) const MUTATING: Plugin = Plugin {
    name: "MutatingAdmissionWebhook",
    on_by_default: true,
    operations: &Operation::ALL,
    configure: Some(|state, told, around| {
        let (resource, kind) = ("mutatingwebhookconfigurations", "admit");
        let metrics = around.webhooks.of(kind, "admit");
        state.mutating_webhooks = Some(State::open(told, around, resource, metrics)?);
        Ok(())
    }),
    idle: Some(|server, write| is_idle(server, mutating(server), write)),
    mutate: Some(|server, write| {
        Box::pin(async move {
            let Some(state) = mutating(server) else {
                return Ok(());
            };
            match concerned(server, state, write).await? {
                Some(concerned) => mutate::dispatch(server, state, concerned, write).await,
                None => Ok(()),
            }
        })
    }),
    ..Plugin::OFF
};

pub(super) const VALIDATING: Plugin = Plugin {
    name: "ValidatingAdmissionWebhook",
    on_by_default: true,
    operations: &Operation::ALL,
    configure: Some(|state, told, around| {
        let (resource, kind) = ("validatingwebhookconfigurations", "validating");
        let metrics = around.webhooks.of(kind, "validate");
        state.validating_webhooks = Some(State::open(told, around, resource, metrics)?);
        Ok(())
    }),
    idle: Some(|server, write| is_idle(server, validating(server), write)),
    validate: Some(|server, write| {
        Box::pin(async move {
            let Some(state) = validating(server) else {
                return Ok(());
            };
            match concerned(server, state, write).await? {
                Some(concerned) => validate::dispatch(server, state, concerned, write).await,
                None => Ok(()),
            }
        })
    }),
    ..Plugin::OFF
};

/// What one of the two plugins knows.
pub(super) struct State {
    hooks: Arc<Live<Hooks>>,
    reach: Reach,
    metrics: Metrics,
    mutating: bool,
    /// Whether reviews are exempt.
    excludes_reviews: bool,
}

impl State {
    fn open(
        told: Option<&[u8]>,
        around: &Around<'_>,
        resource: &'static str,
        metrics: Metrics,
    ) -> Result<Self, Refused> {
        let settings = config::read(told)?;
        let credentials = match &settings.kubeconfig {
            Some(path) => Credentials::open(path)?,
            None => Credentials::default(),
        };
        let features = around.features;
        Ok(Self {
            mutating: metrics.is_mutating(),
            hooks: source::follow_configurations(around.registry, around.tasks, resource),
            reach: Reach::new(credentials, around.tasks, around.metrics),
            metrics,
            excludes_reviews: features.enabled("ExcludeAdmissionWebhookVirtualResources"),
        })
    }

    /// Whether a write is no webhook's business, whatever his rules say.
    fn is_exempt(&self, write: &Attributes<'_>) -> bool {
        let (group, name) = (write.resource.group, write.resource.name);
        group == source::GROUP && OWN.contains(&name)
            || self.excludes_reviews && is_excluded(group, name)
    }
}

/// Configurations of webhooks and policies.
const OWN: [&str; 6] = [
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
    "mutatingwebhookconfigurations",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "validatingwebhookconfigurations",
];

fn mutating(server: &Server) -> Option<&State> {
    server.admission.state.mutating_webhooks.as_ref()
}

fn validating(server: &Server) -> Option<&State> {
    server.admission.state.validating_webhooks.as_ref()
}

/// Who is asked about a write as far as rules say, of webhooks that are known.
fn by_rules(server: &Server, state: &State, write: &Attributes<'_>) -> Option<Concerned> {
    let hooks = state.hooks.current();
    if hooks.all.is_empty() || state.is_exempt(write) {
        return None;
    }
    let (operation, registry) = (write.operation, &server.registry);
    let concerned = hooks.concerned(registry, operation, write.resource, write.subresource);
    (!concerned.is_empty()).then_some(concerned)
}

/// Whether nobody is asked about a write.
fn is_idle(server: &Server, state: Option<&State>, write: &Attributes<'_>) -> bool {
    state.is_none_or(|state| state.hooks.is_known() && by_rules(server, state, write).is_none())
}

async fn concerned(
    server: &Server,
    state: &State,
    write: &Attributes<'_>,
) -> Result<Option<Concerned>, Failure> {
    let exempt = state.is_exempt(write);
    if !exempt && !state.hooks.wait_known().await {
        return Err(write.forbid("not yet ready to handle request"));
    }
    Ok(by_rules(server, state, write))
}

/// The namespace of a write as webhooks are told it: a namespace is in itself.
pub(super) fn seen_namespace<'a>(write: &Attributes<'a>) -> &'a str {
    if write.namespace.is_empty() && write.is_any("", "namespaces") {
        write.name
    } else {
        write.namespace
    }
}

/// Refuses to go on once the request's own time is over.
pub(super) fn timed_out(write: &Attributes<'_>) -> Result<(), Failure> {
    if write
        .deadline
        .is_some_and(|deadline| deadline <= Instant::now())
    {
        return Err(Failure::timeout(
            "request did not complete within requested timeout",
        ));
    }
    Ok(())
}
