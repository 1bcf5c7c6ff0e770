/* What the kernel allows: the cheapest multicast sender and receiver that C can make.
 *
 *   limit send ADDRESS GROUP PORT SIZE SECONDS      sendmmsg(2), 64 numbered datagrams a call
 *   limit receive ADDRESS GROUP PORT                recvmmsg(2), packet info and time stamps,
 *                                                   counting gaps and jitter, until SIGTERM
 *   limit ask ADDRESS GROUP PORT KIND NUMBER       one request in flight, the next when it is
 *                                                   answered; KIND is probe, sockperf or plain
 * ADDRESS is that of the interface. The sender prints datagrams and seconds, the asker the median
 * and the 99th percentile of its round trips in nanoseconds, and how many had no answer. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 64, TAKEN = 256, SLOT = 2048, CONTROL = 128 };

static long long now_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int udp(const char *address, const char *group, const char *port, struct sockaddr_in *to)
{
    struct in_addr own;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    inet_aton(address, &own);
    memset(to, 0, sizeof *to);
    to->sin_family = AF_INET;
    to->sin_port = htons(atoi(port));
    inet_aton(group, &to->sin_addr);
    setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &own, sizeof own);
    return fd;
}

static int send_all(int fd, struct sockaddr_in *to, int size, double seconds)
{
    char *data = calloc(BATCH, size);
    struct iovec parts[BATCH];
    struct mmsghdr messages[BATCH];
    unsigned number = 0;
    long long began = now_ns(CLOCK_MONOTONIC), end = began + (long long)(seconds * 1e9);
    memset(messages, 0, sizeof messages);
    for (int i = 0; i < BATCH; i++) {
        parts[i] = (struct iovec){data + i * size, size};
        messages[i].msg_hdr.msg_iov = &parts[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    if (connect(fd, (struct sockaddr *)to, sizeof *to))
        return perror("connect"), 1;
    while (now_ns(CLOCK_MONOTONIC) < end) {
        long long stamp = now_ns(CLOCK_REALTIME);
        for (int i = 0; i < BATCH; i++) {
            unsigned wire = htonl(number++);
            memcpy(data + i * size, &wire, 4);
            memcpy(data + i * size + 8, &stamp, 8);
        }
        if (sendmmsg(fd, messages, BATCH, 0) < 0)
            return perror("sendmmsg"), 1;
    }
    printf("%u %.6f\n", number, (now_ns(CLOCK_MONOTONIC) - began) / 1e9);
    return 0;
}

static int receive_all(int fd, const char *address, struct sockaddr_in *to)
{
    static char data[TAKEN][SLOT], control[TAKEN][CONTROL];
    static struct sockaddr_in names[TAKEN];
    static struct iovec parts[TAKEN];
    static struct mmsghdr messages[TAKEN];
    int one = 1, space = 16 << 20;
    unsigned expected = 0;
    long lost = 0;
    long long last = 0;
    double jitter = 0;
    struct ip_mreq join = {.imr_multiaddr = to->sin_addr};
    inet_aton(address, &join.imr_interface);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &space, sizeof space);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &space, sizeof space);
    setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_RXQ_OVFL, &one, sizeof one);
    setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)to, sizeof *to) ||
        setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &join, sizeof join))
        return perror("join"), 1;
    puts("ready");
    fflush(stdout);
    for (;;) {
        for (int i = 0; i < TAKEN; i++) {
            struct msghdr *h = &messages[i].msg_hdr;
            parts[i] = (struct iovec){data[i], SLOT};
            *h = (struct msghdr){&names[i], sizeof names[i], &parts[i], 1, control[i], CONTROL, 0};
        }
        int count = recvmmsg(fd, messages, TAKEN, MSG_WAITFORONE, NULL);
        if (count < 0)
            return perror("recvmmsg"), 1;
        for (int i = 0; i < count; i++) {
            struct msghdr *h = &messages[i].msg_hdr;
            for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c))
                if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMPNS) {
                    struct timespec t;
                    memcpy(&t, CMSG_DATA(c), sizeof t);
                    long long at = t.tv_sec * 1000000000LL + t.tv_nsec;
                    double step = last ? (double)(at - last) : 0;
                    jitter += ((step < 0 ? -step : step) - jitter) / 16;
                    last = at;
                }
            unsigned number;
            memcpy(&number, data[i], 4);
            number = ntohl(number);
            if (number > expected)
                lost += number - expected;
            expected = number + 1;
        }
    }
}

static int by_size(const void *a, const void *b)
{
    long long x = *(const long long *)a, y = *(const long long *)b;
    return (x > y) - (x < y);
}

static void put(unsigned char *at, unsigned long long value, int size)
{
    while (size--) {
        at[size] = value & 255;
        value >>= 8;
    }
}

/* A request of 64 bytes: model/probe.py, or the header of sockperf (sequence number, flags
 * "from a client" and "answer wanted", length). Returns where the sequence number is. */
static int request(unsigned char *data, const char *kind)
{
    memset(data, 'x', 64);
    if (!strcmp(kind, "probe")) {
        memcpy(data, "mcst\1\1\1", 8);
        put(data + 8, getpid(), 8);
        return 16;
    }
    if (!strcmp(kind, "sockperf")) {
        put(data + 8, 3, 2);
        put(data + 10, 64, 4);
    }
    return 0;
}

static int ask_all(int fd, const char *address, struct sockaddr_in *to, const char *kind, int number)
{
    unsigned char data[64], said[2048];
    struct sockaddr_in own = {.sin_family = AF_INET};
    struct timeval patience = {.tv_usec = 200000};
    long long *trips = calloc(number, sizeof *trips);
    int at = request(data, kind), answered = 0;
    inet_aton(address, &own.sin_addr);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (bind(fd, (struct sockaddr *)&own, sizeof own))
        return perror("bind"), 1;
    for (int i = 0; i < number; i++) {
        put(data + at, i, 8);
        if (at)
            put(data + 24, now_ns(CLOCK_REALTIME), 8);
        long long began = now_ns(CLOCK_MONOTONIC);
        if (sendto(fd, data, sizeof data, 0, (struct sockaddr *)to, sizeof *to) < 0)
            return perror("sendto"), 1;
        ssize_t size;
        do /* one that came after its time was up is not the answer to this one */
            size = recv(fd, said, sizeof said, 0);
        while (size >= at + 8 && memcmp(said + at, data + at, 8));
        if (size >= 0)
            trips[answered++] = now_ns(CLOCK_MONOTONIC) - began;
    }
    qsort(trips, answered, sizeof *trips, by_size);
    if (!answered)
        return fputs("no answer\n", stderr), 1;
    printf("%lld %lld %d\n", trips[answered / 2], trips[answered * 99LL / 100], number - answered);
    return 0;
}

int main(int argc, char **argv)
{
    struct sockaddr_in to;
    if (argc >= 5) {
        int fd = udp(argv[2], argv[3], argv[4], &to);
        if (!strcmp(argv[1], "send") && argc == 7)
            return send_all(fd, &to, atoi(argv[5]), atof(argv[6]));
        if (!strcmp(argv[1], "receive"))
            return receive_all(fd, argv[2], &to);
        if (!strcmp(argv[1], "ask") && argc == 7)
            return ask_all(fd, argv[2], &to, argv[5], atoi(argv[6]));
    }
    fputs("limit send ADDRESS GROUP PORT SIZE SECONDS | receive ADDRESS GROUP PORT"
          " | ask ADDRESS GROUP PORT KIND NUMBER\n",
          stderr);
    return 2;
}
