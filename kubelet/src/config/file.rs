//! `KubeletConfiguration`, `kubelet.config.k8s.io/v1beta1`, with all defaults.
//!
//! Names, meaning and defaults are those of `k8s.io/kubelet/config/v1beta1/types.go` and of
//! `pkg/kubelet/apis/config/v1beta1/defaults.go`. A value that upstream takes for "not set" (null, and
//! zero where the field is no pointer) is taken out before it is read, so that the struct is complete
//! and `Option` means that absence is something of its own.

use std::collections::BTreeMap;

use component::config::{Duration, Logging, TracingConfiguration};
use component::features::Features;
use k8s_openapi::api::core::v1::Taint;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Text by name.
pub type Texts = BTreeMap<String, String>;

fn zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What a kubelet is configured with.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeletConfiguration {
    pub enable_server: bool,
    #[serde(skip_serializing_if = "zero")]
    pub static_pod_path: String,
    pub pod_logs_dir: String,
    pub sync_frequency: Duration,
    pub file_check_frequency: Duration,
    pub http_check_frequency: Duration,
    #[serde(rename = "staticPodURL", skip_serializing_if = "zero")]
    pub static_pod_url: String,
    #[serde(rename = "staticPodURLHeader", skip_serializing_if = "zero")]
    pub static_pod_url_header: BTreeMap<String, Vec<String>>,
    pub address: String,
    pub port: i32,
    #[serde(skip_serializing_if = "zero")]
    pub read_only_port: i32,
    #[serde(skip_serializing_if = "zero")]
    pub tls_cert_file: String,
    #[serde(skip_serializing_if = "zero")]
    pub tls_private_key_file: String,
    #[serde(skip_serializing_if = "zero")]
    pub tls_cipher_suites: Vec<String>,
    #[serde(skip_serializing_if = "zero")]
    pub tls_curve_preferences: Vec<i32>,
    #[serde(skip_serializing_if = "zero")]
    pub tls_min_version: String,
    #[serde(skip_serializing_if = "zero")]
    pub rotate_certificates: bool,
    #[serde(rename = "serverTLSBootstrap", skip_serializing_if = "zero")]
    pub server_tls_bootstrap: bool,
    pub authentication: Authentication,
    pub authorization: Authorization,
    #[serde(rename = "registryPullQPS")]
    pub registry_pull_qps: i32,
    pub registry_burst: i32,
    #[serde(skip_serializing_if = "zero")]
    pub image_pull_credentials_verification_policy: String,
    #[serde(skip_serializing_if = "zero")]
    pub preloaded_images_verification_allowlist: Vec<String>,
    #[serde(rename = "eventRecordQPS")]
    pub event_record_qps: i32,
    pub event_burst: i32,
    pub enable_debugging_handlers: bool,
    #[serde(skip_serializing_if = "zero")]
    pub enable_contention_profiling: bool,
    /// 0 serves none.
    pub healthz_port: i32,
    pub healthz_bind_address: String,
    pub oom_score_adj: i32,
    #[serde(skip_serializing_if = "zero")]
    pub cluster_domain: String,
    #[serde(rename = "clusterDNS", skip_serializing_if = "zero")]
    pub cluster_dns: Vec<String>,
    pub streaming_connection_idle_timeout: Duration,
    pub node_status_update_frequency: Duration,
    pub node_status_report_frequency: Duration,
    pub node_lease_duration_seconds: i32,
    #[serde(rename = "imageMinimumGCAge")]
    pub image_minimum_gc_age: Duration,
    #[serde(rename = "imageMaximumGCAge")]
    pub image_maximum_gc_age: Duration,
    #[serde(rename = "imageGCHighThresholdPercent")]
    pub image_gc_high_threshold_percent: i32,
    #[serde(rename = "imageGCLowThresholdPercent")]
    pub image_gc_low_threshold_percent: i32,
    /// Negative: never.
    pub volume_stats_agg_period: proto::time::Duration,
    #[serde(skip_serializing_if = "zero")]
    pub kubelet_cgroups: String,
    #[serde(skip_serializing_if = "zero")]
    pub system_cgroups: String,
    #[serde(skip_serializing_if = "zero")]
    pub cgroup_root: String,
    #[serde(rename = "cgroupsPerQOS")]
    pub cgroups_per_qos: bool,
    pub cgroup_driver: String,
    pub cpu_manager_policy: String,
    #[serde(rename = "singleProcessOOMKill", skip_serializing_if = "zero")]
    pub single_process_oom_kill: Option<bool>,
    #[serde(skip_serializing_if = "zero")]
    pub cpu_manager_policy_options: Texts,
    pub cpu_manager_reconcile_period: Duration,
    pub memory_manager_policy: String,
    pub topology_manager_policy: String,
    pub topology_manager_scope: String,
    #[serde(skip_serializing_if = "zero")]
    pub topology_manager_policy_options: Texts,
    #[serde(skip_serializing_if = "zero")]
    pub qos_reserved: Texts,
    pub runtime_request_timeout: Duration,
    pub hairpin_mode: String,
    pub max_pods: i32,
    #[serde(rename = "podCIDR", skip_serializing_if = "zero")]
    pub pod_cidr: String,
    /// -1: what the node has.
    pub pod_pids_limit: i64,
    pub resolv_conf: String,
    #[serde(skip_serializing_if = "zero")]
    pub run_once: bool,
    #[serde(rename = "cpuCFSQuota")]
    pub cpu_cfs_quota: bool,
    #[serde(rename = "cpuCFSQuotaPeriod")]
    pub cpu_cfs_quota_period: Duration,
    /// -1: all.
    pub node_status_max_images: i32,
    pub max_open_files: i64,
    pub content_type: String,
    #[serde(rename = "kubeAPIQPS")]
    pub kube_api_qps: i32,
    #[serde(rename = "kubeAPIBurst")]
    pub kube_api_burst: i32,
    pub serialize_image_pulls: bool,
    #[serde(skip_serializing_if = "zero")]
    pub max_parallel_image_pulls: Option<i32>,
    /// Without a file there are none; a file that has none gets upstream's.
    #[serde(skip_serializing_if = "zero")]
    pub eviction_hard: Option<Texts>,
    #[serde(skip_serializing_if = "zero")]
    pub eviction_soft: Texts,
    #[serde(skip_serializing_if = "zero")]
    pub eviction_soft_grace_period: Texts,
    pub eviction_pressure_transition_period: Duration,
    #[serde(skip_serializing_if = "zero")]
    pub eviction_max_pod_grace_period: i32,
    #[serde(skip_serializing_if = "zero")]
    pub eviction_minimum_reclaim: Texts,
    pub merge_default_eviction_settings: bool,
    #[serde(skip_serializing_if = "zero")]
    pub pods_per_core: i32,
    pub enable_controller_attach_detach: bool,
    #[serde(skip_serializing_if = "zero")]
    pub protect_kernel_defaults: bool,
    #[serde(rename = "makeIPTablesUtilChains")]
    pub make_iptables_util_chains: bool,
    pub iptables_masquerade_bit: i32,
    pub iptables_drop_bit: i32,
    #[serde(skip_serializing_if = "zero")]
    pub feature_gates: BTreeMap<String, bool>,
    pub fail_swap_on: bool,
    pub memory_swap: MemorySwap,
    pub container_log_max_size: String,
    pub container_log_max_files: i32,
    pub container_log_max_workers: i32,
    pub container_log_monitor_interval: Duration,
    pub config_map_and_secret_change_detection_strategy: String,
    #[serde(skip_serializing_if = "zero")]
    pub system_reserved: Texts,
    #[serde(skip_serializing_if = "zero")]
    pub kube_reserved: Texts,
    #[serde(rename = "reservedSystemCPUs", skip_serializing_if = "zero")]
    pub reserved_system_cpus: String,
    #[serde(skip_serializing_if = "zero")]
    pub show_hidden_metrics_for_version: String,
    #[serde(skip_serializing_if = "zero")]
    pub system_reserved_cgroup: String,
    #[serde(skip_serializing_if = "zero")]
    pub kube_reserved_cgroup: String,
    #[serde(skip_serializing_if = "zero")]
    pub enforce_node_allocatable: Vec<String>,
    #[serde(skip_serializing_if = "zero")]
    pub allowed_unsafe_sysctls: Vec<String>,
    #[serde(skip_serializing_if = "zero")]
    pub default_pod_sysctls: Texts,
    pub volume_plugin_dir: String,
    #[serde(rename = "providerID", skip_serializing_if = "zero")]
    pub provider_id: String,
    #[serde(skip_serializing_if = "zero")]
    pub kernel_memcg_notification: bool,
    pub logging: Logging,
    pub enable_system_log_handler: bool,
    pub enable_system_log_query: bool,
    pub shutdown_grace_period: Duration,
    pub shutdown_grace_period_critical_pods: Duration,
    #[serde(skip_serializing_if = "zero")]
    pub shutdown_grace_period_by_pod_priority: Vec<ShutdownByPriority>,
    pub crash_loop_back_off: CrashLoopBackOff,
    #[serde(skip_serializing_if = "zero")]
    pub reserved_memory: Vec<MemoryReservation>,
    pub enable_profiling_handler: bool,
    pub enable_debug_flags_handler: bool,
    pub seccomp_default: bool,
    #[serde(skip_serializing_if = "zero")]
    pub memory_throttling_factor: Option<f64>,
    pub memory_reservation_policy: String,
    #[serde(skip_serializing_if = "zero")]
    pub register_with_taints: Vec<Taint>,
    pub register_node: bool,
    #[serde(skip_serializing_if = "zero")]
    pub tracing: Option<TracingConfiguration>,
    pub local_storage_capacity_isolation: bool,
    pub container_runtime_endpoint: String,
    #[serde(skip_serializing_if = "zero")]
    pub image_service_endpoint: String,
    #[serde(rename = "failCgroupV1")]
    pub fail_cgroup_v1: bool,
    #[serde(skip_serializing_if = "zero")]
    pub user_namespaces: Option<UserNamespaces>,
}

