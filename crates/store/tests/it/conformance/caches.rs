use startline_store::{CacheRecord, NewCache};

use crate::bench::{Bench, at, new_cache, texts};

const MAIN: &str = "refs/heads/main";
const TOPIC: &str = "refs/heads/topic";
const HOUR: i64 = 3600;

impl Bench {
    async fn reserved(&self, cache: NewCache) -> Option<CacheRecord> {
        self.reserve_cache(cache).await.unwrap()
    }

    /// A final entry that was made and used at this second.
    async fn cached(&self, cache: NewCache, second: i64, size: u64) -> CacheRecord {
        let record = self.reserved(NewCache { created_at: at(second), ..cache }).await.unwrap();
        self.commit_cache(record.id, size, at(second)).await.unwrap().unwrap()
    }

    /// The key that is found on the main branch.
    async fn hit(&self, key: &str, restore_keys: &[&str]) -> Option<String> {
        self.hit_in(&[(MAIN, true)], key, restore_keys).await.map(|found| found.cache.key)
    }

    async fn hit_in(&self, lookup: &[(&str, bool)], key: &str, restore_keys: &[&str]) -> Option<CacheRecord> {
        let lookup = lookup.iter().map(|(scope, trusted)| ((*scope).to_owned(), *trusted)).collect();
        let (repository, version, key) = ("acme/demo".to_owned(), "v1".to_owned(), key.to_owned());
        self.find_cache(repository, lookup, version, key, texts(restore_keys), at(0)).await.unwrap()
    }

    async fn keys(&self, prefix: &str, limit: u32) -> Vec<String> {
        let listed = self.caches("acme/demo".to_owned(), prefix.to_owned(), limit).await.unwrap();
        listed.into_iter().map(|known| known.cache.key).collect()
    }
}

fn keys_of(records: Vec<CacheRecord>) -> Vec<String> {
    records.into_iter().map(|known| known.cache.key).collect()
}

pub(super) async fn a_cache_entry_is_kept_as_reserved(bench: Bench) {
    let record = bench.reserved(new_cache("key")).await.unwrap();
    assert_eq!((&record.cache, record.size, record.is_final), (&new_cache("key"), 0, false));
    assert_eq!(record.last_used_at, new_cache("key").created_at);
    let at_place = |scope: &str, trusted, version: &str, key: &str| {
        bench.cache_at("acme/demo".to_owned(), scope.to_owned(), trusted, version.to_owned(), key.to_owned())
    };
    assert_eq!(at_place(MAIN, true, "v1", "key").await, Ok(Some(record.clone())));
    for (scope, trusted, version, key) in
        [(TOPIC, true, "v1", "key"), (MAIN, false, "v1", "key"), (MAIN, true, "v2", "key"), (MAIN, true, "v1", "ke")]
    {
        assert_eq!(at_place(scope, trusted, version, key).await, Ok(None));
    }
    assert_eq!(bench.cache(record.id).await, Ok(Some(record)));
    assert_eq!(bench.cache(404).await, Ok(None));
}

pub(super) async fn a_place_is_reserved_once_an_hour(bench: Bench) {
    let new = |second, blob: &str| NewCache { created_at: at(second), blob: blob.to_owned(), ..new_cache("key") };
    let first = bench.reserved(new(0, "first")).await.unwrap();
    assert_eq!(bench.reserved(new(0, "second")).await, None);
    assert_eq!(bench.reserved(new(HOUR - 1, "second")).await, None);
    let second = bench.reserved(new(HOUR, "second")).await.unwrap();
    assert!(second.id > first.id);
    assert_eq!(bench.cache(first.id).await, Ok(None));
    assert_eq!(bench.commit_cache(first.id, 7, at(HOUR)).await, Ok(None), "whoever came late has lost it");
    assert_eq!(bench.cache(second.id).await, Ok(Some(second)));
}

pub(super) async fn a_final_cache_entry_keeps_its_place(bench: Bench) {
    bench.cached(new_cache("key"), 0, 7).await;
    assert_eq!(bench.reserved(NewCache { created_at: at(9 * HOUR), ..new_cache("key") }).await, None);
    let elsewhere = [
        NewCache { repository: "acme/other".to_owned(), ..new_cache("key") },
        NewCache { scope: TOPIC.to_owned(), ..new_cache("key") },
        NewCache { trusted: false, ..new_cache("key") },
        NewCache { version: "v2".to_owned(), ..new_cache("key") },
        new_cache("Key"),
    ];
    for elsewhere in elsewhere {
        assert!(bench.reserved(elsewhere.clone()).await.is_some(), "{elsewhere:?}");
    }
}

