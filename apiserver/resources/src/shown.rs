//! Objects in errors, as upstream shows them.
//!
//! Upstream validates its internal types and shows them with `encoding/json`. They have no JSON names:
//! fields bear the names of Go, in the order of the declaration, and nothing is left out. Only what the
//! internal types take from `meta/v1` looks as clients know it.

use std::fmt::Write;

use proto::catalogue::{Field, Flags, Kind, Shape, messages, names as n};
use proto::codec::json;
use proto::path::Show;
use proto::view::View;
use proto::{MsgId, NameId, Value};

mod diff;

/// Names of Go that are not the JSON name with a capital letter, where all messages agree.
const NAMES: &[(&str, &str)] = &[
    ("apiGroup", "APIGroup"),
    ("apiGroups", "APIGroups"),
    ("apiVersion", "APIVersion"),
    ("apiVersions", "APIVersions"),
    ("awsElasticBlockStore", "AWSElasticBlockStore"),
    ("caBundle", "CABundle"),
    ("cel", "CEL"),
    ("cephfs", "CephFS"),
    ("chapAuthDiscovery", "DiscoveryCHAPAuth"),
    ("chapAuthSession", "SessionCHAPAuth"),
    ("cidr", "CIDR"),
    ("cidrs", "CIDRs"),
    ("csi", "CSI"),
    ("diskURI", "DataDiskURI"),
    ("dnsConfig", "DNSConfig"),
    ("dnsPolicy", "DNSPolicy"),
    ("fc", "FC"),
    ("fsGroup", "FSGroup"),
    ("fsGroupChangePolicy", "FSGroupChangePolicy"),
    ("fsGroupPolicy", "FSGroupPolicy"),
    ("fsType", "FSType"),
    ("gcePersistentDisk", "GCEPersistentDisk"),
    ("gid", "GID"),
    ("gmsaCredentialSpec", "GMSACredentialSpec"),
    ("gmsaCredentialSpecName", "GMSACredentialSpecName"),
    ("grpc", "GRPC"),
    ("http", "HTTP"),
    ("httpGet", "HTTPGet"),
    ("httpHeaders", "HTTPHeaders"),
    ("ip", "IP"),
    ("ipBlock", "IPBlock"),
    ("ipFamilies", "IPFamilies"),
    ("ipFamilyPolicy", "IPFamilyPolicy"),
    ("ipMode", "IPMode"),
    ("ips", "IPs"),
    ("iqn", "IQN"),
    ("iscsi", "ISCSI"),
    ("iscsiInterface", "ISCSIInterface"),
    ("jsonPatch", "JSONPatch"),
    ("nfs", "NFS"),
    ("os", "OS"),
    ("osImage", "OSImage"),
    ("pdName", "PDName"),
    ("pkixPublicKey", "PKIXPublicKey"),
    ("qosClass", "QOSClass"),
    ("rbd", "RBD"),
    ("seLinuxChangePolicy", "SELinuxChangePolicy"),
    ("seLinuxMount", "SELinuxMount"),
    ("seLinuxOptions", "SELinuxOptions"),
    ("serviceAccount", "DeprecatedServiceAccount"),
    ("sslEnabled", "SSLEnabled"),
    ("storageos", "StorageOS"),
    ("tcpSocket", "TCPSocket"),
    ("tls", "TLS"),
    ("ttlSecondsAfterFinished", "TTLSecondsAfterFinished"),
    ("tty", "TTY"),
    ("uid", "UID"),
    ("url", "URL"),
    ("wwids", "WWIDs"),
];

/// Names of one message alone.
const OF_MESSAGES: &[(MsgId, &str, &str)] = &[
    (
        messages::core_v1::GLUSTERFS_VOLUME_SOURCE,
        "endpoints",
        "EndpointsName",
    ),
    (
        messages::core_v1::RBD_VOLUME_SOURCE,
        "monitors",
        "CephMonitors",
    ),
    (messages::core_v1::RBD_VOLUME_SOURCE, "image", "RBDImage"),
    (messages::resource_v1::DEVICE_ATTRIBUTE, "int", "IntValue"),
    (messages::resource_v1::DEVICE_ATTRIBUTE, "bool", "BoolValue"),
    (
        messages::resource_v1::DEVICE_ATTRIBUTE,
        "string",
        "StringValue",
    ),
    (
        messages::resource_v1::DEVICE_ATTRIBUTE,
        "version",
        "VersionValue",
    ),
    (messages::resource_v1::DEVICE_ATTRIBUTE, "ints", "IntValues"),
    (
        messages::resource_v1::DEVICE_ATTRIBUTE,
        "bools",
        "BoolValues",
    ),
    (
        messages::resource_v1::DEVICE_ATTRIBUTE,
        "strings",
        "StringValues",
    ),
    (
        messages::resource_v1::DEVICE_ATTRIBUTE,
        "versions",
        "VersionValues",
    ),
    (messages::core_v1::RBD_VOLUME_SOURCE, "pool", "RBDPool"),
    (messages::core_v1::RBD_VOLUME_SOURCE, "user", "RadosUser"),
    (
        messages::core_v1::GLUSTERFS_PERSISTENT_VOLUME_SOURCE,
        "endpoints",
        "EndpointsName",
    ),
    (
        messages::core_v1::RBD_PERSISTENT_VOLUME_SOURCE,
        "monitors",
        "CephMonitors",
    ),
    (
        messages::core_v1::RBD_PERSISTENT_VOLUME_SOURCE,
        "image",
        "RBDImage",
    ),
    (
        messages::core_v1::RBD_PERSISTENT_VOLUME_SOURCE,
        "pool",
        "RBDPool",
    ),
    (
        messages::core_v1::RBD_PERSISTENT_VOLUME_SOURCE,
        "user",
        "RadosUser",
    ),
];

