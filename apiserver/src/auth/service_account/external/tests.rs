#![allow(clippy::unwrap_used, reason = "a test may panic")]

use serde_json::{Value, json};

use super::*;
use crate::plugin::pb::signer::{Key, Timestamp};
use crate::plugin::testing::{self, Served, SigningKey};

/// A signer, and who asks it.
struct Plugin {
    _dir: tempfile::TempDir,
    signer: testing::Signer,
    served: Option<Served>,
    external: Arc<External>,
}

impl Plugin {
    async fn start(keys: &[SigningKey]) -> Self {
        let (dir, signer) = (tempfile::tempdir().unwrap(), testing::Signer::new(keys));
        let socket = dir.path().join("signer");
        let served = Some(signer.serve(&socket));
        let (tasks, metrics) = (Supervisor::current(), Metrics::new());
        let socket = socket.display().to_string();
        let (external, _) = External::open(&socket, &tasks, &metrics).await.unwrap();
        Self {
            _dir: dir,
            signer,
            served,
            external,
        }
    }

    /// Whether a token of the plugin is verified.
    async fn verifies(&self, token: &str) -> bool {
        let [header, claims, signature] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
        let id = key_of(header).unwrap();
        self.external.learn(&id).await;
        let (text, signature) = (
            format!("{header}.{claims}"),
            URL_SAFE_NO_PAD.decode(signature).unwrap(),
        );
        let keys = self.external.keys();
        let mut named = keys.iter().filter(|key| key.id == id);
        named.any(|key| key.verifies(text.as_bytes(), &signature))
    }
}

#[tokio::test]
async fn a_key_that_is_not_known_is_asked_for() {
    let (old, new) = (SigningKey::new("old"), SigningKey::new("new"));
    let plugin = Plugin::start(std::slice::from_ref(&old)).await;
    let first = plugin.external.sign("claims").await.unwrap();
    assert!(plugin.verifies(&first).await);
    assert_eq!(plugin.signer.fetches(), 1);
    plugin.signer.rotate(&[new, old]);
    let second = plugin.external.sign("claims").await.unwrap();
    assert!(plugin.verifies(&second).await && plugin.verifies(&first).await);
    assert_eq!(plugin.signer.fetches(), 2);
    // Whoever waits for an unknown one waits together.
    let all = (0..10).map(|_| plugin.external.learn("nobody's"));
    futures::future::join_all(all).await;
    assert_eq!(plugin.signer.fetches(), 3);
}

#[tokio::test]
async fn keys_are_fetched_again_when_the_plugin_said_and_stay_if_it_is_away() {
    let (dir, signer) = (
        tempfile::tempdir().unwrap(),
        testing::Signer::new(&[SigningKey::new("old")]),
    );
    signer.refresh_after(1);
    let socket = dir.path().join("signer");
    let _served = signer.serve(&socket);
    let (tasks, metrics) = (Supervisor::current(), Metrics::new());
    let opened = External::open(&socket.display().to_string(), &tasks, &metrics).await;
    let (external, _) = opened.unwrap();
    assert!(external.keys_stay() <= Duration::from_secs(1));
    signer.rotate(&[SigningKey::new("new")]);
    let started = Instant::now();
    while external.keys()[0].id != "new" {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "never fetched again"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // An answer without keys changes nothing.
    signer.rotate(&[]);
    assert_eq!(
        external.fetch().await.unwrap_err().to_string(),
        "found no keys"
    );
    assert_eq!(external.keys()[0].id, "new");
    let (_, text) = metrics.answer("");
    assert!(
        text.contains(
            "apiserver_externaljwt_fetch_keys_request_total{code=\"unknown-non-grpc\"} 1\n"
        ),
        "{text}"
    );
}

#[tokio::test]
async fn nothing_is_signed_by_a_key_that_others_are_not_told_of() {
    let key = SigningKey::new("old").hidden();
    let mut plugin = Plugin::start(&[key]).await;
    assert_eq!(
        plugin.external.sign("claims").await.unwrap_err(),
        "while validating header: key used for signing JWT (kid: old) is excluded from OIDC discovery docs"
    );
    plugin.served.take();
    // It verifies still, without the plugin.
    plugin.external.learn("old").await;
    assert!(plugin.external.keys()[0].hidden);
}

#[test]
fn a_header_says_three_things_and_nothing_else() {
    let of = |header: Value| key_of(&URL_SAFE_NO_PAD.encode(header.to_string()));
    let why = |header: Value| of(header).unwrap_err();
    assert_eq!(
        of(json!({"alg": "RS256", "kid": "k", "typ": "JWT"})).unwrap(),
        "k"
    );
    assert_eq!(why(json!({"alg": "RS256", "kid": "k"})), "bad type");
    assert_eq!(why(json!({"alg": "RS256", "typ": "JWT"})), "key id missing");
    let long = "k".repeat(1025);
    assert_eq!(
        why(json!({"alg": "RS256", "kid": long, "typ": "JWT"})),
        "key id longer than 1 kb"
    );
    for alg in ["none", "HS256", "PS256", ""] {
        let said = why(json!({"alg": alg, "kid": "k", "typ": "JWT"}));
        assert_eq!(said, format!("bad signing algorithm {alg:?}"));
    }
    let more = why(json!({"alg": "RS256", "kid": "k", "typ": "JWT", "jku": "https://else"}));
    assert!(
        more.starts_with("while parsing header JSON: unknown field"),
        "{more}"
    );
    assert!(
        key_of("?")
            .unwrap_err()
            .starts_with("while unwrapping header: ")
    );
}

#[test]
fn keys_that_break_the_rules_are_not_taken() {
    let good = || FetchKeysResponse {
        keys: vec![Key {
            key_id: "k".to_owned(),
            key: SigningKey::new("k").public().into(),
            exclude_from_oidc_discovery: false,
        }],
        data_timestamp: Some(Timestamp {
            seconds: 5,
            nanos: 500_000_000,
        }),
        refresh_hint_seconds: 60,
    };
    let set = Set::of(&good()).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((set.keys.len(), set.data), (1, 5.5));
    let why = |change: &dyn Fn(&mut FetchKeysResponse)| {
        let mut answer = good();
        change(&mut answer);
        Set::of(&answer)
            .err()
            .map(|e| e.to_string())
            .unwrap_or_default()
    };
    assert_eq!(
        why(&|a| a.refresh_hint_seconds = 0),
        "found invalid refresh hint (0s)"
    );
    assert_eq!(
        why(&|a| a.refresh_hint_seconds = -1),
        "found invalid refresh hint (-1s)"
    );
    assert_eq!(why(&|a| a.keys.clear()), "found no keys");
    assert_eq!(why(&|a| a.data_timestamp = None), "invalid data timestamp");
    assert_eq!(
        why(&|a| a.keys[0].key_id.clear()),
        "found invalid public key id \"\""
    );
    assert_eq!(why(&|a| a.keys[0].key.clear()), "found empty public key");
    assert_eq!(
        why(&|a| a.keys[0].key = vec![1, 2].into()),
        "found no keys that are supported"
    );
}
