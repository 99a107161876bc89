//! SOCKS version 5 (RFC 1928, RFC 1929), the client's side: the negotiation of a connection through a proxy.
//!
//! ```text
//!   Greeting ──method──▶ (Login ──▶) Request ──reply──▶ the stream of the target
//! ```
//!
//! A [`Socks5Negotiation`] asks for exactly the bytes of the next field, so what follows the reply stays in the socket.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use thiserror::Error;

const VERSION: u8 = 5;
/// The version of the user name and password exchange (RFC 1929).
const LOGIN_VERSION: u8 = 1;
const CONNECT: u8 = 1;
const NO_LOGIN: u8 = 0;
const USER_AND_PASSWORD: u8 = 2;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;
/// Version, reply, reserved byte, address type, and the first byte of the address.
const REPLY_HEAD: usize = 5;
/// Most bytes of a reply: a name of 255 bytes.
const REPLY_BYTES: usize = REPLY_HEAD + 255 + 2;
/// Most bytes of a host name, a user name and a password: the length is one byte.
pub const NAME_BYTES: usize = 255;

/// A user name and a password. Its debug output holds neither.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    user: Vec<u8>,
    password: Vec<u8>,
}

impl Login {
    /// Returns the login; `None` if the name is empty or one of both has more than [`NAME_BYTES`].
    pub fn new(user: Vec<u8>, password: Vec<u8>) -> Option<Login> {
        let fits = !user.is_empty() && user.len() <= NAME_BYTES && password.len() <= NAME_BYTES;
        fits.then_some(Login { user, password })
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(…)")
    }
}

/// What the proxy connects to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// An address.
    Addr(SocketAddr),
    /// A host name that the proxy resolves, at most [`NAME_BYTES`], and a port.
    Name(String, u16),
}

impl Target {
    /// Returns the target for a host name or a literal address, without brackets; `None` for an empty or too long
    /// name.
    pub fn of_host(host: &str, port: u16) -> Option<Target> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Some(Target::Addr(SocketAddr::new(ip, port)));
        }
        (!host.is_empty() && host.len() <= NAME_BYTES).then(|| Target::Name(host.to_owned(), port))
    }

    fn write(&self, out: &mut Vec<u8>) {
        let port = match self {
            Target::Addr(addr) => {
                match addr.ip().to_canonical() {
                    IpAddr::V4(ip) => {
                        out.push(IPV4);
                        out.extend(ip.octets());
                    }
                    IpAddr::V6(ip) => {
                        out.push(IPV6);
                        out.extend(ip.octets());
                    }
                }
                addr.port()
            }
            Target::Name(name, port) => {
                let name = name.as_bytes().get(..NAME_BYTES).unwrap_or(name.as_bytes());
                out.push(NAME);
                out.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
                out.extend(name);
                *port
            }
        };
        out.extend(port.to_be_bytes());
    }
}

/// Why the proxy did not do what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Socks5Error {
    /// The answer is not of SOCKS version 5.
    #[error("it is not a SOCKS5 proxy")]
    NotSocks5,
    /// It wants a user name and a password, and there is none, or another method.
    #[error("it asks for a login, and the one in the option is missing or of another kind")]
    LoginNeeded,
    /// It refuses the user name and password.
    #[error("it refuses the user name and password")]
    LoginRefused,
    /// It cannot carry out the request, see RFC 1928 section 6.
    #[error("{}", reason(*.0))]
    Refused(u8),
}

/// Returns the meaning of a reply.
fn reason(reply: u8) -> &'static str {
    match reply {
        1 => "it has failed",
        2 => "its rules do not allow this connection",
        3 => "the network is unreachable from it",
        4 => "the host is unreachable from it",
        5 => "the host refused the connection",
        6 => "the host did not answer it",
        7 => "it does not relay this kind of traffic",
        8 => "it does not know this kind of address",
        _ => "it refuses for an unknown reason",
    }
}

impl Socks5Error {
    /// Returns whether the target is the cause: with another target the proxy may succeed.
    pub fn is_of_target(self) -> bool {
        matches!(self, Socks5Error::Refused(_))
    }

