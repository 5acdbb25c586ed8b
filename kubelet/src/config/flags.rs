//! The kubelet's flags: `cmd/kubelet/app/options/options.go`.
//!
//! Flags of two kinds: those that name files and identity, which only the command line has, and those
//! that stand for a field of the configuration file. The latter are deprecated, as upstream has them,
//! and win over the file.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use component::args::{self, AnyFlag, Args, Flag, Group};

use super::file::KubeletConfiguration;
use super::values::{Headers, Labels, Options, Reservations, Signed, Taints, Thresholds};

macro_rules! flags {
    ($group:ident: $($constant:ident: $type:ty = $name:literal, $default:literal, $help:literal $(, $fate:ident($why:expr))?;)*) => {
        $(#[doc = concat!("`--", $name, "`: ", $help)]
        pub const $constant: Flag<$type> = Flag::new($name, $default, $help)$(.$fate($why))?;)*
        const $group: &[&dyn AnyFlag] = &[$(&$constant),*];
    };
}

const CONTAINERS: &str =
    "Use --eviction-hard or --eviction-soft instead. Will be removed in a future version.";

flags! { NODE:
    CONFIG: Option<PathBuf> = "config", "", "The configuration file. Flags override what it says.";
    CONFIG_DIR: Option<PathBuf> = "config-dir", "", "A directory whose files named *.conf override settings of --config, in lexical order, subdirectories included.";
    KUBECONFIG: Option<PathBuf> = "kubeconfig", "", "How to reach the API server; without it the kubelet runs standalone.";
    BOOTSTRAP_KUBECONFIG: Option<PathBuf> = "bootstrap-kubeconfig", "", "How to reach the API server to ask for a client certificate, if the file of --kubeconfig does not exist; that file is then written.";
    HOSTNAME_OVERRIDE: String = "hostname-override", "", "The node's name, if it is not the host name.";
    NODE_IP: String = "node-ip", "", "The node's address, or one of each family separated by a comma; '::' prefers the default IPv6 address.";
    CERT_DIR: PathBuf = "cert-dir", "/var/lib/kubelet/pki", "Where certificates are kept.";
    CLOUD_PROVIDER: String = "cloud-provider", "", "Empty, or 'external' if a cloud controller manager initializes the node.";
    ROOT_DIR: PathBuf = "root-dir", "/var/lib/kubelet", "Where the kubelet keeps its files.";
    SECCOMP_DEFAULT: bool = "seccomp-default", "false", "Use RuntimeDefault as the default seccomp profile.";
    NODE_LABELS: Labels = "node-labels", "", "Labels to register the node with, as key=value pairs separated by commas.";
    LOCK_FILE: Option<PathBuf> = "lock-file", "", "A file that only one kubelet holds at a time.";
    EXIT_ON_LOCK_CONTENTION: bool = "exit-on-lock-contention", "false", "Exit when another process opens --lock-file.";
    MINIMUM_CONTAINER_TTL_DURATION: Duration = "minimum-container-ttl-duration", "0s", "The age of an ended container before it is removed.", deprecated(CONTAINERS);
    MAXIMUM_DEAD_CONTAINERS_PER_CONTAINER: i32 = "maximum-dead-containers-per-container", "1", "Ended instances to keep of a container.", deprecated(CONTAINERS);
    MAXIMUM_DEAD_CONTAINERS: i32 = "maximum-dead-containers", "-1", "Ended instances to keep on the node; negative means any number.", deprecated(CONTAINERS);
    EXPERIMENTAL_MOUNTER_PATH: String = "experimental-mounter-path", "", "The path of a mounter program.", ignored("mounts are made by system calls");
    EXPERIMENTAL_ALLOCATABLE_IGNORE_EVICTION: bool = "experimental-allocatable-ignore-eviction", "false", "Leave hard eviction thresholds out of what is allocatable.", deprecated("will be removed in 1.25 or later.");
    RUNTIME_CGROUPS: String = "runtime-cgroups", "", "The cgroup of the container runtime.", ignored("the kubelet is its own container runtime");
    IMAGE_CREDENTIAL_PROVIDER_CONFIG: Option<PathBuf> = "image-credential-provider-config", "", "The configuration of credential provider plugins.";
    IMAGE_CREDENTIAL_PROVIDER_BIN_DIR: Option<PathBuf> = "image-credential-provider-bin-dir", "", "Where credential provider plugins are.";
    HOUSEKEEPING_INTERVAL: Duration = "housekeeping-interval", "10s", "Between two looks at containers.", ignored("counters are read when they are asked for");
}

