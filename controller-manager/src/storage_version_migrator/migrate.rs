//! Writes objects as they are, which stores them in the newest version. Source: `storageversionmigrator.go`.

use component::client::{
    Client, Error as ClientError, ListParams, PartialObjectMetadata, Patch, RateLimit,
};
use component::controller::Next;
use component::informer::{Key, Lister};
use k8s_openapi::api::storagemigration::v1::StorageVersionMigration;
use serde_json::json;

use super::{FAILED, RUNNING, SUCCEEDED, Sought, fail, is_over, progress, seek, tell};
use crate::context::Context;
use crate::discovery::Resource;
use crate::error::Error;

/// Objects that are read at a time.
const PAGE: u32 = 500;

/// A version of the store; versions are numbers that grow (KEP-5504).
fn number(version: Option<&str>) -> Option<u64> {
    version?.parse().ok()
}

/// Whether an error of one write may not be there the next time.
fn is_transient(e: &ClientError) -> bool {
    matches!(
        e,
        ClientError::Transport { .. } | ClientError::Timeout { .. }
    ) || e.is_timeout()
        || e.is_too_many_requests()
        || matches!(e.code(), Some(500 | 503))
        || e.reason() == "ServerTimeout"
}

pub(super) async fn reconcile(
    cx: &Context,
    migrations: &Lister<StorageVersionMigration>,
    key: &Key,
) -> Result<Next, Error> {
    let Some(migration) = migrations.by_key(key) else {
        return Ok(Next::Done);
    };
    let status = migration.status.as_ref();
    let limit = number(status.and_then(|s| s.resource_version.as_deref()));
    let (Some(limit), false) = (limit, is_over(&migration)) else {
        return Ok(Next::Done);
    };
    let pass = Pass {
        cx,
        client: cx.client().await?,
        migration: &migration,
    };
    match seek(&pass.client, &migration, cx.now()).await? {
        Sought::Found(found) => pass.migrate(&found, limit).await,
        Sought::MayCome => Ok(Next::Again),
        Sought::Missing => {
            let text = "migration encountered unhandled error: unable to obtain GVR from discovery";
            fail(&pass.client, &migration, cx.now(), text).await
        }
    }
}

struct Pass<'p> {
    cx: &'p Context,
    client: Client,
    migration: &'p StorageVersionMigration,
}

impl Pass<'_> {
    async fn tell(&self, said: &[(&str, &str, &str)]) -> Result<(), Error> {
        tell(&self.client, self.migration, self.cx.now(), said).await
    }

    async fn migrate(&self, resource: &Resource, limit: u64) -> Result<Next, Error> {
        let objects = self.objects(resource).await?;
        let all = objects.len();
        // What was written since needs nothing.
        let old: Vec<_> = objects
            .iter()
            .filter(|o| number(o.metadata.resource_version.as_deref()).is_none_or(|v| v <= limit))
            .collect();
        let writer = self.writer();
        for (done, object) in old.iter().enumerate() {
            let Err(e) = write(&writer, resource, object).await else {
                continue;
            };
            let left = old.len() - done;
            let text = e.to_string();
            if is_transient(&e) {
                let text = progress(Some((left, all)), Some(&text));
                // The write's error is what counts.
                let _ = self.tell(&[(RUNNING, "MigrationRunning", &text)]).await;
                return Err(e.into());
            }
            let running = progress(Some((left, all)), None);
            let failed = format!(
                "{left}/{all} not yet migrated. migration encountered unhandled error: {text}"
            );
            self.tell(&[
                (RUNNING, "MigrationRunning", &running),
                (FAILED, "StorageVersionMigrationFailed", &failed),
            ])
            .await?;
            return Ok(Next::Done);
        }
        self.tell(&[
            (RUNNING, "MigrationRunning", &progress(Some((0, all)), None)),
            (
                SUCCEEDED,
                "StorageVersionMigrationSucceeded",
                "Migration completed",
            ),
        ])
        .await?;
        Ok(Next::Done)
    }

    /// A migration is many writes: upstream's limits for it.
    fn writer(&self) -> Client {
        let connection = &self.cx.config().generic.client_connection;
        let limit = RateLimit::new(connection.qps * 20.0, connection.burst.saturating_mul(100));
        self.client.named("migration", limit)
    }

    /// The metadata of all objects, of one moment that is not before the migration began.
    async fn objects(&self, resource: &Resource) -> Result<Vec<PartialObjectMetadata>, Error> {
        let api = self.client.metadata(resource.target.clone(), None);
        let mut all = Vec::new();
        let mut params = ListParams {
            limit: PAGE,
            ..ListParams::default()
        };
        loop {
            let page = api.list(&params).await?;
            let next = page.continue_token().map(str::to_owned);
            all.extend(page.items);
            match next.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = token,
                None => return Ok(all),
            }
        }
    }
}

/// Writes an object as it is. One that changed or went in the meantime needs it no more.
async fn write(
    client: &Client,
    resource: &Resource,
    object: &PartialObjectMetadata,
) -> Result<(), ClientError> {
    let (target, meta) = (&resource.target, &object.metadata);
    let version = if target.group.is_empty() {
        target.version.to_string()
    } else {
        format!("{}/{}", target.group, target.version)
    };
    let same = json!({
        "apiVersion": version,
        "kind": target.kind,
        "metadata": {"resourceVersion": meta.resource_version},
    });
    let patch = Patch::merge(&same)?.managed_by(crate::names::STORAGE_VERSION_MIGRATOR);
    let api = client.metadata(target.clone(), meta.namespace.as_deref());
    match api
        .patch(meta.name.as_deref().unwrap_or_default(), &patch)
        .await
    {
        Err(e) if !e.is_conflict() && !e.is_not_found() => Err(e),
        _ => Ok(()),
    }
}
