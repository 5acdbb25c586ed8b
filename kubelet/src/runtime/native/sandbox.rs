//! Sandboxes: making, stopping, removing.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use component::Task;
use futures::future::BoxFuture;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use parking_lot::Mutex;
use shim::protocol::{
    Containers, List, MakeSandbox, NETWORK_GIVEN, NETWORK_NEW, NETWORK_NODE, Pair, SetHelper,
    Shutdown,
};
use tokio::sync::oneshot;

use super::connection::{self, Connection, Told};
use super::container::Container;
use super::disk::{self, SavedSandbox};
use super::{Error, Native, at, blocking, doing, launch};
use crate::runtime::cgroup::{self, Hierarchies};
use crate::runtime::event::EventKind;
use crate::runtime::sandbox::{
    IdMapping, NamespaceMode, Network, PodSandboxConfig, PodSandboxState, PodSandboxStatus,
    UserNamespace,
};
use crate::runtime::stats::PodSandboxStats;
use crate::sys::userns;

/// How long killed processes may take to disappear.
const KILL_LIMIT: Duration = Duration::from_secs(10);
/// How often an emptying cgroup is looked at: version 1 tells nobody.
const EMPTY_PERIOD: Duration = Duration::from_millis(5);

/// Size of a pod's `/dev/shm`: that of every CRI runtime.
const SHM: &str = "mode=1777,size=65536k";

/// Sysctls that pods of their own network have unless they say otherwise, as containerd 2 sets them:
/// ping and low ports without capabilities.
const DEFAULT_SYSCTLS: [(&str, &str); 2] = [
    ("net.ipv4.ping_group_range", "0 2147483647"),
    ("net.ipv4.ip_unprivileged_port_start", "0"),
];

pub(super) struct Sandbox {
    pub(super) id: String,
    pub(super) dir: PathBuf,
    pub(super) config: PodSandboxConfig,
    created_at: SystemTime,
    /// The cgroup of the shim.
    pub(super) shim_cgroup: String,
    /// `None` when it is not ready.
    connection: Mutex<Option<Arc<Connection>>>,
    pub(super) containers: Mutex<BTreeMap<String, Arc<Container>>>,
    /// Who waits for which exec's exit.
    pub(super) execs: Mutex<HashMap<u64, oneshot::Sender<i32>>>,
    /// Held while the sandbox is stopped or removed.
    ending: tokio::sync::Mutex<()>,
}

impl Sandbox {
    pub(super) fn new(id: String, dir: PathBuf, saved: SavedSandbox) -> Arc<Self> {
        Arc::new(Self {
            id,
            dir,
            config: saved.config,
            created_at: saved.created_at,
            shim_cgroup: saved.shim_cgroup,
            connection: Mutex::default(),
            containers: Mutex::default(),
            execs: Mutex::default(),
            ending: tokio::sync::Mutex::default(),
        })
    }

    pub(super) fn status(&self) -> PodSandboxStatus {
        let ready = self.connection.lock().is_some();
        PodSandboxStatus {
            id: self.id.clone(),
            state: if ready {
                PodSandboxState::Ready
            } else {
                PodSandboxState::NotReady
            },
            created_at: self.created_at,
            config: self.config.clone(),
        }
    }

    pub(super) fn connection(&self) -> Result<Arc<Connection>, Error> {
        let connection = self.connection.lock().clone();
        connection.ok_or_else(|| Error::SandboxNotReady(self.id.clone()))
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.dir.join(disk::STOPPED).exists()
    }

    /// The cgroup of what holds a shared PID namespace.
    pub(super) fn pause_cgroup(&self) -> String {
        format!("{}/pause-{}", self.config.cgroup_parent, self.id)
    }

    /// Nothing can be asked of its shim any more. Whoever waits for an exec learns it.
    pub(super) fn disconnected(&self) {
        *self.connection.lock() = None;
        self.execs.lock().clear();
    }

    /// For `map_err`.
    pub(super) fn shim_error(&self) -> impl FnOnce(connection::Error) -> Error {
        let sandbox = self.id.clone();
        move |source| Error::Shim { sandbox, source }
    }

    pub(super) fn container_list(&self) -> Vec<Arc<Container>> {
        self.containers.lock().values().cloned().collect()
    }

    /// The directory that containers have as `/dev/shm`.
    pub(super) fn shm(&self) -> PathBuf {
        match self.config.ipc {
            NamespaceMode::Node => "/dev/shm".into(),
            _ => self.dir.join("shm"),
        }
    }

