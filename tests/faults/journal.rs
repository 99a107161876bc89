//! Histories of files: all changes that processes made below a directory (the box), as the preloaded library
//! recorded them.
//!
//! ```text
//!   calls, each with a moment before and one after ──► names of each directory, bytes and lengths of each file, syncs
//! ```
//!
//! A history holds the changes and their moments. Which of them are on the disk is for
//! [`crash`](crate::crash) to choose. Bytes that the kernel received into a window count as written when the
//! call that received them returned. The journals of consecutive processes make one history.

use std::collections::BTreeMap;
use std::path::{Component, Path};

/// A moment, unique and increasing.
pub type Moment = u64;

/// The time of one call: a moment before it and one after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub begin: Moment,
    pub end: Moment,
}

/// A change of a directory's names.
#[derive(Clone, Debug)]
pub enum Naming {
    Made { name: String, node: usize },
    Renamed { from: String, to: String, node: usize },
    Removed { name: String },
}

/// A change of a file.
#[derive(Clone, Debug)]
pub enum Change {
    Bytes {
        at: u64,
        bytes: Vec<u8>,
    },
    /// Truncated or extended to this length.
    Length(u64),
    /// At least this long.
    Reserved(u64),
}

/// A file or a directory since its creation.
#[derive(Clone, Debug)]
pub enum Node {
    Dir { names: Vec<(Span, Naming)>, now: BTreeMap<String, usize>, syncs: Vec<Span> },
    File { changes: Vec<(Span, Change)>, syncs: Vec<Span> },
}

/// All files and directories; node 0 is the box.
#[derive(Debug)]
pub struct History {
    pub nodes: Vec<Node>,
    /// The last moment.
    pub end: Moment,
}

const HEAD_LEN: usize = 48;
const AT_FDCWD: i64 = -100;
const O_CREAT: i64 = 0o100;

struct Entry<'a> {
    what: u32,
    span: Span,
    a: i64,
    b: i64,
    c: i64,
    payload: &'a [u8],
}

impl Entry<'_> {
    /// The order of entries: a descriptor or address may be reused as soon as its release begins, and is in
    /// use once the call that returned it has ended.
    fn effect(&self) -> Moment {
        const RELEASES: [u32; 2] = [2, 10];
        if RELEASES.contains(&self.what) { self.span.begin } else { self.span.end }
    }

    fn text(&self) -> &str {
        std::str::from_utf8(self.payload).expect("a path in UTF-8")
    }
}

fn entries(bytes: &[u8], later_by: Moment) -> Vec<Entry<'_>> {
    let mut found = Vec::new();
    let mut rest = bytes;
    // A killed process may have left half an entry at the end.
    while rest.len() >= HEAD_LEN {
        let u32_at = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap());
        let u64_at = |at: usize| u64::from_le_bytes(rest[at..at + 8].try_into().unwrap());
        let len = u32_at(4) as usize;
        let Some(payload) = rest.get(HEAD_LEN..HEAD_LEN + len) else { break };
        let span = Span { begin: u64_at(8) + later_by, end: u64_at(16) + later_by };
        let a = u64_at(24) as i64;
        let b = u64_at(32) as i64;
        let c = u64_at(40) as i64;
        found.push(Entry { what: u32_at(0), span, a, b, c, payload });
        rest = &rest[HEAD_LEN + len..];
    }
    found.sort_by_key(Entry::effect);
    found
}

/// The descriptors and windows of one process.
#[derive(Default)]
struct Process {
    open: BTreeMap<i64, usize>,
    windows: BTreeMap<i64, Window>,
}

struct Window {
    len: i64,
    node: usize,
    at: i64,
}

impl History {
    /// An empty history.
    pub fn new() -> History {
        History {
            nodes: vec![Node::Dir { names: Vec::new(), now: BTreeMap::new(), syncs: Vec::new() }],
            end: 0,
        }
    }

    /// Adds the journal of the next process; `root` is the box.
    pub fn take(&mut self, root: &Path, journal: &[u8]) {
        let mut process = Process::default();
        for entry in entries(journal, self.end) {
            self.enter(root, &mut process, &entry);
        }
        self.end = entries(journal, self.end).iter().map(|e| e.span.end).max().unwrap_or(self.end);
    }

