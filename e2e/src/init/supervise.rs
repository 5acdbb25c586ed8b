//! Keeps a host's processes running, as systemd does on a real one.
//!
//! Level-triggered: [`PROCESSES`] says what shall run, SIGHUP says that it changed, [`STATUS`] says what runs. Processes
//! that end are started again with a growing delay. As pid 1 it also reaps what pods leave behind.

#![allow(
    unsafe_code,
    reason = "a child's signal mask can be set between fork and exec only"
)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::{Error, PROCESSES, STATUS, read_json, write_json};

/// Delay before the first restart; each further one doubles it.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(5);
/// A process that ran this long starts again with the first delay.
const STABLE: Duration = Duration::from_secs(10);
/// From SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(15);

/// One process that a host shall run. A change of any field restarts it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub name: String,
    pub program: PathBuf,
    pub args: Vec<String>,
    /// In place of the environment.
    pub env: BTreeMap<String, String>,
    /// Appended to.
    pub log: PathBuf,
    /// Identifies the program's file, so that a new build is a change.
    pub build: String,
}

/// What [`PROCESSES`] holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Grows with every change.
    pub generation: u64,
    pub processes: Vec<Process>,
}

/// What [`STATUS`] holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The last generation that is in effect: nothing of an older one runs any more.
    pub generation: u64,
    pub processes: BTreeMap<String, ProcessStatus>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessStatus {
    /// In the host's pid namespace; nothing while it does not run.
    pub pid: Option<i32>,
    /// How often it was started, the first time included.
    pub starts: u32,
    /// How it ended the last time.
    pub ended: Option<String>,
}

pub(super) struct Supervisor {
    dir: PathBuf,
    signals: SignalFd,
    wanted: Wanted,
    running: BTreeMap<String, Running>,
    waiting: BTreeMap<String, Waiting>,
    status: Status,
    ending: bool,
}

struct Running {
    process: Process,
    pid: Pid,
    since: Instant,
    delay: Duration,
    /// Set once it was told to end: when to stop asking.
    kill_at: Option<Instant>,
}

struct Waiting {
    until: Instant,
    delay: Duration,
}

impl Supervisor {
    pub(super) fn new(dir: &Path) -> Result<Self, Error> {
        let mut mask = SigSet::empty();
        for signal in [
            Signal::SIGCHLD,
            Signal::SIGHUP,
            Signal::SIGTERM,
            Signal::SIGINT,
        ] {
            mask.add(signal);
        }
        mask.thread_block()
            .map_err(Error::kernel("block signals"))?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map_err(Error::kernel("make a signalfd"))?;
        let mut supervisor = Self {
            dir: dir.to_owned(),
            signals,
            wanted: Wanted::default(),
            running: BTreeMap::new(),
            waiting: BTreeMap::new(),
            status: Status::default(),
            ending: false,
        };
        supervisor.read_wanted()?;
        Ok(supervisor)
    }

    pub(super) fn run(mut self) -> Result<(), Error> {
        while !(self.ending && self.running.is_empty()) {
            self.reconcile();
            self.report();
            self.wait()?;
            self.handle_signals()?;
            self.reap();
        }
        Ok(())
    }

    fn report(&mut self) {
        if self
            .running
            .values()
            .all(|running| running.kill_at.is_none())
        {
            self.status.generation = self.wanted.generation;
        }
        if let Err(error) = write_json(&self.dir.join(STATUS), &self.status) {
            eprintln!("{}", super::chain(&error));
        }
    }

