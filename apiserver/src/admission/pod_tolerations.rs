//! `PodTolerationRestriction`: pods get the tolerations of their namespace, and have none that the
//! namespace, or else the cluster, does not list.
//!
//! Upstream: `plugin/pkg/admission/podtolerationrestriction`.

use component::config::Versioned;
use proto::catalogue::{Gates, names as n};
use proto::view::core_v1::Pod;
use proto::view::{Node, View};
use proto::{Value, meta};
use resources::status::Failure;
use resources::strategies::pod::qos_class;
use resources::strategies::pod_spec::tolerations::problems;
use serde::Deserialize;

use super::config::Refused;
use super::{Attributes, Operation, Plugin, WRITES, tolerations};
use crate::server::Server;

pub(super) const PLUGIN: Plugin = Plugin {
    name: "PodTolerationRestriction",
    operations: WRITES,
    configure: Some(|state, told, _| {
        state.tolerations = Lists::read(told)?;
        Ok(())
    }),
    mutate: Some(|server, write| Box::pin(admit(server, write))),
    validate: Some(|server, write| Box::pin(validate(server, write))),
    ..Plugin::OFF
};

const DEFAULTS: &str = "scheduler.alpha.kubernetes.io/defaultTolerations";
const WHITELIST: &str = "scheduler.alpha.kubernetes.io/tolerationsWhitelist";
const MEMORY_PRESSURE: &str = "node.kubernetes.io/memory-pressure";

#[derive(Deserialize, Default)]
#[serde(default)]
struct Configuration {
    default: Vec<Entry>,
    whitelist: Vec<Entry>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Entry {
    key: String,
    operator: String,
    value: String,
    effect: String,
    toleration_seconds: Option<i64>,
}

impl Entry {
    /// As a pod has it.
    fn toleration(&self) -> Value {
        let mut toleration = Value::object();
        for (field, text) in [
            (n::KEY, &self.key),
            (n::OPERATOR, &self.operator),
            (n::VALUE, &self.value),
            (n::EFFECT, &self.effect),
        ] {
            if !text.is_empty() {
                toleration.set(&[field], text.as_str());
            }
        }
        if let Some(seconds) = self.toleration_seconds {
            toleration.set(&[n::TOLERATION_SECONDS], seconds);
        }
        toleration
    }
}

impl Versioned for Configuration {
    const API_VERSIONS: &'static [&'static str] =
        &["podtolerationrestriction.admission.k8s.io/v1alpha1"];
    const KIND: &'static str = "Configuration";
}

/// What the cluster has for namespaces that say nothing themselves.
#[derive(Default)]
pub(super) struct Lists {
    defaults: Vec<Value>,
    whitelist: Vec<Value>,
}

impl Lists {
    fn read(told: Option<&[u8]>) -> Result<Self, Refused> {
        let Some(text) = told else {
            return Ok(Self::default());
        };
        let file: Configuration = component::config::read(text)?;
        let lists = Self {
            defaults: file.default.iter().map(Entry::toleration).collect(),
            whitelist: file.whitelist.iter().map(Entry::toleration).collect(),
        };
        let mut errors = problems(&lists.defaults, "podtolerationrestriction.default");
        errors.extend(problems(
            &lists.whitelist,
            "podtolerationrestriction.whitelist",
        ));
        if errors.is_empty() {
            Ok(lists)
        } else {
            Err(Refused::Invalid(errors))
        }
    }
}

async fn admit(server: &Server, write: &mut Attributes<'_>) -> Result<(), Failure> {
    if !write.is("", "pods") {
        return Ok(());
    }
    let namespace = namespace(server, write).await?;
    let lists = &server.admission.state.tolerations;
    let Some(pod) = write.object.as_deref_mut() else {
        return Ok(());
    };
    let gates = server.config.features.gates();
    complete(gates, pod, &namespace, lists, write.operation)?;
    check(pod, &namespace, lists)
}

async fn validate(server: &Server, write: &mut Attributes<'_>) -> Result<(), Failure> {
    if !write.is("", "pods") {
        return Ok(());
    }
    let namespace = namespace(server, write).await?;
    let Some(pod) = write.object.as_deref() else {
        return Ok(());
    };
    check(pod, &namespace, &server.admission.state.tolerations)
}

async fn namespace(server: &Server, write: &Attributes<'_>) -> Result<Value, Failure> {
    let name = write.namespace;
    let found = server.lookup("", "namespaces", "", name).await?;
    found.ok_or_else(|| Failure::not_found("", "namespaces", name))
}

fn own(pod: &Value) -> &[Value] {
    let list = pod.at(&[n::SPEC, n::TOLERATIONS]).and_then(Value::as_list);
    list.unwrap_or_default()
}

fn complete(
    gates: Gates,
    pod: &mut Value,
    namespace: &Value,
    lists: &Lists,
    operation: Operation,
) -> Result<(), Failure> {
    let mut more = Vec::new();
    if operation == Operation::Create {
        let defaults = listed(namespace, DEFAULTS)?;
        more = defaults.unwrap_or_else(|| lists.defaults.clone());
    }
    let view = Pod::of(Node::new(pod));
    let class = match view.status().qos_class() {
        "" => qos_class(gates, view),
        given => given,
    };
    if class != "BestEffort" {
        let mut pressure = Value::object();
        pressure.set(&[n::KEY], MEMORY_PRESSURE);
        pressure.set(&[n::OPERATOR], "Exists");
        pressure.set(&[n::EFFECT], "NoSchedule");
        more.push(pressure);
    }
    if !more.is_empty() {
        let merged = tolerations::merge(own(pod), &more);
        pod.set(&[n::SPEC, n::TOLERATIONS], merged);
    }
    Ok(())
}

