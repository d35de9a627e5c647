//! Concurrency groups, as the planner sees them.

use proptest::prelude::*;
use startline_workflow::expression::Value;
use startline_workflow::model::Queue;
use startline_workflow::plan::{Claim, ClaimState, Conclusion, Conclusion::*, Held, InstanceState, claim_of_run};

use super::harness::Run;

const CALLED: &str = "\
on: {workflow_call: {inputs: {group: {type: string}}}}
concurrency: 'inner-${{ inputs.group }}'
jobs:
  a: {runs-on: x, steps: [{run: a}]}
  b: {needs: a, runs-on: x, steps: [{run: a}]}
";

fn calling(jobs: &str) -> Run {
    Run::calling(&format!("on: push\njobs:\n{jobs}"), &[("called.yml", CALLED)])
}

fn claim(group: &str) -> Claim {
    Claim { group: group.to_owned(), cancel_in_progress: false, queue: Queue::Single }
}

#[test]
fn a_job_carries_the_claim_of_its_combination() {
    let mut run = Run::new(
        "on: push\njobs:\n  a:\n    strategy: {matrix: {n: [1, 2]}}\n    runs-on: x\n    concurrency:\n      \
         group: 'G-${{ matrix.n }}-${{ strategy.job-total }}'\n      cancel-in-progress: '${{ matrix.n == 2 }}'\n    \
         steps: [{run: a}]\n  b: {runs-on: x, concurrency: {group: q, queue: max}, steps: [{run: a}]}\n",
    );
    let decided = run.decide();
    let claims: Vec<Option<Claim>> = run.expanded("a").into_iter().map(|job| job.claim).collect();
    let expected = [("G-1-2", false), ("G-2-2", true)];
    let expected = expected.map(|(group, cancel)| Some(Claim { cancel_in_progress: cancel, ..claim(group) }));
    assert_eq!(claims, expected);
    let b = decided.into_iter().find_map(|decision| match decision {
        startline_workflow::plan::Decision::Expand { key, mut jobs } if key == "b" => jobs.remove(0).claim,
        _ => None,
    });
    assert_eq!(b, Some(Claim { queue: Queue::Max, ..claim("q") }));
}

#[test]
fn a_group_that_has_no_good_name_fails_its_job() {
    let cases = [
        ("'${{ vars.none }}'", "must not be empty"),
        ("'${{ fromJSON(''[1]'') }}'", "must be text, not an array"),
        ("'${{ vars.long }}'", "has 401 characters; a group's name has at most 400"),
        ("{group: a, cancel-in-progress: '${{ vars.long }}'}", "`cancel-in-progress` must be a boolean"),
        ("{group: a, queue: max, cancel-in-progress: '${{ true }}'}", "exclude each other"),
        ("'${{ fromJSON(vars.long) }}'", "`concurrency`: "),
    ];
    for (concurrency, expected) in cases {
        let source = format!("on: push\njobs:\n  a: {{runs-on: x, concurrency: {concurrency}, steps: [{{run: a}}]}}\n");
        let mut run = Run::new(&source);
        run.context.vars = Value::object([("long", Value::string("x".repeat(401)))]);
        let decided = run.advance();
        assert!(decided[0].starts_with("fail a: ") && decided[0].contains(expected), "{decided:?}");
        assert_eq!(run.conclusion(), Some(Failure));
    }
}

#[test]
fn the_claim_of_a_run_is_made_of_its_contexts() {
    let run = Run::new(
        "on: push\nconcurrency: {group: 'x-${{ github.ref }}', cancel-in-progress: \"${{ github.actor == 'mona' }}\"}\n\
         jobs: {a: {runs-on: x, steps: [{run: a}]}}\n",
    );
    let found = claim_of_run(&run.workflow, &run.context);
    assert_eq!(found, Ok(Some(Claim { cancel_in_progress: true, ..claim("x-refs/heads/main") })));
}

