//! What upstream's `ValidateKubeletConfiguration` and `ValidateKubeletFlags` refuse.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::time::Duration;

use component::config::Problems;
use component::features::Features;

use super::file::KubeletConfiguration;
use crate::container_manager::cpus;
use crate::container_manager::threshold;

type Check = fn(&KubeletConfiguration, &Features, &mut Problems);

const CHECKS: &[Check] = &[
    numbers,
    images,
    gates,
    taints,
    policies,
    shutdown,
    allocatable,
    memory,
    logs,
    cgroups,
    eviction,
    tracing,
];

/// Notes all that is wrong, by field.
pub(super) fn configuration(c: &KubeletConfiguration, on: &Features, problems: &mut Problems) {
    for check in CHECKS {
        check(c, on, problems);
    }
}

fn range<T: PartialOrd + Display>(
    problems: &mut Problems,
    field: &str,
    value: T,
    (low, high): (T, T),
) {
    problems.check(
        (&low..=&high).contains(&&value),
        field,
        format!("{value} must be between {low} and {high}, inclusive"),
    );
}

fn tracing(c: &KubeletConfiguration, _: &Features, problems: &mut Problems) {
    if let Some(tracing) = &c.tracing {
        tracing.validate("tracing.", problems);
    }
}

fn numbers(c: &KubeletConfiguration, _: &Features, problems: &mut Problems) {
    problems.check(
        c.node_lease_duration_seconds > 0,
        "nodeLeaseDurationSeconds",
        "must be greater than 0",
    );
    let not_negative: [(&str, i64); 9] = [
        ("eventBurst", c.event_burst.into()),
        ("eventRecordQPS", c.event_record_qps.into()),
        ("kubeAPIBurst", c.kube_api_burst.into()),
        ("kubeAPIQPS", c.kube_api_qps.into()),
        ("maxOpenFiles", c.max_open_files),
        ("maxPods", c.max_pods.into()),
        ("podsPerCore", c.pods_per_core.into()),
        ("registryBurst", c.registry_burst.into()),
        ("registryPullQPS", c.registry_pull_qps.into()),
    ];
    for (field, value) in not_negative {
        problems.check(
            value >= 0,
            field,
            format!("{value} must not be a negative number"),
        );
    }
    range(problems, "healthzPort", c.healthz_port, (0, 65535));
    range(problems, "port", c.port, (1, 65535));
    range(problems, "readOnlyPort", c.read_only_port, (0, 65535));
    range(problems, "oomScoreAdj", c.oom_score_adj, (-1000, 1000));
    range(problems, "iptablesDropBit", c.iptables_drop_bit, (0, 31));
    range(
        problems,
        "iptablesMasqueradeBit",
        c.iptables_masquerade_bit,
        (0, 31),
    );
    problems.check(
        c.node_status_max_images >= -1,
        "nodeStatusMaxImages",
        format!("{} must be -1 or greater", c.node_status_max_images),
    );
    for (field, text) in [
        ("address", &c.address),
        ("healthzBindAddress", &c.healthz_bind_address),
    ] {
        let address = text.parse::<std::net::IpAddr>();
        problems.check(
            address.is_ok(),
            field,
            format!("failed to parse IP: {text:?}"),
        );
    }
}

