use std::collections::BTreeMap;

use jiff::SignedDuration;
use startline_protocol::admin_api::AuditView;
use startline_protocol::ids::Epoch;
use startline_protocol::state::Conclusion;
use startline_store::{AuditFilter, AuditRecord, CompleteOutcome, CreatedRun, NewAudit, Note, TakenJob};

use crate::bench::{Bench, at, audit_entry, completion, new_job, new_run, scope, sha256};

impl Bench {
    async fn append(&self, actor: &str, action: &str, of: &str) -> AuditRecord {
        let entry = NewAudit { actor: actor.to_owned(), action: action.to_owned(), scope: scope(of), ..audit_entry(0) };
        self.append_audit(entry).await.unwrap()
    }

    /// The places of the lines that a filter admits.
    async fn places(&self, filter: AuditFilter) -> Vec<i64> {
        let page = self.audit(0, 100, filter).await.unwrap();
        assert!(!page.more);
        page.items.into_iter().map(|line| line.sequence).collect()
    }
}

pub(super) async fn an_empty_audit_log_holds(bench: Bench) {
    let found = bench.verify_audit().await.unwrap();
    assert_eq!((found.valid, found.records, found.broken, found.head), (true, 0, None, None));
    assert_eq!(bench.audit(0, 10, AuditFilter::default()).await.unwrap().items, []);
}

pub(super) async fn a_line_of_the_audit_log_keeps_what_happened(bench: Bench) {
    let entry = NewAudit {
        at: at(1) + SignedDuration::from_nanos(123_456_789),
        scope: scope("repository:acme/demo"),
        request_id: Some("r-1".to_owned()),
        address: Some("10.0.0.1".to_owned()),
        details: BTreeMap::from([("labels".to_owned(), "a,b \"c\"".to_owned())]),
        ..audit_entry(1)
    };
    let line = bench.append_audit(entry.clone()).await.unwrap();
    let kept = NewAudit { at: at(1) + SignedDuration::from_micros(123_456), ..entry };
    assert_eq!((line.sequence, &line.entry), (1, &kept));
    assert_eq!(bench.audit(0, 10, AuditFilter::default()).await.unwrap().items, [line]);
}

/// Computed by the program in the documentation of [`AuditRecord`].
pub(super) async fn the_chain_is_the_documented_one(bench: Bench) {
    let first = NewAudit {
        at: at(3200) + SignedDuration::from_micros(123_456),
        actor: "service".to_owned(),
        action: "token.create".to_owned(),
        subject: "api_token:1".to_owned(),
        outcome: "success".to_owned(),
        scope: scope("instance"),
        request_id: None,
        address: None,
        details: BTreeMap::new(),
    };
    let second = NewAudit {
        at: at(3201),
        actor: "api_token:1 (admin)".to_owned(),
        action: "runner.register".to_owned(),
        subject: "runner:7".to_owned(),
        outcome: "refused: \"x\"\\\u{1}\u{7f}\n\u{fc}\u{1f600}\u{2028}".to_owned(),
        scope: scope("repository:acme/demo"),
        request_id: Some("r-1".to_owned()),
        address: Some("::1".to_owned()),
        details: [("b", "2"), ("a", "1"), ("B", "</>")].map(|(name, fact)| (name.to_owned(), fact.to_owned())).into(),
    };
    let mut hashes = Vec::new();
    for entry in [first, second] {
        hashes.push(AuditView::from(bench.append_audit(entry).await.unwrap()).hash);
    }
    assert_eq!(hashes[0], "35bd86117b750201fd4b2e218bfa36afffa88252ba2277472af00088f3728bcd");
    assert_eq!(hashes[1], "9c7d0a3757bfd0084c2e729cb15787f567083d41651f2380406ff4c1232994a9");
}

