//! A container's standard streams: into its log, to and from the clients that attached.
//!
//! Invariants:
//! - Nothing is read from the container while an attached client has not taken what was read before:
//!   clients see everything, and memory is bounded by one read. A client that takes nothing for
//!   [`STALL_LIMIT`] is dropped, so that nobody can hold a container up for longer.
//! - The log comes first: what a client saw is in the log.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::log::Log;
use crate::poll::{Poll, Stream, Target, Token};
use crate::sys::{self, Interest, Ready};

/// How long an attached client may hold the container's output up.
const STALL_LIMIT: Duration = Duration::from_secs(10);

/// What is read at once, and how often per turn, so that one loud container does not starve others.
const READ: usize = 64 << 10;
const READS_PER_TURN: usize = 4;
/// What is read at most when the container has ended: more than any pipe holds.
const READS_AT_END: usize = 64;

pub(crate) struct Stdio {
    container: u64,
    log: Log,
    outputs: [Option<Output>; 2],
    stdin: Option<Stdin>,
    /// Closes the container's input with the first client's.
    stdin_once: bool,
    /// The terminal once more, for its size.
    terminal: Option<OwnedFd>,
    clients: Vec<Client>,
}

struct Output {
    file: File,
    token: Token,
}

struct Stdin {
    file: File,
    token: Token,
    pending: Vec<u8>,
    /// To be closed when `pending` is written.
    ending: bool,
}

/// An attached client.
struct Client {
    key: u64,
    stdin: Option<(File, Token)>,
    outputs: [Option<ClientOutput>; 2],
}

struct ClientOutput {
    file: File,
    token: Token,
    pending: Vec<u8>,
    stalled: Option<Instant>,
    /// To be closed when `pending` is written.
    ending: bool,
}

/// The shim's ends of a container's streams.
pub(crate) struct Ends {
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
}

/// What a client attaches.
pub(crate) struct Attached {
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
}

impl Stdio {
    pub(crate) fn new(container: u64, log: Log, stdin_once: bool) -> Self {
        Self {
            container,
            log,
            outputs: [None, None],
            stdin: None,
            stdin_once,
            terminal: None,
            clients: Vec::new(),
        }
    }

    /// Takes the shim's ends of pipes.
    pub(crate) fn connect(&mut self, poll: &mut Poll, ends: Ends) -> io::Result<()> {
        let container = self.container;
        for (stream, fd) in [(Stream::Out, ends.stdout), (Stream::Err, ends.stderr)] {
            let Some(fd) = fd else { continue };
            sys::set_nonblocking(fd.as_fd())?;
            let token = poll.add(&fd, Interest::Read, Target::Output(container, stream))?;
            self.outputs[stream as usize] = Some(Output {
                file: fd.into(),
                token,
            });
        }
        if let Some(fd) = ends.stdin {
            sys::set_nonblocking(fd.as_fd())?;
            let token = poll.add(&fd, Interest::Nothing, Target::Stdin(container))?;
            let file = fd.into();
            self.stdin = Some(Stdin {
                file,
                token,
                pending: Vec::new(),
                ending: false,
            });
        }
        Ok(())
    }

    /// Takes the master of the container's terminal.
    pub(crate) fn connect_terminal(
        &mut self,
        poll: &mut Poll,
        master: OwnedFd,
        stdin: bool,
    ) -> io::Result<()> {
        self.terminal = Some(master.try_clone()?);
        let stdin = if stdin {
            Some(master.try_clone()?)
        } else {
            None
        };
        self.connect(
            poll,
            Ends {
                stdin,
                stdout: Some(master),
                stderr: None,
            },
        )
    }

    pub(crate) fn resize(&self, width: u16, height: u16) -> io::Result<()> {
        match &self.terminal {
            Some(terminal) => sys::resize(terminal.as_fd(), width, height),
            None => Err(io::Error::other("the container has no terminal")),
        }
    }

    pub(crate) fn reopen_log(&mut self) -> io::Result<()> {
        self.log.reopen()
    }

    /// Connects a client's streams. What the container does not have is closed at once.
    pub(crate) fn attach(&mut self, poll: &mut Poll, with: Attached) -> io::Result<()> {
        let key = poll.unique();
        let mut client = Client {
            key,
            stdin: None,
            outputs: [None, None],
        };
        for (stream, fd) in [(Stream::Out, with.stdout), (Stream::Err, with.stderr)] {
            let (Some(fd), true) = (fd, self.outputs[stream as usize].is_some()) else {
                continue;
            };
            sys::set_nonblocking(fd.as_fd())?;
            let target = Target::AttachOut(self.container, key, stream);
            let token = poll.add(&fd, Interest::Nothing, target)?;
            client.outputs[stream as usize] = Some(ClientOutput {
                file: fd.into(),
                token,
                pending: Vec::new(),
                stalled: None,
                ending: false,
            });
        }
        if let (Some(fd), Some(stdin)) = (with.stdin, &self.stdin) {
            sys::set_nonblocking(fd.as_fd())?;
            let free = stdin.pending.is_empty();
            let interest = if free {
                Interest::Read
            } else {
                Interest::Nothing
            };
            let token = poll.add(&fd, interest, Target::AttachIn(self.container, key))?;
            client.stdin = Some((fd.into(), token));
        }
        self.clients.push(client);
        self.forget_done_clients();
        Ok(())
    }

