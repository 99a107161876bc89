//! The XML of UPnP: finds the service that maps ports in a router's description, writes its requests, and
//! reads their answers.
//!
//! A scanner for single tags, not an XML parser: no entities, no nesting, no attributes. Documents are
//! untrusted and at most [`DOCUMENT_BYTES`] long.

use super::url::resolve_reference;
use std::net::Ipv4Addr;

/// Most bytes of a description or an answer that are read.
pub const DOCUMENT_BYTES: usize = 64 * 1024;
/// Longest control URL, bytes.
const URL_BYTES: usize = 512;
/// The services that map ports, the usual one first (IGD 1 and 2).
const SERVICES: [&str; 3] = [
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
];

/// The service of a router that maps ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingService {
    /// Its type, one of three.
    pub kind: &'static str,
    /// The URL that requests are posted to.
    pub control_url: String,
}

/// Finds the service that maps ports in the description at `location`.
pub fn mapping_service(description: &[u8], location: &str) -> Option<MappingService> {
    let text = document(description)?;
    let mut base = location.to_owned();
    let (mut kind, mut control) = (None, None);
    for (tag, content) in tags(text) {
        match tag {
            "URLBase" if !content.is_empty() => base = resolve_reference(location, content.as_bytes())?,
            "service" => (kind, control) = (None, None),
            "serviceType" => kind = SERVICES.into_iter().find(|service| *service == content),
            "controlURL" if content.len() <= URL_BYTES => control = Some(content),
            _ => {}
        }
        if let (Some(kind), Some(control)) = (kind, control) {
            let control = control.replace("&amp;", "&");
            let control_url = resolve_reference(&base, control.as_bytes())?;
            return Some(MappingService { kind, control_url });
        }
    }
    None
}

/// A request to the service, with its arguments in the order of the specification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SoapRequest {
    /// Asks for the router's external address.
    ExternalAddress,
    /// Maps a port.
    Add {
        /// `TCP` or `UDP`.
        protocol: &'static str,
        /// The port outside.
        external: u16,
        /// Our port.
        internal: u16,
        /// Our address.
        client: Ipv4Addr,
        /// Seconds until the mapping ends; 0 is never.
        lease_s: u32,
    },
    /// Asks for the mapping of a port.
    Entry {
        /// `TCP` or `UDP`.
        protocol: &'static str,
        /// The port outside.
        external: u16,
    },
    /// Deletes the mapping of a port.
    Delete {
        /// `TCP` or `UDP`.
        protocol: &'static str,
        /// The port outside.
        external: u16,
    },
}

impl SoapRequest {
    /// Returns the name of the action.
    fn action(&self) -> &'static str {
        match self {
            SoapRequest::ExternalAddress => "GetExternalIPAddress",
            SoapRequest::Add { .. } => "AddPortMapping",
            SoapRequest::Entry { .. } => "GetSpecificPortMappingEntry",
            SoapRequest::Delete { .. } => "DeletePortMapping",
        }
    }

    /// Returns the value of the header `SOAPAction`.
    pub fn header(&self, service: &str) -> String {
        format!("\"{service}#{}\"", self.action())
    }

    /// Returns the body.
    pub fn body(&self, service: &str) -> String {
        let arguments = match self {
            SoapRequest::ExternalAddress => String::new(),
            SoapRequest::Add { protocol, external, internal, client, lease_s } => format!(
                "<NewRemoteHost></NewRemoteHost><NewExternalPort>{external}</NewExternalPort>\
                 <NewProtocol>{protocol}</NewProtocol><NewInternalPort>{internal}</NewInternalPort>\
                 <NewInternalClient>{client}</NewInternalClient><NewEnabled>1</NewEnabled>\
                 <NewPortMappingDescription>rill</NewPortMappingDescription>\
                 <NewLeaseDuration>{lease_s}</NewLeaseDuration>"
            ),
            SoapRequest::Entry { protocol, external } | SoapRequest::Delete { protocol, external } => {
                format!(
                    "<NewRemoteHost></NewRemoteHost><NewExternalPort>{external}</NewExternalPort>\
                 <NewProtocol>{protocol}</NewProtocol>"
                )
            }
        };
        let action = self.action();
        format!(
            "<?xml version=\"1.0\"?>\r\n<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
             s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body>\
             <u:{action} xmlns:u=\"{service}\">{arguments}</u:{action}></s:Body></s:Envelope>\r\n"
        )
    }
}

