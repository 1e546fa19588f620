//! Service for operators: a page, invalidation, switches and inspection over HTTP.

mod access;
mod command;
mod json;
mod reply;
mod service;

pub use self::service::OperatorService;
