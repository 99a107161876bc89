//! The RC4 keystream of an encrypted connection (MSE).
//!
//! One value serves one direction. A copy of it is a snapshot: a write that the socket took in part goes back to
//! the snapshot and advances by the bytes that left. RC4 hides the protocol from filters; it is no secrecy,
//! since the key follows from the info hash and the exchanged numbers.

use std::fmt;

/// Bytes of a keystream that are dropped before the first one is used.
const DROPPED: usize = 1_024;

/// The state of one keystream, 514 bytes. Each entry has a byte's value; in a word it is read and written in half the
/// time.
#[derive(Clone)]
pub struct Rc4 {
    table: [u16; 256],
    i: u8,
    j: u8,
}

impl Rc4 {
    /// Returns the keystream of `key`, 1,024 bytes behind its start.
    pub fn new(key: &[u8; 20]) -> Rc4 {
        let mut cipher = Rc4::at_start(key);
        cipher.advance(DROPPED);
        cipher
    }

    /// Returns the keystream of `key` from its first byte. An empty key leaves the table as it is.
    fn at_start(key: &[u8]) -> Rc4 {
        let mut table = [0; 256];
        table.iter_mut().zip(0..).for_each(|(entry, value)| *entry = value);
        let mut j = 0_u8;
        for (i, byte) in (0..=u8::MAX).zip(key.iter().cycle()) {
            j = j.wrapping_add(entry(&table, i)).wrapping_add(*byte);
            table.swap(usize::from(i), usize::from(j));
        }
        Rc4 { table, i: 0, j: 0 }
    }

    /// Gives a byte of the keystream to each item. The entry of the next byte is read before this one's are
    /// exchanged, so that its address does not wait for them.
    #[inline]
    fn for_each<T>(&mut self, items: impl Iterator<Item = T>, mut give: impl FnMut(T, u8)) {
        let table = &mut self.table;
        let (mut i, mut j) = (self.i.wrapping_add(1), self.j);
        let mut x = entry(table, i);
        for item in items {
            j = j.wrapping_add(x);
            let y = entry(table, j);
            let after = i.wrapping_add(1);
            let ahead = entry(table, after);
            set(table, i, y);
            set(table, j, x);
            give(item, entry(table, x.wrapping_add(y)));
            x = if j == after { x } else { ahead };
            i = after;
        }
        (self.i, self.j) = (i.wrapping_sub(1), j);
    }

    /// Encrypts or decrypts `bytes` in place.
    pub fn apply(&mut self, bytes: &mut [u8]) {
        self.for_each(bytes.iter_mut(), |byte, key| *byte ^= key);
    }

    /// Encrypts or decrypts `from` into `to`, in one walk; the shorter of the two limits it.
    pub fn apply_to(&mut self, from: &[u8], to: &mut [u8]) {
        self.for_each(to.iter_mut().zip(from), |(to, byte), key| *to = byte ^ key);
    }

    /// Skips `len` bytes of the keystream.
    pub fn advance(&mut self, len: usize) {
        self.for_each(0..len, |_, _| {});
    }
}

impl fmt::Debug for Rc4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rc4").finish_non_exhaustive()
    }
}

#[inline]
#[expect(clippy::indexing_slicing, reason = "a table of 256 entries has one for each u8")]
fn entry(table: &[u16; 256], at: u8) -> u8 {
    let [_, value] = table[usize::from(at)].to_be_bytes();
    value
}

#[inline]
#[expect(clippy::indexing_slicing, reason = "a table of 256 entries has one for each u8")]
fn set(table: &mut [u16; 256], at: u8, value: u8) {
    table[usize::from(at)] = value.into();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keystream_is_that_of_rfc_6229() {
        let mut cipher = Rc4::at_start(&[1, 2, 3, 4, 5]);
        let mut bytes = [0; 1_040];
        cipher.apply(&mut bytes);
        let start = 0xb239_6305_f03d_c027_ccc3_524a_0a11_18a8_u128;
        let behind = 0x30ab_bcc7_c20b_0160_9f23_ee2d_5f6b_b7df_u128;
        assert_eq!(bytes[..16], start.to_be_bytes());
        assert_eq!(bytes[1_024..], behind.to_be_bytes());
    }

    #[test]
    fn a_snapshot_advanced_by_the_bytes_that_left_goes_on_with_the_same_keystream() {
        let mut whole = Rc4::new(&[7; 20]);
        let snapshot = whole.clone();
        let mut expected = [0; 300];
        whole.apply(&mut expected);
        for left in [0, 1, 17, 255, 256, 299] {
            let mut cipher = snapshot.clone();
            cipher.advance(left);
            let mut rest = [0; 300];
            cipher.apply(&mut rest[left..]);
            assert_eq!(rest[left..], expected[left..], "{left}");
        }
    }

    #[test]
    fn what_one_side_encrypts_the_other_decrypts_into_its_target() {
        let mut bytes = *b"nineteen bytes long";
        Rc4::new(&[9; 20]).apply(&mut bytes);
        let mut target = [0; 19];
        Rc4::new(&[9; 20]).apply_to(&bytes, &mut target);
        assert_ne!(&bytes, b"nineteen bytes long");
        assert_eq!(&target, b"nineteen bytes long");
    }
}
