//! Pulls from a registry over TLS into a store on disk, and runs what was pulled.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use kubelet::image::auth::{Credential, Source};
use kubelet::image::ensure::{self, Images, PullPolicy, Reason, Wanted};
use kubelet::image::import::Reading;
use kubelet::image::pull::{Config, Error, Puller};
use kubelet::image::reference::Reference;
use kubelet::image::registry::{self, Registry, hosts, proxy};
use kubelet::image::store::{Image, Store};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[path = "image/server.rs"]
mod server;

use server::{Server, publish};

/// A proxy that leads every name to one server, and what it was asked for.
struct Proxy {
    address: std::net::SocketAddr,
    asked: Arc<parking_lot::Mutex<Vec<String>>>,
    _tasks: tokio::task::JoinSet<()>,
}

impl Proxy {
    async fn start(to: std::net::SocketAddr) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let seen = asked.clone();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move {
            let mut tunnels = tokio::task::JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = client.read_u8().await else {
                        return;
                    };
                    request.push(byte);
                }
                seen.lock().push(String::from_utf8(request).unwrap());
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                let mut server = tokio::net::TcpStream::connect(to).await.unwrap();
                tunnels.spawn(async move {
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self {
            address,
            asked,
            _tasks: tasks,
        }
    }
}

/// A node that trusts the servers it was told of.
struct Node {
    dir: tempfile::TempDir,
    store: Arc<Store>,
    puller: Arc<Puller>,
}

impl Node {
    fn new(servers: &[&Server]) -> Self {
        Self::with(servers, hosts::Config::default())
    }

    fn with(servers: &[&Server], mut hosts: hosts::Config) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("images")).unwrap();
        let certs = dir.path().join("certs.d");
        for server in servers {
            let home = certs.join(server.domain());
            fs::create_dir_all(&home).unwrap();
            fs::write(home.join("ca.crt"), &server.authority).unwrap();
        }
        hosts.directories.push(certs);
        let config = registry::Config {
            hosts,
            connect_timeout: Duration::from_secs(5),
            stall_timeout: Duration::from_secs(5),
            ..registry::Config::default()
        };
        let retries = Config {
            retry_delay: Duration::from_millis(1),
            ..Config::default()
        };
        let puller = Puller::new(store.clone(), Registry::new(config), retries);
        Self { dir, store, puller }
    }

    async fn pull(&self, name: &str, credentials: Vec<Credential>) -> Result<(), Arc<Error>> {
        let reference: Reference = name.parse().unwrap();
        self.puller
            .pull(&reference, credentials)
            .finish()
            .await
            .map(drop)
    }

    fn leftovers(&self) -> usize {
        let count = |path: &str| fs::read_dir(self.dir.path().join(path)).unwrap().count();
        count("images/content/ingest") + count("images/trash")
    }
}

fn layer(name: &str, size: usize) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(size as u64);
    // Does not compress: the sizes on the wire stay what the tests say.
    let mut state = 1u64;
    let data: Vec<u8> = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) as u8
    })
    .take(size)
    .collect();
    builder.append_data(&mut header, name, &data[..]).unwrap();
    builder.into_inner().unwrap()
}

/// A layer with a program that runs without any other file.
fn busybox() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    builder
        .append_path_with_name("/bin/busybox", "bin/sh")
        .unwrap();
    builder.into_inner().unwrap()
}

fn credential(username: &str, password: &str) -> Credential {
    let source = Source::Node;
    Credential {
        username: username.into(),
        password: password.into(),
        source,
    }
}

