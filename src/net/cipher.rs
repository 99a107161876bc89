//! RC4 over another transport (MSE): one keystream for each direction.
//!
//! What is read is decrypted on its way from the scratch buffer to its target, in one walk. What is written is
//! encrypted to the scratch buffer. If the transport takes a part of it, the keystream goes back to its state
//! before the write and advances by the bytes that left: the engine may plan other bytes for the rest.

use super::transfer::Transfer;
use super::transport::Transport;
use crate::disk::Target;
use crate::utp::Endpoint;
use crate::wire::mse::Ciphers;
use std::io::IoSlice;

/// A transport whose bytes are encrypted.
#[derive(Debug)]
pub struct CipherTransport {
    under: Transport,
    ciphers: Ciphers,
    /// Bytes to write before the first encrypted one: the end of the negotiation.
    clear: usize,
}

impl CipherTransport {
    /// Returns `under` with a cipher over it. The next `clear` bytes are written as they are.
    pub fn new(under: Transport, ciphers: Ciphers, clear: usize) -> CipherTransport {
        CipherTransport { under, ciphers, clear }
    }

    /// Returns the transport under the cipher.
    pub fn under(&self) -> &Transport {
        &self.under
    }

    /// Returns the transport under the cipher.
    pub fn under_mut(&mut self) -> &mut Transport {
        &mut self.under
    }

    /// Reads control bytes.
    pub fn read(&mut self, room: &mut [u8], utp: &mut Endpoint) -> Transfer {
        let transfer = self.under.read(room, utp);
        if let Transfer::Moved { bytes, .. } = transfer {
            self.ciphers.incoming.apply(&mut room[..bytes]);
        }
        transfer
    }

    /// Reads payload into its target, and the bytes that follow it into `spill`. A window of a file is no target:
    /// only the kernel may write to it.
    pub fn read_into(
        &mut self,
        target: Target<'_>,
        spill: &mut [u8],
        utp: &mut Endpoint,
        scratch: &mut Vec<u8>,
    ) -> Transfer {
        let Target::Buffer(target) = target else { return Transfer::BadTarget };
        let wanted = target.len() + spill.len();
        if scratch.len() < wanted {
            scratch.resize(wanted, 0);
        }
        let transfer = self.under.read(&mut scratch[..wanted], utp);
        if let Transfer::Moved { bytes, .. } = transfer {
            let (payload, rest) = scratch[..bytes].split_at(bytes.min(target.len()));
            self.ciphers.incoming.apply_to(payload, target);
            self.ciphers.incoming.apply_to(rest, spill);
        }
        transfer
    }

    /// Writes as much of the slices as the transport takes.
    pub fn write(&mut self, slices: &[IoSlice<'_>], utp: &mut Endpoint, scratch: &mut Vec<u8>) -> Transfer {
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        if scratch.len() < total {
            scratch.resize(total, 0);
        }
        let before = self.ciphers.outgoing.clone();
        let mut at = 0;
        for slice in slices {
            let (clear, secret) = slice.split_at(slice.len().min(self.clear.saturating_sub(at)));
            scratch[at..at + clear.len()].copy_from_slice(clear);
            at += clear.len();
            self.ciphers.outgoing.apply_to(secret, &mut scratch[at..at + secret.len()]);
            at += secret.len();
        }
        // `under` has no cipher of its own that could use the buffer.
        let transfer = self.under.write(&[IoSlice::new(&scratch[..total])], utp, &mut Vec::new());
        let left = if let Transfer::Moved { bytes, .. } = transfer { bytes } else { 0 };
        if left < total {
            self.ciphers.outgoing = before;
            self.ciphers.outgoing.advance(left.saturating_sub(self.clear));
        }
        self.clear -= left.min(self.clear);
        transfer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::egress::Egress;
    use crate::utp::UtpBudget;
    use crate::wire::Rc4;
    use mio::{Poll, Token};
    use std::io::Read;
    use std::net::TcpListener;

    /// A socket with a small buffer takes a part of each write. The plan of the next write is another one, as when
    /// a message overtakes blocks: the peer must still read what was written.
    #[test]
    fn e5_bytes_that_the_socket_took_in_part_reach_the_peer_whatever_is_written_next() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let poll = Poll::new().unwrap();
        let addr = listener.local_addr().unwrap();
        let socket = Transport::dial(addr, &Egress::default(), poll.registry(), Token(0)).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let ciphers = Ciphers { incoming: Rc4::new(&[1; 20]), outgoing: Rc4::new(&[2; 20]) };
        let mut socket = socket.encrypted(ciphers, 5);
        let mut utp = Endpoint::new(UtpBudget { streams: 0, receive_bytes: 0, send_bytes: 0 }, [0; 32]);
        while !matches!(socket.established(&utp), Some(Ok(()))) {}
        // The peer reads nothing before a write was partial: on any machine there is one.
        let (begin, begun) = std::sync::mpsc::channel::<()>();
        let reader = std::thread::spawn(move || {
            let _ = begun.recv();
            let mut all = Vec::new();
            peer.read_to_end(&mut all).unwrap();
            all
        });
        let (mut written, mut scratch) = (Vec::new(), Vec::new());
        let mut write = |turn: u8| {
            // The first three bytes end inside the clear ones.
            let sizes = if turn == 0 { [1, 2] } else { [100_000, 60_000] };
            let parts = sizes.map(|len| vec![turn; len]);
            let slices = [IoSlice::new(&parts[0]), IoSlice::new(&parts[1])];
            let Transfer::Moved { bytes, .. } = socket.write(&slices, &mut utp, &mut scratch) else {
                return false;
            };
            written.extend(parts.concat().into_iter().take(bytes));
            bytes < sizes.iter().sum()
        };
        let mut turns = 0..=u8::MAX;
        assert!(turns.any(&mut write), "40 MB fit into the buffers of a socket");
        drop(begin);
        turns.for_each(|turn| _ = write(turn));
        drop(socket);
        let mut read = reader.join().unwrap();
        Rc4::new(&[2; 20]).apply(&mut read[5..]);
        assert_eq!(read.len(), written.len());
        assert!(read == written, "the stream differs");
    }
}
