//! `pods/eviction`: deletes a pod if the disruption budgets that guard it allow that.
//!
//! Upstream: `pkg/registry/core/pod/storage/eviction.go`. A budget is checked and reduced in one
//! transaction, so that evictions at the same time, here and at other servers, never break it.

use std::sync::Arc;

use http::Response;
use hyper::body::Incoming;
use proto::catalogue::{messages, names as n};
use proto::path::FieldError;
use proto::{Value, codec, meta, selector};
use resources::clock::Clock;
use resources::negotiate::{self, Encoding, Offers};
use resources::object::{self, Type};
use resources::options::{DeleteOptions, WriteOptions};
use resources::status::Failure;

use super::{read_body, write};
use crate::auth;
use crate::body::{self, Body};
use crate::chain::Exchange;
use crate::registry::Endpoint;
use crate::registry::generic::{Update, Write};
use crate::render;
use crate::server::read_failure;

/// How often a pod that changes under the eviction is looked at again; upstream's `EvictionsRetry`.
const ATTEMPTS: usize = 20;
/// As many evictions may be waiting for the disruption controller.
const MAX_DISRUPTED: usize = 2000;
/// Who reduces budgets.
const MANAGER: &str = "kube-apiserver";
const CAUSE: &str = "DisruptionBudget";
const REFUSAL: &str = "Cannot evict pod as it would violate the pod's disruption budget.";

pub async fn serve(
    x: &mut Exchange,
    endpoint: &Endpoint,
    incoming: Incoming,
) -> Result<Response<Body>, Failure> {
    let media = negotiate::output(&x.headers, &x.query, Offers::Plain)?;
    let encoding = negotiate::input(&x.headers)?;
    let body = read_body(&x.headers, incoming).await?;
    let options = WriteOptions::read(&x.query, "CreateOptions")?;
    let expected = expected(&body, encoding);
    let mut eviction = object::decode(&body, encoding, &expected, options.field_validation)?.object;
    x.record_object(&eviction, &expected);
    let name = x.info.name.clone();
    if meta::name(&eviction) != name {
        return Err(Failure::bad_request(
            "name in URL does not match name in Eviction object",
        ));
    }
    let asked = delete_options(&eviction, &options, &name)?;
    let asking = write(x, endpoint, "");
    let admitted = asking.admit_body(&name, &mut eviction, &options).await;
    let mut warnings = asking.into_warnings();
    x.warnings.append(&mut warnings);
    admitted?;
    // What follows is the server's: whoever may evict need not be allowed to delete.
    let user = auth::loopback();
    let namespace = x.info.namespace.as_str();
    let mut pods = Write::new(&x.server, endpoint, &user, namespace, MANAGER);
    pods.admitted = true;
    let evicted = Eviction {
        pods: &pods,
        name: &name,
        asked: &asked,
    }
    .run()
    .await?;
    let status = match evicted {
        Outcome::Evicted => success(),
        Outcome::SeveralBudgets => Failure::new(
            500,
            "",
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
        )
        .to_value(),
    };
    x.record_status(&status);
    let message = messages::meta_v1::STATUS;
    let bytes = render::encode(&status, message, "Status", "v1", media);
    Ok(body::answer(201, media.content_type(), body::full(bytes)))
}

/// Clients may still send the beta version, which has the same form.
fn expected(body: &[u8], encoding: Encoding) -> Type {
    let beta = "policy/v1beta1";
    let is_beta = match encoding {
        Encoding::Protobuf => codec::protobuf::open(body).is_ok_and(|o| o.api_version == beta),
        Encoding::Json | Encoding::Yaml => codec::yaml::parse(body)
            .is_ok_and(|d| d.value.get(n::API_VERSION).and_then(Value::as_str) == Some(beta)),
    };
    Type {
        group: "policy",
        version: if is_beta { "v1beta1" } else { "v1" },
        kind: "Eviction",
        message: messages::policy_v1::EVICTION,
    }
}

