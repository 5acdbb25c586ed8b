//! A Unix socket over which the pages of [`Debug`] are served to whoever may open it: its owner.
//!
//! Upstream: `apiserver/pkg/server/routes/debugsocket.go`, behind `--debug-socket-path`.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};

use super::debug::Debug;
use super::{READ_HEADER_TIMEOUT, Request, endpoints};
use crate::supervisor::{Supervisor, Task};

/// The wait after a failure to accept.
const RETRY: Duration = Duration::from_millis(100);
const SHOWN: Debug = Debug { command_line: true };

/// Serves the pages at a path; what is there already is taken away.
///
/// # Errors
/// If no socket can be made there.
pub fn debug_socket(path: &Path, tasks: &Supervisor) -> Result<(), super::Error> {
    let listener = bind(path).map_err(|cause| super::Error::Socket {
        path: path.to_owned(),
        cause,
    })?;
    let (own, path) = (tasks.clone(), path.to_owned());
    tasks.spawn_graceful(Task::Background, "debug-socket", |stop| async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = accept(&listener, &own) => {}
        }
        remove(&path);
    });
    Ok(())
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::debug!(%error, "The debug socket is not there any more");
    }
}

async fn accept(listener: &UnixListener, tasks: &Supervisor) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => tasks.spawn(Task::Background, "debug-connection", drive(stream)),
            Err(error) => {
                tracing::error!(%error, "Cannot accept connections of the debug socket");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn drive(stream: UnixStream) -> Result<(), hyper::Error> {
    let answer = hyper::service::service_fn(|request: Request| async move {
        let response = SHOWN.answer(request).await;
        Ok::<_, std::convert::Infallible>(response.unwrap_or_else(endpoints::not_found))
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(READ_HEADER_TIMEOUT);
    builder.serve_connection(TokioIo::new(stream), answer).await
}
