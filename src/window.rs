//! Windows, the periods of time (minutes, mostly) in which peers meet, and arithmetic on them.
//!
//! ```text
//!            11:28:00              11:29:00              11:30:00
//!  ─────────────┼─────────────────────┼─────────────────────┼──────▶ wall clock
//!               │  11:28 is current   │  11:29 is current   │
//!               │  11:29 is filled    │  11:30 is filled    │
//! ```
//!
//! A window is named by its start. Windows are aligned to the Unix epoch, so that two registries
//! of one length agree on them, and a restart cannot shift them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Datelike, Timelike, Utc};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A moment of the wall clock: milliseconds since the Unix epoch.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(into = "String", try_from = "String")]
pub struct Wall(i64);

impl Wall {
    /// The last moment that RFC 3339 can write, 9999-12-31T23:59:59.999Z, in milliseconds.
    const MAX_MILLIS: i64 = 253_402_300_799_999;

    /// Returns the moment `millis` after the Unix epoch, clamped to the years 1970 to 9999.
    pub fn from_millis(millis: i64) -> Wall {
        Wall(millis.clamp(0, Wall::MAX_MILLIS))
    }

    /// Returns whether this is the first or the last moment that there is: a clock that reads it is out
    /// of range.
    pub fn is_clamped(self) -> bool {
        [0, Wall::MAX_MILLIS].contains(&self.0)
    }

    /// Returns this moment as milliseconds since the Unix epoch.
    pub fn millis(self) -> i64 {
        self.0
    }

    /// Returns this moment as whole seconds since the Unix epoch, modulo 2³²: the time in a cookie.
    pub fn seconds32(self) -> u32 {
        (self.0 / 1000) as u32
    }

    /// Returns the moment that is `span` later.
    pub fn plus(self, span: Duration) -> Wall {
        let millis = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        Wall::from_millis(self.0.saturating_add(millis))
    }

    /// Returns the milliseconds from this moment to `later`; 0 if that is past.
    pub fn millis_to(self, later: Wall) -> u64 {
        u64::try_from(later.0 - self.0).unwrap_or(0)
    }

    /// Returns the time from this moment to `later`; zero if that is past.
    pub fn until(self, later: Wall) -> Duration {
        Duration::from_millis(self.millis_to(later))
    }

    fn datetime(self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.0).expect("a Wall is held within chrono's years")
    }

    /// Returns the text of this moment, `2026-11-23T11:28:34.120Z`, without an allocation: one is
    /// in every line of the journal and two are in every answer, where chrono's formatter would
    /// cost more.
    pub fn stamp(self) -> Stamp {
        let time = self.datetime();
        let mut text = *b"0000-00-00T00:00:00.000Z";
        let parts = [
            (0..4, time.year() as u32),
            (5..7, time.month()),
            (8..10, time.day()),
            (11..13, time.hour()),
            (14..16, time.minute()),
            (17..19, time.second()),
            (20..23, time.timestamp_subsec_millis()),
        ];
        for (place, value) in parts {
            put_digits(&mut text[place], value);
        }
        Stamp { text, length: 24 }
    }
}

/// The text of a moment as RFC 3339 writes it, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    text: [u8; 24],
    length: usize,
}

impl Stamp {
    /// Returns the text as a string slice.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.text[..self.length]).expect("digits are ASCII")
    }

    /// Returns the same text without milliseconds.
    fn whole_seconds(mut self) -> Stamp {
        (self.text[19], self.length) = (b'Z', 20);
        self
    }
}

/// Writes a number into `place`, one digit a byte.
fn put_digits(place: &mut [u8], mut value: u32) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Implements `Display` and serde, which write the text of `stamp`; serde reads what `FromStr`
/// reads.
macro_rules! as_text {
    ($($type:ty),+) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.stamp().as_str())
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> String {
                value.to_string()
            }
        }

        impl TryFrom<String> for $type {
            type Error = TimeError;

            fn try_from(text: String) -> Result<$type, TimeError> {
                text.parse()
            }
        }
    )+};
}

as_text!(Wall, Window);

impl FromStr for Wall {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Wall, TimeError> {
        let time = DateTime::parse_from_rfc3339(text).map_err(|_| TimeError::NotRfc3339)?;
        let millis = time.timestamp_millis();
        if Wall::from_millis(millis).0 != millis {
            return Err(TimeError::OutOfRange);
        }
        Ok(Wall(millis))
    }
}

/// Why a text cannot be read as a moment or a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TimeError {
    /// The text does not follow RFC 3339.
    #[error("not a time like 2026-11-23T11:29:00Z")]
    NotRfc3339,
    /// The year is before 1970 or after 9999.
    #[error("a time before 1970 or after 9999")]
    OutOfRange,
    /// A window has to start on a whole second.
    #[error("not a whole second")]
    Fraction,
}

