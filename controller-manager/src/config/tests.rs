use super::*;

fn read(line: &[&str]) -> Result<(KubeControllerManagerConfiguration, Choice), Problems> {
    let args = Args::parse(
        "kube-controller-manager",
        "",
        &flags::all(),
        line.iter().copied(),
    )
    .unwrap();
    KubeControllerManagerConfiguration::of(&args)
}

#[test]
fn every_default_is_a_value_of_its_flag() {
    let (config, choice) = read(&[]).unwrap();
    assert_eq!(config.generic.client_connection.qps, 20.0);
    assert_eq!(config.generic.client_connection.burst, 30);
    assert_eq!(config.garbage_collector.concurrent_gc_syncs, 20);
    assert_eq!(
        config.generic.leader_election.resource_name,
        "kube-controller-manager"
    );
    assert_eq!(choice.items(), ["*"]);
}

#[test]
fn the_local_clusters_command_line_is_understood() {
    let (config, _) = read(&[
        "--allocate-node-cidrs=true",
        "--cluster-cidr=10.244.0.0/16",
        "--controllers=*,bootstrap-signer-controller,tokencleaner",
        "--leader-elect=false",
        "--root-ca-file=/ca.crt",
        "--use-service-account-credentials=true",
        "--concurrent_rc_syncs=7",
    ])
    .unwrap();
    assert!(config.kube_cloud_shared.use_service_account_credentials);
    assert_eq!(config.replication_controller.concurrent_rc_syncs, 7);
    assert_eq!(
        config.generic.controllers,
        [
            "*",
            "bootstrap-signer-controller",
            "token-cleaner-controller"
        ]
    );
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let problems = read(&[
        "--controllers=nonsense",
        "--cloud-provider=aws",
        "--max-endpoints-per-slice=0",
        "--cluster-signing-cert-file=a",
        "--cluster-signing-legacy-unknown-cert-file=b",
    ])
    .unwrap_err();
    let text = problems.to_string();
    for flag in [
        "\"nonsense\" is not in the list of known controllers",
        "--cloud-provider",
        "--max-endpoints-per-slice",
        "--cluster-signing-*-file",
        "--cluster-signing-cert-file",
    ] {
        assert!(text.contains(flag), "{flag} in {text}");
    }
}

#[test]
fn configz_has_upstreams_field_names() {
    let shown = read(&[]).unwrap().0.configz();
    assert_eq!(shown["kind"], "KubeControllerManagerConfiguration");
    assert_eq!(shown["ReplicaSetController"]["ConcurrentRSSyncs"], 5);
    assert_eq!(shown["NamespaceController"]["NamespaceSyncPeriod"], "5m0s");
}
