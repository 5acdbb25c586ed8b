//! Packets through the rules, in network namespaces: a client, the node, and its pods.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use super::*;
use crate::conntrack::{self, Allowed};
use crate::kernel::Netlink;
use crate::kernel::tests::{in_netns, layout};
use crate::nft::Family;
use crate::service::Protocol;
use crate::service::tests::{endpoint, frontend, port};

const PODS: [&str; 2] = ["10.244.0.10", "10.244.0.11"];
const NODE: &str = "192.0.2.1";
const CLUSTER_IP: &str = "10.96.0.7";

/// `c0` of the client and `s0` of the pods lead to the node.
struct World {
    name: String,
}

impl Drop for World {
    fn drop(&mut self) {
        for host in ["cli", "node", "pods"] {
            let _ = Command::new("ip")
                .args(["netns", "del", &self.netns(host)])
                .status();
        }
    }
}

impl World {
    fn new(name: &str) -> Self {
        let world = Self {
            name: format!("kp{}{name}", std::process::id()),
        };
        for host in ["cli", "node", "pods"] {
            world.ip(&format!("netns add {}", world.netns(host)));
        }
        let (cli, node, pods) = (world.netns("cli"), world.netns("node"), world.netns("pods"));
        world.ip(&format!(
            "link add c0 netns {cli} type veth peer name n0 netns {node}"
        ));
        world.ip(&format!(
            "link add s0 netns {pods} type veth peer name n1 netns {node}"
        ));
        for (netns, address, link) in [
            (&cli, "192.0.2.2/24", "c0"),
            (&node, "192.0.2.1/24", "n0"),
            (&node, "10.244.255.1/16", "n1"),
            (&pods, "10.244.0.10/16", "s0"),
            (&pods, "10.244.0.11/16", "s0"),
        ] {
            world.ip(&format!("-n {netns} addr add {address} dev {link}"));
            world.ip(&format!("-n {netns} link set {link} up"));
            world.ip(&format!("-n {netns} link set lo up"));
        }
        world.ip(&format!("-n {cli} route add default via 192.0.2.1"));
        // Cluster IPs need a route to be refused or translated.
        world.ip(&format!("-n {node} route add default via 192.0.2.2"));
        world.ip(&format!("-n {pods} route add default via 10.244.255.1"));
        world.at("node", || {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
            // Packets of a pod to itself go out where they came in; nobody shall be told a shorter way.
            std::fs::write("/proc/sys/net/ipv4/conf/all/send_redirects", "0").unwrap();
            for link in ["n0", "n1"] {
                let path = format!("/proc/sys/net/ipv4/conf/{link}/send_redirects");
                std::fs::write(path, "0").unwrap();
            }
        });
        world.at("pods", || {
            for pod in PODS {
                serve_tcp(TcpListener::bind((pod, 8080)).unwrap());
                serve_udp(UdpSocket::bind((pod, 5353)).unwrap());
            }
        });
        world
    }

    fn netns(&self, host: &str) -> String {
        format!("{}-{host}", self.name)
    }

    fn ip(&self, args: &str) {
        let status = Command::new("ip").args(args.split(' ')).status().unwrap();
        assert!(status.success(), "ip {args}");
    }

    /// Does something in a host's network.
    fn at<T: Send>(&self, host: &str, work: impl FnOnce() -> T + Send) -> T {
        let netns = std::fs::File::open(format!("/run/netns/{}", self.netns(host))).unwrap();
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                nix::sched::setns(&netns, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// kube-proxy of the node, as it starts.
    fn proxier(&self) -> Proxier<Netlink> {
        let kernel = self.at("node", || Netlink::open(Family::Ipv4)).unwrap();
        Proxier::new(kernel, layout(Family::Ipv4), NODE.parse().unwrap())
    }

    fn get(&self, host: &str, to: &str) -> std::io::Result<(String, IpAddr)> {
        self.at(host, || get(None, to))
    }

    /// Who answers `n` connections.
    fn answers(&self, host: &str, to: &str, n: usize) -> BTreeSet<String> {
        let ask = || (0..n).map(|_| get(None, to).unwrap().0).collect();
        self.at(host, ask)
    }
}

/// Answers each connection with its own address and the client's.
fn serve_tcp(listener: TcpListener) {
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let (own, peer) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
            let _ = stream.write_all(format!("{} {}", own.ip(), peer.ip()).as_bytes());
        }
    });
}

fn serve_udp(socket: UdpSocket) {
    std::thread::spawn(move || {
        let own = socket.local_addr().unwrap().ip().to_string();
        let mut buffer = [0; 64];
        while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(own.as_bytes(), peer);
        }
    });
}

