//! What a run, or many, have come to.

use std::{collections::BTreeMap, fmt, time::Duration};

use crate::{
    checker::{Reason, Verdict, Wrong},
    fault::{Fault, Kind},
    injector::Hits,
    plan::AIMS,
};

#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) runs: u64,
    /// Of the injection of faults alone, and with starting, settling and checking.
    pub(crate) under_faults: Duration,
    pub(crate) in_all: Duration,
    pub(crate) requests: u64,
    pub(crate) keys: u64,
    pub(crate) executions: u64,
    pub(crate) statuses: BTreeMap<u16, u64>,
    pub(crate) unstored: u64,
    pub(crate) faults: BTreeMap<Kind, u64>,
    pub(crate) client_faults: [u64; 5],
    pub(crate) hits: Hits,
    pub(crate) extra: BTreeMap<Reason, u64>,
    pub(crate) wrong: BTreeMap<Wrong, u64>,
    pub(crate) examples: Vec<String>,
}

impl Report {
    pub(crate) fn count_faults(&mut self, faults: &[Fault]) {
        for fault in faults {
            *self.faults.entry(fault.kind).or_default() += 1;
        }
    }

    pub(crate) fn conclude(&mut self, verdict: Verdict) {
        (self.extra, self.wrong, self.examples) = (verdict.extra, verdict.wrong, verdict.examples);
    }

    /// Adds what another run has come to.
    pub(crate) fn add(&mut self, other: Self) {
        self.runs += other.runs;
        self.under_faults += other.under_faults;
        self.in_all += other.in_all;
        self.requests += other.requests;
        self.keys += other.keys;
        self.executions += other.executions;
        self.unstored += other.unstored;
        add_all(&mut self.statuses, other.statuses);
        add_all(&mut self.faults, other.faults);
        add_all(&mut self.extra, other.extra);
        add_all(&mut self.wrong, other.wrong);
        add_each(&mut self.client_faults, other.client_faults);
        add_each(&mut self.hits.applications, other.hits.applications);
        add_each(&mut self.hits.stores, other.hits.stores);
        self.examples.extend(other.examples);
    }

    pub(crate) fn wrong(&self, wrong: Wrong) -> u64 {
        self.wrong.get(&wrong).copied().unwrap_or_default()
    }

    /// Executions that nothing explains.
    pub(crate) fn unexplained(&self) -> u64 {
        use Wrong::{AfterTheRecord, TooEarly, TwoUnderOneClaim, Unexplained};
        [Unexplained, TooEarly, TwoUnderOneClaim, AfterTheRecord].map(|wrong| self.wrong(wrong)).iter().sum()
    }

    pub(crate) fn is_fine(&self) -> bool {
        self.wrong.is_empty()
    }

    fn faults_of(&self, kinds: &[Kind]) -> u64 {
        kinds.iter().filter_map(|kind| self.faults.get(kind)).sum()
    }
}

fn add_all<K: Ord>(to: &mut BTreeMap<K, u64>, from: BTreeMap<K, u64>) {
    for (key, count) in from {
        *to.entry(key).or_default() += count;
    }
}

fn add_each<const N: usize>(to: &mut [u64; N], from: [u64; N]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use Kind::{Cut, Delayed, ServerKilled, ServerStalled, Silenced, Slow, Starved, StoreKilled, StoreStalled};
        let count = |kind| self.faults_of(&[kind]);
        let aims = |hits: [u64; AIMS.len()]| {
            AIMS.iter().zip(hits).map(|((aim, _), hits)| format!("{aim} {hits}")).collect::<Vec<_>>().join(", ")
        };
        let [lost_requests, disconnects, lost_replies, delays, duplicates] = self.client_faults;
        let seconds = |length: Duration| length.as_secs();
        writeln!(
            f,
            "runs                    {}: {} s under faults, {} s in all",
            self.runs,
            seconds(self.under_faults),
            seconds(self.in_all)
        )?;
        writeln!(f, "requests                {}, of {} keys; by status {:?}", self.requests, self.keys, self.statuses)?;
        writeln!(f, "  not on record         {}, as they said", self.unstored)?;
        writeln!(f, "executions              {}", self.executions)?;
        writeln!(
            f,
            "servers                 {} killed, {} stalled: {}",
            count(ServerKilled),
            count(ServerStalled),
            aims(self.hits.applications)
        )?;
        writeln!(
            f,
            "stores                  {} killed, {} stalled: {}",
            count(StoreKilled),
            count(StoreStalled),
            aims(self.hits.stores)
        )?;
        writeln!(
            f,
            "to the store            {} cut, {} silenced, {} delayed",
            count(Cut),
            count(Silenced),
            count(Delayed)
        )?;
        writeln!(
            f,
            "from clients            {lost_requests} requests lost, {disconnects} cut during the run, {lost_replies} \
             replies lost, {delays} delayed, {duplicates} duplicated"
        )?;
        writeln!(f, "of the machine itself   {} processes starved, {} commands slow", count(Starved), count(Slow))?;
        let extra: Vec<_> = self.extra.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        writeln!(f, "extra executions        {}: {}", self.extra.values().sum::<u64>(), extra.join(", "))?;
        writeln!(f, "  unexplained           {}", self.unexplained())?;
        writeln!(
            f,
            "differing answers       {}",
            self.wrong(Wrong::DifferentAnswers) + self.wrong(Wrong::ForeignAnswer)
        )?;
        writeln!(f, "stuck keys              {}", self.wrong(Wrong::Stuck))?;
        self.examples.iter().try_for_each(|example| writeln!(f, "{example}"))
    }
}
