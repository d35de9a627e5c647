//! Who may listen for a runner, and what is written to it again.

use super::*;

const RUNNER: RunnerId = RunnerId(7);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

/// A session whose last poll ended at the beginning of time.
fn with_session(owner: &str) -> (Sessions, Uuid) {
    let sessions = Sessions::default();
    let id = sessions.create(RUNNER, owner, at(0)).unwrap();
    (sessions, id)
}

#[test]
fn a_session_with_an_open_poll_is_never_taken_over() {
    let (sessions, id) = with_session("build-07 (PID: 1)");
    let clock = Clock::system();
    let listening = sessions.listen(RUNNER, id, &clock).unwrap();
    let refused = sessions.create(RUNNER, "build-07 (PID: 2)", at(9_999_999)).unwrap_err();
    assert_eq!(refused.owner, "build-07 (PID: 1)");
    drop(listening);
    assert!(sessions.create(RUNNER, "build-07 (PID: 2)", at(9_999_999)).is_ok());
}

#[test]
fn a_host_that_crashed_and_came_back_listens_at_once() {
    let (sessions, _) = with_session("build-07 (PID: 1)");
    assert!(sessions.create(RUNNER, "build-07 (PID: 2)", at(1)).is_ok());
}

#[test]
fn another_host_waits_until_the_session_is_silent() {
    let (sessions, _) = with_session("build-07 (PID: 1)");
    assert!(sessions.create(RUNNER, "other (PID: 1)", at(60)).is_err());
    assert!(sessions.create(RUNNER, "other (PID: 1)", at(90)).is_ok());
}

#[test]
fn an_unknown_session_is_adopted_after_a_restart() {
    let sessions = Sessions::default();
    let id = Uuid::new_v4();
    assert!(sessions.listen(RUNNER, id, &Clock::system()).is_ok());
    assert!(sessions.listen(RUNNER, id, &Clock::system()).is_ok());
}

#[test]
fn the_polls_of_a_replaced_session_end_and_it_does_not_come_back() {
    let clock = Clock::system();
    let (sessions, old) = with_session("build-07 (PID: 1)");
    let over = sessions.listen(RUNNER, old, &clock).unwrap().over.clone();
    let new = sessions.create(RUNNER, "build-07 (PID: 2)", clock.now()).unwrap();
    assert!(over.is_cancelled());
    let _listening = sessions.listen(RUNNER, new, &clock).unwrap();
    assert!(sessions.listen(RUNNER, old, &clock).is_err());
}

#[test]
fn a_late_delete_does_not_end_a_session_that_polls() {
    let clock = Clock::system();
    let (sessions, id) = with_session("build-07 (PID: 1)");
    let listening = sessions.listen(RUNNER, id, &clock).unwrap();
    sessions.delete(RUNNER);
    assert!(!listening.over.is_cancelled());
    drop(listening);
    sessions.delete(RUNNER);
    assert!(sessions.create(RUNNER, "other (PID: 1)", clock.now()).is_ok(), "it is gone");
}

#[test]
fn a_cancel_that_was_read_is_not_written_again_and_one_that_was_thrown_away_is() {
    let (sessions, _) = with_session("build-07 (PID: 1)");
    let (job, epoch) = (JobId(1), Epoch(1));
    assert!(sessions.must_tell(RUNNER, job, epoch, Status::Busy));
    sessions.told(RUNNER, job, epoch, Status::Busy);
    assert!(sessions.must_tell(RUNNER, job, epoch, Status::Online), "the Busy poll was thrown away");
    sessions.told(RUNNER, job, epoch, Status::Online);
    assert!(!sessions.must_tell(RUNNER, job, epoch, Status::Online), "asked again in the same way: it was read");
    assert!(!sessions.must_tell(RUNNER, job, epoch, Status::Busy));
    assert!(sessions.must_tell(RUNNER, job, Epoch(2), Status::Busy), "another assignment");
}

#[test]
fn message_ids_only_grow() {
    let sessions = Sessions::default();
    let ids: Vec<i64> = [at(5), at(5), at(0)].into_iter().map(|now| sessions.next_message(now)).collect();
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
}

#[test]
fn a_spent_runner_may_say_goodbye_for_a_minute() {
    let sessions = Sessions::default();
    sessions.spent(RUNNER, at(0));
    assert!(sessions.is_leaving(RUNNER, at(59)));
    assert!(!sessions.is_leaving(RUNNER, at(61)));
}
