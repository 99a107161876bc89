//! The fuzz target of this floor's only untrusted input: resume records. Not part of the library's interface.

/// Reads the bytes as a resume record; the first byte chooses the torrent that it is read for.
pub fn resume(bytes: &[u8]) {
    super::resume_record::fuzz(bytes);
}
