//! How much memory an input makes a target take.

use nix::sys::resource::{UsageWho, getrusage};

/// The most memory that this process has had at once so far, in bytes.
fn most_resident() -> usize {
    let usage = getrusage(UsageWho::RUSAGE_SELF);
    let kibibytes = usage.map_or(0, |usage| usage.max_rss());
    usize::try_from(kibibytes).unwrap_or(0) << 10
}

/// By how many bytes the process had more memory while `work` ran than ever before. Of the whole process: nothing else
/// should run.
pub(crate) fn growth(work: impl FnOnce()) -> usize {
    let before = most_resident();
    work();
    most_resident().saturating_sub(before)
}
