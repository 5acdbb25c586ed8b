use proto::catalogue::messages::core_v1;
use proto::codec::json::{self, Strictness};
use proto::{MsgId, Value};

use super::graph::Of;
use super::*;

fn decode(text: &str, message: MsgId) -> Value {
    json::decode(text.as_bytes(), message, Strictness::Strict)
        .expect("the test's JSON is valid")
        .value
}

fn pod(name: &str, node: &str, spec: &str) -> Value {
    let text = format!(
        r#"{{"metadata":{{"name":"{name}","namespace":"ns"}},"spec":{{"nodeName":"{node}",{spec}}}}}"#
    );
    decode(&text, core_v1::POD)
}

/// A pod that uses one of everything.
fn app() -> Value {
    pod(
        "app",
        "node1",
        r#""serviceAccountName":"robot",
        "imagePullSecrets":[{"name":"pull"}],
        "resourceClaims":[{"name":"gpu","resourceClaimName":"claim-gpu"}],
        "containers":[{"name":"c","env":[{"name":"E","valueFrom":{"secretKeyRef":{"name":"env","key":"k"}}}],"envFrom":[{"configMapRef":{"name":"from"}}]}],
        "volumes":[
            {"name":"a","secret":{"secretName":"volume"}},
            {"name":"b","projected":{"sources":[{"configMap":{"name":"kube-root-ca.crt"}},{"secret":{"name":"projected"}}]}},
            {"name":"c","persistentVolumeClaim":{"claimName":"data"}},
            {"name":"scratch","ephemeral":{}},
            {"name":"e","csi":{"driver":"d","nodePublishSecretRef":{"name":"csi"}}}]"#,
    )
}

fn volume() -> Value {
    let text = r#"{"metadata":{"name":"pv"},"spec":{"claimRef":{"namespace":"ns","name":"data"},
        "csi":{"driver":"d","volumeHandle":"h","nodeStageSecretRef":{"namespace":"vault","name":"stage"},"controllerPublishSecretRef":{"namespace":"vault","name":"controller"}}}}"#;
    decode(text, core_v1::PERSISTENT_VOLUME)
}

fn graph() -> Graph {
    Graph::default()
        .with(Of::Pods, "ns/app", &app())
        .with(Of::Volumes, "pv", &volume())
}

fn user(node: &str) -> User {
    User {
        name: format!("system:node:{node}"),
        groups: vec![GROUP.into()],
        ..User::default()
    }
}

/// `verb group/resource[/subresource] namespace name [field selector]`.
fn ask(graph: &Graph, node: &str, words: &str) -> Verdict {
    let words: Vec<&str> = words
        .split(' ')
        .map(|w| if w == "-" { "" } else { w })
        .collect();
    let (group, resource) = words[1].split_once('/').unwrap();
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let user = user(node);
    let asked = Attributes {
        user: &user,
        verb: words[0],
        is_resource: true,
        group,
        version: "v1",
        resource,
        subresource,
        namespace: words[2],
        name: words[3],
        path: "",
        field_selector: words.get(4).copied().unwrap_or_default(),
        label_selector: "",
    };
    let rules =
        super::super::bootstrap::rules("system:node", proto::catalogue::Gates::defaults()).unwrap();
    decide(graph, &rules, node, &asked)
}

#[test]
fn a_node_reads_what_its_pods_refer_to() {
    let graph = graph();
    for what in [
        "get /secrets ns pull",
        "list /secrets ns env",
        "watch /secrets ns volume",
        "get /secrets ns projected",
        "get /secrets ns csi",
        "get /secrets vault stage",
        "get /configmaps ns from",
        "get /configmaps ns kube-root-ca.crt",
        "get /persistentvolumeclaims ns data",
        "get /persistentvolumeclaims ns app-scratch",
        "patch /persistentvolumeclaims/status ns data",
        "get /persistentvolumes - pv",
        "get resource.k8s.io/resourceclaims ns claim-gpu",
        "get /serviceaccounts ns robot",
        "create /serviceaccounts/token ns robot",
        "get /pods ns app",
        "watch /pods ns app",
    ] {
        assert_eq!(ask(&graph, "node1", what), Ok(()), "{what}");
        let other = ask(&graph, "node2", what).unwrap_err();
        assert!(
            other.contains("no relationship found between node 'node2'"),
            "{what}: {other}"
        );
    }
}

#[test]
fn what_no_pod_refers_to_is_out_of_reach() {
    let graph = graph();
    for what in [
        "get /secrets other pull",
        "get /secrets ns unknown",
        "get /secrets vault controller",
        "list /secrets ns -",
        "list /secrets - pull",
        "update /secrets ns pull",
        "list /persistentvolumeclaims ns data",
        "get /persistentvolumeclaims/status ns data",
        "create /serviceaccounts/token ns default",
        "create /serviceaccounts ns robot",
        "list /pods - -",
        "update /pods ns app",
        "delete /nodes - node1",
        "list /nodes - -",
        "get /nodes - node2",
    ] {
        assert!(ask(&graph, "node1", what).is_err(), "{what}");
    }
}

