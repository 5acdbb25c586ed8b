//! Creating a container with libcontainer.
//!
//! libcontainer makes cgroups, namespaces, mounts and devices; it is given a process that is root with
//! all capabilities and no filter, and instead of its own last step runs [`Identity::run`], the same code
//! by which exec becomes a process of the container. So the two cannot differ, and a filter that was
//! compiled before can be used.

use std::collections::HashMap;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::error::LibcontainerError;
use libcontainer::notify_socket::{NOTIFY_FILE, NotifySocket};
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::{
    Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError,
};
use oci_spec::runtime::{Process, Spec, User};
use shim::wire::Inbox;

use crate::args::Create;
use crate::error::{Error, chain};
use crate::identity::Identity;
use crate::report::{self, Report};
use crate::{detail, devices, seccomp, sys, users};

/// Where libcontainer keeps its state, below the container's directory.
const STATE: &str = "state";

pub(crate) fn create(ask: &Create, report: Report) -> Result<(), Error> {
    detail::listen(report);
    let mut spec = load(&ask.spec)?;
    let process = spec
        .process()
        .clone()
        .ok_or_else(|| Error::Spec("no process".into()))?;
    let filter = ask
        .seccomp
        .as_deref()
        .map(seccomp::Filter::read)
        .transpose()?;
    sys::set_oom_score_adj(process.oom_score_adj().unwrap_or(0));

    devices::confine(&spec)?;

    if let Some(root) = spec
        .root()
        .as_ref()
        .filter(|root| root.readonly().unwrap_or(false))
    {
        // Later there is no making it. What a mount hides was made for nothing.
        let made =
            sys::open_root(root.path()).and_then(|fd| sys::open_dir(&fd, process.cwd(), true));
        made.map_err(Error::at(process.cwd()))?;
    }

    if users::are_own(&spec) {
        // Inside, nobody may give away what belongs to the node's root.
        let uid = process.user().uid();
        let owner = users::on_node(&spec, uid);
        sys::give_streams_to(owner.ok_or_else(|| Error::Spec(format!("no user {uid}")))?);
        users::put_aside(&mut spec, &ask.dir)?;
    }

    let identity = Identity::of(&process, filter)?.making_working_dir();
    let terminal = process.terminal().unwrap_or(false);
    let reduced = serde_json::to_vec(&reduce(spec, terminal))
        .map_err(|error| Error::Spec(error.to_string()))?;
    let config = ask.dir.join("config.json");
    fs::write(&config, reduced).map_err(Error::at(&config))?;

    let console = if terminal {
        Some(Console::listen(&ask.dir)?)
    } else {
        None
    };
    let container =
        build(ask, identity, console.as_ref()).map_err(|error| Error::Container(chain(&error)))?;
    let pid = container.pid().map(|pid| pid.as_raw());
    let pid = pid.ok_or_else(|| Error::Container("no process was made".into()))?;
    let terminal = console.map(Console::master).transpose()?;
    report.created(pid, terminal.as_ref())?;
    let mut socket = NotifySocket::new(ask.dir.join(STATE).join(&ask.id).join(NOTIFY_FILE));
    socket
        .notify_container_start()
        .map_err(|error| Error::Container(chain(&error)))
}

pub(crate) fn load(path: &Path) -> Result<Spec, Error> {
    let text = fs::read(path).map_err(Error::at(path))?;
    serde_json::from_slice(&text)
        .map_err(|error| Error::Spec(format!("{}: {error}", path.display())))
}

fn build(
    ask: &Create,
    identity: Identity,
    console: Option<&Console>,
) -> Result<libcontainer::container::Container, LibcontainerError> {
    ContainerBuilder::new(ask.id.clone(), SyscallType::default())
        .with_executor(Payload { identity })
        .with_root_path(ask.dir.join(STATE))?
        .with_console_socket(console.map(|console| console.path.clone()))
        .validate_id()?
        .as_init(&ask.dir)
        .with_systemd(false)
        .with_detach(true)
        .as_sibling(true) // the container is the shim's child from its first moment
        .build()
}

/// What is left to libcontainer: everything but who the process is.
fn reduce(mut spec: Spec, terminal: bool) -> Spec {
    let rlimits = spec
        .process()
        .as_ref()
        .and_then(|process| process.rlimits().clone());
    let mut process = Process::default();
    process
        .set_terminal(Some(terminal))
        .set_user(User::default())
        .set_args(Some(vec!["container".into()]))
        .set_env(None)
        .set_cwd("/".into())
        .set_capabilities(None)
        .set_rlimits(rlimits)
        .set_no_new_privileges(None)
        .set_apparmor_profile(None)
        .set_oom_score_adj(None);
    spec.set_process(Some(process));
    if let Some(linux) = spec.linux_mut() {
        linux.set_seccomp(None);
    }
    spec
}

/// The last step of a container's first process.
#[derive(Clone)]
struct Payload {
    identity: Identity,
}

impl Executor for Payload {
    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        let error = self.identity.run();
        report::failed(&error);
        Err(ExecutorError::Other(error.to_string()))
    }

    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        Ok(()) // the program is looked for as the user that runs it
    }

    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(()) // the identity brings its own
    }
}

/// Where libcontainer sends the terminal's master to.
struct Console {
    listener: UnixListener,
    path: PathBuf,
}

impl Console {
    fn listen(dir: &Path) -> Result<Self, Error> {
        // By a relative name: socket paths are limited to 108 bytes.
        std::env::set_current_dir(dir).map_err(Error::at(dir))?;
        let path = dir.join("console.sock");
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind("console.sock").map_err(Error::at(&path))?;
        Ok(Self { listener, path })
    }

    fn master(self) -> Result<OwnedFd, Error> {
        let receive = || {
            let (socket, _) = self.listener.accept()?;
            let mut inbox = Inbox::default();
            inbox.receive(socket.as_fd())?;
            inbox
                .next_fd()
                .ok_or_else(|| std::io::Error::other("no descriptor came"))
        };
        let master = receive().map_err(Error::doing("terminal"));
        let _ = fs::remove_file(&self.path);
        master
    }
}
