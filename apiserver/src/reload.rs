//! Configuration files that take effect again when they change, and what is counted of that.
//!
//! Upstream: `apiserver/pkg/server/options/{authentication,authorization}config/metrics`.

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

use component::files::TextFile;
use component::metrics::{Counters, Gauges, Metrics};
use parking_lot::Mutex;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use ring::digest;

/// Seconds since 1970, with fractions.
type Times = Family<[(&'static str, String); 2], Gauge<f64, AtomicU64>>;

/// A file of configuration.
pub struct ConfigFile {
    file: TextFile,
    counted: Reloads,
}

impl ConfigFile {
    /// Reads it. `subsystem` is in the middle of the metrics' names, `server` this server's identity.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn open(
        path: &Path,
        metrics: &Metrics,
        subsystem: &str,
        server: &str,
    ) -> std::io::Result<(Self, String)> {
        let (file, text) = TextFile::open(path)?;
        let counted = Reloads::register(metrics, subsystem, server);
        counted.uses(&text);
        Ok((Self { file, counted }, text))
    }

    /// The new text if it changed. A failure to read it is logged and counted here.
    pub fn changed(&self) -> Option<String> {
        match self.file.changed()? {
            Ok(text) => Some(text),
            Err(error) => {
                self.failed(&error);
                None
            }
        }
    }

    /// The new text is in use.
    pub fn succeeded(&self, text: &str) {
        self.counted.done("success");
        self.counted.uses(text);
    }

    /// The new text cannot be used; the old one stays in use.
    pub fn failed(&self, error: &dyn std::fmt::Display) {
        tracing::error!(%error, subsystem = self.counted.subsystem, "A changed configuration cannot be used");
        self.counted.done("failure");
    }

    /// The text is tried once more after a while.
    pub fn once_more(&self, after: std::time::Duration) {
        self.file.once_more(after);
    }
}

struct Reloads {
    subsystem: String,
    server: String,
    total: Counters<2>,
    last: Times,
    info: Gauges<2>,
    /// The labels under which `info` is set.
    used: Mutex<Option<[(&'static str, String); 2]>>,
}

impl Reloads {
    fn register(metrics: &Metrics, subsystem: &str, server: &str) -> Self {
        let name = |what: &str| format!("apiserver_{subsystem}_{what}");
        Self {
            subsystem: subsystem.to_owned(),
            server: hash(server),
            total: metrics.registered(
                &name("automatic_reloads_total"),
                "Reloads of the configuration after its file changed",
                Family::default(),
            ),
            last: metrics.registered(
                &name("automatic_reload_last_timestamp_seconds"),
                "When the configuration was last reloaded",
                Family::default(),
            ),
            info: metrics.registered(
                &name("last_config_info"),
                "The configuration in use, by its hash",
                Family::default(),
            ),
            used: Mutex::new(None),
        }
    }

    fn done(&self, status: &str) {
        let labels = [
            ("status", status.to_owned()),
            ("apiserver_id_hash", self.server.clone()),
        ];
        self.total.get_or_create(&labels).inc();
        self.last.get_or_create(&labels).set(now());
    }

    fn uses(&self, text: &str) {
        let labels = [
            ("apiserver_id_hash", self.server.clone()),
            ("hash", hash(text)),
        ];
        let mut used = self.used.lock();
        if let Some(old) = used.replace(labels.clone()) {
            self.info.remove(&old);
        }
        self.info.get_or_create(&labels).set(1);
    }
}

/// Seconds since 1970.
#[must_use]
pub fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

/// How metrics name what they do not show; nothing for nothing.
#[must_use]
pub fn hash(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    let hex = digest.as_ref().iter().map(|byte| format!("{byte:02x}"));
    std::iter::once("sha256:".to_owned()).chain(hex).collect()
}
