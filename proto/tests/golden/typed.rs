//! Every golden object that `k8s-openapi` has a type for.

use std::collections::BTreeMap;

use k8s_openapi::api;
use proto::codec::{json, protobuf};
use proto::typed;
use proto::{MsgId, Value};
use serde::de::DeserializeOwned;

use super::corpus::{Golden, HEAD, compact, corpus};

/// Its golden object has a null in a map of times, which `k8s-openapi` refuses in any form.
const REFUSED: &str = "policy.v1.PodDisruptionBudget";

/// Reads an object three ways and holds the results against each other.
fn check<T: DeserializeOwned + PartialEq + std::fmt::Debug>(golden: &Golden, message: MsgId) {
    let text = compact(&golden.json);
    let raw = protobuf::open(&golden.protobuf)
        .expect("golden protobuf is sealed")
        .raw;
    let tree = json::decode(&text, message, json::Strictness::Lenient)
        .expect("golden JSON decodes")
        .value;
    let from_json = serde_json::from_slice::<T>(&text).map_err(|e| e.to_string());
    let from_protobuf = typed::from_protobuf::<T>(raw, message).map_err(|e| e.to_string());
    let from_tree = typed::from_value::<T>(&tree, message).map_err(|e| e.to_string());
    if golden.name == REFUSED {
        assert!(from_json.is_err() && from_protobuf.is_err() && from_tree.is_err());
        return;
    }
    assert!(from_json.is_ok(), "{}: {from_json:?}", golden.name);
    assert_eq!(from_protobuf, from_json, "{} from protobuf", golden.name);
    assert_eq!(from_tree, from_json, "{} from a tree", golden.name);
}

type Check = fn(&Golden, MsgId);

macro_rules! checks {
    ($($group:literal $module:ident { $($version:ident [$($kind:ident)*])* })*) => {
        BTreeMap::from([$($($((
            format!("{}.{}.{}", $group, stringify!($version), stringify!($kind)),
            check::<api::$module::$version::$kind> as Check,
        ),)*)*)*])
    };
}

#[test]
fn a_type_reads_the_same_from_protobuf_a_tree_and_json() {
    let mut checks: BTreeMap<String, Check> = checks! {
        "admissionregistration.k8s.io" admissionregistration {
            v1 [MutatingAdmissionPolicy MutatingAdmissionPolicyBinding MutatingWebhookConfiguration
                ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding ValidatingWebhookConfiguration]
        }
        "internal.apiserver.k8s.io" apiserverinternal { v1alpha1 [StorageVersion] }
        "apps" apps { v1 [ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet] }
        "authentication.k8s.io" authentication { v1 [SelfSubjectReview TokenRequest TokenReview] }
        "authorization.k8s.io" authorization {
            v1 [LocalSubjectAccessReview SelfSubjectAccessReview SelfSubjectRulesReview SubjectAccessReview]
        }
        "autoscaling" autoscaling { v1 [HorizontalPodAutoscaler Scale] v2 [HorizontalPodAutoscaler] }
        "batch" batch { v1 [CronJob Job] }
        "certificates.k8s.io" certificates {
            v1 [CertificateSigningRequest ClusterTrustBundle PodCertificateRequest]
            v1beta1 [ClusterTrustBundle PodCertificateRequest]
        }
        "coordination.k8s.io" coordination { v1 [Lease] v1alpha2 [LeaseCandidate] v1beta1 [LeaseCandidate] }
        "core" core {
            v1 [Binding ComponentStatus ConfigMap Endpoints Event LimitRange Namespace Node PersistentVolume
                PersistentVolumeClaim Pod PodTemplate ReplicationController ResourceQuota Secret Service
                ServiceAccount]
        }
        "discovery.k8s.io" discovery { v1 [EndpointSlice] }
        "events.k8s.io" events { v1 [Event] }
        "flowcontrol.apiserver.k8s.io" flowcontrol { v1 [FlowSchema PriorityLevelConfiguration] }
        "networking.k8s.io" networking { v1 [IPAddress Ingress IngressClass NetworkPolicy ServiceCIDR] }
        "node.k8s.io" node { v1 [RuntimeClass] }
        "policy" policy { v1 [Eviction PodDisruptionBudget] }
        "rbac.authorization.k8s.io" rbac { v1 [ClusterRole ClusterRoleBinding Role RoleBinding] }
        "resource.k8s.io" resource {
            v1 [DeviceClass DeviceTaintRule ResourceClaim ResourceClaimTemplate ResourceSlice]
            v1beta2 [DeviceTaintRule]
        }
        "scheduling.k8s.io" scheduling { v1 [PriorityClass] v1beta1 [PodGroup Workload] }
        "storage.k8s.io" storage {
            v1 [CSIDriver CSINode CSIStorageCapacity StorageClass VolumeAttachment VolumeAttributesClass]
        }
        "storagemigration.k8s.io" storagemigration { v1 [StorageVersionMigration] v1beta1 [StorageVersionMigration] }
    };
    for golden in corpus(HEAD) {
        let (Some(message), Some(check)) = (golden.message(), checks.remove(&golden.name)) else {
            continue;
        };
        check(&golden, message);
    }
    assert!(
        checks.is_empty(),
        "no golden objects for {:?}",
        checks.keys()
    );
}

#[test]
fn lists_are_read_without_type_meta_in_their_items() {
    let golden = corpus(HEAD)
        .into_iter()
        .find(|g| g.name == "core.v1.Pod")
        .unwrap();
    let pod = protobuf::open(&golden.protobuf).unwrap().raw;
    let item = json::decode(
        &compact(&golden.json),
        golden.message().unwrap(),
        json::Strictness::Lenient,
    )
    .unwrap()
    .value;
    let mut list = Value::object();
    list.set(&["metadata", "resourceVersion"], "5");
    list.set(&["items"], vec![item.clone(), item]);
    let message = MsgId::find("core/v1.PodList").unwrap();
    let mut raw = Vec::new();
    protobuf::encode(&list, message, &mut raw);
    let list: k8s_openapi::List<api::core::v1::Pod> = typed::from_protobuf(&raw, message).unwrap();
    let pod: api::core::v1::Pod = typed::from_protobuf(pod, golden.message().unwrap()).unwrap();
    assert_eq!(list.metadata.resource_version.as_deref(), Some("5"));
    assert_eq!(list.items, [pod.clone(), pod]);
}
