//! The kubelet's own runtime: a shim per pod, a helper per create and exec.
//!
//! Owns everything below `ROOT` (`/var/lib/kubelet/navarch`):
//!
//! ```text
//! ROOT/pods/POD UID/SANDBOX/          sandbox.json, shim.sock, shim.log, shm/
//! ROOT/pods/POD UID/SANDBOX/CONTAINER/  container.json, spec.json, exit, what the helper keeps
//! ROOT/seccomp/                       compiled filters
//! ```
//!
//! and the cgroups of pods and shims. What is in memory is a copy: a new kubelet reads the directories,
//! connects to the shims, and knows everything that happened meanwhile. The images of shim and helper
//! are read once into sealed memory files and run from there, so that no container can change the file
//! of a program that starts it (CVE-2019-5736).

mod connection;
mod container;
mod disk;
mod launch;
mod lifecycle;
mod port_forward;
mod programs;
mod pty;
mod recover;
mod sandbox;
mod streams;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use component::Supervisor;
use parking_lot::Mutex;

use super::cgroup::Hierarchies;
use super::container::{ContainerConfig, ContainerFilter, ContainerStatus, Resources};
use super::event::{Event, EventKind, Events, Publisher};
use super::sandbox::{PodSandboxConfig, PodSandboxFilter, PodSandboxStatus};
use super::seccomp::Filters;
use super::signal::Signal;
use super::stats::{ContainerStats, PodSandboxStats};
use super::stream::{ByteStream, ExecOutput, ExecRequest, Session};
use super::{Answer, Error, Runtime, Version};

pub use connection::Error as ShimError;
use container::Container;
use programs::Programs;
use sandbox::Sandbox;

/// Where the runtime lives and what it uses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// `ROOT` above; made if it is not there.
    pub root: PathBuf,
    /// Where `navarch-shim` and `navarch-helper` are; `None` is beside this program.
    pub libexec_dir: Option<PathBuf>,
    /// The cgroup below which shims get theirs (`--cgroup-root`).
    pub cgroup_root: String,
}

/// The kubelet's own runtime; cheap to clone.
#[derive(Clone)]
pub struct Native {
    inner: Arc<Inner>,
}

struct Inner {
    root: PathBuf,
    cgroup_root: String,
    cgroups: Hierarchies,
    programs: Programs,
    filters: Filters,
    /// What this process may give away.
    capabilities: u64,
    tasks: Supervisor,
    publisher: Publisher,
    sandboxes: Mutex<BTreeMap<String, Arc<Sandbox>>>,
}

impl Native {
    /// Opens the runtime and finds again what runs.
    ///
    /// # Errors
    /// If shim or helper are not there, cgroups are not mounted, or the root cannot be used.
    pub async fn open(config: Config, tasks: Supervisor) -> Result<Self, Error> {
        let programs = Programs::load(config.libexec_dir.as_deref())?;
        let make = |path: PathBuf| match std::fs::create_dir_all(&path) {
            Ok(()) => Ok(path),
            Err(source) => Err(Error::Io { path, source }),
        };
        let root = make(config.root)?;
        make(root.join("pods"))?;
        let seccomp = make(root.join("seccomp"))?;
        let filters = Filters::open(seccomp.clone()).map_err(|source| Error::Io {
            path: seccomp,
            source,
        })?;
        let inner = Inner {
            root,
            cgroup_root: config.cgroup_root,
            cgroups: Hierarchies::detect()?,
            programs,
            filters,
            capabilities: own_capabilities().map_err(at(Path::new(STATUS)))?,
            tasks,
            publisher: Publisher::default(),
            sandboxes: Mutex::default(),
        };
        let native = Self {
            inner: Arc::new(inner),
        };
        native.recover().await?;
        Ok(native)
    }

    fn sandbox(&self, id: &str) -> Result<Arc<Sandbox>, Error> {
        let found = self.inner.sandboxes.lock().get(id).cloned();
        found.ok_or_else(|| Error::NotFound {
            kind: "sandbox",
            id: id.to_owned(),
        })
    }

    fn container(&self, id: &str) -> Result<(Arc<Sandbox>, Arc<Container>), Error> {
        let sandboxes: Vec<_> = self.inner.sandboxes.lock().values().cloned().collect();
        let found = sandboxes.into_iter().find_map(|sandbox| {
            let container = sandbox.containers.lock().get(id).cloned()?;
            Some((sandbox, container))
        });
        found.ok_or_else(|| Error::NotFound {
            kind: "container",
            id: id.to_owned(),
        })
    }

    fn publish(&self, kind: EventKind, sandbox: &Sandbox, container: Option<&str>) {
        self.inner.publisher.publish(&Event {
            kind,
            pod_uid: sandbox.config.metadata.uid.clone(),
            sandbox: sandbox.id.clone(),
            container: container.map(str::to_owned),
        });
    }
}

impl Runtime for Native {
    fn version(&self) -> Version {
        Version {
            name: "navarch",
            version: env!("CARGO_PKG_VERSION"),
        }
    }

