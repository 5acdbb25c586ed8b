//! Reads the three APIs of metrics. Other people's servers answer them: nothing is taken for granted.
//!
//! Source: `pkg/controller/podautoscaler/metrics/client.go`, `k8s.io/metrics`.

use std::time::Duration;

use component::client::{Client, path_escape};
use http::Method;
use k8s_openapi::api::autoscaling::v2::CrossVersionObjectReference;
use k8s_openapi::jiff::Timestamp;
use proto::quantity::Quantity;
use serde_json::Value;

use super::Failed;
use super::usage::{Sample, Samples};
use crate::discovery::Discovered;

const CUSTOM: &str = "custom.metrics.k8s.io";
/// What a sample's window is taken to be if it is not told.
const WINDOW: Duration = Duration::from_secs(60);

/// The metrics of a namespace.
pub(super) struct Source<'s> {
    pub client: &'s Client,
    pub namespace: &'s str,
    pub discovered: &'s Discovered,
}

fn milli(value: &Value) -> Option<i64> {
    let text = value.as_str()?;
    Some(text.parse::<Quantity>().ok()?.milli_value())
}

fn time(value: &Value) -> Timestamp {
    let text = value.as_str().unwrap_or_default();
    text.parse().unwrap_or(Timestamp::UNIX_EPOCH)
}

fn items(answer: &mut Value) -> Vec<Value> {
    match answer["items"].take() {
        Value::Array(items) => items,
        _ => Vec::new(),
    }
}

/// What each pod uses of a resource, or one of its containers. A pod is left out of which not all is known.
fn of_pods(items: &[Value], resource: &str, container: Option<&str>) -> Samples {
    let mut all = Samples::new();
    for item in items {
        let containers = item["containers"].as_array().map_or(&[][..], Vec::as_slice);
        let mut meant = containers
            .iter()
            .filter(|c| container.is_none_or(|name| c["name"] == name))
            .peekable();
        if meant.peek().is_none() {
            continue;
        }
        let Some(value) = meant.try_fold(0_i64, |sum, c| {
            Some(sum.saturating_add(milli(&c["usage"][resource])?))
        }) else {
            continue;
        };
        let window = item["window"].as_str().and_then(|w| w.parse().ok());
        let window = window.map_or(0, |w: proto::time::Duration| w.0);
        let sample = Sample {
            at: time(&item["timestamp"]),
            window: Duration::from_nanos(u64::try_from(window).unwrap_or(0)),
            value,
        };
        all.insert(name(&item["metadata"]), sample);
    }
    all
}

fn name(object: &Value) -> String {
    object["name"].as_str().unwrap_or_default().to_owned()
}

/// The values of objects' metrics, in both versions of that API.
fn of_objects(items: &[Value]) -> Samples {
    let one = |item: &Value| {
        let seconds = item["windowSeconds"].as_u64().or(item["window"].as_u64());
        let sample = Sample {
            at: time(&item["timestamp"]),
            window: seconds.map_or(WINDOW, Duration::from_secs),
            value: milli(&item["value"])?,
        };
        Some((name(&item["describedObject"]), sample))
    };
    items.iter().filter_map(one).collect()
}