fn delete_options(
    eviction: &Value,
    options: &WriteOptions,
    name: &str,
) -> Result<DeleteOptions, Failure> {
    let Some(given) = eviction.get(n::DELETE_OPTIONS) else {
        return Ok(DeleteOptions {
            dry_run: options.dry_run,
            ..DeleteOptions::default()
        });
    };
    let field = n::IGNORE_STORE_READ_ERROR_WITH_CLUSTER_BREAKING_POTENTIAL;
    if given.get(field).and_then(Value::as_bool) == Some(true) {
        let error = FieldError::invalid(
            format!("deleteOptions.{}", field.text()),
            true,
            "can not be set for pod eviction, try after removing the option",
        );
        return Err(Failure::invalid("policy", "Eviction", name, &[error]));
    }
    let mut asked = DeleteOptions::from_body(given)?;
    asked.dry_run |= options.dry_run;
    Ok(asked)
}

fn success() -> Value {
    let mut status = Value::object();
    status.set(&[n::METADATA], Value::object());
    status.set(&[n::STATUS], "Success");
    status.set(&[n::CODE], 201);
    status
}

enum Outcome {
    Evicted,
    SeveralBudgets,
}

struct Eviction<'a> {
    pods: &'a Write<'a>,
    name: &'a str,
    asked: &'a DeleteOptions,
}

