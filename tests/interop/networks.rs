//! Network namespaces on one bridge, for programs that must not share an address.
//!
//! ```text
//!   NAME (a bridge) ──┬── NAME0: 10.SUBNET.0.1 or fd00:SUBNET::1
//!                     ├── NAME1: …2
//!                     └── …
//! ```
//! The bridge has host number 254, so programs outside the namespaces can be reached as well. Creating them
//! needs root.

use std::process::{Command, Stdio};

/// Address family of the networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

/// Networks with one address each, joined by a bridge; removed when this is dropped.
pub struct Networks {
    name: &'static str,
    subnet: u8,
    family: Family,
    count: u32,
}

impl Networks {
    /// Creates `count` networks. Returns `None` if this machine does not allow it; under `CI=true`
    /// panics.
    pub fn new(name: &'static str, subnet: u8, family: Family, count: u32) -> Option<Networks> {
        let networks = Networks { name, subnet, family, count };
        networks.remove(); // left by a run that was killed
        let all = networks.bridge() && (0..count).all(|n| networks.join(n));
        assert!(all || std::env::var("CI").as_deref() != Ok("true"), "no networks can be made");
        if !all {
            eprintln!("skipped, no networks can be made");
        }
        all.then_some(networks)
    }

    fn bridge(&self) -> bool {
        let Networks { name, .. } = self;
        let bridge = format!("link add {name} type bridge forward_delay 0");
        ip(&bridge) && ip(&self.address(254, name)) && ip(&format!("link set {name} up"))
    }

    fn join(&self, n: u32) -> bool {
        ip(&format!("netns add {}{n}", self.name)) && self.connect(n)
    }

    /// Removes the interface of network `n`.
    pub fn disconnect(&self, n: u32) -> bool {
        ip(&format!("link del {}{n}", self.name))
    }

    /// Runs `ip` with these words in network `n`; returns whether it succeeded.
    pub fn ip(&self, n: u32, words: &str) -> bool {
        ip(&format!("-n {}{n} {words}", self.name))
    }

    /// Returns the number of packets that network `n` has sent.
    pub fn packets_of(&self, n: u32) -> u64 {
        let device = format!("{}{n}", self.name);
        let output = Command::new("ip").args(["-j", "-s", "link", "show", &device]).output().unwrap();
        let links: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        links[0]["stats64"]["rx"]["packets"].as_u64().unwrap()
    }

    /// Returns the address of the bridge.
    pub fn bridge_address(&self) -> String {
        self.host(254)
    }

    /// Creates the interface `eth0` of network `n`.
    pub fn connect(&self, n: u32) -> bool {
        let Networks { name, .. } = self;
        let network = format!("{name}{n}");
        let way = match self.family {
            Family::V4 => format!("-n {network} route add default via {}", self.host(254)),
            Family::V6 => format!("-n {network} -6 route add default via {}", self.host(254)),
        };
        [
            format!("link add {name}{n} type veth peer name eth0 netns {network}"),
            format!("link set {name}{n} master {name} up"),
            // A link-local address only for IPv6.
            format!(
                "-n {network} link set eth0 addrgenmode {}",
                if self.family == Family::V4 { "none" } else { "eui64" }
            ),
            format!("-n {network} {}", self.address(n + 1, "eth0")),
            format!("-n {network} link set lo up"),
            format!("-n {network} link set eth0 up"),
            way,
        ]
        .iter()
        .all(|command| ip(command))
    }

    fn address(&self, host: u32, device: &str) -> String {
        match self.family {
            Family::V4 => format!("addr add {}/24 dev {device}", self.host(host)),
            // No other host can have the address already.
            Family::V6 => format!("addr add {}/64 dev {device} nodad", self.host(host)),
        }
    }

    fn host(&self, host: u32) -> String {
        match self.family {
            Family::V4 => format!("10.{}.0.{host}", self.subnet),
            Family::V6 => format!("fd00:{}::{host}", self.subnet),
        }
    }

    /// Returns the address of network `n`.
    pub fn address_of(&self, n: u32) -> String {
        self.host(n + 1)
    }

    /// Returns the command, run in network `n`.
    pub fn inside(&self, n: u32, command: &Command) -> Command {
        inside(&format!("{}{n}", self.name), command)
    }

    fn remove(&self) {
        for n in 0..self.count {
            // The kernel removes a namespace some time later, but a link at once, so its name is free
            // for the next test.
            ip(&format!("link del {}{n}", self.name));
            ip(&format!("netns del {}{n}", self.name));
        }
        ip(&format!("link del {}", self.name));
    }
}

impl Drop for Networks {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Returns the command, run in this network namespace.
pub fn inside(network: &str, command: &Command) -> Command {
    let mut inside = Command::new("ip");
    inside.args(["netns", "exec", network]).arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => inside.env(key, value),
            None => inside.env_remove(key),
        };
    }
    inside
}

/// Runs a program in this network namespace. Returns whether it succeeded.
pub fn within(network: &str, program: &str, words: &[&str]) -> bool {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", network, program]).args(words);
    command.status().is_ok_and(|status| status.success())
}

/// Runs `ip` with these arguments. Returns whether it succeeded.
pub fn ip(words: &str) -> bool {
    let status = Command::new("ip").args(words.split(' ')).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}
