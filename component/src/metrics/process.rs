//! `process_*`: what the kernel knows of the process, read when it is asked for.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(stat) = Stat::read() else {
            return Ok(());
        };
        let cpu = ConstCounter::new(stat.cpu_seconds);
        let to = encoder.encode_descriptor(
            "process_cpu_seconds",
            "User and system time spent",
            None,
            cpu.metric_type(),
        )?;
        cpu.encode(to)?;
        let mut gauge = |name: &str, help: &str, value: f64| {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        gauge(
            "process_resident_memory_bytes",
            "Memory in RAM",
            stat.resident,
        )?;
        gauge("process_virtual_memory_bytes", "Memory mapped", stat.mapped)?;
        gauge(START.0, START.1, stat.started)?;
        if let Some(open) = open_files() {
            gauge("process_open_fds", "Open file descriptors", open)?;
        }
        if let Some(most) = most_files() {
            gauge(
                "process_max_fds",
                "Most file descriptors that may be open",
                most,
            )?;
        }
        Ok(())
    }
}

/// Name and help.
const START: (&str, &str) = ("process_start_time_seconds", "Start, in seconds since 1970");

/// Since when the process runs.
#[derive(Debug)]
pub(super) struct Start;

impl Collector for Start {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(stat) = Stat::read() else {
            return Ok(());
        };
        let gauge = ConstGauge::new(stat.started);
        gauge.encode(encoder.encode_descriptor(START.0, START.1, None, gauge.metric_type())?)
    }
}

struct Stat {
    cpu_seconds: f64,
    resident: f64,
    mapped: f64,
    started: f64,
}

/// `USER_HZ`, 100 on every architecture that Linux gives to user space.
const TICKS_PER_SECOND: f64 = 100.0;

impl Stat {
    /// Reads `/proc/self/stat`; fields as proc(5) numbers them.
    fn read() -> Option<Self> {
        let text = fs::read_to_string("/proc/self/stat").ok()?;
        // The name in parentheses may hold anything; field 3 follows it.
        let fields: Vec<&str> = text.get(text.rfind(')')? + 2..)?.split(' ').collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        // rustix and nix would bring the page size too; it is in the auxiliary vector of the process.
        let page = page_size()?;
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / TICKS_PER_SECOND,
            mapped: field(23)?,
            resident: field(24)? * page,
            started: boot_time()? + field(22)? / TICKS_PER_SECOND,
        })
    }
}

/// AT_PAGESZ of the auxiliary vector.
fn page_size() -> Option<f64> {
    const AT_PAGESZ: u64 = 6;
    let vector = fs::read("/proc/self/auxv").ok()?;
    let mut words = vector
        .chunks_exact(8)
        .filter_map(|w| Some(u64::from_ne_bytes(w.try_into().ok()?)));
    while let (Some(key), Some(value)) = (words.next(), words.next()) {
        if key == AT_PAGESZ {
            return u32::try_from(value).ok().map(f64::from);
        }
    }
    None
}

fn boot_time() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    text.lines()
        .find_map(|l| l.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()
}

fn open_files() -> Option<f64> {
    let open = fs::read_dir("/proc/self/fd").ok()?.count();
    // One of them is the directory being read.
    u32::try_from(open.saturating_sub(1)).ok().map(f64::from)
}

fn most_files() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/limits").ok()?;
    let line = text.lines().find(|l| l.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}
