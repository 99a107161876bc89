//! Exit codes by cause. Every code has a cause here. Code 9 of a disk that is full during a download is
//! tested in `tests/faults`.

use super::fixture;
use super::world::{World, end, end_by, free_port, lines, pattern, udp_tracker, wait, wait_for_handler, web};
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How a command is started and ended.
#[derive(Clone, Copy)]
enum Run {
    /// The command runs to its end.
    Plain,
    /// This signal is sent as soon as its handler is installed.
    Signal(&'static str),
    /// Stdin is a directory.
    DirectoryAsInput,
    /// Writes to stdout fail.
    FullOutput,
    /// The length of files is limited to 8 KiB.
    FileLimit,
}
use Run::*;

/// Cause, run, and command; words in capitals are placeholders for addresses and names that differ from run
/// to run.
const CASES: &[(&str, Run, &str)] = &[
    // ---- 0 ----
    ("done", Plain, "get t.torrent -d done --no-state --listen-port 0 --peer PEER --timeout 60"),
    ("everything is there", Plain, "get t.torrent -d here --no-state --listen-port 0"),
    ("a seed is told to end", Signal("TERM"), "seed t.torrent --no-state --listen-port 0"),
    ("a seed is told to end", Signal("INT"), "seed t.torrent --no-state --listen-port 0"),
    (
        "complete before the time is over",
        Plain,
        "get t.torrent -d there --no-state --listen-port 0 --seed-ratio 9 --timeout 5",
    ),
    (
        "a hook that does not start",
        Plain,
        "get t.torrent -d hook --no-state --listen-port 0 --peer PEER --on-complete ./none",
    ),
    (
        "metadata of a link",
        Plain,
        "get LINK -d saved --metadata-only --no-state --listen-port 0 --peer PEER --timeout 60",
    ),
    ("the same file again", Plain, "get t.torrent -d . --metadata-only"),
    ("help", Plain, "--help"),
    ("no command", Plain, ""),
    ("help of a command", Plain, "help verify"),
    ("version", Plain, "--version"),
    ("a torrent is shown", Plain, "show t.torrent"),
    ("a torrent is fetched and shown", Plain, "show WEB/t.torrent"),
    ("a link is shown", Plain, "show LINK"),
    ("peers say what is in a link", Plain, "show LINK --fetch --no-state --peer PEER"),
    (
        "one tracker of two answers",
        Plain,
        "show t.torrent --scrape --no-state --tracker UDP --tracker WEB/announce",
    ),
    ("good content", Plain, "verify t.torrent"),
    ("a torrent is made", Plain, "create t -o made.torrent"),
    ("a torrent is overwritten", Plain, "create t -o there.torrent --force"),
    ("a swarm is complete", Plain, "sim --peers 3 --size 512K --piece 64K"),
    ("scenarios are listed", Plain, "sim --list"),
    // ---- 1 ----
    ("nothing to share", Plain, "create t/empty"),
    ("a name that no torrent can carry", Plain, "create t -n .. -o x"),
    // ---- 2 ----
    ("no peers within the time", Plain, "get t.torrent -d OWN --no-state --listen-port 0 --timeout 1"),
    ("nothing arrives", Plain, "get t.torrent -d OWN --no-state --listen-port 0 --stall-timeout 1"),
    ("no metadata within the time", Plain, "get LINK -d OWN --no-state --listen-port 0 --timeout 1"),
    ("no metadata to show within the time", Plain, "show LINK --fetch --no-state --timeout 1"),
    ("a swarm that is not complete in time", Plain, "sim --peers 3 --size 8M --patience 1s"),
    // ---- 3 ----
    ("404", Plain, "show WEB/none"),
    ("404", Plain, "get WEB/none"),
    // ---- 6 ----
    ("no such interface", Plain, "get t.torrent -d OWN --no-state --listen-port 0 --interface none0"),
    ("a port that is taken", Plain, "get t.torrent -d OWN --no-state --listen-port TAKEN"),
    ("a port that is taken", Plain, "seed t.torrent --no-state --listen-port TAKEN"),
    ("no server", Plain, "show http://127.0.0.1:1/t.torrent"),
    ("a URL that is none", Plain, "show http://"),
    ("a redirect without end", Plain, "show WEB/circle"),
    ("no tracker to ask", Plain, "show t.torrent --scrape --no-state"),
    ("no tracker answers", Plain, "show t.torrent --scrape --no-state --tracker http://127.0.0.1:1/announce"),
    ("the tracker refuses", Plain, "show t.torrent --scrape --no-state --tracker WEB/announce"),
    // ---- 7 ----
    ("told to end", Signal("INT"), "get t.torrent -d OWN --no-state --listen-port 0"),
    ("told to end", Signal("TERM"), "get t.torrent -d OWN --no-state --listen-port 0"),
    ("told to end", Signal("TERM"), "get LINK -d OWN --no-state --listen-port 0"),
    ("told to end", Signal("INT"), "show LINK --fetch --no-state"),
    ("told to end", Signal("INT"), "bench --size 256M --rounds 100 -d ."),
    ("told to end", Signal("INT"), "sim multitude"),
    // ---- 9 ----
    ("more than the disk has", Plain, "bench --size 9000000G -d ."),
    // ---- 12 ----
    (
        "another process has the torrent",
        Plain,
        "get t.torrent -d held --state-dir state --listen-port 0 --timeout 5",
    ),
    // ---- 13 ----
    ("a directory in the way of a file", Plain, "get t.torrent -d way --no-state --listen-port 0"),
    (
        "a link in the way of a directory",
        Plain,
        "get t.torrent -d link --no-state --listen-port 0 --peer PEER --timeout 60",
    ),
    ("a file in the way of the directory", Plain, "get t.torrent -d t/a/x --no-state --listen-port 0"),
    ("a torrent of that name is there", Plain, "create t"),
    ("another torrent file is there", Plain, "get t.torrent -d other --metadata-only"),
    // ---- 15 ----
    ("no such file", Plain, "get none.torrent"),
    ("no such list", Plain, "get -i none.txt"),
    ("no such file", Plain, "seed none.torrent"),
    ("no such file", Plain, "show none.torrent"),
    ("no such file", Plain, "verify none.torrent"),
    ("no such authorities", Plain, "show t.torrent --ca-certificate none.pem"),
    ("no such content", Plain, "create nowhere"),
    ("a directory for a torrent", Plain, "show t"),
    ("neither file nor directory", Plain, "create /dev/null -o x"),
    ("no content to serve", Plain, "seed t.torrent -d nowhere --no-state --listen-port 0"),
    ("files of the content are not there", Plain, "seed t.torrent -d gone --no-state --listen-port 0"),
    // ---- 16 ----
    ("a directory that cannot be made", Plain, "get t.torrent -d /proc/none --no-state --listen-port 0"),
    ("a directory that cannot be made", Plain, "get t.torrent -d /proc/none --metadata-only"),
    ("no directory for the torrent", Plain, "create t -o nowhere/x.torrent"),
    ("no directory for the chart", Plain, "sim --peers 3 --size 512K --plot nowhere/x.svg"),
    ("no directory to work in", Plain, "bench --size 1M -d nowhere"),
    (
        "a file that may not grow",
        FileLimit,
        "get t.torrent -d short --no-state --listen-port 0 --peer PEER --timeout 60",
    ),
    // ---- 17 ----
    ("input that cannot be read", DirectoryAsInput, "show -"),
    ("a list that cannot be read", DirectoryAsInput, "get -i -"),
    ("output that takes nothing", FullOutput, "create t -o -"),
    // ---- 25 ----
    ("not bencode", Plain, "get t/a"),
    ("not bencode", Plain, "show t/a"),
    ("not bencode", Plain, "verify t/a"),
    ("nothing", Plain, "show t/empty"),
    ("a page instead of a torrent", Plain, "show WEB/page"),
    // ---- 26 ----
    ("bencode, but no torrent", Plain, "get list.torrent"),
    ("bencode, but no torrent", Plain, "show list.torrent"),
    ("a torrent without pieces", Plain, "verify empty.torrent"),
    // ---- 27 ----
    ("a bad link", Plain, "get magnet:?xt=urn:btih:abc"),
    ("a bad link", Plain, "seed magnet:?xt=urn:btih:abc"),
    ("a bad link", Plain, "show magnet:?xt=urn:btih:abc"),
    ("a bad link", Plain, "verify magnet:?xt=urn:btih:abc"),
    // ---- 28 ----
    ("no such command", Plain, "frobnicate"),
    ("no source", Plain, "get"),
    ("a list without sources", Plain, "get -i t/empty"),
    ("no room for the list in standard input", Plain, "get - -i -"),
    ("two sources for one", Plain, "show a b"),
    ("no such option", Plain, "get --none t.torrent"),
    ("not a rate", Plain, "get --max-download-limit fast t.torrent"),
    ("not a range", Plain, "get --select 3-1 t.torrent"),
    ("not a port", Plain, "get --listen-port 99999 t.torrent"),
    ("not an address", Plain, "get --peer somewhere t.torrent"),
    ("not a tracker", Plain, "get --tracker file:///etc/passwd t.torrent"),
    ("not a way", Plain, "get --storage tape t.torrent"),
    ("not a way", Plain, "get --file-allocation tape t.torrent"),
    ("no name of an interface", Plain, "get --interface= t.torrent"),
    ("not a proxy", Plain, "get --proxy http://proxy.example:1080 t.torrent"),
    ("uTP alone through a proxy", Plain, "get --transport utp --proxy socks5://proxy.example:1080 t.torrent"),
    ("a proxy without a port", Plain, "get --proxy socks5://user:secret@proxy.example t.torrent"),
    ("a path for a name", Plain, "get -o a/b t.torrent"),
    ("one name for several torrents", Plain, "get -o x t.torrent made.torrent"),
    ("one name for several torrents", Plain, "seed -o x t.torrent made.torrent"),
    ("a file without authorities", Plain, "show t.torrent --ca-certificate t/a"),
    ("not a time", Plain, "get --timeout soon t.torrent"),
    ("too little memory", Plain, "get --max-memory 1K t.torrent"),
    ("numbers of files of several torrents", Plain, "get --select 1 t.torrent made.torrent"),
    ("no such file in the torrent", Plain, "get --select 9 -d OWN --no-state --listen-port 0 t.torrent"),
    (
        "no file of that name in the torrent",
        Plain,
        "get --select-name none -d OWN --no-state --listen-port 0 t.torrent",
    ),
    ("no file is left", Plain, "get --exclude-name * -d OWN --no-state --listen-port 0 t.torrent"),
    (
        "no such file in a link's torrent",
        Plain,
        "get LINK --select 9 -d OWN --no-state --listen-port 0 --peer PEER",
    ),
    ("contradicting options", Plain, "get --no-dht --dht-bootstrap 127.0.0.1:1 t.torrent"),
    ("a link holds no hashes", Plain, "verify LINK"),
    ("pieces that are too small", Plain, "create t -p 1K -o x"),
    ("not a tracker", Plain, "create t -a file:///etc/passwd -o x"),
    ("not a web seed", Plain, "create t --web-seed ftp://w.example/ -o x"),
    ("too small a bench", Plain, "bench --size 1K -d ."),
    ("no rounds", Plain, "bench --size 1M --rounds 0 -d ."),
    ("no such scenario", Plain, "sim nowhere"),
    ("no such experiment", Plain, "sim --experiment nothing"),
    ("a swarm without peers", Plain, "sim --peers 0"),
    ("no such fault", Plain, "sim --fault fire=1"),
    // ---- 32 ----
    ("bad content", Plain, "verify t.torrent -d bad"),
    ("content that is not there", Plain, "verify t.torrent -d nowhere"),
    ("content that is too long", Plain, "verify t.torrent -d long"),
    ("nothing good to serve", Plain, "seed t.torrent -d bad --no-state --listen-port 0"),
];

/// Creates the files that the cases need besides content and torrent.
fn create_files(w: &World) {
    fs::create_dir_all(w.at("way/t/a")).unwrap();
    fs::create_dir_all(w.at("link")).unwrap();
    symlink("/tmp", w.at("link/t")).unwrap();
    fs::create_dir_all(w.at("gone/t")).unwrap();
    for place in ["bad", "long", "here", "there"] {
        w.make_content(place);
    }
    fs::write(w.at("bad/t/a"), pattern(2_000_000).split_off(1_000_000)).unwrap();
    fs::write(w.at("bad/t/sub/b"), vec![1; 300_001]).unwrap();
    fs::write(w.at("long/t/a"), [pattern(1_000_000), vec![0]].concat()).unwrap();
    fs::create_dir_all(w.at("other")).unwrap();
    fs::write(w.at("other/t.torrent"), "another").unwrap();
    fs::write(w.at("there.torrent"), "another").unwrap();
    fs::write(w.at("list.torrent"), "le").unwrap();
    fs::write(w.at("empty.torrent"), "d4:infod6:lengthi1e4:name1:a12:piece lengthi16384e6:pieces0:ee")
        .unwrap();
}

/// Runs one case. Returns its exit code.
fn code(w: &World, run: Run, words: &str) -> i32 {
    let mut command = match run {
        FileLimit => limited(w),
        _ => w.command(),
    };
    command
        .args(words.split_whitespace())
        .env_remove("RILL_NO_DHT")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // The DHT is off, except in the case of `--no-dht` itself.
    if !words.contains("dht") {
        command.env("RILL_NO_DHT", "1");
    }
    match run {
        Plain | FileLimit => end(&mut command).code,
        Signal(name) => {
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            wait_for_handler(&child, name);
            end_by(&mut child, name)
        }
        DirectoryAsInput => end(command.stdin(File::open(w.at("t")).unwrap())).code,
        FullOutput => {
            let full = File::options().write(true).open("/dev/full").unwrap();
            command.stdout(full).status().unwrap().code().unwrap()
        }
    }
}

/// Returns a command for the program under a shell that limits the length of files.
fn limited(w: &World) -> Command {
    let rill = w.command();
    let mut shell = Command::new("/bin/sh");
    shell
        .env_clear()
        .envs(rill.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .current_dir(w.at("."));
    shell.args(["-c", "ulimit -f 16 && exec \"$@\"", "sh"]).arg(rill.get_program());
    shell
}

#[test]
fn exit_codes_are_those_of_the_fixture() {
    let w = World::with_content();
    create_files(&w);
    let seed = w.seed("t.torrent", "0");
    let web = web(fs::read(w.at("t.torrent")).unwrap());
    let udp = udp_tracker();
    let hash = w.rill(["show", "--json", "t.torrent"]).json()["info_hash"].as_str().unwrap().to_owned();
    let taken = free_port();
    let _taken = TcpListener::bind(("0.0.0.0", taken)).unwrap();
    let mut holder = w.command();
    let holder =
        holder.args(["get", "t.torrent", "-d", "held", "--state-dir", "state", "--listen-port", "0"]);
    let mut holder = holder.stdout(Stdio::piped()).spawn().unwrap();
    let mut output = lines(&mut holder);
    output.next();
    wait("the torrent is not locked", || {
        let is_lock = |name: &str| name.starts_with(&hash) && name.ends_with(".lock");
        let mut names = fs::read_dir(w.at("state")).into_iter().flatten().flatten().map(|e| e.file_name());
        names.any(|name| name.to_str().is_some_and(is_lock)).then_some(())
    });
    let real = |at: usize, words: &str| {
        let words = words
            .replace("OWN", &format!("own-{at}"))
            .replace("PEER", &seed.addr())
            .replace("TAKEN", &taken.to_string())
            .replace("WEB", &web);
        words.replace("UDP", &udp).replace("LINK", &format!("magnet:?xt=urn:btih:{hash}"))
    };
    let next = AtomicUsize::new(0);
    let codes = Mutex::new(vec![0; CASES.len()]);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some((_, run, words)) = CASES.get(at) else { return };
                    let code = code(&w, *run, &real(at, words));
                    codes.lock().unwrap()[at] = code;
                }
            });
        }
    });
    holder.kill().unwrap();
    holder.wait().unwrap();
    let line = |((cause, run, words), code): (&(&str, Run, &str), &i32)| {
        let how = match run {
            Signal(name) => format!(" (SIG{name})"),
            Plain | DirectoryAsInput | FullOutput | FileLimit => String::new(),
        };
        format!("{code:>2}  {cause}{how}: rill {words}")
    };
    let found: Vec<String> = CASES.iter().zip(codes.lock().unwrap().iter()).map(line).collect();
    fixture::compare_or_write("exit_codes.txt", &found, |_| true);
}
