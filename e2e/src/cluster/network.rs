//! The wires between the nodes: a switch in a network namespace of its own, a veth to this machine and one to each node.
//!
//! The switch stands apart so that no firewall rule of this machine sees frames between nodes (with `br_netfilter` loaded
//! they would pass the host's FORWARD chain), and so that deleting two names deletes it all.
//!
//! ```text
//! this machine --navarch0-- [switch: br0] --node-1-- [node-1: eth0]
//!                                         --node-2-- [node-2: eth0]
//! ```

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;

use super::number::{MAX_API_SERVERS, Number};
use crate::command::{self, run, run_with_input};

/// The network namespace of a node.
pub(super) fn node_namespace(number: Number, node: &str) -> String {
    format!("{}-{node}", number.name())
}

/// Where `ip netns` pins a namespace.
pub(super) fn namespace_path(namespace: &str) -> PathBuf {
    Path::new("/run/netns").join(namespace)
}

/// Networks that this machine has a route to, the default route apart.
pub(super) fn routed() -> Result<Vec<Ipv4Net>, command::Error> {
    let routes = run("ip", &["-4", "route", "show", "table", "all"])?;
    let network = |line: &str| {
        line.split_whitespace()
            .next()
            .and_then(|net| net.parse().ok())
    };
    Ok(routes.lines().filter_map(network).collect())
}

/// Makes the switch if it does not stand yet.
pub(super) fn ensure_switch(number: Number) -> Result<(), command::Error> {
    let name = number.name();
    if namespace_path(&name).exists() {
        return Ok(());
    }
    // The first is the one that this machine speaks from.
    let own = std::iter::once(number.gateway());
    let addresses: String = own
        .chain((0..MAX_API_SERVERS).map(|index| number.api_server(index)))
        .map(|address| Ipv4Net::new_assert(address, number.node_network().prefix_len()))
        .map(|address| format!("address add {address} dev {name}\n"))
        .collect();
    let made = batch(
        None,
        &format!(
            "netns add {name}\n\
             link add {name} type veth peer name uplink netns {name}\n\
             {addresses}\
             link set {name} up\n"
        ),
    )
    .and_then(|()| {
        let commands = "link add br0 type bridge\nlink set br0 up\nlink set uplink master br0 up\n";
        batch(Some(&name), commands)
    });
    made.inspect_err(|_| remove(number))
}

/// Makes a node's namespace with its interface if it does not stand yet.
pub(super) fn ensure_node(
    number: Number,
    node: &str,
    address: Ipv4Addr,
) -> Result<(), command::Error> {
    let (switch, namespace) = (number.name(), node_namespace(number, node));
    if namespace_path(&namespace).exists() {
        return Ok(());
    }
    let gateway = number.gateway();
    let address = Ipv4Net::new_assert(address, number.node_network().prefix_len());
    batch(
        None,
        &format!(
            "netns add {namespace}\n\
             link add eth0 netns {namespace} type veth peer name {node} netns {switch}\n"
        ),
    )
    .and_then(|()| batch(Some(&switch), &format!("link set {node} master br0 up\n")))
    .and_then(|()| {
        let commands = format!(
            "link set lo up\naddress add {address} dev eth0\nlink set eth0 up\nroute add default via {gateway}\n"
        );
        batch(Some(&namespace), &commands)
    })
    .inspect_err(|_| remove_node(number, node))
}

/// Unplugs a node, as a pulled cable or a lost switch port does; `false` plugs it in again.
pub(super) fn unplug(number: Number, node: &str, unplugged: bool) -> Result<(), command::Error> {
    let state = if unplugged { "down" } else { "up" };
    batch(Some(&number.name()), &format!("link set {node} {state}\n"))
}

/// Leads packets for `pods` to `via`: on this machine, or on a node when its namespace is given.
pub(super) fn route(
    namespace: Option<&str>,
    pods: Ipv4Net,
    via: Ipv4Addr,
) -> Result<(), command::Error> {
    batch(namespace, &format!("route replace {pods} via {via}\n"))
}

/// Removes an interface of a node: a pod network's bridge that another one takes the place of.
pub(super) fn remove_link(number: Number, node: &str, link: &str) {
    // Most nodes have none of that name.
    let _ = batch(
        Some(&node_namespace(number, node)),
        &format!("link delete {link}\n"),
    );
}

/// Removes a node's namespace; its interface goes with it, whatever state it is in.
pub(super) fn remove_node(number: Number, node: &str) {
    // Not there is what is wanted. A name that stays is seen by the caller's own check.
    let _ = run("ip", &["netns", "delete", &node_namespace(number, node)]);
}

/// Removes everything that carries the cluster's name.
pub(super) fn remove(number: Number) {
    let switch = number.name();
    for namespace in namespaces(number) {
        let _ = run("ip", &["netns", "delete", &namespace]);
    }
    let _ = run("ip", &["link", "delete", &switch]);
}

/// The cluster's network namespaces that stand.
pub(super) fn namespaces(number: Number) -> Vec<String> {
    let (switch, nodes) = (number.name(), format!("{}-", number.name()));
    let Ok(entries) = std::fs::read_dir("/run/netns") else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names
        .filter(|name| *name == switch || name.starts_with(&nodes))
        .collect()
}

/// Runs lines of `ip` commands, in a namespace if one is given, up to the first that fails.
fn batch(namespace: Option<&str>, commands: &str) -> Result<(), command::Error> {
    let mut args = namespace.map_or_else(Vec::new, |namespace| vec!["-n", namespace]);
    args.extend(["-batch", "-"]);
    run_with_input("ip", &args, commands).map(drop)
}
