//! Helpers: what they are started for, and what their reports mean.

use std::os::fd::{AsFd, OwnedFd};

use shim::protocol::{
    Created, Detail, Exec, Exited, Failed, Frame, Message, Running, Start, Started, helper_fd,
};
use shim::wire::Inbox;

use super::requests::{next, parse};
use super::{Job, Owner, Shim, Work};
use crate::container::Container;
use crate::poll::Target;
use crate::spawn;
use crate::sys::{self, Interest};

impl Work {
    /// The container that is being started.
    pub(super) const fn container(&self) -> Option<u64> {
        match self {
            Self::Start { container } => Some(*container),
            Self::Exec { .. } => None,
        }
    }
}

impl Shim {
    pub(super) fn start(&mut self, client: u64, request: u32, ask: &Start) -> Result<(), String> {
        if self.container(&ask.id).is_ok() {
            return Err(format!("container {} exists", ask.id));
        }
        let target = match ask.pid_of.as_str() {
            "" => None,
            id => Some(self.pid_namespace_of(id)?),
        };
        let key = self.poll.unique();
        let (container, ends) =
            Container::prepare(&mut self.poll, key, ask).map_err(|error| error.to_string())?;
        self.containers.insert(key, container);
        let mut args: Vec<String> = [
            "navarch-helper",
            "create",
            "--id",
            &ask.id,
            "--dir",
            &ask.dir,
            "--spec",
            &ask.spec,
        ]
        .map(String::from)
        .to_vec();
        if !ask.seccomp.is_empty() {
            args.extend(["--seccomp".into(), ask.seccomp.clone()]);
        }
        let mut fds: Vec<(&OwnedFd, i32)> = ends.fds.iter().map(|(fd, at)| (fd, *at)).collect();
        let namespaces = self
            .namespaces
            .as_ref()
            .map(|held| held.for_helper())
            .unwrap_or_default();
        fds.extend(
            namespaces
                .into_iter()
                .filter(|(_, at)| target.is_none() || *at != helper_fd::PID),
        );
        fds.extend(target.as_ref().map(|fd| (fd, helper_fd::PID)));
        let started = self.launch(&args, &fds);
        match started {
            Ok(helper) => self.watch(helper, Work::Start { container: key }, client, request),
            Err(message) => {
                if let Some(mut container) = self.containers.remove(&key) {
                    container.stdio.close(&mut self.poll);
                }
                Err(message)
            }
        }
    }

    pub(super) fn exec(
        &mut self,
        client: u64,
        request: u32,
        ask: &Exec,
        mut fds: impl Iterator<Item = OwnedFd>,
    ) -> Result<(), String> {
        let streams = [(ask.stdin, 0), (ask.stdout, 1), (ask.stderr, 2)];
        let mut given = Vec::new();
        for (_, at) in streams.into_iter().filter(|(wanted, _)| *wanted) {
            given.push((next(&mut fds)?, at));
        }
        let (_, container) = self.container(&ask.id)?;
        if !container.is_running() {
            return Err(format!("container {} is not running", ask.id));
        }
        let pid = container.pid.to_string();
        let mut args: Vec<String> = ["navarch-helper", "exec", "--pid", &pid, "--spec", &ask.spec]
            .map(String::from)
            .to_vec();
        if !ask.seccomp.is_empty() {
            args.extend(["--seccomp".into(), ask.seccomp.clone()]);
        }
        if ask.tty {
            let size = format!("{}x{}", ask.width, ask.height);
            args.extend(["--tty".into(), size]);
        }
        args.push("--".into());
        args.extend_from_slice(&ask.args);
        let fds: Vec<(&OwnedFd, i32)> = given.iter().map(|(fd, at)| (fd, *at)).collect();
        let helper = self.launch(&args, &fds)?;
        self.watch(
            helper,
            Work::Exec {
                exec: ask.exec,
                tty: ask.tty,
            },
            client,
            request,
        )
    }

    fn pid_namespace_of(&self, id: &str) -> Result<OwnedFd, String> {
        let (_, container) = self.container(id)?;
        if !container.is_running() {
            return Err(format!("container {id} is not running"));
        }
        let file = std::fs::File::open(format!("/proc/{}/ns/pid", container.pid));
        file.map(Into::into)
            .map_err(|error| format!("PID namespace of container {id}: {error}"))
    }

    fn launch(&self, args: &[String], fds: &[(&OwnedFd, i32)]) -> Result<spawn::Helper, String> {
        let image = self.helper.as_ref().ok_or("no helper was given")?;
        spawn::helper(image, args, fds).map_err(|error| format!("starting helper: {error}"))
    }

    fn watch(
        &mut self,
        helper: spawn::Helper,
        work: Work,
        client: u64,
        request: u32,
    ) -> Result<(), String> {
        let key = self.poll.unique();
        let spawn::Helper { pid, report } = helper;
        let watched = sys::set_nonblocking(report.as_fd())
            .and_then(|()| self.poll.add(&report, Interest::Read, Target::Job(key)));
        let token = watched.map_err(|error| {
            let _ = sys::kill(pid, libc::SIGKILL);
            error.to_string()
        })?;
        self.owners.insert(pid, Owner::Helper);
        let inbox = Inbox::default();
        let job = Job {
            pid,
            report,
            token,
            inbox,
            work,
            client,
            request,
            created: None,
            detail: None,
            failed: None,
        };
        self.jobs.insert(key, job);
        Ok(())
    }

