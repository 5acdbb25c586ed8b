//! `KubeSchedulerConfiguration` of `kubescheduler.config.k8s.io/v1`, and the flags over it.
//!
//! Source: `k8s.io/kube-scheduler/config/v1`, `pkg/scheduler/apis/config/{v1,validation}`.

use component::args::{self, Args};
use component::config::{ClientConnection, LeaderElection, Problems, Versioned};
use serde::{Deserialize, Serialize};

use crate::extender::ExtenderConfig;

mod args_of_plugins;
mod profiles;

pub use args_of_plugins::{
    Gates, PluginArgs, PreemptionArgs, ResourceSpec, ShapePoint, SpreadArgs,
};
pub use profiles::{PluginRef, PluginSet, Plugins, ProfileConfig};

/// The file. Absent fields have upstream's defaults.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeSchedulerConfiguration {
    /// Without effect: a cycle is one thread's work here.
    pub parallelism: i32,
    pub leader_election: LeaderElection,
    pub client_connection: ClientConnection,
    /// Serves `/debug/pprof` and `/debug/flags/v`.
    pub enable_profiling: bool,
    /// Without effect, as there is no Go runtime.
    pub enable_contention_profiling: bool,
    /// Of the nodes that are looked for before scoring; 0 adapts to the size of the cluster.
    pub percentage_of_nodes_to_score: i32,
    pub pod_initial_backoff_seconds: i64,
    pub pod_max_backoff_seconds: i64,
    pub profiles: Vec<ProfileConfig>,
    pub extenders: Vec<ExtenderConfig>,
    /// Without effect: caches are always kept, so that a new leader starts at once.
    pub delay_cache_until_active: bool,
}

impl Default for KubeSchedulerConfiguration {
    fn default() -> Self {
        Self {
            parallelism: 16,
            leader_election: LeaderElection::named("kube-scheduler"),
            client_connection: ClientConnection::default(),
            enable_profiling: true,
            enable_contention_profiling: true,
            percentage_of_nodes_to_score: 0,
            pod_initial_backoff_seconds: 1,
            pod_max_backoff_seconds: 10,
            profiles: Vec::new(),
            extenders: Vec::new(),
            delay_cache_until_active: false,
        }
    }
}

impl Versioned for KubeSchedulerConfiguration {
    const API_VERSIONS: &'static [&'static str] = &["kubescheduler.config.k8s.io/v1"];
    const KIND: &'static str = "KubeSchedulerConfiguration";
}

impl KubeSchedulerConfiguration {
    /// The configuration that flags and the file say, complete.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn load(args: &Args) -> anyhow::Result<Self> {
        let mut config: Self = match args.get(&args::CONFIG) {
            Some(path) => component::config::load(&path)?,
            None => {
                let mut config = Self::default();
                config.client_connection.flags(args);
                config.enable_profiling = args.get(&args::PROFILING);
                config
            }
        };
        config.leader_election.flags(args);
        config.complete();
        let mut problems = Problems::new();
        config.validate(&mut problems);
        Ok(problems.or(config)?)
    }

    /// Resources that extenders look after alone.
    #[must_use]
    pub fn left_to_extenders(&self) -> Vec<String> {
        let managed = self.extenders.iter().flat_map(|e| &e.managed_resources);
        let ignored = managed.filter(|m| m.ignored_by_scheduler);
        ignored.map(|m| m.name.clone()).collect()
    }

    fn complete(&mut self) {
        self.client_connection.complete();
        let lease = &mut self.leader_election;
        for (field, default) in [
            (&mut lease.resource_name, "kube-scheduler"),
            (&mut lease.resource_namespace, "kube-system"),
            (&mut lease.resource_lock, "leases"),
        ] {
            if field.is_empty() {
                default.clone_into(field);
            }
        }
        if self.profiles.is_empty() {
            self.profiles.push(ProfileConfig::default());
        }
        if let [only] = self.profiles.as_mut_slice()
            && only.scheduler_name.is_empty()
        {
            "default-scheduler".clone_into(&mut only.scheduler_name);
        }
    }

    fn validate(&self, problems: &mut Problems) {
        self.client_connection
            .validate("clientConnection", problems);
        self.leader_election.validate("leaderElection", problems);
        problems.check(
            self.parallelism > 0,
            "parallelism",
            "should be an integer value greater than zero",
        );
        let percent = |p: i32| (0..=100).contains(&p);
        problems.check(
            percent(self.percentage_of_nodes_to_score),
            "percentageOfNodesToScore",
            "not in valid range [0-100]",
        );
        problems.check(
            self.pod_initial_backoff_seconds > 0,
            "podInitialBackoffSeconds",
            "must be greater than 0",
        );
        problems.check(
            self.pod_max_backoff_seconds >= self.pod_initial_backoff_seconds,
            "podMaxBackoffSeconds",
            "must be greater than or equal to PodInitialBackoffSeconds",
        );
        crate::extender::validate(&self.extenders, problems);
        profiles::validate(&self.profiles, problems);
    }
}

#[cfg(test)]
mod tests;
