// SPDX-License-Identifier: Apache-2.0 OR MIT
/* NM_BYTES_AUTO, over files that the test makes up and over the machine's own. */
#include "os/limits.h"

#include "fake_files.h"
#include "nebula/scope.h"
#include "os/os.h"
#include "testing.h"

#define KIB       ((size_t)1 << 10)
#define MIB       ((size_t)1 << 20)
#define GIB       ((size_t)1 << 30)
#define BYTES_MAX ((size_t)1 << 56) /* what the library takes for more than any machine has */

static int reset(void **state) {
    (void)state;
    fake_files_remove();
    return 0;
}

static size_t limit_of(const fake_file *files, uint64_t physical) {
    fake_files_install(files, physical);
    size_t bytes = 1;
    assert_true(nm__memory_limit(&bytes));
    return bytes;
}

/* The hard limit of a root that asks for NM_BYTES_AUTO. */
static size_t auto_of(const fake_file *files, uint64_t physical) {
    fake_files_install(files, physical);
    nm_scope *root;
    assert_ok(nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.hard_bytes = NM_BYTES_AUTO)));
    nm_scope_stats st;
    nm_scope_get_stats(root, &st);
    nm_scope_close(root, NULL);
    return st.hard_bytes;
}

/* ---- numbers ----------------------------------------------------------------------------------------------------- */

static void a_limit_is_a_number_or_none(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t value;
    } cases[] = {
        {"0\n", 0},
        {"1\n", 1},
        {"1", 1},
        {"67108864\n", 64 * MIB},
        {"72057594037927935", BYTES_MAX - 1},
        {"max\n", SIZE_MAX},
        {"max", SIZE_MAX},
        {"9223372036854771712\n", SIZE_MAX}, /* the first version's none: 2^63 less a page */
        {"9223372036854775808\n", SIZE_MAX},
        {"18446744073709551615\n", SIZE_MAX},
        {"18446744073709551616\n", SIZE_MAX},
        {"99999999999999999999999999999", SIZE_MAX},
        {"", SIZE_MAX},
        {"\n", SIZE_MAX},
        {"-1\n", SIZE_MAX},
        {" 5\n", SIZE_MAX},
        {"5k\n", SIZE_MAX},
        {"0x10\n", SIZE_MAX},
        {"nonsense", SIZE_MAX},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (nm__limit_value(cases[i].text) != cases[i].value)
            fail_msg("\"%s\" gives %zu", cases[i].text, nm__limit_value(cases[i].text));
}

static void a_line_of_groups_gives_the_path_of_its_hierarchy(void **state) {
    (void)state;
    assert_string_equal(nm__group_line("0::/user.slice/a:b", NM__GROUP_V2), "/user.slice/a:b");
    assert_null(nm__group_line("0::/x", NM__GROUP_V1));
    assert_string_equal(nm__group_line("4:memory:/docker/x", NM__GROUP_V1), "/docker/x");
    assert_string_equal(nm__group_line("12:cpu,memory,pids:/", NM__GROUP_V1), "/");
    assert_null(nm__group_line("4:memory:/docker/x", NM__GROUP_V2));
    assert_null(nm__group_line("1:name=memory:/x", NM__GROUP_V1));
    assert_null(nm__group_line("1:memory2,xmemory:/x", NM__GROUP_V1));
    assert_null(nm__group_line("1:memor:/x", NM__GROUP_V1));
    static const char *const malformed[] = {
        "", ":", "::", "0", "0:", "0::", "0::x", "00::/x", "memory:/x", "1:memory:", "1:,,:/"};
    for (size_t i = 0; i < sizeof malformed / sizeof malformed[0]; i++) {
        assert_null(nm__group_line(malformed[i], NM__GROUP_V1));
        assert_null(nm__group_line(malformed[i], NM__GROUP_V2));
    }
}

