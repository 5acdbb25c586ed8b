//! What a helper tells its shim.
//!
//! Invariant: the socket is closed on exec, so its end says that the program runs (or that nobody is
//! left to say otherwise).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use shim::protocol::{Created, Detail, Failed, Message, helper_fd};
use shim::wire;

use crate::error::Error;
use crate::sys;

/// The socket to the shim.
#[derive(Clone, Copy)]
pub(crate) struct Report(BorrowedFd<'static>);

impl Report {
    /// Takes the socket that the shim put at its place.
    pub(crate) fn open() -> Result<Self, Error> {
        sys::close_on_exec(helper_fd::REPORT).map_err(Error::doing("socket of the shim"))?;
        Ok(Self(sys::borrow_for_life(helper_fd::REPORT)))
    }

    /// The process exists.
    pub(crate) fn created(self, pid: i32, terminal: Option<&OwnedFd>) -> Result<(), Error> {
        let message = Created {
            pid: pid.unsigned_abs(),
        };
        let fds: Vec<_> = terminal.iter().map(|fd| fd.as_fd()).collect();
        wire::send_all(self.0, &message.frame(0, fds.len()), &fds)
            .map_err(Error::doing("reporting"))
    }

    /// Something went wrong; whether that matters is not known yet.
    pub(crate) fn detail(self, message: String) {
        let _ = wire::send_all(self.0, &Detail { message }.frame(0, 0), &[]);
    }

    fn failed(self, error: &Error) {
        let message = Failed {
            message: error.to_string(),
        };
        // Without a shim nobody wants to know.
        let _ = wire::send_all(self.0, &message.frame(0, 0), &[]);
    }
}

/// Says why it failed, if there is a shim to say it to.
pub(crate) fn failed(error: &Error) {
    if let Ok(report) = Report::open() {
        report.failed(error);
    }
}
