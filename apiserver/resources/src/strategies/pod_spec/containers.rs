//! Containers of a pod: those that run, those that run before, and those that are added to debug it.
//!
//! Upstream: `validateContainers`, `validateInitContainers`, `validateEphemeralContainers`,
//! `validateContainerCommon`.

use std::collections::HashSet;

use proto::catalogue::names as n;
use proto::meta::names;
use proto::path::{Errors, FieldError, Named, Reason, Spot, quote};
use proto::view::View;
use proto::view::core_v1::{Container, PodSpec};
use proto::{NameId, Value};

use super::volumes::Volumes;
use super::{Options, PULL_POLICIES, environment, mounts, probes, resources, security};
use crate::rules;

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const MESSAGE_POLICIES: [&str; 2] = ["File", "FallbackToLogsOnError"];
const RESIZABLE: [&str; 2] = ["cpu", "memory"];
const RESIZE_POLICIES: [&str; 2] = ["NotRequired", "RestartContainer"];
const RESTART_POLICIES: [&str; 3] = ["Always", "Never", "OnFailure"];
const RESTART_ACTIONS: [&str; 2] = ["Restart", "RestartAllContainers"];
const EXIT_CODE_OPERATORS: [&str; 2] = ["In", "NotIn"];
const MAX_RESTART_RULES: usize = 20;
const MAX_EXIT_CODES: usize = 255;
const NO_RESTART_POLICY: &str = "must specify restartPolicy when restart rules are used";
const NOT_OF_DEBUGGERS: &str = "cannot be set for an Ephemeral Container";
const ONLY_OF_SIDECARS: &str = "may not be set for init containers without restartPolicy=Always";

/// What rules about a container have to know of its pod.
pub(super) struct Pod<'a, 'o> {
    pub spec: PodSpec<'a>,
    pub volumes: Volumes<'a>,
    /// Names of the pod's claims on devices.
    pub claims: HashSet<&'a str>,
    pub options: &'o Options<'o>,
}

/// All containers, in the order in which upstream visits them.
pub(super) fn all_containers<'a>(spec: PodSpec<'a>) -> impl Iterator<Item = Container<'a>> {
    let ephemeral = spec.ephemeral_containers();
    spec.init_containers()
        .iter()
        .chain(spec.containers().iter())
        .chain(ephemeral.iter().map(|c| Container::of(c.node())))
}

/// Says whether an init container runs on beside the others.
#[must_use]
pub fn is_sidecar(container: Container<'_>) -> bool {
    container.restart_policy() == Some("Always")
}

pub(super) fn containers(e: &mut Errors<'_>, pod: &Pod<'_, '_>) {
    regular(e, pod);
    init(e, pod);
    ephemeral(e, pod);
}

fn regular(e: &mut Errors<'_>, pod: &Pod<'_, '_>) {
    let all = pod.spec.containers();
    if all.is_empty() {
        e.required(Spot::of(pod.spec).field(PodSpec::CONTAINERS), "");
        return;
    }
    let mut seen = HashSet::new();
    for container in all {
        common(e, container, pod);
        if !seen.insert(container.name()) {
            e.duplicate(Spot::of(container).field(n::NAME), container.name());
        }
        probes::of_container(e, container, pod.spec);
        if pod.options.kept.restart_rules {
            restart_rules(e, container, pod.options);
        } else if container.restart_policy().is_some() {
            let field = Spot::of(container).field(n::RESTART_POLICY);
            e.forbidden(field, "may not be set for non-init containers");
        }
    }
    let mut taken = HashSet::new();
    for container in all {
        host_ports(e, container, Spot::of(container), &mut taken);
    }
}

