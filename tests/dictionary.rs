//! Counts vague words ("nobody" and the like), which name no actor, in all comments and documents: at most
//! one per ten thousand words. Code and quoted output of programs are not counted.

use std::path::{Path, PathBuf};

/// Words that hide an actor.
const VAGUE: [&str; 5] = ["nobody", "somebody", "everybody", "anybody", "whoever"];

/// Words of text per allowed vague word.
const WORDS_FOR_ONE: usize = 10_000;

/// Returns the comment of a line of Rust, without the code before it.
fn comment(line: &str) -> &str {
    let mut in_text = false;
    let mut before = '\0';
    for (at, c) in line.char_indices() {
        if c == '"' && before != '\\' && before != '\'' {
            in_text = !in_text;
        }
        // `https://` is part of an address, in a literal as in code.
        if !in_text && before != ':' && line[at..].starts_with("//") {
            return &line[at..];
        }
        before = c;
    }
    ""
}

/// Returns a line of Markdown, or an empty text for lines of fenced blocks and tables.
fn prose<'a>(line: &'a str, fenced: &mut bool) -> &'a str {
    if line.trim_start().starts_with("```") {
        *fenced = !*fenced;
        return "";
    }
    if *fenced || line.starts_with('|') { "" } else { line }
}

/// Returns the words of a text in lower case, without code in backquotes.
fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    let outside_code = text.split('`').step_by(2);
    outside_code
        .flat_map(|part| part.split(|c: char| !c.is_alphanumeric()))
        .filter(|w| !w.is_empty())
        .map(str::to_lowercase)
}

#[derive(Debug, Default)]
struct Count {
    words: usize,
    vague: Vec<String>,
}

impl Count {
    fn add(&mut self, place: &str, text: &str) {
        for word in words(text) {
            self.words += 1;
            if VAGUE.contains(&word.as_str()) {
                self.vague.push(format!("{place}: {word}: {}", text.trim()));
            }
        }
    }

    fn too_many(&self) -> bool {
        self.vague.len() * WORDS_FOR_ONE > self.words
    }
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && name != "target" && name != "corpus" {
            files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs" || e == "md") {
            found.push(path);
        }
    }
}

fn count(path: &Path, count: &mut Count) {
    let text = std::fs::read_to_string(path).unwrap();
    let is_rust = path.extension().is_some_and(|e| e == "rs");
    let mut fenced = false;
    for (at, line) in text.lines().enumerate() {
        let text = if is_rust { comment(line) } else { prose(line, &mut fenced) };
        count.add(&format!("{}:{}", path.display(), at + 1), text);
    }
}

#[test]
fn sentences_name_their_actor() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = vec![root.join("README.md"), root.join("CHANGELOG.md")];
    for dir in ["src", "tests", "benches", "fuzz", ".github"] {
        files(&root.join(dir), &mut found);
    }
    // This file contains the words.
    found.retain(|path| !path.ends_with("tests/dictionary.rs") && path.exists());
    let mut all = Count::default();
    found.iter().for_each(|path| count(path, &mut all));
    assert!(all.words > 50_000, "only {} words were found", all.words);
    assert!(!all.too_many(), "{} of {} words:\n{}", all.vague.len(), all.words, all.vague.join("\n"));
}

#[test]
fn a_vague_word_is_found_in_comments_and_not_in_code() {
    let vague = |line: &str| {
        let mut count = Count::default();
        count.add("x", comment(line));
        count.vague.len()
    };
    assert_eq!(vague("    let x = 1; // Nobody knows, and whoever asks …"), 2);
    assert_eq!(vague("/// It is somebody's."), 1, "a possessive counts");
    assert_eq!(vague("let nobody = \"// anybody\";"), 0);
    assert_eq!(vague("// the variable `nobody`"), 0);
    assert_eq!(vague("let url = \"http://x\"; // everybody"), 1);
}

#[test]
fn blocks_and_tables_of_a_document_are_not_prose() {
    let mut fenced = false;
    let lines = ["Nobody.", "```", "nobody", "```", "| nobody | 3 |", "anybody"];
    let mut count = Count::default();
    lines.iter().for_each(|line| count.add("x", prose(line, &mut fenced)));
    assert_eq!(count.vague.len(), 2, "{:?}", count.vague);
}

#[test]
fn one_in_ten_thousand_is_allowed() {
    let count = |words, vague| Count { words, vague: vec![String::new(); vague] };
    assert!(!count(10_000, 1).too_many() && count(9_999, 1).too_many() && count(20_001, 3).too_many());
}
