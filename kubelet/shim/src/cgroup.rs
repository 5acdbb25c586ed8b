//! The little that the shim does with cgroups: ending everything in one, and noticing that memory ran
//! out. They are made, limited and removed by the kubelet and the helper.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::sys;

/// Rounds of killing: each takes what the round before forked meanwhile.
const ROUNDS: usize = 64;

/// Sends SIGKILL to every process of a cgroup and the cgroups below. Does not wait for their end.
pub(crate) fn kill_all(cgroup: &Path) {
    if fs::write(cgroup.join("cgroup.kill"), "1").is_ok() {
        return; // v2: atomically
    }
    let mut seen = Vec::new();
    for _ in 0..ROUNDS {
        let mut found = processes(cgroup);
        found.retain(|pid| !seen.contains(pid));
        if found.is_empty() {
            return;
        }
        for pid in &found {
            let _ = sys::kill(*pid, libc::SIGKILL);
        }
        seen.extend(found);
    }
}

fn processes(cgroup: &Path) -> Vec<i32> {
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    pids.retain(|pid| *pid > 0); // 0: of a PID namespace that we do not see
    let below = fs::read_dir(cgroup)
        .into_iter()
        .flatten()
        .filter_map(Result::ok);
    for entry in below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        pids.extend(processes(&entry.path()));
    }
    pids
}

/// Watches one cgroup's memory.
pub(crate) struct Memory {
    counter: PathBuf,
    /// Readable when something happened.
    pub(crate) events: File,
    told: u64,
    /// Whether any kill was told.
    was_told: bool,
}

impl Memory {
    /// Starts to watch; works with both versions of cgroups.
    pub(crate) fn watch(cgroup: &Path) -> io::Result<Self> {
        let v2 = cgroup.join("memory.events");
        if v2.exists() {
            let path = CString::new(v2.as_os_str().as_bytes())
                .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
            let events = sys::watch_file(&path)?.into();
            return Ok(Self {
                counter: v2,
                events,
                told: 0,
                was_told: false,
            });
        }
        let v1 = cgroup.join("memory.oom_control");
        let control = File::open(&v1)?;
        let events = File::from(sys::eventfd()?);
        let line = format!("{} {}", events.as_raw_fd(), control.as_raw_fd());
        fs::write(cgroup.join("cgroup.event_control"), line)?;
        Ok(Self {
            counter: v1,
            events,
            told: 0,
            was_told: false,
        })
    }

    /// How many processes were killed so far. On v1 the event comes before the kernel counted: the
    /// number is right once the killed process was reaped.
    pub(crate) fn kills(&self) -> u64 {
        let text = fs::read_to_string(&self.counter).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.and_then(|count| count.trim().parse().ok())
            .unwrap_or(0)
    }

    /// Whether the cgroup was removed.
    pub(crate) fn is_gone(&self) -> bool {
        !self.counter.exists()
    }

    /// Takes an event; whether it is news of a kill. Removing the cgroup makes an event, too.
    pub(crate) fn happened(&mut self) -> bool {
        // One read empties an eventfd, and takes more inotify events than come in a turn.
        let _ = self.events.read(&mut [0; 4096]);
        if self.is_gone() {
            return false;
        }
        let v1 = self.counter.ends_with("memory.oom_control");
        let kills = self.kills();
        let news = v1 || kills > self.told;
        self.told = kills;
        self.was_told |= news;
        news
    }

    /// Whether somebody was killed and nothing was told of it: an exit may be reaped before the event is looked at.
    pub(crate) fn is_untold(&self) -> bool {
        !self.was_told && self.kills() > 0
    }
}
