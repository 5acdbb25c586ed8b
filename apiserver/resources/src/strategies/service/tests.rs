use super::super::testing::Of;
use super::*;

const SERVICES: Of = Of("", "v1", "services");

fn service(spec: &str) -> String {
    format!(r#"{{"metadata":{{"name":"s","namespace":"n"}},"spec":{spec}}}"#)
}

fn refused(spec: &str) -> Vec<String> {
    SERVICES.refused(&service(spec))
}

const PORT: &str = r#""ports":[{"port":80}]"#;

#[test]
fn a_service_says_how_it_is_reached() {
    for (spec, errors) in [
        (r#"{"ports":[{"port":80}]}"#, &[][..]),
        (r#"{"clusterIP":"None","clusterIPs":["None"]}"#, &[]),
        ("{}", &["spec.ports: Required value"]),
        (
            r#"{"type":"LoadBalancer","clusterIP":"None","clusterIPs":["None"]}"#,
            &[
                r#"spec.clusterIPs[0]: Invalid value: "None": may not be set to 'None' for LoadBalancer services"#,
            ],
        ),
        (
            r#"{"type":"ExternalName","externalName":"A.","clusterIPs":["10.0.0.1"],"ipFamilyPolicy":"SingleStack"}"#,
            &[
                "spec.clusterIPs: Forbidden: may not be set for ExternalName services",
                "spec.ipFamilyPolicy: Forbidden: may not be set for ExternalName services",
                r#"spec.externalName: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"#,
            ],
        ),
        (
            r#"{"type":"<x>","ports":[{"port":1}]}"#,
            &[
                r#"spec.type: Unsupported value: "\u003cx\u003e": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort""#,
            ],
        ),
    ] {
        assert_eq!(refused(spec), errors, "{spec}");
    }
}

#[test]
fn ports_are_different() {
    let ports = r#"{"ports":[
        {"name":"a","port":80,"nodePort":30000},
        {"name":"a","port":80,"protocol":"UDP","appProtocol":"-"},
        {"port":80,"protocol":"X","targetPort":"A_"},
        {"name":"d","port":80}]}"#;
    let told = refused(ports);
    let fields: Vec<&str> = told
        .iter()
        .map(|e| e.split(':').next().unwrap_or_default())
        .collect();
    assert_eq!(
        fields,
        [
            "spec.ports[1].name",
            "spec.ports[1].appProtocol",
            "spec.ports[2].name",
            "spec.ports[2].protocol",
            "spec.ports[2].targetPort",
            "spec.ports[2].targetPort",
            "spec.ports[0].nodePort",
            "spec.ports[3]",
        ]
    );
    assert_eq!(
        told.last().map(String::as_str),
        Some(
            r#"spec.ports[3]: Duplicate value: {"Name":"","Protocol":"TCP","AppProtocol":null,"Port":80,"TargetPort":0,"NodePort":0}"#
        )
    );
}

#[test]
fn addresses_and_families_go_together() {
    for (more, errors) in [
        (
            r#""clusterIP":"10.0.0.1""#,
            &["spec.clusterIPs: Required value"][..],
        ),
        (
            r#""clusterIP":"10.0.0.1","clusterIPs":["10.0.0.2"]"#,
            &[
                r#"spec.clusterIPs: Invalid value: ["10.0.0.2"]: first value must match `clusterIP`"#,
            ],
        ),
        (
            r#""clusterIP":"10.0.0.01","clusterIPs":["10.0.0.01","None"]"#,
            &[
                r#"spec.clusterIPs[0]: Invalid value: "10.0.0.01": must not have leading 0s"#,
                r#"spec.clusterIPs[1]: Invalid value: "None": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"#,
            ],
        ),
        (
            r#""clusterIP":"10.0.0.1","clusterIPs":["10.0.0.1","10.0.0.2"],"ipFamilies":["IPv6","IPv6"]"#,
            &[
                r#"spec.ipFamilies[1]: Duplicate value: "IPv6""#,
                r#"spec.clusterIPs: Invalid value: ["10.0.0.1","10.0.0.2"]: may specify no more than one IP for each IP family"#,
                r#"spec.clusterIPs[0]: Invalid value: "10.0.0.1": expected an IPv6 value as indicated by `ipFamilies[0]`"#,
                r#"spec.clusterIPs[1]: Invalid value: "10.0.0.2": expected an IPv6 value as indicated by `ipFamilies[1]`"#,
            ],
        ),
        (
            r#""externalIPs":["127.0.0.1","x"]"#,
            &[
                r#"spec.externalIPs[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)"#,
                r#"spec.externalIPs[1]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"#,
            ],
        ),
    ] {
        let spec = format!("{{{PORT},{more}}}");
        assert_eq!(refused(&spec), errors, "{spec}");
    }
}

#[test]
fn a_balancer_has_what_only_balancers_have() {
    let spec = format!(
        r#"{{{PORT},"loadBalancerSourceRanges":[" 10.0.0.1/8 "],"loadBalancerClass":"c","healthCheckNodePort":1,
        "externalTrafficPolicy":"Local","allocateLoadBalancerNodePorts":true}}"#
    );
    assert_eq!(
        refused(&spec),
        [
            "spec.LoadBalancerSourceRanges: Forbidden: may only be used when `type` is 'LoadBalancer'",
            r#"spec.LoadBalancerSourceRanges[0]: Invalid value: "10.0.0.1/8": must not have bits set beyond the prefix length"#,
            "spec.allocateLoadBalancerNodePorts: Forbidden: may only be used when `type` is 'LoadBalancer'",
            "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'",
            r#"spec.externalTrafficPolicy: Invalid value: "Local": may only be set for externally-accessible services"#,
            "spec.healthCheckNodePort: Invalid value: 1: may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
        ]
    );
}

