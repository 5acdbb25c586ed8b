//! What kube-apiserver, its store and clients of it read beside requests.

use component::client::{Kubeconfig, percent_decode};
use kubelet::config::KubeletConfiguration;
use serde_json::json;

use crate::Target;
use crate::input::SEPARATOR;

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// Configuration files and kubeconfigs.
pub(crate) const CONFIGURATION: Target = Target {
    name: "configuration",
    run: |input| {
        let bytes = input.rest();
        let kinds = apiserver::parsers::configuration(bytes);
        // A file is of one kind, those apart that have none.
        let kinds: Vec<_> = kinds
            .into_iter()
            .filter(|k| !matches!(*k, "abac" | "tokens"))
            .collect();
        assert!(kinds.len() <= 1, "{kinds:?}");
        if let Ok(config) = Kubeconfig::read(bytes) {
            let _ = config.namespace();
            let _ = config.client(None, "/etc/kubernetes".as_ref());
        }
        // A kubelet's file is put together of several before it is one.
        if let Ok((json, _)) = proto::codec::yaml::to_json(bytes)
            && let Ok(tree) = serde_json::from_slice(&json)
        {
            let _ = proto::typed::from_json_value::<KubeletConfiguration>(tree);
        }
        let _ = component::config::read::<kube_proxy::config::KubeProxyConfiguration>(bytes);
    },
    seeds: || {
        CONFIGURATIONS
            .iter()
            .map(|text| text.as_bytes().to_vec())
            .collect()
    },
};

const CONFIGURATIONS: [&str; 12] = [
    "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n- level: Metadata\n  users: [a]\n  verbs: [get]\n  resources: [{group: '', resources: [pods/log], resourceNames: [x]}]\n- level: None\n  nonResourceURLs: [/healthz*]\n",
    "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n- name: PodSecurity\n  configuration: {apiVersion: pod-security.admission.config.k8s.io/v1, kind: PodSecurityConfiguration}\n- {name: ImagePolicyWebhook, path: a.yaml}\n",
    "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets, '*.apps', '*.*']\n  providers:\n  - aescbc: {keys: [{name: a, secret: AAAAAAAAAAAAAAAAAAAAAA==}]}\n  - kms: {apiVersion: v2, name: k, endpoint: 'unix:///a.sock', timeout: 3s}\n  - identity: {}\n",
    "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers:\n- {type: Node, name: node}\n- type: Webhook\n  name: hook\n  webhook: {timeout: 3s, failurePolicy: Deny, subjectAccessReviewVersion: v1, matchConditionSubjectAccessReviewVersion: v1, authorizedTTL: 5m, unauthorizedTTL: 30s, connectionInfo: {type: InClusterConfig}, matchConditions: [{expression: 'true'}]}\n",
    "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\nanonymous: {enabled: true, conditions: [{path: /healthz}]}\njwt:\n- issuer: {url: 'https://a.example', audiences: [a, b], audienceMatchPolicy: MatchAny}\n  claimMappings: {username: {claim: sub, prefix: ''}, groups: {expression: claims.g}, uid: {claim: u}, extra: [{key: a.example/x, valueExpression: claims.x}]}\n  claimValidationRules: [{claim: a, requiredValue: b}]\n  userValidationRules: [{expression: 'true', message: m}]\n",
    "{\"apiVersion\":\"abac.authorization.kubernetes.io/v1beta1\",\"kind\":\"Policy\",\"spec\":{\"user\":\"a\",\"namespace\":\"*\",\"resource\":\"pods\",\"readonly\":true}}\n{\"user\":\"b\",\"nonResourcePath\":\"/x\"}",
    "token,name,uid,\"a,b\"\n\"quo\"\"ted\",n,u\r\n\n",
    "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: k, user: u, namespace: n}}]\nclusters: [{name: k, cluster: {server: 'https://a:6443', certificate-authority-data: YQ==, tls-server-name: x}}]\nusers: [{name: u, user: {token: t, as: b, as-groups: [g], as-user-extra: {k: [v]}}}]\n",
    "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\nclusters: [{name: k, cluster: {server: 'http://a', insecure-skip-tls-verify: true}}]\nusers: [{name: u, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: x, args: [a], env: [{name: A, value: b}], interactiveMode: Never, provideClusterInfo: true}}}]\n",
    "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nevictionHard: {memory.available: 5%}\nclusterDNS: [10.0.0.10]\nsyncFrequency: 1m0s\nfeatureGates: {A: true}\nsystemReserved: {cpu: 100m}\n",
    "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: nftables\nclusterCIDR: 10.0.0.0/8\nnodePortAddresses: [primary]\nconntrack: {maxPerCore: 1, tcpEstablishedTimeout: 1h}\n",
    "imagePolicy: {kubeConfigFile: /a, allowTTL: 50, defaultAllow: true}\npodNodeSelectorPluginConfig: {clusterDefaultNodeSelector: a=b}\n",
];

