//! Servers that would forget keys are warned of.

use std::sync::{Arc, Mutex};

use tower_idempotency::RedisBackend;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
    subscriber::set_default,
};

use crate::support::{Server, backend_at};

/// Collects what is said at level `WARN`.
#[derive(Debug, Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN && metadata.target().starts_with("tower_idempotency")
    }

    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

impl Visit for Warnings {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.lock().unwrap().push(format!("{field}={value:?}"));
    }
}

async fn warnings_of(url: &str) -> Vec<String> {
    let warnings = Warnings::default();
    let _guard = set_default(warnings.clone());
    RedisBackend::connect(url).await.unwrap();
    warnings.0.lock().unwrap().clone()
}

#[tokio::test]
async fn a_server_that_evicts_is_warned_of() {
    let server = Server::start(&["maxmemory-policy volatile-ttl"]);
    let warnings = warnings_of(&server.url()).await;
    assert!(warnings.contains(&"policy=\"volatile-ttl\"".to_owned()), "{warnings:?}");
    assert!(warnings.iter().any(|text| text.contains("set maxmemory-policy to noeviction")), "{warnings:?}");
    let policy = backend_at(&server.url(), "eviction:").await.eviction_policy().await.unwrap();
    assert_eq!(policy.as_deref(), Some("volatile-ttl"));
}

#[tokio::test]
async fn a_server_that_does_not_evict_is_not() {
    let server = Server::start(&["maxmemory-policy noeviction"]);
    assert_eq!(warnings_of(&server.url()).await, [""; 0]);
    for url in [server.url(), format!("{}?protocol=resp3", server.url())] {
        let policy = backend_at(&url, "eviction:").await.eviction_policy().await.unwrap();
        assert_eq!(policy.as_deref(), Some("noeviction"));
    }
}

#[tokio::test]
async fn a_server_that_does_not_tell_is_not() {
    let server = Server::start(&["maxmemory-policy volatile-ttl", "rename-command CONFIG \"\""]);
    assert_eq!(warnings_of(&server.url()).await, [""; 0]);
    assert_eq!(backend_at(&server.url(), "eviction:").await.eviction_policy().await.unwrap(), None);
}
