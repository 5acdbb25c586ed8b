//! Extenders: HTTP services that have a word in decisions (`pkg/scheduler/extender.go`).
//!
//! They are asked outside of the lock, after the plugins and before the place is taken, in the order of
//! the configuration. Field names on the wire are Go's, and are read in any case as Go reads them.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use component::client::{Client, Config, Kubeconfig};
use component::config::Problems;
use component::metrics::Metrics as Registry;
use component::supervisor::{Supervisor, chain};
use futures::future::join_all;
use http::Method;
use k8s_openapi::api::core::v1::{Container, Node};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::framework::{BindError, MAX_SCORE};
use crate::pod::PodInfo;

/// The best score that an extender gives.
const MAX_PRIORITY: i64 = 10;

/// `Extender` of a configuration.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ExtenderConfig {
    pub url_prefix: String,
    pub filter_verb: String,
    pub preempt_verb: String,
    pub prioritize_verb: String,
    pub weight: i64,
    pub bind_verb: String,
    #[serde(rename = "enableHTTPS")]
    pub enable_https: bool,
    pub tls_config: Option<TlsConfig>,
    #[serde(rename = "httpTimeout")]
    pub http_timeout: Option<component::config::Duration>,
    pub node_cache_capable: bool,
    pub managed_resources: Vec<ManagedResource>,
    pub ignorable: bool,
}

/// `ExtenderManagedResource`
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ManagedResource {
    pub name: String,
    /// `NodeResourcesFit` does not look at it.
    pub ignored_by_scheduler: bool,
}

/// `ExtenderTLSConfig`
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct TlsConfig {
    pub insecure: bool,
    pub server_name: String,
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
    pub ca_file: PathBuf,
}

/// Upstream's `validateExtender`.
pub(crate) fn validate(extenders: &[ExtenderConfig], problems: &mut Problems) {
    for (i, extender) in extenders.iter().enumerate() {
        let at = |field: &str| format!("extenders[{i}].{field}");
        problems.check(
            extender.prioritize_verb.is_empty() || extender.weight > 0,
            &at("weight"),
            "must have a positive weight applied to it",
        );
        problems.check(
            extender.preempt_verb.is_empty(),
            &at("preemptVerb"),
            "preemption by extenders is not implemented yet",
        );
        for (j, resource) in extender.managed_resources.iter().enumerate() {
            problems.check(
                crate::resources::is_extended(&resource.name),
                &at(&format!("managedResources[{j}].name")),
                "is an invalid extended resource name",
            );
        }
    }
    let binders = extenders.iter().filter(|e| !e.bind_verb.is_empty()).count();
    problems.check(
        binders <= 1,
        "extenders",
        format!("found multiple extenders with bindVerb: {binders}, only one extender can implement bind"),
    );
}

/// An extender that failed and may not be ignored.
#[derive(thiserror::Error, Debug)]
#[error("extender {url:?}: {problem}")]
pub struct Error {
    url: String,
    problem: String,
}

/// What extenders say about nodes.
#[derive(Clone, Default, Debug)]
pub struct Filtered {
    pub nodes: Vec<Arc<Node>>,
    /// Why not others, by name; the second says whether making room would help.
    pub failed: BTreeMap<String, (String, bool)>,
}

/// All extenders of a configuration.
#[derive(Clone, Default)]
pub struct Extenders(Arc<[Extender]>);

struct Extender {
    config: ExtenderConfig,
    client: Client,
}

impl Extenders {
    /// Connects nothing yet.
    ///
    /// # Errors
    /// If certificates or addresses cannot be used.
    pub fn new(
        configs: &[ExtenderConfig],
        tasks: &Supervisor,
        registry: &Registry,
    ) -> anyhow::Result<Self> {
        let one = |config: &ExtenderConfig| {
            let client = Client::new(connection(config)?, "kube-scheduler", tasks, registry)?;
            anyhow::Ok(Extender {
                config: config.clone(),
                client,
            })
        };
        Ok(Self(
            configs.iter().map(one).collect::<anyhow::Result<_>>()?,
        ))
    }

    /// Whether any of them has a word in where a pod goes.
    #[must_use]
    pub fn decides(&self, pod: &PodInfo) -> bool {
        let has =
            |e: &Extender| !e.config.filter_verb.is_empty() || !e.config.prioritize_verb.is_empty();
        self.0.iter().any(|e| has(e) && e.is_interested(pod))
    }

