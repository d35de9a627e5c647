//! Who a job is, in claims.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};
use startline_crypto::IdTokenKey;
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::problem::{ApiError, ApiResult};

/// How long a token lives: it is exchanged at once.
const LIFE: SignedDuration = SignedDuration::from_mins(10);
/// How far a verifier's clock may be behind ours.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_secs(60);

/// Members of the `github` context that are claims of the same name.
const FROM_CONTEXT: [&str; 19] = [
    "ref",
    "ref_type",
    "sha",
    "repository",
    "repository_id",
    "repository_owner",
    "repository_owner_id",
    "repository_visibility",
    "run_id",
    "run_number",
    "run_attempt",
    "actor",
    "actor_id",
    "workflow",
    "workflow_ref",
    "workflow_sha",
    "head_ref",
    "base_ref",
    "event_name",
];
/// Claims that are made here.
const OWN: [&str; 10] =
    ["iss", "sub", "aud", "iat", "nbf", "exp", "jti", "job_workflow_ref", "job_workflow_sha", "runner_environment"];
/// The claim of jobs that have an environment, and of no others.
const ENVIRONMENT: &str = "environment";

/// What the administrator says of claims.
#[derive(Clone, Debug, Default)]
pub(crate) struct IdentityRules {
    /// Instead of GitHub's `sub`.
    pub subject: Option<String>,
    /// Further claims.
    pub extra: BTreeMap<String, String>,
}

impl FromStr for IdentityRules {
    type Err = String;

    /// Reads `name=value,…`. The name `sub` is the subject; no other claim that is made here can be set. Values may have
    /// `{claim}` in them.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut rules = Self::default();
        for pair in text.split(',').filter(|pair| !pair.trim().is_empty()) {
            let (name, value) = pair.split_once('=').ok_or_else(|| format!("`{pair}` is not `name=value`"))?;
            let (name, value) = (name.trim(), value.trim().to_owned());
            for claim in placeholders(&value)? {
                if !FROM_CONTEXT.contains(&claim)
                    && !["job_workflow_ref", "job_workflow_sha", ENVIRONMENT].contains(&claim)
                {
                    return Err(format!("`{{{claim}}}` in `{name}` is not a claim that can be put there"));
                }
            }
            let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            match name {
                "sub" => rules.subject = Some(value),
                _ if OWN.contains(&name) || FROM_CONTEXT.contains(&name) || name == ENVIRONMENT => {
                    return Err(format!("the claim `{name}` cannot be set"));
                }
                _ if is_name => drop(rules.extra.insert(name.to_owned(), value)),
                _ => return Err(format!("`{name}` cannot be the name of a claim")),
            }
        }
        Ok(rules)
    }
}

/// The names in braces.
fn placeholders(template: &str) -> Result<Vec<&str>, String> {
    let mut rest = template;
    let mut names = Vec::new();
    while let Some((_, behind)) = rest.split_once('{') {
        let (name, behind) =
            behind.split_once('}').ok_or_else(|| format!("`{template}` has a brace without an end"))?;
        names.push(name);
        rest = behind;
    }
    Ok(names)
}

/// The issuer.
#[derive(Debug)]
pub(crate) struct Identity {
    issuer: String,
    rules: IdentityRules,
    path: PathBuf,
    /// Made or read when it is first needed, because making one takes a while and most services need none.
    key: OnceCell<IdTokenKey>,
}

impl Identity {
    /// An issuer of this URL, whose keys are in the file `path`.
    pub(crate) fn new(issuer: &str, path: PathBuf, rules: IdentityRules) -> Self {
        Self { issuer: issuer.trim_end_matches('/').to_owned(), rules, path, key: OnceCell::new() }
    }

    async fn key(&self) -> ApiResult<&IdTokenKey> {
        let open = || async {
            let path = self.path.clone();
            let opened = tokio::task::spawn_blocking(move || IdTokenKey::load_or_create(path)).await;
            opened.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
        };
        self.key.get_or_try_init(open).await.map_err(|error| {
            tracing::error!(error, "there is no key for id tokens");
            ApiError::unavailable("the key of id tokens cannot be used now")
        })
    }

    pub(super) async fn jwks(&self) -> ApiResult<Value> {
        Ok(self.key().await?.jwks())
    }

    /// Names of all claims that a token may have.
    pub(super) fn claims(&self) -> Vec<&str> {
        OWN.into_iter()
            .chain(FROM_CONTEXT)
            .chain([ENVIRONMENT])
            .chain(self.rules.extra.keys().map(String::as_str))
            .collect()
    }

    /// A token for the job of a run with this `github` context.
    pub(super) async fn mint(&self, github: &Value, audience: Option<&str>, now: Timestamp) -> ApiResult<String> {
        let key = self.key().await?;
        Ok(key.mint(&claims(&self.issuer, &self.rules, github, audience, now)))
    }
}