    pub(super) fn stats(&self, cgroups: &Hierarchies) -> Result<PodSandboxStats, Error> {
        let mut containers = Vec::new();
        for container in self.container_list() {
            if container.is_running() {
                containers.push(container.stats(cgroups)?);
            }
        }
        Ok(PodSandboxStats {
            id: self.id.clone(),
            cgroup: cgroups.stats(&self.config.cgroup_parent)?,
            containers,
            interfaces: super::port_forward::interfaces(self),
        })
    }
}

impl Native {
    pub(super) async fn run_sandbox(&self, config: PodSandboxConfig) -> Result<String, Error> {
        check(&config)?;
        let id = new_id();
        let dir = self
            .inner
            .root
            .join("pods")
            .join(&config.metadata.uid)
            .join(&id);
        let root = self.inner.cgroup_root.trim_end_matches('/');
        let saved = SavedSandbox {
            config,
            created_at: SystemTime::now(),
            shim_cgroup: format!("{root}/navarch-shims/{id}"),
        };
        let sandbox = Sandbox::new(id.clone(), dir, saved.clone());
        if let Err(error) = self.make_sandbox(&sandbox, saved).await {
            if let Err(error) = self.clear_sandbox(&sandbox).await {
                tracing::warn!(
                    sandbox = id,
                    error = component::supervisor::chain(&error),
                    "Removing a failed sandbox"
                );
            }
            return Err(error);
        }
        self.inner
            .sandboxes
            .lock()
            .insert(id.clone(), Arc::clone(&sandbox));
        self.publish(EventKind::SandboxReady, &sandbox, None);
        Ok(id)
    }

    async fn make_sandbox(&self, sandbox: &Arc<Sandbox>, saved: SavedSandbox) -> Result<(), Error> {
        let (native, made) = (self.clone(), Arc::clone(sandbox));
        let fds: Vec<OwnedFd> = blocking(move || {
            disk::make_dir(&made.dir)?;
            disk::save(&made.dir.join(disk::SANDBOX), &saved)?;
            let Native { inner } = &native;
            inner
                .cgroups
                .make(&made.config.cgroup_parent, &made.config.resources)?;
            if made.config.ipc != NamespaceMode::Node {
                mount_shm(&made.shm(), made.config.user.as_ref())?;
            }
            launch::launch(
                &inner.programs,
                &inner.cgroups,
                &made.shim_cgroup,
                &made.dir,
            )?;
            let network = match &made.config.network {
                Network::Path(path) => Some(fs::File::open(path).map_err(at(path))?.into()),
                Network::Node | Network::Isolated => None,
            };
            let user = made.config.user.as_ref();
            let user = user.map(|user| user_namespace(user, network.as_ref()));
            Ok(network.into_iter().chain(user.transpose()?).collect())
        })
        .await?;
        self.connect(sandbox).await.map_err(sandbox.shim_error())?;
        let ask = self.namespaces(sandbox)?;
        sandbox
            .connection()?
            .tell(&ask, fds)
            .await
            .map_err(sandbox.shim_error())?;
        let made = sandbox.dir.join(disk::MADE);
        fs::write(&made, "").map_err(at(&made))
    }

    fn namespaces(&self, sandbox: &Sandbox) -> Result<MakeSandbox, Error> {
        let pause = &sandbox.pause_cgroup();
        let config = &sandbox.config;
        let own_network = config.network != Network::Node;
        let given = config
            .sysctls
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let default = DEFAULT_SYSCTLS.into_iter().filter(|(name, _)| {
            own_network && config.user.is_none() && !config.sysctls.contains_key(*name)
        });
        let share_pid = config.pid == NamespaceMode::Pod;
        let mut pause_cgroups = Vec::new();
        if share_pid {
            self.inner
                .cgroups
                .make(pause, &super::Resources::default())?;
            let files = launch::procs_files(&self.inner.cgroups, pause);
            pause_cgroups.extend(files.iter().map(|file| file.display().to_string()));
        }
        Ok(MakeSandbox {
            network: match config.network {
                Network::Node => NETWORK_NODE,
                Network::Path(_) => NETWORK_GIVEN,
                Network::Isolated => NETWORK_NEW,
            },
            new_ipc: config.ipc != NamespaceMode::Node,
            new_uts: own_network,
            hostname: config.hostname.clone(),
            share_pid,
            sysctls: default
                .chain(given)
                .map(|(name, value)| Pair {
                    name: name.into(),
                    value: value.into(),
                })
                .collect(),
            pause_cgroups,
            user: config.user.is_some(),
        })
    }

