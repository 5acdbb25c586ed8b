//! One metric of an autoscaler: what it is now, and how many pods it asks for.
//!
//! Source: `computeStatusFor*` in `pkg/controller/podautoscaler/horizontal.go`.

use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricStatus, ExternalMetricSource, ExternalMetricStatus, MetricIdentifier,
    MetricSpec, MetricStatus, MetricTarget, MetricValueStatus, ObjectMetricSource,
    ObjectMetricStatus, PodsMetricSource, PodsMetricStatus, ResourceMetricStatus,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;
use proto::quantity::{Format, Quantity};

use super::Failed;
use super::metrics::Source;
use super::usage::{Crowd, Target, shared};
use crate::selector::Selector;

/// What a metric asks for.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Proposal {
    pub replicas: i32,
    /// What the metric is called in messages.
    pub name: String,
    pub status: MetricStatus,
}

/// Why a metric says nothing: for the condition and the event, and for the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Refusal {
    pub reason: &'static str,
    pub cause: Failed,
    pub what: String,
}

/// What metrics are computed from.
pub(super) struct Look<'l> {
    pub source: Source<'l>,
    pub crowd: Crowd<'l>,
    /// The selector of the pods, as the scale has it.
    pub selector: &'l str,
    /// How many pods the scale says there are.
    pub there: i32,
}

fn milli(amount: &Amount) -> i64 {
    amount
        .0
        .parse::<Quantity>()
        .map_or(0, Quantity::milli_value)
}

fn amount(value: i64, format: Format) -> Amount {
    Amount(Quantity::milli(value, format).to_string())
}

fn decimal(value: i64) -> Amount {
    amount(value, Format::DecimalSi)
}

fn selector_of(metric: &MetricIdentifier) -> Result<String, Failed> {
    let Some(selector) = &metric.selector else {
        return Ok(String::new());
    };
    let read = Selector::of(selector).map_err(|e| Failed::new(&e.chain()))?;
    Ok(read.to_string())
}

/// A sum that may be more than fits.
fn sum(values: &[i64]) -> i64 {
    values.iter().fold(0, |sum: i64, v| sum.saturating_add(*v))
}

/// `external metric queue(nil)`, as Go prints it.
fn external_name(metric: &MetricIdentifier, selector: &str) -> String {
    if metric.selector.is_some() {
        format!("external metric {}({selector})", metric.name)
    } else {
        format!("external metric {}(nil)", metric.name)
    }
}

