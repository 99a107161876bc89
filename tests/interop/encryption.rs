//! Encrypted connections (MSE) with other clients: each one told to require encryption, and rill told to.

use crate::clients::Client;
use crate::content::{Shape, Torrent};
use crate::lab::{Lab, free_port, host};
use crate::need;
use crate::tracker::OpenTracker;

/// Transfers content between clients that are told these words. Returns what rill said.
pub fn exchange(from: (Client, &[&str]), to: (Client, &[&str])) -> String {
    let lab = Lab::new();
    let tracker = OpenTracker::new();
    let torrent = Torrent::make(&lab, Shape::single(3_000_001, 64 << 10), &[&[&tracker.http()]]);
    tracker.start(&lab, &[&torrent]);
    let port = free_port();
    // If the tracker lists rtorrent itself first, rtorrent dials only itself, so rill must dial rtorrent.
    let meet = format!("--peer={}:{port}", host());
    let meet = (to.0 == Client::Rtorrent).then_some(meet.as_str());
    let told: Vec<&str> = from.1.iter().copied().chain(meet).collect();
    let seed = from.0.seed_told(&lab, &torrent, &torrent.dir, &told);
    tracker.wait_for_seeds(&lab, &torrent, 1);
    let out = lab.new_dir("out");
    let fetch = to.0.fetch_told(&lab, &torrent, &out, port, to.1);
    torrent.must_be_in(&out, &lab);
    if to.0 == Client::Rill {
        return fetch.words();
    }
    seed.signal("TERM");
    seed.code();
    seed.words()
}

/// Transfers both ways between a client and rill; the connections must be encrypted.
fn both_ways(client: Client, words: &[&str], rill: &str) {
    need!("opentracker", client.program());
    let rill = (Client::Rill, &["--encryption", rill][..]);
    for said in [exchange((client, words), rill), exchange(rill, (client, words))] {
        assert!(said.contains(" encrypted)"), "{client:?} {words:?}: {said}");
    }
}

// The whole stream: libtorrent's policies are 0 for required, its levels 1 for plaintext and 2 for RC4.

#[test]
#[ignore = "needs other programs"]
fn libtorrent_that_requires_rc4() {
    both_ways(Client::Libtorrent, &["in_enc_policy=0", "out_enc_policy=0", "allowed_enc_level=2"], "allow");
}

#[test]
#[ignore = "needs other programs"]
fn aria2_that_requires_rc4() {
    both_ways(Client::Aria2, &["--bt-force-encryption=true"], "allow");
}

#[test]
#[ignore = "needs other programs"]
fn transmission_that_requires_encryption() {
    both_ways(Client::Transmission, &["-er"], "allow");
}

#[test]
#[ignore = "needs other programs"]
fn rtorrent_that_requires_rc4() {
    let line = "protocol.encryption.set=allow_incoming,try_outgoing,require,require_RC4\n";
    both_ways(Client::Rtorrent, &[line], "allow");
}

// The negotiation alone.

#[test]
#[ignore = "needs other programs"]
fn libtorrent_that_requires_a_negotiation_with_the_plaintext_method() {
    both_ways(Client::Libtorrent, &["in_enc_policy=0", "out_enc_policy=0", "allowed_enc_level=1"], "allow");
}

#[test]
#[ignore = "needs other programs"]
fn aria2_that_requires_a_negotiation_with_the_plaintext_method() {
    both_ways(Client::Aria2, &["--bt-require-crypto=true", "--bt-min-crypto-level=plain"], "allow");
}

// rill requires or prefers it; the others have what they come with.

#[test]
#[ignore = "needs other programs"]
fn rill_that_requires_rc4_and_libtorrent_and_aria2_as_they_come() {
    both_ways(Client::Libtorrent, &[], "require");
    both_ways(Client::Aria2, &[], "require");
}

#[test]
#[ignore = "needs other programs"]
fn rill_that_prefers_encryption_dials_libtorrent_and_transmission_as_they_come_with_it() {
    let rill = (Client::Rill, &["--encryption", "prefer"][..]);
    for other in [Client::Libtorrent, Client::Transmission] {
        need!("opentracker", other.program());
        let said = exchange((other, &[]), rill);
        assert!(said.contains(" encrypted)"), "{other:?}: {said}");
    }
}

#[test]
#[ignore = "needs other programs"]
fn rill_that_prefers_encryption_and_a_libtorrent_that_refuses_it_transfer_in_the_clear() {
    need!("opentracker", "libtorrent");
    let plain: &[&str] = &["in_enc_policy=2", "out_enc_policy=2"];
    let rill = (Client::Rill, &["--encryption", "prefer"][..]);
    for said in [exchange((Client::Libtorrent, plain), rill), exchange(rill, (Client::Libtorrent, plain))] {
        assert!(said.contains(" connected") && !said.contains(" encrypted)"), "{said}");
    }
}
