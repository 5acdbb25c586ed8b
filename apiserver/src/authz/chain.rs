//! The configured authorizers, in order.
//!
//! Those that know by themselves are asked in place; only a webhook is waited for. What must be kept
//! in memory (roles, the graph of nodes) is built once: a configuration that is read again puts the
//! same authorizers into another order and brings new webhooks, and must name all others that the
//! first did. Upstream: `pkg/kubeapiserver/authorizer`, `apiserver/pkg/authorization/union`.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use component::Supervisor;
use component::metrics::{Buckets, Counters, Histograms, Metrics};
use parking_lot::{Mutex, RwLock};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use super::config::{self, Entry, Kind};
use super::webhook::{self, Webhook};
use super::{Always, Attributes, Authorizer, Decision, Rules, abac, node, rbac};
use crate::auth::User;
use crate::config::authorization::{Authorization, Source};
use crate::registry::Registry;
use crate::reload::ConfigFile;

/// A decision, and all that is to be told of it.
#[derive(Clone, PartialEq, Debug)]
pub struct Outcome {
    pub decision: Decision,
    /// Why it is allowed; empty if nobody says.
    pub reason: String,
    /// What went wrong on the way.
    pub error: Option<String>,
}

impl Outcome {
    fn allowed() -> Self {
        Self {
            decision: Decision::Allow,
            reason: String::new(),
            error: None,
        }
    }
}

/// Whom to ask, and what is counted of the answers.
struct Step {
    name: String,
    way: Way,
    allowed: Counter,
    denied: Counter,
}

enum Way {
    Local(Arc<dyn Authorizer>),
    Webhook(Box<Webhook>),
}

/// Authorizers in order.
struct Chain(Vec<Step>);

impl Chain {
    /// With `explained`, an allowed request is told why; otherwise nobody looks for the reason.
    async fn ask(&self, asked: &Attributes<'_>, explained: bool) -> Outcome {
        let (mut reasons, mut errors) = (Vec::new(), Vec::new());
        for step in &self.0 {
            let answer = match &step.way {
                Way::Local(local) => local_answer(&**local, asked, explained),
                Way::Webhook(webhook) => Box::pin(webhook.ask(asked)).await,
            };
            match &answer.decision {
                Decision::Allow => {
                    step.allowed.inc();
                    return answer;
                }
                Decision::Deny(_) => {
                    step.denied.inc();
                    return answer;
                }
                Decision::NoOpinion(reason) if reason.is_empty() => {}
                Decision::NoOpinion(reason) => reasons.push(format!("{}: {reason}", step.name)),
            }
            errors.extend(answer.error);
        }
        Outcome {
            decision: Decision::NoOpinion(reasons.join("\n")),
            reason: String::new(),
            error: (!errors.is_empty()).then(|| proto::path::aggregate(&errors)),
        }
    }
}

fn local_answer(local: &dyn Authorizer, asked: &Attributes<'_>, explained: bool) -> Outcome {
    let decision = local.authorize(asked);
    let reason = if explained && decision == Decision::Allow {
        local.reason(asked)
    } else {
        String::new()
    };
    Outcome {
        decision,
        reason,
        error: None,
    }
}

/// The configured authorizers.
pub struct Authorizers {
    current: RwLock<Arc<Chain>>,
    reload: Option<Reload>,
    rbac: Option<rbac::Rbac>,
    counted: Counted,
}

/// What a configuration that changes needs.
struct Reload {
    file: ConfigFile,
    parts: Parts,
    /// One at a time.
    busy: Mutex<()>,
}

/// What chains are built from; it stays the same.
struct Parts {
    local: Vec<(Kind, Arc<dyn Authorizer>)>,
    tasks: Supervisor,
    metrics: Metrics,
    decisions: Counters<3>,
    webhooks: webhook::Counted,
}

impl Authorizers {
    /// Builds what the configuration names. `server` is this server's identity.
    ///
    /// # Errors
    /// If a file cannot be used.
    pub fn open(
        given: &Authorization,
        registry: &Registry,
        tasks: &Supervisor,
        metrics: &Metrics,
        server: &str,
    ) -> anyhow::Result<Self> {
        let (entries, file) = match &given.source {
            Source::Flags(entries) => (entries.clone(), None),
            Source::File(path) => {
                let subsystem = "authorization_config_controller";
                let (file, text) = ConfigFile::open(path, metrics, subsystem, server)
                    .with_context(|| format!("--authorization-config {}", path.display()))?;
                let entries = config::read(&text, &[])
                    .with_context(|| format!("--authorization-config {}", path.display()))?;
                (entries, Some(file))
            }
        };
        let rbac = entries.iter().any(|e| e.kind == Kind::Rbac);
        let rbac = rbac.then(|| rbac::Rbac::new(registry, tasks)).transpose()?;
        let mut local = Vec::new();
        for kind in entries.iter().map(|e| e.kind) {
            let opened: Arc<dyn Authorizer> = match (kind, &rbac) {
                (Kind::Webhook, _) => continue,
                (Kind::Rbac, Some(rbac)) => Arc::new(rbac.clone()),
                _ => open_local(kind, given, registry, tasks)?,
            };
            local.push((kind, opened));
        }
        let decisions = metrics.registered(
            "apiserver_authorization_decisions_total",
            "Decisions to allow or to deny, by authorizer",
            Family::default(),
        );
        let parts = Parts {
            local,
            tasks: tasks.clone(),
            metrics: metrics.clone(),
            decisions,
            webhooks: webhook::Counted::register(metrics),
        };
        Ok(Self {
            current: RwLock::new(Arc::new(parts.chain(&entries)?)),
            reload: file.map(|file| Reload {
                file,
                parts,
                busy: Mutex::new(()),
            }),
            rbac,
            counted: Counted::register(metrics),
        })
    }

