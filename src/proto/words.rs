//! Words of any script, for rooms and names: letters, marks and digits (UAX #31) in NFC (UAX #15),
//! each of which can be seen and stays in its place.

use smol_str::SmolStr;
use thiserror::Error;
use unicode_bidi::BidiClass::{AL, AN, BN, CS, EN, ES, ET, NSM, ON, R};
use unicode_bidi::bidi_class;
use unicode_ident::is_xid_continue;
use unicode_joining_type::JoiningType::{DualJoining, LeftJoining, RightJoining, Transparent};
use unicode_joining_type::get_joining_type;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::{canonical_combining_class, is_combining_mark};
use unicode_width::UnicodeWidthChar;

/// The most marks of no width that one letter carries (UTS #39 §5.4): more would reach into the
/// lines above and below.
const MAX_MARKS: usize = 4;

/// Why a text is not made of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WordError {
    /// The text is empty or too long; the number is its length in bytes, in NFC.
    #[error("it has {0} bytes")]
    Length(usize),
    /// A character that no word has, or none in that place: a mark without a letter, a space
    /// beside another.
    #[error("U+{:04X} cannot stand there", u32::from(*.0))]
    Char(char),
    /// A word that is written from right to left, but not from its beginning to its end.
    #[error("a word of it is written in both directions, or in none at an end (RFC 5893)")]
    Direction,
}

/// Returns `text` in NFC if it has 1 to `most` bytes and is one word, in which also the characters
/// `also` may stand. If these have a space, it may be several words with single spaces between.
pub(super) fn words(text: &str, most: usize, also: &[char]) -> Result<SmolStr, WordError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_plain = text.bytes().all(is_plain);
    let text = if is_plain { SmolStr::new(text) } else { text.nfc().collect() };
    if !(1..=most).contains(&text.len()) {
        return Err(WordError::Length(text.len()));
    }
    if !is_plain {
        text.split(' ').try_for_each(|word| check(word, also))?;
        let space = text.contains(' ') && !also.contains(&' ');
        return if space { Err(WordError::Char(' ')) } else { Ok(text) };
    }
    Ok(text)
}

fn check(word: &str, also: &[char]) -> Result<(), WordError> {
    if word.is_empty() {
        return Err(WordError::Char(' '));
    }
    for (at, c) in word.char_indices() {
        let (before, after) = (&word[..at], &word[at + c.len_utf8()..]);
        let fits = match c {
            '.' | '-' => true,
            c if is_invisible(c) => joins(before, c, after),
            c if is_combining_mark(c) => is_xid_continue(c) && can_carry(before),
            c => is_xid_continue(c) && !is_jamo(c) || also.contains(&c),
        };
        if !fits {
            return Err(WordError::Char(c));
        }
    }
    if has_one_direction(word) { Ok(()) } else { Err(WordError::Direction) }
}

/// Returns whether a letter, mark or digit may be drawn as nothing: those of
/// Default_Ignorable_Code_Point (UAX #44), and the blanks of Egyptian hieroglyphs.
pub(crate) fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200c}' | '\u{200d}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}'
        | '\u{13441}' | '\u{13442}' | '\u{e0100}'..='\u{e01ef}')
}

/// Returns whether `c` is a part of a Hangul syllable; NFC leaves only those that are in none (RFC
/// 5892 §2.9).
pub(crate) fn is_jamo(c: char) -> bool {
    matches!(c, '\u{1100}'..='\u{11ff}' | '\u{a960}'..='\u{a97c}' | '\u{d7b0}'..='\u{d7fb}')
}

/// Returns whether a mark can stand behind `before`: there is a letter, with less than four marks.
pub(crate) fn can_carry(before: &str) -> bool {
    let marks = before.chars().rev().take_while(|c| c.width() == Some(0));
    !before.is_empty() && marks.take(MAX_MARKS).count() < MAX_MARKS
}

/// Returns whether a joiner `c`, ZWNJ or ZWJ, changes how what stands around it is drawn (RFC 5892
/// appendix A.1 and A.2); `false` for any other character.
pub(crate) fn joins(before: &str, c: char, after: &str) -> bool {
    const VIRAMA: u8 = 9;
    let is_joiner = matches!(c, '\u{200c}' | '\u{200d}');
    let last = before.chars().next_back().map(canonical_combining_class);
    let is_opaque = |kind: &_| *kind != Transparent;
    let left = before.chars().rev().map(get_joining_type).find(is_opaque);
    let right = after.chars().map(get_joining_type).find(is_opaque);
    let would_join = matches!(left, Some(LeftJoining | DualJoining))
        && matches!(right, Some(RightJoining | DualJoining));
    is_joiner && (last == Some(VIRAMA) || c == '\u{200c}' && would_join)
}

