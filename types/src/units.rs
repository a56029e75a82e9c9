//! Sizes and durations as people write them: `64MiB`, `1500ms`. Same text in files, flags and output.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::ids::InvalidId;

/// A count of bytes; shown in binary units.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct ByteCount(pub u64);

const BINARY_UNITS: [(&str, u64); 4] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
];

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match BINARY_UNITS.iter().find(|(_, size)| self.0 >= *size) {
            None => write!(f, "{} B", self.0),
            Some((unit, size)) if self.0.is_multiple_of(*size) => write!(f, "{} {unit}", self.0 / size),
            Some((unit, size)) => {
                let tenths = u128::from(self.0) * 10 / u128::from(*size);
                write!(f, "{}.{} {unit}", tenths / 10, tenths % 10)
            }
        }
    }
}
impl fmt::Debug for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} B", self.0)
    }
}
impl FromStr for ByteCount {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let parse = || {
            let text = text.trim();
            let (number, size) = BINARY_UNITS
                .iter()
                .find_map(|(unit, size)| Some((text.strip_suffix(unit)?, *size)))
                .or_else(|| Some((text.strip_suffix('B').unwrap_or(text), 1)))?;
            number.trim().parse::<u64>().ok()?.checked_mul(size)
        };
        let rule = "write a whole number with B, KiB, MiB, GiB or TiB, as in 64MiB";
        parse()
            .map(Self)
            .ok_or_else(|| InvalidId::new("size", text, rule))
    }
}

/// Reads `250ms`, `3s`, `1m`, `2h`; whole or with a decimal point (`0.5s`).
pub fn parse_duration(text: &str) -> Result<Duration, InvalidId> {
    let parse = || {
        let text = text.trim();
        let (number, seconds) = if let Some(number) = text.strip_suffix("ms") {
            (number, 0.001)
        } else {
            let unit = text.chars().last()?;
            let seconds = match unit {
                's' => 1.0,
                'm' => 60.0,
                'h' => 3600.0,
                _ => return None,
            };
            (&text[..text.len() - 1], seconds)
        };
        Duration::try_from_secs_f64(number.trim().parse::<f64>().ok()? * seconds).ok()
    };
    parse().ok_or_else(|| {
        InvalidId::new(
            "duration",
            text,
            "write a number with ms, s, m or h, as in 1500ms or 3s",
        )
    })
}

/// Writes a duration the way [`parse_duration`] reads it, in the largest unit that keeps it whole.
pub fn format_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        0 => "0s".to_owned(),
        m if m % 3_600_000 == 0 => format!("{}h", m / 3_600_000),
        m if m % 60_000 == 0 => format!("{}m", m / 60_000),
        m if m % 1000 == 0 => format!("{}s", m / 1000),
        m => format!("{m}ms"),
    }
}

/// Writes an age for people, always rounded down: milliseconds below a second, tenths below ten, then whole seconds.
pub fn format_age(age: Duration) -> String {
    let millis = age.as_millis();
    match (age.as_secs(), millis / 100 % 10) {
        (0, _) => format_duration(age),
        (seconds @ 1..10, tenths @ 1..) => format!("{seconds}.{tenths}s"),
        (seconds, _) => format_duration(Duration::from_secs(seconds)),
    }
}

/// Serde form of a duration in config files: `#[serde(with = "types::units::duration_text")]`.
pub mod duration_text {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer};

    /// Writes `1500ms`.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::format_duration(*duration))
    }
    /// Reads `1500ms`; the error names the text and the rule.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::parse_duration(&text).map_err(serde::de::Error::custom)
    }
}
