//! What an authenticator makes of claims and what has to hold of them and of the user, as the file says
//! it and as it is used.
//!
//! Order and words of what is wrong are upstream's: `validateClaimValidationRules`,
//! `validateClaimMappings`, `validateUserValidationRules`.

use std::collections::HashSet;

use proto::Value;
use proto::path::{Errors, FieldError, Reason, Spot, quote};
use resources::rules;
use serde::Deserialize;

use super::super::expressions::{self, reads};
use crate::expression::Expression;

/// A claim, and what is put before its value.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Mapping {
    pub claim: String,
    pub prefix: String,
}

/// Where a part of a user comes from.
#[derive(Clone, PartialEq, Debug)]
pub enum Mapped {
    Claim(Mapping),
    /// One over claims.
    Expression(Expression),
}

/// What has to hold, and what is told if it does not.
#[derive(Clone, PartialEq, Debug)]
pub struct Rule {
    pub expression: Expression,
    pub message: String,
}

/// How claims make a user, and which of them are refused.
#[derive(Clone, PartialEq, Debug)]
pub struct Mappings {
    pub username: Mapped,
    pub groups: Option<Mapped>,
    pub uid: Option<Mapped>,
    pub extra: Vec<(String, Expression)>,
    /// Claims and the values that they must have.
    pub required: Vec<(String, String)>,
    pub claim_rules: Vec<Rule>,
    pub user_rules: Vec<Rule>,
}

impl Mappings {
    /// Of a user's name alone.
    #[must_use]
    pub fn named(username: Mapping) -> Self {
        Self {
            username: Mapped::Claim(username),
            groups: None,
            uid: None,
            extra: Vec::new(),
            required: Vec::new(),
            claim_rules: Vec::new(),
            user_rules: Vec::new(),
        }
    }

    /// Whether any expression reads claims.
    #[must_use]
    pub fn read_claims(&self) -> bool {
        let parts = [
            Some(&self.username),
            self.groups.as_ref(),
            self.uid.as_ref(),
        ];
        let mut parts = parts.into_iter().flatten();
        parts.any(|of| matches!(of, Mapped::Expression(_)))
            || !self.extra.is_empty()
            || !self.claim_rules.is_empty()
    }