/// The length of a window: whole seconds, from one to a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length(u32);

/// The error for a span that cannot be a window's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a window is a whole number of seconds, from 1s to 1day")]
pub struct LengthError;

impl Length {
    /// One minute, which is the default length.
    pub const MINUTE: Length = Length(60);
    /// The longest length in seconds: keeps every millisecond count on the wire within eight
    /// digits.
    const MAX_SECONDS: u64 = 86_400;

    /// Returns the length `span`, if that is whole seconds from one to a day.
    pub fn new(span: Duration) -> Result<Length, LengthError> {
        match span.as_secs() {
            seconds @ 1..=Length::MAX_SECONDS if span.subsec_nanos() == 0 => {
                Ok(Length(seconds as u32))
            }
            _ => Err(LengthError),
        }
    }

    /// Returns this length in seconds.
    pub fn seconds(self) -> u32 {
        self.0
    }

    /// Returns this length in milliseconds.
    pub fn millis(self) -> u64 {
        u64::from(self.0) * 1000
    }

    /// Returns this length as a `Duration`.
    pub fn span(self) -> Duration {
        Duration::from_secs(u64::from(self.0))
    }

    /// Returns the window that contains `moment`: at 11:29:00.000 exactly, that is 11:29.
    pub fn window_at(self, moment: Wall) -> Window {
        let length = i64::from(self.0);
        Window(moment.0.div_euclid(1000).div_euclid(length) * length)
    }

    /// Returns the first window that opens at `moment` or later.
    pub fn first_from(self, moment: Wall) -> Window {
        let window = self.window_at(moment);
        if window.opens() < moment { Window(window.0 + i64::from(self.0)) } else { window }
    }

    /// Returns the moment at which `window` closes.
    pub fn closes(self, window: Window) -> Wall {
        window.opens().plus(self.span())
    }
}

/// One period of time, named by its start: `2026-11-23T11:29:00Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Window(i64);

impl Window {
    /// Returns the moment at which this window opens.
    pub fn opens(self) -> Wall {
        Wall::from_millis(self.0 * 1000)
    }

    /// Returns this window's start as bytes (seconds since the Unix epoch, big-endian), from which
    /// passes and seeds are derived.
    pub fn to_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    /// Returns the name of this window, `2026-11-23T11:29:00Z`, without an allocation.
    pub fn stamp(self) -> Stamp {
        self.opens().stamp().whole_seconds()
    }

    /// Returns the UTC day on which this window opens, `2026-11-23`: the name of its files' folder.
    pub fn day(self) -> String {
        self.opens().datetime().format("%Y-%m-%d").to_string()
    }

    /// Returns the name of this window's files within the day: `11-29`, or `11-29-02` where windows
    /// are not whole minutes.
    pub fn stem(self, length: Length) -> String {
        let form = if length.0.is_multiple_of(60) { "%H-%M" } else { "%H-%M-%S" };
        self.opens().datetime().format(form).to_string()
    }

    /// Finds the window whose files are in the folder `day` and named `stem`, in either form;
    /// `None` for other names.
    pub fn named(day: &str, stem: &str) -> Option<Window> {
        let time = stem.replace('-', ":");
        let seconds = if stem.len() == 5 { ":00" } else { "" };
        let window: Window = format!("{day}T{time}{seconds}Z").parse().ok()?;
        // The parser also takes other forms; a name is only what `day` and `stem` would write.
        let stems = [window.stem(Length::MINUTE), window.stem(Length(1))];
        let stem_fits = stem == if stem.len() == 5 { &stems[0] } else { &stems[1] };
        (window.day() == day && stem_fits).then_some(window)
    }
}

