//! Jobs: pods that run to their end, as often as asked for. Source: `pkg/controller/job`.
//!
//! Pods carry a finalizer until the status counts them ([`plan`]). Planned is only on caches that show all own writes,
//! of pods and of the job's status.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use component::client::{Client, Patch};
use component::controller::Next;
use component::events::{Recorder, reference};
use component::informer::{Event, Index, Informer, Key, Lister};
use component::queue::Queue;
use futures::future::join_all;
use k8s_openapi::Resource;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;

use crate::batch::slow_start;
use crate::context::Context;
use crate::error::Error;
use crate::selector::Selector;
use crate::writes::{LOOK_AGAIN, Writes};
use crate::{owners, pods, update, watch};

mod indexes;
mod metrics;
mod plan;
mod policy;
mod template;
mod view;

use metrics::{Action, Metrics};
use plan::{Done, Plan, Told};
use view::{Backoff, FINALIZER, Seen, is_finished, is_tracked};

/// Starts `job-controller`.
///
/// # Errors
/// None.
pub fn start(cx: &Context) -> anyhow::Result<()> {
    let queue = cx.queue::<Key>("job");
    let orphans = cx.queue::<Key>("job_orphan_pod");
    let jobs: Informer<Job> = cx.informer();
    let pods: Informer<Pod> = cx.informer();
    let controller = Arc::new(Controller {
        cx: cx.clone(),
        jobs: jobs.lister(),
        by_job: watch::by_controller(&pods),
        pods: pods.lister(),
        writes: Writes::default(),
        job_writes: Writes::default(),
        backoffs: Mutex::default(),
        metrics: Metrics::new(cx.metrics()),
        recorder: cx.recorder().clone(),
    });
    watch::own(&jobs, &queue);
    let adopters = jobs.lister();
    watch::owned::<Job, Pod>(&pods, &queue, move |pod| {
        owners::adopters(&adopters, &pod.metadata, selector)
    });
    wake_for_orphans(&jobs, &pods, controller.by_job, &orphans);
    let workers = cx.config().job.concurrent_job_syncs;
    let this = Arc::clone(&controller);
    cx.run(workers, &queue, move |key| {
        let this = Arc::clone(&this);
        async move { this.reconcile(key).await }
    });
    cx.run(1, &orphans, move |key| {
        let this = Arc::clone(&controller);
        async move { this.release_orphan(&key).await }
    });
    Ok(())
}

/// Pods that no job will count any more have to lose their finalizers.
fn wake_for_orphans(
    jobs: &Informer<Job>,
    pods: &Informer<Pod>,
    by_job: Index,
    orphans: &Queue<Key>,
) {
    let (wake, all) = (orphans.clone(), pods.lister());
    jobs.subscribe(move |_, event| {
        let job = event.object();
        if matches!(event, Event::Deleted(_)) || is_finished(job) {
            let uid = job.metadata.uid.as_deref().unwrap_or_default();
            for pod in owners::controlled(&all, by_job, uid) {
                if is_tracked(&pod) {
                    wake.add(pods::key(&pod));
                }
            }
        }
    });
    let (wake, jobs) = (orphans.clone(), jobs.lister());
    pods.subscribe(move |key, event| {
        let pod = event.object();
        if !matches!(event, Event::Deleted(_)) && is_tracked(pod) && !is_counted_by(&jobs, pod) {
            wake.add(key.clone());
        }
    });
}

/// Whether a job is there that will count a pod; other controllers' pods are theirs.
fn is_counted_by(jobs: &Lister<Job>, pod: &Pod) -> bool {
    let owner = owners::controller(&pod.metadata);
    if owner.is_some_and(|r| r.kind != Job::KIND || r.api_version != Job::API_VERSION) {
        return true;
    }
    let uid = owner.map(|r| r.uid.as_str());
    let job = owners::key::<Job>(&pod.metadata).and_then(|key| jobs.by_key(&key));
    job.is_some_and(|job| {
        let same = job.metadata.uid.as_deref() == uid;
        same && (plan::is_foreign(&job) || !is_finished(&job))
    })
}

fn selector(job: &Job) -> Option<Selector> {
    Selector::of(job.spec.as_ref()?.selector.as_ref()?).ok()
}

