use super::super::testing::Of;

const REQUESTS: Of = Of("certificates.k8s.io", "v1", "certificatesigningrequests");
const BUNDLES: Of = Of("certificates.k8s.io", "v1", "clustertrustbundles");
const OF_PODS: Of = Of("certificates.k8s.io", "v1", "podcertificaterequests");

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, PublicKeyData};

fn pem() -> String {
    let key = KeyPair::generate().unwrap();
    let request = CertificateParams::new(["a.b".to_owned()]).unwrap();
    request.serialize_request(&key).unwrap().pem().unwrap()
}

fn request(pem: &str, signer: &str, usages: &str) -> String {
    let pem = STANDARD.encode(pem);
    format!(
        r#"{{"metadata":{{"name":"x"}},"spec":{{"request":"{pem}","signerName":"{signer}","usages":{usages}}}}}"#
    )
}

fn authority(is_ca: bool) -> String {
    let mut params = CertificateParams::new([]).unwrap();
    if is_ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    let key = KeyPair::generate().unwrap();
    params.self_signed(&key).unwrap().pem()
}

#[test]
fn a_request_is_signed_with_its_own_key() {
    let sound = pem();
    assert!(
        REQUESTS
            .refused(&request(&sound, "a.b/c", r#"["client auth"]"#))
            .is_empty()
    );
    assert_eq!(
        REQUESTS.refused(&request("", "a.b/c", r#"["client auth"]"#)),
        [r#"spec.request: Invalid value: "": PEM block type must be CERTIFICATE REQUEST"#]
    );
    let told = REQUESTS.refused(&request(&sound, "a/B", r#"["x","x"]"#));
    let fields: Vec<&str> = told.iter().map(|t| t.split(": ").next().unwrap()).collect();
    assert_eq!(
        fields,
        [
            "spec.usages[0]",
            "spec.usages[1]",
            "spec.usages[1]",
            "spec.signerName",
            "spec.signerName"
        ]
    );
    assert_eq!(
        told[3],
        r#"spec.signerName: Invalid value: "a": should be a domain with at least two segments separated by dots"#
    );
    assert!(told[4].starts_with(r#"spec.signerName: Invalid value: "B": validating label "B": "#));
}

#[test]
fn who_may_sign_may_not_approve() {
    let old = request(&pem(), "a.b/c", r#"["client auth"]"#);
    let with = |status: &str| old.replacen(r#""spec""#, &format!(r#""status":{status},"spec""#), 1);
    let approved = with(r#"{"conditions":[{"type":"Approved","status":"True"}]}"#);
    assert!(
        REQUESTS
            .refused_update("approval", &approved, &old)
            .is_empty()
    );
    assert_eq!(
        REQUESTS.refused_update("status", &approved, &old),
        [r#"status.conditions: Forbidden: updates may not add a condition of type "Approved""#]
    );
    let both = with(
        r#"{"conditions":[{"type":"Approved","status":"True"},{"type":"Denied","status":"False"}]}"#,
    );
    let told = REQUESTS.refused_update("approval", &both, &old);
    assert_eq!(told.len(), 2);
    assert_eq!(
        told[0],
        r#"status.conditions[1].status: Unsupported value: "False": supported values: "True""#
    );
    assert!(
        told[1].starts_with(r#"status.conditions: Invalid value: "{conditions["#),
        "{told:?}"
    );
}

#[test]
fn bundles_hold_authorities() {
    let bundle = |name: &str, signer: &str, text: &str| {
        let text = text.replace('\n', "\\n");
        format!(
            r#"{{"metadata":{{"name":"{name}"}},"spec":{{"signerName":"{signer}","trustBundle":"{text}"}}}}"#
        )
    };
    let ca = authority(true);
    assert!(BUNDLES.refused(&bundle("x", "", &ca)).is_empty());
    assert!(BUNDLES.refused(&bundle("a.b:c:x", "a.b/c", &ca)).is_empty());
    for (name, text, told) in [
        (
            "a:b",
            ca.clone(),
            r#"metadata.name: Invalid value: "a:b": ClusterTrustBundle without signer name must not have ":" in its name"#,
        ),
        (
            "x",
            String::new(),
            r#"spec.trustBundle: Invalid value: "<value omitted>": at least one trust anchor must be provided"#,
        ),
        (
            "x",
            format!("{ca}{ca}"),
            r#"spec.trustBundle: Invalid value: "<value omitted>": duplicate trust anchor (indices [0 1])"#,
        ),
        (
            "x",
            authority(false),
            r#"spec.trustBundle: Invalid value: "<value omitted>": entry 0 does not have the CA bit set"#,
        ),
    ] {
        assert_eq!(BUNDLES.refused(&bundle(name, "", &text)), [told]);
    }
}

fn of_pod(seconds: i64, rest: &str) -> String {
    format!(
        r#"{{"metadata":{{"name":"x","namespace":"n"}},"spec":{{"signerName":"kubernetes.io/s","podName":"p","podUID":"u","serviceAccountName":"s","serviceAccountUID":"u","nodeName":"n","nodeUID":"u","maxExpirationSeconds":{seconds},{rest}}}}}"#
    )
}

#[test]
fn a_pod_proves_that_it_has_the_key() {
    let key = KeyPair::generate().unwrap();
    let stub = CertificateParams::new([])
        .unwrap()
        .serialize_request(&key)
        .unwrap();
    let stub = format!(r#""stubPKCS10Request":"{}""#, STANDARD.encode(stub.der()));
    assert!(OF_PODS.refused(&of_pod(3600, &stub)).is_empty());
    assert_eq!(
        OF_PODS.refused(&of_pod(100_000, r#""unverifiedUserAnnotations":{"a":"b"}"#)),
        [
            r#"spec.unverifiedUserAnnotations: Invalid value: "a": must be a domain-prefixed key (such as "acme.io/foo")"#,
            "spec.maxExpirationSeconds: Invalid value: 100000: must be in the range [3600, 86400]",
            "spec: Invalid value: exactly one of (stubPKCS10Request) or (pkixPublicKey, proofOfPossession) must be set",
        ]
    );
    let (public, proof) = (
        STANDARD.encode(key.subject_public_key_info()),
        STANDARD.encode("x"),
    );
    let earlier = Of(OF_PODS.0, "v1beta1", OF_PODS.2);
    assert_eq!(
        earlier.refused(&of_pod(
            3600,
            &format!(r#""pkixPublicKey":"{public}","proofOfPossession":"{proof}""#)
        )),
        ["spec.proofOfPossession: Invalid value: could not verify proof-of-possession signature"]
    );
}

#[test]
fn a_request_of_a_pod_ends_once() {
    let key = KeyPair::generate().unwrap();
    let stub = CertificateParams::new([])
        .unwrap()
        .serialize_request(&key)
        .unwrap();
    let old = of_pod(
        3600,
        &format!(r#""stubPKCS10Request":"{}""#, STANDARD.encode(stub.der())),
    );
    let with = |status: &str| old.replacen(r#""spec""#, &format!(r#""status":{status},"spec""#), 1);
    let condition = |kind: &str| {
        format!(
            r#"{{"type":"{kind}","status":"True","reason":"R","message":"m","lastTransitionTime":"2026-01-01T00:00:00Z"}}"#
        )
    };
    let denied = with(&format!(r#"{{"conditions":[{}]}}"#, condition("Denied")));
    assert!(OF_PODS.refused_update("status", &denied, &old).is_empty());
    assert_eq!(
        OF_PODS.refused_update("status", &old, &denied),
        [
            "status: Invalid value: immutable after PodCertificateRequest is issued, denied, or failed"
        ]
    );
    let both = with(&format!(
        r#"{{"conditions":[{},{}]}}"#,
        condition("Denied"),
        condition("Failed")
    ));
    assert_eq!(
        OF_PODS.refused_update("status", &both, &old),
        [
            r#"status.conditions.[1].type: Invalid value: "Failed": There may be at most one condition with type "Issued", "Denied", or "Failed""#
        ]
    );
    let issued = with(&format!(
        r#"{{"conditions":[{}],"certificateChain":"x"}}"#,
        condition("Issued")
    ));
    assert_eq!(
        OF_PODS.refused_update("status", &issued, &old),
        [
            r#"status.certificateChain: Invalid value: "x": issued certificate chain must contain at least one certificate"#
        ]
    );
    assert_eq!(
        OF_PODS.refused_update("status", &with(r#"{"certificateChain":"x"}"#), &old),
        [
            r#"status: Invalid value: status is immutable unless transitioning to "Issued", "Denied", or "Failed""#
        ]
    );
}
