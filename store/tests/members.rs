//! Several members, TLS and compaction, against real etcd.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy does not know for tests"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use store::etcd;
use store::testing::{
    Direct, Etcd, Etcds, Rig, TestTasks, Tls, eventually, next, pods, reached, watching,
};
use store::{At, Begin, Config, Query, Scope, Store, Tasks};

fn plain(servers: Vec<String>) -> etcd::Config {
    etcd::Config {
        servers,
        ca_file: None,
        cert_file: None,
        key_file: None,
    }
}

fn open(etcd: etcd::Config, tasks: &Arc<TestTasks>) -> Store {
    let config = Config {
        compaction_interval: Duration::ZERO,
        ..Config::new(etcd)
    };
    Store::open(&config, Arc::clone(tasks) as Arc<dyn Tasks>).unwrap()
}

#[tokio::test]
async fn a_dead_member_and_a_silent_one_are_left_for_another() {
    for binary in Etcds::all() {
        let mut members = Etcd::cluster(&binary, 3).await;
        let tasks = Arc::new(TestTasks::default());
        let servers = members.iter().map(Etcd::url).collect();
        let store = open(plain(servers), &tasks);
        let collection = store.resource(pods()).unwrap();
        collection.wait_ready().await;
        let mut watcher = collection
            .watch(watching(Begin::Now(At::Any)))
            .await
            .unwrap();
        let direct = Direct::to(&members[2]);
        let mut expected = 0;
        let reads = async |seconds: u64| {
            let (start, mut slowest) = (Instant::now(), Duration::ZERO);
            while start.elapsed() < Duration::from_secs(seconds) {
                let read = Instant::now();
                collection
                    .list(Query::new(Scope::All, At::Latest))
                    .await
                    .unwrap();
                slowest = slowest.max(read.elapsed());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            slowest
        };
        reads(1).await;
        members[0].freeze();
        let slowest = reads(6).await;
        assert!(slowest < Duration::from_secs(6), "silent for {slowest:?}");
        assert!(
            slowest > Duration::from_secs(1),
            "it was not the member in use"
        );
        members[0].thaw();
        reads(1).await;
        for i in [0, 1] {
            members[i].kill();
            let slowest = reads(3).await;
            assert!(slowest < Duration::from_secs(4), "dead for {slowest:?}");
            members[i].restart().await;
            expected = direct.put("/registry/pods/a/p", "||").await;
            assert!(next(&mut watcher).await.contains(&format!(" {expected} ")));
        }
        assert_eq!(collection.metrics().loads.get(), 1);
        assert_eq!(
            collection
                .get("a/p", At::Latest)
                .await
                .unwrap()
                .unwrap()
                .revision,
            expected
        );
    }
}

#[tokio::test]
async fn a_write_that_was_never_sent_goes_to_the_next_member() {
    let live = Etcd::start(&Etcds::newest()).await;
    let mut dead = Etcd::start(&Etcds::newest()).await;
    dead.kill();
    let servers = vec![dead.url(), live.url()];
    let config = plain(servers);
    let tasks = Arc::new(TestTasks::default());
    // Its first request, before anything else has found out that the member is dead.
    let written = open(config, &tasks)
        .raw()
        .put("a", 0, "1".into(), None)
        .await;
    assert!(written.is_ok(), "{written:?}");
}

/// A CA and certificates by it.
struct Pki {
    dir: tempfile::TempDir,
    ca: Issuer<'static, KeyPair>,
}

impl Pki {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join("ca.crt"),
            params.self_signed(&key).unwrap().pem(),
        )
        .unwrap();
        Self {
            dir,
            ca: Issuer::new(params, key),
        }
    }

    fn path(&self, file: &str) -> std::path::PathBuf {
        self.dir.path().join(file)
    }

    fn issue(&self, name: &str) -> Tls {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().unwrap();
        let write = |file: &Path, text: String| std::fs::write(file, text).unwrap();
        let (cert, private) = (
            self.path(&format!("{name}.crt")),
            self.path(&format!("{name}.key")),
        );
        write(&cert, params.signed_by(&key, &self.ca).unwrap().pem());
        write(&private, key.serialize_pem());
        Tls {
            ca: self.path("ca.crt"),
            cert,
            key: private,
        }
    }
}

