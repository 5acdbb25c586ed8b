//! Real namespaces, links and connections. Each test has a node of its own: a network namespace
//! that ends with it.

use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};

use super::*;
use crate::network::{HostPort, Protocol, netns};
use crate::sys::mount;

/// Runs a test on a node of its own: the test's thread and those of its runtime are in it.
pub(in crate::network) fn on_a_node<F: Future<Output = ()>>(test: impl FnOnce(Node) -> F) {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let netns = Arc::new(this_netns());
    Rtnl::open().unwrap().run(vec![rtnl::set_up(1)]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_owned();
    let enter = netns.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .on_thread_start(move || setns(enter.as_ref(), CloneFlags::CLONE_NEWNET).unwrap())
        .enable_all()
        .build()
        .unwrap();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        runtime.block_on(test(Node {
            root: root.clone(),
            netns,
        }));
    }));
    mount::unmount_under(&root).unwrap();
    result.unwrap();
}

pub(in crate::network) struct Node {
    pub(in crate::network) root: PathBuf,
    netns: Arc<OwnedFd>,
}

impl Node {
    fn bridge(&self) -> Bridge {
        Bridge::open(Config {
            spare: 2,
            ..Config::new(&self.root)
        })
        .unwrap()
    }

    pub(in crate::network) async fn ready(&self, cidrs: &[&str]) -> Bridge {
        let bridge = self.bridge();
        let cidrs = cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect();
        bridge.set_pod_cidrs(cidrs).await.unwrap();
        bridge
    }
}

fn this_netns() -> OwnedFd {
    fs::File::open("/proc/thread-self/ns/net").unwrap().into()
}

pub(in crate::network) fn pod(uid: &str) -> Pod {
    Pod {
        uid: uid.into(),
        namespace: "default".into(),
        name: uid.into(),
        ..Pod::default()
    }
}

fn tcp_port(host_port: u16, container_port: u16) -> HostPort {
    HostPort {
        protocol: Protocol::Tcp,
        host_port,
        container_port,
        host_ip: None,
    }
}

fn open(pod: &Attachment) -> OwnedFd {
    fs::File::open(&pod.netns).unwrap().into()
}

/// Runs something inside a namespace.
fn inside<T: Send>(netns: &OwnedFd, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(netns, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

fn in_pod<T: Send>(pod: &Attachment, work: impl FnOnce() -> T + Send) -> T {
    inside(&open(pod), work)
}

/// A server that answers with the address it sees. Ends with the test's process at the latest.
fn serve(netns: &OwnedFd, at: &str) {
    let listener = inside(netns, || TcpListener::bind(at).unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let seen = stream.peer_addr().unwrap().ip().to_string();
            let _ = stream.write_all(seen.as_bytes());
        }
    });
}

fn serve_in(pod: &Attachment, at: &str) {
    serve(&open(pod), at);
}

/// Connects and returns under which address the server saw us.
fn seen_by(to: &str) -> std::io::Result<String> {
    let to: SocketAddr = to.parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(2))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn pods_reach_each_other_and_the_node_under_their_own_addresses() {
    on_a_node(async |node| {
        let bridge = node.ready(&["10.244.1.0/24", "fd00:244:1::/64"]).await;
        let a = bridge.setup(pod("a")).await.unwrap();
        let b = bridge.setup(pod("b")).await.unwrap();
        let ips: Vec<_> = a.ips.iter().map(ToString::to_string).collect();
        assert_eq!(ips, ["10.244.1.2", "fd00:244:1::2"]);
        serve_in(&b, "0.0.0.0:80");
        serve_in(&b, "[fd00:244:1::3]:81");
        serve(&node.netns, "10.244.1.1:82");
        assert_eq!(
            in_pod(&a, || seen_by("10.244.1.3:80")).unwrap(),
            "10.244.1.2"
        );
        assert_eq!(
            in_pod(&a, || seen_by("[fd00:244:1::3]:81")).unwrap(),
            "fd00:244:1::2"
        );
        assert_eq!(
            in_pod(&a, || seen_by("10.244.1.1:82")).unwrap(),
            "10.244.1.2"
        );
        assert_eq!(seen_by("10.244.1.3:80").unwrap(), "10.244.1.1");
        assert_eq!(in_pod(&b, || seen_by("127.0.0.1:80")).unwrap(), "127.0.0.1");
        // Asked again, a pod keeps what it has.
        assert_eq!(bridge.setup(pod("a")).await.unwrap(), a);
    });
}

