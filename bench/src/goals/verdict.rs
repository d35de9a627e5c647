//! Whether a goal is reached: nothing but arithmetic.

use serde::{Deserialize, Serialize};

use crate::probe::Company;
use crate::sample::Spread;

/// Load average from which on a machine is not quiet.
pub(crate) const NOISY_LOAD: f64 = 1.5;
/// Processors that others may keep busy while something is measured.
pub(crate) const NOISY_OTHERS: f64 = 0.5;
/// Share of the time that the host may take away, in per cent.
pub(crate) const NOISY_STEAL: f64 = 10.0;

/// What a goal wants of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Bound {
    pub(crate) fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }
}

/// A goal in words and numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Goal {
    /// As in the list of goals, such as `S1`.
    pub(crate) id: &'static str,
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    /// Of the ratio when there is an anchor, else of the figure itself.
    pub(crate) bound: Bound,
    /// Does not depend on who else is there: memory, sizes.
    pub(crate) steady: bool,
}

/// A figure, or why there is none.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Found {
    Figure(Spread),
    Missing(String),
    /// Measured, with something that must not happen; the figure, if there is one all the same.
    Wrong(String, Option<Spread>),
}

impl Found {
    /// Of rounds; `Missing` when there were none.
    pub(crate) fn of(rounds: Vec<f64>) -> Self {
        Spread::of(rounds).map_or_else(|| Self::Missing("was not measured".to_owned()), Self::Figure)
    }
}

/// How it came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Pass,
    Fail,
    /// Something that was needed is not there.
    Skipped(String),
    /// Measured, but others were there too, so it says nothing.
    Noisy,
}

/// A line of the table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) what: String,
    pub(crate) unit: String,
    pub(crate) bound: Bound,
    pub(crate) ours: Option<Spread>,
    /// Who the anchor is, and what it reached in the same rounds.
    pub(crate) anchor: Option<(String, Option<Spread>)>,
    /// Of the medians.
    pub(crate) ratio: Option<f64>,
    pub(crate) verdict: Verdict,
    /// What happened that must not.
    pub(crate) wrong: Option<String>,
    pub(crate) company: Company,
}

impl Row {
    /// Judges a figure, beside that of an anchor where the goal is a ratio.
    pub(crate) fn judge(goal: Goal, ours: Found, anchor: Option<(&str, Found)>, company: Company) -> Self {
        let (mut missing, mut wrong) = (None, None);
        let mut take = |found: Found, who: &str| match found {
            Found::Figure(spread) => Some(spread),
            Found::Missing(why) => {
                missing.get_or_insert_with(|| if who.is_empty() { why } else { format!("{who}: {why}") });
                None
            }
            // An anchor that went wrong is none; nobody else is better for it.
            Found::Wrong(why, _) if !who.is_empty() => {
                missing.get_or_insert_with(|| format!("{who}: {why}"));
                None
            }
            Found::Wrong(why, spread) => {
                wrong.get_or_insert(why);
                spread
            }
        };
        let ours = take(ours, "");
        let anchor = anchor.map(|(who, found)| (who.to_owned(), take(found, who)));
        let against = anchor.as_ref().map(|(_, spread)| spread.as_ref());
        let ratio = match (&ours, against) {
            (Some(ours), Some(Some(anchor))) => Some(ours.median / anchor.median).filter(|ratio| ratio.is_finite()),
            _ => None,
        };
        let judged = if against.is_some() { ratio } else { ours.as_ref().map(|ours| ours.median) };
        let verdict = match (missing, judged) {
            _ if wrong.is_some() => Verdict::Fail,
            (Some(why), _) => Verdict::Skipped(why),
            (None, None) => Verdict::Skipped("the anchor measured nothing".to_owned()),
            (None, Some(_)) if is_noisy(&company) && !goal.steady => Verdict::Noisy,
            (None, Some(value)) if goal.bound.holds(value) => Verdict::Pass,
            (None, Some(_)) => Verdict::Fail,
        };
        Self {
            id: goal.id.to_owned(),
            what: goal.what.to_owned(),
            unit: goal.unit.to_owned(),
            bound: goal.bound,
            ours,
            anchor,
            ratio,
            verdict,
            wrong,
            company,
        }
    }
}