    /// Returns whether the target refused the connection.
    pub fn is_refusal(self) -> bool {
        self == Socks5Error::Refused(5)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Method,
    Login,
    ReplyHead,
    /// The rest of a reply, with the length of the whole.
    ReplyRest(usize),
    Done,
}

/// The negotiation of one connection with the proxy. The caller writes [`output`](Socks5Negotiation::output) and reads
/// into [`room`](Socks5Negotiation::room) until the result is there.
#[derive(Debug)]
pub struct Socks5Negotiation {
    step: Step,
    login: Option<Login>,
    request: Vec<u8>,
    output: Vec<u8>,
    written: usize,
    input: [u8; REPLY_BYTES],
    read: usize,
}

impl Socks5Negotiation {
    /// Begins a negotiation.
    pub fn new(target: &Target, login: Option<Login>) -> Socks5Negotiation {
        let mut request = vec![VERSION, CONNECT, 0];
        target.write(&mut request);
        let output = match login {
            Some(_) => vec![VERSION, 2, NO_LOGIN, USER_AND_PASSWORD],
            None => vec![VERSION, 1, NO_LOGIN],
        };
        let input = [0; REPLY_BYTES];
        Socks5Negotiation { step: Step::Method, login, request, output, written: 0, input, read: 0 }
    }

    /// Returns the bytes to write next.
    pub fn output(&self) -> &[u8] {
        self.output.get(self.written..).unwrap_or_default()
    }

    /// So many bytes of the output were written.
    pub fn on_written(&mut self, bytes: usize) {
        self.written = self.written.saturating_add(bytes);
    }

    /// Returns whether the request was sent: the proxy has taken the login, and what follows is about the target.
    pub fn is_requested(&self) -> bool {
        matches!(self.step, Step::ReplyHead | Step::ReplyRest(_) | Step::Done)
    }

    /// Returns the length of the field that is being read.
    fn wanted(&self) -> usize {
        match self.step {
            Step::Method | Step::Login => 2,
            Step::ReplyHead => REPLY_HEAD,
            Step::ReplyRest(len) => len,
            Step::Done => 0,
        }
    }

    /// Returns the room for the next bytes; empty at the end.
    pub fn room(&mut self) -> &mut [u8] {
        let wanted = self.wanted();
        self.input.get_mut(self.read..wanted).unwrap_or_default()
    }

    /// So many bytes were read into [`room`](Socks5Negotiation::room). Returns whether the negotiation is over: what follows
    /// is the target's.
    ///
    /// # Errors
    /// The proxy refuses, or is none.
    pub fn on_read(&mut self, bytes: usize) -> Result<bool, Socks5Error> {
        self.read = self.read.saturating_add(bytes);
        if self.read < self.wanted() || self.step == Step::Done {
            return Ok(false);
        }
        let [first, second, _, kind, length, ..] = self.input;
        match self.step {
            Step::Method => match (first, second, self.login.take()) {
                (VERSION, NO_LOGIN, _) => self.say(self.request.clone(), Step::ReplyHead),
                (VERSION, USER_AND_PASSWORD, Some(login)) => {
                    let mut message = vec![LOGIN_VERSION];
                    for part in [&login.user, &login.password] {
                        message.push(u8::try_from(part.len()).unwrap_or(u8::MAX));
                        message.extend(part);
                    }
                    self.say(message, Step::Login);
                }
                (VERSION, ..) => return Err(Socks5Error::LoginNeeded),
                _ => return Err(Socks5Error::NotSocks5),
            },
            // Some proxies answer with their own version instead of that of the exchange.
            Step::Login if second != 0 => return Err(Socks5Error::LoginRefused),
            Step::Login => self.say(self.request.clone(), Step::ReplyHead),
            Step::ReplyHead => {
                if first != VERSION {
                    return Err(Socks5Error::NotSocks5);
                }
                if second != 0 {
                    return Err(Socks5Error::Refused(second));
                }
                let rest = match kind {
                    IPV4 => 3,
                    IPV6 => 15,
                    NAME => usize::from(length),
                    _ => return Err(Socks5Error::NotSocks5),
                };
                self.step = Step::ReplyRest(REPLY_HEAD.saturating_add(rest).saturating_add(2));
            }
            // The address that the proxy connects from is of no use.
            Step::ReplyRest(_) => {
                self.step = Step::Done;
                return Ok(true);
            }
            Step::Done => {}
        }
        Ok(false)
    }