pub(super) async fn a_cache_entry_is_committed_once(bench: Bench) {
    let begun = bench.reserved(new_cache("key")).await.unwrap();
    let done = bench.commit_cache(begun.id, 7, at(100)).await.unwrap().unwrap();
    assert_eq!(done, CacheRecord { size: 7, is_final: true, last_used_at: at(100), ..begun });
    assert_eq!(bench.commit_cache(done.id, 7, at(200)).await, Ok(Some(done.clone())));
    assert_eq!(bench.commit_cache(done.id, 8, at(200)).await, Ok(None));
    assert_eq!(bench.commit_cache(404, 8, at(200)).await, Ok(None));
    assert_eq!(bench.cache(done.id).await, Ok(Some(done)));
}

pub(super) async fn only_final_cache_entries_are_found(bench: Bench) {
    bench.reserved(new_cache("key-1")).await.unwrap();
    assert_eq!(bench.hit("key-1", &["key"]).await, None);
    bench.cached(new_cache("key-2"), 0, 7).await;
    assert_eq!(bench.hit("key-1", &["key"]).await.as_deref(), Some("key-2"));
}

pub(super) async fn an_exact_key_goes_before_a_newer_beginning(bench: Bench) {
    bench.cached(new_cache("key"), 0, 7).await;
    bench.cached(new_cache("key-2"), 50, 7).await;
    assert_eq!(bench.hit("key", &["key"]).await.as_deref(), Some("key"));
    assert_eq!(bench.hit("ke", &["key"]).await.as_deref(), Some("key-2"));
    assert_eq!(bench.hit("ke", &[]).await, None, "a key alone is no beginning");
}

pub(super) async fn the_newest_entry_that_begins_so_is_found(bench: Bench) {
    for (key, second) in [("linux-b", 30), ("linux-c", 20), ("linux-a", 30), ("lin", 40), ("linuy", 40)] {
        bench.cached(new_cache(key), second, 7).await;
    }
    assert_eq!(bench.hit("x", &["linux-"]).await.as_deref(), Some("linux-a"), "of two at once, the later one");
    assert_eq!(bench.hit("x", &["none", "linux-c", "linux-"]).await.as_deref(), Some("linux-c"), "keys in order");
    assert_eq!(bench.hit("x", &["linux-a-"]).await, None);
}

pub(super) async fn beginnings_are_literal(bench: Bench) {
    for key in ["a%b", "a_b", "axb", "a*b", "a[x]b", "A%c", "a\u{10ffff}b", "\u{e4}b"] {
        bench.cached(new_cache(key), 0, 7).await;
    }
    for (prefix, expected) in [
        ("a%", Some("a%b")),
        ("a_", Some("a_b")),
        ("a*", Some("a*b")),
        ("a[x", Some("a[x]b")),
        ("A", Some("A%c")),
        ("a\u{10ffff}", Some("a\u{10ffff}b")),
        ("\u{e4}", Some("\u{e4}b")),
        ("%", None),
        ("_", None),
        ("\u{10ffff}", None),
    ] {
        assert_eq!(bench.hit("none", &[prefix]).await.as_deref(), expected, "{prefix}");
    }
    assert_eq!(bench.keys("", 100).await.len(), 8, "everything begins with nothing");
}

pub(super) async fn a_cache_is_looked_for_in_the_order_of_the_refs(bench: Bench) {
    bench.cached(new_cache("key"), 50, 1).await;
    bench.cached(NewCache { scope: TOPIC.to_owned(), ..new_cache("key-topic") }, 0, 2).await;
    bench.cached(NewCache { trusted: false, ..new_cache("key") }, 60, 3).await;
    let size = async |lookup: &[(&str, bool)], restore_keys: &[&str]| {
        bench.hit_in(lookup, "key", restore_keys).await.map(|found| found.size)
    };
    assert_eq!(size(&[(TOPIC, true), (MAIN, true)], &["key"]).await, Some(2), "nearer goes before exact");
    assert_eq!(size(&[(TOPIC, true), (MAIN, true)], &[]).await, Some(1));
    assert_eq!(size(&[(MAIN, false), (MAIN, true)], &[]).await, Some(3));
    assert_eq!(size(&[(TOPIC, false)], &["key"]).await, None, "trust is part of the place");
    assert_eq!(size(&[], &["key"]).await, None);
}

