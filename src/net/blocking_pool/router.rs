//! One HTTP request to a router (UPnP): to an address only, directly, without redirects, within one deadline,
//! and from where the session's [`Egress`] says.

use super::super::egress::Egress;
use super::super::http_socket::EgressConnector;
use super::super::mended_response::MendingConnector;
use crate::engine::{RouterCall, RouterReply};
use crate::wire::soap::DOCUMENT_BYTES;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use ureq::Agent;
use ureq::http::{Uri, header};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Connector, NextTimeout};

/// Requests the document, or posts the call. A body that is too long or broken is a failure.
pub(super) fn ask(
    url: &str,
    call: Option<&RouterCall>,
    timeout: Duration,
    egress: Egress,
) -> Option<RouterReply> {
    let config = Agent::config_builder()
        .timeout_global(Some(timeout))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .max_idle_connections(0)
        .build();
    let connector = ().chain(EgressConnector(egress)).chain(MendingConnector);
    let agent = Agent::with_parts(config, connector, AddressesOnly);
    let response = match call {
        Some(call) => agent
            .post(url)
            .header(header::CONNECTION, "close")
            .header(header::CONTENT_TYPE, "text/xml; charset=\"utf-8\"")
            .header("SOAPAction", &call.action)
            .send(&call.body),
        None => agent.get(url).header(header::CONNECTION, "close").call(),
    };
    let response = response.inspect_err(|e| log::debug!("request to {url} failed: {e}")).ok()?;
    let status = response.status().as_u16();
    let mut body = Vec::new();
    let limit = DOCUMENT_BYTES as u64 + 1;
    response.into_body().into_reader().take(limit).read_to_end(&mut body).ok()?;
    (body.len() <= DOCUMENT_BYTES).then_some(RouterReply { status, body })
}

/// Resolves no names: the host of a URL is an address.
#[derive(Debug)]
struct AddressesOnly;

impl Resolver for AddressesOnly {
    fn resolve(
        &self,
        uri: &Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().ok_or(ureq::Error::HostNotFound)?;
        let ip: IpAddr = host.parse().map_err(|_| ureq::Error::HostNotFound)?;
        let mut addresses = self.empty();
        addresses.push(SocketAddr::new(ip, uri.port_u16().unwrap_or(80)));
        Ok(addresses)
    }
}
