/* A network link for the benchmark: a TCP proxy on loopback with a delay and a rate.
 *
 *   link_proxy PORT SERVER_PORT DELAY_MICROSECONDS RATE_BYTES COUNTERS_FILE
 *
 * The delay is that of one way; the rate is bytes a second in each direction, shared by all
 * connections, 0 for no limit. Port 0 takes a free one; "listening on PORT" is printed when it does.
 * The file is kept mapped and holds five 64-bit counters in the machine's order: bytes to the server,
 * bytes to the clients, connections, requests (reads from a client that begin like one of HTTP),
 * connections that are open. They start where the file has them.
 *
 * The model, the same for each direction: blocks are taken in turn from the connections that have
 * bytes, and pass one after the other at the rate; each arrives the delay after its last byte has
 * passed. Nothing waits for that but what is behind it on its own connection, so any number of bytes
 * is under way. At most QUEUE of bytes wait to pass; beyond that senders find their sockets full.
 * What a client sends is first taken a round trip after it connected, as if it had waited for the
 * handshake. Slow start, loss and headers are not modelled.
 *
 * One thread, edge-triggered epoll, one timer. Blocks of a lane arrive in the order in which they
 * were taken, so queues are plain lists. It ends with the process that started it. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <unistd.h>

enum { BLOCK = 128 * 1024, AT_ONCE = 16, EVENTS = 256 };
enum { UP, DOWN };                   /* the lanes; also the sockets of the client and the server */
#define SECOND 1000000000ULL
#define QUEUE 4000000ULL             /* nanoseconds of bytes that a router would hold */
#define SLACK 50000ULL               /* so many nanoseconds too early is near enough */
#define NEVER UINT64_MAX

struct block {
    struct block *next;
    struct stream *stream;
    uint64_t due;
    uint32_t length, sent;           /* a length of 0 is the end of the stream */
    unsigned char bytes[BLOCK];
};
struct blocks { struct block *first, *last; };

struct stream {                      /* one direction of one connection */
    struct connection *owner;
    struct stream *next;             /* in its lane */
    struct blocks arrived;           /* what the receiver's socket did not take yet */
    uint64_t held;                   /* bytes taken in and not sent on */
    int lane;
    bool readable, writable, listed, ended, shut;
};

struct connection {
    int sockets[2];
    struct stream streams[2];        /* by the socket that they come from */
    struct connection *next;         /* among those that shake hands, later among the dead */
    uint64_t open_at;
    unsigned references;             /* from blocks under way and from lanes */
    bool opening, dead;
};

struct lane {
    uint64_t free_at;                /* when all that was taken will have passed */
    struct stream *first, *last;     /* those that have bytes to take */
    struct blocks flying;
};

static struct lane lanes[2];
static struct { uint64_t bytes[2], connections, requests, open; } *counters;
static struct block *spare;
static struct connection *opening_first, *opening_last, *dead;
static uint64_t delay, rate, room = 4 << 20;
static int poller, server_port;

static void fail(const char *what) { perror(what); exit(1); }

static uint64_t clock_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static struct block *new_block(void)
{
    struct block *b = spare;
    if (b) spare = b->next;
    else if (!(b = malloc(sizeof *b))) fail("malloc");
    b->sent = 0;
    return b;
}

static void free_block(struct block *b) { b->next = spare; spare = b; }

static void push_block(struct blocks *list, struct block *b)
{
    b->next = NULL;
    if (list->first) list->last->next = b; else list->first = b;
    list->last = b;
}

static struct block *pop_block(struct blocks *list)
{
    struct block *b = list->first;
    list->first = b->next;
    return b;
}

static void list_stream(struct stream *s)
{
    struct lane *lane = &lanes[s->lane];
    struct connection *c = s->owner;
    if (s->listed || s->ended || !s->readable || s->held >= room || c->opening || c->dead) return;
    s->listed = true;
    c->references++;
    s->next = NULL;
    if (lane->first) lane->last->next = s; else lane->first = s;
    lane->last = s;
}

static struct stream *unlist_stream(struct lane *lane)
{
    struct stream *s = lane->first;
    lane->first = s->next;
    s->listed = false;
    s->owner->references--;
    return s;
}