struct Controller {
    cx: Context,
    jobs: Lister<Job>,
    pods: Lister<Pod>,
    by_job: Index,
    writes: Writes,
    job_writes: Writes,
    backoffs: Mutex<HashMap<Key, Backoff>>,
    metrics: Metrics,
    recorder: Recorder,
}

impl Controller {
    fn forget(&self, key: &Key) {
        self.writes.forget(key);
        self.job_writes.forget(key);
        self.backoffs.lock().remove(key);
    }

    async fn reconcile(&self, key: Key) -> Result<Next, Error> {
        let Some(job) = self.jobs.by_key(&key) else {
            self.forget(&key);
            return Ok(Next::Done);
        };
        if plan::is_foreign(&job) {
            return Ok(Next::Done);
        }
        if is_finished(&job) {
            self.forget(&key);
            return Ok(Next::Done);
        }
        if !self.writes.are_seen(&key, &self.pods) || !self.job_writes.are_seen(&key, &self.jobs) {
            return Ok(Next::After(LOOK_AGAIN));
        }
        let (Some(spec), Some(selector)) = (job.spec.as_ref(), selector(&job)) else {
            return Ok(Next::Done);
        };
        let begun = Instant::now();
        let done = self.look(&key, &job, spec, &selector).await;
        let action = done
            .as_ref()
            .map_or(Action::Reconciling, |(action, _)| *action);
        self.metrics
            .synced(&job, action, done.is_ok(), begun.elapsed());
        done.map(|(_, next)| next)
    }

    /// Looks at a job that is not over.
    async fn look(
        &self,
        key: &Key,
        job: &Job,
        spec: &JobSpec,
        selector: &Selector,
    ) -> Result<(Action, Next), Error> {
        let client = self.cx.client().await?;
        let candidates = owners::children(&self.pods, self.by_job, &job.metadata);
        let owned = owners::claim(&job.metadata, candidates, |pod| {
            selector.matches(pod.metadata.labels.as_ref())
        })
        .settle(&client, job, &[FINALIZER])
        .await?;
        let seen = Seen {
            job,
            spec,
            pods: &owned,
            now: self.cx.now(),
        };
        let backoff = self.backoffs.lock().get(key).copied();
        let plan = plan::plan(&seen, backoff.unwrap_or_default());
        let (done, failure) = self.carry_out(&client, key, &seen, &plan).await;
        let gate = "MutableSchedulingDirectivesForSuspendedJobs";
        let told = plan.told(&seen, done, self.cx.features().enabled(gate));
        self.tell(&client, key, job, told).await?;
        self.backoffs.lock().insert(key.clone(), plan.backoff);
        failure.map_or(Ok(()), Err)?;
        Ok((plan.action(), plan.wait.map_or(Next::Done, Next::After)))
    }

    /// Makes and deletes pods.
    async fn carry_out(
        &self,
        client: &Client,
        key: &Key,
        seen: &Seen<'_>,
        plan: &Plan,
    ) -> (Done, Option<Error>) {
        let mut done = Done::default();
        let deletions = plan.delete.iter().map(|pod| async move {
            if !plan.counts_deleted {
                self.release(client, key, pod).await?;
            }
            pods::delete(client, &self.recorder, seen.job, pod).await?;
            self.writes.deleting(key, &pod.metadata);
            Ok::<_, Error>(pods::is_ready(pod))
        });
        let mut failure = None;
        for result in join_all(deletions).await {
            match result {
                Ok(ready) => {
                    done.deleted += 1;
                    done.deleted_ready += usize::from(ready);
                }
                Err(e) => failure = failure.or(Some(e)),
            }
        }
        let (created, error) = slow_start(plan.create.len(), |n| async move {
            let Some(new) = plan.create.get(n) else {
                return Ok(None);
            };
            let pod = template::pod(seen, new);
            match pods::create(client, &self.recorder, seen.job, &pod).await {
                Ok(pod) => Ok(Some(pod)),
                Err(Error::Client(e)) if e.is_namespace_terminating() => Ok(None),
                Err(e) => Err(e),
            }
        })
        .await;
        for pod in created.iter().flatten() {
            self.writes.wrote(key, &pod.metadata);
            done.created += 1;
        }
        self.metrics.created(
            plan.why_created(seen),
            created.len(),
            usize::from(error.is_some()),
        );
        (done, failure.or(error))
    }

