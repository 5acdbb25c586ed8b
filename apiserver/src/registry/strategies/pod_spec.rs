//! Pod specs: what pods and pod templates share, defaults and validation.
//!
//! Upstream: `pkg/apis/core/v1/defaults.go`, `pkg/apis/core/validation/validation.go`
//! (`ValidatePodSpec` and below).

mod containers;
mod projected;
pub mod sysctls;
mod volumes;
pub mod warnings;

use proto::catalogue::names as n;
use proto::meta::names;
use proto::path::{Errors, Spot};
use proto::view::core_v1::{PodSpec, PodTemplateSpec, Toleration};
use proto::view::{Node, View};
use proto::{Map, Value, meta};

use crate::registry::rules;

/// Who holds the spec: a few rules are for pods alone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    Pod,
    /// A pod that was there before a rule, and broke it then.
    Ratcheted,
    /// With the restart policies that the workload allows.
    Template,
}

/// Conditional defaults of a spec, in the map of `spec`.
pub fn default(spec: &mut Map) {
    sync_service_account(spec);
    if !spec.contains(n::SECURITY_CONTEXT) {
        spec.insert(n::SECURITY_CONTEXT, Value::object());
    }
    for list in [n::INIT_CONTAINERS, n::CONTAINERS, n::EPHEMERAL_CONTAINERS] {
        for container in spec
            .get_mut(list)
            .and_then(Value::as_list_mut)
            .into_iter()
            .flatten()
        {
            default_container(container.make_map());
        }
    }
    for volume in spec
        .get_mut(n::VOLUMES)
        .and_then(Value::as_list_mut)
        .into_iter()
        .flatten()
    {
        default_volume(volume.make_map());
    }
}

/// `serviceAccount` is an alias of `serviceAccountName`, which wins.
fn sync_service_account(spec: &mut Map) {
    let text = |spec: &Map, name| {
        spec.get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let (name, alias) = (
        text(spec, n::SERVICE_ACCOUNT_NAME),
        text(spec, n::SERVICE_ACCOUNT),
    );
    let wins = if name.is_empty() { alias } else { name };
    if !wins.is_empty() {
        spec.insert(n::SERVICE_ACCOUNT_NAME, wins.as_str());
        spec.insert(n::SERVICE_ACCOUNT, wins.as_str());
    }
}

fn default_container(container: &mut Map) {
    let absent = |m: &Map, name| {
        m.get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .is_empty()
    };
    if absent(container, n::IMAGE_PULL_POLICY) {
        let image = container
            .get(n::IMAGE)
            .and_then(Value::as_str)
            .unwrap_or_default();
        let policy = pull_policy(image);
        container.insert(n::IMAGE_PULL_POLICY, policy);
    }
}

/// A moving tag is pulled always, a fixed one if it is not there.
#[must_use]
pub fn pull_policy(image: &str) -> &'static str {
    if tag(image) == "latest" {
        "Always"
    } else {
        "IfNotPresent"
    }
}

/// The tag of an image reference: `latest` if it has neither tag nor digest.
#[must_use]
pub fn tag(image: &str) -> &str {
    let (name, digest) = image.split_once('@').map_or((image, ""), |(n, d)| (n, d));
    // A colon before a slash belongs to the registry's port.
    match name.rsplit_once(':') {
        Some((_, tag)) if !tag.contains('/') => tag,
        _ if digest.is_empty() => "latest",
        _ => "",
    }
}

/// The fields of a volume that are no source.
fn default_volume(volume: &mut Map) {
    let has_source = volume
        .iter()
        .any(|(name, v)| name.known() != Some(n::NAME) && !v.is_null());
    if !has_source {
        volume.insert(n::EMPTY_DIR, Value::object());
    }
    if let Some(image) = volume.get_mut(n::IMAGE).and_then(Value::as_map_mut)
        && !image.contains(n::PULL_POLICY)
    {
        let policy = pull_policy(
            image
                .get(n::REFERENCE)
                .and_then(Value::as_str)
                .unwrap_or_default(),
        );
        image.insert(n::PULL_POLICY, policy);
    }
}