static bool mount_line(const char *text, nm__group_version version, char root[64], char point[64]) {
    char line[512], *r, *p;
    snprintf(line, sizeof line, "%s", text);
    if (!nm__mount_line(line, version, &r, &p)) return false;
    snprintf(root, 64, "%s", r);
    snprintf(point, 64, "%s", p);
    return true;
}

static void a_line_of_mounts_is_taken_apart(void **state) {
    (void)state;
    char root[64], point[64];
    assert_true(mount_line("31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw", NM__GROUP_V2, root, point));
    assert_string_equal(root, "/");
    assert_string_equal(point, "/sys/fs/cgroup");
    assert_true(mount_line("1 2 0:3 /a\\040b\\134\\011 /m\\0401 rw shared:1 master:2 - cgroup  rw,memory", NM__GROUP_V1,
                           root, point));
    assert_string_equal(root, "/a b\\\t");
    assert_string_equal(point, "/m 1");
    /* not an escape: kept as it is */
    assert_true(mount_line("1 2 0:3 /a\\08\\777\\ /m\\04 rw - cgroup2 x rw", NM__GROUP_V2, root, point));
    assert_string_equal(root, "/a\\08\\777\\");
    assert_string_equal(point, "/m\\04");
    static const char *const others[] = {
        "",
        " ",
        "-",
        "            ",
        "1 2 0:3 / /m rw",
        "1 2 0:3 / /m rw -",
        "1 2 0:3 / /m rw - ",
        "1 2 0:3 / /m rw - cgroup2",
        "1 2 0:3 / /m rw - cgroup2 x",
        "1 2 0:3 / /m rw cgroup2 x rw",
        "1 2 0:3 x /m rw - cgroup2 x rw",
        "1 2 0:3 /  rw - cgroup2 x rw",
        "1 2 0:3 / /m rw - cgroup cgroup rw,memory2",
        "1 2 0:3 / /m rw - cgroup cgroup rw,cpu",
        "1 2 0:3 / /m rw - tmpfs cgroup2 rw,memory",
    };
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if (mount_line(others[i], NM__GROUP_V1, root, point)) fail_msg("version 1: %s", others[i]);
        if (mount_line(others[i], NM__GROUP_V2, root, point)) fail_msg("version 2: %s", others[i]);
    }
}

static void a_group_lies_below_a_root_by_whole_names(void **state) {
    (void)state;
    assert_string_equal(nm__group_below("/", "/"), "");
    assert_string_equal(nm__group_below("/a/b", "/"), "/a/b");
    assert_string_equal(nm__group_below("/a/b", "/a"), "/b");
    assert_string_equal(nm__group_below("/a/b", "/a/b"), "");
    assert_string_equal(nm__group_below("/../a", "/.."), "/a");
    assert_string_equal(nm__group_below("/..a/b..", "/"), "/..a/b..");
    assert_null(nm__group_below("/ab", "/a"));
    assert_null(nm__group_below("/a", "/a/b"));
    assert_null(nm__group_below("/", "/.."));
    assert_null(nm__group_below("/..", "/"));
    assert_null(nm__group_below("/a/../b", "/a"));
    assert_null(nm__group_below("/..a/..", "/"));
}

/* ---- trees ------------------------------------------------------------------------------------------------------- */

static void v2_takes_the_least_of_max_and_high_on_the_way_up(void **state) {
    (void)state;
    static const char *const names[] = {
        "/sys/fs/cgroup/memory.max",    "/sys/fs/cgroup/memory.high",      "/sys/fs/cgroup/a/memory.max",
        "/sys/fs/cgroup/a/memory.high", "/sys/fs/cgroup/a/b c/memory.max", "/sys/fs/cgroup/a/b c/memory.high",
    };
    enum { COUNT = sizeof names / sizeof names[0] };
    /* each of them in turn is the least, the others are more or "max" */
    for (int least = 0; least < COUNT; least++) {
        fake_file files[COUNT + 3] = {{CGROUP, "0::/a/b c\n"}, {MOUNTS, ROOT_MOUNT V2_MOUNT}};
        for (int i = 0; i < COUNT; i++)
            files[2 + i] = (fake_file){names[i], i == least ? "104857600\n" : i % 2 == 0 ? "209715200\n" : "max\n"};
        assert_int_equal(limit_of(files, 8 * GIB), 100 * MIB);
        assert_int_equal(auto_of(files, 8 * GIB), 100 * MIB - 100 * MIB / 8);
    }
}

