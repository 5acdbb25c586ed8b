//! Looking at one object: whether it has to go, and how.

use component::client::{Api, Client, PartialObjectMetadata, Patch, Target};
use futures::future::try_join_all;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    DeleteOptions, ObjectMeta, OwnerReference, Preconditions,
};
use serde_json::Value;

use super::Collector;
use super::graph::{FOREGROUND, Node, Uid};
use super::references::{self, State, Verdict, verdict};
use crate::error::Error;

impl Collector {
    /// Looks at an object.
    pub(super) async fn collect(&self, uid: Uid) -> Result<(), Error> {
        let Some(node) = self.graph.lock().get(&uid).cloned() else {
            return Ok(());
        };
        if node.being_deleted && !node.deleting_dependents {
            return Ok(());
        }
        let client = self.cx.client().await?;
        let Some(api) = self.api_of(&client, &node).await? else {
            return Ok(());
        };
        let latest = match api.find(&node.identity.name).await? {
            Some(latest) if latest.metadata.uid.as_deref() == Some(uid.as_str()) => latest.metadata,
            _ => {
                self.gone(&uid, &node);
                return Ok(());
            }
        };
        if node.deleting_dependents {
            return self.finish_foreground(&uid, &api, &latest).await;
        }
        let Some(states) = self.states(&client, &node, &latest).await? else {
            return Ok(());
        };
        let dependents = self.graph.lock().dependents(&uid);
        let a_dependent_waits = dependents.iter().any(|(_, d)| d.deleting_dependents);
        let verdict = verdict(&latest, &states, !dependents.is_empty(), a_dependent_waits);
        self.execute(&uid, &node, &api, &latest, verdict).await
    }

    /// The server does not have it: so the graph must not either. A watch that is late says so again.
    fn gone(&self, uid: &Uid, node: &Node) {
        let mut graph = self.graph.lock();
        let same = graph
            .get(uid)
            .is_some_and(|now| now.identity == node.identity);
        let work = if same { graph.remove(uid) } else { Vec::new() };
        drop(graph);
        self.note(work);
    }

    async fn execute(
        &self,
        uid: &Uid,
        node: &Node,
        api: &Api<PartialObjectMetadata>,
        latest: &ObjectMeta,
        verdict: Verdict,
    ) -> Result<(), Error> {
        let name = &*node.identity.name;
        let policy = match verdict {
            Verdict::Stay => return Ok(()),
            Verdict::Release(owners) => {
                return patch(api, name, references::without(latest, &owners)).await;
            }
            Verdict::DeleteForeground { unblock } => {
                if unblock {
                    patch(api, name, references::unblocked(latest)).await?;
                }
                "Foreground"
            }
            Verdict::Delete { policy } => policy,
        };
        tracing::debug!(
            kind = %node.identity.kind,
            namespace = %node.identity.namespace,
            name,
            policy,
            "Deleting an object whose owners are gone"
        );
        let options = DeleteOptions {
            propagation_policy: Some(policy.to_owned()),
            preconditions: Some(Preconditions {
                uid: Some(uid.to_string()),
                // Its references may have changed; patched by ourselves, the UID has to do.
                resource_version: None,
            }),
            ..DeleteOptions::default()
        };
        match api.delete(name, &options).await {
            Err(e) if e.is_not_found() => {
                self.gone(uid, node);
                Ok(())
            }
            done => Ok(done?),
        }
    }

    /// An object that waits for its dependents: those that block it are looked at; without any it may go.
    async fn finish_foreground(
        &self,
        uid: &Uid,
        api: &Api<PartialObjectMetadata>,
        latest: &ObjectMeta,
    ) -> Result<(), Error> {
        let dependents = self.graph.lock().dependents(uid);
        let blocking: Vec<_> = dependents
            .into_iter()
            .filter(|(_, d)| d.owners.iter().any(|o| o.uid == *uid && o.blocks))
            .collect();
        if blocking.is_empty() {
            let name = latest.name.as_deref().unwrap_or_default();
            let free = references::without_finalizer(latest, FOREGROUND);
            return patch(api, name, free).await;
        }
        for (dependent, node) in blocking {
            if !node.deleting_dependents {
                self.collect.add(dependent);
            }
        }
        Ok(())
    }

    /// What the owners of an object are; none if that cannot be told.
    async fn states(
        &self,
        client: &Client,
        node: &Node,
        latest: &ObjectMeta,
    ) -> Result<Option<Vec<State>>, Error> {
        let references = latest.owner_references.as_deref().unwrap_or_default();
        let each = references
            .iter()
            .map(|reference| self.state(client, &node.identity.namespace, reference));
        Ok(try_join_all(each).await?.into_iter().collect())
    }

    async fn state(
        &self,
        client: &Client,
        namespace: &str,
        reference: &OwnerReference,
    ) -> Result<Option<State>, Error> {
        let (target, namespaced) = self
            .resource_of(&reference.api_version, &reference.kind)
            .await?;
        if namespaced && namespace.is_empty() {
            // An object of cluster scope cannot have an owner in a namespace: nobody knows which one is meant.
            return Ok(None);
        }
        let owner = client
            .metadata(target, namespaced.then_some(namespace))
            .find(&reference.name)
            .await?;
        Ok(Some(match owner {
            Some(owner) if owner.metadata.uid.as_deref() == Some(reference.uid.as_str()) => {
                if waits(&owner.metadata) {
                    State::Waiting
                } else {
                    State::Solid
                }
            }
            _ => State::Dangling,
        }))
    }

    /// The resource of a kind; discovery is asked again about one that is not known.
    pub(super) async fn resource_of(
        &self,
        api_version: &str,
        kind: &str,
    ) -> Result<(Target, bool), Error> {
        let known = self.discovered.read().resource_of(api_version, kind);
        if let Some(found) = known {
            return Ok(found);
        }
        self.discovered()
            .await?
            .resource_of(api_version, kind)
            .ok_or_else(|| {
                Error::Unusable(format!(
                    "no matches for kind \"{kind}\" in version \"{api_version}\""
                ))
            })
    }

    /// Where an object of the graph is; none if its name cannot be one.
    pub(super) async fn api_of(
        &self,
        client: &Client,
        node: &Node,
    ) -> Result<Option<Api<PartialObjectMetadata>>, Error> {
        let identity = &node.identity;
        let namespace = Some(&*identity.namespace).filter(|ns| !ns.is_empty());
        if let Some(target) = &node.target {
            return Ok(Some(client.metadata((**target).clone(), namespace)));
        }
        let (target, namespaced) = self
            .resource_of(&identity.api_version, &identity.kind)
            .await?;
        if namespaced && namespace.is_none() {
            return Ok(None);
        }
        Ok(Some(
            client.metadata(target, namespace.filter(|_| namespaced)),
        ))
    }
}

fn waits(meta: &ObjectMeta) -> bool {
    let finalizers = meta.finalizers.as_deref().unwrap_or_default();
    meta.deletion_timestamp.is_some() && finalizers.iter().any(|f| f == FOREGROUND)
}

/// Sends a patch, if there is one. An object that is gone needs none.
pub(super) async fn patch(
    api: &Api<PartialObjectMetadata>,
    name: &str,
    patch: Option<Value>,
) -> Result<(), Error> {
    let Some(patch) = patch else { return Ok(()) };
    match api.patch(name, &Patch::merge(&patch)?).await {
        Err(e) if !e.is_not_found() => Err(e.into()),
        _ => Ok(()),
    }
}