/// `authentication`: who may talk to the server.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Authentication {
    pub x509: X509Authentication,
    pub webhook: WebhookAuthentication,
    pub anonymous: AnonymousAuthentication,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct X509Authentication {
    #[serde(rename = "clientCAFile", skip_serializing_if = "zero")]
    pub client_ca_file: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct WebhookAuthentication {
    pub enabled: bool,
    #[serde(rename = "cacheTTL")]
    pub cache_ttl: Duration,
}

impl Default for WebhookAuthentication {
    fn default() -> Self {
        Self {
            enabled: true,
            cache_ttl: Duration::from_secs(120),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AnonymousAuthentication {
    pub enabled: bool,
}

/// `authorization`: what they may.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Authorization {
    /// `Webhook` or `AlwaysAllow`.
    pub mode: String,
    pub webhook: WebhookAuthorization,
}

impl Default for Authorization {
    fn default() -> Self {
        Self {
            mode: "Webhook".to_owned(),
            webhook: WebhookAuthorization::default(),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct WebhookAuthorization {
    #[serde(rename = "cacheAuthorizedTTL")]
    pub cache_authorized_ttl: Duration,
    #[serde(rename = "cacheUnauthorizedTTL")]
    pub cache_unauthorized_ttl: Duration,
}

impl Default for WebhookAuthorization {
    fn default() -> Self {
        Self {
            cache_authorized_ttl: Duration::from_secs(300),
            cache_unauthorized_ttl: Duration::from_secs(30),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MemorySwap {
    /// Empty, `NoSwap` or `LimitedSwap`.
    #[serde(skip_serializing_if = "zero")]
    pub swap_behavior: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ShutdownByPriority {
    pub priority: i32,
    pub shutdown_grace_period_seconds: i64,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CrashLoopBackOff {
    #[serde(skip_serializing_if = "zero")]
    pub max_container_restart_period: Option<Duration>,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MemoryReservation {
    pub numa_node: i32,
    pub limits: BTreeMap<String, Quantity>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct UserNamespaces {
    #[serde(rename = "idsPerPod", skip_serializing_if = "zero")]
    pub ids_per_pod: Option<i64>,
}

impl Default for KubeletConfiguration {
    fn default() -> Self {
        super::defaults::configuration()
    }
}

/// Fields that are no pointers upstream: zero means that they are not set.
const ZERO_IS_UNSET: &[&str] = &[
    "syncFrequency",
    "fileCheckFrequency",
    "httpCheckFrequency",
    "address",
    "port",
    "authentication.webhook.cacheTTL",
    "authorization.mode",
    "authorization.webhook.cacheAuthorizedTTL",
    "authorization.webhook.cacheUnauthorizedTTL",
    "registryBurst",
    "eventBurst",
    "healthzBindAddress",
    "streamingConnectionIdleTimeout",
    "nodeStatusReportFrequency",
    "nodeStatusUpdateFrequency",
    "nodeLeaseDurationSeconds",
    "imageMinimumGCAge",
    "volumeStatsAggPeriod",
    "cgroupDriver",
    "cpuManagerPolicy",
    "cpuManagerReconcilePeriod",
    "memoryManagerPolicy",
    "topologyManagerPolicy",
    "topologyManagerScope",
    "runtimeRequestTimeout",
    "hairpinMode",
    "maxPods",
    "maxOpenFiles",
    "contentType",
    "kubeAPIBurst",
    "evictionPressureTransitionPeriod",
    "containerLogMaxSize",
    "configMapAndSecretChangeDetectionStrategy",
    "volumePluginDir",
    "memoryReservationPolicy",
    "containerRuntimeEndpoint",
    "podLogsDir",
    "imagePullCredentialsVerificationPolicy",
];

/// Takes out of a file's tree what upstream takes for "not set", and fills in the defaults that
/// depend on other fields.
pub(super) fn complete(tree: &mut Value) {
    drop_nulls(tree);
    for path in ZERO_IS_UNSET.iter().copied() {
        let (parents, name) = path.rsplit_once('.').unwrap_or(("", path));
        let parent = parents
            .split('.')
            .filter(|p| !p.is_empty())
            .try_fold(&mut *tree, |at, name| at.get_mut(name));
        if let Some(object) = parent.and_then(Value::as_object_mut)
            && object.get(name).is_some_and(is_zero)
        {
            object.remove(name);
        }
    }
    let Some(top) = tree.as_object_mut() else {
        return;
    };
    if let Some(update) = top.get("nodeStatusUpdateFrequency").cloned() {
        top.entry("nodeStatusReportFrequency").or_insert(update);
    }
    let parallel = top.get("maxParallelImagePulls").and_then(Value::as_i64);
    top.entry("serializeImagePulls")
        .or_insert_with(|| parallel.is_none_or(|n| n < 2).into());
    if top.get("podPidsLimit").and_then(Value::as_i64) < Some(0) {
        top.remove("podPidsLimit");
    }
}

/// The defaults that depend on feature gates.
pub(super) fn complete_by_gates(config: &mut KubeletConfiguration, features: &Features) {
    if features.enabled("KubeletCrashLoopBackOffMax") {
        config
            .crash_loop_back_off
            .max_container_restart_period
            .get_or_insert(Duration::from_secs(300));
    }
    let policy = &mut config.image_pull_credentials_verification_policy;
    if features.enabled("KubeletEnsureSecretPulledImages") && policy.is_empty() {
        "NeverVerifyPreloadedImages".clone_into(policy);
    }
}

fn drop_nulls(tree: &mut Value) {
    if let Value::Object(map) = tree {
        map.retain(|_, value| !value.is_null());
        map.values_mut().for_each(drop_nulls);
    }
}

/// Go's zero value: also a duration of nothing, however it is written.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(text) => {
            text.is_empty()
                || text
                    .parse::<proto::time::Duration>()
                    .is_ok_and(|d| d.0 == 0)
        }
        _ => false,
    }
}
