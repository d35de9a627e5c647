use startline_protocol::ids::{Epoch, RunId, RunnerId};
use startline_protocol::scope::Scope;
use startline_protocol::state::{Conclusion, JobStatus};
use startline_store::Error;

use crate::bench::{
    Bench, api_token, at, audit_entry, completion, hash, new_job, new_run, new_runner, registration_token,
};

pub(super) async fn a_step_is_done_when_its_future_is_dropped(bench: Bench) {
    let job = bench.queued().await;
    let runner = bench.some_runner().await;
    drop(bench.record_offer(job, Epoch(1), runner));
    // The next step of the same job comes behind it.
    assert!(bench.acquire(job, Epoch(1), runner, 1, at(20)).await.is_ok());
}

pub(super) async fn the_order_of_calls_is_the_order_of_effects(bench: Bench) {
    let job = bench.queued().await;
    let runner = bench.some_runner().await;
    let offer = bench.record_offer(job, Epoch(1), runner);
    let acquisition = bench.acquire(job, Epoch(1), runner, 1, at(20));
    let completion = bench.complete(job, Epoch(1), completion(Conclusion::Success), at(30));
    assert!(completion.await.is_ok());
    assert!(acquisition.await.is_ok());
    assert!(offer.await.is_ok());
    assert_eq!(bench.see(job).await.status, JobStatus::Completed);
}

pub(super) async fn steps_before_close_are_done(bench: Bench) {
    let steps: Vec<_> = (0..200).map(|_| bench.create_run(new_run("a/b", "x"), vec![new_job("build")])).collect();
    let read = bench.runs(None, 1);
    let closed = bench.close();
    for step in steps {
        assert!(step.await.is_ok());
    }
    assert!(read.await.is_ok());
    assert_eq!(closed.await, Ok(()));
}

pub(super) async fn a_closed_store_says_so(bench: Bench) {
    let job = bench.queued().await;
    let run = bench.see(job).await.run_id;
    let runner = RunnerId(1);
    bench.close().await.unwrap();
    macro_rules! assert_closed {
        ($($call:expr),+ $(,)?) => { $(assert_eq!($call.await.err(), Some(Error::Closed), stringify!($call));)+ };
    }
    let (instance, name) = (|| Scope::Instance, || "default".to_owned());
    assert_closed!(
        bench.create_api_token(api_token(1)),
        bench.api_token(hash(1)),
        bench.has_api_tokens(),
        bench.create_registration_token(registration_token(1)),
        bench.registration_token(hash(1)),
        bench.tokens(),
        bench.revoke_api_token(1, at(1)),
        bench.revoke_registration_token(1, at(1)),
        bench.purge_tokens(at(1)),
        bench.register_runner(hash(1), new_runner("one", 10), at(1)),
        bench.renew_runner_token(runner, hash(2), at(2), at(1)),
        bench.runner_by_token(hash(2), at(1)),
        bench.update_capabilities(runner, Default::default()),
        bench.touch_runners(vec![(runner, at(1))]),
        bench.delete_runner(runner, at(1)),
        bench.runner(runner),
        bench.runners(),
        bench.expired_ephemeral_runners(at(1)),
        bench.stale_runners(at(1)),
        bench.put_group(instance(), name(), Default::default()),
        bench.groups(),
        bench.group(instance(), name()),
        bench.delete_group(instance(), name(), at(1)),
        bench.put_secret(instance().into(), name(), vec![], at(1)),
        bench.delete_secret(instance().into(), name()),
        bench.secrets(instance().into()),
        bench.sealed_secrets(vec![]),
        bench.put_variable(instance().into(), name(), name(), at(1)),
        bench.delete_variable(instance().into(), name()),
        bench.variables(vec![]),
        bench.append_audit(audit_entry(1)),
        bench.audit(0, 1, Default::default()),
        bench.verify_audit(),
        bench.create_run(new_run("a/b", "x"), vec![]),
        bench.rename_run(run, name()),
        bench.add_jobs(run, vec![]),
        bench.release_job(job, at(1)),
        bench.record_offer(job, Epoch(1), runner),
        bench.acquire(job, Epoch(1), runner, 1, at(1)),
        bench.requeue(job, Epoch(1), 1, 1, String::new(), at(25)),
        bench.update_steps(job, Epoch(1), vec![]),
        bench.complete(job, Epoch(1), completion(Conclusion::Success), at(1)),
        bench.conclude(job, Epoch(1), Conclusion::Success, String::new(), at(1)),
        bench.request_job_cancel(job, String::new()),
        bench.request_run_cancel(run),
        bench.finish_run(run, Conclusion::Success, None, at(1)),
        bench.run(run),
        bench.runs(None, 1),
        bench.jobs_of_run(run),
        bench.job(job),
        bench.jobs(None, None, 1),
        bench.job_message(job),
        bench.unfinished(RunId(0), 1),
        bench.close(),
    );
}
