//! What a cluster needs before anybody asks for it: system namespaces, the API server's own service,
//! the default service range, priority classes and levels, roles, this server's identity.
//!
//! Each is a hook that starts when the server listens and retries until it succeeds. Hooks write
//! through the registry like any client, as the API server itself, and are idempotent: every server of
//! a cluster runs them, ours and upstream's side by side. `/readyz` names each as
//! `poststarthook/<name>`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use component::{Supervisor, Task};
use proto::apply::Configuration;
use proto::catalogue::names as n;
use proto::{Value, meta};
use resources::clock::Clock;
use resources::options::{DeleteOptions, WriteOptions};
use resources::status::Failure;
use tokio_util::sync::CancellationToken;

use crate::auth;
use crate::handler;
use crate::registry::Endpoint;
use crate::registry::generic::{Update, Write};
use crate::server::Server;

pub(crate) mod alive;
pub(crate) mod identity;
mod legacy_tokens;
mod namespaces;
mod priority_classes;
mod service;
mod service_ranges;
mod trust;

type Run = fn(Arc<Server>) -> Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

/// One thing to bring about.
pub struct Hook {
    /// Upstream's name, behind `poststarthook/`.
    pub name: &'static str,
    /// Brings it about; called again until it succeeds.
    pub once: Run,
    /// Keeps it so, if that needs more than being there: called in this interval afterwards.
    pub keep: Option<(Duration, Run)>,
    /// Takes back what others would believe of a server that is gone: called when it stops.
    pub end: Option<Run>,
}

/// In the order in which they first run; a later one may need what an earlier one makes.
pub const HOOKS: &[Hook] = &[
    namespaces::HOOK,
    crate::authz::bootstrap::HOOK,
    crate::flowcontrol::HOOK,
    priority_classes::HOOK,
    service_ranges::HOOK,
    service::HOOK,
    trust::HOOK,
    legacy_tokens::HOOK,
];

/// How long to wait after a failure, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How long the end of a hook may take.
const END: Duration = Duration::from_secs(5);

/// Starts all hooks; readiness waits for them.
pub fn start(server: &Arc<Server>, tasks: &Supervisor, health: &component::serving::Health) {
    let config = &server.config;
    let gated = identity::hooks(config)
        .iter()
        .chain(crate::peer::hooks(config))
        .chain(crate::storage::hooks(config));
    let hooks: Vec<&'static Hook> = HOOKS.iter().chain(gated.copied()).collect();
    let pending: Vec<_> = hooks
        .iter()
        .map(|hook| health.pending(&format!("poststarthook/{}", hook.name)))
        .collect();
    let (own, spawner) = (server.clone(), tasks.clone());
    tasks.spawn(Task::Worker, "bootstrap", async move {
        for (hook, pending) in hooks.into_iter().zip(pending) {
            until_done(&own, hook).await;
            drop(pending);
            let server = own.clone();
            spawner.spawn_graceful(Task::Worker, hook.name, |stop| keep(server, hook, stop));
        }
    });
    let own = server.clone();
    tasks.spawn(
        Task::Worker,
        "service-repair",
        crate::alloc::repair::run(own),
    );
}

async fn until_done(server: &Arc<Server>, hook: &Hook) {
    let mut wait = RETRY.0;
    loop {
        match (hook.once)(server.clone()).await {
            Ok(()) => return,
            Err(failure) => {
                tracing::warn!(hook = hook.name, error = %failure, "a bootstrap hook failed, it will be tried again");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(RETRY.1);
            }
        }
    }
}

/// Repeats a hook until the server stops, and ends it then. What runs is finished first: a renewal must
/// not come after the end.
async fn keep(server: Arc<Server>, hook: &'static Hook, stop: CancellationToken) {
    if let Some((interval, run)) = hook.keep {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            if let Err(failure) = run(server.clone()).await {
                tracing::warn!(hook = hook.name, error = %failure, "a bootstrap hook failed, it will run again");
            }
        }
    }
    let Some(end) = hook.end else { return };
    stop.cancelled().await;
    match tokio::time::timeout(END, end(server)).await {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => {
            tracing::warn!(hook = hook.name, error = %failure, "others may take this server for alive for a while");
        }
        Err(_) => {
            tracing::warn!(
                hook = hook.name,
                "etcd does not answer; others may take this server for alive for a while"
            );
        }
    }
}

/// Writes of the server on its own account.
pub struct Own<'a> {
    server: &'a Arc<Server>,
    endpoint: &'a Endpoint,
    user: auth::User,
    namespace: &'a str,
    manager: &'a str,
}

