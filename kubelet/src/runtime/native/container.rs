//! Containers: creating, starting, stopping, removing.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use parking_lot::Mutex;
use shim::protocol::{Exit, Forget, Kill, Log, ReopenLog, Start, Started};
use shim::record;
use tokio::sync::watch;

use super::connection;
use super::disk::{self, SavedContainer};
use super::sandbox::{Sandbox, new_id};
use super::{Error, Native, at, blocking, doing};
use crate::runtime::cgroup::Hierarchies;
use crate::runtime::container::{
    ContainerConfig, ContainerState, ContainerStatus, Resources, reason,
};
use crate::runtime::event::EventKind;
use crate::runtime::sandbox::NamespaceMode;
use crate::runtime::signal::Signal;
use crate::runtime::spec::{self, devices};
use crate::runtime::stats::ContainerStats;
use crate::runtime::{seccomp, user};

/// How long a container that was killed may take to be reaped.
const KILL_LIMIT: Duration = Duration::from_secs(60);

/// How long a start may take that somebody else asked for.
const START_LIMIT: Duration = Duration::from_secs(120);

/// The exit code of a container whose end nobody saw: containerd's.
const LOST: i32 = 255;

pub(super) struct Container {
    pub(super) id: String,
    sandbox: String,
    pub(super) dir: PathBuf,
    pub(super) saved: SavedContainer,
    resources: Mutex<Resources>,
    pub(super) live: watch::Sender<Live>,
    /// Held while it is started or removed.
    changing: tokio::sync::Mutex<()>,
}

/// What happened to it so far. Answers and events may come in any order.
#[derive(Clone, Default)]
pub(super) struct Live {
    /// A kubelet before this one asked its shim to start it, which is not done.
    starting: bool,
    started: Option<(u32, i64)>,
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

impl Native {
    pub(super) async fn create(
        &self,
        sandbox: &Arc<Sandbox>,
        config: ContainerConfig,
    ) -> Result<String, Error> {
        sandbox.connection()?;
        let id = new_id();
        let (native, in_sandbox) = (self.clone(), Arc::clone(sandbox));
        let new = id.clone();
        let container = blocking(move || native.prepare(&in_sandbox, new, config)).await?;
        sandbox.containers.lock().insert(id.clone(), container);
        self.publish(EventKind::ContainerCreated, sandbox, Some(&id));
        Ok(id)
    }

    /// Writes all that a start needs; nothing runs.
    fn prepare(
        &self,
        sandbox: &Sandbox,
        id: String,
        config: ContainerConfig,
    ) -> Result<Arc<Container>, Error> {
        let invalid = |error: &dyn std::error::Error| Error::Invalid(error.to_string());
        let user = user::resolve(
            &config.security,
            &config.image_config.user,
            &read_inside(&config.rootfs, "etc/passwd"),
            &read_inside(&config.rootfs, "etc/group"),
        )
        .map_err(|error| invalid(&error))?;
        spec::propagation::check(&config.mounts).map_err(|error| invalid(&error))?;
        let devices = if config.security.privileged {
            devices::all().map_err(doing("devices"))?
        } else {
            devices::find(&config.devices).map_err(doing("devices"))?
        };
        let node = nix::unistd::gethostname().unwrap_or_default();
        let node = node.to_string_lossy();
        let hostname = if sandbox.config.hostname.is_empty() {
            &*node
        } else {
            &sandbox.config.hostname
        };
        let cgroup = format!("{}/{id}", sandbox.config.cgroup_parent);
        let document = spec::build(&spec::Input {
            container: &config,
            sandbox: &sandbox.config,
            user: &user,
            cgroup: &cgroup,
            shm: &sandbox.shm(),
            hostname,
            devices: &devices,
            unified: self.inner.cgroups.is_unified(),
            capabilities: self.inner.capabilities,
        })
        .map_err(|error| invalid(&error))?;
        let dir = sandbox.dir.join(&id);
        let saved = SavedContainer {
            seccomp: self.seccomp(&config)?,
            created_at: SystemTime::now(),
            user,
            stop_signal: spec::stop_signal(&config),
            cgroup,
            config,
        };
        let write = || {
            disk::make_dir(&dir)?;
            disk::save(&dir.join(disk::SPEC), &document)?;
            disk::save(&dir.join(disk::CONTAINER), &saved)
        };
        write().inspect_err(|_| drop(disk::remove_dir(&dir)))?;
        Ok(Container::new(&sandbox.id, id, dir, saved))
    }

