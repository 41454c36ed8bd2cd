package runtime

import (
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/pkg/cap"
	"golang.org/x/sys/unix"
)

// limits is what this process may give to containers. A container cannot get
// more, so wishes are cut down to it and the cut is noted.
type limits struct {
	caps      []string // CAP_…, that this process could pass on
	openFiles uint64
	oomScore  int  // containers cannot have a lower one
	swap      bool // there is swap, so memory limits must cover it
}

const wantOpenFiles = 1 << 20

func detectLimits() limits {
	l := limits{openFiles: wantOpenFiles, oomScore: -1000}
	l.caps, _ = cap.Current()
	var rl unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &rl); err == nil && !slices.Contains(l.caps, "CAP_SYS_RESOURCE") {
		l.openFiles = min(wantOpenFiles, rl.Max)
	}
	if !slices.Contains(l.caps, "CAP_SYS_RESOURCE") {
		b, _ := os.ReadFile("/proc/self/oom_score_adj")
		l.oomScore, _ = strconv.Atoi(strings.TrimSpace(string(b)))
	}
	b, _ := os.ReadFile("/proc/swaps")
	l.swap = strings.Count(string(b), "\n") > 1
	return l
}

// memoryBytes is the machine's memory.
func memoryBytes() int64 {
	var s unix.Sysinfo_t
	if unix.Sysinfo(&s) != nil {
		return 0
	}
	return int64(s.Totalram) * int64(s.Unit)
}
