//! The addresses that are handed out. They come from the configuration, never from a request.

use uuid::Uuid;

/// Path of the broker's base. It has a segment, or `config.sh` fails when it makes the service's name
/// (actions/runner `ConfigurationStore.cs`, `RepoOrOrgName`).
pub(super) const SERVER: &str = "/_runner/";
/// Path of the run service's base.
pub(super) const RUN_SERVICE: &str = "/_run/";
/// Path of the token endpoint.
pub(super) const TOKEN: &str = "/_runner/oauth/token";

/// Path of a job's live console.
pub(super) const FEED: &str = "/_feed/{job}";

/// Addresses by what they are for.
#[derive(Clone, Debug)]
pub(crate) struct Urls {
    root: String,
}

impl Urls {
    /// `root` is the service's public URL, without a slash at its end.
    pub(crate) fn new(root: &str) -> Self {
        Self { root: root.trim_end_matches('/').to_owned() }
    }

    /// The service itself.
    pub(crate) fn root(&self) -> &str {
        &self.root
    }

    /// The broker's base, which ends with a slash: clients resolve names relative to it.
    pub(crate) fn server(&self) -> String {
        self.at(SERVER)
    }

    /// The run service's base, which ends with a slash.
    pub(crate) fn run_service(&self) -> String {
        self.at(RUN_SERVICE)
    }

    /// The results service: its origin is where Twirp is spoken (actions/toolkit `artifact-twirp-client.ts`).
    pub(crate) fn results(&self) -> String {
        self.at("/")
    }

    /// The older cache service. Clients put their paths behind it as text, so it ends with a slash.
    pub(crate) fn cache(&self) -> String {
        self.at("/_cache/")
    }

    /// Where actions of the oldest kind look for their services; there is nothing.
    pub(crate) fn pipelines(&self) -> String {
        self.at("/_pipelines/")
    }

    /// Where a job gets its id tokens. Clients append `&audience=…`, so there is a query.
    pub(crate) fn id_token(&self, job: Uuid) -> String {
        format!("{}/_oidc/token?job={job}&v=1", self.root)
    }

    /// Where the live console of a job is. With `ws` or `wss`, or the worker stays silent without a word (actions/runner
    /// `ResultsServer.cs`).
    pub(super) fn feed(&self, job: Uuid) -> String {
        let root = self.root.strip_prefix("http").map_or_else(|| self.root.clone(), |rest| format!("ws{rest}"));
        format!("{root}{}", FEED.replace("{job}", &job.to_string()))
    }

    /// Where listener tokens come from.
    pub(crate) fn token(&self) -> String {
        self.at(TOKEN)
    }

    fn at(&self, path: &str) -> String {
        [&*self.root, path].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases_end_with_a_slash_and_keep_the_port() {
        let urls = Urls::new("https://ci.example.com:8443/");
        assert_eq!(urls.server(), "https://ci.example.com:8443/_runner/");
        assert_eq!(urls.run_service(), "https://ci.example.com:8443/_run/");
        assert_eq!(urls.results(), "https://ci.example.com:8443/");
        assert_eq!(urls.cache(), "https://ci.example.com:8443/_cache/");
        assert!(urls.id_token(Uuid::nil()).contains('?'), "an audience is appended with `&`");
    }

    #[test]
    fn bases_keep_the_path_of_the_service() {
        assert_eq!(Urls::new("http://ci.local:7070/a/b").server(), "http://ci.local:7070/a/b/_runner/");
    }

    #[test]
    fn the_live_console_speaks_websocket() {
        let feed = |root| Urls::new(root).feed(Uuid::nil());
        assert_eq!(feed("https://ci.example.com"), format!("wss://ci.example.com/_feed/{}", Uuid::nil()));
        assert_eq!(feed("http://ci.local:7070"), format!("ws://ci.local:7070/_feed/{}", Uuid::nil()));
    }
}
