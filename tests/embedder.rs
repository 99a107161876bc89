//! Builds and runs a program outside the repository that uses the library without feature `cli`: it adds,
//! lists, limits, pauses and removes a torrent.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn text(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
#[ignore = "builds the library once more, without the command line; cargo test --test embedder -- --ignored"]
fn a_program_outside_the_repository_uses_the_library() {
    let rill = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("embedder");
    fs::create_dir_all(dir.join("src")).unwrap();
    fs::write(dir.join("src/main.rs"), fs::read(rill.join("tests/embedder/program.rs")).unwrap()).unwrap();
    fs::copy(rill.join("Cargo.lock"), dir.join("Cargo.lock")).unwrap();
    let manifest = format!(
        "[package]\nname = \"embedder\"\nversion = \"0.0.0\"\nedition = \"2024\"\npublish = false\n\n[workspace]\n\n\
         [dependencies]\nrill-torrent = {{ path = {:?}, default-features = false }}\nsha1 = \"0.11\"\n\n\
         [profile.dev]\nopt-level = 1\ndebug = false\n",
        rill.display()
    );
    fs::write(dir.join("Cargo.toml"), manifest).unwrap();

    // In the target directory of the tests, whose dependencies are built already.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--offline"]).current_dir(&dir).env("CARGO_TARGET_DIR", target);
    let built = cargo.output().unwrap();
    assert!(built.status.success(), "the program does not build:\n{}", text(&built));
    let mut cargo = Command::new(env!("CARGO"));
    let tree = cargo
        .args(["tree", "--offline", "--edges", "normal", "--prefix", "none"])
        .current_dir(&dir)
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", text(&tree));
    let tree = text(&tree);
    for package in ["clap", "signal-hook", "terminal_size", "unicode-width"] {
        assert!(
            !tree.lines().any(|line| line.starts_with(&format!("{package} "))),
            "{package} is built:\n{tree}"
        );
    }

    let content = tempfile::tempdir().unwrap();
    let ran = Command::new(target.join("debug/embedder")).arg(content.path()).output().unwrap();
    assert!(ran.status.success(), "{}", text(&ran));
    let printed = "added 1\npeers 1\ncomplete true\nfiles [1048576, 2097152]\npaused true\nremoved, 0 left\nstopped true\n";
    assert_eq!(String::from_utf8_lossy(&ran.stdout), printed);
}