    /// The compiled filter of a container.
    fn seccomp(&self, config: &ContainerConfig) -> Result<Option<PathBuf>, Error> {
        if config.security.privileged {
            return Ok(None); // as in every runtime, whatever the profile
        }
        let capabilities = spec::capability_names(config, self.inner.capabilities)
            .map_err(|error| Error::Invalid(error.to_string()))?;
        let invalid = |error: seccomp::Error| Error::Invalid(component::supervisor::chain(&error));
        let Some(profile) =
            seccomp::profile(&config.security.seccomp, &capabilities).map_err(invalid)?
        else {
            return Ok(None);
        };
        let compile = |profile: &Path, filter: &Path| {
            let helper = self
                .inner
                .programs
                .helper()
                .arg("seccomp")
                .args([profile, filter])
                .output();
            match helper {
                Ok(output) if output.status.success() => Ok(()),
                Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
                Err(error) => Err(error.to_string()),
            }
        };
        self.inner
            .filters
            .get(&profile, compile)
            .map(Some)
            .map_err(invalid)
    }

    pub(super) async fn start(
        &self,
        sandbox: &Arc<Sandbox>,
        container: &Arc<Container>,
    ) -> Result<(), Error> {
        let _changing = container.changing.lock().await;
        let connection = sandbox.connection()?;
        let is = container.state();
        if is != ContainerState::Created {
            let needs = ContainerState::Created;
            return Err(Error::ContainerState {
                id: container.id.clone(),
                is,
                needs,
            });
        }
        if container.live.borrow().starting {
            return join_start(container).await;
        }
        let (native, made) = (self.clone(), Arc::clone(container));
        blocking(move || native.prepare_start(&made)).await?;
        let ask = self.start_message(container)?;
        match connection.call::<Started>(&ask, Vec::new()).await {
            Ok((started, _)) => {
                if container.started(started.pid, started.at) {
                    self.publish(EventKind::ContainerStarted, sandbox, Some(&container.id));
                }
                Ok(())
            }
            Err(connection::Error::Refused(message)) => {
                self.start_refused(sandbox, container, &message)?;
                Err(Error::Start(message))
            }
            Err(connection::Error::Timeout) => {
                // The helper hangs: end it with whatever it made. The shim answers with the exit.
                let kill = Kill {
                    id: container.id.clone(),
                    signal: libc::SIGKILL,
                    all: true,
                };
                let _ = connection.tell(&kill, Vec::new()).await;
                Err(sandbox.shim_error()(connection::Error::Timeout))
            }
            Err(error) => Err(sandbox.shim_error()(error)),
        }
    }

    fn prepare_start(&self, container: &Container) -> Result<(), Error> {
        let SavedContainer { config, cgroup, .. } = &container.saved;
        self.inner
            .cgroups
            .make(cgroup, &container.resources.lock())?;
        if let Some(dir) = config.log_path.as_deref().and_then(Path::parent) {
            fs::create_dir_all(dir).map_err(at(dir))?;
        }
        Ok(())
    }

    /// The end of a container that could not be started is its first and last.
    fn start_refused(
        &self,
        sandbox: &Sandbox,
        container: &Container,
        message: &str,
    ) -> Result<(), Error> {
        let recorded = record::read(&container.dir).map_err(at(&container.dir))?;
        let exit = match recorded {
            Some(exit) => exit,
            None => {
                // It did not come to the shim's knowing it.
                let start_error = message.to_owned();
                let exit = Exit {
                    code: 128,
                    start_error,
                    finished_at: now(),
                    ..Exit::default()
                };
                record::write(&container.dir, &exit).map_err(at(&container.dir))?;
                exit
            }
        };
        if container.ended(exit) {
            self.publish(EventKind::ContainerStopped, sandbox, Some(&container.id));
        }
        Ok(())
    }

    fn start_message(&self, container: &Container) -> Result<Start, Error> {
        let SavedContainer {
            config,
            cgroup,
            seccomp,
            ..
        } = &container.saved;
        let memory = self.inner.cgroups.dir("memory", cgroup);
        let text = |path: &Path| match path.to_str() {
            Some(text) => Ok(text.to_owned()),
            None => Err(Error::Invalid(format!(
                "path {} is not text",
                path.display()
            ))),
        };
        let or_empty = |path: Option<&Path>| path.map_or(Ok(String::new()), text);
        let pid_of = match &config.security.pid {
            NamespaceMode::Target(target) => target.clone(),
            _ => String::new(),
        };
        Ok(Start {
            id: container.id.clone(),
            dir: text(&container.dir)?,
            spec: text(&container.dir.join(disk::SPEC))?,
            seccomp: or_empty(seccomp.as_deref())?,
            log: Log {
                path: or_empty(config.log_path.as_deref())?,
                max_size: config.log_max_size,
                max_files: config.log_max_files,
            },
            stdin: config.stdin,
            stdin_once: config.stdin_once,
            tty: config.tty,
            memory_cgroup: or_empty(memory.as_deref())?,
            pid_of,
        })
    }