const IN_FILE: &str = "This parameter should be set via the config file specified by the Kubelet's --config flag. See https://kubernetes.io/docs/tasks/administer-cluster/kubelet-config-file/ for more information.";

/// Flags that stand for fields of the file. Defaults are not said twice: what is not given leaves the
/// field alone.
macro_rules! overrides {
    ($($constant:ident: $type:ty = $name:literal, $help:literal => |$config:ident, $value:ident| $set:expr;)*) => {
        $(#[doc = concat!("`--", $name, "`: ", $help)]
        const $constant: Flag<$type> = Flag::new($name, "", $help).deprecated(IN_FILE);)*
        const OVERRIDES: &[&dyn AnyFlag] = &[$(&$constant),*];

        /// Takes over the flags that were given.
        #[allow(clippy::too_many_lines)] // A table: one line for each flag.
        pub(super) fn apply(args: &Args, config: &mut KubeletConfiguration) {
            $(if let Some($value) = args.given(&$constant) {
                let $config = &mut *config;
                $set;
            })*
        }
    };
}

overrides! {
    ENABLE_SERVER: bool = "enable-server", "Serve the kubelet's API." => |c, v| c.enable_server = v;
    FAIL_SWAP_ON: bool = "fail-swap-on", "Do not start if swap is on." => |c, v| c.fail_swap_on = v;
    POD_MANIFEST_PATH: String = "pod-manifest-path", "The directory of static pods, or one file." => |c, v| c.static_pod_path = v;
    SYNC_FREQUENCY: Duration = "sync-frequency", "The longest time between two looks at a pod." => |c, v| c.sync_frequency.0 = v;
    FILE_CHECK_FREQUENCY: Duration = "file-check-frequency", "Between two looks at static pods." => |c, v| c.file_check_frequency.0 = v;
    HTTP_CHECK_FREQUENCY: Duration = "http-check-frequency", "Between two requests to --manifest-url." => |c, v| c.http_check_frequency.0 = v;
    MANIFEST_URL: String = "manifest-url", "Where more pods are." => |c, v| c.static_pod_url = v;
    MANIFEST_URL_HEADER: Headers = "manifest-url-header", "Headers for --manifest-url, as a:b,c:d." => |c, v| c.static_pod_url_header = v.0;
    ADDRESS: IpAddr = "address", "The address to serve on." => |c, v| c.address = v.to_string();
    PORT: i32 = "port", "The port to serve on." => |c, v| c.port = v;
    READ_ONLY_PORT: i32 = "read-only-port", "The port to serve on without authentication; 0 for none." => |c, v| c.read_only_port = v;
    CONTAINER_RUNTIME_ENDPOINT: String = "container-runtime-endpoint", "The socket of the container runtime." => |c, v| c.container_runtime_endpoint = v;
    IMAGE_SERVICE_ENDPOINT: String = "image-service-endpoint", "The socket of the image service." => |c, v| c.image_service_endpoint = v;
    ANONYMOUS_AUTH: bool = "anonymous-auth", "Take requests without credentials for anonymous ones." => |c, v| c.authentication.anonymous.enabled = v;
    AUTHENTICATION_TOKEN_WEBHOOK: bool = "authentication-token-webhook", "Ask the API server about bearer tokens." => |c, v| c.authentication.webhook.enabled = v;
    AUTHENTICATION_TOKEN_WEBHOOK_CACHE_TTL: Duration = "authentication-token-webhook-cache-ttl", "How long its answers are kept." => |c, v| c.authentication.webhook.cache_ttl.0 = v;
    CLIENT_CA_FILE: String = "client-ca-file", "The authorities of client certificates." => |c, v| c.authentication.x509.client_ca_file = v;
    AUTHORIZATION_MODE: String = "authorization-mode", "AlwaysAllow or Webhook." => |c, v| c.authorization.mode = v;
    AUTHORIZATION_WEBHOOK_CACHE_AUTHORIZED_TTL: Duration = "authorization-webhook-cache-authorized-ttl", "How long permissions are kept." => |c, v| c.authorization.webhook.cache_authorized_ttl.0 = v;
    AUTHORIZATION_WEBHOOK_CACHE_UNAUTHORIZED_TTL: Duration = "authorization-webhook-cache-unauthorized-ttl", "How long refusals are kept." => |c, v| c.authorization.webhook.cache_unauthorized_ttl.0 = v;
    TLS_CERT_FILE: String = "tls-cert-file", "The serving certificate." => |c, v| c.tls_cert_file = v;
    TLS_PRIVATE_KEY_FILE: String = "tls-private-key-file", "The key of --tls-cert-file." => |c, v| c.tls_private_key_file = v;
    ROTATE_SERVER_CERTIFICATES: bool = "rotate-server-certificates", "Ask the API server for serving certificates." => |c, v| c.server_tls_bootstrap = v;
    TLS_CIPHER_SUITES: Vec<String> = "tls-cipher-suites", "Cipher suites for TLS 1.2, in Go's names." => |c, v| c.tls_cipher_suites = v;
    TLS_MIN_VERSION: String = "tls-min-version", "The lowest TLS version: VersionTLS12 or VersionTLS13." => |c, v| c.tls_min_version = v;
    ROTATE_CERTIFICATES: bool = "rotate-certificates", "Ask for a new client certificate before the old one expires." => |c, v| c.rotate_certificates = v;
    REGISTRY_QPS: i32 = "registry-qps", "Pulls per second; 0 for any number." => |c, v| c.registry_pull_qps = v;
    REGISTRY_BURST: i32 = "registry-burst", "Pulls at once beyond --registry-qps." => |c, v| c.registry_burst = v;
    EVENT_QPS: i32 = "event-qps", "Events per second; 0 for any number." => |c, v| c.event_record_qps = v;
    EVENT_BURST: i32 = "event-burst", "Events at once beyond --event-qps." => |c, v| c.event_burst = v;
    ENABLE_DEBUGGING_HANDLERS: bool = "enable-debugging-handlers", "Serve logs, exec and the like." => |c, v| c.enable_debugging_handlers = v;
    CONTENTION_PROFILING: bool = "contention-profiling", "Go's lock profiles." => |c, v| c.enable_contention_profiling = v;
    HEALTHZ_PORT: i32 = "healthz-port", "The port of /healthz; 0 for none." => |c, v| c.healthz_port = v;
    HEALTHZ_BIND_ADDRESS: IpAddr = "healthz-bind-address", "The address of /healthz." => |c, v| c.healthz_bind_address = v.to_string();
    OOM_SCORE_ADJ: i32 = "oom-score-adj", "The kubelet's own oom_score_adj." => |c, v| c.oom_score_adj = v;
    CLUSTER_DOMAIN: String = "cluster-domain", "The cluster's domain, which pods search." => |c, v| c.cluster_domain = v;
    VOLUME_PLUGIN_DIR: String = "volume-plugin-dir", "Where flexvolume plugins are." => |c, v| c.volume_plugin_dir = v;
    CLUSTER_DNS: Vec<String> = "cluster-dns", "The name servers of pods with dnsPolicy ClusterFirst." => |c, v| c.cluster_dns = v;
    STREAMING_CONNECTION_IDLE_TIMEOUT: Duration = "streaming-connection-idle-timeout", "After which a quiet stream ends; 0 for never." => |c, v| c.streaming_connection_idle_timeout.0 = v;
    NODE_STATUS_UPDATE_FREQUENCY: Duration = "node-status-update-frequency", "How often the node's status is computed." => |c, v| c.node_status_update_frequency.0 = v;
    MINIMUM_IMAGE_TTL_DURATION: Duration = "minimum-image-ttl-duration", "The age of an unused image before it is removed." => |c, v| c.image_minimum_gc_age.0 = v;
    IMAGE_GC_HIGH_THRESHOLD: i32 = "image-gc-high-threshold", "Percent of the disk from which on images are removed." => |c, v| c.image_gc_high_threshold_percent = v;
    IMAGE_GC_LOW_THRESHOLD: i32 = "image-gc-low-threshold", "Percent of the disk down to which images are removed." => |c, v| c.image_gc_low_threshold_percent = v;
    VOLUME_STATS_AGG_PERIOD: Signed = "volume-stats-agg-period", "How often the disk usage of volumes is computed; negative for never." => |c, v| c.volume_stats_agg_period = v.0;
    KUBELET_CGROUPS: String = "kubelet-cgroups", "The cgroup to run the kubelet in." => |c, v| c.kubelet_cgroups = v;
    SYSTEM_CGROUPS: String = "system-cgroups", "The cgroup for processes that are in none." => |c, v| c.system_cgroups = v;
    CGROUPS_PER_QOS: bool = "cgroups-per-qos", "Make cgroups of QoS classes and pods." => |c, v| c.cgroups_per_qos = v;
    CGROUP_DRIVER: String = "cgroup-driver", "cgroupfs or systemd." => |c, v| c.cgroup_driver = v;
    CGROUP_ROOT: String = "cgroup-root", "The cgroup above all pods." => |c, v| c.cgroup_root = v;
    CPU_MANAGER_POLICY: String = "cpu-manager-policy", "none or static." => |c, v| c.cpu_manager_policy = v;
    CPU_MANAGER_POLICY_OPTIONS: Options = "cpu-manager-policy-options", "key=value, once for each option." => |c, v| c.cpu_manager_policy_options = v.0;
    CPU_MANAGER_RECONCILE_PERIOD: Duration = "cpu-manager-reconcile-period", "How often CPU sets are checked." => |c, v| c.cpu_manager_reconcile_period.0 = v;
    QOS_RESERVED: BTreeMap<String, String> = "qos-reserved", "How much of requests is reserved by QoS class, such as memory=50%." => |c, v| c.qos_reserved = v;
    TOPOLOGY_MANAGER_POLICY: String = "topology-manager-policy", "none, best-effort, restricted or single-numa-node." => |c, v| c.topology_manager_policy = v;
    RUNTIME_REQUEST_TIMEOUT: Duration = "runtime-request-timeout", "How long a call of the runtime may take." => |c, v| c.runtime_request_timeout.0 = v;
    HAIRPIN_MODE: String = "hairpin-mode", "promiscuous-bridge, hairpin-veth or none." => |c, v| c.hairpin_mode = v;
    MAX_PODS: i32 = "max-pods", "How many pods the node takes." => |c, v| c.max_pods = v;
    POD_CIDR: String = "pod-cidr", "The addresses of pods; in standalone mode only." => |c, v| c.pod_cidr = v;
    POD_MAX_PIDS: i64 = "pod-max-pids", "Processes in a pod; -1 for what the node has." => |c, v| c.pod_pids_limit = if v < 0 { -1 } else { v };
    RESOLV_CONF: String = "resolv-conf", "The resolver configuration of pods with dnsPolicy Default." => |c, v| c.resolv_conf = v;
    RUNONCE: bool = "runonce", "No longer supported." => |c, v| c.run_once = v;
    CPU_CFS_QUOTA: bool = "cpu-cfs-quota", "Enforce CPU limits." => |c, v| c.cpu_cfs_quota = v;
    CPU_CFS_QUOTA_PERIOD: Duration = "cpu-cfs-quota-period", "The period of CPU limits." => |c, v| c.cpu_cfs_quota_period.0 = v;
    ENABLE_CONTROLLER_ATTACH_DETACH: bool = "enable-controller-attach-detach", "Leave attaching of volumes to the controller manager." => |c, v| c.enable_controller_attach_detach = v;
    MAKE_IPTABLES_UTIL_CHAINS: bool = "make-iptables-util-chains", "Keep the chains that say where the kubelet's iptables rules are." => |c, v| c.make_iptables_util_chains = v;
    CONTAINER_LOG_MAX_SIZE: String = "container-log-max-size", "The size from which on a container's log is rotated." => |c, v| c.container_log_max_size = v;
    CONTAINER_LOG_MAX_FILES: i32 = "container-log-max-files", "Files of a container's log; at least 2." => |c, v| c.container_log_max_files = v;
    ALLOWED_UNSAFE_SYSCTLS: Vec<String> = "allowed-unsafe-sysctls", "Unsafe sysctls that pods may set; an ending * matches anything." => |c, v| c.allowed_unsafe_sysctls = v;
    NODE_STATUS_MAX_IMAGES: i32 = "node-status-max-images", "Images in the node's status; -1 for all." => |c, v| c.node_status_max_images = v;
    KERNEL_MEMCG_NOTIFICATION: bool = "kernel-memcg-notification", "Be told by the kernel when memory thresholds are crossed." => |c, v| c.kernel_memcg_notification = v;
    LOCAL_STORAGE_CAPACITY_ISOLATION: bool = "local-storage-capacity-isolation", "Account for local ephemeral storage." => |c, v| c.local_storage_capacity_isolation = v;
    MAX_OPEN_FILES: i64 = "max-open-files", "Files that the kubelet may open." => |c, v| c.max_open_files = v;
    KUBE_API_CONTENT_TYPE: String = "kube-api-content-type", "The content type of requests to the API server." => |c, v| c.content_type = v;
    KUBE_API_QPS: i32 = "kube-api-qps", "Requests per second to the API server; 0 for the default." => |c, v| c.kube_api_qps = v;
    KUBE_API_BURST: i32 = "kube-api-burst", "Requests at once beyond --kube-api-qps." => |c, v| c.kube_api_burst = v;
    SERIALIZE_IMAGE_PULLS: bool = "serialize-image-pulls", "Pull one image at a time." => |c, v| c.serialize_image_pulls = v;
    EVICTION_HARD: Thresholds = "eviction-hard", "Thresholds at which pods are evicted, such as memory.available<1Gi." => |c, v| c.eviction_hard = Some(v.0);
    EVICTION_SOFT: Thresholds = "eviction-soft", "Thresholds at which pods are evicted after a while." => |c, v| c.eviction_soft = v.0;
    EVICTION_SOFT_GRACE_PERIOD: BTreeMap<String, String> = "eviction-soft-grace-period", "That while, such as memory.available=1m30s." => |c, v| c.eviction_soft_grace_period = v;
    EVICTION_PRESSURE_TRANSITION_PERIOD: Duration = "eviction-pressure-transition-period", "How long a pressure condition outlives the pressure." => |c, v| c.eviction_pressure_transition_period.0 = v;
    EVICTION_MAX_POD_GRACE_PERIOD: i32 = "eviction-max-pod-grace-period", "Seconds that pods get at a soft eviction; negative for the pod's own." => |c, v| c.eviction_max_pod_grace_period = v;
    EVICTION_MINIMUM_RECLAIM: BTreeMap<String, String> = "eviction-minimum-reclaim", "How much to free at least, such as imagefs.available=2Gi." => |c, v| c.eviction_minimum_reclaim = v;
    PODS_PER_CORE: i32 = "pods-per-core", "Pods for each core; 0 for no such limit." => |c, v| c.pods_per_core = v;
    PROTECT_KERNEL_DEFAULTS: bool = "protect-kernel-defaults", "Do not change kernel settings, but fail if they are wrong." => |c, v| c.protect_kernel_defaults = v;
    RESERVED_CPUS: String = "reserved-cpus", "CPUs that pods do not get, such as 0-1,4." => |c, v| c.reserved_system_cpus = v;
    TOPOLOGY_MANAGER_SCOPE: String = "topology-manager-scope", "container or pod." => |c, v| c.topology_manager_scope = v;
    TOPOLOGY_MANAGER_POLICY_OPTIONS: BTreeMap<String, String> = "topology-manager-policy-options", "Options of the topology manager." => |c, v| c.topology_manager_policy_options = v;
    SYSTEM_RESERVED: BTreeMap<String, String> = "system-reserved", "Reserved for the system, such as cpu=200m,memory=500Mi." => |c, v| c.system_reserved = v;
    KUBE_RESERVED: BTreeMap<String, String> = "kube-reserved", "Reserved for Kubernetes' daemons, such as cpu=200m,memory=500Mi." => |c, v| c.kube_reserved = v;
    ENFORCE_NODE_ALLOCATABLE: Vec<String> = "enforce-node-allocatable", "What is enforced: none, pods, system-reserved, kube-reserved, and the latter two with -compressible." => |c, v| c.enforce_node_allocatable = v;
    SYSTEM_RESERVED_CGROUP: String = "system-reserved-cgroup", "The cgroup that --system-reserved limits." => |c, v| c.system_reserved_cgroup = v;
    KUBE_RESERVED_CGROUP: String = "kube-reserved-cgroup", "The cgroup that --kube-reserved limits." => |c, v| c.kube_reserved_cgroup = v;
    MEMORY_MANAGER_POLICY: String = "memory-manager-policy", "None or Static." => |c, v| c.memory_manager_policy = v;
    RESERVED_MEMORY: Reservations = "reserved-memory", "Memory reserved by NUMA node, such as 0:memory=1Gi." => |c, v| c.reserved_memory = v.0;
    REGISTER_NODE: bool = "register-node", "Register the node with the API server." => |c, v| c.register_node = v;
    REGISTER_WITH_TAINTS: Taints = "register-with-taints", "Taints to register the node with, as key=value:effect separated by commas." => |c, v| c.register_with_taints = v.0;
}

