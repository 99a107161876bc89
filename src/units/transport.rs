//! The transport under a connection to a peer.

/// The transport under a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TransportKind {
    /// A TCP connection.
    #[default]
    Tcp,
    /// A uTP stream (BEP 29), over UDP.
    Utp,
}

/// The transports that connections may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transports {
    /// TCP only.
    Tcp,
    /// uTP only.
    Utp,
    /// Both: an address is dialed over TCP first, and over uTP if that fails.
    #[default]
    Both,
}

impl Transports {
    /// Returns whether a connection may have this transport.
    pub const fn allow(self, kind: TransportKind) -> bool {
        match kind {
            TransportKind::Tcp => matches!(self, Transports::Tcp | Transports::Both),
            TransportKind::Utp => matches!(self, Transports::Utp | Transports::Both),
        }
    }
}
