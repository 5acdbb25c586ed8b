use super::*;

/// The configuration of a file with this text (without its head) and these flags.
pub(crate) fn config(yaml: &str, line: &[&str]) -> Config {
    try_config(yaml, line).expect("a valid configuration")
}

fn args(line: &[&str]) -> Args {
    Args::parse("kubelet", "", &flags::groups(), line.iter().copied()).expect("valid flags")
}

fn try_config(yaml: &str, line: &[&str]) -> Result<Config, Error> {
    let dir = tempfile::tempdir().unwrap();
    let path = write(
        dir.path(),
        "kubelet.yaml",
        &format!("failCgroupV1: false\n{yaml}"),
    );
    let flag = format!("--config={}", path.display());
    let line: Vec<&str> = line.iter().copied().chain([flag.as_str()]).collect();
    Config::load(&args(&line))
}

fn write(dir: &Path, name: &str, yaml: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let head = format!("apiVersion: {API_VERSION}\nkind: {KIND}\n");
    std::fs::write(&path, head + yaml).unwrap();
    path
}

#[test]
fn flags_win_over_drop_ins_and_drop_ins_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let drop_ins = dir.path().join("conf.d");
    let file = write(
        dir.path(),
        "kubelet.yaml",
        "failCgroupV1: false\nport: 1\nmaxPods: 1\npodsPerCore: 1\nclusterDNS: [a]\n",
    );
    write(&drop_ins, "20.conf", "maxPods: 3\n");
    write(
        &drop_ins,
        "10.conf",
        "maxPods: 2\npodsPerCore: 2\nclusterDNS: [b]\n",
    );
    write(
        &drop_ins,
        "30/1.conf",
        "evictionHard: {memory.available: 1Gi}\n",
    );
    std::fs::write(drop_ins.join("40.yaml"), "not read").unwrap();
    let config = Config::load(&args(&[
        &format!("--config={}", file.display()),
        &format!("--config-dir={}", drop_ins.display()),
        "--port=4",
    ]))
    .unwrap();
    let kubelet = config.kubelet;
    assert_eq!(
        (kubelet.port, kubelet.max_pods, kubelet.pods_per_core),
        (4, 3, 2)
    );
    assert_eq!(kubelet.cluster_dns, ["b"]);
    let hard = kubelet.eviction_hard.unwrap();
    assert_eq!(hard["memory.available"], "1Gi");
    assert_eq!(
        hard["nodefs.available"], "10%",
        "a drop-in is merged into the defaults"
    );
}

#[test]
fn without_a_file_the_old_command_line_is_meant() {
    let config = Config::load(&args(&["--fail-cgroupv1=false"])).unwrap();
    let kubelet = &config.kubelet;
    assert!(kubelet.authentication.anonymous.enabled);
    assert!(!kubelet.authentication.webhook.enabled);
    assert_eq!(kubelet.authorization.mode, "AlwaysAllow");
    assert_eq!(kubelet.read_only_port, 10255);
    assert_eq!(kubelet.eviction_hard, None);
    assert!(config.node.kubeconfig.is_none());
}

#[test]
fn zero_and_null_mean_the_default_where_upstream_has_no_pointer() {
    let config = config(
        "port: 0\nsyncFrequency: 0s\nmaxPods: null\nauthorization: {mode: ''}\nhealthzPort: 0\n\
         nodeStatusUpdateFrequency: 3s\nmaxParallelImagePulls: 4\nauthentication: null\n",
        &[],
    );
    let kubelet = config.kubelet;
    assert_eq!((kubelet.port, kubelet.max_pods), (10250, 110));
    assert_eq!(kubelet.sync_frequency.0.as_secs(), 60);
    assert_eq!(kubelet.authorization.mode, "Webhook");
    assert_eq!(kubelet.healthz_port, 0, "a pointer: zero is meant");
    assert_eq!(kubelet.node_status_report_frequency.0.as_secs(), 3);
    assert!(!kubelet.serialize_image_pulls);
}

#[test]
fn thresholds_of_a_file_stand_alone_unless_it_asks_for_the_defaults_too() {
    let of = |yaml: &str| config(yaml, &[]).kubelet.eviction_hard.unwrap();
    let upstream = defaults::eviction_hard();
    assert_eq!(of(""), upstream);
    assert_eq!(of("evictionHard: {}\n").len(), 0);
    let own = "evictionHard: {memory.available: 1Gi}\n";
    assert_eq!(of(own).len(), 1);
    let merged = of(&format!("{own}mergeDefaultEvictionSettings: true\n"));
    assert_eq!(merged.len(), upstream.len());
    assert_eq!(merged["memory.available"], "1Gi");
}

