//! Writes bencode for tests, valid or not: with keys in any order, repeated keys and wrong types.

/// Each peer message of a fixed length (BEP 3, 5, 6): its id, and the length of its body in bytes.
pub(crate) const FIXED_LENGTHS: [(u8, u32); 13] = [
    (0, 0),
    (1, 0),
    (2, 0),
    (3, 0),
    (4, 4),
    (6, 12),
    (8, 12),
    (9, 2),
    (13, 4),
    (14, 0),
    (15, 0),
    (16, 12),
    (17, 4),
];

/// Returns a string.
pub fn s(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [format!("{}:", text.len()).as_bytes(), text].concat()
}

/// Returns an integer, or any other text between `i` and `e`.
pub fn i(number: impl std::fmt::Display) -> Vec<u8> {
    format!("i{number}e").into_bytes()
}

/// Returns a list of values.
pub fn list(items: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    [b"l".to_vec(), items.into_iter().collect::<Vec<_>>().concat(), b"e".to_vec()].concat()
}

/// Returns a dictionary with its keys in the given order.
pub fn dict<'a>(pairs: impl IntoIterator<Item = (&'a str, Vec<u8>)>) -> Vec<u8> {
    let inside: Vec<_> = pairs.into_iter().map(|(key, value)| [s(key), value].concat()).collect();
    [b"d".to_vec(), inside.concat(), b"e".to_vec()].concat()
}

/// A valid torrent of 100 bytes in one piece, whose fields a test can change.
pub struct SampleTorrent {
    outer: Vec<(&'static str, Vec<u8>)>,
    info: Vec<(&'static str, Vec<u8>)>,
}

impl SampleTorrent {
    /// Returns a single file `name`, without trackers.
    pub fn single() -> SampleTorrent {
        let info =
            vec![("length", i(100)), ("name", s("name")), ("piece length", i(16384)), ("pieces", s([7; 20]))];
        SampleTorrent { outer: Vec::new(), info }
    }

    /// Returns a directory `name` with these entries of `files`.
    pub fn of(files: impl IntoIterator<Item = Vec<u8>>) -> SampleTorrent {
        SampleTorrent::single().without("length").info("files", list(files))
    }

    /// Returns a directory `name` with one file of 10 bytes at each of these paths.
    pub fn with_paths(paths: &[&[&str]]) -> SampleTorrent {
        SampleTorrent::of(paths.iter().map(|path| file(path, 10)))
    }

    /// Sets a field of `info`; a new one is appended.
    pub fn info(mut self, key: &'static str, value: Vec<u8>) -> SampleTorrent {
        match self.info.iter_mut().find(|(k, _)| *k == key) {
            Some((_, old)) => *old = value,
            None => self.info.push((key, value)),
        }
        self
    }

    /// Appends a field to `info`, even if it is there already.
    pub fn info_again(mut self, key: &'static str, value: Vec<u8>) -> SampleTorrent {
        self.info.push((key, value));
        self
    }

    /// Removes a field from `info`.
    pub fn without(mut self, key: &str) -> SampleTorrent {
        self.info.retain(|(k, _)| *k != key);
        self
    }

    /// Appends a field outside `info`.
    pub fn outer(mut self, key: &'static str, value: Vec<u8>) -> SampleTorrent {
        self.outer.push((key, value));
        self
    }

    /// Returns the info dictionary.
    pub fn info_bytes(&self) -> Vec<u8> {
        dict(self.info.clone())
    }

    /// Returns the .torrent file.
    pub fn bytes(&self) -> Vec<u8> {
        dict(self.outer.clone().into_iter().chain([("info", self.info_bytes())]))
    }
}

/// Returns an entry of `files`.
pub fn file(path: &[&str], length: u64) -> Vec<u8> {
    dict([("length", i(length)), ("path", list(path.iter().map(s)))])
}

/// Returns an entry of `files` with attributes (BEP 47).
pub fn file_with_attr(attr: &str, path: &[&str], length: u64) -> Vec<u8> {
    dict([("attr", s(attr)), ("length", i(length)), ("path", list(path.iter().map(s)))])
}
