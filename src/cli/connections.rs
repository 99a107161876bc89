//! How far connection attempts came, in words and as JSON.

use super::json::Object;
use crate::session::{AttemptCounts, ConnectionCounts};

/// Returns a line such as `12 dialed: 4 connected, 8 refused; 1 came in: 1 connected`.
pub(crate) fn words(counts: &ConnectionCounts) -> String {
    let direction = |counts: &AttemptCounts, how: &str| {
        let outcomes = counts.outcomes().into_iter().filter(|(_, count)| *count > 0);
        let outcomes: Vec<String> = outcomes
            .map(|(name, count)| match (name, counts.encrypted) {
                ("connected", encrypted @ 1..) => format!("{count} connected ({encrypted} encrypted)"),
                _ => format!("{count} {}", name.replace('_', " ")),
            })
            .collect();
        let outcomes = if outcomes.is_empty() { String::new() } else { format!(": {}", outcomes.join(", ")) };
        format!("{} {how}{outcomes}", counts.tried)
    };
    format!("{}; {}", direction(&counts.dialed, "dialed"), direction(&counts.incoming, "came in"))
}

/// Returns one JSON object with an object for each direction.
pub(crate) fn object(counts: &ConnectionCounts) -> String {
    let direction = |counts: &AttemptCounts| {
        let tried = Object::new().num("tried", counts.tried);
        let outcomes = counts.outcomes().into_iter().fold(tried, |o, (name, count)| o.num(name, count));
        outcomes.num("encrypted", counts.encrypted).end()
    };
    Object::new()
        .raw("dialed", &direction(&counts.dialed))
        .raw("incoming", &direction(&counts.incoming))
        .end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_without_attempts_are_left_out_of_the_line() {
        let dialed = AttemptCounts { tried: 12, connected: 4, timed_out: 7, ..AttemptCounts::default() };
        let counts = ConnectionCounts { dialed, ..ConnectionCounts::default() };
        assert_eq!(words(&counts), "12 dialed: 4 connected, 7 timed out; 0 came in");
        let incoming = AttemptCounts { tried: 3, connected: 3, encrypted: 2, ..AttemptCounts::default() };
        let encrypted = ConnectionCounts { incoming, ..ConnectionCounts::default() };
        assert_eq!(words(&encrypted), "0 dialed; 3 came in: 3 connected (2 encrypted)");
        assert!(object(&counts).starts_with(r#"{"dialed":{"tried":12,"connected":4,"refused":0,"#));
    }
}
