use super::*;
use crate::service::tests::{endpoint, frontend, port};
use crate::service::{Endpoint, Hint};

const NODE: &str = "192.0.2.1";

fn claims_of(port: ServicePort) -> Vec<Claim> {
    claims(&frontend([port]), NODE.parse().unwrap())
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn entry(at: &str, port: u16) -> Key {
    Key::new().ip(ip(at)).protocol(Protocol::Tcp).port(port)
}

fn value(claims: &[Claim], set: SetId, key: &Key) -> Option<Value> {
    let found = claims.iter().find(|c| c.set == set && c.key == *key);
    found.map(|c| c.value)
}

fn goto(kind: Kind, node_port: bool, count: u32) -> Value {
    Value::Goto(Dispatch {
        kind,
        node_port,
        count,
        sticky: false,
    })
}

fn web(endpoints: &[Endpoint]) -> ServicePort {
    let mut web = port("10.96.0.1", 80, Protocol::Tcp);
    web.endpoints = endpoints.into();
    web
}

fn local(ip: &str) -> Endpoint {
    Endpoint {
        local: true,
        ..endpoint(ip, 8080)
    }
}

fn ending(of: Endpoint) -> Endpoint {
    Endpoint {
        ready: false,
        serving: true,
        terminating: true,
        ..of
    }
}

fn remote(ip: &str) -> Endpoint {
    endpoint(ip, 8080)
}

#[test]
fn a_service_is_elements_and_no_chain() {
    let claims = claims_of(web(&[remote("10.0.0.1"), local("10.0.0.2")]));
    let at = entry("10.96.0.1", 80);
    let inside = goto(Kind::Inside, false, 2);
    assert_eq!(value(&claims, SetId::ServiceIps, &at), Some(inside));
    let Value::Goto(to) = inside else {
        unreachable!();
    };
    for (index, pod) in ["10.0.0.1", "10.0.0.2"].into_iter().enumerate() {
        let data = Value::Endpoint(Data::endpoint(ip(pod), 8080));
        let key = at.numbered(index as u32);
        assert_eq!(value(&claims, to.endpoints(), &key), Some(data));
    }
    let hairpin = Key::new().ip(ip("10.0.0.2")).ip(ip("10.0.0.2"));
    let hairpin = hairpin.protocol(Protocol::Tcp).port(8080);
    assert_eq!(
        value(&claims, SetId::Hairpin, &hairpin),
        Some(Value::Nothing)
    );
    assert_eq!(
        claims.len(),
        5,
        "cluster IP, verdict, two endpoints, one hairpin: {claims:?}"
    );
}

#[test]
fn a_service_without_endpoints_is_rejected() {
    let mut empty = web(&[]);
    empty.node_port = 30_080;
    empty.external_ips = [ip("192.0.2.9")].into();
    let claims = claims_of(empty);
    for at in ["10.96.0.1", "192.0.2.9"] {
        let found = value(&claims, SetId::NoEndpointIps, &entry(at, 80));
        assert_eq!(found, Some(Value::Reject));
    }
    let at = Key::new().protocol(Protocol::Tcp).port(30_080);
    assert_eq!(
        value(&claims, SetId::NoEndpointNodePorts, &at),
        Some(Value::Reject)
    );
    assert_eq!(
        value(&claims, SetId::ServiceIps, &entry("10.96.0.1", 80)),
        None
    );
}

#[test]
fn with_the_internal_policy_local_endpoints_of_other_nodes_are_not_used() {
    let mut web = web(&[remote("10.0.0.1"), local("10.0.0.2")]);
    web.internal_local = true;
    let at = entry("10.96.0.1", 80);
    let claims = claims_of(web.clone());
    assert_eq!(
        value(&claims, SetId::ServiceIps, &at),
        Some(goto(Kind::Inside, false, 1))
    );
    web.endpoints[1].local = false;
    let claims = claims_of(web);
    assert_eq!(value(&claims, SetId::ServiceIps, &at), None);
    assert_eq!(value(&claims, SetId::NoEndpointIps, &at), Some(Value::Drop));
}

#[test]
fn with_the_external_policy_local_only_the_nodes_own_clients_go_anywhere() {
    let mut web = web(&[remote("10.0.0.1"), local("10.0.0.2")]);
    web.external_local = true;
    web.node_port = 30_080;
    web.load_balancer_ips = [ip("192.0.2.9")].into();
    let claims = claims_of(web.clone());
    let outside = entry("192.0.2.9", 80);
    assert_eq!(
        value(&claims, SetId::ServiceIps, &outside),
        Some(goto(Kind::Local, false, 1))
    );
    assert_eq!(
        value(&claims, SetId::LocalSourceIps, &outside),
        Some(goto(Kind::Inside, false, 2))
    );
    let node_port = Key::new().protocol(Protocol::Tcp).port(30_080);
    assert_eq!(
        value(&claims, SetId::NodePorts, &node_port),
        Some(goto(Kind::Local, true, 1))
    );
    let bypass = value(&claims, SetId::LocalSourceNodePorts, &node_port);
    assert_eq!(bypass, Some(goto(Kind::Inside, true, 2)));
    // The cluster IP is not held to it.
    let inside = value(&claims, SetId::ServiceIps, &entry("10.96.0.1", 80));
    assert_eq!(inside, Some(goto(Kind::Inside, false, 2)));

    web.endpoints[1].local = false;
    let claims = claims_of(web);
    assert_eq!(
        value(&claims, SetId::ServiceIps, &outside),
        Some(goto(Kind::Local, false, 0))
    );
    assert_eq!(
        value(&claims, SetId::NoEndpointIps, &outside),
        Some(Value::Drop)
    );
    assert_eq!(
        value(&claims, SetId::NoEndpointNodePorts, &node_port),
        Some(Value::Drop)
    );
}

#[test]
fn ending_endpoints_are_used_only_when_there_is_no_other() {
    let at = entry("10.96.0.1", 80);
    let both = claims_of(web(&[ending(remote("10.0.0.1")), remote("10.0.0.2")]));
    assert_eq!(
        value(&both, SetId::ServiceIps, &at),
        Some(goto(Kind::Inside, false, 1))
    );
    let alone = claims_of(web(&[ending(remote("10.0.0.1"))]));
    assert_eq!(
        value(&alone, SetId::ServiceIps, &at),
        Some(goto(Kind::Inside, false, 1))
    );
    let mut dead = ending(remote("10.0.0.1"));
    dead.serving = false;
    let dead = claims_of(web(&[dead]));
    assert_eq!(value(&dead, SetId::NoEndpointIps, &at), Some(Value::Reject));
    // Locally as well, even if others are ready elsewhere.
    let mut policy = web(&[ending(local("10.0.0.1")), remote("10.0.0.2")]);
    policy.internal_local = true;
    let usable = Usable::of(&policy);
    assert_eq!(usable.local.len(), 1);
}

#[test]
fn hints_count_only_if_every_ready_endpoint_has_one_and_one_is_ours() {
    let hinted = |ip: &str, zone: Hint, node: Hint| Endpoint {
        zone,
        node,
        ..remote(ip)
    };
    let used = |endpoints: &[Endpoint]| {
        let port = web(endpoints);
        Usable::of(&port)
            .cluster
            .iter()
            .map(|e| e.ip.to_string())
            .collect::<Vec<_>>()
    };
    let (none, ours, others) = (Hint::None, Hint::Ours, Hint::Others);
    let (a, b) = ("10.0.0.1", "10.0.0.2");
    assert_eq!(used(&[hinted(a, ours, none), hinted(b, others, none)]), [a]);
    assert_eq!(
        used(&[hinted(a, ours, none), hinted(b, none, none)]),
        [a, b]
    );
    assert_eq!(
        used(&[hinted(a, others, none), hinted(b, others, none)]),
        [a, b]
    );
    assert_eq!(
        used(&[hinted(a, ours, others), hinted(b, others, ours)]),
        [b],
        "nodes before zones"
    );
    assert_eq!(
        used(&[hinted(a, ours, others), hinted(b, others, others)]),
        [a]
    );
    // One that is not ready has no say.
    assert_eq!(
        used(&[hinted(a, ours, none), ending(hinted(b, none, none))]),
        [a]
    );
}

#[test]
fn sources_of_load_balancers_are_listed_per_address() {
    let mut guarded = web(&[remote("10.0.0.1")]);
    guarded.load_balancer_ips = [ip("203.0.113.1")].into();
    guarded.source_ranges = ["192.0.2.0/24".parse().unwrap()].into();
    let claims = claims_of(guarded);
    let at = entry("203.0.113.1", 80);
    assert_eq!(
        value(&claims, SetId::FirewallIps, &at),
        Some(Value::Nothing)
    );
    let until = |text: &str| Some(Value::Until(Data::new().ip(ip(text))));
    let from = |text: &str| value(&claims, SetId::FirewallSources, &at.ip(ip(text)));
    assert_eq!(from("192.0.2.0"), until("192.0.2.255"));
    // The node may come, and comes under the address itself.
    assert_eq!(from("203.0.113.1"), until("203.0.113.1"));
}

#[test]
fn entries_of_sticky_services_are_listed_with_their_endpoints() {
    let mut sticky = web(&[remote("10.0.0.1")]);
    sticky.affinity = Some(60);
    let claims = claims_of(sticky);
    let at = entry("10.96.0.1", 80);
    let to = value(&claims, SetId::ServiceIps, &at);
    assert!(matches!(
        to,
        Some(Value::Goto(Dispatch { sticky: true, .. }))
    ));
    let set = SetId::Sticky {
        node_port: false,
        seconds: 60,
    };
    let key = at.followed_by(Data::endpoint(ip("10.0.0.1"), 8080).as_bytes());
    assert_eq!(value(&claims, set, &key.unwrap()), Some(Value::Nothing));
}
