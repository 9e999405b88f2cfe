/* The program behind the connection server: greets and ends, as fast as a program can. */
#include <unistd.h>

int main(void)
{
    return write(1, "220 hello\r\n", 11) == 11 ? 0 : 1;
}
