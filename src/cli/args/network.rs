//! Options of the network: ports, limits, sources of peers, HTTPS.

use super::{Transport, WhenEncrypted, parse_size};
use crate::cli::peer_names::PeerArg;
use crate::session::PrivateHosts;
use crate::wire::host_and_port;
use clap::Args;
use clap::builder::FalseyValueParser;
#[cfg(feature = "tls")]
use std::path::PathBuf;

/// Upload limit, listening port, connections.
#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct Network {
    /// Send at most RATE bytes a second; 0 is unlimited [default: unlimited]
    #[arg(short = 'u', long, value_name = "RATE", env = "RILL_MAX_UPLOAD_LIMIT", value_parser = parse_size, help_heading = "How fast")]
    pub(crate) max_upload_limit: Option<u64>,
    /// Port to listen on, or a range of which the first free port is taken; 0 is any free port
    #[arg(long, value_name = "PORT", env = "RILL_LISTEN_PORT", default_value = "6881-6999", value_parser = parse_ports)]
    pub(crate) listen_port: (u16, u16),
    /// Most connections of one torrent; all torrents together have at most 200, or N if that is more
    #[arg(long, value_name = "N", env = "RILL_MAX_PEERS", default_value_t = 55, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) max_peers: u16,
    #[command(flatten)]
    pub(crate) discovery: Discovery,
    #[command(flatten)]
    pub(crate) egress: Egress,
    #[command(flatten)]
    pub(crate) proxy: ProxyArg,
    #[command(flatten)]
    pub(crate) https: Https,
}

/// The proxy.
#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct ProxyArg {
    /// Reach everything through this SOCKS5 proxy, socks5://user:password@proxy.example:1080, and nothing beside
    /// it; the proxy resolves names. file:PATH names a file with the URL [default: none]
    #[arg(long, value_name = "URL", env = "RILL_PROXY", hide_env_values = true)]
    pub(crate) proxy: Option<String>,
}

/// HTTPS trackers and URLs of torrents.
#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct Https {
    /// PEM file of the certificate authorities that HTTPS servers are checked against [default: the file in
    /// SSL_CERT_FILE, else the built-in ones]
    #[cfg(feature = "tls")]
    #[arg(long, value_name = "FILE", env = "RILL_CA_CERTIFICATE")]
    pub(crate) ca_certificate: Option<PathBuf>,
}

/// Where sockets leave the machine.
#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct Egress {
    /// Use IPv4 only
    #[arg(short = '4', long, env = "RILL_IPV4", value_parser = FalseyValueParser::new(), conflicts_with = "ipv6")]
    pub(crate) ipv4: bool,
    /// Use IPv6 only
    #[arg(short = '6', long, env = "RILL_IPV6", value_parser = FalseyValueParser::new())]
    pub(crate) ipv6: bool,
    /// Send and receive only through this interface, tun0, or from this address; while the interface is gone,
    /// nothing is sent. Names of hosts are resolved by the system [default: none]
    #[arg(long, value_name = "NAME|ADDR", env = "RILL_INTERFACE", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) interface: Option<String>,
    /// Mark the packets to peers, the DHT and UDP trackers with this DSCP, 0 to 63; 8 is the class of background
    /// traffic [default: none]
    #[arg(long, value_name = "DSCP", env = "RILL_DSCP", value_parser = clap::value_parser!(u8).range(..=63))]
    pub(crate) dscp: Option<u8>,
}