#[test]
fn a_pod_that_is_gone_leaves_nothing_behind() {
    let other = pod("other", "node1", r#""imagePullSecrets":[{"name":"pull"}]"#);
    let graph = graph()
        .with(Of::Pods, "ns/other", &other)
        .without(Of::Pods, "ns/app");
    assert_eq!(
        ask(&graph, "node1", "get /secrets ns pull"),
        Ok(()),
        "the other pod still needs it"
    );
    assert!(ask(&graph, "node1", "get /secrets ns env").is_err());
    assert!(ask(&graph, "node1", "get /persistentvolumes - pv").is_err());
    let graph = graph
        .without(Of::Pods, "ns/other")
        .without(Of::Volumes, "pv");
    assert!(graph.is_empty());
}

#[test]
fn a_pod_told_twice_counts_once() {
    let graph = graph()
        .with(Of::Pods, "ns/app", &app())
        .without(Of::Pods, "ns/app");
    assert!(ask(&graph, "node1", "get /secrets ns pull").is_err());
}

#[test]
fn a_mirror_pod_gives_access_to_nothing() {
    let text = r#"{"metadata":{"name":"m","namespace":"ns","annotations":{"kubernetes.io/config.mirror":"x"}},
        "spec":{"nodeName":"node1","imagePullSecrets":[{"name":"pull"}],"serviceAccountName":"robot"}}"#;
    let graph = Graph::default().with(Of::Pods, "ns/m", &decode(text, core_v1::POD));
    assert!(ask(&graph, "node1", "get /secrets ns pull").is_err());
    assert!(ask(&graph, "node1", "create /serviceaccounts/token ns robot").is_err());
    assert_eq!(ask(&graph, "node1", "get /pods ns m"), Ok(()));
}

#[test]
fn lists_are_narrowed_down_to_the_node() {
    let graph = graph();
    assert_eq!(
        ask(&graph, "node1", "list /pods - - spec.nodeName=node1"),
        Ok(())
    );
    assert_eq!(
        ask(
            &graph,
            "node1",
            "watch /pods - - spec.nodeName=node1,status.phase!=Failed"
        ),
        Ok(())
    );
    assert!(ask(&graph, "node1", "list /pods - - spec.nodeName=node2").is_err());
    assert!(ask(&graph, "node1", "list /pods - - spec.nodeName!=node1").is_err());
    assert_eq!(
        ask(
            &graph,
            "node1",
            "list resource.k8s.io/resourceslices - - spec.nodeName=node1"
        ),
        Ok(())
    );
    assert!(
        ask(
            &graph,
            "node1",
            "deletecollection resource.k8s.io/resourceslices - -"
        )
        .is_err()
    );
}

#[test]
fn a_node_has_its_own_lease_and_csi_node() {
    let graph = Graph::default();
    assert_eq!(
        ask(
            &graph,
            "node1",
            "update coordination.k8s.io/leases kube-node-lease node1"
        ),
        Ok(())
    );
    assert_eq!(
        ask(
            &graph,
            "node1",
            "create coordination.k8s.io/leases kube-node-lease -"
        ),
        Ok(())
    );
    assert!(
        ask(
            &graph,
            "node1",
            "update coordination.k8s.io/leases kube-node-lease node2"
        )
        .is_err()
    );
    assert!(
        ask(
            &graph,
            "node1",
            "get coordination.k8s.io/leases kube-system node1"
        )
        .is_err()
    );
    assert!(
        ask(
            &graph,
            "node1",
            "list coordination.k8s.io/leases kube-node-lease -"
        )
        .is_err()
    );
    assert_eq!(
        ask(&graph, "node1", "patch storage.k8s.io/csinodes - node1"),
        Ok(())
    );
    assert!(ask(&graph, "node1", "delete storage.k8s.io/csinodes - node2").is_err());
}

#[test]
fn other_resources_follow_the_role_of_nodes() {
    let graph = Graph::default();
    assert_eq!(ask(&graph, "node1", "list /services - -"), Ok(()));
    assert_eq!(
        ask(&graph, "node1", "create events.k8s.io/events ns -"),
        Ok(())
    );
    assert_eq!(
        ask(&graph, "node1", "list node.k8s.io/runtimeclasses - -"),
        Ok(())
    );
    assert!(ask(&graph, "node1", "delete /services ns x").is_err());
    assert!(ask(&graph, "node1", "list apps/deployments - -").is_err());
}

#[test]
fn only_members_of_the_group_are_nodes() {
    assert_eq!(identity(&user("a")), Some("a"));
    let outside = User {
        groups: Vec::new(),
        ..user("a")
    };
    assert_eq!(identity(&outside), None);
    assert_eq!(
        identity(&User {
            name: "ann".into(),
            ..user("a")
        }),
        None
    );
}
