//! `rill create`: a torrent of a file or a directory.
//!
//! Files are listed in byte order of their names, directory by directory, so that the same directory gives
//! the same torrent on every machine. Symbolic links and special files are left out with a line on stderr.
//! The torrent file appears complete or not at all, and replaces an existing file only with `--force`.

use super::args;
use super::exit::{Exit, Failure};
use super::json::Object;
use super::progress_line::ProgressLine;
use super::source::{shown, usable_tracker};
use super::{fault_exit, format, out};
use crate::units::PieceHash;
use crate::wire::metainfo::Builder;
use crate::wire::{Files, Metainfo, web_seed_url};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

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
    target.write(&bytes)?;
    if !options.quiet {
        print_summary(options.json, &target, &metainfo, content.files.len());
    }
    Ok(Exit::Done)
}

/// The content of the torrent.
#[derive(Debug, Default)]
struct InputPath {
    /// Path below the torrent's name, and length in bytes.
    files: Vec<(Vec<String>, u64)>,
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
    builder.creation_date = if options.no_date {
        None
    } else {
        creation_date(std::env::var("SOURCE_DATE_EPOCH").ok().as_deref())
    };
    Ok(builder)
}

fn usable_web_seed(url: &str) -> Result<String, Failure> {
    web_seed_url(url.as_bytes())
        .ok_or_else(|| Failure::new(Exit::Option, format!("'{url}' is not an http(s) URL")))
}

fn creation_date(epoch: Option<&str>) -> Option<i64> {
    match epoch.map(str::parse) {
        Some(Ok(seconds)) => Some(seconds),
        _ => SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|d| d.as_secs().try_into().ok()),
    }
}

fn hash(builder: &Builder, content: &InputPath, silent: bool) -> Result<Vec<PieceHash>, Failure> {
    let geometry = builder.geometry().map_err(|e| Failure::new(Exit::Torrent, e.to_string()))?;
    let mut meter = ProgressLine::new(&builder.name, geometry.pieces(), silent);
    let hashes = crate::disk::hash_content(&content.dir, content.on_disk(), geometry, &mut |done, all| {
        meter.show(done, all);
    })
    .map_err(|fault| Failure::new(fault_exit(&fault), fault.to_string()))?;
    Ok(hashes.chunks_exact(20).filter_map(PieceHash::from_slice).collect())
}

/// Destination of the torrent file.
enum OutputTarget {
    Stdout,
    File { path: PathBuf, force: bool },
}

impl OutputTarget {
    fn new(options: &args::Create, name: &str) -> Result<OutputTarget, Failure> {
        let path = match &options.output {
            Some(path) if path.as_os_str() == "-" => return Ok(OutputTarget::Stdout),
            Some(path) => path.clone(),
            None => PathBuf::from(format!("{}.torrent", name.replace('/', "_"))),
        };
        let target = OutputTarget::File { path, force: options.force };
        // Hashing takes long, so an existing file is refused before it.
        target.refuse_existing()?;
        Ok(target)
    }

    fn refuse_existing(&self) -> Result<(), Failure> {
        match self {
            OutputTarget::File { path, force: false } if path.symlink_metadata().is_ok() => {
                Err(already_exists(path))
            }
            _ => Ok(()),
        }
    }

    fn write(&self, bytes: &[u8]) -> Result<(), Failure> {
        match self {
            OutputTarget::Stdout => {
                out::raw_data(bytes).map_err(|e| Failure::os(Exit::Io, "standard output", &e))
            }
            OutputTarget::File { path, force } => {
                let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
                let temporary = directory.join(format!(".rill-create-{}.tmp", std::process::id()));
                let written = write_new(&temporary, bytes)
                    .map_err(|e| Failure::os(Exit::Create, shown(path), &e))
                    .and_then(|()| self.put_in_place(&temporary, path, *force));
                if written.is_err() {
                    let _ = fs::remove_file(&temporary);
                }
                written
            }
        }
    }

    fn put_in_place(&self, temporary: &Path, path: &Path, force: bool) -> Result<(), Failure> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        let moved = if force {
            fs::rename(temporary, path)
        } else {
            match renameat_with(CWD, temporary, CWD, path, RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => return Err(already_exists(path)),
                // The file system has no RENAME_NOREPLACE: look first, then rename.
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                    self.refuse_existing()?;
                    fs::rename(temporary, path)
                }
                other => other.map_err(io::Error::from),
            }
        };
        moved.map_err(|e| Failure::os(Exit::Create, shown(path), &e))
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

fn print_summary(json: bool, target: &OutputTarget, m: &Metainfo, files: usize) {
    let place = match target {
        OutputTarget::Stdout => "-".to_string(),
        OutputTarget::File { path, .. } => shown(path),
    };
    let geometry = m.geometry();
    let text = if json {
        let o = Object::new()
            .str("file", &place)
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
    match target {
        // Stdout carries the torrent itself.
        OutputTarget::Stdout => text.lines().for_each(out::note),
        OutputTarget::File { .. } => {
            out::data(&(text + "\n"));
        }
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
    fn source_date_epoch_sets_the_creation_date() {
        assert_eq!(creation_date(Some("12345")), Some(12345));
        assert!(creation_date(Some("soon")).unwrap() > 1_700_000_000);
    }

    #[test]
    fn an_existing_file_is_replaced_only_with_force() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.torrent");
        let target = |force| OutputTarget::File { path: path.clone(), force };
        target(false).write(b"one").unwrap();
        assert_eq!(target(false).write(b"two").unwrap_err().exit, Exit::Exists);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        target(true).write(b"three").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }
}