/// Fields that are pointers in what clients send, and not in the internal types.
const BY_VALUE: &[(MsgId, &[NameId])] = &[
    (
        messages::apps_v1::ROLLING_UPDATE_DEPLOYMENT,
        &[n::MAX_UNAVAILABLE, n::MAX_SURGE],
    ),
    (
        messages::apps_v1::ROLLING_UPDATE_DAEMON_SET,
        &[n::MAX_UNAVAILABLE, n::MAX_SURGE],
    ),
    (
        messages::apps_v1::ROLLING_UPDATE_STATEFUL_SET_STRATEGY,
        &[n::PARTITION],
    ),
];

/// An object of an internal type, for [`Errors::invalid`](proto::path::Errors::invalid) and its like.
#[derive(Clone, Copy)]
pub struct Internal<'a>(pub Option<&'a Value>, pub MsgId);

impl<'a> Internal<'a> {
    pub fn of<V: View<'a>>(view: V) -> Self {
        Self(Some(view.node().value()), V::MESSAGE)
    }
}

impl Show for Internal<'_> {
    fn show(&self) -> String {
        let mut out = String::new();
        match self.0 {
            None | Some(Value::Null) => out.push_str("null"),
            Some(Value::List(items)) => list(&mut out, items, |out, item| {
                message(out, Some(item), self.1);
            }),
            value => message(&mut out, value, self.1),
        }
        out
    }
}

/// What upstream's `diff.Diff` says of two objects of an internal type, or of two lists of them.
#[must_use]
pub fn difference(old: &Value, new: &Value, of: MsgId) -> String {
    diff::unified(&lines(old, of), &lines(new, of))
}

/// The lines of an object, one space a level.
fn lines(value: &Value, of: MsgId) -> Vec<String> {
    let (out, mut pretty) = (Internal(Some(value), of).show(), Vec::new());
    json::indent(out.as_bytes(), &mut pretty);
    let halved = |line: &str| {
        let text = line.trim_start_matches(' ');
        format!("{}{text}", &line[..(line.len() - text.len()) / 2])
    };
    String::from_utf8_lossy(&pretty)
        .lines()
        .map(halved)
        .collect()
}

/// A list of JSON, each item by `one`.
pub(crate) fn list<T>(out: &mut String, items: &[T], one: impl Fn(&mut String, &T)) {
    out.push('[');
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        one(out, item);
    }
    out.push(']');
}

/// `None` for one that Go holds by value and nothing was said of.
fn message(out: &mut String, value: Option<&Value>, of: MsgId) {
    if of.name().starts_with("meta/v1.") {
        let mut bytes = Vec::new();
        json::encode(value.unwrap_or(&Value::object()), of, &mut bytes);
        out.push_str(&String::from_utf8_lossy(&bytes));
        return;
    }
    out.push('{');
    let mut first = true;
    // Internal objects do not say what they are.
    let is_object = of.field(n::METADATA).is_some();
    for field in of.fields() {
        if is_object && matches!(field.name, n::KIND | n::API_VERSION) {
            continue;
        }
        let value = value
            .and_then(|v| v.get(field.name))
            .filter(|v| !v.is_null());
        let before = out.len();
        if !first {
            out.push(',');
        }
        let start = out.len();
        if field.name == n::METADATA && matches!(field.kind, Kind::Message(_)) {
            // Embedded without a name of its own: its fields stand among the others.
            self::field(out, of, field, value);
            out.truncate(out.len() - 1);
            out.remove(start);
        } else {
            let _ = write!(out, "\"{}\":", name(of, field));
            self::field(out, of, field, value);
        }
        if out.len() == start {
            out.truncate(before);
        } else {
            first = false;
        }
    }
    out.push('}');
}

fn name(of: MsgId, field: &Field) -> String {
    let text = field.name.text();
    let own = OF_MESSAGES
        .iter()
        .find(|(message, name, _)| *message == of && *name == text)
        .map(|(_, _, go)| *go);
    let shared = || NAMES.iter().find(|(name, _)| *name == text);
    match own.or_else(|| shared().map(|(_, go)| *go)) {
        Some(go) => go.to_owned(),
        None => text[..1].to_uppercase() + &text[1..],
    }
}

