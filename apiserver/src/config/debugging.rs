//! What can be seen of the running server, and how.

use std::path::PathBuf;

use component::args::{Args, Flag, Group};

flags! {
    PROFILING: bool = "profiling", "true", "What can be seen of the running process, at /debug/pprof.";
    CONTENTION_PROFILING: bool = "contention-profiling", "false", "Profile locks.", ignored("locks are profiled from outside");
    DEBUG_SOCKET_PATH: Option<PathBuf> = "debug-socket-path", "", "A Unix socket for the same, without authorization: only its owner may open it.";
}

#[must_use]
pub fn group() -> Group {
    Group::new(
        "Debugging",
        &[&PROFILING, &CONTENTION_PROFILING, &DEBUG_SOCKET_PATH],
    )
}

/// Where the pages below `/debug` are served.
#[derive(Clone, Debug)]
pub struct Debugging {
    /// Beside the API.
    pub profiling: bool,
    pub socket: Option<PathBuf>,
}

impl Debugging {
    #[must_use]
    pub fn from_args(args: &Args) -> Self {
        Self {
            profiling: args.get(&PROFILING),
            socket: args.get(&DEBUG_SOCKET_PATH),
        }
    }
}
