//! One API server under load: the scenarios and their figures.

use std::time::Duration;

use hyper::Method;
use serde_json::Value;

use super::client::{Call, Connection, Error, PROTOBUF};
use super::load::{self, Cost, Target};
use super::report::Figures;
use super::{objects, process, watch};

const CALLERS: usize = 16;
/// The scenario that the objects of most others come from.
const MAKES_OBJECTS: &str = "create ConfigMap x16";
/// After a start, before its memory counts.
const SETTLE: Duration = Duration::from_secs(15);

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub objects: usize,
    pub requests: usize,
    pub lists: usize,
    pub watchers: usize,
    pub writes: usize,
}

impl Size {
    /// As the budgets are written.
    pub const FULL: Self = Self {
        objects: 5000,
        requests: 5000,
        lists: 32,
        watchers: 500,
        writes: 100,
    };
    /// Whether the benchmark itself works.
    pub const SMALL: Self = Self {
        objects: 200,
        requests: 200,
        lists: 4,
        watchers: 20,
        writes: 5,
    };
}

struct Run<'a> {
    target: &'a Target,
    figures: &'a mut Figures,
    only: Option<&'a str>,
    tell: &'a dyn Fn(&str),
}

/// Runs all scenarios against a fresh API server, or those whose name holds `only` and what makes the objects that they need.
pub async fn run(
    target: &Target,
    size: Size,
    only: Option<&str>,
    figures: &mut Figures,
    tell: &dyn Fn(&str),
) -> Result<(), Error> {
    let mut run = Run {
        target,
        figures,
        only,
        tell,
    };
    tell("settling");
    tokio::time::sleep(SETTLE).await;
    run.memory("idle");
    target.pass().await;
    run.prepare().await?;
    run.writes(size).await?;
    run.reads(size).await?;
    run.watches(size).await?;
    run.workloads(size).await?;
    run.memory("after the scenarios");
    Ok(())
}

fn body(object: &Value) -> Vec<u8> {
    object.to_string().into_bytes()
}

fn item(resource: &str, name: &str) -> String {
    format!("{}/{name}", objects::collection(resource))
}