    /// These, in this order.
    #[must_use]
    pub fn fixed(of: Vec<(&str, Arc<dyn Authorizer>)>) -> Self {
        let step = |(name, authorizer): (&str, _)| Step {
            name: name.to_owned(),
            way: Way::Local(authorizer),
            allowed: Counter::default(),
            denied: Counter::default(),
        };
        Self {
            current: RwLock::new(Arc::new(Chain(of.into_iter().map(step).collect()))),
            reload: None,
            rbac: None,
            counted: Counted::register(&Metrics::new()),
        }
    }

    fn chain(&self) -> Arc<Chain> {
        Arc::clone(&self.current.read())
    }

    /// Whether somebody may do everything. Every question looks whether the configuration changed, his
    /// as well: on a quiet server nobody else may ask.
    fn is_master(&self, user: &User) -> bool {
        if let Some(reload) = &self.reload {
            reload.look(&self.current);
        }
        user.is_in(User::MASTERS)
    }

    /// The roles and bindings, if they are asked.
    #[must_use]
    pub fn rbac(&self) -> Option<&rbac::Rbac> {
        self.rbac.as_ref()
    }

    /// May this be done. For whoever needs no more than that.
    pub async fn decide(&self, asked: &Attributes<'_>) -> Decision {
        if self.is_master(asked.user) {
            return Decision::Allow;
        }
        self.chain().ask(asked, false).await.decision
    }

    /// May this be done, why, and what went wrong on the way.
    pub async fn explain(&self, asked: &Attributes<'_>) -> Outcome {
        if self.is_master(asked.user) {
            return Outcome::allowed();
        }
        self.chain().ask(asked, true).await
    }

    /// The decision about a request, which is counted; the reason only if it is wanted.
    pub async fn admit(&self, asked: &Attributes<'_>, explained: bool) -> Outcome {
        let started = Instant::now();
        let outcome = if self.is_master(asked.user) {
            Outcome::allowed()
        } else {
            self.chain().ask(asked, explained).await
        };
        self.counted.note(&outcome, started);
        outcome
    }

    /// Everything that is allowed to a user in a namespace, as far as the authorizers can tell.
    #[must_use]
    pub fn rules_for(&self, user: &User, namespace: &str) -> Rules {
        let mut all = Rules::default();
        for step in &self.chain().0 {
            let mut found = match &step.way {
                Way::Local(local) => local.rules_for(user, namespace),
                Way::Webhook(_) => Rules {
                    rules: Vec::new(),
                    incomplete: true,
                    errors: vec![webhook::NO_RULES.to_owned()],
                },
            };
            all.rules.append(&mut found.rules);
            all.incomplete |= found.incomplete;
            all.errors.append(&mut found.errors);
        }
        all
    }
}

/// An authorizer that has nothing to do with the others.
fn open_local(
    kind: Kind,
    given: &Authorization,
    registry: &Registry,
    tasks: &Supervisor,
) -> anyhow::Result<Arc<dyn Authorizer>> {
    Ok(match kind {
        Kind::Node => Arc::new(node::Node::new(registry, tasks)?),
        Kind::AlwaysAllow => Arc::new(Always(Decision::Allow)),
        Kind::AlwaysDeny => {
            let why = "Everything is forbidden.".to_owned();
            Arc::new(Always(Decision::NoOpinion(why)))
        }
        Kind::Abac => {
            let file = given.policy_file.as_deref();
            let file = file.context("--authorization-policy-file is required for ABAC")?;
            Arc::new(abac::Abac::from_file(file)?)
        }
        Kind::Rbac | Kind::Webhook => anyhow::bail!("{} is opened elsewhere", kind.name()),
    })
}

impl Parts {
    fn chain(&self, entries: &[Entry]) -> anyhow::Result<Chain> {
        let steps = entries.iter().map(|entry| self.step(entry));
        Ok(Chain(steps.collect::<anyhow::Result<_>>()?))
    }

