//! Containers of a pod: names, images, ports, environment, mounts, resources, probes, hooks, security.

use std::collections::HashSet;

use proto::catalogue::names as n;
use proto::meta::names;
use proto::path::{Errors, Spot};
use proto::quantity::Quantity;
use proto::view::View;
use proto::view::core_v1::{
    Container, EnvVar, ExecAction, HTTPGetAction, LifecycleHandler, PodSpec, Probe,
    ResourceRequirements, SecurityContext, TCPSocketAction,
};
use proto::{NameId, Value};

use crate::registry::rules;

/// `validateContainers`, `validateInitContainers`, with names unique over both.
pub(super) fn containers(e: &mut Errors<'_>, spec: PodSpec<'_>) {
    let volumes: HashSet<&str> = spec.volumes().iter().map(|v| v.name()).collect();
    let mut seen = HashSet::new();
    if spec.containers().is_empty() {
        e.required(Spot::of(spec).field(PodSpec::CONTAINERS), "");
    }
    for container in spec.containers() {
        one(e, container, &volumes, &mut seen);
        if container.restart_policy().is_some() && container.restart_policy_rules().is_empty() {
            rules::one_of(
                e,
                container,
                n::RESTART_POLICY,
                &["Always", "OnFailure", "Never"],
            );
        }
    }
    for container in spec.init_containers() {
        one(e, container, &volumes, &mut seen);
        init(e, container);
    }
    host_ports(e, spec);
}

/// What an init container may not have, unless it is a sidecar.
fn init(e: &mut Errors<'_>, container: Container<'_>) {
    if container.restart_policy() == Some("Always") {
        return;
    }
    let at = Spot::of(container);
    let text = "may not be set for init containers without restartPolicy=Always";
    for (there, field) in [
        (container.lifecycle().is_some(), n::LIFECYCLE),
        (container.liveness_probe().is_some(), n::LIVENESS_PROBE),
        (container.readiness_probe().is_some(), n::READINESS_PROBE),
        (container.startup_probe().is_some(), n::STARTUP_PROBE),
    ] {
        if there {
            e.forbidden(at.field(field), text);
        }
    }
}

fn one<'a>(
    e: &mut Errors<'_>,
    container: Container<'a>,
    volumes: &HashSet<&str>,
    seen: &mut HashSet<&'a str>,
) {
    let at = Spot::of(container);
    if rules::required(e, container, n::NAME) {
        rules::each(
            e,
            container,
            n::NAME,
            names::dns_label_problems(container.name()),
        );
    }
    if !seen.insert(container.name()) && !container.name().is_empty() {
        e.duplicate(at.field(n::NAME), container.name());
    }
    if rules::required(e, container, n::IMAGE) && container.image().trim() != container.image() {
        e.invalid(
            at.field(n::IMAGE),
            container.image(),
            "must not have leading or trailing whitespace",
        );
    }
    rules::required_one_of(
        e,
        container,
        n::TERMINATION_MESSAGE_POLICY,
        &["File", "FallbackToLogsOnError"],
    );
    ports(e, container);
    environment(e, container);
    mounts(e, container, volumes);
    rules::required_one_of(
        e,
        container,
        n::IMAGE_PULL_POLICY,
        &["Always", "IfNotPresent", "Never"],
    );
    resources(e, container.resources());
    for probe in [
        container.liveness_probe(),
        container.readiness_probe(),
        container.startup_probe(),
    ]
    .into_iter()
    .flatten()
    {
        self::probe(e, probe);
    }
    if let Some(probe) = container.liveness_probe()
        && probe.success_threshold() != 1
    {
        e.invalid(
            Spot::of(probe).field(n::SUCCESS_THRESHOLD),
            probe.success_threshold(),
            "must be 1",
        );
    }
    if let Some(probe) = container.startup_probe()
        && probe.success_threshold() != 1
    {
        e.invalid(
            Spot::of(probe).field(n::SUCCESS_THRESHOLD),
            probe.success_threshold(),
            "must be 1",
        );
    }
    if let Some(lifecycle) = container.lifecycle() {
        for hook in [lifecycle.post_start(), lifecycle.pre_stop()]
            .into_iter()
            .flatten()
        {
            handler(e, hook);
        }
    }
    if let Some(context) = container.security_context() {
        security(e, context);
    }
}

