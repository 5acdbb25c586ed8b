//! Label and field selectors over cache entries.

use std::sync::Arc;

use proto::catalogue::Resource;
use proto::selector::{FieldSelector, LabelSelector};
use resources::options::ListOptions;
use resources::status::Failure;
use store::{Entry, Filter};

use crate::registry::Endpoint;

/// What a list or a watch asks for.
#[derive(Debug)]
pub struct Select {
    labels: LabelSelector,
    fields: FieldSelector,
}

impl Select {
    /// Reads the selectors of a request; `None` if everything is asked for.
    pub fn read(
        endpoint: &Endpoint,
        options: &ListOptions,
    ) -> Result<Option<Arc<dyn Filter>>, Failure> {
        let select = Self::parse(endpoint.resource, options)?;
        if select.labels.is_everything() && select.fields.is_everything() {
            return Ok(None);
        }
        Ok(Some(Arc::new(select)))
    }

    /// Reads the selectors of a request for a resource.
    ///
    /// # Errors
    /// If they are none, or by fields that cannot be selected by.
    pub fn parse(resource: &Resource, options: &ListOptions) -> Result<Self, Failure> {
        let labels = LabelSelector::parse(&options.label_selector)
            .map_err(|e| Failure::bad_request(e.to_string()))?;
        let mut fields = FieldSelector::parse(&options.field_selector)
            .map_err(|e| Failure::bad_request(e.to_string()))?;
        fields
            .rename(|label| match label {
                "metadata.name" => Some("metadata.name"),
                "metadata.namespace" if takes_namespace(resource) => Some("metadata.namespace"),
                other => resource
                    .field_labels
                    .iter()
                    .find(|(l, _)| *l == other)
                    .map(|(_, attr)| *attr),
            })
            .map_err(|label| Failure::bad_request(unknown_field(resource, &label)))?;
        Ok(Self { labels, fields })
    }

    /// Whether an object has it that has nothing but a name.
    #[must_use]
    pub fn has_named(&self, name: &str) -> bool {
        let field = |field: &str| if field == "metadata.name" { name } else { "" };
        self.fields.matches(field) && self.labels.matches(|_| None)
    }
}

/// Whether the kind's field labels are the default ones: some of the core group are told apart by what they have of their own.
fn takes_namespace(resource: &Resource) -> bool {
    resource.namespaced || !resource.group.is_empty() || resource.field_labels.is_empty()
}

/// Kinds that have labels of their own say so in words of their own
/// (`pkg/apis/*/conversion.go`, `runtime.DefaultMetaV1FieldSelectorConversion`).
fn unknown_field(resource: &Resource, label: &str) -> String {
    let quoted = proto::path::quote(label);
    match (resource.group, resource.name) {
        ("batch", "jobs") => format!("field label {quoted} not supported for Job"),
        ("resource.k8s.io", "resourceslices") => format!(
            "field label not supported for resource.k8s.io/{}, Kind=ResourceSlice: {label}",
            resource.version
        ),
        _ if resource.field_labels.is_empty() => format!(
            "{quoted} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        ),
        _ => format!("field label not supported: {label}"),
    }
}

impl Filter for Select {
    fn matches(&self, entry: &Entry) -> bool {
        self.fields
            .matches(|name| entry.field(name).unwrap_or_default())
            && self.labels.matches(|key| entry.labels.get(key))
    }

    fn requires(&self, field: &str) -> Option<&str> {
        self.fields.requires_exact(field)
    }
}
