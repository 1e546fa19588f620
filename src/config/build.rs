//! A layer made of the sections of a configuration.

use std::str::FromStr;

use http::{HeaderName, Method, StatusCode};

use super::{
    closures::{Closures, TextClosure},
    position::PathStep,
    sections::{
        CacheConfig, CallerConfig, CredentialsConfig, InvalidateConfig, LayerConfig, StoreConfig,
    },
    setters::set,
    value::{ConfigBytes, ConfigDuration},
};
use crate::{
    error::{ConfigError, ConfigErrorKind},
    layer::{CallerKey, SupportCacheLayer, SupportCacheLayerBuilder},
    origin::OriginBudget,
    route::{CacheRoute, Caller, Coalescing, Credentials, InvalidateRoute, Routes},
    store::{ChosenStore, MemoryStore, Store},
};

impl LayerConfig {
    /// Builds the layer over the store that the configuration names.
    ///
    /// # Errors
    ///
    /// As for [`SupportCacheLayerBuilder::build`]; a closure that is not there; a secret that cannot be
    /// read.
    pub fn layer(
        &self,
        closures: &Closures,
    ) -> Result<SupportCacheLayer<ChosenStore>, ConfigError> {
        self.builder(self.store.build()?, closures)?.build()
    }

    /// Returns a builder over a store of the caller's, with all other settings of the configuration.
    ///
    /// # Errors
    ///
    /// As for [`layer`](Self::layer).
    pub fn builder<St: Store>(
        &self,
        store: St,
        closures: &Closures,
    ) -> Result<SupportCacheLayerBuilder<St>, ConfigError> {
        let mut builder = set!(SupportCacheLayer::builder(store), self, {
            name,
            mount,
            scheme,
            record_outcomes,
        });
        if let Some(names) = &self.credential_fields {
            builder = builder.credential_fields(fields(names, "credential_fields")?);
        }
        if let Some(name) = &self.tag_field {
            builder = builder.tag_field(field(name, "tag_field")?);
        }
        if let Some(name) = &self.surrogate_key_field {
            builder = builder.surrogate_key_field(field(name, "surrogate_key_field")?);
        }
        if let Some(secret) = &self.caller_key {
            builder = builder.caller_key(CallerKey::new(secret.key("caller_key")?));
        }
        if let Some(budget) = &self.origin_budget {
            let own = OriginBudget::new(budget.calls, budget.per.get());
            builder = builder.origin_budget(set!(own, budget, { name, burst }));
        }
        if let Some(credentials) = &self.credentials {
            builder = builder.credentials(credentials.build(closures)?);
        }
        Ok(builder.routes(self.routes(closures)?))
    }

    /// Returns the routes and rules alone, for
    /// [`SupportCacheHandle::reload`](crate::SupportCacheHandle::reload).
    ///
    /// # Errors
    ///
    /// A closure that is not there; a name or a status that is none.
    pub fn routes(&self, closures: &Closures) -> Result<Routes, ConfigError> {
        let mut routes = Routes::new();
        for section in &self.cache {
            let route = section.build(closures);
            routes = routes.cache(route.map_err(|error| error.at(&section.name()))?);
        }
        for section in &self.invalidate {
            let rule = section.build(closures);
            routes = routes.invalidate(rule.map_err(|error| error.at(&section.name()))?);
        }
        Ok(routes)
    }
}

/// Part of a configuration that an error is about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Section {
    Layer,
    Store,
    Cache(usize),
    Invalidate(usize),
}

impl Section {
    /// Returns the way to it in a file.
    pub(super) fn path(self) -> Vec<PathStep> {
        let item =
            |name: &str, position| vec![PathStep::Field(name.to_owned()), PathStep::Item(position)];
        match self {
            Self::Layer => Vec::new(),
            Self::Store => vec![PathStep::Field("store".to_owned())],
            Self::Cache(position) => item("cache", position),
            Self::Invalidate(position) => item("invalidate", position),
        }
    }
}

impl LayerConfig {
    /// Returns the part that an error is about. Of two routes that match the same paths it is the later.
    pub(super) fn section_of(&self, error: &ConfigError) -> Section {
        let Some(route) = error.route() else {
            return match error.is_about_the_layer() {
                true => Section::Layer,
                false => Section::Store,
            };
        };
        let cached = self.cache.iter().rposition(|section| section.name() == route);
        let rule = || self.invalidate.iter().rposition(|section| section.name() == route);
        match cached {
            Some(position) => Section::Cache(position),
            None => rule().map_or(Section::Layer, Section::Invalidate),
        }
    }
}

