use startline_protocol::ids::RunId;
use startline_store::{ArtifactRecord, Error, NewArtifact};

use crate::bench::{Bench, artifact, at, new_cache};

const DAY: i64 = 24 * 3600;

impl Bench {
    async fn artifact_of(&self, run: i64, name: &str) -> ArtifactRecord {
        let new = NewArtifact { run: RunId(run), ..artifact(name) };
        self.create_artifact(new).await.unwrap().artifact
    }

    /// A final artifact of this size.
    async fn final_artifact(&self, run: i64, name: &str, size: u64) -> ArtifactRecord {
        self.artifact_of(run, name).await;
        self.finalize_artifact(RunId(run), name.to_owned(), size, None).await.unwrap().unwrap()
    }

    async fn expired_names(&self, now: i64, limit: u32) -> Vec<String> {
        let expired = self.expired_artifacts(at(now), limit).await.unwrap();
        expired.into_iter().map(|known| known.artifact.name).collect()
    }
}

pub(super) async fn an_artifact_begins_unfinished(bench: Bench) {
    let created = bench.create_artifact(artifact("dist")).await.unwrap();
    assert_eq!((&created.artifact.artifact, created.replaced), (&artifact("dist"), None));
    let record = created.artifact;
    assert_eq!((record.size, &record.digest, record.is_final), (0, &None, false));
    assert_eq!(bench.artifacts_of_run(record.artifact.run).await, Ok(vec![]));
    let named = |run, name: &str| bench.artifact_named(RunId(run), name.to_owned());
    assert_eq!(named(1, "dist").await, Ok(Some(record.clone())));
    assert_eq!((named(1, "Dist").await, named(2, "dist").await), (Ok(None), Ok(None)));
    assert_eq!(bench.artifact(record.id).await, Ok(Some(record)));
    assert_eq!(bench.artifact(404).await, Ok(None));
}

pub(super) async fn an_artifact_is_made_final_with_size_and_digest(bench: Bench) {
    let begun = bench.artifact_of(1, "dist").await;
    let digest = Some("sha256:00ff".to_owned());
    let done = bench.finalize_artifact(RunId(1), "dist".to_owned(), 1 << 40, digest.clone()).await.unwrap().unwrap();
    assert_eq!(done, ArtifactRecord { size: 1 << 40, digest, is_final: true, ..begun });
    assert_eq!(bench.artifact(done.id).await, Ok(Some(done.clone())));
    assert_eq!(bench.artifacts_of_run(RunId(1)).await, Ok(vec![done]));
}

pub(super) async fn finality_is_repeated_only_with_the_same_values(bench: Bench) {
    let done = bench.final_artifact(1, "dist", 7).await;
    let finalize = |size, digest: Option<&str>| {
        bench.finalize_artifact(RunId(1), "dist".to_owned(), size, digest.map(str::to_owned))
    };
    assert_eq!(finalize(7, None).await, Ok(Some(done.clone())));
    let exists = Err(Error::ArtifactExists("dist".to_owned()));
    assert_eq!(finalize(8, None).await, exists);
    assert_eq!(finalize(7, Some("sha256:00")).await, exists);
    assert_eq!(bench.artifact(done.id).await, Ok(Some(done)));
}

pub(super) async fn an_unknown_artifact_is_not_made_final(bench: Bench) {
    bench.artifact_of(1, "dist").await;
    assert_eq!(bench.finalize_artifact(RunId(1), "Dist".to_owned(), 7, None).await, Ok(None));
    assert_eq!(bench.finalize_artifact(RunId(2), "dist".to_owned(), 7, None).await, Ok(None));
}

pub(super) async fn a_final_artifact_keeps_its_name(bench: Bench) {
    let done = bench.final_artifact(1, "dist", 7).await;
    let again = bench.create_artifact(NewArtifact { run: RunId(1), ..artifact("dist") }).await;
    assert_eq!(again, Err(Error::ArtifactExists("dist".to_owned())));
    assert_eq!(bench.artifacts_of_run(RunId(1)).await, Ok(vec![done]));
    bench.artifact_of(2, "dist").await;
}

pub(super) async fn an_unfinished_artifact_gives_its_name_up(bench: Bench) {
    let first = bench.artifact_of(1, "dist").await;
    let new = NewArtifact { run: RunId(1), blob: "another".to_owned(), ..artifact("dist") };
    let created = bench.create_artifact(new).await.unwrap();
    assert_eq!(created.replaced, Some(first.clone()));
    assert!(created.artifact.id > first.id);
    assert_eq!(bench.artifact(first.id).await, Ok(None));
    let done = bench.finalize_artifact(RunId(1), "dist".to_owned(), 7, None).await.unwrap().unwrap();
    assert_eq!((done.id, done.artifact.blob.as_str()), (created.artifact.id, "another"));
}