static void v2_without_a_limit_gives_the_physical_memory(void **state) {
    (void)state;
    const fake_file *files = FILES({CGROUP, "0::/a\n"}, {MOUNTS, ROOT_MOUNT V2_MOUNT},
                                   {"/sys/fs/cgroup/a/memory.max", "max\n"}, {"/sys/fs/cgroup/a/memory.high", "max\n"});
    assert_int_equal(limit_of(files, 8 * GIB), 8 * GIB);
    assert_int_equal(auto_of(files, 8 * GIB), 7 * GIB);
    /* and where the limit is more than there is, too */
    files = FILES({CGROUP, "0::/a\n"}, {MOUNTS, V2_MOUNT}, {"/sys/fs/cgroup/a/memory.max", "10737418240\n"});
    assert_int_equal(limit_of(files, 8 * GIB), 8 * GIB);
}

static void groups_beside_and_below_do_not_count(void **state) {
    (void)state;
    const fake_file *files =
        FILES({CGROUP, "0::/a/b\n"}, {MOUNTS, V2_MOUNT}, {"/sys/fs/cgroup/a/b/memory.max", "1073741824\n"},
              {"/sys/fs/cgroup/a/b/c/memory.max", "1048576\n"}, {"/sys/fs/cgroup/x/memory.max", "1048576\n"},
              {"/sys/fs/memory.max", "1048576\n"}, {"/memory.max", "1048576\n"});
    assert_int_equal(limit_of(files, 8 * GIB), GIB);
}

static void v1_takes_the_least_on_the_way_up(void **state) {
    (void)state;
    const char *groups = "9:name=systemd:/s\n4:memory:/a/b\n3:cpu,cpuacct:/c\n";
    const char *none = "9223372036854771712\n", *some = "67108864\n";
    for (int least = 0; least < 3; least++) {
        const fake_file *files = FILES({CGROUP, groups}, {MOUNTS, ROOT_MOUNT V1_MOUNTS},
                                       {"/sys/fs/cgroup/memory/memory.limit_in_bytes", least == 0 ? some : none},
                                       {"/sys/fs/cgroup/memory/a/memory.limit_in_bytes", least == 1 ? some : none},
                                       {"/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", least == 2 ? some : none});
        assert_int_equal(limit_of(files, 8 * GIB), 64 * MIB);
    }
    const fake_file *files =
        FILES({CGROUP, groups}, {MOUNTS, V1_MOUNTS}, {"/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", none});
    assert_int_equal(limit_of(files, 8 * GIB), 8 * GIB);
    fake_files_install(files, 0);
    size_t bytes;
    assert_false(nm__memory_limit(&bytes));
}

static void hybrid_takes_the_hierarchy_that_counts_memory(void **state) {
    (void)state;
    /* the second version is mounted beside, without memory; both path lines differ */
    const char *groups = "4:memory:/svc\n1:name=systemd:/init\n0::/init\n";
    const char *mounts = ROOT_MOUNT V1_MOUNTS "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
    const fake_file *files =
        FILES({CGROUP, groups}, {MOUNTS, mounts}, {"/sys/fs/cgroup/unified/init/cgroup.controllers", "cpu\n"},
              {"/sys/fs/cgroup/memory/svc/memory.limit_in_bytes", "67108864\n"});
    assert_int_equal(limit_of(files, 8 * GIB), 64 * MIB);
    /* the other way: the first version is there for others, the second counts memory */
    files = FILES({CGROUP, "2:freezer:/x\n0::/svc\n"},
                  {MOUNTS, "30 29 0:26 / /f rw - cgroup cgroup rw,freezer\n41 31 0:38 / /u rw - cgroup2 cgroup2 rw\n"},
                  {"/f/x/memory.limit_in_bytes", "1048576\n"}, {"/u/svc/memory.max", "33554432\n"});
    assert_int_equal(limit_of(files, 8 * GIB), 32 * MIB);
}

