//! The scale of whatever is autoscaled, as a tree: it may be anybody's resource.

use component::client::{Client, Error as ClientError, path_escape};
use http::Method;
use k8s_openapi::api::autoscaling::v2::CrossVersionObjectReference;
use serde_json::{Value, json};

use super::{Failed, group_version, no_kind};
use crate::discovery::Discovered;

/// How often a scale that changed meanwhile is written again.
const TRIES: usize = 5;

/// A scale as it was read.
pub(super) struct Scale {
    tree: Value,
    path: String,
}

fn number(value: &Value) -> i32 {
    let number = value.as_i64().unwrap_or(0);
    i32::try_from(number).unwrap_or(i32::MAX)
}

impl Scale {
    /// Reads the scale of a target.
    pub(super) async fn read(
        client: &Client,
        discovered: &Discovered,
        namespace: &str,
        target: &CrossVersionObjectReference,
    ) -> Result<Self, Failed> {
        let (group, _) = group_version(target.api_version.as_deref());
        let mut all = discovered.preferred.iter();
        // Its version is not what matters: a scale is the same in all of them.
        let found = all.find(|r| r.target.group == group && r.target.kind == target.kind);
        let found = found.ok_or_else(|| no_kind(group, &target.kind))?;
        let path = format!(
            "{}/{}/scale",
            found.target.path(Some(namespace)),
            path_escape(&target.name)
        );
        let tree = get(client, &path)
            .await
            .map_err(|e| Failed::new(&e.to_string()))?;
        Ok(Self { tree, path })
    }

    /// How many pods there are to be.
    pub(super) fn wanted(&self) -> i32 {
        number(&self.tree["spec"]["replicas"])
    }

    /// How many there are.
    pub(super) fn there(&self) -> i32 {
        number(&self.tree["status"]["replicas"])
    }

    pub(super) fn selector(&self) -> &str {
        self.tree["status"]["selector"].as_str().unwrap_or_default()
    }

    /// Says how many pods there are to be.
    pub(super) async fn write(self, client: &Client, replicas: i32) -> Result<(), ClientError> {
        let Self { mut tree, path } = self;
        let mut tries = 0;
        loop {
            tree["spec"]["replicas"] = json!(replicas);
            let done = client
                .request::<Value>(Method::PUT, &path, &[], Some(&tree))
                .await;
            tries += 1;
            match done {
                Err(e) if e.is_conflict() && tries < TRIES => tree = get(client, &path).await?,
                done => return done.map(drop),
            }
        }
    }
}

async fn get(client: &Client, path: &str) -> Result<Value, ClientError> {
    client.request(Method::GET, path, &[], None::<&()>).await
}
