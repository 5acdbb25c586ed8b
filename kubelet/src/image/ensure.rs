//! Sees to it that a container's image is there: upstream's `image_manager.go`, with its events,
//! reasons and messages.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use super::access::Verification;
use super::auth::Credential;
use super::import::Reading;
use super::pull::Puller;
use super::reference::Reference;
use super::store::{Image, Store};

/// When a container's image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

/// Why a container waits for its image: `state.waiting.reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    ErrImagePull,
    ImagePullBackOff,
    ErrImageNeverPull,
    InvalidImageName,
    RegistryUnavailable,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ErrImagePull => "ErrImagePull",
            Self::ImagePullBackOff => "ImagePullBackOff",
            Self::ErrImageNeverPull => "ErrImageNeverPull",
            Self::InvalidImageName => "InvalidImageName",
            Self::RegistryUnavailable => "RegistryUnavailable",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The image is not there: reason and message of the waiting container.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
#[error("{reason}: {message}")]
pub struct Failure {
    pub reason: Reason,
    pub message: String,
}

/// An event of the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub warning: bool,
    pub reason: &'static str,
    pub message: String,
}

/// A container's image.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    pub pod_uid: &'a str,
    /// As the pod names it.
    pub image: &'a str,
    pub policy: PullPolicy,
    /// Those of the pod's secrets and the node that are for this repository, in the order in which
    /// they are tried.
    pub credentials: Vec<Credential>,
}

/// How images are pulled.
#[derive(Clone, Debug)]
pub struct Config {
    /// Pulls at once: `maxParallelImagePulls`; 1 for `serializeImagePulls`; zero for no limit.
    pub parallel: usize,
    /// Pulls per second in the long run, and at once (`registryPullQPS`, `registryBurst`); zero for
    /// no limit.
    pub qps: u32,
    pub burst: u32,
    pub first_back_off: Duration,
    pub max_back_off: Duration,
    pub verification: Verification,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            parallel: 1,
            qps: 5,
            burst: 10,
            first_back_off: Duration::from_secs(10),
            max_back_off: Duration::from_secs(300),
            verification: Verification::default(),
        }
    }
}

/// The images of this node's containers.
pub struct Images {
    store: Arc<Store>,
    puller: Arc<Puller>,
    config: Config,
    permits: Semaphore,
    limits: Mutex<Limits>,
    /// How far the archives are read that were there at the start.
    archives: watch::Receiver<Reading>,
}

/// What earlier pulls mean for the next one. Pure but for the clock that is handed in.
#[derive(Default)]
struct Limits {
    /// Failures by pod and image.
    failures: HashMap<(String, String), FailedPull>,
    /// Pulls that may be started right now, and when that was true.
    tokens: Option<(f64, Instant)>,
}

struct FailedPull {
    delay: Duration,
    at: Instant,
    failure: Failure,
}

impl Images {
    pub fn new(store: Arc<Store>, puller: Arc<Puller>, config: Config) -> Self {
        let permits = match config.parallel {
            0 => Semaphore::MAX_PERMITS,
            parallel => parallel,
        };
        let (permits, limits) = (Semaphore::new(permits), Mutex::default());
        Self {
            store,
            puller,
            config,
            permits,
            limits,
            archives: watch::channel(Reading::Done).1,
        }
    }

    /// Waits for archives before it says that an image is not here.
    #[must_use]
    pub fn after_archives(self, archives: watch::Receiver<Reading>) -> Self {
        Self { archives, ..self }
    }

    /// Waits until the image is here or no archive is left that it could come from.
    async fn read(&self, image: &str) {
        let mut archives = self.archives.clone();
        loop {
            let reading = *archives.borrow_and_update();
            if reading == Reading::Done || self.store.image(image).is_some() {
                return;
            }
            // An error is the end of the import, after which nothing comes.
            if archives.changed().await.is_err() {
                return;
            }
        }
    }

