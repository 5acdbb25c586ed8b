//! Plugins are shell scripts here that note how they were called.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::network::{HostPort, Protocol};
use crate::sys::mount;

struct Node {
    dir: tempfile::TempDir,
}

/// Notes environment and input, then answers from a file named after itself and the command.
const PLUGIN: &str = r#"#!/bin/sh
name=$(basename "$0")
log=$(dirname "$0")/log
echo "$name $CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME netns=$CNI_NETNS $CNI_ARGS" >> "$log"
cat > "$(dirname "$0")/$name.$CNI_COMMAND.in"
answer="$(dirname "$0")/$name.$CNI_COMMAND"
[ -f "$answer.fails" ] && { cat "$answer.fails"; exit 1; }
[ -f "$answer.out" ] && cat "$answer.out"
exit 0
"#;

impl Node {
    fn new(plugins: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for sub in ["bin", "net.d"] {
            fs::create_dir(dir.path().join(sub)).unwrap();
        }
        for plugin in plugins {
            let path = dir.path().join("bin").join(plugin);
            fs::write(&path, PLUGIN).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn put(&self, name: &str, value: &Value) {
        fs::write(self.path(name), value.to_string()).unwrap();
    }

    fn cni(&self) -> Cni {
        let config = Config {
            conf_dir: self.path("net.d"),
            bin_dirs: vec![self.path("nothing"), self.path("bin")],
            timeout: Duration::from_secs(10),
            ..Config::new(&self.path("state"))
        };
        Cni::open(config).unwrap()
    }

    /// The calls since the last question.
    fn calls(&self) -> Vec<String> {
        let log = self.path("bin/log");
        let text = fs::read_to_string(&log).unwrap_or_default();
        fs::write(&log, "").unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn input(&self, call: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(&format!("bin/{call}.in"))).unwrap()).unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        mount::unmount_under(self.dir.path()).unwrap();
    }
}

fn pod(uid: &str) -> Pod {
    Pod {
        uid: uid.into(),
        namespace: "ns".into(),
        name: "web".into(),
        ..Pod::default()
    }
}

fn chain() -> Value {
    json!({
        "cniVersion": "1.0.0", "name": "net",
        "plugins": [
            { "type": "main", "ipam": { "type": "host-local" } },
            { "type": "ports", "capabilities": { "portMappings": true } },
        ],
    })
}

fn result(address: &str) -> Value {
    json!({
        "cniVersion": "1.0.0",
        "interfaces": [
            { "name": "veth1" },
            { "name": "eth0", "sandbox": "/x" },
            { "name": "eth1", "sandbox": "/x" },
        ],
        "ips": [
            { "address": "192.0.2.1/24", "interface": 0 },
            { "address": address, "interface": 1 },
            { "address": "192.0.2.2/24", "interface": 2 },
        ],
    })
}

#[tokio::test]
async fn a_chain_is_run_forwards_and_backwards_with_what_went_before() {
    let node = Node::new(&["main", "ports"]);
    node.put("net.d/10-net.conflist", &chain());
    node.put("bin/main.ADD.out", &result("10.1.0.5/24"));
    node.put("bin/ports.ADD.out", &result("10.1.0.6/24"));
    let cni = node.cni();
    let port = HostPort {
        protocol: Protocol::Tcp,
        host_port: 8080,
        container_port: 80,
        host_ip: None,
    };
    let pod = Pod {
        host_ports: vec![port],
        ..pod("u1")
    };
    let got = cni.setup(pod.clone()).await.unwrap();
    assert_eq!(got.ips, ["10.1.0.6".parse::<IpAddr>().unwrap()]);
    assert!(mount::is_mount_point(&got.netns).unwrap());
    let netns = got.netns.display();
    let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=web;\
                K8S_POD_INFRA_CONTAINER_ID=u1;K8S_POD_UID=u1";
    let call = |plugin, command| format!("{plugin} {command} u1 eth0 netns={netns} {args}");
    assert_eq!(node.calls(), [call("main", "ADD"), call("ports", "ADD")]);
    let main = node.input("main.ADD");
    assert_eq!(
        (&main["name"], &main["cniVersion"]),
        (&json!("net"), &json!("1.0.0"))
    );
    assert!(main.get("prevResult").is_none() && main.get("runtimeConfig").is_none());
    let ports = node.input("ports.ADD");
    assert_eq!(ports["prevResult"], result("10.1.0.5/24"));
    assert_eq!(ports["runtimeConfig"]["portMappings"][0]["hostPort"], 8080);
    assert_eq!(ports["runtimeConfig"]["portMappings"][0]["protocol"], "tcp");
    assert!(ports.get("capabilities").is_none());
    // Asked again it keeps what it has.
    assert_eq!(cni.setup(pod).await.unwrap(), got);
    assert!(node.calls().is_empty());

    // Another kubelet, another configuration: the pod goes by the one it came by.
    fs::remove_file(node.path("net.d/10-net.conflist")).unwrap();
    drop(cni);
    let cni = node.cni();
    assert_eq!(cni.attachment("u1"), Some(got.clone()));
    assert!(matches!(cni.status(), Status::NotReady { .. }));
    cni.teardown("u1").await.unwrap();
    assert_eq!(node.calls(), [call("ports", "DEL"), call("main", "DEL")]);
    assert_eq!(node.input("main.DEL")["prevResult"], result("10.1.0.6/24"));
    assert!(!got.netns.exists());
    cni.teardown("u1").await.unwrap();
    assert!(node.calls().is_empty());
}

#[tokio::test]
async fn a_failed_plugin_is_quoted_and_the_chain_undone() {
    let node = Node::new(&["main", "ports"]);
    node.put("net.d/10-net.conflist", &chain());
    node.put("bin/main.ADD.out", &result("10.1.0.5/24"));
    node.put(
        "bin/ports.ADD.fails",
        &json!({ "code": 7, "msg": "no", "details": "port taken" }),
    );
    let cni = node.cni();
    let err = cni.setup(pod("u1")).await.unwrap_err();
    assert_eq!(
        err.to_string(),
        r#"plugin type="ports" name="net" failed (ADD): no; port taken"#
    );
    let calls: Vec<_> = node.calls();
    let commands: Vec<_> = calls
        .iter()
        .map(|c| c.rsplitn(5, ' ').last().unwrap())
        .collect();
    assert_eq!(commands, ["main ADD", "ports ADD", "ports DEL", "main DEL"]);
    assert_eq!(cni.attachment("u1"), None);
    assert!(!node.path("state/netns/u1").exists());
    // A plugin that fails to delete keeps the pod on the list.
    node.put("bin/main.DEL.fails", &json!({ "msg": "busy" }));
    cni.setup(pod("u1")).await.unwrap_err();
    assert!(cni.has("u1"));
    fs::remove_file(node.path("bin/main.DEL.fails")).unwrap();
    cni.reconcile(BTreeSet::new()).await.unwrap();
    assert!(!cni.has("u1"));
}

#[tokio::test]
async fn configurations_are_taken_in_order_and_as_they_come() {
    let node = Node::new(&["main"]);
    let cni = node.cni();
    assert!(!cni.is_configured());
    let err = cni.setup(pod("u1")).await.unwrap_err();
    assert!(
        err.to_string().starts_with("cni config uninitialized"),
        "{err}"
    );
    let appear = async {
        node.put(
            "net.d/20-single.conf",
            &json!({ "name": "single", "type": "main" }),
        );
        while !cni.is_configured() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        ended = cni.watch() => panic!("{ended:?}"),
        () = appear => {}
    }
    fs::write(node.path("net.d/10-broken.conflist"), "{").unwrap();
    node.put(
        "net.d/11-path.conf",
        &json!({ "name": "x", "type": "../../bin/sh" }),
    );
    fs::write(node.path("net.d/00-readme.txt"), "").unwrap();
    let cni = node.cni();
    // The oldest form of a result.
    node.put(
        "bin/main.ADD.out",
        &json!({ "ip4": { "ip": "10.2.0.7/16" } }),
    );
    let got = cni.setup(pod("u1")).await.unwrap();
    assert_eq!(got.ips, ["10.2.0.7".parse::<IpAddr>().unwrap()]);
    assert_eq!(node.input("main.ADD")["cniVersion"], "0.1.0");
    cni.teardown("u1").await.unwrap();
    assert!(node.input("main.DEL").get("prevResult").is_none());
    fs::remove_file(node.path("bin/main")).unwrap();
    let err = cni.setup(pod("u2")).await.unwrap_err();
    assert!(
        err.to_string()
            .starts_with("failed to find plugin \"main\" in path"),
        "{err}"
    );
}

#[tokio::test]
async fn a_plugin_that_hangs_is_ended() {
    let node = Node::new(&[]);
    node.put("net.d/10.conf", &json!({ "name": "n", "type": "main" }));
    let path = node.path("bin/main");
    fs::write(
        &path,
        "#!/bin/sh\n[ \"$CNI_COMMAND\" = DEL ] || exec sleep 1000\n",
    )
    .unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    let mut config = Config::new(&node.path("state"));
    config.conf_dir = node.path("net.d");
    config.bin_dirs = vec![node.path("bin")];
    config.timeout = Duration::from_millis(200);
    let cni = Cni::open(config).unwrap();
    let err = cni.setup(pod("u1")).await.unwrap_err();
    assert!(err.to_string().contains("it did not end in 200ms"), "{err}");
}
