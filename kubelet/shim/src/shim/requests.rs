//! What the kubelet asks for, request by request.

use std::os::fd::OwnedFd;

use shim::protocol::{
    Attach, Containers, Done, Exec, Failed, Forget, Frame, Hello, Kill, KillExec, List,
    MakeSandbox, Message, NETWORK_GIVEN, ReopenLog, Resize, SetHelper, Shutdown, Start, VERSION,
};

use super::{Owner, Shim};
use crate::namespaces::Namespaces;
use crate::stdio::Attached;
use crate::sys;

/// A request that is answered at once fails with words.
type Outcome = Result<(), String>;

impl Shim {
    /// Answers one request, now or when its helper is done.
    pub(super) fn request(&mut self, client: u64, frame: &Frame, fds: Vec<OwnedFd>) {
        let (id, body) = (frame.id, &frame.body[..]);
        let mut fds = fds.into_iter();
        let done = match frame.kind {
            Hello::KIND => return self.hello(client, id),
            List::KIND => return self.list(client, id),
            Start::KIND => match parse(body).and_then(|ask| self.start(client, id, &ask)) {
                Ok(()) => return,
                Err(message) => Err(message),
            },
            Exec::KIND => match parse(body).and_then(|ask| self.exec(client, id, &ask, fds)) {
                Ok(()) => return,
                Err(message) => Err(message),
            },
            SetHelper::KIND => next(&mut fds).map(|image| self.helper = Some(image)),
            MakeSandbox::KIND => parse(body).and_then(|ask| self.make_sandbox(&ask, fds)),
            Kill::KIND => parse(body).and_then(|ask| self.kill(&ask)),
            KillExec::KIND => parse(body).and_then(|ask| self.kill_exec(&ask)),
            Attach::KIND => parse(body).and_then(|ask| self.attach(&ask, fds)),
            Resize::KIND => parse(body).and_then(|ask| self.resize(&ask)),
            ReopenLog::KIND => parse(body).and_then(|ask| self.reopen_log(&ask)),
            Forget::KIND => parse(body).and_then(|ask| self.forget(&ask)),
            Shutdown::KIND => self.shutdown(),
            kind => Err(format!("unknown request {kind}")),
        };
        match done {
            Ok(()) => self.send(client, id, &Done {}, Vec::new()),
            Err(message) => self.send(client, id, &Failed { message }, Vec::new()),
        }
    }

    fn hello(&mut self, client: u64, id: u32) {
        let hello = Hello {
            version: VERSION,
            pid: std::process::id(),
        };
        self.send(client, id, &hello, Vec::new());
    }

    fn list(&mut self, client: u64, id: u32) {
        let all = self
            .containers
            .values()
            .map(crate::container::Container::state)
            .collect();
        self.send(client, id, &Containers { all }, Vec::new());
    }

    fn make_sandbox(
        &mut self,
        ask: &MakeSandbox,
        mut fds: impl Iterator<Item = OwnedFd>,
    ) -> Outcome {
        let mut given = |wanted: bool| match wanted {
            true => fds.next().map(Some).ok_or("namespace missing"),
            false => Ok(None),
        };
        let network = given(ask.network == NETWORK_GIVEN)?;
        let user = given(ask.user)?;
        if self.namespaces.is_some() {
            return Err("the sandbox is made already".into());
        }
        let made = Namespaces::make(ask, network, user).map_err(|error| error.to_string())?;
        self.namespaces = Some(made);
        Ok(())
    }

    fn kill(&mut self, ask: &Kill) -> Outcome {
        let (key, container) = self.container(&ask.id)?;
        container
            .kill(ask.signal, ask.all)
            .map_err(|error| error.to_string())?;
        if ask.all {
            // A helper that hangs is ended with what it made.
            for job in self
                .jobs
                .values()
                .filter(|job| job.work.container() == Some(key))
            {
                let _ = sys::kill(job.pid, libc::SIGKILL);
            }
        }
        Ok(())
    }

    fn kill_exec(&mut self, ask: &KillExec) -> Outcome {
        let of = |owner: &Owner| matches!(owner, Owner::Exec { exec, .. } if *exec == ask.exec);
        let Some(pid) = self
            .owners
            .iter()
            .find(|(_, owner)| of(owner))
            .map(|(pid, _)| *pid)
        else {
            return Ok(()); // it has ended
        };
        // It leads a session, so its group has its number.
        let _ = sys::kill(-pid, ask.signal);
        sys::kill(pid, ask.signal).map_err(|error| error.to_string())
    }

    fn attach(&mut self, ask: &Attach, mut fds: impl Iterator<Item = OwnedFd>) -> Outcome {
        let mut take = |wanted: bool| {
            if wanted {
                next(&mut fds).map(Some)
            } else {
                Ok(None)
            }
        };
        let with = Attached {
            stdin: take(ask.stdin)?,
            stdout: take(ask.stdout)?,
            stderr: take(ask.stderr)?,
        };
        let (key, container) = self.container(&ask.id)?;
        if !container.is_running() {
            return Err(format!("container {} is not running", ask.id));
        }
        let Some(container) = self.containers.get_mut(&key) else {
            return Ok(());
        };
        container
            .stdio
            .attach(&mut self.poll, with)
            .map_err(|error| error.to_string())
    }

    fn resize(&mut self, ask: &Resize) -> Outcome {
        let (_, container) = self.container(&ask.id)?;
        container
            .stdio
            .resize(ask.width, ask.height)
            .map_err(|error| error.to_string())
    }

    fn reopen_log(&mut self, ask: &ReopenLog) -> Outcome {
        let (key, _) = self.container(&ask.id)?;
        let Some(container) = self.containers.get_mut(&key) else {
            return Ok(());
        };
        container
            .stdio
            .reopen_log()
            .map_err(|error| error.to_string())
    }

    fn forget(&mut self, ask: &Forget) -> Outcome {
        let Ok((key, container)) = self.container(&ask.id) else {
            return Ok(());
        };
        if container.exit.is_none() {
            return Err(format!("container {} has not ended", ask.id));
        }
        if let Some(mut container) = self.containers.remove(&key) {
            container.stdio.close(&mut self.poll);
        }
        Ok(())
    }

    fn shutdown(&mut self) -> Outcome {
        match self
            .containers
            .values()
            .find(|container| container.exit.is_none())
        {
            Some(container) => Err(format!("container {} has not ended", container.id)),
            None => {
                self.finished = true;
                Ok(())
            }
        }
    }
}

/// The next descriptor that came with a request.
pub(super) fn next(fds: &mut impl Iterator<Item = OwnedFd>) -> Result<OwnedFd, String> {
    fds.next().ok_or_else(|| "descriptor missing".into())
}

pub(super) fn parse<T: Message>(body: &[u8]) -> Result<T, String> {
    T::parse(body).map_err(|error| error.to_string())
}