/// Returns whether a word is written from left to right, or keeps the rule for words from right to
/// left (RFC 5893 §2, rules 1 to 4). An apostrophe counts as a part of its letter: `ג'ורג'`.
fn has_one_direction(word: &str) -> bool {
    let classes = || word.chars().filter(|c| *c != '\'').map(bidi_class).filter(|it| *it != NSM);
    let has = |class| classes().any(|it| it == class);
    if !(has(R) || has(AL) || has(AN)) {
        return true;
    }
    matches!(classes().next(), Some(R | AL))
        && classes().all(|it| matches!(it, R | AL | AN | EN | ES | CS | ET | ON | BN))
        && matches!(classes().next_back(), Some(R | AL | AN | EN))
        && !(has(EN) && has(AN))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::{FieldError, Name, Room};

    fn name(text: &str) -> Result<String, WordError> {
        match text.parse::<Name>() {
            Ok(name) => Ok(name.as_str().to_owned()),
            Err(FieldError::Name(why)) => Err(why),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn people_of_many_scripts_have_names() {
        for text in [
            "ana",
            "node-1.lab_2",
            "Ñandú",
            "José Pérez",
            "O'Brien",
            "l'Écuyer du Pré",
            "Marcel·la",
            "Nguyễn Thị Minh Khai",
            "Москва",
            "Ελένη Παπαδοπούλου",
            "Հայկ",
            "ქეთევან",
            "日本語",
            "ひらがな カタカナ",
            "김철수",
            "สมชาย ใจดี",
            "ກິນ",
            "ស្រី",
            "ကြွှေ့",
            "राहुल शर्मा",
            "क्\u{200d}ष",
            "தமிழ்ச்செல்வி",
            "বাংলা",
            "ශ්\u{200d}රී",
            "བསྒྲུབས",
            "ሰላም",
            "מרים כהן",
            "ג'ורג'",
            "שָׁלוֹם",
            "محمد علي",
            "علی\u{200c}رضا",
            "غرفة-١",
            "קבוצה-7",
            "דני 7",
            "שרה Levi",
        ] {
            assert_eq!(name(text), Ok(text.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_name_is_put_into_nfc() {
        for (sent, nfc) in [
            ("luci\u{301}a", "lucía"),
            ("\u{1112}\u{1161}\u{11ab}", "한"),
            ("\u{212b}", "Å"),
            ("q\u{307}\u{323}", "q\u{323}\u{307}"),
            ("か\u{3099}", "が"),
        ] {
            assert_eq!(name(sent), Ok(nfc.to_owned()), "{sent}");
        }
    }

    #[test]
    fn what_cannot_be_seen_or_does_not_stay_is_refused() {
        for (text, c) in [
            // Looks like nothing, or like less than it is.
            ("a\u{3164}b", '\u{3164}'),
            ("\u{115f}", '\u{115f}'),
            ("\u{ffa0}", '\u{ffa0}'),
            ("\u{1161}", '\u{1161}'),
            ("a\u{200b}b", '\u{200b}'),
            ("a\u{ad}b", '\u{ad}'),
            ("a\u{34f}b", '\u{34f}'),
            ("\u{2800}", '\u{2800}'),
            ("\u{13441}", '\u{13441}'),
            ("a\u{fe0f}", '\u{fe0f}'),
            ("漢\u{e0100}", '\u{e0100}'),
            ("a\u{e0061}", '\u{e0061}'),
            // Joiners where they join nothing.
            ("a\u{200d}b", '\u{200d}'),
            ("a\u{200c}b", '\u{200c}'),
            ("علی\u{200c}", '\u{200c}'),
            ("علی\u{200c}\u{200c}رضا", '\u{200c}'),
            ("ا\u{200c}ب", '\u{200c}'),
            // Directions of what stands beside it.
            ("\u{202e}a", '\u{202e}'),
            ("a\u{200f}", '\u{200f}'),
            ("\u{2067}a", '\u{2067}'),
            ("\u{61c}a", '\u{61c}'),
            // Marks without a letter, or too many of them.
            ("\u{301}a", '\u{301}'),
            ("a \u{301}", '\u{301}'),
            ("\u{e31}", '\u{e31}'),
            ("q\u{301}\u{302}\u{303}\u{304}\u{306}", '\u{306}'),
            ("a\u{20dd}", '\u{20dd}'),
            // Spaces.
            (" a", ' '),
            ("a ", ' '),
            ("a  b", ' '),
            (" ", ' '),
            ("a\u{a0}b", '\u{a0}'),
            ("a\u{3000}b", '\u{3000}'),
            ("a\tb", '\t'),
            // Other characters.
            ("a\u{1b}[2J", '\u{1b}'),
            ("a\"b", '"'),
            ("a\\b", '\\'),
            ("a/2", '/'),
            ("a@b", '@'),
            ("a\u{1f600}", '\u{1f600}'),
            ("a\u{e000}", '\u{e000}'),
            ("a\u{ffff}", '\u{ffff}'),
            ("\u{fffd}", '\u{fffd}'),
        ] {
            assert_eq!(name(text), Err(WordError::Char(c)), "{text:?}");
            assert!(text.parse::<Room>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_word_has_one_direction() {
        for text in ["anaשלום", "שלוםana", "7שלום", "שלום-", "-שלום", "שלום١7", "١٢٣", "_שלום"]
        {
            assert_eq!(name(text), Err(WordError::Direction), "{text:?}");
        }
    }

    #[test]
    fn a_room_is_one_word_without_apostrophes() {
        for good in ["main", "lab.2", "Ñandú", "日本語", "שלום", "علی\u{200c}رضا"] {
            assert_eq!(good.parse::<Room>().unwrap().as_str(), good);
        }
        for bad in ["José Pérez", "O'Brien", "l'é", "ana ", " "] {
            assert!(bad.parse::<Room>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_name_has_a_character_that_is_not_shown(
            c in r"[\p{DI}&&[\x00-\x{FFFF}]]|\p{DI}|\p{Bidi_Control}|[\p{Cc}\p{Cf}\p{Co}]", before in "[aसب]?", after in "[aसب]?",
        ) {
            let text = format!("{before}{c}{after}");
            let joined = c.chars().all(|c| joins(&before, c, &after));
            prop_assert_eq!(name(&text).is_ok(), joined, "{:?}", text);
        }

        #[test]
        fn a_name_that_is_read_again_is_the_same(text in r"[\p{L}\p{M}\p{N}'. -]{1,12}") {
            if let Ok(read) = name(&text) {
                prop_assert_eq!(name(&read), Ok(read.clone()));
                prop_assert!(unicode_normalization::is_nfc(&read));
                prop_assert!(Name::try_from(SmolStr::new(&read)).is_ok());
            }
        }
    }
}
