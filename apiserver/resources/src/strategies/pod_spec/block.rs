//! Volumes that are disks of a network, and drivers of such.

use proto::NameId;
use proto::catalogue::names as n;
use proto::meta::names;
use proto::path::{Errors, FieldError, Spot};
use proto::view::Node;
use proto::view::core_v1::Volume;

use super::volumes::{at, label, need, some};
use crate::rules;

/// Of a name of a volume and the portal, together with a colon.
const MAX_ISCSI_NAME: usize = 64;
const MAX_DRIVER: usize = 63;
const MAX_TENANT: usize = 64;

/// A reference to a secret that must be complete, if it is there.
pub(in crate::strategies) fn secret(e: &mut Errors<'_>, source: Node<'_>, fields: &[NameId]) {
    if let Some(secret) = source.get(n::SECRET_REF).map(Node::new) {
        fields.iter().for_each(|field| need(e, secret, *field));
    }
}

/// A disk of Google's, in what has it as its source: upstream's path has another name for it.
pub(in crate::strategies) fn gce_persistent_disk(
    e: &mut Errors<'_>,
    owner: Spot<'_>,
    source: Node<'_>,
) {
    let path = rules::beside(e, owner, ".persistentDisk");
    if source.str(n::PD_NAME).is_empty() {
        e.push(FieldError::required(format!("{path}.pdName"), ""));
    }
    if let Some(text) = partition(source) {
        let (path, number) = (format!("{path}.partition"), source.int(n::PARTITION));
        e.push(FieldError::invalid(path, number, text));
    }
}

pub(in crate::strategies) fn aws_elastic_block_store(e: &mut Errors<'_>, source: Node<'_>) {
    need(e, source, n::VOLUME_ID);
    if let Some(text) = partition(source) {
        let number = source.int(n::PARTITION);
        e.invalid(at(source).field(n::PARTITION), number, text);
    }
}

fn partition(source: Node<'_>) -> Option<&'static str> {
    // As upstream, which lets 0 pass.
    let fits = (0..=255).contains(&source.int(n::PARTITION));
    (!fits).then_some("must be between 1 and 255, inclusive")
}

pub(in crate::strategies) fn rbd(e: &mut Errors<'_>, source: Node<'_>) {
    some(e, source, n::MONITORS);
    need(e, source, n::IMAGE);
}

pub(in crate::strategies) fn storage_os(e: &mut Errors<'_>, source: Node<'_>) {
    need(e, source, n::VOLUME_NAME);
    label(e, source, n::VOLUME_NAME);
    label(e, source, n::VOLUME_NAMESPACE);
}

pub(in crate::strategies) fn scale_io(e: &mut Errors<'_>, source: Node<'_>) {
    for field in [n::GATEWAY, n::SYSTEM, n::VOLUME_NAME] {
        need(e, source, field);
    }
}

pub(super) fn iscsi(e: &mut Errors<'_>, source: Node<'_>) {
    need(e, source, n::TARGET_PORTAL);
    need(e, source, n::IQN);
    let target = source.str(n::IQN);
    if !target.is_empty() {
        iscsi_node(e, at(source).field(n::IQN), target);
    }
    lun(e, source);
    let authenticates = source.bool(n::CHAP_AUTH_DISCOVERY) || source.bool(n::CHAP_AUTH_SESSION);
    if authenticates && source.get(n::SECRET_REF).is_none() {
        e.required(at(source).field(n::SECRET_REF), "");
    }
    if let Some(initiator) = source.opt_str(n::INITIATOR_NAME) {
        // Upstream does not spell it as the field is spelled.
        let before = e.len();
        let path = rules::beside(e, at(source), ".initiatorname");
        let problem = iscsi_problem(initiator);
        debug_assert_eq!(before, e.len());
        if let Some(problem) = problem {
            e.push(FieldError::invalid(path, initiator, problem));
        }
    }
}

pub(super) fn iscsi_name(e: &mut Errors<'_>, volume: Volume<'_>, source: Node<'_>) {
    let length = volume.name().len() + 1 + source.str(n::TARGET_PORTAL).len();
    if source.opt_str(n::INITIATOR_NAME).is_some() && length > MAX_ISCSI_NAME {
        let detail = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
        e.invalid(Spot::of(volume).field(n::NAME), volume.name(), detail);
    }
}

fn iscsi_node(e: &mut Errors<'_>, at: Spot<'_>, name: &str) {
    if let Some(problem) = iscsi_problem(name) {
        e.invalid(at, name, problem);
    }
}

/// What is wrong with the name of an initiator or target (RFC 3720, section 3.2.6.3).
pub(in crate::strategies) fn iscsi_problem(name: &str) -> Option<&'static str> {
    let fits = match name.get(..3) {
        Some("iqn") => is_qualified(name),
        Some("eui") => is_alphanumeric_after_any(name, "eui", 16),
        Some("naa") => is_alphanumeric_after_any(name, "naa", 32),
        _ => return Some("must be valid format starting with iqn, eui, or naa"),
    };
    (!fits).then_some("must be valid format")
}

