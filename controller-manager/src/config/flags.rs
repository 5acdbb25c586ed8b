//! The flags that only this daemon has, by upstream's groups.
//!
//! Sources: `cmd/kube-controller-manager/app/options`, `k8s.io/controller-manager/options/generic.go`,
//! `k8s.io/cloud-provider/options/kubecloudshared.go`, `pkg/controller/*/config/v1alpha1/defaults.go`.

use std::time::Duration;

use component::args::{self, Flag, Group, Value};

/// A number in Go's `float64`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Float(pub f64);

impl Value for Float {
    const TYPE: &'static str = "float";

    fn parse(given: &[String]) -> Result<Self, String> {
        let text = given.last().map_or("", String::as_str);
        let invalid = || format!("parsing {text:?}: invalid syntax");
        text.parse().map(Self).map_err(|_| invalid())
    }
}

impl From<Float> for f64 {
    fn from(float: Float) -> Self {
        float.0
    }
}

macro_rules! flags {
    ($($title:literal => { $($constant:ident: $type:ty = $name:literal, $default:literal, $help:literal $(, $fate:ident($why:expr))?;)* })*) => {
        $($(
            #[doc = concat!("`--", $name, "`: ", $help)]
            pub const $constant: Flag<$type> = Flag::new($name, $default, $help)$(.$fate($why))?;
        )*)*

        /// The groups of flags that this daemon does not share with others.
        #[must_use]
        pub fn groups() -> Vec<Group> {
            vec![$(Group::new($title, &[$(&$constant),*])),*]
        }
    };
}

const NO_CLOUD: &str = "cloud providers run in cloud-controller-manager";
const NO_RESYNC: &str = "caches hear of every change, there is nothing to repeat";

