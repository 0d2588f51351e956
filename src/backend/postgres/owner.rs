//! [`Owner`]: the connections of those who hold a claim.

use std::sync::{Arc, Mutex, PoisonError};

use sqlx::{PgPool, postgres::PgConnectOptions};

use super::pool_of;

/// The connections for renew, complete and release, which must not queue behind claims.
///
/// They are made as those for claims are: by the same options, and to the same address, which an application sets anew
/// when its password changes. Those who hold a claim must not be the only ones without one.
#[derive(Clone)]
pub(super) struct Owner {
    pool: PgPool,
    claims: PgPool,
    /// The address of `claims` that `pool` has.
    address: Arc<Mutex<Arc<PgConnectOptions>>>,
}

impl Owner {
    /// Half as many connections as `claims` has, and at least two.
    pub(super) fn beside(claims: PgPool) -> Self {
        let connections = claims.options().get_max_connections().div_ceil(2).max(2);
        let address = claims.connect_options();
        let pool = pool_of(claims.options().clone(), connections, address.as_ref().clone());
        Self { pool, claims, address: Arc::new(Mutex::new(address)) }
    }

    pub(super) fn pool(&self) -> &PgPool {
        let address = self.claims.connect_options();
        // Nothing that can panic runs under the lock.
        let mut known = self.address.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&known, &address) {
            self.pool.set_connect_options(address.as_ref().clone());
            *known = address;
        }
        &self.pool
    }
}
