//! The Endpoints objects of services that select pods (`endpoints-controller`).
//!
//! Owns the object with the service's name. Invariant: it does not plan on a state that it knows to have
//! replaced itself.
//!
//! Source: `pkg/controller/endpoint`.

use std::sync::Arc;

use component::controller::Next;
use component::events::{Recorder, reference};
use component::informer::{Event, Key, Lister};
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions;

use crate::context::Context;
use crate::error::Error;
use crate::members::{self, Members, TriggerTimes};
use crate::update::differ;
use crate::writes::Writes;

pub mod plan;
pub mod repack;

/// Locks of old versions, which have no service.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";

struct Controller {
    cx: Context,
    members: Members,
    services: Lister<Service>,
    endpoints: Lister<Endpoints>,
    times: TriggerTimes,
    writes: Writes,
    recorder: Recorder,
}

/// Starts the controller.
///
/// # Errors
/// None.
pub fn start(cx: &Context) -> anyhow::Result<()> {
    let config = cx.config().endpoint.clone();
    let queue = cx.queue::<Key>("endpoint");
    let (pods, services) = (cx.informer::<Pod>(), cx.informer::<Service>());
    let endpoints = cx.informer::<Endpoints>();
    let this = Arc::new(Controller {
        cx: cx.clone(),
        members: Members::new(&pods, &services),
        services: services.lister(),
        endpoints: endpoints.lister(),
        times: TriggerTimes::default(),
        writes: Writes::default(),
        recorder: cx.recorder_as("endpoint-controller"),
    });
    let wake = queue.clone();
    services.subscribe(move |key, _| wake.add(key.clone()));
    let (wake, members) = (queue.clone(), this.members.clone());
    let delay = config.endpoint_updates_batch_period.0;
    pods.subscribe(move |_, event| {
        for key in members.concerned(event) {
            wake.add_after(key, delay);
        }
    });
    let wake = queue.clone();
    endpoints.subscribe(move |key, event| {
        if matches!(event, Event::Deleted(_)) {
            wake.add(key.clone());
        }
    });
    // Services may have gone while nobody looked.
    let wake = queue.clone();
    cx.spawn("leftovers", async move {
        endpoints.synced().await;
        for left in endpoints.lister().list() {
            wake.add(Key::of(&left.metadata));
        }
    });
    cx.run(config.concurrent_endpoint_syncs, &queue, move |key| {
        let this = Arc::clone(&this);
        async move { this.reconcile(&key).await }
    });
    Ok(())
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let Some(service) = self.services.by_key(key) else {
            return self.remove(key).await;
        };
        let kind = service.spec.as_ref().and_then(|s| s.type_.as_deref());
        if kind == Some("ExternalName") || members::selector(&service).is_none() {
            return Ok(Next::Done);
        }
        let pods = self.members.pods(&service);
        let triggered = self.times.next(&service, &pods);
        if !self.writes.are_seen(key, &self.endpoints) {
            return Ok(Next::Again);
        }
        let current = self.endpoints.by_key(key);
        let Some(wanted) = plan::plan(&service, &pods, current.as_deref(), triggered) else {
            return Ok(Next::Done);
        };
        match self.write(key, current.as_deref(), &wanted).await {
            Err(e) if e.client().is_some_and(|e| e.is_namespace_terminating()) => Ok(Next::Done),
            Err(e) => {
                let (reason, did) = match current {
                    None => ("FailedToCreateEndpoint", "create endpoint for service"),
                    Some(_) => ("FailedToUpdateEndpoint", "update endpoint"),
                };
                let message = format!("Failed to {did} {key}: {}", e.chain());
                self.recorder.warning(&reference(&wanted), reason, &message);
                Err(e)
            }
            Ok(()) => Ok(Next::Done),
        }
    }

    async fn write(
        &self,
        key: &Key,
        current: Option<&Endpoints>,
        wanted: &Endpoints,
    ) -> Result<(), Error> {
        let api = self
            .cx
            .client()
            .await?
            .namespaced::<Endpoints>(key.namespace());
        let Some(current) = current else {
            let made = api.create(wanted).await?;
            self.writes.wrote(key, &made.metadata);
            return Ok(());
        };
        if differ(current, wanted)? {
            let updated = api.replace(wanted).await?;
            self.writes.wrote(key, &updated.metadata);
        }
        Ok(())
    }

    /// The service is gone, its endpoints go too.
    async fn remove(&self, key: &Key) -> Result<Next, Error> {
        self.times.forget(key);
        self.writes.forget(key);
        let endpoints = self.endpoints.by_key(key);
        let annotations = endpoints
            .as_ref()
            .and_then(|e| e.metadata.annotations.as_ref());
        if annotations.is_some_and(|a| a.contains_key(LEADER)) {
            return Ok(Next::Done);
        }
        // Asked for even if the cache has none: it may not have seen our own create.
        let api = self
            .cx
            .client()
            .await?
            .namespaced::<Endpoints>(key.namespace());
        match api.delete(key.name(), &DeleteOptions::default()).await {
            Err(e) if !e.is_not_found() => Err(e.into()),
            _ => Ok(Next::Done),
        }
    }
}