    /// Takes what a helper says; its job is done when nobody can say more.
    pub(super) fn on_report(&mut self, key: u64) {
        let Some(job) = self.jobs.get_mut(&key) else {
            return;
        };
        let open = loop {
            match job.inbox.receive(job.report.as_fd()) {
                Ok(0) => break false,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break true,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break false,
            }
        };
        while let Some((frame, fds)) = self.jobs.get_mut(&key).and_then(Job::next_frame) {
            self.on_word(key, &frame, fds);
        }
        if !open {
            self.finish(key);
        }
    }

    fn on_word(&mut self, key: u64, frame: &Frame, fds: Vec<OwnedFd>) {
        let Some(job) = self.jobs.get_mut(&key) else {
            return;
        };
        match frame.kind {
            Created::KIND => {
                let Ok(Created { pid }) = parse(&frame.body) else {
                    return;
                };
                let pid = pid.cast_signed();
                let terminal = fds.into_iter().next();
                let work = job.work;
                job.created = Some((pid, None));
                match work {
                    Work::Start { container } => self.on_created(key, container, pid, terminal),
                    Work::Exec { exec, .. } => {
                        let client = job.client;
                        job.created = Some((pid, terminal));
                        self.own(pid, Owner::Exec { exec, client });
                    }
                }
            }
            Failed::KIND => {
                if let Ok(Failed { message }) = parse(&frame.body) {
                    let message = match job.detail.take() {
                        Some(detail) => format!("{message}: {detail}"),
                        None => message,
                    };
                    job.failed.get_or_insert(message);
                }
            }
            Detail::KIND => {
                if let Ok(Detail { message }) = parse(&frame.body) {
                    job.detail.get_or_insert(message);
                }
            }
            _ => {}
        }
    }

    fn on_created(&mut self, job: u64, key: u64, pid: i32, terminal: Option<OwnedFd>) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let created = container.created(&mut self.poll, key, pid, terminal);
        if let (Err(error), Some(job)) = (created, self.jobs.get_mut(&job)) {
            job.failed.get_or_insert(error.to_string());
        }
        self.own(pid, Owner::Container(key));
    }

    /// Ties a process to its owner, unless it was reaped before: then its end waits for the report. A
    /// process that exists is the one meant, and an end with its number that of an earlier one.
    fn own(&mut self, pid: i32, owner: Owner) {
        if self.unclaimed.contains_key(&pid) && !sys::exists(pid) {
            return;
        }
        self.unclaimed.remove(&pid);
        self.owners.insert(pid, owner);
    }

    fn finish(&mut self, key: u64) {
        let Some(job) = self.jobs.remove(&key) else {
            return;
        };
        self.poll.remove(&job.report, job.token);
        let failed = match (&job.created, job.failed) {
            (_, Some(message)) => Some(message),
            (None, None) => Some("the helper ended without a report".into()),
            (Some(_), None) => None,
        };
        let (client, request) = (job.client, job.request);
        match (job.work, failed, job.created) {
            (Work::Start { container }, Some(message), _) => {
                self.start_failed(container, client, request, message);
            }
            (Work::Start { container }, None, Some((pid, _))) => {
                self.started(container, client, request, pid);
            }
            (Work::Exec { .. }, Some(message), created) => {
                if let Some((pid, _)) = created {
                    self.owners.remove(&pid);
                }
                self.send(client, request, &Failed { message }, Vec::new());
            }
            (Work::Exec { exec, tty }, None, Some((pid, terminal))) => {
                let started = Started {
                    pid: pid.unsigned_abs(),
                    at: sys::now(),
                };
                let terminal = terminal.filter(|_| tty).into_iter().collect();
                self.send(client, request, &started, terminal);
                if let Some(ended) = self.unclaimed.remove(&pid) {
                    self.on_end(Owner::Exec { exec, client }, ended);
                }
            }
            (_, None, None) => {} // told above to have failed
        }
        if self.jobs.is_empty() {
            self.unclaimed.clear();
        }
    }

    fn start_failed(&mut self, key: u64, client: u64, request: u32, message: String) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let exit = container.failed(&mut self.poll, &message);
        let exited = Exited {
            id: container.id.clone(),
            exit,
        };
        self.send(client, request, &Failed { message }, Vec::new());
        self.tell(&exited);
    }

    fn started(&mut self, key: u64, client: u64, request: u32, pid: i32) {
        let Some(container) = self.containers.get_mut(&key) else {
            return;
        };
        let (at, id) = (container.started(), container.id.clone());
        let number = pid.unsigned_abs();
        self.send(client, request, &Started { pid: number, at }, Vec::new());
        self.tell(&Running {
            id,
            pid: number,
            at,
        });
        if let Some(ended) = self.unclaimed.remove(&pid) {
            self.on_exit(key, ended);
        }
    }
}

impl Job {
    fn next_frame(&mut self) -> Option<(Frame, Vec<OwnedFd>)> {
        self.inbox.next_frame().ok().flatten()
    }
}
