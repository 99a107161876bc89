//! Trackers that attack during a download from a good peer: rate and memory stay the same, and a signal stops
//! rill in time.

use crate::bystanders::Seed;
use crate::lab::{Lab, free_port};
use crate::need;
use crate::rig::{Endless, GOOD_RATE, MEMORY_MARGIN, Target, rill};
use crate::web::{Server, bomb, endless, redirect, reply, send_slowly, silence, with_peers};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// How long each download is measured.
const WATCHED: Duration = Duration::from_secs(4);
/// Time limit of a stop: the last announce has five seconds, the rest of the process half a second.
const STOP: Duration = Duration::from_millis(5_500);

/// Measurements of a download.
struct Run {
    rate: f64,
    memory: u64,
    stop: Duration,
}

/// Downloads with these trackers, measures, and stops rill.
fn run(tiers: &[Vec<String>]) -> Run {
    let lab = Lab::on_loopback();
    let torrent = Endless::new(&lab, 1024, tiers);
    let seed = Seed::start(9, &torrent);
    let target = Target::getting(&lab, rill(), &torrent, &[seed.address]);
    lab.wait_for("it downloads", || seed.uploaded.load(Relaxed) > GOOD_RATE / 16);
    let begun = Instant::now();
    let before = seed.uploaded.load(Relaxed);
    let mut memory = 0;
    while begun.elapsed() < WATCHED {
        memory = memory.max(target.memory());
        std::thread::sleep(Duration::from_millis(10));
    }
    let rate = (seed.uploaded.load(Relaxed) - before) as f64 / begun.elapsed().as_secs_f64();
    let signalled_at = Instant::now();
    target.kid.signal("INT");
    assert_eq!(target.kid.code(), 7, "{}", lab.words());
    Run { rate, memory, stop: signalled_at.elapsed() }
}

/// Compares a download without and with attacking trackers, which must have received a request.
fn compare(what: &str, attackers: &[Server], tiers: &[Vec<String>]) {
    let quiet = run(&[]);
    let attacked = run(tiers);
    let kept = attacked.rate / quiet.rate;
    let grown = attacked.memory.saturating_sub(quiet.memory);
    println!(
        "{what}: keeps {:.0} %, memory +{} KiB, stops in {:?}",
        kept * 100.0,
        grown / 1024,
        attacked.stop
    );
    for attacker in attackers {
        assert!(!attacker.requests().is_empty(), "{what}: {} received no request", attacker.url());
    }
    assert!(
        quiet.rate > GOOD_RATE as f64 * 0.5,
        "{what}: {:.0} bytes a second without attack, which is too slow to compare",
        quiet.rate
    );
    assert!(kept >= 0.9, "{what}: the download keeps {:.0} % of its rate", kept * 100.0);
    assert!(grown <= MEMORY_MARGIN, "{what}: memory grew by {} KiB", grown / 1024);
    assert!(attacked.stop < STOP, "{what}: it took {:?} to stop", attacked.stop);
}

fn one(what: &str, attacker: Server) {
    let tiers = [vec![attacker.url()]];
    compare(what, &[attacker], &tiers);
}

#[test]
#[ignore = "measures: wants the machine for itself"]
fn k2_bodies_without_end_and_bombs_cost_the_download_nothing() {
    one("an endless body", Server::start(|stream, _| endless(stream)));
    one("a gzip bomb", Server::start(|stream, _| bomb(stream)));
}

#[test]
#[ignore = "measures: wants the machine for itself"]
fn k3_trackers_that_drip_or_are_silent_cost_the_download_nothing_and_do_not_hold_up_its_end() {
    one("a drip", Server::start(|stream, _| send_slowly(stream, Duration::from_millis(500))));
    one("silence", Server::start(|stream, _| silence(stream)));
}

