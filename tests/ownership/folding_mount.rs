//! A file system in which names that are equal after Unicode normalisation and in lower case are one name, as
//! on the disks of other systems: a FUSE program that shows a directory of another file system.
//!
//! It speaks the protocol of `/dev/fuse` (`linux/fuse.h`, version 7.31) itself. Names keep the spelling with
//! which they were created. The kernel sees one node for all spellings, so it also does `flock` and maps of
//! files. Entries and attributes have no lifetime in its caches: each access asks this program. Needs root.

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{
    AtFlags, CWD, Dir, FallocateFlags, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps,
    Uid,
};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

/// Longest write that the kernel may send.
const MAX_WRITE: usize = 128 << 10;

/// The directory that the server process shows, and its mount point.
const BACKING: &str = "RILL_TEST_BACKING";
const MOUNT_POINT: &str = "RILL_TEST_MOUNT_POINT";

/// The mounted file system; unmounted when it is dropped.
///
/// A process of its own serves it and alone holds the device. A thread would not do: between fork and exec a
/// child has all descriptors of its parent, and a file of a file system whose server is gone, but whose device
/// is still open, cannot be closed.
pub struct FoldingMount {
    at: PathBuf,
    server: Child,
    /// The server's output, open as long as it may print.
    output: BufReader<ChildStdout>,
}

impl FoldingMount {
    /// Mounts the directory `backing` at `at`, and creates both if they do not exist.
    pub fn new(backing: &Path, at: PathBuf) -> FoldingMount {
        fs::create_dir_all(backing).unwrap();
        fs::create_dir_all(&at).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", SERVER, "--ignored", "--nocapture", "--test-threads", "1"]);
        command.env(BACKING, backing).env(MOUNT_POINT, &at).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut server = command.spawn().unwrap();
        let mut output = BufReader::new(server.stdout.take().unwrap());
        let mut said = output.by_ref().lines().map_while(Result::ok);
        assert!(said.any(|line| line.ends_with(MOUNTED)), "the folding file system is not mounted");
        FoldingMount { at, server, output }
    }

    /// Its mount point.
    pub fn path(&self) -> &Path {
        &self.at
    }
}

impl Drop for FoldingMount {
    fn drop(&mut self) {
        // The server unmounts at the end of its standard input, and so it does if this process is killed.
        drop(self.server.stdin.take());
        let _ = std::io::copy(&mut self.output, &mut std::io::sink());
        let _ = self.server.wait();
    }
}

/// The line that says that the file system is mounted.
const MOUNTED: &str = "mounted";

/// The name of the test below, which a [`FoldingMount`] starts as its server.
const SERVER: &str = "folding_mount::serves_a_folding_file_system_if_told_where";

#[test]
#[ignore = "the server process of the other tests; does nothing without their instructions"]
fn serves_a_folding_file_system_if_told_where() {
    let (Some(backing), Some(at)) = (std::env::var_os(BACKING), std::env::var_os(MOUNT_POINT)) else {
        return;
    };
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let device = rustix::fs::open("/dev/fuse", flags, Mode::empty()).expect("/dev/fuse opens as root");
    let options = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions",
        device.as_raw_fd()
    );
    let target = CString::new(at.as_bytes()).unwrap();
    let options = CString::new(options).unwrap();
    // SAFETY: the pointers are strings that end with NUL and outlive the call.
    let mounted = unsafe {
        libc::mount(
            c"folding".as_ptr(),
            target.as_ptr(),
            c"fuse.folding".as_ptr(),
            libc::MS_NOSUID | libc::MS_NODEV,
            options.as_ptr().cast(),
        )
    };
    assert_eq!(mounted, 0, "mount of a FUSE: {}", std::io::Error::last_os_error());
    println!("\n{MOUNTED}");
    Server::new(Path::new(&backing), device).run(std::io::stdin().as_fd());
    // Detached, in case a failed test left a process in it: its requests fail once the device is closed.
    // SAFETY: the pointer is a string that ends with NUL and outlives the call.
    unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
}

