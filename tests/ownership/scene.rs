//! What meets in one run: directories that are one directory or share files, the torrents, and the files that
//! were there before.

use crate::folding_mount::FoldingMount;
use crate::library::{Library, PIECE, Torrent};
use crate::mounts;
use crate::support::content;
use rill::units::Rng;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Situation {
    /// Two processes with one torrent.
    Processes,
    /// Two torrents with the same paths and other content, in two processes or in one.
    Torrents,
    /// One torrent with two entries.
    Entries,
}

/// Where they meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    SameDirectory,
    LinkedDirectory,
    FoldingMount,
    HardLink,
    BindMount,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    Mapped,
    Plain,
}

/// A cell of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    pub situation: Situation,
    pub place: Place,
    pub storage: Storage,
}

impl Cell {
    /// All cells at these places.
    pub fn all(places: &[Place]) -> Vec<Cell> {
        let mut cells = Vec::new();
        for situation in [Situation::Processes, Situation::Torrents, Situation::Entries] {
            for &place in places {
                for storage in [Storage::Mapped, Storage::Plain] {
                    cells.push(Cell { situation, place, storage });
                }
            }
        }
        cells
    }
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let situation = match self.situation {
            Situation::Processes => "two processes",
            Situation::Torrents => "two torrents",
            Situation::Entries => "two entries",
        };
        let place = match self.place {
            Place::SameDirectory => "same directory",
            Place::LinkedDirectory => "linked directory",
            Place::FoldingMount => "folding mount",
            Place::HardLink => "hard link",
            Place::BindMount => "bind mount",
        };
        let storage = if self.storage == Storage::Mapped { "mapped" } else { "plain" };
        f.pad(&format!("{situation}, {place}, {storage}"))
    }
}

/// One command of the run, which is started again after it was stopped.
pub struct Actor<'a> {
    pub torrents: Vec<&'a Torrent>,
    pub dir: PathBuf,
    /// `None`: `--no-state`.
    pub state: Option<PathBuf>,
}

/// A file that is not rill's, and the bytes that it must keep.
pub struct Stranger {
    pub path: PathBuf,
    pub bytes: Vec<u8>,
    /// Written by another program during the run, unless the path is taken by then.
    pub late: bool,
    /// Longer than the torrent's file.
    pub is_longer: bool,
}

pub struct Scene<'a> {
    pub actors: Vec<Actor<'a>>,
    pub stranger: Option<Stranger>,
    /// The exit codes with which a command may be refused because of the other one or of itself.
    pub refusals: &'static [i32],
    /// Two entries are one file, so the torrent cannot be complete.
    pub shared: bool,
    /// The state of the place before, for the report.
    pub before: String,
    // Dropped in this order, the inner mount first.
    _inner: Option<Bound>,
    _bound: Option<Bound>,
    _folding: Option<FoldingMount>,
}

/// A bind mount; unmounted when it is dropped.
struct Bound(PathBuf);

