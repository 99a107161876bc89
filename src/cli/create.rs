//! `rill create`: a torrent of a file or a directory.
//!
//! Files are listed in byte order of their names, directory by directory, so that the same directory gives
//! the same torrent on every machine. Symbolic links and special files are left out with a line on stderr.
//! The torrent file appears complete or not at all, and replaces an existing regular file only with `--force`.
//! Into a named pipe or a character device it is written; a symbolic link is followed.

use super::args;
use super::exit::{Exit, Failure};
use super::json::Object;
use super::progress_line::ProgressLine;
use super::source::{shown, usable_tracker};
use super::{fault_exit, format, out};
use crate::units::PieceHash;
use crate::wire::metainfo::Builder;
use crate::wire::{Files, Metainfo, web_seed_url};
use rustix::fs::OFlags;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Shortest piece length, in bytes: one block of 16 KiB.
const LEAST_PIECE_BYTES: u64 = 16 << 10;
/// Longest piece length, in bytes: some other clients refuse longer pieces.
const MOST_PIECE_BYTES: u64 = 128 << 20;

/// Runs `rill create`.
pub(crate) fn run(options: &args::Create) -> Result<Exit, Failure> {
    let content = InputPath::find(&options.path)?;
    let name = options.name.clone().map_or_else(|| name_of(&options.path), Ok)?;
    let target = OutputTarget::new(options, &name)?;
    let builder = builder(options, name, &content)?;
    let hashes = hash(&builder, &content, options.quiet || options.json)?;
    let bytes = builder.finish(&hashes).map_err(|e| Failure::new(Exit::Torrent, e.to_string()))?;
    let metainfo = Metainfo::parse(&bytes).map_err(|e| Failure::new(Exit::Torrent, e.to_string()))?;
    let place = target.place();
    target.write(&bytes)?;
    if !options.quiet {
        print_summary(options.json, place.as_deref(), &metainfo, content.files.len());
    }
    Ok(Exit::Done)
}

/// Identity, size and time of change of a file.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(meta: &Metadata) -> Stamp {
        Stamp {
            device: meta.dev(),
            inode: meta.ino(),
            bytes: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
        }
    }
}

/// The content of the torrent.
#[derive(Debug, Default)]
struct InputPath {
    /// Path below the torrent's name, and length in bytes.
    files: Vec<(Vec<String>, u64)>,
    /// Identity, size and time of change of each file when it was listed.
    stamps: Vec<Stamp>,
    /// Directory that holds the files.
    dir: PathBuf,
    /// Name of the file in `dir`, if the content is one file.
    single_file: Option<String>,
}

impl InputPath {
    fn find(path: &Path) -> Result<InputPath, Failure> {
        let failed = |e: io::Error| Failure::os(Exit::Open, shown(path), &e);
        // The path itself may be a link; its target is shared.
        let real = path.canonicalize().map_err(failed)?;
        let meta = real.metadata().map_err(failed)?;
        let mut content = InputPath::default();
        match (real.parent(), real.file_name()) {
            (Some(parent), Some(name)) if meta.is_file() => {
                content.dir = parent.to_path_buf();
                content.files.push((Vec::new(), meta.len()));
                content.stamps.push(Stamp::of(&meta));
                content.single_file = Some(name.to_str().ok_or_else(|| not_utf8(path))?.to_owned());
            }
            _ if meta.is_dir() => {
                content.dir.clone_from(&real);
                content.walk(&real, &[])?;
            }
            _ => {
                return Err(Failure::new(
                    Exit::Open,
                    format!("{}: neither a file nor a directory", shown(path)),
                ));
            }
        }
        match content.files.iter().map(|(_, len)| len).sum::<u64>() {
            0 => Err(Failure::new(Exit::Other, format!("{}: holds no bytes to share", shown(path)))),
            _ => Ok(content),
        }
    }

    /// Returns the files with their paths below `dir`.
    fn on_disk(&self) -> Files {
        match (&self.single_file, self.files.as_slice()) {
            (Some(name), [(_, length)]) => Files::from_iter([(name, *length)]),
            (_, files) => files.iter().map(|(path, length)| (path.join("/"), *length)).collect(),
        }
    }

