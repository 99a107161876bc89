//! Checks that `tests/HAZARDS.md` and the tests agree: every hazard has a test named after it, or is marked
//! as "not built".

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The rows of the table: a letter and the number of rows with it.
const ROWS: [(char, u32); 13] = [
    ('A', 3),
    ('T', 31),
    ('M', 9),
    ('K', 16),
    ('P', 24),
    ('D', 9),
    ('U', 8),
    ('N', 5),
    ('G', 4),
    ('E', 5),
    ('F', 22),
    ('R', 14),
    ('S', 17),
];

/// Collects the names of tests below `dir` that begin with a row in lower case.
fn named_tests(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            named_tests(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let names = text
                .lines()
                .filter_map(|line| line.trim_start().strip_prefix("fn ")?.split(['(', '<']).next());
            found.extend(names.filter(|name| row_of(name).is_some()).map(str::to_owned));
        }
    }
}

/// Returns the row that a test is named after: P3 for `p3_the_claim`.
fn row_of(test: &str) -> Option<String> {
    let (row, rest) = test.split_once('_')?;
    let (letter, number) = row.split_at_checked(1)?;
    let is_row = ROWS.iter().any(|(l, rows)| {
        letter == l.to_ascii_lowercase().to_string()
            && number.parse::<u32>().is_ok_and(|number| (1..=*rows).contains(&number))
    });
    (is_row && !rest.is_empty()).then(|| row.to_uppercase())
}

/// Parses the table: for each row its tests, and whether it is marked as "not built".
fn table(text: &str) -> BTreeMap<String, (Vec<String>, bool)> {
    let mut rows = BTreeMap::new();
    for line in text.lines() {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        let (Some(row), Some(tests), Some(_)) = (cells.next(), cells.next(), cells.next()) else { continue };
        if ROWS.iter().any(|(letter, _)| row.strip_prefix(*letter).is_some_and(|n| n.parse::<u32>().is_ok()))
        {
            let names = tests.split('`').skip(1).step_by(2).map(str::to_owned).collect();
            let before = rows.insert(row.to_owned(), (names, tests.contains("not built")));
            assert!(before.is_none(), "{row} occurs twice in the table");
        }
    }
    rows
}

#[test]
fn every_hazard_has_a_test_named_after_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rows = table(&fs::read_to_string(root.join("tests/HAZARDS.md")).unwrap());
    let mut tests = BTreeSet::new();
    named_tests(&root.join("src"), &mut tests);
    named_tests(&root.join("tests"), &mut tests);
    for (letter, rows_of_letter) in ROWS {
        for number in 1..=rows_of_letter {
            let row = format!("{letter}{number}");
            let (names, not_built) = rows.get(&row).unwrap_or_else(|| panic!("{row} is not in the table"));
            assert!(names.is_empty() == *not_built, "{row} must have a test, or be marked as not built");
            for name in names {
                assert!(tests.contains(name), "{row}: there is no test {name}");
                assert_eq!(row_of(name).as_ref(), Some(&row), "{name} is not named after {row}");
            }
        }
    }
    let listed: BTreeSet<&String> = rows.values().flat_map(|(names, _)| names).collect();
    let missing: Vec<_> = tests.iter().filter(|name| !listed.contains(name)).collect();
    assert!(missing.is_empty(), "tests named after a hazard that are not in the table: {missing:?}");
}
