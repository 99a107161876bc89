//! Encrypted connections (MSE): who negotiates, what it costs, and what an attempt shows about an address
//! (hazards E1 to E4).

use crate::engine::testing::{HASH, PEX_ID, Received, TestWorld, handshake};
use crate::engine::{
    Action, DisconnectReason, Encryption, StreamCipher, StreamEncryption, TorrentSpec, limits,
};
use crate::units::{InfoHash, PeerId, PeerKey, TransportKind};
use crate::wire::mse::{Dialer, Established, KeyPair, PLAINTEXT, RC4};
use crate::wire::{
    ExtendedHandshake, ExtensionIds, Handshake, Message, PEX_ENCRYPTION, PexMessage, write_pex,
};
use std::net::SocketAddr;

fn addr() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 6881))
}

fn world(encryption: Encryption) -> TestWorld {
    TestWorld::with_setup(|s| s.config.encryption = encryption)
}

/// Returns a world that dials one peer.
fn dialing_world(encryption: Encryption) -> TestWorld {
    let mut w = TestWorld::with_setup(|s| {
        s.config.encryption = encryption;
        s.spec.peers = vec![addr()];
    });
    w.advance(0.2);
    w
}

fn bytes_from(w: &mut TestWorld, p: PeerKey) -> Vec<u8> {
    w.puppets.get_mut(&p).unwrap().from_engine.drain(..).collect()
}

/// Completes the last dial. Returns its connection, and whether it begins with a handshake.
fn complete_dial(w: &mut TestWorld) -> (PeerKey, bool) {
    let (p, _) = *w.dials.last().unwrap();
    w.dialed(p);
    let is_plain = bytes_from(w, p).starts_with(b"\x13BitTorrent protocol");
    (p, is_plain)
}

/// Sends the messages of a caller for this torrent, up to the third one.
fn call(w: &mut TestWorld, host: u8, hash: [u8; 20], provide: u32) -> (PeerKey, Dialer) {
    let p = w.connect(host);
    let mut message = Vec::new();
    let keys = KeyPair::new([host; 20]);
    let mut dialer = Dialer::new(keys, hash, provide, &[5; 77], &handshake(host, true), &mut message);
    w.send(p, &message);
    message.clear();
    let answer = bytes_from(w, p);
    assert!(dialer.receive(&answer, &mut message).unwrap().is_none());
    w.send(p, &message);
    (p, dialer)
}

fn finish(w: &mut TestWorld, p: PeerKey, dialer: &mut Dialer) -> Established {
    let answer = bytes_from(w, p);
    dialer.receive(&answer, &mut Vec::new()).unwrap().unwrap()
}

#[test]
fn a_caller_gets_the_method_that_the_policy_prefers_of_those_that_it_offers() {
    for (policy, provide, encrypted) in [
        (Encryption::Allow, PLAINTEXT | RC4, false),
        (Encryption::Prefer, PLAINTEXT, false),
        (Encryption::Prefer, PLAINTEXT | RC4, true),
        (Encryption::Allow, RC4, true),
        (Encryption::Require, PLAINTEXT | RC4, true),
    ] {
        let mut w = world(policy);
        let (p, mut dialer) = call(&mut w, 3, HASH.0, provide);
        let cipher = w.engine.take_cipher(p);
        assert_eq!(matches!(cipher, StreamCipher::Rc4 { .. }), encrypted, "{policy:?}");
        assert!(encrypted || matches!(cipher, StreamCipher::Plain));
        let done = finish(&mut w, p, &mut dialer);
        assert_eq!(done.ciphers.is_some(), encrypted);
        let counts = w.engine.connection_counts().incoming;
        assert_eq!((counts.connected, counts.encrypted), (1, 1));
        let status = &w.engine.peer_stats(w.now, w.torrent).unwrap()[0];
        let word = if encrypted { StreamEncryption::Rc4 } else { StreamEncryption::Negotiation };
        assert_eq!((status.encryption, status.dialed, status.transport), (word, false, TransportKind::Tcp));
    }
    let mut w = world(Encryption::Require);
    let (p, _) = call(&mut w, 3, HASH.0, PLAINTEXT);
    assert!(!w.is_open(p));
}