    /// Fails if a file is not the one that was listed, or has been written to since.
    fn check_unchanged(&self) -> Result<(), Failure> {
        let on_disk = self.on_disk();
        for (file, stamp) in on_disk.iter().zip(&self.stamps) {
            let path = self.dir.join(file.path_text());
            if path.symlink_metadata().map(|meta| Stamp::of(&meta)).ok().as_ref() != Some(stamp) {
                return Err(Failure::new(
                    Exit::Io,
                    format!("{} changed while it was hashed; run the same command again", shown(&path)),
                ));
            }
        }
        Ok(())
    }

    fn walk(&mut self, dir: &Path, below: &[String]) -> Result<(), Failure> {
        let failed = |e: io::Error| Failure::os(Exit::Open, shown(dir), &e);
        let mut entries =
            fs::read_dir(dir).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let Ok(name) = entry.file_name().into_string() else {
                return Err(not_utf8(&path));
            };
            // Links are not followed: their targets may lie outside of the directory.
            let meta = entry.metadata().map_err(|e| Failure::os(Exit::Open, shown(&path), &e))?;
            let below: Vec<String> = below.iter().cloned().chain([name]).collect();
            if meta.is_dir() {
                self.walk(&path, &below)?;
            } else if meta.is_file() {
                self.files.push((below, meta.len()));
                self.stamps.push(Stamp::of(&meta));
            } else {
                out::error(format_args!("{}: left out, it is not a regular file", shown(&path)));
            }
        }
        Ok(())
    }
}

fn not_utf8(path: &Path) -> Failure {
    Failure::new(Exit::Other, format!("{}: its name is not UTF-8, which torrents demand", shown(path)))
}

fn name_of(path: &Path) -> Result<String, Failure> {
    // "." and ".." have a name only after they are resolved; a link keeps its own name.
    let resolved = if path.file_name().is_none() { path.canonicalize().ok() } else { None };
    let name = resolved.as_deref().unwrap_or(path).file_name();
    let name = name.and_then(|name| name.to_str()).map(str::to_string);
    name.ok_or_else(|| {
        Failure::new(
            Exit::Other,
            format!("{}: has no name that a torrent can carry; give one with --name", shown(path)),
        )
    })
}

fn builder(options: &args::Create, name: String, content: &InputPath) -> Result<Builder, Failure> {
    let mut builder = match content.files.as_slice() {
        [(below, len)] if below.is_empty() => Builder::single(name, *len),
        files => Builder::multi(name, files.to_vec()),
    };
    if let Some(len) = options.piece_length {
        if !(LEAST_PIECE_BYTES..=MOST_PIECE_BYTES).contains(&len) {
            return Err(Failure::new(
                Exit::Option,
                format!("a piece length of {len} bytes is not in 16K to 128M"),
            ));
        }
        if !len.is_power_of_two() {
            out::error("a piece length that is not a power of two is refused by some programs");
        }
        builder.piece_len = len as u32;
    }
    let single = options.announce.iter().map(|url| vec![url.as_str()]);
    let shared = options.tier.iter().map(|tier| tier.split(',').collect());
    builder.trackers = single
        .chain(shared)
        .map(|tier: Vec<&str>| tier.into_iter().map(usable_tracker).collect())
        .collect::<Result<_, _>>()?;
    builder.web_seeds = options.web_seed.iter().map(|url| usable_web_seed(url)).collect::<Result<_, _>>()?;
    builder.private = options.private;
    builder.comment.clone_from(&options.comment);
    builder.created_by = Some(concat!("rill/", env!("CARGO_PKG_VERSION")).to_string());
    builder.creation_date =
        if options.no_date { None } else { creation_date(std::env::var_os("SOURCE_DATE_EPOCH").as_deref())? };
    Ok(builder)
}

fn usable_web_seed(url: &str) -> Result<String, Failure> {
    web_seed_url(url.as_bytes())
        .ok_or_else(|| Failure::new(Exit::Option, format!("'{url}' is not an http(s) URL")))
}

