//! Bencode written by hand, for tests that need what no encoder would write: any order, any repetition, any nonsense.

/// A string.
pub fn s(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [format!("{}:", text.len()).as_bytes(), text].concat()
}

/// An integer, or whatever is put between `i` and `e`.
pub fn i(number: impl std::fmt::Display) -> Vec<u8> {
    format!("i{number}e").into_bytes()
}

/// A list of written values.
pub fn list(items: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    [b"l".to_vec(), items.into_iter().collect::<Vec<_>>().concat(), b"e".to_vec()].concat()
}

/// A dictionary with its keys in the order given.
pub fn dict<'a>(pairs: impl IntoIterator<Item = (&'a str, Vec<u8>)>) -> Vec<u8> {
    let inside: Vec<_> = pairs.into_iter().map(|(key, value)| [s(key), value].concat()).collect();
    [b"d".to_vec(), inside.concat(), b"e".to_vec()].concat()
}

/// A torrent of 100 bytes in one piece, to be spoiled field by field.
pub struct SampleTorrent {
    outer: Vec<(&'static str, Vec<u8>)>,
    info: Vec<(&'static str, Vec<u8>)>,
}

impl SampleTorrent {
    /// One file `name`, without tracker.
    pub fn single() -> SampleTorrent {
        let info = vec![("length", i(100)), ("name", s("name")), ("piece length", i(16384)), ("pieces", s([7; 20]))];
        SampleTorrent { outer: Vec::new(), info }
    }

    /// A directory `name` with these written file entries.
    pub fn of(files: impl IntoIterator<Item = Vec<u8>>) -> SampleTorrent {
        SampleTorrent::single().without("length").info("files", list(files))
    }

    /// A directory `name` with one file of 10 bytes at each of these paths.
    pub fn with_paths(paths: &[&[&str]]) -> SampleTorrent {
        SampleTorrent::of(paths.iter().map(|path| file(path, 10)))
    }

    /// Sets a field of `info`; a new one comes last.
    pub fn info(mut self, key: &'static str, value: Vec<u8>) -> SampleTorrent {
        match self.info.iter_mut().find(|(k, _)| *k == key) {
            Some((_, old)) => *old = value,
            None => self.info.push((key, value)),
        }
        self
    }

    /// Adds a field to `info`, again if need be.
    pub fn info_again(mut self, key: &'static str, value: Vec<u8>) -> SampleTorrent {
        self.info.push((key, value));
        self
    }

    /// Takes a field out of `info`.
    pub fn without(mut self, key: &str) -> SampleTorrent {
        self.info.retain(|(k, _)| *k != key);
        self
    }

    /// Adds a field beside `info`.
    pub fn outer(mut self, key: &'static str, value: Vec<u8>) -> SampleTorrent {
        self.outer.push((key, value));
        self
    }

    /// The info dictionary.
    pub fn info_bytes(&self) -> Vec<u8> {
        dict(self.info.clone())
    }

    /// The file.
    pub fn bytes(&self) -> Vec<u8> {
        dict(self.outer.clone().into_iter().chain([("info", self.info_bytes())]))
    }
}

/// An entry of `files`.
pub fn file(path: &[&str], length: u64) -> Vec<u8> {
    dict([("length", i(length)), ("path", list(path.iter().map(s)))])
}

/// An entry of `files` with attributes (BEP 47).
pub fn file_with_attr(attr: &str, path: &[&str], length: u64) -> Vec<u8> {
    dict([("attr", s(attr)), ("length", i(length)), ("path", list(path.iter().map(s)))])
}
