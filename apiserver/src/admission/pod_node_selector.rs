//! `PodNodeSelector`: pods of a namespace go to the nodes that its annotation, or the configuration,
//! names, and ask for no labels but those that the configuration lists for the namespace.
//!
//! Upstream: `plugin/pkg/admission/podnodeselector`. A configuration that cannot be read, upstream takes
//! for none; here the server does not start.

use std::collections::BTreeMap;

use proto::catalogue::names as n;
use proto::meta::names;
use proto::path::FieldError;
use proto::{Map, Value, meta};
use resources::status::Failure;
use serde::Deserialize;

use super::config::{Refused, read_bare};
use super::{Attributes, CREATE, Plugin};
use crate::server::Server;

pub(super) const PLUGIN: Plugin = Plugin {
    name: "PodNodeSelector",
    operations: CREATE,
    configure: Some(|state, told, _| {
        state.node_selectors = selectors(told)?;
        Ok(())
    }),
    mutate: Some(|server, write| Box::pin(admit(server, write))),
    validate: Some(|server, write| Box::pin(validate(server, write))),
    ..Plugin::OFF
};

const ANNOTATION: &str = "scheduler.alpha.kubernetes.io/node-selector";
/// The entry that is no namespace: what namespaces without the annotation have.
const DEFAULT: &str = "clusterDefaultNodeSelector";

/// Labels of nodes, by namespace.
pub(super) type Selectors = BTreeMap<String, Labels>;
type Labels = BTreeMap<String, String>;

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Configuration {
    pod_node_selector_plugin_config: BTreeMap<String, String>,
}

fn selectors(told: Option<&[u8]>) -> Result<Selectors, Refused> {
    let file: Configuration = told.map(read_bare).transpose()?.unwrap_or_default();
    let all = file.pod_node_selector_plugin_config.into_iter();
    all.map(|(namespace, text)| match labels(&text) {
        Ok(labels) => Ok((namespace, labels)),
        Err(why) => Err(Refused::Selector(format!("{namespace}: {why}"))),
    })
    .collect()
}

/// `key=value,...`
fn labels(text: &str) -> Result<Labels, String> {
    let mut labels = Labels::new();
    if text.is_empty() {
        return Ok(labels);
    }
    for label in text.split(',') {
        let parts: Vec<&str> = label.split('=').collect();
        let [key, value] = parts[..] else {
            return Err(format!("invalid selector: [{}]", parts.join(" ")));
        };
        let (key, value) = (key.trim(), value.trim());
        // Upstream's paths are of nothing.
        let invalid = |at: &str, value: &str, problems: Vec<String>| {
            FieldError::invalid(at, value, problems.join("; ")).to_string()
        };
        let problems = names::label_key_problems(key);
        if !problems.is_empty() {
            return Err(invalid("<nil>", key, problems));
        }
        let problems = names::label_value_problems(value);
        if !problems.is_empty() {
            return Err(invalid(&format!("[{key}]"), value, problems));
        }
        labels.insert(key.to_owned(), value.to_owned());
    }
    Ok(labels)
}

async fn admit(server: &Server, write: &mut Attributes<'_>) -> Result<(), Failure> {
    if !write.is("", "pods") {
        return Ok(());
    }
    let wanted = wanted(server, write.namespace).await?;
    let allowed = server.admission.state.node_selectors.get(write.namespace);
    let Some(pod) = write.object.as_deref_mut() else {
        return Ok(());
    };
    agree(pod, &wanted)?;
    if !wanted.is_empty() {
        let selector = pod.ensure(&[n::SPEC, n::NODE_SELECTOR]).make_map();
        for (key, value) in &wanted {
            selector.insert(key.as_str(), value.as_str());
        }
    }
    listed(pod, allowed)
}

async fn validate(server: &Server, write: &mut Attributes<'_>) -> Result<(), Failure> {
    if !write.is("", "pods") {
        return Ok(());
    }
    let wanted = wanted(server, write.namespace).await?;
    let allowed = server.admission.state.node_selectors.get(write.namespace);
    let Some(pod) = write.object.as_deref() else {
        return Ok(());
    };
    agree(pod, &wanted)?;
    listed(pod, allowed)
}

