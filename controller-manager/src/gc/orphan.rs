//! Orphaning: dependents lose their reference to an owner that is being deleted, and then it may go.

use component::client::Client;
use futures::future::join_all;

use super::Collector;
use super::collect::patch;
use super::graph::{Node, ORPHAN, Uid};
use super::references;
use crate::error::Error;

/// Dependents in work at the same time.
const AT_ONCE: usize = 10;

impl Collector {
    /// Orphans the dependents of an owner.
    pub(super) async fn orphan(&self, owner: Uid) -> Result<(), Error> {
        let Some(node) = self.graph.lock().get(&owner).cloned() else {
            return Ok(());
        };
        let client = self.cx.client().await?;
        let dependents = self.graph.lock().dependents(&owner);
        for some in dependents.chunks(AT_ONCE) {
            let work = some
                .iter()
                .map(|(_, dependent)| self.release(&client, dependent, &owner));
            Error::all(join_all(work).await)?;
        }
        let Some(api) = self.api_of(&client, &node).await? else {
            return Ok(());
        };
        let name = &*node.identity.name;
        match api.find(name).await? {
            Some(latest) if latest.metadata.uid.as_deref() == Some(owner.as_str()) => {
                let free = references::without_finalizer(&latest.metadata, ORPHAN);
                patch(&api, name, free).await
            }
            _ => Ok(()),
        }
    }

    async fn release(&self, client: &Client, dependent: &Node, owner: &Uid) -> Result<(), Error> {
        let Some(api) = self.api_of(client, dependent).await? else {
            return Ok(());
        };
        let name = &*dependent.identity.name;
        let Some(latest) = api.find(name).await? else {
            return Ok(());
        };
        let rest = references::without(&latest.metadata, &[owner.to_string()]);
        patch(&api, name, rest).await
    }
}
