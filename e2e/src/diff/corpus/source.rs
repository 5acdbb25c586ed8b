//! What the corpus is made from: upstream's discovery and OpenAPI, and valid objects.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::super::case::name;
use super::super::resource::Resource;
use super::super::value::text;
use super::super::{golden, later, samples, yaml};
use crate::cluster::Cluster;
use crate::workshop::Workshop;
use crate::{files, https};

/// Below the clone: valid objects, in YAML.
const SEEDS: &str = "hack/go/kubernetes/oracle/seeds";
/// The release whose golden objects are used.
const HEAD: &str = "HEAD";

#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error(transparent)]
    Https(#[from] https::Error),
    #[error("{path}: {status}")]
    Refused { path: String, status: u16 },
    #[error(transparent)]
    File(#[from] files::Error),
    #[error("{path}")]
    Yaml {
        path: PathBuf,
        #[source]
        cause: yaml::Error,
    },
}

/// An object that can be created.
#[derive(Clone, Debug)]
pub struct Seed {
    pub resource: Resource,
    pub object: Value,
    /// What its status can be changed to.
    pub status: Option<Value>,
    /// Where it comes from, and which one of there.
    pub origin: String,
}

#[derive(Default)]
pub struct Source {
    /// With subresources.
    pub resources: Vec<Resource>,
    /// OpenAPI v3 documents by version.
    pub schemas: BTreeMap<String, Value>,
    pub seeds: Vec<Seed>,
    /// Objects whose every field is set, to nonsense mostly.
    pub golden: Vec<Seed>,
}

impl Source {
    /// Asks upstream's server, and reads the objects.
    ///
    /// # Errors
    /// If something of it is not there.
    pub fn read(cluster: &Cluster, workshop: &Workshop) -> Result<Self, super::Error> {
        let mut source = Self::default();
        let groups = get(cluster, "/apis")?;
        for version in Resource::versions(&groups) {
            if later::is_later(&version) {
                continue;
            }
            let root = Resource::root(&version);
            source
                .resources
                .extend(Resource::parse(&get(cluster, &root)?));
            let schema = get(cluster, &format!("/openapi/v3{root}"))?;
            source.schemas.insert(version, schema);
        }
        for sample in samples::read(&workshop.upstream_tree().map_err(golden::Error::from)?)? {
            let named = |of: &&Resource| of.version == sample.version && of.name == sample.resource;
            let Some(resource) = source.resources.iter().find(named).cloned() else {
                continue; // not served unless asked for
            };
            source.seeds.push(Seed {
                object: prepared(&resource, sample.object),
                status: sample.status,
                origin: "sample".to_owned(),
                resource,
            });
        }
        source
            .seeds
            .extend(source.files(&workshop.root().join(SEEDS))?);
        for golden in golden::all(workshop)?
            .into_iter()
            .filter(|of| of.release == HEAD)
        {
            if let Some(resource) = source
                .resource(&golden.group_version(), &golden.kind)
                .cloned()
            {
                source.golden.push(Seed {
                    object: prepared(&resource, golden.as_new()?),
                    status: None,
                    origin: format!("golden {}", golden.release),
                    resource,
                });
            }
        }
        Ok(source)
    }

    /// The objects of a directory of YAML files; none if there is no such directory.
    fn files(&self, dir: &Path) -> Result<Vec<Seed>, Error> {
        let Ok(entries) = fs::read_dir(dir) else {
            return Ok(Vec::new());
        };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|of| of == "yaml"));
        paths.sort();
        let mut seeds = Vec::new();
        for path in paths {
            let documents = fs::read_to_string(&path).map_err(files::cannot("read", &path))?;
            let objects = yaml::parse(&documents).map_err(|cause| Error::Yaml {
                path: path.clone(),
                cause,
            })?;
            let file = path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            for (index, object) in objects.into_iter().enumerate() {
                let [version, kind] = ["apiVersion", "kind"].map(|of| text(&object[of]));
                if let Some(resource) = self.resource(version, kind).cloned() {
                    seeds.push(Seed {
                        object: prepared(&resource, object),
                        status: None,
                        origin: format!("seed {file} {}", index + 1),
                        resource,
                    });
                }
            }
        }
        Ok(seeds)
    }

    /// The resource of a kind that can be created.
    fn resource(&self, version: &str, kind: &str) -> Option<&Resource> {
        let named = |of: &&Resource| of.version == version && of.kind == kind && of.can("create");
        self.resources.iter().filter(|of| of.is_whole()).find(named)
    }

    /// The resources that are no subresources.
    pub fn whole(&self) -> impl Iterator<Item = &Resource> {
        self.resources.iter().filter(|of| of.is_whole())
    }

    /// The subresources of a resource, by their own names.
    pub fn subresources<'a>(
        &'a self,
        of: &'a Resource,
    ) -> impl Iterator<Item = (&'a str, &'a Resource)> {
        self.resources.iter().filter_map(move |sub| {
            let (whole, name) = sub.name.split_once('/')?;
            (whole == of.name && sub.version == of.version).then_some((name, sub))
        })
    }

    /// The best object there is to begin with: the first of the files, else upstream's sample.
    pub fn seed(&self, resource: &Resource) -> Option<&Seed> {
        let own = || self.seeds.iter().filter(|seed| seed.resource == *resource);
        own()
            .find(|seed| seed.origin != "sample")
            .or_else(|| own().next())
    }
}

fn get(cluster: &Cluster, path: &str) -> Result<Value, Error> {
    let answer = cluster.get(path)?;
    match (answer.status, serde_json::from_slice(&answer.body)) {
        (200, Ok(json)) => Ok(json),
        (status, _) => Err(Error::Refused {
            path: path.to_owned(),
            status,
        }),
    }
}

/// An object of its kind in the case's namespace, under a name.
fn prepared(resource: &Resource, mut object: Value) -> Value {
    object["apiVersion"] = resource.version.clone().into();
    object["kind"] = resource.kind.clone().into();
    if let Some(meta) = object["metadata"].as_object_mut() {
        meta.remove("namespace");
    }
    if name(&object).is_empty() && text(&object["metadata"]["generateName"]).is_empty() {
        object["metadata"]["name"] = "seed".into();
    }
    if resource.kind == "Pod"
        && let Some(spec) = object["spec"].as_object_mut()
    {
        // Of which there would have to be objects, or no such pod could be made.
        spec.remove("priorityClassName");
        spec.remove("runtimeClassName");
    }
    rename(&mut object);
    // What an event is about lies where the event does.
    for about in ["/involvedObject/namespace", "/regarding/namespace"] {
        if let Some(namespace) = object.pointer_mut(about) {
            *namespace = "${ns}".into();
        }
    }
    object
}

/// The samples' namespace is the case's.
fn rename(value: &mut Value) {
    match value {
        Value::String(text) if text == samples::NAMESPACE => *text = "${ns}".to_owned(),
        Value::Object(fields) => fields.values_mut().for_each(rename),
        Value::Array(members) => members.iter_mut().for_each(rename),
        _ => {}
    }
}