    /// The claim that groups are taken of, if they are not computed.
    #[must_use]
    pub fn groups_claim(&self) -> Option<&str> {
        match &self.groups {
            Some(Mapped::Claim(mapping)) => Some(&mapping.claim),
            _ => None,
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ClaimRule {
    claim: String,
    required_value: String,
    expression: String,
    message: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct ClaimMappings {
    username: ClaimOrExpression,
    groups: ClaimOrExpression,
    uid: Uid,
    extra: Vec<ExtraMapping>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ClaimOrExpression {
    claim: String,
    prefix: Option<String>,
    expression: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Uid {
    claim: String,
    expression: String,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct ExtraMapping {
    key: String,
    value_expression: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct UserRule {
    expression: String,
    message: String,
}

/// Reads what stands at `at`; what is wrong is noted, and whatever stands in its place is never used.
pub(super) fn read(
    claim_rules: &[ClaimRule],
    mappings: &ClaimMappings,
    user_rules: &[UserRule],
    at: &str,
    errors: &mut Vec<FieldError>,
) -> Mappings {
    let mut reader = Reader {
        mappings: Mappings::named(Mapping::default()),
        errors,
    };
    reader.claim_rules(claim_rules, &format!("{at}.claimValidationRules"));
    reader.mappings(mappings, &format!("{at}.claimMappings"));
    reader.user_rules(user_rules, &format!("{at}.userValidationRules"));
    reader.mappings
}

struct Reader<'e> {
    mappings: Mappings,
    errors: &'e mut Vec<FieldError>,
}

const BOTH: &str = "claim and expression can't both be set";
const NEITHER: &str = "claim or expression is required";
const NO_PREFIX: &str =
    "prefix is required when claim is set. It can be set to an empty string to disable prefixing";
const BESIDE_CLAIM: &str = "may not be specified when claim is set";
const BESIDE_EXPRESSION: &str = "may not be specified when expression is set";
const RESERVED: &str = "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use";
const UNVERIFIED: &str = "claims.email_verified must be used in claimMappings.username.expression or claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in claimMappings.username.expression";

impl Reader<'_> {
    /// Notes what is wrong with an expression.
    fn compiled(&mut self, compiled: Result<Expression, FieldError>) -> Option<Expression> {
        compiled.map_err(|error| self.errors.push(error)).ok()
    }

    fn invalid(&mut self, at: String, value: &str, why: &str) {
        self.errors.push(FieldError::invalid(at, value, why));
    }

    fn duplicate(&mut self, at: String, value: &str) {
        let error = FieldError::new(Reason::Duplicate, at, quote(value), "");
        self.errors.push(error);
    }

    fn claim_rules(&mut self, rules: &[ClaimRule], at: &str) {
        let mut seen = HashSet::new();
        for (i, rule) in rules.iter().enumerate() {
            let at = format!("{at}[{i}]");
            let claim = rule.claim.as_str();
            match (claim.is_empty(), rule.expression.is_empty()) {
                (false, false) => self.invalid(at, claim, BOTH),
                (true, true) => self.errors.push(FieldError::required(at, NEITHER)),
                (false, true) => self.required(rule, &at),
                (true, false) => {
                    let value = rule.required_value.as_str();
                    if !value.is_empty() {
                        self.invalid(format!("{at}.requiredValue"), value, BESIDE_EXPRESSION);
                    }
                    let at = format!("{at}.expression");
                    if !seen.insert(rule.expression.as_str()) {
                        self.duplicate(at, &rule.expression);
                        continue;
                    }
                    let compiled = expressions::claim_rule(&rule.expression, &at);
                    if let Some(expression) = self.compiled(compiled) {
                        let message = rule.message.clone();
                        self.mappings.claim_rules.push(Rule {
                            expression,
                            message,
                        });
                    }
                }
            }
        }
    }

    fn required(&mut self, rule: &ClaimRule, at: &str) {
        if !rule.message.is_empty() {
            self.invalid(format!("{at}.message"), &rule.message, BESIDE_CLAIM);
        }
        let required = &mut self.mappings.required;
        if required.iter().any(|(claim, _)| *claim == rule.claim) {
            self.duplicate(format!("{at}.claim"), &rule.claim);
        } else {
            required.push((rule.claim.clone(), rule.required_value.clone()));
        }
    }

    fn mappings(&mut self, of: &ClaimMappings, at: &str) {
        let username = self.mapping(&of.username, &format!("{at}.username"), true);
        // An expression that is not valid says nothing of what it reads.
        let name = match &username {
            Some(Mapped::Expression(expression)) => Some(expression.clone()),
            _ => None,
        };
        if let Some(username) = username {
            self.mappings.username = username;
        }
        self.mappings.groups = self.mapping(&of.groups, &format!("{at}.groups"), false);
        self.mappings.uid = self.uid(&of.uid, &format!("{at}.uid"));
        self.extra(&of.extra, at);
        let Some(name) = name.filter(|name| reads(name, "email")) else {
            return;
        };
        let extra = self.mappings.extra.iter().map(|(_, expression)| expression);
        let rules = self.mappings.claim_rules.iter().map(|r| &r.expression);
        let mut all = std::iter::once(&name).chain(extra).chain(rules);
        if !all.any(|expression| reads(expression, "email_verified")) {
            let at = format!("{at}.username.expression");
            self.invalid(at, &of.username.expression, UNVERIFIED);
        }
    }

    fn mapping(&mut self, of: &ClaimOrExpression, at: &str, is_required: bool) -> Option<Mapped> {
        let before = self.errors.len();
        match (of.claim.is_empty(), of.expression.is_empty()) {
            (false, false) => self.invalid(at.to_owned(), "", BOTH),
            (true, true) if is_required => self.errors.push(FieldError::required(at, NEITHER)),
            (true, true) => {}
            (true, false) => {
                if let Some(prefix) = &of.prefix {
                    self.invalid(format!("{at}.prefix"), prefix, BESIDE_EXPRESSION);
                }
                let compiled = expressions::mapping(&of.expression, &format!("{at}.expression"));
                let expression = self.compiled(compiled)?;
                return (self.errors.len() == before).then_some(Mapped::Expression(expression));
            }
            (false, true) => match &of.prefix {
                None => {
                    let at = format!("{at}.prefix");
                    self.errors.push(FieldError::required(at, NO_PREFIX));
                }
                Some(prefix) => {
                    return Some(Mapped::Claim(Mapping {
                        claim: of.claim.clone(),
                        prefix: prefix.clone(),
                    }));
                }
            },
        }
        None
    }

    fn uid(&mut self, of: &Uid, at: &str) -> Option<Mapped> {
        match (of.claim.is_empty(), of.expression.is_empty()) {
            (true, true) => None,
            (false, false) => {
                self.invalid(at.to_owned(), "", BOTH);
                None
            }
            (false, true) => Some(Mapped::Claim(Mapping {
                claim: of.claim.clone(),
                prefix: String::new(),
            })),
            (true, false) => {
                let compiled = expressions::mapping(&of.expression, &format!("{at}.expression"));
                self.compiled(compiled).map(Mapped::Expression)
            }
        }
    }

    fn extra(&mut self, all: &[ExtraMapping], at: &str) {
        let mut seen = HashSet::new();
        for (i, of) in all.iter().enumerate() {
            let at = format!("{at}.extra[{i}]");
            let (key, at_key) = (of.key.as_str(), format!("{at}.key"));
            self.errors.extend(path_problems(key, &at_key));
            if key != key.to_lowercase() {
                self.invalid(at_key.clone(), key, "must be lowercase");
            }
            if is_reserved(key) {
                self.invalid(at_key.clone(), key, RESERVED);
            }
            if !seen.insert(key) {
                self.duplicate(at_key, key);
                continue;
            }
            let at = format!("{at}.valueExpression");
            if of.value_expression.is_empty() {
                self.errors.push(FieldError::required(at, ""));
                continue;
            }
            let compiled = expressions::mapping(&of.value_expression, &at);
            if let Some(expression) = self.compiled(compiled) {
                self.mappings.extra.push((of.key.clone(), expression));
            }
        }
    }

    fn user_rules(&mut self, rules: &[UserRule], at: &str) {
        let mut seen = HashSet::new();
        for (i, rule) in rules.iter().enumerate() {
            let at = format!("{at}[{i}].expression");
            if rule.expression.is_empty() {
                self.errors.push(FieldError::required(at, ""));
                continue;
            }
            if !seen.insert(rule.expression.as_str()) {
                self.duplicate(at, &rule.expression);
                continue;
            }
            let compiled = expressions::user_rule(&rule.expression, &at);
            if let Some(expression) = self.compiled(compiled) {
                let message = rule.message.clone();
                self.mappings.user_rules.push(Rule {
                    expression,
                    message,
                });
            }
        }
    }
}

/// Keys have a domain before them, so that nobody takes them for somebody else's.
fn path_problems(key: &str, at: &str) -> Vec<FieldError> {
    let root = Value::Null;
    let mut problems = Errors::new(&root);
    rules::domain_prefixed_path(&mut problems, Spot::node(&root), key);
    let mut problems = problems.into_vec();
    for problem in &mut problems {
        at.clone_into(&mut problem.field);
    }
    problems
}

fn is_reserved(key: &str) -> bool {
    let Some((domain, _)) = key.split_once('/') else {
        return false;
    };
    ["kubernetes.io", "k8s.io"].iter().any(|own| {
        let below = domain.strip_suffix(own);
        below.is_some_and(|below| below.is_empty() || below.ends_with('.'))
    })
}

#[cfg(test)]
mod tests;
