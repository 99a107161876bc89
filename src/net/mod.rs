//! Floor 4: sockets, clocks, and the threads for blocking requests.
//!
//! Carries out what the engine decided and reports results; decides nothing itself. The loop thread never
//! waits here: HTTP trackers and name servers, which can only be asked by waiting, are asked by threads of
//! the [`BlockingPool`].

mod bind;
mod blocking_pool;
mod bound_udp;
mod cipher;
mod clock;
mod descriptors;
mod egress;
mod gateway;
mod http_socket;
mod listeners;
mod mended_response;
mod multicast;
mod proxied_dial;
mod proxy;
mod sys;
mod tcp_socket;
mod transfer;
mod transport;
mod udp;
mod utp_stream;
mod web;

pub use bind::bind;
pub use blocking_pool::{BlockingPool, BlockingReply, PrivateHosts};
pub use bound_udp::BoundUdp;
pub use clock::{Clock, thread_cpu};
pub use descriptors::connections_within;
pub use egress::{Egress, Interface, IpFamily};
pub use gateway::gateways;
pub use listeners::{Accepted, TcpListeners};
pub use multicast::MulticastSockets;
pub use proxy::Proxy;
pub use sys::{Batch, SendBatch};
pub use transfer::{DialError, Transfer};
pub use transport::Transport;
pub use udp::Udp;
pub use web::{HttpOptions, RootCertificates};
#[cfg(feature = "cli")]
pub use web::{MAX_REDIRECTS, RedirectError, RedirectTarget, WebUrl, read_body};

/// Returns whether the call may succeed once a descriptor or memory is released.
fn out_of_resources(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}
