//! [`Identity`]: which key, and whose.

use std::time::Duration;

use http::request;

use crate::{Fingerprint, Key, Rejection, header_key::KeyText, settings::Settings};

/// Which key a request has, and whose it is.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) text: KeyText,
    /// The principal, where the service tells principals apart.
    pub(crate) scope: Option<Vec<u8>>,
    /// How long its record lives, where the request is known by its body.
    pub(crate) window: Option<Duration>,
}

impl Identity {
    pub(crate) fn key(&self, namespace: &str) -> Key {
        let text = self.text.as_str();
        match (self.window, &self.scope) {
            (Some(_), scope) => Key::hashed(namespace, scope.as_deref(), text.as_bytes()),
            (None, Some(scope)) => Key::scoped(namespace, scope, text),
            (None, None) => Key::new(namespace, text),
        }
    }
}

impl Settings {
    /// The principal of a request. Without one it is refused: all who have none would share one key space.
    pub(crate) fn scope(&self, parts: &request::Parts) -> Result<Option<Vec<u8>>, Rejection> {
        let Some(principal) = &self.scope else { return Ok(None) };
        match principal(parts) {
            Some(scope) if !scope.is_empty() => Ok(Some(scope)),
            _ => Err(Rejection::ScopeMissing),
        }
    }

    /// What a request is. A principal stands for its credentials, which may change while it does not. A request that is
    /// known by its body is that.
    pub(crate) fn fingerprint(&self, identity: &Identity, parts: &request::Parts, body: &[u8]) -> Fingerprint {
        if identity.window.is_some() {
            return Fingerprint::of(identity.text.as_str());
        }
        let fingerprint = self.fingerprint.fingerprint(parts, body);
        if identity.scope.is_some() { fingerprint.without_credentials() } else { fingerprint }
    }
}
