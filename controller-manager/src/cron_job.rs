//! CronJobs: jobs that begin at times. Source: `pkg/controller/cronjob`.
//!
//! A job's name follows from its time, so that a time gives one job whatever fails in between. Planned is only on
//! caches that show all own writes.

use std::sync::Arc;

use component::client::Client;
use component::controller::Next;
use component::events::{Recorder, reference};
use component::informer::{Event, Index, Informer, Key, Lister};
use component::queue::Queue;
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions;
use prometheus_client::metrics::histogram::Histogram;

use crate::context::Context;
use crate::error::Error;
use crate::writes::{LOOK_AGAIN, Writes};
use crate::{owners, update, watch};

mod plan;
mod schedule;
mod zone;

use plan::{Due, Note};

/// Seconds between a job's time and its creation; upstream's.
const SKEWS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// Starts `cronjob-controller`.
///
/// # Errors
/// None.
pub fn start(cx: &Context) -> anyhow::Result<()> {
    let queue = cx.queue::<Key>("cronjob");
    let cron_jobs: Informer<CronJob> = cx.informer();
    let jobs: Informer<Job> = cx.informer();
    let skew = Histogram::new(SKEWS);
    cx.metrics().register(
        "cronjob_controller_job_creation_skew_duration_seconds",
        "Time between when a job is scheduled and when it is created",
        skew.clone(),
    );
    let controller = Arc::new(Controller {
        cx: cx.clone(),
        cron_jobs: cron_jobs.lister(),
        by_owner: watch::by_controller(&jobs),
        jobs: jobs.lister(),
        status_writes: Writes::default(),
        job_writes: Writes::default(),
        recorder: cx.recorder().clone(),
        skew,
    });
    wake(cx, &cron_jobs, &queue);
    watch::owned::<CronJob, Job>(&jobs, &queue, watch::nobody);
    let workers = cx.config().cron_job.concurrent_cron_job_syncs;
    cx.run(workers, &queue, move |key| {
        let this = Arc::clone(&controller);
        async move { this.reconcile(key).await }
    });
    Ok(())
}

/// A new schedule is looked at when its time comes: what the old one missed does not count.
fn wake(cx: &Context, cron_jobs: &Informer<CronJob>, queue: &Queue<Key>) {
    let (cx, queue) = (cx.clone(), queue.clone());
    cron_jobs.subscribe(move |key, event| {
        let Event::Updated { old, new } = event else {
            return queue.add(key.clone());
        };
        let times = |cron: &CronJob| (cron.spec.schedule.clone(), cron.spec.time_zone.clone());
        if times(old) == times(new) {
            return queue.add(key.clone());
        }
        match plan::schedule(new) {
            Ok(schedule) => {
                let wait = plan::first_wait(new, &schedule, cx.now());
                queue.add_after(key.clone(), wait);
            }
            Err(_) => {
                let text = &new.spec.schedule;
                let said = format!("unparseable schedule for cronjob: {text}");
                let about = reference(&**new);
                cx.recorder()
                    .warning(&about, "UnParseableCronJobSchedule", &said);
            }
        }
    });
}

struct Controller {
    cx: Context,
    cron_jobs: Lister<CronJob>,
    jobs: Lister<Job>,
    by_owner: Index,
    status_writes: Writes,
    job_writes: Writes,
    recorder: Recorder,
    skew: Histogram,
}

impl Controller {
    async fn reconcile(&self, key: Key) -> Result<Next, Error> {
        let Some(cron) = self.cron_jobs.by_key(&key) else {
            self.status_writes.forget(&key);
            self.job_writes.forget(&key);
            return Ok(Next::Done);
        };
        if !self.status_writes.are_seen(&key, &self.cron_jobs)
            || !self.job_writes.are_seen(&key, &self.jobs)
        {
            return Ok(Next::After(LOOK_AGAIN));
        }
        let client = self.cx.client().await?;
        let pass = Pass {
            this: self,
            client: &client,
            key: &key,
            cron: &cron,
        };
        let mut status = cron.status.clone().unwrap_or_default();
        // What was done is told whether all could be done or not.
        let done = pass.carry_out(&mut status).await;
        let api = client.namespaced::<CronJob>(key.namespace());
        let written = update::status(&api, &*cron, |c| c.status = Some(status)).await?;
        if let Some(written) = written {
            self.status_writes.wrote(&key, &written.metadata);
        }
        done
    }
}

/// One look at one CronJob.
struct Pass<'p> {
    this: &'p Controller,
    client: &'p Client,
    key: &'p Key,
    cron: &'p CronJob,
}