fn init(e: &mut Errors<'_>, pod: &Pod<'_, '_>) {
    let mut seen: HashSet<&str> = pod.spec.containers().iter().map(|c| c.name()).collect();
    let list = Spot::of(pod.spec).field(PodSpec::INIT_CONTAINERS);
    for container in pod.spec.init_containers() {
        let at = Spot::of(container);
        common(e, container, pod);
        if container.restart_policy().is_some() {
            init_restarts(e, container, pod.options);
        } else if !container.restart_policy_rules().is_empty() {
            e.required(at.field(n::RESTART_POLICY), NO_RESTART_POLICY);
        }
        let name = container.name();
        if seen.contains(name) {
            e.duplicate(at.field(n::NAME), name);
        } else if !name.is_empty() {
            seen.insert(name);
        }
        // They run one by one: each has the node's ports to itself. Upstream counts each as the first.
        host_ports(e, container, list.index(0), &mut HashSet::new());
        if !pod.options.kept.resizing_sidecars && !container.resize_policy().is_empty() {
            let field = Container::RESIZE_POLICY;
            let given = container.node().get(field).unwrap_or(&Value::Null);
            e.invalid(
                at.field(field),
                given,
                "must not be set for init containers",
            );
        }
        if is_sidecar(container) {
            probes::of_container(e, container, pod.spec);
        } else {
            for field in [
                Container::LIFECYCLE,
                Container::LIVENESS_PROBE,
                Container::READINESS_PROBE,
                Container::STARTUP_PROBE,
            ] {
                if container.node().get(field).is_some() {
                    e.forbidden(at.field(field), ONLY_OF_SIDECARS);
                }
            }
            for policy in container.resize_policy() {
                let restart = policy.restart_policy();
                if restart == "RestartContainer" && !pod.options.kept.restart_of_init {
                    let detail =
                        "must not be set to 'RestartContainer' for non-sidecar initContainers";
                    e.invalid(
                        Spot::of(policy).field(n::RESTART_POLICY),
                        Named(restart),
                        detail,
                    );
                }
            }
        }
    }
}

/// Fields of a container that one that is added to debug may not have; the others may.
const NOT_EPHEMERAL: [NameId; 9] = [
    Container::PORTS,
    Container::RESOURCES,
    Container::RESIZE_POLICY,
    Container::RESTART_POLICY,
    Container::RESTART_POLICY_RULES,
    Container::LIVENESS_PROBE,
    Container::READINESS_PROBE,
    Container::STARTUP_PROBE,
    Container::LIFECYCLE,
];

fn ephemeral(e: &mut Errors<'_>, pod: &Pod<'_, '_>) {
    let spec = pod.spec;
    let others = spec
        .containers()
        .iter()
        .chain(spec.init_containers().iter());
    let others: HashSet<&str> = others.map(|c| c.name()).collect();
    let mut seen = others.clone();
    for added in spec.ephemeral_containers() {
        let container = Container::of(added.node());
        let at = Spot::of(container);
        common(e, container, pod);
        padding(e, container);
        if !seen.insert(container.name()) {
            e.duplicate(at.field(n::NAME), container.name());
        }
        let target = added.target_container_name();
        if !target.is_empty() && !others.contains(target) {
            e.not_found(at.field(n::TARGET_CONTAINER_NAME), target);
        }
        for field in NOT_EPHEMERAL {
            let there = container.node().get(field);
            let set = there.is_some_and(|v| match v {
                Value::Map(map) if field == Container::RESOURCES => !map.is_empty(),
                _ => true,
            });
            if set {
                e.forbidden(at.field(field), NOT_OF_DEBUGGERS);
            }
        }
        for mount in container.volume_mounts() {
            for (field, path) in [
                (n::SUB_PATH, mount.sub_path()),
                (n::SUB_PATH_EXPR, mount.sub_path_expr()),
            ] {
                if !path.is_empty() {
                    e.forbidden(Spot::of(mount).field(field), NOT_OF_DEBUGGERS);
                }
            }
        }
    }
}

/// What all kinds of containers have in common.
fn common(e: &mut Errors<'_>, container: Container<'_>, pod: &Pod<'_, '_>) {
    let at = Spot::of(container);
    if rules::required(e, container, n::NAME) {
        rules::each(
            e,
            container,
            n::NAME,
            names::dns_label_problems(container.name()),
        );
    }
    rules::required(e, container, n::IMAGE);
    let policy = container.termination_message_policy();
    let field = at.field(n::TERMINATION_MESSAGE_POLICY);
    rules::choice(e, field, policy, &MESSAGE_POLICIES);
    ports(e, container);
    environment::variables(e, container, pod.options.kept);
    mounts::mounts(e, container, &pod.volumes);
    mounts::devices(e, container, &pod.volumes);
    let field = at.field(n::IMAGE_PULL_POLICY);
    rules::choice(e, field, container.image_pull_policy(), &PULL_POLICIES);
    resources::of_container(e, container.resources(), &pod.claims, pod.options);
    resize_policy(e, container, pod.spec.restart_policy());
    if let Some(context) = container.security_context() {
        security::of_container(e, context, pod.spec, pod.options);
    }
}

/// `validateContainerOnlyForPod`: what templates may have.
pub fn padding(e: &mut Errors<'_>, container: Container<'_>) {
    let image = container.image();
    if image.trim().len() != image.len() {
        let detail = "must not have leading or trailing whitespace";
        e.invalid(Spot::of(container).field(n::IMAGE), image, detail);
    }
}

