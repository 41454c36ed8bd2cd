// Program is what runs in the containers of the conformance suite: one static
// binary whose first argument says what to do.
package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	args := os.Args[1:]
	if len(args) == 0 {
		args = []string{"wait"}
	}
	switch args[0] {
	case "wait": // until SIGTERM, which is exit 0; other signals are named
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGHUP)
		fmt.Println("ready")
		fmt.Println("got", <-c)
	case "stubborn": // nothing but a kill ends it
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("ready")
		for {
			time.Sleep(time.Hour)
		}
	case "exit":
		n, _ := strconv.Atoi(args[1])
		os.Exit(n)
	case "say":
		fmt.Println(strings.Join(args[1:], " "))
	case "both":
		fmt.Println("to stdout")
		fmt.Fprintln(os.Stderr, "to stderr")
	case "raw": // without a newline at the end
		fmt.Print(args[1])
	case "count": // n lines, then wait if told so
		n, _ := strconv.Atoi(args[1])
		w := bufio.NewWriter(os.Stdout)
		for i := range n {
			fmt.Fprintf(w, "line %d\n", i)
		}
		w.Flush()
		if len(args) > 2 {
			time.Sleep(time.Hour)
		}
	case "tick": // a line each millisecond, for ever
		for i := 0; ; i++ {
			fmt.Println("tick", i)
			time.Sleep(time.Millisecond)
		}
	case "eat": // memory without end
		var held [][]byte
		for {
			b := make([]byte, 4<<20)
			for i := range b {
				b[i] = 1
			}
			held = append(held, b)
			_ = held
		}
	case "env":
		fmt.Println(os.Getenv(args[1]))
	case "id":
		groups, _ := os.Getgroups()
		fmt.Println(os.Getuid(), os.Getgid(), groups)
	case "cwd":
		d, _ := os.Getwd()
		fmt.Println(d)
	case "hostname":
		h, _ := os.Hostname()
		fmt.Println(h)
	case "read":
		b, err := os.ReadFile(args[1])
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Stdout.Write(b)
	case "write":
		if err := os.WriteFile(args[1], []byte(args[2]), 0o644); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	case "status": // a field of /proc/self/status
		b, _ := os.ReadFile("/proc/self/status")
		for l := range strings.Lines(string(b)) {
			if v, ok := strings.CutPrefix(l, args[1]+":"); ok {
				fmt.Println(strings.TrimSpace(v))
			}
		}
	case "unshare": // what the seccomp filter forbids: unshare a user namespace
		if err := syscall.Unshare(syscall.CLONE_NEWUSER); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	case "threads": // as many as one can
		for i := range 100 {
			if _, err := os.StartProcess("/program", []string{"/program", "stubborn"}, &os.ProcAttr{}); err != nil {
				fmt.Println("failed at", i)
				os.Exit(3)
			}
		}
	case "listen":
		l, err := net.Listen("tcp", args[1])
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("ready")
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(c, "hello")
			c.Close()
		}
	case "dial":
		c, err := net.Dial("tcp", args[1])
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		s, _ := bufio.NewReader(c).ReadString('\n')
		fmt.Print(s)
	}
}