    fn say(&mut self, output: Vec<u8>, next: Step) {
        (self.output, self.written, self.read, self.step) = (output, 0, 0, next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login() -> Option<Login> {
        Login::new(b"user".to_vec(), b"secret".to_vec())
    }

    fn to(addr: &str) -> Target {
        Target::Addr(addr.parse().unwrap())
    }

    /// Feeds the negotiation as a stream would: never more than it has room for. Returns the result, and the
    /// bytes that it left in the stream.
    fn feed(negotiation: &mut Socks5Negotiation, bytes: &[u8]) -> (Result<bool, Socks5Error>, usize) {
        let mut rest = bytes;
        loop {
            let room = negotiation.room();
            let n = room.len().min(rest.len());
            if n == 0 {
                return (Ok(false), rest.len());
            }
            room[..n].copy_from_slice(&rest[..n]);
            rest = &rest[n..];
            match negotiation.on_read(n) {
                Ok(false) => {}
                end => return (end, rest.len()),
            }
        }
    }

    #[test]
    fn a_connection_is_asked_for_with_a_login() {
        let mut n = Socks5Negotiation::new(&to("192.0.2.1:258"), login());
        assert_eq!(n.output(), [5, 2, 0, 2]);
        n.on_written(4);
        assert!(n.output().is_empty());
        assert_eq!(feed(&mut n, &[5, 2]), (Ok(false), 0));
        assert_eq!(n.output(), b"\x01\x04user\x06secret");
        assert_eq!(feed(&mut n, &[1, 0]), (Ok(false), 0));
        assert_eq!(n.output(), [5, 1, 0, 1, 192, 0, 2, 1, 1, 2]);
        assert_eq!(feed(&mut n, &[5, 0, 0, 1, 10, 0, 0, 1, 0, 80]), (Ok(true), 0));
        assert!(!format!("{:?}", login()).contains("secret"));
    }

    #[test]
    fn names_and_addresses_of_both_families_are_written() {
        let request = |target: &Target| {
            let mut n = Socks5Negotiation::new(target, None);
            assert_eq!(n.output(), [5, 1, 0]);
            assert_eq!(feed(&mut n, &[5, 0]), (Ok(false), 0));
            n.output().to_vec()
        };
        assert_eq!(request(&to("[::ffff:1.2.3.4]:1")), [5, 1, 0, 1, 1, 2, 3, 4, 0, 1]);
        assert_eq!(request(&to("[2001:db8::1]:1"))[..8], [5, 1, 0, 4, 0x20, 1, 0xd, 0xb8]);
        assert_eq!(request(&Target::of_host("a.b", 6881).unwrap()), b"\x05\x01\x00\x03\x03a.b\x1a\xe1");
        assert_eq!(Target::of_host("::1", 5), Some(to("[::1]:5")));
        assert!(Target::of_host(&"x".repeat(256), 1).is_none() && Target::of_host("", 1).is_none());
    }

    #[test]
    fn n4_what_is_no_proxy_or_refuses_is_told_apart() {
        let answered =
            |login, answer: &[u8]| feed(&mut Socks5Negotiation::new(&to("192.0.2.1:1"), login), answer).0;
        assert_eq!(answered(None, b"HTTP/1.1 400"), Err(Socks5Error::NotSocks5));
        assert_eq!(answered(None, &[4, 0]), Err(Socks5Error::NotSocks5));
        assert_eq!(answered(None, &[5, 2]), Err(Socks5Error::LoginNeeded), "a login that was not offered");
        assert_eq!(answered(login(), &[5, 255]), Err(Socks5Error::LoginNeeded));
        assert_eq!(answered(login(), &[5, 2, 1, 1]), Err(Socks5Error::LoginRefused));
        assert_eq!(answered(None, &[5, 0, 5, 5, 0, 1, 0]), Err(Socks5Error::Refused(5)));
        assert_eq!(answered(None, &[5, 0, 4, 0, 0, 1, 0]), Err(Socks5Error::NotSocks5));
        assert_eq!(
            answered(None, &[5, 0, 5, 0, 0, 9, 0]),
            Err(Socks5Error::NotSocks5),
            "an unknown address type"
        );
        assert_eq!(answered(None, &[5]), Ok(false), "a short answer is waited for");
    }

    #[test]
    fn n4_bytes_behind_the_reply_stay_in_the_stream() {
        let mut longest = vec![5, 0, 5, 0, 0, 3, 255];
        longest.extend([b'x'; 257]);
        for reply in [
            &b"\x05\x00\x05\x00\x00\x01\x01\x02\x03\x04\x00\x05"[..],
            &b"\x05\x00\x05\x00\x00\x03\x00\x00\x05"[..],
            &longest[..],
        ] {
            let mut all = reply.to_vec();
            all.extend(b"\x13BitTorrent protocol");
            let mut n = Socks5Negotiation::new(&to("192.0.2.1:1"), None);
            assert_eq!(feed(&mut n, &all), (Ok(true), 20));
            assert!(n.room().is_empty());
        }
    }
}