fn ports(e: &mut Errors<'_>, container: Container<'_>) {
    let mut seen: Vec<&str> = Vec::new();
    for port in container.ports() {
        let at = Spot::of(port);
        if !port.name().is_empty() {
            let problems = names::port_name_problems(port.name());
            if problems.is_empty() && seen.contains(&port.name()) {
                e.duplicate(at.field(n::NAME), port.name());
            }
            rules::each(e, port, n::NAME, problems);
            seen.push(port.name());
        }
        if port.container_port() == 0 {
            e.required(at.field(n::CONTAINER_PORT), "");
        } else {
            rules::port(e, port, n::CONTAINER_PORT);
        }
        if port.host_port() != 0 {
            rules::port(e, port, n::HOST_PORT);
        }
        rules::required_one_of(e, port, n::PROTOCOL, &["TCP", "UDP", "SCTP"]);
    }
}

/// Two containers of a pod cannot have one port of the node.
fn host_ports(e: &mut Errors<'_>, spec: PodSpec<'_>) {
    let mut seen: HashSet<(i64, &str, &str)> = HashSet::new();
    for port in spec.containers().iter().flat_map(|c| c.ports().iter()) {
        if port.host_port() == 0 {
            continue;
        }
        if spec.host_network() && port.host_port() != port.container_port() {
            let at = Spot::of(port).field(n::CONTAINER_PORT);
            e.invalid(
                at,
                port.container_port(),
                "must match `hostPort` when `hostNetwork` is true",
            );
        }
        let ip = if port.host_ip().is_empty() {
            "0.0.0.0"
        } else {
            port.host_ip()
        };
        if !seen.insert((port.host_port(), port.protocol(), ip)) {
            let shown = format!("{}/{}/{}", port.host_port(), port.protocol(), ip);
            e.duplicate(Spot::of(port).field(n::HOST_PORT), shown);
        }
    }
}

fn environment(e: &mut Errors<'_>, container: Container<'_>) {
    for var in container.env() {
        if rules::required(e, var, n::NAME) {
            rules::each(
                e,
                var,
                n::NAME,
                names::relaxed_env_var_name_problems(var.name()),
            );
        }
        value_from(e, var);
    }
    for from in container.env_from() {
        if !from.prefix().is_empty() {
            rules::each(
                e,
                from,
                n::PREFIX,
                names::relaxed_env_var_name_problems(from.prefix()),
            );
        }
        let sources = [from.config_map_ref().is_some(), from.secret_ref().is_some()];
        match sources.iter().filter(|s| **s).count() {
            0 => e.invalid(
                Spot::of(from),
                "",
                "must specify one of: `configMapRef` or `secretRef`",
            ),
            1 => {}
            _ => e.invalid(
                Spot::of(from),
                "",
                "may not have more than one field specified at a time",
            ),
        }
        if let Some(source) = from.config_map_ref() {
            rules::required(e, source, n::NAME);
        }
        if let Some(source) = from.secret_ref() {
            rules::required(e, source, n::NAME);
        }
    }
}

/// Fields of the pod that a variable may show.
const ENV_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

fn value_from(e: &mut Errors<'_>, var: EnvVar<'_>) {
    let Some(source) = var.value_from() else {
        return;
    };
    let at = Spot::of(source);
    let given = [
        source.field_ref().is_some(),
        source.resource_field_ref().is_some(),
        source.config_map_key_ref().is_some(),
        source.secret_key_ref().is_some(),
        source.file_key_ref().is_some(),
    ];
    match given.iter().filter(|g| **g).count() {
        0 => {
            let all = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
            e.invalid(at, "", all);
        }
        _ if !var.value().is_empty() => {
            e.invalid(at, "", "may not be specified when `value` is not empty")
        }
        1 => {}
        _ => e.invalid(
            at,
            "",
            "may not have more than one field specified at a time",
        ),
    }
    if let Some(field) = source.field_ref() {
        let path = field.field_path();
        if rules::required(e, field, n::FIELD_PATH) {
            let keyed = ["metadata.labels", "metadata.annotations"].iter().any(|p| {
                path.strip_prefix(p)
                    .is_some_and(|rest| rest.starts_with("['") && rest.ends_with("']"))
            });
            if !keyed && !ENV_FIELDS.contains(&path) {
                e.not_supported(Spot::of(field).field(n::FIELD_PATH), path, &ENV_FIELDS);
            }
        }
    }
    if let Some(key) = source.config_map_key_ref() {
        rules::required(e, key, n::NAME);
        key_rules(e, key, key.key());
    }
    if let Some(key) = source.secret_key_ref() {
        rules::required(e, key, n::NAME);
        key_rules(e, key, key.key());
    }
}

