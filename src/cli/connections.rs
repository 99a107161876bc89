//! How far connection attempts came, in words and as JSON.

use super::json::Object;
use crate::session::{AttemptCounts, ConnectionCounts};

/// Returns a line such as `12 dialed: 4 connected, 8 refused; 1 came in: 1 connected`.
pub(crate) fn words(counts: &ConnectionCounts) -> String {
    let direction = |counts: &AttemptCounts, how: &str| {
        let outcomes = counts.outcomes().into_iter().filter(|(_, count)| *count > 0);
        let outcomes: Vec<String> = outcomes
            .map(|(name, count)| match name {
                "connected" => format!("{count} connected{}", details(counts)),
                _ => format!("{count} {}", name.replace('_', " ")),
            })
            .collect();
        let outcomes = if outcomes.is_empty() { String::new() } else { format!(": {}", outcomes.join(", ")) };
        let utp = match counts.utp_tried {
            0 => String::new(),
            tried => format!(" ({tried} over uTP)"),
        };
        format!("{} {how}{utp}{outcomes}", counts.tried)
    };
    format!("{}; {}", direction(&counts.dialed, "dialed"), direction(&counts.incoming, "came in"))
}

/// Returns how many of the connected peers are encrypted and over uTP, such as ` (2 encrypted, 1 over uTP)`.
fn details(counts: &AttemptCounts) -> String {
    let details = [(counts.encrypted, "encrypted"), (counts.utp_connected, "over uTP")];
    let details: Vec<String> =
        details.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    if details.is_empty() { String::new() } else { format!(" ({})", details.join(", ")) }
}

/// Returns one JSON object with an object for each direction.
pub(crate) fn object(counts: &ConnectionCounts) -> String {
    let direction = |counts: &AttemptCounts| {
        let tried = Object::new().num("tried", counts.tried);
        let outcomes = counts.outcomes().into_iter().fold(tried, |o, (name, count)| o.num(name, count));
        outcomes
            .num("encrypted", counts.encrypted)
            .num("utp_tried", counts.utp_tried)
            .num("utp_connected", counts.utp_connected)
            .end()
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
        let dialed =
            AttemptCounts { tried: 9, connected: 2, utp_tried: 4, utp_connected: 1, encrypted: 1, ..dialed };
        let mixed = ConnectionCounts { dialed, ..ConnectionCounts::default() };
        let line = "9 dialed (4 over uTP): 2 connected (1 encrypted, 1 over uTP), 7 timed out; 0 came in";
        assert_eq!(words(&mixed), line);
        assert!(object(&counts).starts_with(r#"{"dialed":{"tried":12,"connected":4,"refused":0,"#));
    }
}
