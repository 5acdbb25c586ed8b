//! From what pods use to how many there should be. Pure. Source: `pkg/controller/podautoscaler/replica_calculator.go`.
//!
//! Amounts are thousandths.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use proto::quantity::Quantity;

use super::Failed;
use crate::pods;
use crate::resource_quota::requests as whole_requests;

/// What a pod was seen to use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sample {
    /// When the window that it was measured in ended.
    pub at: Timestamp,
    pub window: Duration,
    pub value: i64,
}

/// Samples by the names of pods.
pub(super) type Samples = BTreeMap<String, Sample>;

/// How far from the target nothing is done, as parts of it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Tolerance {
    pub down: f64,
    pub up: f64,
}

impl Tolerance {
    fn has(self, ratio: f64) -> bool {
        1.0 - self.down <= ratio && ratio <= 1.0 + self.up
    }
}

/// When samples of young pods begin to count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// How long starting may take and use a processor in its own way.
    pub initialization: Duration,
    /// How long after its start a pod that is not ready was never ready.
    pub readiness: Duration,
}

/// What pods are meant to use on average.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Target<'t> {
    /// That much each.
    Value(i64),
    /// That many per cent of what they ask for of a resource; of one container only, if it is named.
    Utilization {
        percent: i32,
        resource: &'t str,
        container: Option<&'t str>,
    },
}

/// What pods use, and how many there should be for that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Usage {
    pub replicas: i32,
    /// Per cent of the requests, if the target says it so.
    pub utilization: Option<i32>,
    /// Of each pod.
    pub average: i64,
}

/// The pods that count, and when it is.
pub(super) struct Crowd<'c> {
    pub pods: &'c [Arc<Pod>],
    /// How many the scale says there are to be.
    pub current: i32,
    pub tolerance: Tolerance,
    pub patience: Patience,
    pub now: Timestamp,
}

/// Pods by what their samples mean.
#[derive(PartialEq, Eq, Default, Debug)]
struct Grouped<'p> {
    ready: usize,
    unready: BTreeSet<&'p str>,
    missing: BTreeSet<&'p str>,
    ignored: BTreeSet<&'p str>,
}

fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

