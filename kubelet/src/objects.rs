//! What pods refer to by name, from the API server: ConfigMaps, Secrets, tokens, trust bundles; and
//! what is made for them there: certificates. Claims and their volumes are read when they are asked for.
//!
//! A pod is registered before its volumes are set up and unregistered after they are gone. Between the
//! two, what it refers to is kept at hand, one watch for each object however many pods want it
//! (a node may only watch such objects one by one), and `changed` is called with the uids of the pods
//! when something that they refer to is new: volumes are brought up to date by events.
//!
//! Sources: `pkg/kubelet/util/manager`, `pkg/kubelet/{configmap,secret,token,clustertrustbundle}`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use component::client::Client;
use component::events::Recorder;
use component::informer::Informers;
use component::metrics::Metrics;
use component::{Supervisor, Task};
use futures::FutureExt;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Pod, Secret};
use parking_lot::Mutex;

mod bundle;
mod certificate;
mod pem;
mod reference;
mod store;
mod token;

use crate::volume::{
    Answer, CertificateRequest, Credentials, ObjectError, TokenRequest, TrustBundles,
};
use bundle::Bundles;
use certificate::Certificates;
use reference::References;
use store::Store;
use token::Tokens;

/// `configMapAndSecretChangeDetectionStrategy`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Strategy {
    /// A watch for each object.
    Watch,
    /// Read when it is older than the node's TTL.
    Cache,
    /// Read each time.
    Get,
}

impl Strategy {
    /// As the configuration names it; validated there.
    #[must_use]
    pub fn of(name: &str) -> Self {
        match name {
            "Get" => Self::Get,
            "Cache" => Self::Cache,
            _ => Self::Watch,
        }
    }
}

/// Is told the uid of a pod that something is new for.
pub(crate) type Changed = Arc<dyn Fn(&str) + Send + Sync>;

/// How old a cached object may be unless the node says otherwise.
const TTL: Duration = Duration::from_secs(60);

/// The objects that this node's pods refer to; cheap to clone.
#[derive(Clone)]
pub struct Objects {
    inner: Option<Arc<Inner>>,
}

struct Inner {
    client: Client,
    config_maps: Store<ConfigMap>,
    secrets: Store<Secret>,
    tokens: Tokens,
    bundles: Bundles,
    /// None where the feature `PodCertificateRequest` is off.
    certificates: Option<Certificates>,
    /// By uid, with the namespace.
    pods: Mutex<BTreeMap<String, (String, References)>>,
    ttl: Arc<AtomicU64>,
}

/// Where objects come from, and how.
pub struct Parts<'a> {
    pub client: &'a Client,
    pub informers: &'a Informers,
    pub strategy: Strategy,
    /// The name of this node.
    pub node: &'a str,
    /// Whether pods can have certificates: the feature `PodCertificateRequest`.
    pub certificates: bool,
    pub recorder: &'a Recorder,
    pub metrics: &'a Metrics,
    pub tasks: &'a Supervisor,
}

impl Objects {
    /// Objects from the API server. `changed` is told the uid of a pod that something is new for.
    pub fn new(parts: &Parts<'_>, changed: impl Fn(&str) + Send + Sync + 'static) -> Self {
        let Parts {
            client,
            informers,
            strategy,
            tasks,
            ..
        } = *parts;
        let changed: Changed = Arc::new(changed);
        let certificates = parts.certificates.then(|| {
            Certificates::new(&certificate::Parts {
                client,
                informers,
                node: parts.node,
                recorder: parts.recorder,
                metrics: parts.metrics,
                tasks,
                changed: &changed,
            })
        });
        let ttl = Arc::new(AtomicU64::new(TTL.as_secs()));
        let inner = Arc::new(Inner {
            client: client.clone(),
            config_maps: Store::new("configmap", informers, strategy, &ttl, &changed),
            secrets: Store::new("secret", informers, strategy, &ttl, &changed),
            tokens: Tokens::new(client.clone(), tasks, Arc::clone(&changed)),
            bundles: Bundles::new(informers.clone(), Arc::clone(&changed)),
            certificates,
            pods: Mutex::default(),
            ttl,
        });
        if strategy != Strategy::Watch {
            let own = Arc::clone(&inner);
            tasks.spawn(Task::Worker, "object-refresh", async move {
                own.refresh(&changed).await;
            });
        }
        Self { inner: Some(inner) }
    }

    /// Without an API server there are no objects.
    #[must_use]
    pub fn standalone() -> Self {
        Self { inner: None }
    }

    /// Keeps at hand what the pod refers to, from now on. Called again with the same uid, it takes over
    /// what changed.
    pub fn register_pod(&self, pod: &Pod) {
        let Some(inner) = &self.inner else { return };
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let new = References::of(pod);
        let mut pods = inner.pods.lock();
        let entry = (namespace.to_owned(), new.clone());
        let (_, old) = pods.insert(uid.to_owned(), entry).unwrap_or_default();
        inner.refer(uid, namespace, &old, &new);
    }