/// Returns the error code in an answer, if there is one.
pub fn error_code(answer: &[u8]) -> Option<u32> {
    value(answer, "errorCode")?.parse().ok()
}

/// Returns the external address in an answer; `None` if the router has none.
pub fn external_address(answer: &[u8]) -> Option<Ipv4Addr> {
    let address: Ipv4Addr = value(answer, "NewExternalIPAddress")?.parse().ok()?;
    (!address.is_unspecified()).then_some(address)
}

/// Returns the host that a port is mapped to, and the seconds until the mapping ends; 0 is never.
pub fn mapping_entry(answer: &[u8]) -> Option<(Ipv4Addr, u32)> {
    let client = value(answer, "NewInternalClient")?.parse().ok()?;
    Some((client, value(answer, "NewLeaseDuration")?.parse().ok()?))
}

fn value<'a>(document_bytes: &'a [u8], name: &str) -> Option<&'a str> {
    tags(document(document_bytes)?).find(|(tag, _)| *tag == name).map(|(_, content)| content)
}

/// Returns the text up to the first byte that is not UTF-8; `None` if the document is too long.
fn document(bytes: &[u8]) -> Option<&str> {
    if bytes.len() > DOCUMENT_BYTES {
        return None;
    }
    let valid = bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    Some(valid)
}

