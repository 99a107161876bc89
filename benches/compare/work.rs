//! The works: what each moves, and from how many, or what each holds.

use crate::content::Shape;
use crate::figures::Measure;
use crate::hold::CONNECTIONS;
use crate::holes::TORRENTS;
use clap::ValueEnum;

const MIB: u64 = 1 << 20;

/// Something that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Work {
    /// One file from one fast seeder
    Download,
    /// 200 files from one fast seeder
    Files,
    /// Half as much from 40 seeders of 1 MiB/s
    Many,
    /// The client seeds one file to another client
    Seed,
    /// The client holds 1,000 connections that keep still
    Connections,
    /// The client holds 1,000 idle torrents of 1 GiB
    Torrents,
}

impl Work {
    /// As it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Work::Download => "download",
            Work::Files => "files",
            Work::Many => "many",
            Work::Seed => "seed",
            Work::Connections => "connections",
            Work::Torrents => "torrents",
        }
    }

    /// What its table shows; clients are compared by the first.
    pub fn columns(self) -> &'static [Measure] {
        match self {
            Work::Connections => {
                &[Measure::PrivateEach, Measure::Private, Measure::IdleCpu, Measure::Ready, Measure::Held]
            }
            Work::Torrents => &[Measure::Private, Measure::Ready, Measure::IdleCpu, Measure::Held],
            _ => &[Measure::CpuPerGib, Measure::Rate, Measure::PeakResident, Measure::PeakPrivate],
        }
    }

    /// What is moved when `size` MiB are asked for.
    pub fn shape(self, size: u64) -> Shape {
        let bytes = size * MIB;
        match self {
            Work::Download | Work::Seed => Shape { files: 1, bytes, piece_bytes: MIB },
            Work::Files => Shape { files: 200, bytes, piece_bytes: MIB / 4 },
            Work::Many => Shape { files: 1, bytes: bytes / 2, piece_bytes: MIB },
            Work::Connections | Work::Torrents => Shape { files: 1, bytes: 16 * MIB, piece_bytes: MIB },
        }
    }

    /// How many serve, besides the client that is measured.
    pub fn seeders(self) -> u8 {
        if self == Work::Many { crate::networks::SERVING } else { 1 }
    }

    /// Bytes a second that each of them sends at most; 0 is no limit.
    pub fn limit(self) -> u64 {
        if self == Work::Many { MIB } else { 0 }
    }

    /// The heading of its table: everything but who served.
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
