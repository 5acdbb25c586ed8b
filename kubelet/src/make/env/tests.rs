use super::*;
use crate::volume::{Answer, CertificateRequest, Credentials, TokenRequest, TrustBundles, Volume};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Objects by their name, and how often they were asked for.
#[derive(Default)]
struct Fixed {
    config_maps: BTreeMap<&'static str, Value>,
    secrets: BTreeMap<&'static str, Value>,
    reads: AtomicUsize,
}

impl Fixed {
    fn find<T: serde::de::DeserializeOwned>(
        &self,
        all: &BTreeMap<&'static str, Value>,
        kind: &'static str,
        name: &str,
    ) -> Result<Arc<T>, ObjectError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let found = all.get(name).ok_or_else(|| ObjectError::NotFound {
            kind,
            name: name.to_owned(),
        })?;
        Ok(Arc::new(
            proto::typed::from_json_value(found.clone()).unwrap(),
        ))
    }
}

impl Objects for Fixed {
    fn config_map<'a>(&'a self, _: &'a str, name: &'a str) -> Answer<'a, Arc<ConfigMap>> {
        let found = self.find(&self.config_maps, "configmap", name);
        Box::pin(async { found })
    }

    fn secret<'a>(&'a self, _: &'a str, name: &'a str) -> Answer<'a, Arc<Secret>> {
        let found = self.find(&self.secrets, "secret", name);
        Box::pin(async { found })
    }

    fn token(&self, _: TokenRequest) -> Answer<'_, String> {
        Box::pin(async { Ok(String::new()) })
    }

    fn trust_anchors(&self, _: TrustBundles, _: bool) -> Answer<'_, Vec<u8>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn certificate(&self, _: CertificateRequest) -> Answer<'_, Arc<Credentials>> {
        Box::pin(async { Err(ObjectError::Failed("none here".into())) })
    }

    fn claim<'a>(&'a self, _: &'a str, _: &'a str) -> Answer<'a, PersistentVolumeClaim> {
        Box::pin(async { Err(ObjectError::Failed("none here".into())) })
    }

    fn persistent_volume<'a>(&'a self, _: &'a str) -> Answer<'a, PersistentVolume> {
        Box::pin(async { Err(ObjectError::Failed("none here".into())) })
    }
}

fn objects() -> Fixed {
    Fixed {
        config_maps: BTreeMap::from([("cm", json!({ "data": { "a": "1", "b": "2" } }))]),
        secrets: BTreeMap::from([("s", json!({ "data": { "k": "c2VjcmV0", "bin": "/w==" } }))]),
        ..Fixed::default()
    }
}

fn service() -> Vec<Arc<Service>> {
    let service = json!({
        "metadata": { "namespace": "n", "name": "web" },
        "spec": { "clusterIP": "10.0.0.9", "ports": [{ "port": 80 }] },
    });
    vec![Arc::new(proto::typed::from_json_value(service).unwrap())]
}

async fn made_with(container: Value, objects: &Fixed) -> Result<BTreeMap<String, String>, String> {
    let pod = json!({
        "metadata": {
            "name": "p", "namespace": "n", "uid": "u", "labels": { "l": "v" },
            "annotations": { "x/y": "z" },
        },
        "spec": {
            "nodeName": "node", "serviceAccountName": "sa", "containers": [container],
            "enableServiceLinks": false,
            "resources": { "limits": { "memory": "512Mi" } },
        },
    });
    let mut pod: Pod = proto::typed::from_json_value(pod).unwrap();
    let services = service();
    if container_wants_links(&pod) {
        pod.spec.as_mut().unwrap().enable_service_links = Some(true);
    }
    let facts = NodeFacts {
        host_ips: vec!["192.0.2.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        allocatable: BTreeMap::from([
            ("memory".to_owned(), Text("1Gi".into())),
            ("cpu".to_owned(), Text("4".into())),
        ]),
        ..NodeFacts::default()
    };
    let pod_ips = ["fd00::9".parse().unwrap(), "10.1.1.1".parse().unwrap()];
    let of = Environment {
        pod: &pod,
        container: &pod.spec.as_ref().unwrap().containers[0],
        facts: &facts,
        pod_ips: &pod_ips,
        objects,
        services: Some(&services),
        volumes: &PodVolumes::default(),
    };
    let made = environment(of).await;
    made.map(|made| made.into_iter().collect())
        .map_err(|error| error.to_string())
}

fn container_wants_links(pod: &Pod) -> bool {
    pod.spec.as_ref().unwrap().containers[0].name == "links"
}

