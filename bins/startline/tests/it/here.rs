//! A service in this process, over a real socket, by a clock that the test turns.

use std::time::Duration;

use jiff::Timestamp;
use startline_daemon::{Clock, Hand};
use startline_server::ServerConfig;

use crate::harness::Service;

/// The service and its clock's hand.
pub(crate) struct Here {
    pub service: Service,
    pub hand: Hand,
    /// Its own, so that it is ended as a whole. `None` while it is dropped.
    runtime: Option<tokio::runtime::Runtime>,
}

impl Here {
    /// Starts one with these settings besides its place.
    pub(crate) async fn start(settings: impl FnOnce(&mut ServerConfig)) -> Self {
        startline_crypto::install_provider();
        let data = tempfile::tempdir().unwrap();
        let mut config = ServerConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            data_dir: data.path().join("data"),
            ..ServerConfig::defaults()
        };
        settings(&mut config);
        let (clock, hand) = Clock::by_hand(Timestamp::now());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let running = runtime.spawn(async move { startline_server::start_by(clock, config, false).await });
        let running = running.await.unwrap().unwrap();
        let token = running.admin_token().unwrap().expose().to_owned();
        let service = Service::elsewhere(data, running.url(), &token);
        Self { service, hand, runtime: Some(runtime) }
    }

    pub(crate) fn turn(&self, seconds: u64) {
        self.hand.turn(Duration::from_secs(seconds));
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