#[test]
#[ignore = "measures: wants the machine for itself"]
fn k4_redirects_that_lead_nowhere_cost_the_download_nothing() {
    one("a redirect loop", Server::answering(redirect("/announce")));
    one("a redirect to a file", Server::answering(redirect("file:///etc/passwd")));
}

#[test]
#[ignore = "measures: wants the machine for itself"]
fn k6_a_hundred_thousand_peers_cost_the_download_nothing() {
    let unused: Vec<SocketAddr> = (0..100_000u32)
        .map(|n| (Ipv4Addr::new(127, 100 + (n >> 16) as u8, (n >> 8) as u8, n as u8 | 1), 9).into())
        .collect();
    one("100,000 peers", Server::answering(with_peers(60, &unused)));
}

#[test]
#[ignore = "measures: wants the machine for itself"]
fn k12_ten_thousand_tiers_of_trackers_that_misbehave_cost_the_download_nothing() {
    let attackers = [
        Server::start(|stream, _| endless(stream)),
        Server::start(|stream, _| bomb(stream)),
        Server::answering(redirect("/announce")),
        Server::answering(reply(b"<html>")),
    ];
    // The other tiers are closed ports of this machine.
    let closed = (1..10_000).map(|port| format!("http://127.9.9.9:{port}/announce"));
    let tiers: Vec<Vec<String>> =
        attackers.iter().map(Server::url).chain(closed).map(|url| vec![url]).collect();
    compare("10,000 tiers", &attackers, &tiers);
}

/// On this machine's own addresses only the path `/announce` without a query is requested; a tracker of
/// another machine may have any path.
#[test]
fn k10_a_local_address_with_another_path_is_never_connected_to() {
    let lab = Lab::on_loopback();
    let router = Server::answering(reply(b"de"));
    let tracker = Server::answering(with_peers(1800, &[]));
    let commands = ["/reboot", "/announce?cmd=reboot", "/cgi/announce"]
        .map(|path| vec![format!("http://{}{path}", router.address)]);
    let torrent = Endless::new(&lab, 1, &[&commands[..], &[vec![tracker.url()]]].concat());
    Target::getting(&lab, rill(), &torrent, &[]);
    lab.wait_for("the last tier is asked", || !tracker.requests().is_empty());
    assert!(router.requests().is_empty(), "{:?}", router.requests());
}

#[test]
fn k4_a_tracker_that_redirects_to_a_file_or_in_circles_is_asked_six_times_at_most() {
    let lab = Lab::on_loopback();
    let circle = Server::answering(redirect("/announce"));
    let file = Server::answering(redirect("file:///etc/passwd"));
    let last = Server::answering(with_peers(1800, &[]));
    let torrent = Endless::new(&lab, 1, &[vec![circle.url()], vec![file.url()], vec![last.url()]]);
    Target::getting(&lab, rill(), &torrent, &[]);
    lab.wait_for("the last tier is asked", || !last.requests().is_empty());
    assert_eq!((circle.requests().len(), file.requests().len()), (6, 1));
}

/// `HTTP_PROXY` is used, as `rill --help` says: the proxy gets the request with the tracker's whole URL, and
/// the tracker itself gets none.
#[test]
fn k14_the_proxy_of_the_environment_is_used_for_trackers_and_said_so_in_the_help() {
    let lab = Lab::on_loopback();
    let proxy = Server::answering(with_peers(1800, &[]));
    for no_proxy in [false, true] {
        let tracker = Server::answering(with_peers(1800, &[]));
        let torrent = Endless::new(&lab, 1, &[vec![tracker.url()]]);
        let mut command = rill();
        command.env("HTTP_PROXY", format!("http://{}", proxy.address));
        if no_proxy {
            command.env("NO_PROXY", "127.0.0.1");
        }
        // The lab removes these variables from every program that it starts.
        command
            .args(["get", "--json", "--listen-port", "0", "-d"])
            .arg(lab.new_dir("out"))
            .arg(&torrent.file);
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        let before = proxy.requests().len();
        lab.wait_for("a tracker is asked", || tracker.requests().len() + proxy.requests().len() > before);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(
            (tracker.requests().len(), proxy.requests().len()),
            if no_proxy { (1, 1) } else { (0, 1) }
        );
        let requests = [proxy.requests(), tracker.requests()].concat();
        assert!(no_proxy || requests[0].contains(&tracker.address.to_string()), "{requests:?}");
    }
    let help = rill().arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help.contains("HTTP_PROXY") && help.contains("peers are reached directly"), "{help}");
}

