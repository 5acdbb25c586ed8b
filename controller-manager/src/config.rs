//! What the daemon runs with: `KubeControllerManagerConfiguration`, made of flags alone as upstream's is, and shown
//! at `/configz` under upstream's field names.

use component::args::{self, Args};
use component::config::{ClientConnection, Debugging, Duration, LeaderElection, Problems};
use serde::Serialize;

pub mod flags;

use crate::controllers::Choice;

macro_rules! sections {
    ($($section:ident { $($(#[$attribute:meta])* $field:ident: $type:ty = $flag:ident,)* })*) => {$(
        #[derive(Clone, PartialEq, Debug, Serialize)]
        #[serde(rename_all = "PascalCase")]
        pub struct $section {
            $($(#[$attribute])* pub $field: $type,)*
        }

        impl $section {
            fn of(args: &Args) -> Self {
                Self { $($field: args.get(&flags::$flag).into(),)* }
            }
        }
    )*};
}

sections! {
    AttachDetach {
        disable_attach_detach_reconciler_sync: bool = DISABLE_ATTACH_DETACH_SYNC,
        reconciler_sync_loop_period: Duration = ATTACH_DETACH_SYNC_PERIOD,
        disable_force_detach_on_timeout: bool = DISABLE_FORCE_DETACH,
    }
    DaemonSet { concurrent_daemon_set_syncs: i32 = CONCURRENT_DAEMON_SET_SYNCS, }
    Deployment { concurrent_deployment_syncs: i32 = CONCURRENT_DEPLOYMENT_SYNCS, }
    Disruption { concurrent_disruption_syncs: i32 = CONCURRENT_DISRUPTION_SYNCS, }
    DeviceTaintEviction { concurrent_syncs: i32 = CONCURRENT_DEVICE_TAINT_SYNCS, }
    ResourceClaim { concurrent_syncs: i32 = CONCURRENT_RESOURCE_CLAIM_SYNCS, }
    StatefulSet { concurrent_stateful_set_syncs: i32 = CONCURRENT_STATEFUL_SET_SYNCS, }
    Endpoint {
        concurrent_endpoint_syncs: i32 = CONCURRENT_ENDPOINT_SYNCS,
        endpoint_updates_batch_period: Duration = ENDPOINT_BATCH_PERIOD,
    }
    EndpointSlice {
        concurrent_service_endpoint_syncs: i32 = CONCURRENT_SERVICE_ENDPOINT_SYNCS,
        max_endpoints_per_slice: i32 = MAX_ENDPOINTS_PER_SLICE,
        endpoint_updates_batch_period: Duration = ENDPOINT_SLICE_BATCH_PERIOD,
    }
    EndpointSliceMirroring {
        mirroring_concurrent_service_endpoint_syncs: i32 = MIRRORING_SYNCS,
        mirroring_max_endpoints_per_subset: i32 = MIRRORING_MAX_ENDPOINTS,
        mirroring_endpoint_updates_batch_period: Duration = MIRRORING_BATCH_PERIOD,
    }
    EphemeralVolume { concurrent_ephemeral_volume_syncs: i32 = CONCURRENT_EPHEMERAL_VOLUME_SYNCS, }
    GarbageCollector {
        enable_garbage_collector: bool = ENABLE_GARBAGE_COLLECTOR,
        #[serde(rename = "ConcurrentGCSyncs")]
        concurrent_gc_syncs: i32 = CONCURRENT_GC_SYNCS,
    }
    HorizontalPodAutoscaler {
        concurrent_horizontal_pod_autoscaler_syncs: i32 = CONCURRENT_HPA_SYNCS,
        horizontal_pod_autoscaler_sync_period: Duration = HPA_SYNC_PERIOD,
        horizontal_pod_autoscaler_downscale_stabilization_window: Duration = HPA_DOWNSCALE_STABILIZATION,
        horizontal_pod_autoscaler_tolerance: f64 = HPA_TOLERANCE,
        #[serde(rename = "HorizontalPodAutoscalerCPUInitializationPeriod")]
        horizontal_pod_autoscaler_cpu_initialization_period: Duration = HPA_CPU_INITIALIZATION,
        horizontal_pod_autoscaler_initial_readiness_delay: Duration = HPA_READINESS_DELAY,
    }
    Job { concurrent_job_syncs: i32 = CONCURRENT_JOB_SYNCS, }
    CronJob { concurrent_cron_job_syncs: i32 = CONCURRENT_CRON_JOB_SYNCS, }
    LegacyTokenCleaner { clean_up_period: Duration = LEGACY_TOKEN_CLEAN_UP_PERIOD, }
    Namespace {
        namespace_sync_period: Duration = NAMESPACE_SYNC_PERIOD,
        concurrent_namespace_syncs: i32 = CONCURRENT_NAMESPACE_SYNCS,
    }
    NodeIpam {
        /// One range, or one of each family, comma-separated.
        #[serde(rename = "ServiceCIDR")]
        service_cidr: String = SERVICE_CLUSTER_IP_RANGE,
        #[serde(rename = "NodeCIDRMaskSize")]
        node_cidr_mask_size: i32 = NODE_CIDR_MASK_SIZE,
        #[serde(rename = "NodeCIDRMaskSizeIPv4")]
        node_cidr_mask_size_ipv4: i32 = NODE_CIDR_MASK_SIZE_IPV4,
        #[serde(rename = "NodeCIDRMaskSizeIPv6")]
        node_cidr_mask_size_ipv6: i32 = NODE_CIDR_MASK_SIZE_IPV6,
    }
    NodeLifecycle {
        node_startup_grace_period: Duration = NODE_STARTUP_GRACE_PERIOD,
        node_monitor_grace_period: Duration = NODE_MONITOR_GRACE_PERIOD,
        node_monitor_period: Duration = NODE_MONITOR_PERIOD,
        node_eviction_rate: f32 = NODE_EVICTION_RATE,
        secondary_node_eviction_rate: f32 = SECONDARY_NODE_EVICTION_RATE,
        large_cluster_size_threshold: i32 = LARGE_CLUSTER_SIZE_THRESHOLD,
        unhealthy_zone_threshold: f32 = UNHEALTHY_ZONE_THRESHOLD,
    }
    VolumeBinder {
        #[serde(rename = "PVClaimBinderSyncPeriod")]
        claim_binder_sync_period: Duration = PV_BINDER_SYNC_PERIOD,
        enable_host_path_provisioning: bool = ENABLE_HOST_PATH_PROVISIONER,
        enable_dynamic_provisioning: bool = ENABLE_DYNAMIC_PROVISIONING,
    }
    PodGc {
        #[serde(rename = "TerminatedPodGCThreshold")]
        terminated_pod_gc_threshold: i32 = TERMINATED_POD_GC_THRESHOLD,
    }
    ReplicaSet {
        #[serde(rename = "ConcurrentRSSyncs")]
        concurrent_rs_syncs: i32 = CONCURRENT_REPLICA_SET_SYNCS,
    }
    ReplicationController {
        #[serde(rename = "ConcurrentRCSyncs")]
        concurrent_rc_syncs: i32 = CONCURRENT_RC_SYNCS,
    }
    ResourceQuota {
        resource_quota_sync_period: Duration = RESOURCE_QUOTA_SYNC_PERIOD,
        concurrent_resource_quota_syncs: i32 = CONCURRENT_RESOURCE_QUOTA_SYNCS,
    }
    ServiceAccount {
        service_account_key_file: String = SERVICE_ACCOUNT_KEY,
        #[serde(rename = "ConcurrentSATokenSyncs")]
        concurrent_sa_token_syncs: i32 = CONCURRENT_TOKEN_SYNCS,
        #[serde(rename = "RootCAFile")]
        root_ca_file: String = ROOT_CA_FILE,
    }
    TtlAfterFinished {
        #[serde(rename = "ConcurrentTTLSyncs")]
        concurrent_ttl_syncs: i32 = CONCURRENT_TTL_SYNCS,
    }
    AdmissionPolicyStatus { concurrent_policy_syncs: i32 = CONCURRENT_POLICY_SYNCS, }
}

/// Where one signer's authority is; empty where no file is named.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Signer {
    pub cert_file: String,
    pub key_file: String,
}

/// The signers of certificate requests.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CsrSigning {
    /// Signs for all, if it is given.
    pub cluster_signing_cert_file: String,
    pub cluster_signing_key_file: String,
    pub kubelet_serving_signer_configuration: Signer,
    pub kubelet_client_signer_configuration: Signer,
    #[serde(rename = "KubeAPIServerClientSignerConfiguration")]
    pub kube_apiserver_client_signer_configuration: Signer,
    pub legacy_unknown_signer_configuration: Signer,
    pub cluster_signing_duration: Duration,
}

impl CsrSigning {
    fn of(args: &Args) -> Self {
        let signer = |cert, key| Signer {
            cert_file: args.get(cert),
            key_file: args.get(key),
        };
        Self {
            cluster_signing_cert_file: args.get(&flags::SIGNING_CERT),
            cluster_signing_key_file: args.get(&flags::SIGNING_KEY),
            kubelet_serving_signer_configuration: signer(
                &flags::SIGNING_KUBELET_SERVING_CERT,
                &flags::SIGNING_KUBELET_SERVING_KEY,
            ),
            kubelet_client_signer_configuration: signer(
                &flags::SIGNING_KUBELET_CLIENT_CERT,
                &flags::SIGNING_KUBELET_CLIENT_KEY,
            ),
            kube_apiserver_client_signer_configuration: signer(
                &flags::SIGNING_CLIENT_CERT,
                &flags::SIGNING_CLIENT_KEY,
            ),
            legacy_unknown_signer_configuration: signer(
                &flags::SIGNING_LEGACY_CERT,
                &flags::SIGNING_LEGACY_KEY,
            ),
            cluster_signing_duration: args.get(&flags::SIGNING_DURATION).into(),
        }
    }
}

/// What all controllers share.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Generic {
    pub min_resync_period: Duration,
    pub client_connection: ClientConnection,
    pub controller_start_interval: Duration,
    pub leader_election: LeaderElection,
    pub controllers: Vec<String>,
    pub debugging: Debugging,
    pub leader_migration_enabled: bool,
}

/// What upstream's two controller managers share.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct KubeCloudShared {
    pub use_service_account_credentials: bool,
    #[serde(rename = "AllocateNodeCIDRs")]
    pub allocate_node_cidrs: bool,
    #[serde(rename = "CIDRAllocatorType")]
    pub cidr_allocator_type: String,
    /// One range, or one of each family, comma-separated.
    #[serde(rename = "ClusterCIDR")]
    pub cluster_cidr: String,
    pub cluster_name: String,
}

/// The configuration, complete.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct KubeControllerManagerConfiguration {
    pub generic: Generic,
    pub kube_cloud_shared: KubeCloudShared,
    #[serde(rename = "AttachDetachController")]
    pub attach_detach: AttachDetach,
    #[serde(rename = "CSRSigningController")]
    pub csr_signing: CsrSigning,
    #[serde(rename = "DaemonSetController")]
    pub daemon_set: DaemonSet,
    #[serde(rename = "DeploymentController")]
    pub deployment: Deployment,
    #[serde(rename = "DisruptionController")]
    pub disruption: Disruption,
    #[serde(rename = "DeviceTaintEvictionController")]
    pub device_taint_eviction: DeviceTaintEviction,
    #[serde(rename = "ResourceClaimController")]
    pub resource_claim: ResourceClaim,
    #[serde(rename = "StatefulSetController")]
    pub stateful_set: StatefulSet,
    #[serde(rename = "EndpointController")]
    pub endpoint: Endpoint,
    #[serde(rename = "EndpointSliceController")]
    pub endpoint_slice: EndpointSlice,
    #[serde(rename = "EndpointSliceMirroringController")]
    pub endpoint_slice_mirroring: EndpointSliceMirroring,
    #[serde(rename = "EphemeralVolumeController")]
    pub ephemeral_volume: EphemeralVolume,
    #[serde(rename = "GarbageCollectorController")]
    pub garbage_collector: GarbageCollector,
    #[serde(rename = "HPAController")]
    pub horizontal_pod_autoscaler: HorizontalPodAutoscaler,
    #[serde(rename = "JobController")]
    pub job: Job,
    #[serde(rename = "CronJobController")]
    pub cron_job: CronJob,
    #[serde(rename = "LegacySATokenCleaner")]
    pub legacy_token_cleaner: LegacyTokenCleaner,
    #[serde(rename = "NamespaceController")]
    pub namespace: Namespace,
    #[serde(rename = "NodeIPAMController")]
    pub node_ipam: NodeIpam,
    #[serde(rename = "NodeLifecycleController")]
    pub node_lifecycle: NodeLifecycle,
    #[serde(rename = "PersistentVolumeBinderController")]
    pub persistent_volume_binder: VolumeBinder,
    #[serde(rename = "PodGCController")]
    pub pod_gc: PodGc,
    #[serde(rename = "ReplicaSetController")]
    pub replica_set: ReplicaSet,
    #[serde(rename = "ReplicationController")]
    pub replication_controller: ReplicationController,
    #[serde(rename = "ResourceQuotaController")]
    pub resource_quota: ResourceQuota,
    #[serde(rename = "SAController")]
    pub service_account: ServiceAccount,
    #[serde(rename = "TTLAfterFinishedController")]
    pub ttl_after_finished: TtlAfterFinished,
    #[serde(rename = "ValidatingAdmissionPolicyStatusController")]
    pub admission_policy_status: AdmissionPolicyStatus,
}