pub(super) async fn an_exported_log_verifies_from_its_json_alone(bench: Bench) {
    for number in 0..20 {
        bench.append_audit(audit_entry(number)).await.unwrap();
    }
    let exported: Vec<String> = bench
        .audit(0, 100, AuditFilter::default())
        .await
        .unwrap()
        .items
        .into_iter()
        .map(|line| serde_json::to_string(&AuditView::from(line)).unwrap())
        .collect();
    let mut previous = [0; 32];
    for line in &exported {
        let mut members: BTreeMap<String, serde_json::Value> = serde_json::from_str(line).unwrap();
        let claimed = members.remove("hash").unwrap();
        let bytes = [previous.to_vec(), serde_json::to_vec(&members).unwrap()].concat();
        previous = sha256(&bytes);
        let hash: String = previous.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(claimed, hash, "{line}");
    }
    assert_eq!(exported.len(), 20);
}

pub(super) async fn the_audit_log_holds_and_names_its_head(bench: Bench) {
    let mut last = None;
    for number in 0..10 {
        last = Some(bench.append_audit(audit_entry(number)).await.unwrap());
        let found = bench.verify_audit().await.unwrap();
        assert_eq!((found.valid, found.records, found.broken), (true, i64::from(number) + 1, None));
        assert_eq!(found.head, last.clone().map(|line| AuditView::from(line).hash));
    }
    assert_eq!(last.unwrap().sequence, 10);
}

pub(super) async fn many_lines_at_once_make_one_chain(bench: Bench) {
    let answers: Vec<_> = (0..300).map(|number| bench.append_audit(audit_entry(number))).collect();
    for (number, answer) in (1..).zip(answers) {
        assert_eq!(answer.await.unwrap().sequence, number);
    }
    let found = bench.verify_audit().await.unwrap();
    assert_eq!((found.valid, found.records), (true, 300));
}

pub(super) async fn equal_lines_have_different_hashes(bench: Bench) {
    let one = bench.append_audit(audit_entry(1)).await.unwrap();
    let two = bench.append_audit(audit_entry(1)).await.unwrap();
    assert_eq!(one.entry, two.entry);
    assert_ne!(one.hash, two.hash);
}

pub(super) async fn the_audit_log_is_listed_in_pages(bench: Bench) {
    let mut lines = Vec::new();
    for number in 0..5 {
        lines.push(bench.append_audit(audit_entry(number)).await.unwrap());
    }
    let page = |after, limit| bench.audit(after, limit, AuditFilter::default());
    let first = page(0, 2).await.unwrap();
    assert_eq!((first.items.as_slice(), first.more), (&lines[..2], true));
    let second = page(2, 3).await.unwrap();
    assert_eq!((second.items.as_slice(), second.more), (&lines[2..], false));
    assert_eq!(page(5, 3).await.unwrap().items, []);
    let none = page(0, 0).await.unwrap();
    assert_eq!((none.items.len(), none.more), (0, true));
}

pub(super) async fn a_filtered_log_is_listed_in_pages(bench: Bench) {
    for number in 0..6 {
        bench.append(if number % 2 == 0 { "runner:1" } else { "runner:2" }, "x", "instance").await;
    }
    let filter = AuditFilter { actor: Some("runner:1".to_owned()), ..AuditFilter::default() };
    let first = bench.audit(0, 2, filter.clone()).await.unwrap();
    assert_eq!((first.items.iter().map(|line| line.sequence).collect::<Vec<_>>(), first.more), (vec![1, 3], true));
    let second = bench.audit(3, 2, filter).await.unwrap();
    assert_eq!((second.items.iter().map(|line| line.sequence).collect::<Vec<_>>(), second.more), (vec![5], false));
}

pub(super) async fn the_audit_log_is_filtered_by_the_beginning_of_the_action(bench: Bench) {
    for action in ["runner.register", "runner.delete", "run.submit", "x.runner."] {
        bench.append("service", action, "instance").await;
    }
    let by = |action: &str| AuditFilter { action: Some(action.to_owned()), ..AuditFilter::default() };
    assert_eq!(bench.places(by("runner.")).await, [1, 2]);
    assert_eq!(bench.places(by("run")).await, [1, 2, 3]);
    assert_eq!(bench.places(by("runner.delete")).await, [2]);
    assert!(bench.places(by("RUNNER")).await.is_empty());
    assert!(bench.places(by("run%")).await.is_empty(), "no patterns");
    assert_eq!(bench.places(by("")).await, [1, 2, 3, 4]);
}

