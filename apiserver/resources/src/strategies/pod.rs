//! Pods.
//!
//! Upstream: `pkg/registry/core/pod/strategy.go`, `pkg/apis/core/v1/defaults.go` (`SetDefaults_Pod`,
//! `SetDefaults_PodStatus`), `pkg/apis/core/validation/validation.go` (`ValidatePod*`).

mod cells;
mod debug;
mod devices;
mod qos;
mod resize;
mod status;
mod validation;

use proto::catalogue::{Gates, gate, messages::core_v1, names as n};
use proto::view::Node;
use proto::view::View;
use proto::view::core_v1::{Container, Pod, PodSpec};
use proto::{Value, meta};

use super::pod_spec::{self, dropped};
use crate::declarative;
use crate::equal;
use crate::options::DeleteOptions;
use crate::strategy::{Cx, Part, Strategy, keep_status};

pub use qos::class as qos_class;

pub static POD: Strategy = Strategy {
    default,
    prepare_create,
    prepare_update,
    validate: |cx, object, e| validation::create(cx, object, e),
    validate_update: |cx, new, old, e| validation::update(cx, new, old, e),
    declarative: Some(declarative::NO_OPTIONS),
    warnings: |_, object, old| match old {
        None => pod_spec::warnings::pod(object),
        Some(_) => Vec::new(),
    },
    early_warnings: pod_spec::warnings::app_armor_of_pod,
    status: Some(Part {
        prepare_update: status::prepare,
        validate_update: |cx, new, old, e| status::validate(cx, new, old, e),
        warnings: status::warnings,
    }),
    parts: &[
        (
            "ephemeralcontainers",
            Part {
                prepare_update: debug::prepare,
                validate_update: |cx, new, old, e| debug::validate(cx, new, old, e),
                ..Part::STATUS
            },
        ),
        (
            "resize",
            Part {
                prepare_update: resize::prepare,
                validate_update: |cx, new, old, e| resize::validate(cx, new, old, e),
                ..Part::STATUS
            },
        ),
    ],
    grace,
    cells: Some(cells::cells),
    ..Strategy::DEFAULT
};

fn view(object: &Value) -> Pod<'_> {
    Pod::of(Node::new(object))
}

/// Defaults of pods that templates do not have.
fn default(gates: Gates, object: &mut Value) {
    let spec = object.ensure(&[n::SPEC]).make_map();
    pod_spec::default(gates, spec);
    if spec
        .get(n::TERMINATION_GRACE_PERIOD_SECONDS)
        .and_then(Value::as_int)
        .is_some_and(|s| s < 0)
    {
        spec.insert(n::TERMINATION_GRACE_PERIOD_SECONDS, 1);
    }
    if !spec.contains(n::ENABLE_SERVICE_LINKS) {
        spec.insert(n::ENABLE_SERVICE_LINKS, true);
    }
    let host_network = spec
        .get(n::HOST_NETWORK)
        .and_then(Value::as_bool)
        .unwrap_or(false);
    for list in [n::CONTAINERS, n::INIT_CONTAINERS] {
        for container in spec
            .get_mut(list)
            .and_then(Value::as_list_mut)
            .into_iter()
            .flatten()
        {
            requests_from_limits(container);
            if host_network {
                host_ports(container);
            }
        }
    }
    if gates.has(gate::POD_LEVEL_RESOURCES) && !gates.has(gate::POD_LEVEL_RESOURCES_FIX_DEFAULTING)
    {
        pod_spec::resources::default_requests_of_pod(object);
    }
    sync_ips(object);
}

/// What is limited and not requested is requested up to its limit.
fn requests_from_limits(container: &mut Value) {
    let Some(limits) = container
        .at(&[n::RESOURCES, n::LIMITS])
        .and_then(Value::as_map)
        .cloned()
    else {
        return;
    };
    let requests = container.ensure(&[n::RESOURCES, n::REQUESTS]).make_map();
    for (name, value) in limits.iter() {
        if !requests.contains(name) {
            requests.insert(name, value.clone());
        }
    }
}

fn host_ports(container: &mut Value) {
    for port in container
        .get_mut(n::PORTS)
        .and_then(Value::as_list_mut)
        .into_iter()
        .flatten()
    {
        let number = port.get(n::CONTAINER_PORT).cloned();
        if port.get(n::HOST_PORT).and_then(Value::as_int).unwrap_or(0) == 0
            && let Some(number) = number
        {
            port.set(&[n::HOST_PORT], number);
        }
    }
}

