// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "chart.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "axis.h"

/* Pixels of a panel, of which a picture of one trace has only one. The picture scales with its window. */
#define SINGLE_WIDE 960
#define SINGLE_HIGH 600
#define PANEL_WIDE  640
#define PANEL_HIGH  560
#define COLUMNS_MAX 3

#define SINGLE_LEGEND_COLUMNS 4
#define PANEL_LEGEND_COLUMNS  2

/* Colours that people with any kind of colour vision tell apart (Okabe, Ito 2008), and shapes for who prints without. */
static const struct style {
    const char *policy, *colour;
    int point, open_point; /* gnuplot's numbers: full for what was measured, open for what was predicted */
} styles[] = {
    {"slru", "#0072B2", 7, 6},
    {"lru", "#D55E00", 5, 4},
    {"s3fifo", "#009E73", 9, 8},
    {"adaptive", "#A0447C", 13, 12}, /* theirs is #CC79A7, which is too pale for a line on white */
};
#define STYLE_COUNT (sizeof styles / sizeof *styles)

/* What a panel shows of one policy. */
struct series {
    const struct style *style;
    const row **rows; /* by budget, ascending */
    size_t row_count;
    const row *from; /* whose prediction is shown; NULL: none */
};

struct panel {
    const char *trace;
    const run_plan *plan; /* of any row: what all have in common */
    uint64_t request_count;
    struct series series[STYLE_COUNT];
    const row **memory; /* what the series' rows lie in */
    axis x, y;
};

static bool by_bytes(const run_plan *plan) { return plan->objective->objective == NM_OBJECTIVE_BYTES; }

static double measured_of(const row *r) {
    return by_bytes(&r->plan) ? r->result.byte_miss_ratio : r->result.object_miss_ratio;
}

/* A prediction is an estimate, and may lie a little outside of what a ratio can be. */
static double predicted_of(const row *r, const nm_curve_point *point) {
    double miss = 1 - (by_bytes(&r->plan) ? point->byte_hit_ratio : point->hit_ratio);
    return miss < 0 ? 0 : miss > 1 ? 1 : miss;
}

/* ---- the panel ------------------------------------------------------------------------------------------------------ */

static int compare_budgets(const void *a, const void *b) {
    uint64_t x = (*(const row *const *)a)->plan.budget_bytes, y = (*(const row *const *)b)->plan.budget_bytes;
    return (x > y) - (x < y);
}

/* The middle of the budgets that were asked for: its curve reaches far to both sides. */
static const row *middle_curve(const struct series *s) {
    size_t count = 0;
    for (size_t i = 0; i < s->row_count; i++)
        count += !s->rows[i]->plan.for_curve && s->rows[i]->result.curve_count > 0;
    size_t wanted = count / 2;
    for (size_t i = 0; i < s->row_count; i++) {
        if (s->rows[i]->plan.for_curve || s->rows[i]->result.curve_count == 0) continue;
        if (wanted-- == 0) return s->rows[i];
    }
    return NULL;
}

struct bounds {
    double least, most;
};

static void extend(struct bounds *b, double value) {
    b->least = fmin(b->least, value);
    b->most = fmax(b->most, value);
}

static void set_axes(struct panel *p) {
    struct bounds budgets = {INFINITY, 0}, ratios = {INFINITY, 0};
    for (size_t i = 0; i < STYLE_COUNT; i++) {
        const struct series *s = &p->series[i];
        for (size_t k = 0; k < s->row_count; k++) {
            extend(&budgets, (double)s->rows[k]->plan.budget_bytes);
            extend(&ratios, measured_of(s->rows[k]));
        }
        for (size_t k = 0; s->from != NULL && k < s->from->result.curve_count; k++) {
            extend(&budgets, (double)s->from->result.curve[k].budget_bytes);
            extend(&ratios, predicted_of(s->from, &s->from->result.curve[k]));
        }
    }
    axis_bytes(&p->x, budgets.least, budgets.most);
    axis_percent(&p->y, ratios.least, ratios.most);
}