fn key_rules<'a, V: View<'a>>(e: &mut Errors<'_>, view: V, key: &str) {
    if rules::required(e, view, n::KEY) {
        rules::each(e, view, n::KEY, names::config_map_key_problems(key));
    }
}

fn mounts(e: &mut Errors<'_>, container: Container<'_>, volumes: &HashSet<&str>) {
    let mut paths: HashSet<&str> = HashSet::new();
    for mount in container.volume_mounts() {
        let at = Spot::of(mount);
        if rules::required(e, mount, n::NAME) && !volumes.contains(mount.name()) {
            e.not_found(at.field(n::NAME), mount.name());
        }
        if rules::required(e, mount, n::MOUNT_PATH) && !paths.insert(mount.mount_path()) {
            e.invalid(
                at.field(n::MOUNT_PATH),
                mount.mount_path(),
                "must be unique",
            );
        }
        for (path, field) in [
            (mount.sub_path(), n::SUB_PATH),
            (mount.sub_path_expr(), n::SUB_PATH_EXPR),
        ] {
            if path.starts_with('/') {
                e.invalid(at.field(field), path, "must be a relative path");
            }
            if path.split('/').any(|part| part == "..") {
                e.invalid(at.field(field), path, "must not contain '..'");
            }
        }
        if !mount.sub_path().is_empty() && !mount.sub_path_expr().is_empty() {
            e.invalid(
                at.field(n::SUB_PATH_EXPR),
                mount.sub_path_expr(),
                "subPathExpr and subPath are mutually exclusive",
            );
        }
        if let Some(mode) = mount.mount_propagation() {
            let modes = ["Bidirectional", "HostToContainer", "None"];
            if !modes.contains(&mode) {
                e.not_supported(at.field(n::MOUNT_PROPAGATION), mode, &modes);
            }
            let privileged =
                container.security_context().and_then(|c| c.privileged()) == Some(true);
            if mode == "Bidirectional" && !privileged {
                e.forbidden(
                    at.field(n::MOUNT_PROPAGATION),
                    "Bidirectional mount propagation is available only to privileged containers",
                );
            }
        }
    }
}

/// `ValidateContainerResourceRequirements`.
pub(in crate::registry::strategies) fn resources(
    e: &mut Errors<'_>,
    resources: ResourceRequirements<'_>,
) {
    let at = Spot::of(resources);
    for (map, field) in [
        (resources.limits(), n::LIMITS),
        (resources.requests(), n::REQUESTS),
    ] {
        for (name, value) in map.iter() {
            let spot = at.field(field).key(name.as_str());
            resource_name(e, spot, name.as_str());
            if amount(value).is_some_and(|q| q.signum() < 0) {
                e.invalid(spot, value, rules::NOT_NEGATIVE);
            }
        }
    }
    for (name, request) in resources.requests().iter() {
        let Some(limit) = resources.limits().get(name) else {
            continue;
        };
        let (Some(request), Some(limit)) = (amount(request), amount(limit)) else {
            continue;
        };
        let spot = at.field(n::REQUESTS);
        let shown = resources
            .requests()
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default();
        if request > limit {
            let detail = format!(
                "must be less than or equal to {} limit of {limit}",
                name.as_str()
            );
            e.invalid(spot, shown, detail);
        } else if is_extended(name.as_str()) && request != limit {
            e.invalid(
                spot,
                shown,
                format!("must be equal to {} limit of {limit}", name.as_str()),
            );
        }
    }
}

fn amount(value: &Value) -> Option<Quantity> {
    value.as_str()?.parse().ok()
}