pub(super) fn ceil(value: f64) -> i32 {
    // Casts of floats saturate.
    value.ceil() as i32
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

impl Crowd<'_> {
    /// How many pods there should be for that each of them uses what it is meant to.
    pub(super) fn per_pod(
        &self,
        target: Target<'_>,
        mut samples: Samples,
        is_cpu: bool,
    ) -> Result<Usage, Failed> {
        let groups = self.group(&samples, is_cpu)?;
        samples.retain(|pod, _| {
            let pod = pod.as_str();
            !groups.ignored.contains(pod) && !groups.unready.contains(pod)
        });
        if samples.is_empty() {
            return Err(Failed::new(
                "did not receive metrics for targeted pods (pods might be unready)",
            ));
        }
        let meter = Meter::new(target, self.pods)?;
        let (ratio, utilization, average) = meter.read(&samples)?;
        let usage = |replicas| Usage {
            replicas,
            utilization,
            average,
        };
        let counts_unready = !groups.unready.is_empty() && ratio > 1.0;
        if !counts_unready && groups.missing.is_empty() {
            return Ok(usage(if self.tolerance.has(ratio) {
                self.current
            } else {
                ceil(ratio * groups.ready as f64)
            }));
        }
        self.assume(&meter, &groups, ratio, &mut samples);
        let (careful, _, _) = meter.read(&samples)?;
        let turned = (ratio < 1.0 && careful > 1.0) || (ratio > 1.0 && careful < 1.0);
        if self.tolerance.has(careful) || turned {
            return Ok(usage(self.current));
        }
        let replicas = ceil(careful * samples.len() as f64);
        let turned = (careful < 1.0 && replicas > self.current)
            || (careful > 1.0 && replicas < self.current);
        Ok(usage(if turned { self.current } else { replicas }))
    }

    /// Assumes samples that damp the change: on the way down pods without one use all, on the way up nothing.
    fn assume(&self, meter: &Meter<'_>, groups: &Grouped<'_>, ratio: f64, samples: &mut Samples) {
        let mut put = |pod: &str, value| {
            let (at, window) = (self.now, Duration::ZERO);
            samples.insert(pod.to_owned(), Sample { at, window, value });
        };
        for pod in &groups.missing {
            if ratio < 1.0 {
                put(pod, meter.full(pod));
            } else if ratio > 1.0 {
                put(pod, 0);
            }
        }
        if ratio > 1.0 {
            for pod in &groups.unready {
                put(pod, 0);
            }
        }
    }

    fn group(&self, samples: &Samples, is_cpu: bool) -> Result<Grouped<'_>, Failed> {
        if self.pods.is_empty() {
            return Err(Failed::new(NO_PODS));
        }
        let mut groups = Grouped::default();
        for pod in self.pods {
            let name = name(pod);
            let phase = pods::phase(pod);
            if pod.metadata.deletion_timestamp.is_some() || phase == "Failed" {
                groups.ignored.insert(name);
            } else if phase == "Pending" {
                groups.unready.insert(name);
            } else {
                match samples.get(name) {
                    None => {
                        groups.missing.insert(name);
                    }
                    Some(sample) if is_cpu && self.is_starting(pod, sample) => {
                        groups.unready.insert(name);
                    }
                    Some(_) => groups.ready += 1,
                }
            }
        }
        Ok(groups)
    }

    /// Whether what a pod uses of a processor is what starting takes.
    fn is_starting(&self, pod: &Pod, sample: &Sample) -> bool {
        let started = pod.status.as_ref().and_then(|s| s.start_time.as_ref());
        let (Some(ready), Some(started)) = (pods::condition(pod, "Ready"), started) else {
            return true;
        };
        let since = ready
            .last_transition_time
            .as_ref()
            .map_or(Timestamp::UNIX_EPOCH, |t| t.0);
        let unready = ready.status == "False";
        if later(started.0, self.patience.initialization) > self.now {
            unready || sample.at < later(since, sample.window)
        } else {
            unready && later(started.0, self.patience.readiness) > since
        }
    }

    /// How many pods there should be for a ratio of all of them to their target.
    pub(super) fn by_ratio(&self, ratio: f64) -> Result<i32, Failed> {
        if self.current == 0 {
            return Ok(ceil(ratio));
        }
        if self.tolerance.has(ratio) {
            return Ok(self.current);
        }
        if self.pods.is_empty() {
            return Err(Failed::new(NO_PODS).within("unable to calculate ready pods"));
        }
        let runs = |pod: &&Arc<Pod>| pods::phase(pod) == "Running" && pods::is_ready(pod);
        let ready = self.pods.iter().filter(runs).count();
        Ok(ceil(ratio * ready as f64))
    }
}

const NO_PODS: &str = "no pods returned by selector while calculating replica count";

/// How many pods there should be for a sum that they share, and what each of `there` has of it.
pub(super) fn shared(sum: i64, target: i64, there: i32, tolerance: Tolerance) -> (i32, i64) {
    let ratio = sum as f64 / (target as f64 * f64::from(there));
    let replicas = if tolerance.has(ratio) {
        there
    } else {
        ceil(sum as f64 / target as f64)
    };
    // Casts of floats saturate, which an infinite amount of no pods needs.
    (replicas, (sum as f64 / f64::from(there)).ceil() as i64)
}

/// What samples are held against.
struct Meter<'t> {
    target: Target<'t>,
    requests: BTreeMap<&'t str, i64>,
}

impl<'t> Meter<'t> {
    fn new(target: Target<'t>, pods: &'t [Arc<Pod>]) -> Result<Self, Failed> {
        let mut requests = BTreeMap::new();
        if let Target::Utilization {
            resource,
            container,
            ..
        } = target
        {
            for pod in pods {
                requests.insert(name(pod), request(pod, resource, container)?);
            }
        }
        Ok(Self { target, requests })
    }