fn images(c: &KubeletConfiguration, on: &Features, problems: &mut Problems) {
    let (low, high) = (
        c.image_gc_low_threshold_percent,
        c.image_gc_high_threshold_percent,
    );
    range(problems, "imageGCHighThresholdPercent", high, (0, 100));
    range(problems, "imageGCLowThresholdPercent", low, (0, 100));
    problems.check(
        low < high,
        "imageGCLowThresholdPercent",
        format!("{low} must be less than imageGCHighThresholdPercent {high}"),
    );
    let oldest = c.image_maximum_gc_age;
    problems.check(
        oldest.0.is_zero() || oldest > c.image_minimum_gc_age,
        "imageMaximumGCAge",
        "must be greater than imageMinimumGCAge",
    );
    if let Some(parallel) = c.max_parallel_image_pulls {
        problems.check(
            parallel >= 1,
            "maxParallelImagePulls",
            format!("{parallel} must be a positive number"),
        );
        problems.check(
            !c.serialize_image_pulls || parallel <= 1,
            "maxParallelImagePulls",
            "cannot be larger than 1 unless serializeImagePulls is set to false",
        );
    }
    let policy = &c.image_pull_credentials_verification_policy;
    let field = "imagePullCredentialsVerificationPolicy";
    if on.enabled("KubeletEnsureSecretPulledImages") {
        one_of(problems, field, policy, VERIFICATION);
        problems.check(
            c.preloaded_images_verification_allowlist.is_empty()
                || policy == "NeverVerifyAllowlistedImages",
            "preloadedImagesVerificationAllowlist",
            "can only be set if imagePullCredentialsVerificationPolicy is \"NeverVerifyAllowlistedImages\"",
        );
    } else {
        problems.check(
            policy.is_empty() && c.preloaded_images_verification_allowlist.is_empty(),
            field,
            "must not be set if KubeletEnsureSecretPulledImages feature gate is not enabled",
        );
    }
}

const VERIFICATION: &[&str] = &[
    "NeverVerify",
    "NeverVerifyPreloadedImages",
    "NeverVerifyAllowlistedImages",
    "AlwaysVerify",
];

fn gates(c: &KubeletConfiguration, on: &Features, problems: &mut Problems) {
    let period = c.cpu_cfs_quota_period.0;
    if on.enabled("CustomCPUCFSQuotaPeriod") {
        problems.check(
            (Duration::from_millis(1)..=Duration::from_secs(1)).contains(&period),
            "cpuCFSQuotaPeriod",
            "must be between 1ms and 1sec, inclusive",
        );
    } else {
        problems.check(
            period == Duration::from_millis(100),
            "cpuCFSQuotaPeriod",
            "requires feature gate CustomCPUCFSQuotaPeriod",
        );
    }
    let restart = c.crash_loop_back_off.max_container_restart_period;
    if let Some(period) = restart {
        let field = "crashLoopBackOff.maxContainerRestartPeriod";
        problems.check(
            on.enabled("KubeletCrashLoopBackOffMax"),
            field,
            "must not be set without feature gate KubeletCrashLoopBackOffMax",
        );
        problems.check(
            (1_000..=300_000).contains(&period.0.as_millis()),
            field,
            "must be set between 1s and 300s",
        );
    }
    let needs: [(&str, bool, &str); 5] = [
        (
            "serverTLSBootstrap",
            c.server_tls_bootstrap,
            "RotateKubeletServerCertificate",
        ),
        (
            "enableSystemLogQuery",
            c.enable_system_log_query,
            "NodeLogQuery",
        ),
        (
            "defaultPodSysctls",
            !c.default_pod_sysctls.is_empty(),
            "DefaultPodSysctls",
        ),
        (
            "memoryReservationPolicy",
            c.memory_reservation_policy == "TieredReservation",
            "MemoryQoS",
        ),
        (
            "memorySwap.swapBehavior",
            !c.memory_swap.swap_behavior.is_empty(),
            "NodeSwap",
        ),
    ];
    for (field, used, gate) in needs {
        problems.check(
            !used || on.enabled(gate),
            field,
            format!("requires feature gate {gate}"),
        );
    }
    problems.check(
        !c.run_once,
        "runOnce",
        "Runonce mode has been deprecated and should not be set",
    );
    problems.check(
        !c.enable_system_log_query || c.enable_system_log_handler,
        "enableSystemLogQuery",
        "enableSystemLogHandler is required",
    );
}

