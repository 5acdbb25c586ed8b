//! Trust anchors from ClusterTrustBundles: `pkg/kubelet/clustertrustbundle`.
//!
//! All bundles are watched, from the first time that a pod wants one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use component::informer::{Informer, Informers};
use k8s_openapi::api::certificates::v1::ClusterTrustBundle;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use parking_lot::Mutex;
use proto::selector::{self, Operator, Requirement};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};

use super::{Changed, pem};
use crate::volume::{ObjectError, TrustBundles};

const PATIENCE: Duration = Duration::from_secs(1);

pub(super) struct Bundles {
    informers: Informers,
    changed: Changed,
    pods: Arc<Mutex<BTreeSet<String>>>,
    watch: Mutex<Option<Informer<ClusterTrustBundle>>>,
    /// The order of anchors means nothing, and is another in each kubelet, so that nobody relies on it.
    salt: [u8; 16],
}

impl Bundles {
    pub(super) fn new(informers: Informers, changed: Changed) -> Self {
        Self {
            informers,
            changed,
            pods: Arc::default(),
            watch: Mutex::default(),
            salt: rand::random(),
        }
    }

    /// Whether a pod wants to be told of changes.
    pub(super) fn refer(&self, uid: &str, wants: bool) {
        let mut pods = self.pods.lock();
        if wants {
            pods.insert(uid.to_owned());
        } else {
            pods.remove(uid);
        }
    }

    fn watch(&self) -> Informer<ClusterTrustBundle> {
        let mut watch = self.watch.lock();
        if let Some(watch) = &*watch {
            return watch.clone();
        }
        let informer = self.informers.of::<ClusterTrustBundle>();
        let (pods, changed) = (Arc::clone(&self.pods), Arc::clone(&self.changed));
        informer.subscribe(move |_, _| {
            let pods = pods.lock().clone();
            pods.iter().for_each(|uid| changed(uid));
        });
        watch.insert(informer).clone()
    }

    pub(super) async fn anchors(
        &self,
        wanted: TrustBundles,
        allow_empty: bool,
    ) -> Result<Vec<u8>, ObjectError> {
        let failed = |problem: &str| Err(ObjectError::Failed(problem.to_owned()));
        let watch = self.watch();
        if tokio::time::timeout(PATIENCE, watch.synced())
            .await
            .is_err()
        {
            return failed("ClusterTrustBundle informer has not yet synced");
        }
        let found = match &wanted {
            TrustBundles::Named(name) => match watch.lister().get("", name) {
                Some(bundle) => vec![bundle],
                None if allow_empty => Vec::new(),
                None => {
                    return Err(ObjectError::Failed(format!(
                        "while getting ClusterTrustBundle: \
                         clustertrustbundle.certificates.k8s.io {name:?} not found"
                    )));
                }
            },
            TrustBundles::Signed { signer, selector } => {
                let found = matching(watch.lister().list(), signer, selector.as_ref())?;
                if found.is_empty() && !allow_empty {
                    return failed(
                        "combination of signerName and labelSelector matched zero \
                         ClusterTrustBundles",
                    );
                }
                found
            }
        };
        Ok(normalized(&found, &self.salt))
    }
}

/// Without a selector nothing matches, with an empty one everything.
fn matching(
    mut all: Vec<Arc<ClusterTrustBundle>>,
    signer: &str,
    selector: Option<&LabelSelector>,
) -> Result<Vec<Arc<ClusterTrustBundle>>, ObjectError> {
    let Some(selector) = selector else {
        return Ok(Vec::new());
    };
    let selector = parsed(selector)
        .map_err(|e| ObjectError::Failed(format!("while parsing label selector: {e}")))?;
    all.retain(|bundle| {
        let labels = bundle.metadata.labels.as_ref();
        bundle.spec.signer_name.as_deref() == Some(signer)
            && selector.matches(|key| labels.and_then(|l| l.get(key)).map(String::as_str))
    });
    Ok(all)
}

fn parsed(selector: &LabelSelector) -> Result<selector::LabelSelector, String> {
    let mut requirements = Vec::new();
    let mut add = |key: &str, operator, values: &[&str]| {
        let requirement = Requirement::new(key, operator, values);
        requirement
            .map(|r| requirements.push(r))
            .map_err(|e| e.to_string())
    };
    for (key, value) in selector.match_labels.iter().flatten() {
        add(key, Operator::Equals, &[value])?;
    }
    for expression in selector.match_expressions.iter().flatten() {
        let operator = match expression.operator.as_str() {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            other => return Err(format!("{other:?} is not a valid label selector operator")),
        };
        let values: Vec<&str> = expression
            .values
            .iter()
            .flatten()
            .map(String::as_str)
            .collect();
        add(&expression.key, operator, &values)?;
    }
    Ok(selector::LabelSelector::new(requirements))
}

/// Each certificate once, in PEM.
fn normalized(bundles: &[Arc<ClusterTrustBundle>], salt: &[u8]) -> Vec<u8> {
    let certificates: BTreeSet<Vec<u8>> = bundles
        .iter()
        .flat_map(|b| CertificateDer::pem_slice_iter(b.spec.trust_bundle.as_bytes()))
        .filter_map(Result::ok)
        .map(|certificate| certificate.as_ref().to_vec())
        .collect();
    let mut ordered: Vec<_> = certificates
        .into_iter()
        .map(|der| {
            let mut hash = Sha256::new();
            hash.update(salt);
            hash.update(&der);
            (hash.finalize().to_vec(), der)
        })
        .collect();
    ordered.sort();
    ordered
        .iter()
        .flat_map(|(_, der)| pem::certificate(der).into_bytes())
        .collect()
}