impl Eviction<'_> {
    async fn run(&self) -> Result<Outcome, Failure> {
        let Some(pod) = self.delete_unguarded().await? else {
            return Ok(Outcome::Evicted);
        };
        let budgets = self.budgets(&pod).await?;
        let budget = match budgets.as_slice() {
            [] => None,
            [budget] => Some(budget),
            _ => return Ok(Outcome::SeveralBudgets),
        };
        let Some(budget) = budget else {
            self.delete(self.asked).await?;
            return Ok(Outcome::Evicted);
        };
        if !is_ready(&pod) && spares_unhealthy(budget) {
            // The pod must still be what was looked at: one that became ready is guarded.
            return match self.delete(&self.pinned(&pod)).await {
                Err(f) if f.reason() == "Conflict" && self.asked.resource_version.is_none() => {
                    Err(still_processed(meta::name(budget)))
                }
                other => other.map(|()| Outcome::Evicted),
            };
        }
        self.take_from(meta::name(budget)).await?;
        self.delete(self.asked).await?;
        Ok(Outcome::Evicted)
    }

    /// The pod as it is in etcd.
    async fn pod(&self) -> Result<Value, Failure> {
        let endpoint = self.pods.endpoint;
        let found = endpoint
            .collection
            .get(&self.pods.key(self.name), store::At::Latest)
            .await
            .map_err(read_failure)?;
        let entry: Arc<store::Entry> =
            found.ok_or_else(|| Failure::not_found("", "pods", self.name))?;
        object::from_body(&entry.body, &endpoint.hub)
    }

    /// Deletes a pod that no budget guards: one that does not run yet or any more. Returns another one.
    async fn delete_unguarded(&self) -> Result<Option<Value>, Failure> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let pod = self.pod().await?;
            let phase = phase(&pod);
            let over = matches!(phase, "Succeeded" | "Failed") || meta::is_deleting(&pod);
            if !over && phase != "Pending" {
                return Ok(Some(pod));
            }
            // A pending pod may start meanwhile, and be guarded then.
            let own = self.asked.resource_version.is_some();
            let options = if over || own {
                self.asked.clone()
            } else {
                self.pinned(&pod)
            };
            match self.delete(&options).await {
                Err(f) if f.reason() == "Conflict" && !own => last = Some(f),
                other => return other.map(|()| None),
            }
        }
        Err(last.unwrap_or_else(|| Failure::internal("the pod was not looked at")))
    }

    /// The options, for this state of the pod only.
    fn pinned(&self, pod: &Value) -> DeleteOptions {
        DeleteOptions {
            resource_version: Some(meta::resource_version(pod).to_owned()),
            ..self.asked.clone()
        }
    }

    /// Tells in the pod why it goes, and deletes it.
    async fn delete(&self, options: &DeleteOptions) -> Result<(), Failure> {
        let mut options = options.clone();
        if !options.dry_run {
            let marked = self.mark(&options).await?;
            if options.resource_version.is_some() {
                options.resource_version = Some(marked.revision.to_string());
            }
        }
        self.pods.delete(self.name, &options).await.map(drop)
    }

    async fn mark(&self, options: &DeleteOptions) -> Result<Arc<store::Entry>, Failure> {
        let change = |pod: Option<&Value>| {
            let mut pod = pod
                .cloned()
                .ok_or_else(|| Failure::not_found("", "pods", self.name))?;
            check(options.uid.as_deref(), meta::uid(&pod), "UID", &pod)?;
            let have = meta::resource_version(&pod);
            check(
                options.resource_version.as_deref(),
                have,
                "ResourceVersion",
                &pod,
            )?;
            let condition = meta::Condition {
                kind: "DisruptionTarget",
                status: "True",
                reason: "EvictionByEvictionAPI",
                message: "Eviction API: evicting",
                ..meta::Condition::default()
            };
            let conditions = pod.ensure(&[n::STATUS, n::CONDITIONS]);
            meta::set_condition(conditions, condition, &Clock::now().text);
            Ok(pod)
        };
        let how = Update {
            part: self.pods.endpoint.strategy.status,
            recorded: true,
            admitted: true,
            ..Update::default()
        };
        let options = WriteOptions::default();
        let mut pods = self.write(self.pods.endpoint, self.pods.user);
        pods.subresource = "status";
        let written = pods.update(self.name, &options, how, change).await?;
        Ok(written.entry)
    }

    /// The budgets that select the pod.
    async fn budgets(&self, pod: &Value) -> Result<Vec<Value>, Failure> {
        let endpoint = self.budget_endpoint()?;
        let scope = store::Scope::Namespace(self.pods.namespace.into());
        let query = store::Query::new(scope, store::At::Latest);
        let page = endpoint
            .collection
            .list(query)
            .await
            .map_err(read_failure)?;
        let mut guards = Vec::new();
        for entry in page.entries {
            let budget = object::from_body(&entry.body, &endpoint.hub)?;
            let selects = budget
                .at(&[n::SPEC, n::SELECTOR])
                .and_then(|s| selector::LabelSelector::from_object(s).ok())
                .is_some_and(|s| s.matches_map(meta::labels(pod)));
            if selects {
                guards.push(budget);
            }
        }
        Ok(guards)
    }

    fn write<'a>(&'a self, endpoint: &'a Endpoint, user: &'a auth::User) -> Write<'a> {
        Write::new(
            self.pods.server,
            endpoint,
            user,
            self.pods.namespace,
            MANAGER,
        )
    }

    fn budget_endpoint(&self) -> Result<&Endpoint, Failure> {
        self.pods
            .server
            .registry
            .any_version("policy", "poddisruptionbudgets")
            .ok_or_else(Failure::no_such_resource)
    }

    /// Takes one disruption from a budget.
    async fn take_from(&self, budget: &str) -> Result<(), Failure> {
        let endpoint = self.budget_endpoint()?;
        let mut budgets = self.write(endpoint, self.pods.user);
        budgets.subresource = "status";
        let options = WriteOptions {
            dry_run: self.asked.dry_run,
            ..WriteOptions::default()
        };
        let change = |live: Option<&Value>| {
            let live =
                live.ok_or_else(|| Failure::not_found("policy", "poddisruptionbudgets", budget))?;
            reduced(live, self.name, &Clock::now().text)
        };
        let how = Update {
            part: endpoint.strategy.status,
            ..Update::default()
        };
        budgets
            .update(budget, &options, how, change)
            .await
            .map(drop)
    }
}

fn check(asked: Option<&str>, have: &str, what: &str, pod: &Value) -> Result<(), Failure> {
    match asked {
        Some(asked) if !asked.is_empty() && asked != have => {
            let hint = if what == "UID" {
                "The object might have been deleted and then recreated"
            } else {
                "The object might have been modified"
            };
            let why = format!(
                "the {what} in the precondition ({asked}) does not match the {what} in record ({have}). {hint}"
            );
            Err(Failure::conflict("", "Pod", meta::name(pod), &why))
        }
        _ => Ok(()),
    }
}

fn phase(pod: &Value) -> &str {
    let phase = pod.at(&[n::STATUS, n::PHASE]).and_then(Value::as_str);
    phase.unwrap_or_default()
}

fn is_ready(pod: &Value) -> bool {
    pod.at(&[n::STATUS, n::CONDITIONS])
        .and_then(|c| meta::find_condition(c, "Ready"))
        .is_some_and(|c| c.get(n::STATUS).and_then(Value::as_str) == Some("True"))
}

