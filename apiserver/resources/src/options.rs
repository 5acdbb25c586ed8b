//! The options of a request: `CreateOptions`, `UpdateOptions`, `PatchOptions`, `DeleteOptions`,
//! `ListOptions`, read from the query (and for deletes from the body) and checked as upstream's
//! `apimachinery/pkg/apis/meta/v1/validation` does.

use proto::Value;
use proto::catalogue::names as n;
use proto::path::{FieldError, Reason, quote};

use crate::request::Query;
use crate::status::Failure;

/// What to do with unknown and duplicate fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FieldValidation {
    Ignore,
    /// Upstream's default.
    #[default]
    Warn,
    Strict,
}

/// Options of create, update and patch.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    pub dry_run: bool,
    /// Empty if not given: the user agent's first part is taken then.
    pub field_manager: String,
    pub field_validation: FieldValidation,
    /// Only with apply.
    pub force: Option<bool>,
}

/// The longest field manager name; upstream's `FieldManagerMaxLength`.
pub const FIELD_MANAGER_MAX: usize = 128;

impl WriteOptions {
    /// `kind` is the name of the options for error messages: `CreateOptions`.
    pub fn read(query: &Query, kind: &str) -> Result<Self, Failure> {
        let mut errors = Vec::new();
        let dry_run = dry_run(query.all("dryRun"), &mut errors);
        let field_manager = query.get("fieldManager").unwrap_or_default().to_owned();
        field_manager_problems(&field_manager, &mut errors);
        let field_validation = match query.get("fieldValidation").unwrap_or_default() {
            "" | "Warn" => FieldValidation::Warn,
            "Ignore" => FieldValidation::Ignore,
            "Strict" => FieldValidation::Strict,
            other => {
                errors.push(not_supported(
                    "fieldValidation",
                    other,
                    &["", "Ignore", "Strict", "Warn"],
                ));
                FieldValidation::Warn
            }
        };
        let force = if kind == "PatchOptions" {
            query.flag("force")
        } else {
            None
        };
        let options = Self {
            dry_run,
            field_manager,
            field_validation,
            force,
        };
        if errors.is_empty() {
            Ok(options)
        } else {
            Err(Failure::invalid("meta.k8s.io", kind, "", &errors))
        }
    }
}

fn dry_run<'a>(values: impl Iterator<Item = &'a str>, errors: &mut Vec<FieldError>) -> bool {
    let mut any = false;
    for value in values {
        any = true;
        if value != "All" {
            let shown = format!("[{}]", quote(value));
            errors.push(FieldError {
                reason: Reason::NotSupported,
                field: "dryRun".into(),
                value: shown,
                detail: "supported values: \"All\"".into(),
            });
        }
    }
    any
}

fn field_manager_problems(name: &str, errors: &mut Vec<FieldError>) {
    if name.len() > FIELD_MANAGER_MAX {
        errors.push(FieldError {
            reason: Reason::TooLong,
            field: "fieldManager".into(),
            value: String::new(),
            detail: format!("may not be more than {FIELD_MANAGER_MAX} bytes"),
        });
    }
    for problem in proto::meta::field_manager_problems(name) {
        errors.push(FieldError {
            reason: Reason::Invalid,
            field: "fieldManager".into(),
            value: quote(name),
            detail: problem,
        });
    }
}

fn not_supported(field: &str, value: &str, allowed: &[&str]) -> FieldError {
    let list: Vec<String> = allowed.iter().map(|v| quote(v)).collect();
    FieldError {
        reason: Reason::NotSupported,
        field: field.into(),
        value: quote(value),
        detail: format!("supported values: {}", list.join(", ")),
    }
}

/// What a delete does with dependents.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Propagation {
    Orphan,
    Background,
    Foreground,
}

#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    pub grace_period_seconds: Option<i64>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    /// Deprecated; overrides the policy.
    pub orphan_dependents: Option<bool>,
    pub propagation: Option<Propagation>,
    pub dry_run: bool,
}

impl DeleteOptions {
    /// From the query, for a DELETE without a body.
    pub fn from_query(query: &Query) -> Result<Self, Failure> {
        let mut errors = Vec::new();
        let mut options = Self {
            dry_run: dry_run(query.all("dryRun"), &mut errors),
            ..Self::default()
        };
        if let Some(text) = query.get("gracePeriodSeconds") {
            let seconds = text.parse().map_err(|_| {
                Failure::bad_request(format!("invalid gracePeriodSeconds {}", quote(text)))
            })?;
            options.grace_period_seconds = Some(seconds);
        }
        options.orphan_dependents = query.flag("orphanDependents");
        options.propagation = propagation(query.get("propagationPolicy"), &mut errors);
        options.check(errors)
    }

