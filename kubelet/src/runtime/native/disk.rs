//! What is on disk of sandboxes and containers: their configuration, beside sockets and records.
//!
//! Invariant: a file is there completely or not at all. After a power failure nothing runs, so nothing
//! has to survive one but not to confuse: what cannot be read is removed.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Error, at};
use crate::runtime::container::{ContainerConfig, ContainerUser};
use crate::runtime::sandbox::PodSandboxConfig;
use crate::runtime::signal::Signal;

pub(super) const SANDBOX: &str = "sandbox.json";
pub(super) const CONTAINER: &str = "container.json";
pub(super) const SPEC: &str = "spec.json";
pub(super) const SOCKET: &str = "shim.sock";
/// Exists once the sandbox was made.
pub(super) const MADE: &str = "made";
/// Exists once the sandbox was stopped.
pub(super) const STOPPED: &str = "stopped";

/// `sandbox.json`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SavedSandbox {
    pub(super) config: PodSandboxConfig,
    pub(super) created_at: SystemTime,
    /// The cgroup of the shim.
    pub(super) shim_cgroup: String,
}

/// `container.json`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SavedContainer {
    pub(super) config: ContainerConfig,
    pub(super) created_at: SystemTime,
    pub(super) user: ContainerUser,
    pub(super) stop_signal: Signal,
    pub(super) cgroup: String,
    /// The compiled filter, if it is confined.
    pub(super) seccomp: Option<PathBuf>,
}

/// Writes a file as JSON.
pub(super) fn save(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let write = || {
        let temporary = path.with_extension("tmp");
        fs::write(&temporary, serde_json::to_vec(value)?)?;
        fs::rename(&temporary, path)
    };
    write().map_err(at(path))
}

/// Reads a file of JSON; `None` if it is not there or makes no sense.
pub(super) fn load<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Makes a directory that nobody else can look into, with those above it.
pub(super) fn make_dir(path: &Path) -> Result<(), Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(at(path))
}

/// Directories in a directory, by name.
pub(super) fn directories(path: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(path)
        .into_iter()
        .flatten()
        .filter_map(Result::ok);
    let dirs = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    dirs.filter_map(|dir| Some((dir.file_name().into_string().ok()?, dir.path())))
        .collect()
}

/// The name of a socket by its directory's descriptor: addresses are limited to 108 bytes.
fn short(socket: &Path) -> io::Result<(File, PathBuf)> {
    let (Some(dir), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let dir = File::open(dir)?;
    let path = Path::new("/proc/self/fd")
        .join(dir.as_raw_fd().to_string())
        .join(name);
    Ok((dir, path))
}

/// Binds a socket that only root can use.
pub(super) fn listen(socket: &Path) -> io::Result<UnixListener> {
    let (_dir, path) = short(socket)?;
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Connects to a socket.
pub(super) fn connect(socket: &Path) -> io::Result<UnixStream> {
    let (_dir, path) = short(socket)?;
    UnixStream::connect(path)
}

/// Removes a directory with all in it; none is no error.
pub(super) fn remove_dir(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path)(error)),
        _ => Ok(()),
    }
}