async fn made(container: Value) -> Result<BTreeMap<String, String>, String> {
    made_with(container, &objects()).await
}

fn expect(pairs: &[(&str, &str)]) -> Result<BTreeMap<String, String>, String> {
    Ok(pairs
        .iter()
        .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
        .collect())
}

#[tokio::test]
async fn variables_refer_to_what_stands_before_them() {
    let made = made(json!({ "name": "c", "env": [
        { "name": "A", "value": "x" },
        { "name": "B", "value": "$(A)-$(LATER)-$$(A)" },
        { "name": "LATER", "value": "y" },
        { "name": "A", "value": "again $(A)" },
        { "name": "EMPTY" },
    ] }));
    assert_eq!(
        made.await,
        expect(&[
            ("A", "again x"),
            ("B", "x-$(LATER)-$(A)"),
            ("LATER", "y"),
            ("EMPTY", ""),
        ])
    );
}

#[tokio::test]
async fn whole_objects_give_variables_which_single_ones_override() {
    let objects = objects();
    let container = json!({
        "name": "c",
        "envFrom": [
            { "configMapRef": { "name": "cm" } },
            { "prefix": "P_", "configMapRef": { "name": "cm" } },
            { "prefix": "S.", "secretRef": { "name": "s" } },
            { "configMapRef": { "name": "none", "optional": true } },
            { "secretRef": { "name": "none", "optional": true } },
        ],
        "env": [
            { "name": "b", "value": "over $(b)" },
            { "name": "K", "valueFrom": { "configMapKeyRef": { "name": "cm", "key": "a" } } },
        ],
    });
    let made = made_with(container, &objects).await;
    assert_eq!(
        made,
        expect(&[
            ("a", "1"),
            ("b", "over 2"),
            ("P_a", "1"),
            ("P_b", "2"),
            ("S.k", "secret"),
            ("S.bin", "\u{fffd}"),
            ("K", "1"),
        ])
    );
    assert_eq!(objects.reads.into_inner(), 4, "each object is read once");
}

#[tokio::test]
async fn what_is_missing_is_an_error_unless_it_may_be() {
    let one =
        |from: Value| made(json!({ "name": "c", "env": [{ "name": "X", "valueFrom": from }] }));
    let config_map = |name: &str, key: &str, optional: bool| {
        one(json!({ "configMapKeyRef": { "name": name, "key": key, "optional": optional } }))
    };
    let secret = |name: &str, key: &str, optional: bool| {
        one(json!({ "secretKeyRef": { "name": name, "key": key, "optional": optional } }))
    };
    assert_eq!(config_map("cm", "b", false).await, expect(&[("X", "2")]));
    assert_eq!(secret("s", "k", false).await, expect(&[("X", "secret")]));
    for missing in [
        config_map("none", "a", true).await,
        config_map("cm", "none", true).await,
        secret("none", "a", true).await,
        secret("s", "none", true).await,
    ] {
        assert_eq!(missing, expect(&[]), "no variable, not an empty one");
    }
    for (got, error) in [
        (
            config_map("none", "a", false).await,
            "configmap \"none\" not found",
        ),
        (
            config_map("cm", "z", false).await,
            "couldn't find key z in ConfigMap n/cm",
        ),
        (
            secret("none", "a", false).await,
            "secret \"none\" not found",
        ),
        (
            secret("s", "z", false).await,
            "couldn't find key z in Secret n/s",
        ),
        (
            made(json!({ "name": "c", "envFrom": [{ "secretRef": { "name": "none" } }] })).await,
            "secret \"none\" not found",
        ),
    ] {
        assert_eq!(got, Err(error.to_owned()));
    }
}

#[tokio::test]
async fn fields_are_those_of_the_pod_and_its_node() {
    let field = async |path: &str| {
        let from = json!({ "fieldRef": { "fieldPath": path } });
        let made = made(json!({ "name": "c", "env": [{ "name": "X", "valueFrom": from }] })).await;
        made.map(|made| made["X"].clone())
    };
    for (path, expected) in [
        ("metadata.name", "p"),
        ("metadata.namespace", "n"),
        ("metadata.uid", "u"),
        ("metadata.labels['l']", "v"),
        ("metadata.annotations['x/y']", "z"),
        ("metadata.annotations['none']", ""),
        ("spec.nodeName", "node"),
        ("spec.host", "node"),
        ("spec.serviceAccountName", "sa"),
        ("status.hostIP", "192.0.2.1"),
        ("status.hostIPs", "192.0.2.1,fd00::1"),
        ("status.podIP", "10.1.1.1"),
        ("status.podIPs", "10.1.1.1,fd00::9"),
    ] {
        assert_eq!(field(path).await.as_deref(), Ok(expected), "{path}");
    }
    assert_eq!(
        field("spec.nothing").await,
        Err("field label not supported: spec.nothing".into())
    );
}