/// Who answers, and whom it sees as its client.
fn get(from: Option<&str>, to: &str) -> std::io::Result<(String, IpAddr)> {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    if let Some(from) = from {
        socket.bind(&SocketAddr::new(from.parse().unwrap(), 0).into())?;
    }
    let to: SocketAddr = to.parse().unwrap();
    socket.connect_timeout(&to.into(), Duration::from_secs(2))?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (who, client) = text.split_once(' ').unwrap();
    Ok((who.to_owned(), client.parse().unwrap()))
}

fn pods(port: u16) -> Box<[crate::service::Endpoint]> {
    PODS.iter()
        .map(|pod| crate::service::Endpoint {
            local: true,
            ..endpoint(pod, port)
        })
        .collect()
}

fn web() -> crate::service::ServicePort {
    let mut web = port(CLUSTER_IP, 80, Protocol::Tcp);
    web.node_port = 30_080;
    web.endpoints = pods(8080);
    web
}

fn key() -> Key {
    Key::new("default", "web")
}

#[test]
fn connections_to_a_service_reach_all_its_endpoints() {
    let world = World::new("a");
    let mut proxier = world.proxier();
    proxier.set(&key(), Some(frontend([web()])));
    proxier.sync().unwrap();
    let both = BTreeSet::from(PODS.map(str::to_owned));
    assert_eq!(world.answers("cli", "10.96.0.7:80", 40), both);
    assert_eq!(world.answers("cli", "192.0.2.1:30080", 40), both);
    assert_eq!(world.answers("node", "10.96.0.7:80", 40), both);
    assert_eq!(world.answers("node", "192.0.2.1:30080", 40), both);
    // Sources from outside the cluster are hidden, pods' are not.
    let (_, seen) = world.get("cli", "10.96.0.7:80").unwrap();
    assert_eq!(seen, "10.244.255.1".parse::<IpAddr>().unwrap());
}

#[test]
fn a_pod_reaches_itself_through_its_service() {
    let world = World::new("b");
    let mut proxier = world.proxier();
    let mut web = web();
    web.endpoints = pods(8080)[..1].into();
    proxier.set(&key(), Some(frontend([web])));
    proxier.sync().unwrap();
    let (who, seen) = world
        .at("pods", || get(Some(PODS[0]), "10.96.0.7:80"))
        .unwrap();
    assert_eq!(
        (who.as_str(), seen),
        (PODS[0], "10.244.255.1".parse().unwrap())
    );
}

#[test]
fn what_nobody_serves_is_refused() {
    let world = World::new("c");
    let mut proxier = world.proxier();
    let mut web = web();
    web.endpoints = Box::default();
    proxier.set(&key(), Some(frontend([web])));
    proxier.sync().unwrap();
    for to in ["10.96.0.7:80", "192.0.2.1:30080", "10.96.0.7:81"] {
        for host in ["cli", "node"] {
            let err = world.get(host, to).unwrap_err();
            assert_eq!(err.kind(), ErrorKind::ConnectionRefused, "{host} {to}");
        }
    }
    // A cluster IP that nobody has is not answered at all.
    assert_eq!(
        world.get("cli", "10.96.0.8:80").unwrap_err().kind(),
        ErrorKind::TimedOut
    );
}

#[test]
fn the_policy_local_keeps_sources_and_drops_what_has_no_local_endpoint() {
    let world = World::new("d");
    let mut proxier = world.proxier();
    let mut web = web();
    web.external_local = true;
    web.endpoints[1].local = false;
    proxier.set(&key(), Some(frontend([web.clone()])));
    proxier.sync().unwrap();
    let only = BTreeSet::from([PODS[0].to_owned()]);
    assert_eq!(world.answers("cli", "192.0.2.1:30080", 20), only);
    let (_, seen) = world.get("cli", "192.0.2.1:30080").unwrap();
    assert_eq!(seen, "192.0.2.2".parse::<IpAddr>().unwrap());
    web.endpoints[0].local = false;
    proxier.set(&key(), Some(frontend([web])));
    proxier.sync().unwrap();
    assert_eq!(
        world.get("cli", "192.0.2.1:30080").unwrap_err().kind(),
        ErrorKind::TimedOut
    );
    // The node itself is not held to it.
    assert_eq!(world.answers("node", "192.0.2.1:30080", 40).len(), 2);
}

#[test]
fn load_balancers_guard_their_addresses() {
    let world = World::new("e");
    let mut proxier = world.proxier();
    let mut web = web();
    web.load_balancer_ips = ["203.0.113.9".parse().unwrap()].into();
    web.source_ranges = [
        "192.0.2.128/25".parse().unwrap(),
        "198.51.100.0/24".parse().unwrap(),
    ]
    .into();
    proxier.set(&key(), Some(frontend([web.clone()])));
    proxier.sync().unwrap();
    let err = world.get("cli", "203.0.113.9:80").unwrap_err();
    assert_eq!(err.kind(), ErrorKind::TimedOut);
    web.source_ranges = ["192.0.2.0/25".parse().unwrap()].into();
    proxier.set(&key(), Some(frontend([web])));
    proxier.sync().unwrap();
    world.get("cli", "203.0.113.9:80").unwrap();
}

