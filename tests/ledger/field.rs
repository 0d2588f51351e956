//! The place of the blows: one aim at a time, and what it meets first is struck.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use tokio::sync::Notify;

use crate::step::{Aim, Blow, Point};

#[derive(Debug, Default)]
pub(crate) struct Field {
    aim: Mutex<Option<Aim>>,
    struck: Notify,
    blows: Mutex<BTreeMap<Aim, usize>>,
}

impl Field {
    /// Takes aim, and waits until the blow has fallen.
    pub(crate) async fn strike(&self, aim: Aim) {
        *lock(&self.aim) = Some(aim);
        self.struck.notified().await;
        *lock(&self.blows).entry(aim).or_default() += 1;
    }

    /// The blow that falls here, if one is aimed at `point`. Whoever gets it deals it, and says so.
    pub(crate) fn blow_at(&self, point: Point) -> Option<Blow> {
        lock(&self.aim).take_if(|aim| aim.point == point).map(|aim| aim.blow)
    }

    pub(crate) fn has_fallen(&self) {
        self.struck.notify_one();
    }

    /// How often each blow has fallen.
    pub(crate) fn blows(&self) -> BTreeMap<Aim, usize> {
        lock(&self.blows).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}
