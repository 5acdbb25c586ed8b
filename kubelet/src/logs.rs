//! Container logs as clients read them: `kubectl logs`.
//!
//! Owns reading of CRI-format files, those that were rotated away included, from the oldest to the
//! newest. Nothing is read twice and nothing is left out when a file is rotated while it is read.
//! Following waits for the kernel to say that a file has grown, and for the runtime to say that the
//! container has ended; nothing is looked at in between.

pub(crate) mod line;
mod reader;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use k8s_openapi::jiff::Timestamp;
use tokio::sync::mpsc;

use crate::runtime::{ContainerState, Runtime};
use crate::sys::watch::Watch;
use reader::{Batch, Reader};

/// What part of a log is wanted, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// Lines from the end.
    pub tail: Option<u64>,
    /// Bytes of output.
    pub limit: Option<u64>,
    pub since: Option<Timestamp>,
    pub timestamps: bool,
    pub follow: bool,
    pub stdout: bool,
    pub stderr: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tail: None,
            limit: None,
            since: None,
            timestamps: false,
            follow: false,
            stdout: true,
            stderr: true,
        }
    }
}

/// Why a log cannot be read; the texts reach clients.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("failed to open log file {path:?}: {cause}")]
    Open { path: PathBuf, cause: io::Error },
    #[error("failed to read log file {path:?}: {cause}")]
    Read { path: PathBuf, cause: io::Error },
    #[error("failed to watch directory {path:?}: {cause}")]
    Watch { path: PathBuf, cause: io::Error },
}

/// Sends a log in pieces until its end: of the file, or, when following, of the container. Ends early
/// when nobody receives any more.
///
/// # Errors
/// If the file is not there or cannot be read.
pub async fn send(
    runtime: Arc<dyn Runtime>,
    container: &str,
    path: PathBuf,
    options: Options,
    to: mpsc::Sender<Bytes>,
) -> Result<(), Error> {
    let follow = options.follow;
    // Both are told from now on, so that what happens while the file is read is not missed.
    let mut events = runtime.events();
    let watch = follow.then(|| watch(&path)).transpose()?;
    let opened = path.clone();
    let mut reader = blocking(move || Reader::open(&opened, options))
        .await
        .map_err(|cause| Error::Open {
            path: path.clone(),
            cause,
        })?;
    loop {
        // Asked before reading: what an ended container wrote is in the file.
        let ended = !follow || !is_running(&*runtime, container).await;
        loop {
            let (next, batch) = blocking(move || {
                let batch = reader.batch(ended)?;
                Ok((reader, batch))
            })
            .await
            .map_err(|cause| Error::Read {
                path: path.clone(),
                cause,
            })?;
            reader = next;
            let Batch { bytes, more } = batch;
            if !bytes.is_empty() && to.send(bytes).await.is_err() {
                return Ok(());
            }
            if !more {
                break;
            }
        }
        let Some(watch) = watch.as_ref().filter(|_| !ended && !reader.is_done()) else {
            return Ok(());
        };
        loop {
            tokio::select! {
                () = to.closed() => return Ok(()),
                changed = watch.changed() => {
                    changed.map_err(|cause| Error::Watch { path: path.clone(), cause })?;
                    break;
                }
                event = events.next() => if event.container.as_deref() == Some(container) {
                    break;
                },
            }
        }
    }
}

fn watch(path: &Path) -> Result<Watch, Error> {
    let real = std::fs::canonicalize(path).map_err(|cause| Error::Open {
        path: path.to_owned(),
        cause,
    })?;
    let dir = real.parent().unwrap_or(Path::new("/"));
    let made = Watch::new().and_then(|watch| watch.add_growing(dir).map(|()| watch));
    made.map_err(|cause| Error::Watch {
        path: dir.to_owned(),
        cause,
    })
}

async fn is_running(runtime: &dyn Runtime, container: &str) -> bool {
    let status = runtime.container_status(container).await;
    status.is_ok_and(|status| status.state == ContainerState::Running)
}

/// Files are read on threads that may wait.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
}
