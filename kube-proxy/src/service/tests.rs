use super::*;

/// A port of a Service with nothing but a cluster IP.
pub(crate) fn port(ip: &str, number: u16, protocol: Protocol) -> ServicePort {
    ServicePort {
        cluster_ip: ip.parse().unwrap(),
        port: number,
        protocol,
        node_port: 0,
        affinity: None,
        external_ips: Box::default(),
        load_balancer_ips: Box::default(),
        source_ranges: Box::default(),
        external_local: false,
        internal_local: false,
        endpoints: Box::default(),
    }
}

/// A ready endpoint on another node.
pub(crate) fn endpoint(ip: &str, port: u16) -> Endpoint {
    Endpoint {
        ip: ip.parse().unwrap(),
        port,
        local: false,
        ready: true,
        serving: true,
        terminating: false,
        zone: Hint::None,
        node: Hint::None,
    }
}

pub(crate) fn frontend<const N: usize>(ports: [ServicePort; N]) -> Frontend {
    Frontend {
        ports: ports.into(),
        health_port: 0,
    }
}

fn place() -> Place {
    Place {
        node: "node-1".to_owned(),
        zone: "a".to_owned(),
    }
}

fn read(
    family: Family,
    service: serde_json::Value,
    slices: &[serde_json::Value],
) -> Option<Frontend> {
    let service: Service = proto::typed::from_json_value(service).unwrap();
    let slices = slices.iter().map(|slice| {
        let mut slice = slice.clone();
        if slice.get("addressType").is_none() {
            slice["addressType"] = "IPv4".into();
        }
        std::sync::Arc::new(proto::typed::from_json_value::<EndpointSlice>(slice).unwrap())
    });
    let place = place();
    let reader = Reader {
        family,
        place: &place,
        gates: Gates {
            external_ips: true,
            same_node: true,
        },
    };
    reader.frontend(&service, &slices.collect::<Vec<_>>())
}

fn spec(spec: serde_json::Value) -> serde_json::Value {
    serde_json::json!({"metadata": {"namespace": "default", "name": "web"}, "spec": spec})
}

#[test]
fn services_without_an_address_are_not_proxied() {
    let ports = serde_json::json!([{"port": 80}]);
    for service in [
        serde_json::json!({"clusterIP": "None", "ports": ports}),
        serde_json::json!({"clusterIP": "", "ports": ports}),
        serde_json::json!({"type": "ExternalName", "clusterIP": "10.96.0.1", "ports": ports}),
        serde_json::json!({"clusterIP": "fd00::1", "ports": ports}),
    ] {
        assert_eq!(
            read(Family::Ipv4, spec(service.clone()), &[]),
            None,
            "{service}"
        );
    }
    let service = serde_json::json!({"clusterIP": "10.96.0.1", "ports": ports});
    assert_eq!(
        read(Family::Ipv4, spec(service), &[]).unwrap().ports.len(),
        1
    );
}

