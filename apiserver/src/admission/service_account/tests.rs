use proto::MsgId;
use proto::codec::json::{self, Strictness};

use super::*;

fn decode(text: &str, message: MsgId) -> Value {
    json::decode(text.as_bytes(), message, Strictness::Strict)
        .expect("the test's JSON is valid")
        .value
}

fn pod(text: &str) -> Value {
    decode(text, proto::catalogue::messages::core_v1::POD)
}

fn account(text: &str) -> Value {
    decode(text, proto::catalogue::messages::core_v1::SERVICE_ACCOUNT)
}

#[test]
fn the_token_is_mounted_as_upstream_mounts_it() {
    let mut pod = pod(r#"{"spec":{"containers":[{"name":"a"}],"initContainers":[{"name":"i"}]}}"#);
    mount_token(pod.ensure(&[n::SPEC]), &mut || 0);
    let wanted = self::pod(
        r#"{"spec":{
            "containers":[{"name":"a","volumeMounts":[{"name":"kube-api-access-bbbbb","readOnly":true,"mountPath":"/var/run/secrets/kubernetes.io/serviceaccount"}]}],
            "initContainers":[{"name":"i","volumeMounts":[{"name":"kube-api-access-bbbbb","readOnly":true,"mountPath":"/var/run/secrets/kubernetes.io/serviceaccount"}]}],
            "volumes":[{"name":"kube-api-access-bbbbb","projected":{"defaultMode":420,"sources":[
                {"serviceAccountToken":{"path":"token","expirationSeconds":3607}},
                {"configMap":{"name":"kube-root-ca.crt","items":[{"key":"ca.crt","path":"ca.crt"}]}},
                {"downwardAPI":{"items":[{"path":"namespace","fieldRef":{"apiVersion":"v1","fieldPath":"metadata.namespace"}}]}}
            ]}}]}}"#,
    );
    assert_eq!(pod, wanted);
}

#[test]
fn a_mount_of_its_own_keeps_the_token_out() {
    let text = r#"{"spec":{"containers":[{"name":"a","volumeMounts":[{"name":"x","mountPath":"/var/run/secrets/kubernetes.io/serviceaccount"}]}]}}"#;
    let mut pod = pod(text);
    let before = pod.clone();
    mount_token(pod.ensure(&[n::SPEC]), &mut || 0);
    assert_eq!(pod, before);
}

#[test]
fn a_volume_that_is_there_already_is_used() {
    let mut pod =
        pod(r#"{"spec":{"volumes":[{"name":"kube-api-access-own"}],"containers":[{"name":"a"}]}}"#);
    mount_token(pod.ensure(&[n::SPEC]), &mut || 0);
    let spec = Pod::of(Node::new(&pod)).spec();
    assert_eq!(spec.volumes().len(), 1);
    let mounts = spec
        .containers()
        .first()
        .map(|c| c.volume_mounts())
        .unwrap();
    assert_eq!(
        mounts.first().map(|m| m.name()),
        Some("kube-api-access-own")
    );
}

#[test]
fn a_mirror_pod_refers_to_nothing() {
    let problem =
        |text: &str| mirror_problem(Pod::of(Node::new(&pod(text))).spec()).unwrap_or_default();
    assert_eq!(problem(r#"{"spec":{"containers":[{"name":"a"}]}}"#), "");
    assert!(problem(r#"{"spec":{"serviceAccountName":"x"}}"#).contains("service accounts"));
    assert!(
        problem(r#"{"spec":{"volumes":[{"name":"v","secret":{"secretName":"s"}}]}}"#)
            .contains("secrets")
    );
    assert!(
        problem(r#"{"spec":{"containers":[{"name":"a","envFrom":[{"secretRef":{"name":"s"}}]}]}}"#)
            .contains("secrets")
    );
    let token = r#"{"spec":{"volumes":[{"name":"v","projected":{"sources":[{"serviceAccountToken":{"path":"t"}}]}}]}}"#;
    assert!(problem(token).contains("ServiceAccountToken"));
}

#[test]
fn an_enforced_account_lists_every_secret_of_its_pods() {
    let account = account(
        r#"{"metadata":{"name":"app"},"secrets":[{"name":"known"}],"imagePullSecrets":[{"name":"pull"}]}"#,
    );
    let problem = |text: &str, ephemeral| {
        unlisted_secret(Pod::of(Node::new(&pod(text))).spec(), &account, ephemeral)
            .unwrap_or_default()
    };
    assert_eq!(
        problem(
            r#"{"spec":{"volumes":[{"name":"v","secret":{"secretName":"known"}}],"imagePullSecrets":[{"name":"pull"}]}}"#,
            false
        ),
        ""
    );
    let volume = problem(
        r#"{"spec":{"volumes":[{"name":"v","secret":{"secretName":"other"}}]}}"#,
        false,
    );
    assert!(
        volume.starts_with("volume with secret.secretName=\"other\""),
        "{volume}"
    );
    let env = r#"{"spec":{"initContainers":[{"name":"c","env":[{"name":"E","valueFrom":{"secretKeyRef":{"name":"other","key":"k"}}}]}]}}"#;
    assert!(problem(env, false).starts_with("init container c with envVar E referencing"));
    assert!(
        problem(r#"{"spec":{"imagePullSecrets":[{"name":"other"}]}}"#, false)
            .starts_with("imagePullSecrets[0].name=\"other\"")
    );
    let ephemeral = r#"{"spec":{"ephemeralContainers":[{"name":"c","envFrom":[{"secretRef":{"name":"other"}}]}]}}"#;
    assert!(problem(ephemeral, true).starts_with("ephemeral container c with envFrom"));
}