    /// Connects to a sandbox's shim and learns what it knows.
    pub(super) async fn connect(&self, sandbox: &Arc<Sandbox>) -> Result<(), connection::Error> {
        let (connection, driver) = connection::connect(&sandbox.dir.join(disk::SOCKET))?;
        let connection = Arc::new(connection);
        let (native, driven) = (self.clone(), Arc::clone(sandbox));
        let own = Arc::clone(&connection);
        self.inner.tasks.spawn(
            Task::Background,
            format!("shim-{}", sandbox.id),
            async move {
                driver.run(|told| native.told(&driven, told)).await;
                native.connection_ended(driven, own).await;
            },
        );
        connection.hello().await?;
        let image = self.inner.programs.helper_image();
        let image = image.map_err(|_| connection::Error::Gone)?;
        connection.tell(&SetHelper {}, vec![image]).await?;
        // From here on events arrive, so nothing is missed between the list and them.
        let (Containers { all }, _) = connection.call(&List {}, Vec::new()).await?;
        for state in all {
            let container = sandbox.containers.lock().get(&state.id).cloned();
            let Some(container) = container else { continue };
            if state.pid == 0 && !state.ended {
                container.starting();
            }
            container.started(state.pid, state.started_at);
            if state.ended && container.ended(state.exit) {
                self.publish(EventKind::ContainerStopped, sandbox, Some(&state.id));
            }
        }
        let mut current = sandbox.connection.lock();
        if connection.has_ended() {
            return Err(connection::Error::Gone); // before anybody could see that it was ours
        }
        *current = Some(connection);
        Ok(())
    }

    fn told(&self, sandbox: &Sandbox, told: Told) {
        match told {
            Told::Exited(event) => {
                let container = sandbox.containers.lock().get(&event.id).cloned();
                if container.is_some_and(|container| container.ended(event.exit)) {
                    self.publish(EventKind::ContainerStopped, sandbox, Some(&event.id));
                }
            }
            Told::Running(event) => {
                let container = sandbox.containers.lock().get(&event.id).cloned();
                if container.is_some_and(|container| container.started(event.pid, event.at)) {
                    self.publish(EventKind::ContainerStarted, sandbox, Some(&event.id));
                }
            }
            Told::OutOfMemory(event) => {
                self.publish(EventKind::ContainerOom, sandbox, Some(&event.id));
            }
            Told::ExecExited(event) => {
                if let Some(waiting) = sandbox.execs.lock().remove(&event.exec) {
                    let _ = waiting.send(event.code);
                }
            }
        }
    }

    /// Boxed, because it may connect again, which ends here again.
    fn connection_ended(
        self,
        sandbox: Arc<Sandbox>,
        connection: Arc<Connection>,
    ) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            {
                let mut current = sandbox.connection.lock();
                if !current
                    .as_ref()
                    .is_some_and(|current| Arc::ptr_eq(current, &connection))
                {
                    return; // one that never came to be, or was given up
                }
                *current = None;
            }
            sandbox.disconnected();
            if !sandbox.is_stopped() {
                self.reconnect(&sandbox).await;
            }
        })
    }

    /// Ends everything in a sandbox.
    pub(super) async fn stop_sandbox(&self, sandbox: &Arc<Sandbox>) -> Result<(), Error> {
        let _ending = sandbox.ending.lock().await;
        self.end_sandbox(sandbox).await
    }

    async fn end_sandbox(&self, sandbox: &Arc<Sandbox>) -> Result<(), Error> {
        let stopped = sandbox.dir.join(disk::STOPPED);
        if sandbox.is_stopped() && sandbox.connection.lock().is_none() {
            return Ok(());
        }
        fs::write(&stopped, "").map_err(at(&stopped))?;
        for container in sandbox.container_list() {
            self.stop(sandbox, &container, Duration::ZERO, None).await?;
        }
        if let Ok(connection) = sandbox.connection()
            && let Err(error) = connection.tell(&Shutdown {}, Vec::new()).await
        {
            let error = component::supervisor::chain(&error);
            tracing::warn!(
                sandbox = sandbox.id,
                error,
                "The shim does not end, killing it"
            );
        }
        sandbox.disconnected();
        self.clear_cgroup(&sandbox.shim_cgroup).await?;
        self.clear_cgroup(&sandbox.pause_cgroup()).await?;
        self.publish(EventKind::SandboxGone, sandbox, None);
        Ok(())
    }

    /// Stops a sandbox and forgets it.
    pub(super) async fn remove_sandbox(&self, sandbox: &Arc<Sandbox>) -> Result<(), Error> {
        let _ending = sandbox.ending.lock().await;
        if sandbox.dir.exists() {
            self.end_sandbox(sandbox).await?;
        }
        for container in sandbox.container_list() {
            self.remove(sandbox, &container).await?;
        }
        self.clear_sandbox(sandbox).await?;
        self.inner.sandboxes.lock().remove(&sandbox.id);
        Ok(())
    }

    /// Removes all that a sandbox has on the machine, whether it was ever ready or not.
    pub(super) async fn clear_sandbox(&self, sandbox: &Arc<Sandbox>) -> Result<(), Error> {
        let (dir, shm) = (sandbox.dir.clone(), sandbox.dir.join("shm"));
        if dir.exists() {
            let stopped = dir.join(disk::STOPPED);
            fs::write(&stopped, "").map_err(at(&stopped))?;
        }
        sandbox.disconnected();
        self.clear_cgroup(&sandbox.shim_cgroup).await?;
        self.clear_cgroup(&sandbox.pause_cgroup()).await?;
        // The pod may have another sandbox, whose cgroups keep this one.
        match self
            .inner
            .cgroups
            .remove_empty(&sandbox.config.cgroup_parent)
        {
            Ok(()) | Err(cgroup::Error::Busy(_)) => {}
            Err(error) => return Err(error.into()),
        }
        blocking(move || {
            unmount(&shm)?;
            disk::remove_dir(&dir)?;
            // The pod's directory goes with its last sandbox.
            if let Some(pod) = dir.parent() {
                let _ = fs::remove_dir(pod);
            }
            Ok(())
        })
        .await
    }

    /// Kills what is in a cgroup and removes it once it is empty.
    pub(super) async fn clear_cgroup(&self, cgroup: &str) -> Result<(), Error> {
        let deadline = tokio::time::Instant::now() + KILL_LIMIT;
        loop {
            match self.inner.cgroups.remove(cgroup) {
                Err(cgroup::Error::Busy(_)) if tokio::time::Instant::now() < deadline => {
                    self.inner.cgroups.kill(cgroup);
                    tokio::time::sleep(EMPTY_PERIOD).await;
                }
                done => return Ok(done?),
            }
        }
    }
}