/// A public address that is reserved for documentation (RFC 5737).
const PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
/// Environment variable that tells the next test that it runs in a network namespace of its own, in which
/// this machine has that address.
const IN_OWN_NETWORK: &str = "RILL_HOSTILE_NETWORK";

#[test]
#[ignore = "needs root"]
fn k4_a_redirect_from_a_public_address_into_this_machine_is_not_followed() {
    if std::env::var_os(IN_OWN_NETWORK).is_none() {
        need!("unshare", "ip");
        let again = "ip link set lo up && ip addr add 203.0.113.7/32 dev lo && exec \"$0\" --ignored --exact --nocapture trackers::k4_a_redirect_from_a_public_address_into_this_machine_is_not_followed";
        let mut command = Command::new("unshare");
        command
            .args(["-n", "sh", "-c", again])
            .arg(std::env::current_exe().unwrap())
            .env(IN_OWN_NETWORK, "1");
        let ended = command.output().unwrap();
        assert!(
            ended.status.success(),
            "{}",
            String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat())
        );
        return;
    }
    let lab = Lab::on_loopback();
    let router = Server::answering(with_peers(1800, &[]));
    let answering = |bytes: Vec<u8>| Server::at(PUBLIC, move |stream, _| stream.write_all(&bytes));
    // A path like that of an announce, and a redirect behind another one.
    let announce = answering(redirect(&format!("{}?info_hash=x", router.url())));
    let command = answering(redirect(&format!("http://{}/reboot", router.address)));
    let twice = answering(redirect(&announce.url()));
    let public = answering(with_peers(1800, &[]));
    let allowed = answering(redirect(&public.url()));
    let tiers = [&announce, &command, &twice, &allowed].map(|server| vec![server.url()]);
    let torrent = Endless::new(&lab, 1, &tiers);
    Target::getting(&lab, rill(), &torrent, &[]);
    lab.wait_for("the last tier's redirect is followed", || !public.requests().is_empty());
    assert!(!twice.requests().is_empty() && router.requests().is_empty(), "{:?}", router.requests());
}

/// A self-signed certificate for another host: refused, with that reason.
#[test]
#[ignore = "needs another program"]
fn k11_refuses_a_tracker_with_a_self_signed_certificate_and_tells_the_reason() {
    need!("openssl");
    let lab = Lab::on_loopback();
    let port = free_port();
    let openssl = |words: &[&str]| {
        let mut command = Command::new("openssl");
        command.args(words).current_dir(lab.at(""));
        command
    };
    let made =
        ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=tracker.example"];
    assert!(
        openssl(&[&made[..], &["-keyout", "key", "-out", "cert"]].concat())
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
    );
    let address = format!("127.0.0.1:{port}");
    lab.start(&mut openssl(&["s_server", "-accept", &address, "-key", "key", "-cert", "cert", "-www"]));
    lab.wait_for("the server listens", || std::net::TcpStream::connect(&address).is_ok());
    let torrent = Endless::new(&lab, 1, &[vec![format!("https://{address}/announce")]]);
    let mut command = rill();
    command.env("RILL_VERBOSE", "1");
    let target = Target::getting(&lab, command, &torrent, &[]);
    lab.wait_for("rill prints the reason", || target.kid.words().contains("certificate"));
    assert!(!target.kid.words().contains("clock is wrong"), "{}", target.kid.words());
}
