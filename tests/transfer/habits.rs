//! Options that users know from other clients.

use super::{World, get_link, stderr};

#[test]
fn s17_excluded_files_of_a_torrent_and_of_a_link_are_not_fetched() {
    let w = World::new();
    let output = w.get(["--no-state", "--exclude-name", "a", "--exclude-name", "none"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(w.same("t/sub/b") && !w.at("out/t/a").exists());
    let peer = format!("127.0.0.1:{}", w.port);
    let link = |dir, more: &[&str]| {
        get_link(&w, &["-d", dir, "--no-state", "--peer", &peer]).args(more).output().unwrap()
    };
    let output = link("linked", &["--exclude-name", "sub/*"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(w.same_in("linked", "t/a") && !w.at("linked/t/sub/b").exists());
    let output = link("none", &["--select-name", "a", "--exclude-name", "*"]);
    let expected = "rill: --exclude-name leaves no file to fetch\n";
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(28), expected));
    assert!(!w.at("none").exists());
}