    /// The ratio of what is to what should be, the utilization, and what a pod uses.
    fn read(&self, samples: &Samples) -> Result<(f64, Option<i32>, i64), Failed> {
        let percent = match self.target {
            Target::Value(target) => {
                let sum: i128 = samples.values().map(|s| i128::from(s.value)).sum();
                let average = narrow(sum / count(samples.len()));
                return Ok((average as f64 / target as f64, None, average));
            }
            Target::Utilization { percent, .. } => percent,
        };
        let (mut used, mut asked, mut known) = (0_i128, 0_i128, 0);
        for (pod, sample) in samples {
            if let Some(request) = self.requests.get(pod.as_str()) {
                used += i128::from(sample.value);
                asked += i128::from(*request);
                known += 1;
            }
        }
        if asked == 0 {
            return Err(Failed::new("no metrics returned matched known pods"));
        }
        let utilization = i32::try_from(used * 100 / asked).unwrap_or(i32::MAX);
        let ratio = f64::from(utilization) / f64::from(percent);
        Ok((ratio, Some(utilization), narrow(used / count(known))))
    }

    /// What a pod is taken to use of which nothing is known, on the way down.
    fn full(&self, pod: &str) -> i64 {
        match self.target {
            Target::Value(target) => target,
            Target::Utilization { percent, .. } => {
                let request = self.requests.get(pod).copied().unwrap_or(0);
                narrow(i128::from(request) * i128::from(percent.max(100)) / 100)
            }
        }
    }
}

fn count(n: usize) -> i128 {
    i128::try_from(n).unwrap_or(i128::MAX).max(1)
}

fn narrow(n: i128) -> i64 {
    i64::try_from(n).unwrap_or(if n < 0 { i64::MIN } else { i64::MAX })
}

/// What a pod, or one container of it, asks for of a resource.
fn request(pod: &Pod, resource: &str, container: Option<&str>) -> Result<i64, Failed> {
    let pod_name = name(pod);
    let spec = pod.spec.as_ref();
    let own = spec.and_then(|s| s.resources.as_ref()?.requests.as_ref());
    if container.is_none() && own.is_some_and(|r| r.keys().any(|k| is_pod_level(k))) {
        let all = spec.map(whole_requests).unwrap_or_default();
        let amount = all.get(resource).ok_or_else(|| {
            let text = format!("missing pod-level request for {resource} in Pod {pod_name}");
            Failed::new(&text)
        })?;
        return Ok(amount.milli_value());
    }
    let main = spec.into_iter().flat_map(|s| &s.containers);
    let init = spec
        .into_iter()
        .flat_map(|s| s.init_containers.iter().flatten());
    let sidecars = init.filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let mut sum = None;
    for one in main.chain(sidecars) {
        if container.is_some_and(|wanted| wanted != one.name) {
            continue;
        }
        let requests = one.resources.as_ref().and_then(|r| r.requests.as_ref());
        let amount = requests.and_then(|r| r.get(resource)?.0.parse::<Quantity>().ok());
        let amount = amount.ok_or_else(|| {
            let text = format!(
                "missing request for {resource} in container {} of Pod {pod_name}",
                one.name
            );
            Failed::new(&text)
        })?;
        sum = Some(amount.milli_value().saturating_add(sum.unwrap_or(0)));
    }
    match (sum, container) {
        (None, Some(container)) => {
            let text = format!("container {container} not found in Pod {pod_name}");
            Err(Failed::new(&text))
        }
        (sum, _) => Ok(sum.unwrap_or(0)),
    }
}

fn is_pod_level(resource: &str) -> bool {
    matches!(resource, "cpu" | "memory") || resource.starts_with("hugepages-")
}

#[cfg(test)]
mod tests;