#[test]
fn a_call_begins_when_it_has_both_groups_and_leaves_them_at_its_end() {
    let mut run = calling(
        "  call: {uses: ./called.yml, with: {group: g}, concurrency: outer}\n  \
         last: {needs: call, runs-on: x, steps: [{run: a}]}\n",
    );
    assert_eq!(run.advance(), ["claim call outer"]);
    assert_eq!((run.advance(), run.pending()), (vec![], vec!["call".to_owned(), "last".to_owned()]));
    run.settle("call", ClaimState::Granted);
    assert_eq!(run.advance(), ["claim call. inner-g"]);
    assert_eq!((run.advance(), run.conclusion()), (vec![], None));
    run.settle("call.", ClaimState::Granted);
    assert_eq!(run.advance(), ["expand call.a 1"]);
    run.finish("call.a", 0, Success);
    assert_eq!(run.advance(), ["expand call.b 1"]);
    run.finish("call.b", 0, Success);
    assert_eq!(run.advance(), ["leave call", "leave call.", "expand last 1"]);
    run.finish("last", 0, Success);
    assert_eq!((run.advance(), run.conclusion()), (vec![], Some(Success)));
}

#[test]
fn a_call_that_is_displaced_is_cancelled_and_the_others_of_its_matrix_go_on() {
    let mut run = calling(
        "  call:\n    strategy: {max-parallel: 1, matrix: {n: [1, 2]}}\n    uses: ./called.yml\n    \
         with: {group: '${{ matrix.n }}'}\n",
    );
    assert_eq!(run.advance(), ["claim call[0]. inner-1"]);
    run.settle("call[0].", ClaimState::Displaced("another waits".to_owned()));
    assert_eq!(run.advance(), ["drop call 0: another waits", "leave call[0].", "claim call[1]. inner-2"]);
    run.settle("call[1].", ClaimState::Granted);
    assert_eq!(run.advance(), ["expand call[1].a 1"]);
    run.finish("call[1].a", 0, Success);
    run.advance();
    run.finish("call[1].b", 0, Success);
    assert_eq!((run.advance(), run.conclusion()), (vec!["leave call[1].".to_owned()], Some(Cancelled)));
}

#[test]
fn a_call_that_is_overtaken_is_cancelled_from_within() {
    let mut run = calling("  call: {uses: ./called.yml, with: {group: g}}\n");
    run.advance();
    run.settle("call.", ClaimState::Granted);
    run.advance();
    run.settle("call.", ClaimState::Overtaken("run 7 wants it".to_owned()));
    assert_eq!(run.advance(), ["cancel call.a 0: run 7 wants it"]);
    assert_eq!(run.advance(), Vec::<String>::new(), "the group is kept until the job has really ended");
    run.finish("call.a", 0, Cancelled);
    assert_eq!(run.advance(), ["skip call.b: the run was cancelled", "leave call."]);
    assert_eq!((run.advance(), run.conclusion()), (vec![], Some(Cancelled)));
}

#[test]
fn a_run_that_is_cancelled_gives_up_calls_that_wait() {
    let mut run = calling("  call: {uses: ./called.yml, with: {group: g}}\n");
    run.advance();
    run.context.cancelled = true;
    assert_eq!(run.advance(), ["drop call 0: the run was cancelled", "leave call."]);
    assert_eq!((run.advance(), run.conclusion()), (vec![], Some(Cancelled)));
}

#[test]
fn nobody_waits_for_a_group_that_it_holds_itself() {
    let wait = "it would wait for ever";
    let mut run = calling("  call: {uses: ./called.yml, with: {group: g}, concurrency: INNER-g}\n");
    let decided = run.advance();
    assert!(decided[0].contains(wait) && decided[0].contains("the job `call` that calls it"), "{decided:?}");

    let mut run = calling("  call: {uses: ./called.yml, with: {group: g}}\n");
    run.context.held = vec![Held::new(&claim("Inner-G"), "this run")];
    let decided = run.advance();
    assert!(decided[0].contains(wait) && decided[0].contains("`called.yml`: "), "{decided:?}");

    let mut run = Run::new("on: push\njobs: {a: {runs-on: x, concurrency: G, steps: [{run: a}]}}\n");
    run.context.held = vec![Held::new(&claim("g"), "this run")];
    let decided = run.advance();
    let expected = "fail a: the job `a` cannot start: it would wait for ever: this run has the concurrency group `G` until \
                    this has ended; name another group";
    assert_eq!(decided, [expected]);
}

