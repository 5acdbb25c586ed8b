//! The flags of auditing, checked as upstream checks them (`apiserver/pkg/server/options/audit.go`).

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use component::args::{Args, Flag, Group};

use crate::audit::{Batch, LogConfig, Mode, Rotation, Throttle};

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
    WEBHOOK_CONFIG_FILE: Option<PathBuf> = "audit-webhook-config-file", "", "A kubeconfig of a server that events are sent to.";
}

/// What is recorded, and where.
#[derive(Clone, Debug)]
pub struct AuditConfig {
    pub policy: Option<PathBuf>,
    pub log: Option<LogConfig>,
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
        ],
    )
}

impl AuditConfig {
    pub(super) fn from_args(args: &Args) -> anyhow::Result<Self> {
        if args.get(&WEBHOOK_CONFIG_FILE).is_some() {
            // Starting without it would record less than what was asked for.
            bail!("--{} is not supported yet", WEBHOOK_CONFIG_FILE.name());
        }
        Ok(Self {
            policy: args.get(&POLICY_FILE),
            log: log(args)?,
        })
    }
}

fn log(args: &Args) -> anyhow::Result<Option<LogConfig>> {
    let path = args.get(&LOG_PATH);
    if path.is_empty() {
        return Ok(None);
    }
    let mode = mode(args)?;
    let max_event = max_event(args)?;
    let version = args.get(&LOG_VERSION);
    if version != "audit.k8s.io/v1" {
        bail!("invalid group version, allowed versions are [\"audit.k8s.io/v1\"]");
    }
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
        mode,
        max_event,
    }))
}

fn count(args: &Args, flag: &Flag<i64>) -> anyhow::Result<u64> {
    let given = args.get(flag);
    match u32::try_from(given) {
        Ok(count) => Ok(u64::from(count)),
        Err(_) if given < 0 => bail!("--{} {given} can't be a negative number", flag.name()),
        Err(_) => bail!("--{} {given} is too large", flag.name()),
    }
}

fn mode(args: &Args) -> anyhow::Result<Mode> {
    match args.get(&LOG_MODE).as_str() {
        "blocking" => Ok(Mode::Blocking { strict: false }),
        "blocking-strict" => Ok(Mode::Blocking { strict: true }),
        "batch" => Ok(Mode::Batch(Batch {
            buffer: positive(args, &LOG_BATCH_BUFFER_SIZE, "buffer size")?,
            max_size: positive(args, &LOG_BATCH_MAX_SIZE, "max batch size")?,
            max_wait: args.get(&LOG_BATCH_MAX_WAIT),
            throttle: throttle(args)?,
        })),
        other => bail!(
            "invalid audit log mode {other}, allowed modes are \"batch,blocking,blocking-strict\""
        ),
    }
}

/// Large enough for every queue; larger ones cannot be made.
const MOST: i64 = 1 << 30;

fn positive(args: &Args, flag: &Flag<i64>, what: &str) -> anyhow::Result<usize> {
    let given = args.get(flag);
    match usize::try_from(given.min(MOST)) {
        Ok(number) if number > 0 => Ok(number),
        _ => bail!("invalid audit batch log {what} {given}, must be a positive number"),
    }
}

fn throttle(args: &Args) -> anyhow::Result<Option<Throttle>> {
    if !args.get(&LOG_BATCH_THROTTLE_ENABLE) {
        return Ok(None);
    }
    let qps = args.get(&LOG_BATCH_THROTTLE_QPS);
    if qps.is_nan() || qps <= 0.0 {
        bail!("invalid audit batch log throttle QPS {qps}, must be a positive number");
    }
    let burst = positive(args, &LOG_BATCH_THROTTLE_BURST, "throttle burst")?;
    Ok(Some(Throttle { qps, burst }))
}

/// The sizes are checked also if nothing is truncated.
fn max_event(args: &Args) -> anyhow::Result<Option<usize>> {
    let event = args.get(&LOG_TRUNCATE_MAX_EVENT_SIZE);
    let batch = args.get(&LOG_TRUNCATE_MAX_BATCH_SIZE);
    if event <= 0 {
        bail!("invalid audit truncate log max event size {event}, must be a positive number");
    }
    if batch < event {
        bail!(
            "invalid audit truncate log max batch size {batch}, must be greater than max event size ({event})"
        );
    }
    let event = usize::try_from(event)?;
    Ok(args.get(&LOG_TRUNCATE_ENABLED).then_some(event))
}

#[cfg(test)]
mod tests;
