//! Reviews: resources that are only computed, never stored. Who is this token's, may somebody do
//! this, what may I do, who am I.
//!
//! Upstream: `pkg/registry/{authentication,authorization}/*review`.

use std::future::Future;
use std::pin::Pin;

use http::Response;
use hyper::body::Incoming;
use proto::Value;
use proto::catalogue::{self, Resource, names as n};
use resources::clock::Clock;
use resources::negotiate::{self, Offers};
use resources::object::{self, Type};
use resources::options::{FieldValidation, WriteOptions};
use resources::status::Failure;

use super::{manager, read_body};
use crate::admission::webhook::Reinvocation;
use crate::admission::{self, Operation, Options};
use crate::body::{self, Body};
use crate::chain::Exchange;
use crate::dispatch::router;
use crate::{managed, render};

mod access;
mod identity;
mod rules;

type Answer = for<'a> fn(
    &'a Exchange,
    Value,
) -> Pin<Box<dyn Future<Output = Result<Value, Failure>> + Send + 'a>>;

/// One kind of review, in all its versions.
pub struct Review {
    group: &'static str,
    resource: &'static str,
    /// Fills in what is asked for.
    answer: Answer,
}

const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";

static REVIEWS: [Review; 6] = [
    Review {
        group: AUTHENTICATION,
        resource: "tokenreviews",
        answer: |x, object| Box::pin(identity::token(x, object)),
    },
    Review {
        group: AUTHENTICATION,
        resource: "selfsubjectreviews",
        answer: |x, object| Box::pin(std::future::ready(Ok(identity::own(x, object)))),
    },
    Review {
        group: AUTHORIZATION,
        resource: "subjectaccessreviews",
        answer: |x, object| Box::pin(access::subject(x, object)),
    },
    Review {
        group: AUTHORIZATION,
        resource: "localsubjectaccessreviews",
        answer: |x, object| Box::pin(access::local(x, object)),
    },
    Review {
        group: AUTHORIZATION,
        resource: "selfsubjectaccessreviews",
        answer: |x, object| Box::pin(access::own(x, object)),
    },
    Review {
        group: AUTHORIZATION,
        resource: "selfsubjectrulesreviews",
        answer: |x, object| Box::pin(std::future::ready(rules::own(x, object))),
    },
];

/// The review that serves a resource.
#[must_use]
pub fn find(group: &str, version: &str, resource: &str) -> Option<&'static Review> {
    let review = REVIEWS
        .iter()
        .find(|r| r.group == group && r.resource == resource)?;
    review.resource(version).map(|_| review)
}

impl Review {
    /// The resource in a version; none if that is not served by default.
    pub(crate) fn resource(&self, version: &str) -> Option<&'static Resource> {
        catalogue::resource(self.group, version, self.resource).filter(|r| r.on_by_default)
    }

    /// Answers a review.
    ///
    /// # Errors
    /// If the request is not the creation of a valid review.
    pub async fn serve(
        &self,
        x: &mut Exchange,
        incoming: Incoming,
    ) -> Result<Response<Body>, Failure> {
        let resource = self
            .resource(&x.info.version)
            .ok_or_else(Failure::no_such_resource)?;
        router::check(resource, &x.info, &x.method, &x.headers)?;
        let media = negotiate::output(&x.headers, &x.query, Offers::Plain)?;
        let encoding = negotiate::input(&x.headers)?;
        let body = read_body(&x.headers, incoming).await?;
        let options = WriteOptions::read(&x.query, "CreateOptions")?;
        let Resource {
            group,
            version,
            kind,
            message,
            ..
        } = *resource;
        let expected = Type {
            group,
            version,
            kind,
            message,
        };
        let decoded = object::decode(&body, encoding, &expected, options.field_validation)?;
        if options.field_validation == FieldValidation::Warn {
            x.warnings.extend(decoded.problems);
        }
        let mut object = decoded.object;
        x.record_object(&object, &expected);
        resources::before::match_namespace(&mut object, &x.info.namespace)?;
        let manager = manager(x, &options.field_manager);
        let now = Clock::now().text;
        managed::record_sent(&expected, "", &mut object, &manager, &now);
        admit(x, resource, &mut object, &options).await?;
        let answered = (self.answer)(x, object).await?;
        let bytes = render::tree(&answered, &expected, media);
        Ok(body::answer(201, media.content_type(), body::full(bytes)))
    }
}

async fn admit(
    x: &mut Exchange,
    resource: &'static Resource,
    object: &mut Value,
    options: &WriteOptions,
) -> Result<(), Failure> {
    let server = x.server.clone();
    let deadline = Some(x.write_deadline());
    let mut write = admission::Attributes {
        operation: Operation::Create,
        resource,
        subresource: "",
        namespace: &x.info.namespace,
        name: "",
        object: Some(object),
        old: None,
        user: &x.user,
        options: Options::Create(options),
        deadline,
        reinvocation: Reinvocation::default(),
        warnings: &mut x.warnings,
        trail: x.trail.as_ref(),
    };
    server.admission.mutate(&server, &mut write).await?;
    server.admission.validate(&server, &mut write).await
}

/// The strings of a list.
fn texts(items: &[Value]) -> Vec<String> {
    items
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// A list of strings, nothing if it is empty.
fn set_texts<T: AsRef<str>>(object: &mut Value, name: proto::NameId, list: &[T]) {
    if !list.is_empty() {
        object.set(
            &[name],
            list.iter()
                .map(|t| Value::from(t.as_ref()))
                .collect::<Vec<_>>(),
        );
    }
}

/// Puts a new status in the place of what was sent.
fn with_status(mut object: Value, status: Value) -> Value {
    object.set(&[n::STATUS], status);
    object
}

#[cfg(test)]
mod tests;
