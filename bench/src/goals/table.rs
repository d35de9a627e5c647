//! The table for people.

use comfy_table::{CellAlignment, Table, presets};

use super::verdict::{Bound, Row, Verdict};
use crate::sample::Spread;

const HEADER: [&str; COLUMNS] =
    ["", "goal", "ours", "anchor in the same rounds", "ratio", "wanted", "", "load", "others"];
const COLUMNS: usize = 9;

/// All rows, in their order.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(HEADER);
    table.add_rows(rows.iter().map(cells));
    for column in [4, 7, 8] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// The same for a page of documentation.
pub(crate) fn markdown(rows: &[Row]) -> String {
    let line = |cells: &[String]| format!("| {} |", cells.join(" | "));
    let mut lines = vec![line(&HEADER.map(str::to_owned)), format!("|{}", " --- |".repeat(COLUMNS))];
    lines.extend(rows.iter().map(|row| line(&cells(row).map(|cell| cell.replace('|', "\\|")))));
    lines.join("\n")
}

fn cells(row: &Row) -> [String; COLUMNS] {
    let anchor = match &row.anchor {
        Some((who, spread)) => format!("{who} {}", figure(spread.as_ref())),
        None => String::new(),
    };
    let what = if row.unit.is_empty() { row.what.clone() } else { format!("{}, {}", row.what, row.unit) };
    [
        row.id.clone(),
        what,
        figure(row.ours.as_ref()),
        anchor,
        row.ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
        wanted(row),
        verdict(row),
        format!("{:.1} → {:.1}", row.company.load_before, row.company.load_after),
        format!("{:.1}", row.company.others),
    ]
}

/// Median, with the extremes when there is more than one round.
fn figure(spread: Option<&Spread>) -> String {
    match spread {
        None => "–".to_owned(),
        Some(spread) if spread.rounds.len() < 2 => number(spread.median),
        Some(spread) => format!("{} [{}..{}]", number(spread.median), number(spread.min), number(spread.max)),
    }
}

/// As many digits as say something.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn wanted(row: &Row) -> String {
    let (sign, bound) = match row.bound {
        Bound::AtMost(bound) => ("≤", bound),
        Bound::AtLeast(bound) => ("≥", bound),
    };
    let factor = if row.anchor.is_some() { " ×" } else { "" };
    format!("{sign} {bound}{factor}")
}

fn verdict(row: &Row) -> String {
    match &row.verdict {
        Verdict::Pass => "pass".to_owned(),
        Verdict::Fail => row.wrong.as_ref().map_or_else(|| "FAIL".to_owned(), |why| format!("FAIL: {why}")),
        Verdict::Skipped(why) => format!("skipped: {why}"),
        Verdict::Noisy => "noisy".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::verdict::{Found, Goal};
    use super::*;
    use crate::probe::Company;

    #[test]
    fn every_row_says_what_was_wanted_what_was_found_and_how_it_came_out() {
        let company = Company { load_before: 0.25, load_after: 2.0, others: 0.1, steal_percent: 0.0 };
        let goal = Goal { id: "S1", what: "life cycles", unit: "/s", bound: Bound::AtLeast(1.5), steady: false };
        let anchor = Some(("beanstalkd", Found::of(vec![8000.0])));
        let rows = [
            Row::judge(goal, Found::of(vec![12_000.0, 16_000.0, 14_000.0]), anchor, company),
            Row::judge(Goal { id: "S9", ..goal }, Found::Missing("no such scenario".to_owned()), None, company),
        ];
        let text = table(&rows);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(
            words(lines[1]),
            "S1 life cycles, /s 14000 [12000..16000] beanstalkd 8000 1.75 ≥ 1.5 × pass 0.2 → 2.0 0.1"
        );
        let page = markdown(&rows);
        assert_eq!(page.lines().count(), 4, "{page}");
        assert!(page.lines().all(|line| line.matches(" |").count() == COLUMNS), "{page}");
        assert_eq!(words(lines[2]), "S9 life cycles, /s – ≥ 1.5 skipped: no such scenario 0.2 → 2.0 0.1");
    }

    #[test]
    fn numbers_have_as_many_digits_as_say_something() {
        assert_eq!([1234.5, 12.34, 1.234, 0.0].map(number), ["1234", "12.3", "1.23", "0.00"]);
    }
}
