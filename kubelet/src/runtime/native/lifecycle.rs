//! A container's way: created, started, stopped, removed.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use shim::protocol::{Exit, Forget, Kill, Log, ReopenLog, Start, Started};
use shim::record;

use super::connection;
use super::container::{Container, now};
use super::disk::{self, SavedContainer};
use super::sandbox::{Sandbox, new_id};
use super::{Error, Native, at, blocking, doing};
use crate::runtime::container::{ContainerConfig, ContainerState};
use crate::runtime::event::EventKind;
use crate::runtime::sandbox::NamespaceMode;
use crate::runtime::signal::Signal;
use crate::runtime::spec::{self, devices};
use crate::runtime::{seccomp, user};

/// How long a container that was killed may take to be reaped.
const KILL_LIMIT: Duration = Duration::from_secs(60);

/// How long a start may take that somebody else asked for.
const START_LIMIT: Duration = Duration::from_secs(120);

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
            devices::all_and(&config.devices).map_err(doing("devices"))?
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
