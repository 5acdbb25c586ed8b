//! Writing slices, and remembering what was written.

use std::sync::Arc;

use component::client::Kind;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions;
use k8s_openapi::jiff::Timestamp;

use super::pack::Changes;
use super::tracker::Tracker;
use crate::context::Context;
use crate::error::Error;
use crate::members::TRIGGER_TIME;
use crate::update::differ;

/// Writes slices of one controller.
pub struct Writer {
    cx: Context,
    tracker: Arc<Tracker>,
}

impl Writer {
    #[must_use]
    pub fn new(cx: Context) -> Self {
        Self {
            cx,
            tracker: Arc::default(),
        }
    }

    /// What was written so far.
    #[must_use]
    pub fn tracker(&self) -> Arc<Tracker> {
        Arc::clone(&self.tracker)
    }

    /// Makes the changes; `triggered` is when their cause happened. An owner that is being deleted gets
    /// no new slices: the garbage collector would race with them.
    ///
    /// # Errors
    /// At the first change that fails.
    pub async fn apply(
        &self,
        owner: &impl Kind,
        changes: Changes,
        triggered: Option<Timestamp>,
    ) -> Result<(), Error> {
        if changes.is_empty() {
            return Ok(());
        }
        let namespace = owner.metadata().namespace.as_deref().unwrap_or_default();
        let api = self
            .cx
            .client()
            .await?
            .namespaced::<EndpointSlice>(namespace);
        if owner.metadata().deletion_timestamp.is_none() {
            for mut slice in changes.create {
                stamp(&mut slice, triggered);
                match api.create(&slice).await {
                    Ok(made) => self.tracker.wrote(&made),
                    Err(e) if e.is_namespace_terminating() => return Ok(()),
                    Err(e) => return Err(e.into()),
                }
            }
        }
        for mut update in changes.update {
            stamp(&mut update.new, triggered);
            // Slices are the controller's alone, no field of others is lost.
            if differ(&*update.old, &update.new)? {
                self.tracker.wrote(&api.replace(&update.new).await?);
            }
        }
        for slice in changes.delete {
            self.delete(&slice).await?;
        }
        Ok(())
    }

    /// Deletes a slice.
    ///
    /// # Errors
    /// If the server refuses.
    pub async fn delete(&self, slice: &EndpointSlice) -> Result<(), Error> {
        let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
        let name = slice.metadata.name.as_deref().unwrap_or_default();
        let api = self
            .cx
            .client()
            .await?
            .namespaced::<EndpointSlice>(namespace);
        match api.delete(name, &DeleteOptions::default()).await {
            Err(e) if !e.is_not_found() => Err(e.into()),
            _ => {
                self.tracker.deleted(slice);
                Ok(())
            }
        }
    }
}

fn stamp(slice: &mut EndpointSlice, triggered: Option<Timestamp>) {
    let annotations = slice.metadata.annotations.get_or_insert_default();
    annotations.remove(TRIGGER_TIME);
    annotations.extend(triggered.map(|at| (TRIGGER_TIME.to_owned(), at.to_string())));
}