fn ports(e: &mut Errors<'_>, container: Container<'_>) {
    let mut seen: HashSet<&str> = HashSet::new();
    for port in container.ports() {
        let at = Spot::of(port);
        if !port.name().is_empty() {
            let problems = names::port_name_problems(port.name());
            if problems.is_empty() && !seen.insert(port.name()) {
                e.duplicate(at.field(n::NAME), port.name());
            }
            rules::each(e, port, n::NAME, problems);
        }
        if port.container_port() == 0 {
            e.required(at.field(n::CONTAINER_PORT), "");
        } else {
            rules::port(e, port, n::CONTAINER_PORT);
        }
        if port.host_port() != 0 {
            rules::port(e, port, n::HOST_PORT);
        }
        rules::choice(e, at.field(n::PROTOCOL), port.protocol(), &PROTOCOLS);
    }
}

/// Two containers of a pod cannot have one port of the node.
fn host_ports<'a>(
    e: &mut Errors<'_>,
    container: Container<'a>,
    at: Spot<'_>,
    taken: &mut HashSet<(&'a str, &'a str, i64)>,
) {
    for (i, port) in container.ports().iter().enumerate() {
        let number = port.host_port();
        if number != 0 && !taken.insert((port.protocol(), port.host_ip(), number)) {
            let shown = format!("{}/{}/{number}", port.protocol(), port.host_ip());
            let field = rules::beside(e, at, &format!(".ports[{i}].hostPort"));
            e.push(FieldError::new(Reason::Duplicate, field, quote(&shown), ""));
        }
    }
}

/// What a container's end or change of resources means to it. Upstream says it of the list.
fn resize_policy(e: &mut Errors<'_>, container: Container<'_>, pod_restarts: &str) {
    let list = Spot::of(container).field(Container::RESIZE_POLICY);
    let mut seen = HashSet::new();
    for policy in container.resize_policy() {
        let (resource, restart) = (policy.resource_name(), policy.restart_policy());
        if !seen.insert(resource) {
            e.duplicate(Spot::of(policy), Named(resource));
        }
        rules::choice(e, list, resource, &RESIZABLE);
        rules::choice(e, list, restart, &RESIZE_POLICIES);
        if pod_restarts == "Never" && restart != "NotRequired" {
            let detail = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            e.invalid(list, Named(restart), detail);
        }
    }
}

/// `validateInitContainerRestartPolicy`: without rules of their own init containers run once, or beside the others.
fn init_restarts(e: &mut Errors<'_>, container: Container<'_>, options: &Options<'_>) {
    let at = Spot::of(container);
    if !options.kept.restart_rules {
        let policy = container.restart_policy().unwrap_or_default();
        rules::known(
            e,
            at.field(n::RESTART_POLICY),
            policy,
            &RESTART_POLICIES[..1],
        );
    } else if !is_sidecar(container) || options.kept.restart_of_all {
        restart_rules(e, container, options);
    } else if !container.restart_policy_rules().is_empty() {
        let detail =
            "restartPolicyRules are not allowed for init containers with restart policy Always";
        e.forbidden(at.field(n::RESTART_POLICY_RULES), detail);
    }
}

/// `validateContainerRestartPolicy`: whether a container is restarted, by how it ended (KEP-5307).
fn restart_rules(e: &mut Errors<'_>, container: Container<'_>, options: &Options<'_>) {
    let at = Spot::of(container);
    let all = container.restart_policy_rules();
    match container.restart_policy() {
        None if all.is_empty() => return,
        None => {
            e.required(at.field(n::RESTART_POLICY), NO_RESTART_POLICY);
        }
        Some(policy) => rules::known(e, at.field(n::RESTART_POLICY), policy, &RESTART_POLICIES),
    }
    if all.len() > MAX_RESTART_RULES {
        e.too_many(
            at.field(n::RESTART_POLICY_RULES),
            all.len(),
            MAX_RESTART_RULES,
        );
    }
    for rule in all {
        let at = Spot::of(rule);
        let actions = match options.kept.restart_of_all {
            true => &RESTART_ACTIONS[..],
            false => &RESTART_ACTIONS[..1],
        };
        rules::known(e, at.field(n::ACTION), rule.action(), actions);
        let Some(codes) = rule.exit_codes() else {
            e.required(at.field(n::EXIT_CODES), "must be specified");
            continue;
        };
        let at = Spot::of(codes);
        rules::known(
            e,
            at.field(n::OPERATOR),
            codes.operator(),
            &EXIT_CODE_OPERATORS,
        );
        if codes.values().len() > MAX_EXIT_CODES {
            e.too_many(at.field(n::VALUES), codes.values().len(), MAX_EXIT_CODES);
        }
    }
}