    /// From a decoded body.
    pub fn from_body(body: &Value) -> Result<Self, Failure> {
        let mut errors = Vec::new();
        let text =
            |path: &[proto::NameId]| body.at(path).and_then(Value::as_str).map(str::to_owned);
        let listed = body
            .get(n::DRY_RUN)
            .and_then(Value::as_list)
            .unwrap_or_default();
        let options = Self {
            grace_period_seconds: body.get(n::GRACE_PERIOD_SECONDS).and_then(Value::as_int),
            uid: text(&[n::PRECONDITIONS, n::UID]),
            resource_version: text(&[n::PRECONDITIONS, n::RESOURCE_VERSION]),
            orphan_dependents: body.get(n::ORPHAN_DEPENDENTS).and_then(Value::as_bool),
            propagation: propagation(
                body.get(n::PROPAGATION_POLICY).and_then(Value::as_str),
                &mut errors,
            ),
            dry_run: dry_run(listed.iter().filter_map(Value::as_str), &mut errors),
        };
        options.check(errors)
    }

    fn check(self, mut errors: Vec<FieldError>) -> Result<Self, Failure> {
        if self.propagation.is_some() && self.orphan_dependents.is_some() {
            errors.push(FieldError {
                reason: Reason::Invalid,
                field: "propagationPolicy".into(),
                value: format!("{:?}", self.propagation.unwrap_or(Propagation::Orphan)),
                detail: "orphanDependents and deletionPropagation cannot be both set".into(),
            });
        }
        if errors.is_empty() {
            Ok(self)
        } else {
            Err(Failure::invalid(
                "meta.k8s.io",
                "DeleteOptions",
                "",
                &errors,
            ))
        }
    }
}

fn propagation(text: Option<&str>, errors: &mut Vec<FieldError>) -> Option<Propagation> {
    match text? {
        "" => None,
        "Orphan" => Some(Propagation::Orphan),
        "Background" => Some(Propagation::Background),
        "Foreground" => Some(Propagation::Foreground),
        other => {
            errors.push(not_supported(
                "propagationPolicy",
                other,
                &["Foreground", "Background", "Orphan", "nil"],
            ));
            None
        }
    }
}

/// Options of list, watch and deletecollection.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    pub label_selector: String,
    pub field_selector: String,
    /// Empty if not given.
    pub resource_version: String,
    /// `Exact` or `NotOlderThan`.
    pub resource_version_match: String,
    pub limit: i64,
    pub continue_token: String,
    pub timeout_seconds: Option<u64>,
    pub bookmarks: bool,
    pub send_initial_events: Option<bool>,
}

impl ListOptions {
    /// Reads and checks them; `watch` tells which rules hold.
    pub fn read(query: &Query, watch: bool) -> Result<Self, Failure> {
        let text = |name: &str| query.get(name).unwrap_or_default().to_owned();
        let number = |name: &str| -> Result<Option<i64>, Failure> {
            match query.get(name) {
                None | Some("") => Ok(None),
                Some(v) => v.parse().map(Some).map_err(|_| {
                    Failure::bad_request(format!(
                        "strconv.ParseInt: parsing {}: invalid syntax",
                        quote(v)
                    ))
                }),
            }
        };
        let options = Self {
            label_selector: text("labelSelector"),
            field_selector: text("fieldSelector"),
            resource_version: text("resourceVersion"),
            resource_version_match: text("resourceVersionMatch"),
            limit: number("limit")?.unwrap_or(0),
            continue_token: text("continue"),
            timeout_seconds: number("timeoutSeconds")?.and_then(|s| u64::try_from(s).ok()),
            bookmarks: query.flag("allowWatchBookmarks").unwrap_or(false),
            send_initial_events: query.flag("sendInitialEvents"),
        };
        let errors = options.problems(watch);
        if errors.is_empty() {
            Ok(options)
        } else {
            Err(Failure::invalid("meta.k8s.io", "ListOptions", "", &errors))
        }
    }

    /// Upstream's `ValidateListOptions`.
    fn problems(&self, watch: bool) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let matching = self.resource_version_match.as_str();
        let mut forbid = |field: &str, detail: &str| {
            errors.push(FieldError {
                reason: Reason::Forbidden,
                field: field.into(),
                value: String::new(),
                detail: detail.into(),
            });
        };
        if watch {
            if self.send_initial_events.is_some() {
                if matching.is_empty() {
                    forbid(
                        "resourceVersionMatch",
                        "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                    );
                }
            } else if !matching.is_empty() {
                forbid(
                    "resourceVersionMatch",
                    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                );
            }
            if !matching.is_empty() && matching != "NotOlderThan" {
                errors.push(not_supported(
                    "resourceVersionMatch",
                    matching,
                    &["NotOlderThan"],
                ));
            }
            return errors;
        }
        if self.send_initial_events.is_some() {
            forbid(
                "sendInitialEvents",
                "sendInitialEvents is forbidden for list",
            );
        }
        if !matching.is_empty() {
            if self.resource_version.is_empty() {
                forbid(
                    "resourceVersionMatch",
                    "resourceVersionMatch is forbidden unless resourceVersion is provided",
                );
            }
            if !self.continue_token.is_empty() {
                forbid(
                    "resourceVersionMatch",
                    "resourceVersionMatch is forbidden when continue is provided",
                );
            }
            if matching == "Exact" && self.resource_version == "0" {
                forbid(
                    "resourceVersionMatch",
                    "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
                );
            }
            if !matches!(matching, "Exact" | "NotOlderThan") {
                errors.push(not_supported(
                    "resourceVersionMatch",
                    matching,
                    &["Exact", "NotOlderThan", ""],
                ));
            }
        }
        errors
    }
}