    /// The image, pulled if the policy says so. What is worth an event is told as it happens.
    /// Called again after a failure, it answers `ImagePullBackOff` until it is time to try again.
    pub async fn ensure(
        &self,
        wanted: &Wanted<'_>,
        tell: &mut (dyn FnMut(Event) + Send),
    ) -> Result<Arc<Image>, Failure> {
        let image = wanted.image;
        let reference = match image.parse::<Reference>() {
            Ok(reference) => reference,
            Err(err) => {
                let message = format!(
                    "Failed to apply default image tag {image:?}: couldn't parse image name \
                     {image:?}: {err}"
                );
                tell(warning("InspectFailed", message.clone()));
                return Err(Failure {
                    reason: Reason::InvalidImageName,
                    message,
                });
            }
        };
        self.read(image).await;
        if let Some(here) = self.present(wanted, &reference, tell)? {
            return Ok(here);
        }
        let key = (wanted.pod_uid.to_owned(), image.to_owned());
        if let Some(failure) = self
            .limits
            .lock()
            .back_off(&key, &self.config, Instant::now())
        {
            tell(normal(
                "BackOff",
                format!("Back-off pulling image {image:?}"),
            ));
            return Err(failure);
        }
        tell(normal("Pulling", format!("Pulling image {image:?}")));
        match self.pull(wanted, &reference).await {
            Ok((image, message)) => {
                // The delay stays for a while: a pull that fails again soon is not a fresh one.
                self.limits.lock().sweep(&self.config, Instant::now());
                tell(normal("Pulled", message));
                Ok(image)
            }
            Err(failure) => {
                let text = &failure.message;
                tell(warning(
                    "Failed",
                    format!("Failed to pull image {image:?}: {text}"),
                ));
                self.limits
                    .lock()
                    .failed(key, &failure, &self.config, Instant::now());
                Err(failure)
            }
        }
    }

    /// How long it is until a pull of this image for this pod may be tried again; none if it may now.
    pub fn back_off(&self, pod_uid: &str, image: &str) -> Option<Duration> {
        let limits = self.limits.lock();
        let last = limits
            .failures
            .get(&(pod_uid.to_owned(), image.to_owned()))?;
        let left = last.delay.checked_sub(last.at.elapsed())?;
        Some(left).filter(|left| !left.is_zero())
    }

    /// The image if it is here and needs no pull.
    fn present(
        &self,
        wanted: &Wanted<'_>,
        reference: &Reference,
        tell: &mut (dyn FnMut(Event) + Send),
    ) -> Result<Option<Arc<Image>>, Failure> {
        let image = wanted.image;
        if wanted.policy == PullPolicy::Always {
            return Ok(None);
        }
        let found = self.store.image(image).filter(|found| {
            let verification = &self.config.verification;
            !verification.must_pull(reference, &found.access, &wanted.credentials)
        });
        match (found, wanted.policy) {
            (Some(found), _) => {
                let message = format!(
                    "Container image {image:?} already present on machine and can be accessed \
                     by the pod"
                );
                tell(normal("Pulled", message));
                Ok(Some(found))
            }
            // One that is here and that the pod may not have looks like one that is not here.
            (None, PullPolicy::Never) => {
                let message =
                    format!("Container image {image:?} is not present with pull policy of Never");
                tell(warning("ErrImageNeverPull", message.clone()));
                Err(Failure {
                    reason: Reason::ErrImageNeverPull,
                    message,
                })
            }
            (None, _) => Ok(None),
        }
    }

    async fn pull(
        &self,
        wanted: &Wanted<'_>,
        reference: &Reference,
    ) -> Result<(Arc<Image>, String), Failure> {
        let failed = |message| Failure {
            reason: Reason::ErrImagePull,
            message,
        };
        let waiting = Instant::now();
        if !self.limits.lock().take(&self.config, waiting) {
            return Err(failed("pull QPS exceeded".into()));
        }
        let permit = self.permits.acquire().await;
        let permit = permit.map_err(|_| failed("the kubelet is shutting down".into()))?;
        let started = Instant::now();
        let pulled = self
            .puller
            .pull(reference, wanted.credentials.clone())
            .finish()
            .await;
        drop(permit);
        let image = wanted.image;
        match pulled {
            Ok(pulled) => {
                let message = format!(
                    "Successfully pulled image {image:?} in {} ({} including waiting). Image size: \
                     {} bytes.",
                    go_duration(started.elapsed()),
                    go_duration(waiting.elapsed()),
                    pulled.image.size,
                );
                Ok((pulled.image, message))
            }
            Err(err) if err.is_unavailable() => Err(Failure {
                reason: Reason::RegistryUnavailable,
                message: format!(
                    "image pull failed for {image} because the registry is unavailable: {err}"
                ),
            }),
            Err(err) => Err(failed(format!(
                "failed to pull image \"{reference}\": {err}"
            ))),
        }
    }
}

