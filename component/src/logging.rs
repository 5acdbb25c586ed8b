//! The log: text as klog prints it, or JSON as upstream's, on stderr.
//!
//! Constant messages with variable fields, dotted names, `error = %err`. `--v` maps to levels: below
//! 4 events of `info!` and above are shown, from 4 on `debug!`, from 6 on `trace!`; what the crates
//! underneath say is shown from warnings on, and all of it from 8 on.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use proto::time::civil::Civil;
use tracing::field::Field;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::config::Logging;

mod fields;

use fields::{Fields, Json, Text};

/// Why the log cannot be set up.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("unsupported log format {0:?}, must be text or json")]
    Format(String),
    #[error("a log is installed already")]
    Installed(#[source] TryInitError),
}

/// Installs the process's log.
///
/// # Errors
/// If the format is unknown, or there is a log already.
pub fn install(config: &Logging) -> Result<(), Error> {
    let filter = Verbosity::new(config.verbosity);
    let handle = filter.clone();
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    match config.format.as_str() {
        "text" => registry
            .with(layer.fmt_fields(Text).event_format(Text))
            .try_init(),
        "json" => registry
            .with(layer.fmt_fields(Json).event_format(Json))
            .try_init(),
        other => return Err(Error::Format(other.to_owned())),
    }
    .map_err(Error::Installed)?;
    // Only one log can be installed.
    let _ = INSTALLED.set(handle);
    Ok(())
}

/// Of the process's log.
static INSTALLED: OnceLock<Verbosity> = OnceLock::new();

/// Sets how much the process logs from now on.
pub fn set_verbosity(verbosity: u32) {
    if let Some(installed) = INSTALLED.get() {
        installed.set(verbosity);
    }
}

/// The least verbosity of each step; between two of them nothing changes.
const STEPS: [u32; 4] = [0, 4, 6, 8];

/// What is let through, by a verbosity that can be changed.
///
/// Not `tracing_subscriber::reload`, whose lock every span would take.
#[derive(Clone)]
struct Verbosity {
    filters: Arc<[Targets; STEPS.len()]>,
    step: Arc<AtomicUsize>,
}

impl Verbosity {
    fn new(verbosity: u32) -> Self {
        Self {
            filters: Arc::new(STEPS.map(filter)),
            step: Arc::new(AtomicUsize::new(step(verbosity))),
        }
    }

    fn set(&self, verbosity: u32) {
        self.step.store(step(verbosity), Ordering::Relaxed);
        // What is off is not looked at again otherwise.
        tracing_core::callsite::rebuild_interest_cache();
    }

    fn now(&self) -> &Targets {
        &self.filters[self.step.load(Ordering::Relaxed)]
    }
}

fn step(verbosity: u32) -> usize {
    STEPS
        .iter()
        .rposition(|least| *least <= verbosity)
        .unwrap_or(0)
}

impl<S: Subscriber> Layer<S> for Verbosity {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        Layer::<S>::register_callsite(self.now(), metadata)
    }

    fn enabled(&self, metadata: &Metadata<'_>, context: Context<'_, S>) -> bool {
        Layer::<S>::enabled(self.now(), metadata, context)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Layer::<S>::max_level_hint(self.now())
    }
}

/// Crates underneath whose details are of interest to few.
const CRATES_BELOW: [&str; 7] = [
    "h2",
    "hyper",
    "hyper_util",
    "rustls",
    "tokio_util",
    "tonic",
    "tower",
];

