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
    /// Whether the client said so.
    pub validation_given: bool,
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
        let validation = query.get("fieldValidation").unwrap_or_default();
        let field_validation = match validation {
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
            validation_given: !validation.is_empty(),
            force,
        };
        if errors.is_empty() {
            Ok(options)
        } else {
            Err(Failure::invalid("meta.k8s.io", kind, "", &errors))
        }
    }

    /// As `CreateOptions` or `UpdateOptions`, which is what admission sees of patches, too.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut out = Value::object();
        if self.dry_run {
            out.set(&[n::DRY_RUN], vec!["All"]);
        }
        if !self.field_manager.is_empty() {
            out.set(&[n::FIELD_MANAGER], self.field_manager.as_str());
        }
        if self.validation_given {
            let validation = match self.field_validation {
                FieldValidation::Ignore => "Ignore",
                FieldValidation::Warn => "Warn",
                FieldValidation::Strict => "Strict",
            };
            out.set(&[n::FIELD_VALIDATION], validation);
        }
        out
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
    /// `ignoreStoreReadErrorWithClusterBreakingPotential`: the object is deleted unread, if it cannot be read.
    pub unread: bool,
}

impl DeleteOptions {
    /// From the query, for a DELETE without a body.
    pub fn from_query(query: &Query) -> Result<Self, Failure> {
        let mut errors = Vec::new();
        let policy = query
            .get("propagationPolicy")
            .filter(|policy| !policy.is_empty());
        let mut options = Self {
            propagation: propagation(policy, &mut errors),
            dry_run: dry_run(query.all("dryRun"), &mut errors),
            ..Self::default()
        };
        if let Some(text) = query.get("gracePeriodSeconds") {
            let seconds = text.parse().map_err(|_| {
                let why = format!("strconv.ParseInt: parsing {}: invalid syntax", quote(text));
                Failure::bad_request(why)
            })?;
            options.grace_period_seconds = Some(seconds);
        }
        options.orphan_dependents = query.flag("orphanDependents");
        options.unread = query.flag(UNREAD.text()).unwrap_or(false);
        options.check(errors, policy)
    }

    /// From a decoded body.
    pub fn from_body(body: &Value) -> Result<Self, Failure> {
        let mut errors = Vec::new();
        let text =
            |path: &[proto::NameId]| body.at(path).and_then(Value::as_str).map(str::to_owned);
        let policy = body.get(n::PROPAGATION_POLICY).and_then(Value::as_str);
        let listed = body
            .get(n::DRY_RUN)
            .and_then(Value::as_list)
            .unwrap_or_default();
        let options = Self {
            grace_period_seconds: body.get(n::GRACE_PERIOD_SECONDS).and_then(Value::as_int),
            uid: text(&[n::PRECONDITIONS, n::UID]),
            resource_version: text(&[n::PRECONDITIONS, n::RESOURCE_VERSION]),
            orphan_dependents: body.get(n::ORPHAN_DEPENDENTS).and_then(Value::as_bool),
            propagation: propagation(policy, &mut errors),
            dry_run: dry_run(listed.iter().filter_map(Value::as_str), &mut errors),
            unread: body.get(UNREAD).and_then(Value::as_bool) == Some(true),
        };
        options.check(errors, policy)
    }