/// Returns the creation date: the value of SOURCE_DATE_EPOCH, or now if it is not set or empty.
fn creation_date(epoch: Option<&OsStr>) -> Result<Option<i64>, Failure> {
    let Some(epoch) = epoch.filter(|text| !text.is_empty()) else {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok();
        return Ok(now.and_then(|d| d.as_secs().try_into().ok()));
    };
    let digits = epoch.to_str().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    let seconds = digits.and_then(|digits| digits.parse().ok());
    seconds.map(Some).ok_or_else(|| {
        let epoch = out::clean(&epoch.to_string_lossy()).into_owned();
        Failure::new(Exit::Option, format!("SOURCE_DATE_EPOCH is '{epoch}', not seconds since 1970"))
    })
}

fn hash(builder: &Builder, content: &InputPath, silent: bool) -> Result<Vec<PieceHash>, Failure> {
    let geometry = builder.geometry().map_err(|e| Failure::new(Exit::Torrent, e.to_string()))?;
    let mut meter = ProgressLine::new("hashing", &builder.name, geometry.pieces(), silent).with_note();
    let hashes = crate::disk::hash_content(&content.dir, content.on_disk(), geometry, &mut |done, all| {
        meter.show(done, all);
    })
    .map_err(|fault| Failure::new(fault_exit(&fault), fault.to_string()));
    // A file that was removed or cut meanwhile has changed, too.
    content.check_unchanged()?;
    let hashes = hashes?;
    Ok(hashes.chunks_exact(20).filter_map(PieceHash::from_slice).collect())
}

/// How long a pipe is waited for that no program reads yet.
const READER_PATIENCE: Duration = Duration::from_secs(3);
/// How often it is tried meanwhile.
const READER_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Destination of the torrent file.
enum OutputTarget {
    Stdout,
    /// A named pipe or a character device, open for writing.
    Node {
        path: PathBuf,
        node: File,
    },
    /// A regular file, or none yet.
    File {
        path: PathBuf,
        force: bool,
    },
}

impl OutputTarget {
    /// Finds all that can be wrong with the output, before the hashing that takes long.
    fn new(options: &args::Create, name: &str) -> Result<OutputTarget, Failure> {
        let path = match &options.output {
            Some(path) if path.as_os_str() == "-" => return Ok(OutputTarget::Stdout),
            Some(path) => path.clone(),
            None => PathBuf::from(format!("{}.torrent", name.replace('/', "_"))),
        };
        OutputTarget::at(path, options.force)
    }

    fn at(path: PathBuf, force: bool) -> Result<OutputTarget, Failure> {
        let refused = |why: &str| Err(Failure::new(Exit::Create, format!("{}: {why}", shown(&path))));
        let path = match path.metadata() {
            Ok(meta) if is_stdout(&meta) => return Ok(OutputTarget::Stdout),
            Ok(meta) if meta.is_file() => {
                if !force {
                    return Err(already_exists(&path));
                }
                // The file behind a link is replaced, and not the link.
                path.canonicalize().map_err(|e| Failure::os(Exit::Create, shown(&path), &e))?
            }
            Ok(meta) if meta.file_type().is_fifo() || meta.file_type().is_char_device() => {
                let node = open_node(&path).map_err(|e| match e.raw_os_error() {
                    Some(libc::ENXIO) => {
                        Failure::new(Exit::Create, format!("{}: no program reads this pipe", shown(&path)))
                    }
                    _ => Failure::os(Exit::Create, shown(&path), &e),
                })?;
                return Ok(OutputTarget::Node { path, node });
            }
            Ok(meta) if meta.is_dir() => return refused("is a directory; give a file name"),
            Ok(_) => return refused("is a block device or a socket, to which no torrent is written"),
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(Failure::os(Exit::Create, shown(&path), &e));
            }
            Err(_) if path.symlink_metadata().is_ok() => {
                return refused("is a symbolic link to nothing; remove it or give another file name");
            }
            Err(_) => path,
        };
        // Whether a file can be created shows only when one is.
        let temporary = temporary_beside(&path);
        write_new(&temporary, b"").map_err(|e| Failure::os(Exit::Create, shown(&path), &e))?;
        let _ = fs::remove_file(&temporary);
        Ok(OutputTarget::File { path, force })
    }

    /// Returns the place to name in the summary; `None` for stdout.
    fn place(&self) -> Option<String> {
        match self {
            OutputTarget::Stdout => None,
            OutputTarget::Node { path, .. } | OutputTarget::File { path, .. } => Some(shown(path)),
        }
    }

    fn write(self, bytes: &[u8]) -> Result<(), Failure> {
        match self {
            OutputTarget::Stdout => {
                out::raw_data(bytes);
                Ok(())
            }
            OutputTarget::Node { path, mut node } => {
                node.write_all(bytes).map_err(|e| Failure::os(Exit::Io, shown(&path), &e))
            }
            OutputTarget::File { path, force } => {
                let temporary = temporary_beside(&path);
                let written = write_new(&temporary, bytes)
                    .map_err(|e| Failure::os(Exit::Create, shown(&path), &e))
                    .and_then(|()| put_in_place(&temporary, &path, force));
                if written.is_err() {
                    let _ = fs::remove_file(&temporary);
                }
                written
            }
        }
    }
}

