//! UPnP routers, and routers and neighbours that lie.

use super::tests::{PCP, ROUTER, World};
use super::*;
use crate::engine::RouterCall;
use std::time::Duration;

const LOCATION: &str = "http://192.168.1.1:5000/rootDesc.xml";
const CONTROL: &str = "http://192.168.1.1:5000/ctl";
const OUTSIDE: [u8; 4] = [203, 0, 113, 5];

fn response(location: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nST: upnp:rootdevice\r\nLOCATION: {location}\r\n\r\n").into_bytes()
}

fn description(control: &str) -> Vec<u8> {
    format!(
        "<root><service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>\
         <controlURL>{control}</controlURL></service></root>"
    )
    .into_bytes()
}

fn fault(code: u32) -> RouterReply {
    let body = format!("<s:Fault><UPnPError><errorCode>{code}</errorCode></UPnPError></s:Fault>");
    RouterReply { status: 500, body: body.into_bytes() }
}

fn ok(body: &[u8]) -> RouterReply {
    RouterReply { status: 200, body: body.to_vec() }
}

/// Returns the text between the tags.
fn argument<'a>(call: &'a RouterCall, name: &str) -> &'a str {
    let (_, rest) = call.body.split_once(&format!("<{name}>")).unwrap();
    rest.split_once("</").unwrap().0
}

impl World {
    /// Returns a world whose router is silent to PCP and has been searched for.
    fn searching() -> World {
        let mut w = World::at_home();
        w.wait(Duration::from_secs(1));
        assert_eq!(w.searches, 3);
        w
    }

    fn respond(&mut self, location: &str) {
        self.receive_bound(([192, 168, 1, 1], 1900).into(), &response(location));
    }

    fn reply(&mut self, id: u64, reply: Option<&RouterReply>) {
        self.engine.on_router_reply(self.now, id, reply, &mut self.out);
        self.drain();
    }

    /// Returns what the router lists of each mapping.
    fn entry(&self) -> RouterReply {
        self.listed.map_or_else(
            || fault(714),
            |lease_s| {
                let client = "<NewInternalClient>192.168.1.7</NewInternalClient>";
                ok(format!("{client}<NewLeaseDuration>{lease_s}</NewLeaseDuration>").as_bytes())
            },
        )
    }

    /// Returns a world with both ports mapped, by a router that lists them.
    fn mapped_and_listed(lease_s: u32) -> World {
        let mut w = World::searching();
        w.listed = Some(lease_s);
        w.respond(LOCATION);
        assert_eq!(w.serve_upnp(|_| Some(ok(b""))).len(), 2);
        w
    }

    /// Answers the open requests as a router does whose answer to `AddPortMapping` is `add`; returns the calls
    /// that map or delete.
    fn serve_upnp(&mut self, add: impl Fn(&RouterCall) -> Option<RouterReply>) -> Vec<RouterCall> {
        let mut calls = Vec::new();
        while !self.requests.is_empty() {
            for (id, url, call) in std::mem::take(&mut self.requests) {
                let reply = match call {
                    None => Some(ok(&description("/ctl"))),
                    Some(call) if call.action.contains("#GetExternalIPAddress") => {
                        Some(ok(b"<NewExternalIPAddress>203.0.113.5</NewExternalIPAddress>"))
                    }
                    Some(call) if call.action.contains("#GetSpecific") => Some(self.entry()),
                    Some(call) => {
                        assert_eq!(url, CONTROL);
                        let reply = if call.action.contains("#Add") { add(&call) } else { Some(ok(b"")) };
                        calls.push(call);
                        reply
                    }
                };
                self.reply(id, reply.as_ref());
            }
        }
        calls
    }

    /// Returns a world with both ports mapped.
    fn mapped() -> World {
        let mut w = World::searching();
        w.respond(LOCATION);
        assert_eq!(w.serve_upnp(|_| Some(ok(b""))).len(), 2);
        w
    }
}

