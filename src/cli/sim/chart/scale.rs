//! Scales of a chart's axes: positions of values, and ticks.
//!
//! A scale covers every finite value that it is built from (a logarithmic one every positive value), and is
//! never empty.

/// Range of an axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    log: bool,
}

/// Approximate number of steps between ticks.
const STEPS: f64 = 6.0;

impl Scale {
    /// Returns the scale from the smallest to the greatest value.
    pub(super) fn tight(values: impl Iterator<Item = f64>, log: bool) -> Scale {
        let values: Vec<f64> = values.filter(|v| v.is_finite() && (!log || *v > 0.0)).collect();
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        match (low, high) {
            _ if low < high => Scale { low, high, log },
            _ if log && low == high => Scale { low: low / 2.0, high: high * 2.0, log },
            _ if low == high => {
                Scale { low: low - 0.5 * low.abs().max(1.0), high: high + 0.5 * high.abs().max(1.0), log }
            }
            _ if log => Scale { low: 1.0, high: 10.0, log },
            _ => Scale { low: 0.0, high: 1.0, log },
        }
    }

    /// Returns a scale with some space around the values. A linear one ends at ticks, and starts at 0
    /// unless that leaves half of the chart empty.
    pub(super) fn round(values: impl Iterator<Item = f64>, log: bool) -> Scale {
        let values: Vec<f64> = values.collect();
        let mut scale = Scale::tight(values.iter().copied(), log);
        if log {
            let room = (scale.high / scale.low).powf(0.04);
            return Scale { low: scale.low / room, high: scale.high * room, log };
        }
        let least = values.into_iter().filter(|v| v.is_finite()).fold(f64::INFINITY, f64::min);
        if least >= 0.0 && (scale.low < 0.0 || least < 0.5 * scale.high) {
            scale.low = 0.0;
        }
        let step = scale.step();
        Scale { low: (scale.low / step).floor() * step, high: (scale.high / step - 1e-9).ceil() * step, log }
    }

    /// Returns the position of a value: 0 at the low end, 1 at the high end. Values outside are clamped
    /// to -1 to 2.
    pub(super) fn place(&self, value: f64) -> f64 {
        let place = if self.log {
            (value.max(f64::MIN_POSITIVE) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        place.clamp(-1.0, 2.0)
    }

    /// Returns the values and labels of the ticks.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        let logarithmic = if self.log { self.log_ticks() } else { Vec::new() };
        // A logarithmic scale of less than a decade has too few ticks; linear steps give more.
        let values = if logarithmic.len() < 3 { self.even_ticks() } else { logarithmic };
        values.into_iter().map(|value| (value, number(value))).collect()
    }

    fn step(&self) -> f64 {
        let rough = (self.high - self.low) / STEPS;
        let power = 10f64.powf(rough.log10().floor());
        let factors = [1.0, 2.0, 5.0, 10.0];
        power * factors.into_iter().find(|f| f * power >= rough * 0.8).unwrap_or(10.0)
    }

    fn even_ticks(&self) -> Vec<f64> {
        let step = self.step();
        let first = (self.low / step - 1e-9).ceil() as i64;
        let last = (self.high / step + 1e-9).floor() as i64;
        (first..=last).map(|n| n as f64 * step).collect()
    }

    fn log_ticks(&self) -> Vec<f64> {
        let decades = (self.high / self.low).log10();
        let factors: &[f64] = if decades < 3.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let powers = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
        let all = powers.flat_map(|power| factors.iter().map(move |f| f * 10f64.powi(power)));
        all.filter(|v| (self.low * 0.999..=self.high * 1.001).contains(v)).collect()
    }
}

/// Formats a number without trailing zeros and with grouped thousands: `0.05`, `1.5`, `20`, `10,000`.
pub(super) fn number(value: f64) -> String {
    let text = format!("{value:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    let (whole, rest) = digits.split_at(digits.find('.').unwrap_or(digits.len()));
    if whole.len() < 5 {
        return if text == "-0" { "0".to_owned() } else { text.to_owned() };
    }
    let mut grouped = String::new();
    for (at, digit) in whole.char_indices() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(values: &[f64], log: bool) -> String {
        let scale = Scale::round(values.iter().copied(), log);
        scale.ticks().into_iter().map(|(_, label)| label).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(labels(&[0.0, 100.0], false), "0 20 40 60 80 100");
        assert_eq!(labels(&[1.0, 1.7], false), "1 1.1 1.2 1.3 1.4 1.5 1.6 1.7");
        assert_eq!(labels(&[1.0, 1.3], false), "1 1.05 1.1 1.15 1.2 1.25 1.3");
        assert_eq!(
            labels(&[20_000.0, 61_000.0], false),
            "0 10,000 20,000 30,000 40,000 50,000 60,000 70,000"
        );
        assert_eq!(labels(&[4.0, 80.0], true), "5 10 20 50");
        assert_eq!(labels(&[0.6, 37_500.0], true), "1 10 100 1000 10,000");
        assert_eq!(labels(&[3.0, 4.0], true), "3 3.2 3.4 3.6 3.8 4");
    }

    #[test]
    fn a_scale_is_never_empty() {
        for values in [
            &[][..],
            &[f64::NAN],
            &[f64::INFINITY, f64::NEG_INFINITY],
            &[0.0],
            &[0.0, 0.0],
            &[5.0],
            &[-3.0],
            &[1e300, -1e300],
        ] {
            for log in [false, true] {
                for scale in
                    [Scale::tight(values.iter().copied(), log), Scale::round(values.iter().copied(), log)]
                {
                    assert!(scale.low < scale.high, "{values:?} {scale:?}");
                    assert!(
                        (2..=12).contains(&scale.ticks().len()),
                        "{values:?} {scale:?} {:?}",
                        scale.ticks()
                    );
                    assert!(values.iter().all(|v| (-1.0..=2.0).contains(&scale.place(*v)) || v.is_nan()));
                }
            }
        }
    }

    #[test]
    fn places_go_from_0_to_1() {
        let scale = Scale::tight([1.0, 100.0].into_iter(), true);
        assert_eq!(
            [1.0, 10.0, 100.0, f64::INFINITY, 0.0].map(|v| scale.place(v)),
            [0.0, 0.5, 1.0, 2.0, -1.0]
        );
    }

    #[test]
    fn long_numbers_are_grouped() {
        assert_eq!(
            [0.0, -0.0, 0.05, 1234.0, 12345.5, -1234567.0].map(number),
            ["0", "0", "0.05", "1234", "12,345.5", "-1,234,567"]
        );
    }
}
