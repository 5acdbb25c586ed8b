//! Starting a shim.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::programs::Programs;
use super::{Error, at, disk, doing};
use crate::runtime::cgroup::Hierarchies;
use crate::runtime::container::Resources;

const LOG: &str = "shim.log";

/// What is said of a shim's log when it did not start.
const TAIL: usize = 500;

/// Starts the shim of a sandbox in its directory and in a cgroup of its own, and waits until it has left
/// this process. Its socket can be connected to at once: it exists before the shim.
pub(super) fn launch(
    programs: &Programs,
    cgroups: &Hierarchies,
    cgroup: &str,
    dir: &Path,
) -> Result<(), Error> {
    cgroups.make(cgroup, &Resources::default())?;
    let socket = dir.join(disk::SOCKET);
    let listener = disk::listen(&socket).map_err(at(&socket))?;
    let log_path = dir.join(LOG);
    let log = File::options()
        .append(true)
        .create(true)
        .open(&log_path)
        .map_err(at(&log_path))?;
    let status = programs
        .shim()
        .args(procs_files(cgroups, cgroup))
        .env_clear()
        .current_dir(dir)
        .stdin(OwnedFd::from(listener))
        .stdout(Stdio::null())
        .stderr(log)
        .status()
        .map_err(doing("starting the shim"))?;
    if status.success() {
        return Ok(());
    }
    let text = std::fs::read_to_string(&log_path).unwrap_or_default();
    let start = text.len().saturating_sub(TAIL);
    let tail = text.get(start..).unwrap_or(&text).trim().to_owned();
    Err(doing("starting the shim")(std::io::Error::other(format!(
        "{status}: {tail}"
    ))))
}

/// The files by which a process joins a cgroup.
pub(super) fn procs_files(cgroups: &Hierarchies, cgroup: &str) -> Vec<PathBuf> {
    cgroups
        .dirs(cgroup)
        .into_iter()
        .map(|dir| dir.join("cgroup.procs"))
        .collect()
}
