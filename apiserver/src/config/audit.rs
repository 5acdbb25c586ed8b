//! The flags of auditing, checked as upstream checks them (`apiserver/pkg/server/options/audit.go`).

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use component::args::{Args, Flag, Group};

use crate::audit::{Batch, Delivery, LogConfig, Mode, Rotation, Throttle, WebhookConfig};

flags! {
    POLICY_FILE: Option<PathBuf> = "audit-policy-file", "", "The audit policy: which requests are recorded, and how much of them.";
    LOG_PATH: String = "audit-log-path", "", "The file that events are written to; - means the standard output.";
    LOG_FORMAT: String = "audit-log-format", "json", "The form of an event: json, or legacy for a line of text.";
    LOG_VERSION: String = "audit-log-version", "audit.k8s.io/v1", "The version of events.";
    LOG_MAXAGE: i64 = "audit-log-maxage", "366", "How many days old log files are kept; 0 means for ever.";
    LOG_MAXBACKUP: i64 = "audit-log-maxbackup", "100", "How many old log files are kept; 0 means any number.";
    LOG_MAXSIZE: i64 = "audit-log-maxsize", "100", "The size in megabytes at which a log file is replaced; 0 means never.";
    LOG_COMPRESS: bool = "audit-log-compress", "false", "Compress old log files by gzip.";
    LOG_MODE: String = "audit-log-mode", "blocking", "Whether answers wait for the log: batch, blocking, or blocking-strict, which refuses requests that cannot be recorded.";
    LOG_BATCH_BUFFER_SIZE: i64 = "audit-log-batch-buffer-size", "10000", "How many events may wait in batch mode.";
    LOG_BATCH_MAX_SIZE: i64 = "audit-log-batch-max-size", "1", "How many events a batch has at most.";
    LOG_BATCH_MAX_WAIT: Duration = "audit-log-batch-max-wait", "0s", "How long a batch waits until it is full.";
    LOG_BATCH_THROTTLE_ENABLE: bool = "audit-log-batch-throttle-enable", "false", "Bound the rate of batches.";
    LOG_BATCH_THROTTLE_QPS: f32 = "audit-log-batch-throttle-qps", "0", "Batches a second.";
    LOG_BATCH_THROTTLE_BURST: i64 = "audit-log-batch-throttle-burst", "0", "Batches at once after a quiet time.";
    LOG_TRUNCATE_ENABLED: bool = "audit-log-truncate-enabled", "false", "Drop the bodies of events that are too large, and events that are too large even then.";
    LOG_TRUNCATE_MAX_BATCH_SIZE: i64 = "audit-log-truncate-max-batch-size", "10485760", "The largest batch in bytes; events come to the log one by one.";
    LOG_TRUNCATE_MAX_EVENT_SIZE: i64 = "audit-log-truncate-max-event-size", "102400", "The largest event in bytes.";
    WEBHOOK_CONFIG_FILE: Option<PathBuf> = "audit-webhook-config-file", "", "A kubeconfig of a server that events are posted to.";
    WEBHOOK_INITIAL_BACKOFF: Duration = "audit-webhook-initial-backoff", "10s", "How long after the first failure events are posted again.";
    WEBHOOK_BATCH_INITIAL_BACKOFF: Option<Duration> = "audit-webhook-batch-initial-backoff", "", "How long after the first failure events are posted again.", deprecated("use --audit-webhook-initial-backoff instead");
    WEBHOOK_VERSION: String = "audit-webhook-version", "audit.k8s.io/v1", "The version of events.";
    WEBHOOK_MODE: String = "audit-webhook-mode", "batch", "Whether answers wait for the webhook: batch, blocking, or blocking-strict, which refuses requests that cannot be recorded.";
    WEBHOOK_BATCH_BUFFER_SIZE: i64 = "audit-webhook-batch-buffer-size", "10000", "How many events may wait in batch mode.";
    WEBHOOK_BATCH_MAX_SIZE: i64 = "audit-webhook-batch-max-size", "400", "How many events a batch has at most.";
    WEBHOOK_BATCH_MAX_WAIT: Duration = "audit-webhook-batch-max-wait", "30s", "How long a batch waits until it is full.";
    WEBHOOK_BATCH_THROTTLE_ENABLE: bool = "audit-webhook-batch-throttle-enable", "true", "Bound the rate of batches.";
    WEBHOOK_BATCH_THROTTLE_QPS: f32 = "audit-webhook-batch-throttle-qps", "10", "Batches a second.";
    WEBHOOK_BATCH_THROTTLE_BURST: i64 = "audit-webhook-batch-throttle-burst", "15", "Batches at once after a quiet time.";
    WEBHOOK_TRUNCATE_ENABLED: bool = "audit-webhook-truncate-enabled", "false", "Drop the bodies of events that are too large, and events that are too large even then.";
    WEBHOOK_TRUNCATE_MAX_BATCH_SIZE: i64 = "audit-webhook-truncate-max-batch-size", "10485760", "The largest batch in bytes; events are truncated one by one, before they are batched.";
    WEBHOOK_TRUNCATE_MAX_EVENT_SIZE: i64 = "audit-webhook-truncate-max-event-size", "102400", "The largest event in bytes.";
}