/// Returns the path of the temporary file that becomes `path`.
fn temporary_beside(path: &Path) -> PathBuf {
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    directory.join(format!(".rill-create-{}.tmp", std::process::id()))
}

fn put_in_place(temporary: &Path, path: &Path, force: bool) -> Result<(), Failure> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    let moved = match renameat_with(CWD, temporary, CWD, path, RenameFlags::NOREPLACE) {
        // What appeared since the first look is judged again.
        Err(Errno::EXIST) => replace(temporary, path, force)?,
        // The file system has no RENAME_NOREPLACE: look first, then rename.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            if path.symlink_metadata().is_ok() {
                replace(temporary, path, force)?
            } else {
                fs::rename(temporary, path)
            }
        }
        other => other.map_err(io::Error::from),
    };
    moved.map_err(|e| Failure::os(Exit::Create, shown(path), &e))
}

/// Replaces an existing file. Anything but a regular file stays.
fn replace(temporary: &Path, path: &Path, force: bool) -> Result<io::Result<()>, Failure> {
    if !force || !path.symlink_metadata().is_ok_and(|meta| meta.is_file()) {
        return Err(already_exists(path));
    }
    Ok(fs::rename(temporary, path))
}

/// Returns whether this is the file, pipe or device that stdout is, as behind `/dev/stdout`.
fn is_stdout(meta: &Metadata) -> bool {
    let stdout = rustix::fs::fstat(io::stdout());
    stdout.is_ok_and(|stdout| (stdout.st_dev, stdout.st_ino) == (meta.dev(), meta.ino()))
}

