//! What the live views share: boxes, countdown bars, top and bottom lines, and texts cut to a
//! width.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, LineGauge, Paragraph};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::clock::Now;
use crate::window::{Wall, Window};

/// Cuts `text` to `width` columns of a terminal; an ellipsis stands for what is cut off.
pub(super) fn cut(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let mut shown = start(text, width.saturating_sub(1)).to_owned();
    if width > 0 {
        shown.push('…');
    }
    shown
}

/// Returns as much of the beginning of `text` as takes `width` columns or less, without a part of an
/// escape at its end.
fn start(text: &str, width: usize) -> &str {
    let mut used = 0;
    let end = text.char_indices().find(|(_, c)| {
        used += c.width().unwrap_or(0);
        used > width
    });
    let Some((end, _)) = end else { return text };
    let escape = text[..end].rfind('\\').filter(|at| at + escape_len(&text[*at..]) > end);
    &text[..escape.unwrap_or(end)]
}

/// Returns the length of the escape with which `text` begins, like `\u{202e}` or `\r`.
fn escape_len(text: &str) -> usize {
    let digits =
        text.strip_prefix("\\u{").map(|rest| rest.bytes().take_while(u8::is_ascii_hexdigit));
    digits.map_or(2, |digits| "\\u{}".len() + digits.count())
}

/// Breaks `text` between words into at most `rows` lines of `width` columns; what does not fit into
/// the last is cut off.
pub(super) fn wrapped(text: &str, (width, rows): (usize, usize)) -> Vec<String> {
    let (mut rest, mut lines) = (text, Vec::new());
    while lines.len() + 1 < rows && columns(rest) > width {
        let fits = start(rest, width);
        let is_whole = rest[fits.len()..].starts_with(' ');
        let end = if is_whole { None } else { fits.rfind(' ') }.unwrap_or(fits.len());
        lines.push(rest[..end].to_owned());
        rest = rest[end..].trim_start_matches(' ');
    }
    if rows > 0 {
        lines.push(cut(rest, width));
    }
    lines
}

/// Returns how many columns `text` takes as the views draw it: one grapheme behind the other.
fn columns(text: &str) -> usize {
    Span::raw(text).styled_graphemes(Style::new()).map(|it| it.symbol.width()).sum()
}

/// Returns how many columns the widest of `texts` takes, but from `least` to `most`.
pub(super) fn widest<'a>(texts: impl Iterator<Item = &'a str>, least: usize, most: usize) -> usize {
    texts.map(columns).max().unwrap_or(0).clamp(least, most.max(least))
}

/// Returns the constraint for a table column that is `width` columns of the terminal wide.
pub(super) fn column(width: usize) -> Constraint {
    Constraint::Length(u16::try_from(width).unwrap_or(u16::MAX))
}

/// Aligns a text to the right of its table cell.
pub(super) fn right(text: impl Into<String>) -> Line<'static> {
    Line::from(text.into()).right_aligned()
}

/// Formats a countdown in whole seconds, rounded up, so that it shows 0 only at the end.
pub(super) fn countdown(left: Duration) -> String {
    match left.as_millis().div_ceil(1000) {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{}:{:02}", seconds / 60, seconds % 60),
        seconds => format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60),
    }
}

/// Formats the time of day of `moment`, like 11:29:00.
pub(super) fn time_of_day(moment: Wall) -> String {
    moment.to_string().get(11..19).unwrap_or_default().to_owned()
}

/// Formats the time of day at which `window` opens, like 11:29:00.
pub(super) fn opening_time(window: Window) -> String {
    time_of_day(window.opens())
}

/// Returns a progress bar for a wait of `whole`, of which `left` remains, with `label` before it.
pub(super) fn gauge(left: Duration, whole: Duration, label: &str) -> LineGauge<'static> {
    let share = if whole.is_zero() { 1.0 } else { 1.0 - left.div_duration_f64(whole) };
    LineGauge::default()
        .ratio(share.clamp(0.0, 1.0))
        .label(format!("{label:>5}").bold())
        .filled_symbol("█")
        .unfilled_symbol("░")
        .filled_style(Style::new().cyan())
        .unfilled_style(Style::new().cyan())
}

