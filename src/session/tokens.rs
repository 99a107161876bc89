//! The one map between the owners of registered descriptors and `mio` tokens.

use mio::Token;

/// The owner of a registered descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Another thread woke the loop.
    Waker,
    /// The listening socket with this index.
    TcpListener(usize),
    /// The UDP socket with this index.
    Udp(usize),
    /// The multicast socket with this index.
    Multicast(usize),
    /// The socket of [`BoundUdp`](crate::net::BoundUdp) with this index.
    BoundUdp(usize),
    /// The connection in this slot.
    Connection(usize),
}

/// Bits of a token that hold the kind of its owner; the others hold the index.
const KIND_BITS: u32 = 3;

impl Owner {
    /// Returns the token of this owner. Indices stay below 2^29, so a token fits 32 bits.
    pub fn token(self) -> Token {
        let (kind, index) = match self {
            Owner::Waker => (0, 0),
            Owner::TcpListener(index) => (1, index),
            Owner::Udp(index) => (2, index),
            Owner::Multicast(index) => (3, index),
            Owner::Connection(slot) => (4, slot),
            Owner::BoundUdp(index) => (5, index),
        };
        Token(index << KIND_BITS | kind)
    }

    /// Returns the owner of a token, `None` for a token that [`Owner::token`] does not make.
    pub fn of(token: Token) -> Option<Owner> {
        let index = token.0 >> KIND_BITS;
        match token.0 & ((1 << KIND_BITS) - 1) {
            0 if index == 0 => Some(Owner::Waker),
            1 => Some(Owner::TcpListener(index)),
            2 => Some(Owner::Udp(index)),
            3 => Some(Owner::Multicast(index)),
            4 => Some(Owner::Connection(index)),
            5 => Some(Owner::BoundUdp(index)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_owner_has_a_token_of_its_own() {
        let mut owners = vec![Owner::Waker];
        for index in [0, 1, 7, 8, (1 << 29) - 1] {
            let kinds =
                [Owner::TcpListener, Owner::Udp, Owner::Multicast, Owner::Connection, Owner::BoundUdp];
            owners.extend(kinds.map(|kind| kind(index)));
        }
        for owner in &owners {
            assert_eq!(Owner::of(owner.token()), Some(*owner));
        }
        let tokens: std::collections::BTreeSet<_> = owners.iter().map(|owner| owner.token()).collect();
        assert_eq!(tokens.len(), owners.len());
    }

    #[test]
    fn a_foreign_token_has_no_owner() {
        for token in [6, 7, 8, usize::MAX] {
            assert_eq!(Owner::of(Token(token)), None, "{token}");
        }
    }
}