fn claims(
    issuer: &str,
    rules: &IdentityRules,
    github: &Value,
    audience: Option<&str>,
    now: Timestamp,
) -> Map<String, Value> {
    let text = |name: &str| github[name].as_str().unwrap_or_default().to_owned();
    let mut claims: Map<String, Value> =
        FROM_CONTEXT.iter().map(|name| ((*name).to_owned(), text(name).into())).collect();
    // Those of the file that the job is in, where another one called that.
    for (claim, of_run) in [("job_workflow_ref", "workflow_ref"), ("job_workflow_sha", "workflow_sha")] {
        let of_job = github[claim].as_str().map_or_else(|| text(of_run), str::to_owned);
        claims.insert(claim.to_owned(), of_job.into());
    }
    claims.insert("runner_environment".to_owned(), "self-hosted".into());
    let environment = text(ENVIRONMENT);
    if !environment.is_empty() {
        claims.insert(ENVIRONMENT.to_owned(), environment.as_str().into());
    }
    let repository = text("repository");
    let subject = match &rules.subject {
        Some(template) => fill(template, &claims),
        None if !environment.is_empty() => format!("repo:{repository}:environment:{}", escaped(&environment)),
        None if text("event_name").starts_with("pull_request") => format!("repo:{repository}:pull_request"),
        None => format!("repo:{repository}:ref:{}", text("ref")),
    };
    for (name, template) in &rules.extra {
        let value = fill(template, &claims);
        claims.insert(name.clone(), value.into());
    }
    let owner = format!("{issuer}/{}", text("repository_owner"));
    let second = |time: Timestamp| Value::from(time.as_second());
    let later = |by| second(now.saturating_add(by).unwrap_or(now));
    claims.insert("iss".to_owned(), issuer.into());
    claims.insert("sub".to_owned(), subject.into());
    claims.insert("aud".to_owned(), audience.map_or(owner, str::to_owned).into());
    claims.insert("iat".to_owned(), second(now));
    claims.insert("nbf".to_owned(), later(-CLOCK_SKEW));
    claims.insert("exp".to_owned(), later(LIFE));
    claims.insert("jti".to_owned(), Uuid::new_v4().to_string().into());
    claims
}

/// Puts claims in the place of their names. A colon in what is put there is escaped, as on GitHub, so that nobody can make
/// one part of a subject look like two.
fn fill(template: &str, claims: &Map<String, Value>) -> String {
    let mut filled = String::new();
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once('{') {
        filled.push_str(before);
        let (name, behind) = behind.split_once('}').unwrap_or((behind, ""));
        let value = claims.get(name).and_then(Value::as_str).unwrap_or_default();
        filled.push_str(&escaped(value));
        rest = behind;
    }
    filled + rest
}

fn escaped(value: &str) -> String {
    value.replace(':', "%3A")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn made(rules: &str, over: Value) -> Map<String, Value> {
        let mut github = json!({
            "repository": "acme/demo", "repository_owner": "acme", "ref": "refs/heads/main", "sha": "00ff",
            "event_name": "push", "workflow_ref": "acme/demo/.github/workflows/w.yml@refs/heads/main", "actor": "a:b",
        });
        for (name, value) in over.as_object().unwrap() {
            github[name] = value.clone();
        }
        let now = Timestamp::from_second(1_000_000).unwrap();
        claims("https://ci.test", &rules.parse().unwrap(), &github, None, now)
    }

    #[test]
    fn a_token_says_what_github_says() {
        let claims = made("", json!({}));
        assert_eq!(claims["iss"], "https://ci.test");
        assert_eq!(claims["sub"], "repo:acme/demo:ref:refs/heads/main");
        assert_eq!(claims["aud"], "https://ci.test/acme", "the owner's URL when none is asked for");
        assert_eq!(claims["job_workflow_ref"], "acme/demo/.github/workflows/w.yml@refs/heads/main");
        assert_eq!(
            (&claims["iat"], &claims["nbf"], &claims["exp"]),
            (&json!(1_000_000), &json!(999_940), &json!(1_000_600))
        );
        for name in OWN.into_iter().chain(FROM_CONTEXT) {
            assert!(claims.contains_key(name), "{name}");
        }
        let claims = made("", json!({"job_workflow_ref": "acme/ci/x.yml@v1"}));
        assert_eq!(claims["job_workflow_ref"], "acme/ci/x.yml@v1", "the file that was called");
        assert_eq!(claims["workflow_ref"], "acme/demo/.github/workflows/w.yml@refs/heads/main");
        let claims = made("", json!({"event_name": "pull_request_target"}));
        assert_eq!(claims["sub"], "repo:acme/demo:pull_request");
    }

    #[test]
    fn a_job_with_an_environment_is_known_by_it() {
        let claims = made("", json!({"environment": "prod", "event_name": "pull_request"}));
        assert_eq!(
            (&claims["sub"], &claims["environment"]),
            (&json!("repo:acme/demo:environment:prod"), &json!("prod"))
        );
        let claims = made("", json!({"environment": "prod:ref:refs/heads/main"}));
        assert_eq!(claims["sub"], "repo:acme/demo:environment:prod%3Aref%3Arefs/heads/main", "a name adds no part");
        assert!(!made("", json!({})).contains_key("environment"));
        let claims = made("sub=env:{environment}", json!({"environment": "prod"}));
        assert_eq!(claims["sub"], "env:prod");
    }

    #[test]
    fn the_administrator_makes_the_subject_and_further_claims() {
        let claims = made("sub=org:{repository_owner}:by:{actor}, tier=gold, where={job_workflow_ref}", json!({}));
        assert_eq!(claims["sub"], "org:acme:by:a%3Ab", "what is put in cannot add a part");
        assert_eq!((&claims["tier"], &claims["where"]), (&json!("gold"), &claims["job_workflow_ref"]));
    }

    #[test]
    fn rules_that_would_forge_a_claim_or_name_none_are_refused() {
        for bad in ["x", "=y", "aud=x", "repository=x", "a b=x", "environment=x", "a={iss}", "a={b", "a={nothing}"] {
            assert!(bad.parse::<IdentityRules>().is_err(), "{bad}");
        }
    }
}