/// `iqn.2001-04.com.example:storage`, from some place on.
fn is_qualified(name: &str) -> bool {
    let digits =
        |text: Option<&str>| text.is_some_and(|text| text.bytes().all(|b| b.is_ascii_digit()));
    name.match_indices("iqn.").any(|(start, _)| {
        let rest = &name[start + 4..];
        let Some((authority, suffix)) = rest.get(8..).and_then(|tail| tail.split_once(':')) else {
            return false;
        };
        digits(rest.get(..4))
            && rest.get(4..5) == Some("-")
            && digits(rest.get(5..7))
            && rest.get(7..8) == Some(".")
            && !authority.is_empty()
            && authority
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
            && !suffix.is_empty()
            && !suffix.contains([',', ';', '*', '&', '$', '|', ' ', '\t', '\n', '\x0c', '\r'])
    })
}

fn is_alphanumeric_after_any(name: &str, prefix: &str, many: usize) -> bool {
    let mut rest = name.strip_prefix(prefix).unwrap_or_default().chars();
    let any = rest.next().is_some_and(|c| c != '\n');
    let rest = rest.as_str();
    any && rest.len() == many && rest.bytes().all(|b| b.is_ascii_alphanumeric())
}

pub(in crate::strategies) fn lun(e: &mut Errors<'_>, source: Node<'_>) {
    let lun = source.int(n::LUN);
    e.invalid_each(
        at(source).field(n::LUN),
        lun,
        names::range_problems(lun, 0, 255),
    );
}

pub(in crate::strategies) fn fibre_channel(e: &mut Errors<'_>, source: Node<'_>) {
    let (targets, ids) = (source.items(n::TARGET_WWNS), source.items(n::WWIDS));
    let field = at(source).field(n::TARGET_WWNS);
    match (targets.is_empty(), ids.is_empty()) {
        (true, true) => e.required(
            field,
            "must specify either targetWWNs or wwids, but not both",
        ),
        (false, false) => {
            let shown = source.get(n::TARGET_WWNS).unwrap_or(source.value());
            let detail = "targetWWNs and wwids can not be specified simultaneously";
            e.invalid(field, shown, detail);
        }
        _ => {}
    }
    if targets.is_empty() {
        return;
    }
    if source.opt_int(n::LUN).is_some() {
        lun(e, source);
    } else {
        let detail = "lun is required if targetWWNs is specified";
        e.required(at(source).field(n::LUN), detail);
    }
}

pub(in crate::strategies) fn quobyte(e: &mut Errors<'_>, source: Node<'_>) {
    let registry = source.str(n::REGISTRY);
    let detail = "must be a host:port pair or multiple pairs separated by commas";
    if registry.is_empty() {
        e.required(at(source).field(n::REGISTRY), detail);
    } else if source.str(n::TENANT).len() > MAX_TENANT {
        let detail = "must be a UUID and may not exceed a length of 64 characters";
        e.required(at(source).field(n::TENANT), detail);
    } else {
        for _ in registry.split(',').filter(|pair| !is_host_and_port(pair)) {
            e.invalid(at(source).field(n::REGISTRY), registry, detail);
        }
    }
    need(e, source, n::VOLUME);
}