    fn check(self, mut errors: Vec<FieldError>, policy: Option<&str>) -> Result<Self, Failure> {
        if let Some(policy) = policy.filter(|_| self.orphan_dependents.is_some()) {
            let error = FieldError {
                reason: Reason::Invalid,
                field: "propagationPolicy".into(),
                value: quote(policy),
                detail: "orphanDependents and deletionPropagation cannot be both set".into(),
            };
            errors.insert(0, error);
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

impl DeleteOptions {
    /// As the message.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut out = Value::object();
        let mut set = |path: &[proto::NameId], value: Option<Value>| {
            if let Some(value) = value {
                out.set(path, value);
            }
        };
        set(&[n::DRY_RUN], self.dry_run.then(|| vec!["All"].into()));
        set(
            &[n::GRACE_PERIOD_SECONDS],
            self.grace_period_seconds.map(Value::from),
        );
        set(
            &[n::ORPHAN_DEPENDENTS],
            self.orphan_dependents.map(Value::from),
        );
        set(
            &[n::PRECONDITIONS, n::UID],
            self.uid.as_deref().map(Value::from),
        );
        let version = self.resource_version.as_deref();
        set(
            &[n::PRECONDITIONS, n::RESOURCE_VERSION],
            version.map(Value::from),
        );
        let policy = self.propagation.map(|policy| match policy {
            Propagation::Orphan => "Orphan",
            Propagation::Background => "Background",
            Propagation::Foreground => "Foreground",
        });
        set(&[n::PROPAGATION_POLICY], policy.map(Value::from));
        set(&[UNREAD], self.unread.then_some(Value::Bool(true)));
        out
    }
}

/// The field that asks for a deletion unread.
pub const UNREAD: proto::NameId = n::IGNORE_STORE_READ_ERROR_WITH_CLUSTER_BREAKING_POTENTIAL;

impl DeleteOptions {
    /// Refuses what cannot be asked of an object that nobody can read (upstream's `ValidateIgnoreStoreReadError`).
    ///
    /// # Errors
    /// If it is to be deleted unread and something of that is asked.
    pub fn check_unread(&self) -> Result<(), Failure> {
        let given = [
            ("propagationPolicy", self.propagation.is_some()),
            ("orphanDependents", self.orphan_dependents.is_some()),
            ("gracePeriodSeconds", self.grace_period_seconds.is_some()),
            (
                "preconditions",
                self.uid.is_some() || self.resource_version.is_some(),
            ),
        ];
        let given = given.into_iter().filter(|(_, given)| self.unread && *given);
        let errors: Vec<FieldError> = given
            .map(|(field, _)| {
                let detail = format!("cannot be set together with .{field}");
                FieldError::invalid(UNREAD.text(), true, detail)
            })
            .collect();
        if errors.is_empty() {
            return Ok(());
        }
        Err(Failure::invalid(
            "meta.k8s.io",
            "DeleteOptions",
            "",
            &errors,
        ))
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

/// What `resourceVersionMatch` of a watch can be.
const NOT_OLDER_THAN: &str = "NotOlderThan";

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
        let mut options = Self {
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
        options.default(watch);
        let errors = options.problems(watch);
        if errors.is_empty() {
            Ok(options)
        } else {
            Err(Failure::invalid("meta.k8s.io", "ListOptions", "", &errors))
        }
    }

    /// A watch from nowhere, or from anywhere, begins with what there is (`SetListOptionsDefaults`, KEP-3157).
    fn default(&mut self, watch: bool) {
        let anywhere = matches!(self.resource_version.as_str(), "" | "0");
        let open = self.send_initial_events.is_none() && self.resource_version_match.is_empty();
        if watch && anywhere && open {
            self.send_initial_events = Some(true);
            self.resource_version_match = NOT_OLDER_THAN.into();
        }
    }

    /// Upstream's `validateWatchOptions`.
    fn problems_of_watch(&self) -> Vec<FieldError> {
        const FIELD: &str = "resourceVersionMatch";
        let matching = self.resource_version_match.as_str();
        let other = matching != NOT_OLDER_THAN;
        let mut errors = Vec::new();
        if self.send_initial_events.is_some() && other {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            errors.push(forbidden(FIELD, why));
        }
        if matching.is_empty() {
            return errors;
        }
        if self.send_initial_events.is_none() {
            let why =
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            errors.push(forbidden(FIELD, why));
        }
        if other {
            errors.push(not_supported(FIELD, matching, &[NOT_OLDER_THAN]));
        }
        if !self.continue_token.is_empty() {
            let why = "resourceVersionMatch is forbidden when continue is provided";
            errors.push(forbidden(FIELD, why));
        }
        errors
    }

    /// Upstream's `ValidateListOptions`.
    fn problems(&self, watch: bool) -> Vec<FieldError> {
        if watch {
            return self.problems_of_watch();
        }
        let mut errors = Vec::new();
        let matching = self.resource_version_match.as_str();
        let mut forbid = |field: &str, detail: &str| errors.push(forbidden(field, detail));
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
            if !matches!(matching, "Exact" | NOT_OLDER_THAN) {
                errors.push(not_supported(
                    "resourceVersionMatch",
                    matching,
                    &["Exact", NOT_OLDER_THAN, ""],
                ));
            }
        }
        if self.send_initial_events.is_some() {
            errors.push(forbidden(
                "sendInitialEvents",
                "sendInitialEvents is forbidden for list",
            ));
        }
        errors
    }
}

fn forbidden(field: &str, detail: &str) -> FieldError {
    FieldError {
        reason: Reason::Forbidden,
        field: field.into(),
        value: String::new(),
        detail: detail.into(),
    }
}
