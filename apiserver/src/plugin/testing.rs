//! Plugins for tests, each on a socket of the test: a key management service and a signer of tokens.
//!
//! It is always there, because a feature would have this crate compiled a second time for its tests;
//! what the daemon does not name is not linked.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test that cannot be set up has failed"
)]

use std::convert::Infallible;
use std::path::Path;

use component::{Supervisor, Task};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::net::UnixListener;
use tokio_util::sync::{CancellationToken, DropGuard};

mod kms;
mod kms_v1;
mod signer;

pub use kms::Kms;
pub use signer::{Signer, SigningKey};

/// A plugin that listens; dropping it is its end.
pub struct Served {
    _until: DropGuard,
}

fn serve<S>(socket: &Path, service: S) -> Served
where
    S: tower::Service<
            http::Request<Incoming>,
            Response = http::Response<tonic::body::Body>,
            Error = Infallible,
            Future: Send,
        > + Clone
        + Send
        + 'static,
{
    let _ = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket).unwrap();
    let (stop, tasks) = (CancellationToken::new(), Supervisor::current());
    let until = stop.clone();
    let connections = tasks.clone();
    let listening = async move {
        while let Ok((stream, _)) = listener.accept().await {
            let serving = http2::Builder::new(TokioExecutor::new()).serve_connection(
                TokioIo::new(stream),
                TowerToHyperService::new(service.clone()),
            );
            let until = until.clone();
            connections.spawn(Task::Background, "plugin-connection", async move {
                // How it ends is the client's affair.
                let _ = until.run_until_cancelled(serving).await;
            });
        }
    };
    let until = stop.clone();
    tasks.spawn(Task::Background, "plugin", async move {
        until.run_until_cancelled(listening).await;
    });
    Served {
        _until: stop.drop_guard(),
    }
}