    fn enter(&mut self, root: &Path, process: &mut Process, e: &Entry<'_>) {
        match e.what {
            1 => {
                let (dir, name) = self.place(root, process, e.a, e.text());
                let node = match (self.child(dir, &name), name.as_str()) {
                    (Some(node), _) => node,
                    (None, "") => dir,
                    (None, _) => {
                        assert!(e.b & O_CREAT != 0, "{name} was opened, but no call created it");
                        let file = Node::File { changes: Vec::new(), syncs: Vec::new() };
                        self.make(dir, name, file, e.span)
                    }
                };
                process.open.insert(e.c, node);
            }
            2 => {
                process.open.remove(&e.a);
            }
            3 => {
                let (dir, name) = self.place(root, process, e.a, e.text());
                self.make(
                    dir,
                    name,
                    Node::Dir { names: Vec::new(), now: BTreeMap::new(), syncs: Vec::new() },
                    e.span,
                );
            }
            4 => {
                let (from, to) = e.text().split_once('\0').expect("two names");
                let (dir, from) = self.place(root, process, e.a, from);
                let (other, to) = self.place(root, process, e.b, to);
                assert_eq!(dir, other, "rill renames only within a directory");
                let node = self.child(dir, &from).expect("a renamed file exists");
                self.name(dir, e.span, Naming::Renamed { from, to, node });
            }
            5 => {
                let (dir, name) = self.place(root, process, e.a, e.text());
                self.name(dir, e.span, Naming::Removed { name });
            }
            6 => self.change(process.open[&e.a], e.span, Change::Length(e.b as u64)),
            7 => self.change(process.open[&e.a], e.span, Change::Reserved((e.b + e.c) as u64)),
            8 => self.change(
                process.open[&e.a],
                e.span,
                Change::Bytes { at: e.b as u64, bytes: e.payload.to_vec() },
            ),
            9 => {
                let len = i64::from_le_bytes(e.payload.try_into().expect("a length"));
                process.windows.insert(e.a, Window { len, node: process.open[&e.b], at: e.c });
            }
            10 => {
                process.windows.remove(&e.a);
            }
            11 => {
                let (from, window) =
                    process.windows.range(..=e.a).next_back().expect("a window that is mapped");
                assert!(
                    e.a + e.payload.len() as i64 <= from + window.len,
                    "bytes landed outside of all windows"
                );
                let at = (window.at + e.a - from) as u64;
                self.change(window.node, e.span, Change::Bytes { at, bytes: e.payload.to_vec() });
            }
            12 => match &mut self.nodes[process.open[&e.a]] {
                Node::Dir { syncs, .. } | Node::File { syncs, .. } => syncs.push(e.span),
            },
            other => panic!("unknown entry {other}"),
        }
    }

    fn change(&mut self, node: usize, span: Span, change: Change) {
        let Node::File { changes, .. } = &mut self.nodes[node] else { panic!("a directory was written to") };
        changes.push((span, change));
    }

    fn child(&self, dir: usize, name: &str) -> Option<usize> {
        let Node::Dir { now, .. } = &self.nodes[dir] else { return None };
        now.get(name).copied()
    }

    fn make(&mut self, dir: usize, name: String, node: Node, span: Span) -> usize {
        self.nodes.push(node);
        let node = self.nodes.len() - 1;
        self.name(dir, span, Naming::Made { name, node });
        node
    }

    fn name(&mut self, dir: usize, span: Span, naming: Naming) {
        let Node::Dir { names, now, .. } = &mut self.nodes[dir] else { panic!("a file is no directory") };
        apply(now, &naming);
        names.push((span, naming));
    }

    /// The directory of a path, and the name in it; an empty name means the directory itself.
    fn place(&self, root: &Path, process: &Process, dir: i64, path: &str) -> (usize, String) {
        let path = Path::new(path);
        let (mut at, rest) = match path.strip_prefix(root) {
            Ok(rest) => (0, rest),
            Err(_) => {
                assert!(dir != AT_FDCWD && path.is_relative(), "{path:?} is outside of the box");
                (process.open[&dir], path)
            }
        };
        let names: Vec<&str> = rest
            .components()
            .filter(|part| *part != Component::CurDir)
            .map(|part| part.as_os_str().to_str().expect("a name in UTF-8"))
            .collect();
        let Some((last, way)) = names.split_last() else { return (at, String::new()) };
        for name in way {
            at = self.child(at, name).unwrap_or_else(|| panic!("{name} of {path:?} does not exist"));
        }
        (at, last.to_string())
    }
}

/// Applies a change to the names of a directory.
pub fn apply(names: &mut BTreeMap<String, usize>, naming: &Naming) {
    match naming {
        Naming::Made { name, node } => {
            names.insert(name.clone(), *node);
        }
        Naming::Renamed { from, to, node } => {
            names.remove(from);
            names.insert(to.clone(), *node);
        }
        Naming::Removed { name } => {
            names.remove(name);
        }
    }
}
