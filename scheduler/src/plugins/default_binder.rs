//! `DefaultBinder`: binds by the API server's binding subresource.

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{Binding as BindingObject, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::IgnoredAny;

use crate::framework::{BindError, Binding, Plugin};

pub(super) struct DefaultBinder;

impl Plugin for DefaultBinder {
    fn name(&self) -> &'static str {
        "DefaultBinder"
    }

    fn bind<'a>(
        &'a self,
        binding: &'a Binding<'a>,
    ) -> BoxFuture<'a, Option<Result<(), BindError>>> {
        Box::pin(async move { Some(bind(binding).await.map_err(BindError::Api)) })
    }
}

async fn bind(binding: &Binding<'_>) -> Result<(), component::client::Error> {
    let (namespace, name) = (binding.pod.namespace(), binding.pod.key.name());
    let object = BindingObject {
        metadata: ObjectMeta {
            namespace: Some(namespace.to_owned()),
            name: Some(name.to_owned()),
            // Not a pod of the same name that came later.
            uid: Some(binding.pod.uid.to_string()),
            ..ObjectMeta::default()
        },
        target: ObjectReference {
            kind: Some("Node".to_owned()),
            name: Some(binding.node.to_owned()),
            ..ObjectReference::default()
        },
    };
    let pods = binding.client.namespaced::<Pod>(namespace);
    pods.create_subresource::<_, IgnoredAny>(name, "binding", &object)
        .await
        .map(drop)
}
