//! The key exchange of an encrypted connection (MSE): powers modulo a prime of 768 bits.
//!
//! Numbers are twelve 64-bit limbs, the least first; on the wire 96 bytes, big endian, padded with zeros at the
//! front. Products are Montgomery products, without an allocation. The time depends on the exponent: it serves one
//! connection or a few, and the aim is a stream that filters do not recognize, not secrecy.

#![cfg_attr(
    not(test),
    expect(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "indices are below the length; a product and two more limbs fit in 128 bits"
    )
)]

/// Bytes of a public key and of a shared secret.
pub const KEY_LEN: usize = 96;

/// Bytes of an exponent: 160 random bits.
pub const EXPONENT_LEN: usize = 20;

const LIMBS: usize = 12;
type Number = [u64; LIMBS];

/// The prime, the least limb first.
const PRIME: Number = [
    0x0000_0000_0009_0563,
    0xf44c_42e9_a63a_3621,
    0xe485_b576_625e_7ec6,
    0x4fe1_356d_6d51_c245,
    0x302b_0a6d_f25f_1437,
    0xef95_19b3_cd3a_431b,
    0x514a_0879_8e34_04dd,
    0x020b_bea6_3b13_9b22,
    0x2902_4e08_8a67_cc74,
    0xc4c6_628b_80dc_1cd1,
    0xc90f_daa2_2168_c234,
    0xffff_ffff_ffff_ffff,
];

/// −1 / PRIME modulo 2^64.
const NEGATIVE_INVERSE: u64 = 0x6d5d_6e69_9507_5bb5;

/// 2^768 modulo the prime: the number 1 in Montgomery form.
const ONE: Number = subtract_prime(&[0; LIMBS]);

/// 2^1536 modulo the prime: its product with a number is the number's Montgomery form.
const RADIX_SQUARED: Number = doubled(&ONE, 768);

/// Returns the public key of `exponent`: 2 to that power.
pub fn public_key(exponent: &[u8; EXPONENT_LEN]) -> [u8; KEY_LEN] {
    let mut power = ONE;
    for byte in exponent {
        for bit in (0..8).rev() {
            power = product(&power, &power);
            if byte >> bit & 1 == 1 {
                power = doubled(&power, 1);
            }
        }
    }
    to_bytes(&from_montgomery(&power))
}

/// Returns the secret shared with the owner of the public key `theirs`, or `None` if the key is below 2 or above
/// the prime minus 2: its powers would be 0, 1 or −1 whatever the exponent.
pub fn shared_secret(exponent: &[u8; EXPONENT_LEN], theirs: &[u8; KEY_LEN]) -> Option<[u8; KEY_LEN]> {
    let base = from_bytes(theirs);
    let mut largest = PRIME;
    largest[0] -= 1;
    let is_below_two = base[0] < 2 && base[1..].iter().all(|limb| *limb == 0);
    if is_below_two || !is_less(&base, &largest) {
        return None;
    }
    let base = product(&base, &RADIX_SQUARED);
    let mut powers = [ONE; 16];
    for i in 1..powers.len() {
        powers[i] = product(&powers[i - 1], &base);
    }
    let mut power = ONE;
    for digit in exponent.iter().flat_map(|byte| [byte >> 4, byte & 15]) {
        for _ in 0..4 {
            power = product(&power, &power);
        }
        power = product(&power, &powers[usize::from(digit)]);
    }
    Some(to_bytes(&from_montgomery(&power)))
}

fn from_montgomery(number: &Number) -> Number {
    let mut one = [0; LIMBS];
    one[0] = 1;
    product(number, &one)
}

/// Returns `a * b / 2^768` modulo the prime (CIOS).
fn product(a: &Number, b: &Number) -> Number {
    let mut sum = [0_u64; LIMBS];
    let mut top = 0_u64;
    for limb in b {
        let mut carry = 0;
        for (to, factor) in sum.iter_mut().zip(a) {
            (*to, carry) = multiply_add(*factor, *limb, *to, carry);
        }
        let (high, over) = top.overflowing_add(carry);
        let m = sum[0].wrapping_mul(NEGATIVE_INVERSE);
        let (_, mut carry) = multiply_add(m, PRIME[0], sum[0], 0);
        for i in 1..LIMBS {
            (sum[i - 1], carry) = multiply_add(m, PRIME[i], sum[i], carry);
        }
        let (last, again) = high.overflowing_add(carry);
        sum[LIMBS - 1] = last;
        top = u64::from(over) + u64::from(again);
    }
    if top != 0 || !is_less(&sum, &PRIME) { subtract_prime(&sum) } else { sum }
}

