//! Two network namespaces, connected only to each other: one for seeders, one for downloaders.
//!
//! ```text
//!   rill-compare-PID-serve                    rill-compare-PID-fetch
//!   10.77.1.1 … 10.77.1.40  eth0 ── veth ── eth0  10.77.0.1, 10.78.0.0/16
//! ```

use crate::fault::{Fault, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};

/// Addresses on the serving side: the largest number of seeders of a work.
pub const SERVING: u8 = 40;
/// Address of the downloading client.
pub const FETCHER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// Network of the handshakers' addresses.
const HANDSHAKERS_NETWORK: &str = "10.78.0.0/16";
/// Number of the handshakers' addresses.
pub const HANDSHAKERS: u32 = 50_000;

/// Congestion control is set to the kernel's default (cubic): others pace with timers, whose CPU time is
/// charged to the program that happens to run.
const CONGESTION: &str = "/proc/sys/net/ipv4/tcp_congestion_control";

/// Returns an address of the serving side; numbers start at 0.
pub fn server(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 1, 1 + number)
}

/// Returns an address of a handshaker on the fetching side; numbers start at 0.
pub fn caller(number: u32) -> Ipv4Addr {
    Ipv4Addr::new(10, 78, (number / 200) as u8, (number % 200) as u8 + 1)
}

/// A side of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Serve,
    Fetch,
}

/// Both networks, removed when this is dropped.
#[derive(Debug)]
pub struct Networks {
    names: [String; 2],
    handles: Vec<File>,
}

impl Networks {
    /// Creates the networks.
    pub fn new() -> Result<Networks> {
        sweep();
        let pid = std::process::id();
        let names = ["serve", "fetch"].map(|side| format!("rill-compare-{pid}-{side}"));
        // From here on the destructor removes the networks, also after an error.
        let mut networks = Networks { names, handles: Vec::new() };
        let [serve, fetch] = &networks.names;
        ip(&format!("netns add {serve}"))?;
        ip(&format!("netns add {fetch}"))?;
        ip(&format!("link add eth0 netns {serve} type veth peer name eth0 netns {fetch}"))?;
        for number in 0..SERVING {
            ip(&format!("-n {serve} addr add {}/16 dev eth0", server(number)))?;
        }
        ip(&format!("-n {fetch} addr add {FETCHER}/16 dev eth0"))?;
        for (name, way) in [(serve, FETCHER), (fetch, server(0))] {
            ip(&format!("-n {name} link set lo up"))?;
            ip(&format!("-n {name} link set eth0 up"))?;
            // Some clients find their own address through the default route.
            ip(&format!("-n {name} route add default via {way}"))?;
        }
        ip(&format!("-n {fetch} route add local {HANDSHAKERS_NETWORK} dev lo"))?;
        for name in &networks.names {
            let path = format!("/run/netns/{name}");
            networks.handles.push(File::open(&path).map_err(Fault::at(&path))?);
        }
        for side in [Side::Serve, Side::Fetch] {
            let set = networks.inside(side, || fs::write(CONGESTION, "cubic"));
            set.and_then(|set| set)
                .map_err(Fault::at("cannot set the congestion control in the network namespace"))?;
        }
        Ok(networks)
    }

    /// Runs a function in a network. The namespace belongs to a thread, so another thread enters it.
    pub fn inside<T: Send + 'static>(
        &self,
        side: Side,
        act: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let network = self.handles[side as usize].try_clone()?;
        let thread = std::thread::spawn(move || enter(&network).map(|()| act()));
        thread.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
    }

    /// Returns a handle of the network of this side, for [`enter`].
    pub fn handle(&self, side: Side) -> Result<File> {
        self.handles[side as usize]
            .try_clone()
            .map_err(Fault::at("cannot copy a handle of a network namespace"))
    }

    /// Listens on the serving side. The socket can be used by every thread.
    pub fn listen(&self, address: SocketAddrV4) -> Result<TcpListener> {
        let bound = self.inside(Side::Serve, move || TcpListener::bind(address));
        bound
            .and_then(|bound| bound)
            .map_err(Fault::at(format_args!("cannot listen on {address} in the network namespace")))
    }
}

impl Drop for Networks {
    fn drop(&mut self) {
        for name in &self.names {
            // A network that was not created yet is no error.
            let _ = ip(&format!("netns del {name}"));
        }
    }
}

/// Removes the networks of killed runs.
fn sweep() {
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix("rill-compare-").and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            // Another process may have removed it already.
            let _ = ip(&format!("netns del {name}"));
        }
    }
}

/// Moves the calling thread into a network.
pub fn enter(network: &impl AsFd) -> io::Result<()> {
    Ok(move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?)
}

/// Runs `ip` with these arguments.
fn ip(args: &str) -> Result<()> {
    let output = Command::new("ip")
        .args(args.split(' '))
        .stdin(Stdio::null())
        .output()
        .map_err(Fault::at("cannot run ip"))?;
    if output.status.success() {
        return Ok(());
    }
    let output = String::from_utf8_lossy(&output.stderr);
    Err(Fault::Wrong(format!("ip {args}: {}", output.lines().next().unwrap_or("failed without a message"))))
}
