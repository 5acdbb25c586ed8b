//! One cgroup subtree per cluster in every hierarchy of this machine, v1, hybrid or v2.
//!
//! Everything a cluster starts lives below `/<name>/`, its pods included, so that nothing of it can escape [`kill`].
//! `/<name>/<host>` is what a node's kubelet takes as its root; the daemons sit in `/<name>/<host>/system`, because v2
//! allows processes in leaves only.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill as send};
use nix::unistd::Pid;

use crate::files;

/// Controllers that a kubelet needs below its root.
const CONTROLLERS: &str = "+cpu +cpuset +io +memory +pids";
/// Killed processes go as soon as the kernel has torn them down; more than this means that something holds them.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error(transparent)]
    File(#[from] files::Error),
    #[error("{count} processes below {path} survive SIGKILL")]
    Survivors { path: PathBuf, count: usize },
}

#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    root: PathBuf,
    v2: bool,
}

/// Makes `path` (relative to each hierarchy's root), usable for processes and for cgroups below it.
pub(crate) fn create(path: &Path) -> Result<(), Error> {
    for hierarchy in hierarchies()? {
        let mut dir = hierarchy.root.clone();
        for part in path {
            if hierarchy.v2 {
                enable_controllers(&dir)?;
            }
            let parent = dir.clone();
            dir.push(part);
            match fs::create_dir(&dir) {
                Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(files::cannot("make", &dir)(cause).into());
                }
                _ => {}
            }
            if !hierarchy.v2 {
                inherit_cpuset(&parent, &dir)?;
            }
        }
    }
    Ok(())
}

/// Moves the calling process into `path` in every hierarchy.
pub(crate) fn join(path: &Path) -> Result<(), Error> {
    for hierarchy in hierarchies()? {
        let procs = hierarchy.root.join(path).join("cgroup.procs");
        fs::write(&procs, "0").map_err(files::cannot("write", &procs))?;
    }
    Ok(())
}

/// What is below `path` may have this many bytes of memory together. Without a memory controller there is
/// no bound.
pub(crate) fn limit_memory(path: &Path, bytes: u64) -> Result<(), Error> {
    for hierarchy in hierarchies()? {
        let file = if hierarchy.v2 {
            "memory.max"
        } else {
            "memory.limit_in_bytes"
        };
        let limit = hierarchy.root.join(path).join(file);
        if limit.exists() {
            fs::write(&limit, bytes.to_string()).map_err(files::cannot("write", &limit))?;
        }
    }
    Ok(())
}

/// Ends every process below `path` and waits until the last is gone.
pub(crate) fn kill(path: &Path) -> Result<(), Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut left = processes(path)?;
        left.sort_unstable();
        left.dedup();
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Error::Survivors {
                path: path.to_owned(),
                count: left.len(),
            });
        }
        for pid in left {
            // It may be gone already, or be a new process that the next look finds.
            let _ = send(Pid::from_raw(pid), Signal::SIGKILL);
        }
        sleep(LOOK_AGAIN);
    }
}

/// Removes `path` and all below it. There must be no process left in it.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    for hierarchy in hierarchies()? {
        let top = hierarchy.root.join(path);
        for dir in subtree(&top).into_iter().rev() {
            remove_dir(&dir)?;
        }
    }
    Ok(())
}

/// Processes below `path`, in any hierarchy.
fn processes(path: &Path) -> Result<Vec<i32>, Error> {
    let mut found = Vec::new();
    for hierarchy in hierarchies()? {
        for dir in subtree(&hierarchy.root.join(path)) {
            let procs = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            // Zero stands for processes outside of this pid namespace.
            found.extend(
                procs
                    .lines()
                    .filter_map(|pid| pid.parse().ok())
                    .filter(|pid: &i32| *pid > 0),
            );
        }
    }
    Ok(found)
}

/// `top` and all directories below it, parents first. One that vanishes meanwhile is left out.
fn subtree(top: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(top) else {
        return Vec::new();
    };
    let mut all = vec![top.to_owned()];
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            all.extend(subtree(&entry.path()));
        }
    }
    all
}