pub(super) async fn the_audit_log_is_filtered_by_actor_with_or_without_name(bench: Bench) {
    for actor in ["api_token:3 (admin)", "api_token:3", "api_token:31 (x)", "api_token:3 (größe)", "api_token:3 x"] {
        bench.append(actor, "x", "instance").await;
    }
    let by = |actor: &str| AuditFilter { actor: Some(actor.to_owned()), ..AuditFilter::default() };
    assert_eq!(bench.places(by("api_token:3")).await, [1, 2, 4]);
    assert_eq!(bench.places(by("api_token:3 (größe)")).await, [4]);
    assert!(bench.places(by("api_token:")).await.is_empty());
}

pub(super) async fn the_audit_log_is_filtered_by_what_a_scope_covers(bench: Bench) {
    let scopes = [
        "instance",
        "organization:acme",
        "repository:acme/demo",
        "repository:acme/other",
        "organization:acme-b",
        "repository:acme-b/demo",
        "repository:acme.b/demo",
        "repository:acme0/demo",
        "organization:acm",
    ];
    for of in scopes {
        bench.append("service", "x", of).await;
    }
    let by = |of: &str| AuditFilter { scope: Some(scope(of)), ..AuditFilter::default() };
    assert_eq!(bench.places(by("instance")).await.len(), scopes.len());
    assert_eq!(bench.places(by("organization:acme")).await, [2, 3, 4]);
    assert_eq!(bench.places(by("repository:acme/demo")).await, [3]);
    assert_eq!(bench.places(by("organization:acme-b")).await, [5, 6]);
    assert!(bench.places(by("organization:other")).await.is_empty());
}

pub(super) async fn filters_are_combined(bench: Bench) {
    bench.append("runner:1", "job.start", "organization:acme").await;
    bench.append("runner:1", "job.start", "organization:other").await;
    bench.append("runner:1", "run.start", "organization:acme").await;
    bench.append("runner:2", "job.start", "organization:acme").await;
    let filter = AuditFilter {
        action: Some("job".to_owned()),
        actor: Some("runner:1".to_owned()),
        scope: Some(scope("organization:acme")),
    };
    assert_eq!(bench.places(filter).await, [1]);
}

pub(super) async fn a_step_writes_the_line_that_it_is_given_with_what_it_did(bench: Bench) {
    let line = |number: u32, subject: String| NewAudit { subject, ..audit_entry(number) };
    let created = Note::new(move |created: &CreatedRun| Some(line(1, format!("run:{}", created.run.id))));
    let CreatedRun { run, jobs, .. } =
        bench.create_run_noted(new_run("a/b", "x"), vec![new_job("build")], created).await.unwrap();
    let (job, runner) = (jobs[0].id, bench.some_runner().await);
    let taken = Note::new(move |taken: &TakenJob| Some(line(2, format!("{} {}", taken.job.status, taken.message))));
    let taken = bench.acquire_noted(job, Epoch(1), runner, 1, at(20), taken).await.unwrap();
    assert_eq!((taken.run.id, Some(&taken.message)), (run.id, bench.job_message(job).await.unwrap().as_ref()));
    let ended = |number: u32| {
        Note::new(move |outcome: &CompleteOutcome| {
            matches!(outcome, CompleteOutcome::Completed { .. }).then(|| audit_entry(number))
        })
    };
    let done = || completion(Conclusion::Success);
    // A refused step writes nothing, and neither does one whose note makes no line.
    assert!(bench.complete_noted(job, Epoch(9), done(), at(30), ended(3)).await.is_err());
    bench.complete_noted(job, Epoch(1), done(), at(30), ended(4)).await.unwrap();
    bench.complete_noted(job, Epoch(1), done(), at(30), ended(5)).await.unwrap();
    let lines = bench.audit(0, 10, AuditFilter::default()).await.unwrap().items;
    let message = taken.message;
    let wanted = [line(1, format!("run:{}", run.id)), line(2, format!("running {message}")), audit_entry(4)];
    assert_eq!(lines.into_iter().map(|line| line.entry).collect::<Vec<_>>(), wanted);
    assert!(bench.verify_audit().await.unwrap().valid);
}