    /// Moves what the container wrote.
    pub(crate) fn on_output(&mut self, poll: &mut Poll, stream: Stream) {
        self.pump(poll, stream, READS_PER_TURN);
    }

    /// Takes what the ended container left in its pipes, whether clients keep up or not. The log is
    /// complete then, even if somebody else still holds the pipes.
    pub(crate) fn drain(&mut self, poll: &mut Poll) {
        for stream in [Stream::Out, Stream::Err] {
            self.pump(poll, stream, READS_AT_END);
            self.log.finish(stream, sys::now());
        }
    }

    fn pump(&mut self, poll: &mut Poll, stream: Stream, reads: usize) {
        let mut buffer = vec![0; READ];
        for _ in 0..reads {
            let Some(output) = &mut self.outputs[stream as usize] else {
                return;
            };
            match output.file.read(&mut buffer) {
                Ok(0) => return self.end_output(poll, stream),
                Ok(length) => {
                    self.log.write(stream, sys::now(), &buffer[..length]);
                    let blocked = self.send(poll, stream, &buffer[..length]);
                    if blocked && reads == READS_PER_TURN {
                        return self.set_output_interest(poll, stream, Interest::Nothing);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // EIO: no process has the terminal open any more.
                Err(_) => return self.end_output(poll, stream),
            }
        }
    }

    /// Hands output to the clients; whether one of them has to be waited for.
    fn send(&mut self, poll: &mut Poll, stream: Stream, data: &[u8]) -> bool {
        let mut blocked = false;
        for client in &mut self.clients {
            let Some(output) = &mut client.outputs[stream as usize] else {
                continue;
            };
            output.pending.extend_from_slice(data);
            match output.flush(poll) {
                Flushed::All => {}
                Flushed::Part => blocked = true,
                Flushed::Gone => client.close_output(poll, stream),
            }
        }
        blocked
    }

    fn set_output_interest(&self, poll: &Poll, stream: Stream, interest: Interest) {
        if let Some(output) = &self.outputs[stream as usize] {
            poll.modify(&output.file, output.token, interest);
        }
    }

    fn end_output(&mut self, poll: &mut Poll, stream: Stream) {
        if let Some(output) = self.outputs[stream as usize].take() {
            poll.remove(&output.file, output.token);
        }
        self.log.finish(stream, sys::now());
        for client in &mut self.clients {
            if let Some(output) = &mut client.outputs[stream as usize] {
                output.ending = true;
                if output.pending.is_empty() {
                    client.close_output(poll, stream);
                }
            }
        }
        if self.outputs.iter().all(Option::is_none) {
            self.close_stdin(poll);
        }
        self.forget_done_clients();
    }

    /// A client takes again, or is gone.
    pub(crate) fn on_client_output(
        &mut self,
        poll: &mut Poll,
        key: u64,
        stream: Stream,
        ready: Ready,
    ) {
        let Some(client) = self.clients.iter_mut().find(|client| client.key == key) else {
            return;
        };
        let Some(output) = &mut client.outputs[stream as usize] else {
            return;
        };
        let flushed = if ready.broken {
            Flushed::Gone
        } else {
            output.flush(poll)
        };
        match flushed {
            Flushed::Part => return,
            Flushed::All if !output.ending => {}
            Flushed::All | Flushed::Gone => client.close_output(poll, stream),
        }
        self.resume(poll, stream);
    }

    /// Reads from the container again, if no client is behind.
    fn resume(&mut self, poll: &mut Poll, stream: Stream) {
        let behind = |client: &Client| {
            client.outputs[stream as usize]
                .as_ref()
                .is_some_and(|output| !output.pending.is_empty())
        };
        if !self.clients.iter().any(behind) {
            self.set_output_interest(poll, stream, Interest::Read);
        }
        self.forget_done_clients();
    }

    /// A client has input, or ends it.
    pub(crate) fn on_client_input(&mut self, poll: &mut Poll, key: u64) {
        let Some(client) = self.clients.iter_mut().find(|client| client.key == key) else {
            return;
        };
        let Some((file, _)) = &mut client.stdin else {
            return;
        };
        let mut buffer = [0; 8192];
        match file.read(&mut buffer) {
            Ok(length) if length > 0 => {
                if let Some(stdin) = &mut self.stdin {
                    stdin.pending.extend_from_slice(&buffer[..length]);
                    self.flush_stdin(poll);
                }
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Ok(_) | Err(_) => {
                client.close_stdin(poll);
                if self.stdin_once && self.terminal.is_none() {
                    if let Some(stdin) = &mut self.stdin {
                        stdin.ending = true;
                    }
                    self.flush_stdin(poll);
                }
                self.forget_done_clients();
            }
        }
    }

    /// The container takes input again, or does not want any more.
    pub(crate) fn on_stdin(&mut self, poll: &mut Poll, ready: Ready) {
        if ready.broken {
            self.close_stdin(poll);
        } else {
            self.flush_stdin(poll);
        }
    }

    fn flush_stdin(&mut self, poll: &mut Poll) {
        let Some(stdin) = &mut self.stdin else { return };
        match write_some(&mut stdin.file, &mut stdin.pending) {
            Flushed::Gone => self.close_stdin(poll),
            Flushed::All if stdin.ending => self.close_stdin(poll),
            flushed => {
                let all = matches!(flushed, Flushed::All);
                let (own, clients) = if all {
                    (Interest::Nothing, Interest::Read)
                } else {
                    (Interest::Write, Interest::Nothing)
                };
                poll.modify(&stdin.file, stdin.token, own);
                for (file, token) in self.clients.iter().filter_map(|c| c.stdin.as_ref()) {
                    poll.modify(file, *token, clients);
                }
            }
        }
    }

    /// Closes the container's input and those of its clients.
    fn close_stdin(&mut self, poll: &mut Poll) {
        if let Some(stdin) = self.stdin.take() {
            poll.remove(&stdin.file, stdin.token);
        }
        for client in &mut self.clients {
            client.close_stdin(poll);
        }
        self.forget_done_clients();
    }

    fn forget_done_clients(&mut self) {
        self.clients
            .retain(|c| c.stdin.is_some() || c.outputs.iter().any(Option::is_some));
    }

    /// When the next client is to be dropped if it stays as it is.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let outputs = self
            .clients
            .iter()
            .flat_map(|client| client.outputs.iter().flatten());
        outputs
            .filter_map(|output| output.stalled)
            .min()
            .map(|since| since + STALL_LIMIT)
    }

    /// Drops the clients that have taken nothing for too long.
    pub(crate) fn expire(&mut self, poll: &mut Poll, now: Instant) {
        for stream in [Stream::Out, Stream::Err] {
            for client in &mut self.clients {
                let output = client.outputs[stream as usize].as_ref();
                if output
                    .and_then(|o| o.stalled)
                    .is_some_and(|since| since + STALL_LIMIT <= now)
                {
                    client.close_output(poll, stream);
                }
            }
            self.resume(poll, stream);
        }
    }

    /// Closes everything; the container is to be forgotten.
    pub(crate) fn close(&mut self, poll: &mut Poll) {
        for stream in [Stream::Out, Stream::Err] {
            self.end_output(poll, stream);
            for client in &mut self.clients {
                client.close_output(poll, stream);
            }
        }
        self.close_stdin(poll);
    }
}

impl Client {
    fn close_output(&mut self, poll: &mut Poll, stream: Stream) {
        if let Some(output) = self.outputs[stream as usize].take() {
            poll.remove(&output.file, output.token);
        }
    }

    fn close_stdin(&mut self, poll: &mut Poll) {
        if let Some((file, token)) = self.stdin.take() {
            poll.remove(&file, token);
        }
    }
}

impl ClientOutput {
    fn flush(&mut self, poll: &Poll) -> Flushed {
        let before = self.pending.len();
        let flushed = write_some(&mut self.file, &mut self.pending);
        let (interest, stalled) = match flushed {
            Flushed::Part if self.pending.len() < before || self.stalled.is_none() => {
                (Interest::Write, Some(Instant::now()))
            }
            Flushed::Part => (Interest::Write, self.stalled),
            Flushed::All | Flushed::Gone => (Interest::Nothing, None),
        };
        self.stalled = stalled;
        poll.modify(&self.file, self.token, interest);
        flushed
    }
}

/// How far a write got.
enum Flushed {
    All,
    Part,
    /// Nobody reads any more.
    Gone,
}

/// Writes what can be written without waiting.
fn write_some(file: &mut File, pending: &mut Vec<u8>) -> Flushed {
    while !pending.is_empty() {
        match file.write(pending) {
            Ok(written) => {
                pending.drain(..written);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Flushed::Part,
            Err(_) => return Flushed::Gone,
        }
    }
    *pending = Vec::new();
    Flushed::All
}
