//! Settings of connection tracking, and the process's oom score. Source: `pkg/proxy/conntrack/sysctls.go`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use component::config::Duration;

use crate::config::Conntrack;

/// Connections are many on machines with many cores, but memory has other uses.
const MAX_SCALED: u64 = 1 << 20;
const HASH_SIZE: &str = "/sys/module/nf_conntrack/parameters/hashsize";

/// Why a setting could not be made.
#[derive(thiserror::Error, Debug)]
#[error("cannot set {path} to {value}")]
pub(crate) struct Error {
    path: PathBuf,
    value: u64,
    #[source]
    cause: io::Error,
}

/// The kernel's settings for a configuration, by name; those to be left alone are left out.
fn wanted(config: &Conntrack, cpus: u64) -> Vec<(&'static str, u64)> {
    let seconds = |duration: Duration| Some(duration.0.as_secs()).filter(|s| *s > 0);
    let settings = [
        ("nf_conntrack_max", max(config, cpus)),
        (
            "nf_conntrack_tcp_timeout_established",
            config.tcp_established_timeout.and_then(seconds),
        ),
        (
            "nf_conntrack_tcp_timeout_close_wait",
            config.tcp_close_wait_timeout.and_then(seconds),
        ),
        (
            "nf_conntrack_tcp_be_liberal",
            config.tcp_be_liberal.then_some(1),
        ),
        ("nf_conntrack_udp_timeout", seconds(config.udp_timeout)),
        (
            "nf_conntrack_udp_timeout_stream",
            seconds(config.udp_stream_timeout),
        ),
    ];
    settings
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

fn max(config: &Conntrack, cpus: u64) -> Option<u64> {
    let per_core = config
        .max_per_core
        .and_then(|n| u64::try_from(n).ok())
        .filter(|n| *n > 0)?;
    let floor = config.min.and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
    let scaled = per_core.saturating_mul(cpus);
    let most = if scaled > MAX_SCALED {
        MAX_SCALED
    } else {
        scaled.max(floor)
    };
    Some(most).filter(|n| *n > 0)
}

/// Makes the settings of connection tracking.
pub(crate) fn apply(config: &Conntrack) -> Result<(), Error> {
    for (name, value) in wanted(config, online_cpus()) {
        set(&Path::new("/proc/sys/net/netfilter").join(name), value)?;
        if name == "nf_conntrack_max" {
            let path = Path::new(HASH_SIZE);
            if read(path).unwrap_or(0) < value / 4 {
                set(path, value / 4)?;
            }
        }
    }
    Ok(())
}

fn set(path: &Path, value: u64) -> Result<(), Error> {
    if read(path) == Some(value) {
        return Ok(());
    }
    tracing::info!(path = %path.display(), value, "Setting a kernel parameter");
    fs::write(path, value.to_string()).map_err(|cause| Error {
        path: path.to_owned(),
        value,
        cause,
    })
}

fn read(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The machine's, not those that the process may use: the limit is the machine's.
fn online_cpus() -> u64 {
    let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let counted = count_ranges(online.trim());
    let allowed = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    counted.unwrap_or_else(allowed)
}

/// `0-3,8` are five.
fn count_ranges(text: &str) -> Option<u64> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        last.checked_sub(first)?.checked_add(1)
    };
    text.split(',')
        .map(range)
        .try_fold(0, |sum: u64, n| sum.checked_add(n?))
}

/// Says how ready the kernel shall be to kill the process; a lower score than it has may be refused.
pub(crate) fn oom_score_adj(score: i32) {
    if let Err(error) = fs::write("/proc/self/oom_score_adj", score.to_string()) {
        tracing::warn!(%error, score, "Cannot set the oom score");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_grows_with_cores_between_its_bounds() {
        let config = Conntrack::default();
        assert_eq!(max(&config, 2), Some(128 * 1024));
        assert_eq!(max(&config, 16), Some(512 * 1024));
        assert_eq!(max(&config, 1000), Some(MAX_SCALED));
        let off = Conntrack {
            max_per_core: Some(0),
            ..config
        };
        assert_eq!(max(&off, 16), None);
    }

    #[test]
    fn zero_leaves_a_setting_alone() {
        let config = Conntrack {
            max_per_core: Some(0),
            tcp_close_wait_timeout: Some(Duration::default()),
            udp_timeout: Duration::from_secs(7),
            ..Conntrack::default()
        };
        let expected = [
            ("nf_conntrack_tcp_timeout_established", 86_400),
            ("nf_conntrack_udp_timeout", 7),
        ];
        assert_eq!(wanted(&config, 4), expected);
    }

    #[test]
    fn ranges_of_cpus_are_counted() {
        assert_eq!(count_ranges("0-3,8"), Some(5));
        assert_eq!(count_ranges("0"), Some(1));
        assert_eq!(count_ranges(""), None);
        assert_eq!(count_ranges("3-0"), None);
    }
}