#[tokio::test]
async fn certificates_are_checked_and_read_anew_for_each_connection() {
    for binary in Etcds::all() {
        let pki = Pki::new();
        let mut member = Etcd::start_tls(&binary, pki.issue("server")).await;
        let client = pki.issue("client");
        let config = etcd::Config {
            servers: vec![member.url()],
            ca_file: Some(client.ca.clone()),
            cert_file: Some(client.cert.clone()),
            key_file: Some(client.key.clone()),
        };
        let tasks = Arc::new(TestTasks::default());
        let store = open(config.clone(), &tasks);
        let collection = store.resource(pods()).unwrap();
        collection.wait_ready().await;
        collection.create("a/p", "||".into(), None).await.unwrap();

        let anonymous = etcd::Config {
            cert_file: None,
            key_file: None,
            ..config.clone()
        };
        assert!(
            etcd::Client::new(&anonymous)
                .unwrap()
                .status()
                .await
                .is_err(),
            "a client certificate is needed"
        );
        let stranger = Pki::new();
        stranger.issue("client");
        let other_ca = etcd::Config {
            ca_file: Some(stranger.path("ca.crt")),
            ..config.clone()
        };
        assert!(
            etcd::Client::new(&other_ca)
                .unwrap()
                .status()
                .await
                .is_err(),
            "the server's CA is checked"
        );
        let missing = etcd::Config {
            key_file: Some(pki.path("none")),
            ..config.clone()
        };
        let error = etcd::Client::new(&missing)
            .err()
            .expect("an unreadable key is an error at once")
            .to_string();
        assert!(error.contains("none"), "{error}");
        let no_ca = etcd::Config {
            ca_file: None,
            cert_file: None,
            key_file: None,
            ..config
        };
        assert!(etcd::Client::new(&no_ca).is_err());

        // A new CA for the server: the client has it in its files when the connection breaks.
        let rotated = Pki::new();
        for (from, to) in [
            (rotated.issue("server"), pki.issue("server")),
            (rotated.issue("client"), client),
        ] {
            std::fs::copy(from.cert, to.cert).unwrap();
            std::fs::copy(from.key, to.key).unwrap();
            std::fs::copy(from.ca, to.ca).unwrap();
        }
        member.restart().await;
        let start = Instant::now();
        while collection
            .list(Query::new(Scope::All, At::Latest))
            .await
            .is_err()
        {
            assert!(start.elapsed() < Duration::from_secs(20));
        }
    }
}

/// Upstream knows etcd's users by client certificates alone: there are no flags for a name and a password.
#[tokio::test]
async fn a_user_that_may_see_nothing_but_the_prefix_is_enough() {
    for binary in Etcds::all() {
        let pki = Pki::new();
        let etcd = Etcd::start_tls(&binary, pki.issue("root")).await;
        let direct = Direct::to(&etcd);
        direct.restrict("apiserver", "/registry/").await;
        let user = pki.issue("apiserver");
        let tasks = Arc::new(TestTasks::default());
        let config = etcd::Config {
            cert_file: Some(user.cert),
            key_file: Some(user.key),
            ..etcd.config()
        };
        let store = open(config, &tasks);
        let collection = store.resource(pods()).unwrap();
        collection.wait_ready().await;
        let mut watcher = collection
            .watch(watching(Begin::Now(At::Any)))
            .await
            .unwrap();
        let written = collection.create("a/p", "||".into(), None).await.unwrap();
        let revision = written.revision;
        assert_eq!(
            next(&mut watcher).await,
            format!("ADDED a/p {revision} {revision}:||")
        );
        // What others write outside the prefix is not seen, and holds up no read.
        direct.put("/elsewhere", "1").await;
        let read = collection.list(Query::new(Scope::All, At::Latest)).await;
        assert_eq!(read.unwrap().entries.into_iter().count(), 1);
    }
}

#[tokio::test]
async fn compactors_take_turns_and_keep_one_interval() {
    for binary in Etcds::all() {
        let rig = Rig::start(&binary).await;
        let interval = Duration::from_millis(400);
        let config = Config {
            compaction_interval: interval,
            ..Config::new(rig.etcd.config())
        };
        let open = || Store::open(&config, Arc::clone(&rig.tasks) as Arc<dyn Tasks>).unwrap();
        let stores = [open(), open(), open()];
        let collection = rig.pods().await;
        let start = Instant::now();
        let mut revisions = Vec::new();
        while start.elapsed() < interval * 8 {
            let revision = rig.direct.put("/registry/pods/a/p", "||").await;
            revisions.push((Instant::now(), revision));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let done: u64 = stores.iter().map(|s| s.metrics().compactions.get()).sum();
        assert!(
            (4..=8).contains(&done),
            "{done} compactions in 8 intervals by three compactors"
        );
        let compacted = rig.store.compacted();
        assert!(compacted > 0, "everybody learns of it from the watch");
        let young = revisions
            .iter()
            .find(|(at, _)| at.elapsed() < interval)
            .unwrap()
            .1;
        assert!(compacted < young, "the last interval is kept");
        let old = revisions[0].1;
        assert!(matches!(
            collection
                .list(Query::new(Scope::All, At::Exact(old)))
                .await,
            Err(store::ReadError::Expired)
        ));
    }
}

/// etcd ends the streams that demand a leader once three of its election timeouts have passed without one.
const NOTICED: Duration = Duration::from_secs(6);

#[tokio::test]
async fn a_member_that_has_lost_its_leader_is_not_watched_in_good_faith() {
    let members = Etcd::cluster(&Etcds::newest(), 3).await;
    let tasks = Arc::new(TestTasks::default());
    let servers = vec![members[0].url()];
    let store = open(plain(servers), &tasks);
    let collection = store.resource(pods()).unwrap();
    collection.wait_ready().await;
    let before = store.metrics().streams.get();
    for member in &members[1..] {
        member.freeze();
    }
    tokio::time::sleep(NOTICED).await;
    assert!(store.health(Duration::from_secs(1)).await.is_err());
    for member in &members[1..] {
        member.thaw();
    }
    // Its watch, which would have stood and told nothing, was ended: there is another one, which goes on.
    let again = || store.metrics().streams.get() > before;
    eventually("there is another watch", again).await;
    let last = Direct::to(&members[1])
        .put("/registry/pods/a/p", "||")
        .await;
    reached(&collection, last).await;
    assert_eq!(collection.metrics().loads.get(), 1, "nothing was lost");
}