/// Defaults of a template, in the tree of the workload.
pub fn default_template(object: &mut Value, way: &[proto::NameId]) {
    if let Some(spec) = object.at_mut(way).and_then(|t| t.get_mut(n::SPEC)) {
        default(spec.make_map());
    }
}

/// `ValidatePodTemplateSpec`.
pub fn template(e: &mut Errors<'_>, template: PodTemplateSpec<'_>) {
    let node = template.node();
    let metadata = node.get(n::METADATA).unwrap_or(node.value());
    rules::labels(
        e,
        meta::labels(node.value()),
        Spot::node(metadata).field(n::LABELS),
    );
    rules::annotations(
        e,
        meta::annotations(node.value()),
        Spot::node(metadata).field(n::ANNOTATIONS),
    );
    spec(e, template.spec(), Holder::Template);
    if !template.spec().ephemeral_containers().is_empty() {
        let at = Spot::of(template.spec()).field(PodSpec::EPHEMERAL_CONTAINERS);
        e.forbidden(at, "ephemeral containers not allowed in pod template");
    }
}

const DNS_POLICIES: [&str; 4] = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
const RESTART_POLICIES: [&str; 3] = ["Always", "OnFailure", "Never"];

/// `ValidatePodSpec`.
pub fn spec(e: &mut Errors<'_>, spec: PodSpec<'_>, holder: Holder) {
    volumes::volumes(e, spec);
    containers::containers(e, spec);
    rules::required_one_of(e, spec, PodSpec::RESTART_POLICY, &RESTART_POLICIES);
    rules::required_one_of(e, spec, PodSpec::DNS_POLICY, &DNS_POLICIES);
    rules::labels(
        e,
        spec.node_selector(),
        Spot::of(spec).field(PodSpec::NODE_SELECTOR),
    );
    host_namespaces(e, spec);
    sysctls::sysctls(e, spec, holder == Holder::Ratcheted);
    pull_secrets(e, spec);
    dns(e, spec);
    readiness_gates(e, spec);
    topology_spread(e, spec);
    if !spec.service_account_name().is_empty() {
        let problems = names::subdomain_name(spec.service_account_name(), false);
        rules::each(e, spec, PodSpec::SERVICE_ACCOUNT_NAME, problems);
    }
    if !spec.node_name().is_empty() {
        rules::each(
            e,
            spec,
            PodSpec::NODE_NAME,
            names::subdomain_name(spec.node_name(), false),
        );
    }
    if let Some(seconds) = spec.active_deadline_seconds()
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        let at = Spot::of(spec).field(PodSpec::ACTIVE_DEADLINE_SECONDS);
        e.invalid(
            at,
            seconds,
            format!("must be between 1 and {}, inclusive", i32::MAX),
        );
    }
    for (text, field) in [
        (spec.hostname(), PodSpec::HOSTNAME),
        (spec.subdomain(), PodSpec::SUBDOMAIN),
    ] {
        if !text.is_empty() {
            rules::each(e, spec, field, names::dns_label_problems(text));
        }
    }
    tolerations(e, spec);
    host_aliases(e, spec);
    if !spec.priority_class_name().is_empty() {
        let problems = names::subdomain_name(spec.priority_class_name(), false);
        rules::each(e, spec, PodSpec::PRIORITY_CLASS_NAME, problems);
    }
    if spec
        .runtime_class_name()
        .is_some_and(|name| !names::subdomain_name(name, false).is_empty())
    {
        let problems = names::subdomain_name(spec.runtime_class_name().unwrap_or_default(), false);
        rules::each(e, spec, PodSpec::RUNTIME_CLASS_NAME, problems);
    }
    if let Some(policy) = spec.preemption_policy()
        && !["PreemptLowerPriority", "Never"].contains(&policy)
    {
        rules::one_of(
            e,
            spec,
            PodSpec::PREEMPTION_POLICY,
            &["PreemptLowerPriority", "Never"],
        );
    }
    if holder != Holder::Template {
        rules::not_negative(e, spec, PodSpec::TERMINATION_GRACE_PERIOD_SECONDS);
    }
}

