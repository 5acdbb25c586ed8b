//! Of the migrations of a resource one runs at a time, the oldest first. A custom resource's definition says so, and
//! forgets its old versions when all objects are rewritten.
//!
//! Source: `migrationrunner.go`.

use std::sync::Arc;

use component::client::{Client, Patch, Target};
use component::controller::Next;
use component::informer::{Informer, Key, Lister};
use http::Method;
use k8s_openapi::api::storagemigration::v1::StorageVersionMigration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::{Value, json};

use super::{RUNNING, SUCCEEDED, is, is_over, progress, resource, tell};
use crate::context::Context;
use crate::error::Error;
use crate::{conditions, update};

const NAME: &str = "migration-runner-controller";
const MIGRATING: &str = "StorageMigrating";

pub(super) fn start(cx: &Context, migrations: &Informer<StorageVersionMigration>) {
    let queue = cx.queue::<Key>(NAME);
    let wake = queue.clone();
    migrations.subscribe(move |_, event| wake.add(key_of(event.object())));
    let (context, migrations) = (cx.clone(), migrations.lister());
    cx.run(1, &queue, move |key| {
        let (cx, migrations) = (context.clone(), migrations.clone());
        async move { reconcile(&cx, &migrations, &key).await }
    });
}

/// The name of the resource's definition, if it is a custom one: what migrations are grouped by.
fn key_of(migration: &StorageVersionMigration) -> Key {
    let resource = resource(migration);
    Key::new("", &format!("{}.{}", resource.resource, resource.group))
}

/// Which migrations are over and still said to run, and which one may run next.
fn choose(
    all: &[Arc<StorageVersionMigration>],
) -> (
    Vec<&Arc<StorageVersionMigration>>,
    Option<&Arc<StorageVersionMigration>>,
) {
    let done = all
        .iter()
        .filter(|m| is(m, RUNNING) && is_over(m))
        .collect();
    if all.iter().any(|m| is(m, RUNNING) && !is_over(m)) {
        return (done, None);
    }
    let waiting = all.iter().filter(|m| !is(m, RUNNING) && !is_over(m));
    let age = |m: &&Arc<StorageVersionMigration>| {
        let created = m.metadata.creation_timestamp.as_ref();
        (created.map(|t| t.0), m.metadata.name.clone())
    };
    (done, waiting.min_by_key(age))
}

async fn reconcile(
    cx: &Context,
    migrations: &Lister<StorageVersionMigration>,
    key: &Key,
) -> Result<Next, Error> {
    let mut all = migrations.list();
    all.retain(|m| key_of(m) == *key);
    let (done, next) = choose(&all);
    let client = cx.client().await?;
    for migration in done {
        finish(cx, &client, key, migration).await?;
    }
    if let Some(migration) = next {
        let name = migration.metadata.name.as_deref().unwrap_or_default();
        if let Some(definition) = definition(&client, key).await? {
            let text = format!("Migration {name} is running");
            say(
                cx,
                &client,
                &definition,
                (true, "MigrationRunning", &text),
                None,
            )
            .await?;
        }
        let text = progress(None, None);
        tell(
            &client,
            migration,
            cx.now(),
            &[(RUNNING, "MigrationRunning", &text)],
        )
        .await?;
    }
    Ok(Next::Done)
}

async fn finish(
    cx: &Context,
    client: &Client,
    key: &Key,
    migration: &StorageVersionMigration,
) -> Result<(), Error> {
    if let Some(definition) = definition(client, key).await? {
        let (reason, text, stored) = outcome(&definition, is(migration, SUCCEEDED));
        let said = (false, reason, text.as_str());
        say(cx, client, &definition, said, stored.as_deref()).await?;
    }
    update::status(&client.all(), migration, |m| {
        let status = m.status.get_or_insert_default();
        let said = Condition {
            observed_generation: migration.metadata.generation,
            ..conditions::made(
                RUNNING,
                false,
                "MigrationCompleted",
                "Migration completed",
                cx.now(),
            )
        };
        conditions::set(status.conditions.get_or_insert_default(), said);
    })
    .await?;
    Ok(())
}

