//! Auditing: who did what, when, and how it was answered, written down as events.
//!
//! A [`Policy`] says how much of a request is recorded. What is known of one is gathered in its
//! [`Trail`] on the way through the chain, and goes to the backends at each stage: once the user is
//! known, when a long-running answer starts, and when the answer is there. The order and the texts are
//! upstream's (`apiserver/pkg/audit`, `pkg/endpoints/filters/audit.go`). Without a policy there is no
//! trail, and nothing is done but to give the request an id.
//!
//! ```text
//! policy -> trail (event, latency) -> queue -> log
//!                                 \-> queue -> webhook
//! ```
//!
//! Invariant: whoever gets an answer in a blocking mode gets it after its event was delivered. A
//! request that is dropped on its way still has its last event, which nobody waits for.

use std::sync::Arc;

use component::Supervisor;
use component::metrics::Metrics;
use futures::future::join_all;
use http::{HeaderMap, HeaderName, HeaderValue, Response};

use crate::auth::User;
use crate::authz::Attributes;
use crate::body::Body;
use crate::chain::Exchange;
use crate::config::AuditConfig;

mod backend;
mod event;
mod latency;
mod log;
mod metrics;
pub(crate) mod policy;
mod trail;
mod webhook;

pub use backend::{Batch, Delivery, Mode, Throttle};
pub use latency::Part;
pub use log::{LogConfig, Rotation};
pub use trail::{Ending, Trail};
pub use webhook::WebhookConfig;

use backend::Queue;
use event::Event;
use metrics::Counters;
use policy::{Level, Policy};

/// The request's id, in both directions.
pub static ID: HeaderName = HeaderName::from_static("audit-id");

/// The id that a request brings, or a new one.
#[must_use]
pub fn id(headers: &HeaderMap) -> String {
    match headers.get(&ID).and_then(|v| v.to_str().ok()) {
        Some(given) if !given.is_empty() => given.to_owned(),
        // `new_v4` asks the kernel each time.
        _ => uuid::Builder::from_random_bytes(rand::random())
            .into_uuid()
            .to_string(),
    }
}

/// Tells the client the id of its request, unless the answer has one already.
pub fn add_id(response: &mut Response<Body>, id: &str) {
    if let Ok(value) = HeaderValue::from_str(id) {
        response.headers_mut().entry(&ID).or_insert(value);
    }
}

/// A policy and where its events go.
pub struct Audit {
    policy: Policy,
    backends: Arc<Backends>,
}

impl Audit {
    /// None without a policy, or if its events have nowhere to go.
    ///
    /// # Errors
    /// If the policy is refused, or a backend cannot be opened.
    pub fn open(
        config: &AuditConfig,
        tasks: &Supervisor,
        metrics: &Metrics,
    ) -> anyhow::Result<Option<Self>> {
        let AuditConfig {
            policy,
            log,
            webhook,
        } = config;
        let Some(file) = policy else {
            if log.is_some() || webhook.is_some() {
                tracing::info!("no audit policy file is given, no events are recorded");
            }
            return Ok(None);
        };
        let policy = Policy::load(file)
            .map_err(|e| anyhow::Error::new(e).context("loading audit policy file"))?;
        if log.is_none() && webhook.is_none() {
            return Ok(None);
        }
        let counters = Counters::register(metrics);
        let mut queues = Vec::new();
        if let Some(config) = log {
            queues.push(log::open(config, tasks, counters.clone())?);
        }
        if let Some(config) = webhook {
            let counters = counters.clone();
            queues.push(webhook::open(config, tasks, metrics, counters)?);
        }
        Ok(Some(Self {
            policy,
            backends: Arc::new(Backends { queues, counters }),
        }))
    }

    /// Begins the trail of a request, if the policy wants one.
    #[must_use]
    pub fn begin(&self, x: &Exchange, user: Option<&User>) -> Option<Trail> {
        let nobody = User::default();
        let asked = Attributes::of(user.unwrap_or(&nobody), &x.info);
        let verdict = self.policy.verdict(user, &asked);
        let level = verdict.map_or(Level::None, |v| v.level);
        self.backends.counters.level(level);
        let verdict = verdict?;
        let event = Event::new(x, user, verdict.level);
        Some(Trail::new(verdict, &self.backends, event))
    }
}

/// All that events go to.
struct Backends {
    queues: Vec<Queue>,
    counters: Counters,
}

/// An event as each backend takes it, in their order.
type Formed = Vec<Option<Vec<u8>>>;

impl Backends {
    fn form(&self, event: &Event) -> Formed {
        self.counters.event();
        self.queues.iter().map(|queue| queue.form(event)).collect()
    }

    /// Delivers an event as the modes have it; whether the request may go on.
    async fn write(&self, formed: Formed) -> bool {
        let each = self.queues.iter().zip(formed);
        let all = each.filter_map(|(queue, event)| event.map(|event| queue.write(event)));
        join_all(all).await.into_iter().all(|well| well)
    }

    /// Hands over an event without waiting.
    fn offer(&self, formed: Formed) {
        for (queue, event) in self.queues.iter().zip(formed) {
            if let Some(event) = event {
                queue.offer(event);
            }
        }
    }
}

#[cfg(test)]
mod tests;
