//! What the kubelet and kube-proxy read: images, plugins, manifests, the kernel, shims.

use std::io::Read;

use kubelet::image::auth::{Format, Keyring, Source};
use kubelet::image::layer::decompress;
use kubelet::image::manifest::{self, Document, ImageConfig, Platform};
use kubelet::image::reference::{Digest, Reference};
use kubelet::image::registry::proxy::Proxies;
use kubelet::network::resolv::DnsConfig;
use kubelet::parsers;
use shim::protocol::{self, Frame, Message};

use crate::Target;

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// The most that is read of a stream that may grow.
const MOST: u64 = 8 << 20;

/// Manifests, indexes, names, credentials, answers and addresses of registries.
pub(crate) const IMAGE: Target = Target {
    name: "image",
    run: |mut input| {
        let which = input.byte();
        let bytes = input.rest();
        match which % 6 {
            0 => documents(bytes),
            1 => {
                if let Ok(reference) = text(bytes).parse::<Reference>() {
                    let again: Reference = reference
                        .to_string()
                        .parse()
                        .expect("a name reads as itself");
                    assert_eq!(again, reference);
                }
                if let Ok(digest) = text(bytes).parse::<Digest>() {
                    assert_eq!(digest.to_string(), text(bytes));
                }
            }
            2 => {
                let header = text(bytes);
                let challenges = parsers::challenges(&header);
                assert!(challenges.iter().all(|(scheme, _)| !scheme.is_empty()));
                let parameters: usize = challenges.iter().map(|(_, n)| n).sum();
                assert!(challenges.len() + parameters <= header.len());
            }
            3 => {
                let _ = parsers::registry_hosts(&text(bytes), "registry.example:5000");
            }
            4 => {
                for format in [Format::DockerConfigJson, Format::DockerCfg] {
                    let mut keyring = Keyring::default();
                    if keyring.add(&Source::Node, format, bytes).is_ok() {
                        let _ = keyring.lookup("registry.example:5000/a/b");
                        let _ = keyring.lookup("docker.io/library/busybox");
                    }
                }
            }
            _ => {
                let words = text(bytes);
                let (proxy, except) = words.split_once('\n').unwrap_or((&words, ""));
                let get = |name: &str| match name {
                    "HTTPS_PROXY" | "HTTP_PROXY" => Some(proxy.to_owned()),
                    "NO_PROXY" => Some(except.to_owned()),
                    _ => None,
                };
                let _ = Proxies::from_env(get);
            }
        }
    },
    seeds: || {
        let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":7}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{digest}","size":9,"annotations":{{"a":"b"}}}}]}}"#
        );
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"m","digest":"{digest}","size":1,"platform":{{"os":"linux","architecture":"arm64","variant":"v8"}}}}]}}"#
        );
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{{"User":"a:b","Env":["A=b"],"Entrypoint":null,"Cmd":["c"],"WorkingDir":"/","Volumes":{{"/v":{{}}}},"StopSignal":"SIGINT"}},"rootfs":{{"type":"layers","diff_ids":["{digest}"]}}}}"#
        );
        let seed = |which: u8, text: &str| [&[which], text.as_bytes()].concat();
        vec![
            seed(0, &manifest),
            seed(0, &index),
            seed(0, &config),
            seed(1, &format!("registry.example:5000/a/b_c--d:tag.1@{digest}")),
            seed(1, "busybox"),
            seed(1, digest),
            seed(
                2,
                r#"Bearer realm="https://a/token",service="b",scope="repository:c:pull,push", Basic realm=d, Negotiate"#,
            ),
            seed(
                3,
                "server = \"https://a\"\n[host.\"http://b:5000/v2\"]\ncapabilities = [\"pull\"]\nskip_verify = true\nca = [\"c.pem\"]\nclient = [[\"d.cert\", \"d.key\"]]\noverride_path = true\n[host.\"http://b:5000/v2\".header]\nx-a = [\"e\"]\n",
            ),
            seed(
                4,
                r#"{"auths":{"https://registry.example:5000/v1/":{"auth":"YTpi"},"*.io":{"username":"c","password":"d"}}}"#,
            ),
            seed(4, r#"{"docker.io":{"auth":"YTpi"}}"#),
            seed(
                5,
                "http://user:pass@proxy:3128\n10.0.0.0/8,.example.com,a.example:80,*,[::1]",
            ),
        ]
    },
};

