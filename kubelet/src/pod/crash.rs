//! Waiting before a container that keeps failing is started again (`CrashLoopBackOff`): client-go's
//! `flowcontrol.Backoff` as the kubelet uses it. Pure: times are handed in.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::Container;

/// The first wait, and the longest (`crashLoopBackOff.maxContainerRestartPeriod`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub first: Duration,
    pub most: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(10),
            most: Duration::from_secs(300),
        }
    }
}

impl Limits {
    /// Those of a node whose longest wait may be less than the usual first one.
    #[must_use]
    pub fn with_most(most: Duration) -> Self {
        Self {
            first: Self::default().first.min(most),
            most,
        }
    }
}

/// The restarts of one pod's containers.
#[derive(Clone, Debug, Default)]
pub(crate) struct CrashLoops {
    pub(crate) limits: Limits,
    restarts: BTreeMap<String, Restarts>,
}

#[derive(Clone, Debug)]
struct Restarts {
    /// A container with another image or other resources starts over.
    image: Option<String>,
    resources: Option<serde_json::Value>,
    delay: Duration,
    last: SystemTime,
}

fn resources(container: &Container) -> Option<serde_json::Value> {
    serde_json::to_value(container.resources.as_ref()?).ok()
}

impl CrashLoops {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            restarts: BTreeMap::new(),
        }
    }

    fn of(&self, container: &Container, finished: SystemTime) -> Option<&Restarts> {
        let known = self.restarts.get(&container.name)?;
        let same = known.image == container.image && known.resources == resources(container);
        let quiet = finished.duration_since(known.last).unwrap_or_default();
        (same && quiet <= self.limits.most * 2).then_some(known)
    }

    /// How long the wait is that a container, which ended at `finished`, is in; none if it may be
    /// started. With the time at which it may.
    pub(crate) fn wait(
        &self,
        container: &Container,
        finished: SystemTime,
        now: SystemTime,
    ) -> Option<(Duration, SystemTime)> {
        let delay = self.of(container, finished)?.delay;
        let until = finished + delay;
        (now < until).then_some((delay, until))
    }

    /// A container that ended at `finished` is started again.
    pub(crate) fn restarted(
        &mut self,
        container: &Container,
        finished: SystemTime,
        now: SystemTime,
    ) {
        let known = self.of(container, finished);
        let delay = known.map_or(self.limits.first, |known| {
            (known.delay * 2).min(self.limits.most)
        });
        let restarts = Restarts {
            image: container.image.clone(),
            resources: resources(container),
            delay,
            last: now,
        };
        self.restarts.insert(container.name.clone(), restarts);
    }
}

/// A wait as messages have it: Go's duration in whole seconds (`10s`, `1m20s`, `5m0s`).
pub(crate) fn go_seconds(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) if minutes < 60 => format!("{minutes}m{seconds}s"),
        (minutes, seconds) => format!("{}h{}m{seconds}s", minutes / 60, minutes % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(image: &str) -> Container {
        Container {
            name: "a".into(),
            image: Some(image.into()),
            ..Container::default()
        }
    }

    #[test]
    fn the_first_restart_is_at_once_and_each_further_wait_doubles_up_to_five_minutes() {
        let mut loops = CrashLoops::default();
        let app = container("app");
        let mut now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        assert_eq!(loops.wait(&app, now, now), None);
        loops.restarted(&app, now, now);
        for seconds in [10, 20, 40, 80, 160, 300, 300] {
            let wait = Duration::from_secs(seconds);
            assert_eq!(loops.wait(&app, now, now), Some((wait, now + wait)));
            assert_eq!(loops.wait(&app, now, now + wait), None);
            let finished = now;
            now += wait;
            loops.restarted(&app, finished, now);
        }
    }

    #[test]
    fn a_long_run_or_another_image_starts_over() {
        let mut loops = CrashLoops::default();
        let app = container("app");
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        loops.restarted(&app, start, start);
        loops.restarted(&app, start, start);
        assert!(loops.wait(&app, start, start).is_some());
        assert_eq!(loops.wait(&container("other"), start, start), None);
        let later = start + Duration::from_secs(601);
        assert_eq!(loops.wait(&app, later, later), None);
        loops.restarted(&app, later, later);
        let wait = Duration::from_secs(10);
        assert_eq!(loops.wait(&app, later, later), Some((wait, later + wait)));
    }

    #[test]
    fn waits_are_told_as_go_prints_them() {
        let text = |seconds| go_seconds(Duration::from_secs(seconds));
        assert_eq!([text(10), text(80), text(300)], ["10s", "1m20s", "5m0s"]);
    }
}
