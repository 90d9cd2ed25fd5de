/* load PATH CONNECTIONS MILLISECONDS TARGET
 *
 * Sends one request after the other on each of so many connections to the Unix socket PATH, for so
 * long, and prints how many were answered with status 200, and the bytes of their bodies. Written
 * in C so that the client takes as little as possible of the cores that are shared. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 1024, HEAD = 16384, CHUNK = 262144 };

struct connection {
    int socket;
    size_t have;         /* bytes of the head so far */
    long long left;      /* bytes of the body to come; -1: the head is not complete */
    char head[HEAD];
};

static struct connection connections[MOST];
static char request[1024], buffer[CHUNK];
static size_t request_size;
static long long answered, bytes;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void ask(struct connection *c) {
    c->have = 0;
    c->left = -1;
    if (write(c->socket, request, request_size) != (ssize_t)request_size) fail("write");
}

static void finish(struct connection *c) {
    answered++;
    ask(c);
}

static void take_head(struct connection *c, size_t size) {
    char *end, *length;
    c->have += size;
    c->head[c->have] = 0;
    if (!(end = strstr(c->head, "\r\n\r\n"))) return;
    if (strncmp(c->head, "HTTP/1.1 200 ", 13)) {
        fprintf(stderr, "not answered with 200: %.300s\n", c->head);
        exit(1);
    }
    length = strcasestr(c->head, "\r\ncontent-length:");
    if (!length || length > end) {
        fprintf(stderr, "no content-length: %.300s\n", c->head);
        exit(1);
    }
    long long body = c->have - (end + 4 - c->head);
    bytes += body;
    c->left = atoll(length + 17) - body;
    if (!c->left) finish(c);
}

static void readable(struct connection *c) {
    ssize_t size;
    if (c->left < 0) {
        size = read(c->socket, c->head + c->have, HEAD - 1 - c->have);
        if (size <= 0) fail("read");
        take_head(c, size);
    } else {
        size = read(c->socket, buffer, CHUNK);
        if (size <= 0) fail("read");
        bytes += size;
        c->left -= size;
        if (!c->left) finish(c);
    }
}

int main(int count, char **words) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct epoll_event events[64];
    if (count != 5) return 2;
    int wanted = atoi(words[2]), poller = epoll_create1(0);
    double end = now() + atoi(words[3]) / 1e3;
    request_size = snprintf(request, sizeof request,
        "GET %s HTTP/1.1\r\nHost: bench\r\nUser-Agent: load\r\nAccept: */*\r\n\r\n", words[4]);
    strncpy(address.sun_path, words[1], sizeof address.sun_path - 1);
    for (int i = 0; i < wanted && i < MOST; i++) {
        struct connection *c = &connections[i];
        c->socket = socket(AF_UNIX, SOCK_STREAM, 0);
        if (connect(c->socket, (struct sockaddr *)&address, sizeof address)) fail("connect");
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(poller, EPOLL_CTL_ADD, c->socket, &event);
        ask(c);
    }
    double begin = now();
    while (now() < end) {
        int ready = epoll_wait(poller, events, 64, 100);
        for (int i = 0; i < ready; i++) readable(events[i].data.ptr);
    }
    printf("%lld %lld %.6f\n", answered, bytes, now() - begin);
    return 0;
}
