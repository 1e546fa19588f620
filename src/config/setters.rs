//! Calls of setters for the settings that are given.

/// Calls a setter for each setting that is given.
macro_rules! set {
    ($builder:expr, $from:expr, { $($field:ident $(: $make:expr)?),* $(,)? }) => {{
        let mut builder = $builder;
        $(if let Some(value) = &$from.$field {
            let value = set!(@value value $(, $make)?);
            builder = builder.$field(value);
        })*
        builder
    }};
    (@value $value:ident) => { $value.clone() };
    (@value $value:ident, $make:expr) => { $make($value) };
}

pub(super) use set;
