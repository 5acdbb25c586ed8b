//! What an object looks like that is read as it is stored: the rules by which [`crate::decoder`] does without a tree.
//!
//! Every default that depends on more than its own field has a rule here, as every strategy's `default` has it: constant ones
//! are seen in the catalogue ([`proto::codec::settled`]). A rule may say no to an object that a default would leave alone,
//! which costs the way over a tree; never the other way round, which tests hold.

use proto::MsgId;
use proto::catalogue::messages::{
    apps_v1, autoscaling_v2, batch_v1, core_v1, networking_v1, rbac_v1, resource_v1,
    resource_v1beta2, scheduling_v1alpha3, scheduling_v1beta1,
};
use proto::catalogue::{Gates, gate, names as n};
use proto::codec::settled::Rule::{Any, Filled, Has, Holds, Lacks};
use proto::codec::settled::{Encoded, Rule};
use proto::convert::apps::{ROLLBACK, TEMPLATE_GENERATION};

/// The rules of all kinds, by message.
#[must_use]
pub fn rules(gates: Gates) -> Vec<(MsgId, Rule)> {
    let mut rules = core();
    rules.extend(workloads());
    rules.extend(others());
    if gates.has(gate::H2_C_CONTAINER_PROBE) {
        rules.push((core_v1::HTTP_GET_ACTION, Has(n::PROTOCOL)));
    }
    if gates.has(gate::MAX_UNAVAILABLE_STATEFUL_SET) {
        let strategy = apps_v1::ROLLING_UPDATE_STATEFUL_SET_STRATEGY;
        rules.push((strategy, Has(n::MAX_UNAVAILABLE)));
    }
    if gates.has(gate::POD_GROUP_PREEMPTION_POLICY) {
        let specs = [
            scheduling_v1beta1::POD_GROUP_SPEC,
            scheduling_v1alpha3::COMPOSITE_POD_GROUP_SPEC,
        ];
        rules.extend(specs.map(|spec| (spec, Has(n::PREEMPTION_POLICY))));
    }
    if gates.has(gate::POD_LEVEL_RESOURCES) && !gates.has(gate::POD_LEVEL_RESOURCES_FIX_DEFAULTING)
    {
        let without = |pod: Encoded<'_>| pod.each(n::SPEC).all(|spec| !spec.has(n::RESOURCES));
        rules.push((core_v1::POD, Holds(without)));
    }
    rules
}

fn core() -> Vec<(MsgId, Rule)> {
    vec![
        (core_v1::POD, Holds(pod)),
        (core_v1::POD_SPEC, Has(n::SECURITY_CONTEXT)),
        (
            core_v1::POD_SPEC,
            Holds(|spec| spec.text(n::SERVICE_ACCOUNT) == spec.text(n::SERVICE_ACCOUNT_NAME)),
        ),
        (core_v1::CONTAINER, Filled(n::IMAGE_PULL_POLICY)),
        (
            core_v1::EPHEMERAL_CONTAINER_COMMON,
            Filled(n::IMAGE_PULL_POLICY),
        ),
        (core_v1::VOLUME_SOURCE, Any),
        (core_v1::IMAGE_VOLUME_SOURCE, Filled(n::PULL_POLICY)),
        (
            core_v1::PERSISTENT_VOLUME_SPEC,
            Filled(n::PERSISTENT_VOLUME_RECLAIM_POLICY),
        ),
        (core_v1::PERSISTENT_VOLUME_SPEC, Has(n::VOLUME_MODE)),
        (core_v1::NAMESPACE, Holds(namespace)),
        (core_v1::SECRET, Lacks(n::STRING_DATA)),
        // Only the limits of containers stand for each other.
        (
            core_v1::LIMIT_RANGE_ITEM,
            Holds(|item| item.text(n::TYPE) != "Container"),
        ),
        (
            core_v1::NODE_STATUS,
            Holds(|status| status.has(n::ALLOCATABLE) || !status.has(n::CAPACITY)),
        ),
        (
            core_v1::NODE_SPEC,
            Holds(|spec| {
                spec.texts(n::POD_CIDRS).next().unwrap_or_default() == spec.text(n::POD_CIDR)
            }),
        ),
        // Too much depends on the type, and addresses have two spellings.
        (core_v1::SERVICE, Holds(|_| false)),
        (
            core_v1::REPLICATION_CONTROLLER,
            Holds(|controller| {
                controller.each(n::METADATA).all(|meta| meta.has(n::LABELS))
                    && controller.each(n::SPEC).all(|spec| spec.has(n::SELECTOR))
            }),
        ),
    ]
}

fn workloads() -> Vec<(MsgId, Rule)> {
    vec![
        (
            apps_v1::DEPLOYMENT,
            Holds(|object| !is_annotated(object, |key| key == ROLLBACK)),
        ),
        (
            apps_v1::DEPLOYMENT_STRATEGY,
            Holds(|strategy| rolls_unless(strategy, "Recreate")),
        ),
        (apps_v1::ROLLING_UPDATE_DEPLOYMENT, Has(n::MAX_UNAVAILABLE)),
        (apps_v1::ROLLING_UPDATE_DEPLOYMENT, Has(n::MAX_SURGE)),
        (
            apps_v1::DAEMON_SET,
            Holds(|object| is_annotated(object, |key| key == TEMPLATE_GENERATION)),
        ),
        (
            apps_v1::DAEMON_SET_UPDATE_STRATEGY,
            Holds(|strategy| rolls_unless(strategy, "OnDelete")),
        ),
        (apps_v1::ROLLING_UPDATE_DAEMON_SET, Has(n::MAX_UNAVAILABLE)),
        (apps_v1::ROLLING_UPDATE_DAEMON_SET, Has(n::MAX_SURGE)),
        (
            apps_v1::STATEFUL_SET_SPEC,
            Has(n::PERSISTENT_VOLUME_CLAIM_RETENTION_POLICY),
        ),
        (apps_v1::STATEFUL_SET_UPDATE_STRATEGY, Filled(n::TYPE)),
        (
            apps_v1::ROLLING_UPDATE_STATEFUL_SET_STRATEGY,
            Has(n::PARTITION),
        ),
        (batch_v1::JOB, Holds(job)),
    ]
}

