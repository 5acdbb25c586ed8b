//! What expressions about devices can use and what they have to give: selectors of classes and claims,
//! and attributes that claims derive (`k8s.io/dynamic-resource-allocation/cel`).
//!
//! Devices have few attributes, and those are short: so what an expression costs at most is known
//! before it runs, and expressions that cost too much are not stored.

use std::sync::LazyLock;

use crate::admission::Invalid;
use crate::environment::{Environment, Version};
use crate::program::Program;
use crate::schema::Schema;
use crate::types::Type;
use crate::value::{QUANTITY, SEMVER};

/// What an expression about one device may cost (`CELSelectorExpressionMaxCost` of
/// `k8s.io/api/resource/v1`, as the limits below).
pub const MAX_COST: u64 = 1_000_000;
/// What all attributes that one claim derives may cost together.
pub const MAX_COST_DERIVED: u64 = 1_000_000;

const LONGEST_DRIVER: i64 = 63;
const LONGEST_DOMAIN: i64 = 63;
const LONGEST_ID: i64 = 32;
/// Attributes and capacities of one device.
const MOST: i64 = 32;
/// Of characters of a value. Lists of values are shorter.
const LONGEST_VALUE: i64 = 64;

/// What an expression is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Use {
    /// Whether a device is fit.
    Selector,
    /// The value of an attribute that a claim gives a device.
    Derived,
}

/// What devices have behind gates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Features {
    /// `DRAConsumableCapacity`: there is `device.allowMultipleAllocations`.
    pub consumable_capacity: bool,
    /// `DRAListTypeAttributes`: attributes may be lists.
    pub list_attributes: bool,
}

impl Features {
    /// What nothing is known of: the type of an attribute.
    fn unknown(self) -> Type {
        // The checker lets no comprehension run over `Any`.
        if self.list_attributes {
            Type::Dyn
        } else {
            Type::Any
        }
    }
}

/// Compiles a new expression.
///
/// # Errors
/// What is wrong with it.
pub fn compile(expression: &str, of: Use, features: Features) -> Result<Program, Invalid> {
    let program = environment(features).compile(expression)?;
    match refused(program.result_type(), of, features) {
        None => Ok(program),
        Some(detail) => Err(Invalid {
            detail,
            internal: false,
        }),
    }
}

/// Why an expression does not give what it has to (`validateOutputType`).
fn refused(gives: &Type, of: Use, features: Features) -> Option<String> {
    match of {
        Use::Selector => {
            let fits = *gives == Type::Bool || *gives == features.unknown();
            (!fits).then(|| format!("must evaluate to bool or the unknown type, not {gives}"))
        }
        Use::Derived => {
            let fits = match gives {
                Type::List(of) if features.list_attributes => is_scalar(of),
                other => is_scalar(other),
            };
            let or_list = if features.list_attributes {
                " or a list of these scalars"
            } else {
                ""
            };
            (!fits).then(|| {
                format!(
                    "must evaluate to a primitive scalar (string, integer, boolean, semver){or_list}, not {gives}"
                )
            })
        }
    }
}

fn is_scalar(ty: &Type) -> bool {
    match ty {
        Type::Bool | Type::Int | Type::String | Type::Any | Type::Dyn => true,
        Type::Struct(name) => **name == *SEMVER,
        _ => false,
    }
}

fn environment(features: Features) -> &'static Environment {
    static ALL: LazyLock<[Environment; 4]> = LazyLock::new(|| {
        [(false, false), (false, true), (true, false), (true, true)].map(
            |(consumable_capacity, list_attributes)| {
                declare(Features {
                    consumable_capacity,
                    list_attributes,
                })
            },
        )
    });
    let place =
        usize::from(features.consumable_capacity) * 2 + usize::from(features.list_attributes);
    &ALL[place]
}

fn declare(features: Features) -> Environment {
    let device = device(features);
    let environment = Environment::new(Version::DEFAULT)
        .with_bindings()
        .with_schema("device", &device)
        .with_sizes_of("device", &device);
    if features.list_attributes {
        environment.with_includes()
    } else {
        environment
    }
}

fn device(features: Features) -> Schema {
    let text = |most| Schema::of(Type::String).with_most(most);
    // By domain, then by name.
    let named = |value: Schema, fields| {
        let inner = Schema::bounded_map(text(LONGEST_ID), value, MOST, fields);
        Schema::bounded_map(text(LONGEST_DOMAIN), inner, MOST, false)
    };
    let attribute = Schema::of(features.unknown()).with_most(LONGEST_VALUE);
    let mut fields = vec![
        ("driver", text(LONGEST_DRIVER)),
        ("attributes", named(attribute, true)),
        ("capacity", named(Schema::of(Type::object(QUANTITY)), false)),
    ];
    if features.consumable_capacity {
        // Upstream gives it a size, without which it would be estimated too low.
        let flag = Schema::of(Type::Bool).with_most(1);
        fields.push(("allowMultipleAllocations", flag));
    }
    Schema::object("kubernetes.DRADevice", fields)
}

#[cfg(test)]
mod tests;
