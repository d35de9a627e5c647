use super::*;

const PATIENCE: SignedDuration = SignedDuration::from_mins(5);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn queue() -> Queue {
    Queue::new(at(0), PATIENCE)
}

fn who(id: i64) -> Who {
    Who { id: RunnerId(id), name: format!("r{id}") }
}

fn counted(queue: &Queue) -> Statistics {
    Statistics { total_assigned_jobs: queue.size(), total_running_jobs: queue.running(), ..Statistics::default() }
}

/// What a reader is told that has read all before; kinds by job.
fn told(queue: &mut Queue, id: i64) -> Vec<(i64, &'static str)> {
    let statistics = counted(queue);
    let message = queue.next(id - 1, id, statistics);
    let events = message.map(|message| message.events).unwrap_or_default();
    let kind = |event: &Event| match &event.what {
        What::Available => "available",
        What::Assigned { .. } => "assigned",
        What::Started { .. } => "started",
        What::Completed { result: Conclusion::Success, .. } => "succeeded",
        What::Completed { .. } => "canceled",
    };
    events.iter().map(|event| (event.job.0, kind(event))).collect()
}

#[test]
fn a_job_goes_its_way_and_is_counted_until_it_is_over() {
    let mut queue = queue();
    queue.assign(JobId(1), at(0));
    assert_eq!(told(&mut queue, 1), [(1, "assigned")]);
    queue.held(JobId(1), who(7), false, at(1));
    assert_eq!((queue.size(), queue.running(), queue.waiting().count()), (1, 0, 0), "offered");
    queue.held(JobId(1), who(7), true, at(2));
    queue.held(JobId(1), who(7), true, at(3));
    assert_eq!(told(&mut queue, 2), [(1, "started")], "once");
    assert!(!queue.over(JobId(1), at(4)), "how it ended is not known yet");
    assert_eq!((queue.size(), queue.running()), (1, 1));
    queue.ended(JobId(1), Conclusion::Success, at(5));
    assert_eq!(told(&mut queue, 3), [(1, "succeeded")]);
    assert_eq!(queue.size(), 0);
}

#[test]
fn an_assignment_never_disappears_without_a_word() {
    let mut queue = queue();
    for job in 1..=4 {
        queue.assign(JobId(job), at(0));
    }
    told(&mut queue, 1);
    queue.lost(JobId(1), at(1));
    assert!(queue.over(JobId(2), at(1)), "cancelled in the queue");
    assert_eq!(queue.shrink(1, at(1)), [JobId(4)], "the youngest goes first");
    queue.held(JobId(3), who(7), true, at(2));
    assert!(!queue.over(JobId(3), at(3)));
    assert_eq!(queue.tick(at(32)), [], "its conclusion is waited for");
    assert_eq!(queue.tick(at(33)), [JobId(3)]);
    let told = told(&mut queue, 2);
    assert_eq!(told, [(1, "canceled"), (2, "canceled"), (4, "canceled"), (3, "started"), (3, "canceled")]);
}

#[test]
fn a_job_that_is_not_started_is_assigned_three_times_and_then_rests() {
    let mut queue = queue();
    queue.assign(JobId(1), at(0));
    told(&mut queue, 1);
    assert_eq!(queue.next_tick(), Some(at(300)));
    assert_eq!(queue.tick(at(299)), []);
    assert_eq!(queue.tick(at(300)), []);
    assert_eq!(told(&mut queue, 2), [(1, "canceled"), (1, "assigned")], "the number of runners stays");
    assert_eq!(queue.waited(JobId(1)), Some((at(300), 2)));
    assert_eq!(queue.tick(at(600)), []);
    assert_eq!(queue.tick(at(900)), [JobId(1)]);
    assert_eq!(queue.size(), 0);
    assert_eq!(queue.rests(JobId(1)), Some(at(900 + 15 * 60)));
    assert_eq!(queue.tick(at(900 + 15 * 60)), []);
    assert_eq!(queue.rests(JobId(1)), None, "and may be assigned again");
}

#[test]
fn a_set_that_works_off_its_jobs_is_not_late_with_any() {
    let mut queue = queue();
    for job in 1..=20 {
        queue.assign(JobId(job), at(0));
    }
    // One runner, four minutes a job.
    for job in 1..=19 {
        let now = at(job * 240);
        assert_eq!(queue.tick(now), []);
        queue.held(JobId(job), who(job), true, now);
        queue.ended(JobId(job), Conclusion::Success, now);
    }
    assert_eq!(queue.waited(JobId(20)), Some((at(0), 1)), "still the first try");
}

