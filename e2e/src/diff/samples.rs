//! An object of every kind that is stored, with its key: upstream's own list, read from its source
//! (`test/integration/etcd/data.go`).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::files;

/// The namespace of those that need one.
pub const NAMESPACE: &str = "samples";
/// Whose names the list uses; nothing is pulled.
const IMAGE: &str = "registry.k8s.io/sample:1";
/// There are more in every release.
const AT_LEAST: usize = 80;

#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error(transparent)]
    File(#[from] files::Error),
    #[error("this line of upstream's list is not understood: {0}")]
    Malformed(String),
    #[error("only {0} samples were found in upstream's list")]
    Few(usize),
}

#[derive(Clone, Debug)]
pub struct Sample {
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
    pub fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap_or_default()
    }

    pub fn group(&self) -> &str {
        self.version.rsplit_once('/').map_or("", |(group, _)| group)
    }

    /// The key without namespace and name, which ends in a slash.
    pub fn prefix(&self) -> &str {
        let end = if self.namespaced {
            self.key.find(&format!("/{NAMESPACE}/"))
        } else {
            self.key.rfind('/')
        };
        &self.key[..=end.unwrap_or(self.key.len() - 1)]
    }
}

/// All of the list in upstream's sources at `tree`.
///
/// # Errors
/// If the list is not there or is not written as it used to be.
pub fn read(tree: &Path) -> Result<Vec<Sample>, Error> {
    let path = tree.join("test/integration/etcd/data.go");
    let source = fs::read_to_string(&path).map_err(files::cannot("read", &path))?;
    let samples = parse(&source)?;
    if samples.len() < AT_LEAST {
        return Err(Error::Few(samples.len()));
    }
    Ok(samples)
}

fn parse(source: &str) -> Result<Vec<Sample>, Error> {
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
                return Err(Error::Malformed(line.to_owned()));
            };
            let version = [group, version].join("/");
            let version = version.trim_start_matches('/').to_owned();
            open = Some((version, resource.to_owned(), BTreeMap::new()));
        } else if line == "}," {
            if let Some((version, resource, fields)) = open.take() {
                all.extend(sample(version, resource, &fields)?);
            }
        } else if let (Some((_, _, fields)), Some((field, value))) =
            (&mut open, line.split_once(':'))
        {
            fields.insert(field.to_owned(), value.trim().to_owned());
        }
    }
    Ok(all)
}

/// Nothing for those of the list that have no object.
fn sample(
    version: String,
    resource: String,
    fields: &BTreeMap<String, String>,
) -> Result<Option<Sample>, Error> {
    let object = |text: &String| -> Result<Value, Error> {
        let json = evaluate(text)?;
        serde_json::from_str(&json).map_err(|_| Error::Malformed(json))
    };
    let (Some(stub), Some(path)) = (fields.get("Stub"), fields.get("ExpectedEtcdPath")) else {
        return Ok(None);
    };
    Ok(Some(Sample {
        version,
        resource,
        namespaced: path.contains("+ namespace +"),
        object: object(stub)?,
        status: fields.get("StatusStub").map(object).transpose()?,
        key: evaluate(path)?,
    }))
}

/// A sum of Go's literals and of the names that the list uses; what follows its comma is left out.
fn evaluate(expression: &str) -> Result<String, Error> {
    let malformed = || Error::Malformed(expression.to_owned());
    let mut text = String::new();
    let mut rest = expression;
    loop {
        rest = rest.trim_start();
        let quote = rest.chars().next().unwrap_or_default();
        let (value, after) = if matches!(quote, '`' | '"') {
            rest[1..].split_once(quote).ok_or_else(malformed)?
        } else {
            let end = rest.find([' ', ',']).unwrap_or(rest.len());
            let value = match &rest[..end] {
                "namespace" => NAMESPACE,
                "image" | "alternateImage" => IMAGE,
                _ => return Err(malformed()),
            };
            (value, &rest[end..])
        };
        text.push_str(value);
        match after.trim_start().strip_prefix('+') {
            Some(more) => rest = more,
            None => return Ok(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let samples = parse(source).unwrap();
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

    #[test]
    fn what_is_not_understood_is_an_error() {
        let source =
            "gvr(\"\", \"v1\", \"pods\"): {\nStub: other(),\nExpectedEtcdPath: \"/a\",\n},\n";
        assert!(matches!(parse(source), Err(Error::Malformed(_))));
    }
}