impl StoreConfig {
    /// Builds the store.
    ///
    /// # Errors
    ///
    /// As for the builder of the store; a secret that cannot be read.
    pub fn build(&self) -> Result<ChosenStore, ConfigError> {
        match self {
            Self::Memory(memory) => {
                let capacity = memory.capacity.map(|capacity| capacity.get());
                let builder = MemoryStore::builder();
                let builder = match capacity {
                    Some(bytes) => builder.capacity(bytes),
                    None => builder,
                };
                Ok(ChosenStore::from(builder.build()?))
            }
            #[cfg(feature = "redis")]
            Self::Redis(redis) => Ok(ChosenStore::from(redis.build()?)),
        }
    }
}

impl CredentialsConfig {
    fn build(&self, closures: &Closures) -> Result<Credentials, ConfigError> {
        Ok(match self {
            Self::Bypass => Credentials::Bypass,
            Self::SameForEverybody => Credentials::SameForEverybody,
            Self::PerCaller(caller) => Credentials::PerCaller(caller.build(closures)?),
            Self::PerTenant(tenant) => Credentials::PerTenant(tenant.build(closures)?),
            Self::ByResponse => Credentials::ByResponse,
            Self::CoveredByKey => Credentials::CoveredByKey,
        })
    }
}

impl CallerConfig {
    fn build(&self, closures: &Closures) -> Result<Caller, ConfigError> {
        Ok(match self {
            Self::Authorization => Caller::authorization(),
            Self::Cookies(names) => Caller::cookies(names),
            Self::Named(name) => {
                let closure = text(closures, name, "credentials")?;
                Caller::with(move |request| closure(request))
            }
        })
    }
}

impl CacheConfig {
    /// Returns the method and the pattern, as errors name the route.
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.method.as_deref().unwrap_or("GET"), self.pattern)
    }

    /// Returns the route without its settings.
    fn route(&self, closures: &Closures) -> Result<CacheRoute, ConfigError> {
        match (self.method.as_deref().unwrap_or("GET"), &self.reads) {
            ("GET", None) => Ok(CacheRoute::get(&self.pattern)),
            ("QUERY", None) => Ok(CacheRoute::query(&self.pattern)),
            ("POST", Some(name)) => {
                let reads = closures.reads_of(name).ok_or_else(|| missing(name, "reads"))?;
                Ok(CacheRoute::post_read(&self.pattern, move |request, content| {
                    reads(request, content)
                }))
            }
            (other, _) => {
                let problem = format!(
                    "`{other}` is not cached: write `GET`, `QUERY`, or `POST` with `reads`, which is for it"
                );
                Err(ConfigError::new(ConfigErrorKind::Pattern, "method", problem))
            }
        }
    }

    /// Sets the forms in which responses are sent and contents are compared.
    fn with_forms(&self, mut route: CacheRoute) -> Result<CacheRoute, ConfigError> {
        if self.etag == Some(true) {
            route = route.etag();
        }
        #[cfg(feature = "encode")]
        {
            route = route.encode(self.encode.iter().copied());
            if self.encode_per_caller {
                route = route.encode_per_caller();
            }
        }
        if let Some(form) = &self.normalize {
            check_form(form)?;
            #[cfg(feature = "json")]
            {
                route = route.normalize_json();
            }
        }
        Ok(route)
    }

    /// Sets the closures that the file names.
    fn with_closures(
        &self,
        mut route: CacheRoute,
        closures: &Closures,
    ) -> Result<CacheRoute, ConfigError> {
        for name in &self.tags_with {
            let closure = text(closures, name, "tags_with")?;
            route = route.tag_with(move |request| closure(request));
        }
        if let Some(name) = &self.key_with {
            let closure = text(closures, name, "key_with")?;
            route = route.key_with(move |request| closure(request));
        }
        if let Some(name) = &self.ttl_with {
            let found = closures.ttl_of(name).ok_or_else(|| missing(name, "ttl_with"))?;
            route = route.ttl_with(found.version, move |head| (found.closure)(head));
        }
        if let Some(name) = &self.store_if {
            let found = closures.store_if_of(name).ok_or_else(|| missing(name, "store_if"))?;
            route = route.store_if(found.version, move |head| (found.closure)(head));
        }
        Ok(route)
    }

    fn build(&self, closures: &Closures) -> Result<CacheRoute, ConfigError> {
        let duration = |value: &ConfigDuration| value.get();
        let bytes = |value: &ConfigBytes| value.get();
        let mut route = set!(self.route(closures)?, self, {
            bucket,
            key,
            ttl: duration,
            freshness,
            heuristic,
            stale_while_revalidate: duration,
            stale_if_error: duration,
            soft_timeout: duration,
            early_refresh,
            audit,
            query_policy,
            host,
            request_directives,
            quota,
            when_exhausted,
            settle: duration,
            negative_ttl: duration,
            jitter,
            body_limit: bytes,
            content_limit: bytes,
        });
        if let Some([least, most]) = &self.ttl_between {
            route = route.ttl_between(least.get(), most.get());
        }
        route = self.tags.iter().fold(route, |route, template| route.tag(template));
        route = self.with_closures(route, closures)?;
        if let Some(credentials) = &self.credentials {
            route = route.credentials(credentials.build(closures)?);
        }
        if let Some(codes) = &self.statuses {
            route = route.statuses(statuses(codes)?);
        }
        if self.coalescing == Some(false) {
            route = route.coalescing(Coalescing::Off);
        }
        if self.no_vary_search == Some(true) {
            route = route.no_vary_search();
        }
        route = self.with_forms(route)?;
        let ignored = self.ignore_writes.iter().map(|name| method(name, "ignore_writes"));
        Ok(route
            .ignore_writes(ignored.collect::<Result<Vec<_>, _>>()?)
            .vary(fields(&self.vary, "vary")?)
            .targeted(fields(&self.targeted, "targeted")?)
            .strip(fields(&self.strip, "strip")?))
    }
}