/* Of the `count` rows of one trace. False: no memory. */
static bool fill_panel(struct panel *p, const row *rows, size_t count) {
    *p = (struct panel){.trace = rows->trace, .plan = &rows->plan, .request_count = rows->result.request_count};
    /* An array of pointers is what it is. NOLINTNEXTLINE(bugprone-sizeof-expression) */
    p->memory = calloc(count, sizeof *p->memory);
    if (p->memory == NULL) return false;
    const row **next = p->memory;
    for (size_t i = 0; i < STYLE_COUNT; i++) {
        struct series *s = &p->series[i];
        s->style = &styles[i];
        s->rows = next;
        for (size_t k = 0; k < count; k++)
            if (strcmp(rows[k].plan.policy->name, styles[i].policy) == 0) *next++ = &rows[k];
        s->row_count = (size_t)(next - s->rows);
        /* NOLINTNEXTLINE(bugprone-sizeof-expression) */
        if (s->row_count > 1) qsort(s->rows, s->row_count, sizeof *s->rows, compare_budgets);
        s->from = middle_curve(s);
    }
    set_axes(p);
    return true;
}

/* ---- the script ----------------------------------------------------------------------------------------------------- */

/* The length of a well-formed UTF-8 character of more than one byte; 0: it is none. */
static size_t utf8_length(const unsigned char *c) {
    size_t len = c[0] >= 0xC2 && c[0] <= 0xDF   ? 2
                 : c[0] >= 0xE0 && c[0] <= 0xEF ? 3
                 : c[0] >= 0xF0 && c[0] <= 0xF4 ? 4
                                                : 0;
    for (size_t i = 1; i < len; i++)
        if ((c[i] & 0xC0) != 0x80) return 0;
    bool overlong = (c[0] == 0xE0 && c[1] < 0xA0) || (c[0] == 0xF0 && c[1] < 0x90);
    bool surrogate = c[0] == 0xED && c[1] >= 0xA0;
    bool outside = (c[0] == 0xF4 && c[1] >= 0x90) || (c[0] == 0xEF && c[1] == 0xBF && c[2] >= 0xBE);
    return overlong || surrogate || outside ? 0 : len;
}

/* A file name is any bytes; in a picture, what is no text becomes question marks. Between single quotes, where only the quote
 * itself means something to gnuplot. */
static void write_name(FILE *to, const char *name) {
    fputc('\'', to);
    const unsigned char *c = (const unsigned char *)name;
    while (*c != '\0') {
        size_t len = *c >= 0x80 ? utf8_length(c) : 1;
        if (len == 0 || *c < 0x20 || *c == 0x7F) {
            fputc('?', to);
            c++;
            continue;
        }
        if (*c == '\'') fputc('\'', to);
        fwrite(c, 1, len, to);
        c += len;
    }
    fputc('\'', to);
}

static void write_data(FILE *to, const struct panel *p) {
    for (size_t i = 0; i < STYLE_COUNT; i++) {
        const struct series *s = &p->series[i];
        if (s->row_count > 0) {
            fprintf(to, "$measured%zu << END\n", i);
            for (size_t k = 0; k < s->row_count; k++)
                fprintf(to, "%llu %.6f\n", (unsigned long long)s->rows[k]->plan.budget_bytes,
                        100 * measured_of(s->rows[k]));
            fprintf(to, "END\n");
        }
        if (s->from != NULL) {
            fprintf(to, "$predicted%zu << END\n", i);
            for (size_t k = 0; k < s->from->result.curve_count; k++) {
                const nm_curve_point *point = &s->from->result.curve[k];
                fprintf(to, "%zu %.6f\n", point->budget_bytes, 100 * predicted_of(s->from, point));
            }
            fprintf(to, "END\n");
        }
    }
}

