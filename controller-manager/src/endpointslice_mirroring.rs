//! Slices for Endpoints objects that people made themselves (`endpointslice-mirroring-controller`), for
//! services without a selector.
//!
//! Source: `pkg/controller/endpointslicemirroring`.

use std::sync::Arc;
use std::time::Duration;

use component::client::RateLimit;
use component::controller::Next;
use component::events::{Recorder, reference};
use component::informer::{Event, Index, Key, Lister};
use component::queue::Retry;
use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::context::Context;
use crate::endpointslice::write::Writer;
use crate::endpointslice::{by_service, concerned, is_managed};
use crate::error::Error;
use crate::members::selector;

pub mod plan;

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";

struct Mirror {
    endpoints: Lister<Endpoints>,
    services: Lister<Service>,
    slices: Lister<EndpointSlice>,
    by_service: Index,
    writer: Writer,
    recorder: Recorder,
    most: usize,
}

/// Starts the controller.
///
/// # Errors
/// None.
pub fn start(cx: &Context) -> anyhow::Result<()> {
    let config = cx.config().endpoint_slice_mirroring.clone();
    let retry = Retry {
        first: Duration::from_secs(1),
        most: Duration::from_secs(100),
        overall: RateLimit::new(10.0, 100),
    };
    let queue = cx.queue_with::<Key>("endpoint_slice_mirroring", retry);
    let (endpoints, services) = (cx.informer::<Endpoints>(), cx.informer::<Service>());
    let slices = cx.informer::<EndpointSlice>();
    let this = Arc::new(Mirror {
        endpoints: endpoints.lister(),
        services: services.lister(),
        by_service: by_service(&slices),
        slices: slices.lister(),
        writer: Writer::new(cx.clone()),
        recorder: cx.recorder_as("endpoint-slice-mirroring-controller"),
        most: usize::try_from(config.mirroring_max_endpoints_per_subset).unwrap_or(1),
    });
    let wake = queue.clone();
    endpoints.subscribe(move |key, event| {
        let before = matches!(event, Event::Updated { old, .. } if is_mirrored(old));
        if before || is_mirrored(event.object()) {
            wake.add(key.clone());
        }
    });
    let wake = queue.clone();
    services.subscribe(move |key, event| {
        let concerns = match event {
            Event::Updated { old, new } => selector(old).is_none() != selector(new).is_none(),
            Event::Added(service) | Event::Deleted(service) => selector(service).is_none(),
        };
        if concerns {
            wake.add(key.clone());
        }
    });
    let (wake, tracker) = (queue.clone(), this.writer.tracker());
    let delay = config.mirroring_endpoint_updates_batch_period.0;
    slices.subscribe(move |_, event| {
        for key in concerned(event, &tracker, MANAGER) {
            wake.add_after(key, delay);
        }
    });
    let workers = config.mirroring_concurrent_service_endpoint_syncs;
    cx.run(workers, &queue, move |key| {
        let this = Arc::clone(&this);
        async move { this.reconcile(&key).await }
    });
    Ok(())
}

/// Whether the object wants to be mirrored.
fn is_mirrored(endpoints: &Endpoints) -> bool {
    let label = endpoints.metadata.labels.as_ref().and_then(|l| l.get(SKIP));
    let annotations = endpoints.metadata.annotations.as_ref();
    label.is_none_or(|skip| skip != "true") && annotations.is_none_or(|a| !a.contains_key(LEADER))
}

impl Mirror {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let mut slices = self.slices.indexed(self.by_service, key.as_str());
        slices.retain(|s| is_managed(s, MANAGER));
        let endpoints = self.endpoints.by_key(key).filter(|e| is_mirrored(e));
        let service = self.services.by_key(key);
        let (Some(endpoints), Some(_)) = (endpoints, service.filter(|s| selector(s).is_none()))
        else {
            return self.remove(key, &slices).await;
        };
        if self.writer.tracker().is_stale(key, &slices) {
            return Ok(Next::Again);
        }
        let plan = plan::plan(&endpoints, &slices, self.most);
        let about = reference(&*endpoints);
        if plan.invalid > 0 {
            let message = format!(
                "Skipped {} invalid IP addresses when mirroring to EndpointSlices",
                plan.invalid
            );
            self.recorder.warning(&about, "InvalidIPAddress", &message);
        }
        if plan.skipped > plan.invalid {
            let message = format!(
                "A max of {} addresses can be mirrored to EndpointSlices per Endpoints subset. {} addresses were skipped",
                self.most, plan.skipped
            );
            self.recorder
                .warning(&about, "TooManyAddressesToMirror", &message);
        }
        // Also what did not change must be known as seen, so that a foreign change is noticed.
        for slice in &plan.changes.unchanged {
            if !self.writer.tracker().has(slice) {
                self.writer.tracker().wrote(slice);
            }
        }
        self.writer.apply(&*endpoints, plan.changes, None).await?;
        Ok(Next::Done)
    }

    /// Nothing is to be mirrored.
    async fn remove(&self, key: &Key, slices: &[Arc<EndpointSlice>]) -> Result<Next, Error> {
        self.writer.tracker().forget(key);
        let mut results = Vec::new();
        for slice in slices {
            results.push(self.writer.delete(slice).await);
        }
        let done = Error::all(results).map(|_| Next::Done);
        self.writer.tracker().forget(key);
        done
    }
}
