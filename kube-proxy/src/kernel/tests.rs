//! What the kernel does with the rules: real tables in namespaces of their own.

use nix::sched::{CloneFlags, unshare};

use super::*;
use crate::elements::{Changes, Elements};
use crate::plan;
use crate::ruleset::LocalDetector;
use crate::service::tests::{endpoint, frontend, port};
use crate::service::{Frontend, Protocol};

/// Runs in a network namespace of its own, on a thread that ends with it.
pub(crate) fn in_netns<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            work()
        });
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

pub(crate) fn layout(family: Family) -> Layout {
    let pods = match family {
        Family::Ipv4 => "10.244.0.0/16",
        Family::Ipv6 => "fd00:244::/32",
    };
    let ranges = match family {
        Family::Ipv4 => "10.96.0.0/12",
        Family::Ipv6 => "fd00:96::/112",
    };
    Layout {
        family,
        masquerade_mark: 1 << 14,
        masquerade_all: false,
        pods: LocalDetector::Cidr(pods.parse().unwrap()),
        node_ports_everywhere: true,
        service_ranges: vec![ranges.parse().unwrap()],
    }
}

/// A Service with everything.
fn full(family: Family) -> Frontend {
    let v4 = family == Family::Ipv4;
    let pick = |four: &'static str, six: &'static str| if v4 { four } else { six };
    let mut web = port(pick("10.96.0.1", "fd00:96::1"), 80, Protocol::Tcp);
    web.node_port = 30_080;
    web.external_local = true;
    web.external_ips = [pick("192.0.2.80", "2001:db8::80").parse().unwrap()].into();
    web.load_balancer_ips = [pick("192.0.2.81", "2001:db8::81").parse().unwrap()].into();
    web.source_ranges = [
        pick("198.51.100.0/24", "2001:db8:1::/64").parse().unwrap(),
        pick("203.0.113.7/32", "2001:db8:2::7/128").parse().unwrap(),
    ]
    .into();
    let (a, b) = (
        pick("10.244.0.2", "fd00:244::2"),
        pick("10.244.1.2", "fd00:244:1::2"),
    );
    web.endpoints = [endpoint(a, 8080), endpoint(b, 8080)].into();
    web.endpoints[0].local = true;
    let mut sticky = port(pick("10.96.0.2", "fd00:96::2"), 443, Protocol::Tcp);
    sticky.affinity = Some(10_800);
    sticky.node_port = 30_443;
    sticky.endpoints = [endpoint(a, 8443), endpoint(b, 8443)].into();
    let mut empty = port(pick("10.96.0.3", "fd00:96::3"), 53, Protocol::Udp);
    empty.node_port = 30_053;
    frontend([web, sticky, empty])
}

fn node_ip(family: Family) -> std::net::IpAddr {
    match family {
        Family::Ipv4 => "192.0.2.1".parse().unwrap(),
        Family::Ipv6 => "2001:db8::1".parse().unwrap(),
    }
}

#[test]
fn what_is_written_is_read_back_and_needs_no_change() {
    for family in [Family::Ipv4, Family::Ipv6] {
        in_netns(|| {
            let layout = layout(family);
            let mut elements = Elements::default();
            elements.replace(&[], &plan::claims(&full(family), node_ip(family)));
            let mut kernel = Netlink::open(family).unwrap();
            assert_eq!(kernel.read(&layout).unwrap(), Found::default());
            let chains = elements.dispatches().collect();
            let periods = elements.periods();
            let changes = elements.compare(&BTreeMap::new());
            let update = Update {
                layout: &layout,
                replace: true,
                rules: true,
                chains: &chains,
                periods: Some(&periods),
                changes: &changes,
            };
            kernel.apply(&update).unwrap();
            let found = kernel.read(&layout).unwrap();
            assert!(found.intact);
            assert_eq!(found.chains, chains);
            assert_eq!(elements.compare(&found.sets), Changes::new());
            let listed = std::process::Command::new("nft")
                .args(["list", "ruleset"])
                .output()
                .unwrap();
            let text = String::from_utf8(listed.stdout).unwrap();
            if std::env::var_os("SHOW").is_some() {
                println!("{text}");
            }
            assert!(
                listed.status.success(),
                "{}",
                String::from_utf8_lossy(&listed.stderr)
            );
            assert!(text.contains("navarch-kube-proxy"), "{text}");
        });
    }
}