impl InvalidateConfig {
    /// Returns the method and the pattern, as errors name the rule.
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.method.as_deref().unwrap_or("(any unsafe)"), self.pattern)
    }

    fn build(&self, closures: &Closures) -> Result<InvalidateRoute, ConfigError> {
        let mut rule = match &self.method {
            Some(name) => InvalidateRoute::new(method(name, "method")?, &self.pattern),
            None => InvalidateRoute::any_unsafe(&self.pattern),
        };
        for template in &self.keys {
            rule = rule.key(template);
        }
        for template in &self.tags {
            rule = rule.tag(template);
        }
        for name in &self.keys_with {
            let closure = text(closures, name, "keys_with")?;
            rule = rule.key_with(move |request| closure(request));
        }
        for name in &self.tags_with {
            let closure = text(closures, name, "tags_with")?;
            rule = rule.tag_with(move |request| closure(request));
        }
        if self.groups {
            rule = rule.groups();
        }
        if self.soft {
            rule = rule.soft();
        }
        let duration = |value: &ConfigDuration| value.get();
        Ok(set!(rule, self, { unknown_for: duration, accepted_for: duration }))
    }
}

fn text(closures: &Closures, name: &str, field: &'static str) -> Result<TextClosure, ConfigError> {
    closures.text_of(name).ok_or_else(|| missing(name, field))
}

/// Checks the name of a form of contents. There is one, with the feature `json`.
fn check_form(form: &str) -> Result<(), ConfigError> {
    if cfg!(feature = "json") && form == "json" {
        return Ok(());
    }
    let problem = format!(
        "`{form}` is no form of content: write `json` (feature `json`), or normalize by a closure in code"
    );
    Err(ConfigError::new(ConfigErrorKind::Closure, "normalize", problem))
}

fn missing(name: &str, field: &'static str) -> ConfigError {
    let problem = format!("no closure is called `{name}`: add it to the `Closures`");
    ConfigError::new(ConfigErrorKind::Closure, field, problem)
}

fn method(name: &str, setting: &'static str) -> Result<Method, ConfigError> {
    Method::from_str(name).map_err(|_| {
        let problem = format!("`{name}` is no method: write one such as `POST`");
        ConfigError::new(ConfigErrorKind::Pattern, setting, problem)
    })
}

fn fields(names: &[String], setting: &'static str) -> Result<Vec<HeaderName>, ConfigError> {
    names.iter().map(|name| field(name, setting)).collect()
}

fn field(name: &str, setting: &'static str) -> Result<HeaderName, ConfigError> {
    HeaderName::from_str(name).map_err(|_| {
        let problem = format!("`{name}` is no field name: write one such as `Accept-Language`");
        ConfigError::new(ConfigErrorKind::Name, setting, problem)
    })
}

fn statuses(codes: &[u16]) -> Result<Vec<StatusCode>, ConfigError> {
    let parse = |code: &u16| {
        StatusCode::from_u16(*code).map_err(|_| {
            let problem = format!("`{code}` is no status: write one such as 200");
            ConfigError::new(ConfigErrorKind::Status, "statuses", problem)
        })
    };
    codes.iter().map(parse).collect()
}
