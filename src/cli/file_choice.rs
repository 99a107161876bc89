//! Choice of a torrent's files by `--select`, `--select-name` and `--exclude-name`.

use super::exit::{Exit, Failure};
use super::format::{self, Selection};
use crate::wire::{FileEntry, Files, Magnet};
use std::collections::BTreeSet;

/// The options that choose files. The default chooses none, which leaves the choice to the source.
#[derive(Debug, Default)]
pub(crate) struct FileChoice {
    /// Files selected by number.
    pub(crate) numbers: Option<Selection>,
    /// Globs of selected files, added to the numbers.
    pub(crate) names: Vec<String>,
    /// Globs of files that are left out, whatever selects them.
    pub(crate) excluded: Vec<String>,
}

impl FileChoice {
    /// Returns the indices of the chosen files; `None` if no option chooses any. Without a selection by an
    /// option, files are excluded from those that the link selects (BEP 53), else from all.
    ///
    /// # Errors
    /// A number or a glob selects no file, or no file is left.
    pub(crate) fn of(&self, files: &Files, link: Option<&Magnet>) -> Result<Option<Vec<usize>>, Failure> {
        if self.numbers.is_none() && self.names.is_empty() && self.excluded.is_empty() {
            return Ok(None);
        }
        let mut chosen = self.selected(files, link)?;
        let left = |index: &usize| {
            let file = files.get(*index);
            file.is_some_and(|file| !self.excluded.iter().any(|pattern| matches(pattern, &file)))
        };
        if !self.excluded.is_empty() {
            chosen.retain(left);
            let is_pad = |index: &usize| files.get(*index).is_some_and(|file| file.attributes.pad);
            if chosen.iter().all(is_pad) {
                return Err(option("--exclude-name leaves no file to fetch"));
            }
        }
        Ok(Some(chosen.into_iter().collect()))
    }

    /// Returns the files that are chosen before any is excluded.
    fn selected(&self, files: &Files, link: Option<&Magnet>) -> Result<BTreeSet<usize>, Failure> {
        let mut chosen = BTreeSet::new();
        if self.numbers.is_none() && self.names.is_empty() {
            let by_link = |index: &usize| {
                link.is_none_or(|link| u32::try_from(*index).is_ok_and(|index| link.selects(index)))
            };
            chosen.extend((0..files.len()).filter(by_link));
            // A link that selects only missing files selects all (M6).
            return Ok(if chosen.is_empty() { (0..files.len()).collect() } else { chosen });
        }
        if let Some(selection) = &self.numbers {
            selection.pick(files.len(), &mut chosen).map_err(option)?;
        }
        for pattern in &self.names {
            let found = files.iter().enumerate().filter(|(_, file)| matches(pattern, file));
            let found: Vec<usize> = found.map(|(index, _)| index).collect();
            if found.is_empty() {
                return Err(option(format!("--select-name {pattern} matches no file")));
            }
            chosen.extend(found);
        }
        Ok(chosen)
    }
}

/// Returns whether the glob matches the file's name, or its path with or without the top-level directory if
/// the glob has a slash.
fn matches(pattern: &str, file: &FileEntry<'_>) -> bool {
    if pattern.contains('/') {
        let below: Vec<&str> = file.path().skip(1).collect();
        format::glob(pattern, &file.path_text()) || format::glob(pattern, &below.join("/"))
    } else {
        file.path().next_back().is_some_and(|name| format::glob(pattern, name))
    }
}

fn option(sentence: impl Into<String>) -> Failure {
    Failure::new(Exit::Option, sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(numbers: Option<&str>, names: &[&str], excluded: &[&str]) -> FileChoice {
        let owned = |globs: &[&str]| globs.iter().map(|glob| glob.to_string()).collect();
        let numbers = numbers.map(|numbers| Selection::parse(numbers).unwrap());
        FileChoice { numbers, names: owned(names), excluded: owned(excluded) }
    }

    fn files() -> Files {
        Files::from_iter([("t/a.mkv", 1), ("t/sub/b.mkv", 1), ("t/c.txt", 1)])
    }

    #[test]
    fn files_are_chosen_by_number_and_by_name() {
        let choose =
            |numbers, names: &[&str]| choice(numbers, names, &[]).of(&files(), None).map_err(|f| f.exit);
        assert_eq!(choose(None, &[]), Ok(None));
        assert_eq!(choose(Some("3"), &["*.mkv"]), Ok(Some(vec![0, 1, 2])));
        assert_eq!(choose(None, &["sub/*"]), Ok(Some(vec![1])));
        assert_eq!(choose(None, &["*.iso"]), Err(Exit::Option));
        assert_eq!(choose(Some("4"), &[]), Err(Exit::Option));
    }

    #[test]
    fn s17_excluded_files_are_left_out_of_whatever_is_selected() {
        let choose = |numbers, names: &[&str], excluded: &[&str]| {
            choice(numbers, names, excluded).of(&files(), None).map_err(|f| f.exit)
        };
        assert_eq!(choose(None, &[], &["*.txt"]), Ok(Some(vec![0, 1])));
        assert_eq!(choose(None, &["*.mkv"], &["sub/*"]), Ok(Some(vec![0])));
        assert_eq!(choose(Some("1,3"), &[], &["a*", "none"]), Ok(Some(vec![2])));
        assert_eq!(choose(None, &[], &["*"]), Err(Exit::Option));
        assert_eq!(choose(Some("3"), &[], &["*.txt"]), Err(Exit::Option));
    }

    #[test]
    fn s17_files_are_excluded_from_those_that_a_link_selects() {
        let link = |so: &str| {
            Magnet::parse(&format!("magnet:?xt=urn:btih:0123456789abcdef0123456789abcdef01234567{so}"))
                .unwrap()
        };
        let choose = |so, excluded: &[&str]| {
            choice(None, &[], excluded).of(&files(), Some(&link(so))).map_err(|f| f.exit)
        };
        assert_eq!(choose("&so=1-2", &["*.txt"]), Ok(Some(vec![1])));
        assert_eq!(choose("&so=9", &["*.txt"]), Ok(Some(vec![0, 1])));
        assert_eq!(choose("", &["*.mkv"]), Ok(Some(vec![2])));
        assert_eq!(choose("&so=2", &["*.txt"]), Err(Exit::Option));
        assert_eq!(choose("&so=2", &[]), Ok(None), "the session applies the link's choice");
    }
}
