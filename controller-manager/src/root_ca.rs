//! The API server's authority for everyone: a config map in each namespace
//! (`root-ca-certificate-publisher-controller`) and a trust bundle
//! (`kube-apiserver-serving-clustertrustbundle-publisher-controller`).
//!
//! Source: `pkg/controller/certificates/{rootcacertpublisher,clustertrustbundlepublisher}`.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use component::controller::Next;
use component::informer::{Event, Key, Lister, Selection};
use k8s_openapi::api::certificates::v1::{ClusterTrustBundle, ClusterTrustBundleSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, ObjectMeta};

use crate::context::Context;
use crate::error::Error;
use crate::service_accounts::is_active;

const CONFIG_MAP: &str = "kube-root-ca.crt";
const KEY: &str = "ca.crt";
const DESCRIPTION: &str = "kubernetes.io/description";
const DESCRIBED: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";
const SIGNER: &str = "kubernetes.io/kube-apiserver-serving";

/// The authority of the flag `--root-ca-file`; empty without it.
///
/// # Errors
/// If the file cannot be read or holds no certificate.
pub fn authority(cx: &Context) -> anyhow::Result<String> {
    let path = &cx.config().service_account.root_ca_file;
    if path.is_empty() {
        return Ok(String::new());
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    anyhow::ensure!(
        text.contains("-----BEGIN CERTIFICATE-----"),
        "{path}: no certificate in it"
    );
    Ok(text)
}

struct Publisher {
    cx: Context,
    maps: Lister<ConfigMap>,
    namespaces: Lister<Namespace>,
    authority: String,
}

/// Starts the controller of the config maps.
///
/// # Errors
/// If the authority cannot be read.
pub fn start(cx: &Context) -> anyhow::Result<()> {
    let authority = authority(cx)?;
    if authority.is_empty() {
        tracing::warn!("No --root-ca-file, namespaces do not get the API server's authority");
        return Ok(());
    }
    let queue = cx.queue::<Key>("root_ca_cert_publisher");
    let maps =
        cx.informer_of::<ConfigMap>(Selection::fields(&format!("metadata.name={CONFIG_MAP}")));
    let namespaces = cx.informer::<Namespace>();
    let this = Arc::new(Publisher {
        cx: cx.clone(),
        maps: maps.lister(),
        namespaces: namespaces.lister(),
        authority,
    });
    let wake = queue.clone();
    maps.subscribe(move |key, _| wake.add(Key::new("", key.namespace())));
    let wake = queue.clone();
    namespaces.subscribe(move |key, event| {
        if !matches!(event, Event::Deleted(_)) && is_active(event.object()) {
            wake.add(key.clone());
        }
    });
    cx.run(1, &queue, move |key| {
        let this = Arc::clone(&this);
        async move { this.reconcile(&key).await }
    });
    Ok(())
}

impl Publisher {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let namespace = self.namespaces.by_key(key);
        if !namespace.is_some_and(|n| is_active(&n)) {
            return Ok(Next::Done);
        }
        let current = self.maps.get(key.name(), CONFIG_MAP);
        let Some(wanted) = wanted(key.name(), current.as_deref(), &self.authority) else {
            return Ok(Next::Done);
        };
        let api = self.cx.client().await?.namespaced::<ConfigMap>(key.name());
        let done = match current {
            None => api.create(&wanted).await,
            // The map is the controller's alone.
            Some(_) => api.replace(&wanted).await,
        };
        match done {
            // Made by somebody else meanwhile: its event brings the namespace back.
            Err(e)
                if !e.is_not_found() && !e.is_already_exists() && !e.is_namespace_terminating() =>
            {
                Err(e.into())
            }
            _ => Ok(Next::Done),
        }
    }
}

/// The config map as it should be; none if it is.
fn wanted(namespace: &str, current: Option<&ConfigMap>, authority: &str) -> Option<ConfigMap> {
    let data = BTreeMap::from([(KEY.to_owned(), authority.to_owned())]);
    let described = |map: &ConfigMap| {
        let annotations = map.metadata.annotations.as_ref();
        annotations
            .and_then(|a| a.get(DESCRIPTION))
            .is_some_and(|d| !d.is_empty())
    };
    if current.is_some_and(|map| map.data.as_ref() == Some(&data) && described(map)) {
        return None;
    }
    let mut map = current.cloned().unwrap_or_default();
    map.metadata.name = Some(CONFIG_MAP.to_owned());
    map.metadata.namespace = Some(namespace.to_owned());
    let annotations = map.metadata.annotations.get_or_insert_default();
    annotations.insert(DESCRIPTION.to_owned(), DESCRIBED.to_owned());
    map.data = Some(data);
    Some(map)
}