flags! {
    "Generic" => {
        CONTROLLERS: Vec<String> = "controllers", "*", "Controllers to enable: '*' stands for all that are on by default, 'foo' for the one of that name, '-foo' disables it.";
        MIN_RESYNC_PERIOD: Duration = "min-resync-period", "12h0m0s", "How often caches are gone through again, between this and twice this.", ignored(NO_RESYNC);
        CONTROLLER_START_INTERVAL: Duration = "controller-start-interval", "0s", "How long to wait between the starts of two controllers.";
        CONTROLLER_SHUTDOWN_TIMEOUT: Duration = "controller-shutdown-timeout", "10s", "How long controllers may take to stop before the process ends.";
        USE_SERVICE_ACCOUNT_CREDENTIALS: bool = "use-service-account-credentials", "false", "Run each controller as a service account of its own in kube-system.";
        ALLOCATE_NODE_CIDRS: bool = "allocate-node-cidrs", "false", "Give each node a range of pod addresses.";
        CIDR_ALLOCATOR_TYPE: String = "cidr-allocator-type", "RangeAllocator", "How ranges of pod addresses are chosen; only RangeAllocator.";
        CLUSTER_CIDR: String = "cluster-cidr", "", "The addresses of all pods; used if --allocate-node-cidrs is set.";
        CLUSTER_NAME: String = "cluster-name", "kubernetes", "A name for the cluster.";
        CLOUD_PROVIDER: String = "cloud-provider", "", "The cloud provider; only 'external' or none.";
        CLOUD_CONFIG: String = "cloud-config", "", "The configuration of the cloud provider.", ignored(NO_CLOUD);
        EXTERNAL_CLOUD_VOLUME_PLUGIN: String = "external-cloud-volume-plugin", "", "The volume plugin of an external cloud provider.", ignored(NO_CLOUD);
        ALLOW_UNTAGGED_CLOUD: bool = "allow-untagged-cloud", "false", "Allow the cluster to run without a cluster id on cloud instances.", ignored(NO_CLOUD);
        CONFIGURE_CLOUD_ROUTES: bool = "configure-cloud-routes", "true", "Configure the ranges of nodes at the cloud provider.", ignored(NO_CLOUD);
        ROUTE_RECONCILIATION_PERIOD: Duration = "route-reconciliation-period", "10s", "How often routes at the cloud provider are looked at.", ignored(NO_CLOUD);
        NODE_SYNC_PERIOD: Duration = "node-sync-period", "0s", "How often nodes are compared with the cloud provider.", ignored(NO_CLOUD);
    }
    "Leader migration" => {
        ENABLE_LEADER_MIGRATION: bool = "enable-leader-migration", "false", "Move controllers to another manager without a gap.", ignored("no controller moves to a cloud controller manager any more");
        LEADER_MIGRATION_CONFIG: String = "leader-migration-config", "", "The configuration of the leader migration.", ignored("no controller moves to a cloud controller manager any more");
    }
    "persistentvolume-attach-detach-controller" => {
        DISABLE_ATTACH_DETACH_SYNC: bool = "disable-attach-detach-reconcile-sync", "false", "Do not compare attached volumes with the world from time to time.";
        ATTACH_DETACH_SYNC_PERIOD: Duration = "attach-detach-reconcile-sync-period", "1m0s", "How often attached volumes are compared with the world; more than a second.";
        DISABLE_FORCE_DETACH: bool = "disable-force-detach-on-timeout", "false", "Never detach a volume by force because its node does not unmount it.";
    }
    "certificatesigningrequest-signing-controller" => {
        SIGNING_CERT: String = "cluster-signing-cert-file", "", "The authority that signs all certificates, in PEM; excludes the more specific flags.";
        SIGNING_KEY: String = "cluster-signing-key-file", "", "Its RSA or ECDSA key in PEM.";
        SIGNING_KUBELET_SERVING_CERT: String = "cluster-signing-kubelet-serving-cert-file", "", "The authority of kubernetes.io/kubelet-serving.";
        SIGNING_KUBELET_SERVING_KEY: String = "cluster-signing-kubelet-serving-key-file", "", "Its key.";
        SIGNING_KUBELET_CLIENT_CERT: String = "cluster-signing-kubelet-client-cert-file", "", "The authority of kubernetes.io/kube-apiserver-client-kubelet.";
        SIGNING_KUBELET_CLIENT_KEY: String = "cluster-signing-kubelet-client-key-file", "", "Its key.";
        SIGNING_CLIENT_CERT: String = "cluster-signing-kube-apiserver-client-cert-file", "", "The authority of kubernetes.io/kube-apiserver-client.";
        SIGNING_CLIENT_KEY: String = "cluster-signing-kube-apiserver-client-key-file", "", "Its key.";
        SIGNING_LEGACY_CERT: String = "cluster-signing-legacy-unknown-cert-file", "", "The authority of kubernetes.io/legacy-unknown.";
        SIGNING_LEGACY_KEY: String = "cluster-signing-legacy-unknown-key-file", "", "Its key.";
        SIGNING_DURATION: Duration = "cluster-signing-duration", "8760h0m0s", "The longest that a certificate is valid; requests may ask for less.";
    }
    "deployment-controller" => {
        CONCURRENT_DEPLOYMENT_SYNCS: i32 = "concurrent-deployment-syncs", "5", "Deployments in work at the same time.";
    }
    "disruption-controller" => {
        CONCURRENT_DISRUPTION_SYNCS: i32 = "concurrent-disruption-syncs", "1", "Disruption budgets in work at the same time.";
    }
    "device-taint-eviction-controller" => {
        CONCURRENT_DEVICE_TAINT_SYNCS: i32 = "concurrent-device-taint-eviction-syncs", "8", "Evictions and status updates in work at the same time.";
    }
    "resourceclaim-controller" => {
        CONCURRENT_RESOURCE_CLAIM_SYNCS: i32 = "concurrent-resourceclaim-syncs", "50", "Resource claims in work at the same time.";
    }
    "statefulset-controller" => {
        CONCURRENT_STATEFUL_SET_SYNCS: i32 = "concurrent-statefulset-syncs", "5", "Stateful sets in work at the same time.";
    }
    "daemonset-controller" => {
        CONCURRENT_DAEMON_SET_SYNCS: i32 = "concurrent-daemonset-syncs", "2", "Daemon sets in work at the same time.";
    }
    "endpoints-controller" => {
        CONCURRENT_ENDPOINT_SYNCS: i32 = "concurrent-endpoint-syncs", "5", "Endpoints in work at the same time.";
        ENDPOINT_BATCH_PERIOD: Duration = "endpoint-updates-batch-period", "0s", "How long to wait for further changes of pods before endpoints are written.";
    }
    "endpointslice-controller" => {
        CONCURRENT_SERVICE_ENDPOINT_SYNCS: i32 = "concurrent-service-endpoint-syncs", "5", "Services in work at the same time; 1 to 50.";
        MAX_ENDPOINTS_PER_SLICE: i32 = "max-endpoints-per-slice", "100", "Endpoints in one slice; 1 to 1000.";
        ENDPOINT_SLICE_BATCH_PERIOD: Duration = "endpointslice-updates-batch-period", "0s", "How long to wait for further changes of pods before slices are written.";
    }
    "endpointslice-mirroring-controller" => {
        MIRRORING_SYNCS: i32 = "mirroring-concurrent-service-endpoint-syncs", "5", "Endpoints in work at the same time; 1 to 50.";
        MIRRORING_MAX_ENDPOINTS: i32 = "mirroring-max-endpoints-per-subset", "1000", "Endpoints of one subset in one slice; 1 to 1000.";
        MIRRORING_BATCH_PERIOD: Duration = "mirroring-endpointslice-updates-batch-period", "0s", "How long to wait for further changes of endpoints before slices are written.";
    }
    "ephemeral-volume-controller" => {
        CONCURRENT_EPHEMERAL_VOLUME_SYNCS: i32 = "concurrent-ephemeralvolume-syncs", "5", "Ephemeral volumes in work at the same time.";
    }
    "garbage-collector-controller" => {
        CONCURRENT_GC_SYNCS: i32 = "concurrent-gc-syncs", "20", "Objects that the garbage collector works on at the same time.";
        ENABLE_GARBAGE_COLLECTOR: bool = "enable-garbage-collector", "true", "Run the garbage collector; the API server has the same flag.";
    }
    "horizontal-pod-autoscaler-controller" => {
        CONCURRENT_HPA_SYNCS: i32 = "concurrent-horizontal-pod-autoscaler-syncs", "5", "Autoscalers in work at the same time.";
        HPA_SYNC_PERIOD: Duration = "horizontal-pod-autoscaler-sync-period", "15s", "How often autoscalers read metrics.";
        HPA_DOWNSCALE_STABILIZATION: Duration = "horizontal-pod-autoscaler-downscale-stabilization", "5m0s", "How far back recommendations count before an autoscaler scales down.";
        HPA_TOLERANCE: Float = "horizontal-pod-autoscaler-tolerance", "0.1", "The smallest change of the ratio to what is desired that an autoscaler acts on.";
        HPA_CPU_INITIALIZATION: Duration = "horizontal-pod-autoscaler-cpu-initialization-period", "5m0s", "How long after its start a pod's CPU samples may be skipped.";
        HPA_READINESS_DELAY: Duration = "horizontal-pod-autoscaler-initial-readiness-delay", "30s", "How long after its start a change of a pod's readiness is its first.";
    }
    "job-controller" => {
        CONCURRENT_JOB_SYNCS: i32 = "concurrent-job-syncs", "5", "Jobs in work at the same time.";
    }
    "cronjob-controller" => {
        CONCURRENT_CRON_JOB_SYNCS: i32 = "concurrent-cron-job-syncs", "5", "Cron jobs in work at the same time.";
    }
    "legacy-serviceaccount-token-cleaner-controller" => {
        LEGACY_TOKEN_CLEAN_UP_PERIOD: Duration = "legacy-service-account-token-clean-up-period", "8760h0m0s", "How long a token in a secret must not have been used before it is deleted.";
    }
    "namespace-controller" => {
        NAMESPACE_SYNC_PERIOD: Duration = "namespace-sync-period", "5m0s", "How often namespaces are gone through again.", ignored(NO_RESYNC);
        CONCURRENT_NAMESPACE_SYNCS: i32 = "concurrent-namespace-syncs", "10", "Namespaces in work at the same time.";
    }
    "node-ipam-controller" => {
        SERVICE_CLUSTER_IP_RANGE: String = "service-cluster-ip-range", "", "The addresses of services, which no node gets; used if --allocate-node-cidrs is set.";
        NODE_CIDR_MASK_SIZE: i32 = "node-cidr-mask-size", "0", "The mask of a node's range; 24 for IPv4 and 64 for IPv6 unless given.";
        NODE_CIDR_MASK_SIZE_IPV4: i32 = "node-cidr-mask-size-ipv4", "0", "The mask of a node's IPv4 range in a dual-stack cluster; 24 unless given.";
        NODE_CIDR_MASK_SIZE_IPV6: i32 = "node-cidr-mask-size-ipv6", "0", "The mask of a node's IPv6 range in a dual-stack cluster; 64 unless given.";
    }
    "node-lifecycle-controller" => {
        NODE_STARTUP_GRACE_PERIOD: Duration = "node-startup-grace-period", "1m0s", "How long a node that starts may be silent before it is unhealthy.";
        NODE_MONITOR_GRACE_PERIOD: Duration = "node-monitor-grace-period", "50s", "How long a running node may be silent before it is unhealthy.";
        NODE_MONITOR_PERIOD: Duration = "node-monitor-period", "5s", "How often the state of nodes is looked at.";
        NODE_EVICTION_RATE: f32 = "node-eviction-rate", "0.1", "Nodes per second whose pods are deleted, while the zone is healthy.";
        SECONDARY_NODE_EVICTION_RATE: f32 = "secondary-node-eviction-rate", "0.01", "The same while the zone is not healthy; 0 in small clusters.";
        LARGE_CLUSTER_SIZE_THRESHOLD: i32 = "large-cluster-size-threshold", "50", "Up to so many nodes a cluster is small.";
        UNHEALTHY_ZONE_THRESHOLD: f32 = "unhealthy-zone-threshold", "0.55", "The part of a zone's nodes (at least 3) that must not be ready for the zone to be unhealthy.";
    }
    "persistentvolume-binder-controller" => {
        PV_BINDER_SYNC_PERIOD: Duration = "pvclaimbinder-sync-period", "15s", "How often volumes and claims are gone through again.";
        PV_RECYCLER_NFS_TEMPLATE: String = "pv-recycler-pod-template-filepath-nfs", "", "The pod that recycles NFS volumes.";
        PV_RECYCLER_NFS_TIMEOUT: i32 = "pv-recycler-minimum-timeout-nfs", "300", "The shortest deadline of such a pod, in seconds.";
        PV_RECYCLER_NFS_INCREMENT: i32 = "pv-recycler-increment-timeout-nfs", "30", "What a Gi adds to it, in seconds.";
        PV_RECYCLER_HOST_PATH_TEMPLATE: String = "pv-recycler-pod-template-filepath-hostpath", "", "The pod that recycles host path volumes.";
        PV_RECYCLER_HOST_PATH_TIMEOUT: i32 = "pv-recycler-minimum-timeout-hostpath", "60", "The shortest deadline of such a pod, in seconds.";
        PV_RECYCLER_HOST_PATH_INCREMENT: i32 = "pv-recycler-timeout-increment-hostpath", "30", "What a Gi adds to it, in seconds.";
        ENABLE_HOST_PATH_PROVISIONER: bool = "enable-hostpath-provisioner", "false", "Provision host path volumes; for single nodes while developing.";
        ENABLE_DYNAMIC_PROVISIONING: bool = "enable-dynamic-provisioning", "true", "Provision volumes for claims.";
        FLEX_VOLUME_PLUGIN_DIR: String = "flex-volume-plugin-dir", "/usr/libexec/kubernetes/kubelet-plugins/volume/exec/", "Where flex volume plugins are.";
    }
    "pod-garbage-collector-controller" => {
        TERMINATED_POD_GC_THRESHOLD: i32 = "terminated-pod-gc-threshold", "12500", "So many ended pods may stay; 0 or less keeps all.";
    }
    "replicaset-controller" => {
        CONCURRENT_REPLICA_SET_SYNCS: i32 = "concurrent-replicaset-syncs", "5", "Replica sets in work at the same time.";
    }
    "replicationcontroller-controller" => {
        CONCURRENT_RC_SYNCS: i32 = "concurrent-rc-syncs", "5", "Replication controllers in work at the same time.";
    }
    "resourcequota-controller" => {
        RESOURCE_QUOTA_SYNC_PERIOD: Duration = "resource-quota-sync-period", "5m0s", "How often the use of quotas is counted anew.";
        CONCURRENT_RESOURCE_QUOTA_SYNCS: i32 = "concurrent-resource-quota-syncs", "5", "Quotas in work at the same time.";
    }
    "serviceaccount-controller" => {
        SERVICE_ACCOUNT_KEY: String = "service-account-private-key-file", "", "The key that signs tokens in secrets; without it there are none.";
        CONCURRENT_TOKEN_SYNCS: i32 = "concurrent-serviceaccount-token-syncs", "5", "Tokens in work at the same time.";
        ROOT_CA_FILE: String = "root-ca-file", "", "The authorities in PEM that pods trust to be the API server's.";
    }
    "ttl-after-finished-controller" => {
        CONCURRENT_TTL_SYNCS: i32 = "concurrent-ttl-after-finished-syncs", "5", "Finished jobs in work at the same time.";
    }
    "validatingadmissionpolicy-status-controller" => {
        CONCURRENT_POLICY_SYNCS: i32 = "concurrent-validating-admission-policy-status-syncs", "5", "Policies in work at the same time.";
    }
}

/// All flags of the daemon.
#[must_use]
pub fn all() -> Vec<Group> {
    let mut all = groups();
    all.extend([
        args::secure_serving().with_default(&args::SECURE_PORT, "10257"),
        args::delegated_authentication(),
        args::delegated_authorization(),
        args::client_connection()
            .with_default(&args::KUBE_API_QPS, "20")
            .with_default(&args::KUBE_API_BURST, "30"),
        args::leader_election()
            .with_default(&args::LEADER_ELECT_RESOURCE_NAME, "kube-controller-manager"),
        args::debugging(),
        args::logs(),
        args::metrics(),
        args::global(),
        args::versions(),
    ]);
    all
}
