//! The command line: help, suggestions, environment variables, units of times, several sources.

use super::{World, reply, run, serve};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::process::Stdio;
use std::time::{Duration, Instant};

#[test]
fn s9_rill_alone_prints_the_help() {
    let w = World::new();
    let ended = w.rill::<&str>([]).expect(0);
    assert_eq!((ended.stdout, ended.stderr), (w.rill(["--help"]).expect(0).stdout, String::new()));
}

#[test]
fn s9_commands_for_rills_own_use_are_never_named() {
    let w = World::new();
    let cases: [&[&str]; 7] = [
        &[],
        &["--help"],
        &["help"],
        &["help", "bench-part"],
        &["bench-par"],
        &["frobnicate"],
        &["bench", "part"],
    ];
    for args in cases {
        let ended = w.rill(args);
        let text = ended.stdout + &ended.stderr.replace("'bench-part'", "").replace("'bench-par'", "");
        assert!(!text.contains("bench-part"), "{args:?}: {text}");
    }
}

#[test]
fn s9_a_wrong_word_is_answered_with_the_nearest_right_one() {
    let w = World::new();
    let cases: [(&[&str], &str); 11] = [
        (&["gte", "x"], "did you mean rill get? (see rill --help)"),
        (&["get", "--dri", "x", "x"], "did you mean --dir? (see rill get --help)"),
        (
            &["get", "--max-downlaod-limit=1M", "x"],
            "did you mean --max-download-limit? (see rill get --help)",
        ),
        (&["seed", "--max-download-limit", "1", "x"], "it is an option of rill get (see rill seed --help)"),
        (&["show", "--sequential", "x"], "it is an option of rill get (see rill show --help)"),
        (&["create", "--pieces-length", "1M", "t"], "did you mean --piece-length? (see rill create --help)"),
        (&["--dir", "x", "get", "x"], "options follow the command, as in rill get --dir (see rill --help)"),
        (&["x.torrent"], "a source follows a command, as in rill get SOURCE (see rill --help)"),
        (&["magnet:?xt=urn:btih:00"], "a source follows a command, as in rill get SOURCE (see rill --help)"),
        (&["get", "--storage", "maped", "x"], "did you mean mapped? (see rill get --help)"),
        (&["get", "--frobnicate", "x"], "'--frobnicate' found (see rill get --help)"),
    ];
    for (args, end) in cases {
        let sentence = w.rill(args).fails_with(28);
        assert!(sentence.trim_end().ends_with(end), "{args:?}: {sentence}");
    }
}

#[test]
fn s9_misspelt_variables_are_named_and_empty_ones_are_unset() {
    let w = World::new();
    let show =
        |name: &str, value: &str| run(w.command().args(["show", "t.torrent"]).env(name, value)).expect(0);
    assert_eq!(
        show("RILL_JOSN", "1").stderr,
        "rill: the variable RILL_JOSN sets no option; did you mean RILL_JSON?\n"
    );
    assert_eq!(show("RILL_TORRENT_NAME", "x").stderr, "");
    assert_eq!(
        run(w.command().args(["verify", "-q", "t.torrent"]).env("RILL_DRI", "x")).expect(0).stderr,
        ""
    );
    assert!(show("RILL_JSON", "").stdout.starts_with("Name:"));
    for name in [
        "RILL_DIR",
        "RILL_STORAGE",
        "RILL_TIMEOUT",
        "RILL_PEER",
        "RILL_VERBOSE",
        "RILL_SELECT",
        "RILL_TRACKER",
    ] {
        let get = ["get", "t.torrent", "--no-state", "--listen-port", "0"];
        assert_eq!(run(w.command().args(get).env(name, "")).expect(0).stderr, "", "{name}");
    }
}

#[test]
fn a_variable_counts_as_its_option() {
    let w = World::new();
    // Each value is refused, so the variable was read and parsed like the option.
    let bad = [
        ("select", "0"),
        ("max-download-limit", "x"),
        ("timeout", "x"),
        ("stall-timeout", "x"),
        ("on-complete", "'"),
        ("storage", "x"),
        ("max-memory", "x"),
        ("max-upload-limit", "x"),
        ("listen-port", "x"),
        ("max-peers", "x"),
        ("peer", "x"),
        ("tracker", "x"),
        ("allow-private-hosts", "x"),
        ("dht-bootstrap", "x"),
        ("dht-port", "x"),
        ("seed-ratio", "x"),
        ("seed-time", "x"),
        ("verbose", "x"),
    ];
    for (option, value) in bad {
        let name = format!("RILL_{}", option.replace('-', "_").to_uppercase());
        let sentence = run(w.command().args(["get", "t.torrent"]).env(&name, value)).fails_with(28);
        if option != "verbose" {
            let typed = format!("--{option}={value}");
            assert_eq!(w.rill(["get", "t.torrent", &typed]).fails_with(28), sentence, "{name}");
        }
    }
    for flag in ["JSON", "QUIET"] {
        let get = ["get", "t.torrent", "--no-state", "--listen-port", "0"];
        let usual = w.rill(get).expect(0).stdout;
        assert_ne!(run(w.command().args(get).env(format!("RILL_{flag}"), "true")).expect(0).stdout, usual);
        assert_eq!(
            run(w.command().args(get).env(format!("RILL_{flag}"), "no")).expect(0).stdout.lines().count(),
            usual.lines().count()
        );
    }
}

