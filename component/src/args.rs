//! Command lines with the flags, spellings and defaults of upstream's daemons.
//!
//! A flag is a constant with a type: the constant is declared once, listed in a [`Group`], and is
//! itself the key to its value, so that no name is spelt twice:
//!
//! ```
//! use component::args::{Args, Flag, Group};
//!
//! pub const CLUSTER_NAME: Flag<String> = Flag::new("cluster-name", "kubernetes", "The instance prefix for the cluster.");
//! let args = Args::parse("demo", "A demo.", &[Group::new("Generic", &[&CLUSTER_NAME])], ["--cluster_name=east"])?;
//! assert_eq!(args.get(&CLUSTER_NAME), "east");
//! # Ok::<(), component::args::Error>(())
//! ```
//!
//! Values have Go's syntax (`pflag`): `--flag=value` and `--flag value`, a bare switch is true and
//! takes a value only after `=`, underscores in names are dashes, the last value of a scalar wins,
//! lists and maps grow. All bad values are reported together.
//!
//! Invariant: the values of an [`Args`] were checked when it was made; reading them cannot fail.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::marker::PhantomData;

use clap::{Arg, ArgAction, ArgMatches, Command};

mod groups;
mod value;

pub use groups::*;
pub use value::{Array, Value, Version};

/// Why a command line was refused; each is one line.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
pub enum Error {
    #[error("unknown flag: {flag}{}", suggestion(.instead.as_deref()))]
    Unknown {
        flag: String,
        instead: Option<String>,
    },
    #[error("flag needs an argument: {0}")]
    MissingValue(String),
    #[error("\"{daemon}\" does not take any arguments, got {given:?}")]
    Positional { daemon: String, given: String },
    #[error("{}", .0.join("; "))]
    Invalid(Vec<String>),
    #[error("{0}")]
    Usage(String),
    /// Not a failure: the text that was asked for with `--help`.
    #[error("{0}")]
    Help(String),
}

fn suggestion(instead: Option<&str>) -> String {
    instead.map_or_else(String::new, |flag| format!(", did you mean {flag}?"))
}

/// A command-line flag that holds a `T`.
pub struct Flag<T> {
    name: &'static str,
    short: Option<char>,
    default: &'static str,
    help: &'static str,
    fate: Fate,
    value: PhantomData<fn() -> T>,
}

