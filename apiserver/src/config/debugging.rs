//! What can be seen of the running server, and how.

use std::path::PathBuf;

use anyhow::Context;
use component::args::{Args, Flag, Group};
use component::config::{Problems, TracingConfiguration};

flags! {
    PROFILING: bool = "profiling", "true", "What can be seen of the running process, at /debug/pprof.";
    CONTENTION_PROFILING: bool = "contention-profiling", "false", "Profile locks.", ignored("locks are profiled from outside");
    DEBUG_SOCKET_PATH: Option<PathBuf> = "debug-socket-path", "", "A Unix socket for the same, without authorization: only its owner may open it.";
    TRACING_CONFIG: Option<PathBuf> = "tracing-config-file", "", "The file that says where traces of requests go, and how many of them.";
}

#[must_use]
pub fn group() -> Group {
    Group::new(
        "Debugging",
        &[
            &PROFILING,
            &CONTENTION_PROFILING,
            &DEBUG_SOCKET_PATH,
            &TRACING_CONFIG,
        ],
    )
}

/// Where the pages below `/debug` are served, and where traces go.
#[derive(Clone, Debug)]
pub struct Debugging {
    /// Beside the API.
    pub profiling: bool,
    pub socket: Option<PathBuf>,
    /// None if nothing is traced.
    pub tracing: Option<TracingConfiguration>,
}

impl Debugging {
    /// # Errors
    /// If the file about traces cannot be used.
    pub fn from_args(args: &Args) -> anyhow::Result<Self> {
        Ok(Self {
            profiling: args.get(&PROFILING),
            socket: args.get(&DEBUG_SOCKET_PATH),
            tracing: tracing(args)?,
        })
    }
}

/// Upstream: `apiserver/pkg/server/options/tracing.go`.
fn tracing(args: &Args) -> anyhow::Result<Option<TracingConfiguration>> {
    let Some(path) = args.get(&TRACING_CONFIG) else {
        return Ok(None);
    };
    let config: TracingConfiguration =
        component::config::load(&path).context("failed to read tracing config")?;
    let mut problems = Problems::new();
    config.validate("", &mut problems);
    let config = problems.or(config);
    Ok(Some(
        config.context("failed to validate tracing configuration")?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<TracingConfiguration>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let flag = format!("--tracing-config-file={}", file.path().display());
        let args = Args::parse("kube-apiserver", "", &[group()], [flag]).unwrap();
        let read = Debugging::from_args(&args).map(|debugging| debugging.tracing);
        read.map_err(|e| format!("{e:#}"))
    }

    #[test]
    fn a_file_says_where_traces_go() {
        let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: TracingConfiguration\n";
        let given = read(&format!(
            "{head}endpoint: collector:4317\nsamplingRatePerMillion: 100\n"
        ));
        let config = TracingConfiguration {
            endpoint: Some("collector:4317".to_owned()),
            sampling_rate_per_million: Some(100),
        };
        assert_eq!(given, Ok(Some(config)));
        assert_eq!(read(head), Ok(Some(TracingConfiguration::default())));
        let refused = read(&format!("{head}samplingRatePerMillion: -1\n")).unwrap_err();
        assert_eq!(
            refused,
            "failed to validate tracing configuration: samplingRatePerMillion: Invalid value: -1: sampling rate must be positive"
        );
        let unknown = read(&format!("{head}samplingRate: 1\n")).unwrap_err();
        assert!(
            unknown.starts_with("failed to read tracing config: "),
            "{unknown}"
        );
        let args = Args::parse(
            "kube-apiserver",
            "",
            &[group()],
            ["--tracing-config-file=/none"],
        );
        assert!(Debugging::from_args(&args.unwrap()).is_err());
    }
}
