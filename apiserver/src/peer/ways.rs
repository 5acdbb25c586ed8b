//! Connections to peers: kept from one request to the next, as long as a peer is known and where it was.
//!
//! A client of its own for each peer shares them among requests, bounds those that are idle, and makes new ones when the
//! certificates change. A request that is upgraded takes a connection for itself, which is not one of these.

use std::collections::HashMap;
use std::path::Path;

use component::Supervisor;
use component::client::{Client, Config, ConfigError, Source};
use component::metrics::Metrics;
use parking_lot::Mutex;

use crate::config::CertKey;

/// The name that every API server's certificate has.
pub(super) const NAME: &str = "kubernetes.default.svc";

/// The ways to peers.
pub(super) struct Ways {
    /// But for where the peer is.
    config: Config,
    tasks: Supervisor,
    metrics: Metrics,
    /// By the peer's identity, with its place.
    open: Mutex<HashMap<String, (String, Client)>>,
}

impl Ways {
    /// To peers whose certificates these authorities signed; this server shows them its own.
    ///
    /// # Errors
    /// If certificates cannot be used.
    pub(super) fn open(
        ca: &Path,
        client: Option<&CertKey>,
        tasks: &Supervisor,
        metrics: &Metrics,
    ) -> Result<Self, ConfigError> {
        let file = |path: &Path| Source::File(path.to_owned());
        let ways = Self {
            config: Config {
                ca: Some(file(ca)),
                server_name: Some(NAME.to_owned()),
                certificate: client.map(|pair| (file(&pair.cert), file(&pair.key))),
                ..Config::new("")
            },
            tasks: tasks.clone(),
            metrics: metrics.clone(),
            open: Mutex::default(),
        };
        // It connects to nobody, and reads the files.
        ways.client(NAME)?;
        Ok(ways)
    }

    /// The way to a peer that is at `place` (`host:port`).
    ///
    /// # Errors
    /// If there can be none to such a place.
    pub(super) fn to(&self, peer: &str, place: &str) -> Result<Client, ConfigError> {
        let mut open = self.open.lock();
        if let Some((at, client)) = open.get(peer)
            && at == place
        {
            return Ok(client.clone());
        }
        let client = self.client(place)?;
        open.insert(peer.to_owned(), (place.to_owned(), client.clone()));
        Ok(client)
    }

    /// Lets go of those to peers that are not there any more; requests under way are finished.
    pub(super) fn retain(&self, is_there: impl Fn(&str) -> bool) {
        self.open.lock().retain(|peer, _| is_there(peer));
    }

    fn client(&self, place: &str) -> Result<Client, ConfigError> {
        let config = Config {
            server: format!("https://{place}"),
            ..self.config.clone()
        };
        Client::new(config, "kube-apiserver", &self.tasks, &self.metrics)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use component::serving::Identity;
    use component::testing::{Ca, FakeApi, Files};
    use http::Request;
    use serde_json::json;

    use super::*;

    fn place(api: &FakeApi) -> &str {
        api.url.strip_prefix("https://").unwrap()
    }

    async fn ask(ways: &Ways, api: &mut FakeApi, place: &str) {
        let client = ways.to("peer", place).unwrap();
        let mut request = Request::new(Bytes::from("body"));
        *request.uri_mut() = "/apis/a?b=c".parse().unwrap();
        let headers = request.headers_mut();
        headers.insert("x-remote-user", "jane".parse().unwrap());
        headers.insert("host", "elsewhere".parse().unwrap());
        let (answer, seen) = tokio::join!(client.forward(request), async {
            api.next().await.json(&json!({}))
        });
        assert_eq!(answer.unwrap().status(), 200);
        assert_eq!((seen.path.as_str(), seen.param("b")), ("/apis/a", "c"));
        assert_eq!(
            (seen.header("x-remote-user"), &*seen.body),
            ("jane", &b"body"[..])
        );
        assert_eq!(
            (seen.header("authorization"), seen.header("host")),
            ("", "")
        );
    }

    #[tokio::test]
    async fn a_connection_is_kept_until_the_peer_is_gone_or_elsewhere() {
        let (ca, files) = (Ca::new("peers"), Files::new());
        let start = || FakeApi::secure(Identity::Memory(ca.server(&[NAME])));
        let (mut one, mut other) = (start(), start());
        let authority = files.write("ca.crt", &ca.pem);
        let ways = Ways::open(&authority, None, &one.tasks, &one.metrics).unwrap();
        let (first, second) = (place(&one).to_owned(), place(&other).to_owned());
        for _ in 0..3 {
            ask(&ways, &mut one, &first).await;
        }
        assert_eq!(one.connections(), 1);
        ask(&ways, &mut other, &second).await;
        ask(&ways, &mut other, &second).await;
        assert_eq!((one.connections(), other.connections()), (1, 1));
        ask(&ways, &mut one, &first).await;
        assert_eq!(one.connections(), 2, "it was let go when the peer moved");
        ways.retain(|peer| peer == "peer");
        ask(&ways, &mut one, &first).await;
        assert_eq!(one.connections(), 2);
        ways.retain(|_| false);
        ask(&ways, &mut one, &first).await;
        assert_eq!(one.connections(), 3);
    }

    #[tokio::test]
    async fn certificates_that_cannot_be_used_are_told_at_once() {
        let (tasks, metrics, files) = (Supervisor::current(), Metrics::new(), Files::new());
        let broken = files.write("ca.crt", "no certificate");
        assert!(Ways::open(&broken, None, &tasks, &metrics).is_err());
        let good = files.write("good.crt", &Ca::new("peers").pem);
        let pair = CertKey {
            cert: broken.clone(),
            key: broken,
        };
        assert!(Ways::open(&good, Some(&pair), &tasks, &metrics).is_err());
    }
}
