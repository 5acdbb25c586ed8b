//! Delete of one object.

use std::sync::Arc;

use parking_lot::Mutex;
use proto::Value;
use proto::catalogue::names as n;
use resources::before::{self, Deletion};
use resources::clock;
use resources::object;
use resources::options::DeleteOptions;
use resources::status::Failure;
use store::{Change, Entry, UpdateError, WriteError};

use super::{Endpoint, Step, Write};
use crate::admission::Options;
use crate::server::write_failure;

#[derive(Default)]
struct Deleting {
    answer: Option<Arc<Entry>>,
    removes: Option<Value>,
}

impl Write<'_> {
    /// Deletes an object, or marks it for deletion. The second value says whether it is gone.
    pub async fn delete(
        &self,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<(Arc<Entry>, bool), Failure> {
        super::check_segment(name)?;
        let key = self.key(name);
        let r = self.endpoint.resource;
        let state: Mutex<Deleting> = Mutex::default();
        let attempt = |current| self.attempt_delete(&key, name, current, options, &state);
        let outcome = self.updated(&key, attempt).await;
        let state = state.into_inner();
        match outcome {
            Ok(written) => {
                if let Some(gone) = state.removes.as_ref().filter(|_| !options.dry_run) {
                    self.after_delete(gone).await;
                }
                let entry = state
                    .answer
                    .or(written.entry)
                    .ok_or_else(|| Failure::internal("a delete left nothing behind"))?;
                Ok((entry, state.removes.is_some()))
            }
            Err(UpdateError::Refused(failure)) => Err(failure),
            Err(UpdateError::Write(WriteError::NotFound(_))) => {
                Err(Failure::not_found(r.group, r.name, name))
            }
            Err(UpdateError::Write(e)) => Err(write_failure(&e, r.group, r.name, name)),
        }
    }

    async fn attempt_delete(
        &self,
        key: &str,
        name: &str,
        current: Option<Arc<Entry>>,
        options: &DeleteOptions,
        state: &Mutex<Deleting>,
    ) -> Result<Change, Failure> {
        let Endpoint {
            resource,
            strategy,
            hub,
            ..
        } = self.endpoint;
        let Some(current) = current else {
            return Err(Failure::not_found(resource.group, resource.name, name));
        };
        *state.lock() = Deleting::default();
        let old = object::from_body(&current.body, hub)?;
        let mut object = old.clone();
        let mut options = options.clone();
        let deletion = before::delete(
            resource,
            strategy,
            &mut object,
            &mut options,
            clock::seconds(),
        )?;
        // Whoever asks again for what is under way already is not asked about, and tells of what was completed.
        if self.admitted || matches!(deletion, Deletion::Pending) {
            tracing::trace!(name, "a deletion is not subject to admission");
        } else {
            let told = Options::Delete(&options);
            self.admit(Step::Mutate, name, None, Some(&old), told)
                .await?;
            self.admit(Step::Validate, name, None, Some(&old), told)
                .await?;
        }
        if matches!(deletion, Deletion::Remove)
            && let Some(finalizers) = old.at(&[n::METADATA, n::FINALIZERS])
        {
            // Whoever asks for it takes the last ones out of what would have been written; what goes at once is told as it was.
            proto::meta::metadata_mut(&mut object).insert(n::FINALIZERS, finalizers.clone());
        }
        let value = object::to_stored(&object, hub);
        let mut state = state.lock();
        let removes = match deletion {
            // Marked already: another write would tell its watchers of nothing, and they might ask for it again.
            Deletion::Mark { then_remove: false } if object == old => None,
            Deletion::Pending => None,
            Deletion::Remove => Some(true),
            Deletion::Mark { then_remove } => Some(then_remove),
        };
        let Some(removes) = removes else {
            state.answer = Some(current);
            return Ok(Change::Nothing);
        };
        if removes {
            state.removes = Some(old);
        }
        if removes || options.dry_run {
            state.answer = Some(self.imagined(key, value.clone(), current.revision)?);
        }
        if options.dry_run {
            return Ok(Change::Nothing);
        }
        Ok(if removes {
            Change::Delete
        } else {
            Change::Put {
                value,
                ttl: self.ttl(),
            }
        })
    }
}
