//! Rewrites all objects of a resource, so that they are stored in its newest version
//! (`storage-version-migrator-controller`, KEP-4192).
//!
//! Three workers hand a migration on by its status: [`runner`] lets one migration per resource run and keeps the
//! definitions of custom resources informed, [`version`] notes how new the objects are at the beginning, [`migrate`]
//! writes all that are not newer than that. Source: `pkg/controller/storageversionmigrator`.

use component::client::Client;
use component::controller::Next;
use component::informer::{Informer, Key};
use k8s_openapi::api::storagemigration::v1::StorageVersionMigration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::GroupResource;
use k8s_openapi::jiff::Timestamp;

use crate::conditions::{self, made};
use crate::context::Context;
use crate::discovery::{Resource, discover};
use crate::error::Error;
use crate::{update, watch};

mod migrate;
mod runner;
mod version;

const RUNNING: &str = "Running";
const SUCCEEDED: &str = "Succeeded";
const FAILED: &str = "Failed";

/// How long a resource that discovery does not know may still come.
const PATIENCE_SECONDS: i64 = 60;

/// Starts the controller.
///
/// # Errors
/// Without the garbage collector, as upstream has it.
pub fn start(cx: &Context) -> anyhow::Result<()> {
    anyhow::ensure!(
        cx.config().garbage_collector.enable_garbage_collector,
        "storage version migrator requires garbage collector"
    );
    let migrations: Informer<StorageVersionMigration> = cx.informer();
    runner::start(cx, &migrations);
    let versions = cx.queue::<Key>("resource-version-controller");
    watch::own(&migrations, &versions);
    let (context, lister) = (cx.clone(), migrations.lister());
    cx.run(1, &versions, move |key| {
        let (cx, migrations) = (context.clone(), lister.clone());
        async move { version::reconcile(&cx, &migrations, &key).await }
    });
    let queue = cx.queue::<Key>(cx.name());
    watch::own(&migrations, &queue);
    let (context, lister) = (cx.clone(), migrations.lister());
    cx.run(5, &queue, move |key| {
        let (cx, migrations) = (context.clone(), lister.clone());
        async move { migrate::reconcile(&cx, &migrations, &key).await }
    });
    Ok(())
}

fn is(migration: &StorageVersionMigration, condition: &str) -> bool {
    let status = migration.status.as_ref();
    conditions::is_true(status.and_then(|s| s.conditions.as_ref()), condition)
}

fn is_over(migration: &StorageVersionMigration) -> bool {
    is(migration, SUCCEEDED) || is(migration, FAILED)
}

/// What is migrated.
fn resource(migration: &StorageVersionMigration) -> GroupResource {
    let spec = migration.spec.clone().unwrap_or_default();
    spec.resource
}

/// A resource as the server knows it.
enum Sought {
    Found(Resource),
    /// The server may still be told of it.
    MayCome,
    Missing,
}

/// Looks for what is migrated.
async fn seek(
    client: &Client,
    migration: &StorageVersionMigration,
    now: Timestamp,
) -> Result<Sought, Error> {
    let wanted = resource(migration);
    let mut all = discover(client).await?.preferred.into_iter();
    let found =
        all.find(|r| r.target.group == wanted.group && r.target.resource == wanted.resource);
    let created = migration.metadata.creation_timestamp.as_ref();
    let is_young = created.is_some_and(|t| now.as_second() - t.0.as_second() < PATIENCE_SECONDS);
    Ok(match found {
        Some(found) => Sought::Found(found),
        None if is_young => Sought::MayCome,
        None => Sought::Missing,
    })
}

/// Ends a migration that cannot go on.
async fn fail(
    client: &Client,
    migration: &StorageVersionMigration,
    now: Timestamp,
    text: &str,
) -> Result<Next, Error> {
    let said = [(FAILED, "StorageVersionMigrationFailed", text)];
    tell(client, migration, now, &said).await?;
    Ok(Next::Done)
}

/// Says conditions of a migration: kind, reason and message of each.
async fn tell(
    client: &Client,
    migration: &StorageVersionMigration,
    now: Timestamp,
    said: &[(&str, &str, &str)],
) -> Result<(), Error> {
    update::status(&client.all(), migration, |m| {
        let status = m.status.get_or_insert_default();
        let all = status.conditions.get_or_insert_default();
        for (kind, reason, message) in said {
            conditions::set(all, made(kind, true, reason, message, now));
        }
    })
    .await?;
    Ok(())
}

/// What `Running` says: how many objects are left of how many, and what is in the way.
fn progress(counts: Option<(usize, usize)>, trouble: Option<&str>) -> String {
    let mut text = "The migration is running".to_owned();
    match counts {
        Some((0, all)) if all > 0 => text += &format!(", {all} objects verified migrated"),
        Some((left, all)) if all > 0 => text += &format!(", {left}/{all} objects not yet migrated"),
        _ => {}
    }
    if let Some(trouble) = trouble {
        text += &format!("; transient error: {trouble}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_in_numbers() {
        assert_eq!(progress(None, None), "The migration is running");
        assert_eq!(progress(Some((0, 0)), None), "The migration is running");
        assert_eq!(
            progress(Some((2, 3)), Some("busy")),
            "The migration is running, 2/3 objects not yet migrated; transient error: busy"
        );
        assert_eq!(
            progress(Some((0, 3)), None),
            "The migration is running, 3 objects verified migrated"
        );
    }
}
