package runtime

import (
	"syscall"
	"testing"
)

func TestParseSignal(t *testing.T) {
	for text, want := range map[string]syscall.Signal{
		"SIGTERM": syscall.SIGTERM, "quit": syscall.SIGQUIT, "9": syscall.SIGKILL,
		"SIGRTMIN": 34, "SIGRTMIN+3": 37, "RTMAX": 64, "SIGRTMAX-14": 50,
		"": 0, "SIGFOO": 0, "65": 0, "SIGRTMIN+31": 0, "SIGRTMIN3": 0, "SIGRTMAX+1": 0, "SIGRTMIN+-1": 0,
	} {
		if got, err := parseSignal(text); got != want || (err != nil) != (want == 0) {
			t.Errorf("%q is %d, %v; want %d", text, got, err, want)
		}
	}
}

// An image with a stop signal that is none is stopped all the same: once every stop
// of its containers failed, for as long as they lived.
func TestStopSignal(t *testing.T) {
	for _, x := range []struct {
		given, image string
		want         syscall.Signal
		fails        bool
	}{
		{"", "", syscall.SIGTERM, false},
		{"", "SIGQUIT", syscall.SIGQUIT, false},
		{"SIGUSR1", "SIGQUIT", syscall.SIGUSR1, false},
		{"", "graceful", syscall.SIGTERM, true},
		{"SIGINT", "graceful", syscall.SIGINT, false},
	} {
		if got, err := stopSignal(x.given, x.image); got != x.want || (err != nil) != x.fails {
			t.Errorf("%q %q: %v %v", x.given, x.image, got, err)
		}
	}
}
