use crate::outcome::Outcome;

pub(crate) fn credentials_bypassed(_: &str) {}

pub(crate) fn invalidation_failed(_: &str) {}

pub(crate) fn ended(_: &str, _: &Outcome) {}