impl Source<'_> {
    async fn get(
        &self,
        api: &str,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Vec<Value>, Failed> {
        let query: Vec<_> = query
            .iter()
            .copied()
            .filter(|(_, v)| !v.is_empty())
            .collect();
        let answer = self
            .client
            .request(Method::GET, path, &query, None::<&()>)
            .await;
        let mut answer: Value = answer.map_err(|e| {
            let text = component::supervisor::chain(&e);
            Failed::new(&text).within(&format!("unable to fetch metrics from {api} metrics API"))
        })?;
        Ok(items(&mut answer))
    }

    /// What the pods of a selector use of a resource.
    pub(super) async fn resource(
        &self,
        selector: &str,
        resource: &str,
        container: Option<&str>,
    ) -> Result<Samples, Failed> {
        let namespace = path_escape(self.namespace);
        let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods");
        let items = self
            .get("resource", &path, &[("labelSelector", selector)])
            .await?;
        if items.is_empty() {
            return Err(none("resource"));
        }
        Ok(of_pods(&items, resource, container))
    }

    /// A metric of each pod of a selector.
    pub(super) async fn pods(
        &self,
        selector: &str,
        metric: &str,
        metric_selector: &str,
    ) -> Result<Samples, Failed> {
        let root = self.custom().await?;
        let namespace = path_escape(self.namespace);
        let path = format!(
            "{root}/namespaces/{namespace}/pods/*/{}",
            path_escape(metric)
        );
        let query = [
            ("labelSelector", selector),
            ("metricLabelSelector", metric_selector),
        ];
        let items = self.get("custom", &path, &query).await?;
        if items.is_empty() {
            return Err(none("custom"));
        }
        Ok(of_objects(&items))
    }

    /// A metric of one object of the namespace, or of the namespace itself.
    pub(super) async fn object(
        &self,
        object: &CrossVersionObjectReference,
        metric: &str,
        metric_selector: &str,
    ) -> Result<i64, Failed> {
        let root = self.custom().await?;
        let namespace = path_escape(self.namespace);
        let metric = path_escape(metric);
        let (group, _) = super::group_version(object.api_version.as_deref());
        let path = if object.kind == "Namespace" && group.is_empty() {
            format!("{root}/namespaces/{namespace}/metrics/{metric}")
        } else {
            let resource = self.resource_name(group, &object.kind)?;
            let name = path_escape(&object.name);
            format!("{root}/namespaces/{namespace}/{resource}/{name}/{metric}")
        };
        let query = [("metricLabelSelector", metric_selector)];
        let items = self.get("custom", &path, &query).await?;
        let values = items.iter().filter_map(|item| milli(&item["value"]));
        let mut values: Vec<i64> = values.collect();
        match (values.pop(), values.len()) {
            (Some(value), 0) => Ok(value),
            (last, others) => {
                let count = others + usize::from(last.is_some());
                let text = format!(
                    "unable to fetch metrics from custom metrics API: the custom metrics API server returned \
                     {count} results when we asked for exactly one"
                );
                Err(Failed::new(&text))
            }
        }
    }

    /// All values of a metric that belongs to no object.
    pub(super) async fn external(&self, metric: &str, selector: &str) -> Result<Vec<i64>, Failed> {
        let path = format!(
            "/apis/external.metrics.k8s.io/v1beta1/namespaces/{}/{}",
            path_escape(self.namespace),
            path_escape(metric)
        );
        let items = self
            .get("external", &path, &[("labelSelector", selector)])
            .await?;
        let values: Vec<i64> = items.iter().filter_map(|i| milli(&i["value"])).collect();
        if values.is_empty() {
            return Err(none("external"));
        }
        Ok(values)
    }

    /// The newer of the versions of custom metrics that are served.
    async fn custom(&self) -> Result<String, Failed> {
        let path = format!("/apis/{CUSTOM}");
        let group = self
            .client
            .request(Method::GET, &path, &[], None::<&()>)
            .await;
        let group: Value = group.map_err(|e| {
            let text = component::supervisor::chain(&e);
            Failed::new(&text).within("unable to fetch metrics from custom metrics API")
        })?;
        let served = group["versions"].as_array().into_iter().flatten();
        let new = served.into_iter().any(|v| v["version"] == "v1beta2");
        Ok(format!(
            "{path}/{}",
            if new { "v1beta2" } else { "v1beta1" }
        ))
    }

    /// `deployments.apps`, as paths of custom metrics have it.
    fn resource_name(&self, group: &str, kind: &str) -> Result<String, Failed> {
        let mut all = self.discovered.preferred.iter();
        let found = all.find(|r| r.target.group == group && r.target.kind == kind);
        match found {
            Some(resource) if group.is_empty() => Ok(resource.target.resource.to_string()),
            Some(resource) => Ok(format!("{}.{group}", resource.target.resource)),
            None => Err(super::no_kind(group, kind)),
        }
    }
}

fn none(api: &str) -> Failed {
    Failed::new(&format!("no metrics returned from {api} metrics API"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn values(samples: &Samples) -> Vec<(&str, i64, u64)> {
        let each = samples.iter();
        each.map(|(pod, s)| (pod.as_str(), s.value, s.window.as_secs()))
            .collect()
    }

    #[test]
    fn a_pod_uses_what_its_containers_do() {
        let items = [
            json!({"metadata": {"name": "a"}, "timestamp": "2026-01-01T00:00:00Z", "window": "30.5s", "containers": [
                {"name": "x", "usage": {"cpu": "100m", "memory": "1Ki"}}, {"name": "y", "usage": {"cpu": "1"}}]}),
            json!({"metadata": {"name": "b"}, "containers": []}),
        ];
        assert_eq!(values(&of_pods(&items, "cpu", None)), [("a", 1100, 30)]);
        assert_eq!(values(&of_pods(&items, "cpu", Some("x"))), [("a", 100, 30)]);
        assert_eq!(values(&of_pods(&items, "memory", None)), []);
        assert_eq!(
            values(&of_pods(&items, "memory", Some("x"))),
            [("a", 1_024_000, 30)]
        );
    }

    #[test]
    fn metrics_of_objects_are_read_in_both_versions() {
        let items = [
            json!({"describedObject": {"name": "a"}, "value": "1500m", "windowSeconds": 10}),
            json!({"describedObject": {"name": "b"}, "value": "2", "window": 20}),
            json!({"describedObject": {"name": "c"}, "value": "3"}),
            json!({"describedObject": {"name": "d"}, "value": {}}),
        ];
        assert_eq!(
            values(&of_objects(&items)),
            [("a", 1500, 10), ("b", 2000, 20), ("c", 3000, 60)]
        );
    }
}