/// `podIP` and the first of `podIPs` are one; of two that differ `podIP` wins.
fn sync_ips(object: &mut Value) {
    let Some(status) = object.get_mut(n::STATUS) else {
        return;
    };
    let single = status
        .get(n::POD_IP)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let first = status
        .get(n::POD_IPS)
        .and_then(Value::as_list)
        .and_then(|l| l.first()?.get(n::IP)?.as_str().map(str::to_owned))
        .unwrap_or_default();
    if single == first {
        return;
    }
    if single.is_empty() {
        status.set(&[n::POD_IP], first);
    } else {
        let mut entry = Value::object();
        entry.set(&[n::IP], single);
        status.set(&[n::POD_IPS], vec![entry]);
    }
}

fn prepare_create(cx: &Cx<'_>, pod: &mut Value) {
    pod.set(&[n::METADATA, n::GENERATION], 1);
    dropped::from_spec(cx.gates, pod, None);
    let mut status = Value::object();
    status.set(&[n::PHASE], "Pending");
    pod.set(&[n::STATUS], status);
    if !view(pod).spec().scheduling_gates().is_empty() {
        let gated = meta::Condition {
            kind: "PodScheduled",
            status: "False",
            reason: "SchedulingGated",
            message: "Scheduling is blocked due to non-empty scheduling gates",
            observed_generation: 0,
        };
        meta::set_condition(pod.ensure(&[n::STATUS, n::CONDITIONS]), gated, cx.now);
    }
    pod_spec::merge_label_keys(cx.gates, pod);
    app_armor_fields(pod);
    if defaults_of_pod(cx.gates) {
        pod_spec::resources::default_of_pod(pod);
    }
    let qos = qos::class(cx.gates, view(pod));
    pod.set(&[n::STATUS, n::QOS_CLASS], qos);
}

/// Whether a pod's resources as a whole are completed from its containers' once it was admitted.
fn defaults_of_pod(gates: Gates) -> bool {
    gates.has(gate::POD_LEVEL_RESOURCES) && gates.has(gate::POD_LEVEL_RESOURCES_FIX_DEFAULTING)
}

/// Deprecated annotations that ask for a profile of AppArmor become fields (KEP-24).
fn app_armor_fields(pod: &mut Value) {
    let spec = view(pod).spec();
    if spec.os().is_some_and(|os| os.name() == "windows") {
        return;
    }
    let of_pod = spec.security_context().and_then(|c| c.app_armor_profile());
    let asked = |container: Container<'_>| -> Option<Value> {
        let key = format!("{}{}", pod_spec::APP_ARMOR, container.name());
        let annotation = meta::annotation(pod, &key)?;
        let own = container
            .security_context()
            .and_then(|c| c.app_armor_profile());
        let profile = pod_spec::security::profile_of_annotation(annotation)?;
        let same = of_pod.is_some_and(|p| equal::same(p.node().value(), &profile));
        (own.is_none() && !same).then_some(profile)
    };
    let lists = [
        PodSpec::INIT_CONTAINERS,
        PodSpec::CONTAINERS,
        PodSpec::EPHEMERAL_CONTAINERS,
    ];
    let mut found = Vec::new();
    for list in lists {
        let all = spec.node().list::<Container<'_>>(list);
        let profiles = all
            .iter()
            .enumerate()
            .filter_map(|(i, c)| Some((i, asked(c)?)));
        found.extend(profiles.map(|(i, profile)| (list, i, profile)));
    }
    for (list, i, profile) in found {
        let items = pod.at_mut(&[n::SPEC, list]).and_then(Value::as_list_mut);
        if let Some(container) = items.and_then(|items| items.get_mut(i)) {
            container.set(&[n::SECURITY_CONTEXT, n::APP_ARMOR_PROFILE], profile);
        }
    }
}

fn prepare_update(cx: &Cx<'_>, new: &mut Value, old: &Value) {
    keep_status(new, old);
    // Clients that do not know the resources of pods lose them.
    let way = [n::SPEC, n::RESOURCES];
    if let (None, Some(resources)) = (new.at(&way), old.at(&way)) {
        new.set(&way, resources.clone());
    }
    dropped::from_spec(cx.gates, new, Some(old));
    count_generation(new, old);
}

/// Pods count changes of their spec themselves: the binding and other parts count as well.
fn count_generation(new: &mut Value, old: &Value) {
    let generation = meta::generation(old).unwrap_or(0);
    if !equal::alike_at(new, old, &[n::SPEC], core_v1::POD_SPEC) {
        new.set(&[n::METADATA, n::GENERATION], generation + 1);
    }
}

/// Pods end gracefully; those that never ran, or have ended, at once.
fn grace(object: &Value, options: &mut DeleteOptions) -> bool {
    let pod = view(object);
    let mut period = options
        .grace_period_seconds
        .or_else(|| pod.spec().termination_grace_period_seconds())
        .unwrap_or(0);
    if pod.spec().node_name().is_empty() || matches!(pod.status().phase(), "Failed" | "Succeeded") {
        period = 0;
    }
    options.grace_period_seconds = Some(if period < 0 { 1 } else { period });
    true
}