fn taints(c: &KubeletConfiguration, _: &Features, problems: &mut Problems) {
    for (i, taint) in c.register_with_taints.iter().enumerate() {
        let at = format!("registerWithTaints[{i}]");
        let right = proto::meta::names::label_key_problems(&taint.key).is_empty()
            && proto::meta::names::label_value_problems(taint.value.as_deref().unwrap_or_default())
                .is_empty()
            && matches!(
                taint.effect.as_str(),
                "NoSchedule" | "PreferNoSchedule" | "NoExecute"
            );
        problems.check(right, &at, "invalid taint");
        problems.check(
            taint.time_added.is_none(),
            &format!("{at}.timeAdded"),
            "must not be set",
        );
    }
}

fn one_of(problems: &mut Problems, field: &str, value: &str, known: &[&str]) {
    problems.check(
        known.contains(&value),
        field,
        format!("{value:?} must be one of: {}", known.join(", ")),
    );
}

fn policies(c: &KubeletConfiguration, on: &Features, problems: &mut Problems) {
    let texts: [(&str, &str, &[&str]); 8] = [
        (
            "topologyManagerPolicy",
            &c.topology_manager_policy,
            &["none", "best-effort", "restricted", "single-numa-node"],
        ),
        (
            "topologyManagerScope",
            &c.topology_manager_scope,
            &["container", "pod"],
        ),
        (
            "hairpinMode",
            &c.hairpin_mode,
            &["none", "hairpin-veth", "promiscuous-bridge"],
        ),
        (
            "memoryReservationPolicy",
            &c.memory_reservation_policy,
            &["None", "TieredReservation"],
        ),
        ("cgroupDriver", &c.cgroup_driver, &["cgroupfs", "systemd"]),
        (
            "authorization.mode",
            &c.authorization.mode,
            &["Webhook", "AlwaysAllow"],
        ),
        (
            "configMapAndSecretChangeDetectionStrategy",
            &c.config_map_and_secret_change_detection_strategy,
            &["Get", "Cache", "Watch"],
        ),
        (
            "tlsMinVersion",
            &c.tls_min_version,
            &[
                "",
                "VersionTLS10",
                "VersionTLS11",
                "VersionTLS12",
                "VersionTLS13",
            ],
        ),
    ];
    for (field, value, known) in texts {
        one_of(problems, field, value, known);
    }
    if on.enabled("NodeSwap") {
        let behavior = &c.memory_swap.swap_behavior;
        one_of(
            problems,
            "memorySwap.swapBehavior",
            behavior,
            &["", "NoSwap", "LimitedSwap"],
        );
    }
}

fn shutdown(c: &KubeletConfiguration, _: &Features, problems: &mut Problems) {
    let (all, critical) = (
        c.shutdown_grace_period,
        c.shutdown_grace_period_critical_pods,
    );
    problems.check(
        critical <= all,
        "shutdownGracePeriodCriticalPods",
        "must be <= shutdownGracePeriod",
    );
    for (field, period) in [
        ("shutdownGracePeriod", all),
        ("shutdownGracePeriodCriticalPods", critical),
    ] {
        problems.check(
            period.0.is_zero() || period.0 >= Duration::from_secs(1),
            field,
            "must be either zero or otherwise >= 1 sec",
        );
    }
    problems.check(
        c.shutdown_grace_period_by_pod_priority.is_empty() || all.0.is_zero(),
        "shutdownGracePeriodByPodPriority",
        "cannot be specified together with shutdownGracePeriod",
    );
}

const ENFORCEMENTS: [&str; 6] = [
    "pods",
    "system-reserved",
    "system-reserved-compressible",
    "kube-reserved",
    "kube-reserved-compressible",
    "none",
];

