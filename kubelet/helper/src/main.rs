//! The short-lived process that does what a shim must not do itself: create a container with
//! libcontainer, enter one, compile a seccomp filter.
//!
//! ```text
//! navarch-helper create --id ID --dir DIR --spec FILE [--seccomp FILE]
//! navarch-helper exec --pid PID --spec FILE [--seccomp FILE] [--tty WxH] -- COMMAND...
//! navarch-helper seccomp PROFILE FILTER
//! ```
//!
//! `create` and `exec` are started by a shim, with the socket at
//! [`helper_fd::REPORT`](shim::protocol::helper_fd::REPORT), the streams of the process to be as their own,
//! and the namespaces to join at fixed descriptors. They report the process once it exists; that the
//! program runs is told by nobody having the socket open any more.
//!
//! One thread, because libcontainer and namespaces of users allow no other.

mod args;
mod cgroup;
mod create;
mod detail;
mod devices;
mod error;
mod exec;
mod identity;
mod report;
mod seccomp;
mod sys;
mod users;

use std::process::ExitCode;

use args::Call;
use error::Error;
use report::Report;

fn main() -> ExitCode {
    let call = match args::parse(std::env::args().skip(1)) {
        Ok(call) => call,
        Err(error) => return fail(&error, 64),
    };
    let done = match &call {
        Call::Create(ask) => Report::open().and_then(|report| create::create(ask, report)),
        Call::Exec(ask) => Report::open().and_then(|report| exec::exec(ask, report)),
        Call::Seccomp { profile, filter } => seccomp::compile_file(profile, filter),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !matches!(call, Call::Seccomp { .. }) {
                report::failed(&error);
            }
            fail(&error, 1)
        }
    }
}

fn fail(error: &Error, code: u8) -> ExitCode {
    eprintln!("{error}");
    ExitCode::from(code)
}
