//! What the shim waits for: descriptors, and what each of them means.
//!
//! Invariant: a descriptor is taken out before it is closed. Forked children share it for a moment, so
//! closing alone would leave it in.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use crate::sys::{Epoll, Interest, Ready};

/// What a ready descriptor is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Target {
    Listener,
    Children,
    /// A connection.
    Client(u64),
    /// The report of a helper.
    Job(u64),
    /// A container's output.
    Output(u64, Stream),
    /// A container's input.
    Stdin(u64),
    /// What an attached client sends.
    AttachIn(u64, u64),
    /// What an attached client is sent.
    AttachOut(u64, u64, Stream),
    /// Word that a container is out of memory.
    Memory(u64),
}

/// One of a container's outputs; a terminal is `Out`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stream {
    Out,
    Err,
}

/// Name of a registration.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Token(u64);

pub(crate) struct Poll {
    epoll: Epoll,
    targets: HashMap<u64, Target>,
    next: u64,
}

impl Poll {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: Epoll::new()?,
            targets: HashMap::new(),
            next: 1,
        })
    }

    /// Numbers that are never used twice.
    pub(crate) fn unique(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(crate) fn add(
        &mut self,
        fd: impl AsFd,
        interest: Interest,
        target: Target,
    ) -> io::Result<Token> {
        let token = self.unique();
        self.epoll.add(fd.as_fd().as_raw_fd(), token, interest)?;
        self.targets.insert(token, target);
        Ok(Token(token))
    }

    pub(crate) fn modify(&self, fd: impl AsFd, token: Token, interest: Interest) {
        let changed = self.epoll.modify(fd.as_fd().as_raw_fd(), token.0, interest);
        debug_assert!(changed.is_ok(), "registered descriptors are open");
    }

    pub(crate) fn remove(&mut self, fd: impl AsFd, token: Token) {
        if self.targets.remove(&token.0).is_some() {
            let removed = self.epoll.delete(fd.as_fd().as_raw_fd());
            debug_assert!(removed.is_ok(), "registered descriptors are open");
        }
    }

    /// Waits; what was removed meanwhile is not in the answer's meaning: ask [`Poll::target`].
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> io::Result<Vec<Ready>> {
        self.epoll.wait(timeout)
    }

    pub(crate) fn target(&self, ready: &Ready) -> Option<Target> {
        self.targets.get(&ready.token).copied()
    }
}
