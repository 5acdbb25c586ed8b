//! A connection to a shim: requests and their answers, and the events between them.
//!
//! Invariants: a request that was handed over is sent whole, even if its caller stops waiting; answers find
//! their requests by id; when the connection ends, everybody who waits is told.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use shim::protocol::{
    Done, ExecExited, Exited, Failed, Frame, Hello, Message, OutOfMemory, Running, VERSION,
};
use shim::wire::{self, Inbox};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

/// Requests that may wait to be sent; a caller waits for room.
const QUEUE: usize = 64;

/// How long a shim may take to answer: CRI's `--runtime-request-timeout`.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);

/// How long it may take to say that it is there.
const HELLO_LIMIT: Duration = Duration::from_secs(10);

/// Why a shim did not do what it was asked.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("connect")]
    Connect(#[source] io::Error),
    #[error("the connection ended")]
    Gone,
    #[error("no answer in {ANSWER_LIMIT:?}")]
    Timeout,
    /// What the shim says.
    #[error("{0}")]
    Refused(String),
    #[error("an answer that makes no sense")]
    Malformed,
}

/// What a shim tells on its own.
pub(super) enum Told {
    Exited(Exited),
    Running(Running),
    OutOfMemory(OutOfMemory),
    ExecExited(ExecExited),
}

/// The callers' side; the other side is [`Driver`].
pub(super) struct Connection {
    requests: mpsc::Sender<Request>,
    waiting: Waiting,
}

struct Request {
    frame: Vec<u8>,
    fds: Vec<OwnedFd>,
}

type Reply = (Frame, Option<OwnedFd>);

/// Who waits for which id; `None` once the connection has ended.
type Waiting = Arc<Mutex<Option<Ids>>>;

#[derive(Default)]
struct Ids {
    last: u32,
    callers: HashMap<u32, oneshot::Sender<Reply>>,
}

/// What moves the bytes; to be run as a task.
pub(super) struct Driver {
    stream: UnixStream,
    requests: mpsc::Receiver<Request>,
    waiting: Waiting,
}

/// Connects to a socket.
pub(super) fn connect(socket: &Path) -> Result<(Connection, Driver), Error> {
    let stream = super::disk::connect(socket).map_err(Error::Connect)?;
    stream.set_nonblocking(true).map_err(Error::Connect)?;
    let stream = UnixStream::from_std(stream).map_err(Error::Connect)?;
    let (sender, requests) = mpsc::channel(QUEUE);
    let waiting = Waiting::new(Mutex::new(Some(Ids::default())));
    let connection = Connection {
        requests: sender,
        waiting: Arc::clone(&waiting),
    };
    Ok((
        connection,
        Driver {
            stream,
            requests,
            waiting,
        },
    ))
}

impl Connection {
    /// Asks and waits for the answer, with the descriptor that comes with it.
    pub(super) async fn call<A: Message>(
        &self,
        ask: &impl Message,
        fds: Vec<OwnedFd>,
    ) -> Result<(A, Option<OwnedFd>), Error> {
        let (id, answer) = self.register()?;
        let request = Request {
            frame: ask.frame(id, fds.len()),
            fds,
        };
        self.requests.send(request).await.map_err(|_| Error::Gone)?;
        let (frame, fd) = tokio::time::timeout(ANSWER_LIMIT, answer)
            .await
            .map_err(|_| Error::Timeout)?
            .map_err(|_| Error::Gone)?;
        match frame.kind {
            kind if kind == A::KIND => {
                Ok((A::parse(&frame.body).map_err(|_| Error::Malformed)?, fd))
            }
            Failed::KIND => {
                let failed = Failed::parse(&frame.body).map_err(|_| Error::Malformed)?;
                Err(Error::Refused(failed.message))
            }
            _ => Err(Error::Malformed),
        }
    }

    /// Asks for something that has no answer but that it is done.
    pub(super) async fn tell(&self, ask: &impl Message, fds: Vec<OwnedFd>) -> Result<(), Error> {
        self.call::<Done>(ask, fds).await.map(drop)
    }

    /// Asks without waiting for anything. What does not fit into the queue is dropped.
    pub(super) fn tell_later(&self, ask: &impl Message) -> Result<(), Error> {
        let (id, _) = self.register()?;
        let request = Request {
            frame: ask.frame(id, 0),
            fds: Vec::new(),
        };
        self.requests.try_send(request).map_err(|_| Error::Gone)
    }