impl FromStr for Window {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Window, TimeError> {
        let opens: Wall = text.parse()?;
        if opens.0 % 1000 != 0 {
            return Err(TimeError::Fraction);
        }
        Ok(Window(opens.0 / 1000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wall(text: &str) -> Wall {
        text.parse().unwrap()
    }

    #[test]
    fn window_at_gives_the_window_that_contains_a_moment() {
        let at = |text| Length::MINUTE.window_at(wall(text)).to_string();
        assert_eq!(at("2026-11-23T11:28:59.999Z"), "2026-11-23T11:28:00Z");
        assert_eq!(at("2026-11-23T11:29:00.000Z"), "2026-11-23T11:29:00Z");
        assert_eq!(at("2026-11-23T12:29:30.5+01:00"), "2026-11-23T11:29:00Z");
    }

    #[test]
    fn first_from_gives_the_next_boundary() {
        let from = |text| Length::MINUTE.first_from(wall(text)).to_string();
        assert_eq!(from("2026-11-23T11:28:00.001Z"), "2026-11-23T11:29:00Z");
        assert_eq!(from("2026-11-23T11:29:00.000Z"), "2026-11-23T11:29:00Z");
    }

    #[test]
    fn files_are_named_by_the_minute_or_the_second() {
        let window: Window = "2026-11-23T11:29:02Z".parse().unwrap();
        let length = |seconds| Length::new(Duration::from_secs(seconds)).unwrap();
        assert_eq!(window.day(), "2026-11-23");
        assert_eq!(window.stem(length(2)), "11-29-02");
        assert_eq!(window.stem(length(120)), "11-29");
        assert_eq!(window.stem(length(90)), "11-29-02");
    }

    #[test]
    fn a_window_is_parsed_from_the_names_of_its_files() {
        let named = |day, stem| Window::named(day, stem).map(|window| window.to_string());
        let noon = Some("2026-11-23T12:00:00Z".to_owned());
        assert_eq!(named("2026-11-23", "12-00"), noon);
        assert_eq!(named("2026-11-23", "12-00-00"), noon);
        assert_eq!(named("2026-11-23", "12-00-02").unwrap(), "2026-11-23T12:00:02Z");
        for (day, stem) in [
            ("2026-11-31", "12-00"),
            ("2026-1-23", "12-00"),
            ("2026-11-23", "24-00"),
            ("2026-11-23", "12:00"),
            ("2026-11-23", "12-00-60"),
            ("2026-11-23", "12-00-00.5"),
            ("2026-11-23", "12-00-"),
            ("2026-11-23", ""),
            ("notes", "12-00"),
        ] {
            assert_eq!(named(day, stem), None, "{day} {stem}");
        }
    }

    #[test]
    fn a_length_is_whole_seconds_up_to_a_day() {
        assert!(Length::new(Duration::ZERO).is_err());
        assert!(Length::new(Duration::from_millis(1500)).is_err());
        assert!(Length::new(Duration::from_secs(86_401)).is_err());
        assert_eq!(Length::new(Duration::from_secs(86_400)).unwrap().millis(), 86_400_000);
    }

    #[test]
    fn a_window_starts_on_a_whole_second_since_1970() {
        assert_eq!("2026-11-23T11:29:00.5Z".parse::<Window>(), Err(TimeError::Fraction));
        assert_eq!("1969-12-31T23:59:59Z".parse::<Window>(), Err(TimeError::OutOfRange));
        assert_eq!("11:29".parse::<Window>(), Err(TimeError::NotRfc3339));
    }

    #[test]
    fn spans_never_go_below_zero() {
        let (early, late) = (wall("2026-11-23T11:28:00Z"), wall("2026-11-23T11:28:00.040Z"));
        assert_eq!(early.millis_to(late), 40);
        assert_eq!(late.millis_to(early), 0);
    }

    proptest! {
        #[test]
        fn every_moment_is_in_exactly_its_window(millis in 0i64..4_000_000_000_000, seconds in 1u64..=86_400) {
            let (moment, length) = (Wall(millis), Length::new(Duration::from_secs(seconds)).unwrap());
            let window = length.window_at(moment);
            prop_assert!(window.opens() <= moment && moment < length.closes(window));
            prop_assert_eq!(length.window_at(window.opens()), window);
            prop_assert_eq!(length.first_from(length.closes(window)).opens(), length.closes(window));
            prop_assert!(length.first_from(moment).opens() >= moment);
        }

        #[test]
        fn the_first_window_from_a_moment_is_the_nearest(millis in 0i64..4_000_000_000_000, seconds in 1u64..=86_400) {
            let (moment, length) = (Wall(millis), Length::new(Duration::from_secs(seconds)).unwrap());
            let first = length.first_from(moment);
            prop_assert_eq!(length.window_at(first.opens()), first);
            prop_assert!(moment <= first.opens() && moment.until(first.opens()) < length.span());
        }

        #[test]
        fn a_window_is_found_by_its_day_and_stem(millis in 0i64..4_000_000_000_000, seconds in 1u64..=86_400) {
            let length = Length::new(Duration::from_secs(seconds)).unwrap();
            let window = length.window_at(Wall(millis));
            prop_assert_eq!(Window::named(&window.day(), &window.stem(length)), Some(window));
        }

        #[test]
        fn what_is_written_is_read_back(millis in 0i64..=Wall::MAX_MILLIS) {
            let moment = Wall(millis);
            prop_assert_eq!(moment.to_string().parse::<Wall>(), Ok(moment));
            let window = Length::MINUTE.window_at(moment);
            prop_assert_eq!(window.to_string().parse::<Window>(), Ok(window));
        }
    }
}