static void a_container_sees_its_groups_from_its_own_on(void **state) {
    (void)state;
    /* without a name space of its own: the path is the host's, the mount begins at the container's group */
    const char *mount = "700 690 0:32 /docker/abc /sys/fs/cgroup/memory ro master:11 - cgroup cgroup rw,memory\n";
    const fake_file *files = FILES({CGROUP, "4:memory:/docker/abc/inner\n"}, {MOUNTS, mount},
                                   {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "67108864\n"},
                                   {"/sys/fs/cgroup/memory/inner/memory.limit_in_bytes", "134217728\n"},
                                   {"/sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "1048576\n"});
    assert_int_equal(limit_of(files, 8 * GIB), 64 * MIB);
    /* with one: the path is "/" */
    files = FILES({CGROUP, "0::/\n"}, {MOUNTS, V2_MOUNT}, {"/sys/fs/cgroup/memory.max", "67108864\n"});
    assert_int_equal(limit_of(files, 8 * GIB), 64 * MIB);
    /* mounted from above the name space's root, or moved out of it: what the mount shows is all that can be known */
    files = FILES({CGROUP, "0::/\n"}, {MOUNTS, "31 23 0:28 /../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"},
                  {"/sys/fs/cgroup/memory.max", "67108864\n"});
    assert_int_equal(limit_of(files, 8 * GIB), 64 * MIB);
    files = FILES({CGROUP, "0::/../other\n"}, {MOUNTS, V2_MOUNT}, {"/sys/fs/cgroup/memory.max", "67108864\n"},
                  {"/sys/fs/cgroup/../other/memory.max", "1048576\n"});
    assert_int_equal(limit_of(files, 8 * GIB), 64 * MIB);
}

static void of_several_mounts_the_one_that_shows_most_is_read(void **state) {
    (void)state;
    static const char elsewhere[] = "1 2 0:3 /x /elsewhere rw - cgroup2 c rw\n";
    static const char narrow[] = "1 2 0:3 /a/b /narrow rw - cgroup2 c rw\n";
    static const char wide[] = "1 2 0:3 /a /wide rw - cgroup2 c rw\n";
    const char *const order[3][3] = {{elsewhere, narrow, wide}, {wide, narrow, elsewhere}, {narrow, elsewhere, wide}};
    for (int i = 0; i < 3; i++) {
        char mounts[512];
        snprintf(mounts, sizeof mounts, "%s%s%s", order[i][0], order[i][1], order[i][2]);
        const fake_file *files = FILES({CGROUP, "0::/a/b/c\n"}, {MOUNTS, mounts}, {"/wide/memory.max", "67108864\n"},
                                       {"/narrow/memory.max", "134217728\n"}, {"/elsewhere/memory.max", "1048576\n"});
        assert_int_equal(limit_of(files, 8 * GIB), 64 * MIB);
    }
}

static void a_hierarchy_at_the_top_of_all_files_is_found(void **state) {
    (void)state;
    const fake_file *files = FILES({CGROUP, "0::/a\n"}, {MOUNTS, "1 2 0:3 / / rw - cgroup2 c rw\n"},
                                   {"/a/memory.max", "max\n"}, {"/memory.high", "67108864\n"});
    assert_int_equal(limit_of(files, 8 * GIB), 64 * MIB);
    files = FILES({CGROUP, "0::/\n"}, {MOUNTS, "1 2 0:3 / / rw - cgroup2 c rw\n"}, {"/memory.max", "67108864\n"});
    assert_int_equal(limit_of(files, 8 * GIB), 64 * MIB);
}

static void escaped_mount_points_and_missing_newlines_are_read(void **state) {
    (void)state;
    const fake_file *files = FILES({CGROUP, "0::/a"}, {MOUNTS, "1 2 0:3 / /my\\040groups rw - cgroup2 c rw"},
                                   {"/my groups/a/memory.max", "67108864"});
    assert_int_equal(limit_of(files, 8 * GIB), 64 * MIB);
}

static void a_removed_group_leaves_those_above_it(void **state) {
    (void)state;
    const fake_file *files =
        FILES({CGROUP, "0::/a/b (deleted)\n"}, {MOUNTS, V2_MOUNT}, {"/sys/fs/cgroup/a/memory.max", "67108864\n"});
    assert_int_equal(limit_of(files, 8 * GIB), 64 * MIB);
}

/* ---- what is broken, and what is large --------------------------------------------------------------------------- */

static void without_any_file_it_is_the_physical_memory(void **state) {
    (void)state;
    assert_int_equal(auto_of(NULL, 8 * GIB), 7 * GIB);
    assert_int_equal(auto_of(FILES({CGROUP, "0::/a\n"}), 8 * GIB), 7 * GIB);
    assert_int_equal(auto_of(FILES({MOUNTS, V2_MOUNT}, {"/sys/fs/cgroup/memory.max", "1048576\n"}), 8 * GIB), 7 * GIB);
    assert_int_equal(auto_of(FILES({CGROUP, ""}, {MOUNTS, ""}), 8 * GIB), 7 * GIB);
}

static void without_anything_it_is_refused(void **state) {
    (void)state;
    fake_files_install(NULL, 0);
    nm_scope *root = (nm_scope *)&fake;
    assert_status(nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.hard_bytes = NM_BYTES_AUTO)), NM_ESYSTEM);
    assert_null(root);
    /* a limit without the physical memory is enough */
    const fake_file *files = FILES({CGROUP, "0::/\n"}, {MOUNTS, V2_MOUNT}, {"/sys/fs/cgroup/memory.max", "67108864\n"});
    assert_int_equal(auto_of(files, 0), 56 * MIB);
}