/// Returns the low and the high half of `a * b + c + d`.
fn multiply_add(a: u64, b: u64, c: u64, d: u64) -> (u64, u64) {
    let all = u128::from(a) * u128::from(b) + u128::from(c) + u128::from(d);
    (all as u64, (all >> 64) as u64)
}

/// Returns `number`, less than the prime, doubled `times` times modulo the prime.
const fn doubled(number: &Number, times: u32) -> Number {
    let mut out = *number;
    let mut done = 0;
    while done < times {
        let mut top = 0;
        let mut i = 0;
        while i < LIMBS {
            let limb = out[i];
            out[i] = limb << 1 | top;
            top = limb >> 63;
            i += 1;
        }
        if top != 0 || !is_less(&out, &PRIME) {
            out = subtract_prime(&out);
        }
        done += 1;
    }
    out
}

/// Returns `number` minus the prime modulo 2^768.
const fn subtract_prime(number: &Number) -> Number {
    let mut out = [0; LIMBS];
    let mut borrow = false;
    let mut i = 0;
    while i < LIMBS {
        let (limb, under) = number[i].overflowing_sub(PRIME[i]);
        let (limb, again) = limb.overflowing_sub(borrow as u64);
        out[i] = limb;
        borrow = under || again;
        i += 1;
    }
    out
}

const fn is_less(a: &Number, b: &Number) -> bool {
    let mut i = LIMBS;
    while i > 0 {
        i -= 1;
        if a[i] != b[i] {
            return a[i] < b[i];
        }
    }
    false
}

fn from_bytes(bytes: &[u8; KEY_LEN]) -> Number {
    let mut out = [0; LIMBS];
    for (limb, part) in out.iter_mut().rev().zip(bytes.chunks_exact(8)) {
        *limb = part.iter().fold(0, |limb, byte| limb << 8 | u64::from(*byte));
    }
    out
}

fn to_bytes(number: &Number) -> [u8; KEY_LEN] {
    let mut out = [0; KEY_LEN];
    for (part, limb) in out.chunks_exact_mut(8).zip(number.iter().rev()) {
        part.copy_from_slice(&limb.to_be_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha1::{Digest, Sha1};

    /// The exponent of 20 bytes that count up from `first`.
    fn counting(first: u8) -> [u8; EXPONENT_LEN] {
        std::array::from_fn(|i| first + i as u8)
    }

    fn digest(key: &[u8]) -> String {
        Sha1::digest(key).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn keys_and_the_shared_secret_are_those_of_an_independent_computation() {
        let (a, b) = (counting(0x01), counting(0x40));
        let (ours, theirs) = (public_key(&a), public_key(&b));
        assert_eq!(digest(&ours), "9fa4c50e31ec4635ddb9ef30405e9db341313ed2");
        assert_eq!(digest(&theirs), "db680aa3927e32a460bb6a8a6b570006aaebb947");
        let secret = shared_secret(&a, &theirs).unwrap();
        assert_eq!(digest(&secret), "dd54f4578ac73872beb896f7a358f2fb7ad0e27a");
        assert_eq!(shared_secret(&b, &ours), Some(secret));
    }

    #[test]
    fn a_secret_that_begins_with_zeros_keeps_its_96_bytes() {
        let mut b = counting(0x40);
        let sum = u32::from(u16::from_be_bytes([b[18], b[19]])) + 730;
        b[18..].copy_from_slice(&u16::try_from(sum).unwrap().to_be_bytes());
        let secret = shared_secret(&b, &public_key(&counting(0x01))).unwrap();
        assert_eq!(secret[0], 0);
        assert_eq!(digest(&secret), "6e5395b39ceb6c68e1f48623ac23305c8bb0b320");
    }

    #[test]
    fn keys_without_a_secret_are_refused() {
        let from_prime = |difference: u64| {
            let mut number = PRIME;
            number[0] = number[0].wrapping_add(difference);
            to_bytes(&number)
        };
        let small = |value: u8| {
            let mut key = [0; KEY_LEN];
            key[KEY_LEN - 1] = value;
            key
        };
        let exponent = counting(0x01);
        for refused in [small(0), small(1), from_prime(0_u64.wrapping_sub(1)), from_prime(0), from_prime(1)] {
            assert_eq!(shared_secret(&exponent, &refused), None);
        }
        assert_eq!(shared_secret(&exponent, &[0xff; KEY_LEN]), None);
        assert_eq!(shared_secret(&exponent, &small(2)), Some(public_key(&exponent)));
        assert!(shared_secret(&exponent, &from_prime(0_u64.wrapping_sub(2))).is_some());
    }
}
