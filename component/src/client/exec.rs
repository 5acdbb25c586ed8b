//! Credentials from a plugin: `client.authentication.k8s.io/v1`.
//!
//! The plugin is run when credentials are needed and there are none that are still good; those who
//! need them at the same time wait for one run.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};

use crate::metrics::plugin as metrics;
use crate::serving::x509::validity;

/// How to run the plugin, as a kubeconfig says.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecConfig {
    command: String,
    #[serde(default)]
    args: Option<Vec<String>>,
    #[serde(default)]
    env: Option<Vec<Variable>>,
    api_version: String,
    #[serde(default)]
    install_hint: String,
    #[serde(default)]
    interactive_mode: String,
}

#[derive(Clone, Deserialize)]
struct Variable {
    name: String,
    value: String,
}

impl std::fmt::Debug for ExecConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExecConfig")
            .field("command", &self.command)
            .finish_non_exhaustive()
    }
}

/// Why a plugin gave no credentials.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("cannot run {command}{}", in_parentheses(.hint))]
    Run {
        command: String,
        hint: String,
        #[source]
        cause: std::io::Error,
    },
    #[error("{command} failed with {status}: {said}")]
    Failed {
        command: String,
        status: std::process::ExitStatus,
        said: String,
    },
    #[error("{command} did not answer within {after:?}")]
    Timeout { command: String, after: Duration },
    #[error("{command} did not print an ExecCredential of {version}: {problem}")]
    Answer {
        command: String,
        version: String,
        problem: String,
    },
}

fn in_parentheses(hint: &str) -> String {
    if hint.is_empty() {
        String::new()
    } else {
        format!(" ({hint})")
    }
}

const VERSIONS: [&str; 2] = [
    "client.authentication.k8s.io/v1",
    "client.authentication.k8s.io/v1beta1",
];
/// A plugin that asks nobody needs no longer.
const PATIENCE: Duration = Duration::from_secs(60);

impl ExecConfig {
    /// A command with a slash is relative to the kubeconfig.
    pub(super) fn relative_to(mut self, dir: &Path) -> Result<Self, String> {
        if !VERSIONS.contains(&self.api_version.as_str()) {
            return Err(format!(
                "exec: apiVersion {:?} is not supported",
                self.api_version
            ));
        }
        if self.interactive_mode == "Always" {
            return Err("exec: interactiveMode Always, but nobody is there to be asked".to_owned());
        }
        if self.command.contains('/') {
            self.command = dir.join(&self.command).display().to_string();
        }
        Ok(self)
    }
}

/// What a plugin gave.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credential {
    pub(super) token: Option<String>,
    /// Certificate and key in PEM.
    pub(super) certificate: Option<(String, String)>,
    expires: Option<Timestamp>,
}

/// The plugin of a client, with what it gave last.
pub(super) struct Plugin {
    config: ExecConfig,
    current: Mutex<Option<Arc<Credential>>>,
    counted: metrics::Plugin,
    running: tokio::sync::Mutex<()>,
}

impl Plugin {
    pub(super) fn new(config: ExecConfig, metrics: &metrics::Plugins) -> Self {
        Self {
            config,
            current: Mutex::new(None),
            counted: metrics.add(),
            running: tokio::sync::Mutex::new(()),
        }
    }

    /// Credentials that are good now.
    pub(super) async fn credential(&self) -> Result<Arc<Credential>, Error> {
        if let Some(good) = self.good() {
            return Ok(good);
        }
        let _one_at_a_time = self.running.lock().await;
        if let Some(good) = self.good() {
            return Ok(good);
        }
        let new = Arc::new(self.run().await?);
        let certificate = new.certificate.as_ref();
        self.counted
            .gave(certificate.and_then(|(pem, _)| valid(pem)));
        *self.current.lock() = Some(Arc::clone(&new));
        Ok(new)
    }

    /// The server did not believe them: the next request runs the plugin again.
    pub(super) fn refused(&self) {
        *self.current.lock() = None;
    }

    fn good(&self) -> Option<Arc<Credential>> {
        let current = self.current.lock();
        current
            .clone()
            .filter(|c| c.expires.is_none_or(|at| at > crate::clock::now()))
    }

    async fn run(&self) -> Result<Credential, Error> {
        let ran = self.call().await;
        let (code, how) = match &ran {
            Ok(_) => (0, "no_error"),
            Err(Error::Failed { status, .. }) => {
                (status.code().unwrap_or(-1), "plugin_execution_error")
            }
            Err(Error::Run { .. }) => (1, "plugin_not_found_error"),
            Err(_) => (1, "client_internal_error"),
        };
        self.counted.called(code, how);
        let version = &self.config.api_version;
        read(&ran?, version).map_err(|problem| Error::Answer {
            command: self.config.command.clone(),
            version: version.clone(),
            problem,
        })
    }

    /// Runs the plugin; what it printed.
    async fn call(&self) -> Result<Vec<u8>, Error> {
        let config = &self.config;
        let command = || config.command.clone();
        let info = Info {
            api_version: &config.api_version,
            kind: "ExecCredential",
            spec: Spec { interactive: false },
        };
        let info = serde_json::to_string(&info).expect("a struct of strings encodes");
        let mut run = tokio::process::Command::new(&config.command);
        run.args(config.args.iter().flatten())
            .envs(config.env.iter().flatten().map(|v| (&v.name, &v.value)))
            .env("KUBERNETES_EXEC_INFO", info)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, run.output())
            .await
            .map_err(|_| Error::Timeout {
                command: command(),
                after: PATIENCE,
            })?
            .map_err(|cause| Error::Run {
                command: command(),
                hint: config.install_hint.clone(),
                cause,
            })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr)
                .trim()
                .chars()
                .take(512)
                .collect();
            return Err(Error::Failed {
                command: command(),
                status: output.status,
                said,
            });
        }
        Ok(output.stdout)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Info<'a> {
    api_version: &'a str,
    kind: &'a str,
    spec: Spec,
}

#[derive(Serialize)]
struct Spec {
    interactive: bool,
}

/// What is counted of a certificate; nothing of one that cannot be read, and so is not used either.
fn valid(pem: &str) -> Option<metrics::Certificate> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    Some(metrics::Certificate {
        pem: pem.to_owned(),
        valid: validity(&der)?,
    })
}

fn read(printed: &[u8], version: &str) -> Result<Credential, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        api_version: String,
        kind: String,
        status: Option<Status>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Status {
        token: Option<String>,
        client_certificate_data: Option<String>,
        client_key_data: Option<String>,
        expiration_timestamp: Option<Timestamp>,
    }
    let answer: Answer = serde_json::from_slice(printed).map_err(|e| e.to_string())?;
    if answer.kind != "ExecCredential" || answer.api_version != version {
        return Err(format!("it is a {} of {}", answer.kind, answer.api_version));
    }
    let status = answer.status.ok_or("it has no status")?;
    let filled = |text: Option<String>| text.filter(|t| !t.is_empty());
    let token = filled(status.token);
    let certificate = match (
        filled(status.client_certificate_data),
        filled(status.client_key_data),
    ) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        _ => return Err("certificate and key must come together".to_owned()),
    };
    if token.is_none() && certificate.is_none() {
        return Err("it has neither a token nor a certificate".to_owned());
    }
    Ok(Credential {
        token,
        certificate,
        expires: status.expiration_timestamp,
    })
}
