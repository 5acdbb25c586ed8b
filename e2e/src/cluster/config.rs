//! Configuration files of a node's daemons.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ipnet::Ipv4Net;

use super::daemon::{NodeSite, Site};
use super::number::DNS_SERVICE;
use super::start::CNI_BRIDGE;

/// Where upstream's kubelet finds containerd; ours needs none.
const CONTAINERD: &str = "unix:///run/containerd/containerd.sock";

/// Writes what the daemons of `node` read. `containerd` says whether the node's kubelet is upstream's.
pub(super) fn write(site: &Site<'_>, node: &NodeSite<'_>, containerd: bool) -> io::Result<()> {
    write_if_changed(
        &site.config(node, "kubelet.yaml"),
        &kubelet(site, node, containerd),
    )?;
    write_if_changed(
        &site.config(node, "kube-proxy.yaml"),
        &kube_proxy(site, node),
    )?;
    // Nameserver of pods with `dnsPolicy: Default`. Nobody answers there, which fails faster than silence.
    let resolv = format!("nameserver {}\noptions ndots:1\n", site.number.gateway());
    write_if_changed(&site.config(node, "resolv.conf"), &resolv)?;
    if containerd {
        write_if_changed(
            &site.config(node, "containerd.toml"),
            &containerd_config(site, node),
        )?;
    }
    fs::create_dir_all(site.config(node, "manifests"))?;
    fs::create_dir_all(site.config(node, "cni"))
}

/// Tells containerd how to connect pods; it waits for this file.
pub(super) fn write_cni(site: &Site<'_>, node: &NodeSite<'_>, pods: Ipv4Net) -> io::Result<()> {
    let text = format!(
        r#"{{"cniVersion": "1.0.0", "name": "navarch", "plugins": [
  {{"type": "bridge", "bridge": "{CNI_BRIDGE}", "isGateway": true, "ipMasq": false, "hairpinMode": true,
    "ipam": {{"type": "host-local", "ranges": [[{{"subnet": "{pods}"}}]], "routes": [{{"dst": "0.0.0.0/0"}}]}}}},
  {{"type": "portmap", "capabilities": {{"portMappings": true}}}}
]}}
"#
    );
    write_if_changed(&site.config(node, "cni").join("10-navarch.conflist"), &text)
}

fn kubelet(site: &Site<'_>, node: &NodeSite<'_>, containerd: bool) -> String {
    let server = format!("{}-server", node.name);
    let runtime = if containerd {
        format!("containerRuntimeEndpoint: {CONTAINERD}\n")
    } else {
        String::new()
    };
    format!(
        "\
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {{enabled: false}}
  webhook: {{enabled: true}}
  x509: {{clientCAFile: {ca}}}
authorization: {{mode: Webhook}}
tlsCertFile: {cert}
tlsPrivateKeyFile: {key}
clusterDNS: [{DNS_SERVICE}]
clusterDomain: cluster.local
cgroupDriver: cgroupfs
cgroupRoot: /{cgroup}
failCgroupV1: false
{runtime}resolvConf: {resolv}
staticPodPath: {manifests}
serializeImagePulls: false
# Images of a local cluster come from archives; what is collected would be gone.
imageGCHighThresholdPercent: 100
evictionHard: {{memory.available: 200Mi, nodefs.available: 2%, imagefs.available: 2%, nodefs.inodesFree: 1%}}
",
        ca = site.pki.cert("ca").display(),
        cert = site.pki.cert(&server).display(),
        key = site.pki.key(&server).display(),
        cgroup = super::host_cgroup(site.number, node.name).display(),
        resolv = site.config(node, "resolv.conf").display(),
        manifests = site.config(node, "manifests").display(),
    )
}

fn kube_proxy(site: &Site<'_>, node: &NodeSite<'_>) -> String {
    format!(
        "\
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {{kubeconfig: {kubeconfig}}}
clusterCIDR: {pods}
hostnameOverride: {name}
healthzBindAddress: {address}:10256
# The connection table's size belongs to the whole machine.
conntrack: {{maxPerCore: 0, min: 0}}
",
        kubeconfig = site.pki.kubeconfig("kube-proxy").display(),
        pods = site.number.pod_network(),
        name = node.name,
        address = node.address,
    )
}

fn containerd_config(site: &Site<'_>, node: &NodeSite<'_>) -> String {
    format!(
        "\
version = 3
[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'overlayfs'
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = '{pause}'
[plugins.'io.containerd.cri.v1.images'.registry]
  config_path = '/etc/containerd/certs.d'
[plugins.'io.containerd.cri.v1.runtime']
  # Machines without CAP_SYS_RESOURCE refuse lower scores, and no pod would start.
  restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ['/usr/lib/cni', '/opt/cni/bin']
  conf_dir = '{cni}'
[plugins.'io.containerd.cri.v1.runtime'.containerd]
  default_runtime_name = 'runc'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  SystemdCgroup = false
# Upstream's suite asks for a handler of this name.
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.test-handler]
  runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.test-handler.options]
  SystemdCgroup = false
",
        pause = super::PAUSE_IMAGE,
        cni = site.config(node, "cni").display(),
    )
}

/// A file that already has the text keeps its time of change. Root alone reads it.
fn write_if_changed(path: &Path, text: &str) -> io::Result<()> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
}
