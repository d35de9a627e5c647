use startline_protocol::ids::{JobId, RunId};
use startline_protocol::state::{ClaimState, Conclusion};
use startline_store::{Error, NewClaim, NewJob};

use crate::bench::{Bench, at, new_claim, new_job, waiting_job, wanted};

pub(super) async fn a_claim_goes_to_the_end_of_its_line(bench: Bench) {
    let (first, _) = bench.run_of(vec![]).await;
    let (second, _) = bench.run_of(vec![]).await;
    let a = bench.add_claim(new_claim(first.id, "", "g")).await.unwrap();
    let other = bench.add_claim(new_claim(first.id, "call", "h")).await.unwrap();
    let b = bench.add_claim(new_claim(second.id, "", "g")).await.unwrap();
    assert_eq!((a.state, &a.reason, &a.claim), (ClaimState::Waiting, &None, &new_claim(first.id, "", "g")));
    assert_eq!(bench.claims_on("acme/demo\ng".to_owned()).await, Ok(vec![a.clone(), b.clone()]));
    assert_eq!(bench.claims_of(first.id).await, Ok(vec![a, other]));
    assert_eq!(bench.claims_of(second.id).await, Ok(vec![b]));
    let groups = ["acme/demo\ng", "acme/demo\nh"].map(str::to_owned).to_vec();
    assert_eq!(bench.claimed_groups().await, Ok(groups));
    assert_eq!(bench.claims_on("none".to_owned()).await, Ok(vec![]));
}

pub(super) async fn a_claim_that_is_repeated_keeps_its_place(bench: Bench) {
    let (run, _) = bench.run_of(vec![]).await;
    let first = bench.add_claim(new_claim(run.id, "", "g")).await.unwrap();
    let granted = bench.settle_claim(first.id, ClaimState::Granted, None).await.unwrap();
    let again = bench.add_claim(new_claim(run.id, "", "another")).await;
    assert_eq!(again.map(Some), Ok(granted));
    assert_eq!(bench.run(run.id).await.unwrap().unwrap().reason, None, "what is repeated changes nothing");
}

pub(super) async fn who_waits_is_told_why(bench: Bench) {
    let claim = Some(wanted("g"));
    let job = NewJob { claim: claim.clone(), ..waiting_job("a") };
    let (run, jobs) = bench.run_of(vec![job, new_job("b")]).await;
    assert_eq!(jobs[0].claim, claim);
    let why = |text: &str| Some(text.to_owned());
    for (place, job) in [("a[0]", &jobs[0]), ("b[0]", &jobs[1])] {
        let of_job = NewClaim { job: Some(job.id), ..new_claim(run.id, place, "g") };
        let added = bench.add_claim(of_job.clone()).await.unwrap();
        assert_eq!(added.claim, of_job);
        bench.settle_claim(added.id, ClaimState::Waiting, why("waits for g")).await.unwrap();
        bench.settle_claim(added.id, ClaimState::Displaced, why("displaced")).await.unwrap();
    }
    let jobs = bench.jobs_of_run(run.id).await.unwrap();
    let reasons: Vec<Option<&str>> = jobs.iter().map(|job| job.reason.as_deref()).collect();
    assert_eq!(reasons, [Some("waits for g"), None], "one that is queued does not wait");
    assert_eq!(jobs[0].claim, claim);
    let of_call = bench.add_claim(new_claim(run.id, "call", "g")).await.unwrap();
    bench.settle_claim(of_call.id, ClaimState::Waiting, why("not the run")).await.unwrap();
    assert_eq!(bench.run(run.id).await.unwrap().unwrap().reason, None);
    let own = bench.add_claim(new_claim(run.id, "", "g")).await.unwrap();
    for (state, told, expected) in [
        (ClaimState::Waiting, why("one"), why("one")),
        (ClaimState::Waiting, why("two"), why("two")),
        (ClaimState::Displaced, why("three"), why("two")),
        (ClaimState::Granted, why("four"), None),
    ] {
        bench.settle_claim(own.id, state, told).await.unwrap();
        assert_eq!(bench.run(run.id).await.unwrap().unwrap().reason, expected);
    }
}

pub(super) async fn a_claim_stands_as_was_said_last(bench: Bench) {
    let (run, _) = bench.run_of(vec![]).await;
    let claim = bench.add_claim(new_claim(run.id, "", "g")).await.unwrap();
    let because = Some("run 7 wants it".to_owned());
    for (state, reason) in [(ClaimState::Granted, None), (ClaimState::Overtaken, because.clone())] {
        let settled = bench.settle_claim(claim.id, state, reason.clone()).await.unwrap().unwrap();
        assert_eq!((settled.state, settled.reason), (state, reason));
    }
    let found = bench.claims_of(run.id).await.unwrap();
    assert_eq!((found[0].state, &found[0].reason), (ClaimState::Overtaken, &because));
    assert_eq!(bench.settle_claim(404, ClaimState::Granted, None).await, Ok(None));
}

pub(super) async fn a_claim_is_removed_once_and_its_id_is_not_used_again(bench: Bench) {
    let (run, _) = bench.run_of(vec![]).await;
    let claim = bench.add_claim(new_claim(run.id, "", "g")).await.unwrap();
    assert_eq!(bench.remove_claim(claim.id).await, Ok(true));
    assert_eq!(bench.remove_claim(claim.id).await, Ok(false));
    assert_eq!(bench.claimed_groups().await, Ok(vec![]));
    let again = bench.add_claim(new_claim(run.id, "", "g")).await.unwrap();
    assert!(again.id > claim.id);
}

pub(super) async fn a_conclusion_takes_a_runs_claims_out(bench: Bench) {
    let (run, _) = bench.run_of(vec![]).await;
    let (other, _) = bench.run_of(vec![]).await;
    for (run, place) in [(run.id, ""), (run.id, "call"), (other.id, "")] {
        bench.add_claim(new_claim(run, place, "g")).await.unwrap();
    }
    let reason = Some("replaced".to_owned());
    assert_eq!(bench.finish_run(run.id, Conclusion::Cancelled, reason.clone(), at(40)).await, Ok(true));
    assert_eq!(bench.run(run.id).await.unwrap().unwrap().reason, reason);
    assert_eq!(bench.claims_of(run.id).await, Ok(vec![]));
    assert_eq!(bench.claims_on("acme/demo\ng".to_owned()).await.unwrap().len(), 1);
    let late = bench.add_claim(new_claim(run.id, "", "g")).await;
    assert_eq!(late, Err(Error::NoRun(run.id)));
}

pub(super) async fn a_claim_needs_its_run_and_job(bench: Bench) {
    let (run, _) = bench.run_of(vec![]).await;
    let none = bench.add_claim(new_claim(RunId(404), "", "g")).await;
    assert_eq!(none, Err(Error::NoRun(RunId(404))));
    let of_job = NewClaim { job: Some(JobId(404)), ..new_claim(run.id, "a[0]", "g") };
    assert_eq!(bench.add_claim(of_job).await, Err(Error::NoJob(JobId(404))));
    assert_eq!(bench.claimed_groups().await, Ok(vec![]));
}