#[test]
fn s10_a_bare_info_hash_is_a_source_unless_a_file_has_that_name() {
    let w = World::new();
    let hash = "0123456789abcdef0123456789abcdef01234567";
    for text in [hash, &hash.to_uppercase(), "AERUKZ4JVPG66AJDIVTYTK6N54ASGRLH"] {
        let show = w.rill(["show", "--json", "--no-state", text]).expect(0).json();
        assert_eq!(show["info_hash"], hash, "{text}");
    }
    let get = ["get", hash, "--no-state", "--listen-port", "0", "--timeout", "100ms"];
    assert!(w.rill(get).expect(2).stderr.contains("no metadata"));
    fs::copy(w.at("t.torrent"), w.at(hash)).unwrap();
    assert_eq!(w.rill(["show", "--json", hash]).expect(0).json()["name"], "t");
    w.rill(["show", &hash[1..]]).fails_with(15);
}

#[test]
fn s11_nonsense_as_a_time_ends_with_28_and_one_sentence() {
    let w = World::new();
    for value in
        ["-1", "1w", "1h30", "30m1h", "nan", "99999999999999999999d", "1e400", "", " ", "5 m", "\u{661}h"]
    {
        for option in ["--timeout", "--stall-timeout", "--seed-time"] {
            let sentence = w.rill(["get", &format!("{option}={value}"), "t.torrent"]).fails_with(28);
            assert!(sentence.contains(option), "{sentence}");
        }
        w.rill(["show", &format!("--timeout={value}"), "t.torrent"]).fails_with(28);
    }
    for value in ["90s", "5m", "2h", "1d", "1h30m", "0"] {
        w.rill(["show", &format!("--timeout={value}"), "t.torrent"]).expect(0);
    }
    let begun = Instant::now();
    let seed = ["seed", "t.torrent", "--no-state", "--listen-port", "0", "--seed-time", "1s"];
    w.rill(seed).expect(0);
    assert!((1..30).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}

#[test]
fn s10_of_several_sources_the_good_ones_are_fetched_and_the_first_bad_one_decides_the_code() {
    let w = World::new();
    fs::write(w.at("bad.torrent"), "de").unwrap();
    let gone = serve(vec![reply("404 Not Found", b""), reply("410 Gone", b"")]);
    let get = |sources: &[&str]| {
        w.rill(sources.iter().copied().chain(["--no-state", "--listen-port", "0", "--timeout", "30s"]))
    };
    let ended = get(&["get", "t.torrent", "bad.torrent", "none.torrent"]).expect(26);
    assert!(ended.stdout.contains("t: complete"), "{}", ended.stdout);
    let lines: Vec<&str> = ended.stderr.lines().collect();
    assert!(lines.len() == 2 && lines[0].starts_with("rill: bad.torrent: "), "{}", ended.stderr);
    assert_eq!(lines[1], "rill: none.torrent: no such file or directory");
    get(&["get", "none.torrent", "t.torrent", "bad.torrent"]).expect(15);
    get(&["get", "none.torrent", "bad.torrent"]).expect(15);
    get(&["get", &gone, "t.torrent"]).expect(3);
    get(&["get", &gone, "t.torrent"]).expect(3);
    get(&["get", "--metadata-only", "-d", "saved", "bad.torrent", "t.torrent"]).expect(26);
    assert!(w.at("saved/t.torrent").exists());
    let json = get(&["get", "-q", "--json", "t.torrent", "bad.torrent"]).expect(26).json();
    assert_eq!((&json["exit_code"], &json["torrents"][0]["name"]), (&26.into(), &"t".into()));
    assert!(json["reason"].as_str().unwrap().contains("bad.torrent"), "{json}");

    // A torrent that fails later comes before or after the bad source, too.
    fs::create_dir_all(w.at("way/t/a")).unwrap();
    get(&["get", "-d", "way", "t.torrent", "bad.torrent"]).expect(13);
    get(&["get", "-d", "way", "bad.torrent", "t.torrent"]).expect(26);
    let alone = ["get", "bad.torrent", "t.torrent", "-d", "new", "--no-state", "--listen-port", "0"];
    w.rill(alone.into_iter().chain(["--timeout", "100ms"])).expect(26);
    let alone = ["get", "t.torrent", "bad.torrent", "-d", "new", "--no-state", "--listen-port", "0"];
    w.rill(alone.into_iter().chain(["--timeout", "100ms"])).expect(2);
}

#[test]
fn s13_a_silent_dht_is_waited_for_a_few_seconds_only() {
    let w = World::new();
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let tracker = serve(vec![reply("200 OK", b"d5:filesdee")]);
    let begun = Instant::now();
    let ended = run(w
        .command()
        .env_remove("RILL_NO_DHT")
        .env("RILL_DHT_BOOTSTRAP", silent.local_addr().unwrap().to_string())
        .args(["show", "--scrape", "--no-state", "t.torrent", "--tracker", &format!("{tracker}/announce")]));
    let took = begun.elapsed();
    assert!((Duration::from_secs(4)..Duration::from_secs(15)).contains(&took), "{took:?}");
    assert!(ended.stdout.ends_with("Scrape:     DHT: no node has answered within 5s\n"), "{}", ended.stdout);
}

#[test]
fn s13_create_says_that_it_hashes_when_that_takes_long() {
    let w = World::new();
    fs::create_dir(w.at("big")).unwrap();
    File::create(w.at("big/hole")).unwrap().set_len(1 << 36).unwrap();
    let mut child =
        w.command().args(["create", "big"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(line, "big: hashing 64.0 GiB\n");
    let quick = w.rill(["create", "t", "-o", "quick.torrent"]).expect(0);
    assert_eq!(quick.stderr, "", "it took no second");
}
