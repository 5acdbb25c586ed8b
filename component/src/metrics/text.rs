//! OpenMetrics to the older text form.
//!
//! The two differ in few places: a counter's family is named with its `_total`, there is no `unknown`
//! type, no unit and no end mark. Counters that upstream does not call so keep their names.

/// Upstream's counters whose names do not end in `_total`. In OpenMetrics they do, as those of Go's library.
const NOT_TOTAL: [&str; 6] = [
    "apiserver_admission_webhook_fail_open_count",
    "apiserver_admission_webhook_rejection_count",
    "authenticated_user_requests",
    "authentication_attempts",
    "kubelet_certificate_manager_client_expiration_renew_errors",
    "kubelet_server_expiration_renew_errors",
];
const TOTAL: &str = "_total";

/// The classic form of an OpenMetrics text.
pub(super) fn classic(openmetrics: &str) -> String {
    let mut out = String::with_capacity(openmetrics.len());
    // The help comes before the type that decides how the family is called.
    let mut help: Option<&str> = None;
    // The family whose samples are called otherwise than there.
    let mut renamed: Option<&str> = None;
    for line in openmetrics.lines() {
        if let Some(text) = line.strip_prefix("# HELP ") {
            help = Some(text);
        } else if let Some(family) = line.strip_prefix("# TYPE ") {
            let (name, kind) = family.split_once(' ').unwrap_or((family, "untyped"));
            let counter = kind == "counter";
            renamed = Some(name).filter(|name| counter && NOT_TOTAL.contains(name));
            let suffix = if counter && renamed.is_none() {
                TOTAL
            } else {
                ""
            };
            let kind = if kind == "unknown" { "untyped" } else { kind };
            if let Some((_, text)) = help.take().and_then(|h| h.split_once(' ')) {
                out.extend(["# HELP ", name, suffix, " ", text, "\n"]);
            }
            out.extend(["# TYPE ", name, suffix, " ", kind, "\n"]);
        } else if !line.starts_with('#') {
            let rest = renamed.and_then(|name| line.strip_prefix(name)?.strip_prefix(TOTAL));
            match (renamed, rest) {
                (Some(name), Some(rest)) => out.extend([name, rest, "\n"]),
                _ => out.extend([line, "\n"]),
            }
        }
    }
    out
}