    /// Forgets a pod.
    pub fn unregister_pod(&self, uid: &str) {
        let Some(inner) = &self.inner else { return };
        let mut pods = inner.pods.lock();
        if let Some((namespace, old)) = pods.remove(uid) {
            inner.refer(uid, &namespace, &old, &References::default());
        }
        inner.tokens.forget(uid);
        if let Some(certificates) = &inner.certificates {
            certificates.forget(uid);
        }
    }

    /// What the node's annotation `node.alpha.kubernetes.io/ttl` says.
    pub fn set_ttl(&self, ttl: Option<Duration>) {
        if let Some(inner) = &self.inner {
            let seconds = ttl.unwrap_or(TTL).as_secs();
            inner.ttl.store(seconds, Ordering::Relaxed);
        }
    }

    fn inner(&self, what: &str) -> Result<&Arc<Inner>, ObjectError> {
        let standalone = || {
            ObjectError::Failed(format!(
                "cannot get {what} when kubelet is in standalone mode"
            ))
        };
        self.inner.as_ref().ok_or_else(standalone)
    }
}

impl Inner {
    fn refer(&self, uid: &str, namespace: &str, old: &References, new: &References) {
        let dropped = |old: &BTreeSet<String>, new: &BTreeSet<String>| {
            old.difference(new).cloned().collect::<Vec<_>>()
        };
        for name in dropped(&new.config_maps, &old.config_maps) {
            self.config_maps.refer(namespace, &name, uid);
        }
        for name in dropped(&new.secrets, &old.secrets) {
            self.secrets.refer(namespace, &name, uid);
        }
        for name in dropped(&old.config_maps, &new.config_maps) {
            self.config_maps.release(namespace, &name, uid);
        }
        for name in dropped(&old.secrets, &new.secrets) {
            self.secrets.release(namespace, &name, uid);
        }
        self.bundles.refer(uid, new.trust_bundles);
    }

    /// Without watches, pods are told from time to time to look again.
    async fn refresh(&self, changed: &Changed) {
        loop {
            tokio::time::sleep(Duration::from_secs(
                self.ttl.load(Ordering::Relaxed).max(10),
            ))
            .await;
            let uids: Vec<String> = self.pods.lock().keys().cloned().collect();
            for uid in uids {
                changed(&uid);
            }
        }
    }
}

impl crate::volume::Objects for Objects {
    fn config_map<'a>(&'a self, namespace: &'a str, name: &'a str) -> Answer<'a, Arc<ConfigMap>> {
        async move {
            let inner = self.inner("configmaps")?;
            inner.config_maps.get(namespace, name).await
        }
        .boxed()
    }

    fn secret<'a>(&'a self, namespace: &'a str, name: &'a str) -> Answer<'a, Arc<Secret>> {
        async move { self.inner("secrets")?.secrets.get(namespace, name).await }.boxed()
    }

    fn token(&self, request: TokenRequest) -> Answer<'_, String> {
        async move { self.inner("tokens")?.tokens.get(request).await }.boxed()
    }

    fn trust_anchors(&self, bundles: TrustBundles, allow_empty: bool) -> Answer<'_, Vec<u8>> {
        async move {
            let inner = self.inner("trust bundles")?;
            inner.bundles.anchors(bundles, allow_empty).await
        }
        .boxed()
    }

    fn certificate(&self, request: CertificateRequest) -> Answer<'_, Arc<Credentials>> {
        async move {
            let inner = self.inner("certificates")?;
            let certificates = inner.certificates.as_ref().ok_or_else(|| {
                ObjectError::Failed("the feature PodCertificateRequest is off".to_owned())
            })?;
            {
                // What is forgotten with its pod must not be wanted after it.
                let pods = inner.pods.lock();
                if !pods.contains_key(&request.pod_uid) {
                    let uid = &request.pod_uid;
                    let unknown = format!("pod {uid:?} not registered");
                    return Err(ObjectError::Failed(unknown));
                }
                certificates.want(&request)?;
            }
            certificates.get(&request).await
        }
        .boxed()
    }

    fn claim<'a>(&'a self, namespace: &'a str, name: &'a str) -> Answer<'a, PersistentVolumeClaim> {
        async move {
            let inner = self.inner("persistentvolumeclaims")?;
            let claims = inner.client.namespaced::<PersistentVolumeClaim>(namespace);
            let claim = claims.get(name).await;
            claim.map_err(|e| unread("persistentvolumeclaims", name, &e))
        }
        .boxed()
    }

    fn persistent_volume<'a>(&'a self, name: &'a str) -> Answer<'a, PersistentVolume> {
        async move {
            let inner = self.inner("persistentvolumes")?;
            let volume = inner.client.all::<PersistentVolume>().get(name).await;
            volume.map_err(|e| unread("persistentvolumes", name, &e))
        }
        .boxed()
    }
}

fn unread(kind: &'static str, name: &str, error: &component::client::Error) -> ObjectError {
    if error.is_not_found() {
        let name = name.to_owned();
        return ObjectError::NotFound { kind, name };
    }
    ObjectError::Failed(component::supervisor::chain(error))
}

#[cfg(test)]
mod tests;
