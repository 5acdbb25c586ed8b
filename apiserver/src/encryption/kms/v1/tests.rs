#![allow(clippy::unwrap_used, reason = "a test may panic")]

use component::metrics::Metrics;
use futures::future::join_all;

use super::*;
use crate::plugin::testing::{self, Served};

const KEY: &str = "/registry/secrets/default/s";

/// A plugin, and where it is.
struct Plugin {
    dir: tempfile::TempDir,
    kms: testing::Kms,
    metrics: Metrics,
    _served: Served,
}

impl Plugin {
    fn start() -> Self {
        let (dir, kms) = (tempfile::tempdir().unwrap(), testing::Kms::new("key-1"));
        let _served = kms.serve_v1(&dir.path().join("kms"));
        let metrics = Metrics::new();
        Self {
            dir,
            kms,
            metrics,
            _served,
        }
    }

    /// A server that asks it, and remembers so many keys.
    fn server(&self, cache: Option<usize>) -> Arc<Provider> {
        let settings = Settings {
            name: "p".to_owned(),
            socket: self.dir.path().join("kms").display().to_string(),
            timeout: Duration::from_millis(500),
            cache,
        };
        Provider::new(settings, &KmsMetrics::register(&self.metrics, "server"))
    }

    /// What is counted under a name.
    fn counted(&self, name: &str) -> Option<String> {
        let text = self.metrics.answer("").1;
        let mut lines = text.lines().filter_map(|line| line.rsplit_once(' '));
        lines
            .find(|(of, _)| *of == name)
            .map(|(_, value)| value.to_owned())
    }

    fn calls(&self) -> [usize; 3] {
        ["Version", "Encrypt", "Decrypt"].map(|method| self.kms.calls(method))
    }
}

