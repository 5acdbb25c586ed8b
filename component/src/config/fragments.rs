//! What upstream's configuration kinds have in common, with their field names and defaults.
//!
//! Sources: `k8s.io/component-base/config/v1alpha1/{types,defaults}.go`,
//! `k8s.io/component-base/logs/api/v1/types.go`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Duration, Problems};
use crate::args::{self, Args};

/// `clientConnection`: how the API server is reached.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientConnection {
    /// Empty means the cluster that the process runs in.
    pub kubeconfig: PathBuf,
    pub accept_content_types: String,
    pub content_type: String,
    /// Requests per second; negative means no limit.
    pub qps: f32,
    /// Requests beyond that rate.
    pub burst: i32,
}

impl Default for ClientConnection {
    fn default() -> Self {
        Self {
            kubeconfig: PathBuf::new(),
            accept_content_types: String::new(),
            content_type: "application/vnd.kubernetes.protobuf".to_owned(),
            qps: 50.0,
            burst: 100,
        }
    }
}

impl ClientConnection {
    /// Upstream's defaults replace zeroes, which files use for "not set".
    pub fn complete(&mut self) {
        let defaults = Self::default();
        if self.content_type.is_empty() {
            self.content_type = defaults.content_type;
        }
        if self.qps == 0.0 {
            self.qps = defaults.qps;
        }
        if self.burst == 0 {
            self.burst = defaults.burst;
        }
    }

    /// Takes over the flags that were given.
    pub fn flags(&mut self, args: &Args) {
        set(
            &mut self.kubeconfig,
            args.given(&args::KUBECONFIG).flatten(),
        );
        set(
            &mut self.content_type,
            args.given(&args::KUBE_API_CONTENT_TYPE),
        );
        set(&mut self.qps, args.given(&args::KUBE_API_QPS));
        set(&mut self.burst, args.given(&args::KUBE_API_BURST));
    }

    /// Upstream's `ValidateClientConnectionConfiguration`.
    pub fn validate(&self, path: &str, problems: &mut Problems) {
        problems.check(
            self.burst >= 0,
            &format!("{path}.burst"),
            "must be non-negative",
        );
    }
}

/// `leaderElection`: which replica works.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LeaderElection {
    pub leader_elect: bool,
    /// How long others wait after the last renewal before they take the lease.
    pub lease_duration: Duration,
    /// How long the holder tries to renew before it gives up.
    pub renew_deadline: Duration,
    /// Between attempts.
    pub retry_period: Duration,
    pub resource_lock: String,
    pub resource_name: String,
    pub resource_namespace: String,
}

impl Default for LeaderElection {
    fn default() -> Self {
        Self {
            leader_elect: true,
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
            resource_lock: "leases".to_owned(),
            resource_name: String::new(),
            resource_namespace: "kube-system".to_owned(),
        }
    }
}

impl LeaderElection {
    /// Upstream's default for a daemon whose lease has this name.
    #[must_use]
    pub fn named(resource_name: &str) -> Self {
        Self {
            resource_name: resource_name.to_owned(),
            ..Self::default()
        }
    }

    /// Takes over the flags that were given.
    pub fn flags(&mut self, args: &Args) {
        set(&mut self.leader_elect, args.given(&args::LEADER_ELECT));
        set(
            &mut self.lease_duration,
            args.given(&args::LEADER_ELECT_LEASE_DURATION).map(Duration),
        );
        set(
            &mut self.renew_deadline,
            args.given(&args::LEADER_ELECT_RENEW_DEADLINE).map(Duration),
        );
        set(
            &mut self.retry_period,
            args.given(&args::LEADER_ELECT_RETRY_PERIOD).map(Duration),
        );
        set(
            &mut self.resource_lock,
            args.given(&args::LEADER_ELECT_RESOURCE_LOCK),
        );
        set(
            &mut self.resource_name,
            args.given(&args::LEADER_ELECT_RESOURCE_NAME),
        );
        set(
            &mut self.resource_namespace,
            args.given(&args::LEADER_ELECT_RESOURCE_NAMESPACE),
        );
    }

    /// Upstream's `ValidateLeaderElectionConfiguration`.
    pub fn validate(&self, path: &str, problems: &mut Problems) {
        if !self.leader_elect {
            return;
        }
        let at = |field: &str| format!("{path}.{field}");
        let zero = Duration::default();
        problems.check(
            self.lease_duration > zero,
            &at("leaseDuration"),
            "must be greater than zero",
        );
        problems.check(
            self.renew_deadline > zero,
            &at("renewDeadline"),
            "must be greater than zero",
        );
        problems.check(
            self.retry_period > zero,
            &at("retryPeriod"),
            "must be greater than zero",
        );
        problems.check(
            self.lease_duration > self.renew_deadline,
            &at("leaseDuration"),
            "must be greater than renewDeadline",
        );
        // Client-go jitters the retry period by a factor of 1.2 and wants it below the deadline.
        problems.check(
            self.renew_deadline.0 > self.retry_period.0.mul_f64(1.2),
            &at("renewDeadline"),
            "must be greater than retryPeriod*1.2",
        );
        problems.check(
            self.resource_lock == "leases",
            &at("resourceLock"),
            "must be leases",
        );
        problems.check(
            !self.resource_name.is_empty(),
            &at("resourceName"),
            "is required",
        );
        problems.check(
            !self.resource_namespace.is_empty(),
            &at("resourceNamespace"),
            "is required",
        );
    }
}

/// `enableProfiling` and its companion: read and without effect, as there is no Go runtime.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Debugging {
    pub enable_profiling: bool,
    pub enable_contention_profiling: bool,
}

impl Default for Debugging {
    fn default() -> Self {
        Self {
            enable_profiling: true,
            enable_contention_profiling: true,
        }
    }
}

/// `logging`: form and amount of the log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Logging {
    /// `text` or `json`.
    pub format: String,
    /// Without effect: lines are written as they come. Nanoseconds or Go's syntax.
    pub flush_frequency: serde_json::Value,
    /// As `--v`.
    pub verbosity: u32,
    /// Without effect: its patterns name upstream's Go files.
    pub vmodule: Vec<serde_json::Value>,
    /// Without effect: streams are neither split nor buffered.
    pub options: serde_json::Value,
}

impl Default for Logging {
    fn default() -> Self {
        Self {
            format: "text".to_owned(),
            flush_frequency: "5s".into(),
            verbosity: 0,
            vmodule: Vec::new(),
            options: serde_json::Value::Object(serde_json::Map::new()),
        }
    }
}

impl Logging {
    /// What the flags say, over the defaults.
    #[must_use]
    pub fn from_flags(args: &Args) -> Self {
        let mut logging = Self::default();
        logging.flags(args);
        logging
    }

    /// Takes over the flags that were given.
    pub fn flags(&mut self, args: &Args) {
        set(&mut self.format, args.given(&args::LOGGING_FORMAT));
        set(&mut self.verbosity, args.given(&args::VERBOSITY));
    }

    pub fn validate(&self, path: &str, problems: &mut Problems) {
        let known = matches!(self.format.as_str(), "text" | "json");
        problems.check(
            known,
            &format!("{path}.format"),
            "unsupported log format, must be text or json",
        );
    }
}

fn set<T>(field: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *field = given;
    }
}
