//! Measured values, exact: whole millionths, because the replicated state has no floats.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::ids::InvalidId;

/// Millionths in one.
const ONE: u64 = 1_000_000;

/// A value in whole millionths: a count, a rate, a time in whatever unit its name says. From about -9.2e12 to 9.2e12. In text
/// a decimal number with up to six digits behind the point, as it was measured: `0.9125`.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Micros(pub i64);

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = self.0.unsigned_abs();
        let sign = if self.0 < 0 { "-" } else { "" };
        let (whole, rest) = (magnitude / ONE, magnitude % ONE);
        if rest == 0 {
            return write!(f, "{sign}{whole}");
        }
        let digits = format!("{rest:06}");
        write!(f, "{sign}{whole}.{}", digits.trim_end_matches('0'))
    }
}

impl fmt::Debug for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl FromStr for Micros {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        read(text).map(Self).ok_or_else(|| {
            InvalidId::new(
                "value",
                text,
                "must be a decimal number with at most six digits behind the point, as in 0.9125, between -9.2e12 and 9.2e12",
            )
        })
    }
}

/// Every digit counts: a seventh one is refused, and not rounded away.
fn read(text: &str) -> Option<i64> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    if !all_digits(whole) || !all_digits(part) || part.len() > 6 {
        return None;
    }
    let micros: i128 = format!("{part:0<6}").parse().ok()?;
    let whole: i128 = whole.parse().ok()?;
    let magnitude = whole.checked_mul(i128::from(ONE))?.checked_add(micros)?;
    i64::try_from(if negative { -magnitude } else { magnitude }).ok()
}

impl From<Micros> for String {
    fn from(value: Micros) -> String {
        value.to_string()
    }
}
impl TryFrom<String> for Micros {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_as_it_is_written_and_no_digit_is_lost() {
        for (text, micros, shown) in [
            ("0", 0, "0"),
            ("12", 12_000_000, "12"),
            ("0.9125", 912_500, "0.9125"),
            ("0.000001", 1, "0.000001"),
            ("-0.5", -500_000, "-0.5"),
            ("007.10", 7_100_000, "7.1"),
            ("9223372036854.775807", i64::MAX, "9223372036854.775807"),
            ("-9223372036854.775808", i64::MIN, "-9223372036854.775808"),
        ] {
            let value: Micros = text.parse().unwrap();
            assert_eq!((value.0, value.to_string().as_str()), (micros, shown), "{text}");
            assert_eq!(value.to_string().parse::<Micros>().unwrap(), value);
        }
        for text in [
            "",
            "-",
            ".",
            "1.",
            ".5",
            "1e3",
            "+1",
            " 1",
            "1,5",
            "0.0000001",
            "9223372036854.775808",
            "٣",
            "--1",
            "99999999999999999999999999999999999999999999",
        ] {
            assert!(text.parse::<Micros>().is_err(), "{text:?}");
        }
    }
}