fn open() -> PortMapping {
    PortMapping::Open { address: Some(OUTSIDE.into()), tcp: 6881, udp: Some(6882), by: MappingProtocol::Upnp }
}

#[test]
fn a_router_that_is_silent_to_pcp_is_asked_by_upnp() {
    let mut w = World::mapped();
    assert_eq!(w.said, [open()]);
    w.wait(Duration::from_secs(60));
    assert_eq!(w.said.len(), 1, "the silence of the other protocols is not said");
}

#[test]
fn a_upnp_router_that_answers_pcp_is_not_searched_for() {
    let mut w = World::at_home();
    w.serve(&PCP);
    w.wait(Duration::from_secs(60));
    assert_eq!((w.searches, w.requests.len()), (0, 0));
}

#[test]
fn upnp_gives_way_to_a_later_grant_and_deletes_a_mapping_of_another_port() {
    for (conflict, deletions) in [(false, 0), (true, 1)] {
        let mut w = World::searching();
        w.respond(LOCATION);
        w.serve_upnp(|call| {
            let taken = conflict && argument(call, "NewExternalPort") == "6881";
            Some(if taken { fault(718) } else { ok(b"") })
        });
        w.serve(&PCP);
        let calls = w.serve_upnp(|_| panic!("mapped"));
        assert_eq!(calls.len(), deletions);
        assert!(calls.iter().all(|call| call.action.contains("#DeletePortMapping")));
        assert_eq!((w.tcp(), w.said.len()), (6881, 2));
        w.wait(Duration::from_secs(3600));
        assert!(w.requests.is_empty(), "renewed by UPnP");
    }
}

#[test]
fn a_lease_is_renewed_at_half_and_expires_without_renewal() {
    let mut w = World::mapped();
    w.wait(Duration::from_secs(1799));
    assert!(w.requests.is_empty());
    w.wait(Duration::from_secs(1));
    assert_eq!(w.serve_upnp(|_| Some(ok(b""))).len(), 2);
    w.wait(Duration::from_secs(1800));
    // Now the router is gone: asked once a minute, with one request open at a time.
    let mut calls = 0;
    for _ in 0..40 {
        calls += w.serve_upnp(|_| None).len();
        w.wait(Duration::from_secs(60));
    }
    assert!((50..=62).contains(&calls), "{calls} requests in half an hour");
    assert!(w.engine.port_mapper.as_ref().unwrap().outside() == OutsidePorts::default());
}

#[test]
fn errors_of_the_router_are_answered_with_another_port_or_lease() {
    let try_all = |code: u32| {
        let mut w = World::searching();
        w.respond(LOCATION);
        let calls = w.serve_upnp(|_| Some(fault(code)));
        (calls, w.said)
    };
    for code in [718, 501] {
        let (calls, said) = try_all(code);
        assert!(said.is_empty(), "the other protocols are being asked");
        assert_eq!(calls.len(), 4);
        let port = |call| argument(call, "NewExternalPort").parse::<u16>().unwrap();
        assert!(port(&calls[0]) == 6881 && calls[1..].iter().all(|call| port(call) >= 10_000));
        assert!(calls.iter().all(|call| argument(call, "NewInternalPort") == "6881"));
    }
    for code in [727, 402, 606, 724] {
        assert_eq!(try_all(code).0.len(), 1, "{code}: the same request would fail again");
    }
    let (calls, _) = try_all(725);
    assert_eq!(
        calls.iter().map(|call| argument(call, "NewLeaseDuration")).collect::<Vec<_>>(),
        ["3600", "0"]
    );
}

#[test]
fn a_router_with_permanent_mappings_is_asked_for_one_and_it_is_deleted_at_the_end() {
    let mut w = World::searching();
    w.respond(LOCATION);
    let permanent = |call: &RouterCall| argument(call, "NewLeaseDuration") == "0";
    let calls = w.serve_upnp(|call| Some(if permanent(call) { ok(b"") } else { fault(725) }));
    assert_eq!((calls.len(), w.said.len()), (3, 1));
    w.engine.shut_down(w.now, &mut w.out);
    w.drain();
    let ports: Vec<_> =
        w.serve_upnp(|_| None).iter().map(|call| argument(call, "NewExternalPort").to_owned()).collect();
    assert_eq!(ports, ["6881", "6882"]);
    assert!(w.engine.is_idle());
}