fn allocatable(c: &KubeletConfiguration, _: &Features, problems: &mut Problems) {
    let field = "enforceNodeAllocatable";
    let levels = &c.enforce_node_allocatable;
    let has = |level: &str| levels.iter().any(|l| l == level);
    for whole in ["system-reserved", "kube-reserved"] {
        let part = format!("{whole}-compressible");
        problems.check(
            !(has(whole) && has(&part)),
            field,
            format!("both {part:?} and {whole:?} cannot be specified together"),
        );
    }
    let mut seen = BTreeSet::new();
    for level in levels {
        problems.check(
            seen.insert(level),
            field,
            format!("duplicated enforcements {level:?}"),
        );
        if !ENFORCEMENTS.contains(&level.as_str()) {
            problems.add(
                field,
                format!(
                    "option {level:?} is not valid, valid options are {}",
                    ENFORCEMENTS.join(", ")
                ),
            );
            continue;
        }
        if level == "none" {
            problems.check(
                levels.len() == 1,
                field,
                "may not contain additional enforcements when \"none\" is specified",
            );
            continue;
        }
        problems.check(
            !level.starts_with("system-") || !c.system_reserved_cgroup.is_empty(),
            "systemReservedCgroup",
            format!("must be specified when {level:?} is in enforceNodeAllocatable"),
        );
        problems.check(
            !level.starts_with("kube-") || !c.kube_reserved_cgroup.is_empty(),
            "kubeReservedCgroup",
            format!("must be specified when {level:?} is in enforceNodeAllocatable"),
        );
        problems.check(
            c.cgroups_per_qos,
            "cgroupsPerQOS",
            format!("must be true when {level:?} is in enforceNodeAllocatable"),
        );
    }
    if !c.reserved_system_cpus.is_empty() {
        problems.check(
            c.system_reserved_cgroup.is_empty() && c.kube_reserved_cgroup.is_empty(),
            "reservedSystemCPUs",
            "cannot be used with systemReservedCgroup or kubeReservedCgroup",
        );
        if let Err(problem) = cpus::parse(&c.reserved_system_cpus) {
            problems.add("reservedSystemCPUs", problem);
        }
    }
    for (field, reserved) in [
        ("systemReserved", &c.system_reserved),
        ("kubeReserved", &c.kube_reserved),
    ] {
        if let Err(problem) = crate::container_manager::reserved(reserved) {
            problems.add(field, problem);
        }
    }
}

fn memory(c: &KubeletConfiguration, on: &Features, problems: &mut Problems) {
    let mut seen = BTreeSet::new();
    for (i, reservation) in c.reserved_memory.iter().enumerate() {
        for (name, amount) in &reservation.limits {
            let at = format!("reservedMemory[{i}].limits[{name}]");
            problems.check(
                name == "memory" || name.starts_with("hugepages-"),
                &at,
                "only memory and hugepages-<size> are accepted",
            );
            let amount = amount.0.parse::<proto::quantity::Quantity>();
            problems.check(
                amount.is_ok_and(|a| !a.is_zero()),
                &at,
                "must be a quantity other than zero",
            );
            problems.check(
                seen.insert((reservation.numa_node, name)),
                &at,
                format!("duplicate value for NUMA node {}", reservation.numa_node),
            );
        }
    }
    if let Some(factor) = c.memory_throttling_factor {
        problems.check(
            on.enabled("MemoryQoS") || (factor - 0.9).abs() < f64::EPSILON,
            "memoryThrottlingFactor",
            "must not be set when MemoryQoS feature gate is disabled",
        );
        problems.check(
            factor > 0.0 && factor <= 1.0,
            "memoryThrottlingFactor",
            format!("{factor} must be greater than 0 and less than or equal to 1.0"),
        );
    }
    if let Some(ids) = c.user_namespaces.as_ref().and_then(|u| u.ids_per_pod) {
        let field = "userNamespaces.idsPerPod";
        problems.check(ids >= 65536, field, "must not be less than 65536");
        problems.check(ids % 65536 == 0, field, "must be a multiple of 65536");
        problems.check(
            ids <= i64::from(u32::MAX),
            field,
            "must not be more than 4294967295",
        );
    }
}

