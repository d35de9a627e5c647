//! Steps as reports change them.

use startline_protocol::actions::results::Subject;

use super::*;

const SETUP: Uuid = Uuid::from_u128(1);
const BUILD: Uuid = Uuid::from_u128(2);

fn update(order: i64, steps: Vec<Step>) -> StepsUpdate {
    let subject = Subject {
        workflow_run_backend_id: Uuid::nil(),
        workflow_job_run_backend_id: Uuid::nil(),
        step_backend_id: None,
    };
    StepsUpdate { subject, steps, change_order: order }
}

fn sent(id: Uuid, number: i64, status: i64, conclusion: i64) -> Step {
    Step {
        external_id: id,
        number: Some(number),
        name: Some(format!("step {number}")),
        status: Some(status),
        conclusion: Some(conclusion),
        ..Step::default()
    }
}

#[test]
fn statuses_are_3_5_and_6_and_conclusions_2_3_4_and_7() {
    let (mut progress, mut steps) = (Progress::default(), Vec::new());
    let words = [(1, 3, 0), (2, 5, 0), (3, 6, 2), (4, 6, 3), (5, 6, 4), (6, 6, 7), (7, 0, 0)];
    let all =
        words.map(|(number, status, end)| sent(Uuid::from_u128(u128::try_from(number).unwrap()), number, status, end));
    progress.update(&mut steps, &update(1, all.into())).unwrap();
    let found: Vec<_> = steps.iter().map(|step| (step.status, step.conclusion)).collect();
    let over = |conclusion| (StepStatus::Completed, Some(conclusion));
    assert_eq!(
        found,
        [
            (StepStatus::Running, None),
            (StepStatus::Pending, None),
            over(Conclusion::Success),
            over(Conclusion::Failure),
            over(Conclusion::Cancelled),
            over(Conclusion::Skipped),
            (StepStatus::Pending, None),
        ]
    );
}

#[test]
fn an_update_that_was_overtaken_changes_nothing() {
    let (mut progress, mut steps) = (Progress::default(), Vec::new());
    progress.update(&mut steps, &update(7, vec![sent(BUILD, 2, 6, 2)])).unwrap();
    let before = steps.clone();
    progress.update(&mut steps, &update(6, vec![sent(BUILD, 2, 3, 0)])).unwrap();
    assert_eq!(steps, before);
    // The other step of a late update is news.
    progress.update(&mut steps, &update(6, vec![sent(SETUP, 1, 6, 2)])).unwrap();
    assert_eq!(steps.iter().map(|step| step.number).collect::<Vec<_>>(), [1, 2], "sorted by number");
    // A restart forgets the orders, but not that the step has ended.
    Progress::default().update(&mut steps, &update(3, vec![sent(BUILD, 2, 3, 0)])).unwrap();
    assert_eq!((steps[1].status, steps[1].conclusion), (StepStatus::Completed, Some(Conclusion::Success)));
}

#[test]
fn a_log_that_comes_before_its_step_is_known_gets_its_name_later() {
    let (mut progress, mut steps) = (Progress::default(), Vec::new());
    progress.update(&mut steps, &update(1, vec![sent(SETUP, 1, 6, 2)])).unwrap();
    extend_log(&mut steps, SETUP, 0, 10).unwrap();
    extend_log(&mut steps, BUILD, 10, 5).unwrap();
    assert_eq!((steps[1].number, steps[1].status, steps[1].log_start), (2, StepStatus::Running, Some(10)));
    progress.update(&mut steps, &update(2, vec![sent(BUILD, 4, 6, 3)])).unwrap();
    assert_eq!((steps[1].number, steps[1].name.as_str()), (4, "step 4"));
    assert_eq!((steps[1].log_start, steps[1].log_end), (Some(10), Some(15)));
}

#[test]
fn a_block_that_was_noted_and_never_came_leaves_no_gap() {
    let mut steps = Vec::new();
    extend_log(&mut steps, SETUP, 0, 10).unwrap();
    // The block was lost in a crash, and the next step wrote at the same place.
    extend_log(&mut steps, BUILD, 0, 4).unwrap();
    assert_eq!((steps[0].log_end, steps[1].log_start, steps[1].log_end), (Some(0), Some(0), Some(4)));
}

#[test]
fn summaries_of_children_go_to_the_running_step_in_the_order_of_arrival() {
    let (mut progress, mut steps) = (Progress::default(), Vec::new());
    progress.update(&mut steps, &update(1, vec![sent(SETUP, 1, 6, 2), sent(BUILD, 2, 3, 0)])).unwrap();
    let child = |number: u128| Uuid::from_u128(100 + number);
    progress.summarize(&mut steps, child(1), "# one", false, false).unwrap();
    progress.summarize(&mut steps, child(2), "# two", false, false).unwrap();
    progress.summarize(&mut steps, child(2), "# two", false, false).unwrap();
    assert_eq!(steps[1].summary.as_deref(), Some("# one\n# two"), "a repeat adds nothing");
    progress.summarize(&mut steps, BUILD, "# own", false, true).unwrap();
    assert_eq!(steps[1].summary.as_deref(), Some("# own"));
    assert_eq!(steps.len(), 2, "a child is no step");
}

#[test]
fn a_summary_has_a_limit_and_so_have_all_of_a_job() {
    let (mut progress, mut steps) = (Progress::default(), Vec::new());
    let whole = "x".repeat(SUMMARY_LIMIT);
    for number in 0..4 {
        progress.summarize(&mut steps, Uuid::from_u128(number), &whole, false, true).unwrap();
    }
    assert!(progress.summarize(&mut steps, Uuid::from_u128(0), "x", true, true).is_ok(), "as a repeat of its end");
    assert!(progress.summarize(&mut steps, Uuid::from_u128(0), "y", true, true).is_err(), "too much for a step");
    assert!(progress.summarize(&mut steps, Uuid::from_u128(9), "y", false, true).is_err(), "too much for a job");
    progress.summarize(&mut steps, Uuid::from_u128(0), &whole, false, true).unwrap();
}
