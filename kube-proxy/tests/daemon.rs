//! The binary in a network of its own, with an API server: its ports, packets to a Service, and what stays
//! when it is killed, stopped, and told to clean up. Needs root and iproute2.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use component::testing::FakeApi;
use nix::sched::{CloneFlags, unshare};

#[path = "daemon/api.rs"]
mod api;

/// Nothing that is waited for takes longer, even on a loaded machine.
const LIMIT: Duration = Duration::from_secs(30);
const HEALTH: &str = "127.0.0.1:10256";
const METRICS: &str = "127.0.0.1:10249";
const SERVICE: &str = "10.96.0.7:80";
const TABLE: &str = "navarch-kube-proxy";

/// Runs in a network namespace with the node's address and the address of a pod.
fn in_network(work: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            for args in [
                "link set lo up",
                "link add d0 type veth peer name d1",
                "link set d1 up",
                "addr add 192.0.2.1/24 dev d0",
                "link set d0 up",
                "route add default via 192.0.2.2",
                "addr add 10.244.1.10/32 dev lo",
            ] {
                let done = Command::new("ip").args(args.split(' ')).status().unwrap();
                assert!(done.success(), "ip {args}");
            }
            let pod = TcpListener::bind("10.244.1.10:8080").unwrap();
            std::thread::spawn(move || {
                for mut stream in pod.incoming().flatten() {
                    let _ = stream.write_all(b"pod");
                }
            });
            work();
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// A kube-proxy that does not outlive the test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kube-proxy"));
    command.args([
        "--hostname-override=node-a",
        "--proxy-mode=nftables",
        "--cluster-cidr=10.244.0.0/16",
        "--oom-score-adj=0",
        // The machine's limits are not the test's.
        "--conntrack-max-per-core=0",
        "--bind-address-hard-fail=true",
    ]);
    command.args(args);
    command
}

fn start(master: &str, args: &[&str]) -> Daemon {
    let master = format!("--master={master}");
    let mut command = command(&[master.as_str()]);
    Daemon(command.args(args).spawn().unwrap())
}

/// Waits for what another process does.
fn until(what: &str, is: impl Fn() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < LIMIT, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn connect(to: &str) -> std::io::Result<TcpStream> {
    let to: SocketAddr = to.parse().unwrap();
    let stream = TcpStream::connect_timeout(&to, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    Ok(stream)
}

/// Whether the pod answers behind an address.
fn is_served(at: &str) -> bool {
    let mut text = String::new();
    let read = connect(at).and_then(|mut stream| stream.read_to_string(&mut text));
    read.is_ok() && text == "pod"
}

/// Status and body of an answer.
fn get(at: &str, path: &str) -> (u16, String) {
    let Ok(mut stream) = connect(at) else {
        return (0, String::new());
    };
    let request = format!("GET {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    (code, body.to_owned())
}

fn tables() -> String {
    let listed = Command::new("nft")
        .args(["list", "tables"])
        .output()
        .unwrap();
    assert!(listed.status.success());
    String::from_utf8(listed.stdout).unwrap()
}

fn routes() -> String {
    let listed = Command::new("ip").arg("route").output().unwrap();
    assert!(listed.status.success());
    String::from_utf8(listed.stdout).unwrap()
}

/// An API server, as long as the work lasts.
fn with_api(work: impl FnOnce(&str)) {
    // Its threads are in the network of the one that makes it.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let fake = runtime.block_on(async { FakeApi::plain() });
    let url = fake.url.clone();
    let serving = runtime.spawn(api::serve(fake));
    work(&url);
    serving.abort();
}

#[test]
fn its_ports_say_how_it_is_and_a_service_is_served() {
    in_network(|| {
        with_api(|url| {
            let _daemon = start(url, &["--feature-gates=ComponentFlagz=false"]);
            until("healthy", || get(HEALTH, "/healthz").0 == 200);
            assert_eq!(
                (get(METRICS, "/flagz").0, get(METRICS, "/statusz").0),
                (404, 200)
            );
            until("served", || is_served(SERVICE));
            assert!(is_served("192.0.2.1:30080"));
            let (code, body) = get(HEALTH, "/livez");
            assert_eq!(
                (code, body.contains("\"healthy\":true")),
                (200, true),
                "{body}"
            );
            assert_eq!(get(HEALTH, "/metrics").0, 404);
            assert_eq!(get(METRICS, "/proxyMode"), (200, "nftables".to_owned()));
            let (_, metrics) = get(METRICS, "/metrics");
            let healthy = "kubeproxy_proxy_healthz_total{code=\"200\"}";
            assert!(metrics.contains(healthy), "{metrics}");
            // The kernel serves before the sync that made it so has ended and been counted.
            let timed = "kubeproxy_sync_proxy_rules_duration_seconds_count";
            until("timed", || get(METRICS, "/metrics").1.contains(timed));
            let (_, config) = get(METRICS, "/configz");
            let config: serde_json::Value = serde_json::from_str(&config).unwrap();
            let config = &config["kubeproxy.config.k8s.io"];
            assert_eq!(config["kind"], "KubeProxyConfiguration");
            assert_eq!(config["clusterCIDR"], "10.244.0.0/16");
        });
    });
}

#[test]
fn packets_flow_while_it_is_dead_and_when_it_is_back_and_not_after_cleanup() {
    in_network(|| {
        with_api(|url| {
            let mut daemon = start(url, &["--pod-routes"]);
            let has_route = || routes().contains("10.244.1.0/24 via 192.0.2.2 dev d0");
            until("routed", has_route);
            until("served", || is_served(SERVICE));
            daemon.0.kill().unwrap();
            daemon.0.wait().unwrap();
            for _ in 0..20 {
                assert!(is_served(SERVICE), "the kernel needs no process");
            }
            let stop = std::sync::atomic::AtomicBool::new(false);
            std::thread::scope(|scope| {
                let client = scope.spawn(|| {
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        assert!(is_served(SERVICE), "a restart interrupts nobody");
                    }
                });
                let mut again = start(url, &[]);
                let synced = || {
                    let (_, metrics) = get(METRICS, "/metrics");
                    let last = "kubeproxy_sync_proxy_rules_last_timestamp_seconds";
                    let line = metrics.lines().find(|l| l.starts_with(last));
                    line.is_some_and(|l| !l.ends_with(" 0") && !l.ends_with(" 0.0"))
                };
                until("synced", synced);
                let pid = i32::try_from(again.0.id()).unwrap();
                let term = nix::sys::signal::Signal::SIGTERM;
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), term).unwrap();
                assert!(again.0.wait().unwrap().success());
                stop.store(true, std::sync::atomic::Ordering::Relaxed);
                client.join().unwrap();
            });
            assert!(is_served(SERVICE), "an end in order leaves the rules");
            assert!(tables().contains(TABLE) && has_route());
            assert!(command(&["--cleanup"]).status().unwrap().success());
            assert_eq!(tables(), "");
            assert!(!is_served(SERVICE) && !has_route());
        });
    });
}