    /// Writes the status, lets go of the pods that it counts, and writes what that makes of it.
    async fn tell(&self, client: &Client, key: &Key, job: &Job, told: Told) -> Result<(), Error> {
        let Told {
            status,
            release,
            end,
            turned,
        } = told;
        let before = job.clone();
        let Some(before) = self.write(client, key, before, &status).await? else {
            return Ok(());
        };
        match turned {
            Some(true) => self
                .recorder
                .normal(&reference(job), "Suspended", "Job suspended"),
            Some(false) => self
                .recorder
                .normal(&reference(job), "Resumed", "Job resumed"),
            None => {}
        }
        let releases = release.iter().map(|pod| async {
            self.release(client, key, pod).await?;
            Ok::<_, Error>(pod.metadata.uid.clone().unwrap_or_default())
        });
        let (mut gone, mut failure) = (HashSet::new(), None);
        for result in join_all(releases).await {
            match result {
                Ok(uid) => {
                    gone.insert(uid);
                }
                Err(e) => failure = failure.or(Some(e)),
            }
        }
        let mut status = status;
        plan::settle(&mut status, |uid| !gone.contains(uid));
        let end = end.filter(|end| failure.is_none() && plan::finish(&mut status, end));
        self.write(client, key, before, &status).await?;
        if let Some(end) = end {
            self.tell_end(job, &status, &end);
        }
        failure.map_or(Ok(()), Err)
    }

    fn tell_end(&self, job: &Job, status: &JobStatus, end: &JobCondition) {
        self.metrics.ended(job, end);
        let about = reference(job);
        let text = |t: &Option<String>| t.clone().unwrap_or_default();
        if end.type_ != "Complete" {
            return self
                .recorder
                .warning(&about, &text(&end.reason), &text(&end.message));
        }
        let wanted = job.spec.as_ref().and_then(|s| s.completions);
        if wanted.is_some_and(|wanted| status.succeeded.unwrap_or(0) > wanted) {
            let text = "Too many succeeded pods running after completion count reached";
            self.recorder.warning(&about, "TooManySucceededPods", text);
        }
        self.recorder.normal(&about, "Completed", "Job completed");
    }

    /// Writes a status if it differs; the job as it is then, none if it is gone.
    async fn write(
        &self,
        client: &Client,
        key: &Key,
        job: Job,
        status: &JobStatus,
    ) -> Result<Option<Job>, Error> {
        let mut new = job.clone();
        new.status = Some(status.clone());
        let api = client.namespaced::<Job>(key.namespace());
        match update::update(&api, "status", &job, &new).await {
            Ok(None) => Ok(Some(job)),
            Ok(Some(written)) => {
                let before = job.status.clone().unwrap_or_default();
                self.metrics.counted(&job, &before, status);
                self.job_writes.wrote(key, &written.metadata);
                Ok(Some(written))
            }
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Takes the finalizer from a pod of a job.
    async fn release(&self, client: &Client, key: &Key, pod: &Pod) -> Result<(), Error> {
        if let Some(released) = without_finalizer(client, pod).await? {
            self.writes.wrote(key, &released.metadata);
        }
        Ok(())
    }

    async fn release_orphan(&self, key: &Key) -> Result<Next, Error> {
        if let Some(pod) = self.pods.by_key(key)
            && is_tracked(&pod)
            && !is_counted_by(&self.jobs, &pod)
        {
            without_finalizer(&self.cx.client().await?, &pod).await?;
        }
        Ok(Next::Done)
    }
}

/// Takes the finalizer from a pod; the pod as it is then, none if it is gone or had none.
async fn without_finalizer(client: &Client, pod: &Pod) -> Result<Option<Pod>, Error> {
    if !is_tracked(pod) {
        return Ok(None);
    }
    let key = pods::key(pod);
    let meta = json!({"uid": pod.metadata.uid, "$deleteFromPrimitiveList/finalizers": [FINALIZER]});
    let patch = Patch::strategic(&json!({ "metadata": meta }))?;
    match client
        .namespaced::<Pod>(key.namespace())
        .patch(key.name(), &patch)
        .await
    {
        Ok(pod) => Ok(Some(pod)),
        // Another pod of the name is a conflict: this one is gone.
        Err(e) if e.is_not_found() || e.is_conflict() => Ok(None),
        Err(e) => Err(e.into()),
    }
}