fn host_namespaces(e: &mut Errors<'_>, spec: PodSpec<'_>) {
    if spec.host_pid() && spec.share_process_namespace() == Some(true) {
        let at = Spot::of(spec).field(PodSpec::SHARE_PROCESS_NAMESPACE);
        e.invalid(
            at,
            true,
            "ShareProcessNamespace and HostPID cannot both be enabled",
        );
    }
    if spec.host_users() == Some(false) {
        for (on, field, what) in [
            (spec.host_network(), PodSpec::HOST_NETWORK, "hostNetwork"),
            (spec.host_pid(), PodSpec::HOST_PID, "HostPID"),
            (spec.host_ipc(), PodSpec::HOST_IPC, "HostIPC"),
        ] {
            if on {
                e.forbidden(
                    Spot::of(spec).field(field),
                    format!("when `hostUsers` is false, {what} is not allowed"),
                );
            }
        }
    }
}

fn pull_secrets(e: &mut Errors<'_>, spec: PodSpec<'_>) {
    for secret in spec.image_pull_secrets() {
        rules::required(e, secret, n::NAME);
    }
}

/// Upstream's bounds on resolver settings.
const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARACTERS: usize = 2048;

fn dns(e: &mut Errors<'_>, spec: PodSpec<'_>) {
    let config = spec.dns_config();
    let nameservers = config.map_or(&[][..], |c| c.nameservers());
    if spec.dns_policy() == "None" {
        let at = Spot::of(spec).field(PodSpec::DNS_CONFIG);
        match config {
            None => e.required(at, "must provide `dnsConfig` when `dnsPolicy` is None"),
            Some(_) if nameservers.is_empty() => {
                e.required(
                    at.field(n::NAMESERVERS),
                    "must provide at least one DNS nameserver when `dnsPolicy` is None",
                );
            }
            Some(_) => {}
        }
    }
    let Some(config) = config else { return };
    let at = Spot::of(config);
    if nameservers.len() > MAX_NAMESERVERS {
        let value = Value::List(nameservers.to_vec());
        e.invalid(
            at.field(n::NAMESERVERS),
            &value,
            format!("must not have more than {MAX_NAMESERVERS} nameservers"),
        );
    }
    for (i, server) in nameservers.iter().filter_map(Value::as_str).enumerate() {
        if server.parse::<std::net::IpAddr>().is_err() {
            let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            e.invalid(at.field(n::NAMESERVERS).index(i), server, detail);
        }
    }
    let searches: Vec<&str> = config.searches().iter().filter_map(Value::as_str).collect();
    if searches.len() > MAX_SEARCHES {
        let value = Value::List(config.searches().to_vec());
        e.invalid(
            at.field(n::SEARCHES),
            &value,
            format!("must not have more than {MAX_SEARCHES} search paths"),
        );
    }
    if searches.join(" ").len() > MAX_SEARCH_CHARACTERS {
        let value = Value::List(config.searches().to_vec());
        let detail = format!(
            "must not have more than {MAX_SEARCH_CHARACTERS} characters (including spaces) in the search list"
        );
        e.invalid(at.field(n::SEARCHES), &value, detail);
    }
    for (i, search) in searches.iter().enumerate() {
        // One dot ends an absolute name, and one alone is the root.
        let name = search.strip_suffix('.').unwrap_or(search);
        if *search != "." {
            e.invalid_each(
                at.field(n::SEARCHES).index(i),
                *search,
                names::dns_subdomain_with_underscore_problems(name),
            );
        }
    }
    for option in config.options() {
        rules::required(e, option, n::NAME);
    }
}

fn readiness_gates(e: &mut Errors<'_>, spec: PodSpec<'_>) {
    for gate in spec.readiness_gates() {
        rules::each(
            e,
            gate,
            n::CONDITION_TYPE,
            names::label_key_problems(gate.condition_type()),
        );
    }
    let mut seen: Vec<&str> = Vec::new();
    for gate in spec.scheduling_gates() {
        if rules::required(e, gate, n::NAME) {
            rules::each(e, gate, n::NAME, names::label_key_problems(gate.name()));
            if seen.contains(&gate.name()) {
                e.duplicate(Spot::of(gate), gate.name());
            }
            seen.push(gate.name());
        }
    }
}

