//! An object of every kind that is stored, with its key: upstream's own list, read from its source
//! (`test/integration/etcd/data.go`).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

pub(super) const NAMESPACE: &str = "samples";
/// Whose names the list uses; nothing is pulled.
const IMAGE: &str = "registry.k8s.io/sample:1";

#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// As `apps/v1`.
    pub version: String,
    pub resource: String,
    pub namespaced: bool,
    pub object: Value,
    /// What its status can be changed to.
    pub status: Option<Value>,
    /// Where it is stored.
    pub key: String,
}

impl Sample {
    pub(super) fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap_or_default()
    }

    pub(super) fn group(&self) -> &str {
        self.version.rsplit_once('/').map_or("", |(group, _)| group)
    }

    /// The key without namespace and name, which ends in a slash.
    pub(super) fn prefix(&self) -> &str {
        let end = if self.namespaced {
            self.key.find(&format!("/{NAMESPACE}/"))
        } else {
            self.key.rfind('/')
        };
        &self.key[..=end.unwrap_or(self.key.len() - 1)]
    }
}

/// All of the list in upstream's sources at `tree`.
pub(super) fn read(tree: &Path) -> Vec<Sample> {
    let source = fs::read_to_string(tree.join("test/integration/etcd/data.go")).unwrap();
    let samples = parse(&source);
    assert!(samples.len() > 80, "{} samples were found", samples.len());
    samples
}

fn parse(source: &str) -> Vec<Sample> {
    let mut all = Vec::new();
    let mut open: Option<(String, String, BTreeMap<String, String>)> = None;
    let mut joined = String::new();
    for line in source.lines().map(str::trim) {
        joined.push_str(line);
        // An expression goes on.
        if line.ends_with('+') {
            continue;
        }
        let line = &*std::mem::take(&mut joined);
        if let Some(names) = line
            .strip_prefix("gvr(")
            .and_then(|line| line.strip_suffix("): {"))
        {
            let names: Vec<&str> = names
                .split(", ")
                .map(|name| name.trim_matches('"'))
                .collect();
            let [group, version, resource] = names[..] else {
                panic!("{line}");
            };
            let version = [group, version].join("/");
            let version = version.trim_start_matches('/').to_owned();
            open = Some((version, resource.to_owned(), BTreeMap::new()));
        } else if line == "}," {
            all.extend(open.take().and_then(sample));
        } else if let (Some((_, _, fields)), Some((field, value))) =
            (&mut open, line.split_once(':'))
        {
            fields.insert(field.to_owned(), value.trim().to_owned());
        }
    }
    all
}

fn sample(
    (version, resource, fields): (String, String, BTreeMap<String, String>),
) -> Option<Sample> {
    let object = serde_json::from_str(&evaluate(fields.get("Stub")?)).unwrap();
    let path = fields.get("ExpectedEtcdPath")?;
    let status = fields.get("StatusStub").map(|stub| evaluate(stub));
    Some(Sample {
        version,
        resource,
        namespaced: path.contains("+ namespace +"),
        object,
        status: status.map(|stub| serde_json::from_str(&stub).unwrap()),
        key: evaluate(path),
    })
}

/// A sum of Go's literals and of the names that the list uses; what follows its comma is left out.
fn evaluate(expression: &str) -> String {
    let mut text = String::new();
    let mut rest = expression;
    loop {
        rest = rest.trim_start();
        let quote = rest.chars().next().unwrap_or_default();
        let (value, after) = if matches!(quote, '`' | '"') {
            rest[1..].split_once(quote).unwrap()
        } else {
            let end = rest.find([' ', ',']).unwrap_or(rest.len());
            let value = match &rest[..end] {
                "namespace" => NAMESPACE,
                "image" | "alternateImage" => IMAGE,
                other => panic!("{other} in {expression}"),
            };
            (value, &rest[end..])
        };
        text.push_str(value);
        match after.trim_start().strip_prefix('+') {
            Some(more) => rest = more,
            None => return text,
        }
    }
}

#[test]
fn a_sample_is_read_from_gos_source() {
    let source = r#"
		gvr("", "v1", "pods"): {
			Stub:              `{"metadata": {"name": "pod1"}, "spec": {"image": "` + image + `"}}`,
			ExpectedEtcdPath:  "/registry/pods/" + namespace + "/pod1",
			StatusStub:        `{"status": {"a": "b"}}`,
		},
		gvr("certificates.k8s.io", "v1", "clustertrustbundles"): {
			Stub: `{"metadata": {` +
				`"name": "example.com:signer:abcde"}}`,
			ExpectedEtcdPath:  "/registry/clustertrustbundles/example.com:signer:abcde",
			ExpectedGVK:       gvkP("certificates.k8s.io", "v1beta1", "ClusterTrustBundle"), // why
		},
"#;
    let samples = parse(source);
    let [pod, bundle] = &samples[..] else {
        panic!("{samples:?}");
    };
    assert_eq!(
        (&*pod.version, pod.name(), pod.namespaced),
        ("v1", "pod1", true)
    );
    assert_eq!(pod.object["spec"]["image"], IMAGE);
    assert_eq!(pod.key, "/registry/pods/samples/pod1");
    assert_eq!(pod.prefix(), "/registry/pods/");
    assert_eq!(pod.status.as_ref().unwrap()["status"]["a"], "b");
    assert_eq!(
        (&*bundle.version, bundle.group()),
        ("certificates.k8s.io/v1", "certificates.k8s.io")
    );
    assert_eq!(bundle.prefix(), "/registry/clustertrustbundles/");
}
