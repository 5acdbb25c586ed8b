//! One run: a cluster, clients, faults, and the verdict over what was recorded.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::api::{NAMESPACE, World};
use super::check::{self, Verdict};
pub use super::fault::host;
use super::fault::{self, Injector, QUOTA};
use super::load::{self, Pace, Phase};
use super::observer::{self, Etcd, Observer};
use super::plan::{self, Kind, Shape, Step};
use super::proxy::{self, Lie, Proxy};
use super::random::Random;
use super::record::History;
use super::watcher;
use crate::cluster::{self, Cluster, Daemon, Spec, Upstream};
use crate::files;
use crate::https;
use crate::progress::Progress;
use crate::workshop::Workshop;

const CLIENTS: u32 = 6;
const WATCHERS: u32 = 6;
/// Six clients at this pace keep a machine of two cores half idle.
const PACE: Pace = Pace {
    least: 30,
    most: 120,
};
/// How long a healed cluster may take until it writes again.
const RECOVERY: Duration = Duration::from_secs(60);

#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    #[error(transparent)]
    File(#[from] files::Error),
    #[error(transparent)]
    Https(#[from] https::Error),
    #[error(transparent)]
    Fault(#[from] fault::Error),
    #[error("what really happened is not known")]
    Observer(#[source] observer::Error),
    #[error(transparent)]
    Proxy(#[from] proxy::Error),
    #[error("the namespace cannot be made: status {0}")]
    Namespace(u16),
    #[error("no runtime")]
    Runtime(#[source] std::io::Error),
    #[error("{0} holds no history")]
    Malformed(PathBuf),
}

#[derive(Clone, Debug)]
pub struct Options {
    /// Holds the cluster and what is kept of the run.
    pub dir: PathBuf,
    pub seed: u64,
    pub length: Duration,
    pub shape: Shape,
    pub upstream: Upstream,
    pub faults: Vec<Kind>,
    /// What a proxy between clients and API server does to answers, to see that it is found.
    pub lies: Vec<Lie>,
    /// `navarch-cluster`.
    pub launcher: PathBuf,
    pub progress: Progress,
}

#[derive(Debug)]
pub struct Report {
    pub verdict: Verdict,
    pub history: History,
    /// Faults that could not be injected or healed, and why.
    pub failed: Vec<String>,
    /// Caches of API servers that were found to differ from etcd.
    pub different: Vec<String>,
    /// Why the cluster did not come back once everything was healed.
    pub stuck: Vec<String>,
    /// How often each lie was told.
    pub lies: Vec<(Lie, usize)>,
}

/// Runs once. The cluster is gone afterwards; what was recorded stays in `dir`, with the daemons' logs if a rule was broken.
pub fn run(workshop: &Workshop, options: &Options) -> Result<Report, Error> {
    let standing = options.dir.join("cluster");
    // One that never came up is empty.
    if standing.exists() && fs::remove_dir(&standing).is_err() {
        cluster::down(&standing, false)?;
    }
    for dir in [&options.dir, &standing] {
        fs::create_dir_all(dir).map_err(files::cannot("make", dir))?;
    }
    let spec = Spec {
        etcd_members: options.shape.etcd_members,
        api_servers: options.shape.api_servers,
        upstream: options.upstream.clone(),
        flags: vec![(Daemon::Etcd, format!("--quota-backend-bytes={QUOTA}"))],
        ..workshop.spec(&standing, &options.launcher)
    };
    let report = Cluster::up_api_server(spec, options.progress)
        .map_err(Error::from)
        .and_then(|cluster| {
            let report = on(&cluster, options)?;
            write(&options.dir, &report)?;
            Ok(report)
        });
    // The logs are worth keeping where something went wrong.
    let clean = report.as_ref().is_ok_and(Report::is_clean);
    cluster::down(&standing, !clean)?;
    report
}

fn on(cluster: &Cluster, options: &Options) -> Result<Report, Error> {
    make_namespace(cluster)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    let observer = Observer::default();
    let injector = Injector::new(cluster.clone(), observer.clone())?;
    let plan = plan::plan(options.seed, options.length, options.shape, &options.faults);
    write_plan(&options.dir, &plan)?;
    let proxy = match &options.lies[..] {
        [] => None,
        lies => Some(Proxy::start(&runtime, cluster, lies)?),
    };
    let began = Instant::now();
    let world = Arc::new(World {
        began,
        servers: proxy
            .as_ref()
            .map_or_else(|| cluster.api_servers(), Proxy::servers),
        tls: cluster.tls(),
        operations: Mutex::default(),
        nonsense: Mutex::default(),
    });
    let etcd = Etcd {
        members: cluster.etcd(),
        tls: cluster.etcd_client()?.config(),
        prefix: format!("/registry/configmaps/{NAMESPACE}/"),
    };
    let (mut failed, mut stuck) = (Vec::new(), Vec::new());
    let history = runtime.block_on(async {
        let (since, _) = etcd.state(0).await.map_err(Error::Observer)?;
        let mut beside = JoinSet::new();
        beside.spawn(observer.clone().run(etcd.clone(), since));
        let load = load(&world, &injector, options, &plan);
        (failed, stuck) = load.await;
        let truth = observer
            .finish(&etcd, RECOVERY)
            .await
            .unwrap_or_else(|error| {
                stuck.push(crate::init::chain(&error));
                observer.partial()
            });
        beside.shutdown().await;
        Ok::<_, Error>(History {
            operations: std::mem::take(&mut world.operations.lock()),
            nonsense: std::mem::take(&mut world.nonsense.lock()),
            truth,
        })
    })?;
    let verdict = check::check(&history);
    Ok(Report {
        verdict,
        history,
        different: cluster.cache_checks()?.different,
        failed,
        stuck,
        lies: proxy.as_ref().map_or_else(Vec::new, Proxy::lies),
    })
}

/// Load with faults, then everything healed, the last writes and the last reads. What faults could not be injected, and why
/// the cluster did not come back.
async fn load(
    world: &Arc<World>,
    injector: &Injector,
    options: &Options,
    plan: &[Step],
) -> (Vec<String>, Vec<String>) {
    let mut random = Random::new(options.seed);
    let (say, phase) = watch::channel(Phase::Load);
    let (mut clients, mut watchers) = (JoinSet::new(), JoinSet::new());
    for number in 0..CLIENTS {
        let (random, world, phase) = (random.fork(), Arc::clone(world), phase.clone());
        clients.spawn(load::client(number, random, world, PACE, phase));
    }
    for number in CLIENTS..CLIENTS + WATCHERS {
        let (random, world, phase) = (random.fork(), Arc::clone(world), phase.clone());
        watchers.spawn(watcher::watcher(number, random, world, phase));
    }
    let began = world.began;
    let mut stuck = Vec::new();
    let failed = tokio::task::block_in_place(|| {
        let failed = injector.run(began, plan);
        thread::sleep(options.length.saturating_sub(began.elapsed()));
        stuck.extend(
            injector
                .settle()
                .err()
                .map(|error| crate::init::chain(&error)),
        );
        failed
    });
    // While load goes on, so that the last writes have to stand against it.
    say.send_replace(match load::close(world, RECOVERY).await {
        Ok(last) => Phase::Closing(last),
        Err(why) => {
            stuck.push(why);
            Phase::Stuck
        }
    });
    while clients.join_next().await.is_some() {}
    while watchers.join_next().await.is_some() {}
    load::last_lists(world).await;
    (failed, stuck)
}

fn make_namespace(cluster: &Cluster) -> Result<(), Error> {
    let body = json!({"metadata": {"name": NAMESPACE}}).to_string();
    let request = https::Request {
        method: "POST",
        content: "application/json",
        body: body.as_bytes(),
        ..https::Request::get("/api/v1/namespaces")
    };
    let answer = cluster.client().send(cluster.api_server(), &request)?;
    match answer.status {
        201 => Ok(()),
        status => Err(Error::Namespace(status)),
    }
}

fn write_plan(dir: &Path, plan: &[Step]) -> Result<(), Error> {
    let lines = plan.iter().map(|step| {
        format!(
            "{:.3}\t{:.3}\t{}\tapi-server {}\tmember {}\n",
            step.at.as_secs_f64(),
            step.lasts.as_secs_f64(),
            step.kind,
            host(step.api_server),
            host(step.member)
        )
    });
    let path = dir.join("plan.tsv");
    let text: String = lines.collect();
    Ok(fs::write(&path, text).map_err(files::cannot("write", &path))?)
}

fn write(dir: &Path, report: &Report) -> Result<(), Error> {
    let path = dir.join("history.json");
    let text = serde_json::to_vec(&report.history).map_err(|_| Error::Malformed(path.clone()))?;
    fs::write(&path, text).map_err(files::cannot("write", &path))?;
    let path = dir.join("verdict.txt");
    Ok(fs::write(&path, report.text()).map_err(files::cannot("write", &path))?)
}

/// Judges what an earlier run recorded in `dir`.
pub fn judge(dir: &Path) -> Result<Report, Error> {
    let path = dir.join("history.json");
    let text = fs::read(&path).map_err(files::cannot("read", &path))?;
    let history: History = serde_json::from_slice(&text).map_err(|_| Error::Malformed(path))?;
    Ok(Report {
        verdict: check::check(&history),
        history,
        different: Vec::new(),
        failed: Vec::new(),
        stuck: Vec::new(),
        lies: Vec::new(),
    })
}

impl Report {
    /// Whether no rule was broken and the cluster came back from every fault.
    pub fn is_clean(&self) -> bool {
        self.verdict.violations.is_empty() && self.stuck.is_empty() && self.different.is_empty()
    }

    /// Everything that there is to say, for people.
    pub fn text(&self) -> String {
        let counts = self.history.counts();
        let counts: Vec<String> = counts
            .iter()
            .map(|(name, count)| format!("{count} {name}"))
            .collect();
        let truth = &self.history.truth;
        let until = match truth.lost_at() {
            Some(seen) => format!("{seen}, then nobody saw what it did"),
            None => truth.until.to_string(),
        };
        let mut text = format!(
            "{}\n{} changes in etcd up to revision {until}, {} gaps, {} claims unobserved\n",
            counts.join(", "),
            truth.changes.len(),
            truth.gaps.len(),
            self.verdict.unobserved
        );
        for (lie, times) in &self.lies {
            text.push_str(&format!("lied {times} times: {lie}\n"));
        }
        for failed in &self.failed {
            text.push_str(&format!("a fault failed: {failed}\n"));
        }
        for cache in &self.different {
            text.push_str(&format!("a cache differed from etcd: {cache}\n"));
        }
        for stuck in &self.stuck {
            text.push_str(&format!("it did not come back: {stuck}\n"));
        }
        for violation in &self.verdict.violations {
            text.push_str(&format!("\n{}: {}\n", violation.rule, violation.why));
            for index in &violation.operations {
                let mut shown = format!("{:?}", self.history.operations[*index]);
                if shown.len() > 1500 {
                    let cut = shown.floor_char_boundary(1500);
                    shown.truncate(cut);
                    shown.push_str(" ...");
                }
                text.push_str(&format!("  #{index} {shown}\n"));
            }
        }
        text
    }
}
