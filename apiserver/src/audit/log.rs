//! The log: a file of lines that is rotated, or the standard output.
//!
//! Upstream: `plugin/pkg/audit/log`; files are rotated as lumberjack rotates them, and backups have its
//! names.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use component::Supervisor;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::backend::{Delivery, Form, Item, Output, Queue};
use super::metrics::Counters;

mod file;

/// The log as it is asked for.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// None for the standard output.
    pub path: Option<PathBuf>,
    pub rotation: Rotation,
    /// Upstream's legacy format in place of JSON.
    pub legacy: bool,
    pub delivery: Delivery,
}

/// When files are replaced, and what becomes of old ones.
#[derive(Clone, Copy, Debug)]
pub struct Rotation {
    /// In bytes; 0 for never.
    pub max_size: u64,
    /// Days; 0 for ever.
    pub max_age: u64,
    /// 0 for any number.
    pub max_backups: usize,
    /// Old files are compressed by gzip.
    pub compress: bool,
}

/// Opens the log.
///
/// # Errors
/// If its file cannot be made.
pub(super) fn open(
    config: &LogConfig,
    tasks: &Supervisor,
    counters: Counters,
) -> anyhow::Result<Queue> {
    let output = match &config.path {
        None => file::Output::Standard,
        Some(path) => file::Output::file(path, config.rotation)
            .with_context(|| format!("--audit-log-path: {}", path.display()))?,
    };
    let form = if config.legacy {
        Form::Legacy
    } else {
        Form::Line
    };
    let log = Log {
        output: Arc::new(Mutex::new(output)),
        counters: counters.clone(),
    };
    let name = "audit-log";
    Ok(Queue::start(
        name,
        form,
        config.delivery,
        log,
        tasks,
        counters,
    ))
}

struct Log {
    output: Arc<Mutex<file::Output>>,
    counters: Counters,
}

impl Output for Log {
    const AT_ONCE: usize = 1;
    /// They are written one by one, but for many there is one change of threads.
    const WAITED_FOR: usize = 1024;

    /// Writes where blocking hurts nobody.
    async fn deliver(&self, batch: Vec<Item>, _stop: &CancellationToken) {
        let (output, counters) = (Arc::clone(&self.output), self.counters.clone());
        let work = tokio::task::spawn_blocking(move || {
            let mut output = output.lock();
            for item in batch {
                let written = output.write(&item.event);
                if let Err(error) = &written {
                    counters.lost("log", 1);
                    tracing::error!(%error, "an audit event cannot be written");
                }
                item.delivered(written.is_ok());
            }
        });
        work.await
            .expect("writing does not panic and is not cancelled");
    }
}

#[cfg(test)]
mod tests {
    use component::metrics::Metrics;

    use super::super::backend::Mode;
    use super::*;

    #[tokio::test]
    async fn whoever_waits_finds_the_line_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        for (strict, refused) in [(false, true), (true, false)] {
            let _ = std::fs::remove_file(&path);
            let config = LogConfig {
                path: Some(path.clone()),
                rotation: Rotation {
                    max_size: 8,
                    max_age: 0,
                    max_backups: 0,
                    compress: false,
                },
                legacy: false,
                delivery: Delivery {
                    mode: Mode::Blocking { strict },
                    max_event: None,
                },
            };
            let counters = Counters::register(&Metrics::new());
            let log = open(&config, &Supervisor::current(), counters).unwrap();
            assert!(log.write(b"one\n".to_vec()).await);
            assert_eq!(std::fs::read(&path).unwrap(), b"one\n");
            // Larger than a file may be.
            assert_eq!(log.write(b"too large for it\n".to_vec()).await, refused);
        }
    }
}
