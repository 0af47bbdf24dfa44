// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "gnuplot.h"

#include <errno.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROGRAM "gnuplot"

extern char **environ; /* POSIX leaves it to the program to declare it */

static void say(char why[GNUPLOT_WHY_BYTES], const char *what, const char *detail) {
    snprintf(why, GNUPLOT_WHY_BYTES, "%.80s: %.160s", what, detail);
}

/* The whole of a file that the program has written, ended by a 0. NULL: no memory, or it cannot be read. */
static char *read_all(FILE *from) {
    /* The child moved the offset that both share. */
    if (fseek(from, 0, SEEK_END) != 0) return NULL;
    long len = ftell(from);
    if (len < 0) return NULL;
    char *text = malloc((size_t)len + 1);
    if (text == NULL) return NULL;
    rewind(from);
    size_t got = fread(text, 1, (size_t)len, from);
    text[got] = '\0';
    return text;
}

/* Its last line that is not empty: before it stand the place and a caret. */
static void say_last_line(char why[GNUPLOT_WHY_BYTES], const char *what, FILE *errors) {
    char *text = read_all(errors);
    size_t len = text != NULL ? strlen(text) : 0;
    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == ' ')) text[--len] = '\0';
    const char *line = len > 0 ? strrchr(text, '\n') : NULL;
    line = line != NULL ? line + 1 : len > 0 ? text : "it ended with an error and no message";
    while (*line == ' ') line++;
    say(why, what, line);
    free(text);
}

/* Files instead of pipes: nobody waits for a reader, and no signal kills who writes to a program that has ended. */
static bool run(FILE *script, FILE *output, FILE *errors, char why[GNUPLOT_WHY_BYTES]) {
    static char name[] = PROGRAM, defaults[] = "-d";
    char *arguments[] = {name, defaults, NULL}; /* -d: nothing of the user's own settings */
    posix_spawn_file_actions_t actions;
    if (posix_spawn_file_actions_init(&actions) != 0) {
        say(why, "cannot run " PROGRAM, "out of memory");
        return false;
    }
    int error = posix_spawn_file_actions_adddup2(&actions, fileno(script), STDIN_FILENO);
    if (error == 0) error = posix_spawn_file_actions_adddup2(&actions, fileno(output), STDOUT_FILENO);
    if (error == 0) error = posix_spawn_file_actions_adddup2(&actions, fileno(errors), STDERR_FILENO);
    pid_t child;
    if (error == 0) error = posix_spawnp(&child, PROGRAM, &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (error == ENOENT) {
        say(why, PROGRAM " is needed and was not found", "install gnuplot (Debian: gnuplot-nox)");
        return false;
    }
    if (error != 0) {
        say(why, "cannot run " PROGRAM, strerror(error));
        return false;
    }
    int status;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR) {
            say(why, "cannot wait for " PROGRAM, strerror(errno));
            return false;
        }
    if (WIFSIGNALED(status)) {
        say(why, PROGRAM " was ended by a signal", strsignal(WTERMSIG(status)));
        return false;
    }
    if (WEXITSTATUS(status) != 0) {
        say_last_line(why, PROGRAM, errors);
        return false;
    }
    return true;
}

char *gnuplot_run(FILE *script, char why[GNUPLOT_WHY_BYTES]) {
    FILE *output = tmpfile(), *errors = tmpfile();
    char *text = NULL;
    if (output == NULL || errors == NULL) {
        say(why, "cannot make a temporary file", strerror(errno));
    } else {
        rewind(script);
        if (ferror(script))
            say(why, "cannot write a temporary file", strerror(errno));
        else if (run(script, output, errors, why)) {
            text = read_all(output);
            if (text == NULL) say(why, "cannot read what " PROGRAM " wrote", strerror(errno));
        }
    }
    if (output != NULL) fclose(output);
    if (errors != NULL) fclose(errors);
    return text;
}

bool gnuplot_check(char why[GNUPLOT_WHY_BYTES]) {
    FILE *script = tmpfile();
    if (script == NULL) {
        say(why, "cannot make a temporary file", strerror(errno));
        return false;
    }
    fputs("set terminal svg\n", script);
    char *text = gnuplot_run(script, why);
    fclose(script);
    free(text);
    return text != NULL;
}
