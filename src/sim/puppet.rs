//! Scripted peers.

/// What a puppet does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Has everything and serves everybody.
    Seed,
    /// The same over a line of 2 KiB a second: its blocks are always the last.
    Slow,
    /// The same, but every fourth block is a lie.
    Liar,
    /// Has everything, serves the first few blocks, takes requests and then says nothing more.
    Snubber,
    /// Has everything, chokes and unchokes in storms, hangs up and comes back.
    Flapper,
    /// Has nothing, downloads, serves everybody what it has.
    Leech,
    /// Has nothing, downloads, serves nobody.
    Hoarder,
}