#[test]
fn statistics_alone_are_told_when_they_have_changed_and_only_then() {
    let mut queue = queue();
    queue.begin(Statistics::default());
    assert!(queue.next(0, 1, Statistics::default()).is_none());
    let waiting = Statistics { total_available_jobs: 9, ..Statistics::default() };
    assert!(queue.next(0, 1, waiting).is_none(), "jobs that wait for others are no news");
    let registered = Statistics { total_registered_runners: 1, total_idle_runners: 1, ..waiting };
    let message = queue.next(0, 1, registered).unwrap();
    assert_eq!((message.id, message.events.len()), (1, 0));
    queue.acknowledge(1);
    assert!(queue.next(1, 2, registered).is_none());
}

#[test]
fn what_is_not_acknowledged_is_told_again_in_order_and_fifty_at_a_time() {
    let mut queue = queue();
    for job in 1..=70 {
        queue.assign(JobId(job), at(0));
    }
    let statistics = counted(&queue);
    let first = queue.next(0, 10, statistics).unwrap();
    assert_eq!((first.id, first.events.len()), (10, BATCH));
    assert_eq!(queue.next(0, 11, statistics).unwrap().id, 10, "to somebody who has read nothing");
    let second = queue.next(10, 11, statistics).unwrap();
    assert_eq!((second.id, second.events.len()), (11, 20));
    assert_eq!(queue.next(0, 12, statistics).unwrap().id, 10);
    queue.acknowledge(11);
    queue.acknowledge(11);
    assert!(queue.next(0, 12, statistics).is_none(), "an acknowledgement is of all before it");
}

#[test]
fn nothing_grows_without_bounds_when_nobody_reads() {
    let mut queue = queue();
    for job in 0..10_000 {
        queue.assign(JobId(job), at(0));
        queue.lost(JobId(job), at(0));
    }
    assert_eq!(queue.backlog.len(), BACKLOG);
    for id in 0..1000 {
        let statistics = Statistics { total_idle_runners: usize::try_from(id).unwrap(), ..Statistics::default() };
        queue.next(id, id + 1, statistics);
    }
    assert!(queue.unread.len() <= UNREAD);
}

#[test]
fn a_job_is_announced_once_a_session() {
    let mut queue = queue();
    queue.announce(JobId(1));
    queue.announce(JobId(1));
    assert_eq!(told(&mut queue, 1), [(1, "available")]);
    queue.begin(Statistics::default());
    queue.announce(JobId(1));
    assert_eq!(told(&mut queue, 2), [(1, "available")], "the listener before may have died with it");
    queue.assign(JobId(1), at(1));
    assert_eq!(told(&mut queue, 3), [(1, "assigned")]);
}

#[test]
fn a_job_whose_runner_was_lost_stays_with_the_set() {
    let mut queue = queue();
    queue.held(JobId(1), who(7), true, at(0));
    assert_eq!(told(&mut queue, 1), [(1, "assigned"), (1, "started")], "it need not have been assigned before");
    assert!(queue.waits(JobId(1), at(9)));
    assert!(!queue.waits(JobId(1), at(9)));
    assert_eq!(told(&mut queue, 2), [(1, "canceled"), (1, "assigned")]);
    assert_eq!((queue.size(), queue.running()), (1, 0));
}

#[test]
fn a_runner_that_is_lost_with_its_job_is_told_before_the_next_one_has_it() {
    let mut queue = queue();
    queue.held(JobId(1), who(7), true, at(1));
    queue.held(JobId(2), who(8), true, at(1));
    told(&mut queue, 1);
    assert!(queue.waits(JobId(1), at(2)), "it is queued again");
    assert_eq!(told(&mut queue, 2), [(1, "canceled"), (1, "assigned")]);
    queue.held(JobId(2), who(9), true, at(3));
    assert_eq!(told(&mut queue, 3), [(2, "canceled"), (2, "assigned"), (2, "started")], "handed on at once");
    assert_eq!((queue.size(), queue.running()), (2, 1));
}

#[test]
fn what_was_told_before_a_restart_is_not_told_again() {
    let mut before = queue();
    for job in 1..=3 {
        before.held(JobId(job), who(job), true, at(1));
    }
    before.ended(JobId(3), Conclusion::Success, at(2));
    let statistics = counted(&before);
    let (begun, over) = before.next(0, 1, statistics).unwrap().news(12);
    assert_eq!(begun.iter().map(|begun| begun.job.0).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(over, [JobId(3)]);
    let mut after = queue();
    for begun in begun {
        let by = Who { id: begun.runner, name: begun.runner_name };
        after.resume(begun.job, by, begun.assigned_at, begun.started_at);
    }
    after.held(JobId(1), who(1), true, at(9));
    after.ended(JobId(2), Conclusion::Success, at(9));
    assert_eq!((after.size(), after.running()), (1, 1));
    assert_eq!(told(&mut after, 2), [(2, "succeeded")]);
}
