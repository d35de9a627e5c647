//! Steps from which something follows, although whoever asked may go away: a handler is dropped with its connection, at
//! any of its awaits, and what is stored must not wait for the next start to take effect.

use std::sync::Arc;

use startline_store::{Answer, Error};

use crate::App;

impl App {
    /// Awaits a step and does what must follow when it was done, also when the caller goes away meanwhile.
    pub(crate) async fn to_its_end<T: Send + 'static>(
        self: &Arc<Self>,
        step: Answer<T>,
        then: impl FnOnce(&Arc<Self>, &T) + Send + 'static,
    ) -> Result<T, Error> {
        let app = Arc::clone(self);
        let carried_out = self.tasks.spawn(async move {
            let done = step.await?;
            then(&app, &done);
            Ok(done)
        });
        // It is not aborted, and a panic in it was told of.
        carried_out.await.unwrap_or(Err(Error::Closed))
    }
}