/// Tokens, keys, certificates, and what stands sealed in etcd.
pub(crate) const CREDENTIALS: Target = Target {
    name: "credentials",
    run: |mut input| {
        let which = input.byte();
        let bytes = input.rest();
        match which % 5 {
            0 => tokens(&text(bytes)),
            1 => {
                if let Some(claims) = apiserver::auth::jwt::claims::Claims::read(bytes) {
                    let audiences = ["a".to_owned()];
                    let _ = claims.check("https://a.example", &audiences, 1_767_225_600);
                }
                if let Ok(keys) = apiserver::auth::jwt::keys::read_set(bytes) {
                    let all = apiserver::auth::jwt::jws::Algorithm::all();
                    let token = "eyJhbGciOiJFUzI1NiJ9.e30.AAAA";
                    let jws = apiserver::auth::jwt::jws::Jws::parse(token, &all).expect("a token");
                    assert!(
                        !keys
                            .iter()
                            .any(|k| k.may_have_signed(&jws) && k.verifies(&jws))
                    );
                }
            }
            2 => {
                if let Some(user) = component::parsers::user_of(bytes) {
                    assert!(
                        !user.name.is_empty(),
                        "a certificate that names nobody is nobody's"
                    );
                }
                assert!(!store::parsers::is_believed(bytes), "nobody vouches for it");
                let _ = apiserver::parsers::pem_blocks(&text(bytes));
            }
            3 => {
                for [_, again] in apiserver::parsers::ciphers(bytes) {
                    assert_eq!(again.as_deref(), Some(bytes), "what was sealed is opened");
                }
            }
            _ => {
                if let Some(data) = apiserver::parsers::kms_envelope(bytes) {
                    assert!(!data.is_empty() && data.len() <= bytes.len());
                }
            }
        }
    },
    seeds: || {
        let jwks = json!({"keys": [
            {"kty": "EC", "crv": "P-256", "kid": "a", "alg": "ES256", "use": "sig", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},
            {"kty": "RSA", "n": "AQAB", "e": "AQAB"}]});
        let claims = json!({"iss": "https://a.example", "aud": ["a"], "exp": 1_900_000_000_i64, "nbf": 1.5e9, "sub": "x", "groups": "g"});
        let mut seeds = vec![
            b"\0eyJhbGciOiJSUzI1NiIsImtpZCI6ImEifQ.eyJpc3MiOiJodHRwczovL2EuZXhhbXBsZSJ9.c2ln".to_vec(),
            [b"\x01", jwks.to_string().as_bytes()].concat(),
            [b"\x01", claims.to_string().as_bytes()].concat(),
            b"\x02-----BEGIN CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----\n-----BEGIN X-----\n".to_vec(),
            [&[3][..], &[7; 64]].concat(),
            b"\x04\x0a\x03abc\x12\x01k\x1a\x04dek.\x22\x0a\x0a\x05a.com\x12\x01v\x28\x01".to_vec(),
        ];
        seeds.push([&[2], CERTIFICATE].concat());
        seeds
    },
};

