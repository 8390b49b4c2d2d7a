//! What an object must look like: the schema half of a CustomResourceDefinition.
//!
//! A cluster prunes, defaults and judges every object that is written; so must we, in the same
//! order and with the same words, or a manifest that works here fails there.
//!
//! ```text
//! object → shape: prune (unknown fields named), defaults → check: types, bounds, lists → rules (CEL)
//! ```

mod cause;
mod cel;
mod check;
mod compile;
mod format;
mod lists;
mod node;
mod path;
mod shape;

pub use cause::{Cause, Rejection, invalid_message};
pub use compile::SchemaError;

use node::Node;
use path::Path;
use serde_json::Value;

/// A compiled structural schema of one version of one kind.
#[derive(Debug)]
pub struct Structural {
    root: Node,
}

/// What `fieldValidation=` asks for; a request without it means `Warn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FieldValidation {
    Strict,
    #[default]
    Warn,
    Ignore,
}

impl FieldValidation {
    /// `None` for a word that is none of the three (422).
    pub fn parse(word: &str) -> Option<FieldValidation> {
        match word {
            "Strict" => Some(FieldValidation::Strict),
            "" | "Warn" => Some(FieldValidation::Warn),
            "Ignore" => Some(FieldValidation::Ignore),
            _ => None,
        }
    }
}

impl Structural {
    /// Compiles an `openAPIV3Schema`.
    pub fn compile(schema: &Value) -> Result<Structural, SchemaError> {
        Ok(Structural { root: compile::root(schema)? })
    }

    /// Prunes, defaults and judges `object`; `Ok` holds the unknown fields to warn about, as
    /// `unknown field "spec.x"` (one `Warning: 299 - "…"` header each).
    ///
    /// `old` is the stored object of an update: what did not change is not judged again, so that a
    /// stricter schema does not lock up objects from before it.
    pub fn admit(
        &self,
        object: &mut Value,
        old: Option<&Value>,
        mode: FieldValidation,
    ) -> Result<Vec<String>, Rejection> {
        let unknown = self.shape(object);
        if mode == FieldValidation::Strict && !unknown.is_empty() {
            return Err(Rejection::Strict(unknown));
        }
        let causes = self.judge(object, old);
        if !causes.is_empty() {
            return Err(Rejection::Invalid(causes));
        }
        Ok(if mode == FieldValidation::Ignore { Vec::new() } else { unknown })
    }

    /// The first half of [`admit`](Self::admit), for the object as the client sent it: drops what the schema does not know and returns
    /// its names, fills in defaults.
    pub fn shape(&self, object: &mut Value) -> Vec<String> {
        shape::root(&self.root, object)
    }

    /// The second half: types, bounds, lists, and the rules if nothing more basic is wrong.
    pub fn judge(&self, object: &Value, old: Option<&Value>) -> Vec<Cause> {
        let mut causes = Vec::new();
        check::check(&self.root, object, old, Path::Root, &mut causes);
        let duplicate = |o: &Value| {
            let mut found = Vec::new();
            lists::check(&self.root, o, Path::Root, &mut found);
            found
        };
        if old.is_none_or(|old| duplicate(old).is_empty()) {
            causes.extend(duplicate(object));
        }
        if causes.iter().any(Cause::blocks_rules) {
            causes.push(Cause::rules_not_checked());
        } else {
            cel::check(&self.root, object, old, Path::Root, &mut causes);
        }
        causes
    }
}

#[cfg(test)]
mod tests;
