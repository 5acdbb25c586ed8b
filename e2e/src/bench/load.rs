//! Load: callers that each ask again as soon as they were answered, and what that costs the server.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::client::{Call, Connection, Error};
use super::process;
use super::turns::{PIECES, Place};

/// Where load goes.
#[derive(Clone)]
pub struct Target {
    pub address: SocketAddr,
    pub tls: Arc<rustls::ClientConfig>,
    /// The process whose CPU time counts.
    pub server: Pid,
    pub etcd: Pid,
    /// Where `perf` puts samples of the server's stacks; the last load's stay.
    pub samples: Option<PathBuf>,
    /// Where others are measured beside it.
    pub place: Option<Arc<Place>>,
}

impl Target {
    /// Lets others have their turn, if there are any.
    pub(super) async fn pass(&self) {
        if let Some(place) = &self.place {
            place.pass().await;
        }
    }

    /// As many as a load is cut into.
    pub(super) fn pieces(&self) -> usize {
        if self.place.is_some() { PIECES } else { 1 }
    }
}

/// What a scenario cost.
#[derive(Clone, Debug)]
pub struct Cost {
    pub requests: usize,
    pub took: Duration,
    /// Sorted.
    pub latencies: Vec<Duration>,
    /// CPU time of the server.
    pub server: Duration,
    /// Share of the machine that neither server, etcd nor this program used.
    pub other: f64,
}

impl Cost {
    pub fn rate(&self) -> f64 {
        self.requests as f64 / self.took.as_secs_f64()
    }

    /// CPU milliseconds of the server per request.
    pub fn per_request(&self) -> f64 {
        self.server.as_secs_f64() * 1000.0 / self.requests.max(1) as f64
    }

    /// The latency that `share` of the requests stayed within, in milliseconds.
    pub fn percentile(&self, share: f64) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        let at = (last as f64 * share).round() as usize;
        self.latencies
            .get(at)
            .map_or(f64::NAN, |d| d.as_secs_f64() * 1000.0)
    }
}

/// Watches what the processes use while something is done.
pub struct Meter {
    target: Target,
    /// Since when it runs, and what had been used then.
    running: Option<(Instant, [Duration; 4])>,
    took: Duration,
    used: [Duration; 4],
    sampler: Option<Sampler>,
}

/// `perf`, while it takes samples.
struct Sampler(Child);

impl Sampler {
    /// Returns once samples are taken; none where there is no `perf`.
    fn start(server: Pid, to: &Path) -> Option<Self> {
        // Stacks by frame pointers would end in the first library; 8 KiB of each are enough to unwind.
        let child = Command::new("perf")
            .args([
                "record",
                "--event=cpu-clock",
                "--freq=5000",
                "--call-graph=dwarf,8192",
            ])
            .arg(format!("--pid={server}"))
            .arg("--output")
            .arg(to)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child = child.ok()?;
        // It says nothing when it begins.
        std::thread::sleep(Duration::from_millis(500));
        Some(Self(child))
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.0.id().cast_signed());
        // It writes its file then.
        let _ = kill(pid, Signal::SIGINT);
        let _ = self.0.wait();
    }
}

impl Meter {
    pub fn start(target: &Target) -> Self {
        let mut meter = Self::of(target);
        meter.resume();
        meter
    }

    /// One that does not run yet.
    pub(super) fn of(target: &Target) -> Self {
        let samples = target.samples.as_deref();
        Self {
            sampler: samples.and_then(|to| Sampler::start(target.server, to)),
            target: target.clone(),
            running: None,
            took: Duration::ZERO,
            used: [Duration::ZERO; 4],
        }
    }

    pub(super) fn resume(&mut self) {
        self.running = Some((Instant::now(), Self::used(&self.target)));
    }

    pub(super) fn pause(&mut self) {
        if let Some((since, before)) = self.running.take() {
            self.took += since.elapsed();
            for (used, (now, before)) in self
                .used
                .iter_mut()
                .zip(Self::used(&self.target).into_iter().zip(before))
            {
                *used += now.saturating_sub(before);
            }
        }
    }

    /// By the server, the machine, etcd and this program.
    fn used(target: &Target) -> [Duration; 4] {
        let own = process::cpu(nix::unistd::getpid());
        let (server, etcd) = (process::cpu(target.server), process::cpu(target.etcd));
        [server, process::machine(), etcd, own]
    }

    pub fn stop(mut self, requests: usize, mut latencies: Vec<Duration>) -> Cost {
        latencies.sort_unstable();
        self.pause();
        drop(self.sampler);
        let [server, machine, etcd, own] = self.used;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let other = machine.saturating_sub(etcd + own + server);
        Cost {
            requests,
            took: self.took,
            latencies,
            server,
            other: other.as_secs_f64() / self.took.as_secs_f64() / cores as f64,
        }
    }
}

/// `total` requests by `callers`, each with a connection of its own. `call` makes the n-th.
pub(super) async fn run(
    target: &Target,
    callers: usize,
    total: usize,
    call: impl Fn(usize) -> Call,
) -> Result<Cost, Error> {
    let opens = (0..callers).map(|_| Connection::open(target.address, Arc::clone(&target.tls)));
    target.pass().await;
    let mut connections = try_join_all(opens).await?;
    let next = AtomicUsize::new(0);
    let mut meter = Meter::of(target);
    let mut latencies = Vec::with_capacity(total);
    let pieces = target.pieces();
    for piece in 1..=pieces {
        if piece > 1 {
            target.pass().await;
        }
        let end = total * piece / pieces;
        meter.resume();
        let work = connections
            .iter_mut()
            .map(|connection| caller(connection, &next, end, &call));
        let seen = try_join_all(work).await?;
        meter.pause();
        next.store(end, Ordering::Relaxed);
        latencies.extend(seen.into_iter().flatten());
    }
    Ok(meter.stop(total, latencies))
}

/// Asks for one after the other, up to `end`; how long each took.
async fn caller(
    connection: &mut Connection,
    next: &AtomicUsize,
    end: usize,
    call: &impl Fn(usize) -> Call,
) -> Result<Vec<Duration>, Error> {
    let mut seen = Vec::new();
    loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        if n >= end {
            return Ok(seen);
        }
        let call = call(n);
        let start = Instant::now();
        connection.send(&call).await?;
        seen.push(start.elapsed());
    }
}