// These stay: they are not marked as deprecated upstream.
flags! { LASTING:
    PROVIDER_ID: String = "provider-id", "", "What identifies the node at its provider.";
    FAIL_CGROUP_V1: bool = "fail-cgroupv1", "true", "Do not start where cgroups are of version 1.";
}

/// All flags of the kubelet.
#[must_use]
pub fn groups() -> Vec<Group> {
    vec![
        Group::new("Node", NODE),
        Group::new("Configuration", OVERRIDES),
        Group::new("Configuration", LASTING),
        args::logs(),
        Group::new("Global", &[&args::FEATURE_GATES, &args::VERSION]),
    ]
}

/// Takes over the flags that were given, in whatever group they are.
pub(super) fn override_file(args: &Args, config: &mut KubeletConfiguration) {
    apply(args, config);
    if let Some(id) = args.given(&PROVIDER_ID) {
        config.provider_id = id;
    }
    if let Some(fail) = args.given(&FAIL_CGROUP_V1) {
        config.fail_cgroup_v1 = fail;
    }
    if args.given(&SECCOMP_DEFAULT) == Some(true) {
        config.seccomp_default = true;
    }
    config.logging.flags(args);
    if let Some(gates) = args.given(&args::FEATURE_GATES) {
        config.feature_gates.extend(gates.0);
    }
}
