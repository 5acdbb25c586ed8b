//! `RuntimeClass`: a pod gets the overhead and the nodes of the class that it runs in.
//! Upstream: `plugin/pkg/admission/runtimeclass`.

use proto::Value;
use proto::catalogue::names as n;
use proto::path::quote;
use resources::equal::same;
use resources::status::Failure;

use super::{Attributes, CREATE, Operation, Plugin, tolerations};
use crate::server::Server;

pub(super) const PLUGIN: Plugin = Plugin {
    name: "RuntimeClass",
    on_by_default: true,
    operations: CREATE,
    mutate: Some(|server, write| Box::pin(admit(server, write))),
    validate: Some(|server, write| Box::pin(validate(server, write))),
    ..Plugin::OFF
};

const MISMATCH: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

/// The class of a pod that is created; none if it names none.
async fn class(server: &Server, write: &Attributes<'_>) -> Result<Option<Value>, Failure> {
    let name = write
        .object
        .as_deref()
        .and_then(|p| p.at(&[n::SPEC, n::RUNTIME_CLASS_NAME]))
        .and_then(Value::as_str);
    let Some(name) = name else { return Ok(None) };
    if name.is_empty() {
        // What upstream's client says, and nothing gives a code to.
        return Err(Failure::new(500, "", "resource name may not be empty"));
    }
    match server
        .lookup("node.k8s.io", "runtimeclasses", "", name)
        .await?
    {
        Some(class) => Ok(Some(class)),
        None => Err(write.forbid(&format!(
            "pod rejected: RuntimeClass {} not found",
            quote(name)
        ))),
    }
}

fn concerns(write: &Attributes<'_>) -> bool {
    write.operation == Operation::Create && write.is("", "pods")
}

fn overhead(class: &Value) -> Option<Value> {
    class
        .get(n::OVERHEAD)
        .filter(|o| !o.is_null())?
        .get(n::POD_FIXED)
        .cloned()
        .or_else(|| Some(Value::object()))
}

async fn admit(server: &Server, write: &mut Attributes<'_>) -> Result<(), Failure> {
    if !concerns(write) {
        return Ok(());
    }
    let Some(class) = class(server, write).await? else {
        return Ok(());
    };
    let Some(pod) = write.object.as_deref_mut() else {
        return Ok(());
    };
    apply(pod, &class).map_err(|why| write.forbid(&why))
}

fn apply(pod: &mut Value, class: &Value) -> Result<(), String> {
    let spec = pod.ensure(&[n::SPEC]);
    if let Some(overhead) = overhead(class) {
        let own = spec
            .get(n::OVERHEAD)
            .filter(|o| o.as_map().is_some_and(|m| !m.is_empty()));
        if own.is_some_and(|own| !same(own, &overhead)) {
            return Err(MISMATCH.into());
        }
        spec.set(&[n::OVERHEAD], overhead);
    }
    let Some(scheduling) = class.get(n::SCHEDULING).filter(|s| !s.is_null()) else {
        return Ok(());
    };
    for (key, value) in scheduling
        .get(n::NODE_SELECTOR)
        .and_then(Value::as_map)
        .into_iter()
        .flat_map(|m| m.iter())
    {
        let selector = spec.ensure(&[n::NODE_SELECTOR]).make_map();
        if let Some(own) = selector.get(key).filter(|own| *own != value) {
            let (key, text) = (key.as_str(), |v: &Value| {
                v.as_str().unwrap_or_default().to_owned()
            });
            return Err(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                text(value),
                text(own)
            ));
        }
        selector.insert(key, value.clone());
    }
    let own = spec
        .get(n::TOLERATIONS)
        .and_then(Value::as_list)
        .unwrap_or_default();
    let more = scheduling
        .get(n::TOLERATIONS)
        .and_then(Value::as_list)
        .unwrap_or_default();
    let merged = tolerations::merge(own, more);
    if !merged.is_empty() {
        spec.set(&[n::TOLERATIONS], merged);
    }
    Ok(())
}

async fn validate(server: &Server, write: &mut Attributes<'_>) -> Result<(), Failure> {
    if !concerns(write) {
        return Ok(());
    }
    let class = class(server, write).await?;
    let own = write
        .object
        .as_deref()
        .and_then(|p| p.at(&[n::SPEC, n::OVERHEAD]))
        .filter(|o| !o.is_null());
    match (class.as_ref().and_then(overhead), own) {
        (Some(wanted), own) if !same(&wanted, own.unwrap_or(&Value::Null)) => {
            Err(write.forbid(MISMATCH))
        }
        (None, Some(_)) => Err(write.forbid(
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proto::MsgId;
    use proto::catalogue::messages::{core_v1, node_v1};
    use proto::codec::json::{self, Strictness};

    use super::*;

    fn decode(text: &str, message: MsgId) -> Value {
        json::decode(text.as_bytes(), message, Strictness::Strict)
            .expect("the test's JSON is valid")
            .value
    }

    fn applied(spec: &str) -> Result<Value, String> {
        let class = decode(
            r#"{"handler":"h","overhead":{"podFixed":{"cpu":"250m"}},
                "scheduling":{"nodeSelector":{"sandbox":"yes"},"tolerations":[{"key":"sandbox","operator":"Exists"}]}}"#,
            node_v1::RUNTIME_CLASS,
        );
        let mut pod = decode(&format!(r#"{{"spec":{spec}}}"#), core_v1::POD);
        apply(&mut pod, &class).map(|()| pod)
    }

    #[test]
    fn a_pod_gets_the_overhead_and_the_nodes_of_its_class() {
        let pod = applied(r#"{"nodeSelector":{"disk":"ssd"},"tolerations":[{"key":"sandbox","operator":"Equal","value":"x"}]}"#).unwrap();
        let text = |path: &[proto::NameId], key: &str| {
            pod.at(path)
                .and_then(|m| m.get(key))
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        assert_eq!(
            text(&[n::SPEC, n::OVERHEAD], "cpu").as_deref(),
            Some("250m")
        );
        assert_eq!(
            text(&[n::SPEC, n::NODE_SELECTOR], "sandbox").as_deref(),
            Some("yes")
        );
        assert_eq!(
            text(&[n::SPEC, n::NODE_SELECTOR], "disk").as_deref(),
            Some("ssd")
        );
        let tolerations = pod
            .at(&[n::SPEC, n::TOLERATIONS])
            .and_then(Value::as_list)
            .unwrap();
        assert_eq!(tolerations.len(), 1, "the wider one covers the pod's own");
    }

    #[test]
    fn what_contradicts_the_class_is_refused() {
        assert_eq!(applied(r#"{"overhead":{"cpu":"1"}}"#), Err(MISMATCH.into()));
        assert!(applied(r#"{"overhead":{"cpu":"250m"}}"#).is_ok());
        assert!(
            applied(r#"{"nodeSelector":{"sandbox":"no"}}"#)
                .unwrap_err()
                .starts_with("conflict")
        );
    }
}
