//! The dictionary of the comments and documents: vague pronouns are counted, because each hides an actor that the sentence should name.
//!
//! Read are the comments of every Rust file of `src`, `tests`, `benches` and `fuzz`, and the documents of the repository. Code and string
//! literals are not read.

#[allow(dead_code)] // The architecture test uses the other functions.
#[path = "architecture/scan.rs"]
mod scan;

use std::path::{Path, PathBuf};

/// The words that the test counts. They are spelled in code alone, so that the test does not find itself.
const VAGUE: [&str; 5] = ["nobody", "somebody", "everybody", "anybody", "whoever"];

/// Vague pronouns allowed in this many words.
const WORDS_PER_PRONOUN: usize = 10_000;

/// Documents beside the Rust files; each must exist.
const DOCUMENTS: [&str; 3] = ["README.md", "tests/HAZARDS.md", "benches/RESULTS.md"];

#[derive(Default)]
struct Count {
    words: usize,
    /// `file:line: word` of each vague pronoun.
    places: Vec<String>,
}

impl Count {
    /// Adds a text whose lines are those of the file. An identifier is one word.
    fn add(&mut self, file: &str, text: &str) {
        for (number, line) in text.lines().enumerate() {
            for word in line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()) {
                self.words += 1;
                if VAGUE.contains(&word.to_lowercase().as_str()) {
                    self.places.push(format!("{file}:{}: {word}", number + 1));
                }
            }
        }
    }

    fn is_too_vague(&self) -> bool {
        self.places.len() * WORDS_PER_PRONOUN > self.words
    }
}

/// Appends the files below `dir` with this extension, without build output.
fn files(dir: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
}

#[test]
fn comments_and_documents_name_their_actors() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut count = Count::default();
    for dir in ["src", "tests", "benches", "fuzz"] {
        let mut sources = Vec::new();
        files(&root.join(dir), "rs", &mut sources);
        // The package that is published has no fuzz targets.
        assert!(!sources.is_empty() || dir == "fuzz", "no Rust files in {dir}");
        for path in sources {
            let source = std::fs::read_to_string(&path).unwrap();
            count.add(&path.strip_prefix(root).unwrap().display().to_string(), &scan::comments(&source));
        }
    }
    let mut documents: Vec<PathBuf> = DOCUMENTS.iter().map(|name| root.join(name)).collect();
    // Optional: a checkout without them is complete.
    documents.extend(Some(root.join("CHANGELOG.md")).filter(|path| path.exists()));
    files(&root.join(".github"), "md", &mut documents);
    for path in documents {
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        count.add(&path.strip_prefix(root).unwrap().display().to_string(), &text);
    }
    assert!(
        !count.is_too_vague(),
        "{} vague pronouns in {} words, more than 1 in {WORDS_PER_PRONOUN}:\n{}",
        count.places.len(),
        count.words,
        count.places.join("\n")
    );
}

#[test]
fn finds_pronouns_in_comments_and_not_in_code_or_literals() {
    let source = "\
//! Somebody asks.
let nobody = \"whoever\"; // Nobody answers.
/* everybody
   anybody */ let c = '\"'; /// whoever, again
let raw = r#\"// somebody\"#;
";
    let mut count = Count::default();
    count.add("a.rs", &scan::comments(source));
    assert_eq!(count.places, ["a.rs:1: Somebody", "a.rs:2: Nobody", "a.rs:3: everybody", "a.rs:4: anybody", "a.rs:4: whoever"]);
    assert_eq!(count.words, 8);
}

#[test]
fn fails_above_one_pronoun_in_ten_thousand_words() {
    let mut count = Count::default();
    count.add("a.md", &"word ".repeat(9_999));
    assert!(!count.is_too_vague(), "without a pronoun");
    count.add("a.md", "nobody");
    assert!(!count.is_too_vague(), "one in 10,000");
    count.add("a.md", "nobody");
    assert!(count.is_too_vague(), "two in 10,001");
}
