//! The works: size and seeders of each transfer, or the number of idle connections or torrents.

use crate::content::Shape;
use crate::figures::Measure;
use crate::idle::CONNECTIONS;
use crate::sparse_torrents::TORRENTS;
use clap::ValueEnum;

const MIB: u64 = 1 << 20;

/// A workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Work {
    /// One file from one fast seeder
    Download,
    /// 200 files from one fast seeder
    Files,
    /// Half the size from 40 seeders of 1 MiB/s
    Many,
    /// The client seeds one file to another client
    Seed,
    /// As download, over encrypted connections (MSE)
    DownloadRc4,
    /// As seed, over encrypted connections (MSE)
    SeedRc4,
    /// The client has 1,000 idle connections
    Connections,
    /// The client has 1,000 idle torrents of 1 GiB
    Torrents,
}

impl Work {
    /// Returns the name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Work::Download => "download",
            Work::Files => "files",
            Work::Many => "many",
            Work::Seed => "seed",
            Work::DownloadRc4 => "download-rc4",
            Work::SeedRc4 => "seed-rc4",
            Work::Connections => "connections",
            Work::Torrents => "torrents",
        }
    }

    /// Returns the columns of the table; clients are compared by the first.
    pub fn columns(self) -> &'static [Measure] {
        match self {
            Work::Connections => {
                &[Measure::PrivateEach, Measure::Private, Measure::IdleCpu, Measure::Ready, Measure::Held]
            }
            Work::Torrents => &[Measure::Private, Measure::Ready, Measure::IdleCpu, Measure::Held],
            _ => &[Measure::CpuPerGib, Measure::Rate, Measure::PeakResident, Measure::PeakPrivate],
        }
    }

    /// Returns the shape of the content for the option `--size`, in MiB.
    pub fn shape(self, size: u64) -> Shape {
        let bytes = size * MIB;
        match self {
            Work::Download | Work::Seed | Work::DownloadRc4 | Work::SeedRc4 => {
                Shape { files: 1, bytes, piece_bytes: MIB }
            }
            Work::Files => Shape { files: 200, bytes, piece_bytes: MIB / 4 },
            Work::Many => Shape { files: 1, bytes: bytes / 2, piece_bytes: MIB },
            Work::Connections | Work::Torrents => Shape { files: 1, bytes: 16 * MIB, piece_bytes: MIB },
        }
    }

    /// Returns whether every client is to require encryption of the whole stream.
    pub fn is_encrypted(self) -> bool {
        matches!(self, Work::DownloadRc4 | Work::SeedRc4)
    }

    /// Returns the number of seeders on the other side.
    pub fn seeders(self) -> u8 {
        if self == Work::Many { crate::networks::SERVING } else { 1 }
    }

    /// Returns the upload limit of each seeder in bytes a second; 0 is no limit.
    pub fn limit(self) -> u64 {
        if self == Work::Many { MIB } else { 0 }
    }

    /// Returns the heading of the table, without the name of the other side.
    pub fn describe(self, size: u64) -> String {
        let name = self.name();
        match self {
            Work::Connections => {
                return format!(
                    "{name}: {CONNECTIONS} peers that shake hands with one seeder and keep still"
                );
            }
            Work::Torrents => {
                return format!(
                    "{name}: {TORRENTS} of 1 GiB, pieces of 1 MiB, all there, and no peer that requests them"
                );
            }
            _ => {}
        }
        let Shape { files, bytes, piece_bytes } = self.shape(size);
        let what = if files == 1 { "one file".to_owned() } else { format!("{files} files") };
        let how = match self {
            Work::Download | Work::Files => "fetched from one seeder",
            Work::DownloadRc4 => "fetched from one seeder, encrypted with RC4",
            Work::SeedRc4 => "served to one fetcher, encrypted with RC4",
            Work::Many => "fetched from 40 seeders of 1 MiB/s each",
            _ => "served to one fetcher",
        };
        let pieces = if piece_bytes < MIB {
            format!("{} KiB", piece_bytes >> 10)
        } else {
            format!("{} MiB", piece_bytes / MIB)
        };
        format!("{name}: {what}, {} MiB, pieces of {pieces}, {how}", bytes / MIB)
    }
}
