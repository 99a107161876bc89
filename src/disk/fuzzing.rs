//! The body of the fuzz target for what this floor reads back: resume records. It promises nothing to users of the library.

/// A resume record, and which torrent it is taken for.
pub fn resume(bytes: &[u8]) {
    super::resume::fuzz(bytes);
}
