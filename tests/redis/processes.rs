//! Many processes over one Redis.

use std::time::Duration;

use crate::support::{SHARED, Terms, backend_at, fresh_name};

/// Of processes that refuse nobody because the machine is busy.
fn terms(lease: Duration) -> Terms {
    Terms { place: SHARED.url(), name: fresh_name(), lease, timeout: LONG, run: Duration::from_millis(20) }
}

processes!(terms, async |terms| backend_at(&terms.place, &terms.name).await.timeout(terms.timeout), 10_000);
