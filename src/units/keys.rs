//! Slot map with generational keys: a key is a slot and the generation of its value.
//!
//! A late reply about a closed peer has a key of an older generation, finds no value and is ignored.
//! Iteration is in slot order, so runs are reproducible.

use slab::Slab;
use std::marker::PhantomData;

/// A key of a [`SlotMap`].
pub trait Key: Copy {
    /// Returns the key of a slot and a generation.
    fn from_parts(slot: u32, generation: u32) -> Self;
    /// Returns slot and generation.
    fn parts(self) -> (u32, u32);
}

macro_rules! key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name {
            slot: u32,
            generation: u32,
        }

        impl Key for $name {
            fn from_parts(slot: u32, generation: u32) -> $name {
                $name { slot, generation }
            }

            fn parts(self) -> (u32, u32) {
                (self.slot, self.generation)
            }
        }

        impl $name {
            /// Returns the slot: a small index that is reused, for tables beside the engine's.
            pub const fn slot(self) -> usize {
                self.slot as usize
            }
        }
    };
}

key!(
    /// Key of a connection, from its dial or accept to its end.
    PeerKey
);
key!(
    /// Key of a torrent, from its addition to its removal.
    TorrentKey
);
key!(
    /// Key of a uTP stream, from its dial or SYN to its end.
    UtpKey
);

/// A slab whose keys contain a generation.
#[derive(Debug)]
pub struct SlotMap<K, T> {
    slots: Slab<(u32, T)>,
    generation: u32,
    key: PhantomData<K>,
}

impl<K: Key, T> Default for SlotMap<K, T> {
    fn default() -> Self {
        SlotMap { slots: Slab::new(), generation: 0, key: PhantomData }
    }
}

impl<K: Key, T> SlotMap<K, T> {
    /// Returns the key that the next [`insert`](SlotMap::insert) will return.
    pub fn next_key(&self) -> K {
        K::from_parts(self.slots.vacant_key() as u32, self.generation.wrapping_add(1))
    }

    /// Inserts a value. Returns a key that no earlier value had.
    pub fn insert(&mut self, value: T) -> K {
        self.generation = self.generation.wrapping_add(1);
        let slot = self.slots.insert((self.generation, value));
        K::from_parts(slot as u32, self.generation)
    }

    /// Returns the value; `None` if it was removed.
    pub fn get(&self, key: K) -> Option<&T> {
        let (slot, generation) = key.parts();
        self.slots.get(slot as usize).filter(|(g, _)| *g == generation).map(|(_, v)| v)
    }

    /// Returns the value; `None` if it was removed.
    pub fn get_mut(&mut self, key: K) -> Option<&mut T> {
        let (slot, generation) = key.parts();
        self.slots.get_mut(slot as usize).filter(|(g, _)| *g == generation).map(|(_, v)| v)
    }

    /// Removes and returns the value; `None` if it was removed before.
    pub fn remove(&mut self, key: K) -> Option<T> {
        self.get(key)?;
        self.slots.try_remove(key.parts().0 as usize).map(|(_, v)| v)
    }

    /// Returns the number of values.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Returns whether the map is empty.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Iterates over keys and values in slot order.
    pub fn iter(&self) -> impl Iterator<Item = (K, &T)> {
        self.slots.iter().map(|(slot, (g, v))| (K::from_parts(slot as u32, *g), v))
    }

    /// Iterates over keys and values in slot order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (K, &mut T)> {
        self.slots.iter_mut().map(|(slot, (g, v))| (K::from_parts(slot as u32, *g), v))
    }

    /// Iterates over the keys in slot order.
    pub fn keys(&self) -> impl Iterator<Item = K> + '_ {
        self.iter().map(|(k, _)| k)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_a_removed_value_does_not_find_the_slots_new_value() {
        let mut t: SlotMap<PeerKey, &str> = SlotMap::default();
        let next = t.next_key();
        let old = t.insert("old");
        assert_eq!(next, old);
        assert_eq!(t.remove(old), Some("old"));
        let new = t.insert("new");
        assert_eq!(old.slot(), new.slot());
        assert_eq!(t.get(old), None);
        assert_eq!(t.remove(old), None);
        assert_eq!(t.get(new), Some(&"new"));
    }
}
