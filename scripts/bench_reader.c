/* Reads files as a training job would, cheaply enough not to be what is measured.
 *
 *   bench_reader --threads N [--block BYTES] [--drop] LIST
 *
 * LIST is a file of paths, one a line. Each thread takes the next path, opens it, reads it to its
 * end and closes it. With --drop nothing is read: the kernel is told to forget its pages of each
 * file. Prints one line of JSON: seconds, files, bytes, the median and 99th percentile of the seconds
 * of a file. Ends with 1, and the first error, where a file could not be read. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char **paths;
static double *latencies;
static size_t count, block = 1 << 20;
static bool drop;
static atomic_size_t next_path;
static atomic_ullong total;

static void fail(const char *what) { perror(what); exit(1); }

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void read_file(const char *path, char *buffer)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = 0;
    if (fd < 0) fail(path);
    if (drop) posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    else
        while ((n = read(fd, buffer, block)) > 0) total += (unsigned long long)n;
    if (n < 0) fail(path);
    close(fd);
}

static void *work(void *unused)
{
    char *buffer = malloc(block);
    if (!buffer) fail("malloc");
    for (size_t i; (i = next_path++) < count;) {
        double started = now();
        read_file(paths[i], buffer);
        latencies[i] = now() - started;
    }
    free(buffer);
    return unused;
}

static void load_paths(const char *list)
{
    FILE *file = fopen(list, "r");
    size_t room = 0;
    char *line = NULL;
    ssize_t length;
    if (!file) fail(list);
    for (size_t size = 0; (length = getline(&line, &room, file)) > 0; line = NULL, room = 0) {
        if (line[length - 1] == '\n') line[length - 1] = 0;
        if (count == size) paths = realloc(paths, (size = size ? 2 * size : 1024) * sizeof *paths);
        if (!paths) fail("realloc");
        paths[count++] = line;
    }
    fclose(file);
    if (!(latencies = calloc(count + 1, sizeof *latencies))) fail("calloc");
}

static int by_size(const void *a, const void *b)
{
    double difference = *(const double *)a - *(const double *)b;
    return (difference > 0) - (difference < 0);
}

int main(int argc, char **argv)
{
    static const struct option names[] = {{"threads", 1, 0, 't'}, {"block", 1, 0, 'b'}, {"drop", 0, 0, 'd'}, {0}};
    size_t threads = 1;
    for (int letter; (letter = getopt_long(argc, argv, "", names, NULL)) != -1;) switch (letter) {
        case 't': threads = strtoul(optarg, NULL, 10); break;
        case 'b': block = strtoul(optarg, NULL, 10); break;
        case 'd': drop = true; break;
        default: return 2;
    }
    if (optind + 1 != argc || !threads || !block) return 2;
    load_paths(argv[optind]);
    pthread_t workers[threads];
    double started = now();
    for (size_t i = 0; i < threads; i++)
        if ((errno = pthread_create(&workers[i], NULL, work, NULL))) fail("pthread_create");
    for (size_t i = 0; i < threads; i++) pthread_join(workers[i], NULL);
    double seconds = now() - started;
    qsort(latencies, count, sizeof *latencies, by_size);
    printf("{\"seconds\": %.6f, \"files\": %zu, \"bytes\": %llu, \"median_seconds\": %.6f, \"p99_seconds\": %.6f}\n",
           seconds, count, (unsigned long long)total, latencies[count / 2], latencies[count * 99 / 100]);
}