pub(super) async fn a_cache_of_another_repository_or_version_is_not_found(bench: Bench) {
    bench.cached(NewCache { repository: "acme/other".to_owned(), ..new_cache("key") }, 0, 1).await;
    bench.cached(NewCache { version: "v2".to_owned(), ..new_cache("key") }, 0, 2).await;
    assert_eq!(bench.hit("key", &["key", ""]).await, None);
}

pub(super) async fn a_cache_that_is_found_counts_as_used(bench: Bench) {
    let made = bench.cached(new_cache("key"), 10, 7).await;
    let find = |second| {
        let lookup = vec![(MAIN.to_owned(), true)];
        bench.find_cache("acme/demo".to_owned(), lookup, "v1".to_owned(), "key".to_owned(), vec![], at(second))
    };
    let found = find(100).await.unwrap().unwrap();
    assert_eq!(found, CacheRecord { last_used_at: at(100), ..made });
    assert_eq!(find(50).await, Ok(Some(found.clone())), "the latest use is kept");
    assert_eq!(bench.cache(found.id).await, Ok(Some(found)));
}

pub(super) async fn caches_are_listed_newest_first(bench: Bench) {
    for (key, second) in [("a-1", 10), ("a-3", 30), ("a-2", 20), ("b", 40)] {
        bench.cached(new_cache(key), second, 7).await;
    }
    bench.reserved(new_cache("a-4")).await;
    bench.cached(NewCache { repository: "acme/other".to_owned(), ..new_cache("a-5") }, 50, 7).await;
    assert_eq!(bench.keys("a-", 10).await, ["a-3", "a-2", "a-1"]);
    assert_eq!(bench.keys("", 2).await, ["b", "a-3"]);
    assert_eq!(bench.keys("c", 2).await, [""; 0]);
}

pub(super) async fn the_least_recently_used_caches_are_evicted(bench: Bench) {
    for (key, second, size) in [("new", 40, 10), ("old", 10, 20), ("older", 5, 30), ("middle", 20, 40)] {
        bench.cached(new_cache(key), second, size).await;
    }
    bench.reserved(new_cache("reserved")).await;
    bench.cached(NewCache { repository: "acme/other".to_owned(), ..new_cache("other") }, 0, 1000).await;
    let evict = |keep, limit| bench.evict_caches("acme/demo".to_owned(), keep, limit);
    assert_eq!(bench.cache_usage("acme/demo".to_owned()).await, Ok(100));
    assert_eq!(evict(100, 10).await, Ok(vec![]));
    assert_eq!(keys_of(evict(0, 1).await.unwrap()), ["older"]);
    assert_eq!(keys_of(evict(50, 10).await.unwrap()), ["old"]);
    assert_eq!(bench.cache_usage("acme/demo".to_owned()).await, Ok(50));
    assert_eq!(keys_of(evict(0, 10).await.unwrap()), ["middle", "new"]);
    assert_eq!(bench.cache_usage("acme/other".to_owned()).await, Ok(1000));
}

pub(super) async fn caches_that_nobody_uses_are_stale(bench: Bench) {
    for (key, second) in [("late", 30), ("early", 10), ("middle", 20)] {
        bench.cached(new_cache(key), second, 7).await;
    }
    bench.reserved(NewCache { created_at: at(15), ..new_cache("reserved") }).await;
    let stale = async |before, limit| keys_of(bench.stale_caches(at(before), limit).await.unwrap());
    assert_eq!(stale(10, 10).await, [""; 0]);
    assert_eq!(stale(21, 10).await, ["early", "reserved", "middle"]);
    assert_eq!(stale(100, 2).await, ["early", "reserved"]);
    bench.hit("early", &[]).await;
    assert_eq!(stale(11, 10).await, ["early"], "an old look is no news");
}

pub(super) async fn a_cache_entry_is_deleted_once(bench: Bench) {
    let record = bench.cached(new_cache("key"), 0, 7).await;
    assert_eq!(bench.delete_cache(record.id).await, Ok(Some(record.clone())));
    assert_eq!(bench.delete_cache(record.id).await, Ok(None));
    assert!(bench.reserved(new_cache("key")).await.unwrap().id > record.id, "ids are not used twice");
}