fn check(pod: &Value, namespace: &Value, lists: &Lists) -> Result<(), Failure> {
    let own = own(pod);
    if own.is_empty() {
        return Ok(());
    }
    let (whitelist, scope) = match listed(namespace, WHITELIST)? {
        Some(list) => (list, "namespace"),
        None => (lists.whitelist.clone(), "cluster"),
    };
    if tolerations::allowed(own, &whitelist) {
        return Ok(());
    }
    let why = format!(
        "pod tolerations (possibly merged with namespace default tolerations) conflict with its {scope} whitelist"
    );
    Err(Failure::new(500, "", why))
}

/// The tolerations in an annotation; an empty one says that there are none.
fn listed(namespace: &Value, annotation: &str) -> Result<Option<Vec<Value>>, Failure> {
    match meta::annotation(namespace, annotation) {
        None => Ok(None),
        Some("") => Ok(Some(Vec::new())),
        Some(text) => match proto::codec::json::parse(text.as_bytes()) {
            Ok(Value::List(list)) => Ok(Some(list)),
            Ok(Value::Null) => Ok(Some(Vec::new())),
            Ok(_) => Err(Failure::new(500, "", format!("{annotation} is no list"))),
            Err(error) => Err(Failure::new(500, "", error.to_string())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::pod;
    use super::*;

    const PLAIN: &str = r#"{"spec":{"containers":[{"name":"c"}]}}"#;
    const BURST: &str =
        r#"{"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":"1"}}}]}}"#;

    fn namespace(annotations: &[(&str, &str)]) -> Value {
        let mut namespace = Value::object();
        for (key, text) in annotations {
            meta::set_annotation(&mut namespace, key, text);
        }
        namespace
    }

    fn lists() -> Lists {
        let text = r#"{"apiVersion":"podtolerationrestriction.admission.k8s.io/v1alpha1","kind":"Configuration",
            "default":[{"key":"cluster","operator":"Exists"}],
            "whitelist":[{"key":"cluster","operator":"Exists"},{"key":"ns","operator":"Exists"}]}"#;
        Lists::read(Some(text.as_bytes())).unwrap()
    }

    fn keys(text: &str, namespace: &Value, operation: Operation) -> Vec<String> {
        let mut pod = pod(text);
        complete(Gates::defaults(), &mut pod, namespace, &lists(), operation).unwrap();
        let key = |t: &Value| t.get(n::KEY).and_then(Value::as_str).unwrap().to_owned();
        own(&pod).iter().map(key).collect()
    }

    #[test]
    fn a_new_pod_gets_what_its_namespace_or_the_cluster_has() {
        let of = |annotation| namespace(&[(DEFAULTS, annotation)]);
        let own = r#"[{"key":"ns","operator":"Exists"}]"#;
        let create = |namespace: &Value| keys(PLAIN, namespace, Operation::Create);
        assert_eq!(create(&namespace(&[])), ["cluster"]);
        assert_eq!(create(&of(own)), ["ns"]);
        assert_eq!(create(&of("")), [""; 0]);
        assert_eq!(keys(PLAIN, &of(own), Operation::Update), [""; 0]);
        assert_eq!(
            keys(BURST, &of(own), Operation::Create),
            ["ns", MEMORY_PRESSURE]
        );
        let broken = complete(
            Gates::defaults(),
            &mut pod(PLAIN),
            &of("{"),
            &lists(),
            Operation::Create,
        );
        assert_eq!(broken.unwrap_err().code(), 500);
    }

    #[test]
    fn only_what_is_listed_is_tolerated() {
        let with = |key: &str| {
            pod(&format!(
                r#"{{"spec":{{"tolerations":[{{"key":"{key}","operator":"Exists"}}]}}}}"#
            ))
        };
        let says = |key: &str, namespace: &Value| {
            let verdict = check(&with(key), namespace, &lists());
            verdict
                .err()
                .map_or_else(String::new, |f| f.message().to_owned())
        };
        assert_eq!(says("ns", &namespace(&[])), "");
        assert!(says("other", &namespace(&[])).ends_with("its cluster whitelist"));
        let own = namespace(&[(WHITELIST, r#"[{"key":"other","operator":"Exists"}]"#)]);
        assert_eq!(says("other", &own), "");
        assert!(says("ns", &own).ends_with("its namespace whitelist"));
        assert_eq!(says("ns", &namespace(&[(WHITELIST, "")])), "");
    }

    #[test]
    fn a_configuration_with_impossible_tolerations_is_refused() {
        let says = |list: &str| {
            let text = format!(
                r#"{{"apiVersion":"podtolerationrestriction.admission.k8s.io/v1alpha1","kind":"Configuration","whitelist":{list}}}"#
            );
            match Lists::read(Some(text.as_bytes())) {
                Ok(_) => String::new(),
                Err(error) => error.to_string(),
            }
        };
        assert_eq!(says(r#"[{"key":"a","value":"b"}]"#), "");
        let said = says(r#"[{"key":"a","operator":"Exists","value":"b"}]"#);
        assert!(
            said.starts_with("podtolerationrestriction.whitelist[0].operator: Invalid value"),
            "{said}"
        );
        assert!(!says(r#"[{"kee":"a"}]"#).is_empty());
    }
}