/// A certificate's skeleton: version, serial number, name and a subject with `O` and `CN`, and a key.
const CERTIFICATE: &[u8] = &[
    0x30, 0x81, 0xa4, 0x30, 0x81, 0x8d, 0xa0, 3, 2, 1, 2, 2, 1, 1, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70,
    0x30, 0x0c, 0x31, 0x0a, 0x30, 8, 6, 3, 0x55, 4, 3, 0x0c, 1, b'c', 0x30, 0x1e, 0x17, 0x0d, b'2',
    b'6', b'0', b'1', b'0', b'1', b'0', b'0', b'0', b'0', b'0', b'0', b'Z', 0x17, 0x0d, b'3', b'6',
    b'0', b'1', b'0', b'1', b'0', b'0', b'0', b'0', b'0', b'0', b'Z', 0x30, 0x18, 0x31, 0x0a, 0x30,
    8, 6, 3, 0x55, 4, 0x0a, 0x0c, 1, b'g', 0x31, 0x0a, 0x30, 8, 6, 3, 0x55, 4, 3, 0x0c, 1, b'u',
    0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
    13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 0x30, 5, 6, 3,
    0x2b, 0x65, 0x70, 3, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8,
];

fn tokens(token: &str) {
    use apiserver::auth::jwt::{claims, jws};
    let all = jws::Algorithm::all();
    let parsed = jws::Jws::parse(token, &all);
    let unverified = jws::unverified_payload(token);
    if let Ok(parsed) = parsed {
        let payload = parsed.payload().ok();
        assert_eq!(payload, unverified, "both read the same payload");
        assert!(token.starts_with(parsed.signed));
        let none = jws::Jws::parse(token, &[]);
        assert!(none.is_err(), "no algorithm is allowed");
    }
    let _ = claims::unverified_issuer(token);
    if let Some((revision, start, again)) = store::parsers::continue_token(token) {
        assert!(revision.is_none_or(|r| r > 0));
        assert!(!start.starts_with('/') && !start.split('/').any(|s| matches!(s, "" | "." | "..")));
        assert_eq!(
            store::parsers::continue_token(&again),
            Some((revision, start, again.clone()))
        );
    }
}

/// What etcd, API servers and proxied backends send in pieces.
pub(crate) const PIECES: Target = Target {
    name: "pieces",
    run: |mut input| {
        let which = input.byte();
        let whole = input.rest();
        // Where it is cut does not matter.
        let cut: Vec<&[u8]> = whole.split_inclusive(|b| b.is_multiple_of(7)).collect();
        match which % 5 {
            0 | 1 => {
                let protobuf = which % 5 == 1;
                let at_once = component::parsers::watch_events(protobuf, &[whole]);
                assert_eq!(component::parsers::watch_events(protobuf, &cut), at_once);
            }
            2 => {
                let at_once = apiserver::parsers::proxied_page(&[whole]);
                assert_eq!(
                    text(&apiserver::parsers::proxied_page(&cut)),
                    text(&at_once)
                );
                if !whole.contains(&b'<') {
                    assert_eq!(at_once, whole, "text is left alone");
                }
            }
            3 => {
                let parts: Vec<&[u8]> = whole.split(|b| *b == SEPARATOR).collect();
                let applied = i64::from(which);
                if let Some((last, _)) = store::parsers::watch_responses(&parts, applied) {
                    assert!(last >= applied, "a watch does not go back");
                }
                let _ = store::parsers::range_chunks(&parts);
            }
            _ => {
                let decoded = percent_decode(&text(whole));
                assert!(decoded.len() <= 3 * whole.len());
                let _ = store::etcd::Version::parse(&text(whole));
            }
        }
    },
    seeds: || {
        vec![
            b"\0{\"type\":\"ADDED\",\"object\":{\"a\":1}}\n\n{\"type\":\"BOOKMARK\",\"object\":{}}\n".to_vec(),
            b"\x01\0\0\0\x0c\x0a\x05ADDED\x12\x03\x0a\x01x\0\0\0\0".to_vec(),
            b"\x02<!doctype html><html><head><base href=/x><script>if (a</b) '/'</script><style>a{}</style></head><body background='/b'><a href=\"/c?d#e\">/f</a><!-- <a href=/g> --><img src=//10.0.0.1:80/h srcset='/i 1x'><form action=http://10.0.0.1:80/j>".to_vec(),
            b"\x03\x0a\x06\x08\x01\x10\x02\x18\x05\x5a\x0c\x12\x0a\x0a\x02/a\x18\x05\x2a\x02bc\xff\x0a\x02\x18\x09".to_vec(),
            b"\x04/a%2Fb%zz+c%".to_vec(),
        ]
    },
};
