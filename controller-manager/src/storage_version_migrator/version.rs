//! Notes the version of the store when a migration begins. Source: `resourceversion.go`.

use component::client::ListParams;
use component::controller::Next;
use component::informer::{Key, Lister};
use k8s_openapi::api::storagemigration::v1::StorageVersionMigration;

use super::{RUNNING, Sought, fail, is, is_over, seek};
use crate::context::Context;
use crate::discovery::Resource;
use crate::error::Error;
use crate::update;

/// What a resource must be able to do, as upstream prints it.
const VERBS: [&str; 3] = ["update", "patch", "list"];
/// A namespace that cannot be: its lists are empty and as new as any.
const NO_NAMESPACE: &str = "@fake:svm_ns!";

pub(super) async fn reconcile(
    cx: &Context,
    migrations: &Lister<StorageVersionMigration>,
    key: &Key,
) -> Result<Next, Error> {
    let Some(migration) = migrations.by_key(key) else {
        return Ok(Next::Done);
    };
    let status = migration.status.as_ref();
    let version = status.and_then(|s| s.resource_version.as_deref());
    if !is(&migration, RUNNING) || is_over(&migration) || version.is_some_and(|v| !v.is_empty()) {
        return Ok(Next::Done);
    }
    let client = cx.client().await?;
    let fail = async |text: &str| fail(&client, &migration, cx.now(), text).await;
    let found = match seek(&client, &migration, cx.now()).await? {
        Sought::Found(found) => found,
        Sought::MayCome => return Ok(Next::Again),
        Sought::Missing => return fail("resource does not exist in discovery").await,
    };
    if !VERBS.iter().all(|verb| found.can(verb)) {
        let text = format!(
            "resource {:?} does not support discovery operations: [{}]",
            named(&found),
            VERBS.join(" ")
        );
        return fail(&text).await;
    }
    let namespace = found.namespaced.then_some(NO_NAMESPACE);
    let params = ListParams {
        limit: 1,
        ..ListParams::default()
    };
    let list = client
        .metadata(found.target.clone(), namespace)
        .list(&params)
        .await?;
    let version = list.resource_version().to_owned();
    if version.parse::<u64>().is_err() {
        let text = format!(
            "latest resourceVersion for {} is not valid: {version:?}",
            named(&found)
        );
        return fail(&text).await;
    }
    update::status(&client.all(), &*migration, |m| {
        m.status.get_or_insert_default().resource_version = Some(version);
    })
    .await?;
    Ok(Next::Done)
}

/// A resource as Go prints it.
pub(super) fn named(resource: &Resource) -> String {
    let target = &resource.target;
    format!(
        "{}/{}, Resource={}",
        target.group, target.version, target.resource
    )
}