fn documents(bytes: &[u8]) {
    let here = Platform {
        architecture: "amd64".into(),
        os: "linux".into(),
        variant: None,
    };
    match Document::parse(bytes) {
        Ok(Document::Index(entries)) => {
            if let Ok(entry) = manifest::choose(&entries, &here) {
                assert!(entries.iter().any(|e| std::ptr::eq(e, entry)));
            }
        }
        Ok(Document::Manifest(manifest)) => {
            let _ = ImageConfig::parse(bytes, &manifest);
        }
        Err(_) => {}
    }
    if let Ok(config) = serde_json::from_slice::<ImageConfig>(bytes) {
        let again = serde_json::to_vec(&config).expect("what was read is written");
        let again: ImageConfig = serde_json::from_slice(&again).expect("and read");
        assert_eq!(again.config, config.config);
    }
}

/// Streams of layers: compressed, and as archives.
pub(crate) const LAYER: Target = Target {
    name: "layer",
    run: |mut input| {
        let compressed = input.flag();
        let bytes = input.rest();
        let (entries, whole) = if compressed {
            let Ok(stream) = decompress(bytes) else {
                return;
            };
            parsers::tar_entries(stream.take(MOST))
        } else {
            parsers::tar_entries(bytes)
        };
        for (path, _) in &entries {
            assert!(path.is_relative(), "{path:?}");
            assert!(
                path.components()
                    .all(|c| matches!(c, std::path::Component::Normal(_))),
                "{path:?}"
            );
        }
        if !compressed && whole {
            let sizes = entries
                .iter()
                .map(|(_, size)| *size)
                .fold(0, u64::saturating_add);
            assert!(
                sizes <= bytes.len() as u64,
                "{sizes} bytes of files in {}",
                bytes.len()
            );
        }
    },
    seeds: || {
        let plain = archive();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut gzip, &plain).expect("memory takes it");
        let gzip = gzip.finish().expect("memory takes it");
        vec![
            [&[0], &*plain].concat(),
            [&[1], &*gzip].concat(),
            [&[1], &*plain].concat(),
        ]
    },
};

/// Files of several kinds, with names of each form.
fn archive() -> Vec<u8> {
    let mut archive = Vec::new();
    let pax = b"30 mtime=1700000000.123456789\n18 path=long/name\n25 SCHILY.xattr.user.a=b\n";
    entry(&mut archive, b"a/b", b'0', b"contents");
    entry(&mut archive, b"d/", b'5', b"");
    entry(&mut archive, b"././@LongLink", b'L', b"a/very/long/name\0");
    entry(&mut archive, b"short", b'0', b"x");
    entry(&mut archive, b"pax", b'x', pax);
    entry(&mut archive, b"e", b'2', b"");
    entry(&mut archive, b"../../f/.wh.g", b'0', b"");
    archive.resize(archive.len() + 1024, 0);
    archive
}

fn entry(archive: &mut Vec<u8>, name: &[u8], kind: u8, contents: &[u8]) {
    let mut header = [0; 512];
    header[..name.len()].copy_from_slice(name);
    header[100..108].copy_from_slice(b"0000644\0");
    header[108..116].copy_from_slice(b"0000000\0");
    header[116..124].copy_from_slice(b"0000000\0");
    header[124..136].copy_from_slice(format!("{:011o}\0", contents.len()).as_bytes());
    header[136..148].copy_from_slice(b"00000000000\0");
    header[148..156].copy_from_slice(b"        ");
    header[156] = kind;
    header[157..160].copy_from_slice(b"to\0");
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    archive.extend(header);
    archive.extend(contents);
    archive.resize(archive.len().next_multiple_of(512), 0);
}