    fn step(&self, entry: &Entry) -> anyhow::Result<Step> {
        let (kind, name) = (entry.kind, entry.name.clone());
        let way = match &entry.webhook {
            Some(settings) => {
                let counted = self.webhooks.clone();
                let open = Webhook::open(&name, settings, &self.tasks, &self.metrics, counted);
                let open = open.with_context(|| format!("authorizer {name}"))?;
                Way::Webhook(Box::new(open))
            }
            None => {
                let known = self.local.iter().find(|(of, _)| *of == kind);
                let (_, local) = known.with_context(|| {
                    format!(
                        "authorizer type {} is not allowed if it was not enabled at initial server startup",
                        kind.name()
                    )
                })?;
                Way::Local(Arc::clone(local))
            }
        };
        let counter = |decision: &str| {
            let labels = [
                ("type", kind.name().to_owned()),
                ("name", name.clone()),
                ("decision", decision.to_owned()),
            ];
            self.decisions.get_or_create(&labels).clone()
        };
        Ok(Step {
            allowed: counter("allowed"),
            denied: counter("denied"),
            way,
            name,
        })
    }
}

impl Reload {
    /// Puts a changed configuration to use.
    fn look(&self, current: &RwLock<Arc<Chain>>) {
        let Some(_alone) = self.busy.try_lock() else {
            return;
        };
        let Some(text) = self.file.changed() else {
            return;
        };
        let required: Vec<Kind> = self.parts.local.iter().map(|(kind, _)| *kind).collect();
        let built = config::read(&text, &required)
            .map_err(anyhow::Error::from)
            .and_then(|entries| self.parts.chain(&entries));
        match built {
            Ok(chain) => {
                *current.write() = Arc::new(chain);
                tracing::info!("The configuration of authorization was read again");
                self.file.succeeded(&text);
            }
            Err(error) => self.file.failed(&format!("{error:#}")),
        }
    }
}

/// From a millisecond on, each twice as long as the one before (upstream's `ExponentialBuckets`).
const SECONDS: Buckets = Buckets(&[
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096,
    8.192, 16.384,
]);

const RESULTS: [&str; 4] = ["allowed", "denied", "no-opinion", "error"];

/// What is counted of requests (`apiserver/pkg/endpoints/filters/metrics.go`), by result.
struct Counted {
    attempts: [Counter; 4],
    durations: [Histogram; 4],
}

impl Counted {
    fn register(metrics: &Metrics) -> Self {
        let attempts = metrics.registered(
            "authorization_attempts_total",
            "Requests by what was decided",
            Counters::<1>::default(),
        );
        let durations = metrics.registered(
            "authorization_duration_seconds",
            "How long decisions took, by what was decided",
            Histograms::<1>::new_with_constructor(SECONDS),
        );
        let label = |result: &str| [("result", result.to_owned())];
        Self {
            attempts: RESULTS.map(|r| attempts.get_or_create(&label(r)).clone()),
            durations: RESULTS.map(|r| durations.get_or_create(&label(r)).clone()),
        }
    }

    fn note(&self, outcome: &Outcome, started: Instant) {
        let result = match (&outcome.decision, &outcome.error) {
            (Decision::Allow, _) => 0,
            (Decision::Deny(_), None) => 1,
            (Decision::NoOpinion(_), None) => 2,
            (_, Some(_)) => 3,
        };
        self.attempts[result].inc();
        self.durations[result].observe(started.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    /// Says the same of everything.
    fn says(name: &'static str, decision: Decision) -> (&'static str, Arc<dyn Authorizer>) {
        (name, Arc::new(Always(decision)))
    }

    fn explained(of: Vec<(&str, Arc<dyn Authorizer>)>, user: &User) -> Outcome {
        let asked = Attributes::about(user, "get", "", "v1", "pods");
        let authorizers = Authorizers::fixed(of);
        let outcome = authorizers.explain(&asked).now_or_never();
        outcome.expect("nothing is waited for")
    }

    #[test]
    fn the_first_that_decides_is_the_last_that_is_asked() {
        let nobody = User::default();
        let none = |why: &str| Decision::NoOpinion(why.to_owned());
        let no = || Decision::Deny("no".to_owned());
        let of = |list| explained(list, &nobody).decision;
        let yes = Decision::Allow;
        assert_eq!(of(vec![says("a", yes.clone()), says("b", no())]), yes);
        assert_eq!(
            of(vec![says("a", none("")), says("b", no()), says("c", yes)]),
            no()
        );
        let silent = vec![
            says("a", none("one")),
            says("b", none("")),
            says("c", none("two")),
        ];
        assert_eq!(of(silent), none("a: one\nc: two"));
    }

    #[test]
    fn masters_pass_before_anybody_is_asked() {
        let master = User {
            groups: vec![User::MASTERS.to_owned()],
            ..User::default()
        };
        let no = says("no", Decision::Deny(String::new()));
        assert_eq!(explained(vec![no], &master), Outcome::allowed());
    }
}
