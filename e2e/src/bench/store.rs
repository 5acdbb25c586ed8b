//! What grows with a cluster: many objects, many informers and watchers, a start with all of it there, and
//! everybody coming back at once. Figures carry the sizes that they were measured at.

mod informers;
mod node_watches;
mod reconnect;
mod stalled;

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::Method;

use super::client::{Call, Connection, Error, PROTOBUF};
use super::load::{self, Target};
use super::report::Figures;
use super::{objects, process};
use crate::cluster::{self, Cluster, Daemon};

const CALLERS: usize = 16;
const MIB: f64 = (1 << 20) as f64;
/// After a start or a burst, before memory counts.
const SETTLE: Duration = Duration::from_secs(15);

/// How much of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// ConfigMaps of 1 KB.
    pub objects: usize,
    /// Informers that start at once, when so many of the objects are there.
    pub informers: usize,
    pub informed: usize,
    /// Watches of the pods of one node each, and seconds of 200 writes.
    pub nodes: usize,
    pub seconds: usize,
    /// Watches whose clients never read.
    pub stalled: usize,
    /// Clients that come back at once, each over a connection of its own.
    pub clients: usize,
}

impl Sizes {
    /// As the budgets are written.
    const FULL: Self = Self {
        objects: 300_000,
        informers: 1000,
        informed: 50_000,
        nodes: 5000,
        seconds: 20,
        stalled: 10_000,
        clients: 5000,
    };

    /// A share of everything, but never nothing.
    #[must_use]
    pub fn scaled(scale: f64) -> Self {
        let of = |full: usize| ((full as f64 * scale).round() as usize).max(1);
        let full = Self::FULL;
        Self {
            objects: of(full.objects).max(100),
            informers: of(full.informers),
            informed: of(full.informed).max(100),
            nodes: of(full.nodes),
            seconds: of(full.seconds).clamp(5, full.seconds),
            stalled: of(full.stalled),
            clients: of(full.clients),
        }
    }
}

/// What cannot be measured.
#[derive(thiserror::Error, Debug)]
pub enum Failure {
    #[error(transparent)]
    Load(#[from] Error),
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
}

struct Run<'a> {
    cluster: &'a Cluster,
    target: Target,
    sizes: Sizes,
    figures: &'a mut Figures,
    tell: &'a dyn Fn(&str),
}

/// Runs all scenarios against a fresh API server.
pub async fn run(
    cluster: &Cluster,
    sizes: Sizes,
    figures: &mut Figures,
    tell: &dyn Fn(&str),
) -> Result<(), Failure> {
    let mut run = Run {
        target: Target::of(cluster)?,
        cluster,
        sizes,
        figures,
        tell,
    };
    run.settle("idle").await;
    run.prepare().await?;
    let idle = process::memory(run.target.server).anonymous;
    run.fill(0, sizes.informed.min(sizes.objects)).await?;
    run.informers().await?;
    run.fill(sizes.informed, sizes.objects).await?;
    run.few_of_many().await?;
    run.start_full(idle).await?;
    run.node_watches().await?;
    run.reconnect().await?;
    // Last, since what holds what nobody reads may not outlive it.
    run.stalled().await?;
    run.settle("after everything").await;
    Ok(())
}