/// Plugins, manifests, logs, files of the system and of containers, answers to probes, shims, netlink.
pub(crate) const NODE: Target = Target {
    name: "node",
    run: |mut input| {
        let which = input.byte();
        let bytes = input.rest();
        match which % 8 {
            0 => {
                let plugins = parsers::cni_plugins(bytes).unwrap_or_default();
                assert!(plugins.iter().all(|p| !p.is_empty() && !p.contains('/')));
                let _ = parsers::cni_addresses(bytes);
            }
            1 => {
                if let Some((time, content)) = parsers::log_line(bytes) {
                    assert!(bytes.ends_with(content) || bytes.ends_with(b"\n"));
                    assert!(!time.is_empty());
                }
            }
            2 => {
                let names = parsers::static_pods(bytes);
                assert!(names.iter().all(|name| name.ends_with("-node")));
            }
            3 => parsers::system_files(&text(bytes)),
            4 => resolver_and_users(&text(bytes)),
            5 => {
                let (key, file) = bytes.split_at_checked(1).unwrap_or_default();
                let value = parsers::env_file(file, &text(key));
                assert!(value.is_none_or(|v| v.len() <= 3 * file.len()));
                let _ = parsers::grpc_answer(bytes, &text(bytes));
            }
            6 => shim(bytes),
            _ => {
                let _ = parsers::netlink_answer(bytes);
                let _ = kube_proxy::parsers::netlink_answer(bytes);
                let name = text(bytes);
                assert!(
                    kube_proxy::parsers::set_name(&name).is_none_or(|n| n == name),
                    "{name:?}"
                );
                assert!(
                    kube_proxy::parsers::chain_name(&name).is_none_or(|n| n == name),
                    "{name:?}"
                );
            }
        }
    },
    seeds: || {
        let seed = |which: u8, text: &str| [&[which], text.as_bytes()].concat();
        let mut seeds = vec![
            seed(
                0,
                r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"bridge","capabilities":{"portMappings":true}},{"type":"x"}]}"#,
            ),
            seed(0, r#"{"type":"ptp","name":"n"}"#),
            seed(
                0,
                r#"{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"/a"}],"ips":[{"address":"10.0.0.2/24","interface":0}],"ip4":{"ip":"10.0.0.3/8"}}"#,
            ),
            seed(1, "2026-01-02T03:04:05.123456789Z stdout F hello\n"),
            seed(1, "2026-01-02T03:04:05+01:00 stderr P:x part\n"),
            seed(
                2,
                "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: c, image: i}]}\n",
            ),
            seed(
                2,
                r#"{"kind":"PodList","items":[{"metadata":{"name":"a","namespace":"b","uid":"u"},"spec":{"containers":[]}}]}"#,
            ),
            seed(
                3,
                "some avg10=0.10 avg60=0.00 avg300=0.00 total=12\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\nusage_usec 12\nuser_usec 3\nsystem_usec 4\nnr_periods 5\nthrottled_usec 6\nanon 7\ninactive_file 8\nMemTotal: 16 kB\nPRETTY_NAME=\"x\"\n0-3,8\nkubelet:1:65536\n36 35 98:0 /a /b\\040c rw shared:1 - overlay o rw,upperdir=/u\\040p\n37 35 0:1 / / rw - cgroup2 c rw\n38 35 0:1 / /x rw - cgroup c rw,cpu,memory\n",
            ),
            seed(
                4,
                "nameserver 10.0.0.10\nsearch a.example. b\noptions ndots:5 edns0\n# x\nroot:x:0:0:root:/root:/bin/sh\nwww:x:33:33\nwheel:x:10:www,a\n",
            ),
            seed(5, "aA='b c\nd' # e\n#f\n  a='g'\n"),
            seed(5, "\0\0\0\0\x02\x08\x01%41%zz"),
            seed(7, "endpoints-3"),
            seed(7, "nodeport-local-4-sticky"),
        ];
        seeds.push(vec![6, 9, 0, 0, 0, 1, 0, 7, 0, 0, 0, 0, 1, 2]);
        seeds.push(
            [
                &[7][..],
                &[
                    36, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff,
                ],
                &[0; 8],
                &[8, 0, 1, 0, b'a', b'b', 0, 0],
            ]
            .concat(),
        );
        seeds
    },
};

fn resolver_and_users(text: &str) {
    let once = DnsConfig::parse(text);
    let again = DnsConfig::parse(&once.to_string());
    // Of a domain's dots at its end one is dropped each time.
    let dotted = once.searches.iter().any(|domain| domain.ends_with('.'));
    assert!(
        dotted || again == once,
        "{once:?} was written and reads as {again:?}"
    );
    for user in ["root", "0", "www:wheel", "4294967296", ":", "a:b:c"] {
        let _ = kubelet::runtime::user::resolve(&Default::default(), user, text, text);
    }
    let _ = kubelet::make::expand::known(text, |name| (name.len() > 2).then_some("$(x)"));
}

/// A message of a shim reads as itself.
fn shim(bytes: &[u8]) {
    let mut buffer = bytes.to_vec();
    while let Ok(Some(frame)) = Frame::cut(&mut buffer) {
        assert!(frame.body.len() < bytes.len());
        message::<protocol::Hello>(&frame);
        message::<protocol::MakeSandbox>(&frame);
        message::<protocol::Start>(&frame);
        message::<protocol::Exec>(&frame);
        message::<protocol::Containers>(&frame);
        message::<protocol::Exited>(&frame);
        message::<protocol::Failed>(&frame);
    }
}

fn message<M: Message + PartialEq + std::fmt::Debug>(frame: &Frame) {
    let Ok(message) = M::parse(&frame.body) else {
        return;
    };
    let mut again = message.frame(frame.id, 0);
    let again = Frame::cut(&mut again);
    let again = again
        .expect("what was written is a frame")
        .expect("a whole one");
    assert_eq!((again.kind, again.id), (M::KIND, frame.id));
    assert_eq!(M::parse(&again.body), Ok(message));
}
