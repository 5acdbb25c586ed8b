//! The container runtime, in CRI's words.
//!
//! Owns: [`Runtime`], the one trait through which pod workers make sandboxes and containers, and its
//! types. [`Native`] implements it with a shim per pod (see `kubelet/shim`); nothing above this module
//! knows of shims.
//!
//! Invariants of every implementation:
//! - It outlives the kubelet: what was running when the kubelet ended is still there, with its exits,
//!   when the next one asks.
//! - A container that was started ends exactly once, with a status that stays until it is removed.
//! - Every call that stops or removes succeeds when there is nothing (left) to do.
//! - [`Event`]s say that something changed; what it changed to is in the status. Losing one costs
//!   time, never truth.

pub mod cgroup;
pub mod container;
pub mod event;
pub mod native;
pub mod sandbox;
pub mod seccomp;
pub mod signal;
pub mod spec;
pub mod stats;
pub mod stream;
pub mod user;

use std::path::PathBuf;
use std::time::Duration;

use futures::future::BoxFuture;

pub use container::{
    ContainerConfig, ContainerFilter, ContainerState, ContainerStatus, Device, ImageConfig, Mount,
    MountPropagation, Resources, SecurityContext, SecurityProfile,
};
pub use event::{Event, EventKind, Events};
pub use native::Native;
pub use sandbox::{
    NamespaceMode, Network, PodSandboxConfig, PodSandboxFilter, PodSandboxState, PodSandboxStatus,
};
pub use signal::Signal;
pub use stats::{ContainerStats, PodSandboxStats};
pub use stream::{ByteStream, ExecOutput, ExecRequest, Session};

/// The answer of a call; boxed, because which runtime it is, is decided at start.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, Error>>;

/// A container runtime. Methods and their meaning are those of CRI's `RuntimeService`.
///
/// Dropping an answer before it arrived leaves the call running or undone, never half done: ask for the
/// status.
pub trait Runtime: Send + Sync {
    /// Name and version, as in `status.nodeInfo.containerRuntimeVersion` (`navarch://0.1.0`).
    fn version(&self) -> Version;

    /// Makes a pod's sandbox: its cgroup, namespaces and whatever keeps them. Returns its id.
    fn run_pod_sandbox(&self, config: PodSandboxConfig) -> Answer<'_, String>;

    /// Ends every process of the sandbox at once and gives its namespaces up. The caller tears the
    /// network down before. Status and exit codes stay.
    fn stop_pod_sandbox<'a>(&'a self, sandbox: &'a str) -> Answer<'a, ()>;

    /// Stops the sandbox and forgets it and its containers.
    fn remove_pod_sandbox<'a>(&'a self, sandbox: &'a str) -> Answer<'a, ()>;

    fn pod_sandbox_status<'a>(&'a self, sandbox: &'a str) -> Answer<'a, PodSandboxStatus>;

    fn list_pod_sandboxes(&self, filter: PodSandboxFilter) -> Answer<'_, Vec<PodSandboxStatus>>;

    /// Prepares a container in a ready sandbox without running anything. Returns its id.
    fn create_container<'a>(
        &'a self,
        sandbox: &'a str,
        config: ContainerConfig,
    ) -> Answer<'a, String>;

    /// Runs a created container. Answers once its program was executed.
    ///
    /// # Errors
    /// [`Error::Start`] with the reason in words for the pod's events; the container is then `Exited`
    /// with code 128 and reason `StartError`.
    fn start_container<'a>(&'a self, container: &'a str) -> Answer<'a, ()>;

    /// Sends the stop signal (the container's own, unless `signal` says otherwise), then, after `grace`,
    /// SIGKILL. Answers once the container has ended. A grace of zero kills at once.
    fn stop_container<'a>(
        &'a self,
        container: &'a str,
        grace: Duration,
        signal: Option<Signal>,
    ) -> Answer<'a, ()>;

    /// Removes a container, killing it if it still runs. Its log stays: it is the pod worker's.
    fn remove_container<'a>(&'a self, container: &'a str) -> Answer<'a, ()>;

    fn container_status<'a>(&'a self, container: &'a str) -> Answer<'a, ContainerStatus>;

    fn list_containers(&self, filter: ContainerFilter) -> Answer<'_, Vec<ContainerStatus>>;

    /// Changes limits of a running container in place. Fields that are unset stay as they are.
    fn update_container_resources<'a>(
        &'a self,
        container: &'a str,
        to: Resources,
    ) -> Answer<'a, ()>;

    /// Changes the limits of the pod's cgroup in place.
    fn update_pod_sandbox_resources<'a>(
        &'a self,
        sandbox: &'a str,
        to: Resources,
    ) -> Answer<'a, ()>;

    /// Runs a command in a running container and collects its output (at most
    /// [`stream::MAX_EXEC_SYNC_OUTPUT`] of each stream).
    ///
    /// # Errors
    /// [`Error::Timeout`] after `timeout`, when the command has been killed; zero means no limit.
    fn exec_sync<'a>(
        &'a self,
        container: &'a str,
        command: Vec<String>,
        timeout: Duration,
    ) -> Answer<'a, ExecOutput>;

    /// Runs a command in a running container with streams.
    fn exec<'a>(&'a self, container: &'a str, request: ExecRequest) -> Answer<'a, Session>;

    /// Joins the streams of a running container: what it writes from now on, and its standard input if
    /// it was made with one. The session ends with the container.
    fn attach<'a>(&'a self, container: &'a str, stdin: bool) -> Answer<'a, Session>;

    /// Connects to a TCP port on the pod's loopback, as seen from inside.
    fn port_forward<'a>(&'a self, sandbox: &'a str, port: u16) -> Answer<'a, Box<dyn ByteStream>>;

    fn container_stats<'a>(&'a self, container: &'a str) -> Answer<'a, ContainerStats>;

    fn pod_sandbox_stats<'a>(&'a self, sandbox: &'a str) -> Answer<'a, PodSandboxStats>;

    /// Opens the container's log file anew, after somebody moved it.
    fn reopen_container_log<'a>(&'a self, container: &'a str) -> Answer<'a, ()>;

    /// What happens from now on. Subscribe before listing, and nothing is missed in between.
    fn events(&self) -> Events;
}

/// Name and version of a runtime.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version {
    pub name: &'static str,
    pub version: &'static str,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}", self.name, self.version)
    }
}

/// Why a call on the runtime failed. The text goes into pod events.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("{kind} {id:?} not found")]
    NotFound { kind: &'static str, id: String },
    #[error("container {id:?} is {is}, the call needs it {needs}")]
    ContainerState {
        id: String,
        is: ContainerState,
        needs: ContainerState,
    },
    #[error("sandbox {0:?} is not ready")]
    SandboxNotReady(String),
    /// The configuration asks for something that cannot be.
    #[error("{0}")]
    Invalid(String),
    /// The configuration asks for something that this runtime or this machine does not have.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    /// The container's program could not be run; the text is the reason.
    #[error("{0}")]
    Start(String),
    #[error("command timed out after {0:?}")]
    Timeout(Duration),
    #[error("connection to port {port} in the pod")]
    PortForward { port: u16, source: std::io::Error },
    #[error("{}", path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{doing}")]
    System {
        doing: &'static str,
        source: std::io::Error,
    },
    #[error("cgroup")]
    Cgroup(#[from] cgroup::Error),
    #[error("shim of sandbox {sandbox:?}")]
    Shim {
        sandbox: String,
        source: native::ShimError,
    },
}

impl Error {
    /// Whether it says that the sandbox or container does not exist (gRPC's `NotFound` in CRI).
    #[must_use]
    pub const fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}