/// Iterates over the opening tags: the name without its prefix, and the text that follows the tag.
fn tags(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split('<').skip(1).filter_map(|part| {
        let (tag, content) = part.split_once('>')?;
        let name = tag.split_ascii_whitespace().next()?;
        let name = name.rsplit(':').next()?;
        (!name.starts_with(['/', '?', '!'])).then(|| (name, content.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCATION: &str = "http://192.168.1.1:5000/rootDesc.xml";

    fn description(service: &str, control: &str, base: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?><root xmlns=\"urn:schemas-upnp-org:device-1-0\">{base}<device><serviceList><service>\
             <serviceType>urn:schemas-upnp-org:service:Layer3Forwarding:1</serviceType><controlURL>/ctl/L3F</controlURL>\
             </service></serviceList><deviceList><device><serviceList><service>\r\n<serviceType> {service}\r\n</serviceType>\
             <serviceId>urn:upnp-org:serviceId:WANIPConn1</serviceId><SCPDURL>/WANIPCn.xml</SCPDURL>\
             <controlURL>{control}</controlURL></service></serviceList></device></deviceList></device></root>"
        )
    }

    fn control_url(service: &str, control: &str, base: &str) -> Option<String> {
        mapping_service(description(service, control, base).as_bytes(), LOCATION)
            .map(|found| found.control_url)
    }

    #[test]
    fn finds_the_service_that_maps_ports() {
        for service in SERVICES {
            let found =
                mapping_service(description(service, "/ctl/IPConn", "").as_bytes(), LOCATION).unwrap();
            assert_eq!(
                (found.kind, found.control_url.as_str()),
                (service, "http://192.168.1.1:5000/ctl/IPConn")
            );
        }
        assert_eq!(control_url("urn:schemas-upnp-org:service:WANCommonInterfaceConfig:1", "/x", ""), None);
    }

    #[test]
    fn resolves_the_control_url_against_url_base_or_the_location() {
        let of = |control, base| control_url(SERVICES[0], control, base).unwrap();
        assert_eq!(of("ctl?a=1&amp;b=2", ""), "http://192.168.1.1:5000/ctl?a=1&b=2");
        assert_eq!(of("ctl", "<URLBase>http://192.168.1.1:80/u/</URLBase>"), "http://192.168.1.1:80/u/ctl");
        assert_eq!(of("ctl", "<URLBase></URLBase>"), "http://192.168.1.1:5000/ctl");
        assert_eq!(of("http://192.168.1.1:49152/c", ""), "http://192.168.1.1:49152/c");
    }

    #[test]
    fn writes_requests_with_arguments_in_their_order() {
        let add = SoapRequest::Add {
            protocol: "TCP",
            external: 6882,
            internal: 6881,
            client: Ipv4Addr::new(192, 168, 1, 7),
            lease_s: 3600,
        };
        assert_eq!(
            add.header(SERVICES[0]),
            "\"urn:schemas-upnp-org:service:WANIPConnection:1#AddPortMapping\""
        );
        let body = add.body(SERVICES[0]);
        let arguments = "<NewRemoteHost></NewRemoteHost><NewExternalPort>6882</NewExternalPort><NewProtocol>TCP</NewProtocol>\
                         <NewInternalPort>6881</NewInternalPort><NewInternalClient>192.168.1.7</NewInternalClient>\
                         <NewEnabled>1</NewEnabled><NewPortMappingDescription>rill</NewPortMappingDescription>\
                         <NewLeaseDuration>3600</NewLeaseDuration></u:AddPortMapping>";
        assert!(body.contains(arguments), "{body}");
        let delete = SoapRequest::Delete { protocol: "UDP", external: 6882 }.body(SERVICES[1]);
        assert!(delete.contains(
            "<NewExternalPort>6882</NewExternalPort><NewProtocol>UDP</NewProtocol></u:DeletePortMapping>"
        ));
    }

    #[test]
    fn reads_answers() {
        let answer = b"<s:Body><u:GetExternalIPAddressResponse><NewExternalIPAddress>203.0.113.5</NewExternalIPAddress>";
        assert_eq!(external_address(answer), Some(Ipv4Addr::new(203, 0, 113, 5)));
        let refused =
            b"<s:Fault><detail><UPnPError><errorCode>718</errorCode><errorDescription>ConflictInMappingEntry";
        assert_eq!(error_code(refused), Some(718));
        assert_eq!(external_address(refused), None);
        assert_eq!(external_address(b"<NewExternalIPAddress>0.0.0.0</NewExternalIPAddress>"), None);
        let entry =
            b"<NewInternalPort>6881</NewInternalPort><NewInternalClient>192.168.1.7</NewInternalClient>\
                      <NewEnabled>1</NewEnabled><NewLeaseDuration>3599</NewLeaseDuration>";
        assert_eq!(mapping_entry(entry), Some((Ipv4Addr::new(192, 168, 1, 7), 3599)));
        assert_eq!(mapping_entry(refused), None);
    }

    #[test]
    fn g2_a_document_of_any_bytes_and_length_is_harmless() {
        let huge = description(SERVICES[0], "/ctl", "").repeat(200);
        assert_eq!(mapping_service(huge.as_bytes(), LOCATION), None, "{} bytes", huge.len());
        for text in [
            "",
            "<",
            "<>",
            "<service",
            "</service>",
            "<<<<",
            "<controlURL>",
            "<serviceType>urn:x</serviceType>",
        ] {
            assert_eq!(mapping_service(text.as_bytes(), LOCATION), None, "{text}");
        }
        let long = "a".repeat(URL_BYTES + 1);
        assert_eq!(control_url(SERVICES[0], &long, ""), None);
        assert_eq!(error_code(b"<errorCode>99999999999</errorCode>"), None);
        assert_eq!(external_address(b"<NewExternalIPAddress>\xff</NewExternalIPAddress>"), None);
        let entry = b"<NewInternalClient>10.0.0.1</NewInternalClient><NewLeaseDuration>-1</NewLeaseDuration>";
        assert_eq!(mapping_entry(entry), None);
    }
}
