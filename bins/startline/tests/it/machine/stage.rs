//! A service in this process, over a real socket, that can be crashed: what follows sees what was on disk at that
//! moment, and nothing that the old process may still do.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use startline_client::{ApiClient, Credentials, JobClient, Options, Retry, RunnerClient, RunnerSession, Transport};
use startline_daemon::Clock;
use startline_protocol::runner_api::JobUrls;
use startline_protocol::token::{ApiToken, JobToken};
use startline_server::{ServerConfig, Synchronous};

use super::model::Times;

/// The service and its clients.
pub(super) struct Stage {
    place: tempfile::TempDir,
    generation: u32,
    clock: Clock,
    times: Times,
    runtime: tokio::runtime::Runtime,
    transport: Transport,
    admin: ApiToken,
    pub(super) url: String,
    pub(super) people: ApiClient,
}

impl Stage {
    pub(super) async fn open(clock: Clock, times: Times) -> Self {
        startline_crypto::install_provider();
        let place = tempfile::tempdir().unwrap();
        let (runtime, url, admin) = boot(&directory(place.path(), 0), &clock, times).await;
        let admin = admin.unwrap();
        let transport = Transport::new(&Options::default()).unwrap();
        let people = people(&transport, &url, &admin);
        Self { place, generation: 0, clock, times, runtime, transport, admin, url, people }
    }

    /// Ends the service without a word, and starts it again from what was on disk when this was called.
    ///
    /// What was committed is there and nothing else; what the old process still does as it is taken apart (a guard that
    /// gives a job back, a queue that is written out) happens to files that nobody looks at any more.
    pub(super) async fn crash(&mut self) {
        let (old, new) = (directory(self.place.path(), self.generation), self.place.path());
        self.generation += 1;
        let new = directory(new, self.generation);
        snapshot(&old, &new);
        let (runtime, url, admin) = boot(&new, &self.clock, self.times).await;
        assert!(admin.is_none(), "the tokens are on disk");
        std::mem::replace(&mut self.runtime, runtime).shutdown_background();
        // Connections to the process before are of no use any more.
        self.transport = Transport::new(&Options::default()).unwrap();
        self.people = people(&self.transport, &url, &self.admin);
        self.url = url;
    }

    pub(super) fn close(self) {
        self.runtime.shutdown_background();
    }

    pub(super) fn admin(&self) -> &ApiToken {
        &self.admin
    }

    pub(super) fn registry(&self) -> RunnerClient {
        RunnerClient::new(self.transport.clone(), &self.url).unwrap().with_retry(Retry::NEVER)
    }

    pub(super) fn session(&self, credentials: &Credentials) -> RunnerSession {
        self.registry().session(credentials.clone())
    }

    pub(super) fn holder(&self, urls: &JobUrls, token: &JobToken) -> JobClient {
        JobClient::new(self.transport.clone(), self.here(urls), token.clone()).with_retry(Retry::NEVER)
    }

    /// The addresses at the process that runs now.
    pub(super) fn here(&self, urls: &JobUrls) -> JobUrls {
        let here = |url: &String| {
            let path = url.find("/api/v1").map(|at| &url[at..]).unwrap();
            format!("{}{path}", self.url)
        };
        JobUrls {
            acquire: here(&urls.acquire),
            renew: here(&urls.renew),
            status: here(&urls.status),
            logs: here(&urls.logs),
            complete: here(&urls.complete),
        }
    }
}

fn people(transport: &Transport, url: &str, admin: &ApiToken) -> ApiClient {
    ApiClient::new(transport.clone(), url, admin.clone()).unwrap().with_retry(Retry::NEVER)
}

fn directory(place: &Path, generation: u32) -> PathBuf {
    place.join(generation.to_string())
}

/// A runtime of its own for each process, so that it can be ended as a whole.
async fn boot(data: &Path, clock: &Clock, times: Times) -> (tokio::runtime::Runtime, String, Option<ApiToken>) {
    let seconds = |seconds: i64| format!("{seconds}s").parse().unwrap();
    let config = ServerConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        data_dir: data.to_owned(),
        synchronous: Synchronous::Normal,
        offer_window: seconds(times.offer),
        lease: seconds(times.lease),
        offline_after: seconds(times.offline),
        heartbeat_interval: seconds(1),
        requeues: times.requeues,
        // Told by another timer than this test's.
        housekeeping_interval: seconds(86_400),
        ..ServerConfig::defaults()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let clock = clock.clone();
    let running = runtime.spawn(async move { startline_server::start_by(clock, config, false).await });
    let running = running.await.unwrap().unwrap();
    let (url, admin) = (running.url().to_owned(), running.admin_token().cloned());
    (runtime, url, admin)
}

fn snapshot(old: &Path, new: &Path) {
    fs::DirBuilder::new().mode(0o700).create(new).unwrap();
    let database = rusqlite::Connection::open(old.join("startline.db")).unwrap();
    database.busy_timeout(crate::harness::DEADLINE).unwrap();
    let copy = new.join("startline.db");
    database.execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o600)).unwrap();
    copy_files(old, new, &|name| !name.starts_with("startline.db"));
}

fn copy_files(old: &Path, new: &Path, wanted: &dyn Fn(&str) -> bool) {
    for entry in fs::read_dir(old).unwrap().map(Result::unwrap) {
        let target = new.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy_files(&entry.path(), &target, wanted);
        } else if wanted(entry.file_name().to_str().unwrap()) {
            // A file that was only there for a moment.
            drop(fs::copy(entry.path(), target));
        }
    }
}