impl Run<'_> {
    async fn settle(&mut self, when: &str) {
        (self.tell)(&format!("settling, {when}"));
        tokio::time::sleep(SETTLE).await;
        self.memory(when);
    }

    fn memory(&mut self, when: &str) {
        let memory = process::memory(self.target.server);
        let name = |what| format!("memory, {when}: {what}");
        self.figures
            .add(name("resident"), "MiB", memory.resident as f64 / MIB);
        self.figures
            .add(name("anonymous"), "MiB", memory.anonymous as f64 / MIB);
    }

    /// The peak since it was last forgotten.
    fn peak(&mut self, name: &str) {
        let peak = process::peak(self.target.server) as f64 / MIB;
        self.figures
            .add(format!("{name}: peak resident"), "MiB", peak);
    }

    async fn connection(&self) -> Result<Connection, Error> {
        Connection::open(self.target.address, Arc::clone(&self.target.tls)).await
    }

    async fn prepare(&mut self) -> Result<(), Error> {
        let mut connection = self.connection().await?;
        let post =
            |path: String, object: String| Call::new(Method::POST, path, object.into_bytes());
        let namespace = objects::namespace().to_string();
        connection
            .send(&post("/api/v1/namespaces".into(), namespace))
            .await?;
        // No controller manager runs here.
        let account = serde_json::json!({"metadata": {"name": "default"}}).to_string();
        connection
            .send(&post(objects::collection("serviceaccounts"), account))
            .await?;
        Ok(())
    }

    /// Creates the objects from `first` to `end`.
    async fn fill(&mut self, first: usize, end: usize) -> Result<(), Error> {
        if first >= end {
            return Ok(());
        }
        let name = format!("create {} objects", end - first);
        (self.tell)(&name);
        let cost = load::run(&self.target, CALLERS, end - first, |n| {
            let object = objects::config_map(first + n, 0).to_string();
            Call::new(Method::POST, objects::collection("configmaps"), object)
        })
        .await?;
        self.figures
            .add(format!("{name}: server CPU"), "ms", cost.per_request());
        self.figures
            .add(format!("{name}: rate"), "1/s", cost.rate());
        self.figures.note_other(cost.other);
        Ok(())
    }

    /// A selector that matches one of a hundred.
    async fn few_of_many(&mut self) -> Result<(), Error> {
        let path = objects::collection("configmaps");
        for (form, accept) in [("JSON", super::client::JSON), ("protobuf", PROTOBUF)] {
            let name = format!("list 1 % of {} by label, {form}", self.sizes.objects);
            (self.tell)(&name);
            let call = Call::get(format!("{path}?labelSelector=hundredth%3D7")).accept(accept);
            let cost = load::run(&self.target, 1, 16, |_| call.clone()).await?;
            self.figures
                .add(format!("{name}: server CPU"), "ms", cost.per_request());
            self.figures
                .add(format!("{name}: p50"), "ms", cost.percentile(0.5));
            self.figures.note_other(cost.other);
        }
        Ok(())
    }

    /// Ends the server and starts it with everything there.
    async fn start_full(&mut self, idle: u64) -> Result<(), Failure> {
        let count = self.sizes.objects;
        let name = format!("start with {count} objects");
        (self.tell)(&name);
        let api_server = Daemon::KubeApiserver;
        self.cluster.stop(None, api_server)?;
        let start = Instant::now();
        self.cluster.start(None, api_server)?;
        self.figures.add(
            format!("{name}: to /readyz"),
            "ms",
            start.elapsed().as_secs_f64() * 1000.0,
        );
        self.target = Target::of(self.cluster)?;
        // Ready may be said earlier than everything is there.
        let one = Call::get(format!("{}?limit=1", objects::collection("configmaps")));
        self.connection().await?.send(&one).await?;
        self.figures.add(
            format!("{name}: to the first list"),
            "ms",
            start.elapsed().as_secs_f64() * 1000.0,
        );
        self.peak(&name);
        self.settle(&format!("with {count} objects")).await;
        let held = process::memory(self.target.server)
            .anonymous
            .saturating_sub(idle);
        // What is stored is what is served, but for its version.
        let stored = Call::get(format!("{}/item-00000", objects::collection("configmaps")));
        let stored = self
            .connection()
            .await?
            .send(&stored.accept(PROTOBUF))
            .await?;
        self.figures
            .add("an object of 1 KB: stored", "B", stored as f64);
        self.figures.add(
            "an object of 1 KB: memory of the server",
            "B",
            held as f64 / count as f64,
        );
        Ok(())
    }

    async fn informers(&mut self) -> Result<(), Error> {
        let Sizes {
            informers,
            informed,
            objects: all,
            ..
        } = self.sizes;
        let name = format!("{informers} informers of {} objects", informed.min(all));
        (self.tell)(&name);
        process::forget_peak(self.target.server);
        let cost = informers::start_at_once(&self.target, informers).await?;
        let delivered = informers * informed.min(all);
        let micros = cost.server.as_secs_f64() * 1e6 / delivered as f64;
        self.figures
            .add(format!("{name}: server CPU per object"), "us", micros);
        self.figures.add(
            format!("{name}: all synced"),
            "ms",
            cost.took.as_secs_f64() * 1000.0,
        );
        self.figures.note_other(cost.other);
        self.peak(&name);
        Ok(())
    }

    async fn node_watches(&mut self) -> Result<(), Error> {
        let Sizes { nodes, seconds, .. } = self.sizes;
        let name = format!("{nodes} watches of a node's pods, 200 writes/s");
        (self.tell)(&name);
        let watched = node_watches::run(&self.target, nodes, seconds).await?;
        self.record_watches(&name, &watched);
        Ok(())
    }

    fn record_watches(&mut self, name: &str, watched: &node_watches::Watched) {
        let cost = &watched.cost;
        let mut add = |what: &str, unit, value| {
            self.figures.add(format!("{name}: {what}"), unit, value);
        };
        add("server CPU per write", "ms", cost.per_request());
        add("rate", "1/s", cost.rate());
        add("delivery p50", "ms", cost.percentile(0.5));
        add("delivery p99", "ms", cost.percentile(0.99));
        add("lost events", "", watched.lost as f64);
        add("memory per watch", "KiB", watched.memory / 1024.0);
        self.figures.note_other(cost.other);
    }

    async fn stalled(&mut self) -> Result<(), Error> {
        let name = format!("{} watches that nobody reads", self.sizes.stalled);
        (self.tell)(&name);
        let stalled = stalled::run(&self.target, self.sizes.stalled, self.sizes.objects).await?;
        let mut add = |what: &str, unit, value| {
            self.figures.add(format!("{name}: {what}"), unit, value);
        };
        add("memory, each", "KiB", stalled.each / 1024.0);
        add(
            "memory, each, after writes",
            "KiB",
            stalled.each_after / 1024.0,
        );
        add(
            "update beside them: server CPU",
            "ms",
            stalled.cost.per_request(),
        );
        add("update beside them: rate", "1/s", stalled.cost.rate());
        self.figures.note_other(stalled.cost.other);
        Ok(())
    }

    async fn reconnect(&mut self) -> Result<(), Error> {
        let name = format!("{} clients come back at once", self.sizes.clients);
        (self.tell)(&name);
        process::forget_peak(self.target.server);
        let back = reconnect::run(&self.target, self.sizes.clients).await?;
        let mut add = |what: &str, unit, value| {
            self.figures.add(format!("{name}: {what}"), unit, value);
        };
        add(
            "all watch again",
            "ms",
            back.cost.took.as_secs_f64() * 1000.0,
        );
        add("server CPU, each", "ms", back.cost.per_request());
        add("tries that failed", "", back.failed as f64);
        add("/readyz, not ready", "", back.not_ready as f64);
        add(
            "/readyz, slowest",
            "ms",
            back.slowest.as_secs_f64() * 1000.0,
        );
        self.figures.note_other(back.cost.other);
        self.peak(&name);
        Ok(())
    }
}

/// As many open files as this process may have: each client is one.
pub fn allow_many_connections() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    // Refused, connections will fail, and say so.
    let _ = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_everything_is_never_nothing() {
        let tiny = Sizes::scaled(0.0001);
        assert_eq!((tiny.informers, tiny.nodes, tiny.objects), (1, 1, 100));
        assert_eq!(Sizes::scaled(1.0), Sizes::FULL);
        assert_eq!(Sizes::scaled(0.1).clients, 500);
    }
}
