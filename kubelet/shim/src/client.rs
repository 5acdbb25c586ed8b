//! A connection of the kubelet.
//!
//! Invariant: what waits to be sent is bounded. A client that reads so slowly that it does not hold is
//! dropped; it asks for everything when it comes again.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use shim::protocol::{Frame, Message};
use shim::wire::{self, Inbox};

use crate::poll::{Poll, Target, Token};
use crate::sys::{self, Interest};

/// Frames that may wait: an exit of every container a node can have.
const MAX_WAITING: usize = 4096;

/// What arrives at once is looked at in parts, so that one client does not starve the rest.
const RECEIVES_PER_TURN: usize = 16;

pub(crate) struct Client {
    socket: UnixStream,
    token: Token,
    inbox: Inbox,
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    frame: Vec<u8>,
    sent: usize,
    fds: Vec<OwnedFd>,
}

/// The connection is of no use any more.
pub(crate) struct Gone;

impl Client {
    pub(crate) fn new(poll: &mut Poll, key: u64, socket: UnixStream) -> io::Result<Self> {
        sys::set_nonblocking(socket.as_fd())?;
        let token = poll.add(&socket, Interest::Read, Target::Client(key))?;
        Ok(Self {
            socket,
            token,
            inbox: Inbox::default(),
            waiting: VecDeque::new(),
        })
    }

    /// Receives what is there.
    pub(crate) fn receive(&mut self) -> Result<(), Gone> {
        for _ in 0..RECEIVES_PER_TURN {
            match self.inbox.receive(self.socket.as_fd()) {
                Ok(0) => return Err(Gone),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Gone),
            }
        }
        Ok(())
    }

    /// The next whole frame, with its descriptors.
    pub(crate) fn next_frame(&mut self) -> Result<Option<(Frame, Vec<OwnedFd>)>, Gone> {
        self.inbox.next_frame().map_err(|_| Gone)
    }

    /// Sends a message, as far as the socket takes it now.
    pub(crate) fn send(
        &mut self,
        poll: &Poll,
        id: u32,
        message: &impl Message,
        fds: Vec<OwnedFd>,
    ) -> Result<(), Gone> {
        if self.waiting.len() >= MAX_WAITING {
            return Err(Gone);
        }
        self.waiting.push_back(Waiting {
            frame: message.frame(id, fds.len()),
            sent: 0,
            fds,
        });
        self.flush(poll)
    }

    pub(crate) fn flush(&mut self, poll: &Poll) -> Result<(), Gone> {
        while let Some(first) = self.waiting.front_mut() {
            let fds: Vec<_> = first.fds.iter().map(AsFd::as_fd).collect();
            match wire::send(self.socket.as_fd(), &first.frame[first.sent..], &fds) {
                Ok(sent) => {
                    first.sent += sent;
                    first.fds.clear();
                    if first.sent == first.frame.len() {
                        self.waiting.pop_front();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    poll.modify(&self.socket, self.token, Interest::ReadWrite);
                    return Ok(());
                }
                Err(_) => return Err(Gone),
            }
        }
        poll.modify(&self.socket, self.token, Interest::Read);
        Ok(())
    }

    pub(crate) fn close(self, poll: &mut Poll) {
        poll.remove(&self.socket, self.token);
    }
}
