//! Commands, and how a request names one.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use percent_encoding::percent_decode_str;

use super::reply::Reply;
use crate::{
    handle::{Invalidation, SupportCacheHandle},
    key::Strength,
    metrics::{Snapshot, switch::Switch},
};

/// Default limit of a drain.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);
/// Longest limit of a drain, in seconds.
const LONGEST_DRAIN: u64 = 3600;

/// Command of an operator.
pub(super) enum Command {
    Inspect,
    Page,
    Audits,
    /// The last outcomes of a bucket.
    Outcomes(String),
    Explain(Box<Request<Bytes>>),
    Invalidate(Vec<PurgeTarget>, Strength),
    Switch(Vec<(String, Switch)>),
    Drain(Duration),
}

/// Target of one invalidation.
pub(super) enum PurgeTarget {
    Key(String),
    Tag(String),
    Bucket(String),
    Group { authority: String, group: String },
    All,
}

impl Command {
    /// Reads a whole request, so that nothing is done if a part of it is wrong.
    pub(super) fn of<B>(request: &Request<B>, counts: &Snapshot) -> Result<Self, Reply> {
        let name = CommandName::of(request.uri().path());
        match (request.method(), name.is_read()) {
            (&Method::POST, true) if matches!(name, CommandName::Inspect) => {
                return Err(Reply::text(StatusCode::NOT_FOUND, "there is no such command"));
            }
            (&Method::GET, true) | (&Method::POST, false) => {}
            (_, true) => return Err(Reply::not_allowed("GET")),
            (_, false) => return Err(Reply::not_allowed("POST")),
        }
        let parameters = parameters(request.uri().query().unwrap_or_default())?;
        match name {
            CommandName::Inspect => Ok(Self::Inspect),
            CommandName::Page => Ok(Self::Page),
            CommandName::Audits => Ok(Self::Audits),
            CommandName::Outcomes => outcomes(&parameters, counts),
            CommandName::Explain => explain(&parameters),
            CommandName::Invalidate(strength) => {
                Ok(Self::Invalidate(targets(&parameters, counts)?, strength))
            }
            CommandName::InvalidateAll(strength) => {
                allow(&parameters, &[])?;
                Ok(Self::Invalidate(vec![PurgeTarget::All], strength))
            }
            CommandName::Switch => switches(parameters, counts),
            CommandName::Drain => drain(&parameters),
        }
    }
}

/// Name of a command, the last segment of a path.
enum CommandName {
    Inspect,
    Page,
    Audits,
    Outcomes,
    Explain,
    Invalidate(Strength),
    InvalidateAll(Strength),
    Switch,
    Drain,
}

impl CommandName {
    fn of(path: &str) -> Self {
        match path.trim_end_matches('/').rsplit('/').next().unwrap_or_default() {
            "page" => Self::Page,
            "audits" => Self::Audits,
            "outcomes" => Self::Outcomes,
            "explain" => Self::Explain,
            "invalidate" => Self::Invalidate(Strength::Hard),
            "soft-invalidate" => Self::Invalidate(Strength::Soft),
            "invalidate-all" => Self::InvalidateAll(Strength::Hard),
            "soft-invalidate-all" => Self::InvalidateAll(Strength::Soft),
            "switch" => Self::Switch,
            "drain" => Self::Drain,
            _ => Self::Inspect,
        }
    }

    /// Returns whether it changes nothing.
    fn is_read(&self) -> bool {
        match self {
            Self::Inspect | Self::Page | Self::Audits | Self::Outcomes | Self::Explain => true,
            Self::Invalidate(_) | Self::InvalidateAll(_) | Self::Switch | Self::Drain => false,
        }
    }
}

impl PurgeTarget {
    pub(super) fn invalidate(
        &self,
        cache: &SupportCacheHandle,
        strength: Strength,
    ) -> Invalidation {
        match (self, strength) {
            (Self::Key(key), Strength::Hard) => cache.invalidate(key),
            (Self::Key(key), Strength::Soft) => cache.soft_invalidate(key),
            (Self::Tag(tag), Strength::Hard) => cache.invalidate_tag(tag),
            (Self::Tag(tag), Strength::Soft) => cache.soft_invalidate_tag(tag),
            (Self::Bucket(name), Strength::Hard) => cache.invalidate_bucket(name),
            (Self::Bucket(name), Strength::Soft) => cache.soft_invalidate_bucket(name),
            (Self::Group { authority, group }, Strength::Hard) => {
                cache.invalidate_group(authority, group)
            }
            (Self::Group { authority, group }, Strength::Soft) => {
                cache.soft_invalidate_group(authority, group)
            }
            (Self::All, Strength::Hard) => cache.invalidate_all(),
            (Self::All, Strength::Soft) => cache.soft_invalidate_all(),
        }
    }
}

