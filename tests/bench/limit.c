/* What the kernel allows: the cheapest multicast sender and receiver that C can make.
 *
 *   limit send ADDRESS GROUP PORT SIZE SECONDS      sendmmsg(2), 64 numbered datagrams a call
 *   limit receive ADDRESS GROUP PORT                recvmmsg(2), packet info and time stamps,
 *                                                   counting gaps and jitter, until SIGTERM
 * ADDRESS is that of the interface. The sender prints datagrams and seconds. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

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
    int one = 1, space = 4 << 20;
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

int main(int argc, char **argv)
{
    struct sockaddr_in to;
    if (argc >= 5) {
        int fd = udp(argv[2], argv[3], argv[4], &to);
        if (!strcmp(argv[1], "send") && argc == 7)
            return send_all(fd, &to, atoi(argv[5]), atof(argv[6]));
        if (!strcmp(argv[1], "receive"))
            return receive_all(fd, argv[2], &to);
    }
    fputs("limit send ADDRESS GROUP PORT SIZE SECONDS | receive ADDRESS GROUP PORT\n", stderr);
    return 2;
}