fn field(out: &mut String, of: MsgId, field: &Field, value: Option<&Value>) {
    let by_value = BY_VALUE
        .iter()
        .any(|(message, fields)| *message == of && fields.contains(&field.name));
    let absent = match (field.shape, value) {
        (Shape::List, Some(Value::List(items))) => {
            list(out, items, |out, item| single(out, field.kind, item));
            return;
        }
        (Shape::Map, Some(Value::Map(entries))) => {
            let entries: Vec<_> = entries.iter().collect();
            let before = out.len();
            list(out, &entries, |out, (key, value)| {
                text(out, &Value::from(key.as_str()));
                out.push(':');
                single(out, field.kind, value);
            });
            out.replace_range(before..=before, "{");
            out.truncate(out.len() - 1);
            out.push('}');
            return;
        }
        (Shape::One, Some(value)) => {
            single(out, field.kind, value);
            return;
        }
        (Shape::List | Shape::Map, _) => "null",
        (Shape::One, None) if field.has(Flags::POINTER) && !by_value => "null",
        (Shape::One, None) => match field.kind {
            Kind::String => "\"\"",
            Kind::Bool => "false",
            Kind::Int32 | Kind::Int64 | Kind::Float64 | Kind::IntOrString => "0",
            Kind::Quantity => "\"0\"",
            Kind::Message(of) => {
                message(out, None, of);
                return;
            }
            _ => "null",
        },
    };
    out.push_str(absent);
}

fn single(out: &mut String, kind: Kind, value: &Value) {
    match kind {
        Kind::Message(of) => message(out, Some(value), of),
        _ => text(out, value),
    }
}

fn text(out: &mut String, value: &Value) {
    let mut bytes = Vec::new();
    json::write(value, &mut bytes);
    out.push_str(&String::from_utf8_lossy(&bytes));
}

#[cfg(test)]
mod tests {
    use proto::codec::json::Strictness;

    use super::*;

    fn shown(text: &str, of: MsgId) -> String {
        let decoded = json::decode(text.as_bytes(), of, Strictness::Strict);
        Internal(Some(&decoded.expect("the test's JSON is valid").value), of).show()
    }

    #[test]
    fn an_internal_object_shows_all_its_fields_under_their_names_in_go() {
        let security = shown(
            r#"{"allowPrivilegeEscalation":false,"seLinuxOptions":{"level":"<s0>"},"capabilities":{"add":["A"]}}"#,
            messages::core_v1::SECURITY_CONTEXT,
        );
        assert_eq!(
            security,
            r#"{"Capabilities":{"Add":["A"],"Drop":null},"Privileged":null,"SELinuxOptions":{"User":"","Role":"","Type":"","Level":"\u003cs0\u003e"},"WindowsOptions":null,"RunAsUser":null,"RunAsGroup":null,"RunAsNonRoot":null,"ReadOnlyRootFilesystem":null,"AllowPrivilegeEscalation":false,"ProcMount":null,"SeccompProfile":null,"AppArmorProfile":null}"#
        );
        let port = shown(
            r#"{"httpGet":{"port":"p"}}"#,
            messages::core_v1::PROBE_HANDLER,
        );
        assert_eq!(
            port,
            r#"{"Exec":null,"HTTPGet":{"Path":"","Port":"p","Host":"","Scheme":"","HTTPHeaders":null,"Protocol":null},"TCPSocket":null,"GRPC":null}"#
        );
    }

    #[test]
    fn what_is_of_meta_v1_looks_as_clients_know_it() {
        let constraint = shown(
            r#"{"maxSkew":1,"labelSelector":{"matchLabels":{"a":"b"}},"matchLabelKeys":[]}"#,
            messages::core_v1::TOPOLOGY_SPREAD_CONSTRAINT,
        );
        assert!(
            constraint.starts_with(r#"{"MaxSkew":1,"TopologyKey":"","WhenUnsatisfiable":"","LabelSelector":{"matchLabels":{"a":"b"}},"MinDomains":null,"#),
            "{constraint}"
        );
        assert!(
            constraint.ends_with(r#""MatchLabelKeys":[]}"#),
            "{constraint}"
        );
        let limits = shown(
            r#"{"limits":{"cpu":"1","a":"2"}}"#,
            messages::core_v1::RESOURCE_REQUIREMENTS,
        );
        assert_eq!(
            limits,
            r#"{"Limits":{"a":"2","cpu":"1"},"Requests":null,"Claims":null}"#
        );
    }

    #[test]
    fn a_difference_is_one_of_lines() {
        let value = |text: &str| json::parse(text.as_bytes()).expect("the test's JSON is valid");
        let of = messages::core_v1::HOST_ALIAS;
        assert_eq!(
            difference(
                &value(r#"{"ip":"1.2.3.4","hostnames":["a"]}"#),
                &value(r#"{"ip":"1.2.3.5","hostnames":["a"]}"#),
                of
            ),
            "@@ -1,5 +1,5 @@\n {\n- \"IP\": \"1.2.3.4\",\n+ \"IP\": \"1.2.3.5\",\n  \"Hostnames\": [\n   \"a\"\n  ]\n"
        );
    }
}