impl Bound {
    fn new(from: &Path, at: PathBuf) -> Bound {
        fs::create_dir_all(&at).unwrap();
        mounts::run(Command::new("mount").arg("--bind").arg(from).arg(&at));
        Bound(at)
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// The ways to the content: two directories, which may be one.
struct Ways {
    dirs: [PathBuf; 2],
    bound: Option<Bound>,
    folding: Option<FoldingMount>,
}

impl Ways {
    fn new(place: Place, root: &Path, rng: &mut Rng) -> Ways {
        let down = root.join("down");
        fs::create_dir_all(&down).unwrap();
        let mut ways = Ways { dirs: [down.clone(), down.clone()], bound: None, folding: None };
        match place {
            Place::SameDirectory => {}
            Place::LinkedDirectory => {
                ways.dirs[1] = root.join("link");
                symlink(if rng.below(2) == 0 { Path::new("down") } else { &down }, &ways.dirs[1]).unwrap();
            }
            Place::HardLink => {
                ways.dirs[1] = root.join("other");
                fs::create_dir_all(&ways.dirs[1]).unwrap();
            }
            Place::BindMount => {
                ways.dirs[1] = root.join("bound");
                ways.bound = Some(Bound::new(&down, ways.dirs[1].clone()));
            }
            Place::FoldingMount => {
                let mount = FoldingMount::new(&down, root.join("mount"));
                ways.dirs = ["L\u{e4}nd", "LA\u{308}ND"].map(|dir| mount.path().join(dir));
                fs::create_dir(&ways.dirs[0]).unwrap();
                ways.folding = Some(mount);
            }
        }
        if rng.below(2) == 0 {
            ways.dirs.reverse();
        }
        ways
    }
}

impl<'a> Scene<'a> {
    /// Sets up a run below `root`, which is empty.
    pub fn new(cell: Cell, library: &'a Library, root: &Path, rng: &mut Rng) -> Scene<'a> {
        let ways = Ways::new(cell.place, root, rng);
        let mut scene = Scene {
            actors: Vec::new(),
            stranger: None,
            refusals: &[],
            shared: true,
            before: "nothing".into(),
            _inner: None,
            _bound: ways.bound,
            _folding: ways.folding,
        };
        let [one, two] = &ways.dirs;
        match cell.situation {
            Situation::Processes => {
                let torrent = any(&library.alone, rng);
                scene.add(vec![torrent], one);
                scene.add(vec![torrent], two);
                // The directories of hard links are two directories.
                scene.refusals = if cell.place == Place::HardLink { &[11, 12] } else { &[12] };
                scene.fill(cell.place, [torrent, torrent], [one, two], rng);
            }
            Situation::Torrents => {
                let one_command = rng.below(2) == 0;
                let pairs = match cell.place {
                    Place::FoldingMount => &library.folding,
                    Place::HardLink if one_command => &library.different,
                    _ => &library.same,
                };
                let pair = any(pairs, rng);
                let mut pair = [&pair[0], &pair[1]];
                if rng.below(2) == 0 {
                    pair.reverse();
                }
                scene.refusals = &[11, 13];
                if one_command {
                    scene.add(pair.to_vec(), two);
                    scene.fill(cell.place, pair, [two, two], rng);
                } else {
                    scene.add(vec![pair[0]], one);
                    scene.add(vec![pair[1]], two);
                    scene.fill(cell.place, pair, [one, two], rng);
                }
            }
            Situation::Entries => scene.add_entries(cell.place, library, one, two, rng),
        }
        scene.choose_states(root, rng);
        scene
    }

    fn add(&mut self, torrents: Vec<&'a Torrent>, dir: &Path) {
        self.actors.push(Actor { torrents, dir: dir.to_path_buf(), state: None });
    }

    /// The state directories: one for all, one for each, or none.
    fn choose_states(&mut self, root: &Path, rng: &mut Rng) {
        let kind = rng.below(6);
        for (i, actor) in self.actors.iter_mut().enumerate() {
            actor.state = match kind {
                0..3 => Some(root.join("state")),
                3..5 => Some(root.join(format!("state-{i}"))),
                _ => None,
            };
        }
    }

    /// Makes the files that two torrents or processes find.
    fn fill(&mut self, place: Place, torrents: [&Torrent; 2], dirs: [&PathBuf; 2], rng: &mut Rng) {
        if place == Place::HardLink {
            let pieces = rng.below(12);
            let (first, second) = (torrents[0].files(), torrents[1].files());
            for ((path, bytes), (linked, _)) in first.zip(second) {
                let (path, linked) = (dirs[0].join(path), dirs[1].join(linked));
                write(&path, &bytes[..bytes.len().min(pieces * PIECE as usize)]);
                fs::create_dir_all(linked.parent().unwrap()).unwrap();
                fs::hard_link(path, linked).unwrap();
            }
            self.before = format!("linked files with {pieces} pieces");
            return;
        }
        let (path, right) = torrents[0].files().next().unwrap();
        let (path, len) = (dirs[0].join(path), right.len());
        match rng.below(10) {
            0 | 1 => {
                let pieces = 1 + rng.below(10);
                write(&path, &right[..len.min(pieces * PIECE as usize)]);
                self.before = format!("{pieces} pieces of the first torrent");
            }
            2 => {
                let bytes = content(1 + rng.below(1_200_000), rng.u64());
                write(&path, &bytes);
                self.before = format!("another file of {} bytes", bytes.len());
                self.stranger = Some(Stranger { path, is_longer: bytes.len() > len, bytes, late: false });
            }
            3 | 4 => {
                let bytes = content(1 + rng.below(1_200_000), rng.u64());
                self.before = format!("nothing, and later another file of {} bytes", bytes.len());
                self.stranger = Some(Stranger { path, is_longer: bytes.len() > len, bytes, late: true });
            }
            _ => {}
        }
    }

    /// One torrent whose entries are one file, or at `SameDirectory` only have one name.
    fn add_entries(&mut self, place: Place, library: &'a Library, one: &Path, two: &Path, rng: &mut Rng) {
        // A link is in the way; what the kernel calls one file is held, once it exists.
        self.refusals = if place == Place::LinkedDirectory { &[11, 13] } else { &[11] };
        match place {
            Place::SameDirectory => {
                self.shared = false;
                self.refusals = &[];
                self.add(vec![any(&library.entries, rng)], one);
            }
            Place::FoldingMount => self.add(vec![any(&library.folding_entries, rng)], one),
            Place::LinkedDirectory => {
                self.add(vec![&library.entries_in_directories], two);
                fs::create_dir_all(two.join("it/a")).unwrap();
                symlink("a", two.join("it/b")).unwrap();
                self.before = "it/b is a link to it/a".into();
            }
            Place::BindMount => {
                self.add(vec![&library.entries_in_directories], one);
                fs::create_dir_all(one.join("it/a")).unwrap();
                self._inner = Some(Bound::new(&one.join("it/a"), one.join("it/b")));
                self.before = "it/b is it/a".into();
            }
            Place::HardLink => {
                let torrent = &library.plain_entries;
                self.add(vec![torrent], one);
                let pieces = rng.below(12);
                let (path, bytes) = torrent.files().next().unwrap();
                write(&one.join(&path), &bytes[..bytes.len().min(pieces * PIECE as usize)]);
                fs::hard_link(one.join(&path), one.join("it/two.bin")).unwrap();
                self.before = format!("linked files with {pieces} pieces");
            }
        }
    }
}

impl Stranger {
    /// Another program writes the file, unless the path is taken. Returns whether it did.
    pub fn appear(&self) -> bool {
        let _ = fs::create_dir_all(self.path.parent().unwrap());
        File::create_new(&self.path).is_ok_and(|mut file| file.write_all(&self.bytes).is_ok())
    }
}

fn any<'a, T>(of: &'a [T], rng: &mut Rng) -> &'a T {
    &of[rng.below(of.len())]
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}
