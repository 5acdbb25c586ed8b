#![allow(clippy::unwrap_used, reason = "a test may panic")]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use component::metrics::Metrics;
use futures::future::join_all;
use prost::Message;

use super::*;
use crate::plugin::pb::envelope::EncryptedObject;
use crate::plugin::testing::{self, Served};

const KEY: &str = "/registry/secrets/default/s";

/// A plugin, and where it is.
struct Plugin {
    dir: tempfile::TempDir,
    kms: testing::Kms,
    served: Option<Served>,
}

impl Plugin {
    fn start(key_id: &str) -> Self {
        let (dir, kms) = (tempfile::tempdir().unwrap(), testing::Kms::new(key_id));
        let served = Some(kms.serve(&dir.path().join("kms")));
        Self { dir, kms, served }
    }

    /// A server that asks it.
    fn provider(&self) -> Arc<Provider> {
        let settings = Settings {
            name: "p".to_owned(),
            socket: self.dir.path().join("kms").display().to_string(),
            timeout: Duration::from_millis(500),
            cache: None,
        };
        Provider::new(settings, &KmsMetrics::register(&Metrics::new(), "server"))
    }

    /// The same, after it asked for the first time.
    async fn asked(&self) -> Arc<Provider> {
        let provider = self.provider();
        ask(&provider).await.unwrap();
        provider
    }
}

/// Asks whatever was said before.
async fn ask(provider: &Provider) -> Result<(), String> {
    provider.probe(&mut Probed::default()).await
}

fn seal(provider: &Arc<Provider>, value: &[u8]) -> Result<Bytes, String> {
    let mut out = Vec::new();
    let sealed = Kms(Arc::clone(provider)).seal(KEY, value, &mut out);
    sealed.map(|()| out.into()).map_err(|e| e.reason)
}

/// The value and whether it is stale; or the reason.
async fn open(provider: &Arc<Provider>, sealed: &Bytes) -> Result<(Bytes, bool), String> {
    let opened = match Kms(Arc::clone(provider)).open(KEY, sealed) {
        Ok(Opening::Open(opened)) => Ok(opened),
        Ok(Opening::Locked(locked)) => locked.open(KEY).await.map_err(|refused| refused.error),
        Err(refusal) => Err(refusal),
    };
    opened.map(|o| (o.value, o.stale)).map_err(|e| e.reason)
}

fn value(text: &'static str, stale: bool) -> Result<(Bytes, bool), String> {
    Ok((Bytes::from_static(text.as_bytes()), stale))
}

#[tokio::test]
async fn one_seed_seals_many_values_and_nobody_is_asked_for_one() {
    let plugin = Plugin::start("key-1");
    let provider = plugin.asked().await;
    let all: Vec<Bytes> = (0..20).map(|_| seal(&provider, b"1").unwrap()).collect();
    for sealed in &all {
        assert_eq!(open(&provider, sealed).await, value("1", false));
    }
    ask(&provider).await.unwrap();
    assert_eq!(
        (plugin.kms.calls("Encrypt"), plugin.kms.calls("Decrypt")),
        (1, 0)
    );
}

#[tokio::test]
async fn a_seed_of_another_server_is_asked_for_once() {
    let plugin = Plugin::start("key-1");
    let (one, other) = (plugin.asked().await, plugin.asked().await);
    let sealed = seal(&one, b"1").unwrap();
    let opened = join_all((0..10).map(|_| open(&other, &sealed))).await;
    assert!(opened.iter().all(|o| *o == value("1", false)), "{opened:?}");
    assert_eq!(open(&other, &sealed).await, value("1", false));
    assert_eq!(plugin.kms.calls("Decrypt"), 1);
}

#[tokio::test]
async fn another_key_means_another_seed_and_makes_the_old_values_stale() {
    let plugin = Plugin::start("key-1");
    let provider = plugin.asked().await;
    let old = seal(&provider, b"old").unwrap();
    plugin.kms.rotate("key-2");
    assert_eq!(
        open(&provider, &old).await,
        value("old", false),
        "it is not known yet"
    );
    ask(&provider).await.unwrap();
    assert_eq!(open(&provider, &old).await, value("old", true));
    let new = seal(&provider, b"new").unwrap();
    assert_eq!(open(&provider, &new).await, value("new", false));
    assert_eq!(plugin.kms.calls("Decrypt"), 0, "its own seeds are known");
    // A server that starts now asks for both keys' seeds.
    let later = plugin.asked().await;
    assert_eq!(open(&later, &old).await, value("old", true));
    assert_eq!(open(&later, &new).await, value("new", false));
    assert_eq!(plugin.kms.calls("Decrypt"), 2);
}

#[tokio::test]
async fn a_key_that_the_plugin_does_not_seal_with_is_not_believed() {
    let plugin = Plugin::start("key-1");
    let provider = plugin.asked().await;
    let old = seal(&provider, b"1").unwrap();
    plugin.kms.pretend(Some("key-2"));
    let said = ask(&provider).await.unwrap_err();
    assert!(
        said.starts_with("kmsv2 Provider p is not healthy, error: failed to rotate DEK"),
        "{said}"
    );
    assert!(!said.contains("key-"), "keys are named by hashes: {said}");
    // The old one goes on, for a while.
    assert!(seal(&provider, b"1").is_ok());
    assert_eq!(open(&provider, &old).await, value("1", false));
    plugin.kms.pretend(None);
    ask(&provider).await.unwrap();
    assert_eq!(
        plugin.kms.calls("Encrypt"),
        2,
        "the first seed is still good"
    );
}