#[test]
fn a_pod_cannot_take_the_place_of_another() {
    on_a_node(async |node| {
        let bridge = node.ready(&["10.244.1.0/24"]).await;
        let a = bridge.setup(pod("a")).await.unwrap();
        let b = bridge.setup(pod("b")).await.unwrap();
        serve_in(&a, "0.0.0.0:80");
        let b_mac = mac(&b.ips);
        in_pod(&b, || {
            let mut rtnl = Rtnl::open().unwrap();
            let link = rtnl.link(POD_LINK).unwrap().unwrap();
            rtnl.run(vec![rtnl::add_address(
                link.index,
                "10.244.1.2/32".parse().unwrap(),
            )])
            .unwrap();
            // Packets and announcements with a's addresses from b's port: a bridge that learns, or
            // a node that asks around, would follow them.
            for taken in [b_mac, mac(&a.ips)] {
                rtnl.run(vec![rtnl::set_mac(link.index, taken)]).unwrap();
                let socket = UdpSocket::bind("10.244.1.2:0").unwrap();
                for _ in 0..5 {
                    socket.send_to(b"me", "10.244.1.1:9").unwrap();
                }
            }
        });
        assert_eq!(seen_by("10.244.1.2:80").unwrap(), "10.244.1.1");
        let c = bridge.setup(pod("c")).await.unwrap();
        assert_eq!(
            in_pod(&c, || seen_by("10.244.1.2:80")).unwrap(),
            "10.244.1.4"
        );
    });
}

/// Whether packets are translated inside the bridge already is the machine's decision: others rely
/// on it.
fn set_bridge_netfilter(on: bool) {
    let path = Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables");
    if path.exists() {
        fs::write(path, if on { "1" } else { "0" }).unwrap();
    }
}

#[test]
fn host_ports_lead_to_the_pod_from_everywhere_and_end_with_it() {
    for bridge_netfilter in [false, true] {
        on_a_node(async |node| {
            set_bridge_netfilter(bridge_netfilter);
            host_ports(node).await;
        });
    }
}

async fn host_ports(node: Node) {
    let bridge = node.ready(&["10.244.1.0/24"]).await;
    let port = tcp_port(8080, 80);
    let a = Pod {
        host_ports: vec![port],
        ..pod("a")
    };
    let a = bridge.setup(a).await.unwrap();
    let b = bridge.setup(pod("b")).await.unwrap();
    serve_in(&a, "0.0.0.0:80");
    assert_eq!(
        in_pod(&b, || seen_by("10.244.1.1:8080")).unwrap(),
        "10.244.1.3"
    );
    assert_eq!(seen_by("10.244.1.1:8080").unwrap(), "10.244.1.1");
    // To itself through the node: only behind the node's address does the answer come back.
    assert_eq!(
        in_pod(&a, || seen_by("10.244.1.1:8080")).unwrap(),
        "10.244.1.1"
    );
    assert_eq!(seen_by("127.0.0.1:8080").unwrap(), "10.244.1.1");
    let again = Pod {
        host_ports: vec![port],
        ..pod("c")
    };
    let taken = bridge.setup(again.clone()).await.unwrap_err();
    assert!(matches!(taken, Error::HostPort { .. }), "{taken}");
    bridge.teardown("a").await.unwrap();
    assert!(seen_by("10.244.1.1:8080").is_err());
    bridge.setup(again).await.unwrap();
}

#[test]
fn a_pod_does_not_reach_the_nodes_loopback() {
    on_a_node(async |node| {
        let bridge = node.ready(&["10.244.1.0/24"]).await;
        let a = bridge.setup(pod("a")).await.unwrap();
        serve(&node.netns, "127.0.0.1:85");
        in_pod(&a, || {
            // The pod has no loopback of its own any more and sends 127.0.0.1 to the gateway.
            for (key, value) in [("all/route_localnet", "1"), ("eth0/route_localnet", "1")] {
                fs::write(Path::new("/proc/sys/net/ipv4/conf").join(key), value).unwrap();
            }
            let mut rtnl = Rtnl::open().unwrap();
            rtnl.run(vec![rtnl::delete_address(
                1,
                "127.0.0.1/8".parse().unwrap(),
            )])
            .unwrap();
            let to = "127.0.0.0/8".parse().unwrap();
            let link = rtnl.link(POD_LINK).unwrap().unwrap();
            let route = rtnl::add_route(to, Some("10.244.1.1".parse().unwrap()), link.index);
            rtnl.run(vec![route]).unwrap();
            assert!(seen_by("127.0.0.1:85").is_err());
        });
        assert_eq!(seen_by("127.0.0.1:85").unwrap(), "127.0.0.1");
    });
}

