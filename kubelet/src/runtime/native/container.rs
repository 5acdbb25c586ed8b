//! What is known of a container.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use shim::protocol::Exit;
use tokio::sync::watch;

use super::Error;
use super::disk::{self, SavedContainer};
use crate::runtime::cgroup::Hierarchies;
use crate::runtime::container::{ContainerState, ContainerStatus, Resources, reason};
use crate::runtime::stats::ContainerStats;

/// The exit code of a container whose end nobody saw: containerd's.
const LOST: i32 = 255;

pub(super) struct Container {
    pub(super) id: String,
    sandbox: String,
    pub(super) dir: PathBuf,
    pub(super) saved: SavedContainer,
    pub(super) resources: Mutex<Resources>,
    pub(super) live: watch::Sender<Live>,
    /// Held while it is started or removed.
    pub(super) changing: tokio::sync::Mutex<()>,
}

/// What happened to it so far. Answers and events may come in any order.
#[derive(Clone, Default)]
pub(super) struct Live {
    /// A kubelet before this one asked its shim to start it, which is not done.
    pub(super) starting: bool,
    pub(super) started: Option<(u32, i64)>,
    pub(super) exit: Option<Exit>,
}

impl Live {
    const fn state(&self) -> ContainerState {
        match (&self.exit, &self.started) {
            (Some(_), _) => ContainerState::Exited,
            (None, Some(_)) => ContainerState::Running,
            (None, None) => ContainerState::Created,
        }
    }
}

impl Container {
    pub(super) fn new(sandbox: &str, id: String, dir: PathBuf, saved: SavedContainer) -> Arc<Self> {
        let resources = Mutex::new(saved.config.resources.clone());
        let live = watch::Sender::new(Live::default());
        let changing = tokio::sync::Mutex::default();
        Arc::new(Self {
            id,
            sandbox: sandbox.to_owned(),
            dir,
            saved,
            resources,
            live,
            changing,
        })
    }

    pub(super) fn state(&self) -> ContainerState {
        self.live.borrow().state()
    }

    pub(super) fn is_running(&self) -> bool {
        self.state() == ContainerState::Running
    }

    pub(super) fn pid(&self) -> Option<u32> {
        let live = self.live.borrow();
        live.started
            .filter(|_| live.exit.is_none())
            .map(|(pid, _)| pid)
    }

    pub(super) fn starting(&self) {
        self.live.send_modify(|live| live.starting = true);
    }

    /// Whether that is news.
    pub(super) fn started(&self, pid: u32, at: i64) -> bool {
        self.live.send_if_modified(|live| {
            let news = live.started.is_none() && pid != 0;
            if news {
                live.started = Some((pid, at));
            }
            news
        })
    }

    /// Whether that is news.
    pub(super) fn ended(&self, exit: Exit) -> bool {
        self.live.send_if_modified(|live| {
            let news = live.exit.is_none();
            live.exit.get_or_insert(exit);
            news
        })
    }

    /// Waits for its end.
    pub(super) async fn exit(&self) -> Exit {
        let mut live = self.live.subscribe();
        let ended = live.wait_for(|live| live.exit.is_some()).await;
        // The sender is ours: it lives as long as we do.
        ended
            .ok()
            .and_then(|live| live.exit.clone())
            .unwrap_or_else(lost)
    }

    pub(super) fn set_resources(&self, to: &Resources) -> Result<(), Error> {
        let merged = {
            let mut resources = self.resources.lock();
            merge(&mut resources, to);
            resources.clone()
        };
        let mut saved = self.saved.clone();
        saved.config.resources = merged;
        disk::save(&self.dir.join(disk::CONTAINER), &saved)
    }

    pub(super) fn stats(&self, cgroups: &Hierarchies) -> Result<ContainerStats, Error> {
        Ok(ContainerStats {
            id: self.id.clone(),
            name: self.saved.config.metadata.name.clone(),
            cgroup: cgroups.stats(&self.saved.cgroup)?,
        })
    }

    pub(super) fn status(&self) -> ContainerStatus {
        let live = self.live.borrow().clone();
        let config = &self.saved.config;
        let exit = live.exit.as_ref();
        let started = live
            .started
            .map(|(_, at)| at)
            .or_else(|| exit.map(|exit| exit.started_at));
        let (reason, message) = exit.map_or(("", String::new()), why);
        ContainerStatus {
            id: self.id.clone(),
            sandbox: self.sandbox.clone(),
            state: live.state(),
            created_at: self.saved.created_at,
            started_at: started.filter(|at| *at > 0).map(time),
            finished_at: exit.map(|exit| time(exit.finished_at)),
            exit_code: exit.map_or(0, |exit| exit.code),
            signal: exit.map(|exit| exit.signal).filter(|signal| *signal > 0),
            reason,
            message,
            metadata: config.metadata.clone(),
            image: config.image.clone(),
            image_ref: config.image_ref.clone(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            mounts: config.mounts.clone(),
            log_path: config.log_path.clone(),
            resources: self.resources.lock().clone(),
            user: self.saved.user.clone(),
            stop_signal: self.saved.stop_signal,
            tty: config.tty,
            stdin: config.stdin,
            pid: self.pid(),
        }
    }
}

fn time(nanos: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanos.max(0).unsigned_abs())
}

/// Nanoseconds since 1970.
pub(super) fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Reason and message of an exit.
fn why(exit: &Exit) -> (&'static str, String) {
    if exit.lost {
        (
            reason::UNKNOWN,
            "the shim of the pod ended; what was left of the container was killed".into(),
        )
    } else if !exit.start_error.is_empty() {
        (reason::START_ERROR, exit.start_error.clone())
    } else if exit.code == 0 {
        (reason::COMPLETED, String::new())
    } else if exit.oom {
        (reason::OOM_KILLED, String::new())
    } else {
        (reason::ERROR, String::new())
    }
}

/// An exit that nobody saw.
pub(super) fn lost() -> Exit {
    Exit {
        code: LOST,
        lost: true,
        finished_at: now(),
        ..Exit::default()
    }
}

/// What is set takes the place of what was.
fn merge(old: &mut Resources, new: &Resources) {
    fn set<T: Clone>(old: &mut Option<T>, new: &Option<T>) {
        if new.is_some() {
            old.clone_from(new);
        }
    }
    set(&mut old.cpu_period, &new.cpu_period);
    set(&mut old.cpu_quota, &new.cpu_quota);
    set(&mut old.cpu_shares, &new.cpu_shares);
    set(&mut old.memory_limit, &new.memory_limit);
    set(&mut old.memory_swap_limit, &new.memory_swap_limit);
    set(&mut old.cpuset_cpus, &new.cpuset_cpus);
    set(&mut old.cpuset_mems, &new.cpuset_mems);
    set(&mut old.pids_limit, &new.pids_limit);
    set(&mut old.oom_score_adj, &new.oom_score_adj);
    old.hugepage_limits.extend(new.hugepage_limits.clone());
    old.unified.extend(new.unified.clone());
}
