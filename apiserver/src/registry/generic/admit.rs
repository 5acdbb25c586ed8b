//! Admission of a write: whoever may change or refuse it is asked, with the objects in the form in which the request is about
//! them.

use proto::Value;
use proto::path::FieldError;
use resources::options::WriteOptions;
use resources::status::Failure;

use super::{Run, Write};
use crate::admission::{self, Operation, Options};
use crate::authz;

/// Which half of admission.
#[derive(Clone, Copy)]
pub(super) enum Step {
    Mutate,
    Validate,
}

/// A form of an object that a subresource is about instead of the object.
pub struct Lens {
    /// The form.
    pub of: fn(&Value) -> Value,
    /// The object with what was changed in its form; the name is that of the object.
    pub put: fn(&Value, &Value, &str) -> Result<Value, Failure>,
}

impl Write<'_> {
    pub(super) async fn admit(
        &self,
        step: Step,
        name: &str,
        object: Option<&mut Value>,
        old: Option<&Value>,
        options: Options<'_>,
    ) -> Result<(), Failure> {
        let mut warnings = Vec::new();
        let operation = match (&object, old) {
            (None, _) => Operation::Delete,
            (Some(_), None) => Operation::Create,
            (Some(_), Some(_)) => Operation::Update,
        };
        let mut write = admission::Attributes {
            operation,
            resource: self.resource,
            subresource: self.subresource,
            namespace: self.namespace,
            // Whoever deletes a collection names none of its objects.
            name: if self.verb == "deletecollection" {
                ""
            } else {
                name
            },
            object,
            old,
            user: self.user,
            options,
            deadline: self.deadline,
            reinvocation: admission::webhook::Reinvocation::default(),
            warnings: &mut warnings,
            trail: self.trail,
        };
        let chain = &self.server.admission;
        let outcome = match step {
            Step::Mutate => match chain.mutate(self.server, &mut write).await {
                Ok(()) => authz::escalation::check(self.server, &write).await,
                refused => refused,
            },
            Step::Validate => match authz::parameters::check(self.server, &write).await {
                Ok(()) => chain.validate(self.server, &mut write).await,
                refused => refused,
            },
        };
        self.warnings.lock().append(&mut warnings);
        outcome
    }

    /// Admission of an update, in the form that it is about.
    pub(super) async fn admit_update<C>(
        &self,
        run: &Run<'_, C>,
        step: Step,
        new: &mut Value,
        old: &Value,
    ) -> Result<(), Failure> {
        let options = Options::Update(run.options);
        let Some(lens) = run.how.lens else {
            return self
                .admit(step, run.name, Some(new), Some(old), options)
                .await;
        };
        let sent = (lens.of)(new);
        let mut shown = sent.clone();
        let was = (lens.of)(old);
        self.admit(step, run.name, Some(&mut shown), Some(&was), options)
            .await?;
        if matches!(step, Step::Mutate) && shown != sent {
            *new = (lens.put)(new, &shown, run.name)?;
        }
        Ok(())
    }

    /// What speaks against a write and is no matter of the object alone.
    pub(super) async fn objections(&self, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
        if self.endpoint.resource.group != authz::devices::GROUP {
            return Vec::new();
        }
        let asked = authz::devices::Asked {
            server: self.server,
            user: self.user,
            verb: self.verb,
            resource: self.endpoint.resource,
            subresource: self.subresource,
            namespace: self.namespace,
            new,
            old,
        };
        Box::pin(authz::devices::objections(asked)).await
    }

    /// Admission of the body of a subresource that is not stored.
    pub async fn admit_body(
        &self,
        name: &str,
        body: &mut Value,
        options: &WriteOptions,
    ) -> Result<(), Failure> {
        let options = Options::Create(options);
        self.admit(Step::Mutate, name, Some(body), None, options)
            .await?;
        self.admit(Step::Validate, name, Some(body), None, options)
            .await
    }
}
