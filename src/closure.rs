//! [`Closure`]: what a user tells the layer in code.

use std::{fmt, ops::Deref, sync::Arc};

/// A closure of the user's, shared by all services that a layer makes.
pub(crate) struct Closure<F: ?Sized>(pub(crate) Arc<F>);

impl<F: ?Sized> Deref for Closure<F> {
    type Target = F;

    fn deref(&self) -> &F {
        &self.0
    }
}

impl<F: ?Sized> Clone for Closure<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F: ?Sized> fmt::Debug for Closure<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("closure")
    }
}