/// What a definition is to say of a migration that is over, and the one version that its objects are stored in.
fn outcome(definition: &Value, succeeded: bool) -> (&'static str, String, Option<String>) {
    let conditions = definition["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    let told = conditions.find(|c| c["type"] == MIGRATING);
    // A change in between may have made another version the stored one.
    let same =
        told.is_some_and(|c| c["observedGeneration"] == definition["metadata"]["generation"]);
    let versions = definition["spec"]["versions"].as_array();
    let mut versions = versions.into_iter().flatten();
    let stored = versions.find(|v| v["storage"] == true);
    let stored = stored.and_then(|v| v["name"].as_str()).filter(|_| same);
    let (reason, text) = match (succeeded, same) {
        (true, true) => (
            "MigrationSucceeded",
            "The migration has succeeded and the stored versions have been updated",
        ),
        (true, false) => (
            "MigrationSucceeded",
            "The migration has succeeded but the stored versions have not been updated due to a generation mismatch",
        ),
        (false, _) => ("MigrationFailed", "The migration has failed"),
    };
    (reason, text.to_owned(), stored.map(str::to_owned))
}

/// The definition of a custom resource, as a tree: nothing but a few fields of it matters here.
async fn definition(client: &Client, key: &Key) -> Result<Option<Value>, Error> {
    let path = target().path(None) + "/" + &component::client::path_escape(key.name());
    match client.request(Method::GET, &path, &[], None::<&()>).await {
        Ok(definition) => Ok(Some(definition)),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(e.into()),
    }
}

fn target() -> Target {
    Target::new(
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
    )
}

/// Says in a definition whether a migration runs: of the definition as it was read, else it is a conflict.
async fn say(
    cx: &Context,
    client: &Client,
    definition: &Value,
    (is, reason, message): (bool, &str, &str),
    stored: Option<&str>,
) -> Result<(), Error> {
    let meta = &definition["metadata"];
    let mut status = json!({"conditions": [{
        "type": MIGRATING,
        "status": if is { "True" } else { "False" },
        "lastTransitionTime": Time(cx.now()),
        "reason": reason,
        "message": message,
        "observedGeneration": meta["generation"],
    }]});
    if let Some(stored) = stored {
        status["storedVersions"] = json!([stored]);
    }
    let wanted = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": meta["name"], "resourceVersion": meta["resourceVersion"]},
        "status": status,
    });
    let patch = Patch::apply(NAME, true, &wanted)?;
    let name = meta["name"].as_str().unwrap_or_default();
    client
        .metadata(target(), None)
        .patch_status(name, &patch)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn migration(name: &str, created: &str, conditions: &[&str]) -> Arc<StorageVersionMigration> {
        let conditions: Vec<Value> = conditions
            .iter()
            .map(|c| json!({"type": c, "status": "True", "reason": "", "message": "", "lastTransitionTime": created}))
            .collect();
        Arc::new(
            proto::typed::from_json_value(json!({
                "metadata": {"name": name, "creationTimestamp": created},
                "spec": {"resource": {"group": "x.io", "resource": "things"}},
                "status": {"conditions": conditions},
            }))
            .unwrap(),
        )
    }

    fn names(all: &[Arc<StorageVersionMigration>]) -> (Vec<String>, Option<String>) {
        let name = |m: &Arc<StorageVersionMigration>| m.metadata.name.clone().unwrap();
        let (done, next) = choose(all);
        (done.into_iter().map(name).collect(), next.map(name))
    }

    #[test]
    fn one_migration_of_a_resource_runs_at_a_time_the_oldest_first() {
        let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        let young = migration("a", late, &[]);
        let old = migration("b", early, &[]);
        let done = migration("c", early, &[RUNNING, SUCCEEDED]);
        let runs = migration("d", early, &[RUNNING]);
        let over = migration("e", early, &["Failed"]);
        let all = [young, old, done, over];
        assert_eq!(names(&all), (vec!["c".to_owned()], Some("b".to_owned())));
        let mut all = all.to_vec();
        all.push(runs);
        assert_eq!(names(&all), (vec!["c".to_owned()], None));
    }

    #[test]
    fn old_versions_are_forgotten_unless_the_definition_changed() {
        let definition = |told: u64| {
            json!({
                "metadata": {"generation": 3},
                "spec": {"versions": [{"name": "v1", "storage": false}, {"name": "v2", "storage": true}]},
                "status": {"conditions": [{"type": MIGRATING, "observedGeneration": told}]},
            })
        };
        assert_eq!(outcome(&definition(3), true).2.as_deref(), Some("v2"));
        let (reason, text, stored) = outcome(&definition(2), true);
        assert_eq!((reason, stored), ("MigrationSucceeded", None));
        assert!(text.contains("generation mismatch"));
        assert_eq!(outcome(&definition(3), false).0, "MigrationFailed");
    }
}
