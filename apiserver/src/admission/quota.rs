//! `ResourceQuota`: what is created or grows is charged to the quotas of its namespace, or refused.
//!
//! A charge is a transaction on the quota's status: however many servers create at once, the sum never
//! passes what is allowed. What a deletion gives back, and what a create that failed later should not
//! have taken, the quota controller finds when it counts.
//!
//! Upstream: `apiserver/pkg/admission/plugin/resourcequota`, `pkg/quota/v1`.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use proto::catalogue::names as n;
use proto::quantity::Quantity;
use proto::{NameId, Value, meta};
use resources::clock::{self, Clock};
use resources::object;
use resources::status::Failure;
use store::{Change, UpdateError};

use self::usage::Measure;
use super::amounts::{Amounts, add, amounts};
use super::{Attributes, Operation, Plugin, WRITES};
use crate::managed;
use crate::server::{Server, read_failure, write_failure};

mod limited;
mod scope;
mod usage;

pub(super) use limited::Limited;

pub(super) const PLUGIN: Plugin = Plugin {
    name: "ResourceQuota",
    on_by_default: true,
    operations: WRITES,
    configure: Some(|state, told, _| {
        state.limited = Limited::read(told)?;
        Ok(())
    }),
    validate: Some(|server, write| Box::pin(validate(server, write))),
    ..Plugin::OFF
};

const RESOURCE: &str = "resourcequotas";

/// One lock a namespace: creates of this server charge one after another instead of all retrying the
/// same transaction. Other servers' charges are still met as conflicts.
#[derive(Default)]
pub(super) struct Locks(Mutex<HashMap<Box<str>, Weak<tokio::sync::Mutex<()>>>>);

impl Locks {
    fn of(&self, namespace: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut all = self.0.lock();
        if let Some(lock) = all.get(namespace).and_then(Weak::upgrade) {
            return lock;
        }
        all.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::new(tokio::sync::Mutex::new(()));
        all.insert(namespace.into(), Arc::downgrade(&lock));
        lock
    }
}

async fn validate(server: &Server, write: &mut Attributes<'_>) -> Result<(), Failure> {
    if write.namespace.is_empty() || write.is_any("", "namespaces") {
        return Ok(());
    }
    let state = &server.admission.state;
    let quotas = super::in_namespace(server, "", RESOURCE, write.namespace);
    if quotas.is_empty() && state.limited.is_empty() {
        return Ok(());
    }
    let Some(asked) = Asked::of(server, write) else {
        return Ok(());
    };
    asked.covered(&state.limited, &quotas, write)?;
    if quotas.is_empty() {
        return Ok(());
    }
    let lock = state.quotas.of(write.namespace);
    let _held = lock.lock().await;
    // Those that look exhausted first: nothing is charged in vain when they are.
    let (refusing, open): (Vec<_>, Vec<_>) = quotas
        .iter()
        .partition(|quota| asked.charge(quota).is_err());
    for quota in refusing.into_iter().chain(open) {
        if matches!(asked.charge(quota), Ok(None)) {
            continue;
        }
        let name = meta::name(quota);
        if write.dry_run() {
            let current = current(server, write, name).await?;
            let charged = current.map(|quota| asked.charge(&quota)).transpose();
            charged.map_err(|why| write.forbid(&why))?;
        } else {
            charge(server, write, &asked, name).await?;
        }
    }
    Ok(())
}

/// A quota as etcd has it: what the cache says may be old, and refuses nothing.
async fn current(
    server: &Server,
    write: &Attributes<'_>,
    name: &str,
) -> Result<Option<Value>, Failure> {
    let endpoint = server
        .registry
        .any_version("", RESOURCE)
        .ok_or_else(Failure::no_such_resource)?;
    let found = endpoint
        .collection
        .get(&write.key(name), store::At::Latest)
        .await
        .map_err(read_failure)?;
    found
        .map(|entry| object::from_body(&entry.body, &endpoint.hub))
        .transpose()
}

