use proto::MsgId;
use proto::catalogue::{Resource, messages, resources};
use proto::codec::json::{self, Strictness};

use super::super::{Options, Reinvocation};
use super::*;
use crate::auth::User;

fn decode(text: &str, message: MsgId) -> Value {
    json::decode(text.as_bytes(), message, Strictness::Strict)
        .expect("the test's JSON is valid")
        .value
}

fn pod(text: &str) -> Value {
    decode(text, messages::core_v1::POD)
}

fn resource(name: &str) -> &'static Resource {
    resources().iter().find(|r| r.name == name).unwrap()
}

/// What a rule says to a write of `node1`.
fn judge(
    rule: impl Fn(&str, &Attributes<'_>) -> Result<(), String>,
    operation: Operation,
    resource: &'static Resource,
    (namespace, name): (&str, &str),
    (object, old): (Option<Value>, Option<Value>),
) -> String {
    let mut object = object;
    let write = Attributes {
        operation,
        resource,
        subresource: "",
        namespace,
        name,
        object: object.as_mut(),
        old: old.as_ref(),
        user: &User::default(),
        options: Options::None,
        deadline: None,
        reinvocation: Reinvocation::default(),
        warnings: &mut Vec::new(),
        trail: None,
    };
    rule("node1", &write).err().unwrap_or_default()
}

const OWNER: &str =
    r#"{"apiVersion":"v1","kind":"Node","name":"node1","uid":"u","controller":true}"#;

fn mirror(owners: &str, node: &str) -> Value {
    pod(&format!(
        r#"{{"metadata":{{"name":"m","annotations":{{"kubernetes.io/config.mirror":"h"}},"ownerReferences":[{owners}]}},"spec":{{"nodeName":"{node}"}}}}"#
    ))
}

#[test]
fn a_node_creates_mirror_pods_of_its_own_only() {
    let says = |pod: &Value| mirror_pod("node1", pod).err().unwrap_or_default();
    assert_eq!(says(&mirror(OWNER, "node1")), "");
    assert!(says(&pod(r#"{"spec":{"nodeName":"node1"}}"#)).contains("can only create mirror pods"));
    assert!(says(&mirror(OWNER, "node2")).contains("spec.nodeName set to itself"));
    assert!(says(&mirror("", "node1")).contains("with an owner reference"));
    assert!(
        says(&mirror(&format!("{OWNER},{OWNER}"), "node1")).contains("a single owner reference")
    );
    assert!(
        says(&mirror(&OWNER.replace("node1", "node2"), "node1"))
            .contains("with an owner reference")
    );
    assert!(
        says(&mirror(&OWNER.replace(",\"controller\":true", ""), "node1"))
            .contains("controller owner")
    );
    assert!(
        says(&mirror(
            &OWNER.replace("true}", "true,\"blockOwnerDeletion\":true}"),
            "node1"
        ))
        .contains("blockOwnerDeletion")
    );
}

#[test]
fn a_mirror_pod_refers_to_no_object() {
    let says = |spec: &str| {
        no_references("node1", &pod(&format!(r#"{{"spec":{spec}}}"#)))
            .err()
            .unwrap_or_default()
    };
    assert_eq!(
        says(r#"{"volumes":[{"name":"h","hostPath":{"path":"/"}},{"name":"e","emptyDir":{}}]}"#),
        ""
    );
    assert_eq!(
        says(r#"{"volumes":[{"name":"p","projected":{"sources":[{"downwardAPI":{}}]}}]}"#),
        ""
    );
    assert!(says(r#"{"serviceAccountName":"x"}"#).ends_with("serviceaccounts"));
    assert!(says(r#"{"volumes":[{"name":"s","secret":{"secretName":"s"}}]}"#).ends_with("secrets"));
    assert!(
        says(r#"{"volumes":[{"name":"s","secret":{}}]}"#).ends_with("secrets (via secret volumes)")
    );
    assert!(
        says(r#"{"volumes":[{"name":"c","persistentVolumeClaim":{"claimName":"x"}}]}"#)
            .ends_with("persistentvolumeclaims")
    );
    assert!(says(r#"{"volumes":[{"name":"p","projected":{"sources":[{"clusterTrustBundle":{"path":"x"}}]}}]}"#).ends_with("clustertrustbundles"));
    assert!(says(r#"{"volumes":[{"name":"new"}]}"#).contains("unknown volume type"));
}

#[test]
fn a_status_changes_only_what_is_the_nodes_to_say() {
    let pods = resource("pods");
    let says = |old: &str, new: &str| {
        judge(
            pod_status,
            Operation::Update,
            pods,
            ("ns", "p"),
            (Some(pod(new)), Some(pod(old))),
        )
    };
    let own = r#"{"metadata":{"labels":{"a":"1"}},"spec":{"nodeName":"node1"}}"#;
    assert_eq!(
        says(
            own,
            r#"{"metadata":{"labels":{"a":"1"}},"spec":{"nodeName":"node1"},"status":{"phase":"Running"}}"#
        ),
        ""
    );
    assert!(says(own, r#"{"spec":{"nodeName":"node1"}}"#).contains("cannot update labels"));
    assert!(says(r#"{"spec":{"nodeName":"node2"}}"#, own).contains("set to itself"));
    let claims = r#"{"metadata":{"labels":{"a":"1"}},"spec":{"nodeName":"node1"},"status":{"resourceClaimStatuses":[{"name":"x"}]}}"#;
    assert!(says(own, claims).contains("resource claim statues"));
}

#[test]
fn a_claims_status_is_what_a_node_may_change_of_it() {
    let claims = resource("persistentvolumeclaims");
    let claim = |text: &str| Some(decode(text, messages::core_v1::PERSISTENT_VOLUME_CLAIM));
    let says = |new: &str| {
        let old = claim(
            r#"{"metadata":{"name":"c","resourceVersion":"5"},"spec":{"volumeName":"v"},"status":{"phase":"Bound"}}"#,
        );
        judge(
            claim_status,
            Operation::Update,
            claims,
            ("ns", "c"),
            (claim(new), old),
        )
    };
    let resized = r#"{"metadata":{"name":"c"},"spec":{"volumeName":"v"},"status":{"phase":"Bound","capacity":{"storage":"1Gi"},"conditions":[]}}"#;
    assert_eq!(says(resized), "");
    assert!(
        says(r#"{"metadata":{"name":"c"},"spec":{"volumeName":"w"},"status":{"phase":"Bound"}}"#)
            .contains("not allowed")
    );
    assert!(says(r#"{"metadata":{"name":"c","finalizers":["f"]},"spec":{"volumeName":"v"},"status":{"phase":"Bound"}}"#).contains("not allowed"));
}

#[test]
fn a_node_changes_its_own_node_and_no_taint() {
    let nodes = resource("nodes");
    let node = |text: &str| Some(decode(text, messages::core_v1::NODE));
    let update = |name: &str, new: &str, old: &str| {
        judge(
            labels::node,
            Operation::Update,
            nodes,
            ("", name),
            (node(new), node(old)),
        )
    };
    let create = |new: &str| {
        judge(
            labels::node,
            Operation::Create,
            nodes,
            ("", "node1"),
            (node(new), None),
        )
    };
    assert_eq!(
        create(
            r#"{"metadata":{"name":"node1","labels":{"kubernetes.io/hostname":"node1"}},"spec":{"taints":[{"key":"a","effect":"NoSchedule"}]}}"#
        ),
        ""
    );
    assert!(
        create(r#"{"metadata":{"labels":{"node-role.kubernetes.io/x":""}}}"#)
            .contains("the following labels: node-role.kubernetes.io/x")
    );
    assert!(create(r#"{"spec":{"configSource":{}}}"#).contains("configSource"));
    assert_eq!(
        update(
            "node1",
            r#"{"metadata":{"labels":{"a":"2"}}}"#,
            r#"{"metadata":{"labels":{"a":"1"}}}"#
        ),
        ""
    );
    assert!(update("node2", "{}", "{}").contains("is not allowed to modify node \"node2\""));
    assert!(
        update(
            "node1",
            r#"{"spec":{"taints":[]}}"#,
            r#"{"spec":{"taints":[{"key":"a","effect":"NoSchedule"}]}}"#
        )
        .contains("taints")
    );
    assert!(update("node1", r#"{"metadata":{"ownerReferences":[{"name":"x","kind":"A","apiVersion":"v1","uid":"u"}]}}"#, "{}").contains("ownerReferences"));
}

/// An object of a name, made anew.
fn named(name: &str) -> (Option<Value>, Option<Value>) {
    let mut object = Value::object();
    meta::set(&mut object, n::NAME, name);
    (Some(object), None)
}

#[test]
fn leases_csi_nodes_and_slices_are_the_nodes_own() {
    let leases = resource("leases");
    assert_eq!(
        judge(
            lease,
            Operation::Create,
            leases,
            ("kube-node-lease", ""),
            named("node1")
        ),
        ""
    );
    assert_ne!(
        judge(
            lease,
            Operation::Create,
            leases,
            ("kube-node-lease", ""),
            named("node2")
        ),
        ""
    );
    assert_ne!(
        judge(
            lease,
            Operation::Create,
            leases,
            ("kube-system", ""),
            named("node1")
        ),
        ""
    );
    assert_ne!(
        judge(
            lease,
            Operation::Delete,
            leases,
            ("kube-node-lease", "node2"),
            (None, None)
        ),
        ""
    );
    let csi = resource("csinodes");
    assert_eq!(
        judge(
            |node, write| csi_node(node, write, false),
            Operation::Update,
            csi,
            ("", "node1"),
            named("node1")
        ),
        ""
    );
    assert_ne!(
        judge(
            |node, write| csi_node(node, write, false),
            Operation::Update,
            csi,
            ("", "node2"),
            named("node1")
        ),
        ""
    );
    let slices = resource("resourceslices");
    let mut on = Value::object();
    on.set(&[n::SPEC, n::NODE_NAME], "node1");
    assert_eq!(
        judge(
            slice,
            Operation::Create,
            slices,
            ("", ""),
            (Some(on.clone()), None)
        ),
        ""
    );
    assert_eq!(
        judge(
            slice,
            Operation::Delete,
            slices,
            ("", "s"),
            (None, Some(on))
        ),
        ""
    );
    assert_ne!(
        judge(
            slice,
            Operation::Create,
            slices,
            ("", ""),
            (Some(Value::object()), None)
        ),
        ""
    );
}
