//! Keeps the objects that every cluster has.
//!
//! Missing ones are made. Mandatory ones are put right, suggested ones as long as nobody took them over,
//! which the annotation says. What an earlier version kept and this one does not know goes. Upstream:
//! `registry/flowcontrol/{rest,ensurer}`.

use std::sync::Arc;
use std::time::Duration;

use proto::catalogue::names as n;
use proto::{Value, meta};
use resources::equal::same_at;
use resources::object;
use resources::status::Failure;
use resources::strategies::flowcontrol::bootstrap::{self, AUTO_UPDATE, Kind};
use tokio::time::{Instant, sleep, sleep_until};

use super::controller::{Followed, GROUP, LEVELS, SCHEMAS};
use crate::bootstrap::{Hook, Own};
use crate::handler::create;
use crate::registry::Endpoint;
use crate::server::Server;

/// Who the objects are written by.
const MANAGER: &str = "api-priority-and-fairness-config-producer-v1";
/// How long a change is left alone: `kubectl replace --force` deletes an object and makes it again.
const SETTLE: Duration = Duration::from_secs(5);
/// Objects are not put right more often: a server of another version may see it otherwise.
const PERIOD: Duration = Duration::from_secs(60);

pub(crate) const HOOK: Hook = Hook {
    name: "priority-and-fairness-config-producer",
    once: |server| Box::pin(async move { ensure(&server, true).await }),
    keep: None,
    end: None,
};

/// Keeps the objects whenever one changes. Never returns.
pub(super) async fn keep(server: Arc<Server>, followed: Arc<Followed>) {
    let mut unchecked = false;
    let mut due = Instant::now() + PERIOD;
    loop {
        tokio::select! {
            () = followed.kept.notified() => {
                unchecked = true;
                sleep(SETTLE).await;
            }
            () = sleep_until(due), if unchecked => {}
        }
        let whole = Instant::now() >= due;
        match ensure(&server, whole).await {
            Ok(()) if whole => {
                unchecked = false;
                due = Instant::now() + PERIOD;
            }
            Ok(()) => {}
            Err(failure) => {
                tracing::warn!(error = %failure, "Flow schemas and priority levels cannot be kept, it will be tried again");
                due = Instant::now() + SETTLE;
            }
        }
    }
}

/// Makes what is missing; puts the rest right too if `whole`.
async fn ensure(server: &Arc<Server>, whole: bool) -> Result<(), Failure> {
    let endpoint = |resource| server.registry.any_version(GROUP, resource);
    let (Some(levels), Some(schemas)) = (endpoint(LEVELS), endpoint(SCHEMAS)) else {
        return Ok(());
    };
    levels.collection.wait_ready().await;
    schemas.collection.wait_ready().await;
    for kind in [Kind::Suggested, Kind::Mandatory] {
        let of = |all: Vec<(Kind, Value)>| all.into_iter().filter(move |(k, _)| *k == kind);
        for (endpoint, all) in [
            (levels, of(bootstrap::levels().collect())),
            (schemas, of(bootstrap::schemas().collect())),
        ] {
            for (_, object) in all {
                ensure_one(server, endpoint, kind, object, whole).await?;
            }
        }
    }
    if whole {
        let names = |all: &mut dyn Iterator<Item = (Kind, Value)>| -> Vec<String> {
            all.map(|(_, o)| meta::name(&o).to_owned()).collect()
        };
        remove_unknown(server, SCHEMAS, &names(&mut bootstrap::schemas())).await?;
        remove_unknown(server, LEVELS, &names(&mut bootstrap::levels())).await?;
    }
    Ok(())
}

async fn ensure_one(
    server: &Arc<Server>,
    endpoint: &Endpoint,
    kind: Kind,
    object: Value,
    whole: bool,
) -> Result<(), Failure> {
    let own = Own::new(server, GROUP, endpoint.resource.name, "")?.managed_by(MANAGER);
    let name = meta::name(&object).to_owned();
    let Some(entry) = endpoint.collection.peek(&name) else {
        return own.create_if_absent(object).await.map(drop);
    };
    if !whole {
        return Ok(());
    }
    let current = object::from_body(&entry.body, &endpoint.hub)?;
    let wanted = create::default(endpoint, object)?;
    if revise(kind, &current, &wanted).is_none() {
        return Ok(());
    }
    let change = |object: &mut Value| {
        if let Some(revised) = revise(kind, object, &wanted) {
            *object = revised;
        }
    };
    match own.update(&name, change).await {
        // Deleted meanwhile: that is told of.
        Err(failure) if failure.reason() == "NotFound" => Ok(()),
        other => other,
    }
}

/// The object as it should be, if it is not so.
fn revise(kind: Kind, current: &Value, wanted: &Value) -> Option<Value> {
    let ours = kind == Kind::Mandatory || is_ours(current);
    let said = parse_bool(meta::annotation(current, AUTO_UPDATE));
    let annotate = said != Some(ours);
    let differs = ours && !same_spec(current, wanted);
    if !annotate && !differs {
        return None;
    }
    let mut revised = current.clone();
    if differs {
        let spec = wanted.get(n::SPEC).cloned().unwrap_or_default();
        revised.set(&[n::SPEC], spec);
    }
    if annotate {
        let text = if ours { "true" } else { "false" };
        meta::set_annotation(&mut revised, AUTO_UPDATE, text);
    }
    Some(revised)
}

/// Whether nobody took the object over: the annotation says so, or it was never changed.
fn is_ours(object: &Value) -> bool {
    let said = parse_bool(meta::annotation(object, AUTO_UPDATE));
    said.unwrap_or_else(|| meta::generation(object) == Some(1))
}

/// Of the exempt level people may change how many seats it has and lends.
fn same_spec(current: &Value, wanted: &Value) -> bool {
    let mut wanted = wanted.clone();
    // The schema of that name has no such part.
    if wanted.at(&[n::SPEC, n::EXEMPT]).is_some() {
        let Some(exempt) = current.at(&[n::SPEC, n::EXEMPT]) else {
            return false;
        };
        for field in [n::NOMINAL_CONCURRENCY_SHARES, n::LENDABLE_PERCENT] {
            let value = exempt.get(field).cloned().unwrap_or_default();
            wanted.set(&[n::SPEC, n::EXEMPT, field], value);
        }
    }
    same_at(current, &wanted, &[n::SPEC])
}

/// As Go's `strconv.ParseBool` reads it.
fn parse_bool(text: Option<&str>) -> Option<bool> {
    match text? {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Removes what is kept by servers, but not by this version of them.
async fn remove_unknown(
    server: &Arc<Server>,
    resource: &str,
    known: &[String],
) -> Result<(), Failure> {
    let own = Own::new(server, GROUP, resource, "")?;
    for object in server.objects(GROUP, resource) {
        let name = meta::name(&object);
        let kept = parse_bool(meta::annotation(&object, AUTO_UPDATE)) == Some(true);
        if kept && !known.iter().any(|k| k == name) {
            own.delete(name).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