impl Pass<'_> {
    async fn carry_out(&self, status: &mut CronJobStatus) -> Result<Next, Error> {
        let uid = self.cron.metadata.uid.as_deref().unwrap_or_default();
        let jobs = owners::controlled(&self.this.jobs, self.this.by_owner, uid);
        for job in plan::surplus(self.cron, &jobs) {
            // Told in an event; it is tried again at the next look.
            let _ = self.delete(status, &job).await;
        }
        self.tell(plan::observe(status, &jobs));
        self.drop_missing(status, &jobs).await?;
        let (notes, due) = plan::due(self.cron, status, self.this.cx.now());
        self.tell(notes);
        match due {
            Due::Nothing => Ok(Next::Done),
            Due::Later(wait) => Ok(Next::After(wait)),
            Due::Run { time, then } => {
                self.run(status, time).await?;
                Ok(Next::After(then))
            }
        }
    }

    fn tell(&self, notes: Vec<Note>) {
        let about = reference(self.cron);
        for note in notes {
            let Note {
                warning,
                reason,
                message,
            } = note;
            if warning {
                self.this.recorder.warning(&about, reason, &message);
            } else {
                self.this.recorder.normal(&about, reason, &message);
            }
        }
    }

    async fn find(&self, name: &str) -> Result<Option<Job>, Error> {
        let api = self.client.namespaced::<Job>(self.key.namespace());
        Ok(api.find(name).await?)
    }

    /// Forgets running jobs that are gone, after asking the server: the cache may be late.
    async fn drop_missing(
        &self,
        status: &mut CronJobStatus,
        jobs: &[Arc<Job>],
    ) -> Result<(), Error> {
        for gone in plan::missing(status, jobs) {
            let name = gone.name.as_deref().unwrap_or_default();
            if self.find(name).await?.is_none() {
                let text = format!("Active job went missing: {name}");
                self.tell(vec![Note::normal("MissingJob", text)]);
                plan::deactivate(status, gone.uid.as_deref().unwrap_or_default());
            }
        }
        Ok(())
    }

    async fn delete(&self, status: &mut CronJobStatus, job: &Job) -> Result<(), Error> {
        let name = job.metadata.name.as_deref().unwrap_or_default();
        let options = DeleteOptions {
            propagation_policy: Some("Background".to_owned()),
            ..DeleteOptions::default()
        };
        let api = self.client.namespaced::<Job>(self.key.namespace());
        if let Err(e) = api.delete(name, &options).await {
            let text = format!("Deleted job: {e}");
            self.tell(vec![Note::warning("FailedDelete", text)]);
            return Err(e.into());
        }
        self.this.job_writes.deleting(self.key, &job.metadata);
        plan::deactivate(status, job.metadata.uid.as_deref().unwrap_or_default());
        let text = format!("Deleted job {name}");
        self.tell(vec![Note::normal("SuccessfulDelete", text)]);
        Ok(())
    }

    /// Begins the job of a time.
    async fn run(&self, status: &mut CronJobStatus, time: i64) -> Result<(), Error> {
        if self.cron.spec.concurrency_policy.as_deref() == Some("Replace") {
            for running in status.active.clone().unwrap_or_default() {
                self.replace(status, running.name.as_deref().unwrap_or_default())
                    .await?;
            }
        }
        let wanted = plan::job(self.cron, time);
        let api = self.client.namespaced::<Job>(self.key.namespace());
        let job = match api.create(&wanted).await {
            Ok(job) => {
                let name = job.metadata.name.as_deref().unwrap_or_default();
                let created = job.metadata.creation_timestamp.as_ref();
                let late = created.map_or(0, |t| t.0.as_second() - time);
                self.this
                    .skew
                    .observe(f64::from(i32::try_from(late).unwrap_or(i32::MAX)));
                let text = format!("Created job {name}");
                self.tell(vec![Note::normal("SuccessfulCreate", text)]);
                job
            }
            Err(e) if e.is_already_exists() => match self.made_before(status, &wanted).await? {
                Some(job) => job,
                None => return Ok(()),
            },
            Err(e) => {
                if !e.is_namespace_terminating() {
                    let text = format!("Error creating job: {e}");
                    self.tell(vec![Note::warning("FailedCreate", text)]);
                }
                return Err(e.into());
            }
        };
        self.this.job_writes.wrote(self.key, &job.metadata);
        plan::activate(status, reference(&job), time);
        Ok(())
    }

    async fn replace(&self, status: &mut CronJobStatus, name: &str) -> Result<(), Error> {
        match self.find(name).await {
            Ok(Some(job)) => self.delete(status, &job).await,
            Ok(None) => {
                let text = format!("job {name} is gone");
                self.tell(vec![Note::warning("FailedGet", format!("Get job: {text}"))]);
                Err(Error::Unusable(text))
            }
            Err(e) => {
                self.tell(vec![Note::warning("FailedGet", format!("Get job: {e}"))]);
                Err(e)
            }
        }
    }

    /// The job of that name, if it is this one's and the status does not have it: the last look ended in between.
    async fn made_before(
        &self,
        status: &CronJobStatus,
        wanted: &Job,
    ) -> Result<Option<Job>, Error> {
        let name = wanted.metadata.name.as_deref().unwrap_or_default();
        let own = self.cron.metadata.uid.as_deref().unwrap_or_default();
        let job = self.find(name).await?;
        Ok(job.filter(|job| {
            let uid = job.metadata.uid.as_deref().unwrap_or_default();
            owners::is_controlled_by(&job.metadata, own) && !plan::is_active(status, uid)
        }))
    }
}