/// Returns what all spellings of a name have in common: its letters in lower case, with the accents of
/// Latin-1 as separate marks.
pub fn fold(name: &OsStr) -> Vec<u8> {
    let Some(text) = name.to_str() else { return name.as_bytes().to_vec() };
    let mut folded = String::new();
    for c in text.chars().flat_map(char::to_lowercase) {
        match DECOMPOSED.iter().find_map(|(mark, letters)| {
            letters.iter().find(|(composed, _)| *composed == c).map(|(_, base)| (*base, *mark))
        }) {
            Some((base, mark)) => folded.extend([base, mark]),
            None => folded.push(c),
        }
    }
    folded.into_bytes()
}

/// For each combining mark the letters of Latin-1 that have it, composed and without it.
const DECOMPOSED: [(char, &[(char, char)]); 7] = [
    ('\u{300}', &[('à', 'a'), ('è', 'e'), ('ì', 'i'), ('ò', 'o'), ('ù', 'u')]),
    ('\u{301}', &[('á', 'a'), ('é', 'e'), ('í', 'i'), ('ó', 'o'), ('ú', 'u'), ('ý', 'y')]),
    ('\u{302}', &[('â', 'a'), ('ê', 'e'), ('î', 'i'), ('ô', 'o'), ('û', 'u')]),
    ('\u{303}', &[('ã', 'a'), ('ñ', 'n'), ('õ', 'o')]),
    ('\u{308}', &[('ä', 'a'), ('ë', 'e'), ('ï', 'i'), ('ö', 'o'), ('ü', 'u'), ('ÿ', 'y')]),
    ('\u{30a}', &[('å', 'a')]),
    ('\u{327}', &[('ç', 'c')]),
];

/// A file or directory that the kernel knows.
struct Node {
    /// Opened with `O_PATH`.
    fd: OwnedFd,
    key: (u64, u64),
    lookups: u64,
}

/// The entries of an open directory: inode, type, name.
type Listing = Vec<(u64, FileType, OsString)>;

struct Server {
    device: OwnedFd,
    nodes: HashMap<u64, Node>,
    /// Nodes by device and inode of the backing file.
    known: HashMap<(u64, u64), u64>,
    files: HashMap<u64, OwnedFd>,
    listings: HashMap<u64, Listing>,
    next: u64,
}

/// The number of the root's node.
const ROOT: u64 = 1;