#[test]
fn g2_the_end_waits_half_a_second_for_a_router_that_does_not_answer() {
    let mut w = World::mapped();
    w.engine.shut_down(w.now, &mut w.out);
    w.drain();
    assert!(w.requests.len() == 2 && !w.engine.is_idle());
    w.wait(Duration::from_millis(499));
    assert!(!w.engine.is_idle());
    w.wait(Duration::from_millis(1));
    assert!(w.engine.is_idle());
}

#[test]
fn a_refusal_by_upnp_is_said_with_its_code_when_the_others_are_silent() {
    let mut w = World::searching();
    w.respond(LOCATION);
    w.serve_upnp(|_| Some(fault(606)));
    w.wait(Duration::from_secs(60));
    assert_eq!(w.said, [PortMapping::Refused { router: ROUTER.0.into(), code: 606 }]);
}

#[test]
fn g2_a_location_counts_from_the_router_and_names_the_router() {
    let mut w = World::searching();
    w.receive_bound(([192, 168, 1, 2], 1900).into(), &response(LOCATION));
    w.receive_bound(([192, 168, 1, 2], 1900).into(), &response("http://192.168.1.2/d"));
    for location in [
        "http://127.0.0.1:5000/d",
        "http://192.168.1.2/d",
        "http://198.51.100.1/d",
        "https://192.168.1.1/d",
        "http://192.168.1.1.example/d",
        "http://router/d",
        "http://user@192.168.1.1/d",
        "http://192.168.1.1@127.0.0.1/d",
        "http://[::ffff:192.168.1.1]/d",
        "ftp://192.168.1.1/d",
    ] {
        w.respond(location);
        assert!(w.requests.is_empty(), "{location}");
    }
    w.respond(LOCATION);
    assert_eq!(w.requests[0].1, LOCATION);
}

#[test]
fn g2_a_control_url_of_another_host_is_not_used() {
    for control in ["http://127.0.0.1/ctl", "http://192.168.1.2:5000/ctl", "//198.51.100.1/ctl", "https:/ctl"]
    {
        let mut w = World::searching();
        w.respond(LOCATION);
        let (id, ..) = w.requests.pop().unwrap();
        w.reply(id, Some(&ok(&description(control))));
        assert!(w.requests.is_empty(), "{control}");
    }
}

#[test]
fn g2_many_locations_cause_four_requests_and_a_redirect_none() {
    let mut w = World::searching();
    for n in 0..100 {
        w.respond(&format!("http://192.168.1.1/{n}"));
    }
    let mut requests = 0;
    while let Some((id, ..)) = w.requests.pop() {
        requests += 1;
        assert!(w.requests.is_empty(), "one at a time");
        let redirect = RouterReply { status: 302, body: description("/ctl") };
        w.reply(id, Some(&redirect));
    }
    assert_eq!(requests, 4);
    w.wait(Duration::from_secs(3600));
    assert_eq!((w.searches, w.said.len()), (12, 1));
    w.wait(Duration::from_secs(3700));
    assert_eq!(w.searches, 24, "again after two hours");
}

#[test]
fn g2_replies_without_an_open_request_change_nothing() {
    let mut w = World::mapped();
    for id in 0..100 {
        w.reply(id, Some(&fault(718)));
        w.reply(id, None);
    }
    assert!(w.requests.is_empty() && w.said == [open()]);
}

fn is(name: &str) -> impl Fn(&&RouterCall) -> bool {
    let name = format!("#{name}PortMapping");
    move |call| call.action.contains(&name)
}

