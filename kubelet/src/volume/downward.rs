//! Values of a pod's own fields, as upstream's `pkg/fieldpath` and `pkg/api/v1/resource` write
//! them.

use std::collections::BTreeMap;
use std::fmt::Write;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use proto::quantity::Quantity;

use super::Allocatable;

#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum Error {
    #[error("unsupported fieldPath: {0}")]
    Field(String),
    #[error("fieldPath {0:?} does not support subscript")]
    Subscript(String),
    #[error("container {0} not found")]
    Container(String),
    #[error("unsupported container resource : {0}")]
    Resource(String),
    #[error("invalid quantity {0:?}")]
    Quantity(String),
}

/// The value of `metadata.…`, with or without a key in brackets.
pub(crate) fn field(pod: &Pod, path: &str) -> Result<String, Error> {
    let meta = &pod.metadata;
    let of = |map: &Option<BTreeMap<String, String>>, key: &str| {
        map.as_ref()
            .and_then(|map| map.get(key))
            .cloned()
            .unwrap_or_default()
    };
    if let Some((path, key)) = path
        .strip_suffix("']")
        .and_then(|path| path.split_once("['"))
        && !path.is_empty()
    {
        return match path {
            "metadata.annotations" => Ok(of(&meta.annotations, key)),
            "metadata.labels" => Ok(of(&meta.labels, key)),
            _ => Err(Error::Subscript(format!("{path}['{key}']"))),
        };
    }
    match path {
        "metadata.annotations" => Ok(format_map(meta.annotations.as_ref())),
        "metadata.labels" => Ok(format_map(meta.labels.as_ref())),
        "metadata.name" => Ok(meta.name.clone().unwrap_or_default()),
        "metadata.namespace" => Ok(meta.namespace.clone().unwrap_or_default()),
        "metadata.uid" => Ok(meta.uid.clone().unwrap_or_default()),
        _ => Err(Error::Field(path.to_owned())),
    }
}

/// `key="value"` lines in the order of the keys.
fn format_map(map: Option<&BTreeMap<String, String>>) -> String {
    let lines = map
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", quoted(value)));
    lines.collect::<Vec<_>>().join("\n")
}

/// A string literal as Go prints it.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            _ if is_printable(c) => out.push(c),
            _ => escape(&mut out, c),
        }
    }
    out.push('"');
    out
}

/// Whether Go prints it as it is. The tables of both languages agree but for characters that join
/// others.
fn is_printable(c: char) -> bool {
    c == '\'' || c.escape_debug().count() == 1
}

fn escape(out: &mut String, c: char) {
    let code = u32::from(c);
    let written = match code {
        0..0x80 => write!(out, "\\x{code:02x}"),
        0x80..0x1_0000 => write!(out, "\\u{code:04x}"),
        _ => write!(out, "\\U{code:08x}"),
    };
    written.expect("writing to a string cannot fail");
}

/// A limit or request of one of the pod's containers, divided and rounded up. Limits that a
/// container does not have are the node's.
pub(crate) fn resource(
    pod: &Pod,
    selector: &ResourceFieldSelector,
    allocatable: &Allocatable,
) -> Result<String, Error> {
    let name = selector.container_name.as_deref().unwrap_or_default();
    let spec = pod.spec.as_ref();
    let containers = spec.into_iter().flat_map(|spec| {
        spec.containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
    });
    let container = containers
        .into_iter()
        .find(|container| container.name == name);
    let container = container.ok_or_else(|| Error::Container(name.to_owned()))?;
    resource_of(container, selector, allocatable)
}

/// The same of a container that need not be one of the pod's.
pub(crate) fn resource_of(
    container: &Container,
    selector: &ResourceFieldSelector,
    allocatable: &Allocatable,
) -> Result<String, Error> {
    let amount = amount(container, &selector.resource, allocatable)?;
    let divisor = match &selector.divisor {
        Some(divisor) => parse(&divisor.0)?,
        None => Quantity::default(),
    };
    let divisor = if divisor.is_zero() {
        parse("1")?
    } else {
        divisor
    };
    // Thousandths count for CPU only.
    let (amount, divisor) = match selector.resource.ends_with(".cpu") {
        true => (amount.milli_value(), divisor.milli_value()),
        false => (amount.value(), divisor.value()),
    };
    let quotient = (amount as f64 / divisor as f64).ceil();
    Ok((quotient as i64).to_string())
}

