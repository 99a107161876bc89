//! Connections over uTP (BEP 29) with libtorrent, which is told to do without TCP.

use crate::clients::Client;
use crate::encryption::exchange;
use crate::need;

/// The settings of a libtorrent without TCP.
const WITHOUT_TCP: [&str; 4] =
    ["enable_incoming_tcp=0", "enable_outgoing_tcp=0", "enable_incoming_utp=1", "enable_outgoing_utp=1"];

/// Transfers both ways between rill as it comes and a libtorrent without TCP, told more. The tracker names the
/// address of libtorrent: rill finds that TCP does not reach it, and dials it over uTP.
fn both_ways(more: &[&str], details: &str) {
    need!("opentracker", Client::Libtorrent.program());
    let words = [&WITHOUT_TCP[..], more].concat();
    let (rill, libtorrent) = ((Client::Rill, &[][..]), (Client::Libtorrent, &words[..]));
    for said in [exchange(libtorrent, rill), exchange(rill, libtorrent)] {
        assert!(said.contains(details), "{more:?}: {said}");
    }
}

#[test]
#[ignore = "needs other programs"]
fn libtorrent_without_tcp() {
    both_ways(&["in_enc_policy=2", "out_enc_policy=2"], "1 connected (1 over uTP)");
}

#[test]
#[ignore = "needs other programs"]
fn libtorrent_without_tcp_that_requires_rc4() {
    let rc4 = ["in_enc_policy=0", "out_enc_policy=0", "allowed_enc_level=2"];
    both_ways(&rc4, "1 connected (1 encrypted, 1 over uTP)");
}