static void extreme_values_are_bounded(void **state) {
    (void)state;
    static const struct {
        const char *max;
        uint64_t physical;
        size_t hard;
    } cases[] = {
        {"0\n", GIB, 64 * KIB},
        {"1\n", GIB, 64 * KIB},
        {"74898\n", GIB, 74898 - 74898 / 8},
        {"18446744073709551615\n", 8 * GIB, 7 * GIB},
        {"9223372036854775809\n", 8 * GIB, 7 * GIB},
        {"max\n", 1, 64 * KIB},
        {"max\n", UINT64_MAX, (BYTES_MAX) / 8 * 7},
        {"max\n", (uint64_t)1 << 63, (BYTES_MAX) / 8 * 7},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const fake_file *files =
            FILES({CGROUP, "0::/\n"}, {MOUNTS, V2_MOUNT}, {"/sys/fs/cgroup/memory.max", cases[i].max});
        assert_int_equal(auto_of(files, cases[i].physical), cases[i].hard);
    }
}

static void long_lines_are_skipped_and_what_follows_is_read(void **state) {
    (void)state;
    /* around the reader's buffer, and far above it; the wanted line before, between, behind; with and without a newline */
    static const size_t lengths[] = {8189, 8190, 8191, 8192, 8193, 16383, 100000};
    char *text = malloc(400000);
    assert_non_null(text);
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        for (int where = 0; where < 3; where++) {
            char *p = text;
            for (int part = 0; part < 3; part++) {
                if (part == where) {
                    p += sprintf(p, "%s", V2_MOUNT);
                } else {
                    memset(p, 'x', lengths[i]);
                    p += lengths[i];
                    *p++ = '\n';
                }
            }
            *p = 0;
            for (int cut = 0; cut < 2; cut++) {
                if (cut == 1) p[-1] = 0;
                const fake_file *files =
                    FILES({CGROUP, "0::/\n"}, {MOUNTS, text}, {"/sys/fs/cgroup/memory.max", "67108864\n"});
                assert_int_equal(limit_of(files, 8 * GIB), 64 * MIB);
            }
        }
    }
    free(text);
}