#[test]
fn e1_ten_thousand_public_keys_without_more_cost_an_exponentiation_each_ten_seconds() {
    let mut w = world(Encryption::Allow);
    for n in 0..10_000_u32 {
        let [_, _, a, b] = n.to_be_bytes();
        let p = w.connect_from(SocketAddr::from(([10, 1, a, b], 5000)));
        // Nineteen bytes behind the key need no secret yet.
        w.send(p, &[0xee; 96 + 19]);
        assert!(w.is_open(p) && bytes_from(&mut w, p).len() >= 96);
        w.advance(0.002);
    }
    let allowed = 10_000 * 2 / 1_000 / 10 + 1;
    assert!(w.engine.swarms.key_exchange.exponentiations() <= allowed);
    assert!(w.engine.connections() <= limits::INCOMING_WITHOUT_HANDSHAKE);
}

#[test]
fn e1_callers_with_bytes_behind_their_key_wait_for_their_turn() {
    let mut w = world(Encryption::Allow);
    let at_once = u64::from(limits::MSE_AT_ONCE);
    for n in 0..500_u32 {
        let [_, _, a, b] = n.to_be_bytes();
        let p = w.connect_from(SocketAddr::from(([10, 1, a, b], 5000)));
        w.send(p, &[0xee; 96 + 200]);
    }
    assert_eq!(w.engine.swarms.key_exchange.exponentiations(), at_once + 1);
    // An honest caller beside them is served once its turn comes.
    let (p, mut dialer) = call(&mut w, 3, HASH.0, RC4);
    assert!(bytes_from(&mut w, p).is_empty());
    w.advance(2.0);
    let done = finish(&mut w, p, &mut dialer);
    assert!(done.ciphers.is_some() && w.is_open(p));
    let spent = w.engine.swarms.key_exchange.exponentiations();
    assert!(spent <= at_once + 2 + 2 * u64::from(limits::MSE_PER_SECOND), "{spent}");
}

#[test]
fn e2_a_replayed_negotiation_does_not_establish_a_connection() {
    let mut w = world(Encryption::Allow);
    let p = w.connect(3);
    let mut first = Vec::new();
    let mut dialer = Dialer::new(KeyPair::new([3; 20]), HASH.0, RC4, &[], &handshake(3, true), &mut first);
    w.send(p, &first);
    let mut third = Vec::new();
    let answer = bytes_from(&mut w, p);
    assert!(dialer.receive(&answer, &mut third).unwrap().is_none());
    w.send(p, &third);
    assert!(matches!(w.engine.take_cipher(p), StreamCipher::Rc4 { .. }));
    // The same bytes again meet another key pair.
    let again = w.connect(4);
    w.send(again, &first);
    w.send(again, &third);
    w.send(again, &[0; 600]);
    assert!(!w.is_open(again));
}

#[test]
fn e3_a_caller_that_names_no_running_torrent_is_closed() {
    let mut w = world(Encryption::Allow);
    let (p, _) = call(&mut w, 3, [9; 20], RC4);
    assert_eq!(w.disconnect_reason(p), Some(DisconnectReason::UnknownTorrent));
    w.engine.pause(w.now, w.torrent, &mut w.out);
    w.run_actions();
    let (p, _) = call(&mut w, 4, HASH.0, RC4);
    assert_eq!(w.disconnect_reason(p), Some(DisconnectReason::UnknownTorrent));
    w.engine.remove_torrent(w.now, w.torrent, &mut w.out);
    assert!(w.engine.swarms.by_mse_key.is_empty());
}

#[test]
fn e3_a_caller_that_names_another_torrent_in_its_handshake_than_in_its_negotiation_is_closed() {
    let other = InfoHash([9; 20]);
    for (named, open) in [(HASH, true), (other, false)] {
        let mut w = world(Encryption::Allow);
        let spec = TorrentSpec {
            info_hash: other,
            torrent_info: None,
            trackers: Vec::new(),
            peers: Vec::new(),
            sequential: false,
            download_limit: None,
            upload_limit: None,
        };
        let key = w.engine.add_torrent(w.now, spec).unwrap();
        w.engine.resume(w.now, key);
        // The handshake that follows names HASH.
        let (p, _) = call(&mut w, 3, named.0, PLAINTEXT);
        assert_eq!(w.is_open(p), open);
        assert!(open || w.disconnect_reason(p) == Some(DisconnectReason::WrongTorrent));
    }
}

