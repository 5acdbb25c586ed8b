//! Writes statuses to the API server and, once a pod is over, deletes its object: upstream's
//! `pkg/kubelet/status`.
//!
//! Level-triggered: what is written is the difference between the object as last known and the
//! status as last generated, so changes that come while a write is under way become one.

use std::sync::Arc;
use std::time::Instant;

use component::client::{self, Client, Patch};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, Preconditions, Time};

use super::next::Stage;
use super::{Shared, spec, status};

/// Works the queue off.
pub(super) async fn run(shared: Arc<Shared>) {
    while let Some(uid) = shared.writes.take().await {
        let Some(api) = &shared.api else { continue };
        let began = Instant::now();
        match write(&shared, &api.client, &uid).await {
            Ok(wrote) => {
                shared.writes.forget(&uid);
                if wrote {
                    let took = began.elapsed().as_secs_f64();
                    shared.metrics.status_duration.observe(took);
                }
            }
            // The object is gone or another's, and the cache will say so.
            Err(err) if err.is_not_found() || err.is_conflict() => shared.writes.forget(&uid),
            Err(err) => {
                let error = component::supervisor::chain(&err);
                tracing::warn!(pod.uid = uid.as_str(), error, "Cannot write a pod's status");
                shared.writes.add_failed(uid.clone());
            }
        }
    }
}

/// What there is to write.
struct Job {
    /// The newest known object: the pod's, or the mirror's.
    object: Arc<Pod>,
    status: k8s_openapi::api::core::v1::PodStatus,
    may_run: bool,
    finished: bool,
}

fn job(shared: &Shared, uid: &str) -> Option<Job> {
    let registry = shared.registry.lock();
    let entry = registry.entries.get(uid)?;
    let status = entry.status.clone()?;
    let known = if spec::is_static(&entry.pod) {
        let mirror = registry.mirrors.get(&spec::full_name(&entry.pod))?;
        // One of another version of the pod is replaced first.
        let same = spec::mirrored_hash(mirror) == spec::config_hash(&entry.pod);
        same.then(|| mirror.clone())?
    } else {
        if entry.gone {
            // Its end goes on here, and nobody can be told of it any more.
            return None;
        }
        entry.pod.clone()
    };
    let written = entry.written.clone();
    let same = |w: &Arc<Pod>| spec::uid(w) == spec::uid(&known) && is_newer(w, &known);
    Some(Job {
        object: written.filter(same).unwrap_or(known),
        status,
        may_run: entry.stage < Stage::Terminated,
        finished: entry.stage == Stage::Finished,
    })
}

fn is_newer(a: &Pod, b: &Pod) -> bool {
    let version = |pod: &Pod| pod.metadata.resource_version.as_ref()?.parse::<u64>().ok();
    version(a) > version(b)
}

/// Whether something was written.
async fn write(shared: &Shared, client: &Client, uid: &str) -> Result<bool, client::Error> {
    let Some(job) = job(shared, uid) else {
        return Ok(false);
    };
    let mut object = job.object;
    let pods = client.namespaced::<Pod>(spec::namespace(&object));
    let name = spec::name(&object).to_owned();
    let now = Time(component::clock::now());
    let merged = status::merged(&object, &job.status, job.may_run, &now);
    let none = k8s_openapi::api::core::v1::PodStatus::default();
    let old = object.status.as_ref().unwrap_or(&none);
    let change = status::patch::patch(spec::uid(&object), old, &merged);
    let wrote = change.is_some();
    if let Some(change) = change {
        object = Arc::new(
            pods.patch_status(&name, &Patch::strategic(&change)?)
                .await?,
        );
        if let Some(entry) = shared.registry.lock().entries.get_mut(uid) {
            entry.written = Some(object.clone());
        }
    }
    let deletable = spec::is_being_deleted(&object)
        && spec::mirrored_hash(&object).is_none()
        && spec::is_terminal(spec::phase(&object));
    if job.finished && deletable {
        pods.delete(&name, &final_deletion(spec::uid(&object)))
            .await?;
    }
    Ok(wrote)
}

/// Takes the object away at once, if it is still this one.
pub(super) fn final_deletion(uid: &str) -> DeleteOptions {
    DeleteOptions {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        }),
        ..DeleteOptions::default()
    }
}
