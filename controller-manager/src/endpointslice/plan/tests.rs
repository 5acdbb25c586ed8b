use serde_json::json;

use super::super::pack::endpoints;
use super::*;

fn service(extra: serde_json::Value) -> Service {
    let mut service = json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "svc-1", "labels": {"app": "web"},
                     "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"], "selector": {"app": "web"},
                 "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}]}
    });
    for (key, value) in extra.as_object().unwrap() {
        service["spec"][key] = value.clone();
    }
    proto::typed::from_json_value(service).unwrap()
}

fn pod(name: &str, ip: &str, ready: bool) -> Pod {
    proto::typed::from_json_value(json!({
        "metadata": {"name": name, "namespace": "ns", "uid": format!("uid-{name}"), "labels": {"app": "web"}},
        "spec": {"nodeName": "node-1", "containers": []},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
                   "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}
    }))
    .unwrap()
}

fn node(zone: &str) -> Arc<Node> {
    let node =
        json!({"metadata": {"name": "node-1", "labels": {"topology.kubernetes.io/zone": zone}}});
    Arc::new(proto::typed::from_json_value(node).unwrap())
}

fn pods(count: u32) -> Vec<Arc<Pod>> {
    (0..count)
        .map(|i| {
            Arc::new(pod(
                &format!("p{i:03}"),
                &format!("10.1.{}.{}", i / 250, i % 250 + 1),
                true,
            ))
        })
        .collect()
}

fn made(plan: &Plan) -> Vec<Arc<EndpointSlice>> {
    let updated = plan.changes.update.iter().map(|u| &u.new);
    let mut slices: Vec<_> = plan.changes.create.iter().chain(updated).cloned().collect();
    for (i, slice) in slices.iter_mut().enumerate() {
        slice.metadata.name.get_or_insert(format!("web-{i}"));
        slice.metadata.uid.get_or_insert(format!("slice-{i}"));
    }
    let unchanged = plan.changes.unchanged.iter().map(Arc::clone);
    slices.into_iter().map(Arc::new).chain(unchanged).collect()
}

fn planned(service: &Service, pods: &[Arc<Pod>], slices: Vec<Arc<EndpointSlice>>) -> Plan {
    planned_with(service, pods, slices, &None)
}

fn planned_with(
    service: &Service,
    pods: &[Arc<Pod>],
    slices: Vec<Arc<EndpointSlice>>,
    shares: &Shares,
) -> Plan {
    let seen = Seen {
        service,
        pods,
        slices,
        node: &|name| (name == "node-1").then(|| node("a")),
        most: 100,
        shares,
        had_hints: false,
    };
    plan(&seen, Family::V4)
}

#[test]
fn a_service_without_pods_has_one_empty_slice_which_stays() {
    let service = service(json!({}));
    let first = planned(&service, &[], vec![]);
    assert_eq!(first.changes.create.len(), 1);
    let slice = &first.changes.create[0];
    assert_eq!(slice.metadata.generate_name.as_deref(), Some("web-"));
    let labels = slice.metadata.labels.as_ref().unwrap();
    assert_eq!(labels["kubernetes.io/service-name"], "web");
    assert_eq!(
        labels["endpointslice.kubernetes.io/managed-by"],
        "endpointslice-controller.k8s.io"
    );
    assert_eq!(labels["app"], "web");
    assert!(!labels.contains_key("service.kubernetes.io/headless"));
    let again = planned(&service, &[], made(&first));
    assert!(again.changes.is_empty(), "{again:?}");
}

#[test]
fn endpoints_tell_of_their_pod_and_node() {
    let plan = planned(
        &service(json!({})),
        &[Arc::new(pod("p", "10.1.0.1", true))],
        vec![],
    );
    let slice = serde_json::to_value(&plan.changes.create[0]).unwrap();
    assert_eq!(
        slice["endpoints"],
        json!([{
            "addresses": ["10.1.0.1"],
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "nodeName": "node-1", "zone": "a",
            "targetRef": {"kind": "Pod", "name": "p", "namespace": "ns", "uid": "uid-p"}
        }])
    );
    assert_eq!(
        slice["ports"],
        json!([{"name": "http", "port": 8080, "protocol": "TCP"}])
    );
    assert_eq!(slice["metadata"]["ownerReferences"][0]["controller"], true);
}

#[test]
fn terminating_pods_serve_but_are_not_ready_unless_published() {
    let mut leaving = pod("p", "10.1.0.1", true);
    leaving.metadata.deletion_timestamp = service(json!({})).metadata.creation_timestamp;
    let leaving = [Arc::new(leaving)];
    let conditions = |service: &Service| {
        let plan = planned(service, &leaving, vec![]);
        endpoints(&plan.changes.create[0])[0]
            .conditions
            .clone()
            .unwrap()
    };
    let usual = conditions(&service(json!({})));
    assert_eq!(
        (usual.ready, usual.serving, usual.terminating),
        (Some(false), Some(true), Some(true))
    );
    let published = conditions(&service(json!({"publishNotReadyAddresses": true})));
    assert_eq!(published.ready, Some(true));
}

