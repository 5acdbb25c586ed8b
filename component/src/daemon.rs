//! A daemon's `main`: flags, log, runtime, tasks, exit code.
//!
//! ```no_run
//! use component::{Daemon, Supervisor, args, config, daemon};
//!
//! struct Demo {
//!     logging: config::Logging,
//! }
//!
//! impl Daemon for Demo {
//!     const NAME: &'static str = "demo";
//!     const ABOUT: &'static str = "Shows how a daemon begins.";
//!
//!     fn flags() -> Vec<args::Group> {
//!         vec![args::logs(), args::global()]
//!     }
//!
//!     fn configure(args: &args::Args) -> anyhow::Result<Self> {
//!         Ok(Self { logging: config::Logging::from_flags(args) })
//!     }
//!
//!     fn logging(&self) -> &config::Logging {
//!         &self.logging
//!     }
//!
//!     async fn start(self, tasks: Supervisor) -> anyhow::Result<()> {
//!         tasks.stop();
//!         Ok(())
//!     }
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     daemon::run::<Demo>()
//! }
//! ```

use std::future::Future;
use std::io::Write;
use std::process::ExitCode;

use crate::args::{self, Args, Group};
use crate::config;
use crate::logging;
use crate::supervisor::{Shutdown, Supervisor};
use crate::version;

/// It gives memory back that a burst of work took. With the C library's allocator an API server that had listed and
/// described all that there is stayed five times as large as what it used.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bad usage: an unknown flag, a bad value, a bad configuration.
const USAGE: u8 = 64;
/// It could not start, or something ended it that nobody asked for.
const FAILED: u8 = 1;

/// What a daemon's `main` needs to know.
pub trait Daemon: Sized + Send + 'static {
    /// The binary's name, which is upstream's.
    const NAME: &'static str;
    /// One sentence for the help.
    const ABOUT: &'static str;

    /// Its flags; [`args::global`] should be among them.
    fn flags() -> Vec<Group>;

    /// Reads its configuration out of the flags and the file that they name. All that is wrong is
    /// reported at once.
    ///
    /// # Errors
    /// If there is no usable configuration; the process ends with 64.
    fn configure(args: &Args) -> anyhow::Result<Self>;

    /// How it logs.
    fn logging(&self) -> &config::Logging;

    /// How long its shutdown may take.
    fn shutdown(&self) -> Shutdown {
        Shutdown::default()
    }

    /// Starts its tasks and returns; the process then runs until something ends it.
    ///
    /// # Errors
    /// If it cannot start; the process ends with 1.
    fn start(self, tasks: Supervisor) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// Allows as many open files as the process may have. Go's runtime does it in each of upstream's daemons;
/// with the 1,024 that a process is started with, an API server would refuse its thousandth client.
fn raise_open_files() -> nix::Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    // Where there is no bound: programs that close all they could have open must not take minutes for it.
    const ENOUGH: u64 = 1 << 20;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(hard.min(ENOUGH)), hard)
}

/// Runs a daemon with the command line of the process.
#[must_use]
pub fn run<D: Daemon>() -> ExitCode {
    let args = match Args::parse(D::NAME, D::ABOUT, &D::flags(), std::env::args_os().skip(1)) {
        Ok(args) => args,
        Err(args::Error::Help(text)) => return answer(&text),
        Err(e) => return refuse::<D>(USAGE, &e),
    };
    match args.known(&args::VERSION) {
        Some(args::Version::Short) => {
            return answer(&format!("Kubernetes {}\n", version::KUBERNETES));
        }
        Some(args::Version::Raw) => return answer(&format!("{:#?}\n", version::info())),
        Some(args::Version::Unasked) | None => {}
    }
    let daemon = match D::configure(&args) {
        Ok(daemon) => daemon,
        Err(e) => return refuse::<D>(USAGE, &format_args!("{e:#}")),
    };
    if let Err(e) = logging::install(daemon.logging()) {
        return refuse::<D>(USAGE, &e);
    }
    if let Err(e) = raise_open_files() {
        tracing::warn!(error = %e, "Cannot raise the limit of open files");
    }
    for warning in args.warnings() {
        tracing::warn!("{warning}");
    }
    for (name, value) in args.iter() {
        tracing::debug!(flag = name, value, "Flag");
    }
    match start(daemon) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => refuse::<D>(FAILED, &format_args!("{e:#}")),
    }
}

fn start<D: Daemon>(daemon: D) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let tasks = Supervisor::new(runtime.handle().clone());
    let outcome = runtime.block_on(async {
        tasks.stop_on_signals()?;
        tracing::info!(daemon = D::NAME, version = version::KUBERNETES, "Starting");
        let shutdown = daemon.shutdown();
        let stopping = tasks.stopping();
        tokio::select! {
            // Whoever is asked to end while it starts does not finish starting first.
            () = stopping.cancelled() => {}
            started = daemon.start(tasks.clone()) => started?,
        }
        tasks.finished(shutdown).await?;
        Ok(())
    });
    // Blocking calls that hang must not keep a process alive whose tasks have all ended.
    runtime.shutdown_background();
    outcome
}

/// Prints what was asked for. A closed pipe is no failure.
fn answer(text: &str) -> ExitCode {
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// One line on stderr, and the exit code.
fn refuse<D: Daemon>(code: u8, why: &dyn std::fmt::Display) -> ExitCode {
    let line = why.to_string().replace('\n', " ");
    let _ = writeln!(std::io::stderr(), "{}: {line}", D::NAME);
    ExitCode::from(code)
}
