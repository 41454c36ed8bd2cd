package object

import (
	"regexp"
	"slices"
	"strings"
)

// What Linux and registries know by name: a slip shows here and not when the
// first container does not start.

// imageReference is the grammar of image names: [host[:port]/]path[:tag][@digest].
var imageReference = regexp.MustCompile(`^(?:(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?/)?` +
	`[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*)*` +
	`(?::[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127})?(?:@[a-zA-Z][a-zA-Z0-9]*(?:[-_+.][a-zA-Z][a-zA-Z0-9]*)*:[0-9a-fA-F]{32,})?$`)

// ordinaryImage reports whether a text is surely an imageReference: names of lower-case
// letters and digits with single dots and hyphens inside, a tag or none. It is what
// nearly all images are, at a tenth of what the regular expression takes.
func ordinaryImage(s string) bool {
	path, tag, tagged := strings.Cut(s, ":")
	if tagged && (tag == "" || len(tag) > 128 || !within(alnum+"__", tag[0])) {
		return false
	}
	for i := range len(tag) {
		if !within(alnum+"__..--", tag[i]) {
			return false
		}
	}
	inside := false // a name, where it may end
	for i := range len(path) {
		switch c := path[i]; {
		case within(lower, c):
			inside = true
		case inside && (c == '.' || c == '-' || c == '/'):
			inside = false
		default:
			return false
		}
	}
	return inside
}

// containerUser is uid or name, and the group behind a colon.
var containerUser = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9_.-]*(?::[a-zA-Z0-9_][a-zA-Z0-9_.-]*)?$`)

var realTimeSignal = regexp.MustCompile(`^SIGRT(?:MIN(?:\+[0-9]{1,2})?|MAX(?:-[0-9]{1,2})?)$`)

var signals = []string{
	"SIGABRT", "SIGALRM", "SIGBUS", "SIGCHLD", "SIGCONT", "SIGFPE", "SIGHUP", "SIGILL", "SIGINT", "SIGIO", "SIGKILL", "SIGPIPE", "SIGPROF", "SIGPWR", "SIGQUIT", "SIGSEGV",
	"SIGSTKFLT", "SIGSTOP", "SIGSYS", "SIGTERM", "SIGTRAP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGUSR1", "SIGUSR2", "SIGVTALRM", "SIGWINCH", "SIGXCPU", "SIGXFSZ",
}

var capabilities = []string{
	"ALL", "AUDIT_CONTROL", "AUDIT_READ", "AUDIT_WRITE", "BLOCK_SUSPEND", "BPF", "CHECKPOINT_RESTORE", "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "IPC_LOCK", "IPC_OWNER",
	"KILL", "LEASE", "LINUX_IMMUTABLE", "MAC_ADMIN", "MAC_OVERRIDE", "MKNOD", "NET_ADMIN", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_RAW", "PERFMON", "SETFCAP", "SETGID", "SETPCAP", "SETUID",
	"SYS_ADMIN", "SYS_BOOT", "SYS_CHROOT", "SYS_MODULE", "SYS_NICE", "SYS_PACCT", "SYS_PTRACE", "SYS_RAWIO", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "SYSLOG", "WAKE_ALARM",
}

func (x *Container) checkNames(c *checker, at *step) {
	if x.Image != "" && !ordinaryImage(x.Image) && !imageReference.MatchString(x.Image) {
		c.fail(at.to("image"), "Wrong image", "%q is not an image reference such as \"registry.example/shop/web:1.2\"; names are in lower case, with one tag.", x.Image)
	}
	if x.User != "" && !containerUser.MatchString(x.User) {
		c.fail(at.to("user"), "Wrong user", "%q is not a user; write a uid, uid:gid, or a name that the image knows.", x.User)
	}
	for _, f := range []struct{ name, signal, such string }{{"stop_signal", x.StopSignal, "SIGTERM"}, {"reload_signal", x.ReloadSignal, "SIGHUP"}} {
		if s := f.signal; s != "" && !slices.Contains(signals, s) && !realTimeSignal.MatchString(s) {
			hint := DidYouMean(s, signals)
			if long := "SIG" + strings.ToUpper(s); slices.Contains(signals, long) {
				hint = "Write \"" + long + "\"."
			}
			c.fail(at.to(f.name), "Wrong signal", "%q is not a signal such as %q.%s", s, f.such, spaced(hint))
		}
	}
	for _, list := range []struct {
		name string
		of   []string
	}{{"add", x.Caps.Add}, {"drop", x.Caps.Drop}} {
		for _, k := range list.of {
			if slices.Contains(capabilities, k) {
				continue
			}
			hint := DidYouMean(k, capabilities)
			if plain := strings.TrimPrefix(strings.ToUpper(k), "CAP_"); slices.Contains(capabilities, plain) {
				hint = "Write \"" + plain + "\"."
			}
			c.fail(at.to("capabilities").to(list.name), "Wrong capability", "%q is not a capability; they are written in capitals without CAP_, such as \"NET_ADMIN\".%s", k, spaced(hint))
		}
	}
}

// spaced puts a hint behind a sentence.
func spaced(hint string) string {
	if hint == "" {
		return ""
	}
	return " " + hint
}
