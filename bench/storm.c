/* storm ADDRESS PORT CLIENTS COUNT [quit]: CLIENTS at once, COUNT connections in all, each read to its end; with
   `quit` each says QUIT after the greeting.  Prints the seconds it took and how many connections were greeted. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static struct sockaddr_in peer;
static int poller, quits;
static long started, wanted, greeted, ended;

static void start(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct epoll_event event = { .events = EPOLLIN, .data.u64 = (unsigned long long)fd };
    started++;
    if (fd < 0 || (connect(fd, (struct sockaddr *)&peer, sizeof peer) < 0 && errno != EINPROGRESS)) exit(2);
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0) exit(2);
}

int main(int argc, char **argv)
{
    static struct epoll_event events[256];
    static char seen[1 << 20];
    struct timespec from, to;
    char text[4096];
    if (argc < 5) return 100;
    quits = argc > 5;
    peer.sin_family = AF_INET;
    peer.sin_port = htons(atoi(argv[2]));
    inet_pton(AF_INET, argv[1], &peer.sin_addr);
    wanted = atol(argv[4]);
    poller = epoll_create1(0);
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (int i = 0; i < atoi(argv[3]) && started < wanted; i++) start();
    while (ended < wanted) {
        int ready = epoll_wait(poller, events, 256, 30000);
        if (ready <= 0) return 3;
        for (int i = 0; i < ready; i++) {
            int fd = (int)events[i].data.u64;
            long got = read(fd, text, sizeof text);
            if (got > 0) {
                if (!seen[fd]) {
                    seen[fd] = 1;
                    greeted++;
                    if (quits && write(fd, "QUIT\r\n", 6) != 6) return 4;
                }
                continue;
            }
            if (got < 0 && errno == EAGAIN) continue;
            seen[fd] = 0;
            close(fd);
            ended++;
            if (started < wanted) start();
        }
    }
    clock_gettime(CLOCK_MONOTONIC, &to);
    printf("%.6f %ld\n", to.tv_sec - from.tv_sec + (to.tv_nsec - from.tv_nsec) / 1e9, greeted);
    return 0;
}
