//! What the process holds.

use std::fs;

use stats_alloc::INSTRUMENTED_SYSTEM;
use tokio::runtime::Handle;

/// What must be as it was whenever all is at rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) tasks: usize,
    pub(crate) descriptors: usize,
    /// Those of the runtime and of the layers. `None` where the system does not list them.
    pub(crate) threads: Option<usize>,
}

impl Counts {
    pub(crate) fn now() -> Self {
        let descriptors = ["/proc/self/fd", "/dev/fd"].iter().find_map(|directory| fs::read_dir(directory).ok());
        Self {
            tasks: Handle::current().metrics().num_alive_tasks(),
            descriptors: descriptors.expect("the system lists open descriptors").count(),
            threads: threads(),
        }
    }

    pub(crate) fn min(self, other: Self) -> Self {
        Self {
            tasks: self.tasks.min(other.tasks),
            descriptors: self.descriptors.min(other.descriptors),
            threads: self.threads.min(other.threads),
        }
    }
}

/// Without those of the tests, which come and go.
fn threads() -> Option<usize> {
    let names = fs::read_dir("/proc/self/task").ok()?.filter_map(|thread| {
        // One that has ended meanwhile has no name.
        fs::read_to_string(thread.ok()?.path().join("comm")).ok()
    });
    Some(names.filter(|name| ["tokio-rt", "idempotency"].iter().any(|start| name.starts_with(start))).count())
}

/// What is allocated and not yet freed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) bytes: i64,
    pub(crate) blocks: i64,
}

impl Memory {
    pub(crate) fn now() -> Self {
        let stats = INSTRUMENTED_SYSTEM.stats();
        let difference = |more: usize, less: usize| more as i64 - less as i64;
        Self {
            bytes: difference(stats.bytes_allocated, stats.bytes_deallocated),
            blocks: difference(stats.allocations, stats.deallocations),
        }
    }
}

/// Memory of the process as the system sees it, in KiB: to be read beside what is allocated, which an allocator may
/// give back late.
pub(crate) fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().trim_end_matches(" kB").parse().ok()
}
