//! A small scanner for Rust: tells code from comments, literals and tests, and expands the paths in code.

/// Replaces comments, string and character literals by blanks; line ends are kept.
pub fn blank_comments_and_texts(source: &str) -> String {
    let s: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(s.len());
    let mut at = 0;
    while at < s.len() {
        let end = at + literal_len(&s[at..], at > 0 && is_word(s[at - 1]));
        if end > at {
            out.extend(s[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        } else {
            out.push(s[at]);
            at += 1;
        }
    }
    out
}

/// Replaces all but the comments by blanks; line ends are kept.
#[allow(dead_code)] // The dictionary test uses it.
pub fn comments(source: &str) -> String {
    let s: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(s.len());
    let mut at = 0;
    while at < s.len() {
        let len = literal_len(&s[at..], at > 0 && is_word(s[at - 1]));
        let is_comment = len > 0 && s[at] == '/';
        let end = at + len.max(1);
        out.extend(s[at..end].iter().map(|c| if is_comment || *c == '\n' { *c } else { ' ' }));
        at = end;
    }
    out
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Returns the length in characters of the comment or literal at the start of `s`, or 0. `inside` means that
/// the previous character is part of a word, so no raw string begins here.
fn literal_len(s: &[char], inside: bool) -> usize {
    let starts = |text: &str| s.len() >= text.chars().count() && text.chars().zip(s).all(|(a, b)| a == *b);
    if starts("//") {
        return s.iter().position(|c| *c == '\n').unwrap_or(s.len());
    }
    if starts("/*") {
        let mut depth = 0;
        let mut at = 0;
        while at < s.len() {
            match s[at..] {
                ['/', '*', ..] => {
                    depth += 1;
                    at += 2;
                }
                ['*', '/', ..] if depth == 1 => return at + 2,
                ['*', '/', ..] => {
                    depth -= 1;
                    at += 2;
                }
                _ => at += 1,
            }
        }
        return s.len();
    }
    if starts("\"") {
        return quoted_len(s, '"');
    }
    if !inside && ["r\"", "r#", "br\"", "br#"].iter().any(|p| starts(p)) {
        let from = s.iter().position(|c| *c == 'r').unwrap_or(0) + 1;
        let hashes = s[from..].iter().take_while(|c| **c == '#').count();
        if s.get(from + hashes) == Some(&'"') {
            let mut at = from + hashes + 1;
            while at < s.len() {
                if s[at] == '"' && s[at + 1..].iter().take_while(|c| **c == '#').count() >= hashes {
                    return at + 1 + hashes;
                }
                at += 1;
            }
            return s.len();
        }
    }
    match s {
        ['\'', '\\', ..] => quoted_len(s, '\''),
        ['\'', _, '\'', ..] => 3,
        _ => 0, // a lifetime, or nothing
    }
}

fn quoted_len(s: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < s.len() && s[at] != quote {
        at += if s[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(s.len())
}

/// Replaces every item under `#[cfg(test)]` by blanks.
pub fn blank_tests(code: &str) -> String {
    let mut out = code.to_string();
    while let Some(at) = out.find("#[cfg(test)]") {
        let end = at + item_len(&out[at..]);
        let blanks: String = out[at..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        out.replace_range(at..end, &blanks);
    }
    out
}

/// Returns the length in bytes of the item at the start of `code`, attributes included, up to its `;` or its
/// closing brace.
fn item_len(code: &str) -> usize {
    let mut depth = 0i32;
    for (at, c) in code.char_indices() {
        match c {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => depth -= 1,
            _ => {}
        }
        if depth == 0 && (c == ';' || c == '}') {
            return at + 1;
        }
    }
    code.len()
}

/// Returns the modules that this file declares under `#[cfg(test)]`, as paths below `src` without `.rs`.
pub fn test_modules(path: &str, source: &str) -> Vec<String> {
    let code = blank_comments_and_texts(source);
    let dir = path.trim_end_matches(".rs").trim_end_matches("/mod");
    let mut found = Vec::new();
    let mut rest = code.as_str();
    while let Some(at) = rest.find("#[cfg(test)]") {
        let item = &rest[at..at + item_len(&rest[at..])];
        let words = words(item);
        if let (true, Some(name)) = (item.ends_with(';'), words.iter().skip_while(|w| *w != "mod").nth(1)) {
            found.push(format!("{dir}/{name}"));
        }
        rest = &rest[at + item.len()..];
    }
    found
}

/// Returns the words of the code.
pub fn words(code: &str) -> Vec<String> {
    code.split(|c| !is_word(c)).filter(|w| !w.is_empty()).map(str::to_string).collect()
}

/// Returns every path in the code, with groups expanded and `super` resolved from `module` and the modules
/// inside the file.
pub fn full_paths(code: &str, module: &[&str]) -> Vec<String> {
    let tokens = tokens(code);
    let mut home: Vec<String> = module.iter().map(|m| (*m).to_string()).collect();
    // For each open brace, whether it opened a module.
    let mut braces: Vec<bool> = Vec::new();
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let before = |n: usize| at.checked_sub(n).map(|at| tokens[at].as_str());
        match tokens[at].as_str() {
            "{" => {
                let is_module = before(2) == Some("mod");
                if is_module {
                    home.push(tokens[at - 1].clone());
                }
                braces.push(is_module);
            }
            "}" if braces.pop() == Some(true) => {
                home.pop();
            }
            word if word.chars().all(is_word) && before(1) != Some("::") => {
                let mut paths = Vec::new();
                at = follow(&tokens, at, &mut Vec::new(), &mut paths).max(at + 1);
                found.extend(paths.iter().map(|path| resolve(path, &home)));
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

fn tokens(code: &str) -> Vec<String> {
    let c: Vec<char> = code.chars().collect();
    let mut out = Vec::new();
    let mut at = 0;
    while at < c.len() {
        let end = match c[at] {
            x if is_word(x) => at + c[at..].iter().take_while(|x| is_word(**x)).count(),
            ':' if c.get(at + 1) == Some(&':') => at + 2,
            _ => at + 1,
        };
        let token: String = c[at..end].iter().collect();
        if !token.trim().is_empty() {
            out.push(token);
        }
        at = end;
    }
    out
}

/// Expands the path at token `at` with this prefix. Returns the index after its last token.
fn follow(tokens: &[String], mut at: usize, prefix: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> usize {
    let depth = prefix.len();
    while at < tokens.len() && tokens[at].chars().all(is_word) {
        prefix.push(tokens[at].clone());
        at += 1;
        if tokens.get(at).map(String::as_str) != Some("::") {
            break;
        }
        at += 1;
        if tokens.get(at).map(String::as_str) == Some("{") {
            at += 1;
            while at < tokens.len() && tokens[at] != "}" {
                at = follow(tokens, at, prefix, found).max(at + 1);
            }
            prefix.truncate(depth);
            return at + 1;
        }
    }
    if prefix.len() > depth {
        found.push(prefix.clone());
    }
    prefix.truncate(depth);
    at
}

fn resolve(path: &[String], module: &[String]) -> String {
    let ups = path.iter().take_while(|p| *p == "super").count();
    match path[0].as_str() {
        "super" if ups <= module.len() => {
            let base = module[..module.len() - ups].iter().cloned();
            ["crate".to_string()]
                .into_iter()
                .chain(base)
                .chain(path[ups..].iter().cloned())
                .collect::<Vec<_>>()
                .join("::")
        }
        _ => path.join("::"),
    }
}
