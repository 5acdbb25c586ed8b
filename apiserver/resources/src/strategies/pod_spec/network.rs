//! Names, resolvers and namespaces of the host: what a pod is called, how it finds others, and what it shares
//! with its node.

use proto::Value;
use proto::catalogue::names as n;
use proto::meta::names;
use proto::path::{Errors, FieldError, Spot};
use proto::view::View;
use proto::view::core_v1::{Container, PodSpec};

use super::Options;
use super::containers::all_containers;
use crate::rules;

/// Upstream's bounds on resolver settings.
const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARACTERS: usize = 2048;
const MAX_HOST_NAME: usize = 64;
const WITH_USERS: &str = "when `hostUsers` is false";

/// On the host's network a port is the node's. Templates may leave it to the pod's defaults.
pub(super) fn host_ports(e: &mut Errors<'_>, spec: PodSpec<'_>, options: &Options<'_>) {
    if !spec.host_network() {
        return;
    }
    for port in spec.containers().iter().flat_map(|c| c.ports().iter()) {
        let number = port.host_port();
        if (options.pod.is_some() || number != 0) && number != port.container_port() {
            let field = Spot::of(port).field(n::HOST_PORT);
            let detail = "must match `containerPort` when `hostNetwork` is true";
            e.invalid(field, number, detail);
        }
    }
}

pub(super) fn processes(e: &mut Errors<'_>, spec: PodSpec<'_>) {
    if spec.host_pid() && spec.share_process_namespace() == Some(true) {
        let field = Spot::of(spec).field(PodSpec::SHARE_PROCESS_NAMESPACE);
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        e.invalid(field, true, detail);
    }
}

/// Users of its own go with no other namespace of the host (KEP-127). Two paths are upstream's.
pub(super) fn host_users(e: &mut Errors<'_>, spec: PodSpec<'_>, options: &Options<'_>) {
    if spec.host_users() != Some(false) {
        return;
    }
    let at = Spot::of(spec);
    if spec.host_network() && !options.kept.users_on_the_hosts_network {
        e.forbidden(at.field(PodSpec::HOST_NETWORK), WITH_USERS);
    }
    for (shared, field) in [(spec.host_pid(), ".HostPID"), (spec.host_ipc(), ".HostIPC")] {
        if shared {
            let path = rules::beside(e, at, field);
            e.push(FieldError::forbidden(path, WITH_USERS));
        }
    }
    if options.kept.devices_with_users {
        return;
    }
    for container in all_containers(spec).filter(|c| !c.volume_devices().is_empty()) {
        let field = Spot::of(container).field(Container::VOLUME_DEVICES);
        e.forbidden(field, WITH_USERS);
    }
}

/// A name that takes the place of the pod's (KEP-4762).
pub(super) fn host_name_override(e: &mut Errors<'_>, spec: PodSpec<'_>) {
    let Some(name) = spec.hostname_override() else {
        return;
    };
    let field = Spot::of(spec).field(PodSpec::HOSTNAME_OVERRIDE);
    if spec.set_hostname_as_fqdn() == Some(true) {
        e.forbidden(field, "may not be specified when setHostnameAsFQDN is true");
    }
    if spec.host_network() {
        e.forbidden(field, "may not be specified when hostNetwork is true");
    }
    if name.len() > MAX_HOST_NAME {
        e.too_long(field, MAX_HOST_NAME);
    }
    e.invalid_each(field, name, names::dns_subdomain_problems(name));
}

pub(super) fn host_aliases(e: &mut Errors<'_>, spec: PodSpec<'_>) {
    for alias in spec.host_aliases() {
        rules::legacy_ip(e, Spot::of(alias).field(n::IP), alias.ip(), &[]);
        for (i, name) in rules::texts(alias.hostnames()).enumerate() {
            let field = Spot::of(alias).field(n::HOSTNAMES).index(i);
            e.invalid_each(field, name, names::dns_subdomain_problems(name));
        }
    }
}

pub(super) fn resolver(e: &mut Errors<'_>, spec: PodSpec<'_>) {
    let config = spec.dns_config();
    if spec.dns_policy() == "None" {
        let field = Spot::of(spec).field(PodSpec::DNS_CONFIG);
        match config {
            None => {
                let detail = "must provide `dnsConfig` when `dnsPolicy` is None";
                e.required(field, detail);
                return;
            }
            Some(config) if config.nameservers().is_empty() => {
                let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
                e.required(Spot::of(config).field(n::NAMESERVERS), detail);
                return;
            }
            Some(_) => {}
        }
    }
    let Some(config) = config else { return };
    let at = Spot::of(config);
    let too_many = |e: &mut Errors<'_>, field, items: &[Value], detail: String| {
        e.invalid(at.field(field), &Value::List(items.to_vec()), detail);
    };
    let servers = config.nameservers();
    if servers.len() > MAX_NAMESERVERS {
        let detail = format!("must not have more than {MAX_NAMESERVERS} nameservers");
        too_many(e, n::NAMESERVERS, servers, detail);
    }
    for (i, server) in rules::texts(servers).enumerate() {
        rules::legacy_ip(e, at.field(n::NAMESERVERS).index(i), server, &[]);
    }
    let searches = config.searches();
    if searches.len() > MAX_SEARCHES {
        let detail = format!("must not have more than {MAX_SEARCHES} search paths");
        too_many(e, n::SEARCHES, searches, detail);
    }
    let characters: usize = rules::texts(searches).map(str::len).sum();
    if characters + searches.len().saturating_sub(1) > MAX_SEARCH_CHARACTERS {
        let detail = format!(
            "must not have more than {MAX_SEARCH_CHARACTERS} characters (including spaces) in the search list"
        );
        too_many(e, n::SEARCHES, searches, detail);
    }
    for (i, search) in rules::texts(searches).enumerate() {
        // One dot ends an absolute name, and one alone is the root.
        if search != "." {
            let name = search.strip_suffix('.').unwrap_or(search);
            let problems = names::dns_subdomain_with_underscore_problems(name);
            e.invalid_each(at.field(n::SEARCHES).index(i), name, problems);
        }
    }
    for option in config.options() {
        if option.node().str(n::NAME).is_empty() {
            e.required(Spot::of(option), "must not be empty");
        }
    }
}