static void close_connection(struct connection *c, bool reset)
{
    struct linger at_once = {1, 0};
    if (c->dead) return;
    c->dead = true;
    counters->open--;
    for (int side = 0; side < 2; side++) {
        if (reset) setsockopt(c->sockets[side], SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        close(c->sockets[side]);
    }
    /* One that still shakes hands is in that list, and is buried when it leaves it. */
    if (!c->opening) { c->next = dead; dead = c; }
}

/* Free what is dead and referred to by nothing. */
static void bury(void)
{
    for (struct connection **place = &dead, *c; (c = *place);) {
        if (c->references) { place = &c->next; continue; }
        *place = c->next;
        for (int side = 0; side < 2; side++)
            while (c->streams[side].arrived.first) free_block(pop_block(&c->streams[side].arrived));
        free(c);
    }
}

static void finish_handshakes(uint64_t now)
{
    for (struct connection *c; (c = opening_first) && c->open_at <= now + SLACK;) {
        opening_first = c->next;
        c->opening = false;
        if (c->dead) { c->next = dead; dead = c; }
        else for (int side = 0; side < 2; side++) list_stream(&c->streams[side]);
    }
}

static bool begins_a_request(const struct block *b)
{
    return b->length >= 5 && memmem("GET /PUT /HEAD POST DELET", 25, b->bytes, 5);
}

static void launch(struct stream *s, struct block *b, uint64_t now)
{
    struct lane *lane = &lanes[s->lane];
    if (lane->free_at < now) lane->free_at = now;
    if (rate) lane->free_at += b->length * SECOND / rate;
    b->due = lane->free_at + delay;
    b->stream = s;
    s->held += b->length;
    s->owner->references++;
    push_block(&lane->flying, b);
    counters->bytes[s->lane] += b->length;
    if (s->lane == UP && begins_a_request(b)) counters->requests++;
}

static void take_block(struct stream *s, uint64_t now)
{
    struct block *b = new_block();
    ssize_t n = recv(s->owner->sockets[s->lane], b->bytes, BLOCK, 0);
    if (n < 0) {
        free_block(b);
        if (errno == EAGAIN) s->readable = false;
        else if (errno != EINTR) close_connection(s->owner, true);
    } else {
        b->length = (uint32_t)n;
        s->ended = n == 0;
        launch(s, b, now);
    }
    list_stream(s);
}

static void take_in(struct lane *lane, uint64_t now)
{
    while (lane->first && !(rate && lane->free_at > now + QUEUE)) {
        struct stream *s = unlist_stream(lane);
        if (!s->owner->dead) take_block(s, now);
    }
}

static void end_stream(struct stream *s)
{
    struct connection *c = s->owner;
    free_block(pop_block(&s->arrived));
    s->shut = true;
    if (c->streams[!s->lane].shut) close_connection(c, false);
    else shutdown(c->sockets[!s->lane], SHUT_WR);
}

static void drop_sent(struct stream *s, size_t sent)
{
    s->held -= sent;
    while (sent > 0) {
        struct block *b = s->arrived.first;
        size_t part = b->length - b->sent < sent ? b->length - b->sent : sent;
        b->sent += (uint32_t)part;
        sent -= part;
        if (b->sent == b->length) free_block(pop_block(&s->arrived));
    }
}

static void send_arrived(struct stream *s)
{
    struct connection *c = s->owner;
    while (!c->dead && s->writable && s->arrived.first) {
        struct iovec parts[AT_ONCE];
        struct msghdr message = {.msg_iov = parts};
        for (struct block *b = s->arrived.first; b && b->length && message.msg_iovlen < AT_ONCE; b = b->next)
            parts[message.msg_iovlen++] = (struct iovec){b->bytes + b->sent, b->length - b->sent};
        if (!message.msg_iovlen) { end_stream(s); return; }
        ssize_t n = sendmsg(c->sockets[!s->lane], &message, MSG_NOSIGNAL);
        if (n >= 0) drop_sent(s, (size_t)n);
        else if (errno == EAGAIN) s->writable = false;
        else if (errno != EINTR) close_connection(c, true);
    }
    list_stream(s);
}

static void deliver(struct lane *lane, uint64_t now)
{
    while (lane->flying.first && lane->flying.first->due <= now + SLACK) {
        struct block *b = pop_block(&lane->flying), *next = lane->flying.first;
        struct stream *s = b->stream;
        s->owner->references--;
        push_block(&s->arrived, b);
        /* Neighbours of one stream go out in one call. */
        if (!next || next->stream != s || next->due > now + SLACK) send_arrived(s);
    }
}

static uint64_t next_moment(void)
{
    uint64_t moment = opening_first ? opening_first->open_at : NEVER;
    for (struct lane *lane = lanes; lane < lanes + 2; lane++) {
        /* Blocks are taken in some at a time, when half of the queue has passed. */
        uint64_t refill = lane->first ? lane->free_at - (rate ? QUEUE / 2 : 0) : NEVER;
        uint64_t due = lane->flying.first ? lane->flying.first->due : NEVER;
        if (refill < moment) moment = refill;
        if (due < moment) moment = due;
    }
    return moment;
}

static struct sockaddr_in loopback(int port)
{
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

/* The lowest bit of the pointer says which socket an event is of. */
static void watch(int fd, void *pointer, uint32_t events, int side)
{
    struct epoll_event event = {.events = events, .data.u64 = (uintptr_t)pointer | (unsigned)side};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event)) fail("epoll_ctl");
}