impl Limits {
    /// The answer while it is too early to try again.
    fn back_off(&self, key: &(String, String), config: &Config, now: Instant) -> Option<Failure> {
        let last = self.failures.get(key)?;
        let since = now.duration_since(last.at);
        if since > config.max_back_off * 2 || since >= last.delay {
            return None;
        }
        let message = format!("Back-off pulling image {:?}: {}", key.1, last.failure);
        Some(Failure {
            reason: Reason::ImagePullBackOff,
            message,
        })
    }

    fn failed(&mut self, key: (String, String), failure: &Failure, config: &Config, now: Instant) {
        self.sweep(config, now);
        let delay = match self.failures.get(&key) {
            Some(last) => (last.delay * 2).min(config.max_back_off),
            None => config.first_back_off,
        };
        self.failures.insert(
            key,
            FailedPull {
                delay,
                at: now,
                failure: failure.clone(),
            },
        );
    }

    /// Forgets failures that are long past.
    fn sweep(&mut self, config: &Config, now: Instant) {
        let expired = config.max_back_off * 2;
        self.failures
            .retain(|_, last| now.duration_since(last.at) <= expired);
    }

    /// Takes one of the pulls that may be started, if one is left.
    fn take(&mut self, config: &Config, now: Instant) -> bool {
        if config.qps == 0 {
            return true;
        }
        let full = f64::from(config.burst.max(1));
        let (left, at) = self.tokens.unwrap_or((full, now));
        let gained = now.duration_since(at).as_secs_f64() * f64::from(config.qps);
        let left = (left + gained).min(full);
        let granted = left >= 1.0;
        self.tokens = Some((if granted { left - 1.0 } else { left }, now));
        granted
    }
}

fn normal(reason: &'static str, message: String) -> Event {
    Event {
        warning: false,
        reason,
        message,
    }
}

fn warning(reason: &'static str, message: String) -> Event {
    Event {
        warning: true,
        reason,
        message,
    }
}

/// A duration as Go prints it, in whole milliseconds: `1m2.5s`, `350ms`.
fn go_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis < 1000 {
        return if millis == 0 {
            "0s".into()
        } else {
            format!("{millis}ms")
        };
    }
    let (hours, minutes) = (millis / 3_600_000, millis / 60_000 % 60);
    let seconds = (millis % 60_000) as f64 / 1000.0;
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure() -> Failure {
        Failure {
            reason: Reason::ErrImagePull,
            message: "gone".into(),
        }
    }

    #[test]
    fn each_failure_doubles_the_wait_up_to_the_limit() {
        let (config, start) = (Config::default(), Instant::now());
        let key = ("uid".to_owned(), "app".to_owned());
        let mut limits = Limits::default();
        let mut now = start;
        for wait in [10, 20, 40, 80, 160, 300, 300] {
            limits.failed(key.clone(), &failure(), &config, now);
            let last = Duration::from_secs(wait) - Duration::from_millis(1);
            let waits = limits.back_off(&key, &config, now + last).unwrap();
            assert_eq!(waits.reason, Reason::ImagePullBackOff);
            assert_eq!(
                waits.message,
                r#"Back-off pulling image "app": ErrImagePull: gone"#
            );
            now += Duration::from_secs(wait);
            assert_eq!(limits.back_off(&key, &config, now), None);
        }
        // Another pod does not wait, and after a long time nor does this one for long.
        assert_eq!(
            limits.back_off(&("x".into(), "app".into()), &config, now),
            None
        );
        now += Duration::from_secs(601);
        limits.failed(key.clone(), &failure(), &config, now);
        assert_eq!(
            limits.back_off(&key, &config, now + Duration::from_secs(10)),
            None
        );
    }

    #[test]
    fn pulls_are_limited_in_rate() {
        let (config, start) = (
            Config {
                qps: 5,
                burst: 2,
                ..Config::default()
            },
            Instant::now(),
        );
        let mut limits = Limits::default();
        assert!(limits.take(&config, start) && limits.take(&config, start));
        assert!(!limits.take(&config, start));
        assert!(!limits.take(&config, start + Duration::from_millis(199)));
        assert!(limits.take(&config, start + Duration::from_millis(200)));
    }

    #[test]
    fn durations_look_as_upstreams() {
        let text = |millis| go_duration(Duration::from_millis(millis));
        assert_eq!([text(0), text(350), text(1500)], ["0s", "350ms", "1.5s"]);
        assert_eq!([text(62_050), text(3_600_000)], ["1m2.05s", "1h0m0s"]);
    }
}