pub(super) async fn the_artifacts_of_a_run_are_listed_newest_first(bench: Bench) {
    let ant = bench.final_artifact(1, "ant", 1).await;
    let zebra = bench.final_artifact(1, "zebra", 2).await;
    let mole = bench.final_artifact(1, "mole", 3).await;
    bench.artifact_of(1, "unfinished").await;
    bench.final_artifact(2, "other", 4).await;
    assert_eq!(bench.artifacts_of_run(RunId(1)).await, Ok(vec![mole, zebra, ant]));
    assert_eq!(bench.artifacts_of_run(RunId(404)).await, Ok(vec![]));
}

pub(super) async fn an_artifact_is_deleted_once(bench: Bench) {
    let (one, two) = (bench.final_artifact(1, "one", 1).await, bench.artifact_of(1, "two").await);
    assert_eq!(bench.delete_artifact(RunId(1), "one".to_owned()).await, Ok(Some(one)));
    assert_eq!(bench.delete_artifact(RunId(1), "one".to_owned()).await, Ok(None));
    assert_eq!(bench.delete_artifact_by_id(two.id).await, Ok(Some(two.clone())));
    assert_eq!(bench.delete_artifact_by_id(two.id).await, Ok(None));
    assert!(bench.artifact_of(1, "two").await.id > two.id, "ids are not used twice");
}

pub(super) async fn artifacts_expire(bench: Bench) {
    for (name, end) in [("long", 300), ("short", 100), ("middle", 200)] {
        let new = NewArtifact { expires_at: at(end), ..artifact(name) };
        let run = bench.create_artifact(new).await.unwrap().artifact.artifact.run;
        bench.finalize_artifact(run, name.to_owned(), 1, None).await.unwrap();
    }
    assert_eq!(bench.expired_names(99, 10).await, [""; 0]);
    assert_eq!(bench.expired_names(100, 10).await, ["short"]);
    assert_eq!(bench.expired_names(1000, 10).await, ["long", "short", "middle"]);
    assert_eq!(bench.expired_names(1000, 2).await, ["long", "short"]);
}

pub(super) async fn unfinished_artifacts_are_given_up_after_a_day(bench: Bench) {
    let new = |name| NewArtifact { created_at: at(0), expires_at: at(90 * DAY), ..artifact(name) };
    let run = bench.create_artifact(new("done")).await.unwrap().artifact.artifact.run;
    bench.finalize_artifact(run, "done".to_owned(), 1, None).await.unwrap();
    bench.create_artifact(new("unfinished")).await.unwrap();
    assert_eq!(bench.expired_names(DAY, 10).await, [""; 0]);
    assert_eq!(bench.expired_names(DAY + 1, 10).await, ["unfinished"]);
}

pub(super) async fn final_artifacts_use_space(bench: Bench) {
    bench.final_artifact(1, "one", 1 << 40).await;
    bench.final_artifact(2, "two", 7).await;
    bench.artifact_of(1, "unfinished").await;
    let other = NewArtifact { repository: "acme/other".to_owned(), ..artifact("other") };
    let run = bench.create_artifact(other).await.unwrap().artifact.artifact.run;
    bench.finalize_artifact(run, "other".to_owned(), 100, None).await.unwrap();
    assert_eq!(bench.artifact_usage("acme/demo".to_owned()).await, Ok((1 << 40) + 7));
    assert_eq!(bench.artifact_usage("acme/none".to_owned()).await, Ok(0));
}

pub(super) async fn blobs_in_use_are_told_from_others(bench: Bench) {
    let new = NewArtifact { blob: "a".to_owned(), ..artifact("dist") };
    let of_artifact = bench.create_artifact(new).await.unwrap().artifact;
    bench.reserve_cache(startline_store::NewCache { blob: "c".to_owned(), ..new_cache("key") }).await.unwrap();
    let asked = || ["b", "c", "a", "d"].map(str::to_owned).to_vec();
    assert_eq!(bench.referenced_blobs(asked()).await, Ok(vec!["c".to_owned(), "a".to_owned()]));
    bench.delete_artifact_by_id(of_artifact.id).await.unwrap();
    assert_eq!(bench.referenced_blobs(asked()).await, Ok(vec!["c".to_owned()]));
}
