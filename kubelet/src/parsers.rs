//! Parsers that are private to this crate, as functions over bytes: for the fuzz targets and for nobody else.

use std::io::{BufReader, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::container_manager::cpus;
use crate::image::import::contents;
use crate::image::registry::{challenge, hosts};
use crate::image::tar::Archive;
use crate::logs::line;
use crate::make::env::file;
use crate::network::cni::{self, config};
use crate::network::netlink;
use crate::node::machine;
use crate::pod::source::decode::{self, Origin};
use crate::pod::users;
use crate::probe::grpc;
use crate::runtime::cgroup::{Hierarchies, usage};
use crate::server::stats::volumes;
use crate::sys::mount;

/// Schemes and how many parameters each has, of a `WWW-Authenticate` header.
#[must_use]
pub fn challenges(header: &str) -> Vec<(String, usize)> {
    let challenges = challenge::parse(header).into_iter();
    challenges.map(|c| (c.scheme, c.parameters.len())).collect()
}

/// How many hosts a `hosts.toml` names for a registry.
#[must_use]
pub fn registry_hosts(text: &str, domain: &str) -> Option<usize> {
    let hosts = hosts::parse(text, Path::new("/etc/certs.d"), domain);
    hosts.ok().map(|hosts| hosts.len())
}

/// Paths and sizes of the entries of a tar stream, as far as it can be read, and whether it ended well.
pub fn tar_entries(stream: impl Read) -> (Vec<(PathBuf, u64)>, bool) {
    let mut archive = Archive::new(BufReader::new(stream));
    let mut entries = Vec::new();
    loop {
        match archive.next_entry() {
            Ok(Some(entry)) => entries.push((contents::clean(&entry.path), entry.size)),
            Ok(None) => return (entries, true),
            Err(_) => return (entries, false),
        }
    }
}

/// Programs of a CNI configuration, if it can be used.
#[must_use]
pub fn cni_plugins(text: &[u8]) -> Option<Vec<String>> {
    let list = config::parse(text).ok()?;
    Some(
        list.plugins
            .iter()
            .map(|p| config::kind(p).to_owned())
            .collect(),
    )
}

/// A pod's addresses in the result of a CNI plugin.
#[must_use]
pub fn cni_addresses(result: &[u8]) -> Vec<IpAddr> {
    serde_json::from_slice(result)
        .map(|result| cni::addresses(&result))
        .unwrap_or_default()
}

/// Time (as it is shown) and content of a line of a log.
#[must_use]
pub fn log_line(text: &[u8]) -> Option<(String, &[u8])> {
    line::parse(text).map(|line| (line::shown(line.time), line.content))
}

/// Names of the pods in a manifest.
#[must_use]
pub fn static_pods(text: &[u8]) -> Vec<String> {
    let pods = decode::pods(text, Origin::Url("http://example.com/pods"), "node");
    let one = decode::pod(
        text,
        Origin::File("/etc/kubernetes/manifests/a.yaml"),
        "node",
    );
    let pods = pods.unwrap_or_default().into_iter().chain(one);
    pods.filter_map(|pod| pod.metadata.name).collect()
}

/// Everything that is read of files of the kernel and of the system.
pub fn system_files(text: &str) {
    let _ = (usage::cpu_v1(text, text, text), usage::cpu_v2(text));
    let _ = usage::memory_v1(text, text, text);
    let _ = usage::memory_v2(text, text, Some(1 << 30), text, text);
    let _ = usage::pressure(text);
    let _ = (machine::cores(text), machine::kilobytes(text, "MemTotal"));
    let _ = (machine::os_image(text), machine::max_pids(text, text));
    let _ = mount::mount_points(text.as_bytes()).count();
    let _ = volumes::upper_dir(text);
    let _ = Hierarchies::from_mountinfo(text);
    let _ = users::subordinate(text, "kubelet");
    let _ = cpus::parse(text);
}

/// The value of a name in a file of variables.
#[must_use]
pub fn env_file(mut text: &[u8], key: &str) -> Option<String> {
    file::find(&mut text, key).ok()
}

/// What the answer of a gRPC health check says, and its message in plain.
#[must_use]
pub fn grpc_answer(framed: &[u8], message: &str) -> (Option<u64>, String) {
    (
        grpc::serving_status(framed),
        component::client::path_decode(message),
    )
}

/// How many attributes the messages of an answer by netlink have.
#[must_use]
pub fn netlink_answer(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let Some((_, reply, rest)) = netlink::split(bytes) {
        let _ = netlink::verdict(&reply, "fuzzing");
        count += reply.attrs(16).len();
        bytes = rest;
    }
    count
}
