//! The per-pod shim: parent of a pod's containers, owner of their output and exit codes.
//!
//! ```text
//! kubelet --- socket (protocol) ---> shim --- fork, exec of a sealed image ---> helper
//!                                     | parent, log, exit record                  | makes
//!                                     +------------> containers <-----------------+
//! ```
//!
//! It outlives the kubelet, which finds it again by its socket. One thread, one epoll loop; libcontainer
//! is never called here: a helper process does and ends. The kubelet starts it with the listening socket
//! as standard input, a log file as standard error, and the pod's sandbox directory as its working
//! directory.

mod cgroup;
mod client;
mod container;
mod log;
mod namespaces;
mod poll;
mod shim;
mod spawn;
mod stdio;
mod sys;
mod time;

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::ExitCode;

/// The kernel should take anything before the parent of a whole pod. Best effort: a lowered score needs
/// `CAP_SYS_RESOURCE`.
const OOM_SCORE_ADJ: &str = "-998";

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Joins its cgroups, leaves its parent, serves.
fn start() -> io::Result<()> {
    sys::close_from(3)?;
    sys::keep_no_memory();
    for file in std::env::args().skip(1) {
        fs::write(&file, "0").map_err(|error| io::Error::other(format!("{file}: {error}")))?;
    }
    let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJ);
    if sys::fork()? > 0 {
        sys::exit_now(0);
    }
    sys::become_reaper()?;
    sys::ignore_termination();
    let listener = UnixListener::from(sys::duplicate_from(io::stdin().as_fd(), 3)?);
    let null: OwnedFd = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")?
        .into();
    sys::place(null.as_fd(), 0)?;
    sys::place(null.as_fd(), 1)?;
    shim::Shim::new(listener)?.run()
}
