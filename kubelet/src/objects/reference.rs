//! Which objects a pod refers to: `pkg/api/v1/pod/util.go` (`VisitPodSecretNames` and its like).

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{EnvFromSource, EnvVar, Pod, PodSpec, Volume};

/// Names in the pod's namespace.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct References {
    pub(super) config_maps: BTreeSet<String>,
    pub(super) secrets: BTreeSet<String>,
    pub(super) trust_bundles: bool,
}

impl References {
    pub(super) fn of(pod: &Pod) -> Self {
        let mut all = Self::default();
        let Some(spec) = &pod.spec else {
            return all;
        };
        let pull = spec.image_pull_secrets.iter().flatten();
        all.secrets.extend(pull.map(|s| s.name.clone()));
        for (env, env_from) in environments(spec) {
            for source in env_from.into_iter().flatten() {
                all.env_from(source);
            }
            for variable in env.into_iter().flatten() {
                all.env(variable);
            }
        }
        for volume in spec.volumes.iter().flatten() {
            all.volume(volume);
        }
        all.config_maps.remove("");
        all.secrets.remove("");
        all
    }

    fn env_from(&mut self, source: &EnvFromSource) {
        let map = source.config_map_ref.as_ref();
        self.config_maps.extend(map.map(|r| r.name.clone()));
        let secret = source.secret_ref.as_ref();
        self.secrets.extend(secret.map(|r| r.name.clone()));
    }

    fn env(&mut self, variable: &EnvVar) {
        let Some(from) = &variable.value_from else {
            return;
        };
        let map = from.config_map_key_ref.as_ref();
        self.config_maps.extend(map.map(|r| r.name.clone()));
        let secret = from.secret_key_ref.as_ref();
        self.secrets.extend(secret.map(|r| r.name.clone()));
    }

    fn volume(&mut self, volume: &Volume) {
        let map = volume.config_map.as_ref();
        self.config_maps.extend(map.map(|m| m.name.clone()));
        let secret = volume.secret.as_ref();
        self.secrets
            .extend(secret.and_then(|s| s.secret_name.clone()));
        let projected = volume.projected.as_ref().and_then(|p| p.sources.as_ref());
        for source in projected.into_iter().flatten() {
            let map = source.config_map.as_ref();
            self.config_maps.extend(map.map(|m| m.name.clone()));
            let secret = source.secret.as_ref();
            self.secrets.extend(secret.map(|s| s.name.clone()));
            self.trust_bundles |= source.cluster_trust_bundle.is_some();
        }
        let of_others = [
            volume.cephfs.as_ref().and_then(|v| v.secret_ref.as_ref()),
            volume.cinder.as_ref().and_then(|v| v.secret_ref.as_ref()),
            volume
                .flex_volume
                .as_ref()
                .and_then(|v| v.secret_ref.as_ref()),
            volume.rbd.as_ref().and_then(|v| v.secret_ref.as_ref()),
            volume.scale_io.as_ref().map(|v| &v.secret_ref),
            volume.iscsi.as_ref().and_then(|v| v.secret_ref.as_ref()),
            volume
                .storageos
                .as_ref()
                .and_then(|v| v.secret_ref.as_ref()),
            volume
                .csi
                .as_ref()
                .and_then(|v| v.node_publish_secret_ref.as_ref()),
        ];
        let names = of_others.into_iter().flatten().map(|r| r.name.clone());
        self.secrets.extend(names);
        let azure = volume.azure_file.as_ref();
        self.secrets.extend(azure.map(|a| a.secret_name.clone()));
    }
}

type Environment<'a> = (Option<&'a Vec<EnvVar>>, Option<&'a Vec<EnvFromSource>>);

/// Of containers of every kind.
fn environments(spec: &PodSpec) -> impl Iterator<Item = Environment<'_>> {
    let containers = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers);
    let ephemeral = spec.ephemeral_containers.iter().flatten();
    containers
        .map(|c| (c.env.as_ref(), c.env_from.as_ref()))
        .chain(ephemeral.map(|c| (c.env.as_ref(), c.env_from.as_ref())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_that_names_an_object_counts() {
        let pod: Pod = proto::typed::from_json_value(serde_json::json!({
            "spec": {
                "imagePullSecrets": [{"name": "pull"}, {}],
                "initContainers": [{"name": "i", "envFrom": [{"configMapRef": {"name": "init"}}]}],
                "containers": [{"name": "c", "env": [
                    {"name": "A", "valueFrom": {"secretKeyRef": {"name": "env", "key": "k"}}},
                    {"name": "B", "value": "1"},
                ]}],
                "ephemeralContainers": [{"name": "e", "envFrom": [{"secretRef": {"name": "debug"}}]}],
                "volumes": [
                    {"name": "1", "configMap": {"name": "volume"}},
                    {"name": "2", "secret": {"secretName": "volume"}},
                    {"name": "3", "projected": {"sources": [
                        {"configMap": {"name": "part"}},
                        {"secret": {"name": "part"}},
                        {"clusterTrustBundle": {"name": "x", "path": "p"}},
                    ]}},
                    {"name": "4", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "csi"}}},
                ],
            },
        }))
        .unwrap();
        let references = References::of(&pod);
        let maps: Vec<_> = references.config_maps.iter().map(String::as_str).collect();
        assert_eq!(maps, ["init", "part", "volume"]);
        let secrets: Vec<_> = references.secrets.iter().map(String::as_str).collect();
        assert_eq!(secrets, ["csi", "debug", "env", "part", "pull", "volume"]);
        assert!(references.trust_bundles);
    }
}
