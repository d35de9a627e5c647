//! Properties of the planner over random graphs, and of the reader over random text.

use std::fmt::Write as _;

use proptest::prelude::*;
use startline_workflow::diagnostic::Diagnostic;
use startline_workflow::plan::{Conclusion, InstanceState};
use startline_workflow::{action, parse};

use super::harness::Run;

#[derive(Clone, Debug)]
struct Job {
    /// Bit n: needs job n, if that stands before this one.
    needs: u16,
    condition: usize,
    matrix: usize,
    max_parallel: usize,
    fail_fast: bool,
    continue_on_error: bool,
}

const CONDITIONS: [&str; 8] = [
    "success()",
    "always()",
    "failure()",
    "'!cancelled()'",
    "cancelled()",
    "github.ref == 'x'",
    "github.ref != 'x'",
    "fromJSON(vars.broken)",
];

prop_compose! {
    fn job()(
        needs in any::<u16>(),
        condition in prop_oneof![4 => Just(0_usize), 1 => 0..CONDITIONS.len()],
        matrix in 0..5_usize,
        max_parallel in 0..3_usize,
        fail_fast in any::<bool>(),
        continue_on_error in prop::bool::weighted(0.2),
    ) -> Job {
        Job { needs, condition, matrix, max_parallel, fail_fast, continue_on_error }
    }
}

/// Jobs in reverse order, so that no job stands before what it needs by chance alone.
fn source(jobs: &[Job]) -> String {
    let mut text = "on: push\njobs:\n".to_owned();
    for (number, job) in jobs.iter().enumerate().rev() {
        let needs: Vec<String> = (0..number).filter(|n| job.needs >> n & 1 == 1).map(|n| format!("j{n}")).collect();
        let values: Vec<String> = (0..job.matrix).map(|n| n.to_string()).collect();
        let strategy = if values.is_empty() {
            String::new()
        } else {
            format!(
                "strategy: {{fail-fast: {}, max-parallel: {}, matrix: {{n: [{}]}}}}, ",
                job.fail_fast,
                job.max_parallel,
                values.join(", ")
            )
        };
        let _infallible = writeln!(
            text,
            "  j{number}: {{runs-on: x, steps: [{{run: a}}], needs: [{}], if: {}, {strategy}continue-on-error: {}}}",
            needs.join(", "),
            CONDITIONS[job.condition],
            job.continue_on_error,
        );
    }
    text
}

const OUTCOMES: [Conclusion; 4] =
    [Conclusion::Success, Conclusion::Success, Conclusion::Failure, Conclusion::Cancelled];

