//! [`Slab`]: values in one allocation, under indices that stay theirs.

use std::ops::{Index, IndexMut};

/// Values in one allocation. A value keeps its index until it is removed; the room of a removed value is used again.
#[derive(Debug)]
pub(super) struct Slab<T> {
    places: Vec<Place<T>>,
    first_vacant: Option<u32>,
    occupied: usize,
}

#[derive(Debug)]
enum Place<T> {
    Vacant { next: Option<u32> },
    Occupied(T),
}

impl<T> Slab<T> {
    #[cfg(all(test, not(idempotency_loom)))]
    pub(super) const PLACE_SIZE: usize = size_of::<Place<T>>();

    pub(super) const fn new() -> Self {
        Self { places: Vec::new(), first_vacant: None, occupied: 0 }
    }

    /// Number of values.
    pub(super) const fn len(&self) -> usize {
        self.occupied
    }

    /// Number of places, vacant ones included: every index is below it.
    pub(super) fn places(&self) -> u32 {
        u32::try_from(self.places.len()).expect("`insert` makes no place that a u32 cannot name")
    }

    pub(super) fn get(&self, at: u32) -> Option<&T> {
        match self.places.get(at as usize)? {
            Place::Occupied(value) => Some(value),
            Place::Vacant { .. } => None,
        }
    }

    pub(super) fn insert(&mut self, value: T) -> u32 {
        let at = self.first_vacant.unwrap_or_else(|| self.places());
        let value = Place::Occupied(value);
        match self.places.get_mut(at as usize) {
            Some(place) => {
                if let Place::Vacant { next } = std::mem::replace(place, value) {
                    self.first_vacant = next;
                }
            }
            None => self.places.push(value),
        }
        self.occupied += 1;
        at
    }

    /// Takes the value at `at` out. `None` when the place is vacant.
    pub(super) fn remove(&mut self, at: u32) -> Option<T> {
        let place = self.places.get_mut(at as usize)?;
        if matches!(place, Place::Vacant { .. }) {
            return None;
        }
        let Place::Occupied(value) = std::mem::replace(place, Place::Vacant { next: self.first_vacant }) else {
            return None;
        };
        self.first_vacant = Some(at);
        self.occupied -= 1;
        Some(value)
    }
}

const VACANT: &str = "an index is forgotten when its value is removed";

impl<T> Index<u32> for Slab<T> {
    type Output = T;

    fn index(&self, at: u32) -> &T {
        self.get(at).expect(VACANT)
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, at: u32) -> &mut T {
        match self.places.get_mut(at as usize) {
            Some(Place::Occupied(value)) => value,
            _ => panic!("{VACANT}"),
        }
    }
}