fn number(budget: &Value, field: proto::NameId) -> i64 {
    budget
        .at(&[n::STATUS, field])
        .and_then(Value::as_int)
        .unwrap_or(0)
}

/// Whether a pod that is not ready may go without counting: the budget says so, or has enough without.
fn spares_unhealthy(budget: &Value) -> bool {
    let policy = budget.at(&[n::SPEC, n::UNHEALTHY_POD_EVICTION_POLICY]);
    let desired = number(budget, n::DESIRED_HEALTHY);
    policy.and_then(Value::as_str) == Some("AlwaysAllow")
        || number(budget, n::CURRENT_HEALTHY) >= desired && desired > 0
}

fn still_processed(budget: &str) -> Failure {
    let why = format!("The disruption budget {budget} is still being processed by the server.");
    Failure::too_many_requests(REFUSAL, 10).with_cause(CAUSE, &why, "")
}

/// The budget with one disruption less and the pod among the disrupted; a refusal if it has none.
fn reduced(live: &Value, pod: &str, now: &str) -> Result<Value, Failure> {
    let name = meta::name(live);
    if number(live, n::OBSERVED_GENERATION) < meta::generation(live).unwrap_or(0) {
        return Err(still_processed(name));
    }
    let forbidden = |why: &str, more: &str| {
        let cause =
            format!("The disruption budget {name} does not allow evicting pods currently: {more}");
        Err(
            Failure::forbidden("policy", "poddisruptionbudget", name, why)
                .with_cause(CAUSE, &cause, ""),
        )
    };
    let allowed = number(live, n::DISRUPTIONS_ALLOWED);
    if allowed < 0 {
        let why = "pdb disruptions allowed is negative";
        return forbidden(why, why);
    }
    let disrupted = live
        .at(&[n::STATUS, n::DISRUPTED_PODS])
        .and_then(Value::as_map);
    if disrupted.is_some_and(|m| m.len() > MAX_DISRUPTED) {
        return forbidden(
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
            "too many pending evictions not confirmed by PDB controller",
        );
    }
    if allowed == 0 {
        let refused = Failure::new(429, "TooManyRequests", REFUSAL);
        return Err(refused.with_cause(CAUSE, &why_none(live), ""));
    }
    let mut budget = live.clone();
    budget.set(&[n::STATUS, n::DISRUPTIONS_ALLOWED], allowed - 1);
    if allowed == 1 {
        let condition = meta::Condition {
            kind: "DisruptionAllowed",
            status: "False",
            reason: "InsufficientPods",
            message: "",
            observed_generation: number(live, n::OBSERVED_GENERATION),
        };
        let conditions = budget.ensure(&[n::STATUS, n::CONDITIONS]);
        meta::set_condition(conditions, condition, now);
    }
    let disrupted = budget.ensure(&[n::STATUS, n::DISRUPTED_PODS]).make_map();
    disrupted.insert(pod, now);
    Ok(budget)
}

/// Why a budget allows no disruption.
fn why_none(budget: &Value) -> String {
    let name = meta::name(budget);
    let condition = budget
        .at(&[n::STATUS, n::CONDITIONS])
        .and_then(|c| meta::find_condition(c, "DisruptionAllowed"));
    let text = |field| {
        let value = condition.and_then(|c| c.get(field)).and_then(Value::as_str);
        value.unwrap_or_default()
    };
    let told = text(n::STATUS) == "False" && !text(n::MESSAGE).is_empty();
    let (current, desired) = (
        number(budget, n::CURRENT_HEALTHY),
        number(budget, n::DESIRED_HEALTHY),
    );
    let refuses = format!("The disruption budget {name} does not allow evicting pods currently");
    match text(n::REASON) {
        "SyncFailed" if told => format!("{refuses} because it failed sync: {}", text(n::MESSAGE)),
        _ if current <= desired => format!(
            "The disruption budget {name} needs {desired} healthy pods and has {current} currently"
        ),
        reason if told => format!("{refuses} ({reason}): {}", text(n::MESSAGE)),
        _ => refuses,
    }
}

#[cfg(test)]
mod tests;
