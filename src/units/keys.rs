//! Keys that survive lateness: a slot in a table and the generation that lived there when the key was made.
//!
//! An answer about a closed peer finds another generation, or none, and is a no-op. Tables iterate in
//! slot order, so that a run is the same every time.

use slab::Slab;
use std::marker::PhantomData;

/// What a [`SlotMap`] needs of its key.
pub trait Key: Copy {
    /// A key from its two halves.
    fn from_parts(slot: u32, generation: u32) -> Self;
    /// The two halves: slot and generation.
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
            /// The slot alone: small, dense, reused; an index for tables that stand beside the engine's.
            pub const fn slot(self) -> usize {
                self.slot as usize
            }
        }
    };
}

key!(
    /// Names one connection, from its dial or accept to its loss.
    PeerKey
);
key!(
    /// Names one torrent, from its adding to its removal.
    TorrentKey
);

/// A slab whose keys carry a generation.
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
    /// The key that the next [`insert`](SlotMap::insert) will return.
    pub fn next_key(&self) -> K {
        K::from_parts(self.slots.vacant_key() as u32, self.generation.wrapping_add(1))
    }

    /// Puts `value` into a free slot under a key that no earlier value had.
    pub fn insert(&mut self, value: T) -> K {
        self.generation = self.generation.wrapping_add(1);
        let slot = self.slots.insert((self.generation, value));
        K::from_parts(slot as u32, self.generation)
    }

    /// The value, unless it is gone.
    pub fn get(&self, key: K) -> Option<&T> {
        let (slot, generation) = key.parts();
        self.slots.get(slot as usize).filter(|(g, _)| *g == generation).map(|(_, v)| v)
    }

    /// The value, unless it is gone.
    pub fn get_mut(&mut self, key: K) -> Option<&mut T> {
        let (slot, generation) = key.parts();
        self.slots.get_mut(slot as usize).filter(|(g, _)| *g == generation).map(|(_, v)| v)
    }

    /// Takes the value out, unless it is gone already.
    pub fn remove(&mut self, key: K) -> Option<T> {
        self.get(key)?;
        self.slots.try_remove(key.parts().0 as usize).map(|(_, v)| v)
    }

    /// Values in the table.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether the table holds nothing.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Every key and value, in slot order.
    pub fn iter(&self) -> impl Iterator<Item = (K, &T)> {
        self.slots.iter().map(|(slot, (g, v))| (K::from_parts(slot as u32, *g), v))
    }

    /// Every key and value, in slot order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (K, &mut T)> {
        self.slots.iter_mut().map(|(slot, (g, v))| (K::from_parts(slot as u32, *g), v))
    }

    /// Every key, in slot order.
    pub fn keys(&self) -> impl Iterator<Item = K> + '_ {
        self.iter().map(|(k, _)| k)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_key_does_not_find_the_slots_new_tenant() {
        let mut t: SlotMap<PeerKey, &str> = SlotMap::default();
        let foreseen = t.next_key();
        let old = t.insert("old");
        assert_eq!(foreseen, old);
        assert_eq!(t.remove(old), Some("old"));
        let new = t.insert("new");
        assert_eq!(old.slot(), new.slot());
        assert_eq!(t.get(old), None);
        assert_eq!(t.remove(old), None);
        assert_eq!(t.get(new), Some(&"new"));
    }
}