impl KubeControllerManagerConfiguration {
    /// The configuration that the flags say, and which controllers it asks for.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn of(args: &Args) -> Result<(Self, Choice), Problems> {
        let mut problems = Problems::new();
        let choice = Choice::new(&args.get(&flags::CONTROLLERS)).unwrap_or_else(|unknown| {
            for name in unknown {
                problems.add("--controllers", name);
            }
            Choice::none()
        });
        let config = Self::read(args, &choice);
        config.validate(args, &mut problems);
        problems.or((config, choice))
    }

    fn read(args: &Args, choice: &Choice) -> Self {
        let mut client_connection = ClientConnection {
            qps: args.get(&args::KUBE_API_QPS),
            burst: args.get(&args::KUBE_API_BURST),
            ..ClientConnection::default()
        };
        client_connection.flags(args);
        let mut leader_election = LeaderElection::named("kube-controller-manager");
        leader_election.flags(args);
        Self {
            generic: Generic {
                min_resync_period: args.get(&flags::MIN_RESYNC_PERIOD).into(),
                client_connection,
                controller_start_interval: args.get(&flags::CONTROLLER_START_INTERVAL).into(),
                leader_election,
                controllers: choice.items().to_vec(),
                debugging: Debugging {
                    enable_profiling: args.get(&args::PROFILING),
                    enable_contention_profiling: args.get(&args::CONTENTION_PROFILING),
                },
                leader_migration_enabled: args.get(&flags::ENABLE_LEADER_MIGRATION),
            },
            kube_cloud_shared: KubeCloudShared {
                use_service_account_credentials: args.get(&flags::USE_SERVICE_ACCOUNT_CREDENTIALS),
                allocate_node_cidrs: args.get(&flags::ALLOCATE_NODE_CIDRS),
                cidr_allocator_type: args.get(&flags::CIDR_ALLOCATOR_TYPE),
                cluster_cidr: args.get(&flags::CLUSTER_CIDR),
                cluster_name: args.get(&flags::CLUSTER_NAME),
            },
            attach_detach: AttachDetach::of(args),
            csr_signing: CsrSigning::of(args),
            daemon_set: DaemonSet::of(args),
            deployment: Deployment::of(args),
            disruption: Disruption::of(args),
            device_taint_eviction: DeviceTaintEviction::of(args),
            resource_claim: ResourceClaim::of(args),
            stateful_set: StatefulSet::of(args),
            endpoint: Endpoint::of(args),
            endpoint_slice: EndpointSlice::of(args),
            endpoint_slice_mirroring: EndpointSliceMirroring::of(args),
            ephemeral_volume: EphemeralVolume::of(args),
            garbage_collector: GarbageCollector::of(args),
            horizontal_pod_autoscaler: HorizontalPodAutoscaler::of(args),
            job: Job::of(args),
            cron_job: CronJob::of(args),
            legacy_token_cleaner: LegacyTokenCleaner::of(args),
            namespace: Namespace::of(args),
            node_ipam: NodeIpam::of(args),
            node_lifecycle: NodeLifecycle::of(args),
            persistent_volume_binder: VolumeBinder::of(args),
            pod_gc: PodGc::of(args),
            replica_set: ReplicaSet::of(args),
            replication_controller: ReplicationController::of(args),
            resource_quota: ResourceQuota::of(args),
            service_account: ServiceAccount::of(args),
            ttl_after_finished: TtlAfterFinished::of(args),
            admission_policy_status: AdmissionPolicyStatus::of(args),
        }
    }

    fn validate(&self, args: &Args, problems: &mut Problems) {
        let generic = &self.generic;
        generic.client_connection.validate("--kube-api", problems);
        generic.leader_election.validate("--leader-elect", problems);
        let provider = args.get(&flags::CLOUD_PROVIDER);
        problems.check(
            provider.is_empty() || provider == "external",
            "--cloud-provider",
            "built-in cloud providers do not exist, must be external or empty",
        );
        problems.check(
            matches!(
                self.kube_cloud_shared.cidr_allocator_type.as_str(),
                "" | "RangeAllocator"
            ),
            "--cidr-allocator-type",
            "must be RangeAllocator",
        );
        self.validate_slices(problems);
        self.validate_signers(problems);
        problems.check(
            self.attach_detach.reconciler_sync_loop_period.0 > std::time::Duration::from_secs(1),
            "--attach-detach-reconcile-sync-period",
            "must be more than a second",
        );
        let hpa = self
            .horizontal_pod_autoscaler
            .concurrent_horizontal_pod_autoscaler_syncs;
        problems.check(
            hpa > 0,
            "--concurrent-horizontal-pod-autoscaler-syncs",
            "must be greater than 0",
        );
    }

    fn validate_slices(&self, problems: &mut Problems) {
        let slices = &self.endpoint_slice;
        let mirror = &self.endpoint_slice_mirroring;
        for (flag, value, most) in [
            (
                "--concurrent-service-endpoint-syncs",
                slices.concurrent_service_endpoint_syncs,
                50,
            ),
            (
                "--max-endpoints-per-slice",
                slices.max_endpoints_per_slice,
                1000,
            ),
            (
                "--mirroring-concurrent-service-endpoint-syncs",
                mirror.mirroring_concurrent_service_endpoint_syncs,
                50,
            ),
            (
                "--mirroring-max-endpoints-per-subset",
                mirror.mirroring_max_endpoints_per_subset,
                1000,
            ),
        ] {
            problems.check(
                (1..=most).contains(&value),
                flag,
                format!("must be from 1 to {most}"),
            );
        }
    }

    /// `CSRSigningControllerOptions.Validate`.
    fn validate_signers(&self, problems: &mut Problems) {
        let csr = &self.csr_signing;
        let specific = [
            &csr.kubelet_serving_signer_configuration,
            &csr.kubelet_client_signer_configuration,
            &csr.kube_apiserver_client_signer_configuration,
            &csr.legacy_unknown_signer_configuration,
        ];
        let general =
            !csr.cluster_signing_cert_file.is_empty() || !csr.cluster_signing_key_file.is_empty();
        for signer in specific {
            problems.check(
                signer.cert_file.is_empty() == signer.key_file.is_empty(),
                "--cluster-signing-*-file",
                "cannot specify one of a certificate and its key without the other",
            );
            problems.check(
                !general || *signer == Signer::default(),
                "--cluster-signing-cert-file",
                "cannot be used together with the flags of single signers",
            );
        }
    }

    /// What `/configz` shows.
    #[must_use]
    pub fn configz(&self) -> serde_json::Value {
        let mut shown = serde_json::to_value(self).unwrap_or_default();
        shown["apiVersion"] = "kubecontrollermanager.config.k8s.io/v1alpha1".into();
        shown["kind"] = "KubeControllerManagerConfiguration".into();
        shown
    }
}

#[cfg(test)]
mod tests;