#[test]
fn e4_a_public_key_that_begins_as_a_handshake_is_told_from_one() {
    for shared in [1, 19] {
        let mut w = world(Encryption::Allow);
        let p = w.connect(3);
        let key = [&b"\x13BitTorrent protocol"[..shared], &[0xee; 96][shared..]].concat();
        w.send(p, &key[..shared]);
        assert!(bytes_from(&mut w, p).is_empty());
        w.send(p, &key[shared..]);
        assert!(w.is_open(p) && bytes_from(&mut w, p).len() >= 96, "{shared}");
    }
    let mut w = world(Encryption::Off);
    let p = w.connect(3);
    w.send(p, &[0xee]);
    assert!(!w.is_open(p), "without encryption the first byte that differs closes");
}

#[test]
fn plain_callers_are_accepted_unless_encryption_is_required() {
    for (policy, open) in
        [(Encryption::Allow, true), (Encryption::Prefer, true), (Encryption::Require, false)]
    {
        let mut w = world(policy);
        let p = w.connect_with_handshake(3);
        assert_eq!(w.is_open(p), open, "{policy:?}");
    }
}

#[test]
fn a_peer_that_closes_on_a_plain_handshake_is_dialed_encrypted_at_once_and_only_once() {
    let mut w = dialing_world(Encryption::Allow);
    let (p, is_plain) = complete_dial(&mut w);
    assert!(is_plain);
    w.disconnect(p);
    w.advance(0.2);
    assert_eq!(w.dials.len(), 2);
    let (p, is_plain) = complete_dial(&mut w);
    assert!(!is_plain);
    w.disconnect(p);
    w.advance(1.0);
    assert_eq!(w.dials.len(), 2, "a second failure waits");
    w.advance(limits::REDIAL_SOON.as_secs_f64());
    let (p, is_plain) = complete_dial(&mut w);
    assert!(is_plain, "without an answer to the key the next try is plain");
    w.disconnect(p);
    w.advance(1.0);
    assert_eq!(w.dials.len(), 3);
}

#[test]
fn a_silent_peer_is_dialed_encrypted_the_next_time() {
    let mut w = dialing_world(Encryption::Allow);
    assert!(complete_dial(&mut w).1);
    w.advance(limits::HANDSHAKE_TIMEOUT.as_secs_f64() + 1.0);
    assert_eq!(w.dials.len(), 1);
    w.advance(limits::REDIAL_SOON.as_secs_f64());
    assert!(!complete_dial(&mut w).1);
}

#[test]
fn a_plain_answer_to_a_key_is_followed_by_a_plain_dial() {
    let mut w = dialing_world(Encryption::Prefer);
    let (p, is_plain) = complete_dial(&mut w);
    assert!(!is_plain);
    w.send(p, &handshake(1, true));
    assert!(!w.is_open(p));
    w.advance(0.2);
    let (p, is_plain) = complete_dial(&mut w);
    assert!(is_plain);
    w.send(p, &handshake(1, true));
    assert!(w.is_open(p));
    assert_eq!(w.engine.connection_counts().dialed.connected, 1);
}

#[test]
fn a_peer_that_closes_during_the_negotiation_is_dialed_plain_the_next_time() {
    let mut w = dialing_world(Encryption::Prefer);
    let (p, is_plain) = complete_dial(&mut w);
    assert!(!is_plain);
    let mut answer = Vec::new();
    let _ = Dialer::new(KeyPair::new([7; 20]), HASH.0, RC4, &[], &[], &mut answer);
    w.send(p, &answer);
    assert!(w.is_open(p), "the public key of the peer");
    w.disconnect(p);
    w.advance(1.0);
    assert_eq!(w.dials.len(), 1, "it is no sign that plain connections are accepted");
    w.advance(limits::REDIAL_SOON.as_secs_f64());
    assert!(complete_dial(&mut w).1);
}