    pub(super) async fn stop(
        &self,
        sandbox: &Arc<Sandbox>,
        container: &Arc<Container>,
        grace: Duration,
        signal: Option<Signal>,
    ) -> Result<(), Error> {
        let kill = |signal: Signal, all| Kill {
            id: container.id.clone(),
            signal: signal.0,
            all,
        };
        if container.state() == ContainerState::Created && container.changing.try_lock().is_err() {
            // It is being started (or removed): the start fails, and tells why.
            let ask = kill(Signal::KILL, true);
            let _ = sandbox.connection()?.tell(&ask, Vec::new()).await;
            drop(container.changing.lock().await);
        }
        if !container.is_running() {
            return Ok(());
        }
        if !grace.is_zero() {
            let signal = signal.unwrap_or(container.saved.stop_signal);
            let connection = sandbox.connection()?;
            connection
                .tell(&kill(signal, false), Vec::new())
                .await
                .map_err(sandbox.shim_error())?;
            if tokio::time::timeout(grace, container.exit()).await.is_ok() {
                return Ok(());
            }
        }
        let Ok(connection) = sandbox.connection() else {
            return Ok(()); // the shim is gone, and its containers with it
        };
        connection
            .tell(&kill(Signal::KILL, true), Vec::new())
            .await
            .map_err(sandbox.shim_error())?;
        match tokio::time::timeout(KILL_LIMIT, container.exit()).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::Timeout(KILL_LIMIT)),
        }
    }

    pub(super) async fn remove(
        &self,
        sandbox: &Arc<Sandbox>,
        container: &Arc<Container>,
    ) -> Result<(), Error> {
        self.stop(sandbox, container, Duration::ZERO, None).await?;
        let _changing = container.changing.lock().await;
        if let Ok(connection) = sandbox.connection() {
            let forget = Forget {
                id: container.id.clone(),
            };
            connection
                .tell(&forget, Vec::new())
                .await
                .map_err(sandbox.shim_error())?;
        }
        self.clear_cgroup(&container.saved.cgroup).await?;
        let dir = container.dir.clone();
        blocking(move || disk::remove_dir(&dir)).await?;
        if sandbox.containers.lock().remove(&container.id).is_some() {
            self.publish(EventKind::ContainerDeleted, sandbox, Some(&container.id));
        }
        Ok(())
    }
}

/// Waits for a start that a kubelet before this one asked for.
async fn join_start(container: &Container) -> Result<(), Error> {
    let mut live = container.live.subscribe();
    let done = live.wait_for(|live| live.started.is_some() || live.exit.is_some());
    let done = tokio::time::timeout(START_LIMIT, done).await;
    let live = done
        .map_err(|_| Error::Timeout(START_LIMIT))?
        .map(|live| live.clone());
    match live.ok().and_then(|live| live.exit) {
        Some(exit) if !exit.start_error.is_empty() => Err(Error::Start(exit.start_error)),
        _ => Ok(()),
    }
}

impl Sandbox {
    pub(super) async fn reopen_log(&self, container: &Container) -> Result<(), Error> {
        let ask = ReopenLog {
            id: container.id.clone(),
        };
        self.connection()?
            .tell(&ask, Vec::new())
            .await
            .map_err(self.shim_error())
    }
}

/// A file of an image, whatever the image makes of the path: links stay inside, pipes and devices are
/// not read, nor is more than any user database needs. What cannot be read is empty.
fn read_inside(rootfs: &Path, name: &str) -> String {
    const MOST: u64 = 4 << 20;
    let read = || -> std::io::Result<String> {
        let root = fs::File::open(rootfs)?;
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let file = fs::File::from(openat2(&root, name, how)?);
        if !file.metadata()?.is_file() {
            return Ok(String::new());
        }
        let mut text = Vec::new();
        file.take(MOST).read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    };
    read().unwrap_or_default()
}