/// As Go's `net.SplitHostPort` sees it.
fn is_host_and_port(pair: &str) -> bool {
    let Some((host, port)) = pair.rsplit_once(':') else {
        return false;
    };
    let brackets = ['[', ']'];
    match host.strip_prefix('[') {
        Some(inside) => inside
            .strip_suffix(']')
            .is_some_and(|inside| !inside.contains(brackets) && !port.contains(brackets)),
        None => !host.contains(':') && !pair.contains(brackets),
    }
}

pub(in crate::strategies) fn flex(e: &mut Errors<'_>, source: Node<'_>) {
    need(e, source, n::DRIVER);
    for (key, _) in source.dict(n::OPTIONS).iter() {
        let key = key.as_str();
        let namespace = key.split_once('/').map_or(key, |(namespace, _)| namespace);
        let dotted = format!(".{}", namespace.to_lowercase());
        if dotted.ends_with(".kubernetes.io") || dotted.ends_with(".k8s.io") {
            let field = at(source).field(n::OPTIONS).key(key);
            let detail = "kubernetes.io and k8s.io namespaces are reserved";
            e.invalid(field, key, detail);
        }
    }
}

pub(in crate::strategies) fn azure_disk(e: &mut Errors<'_>, source: Node<'_>) {
    need(e, source, n::DISK_NAME);
    need(e, source, n::DISK_URI);
    for (field, allowed) in [
        (n::CACHING_MODE, ["None", "ReadOnly", "ReadWrite"]),
        (n::KIND, ["Dedicated", "Managed", "Shared"]),
    ] {
        if let Some(text) = source.opt_str(field) {
            rules::known(e, at(source).field(field), text, &allowed);
        }
    }
    let uri = source.str(n::DISK_URI);
    let (start, form) = match source.opt_str(n::KIND) {
        None => return,
        Some("Managed") => (
            "/subscriptions/",
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",
        ),
        Some(_) => (
            "https://",
            "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd",
        ),
    };
    if !uri.starts_with(start) {
        e.not_supported(at(source).field(n::DISK_URI), uri, &[form]);
    }
}

pub(super) fn csi(e: &mut Errors<'_>, source: Node<'_>) {
    driver(e, at(source).field(n::DRIVER), source.str(n::DRIVER));
    let Some(secret) = source.get(n::NODE_PUBLISH_SECRET_REF).map(Node::new) else {
        return;
    };
    let name = secret.str(n::NAME);
    if name.is_empty() {
        e.required(at(secret).field(n::NAME), "");
    } else {
        // The path is upstream's, which leaves a step out.
        let field = at(source).field(n::NAME);
        e.invalid_each(field, name, names::subdomain_name(name, false));
    }
}

/// `ValidateCSIDriverName`.
pub(in crate::strategies) fn driver(e: &mut Errors<'_>, at: Spot<'_>, name: &str) {
    if name.is_empty() {
        e.required(at, "");
        return;
    }
    if name.len() > MAX_DRIVER {
        e.too_long(at, MAX_DRIVER);
    }
    let problems = names::dns_subdomain_problems(&name.to_lowercase());
    e.invalid_each(at, name, problems);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_iscsi_nodes_have_one_of_three_forms() {
        for good in [
            "iqn.2001-04.com.example:storage.disk1",
            "eui.0123456789abcdef",
            "naa.0123456789abcdef0123456789abcdef",
        ] {
            assert_eq!(iscsi_problem(good), None, "{good}");
        }
        for bad in [
            "iqn.2001-04.com.example",
            "iqn.2001-04.com.example:a b",
            "iqn.01-04.com.example:a",
            "eui.0123",
            "naa.0123456789abcdef",
        ] {
            assert_eq!(iscsi_problem(bad), Some("must be valid format"), "{bad}");
        }
        assert!(iscsi_problem("").is_some_and(|p| p.contains("starting with")));
    }

    #[test]
    fn a_registry_has_hosts_and_ports() {
        for (pair, good) in [
            ("a:1", true),
            ("[::1]:1", true),
            (":1", true),
            ("a", false),
            ("::1:1", false),
            ("[a]b:1", false),
        ] {
            assert_eq!(is_host_and_port(pair), good, "{pair}");
        }
    }
}