/// The flags that both backends have.
struct Flags {
    /// The backend's name in the flags.
    name: &'static str,
    version: Flag<String>,
    mode: Flag<String>,
    buffer: Flag<i64>,
    max_size: Flag<i64>,
    max_wait: Flag<Duration>,
    throttle: Flag<bool>,
    qps: Flag<f32>,
    burst: Flag<i64>,
    truncate: Flag<bool>,
    max_batch: Flag<i64>,
    max_event: Flag<i64>,
}

const LOG: Flags = Flags {
    name: "log",
    version: LOG_VERSION,
    mode: LOG_MODE,
    buffer: LOG_BATCH_BUFFER_SIZE,
    max_size: LOG_BATCH_MAX_SIZE,
    max_wait: LOG_BATCH_MAX_WAIT,
    throttle: LOG_BATCH_THROTTLE_ENABLE,
    qps: LOG_BATCH_THROTTLE_QPS,
    burst: LOG_BATCH_THROTTLE_BURST,
    truncate: LOG_TRUNCATE_ENABLED,
    max_batch: LOG_TRUNCATE_MAX_BATCH_SIZE,
    max_event: LOG_TRUNCATE_MAX_EVENT_SIZE,
};

const WEBHOOK: Flags = Flags {
    name: "webhook",
    version: WEBHOOK_VERSION,
    mode: WEBHOOK_MODE,
    buffer: WEBHOOK_BATCH_BUFFER_SIZE,
    max_size: WEBHOOK_BATCH_MAX_SIZE,
    max_wait: WEBHOOK_BATCH_MAX_WAIT,
    throttle: WEBHOOK_BATCH_THROTTLE_ENABLE,
    qps: WEBHOOK_BATCH_THROTTLE_QPS,
    burst: WEBHOOK_BATCH_THROTTLE_BURST,
    truncate: WEBHOOK_TRUNCATE_ENABLED,
    max_batch: WEBHOOK_TRUNCATE_MAX_BATCH_SIZE,
    max_event: WEBHOOK_TRUNCATE_MAX_EVENT_SIZE,
};

/// What is recorded, and where.
#[derive(Clone, Debug)]
pub struct AuditConfig {
    pub policy: Option<PathBuf>,
    pub log: Option<LogConfig>,
    pub webhook: Option<WebhookConfig>,
}

pub(super) fn group() -> Group {
    Group::new(
        "Auditing",
        &[
            &POLICY_FILE,
            &LOG_PATH,
            &LOG_FORMAT,
            &LOG_VERSION,
            &LOG_MAXAGE,
            &LOG_MAXBACKUP,
            &LOG_MAXSIZE,
            &LOG_COMPRESS,
            &LOG_MODE,
            &LOG_BATCH_BUFFER_SIZE,
            &LOG_BATCH_MAX_SIZE,
            &LOG_BATCH_MAX_WAIT,
            &LOG_BATCH_THROTTLE_ENABLE,
            &LOG_BATCH_THROTTLE_QPS,
            &LOG_BATCH_THROTTLE_BURST,
            &LOG_TRUNCATE_ENABLED,
            &LOG_TRUNCATE_MAX_BATCH_SIZE,
            &LOG_TRUNCATE_MAX_EVENT_SIZE,
            &WEBHOOK_CONFIG_FILE,
            &WEBHOOK_INITIAL_BACKOFF,
            &WEBHOOK_BATCH_INITIAL_BACKOFF,
            &WEBHOOK_VERSION,
            &WEBHOOK_MODE,
            &WEBHOOK_BATCH_BUFFER_SIZE,
            &WEBHOOK_BATCH_MAX_SIZE,
            &WEBHOOK_BATCH_MAX_WAIT,
            &WEBHOOK_BATCH_THROTTLE_ENABLE,
            &WEBHOOK_BATCH_THROTTLE_QPS,
            &WEBHOOK_BATCH_THROTTLE_BURST,
            &WEBHOOK_TRUNCATE_ENABLED,
            &WEBHOOK_TRUNCATE_MAX_BATCH_SIZE,
            &WEBHOOK_TRUNCATE_MAX_EVENT_SIZE,
        ],
    )
}

impl AuditConfig {
    pub(super) fn from_args(args: &Args) -> anyhow::Result<Self> {
        Ok(Self {
            policy: args.get(&POLICY_FILE),
            log: log(args)?,
            webhook: webhook(args)?,
        })
    }
}