    /// Asks one after the other which nodes can do.
    ///
    /// # Errors
    /// If one fails that may not be ignored.
    pub async fn filter(&self, pod: &PodInfo, nodes: Vec<Arc<Node>>) -> Result<Filtered, Error> {
        let mut all = Filtered {
            nodes,
            ..Filtered::default()
        };
        for extender in self.0.iter().filter(|e| e.is_interested(pod)) {
            if all.nodes.is_empty() {
                break;
            }
            if extender.config.filter_verb.is_empty() {
                continue;
            }
            match extender.filter(pod, &all.nodes).await {
                Ok(one) => {
                    all.failed.extend(one.failed);
                    all.nodes = one.nodes;
                }
                Err(e) if extender.config.ignorable => {
                    tracing::info!(error = %e, "An extender failed, and is ignored");
                }
                Err(e) => return Err(e),
            }
        }
        Ok(all)
    }

    /// What extenders add to the scores of nodes, by name. One that fails has no opinion.
    pub async fn prioritize(&self, pod: &PodInfo, nodes: &[Arc<Node>]) -> HashMap<String, i64> {
        let asked = self
            .0
            .iter()
            .filter(|e| e.is_interested(pod) && !e.config.prioritize_verb.is_empty());
        let mut sums = HashMap::new();
        for (extender, said) in
            join_all(asked.map(|e| async move { (e, e.prioritize(pod, nodes).await) })).await
        {
            match said {
                Ok(scores) => {
                    for (node, score) in scores {
                        let weighted = score
                            .saturating_mul(extender.config.weight)
                            .saturating_mul(MAX_SCORE / MAX_PRIORITY);
                        let sum: &mut i64 = sums.entry(node).or_default();
                        *sum = sum.saturating_add(weighted);
                    }
                }
                Err(e) => tracing::debug!(error = %e, "An extender gives no scores"),
            }
        }
        sums
    }

    /// Has the pod bound, if one of them binds it.
    pub async fn bind(&self, pod: &PodInfo, node: &str) -> Option<Result<(), BindError>> {
        for extender in self.0.iter() {
            if extender.config.bind_verb.is_empty() || !extender.is_interested(pod) {
                continue;
            }
            let asked = json!({ "PodName": pod.key.name(), "PodNamespace": pod.namespace(),
                "PodUID": &*pod.uid, "Node": node });
            let said = extender.ask(&extender.config.bind_verb, &asked).await;
            match said.and_then(|said| extender.complaint(&said)) {
                Ok(()) => return Some(Ok(())),
                Err(e) if extender.config.ignorable => {
                    tracing::info!(error = %e, "An extender failed, and is ignored");
                }
                Err(e) => return Some(Err(BindError::Extender(e))),
            }
        }
        None
    }
}

/// How to reach an extender, by way of a kubeconfig, which knows all of TLS.
fn connection(config: &ExtenderConfig) -> anyhow::Result<Config> {
    let tls = config.tls_config.clone().unwrap_or_default();
    let server = if config.url_prefix.contains("://") {
        config.url_prefix.clone()
    } else {
        let scheme = if config.enable_https { "https" } else { "http" };
        format!("{scheme}://{}", config.url_prefix)
    };
    let no_ca = tls.ca_file.as_os_str().is_empty();
    let file = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "extender",
        "contexts": [{ "name": "extender", "context": { "cluster": "extender", "user": "extender" } }],
        "clusters": [{ "name": "extender", "cluster": {
            "server": server.trim_end_matches('/'), "tls-server-name": tls.server_name, "certificate-authority": tls.ca_file,
            "insecure-skip-tls-verify": tls.insecure || (config.enable_https && no_ca) } }],
        "users": [{ "name": "extender", "user": {
            "client-certificate": tls.cert_file, "client-key": tls.key_file } }],
    });
    let read = Kubeconfig::read(file.to_string().as_bytes())
        .and_then(|file| file.client(None, Path::new("")))
        .map_err(|e| anyhow::anyhow!("extender {:?}: {e}", config.url_prefix))?;
    let timeout = config.http_timeout.map(|d| d.0).filter(|t| !t.is_zero());
    Ok(Config {
        qps: -1.0,
        timeout: timeout.or(Some(Duration::from_secs(5))),
        ..read
    })
}

