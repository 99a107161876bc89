//! The examples at the end of each command's help.

/// Examples of `rill --help`.
pub(super) const RILL: &str = "\
Examples:
  rill get debian.torrent -d downloads
  rill get 'magnet:?xt=urn:btih:0123456789abcdef0123456789abcdef01234567'
  rill seed debian.torrent -d downloads";

pub(super) const GET: &str = "\
Examples:
  rill get debian.torrent -d downloads --max-download-limit 2M
  rill get 0123456789abcdef0123456789abcdef01234567 --select-name '*.mkv'
  rill get a.torrent b.torrent --seed-ratio 1.5 --seed-time 2h --json";

pub(super) const SEED: &str = "\
Examples:
  rill seed debian.torrent -d downloads
  rill seed a.torrent b.torrent -d /srv/media -u 500K --listen-port 51413
  rill seed debian.torrent -d downloads --seed-ratio 2 --seed-time 1d";

pub(super) const CREATE: &str = "\
Examples:
  rill create film.mkv -a http://tracker.example/announce
  rill create photos -o photos.torrent -p 1M -c 'Summer of 2026'
  rill create photos -P -a https://tracker.example/announce -o - --no-date";

pub(super) const SHOW: &str = "\
Examples:
  rill show debian.torrent
  rill show https://site.example/debian.torrent --scrape --timeout 20s
  rill show 0123456789abcdef0123456789abcdef01234567 --fetch --json";

pub(super) const VERIFY: &str = "\
Examples:
  rill verify debian.torrent -d downloads
  rill verify debian.torrent -d downloads --json
  rill verify debian.torrent -q && echo complete";

pub(super) const STATE: &str = "\
Examples:
  rill state list
  rill state forget 0123456789abcdef0123456789abcdef01234567
  rill state clean --yes";

pub(super) const STATE_LIST: &str = "\
Examples:
  rill state list
  rill state list --json
  rill state list --state-dir /srv/rill";

pub(super) const STATE_FORGET: &str = "\
Examples:
  rill state forget 0123456789abcdef0123456789abcdef01234567
  rill state forget 0123456789abcdef0123456789abcdef01234567 -d downloads
  rill state forget AERUKZ4JVPG66AJDIVTYTK6N54ASGRLH";

pub(super) const STATE_CLEAN: &str = "\
Examples:
  rill state clean
  rill state clean --yes
  rill state clean --state-dir /srv/rill";

pub(super) const BENCH: &str = "\
Examples:
  rill bench
  rill bench --size 2G --rounds 5 -d /mnt/disk
  rill bench --storage plain --json";

#[cfg(feature = "sim")]
pub(super) const SIM: &str = "\
Examples:
  rill sim --list
  rill sim flash --peers 50 --up 10Mbit --seed 7
  rill sim --experiment endgame --plot endgame.svg";
