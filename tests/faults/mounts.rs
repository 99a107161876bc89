//! File systems on loop devices, in a mount namespace of the calling thread. When the last process in the
//! namespace ends, the kernel unmounts them and frees the devices. Needs root.

use rustix::thread::UnshareFlags;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The format of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Ext4,
    Xfs,
}

impl Format {
    fn name(self) -> &'static str {
        if self == Format::Ext4 { "ext4" } else { "xfs" }
    }

    /// A copy of an XFS has the UUID of its original, which XFS refuses to mount twice unless told otherwise.
    fn options(self) -> &'static str {
        if self == Format::Ext4 { "loop" } else { "loop,nouuid" }
    }
}

/// Whether this process may mount and has these programs. If not, prints so, or fails under `CI=true`.
pub fn can_mount(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_installed = |p: &&str| std::env::split_paths(&path).any(|dir| dir.join(p).is_file());
    let missing: Vec<&str> = programs.iter().copied().filter(|p| !is_installed(p)).collect();
    let root = rustix::process::geteuid().is_root();
    if root && missing.is_empty() {
        return true;
    }
    let word = format!(
        "skipped: {}",
        if root { format!("not installed: {}", missing.join(", ")) } else { "needs root".into() }
    );
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{word}");
    eprintln!("{word}");
    false
}

/// Gives this thread, and the processes that it starts, a mount namespace of their own.
pub fn enter_mount_namespace() {
    // SAFETY: the call changes only this thread's view of mounts and its working directory, no memory and no
    // descriptor.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }.expect("a mount namespace");
    run(Command::new("mount").args(["--make-rprivate", "/"]));
}

/// Runs a program that must succeed.
pub fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A mounted file system; unmounted when it is dropped.
pub struct Mounted(PathBuf);

impl Mounted {
    /// A tmpfs with these options, at a new directory.
    pub fn memory(at: PathBuf, options: &str) -> Mounted {
        fs::create_dir_all(&at).unwrap();
        run(Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&at));
        Mounted(at)
    }

    /// The file system in an image, at a directory.
    pub fn image(image: &Path, format: Format, at: PathBuf) -> Mounted {
        fs::create_dir_all(&at).unwrap();
        run(Command::new("mount").args(["-t", format.name(), "-o", format.options()]).arg(image).arg(&at));
        Mounted(at)
    }

    /// Its mount point.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Remounts with another option, such as `ro`.
    pub fn remount(&self, option: &str) {
        run(Command::new("mount").args(["-o", &format!("remount,{option}")]).arg(&self.0));
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily, in case a failed test left a process in it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Creates an image of `mib` MiB and formats it.
pub fn format(image: &Path, format: Format, mib: u64, options: &[&str]) {
    File::create(image).unwrap().set_len(mib << 20).unwrap();
    let quiet = if format == Format::Ext4 { "-qF" } else { "-qf" };
    run(Command::new(format!("mkfs.{}", format.name())).arg(quiet).args(options).arg(image));
}

/// A disk that can be copied in any state: its image lies on a file system that clones files at once.
pub struct Disk {
    format: Format,
    // Dropped in this order, the inner mount first.
    inner: Mounted,
    outer: Mounted,
    _memory: Mounted,
    cuts: u32,
}

impl Disk {
    /// An empty disk below `dir`.
    pub fn new(dir: &Path, kind: Format) -> Disk {
        let memory = Mounted::memory(dir.join("memory"), "size=2g");
        let image = memory.path().join("outer.img");
        format(&image, Format::Xfs, 1600, &["-m", "reflink=1"]);
        let outer = Mounted::image(&image, Format::Xfs, dir.join("outer"));
        let image = outer.path().join("inner.img");
        format(&image, kind, 320, &[]);
        let inner = Mounted::image(&image, kind, dir.join("disk"));
        Disk { format: kind, inner, outer, _memory: memory, cuts: 0 }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.inner.path()
    }

    /// Cuts the power: returns the device as it is at this moment. The disk itself goes on.
    pub fn cut(&mut self) -> Cut {
        self.cuts += 1;
        let image = self.outer.path().join(format!("cut-{}.img", self.cuts));
        let of = File::open(self.outer.path().join("inner.img")).unwrap();
        rustix::fs::ioctl_ficlone(File::create(&image).unwrap(), of).expect("a clone of the image");
        Cut { image, format: self.format, at: self.outer.path().with_file_name(format!("cut-{}", self.cuts)) }
    }
}

/// A device as it was at a power cut; removed when it is dropped.
pub struct Cut {
    image: PathBuf,
    format: Format,
    at: PathBuf,
}

impl Cut {
    /// Mounts it as after a reboot; the file system replays its journal.
    pub fn mount(&self) -> Mounted {
        Mounted::image(&self.image, self.format, self.at.clone())
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.image);
    }
}