#[tokio::test]
async fn what_is_said_of_health_is_told() {
    let plugin = Plugin::start("key-1");
    let provider = plugin.provider();
    plugin.kms.say("out of paper");
    let said = ask(&provider).await.unwrap_err();
    assert_eq!(
        said,
        "kmsv2 Provider p is not healthy, error: got unexpected healthz status: out of paper"
    );
    plugin.kms.pretend(Some(""));
    plugin.kms.say("ok");
    let said = ask(&provider).await.unwrap_err();
    assert_eq!(
        said,
        "kmsv2 Provider p is not healthy, error: got invalid KMSv2 KeyID hash \"\": keyID is empty"
    );
}

#[tokio::test]
async fn without_the_plugin_what_is_known_is_opened_and_for_three_minutes_sealed() {
    let mut plugin = Plugin::start("key-1");
    let (provider, other) = (plugin.asked().await, plugin.asked().await);
    let (own, foreign) = (seal(&provider, b"1").unwrap(), seal(&other, b"2").unwrap());
    plugin.served.take();
    let said = ask(&provider).await.unwrap_err();
    assert!(
        said.starts_with(
            "failed to perform status section of the healthz check for KMS Provider p, error: rpc error: code = "
        ),
        "{said}"
    );
    assert_eq!(open(&provider, &own).await, value("1", false));
    assert!(seal(&provider, b"1").is_ok());
    let said = open(&provider, &foreign).await.unwrap_err();
    assert!(
        said.starts_with("failed to decrypt DEK, error: rpc error: code = "),
        "{said}"
    );
    let state = provider.state().unwrap();
    assert!(state.check(state.until).is_ok());
    let late = state
        .check(state.until + Duration::from_millis(1))
        .unwrap_err();
    assert!(
        late.reason
            .starts_with("encryptedDEKSource with keyID hash \"sha256:"),
        "{late}"
    );
    // It comes again.
    plugin.served = Some(plugin.kms.serve(&plugin.dir.path().join("kms")));
    assert_eq!(open(&provider, &foreign).await, value("2", false));
}

#[tokio::test]
async fn a_plugin_that_comes_while_somebody_waits_is_not_too_late() {
    let mut plugin = Plugin::start("key-1");
    let (provider, other) = (plugin.asked().await, plugin.asked().await);
    let foreign = seal(&other, b"2").unwrap();
    plugin.served.take();
    ask(&provider).await.unwrap_err();
    let opened = open(&provider, &foreign);
    let socket = plugin.dir.path().join("kms");
    let (opened, _served) = tokio::join!(opened, async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        plugin.kms.serve(&socket)
    });
    assert_eq!(opened, value("2", false));
}

#[tokio::test]
async fn a_silent_plugin_holds_up_each_call_for_its_time() {
    let plugin = Plugin::start("key-1");
    let (provider, other) = (plugin.asked().await, plugin.asked().await);
    let foreign = seal(&other, b"2").unwrap();
    plugin.kms.silence(true);
    let started = Instant::now();
    let opened = join_all((0..10).map(|_| open(&provider, &foreign))).await;
    let said = "failed to decrypt DEK, error: rpc error: code = DeadlineExceeded desc = context deadline exceeded";
    assert!(
        opened.iter().all(|o| *o == Err(said.to_owned())),
        "{opened:?}"
    );
    assert!(
        started.elapsed() < provider.timeout() * 3,
        "one after the other"
    );
    assert_eq!(plugin.kms.calls("Decrypt"), 1);
    plugin.kms.silence(false);
    assert_eq!(open(&provider, &foreign).await, value("2", false));
}

#[tokio::test]
async fn a_plugin_that_never_was_well_opens_and_seals_nothing() {
    let plugin = Plugin::start("key-1");
    let sealed = seal(&plugin.asked().await, b"1").unwrap();
    let provider = plugin.provider();
    let said = "got unexpected nil transformer".to_owned();
    assert_eq!(open(&provider, &sealed).await, Err(said.clone()));
    assert_eq!(seal(&provider, b"1"), Err(said));
}

/// What upstream wrote before it had seeds: the key itself is sealed.
#[tokio::test]
async fn a_value_of_a_key_is_opened_and_stale() {
    let plugin = Plugin::start("key-1");
    let provider = plugin.asked().await;
    let secret = [7; 32];
    let mut data = Vec::new();
    let cipher = super::super::cipher::aes_gcm(&secret).unwrap();
    cipher.seal(KEY, b"1", &mut data).unwrap();
    let object = EncryptedObject {
        encrypted_data: data.into(),
        key_id: "key-1".to_owned(),
        encrypted_dek_source: testing::Kms::sealed("key-1", &secret).into(),
        ..EncryptedObject::default()
    };
    assert_eq!(
        open(&provider, &object.encode_to_vec().into()).await,
        value("1", true)
    );
}

/// What upstream's API server 1.37.1 wrote with [`testing::Kms`] and its key `key-1`: the etcd key, the
/// prefix, and the rest in base64.
const OF_UPSTREAM: &str = include_str!("tests/upstream.txt");

#[tokio::test]
async fn what_upstream_wrote_is_opened() {
    let [key, prefix, rest] = { OF_UPSTREAM.trim().split(' ').collect::<Vec<_>>() }
        .try_into()
        .unwrap();
    assert_eq!(prefix, format!("{PREFIX}test:"));
    let plugin = Plugin::start("key-1");
    let kms = Kms(plugin.asked().await);
    let Ok(Opening::Locked(locked)) = kms.open(key, &STANDARD.decode(rest).unwrap().into()) else {
        panic!("its seed is not known");
    };
    let opened = locked.open(key).await.unwrap();
    let object = String::from_utf8_lossy(&opened.value);
    assert!(
        object.starts_with("k8s\0") && object.contains("in the clear"),
        "{object}"
    );
    assert!(!opened.stale);
    assert_eq!(plugin.kms.calls("Decrypt"), 1);
}