fn logs(c: &KubeletConfiguration, _: &Features, problems: &mut Problems) {
    c.logging.validate("logging", problems);
    problems.check(
        c.container_log_max_workers >= 1,
        "containerLogMaxWorkers",
        "must be greater than or equal to 1",
    );
    problems.check(
        c.container_log_monitor_interval.0 >= Duration::from_secs(3),
        "containerLogMonitorInterval",
        "must be a positive time duration greater than or equal to 3s",
    );
    problems.check(
        c.container_log_max_files > 1,
        "containerLogMaxFiles",
        "must be greater than 1",
    );
    let size = c
        .container_log_max_size
        .parse::<proto::quantity::Quantity>();
    problems.check(size.is_ok(), "containerLogMaxSize", "must be a quantity");
    let dir = &c.pod_logs_dir;
    let clean = dir == "/"
        || dir
            .split('/')
            .skip(1)
            .all(|part| !matches!(part, "" | "." | ".."));
    let field = "podLogsDir";
    problems.check(
        dir.starts_with('/'),
        field,
        format!("pod logs path {dir:?} must be absolute path"),
    );
    problems.check(
        clean,
        field,
        format!("pod logs path {dir:?} must be normalized"),
    );
    problems.check(
        dir.is_ascii(),
        field,
        format!("pod logs path {dir:?} must contain ASCII characters only"),
    );
}

fn cgroups(c: &KubeletConfiguration, _: &Features, problems: &mut Problems) {
    problems.check(
        c.system_cgroups.is_empty() || !c.cgroup_root.is_empty(),
        "systemCgroups",
        "was specified and cgroupRoot was not specified",
    );
    let unified = crate::runtime::cgroup::Hierarchies::detect().is_ok_and(|h| h.is_unified());
    problems.check(
        unified || !c.fail_cgroup_v1,
        "failCgroupV1",
        "kubelet is configured to not run on a host using cgroup v1. cgroup v1 support is \
         unsupported and will be removed in a future release",
    );
    problems.check(
        unified || c.single_process_oom_kill != Some(false),
        "singleProcessOOMKill",
        "must not be explicitly set to false when using cgroup v1",
    );
}

fn eviction(c: &KubeletConfiguration, _: &Features, problems: &mut Problems) {
    if let Err(problem) = threshold::parse(&threshold::Texts::of(c)) {
        problems.add(problem.field, problem.what);
    }
}

/// Labels of Kubernetes' own that a node may give itself.
const OWN_LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];
const OWN_NAMESPACES: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

/// Whether a label's namespace is `of`, or below it.
fn within(key: &str, of: &str) -> bool {
    key.split_once('/').is_some_and(|(namespace, _)| {
        namespace
            .strip_suffix(of)
            .is_some_and(|left| left.is_empty() || left.ends_with('.'))
    })
}

/// Notes labels that a node must not give itself.
pub(super) fn labels(labels: &BTreeMap<String, String>, problems: &mut Problems) {
    for (key, value) in labels {
        let kubernetes = within(key, "kubernetes.io") || within(key, "k8s.io");
        let own = OWN_LABELS.contains(&key.as_str())
            || OWN_NAMESPACES
                .iter()
                .any(|namespace| within(key, namespace));
        problems.check(
            !kubernetes || own,
            "--node-labels",
            format!(
                "unknown 'kubernetes.io' or 'k8s.io' label {key}: it must begin with an allowed \
                 prefix ({}) or be in the specifically allowed set ({})",
                OWN_NAMESPACES.join(", "),
                OWN_LABELS.join(", ")
            ),
        );
        for problem in proto::meta::names::label_key_problems(key) {
            problems.add("--node-labels", format!("{key:?}: {problem}"));
        }
        for problem in proto::meta::names::label_value_problems(value) {
            problems.add("--node-labels", format!("{value:?}: {problem}"));
        }
    }
}
