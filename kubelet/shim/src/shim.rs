//! The event loop: who asked what, which process is whose, and what became of it.
//!
//! Invariants:
//! - Every container that was started ends exactly once, and its end is on disk before anybody hears.
//! - A process may be reaped before its helper told its number. Ends of unknown processes are kept while
//!   any helper has not reported yet, and matched when it does.

mod jobs;
mod requests;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use shim::protocol::{ExecExited, Exited, Message, OutOfMemory};
use shim::wire::Inbox;

use crate::client::{Client, Gone};
use crate::container::Container;
use crate::namespaces::Namespaces;
use crate::poll::{Poll, Target, Token};
use crate::sys::{self, Ended, Interest, Ready};

pub(crate) struct Shim {
    poll: Poll,
    listener: UnixListener,
    children: OwnedFd,
    /// The image of the helper, as the newest kubelet gave it.
    helper: Option<OwnedFd>,
    namespaces: Option<Namespaces>,
    clients: BTreeMap<u64, Client>,
    containers: BTreeMap<u64, Container>,
    jobs: HashMap<u64, Job>,
    owners: HashMap<i32, Owner>,
    unclaimed: HashMap<i32, Ended>,
    finished: bool,
}

/// Whose a process is.
#[derive(Clone, Copy)]
enum Owner {
    Helper,
    Container(u64),
    Exec { exec: u64, client: u64 },
}

/// A helper at work.
struct Job {
    pid: i32,
    report: std::os::unix::net::UnixStream,
    token: Token,
    inbox: Inbox,
    work: Work,
    client: u64,
    request: u32,
    /// Process and terminal, as soon as the helper told.
    created: Option<(i32, Option<OwnedFd>)>,
    /// What the helper's libraries complained about first.
    detail: Option<String>,
    failed: Option<String>,
}

#[derive(Clone, Copy)]
enum Work {
    Start { container: u64 },
    Exec { exec: u64, tty: bool },
}

impl Shim {
    pub(crate) fn new(listener: UnixListener) -> io::Result<Self> {
        let mut poll = Poll::new()?;
        let children = sys::child_signals()?;
        poll.add(&children, Interest::Read, Target::Children)?;
        sys::set_nonblocking(listener.as_fd())?;
        poll.add(&listener, Interest::Read, Target::Listener)?;
        Ok(Self {
            poll,
            listener,
            children,
            helper: None,
            namespaces: None,
            clients: BTreeMap::new(),
            containers: BTreeMap::new(),
            jobs: HashMap::new(),
            owners: HashMap::new(),
            unclaimed: HashMap::new(),
            finished: false,
        })
    }

    /// Serves until it is asked to end.
    pub(crate) fn run(mut self) -> io::Result<()> {
        while !self.finished {
            let timeout = self
                .deadline()
                .map(|at| at.saturating_duration_since(Instant::now()));
            for ready in self.poll.wait(timeout)? {
                if let Some(target) = self.poll.target(&ready) {
                    self.on_ready(target, ready);
                }
            }
            if timeout == Some(Duration::ZERO) {
                let now = Instant::now();
                for container in self.containers.values_mut() {
                    container.stdio.expire(&mut self.poll, now);
                }
            }
        }
        if let Some(namespaces) = &self.namespaces {
            namespaces.release();
        }
        Ok(())
    }

    fn deadline(&self) -> Option<Instant> {
        self.containers
            .values()
            .filter_map(|container| container.stdio.deadline())
            .min()
    }

    fn on_ready(&mut self, target: Target, ready: Ready) {
        match target {
            Target::Listener => self.accept(),
            Target::Children => self.reap(),
            Target::Client(key) => self.on_client(key, ready),
            Target::Job(key) => self.on_report(key),
            Target::Memory(key) => self.on_memory(key),
            Target::Output(key, stream) => {
                self.with_stdio(key, |stdio, poll| stdio.on_output(poll, stream));
            }
            Target::Stdin(key) => self.with_stdio(key, |stdio, poll| stdio.on_stdin(poll, ready)),
            Target::AttachIn(key, client) => {
                self.with_stdio(key, |stdio, poll| stdio.on_client_input(poll, client));
            }
            Target::AttachOut(key, client, stream) => self.with_stdio(key, |stdio, poll| {
                stdio.on_client_output(poll, client, stream, ready);
            }),
        }
    }

