use super::*;

/// The names of upstream's `AllOrderedPlugins` (1.37.1), those that are off by default with a dash.
const UPSTREAM: &str = "-AlwaysAdmit -NamespaceAutoProvision NamespaceLifecycle -NamespaceExists \
    -LimitPodHardAntiAffinityTopology LimitRanger ServiceAccount -NodeRestriction \
    TaintNodesByCondition -AlwaysPullImages -ImagePolicyWebhook PodSecurity -PodNodeSelector Priority \
    DefaultTolerationSeconds -PodTolerationRestriction -EventRateLimit -ExtendedResourceToleration \
    DefaultStorageClass StorageObjectInUseProtection PodGroupProtection \
    -OwnerReferencesPermissionEnforcement PersistentVolumeClaimResize RuntimeClass \
    CertificateApproval CertificateSigning ClusterTrustBundleAttest CertificateSubjectRestriction \
    DefaultIngressClass -DenyServiceExternalIPs PodTopologyLabels NodeDeclaredFeatureValidator \
    PodResizeValidator MutatingAdmissionPolicy MutatingAdmissionWebhook ValidatingAdmissionPolicy \
    ValidatingAdmissionWebhook ResourceQuota -AlwaysDeny";

#[test]
fn the_table_is_upstreams() {
    let shown = |plugin: &Plugin| {
        let off = if plugin.on_by_default { "" } else { "-" };
        format!("{off}{}", plugin.name)
    };
    let table: Vec<String> = PLUGINS.iter().map(shown).collect();
    let upstream: Vec<&str> = UPSTREAM.split_whitespace().collect();
    assert_eq!(table, upstream);
}

#[test]
fn every_plugin_that_does_something_looks_at_something() {
    for plugin in PLUGINS {
        let works = plugin.mutate.is_some() || plugin.validate.is_some();
        assert!(!works || !plugin.operations.is_empty(), "{}", plugin.name);
    }
}

#[tokio::test]
async fn plugins_are_told_only_if_they_run() {
    use component::testing::Files;
    let files = Files::new();
    let file = files.write(
        "admission.yaml",
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n\
         - name: EventRateLimit\n  configuration: {kind: Wrong}\n- name: Unknown\n",
    );
    let open = |names: &[&str]| {
        let config = AdmissionConfig {
            plugins: PLUGINS.iter().filter(|p| names.contains(&p.name)).collect(),
            file: Some(file.clone()),
            not_ready_toleration: 300,
            unreachable_toleration: 300,
        };
        let forms = Arc::new(store::Forms::new(1));
        let (features, tasks) = (Features::defaults(), Supervisor::current());
        let registry = Registry::new(
            |_| false,
            &features,
            &forms,
            |_, _| unreachable!("nothing is served"),
        );
        let chain = Chain::open(&config, &registry, &features, &tasks, &Metrics::new());
        chain.map(drop).map_err(|e| e.to_string())
    };
    assert_eq!(open(&["NamespaceLifecycle"]), Ok(()));
    let said = "couldn't init admission plugin \"EventRateLimit\"";
    assert_eq!(open(&["EventRateLimit"]), Err(said.to_owned()));
    let unable = open(&["ImagePolicyWebhook"]);
    assert!(unable.is_err(), "it has nobody to ask");
}