#[test]
fn with_require_or_off_a_failure_changes_nothing() {
    for (policy, plain) in [(Encryption::Require, false), (Encryption::Off, true)] {
        let mut w = dialing_world(policy);
        for dials in 1..=2 {
            assert_eq!(w.dials.len(), dials);
            let (p, is_plain) = complete_dial(&mut w);
            assert_eq!(is_plain, plain, "{policy:?}");
            w.disconnect(p);
            w.advance(limits::REDIAL_SOON.as_secs_f64() + 1.0);
        }
    }
}

/// Sends the extended handshake of a peer that prefers encryption, or says that it does not.
fn says(w: &mut TestWorld, p: PeerKey, encryption: Option<bool>) {
    let ids = ExtensionIds { ut_pex: PEX_ID, ..ExtensionIds::default() };
    let theirs = ExtendedHandshake { ids, port: Some(1000), encryption, ..ExtendedHandshake::default() };
    w.send_messages(p, &[Message::Extended { id: 0, payload: &theirs.encode() }]);
}

#[test]
fn a_peer_that_prefers_encryption_is_marked_in_pex_and_a_marked_address_is_dialed_with_it() {
    let mut w = world(Encryption::Allow);
    let prefers = w.connect_with_handshake(1);
    says(&mut w, prefers, Some(true));
    let other = w.connect_with_handshake(2);
    says(&mut w, other, Some(false));
    let reader = w.connect_with_handshake(3);
    says(&mut w, reader, None);
    w.advance(2.0);
    let added: Vec<u8> = w
        .received(reader)
        .iter()
        .filter_map(|m| if let Received::Pex(payload) = m { PexMessage::parse(payload) } else { None })
        .flat_map(|m| m.added().map(|(_, flags)| flags & PEX_ENCRYPTION).collect::<Vec<_>>())
        .collect();
    assert_eq!(added, [PEX_ENCRYPTION, 0]);

    let named = [(SocketAddr::from(([20, 5, 5, 5], 55)), PEX_ENCRYPTION)];
    let payload = write_pex(&named, &[]);
    w.send_messages(reader, &[Message::Extended { id: ExtensionIds::OURS.ut_pex, payload: &payload }]);
    w.advance(0.2);
    assert!(!complete_dial(&mut w).1, "the marked address is dialed with encryption");
}

#[test]
fn trackers_and_peers_are_told_what_the_policy_wants() {
    for (policy, words, preferred) in [
        (Encryption::Off, "", None),
        (Encryption::Allow, "", None),
        (Encryption::Prefer, "&supportcrypto=1", Some(true)),
        (Encryption::Require, "&supportcrypto=1&requirecrypto=1", Some(true)),
    ] {
        let mut w = TestWorld::with_setup(|s| {
            s.config.encryption = policy;
            s.spec.trackers = vec![vec!["http://tracker.test/announce".into()]];
        });
        w.advance(0.2);
        let url = w.log.iter().find_map(|a| match a {
            Action::Announce { url, .. } => Some(url.to_string()),
            _ => None,
        });
        let url = url.expect("an announce");
        let at = url.find("&supportcrypto").unwrap_or(url.len());
        assert!(url[at..].starts_with(words) && (at == url.len()) == words.is_empty(), "{url}");
        assert_eq!(url.contains("requirecrypto"), policy == Encryption::Require, "{url}");

        if policy == Encryption::Require {
            continue; // It answers no plain handshake.
        }
        let p = w.connect(3);
        let theirs =
            Handshake { info_hash: HASH, peer_id: PeerId([3; 20]), fast: true, extended: true, dht: false };
        w.send(p, &theirs.to_bytes());
        let sent = w.received(p);
        let told = sent.iter().find_map(|m| match m {
            Received::ExtendedHandshake(payload) => {
                Some(ExtendedHandshake::parse(payload).unwrap().encryption)
            }
            _ => None,
        });
        assert_eq!(told, Some(preferred), "{policy:?}: {sent:?}");
    }
}