/// Starts the controller of the trust bundle, if there is an authority.
///
/// # Errors
/// If the authority cannot be read.
pub fn start_bundle(cx: &Context) -> anyhow::Result<()> {
    let authority = authority(cx)?;
    if authority.is_empty() {
        return Ok(());
    }
    let queue = cx.queue::<Key>("ca_cert_publisher_cluster_trust_bundles");
    let of_signer = Selection::fields(&format!("spec.signerName={SIGNER}"));
    let bundles = cx.informer_of::<ClusterTrustBundle>(of_signer);
    let wanted = bundle(&authority);
    let key = Key::of(&wanted.metadata);
    let (wake, own) = (queue.clone(), key.clone());
    bundles.subscribe(move |_, _| wake.add(own.clone()));
    queue.add(key);
    let (context, lister, wanted) = (cx.clone(), bundles.lister(), Arc::new(wanted));
    cx.run(1, &queue, move |_| {
        let (cx, lister, wanted) = (context.clone(), lister.clone(), Arc::clone(&wanted));
        async move { publish(&cx, &lister, &wanted).await }
    });
    Ok(())
}

/// The bundle of an authority; its name tells the content.
fn bundle(authority: &str) -> ClusterTrustBundle {
    let digest = ring::digest::digest(&ring::digest::SHA256, authority.as_bytes());
    let hex: String = digest
        .as_ref()
        .iter()
        .take(12)
        .map(|b| format!("{b:02x}"))
        .collect();
    ClusterTrustBundle {
        metadata: ObjectMeta {
            name: Some(format!("{}:{hex}", SIGNER.replace('/', ":"))),
            ..ObjectMeta::default()
        },
        spec: ClusterTrustBundleSpec {
            signer_name: Some(SIGNER.to_owned()),
            trust_bundle: authority.to_owned(),
        },
    }
}

async fn publish(
    cx: &Context,
    bundles: &Lister<ClusterTrustBundle>,
    wanted: &ClusterTrustBundle,
) -> Result<Next, Error> {
    let api = cx.client().await?.all::<ClusterTrustBundle>();
    match bundles.by_key(&Key::of(&wanted.metadata)) {
        None => match api.create(wanted).await {
            Err(e) if !e.is_already_exists() => return Err(e.into()),
            _ => {}
        },
        Some(current) if current.spec != wanted.spec => {
            let mut next = ClusterTrustBundle::clone(&current);
            next.spec = wanted.spec.clone();
            api.replace(&next).await?;
        }
        Some(_) => {}
    }
    for old in bundles.list() {
        let name = old.metadata.name.as_deref().unwrap_or_default();
        if Some(name) != wanted.metadata.name.as_deref() {
            match api.delete(name, &DeleteOptions::default()).await {
                Err(e) if !e.is_not_found() => return Err(e.into()),
                _ => {}
            }
        }
    }
    Ok(Next::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_is_written_when_its_data_or_description_is_wrong() {
        let made = wanted("ns", None, "pem").unwrap();
        assert_eq!(made.data.as_ref().unwrap()[KEY], "pem");
        assert_eq!(wanted("ns", Some(&made), "pem"), None);
        let mut other = made.clone();
        other
            .data
            .as_mut()
            .unwrap()
            .insert("more".into(), "x".into());
        assert_eq!(wanted("ns", Some(&other), "pem"), Some(made.clone()));
        other.data = made.data.clone();
        other.metadata.annotations = None;
        assert_eq!(wanted("ns", Some(&other), "pem"), Some(made));
    }

    #[test]
    fn a_bundles_name_follows_from_its_content() {
        let name = bundle("pem").metadata.name.unwrap();
        assert!(name.starts_with("kubernetes.io:kube-apiserver-serving:"));
        assert_eq!(name.rsplit(':').next().unwrap().len(), 24);
        assert_ne!(bundle("other").metadata.name.unwrap(), name);
    }
}