    fn run_pod_sandbox(&self, config: PodSandboxConfig) -> Answer<'_, String> {
        Box::pin(self.run_sandbox(config))
    }

    fn stop_pod_sandbox<'a>(&'a self, sandbox: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            match self.sandbox(sandbox) {
                Ok(sandbox) => self.stop_sandbox(&sandbox).await,
                Err(_) => Ok(()),
            }
        })
    }

    fn remove_pod_sandbox<'a>(&'a self, sandbox: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            match self.sandbox(sandbox) {
                Ok(sandbox) => self.remove_sandbox(&sandbox).await,
                Err(_) => Ok(()),
            }
        })
    }

    fn pod_sandbox_status<'a>(&'a self, sandbox: &'a str) -> Answer<'a, PodSandboxStatus> {
        Box::pin(async move { Ok(self.sandbox(sandbox)?.status()) })
    }

    fn list_pod_sandboxes(&self, filter: PodSandboxFilter) -> Answer<'_, Vec<PodSandboxStatus>> {
        let all: Vec<_> = self
            .inner
            .sandboxes
            .lock()
            .values()
            .map(|s| s.status())
            .collect();
        let matching = all
            .into_iter()
            .filter(|status| filter.matches(status))
            .collect();
        Box::pin(async move { Ok(matching) })
    }

    fn create_container<'a>(
        &'a self,
        sandbox: &'a str,
        config: ContainerConfig,
    ) -> Answer<'a, String> {
        Box::pin(async move { self.create(&self.sandbox(sandbox)?, config).await })
    }

    fn start_container<'a>(&'a self, container: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let (sandbox, container) = self.container(container)?;
            self.start(&sandbox, &container).await
        })
    }

    fn stop_container<'a>(
        &'a self,
        container: &'a str,
        grace: Duration,
        signal: Option<Signal>,
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            match self.container(container) {
                Ok((sandbox, container)) => self.stop(&sandbox, &container, grace, signal).await,
                Err(_) => Ok(()),
            }
        })
    }

    fn remove_container<'a>(&'a self, container: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            match self.container(container) {
                Ok((sandbox, container)) => self.remove(&sandbox, &container).await,
                Err(_) => Ok(()),
            }
        })
    }

    fn container_status<'a>(&'a self, container: &'a str) -> Answer<'a, ContainerStatus> {
        Box::pin(async move { Ok(self.container(container)?.1.status()) })
    }

    fn list_containers(&self, filter: ContainerFilter) -> Answer<'_, Vec<ContainerStatus>> {
        let sandboxes: Vec<_> = self.inner.sandboxes.lock().values().cloned().collect();
        let mut all = Vec::new();
        for sandbox in sandboxes {
            all.extend(
                sandbox
                    .containers
                    .lock()
                    .values()
                    .map(|container| container.status()),
            );
        }
        all.retain(|status| filter.matches(status));
        Box::pin(async move { Ok(all) })
    }

    fn update_container_resources<'a>(
        &'a self,
        container: &'a str,
        to: Resources,
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            let (_, container) = self.container(container)?;
            self.inner.cgroups.limit(&container.saved.cgroup, &to)?;
            container.set_resources(&to)
        })
    }

    fn update_pod_sandbox_resources<'a>(
        &'a self,
        sandbox: &'a str,
        to: Resources,
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            let sandbox = self.sandbox(sandbox)?;
            Ok(self
                .inner
                .cgroups
                .limit(&sandbox.config.cgroup_parent, &to)?)
        })
    }

    fn exec_sync<'a>(
        &'a self,
        container: &'a str,
        command: Vec<String>,
        timeout: Duration,
    ) -> Answer<'a, ExecOutput> {
        Box::pin(async move {
            let (sandbox, container) = self.container(container)?;
            sandbox.exec_sync(&container, command, timeout).await
        })
    }

    fn exec<'a>(&'a self, container: &'a str, request: ExecRequest) -> Answer<'a, Session> {
        Box::pin(async move {
            let (sandbox, container) = self.container(container)?;
            sandbox.exec(&container, request).await
        })
    }

    fn attach<'a>(&'a self, container: &'a str, stdin: bool) -> Answer<'a, Session> {
        Box::pin(async move {
            let (sandbox, container) = self.container(container)?;
            sandbox.attach(container, stdin).await
        })
    }

    fn port_forward<'a>(&'a self, sandbox: &'a str, port: u16) -> Answer<'a, Box<dyn ByteStream>> {
        Box::pin(async move { self.sandbox(sandbox)?.port_forward(port).await })
    }

    fn container_stats<'a>(&'a self, container: &'a str) -> Answer<'a, ContainerStats> {
        Box::pin(async move {
            let (_, container) = self.container(container)?;
            container.stats(&self.inner.cgroups)
        })
    }

    fn pod_sandbox_stats<'a>(&'a self, sandbox: &'a str) -> Answer<'a, PodSandboxStats> {
        Box::pin(async move { self.sandbox(sandbox)?.stats(&self.inner.cgroups) })
    }

    fn reopen_container_log<'a>(&'a self, container: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let (sandbox, container) = self.container(container)?;
            sandbox.reopen_log(&container).await
        })
    }

    fn events(&self) -> Events {
        self.inner.publisher.subscribe()
    }
}

const STATUS: &str = "/proc/self/status";

/// The bounding set of this process.
fn own_capabilities() -> io::Result<u64> {
    let text = std::fs::read_to_string(STATUS)?;
    let set = text.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    let set = set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    set.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Runs what waits for the disk or a process where that is allowed.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(Error::System {
            doing: "blocking work",
            source: io::Error::other(error),
        }),
    }
}

/// For `map_err`.
fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { path, source }
}

/// For `map_err`.
const fn doing(doing: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::System { doing, source }
}
