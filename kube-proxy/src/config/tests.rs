use component::args::Args;
use component::config::read;

use super::*;

fn flags(line: &[&str]) -> anyhow::Result<KubeProxyConfiguration> {
    let args = Args::parse("kube-proxy", "", &args::groups(), line.iter().copied())?;
    KubeProxyConfiguration::load(&args)
}

fn file(text: &str) -> anyhow::Result<KubeProxyConfiguration> {
    let head = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";
    let mut config: KubeProxyConfiguration = read(format!("{head}{text}").as_bytes())?;
    config.complete();
    let mut problems = Problems::new();
    config.validate(&mut problems);
    Ok(problems.or(config)?)
}

#[test]
fn an_empty_file_and_an_empty_command_line_mean_upstreams_defaults() {
    let (file, mut flags) = (file("").unwrap(), flags(&[]).unwrap());
    // The one that upstream's flags and files disagree on.
    assert_eq!(
        std::mem::take(&mut flags.ipvs.min_sync_period),
        Duration::from_secs(1)
    );
    assert_eq!(file, flags);
    assert_eq!(file.healthz_bind_address, "0.0.0.0:10256");
    assert_eq!(file.metrics_bind_address, "127.0.0.1:10249");
    assert_eq!(
        (file.client_connection.qps, file.client_connection.burst),
        (5.0, 10)
    );
    assert_eq!(file.masquerade_mark(), 0x4000);
    assert_eq!(file.effective_mode(), "iptables");
    assert!(file.node_ports_at().is_empty());
    assert_eq!(file.oom_score_adj, Some(-999));
}

#[test]
fn the_file_of_local_clusters_is_read() {
    let config = file(
        "mode: nftables\nclientConnection: {kubeconfig: /x}\nclusterCIDR: 10.244.0.0/16\nhostnameOverride: n1\n\
         healthzBindAddress: 172.31.0.2:10256\nconntrack: {maxPerCore: 0, min: 0}\n",
    );
    let config = config.unwrap();
    assert!(!config.is_other_mode());
    assert_eq!(config.node_ports_at(), ["primary"]);
    assert_eq!(config.conntrack.max_per_core, Some(0));
    assert_eq!(
        config.conntrack.tcp_close_wait_timeout,
        Some(Duration::from_secs(3600))
    );
    assert_eq!(config.cluster_cidrs(), ["10.244.0.0/16"]);
}

#[test]
fn what_upstream_writes_is_read() {
    let config = file(
        "nodePortAddresses: null\nipvs: {excludeCIDRs: null, syncPeriod: 0s}\nlogging: {flushFrequency: 0}\nportRange: ''\n",
    );
    assert_eq!(
        config.unwrap(),
        file("logging: {flushFrequency: 0}").unwrap()
    );
}

#[test]
fn unknown_fields_are_refused() {
    let err = file("nftables: {masqueradeBits: 3}\n")
        .unwrap_err()
        .to_string();
    assert!(
        err.contains("nftables.masqueradeBits: unknown field"),
        "{err}"
    );
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let err = file(
        "mode: userspace\nbindAddress: nowhere\nmetricsBindAddress: '1.2.3.4:0'\nclusterCIDR: 10.0.0.0/8,10.1.0.0/16\n\
         nodePortAddresses: [primary, primary, x]\noomScoreAdj: 2000\niptables: {masqueradeBit: 32}\n",
    );
    let err = err.unwrap_err().to_string();
    for field in [
        "mode:",
        "bindAddress:",
        "metricsBindAddress:",
        "clusterCIDR:",
        "nodePortAddresses[1]:",
        "nodePortAddresses[2]:",
        "oomScoreAdj:",
        "iptables.masqueradeBit:",
    ] {
        assert!(err.contains(field), "{field} in {err}");
    }
}

#[test]
fn settings_are_those_of_the_mode() {
    let text = "nftables: {minSyncPeriod: 2s, masqueradeAll: true, masqueradeBit: 3}\niptables: {minSyncPeriod: 5s}\n";
    let nftables = file(&format!("mode: nftables\n{text}")).unwrap();
    assert_eq!(nftables.min_sync_period().as_secs(), 2);
    assert!(nftables.masquerade_all());
    assert_eq!(nftables.masquerade_mark(), 8);
    let iptables = file(text).unwrap();
    assert_eq!(iptables.min_sync_period().as_secs(), 5);
    assert!(!iptables.masquerade_all());
    assert_eq!(iptables.masquerade_mark(), 0x4000);
}

#[test]
fn flags_say_the_same_as_the_file() {
    let flags = flags(&[
        "--proxy-mode=nftables",
        "--cluster-cidr=10.0.0.0/8,fd00::/48",
        "--nodeport-addresses=192.0.2.0/24,all",
        "--hostname-override= Node-1 ",
        "--metrics-port=0",
        "--bind-address=10.0.0.1",
        "--detect-local-mode=BridgeInterface",
        "--pod-bridge-interface=cni0",
        "--masquerade-all",
    ])
    .unwrap();
    assert_eq!(flags.hostname_override, "node-1");
    assert_eq!(flags.metrics_bind_address, "");
    assert_eq!(flags.cluster_cidrs().len(), 2);
    assert_eq!(flags.node_port_addresses, ["192.0.2.0/24", "all"]);
    assert!(flags.masquerade_all());
}

#[test]
fn addresses_get_their_ports() {
    let config = file("bindAddress: '::'\nhealthzBindAddress: 10.0.0.1\n").unwrap();
    assert_eq!(config.metrics_bind_address, "[::1]:10249");
    assert_eq!(config.healthz_bind_address, "10.0.0.1:10256");
    assert_eq!(
        socket_address("[::1]:10249"),
        Some("[::1]:10249".parse().unwrap())
    );
    assert_eq!(socket_address("::1:10249"), None);
}
