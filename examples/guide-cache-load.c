// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Reading through a cache, as docs/guide/caches.md has it: one load for all who ask, what does not exist, what is out of date. */
#include <nebula/memory.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define CHECK(what)                                                                                                    \
    do {                                                                                                               \
        if (!(what)) {                                                                                                 \
            fprintf(stderr, "%s: not so: %s\n", NM_SITE, #what);                                                       \
            return 1;                                                                                                  \
        }                                                                                                              \
    } while (0)

#define SECOND_NS (UINT64_C(1000) * 1000 * 1000)

/* What is slow: a table of users elsewhere. */
struct database {
    const char *name;   /* of user 7: there is nobody else */
    atomic_uint visits; /* how often it was asked */
};

static nm_status database_ask(struct database *db, const void *key, size_t key_len, const char **name) {
    atomic_fetch_add(&db->visits, 1);
    nanosleep(&(struct timespec){.tv_nsec = 5 * 1000 * 1000}, NULL);
    *name = db->name;
    return key_len == 6 && memcmp(key, "user 7", 6) == 0 ? NM_OK : NM_ENOTFOUND;
}

/* ---- loading ------------------------------------------------------------------------------------------------------- */

static nm_status user_load(nm_cache *users, const void *key, size_t key_len, nm_entry *room, nm_put_options *options,
                           void *db) {
    const char *name;
    nm_status st = database_ask(db, key, key_len, &name);
    if (st == NM_OK) st = nm_cache_reserve(users, key, key_len, strlen(name), room);
    if (st != NM_OK) return st; /* NM_ENOTFOUND: there is no such user */
    memcpy(room->value, name, strlen(name));
    options->ttl_ms = 60 * 1000;
    return NM_OK; /* what lies in the room is committed now */
}

struct asker {
    nm_cache *users;
    struct database *db;
    int served;
};

static void *ask(void *of) {
    struct asker *a = of;
    nm_entry user;
    nm_status st = nm_cache_get_or_load(a->users, "user 7", 6, user_load, a->db, 5 * SECOND_NS, &user);
    if (st != NM_OK) return NULL;
    a->served = memcmp(user.value, "Ada", 3) == 0;
    nm_entry_release(&user);
    return NULL;
}

static int loading(nm_cache *users, struct database *db) {
    enum { ASKERS = 8 };
    struct asker askers[ASKERS];
    pthread_t threads[ASKERS];
    for (int i = 0; i < ASKERS; i++) {
        askers[i] = (struct asker){.users = users, .db = db};
        CHECK(pthread_create(&threads[i], NULL, ask, &askers[i]) == 0);
    }
    for (int i = 0; i < ASKERS; i++) CHECK(pthread_join(threads[i], NULL) == 0 && askers[i].served);
    CHECK(db->visits == 1); /* eight have asked */
    nm_cache_stats stats;
    nm_cache_get_stats(users, &stats);
    CHECK(stats.loads == 1 && stats.load_failures == 0);
    return 0;
}

/* ---- what does not exist ------------------------------------------------------------------------------------------- */

static int nothing(nm_cache *users, struct database *db) {
    nm_entry user;
    unsigned before = db->visits;
    for (int i = 0; i < 1000; i++)
        CHECK(nm_cache_get_or_load(users, "user 8", 6, user_load, db, SECOND_NS, &user) == NM_ENOTFOUND);
    CHECK(db->visits == before + 1); /* remembered for .negative_ttl_ms */
    CHECK(!nm_cache_get(users, "user 8", 6, &user) && user.negative);

    CHECK(nm_cache_put(users, "user 8", 6, "Bob", 3) == NM_OK); /* any put ends it: now there is one */
    CHECK(nm_cache_get(users, "user 8", 6, &user));
    nm_entry_release(&user);

    CHECK(nm_cache_put_negative(users, "user 8", 6, 30 * 1000) ==
          NM_OK); /* deleted, and known to be for half a minute */
    CHECK(!nm_cache_contains(users, "user 8", 6));
    return 0;
}

/* ---- what is out of date ------------------------------------------------------------------------------------------- */

/* Somebody changed the table. For ten seconds at most what we have is better than nothing. */
static void user_changed(nm_cache *users, const char *key) {
    nm_status st = nm_cache_mark_stale(users, key, strlen(key), 10 * 1000, 0);
    if (st != NM_OK && st != NM_ENOTFOUND) nm_cache_remove(users, key, strlen(key)); /* no room for the mark */
}

/* Old or new, but at once, for all but one. */
static nm_status user_get(nm_cache *users, struct database *db, const char *key, nm_entry *out) {
    if (nm_cache_get(users, key, strlen(key), out) &&
        out->won) { /* of all who read it, the one to bring it up to date */
        const char *name;
        nm_status st = database_ask(db, key, strlen(key), &name);
        if (st == NM_OK) st = nm_cache_put(users, key, strlen(key), name, strlen(name)); /* ends the mark */
        if (st == NM_OK)
            nm_entry_release(out); /* to be read anew */
        else
            user_changed(users, key); /* another may win; this one takes what there is */
    }
    if (out->slot != NULL) return NM_OK;
    return nm_cache_get_or_load(users, key, strlen(key), user_load, db, 5 * SECOND_NS, out);
}

static int stale(nm_cache *users, struct database *db) {
    nm_entry user, other;
    CHECK(user_get(users, db, "user 7", &user) == NM_OK && memcmp(user.value, "Ada", 3) == 0);
    nm_entry_release(&user);
    db->name = "Eve";
    user_changed(users, "user 7");

    unsigned before = db->visits;
    CHECK(nm_cache_get(users, "user 7", 6, &user) && user.stale && user.won);
    CHECK(nm_cache_get(users, "user 7", 6, &other) && other.stale && !other.won);
    nm_entry_release(&user);
    nm_entry_release(&other);
    CHECK(user_get(users, db, "user 7", &user) == NM_OK && memcmp(user.value, "Ada", 3) == 0);
    nm_entry_release(&user);
    CHECK(db->visits == before); /* the winner has not put anything yet, so all others read what was */

    user_changed(users, "user 7"); /* a new mark: somebody else may win */
    CHECK(user_get(users, db, "user 7", &user) == NM_OK && memcmp(user.value, "Eve", 3) == 0 && !user.stale);
    CHECK(db->visits == before + 1);
    nm_entry_release(&user);
    return 0;
}

int main(void) {
    nm_scope *root;
    nm_cache *users;
    struct database db = {.name = "Ada"};
    CHECK(nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.name = "server", .hard_bytes = 8 << 20)) == NM_OK);
    CHECK(nm_cache_open(&users, root,
                        NM_CACHE_OPTIONS(.name = "users", .budget_bytes = 1 << 20, .negative_ttl_ms = 5000)) == NM_OK);
    CHECK(loading(users, &db) == 0 && nothing(users, &db) == 0 && stale(users, &db) == 0);
    return nm_scope_close(root, NULL) == 0 ? 0 : 1;
}
