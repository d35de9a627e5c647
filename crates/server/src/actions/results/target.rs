//! What an address for uploads is good for: one thing of one job, for as long as its assignment stands, for an hour.

use jiff::{SignedDuration, Timestamp};
use startline_crypto::job_token::Claims;
use startline_crypto::{UrlAccess, UrlError, UrlKey};
use startline_protocol::ids::{Epoch, JobId, RunId};
use uuid::Uuid;

use crate::actions::urls::Urls;

/// Where uploads go. The job's numbers stand in the query, signed as everything else.
pub(super) const ROUTE: &str = "/_results/{job}/{kind}/{step}";

/// A worker asks for an address before each block.
const LIFE: SignedDuration = SignedDuration::from_hours(1);

/// What is uploaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    StepLog,
    StepSummary,
    JobLog,
    DiagLog,
}

impl Kind {
    const ALL: [Self; 4] = [Self::StepLog, Self::StepSummary, Self::JobLog, Self::DiagLog];

    const fn segment(self) -> &'static str {
        match self {
            Self::StepLog => "step-log",
            Self::StepSummary => "step-summary",
            Self::JobLog => "job-log",
            Self::DiagLog => "diag-log",
        }
    }
}

/// One thing of one assignment of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub kind: Kind,
    pub guid: Uuid,
    pub step: Uuid,
    pub job: JobId,
    pub run: RunId,
    pub attempt: u32,
    pub epoch: Epoch,
}

impl Target {
    pub(super) const fn new(claims: &Claims, kind: Kind, step: Uuid) -> Self {
        Self {
            kind,
            guid: claims.job_guid,
            step,
            job: claims.job,
            run: claims.run,
            attempt: claims.attempt,
            epoch: claims.epoch,
        }
    }

    /// Path and the part of the query that says whose it is.
    fn text(&self) -> String {
        let Self { kind, guid, step, job, run, attempt, epoch } = self;
        format!("/_results/{guid}/{}/{step}?of={job}.{run}.{attempt}.{epoch}", kind.segment())
    }

    /// Its address. Workers glue `&comp=…` to it, so it has a query.
    pub(super) fn sign(&self, urls: &Urls, key: &UrlKey, now: Timestamp) -> String {
        let text = self.text();
        let query = key.sign(UrlAccess::Write, &text, now + LIFE);
        format!("{}{text}&{query}", urls.root())
    }

    /// What the address of a request is good for.
    pub(super) fn verify(
        (guid, kind, step): (Uuid, &str, Uuid),
        query: &[(String, String)],
        key: &UrlKey,
        now: Timestamp,
    ) -> Result<Self, UrlError> {
        let missing = UrlError::Parameter { parameter: "of" };
        let kind = Kind::ALL.into_iter().find(|known| known.segment() == kind).ok_or(UrlError::Signature)?;
        let of = query.iter().find(|(name, _)| name == "of").map(|(_, value)| value.as_str());
        let parse = |of: &str| -> Option<(i64, i64, u32, i64)> {
            let mut parts = of.split('.');
            let found = (
                parts.next()?.parse().ok()?,
                parts.next()?.parse().ok()?,
                parts.next()?.parse().ok()?,
                parts.next()?.parse().ok()?,
            );
            parts.next().is_none().then_some(found)
        };
        let (job, run, attempt, epoch) = of.and_then(parse).ok_or(missing)?;
        let target = Self { kind, guid, step, job: JobId(job), run: RunId(run), attempt, epoch: Epoch(epoch) };
        key.verify(UrlAccess::Write, &target.text(), query.iter().map(|(name, value)| (name, value)), now)?;
        Ok(target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(kind: Kind) -> Target {
        let (guid, step) = (Uuid::from_u128(1), Uuid::from_u128(2));
        Target { kind, guid, step, job: JobId(7), run: RunId(3), attempt: 1, epoch: Epoch(4) }
    }

    fn query(url: &str) -> Vec<(String, String)> {
        let pairs = url.split_once('?').unwrap().1.split('&');
        pairs.map(|pair| pair.split_once('=').unwrap()).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    }

    #[test]
    fn an_address_is_good_for_one_thing_of_one_assignment_for_an_hour() {
        let (key, now) = (UrlKey::generate(), Timestamp::from_second(1_800_000_000).unwrap());
        let made = target(Kind::StepLog);
        let url = made.sign(&Urls::new("http://ci.local:7070/"), &key, now);
        assert!(url.starts_with("http://ci.local:7070/_results/") && url.contains("?of=7.3.1.4&"), "{url}");
        let pairs = query(&url);
        let open = |guid, kind, step, pairs: &[(String, String)], later| {
            Target::verify((guid, kind, step), pairs, &key, now + SignedDuration::from_mins(later))
        };
        assert_eq!(open(made.guid, "step-log", made.step, &pairs, 59), Ok(made.clone()));
        assert_eq!(open(made.step, "step-log", made.step, &pairs, 0), Err(UrlError::Signature), "of another job");
        assert_eq!(open(made.guid, "step-summary", made.step, &pairs, 0), Err(UrlError::Signature), "of another kind");
        assert_eq!(open(made.guid, "step-log", made.guid, &pairs, 0), Err(UrlError::Signature), "of another step");
        assert!(matches!(open(made.guid, "step-log", made.step, &pairs, 60), Err(UrlError::Expired { .. })));
        let mut other = pairs.clone();
        "7.3.1.5".clone_into(&mut other[0].1);
        assert_eq!(
            open(made.guid, "step-log", made.step, &other, 0),
            Err(UrlError::Signature),
            "of a later assignment"
        );
        assert!(open(made.guid, "step-log", made.step, &pairs[1..], 0).is_err(), "of nobody");
    }
}