/// What can be said of a sandbox before anything is made.
fn check(config: &PodSandboxConfig) -> Result<(), Error> {
    const MAX_HOSTNAME: usize = 64;
    let uid = &config.metadata.uid;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.';
    if uid.is_empty() || uid.starts_with('.') || !uid.chars().all(plain) {
        return Err(Error::Invalid(format!("pod uid {uid:?}")));
    }
    if !config.cgroup_parent.starts_with('/') || config.cgroup_parent.len() < 2 {
        return Err(Error::Invalid(format!(
            "cgroup parent {:?}",
            config.cgroup_parent
        )));
    }
    if config.hostname.len() > MAX_HOSTNAME {
        return Err(Error::Invalid(format!(
            "hostname {:?} is too long",
            config.hostname
        )));
    }
    if config.user.is_some()
        && (config.network == Network::Node || config.ipc == NamespaceMode::Node)
    {
        let what = "a user namespace in the network or IPC namespace of the node";
        return Err(Error::Unsupported(what));
    }
    Ok(())
}

/// An id as container runtimes make them.
pub(super) fn new_id() -> String {
    rand::random::<[u8; 32]>()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The user namespace of a pod: that which its network belongs to, else a new one.
fn user_namespace(user: &UserNamespace, network: Option<&OwnedFd>) -> Result<OwnedFd, Error> {
    let maps = |ids: &[IdMapping]| ids.iter().map(|ids| ids.map()).collect::<Vec<_>>();
    let made = match network {
        Some(network) => userns::owner(network.as_fd()),
        None => userns::create(&maps(&user.uids), &maps(&user.gids)),
    };
    let made = made.map_err(doing("user namespace"))?;
    let inode = |of: std::io::Result<fs::Metadata>| of.map(|meta| meta.ino());
    let (its, own) = (
        inode(fs::File::from(made.try_clone().map_err(doing("user namespace"))?).metadata()),
        inode(fs::metadata("/proc/self/ns/user")),
    );
    match (its, own) {
        (Ok(its), Ok(own)) if its != own => Ok(made),
        _ => Err(Error::Invalid(
            "the pod's network does not belong to a user namespace of its own".into(),
        )),
    }
}

/// Belongs to the pod's root, if the pod has users of its own.
fn mount_shm(path: &Path, user: Option<&UserNamespace>) -> Result<(), Error> {
    disk::make_dir(path)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let root = |ids: &[IdMapping]| Some(ids.iter().find(|ids| ids.container_id == 0)?.host_id);
    let owner = user.map(|user| (root(&user.uids), root(&user.gids)));
    let options = match owner {
        Some((Some(uid), Some(gid))) => format!("{SHM},uid={uid},gid={gid}"),
        _ => SHM.to_owned(),
    };
    mount(
        Some("shm"),
        path,
        Some("tmpfs"),
        flags,
        Some(options.as_str()),
    )
    .map_err(|error| doing("mounting shm")(error.into()))
}

fn unmount(path: &Path) -> Result<(), Error> {
    match umount2(path, MntFlags::MNT_DETACH) {
        Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => Ok(()),
        Err(error) => Err(at(path)(error.into())),
    }
}
