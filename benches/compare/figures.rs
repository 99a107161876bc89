//! Measures of a run: their keys and base units in JSON, their heads and units in the tables.

/// A measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// CPU seconds per GiB of payload, and its two parts.
    CpuPerGib,
    UserPerGib,
    SystemPerGib,
    /// Bytes a second, from the first payload byte to completion.
    Rate,
    /// Seconds from the start of the downloading program to completion.
    Wall,
    /// Peak resident bytes, mapped files included.
    PeakResident,
    /// Peak bytes of private (anonymous) memory.
    PeakPrivate,
    /// Seconds until all answer: idle torrents from the program's start, idle connections from the first
    /// connection.
    Ready,
    /// Bytes of private memory while idle.
    Private,
    /// Bytes of private memory for each torrent or connection.
    PrivateEach,
    /// CPU seconds a second while idle.
    IdleCpu,
    /// Number of torrents or connections at the end.
    Held,
}

impl Measure {
    /// Returns the key in JSON.
    pub fn key(self) -> &'static str {
        match self {
            Measure::CpuPerGib => "cpu_s_per_gib",
            Measure::UserPerGib => "user_s_per_gib",
            Measure::SystemPerGib => "system_s_per_gib",
            Measure::Rate => "bytes_per_s",
            Measure::Wall => "wall_s",
            Measure::PeakResident => "peak_rss_bytes",
            Measure::PeakPrivate => "peak_private_bytes",
            Measure::Ready => "ready_s",
            Measure::Private => "private_bytes",
            Measure::PrivateEach => "private_bytes_each",
            Measure::IdleCpu => "idle_cpu_s_per_s",
            Measure::Held => "held",
        }
    }

    /// Returns the name with the unit of [`Measure::shown`].
    pub fn head(self) -> &'static str {
        match self {
            Measure::CpuPerGib => "CPU s/GiB",
            Measure::UserPerGib => "user s/GiB",
            Measure::SystemPerGib => "system s/GiB",
            Measure::Rate => "MiB/s",
            Measure::Wall => "s",
            Measure::PeakResident => "peak RSS MiB",
            Measure::PeakPrivate => "peak private MiB",
            Measure::Ready => "s until ready",
            Measure::Private => "private MiB",
            Measure::PrivateEach => "private KiB each",
            Measure::IdleCpu => "% of a core",
            Measure::Held => "held",
        }
    }

    /// Formats a value for a table, without its unit.
    pub fn shown(self, value: f64) -> String {
        let (unit, digits) = match self {
            Measure::CpuPerGib | Measure::UserPerGib | Measure::SystemPerGib | Measure::Ready => (1.0, 2),
            Measure::Rate => (f64::from(1 << 20), 0),
            Measure::Wall => (1.0, 1),
            Measure::PeakResident | Measure::PeakPrivate | Measure::Private => (f64::from(1 << 20), 1),
            Measure::PrivateEach => (1024.0, 2),
            Measure::IdleCpu => (0.01, 3),
            Measure::Held => (1.0, 0),
        };
        format!("{:.digits$}", value / unit)
    }
}

/// Values of different measures.
#[derive(Clone, Debug)]
pub struct Figures(pub Vec<(Measure, f64)>);

impl Figures {
    /// Returns the value of this measure, if it was measured.
    pub fn get(&self, measure: Measure) -> Option<f64> {
        self.0.iter().find(|(is, _)| *is == measure).map(|(_, value)| *value)
    }
}

/// Figures, or the reason why the run failed.
pub type Outcome = std::result::Result<Figures, String>;
