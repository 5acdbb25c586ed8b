//! How many pods their controllers want, whatever kind they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use component::client::path_escape;
use component::informer::Lister;
use http::Method;
use k8s_openapi::Resource;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{APIResourceList, OwnerReference};

use crate::context::Context;
use crate::error::Error;
use crate::owners;

/// The controllers of pods.
pub(super) struct Controllers {
    pub cx: Context,
    pub deployments: Lister<Deployment>,
    pub replica_sets: Lister<ReplicaSet>,
    pub stateful_sets: Lister<StatefulSet>,
    pub replication_controllers: Lister<ReplicationController>,
}

/// A controller's UID and the number of pods that it wants.
type Found = Option<(String, i32)>;

impl Controllers {
    /// The sum of what the pods' controllers want, and the pods that have none.
    ///
    /// # Errors
    /// If a controller cannot be found.
    pub(super) async fn expected(&self, pods: &[Arc<Pod>]) -> Result<(i32, Vec<String>), Error> {
        let mut seen = BTreeMap::<String, ()>::new();
        let mut scales = BTreeMap::<String, i32>::new();
        let mut unmanaged = Vec::new();
        for pod in pods {
            let Some(controller) = owners::controller(&pod.metadata) else {
                unmanaged.push(pod.metadata.name.clone().unwrap_or_default());
                continue;
            };
            if seen.insert(controller.uid.clone(), ()).is_some() {
                continue;
            }
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            let Some((uid, scale)) = self.find(controller, namespace).await? else {
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                return Err(Error::Unusable(format!(
                    "found no controllers for pod {name:?}"
                )));
            };
            scales.insert(uid, scale);
        }
        let sum = scales.values().fold(0_i32, |sum, n| sum.saturating_add(*n));
        Ok((sum, unmanaged))
    }

    async fn find(&self, controller: &OwnerReference, namespace: &str) -> Result<Found, Error> {
        let group = controller
            .api_version
            .split_once('/')
            .map_or("", |(g, _)| g);
        let (name, uid) = (&controller.name, &controller.uid);
        let is = |seen: Option<&String>| seen == Some(uid);
        let found = |wanted: Option<i32>| Some((uid.clone(), wanted.unwrap_or(1)));
        match (group, controller.kind.as_str()) {
            ("", ReplicationController::KIND) => {
                let rc = self.replication_controllers.get(namespace, name);
                let rc = rc.filter(|o| is(o.metadata.uid.as_ref()));
                if let Some(rc) = rc {
                    return Ok(found(rc.spec.as_ref().and_then(|s| s.replicas)));
                }
            }
            ("apps" | "extensions", ReplicaSet::KIND) => {
                let set = self.replica_sets.get(namespace, name);
                if let Some(set) = set.filter(|o| is(o.metadata.uid.as_ref())) {
                    return Ok(self.of_replica_set(&set));
                }
            }
            ("apps", StatefulSet::KIND) => {
                let set = self.stateful_sets.get(namespace, name);
                if let Some(set) = set.filter(|o| is(o.metadata.uid.as_ref())) {
                    return Ok(found(set.spec.replicas));
                }
            }
            _ => {}
        }
        self.ask(controller, namespace).await
    }

    /// A replica set's deployment counts, if it has one.
    fn of_replica_set(&self, set: &ReplicaSet) -> Found {
        let own = || {
            let wanted = set.spec.replicas;
            Some((set.metadata.uid.clone()?, wanted.unwrap_or(1)))
        };
        let Some(owner) = owners::controller(&set.metadata).filter(|o| o.kind == Deployment::KIND)
        else {
            return own();
        };
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let deployment = self.deployments.get(namespace, &owner.name);
        let deployment = deployment.filter(|d| d.metadata.uid.as_ref() == Some(&owner.uid))?;
        let wanted = deployment.spec.replicas;
        Some((owner.uid.clone(), wanted.unwrap_or(1)))
    }

    /// Asks the server for the scale of a kind that is not known here.
    async fn ask(&self, controller: &OwnerReference, namespace: &str) -> Result<Found, Error> {
        let client = self.cx.client().await?;
        let version = &controller.api_version;
        let root = if version.contains('/') {
            format!("/apis/{version}")
        } else {
            format!("/api/{version}")
        };
        let list: APIResourceList = client.request(Method::GET, &root, &[], None::<&()>).await?;
        let of_kind = list
            .resources
            .iter()
            .find(|r| r.kind == controller.kind && !r.name.contains('/'));
        let Some(resource) = of_kind else {
            return Ok(None);
        };
        let scale = format!("{}/scale", resource.name);
        if !list.resources.iter().any(|r| r.name == scale) {
            let what = format!("{version} {} has no scale subresource", resource.name);
            return Err(Error::Unusable(what));
        }
        let path = format!(
            "{root}/namespaces/{}/{}/{}/scale",
            path_escape(namespace),
            resource.name,
            path_escape(&controller.name)
        );
        let answer = client
            .request::<Scale>(Method::GET, &path, &[], None::<&()>)
            .await;
        match answer {
            Ok(scale) if scale.metadata.uid.as_ref() == Some(&controller.uid) => {
                let wanted = scale.spec.and_then(|s| s.replicas).unwrap_or(0);
                Ok(Some((controller.uid.clone(), wanted)))
            }
            Ok(_) => Ok(None),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}
