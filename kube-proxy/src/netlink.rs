//! Netlink, blocking: messages with attributes, and a socket. What nftables, conntrack and routes share.
//!
//! The kernel does the work inside send(2), under its own locks; an asynchronous socket would hide that and
//! block a runtime's worker. Callers run on threads for blocking work. A socket belongs for ever to the
//! network namespace of the thread that opened it.
//!
//! Nothing here knows kube-proxy: the module can move down to a shared crate as it is.

mod message;
mod socket;

pub(crate) use message::{Attrs, Buffer, attrs, each};
pub(crate) use socket::{Reply, Socket, split, verdict};

/// Why the kernel did not do it.
#[derive(thiserror::Error, Debug)]
pub(crate) enum Error {
    #[error("netlink: {0}")]
    Socket(std::io::Error),
    #[error("request {index} of type {kind:#x}: {source}{text}")]
    Refused {
        /// Which message of the buffer, from 0.
        index: usize,
        /// Its type.
        kind: u16,
        source: std::io::Error,
        /// What the kernel added in words, if it did.
        text: String,
    },
    #[error("netlink: malformed answer")]
    Malformed,
    /// What is being listed changed meanwhile.
    #[error("netlink: the list changed while it was read")]
    Interrupted,
}

impl Error {
    pub(crate) fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } | Self::Socket(source) => source.raw_os_error(),
            Self::Malformed | Self::Interrupted => None,
        }
    }
}