impl<'a> Own<'a> {
    /// Of a resource in its first served version. Fails if the resource is not served.
    pub fn new(
        server: &'a Arc<Server>,
        group: &str,
        resource: &str,
        namespace: &'a str,
    ) -> Result<Self, Failure> {
        let endpoint = server
            .registry
            .any_version(group, resource)
            .ok_or_else(Failure::no_such_resource)?;
        Ok(Self {
            server,
            endpoint,
            user: auth::loopback(),
            namespace,
            manager: "kube-apiserver",
        })
    }

    /// The same under another name in managed fields.
    #[must_use]
    pub fn managed_by(mut self, manager: &'a str) -> Self {
        self.manager = manager;
        self
    }

    fn write(&self) -> Write<'_> {
        Write::new(
            self.server,
            self.endpoint,
            &self.user,
            self.namespace,
            self.manager,
        )
    }

    /// The object, read from etcd.
    pub async fn get(&self, name: &str) -> Result<Option<Value>, Failure> {
        let key = self.write().key(name);
        let found = self
            .endpoint
            .collection
            .get(&key, store::At::Latest)
            .await
            .map_err(crate::server::read_failure)?;
        found
            .map(|entry| resources::object::from_body(&entry.body, &self.endpoint.hub))
            .transpose()
    }

    /// Creates an object unless one of its name is there; says whether it did.
    pub async fn create_if_absent(&self, object: Value) -> Result<bool, Failure> {
        let key = self.write().key(meta::name(&object));
        if self.endpoint.collection.peek(&key).is_some() {
            return Ok(false);
        }
        let object = handler::create::default(self.endpoint, object)?;
        match self.write().create(object, &WriteOptions::default()).await {
            Ok(_) => Ok(true),
            Err(failure) if failure.reason() == "AlreadyExists" => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// Makes an object as `change` wants it: created if it is absent, updated if it differs.
    pub async fn ensure(
        &self,
        name: &str,
        change: impl Fn(&mut Value) + Sync,
    ) -> Result<(), Failure> {
        let mut fresh = Value::object();
        fresh.set(&[n::METADATA, n::NAME], name);
        change(&mut fresh);
        if self.create_if_absent(fresh).await? {
            return Ok(());
        }
        self.update(name, change).await
    }

    /// Changes an object that is there.
    pub async fn update(
        &self,
        name: &str,
        change: impl Fn(&mut Value) + Sync,
    ) -> Result<(), Failure> {
        let apply = |old: Option<&Value>| {
            let mut new = old
                .cloned()
                .ok_or_else(|| Failure::not_found("", self.endpoint.resource.name, name))?;
            change(&mut new);
            handler::create::default(self.endpoint, new)
        };
        self.write()
            .update(name, &WriteOptions::default(), Update::default(), apply)
            .await
            .map(drop)
    }

    /// Changes the status of an object that is there.
    pub async fn set_status(
        &self,
        name: &str,
        change: impl Fn(&mut Value) + Sync,
    ) -> Result<(), Failure> {
        let apply = |old: Option<&Value>| {
            let mut new = old
                .cloned()
                .ok_or_else(|| Failure::not_found("", self.endpoint.resource.name, name))?;
            change(&mut new);
            Ok(new)
        };
        let mut write = self.write();
        write.subresource = "status";
        let part = self.endpoint.strategy.status;
        write
            .update(
                name,
                &WriteOptions::default(),
                Update {
                    part,
                    ..Update::default()
                },
                apply,
            )
            .await
            .map(drop)
    }

    /// Applies a configuration to the status of an object that is there, whoever owns its fields.
    pub async fn apply_status(&self, name: &str, configuration: &Value) -> Result<(), Failure> {
        let mut write = self.write();
        write.subresource = "status";
        let target = write.target();
        let apply = |old: Option<&Value>| {
            let resource = self.endpoint.resource;
            let missing = || Failure::not_found(resource.group, resource.name, name);
            let configuration = Configuration {
                object: configuration,
                manager: self.manager,
                force: true,
                now: &Clock::now().text,
            };
            target.apply(Some(old.ok_or_else(missing)?), &configuration)
        };
        let how = Update {
            part: self.endpoint.strategy.status,
            recorded: true,
            ..Update::default()
        };
        let options = WriteOptions::default();
        write.update(name, &options, how, apply).await.map(drop)
    }

    pub async fn delete(&self, name: &str) -> Result<(), Failure> {
        match self.write().delete(name, &DeleteOptions::default()).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.reason() == "NotFound" => Ok(()),
            Err(failure) => Err(failure),
        }
    }
}
