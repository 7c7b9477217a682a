/*
 * The origin of the benchmark: answers from memory with one read and one write per request, so that
 * what is measured is the proxy. It reads a whole request body before it answers. It trusts its
 * clients (the proxies under test on loopback) and is of no use for anything else.
 *
 *   origin PROCESSES PORT...
 *
 * The path's first letters choose the answer: /100b, /10kb, /1mb; anything else gets 1 KB with the
 * header fields a web application sends.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_FD = 65536, HEAD_MAX = 16384, SINK = 262144 };

struct answer { const char *path; size_t body; const char *fields; char *bytes; size_t length; };

static struct answer answers[] = {
    {"/100b", 100, "", NULL, 0},
    {"/10kb", 10240, "", NULL, 0},
    {"/1mb", 1048576, "", NULL, 0},
    {"/", 1024,
     "Cache-Control: no-cache, private\r\nVary: Accept-Encoding, Cookie\r\n"
     "ETag: W/\"5f3-1a2b3c4d5e6f\"\r\nX-Content-Type-Options: nosniff\r\n",
     NULL, 0},
};

struct connection {
    char *head;               /* bytes of an unfinished head */
    size_t held;              /* how many */
    size_t body_left;         /* bytes of the request body still to come */
    const struct answer *answer;
    size_t sent;              /* of the answer */
    int writing;              /* waiting for room to write */
};

static struct connection *connections[MAX_FD];
static char sink[SINK];

static void fail(const char *what) { perror(what); exit(1); }

static void build_answers(void) {
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        struct answer *a = &answers[i];
        a->bytes = malloc(a->body + 1024);
        int head = snprintf(a->bytes, 1024,
            "HTTP/1.1 200 OK\r\nServer: origin\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
            "Content-Type: text/plain\r\nContent-Length: %zu\r\n%s\r\n", a->body, a->fields);
        memset(a->bytes + head, 'x', a->body);
        a->length = (size_t)head + a->body;
    }
}

static const struct answer *choose(const char *head) {
    const char *path = strchr(head, ' ');
    size_t last = sizeof answers / sizeof *answers - 1;
    if (path)
        for (size_t i = 0; i < last; i++)
            if (!strncmp(path + 1, answers[i].path, strlen(answers[i].path))) return &answers[i];
    return &answers[last];
}

static size_t content_length(const char *head) {
    const char *line = strcasestr(head, "\ncontent-length:");
    return line ? strtoul(line + 16, NULL, 10) : 0;
}

static void drop(int epoll, int fd) {
    epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL);
    free(connections[fd]->head);
    free(connections[fd]);
    connections[fd] = NULL;
    close(fd);
}

static void watch(int epoll, int fd, struct connection *c, int writing) {
    if (c->writing == writing) return;
    struct epoll_event event = {.events = writing ? EPOLLOUT : EPOLLIN, .data.fd = fd};
    epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event);
    c->writing = writing;
}

/* Sends what is left of the answer; 0 when the connection is over. */
static int answer(int epoll, int fd, struct connection *c) {
    while (c->sent < c->answer->length) {
        ssize_t n = send(fd, c->answer->bytes + c->sent, c->answer->length - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) { watch(epoll, fd, c, 1); return 1; }
        if (n < 0) return 0;
        c->sent += (size_t)n;
    }
    c->answer = NULL;
    c->sent = 0;
    watch(epoll, fd, c, 0);
    return 1;
}

/* Takes what came; 0 when the connection is over. */
static int take(int epoll, int fd, struct connection *c) {
    for (;;) {
        if (c->body_left) {
            ssize_t n = recv(fd, sink, c->body_left < SINK ? c->body_left : SINK, 0);
            if (n < 0 && errno == EAGAIN) return 1;
            if (n <= 0) return 0;
            c->body_left -= (size_t)n;
            if (!c->body_left) return answer(epoll, fd, c);
            continue;
        }
        if (!c->head && !(c->head = malloc(HEAD_MAX + 1))) return 0;
        ssize_t n = recv(fd, c->head + c->held, HEAD_MAX - c->held, 0);
        if (n < 0 && errno == EAGAIN) return 1;
        if (n <= 0) return 0;
        c->held += (size_t)n;
        c->head[c->held] = 0;
        char *end = strstr(c->head, "\r\n\r\n");
        if (!end) { if (c->held >= HEAD_MAX) return 0; return 1; }
        end[2] = 0;
        size_t body = content_length(c->head), here = c->held - (size_t)(end + 4 - c->head);
        c->answer = choose(c->head);
        c->held = 0;
        c->body_left = body > here ? body - here : 0;
        if (!c->body_left) return answer(epoll, fd, c);
    }
}

static void welcome(int epoll, int listener) {
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) return;
        if (fd >= MAX_FD) { close(fd); continue; }
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        connections[fd] = calloc(1, sizeof **connections);
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    }
}

static void serve(const int *listeners, int count) {
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < count; i++) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLEXCLUSIVE, .data.fd = listeners[i]};
        epoll_ctl(epoll, EPOLL_CTL_ADD, listeners[i], &event);
    }
    for (;;) {
        struct epoll_event events[256];
        int n = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            struct connection *c = connections[fd];
            if (!c) { welcome(epoll, fd); continue; }
            int alive = c->writing ? answer(epoll, fd, c) : take(epoll, fd, c);
            if (!alive) drop(epoll, fd);
        }
    }
}

static int listen_on(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 4096)) fail("listen");
    return fd;
}

int main(int argc, char **argv) {
    if (argc < 3) { fprintf(stderr, "usage: origin PROCESSES PORT...\n"); return 2; }
    int listeners[16], count = 0;
    for (int i = 2; i < argc && count < 16; i++) listeners[count++] = listen_on(atoi(argv[i]));
    build_answers();
    signal(SIGPIPE, SIG_IGN);
    for (int i = 1; i < atoi(argv[1]); i++)
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGTERM);
            break;
        }
    serve(listeners, count);
}