proptest! {
    /// Whatever becomes of the claims and in whatever order jobs end: nothing is decided twice, no call begins without its
    /// groups, every claim is left, and the run ends.
    #[test]
    fn calls_with_groups_end_and_leave_them(
        outer in any::<bool>(),
        matrix in 0..4_usize,
        max_parallel in 0..3_usize,
        condition in 0..3_usize,
        verdicts in prop::collection::vec((any::<prop::sample::Index>(), 0..4_usize, any::<bool>()), 0..80),
        cancel_at in prop::option::weighted(0.3, 0..20_usize),
    ) {
        let strategy = match matrix {
            0 => String::new(),
            n => format!(
                "strategy: {{max-parallel: {max_parallel}, fail-fast: {outer}, matrix: {{n: {:?}}}}}, ",
                (0..n).collect::<Vec<_>>()
            ),
        };
        let outer_group = if outer { "concurrency: outer, " } else { "" };
        let condition = ["success()", "always()", "'!cancelled()'"][condition];
        let mut run = calling(&format!(
            "  call: {{{strategy}{outer_group}uses: ./called.yml, with: {{group: g}}}}\n  \
             last: {{needs: call, if: {condition}, runs-on: x, steps: [{{run: a}}]}}\n"
        ));
        let mut verdicts = verdicts.into_iter();
        for round in 0..200 {
            run.context.cancelled |= cancel_at == Some(round);
            run.advance();
            prop_assert_eq!(run.decide(), vec![], "idempotent");
            let running: Vec<(String, u32)> = run.instances.iter()
                .filter(|i| matches!(i.state, InstanceState::Active | InstanceState::Cancelling))
                .map(|i| (i.key.clone(), i.index))
                .collect();
            for (key, _) in &running {
                if let Some((prefix, _)) = key.split_once('.') {
                    let place = format!("{prefix}.");
                    let state = run.context.claims.get(&place);
                    let has = matches!(state, Some(ClaimState::Granted | ClaimState::Overtaken(_)));
                    prop_assert!(has, "{} runs without its group", key);
                }
            }
            let claims: Vec<String> = run.context.claims.keys().cloned().collect();
            if running.is_empty() && claims.is_empty() {
                break;
            }
            let (index, verdict, of_claim) =
                verdicts.next().map_or((None, 0, round % 2 == 0), |(index, verdict, of_claim)| (Some(index), verdict, of_claim));
            let pick = |length: usize| index.map_or(round / 2 % length, |index| index.index(length));
            if of_claim && !claims.is_empty() {
                let place = &claims[pick(claims.len())];
                let next = match (&run.context.claims[place], verdict) {
                    (ClaimState::Waiting, 3) => ClaimState::Displaced("displaced".to_owned()),
                    (ClaimState::Waiting, _) => ClaimState::Granted,
                    (ClaimState::Granted, 3) => ClaimState::Overtaken("overtaken".to_owned()),
                    (state, _) => state.clone(),
                };
                run.settle(place, next);
            } else if !running.is_empty() {
                let (key, number) = &running[pick(running.len())];
                let outcome = [Success, Success, Failure, Cancelled][verdict];
                run.finish(key, *number, outcome);
            }
        }
        prop_assert!(run.context.claims.is_empty(), "{:?}", run.context.claims);
        prop_assert!(run.instances.iter().all(|i| matches!(i.state, InstanceState::Done(_))));
        let ended: Option<Conclusion> = run.conclusion();
        prop_assert!(ended.is_some());
    }
}
