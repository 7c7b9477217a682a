/*
 * A client that sends requests at a fixed rate and measures each from the moment it was due, so that
 * a proxy that stalls is charged for every request that had to wait.
 *
 *   pace PORT RATE SECONDS CONNECTIONS FILE
 *
 * FILE holds whole requests, each after a line with its length in bytes; they are sent in turn.
 * Prints one JSON object: requests done, errors, and latencies in microseconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { MAX_CONNECTIONS = 4096, MAX_REQUESTS = 4096, ROOM = 262144, HEAD_MAX = 16384, TIMER = -1 };

struct request { char *bytes; size_t length; };
struct connection {
    int fd, busy, writing;
    const struct request *request;
    size_t sent;
    int64_t due, body_left;   /* body_left is negative until the head is read */
    size_t held;
    char head[HEAD_MAX + 1];
};

static struct request requests[MAX_REQUESTS];
static struct connection connections[MAX_CONNECTIONS];
static int idle[MAX_CONNECTIONS], idle_first, idle_count, connection_count, epoll_fd;
static uint32_t *latencies;
static size_t done, capacity, errors;
static char room[ROOM];

static void fail(const char *what) { perror(what); exit(1); }

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static size_t read_requests(const char *name) {
    FILE *file = fopen(name, "rb");
    size_t count = 0, length;
    if (!file) fail(name);
    while (count < MAX_REQUESTS && fscanf(file, "%zu", &length) == 1) {
        fgetc(file);
        requests[count].bytes = malloc(length);
        requests[count].length = length;
        if (fread(requests[count++].bytes, 1, length, file) != length) fail("short file");
    }
    fclose(file);
    return count;
}

static void open_connection(int index, int port) {
    struct connection *c = &connections[index];
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(c->fd, (struct sockaddr *)&at, sizeof at)) fail("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = index};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event);
    idle[(idle_first + idle_count++) % connection_count] = index;
}

static void watch(int index, int writing) {
    struct connection *c = &connections[index];
    if (c->writing == writing) return;
    struct epoll_event event = {.events = EPOLLIN | (writing ? EPOLLOUT : 0u), .data.fd = index};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event);
    c->writing = writing;
}

static void push(int index) {
    struct connection *c = &connections[index];
    while (c->sent < c->request->length) {
        ssize_t n = send(c->fd, c->request->bytes + c->sent, c->request->length - c->sent,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0) { watch(index, errno == EAGAIN); return; }
        c->sent += (size_t)n;
    }
    watch(index, 0);
}

static void begin(int64_t due, const struct request *request) {
    int index = idle[idle_first];
    struct connection *c = &connections[index];
    idle_first = (idle_first + 1) % connection_count;
    idle_count--;
    c->busy = 1;
    c->request = request;
    c->sent = c->held = 0;
    c->body_left = -1;
    c->due = due;
    push(index);
}

static void finish(int index) {
    struct connection *c = &connections[index];
    if (done < capacity) latencies[done++] = (uint32_t)((now_ns() - c->due) / 1000);
    c->busy = 0;
    idle[(idle_first + idle_count++) % connection_count] = index;
}

/* 0 when the connection is lost. */
static int take(int index) {
    struct connection *c = &connections[index];
    for (;;) {
        if (c->body_left > 0 || !c->busy) {
            ssize_t n = recv(c->fd, room, ROOM, MSG_DONTWAIT);
            if (n < 0 && errno == EAGAIN) return 1;
            if (n <= 0 || !c->busy) return 0;
            c->body_left -= n;
        } else {
            ssize_t n = recv(c->fd, c->head + c->held, HEAD_MAX - c->held, MSG_DONTWAIT);
            if (n < 0 && errno == EAGAIN) return 1;
            if (n <= 0) return 0;
            c->held += (size_t)n;
            c->head[c->held] = 0;
            char *end = strstr(c->head, "\r\n\r\n");
            if (!end) { if (c->held == HEAD_MAX) return 0; continue; }
            if (strncmp(c->head, "HTTP/1.1 2", 10)) errors++;
            char *length = strcasestr(c->head, "\ncontent-length:");
            c->body_left = (length ? strtoll(length + 16, NULL, 10) : 0) -
                           (int64_t)(c->held - (size_t)(end + 4 - c->head));
        }
        if (c->body_left <= 0) { finish(index); return 1; }
    }
}

static int ascending(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static uint32_t quantile(double share) {
    return done ? latencies[(size_t)((double)(done - 1) * share)] : 0;
}

int main(int argc, char **argv) {
    if (argc != 6) { fprintf(stderr, "usage: pace PORT RATE SECONDS CONNECTIONS FILE\n"); return 2; }
    double rate = atof(argv[2]), seconds = atof(argv[3]);
    connection_count = atoi(argv[4]) < MAX_CONNECTIONS ? atoi(argv[4]) : MAX_CONNECTIONS;
    size_t kinds = read_requests(argv[5]), total = (size_t)(rate * seconds), sent = 0;
    capacity = total;
    latencies = calloc(total + 1, sizeof *latencies);
    prctl(PR_SET_TIMERSLACK, 1);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < connection_count; i++) open_connection(i, atoi(argv[1]));
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event tick = {.events = EPOLLIN, .data.fd = TIMER};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer, &tick);

    int64_t start = now_ns() + 10000000, armed = 0;
    /* What is not answered a few seconds after the last was due counts as an error. */
    int64_t give_up = start + (int64_t)((seconds + 5) * 1e9);
    while (done < total && now_ns() < give_up) {
        while (sent < total && idle_count) {
            int64_t due = start + (int64_t)((double)sent * 1e9 / rate);
            if (due > now_ns()) {
                if (armed != due) {
                    struct itimerspec at = {.it_value = {due / 1000000000, due % 1000000000}};
                    timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
                    armed = due;
                }
                break;
            }
            begin(due, &requests[sent++ % kinds]);
        }
        struct epoll_event events[256];
        int n = epoll_wait(epoll_fd, events, 256, 100);
        for (int i = 0; i < n; i++) {
            int index = events[i].data.fd;
            uint64_t expirations;
            if (index == TIMER) {
                if (read(timer, &expirations, sizeof expirations) < 0) continue;
                continue;
            }
            if (events[i].events & EPOLLOUT) push(index);
            if ((events[i].events & ~(uint32_t)EPOLLOUT) && !take(index)) {
                fprintf(stderr, "connection lost\n");
                return 1;
            }
        }
    }
    errors += total - done;
    qsort(latencies, done, sizeof *latencies, ascending);
    printf("{\"requests\": %zu, \"errors\": %zu, \"p50_us\": %u, \"p90_us\": %u, \"p99_us\": %u, "
           "\"p999_us\": %u, \"max_us\": %u}\n",
           done, errors, quantile(0.5), quantile(0.9), quantile(0.99), quantile(0.999), quantile(1));
    return 0;
}
