//! An ordered map that is cheap to clone and cheap to change after it was cloned.
//!
//! ```text
//!   Arc ─▶ [ Arc ─▶ [(a, ..), (b, ..), (c, ..)],        chunks of at most CHUNK_LENGTH_MAX entries,
//!            Arc ─▶ [(d, ..), (e, ..)], .. ]            in order, none of them empty
//! ```
//!
//! An image of ten thousand topics is published after every change. With one `Arc<BTreeMap>` the next change would copy
//! ten thousand entries; here it copies the list of chunks and one chunk.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Large enough that the list of chunks stays short, small enough to copy.
const CHUNK_LENGTH_MAX: usize = 128;

type Chunk<K, V> = Arc<Vec<(K, V)>>;

/// See the module.
#[derive(Clone)]
pub(super) struct ChunkedMap<K, V> {
    chunks: Arc<Vec<Chunk<K, V>>>,
    length: usize,
}

impl<K: Ord + Clone, V: Clone> ChunkedMap<K, V> {
    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let (chunk, index) = self.find(key)?;
        Some(&self.chunks[chunk][index].1)
    }

    pub(super) fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let (chunk, index) = self.find(key)?;
        let chunk = &mut Arc::make_mut(&mut self.chunks)[chunk];
        Some(&mut Arc::make_mut(chunk)[index].1)
    }

    /// Returns what the key had before.
    pub(super) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let place = self.chunk_for(&key);
        let chunks = Arc::make_mut(&mut self.chunks);
        if chunks.is_empty() {
            chunks.push(Arc::new(vec![(key, value)]));
            self.length = 1;
            return None;
        }
        let chunk = Arc::make_mut(&mut chunks[place]);
        match chunk.binary_search_by(|(known, _)| known.cmp(&key)) {
            Ok(index) => Some(std::mem::replace(&mut chunk[index].1, value)),
            Err(index) => {
                chunk.insert(index, (key, value));
                self.length += 1;
                if chunk.len() > CHUNK_LENGTH_MAX {
                    let upper = chunk.split_off(chunk.len() / 2);
                    chunks.insert(place + 1, Arc::new(upper));
                }
                None
            }
        }
    }

    pub(super) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (place, index) = self.find(key)?;
        let chunks = Arc::make_mut(&mut self.chunks);
        let (_, value) = Arc::make_mut(&mut chunks[place]).remove(index);
        if chunks[place].is_empty() {
            chunks.remove(place);
        }
        self.length -= 1;
        Some(value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.chunks.iter().flat_map(|chunk| chunk.iter().map(|(key, value)| (key, value)))
    }

    /// From the first key on that is not less than `from`.
    pub(super) fn iter_from<'a, Q: Ord + ?Sized>(&'a self, from: &Q) -> impl Iterator<Item = (&'a K, &'a V)>
    where
        K: Borrow<Q>,
    {
        let place = self.chunk_for(from);
        let chunk = self.chunks.get(place).map_or(&[][..], |chunk| chunk.as_slice());
        let index = chunk.partition_point(|(key, _)| key.borrow() < from);
        let later = self.chunks.iter().skip(place + 1).flat_map(|chunk| chunk.iter());
        chunk[index..].iter().chain(later).map(|(key, value)| (key, value))
    }

    /// The chunk that has the key, or would get it: the last that does not begin behind it.
    fn chunk_for<Q: Ord + ?Sized>(&self, key: &Q) -> usize
    where
        K: Borrow<Q>,
    {
        self.chunks.partition_point(|chunk| chunk[0].0.borrow() <= key).saturating_sub(1)
    }

    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Option<(usize, usize)>
    where
        K: Borrow<Q>,
    {
        let place = self.chunk_for(key);
        let index = self.chunks.get(place)?.binary_search_by(|(known, _)| known.borrow().cmp(key)).ok()?;
        Some((place, index))
    }
}

impl<K, V> Default for ChunkedMap<K, V> {
    fn default() -> ChunkedMap<K, V> {
        ChunkedMap { chunks: Arc::default(), length: 0 }
    }
}

/// What is in it counts, not how it is cut.
impl<K: Ord + Clone, V: Clone + PartialEq> PartialEq for ChunkedMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.chunks, &other.chunks) || (self.length == other.length && self.iter().eq(other.iter()))
    }
}

impl<K: Ord + Clone, V: Clone + Eq> Eq for ChunkedMap<K, V> {}

impl<K: Ord + Clone + Hash, V: Clone + Hash> Hash for ChunkedMap<K, V> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.length.hash(state);
        self.iter().for_each(|entry| entry.hash(state));
    }
}

impl<K: Ord + Clone + fmt::Debug, V: Clone + fmt::Debug> fmt::Debug for ChunkedMap<K, V> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::hash::DefaultHasher;

    use proptest::prelude::*;

    use super::*;

    fn check(map: &ChunkedMap<u16, u16>, model: &BTreeMap<u16, u16>) -> Result<(), TestCaseError> {
        prop_assert!(map.iter().eq(model.iter()));
        prop_assert_eq!(map.len(), model.len());
        prop_assert!(map.chunks.iter().all(|chunk| (1..=CHUNK_LENGTH_MAX).contains(&chunk.len())));
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn it_is_a_map(steps in prop::collection::vec((0u8..4, 0u16..600, any::<u16>()), 0..2000), from in 0u16..700) {
            let mut map = ChunkedMap::default();
            let mut model = BTreeMap::new();
            for (kind, key, value) in steps {
                match kind {
                    0 | 1 => prop_assert_eq!(map.insert(key, value), model.insert(key, value)),
                    2 => prop_assert_eq!(map.remove(&key), model.remove(&key)),
                    _ => prop_assert_eq!(map.get_mut(&key), model.get_mut(&key)),
                }
                prop_assert_eq!(map.get(&key), model.get(&key));
            }
            check(&map, &model)?;
            prop_assert!(map.iter_from(&from).eq(model.range(from..)));
        }

        #[test]
        fn a_clone_keeps_what_it_had(first in prop::collection::vec(0u16..600, 0..600), then in prop::collection::vec(0u16..600, 1..50)) {
            let mut map: ChunkedMap<u16, u16> = ChunkedMap::default();
            let mut model = BTreeMap::new();
            for key in first {
                map.insert(key, key);
                model.insert(key, key);
            }
            let clone = map.clone();
            for key in then {
                if map.remove(&key).is_none() {
                    map.insert(key, 0);
                }
            }
            check(&clone, &model)?;
        }
    }

    #[test]
    fn how_it_came_about_makes_no_difference() {
        let mut rising = ChunkedMap::default();
        (0..1000).for_each(|key| assert_eq!(rising.insert(key, key), None));
        let mut falling = ChunkedMap::default();
        (0..1000).rev().for_each(|key| assert_eq!(falling.insert(key, key), None));
        let hash = |map: &ChunkedMap<i32, i32>| {
            let mut hasher = DefaultHasher::new();
            map.hash(&mut hasher);
            hasher.finish()
        };
        assert_eq!((&rising, hash(&rising)), (&falling, hash(&falling)));
        falling.remove(&7);
        assert_ne!(rising, falling);
        assert_ne!(rising, ChunkedMap::default());
    }
}