static void thousands_of_mounts_are_read_to_the_end(void **state) {
    (void)state;
    enum { COUNT = 5000 };
    char *text = malloc(COUNT * 100 + 200), *p = text;
    assert_non_null(text);
    for (int i = 0; i < COUNT; i++)
        p += sprintf(p, "%d 1 0:%d /%.*s /mnt/%d rw shared:%d - ext4 /dev/x rw\n", i, i, i % 37,
                     "0123456789012345678901234567890123456789", i, i);
    sprintf(p, "%s", V2_MOUNT);
    const fake_file *files = FILES({CGROUP, "0::/a\n"}, {MOUNTS, text}, {"/sys/fs/cgroup/a/memory.max", "67108864\n"});
    assert_int_equal(limit_of(files, 8 * GIB), 64 * MIB);
    free(text);
}

static void paths_that_are_too_long_are_left_out(void **state) {
    (void)state;
    /* up to the longest path: group and mount point together, then one alone */
    for (size_t length = 4060; length < 4110; length++) {
        char group[5000] = "0::/", path[5000] = "/sys/fs/cgroup/";
        memset(group + 4, 'g', length);
        strcpy(group + 4 + length, "\n");
        memset(path + 15, 'g', length);
        strcpy(path + 15 + length, "/memory.max");
        const fake_file *files = FILES({CGROUP, group}, {MOUNTS, V2_MOUNT}, {path, "67108864\n"});
        bool fits = 15 + length < 4096;
        assert_int_equal(limit_of(files, 8 * GIB), fits ? 64 * MIB : 8 * GIB);
    }
}

/* Every prefix of a good tree, and good trees with bytes changed: any answer is right that is one of the two possible. */
static void damaged_files_give_no_nonsense(void **state) {
    (void)state;
    uint64_t seed = test_seed();
    static const char groups[] = "4:memory:/a/b\n0::/c/d\n", mounts[] = ROOT_MOUNT V1_MOUNTS V2_MOUNT;
    for (int i = 0; i < 20000; i++) {
        char g[sizeof groups], m[sizeof mounts], value[] = "67108864\n";
        memcpy(g, groups, sizeof g);
        memcpy(m, mounts, sizeof m);
        for (size_t changes = test_below(&seed, 4); changes > 0; changes--) {
            g[test_below(&seed, sizeof g - 1)] = (char)(1 + test_below(&seed, 255));
            m[test_below(&seed, sizeof m - 1)] = (char)(1 + test_below(&seed, 255));
        }
        if (i % 3 == 0) g[test_below(&seed, sizeof g)] = 0;
        if (i % 5 == 0) m[test_below(&seed, sizeof m)] = 0;
        const fake_file *files =
            FILES({CGROUP, g}, {MOUNTS, m}, {"/sys/fs/cgroup/memory/a/memory.limit_in_bytes", value},
                  {"/sys/fs/cgroup/c/memory.max", value});
        size_t limit = limit_of(files, 8 * GIB);
        assert_true(limit == 64 * MIB || limit == 8 * GIB);
    }
}

