//! Certificates of pods: `pkg/kubelet/podcertificate/podcertificatemanager.go`.
//!
//! For each podCertificate source of a pod there is one [`record`](record::Record), from the first time
//! that its volume is set up until the pod is forgotten. A key is made here and never leaves the node;
//! a PodCertificateRequest asks the source's signer for the certificate. When there is one, and when
//! there is a new one, the pod is told, whose volumes ask again.
//!
//! Nothing is kept over a restart of the kubelet: all certificates are asked for anew, and the files of
//! the old ones stay meanwhile.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use component::client::Client;
use component::events::Recorder;
use component::informer::{Informer, Informers, Selection};
use component::metrics::{Gauges, Metrics};
use component::queue::Queue;
use component::supervisor::chain;
use component::{Supervisor, Task};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{PodCertificateRequest, PodCertificateRequestSpec};
use k8s_openapi::api::core::v1::{Node, ObjectReference, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use parking_lot::Mutex;
use rand::Rng;
use tokio::sync::Notify;

mod key;
mod record;

use super::Changed;
use crate::volume::{CertificateRequest, Credentials, ObjectError};
use record::{Found, JITTER, Next, Pending, Record};

/// How long a reader waits for the signer before it says that there is nothing yet.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) struct Certificates {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    informers: Informers,
    node: String,
    recorder: Recorder,
    changed: Changed,
    records: Mutex<HashMap<CertificateRequest, Record>>,
    queue: Queue<CertificateRequest>,
    /// Requests of this node's pods, from the first on.
    watch: Mutex<Option<Informer<PodCertificateRequest>>>,
    /// Told when a record has an answer.
    moved: Notify,
}

/// Whom the certificates are for and who is told of them.
pub(super) struct Parts<'a> {
    pub(super) client: &'a Client,
    pub(super) informers: &'a Informers,
    pub(super) node: &'a str,
    pub(super) recorder: &'a Recorder,
    pub(super) metrics: &'a Metrics,
    pub(super) tasks: &'a Supervisor,
    pub(super) changed: &'a Changed,
}

impl Certificates {
    pub(super) fn new(parts: &Parts<'_>) -> Self {
        let shared = Arc::new(Shared {
            client: parts.client.clone(),
            informers: parts.informers.clone(),
            node: parts.node.to_owned(),
            recorder: parts.recorder.clone(),
            changed: Arc::clone(parts.changed),
            records: Mutex::default(),
            queue: Queue::new("pod_certificates", parts.metrics),
            watch: Mutex::default(),
            moved: Notify::new(),
        });
        shared.count(parts.metrics);
        let own = Arc::clone(&shared);
        parts.tasks.spawn(
            Task::Worker,
            "pod-certificates",
            async move { own.work().await },
        );
        Self { shared }
    }

    /// A certificate is wanted from now on, until its pod is forgotten.
    pub(super) fn want(&self, request: &CertificateRequest) -> Result<(), ObjectError> {
        let possible = key::algorithm(&request.key_type);
        possible.map_err(|e| ObjectError::Failed(format!("while generating keypair: {e}")))?;
        let mut records = self.shared.records.lock();
        if !records.contains_key(request) {
            records.insert(request.clone(), Record::default());
            drop(records);
            self.shared.queue.add(request.clone());
        }
        Ok(())
    }

    /// The certificate, if there is one or comes within a moment.
    pub(super) async fn get(
        &self,
        request: &CertificateRequest,
    ) -> Result<Arc<Credentials>, ObjectError> {
        let mut patience = std::pin::pin!(tokio::time::sleep(PATIENCE));
        loop {
            let mut moved = std::pin::pin!(self.shared.moved.notified());
            moved.as_mut().enable();
            let known = match self.shared.records.lock().get(request) {
                Some(record) => record.credentials()?,
                None => None,
            };
            if let Some(credentials) = known {
                return Ok(credentials);
            }
            tokio::select! {
                () = moved => {}
                () = &mut patience => {
                    return Err(ObjectError::Failed("credential bundle is not issued yet".into()));
                }
            }
        }
    }

    /// Drops what a pod has.
    pub(super) fn forget(&self, uid: &str) {
        let mut records = self.shared.records.lock();
        records.retain(|request, _| request.pod_uid != uid);
    }
}

impl Shared {
    async fn work(self: &Arc<Self>) {
        while let Some(request) = self.queue.take().await {
            match self.look(&request).await {
                Ok(until) => {
                    self.queue.forget(&request);
                    if let Some(until) = until {
                        let seconds = u64::try_from(until.saturating_sub(now())).unwrap_or(0);
                        let wait = Duration::from_secs(seconds.max(1));
                        self.queue.add_after(request.clone(), wait);
                    }
                }
                Err(error) => {
                    tracing::error!(
                        pod.name = request.pod,
                        pod.namespace = request.namespace,
                        volume = request.volume,
                        source = request.source,
                        error,
                        "Cannot get a certificate for a pod"
                    );
                    self.queue.add_failed(request.clone());
                }
            }
        }
    }

