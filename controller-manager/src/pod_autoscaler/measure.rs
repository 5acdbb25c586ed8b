//! The metrics of one autoscaler, and the pods that they are of.
//!
//! Source: `computeReplicasForMetrics`, `validateAndParseSelector` in `pkg/controller/podautoscaler/horizontal.go`.

use std::sync::Arc;

use component::informer::Key;
use k8s_openapi::api::autoscaling::v2::{
    HPAScalingRules, HorizontalPodAutoscalerSpec, MetricStatus,
};
use k8s_openapi::api::core::v1::Pod;
use proto::quantity::Quantity;

use super::compute::{Look, Proposal};
use super::metrics::Source;
use super::scale::Scale;
use super::usage::{Crowd, Patience, Tolerance};
use super::{ACTIVE, Failed, Known, Pass};
use crate::selector::Selector;

/// What the metrics ask for.
pub(super) struct Measured {
    pub replicas: i32,
    pub name: String,
    pub metrics: Vec<MetricStatus>,
    pub failed: Option<Failed>,
}

impl Pass<'_> {
    /// Reads all metrics; the one that asks for most counts. If none can be read, or some cannot and the others would
    /// shrink the target, nothing is done.
    pub(super) async fn measure(
        &mut self,
        scale: &Scale,
    ) -> Result<Measured, (Failed, Vec<MetricStatus>)> {
        let pods = self
            .selected(scale.selector())
            .map_err(|e| (e, Vec::new()))?;
        let config = &self.this.cx.config().horizontal_pod_autoscaler;
        let look = Look {
            source: Source {
                client: self.client,
                namespace: self.key.namespace(),
                discovered: self.discovered,
            },
            crowd: Crowd {
                pods: &pods,
                current: scale.wanted(),
                tolerance: tolerance(&self.spec, config.horizontal_pod_autoscaler_tolerance),
                patience: Patience {
                    initialization: config.horizontal_pod_autoscaler_cpu_initialization_period.0,
                    readiness: config.horizontal_pod_autoscaler_initial_readiness_delay.0,
                },
                now: self.this.cx.now(),
            },
            selector: scale.selector(),
            there: scale.there(),
        };
        let specs = self.spec.metrics.clone().unwrap_or_default();
        let (mut best, mut metrics, mut refused) = (None::<Proposal>, Vec::new(), Vec::new());
        for spec in &specs {
            match look.compute(spec).await {
                Ok(proposal) => {
                    metrics.push(proposal.status.clone());
                    let less = |b: &Proposal| b.replicas == 0 || proposal.replicas > b.replicas;
                    if best.as_ref().is_none_or(less) {
                        best = Some(proposal);
                    }
                }
                Err(refusal) => {
                    self.warn(refusal.reason, &refusal.cause.0);
                    // Its place in the list stays, as upstream has it.
                    metrics.push(MetricStatus::default());
                    refused.push(refusal);
                }
            }
        }
        let failed = refused.first().map(|first| {
            let what = format!(
                "invalid metrics ({} invalid out of {}), first error is",
                refused.len(),
                specs.len()
            );
            first.cause.clone().within(&first.what).within(&what)
        });
        let shrinks = best.as_ref().is_none_or(|b| b.replicas < scale.wanted());
        match (best, &failed) {
            (Some(best), failed) if failed.is_none() || !shrinks => {
                let text = format!(
                    "the HPA was able to successfully calculate a replica count from {}",
                    best.name
                );
                self.set(ACTIVE, true, "ValidMetricFound", &text);
                Ok(Measured {
                    replicas: best.replicas,
                    name: best.name,
                    metrics,
                    failed: failed.clone(),
                })
            }
            (_, failed) => {
                if let Some(first) = refused.first() {
                    let text = format!(
                        "the HPA was unable to compute the replica count: {}",
                        first.cause
                    );
                    self.set(ACTIVE, false, first.reason, &text);
                }
                let failed = failed.clone().unwrap_or_else(|| Failed::new("no metrics"));
                Err((failed, metrics))
            }
        }
    }

    /// The pods of a target, which no other autoscaler may have.
    fn selected(&mut self, selector: &str) -> Result<Vec<Arc<Pod>>, Failed> {
        if selector.is_empty() {
            self.warn("SelectorRequired", "selector is required");
            let text = "the HPA target's scale is missing a selector";
            self.set(ACTIVE, false, "InvalidSelector", text);
            return Err(Failed::new("selector is required"));
        }
        let read = match Selector::parse(selector) {
            Ok(read) => read,
            Err(e) => {
                let text = format!(
                    "couldn't convert selector into a corresponding internal selector object: {}",
                    e.chain()
                );
                self.warn("InvalidSelector", &text);
                self.set(ACTIVE, false, "InvalidSelector", &text);
                return Err(Failed(text));
            }
        };
        let mut pods = self.this.pods.in_namespace(self.key.namespace());
        pods.retain(|pod| read.matches(pod.metadata.labels.as_ref()));
        let others = self.others(read, &pods);
        if others.len() > 1 {
            let text = format!(
                "pods by selector {selector} are controlled by more than one HPA (e.g. [{}])",
                others.join(" ")
            );
            self.warn("AmbiguousSelector", &text);
            self.set(ACTIVE, false, "AmbiguousSelector", &text);
            return Err(Failed(text));
        }
        Ok(pods)
    }

    /// The autoscalers of the namespace that select one of these pods.
    fn others(&self, own: Selector, pods: &[Arc<Pod>]) -> Vec<String> {
        let mut known = self.this.known.lock();
        known.entry(self.key.clone()).or_default().selector = Some(own);
        let selects = |known: &Known| {
            let selector = known.selector.as_ref();
            selector.is_some_and(|s| pods.iter().any(|p| s.matches(p.metadata.labels.as_ref())))
        };
        let in_namespace = |key: &Key| key.namespace() == self.key.namespace();
        let those = known.iter().filter(|(k, v)| in_namespace(k) && selects(v));
        let mut names: Vec<String> = those.map(|(key, _)| key.to_string()).collect();
        names.sort();
        names
    }
}

fn tolerance(spec: &HorizontalPodAutoscalerSpec, default: f64) -> Tolerance {
    let behavior = spec.behavior.as_ref();
    let of = |rules: Option<&HPAScalingRules>| {
        let own = rules.and_then(|r| r.tolerance.as_ref()?.0.parse::<Quantity>().ok());
        own.map_or(default, Quantity::as_f64)
    };
    Tolerance {
        down: of(behavior.and_then(|b| b.scale_down.as_ref())),
        up: of(behavior.and_then(|b| b.scale_up.as_ref())),
    }
}