#[test]
fn each_family_has_its_own_addresses() {
    let service = serde_json::json!({
        "type": "LoadBalancer",
        "clusterIP": "fd00::1", "clusterIPs": ["fd00::1", "10.96.0.1"], "ipFamilies": ["IPv6", "IPv4"],
        "ports": [{"name": "http", "port": 80, "nodePort": 30_080}],
        "externalIPs": ["192.0.2.1", "2001:db8::1"],
        "loadBalancerSourceRanges": [" 10.1.0.0/16 ", "10.0.0.0/8", "2001:db8::/32", "10.1.2.3/32"],
        "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
        "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local", "healthCheckNodePort": 31_000
    });
    let mut service = spec(service);
    service["status"] = serde_json::json!({"loadBalancer": {"ingress": [
        {"ip": "192.0.2.9"}, {"ip": "192.0.2.10", "ipMode": "Proxy"}, {"hostname": "lb"}, {"ip": "2001:db8::9", "ipMode": "VIP"},
    ]}});
    let v4 = read(Family::Ipv4, service.clone(), &[]).unwrap();
    let port = &v4.ports[0];
    assert_eq!(v4.health_port, 31_000);
    assert_eq!(port.cluster_ip, "10.96.0.1".parse::<IpAddr>().unwrap());
    assert_eq!(*port.external_ips, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
    assert_eq!(
        *port.load_balancer_ips,
        ["192.0.2.9".parse::<IpAddr>().unwrap()]
    );
    assert_eq!(
        *port.source_ranges,
        ["10.0.0.0/8".parse().unwrap()],
        "a range in another is left out"
    );
    assert_eq!((port.node_port, port.affinity), (30_080, Some(60)));
    assert!(port.external_local && port.internal_local);
    let v6 = read(Family::Ipv6, service, &[]).unwrap();
    assert_eq!(
        *v6.ports[0].load_balancer_ips,
        ["2001:db8::9".parse::<IpAddr>().unwrap()]
    );
}

#[test]
fn a_range_of_everybody_is_no_restriction() {
    let service = serde_json::json!({
        "type": "LoadBalancer", "clusterIP": "10.96.0.1", "ports": [{"port": 80}],
        "loadBalancerSourceRanges": ["10.1.0.0/16", "0.0.0.0/0"],
    });
    let read = read(Family::Ipv4, spec(service), &[]).unwrap();
    assert!(read.ports[0].source_ranges.is_empty());
}

#[test]
fn endpoints_belong_to_ports_by_name_and_protocol() {
    let service = serde_json::json!({"clusterIP": "10.96.0.1", "ports": [
        {"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
    ]});
    let slice = serde_json::json!({
        "ports": [
            {"name": "dns", "port": 5353, "protocol": "UDP"}, {"name": "dns-tcp", "port": 5354, "protocol": "TCP"},
            {"name": "dns", "port": 0, "protocol": "UDP"},
        ],
        "endpoints": [
            {"addresses": ["10.244.1.3"], "nodeName": "node-1", "conditions": {"ready": true}},
            {"addresses": ["10.244.1.2"], "nodeName": "node-2", "conditions": {"ready": false, "serving": true, "terminating": true},
             "hints": {"forZones": [{"name": "b"}], "forNodes": [{"name": "node-2"}, {"name": "node-1"}]}},
        ],
    });
    let read = read(Family::Ipv4, spec(service), &[slice]).unwrap();
    let [udp, tcp] = &*read.ports else {
        panic!("two ports");
    };
    let at = |port: &ServicePort| {
        port.endpoints
            .iter()
            .map(|e| format!("{}:{}", e.ip, e.port))
            .collect::<Vec<_>>()
    };
    assert_eq!(at(udp), ["10.244.1.2:5353", "10.244.1.3:5353"]);
    assert_eq!(at(tcp), ["10.244.1.2:5354", "10.244.1.3:5354"]);
    let ending = &udp.endpoints[0];
    assert!(ending.terminating && ending.serving && !ending.ready && !ending.local);
    assert_eq!((ending.zone, ending.node), (Hint::Others, Hint::Ours));
    assert!(udp.endpoints[1].local);
    assert_eq!(read.local_ready(), 1);
}

#[test]
fn of_two_pods_with_one_address_the_one_that_stays_counts() {
    let service = serde_json::json!({"clusterIP": "10.96.0.1", "ports": [{"port": 80}]});
    let slice = |ending: bool| {
        serde_json::json!({
            "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
            "endpoints": [{"addresses": ["10.244.1.3"], "conditions": {"ready": !ending, "serving": true, "terminating": ending}}],
        })
    };
    for slices in [[slice(true), slice(false)], [slice(false), slice(true)]] {
        let read = read(Family::Ipv4, spec(service.clone()), &slices).unwrap();
        assert!(read.ports[0].endpoints[0].ready);
    }
}

#[test]
fn addresses_are_read_leniently() {
    assert_eq!(parse_ip("010.0.0.1"), Some("10.0.0.1".parse().unwrap()));
    assert_eq!(
        parse_ip("::ffff:10.0.0.1"),
        Some("10.0.0.1".parse().unwrap())
    );
    assert_eq!(parse_ip("10.0.0.256"), None);
    assert_eq!(parse_ip("1.2.3"), None);
    assert_eq!(parse_net("10.0.0.1/8"), Some("10.0.0.0/8".parse().unwrap()));
    assert_eq!(parse_net("10.0.0.1/33"), None);
}