    /// Brings a record on as far as it goes. Says when to look again, if nothing happens before.
    async fn look(self: &Arc<Self>, request: &CertificateRequest) -> Result<Option<i64>, String> {
        let watch = self.watch();
        watch.synced().await;
        loop {
            let jitter = rand::rng().random_range(0..JITTER);
            let found = {
                let mut records = self.records.lock();
                // Its pod is gone.
                let Some(record) = records.get_mut(request) else {
                    return Ok(None);
                };
                let asked = record.request();
                let asked = asked.and_then(|name| watch.lister().get(&request.namespace, name));
                record.look(asked.as_deref(), now(), jitter)
            };
            let Found {
                next,
                events,
                changed,
            } = found;
            for (reason, message) in events {
                self.recorder.warning(&of_pod(request), reason, &message);
            }
            if changed {
                self.moved.notify_waiters();
                (self.changed)(&request.pod_uid);
            }
            match next {
                Next::Wait(until) => return Ok(until),
                Next::Ask => {
                    let pending = self.ask(request).await?;
                    if let Some(record) = self.records.lock().get_mut(request) {
                        record.asked(pending);
                    }
                }
            }
        }
    }

    /// Requests of this node, which wake those whose pod they are for.
    fn watch(self: &Arc<Self>) -> Informer<PodCertificateRequest> {
        let mut watch = self.watch.lock();
        if let Some(watch) = &*watch {
            return watch.clone();
        }
        let selection = Selection::fields(&format!("spec.nodeName={}", self.node));
        let informer = self.informers.select::<PodCertificateRequest>(selection);
        let own = Arc::downgrade(self);
        informer.subscribe(move |_, event| {
            if let Some(own) = own.upgrade() {
                own.wake(&event.object().spec.pod_uid);
            }
        });
        watch.insert(informer).clone()
    }

    /// Something is new about a request for this pod.
    fn wake(&self, pod_uid: &str) {
        let records = self.records.lock();
        for request in records.keys().filter(|r| r.pod_uid == pod_uid) {
            self.queue.add(request.clone());
        }
    }

    async fn ask(&self, request: &CertificateRequest) -> Result<Pending, String> {
        let accounts = self.client.namespaced::<ServiceAccount>(&request.namespace);
        let account = accounts.get(&request.service_account).await;
        let account =
            account.map_err(|e| format!("while fetching service account: {}", chain(&e)))?;
        let node = self.node_uid().await?;
        let kind = request.key_type.clone();
        let made = tokio::task::spawn_blocking(move || key::generate(&kind)).await;
        let made = made.map_err(|_| "the kubelet is shutting down".to_owned())?;
        let made = made.map_err(|e| format!("while generating keypair: {}", chain(&e)))?;
        let account_uid = account.metadata.uid.unwrap_or_default();
        let wanted = wanted(request, &self.node, node, account_uid, made.request);
        let requests = self
            .client
            .namespaced::<PodCertificateRequest>(&request.namespace);
        let created = requests.create(&wanted).await;
        let created =
            created.map_err(|e| format!("while creating PodCertificateRequest: {}", chain(&e)))?;
        let at = created.metadata.creation_timestamp;
        Ok(Pending {
            key: made.key,
            name: created.metadata.name.unwrap_or_default(),
            created: at.map_or_else(now, |at| at.0.as_second()),
        })
    }

    async fn node_uid(&self) -> Result<String, String> {
        let selection = Selection::fields(&format!("metadata.name={}", self.node));
        let nodes = self.informers.select::<Node>(selection);
        nodes.synced().await;
        let node = nodes.lister().get("", &self.node);
        let node = node.ok_or_else(|| {
            let name = &self.node;
            format!("while getting node object from local cache: node {name:?} not found")
        })?;
        Ok(node.metadata.uid.clone().unwrap_or_default())
    }

    fn count(self: &Arc<Self>, metrics: &Metrics) {
        let states = Gauges::<2>::default();
        metrics.register(
            "kubelet_podcertificate_states",
            "Gauge vector reporting the number of pod certificate projected volume sources, faceted \
             by signer_name and state",
            states.clone(),
        );
        let own = Arc::downgrade(self);
        metrics.before_scrape(move || {
            let Some(own) = own.upgrade() else { return };
            states.clear();
            for (request, record) in own.records.lock().iter() {
                let labels = [
                    ("signer_name", request.signer.clone()),
                    ("state", record.state(now()).to_owned()),
                ];
                states.get_or_create(&labels).inc();
            }
        });
    }
}

fn now() -> i64 {
    component::clock::now().as_second()
}

fn of_pod(request: &CertificateRequest) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: Some(request.namespace.clone()),
        name: Some(request.pod.clone()),
        uid: Some(request.pod_uid.clone()),
        ..ObjectReference::default()
    }
}

/// The object that asks the signer. It goes with its pod.
fn wanted(
    request: &CertificateRequest,
    node: &str,
    node_uid: String,
    account_uid: String,
    stub: Vec<u8>,
) -> PodCertificateRequest {
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: request.pod.clone(),
        uid: request.pod_uid.clone(),
        ..OwnerReference::default()
    };
    let annotations = Some(request.annotations.clone());
    PodCertificateRequest {
        metadata: ObjectMeta {
            namespace: Some(request.namespace.clone()),
            generate_name: Some("req-".to_owned()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: PodCertificateRequestSpec {
            signer_name: request.signer.clone(),
            pod_name: request.pod.clone(),
            pod_uid: request.pod_uid.clone(),
            service_account_name: request.service_account.clone(),
            service_account_uid: account_uid,
            node_name: node.to_owned(),
            node_uid,
            max_expiration_seconds: request.max_expiration_seconds,
            stub_pkc_s10_request: ByteString(stub),
            unverified_user_annotations: annotations.filter(|all| !all.is_empty()),
        },
        status: None,
    }
}