fn topology_spread(e: &mut Errors<'_>, spec: PodSpec<'_>) {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for constraint in spec.topology_spread_constraints() {
        if constraint.max_skew() <= 0 {
            e.invalid(
                Spot::of(constraint).field(n::MAX_SKEW),
                constraint.max_skew(),
                "must be greater than zero",
            );
        }
        if rules::required(e, constraint, n::TOPOLOGY_KEY) {
            rules::each(
                e,
                constraint,
                n::TOPOLOGY_KEY,
                names::label_key_problems(constraint.topology_key()),
            );
        }
        let actions = ["DoNotSchedule", "ScheduleAnyway"];
        if constraint.when_unsatisfiable().is_empty()
            || !actions.contains(&constraint.when_unsatisfiable())
        {
            let at = Spot::of(constraint).field(n::WHEN_UNSATISFIABLE);
            e.not_supported(at, constraint.when_unsatisfiable(), &actions);
        }
        let pair = (constraint.topology_key(), constraint.when_unsatisfiable());
        if seen.contains(&pair) {
            let shown = format!("{{{}, {}}}", pair.0, pair.1);
            e.duplicate(Spot::of(constraint).field(n::TOPOLOGY_KEY), shown);
        }
        seen.push(pair);
        selector(e, constraint.node(), n::LABEL_SELECTOR);
    }
}

/// A label selector in a field, if it is given.
pub fn selector(e: &mut Errors<'_>, node: Node<'_>, field: proto::NameId) {
    if let Some(selector) = node.get(field) {
        proto::selector::validate_label_selector(
            selector,
            proto::selector::SelectorRules::default(),
            e,
        );
    }
}

fn tolerations(e: &mut Errors<'_>, spec: PodSpec<'_>) {
    for toleration in spec.tolerations() {
        toleration_rules(e, toleration);
    }
}

/// `ValidateTolerations`, for one of them.
fn toleration_rules(e: &mut Errors<'_>, t: Toleration<'_>) {
    if !t.key().is_empty() {
        rules::each(e, t, n::KEY, names::label_key_problems(t.key()));
    }
    if t.key().is_empty() && t.operator() != "Exists" {
        e.invalid(Spot::of(t).field(n::OPERATOR), t.operator(), "operator must be Exists when `key` is empty, which means \"match all values and all keys\"");
    }
    if t.toleration_seconds().is_some() && t.effect() != "NoExecute" {
        e.invalid(
            Spot::of(t).field(n::EFFECT),
            t.effect(),
            "effect must be 'NoExecute' when `tolerationSeconds` is set",
        );
    }
    match t.operator() {
        "" | "Equal" => {
            let problems = names::label_value_problems(t.value());
            if !problems.is_empty() {
                e.invalid(
                    Spot::of(t).field(n::OPERATOR),
                    t.value(),
                    problems.join(";"),
                );
            }
        }
        "Exists" if !t.value().is_empty() => {
            e.invalid(
                Spot::of(t).field(n::OPERATOR),
                t.node().value(),
                "value must be empty when `operator` is 'Exists'",
            );
        }
        "Exists" => {}
        other => e.not_supported(Spot::of(t).field(n::OPERATOR), other, &["Equal", "Exists"]),
    }
    rules::one_of(
        e,
        t,
        n::EFFECT,
        &["NoSchedule", "PreferNoSchedule", "NoExecute"],
    );
}

fn host_aliases(e: &mut Errors<'_>, spec: PodSpec<'_>) {
    for alias in spec.host_aliases() {
        if alias.ip().parse::<std::net::IpAddr>().is_err() {
            e.invalid(
                Spot::of(alias).field(n::IP),
                alias.ip(),
                "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            );
        }
        for (i, name) in alias
            .hostnames()
            .iter()
            .filter_map(Value::as_str)
            .enumerate()
        {
            e.invalid_each(
                Spot::of(alias).field(n::HOSTNAMES).index(i),
                name,
                names::dns_subdomain_problems(name),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::tag;

    #[test]
    fn a_tag_is_not_a_port() {
        for (image, expected) in [
            ("nginx", "latest"),
            ("nginx:1.27", "1.27"),
            ("registry:5000/nginx", "latest"),
            ("registry:5000/nginx:2", "2"),
            ("nginx@sha256:abc", ""),
            ("nginx:1@sha256:abc", "1"),
        ] {
            assert_eq!(tag(image), expected, "{image}");
        }
    }
}