static void write_axis(FILE *to, char name, const axis *a) {
    fprintf(to, "%s logscale %c\nset %crange [%.17g:%.17g]\nset %ctics (", a->log ? "set" : "unset", name, name, a->low,
            a->high, name);
    for (size_t i = 0; i < a->tick_count; i++) {
        const axis_tick *tick = &a->ticks[i];
        /* level 1: a short tick without a grid line */
        fprintf(to, "%s'%s' %.17g %d", i > 0 ? ", " : "", tick->label, tick->at, tick->label[0] == '\0');
    }
    fprintf(to, ") nomirror\n");
}

/* The budget whose caches predicted, if it is the same for all policies; 0: it is not. *any: there is a prediction. */
static uint64_t common_budget(const struct panel *p, bool *any) {
    uint64_t bytes = 0;
    *any = false;
    for (size_t i = 0; i < STYLE_COUNT; i++) {
        if (p->series[i].from == NULL) continue;
        uint64_t own = p->series[i].from->plan.budget_bytes;
        if (*any && own != bytes) return 0;
        *any = true;
        bytes = own;
    }
    return bytes;
}

/* Two labels, for a title of gnuplot's own is centred and of one size. */
static void write_title(FILE *to, const struct panel *p) {
    char count[UNITS_TEXT_BYTES], bytes[UNITS_TEXT_BYTES];
    fputs("set label 1 'Miss ratio by cache budget: '.", to);
    write_name(to, p->trace);
    fputs(" at graph 0, graph 1 offset 0, 3.2 left noenhanced font ',17'\n", to);
    fprintf(to, "set label 2 '%s requests, %u %s, objective %s", units_rate(count, (double)p->request_count),
            p->plan->thread_count, p->plan->thread_count == 1 ? "thread" : "threads", p->plan->objective->name);
    bool any;
    uint64_t from = common_budget(p, &any);
    if (from != 0)
        fprintf(to, "; predicted by the cache of %s", units_bytes(bytes, from));
    else if (any)
        fputs("; predicted by the cache of the middle budget", to);
    fputs("' at graph 0, graph 1 offset 0, 1.6 left noenhanced textcolor '#555555'\n", to);
}

/* The legend's lines stand below the panel in as many columns as find room, filled from top to bottom. */
static void write_legend(FILE *to, const struct panel *p, size_t columns) {
    size_t entries = 0;
    for (size_t i = 0; i < STYLE_COUNT; i++)
        entries += (size_t)(p->series[i].row_count > 0) + (size_t)(p->series[i].from != NULL);
    size_t lines = (entries + columns - 1) / columns;
    fprintf(to, "set key below horizontal Left reverse maxcols %zu maxrows %zu samplen 3 spacing 1.3\n", columns,
            lines);
    fprintf(to, "set bmargin %.1f\n", 4.2 + 1.4 * (double)lines);
}

static void write_plot(FILE *to, const struct panel *p) {
    const char *before = "plot";
    for (size_t i = 0; i < STYLE_COUNT; i++) {
        const struct series *s = &p->series[i];
        if (s->row_count == 0) continue;
        fprintf(to, "%s $measured%zu using 1:2 with linespoints lw 2 lc '%s' pt %d ps 0.9 title '%s'", before, i,
                s->style->colour, s->style->point, s->style->policy);
        before = ",";
        if (s->from == NULL) continue;
        fprintf(to,
                ", $predicted%zu using 1:2 with linespoints lw 1.5 dt '-' lc '%s' pt %d ps 0.7 title '%s, predicted'",
                i, s->style->colour, s->style->open_point, s->style->policy);
    }
    fputc('\n', to);
}

static void write_panel(FILE *to, const struct panel *p, size_t legend_columns) {
    write_data(to, p);
    write_legend(to, p, legend_columns);
    write_title(to, p);
    write_axis(to, 'x', &p->x);
    write_axis(to, 'y', &p->y);
    fprintf(to, "set xlabel 'cache budget, bytes%s'\n", p->x.log ? " (logarithmic)" : "");
    fprintf(to, "set ylabel '%s'\n",
            by_bytes(p->plan) ? "byte miss ratio, % of bytes requested" : "object miss ratio, % of requests");
    write_plot(to, p);
}