#[test]
fn unknown_fields_are_told_and_wrong_types_refused() {
    let lenient = config("maxPodz: 3\nauthentication: {x510: {}}\n", &[]);
    assert_eq!(lenient.warnings.len(), 2, "{:?}", lenient.warnings);
    assert!(
        lenient
            .warnings
            .iter()
            .any(|w| w.ends_with("unknown field maxPodz"))
    );
    let error = try_config("maxPods: many\n", &[]).unwrap_err();
    assert!(error.to_string().contains("maxPods"), "{error}");
    assert!(Args::parse("kubelet", "", &flags::groups(), ["--max-podz=3"]).is_err());
}

#[test]
fn everything_wrong_is_told_at_once() {
    let error = try_config(
        "maxPods: -1\nimageGCLowThresholdPercent: 90\nhairpinMode: x\n\
         enforceNodeAllocatable: [pods, kube-reserved]\nevictionHard: {memory: 1Gi}\n\
         systemReserved: {gpu: '1'}\npodLogsDir: a/../b\n\
         tracing: {endpoint: 'http://a', samplingRatePerMillion: -1}\n",
        &["--node-labels=kubernetes.io/mine=1,node-role.kubernetes.io/x=y"],
    )
    .unwrap_err()
    .to_string();
    for part in [
        "maxPods: -1 must not be a negative number",
        "imageGCLowThresholdPercent: 90 must be less than imageGCHighThresholdPercent 85",
        "hairpinMode: \"x\" must be one of",
        "kubeReservedCgroup: must be specified",
        "evictionHard: unsupported eviction signal memory",
        "systemReserved: cannot reserve \"gpu\" resource",
        "tracing.endpoint: Invalid value: \"http://a\": unsupported scheme: http.",
        "tracing.samplingRatePerMillion: Invalid value: -1: sampling rate must be positive",
        "podLogsDir: pod logs path \"a/../b\" must be absolute path",
        "--node-labels: unknown 'kubernetes.io' or 'k8s.io' label kubernetes.io/mine",
        "label node-role.kubernetes.io/x",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn a_file_of_another_kind_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.yaml");
    std::fs::write(&path, "apiVersion: v1\nkind: Pod\n").unwrap();
    let line = format!("--config={}", path.display());
    assert!(matches!(
        Config::load(&args(&[&line])),
        Err(Error::Kind { .. })
    ));
}

#[test]
fn every_flag_of_a_map_is_read_as_upstream_reads_it() {
    let config = config(
        "featureGates: {NodeSwap: true}\n",
        &[
            "--eviction-hard=memory.available<1Gi,nodefs.available<5%",
            "--eviction-hard=pid.available<10%",
            "--system-reserved=cpu=200m,memory=1Gi",
            "--manifest-url-header=a:b,a:c",
            "--register-with-taints=k=v:NoSchedule,l:NoExecute",
            "--reserved-memory=0:memory=1Gi,hugepages-2Mi=2Mi;1:memory=2Gi",
            "--node-labels=a=b,c",
            "--cpu-manager-policy-options=x=1,2",
            "--volume-stats-agg-period=-1s",
            "--provider_id=p",
            "--feature-gates=KubeletCrashLoopBackOffMax=false",
        ],
    );
    let kubelet = config.kubelet;
    assert_eq!(kubelet.eviction_hard.unwrap().len(), 3);
    assert_eq!(kubelet.system_reserved["cpu"], "200m");
    assert_eq!(kubelet.static_pod_url_header["a"], ["b", "c"]);
    assert_eq!(kubelet.register_with_taints[1].effect, "NoExecute");
    assert_eq!(kubelet.reserved_memory[1].numa_node, 1);
    assert_eq!(config.node.labels["c"], "");
    assert_eq!(kubelet.cpu_manager_policy_options["x"], "1,2");
    assert_eq!(kubelet.volume_stats_agg_period.0, -1_000_000_000);
    assert_eq!(kubelet.provider_id, "p");
    assert_eq!(
        kubelet.feature_gates.len(),
        2,
        "gates of file and flags add up"
    );
    assert!(!config.features.enabled("KubeletCrashLoopBackOffMax"));
    assert_eq!(
        kubelet.crash_loop_back_off.max_container_restart_period,
        None
    );
}

#[test]
fn configz_reads_back_as_the_same_configuration() {
    let config = config("clusterDNS: [10.96.0.10]\ncgroupRoot: /a\n", &[]);
    let mut tree = config.configz();
    assert_eq!(tree["kind"], KIND);
    assert_eq!(tree["streamingConnectionIdleTimeout"], "4h0m0s");
    assert!(
        tree.get("staticPodPath").is_none(),
        "empty ones are left out"
    );
    let top = tree.as_object_mut().unwrap();
    top.remove("kind");
    top.remove("apiVersion");
    file::complete(&mut tree);
    let again: KubeletConfiguration = proto::typed::from_json_value(tree).unwrap();
    assert_eq!(again, config.kubelet);
}