/// Draws the top line of a view: `what` it shows, and the time in UTC.
pub(super) fn header(frame: &mut Frame<'_>, area: Rect, what: &str, now: Now) {
    let wide = area.width >= 40;
    // The letters come first: behind a title from right to left, digits alone would change places.
    let time = if wide { format!("UTC {} ", time_of_day(now.wall)) } else { String::new() };
    let [left, right] = Layout::horizontal([Constraint::Fill(1), column(time.width())]).areas(area);
    frame.render_widget(cut(&format!(" {what}"), left.width.into()).bold(), left);
    frame.render_widget(time, right);
}

/// Draws the bottom line of a view: what the keys do.
pub(super) fn footer(frame: &mut Frame<'_>, area: Rect, keys: &str) {
    frame.render_widget(cut(&format!(" {keys}"), area.width.into()).dim(), area);
}

/// Draws a box with lines in it, which are cut at its edge.
pub(super) fn boxed(frame: &mut Frame<'_>, area: Rect, title: &str, lines: Vec<Line<'_>>) {
    frame.render_widget(Paragraph::new(lines).block(framed(title, area)), area);
}

/// Draws a box with a countdown bar and a line below it.
pub(super) fn boxed_gauge(
    frame: &mut Frame<'_>,
    area: Rect,
    title: &str,
    gauge: Option<LineGauge<'_>>,
    state: Line<'_>,
) {
    let block = framed(title, area);
    let [bar, below] = Layout::vertical([Constraint::Length(1); 2]).areas(block.inner(area));
    frame.render_widget(block, area);
    match gauge {
        Some(gauge) => frame.render_widget(gauge, bar),
        None => frame.render_widget("waiting for the registry's answer".dim(), bar),
    }
    frame.render_widget(state, below);
}

/// Returns the frame of a box, with its title cut to fit into `area`.
pub(super) fn framed(title: &str, area: Rect) -> Block<'static> {
    let title = cut(title, usize::from(area.width).saturating_sub(4));
    Block::bordered()
        .border_type(BorderType::Rounded)
        .border_style(Style::new().dim())
        .title(Span::from(format!(" {title} ")).not_dim())
}

/// Returns how many columns and lines fit inside the frame of a box that fills `area`.
pub(super) fn inside(area: Rect) -> (usize, usize) {
    (usize::from(area.width.saturating_sub(2)), usize::from(area.height.saturating_sub(2)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::escape_controls;

    #[test]
    fn texts_are_cut_by_the_columns_they_take() {
        assert_eq!(cut("hola", 4), "hola");
        assert_eq!(cut("hola!", 4), "hol…");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!((cut("hola", 1).as_str(), cut("hola", 0).as_str()), ("…", ""));
    }

    #[test]
    fn an_escape_is_not_cut_in_two() {
        let text = escape_controls("ab\u{202e}cd\r");
        let shown = [2, 3, 4, 10, 11, 12, 13, 14].map(|width| cut(&text, width));
        let whole = "ab\\u{202e}";
        let [one, more] = [format!("{whole}…"), format!("{whole}c…")];
        assert_eq!(shown, ["a…", "ab…", "ab…", "ab…", &one, &more, &format!("{whole}cd…"), &text]);
        assert_eq!(wrapped(&text, (9, 9)), ["ab", "\\u{202e}c", "d\\r"]);
        assert_eq!(cut("a\\u{b and more", 7), "a\\u{b …", "a backslash that was typed");
    }

    #[test]
    fn a_text_is_broken_between_words_and_cut_in_the_last_row() {
        assert_eq!(wrapped("one two three", (7, 9)), ["one two", "three"]);
        assert_eq!(wrapped("one two three", (8, 9)), ["one two", "three"]);
        assert_eq!(wrapped("one two three four", (6, 2)), ["one", "two t…"]);
        assert_eq!(wrapped("日本語日本 one", (5, 9)), ["日本", "語日", "本", "one"]);
        assert_eq!(wrapped("fits", (4, 1)), ["fits"]);
        assert_eq!((wrapped("one", (2, 0)).len(), wrapped("one", (0, 3)).len()), (0, 3));
    }

    #[test]
    fn a_countdown_ends_at_zero() {
        let shown = |millis| countdown(Duration::from_millis(millis));
        assert_eq!([shown(0), shown(1), shown(59_000)], ["0 s", "1 s", "59 s"]);
        assert_eq!([shown(59_001), shown(3_600_000)], ["1:00", "1:00:00"]);
    }
}