/// Sources of peers.
#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct Discovery {
    #[arg(
        help = "Connect to this peer, 192.0.2.1:6881, [2001:db8::1]:6881 or box.lan:6881; may be repeated [default: none]",
        long,
        value_name = "ADDR",
        env = "RILL_PEER",
        value_delimiter = ',',
        value_parser = PeerArg::parse
    )]
    pub(crate) peer: Vec<PeerArg>,
    /// Announce to this tracker as well; may be repeated [default: none]
    #[arg(long, value_name = "URL", env = "RILL_TRACKER", value_delimiter = ' ')]
    pub(crate) tracker: Vec<String>,
    /// Ask the trackers that torrents name in private networks with any path; with =loopback also on this
    /// machine. Trackers given with --tracker are always asked [default: off]
    #[arg(long, value_name = "loopback", env = "RILL_ALLOW_PRIVATE_HOSTS", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true", value_parser = parse_private_hosts)]
    pub(crate) allow_private_hosts: Option<PrivateHosts>,
    /// Do not join the DHT
    #[arg(long, env = "RILL_NO_DHT", value_parser = FalseyValueParser::new())]
    pub(crate) no_dht: bool,
    /// Join the DHT through this node, router.example:6881, instead of the built-in ones; may be repeated
    /// [default: the built-in ones]
    #[arg(long, value_name = "HOST:PORT", env = "RILL_DHT_BOOTSTRAP", value_delimiter = ',', value_parser = parse_node)]
    pub(crate) dht_bootstrap: Vec<(String, u16)>,
    /// UDP port of the DHT, UDP trackers and uTP [default: the listening port]
    #[arg(long, value_name = "PORT", env = "RILL_DHT_PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) dht_port: Option<u16>,
    /// Do not exchange peer addresses with peers (BEP 11)
    #[arg(long, env = "RILL_NO_PEX", value_parser = FalseyValueParser::new())]
    pub(crate) no_pex: bool,
    /// Do not look for peers on the local network (BEP 14)
    #[arg(long, env = "RILL_NO_LSD", value_parser = FalseyValueParser::new())]
    pub(crate) no_lsd: bool,
    /// Do not ask the router to open the listening port to peers outside (PCP, NAT-PMP, UPnP)
    #[arg(long, env = "RILL_NO_PORT_MAPPING", value_parser = FalseyValueParser::new())]
    pub(crate) no_port_mapping: bool,
    /// Connect to peers over TCP, uTP (BEP 29) or both; with both over TCP first, and over uTP if that fails
    #[arg(
        long,
        value_name = "NAMES",
        env = "RILL_TRANSPORT",
        value_delimiter = ',',
        default_value = "tcp,utp"
    )]
    pub(crate) transport: Vec<Transport>,
    /// Encrypt connections to peers (MSE): if a peer insists (allow), if it can (prefer), or refuse others
    /// (require)
    #[arg(long, value_name = "WHEN", env = "RILL_ENCRYPTION", default_value = "allow")]
    pub(crate) encryption: WhenEncrypted,
}

fn parse_ports(text: &str) -> Result<(u16, u16), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if first <= last && (first > 0 || last == 0) => Ok((first, last)),
        _ => Err(format!("'{text}' is not a port or a range like 6881-6999")),
    }
}

fn parse_node(text: &str) -> Result<(String, u16), String> {
    host_and_port(text).ok_or_else(|| format!("'{text}' is not a host and a port like router.example:6881"))
}

fn parse_private_hosts(text: &str) -> Result<PrivateHosts, String> {
    match text.to_ascii_lowercase().as_str() {
        "loopback" => Ok(PrivateHosts::AllowedWithLoopback),
        "" | "0" | "false" | "no" | "n" | "off" | "f" => Ok(PrivateHosts::Refused),
        "1" | "true" | "yes" | "y" | "on" | "t" => Ok(PrivateHosts::Allowed),
        _ => Err(format!("'{text}' is not 'loopback'")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CliArgs, CliCommand};
    use super::*;

    #[test]
    fn ports_are_a_number_or_a_range() {
        assert_eq!(parse_ports("6881-6999"), Ok((6881, 6999)));
        assert_eq!(parse_ports("0"), Ok((0, 0)));
        for text in ["", "-", "1-", "9-1", "70000", "0-5", "a"] {
            assert!(parse_ports(text).is_err(), "{text}");
        }
    }

    #[test]
    fn k10_private_hosts_are_allowed_with_and_without_loopback() {
        let parsed =
            |words: &str| match CliArgs::parse_words(words.split(' ').map(Into::into)).unwrap().command {
                CliCommand::Get(get) => (get.network.discovery.allow_private_hosts, get.sources),
                other => panic!("{other:?}"),
            };
        use PrivateHosts::*;
        assert_eq!(parsed("rill get --allow-private-hosts x"), (Some(Allowed), vec!["x".into()]));
        assert_eq!(parsed("rill get --allow-private-hosts=loopback x").0, Some(AllowedWithLoopback));
        assert_eq!(parsed("rill get x").0, None);
        assert!(parse_private_hosts("everything").is_err());
    }
}
