//! A recorder of gauges alone: histograms and counters would keep what they are told.

use std::{
    collections::HashMap,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

/// The gauges of this process.
pub(crate) static GAUGES: LazyLock<Gauges> = LazyLock::new(|| {
    let gauges = Gauges::default();
    metrics::set_global_recorder(gauges.clone()).expect("there is no other recorder");
    gauges
});

#[derive(Debug, Clone, Default)]
pub(crate) struct Gauges(Arc<Mutex<HashMap<Key, Arc<AtomicU64>>>>);

impl Gauges {
    /// The gauges that are not zero.
    pub(crate) fn raised(&self) -> Vec<String> {
        let gauges = self.0.lock().unwrap();
        let raised = gauges.iter().filter(|(_, value)| f64::from_bits(value.load(Ordering::SeqCst)) != 0.0);
        raised.map(|(key, _)| key.to_string()).collect()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl Recorder for Gauges {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let mut gauges = self.0.lock().unwrap();
        if !gauges.contains_key(key) {
            gauges.insert(key.clone(), Arc::default());
        }
        Gauge::from_arc(Arc::clone(&gauges[key]))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}