fn amount(container: &Container, of: &str, allocatable: &Allocatable) -> Result<Quantity, Error> {
    let unsupported = || Error::Resource(of.to_owned());
    let (list, name) = of.split_once('.').ok_or_else(unsupported)?;
    let known = ["cpu", "memory", "ephemeral-storage"].contains(&name);
    if !known && !name.starts_with("hugepages-") {
        return Err(unsupported());
    }
    let resources = container.resources.as_ref();
    let given = match list {
        "limits" => resources.and_then(|r| r.limits.as_ref()),
        "requests" => resources.and_then(|r| r.requests.as_ref()),
        _ => return Err(unsupported()),
    };
    let given = given
        .and_then(|list| list.get(name))
        .map(|q| parse(&q.0))
        .transpose()?;
    match given.filter(|quantity| !quantity.is_zero()) {
        Some(quantity) => Ok(quantity),
        None if list == "limits" && known => allocatable
            .get(name)
            .map_or(Ok(Quantity::default()), |quantity| parse(&quantity.0)),
        None => Ok(Quantity::default()),
    }
}

fn parse(text: &str) -> Result<Quantity, Error> {
    text.parse().map_err(|_| Error::Quantity(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
    use serde_json::json;

    fn pod() -> Pod {
        proto::typed::from_json_value(json!({
            "metadata": {
                "name": "p", "namespace": "n", "uid": "u",
                "labels": { "b": "2", "a": "say \"hi\"\n\u{1}é" },
                "annotations": { "x/y": "z" },
            },
            "spec": { "containers": [{
                "name": "c",
                "resources": {
                    "limits": { "cpu": "1500m", "hugepages-2Mi": "4Mi" },
                    "requests": { "memory": "100Mi" },
                },
            }] },
        }))
        .unwrap()
    }

    #[test]
    fn fields_are_written_as_upstream_writes_them() {
        let get = |path| field(&pod(), path);
        assert_eq!(
            get("metadata.labels").unwrap(),
            "a=\"say \\\"hi\\\"\\n\\x01é\"\nb=\"2\""
        );
        assert_eq!(get("metadata.labels['b']").unwrap(), "2");
        assert_eq!(get("metadata.labels['none']").unwrap(), "");
        assert_eq!(get("metadata.annotations['x/y']").unwrap(), "z");
        assert_eq!(get("metadata.uid").unwrap(), "u");
        assert_eq!(
            get("spec.nodeName").unwrap_err().to_string(),
            "unsupported fieldPath: spec.nodeName"
        );
        assert!(matches!(
            get("metadata.name['a']"),
            Err(Error::Subscript(_))
        ));
    }

    #[test]
    fn resources_are_divided_and_rounded_up() {
        let node = Allocatable::from([
            ("memory".into(), Text("1Gi".into())),
            ("cpu".into(), Text("4".into())),
        ]);
        let get = |of: &str, divisor: Option<&str>| {
            let selector = ResourceFieldSelector {
                container_name: Some("c".into()),
                resource: of.into(),
                divisor: divisor.map(|d| Text(d.into())),
            };
            resource(&pod(), &selector, &node)
        };
        assert_eq!(get("limits.cpu", None).unwrap(), "2");
        assert_eq!(get("limits.cpu", Some("1m")).unwrap(), "1500");
        assert_eq!(get("requests.memory", Some("1Mi")).unwrap(), "100");
        assert_eq!(get("requests.memory", Some("1Gi")).unwrap(), "1");
        // The node's where the container has no limit; nothing where it has no request.
        assert_eq!(get("limits.memory", Some("1Mi")).unwrap(), "1024");
        assert_eq!(get("requests.cpu", None).unwrap(), "0");
        assert_eq!(get("limits.hugepages-2Mi", Some("1Mi")).unwrap(), "4");
        assert!(get("limits.nonsense", None).is_err());
    }
}
