//! What a run has shown, and how that is written: under a key and in base units for programs, in handy units
//! for people.

/// Something that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// CPU seconds for each GiB that was moved, and its two parts.
    CpuPerGib,
    UserPerGib,
    SystemPerGib,
    /// Bytes a second, from the first payload byte until complete.
    Rate,
    /// Seconds from the start of the fetching program until complete.
    Wall,
    /// Bytes: the most that was resident, files that are mapped included.
    PeakResident,
    /// Bytes: the most private (anonymous) memory.
    PeakPrivate,
    /// Seconds until everything that it holds has answered: torrents from the program's start on, connections
    /// from the first call on.
    Ready,
    /// Bytes of private memory while it idles.
    Private,
    /// Bytes of private memory for each thing that it holds.
    PrivateEach,
    /// CPU seconds a second while it idles.
    IdleCpu,
    /// How many things it still holds in the end.
    Held,
}

impl Measure {
    /// Its name in JSON.
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

    /// Its name with the unit in which [`Measure::shown`] gives it.
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

    /// A value for people, without its unit.
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

/// Values, each of another measure.
#[derive(Clone, Debug)]
pub struct Figures(pub Vec<(Measure, f64)>);

impl Figures {
    /// The value of this measure, if it was measured.
    pub fn get(&self, measure: Measure) -> Option<f64> {
        self.0.iter().find(|(is, _)| *is == measure).map(|(_, value)| *value)
    }
}

/// Figures, or why there are none.
pub type Outcome = std::result::Result<Figures, String>;
