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
    /// By the version of the resource that matched.
    given: Vec<(&'static Resource, Arc<Given>)>,
    namespace: Option<Arc<Value>>,
}

impl Views {
    pub(super) fn new(server: &Server, write: &Attributes<'_>) -> Self {
        let forms = Forms::new(write.resource, write.subresource);
        Self {
            forms: forms.with(server.config.features.gates()),
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