/// Whose request it is in managed fields: upstream's client of the server itself.
const MANAGER: &str = "kube-apiserver";

/// Charges one quota. Its current state decides; one that is gone asks nothing.
async fn charge(
    server: &Server,
    write: &Attributes<'_>,
    asked: &Asked<'_>,
    name: &str,
) -> Result<(), Failure> {
    let endpoint = server
        .registry
        .any_version("", RESOURCE)
        .ok_or_else(Failure::no_such_resource)?;
    let hub = endpoint.hub;
    let attempt = |current: Option<Arc<store::Entry>>| -> Result<Change, Failure> {
        let Some(entry) = current else {
            return Ok(Change::Nothing);
        };
        let mut quota = object::from_body(&entry.body, &hub)?;
        match asked.charge(&quota).map_err(|why| write.forbid(&why))? {
            None => Ok(Change::Nothing),
            Some(used) => {
                let old = quota.clone();
                set_used(&mut quota, &used);
                let target = managed::Target {
                    registry: &server.registry,
                    endpoint,
                    subresource: "status",
                };
                let now = Clock::now().text;
                target.record(Some(&old), &mut quota, MANAGER, &now);
                Ok(Change::Put {
                    value: object::to_stored(&quota, &hub),
                    ttl: None,
                })
            }
        }
    };
    let outcome = endpoint
        .collection
        .update(&write.key(name), |current| {
            std::future::ready(attempt(current))
        })
        .await;
    match outcome {
        Ok(_) | Err(UpdateError::Write(store::WriteError::NotFound(_))) => Ok(()),
        Err(UpdateError::Refused(failure)) => Err(failure),
        Err(UpdateError::Write(error)) => Err(write_failure(&error, "", RESOURCE, name)),
    }
}

fn set_used(quota: &mut Value, used: &Amounts) {
    let map = quota.ensure(&[n::STATUS, n::USED]).make_map();
    for (name, quantity) in used {
        map.insert(name.as_str(), quantity.to_string());
    }
}

/// What a write asks for.
struct Asked<'a> {
    measure: Measure,
    object: &'a Value,
    usage: Amounts,
    /// The object as it was, with what is charged for it already.
    old: Option<(&'a Value, Amounts)>,
    /// Measured, but never refused.
    is_status: bool,
}

impl<'a> Asked<'a> {
    /// None if no quota is about such a write.
    fn of(server: &Server, write: &'a Attributes<'_>) -> Option<Self> {
        let measure = Measure::of(
            write.resource.group,
            write.resource.name,
            server.config.features.enabled("PodLevelResources"),
        )?;
        let object = write.object.as_deref()?;
        if !measure.handles(write.operation, write.subresource, object, write.old) {
            return None;
        }
        let now = clock::seconds();
        let old = write
            .old
            .filter(|_| write.operation == Operation::Update)
            .map(|old| (old, measure.usage(old, now)));
        let usage = measure.usage(object, now);
        Some(Self {
            measure,
            object,
            usage,
            old,
            is_status: write.subresource == "status",
        })
    }

    /// What of a quota is about this write; none if nothing is.
    fn restricted(&self, quota: &Value) -> Option<Vec<String>> {
        let hard = quota.at(&[n::STATUS, n::HARD]).and_then(Value::as_map);
        let names = hard.into_iter().flat_map(|hard| hard.iter());
        let names = names.map(|(name, _)| name.as_str());
        let counted: Vec<String> = names
            .filter(|name| self.measure.counts(name))
            .map(str::to_owned)
            .collect();
        let concerned = !counted.is_empty() && scope::matches(quota, &self.measure, self.object);
        concerned.then_some(counted)
    }

    /// What the write adds to a quota, or to none in particular.
    fn added(&self, quota: Option<&Value>) -> Amounts {
        let mut added = match &self.old {
            Some((old, before))
                if quota.is_none_or(|quota| scope::matches(quota, &self.measure, old)) =>
            {
                grown(&self.usage, before)
            }
            _ => self.usage.clone(),
        };
        added.retain(|_, amount| !amount.is_zero());
        added
    }