#[test]
fn only_traffic_that_leaves_the_cluster_hides_behind_the_node() {
    on_a_node(async |node| {
        let outside = netns::create_for_test();
        let mut rtnl = Rtnl::open().unwrap();
        // A machine at the other end of a cable, with an address of another node's pods as well.
        rtnl.run(vec![rtnl::add_bridge("cable", 1400, [2, 0, 0, 0, 0, 1])])
            .unwrap();
        let cable = rtnl.link("cable").unwrap().unwrap();
        let veth = Veth {
            name: "out",
            bridge: cable.index,
            mtu: 1400,
            peer: "eth0",
            peer_netns: outside.as_fd(),
            peer_mac: [2, 0, 0, 0, 0, 9],
        };
        let net = |s: &str| s.parse::<IpNet>().unwrap();
        rtnl.run(vec![
            rtnl::add_veth(&veth),
            rtnl::add_address(cable.index, net("192.0.2.1/24")),
            rtnl::add_route(
                net("10.244.2.0/24"),
                Some("192.0.2.9".parse().unwrap()),
                cable.index,
            ),
        ])
        .unwrap();
        inside(&outside, || {
            let mut rtnl = Rtnl::open().unwrap();
            let link = rtnl.link("eth0").unwrap().unwrap();
            rtnl.run(vec![
                rtnl::set_up(link.index),
                rtnl::add_address(link.index, net("192.0.2.9/24")),
                rtnl::add_address(link.index, net("10.244.2.9/32")),
                rtnl::add_route(
                    net("10.244.1.0/24"),
                    Some("192.0.2.1".parse().unwrap()),
                    link.index,
                ),
            ])
            .unwrap();
        });
        serve(&outside, "0.0.0.0:80");
        let config = Config {
            cluster_cidrs: vec![net("10.244.0.0/16")],
            ..Config::new(&node.root)
        };
        let bridge = Bridge::open(config).unwrap();
        bridge
            .set_pod_cidrs(vec![net("10.244.1.0/24")])
            .await
            .unwrap();
        let a = bridge.setup(pod("a")).await.unwrap();
        assert_eq!(in_pod(&a, || seen_by("192.0.2.9:80")).unwrap(), "192.0.2.1");
        assert_eq!(
            in_pod(&a, || seen_by("10.244.2.9:80")).unwrap(),
            "10.244.1.2"
        );
    });
}

#[test]
fn a_new_kubelet_finds_the_pods_and_drops_those_that_are_gone() {
    on_a_node(async |node| {
        let bridge = node.ready(&["10.244.1.0/24"]).await;
        let a = bridge.setup(pod("a")).await.unwrap();
        let b = bridge.setup(pod("b")).await.unwrap();
        serve_in(&a, "0.0.0.0:80");
        drop(bridge);
        // Killed after it had pinned a namespace and before it wrote down whose.
        let stray = netns::create_for_test();
        Namespaces::open(&node.root.join("netns"), 0)
            .unwrap()
            .pin("stray", stray.as_fd())
            .unwrap();
        let bridge = node.ready(&["10.244.1.0/24"]).await;
        assert_eq!(bridge.attachment("a"), Some(a.clone()));
        bridge.reconcile(["a".to_owned()].into()).await.unwrap();
        assert_eq!(bridge.attachment("b"), None);
        assert!(!b.netns.exists() && !node.root.join("netns/stray").exists());
        assert_eq!(seen_by("10.244.1.2:80").unwrap(), "10.244.1.1");
        let c = bridge.setup(pod("c")).await.unwrap();
        assert_ne!(c.ips, a.ips);
        bridge.teardown("a").await.unwrap();
        bridge.teardown("a").await.unwrap();
        bridge.teardown("never").await.unwrap();
    });
}

#[test]
fn nothing_is_left_of_a_pod_that_could_not_be_set_up() {
    on_a_node(async |node| {
        let bridge = node.bridge();
        assert!(matches!(bridge.status(), Status::NotReady { .. }));
        assert!(bridge.setup(pod("a")).await.is_err());
        assert!(bridge.setup(pod("../evil")).await.is_err());
        let bridge = node.ready(&["10.244.1.0/29"]).await;
        assert_eq!(bridge.status(), Status::Ready);
        for uid in ["1", "2", "3", "4", "5"] {
            bridge.setup(pod(uid)).await.unwrap();
        }
        let full = bridge.setup(pod("6")).await.unwrap_err();
        assert_eq!(full.to_string(), "no address is free in 10.244.1.0/29");
        bridge.teardown("5").await.unwrap();
        bridge.setup(pod("6")).await.unwrap();
        // The bridge disappears: the error leaves neither address nor record nor namespace.
        bridge.teardown("1").await.unwrap();
        Rtnl::open()
            .unwrap()
            .run(vec![rtnl::delete_link("nvbr0")])
            .unwrap();
        assert!(bridge.setup(pod("7")).await.is_err());
        assert!(!node.root.join("pods/7.json").exists() && !node.root.join("netns/7").exists());
        bridge
            .set_pod_cidrs(vec!["10.244.1.0/29".parse().unwrap()])
            .await
            .unwrap();
        bridge.setup(pod("8")).await.unwrap();
    });
}

#[test]
fn forty_pods_are_set_up_quickly() {
    on_a_node(async |node| {
        let bridge = node.ready(&["10.244.1.0/24"]).await;
        let mut times = Vec::new();
        for n in 0..40 {
            let start = std::time::Instant::now();
            bridge.setup(pod(&n.to_string())).await.unwrap();
            times.push(start.elapsed());
        }
        times.sort();
        println!("setup: median {:?}, max {:?}", times[20], times[39]);
        let start = std::time::Instant::now();
        bridge.reconcile(BTreeSet::new()).await.unwrap();
        println!("teardown of 40: {:?}", start.elapsed());
        assert!(times[20] < Duration::from_millis(100));
    });
}
