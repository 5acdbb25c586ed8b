use proto::catalogue::messages::core_v1;
use proto::codec::json::{self, Strictness};

use super::policy::Level;
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

#[test]
fn each_mode_has_its_own_standard() {
    let of = |level| Standard { level, minor: None };
    let policy = Policy {
        enforce: of(Level::Privileged),
        audit: of(Level::Baseline),
        warn: of(Level::Restricted),
    };
    let pod = pod(r#"{"spec":{"hostNetwork":true,"containers":[{"name":"a"}]}}"#);
    let judged = judge(policy, Subject::of(&pod).unwrap(), true);
    assert_eq!(judged.enforce, Some(None));
    let host = "host namespaces (hostNetwork=true)";
    assert_eq!(judged.audit.as_deref(), Some(host));
    assert!(judged.warn.unwrap().starts_with(&format!("{host}, ")));
    let unenforced = judge(policy, Subject::of(&pod).unwrap(), false);
    assert_eq!(unenforced.enforce, None, "a template is refused by nobody");
}

#[test]
fn a_version_can_make_a_standard_stricter() {
    let of = |level, minor| Standard { level, minor };
    let (low, high) = (Level::Baseline, Level::Restricted);
    for (now, was, expected) in [
        (of(high, None), of(low, None), true),
        (of(low, None), of(high, None), false),
        (of(low, None), of(low, Some(20)), true),
        (of(low, None), of(low, None), false),
        (of(Level::Privileged, None), of(low, Some(20)), false),
    ] {
        assert_eq!(is_stricter(now, was), expected, "{now} {was}");
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
