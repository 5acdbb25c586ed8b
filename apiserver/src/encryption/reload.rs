//! The rules in use: those of the file at the start, or as it is now.
//!
//! A changed file is read when values are opened or sealed, or somebody asks for health, and takes
//! effect once all its plugins are well. Until then, and if it cannot be used, the old rules stay; a file
//! whose plugins are not well is tried again. Plugins of old rules are asked no more once nothing waits
//! for them. Upstream: `server/options/encryptionconfig/controller`.

use std::sync::Arc;
use std::time::Duration;

use component::metrics::Metrics;
use component::{Supervisor, Task};
use futures::future::join_all;
use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use super::config::{self, Means};
use super::{Error, Plugin, Probing, Rules};
use crate::config::EncryptionConfig;
use crate::reload::ConfigFile;

/// In the names of the metrics of the file.
const SUBSYSTEM: &str = "encryption_config_controller";
/// How long new plugins may take to be well: twice the sum of their times, but not less than this.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two questions of plugins that are not well, and before a file is tried once more.
const PAUSE: Duration = Duration::from_millis(100);
const ONCE_MORE: Duration = Duration::from_secs(60);

/// The rules in use.
pub(super) struct Current {
    rules: RwLock<Arc<Rules>>,
    /// What its plugins last said, for the health check.
    found: Mutex<Vec<Result<(), String>>>,
    file: ConfigFile,
    /// Whether it is read again.
    reload: bool,
    /// Whether a new file is being tried.
    busy: Mutex<bool>,
    means: Means,
    tasks: Supervisor,
}

impl Current {
    pub(super) async fn open(
        given: &EncryptionConfig,
        means: Means,
        tasks: &Supervisor,
        metrics: &Metrics,
        server: &str,
    ) -> Result<Arc<Self>, Error> {
        let (file, text) = ConfigFile::open(&given.file, metrics, SUBSYSTEM, server)?;
        let rules = config::read(&text, &means)?.started(tasks).await;
        Ok(Arc::new(Self {
            found: Mutex::new(rules.ask().await),
            rules: RwLock::new(Arc::new(rules)),
            file,
            reload: given.reload,
            busy: Mutex::new(false),
            means,
            tasks: tasks.clone(),
        }))
    }

    /// The rules, after a look at the file.
    pub(super) fn rules(self: &Arc<Self>) -> Arc<Rules> {
        self.look();
        Arc::clone(&self.rules.read())
    }

    /// Whether the health check has something to tell.
    pub(super) fn may_have_plugins(&self) -> bool {
        self.reload || !self.rules.read().probing.is_empty()
    }

    /// Asks the plugins how they are.
    pub(super) async fn ask(self: &Arc<Self>) {
        let rules = self.rules();
        let found = rules.ask().await;
        *self.found.lock() = found;
    }

    /// What was found by that.
    pub(super) fn found(&self) -> Result<(), String> {
        together(&self.found.lock())
    }

    /// What was found of one.
    pub(super) fn found_of(&self, i: usize) -> Result<(), String> {
        self.found.lock().get(i).cloned().unwrap_or(Ok(()))
    }

    /// How many plugins have checks of their own: those of a file that is not read again, if one is of the
    /// first version.
    pub(super) fn told_apart(&self) -> Option<usize> {
        let rules = self.rules.read();
        let mut all = rules.probing.iter().map(|of| &of.plugin);
        let old = all.any(|plugin| matches!(plugin, Plugin::V1(_)));
        (old && !self.reload).then_some(rules.probing.len())
    }

    fn look(self: &Arc<Self>) {
        if !self.reload || *self.busy.lock() {
            return;
        }
        let Some(text) = self.file.changed() else {
            return;
        };
        let rules = match config::read(&text, &self.means) {
            Ok(rules) => rules,
            Err(error) => return self.file.failed(&error),
        };
        *self.busy.lock() = true;
        let this = Arc::clone(self);
        self.tasks
            .spawn(Task::Background, "encryption-config", async move {
                match rules.started(&this.tasks).await.well().await {
                    Ok(rules) => {
                        *this.rules.write() = Arc::new(rules);
                        tracing::info!("The configuration of encryption was read again");
                        this.file.succeeded(&text);
                    }
                    Err(error) => {
                        this.file.failed(&error);
                        this.file.once_more(ONCE_MORE);
                    }
                }
                *this.busy.lock() = false;
            });
    }
}

/// What a plugin is called in health checks.
pub(super) fn name(i: usize) -> String {
    format!("kms-provider-{i}")
}

/// What all plugins say.
fn together(found: &[Result<(), String>]) -> Result<(), String> {
    let problems: Vec<String> = { found.iter().enumerate() }
        .filter_map(|(i, found)| Some(format!("{}: {}", name(i), found.as_ref().err()?)))
        .collect();
    if problems.is_empty() {
        Ok(())
    } else {
        Err(proto::path::aggregate(&problems))
    }
}

impl Rules {
    /// With its plugins asked how they are, now and as long as these are in use.
    async fn started(mut self, tasks: &Supervisor) -> Self {
        let all = self.plugins.drain(..).map(|p| Probing::start(p, tasks));
        self.probing = join_all(all).await;
        self
    }

    /// How the plugins are.
    async fn ask(&self) -> Vec<Result<(), String>> {
        join_all(self.probing.iter().map(|of| of.plugin.check())).await
    }

    /// Waits until all plugins are well.
    async fn well(self) -> Result<Self, Error> {
        let times = self.probing.iter().map(|of| of.plugin.timeout());
        let until = Instant::now() + (2 * times.sum::<Duration>()).max(PATIENCE);
        loop {
            match together(&self.ask().await) {
                Ok(()) => return Ok(self),
                Err(why) if Instant::now() >= until => return Err(Error::Ill(why)),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}
