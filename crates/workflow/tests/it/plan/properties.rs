//! Properties of the planner over random graphs, and of the reader over random text.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use proptest::prelude::*;
use startline_workflow::diagnostic::Diagnostic;
use startline_workflow::plan::{Conclusion, Instance, InstanceState};
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
    /// The file that it calls, if there is one of this number; else it has steps.
    call: Option<usize>,
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
        Job { needs, condition, matrix, max_parallel, fail_fast, continue_on_error, call: None }
    }
}

/// A job that may call one of so many files.
fn calling(files: usize) -> impl Strategy<Value = Job> {
    let call = prop_oneof![(0..files).prop_map(Some), Just(None)];
    (job(), call).prop_map(|(job, call)| Job { call, matrix: job.matrix.min(2), ..job })
}

/// A workflow, and the files that it calls: some that call nothing, and one that calls those.
fn with_calls() -> impl Strategy<Value = (Vec<Job>, Vec<(String, String)>)> {
    let leaf = || prop::collection::vec(job().prop_map(|job| Job { matrix: job.matrix.min(2), ..job }), 1..3);
    let middle = prop::collection::vec(calling(2), 1..3);
    (prop::collection::vec(calling(3), 1..5), leaf(), leaf(), middle).prop_map(|(jobs, first, second, middle)| {
        let texts = [first, second, middle].map(|jobs| source(&jobs).replacen("on: push", "on: workflow_call", 1));
        let files = texts.into_iter().enumerate().map(|(number, text)| (file(number), text));
        (jobs, files.collect())
    })
}

fn file(number: usize) -> String {
    format!(".github/workflows/f{number}.yml")
}

fn active(instance: &Instance) -> bool {
    matches!(instance.state, InstanceState::Active | InstanceState::Cancelling)
}

/// How many jobs of a matrix run: instances, or combinations of a job that calls a file.
fn running(run: &Run, number: usize, job: &Job) -> usize {
    let key = format!("j{number}");
    let active = run.instances.iter().filter(|instance| active(instance));
    match job.call {
        None => active.filter(|instance| instance.key == key).count(),
        Some(_) => {
            let callers = active.filter_map(|instance| instance.key.split_once('.')).map(|(caller, _)| caller);
            let own = callers.filter(|caller| caller.split('[').next() == Some(&key));
            own.collect::<BTreeSet<_>>().len()
        }
    }
}

/// Plays a run to its end; deciding twice yields nothing new, nothing follows of a success where only ends are awaited, limits
/// hold, and the run ends.
fn play(
    mut run: Run,
    jobs: &[Job],
    choices: Vec<(prop::sample::Index, usize)>,
    cancel_at: Option<usize>,
) -> Result<(), TestCaseError> {
    let mut choices = choices.into_iter();
    let mut awaited = None;
    // Each round ends one instance, and there are at most 4 × 2 × 2 × 2 × 2 × 2 of them with calls, fewer without.
    for round in 0..200 {
        if cancel_at == Some(round) {
            run.context.cancelled = true;
            awaited = None;
        }
        if awaited > Some(0) {
            prop_assert_eq!((run.decide(), run.conclusion()), (vec![], None), "{:?} are awaited", awaited);
        }
        run.advance();
        // What was found out earlier holds.
        awaited = awaited.filter(|left| *left > 0).or_else(|| run.awaited());
        prop_assert_eq!(run.decide(), vec![], "idempotent");
        for (number, job) in jobs.iter().enumerate().filter(|(_, job)| job.matrix > 0 && job.max_parallel > 0) {
            prop_assert!(running(&run, number, job) <= job.max_parallel, "j{} runs too often", number);
        }
        let running: Vec<(String, u32)> =
            run.instances.iter().filter(|i| active(i)).map(|i| (i.key.clone(), i.index)).collect();
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
        awaited = awaited.filter(|_| outcome == Conclusion::Success).map(|left| left - 1);
    }
    prop_assert_eq!(run.pending(), Vec::<String>::new());
    prop_assert!(run.instances.iter().all(|i| matches!(i.state, InstanceState::Done(_))));
    let ended = run.conclusion();
    prop_assert!(ended.is_some());
    prop_assert_eq!(
        ended == Some(Conclusion::Cancelled),
        run.context.cancelled || {
            let failed = run
                .instances
                .iter()
                .any(|i| i.state == InstanceState::Done(Conclusion::Failure) && !i.continue_on_error);
            !failed && run.instances.iter().any(|i| i.state == InstanceState::Done(Conclusion::Cancelled))
        }
    );
    Ok(())
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
        let (what, tolerant) = match job.call {
            // A job that calls a file takes no `continue-on-error`.
            Some(called) => (format!("uses: ./{}", file(called)), String::new()),
            None => {
                ("runs-on: x, steps: [{run: a}]".to_owned(), format!(", continue-on-error: {}", job.continue_on_error))
            }
        };
        let _infallible = writeln!(
            text,
            "  j{number}: {{{what}, needs: [{}], {strategy}if: {}{tolerant}}}",
            needs.join(", "),
            CONDITIONS[job.condition],
        );
    }
    text
}

const OUTCOMES: [Conclusion; 4] =
    [Conclusion::Success, Conclusion::Success, Conclusion::Failure, Conclusion::Cancelled];

proptest! {
    /// Whatever the graph, the outcomes and the moment of a cancel.
    #[test]
    fn any_run_ends_and_no_decision_is_made_twice(
        jobs in prop::collection::vec(job(), 1..10),
        choices in prop::collection::vec((any::<prop::sample::Index>(), 0..OUTCOMES.len()), 0..64),
        cancel_at in prop::option::weighted(0.3, 0..20_usize),
    ) {
        play(Run::new(&source(&jobs)), &jobs, choices, cancel_at)?;
    }

    /// The same with jobs that call files, which call files.
    #[test]
    fn any_run_with_calls_ends_and_no_decision_is_made_twice(
        (jobs, files) in with_calls(),
        choices in prop::collection::vec((any::<prop::sample::Index>(), 0..OUTCOMES.len()), 0..100),
        cancel_at in prop::option::weighted(0.3, 0..20_usize),
    ) {
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        play(Run::calling(&source(&jobs), &files), &jobs, choices, cancel_at)?;
    }

    /// The order in which instances are listed makes no difference.
    #[test]
    fn the_order_of_instances_makes_no_difference(jobs in prop::collection::vec(job(), 1..8), seed in any::<u64>()) {
        let mut run = Run::new(&source(&jobs));
        run.advance();
        let running: Vec<(String, u32)> = run
            .instances
            .iter()
            .filter(|i| active(i))
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