fn log(args: &Args) -> anyhow::Result<Option<LogConfig>> {
    let path = args.get(&LOG_PATH);
    if path.is_empty() {
        return Ok(None);
    }
    let delivery = delivery(args, &LOG)?;
    let format = args.get(&LOG_FORMAT);
    if !["legacy", "json"].contains(&format.as_str()) {
        bail!("invalid audit log format {format}, allowed formats are \"legacy,json\"");
    }
    Ok(Some(LogConfig {
        path: (path != "-").then(|| path.into()),
        rotation: Rotation {
            max_size: count(args, &LOG_MAXSIZE)? << 20,
            max_age: count(args, &LOG_MAXAGE)?,
            max_backups: usize::try_from(count(args, &LOG_MAXBACKUP)?)?,
            compress: args.get(&LOG_COMPRESS),
        },
        legacy: format == "legacy",
        delivery,
    }))
}

fn webhook(args: &Args) -> anyhow::Result<Option<WebhookConfig>> {
    let Some(kubeconfig) = args.get(&WEBHOOK_CONFIG_FILE) else {
        return Ok(None);
    };
    let older = args.get(&WEBHOOK_BATCH_INITIAL_BACKOFF);
    Ok(Some(WebhookConfig {
        kubeconfig,
        initial_backoff: older.unwrap_or_else(|| args.get(&WEBHOOK_INITIAL_BACKOFF)),
        delivery: delivery(args, &WEBHOOK)?,
    }))
}

/// How events come to a backend.
fn delivery(args: &Args, flags: &Flags) -> anyhow::Result<Delivery> {
    let mode = mode(args, flags)?;
    let max_event = max_event(args, flags)?;
    if args.get(&flags.version) != "audit.k8s.io/v1" {
        bail!("invalid group version, allowed versions are [\"audit.k8s.io/v1\"]");
    }
    Ok(Delivery { mode, max_event })
}

fn count(args: &Args, flag: &Flag<i64>) -> anyhow::Result<u64> {
    let given = args.get(flag);
    match u32::try_from(given) {
        Ok(count) => Ok(u64::from(count)),
        Err(_) if given < 0 => bail!("--{} {given} can't be a negative number", flag.name()),
        Err(_) => bail!("--{} {given} is too large", flag.name()),
    }
}

fn mode(args: &Args, flags: &Flags) -> anyhow::Result<Mode> {
    match args.get(&flags.mode).as_str() {
        "blocking" => Ok(Mode::Blocking { strict: false }),
        "blocking-strict" => Ok(Mode::Blocking { strict: true }),
        "batch" => Ok(Mode::Batch(Batch {
            buffer: positive(args, flags, &flags.buffer, "buffer size")?,
            max_size: positive(args, flags, &flags.max_size, "max batch size")?,
            max_wait: args.get(&flags.max_wait),
            throttle: throttle(args, flags)?,
        })),
        other => bail!(
            "invalid audit {} mode {other}, allowed modes are \"batch,blocking,blocking-strict\"",
            flags.name
        ),
    }
}

/// Large enough for every queue; larger ones cannot be made.
const MOST: i64 = 1 << 30;

fn positive(args: &Args, of: &Flags, flag: &Flag<i64>, what: &str) -> anyhow::Result<usize> {
    let given = args.get(flag);
    match usize::try_from(given.min(MOST)) {
        Ok(number) if number > 0 => Ok(number),
        _ => bail!(
            "invalid audit batch {} {what} {given}, must be a positive number",
            of.name
        ),
    }
}

fn throttle(args: &Args, flags: &Flags) -> anyhow::Result<Option<Throttle>> {
    if !args.get(&flags.throttle) {
        return Ok(None);
    }
    let qps = args.get(&flags.qps);
    if qps.is_nan() || qps <= 0.0 {
        let name = flags.name;
        bail!("invalid audit batch {name} throttle QPS {qps}, must be a positive number");
    }
    let burst = positive(args, flags, &flags.burst, "throttle burst")?;
    Ok(Some(Throttle { qps, burst }))
}

/// The sizes are checked also if nothing is truncated.
fn max_event(args: &Args, flags: &Flags) -> anyhow::Result<Option<usize>> {
    let name = flags.name;
    let event = args.get(&flags.max_event);
    let batch = args.get(&flags.max_batch);
    if event <= 0 {
        bail!("invalid audit truncate {name} max event size {event}, must be a positive number");
    }
    if batch < event {
        bail!(
            "invalid audit truncate {name} max batch size {batch}, must be greater than max event size ({event})"
        );
    }
    let event = usize::try_from(event)?;
    Ok(args.get(&flags.truncate).then_some(event))
}

#[cfg(test)]
mod tests;
