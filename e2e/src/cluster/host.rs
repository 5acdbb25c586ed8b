//! A host seen from outside: starts it, says what it shall run, tells what it does. The inside is [`crate::init`].

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::files;
use crate::init::{self, FIRST, First, HOST, PROCESSES, Process, STATUS, Status, Wanted};

/// A host obeys within milliseconds; stopping a daemon may take its whole grace period.
const PATIENCE: Duration = Duration::from_secs(40);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error(transparent)]
    Init(#[from] init::Error),
    #[error(transparent)]
    File(#[from] files::Error),
    #[error("host {host} cannot start: {reason}")]
    Launch { host: String, reason: String },
    #[error("host {0} is not running")]
    Down(String),
    #[error("host {host} does not take its new processes; its own log is {log}")]
    Stuck { host: String, log: PathBuf },
    #[error("{process} does not run on {host}")]
    NotRunning { host: String, process: String },
}

#[derive(Clone, Debug)]
pub(super) struct Host {
    pub name: String,
    /// Where the host and its first process talk to each other.
    dir: PathBuf,
    log: PathBuf,
}

impl Host {
    /// The host `name` of the cluster that is kept in `cluster`.
    pub(super) fn new(cluster: &Path, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            dir: cluster.join("hosts").join(name),
            log: cluster.join("logs").join(format!("{name}.log")),
        }
    }

    /// Starts the host if it does not run. `launcher` is the program that has [`crate::init`] in it.
    pub(super) fn ensure(
        &self,
        launcher: &Path,
        cgroup: PathBuf,
        node: Option<init::Node>,
    ) -> Result<(), Error> {
        if self.first().is_some() {
            return Ok(());
        }
        let logs = self
            .log
            .parent()
            .expect("the log lies in the cluster's directory");
        for dir in [self.dir.as_path(), logs] {
            fs::create_dir_all(dir).map_err(files::cannot("make", dir))?;
        }
        // A host starts empty: what shall run is said when what it needs stands.
        for stale in [PROCESSES, STATUS, FIRST] {
            let _ = fs::remove_file(self.dir.join(stale));
        }
        let spec = self.dir.join(HOST);
        let host = init::Host {
            name: self.name.clone(),
            dir: self.dir.clone(),
            cgroup,
            log: self.log.clone(),
            node,
        };
        init::write_json(&spec, &host)?;
        let launch = |reason| Error::Launch {
            host: self.name.clone(),
            reason,
        };
        let output = Command::new(launcher)
            .arg("init")
            .arg("launch")
            .arg(&spec)
            .stdin(Stdio::null())
            .output()
            .map_err(|cause| launch(format!("{}: {cause}", launcher.display())))?;
        if !output.status.success() {
            return Err(launch(
                String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            ));
        }
        Ok(())
    }

    /// The host's first process, if it runs.
    pub(super) fn first(&self) -> Option<Pid> {
        let first: First = init::read_json(&self.dir.join(FIRST)).ok()?;
        (init::start_time(first.pid)? == first.started).then(|| Pid::from_raw(first.pid))
    }

    /// Lets the host run `process`, in place of the one of the same name.
    pub(super) fn start(&self, process: Process) -> Result<(), Error> {
        self.change(|processes| {
            match processes
                .iter_mut()
                .find(|known| known.name == process.name)
            {
                Some(known) => *known = process,
                None => processes.push(process),
            }
        })
    }

    /// Ends the process and does not start it again.
    pub(super) fn stop(&self, name: &str) -> Result<(), Error> {
        self.change(|processes| processes.retain(|process| process.name != name))
    }

    /// What the host shall run.
    pub(super) fn wanted(&self) -> Wanted {
        init::read_json(&self.dir.join(PROCESSES)).unwrap_or_default()
    }

    pub(super) fn status(&self) -> Status {
        init::read_json(&self.dir.join(STATUS)).unwrap_or_default()
    }

    /// Writes what shall run and waits until nothing else does.
    fn change(&self, edit: impl FnOnce(&mut Vec<Process>)) -> Result<(), Error> {
        let first = self.first().ok_or_else(|| Error::Down(self.name.clone()))?;
        let mut wanted = self.wanted();
        let before = wanted.clone();
        edit(&mut wanted.processes);
        if wanted == before && wanted.generation > 0 {
            return Ok(());
        }
        wanted.generation += 1;
        init::write_json(&self.dir.join(PROCESSES), &wanted)?;
        kill(first, Signal::SIGHUP).map_err(|_| Error::Down(self.name.clone()))?;
        let deadline = Instant::now() + PATIENCE;
        while self.status().generation < wanted.generation {
            if Instant::now() > deadline {
                return Err(Error::Stuck {
                    host: self.name.clone(),
                    log: self.log.clone(),
                });
            }
            sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    /// The process's id on this machine.
    pub(super) fn pid(&self, process: &str) -> Result<Pid, Error> {
        let inside = self
            .status()
            .processes
            .get(process)
            .and_then(|status| status.pid);
        inside
            .zip(self.first())
            .and_then(|(inside, first)| outside_pid(first, inside))
            .ok_or_else(|| Error::NotRunning {
                host: self.name.clone(),
                process: process.to_owned(),
            })
    }

    /// Sends a signal to one process, which the host starts again if that ends it.
    pub(super) fn signal(&self, process: &str, signal: Signal) -> Result<(), Error> {
        let pid = self.pid(process)?;
        kill(pid, signal).map_err(|_| Error::NotRunning {
            host: self.name.clone(),
            process: process.to_owned(),
        })
    }

    /// Ends the host at once with everything on it, as a power cut does.
    pub(super) fn kill(&self) {
        if let Some(first) = self.first() {
            // It may have ended in between.
            let _ = kill(first, Signal::SIGKILL);
            while self.first().is_some() {
                sleep(LOOK_AGAIN);
            }
        }
    }
}

/// The child of `first` that has the id `inside` in its own pid namespace.
fn outside_pid(first: Pid, inside: i32) -> Option<Pid> {
    let children = fs::read_to_string(format!("/proc/{first}/task/{first}/children")).ok()?;
    let own_id = |pid: &i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status
            .lines()
            .find_map(|line| line.strip_prefix("NSpid:"))?
            .split_whitespace()
            .last()?
            .parse::<i32>()
            .ok()
    };
    children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .find(|pid| own_id(pid) == Some(inside))
        .map(Pid::from_raw)
}
