//! The controllers' names: stable, upstream's, used for flags, logs, metrics, health and service accounts.
//!
//! Source: `cmd/kube-controller-manager/names/controller_names.go`.

macro_rules! names {
    ($($constant:ident = $name:literal;)*) => {
        $(#[doc = concat!("`", $name, "`")] pub const $constant: &str = $name;)*
    };
}

names! {
    SERVICE_ACCOUNT_TOKEN = "serviceaccount-token-controller";
    ENDPOINTS = "endpoints-controller";
    ENDPOINT_SLICE = "endpointslice-controller";
    ENDPOINT_SLICE_MIRRORING = "endpointslice-mirroring-controller";
    REPLICATION_CONTROLLER = "replicationcontroller-controller";
    POD_GARBAGE_COLLECTOR = "pod-garbage-collector-controller";
    RESOURCE_QUOTA = "resourcequota-controller";
    NAMESPACE = "namespace-controller";
    SERVICE_ACCOUNT = "serviceaccount-controller";
    GARBAGE_COLLECTOR = "garbage-collector-controller";
    DAEMON_SET = "daemonset-controller";
    JOB = "job-controller";
    DEPLOYMENT = "deployment-controller";
    REPLICA_SET = "replicaset-controller";
    HORIZONTAL_POD_AUTOSCALER = "horizontal-pod-autoscaler-controller";
    DISRUPTION = "disruption-controller";
    STATEFUL_SET = "statefulset-controller";
    CRON_JOB = "cronjob-controller";
    CERTIFICATE_SIGNING = "certificatesigningrequest-signing-controller";
    CERTIFICATE_APPROVING = "certificatesigningrequest-approving-controller";
    CERTIFICATE_CLEANER = "certificatesigningrequest-cleaner-controller";
    POD_CERTIFICATE_CLEANER = "podcertificaterequest-cleaner-controller";
    TTL = "ttl-controller";
    BOOTSTRAP_SIGNER = "bootstrap-signer-controller";
    TOKEN_CLEANER = "token-cleaner-controller";
    NODE_IPAM = "node-ipam-controller";
    NODE_LIFECYCLE = "node-lifecycle-controller";
    TAINT_EVICTION = "taint-eviction-controller";
    DEVICE_TAINT_EVICTION = "device-taint-eviction-controller";
    PERSISTENT_VOLUME_BINDER = "persistentvolume-binder-controller";
    ATTACH_DETACH = "persistentvolume-attach-detach-controller";
    PERSISTENT_VOLUME_EXPANDER = "persistentvolume-expander-controller";
    CLUSTER_ROLE_AGGREGATION = "clusterrole-aggregation-controller";
    PERSISTENT_VOLUME_CLAIM_PROTECTION = "persistentvolumeclaim-protection-controller";
    PERSISTENT_VOLUME_PROTECTION = "persistentvolume-protection-controller";
    POD_GROUP_PROTECTION = "podgroup-protection-controller";
    TTL_AFTER_FINISHED = "ttl-after-finished-controller";
    ROOT_CA_PUBLISHER = "root-ca-certificate-publisher-controller";
    TRUST_BUNDLE_PUBLISHER = "kube-apiserver-serving-clustertrustbundle-publisher-controller";
    EPHEMERAL_VOLUME = "ephemeral-volume-controller";
    STORAGE_VERSION_GARBAGE_COLLECTOR = "storageversion-garbage-collector-controller";
    RESOURCE_CLAIM = "resourceclaim-controller";
    RESOURCE_POOL_STATUS_REQUEST = "resourcepoolstatusrequest-controller";
    LEGACY_TOKEN_CLEANER = "legacy-serviceaccount-token-cleaner-controller";
    ADMISSION_POLICY_STATUS = "validatingadmissionpolicy-status-controller";
    VOLUME_ATTRIBUTES_CLASS_PROTECTION = "volumeattributesclass-protection-controller";
    SERVICE_CIDR = "service-cidr-controller";
    STORAGE_VERSION_MIGRATOR = "storage-version-migrator-controller";
    SELINUX_WARNING = "selinux-warning-controller";
}
