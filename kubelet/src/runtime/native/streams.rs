//! Exec and attach: descriptors made here, handed to the shim, and used by the process itself. Bytes of
//! an exec never pass through the shim.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use shim::protocol::{Attach, Exec, KillExec, Resize, Started};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use super::connection;
use super::container::{Container, now};
use super::disk;
use super::pty::Pty;
use super::sandbox::Sandbox;
use super::{Error, doing};
use crate::runtime::container::ContainerState;
use crate::runtime::stream::{
    ExecOutput, ExecRequest, Input, MAX_EXEC_SYNC_OUTPUT, Output, Session, Terminal, TerminalSize,
};

/// Size of a terminal of which nobody said one.
const DEFAULT_SIZE: TerminalSize = TerminalSize {
    width: 80,
    height: 24,
};

/// The other ends of what a process is given.
struct Ends {
    stdin: Option<pipe::Sender>,
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
    /// To hand over, in the protocol's order.
    given: Vec<OwnedFd>,
}

impl Ends {
    fn make(stdin: bool, stdout: bool, stderr: bool) -> io::Result<Self> {
        let mut ends = Self {
            stdin: None,
            stdout: None,
            stderr: None,
            given: Vec::new(),
        };
        if stdin {
            let (read, write) = io::pipe()?;
            ends.given.push(read.into());
            ends.stdin = Some(pipe::Sender::from_owned_fd(write.into())?);
        }
        for (wanted, end) in [(stdout, &mut ends.stdout), (stderr, &mut ends.stderr)] {
            if wanted {
                let (read, write) = io::pipe()?;
                ends.given.push(write.into());
                *end = Some(pipe::Receiver::from_owned_fd(read.into())?);
            }
        }
        Ok(ends)
    }
}

/// A command that runs.
struct Running {
    exec: u64,
    exit: oneshot::Receiver<i32>,
    terminal: Option<OwnedFd>,
}

impl Sandbox {
    async fn launch(
        &self,
        container: &Container,
        request: &ExecRequest,
        given: Vec<OwnedFd>,
    ) -> Result<Running, Error> {
        running(container)?;
        let size = request.size.unwrap_or(DEFAULT_SIZE);
        let exec = next_exec();
        let path = |path: &std::path::Path| path.display().to_string();
        let ask = Exec {
            id: container.id.clone(),
            exec,
            spec: path(&container.dir.join(disk::SPEC)),
            seccomp: container
                .saved
                .seccomp
                .as_deref()
                .map(path)
                .unwrap_or_default(),
            args: request.command.clone(),
            stdin: request.stdin && !request.tty,
            stdout: request.stdout && !request.tty,
            stderr: request.stderr && !request.tty,
            tty: request.tty,
            width: size.width,
            height: size.height,
        };
        let (sender, exit) = oneshot::channel();
        self.execs.lock().insert(exec, sender);
        match self.connection()?.call::<Started>(&ask, given).await {
            Ok((_, terminal)) => Ok(Running {
                exec,
                exit,
                terminal,
            }),
            Err(error) => {
                self.execs.lock().remove(&exec);
                Err(match error {
                    connection::Error::Refused(message) => Error::Start(message),
                    other => self.shim_error()(other),
                })
            }
        }
    }

    pub(super) async fn exec(
        self: &Arc<Self>,
        container: &Container,
        request: ExecRequest,
    ) -> Result<Session, Error> {
        if request.command.is_empty() {
            return Err(Error::Invalid("no command specified".into()));
        }
        let pipes = !request.tty;
        let ends = Ends::make(
            pipes && request.stdin,
            pipes && request.stdout,
            pipes && request.stderr,
        )
        .map_err(doing("pipe"))?;
        let running = self.launch(container, &request, ends.given).await?;
        let id = self.id.clone();
        let exit = Box::pin(async move {
            let gone = |_| Error::Shim {
                sandbox: id,
                source: connection::Error::Gone,
            };
            running.exit.await.map_err(gone)
        });
        let Some(master) = running.terminal else {
            return Ok(Session {
                stdin: ends.stdin.map(|pipe| Box::pin(pipe) as Input),
                stdout: ends.stdout.map(|pipe| Box::pin(pipe) as Output),
                stderr: ends.stderr.map(|pipe| Box::pin(pipe) as Output),
                terminal: None,
                exit,
            });
        };
        let pty = Pty::new(master).map_err(doing("terminal"))?;
        let (input, output, resized) = (pty.clone(), pty.clone(), pty);
        Ok(Session {
            stdin: request.stdin.then(|| Box::pin(input) as Input),
            stdout: request.stdout.then(|| Box::pin(output) as Output),
            stderr: None,
            terminal: Some(Terminal::new(move |size| resized.resize(size))),
            exit,
        })
    }