#[tokio::test]
async fn what_is_pulled_runs() {
    let server = Server::start().await;
    let image = publish(&server, "team/app", "v1", &[busybox(), layer("data", 1000)]);
    let node = Node::new(&[&server]);
    let name = format!("{}/team/app:v1", server.domain());
    node.pull(&name, Vec::new()).await.unwrap();
    let found = node.store.image(&name).unwrap();
    assert_eq!(found.id, image.config);
    assert_eq!(
        found.status_id(),
        format!("{}/team/app@{}", server.domain(), image.manifest)
    );
    assert_eq!(node.leftovers(), 0);
    let rootfs = node.store.prepare("c1", &found, &[]).unwrap();
    let ran = std::process::Command::new("chroot")
        .arg(&rootfs)
        .args(["/bin/sh", "-c", "test -f /data && echo > /new"])
        .status()
        .unwrap();
    assert!(ran.success() && rootfs.join("new").exists());
    node.store.release("c1").unwrap();
    // By digest, and again: nothing but the manifest and the configuration is asked for.
    server.state.lock().log.clear();
    let pinned = format!("{}/team/app@{}", server.domain(), image.manifest);
    node.pull(&pinned, Vec::new()).await.unwrap();
    assert_eq!(server.seen("/v2/").len(), 2);
}