/// Whether others made the figures worthless: the load average before, which no run of ours has raised, or what others
/// used of the processors meanwhile.
pub(crate) fn is_noisy(company: &Company) -> bool {
    company.load_before > NOISY_LOAD || company.others > NOISY_OTHERS || company.steal_percent > NOISY_STEAL
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Company = Company { load_before: 0.2, load_after: 2.5, others: 0.1, steal_percent: 0.0 };
    const RATIO: Goal = Goal { id: "S1", what: "cycles", unit: "/s", bound: Bound::AtLeast(1.5), steady: false };

    fn figure(value: f64) -> Found {
        Found::of(vec![value])
    }

    #[test]
    fn a_ratio_is_judged_and_not_the_figure() {
        let row = Row::judge(RATIO, figure(15.0), Some(("beanstalkd", figure(10.0))), QUIET);
        assert_eq!((row.verdict, row.ratio), (Verdict::Pass, Some(1.5)));
        let row = Row::judge(RATIO, figure(14.9), Some(("beanstalkd", figure(10.0))), QUIET);
        assert_eq!(row.verdict, Verdict::Fail);
    }

    #[test]
    fn without_an_anchor_the_figure_is_judged() {
        let most = Goal { bound: Bound::AtMost(90.0), ..RATIO };
        assert_eq!(Row::judge(most, figure(90.0), None, QUIET).verdict, Verdict::Pass);
        assert_eq!(Row::judge(most, figure(90.1), None, QUIET).verdict, Verdict::Fail);
    }

    #[test]
    fn what_is_missing_is_skipped_and_never_passed() {
        let nobody = || Some(("beanstalkd", Found::Missing("not installed".to_owned())));
        let row = Row::judge(RATIO, figure(1e9), nobody(), QUIET);
        assert_eq!(row.verdict, Verdict::Skipped("beanstalkd: not installed".to_owned()));
        let row = Row::judge(RATIO, Found::Missing("no scenario".to_owned()), Some(("x", figure(1.0))), QUIET);
        assert_eq!(row.verdict, Verdict::Skipped("no scenario".to_owned()));
        let row = Row::judge(RATIO, figure(1.0), Some(("x", figure(0.0))), QUIET);
        assert!(matches!(row.verdict, Verdict::Skipped(_)), "{row:?}");
        assert!(matches!(Row::judge(RATIO, Found::of(Vec::new()), None, QUIET).verdict, Verdict::Skipped(_)));
    }

    #[test]
    fn errors_of_ours_fail_and_those_of_an_anchor_skip() {
        let wrong = || Found::Wrong("3 errors: a job was lost".to_owned(), Spread::of(vec![99.0]));
        let row = Row::judge(RATIO, wrong(), Some(("x", figure(1.0))), QUIET);
        assert_eq!((row.verdict, row.wrong.as_deref()), (Verdict::Fail, Some("3 errors: a job was lost")));
        assert_eq!(row.ours, Spread::of(vec![99.0]));
        // Not even noise excuses it.
        assert_eq!(Row::judge(RATIO, wrong(), None, Company { others: 9.0, ..QUIET }).verdict, Verdict::Fail);
        let row = Row::judge(RATIO, figure(1e9), Some(("x", wrong())), QUIET);
        assert!(matches!(row.verdict, Verdict::Skipped(_)), "{row:?}");
    }

    #[test]
    fn in_company_nothing_is_judged_but_what_is_steady() {
        let busy = [
            Company { load_before: 1.6, ..QUIET },
            Company { others: 0.6, ..QUIET },
            Company { steal_percent: 11.0, ..QUIET },
        ];
        for company in busy {
            assert_eq!(Row::judge(RATIO, figure(99.0), None, company).verdict, Verdict::Noisy);
            assert_eq!(Row::judge(RATIO, figure(0.1), None, company).verdict, Verdict::Noisy);
            let steady = Goal { steady: true, ..RATIO };
            assert_eq!(Row::judge(steady, figure(99.0), None, company).verdict, Verdict::Pass);
            assert_eq!(Row::judge(steady, figure(0.1), None, company).verdict, Verdict::Fail);
            let row = Row::judge(RATIO, Found::Missing("gone".to_owned()), None, company);
            assert_eq!(row.verdict, Verdict::Skipped("gone".to_owned()));
        }
        // What a run of ours does to the load average afterwards is no company.
        assert_eq!(Row::judge(RATIO, figure(99.0), None, QUIET).verdict, Verdict::Pass);
    }
}