impl Look<'_> {
    /// What a metric asks for.
    pub(super) async fn compute(&self, spec: &MetricSpec) -> Result<Proposal, Refusal> {
        let kind = spec.type_.as_str();
        let refuse = |reason, what: String| {
            move |cause| Refusal {
                reason,
                cause,
                what,
            }
        };
        if let ("Resource", Some(r)) = (kind, &spec.resource) {
            let what = format!("failed to get {} resource metric value", r.name);
            let (replicas, name, current) = self
                .resource(&r.name, None, &r.target)
                .await
                .map_err(refuse("FailedGetResourceMetric", what))?;
            let mut status = status_of(kind);
            status.resource = Some(ResourceMetricStatus {
                name: r.name.clone(),
                current,
            });
            return Ok(Proposal {
                replicas,
                name,
                status,
            });
        }
        if let ("ContainerResource", Some(r)) = (kind, &spec.container_resource) {
            let what = format!("failed to get {} container metric value", r.container);
            let (replicas, name, current) = self
                .resource(&r.name, Some(&r.container), &r.target)
                .await
                .map_err(refuse("FailedGetContainerResourceMetric", what))?;
            let mut status = status_of(kind);
            status.container_resource = Some(ContainerResourceMetricStatus {
                name: r.name.clone(),
                container: r.container.clone(),
                current,
            });
            return Ok(Proposal {
                replicas,
                name,
                status,
            });
        }
        if let ("Object", Some(o)) = (kind, &spec.object) {
            let what = "failed to get object metric value".to_owned();
            return self
                .object(o)
                .await
                .map_err(refuse("FailedGetObjectMetric", what));
        }
        if let ("Pods", Some(p)) = (kind, &spec.pods) {
            let what = "failed to get pods metric value".to_owned();
            return self
                .pods(p)
                .await
                .map_err(refuse("FailedGetPodsMetric", what));
        }
        if let ("External", Some(e)) = (kind, &spec.external) {
            let what = format!("failed to get {} external metric value", e.metric.name);
            return self
                .external(e)
                .await
                .map_err(refuse("FailedGetExternalMetric", what));
        }
        Err(Refusal {
            reason: "InvalidMetricSourceType",
            cause: Failed::new(&format!("unknown metric source type {kind:?}")),
            what: String::new(),
        })
    }

    async fn resource(
        &self,
        resource: &str,
        container: Option<&str>,
        target: &MetricTarget,
    ) -> Result<(i32, String, MetricValueStatus), Failed> {
        let (meant, what) = match (&target.average_value, target.average_utilization) {
            (Some(value), _) => (Target::Value(milli(value)), "usage"),
            (None, Some(percent)) => (
                Target::Utilization {
                    percent,
                    resource,
                    container,
                },
                "utilization",
            ),
            (None, None) => {
                return Err(Failed::new(
                    "invalid resource metric source: neither an average utilization target nor an average value \
                     (usage) target was set",
                ));
            }
        };
        let within = format!("failed to get {resource} {what}");
        let samples = self
            .source
            .resource(self.selector, resource, container)
            .await;
        let samples = samples.map_err(|e| {
            e.within(&format!("unable to get metrics for resource {resource}"))
                .within(&within)
        })?;
        let usage = self.crowd.per_pod(meant, samples, resource == "cpu");
        let usage = usage.map_err(|e| e.within(&within))?;
        let format = match resource {
            "memory" => Format::BinarySi,
            _ => Format::DecimalSi,
        };
        let name = match (meant, container) {
            (Target::Value(_), _) => format!("{resource} resource"),
            (_, None) => format!("{resource} resource utilization (percentage of request)"),
            (_, Some(_)) => {
                format!("{resource} container resource utilization (percentage of request)")
            }
        };
        let current = MetricValueStatus {
            average_utilization: usage.utilization,
            average_value: Some(amount(usage.average, format)),
            value: None,
        };
        Ok((usage.replicas, name, current))
    }

    async fn pods(&self, spec: &PodsMetricSource) -> Result<Proposal, Failed> {
        let metric = &spec.metric;
        let samples = self
            .source
            .pods(self.selector, &metric.name, &selector_of(metric)?)
            .await;
        let samples =
            samples.map_err(|e| e.within(&format!("unable to get metric {}", metric.name)))?;
        let target = Target::Value(spec.target.average_value.as_ref().map_or(0, milli));
        let usage = self.crowd.per_pod(target, samples, false)?;
        let mut status = status_of("Pods");
        status.pods = Some(PodsMetricStatus {
            metric: metric.clone(),
            current: MetricValueStatus {
                average_value: Some(decimal(usage.average)),
                ..MetricValueStatus::default()
            },
        });
        Ok(Proposal {
            replicas: usage.replicas,
            name: format!("pods metric {}", metric.name),
            status,
        })
    }

    async fn object(&self, spec: &ObjectMetricSource) -> Result<Proposal, Failed> {
        let (metric, object) = (&spec.metric, &spec.described_object);
        let selector = selector_of(metric)?;
        let value = async || {
            let value = self.source.object(object, &metric.name, &selector).await;
            value.map_err(|e| {
                e.within(&format!(
                    "unable to get metric {} on {} {}/{}",
                    metric.name, object.kind, self.source.namespace, object.name
                ))
            })
        };
        let within = format!("failed to get {} object metric", metric.name);
        let target = &spec.target;
        let (replicas, current, name) = match (
            target.type_.as_str(),
            &target.value,
            &target.average_value,
        ) {
            ("Value", Some(wanted), _) => {
                let (replicas, current) = self.whole(value().await?, milli(wanted))?;
                let name = format!("{} metric {}", object.kind, metric.name);
                (replicas, current, name)
            }
            ("AverageValue", _, Some(wanted)) => {
                let value = value().await.map_err(|e| e.within(&within))?;
                let (replicas, current) = self.each(value, milli(wanted));
                (replicas, current, external_name(metric, &selector))
            }
            _ => {
                return Err(Failed::new(
                    "invalid object metric source: neither a value target nor an average value target was set",
                ));
            }
        };
        let mut status = status_of("Object");
        status.object = Some(ObjectMetricStatus {
            current,
            described_object: object.clone(),
            metric: metric.clone(),
        });
        Ok(Proposal {
            replicas,
            name,
            status,
        })
    }

    async fn external(&self, spec: &ExternalMetricSource) -> Result<Proposal, Failed> {
        let metric = &spec.metric;
        let selector = selector_of(metric)?;
        let sum = async || {
            let values = self.source.external(&metric.name, &selector).await;
            let within = format!(
                "unable to get external metric {}/{}/{selector}",
                self.source.namespace, metric.name
            );
            values.map(|v| sum(&v)).map_err(|e| e.within(&within))
        };
        let target = &spec.target;
        let (replicas, current) = match (&target.average_value, &target.value) {
            (Some(wanted), _) => {
                let within = format!("failed to get {} external metric", metric.name);
                let value = sum().await.map_err(|e| e.within(&within))?;
                self.each(value, milli(wanted))
            }
            (None, Some(wanted)) => {
                let within = format!("failed to get external metric {}", metric.name);
                let whole = async || self.whole(sum().await?, milli(wanted));
                whole().await.map_err(|e| e.within(&within))?
            }
            (None, None) => {
                return Err(Failed::new(
                    "invalid external metric source: neither a value target nor an average value target was set",
                ));
            }
        };
        let mut status = status_of("External");
        status.external = Some(ExternalMetricStatus {
            current,
            metric: metric.clone(),
        });
        Ok(Proposal {
            replicas,
            name: external_name(metric, &selector),
            status,
        })
    }

    /// For a value that all pods together are to bring to a target.
    fn whole(&self, value: i64, target: i64) -> Result<(i32, MetricValueStatus), Failed> {
        let replicas = self.crowd.by_ratio(value as f64 / target as f64)?;
        let current = MetricValueStatus {
            value: Some(decimal(value)),
            ..MetricValueStatus::default()
        };
        Ok((replicas, current))
    }

    /// For a value of which each pod is to have a part.
    fn each(&self, value: i64, target: i64) -> (i32, MetricValueStatus) {
        let (replicas, average) = shared(value, target, self.there, self.crowd.tolerance);
        let current = MetricValueStatus {
            average_value: Some(decimal(average)),
            ..MetricValueStatus::default()
        };
        (replicas, current)
    }
}

fn status_of(kind: &str) -> MetricStatus {
    MetricStatus {
        type_: kind.to_owned(),
        ..MetricStatus::default()
    }
}