/// A cgroup stays busy for a moment after its last process was reaped.
fn remove_dir(dir: &Path) -> Result<(), Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match fs::remove_dir(dir) {
            Ok(()) => return Ok(()),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(cause)
                if cause.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline =>
            {
                sleep(LOOK_AGAIN)
            }
            Err(cause) => return Err(files::cannot("remove", dir)(cause).into()),
        }
    }
}

/// Each controller alone: one that this kernel lacks must not keep the others off.
fn enable_controllers(dir: &Path) -> Result<(), Error> {
    let available = fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    let control = dir.join("cgroup.subtree_control");
    for controller in CONTROLLERS.split(' ') {
        if available
            .split_whitespace()
            .any(|name| name == &controller[1..])
        {
            fs::write(&control, controller).map_err(files::cannot("write", &control))?;
        }
    }
    Ok(())
}

/// A new v1 cpuset has neither CPUs nor memory nodes and takes no process until it has both.
fn inherit_cpuset(parent: &Path, dir: &Path) -> Result<(), Error> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let (from, to) = (parent.join(file), dir.join(file));
        if !to.exists() {
            continue;
        }
        let given = fs::read_to_string(&from).map_err(files::cannot("read", &from))?;
        fs::write(&to, given.trim()).map_err(files::cannot("write", &to))?;
    }
    Ok(())
}

fn hierarchies() -> Result<Vec<Hierarchy>, Error> {
    let mounts = Path::new("/proc/self/mountinfo");
    let text = fs::read_to_string(mounts).map_err(files::cannot("read", mounts))?;
    Ok(parse_hierarchies(&text))
}

/// The mount points of cgroup file systems (proc_pid_mountinfo(5): the fifth field, and the first after the dash).
fn parse_hierarchies(mountinfo: &str) -> Vec<Hierarchy> {
    let mount = |line: &str| {
        let (front, back) = line.split_once(" - ")?;
        let v2 = match back.split(' ').next()? {
            "cgroup" => false,
            "cgroup2" => true,
            _ => return None,
        };
        Some(Hierarchy {
            root: PathBuf::from(front.split(' ').nth(4)?),
            v2,
        })
    };
    mountinfo.lines().filter_map(mount).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid_machines_have_both_versions() {
        let mountinfo = "\
31 24 0:27 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
32 31 0:28 / /sys/fs/cgroup/cpuset rw,relatime shared:9 - cgroup cgroup rw,cpuset
33 31 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";
        let found = parse_hierarchies(mountinfo);
        assert_eq!(
            found,
            [
                Hierarchy {
                    root: "/sys/fs/cgroup/cpuset".into(),
                    v2: false
                },
                Hierarchy {
                    root: "/sys/fs/cgroup/unified".into(),
                    v2: true
                },
            ]
        );
    }

    #[test]
    fn nothing_below_a_cgroup_survives_its_end() {
        let path = PathBuf::from(format!("navarch-test-{}", std::process::id()));
        let inner = path.join("host/system");
        create(&inner).unwrap();
        let procs: String = hierarchies()
            .unwrap()
            .iter()
            .map(|hierarchy| {
                format!(
                    "echo $$ > {}; ",
                    hierarchy.root.join(&inner).join("cgroup.procs").display()
                )
            })
            .collect();
        let mut shell = std::process::Command::new("sh")
            .args([
                "-ec",
                &format!("{procs} setsid sleep 1000 & echo ready; exec sleep 1000"),
            ])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        io::BufRead::read_line(
            &mut io::BufReader::new(shell.stdout.take().unwrap()),
            &mut line,
        )
        .unwrap();
        assert_eq!(line, "ready\n");
        let reaper = std::thread::spawn(move || shell.wait().unwrap());
        kill(&path).unwrap();
        assert!(!reaper.join().unwrap().success());
        remove(&path).unwrap();
        assert!(
            hierarchies()
                .unwrap()
                .iter()
                .all(|hierarchy| !hierarchy.root.join(&path).exists())
        );
    }
}
