//! What is to be done with a request: it applies, and it has a key, or not.

use http::{Method, header, request::Parts};

use crate::{Rejection, Run, header_key::KeyText, identity::Identity, key_source::Found, settings::Settings};

/// What is to be done with a request.
pub(crate) enum Admission {
    Bypass,
    /// Its key may be in its body.
    ReadBody,
    /// It has no key, and may be known by its body.
    HashBody,
    Guard(Identity),
    Reject(Rejection),
}

impl Settings {
    /// Judges a request by its head, and by its body if that has been read.
    ///
    /// Takes no allocation, no lock and no backend call for a request that is bypassed for its head.
    pub(crate) fn admit(&self, parts: &Parts, body: Option<&[u8]>) -> Admission {
        if !self.covers(parts) {
            return Admission::Bypass;
        }
        match self.key.find(parts, body) {
            Ok(Found::Nothing) if self.require_key => Admission::Reject(Rejection::KeyMissing),
            // No header lets a request without a key pass. The body of CONNECT is not one.
            Ok(Found::Unread) if self.require_key && parts.method != Method::CONNECT => Admission::ReadBody,
            Ok(_) if changes_protocol(parts) => Admission::Bypass,
            Ok(Found::Nothing) => self.admit_without_key(parts, body),
            Ok(Found::Unread) => Admission::ReadBody,
            Ok(Found::Key(text)) => self.identify(parts, text),
            Err(rejection) => Admission::Reject(rejection),
        }
    }

    fn admit_without_key(&self, parts: &Parts, body: Option<&[u8]>) -> Admission {
        match (&self.key.body_hash, body) {
            (Some(hash), _) if !hash.applies(self, parts) => Admission::Bypass,
            (Some(_), None) => Admission::HashBody,
            (Some(hash), Some(body)) => match hash.identity(self, parts, body) {
                Some(identity) => self.guard(parts, identity),
                None => Admission::Bypass,
            },
            (None, _) => Admission::Bypass,
        }
    }

    fn identify(&self, parts: &Parts, text: KeyText) -> Admission {
        match self.scope(parts) {
            Ok(scope) => self.guard(parts, Identity { text, scope, window: None }),
            Err(rejection) => Admission::Reject(rejection),
        }
    }

    /// A layer that is applied twice would refuse its own request.
    fn guard(&self, parts: &Parts, identity: Identity) -> Admission {
        let claimed = parts.extensions.get::<Run>().is_some_and(|run| run.holds(&identity.key(&self.namespace)));
        if claimed { Admission::Bypass } else { Admission::Guard(identity) }
    }
}

/// The connection is to become something that is neither recorded nor replayed. `h2c` is not such a request: clients
/// offer it with any request, and servers ignore it (RFC 9113, 3.1).
fn changes_protocol(parts: &Parts) -> bool {
    let upgrade = parts.headers.get(header::UPGRADE).is_some_and(|to| !to.as_bytes().eq_ignore_ascii_case(b"h2c"));
    upgrade || parts.method == Method::CONNECT
}
