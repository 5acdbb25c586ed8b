use proto::catalogue::messages::core_v1;
use proto::codec::json::{self, Strictness};

use super::*;

fn pod(text: &str) -> Value {
    json::decode(text.as_bytes(), core_v1::POD, Strictness::Strict)
        .expect("the test's JSON is valid")
        .value
}

fn says(level: Level, minor: Option<u32>, spec: &str) -> String {
    let pod = pod(&format!(r#"{{"spec":{spec}}}"#));
    detailed(&violations(
        Standard { level, minor },
        Subject::of(&pod).unwrap(),
    ))
}

fn baseline(spec: &str) -> String {
    says(Level::Baseline, None, spec)
}

fn restricted(spec: &str) -> String {
    says(Level::Restricted, None, spec)
}

/// A container that restricted namespaces take.
const GOOD: &str = r#"{"name":"a","securityContext":{"allowPrivilegeEscalation":false,"runAsNonRoot":true,"capabilities":{"drop":["ALL"],"add":["NET_BIND_SERVICE"]},"seccompProfile":{"type":"RuntimeDefault"}}}"#;

#[test]
fn a_careful_pod_passes_everything() {
    assert_eq!(
        restricted(&format!(
            r#"{{"containers":[{GOOD}],"volumes":[{{"name":"v","emptyDir":{{}}}}]}}"#
        )),
        ""
    );
    assert_eq!(baseline(r#"{"containers":[{"name":"a"}]}"#), "");
}

#[test]
fn a_careless_pod_is_told_everything_at_once() {
    let wanted = "allowPrivilegeEscalation != false (container \"a\" must set securityContext.allowPrivilegeEscalation=false), \
         unrestricted capabilities (container \"a\" must set securityContext.capabilities.drop=[\"ALL\"]), \
         runAsNonRoot != true (pod or container \"a\" must set securityContext.runAsNonRoot=true), \
         seccompProfile (pod or container \"a\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")";
    assert_eq!(restricted(r#"{"containers":[{"name":"a"}]}"#), wanted);
}

#[test]
fn baseline_keeps_pods_from_the_host() {
    assert_eq!(
        baseline(r#"{"hostNetwork":true,"hostPID":true}"#),
        "host namespaces (hostNetwork=true, hostPID=true)"
    );
    assert_eq!(
        baseline(r#"{"volumes":[{"name":"h","hostPath":{"path":"/"}}]}"#),
        "hostPath volumes (volume \"h\")"
    );
    let ports = r#"{"containers":[{"name":"a","ports":[{"containerPort":1,"hostPort":80}]},{"name":"b","ports":[{"containerPort":1,"hostPort":443}]}]}"#;
    assert_eq!(
        baseline(ports),
        "hostPort (containers \"a\", \"b\" use hostPorts 443, 80)"
    );
    assert_eq!(
        baseline(r#"{"initContainers":[{"name":"a","securityContext":{"privileged":true}}]}"#),
        "privileged (container \"a\" must not set securityContext.privileged=true)"
    );
    assert_eq!(
        baseline(
            r#"{"ephemeralContainers":[{"name":"a","securityContext":{"capabilities":{"add":["SYS_ADMIN","KILL"]}}}]}"#
        ),
        "non-default capabilities (container \"a\" must not include \"SYS_ADMIN\" in securityContext.capabilities.add)"
    );
    assert_eq!(
        baseline(r#"{"securityContext":{"seLinuxOptions":{"type":"spc_t","user":"u"}}}"#),
        "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set)"
    );
    assert_eq!(
        baseline(r#"{"securityContext":{"sysctls":[{"name":"kernel.x","value":"1"}]}}"#),
        "forbidden sysctls (kernel.x)"
    );
    assert_eq!(
        baseline(r#"{"securityContext":{"appArmorProfile":{"type":"Unconfined"}}}"#),
        "forbidden AppArmor profile (pod must not set AppArmor profile type to \"Unconfined\")"
    );
    assert_eq!(
        baseline(r#"{"securityContext":{"windowsOptions":{"hostProcess":true}}}"#),
        "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)"
    );
    assert_eq!(
        baseline(
            r#"{"containers":[{"name":"a","livenessProbe":{"tcpSocket":{"port":1,"host":"10.0.0.1"}}}]}"#
        ),
        "probe or lifecycle host (container \"a\" uses probe or lifecycle host \"10.0.0.1\")"
    );
}

#[test]
fn a_restricted_rule_stands_for_the_one_that_it_contains() {
    let said = restricted(&format!(
        r#"{{"containers":[{GOOD}],"volumes":[{{"name":"h","hostPath":{{"path":"/"}}}}]}}"#
    ));
    assert_eq!(
        said,
        "restricted volume types (volume \"h\" uses restricted volume type \"hostPath\")"
    );
}

#[test]
fn a_version_pins_the_rules() {
    let keepalive =
        r#"{"securityContext":{"sysctls":[{"name":"net.ipv4.tcp_keepalive_time","value":"1"}]}}"#;
    assert_eq!(
        says(Level::Baseline, Some(28), keepalive),
        "forbidden sysctls (net.ipv4.tcp_keepalive_time)"
    );
    assert_eq!(says(Level::Baseline, Some(29), keepalive), "");
    assert_eq!(
        says(Level::Baseline, Some(99), keepalive),
        "",
        "what is to come is today's"
    );
    let windows = r#"{"os":{"name":"windows"},"securityContext":{"runAsNonRoot":true},"containers":[{"name":"a"}]}"#;
    assert_eq!(says(Level::Restricted, Some(25), windows), "");
    assert_ne!(says(Level::Restricted, Some(24), windows), "");
    let own_users = r#"{"hostUsers":false,"securityContext":{"runAsUser":0}}"#;
    assert_eq!(
        says(Level::Restricted, Some(34), own_users),
        "runAsUser=0 (pod must not set runAsUser=0)"
    );
    assert_eq!(says(Level::Restricted, Some(35), own_users), "");
}

fn labelled(labels: &[(&str, &str)]) -> (String, String, Vec<String>) {
    let mut namespace = Value::object();
    for (key, value) in labels {
        meta::set_label(
            &mut namespace,
            &format!("pod-security.kubernetes.io/{key}"),
            value,
        );
    }
    let (policy, errors) = policy(&namespace);
    (
        policy.enforce.to_string(),
        policy.warn.to_string(),
        errors.iter().map(ToString::to_string).collect(),
    )
}

#[test]
fn labels_name_the_standard() {
    let (privileged, none) = ("privileged:latest".to_owned(), Vec::new());
    assert_eq!(
        labelled(&[]),
        (privileged.clone(), privileged.clone(), none.clone())
    );
    let enforced = labelled(&[("enforce", "baseline"), ("enforce-version", "v1.30")]);
    assert_eq!(
        enforced,
        (
            "baseline:v1.30".into(),
            "baseline:v1.30".into(),
            none.clone()
        )
    );
    let warned = labelled(&[("enforce", "restricted"), ("warn", "privileged")]);
    assert_eq!(
        warned,
        ("restricted:latest".into(), privileged.clone(), none)
    );
    let (enforce, warn, errors) = labelled(&[
        ("enforce", "loose"),
        ("audit-version", "1.30"),
        ("warn", "x"),
    ]);
    assert_eq!((enforce.as_str(), warn), ("restricted:latest", privileged));
    assert_eq!(errors.len(), 3);
    let first = r#"metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "loose": must be one of privileged, baseline, restricted"#;
    assert_eq!(errors[0], first);
}

#[test]
fn versions_are_read_strictly() {
    assert_eq!(version("latest"), Ok(None));
    assert_eq!(version("v1.0"), Ok(Some(0)));
    for wrong in ["", "1.30", "v1.", "v1.030", "v2.1", "v1.x", "v1.+3"] {
        assert!(version(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn pods_that_are_there_are_counted_by_what_they_do() {
    let of = |name: &str| {
        pod(&format!(
            r#"{{"metadata":{{"name":"{name}"}},"spec":{{"hostNetwork":true}}}}"#
        ))
    };
    let warnings = existing(
        "ns",
        Standard {
            level: Level::Baseline,
            minor: None,
        },
        vec![of("b"), of("a"), of("c")],
    );
    let head = r#"existing pods in namespace "ns" violate the new PodSecurity enforce level "baseline:latest""#;
    assert_eq!(warnings, [head, "a (and 2 other pods): host namespaces"]);
}

#[test]
fn only_updates_that_bring_images_are_judged() {
    let of = |image: &str, debug: &str| {
        pod(&format!(
            r#"{{"spec":{{"containers":[{{"name":"a","image":"{image}"}}],"ephemeralContainers":[{debug}]}}}}"#
        ))
    };
    assert!(!brings_images(&of("x", ""), &of("x", "")));
    assert!(brings_images(&of("y", ""), &of("x", "")));
    assert!(brings_images(
        &of("x", r#"{"name":"d","image":"x"}"#),
        &of("x", "")
    ));
    assert!(!brings_images(
        &of("x", ""),
        &of("x", r#"{"name":"d","image":"x"}"#)
    ));
}