#[test]
fn what_was_given_stays() {
    let old = service(
        r#"{"ports":[{"port":80}],"type":"ClusterIP","clusterIP":"10.0.0.1","clusterIPs":["10.0.0.1","fd00::1"],
        "ipFamilies":["IPv4","IPv6"],"ipFamilyPolicy":"RequireDualStack","sessionAffinity":"None","internalTrafficPolicy":"Cluster"}"#,
    );
    let change = |from: &str, to: &str| {
        let new = old.replace(from, to);
        assert_ne!(new, old);
        SERVICES.refused_update("", &new, &old)
    };
    assert_eq!(
        change(r#""fd00::1""#, r#""fd00::2""#),
        [r#"spec.clusterIPs[1]: Invalid value: ["10.0.0.1","fd00::2"]: may not change once set"#]
    );
    assert_eq!(
        change(r#","fd00::1""#, ""),
        [
            r#"spec.ipFamilyPolicy: Invalid value: "RequireDualStack": must be set to 'SingleStack' when releasing the secondary clusterIP"#
        ]
    );
    assert!(change(r#""port":80"#, r#""port":81"#).is_empty());
}

#[test]
fn a_change_of_type_takes_away_what_belonged_to_the_old_one() {
    let old = service(
        r#"{"ports":[{"port":80,"protocol":"TCP","targetPort":80,"nodePort":30000}],"type":"LoadBalancer","clusterIP":"10.0.0.1",
        "clusterIPs":["10.0.0.1"],"loadBalancerClass":"c","externalTrafficPolicy":"Local","healthCheckNodePort":30001,
        "allocateLoadBalancerNodePorts":true,"sessionAffinity":"None","internalTrafficPolicy":"Cluster"}"#,
    );
    let new = old.replace("LoadBalancer\"", "ClusterIP\"");
    let stored = SERVICES.update("", &new, &old).expect("it is accepted");
    let spec = stored.get("spec").expect("it has one");
    for gone in [
        "loadBalancerClass",
        "externalTrafficPolicy",
        "healthCheckNodePort",
        "allocateLoadBalancerNodePorts",
    ] {
        assert_eq!(spec.get(gone), None, "{gone}");
    }
    let port = spec.get("ports").and_then(Value::as_list).expect("a port");
    assert_eq!(port[0].get("nodePort"), None);
}

#[test]
fn what_a_client_left_out_did_not_change() {
    let parse = |text: &str| proto::codec::json::parse(text.as_bytes()).expect("JSON");
    let old = parse(
        r#"{"spec":{"type":"NodePort","clusterIP":"10.0.0.1","clusterIPs":["10.0.0.1"],"ports":[{"name":"a","port":1,"nodePort":30000}]}}"#,
    );
    let mut new = parse(r#"{"spec":{"type":"NodePort","ports":[{"name":"a","port":2}]}}"#);
    link(&mut new, Some(&old));
    let (now, was) = (spec(&new), spec(&old));
    assert_eq!(now.cluster_ip(), was.cluster_ip());
    assert_eq!(now.cluster_ips(), was.cluster_ips());
    assert_eq!(now.ports().first().map(|p| p.node_port()), Some(30000));
    let mut moved = parse(r#"{"spec":{"clusterIP":"10.0.0.2","clusterIPs":["10.0.0.1"]}}"#);
    link(&mut moved, Some(&old));
    assert_eq!(spec(&moved).cluster_ips()[0].as_str(), Some("10.0.0.2"));
}

#[test]
fn a_balancer_has_addresses_with_a_mode() {
    let with = |ingress: &str| {
        format!(
            r#"{{"metadata":{{"name":"s","namespace":"n"}},"spec":{{"type":"LoadBalancer"}},"status":{{"loadBalancer":{{"ingress":{ingress}}}}}}}"#
        )
    };
    let told = |ingress: &str| SERVICES.refused_update("status", &with(ingress), &with("[]"));
    assert!(
        told(r#"[{"ip":"10.0.0.1"}]"#).is_empty(),
        "the mode has a default"
    );
    assert_eq!(
        told(r#"[{"ip":"10.0.0.1","ipMode":"X"},{"ipMode":"VIP","hostname":"10.0.0.1"}]"#),
        [
            r#"status.loadBalancer.ingress[0].ipMode: Unsupported value: "X": supported values: "Proxy", "VIP""#,
            "status.loadBalancer.ingress[1].ipMode: Forbidden: may not be specified when `ip` is not set",
            r#"status.loadBalancer.ingress[1].hostname: Invalid value: "10.0.0.1": must be a DNS name, not an IP address"#,
        ]
    );
}

#[test]
fn services_are_read_as_todays() {
    let read = |spec: &str| {
        let text = format!(r#"{{"spec":{spec}}}"#);
        let mut service = proto::codec::json::parse(text.as_bytes()).expect("JSON");
        on_read(&mut service);
        service
    };
    let named = read(r#"{"type":"ExternalName","internalTrafficPolicy":"Cluster"}"#);
    assert_eq!(named.at(&[n::SPEC, n::INTERNAL_TRAFFIC_POLICY]), None);
    let old = read(r#"{"type":"ClusterIP","clusterIP":"10.0.0.1"}"#);
    assert_eq!(spec(&old).cluster_ips().len(), 1);
    assert_eq!(spec(&old).ip_family_policy(), Some("SingleStack"));
    let two =
        read(r#"{"type":"ClusterIP","clusterIP":"10.0.0.1","clusterIPs":["10.0.0.1","fd00::1"]}"#);
    let families = spec(&two).ip_families().to_vec();
    assert_eq!(families, [Value::from("IPv4"), Value::from("IPv6")]);
}