#[tokio::test]
async fn resources_fall_back_to_the_pods_limits_and_then_the_nodes() {
    let resource = async |from: Value, resources: Value| {
        let from = json!({ "resourceFieldRef": from });
        let container = json!({
            "name": "c", "resources": resources, "env": [{ "name": "X", "valueFrom": from }],
        });
        made(container).await.map(|made| made["X"].clone())
    };
    let none = || json!({});
    let ask = |name: &str| json!({ "resource": name });
    let cpu = resource(ask("limits.cpu"), none()).await;
    assert_eq!(cpu.as_deref(), Ok("4"));
    let memory = json!({ "resource": "limits.memory", "divisor": "1Mi" });
    assert_eq!(resource(memory.clone(), none()).await.as_deref(), Ok("512"));
    let own = json!({ "limits": { "memory": "100Mi" } });
    assert_eq!(resource(memory, own).await.as_deref(), Ok("100"));
    let named = json!({ "resource": "requests.cpu", "containerName": "c", "divisor": "1m" });
    let requests = json!({ "requests": { "cpu": "250m" } });
    assert_eq!(resource(named, requests).await.as_deref(), Ok("250"));
    assert_eq!(
        resource(ask("limits.x"), none()).await,
        Err("unsupported container resource : limits.x".into())
    );
}

#[tokio::test]
async fn services_are_overridden_and_can_be_referred_to() {
    let made = made(json!({ "name": "links", "env": [
        { "name": "URL", "value": "http://$(WEB_SERVICE_HOST)" },
        { "name": "WEB_PORT", "value": "mine" },
    ] }))
    .await
    .unwrap();
    assert_eq!(made["URL"], "http://10.0.0.9");
    assert_eq!(made["WEB_PORT"], "mine");
    assert_eq!(made["WEB_SERVICE_PORT"], "80");
}

#[tokio::test]
async fn pods_wait_for_the_services_unless_they_are_the_nodes_own() {
    let objects = objects();
    let facts = NodeFacts::default();
    let container = Container::default();
    let volumes = PodVolumes::default();
    let mut pod = Pod::default();
    let make = async |pod: &Pod| {
        environment(Environment {
            pod,
            container: &container,
            facts: &facts,
            pod_ips: &[],
            objects: &objects,
            services: None,
            volumes: &volumes,
        })
        .await
    };
    assert!(matches!(make(&pod).await, Err(Error::ServicesUnread)));
    let source = ("kubernetes.io/config.source".to_owned(), "file".to_owned());
    pod.metadata.annotations = Some(BTreeMap::from([source]));
    assert_eq!(make(&pod).await.unwrap(), []);
}

#[tokio::test]
async fn a_file_in_a_volume_gives_variables() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("env"), "KEY='from file'\nEMPTY=''\n").unwrap();
    std::fs::write(dir.path().join("bad"), "KEY\n").unwrap();
    let volume = Volume {
        path: dir.path().to_owned(),
        ..Volume::default()
    };
    let volumes = PodVolumes {
        volumes: BTreeMap::from([("v".to_owned(), volume)]),
        ..PodVolumes::default()
    };
    let get = async |volume: &str, path: &str, key: &str, optional: bool| {
        let from = json!({ "volumeName": volume, "path": path, "key": key, "optional": optional });
        let from = proto::typed::from_json_value(from).unwrap();
        let got = file::value(&from, &volumes).await;
        got.map_err(|error| error.to_string())
    };
    assert_eq!(
        get("v", "env", "KEY", false).await,
        Ok(Some("from file".into()))
    );
    assert_eq!(get("v", "env", "NONE", true).await, Ok(None));
    let path = dir.path().join("env");
    assert_eq!(
        get("v", "env", "NONE", false).await,
        Err(format!(
            "environment variable key \"NONE\" not found in file {path:?}"
        ))
    );
    assert_eq!(
        get("w", "env", "KEY", true).await,
        Err("cannot find the volume \"w\" referenced by FileKeyRef".into())
    );
    for path in ["bad", "none"] {
        assert_eq!(
            get("v", path, "KEY", true).await,
            Err("couldn't parse env file".into())
        );
    }
}