fn resource_name(e: &mut Errors<'_>, at: Spot<'_>, name: &str) {
    let problems = names::label_key_problems(name);
    if !problems.is_empty() {
        e.invalid_each(at, name, problems);
        return;
    }
    let native = ["cpu", "memory", "ephemeral-storage"];
    if !name.contains('/') && !native.contains(&name) && !name.starts_with("hugepages-") {
        e.invalid(at, name, "must be a standard resource for containers");
    }
}

/// A resource that a plugin counts: it cannot be overcommitted.
fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.starts_with("requests.") && !name.contains("kubernetes.io/")
}

fn probe(e: &mut Errors<'_>, probe: Probe<'_>) {
    actions(
        e,
        probe.node(),
        probe.exec(),
        probe.http_get(),
        probe.tcp_socket(),
        probe.grpc().is_some(),
    );
    for field in [
        n::INITIAL_DELAY_SECONDS,
        n::TIMEOUT_SECONDS,
        n::PERIOD_SECONDS,
        n::SUCCESS_THRESHOLD,
        n::FAILURE_THRESHOLD,
    ] {
        rules::not_negative(e, probe, field);
    }
    if let Some(seconds) = probe.termination_grace_period_seconds()
        && seconds <= 0
    {
        e.invalid(
            Spot::of(probe).field(n::TERMINATION_GRACE_PERIOD_SECONDS),
            seconds,
            "must be greater than 0",
        );
    }
    if let Some(grpc) = probe.grpc() {
        rules::port(e, grpc, n::PORT);
    }
}

fn handler(e: &mut Errors<'_>, hook: LifecycleHandler<'_>) {
    actions(
        e,
        hook.node(),
        hook.exec(),
        hook.http_get(),
        hook.tcp_socket(),
        hook.sleep().is_some(),
    );
    if let Some(sleep) = hook.sleep() {
        rules::not_negative(e, sleep, n::SECONDS);
    }
}

/// Exactly one action, and that one complete.
fn actions(
    e: &mut Errors<'_>,
    node: proto::view::Node<'_>,
    exec: Option<ExecAction<'_>>,
    http: Option<HTTPGetAction<'_>>,
    tcp: Option<TCPSocketAction<'_>>,
    other: bool,
) {
    let given: Vec<(bool, NameId)> = vec![
        (exec.is_some(), n::EXEC),
        (http.is_some(), n::HTTP_GET),
        (tcp.is_some(), n::TCP_SOCKET),
        (other, n::GRPC),
    ];
    let at = Spot::node(node.value());
    let mut there = given.iter().filter(|(g, _)| *g);
    if there.next().is_none() {
        e.required(at, "must specify a handler type");
    }
    for (_, field) in there {
        e.forbidden(at.field(*field), "may not specify more than 1 handler type");
    }
    if let Some(exec) = exec
        && exec.command().is_empty()
    {
        e.required(Spot::of(exec).field(n::COMMAND), "");
    }
    if let Some(http) = http {
        rules::required(e, http, n::PATH);
        rules::port_or_name(e, http, n::PORT);
        if !["HTTP", "HTTPS"].contains(&http.scheme()) {
            e.not_supported(
                Spot::of(http).field(n::SCHEME),
                http.scheme(),
                &["HTTP", "HTTPS"],
            );
        }
        for header in http.http_headers() {
            rules::each(
                e,
                header,
                n::NAME,
                names::http_header_name_problems(header.name()),
            );
        }
    }
    if let Some(tcp) = tcp {
        rules::port_or_name(e, tcp, n::PORT);
    }
}

fn security(e: &mut Errors<'_>, context: SecurityContext<'_>) {
    for field in [n::RUN_AS_USER, n::RUN_AS_GROUP] {
        if let Some(id) = context.node().opt_int(field) {
            e.invalid_each(Spot::of(context).field(field), id, names::id_problems(id));
        }
    }
    if context.allow_privilege_escalation() == Some(false) {
        if context.privileged() == Some(true) {
            e.invalid(
                Spot::of(context),
                context.node().value(),
                "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
            );
        }
        let adds = context.capabilities().map_or(&[][..], |c| c.add());
        if adds.iter().any(|c| c.as_str() == Some("CAP_SYS_ADMIN")) {
            e.invalid(Spot::of(context), context.node().value(), "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN");
        }
    }
}