/// The labels that a namespace's pods must go by.
async fn wanted(server: &Server, namespace: &str) -> Result<Labels, Failure> {
    let found = server.lookup("", "namespaces", "", namespace).await?;
    let missing = || Failure::internal(format!("namespace {namespace} does not exist"));
    of_namespace(
        &found.ok_or_else(missing)?,
        &server.admission.state.node_selectors,
    )
}

fn of_namespace(namespace: &Value, selectors: &Selectors) -> Result<Labels, Failure> {
    match meta::annotation(namespace, ANNOTATION) {
        Some(text) => labels(text).map_err(|why| Failure::new(500, "", why)),
        None => Ok(selectors.get(DEFAULT).cloned().unwrap_or_default()),
    }
}

fn own(pod: &Value) -> Option<&Map> {
    pod.at(&[n::SPEC, n::NODE_SELECTOR]).and_then(Value::as_map)
}

fn forbidden(pod: &Value, why: &str) -> Failure {
    Failure::forbidden("", "pods", meta::name(pod), why)
}

fn agree(pod: &Value, wanted: &Labels) -> Result<(), Failure> {
    let differs = |(key, value): (&String, &String)| {
        let own = own(pod).and_then(|own| own.get(key.as_str()));
        own.is_some_and(|own| own.as_str() != Some(value.as_str()))
    };
    if wanted.iter().any(differs) {
        let why = "pod node label selector conflicts with its namespace node label selector";
        return Err(forbidden(pod, why));
    }
    Ok(())
}

/// An empty list allows everything.
fn listed(pod: &Value, allowed: Option<&Labels>) -> Result<(), Failure> {
    let Some(allowed) = allowed.filter(|allowed| !allowed.is_empty()) else {
        return Ok(());
    };
    let mut own = own(pod).into_iter().flat_map(Map::iter);
    if own.all(|(key, value)| allowed.get(key.as_str()).map(String::as_str) == value.as_str()) {
        return Ok(());
    }
    let why = "pod node label selector labels conflict with its namespace whitelist";
    Err(forbidden(pod, why))
}

#[cfg(test)]
mod tests {
    use super::super::testing::pod;
    use super::*;

    fn of(text: &str) -> Labels {
        labels(text).unwrap()
    }

    fn namespace(annotation: Option<&str>) -> Value {
        let mut namespace = Value::object();
        if let Some(text) = annotation {
            meta::set_annotation(&mut namespace, ANNOTATION, text);
        }
        namespace
    }

    #[test]
    fn a_namespace_has_its_annotation_or_the_default() {
        let configured = selectors(Some(
            b"podNodeSelectorPluginConfig: {clusterDefaultNodeSelector: 'a=b', ns: ''}",
        ))
        .unwrap();
        let labels = |annotation| of_namespace(&namespace(annotation), &configured).unwrap();
        assert_eq!(labels(None), of("a=b"));
        assert_eq!(labels(Some("")), of(""));
        assert_eq!(labels(Some("c = d, e=")), of("c=d,e="));
        let failure = of_namespace(&namespace(Some("c")), &configured).unwrap_err();
        assert_eq!(
            (failure.code(), failure.message()),
            (500, "invalid selector: [c]")
        );
        assert!(selectors(Some(b"podNodeSelectorPluginConfig: {ns: 'a=b=c'}")).is_err());
        assert!(selectors(None).unwrap().is_empty());
    }

    #[test]
    fn a_pod_does_not_contradict_its_namespace_nor_leave_its_list() {
        let pod = pod(r#"{"metadata":{"name":"p"},"spec":{"nodeSelector":{"a":"b"}}}"#);
        let said = |verdict: Result<(), Failure>| {
            verdict
                .map_err(|f| f.message().to_owned())
                .err()
                .unwrap_or_default()
        };
        assert_eq!(said(agree(&pod, &of("a=b,c=d"))), "");
        assert_eq!(
            said(agree(&pod, &of("a=x"))),
            "pods \"p\" is forbidden: pod node label selector conflicts with its namespace node label selector"
        );
        assert_eq!(said(listed(&pod, Some(&of("")))), "");
        assert_eq!(said(listed(&pod, Some(&of("a=b,c=d")))), "");
        assert!(said(listed(&pod, Some(&of("a=c")))).ends_with("namespace whitelist"));
        assert!(said(listed(&pod, Some(&of("c=d")))).ends_with("namespace whitelist"));
    }
}
