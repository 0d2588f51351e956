//! Many processes over one PostgreSQL.

use std::time::Duration;

use tower_idempotency::sqlx::postgres::PgPoolOptions;

use crate::support::{SHARED, Terms, address_at, backend_at, fresh_name};

/// Of processes that refuse nobody because the machine is busy.
fn terms(lease: Duration) -> Terms {
    let (place, name) = (SHARED.port().to_string(), fresh_name());
    Terms { place, name, lease, timeout: LONG, run: Duration::from_millis(20) }
}

/// All that the release form of the tests sends; without optimisation it takes minutes.
const CROWD: usize = if cfg!(debug_assertions) { 1_000 } else { 10_000 };

processes!(
    terms,
    async |terms| {
        let address = address_at(terms.place.parse().unwrap());
        let pool = PgPoolOptions::new().acquire_timeout(terms.timeout).connect_lazy_with(address);
        backend_at(pool, &terms.name).await.timeout(terms.timeout)
    },
    CROWD
);
