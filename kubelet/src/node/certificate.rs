//! The kubelet's certificates: got by signing requests, kept on disk, renewed in time.
//!
//! - [`client_config`] is the way to the API server: a bootstrap kubeconfig is exchanged for a client
//!   certificate, and a certificate that is to be rotated is used from where it is rotated, so that
//!   connections take up a new one by themselves.
//! - [`Manager`] renews one kind of certificate when 70 to 90 % of its life is over.
//!
//! Names of files, signers and usages are upstream's (`pkg/kubelet/certificate`,
//! `client-go/util/certificate`), so that either kubelet takes up what the other left.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use component::client::{Client, Config, ConfigError};
use component::metrics::Metrics;
use component::{Supervisor, Task};
use rand::Rng;
use tokio::sync::watch;

mod kubeconfig;
mod metrics;
mod request;
mod store;

pub use request::Purpose;
pub use store::Store;

use crate::config;
use metrics::Counted;

/// Why there is no certificate.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("cannot use {path}", path = path.display())]
    File {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("{path}: {problem}", path = path.display())]
    Content { path: PathBuf, problem: String },
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("certificate signing request")]
    Api(#[from] component::client::Error),
    #[error("cannot make a certificate signing request")]
    Request(#[from] rcgen::Error),
    #[error("certificate signing request {name} is {outcome}: {message}")]
    Refused {
        name: String,
        outcome: &'static str,
        message: String,
    },
    #[error("certificate signing request {0} was not signed in time")]
    Unsigned(String),
}

/// What a certificate is good for, and whom it names.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Names {
    pub dns: Vec<String>,
    pub ips: Vec<IpAddr>,
}

/// Between tries to get a certificate; doubled each time.
const AGAIN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(128));

/// How the API server is reached. Waits for a certificate if it has to be asked for.
///
/// # Errors
/// If the files cannot be used, or the request for a certificate is refused.
pub async fn client_config(
    config: &config::Config,
    kubeconfig: &Path,
    node: &str,
    tasks: &Supervisor,
) -> Result<Config, Error> {
    let store = Store::new(&config.node.cert_dir, "kubelet-client");
    if let Some(bootstrap) = &config.node.bootstrap_kubeconfig
        && !kubeconfig::is_valid(kubeconfig)
    {
        bootstrap_from(bootstrap, kubeconfig, &store, node, tasks).await?;
    }
    if !config.kubelet.rotate_certificates {
        return Ok(Config::from_kubeconfig(kubeconfig)?);
    }
    kubeconfig::rotated(kubeconfig, &store)
}

/// Exchanges a bootstrap kubeconfig for one with a certificate.
async fn bootstrap_from(
    bootstrap: &Path,
    kubeconfig: &Path,
    store: &Store,
    node: &str,
    tasks: &Supervisor,
) -> Result<(), Error> {
    tracing::info!(path = %bootstrap.display(), "Using bootstrap kubeconfig to get a client certificate");
    if store.current().is_none_or(|c| c.has_expired()) {
        let config = Config::from_kubeconfig(bootstrap)?;
        let client = Client::new(config, "kubelet", tasks, &Metrics::new())?;
        let mut wait = AGAIN.0;
        loop {
            match request::certificate(&client, Purpose::Client, node, &Names::default()).await {
                Ok((cert, key)) => {
                    store.update(&cert, &key)?;
                    break;
                }
                Err(e @ Error::Refused { .. }) => return Err(e),
                Err(e) => tell(&e, wait),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(AGAIN.1);
        }
    }
    kubeconfig::write(bootstrap, kubeconfig, &store.current_path())
}

fn tell(e: &Error, delay: Duration) {
    let error = component::supervisor::chain(e);
    tracing::error!(error, ?delay, "Cannot get a certificate, will retry");
}

/// Keeps one certificate fresh.
pub struct Manager {
    pub client: Client,
    pub store: Store,
    pub purpose: Purpose,
    pub node: String,
    /// What the certificate must name; nothing is asked for while it is none.
    pub names: watch::Receiver<Option<Names>>,
    pub metrics: Metrics,
}

impl Manager {
    /// Starts to renew. The answer becomes true once there is a certificate that can be used.
    pub fn start(self, tasks: &Supervisor) -> watch::Receiver<bool> {
        let current = self.store.current().filter(|c| !c.has_expired());
        let (tell, have) = watch::channel(current.is_some());
        let counted = Counted::register(self.purpose, &self.metrics);
        counted.found(current);
        let name = match self.purpose {
            Purpose::Client => "client-certificate",
            Purpose::Server => "server-certificate",
        };
        tasks.spawn(Task::Worker, name, self.run(tell, counted));
        have
    }

    async fn run(mut self, have: watch::Sender<bool>, counted: Counted) {
        let mut wait = AGAIN.0;
        loop {
            let names = self.names.borrow_and_update().clone();
            let Some(names) = names else {
                if self.names.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let deadline = self.deadline(&names);
            if !deadline.is_zero() {
                tokio::select! {
                    () = tokio::time::sleep(deadline) => {}
                    // If nobody can change the names, only time matters.
                    Ok(()) = self.names.changed() => continue,
                }
            }
            tracing::info!(purpose = ?self.purpose, "Rotating certificates");
            let asked = request::certificate(&self.client, self.purpose, &self.node, &names).await;
            let stored = asked.and_then(|(cert, key)| self.store.update(&cert, &key));
            match stored {
                Ok(()) => {
                    wait = AGAIN.0;
                    counted.renewed(self.store.current());
                    have.send_replace(true);
                }
                Err(e) => {
                    counted.failed();
                    tell(&e, wait);
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(AGAIN.1);
                }
            }
        }
    }

    /// How long the certificate may stay.
    fn deadline(&self, names: &Names) -> Duration {
        let Some(current) = self.store.current() else {
            return Duration::ZERO;
        };
        if !current.names.covers(names) {
            tracing::info!(purpose = ?self.purpose, "The certificate lacks names of the node");
            return Duration::ZERO;
        }
        let part = 0.7 + rand::rng().random::<f64>() * 0.2;
        remaining(
            current.not_before,
            current.not_after,
            component::clock::now().as_second(),
            part,
        )
    }
}

/// From `now` to where `part` of the life is over; all in Unix seconds.
fn remaining(not_before: i64, not_after: i64, now: i64, part: f64) -> Duration {
    let life = u64::try_from(not_after.saturating_sub(not_before)).unwrap_or(0);
    let used = u64::try_from(now.saturating_sub(not_before)).unwrap_or(0);
    Duration::from_secs(life)
        .mul_f64(part)
        .saturating_sub(Duration::from_secs(used))
}

impl Names {
    fn covers(&self, wanted: &Self) -> bool {
        wanted.dns.iter().all(|name| self.dns.contains(name))
            && wanted.ips.iter().all(|ip| self.ips.contains(ip))
    }
}

#[cfg(test)]
mod tests;
