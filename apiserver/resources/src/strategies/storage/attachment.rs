//! What attachments of volumes must be: `ValidateVolumeAttachment*` in `pkg/apis/storage/validation`.

use proto::catalogue::names as n;
use proto::meta::names;
use proto::path::{Errors, Spot};
use proto::view::storage_v1::{VolumeAttachment, VolumeAttachmentSource, VolumeError};
use proto::view::{Node, View};
use proto::{Map, Value};

use super::class::driver_name;
use crate::rules;

/// What may not change, declarative validation asks for; of what changed it looks at nothing else.
pub(super) fn attachment(object: &Value, e: &mut Errors<'_>) {
    let view = VolumeAttachment::of(Node::new(object));
    let (spec, status) = (view.spec(), view.status());
    let attacher = Spot::of(spec).field(n::ATTACHER);
    e.covered(|e| driver_name(e, attacher, spec.attacher()));
    source(e, spec.source());
    let problems = names::subdomain_name(spec.node_name(), false);
    rules::each(e, spec, n::NODE_NAME, problems);
    metadata(
        e,
        Spot::of(status).field(n::ATTACHMENT_METADATA),
        status.attachment_metadata(),
    );
    let errors = [status.attach_error(), status.detach_error()];
    errors.into_iter().flatten().for_each(|of| error(e, of));
    if let Some(name) = spec.source().persistent_volume_name() {
        let problems = names::subdomain_name(name, false);
        rules::each(e, spec.source(), n::PERSISTENT_VOLUME_NAME, problems);
    }
}

fn source(e: &mut Errors<'_>, source: VolumeAttachmentSource<'_>) {
    const ONE: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    let at = Spot::of(source);
    match (source.inline_volume_spec(), source.persistent_volume_name()) {
        (None, None) => e.required(at, ONE),
        (Some(_), Some(_)) => e.forbidden(at, ONE),
        (None, Some("")) => {
            let detail = "must specify non empty persistentVolumeName";
            e.required(at.field(n::PERSISTENT_VOLUME_NAME), detail);
        }
        (None, Some(_)) => {}
        (Some(spec), None) => super::super::volumes::inline_volume_spec(e, spec),
    }
}

fn metadata(e: &mut Errors<'_>, at: Spot<'_>, metadata: &Map) {
    const LARGEST: usize = 256 << 10;
    let entry = |(key, value): (&proto::Name, &Value)| {
        key.as_str().len() + value.as_str().map_or(0, str::len)
    };
    if metadata.iter().map(entry).sum::<usize>() > LARGEST {
        e.too_long(at, LARGEST);
    }
}

fn error(e: &mut Errors<'_>, error: VolumeError<'_>) {
    const LONGEST: usize = 1024;
    let at = Spot::of(error);
    if error.message().len() > LONGEST {
        e.too_long(at.field(n::MESSAGE), LONGEST);
    }
    if let Some(code) = error.error_code()
        && code < 0
    {
        let problems = names::range_problems(code, 0, i64::from(i32::MAX));
        e.invalid_each(at.field(n::ERROR_CODE), code, problems);
    }
}