#[test]
fn a_client_of_a_sticky_service_stays_until_its_endpoint_goes() {
    let world = World::new("f");
    let mut proxier = world.proxier();
    let mut web = web();
    web.affinity = Some(60);
    proxier.set(&key(), Some(frontend([web.clone()])));
    proxier.sync().unwrap();
    for to in ["10.96.0.7:80", "192.0.2.1:30080"] {
        let first = world.answers("cli", to, 30);
        assert_eq!(first.len(), 1, "{to}");
        let gone = PODS.iter().position(|pod| first.contains(*pod)).unwrap();
        let mut less = web.clone();
        let left = PODS[1 - gone].to_owned();
        less.endpoints = pods(8080)
            .into_iter()
            .filter(|e| e.ip.to_string() == left)
            .collect();
        proxier.set(&key(), Some(frontend([less])));
        proxier.sync().unwrap();
        assert_eq!(world.answers("cli", to, 10), BTreeSet::from([left.clone()]));
        // It stays with the new one when the old one is back, and over a restart.
        proxier.set(&key(), Some(frontend([web.clone()])));
        proxier.sync().unwrap();
        assert_eq!(world.answers("cli", to, 20), BTreeSet::from([left.clone()]));
        proxier = world.proxier();
        proxier.set(&key(), Some(frontend([web.clone()])));
        proxier.sync().unwrap();
        assert_eq!(world.answers("cli", to, 20), BTreeSet::from([left]));
    }
}

#[test]
fn a_udp_flow_leaves_an_endpoint_that_is_gone() {
    let world = World::new("g");
    let mut proxier = world.proxier();
    let mut dns = port(CLUSTER_IP, 53, Protocol::Udp);
    dns.endpoints = pods(5353);
    proxier.set(&key(), Some(frontend([dns.clone()])));
    assert!(proxier.sync().unwrap().udp);
    let client = world.at("cli", || {
        let client = UdpSocket::bind("192.0.2.2:4000").unwrap();
        client.connect((CLUSTER_IP, 53)).unwrap();
        client
            .set_read_timeout(Some(Duration::from_secs(2)))
            .unwrap();
        client
    });
    let ask = || {
        client.send(b"?").unwrap();
        let mut buffer = [0; 64];
        let n = client.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..n].to_vec()).unwrap()
    };
    let first = ask();
    assert_eq!(ask(), first, "a flow stays where it is");
    dns.endpoints = pods(5353)
        .into_iter()
        .filter(|e| e.ip.to_string() != first)
        .collect();
    proxier.set(&key(), Some(frontend([dns])));
    assert!(proxier.sync().unwrap().udp);
    let allowed = Allowed::of(proxier.frontends().values());
    let ended = world
        .at("node", || conntrack::clean(Family::Ipv4, &allowed))
        .unwrap();
    assert_eq!(ended, 1);
    assert_ne!(ask(), first);
}

#[test]
fn a_restart_and_a_lost_table_interrupt_nobody_for_long() {
    let world = World::new("h");
    let mut proxier = world.proxier();
    proxier.set(&key(), Some(frontend([web()])));
    proxier.sync().unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            world.at("cli", || {
                let mut served = 0;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    get(None, "10.96.0.7:80").unwrap();
                    served += 1;
                }
                served
            })
        });
        for round in 0..20 {
            let mut proxier = world.proxier();
            proxier.set(&key(), Some(frontend([web()])));
            let other = Key::new("default", &format!("other-{round}"));
            proxier.set(
                &other,
                Some(frontend([port("10.96.0.9", 80, Protocol::Tcp)])),
            );
            assert!(proxier.sync().unwrap().full);
            std::thread::sleep(Duration::from_millis(10));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(client.join().unwrap() > 20);
    });
    // Somebody flushes the ruleset: the next change makes all of it again.
    world
        .at("node", || {
            Command::new("nft").args(["flush", "ruleset"]).status()
        })
        .unwrap();
    assert!(world.get("cli", "10.96.0.7:80").is_err());
    let mut proxier = world.proxier();
    proxier.set(&key(), Some(frontend([web()])));
    proxier.sync().unwrap();
    world
        .at("node", || {
            Command::new("nft").args(["flush", "ruleset"]).status()
        })
        .unwrap();
    let other = Key::new("default", "other");
    proxier.set(
        &other,
        Some(frontend([port("10.96.0.9", 80, Protocol::Tcp)])),
    );
    assert!(proxier.sync().unwrap().full);
    world.get("cli", "10.96.0.7:80").unwrap();
}