    fn with_stdio(&mut self, key: u64, what: impl FnOnce(&mut crate::stdio::Stdio, &mut Poll)) {
        if let Some(container) = self.containers.get_mut(&key) {
            what(&mut container.stdio, &mut self.poll);
        }
    }

    fn accept(&mut self) {
        while let Ok((socket, _)) = self.listener.accept() {
            let key = self.poll.unique();
            if let Ok(client) = Client::new(&mut self.poll, key, socket) {
                self.clients.insert(key, client);
            }
        }
    }

    fn on_client(&mut self, key: u64, ready: Ready) {
        let Some(client) = self.clients.get_mut(&key) else {
            return;
        };
        let mut alive = Ok(());
        if ready.writable {
            alive = client.flush(&self.poll);
        }
        if alive.is_ok() && (ready.readable || ready.broken) {
            // What came before the end is still done.
            alive = client.receive();
            alive = self.answer(key).and(alive);
        }
        if alive.is_err() {
            self.drop_client(key);
        }
    }

    fn answer(&mut self, key: u64) -> Result<(), Gone> {
        loop {
            let Some(client) = self.clients.get_mut(&key) else {
                return Err(Gone);
            };
            let Some((frame, fds)) = client.next_frame()? else {
                return Ok(());
            };
            self.request(key, &frame, fds);
        }
    }

    fn drop_client(&mut self, key: u64) {
        if let Some(client) = self.clients.remove(&key) {
            client.close(&mut self.poll);
        }
    }

    /// Sends to one client, if it is still there.
    fn send(&mut self, key: u64, id: u32, message: &impl Message, fds: Vec<OwnedFd>) {
        let Some(client) = self.clients.get_mut(&key) else {
            return;
        };
        if client.send(&self.poll, id, message, fds).is_err() {
            self.drop_client(key);
        }
    }

    /// Tells all clients.
    fn tell(&mut self, message: &impl Message) {
        let keys: Vec<u64> = self.clients.keys().copied().collect();
        for key in keys {
            self.send(key, 0, message, Vec::new());
        }
    }

    fn reap(&mut self) {
        let mut buffer = [0; 1024];
        let signals = self.children.try_clone().map(std::fs::File::from);
        if let Ok(mut signals) = signals {
            let _ = io::Read::read(&mut signals, &mut buffer);
        }
        while let Some((pid, ended)) = sys::reap() {
            match self.owners.remove(&pid) {
                Some(owner) => self.on_end(owner, ended),
                None if self.jobs.is_empty() => {}
                None => drop(self.unclaimed.insert(pid, ended)),
            }
        }
    }

    fn on_end(&mut self, owner: Owner, ended: Ended) {
        match owner {
            Owner::Helper => {} // what it did is in its report
            Owner::Container(key) => self.on_exit(key, ended),
            Owner::Exec { exec, client } => {
                self.send(
                    client,
                    0,
                    &ExecExited {
                        exec,
                        code: ended.code,
                    },
                    Vec::new(),
                );
            }
        }
    }

    fn on_exit(&mut self, key: u64, ended: Ended) {
        // A container in the making answers its request first; its helper's report decides what it was.
        let job = self
            .jobs
            .values()
            .find(|job| job.work.container() == Some(key));
        if let Some((pid, _)) = job.and_then(|job| job.created.as_ref()) {
            self.unclaimed.insert(*pid, ended);
            return;
        }
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        if container.exit.is_some() {
            return; // it could not be started, which was told
        }
        let id = container.id.clone();
        let out_of_memory = container.is_out_of_memory_untold();
        let exit = container.ended(&mut self.poll, ended);
        if out_of_memory {
            self.tell(&OutOfMemory { id: id.clone() });
        }
        self.tell(&Exited { id, exit });
    }

    fn on_memory(&mut self, key: u64) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        if container.on_memory(&mut self.poll) {
            let event = OutOfMemory {
                id: container.id.clone(),
            };
            self.tell(&event);
        }
    }

    fn container(&self, id: &str) -> Result<(u64, &Container), String> {
        let mut all = self.containers.iter();
        let found = all.find(|(_, container)| container.id == id);
        found
            .map(|(key, c)| (*key, c))
            .ok_or_else(|| format!("no container {id}"))
    }
}
