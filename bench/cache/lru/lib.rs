// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The cache that a Rust programmer would write first: the crate lru behind a Mutex, for cache/lru.c.
use lru::LruCache;
use std::arch::asm;
use std::sync::Mutex;

const VALUE_BYTES: usize = 100;
const PATTERNS: usize = 64;

type Key = [u64; 2];
type Value = [u8; VALUE_BYTES];
type Cache = Mutex<LruCache<Key, Value>>;

/// The structs of cache/requests.h and cache/subject.h.
#[repr(C)]
pub struct Request {
    key: Key,
    number: u32,
    put: u32,
}

#[repr(C)]
pub struct Tally {
    gets: u64,
    hits: u64,
    wrong: u64,
}

#[no_mangle]
pub extern "C" fn cache_lru_new(entries: usize) -> *mut Cache {
    Box::into_raw(Box::new(Mutex::new(LruCache::new(entries))))
}

/// # Safety
/// `cache` is of cache_lru_new and not freed; so for the others.
#[no_mangle]
pub unsafe extern "C" fn cache_lru_free(cache: *mut Cache) {
    drop(Box::from_raw(cache));
}

#[no_mangle]
pub unsafe extern "C" fn cache_lru_len(cache: *mut Cache) -> usize {
    (*cache).lock().unwrap().len()
}

/// # Safety
/// `requests` are `n`, and `values` PATTERNS values.
#[no_mangle]
pub unsafe extern "C" fn cache_lru_serve(
    cache: *mut Cache,
    requests: *const Request,
    n: usize,
    values: *const Value,
    tally: *mut Tally,
) {
    let (cache, tally) = (&*cache, &mut *tally);
    let values = std::slice::from_raw_parts(values, PATTERNS);
    for r in std::slice::from_raw_parts(requests, n) {
        let pattern = r.number as usize % PATTERNS;
        if r.put == 0 {
            tally.gets += 1;
            let found = cache.lock().unwrap().get(&r.key).copied();
            if let Some(copy) = found {
                // Makes the compiler believe that the whole copy is used, as cache_hit does.
                asm!("/* {0} */", in(reg) copy.as_ptr(), options(nostack));
                tally.hits += 1;
                tally.wrong += (copy[VALUE_BYTES - 1] as usize != pattern) as u64;
                continue;
            }
        }
        cache.lock().unwrap().put(r.key, values[pattern]);
    }
}