fn filter(verbosity: u32) -> Targets {
    let level = match verbosity {
        0..=3 => LevelFilter::INFO,
        4..=5 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let below = if verbosity < 8 {
        LevelFilter::WARN
    } else {
        level
    };
    CRATES_BELOW
        .iter()
        .fold(Targets::new().with_default(level), |t, name| {
            t.with_target(*name, below)
        })
}

/// The number that upstream logs as `v`.
fn verbosity_of(level: Level) -> u8 {
    match level {
        Level::TRACE => 6,
        Level::DEBUG => 4,
        _ => 0,
    }
}

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let meta = event.metadata();
        let letter = match *meta.level() {
            Level::ERROR => 'E',
            Level::WARN => 'W',
            _ => 'I',
        };
        let (secs, nanos) = now();
        let t = Civil::of(secs);
        write!(
            out,
            "{letter}{:02}{:02} {:02}:{:02}:{:02}.{:06} {:>7} {}:{}] ",
            t.month,
            t.day,
            t.hour,
            t.minute,
            t.second,
            nanos / 1000,
            std::process::id(),
            file_name(meta.file()),
            meta.line().unwrap_or(0),
        )?;
        let mut fields = Fields::<Self>::default();
        event.record(&mut fields);
        write!(out, "{:?}{}", fields.message, fields.rest)?;
        spans::<S, N>(ctx, &mut out)?;
        out.write_char('\n')
    }
}

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let meta = event.metadata();
        let (secs, nanos) = now();
        let mut fields = Fields::<Self>::default();
        event.record(&mut fields);
        write!(
            out,
            "{{\"ts\":{}{:03}.{:06},\"caller\":\"{}:{}\",\"msg\":{}",
            secs,
            nanos / 1_000_000,
            nanos % 1_000_000,
            file_name(meta.file()),
            meta.line().unwrap_or(0),
            fields::json_string(&fields.message),
        )?;
        // Upstream gives errors no verbosity.
        if *meta.level() != Level::ERROR {
            write!(out, ",\"v\":{}", verbosity_of(*meta.level()))?;
        }
        out.write_str(&fields.rest)?;
        spans::<S, N>(ctx, &mut out)?;
        out.write_str("}\n")
    }
}

impl<'w> FormatFields<'w> for Text {
    fn format_fields<R: RecordFields>(&self, mut out: Writer<'w>, fields: R) -> std::fmt::Result {
        let mut all = Fields::<Self>::default();
        fields.record(&mut all);
        out.write_str(&all.rest)
    }
}

impl<'w> FormatFields<'w> for Json {
    fn format_fields<R: RecordFields>(&self, mut out: Writer<'w>, fields: R) -> std::fmt::Result {
        let mut all = Fields::<Self>::default();
        fields.record(&mut all);
        out.write_str(&all.rest)
    }
}

/// The fields of the spans around an event, outermost first.
fn spans<S, N>(ctx: &FmtContext<'_, S, N>, out: &mut Writer<'_>) -> std::fmt::Result
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    let Some(scope) = ctx.event_scope() else {
        return Ok(());
    };
    for span in scope.from_root() {
        if let Some(fields) = span.extensions().get::<FormattedFields<N>>() {
            out.write_str(fields)?;
        }
    }
    Ok(())
}

/// `src/foo/bar.rs` as `bar.rs`, which is what klog shows.
fn file_name(path: Option<&'static str>) -> &'static str {
    path.and_then(|p| p.rsplit('/').next()).unwrap_or("?")
}

fn now() -> (i64, u32) {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    (
        i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
        now.subsec_nanos(),
    )
}

/// How one form writes a field after the message.
trait Form: Default {
    fn string(out: &mut String, key: &str, value: &str);
    fn plain(out: &mut String, key: &str, value: impl std::fmt::Display);
}

impl Form for Text {
    fn string(out: &mut String, key: &str, value: &str) {
        let _ = write!(out, " {key}={value:?}");
    }

    fn plain(out: &mut String, key: &str, value: impl std::fmt::Display) {
        let _ = write!(out, " {key}={value}");
    }
}

impl Form for Json {
    fn string(out: &mut String, key: &str, value: &str) {
        let _ = write!(
            out,
            ",{}:{}",
            fields::json_string(key),
            fields::json_string(value)
        );
    }

    fn plain(out: &mut String, key: &str, value: impl std::fmt::Display) {
        let _ = write!(out, ",{}:{value}", fields::json_string(key));
    }
}

/// Upstream calls the error of an event `err`.
fn key(field: &Field) -> &str {
    if field.name() == "error" {
        "err"
    } else {
        field.name()
    }
}

#[cfg(test)]
pub(crate) mod tests;