    /// Says who we are. Any version will do: what a shim does not know it refuses, and fields that it
    /// does not have are defaults.
    pub(super) async fn hello(&self) -> Result<(), Error> {
        let hello = Hello {
            version: VERSION,
            pid: std::process::id(),
        };
        let answer = self.call::<Hello>(&hello, Vec::new());
        tokio::time::timeout(HELLO_LIMIT, answer)
            .await
            .map_err(|_| Error::Timeout)?
            .map(drop)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.waiting.lock().is_none()
    }

    fn register(&self) -> Result<(u32, oneshot::Receiver<Reply>), Error> {
        let mut waiting = self.waiting.lock();
        let ids = waiting.as_mut().ok_or(Error::Gone)?;
        // Zero is for events; numbers come round after four billion, when nobody has the old ones.
        ids.last = ids.last.checked_add(1).unwrap_or(1);
        let (sender, receiver) = oneshot::channel();
        ids.callers.insert(ids.last, sender);
        Ok((ids.last, receiver))
    }
}

impl Driver {
    /// Moves requests, answers and events until the connection ends.
    pub(super) async fn run(mut self, told: impl Fn(Told)) {
        let mut inbox = Inbox::default();
        let mut sending: Option<(Request, usize)> = None;
        loop {
            let interest = match sending {
                Some(_) => Interest::READABLE | Interest::WRITABLE,
                None => Interest::READABLE,
            };
            let moved = tokio::select! {
                ready = self.stream.ready(interest) => match ready {
                    Ok(ready) => {
                        let mut moved = Ok(());
                        if ready.is_writable() {
                            moved = self.send(&mut sending);
                        }
                        if ready.is_readable() || ready.is_read_closed() {
                            moved = moved.and(self.receive(&mut inbox, &told));
                        }
                        moved
                    }
                    Err(_) => Err(Error::Gone),
                },
                request = self.requests.recv(), if sending.is_none() => match request {
                    Some(request) => {
                        sending = Some((request, 0));
                        self.send(&mut sending)
                    }
                    None => Err(Error::Gone), // nobody has the connection any more
                },
            };
            if moved.is_err() {
                *self.waiting.lock() = None;
                return;
            }
        }
    }

    fn send(&self, sending: &mut Option<(Request, usize)>) -> Result<(), Error> {
        while let Some((request, sent)) = sending {
            let fds: Vec<_> = request.fds.iter().map(AsFd::as_fd).collect();
            let bytes = &request.frame[*sent..];
            let tried = self.stream.try_io(Interest::WRITABLE, || {
                wire::send(self.stream.as_fd(), bytes, &fds)
            });
            match tried {
                Ok(more) => {
                    *sent += more;
                    request.fds.clear();
                    if *sent == request.frame.len() {
                        *sending = None;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(Error::Gone),
            }
        }
        Ok(())
    }

    fn receive(&self, inbox: &mut Inbox, told: &impl Fn(Told)) -> Result<(), Error> {
        let tried = self
            .stream
            .try_io(Interest::READABLE, || inbox.receive(self.stream.as_fd()));
        match tried {
            Ok(0) => return Err(Error::Gone),
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                return Ok(());
            }
            Err(_) => return Err(Error::Gone),
        }
        while let Some((frame, fds)) = inbox.next_frame().map_err(|_| Error::Malformed)? {
            if frame.id == 0 {
                told_by(&frame).into_iter().for_each(told);
                continue;
            }
            let mut waiting = self.waiting.lock();
            let caller = waiting
                .as_mut()
                .and_then(|ids| ids.callers.remove(&frame.id));
            if let Some(caller) = caller {
                // Whoever stopped waiting does not want it.
                let _ = caller.send((frame, fds.into_iter().next()));
            }
        }
        Ok(())
    }
}

/// An event, if it is one that we know.
fn told_by(frame: &Frame) -> Option<Told> {
    match frame.kind {
        Exited::KIND => Exited::parse(&frame.body).ok().map(Told::Exited),
        Running::KIND => Running::parse(&frame.body).ok().map(Told::Running),
        OutOfMemory::KIND => OutOfMemory::parse(&frame.body).ok().map(Told::OutOfMemory),
        ExecExited::KIND => ExecExited::parse(&frame.body).ok().map(Told::ExecExited),
        _ => None,
    }
}