fn others() -> Vec<(MsgId, Rule)> {
    use autoscaling_v2 as hpa;
    vec![
        (
            hpa::HORIZONTAL_POD_AUTOSCALER,
            Holds(|object| !is_annotated(object, of_autoscaling)),
        ),
        (hpa::HORIZONTAL_POD_AUTOSCALER_SPEC, Has(n::METRICS)),
        (hpa::HORIZONTAL_POD_AUTOSCALER_BEHAVIOR, Has(n::SCALE_DOWN)),
        (hpa::HORIZONTAL_POD_AUTOSCALER_BEHAVIOR, Has(n::SCALE_UP)),
        (
            hpa::HORIZONTAL_POD_AUTOSCALER_BEHAVIOR,
            Holds(|behavior| {
                let mut up = behavior.each(n::SCALE_UP);
                up.all(|rules| rules.has(n::STABILIZATION_WINDOW_SECONDS))
            }),
        ),
        (hpa::HPA_SCALING_RULES, Has(n::SELECT_POLICY)),
        (hpa::HPA_SCALING_RULES, Has(n::POLICIES)),
        (networking_v1::NETWORK_POLICY_SPEC, Has(n::POLICY_TYPES)),
        (
            rbac_v1::SUBJECT,
            Holds(|subject| {
                !subject.text(n::API_GROUP).is_empty()
                    || !matches!(subject.text(n::KIND), "User" | "Group")
            }),
        ),
        (resource_v1::DEVICE_TAINT, Has(n::TIME_ADDED)),
        (resource_v1beta2::DEVICE_TAINT, Has(n::TIME_ADDED)),
        (resource_v1::EXACT_DEVICE_REQUEST, Holds(counts)),
        (resource_v1::DEVICE_SUB_REQUEST, Holds(counts)),
    ]
}

/// `SetDefaults_Pod`, `SetDefaults_PodStatus`.
fn pod(pod: Encoded<'_>) -> bool {
    let synced = |status: Encoded<'_>| {
        let first = status.each(n::POD_IPS).next();
        first.map_or("", |ip| ip.text(n::IP)) == status.text(n::POD_IP)
    };
    pod.each(n::SPEC).all(pod_spec) && pod.each(n::STATUS).all(synced)
}

fn pod_spec(spec: Encoded<'_>) -> bool {
    let on_host = spec.number(n::HOST_NETWORK) != 0;
    let bound = |container: Encoded<'_>| {
        let mut ports = container.each(n::PORTS);
        ports.all(|port| port.number(n::HOST_PORT) != 0)
    };
    let requested =
        |container: Encoded<'_>| container.each(n::RESOURCES).all(requests_what_it_limits);
    let mut containers = spec
        .each(n::CONTAINERS)
        .chain(spec.each(n::INIT_CONTAINERS));
    spec.has(n::ENABLE_SERVICE_LINKS)
        && spec.number(n::TERMINATION_GRACE_PERIOD_SECONDS) >= 0
        && containers.all(|container| requested(container) && (!on_host || bound(container)))
}

fn requests_what_it_limits(resources: Encoded<'_>) -> bool {
    let requested = |name: &str| resources.pairs(n::REQUESTS).any(|(other, _)| other == name);
    resources.pairs(n::LIMITS).all(|(name, _)| requested(name))
}

/// `SetDefaults_Namespace`.
fn namespace(namespace: Encoded<'_>) -> bool {
    namespace.each(n::METADATA).all(|meta| {
        let own = ("kubernetes.io/metadata.name", meta.text(n::NAME));
        meta.pairs(n::LABELS).any(|label| label == own)
    })
}

/// `SetDefaults_Job`.
fn job(job: Encoded<'_>) -> bool {
    const FILLED: [proto::NameId; 6] = [
        n::PARALLELISM,
        n::BACKOFF_LIMIT,
        n::COMPLETION_MODE,
        n::SUSPEND,
        n::POD_REPLACEMENT_POLICY,
        n::MANUAL_SELECTOR,
    ];
    job.each(n::METADATA).all(|meta| meta.has(n::LABELS))
        && job
            .each(n::SPEC)
            .all(|spec| FILLED.iter().all(|field| spec.has(*field)))
}

fn is_annotated(object: Encoded<'_>, with: fn(&str) -> bool) -> bool {
    let mut metadata = object.each(n::METADATA);
    metadata.any(|meta| meta.pairs(n::ANNOTATIONS).any(|(key, _)| with(key)))
}

/// Of the annotations of the round trips to older versions.
fn of_autoscaling(key: &str) -> bool {
    key.starts_with("autoscaling.alpha.kubernetes.io/")
}

fn rolls_unless(strategy: Encoded<'_>, otherwise: &str) -> bool {
    strategy.has(n::ROLLING_UPDATE) || strategy.text(n::TYPE) == otherwise
}

/// How many devices are asked for, where it is a number.
fn counts(request: Encoded<'_>) -> bool {
    request.text(n::ALLOCATION_MODE) != "ExactCount" || request.number(n::COUNT) != 0
}