/// What becomes of a flag that is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Used,
    /// Still works; the reason is logged.
    Deprecated(&'static str),
    /// Accepted so that upstream's command lines work; the reason is logged.
    Ignored(&'static str),
}

impl<T> Flag<T> {
    /// `default` is written as it would be given.
    #[must_use]
    pub const fn new(name: &'static str, default: &'static str, help: &'static str) -> Self {
        Self {
            name,
            short: None,
            default,
            help,
            fate: Fate::Used,
            value: PhantomData,
        }
    }

    /// A one-letter form.
    #[must_use]
    pub const fn short(mut self, letter: char) -> Self {
        self.short = Some(letter);
        self
    }

    /// Hidden from the help; says `why` when it is given.
    #[must_use]
    pub const fn deprecated(mut self, why: &'static str) -> Self {
        self.fate = Fate::Deprecated(why);
        self
    }

    /// Accepted without effect; says `why` when it is given.
    #[must_use]
    pub const fn ignored(mut self, why: &'static str) -> Self {
        self.fate = Fate::Ignored(why);
        self
    }

    /// Its name, without dashes.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

/// A [`Flag`] of any type, for lists of flags.
pub trait AnyFlag: Sync {
    #[doc(hidden)]
    fn facts(&self) -> Facts;
    #[doc(hidden)]
    fn check(&self, given: &[String]) -> Result<(), String>;
}

/// What is known of a flag apart from its type.
#[doc(hidden)]
pub struct Facts {
    name: &'static str,
    short: Option<char>,
    default: &'static str,
    help: &'static str,
    fate: Fate,
    type_name: &'static str,
    bare: Option<&'static str>,
}

impl<T: Value> AnyFlag for Flag<T> {
    fn facts(&self) -> Facts {
        Facts {
            name: self.name,
            short: self.short,
            default: self.default,
            help: self.help,
            fate: self.fate,
            type_name: T::TYPE,
            bare: T::BARE,
        }
    }

    fn check(&self, given: &[String]) -> Result<(), String> {
        T::parse(given).map(drop)
    }
}

/// Flags under one heading of the help, with a daemon's own defaults for some of them.
#[derive(Clone)]
pub struct Group {
    title: &'static str,
    flags: &'static [&'static dyn AnyFlag],
    defaults: Vec<(&'static str, &'static str)>,
}

impl Group {
    /// `title` is upstream's, such as `Secure serving`.
    #[must_use]
    pub const fn new(title: &'static str, flags: &'static [&'static dyn AnyFlag]) -> Self {
        Self {
            title,
            flags,
            defaults: Vec::new(),
        }
    }

    /// The same group with another default for one of its flags.
    #[must_use]
    pub fn with_default<T: Value>(mut self, flag: &Flag<T>, default: &'static str) -> Self {
        debug_assert!(
            self.flags.iter().any(|f| f.facts().name == flag.name),
            "--{} is in the group",
            flag.name
        );
        self.defaults.push((flag.name, default));
        self
    }

    fn default_of(&self, facts: &Facts) -> &'static str {
        self.defaults
            .iter()
            .rev()
            .find(|(name, _)| *name == facts.name)
            .map_or(facts.default, |(_, d)| d)
    }
}

/// A checked command line.
#[derive(Clone, Default)]
pub struct Args {
    given: BTreeMap<&'static str, Vec<String>>,
    defaults: BTreeMap<&'static str, &'static str>,
    warnings: Vec<String>,
}

impl Args {
    /// Reads a command line without the program's name.
    ///
    /// # Errors
    /// If it has unknown flags, positional arguments or values that are not of their flag's type; and
    /// [`Error::Help`] if it asks for help.
    pub fn parse<A: Into<OsString>>(
        daemon: &'static str,
        about: &'static str,
        groups: &[Group],
        line: impl IntoIterator<Item = A>,
    ) -> Result<Self, Error> {
        let line = line.into_iter().map(|arg| dashed(arg.into()));
        let matches = command(daemon, about, groups)
            .try_get_matches_from(line)
            .map_err(|e| explain(daemon, &e))?;
        Self::checked(groups, &matches)
    }

    fn checked(groups: &[Group], matches: &ArgMatches) -> Result<Self, Error> {
        let mut args = Self::default();
        let mut invalid = Vec::new();
        for (group, flag) in groups
            .iter()
            .flat_map(|g| g.flags.iter().map(move |f| (g, f)))
        {
            let facts = flag.facts();
            args.defaults.insert(facts.name, group.default_of(&facts));
            let Some(given) = matches.get_many::<String>(facts.name) else {
                continue;
            };
            let given: Vec<String> = given.cloned().collect();
            match facts.fate {
                Fate::Used => {}
                Fate::Deprecated(why) => {
                    args.warnings
                        .push(format!("flag --{} has been deprecated, {why}", facts.name));
                }
                Fate::Ignored(why) => args
                    .warnings
                    .push(format!("flag --{} is ignored: {why}", facts.name)),
            }
            if let Err(problem) = flag.check(&given) {
                let shown = given.last().map_or("", String::as_str);
                invalid.push(format!(
                    "invalid argument {shown:?} for \"--{}\" flag: {problem}",
                    facts.name
                ));
            }
            args.given.insert(facts.name, given);
        }
        if invalid.is_empty() {
            Ok(args)
        } else {
            Err(Error::Invalid(invalid))
        }
    }

    /// The value of a flag, or its default.
    ///
    /// # Panics
    /// If the flag is in none of the groups, or its default is not of its type: mistakes of the
    /// program, found by starting it once.
    #[must_use]
    pub fn get<T: Value>(&self, flag: &Flag<T>) -> T {
        if let Some(value) = self.given(flag) {
            return value;
        }
        let default = *self
            .defaults
            .get(flag.name)
            .expect("a flag that is read is in a group");
        let default = if default.is_empty() {
            Vec::new()
        } else {
            vec![default.to_owned()]
        };
        T::parse(&default).expect("the default of a flag is one of its values")
    }

    /// The value of a flag that was given. Such values win over a configuration file.
    #[must_use]
    pub fn given<T: Value>(&self, flag: &Flag<T>) -> Option<T> {
        let given = self.given.get(flag.name)?;
        Some(T::parse(given).expect("values were checked when the line was read"))
    }

    /// The value of a flag that only some command lines have.
    #[must_use]
    pub fn known<T: Value>(&self, flag: &Flag<T>) -> Option<T> {
        self.defaults
            .contains_key(flag.name)
            .then(|| self.get(flag))
    }

    /// What to tell about deprecated and ignored flags, once there is a log.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Every flag with its value as text: the ones given, else their defaults.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.defaults.iter().map(|(name, default)| {
            let given = self.given.get(name).map(|values| values.join(","));
            (*name, given.unwrap_or_else(|| (*default).to_owned()))
        })
    }

    /// Flags as they were given, for the log.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.given
            .iter()
            .flat_map(|(name, values)| values.iter().map(|v| (*name, v.as_str())))
    }
}