impl Run<'_> {
    fn memory(&mut self, when: &str) {
        const MIB: f64 = (1 << 20) as f64;
        let memory = process::memory(self.target.server);
        let name = |what| format!("memory, {when}: {what}");
        self.figures
            .add(name("resident"), "MiB", memory.resident as f64 / MIB);
        self.figures
            .add(name("anonymous"), "MiB", memory.anonymous as f64 / MIB);
    }

    /// Creates the namespace, and waits until it takes pods: until it has its service account.
    async fn prepare(&mut self) -> Result<(), Error> {
        let mut connection = Connection::open(self.target.address, self.target.tls.clone()).await?;
        let post = |path: String, object: &Value| Call::new(Method::POST, path, body(object));
        connection
            .send(&post("/api/v1/namespaces".into(), &objects::namespace()))
            .await?;
        // No controller manager runs here.
        let account = serde_json::json!({"metadata": {"name": "default"}});
        connection
            .send(&post(objects::collection("serviceaccounts"), &account))
            .await?;
        Ok(())
    }

    fn record(&mut self, name: &str, cost: &Cost) {
        self.figures
            .add(format!("{name}: server CPU"), "ms", cost.per_request());
        self.figures
            .add(format!("{name}: rate"), "1/s", cost.rate());
        self.figures
            .add(format!("{name}: p50"), "ms", cost.percentile(0.5));
        self.figures
            .add(format!("{name}: p99"), "ms", cost.percentile(0.99));
        self.figures.note_other(cost.other);
    }

    fn wants(&self, name: &str) -> bool {
        self.only.is_none_or(|only| match only.strip_suffix('$') {
            Some(end) => name.ends_with(end),
            None => name.contains(only),
        })
    }

    async fn scenario(
        &mut self,
        name: &str,
        callers: usize,
        total: usize,
        call: impl Fn(usize) -> Call,
    ) -> Result<(), Error> {
        if !self.wants(name) && name != MAKES_OBJECTS {
            return Ok(());
        }
        (self.tell)(name);
        let cost = load::run(self.target, callers, total, call).await?;
        self.record(name, &cost);
        Ok(())
    }

    async fn writes(&mut self, size: Size) -> Result<(), Error> {
        let Size {
            objects: all,
            requests,
            ..
        } = size;
        self.scenario(MAKES_OBJECTS, CALLERS, all, |n| {
            Call::new(
                Method::POST,
                objects::collection("configmaps"),
                body(&objects::config_map(n, 0)),
            )
        })
        .await?;
        self.memory("with the ConfigMaps");
        self.scenario("update ConfigMap x16", CALLERS, requests, |n| {
            let n = n % all;
            let path = item("configmaps", &format!("item-{n:05}"));
            Call::new(Method::PUT, path, body(&objects::config_map(n, 1)))
        })
        .await?;
        self.scenario("patch ConfigMap x16", CALLERS, requests, |n| {
            let path = item("configmaps", &format!("item-{:05}", n % all));
            Call::new(
                Method::PATCH,
                path,
                format!("{{\"data\":{{\"patched\":\"{n}\"}}}}"),
            )
            .content("application/merge-patch+json")
        })
        .await?;
        self.scenario("apply ConfigMap x16", CALLERS, requests, |n| {
            let path = item("configmaps", &format!("item-{:05}", n % all));
            let mut object = objects::config_map(n % all, 2);
            object["data"]["applied"] = n.to_string().into();
            Call::new(
                Method::PATCH,
                format!("{path}?fieldManager=bench&force=true"),
                body(&object),
            )
            .content("application/apply-patch+yaml")
        })
        .await
    }

    async fn reads(&mut self, size: Size) -> Result<(), Error> {
        let Size {
            objects: all,
            requests,
            lists,
            ..
        } = size;
        let get = |n: usize| Call::get(item("configmaps", &format!("item-{:05}", n % all)));
        self.scenario("get ConfigMap x16", CALLERS, requests, get)
            .await?;
        self.scenario("get ConfigMap x1", 1, requests / 5, get)
            .await?;
        let list = |_| Call::get(objects::collection("configmaps"));
        self.scenario("list x1 JSON", 1, lists, list).await?;
        self.scenario("list x1 protobuf", 1, lists, |n| list(n).accept(PROTOBUF))
            .await?;
        self.scenario("list x16 JSON", CALLERS, lists * 2, list)
            .await?;
        self.scenario("list x1 JSON, gzip", 1, lists, |n| list(n).gzip())
            .await?;
        self.scenario("list x1 protobuf, gzip", 1, lists, |n| {
            list(n).accept(PROTOBUF).gzip()
        })
        .await?;
        self.scenario("list 1 % by label x1", 1, lists, |_| {
            let path = objects::collection("configmaps");
            Call::get(format!("{path}?labelSelector=hundredth%3D7"))
        })
        .await
    }

    async fn watches(&mut self, size: Size) -> Result<(), Error> {
        let name = format!("watch x{}", size.watchers);
        if !self.wants(&name) {
            return Ok(());
        }
        (self.tell)(&name);
        let pause = Duration::from_millis(100);
        let watched = watch::run(self.target, size.watchers, size.writes, pause).await?;
        self.record(&name, &watched.cost);
        self.figures
            .add(format!("{name}: lost events"), "", watched.lost as f64);
        self.figures.add(
            format!("{name}: memory per watcher"),
            "KiB",
            watched.memory / 1024.0,
        );
        Ok(())
    }

    async fn workloads(&mut self, size: Size) -> Result<(), Error> {
        let pods = size.requests / 5;
        self.scenario("create Pod x16", CALLERS, pods, |n| {
            Call::new(
                Method::POST,
                objects::collection("pods"),
                body(&objects::pod(n)),
            )
        })
        .await?;
        let deployments = 50;
        let apply = |n: usize, revision: usize| {
            let path = item("deployments", &format!("app-{n:03}"));
            Call::new(
                Method::PATCH,
                format!("{path}?fieldManager=bench&force=true"),
                body(&objects::deployment(n, revision)),
            )
            .content("application/apply-patch+yaml")
        };
        let name = "apply Deployment x16";
        if self.wants(name) {
            load::run(self.target, CALLERS, deployments, |n| apply(n, 0)).await?;
        }
        self.scenario(name, CALLERS, size.requests / 5, |n| {
            apply(n % deployments, n / deployments + 1)
        })
        .await?;
        self.scenario("delete ConfigMap x16", CALLERS, size.objects, |n| {
            Call::new(
                Method::DELETE,
                item("configmaps", &format!("item-{n:05}")),
                "",
            )
        })
        .await
    }
}
