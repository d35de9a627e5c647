//! What was read of secrets and variables, as long as nothing is set: jobs of a repository ask for the same again and
//! again, and most find nothing. Secrets stay sealed here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use startline_protocol::value_scope::ValueScope;
use startline_store::{Answer, Error, SealedSecret, Store, VariableRecord};

/// Most readings of either kind that are kept.
const MOST: usize = 1024;
/// A reading with more bytes of values is made again each time.
const LARGEST: usize = 16 * 1024;

/// Readings, by the scopes that were asked for.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// How often something was set or deleted.
    changes: u64,
    sealed: Readings<SealedSecret>,
    variables: Readings<VariableRecord>,
}

type Readings<T> = HashMap<Vec<ValueScope>, Arc<[T]>>;

impl Cache {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As the store's.
    pub(crate) async fn sealed(&self, store: &dyn Store, of: Vec<ValueScope>) -> Result<Arc<[SealedSecret]>, Error> {
        let read = |of| store.sealed_secrets(of);
        self.reading(|inner| &mut inner.sealed, of, read, |secret| secret.sealed.len()).await
    }

    /// As the store's.
    pub(crate) async fn variables(
        &self,
        store: &dyn Store,
        of: Vec<ValueScope>,
    ) -> Result<Arc<[VariableRecord]>, Error> {
        let read = |of| store.variables(of);
        self.reading(|inner| &mut inner.variables, of, read, |variable| variable.value.len()).await
    }

    async fn reading<T>(
        &self,
        kind: impl Fn(&mut Inner) -> &mut Readings<T>,
        of: Vec<ValueScope>,
        read: impl FnOnce(Vec<ValueScope>) -> Answer<Vec<T>>,
        bytes: impl Fn(&T) -> usize,
    ) -> Result<Arc<[T]>, Error> {
        let (known, changes) = {
            let mut inner = self.lock();
            (kind(&mut inner).get(&of).cloned(), inner.changes)
        };
        if let Some(known) = known {
            return Ok(known);
        }
        let read: Arc<[T]> = read(of.clone()).await?.into();
        let mut inner = self.lock();
        if inner.changes == changes && read.iter().map(bytes).sum::<usize>() <= LARGEST {
            let readings = kind(&mut inner);
            if readings.len() >= MOST {
                readings.clear();
            }
            readings.insert(of, Arc::clone(&read));
        }
        Ok(read)
    }

    /// Forgets everything, because something may have been set or deleted. A reading that is under way is not kept.
    pub(super) fn changed(&self) {
        let mut inner = self.lock();
        *inner = Inner { changes: inner.changes + 1, ..Inner::default() };
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use startline_protocol::scope::Scope;
    use startline_store::memory::Memory;

    use super::*;

    async fn set(store: &Memory, value: &str) {
        let scope = ValueScope::Scope(Scope::Instance);
        store.put_variable(scope, "A".to_owned(), value.to_owned(), Timestamp::UNIX_EPOCH).await.unwrap();
    }

    async fn value(cache: &Cache, store: &Memory) -> Option<usize> {
        let found = cache.variables(store, vec![ValueScope::Scope(Scope::Instance)]).await.unwrap();
        found.first().map(|found| found.value.len())
    }

    #[tokio::test]
    async fn what_was_read_is_believed_until_something_changes() {
        let (cache, store) = (Cache::default(), Memory::new(|_| [0; 32]));
        assert_eq!(value(&cache, &store).await, None);
        set(&store, "x").await;
        assert_eq!(value(&cache, &store).await, None, "nobody has said that it changed");
        cache.changed();
        assert_eq!(value(&cache, &store).await, Some(1));
    }

    #[tokio::test]
    async fn a_reading_that_a_change_overtakes_is_not_kept() {
        let (cache, store) = (Cache::default(), Memory::new(|_| [0; 32]));
        let of = vec![ValueScope::Scope(Scope::Instance)];
        let read = |of| {
            let before = store.variables(of);
            cache.changed();
            before
        };
        let found = cache.reading(|inner| &mut inner.variables, of, read, |_| 0).await.unwrap();
        assert!(found.is_empty());
        set(&store, "x").await;
        assert_eq!(value(&cache, &store).await, Some(1), "it is read again");
    }

    #[tokio::test]
    async fn large_values_are_read_each_time() {
        let (cache, store) = (Cache::default(), Memory::new(|_| [0; 32]));
        set(&store, &"x".repeat(LARGEST + 1)).await;
        assert_eq!(value(&cache, &store).await, Some(LARGEST + 1));
        set(&store, "x").await;
        assert_eq!(value(&cache, &store).await, Some(1));
    }
}