#[test]
fn a_router_that_lost_its_mappings_is_asked_again_within_two_minutes() {
    let mut w = World::mapped_and_listed(3600);
    w.wait(Duration::from_secs(119));
    assert!(w.requests.is_empty());
    w.wait(Duration::from_secs(1));
    w.listed = None;
    let calls = w.serve_upnp(|_| Some(ok(b"")));
    assert!(calls.len() == 2 && calls.iter().all(|call| is("Add")(&call)), "{calls:?}");
    assert_eq!((w.said.len(), w.tcp()), (1, 6881));
    w.wait(Duration::from_secs(600));
    assert!(w.requests.is_empty(), "a router without lists is asked for none");
}

#[test]
fn a_renewal_that_the_router_ignores_is_replaced_by_a_new_mapping() {
    let mut w = World::mapped_and_listed(3600);
    for minutes in (2..30).step_by(2) {
        w.wait(Duration::from_secs(120));
        w.listed = Some(3600 - 60 * minutes);
        assert!(w.serve_upnp(|_| panic!("mapped before half of the lease")).is_empty());
    }
    w.wait(Duration::from_secs(120));
    w.listed = Some(1800);
    let calls = w.serve_upnp(|_| Some(ok(b"")));
    let count = |name| calls.iter().filter(is(name)).count();
    assert_eq!((count("Add"), count("Delete"), calls.len()), (4, 2, 6));
    assert_eq!((w.said.len(), w.tcp(), w.udp()), (1, 6881, 6882));
}

#[test]
fn a_router_that_does_not_answer_a_check_is_searched_for_and_its_mapping_is_held_meanwhile() {
    let mut w = World::searching();
    w.listed = Some(3600);
    w.respond(LOCATION);
    let taken = |call: &RouterCall| argument(call, "NewExternalPort") == "6881";
    w.serve_upnp(|call| Some(if taken(call) { fault(718) } else { ok(b"") }));
    let port = w.tcp();
    assert_ne!(port, 6881);
    w.wait(Duration::from_secs(120));
    let (id, ..) = w.requests.pop().unwrap();
    w.reply(id, None);
    assert_eq!((w.searches, w.tcp()), (6, port));
    w.respond(LOCATION);
    assert_eq!(w.serve_upnp(|_| Some(ok(b""))).len(), 2);
    assert_eq!((w.tcp(), w.said.len()), (port, 1));
}

#[test]
fn g2_a_short_lease_and_a_list_that_flickers_cause_no_flood() {
    let mut w = World::mapped_and_listed(1);
    w.wait(Duration::from_secs(59));
    assert!(w.requests.is_empty());
    w.wait(Duration::from_secs(1));
    assert_eq!(w.requests.len(), 1);

    let mut w = World::mapped_and_listed(3600);
    let mut calls = 0;
    for n in 0..30 {
        w.wait(Duration::from_secs(120));
        w.listed = (n % 2 == 1).then_some(3600);
        calls += w.serve_upnp(|_| Some(ok(b""))).len();
    }
    assert!((2..=60).contains(&calls), "{calls} calls in an hour");
}

#[test]
fn a_router_that_refuses_by_pcp_is_asked_by_upnp() {
    let mut w = World::refused_by_pcp();
    assert_eq!(w.searches, 3);
    w.respond(LOCATION);
    assert_eq!(w.serve_upnp(|_| Some(ok(b""))).len(), 2);
    assert_eq!(w.said, [open()]);
}

#[test]
fn g2_a_search_response_at_the_listening_port_is_ignored() {
    let mut w = World::searching();
    w.receive(([192, 168, 1, 1], 1900).into(), &response(LOCATION));
    assert!(w.requests.is_empty());
}

#[test]
fn the_mapping_of_a_former_address_of_ours_is_deleted() {
    let mut w = World::mapped();
    let moved = Gateway { addr: ROUTER.into(), local: [192, 168, 1, 8].into() };
    w.engine.on_gateways(w.now, Gateways { v4: Some(moved), v6: None }, &mut w.out);
    w.drain();
    let calls = w.serve_upnp(|_| panic!("mapped"));
    assert!(calls.len() == 2 && calls.iter().all(|call| is("Delete")(&call)), "{calls:?}");
}