static void a_system_without_means_to_look_is_not_a_system_without_limits(void **state) {
    (void)state;
    const fake_file *files = FILES({CGROUP, "4:memory:/a\n0::/b\n"}, {MOUNTS, V1_MOUNTS V2_MOUNT},
                                   {"/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "67108864\n"},
                                   {"/sys/fs/cgroup/b/memory.max", "134217728\n"});
    nm_scope *root;
    fake_files_install(files, 8 * GIB);
    assert_ok(nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.hard_bytes = 128 * MIB)));
    uint64_t n = 1;
    for (;; n++) {
        fake_files_install(files, 8 * GIB);
        fake.fail_read = n;
        nm_status st = nm_scope_set_budget(root, MIB, NM_BYTES_AUTO);
        if (fake.reads < n) break;
        assert_status(st, NM_ESYSTEM);
        nm_scope_stats unchanged;
        nm_scope_get_stats(root, &unchanged);
        assert_int_equal(unchanged.hard_bytes, 128 * MIB);
        assert_int_equal(unchanged.soft_bytes, 0);
        nm_scope *other;
        fake_files_install(files, 8 * GIB);
        fake.fail_read = n;
        assert_status(nm_scope_open(&other, NULL, NM_SCOPE_OPTIONS(.hard_bytes = NM_BYTES_AUTO)), NM_ESYSTEM);
        assert_null(other);
    }
    assert_true(n > 8); /* four files, twice the groups */
    nm_scope_close(root, NULL);
}

/* ---- as an option ------------------------------------------------------------------------------------------------ */

static void only_a_root_takes_it_and_only_as_its_hard_limit(void **state) {
    (void)state;
    fake_files_install(NULL, GIB);
    nm_scope *root, *child;
    assert_status(nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.soft_bytes = NM_BYTES_AUTO)), NM_EINVAL);
    assert_status(
        nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.soft_bytes = NM_BYTES_AUTO, .hard_bytes = NM_BYTES_AUTO)),
        NM_EINVAL);
    assert_ok(nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.soft_bytes = MIB, .hard_bytes = NM_BYTES_AUTO)));
    assert_status(nm_scope_open(&child, root, NM_SCOPE_OPTIONS(.hard_bytes = NM_BYTES_AUTO)), NM_EINVAL);
    assert_null(child);
    assert_status(nm_scope_open(&child, root, NM_SCOPE_OPTIONS(.soft_bytes = NM_BYTES_AUTO)), NM_EINVAL);
    assert_ok(nm_scope_open(&child, root, NULL));
    assert_status(nm_scope_set_budget(child, 0, NM_BYTES_AUTO), NM_EINVAL);
    assert_status(nm_scope_set_budget(child, NM_BYTES_AUTO, 0), NM_EINVAL);
    assert_status(nm_scope_set_budget(root, NM_BYTES_AUTO, NM_BYTES_AUTO), NM_EINVAL);
    nm_scope_close(child, NULL);
    assert_int_equal(nm_scope_close(root, NULL), 0);
}

static void a_soft_limit_may_not_be_above_what_was_found(void **state) {
    (void)state;
    fake_files_install(NULL, 64 * MIB);
    nm_scope *root;
    assert_status(nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.soft_bytes = 56 * MIB + 1, .hard_bytes = NM_BYTES_AUTO)),
                  NM_EINVAL);
    assert_null(root);
    assert_ok(nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.soft_bytes = 56 * MIB, .hard_bytes = NM_BYTES_AUTO)));
    assert_status(nm_scope_set_budget(root, 56 * MIB + 1, NM_BYTES_AUTO), NM_EINVAL);
    nm_scope_close(root, NULL);
}

static void set_budget_reads_again(void **state) {
    (void)state;
    nm_scope *root;
    nm_scope_stats st;
    fake_files_install(FILES({CGROUP, "0::/\n"}, {MOUNTS, V2_MOUNT}, {"/sys/fs/cgroup/memory.max", "67108864\n"}), GIB);
    assert_ok(nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.hard_bytes = NM_BYTES_AUTO)));
    nm_scope_get_stats(root, &st);
    assert_int_equal(st.hard_bytes, 56 * MIB);
    fake_files_install(FILES({CGROUP, "0::/\n"}, {MOUNTS, V2_MOUNT}, {"/sys/fs/cgroup/memory.max", "134217728\n"}),
                       GIB);
    nm_scope_get_stats(root, &st);
    assert_int_equal(st.hard_bytes, 56 * MIB); /* not by itself */
    assert_ok(nm_scope_set_budget(root, 4 * MIB, NM_BYTES_AUTO));
    nm_scope_get_stats(root, &st);
    assert_int_equal(st.hard_bytes, 112 * MIB);
    assert_int_equal(st.soft_bytes, 4 * MIB);
    nm_scope_close(root, NULL);
}