static void open_connection(int client)
{
    struct sockaddr_in address = loopback(server_port);
    struct connection *c = calloc(1, sizeof *c);
    int one = 1;
    if (!c) fail("calloc");
    c->sockets[0] = client;
    c->sockets[1] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    c->opening = true;
    c->open_at = clock_now() + 2 * delay;
    if (opening_first) opening_last->next = c; else opening_first = c;
    opening_last = c;
    /* A server that refuses shows as an event of the socket. */
    connect(c->sockets[1], (struct sockaddr *)&address, sizeof address);
    counters->connections++;
    counters->open++;
    for (int side = 0; side < 2; side++) {
        c->streams[side].owner = c;
        c->streams[side].lane = side;
        setsockopt(c->sockets[side], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        watch(c->sockets[side], c, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, side);
    }
}

static void on_event(struct connection *c, int side, uint32_t events)
{
    struct stream *in = &c->streams[side], *out = &c->streams[!side];
    if (events & EPOLLERR) close_connection(c, true);
    if (c->dead) return;
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP)) in->readable = true;
    list_stream(in);
    if (events & EPOLLOUT) { out->writable = true; send_arrived(out); }
}

static int open_listener(int port)
{
    struct sockaddr_in address = loopback(port);
    socklen_t length = sizeof address;
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address, length) || listen(fd, 1024)) fail("listen");
    getsockname(fd, (struct sockaddr *)&address, &length);
    printf("listening on %d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static void map_counters(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, sizeof *counters)) fail(path);
    counters = mmap(NULL, sizeof *counters, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (counters == MAP_FAILED) fail("mmap");
    counters->open = 0;
}

static void turn(int listener, int timer)
{
    static uint64_t is_set = NEVER;
    struct epoll_event events[EVENTS];
    uint64_t now = clock_now(), moment;
    finish_handshakes(now);
    for (int i = 0; i < 2; i++) { take_in(&lanes[i], now); deliver(&lanes[i], now); }
    bury();
    moment = next_moment();
    if (moment != is_set && moment != NEVER) {
        struct itimerspec when = {.it_value = {(time_t)(moment / SECOND), (long)(moment % SECOND)}};
        timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
    }
    is_set = moment;
    int count = epoll_wait(poller, events, EVENTS, -1);
    for (int i = 0; i < count; i++) {
        void *pointer = (void *)(uintptr_t)(events[i].data.u64 & ~1ULL);
        if (pointer) on_event(pointer, (int)(events[i].data.u64 & 1), events[i].events);
        else if (events[i].data.u64)
            for (int client; (client = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;)
                open_connection(client);
    }
}

int main(int argc, char **argv)
{
    struct rlimit descriptors;
    if (argc != 6) { fputs("usage: link_proxy PORT SERVER_PORT DELAY RATE COUNTERS_FILE\n", stderr); return 2; }
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    getrlimit(RLIMIT_NOFILE, &descriptors);
    descriptors.rlim_cur = descriptors.rlim_max;
    setrlimit(RLIMIT_NOFILE, &descriptors);
    /* A link does not wait for a core; where that is not allowed, it does. */
    setpriority(PRIO_PROCESS, 0, -10);
    server_port = atoi(argv[2]);
    delay = strtoull(argv[3], NULL, 10) * 1000;
    rate = strtoull(argv[4], NULL, 10);
    /* A connection may hold twice the bandwidth times the round trip, and 4 MiB. */
    room += 4 * (rate / 1000000) * (delay / 1000);
    map_counters(argv[5]);
    poller = epoll_create1(EPOLL_CLOEXEC);
    int listener = open_listener(atoi(argv[1]));
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    watch(timer, NULL, EPOLLIN | EPOLLET, 0);
    watch(listener, NULL, EPOLLIN, 1);
    for (;;) turn(listener, timer);
}
