//! The pods of a job. Pure. Source: `manageJob` and `indexed_job_utils.go` in `pkg/controller/job`.

use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod};

use super::plan::New;
use super::view::{FAILURES, FINALIZER, IGNORED, INDEX, Seen, number};
use crate::{owners, pods};

const VARIABLE: &str = "JOB_COMPLETION_INDEX";
/// What is left of a name of 63 characters before the five random ones.
const LONGEST_PREFIX: usize = 58;

/// A pod to make.
pub(super) fn pod(seen: &Seen<'_>, new: &New) -> Pod {
    let name = seen.job.metadata.name.as_deref().unwrap_or_default();
    let mut pod = pods::from_template(&seen.spec.template, name, owners::reference(seen.job));
    let finalizers = pod.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|f| f == FINALIZER) {
        finalizers.push(FINALIZER.to_owned());
    }
    let Some(index) = new.index else {
        return pod;
    };
    pod.metadata.generate_name = Some(prefix(name, index));
    let text = index.to_string();
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(INDEX.to_owned(), text.clone());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(INDEX.to_owned(), text);
    if seen.per_index().is_some() {
        let (failures, ignored) = counts(seen, new.after.as_deref());
        annotations.insert(FAILURES.to_owned(), failures.to_string());
        if ignored > 0 {
            annotations.insert(IGNORED.to_owned(), ignored.to_string());
        }
    }
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(format!("{name}-{index}"));
    spec.containers.iter_mut().for_each(add_variable);
    spec.init_containers
        .iter_mut()
        .flatten()
        .for_each(add_variable);
    pod
}

/// The failures of an index that count and those that do not, with the pod that is replaced.
fn counts(seen: &Seen<'_>, last: Option<&Pod>) -> (i32, i32) {
    let Some(last) = last else {
        return (0, 0);
    };
    let of = |key| number(&last.metadata, key).unwrap_or(0);
    if seen.counts(last) {
        (of(FAILURES).saturating_add(1), of(IGNORED))
    } else {
        (of(FAILURES), of(IGNORED).saturating_add(1))
    }
}

fn prefix(job: &str, index: i32) -> String {
    let end = format!("-{index}-");
    let most = LONGEST_PREFIX.saturating_sub(end.len());
    let job = job.get(..most).unwrap_or(job);
    format!("{job}{end}")
}

fn add_variable(container: &mut Container) {
    let all = container.env.get_or_insert_default();
    if all.iter().any(|v| v.name == VARIABLE) {
        return;
    }
    all.push(EnvVar {
        name: VARIABLE.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: None,
                field_path: format!("metadata.labels['{INDEX}']"),
            }),
            ..EnvVarSource::default()
        }),
    });
}
