//! What expressions are given of one write, made once for each form in which policies see it.

use std::sync::Arc;

use proto::Value;
use proto::catalogue::Resource;
use resources::object::Type;
use resources::status::Failure;

use super::super::Attributes;
use super::super::given::Given;
use super::super::webhook::forms::Forms;
use super::super::webhook::source::kind;
use super::super::webhook::{Matched, seen_namespace};
use super::params::{self, Memo};
use crate::server::Server;

pub(super) struct Views {
    pub(super) forms: Forms,
    /// By the version of the resource that matched, if it is not the one that was asked for.
    given: Vec<(&'static Resource, Arc<Given>)>,
    namespace: Option<Arc<Value>>,
}

impl Views {
    pub(super) fn new(server: &Server, write: &Attributes<'_>) -> Self {
        let features = &server.config.features;
        Self {
            forms: Forms::new(write.resource, write.subresource, features),
            given: Vec::new(),
            namespace: None,
        }
    }

    /// The object was changed.
    pub(super) fn changed(&mut self) {
        self.forms.changed();
        self.given.clear();
    }

    /// What the objects are seen as, if the write matched as one of this resource.
    pub(super) fn kind(write: &Attributes<'_>, resource: &'static Resource) -> Type {
        kind(resource, write.subresource)
    }

    /// What is given of a write that matched as one of this resource.
    pub(super) fn given(
        &mut self,
        write: &Attributes<'_>,
        resource: &'static Resource,
    ) -> Result<Arc<Given>, Failure> {
        if std::ptr::eq(resource, write.resource) {
            return self.of_conditions(write, resource);
        }
        let known = self
            .given
            .iter()
            .find(|(of, _)| std::ptr::eq(*of, resource));
        if let Some((_, given)) = known {
            return Ok(Arc::clone(given));
        }
        let kind = Self::kind(write, resource);
        let objects = self.forms.all(write, &kind)?;
        let matched = Matched {
            resource,
            kind: &kind,
        };
        let given = Arc::new(Given::new(matched, write, &objects)?);
        self.given.push((resource, Arc::clone(&given)));
        Ok(given)
    }

    /// What is given to conditions then.
    pub(super) fn of_conditions(
        &mut self,
        write: &Attributes<'_>,
        resource: &'static Resource,
    ) -> Result<Arc<Given>, Failure> {
        self.forms.given(write, &Self::kind(write, resource))
    }

    /// The namespace of a write; none if it is in none. A namespace is in none, whatever upstream's other parts say.
    pub(super) async fn namespace(
        &mut self,
        server: &Server,
        memo: &Memo,
        write: &Attributes<'_>,
    ) -> Result<Option<Arc<Value>>, Failure> {
        let name = seen_namespace(write);
        if name.is_empty() || write.is_any("", "namespaces") {
            return Ok(None);
        }
        if self.namespace.is_none() {
            self.namespace = Some(params::namespace(server, memo, name).await?);
        }
        Ok(self.namespace.clone())
    }
}

#[cfg(test)]
mod tests {
    use component::features::Features;

    use super::super::super::testing::versions;
    use super::*;

    #[test]
    fn conditions_see_the_version_that_matched_and_are_told_of_the_one_that_was_asked_for() {
        let (mut asked, other) = versions();
        let mut views = Views {
            forms: Forms::new(asked.resource, "", &Features::defaults()),
            given: Vec::new(),
            namespace: None,
        };
        asked.ask(|write| {
            let told = |given: Arc<Given>| given.versions();
            let v1 = "autoscaling/v1";
            let matched = views.given(write, other).unwrap();
            assert_eq!(told(matched), ["v1", "v1", "v2", v1]);
            let conditions = views.of_conditions(write, other).unwrap();
            assert_eq!(told(conditions), ["v2", "v1", "v2", v1]);
            let same = views.of_conditions(write, write.resource).unwrap();
            let again = views.given(write, write.resource).unwrap();
            assert!(Arc::ptr_eq(&same, &again), "it is made once");
        });
    }
}