#[test]
fn taking_over_removes_upstreams_table_and_cleanup_ours() {
    in_netns(|| {
        for table in ["kube-proxy", "other"] {
            let added = Command::new("nft")
                .args(["add", "table", "ip", table])
                .status()
                .unwrap();
            assert!(added.success());
        }
        let tables = || {
            let listed = Command::new("nft")
                .args(["list", "tables"])
                .output()
                .unwrap();
            String::from_utf8(listed.stdout).unwrap()
        };
        let kernel = Netlink::open(Family::Ipv4).unwrap();
        let iptables = "table ip nat {\nchain KUBE-SVC-X { return\n}\nchain KUBE-SERVICES { jump KUBE-SVC-X\n}\nchain KUBE-KUBELET-CANARY {\n}\nchain OUTPUT { jump KUBE-SERVICES\nreturn\n}\n}\n";
        let file = std::env::temp_dir().join(format!("iptables-{}.nft", std::process::id()));
        std::fs::write(&file, iptables).unwrap();
        let loaded = Command::new("nft").arg("-f").arg(&file).status().unwrap();
        std::fs::remove_file(&file).unwrap();
        assert!(loaded.success());
        let mut proxier = Proxier::new(kernel, layout(Family::Ipv4), NODE.parse().unwrap());
        proxier.sync().unwrap();
        let left = Command::new("nft")
            .args(["list", "table", "ip", "nat"])
            .output()
            .unwrap();
        let left: String = String::from_utf8(left.stdout)
            .unwrap()
            .split_whitespace()
            .collect();
        assert_eq!(
            left,
            "tableipnat{chainKUBE-KUBELET-CANARY{}chainOUTPUT{return}}"
        );
        let deleted = Command::new("nft")
            .args(["delete", "table", "ip", "nat"])
            .status()
            .unwrap();
        assert!(deleted.success());
        assert_eq!(tables(), "table ip other\ntable ip navarch-kube-proxy\n");
        Netlink::open(Family::Ipv4).unwrap().cleanup().unwrap();
        assert_eq!(tables(), "table ip other\n");
    });
}

/// Sizes in `KUBE_PROXY_SERVICES`, separated by commas; figures, of processor time, are printed with
/// `--nocapture`.
#[test]
fn many_services_are_written_changed_and_found_again_by_a_restart() {
    let sizes = std::env::var("KUBE_PROXY_SERVICES").unwrap_or_else(|_| "1000".to_owned());
    for size in sizes.split(',').map(|size| size.parse::<u32>().unwrap()) {
        in_netns(|| scale(size));
    }
}

/// What this thread has run, whatever else the machine does.
fn cpu() -> Duration {
    // The kernel counts when a thread gives way.
    std::thread::yield_now();
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

fn scale(size: u32) {
    let service = |n: u32| {
        let ip = std::net::Ipv4Addr::from(0x0a60_0000 + n).to_string();
        let mut port = port(&ip, 80, Protocol::Tcp);
        let pod = |k: u32| {
            endpoint(
                &std::net::Ipv4Addr::from(0x0af4_0000 + 2 * n + k).to_string(),
                8080,
            )
        };
        port.endpoints = [pod(0), pod(1)].into();
        (Key::new("default", &format!("svc-{n}")), frontend([port]))
    };
    let start = |services: &[(Key, Frontend)]| {
        let kernel = Netlink::open(Family::Ipv4).unwrap();
        let mut proxier = Proxier::new(kernel, layout(Family::Ipv4), NODE.parse().unwrap());
        let began = cpu();
        for (key, frontend) in services {
            proxier.set(key, Some(frontend.clone()));
        }
        let planned = cpu().saturating_sub(began);
        proxier.sync().unwrap();
        (proxier, planned, cpu().saturating_sub(began))
    };
    let services: Vec<_> = (1..=size).map(service).collect();
    let (mut proxier, planned, full) = start(&services);
    let mut times = Vec::new();
    for n in size + 1..=size + 30 {
        let (key, frontend) = service(n);
        let began = cpu();
        proxier.set(&key, Some(frontend));
        assert!(!proxier.sync().unwrap().full);
        times.push(cpu().saturating_sub(began));
    }
    times.sort_unstable();
    let mut gone = Vec::new();
    for n in size + 1..=size + 30 {
        let began = cpu();
        proxier.set(&service(n).0, None);
        proxier.sync().unwrap();
        gone.push(cpu().saturating_sub(began));
    }
    gone.sort_unstable();
    let (mut restarted, _, restart) = start(&services);
    let found = restarted.kernel.read(&restarted.layout).unwrap();
    assert_eq!(restarted.elements.compare(&found.sets), Changes::new());
    println!(
        "{size} services: all {full:?} (planning {planned:?}), one more {:?} (worst {:?}), one less {:?}, restart {restart:?}",
        times[15], times[29], gone[15],
    );
}