/// Opens a pipe or device for writing; waits a little for the reader of a pipe.
fn open_node(path: &Path) -> io::Result<File> {
    let until = Instant::now() + READER_PATIENCE;
    loop {
        let opened = File::options().write(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
        match opened {
            Err(e) if e.raw_os_error() == Some(libc::ENXIO) && Instant::now() < until => {
                thread::sleep(READER_POLL_INTERVAL);
            }
            Err(e) => return Err(e),
            Ok(node) => {
                // Only the opening must not wait.
                let flags = rustix::fs::fcntl_getfl(&node)?;
                rustix::fs::fcntl_setfl(&node, flags - OFlags::NONBLOCK)?;
                return Ok(node);
            }
        }
    }
}

fn already_exists(path: &Path) -> Failure {
    Failure::new(Exit::Exists, format!("{}: exists already; --force overwrites it", shown(path)))
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_data()
}

/// Prints the summary: on stdout, or on stderr if stdout carries the torrent itself and there is no `place`.
fn print_summary(json: bool, place: Option<&str>, m: &Metainfo, files: usize) {
    let on_stdout = place.is_some();
    let place = place.unwrap_or("-");
    let geometry = m.geometry();
    let text = if json {
        let o = Object::new()
            .str("file", place)
            .str("name", m.name())
            .str("info_hash", &m.info_hash().to_string());
        let o = o
            .num("bytes", geometry.total())
            .num("files", files as u64)
            .num("pieces", geometry.pieces().into());
        o.num("piece_length", geometry.nominal_piece_len().into())
            .str("magnet", &m.magnet().to_string())
            .end()
    } else {
        let s = if files == 1 { "" } else { "s" };
        let pieces =
            format!("{} pieces of {}", geometry.pieces(), format::exact(geometry.nominal_piece_len().into()));
        let size = format::size(geometry.total());
        format!(
            "{place}: {size} in {files} file{s}, {pieces}\nInfo hash: {}\nMagnet:    {}",
            m.info_hash(),
            m.magnet()
        )
    };
    if on_stdout {
        out::data(&(text + "\n"));
    } else {
        text.lines().for_each(out::note);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_directory_are_in_byte_order_without_links() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("b")).unwrap();
        for (name, bytes) in [("b/2", 3usize), ("b/1", 0), ("a", 1), ("B", 2), ("c", 4)] {
            fs::write(at(name), vec![0; bytes]).unwrap();
        }
        std::os::unix::fs::symlink("a", at("link")).unwrap();
        let content = InputPath::find(dir.path()).unwrap();
        let names: Vec<String> =
            content.files.iter().map(|(path, len)| format!("{}:{len}", path.join("/"))).collect();
        assert_eq!(names, ["B:2", "a:1", "b/1:0", "b/2:3", "c:4"]);
        assert_eq!(content.on_disk().get(3).unwrap().path_text(), "b/2");
    }

    #[test]
    fn refuses_empty_content_and_missing_paths() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("empty"), "").unwrap();
        assert_eq!(InputPath::find(dir.path()).unwrap_err().exit, Exit::Other);
        assert_eq!(InputPath::find(&dir.path().join("nowhere")).unwrap_err().exit, Exit::Open);
    }

    #[test]
    fn r12_source_date_epoch_is_refused_unless_it_is_a_number_of_seconds() {
        let date = |text: &str| creation_date(Some(text.as_ref()));
        assert_eq!(date("12345"), Ok(Some(12345)));
        assert!(date("").unwrap().unwrap() > 1_700_000_000);
        for nonsense in ["soon", "-1", "+1", " 1", "1.5", "99999999999999999999"] {
            assert_eq!(date(nonsense).unwrap_err().exit, Exit::Option, "{nonsense}");
        }
    }

    #[test]
    fn r12_an_existing_file_is_replaced_only_with_force() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.torrent");
        let write = |bytes: &[u8], force| {
            OutputTarget::at(path.clone(), force).and_then(|target| target.write(bytes)).map_err(|f| f.exit)
        };
        assert_eq!(write(b"one", false), Ok(()));
        assert_eq!(write(b"two", false), Err(Exit::Exists));
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(write(b"three", true), Ok(()));
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn r12_a_file_that_appears_while_the_content_is_hashed_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.torrent");
        let target = OutputTarget::at(path.clone(), false).unwrap();
        fs::write(&path, "new").unwrap();
        assert_eq!(target.write(b"torrent").unwrap_err().exit, Exit::Exists);
        let target = OutputTarget::at(path.clone(), true).unwrap();
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("elsewhere", &path).unwrap();
        assert_eq!(target.write(b"torrent").unwrap_err().exit, Exit::Exists);
        assert!(path.symlink_metadata().unwrap().is_symlink());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn r12_a_file_that_changes_while_it_is_hashed_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["a", "b"] {
            fs::write(at(name), [7; 100]).unwrap();
        }
        let content = InputPath::find(dir.path()).unwrap();
        assert_eq!(content.check_unchanged(), Ok(()));
        let back = at("b").metadata().unwrap().modified().unwrap() - Duration::from_secs(5);
        File::options().write(true).open(at("b")).unwrap().set_modified(back).unwrap();
        let failure = content.check_unchanged().unwrap_err();
        assert_eq!((failure.exit, failure.sentence.contains("/b changed while")), (Exit::Io, true));
        fs::remove_file(at("a")).unwrap();
        assert!(content.check_unchanged().unwrap_err().sentence.contains("/a changed while"));
    }
}