fn command(daemon: &'static str, about: &'static str, groups: &[Group]) -> Command {
    let mut command = Command::new(daemon)
        .about(about)
        .no_binary_name(true)
        .disable_version_flag(true)
        .args_override_self(true);
    for (group, flag) in groups
        .iter()
        .flat_map(|g| g.flags.iter().map(move |f| (g, f)))
    {
        command = command.arg(arg(group, &flag.facts()));
    }
    command
}

fn arg(group: &Group, facts: &Facts) -> Arg {
    let default = group.default_of(facts);
    let help = if default.is_empty() || default == "false" {
        facts.help.to_owned()
    } else {
        format!("{} (default {default})", facts.help)
    };
    let arg = Arg::new(facts.name)
        .long(facts.name)
        .action(ArgAction::Append)
        .value_name(facts.type_name)
        .help(help)
        .help_heading(group.title)
        .hide(facts.fate != Fate::Used);
    let arg = match facts.bare {
        Some(bare) => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value(bare),
        None => arg.num_args(1).allow_hyphen_values(true),
    };
    match facts.short {
        Some(letter) => arg.short(letter),
        None => arg,
    }
}

/// `--leader_elect` means `--leader-elect`.
fn dashed(arg: OsString) -> OsString {
    let Some(text) = arg.to_str().filter(|a| a.starts_with("--")) else {
        return arg;
    };
    let (name, value) = text.split_at(text.find('=').unwrap_or(text.len()));
    format!("{}{value}", name.replace('_', "-")).into()
}

fn explain(daemon: &str, error: &clap::Error) -> Error {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(s)) => Some(s.clone()),
        Some(ContextValue::Strings(s)) => s.first().cloned(),
        _ => None,
    };
    let given = text(ContextKind::InvalidArg).unwrap_or_default();
    // The type's name follows the flag's in what clap calls the argument.
    let flag = given
        .split([' ', '=', '['])
        .next()
        .unwrap_or_default()
        .to_owned();
    match error.kind() {
        ErrorKind::DisplayHelp => Error::Help(error.to_string()),
        ErrorKind::UnknownArgument if given.starts_with('-') => Error::Unknown {
            flag,
            instead: text(ContextKind::SuggestedArg),
        },
        ErrorKind::UnknownArgument => Error::Positional {
            daemon: daemon.to_owned(),
            given,
        },
        ErrorKind::InvalidValue | ErrorKind::WrongNumberOfValues => Error::MissingValue(flag),
        _ => Error::Usage(
            error
                .to_string()
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests;