/* ---- this machine ------------------------------------------------------------------------------------------------ */

static void this_machine_gives_a_limit_within_its_memory(void **state) {
    (void)state;
    uint64_t physical = nm__os_system.physical_bytes();
    assert_true(physical >= 16 * MIB);
    size_t limit;
    assert_true(nm__memory_limit(&limit));
    assert_true(limit <= physical);
    nm_scope *root;
    assert_ok(nm_scope_open(&root, NULL, NM_SCOPE_OPTIONS(.hard_bytes = NM_BYTES_AUTO)));
    nm_scope_stats st;
    nm_scope_get_stats(root, &st);
    print_message("  physical memory %" PRIu64 ", limit %zu, hard limit %zu\n", physical, limit, st.hard_bytes);
    assert_true(st.hard_bytes >= NM_ROOT_MIN_BYTES && st.hard_bytes <= physical);
    nm_scope_close(root, NULL);
}

static void the_systems_files_are_read_in_pieces(void **state) {
    (void)state;
    char whole[4096], pieces[4096];
    ptrdiff_t length = nm__os_system.read_file("/proc/self/cgroup", 0, whole, sizeof whole);
    if (length == 0) {
        print_message("  skipped: no /proc/self/cgroup\n");
        skip();
    }
    assert_true(length > 0);
    ptrdiff_t at = 0;
    for (;; at += 3) {
        ptrdiff_t got = nm__os_system.read_file("/proc/self/cgroup", (uint64_t)at, pieces + at, 3);
        assert_true(got >= 0);
        if (got < 3) {
            at += got;
            break;
        }
    }
    assert_int_equal(at, length);
    assert_memory_equal(whole, pieces, length);
    assert_int_equal(nm__os_system.read_file("/proc/self/no such file", 0, whole, sizeof whole), 0);
    assert_int_equal(nm__os_system.read_file("/proc/self", 0, whole, sizeof whole), 0);
}

#define RESET(test) cmocka_unit_test_teardown(test, reset)

int main(void) {
    const struct CMUnitTest tests[] = {
        RESET(a_limit_is_a_number_or_none),
        RESET(a_line_of_groups_gives_the_path_of_its_hierarchy),
        RESET(a_line_of_mounts_is_taken_apart),
        RESET(a_group_lies_below_a_root_by_whole_names),
        RESET(v2_takes_the_least_of_max_and_high_on_the_way_up),
        RESET(v2_without_a_limit_gives_the_physical_memory),
        RESET(groups_beside_and_below_do_not_count),
        RESET(v1_takes_the_least_on_the_way_up),
        RESET(hybrid_takes_the_hierarchy_that_counts_memory),
        RESET(a_container_sees_its_groups_from_its_own_on),
        RESET(of_several_mounts_the_one_that_shows_most_is_read),
        RESET(a_hierarchy_at_the_top_of_all_files_is_found),
        RESET(escaped_mount_points_and_missing_newlines_are_read),
        RESET(a_removed_group_leaves_those_above_it),
        RESET(without_any_file_it_is_the_physical_memory),
        RESET(without_anything_it_is_refused),
        RESET(extreme_values_are_bounded),
        RESET(long_lines_are_skipped_and_what_follows_is_read),
        RESET(thousands_of_mounts_are_read_to_the_end),
        RESET(paths_that_are_too_long_are_left_out),
        RESET(damaged_files_give_no_nonsense),
        RESET(a_system_without_means_to_look_is_not_a_system_without_limits),
        RESET(only_a_root_takes_it_and_only_as_its_hard_limit),
        RESET(a_soft_limit_may_not_be_above_what_was_found),
        RESET(set_budget_reads_again),
        RESET(this_machine_gives_a_limit_within_its_memory),
        RESET(the_systems_files_are_read_in_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