#[tokio::test]
async fn only_who_knows_the_password_pulls() {
    let server = Server::start().await;
    publish(&server, "app", "v1", &[layer("f", 10)]);
    let name = format!("{}/app:v1", server.domain());
    for bearer in [false, true] {
        {
            let mut state = server.state.lock();
            state.login = Some(("me".into(), "secret".into()));
            state.bearer = bearer;
        }
        let node = Node::new(&[&server]);
        for wrong in [vec![], vec![credential("me", "guess")]] {
            let err = node.pull(&name, wrong).await.unwrap_err();
            assert!(err.to_string().contains("pull access denied"), "{err}");
            assert!(!err.to_string().contains("guess"));
        }
        // While a secret is being replaced, the old one comes first.
        node.pull(
            &name,
            vec![credential("me", "old"), credential("me", "secret")],
        )
        .await
        .unwrap();
    }
    let scope = &server.seen("/token").last().unwrap().query.clone();
    assert_eq!(scope, "service=test&scope=repository%3Aapp%3Apull");
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_ended() {
    let server = Server::start().await;
    let image = publish(&server, "app", "v1", &[layer("f", 300_000)]);
    let node = Node::new(&[&server]);
    server.state.lock().cut = vec![100_000, 50_000];
    node.pull(&format!("{}/app:v1", server.domain()), Vec::new())
        .await
        .unwrap();
    let blob = image.layers[0].to_string();
    let ranges: Vec<_> = server
        .seen(&blob)
        .into_iter()
        .map(|seen| seen.range)
        .collect();
    let from = |n: u32| Some(format!("bytes={n}-"));
    assert_eq!(ranges, [None, from(50_000), from(150_000)]);
}

#[tokio::test]
async fn bytes_with_another_digest_are_thrown_away() {
    let server = Server::start().await;
    let image = publish(&server, "app", "v1", &[layer("f", 1000)]);
    let node = Node::new(&[&server]);
    let name = format!("{}/app:v1", server.domain());
    let blob = format!("app/blobs/{}", image.layers[0]);
    server.state.lock().corrupt = Some(blob);
    node.pull(&name, Vec::new()).await.unwrap();
    // A manifest that is not what its address says is never used.
    let other = publish(&server, "app", "v2", &[layer("g", 10)]);
    let lie = server.state.lock().content["app/manifests/v1"].clone();
    server.put(format!("app/manifests/{}", other.manifest), lie);
    let pinned = format!("{}/app@{}", server.domain(), other.manifest);
    let err = node.pull(&pinned, Vec::new()).await.unwrap_err();
    assert!(
        matches!(&*err, Error::Registry(registry::Error::Digest { .. })),
        "{err}"
    );
}

#[tokio::test]
async fn errors_that_pass_are_waited_out_and_others_are_told() {
    let server = Server::start().await;
    publish(&server, "app", "v1", &[layer("f", 10)]);
    let node = Node::new(&[&server]);
    let domain = server.domain();
    server.state.lock().fail = vec![StatusCode::SERVICE_UNAVAILABLE; 3];
    node.pull(&format!("{domain}/app:v1"), Vec::new())
        .await
        .unwrap();
    server.state.lock().fail = vec![StatusCode::SERVICE_UNAVAILABLE; 9];
    let down = node
        .pull(&format!("{domain}/app:v2"), Vec::new())
        .await
        .unwrap_err();
    assert!(down.is_unavailable());
    server.state.lock().fail.clear();
    let missing = node
        .pull(&format!("{domain}/app:v2"), Vec::new())
        .await
        .unwrap_err();
    assert_eq!(
        missing.to_string(),
        format!("{domain}/app:v2: not found at {domain}")
    );
    // Nobody there at all, and somebody whom nobody vouches for.
    let nobody = node
        .pull("localhost:1/app:v1", Vec::new())
        .await
        .unwrap_err();
    assert!(
        nobody.to_string().starts_with("connect to localhost:1: "),
        "{nobody}"
    );
    assert!(!nobody.is_unavailable());
    let stranger = Server::start().await;
    let mirrors = [(
        domain.clone(),
        vec![hosts::Host::mirror(&stranger.domain()).unwrap()],
    )];
    let hosts = hosts::Config {
        mirrors: mirrors.into(),
        ..hosts::Config::default()
    };
    let node = Node::with(
        &[],
        hosts::Config {
            directories: Vec::new(),
            ..hosts
        },
    );
    let untrusted = node
        .pull(&format!("{domain}/app:v1"), Vec::new())
        .await
        .unwrap_err();
    assert!(stranger.state.lock().log.is_empty(), "{untrusted}");
}

#[tokio::test]
async fn an_endless_manifest_does_not_fill_the_memory() {
    let server = Server::start().await;
    server.state.lock().endless = true;
    let node = Node::new(&[&server]);
    let err = node
        .pull(&format!("{}/app:v1", server.domain()), Vec::new())
        .await
        .unwrap_err();
    assert!(
        matches!(&*err, Error::Registry(registry::Error::TooLarge { .. })),
        "{err}"
    );
}

#[tokio::test]
async fn mirrors_are_asked_first_and_never_told_a_password() {
    let (mirror, origin) = (Server::start().await, Server::start().await);
    let image = publish(&origin, "app", "v1", &[layer("f", 1000)]);
    origin.state.lock().login = Some(("me".into(), "secret".into()));
    mirror.state.lock().login = Some(("me".into(), "secret".into()));
    let mut host = hosts::Host::mirror(&format!("https://{}/prefix", mirror.domain())).unwrap();
    let pem = tempfile::NamedTempFile::new().unwrap();
    fs::write(pem.path(), &mirror.authority).unwrap();
    host.tls.authorities.push(pem.path().to_owned());
    let mirrors = [(origin.domain(), vec![host])].into();
    let node = Node::with(
        &[&origin],
        hosts::Config {
            mirrors,
            ..hosts::Config::default()
        },
    );
    let name = format!("{}/app:v1", origin.domain());
    node.pull(&name, vec![credential("me", "secret")])
        .await
        .unwrap();
    let log = mirror.state.lock().log.clone();
    assert!(!log.is_empty());
    assert!(log.iter().all(|seen| seen.authorization.is_none()));
    assert!(
        log.iter()
            .all(|seen| seen.path.starts_with("/prefix/v2/app/"))
    );
    assert!(
        log.iter()
            .all(|seen| seen.query == format!("ns={}", origin.domain()))
    );
    assert!(node.store.image(&name).unwrap().id == image.config);
}

#[tokio::test]
async fn a_redirect_does_not_take_the_password_along() {
    let (registry, elsewhere) = (Server::start().await, Server::start().await);
    for server in [&registry, &elsewhere] {
        publish(server, "app", "v1", &[layer("f", 1000)]);
    }
    {
        let mut state = registry.state.lock();
        state.login = Some(("me".into(), "secret".into()));
        state.redirect = Some(format!("https://{}", elsewhere.domain()));
    }
    let node = Node::new(&[&registry]);
    let both = format!("{}{}", registry.authority, elsewhere.authority);
    let ca = node
        .dir
        .path()
        .join("certs.d")
        .join(registry.domain())
        .join("ca.crt");
    fs::write(ca, both).unwrap();
    let name = format!("{}/app:v1", registry.domain());
    node.pull(&name, vec![credential("me", "secret")])
        .await
        .unwrap();
    let log = elsewhere.state.lock().log.clone();
    assert!(
        log.len() == 2 && log.iter().all(|seen| seen.authorization.is_none()),
        "{log:?}"
    );
}

#[tokio::test]
async fn pulls_of_one_image_share_one_download() {
    let server = Server::start().await;
    let image = publish(
        &server,
        "app",
        "v1",
        &[layer("f", 200_000), layer("g", 200_000)],
    );
    publish(&server, "other", "v1", &[layer("f", 200_000)]);
    let node = Node::new(&[&server]);
    let name: Reference = format!("{}/app:v1", server.domain()).parse().unwrap();
    let other: Reference = format!("{}/other:v1", server.domain()).parse().unwrap();
    let (one, two) = (
        node.puller.pull(&name, vec![]),
        node.puller.pull(&name, vec![]),
    );
    let third = node.puller.pull(&other, vec![]);
    let progress = one.progress();
    let (one, two, third) = tokio::join!(one.finish(), two.finish(), third.finish());
    assert_eq!(one.unwrap().image.id, two.unwrap().image.id);
    third.unwrap();
    assert_eq!(server.seen("/app/manifests/").len(), 1);
    let fetched: usize = image
        .layers
        .iter()
        .map(|l| server.seen(&l.to_string()).len())
        .sum();
    assert_eq!(fetched, 2);
    let end = *progress.borrow();
    assert_eq!(
        (end.layers, end.layers_done, end.bytes),
        (2, 2, end.bytes_done)
    );
}

#[tokio::test]
async fn a_pull_that_nobody_waits_for_ends_and_can_be_taken_up_again() {
    let server = Server::start().await;
    let image = publish(&server, "app", "v1", &[layer("f", 3_000_000)]);
    let node = Node::new(&[&server]);
    let name: Reference = format!("{}/app:v1", server.domain()).parse().unwrap();
    let pull = node.puller.pull(&name, vec![]);
    let mut progress = pull.progress();
    tokio::select! {
        _ = pull.finish() => panic!("too fast"),
        // Some bytes are here.
        _ = progress.wait_for(|progress| progress.bytes_done > 100_000) => {}
    }
    node.puller.pull(&name, vec![]).finish().await.unwrap();
    let blob = server.seen(&image.layers[0].to_string());
    assert_eq!(blob.len(), 2);
    assert!(blob[1].range.is_some(), "began anew: {blob:?}");
    assert_eq!(node.leftovers(), 0);
}

#[tokio::test]
async fn a_tag_that_moved_is_pulled_anew() {
    let server = Server::start().await;
    publish(&server, "app", "v1", &[layer("f", 10)]);
    let node = Node::new(&[&server]);
    let name = format!("{}/app:v1", server.domain());
    node.pull(&name, Vec::new()).await.unwrap();
    let old = node.store.image(&name).unwrap();
    let new = publish(&server, "app", "v1", &[layer("f", 10), layer("g", 10)]);
    node.pull(&name, Vec::new()).await.unwrap();
    assert_eq!(node.store.image(&name).unwrap().id, new.config);
    assert!(
        node.store
            .image(&old.id.to_string())
            .unwrap()
            .tags
            .is_empty()
    );
}

/// What a pod worker sees of one image.
async fn ensured(
    images: &Images,
    pod_uid: &str,
    image: &str,
    policy: PullPolicy,
    credentials: &[Credential],
) -> (
    Result<Arc<Image>, ensure::Failure>,
    Vec<(&'static str, String)>,
) {
    let mut events = Vec::new();
    let wanted = Wanted {
        pod_uid,
        image,
        policy,
        credentials: credentials.to_vec(),
    };
    let result = images
        .ensure(&wanted, &mut |event| {
            events.push((event.reason, event.message))
        })
        .await;
    (result, events)
}

#[tokio::test]
async fn policies_back_off_and_events_are_upstreams() {
    let server = Server::start().await;
    publish(&server, "app", "v1", &[layer("f", 10)]);
    let node = Node::new(&[&server]);
    let images = Images::new(
        node.store.clone(),
        node.puller.clone(),
        ensure::Config::default(),
    );
    let name = format!("{}/app:v1", server.domain());
    let ask = async |image: &str, policy| ensured(&images, "uid", image, policy, &[]).await;
    let reasons = |events: &[(&'static str, String)]| -> Vec<&'static str> {
        events.iter().map(|(reason, _)| *reason).collect()
    };

    let (never, events) = ask(&name, PullPolicy::Never).await;
    assert_eq!(never.unwrap_err().reason, Reason::ErrImageNeverPull);
    assert_eq!(
        events[0].1,
        format!("Container image {name:?} is not present with pull policy of Never")
    );
    let (pulled, events) = ask(&name, PullPolicy::IfNotPresent).await;
    let size = pulled.unwrap().size;
    assert_eq!(reasons(&events), ["Pulling", "Pulled"]);
    let text = &events[1].1;
    assert!(
        text.starts_with(&format!("Successfully pulled image {name:?} in ")),
        "{text}"
    );
    assert!(
        text.ends_with(&format!("including waiting). Image size: {size} bytes.")),
        "{text}"
    );
    server.state.lock().log.clear();
    for policy in [PullPolicy::IfNotPresent, PullPolicy::Never] {
        let (present, events) = ask(&name, policy).await;
        present.unwrap();
        assert!(events[0].1.contains("already present on machine"));
    }
    assert!(server.state.lock().log.is_empty());
    ask(&name, PullPolicy::Always).await.0.unwrap();
    assert!(!server.state.lock().log.is_empty());

    let missing = format!("{}/app:v2", server.domain());
    let (first, events) = ask(&missing, PullPolicy::IfNotPresent).await;
    let first = first.unwrap_err();
    assert_eq!(
        (first.reason, reasons(&events)),
        (Reason::ErrImagePull, vec!["Pulling", "Failed"])
    );
    let (again, events) = ask(&missing, PullPolicy::IfNotPresent).await;
    let again = again.unwrap_err();
    assert_eq!(
        (again.reason, reasons(&events)),
        (Reason::ImagePullBackOff, vec!["BackOff"])
    );
    assert_eq!(
        again.message,
        format!("Back-off pulling image {missing:?}: {first}")
    );
    let (invalid, events) = ask("Not A Name", PullPolicy::Always).await;
    assert_eq!(invalid.unwrap_err().reason, Reason::InvalidImageName);
    assert_eq!(reasons(&events), ["InspectFailed"]);
    server.state.lock().fail = vec![StatusCode::BAD_GATEWAY; 9];
    let (down, _) = ask(&format!("{}/app:v3", server.domain()), PullPolicy::Always).await;
    assert_eq!(down.unwrap_err().reason, Reason::RegistryUnavailable);
}

#[tokio::test]
async fn an_image_is_not_missing_before_the_archives_are_read() {
    let server = Server::start().await;
    publish(&server, "app", "v1", &[layer("f", 10)]);
    let node = Node::new(&[&server]);
    let (reading, archives) = tokio::sync::watch::channel(Reading::Archives(0));
    let images = Images::new(
        node.store.clone(),
        node.puller.clone(),
        ensure::Config::default(),
    );
    let images = images.after_archives(archives);
    let name = format!("{}/app:v1", server.domain());
    let import = async {
        let pull = node.puller.pull(&name.parse().unwrap(), Vec::new());
        pull.finish().await.unwrap();
        reading.send_replace(Reading::Archives(1));
    };
    let ((found, _), ()) = tokio::join!(
        ensured(&images, "uid", &name, PullPolicy::Never, &[]),
        import
    );
    found.unwrap();
    // Another one can come from the archives that are left, until there is none.
    let other = ensured(&images, "uid", "other", PullPolicy::Never, &[]);
    let end = async { reading.send_replace(Reading::Done) };
    let ((missing, _), _) = tokio::join!(other, end);
    assert_eq!(missing.unwrap_err().reason, Reason::ErrImageNeverPull);
}

#[tokio::test]
async fn a_private_image_that_is_here_is_not_for_every_pod() {
    let server = Server::start().await;
    publish(&server, "app", "v1", &[layer("f", 10)]);
    server.state.lock().login = Some(("me".into(), "secret".into()));
    let node = Node::new(&[&server]);
    let images = Images::new(
        node.store.clone(),
        node.puller.clone(),
        ensure::Config::default(),
    );
    let name = format!("{}/app:v1", server.domain());
    let source = Source::Secret {
        uid: "s".into(),
        namespace: "a".into(),
        name: "pull".into(),
    };
    let owner = [Credential {
        source,
        ..credential("me", "secret")
    }];
    let ask = async |pod: &str, policy, credentials: &[Credential]| {
        ensured(&images, pod, &name, policy, credentials).await.0
    };
    ask("owner", PullPolicy::IfNotPresent, &owner)
        .await
        .unwrap();
    server.state.lock().log.clear();
    ask("owner", PullPolicy::IfNotPresent, &owner)
        .await
        .unwrap();
    assert!(server.state.lock().log.is_empty());
    let stranger = ask("stranger", PullPolicy::IfNotPresent, &[])
        .await
        .unwrap_err();
    assert_eq!(stranger.reason, Reason::ErrImagePull);
    // It is not even told that the image is here.
    let never = ask("stranger", PullPolicy::Never, &[]).await.unwrap_err();
    assert!(never.message.contains("is not present"), "{never}");
    // The node's own credential: pulled once with it, it is everybody's.
    ask(
        "other",
        PullPolicy::IfNotPresent,
        &[credential("me", "secret")],
    )
    .await
    .unwrap();
    ask("third", PullPolicy::Never, &[]).await.unwrap();
}

#[tokio::test]
async fn a_proxy_is_asked_for_a_tunnel() {
    let server = Server::start().await;
    publish(&server, "app", "v1", &[layer("f", 10)]);
    let proxy = Proxy::start(server.address).await;
    let mut node = Node::new(&[]);
    let home = node.dir.path().join("certs.d/registry.test");
    fs::create_dir_all(&home).unwrap();
    fs::write(home.join("ca.crt"), &server.authority).unwrap();
    let proxies = proxy::Proxies::from_env(|name| {
        (name == "HTTPS_PROXY").then(|| format!("http://me:pw@{}", proxy.address))
    });
    let config = registry::Config {
        hosts: hosts::Config {
            directories: vec![node.dir.path().join("certs.d")],
            ..hosts::Config::default()
        },
        proxies: proxies.unwrap(),
        ..registry::Config::default()
    };
    node.puller = Puller::new(node.store.clone(), Registry::new(config), Config::default());
    node.pull("registry.test/app:v1", Vec::new()).await.unwrap();
    let asked = proxy.asked.lock().clone();
    assert!(
        asked[0].starts_with("CONNECT registry.test:443 HTTP/1.1\r\n"),
        "{}",
        asked[0]
    );
    assert!(asked[0].contains("Proxy-Authorization: Basic bWU6cHc=\r\n"));
    assert!(
        server
            .state
            .lock()
            .log
            .iter()
            .all(|seen| seen.authorization.is_none())
    );
}