static void write_head(FILE *to, size_t panel_count) {
    size_t columns = 1;
    while (columns < COLUMNS_MAX && columns * columns < panel_count) columns++;
    size_t lines = (panel_count + columns - 1) / columns;
    size_t wide = panel_count == 1 ? SINGLE_WIDE : columns * PANEL_WIDE;
    size_t high = panel_count == 1 ? SINGLE_HIGH : lines * PANEL_HIGH;
    fprintf(to,
            "set terminal svg size %zu,%zu dynamic rounded background '#FFFFFF' font 'sans-serif,13'\n"
            "set encoding utf8\n"
            "set border 3 lw 1 lc '#444444'\n"
            "set grid xtics ytics back lt 1 lw 0.7 lc '#DDDDDD'\n"
            "set tmargin 5\n"
            "set multiplot layout %zu,%zu\n",
            wide, high, lines, columns);
}

/* ---- the picture ---------------------------------------------------------------------------------------------------- */

static size_t rows_of_trace(const row *rows, size_t row_count) {
    size_t count = 1;
    while (count < row_count && rows[count].trace == rows->trace) count++;
    return count;
}

/* False: no memory. */
static bool write_script(FILE *to, const row *rows, size_t row_count) {
    size_t panel_count = 0;
    for (size_t i = 0; i < row_count; i += rows_of_trace(rows + i, row_count - i)) panel_count++;
    write_head(to, panel_count);
    for (size_t i = 0; i < row_count;) {
        size_t count = rows_of_trace(rows + i, row_count - i);
        struct panel p;
        if (!fill_panel(&p, rows + i, count)) return false;
        write_panel(to, &p, panel_count == 1 ? SINGLE_LEGEND_COLUMNS : PANEL_LEGEND_COLUMNS);
        free(p.memory);
        i += count;
    }
    fputs("unset multiplot\n", to);
    return true;
}

/* gnuplot calls each of its pictures "Gnuplot", which is what a screen reader would read out. */
static char *name_picture(char *svg) {
    static const char theirs[] = "<title>Gnuplot</title>", ours[] = "<title>Miss ratio by cache budget</title>";
    char *at = strstr(svg, theirs);
    if (at == NULL) return svg;
    size_t len = strlen(svg), before = (size_t)(at - svg), after = before + sizeof theirs - 1;
    char *named = malloc(len - (sizeof theirs - 1) + sizeof ours);
    if (named == NULL) return svg;
    memcpy(named, svg, before);
    memcpy(named + before, ours, sizeof ours - 1);
    memcpy(named + before + sizeof ours - 1, svg + after, len - after + 1);
    free(svg);
    return named;
}

char *chart_draw(const row *rows, size_t row_count, char why[GNUPLOT_WHY_BYTES]) {
    if (row_count == 0) {
        snprintf(why, GNUPLOT_WHY_BYTES, "there is nothing to draw: no run came to its end");
        return NULL;
    }
    FILE *script = tmpfile();
    if (script == NULL) {
        snprintf(why, GNUPLOT_WHY_BYTES, "cannot make a temporary file: %s", strerror(errno));
        return NULL;
    }
    char *svg = NULL;
    if (!write_script(script, rows, row_count))
        snprintf(why, GNUPLOT_WHY_BYTES, "out of memory");
    else
        svg = gnuplot_run(script, why);
    fclose(script);
    if (svg != NULL && strstr(svg, "</svg>") == NULL) {
        snprintf(why, GNUPLOT_WHY_BYTES, "gnuplot wrote no whole picture");
        free(svg);
        return NULL;
    }
    return svg != NULL ? name_picture(svg) : NULL;
}
