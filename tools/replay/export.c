// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "export.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"

typedef struct row_list {
    const row *rows;
    size_t row_count;
} row_list;

typedef struct curve_list {
    const curve_line *lines;
    size_t line_count;
} curve_list;

/* RFC 4180: quoted where it must be. */
static void write_csv_text(FILE *to, const char *text) {
    if (strpbrk(text, ",\"\r\n") == NULL) {
        fputs(text, to);
        return;
    }
    fputc('"', to);
    for (; *text != '\0'; text++) {
        if (*text == '"') fputc('"', to);
        fputc(*text, to);
    }
    fputc('"', to);
}

static bool write_csv(FILE *to, const void *what) {
    const row_list *list = what;
    fputs("trace,policy,objective,threads,budget_bytes,requests,object_miss_ratio,byte_miss_ratio,evictions,rejections,"
          "used_bytes,granted_bytes,rss_peak_bytes,requests_per_second,p50_ns,p99_ns,p999_ns,leaks\n",
          to);
    for (size_t i = 0; i < list->row_count; i++) {
        const run_plan *p = &list->rows[i].plan;
        const run_result *r = &list->rows[i].result;
        write_csv_text(to, list->rows[i].trace);
        fprintf(to, ",%s,%s,%u,%llu,%llu,%.6f,%.6f,%llu,%llu,%llu,%llu,%llu,%.0f,%llu,%llu,%llu,%llu\n",
                p->policy->name, p->objective->name, p->thread_count, (unsigned long long)p->budget_bytes,
                (unsigned long long)r->request_count, r->object_miss_ratio, r->byte_miss_ratio,
                (unsigned long long)r->evictions, (unsigned long long)r->rejections, (unsigned long long)r->used_bytes,
                (unsigned long long)r->granted_bytes, (unsigned long long)r->rss_peak_bytes, r->requests_per_second,
                (unsigned long long)r->p50_ns, (unsigned long long)r->p99_ns, (unsigned long long)r->p999_ns,
                (unsigned long long)r->leaks);
    }
    return true;
}

/* A file name is any bytes, JSON is UTF-8: what is not becomes question marks. */
static json_t *json_text(const char *text) {
    json_t *value = json_string(text);
    if (value != NULL) return value;
    char *copy = strdup(text);
    if (copy == NULL) return NULL;
    for (char *p = copy; *p != '\0'; p++)
        if ((unsigned char)*p >= 0x80) *p = '?';
    value = json_string(copy);
    free(copy);
    return value;
}

static json_t *json_row(const row *from) {
    const run_plan *p = &from->plan;
    const run_result *r = &from->result;
    return json_pack("{s:o, s:s, s:s, s:I, s:I, s:I, s:f, s:f, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", //
                     "trace", json_text(from->trace), "policy", p->policy->name, "objective", p->objective->name,  //
                     "threads", (json_int_t)p->thread_count, "budget_bytes", (json_int_t)p->budget_bytes,          //
                     "requests", (json_int_t)r->request_count, "object_miss_ratio", r->object_miss_ratio,
                     "byte_miss_ratio", r->byte_miss_ratio, "evictions", (json_int_t)r->evictions,     //
                     "rejections", (json_int_t)r->rejections, "used_bytes", (json_int_t)r->used_bytes, //
                     "granted_bytes", (json_int_t)r->granted_bytes, "rss_peak_bytes", (json_int_t)r->rss_peak_bytes,
                     "requests_per_second", (json_int_t)llround(r->requests_per_second), //
                     "p50_ns", (json_int_t)r->p50_ns, "p99_ns", (json_int_t)r->p99_ns,   //
                     "p999_ns", (json_int_t)r->p999_ns, "leaks", (json_int_t)r->leaks);
}

static bool write_json(FILE *to, const void *what) {
    const row_list *list = what;
    json_t *array = json_array();
    bool ok = array != NULL;
    for (size_t i = 0; ok && i < list->row_count; i++) ok = json_array_append_new(array, json_row(&list->rows[i])) == 0;
    errno = ENOMEM; /* the only way in which building it fails; writing sets its own */
    ok = ok && json_dumpf(array, to, JSON_INDENT(1) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9)) == 0;
    json_decref(array);
    return ok && fputc('\n', to) != EOF;
}

static bool write_curve_csv(FILE *to, const void *what) {
    const curve_list *curve = what;
    fputs("trace,policy,objective,threads,at_budget_bytes,budget_bytes,predicted_object_miss_ratio,predicted_byte_miss_"
          "ratio,"
          "object_miss_ratio,byte_miss_ratio,weighed_object_miss_ratio,weighed_byte_miss_ratio\n",
          to);
    for (size_t i = 0; i < curve->line_count; i++) {
        const curve_line *line = &curve->lines[i];
        const run_plan *p = &line->from->plan;
        write_csv_text(to, line->from->trace);
        fprintf(to, ",%s,%s,%u,%llu,%zu,%.6f,%.6f,", p->policy->name, p->objective->name, p->thread_count,
                (unsigned long long)p->budget_bytes, line->point->budget_bytes, 1 - line->point->hit_ratio,
                1 - line->point->byte_hit_ratio);
        if (line->measured == NULL) {
            fputs(",,,\n", to);
            continue;
        }
        const run_result *r = &line->measured->result;
        fprintf(to, "%.6f,%.6f,%.6f,%.6f\n", r->object_miss_ratio, r->byte_miss_ratio, line->object_miss_ratio,
                line->byte_miss_ratio);
    }
    return true;
}

bool export_rows(const char *path, export_format format, const row *rows, size_t count) {
    row_list list = {.rows = rows, .row_count = count};
    return output_write(path, format == EXPORT_CSV ? write_csv : write_json, &list);
}

bool export_curve(const char *path, const curve_line *lines, size_t count) {
    curve_list list = {.lines = lines, .line_count = count};
    return output_write(path, write_curve_csv, &list);
}
