//! The binary under test, and the preloaded library that makes its system calls fail. Both are built at first
//! use and kept.
//!
//! The binary differs from rill in two respects. rustix goes through libc (`--cfg rustix_use_libc`) and not
//! straight to the kernel, so that the library can intercept every system call. And some intervals are
//! shorter: a download of these tests takes a second or two, so a checkpoint is due every tenth of a second,
//! and a refused connection is dialed again soon. Nothing in `src` depends on this: the sources are copied,
//! and the numbers are replaced in the copy. It is built without TLS, which no test here needs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The replaced intervals: file, text in `src`, text in the copy.
const SHORTER_INTERVALS: [(&str, &str, &str); 4] = [
    (
        "src/engine/limits.rs",
        "pub const CHECKPOINT: Duration = Duration::from_secs(45);",
        "pub const CHECKPOINT: Duration = Duration::from_millis(100);",
    ),
    (
        "src/engine/limits.rs",
        "pub const CHECKPOINT_BYTES: u64 = 64 * 1024 * 1024;",
        "pub const CHECKPOINT_BYTES: u64 = 256 * 1024;",
    ),
    (
        "src/engine/limits.rs",
        "pub const CHECKPOINT_MIN: Duration = Duration::from_secs(10);",
        "pub const CHECKPOINT_MIN: Duration = Duration::from_millis(20);",
    ),
    (
        "src/engine/limits.rs",
        "pub const REDIAL_SOON: Duration = Duration::from_secs(5);",
        "pub const REDIAL_SOON: Duration = Duration::from_millis(300);",
    ),
];

/// The paths of both files.
pub struct Built {
    pub rill: PathBuf,
    pub preload: PathBuf,
}

/// Builds both once; cargo skips what has not changed.
pub fn built() -> &'static Built {
    static BUILT: OnceLock<Built> = OnceLock::new();
    BUILT.get_or_init(build)
}

fn source_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn build() -> Built {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("faults");
    let crate_dir = dir.join("crate");
    let target = dir.join("target");
    mirror(&source_root().join("src"), &crate_dir.join("src"), "src");
    let manifest = fs::read_to_string(source_root().join("Cargo.toml")).unwrap();
    write_if_different(&crate_dir.join("Cargo.toml"), without_benches(&manifest).as_bytes());
    // Copied each time, because cargo may write to it.
    fs::copy(source_root().join("Cargo.lock"), crate_dir.join("Cargo.lock")).unwrap();
    fs::copy(source_root().join("README.md"), crate_dir.join("README.md")).unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args([
            "build",
            "--quiet",
            "--offline",
            "--no-default-features",
            "--features",
            "cli",
            "--bin",
            "rill",
        ])
        .current_dir(&crate_dir);
    cargo.env("CARGO_TARGET_DIR", &target).env("RUSTFLAGS", "--cfg rustix_use_libc");
    run(&mut cargo);
    let preload = dir.join("libpreload.so");
    let mut rustc = Command::new(Path::new(env!("CARGO")).with_file_name("rustc"));
    rustc
        .args(["--edition", "2024", "--crate-type", "cdylib", "-C", "panic=abort", "-O", "-o"])
        .arg(&preload);
    run(rustc.arg(source_root().join("tests/faults/preload/lib.rs")));
    Built { rill: target.join("debug/rill"), preload }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
    assert!(output.status.success(), "{command:?}:\n{}", String::from_utf8_lossy(&output.stderr));
}

/// The manifest without benches: their sources are not copied.
fn without_benches(manifest: &str) -> String {
    let mut kept = String::new();
    let mut keep = true;
    for line in manifest.lines() {
        if line.starts_with('[') {
            keep = line != "[[bench]]";
        }
        if keep {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// Makes `to` a copy of `from`. Equal files are left alone, so that cargo builds only what changed.
fn mirror(from: &Path, to: &Path, name: &str) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(to).unwrap().flatten() {
        let removed = !from.join(entry.file_name()).exists();
        if removed && entry.file_type().unwrap().is_dir() {
            fs::remove_dir_all(entry.path()).unwrap();
        } else if removed {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    for entry in fs::read_dir(from).unwrap().flatten() {
        let path = entry.path();
        let to = to.join(entry.file_name());
        let name = format!("{name}/{}", entry.file_name().to_string_lossy());
        if entry.file_type().unwrap().is_dir() {
            mirror(&path, &to, &name);
            continue;
        }
        let mut text = fs::read_to_string(&path).unwrap();
        for (_, old, new) in SHORTER_INTERVALS.iter().filter(|(file, ..)| *file == name) {
            text = text.replace(old, new);
        }
        write_if_different(&to, text.as_bytes());
    }
}

fn write_if_different(path: &Path, bytes: &[u8]) {
    if fs::read(path).ok().as_deref() != Some(bytes) {
        fs::write(path, bytes).unwrap();
    }
}

/// A text that occurs twice, or not at all, would leave the copy with the intervals of rill.
#[test]
fn every_replaced_interval_occurs_once() {
    for (file, old, _) in SHORTER_INTERVALS {
        let source = fs::read_to_string(source_root().join(file)).unwrap();
        assert_eq!(source.matches(old).count(), 1, "{old} in {file}");
    }
}