    /// # Errors
    /// If something is consumed that must be covered by a quota, and is not.
    fn covered(
        &self,
        limited: &Limited,
        quotas: &[Value],
        write: &Attributes<'_>,
    ) -> Result<(), Failure> {
        let (measure, object) = (&self.measure, self.object);
        let mut uncovered = limited.asked(write.resource, measure, object, &self.usage);
        if uncovered.is_empty() {
            return Ok(());
        }
        let mut adds = None;
        for quota in quotas {
            for scope in scope::of(quota).filter(|scope| scope::holds(*scope, measure, object)) {
                uncovered.cover_scope(scope.0);
            }
            if let Some(names) = self.restricted(quota) {
                uncovered.cover_names(&names);
                *adds.get_or_insert(false) |= !self.added(Some(quota)).is_empty();
            }
        }
        if adds.unwrap_or_else(|| !self.added(None).is_empty()) {
            uncovered.refuse(write)
        } else {
            Ok(())
        }
    }

    /// What is used of a quota after this write; none if the write is not the quota's matter.
    ///
    /// # Errors
    /// Why the quota refuses it.
    fn charge(&self, quota: &Value) -> Result<Option<Amounts>, String> {
        let listed = |field: NameId| {
            quota
                .at(&[n::STATUS, field])
                .and_then(Value::as_map)
                .map(amounts)
                .unwrap_or_default()
        };
        let (hard, used) = (listed(n::HARD), listed(n::USED));
        let Some(restricted) = self.restricted(quota) else {
            return Ok(None);
        };
        let restricted: Vec<&str> = restricted.iter().map(String::as_str).collect();
        let name = meta::name(quota);
        if let Some(why) = self.measure.missing(&restricted, self.object) {
            return Err(format!("failed quota: {name}: {why}"));
        }
        if restricted
            .iter()
            .any(|resource| !used.contains_key(*resource))
        {
            return Err(format!(
                "status unknown for quota: {name}, resources: {}",
                restricted.join(",")
            ));
        }
        let negative: Vec<&str> = self
            .usage
            .iter()
            .filter(|(_, q)| q.signum() < 0)
            .map(|(name, _)| name.as_str())
            .collect();
        if !negative.is_empty() {
            return Err(format!(
                "quota usage is negative for resource(s): {}",
                negative.join(",")
            ));
        }
        let mut requested = self.added(Some(quota));
        requested.retain(|resource, _| hard.contains_key(resource));
        if requested.is_empty() {
            return Ok(None);
        }
        let mut after = used.clone();
        add(&mut after, &requested);
        let exceeded: Vec<&str> = requested
            .keys()
            .map(String::as_str)
            .filter(|r| after.get(*r) > hard.get(*r))
            .collect();
        if exceeded.is_empty() || self.is_status {
            return Ok(Some(after));
        }
        let show = |of: &Amounts| -> String {
            let shown = exceeded.iter().map(|r| {
                format!(
                    "{r}={}",
                    of.get(*r)
                        .copied()
                        .unwrap_or(Quantity::scaled(0, 0, hard[*r].format()))
                )
            });
            shown.collect::<Vec<_>>().join(",")
        };
        let (requested, used, hard) = (show(&requested), show(&used), show(&hard));
        Err(format!(
            "exceeded quota: {name}, requested: {requested}, used: {used}, limited: {hard}"
        ))
    }
}

/// What is more than before.
fn grown(after: &Amounts, before: &Amounts) -> Amounts {
    let more = after.iter().filter_map(|(name, quantity)| {
        let more = before
            .get(name)
            .map_or(*quantity, |was| quantity.minus(*was));
        (more.signum() > 0).then(|| (name.clone(), more))
    });
    more.collect()
}

#[cfg(test)]
mod tests;