proptest! {
    /// Whatever the graph, the outcomes and the moment of a cancel: deciding twice yields nothing new, limits hold, and
    /// the run ends.
    #[test]
    fn any_run_ends_and_no_decision_is_made_twice(
        jobs in prop::collection::vec(job(), 1..10),
        choices in prop::collection::vec((any::<prop::sample::Index>(), 0..OUTCOMES.len()), 0..64),
        cancel_at in prop::option::weighted(0.3, 0..20_usize),
    ) {
        let mut run = Run::new(&source(&jobs));
        let mut choices = choices.into_iter();
        // Each round ends one instance, and there are at most 9 × 4 of them.
        for round in 0..100 {
            run.context.cancelled |= cancel_at == Some(round);
            run.advance();
            prop_assert_eq!(run.decide(), vec![], "idempotent");
            for (number, job) in jobs.iter().enumerate().filter(|(_, job)| job.matrix > 0 && job.max_parallel > 0) {
                let key = format!("j{number}");
                let active = |i: &&startline_workflow::plan::Instance| {
                    i.key == key && matches!(i.state, InstanceState::Active | InstanceState::Cancelling)
                };
                prop_assert!(run.instances.iter().filter(active).count() <= job.max_parallel, "{} runs too often", key);
            }
            let running: Vec<(String, u32)> = run
                .instances
                .iter()
                .filter(|i| matches!(i.state, InstanceState::Active | InstanceState::Cancelling))
                .map(|i| (i.key.clone(), i.index))
                .collect();
            if running.is_empty() {
                break;
            }
            prop_assert!(run.conclusion().is_none());
            let (key, index, outcome) = match choices.next() {
                Some((index, outcome)) => {
                    let (key, number) = index.get(&running);
                    (key, *number, OUTCOMES[outcome])
                }
                None => (&running[0].0, running[0].1, Conclusion::Success),
            };
            run.finish(key, index, outcome);
        }
        prop_assert_eq!(run.pending(), Vec::<String>::new());
        prop_assert!(run.instances.iter().all(|i| matches!(i.state, InstanceState::Done(_))));
        let ended = run.conclusion();
        prop_assert!(ended.is_some());
        prop_assert_eq!(ended == Some(Conclusion::Cancelled), run.context.cancelled || {
            let failed = run.instances.iter().any(|i| i.state == InstanceState::Done(Conclusion::Failure) && !i.continue_on_error);
            !failed && run.instances.iter().any(|i| i.state == InstanceState::Done(Conclusion::Cancelled))
        });
    }

    /// The order in which instances are listed makes no difference.
    #[test]
    fn the_order_of_instances_makes_no_difference(jobs in prop::collection::vec(job(), 1..8), seed in any::<u64>()) {
        let mut run = Run::new(&source(&jobs));
        run.advance();
        let running: Vec<(String, u32)> = run
            .instances
            .iter()
            .filter(|i| i.state == InstanceState::Active)
            .map(|i| (i.key.clone(), i.index))
            .collect();
        for (number, (key, index)) in running.into_iter().enumerate() {
            let outcome = OUTCOMES[(seed >> (number * 2 % 64) & 3) as usize];
            run.finish(&key, index, outcome);
        }
        let decided = run.decide();
        run.instances.reverse();
        prop_assert_eq!(run.decide(), decided);
    }

    #[test]
    fn parsing_arbitrary_text_never_panics(text in "\\PC{0,200}") {
        check(&text)?;
    }

    /// Text made of the words of workflows gets further than noise does.
    #[test]
    fn parsing_text_that_looks_like_a_workflow_never_panics(words in prop::collection::vec(word(), 0..60)) {
        check(&words.concat())?;
    }

    /// A good file with a piece replaced by something else.
    #[test]
    fn parsing_a_damaged_workflow_never_panics(
        at in any::<prop::sample::Index>(),
        length in 0..20_usize,
        insert in prop_oneof![word(), "\\PC{0,8}"],
    ) {
        let good = include_str!("../full.yml");
        let start = good.floor_char_boundary(at.index(good.len()));
        let end = good.floor_char_boundary((start + length).min(good.len()));
        check(&format!("{}{insert}{}", &good[..start], &good[end..]))?;
    }
}

fn word() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "\n",
        "\n  ",
        "\n    ",
        "\n      - ",
        ": ",
        ", ",
        "[",
        "]",
        "{",
        "}",
        "'",
        "\"",
        "|\n",
        ">-\n",
        "\t",
        "# ",
        "&a ",
        "*a",
        "<<",
        "${{ ",
        " }}",
        "on",
        "push",
        "jobs",
        "a",
        "b",
        "needs",
        "runs-on",
        "steps",
        "run",
        "uses",
        "./x",
        "if",
        "env",
        "strategy",
        "matrix",
        "include",
        "exclude",
        "github.ref",
        "success()",
        "1",
        "-1.5",
        "true",
        "null",
        "workflow_dispatch",
        "inputs",
        "type",
        "choice",
        "é",
        "\u{feff}",
        "\r\n",
        "\u{85}",
        "---\n",
        "\\",
        "\u{1b}[31m",
    ])
    .prop_map(str::to_owned)
}

/// Reads text as a workflow and as an action; every finding can be shown, stands inside the text, and errors and
/// results exclude each other.
fn check(text: &str) -> Result<(), TestCaseError> {
    let (workflow, findings) = parse(text);
    let (manifest, more) = action::parse(text);
    prop_assert_eq!(workflow.is_none(), findings.iter().any(Diagnostic::is_error));
    prop_assert_eq!(manifest.is_none(), more.iter().any(Diagnostic::is_error));
    for finding in findings.iter().chain(&more) {
        prop_assert!(finding.span.start <= finding.span.end && finding.span.end.offset <= text.len());
        prop_assert!(
            text.is_char_boundary(finding.span.start.offset) && text.is_char_boundary(finding.span.end.offset)
        );
        let shown = finding.render(text, "f.yml", false);
        let escape = '\u{1b}';
        prop_assert!(!shown.contains(escape) && shown.ends_with("\n"));
        prop_assert!(finding.render(text, "f.yml", true).contains(escape));
    }
    Ok(())
}
