//! [`Slab`]: values under indices that stay theirs.

use std::ops::{Index, IndexMut, Range};

/// Values in few allocations. A value keeps its index until it is removed; the room of a removed value is used again.
///
/// They lie in chunks, so that growing moves no more than one chunk.
#[derive(Debug)]
pub(super) struct Slab<T> {
    /// All but the last one are full.
    chunks: Vec<Vec<Place<T>>>,
    first_vacant: Option<u32>,
    occupied: usize,
    places: u32,
}

/// Places of a chunk.
pub(super) const CHUNK: u32 = 1024;

#[derive(Debug)]
enum Place<T> {
    Vacant { next: Option<u32> },
    Occupied(T),
}

impl<T> Slab<T> {
    #[cfg(all(test, not(idempotency_loom)))]
    pub(super) const PLACE_SIZE: usize = size_of::<Place<T>>();

    pub(super) const fn new() -> Self {
        Self { chunks: Vec::new(), first_vacant: None, occupied: 0, places: 0 }
    }

    /// Number of values.
    pub(super) const fn len(&self) -> usize {
        self.occupied
    }

    /// Number of places, vacant ones included: every index is below it.
    pub(super) const fn places(&self) -> u32 {
        self.places
    }

    pub(super) fn get(&self, at: u32) -> Option<&T> {
        match self.chunks.get((at / CHUNK) as usize)?.get((at % CHUNK) as usize)? {
            Place::Occupied(value) => Some(value),
            Place::Vacant { .. } => None,
        }
    }

    /// The index of the first value in `range`, which lies in one chunk, for which `wanted` is true.
    pub(super) fn find(&self, range: Range<u32>, wanted: impl Fn(&T) -> bool) -> Option<u32> {
        let chunk = self.chunks.get((range.start / CHUNK) as usize)?;
        let places = chunk.iter().skip((range.start % CHUNK) as usize);
        range.zip(places).find(|(_, place)| matches!(place, Place::Occupied(value) if wanted(value))).map(|(at, _)| at)
    }

    fn place(&mut self, at: u32) -> Option<&mut Place<T>> {
        self.chunks.get_mut((at / CHUNK) as usize)?.get_mut((at % CHUNK) as usize)
    }

    pub(super) fn insert(&mut self, value: T) -> u32 {
        self.occupied += 1;
        match self.first_vacant {
            Some(at) => {
                self.fill(at, value);
                at
            }
            None => self.push(value),
        }
    }

    fn fill(&mut self, at: u32, value: T) {
        if let Some(place) = self.place(at)
            && let Place::Vacant { next } = *place
        {
            *place = Place::Occupied(value);
            self.first_vacant = next;
        }
    }

    fn push(&mut self, value: T) -> u32 {
        let at = self.places;
        if at.is_multiple_of(CHUNK) {
            self.chunks.push(Vec::new());
        }
        self.chunks.last_mut().expect("the first value of a chunk makes it").push(Place::Occupied(value));
        self.places += 1;
        at
    }

    /// Takes the value at `at` out. `None` when the place is vacant.
    pub(super) fn remove(&mut self, at: u32) -> Option<T> {
        let vacant = Place::Vacant { next: self.first_vacant };
        let place = self.place(at).filter(|place| matches!(place, Place::Occupied(_)))?;
        let Place::Occupied(value) = std::mem::replace(place, vacant) else { return None };
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
        match self.place(at) {
            Some(Place::Occupied(value)) => value,
            _ => panic!("{VACANT}"),
        }
    }
}
