//! What a service should know of its settings, said once per layer.

use http::request;

use crate::{identity::Identity, settings::Settings};

/// What was said already. A clone has said nothing yet: it belongs to another layer.
#[cfg(feature = "tracing")]
#[derive(Debug, Default)]
pub(crate) struct Hints {
    cookies: std::sync::atomic::AtomicBool,
    strangers: std::sync::atomic::AtomicBool,
}

#[cfg(feature = "tracing")]
impl Clone for Hints {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Settings {
    /// Warns when nothing but a cookie tells the sender of a request with a key from others.
    #[cfg_attr(
        not(feature = "tracing"),
        allow(unused_variables, clippy::unused_self, reason = "without the feature nobody hears of it")
    )]
    pub(crate) fn hint_at_cookies(&self, identity: &Identity, parts: &request::Parts) {
        #[cfg(feature = "tracing")]
        {
            use http::header::{AUTHORIZATION, COOKIE};

            let told_apart = identity.scope.is_some() || identity.window.is_some() || self.fingerprint.reads(&COOKIE);
            let by_cookie = parts.headers.contains_key(COOKIE) && !parts.headers.contains_key(AUTHORIZATION);
            if !told_apart && by_cookie && first(&self.hints.cookies) {
                tracing::warn!(
                    namespace = &*self.namespace,
                    "requests carry a Cookie but neither Authorization nor a scope: two users who send the same request \
                     with one key get one answer; set a scope"
                );
            }
        }
    }

    /// Warns that requests without a key are not known by their bodies either.
    #[cfg_attr(not(feature = "tracing"), allow(clippy::unused_self, reason = "without the feature nobody hears of it"))]
    pub(crate) fn hint_at_strangers(&self) {
        #[cfg(feature = "tracing")]
        if first(&self.hints.strangers) {
            tracing::warn!(
                namespace = &*self.namespace,
                "requests without a key, a scope, Authorization and Cookie run unrecorded, as two strangers must never \
                 share an answer; set a scope, or BodyHash::any_caller if all callers are one"
            );
        }
    }
}

/// Whether this is the first time. Looks before it writes, as it is asked on every request.
#[cfg(feature = "tracing")]
fn first(said: &std::sync::atomic::AtomicBool) -> bool {
    use std::sync::atomic::Ordering::Relaxed;

    !said.load(Relaxed) && !said.swap(true, Relaxed)
}