    /// Blocks until a signal comes or something is due.
    fn wait(&self) -> Result<(), Error> {
        let due = self.waiting.values().map(|waiting| waiting.until);
        let kills = self.running.values().filter_map(|running| running.kill_at);
        let timeout = match due.chain(kills).min() {
            // One millisecond more, so that the time has come when the poll returns.
            Some(at) => {
                let left = at.saturating_duration_since(Instant::now()).as_millis() + 1;
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
            }
            None => PollTimeout::NONE,
        };
        match poll(
            &mut [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)],
            timeout,
        ) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(cause) => Err(Error::kernel("poll")(cause)),
        }
    }

    fn handle_signals(&mut self) -> Result<(), Error> {
        while let Some(info) = self
            .signals
            .read_signal()
            .map_err(Error::kernel("read signals"))?
        {
            match Signal::try_from(info.ssi_signo.cast_signed()) {
                Ok(Signal::SIGHUP) => {
                    // A broken file keeps what runs; the cluster library sees that its change does not come.
                    if let Err(error) = self.read_wanted() {
                        eprintln!("{}", super::chain(&error));
                    }
                }
                Ok(Signal::SIGTERM | Signal::SIGINT) => self.ending = true,
                _ => {}
            }
        }
        Ok(())
    }

    fn read_wanted(&mut self) -> Result<(), Error> {
        let path = self.dir.join(PROCESSES);
        self.wanted = if path.exists() {
            read_json(&path)?
        } else {
            Wanted::default()
        };
        // What was changed by hand is tried at once.
        self.waiting.clear();
        Ok(())
    }

    /// Ends what shall not run, starts what shall.
    fn reconcile(&mut self) {
        let now = Instant::now();
        for running in self.running.values_mut() {
            let stays = !self.ending && self.wanted.processes.contains(&running.process);
            match running.kill_at {
                None if stays => {}
                None => {
                    running.kill_at = Some(now + GRACE);
                    signal(running.pid, Signal::SIGTERM);
                }
                Some(at) if at <= now => {
                    running.kill_at = Some(now + GRACE);
                    signal(running.pid, Signal::SIGKILL);
                }
                Some(_) => {}
            }
        }
        if self.ending {
            return;
        }
        self.status.processes.retain(|name, _| {
            self.running.contains_key(name)
                || self
                    .wanted
                    .processes
                    .iter()
                    .any(|process| process.name == *name)
        });
        for process in self.wanted.processes.clone() {
            let waits = self
                .waiting
                .get(&process.name)
                .is_some_and(|waiting| waiting.until > now);
            if !waits && !self.running.contains_key(&process.name) {
                self.start(process);
            }
        }
    }

    fn start(&mut self, process: Process) {
        let delay = self
            .waiting
            .remove(&process.name)
            .map_or(FIRST_DELAY, |waiting| waiting.delay);
        let status = self
            .status
            .processes
            .entry(process.name.clone())
            .or_default();
        status.starts += 1;
        match spawn(&process) {
            Ok(pid) => {
                status.pid = Some(pid.as_raw());
                let running = Running {
                    pid,
                    since: Instant::now(),
                    delay,
                    kill_at: None,
                    process,
                };
                self.running.insert(running.process.name.clone(), running);
            }
            Err(cause) => {
                status.ended = Some(format!("cannot run {}: {cause}", process.program.display()));
                let until = Instant::now() + delay;
                self.waiting.insert(
                    process.name,
                    Waiting {
                        until,
                        delay: longer(delay),
                    },
                );
            }
        }
    }

    fn reap(&mut self) {
        loop {
            let (pid, how) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, format!("exit code {code}")),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, signal.to_string()),
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            let Some(name) = self
                .running
                .iter()
                .find(|(_, running)| running.pid == pid)
                .map(|(name, _)| name.clone())
            else {
                continue; // an orphan of some pod
            };
            let running = self
                .running
                .remove(&name)
                .expect("the name was found above");
            let status = self.status.processes.entry(name.clone()).or_default();
            status.pid = None;
            status.ended = Some(how);
            if running.kill_at.is_none() {
                let delay = if running.since.elapsed() >= STABLE {
                    FIRST_DELAY
                } else {
                    running.delay
                };
                let until = Instant::now() + delay;
                self.waiting.insert(
                    name,
                    Waiting {
                        until,
                        delay: longer(delay),
                    },
                );
            }
        }
    }
}

fn longer(delay: Duration) -> Duration {
    (delay * 2).min(LONGEST_DELAY)
}

/// Its own children cannot be gone before they were reaped here, so that an error has no meaning.
fn signal(pid: Pid, signal: Signal) {
    let _ = kill(pid, signal);
}

/// The child handle is dropped: [`Supervisor::reap`] waits for all children alike.
fn spawn(process: &Process) -> io::Result<Pid> {
    if let Some(parent) = process.log.parent() {
        fs::create_dir_all(parent)?;
    }
    let log = File::options()
        .append(true)
        .create(true)
        .open(&process.log)?;
    let mut command = Command::new(&process.program);
    command
        .args(&process.args)
        .env_clear()
        .envs(&process.env)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    // SAFETY: setting the signal mask is all that happens, and is allowed between fork and exec.
    unsafe {
        // What is blocked here for the signalfd would stay blocked in the child, SIGTERM included.
        command.pre_exec(|| Ok(SigSet::empty().thread_set_mask()?));
    }
    Ok(Pid::from_raw(command.spawn()?.id().cast_signed()))
}