impl Server {
    fn new(backing: &Path, device: OwnedFd) -> Server {
        let fd = rustix::fs::open(backing, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let fd = fd.unwrap();
        let stat = rustix::fs::fstat(&fd).unwrap();
        let key = (stat.st_dev, stat.st_ino);
        Server {
            device,
            nodes: HashMap::from([(ROOT, Node { fd, key, lookups: 1 })]),
            known: HashMap::from([(key, ROOT)]),
            files: HashMap::new(),
            listings: HashMap::new(),
            next: ROOT,
        }
    }

    /// Answers requests until the file system is unmounted or `stop` is at its end.
    fn run(&mut self, stop: BorrowedFd<'_>) {
        let mut buffer = vec![0; MAX_WRITE + 4096];
        loop {
            let mut ready =
                [PollFd::new(&self.device, PollFlags::IN), PollFd::from_borrowed_fd(stop, PollFlags::IN)];
            let _ = rustix::event::poll(&mut ready, None);
            if !ready[1].revents().is_empty() {
                return;
            }
            let len = match rustix::io::read(&self.device, &mut buffer) {
                Ok(len) => len,
                Err(Errno::INTR | Errno::AGAIN | Errno::NOENT) => continue,
                Err(_) => return,
            };
            let request = Request::parse(&buffer[..len]);
            if let Some(result) = self.answer(&request) {
                self.reply(request.unique, result);
            }
        }
    }

    fn reply(&self, unique: u64, result: Result<Vec<u8>, Errno>) {
        let (error, body) = match result {
            Ok(body) => (0, body),
            Err(errno) => (-errno.raw_os_error(), Vec::new()),
        };
        let mut reply = Vec::with_capacity(16 + body.len());
        reply.extend((16 + body.len() as u32).to_ne_bytes());
        reply.extend(error.to_ne_bytes());
        reply.extend(unique.to_ne_bytes());
        reply.extend(body);
        // ENOENT: the process gave up its request.
        let _ = rustix::io::write(&self.device, &reply);
    }

    /// The reply to a request; `None` if it has none.
    fn answer(&mut self, r: &Request<'_>) -> Option<Result<Vec<u8>, Errno>> {
        let nothing = |result: Result<(), Errno>| result.map(|()| Vec::new());
        Some(match r.opcode {
            op::INIT => Ok(init()),
            op::FORGET => {
                self.forget(r.node, r.u64_at(0));
                return None;
            }
            op::BATCH_FORGET => {
                for i in 0..r.u32_at(0) as usize {
                    self.forget(r.u64_at(8 + 16 * i), r.u64_at(16 + 16 * i));
                }
                return None;
            }
            op::INTERRUPT => return None,
            op::LOOKUP => self.lookup(r.node, r.name_at(0, 0)),
            op::GETATTR => self.stat(r.node).map(|stat| attributes(&stat)),
            op::SETATTR => self.set_attributes(r),
            op::READLINK => self.read_link(r.node),
            op::SYMLINK => self.symlink(r),
            op::MKNOD => self.make_node(r),
            op::MKDIR => self.make_dir(r),
            op::UNLINK => nothing(self.remove(r.node, r.name_at(0, 0), AtFlags::empty())),
            op::RMDIR => nothing(self.remove(r.node, r.name_at(0, 0), AtFlags::REMOVEDIR)),
            op::RENAME => nothing(self.rename(r, 8, RenameFlags::empty())),
            op::RENAME2 => nothing(self.rename(r, 16, RenameFlags::from_bits_retain(r.u32_at(8)))),
            op::LINK => self.link(r),
            op::OPEN => self.open(r),
            op::CREATE => self.create(r),
            op::READ => self.read(r),
            op::WRITE => self.write(r),
            op::FLUSH => Ok(Vec::new()),
            op::FSYNC => nothing(self.file(r.u64_at(0)).and_then(rustix::fs::fsync)),
            op::FALLOCATE => nothing(self.file(r.u64_at(0)).and_then(|fd| {
                let mode = FallocateFlags::from_bits_retain(r.u32_at(24));
                rustix::fs::fallocate(fd, mode, r.u64_at(8), r.u64_at(16))
            })),
            op::RELEASE => {
                self.files.remove(&r.u64_at(0));
                Ok(Vec::new())
            }
            op::OPENDIR => self.open_dir(r.node),
            op::READDIR => self.read_dir(r),
            op::RELEASEDIR => {
                self.listings.remove(&r.u64_at(0));
                Ok(Vec::new())
            }
            op::FSYNCDIR => nothing(self.sync_dir(r.node)),
            op::STATFS => self.statfs(r.node),
            op::ACCESS | op::DESTROY => Ok(Vec::new()),
            _ => Err(Errno::NOSYS),
        })
    }

    fn node(&self, node: u64) -> Result<&OwnedFd, Errno> {
        self.nodes.get(&node).map(|n| &n.fd).ok_or(Errno::STALE)
    }

    fn file(&self, handle: u64) -> Result<&OwnedFd, Errno> {
        self.files.get(&handle).ok_or(Errno::BADF)
    }

    fn stat(&self, node: u64) -> Result<Stat, Errno> {
        rustix::fs::fstat(self.node(node)?)
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn forget(&mut self, node: u64, lookups: u64) {
        let Some(n) = self.nodes.get_mut(&node).filter(|_| node != ROOT) else { return };
        n.lookups = n.lookups.saturating_sub(lookups);
        if n.lookups == 0 {
            let key = n.key;
            self.nodes.remove(&node);
            self.known.remove(&key);
        }
    }

    /// The spelling under which the name exists; `None` if it does not.
    fn spelling(&self, dir: u64, name: &OsStr) -> Result<Option<OsString>, Errno> {
        let folded = fold(name);
        let listed = list(self.node(dir)?)?;
        Ok(listed.into_iter().map(|(_, _, name)| name).find(|there| fold(there) == folded))
    }

    /// The spelling of a name that must exist.
    fn existing(&self, dir: u64, name: &OsStr) -> Result<OsString, Errno> {
        self.spelling(dir, name)?.ok_or(Errno::NOENT)
    }

    /// Fails if the name exists in any spelling.
    fn must_be_new(&self, dir: u64, name: &OsStr) -> Result<(), Errno> {
        if self.spelling(dir, name)?.is_some() { Err(Errno::EXIST) } else { Ok(()) }
    }

    fn lookup(&mut self, dir: u64, name: &OsStr) -> Result<Vec<u8>, Errno> {
        let spelling = self.existing(dir, name)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(self.node(dir)?, &spelling, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&fd)?;
        let key = (stat.st_dev, stat.st_ino);
        let node = match self.known.get(&key) {
            Some(node) => *node,
            None => self.number(),
        };
        self.known.insert(key, node);
        self.nodes.entry(node).or_insert(Node { fd, key, lookups: 0 }).lookups += 1;
        let mut entry = Vec::with_capacity(128);
        entry.extend(node.to_ne_bytes());
        entry.extend([0; 32]); // generation, and no lifetime in the kernel's caches
        push_attributes(&mut entry, &stat);
        Ok(entry)
    }

    fn set_attributes(&mut self, r: &Request<'_>) -> Result<Vec<u8>, Errno> {
        const MODE: u32 = 1;
        const OWNER: u32 = 2;
        const GROUP: u32 = 4;
        const SIZE: u32 = 8;
        const TIMES: u32 = 16 | 32;
        let valid = r.u32_at(0);
        let path = magic_path(self.node(r.node)?);
        if valid & MODE != 0 {
            rustix::fs::chmod(&path, Mode::from_raw_mode(r.u32_at(68) & 0o7777))?;
        }
        if valid & (OWNER | GROUP) != 0 {
            let owner = (valid & OWNER != 0).then(|| Uid::from_raw(r.u32_at(76)));
            let group = (valid & GROUP != 0).then(|| Gid::from_raw(r.u32_at(80)));
            rustix::fs::chownat(CWD, &path, owner, group, AtFlags::empty())?;
        }
        if valid & SIZE != 0 {
            let file = rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
            rustix::fs::ftruncate(file, r.u64_at(16))?;
        }
        if valid & TIMES != 0 {
            let time = |set: u32, now: u32, seconds: usize, nanoseconds: usize| Timespec {
                tv_sec: r.u64_at(seconds) as i64,
                tv_nsec: if valid & now != 0 {
                    rustix::fs::UTIME_NOW
                } else if valid & set != 0 {
                    r.u32_at(nanoseconds).into()
                } else {
                    rustix::fs::UTIME_OMIT
                },
            };
            let times =
                Timestamps { last_access: time(16, 128, 32, 56), last_modification: time(32, 256, 40, 60) };
            rustix::fs::utimensat(CWD, &path, &times, AtFlags::empty())?;
        }
        self.stat(r.node).map(|stat| attributes(&stat))
    }

    fn read_link(&self, node: u64) -> Result<Vec<u8>, Errno> {
        Ok(rustix::fs::readlinkat(self.node(node)?, c"", Vec::new())?.into_bytes())
    }

    fn symlink(&mut self, r: &Request<'_>) -> Result<Vec<u8>, Errno> {
        let name = r.name_at(0, 0);
        self.must_be_new(r.node, name)?;
        rustix::fs::symlinkat(r.name_at(0, 1), self.node(r.node)?, name)?;
        self.lookup(r.node, name)
    }

    fn make_node(&mut self, r: &Request<'_>) -> Result<Vec<u8>, Errno> {
        let name = r.name_at(16, 0);
        self.must_be_new(r.node, name)?;
        let mode = r.u32_at(0);
        let kind = FileType::from_raw_mode(mode);
        rustix::fs::mknodat(self.node(r.node)?, name, kind, Mode::from_raw_mode(mode & 0o7777), 0)?;
        self.lookup(r.node, name)
    }

    fn make_dir(&mut self, r: &Request<'_>) -> Result<Vec<u8>, Errno> {
        let name = r.name_at(8, 0);
        self.must_be_new(r.node, name)?;
        rustix::fs::mkdirat(self.node(r.node)?, name, Mode::from_raw_mode(r.u32_at(0) & 0o7777))?;
        self.lookup(r.node, name)
    }

    fn remove(&self, dir: u64, name: &OsStr, flags: AtFlags) -> Result<(), Errno> {
        rustix::fs::unlinkat(self.node(dir)?, self.existing(dir, name)?, flags)
    }

    fn rename(&self, r: &Request<'_>, names: usize, flags: RenameFlags) -> Result<(), Errno> {
        let to_dir = r.u64_at(0);
        let from = self.existing(r.node, r.name_at(names, 0))?;
        let mut to = r.name_at(names, 1).to_owned();
        let changes_spelling = r.node == to_dir && fold(&from) == fold(&to);
        if let Some(there) = self.spelling(to_dir, &to)?.filter(|_| !changes_spelling) {
            if flags.contains(RenameFlags::NOREPLACE) {
                return Err(Errno::EXIST);
            }
            to = there;
        }
        rustix::fs::renameat_with(self.node(r.node)?, from, self.node(to_dir)?, to, flags)
    }

    fn link(&mut self, r: &Request<'_>) -> Result<Vec<u8>, Errno> {
        let name = r.name_at(8, 0);
        self.must_be_new(r.node, name)?;
        let from = magic_path(self.node(r.u64_at(0))?);
        rustix::fs::linkat(CWD, &from, self.node(r.node)?, name, AtFlags::SYMLINK_FOLLOW)?;
        self.lookup(r.node, name)
    }

    /// Keeps an open file; the reply is that of an open.
    fn keep_open(&mut self, fd: OwnedFd) -> Vec<u8> {
        let handle = self.number();
        self.files.insert(handle, fd);
        opened(handle)
    }

    fn open(&mut self, r: &Request<'_>) -> Result<Vec<u8>, Errno> {
        let fd = reopen(self.node(r.node)?, r.u32_at(0))?;
        Ok(self.keep_open(fd))
    }

    fn create(&mut self, r: &Request<'_>) -> Result<Vec<u8>, Errno> {
        let name = r.name_at(16, 0);
        let flags = OFlags::from_bits_retain(r.u32_at(0));
        match self.spelling(r.node, name)? {
            Some(_) if flags.contains(OFlags::EXCL) => return Err(Errno::EXIST),
            Some(_) => {}
            None => {
                let new = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let mode = Mode::from_raw_mode(r.u32_at(4) & 0o7777);
                rustix::fs::openat(self.node(r.node)?, name, new, mode)?;
            }
        }
        let mut entry = self.lookup(r.node, name)?;
        let node = u64::from_ne_bytes(entry[..8].try_into().unwrap());
        let fd = reopen(self.node(node)?, r.u32_at(0))?;
        entry.extend(self.keep_open(fd));
        Ok(entry)
    }

    fn read(&self, r: &Request<'_>) -> Result<Vec<u8>, Errno> {
        let mut bytes = vec![0; r.u32_at(16) as usize];
        let mut len = 0;
        while len < bytes.len() {
            let n = rustix::io::pread(self.file(r.u64_at(0))?, &mut bytes[len..], r.u64_at(8) + len as u64)?;
            if n == 0 {
                break;
            }
            len += n;
        }
        bytes.truncate(len);
        Ok(bytes)
    }

    fn write(&self, r: &Request<'_>) -> Result<Vec<u8>, Errno> {
        let bytes = &r.body[40..][..r.u32_at(16) as usize];
        let mut written = 0;
        while written < bytes.len() {
            let at = r.u64_at(8) + written as u64;
            written += rustix::io::pwrite(self.file(r.u64_at(0))?, &bytes[written..], at)?;
        }
        Ok([(written as u32).to_ne_bytes(), [0; 4]].concat())
    }

    fn open_dir(&mut self, node: u64) -> Result<Vec<u8>, Errno> {
        let listing = list(self.node(node)?)?;
        let handle = self.number();
        self.listings.insert(handle, listing);
        Ok(opened(handle))
    }

    fn read_dir(&self, r: &Request<'_>) -> Result<Vec<u8>, Errno> {
        let listing = self.listings.get(&r.u64_at(0)).ok_or(Errno::BADF)?;
        let (from, room) = (r.u64_at(8) as usize, r.u32_at(16) as usize);
        let mut entries = Vec::new();
        for (i, (inode, kind, name)) in listing.iter().enumerate().skip(from) {
            let padded = (24 + name.len()).next_multiple_of(8);
            if entries.len() + padded > room {
                break;
            }
            let end = entries.len() + padded;
            entries.extend(inode.to_ne_bytes());
            entries.extend((i as u64 + 1).to_ne_bytes());
            entries.extend((name.len() as u32).to_ne_bytes());
            entries.extend((kind.as_raw_mode() >> 12).to_ne_bytes());
            entries.extend(name.as_bytes());
            entries.resize(end, 0);
        }
        Ok(entries)
    }

    fn sync_dir(&self, node: u64) -> Result<(), Errno> {
        rustix::fs::fsync(reopen(self.node(node)?, 0)?)
    }

    fn statfs(&self, node: u64) -> Result<Vec<u8>, Errno> {
        let s = rustix::fs::fstatvfs(self.node(node)?)?;
        let mut reply = Vec::with_capacity(80);
        reply
            .extend([s.f_blocks, s.f_bfree, s.f_bavail, s.f_files, s.f_ffree].map(u64::to_ne_bytes).concat());
        let small = [s.f_bsize as u32, 255, s.f_frsize as u32];
        reply.extend(small.map(u32::to_ne_bytes).concat());
        reply.resize(80, 0);
        Ok(reply)
    }
}

/// A request of the kernel.
struct Request<'a> {
    opcode: u32,
    unique: u64,
    node: u64,
    body: &'a [u8],
}

impl<'a> Request<'a> {
    fn parse(bytes: &'a [u8]) -> Request<'a> {
        let header = Request { opcode: 0, unique: 0, node: 0, body: &bytes[..40] };
        Request {
            opcode: header.u32_at(4),
            unique: header.u64_at(8),
            node: header.u64_at(16),
            body: &bytes[40..],
        }
    }

    fn u32_at(&self, at: usize) -> u32 {
        u32::from_ne_bytes(self.body[at..at + 4].try_into().unwrap())
    }

    fn u64_at(&self, at: usize) -> u64 {
        u64::from_ne_bytes(self.body[at..at + 8].try_into().unwrap())
    }

    /// The n-th of the names that begin at `at`; each ends with NUL.
    fn name_at(&self, at: usize, n: usize) -> &'a OsStr {
        OsStr::from_bytes(self.body[at..].split(|b| *b == 0).nth(n).unwrap())
    }
}

/// The numbers of the requests that are answered.
mod op {
    pub const LOOKUP: u32 = 1;
    pub const FORGET: u32 = 2;
    pub const GETATTR: u32 = 3;
    pub const SETATTR: u32 = 4;
    pub const READLINK: u32 = 5;
    pub const SYMLINK: u32 = 6;
    pub const MKNOD: u32 = 8;
    pub const MKDIR: u32 = 9;
    pub const UNLINK: u32 = 10;
    pub const RMDIR: u32 = 11;
    pub const RENAME: u32 = 12;
    pub const LINK: u32 = 13;
    pub const OPEN: u32 = 14;
    pub const READ: u32 = 15;
    pub const WRITE: u32 = 16;
    pub const STATFS: u32 = 17;
    pub const RELEASE: u32 = 18;
    pub const FSYNC: u32 = 20;
    pub const FLUSH: u32 = 25;
    pub const INIT: u32 = 26;
    pub const OPENDIR: u32 = 27;
    pub const READDIR: u32 = 28;
    pub const RELEASEDIR: u32 = 29;
    pub const FSYNCDIR: u32 = 30;
    pub const ACCESS: u32 = 34;
    pub const CREATE: u32 = 35;
    pub const INTERRUPT: u32 = 36;
    pub const DESTROY: u32 = 38;
    pub const BATCH_FORGET: u32 = 42;
    pub const FALLOCATE: u32 = 43;
    pub const RENAME2: u32 = 45;
}

/// The reply to the first request: version 7.31, long writes, and none of the locks, so the kernel does them.
fn init() -> Vec<u8> {
    const BIG_WRITES: u32 = 1 << 5;
    const MAX_PAGES: u32 = 1 << 22;
    let mut reply = Vec::with_capacity(64);
    reply.extend([7, 31, MAX_WRITE as u32, BIG_WRITES | MAX_PAGES].map(u32::to_ne_bytes).concat());
    reply.extend([16u16, 12].map(u16::to_ne_bytes).concat());
    reply.extend([MAX_WRITE as u32, 1].map(u32::to_ne_bytes).concat());
    reply.extend([(MAX_WRITE / 4096) as u16, 0].map(u16::to_ne_bytes).concat());
    reply.resize(64, 0);
    reply
}

fn opened(handle: u64) -> Vec<u8> {
    [handle.to_ne_bytes(), [0; 8]].concat()
}

fn attributes(stat: &Stat) -> Vec<u8> {
    let mut reply = vec![0; 16]; // no lifetime in the kernel's caches
    push_attributes(&mut reply, stat);
    reply
}

fn push_attributes(reply: &mut Vec<u8>, s: &Stat) {
    let wide = [s.st_ino, s.st_size as u64, s.st_blocks as u64];
    let seconds = [s.st_atime as u64, s.st_mtime as u64, s.st_ctime as u64];
    reply.extend([wide, seconds].concat().into_iter().flat_map(u64::to_ne_bytes));
    let nanoseconds = [s.st_atime_nsec as u32, s.st_mtime_nsec as u32, s.st_ctime_nsec as u32];
    let others = [s.st_mode, s.st_nlink as u32, s.st_uid, s.st_gid, s.st_rdev as u32, s.st_blksize as u32, 0];
    reply.extend(nanoseconds.into_iter().chain(others).flat_map(u32::to_ne_bytes));
}

/// The path through which the kernel opens a node's file anew.
fn magic_path(node: &OwnedFd) -> CString {
    CString::new(format!("/proc/self/fd/{}", node.as_raw_fd())).unwrap()
}

fn reopen(node: &OwnedFd, flags: u32) -> Result<OwnedFd, Errno> {
    let dropped = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::APPEND;
    let flags = (OFlags::from_bits_retain(flags) - dropped) | OFlags::CLOEXEC;
    // The path is itself a link, so the flag that forbids links is dropped.
    rustix::fs::open(magic_path(node).as_c_str(), flags, Mode::empty())
}

fn list(dir: &OwnedFd) -> Result<Listing, Errno> {
    let listed = Dir::new(reopen(dir, OFlags::DIRECTORY.bits())?)?;
    let is_real = |name: &CStr| !matches!(name.to_bytes(), b"." | b"..");
    listed
        .filter(|entry| entry.as_ref().is_ok_and(|e| is_real(e.file_name())))
        .map(|entry| {
            let entry = entry?;
            let name = OsString::from_vec(entry.file_name().to_bytes().to_vec());
            Ok((entry.ino(), entry.file_type(), name))
        })
        .collect()
}
