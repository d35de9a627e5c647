//! Cache entries.

use jiff::Timestamp;

use super::State;
use crate::record::{CacheRecord, NewCache, kept, kept_size, newest_lapsed_reservation};

/// Repository, git ref, trust, version, key.
type Place<'a> = (&'a str, &'a str, bool, &'a str, &'a str);

fn place(cache: &NewCache) -> Place<'_> {
    (&cache.repository, &cache.scope, cache.trusted, &cache.version, &cache.key)
}

impl State {
    pub(super) fn cache_at(&self, at: Place<'_>) -> Option<&CacheRecord> {
        self.caches.values().find(|known| place(&known.cache) == at)
    }

    pub(super) fn reserve_cache(&mut self, cache: NewCache) -> Option<CacheRecord> {
        let known = self.cache_at(place(&cache));
        let lapsed = newest_lapsed_reservation(cache.created_at);
        match known.map(|known| (known.id, known.is_final || known.cache.created_at > lapsed)) {
            Some((_, true)) => return None,
            Some((id, false)) => drop(self.caches.remove(&id)),
            None => {}
        }
        self.last_cache += 1;
        let record = cache.into_record(self.last_cache);
        self.caches.insert(record.id, record.clone());
        Some(record)
    }

    pub(super) fn commit_cache(&mut self, id: i64, size: u64, now: Timestamp) -> Option<CacheRecord> {
        let known = self.caches.get_mut(&id)?;
        if known.is_final {
            return (known.size == kept_size(size)).then(|| known.clone());
        }
        (known.size, known.is_final) = (kept_size(size), true);
        known.last_used_at = known.last_used_at.max(kept(now));
        Some(known.clone())
    }

    pub(super) fn find_cache(
        &mut self,
        repository: &str,
        lookup: &[(String, bool)],
        version: &str,
        key: &str,
        restore_keys: &[String],
        now: Timestamp,
    ) -> Option<CacheRecord> {
        let found = lookup.iter().find_map(|(scope, trusted)| {
            let fitting = || {
                self.caches.values().filter(|known| {
                    let cache = &known.cache;
                    let is_there = (cache.repository.as_str(), &cache.scope, cache.trusted);
                    known.is_final && is_there == (repository, scope, *trusted) && cache.version == version
                })
            };
            let newest = |prefix: &String| {
                let beginning = fitting().filter(|known| known.cache.key.starts_with(prefix.as_str()));
                beginning.max_by_key(|known| (known.cache.created_at, known.id))
            };
            let exact = fitting().find(|known| known.cache.key == key);
            exact.or_else(|| restore_keys.iter().find_map(newest)).map(|known| known.id)
        });
        let known = self.caches.get_mut(&found?)?;
        known.last_used_at = known.last_used_at.max(kept(now));
        Some(known.clone())
    }

    pub(super) fn caches(&self, repository: &str, prefix: &str, limit: u32) -> Vec<CacheRecord> {
        let own = self.caches.values().filter(|known| known.is_final && known.cache.repository == repository);
        let mut listed: Vec<_> = own.filter(|known| known.cache.key.starts_with(prefix)).cloned().collect();
        listed.sort_by_key(|known| std::cmp::Reverse((known.cache.created_at, known.id)));
        listed.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        listed
    }

    pub(super) fn cache_usage(&self, repository: &str) -> u64 {
        self.caches.values().filter(|known| known.cache.repository == repository).map(|known| known.size).sum()
    }

    pub(super) fn evict_caches(&mut self, repository: &str, keep: u64, limit: u32) -> Vec<CacheRecord> {
        let own = self.caches.values().filter(|known| known.is_final && known.cache.repository == repository);
        let mut least_used_first: Vec<_> = own.cloned().collect();
        least_used_first.sort_by_key(|known| (known.last_used_at, known.id));
        least_used_first.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let mut evicted = Vec::new();
        for cache in least_used_first {
            if self.cache_usage(repository) <= keep {
                break;
            }
            self.caches.remove(&cache.id);
            evicted.push(cache);
        }
        evicted
    }

    pub(super) fn stale_caches(&self, unused_since: Timestamp, limit: u32) -> Vec<CacheRecord> {
        let unused = self.caches.values().filter(|known| known.last_used_at < kept(unused_since));
        let mut stale: Vec<_> = unused.cloned().collect();
        stale.sort_by_key(|known| (known.last_used_at, known.id));
        stale.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        stale
    }
}