async fn seal(provider: &Arc<Provider>, value: &[u8]) -> Result<Bytes, String> {
    let fresh = Kms(Arc::clone(provider)).fresh().unwrap();
    let layer = fresh.await.map_err(|refused| refused.error.reason)?;
    let mut out = Vec::new();
    layer.seal(KEY, value, &mut out).unwrap();
    Ok(out.into())
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

#[tokio::test]
async fn every_value_has_a_key_that_the_plugin_seals() {
    let plugin = Plugin::start();
    let provider = plugin.server(Some(10));
    let (one, two) = (
        seal(&provider, b"1").await.unwrap(),
        seal(&provider, b"2").await.unwrap(),
    );
    assert_eq!(open(&provider, &one).await, Ok((Bytes::from("1"), false)));
    assert_eq!(open(&provider, &two).await, Ok((Bytes::from("2"), false)));
    assert_eq!(plugin.calls(), [1, 2, 0], "what it sealed is remembered");
    let other = plugin.server(Some(10));
    let opened = join_all((0..10).map(|_| open(&other, &one))).await;
    assert!(opened.iter().all(|o| *o == Ok((Bytes::from("1"), false))));
    assert_eq!(plugin.calls(), [2, 2, 1], "asked once for all");
}

#[tokio::test]
async fn without_a_cache_every_read_asks() {
    let plugin = Plugin::start();
    let provider = plugin.server(None);
    let sealed = seal(&provider, b"1").await.unwrap();
    for _ in 0..2 {
        open(&provider, &sealed).await.unwrap();
    }
    assert_eq!(plugin.calls(), [1, 1, 2]);
}

#[tokio::test]
async fn the_layout_is_upstreams_and_what_it_once_wrote_is_opened_and_stale() {
    let plugin = Plugin::start();
    let provider = plugin.server(Some(10));
    let sealed = seal(&provider, b"value").await.unwrap();
    let length = usize::from(u16::from_be_bytes([sealed[0], sealed[1]]));
    assert!(sealed[2..].starts_with(b"key-1:"));
    let around = cipher::GCM_NONCE + cipher::TAG;
    assert_eq!(sealed.len(), 2 + length + around + b"value".len());
    let key = [7; 32];
    let by = [b"key-1:".to_vec(), testing::Kms::sealed("key-1", &key)].concat();
    let mut old = u16::try_from(by.len()).unwrap().to_be_bytes().to_vec();
    old.extend(by);
    let cbc = cipher::aes_cbc(&key).unwrap();
    cbc.seal(KEY, b"old", &mut old).unwrap();
    assert_eq!(
        open(&provider, &old.into()).await,
        Ok((Bytes::from("old"), true))
    );
}

#[tokio::test]
async fn what_cannot_be_opened_is_refused_in_the_plugins_words() {
    let plugin = Plugin::start();
    let provider = plugin.server(Some(10));
    let sealed = seal(&provider, b"1").await.unwrap();
    let cut = "invalid data encountered by envelope transformer: failed to read uint16 length prefixed data";
    for short in [0, 1, 2, 20] {
        let refused = open(&provider, &sealed.slice(..short)).await;
        assert_eq!(refused.unwrap_err(), cut);
    }
    let mut other = sealed.to_vec();
    other[9] ^= 1;
    assert_eq!(
        open(&provider, &other.into()).await.unwrap_err(),
        "rpc error: code = InvalidArgument desc = it was not sealed here"
    );
    plugin.kms.silence(true);
    let late = "rpc error: code = DeadlineExceeded desc = context deadline exceeded";
    assert_eq!(seal(&provider, b"1").await.unwrap_err(), late);
}

#[tokio::test]
async fn a_plugin_is_well_if_it_opens_what_it_seals() {
    let plugin = Plugin::start();
    let provider = plugin.server(Some(10));
    assert_eq!(provider.check().await, Ok(()));
    assert_eq!(provider.check().await, Ok(()), "believed");
    assert_eq!(plugin.calls(), [1, 1, 1]);
    let other = plugin.server(Some(10));
    plugin.kms.silence(true);
    assert_eq!(
        other.check().await.unwrap_err(),
        "failed to perform encrypt section of the healthz check for KMS Provider p, error: \
         rpc error: code = DeadlineExceeded desc = context deadline exceeded"
    );
}

#[tokio::test]
async fn what_is_remembered_and_what_comes_is_counted_as_upstream_does() {
    let plugin = Plugin::start();
    let provider = plugin.server(Some(4));
    let between = |direction: &str| {
        let name = "apiserver_envelope_encryption_dek_cache_inter_arrival_time_seconds";
        plugin.counted(&format!(
            "{name}_count{{transformation_type=\"{direction}\"}}"
        ))
    };
    let filled = || plugin.counted("apiserver_envelope_encryption_dek_cache_fill_percent");
    assert_eq!(between("to_storage"), None);
    let mut sealed = Vec::new();
    for filled_then in ["0.25", "0.5", "0.75", "1.0", "1.0"] {
        sealed.push(seal(&provider, b"1").await.unwrap());
        assert_eq!(filled().as_deref(), Some(filled_then));
    }
    assert_eq!(between("to_storage").as_deref(), Some("5"));
    assert_eq!(between("from_storage"), None);
    open(&provider, &sealed[4]).await.unwrap();
    // The one that was forgotten is one value, though the plugin is asked for its key.
    open(&provider, &sealed[0]).await.unwrap();
    assert_eq!(between("from_storage").as_deref(), Some("2"));
    let made = "apiserver_storage_data_key_generation_duration_seconds_count";
    assert_eq!(plugin.counted(made).as_deref(), Some("5"));
    assert_eq!(plugin.kms.calls("Decrypt"), 1);
}

#[tokio::test]
async fn a_key_that_is_used_is_not_forgotten() {
    let plugin = Plugin::start();
    let provider = plugin.server(Some(2));
    let used = seal(&provider, b"1").await.unwrap();
    for _ in 0..4 {
        seal(&provider, b"2").await.unwrap();
        open(&provider, &used).await.unwrap();
    }
    assert_eq!(plugin.kms.calls("Decrypt"), 0);
}
