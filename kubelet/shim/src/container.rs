//! One container: from the start that was asked for to the exit that is on disk.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use shim::protocol::{ContainerState, Exit, Start};
use shim::record;

use crate::cgroup::{self, Memory};
use crate::log::Log;
use crate::poll::{Poll, Target, Token};
use crate::stdio::{Ends, Stdio};
use crate::sys::{self, Ended, Interest};

/// The exit code of a container whose program could not be run.
const START_ERROR: i32 = 128;

pub(crate) struct Container {
    pub(crate) id: String,
    dir: PathBuf,
    cgroup: PathBuf,
    pub(crate) stdio: Stdio,
    stdin: bool,
    /// The first process; 0 until the helper told.
    pub(crate) pid: i32,
    started_at: i64,
    pub(crate) exit: Option<Exit>,
    memory: Option<(Memory, Token)>,
}

/// The container's ends of its streams, for the helper.
pub(crate) struct HelperEnds {
    pub(crate) fds: Vec<(OwnedFd, i32)>,
}

impl Container {
    /// Opens log and streams; nothing runs yet.
    pub(crate) fn prepare(
        poll: &mut Poll,
        key: u64,
        ask: &Start,
    ) -> io::Result<(Self, HelperEnds)> {
        let mut stdio = Stdio::new(key, Log::open(&ask.log)?, ask.stdin_once);
        let mut fds = Vec::new();
        if !ask.tty {
            let mut ends = Ends {
                stdin: None,
                stdout: None,
                stderr: None,
            };
            if ask.stdin {
                let (read, write) = sys::pipe()?;
                ends.stdin = Some(write);
                fds.push((read, 0));
            }
            for (end, place) in [(&mut ends.stdout, 1), (&mut ends.stderr, 2)] {
                let (read, write) = sys::pipe()?;
                *end = Some(read);
                fds.push((write, place));
            }
            stdio
                .connect(poll, ends)
                .inspect_err(|_| stdio.close(poll))?;
        }
        let container = Self {
            id: ask.id.clone(),
            dir: ask.dir.clone().into(),
            cgroup: ask.memory_cgroup.clone().into(),
            stdio,
            stdin: ask.stdin,
            pid: 0,
            started_at: 0,
            exit: None,
            memory: None,
        };
        Ok((container, HelperEnds { fds }))
    }

    /// The process exists: its terminal is connected, its memory watched.
    pub(crate) fn created(
        &mut self,
        poll: &mut Poll,
        key: u64,
        pid: i32,
        terminal: Option<OwnedFd>,
    ) -> io::Result<()> {
        (self.pid, self.started_at) = (pid, sys::now());
        match Memory::watch(&self.cgroup) {
            Ok(memory) => {
                let token = poll.add(&memory.events, Interest::Read, Target::Memory(key))?;
                self.memory = Some((memory, token));
            }
            // The counter is read at the exit all the same.
            Err(error) => eprintln!("container {}: watching memory: {error}", self.id),
        }
        match terminal {
            Some(master) => self.stdio.connect_terminal(poll, master, self.stdin),
            None => Ok(()),
        }
    }

    /// The program runs.
    pub(crate) fn started(&mut self) -> i64 {
        self.started_at = sys::now();
        self.started_at
    }

    /// Takes word of memory; whether a process was killed for it.
    pub(crate) fn on_memory(&mut self, poll: &mut Poll) -> bool {
        let Some((memory, _)) = &mut self.memory else {
            return false;
        };
        let happened = memory.happened();
        if memory.is_gone() {
            self.forget_memory(poll);
        }
        happened
    }

    /// Whether memory ran out, and the word of it is still on its way.
    pub(crate) fn is_out_of_memory_untold(&self) -> bool {
        let memory = self.memory.as_ref();
        memory.is_some_and(|(memory, _)| memory.is_untold())
    }

    fn forget_memory(&mut self, poll: &mut Poll) {
        if let Some((memory, token)) = self.memory.take() {
            poll.remove(&memory.events, token);
        }
    }

    /// The first process was reaped: whatever is left is killed, the output is complete in the log, the
    /// exit is on disk when this returns.
    pub(crate) fn ended(&mut self, poll: &mut Poll, ended: Ended) -> Exit {
        cgroup::kill_all(&self.cgroup);
        self.stdio.drain(poll);
        self.record(
            poll,
            Exit {
                code: ended.code,
                signal: ended.signal,
                ..Exit::default()
            },
        )
    }

    /// The program could not be run.
    pub(crate) fn failed(&mut self, poll: &mut Poll, why: &str) -> Exit {
        cgroup::kill_all(&self.cgroup);
        self.stdio.close(poll);
        self.record(
            poll,
            Exit {
                code: START_ERROR,
                start_error: why.into(),
                ..Exit::default()
            },
        )
    }

    fn record(&mut self, poll: &mut Poll, exit: Exit) -> Exit {
        let oom = self
            .memory
            .as_ref()
            .is_some_and(|(memory, _)| memory.kills() > 0);
        self.forget_memory(poll);
        let exit = Exit {
            oom,
            started_at: self.started_at,
            finished_at: sys::now(),
            ..exit
        };
        if let Err(error) = record::write(&self.dir, &exit) {
            // It stays known for as long as the shim lives.
            eprintln!("container {}: writing its exit: {error}", self.id);
        }
        self.exit = Some(exit.clone());
        exit
    }

    pub(crate) fn kill(&self, signal: i32, all: bool) -> io::Result<()> {
        if all {
            cgroup::kill_all(&self.cgroup);
        }
        if self.exit.is_none() && self.pid > 0 {
            // Not reaped yet, so the number is still this process's.
            sys::kill(self.pid, signal)?;
        }
        Ok(())
    }

    pub(crate) fn is_running(&self) -> bool {
        self.exit.is_none() && self.pid > 0
    }

    pub(crate) fn state(&self) -> ContainerState {
        ContainerState {
            id: self.id.clone(),
            pid: self.pid.unsigned_abs(),
            started_at: self.started_at,
            ended: self.exit.is_some(),
            exit: self.exit.clone().unwrap_or_default(),
        }
    }
}