/// Decoded parameter of a query.
struct Parameter {
    name: String,
    value: String,
}

fn parameters(query: &str) -> Result<Vec<Parameter>, Reply> {
    let decode = |text: &str| {
        let text = text.replace('+', " ");
        let decoded = percent_decode_str(&text).decode_utf8();
        decoded.map(Into::into).map_err(|_| Reply::refused("a parameter is no UTF-8"))
    };
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let parameter = Parameter { name: decode(name)?, value: decode(value)? };
            match parameter.value.trim().is_empty() {
                true => Err(Reply::refused(format_args!("`{}` has no value", parameter.name))),
                false => Ok(parameter),
            }
        })
        .collect()
}

/// Refuses parameters that a command does not have.
fn allow(parameters: &[Parameter], names: &[&str]) -> Result<(), Reply> {
    match parameters.iter().find(|parameter| !names.contains(&&*parameter.name)) {
        Some(Parameter { name, .. }) => {
            Err(Reply::refused(format_args!("there is no parameter `{name}` here")))
        }
        None => Ok(()),
    }
}

fn known(bucket: &str, counts: &Snapshot) -> Result<String, Reply> {
    match counts.bucket(bucket) {
        Some(_) => Ok(bucket.to_owned()),
        None => Err(Reply::refused(format_args!("there is no bucket `{bucket}`"))),
    }
}

fn targets(parameters: &[Parameter], counts: &Snapshot) -> Result<Vec<PurgeTarget>, Reply> {
    allow(parameters, &["key", "tag", "bucket", "group", "authority"])?;
    let authority = parameters.iter().find(|parameter| parameter.name == "authority");
    let mut targets = Vec::new();
    for Parameter { name, value } in parameters {
        targets.push(match (&**name, authority) {
            ("key", _) => PurgeTarget::Key(value.clone()),
            ("tag", _) => PurgeTarget::Tag(value.clone()),
            ("bucket", _) => PurgeTarget::Bucket(known(value, counts)?),
            ("group", Some(authority)) => {
                PurgeTarget::Group { authority: authority.value.clone(), group: value.clone() }
            }
            ("group", None) => return Err(Reply::refused("`group` needs an `authority`")),
            _ => continue,
        });
    }
    match targets.is_empty() {
        true => Err(Reply::refused("the query names nothing to invalidate")),
        false => Ok(targets),
    }
}

fn switches(parameters: Vec<Parameter>, counts: &Snapshot) -> Result<Command, Reply> {
    allow(&parameters, &["on", "off", "shadow"])?;
    let switch = |Parameter { name, value }| {
        let switch = match &*name {
            "on" => Switch::On,
            "off" => Switch::Off,
            _ => Switch::Shadow,
        };
        Ok((known(&value, counts)?, switch))
    };
    parameters.into_iter().map(switch).collect::<Result<_, _>>().map(Command::Switch)
}

fn drain(parameters: &[Parameter]) -> Result<Command, Reply> {
    allow(parameters, &["seconds"])?;
    let Some(seconds) = parameters.first() else { return Ok(Command::Drain(DRAIN_LIMIT)) };
    match seconds.value.parse() {
        Ok(seconds @ 0..=LONGEST_DRAIN) => Ok(Command::Drain(Duration::from_secs(seconds))),
        _ => Err(Reply::refused(format_args!("`seconds` is a number up to {LONGEST_DRAIN}"))),
    }
}

fn outcomes(parameters: &[Parameter], counts: &Snapshot) -> Result<Command, Reply> {
    allow(parameters, &["bucket"])?;
    match parameters {
        [bucket] => Ok(Command::Outcomes(known(&bucket.value, counts)?)),
        _ => Err(Reply::refused("name one `bucket`")),
    }
}

/// Reads the request that is to be explained.
fn explain(parameters: &[Parameter]) -> Result<Command, Reply> {
    allow(parameters, &["method", "target", "field", "content"])?;
    let (mut request, mut content) = (Request::builder(), Bytes::new());
    for Parameter { name, value } in parameters {
        request = match (&**name, value.split_once(':')) {
            ("method", _) => request.method(&**value),
            ("target", _) => request.uri(value),
            ("content", _) => {
                content = Bytes::copy_from_slice(value.as_bytes());
                request
            }
            (_, Some((name, value))) => request.header(name.trim(), value.trim()),
            (_, None) => return Err(Reply::refused("a `field` is a name, a colon and a value")),
        };
    }
    let request = request.body(content).map_err(|error| Reply::refused(&error))?;
    Ok(Command::Explain(Box::new(request)))
}