    pub(super) async fn exec_sync(
        &self,
        container: &Container,
        command: Vec<String>,
        timeout: Duration,
    ) -> Result<ExecOutput, Error> {
        if command.is_empty() {
            return Err(Error::Invalid("no command specified".into()));
        }
        let request = ExecRequest {
            command,
            stdout: true,
            stderr: true,
            ..Default::default()
        };
        let ends = Ends::make(false, true, true).map_err(doing("pipe"))?;
        let (Some(stdout), Some(stderr)) = (ends.stdout, ends.stderr) else {
            return Err(Error::Invalid("no streams".into()));
        };
        let running = self.launch(container, &request, ends.given).await?;
        let exec = running.exec;
        let finish = collect(stdout, stderr, running.exit);
        let limit = if timeout.is_zero() {
            Duration::MAX
        } else {
            timeout
        };
        match tokio::time::timeout(limit, finish).await {
            Ok(Some(output)) => Ok(output),
            Ok(None) => Err(self.shim_error()(connection::Error::Gone)),
            Err(_) => {
                let kill = KillExec {
                    exec,
                    signal: libc::SIGKILL,
                };
                self.connection()?
                    .tell(&kill, Vec::new())
                    .await
                    .map_err(self.shim_error())?;
                Err(Error::Timeout(timeout))
            }
        }
    }

    pub(super) async fn attach(
        self: &Arc<Self>,
        container: Arc<Container>,
        stdin: bool,
    ) -> Result<Session, Error> {
        running(&container)?;
        let config = &container.saved.config;
        let (stdin, tty) = (stdin && config.stdin, config.tty);
        let ends = Ends::make(stdin, true, !tty).map_err(doing("pipe"))?;
        let id = container.id.clone();
        let ask = Attach {
            id: id.clone(),
            stdin,
            stdout: true,
            stderr: !tty,
        };
        let connection = self.connection()?;
        connection
            .tell(&ask, ends.given)
            .await
            .map_err(self.shim_error())?;
        let resize = move |TerminalSize { width, height }| {
            let ask = Resize {
                id: id.clone(),
                width,
                height,
            };
            connection.tell_later(&ask).map_err(io::Error::other)
        };
        Ok(Session {
            stdin: ends.stdin.map(|pipe| Box::pin(pipe) as Input),
            stdout: ends.stdout.map(|pipe| Box::pin(pipe) as Output),
            stderr: ends.stderr.map(|pipe| Box::pin(pipe) as Output),
            terminal: tty.then(|| Terminal::new(resize)),
            exit: Box::pin(async move { Ok(container.exit().await.code) }),
        })
    }
}

fn running(container: &Container) -> Result<(), Error> {
    let (is, needs) = (container.state(), ContainerState::Running);
    if is == needs {
        Ok(())
    } else {
        Err(Error::ContainerState {
            id: container.id.clone(),
            is,
            needs,
        })
    }
}

/// Numbers that no kubelet gave to the same shim before.
fn next_exec() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let now = now().unsigned_abs();
    let next = |last: u64| Some(now.max(last + 1));
    NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
        .unwrap_or(now)
        .max(now)
}

/// Reads both streams until the command has ended and what it wrote was read. Others that it left behind
/// may hold the streams open; they are not waited for.
async fn collect(
    mut stdout: pipe::Receiver,
    mut stderr: pipe::Receiver,
    mut exit: oneshot::Receiver<i32>,
) -> Option<ExecOutput> {
    let mut output = ExecOutput::default();
    let (mut out, mut err) = (vec![0; 16 << 10], vec![0; 16 << 10]);
    let (mut out_open, mut err_open) = (true, true);
    let exit_code = loop {
        tokio::select! {
            // Nothing is read any more once the exit is known: the rest is taken below, without waiting.
            biased;
            code = &mut exit => break code.ok()?,
            read = stdout.read(&mut out), if out_open => {
                out_open = keep(&mut output.stdout, &out, read);
            }
            read = stderr.read(&mut err), if err_open => {
                err_open = keep(&mut output.stderr, &err, read);
            }
        }
    };
    drain(stdout, &mut output.stdout, &mut out);
    drain(stderr, &mut output.stderr, &mut err);
    Some(ExecOutput {
        exit_code,
        ..output
    })
}

/// Takes what is in a pipe. The kernel is asked, and not the runtime, which may not have heard yet that there is
/// something.
fn drain(from: pipe::Receiver, to: &mut Vec<u8>, buffer: &mut [u8]) {
    let Ok(pipe) = from.into_nonblocking_fd() else {
        return;
    };
    let mut pipe = File::from(pipe);
    loop {
        let read = pipe.read(buffer);
        if !keep(to, buffer, read) {
            return;
        }
    }
}

/// Keeps what was read, up to the limit; whether there may be more.
fn keep(to: &mut Vec<u8>, from: &[u8], read: io::Result<usize>) -> bool {
    let Ok(length) = read else { return false };
    let room = MAX_EXEC_SYNC_OUTPUT.saturating_sub(to.len());
    to.extend_from_slice(&from[..length.min(room)]);
    length > 0
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn what_was_written_before_the_exit_is_read() {
        let (mut write, ends) = ends();
        write.write_all(b"said").unwrap();
        let (exited, exit) = oneshot::channel();
        exited.send(3).unwrap();
        let [stdout, stderr] = ends;
        // The writing end is still open, as if the command had left somebody behind.
        let output = collect(stdout, stderr, exit).await.unwrap();
        assert_eq!(
            (output.exit_code, output.stdout.as_slice()),
            (3, &b"said"[..])
        );
    }

    fn ends() -> (io::PipeWriter, [pipe::Receiver; 2]) {
        let (out, write) = io::pipe().unwrap();
        let (err, _) = io::pipe().unwrap();
        let ends = [out, err].map(|end| pipe::Receiver::from_owned_fd(end.into()).unwrap());
        (write, ends)
    }
}
