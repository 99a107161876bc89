//! Whether a file is as its record says, and if not, who changed it.

use super::dir::FsKind;
use super::limits;
use super::stamp::FileStamp;

/// How a file differs from the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileChange {
    None,
    /// The change that writes of rill after the record make.
    Ours,
    /// Any other change.
    Theirs,
}

/// Compares a file with its stamp in the record. `running`: the record was written while the torrent was open
/// for writing. `length`: the file's length in the torrent.
pub(super) fn compare(
    then: Option<FileStamp>,
    now: FileStamp,
    running: bool,
    fs: FsKind,
    length: u64,
) -> FileChange {
    let Some(then) = then else {
        return if running { FileChange::Ours } else { FileChange::Theirs };
    };
    // FAT and network file systems make inode numbers up anew at every mount.
    let same_file = then.inode == now.inode || !fs.sparse();
    let same_time = match fs {
        FsKind::Fat { .. } => fat_same_time(then.mtime_s, now.mtime_s),
        _ => (then.mtime_s, then.mtime_ns) == (now.mtime_s, now.mtime_ns),
    };
    if same_file && same_time && then.size == now.size {
        return FileChange::None;
    }
    let later = (now.mtime_s, now.mtime_ns) >= (then.mtime_s, then.mtime_ns);
    let grown = now.size >= then.size && now.size <= length.max(then.size);
    if same_file && running && later && grown { FileChange::Ours } else { FileChange::Theirs }
}

/// Whether two times may be one on FAT, which counts in steps of two seconds and in local time: a change of
/// zone or of summer time shifts all of them.
fn fat_same_time(a: i64, b: i64) -> bool {
    let difference = a.abs_diff(b) as i64;
    let from_quarter = difference % 900;
    let slack = limits::FAT_MTIME_SLACK_S;
    difference <= 26 * 3600 && (from_quarter <= slack || 900 - from_quarter <= slack)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r4_summer_time_another_zone_and_steps_of_two_seconds_are_no_change_on_fat() {
        for (then, now, same) in [
            (0, 0, true),
            (0, 2, true),
            (0, 3600, true),
            (7200, 2, true),
            (0, -3 * 900, true),
            (0, 300, false),
        ] {
            assert_eq!(fat_same_time(then, now), same, "{then} {now}");
        }
        let then = FileStamp { inode: 1, size: 10, mtime_s: 1_700_000_000, mtime_ns: 5 };
        // A clock that began in 1970 and was set right in between, or jumped back. Where times are exact,
        // another time is another content.
        let fresh = FileStamp { mtime_s: 12, ..then };
        assert_eq!(compare(Some(then), fresh, true, FsKind::Native, 10), FileChange::Theirs);
        assert_eq!(compare(Some(fresh), then, true, FsKind::Native, 10), FileChange::Ours);
    }
}
