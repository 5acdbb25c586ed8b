//! Jobs that are to be removed a while after they ended (`ttl-after-finished-controller`).
//!
//! Source: `pkg/controller/ttlafterfinished`.

use std::sync::Arc;
use std::time::Duration;

use component::controller::Next;
use component::informer::{Event, Key, Lister};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, Preconditions};
use k8s_openapi::jiff::Timestamp;

use crate::context::Context;
use crate::error::Error;

/// Starts the controller.
///
/// # Errors
/// None.
pub fn start(cx: &Context) -> anyhow::Result<()> {
    let queue = cx.queue::<Key>("ttl_jobs_to_delete");
    let jobs = cx.informer::<Job>();
    let wake = queue.clone();
    jobs.subscribe(move |key, event| {
        if !matches!(event, Event::Deleted(_)) && end(event.object()).is_some() {
            wake.add(key.clone());
        }
    });
    let workers = cx.config().ttl_after_finished.concurrent_ttl_syncs;
    let this = Arc::new((cx.clone(), jobs.lister()));
    cx.run(workers, &queue, move |key| {
        let this = Arc::clone(&this);
        async move { reconcile(&this.0, &this.1, &key).await }
    });
    Ok(())
}

/// When a job has to go; none if it has not ended, has no such time, or goes already.
fn end(job: &Job) -> Option<Timestamp> {
    if job.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let seconds = job.spec.as_ref()?.ttl_seconds_after_finished?;
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let ended = conditions
        .iter()
        .find(|c| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True")?;
    let after = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    ended
        .last_transition_time
        .as_ref()?
        .0
        .checked_add(after)
        .ok()
}

async fn reconcile(cx: &Context, jobs: &Lister<Job>, key: &Key) -> Result<Next, Error> {
    let left = |job: &Job| {
        let end = end(job)?;
        Some(Duration::try_from(end.duration_since(cx.now())).unwrap_or_default())
    };
    match jobs.by_key(key).and_then(|job| left(&job)) {
        None => return Ok(Next::Done),
        Some(left) if !left.is_zero() => return Ok(Next::After(left)),
        Some(_) => {}
    }
    // The cache may be old: only what the server says counts.
    let api = cx.client().await?.namespaced::<Job>(key.namespace());
    let Some(job) = api.find(key.name()).await? else {
        return Ok(Next::Done);
    };
    match left(&job) {
        None => return Ok(Next::Done),
        Some(left) if !left.is_zero() => return Ok(Next::After(left)),
        Some(_) => {}
    }
    let options = DeleteOptions {
        propagation_policy: Some("Foreground".to_owned()),
        preconditions: Some(Preconditions {
            uid: job.metadata.uid.clone(),
            resource_version: None,
        }),
        ..DeleteOptions::default()
    };
    match api.delete(key.name(), &options).await {
        Err(e) if !e.is_not_found() => Err(e.into()),
        _ => Ok(Next::Done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_time_runs_from_the_end_of_the_job() {
        let job = |spec: serde_json::Value, condition: &str| -> Job {
            let at = "2026-01-01T00:00:00Z";
            let condition = json!({"type": condition, "status": "True", "lastTransitionTime": at});
            proto::typed::from_json_value(
                json!({"metadata": {}, "spec": spec, "status": {"conditions": [condition]}}),
            )
            .unwrap()
        };
        let pods = json!({"spec": {"containers": []}});
        let ttl = json!({"ttlSecondsAfterFinished": 60, "template": pods});
        assert_eq!(
            end(&job(ttl.clone(), "Failed")).unwrap().to_string(),
            "2026-01-01T00:01:00Z"
        );
        assert_eq!(end(&job(ttl, "Suspended")), None);
        assert_eq!(end(&job(json!({"template": pods}), "Complete")), None);
    }
}