#[test]
fn slices_hold_no_more_than_they_may_and_are_filled_up() {
    let service = service(json!({}));
    let first = planned(&service, &pods(150), vec![]);
    let sizes = |plan: &Plan| {
        let mut sizes: Vec<_> = made(plan).iter().map(|s| endpoints(s).len()).collect();
        sizes.sort_unstable();
        sizes
    };
    assert_eq!(sizes(&first), [50, 100]);
    let more = planned(&service, &pods(190), made(&first));
    assert_eq!(sizes(&more), [90, 100]);
    assert_eq!(
        (more.changes.update.len(), more.changes.create.len()),
        (1, 0)
    );
    let too_many = planned(&service, &pods(205), made(&more));
    assert_eq!(
        sizes(&too_many),
        [15, 90, 100],
        "they do not fit into one slice"
    );
    assert_eq!(too_many.changes.len(), 1);
}

#[test]
fn a_slice_with_no_endpoint_left_goes_and_the_last_becomes_the_placeholder() {
    let service = service(json!({}));
    let first = planned(&service, &pods(1), vec![]);
    let empty = planned(&service, &[], made(&first));
    assert_eq!(empty.changes.len(), 1);
    let update = &empty.changes.update[0];
    assert_eq!(update.new.metadata.name, update.old.metadata.name);
    assert!(endpoints(&update.new).is_empty());
    assert!(update.new.ports.as_ref().unwrap().is_empty());
}

#[test]
fn slices_of_an_earlier_service_of_that_name_are_not_taken_over() {
    let service = service(json!({}));
    let mut old = planned(&service, &pods(1), vec![]).changes.create.remove(0);
    old.metadata.owner_references.as_mut().unwrap()[0].uid = "svc-0".into();
    let plan = planned(&service, &pods(1), vec![Arc::new(old)]);
    assert_eq!(
        (plan.changes.create.len(), plan.changes.delete.len()),
        (1, 1)
    );
}

#[test]
fn pods_with_other_numbers_for_a_named_port_have_slices_of_their_own() {
    let service = service(
        json!({"ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": "web"}]}),
    );
    let with_port = |name: &str, ip: &str, port: i32| {
        let mut pod = serde_json::to_value(pod(name, ip, true)).unwrap();
        pod["spec"]["containers"] = json!([{"name": "c", "ports": [{"name": "web", "containerPort": port, "protocol": "TCP"}]}]);
        Arc::new(proto::typed::from_json_value::<Pod>(pod).unwrap())
    };
    let pods = [
        with_port("a", "10.1.0.1", 80),
        with_port("b", "10.1.0.2", 81),
    ];
    assert_eq!(planned(&service, &pods, vec![]).changes.create.len(), 2);
}

#[test]
fn pods_of_missing_nodes_wait_unless_published() {
    let mut lost = pod("p", "10.1.0.1", true);
    lost.spec.as_mut().unwrap().node_name = Some("gone".into());
    let lost = [Arc::new(lost)];
    let plan = planned(&service(json!({})), &lost, vec![]);
    assert_eq!(plan.without_node, ["p"]);
    let plan = planned(
        &service(json!({"publishNotReadyAddresses": true})),
        &lost,
        vec![],
    );
    assert_eq!(endpoints(&plan.changes.create[0]).len(), 1);
}

#[test]
fn traffic_distribution_gives_hints_and_takes_them_back() {
    let near = service(json!({"trafficDistribution": "PreferSameNode"}));
    let first = planned(&near, &pods(1), vec![]);
    let hints = endpoints(&first.changes.create[0])[0]
        .hints
        .clone()
        .unwrap();
    assert_eq!(hints.for_zones.unwrap()[0].name, "a");
    assert_eq!(hints.for_nodes.unwrap()[0].name, "node-1");
    let same = planned(&near, &pods(1), made(&first));
    assert!(same.changes.is_empty());
    let far = planned(&service(json!({})), &pods(1), made(&first));
    assert_eq!(far.changes.update.len(), 1);
    assert!(endpoints(&far.changes.update[0].new)[0].hints.is_none());
}

#[test]
fn topology_hints_share_endpoints_by_processors() {
    let mut service = service(json!({}));
    service.metadata.annotations = Some(
        [(
            "service.kubernetes.io/topology-mode".to_owned(),
            "Auto".to_owned(),
        )]
        .into(),
    );
    let shares = Some([("a".to_owned(), 0.5), ("b".to_owned(), 0.5)].into());
    let plan = planned_with(&service, &pods(10), vec![], &shares);
    let zones = plan.zones.clone().unwrap();
    assert_eq!((zones["a"], zones["b"]), (5, 5));
    assert_eq!(plan.events[0].1, "TopologyAwareHintsEnabled");
    let few = planned_with(&service, &pods(1), made(&plan), &shares);
    assert_eq!(
        few.events[0].2,
        "Insufficient number of endpoints (1 endpoints, 2 zones), addressType: IPv4"
    );
    let hints = few.changes.update.iter().flat_map(|u| endpoints(&u.new));
    assert!(hints.into_iter().all(|e| e.hints.is_none()));
}