/// A field in whatever case it is written.
fn field<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    let fields = object.as_object()?;
    let found = fields
        .iter()
        .find(|(key, _)| key.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value).filter(|v| !v.is_null())
}

fn name_of(node: &Node) -> &str {
    node.metadata.name.as_deref().unwrap_or_default()
}

impl Extender {
    /// Whether it manages a resource that the pod asks for, or any pod.
    fn is_interested(&self, pod: &PodInfo) -> bool {
        let managed = &self.config.managed_resources;
        let asks = |c: &Container| {
            let resources = c.resources.iter();
            let lists = resources.flat_map(|r| r.requests.iter().chain(&r.limits));
            lists
                .flat_map(|list| list.keys())
                .any(|name| managed.iter().any(|m| m.name == *name))
        };
        let spec = pod.spec();
        managed.is_empty()
            || spec.containers.iter().any(asks)
            || spec.init_containers.iter().flatten().any(asks)
    }

    fn failed(&self, problem: String) -> Error {
        Error {
            url: self.config.url_prefix.clone(),
            problem,
        }
    }

    async fn ask(&self, verb: &str, asked: &Value) -> Result<Value, Error> {
        let path = format!("/{verb}");
        let answer = self
            .client
            .request::<Value>(Method::POST, &path, &[], Some(asked))
            .await;
        answer.map_err(|e| self.failed(chain(&e)))
    }

    fn complaint(&self, said: &Value) -> Result<(), Error> {
        match field(said, "Error").and_then(Value::as_str) {
            Some(problem) if !problem.is_empty() => Err(self.failed(problem.to_owned())),
            _ => Ok(()),
        }
    }

    fn args(&self, pod: &PodInfo, nodes: &[Arc<Node>]) -> Value {
        let nodes: Vec<&Node> = nodes.iter().map(|n| &**n).collect();
        let (list, names) = if self.config.node_cache_capable {
            let names: Vec<&str> = nodes.iter().map(|n| name_of(n)).collect();
            (Value::Null, json!(names))
        } else {
            (json!({ "metadata": {}, "items": nodes }), Value::Null)
        };
        json!({ "Pod": &*pod.pod, "Nodes": list, "NodeNames": names })
    }

    async fn filter(&self, pod: &PodInfo, nodes: &[Arc<Node>]) -> Result<Filtered, Error> {
        let said = self
            .ask(&self.config.filter_verb, &self.args(pod, nodes))
            .await?;
        self.complaint(&said)?;
        let names = field(&said, "NodeNames").filter(|_| self.config.node_cache_capable);
        let names: Vec<&str> = match names.and_then(Value::as_array) {
            Some(names) => names.iter().filter_map(Value::as_str).collect(),
            None => {
                let items = field(&said, "Nodes").and_then(|n| field(n, "items"));
                let items = items.and_then(Value::as_array).into_iter().flatten();
                items
                    .filter_map(|n| n["metadata"]["name"].as_str())
                    .collect()
            }
        };
        let mut passed = Vec::with_capacity(names.len());
        for name in names {
            let known = nodes.iter().find(|n| name_of(n) == name);
            passed.push(known.map(Arc::clone).ok_or_else(|| {
                self.failed(format!(
                    "claims a filtered node {name:?} which is not found in the input node list"
                ))
            })?);
        }
        let mut failed = BTreeMap::new();
        for (list, helps) in [("FailedNodes", true), ("FailedAndUnresolvableNodes", false)] {
            let said = field(&said, list).and_then(Value::as_object);
            for (node, reason) in said.into_iter().flatten() {
                let reason = reason.as_str().unwrap_or_default().to_owned();
                failed.insert(node.clone(), (reason, helps));
            }
        }
        Ok(Filtered {
            nodes: passed,
            failed,
        })
    }

    async fn prioritize(
        &self,
        pod: &PodInfo,
        nodes: &[Arc<Node>],
    ) -> Result<Vec<(String, i64)>, Error> {
        let said = self
            .ask(&self.config.prioritize_verb, &self.args(pod, nodes))
            .await?;
        let scores = said.as_array().into_iter().flatten();
        let one = |score: &Value| {
            let host = field(score, "Host")?.as_str()?;
            Some((host.to_owned(), field(score, "Score")?.as_i64()?))
        };
        Ok(scores.filter_map(one).collect())
    }
}
